/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_check.c - what others do between the steps of a check of the whole, and of its move to
 * v1/sha256: invariants 5, 6, 10 and 12; when the keeper checks.  On a disk in memory, with a clock
 * of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "fetch/cache_map_internal.h"
#include "fetch/cache_whole.h"
#include "tests/unit/memcache.h"

enum { CHUNK = CACHE_CHUNK, CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000 };

static struct test_blob blob, forged;
static struct process p, q; /* process 1, whose steps are looked at; and 2 */

static int set_up(void **state)
{
	blob = cachelib_blob(1, SIZE);
	forged = cachelib_forge(&blob);
	return memcache_set_up(state);
}

static void use_both(const char *origin_of_q)
{
	p = memcache_use(1, GOOD, &blob, 0);
	q = memcache_use(2, origin_of_q, &blob, 0);
	memdisk_as(1);
}

static void leave_both(void)
{
	memcache_leave(&q);
	memcache_leave(&p);
}

static int verify(struct process *x, struct err *e)
{
	int r;

	memdisk_as(x->number);
	r = cache_blob_verify(x->b, e);
	memdisk_set_hook(NULL, NULL);
	return r;
}

static void keep(struct process *x)
{
	memdisk_as(x->number);
	cache_keep_once(x->c);
}

/* The blob is whole in v1/sha256, but for chunks 2 and 5, and p's origin has these. */
static void in_two_parts(void)
{
	cachelib_publish_all(p.b, &blob);
	assert_int_equal(verify(&p, NULL), 0);
	cache_map_drop(p.b->shared, 2);
	cache_map_drop(p.b->shared, 5);
	keep(&p);
	assert_int_equal(cachelib_publish(p.b, &blob, 2), 0);
	assert_int_equal(cachelib_publish(p.b, &blob, 5), 0);
	assert_int_equal(cache_map_present(p.b->own), 2 * CHUNK);
}

/* ---- chunks that go meanwhile ---- */

static void q_drops(void)
{
	memdisk_as(2);
	cache_blob_drop(q.b, 5 * CHUNK, 1);
}

/* After it was hashed, and before it is said to be whole: it is not. */
static void lost_before_it_moves(void **state)
{
	use_both(GOOD);
	cachelib_publish_all(p.b, &blob);
	memcache_sleep(1);
	assert_true(cache_blob_has(q.b, 5));
	memcache_on(MEMDISK_RENAME, blob.digest, 1, q_drops, 0);
	assert_int_equal(verify(&p, NULL), 1);
	assert_int_equal(memcache_meanwhile.nth, 0);
	assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS - 1);
	keep(&p);
	assert_int_equal(cachelib_publish(p.b, &blob, 5), 0);
	assert_int_equal(verify(&p, NULL), 0);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	leave_both();
}

static void p_loses_own(void)
{
	cache_map_drop(p.b->own, 5);
}

/* What was to be copied has gone. */
static void lost_before_it_is_copied(void **state)
{
	use_both(EVIL);
	in_two_parts();
	memcache_on(MEMDISK_DATASYNC, "", 1, p_loses_own, 0);
	assert_int_equal(verify(&p, NULL), 1);
	assert_int_equal(memcache_meanwhile.nth, 0);
	assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
	assert_true(cache_blob_has(p.b, 2));
	assert_int_equal(cachelib_publish(p.b, &blob, 5), 0);
	assert_int_equal(verify(&p, NULL), 0);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	assert_false(memdisk_exists(memcache_path(GOOD, &blob, NULL)));
	leave_both();
}

