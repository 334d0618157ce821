/* SPDX-License-Identifier: Apache-2.0 */
/* test-control.c - the control socket's clients, of every kind: what they are answered, how long
 * they are waited for, what becomes of them where it is hard.  That of the socket itself is for
 * test-control_socket.c. */
#include "tests/unit/controllib.h"

/* ---- answers ---- */

static json_t *ask_json(const char *request)
{
	const char *text = ask(request);
	json_t *reply = json_loads(text, 0, NULL);

	if (!reply || text[strlen(text) - 1] != '\n' || strchr(text, '\n')[1] != '\0')
		fail_msg("no line of JSON: %s", text);
	return reply;
}

static const char *text_in(const json_t *reply, const char *name)
{
	return json_string_value(json_object_get(reply, name));
}

static void status_says_what_is_served(void **state)
{
	char text[128];
	json_t *r;

	start();
	r = ask_json("{\"command\": \"status\"}\n");
	assert_true(json_is_true(json_object_get(r, "ok")));
	assert_string_equal(text_in(r, "version"), PROJECT_VERSION);
	assert_int_equal(json_integer_value(json_object_get(r, "pid")), getpid());
	snprintf(text, sizeof text, "%s/d.yaml", folder);
	assert_string_equal(text_in(r, "config"), text);
	assert_int_equal(json_integer_value(json_object_get(r, "size")), 1 << 20);
	assert_true(json_is_true(json_object_get(r, "writable")));
	assert_int_equal(json_array_size(json_object_get(r, "layers")), 0); /* the upper is none */
	snprintf(text, sizeof text, "%s/u.data", folder);
	assert_string_equal(text_in(json_object_get(r, "upper"), "data"), text);
	snprintf(text, sizeof text, "%s/u.index", folder);
	assert_string_equal(text_in(json_object_get(r, "upper"), "index"), text);
	json_decref(r);
	control_close(control);
}

/* Of a disk that nobody writes to. */
static void status_of_layers_alone(void **state)
{
	char text[1024], layer[512];
	json_t *r, *layers;
	size_t i;

	disk_close(disk);
	snprintf(text, sizeof text,
		 "lowers: [{file: '%s/raw-5/layer0.obd'}, {file: '%s/raw-5/layer1.obd'}]\n",
		 getenv("GOLDEN"), getenv("GOLDEN"));
	open_disk(text);
	start();
	r = ask_json("{\"command\": \"status\"}\n");
	assert_true(json_is_true(json_object_get(r, "ok")));
	assert_true(json_is_false(json_object_get(r, "writable")));
	assert_true(json_is_null(json_object_get(r, "upper")));
	layers = json_object_get(r, "layers");
	assert_int_equal(json_array_size(layers), 2);
	for (i = 0; i < 2; i++) {
		snprintf(layer, sizeof layer, "%s/raw-5/layer%zu.obd", getenv("GOLDEN"), i);
		assert_string_equal(json_string_value(json_array_get(layers, i)), layer);
	}
	json_decref(r);
	control_close(control);
}

static void stats_are_those_of_the_disk(void **state)
{
	json_t *r, *images;

	start();
	r = ask_json("{\"command\":\"stats\"}\n{\"command\":\"none\"}\n"); /* one line counts */
	assert_true(json_is_true(json_object_get(r, "ok")));
	images = json_object_get(json_object_get(r, "stats"), "images");
	assert_int_equal(json_array_size(images), 1);
	json_decref(r);
	stats_fail = true;
	expect("{\"command\":\"stats\"}\n", NO("no \\\"memory\\\""));
	control_close(control);
}

