/* SPDX-License-Identifier: Apache-2.0 */
/* test-control.c - the control socket with real sockets and clients of every kind: what they are
 * answered, how long they are waited for, whose name is taken and removed.
 *
 * Linked with the system calls of a client's thread wrapped, so that they give little, late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/upper_log.h"
#include "nbdkit-plugin/control.h"
#include "nbdkit-plugin/disk.h"
#include "tests/unit/loglib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static char folder[64], path[128];
static struct disk *disk;
static struct control *control;

/* ---- system calls that give little ---- */

static atomic_bool is_slow; /* EAGAIN, EINTR, then a byte, and so on */
static atomic_uint turns;
static atomic_int send_failure; /* errno of each send, 0: none */

ssize_t __real_recv(int fd, void *buf, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *buf, size_t n, int flags)
{
	unsigned turn = is_slow ? atomic_fetch_add(&turns, 1) % 3 : 2;

	if (turn < 2) {
		errno = turn == 0 ? EAGAIN : EINTR;
		return -1;
	}
	return __real_recv(fd, buf, is_slow ? 1 : n, flags);
}

ssize_t __real_send(int fd, const void *buf, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t n, int flags)
{
	unsigned turn = is_slow ? atomic_fetch_add(&turns, 1) % 3 : 2;

	assert_true(flags & MSG_NOSIGNAL);
	if (send_failure || turn < 2) {
		errno = send_failure ? send_failure : turn == 0 ? EAGAIN : EINTR;
		return -1;
	}
	return __real_send(fd, buf, is_slow ? 1 : n, flags);
}

static bool listen_fails;

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog)
{
	if (listen_fails) {
		errno = EADDRINUSE;
		return -1;
	}
	return __real_listen(fd, backlog);
}

static sem_t snapshot_begun, snapshot_may_end;
static bool snapshot_waits;
/* In place of the semaphores, which order the threads' accesses for TSan as a lock would. */
static bool is_unordered;
static atomic_bool may_go_on;

int __real_image_snapshot(struct image *image, const char *layer, uint64_t *blocked, struct err *e);
int __wrap_image_snapshot(struct image *image, const char *layer, uint64_t *blocked, struct err *e);
int __wrap_image_snapshot(struct image *image, const char *layer, uint64_t *blocked, struct err *e)
{
	if (snapshot_waits) {
		sem_post(&snapshot_begun);
		while (is_unordered && !atomic_load_explicit(&may_go_on, memory_order_relaxed))
			sched_yield();
		if (!is_unordered)
			sem_wait(&snapshot_may_end);
		*blocked = 7;
		return 0;
	}
	return __real_image_snapshot(image, layer, blocked, e);
}

static sem_t waits_for_client; /* is posted when somebody does */

int __real_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock)
{
	sem_post(&waits_for_client);
	return __real_pthread_cond_wait(c, lock);
}

static atomic_int thread_failures; /* so many threads are refused from now on */

int __real_pthread_create(pthread_t *out, const pthread_attr_t *attributes,
			  void *(*body)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attributes,
			  void *(*body)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attributes,
			  void *(*body)(void *arg), void *arg)
{
	if (thread_failures > 0) {
		atomic_fetch_sub(&thread_failures, 1);
		return EAGAIN;
	}
	return __real_pthread_create(out, attributes, body, arg);
}

/* ---- time ---- */

static atomic_ullong skipped; /* us that the clock is ahead */
static atomic_bool frozen;

static uint64_t now_us(void)
{
	return frozen ? 1000 * 1000 : clock_system.now_us() + skipped;
}

/* ---- a disk and its socket ---- */

static void write_text(const char *name, const char *text)
{
	char file[128];

	snprintf(file, sizeof file, "%s/%s", folder, name);
	assert_int_equal(io_replace_file(file, text, strlen(text), NULL), 0);
}

static int set_up(void **state)
{
	const struct config_options options = { .service = "none" };
	char data[128], index[128], file[128];
	struct err e;

	snprintf(folder, sizeof folder, "/tmp/test-control.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/control", folder);
	snprintf(data, sizeof data, "%s/u.data", folder);
	snprintf(index, sizeof index, "%s/u.index", folder);
	assert_int_equal(upper_log_create(NULL, data, index, 1 << 20, NULL, NULL, NULL), 0);
	write_text("d.yaml", "upper: {data: u.data, index: u.index}\n");
	snprintf(file, sizeof file, "%s/d.yaml", folder);
	if (disk_open(file, &options, NULL, &disk, &e) < 0)
		fail_msg("%s", e.msg);
	is_slow = false;
	snapshot_waits = is_unordered = may_go_on = false;
	send_failure = thread_failures = 0;
	skipped = 0;
	sem_init(&snapshot_begun, 0, 0);
	sem_init(&snapshot_may_end, 0, 0);
	sem_init(&waits_for_client, 0, 0);
	loglib_listen();
	return 0;
}