/* Another process holds on to a chunk that is to be copied: it is tried again, soon. */
static void held_on_to(void **state)
{
	struct err e = { "" };

	use_both(EVIL);
	in_two_parts();
	keep(&q);
	assert_non_null(q.b->shared);
	assert_int_equal(cache_folder_lock(q.b->shared->map, F_WRLCK, CACHE_MAP_HEADER + 8 * 5, 8),
			 0);
	assert_int_equal(verify(&p, &e), -EAGAIN);
	assert_string_equal(e.msg, "copying chunk 5: Device or resource busy");
	assert_false(cache_blob_is_sealed(p.b));
	warnings = 0;
	keep(&p);
	assert_int_equal(warnings, 0);
	cache_folder_lock(q.b->shared->map, F_UNLCK, CACHE_MAP_HEADER + 8 * 5, 8);
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	leave_both();
}

/* ---- folders that move meanwhile ---- */

static void move_away(void)
{
	assert_int_equal(memdisk_ops.rename(AT_FDCWD, memcache_path(GOOD, &blob, NULL), "/away"),
			 0);
}

/* Between its opening and the right to check it. */
static void moved_by_another(void **state)
{
	struct err e = { "" };

	p = memcache_use(1, GOOD, &blob, 0);
	cachelib_publish_all(p.b, &blob);
	memcache_on(MEMDISK_LOCK, "", 1, move_away, 0);
	assert_int_equal(verify(&p, &e), -EAGAIN);
	assert_string_equal(e.msg, "another process has just moved it");
	memcache_leave(&p);
}

static void q_verifies(void)
{
	assert_int_equal(verify(&q, NULL), 0);
}

/* Another's whole was moved to v1/sha256 first: it stays, and serves. */
static void another_was_first(void **state)
{
	struct process r;

	use_both(EVIL);
	cachelib_publish_all(p.b, &blob);
	memdisk_as(2);
	cachelib_publish_all(q.b, &blob);
	memdisk_as(1);
	memcache_on(MEMDISK_RENAME, blob.digest, 1, q_verifies, 0);
	assert_int_equal(verify(&p, NULL), 0);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	assert_int_equal(cache_blob_state(q.b), CACHE_WHOLE);
	assert_true(memdisk_exists(memcache_path(NULL, &blob, "data")));
	assert_false(memdisk_exists(memcache_path(GOOD, &blob, NULL)));
	keep(&q);
	assert_true(cache_map_is_at(q.b->shared, q.c->root, q.b->shared_path));
	r = memcache_use(3, GOOD, &blob, 0);
	assert_int_equal(cachelib_count(r.b, &blob), CHUNKS);
	memcache_leave(&r);
	leave_both();
}

static unsigned renames;

static int never_moves(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	if (op != MEMDISK_RENAME || !strstr(name, "sha256:"))
		return 0;
	renames += !strstr(name, "sha256/");
	return strstr(name, "sha256/") ? -ENOENT : -ENOTEMPTY;
}

/* Something is in the way again and again: three tries, then later. */
static void always_in_the_way(void **state)
{
	use_both(EVIL);
	cachelib_publish_all(p.b, &blob);
	renames = 0;
	memdisk_set_hook(never_moves, NULL);
	assert_int_equal(verify(&p, NULL), 1);
	assert_int_equal(renames, 3);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	assert_int_equal(verify(&p, NULL), 0);
	leave_both();
}

/* (5) What is in the way of the move is removed, and the seal stays until it is done: who has
 * opened the folder before cannot put unchecked chunks into v1/sha256. */
static void sealed_all_the_way(void **state)
{
	struct process good;

	use_both(GOOD);
	cachelib_publish_all(p.b, &blob);
	memcache_sleep(1);
	assert_true(cache_blob_has(q.b, 7)); /* it has that folder open */
	assert_int_equal(memdisk_ops.make_folder(AT_FDCWD, memcache_path(NULL, &blob, NULL), 0700),
			 0);
	{
		int fd = memdisk_ops.open(AT_FDCWD, memcache_path(NULL, &blob, "data"),
					  O_RDWR | O_CREAT, 0600);

		memdisk_ops.close(fd);
	}
	assert_int_equal(verify(&p, NULL), 0);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	cache_blob_drop(p.b, 7 * CHUNK, 1);
	memdisk_as(2);
	(void)cachelib_publish(q.b, &forged, 7);
	good = memcache_use(3, "https://third.example/app", &blob, 0);
	assert_int_equal(cachelib_look(good.b, &blob, 7), 0); /* -1: poisoned */
	memcache_leave(&good);
	leave_both();
}

