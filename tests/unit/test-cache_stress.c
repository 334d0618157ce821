/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_stress.c - threads of two processes that read, fill, drop and evict under a tiny
 * limit; and processes that are killed at random moments meanwhile.  Whatever the cache says it has
 * must be right, always. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include <cmocka.h>

#include "tests/unit/cachelib.h"

enum {
	BLOBS = 4,
	CHUNKS = 40,
	SIZE = CHUNKS * CACHE_CHUNK - 7000,
	THREADS = 8,
	LIMIT = 64 * CACHE_CHUNK,
	BUFFER = 5 * CACHE_CHUNK,
};

static struct test_blob blobs[BLOBS];
static uint8_t *contents[BLOBS];

static int set_up(void **state)
{
	cachelib_make_folder();
	return 0;
}

static int tear_down(void **state)
{
	cachelib_remove_folder();
	return 0;
}

/* One process's view. */
struct world {
	struct cache *c;
	struct cache_blob *b[2 * BLOBS]; /* of each blob: by GOOD, by EVIL */
	unsigned steps;
	_Atomic uint64_t seed, read;
};

static void open_world(struct world *w, unsigned steps)
{
	size_t i;

	*w = (struct world){ .c = cachelib_open(LIMIT), .steps = steps, .seed = loops_random() };
	for (i = 0; i < 2 * BLOBS; i++)
		w->b[i] = cachelib_open_blob(w->c, i % 2 ? EVIL : GOOD, &blobs[i / 2]);
}

static void close_world(struct world *w)
{
	size_t i;

	for (i = 0; i < 2 * BLOBS; i++)
		cache_blob_close(w->b[i]);
	cache_close(w->c);
}

static void read_some(struct world *w, size_t i, uint64_t *random)
{
	uint8_t buf[BUFFER];
	uint64_t off = testlib_random(random) % SIZE;
	size_t n = (size_t)(testlib_random(random) % BUFFER) + 1;

	n = cache_blob_read(w->b[i], buf, n, off);
	if (memcmp(buf, contents[i / 2] + off, n) != 0)
		die("read", "wrong bytes");
	w->read += n;
}

static void publish_some(struct world *w, size_t i, uint64_t *random)
{
	uint64_t chunk = testlib_random(random) % CHUNKS;
	int r = cache_blob_publish(w->b[i], chunk, contents[i / 2] + chunk * CACHE_CHUNK);

	if (r < 0 && r != -ENOSPC && r != -EBUSY)
		die("publish", strerror(-r));
}

static void step(struct world *w, uint64_t *random)
{
	uint64_t what = testlib_random(random), freed;
	size_t i = (size_t)(what >> 32) % (2 * BLOBS);

	switch (what % 64) {
	case 0:
		cache_blob_drop(w->b[i], testlib_random(random) % SIZE, CACHE_CHUNK);
		break;
	case 1:
		(void)cache_prune(w->c, LIMIT / 2, &freed, NULL);
		break;
	case 2:
		if (cache_blob_verify(w->b[i], NULL) == -EBADMSG)
			die("verify", "a right blob was found wrong");
		break;
	default:
		if (what % 64 < 24)
			publish_some(w, i, random);
		else
			read_some(w, i, random);
	}
}

static void *run(void *arg)
{
	struct world *w = arg;
	uint64_t random = atomic_fetch_add(&w->seed, 1);
	unsigned k;

	for (k = 0; k < w->steps; k++)
		step(w, &random);
	return NULL;
}

static void run_world(unsigned steps, bool report)
{
	struct world w;
	pthread_t threads[THREADS];
	uint64_t bad = 0;
	struct err e;
	size_t i;

	open_world(&w, steps);
	if (cache_start(w.c, &e) < 0)
		die("cache_start", e.msg);
	for (i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, run, &w) != 0)
			die("thread", "refused");
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < 2 * BLOBS; i++)
		bad += cache_blob_bad_chunks(w.b[i]);
	if (bad > 0)
		die("the cache", "found chunks with a wrong CRC, though nobody crashed");
	if (report)
		print_message("%" PRIu64 " KiB read\n", w.read / 1024);
	if (w.read == 0)
		die("the cache", "served nothing");
	close_world(&w);
}

static void threads_of_two_processes(void **state)
{
	unsigned steps = loops_count(20000);
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		(void)loops_random();
		run_world(steps, false);
		_exit(0);
	}
	run_world(steps, true);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(warnings, 0);
}

/* ---- crash ---- */

/* Fills, reads and evicts until it is killed.  Writes a byte to `ready` when it begins. */
static pid_t start_victim(int ready)
{
	uint64_t seed = loops_random();
	struct world w;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid != 0)
		return pid;
	open_world(&w, UINT32_MAX);
	w.seed = seed;
	if (cache_start(w.c, NULL) < 0)
		die("cache_start", "failed");
	if (write(ready, "", 1) != 1)
		die("pipe", strerror(errno));
	run(&w);
	_exit(1);
}

static int look_at_all(void *arg)
{
	struct world w;
	uint64_t count = 0;
	size_t i;

	open_world(&w, 0);
	for (i = 0; i < 2 * BLOBS; i++)
		count += cachelib_count(w.b[i], &blobs[i / 2]);
	close_world(&w);
	*(uint64_t *)arg += count;
	return 0;
}

static void killed(void **state)
{
	unsigned rounds = loops_count(200), k;
	uint64_t seen = 0;
	int ready[2];

	assert_int_equal(pipe(ready), 0);
	for (k = 0; k < rounds; k++) {
		pid_t victims[2] = { start_victim(ready[1]), start_victim(ready[1]) };
		size_t i;
		char byte;
		int status;

		/* The first to be ready; the other may still be opening the folder. */
		assert_int_equal(read(ready[0], &byte, 1), 1);
		usleep((useconds_t)(loops_random() % 60000));
		for (i = 0; i < 2; i++) {
			assert_int_equal(kill(victims[i], SIGKILL), 0);
			usleep((useconds_t)(loops_random() % 3000));
		}
		for (i = 0; i < 2; i++) {
			assert_int_equal(waitpid(victims[i], &status, 0), victims[i]);
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		}
		assert_true(cachelib_in_child(look_at_all, &seen));
		look_at_all(&seen);
	}
	close(ready[0]);
	close(ready[1]);
	assert_true(seen > 0);
	print_message("%" PRIu64 " chunks seen after %u kills\n", seen, 2 * rounds);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(threads_of_two_processes),
		TEST(killed),
	};
	size_t i;
	int r;

	loops_seed();
	for (i = 0; i < BLOBS; i++) {
		blobs[i] = cachelib_blob(100 + i, SIZE);
		contents[i] = cachelib_all(&blobs[i]);
	}
	r = cmocka_run_group_tests(tests, NULL, NULL);
	for (i = 0; i < BLOBS; i++)
		free(contents[i]);
	return r;
}
