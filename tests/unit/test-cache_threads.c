/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_threads.c - threads of one process that share a cache: blobs that come and go, are
 * held and made beside each other and beside the keeper; and what ends a check of the whole.  Under
 * ThreadSanitizer a lock that is missing is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/cache_keeper.h"
#include "tests/unit/cache-users.h"

enum { THREADS = 4 };

static pthread_barrier_t together;

/* Runs `body` in threads that begin together, with the number of each and `arg`. */
struct runner {
	void (*body)(unsigned number, void *arg);
	unsigned number;
	void *arg;
	pthread_t thread;
};

static void *run(void *arg)
{
	struct runner *r = arg;

	pthread_barrier_wait(&together);
	r->body(r->number, r->arg);
	return NULL;
}

static void run_all(unsigned count, void (*body)(unsigned number, void *arg), void *arg)
{
	struct runner runners[THREADS];
	unsigned i;

	assert_int_equal(pthread_barrier_init(&together, NULL, count), 0);
	for (i = 0; i < count; i++) {
		runners[i] = (struct runner){ .body = body, .number = i, .arg = arg };
		assert_int_equal(pthread_create(&runners[i].thread, NULL, run, &runners[i]), 0);
	}
	for (i = 0; i < count; i++)
		pthread_join(runners[i].thread, NULL);
	pthread_barrier_destroy(&together);
}

/* ---- beside each other ---- */

static void open_and_close(unsigned number, void *arg)
{
	struct cache *c = arg;
	unsigned i;

	for (i = 0; i < 20; i++) {
		struct cache_blob *b = cachelib_open_blob(c, number % 2 ? GOOD : EVIL, &blob);

		if (i % 4 == number)
			(void)cachelib_publish(b, &blob, i);
		cache_blob_close(b);
	}
}

static void come_and_go(void **state)
{
	struct cache *c = cachelib_open(0);
	struct err e;

	assert_int_equal(cache_start(c, &e), 0);
	run_all(THREADS, open_and_close, c);
	cache_stop(c);
	assert_null(c->blobs);
	assert_null(c->next);
	cache_close(c);
	assert_int_equal(warnings, 0);
}

/* Two lose and find the whole, so that its levels change, two hold it. */
static void hold_or_verify(unsigned number, void *arg)
{
	struct user *u = arg;
	unsigned i;

	for (i = 0; i < 60; i++) {
		if (number % 2) {
			assert_int_equal(cache_blob_hold(u->b, NULL), 0);
			continue;
		}
		cache_blob_drop(u->b, number * CACHE_CHUNK, 1);
		(void)cachelib_publish(u->b, &blob, number);
		(void)cache_blob_verify(u->b, NULL);
	}
}

static void held_beside_changes(void **state)
{
	struct user u = use(GOOD);

	cachelib_publish_all(u.b, &blob);
	run_all(THREADS, hold_or_verify, &u);
	assert_true(u.b->held);
	cachelib_publish_all(u.b, &blob);
	assert_int_equal(cachelib_count(u.b, &blob), CHUNKS);
	leave(&u);
}

/* The first chunk of a blob by several threads, or by another process while these read. */
struct first {
	struct user one, other;
	bool elsewhere;
};

static void publish_or_read(unsigned number, void *arg)
{
	struct first *f = arg;
	unsigned i;

	if (number == 0)
		assert_int_equal(cachelib_publish(f->elsewhere ? f->other.b : f->one.b, &blob, 7),
				 0);
	else if (number == 1 && !f->elsewhere)
		assert_int_equal(cachelib_publish(f->one.b, &blob, 3), 0);
	else
		for (i = 0; i < 10; i++)
			assert_int_not_equal(cachelib_look(f->one.b, &blob, 7), -1);
}

static void made_together(void **state)
{
	unsigned rounds = 40, i;

	for (i = 0; i < rounds; i++) {
		struct first f = { .elsewhere = i % 2 };

		cachelib_remove_folder();
		cachelib_make_folder();
		f.one = use(GOOD);
		f.other = use(GOOD);
		run_all(THREADS, publish_or_read, &f);
		if (f.elsewhere)
			usleep(1000); /* who looked for a map in this millisecond looks later */
		assert_int_equal(cachelib_look(f.one.b, &blob, 7), 1);
		leave(&f.one);
		leave(&f.other);
	}
}

/* ---- a check of the whole that is ended ---- */

static struct cache_disk_ops gated; /* the system's, with a gate before each read of chunk 5 */
static void (*at_gate)(void);

static ssize_t gated_pread(int fd, void *buf, size_t n, uint64_t off)
{
	void (*gate)(void) = at_gate;

	if (gate && off == 5 * CACHE_CHUNK) {
		at_gate = NULL;
		gate();
	}
	return cache_disk_system.pread(fd, buf, n, off);
}

static struct cache *gated_cache;
static struct cache_blob *gated_blob;
static atomic_bool reached, goes_on;

static void open_gated(void)
{
	struct err e;

	gated = cache_disk_system;
	gated.pread = gated_pread;
	if (cache_open_on(&gated, folder, 0, &gated_cache, &e) < 0)
		die("cache_open", e.msg);
	gated_blob = cachelib_open_blob(gated_cache, GOOD, &blob);
	cachelib_publish_all(gated_blob, &blob);
	atomic_store(&reached, false);
	atomic_store(&goes_on, false);
}

