/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_keeper.c - what the keeper does about a blob that is all there when the machine does
 * not let it: a right whole is readable meanwhile, and moved once that works.  On a disk in memory,
 * with a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "tests/unit/memcache.h"

enum { CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000, MINUTE = 60 * 1000 /* ms */ };

static struct test_blob blob, forged;

static int set_up(void **state)
{
	blob = cachelib_blob(1, SIZE);
	forged = cachelib_forge(&blob);
	return memcache_set_up(state);
}

static struct process use(unsigned number, const char *origin)
{
	return memcache_use(number, origin, &blob, 0);
}

static void keep(struct process *p)
{
	memdisk_as(p->number);
	cache_keep_once(p->c);
}

static enum cache_state state_of(struct process *p)
{
	memdisk_as(p->number);
	return cache_blob_state(p->b);
}

/* ---- what fails ---- */

struct fault {
	enum memdisk_op op;
	int error;
	const char *of; /* part of the name that it is done to, "": any */
	unsigned count; /* how often it struck */
};

static int strike(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	struct fault *f = arg;

	if (op != f->op || !strstr(name, f->of))
		return 0;
	f->count++;
	return -f->error;
}

/* What moving a right whole to v1/sha256 can fail of. */
static const struct fault moves[] = {
	{ .op = MEMDISK_RENAME, .error = ENOSPC, .of = "sha256:" },
	{ .op = MEMDISK_RENAME, .error = EACCES, .of = "sha256:" },
	{ .op = MEMDISK_RENAME, .error = EROFS, .of = "sha256:" },
	{ .op = MEMDISK_DATASYNC, .error = EIO, .of = "" },
};

/* A minute after the check that failed, and not before, it is tried again; it is said once. */
static void check_retried(struct process *p, struct fault *f)
{
	unsigned before;

	assert_int_equal(f->count, 1);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, strerror(f->error)));
	assert_non_null(strstr(last_warning, "this is tried again each minute"));
	memcache_sleep(MINUTE - 1000);
	keep(p);
	assert_int_equal(f->count, 1);
	memcache_sleep(1000);
	keep(p);
	assert_int_equal(f->count, 2);
	assert_int_equal(warnings, 1);
	memdisk_set_hook(NULL, NULL);
	before = f->count;
	memcache_sleep(MINUTE - 1);
	keep(p);
	assert_int_equal(state_of(p), CACHE_PARTIAL);
	memcache_sleep(1);
	keep(p);
	assert_int_equal(f->count, before);
	assert_int_equal(state_of(p), CACHE_WHOLE);
	assert_int_equal(cachelib_count(p->b, &blob), CHUNKS);
	assert_true(memdisk_exists(memcache_path(NULL, &blob, "data")));
	assert_false(memdisk_exists(memcache_path(GOOD, &blob, NULL)));
	assert_int_equal(warnings, 1);
}

/* ---- tests ---- */

static void moved_later(void **state)
{
	size_t i;

	for (i = 0; i < sizeof moves / sizeof *moves; i++) {
		struct fault f = moves[i];
		struct process p;

		memdisk_make(0);
		warnings = 0;
		p = use(1, GOOD);
		cachelib_publish_all(p.b, &blob);
		memdisk_set_hook(strike, &f);
		keep(&p);
		assert_int_equal(state_of(&p), CACHE_PARTIAL);
		check_retried(&p, &f);
		memcache_leave(&p);
	}
}

/* What was found wrong and is right now is read by all at once, whether it can be moved or not. */
static void acquitted(void **state)
{
	size_t i;

	for (i = 0; i < sizeof moves / sizeof *moves; i++) {
		struct fault f = moves[i];
		struct process p, q;

		memdisk_make(0);
		p = use(1, GOOD);
		cachelib_publish_all(p.b, &forged);
		q = use(2, GOOD);
		keep(&p);
		assert_int_equal(state_of(&p), CACHE_WRONG);
		assert_int_equal(state_of(&q), CACHE_WRONG);
		memdisk_as(1);
		cachelib_publish_all(p.b, &blob);
		warnings = 0;
		memdisk_set_hook(strike, &f);
		keep(&p);
		assert_int_equal(state_of(&p), CACHE_PARTIAL);
		assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
		assert_int_equal(state_of(&q), CACHE_PARTIAL);
		assert_int_equal(cachelib_count(q.b, &blob), CHUNKS);
		check_retried(&p, &f);
		memcache_leave(&q);
		memcache_leave(&p);
	}
}

