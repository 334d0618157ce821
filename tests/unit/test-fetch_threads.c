/* SPDX-License-Identifier: Apache-2.0 */
/* test-fetch_threads.c - for TSan: the engine's thread, readers of one image, hints, sequences, and
 * the calls of other threads, all at once.  What single threads see is tested elsewhere. */
#include "tests/unit/fakeregistry.h"

#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/base/le.h"
#include "fetch/remote.h"
#include "fetch/sequence.h"

#define HEX16 "0123456789abcdef"
#define BLOB "sha256:" HEX16 HEX16 HEX16 HEX16
#define OTHER "sha256:" HEX16 HEX16 HEX16 "ffffffffffffffff"

enum { SIZE = 64 << 20, PIECE = 40000 };

/* ---- a registry ---- */

static atomic_uint served;
static atomic_uint breaks_every; /* so many answers; 0: none */

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off * 31 + (off >> 14));
}

static bool say(struct http_exchange *x, const char *line)
{
	return http_heard_header(x, line, strlen(line));
}

static void give_range(struct http_exchange *x, bool breaks)
{
	uint8_t bytes[PIECE];
	uint64_t off, n;
	char line[128];
	struct err e;

	snprintf(line, sizeof line, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%d\r\n", x->first,
		 x->last, SIZE);
	if (!say(x, "HTTP/1.1 206 x\r\n") || !say(x, line) || !say(x, "\r\n"))
		return;
	for (off = x->first; off <= x->last; off += n) {
		n = x->last + 1 - off;
		n = n < PIECE ? n : PIECE;
		for (uint64_t i = 0; i < n; i++)
			bytes[i] = byte_at(off + i);
		if (!http_heard_bytes(x, bytes, n))
			return;
		if (breaks) {
			http_heard_end(x, err_set(&e, ECONNRESET, "it broke off"), &e);
			return;
		}
	}
	http_heard_end(x, 0, NULL);
}

static void serve(struct http_exchange *x)
{
	unsigned number = atomic_fetch_add_explicit(&served, 1, memory_order_relaxed);
	unsigned every = atomic_load_explicit(&breaks_every, memory_order_relaxed);
	char line[64];

	if (x->ranged) {
		give_range(x, every > 0 && number % every == 0);
		return;
	}
	snprintf(line, sizeof line, "Content-Length: %d\r\n", SIZE);
	if (say(x, "HTTP/1.1 200 x\r\n") && say(x, line) && say(x, "\r\n"))
		http_heard_end(x, 0, NULL);
}

static void perform(void *state)
{
	size_t i;

	for (i = 0; i < FAKE_EXCHANGES; i++)
		if (fake.begun[i]) {
			struct http_exchange *x = fake.begun[i];

			fake.begun[i] = NULL;
			serve(x);
		}
}

static struct http_transport transport;

int __wrap_http_open(struct http **out, struct err *e);
int __wrap_http_open(struct http **out, struct err *e)
{
	transport = fake_transport;
	transport.perform = perform;
	return http_open_on(&transport, NULL, out, e);
}

/* ---- an image ---- */

static char folder[] = "/tmp/test-fetch_threads.XXXXXX";
static struct fetcher *fetcher;
static struct fetch_settings settings;
static struct remote *remote;
static struct source *blob;

static void open_image(bool cached)
{
	struct reference ref;
	struct err e;

	assert_int_equal(fetcher_open(&fetcher, &e), 0);
	assert_int_equal(fetch_settings_init(&settings, &e), 0);
	free(settings.cache_dir);
	settings.cache_dir = cached ? strdup(folder) : NULL;
	assert_int_equal(reference_parse("reg.io/app", &ref, &e), 0);
	if (remote_open(fetcher, &settings, &ref, NULL, false, &remote, &e) < 0)
		fail_msg("%s", e.msg);
	reference_release(&ref);
	assert_int_equal(remote_open_blob(remote, BLOB, SIZE, NULL, &blob, &e), 0);
}