static void await(const atomic_bool *what)
{
	while (!atomic_load(what))
		sched_yield();
}

/* Whether nothing was moved to v1/sha256, and all is still in the origin's folder. */
static bool is_where_it_was(void)
{
	return !cachelib_exists(cachelib_path(NULL, &blob, NULL)) &&
	       cachelib_exists(cachelib_path(GOOD, &blob, "data"));
}

static void until_it_closes(void)
{
	atomic_store(&reached, true);
	await(&gated_blob->closing);
}

static void until_it_stops(void)
{
	atomic_store(&reached, true);
	await(&gated_cache->stopping);
}

static void until_told(void)
{
	atomic_store(&reached, true);
	await(&goes_on);
}

/* Closing the blob ends the keeper's check of it early; the keeper is done with it before it is
 * freed, and goes on with others. */
static void closed_while_checked(void **state)
{
	struct err e;

	open_gated();
	at_gate = until_it_closes;
	assert_int_equal(cache_start(gated_cache, &e), 0);
	await(&reached);
	cache_blob_close(gated_blob);
	assert_true(is_where_it_was());
	cache_stop(gated_cache);
	cache_close(gated_cache);
	assert_int_equal(warnings, 0);
}

/* So does stopping the keeper.  Afterwards it can be checked all the same, and the keeper started
 * again. */
static void stopped_while_checked(void **state)
{
	struct err e;

	open_gated();
	at_gate = until_it_stops;
	assert_int_equal(cache_start(gated_cache, &e), 0);
	await(&reached);
	cache_stop(gated_cache);
	assert_true(is_where_it_was());
	assert_false(cache_blob_is_sealed(gated_blob));
	assert_int_equal(cache_blob_verify(gated_blob, &e), 0);
	assert_int_equal(cache_blob_state(gated_blob), CACHE_WHOLE);
	cache_stop(gated_cache);
	at_gate = NULL;
	assert_int_equal(cache_start(gated_cache, &e), 0);
	cache_stop(gated_cache);
	cache_blob_close(gated_blob);
	cache_close(gated_cache);
	assert_int_equal(warnings, 0);
}

/* Other blobs are opened and closed, read and filled while one is checked: nobody waits for it. */
static void others_while_checked(void **state)
{
	struct test_blob other = cachelib_blob(6, SIZE);
	struct cache_blob *b;
	struct err e;

	open_gated();
	at_gate = until_told;
	assert_int_equal(cache_start(gated_cache, &e), 0);
	await(&reached);
	b = cachelib_open_blob(gated_cache, GOOD, &other);
	assert_int_equal(cachelib_publish(b, &other, 3), 0);
	cache_keeper_kick(gated_cache);
	assert_int_equal(cachelib_look(b, &other, 3), 1);
	assert_int_equal(cachelib_look(gated_blob, &blob, 3), 1);
	cache_blob_close(b);
	assert_true(cache_blob_is_sealed(gated_blob));
	assert_int_equal(cachelib_publish(gated_blob, &blob, 3), 0); /* it is there */
	atomic_store(&goes_on, true);
	while (cache_blob_state(gated_blob) != CACHE_WHOLE)
		sched_yield();
	cache_stop(gated_cache);
	cache_blob_close(gated_blob);
	cache_close(gated_cache);
}

/* ---- waking ---- */

static struct cache *woken;
static atomic_uint wakes, wakes_without;

/* Who wakes the keeper has the lock: else it could be between its look and its sleep. */
static void wake(pthread_cond_t *c)
{
	if (woken && c == &woken->changed) {
		atomic_fetch_add(&wakes, 1);
		if (pthread_mutex_trylock(&woken->lock) == 0) {
			atomic_fetch_add(&wakes_without, 1);
			pthread_mutex_unlock(&woken->lock);
		}
	}
	clock_system.wake(c);
}

static void wakes_under_the_lock(void **state)
{
	struct clock_ops ops = clock_system;
	struct user u = use(GOOD);
	struct err e;

	ops.wake = wake;
	woken = u.c;
	atomic_store(&wakes, 0);
	atomic_store(&wakes_without, 0);
	clock_use(&ops);
	cache_keeper_kick(u.c);
	assert_int_equal(wakes, 1);
	cache_keeper_kick(u.c); /* it knows */
	assert_int_equal(wakes, 1);
	cache_keep_once(u.c); /* looks at a blob, whose closing may wait */
	assert_int_equal(wakes, 2);
	assert_int_equal(cache_start(u.c, &e), 0);
	cache_stop(u.c);
	assert_true(wakes > 2);
	woken = NULL;
	clock_use(NULL);
	assert_int_equal(wakes_without, 0);
	leave(&u);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(come_and_go),	    TEST(held_beside_changes),	 TEST(made_together),
		TEST(closed_while_checked), TEST(stopped_while_checked), TEST(others_while_checked),
		TEST(wakes_under_the_lock),
	};

	make_blobs();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