/* The same where v1/sha256's copy was the wrong one, and what came is to be copied into it. */
static void acquitted_in_shared(void **state)
{
	struct fault f = { .op = MEMDISK_PWRITE, .error = EIO, .of = "" };
	struct process p = use(1, GOOD);
	uint8_t chunk[CACHE_CHUNK];
	uint64_t i;

	cachelib_publish_all(p.b, &blob);
	keep(&p);
	assert_int_equal(state_of(&p), CACHE_WHOLE);
	cache_map_drop(p.b->shared, 4);
	cachelib_chunk(&forged, 4, chunk);
	assert_int_equal(cache_map_publish(p.b->shared, 4, chunk, true), 0);
	assert_int_equal(cache_blob_verify(p.b, NULL), -EBADMSG);
	assert_int_equal(cache_map_flags(p.b->shared) & CACHE_MAP_WRONG, CACHE_MAP_WRONG);
	keep(&p);
	for (i = 0; i < CHUNKS; i++)
		assert_int_equal(cachelib_publish(p.b, &blob, i), 0);
	warnings = 0;
	memdisk_set_hook(strike, &f);
	keep(&p);
	assert_int_equal(f.count, 1);
	assert_int_equal(state_of(&p), CACHE_PARTIAL);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	assert_int_equal(warnings, 1);
	memdisk_set_hook(NULL, NULL);
	memcache_sleep(MINUTE);
	keep(&p);
	assert_int_equal(state_of(&p), CACHE_WHOLE);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memcache_leave(&p);
}

/* Reads of the disk in so many seconds. */
static uint64_t reads_in(struct process *p, unsigned seconds)
{
	uint64_t before = memdisk_calls(MEMDISK_PREAD);
	unsigned i;

	for (i = 0; i < seconds; i++) {
		memcache_sleep(1000);
		keep(p);
	}
	return memdisk_calls(MEMDISK_PREAD) - before;
}

/* A map whose blocks are shared takes no flag on a full disk: the whole is not hashed each second
 * for that. */
static void no_room_for_the_flag(void **state)
{
	struct process p = use(1, GOOD);
	uint64_t idle;

	cachelib_publish_all(p.b, &blob);
	keep(&p);
	idle = reads_in(&p, 20); /* the limits */
	assert_int_equal(cache_map_change_flags(p.b->shared, 0, CACHE_MAP_WHOLE), 0);
	memdisk_fail(MEMDISK_PREPARE, 1, ENOSPC, true);
	keep(&p);
	assert_int_equal(reads_in(&p, 20), idle);
	assert_int_equal(state_of(&p), CACHE_PARTIAL);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memdisk_heal();
	memcache_sleep(MINUTE);
	keep(&p);
	assert_int_equal(state_of(&p), CACHE_WHOLE);
	memcache_leave(&p);
}

/* Once it has worked, the next failure is news. */
static void told_again(void **state)
{
	struct fault f = moves[1];
	struct process p = use(1, GOOD);

	cachelib_publish_all(p.b, &blob);
	memdisk_set_hook(strike, &f);
	keep(&p);
	assert_int_equal(warnings, 1);
	memdisk_set_hook(NULL, NULL);
	memcache_sleep(MINUTE);
	keep(&p);
	assert_int_equal(state_of(&p), CACHE_WHOLE);
	assert_int_equal(cache_folder_remove(p.c->root, p.b->shared_path, NULL), 0);
	keep(&p);
	cachelib_publish_all(p.b, &blob);
	memdisk_set_hook(strike, &f);
	keep(&p);
	assert_int_equal(warnings, 2);
	memdisk_set_hook(NULL, NULL);
	memcache_leave(&p);
}

/* The other side's bytes are no trouble of the machine's: the next try is judged at once. */
static void wrong_is_not_paused(void **state)
{
	struct process p = use(1, GOOD);

	cachelib_publish_all(p.b, &forged);
	keep(&p);
	assert_int_equal(state_of(&p), CACHE_WRONG);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "the blob is wrong"));
	cachelib_publish_all(p.b, &blob);
	keep(&p);
	assert_int_equal(state_of(&p), CACHE_WHOLE);
	assert_int_equal(warnings, 1);
	memcache_leave(&p);
}

/* Room is made for what is missing of a blob that is filled: not for less, nor for all of it. */
static void room_for_the_rest(void **state)
{
	const struct test_blob other = cachelib_blob(2, SIZE);
	const uint64_t limit = 20 * CACHE_CHUNK;
	struct process p = memcache_use(1, GOOD, &other, limit);
	uint64_t i, usage;
	struct err e;

	cachelib_publish_all(p.b, &other);
	cache_blob_close(p.b);
	assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
	for (i = 0; i < 2; i++)
		assert_int_equal(cachelib_publish(p.b, &blob, i), 0);
	cache_set_limits(p.c, &(struct cache_limits){ 12 * CACHE_CHUNK, 0 });
	assert_int_equal(cache_blob_hold(p.b, &e), 0);
	usage = atomic_load(p.c->usage);
	assert_true(usage + SIZE - 2 * CACHE_CHUNK <= 12 * CACHE_CHUNK);
	assert_true(usage + SIZE > 12 * CACHE_CHUNK);
	assert_int_equal(cachelib_count(p.b, &blob), 2);
	memcache_leave(&p);
}

/* ---- (16): a folder that cannot be opened at first ---- */