static void close_image(void)
{
	char command[64];

	source_close(blob);
	remote_close(remote);
	fetcher_close(fetcher);
	fetch_settings_release(&settings);
	snprintf(command, sizeof command, "rm -rf %s/*", folder);
	assert_int_equal(system(command), 0);
}

/* ---- threads ---- */

static atomic_bool stop;

struct worker {
	pthread_t thread;
	unsigned number, faults, rounds;
};

static bool goes_on(void)
{
	return !atomic_load_explicit(&stop, memory_order_relaxed);
}

static void run(struct worker *w, unsigned count, void *(*body)(void *arg))
{
	unsigned i;

	for (i = 0; i < count; i++) {
		w[i] = (struct worker){ .number = i };
		assert_int_equal(pthread_create(&w[i].thread, NULL, body, &w[i]), 0);
	}
}

static void join(struct worker *w, unsigned count)
{
	unsigned i;

	for (i = 0; i < count; i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].faults, 0);
	}
}

static uint64_t next_place(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return *seed >> 33;
}

static void check_read(struct worker *w, uint64_t off, size_t n)
{
	uint8_t bytes[PIECE];
	struct err e;
	size_t i;

	if (source_pread(blob, bytes, n, off, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		w->faults++;
		return;
	}
	for (i = 0; i < n; i += 997)
		w->faults += bytes[i] != byte_at(off + i);
}

/* Here and there, and a stretch one after the other. */
static void *read_it(void *arg)
{
	struct worker *w = arg;
	uint64_t seed = w->number / 2, at; /* two of them read the same */
	unsigned round, i;

	for (round = 0; round < 5; round++) {
		at = next_place(&seed) % (SIZE - 8 * PIECE);
		for (i = 0; i < 6; i++)
			check_read(w, at + i * PIECE, PIECE);
		for (i = 0; i < 4; i++)
			check_read(w, next_place(&seed) % (SIZE - 100), 100);
	}
	return NULL;
}

static void *hint_it(void *arg)
{
	uint64_t seed = 77;
	unsigned i;

	for (i = 0; i < 100 && goes_on(); i++) {
		source_prefetch(blob, next_place(&seed) % SIZE, 3 * PIECE);
		source_want(blob, next_place(&seed) % SIZE, PIECE);
		usleep(300);
	}
	return NULL;
}

static void *replay_it(void *arg)
{
	struct worker *w = arg;
	uint64_t seed = 99;
	unsigned i;

	while (goes_on()) {
		struct sequence_range *ranges = calloc(4, sizeof *ranges);
		uint64_t at = next_place(&seed) % (SIZE / SEQUENCE_CHUNK / 5);
		struct sequence *s;

		for (i = 0; i < 4; i++)
			ranges[i] =
				(struct sequence_range){ blob, at + i * (SIZE / SEQUENCE_CHUNK / 5),
							 3 };
		if (sequence_start(ranges, 4, &s, NULL) < 0)
			w->faults++;
		usleep(500);
		sequence_close(s);
	}
	return NULL;
}

/* Another layer is opened, and asked about. */
static void *open_others(void *arg)
{
	struct worker *w = arg;
	struct source *other[8];
	size_t n = 0;
	struct err e;

	while (goes_on() && n < COUNT_OF(other)) {
		uint64_t size = 0;

		if (remote_open_blob(remote, OTHER, SIZE, NULL, &other[n], &e) == 0)
			n++;
		else
			w->faults++;
		if (remote_blob_size(remote, OTHER, &size, &e) < 0 || size != SIZE)
			w->faults++;
	}
	while (n > 0)
		source_close(other[--n]);
	return NULL;
}

static void all_at_once(bool cached, unsigned every)
{
	enum { READERS = 4, OPENERS = 2 };
	struct worker readers[READERS], hints[1], replays[1], openers[OPENERS];

	open_image(cached);
	atomic_store(&stop, false);
	atomic_store(&breaks_every, every);
	run(openers, OPENERS, open_others);
	if (cached) {
		run(hints, 1, hint_it);
		run(replays, 1, replay_it);
	}
	run(readers, READERS, read_it);
	join(readers, READERS);
	atomic_store(&stop, true);
	if (cached) {
		join(replays, 1);
		join(hints, 1);
	}
	join(openers, OPENERS);
	close_image();
}

static void readers_with_a_cache(void **state)
{
	all_at_once(true, 0);
}

static void readers_of_a_bad_connection(void **state)
{
	all_at_once(true, 5);
}

static void readers_without_a_cache(void **state)
{
	all_at_once(false, 7);
}

/* What waits is ended from another thread, while more comes. */
static void *read_until_shut(void *arg)
{
	struct worker *w = arg;
	uint64_t seed = w->number;
	uint8_t bytes[100];
	struct err e;

	while (source_pread(blob, bytes, 100, next_place(&seed) % (SIZE - 100), &e) == 0)
		w->rounds++;
	w->faults += strstr(e.msg, "shutting down") == NULL;
	return NULL;
}

static void shutting_ends_all(void **state)
{
	struct worker readers[3];
	unsigned round;

	for (round = 0; round < 6; round++) {
		open_image(round % 2);
		run(readers, 3, read_until_shut);
		usleep(round * 500);
		remote_shut(remote);
		join(readers, 3);
		close_image();
	}
}

/* ---- the engine alone ---- */

enum { CALLS = 300 };

struct counted {
	struct http_call call;
	unsigned runs; /* on the engine's thread */
};

static struct http *http;
static atomic_uint posted; /* threads that have posted all of theirs */

static void count(struct http_call *c)
{
	((struct counted *)c)->runs++;
}

/* Half of them are held first, as for work of another thread. */
static void *post_calls(void *arg)
{
	struct worker *w = arg;
	struct counted *calls = calloc(CALLS, sizeof *calls);
	unsigned i;

	for (i = 0; i < CALLS / 2; i++)
		http_hold(http);
	for (i = 0; i < CALLS; i++) {
		calls[i].call.run = count;
		if (i % 2)
			http_post_held(http, &calls[i].call);
		else
			http_post(http, &calls[i].call);
	}
	atomic_fetch_add(&posted, 1);
	while (!atomic_load(&stop)) /* with all that came before */
		sched_yield();
	for (i = 0; i < CALLS; i++)
		w->faults += calls[i].runs != 1;
	free(calls);
	return NULL;
}

static void *start_and_stop(void *arg)
{
	unsigned i;

	for (i = 0; i < 20; i++) {
		assert_int_equal(http_start(http, NULL), 0);
		usleep(200);
		http_stop(http);
	}
	return NULL;
}

/* Calls come from several threads while the engine stops and starts: each runs once. */
static void calls_of_other_threads(void **state)
{
	struct worker posters[3], starter[1];
	struct counted last = { .call.run = count };

	assert_int_equal(__wrap_http_open(&http, NULL), 0);
	atomic_store(&stop, false);
	run(posters, 3, post_calls);
	run(starter, 1, start_and_stop);
	join(starter, 1);
	while (atomic_load(&posted) < 3)
		sched_yield();
	assert_int_equal(http_start(http, NULL), 0);
	http_post(http, &last.call);
	http_stop(http); /* which runs what waits */
	assert_int_equal(last.runs, 1);
	atomic_store(&stop, true);
	join(posters, 3);
	http_close(http);
}

static int make_folder(void **state)
{
	setenv("HOME", "/nonexistent", 1);
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(readers_with_a_cache),
		cmocka_unit_test(readers_of_a_bad_connection),
		cmocka_unit_test(readers_without_a_cache),
		cmocka_unit_test(shutting_ends_all),
		cmocka_unit_test(calls_of_other_threads),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