/* ---- the digest by itself ---- */

static void add_bytes(void *arg, uint64_t bytes)
{
	*(uint64_t *)arg += bytes;
}

/* Of one level, of both, with each stop; what is missing, and who hears of it. */
static void digest_of_levels(void **state)
{
	atomic_bool stop = true, go = false;
	char digest[DIGEST_ANY_TEXT];
	uint64_t sum = 0;
	struct cache_whole w = { .progress = add_bytes, .arg = &sum };
	struct err e;

	use_both(EVIL);
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), 1);
	in_two_parts();
	w.levels[0] = p.b->own;
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), 1);
	w.levels[0] = p.b->shared;
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), 1);
	sum = 0;
	w.levels[1] = p.b->own;
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), 0);
	assert_string_equal(digest, blob.digest);
	assert_int_equal(sum, SIZE);
	w = (struct cache_whole){ .levels = { p.b->own, p.b->shared }, .stops = { &go, NULL } };
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), 0);
	assert_string_equal(digest, blob.digest);
	w.stops[1] = &stop;
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), -ECANCELED);
	assert_non_null(strstr(e.msg, "stopped"));
	w.stops[1] = &go;
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), 0);
	w.stops[0] = &stop;
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), -ECANCELED);
	w.stops[1] = NULL;
	assert_int_equal(cache_whole_digest(&w, blob.digest, SIZE, digest, &e), -ECANCELED);
	leave_both();
}

/* ---- when the keeper checks ---- */

/* While another process checks it, or a thread of this one, and once it is stopped, nothing is
 * said; and it is checked as soon as that is over. */
static void checked_by_others(void **state)
{
	use_both(GOOD);
	cachelib_publish_all(p.b, &blob);
	memcache_sleep(1);
	assert_true(cache_blob_has(q.b, 0));
	assert_true(cache_map_take(q.b->own, CACHE_MAP_CHECKER));
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
	cache_map_yield(q.b->own, CACHE_MAP_CHECKER);
	pthread_mutex_lock(&p.b->change);
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
	pthread_mutex_unlock(&p.b->change);
	atomic_store(&p.c->stopping, true);
	assert_int_equal(verify(&p, NULL), -ECANCELED);
	atomic_store(&p.c->stopping, false);
	assert_int_equal(warnings, 0);
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	leave_both();
}

static void p_is_stopped(void)
{
	atomic_store(&p.c->stopping, true);
}

/* One that was stopped has not failed, nor has one that missed a chunk. */
static void no_failure(void **state)
{
	use_both(EVIL);
	cachelib_publish_all(p.b, &blob);
	memcache_on(MEMDISK_PREAD, "", 4, p_is_stopped, 0);
	keep(&p);
	memdisk_set_hook(NULL, NULL);
	atomic_store(&p.c->stopping, false);
	assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
	memcache_flip(memcache_path(GOOD, &blob, "data"), 3 * CHUNK + 5);
	keep(&p);
	assert_int_equal(cache_blob_bad_chunks(p.b), 1);
	assert_int_equal(cachelib_publish(p.b, &blob, 3), 0);
	assert_int_equal(warnings, 0);
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	leave_both();
}

/* Reads of the disk while the keeper looks once. */
static uint64_t reads_once(void)
{
	uint64_t before = memdisk_calls(MEMDISK_PREAD);

	memcache_sleep(1000);
	keep(&p);
	return memdisk_calls(MEMDISK_PREAD) - before;
}