static const struct fault openings[] = {
	{ .op = MEMDISK_MAKE_FOLDER, .error = EACCES },
	{ .op = MEMDISK_MAKE_FOLDER, .error = EROFS },
	{ .op = MEMDISK_OPEN, .error = ENOTDIR },
	{ .op = MEMDISK_OPEN, .error = EMFILE },
	{ .op = MEMDISK_ALLOCATE, .error = ENOSPC },
	{ .op = MEMDISK_MAP, .error = ENODEV },
	{ .op = MEMDISK_PUNCH, .error = EOPNOTSUPP },
};

static struct process use_late(uint64_t limit, int expected)
{
	struct process p = { .number = 1 };
	struct err e;

	memdisk_as(1);
	assert_int_equal(cache_open_late_on(&memdisk_ops, DIR, limit, &p.c, &e), expected);
	assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
	return p;
}

/* Nothing is found, nothing kept, nobody kept waiting. */
static void check_closed(struct process *p)
{
	struct err e;
	char *text;
	size_t n;

	assert_false(cache_is_filling(p->c));
	assert_int_equal(cachelib_publish(p->b, &blob, 3), -EROFS);
	assert_int_equal(cachelib_count(p->b, &blob), 0);
	assert_int_equal(state_of(p), CACHE_PARTIAL);
	assert_int_equal(cache_blob_verify(p->b, &e), 1);
	assert_int_equal(cache_blob_claim(p->b, 2, 5, 0), 5);
	cache_blob_unclaim(p->b, 2, 5, 0);
	assert_true(cache_blob_claim_download(p->b));
	cache_blob_unclaim_download(p->b);
	assert_int_equal(cache_blob_hold(p->b, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "cannot be used at the moment"));
	assert_true(cache_put_document(p->c, GOOD, "x", "x", 1, &e) < 0);
	assert_true(cache_get_document(p->c, GOOD, "x", &text, &n, &e) < 0);
	cache_blob_drop(p->b, 0, SIZE);
}

static void opened_later(void **state)
{
	size_t i;

	for (i = 0; i < sizeof openings / sizeof *openings; i++) {
		struct process p;
		struct cache_limits limits = { 1 << 20, 4096 };
		struct err e;

		memdisk_make(0);
		warnings = 0;
		memdisk_fail(openings[i].op, 1, openings[i].error, true);
		p = use_late(1 << 21, 1);
		check_closed(&p);
		cache_set_limits(p.c, &limits);
		limits = (struct cache_limits){ CACHE_LIMIT_FOLDER, 8192 };
		cache_set_limits(p.c, &limits);
		memcache_sleep(MINUTE);
		keep(&p); /* in vain */
		check_closed(&p);
		memdisk_heal();
		memcache_sleep(MINUTE - 1);
		keep(&p);
		check_closed(&p);
		assert_int_equal(warnings, 0); /* who opened it has told */
		memcache_sleep(1);
		keep(&p);
		assert_int_equal(warnings, 1);
		assert_non_null(strstr(last_warning, "it works now"));
		assert_true(cache_is_filling(p.c));
		cachelib_publish_all(p.b, &blob);
		keep(&p);
		assert_int_equal(state_of(&p), CACHE_WHOLE);
		assert_int_equal(cache_put_document(p.c, GOOD, "x", "x", 1, &e), 0);
		cache_get_limits(p.c, &limits);
		assert_int_equal(limits.limit, 1 << 20);
		assert_int_equal(limits.keep_free, 8192);
		memcache_leave(&p);
		p = use(2, EVIL); /* and so it is for another */
		assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
		cache_get_limits(p.c, &limits);
		assert_int_equal(limits.keep_free, 8192);
		memcache_leave(&p);
	}
}

/* Whichever operation fails, nothing stays open, and the next try begins anew. */
static void each_operation(void **state)
{
	uint64_t nth;
	bool struck = true;

	for (nth = 1; struck; nth++) {
		struct process p = { .number = 1 };
		struct err e;
		int r;

		memdisk_make(0);
		memdisk_as(1);
		memdisk_fail(MEMDISK_ANY, nth, EIO, false);
		r = cache_open_late_on(&memdisk_ops, DIR, 0, &p.c, &e);
		struck = memdisk_failed();
		memdisk_heal();
		if (r == 1 && nth % 2 == 0) {
			cache_close(p.c); /* before it could be opened */
			memdisk_free();
			continue;
		}
		assert_true(r == 0 || r == 1);
		assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
		memcache_sleep(MINUTE);
		keep(&p);
		assert_true(cache_is_filling(p.c));
		cachelib_publish_all(p.b, &blob);
		assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
		memcache_leave(&p);
		memdisk_free();
	}
	assert_true(nth > 20);
	memdisk_make(0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(moved_later),	    TEST(acquitted),	     TEST(acquitted_in_shared),
		TEST(no_room_for_the_flag), TEST(told_again),	     TEST(wrong_is_not_paused),
		TEST(opened_later),	    TEST(room_for_the_rest), TEST(each_operation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