static void a_snapshot_is_made(void **state)
{
	char request[256], layer[128];
	struct stat st;
	json_t *r;

	start();
	snprintf(layer, sizeof layer, "%s/one.obd", folder);
	snprintf(request, sizeof request, "{\"command\":\"snapshot\",\"layer\":\"%s\"}\n", layer);
	assert_int_equal(image_pwrite(disk->image, "x", 1, 0, 0, NULL), 0);
	r = ask_json(request);
	assert_true(json_is_true(json_object_get(r, "ok")));
	assert_string_equal(text_in(r, "layer"), layer);
	assert_non_null(text_in(json_object_get(r, "upper"), "data"));
	assert_true(json_is_integer(json_object_get(r, "blocked-ms")));
	assert_int_equal(stat(layer, &st), 0);
	json_decref(r);
	r = ask_json(request); /* the name is taken */
	assert_true(json_is_false(json_object_get(r, "ok")));
	assert_non_null(strstr(text_in(r, "error"), "File exists"));
	json_decref(r);
	r = ask_json("{\"command\":\"status\"}\n");
	assert_int_equal(json_array_size(json_object_get(r, "layers")), 1);
	assert_string_equal(json_string_value(json_array_get(json_object_get(r, "layers"), 0)),
			    layer);
	json_decref(r);
	control_close(control);
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[1024];

static void keep_debug(enum log_level level, const char *line)
{
	pthread_mutex_lock(&log_lock);
	if (level == LOG_DEBUG && strstr(line, "snapshot"))
		snprintf(logged, sizeof logged, "%s", line);
	pthread_mutex_unlock(&log_lock);
}

static void a_snapshot_is_logged(void **state)
{
	char expected[256];

	log_set_sink(keep_debug);
	start();
	snapshot_waits = true;
	sem_post(&snapshot_may_end);
	assert_non_null(
		strstr(ask("{\"command\":\"snapshot\",\"layer\":\"/l\"}\n"), "\"blocked-ms\":7}"));
	snprintf(expected, sizeof expected, "%s/d.yaml: snapshot /l: writers waited 7 ms", folder);
	pthread_mutex_lock(&log_lock);
	assert_string_equal(logged, expected);
	pthread_mutex_unlock(&log_lock);
	control_close(control);
}

static void bad_requests_are_told_what_a_good_one_is(void **state)
{
	start();
	expect("\n", NO_REQUEST);
	expect("status\n", NO_REQUEST);
	expect("{\"command\"\n", NO_REQUEST);
	expect("[]\n", NO_REQUEST);
	expect("{\"command\":1}\n", NO_REQUEST);
	expect("{\"command\":\"status\",\"command\":\"stats\"}\n", NO_REQUEST);
	expect("{\"command\":\"statu\"}\n", NO_COMMAND);
	expect("{\"command\":\"statuss\"}\n", NO_COMMAND);
	expect("{\"command\":\"\"}\n", NO_COMMAND);
	expect("{\"command\":\"snapshot\"}\n", NO("'snapshot' needs a text 'layer'"));
	expect("{\"command\":\"snapshot\",\"layer\":3}\n", NO("'snapshot' needs a text 'layer'"));
	control_close(control);
}

/* JSON holds UTF-8, paths any bytes. */
static void a_path_that_is_not_utf8_is_shown_as_far_as_it_goes(void **state)
{
	char *config = disk->config->path;
	json_t *r;

	disk->config->path = strdup("/img/a\xff\x80z\x7f.yaml");
	start();
	r = ask_json("{\"command\":\"status\"}\n");
	assert_string_equal(text_in(r, "config"), "/img/a??z\x7f.yaml");
	json_decref(r);
	control_close(control);
	free(disk->config->path);
	disk->config->path = config;
}

static bool is_json(const char *text)
{
	json_t *value = json_loads(text, 0, NULL);

	json_decref(value);
	return value;
}

/* Every allocation of jansson's for a request and its answer fails once: the answer is the whole
 * one, none, or that the request is none; never half of one or another command's.  What is no JSON,
 * since jansson's own dump then leaves out a key, misleads nobody. */
static void answers_run_out_of_memory(void **state)
{
	static const char *const requests[] = {
		"{\"command\":\"status\"}\n",
		"{\"command\":\"snapshot\",\"layer\":\"/l\"}\n",
		"{\"command\":\"x\"}\n",
	};
	char layer[256], whole[4096];
	size_t i;
	int k;

	snprintf(layer, sizeof layer, "{\"command\":\"snapshot\",\"layer\":\"%s/l.obd\"}\n",
		 folder);
	start();
	assert_non_null(strstr(ask(layer), "\"ok\":true")); /* a layer for the status */
	snapshot_waits = true;
	for (i = 0; i < COUNT_OF(requests); i++) {
		unsigned none = 0;
		bool done = false;

		sem_post(&snapshot_may_end);
		snprintf(whole, sizeof whole, "%s", ask(requests[i]));
		for (k = 0; !done; k++) {
			const char *answer;

			(void)sem_trywait(&snapshot_may_end); /* unless it was taken */
			sem_post(&snapshot_may_end);
			json_left = k;
			answer = ask(requests[i]);
			done = atomic_exchange(&json_left, -1) >= 0;
			none += answer[0] == '\0';
			if (strcmp(answer, whole) != 0 && strcmp(answer, NO_REQUEST) != 0 &&
			    is_json(answer))
				fail_msg("%s, allocation %d: %s", requests[i], k, answer);
			assert_true(!done || strcmp(answer, whole) == 0);
		}
		assert_true(none > 3);
	}
	control_close(control);
}

/* Without memory for a line, or for the client itself, it is hung up on, and not counted. */
static void a_client_without_memory_is_hung_up_on(void **state)
{
	static const size_t sizes[] = { 64 * 1024, 2 * sizeof(void *) };
	size_t i, k;

	start();
	for (i = 0; i < COUNT_OF(sizes); i++)
		for (k = 0; k < (i == 0 ? 1 : 10); k++) {
			refused_size = sizes[i];
			assert_string_equal(hear(connect_to(path)), "");
			assert_int_equal(refused_size, 0);
		}
	expect("{\"command\":\"x\"}\n", NO_COMMAND);
	control_close(control);
}

/* ---- slow clients, and the end ---- */

static void answers_come_whole_in_whatever_pieces(void **state)
{
	char request[4096];
	json_t *r;
	size_t n;

	start();
	is_slow = true;
	n = (size_t)snprintf(request, sizeof request, "{\"command\":\"status\",\"x\":\"");
	memset(request + n, 'x', 1000);
	strcpy(request + n + 1000, "\"}\n");
	r = ask_json(request);
	assert_true(json_is_true(json_object_get(r, "ok")));
	json_decref(r);
	control_close(control);
}

/* A request may have 65,536 bytes with its line break. */
static void a_request_has_an_end(void **state)
{
	enum { MAX = 64 * 1024 };
	char *request = malloc(MAX + 1);
	int fd;

	start();
	memset(request, ' ', MAX + 1);
	memcpy(request, "{\"command\":\"x\"}", 15);
	request[MAX - 1] = '\n';
	fd = connect_to(path);
	say(fd, request, MAX);
	assert_string_equal(hear(fd), NO_COMMAND);
	request[MAX - 1] = ' ';
	request[MAX] = '\n';
	fd = connect_to(path);
	say(fd, request, MAX + 1);
	assert_string_equal(hear(fd), "");
	fd = connect_to(path); /* who goes without a word is no one */
	say_text(fd, "{\"command\"");
	shutdown(fd, SHUT_WR);
	assert_string_equal(hear(fd), "");
	free(request);
	control_close(control);
}

static void a_client_that_takes_nothing_is_let_go(void **state)
{
	start();
	send_failure = EPIPE;
	expect("{\"command\":\"status\"}\n", "");
	send_failure = 0;
	expect("{\"command\":\"x\"}\n", NO_COMMAND);
	control_close(control);
}

/* A client is waited for 10 s, whatever it says meanwhile. */
static void silence_ends_after_ten_seconds(void **state)
{
	int fd;

	stop_time();
	start();
	fd = connect_to(path);
	sem_wait(&polled);
	assert_int_equal(patience, 10000);
	skipped = 9999 * 1000;
	say_text(fd, "{\"command\":");
	sem_wait(&polled);
	assert_int_equal(patience, 1);
	say_text(fd, "\"x\"}\n");
	assert_string_equal(hear(fd), NO_COMMAND);
	sem_wait(&polled); /* for the answer, which has 10 s of its own */
	assert_int_equal(patience, 10000);
	skipped = 0;
	fd = connect_to(path);
	sem_wait(&polled);
	skipped = 10000 * 1000;
	say_text(fd, "{"); /* wakes its thread: its last word */
	assert_string_equal(hear(fd), "");
	control_close(control);
}

static void an_answer_that_is_not_taken_ends_after_ten_seconds(void **state)
{
	int fd;

	stop_time();
	start();
	send_failure = EAGAIN;
	fd = connect_to(path);
	sem_wait(&polled);
	say_text(fd, "{\"command\":\"x\"}\n");
	sem_wait(&polled);
	sem_wait(&polled);
	skipped = 10000 * 1000;
	assert_string_equal(hear(fd), "");
	control_close(control);
}

/* What waiting for a client may come to. */
static void a_wait_that_fails_ends_the_client(void **state)
{
	static const struct {
		int code; /* negative: it timed out, and errno is of what came before */
		unsigned polls;
		const char *answer;
	} rows[] = {
		{ EINTR, 3, NO_COMMAND },
		{ EINVAL, 1, "" },
		{ -EINTR, 1, "" },
	};
	size_t i;
	int fd;

	stop_time();
	for (i = 0; i < COUNT_OF(rows); i++) {
		assert_int_equal(control_open(path, disk, &control, NULL), 0);
		polls = 0;
		client_poll = rows[i].code;
		fd = connect_to(path);
		say_text(fd, "{\"command\":\"x\"}\n");
		assert_int_equal(control_start(control, NULL), 0);
		assert_string_equal(hear(fd), rows[i].answer);
		assert_int_equal(polls, rows[i].polls);
		control_close(control);
	}
}

/* No word of it may come later, so that nothing is waited for. */
static void who_has_hung_up_is_let_go_at_once(void **state)
{
	static const int failures[] = { 0, ECONNRESET };
	size_t i;
	int fd, slow;

	stop_time();
	start();
	for (slow = 0; slow < 2; slow++)
		for (i = 0; i < COUNT_OF(failures); i++) {
			is_slow = slow;
			recv_failure = failures[i];
			fd = connect_to(path);
			say_text(fd, "{\"command\"");
			shutdown(fd, SHUT_WR);
			assert_string_equal(hear(fd), "");
		}
	recv_failure = 0;
	is_slow = false;
	control_close(control);
}

/* One that is too long is not waited for: its end would be no end. */
static void a_line_without_end_is_not_waited_for(void **state)
{
	enum { MAX = 64 * 1024 };
	char *request = malloc(MAX);
	int fd;

	stop_time();
	memset(request, ' ', MAX);
	assert_int_equal(control_open(path, disk, &control, NULL), 0);
	fd = connect_to(path);
	say(fd, request, MAX);
	assert_int_equal(control_start(control, NULL), 0);
	assert_string_equal(hear(fd), "");
	assert_int_equal(waits, 0);
	free(request);
	control_close(control);
}

enum { CLIENTS = 8 };

static void so_many_are_served_at_a_time(void **state)
{
	int fds[CLIENTS], i;

	start();
	for (i = 0; i < CLIENTS; i++) {
		fds[i] = connect_to(path);
		assert_true(fds[i] >= 0);
	}
	assert_string_equal(ask(""), "{\"ok\":false,\"error\":\"too many clients\"}\n");
	for (i = 0; i < CLIENTS; i++) {
		say_text(fds[i], "{\"command\":\"x\"}\n");
		assert_string_equal(hear(fds[i]), NO_COMMAND);
	}
	/* Their threads end soon after they have closed. */
	while (strcmp(ask("{\"command\":\"x\"}\n"), NO_COMMAND) != 0)
		;
	control_close(control);
}

static void a_client_without_a_thread_is_hung_up_on(void **state)
{
	int i;

	start();
	for (i = 0; i < 2 * CLIENTS; i++) {
		thread_failures = 1;
		assert_string_equal(hear(connect_to(path)), "");
	}
	expect("{\"command\":\"x\"}\n", NO_COMMAND); /* none of them is counted */
	control_close(control);
}

/* One client is counted out while another one's thread could not begin: nothing but the lock orders
 * that, which TSan looks at. */
static void clients_are_counted_under_the_lock(void **state)
{
	int fd;

	start();
	snapshot_waits = is_unordered = true;
	fd = connect_to(path);
	say_text(fd, "{\"command\":\"snapshot\",\"layer\":\"/l\"}\n");
	sem_wait(&snapshot_begun);
	thread_failures = 1;
	assert_string_equal(hear(connect_to(path)), "");
	atomic_store_explicit(&may_go_on, true, memory_order_relaxed);
	assert_non_null(strstr(hear(fd), "\"blocked-ms\":7"));
	control_close(control);
}

/* Whatever accepting comes to, the next client is accepted; only what would fail again at once, as
 * without descriptors, is not tried again at once. */
static void accepting_goes_on(void **state)
{
	static const struct {
		int accept, poll; /* what fails, and negative: gives nothing */
		unsigned pauses;
	} rows[] = {
		{ 0, 0, 0 },	  { EINTR, 0, 0 },  { ECONNABORTED, 0, 0 }, { EMFILE, 0, 1 },
		{ ENFILE, 0, 1 }, { EAGAIN, 0, 1 }, { 0, EINTR, 0 },	    { 0, -EBADF, 0 },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		pauses = 0;
		accept_failure = rows[i].accept;
		accepter_poll = rows[i].poll;
		start();
		expect("{\"command\":\"x\"}\n", NO_COMMAND);
		assert_int_equal(accept_failure, 0);
		assert_int_equal(accepter_poll, 0);
		if (pauses != rows[i].pauses)
			fail_msg("row %zu: %u pauses", i, pauses);
		control_close(control);
	}
	/* One that cannot wait does not try for ever. */
	accepter_poll = EINVAL;
	start();
	control_close(control);
	assert_int_equal(pauses, 0);
}

/* 0 is a descriptor as good as any. */
static void a_client_may_be_descriptor_zero(void **state)
{
	int saved = dup(STDIN_FILENO);

	start();
	accepts_zero = true;
	expect("{\"command\":\"x\"}\n", NO_COMMAND);
	assert_int_equal(pauses, 0);
	control_close(control);
	assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
	dup2(saved, STDIN_FILENO);
	close(saved);
}

static void *close_control(void *arg)
{
	control_close(control);
	return NULL;
}

/* What is being answered is answered, however long that takes; who is silent is not waited for. */
static void the_end_waits_for_answers(void **state)
{
	int silent, fd;
	pthread_t closer;
	struct stat st;

	stop_time(); /* no patience ends */
	start();
	snapshot_waits = true;
	silent = connect_to(path);
	fd = connect_to(path);
	say_text(fd, "{\"command\":\"snapshot\",\"layer\":\"/l\"}\n");
	sem_wait(&snapshot_begun);
	assert_int_equal(pthread_create(&closer, NULL, close_control, NULL), 0);
	assert_string_equal(hear(silent), "");
	sem_wait(&waits_for_client);
	assert_int_equal(stat(path, &st), -1); /* nobody comes any more */
	sem_post(&snapshot_may_end);
	assert_non_null(strstr(hear(fd), "\"blocked-ms\":7"));
	pthread_join(closer, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(status_says_what_is_served),
		TEST(status_of_layers_alone),
		TEST(stats_are_those_of_the_disk),
		TEST(a_snapshot_is_made),
		TEST(a_snapshot_is_logged),
		TEST(bad_requests_are_told_what_a_good_one_is),
		TEST(a_path_that_is_not_utf8_is_shown_as_far_as_it_goes),
		TEST(answers_run_out_of_memory),
		TEST(a_client_without_memory_is_hung_up_on),
		TEST(answers_come_whole_in_whatever_pieces),
		TEST(a_request_has_an_end),
		TEST(a_client_that_takes_nothing_is_let_go),
		TEST(silence_ends_after_ten_seconds),
		TEST(an_answer_that_is_not_taken_ends_after_ten_seconds),
		TEST(a_wait_that_fails_ends_the_client),
		TEST(who_has_hung_up_is_let_go_at_once),
		TEST(a_line_without_end_is_not_waited_for),
		TEST(so_many_are_served_at_a_time),
		TEST(a_client_without_a_thread_is_hung_up_on),
		TEST(clients_are_counted_under_the_lock),
		TEST(accepting_goes_on),
		TEST(a_client_may_be_descriptor_zero),
		TEST(the_end_waits_for_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