/* What is not complete is not read, whatever it was before. */
static void only_what_is_complete(void **state)
{
	uint64_t idle;

	use_both(EVIL);
	idle = reads_once();
	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	assert_int_equal(reads_once(), idle);
	cachelib_publish_all(p.b, &forged);
	assert_true(reads_once() > idle);
	assert_int_equal(cache_blob_state(p.b), CACHE_WRONG);
	assert_int_equal(cachelib_publish(p.b, &forged, 0), 0);
	assert_int_equal(reads_once(), idle);
	cache_blob_drop(p.b, 0, 1);
	cachelib_publish_all(p.b, &blob);
	assert_true(reads_once() > idle);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	assert_int_equal(reads_once(), idle);
	leave_both();
}

/* ---- the keeper's time ---- */

static struct cache *kept;
static uint64_t began, waited_until[8]; /* ms */
static unsigned waits, joins;
static int refusal; /* of the thread */

static int run_here(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg)
{
	if (refusal == 0)
		body(arg);
	return refusal;
}

static void join_nothing(pthread_t thread)
{
	joins++;
}

/* The first sleep is cut short by a kick, the others last; then the keeper is to stop. */
static void sleep_or_kick(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	assert_true(waits < 6);
	waited_until[waits] = until_ms - began;
	pthread_mutex_unlock(lock);
	if (waits == 0) {
		memcache_sleep(300);
		cache_set_limits(kept, &(struct cache_limits){ 2 * CHUNK + 5000, 1 });
		cache_keeper_kick(kept);
	} else {
		memcache_us = until_ms * 1000;
	}
	if (waits == 1) /* evicted at once, though nothing else was looked at */
		assert_in_range(atomic_load(kept->usage), 1, 2 * CHUNK + 5000);
	if (waits == 2) /* a limit that cannot be kept: it sleeps all the same */
		cache_set_limits(kept, &(struct cache_limits){ 1, 1 });
	if (++waits == 6)
		atomic_store(&kept->stopping, true);
	pthread_mutex_lock(lock);
}

static void each_second(void **state)
{
	static const uint64_t expected[] = { 1000, 1000, 2000, 3000, 4000, 5000 };
	struct clock_ops ops = memcache_clock;
	struct err e = { "" };
	uint64_t looks;
	unsigned i;

	ops.thread = run_here;
	ops.join = join_nothing;
	ops.wait = sleep_or_kick;
	clock_use(&ops);
	use_both(EVIL);
	cachelib_publish_all(p.b, &blob);
	cache_blob_drop(p.b, 0, 1);
	kept = p.c;
	waits = joins = 0;
	refusal = EAGAIN;
	assert_int_equal(cache_start(p.c, &e), -EAGAIN);
	assert_string_equal(e.msg, "cache " DIR ": starting a thread: Resource temporarily "
				   "unavailable");
	cache_stop(p.c);
	assert_int_equal(joins, 0);
	refusal = 0;
	cache_set_limits(p.c, &(struct cache_limits){ 0, 1 });
	began = clock_ms();
	looks = memdisk_calls(MEMDISK_STAT_AT);
	assert_int_equal(cache_start(p.c, &e), 0);
	assert_int_equal(waits, 6);
	for (i = 0; i < 6; i++)
		assert_int_equal(waited_until[i], expected[i]);
	assert_true(memdisk_calls(MEMDISK_STAT_AT) > looks);
	cache_stop(p.c);
	assert_int_equal(joins, 1);
	cache_stop(p.c);
	assert_int_equal(joins, 1);
	assert_false(atomic_load(&p.c->stopping));
	leave_both();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lost_before_it_moves), TEST(lost_before_it_is_copied), TEST(held_on_to),
		TEST(moved_by_another),	    TEST(another_was_first),	    TEST(always_in_the_way),
		TEST(sealed_all_the_way),   TEST(digest_of_levels),	    TEST(checked_by_others),
		TEST(no_failure),	    TEST(only_what_is_complete),    TEST(each_second),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