static int tear_down(void **state)
{
	char command[128];

	disk_close(disk);
	loglib_expect_none();
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static void start(void)
{
	struct err e;

	if (control_open(path, disk, &control, &e) < 0 || control_start(control, &e) < 0)
		fail_msg("%s", e.msg);
}

/* ---- clients ---- */

static int connect_to(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path, name, strlen(name));
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	close(fd);
	return -errno;
}

static void say(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, text, n);

		assert_true(done > 0);
		text += done;
		n -= (size_t)done;
	}
}

static void say_text(int fd, const char *text)
{
	say(fd, text, strlen(text));
}

/* All that comes until the other side closes; closes too. */
static const char *hear(int fd)
{
	static char text[65536];
	size_t n = 0;
	ssize_t got;

	while ((got = read(fd, text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(fd);
	return text;
}

static const char *ask(const char *request)
{
	int fd = connect_to(path);

	assert_true(fd >= 0);
	say(fd, request, strlen(request));
	return hear(fd);
}

static void expect(const char *request, const char *answer)
{
	const char *got = ask(request);

	if (strcmp(got, answer) != 0)
		fail_msg("%s: %s", request, got);
}

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

/* ---- answers ---- */

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

static void stats_are_those_of_the_disk(void **state)
{
	json_t *r, *images;

	start();
	r = ask_json("{\"command\":\"stats\"}\n{\"command\":\"none\"}\n"); /* one line counts */
	assert_true(json_is_true(json_object_get(r, "ok")));
	images = json_object_get(json_object_get(r, "stats"), "images");
	assert_int_equal(json_array_size(images), 1);
	json_decref(r);
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

#define NO(text) "{\"ok\":false,\"error\":\"" text "\"}\n"
#define NO_REQUEST NO("a request is a line of JSON, {\\\"command\\\": NAME}")
#define NO_COMMAND NO("no such command: there are snapshot, stats and status")

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
	char text[128], *config = disk->config->path;
	json_t *r;

	disk->config->path = strdup("/img/a\xff\x80z.yaml");
	start();
	r = ask_json("{\"command\":\"status\"}\n");
	snprintf(text, sizeof text, "/img/a%cz.yaml", '?');
	assert_string_equal(text_in(r, "config"), "/img/a??z.yaml");
	json_decref(r);
	control_close(control);
	free(disk->config->path);
	disk->config->path = config;
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

static const struct clock_ops *ahead(uint64_t ms)
{
	static struct clock_ops ops;

	ops = clock_system;
	ops.now_us = now_us;
	skipped = ms * 1000;
	return &ops;
}

/* A silent client is waited for 10 s.  The clock is set ahead while its thread waits: the byte that
 * wakes it is its last. */
static void silence_ends_after_ten_seconds(void **state)
{
	int fd;

	clock_use(ahead(0));
	start();
	fd = connect_to(path);
	say_text(fd, "{");
	expect("{\"command\":\"x\"}\n", NO_COMMAND); /* the first is being read by now */
	skipped = 9000 * 1000;
	say_text(fd, "\"");
	expect("{\"command\":\"x\"}\n", NO_COMMAND);
	skipped = 10001 * 1000;
	say_text(fd, "x");
	assert_string_equal(hear(fd), "");
	control_close(control);
	clock_use(NULL);
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

	clock_use(ahead(0));
	frozen = true; /* no patience ends */
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
	frozen = false;
	clock_use(NULL);
}

/* ---- the name ---- */

static void only_the_owner_may_open_it(void **state)
{
	struct stat st;
	mode_t before = umask(0);

	assert_int_equal(control_open(path, disk, &control, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	control_close(control);
	assert_int_equal(stat(path, &st), -1);
	umask(before);
}

/* A client that comes before the threads do is answered when they are there. */
static void it_listens_before_it_answers(void **state)
{
	int fd;

	assert_int_equal(control_open(path, disk, &control, NULL), 0);
	fd = connect_to(path);
	assert_true(fd >= 0);
	say_text(fd, "{\"command\":\"x\"}\n");
	assert_int_equal(control_start(control, NULL), 0);
	assert_string_equal(hear(fd), NO_COMMAND);
	control_close(control);
}

static void a_thread_that_cannot_be_is_told(void **state)
{
	char message[256];
	struct err e;

	assert_int_equal(control_open(path, disk, &control, NULL), 0);
	thread_failures = 1;
	assert_int_equal(control_start(control, &e), -EAGAIN);
	snprintf(message, sizeof message,
		 "control socket %s: starting a thread: Resource temporarily unavailable", path);
	assert_string_equal(e.msg, message);
	control_close(control);
}

static void a_socket_that_cannot_listen_is_told(void **state)
{
	char message[256];
	struct err e;

	listen_fails = true;
	assert_int_equal(control_open(path, disk, &control, &e), -EADDRINUSE);
	listen_fails = false;
	snprintf(message, sizeof message, "control socket %s: Address already in use", path);
	assert_string_equal(e.msg, message);
}

static void a_dead_servers_socket_is_replaced(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(a.sun_path, path, strlen(path));
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd); /* the name stays */
	start();
	expect("{\"command\":\"x\"}\n", NO_COMMAND);
	control_close(control);
}

static void a_living_servers_socket_is_not(void **state)
{
	struct control *second = NULL;
	char message[256];
	struct err e;

	start();
	assert_int_equal(control_open(path, disk, &second, &e), -EBUSY);
	snprintf(message, sizeof message, "control socket %s: another server answers there", path);
	assert_string_equal(e.msg, message);
	expect("{\"command\":\"x\"}\n", NO_COMMAND); /* its name is still there */
	control_close(control);
}

static void other_files_are_left_alone(void **state)
{
	char message[256], place[128];
	struct err e;

	write_text("control", "precious");
	assert_int_equal(control_open(path, disk, &control, &e), -EEXIST);
	snprintf(message, sizeof message, "control socket %s: there is something else of this name",
		 path);
	assert_string_equal(e.msg, message);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(place, sizeof place, "%s/none/control", folder);
	assert_int_equal(control_open(place, disk, &control, &e), -ENOENT);
	snprintf(message, sizeof message, "control socket %s: No such file or directory", place);
	assert_string_equal(e.msg, message);
}

/* At the end the name may be another server's. */
static void only_its_own_name_is_removed(void **state)
{
	start();
	assert_int_equal(unlink(path), 0);
	write_text("control", "precious");
	control_close(control);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);
	start();
	assert_int_equal(unlink(path), 0);
	control_close(control); /* and when there is none, nothing is said */
}

/* 107 bytes, the longest that there is. */
static void a_long_name_is_taken_whole(void **state)
{
	char name[CONFIG_CONTROL_MAX + 1];
	size_t n = strlen(folder);
	struct stat st;
	int fd;

	memcpy(name, folder, n);
	memset(name + n, 'n', sizeof name - n);
	name[n] = '/';
	name[sizeof name - 1] = '\0';
	assert_int_equal(control_open(name, disk, &control, NULL), 0);
	assert_int_equal(stat(name, &st), 0);
	fd = connect_to(name);
	assert_true(fd >= 0);
	close(fd);
	control_close(control);
	assert_int_equal(stat(name, &st), -1);
}

static void nothing_is_closed(void **state)
{
	control_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(status_says_what_is_served),
		TEST(stats_are_those_of_the_disk),
		TEST(a_snapshot_is_made),
		TEST(bad_requests_are_told_what_a_good_one_is),
		TEST(a_path_that_is_not_utf8_is_shown_as_far_as_it_goes),
		TEST(answers_come_whole_in_whatever_pieces),
		TEST(a_request_has_an_end),
		TEST(a_client_that_takes_nothing_is_let_go),
		TEST(silence_ends_after_ten_seconds),
		TEST(so_many_are_served_at_a_time),
		TEST(a_client_without_a_thread_is_hung_up_on),
		TEST(clients_are_counted_under_the_lock),
		TEST(the_end_waits_for_answers),
		TEST(only_the_owner_may_open_it),
		TEST(it_listens_before_it_answers),
		TEST(a_thread_that_cannot_be_is_told),
		TEST(a_socket_that_cannot_listen_is_told),
		TEST(a_dead_servers_socket_is_replaced),
		TEST(a_living_servers_socket_is_not),
		TEST(other_files_are_left_alone),
		TEST(only_its_own_name_is_removed),
		TEST(a_long_name_is_taken_whole),
		TEST(nothing_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
