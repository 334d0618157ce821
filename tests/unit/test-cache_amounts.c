/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_amounts.c - how much the cache keeps and evicts, to the byte and to the millisecond:
 * the limits, what a blob still needs, documents.  On a disk in memory, with a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "fetch/cache_limit.h"
#include "tests/unit/memcache.h"

enum { CHUNK = CACHE_CHUNK, SLACK = 64 * CHUNK, MINUTE = 60 * 1000 /* ms */ };

static void set_limits(struct process *p, uint64_t limit, uint64_t keep_free)
{
	memdisk_as(p->number);
	cache_set_limits(p->c, &(struct cache_limits){ limit, keep_free });
}

/* ---- how much is evicted ---- */

/* Down to 90 % of the limit; 110 % of what is to stay free; whichever is more. */
static void down_to(void **state)
{
	enum { N = 400 };
	static const struct {
		unsigned over,
			lack; /* chunks above the limit, and missing of what is to stay free */
		unsigned freed; /* by the second alone */
	} rows[] = { { 5, 0, 0 }, { 0, 110, 121 }, { 1, 100, 110 }, { 50, 10, 11 }, { 0, 0, 0 } };
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct process p;
		uint64_t all, limit, target;

		memdisk_make(0);
		p = memcache_use_zeros(1, N + 1, N);
		all = memcache_used(&p);
		limit = rows[i].over ? all - rows[i].over * CHUNK : 0;
		target = min_u64(limit ? limit - limit / 10 : all, all - rows[i].freed * CHUNK);
		memdisk_set_room(memdisk_used() + 200 * CHUNK);
		set_limits(&p, limit, rows[i].lack ? (200 + rows[i].lack) * CHUNK : 0);
		cache_keep_once(p.c);
		assert_in_range(memcache_used(&p), target - (target < all ? CHUNK - 1 : 0), target);
		all = memcache_used(&p);
		cache_keep_once(p.c);
		assert_int_equal(memcache_used(&p), all);
		memcache_leave(&p);
	}
}

/* Of a full disk a tenth is taken back, and 1 MiB at least: once. */
static void full_disk_once(void **state)
{
	static const struct {
		unsigned chunks, freed;
	} rows[] = { { 1000, 101 }, { 300, 64 } }; /* the map is a part of the tenth */
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct process p;
		uint64_t all;

		memdisk_make(0);
		p = memcache_use_zeros(1, rows[i].chunks + 1, rows[i].chunks);
		memdisk_set_room(memdisk_used());
		all = memcache_used(&p);
		assert_int_equal(cache_blob_publish(p.b, rows[i].chunks, memcache_zeros), -ENOSPC);
		cache_keep_once(p.c);
		assert_int_equal(memcache_used(&p), all - rows[i].freed * CHUNK);
		assert_true(cache_is_filling(p.c));
		cache_keep_once(p.c);
		assert_int_equal(memcache_used(&p), all - rows[i].freed * CHUNK);
		memcache_leave(&p);
	}
}

/* Another process evicts when the disk is full: what is to be freed is freed after that. */
static void full_disk_later(void **state)
{
	struct process p = memcache_use_zeros(1, 101, 100), q = memcache_use_zeros(2, 1, 0);
	uint64_t all = memcache_used(&p);

	memdisk_set_room(memdisk_used());
	memdisk_as(2);
	assert_int_equal(cache_folder_lock(q.c->lock_file, F_WRLCK, 0, 1), 0);
	memdisk_as(1);
	assert_int_equal(cache_blob_publish(p.b, 100, memcache_zeros), -ENOSPC);
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), all);
	assert_false(cache_is_filling(p.c));
	cache_folder_lock(q.c->lock_file, F_UNLCK, 0, 1);
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), all - SLACK);
	assert_true(cache_is_filling(p.c));
	memcache_leave(&q);
	memcache_leave(&p);
}

/* Eviction for the limit does not end another trouble's pause. */
static void other_trouble_stays(void **state)
{
	struct process p = memcache_use_zeros(1, 101, 100);

	memdisk_fail(MEMDISK_PWRITE, 1, EACCES, false);
	assert_int_equal(cache_blob_publish(p.b, 100, memcache_zeros), -EACCES);
	assert_non_null(strstr(last_warning, "nothing more is kept in it until that works again"));
	set_limits(&p, memcache_used(&p) - CHUNK, 0);
	cache_keep_once(p.c);
	assert_true(memcache_used(&p) < 100 * CHUNK);
	assert_false(cache_is_filling(p.c));
	memcache_sleep(MINUTE - 1);
	assert_false(cache_is_filling(p.c));
	memcache_sleep(1);
	assert_true(cache_is_filling(p.c));
	memcache_leave(&p);
}

/* (15) The map alone is above the limit: nothing is looked at until the folder has grown by more
 * than its slack, or a minute is over. */
static void check_rest(uint64_t chunks, const char *told)
{
	const uint64_t map = 4096 + 8 * chunks;
	struct process p = memcache_use_zeros(1, chunks, 3);
	uint64_t i;
	struct err e;

	set_limits(&p, map - 1, 0);
	warnings = 0;
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), map);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, told));
	atomic_store(&p.c->kicked, false);
	for (i = 0; i < 64; i++)
		assert_int_equal(cache_blob_publish(p.b, i, memcache_zeros), 0);
	assert_true(atomic_load(&p.c->kicked));
	atomic_store(&p.c->kicked, false);
	assert_int_equal(cache_blob_publish(p.b, i, memcache_zeros), -ENOSPC); /* far over */
	assert_true(atomic_load(&p.c->kicked));
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), map + SLACK);
	assert_int_equal(cache_put_document(p.c, NULL, "x", "x", 1, &e), 0);
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), map);
	assert_int_equal(cache_blob_publish(p.b, 0, memcache_zeros), 0);
	memcache_sleep(MINUTE - 1);
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), map + CHUNK);
	memcache_sleep(1);
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), map);
	assert_int_equal(warnings, 1);
	memcache_leave(&p);
}

static void rests(void **state)
{
	check_rest(1024, "its open layers need 12 KiB to be kept at all, more than "
			 "cache-limit=12287B allows");
	memdisk_make(0);
	check_rest(1023, "need 11 KiB to be kept at all, more than cache-limit=12279B allows");
}

/* It was counted too much: there is no reason to rest. */
static void wrong_count(void **state)
{
	struct process p = memcache_use_zeros(1, 40, 20);
	const uint64_t all = memcache_used(&p), limit = all + 5 * CHUNK;
	uint64_t i;

	set_limits(&p, limit, 0);
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), all);
	atomic_store(p.c->usage, 2 * limit);
	cache_keep_once(p.c);
	assert_int_equal(memcache_used(&p), all);
	for (i = 20; i < 30; i++)
		assert_int_equal(cache_blob_publish(p.b, i, memcache_zeros), 0);
	cache_keep_once(p.c);
	assert_true(memcache_used(&p) <= limit);
	memcache_leave(&p);
}

static struct process *filler;
static unsigned looks;

/* When the evictor looks at the disk for the second time: after it has evicted. */
static int fill_after(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	uint64_t i;

	if (op != MEMDISK_ROOM || process != 1 || ++looks != 2)
		return 0;
	for (i = 0; i < 30; i++)
		assert_int_equal(cache_blob_publish(filler->b, i, memcache_zeros), 0);
	return 0;
}

/* All that was wanted was evicted, and another has filled as much meanwhile: it goes on next time,
 * and nobody is told that the limit is too small. */
static void filled_meanwhile(void **state)
{
	struct process p = memcache_use_zeros(1, 101, 100), q = memcache_use_zeros(2, 100, 0);
	const uint64_t limit = memcache_used(&p) - 5 * CHUNK;

	assert_int_equal(cache_map_make(q.b->own, NULL), 0);
	set_limits(&p, limit, 1);
	warnings = looks = 0;
	filler = &q;
	memdisk_set_hook(fill_after, NULL);
	cache_keep_once(p.c);
	memdisk_set_hook(NULL, NULL);
	assert_true(memcache_used(&p) > limit);
	cache_keep_once(p.c);
	assert_true(memcache_used(&p) <= limit);
	assert_int_equal(warnings, 0);
	memcache_leave(&q);
	memcache_leave(&p);
}

/* As the evictor comes to the blob again, its reader reads all of it again. */
static int mark_all(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	uint8_t byte;
	uint64_t i;

	if (op != MEMDISK_OPEN || strcmp(name, "map") != 0)
		return 0;
	looks++;
	for (i = 0; i < 100; i++)
		assert_int_equal(cache_blob_read(filler->b, &byte, 1, i * CHUNK), 1);
	return 0;
}

/* Readers use all of it again, in between: it goes on a second later, then two, and at last a
 * minute; and nobody is told that the limit is too small. */
static void marked_meanwhile(void **state)
{
	struct process p = memcache_use_zeros(1, 101, 100);
	const uint64_t limit = memcache_used(&p) - 5 * CHUNK;
	uint64_t rest, i;

	set_limits(&p, limit, 0);
	warnings = 0;
	filler = &p;
	memdisk_set_hook(mark_all, NULL);
	cache_keep_once(p.c);
	for (rest = 1000; rest < 2 * MINUTE; rest *= 2) {
		memcache_sleep(min_u64(rest, MINUTE) - 1);
		looks = 0;
		cache_keep_once(p.c);
		assert_int_equal(looks, 0);
		memcache_sleep(1);
		cache_keep_once(p.c);
		assert_true(looks > 0);
	}
	assert_true(memcache_used(&p) > limit);
	memdisk_set_hook(NULL, NULL);
	memcache_sleep(MINUTE);
	cache_keep_once(p.c);
	assert_true(memcache_used(&p) <= limit);
	/* Then soon again. */
	for (i = 0; i < 100; i++)
		assert_int_equal(cache_blob_publish(p.b, i, memcache_zeros), 0);
	memdisk_set_hook(mark_all, NULL);
	cache_keep_once(p.c);
	memdisk_set_hook(NULL, NULL);
	assert_true(memcache_used(&p) > limit);
	memcache_sleep(1000);
	cache_keep_once(p.c);
	assert_true(memcache_used(&p) <= limit);
	assert_int_equal(warnings, 0);
	memcache_leave(&p);
}

/* What keeps it from evicting is told once. */
static void cannot_evict(void **state)
{
	struct process p = memcache_use_zeros(1, 101, 100);
	unsigned i;

	set_limits(&p, memcache_used(&p) - CHUNK, 0);
	warnings = 0;
	memdisk_fail(MEMDISK_LIST, 1, EIO, true);
	for (i = 0; i < 3; i++) {
		cache_keep_once(p.c);
		memcache_sleep(MINUTE);
	}
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "evicting: listing .: Input/output error"));
	memdisk_heal();
	cache_keep_once(p.c);
	assert_true(memcache_used(&p) < 100 * CHUNK);
	memcache_leave(&p);
}

/* ---- what the limit says ---- */

/* Each answer, one byte below and above where it changes. */
static void answers(void **state)
{
	static const uint64_t limits[] = { 0, 1, 16, 1000 * CHUNK, 2000 * CHUNK + 7 };
	struct process p = memcache_use_zeros(1, 1, 0);
	const uint64_t before = memcache_used(&p);
	size_t i;
	int d;

	for (i = 0; i < sizeof limits / sizeof *limits; i++) {
		uint64_t limit = limits[i], slack = limit / 16 > SLACK ? limit / 16 : SLACK;

		atomic_store(&p.c->limit, limit);
		for (d = -1; d <= 1; d++) {
			atomic_store(p.c->usage, limit + slack + (uint64_t)d);
			assert_int_equal(cache_limit_is_far_over(p.c), limit > 0 && d > 0);
			assert_int_equal(cache_limit_allows_map(p.c, limit / 16 + (uint64_t)d),
					 limit == 0 || (d <= 0 && limit / 16 + 1 > (uint64_t)-d));
			if (limit == 0 && d < 0)
				continue;
			atomic_store(p.c->usage, limit + (uint64_t)d);
			assert_int_equal(cache_limit_excess(p.c), limit > 0 && d > 0);
		}
		/* What is to stay free, and is not. */
		atomic_store(p.c->usage, limit + 5);
		for (d = -1; d <= 1; d++) {
			atomic_store(&p.c->keep_free, 100);
			atomic_store(&p.c->disk_free, (uint64_t)(100 - 10 * d));
			assert_int_equal(cache_limit_excess(p.c), d > 0 ? 10 : limit > 0 ? 5 : 0);
			assert_int_equal(cache_limit_is_far_over(p.c), d > 0);
		}
		atomic_store(&p.c->disk_free, 98);
		assert_int_equal(cache_limit_excess(p.c), limit > 0 ? 5 : 2);
		atomic_store(&p.c->disk_free, UINT64_MAX);
		atomic_store(&p.c->keep_free, 0);
	}
	atomic_store(p.c->usage, before);
	memcache_leave(&p);
}

/* How the limits are written in messages. */
static void in_words(void **state)
{
	static const struct {
		uint64_t n;
		const char *text;
	} rows[] = {
		{ 0, "none" },
		{ 1, "1B" },
		{ 1023, "1023B" },
		{ 1024, "1K" },
		{ 1025, "1025B" },
		{ 1536, "1536B" },
		{ 1024 * 1023, "1023K" },
		{ (uint64_t)3 << 20, "3M" },
		{ ((uint64_t)3 << 20) + 1024, "3073K" },
		{ (uint64_t)1 << 30, "1G" },
		{ (uint64_t)7 << 40, "7T" },
		{ (uint64_t)1 << 50, "1024T" },
		{ (uint64_t)1 << 60, "1048576T" },
	};
	struct process p = memcache_use_zeros(1, 1, 0);
	char expected[256];
	size_t i;

	for (i = 1; i < sizeof rows / sizeof *rows; i++) {
		warnings = 0;
		set_limits(&p, rows[i].n, CACHE_LIMIT_FOLDER);
		snprintf(expected, sizeof expected,
			 "cache-limit is now %s, for all programs that use the folder; it was %s",
			 rows[i].text, rows[i - 1].text);
		if (warnings != 1 || !strstr(last_warning, expected))
			fail_msg("%s, not: %s", last_warning, expected);
		set_limits(&p, CACHE_LIMIT_FOLDER, rows[i].n);
		if (warnings != 2 || !strstr(last_warning, "cache-keep-free is now"))
			fail_msg("%s", last_warning);
	}
	memcache_leave(&p);
}

/* A limits file that is damaged or not there is written anew by who sets one of the two, and by
 * nobody else. */
static void written_by(void **state)
{
	static const struct cache_limits set[] = { { CACHE_LIMIT_FOLDER, CACHE_LIMIT_FOLDER },
						   { 1 << 20, CACHE_LIMIT_FOLDER },
						   { CACHE_LIMIT_FOLDER, 4096 } };
	static const char *const written[] = { "limit=10737418240\nkeep-free=0\n",
					       "limit=1048576\nkeep-free=0\n",
					       "limit=10737418240\nkeep-free=4096\n" };
	char text[64] = "";
	size_t i, damaged;
	struct err e;

	for (i = 0; i < 3; i++)
		for (damaged = 0; damaged < 2; damaged++) {
			struct process p;
			const char *expected = i == 0 && damaged ? "garbage" : written[i];

			memdisk_make(0);
			p = memcache_use_zeros(1, 1, 0);
			if (damaged)
				assert_int_equal(cache_folder_replace_file(p.c->root, "limits",
									   "garbage", 7, false, &e),
						 0);
			else
				assert_int_equal(memdisk_ops.unlink(AT_FDCWD, DIR "/v1/limits"), 0);
			cache_keep_once(p.c);
			assert_int_equal(memdisk_exists(DIR "/v1/limits"), damaged);
			warnings = 0;
			cache_set_limits(p.c, &set[i]);
			assert_int_equal(warnings, 0); /* there was no other before */
			assert_int_equal(memdisk_size(DIR "/v1/limits"), strlen(expected));
			memdisk_peek(DIR "/v1/limits", 0, text, strlen(expected));
			assert_memory_equal(text, expected, strlen(expected));
			memcache_leave(&p);
		}
}

/* ---- room for what is missing ---- */

/* Nothing is evicted, nor waited for, for what fits just so; else just what is needed. */
static void makes_room(void **state)
{
	struct process p = memcache_use_zeros(1, 10, 10), q = memcache_use_zeros(2, 1, 0);
	const uint64_t all = memcache_used(&p);
	struct err e = { "" };

	assert_int_equal(cache_limit_make_room(p.c, UINT64_MAX - all, &e), 0); /* no limit */
	set_limits(&p, all + 100, 0);
	memdisk_as(2);
	assert_int_equal(cache_folder_lock(q.c->lock_file, F_WRLCK, 0, 1), 0);
	memdisk_as(1);
	assert_int_equal(cache_limit_make_room(p.c, 100, &e), 0);
	assert_int_equal(cache_limit_make_room(p.c, 101, &e), -EAGAIN);
	assert_non_null(strstr(e.msg, "cache " DIR ": lock: "));
	assert_int_equal(cache_limit_make_room(p.c, all + 101, &e), -ENOSPC);
	cache_folder_lock(q.c->lock_file, F_UNLCK, 0, 1);
	set_limits(&p, all, 0);
	assert_int_equal(cache_limit_make_room(p.c, 3 * CHUNK, &e), 0);
	assert_int_equal(memcache_used(&p), all - 3 * CHUNK);
	/* The map stays, so all of it is too much. */
	assert_int_equal(cache_limit_make_room(p.c, all, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "168016 bytes do not fit under cache-limit=168016B beside "
				      "the 4176 that are being filled or in use"));
	memcache_leave(&p);
	assert_int_equal(cache_put_document(q.c, NULL, "x", "x", 1, &e), 0);
	set_limits(&q, 50000, 0);
	assert_int_equal(cache_limit_make_room(q.c, 50000, &e), 0);
	assert_int_equal(memcache_used(&q), 0);
	memcache_leave(&q);
}

/* Bytes that holding the blob asks for. */
static uint64_t needed(struct process *p)
{
	unsigned long long n = 0;
	struct err e = { "" };

	set_limits(p, 1, 0);
	assert_int_equal(cache_blob_hold(p->b, &e), -ENOSPC);
	set_limits(p, 0, 0);
	if (sscanf(e.msg, "%llu bytes do not fit under cache-limit=1B", &n) != 1)
		fail_msg("%s", e.msg);
	return n;
}

/* Of a blob: its size, less what either level has, and the map that has to be made. */
static void what_is_missing(void **state)
{
	enum { N = 8, SIZE = 7 * CHUNK + 1000, MAP = 4096 + 8 * N };
	const struct test_blob t = cachelib_blob(1, SIZE);
	struct process p = memcache_use(1, GOOD, &t, 0);
	uint64_t i;

	assert_int_equal(needed(&p), SIZE + MAP);
	assert_int_equal(cache_map_make(p.b->own, NULL), 0);
	assert_int_equal(needed(&p), SIZE);
	assert_int_equal(cachelib_publish(p.b, &t, 7), 0);
	assert_int_equal(needed(&p), SIZE - 1000);
	assert_int_equal(cachelib_publish(p.b, &t, 2), 0);
	assert_int_equal(needed(&p), SIZE - 1000 - CHUNK);
	cachelib_publish_all(p.b, &t);
	assert_int_equal(cache_blob_verify(p.b, NULL), 0);
	for (i = 3; i < 6; i++)
		cache_map_drop(p.b->shared, i);
	assert_null(p.b->own);
	assert_int_equal(needed(&p), 3 * CHUNK);
	cache_keep_once(p.c);
	assert_non_null(p.b->own);
	assert_int_equal(needed(&p), 3 * CHUNK); /* without a map yet */
	assert_int_equal(cachelib_publish(p.b, &t, 4), 0);
	assert_int_equal(needed(&p), 2 * CHUNK);
	memcache_leave(&p);
}

/* What is held stays so when its folder is made anew. */
static void held_anew(void **state)
{
	struct process p = memcache_use_zeros(1, 10, 3), q = memcache_use_zeros(2, 1, 0);
	static _Atomic uint64_t bad;
	const struct cache_map_counters counters = { q.c->usage, &bad, NULL };
	struct cache_map *m;
	uint64_t dropped;
	struct err e;

	memdisk_as(1);
	assert_int_equal(cache_blob_hold(p.b, &e), 0);
	memdisk_as(2);
	assert_int_equal(cache_drop(q.c, p.b->digest, NULL, &dropped, &e), 0);
	memdisk_as(1);
	cache_keep_once(p.c);
	assert_int_equal(cache_blob_publish(p.b, 0, memcache_zeros), 0);
	memdisk_as(2);
	assert_int_equal(cache_map_open(q.c->root, p.b->own_path, p.b->digest, 10 * CHUNK, false,
					&counters, &m, &e),
			 0);
	assert_true(cache_map_is_held(m));
	memcache_leave(&p);
	assert_false(cache_map_is_held(m));
	cache_map_close(m);
	memcache_leave(&q);
}

/* ---- the count ---- */

/* What each operation adds and takes is what counting anew finds. */
static void check_count(struct process *p, const char *after)
{
	uint64_t kept = memcache_used(p);

	memdisk_as(p->number);
	assert_int_equal(cache_evict_recount(p->c, false, NULL), 0);
	if (kept != memcache_used(p))
		fail_msg("%s: %d bytes, not %d", after, (int)kept, (int)memcache_used(p));
}

static void count_is_kept(void **state)
{
	const struct test_blob t = cachelib_blob(1, 7 * CHUNK + 1000);
	struct process p = memcache_use(1, GOOD, &t, 0);
	uint64_t freed, checked, bad;
	uint8_t chunk[CHUNK];
	struct err e;

	assert_int_equal(cachelib_publish(p.b, &t, 7), 0);
	check_count(&p, "a chunk and its map");
	cachelib_publish_all(p.b, &t);
	cache_blob_drop(p.b, 7 * CHUNK, 1);
	check_count(&p, "a drop");
	assert_int_equal(cache_prune(p.c, memcache_used(&p) - 2 * CHUNK, &freed, &e), 0);
	check_count(&p, "eviction");
	cachelib_publish_all(p.b, &t);
	assert_int_equal(cache_blob_verify(p.b, &e), 0);
	check_count(&p, "a move");
	cache_blob_drop(p.b, 0, 2 * CHUNK);
	cache_keep_once(p.c);
	cachelib_publish_all(p.b, &t);
	check_count(&p, "a second level");
	assert_int_equal(cache_blob_verify(p.b, &e), 0);
	check_count(&p, "a merge");
	/* A wrong whole whose chunks are right, and one whose map is damaged. */
	cache_map_drop(p.b->shared, 4);
	memset(chunk, 7, sizeof chunk);
	assert_int_equal(cache_map_publish(p.b->shared, 4, chunk, true), 0);
	assert_int_equal(cache_map_change_flags(p.b->shared, CACHE_MAP_WHOLE, 0), 0);
	check_count(&p, "a forgery");
	assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(bad, 8);
	check_count(&p, "verifying");
	assert_int_equal(memcache_used(&p), 0);
	cache_keep_once(p.c);
	assert_int_equal(cachelib_publish(p.b, &t, 0), 0);
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), 0);
	assert_int_equal(memcache_used(&p), 4096 + 8 * 8);
	cache_blob_close(p.b);
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), 0);
	assert_int_equal(freed, 0);
	assert_int_equal(memcache_used(&p), 0); /* the idle folder, by the clock itself */
	check_count(&p, "an idle folder");
	cache_close(p.c);
}

/* ---- documents ---- */

/* They take whole blocks; what is replaced is given back. */
static void cost_of_documents(void **state)
{
	static const struct {
		size_t n;
		uint64_t cost;
	} rows[] = { { 0, 0 },	     { 1, 4096 },    { 4095, 4096 },
		     { 4096, 4096 }, { 4097, 8192 }, { 12288, 12288 } };
	static const char bytes[12288];
	struct process p = memcache_use_zeros(1, 1, 0);
	size_t i, k;
	struct err e = { "untouched" };

	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		for (k = 0; k < sizeof rows / sizeof *rows; k++) {
			assert_int_equal(cache_put_document(p.c, GOOD, "x", bytes, rows[i].n, &e),
					 0);
			assert_int_equal(memcache_used(&p), rows[i].cost);
			assert_int_equal(cache_put_document(p.c, GOOD, "x", bytes, rows[k].n, &e),
					 0);
			assert_int_equal(memcache_used(&p), rows[k].cost);
			assert_int_equal(cache_documents_trim(p.c, rows[k].cost), 0);
			check_count(&p, "documents");
		}
	assert_string_equal(e.msg, "untouched");
	assert_int_equal(memdisk_calls(MEMDISK_DATASYNC), 1); /* limits: no document is worth it */
	memdisk_fail(MEMDISK_RENAME, 1, EIO, false);
	assert_int_equal(cache_put_document(p.c, GOOD, "x", bytes, 1, &e), -EIO);
	assert_string_equal(e.msg,
			    "cache: keeping 'x': creating "
			    "'2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881'"
			    ": renaming: Input/output error");
	assert_int_equal(memcache_used(&p), 12288);
	memcache_leave(&p);
}

/* A document that cannot be deleted, or looked at, and a folder among them: the others go, and
 * nothing is counted that is still there. */
static int spare_some(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	const char *hash = arg;

	return (op == MEMDISK_UNLINK || op == MEMDISK_STAT_AT) && strstr(name, hash) ? -EPERM : 0;
}

static void stubborn_documents(void **state)
{
	struct process p = memcache_use_zeros(1, 1, 0);
	char hash[CACHE_PLACE], path[256], place[CACHE_PLACE];
	uint64_t sum = 0;
	unsigned i;
	struct err e;

	for (i = 0; i < 6; i++) {
		char name[2] = { (char)('a' + i), 0 };

		assert_int_equal(cache_put_document(p.c, GOOD, name, "x", 1, &e), 0);
	}
	assert_int_equal(cache_hash(GOOD, strlen(GOOD), place, &e), 0);
	snprintf(path, sizeof path, DIR "/v1/%s/documents/sub", place);
	assert_int_equal(memdisk_ops.make_folder(AT_FDCWD, path, 0700), 0);
	assert_int_equal(cache_documents_count(p.c, &sum, &e), 0);
	assert_int_equal(sum, 6 * 4096);
	assert_int_equal(cache_hash("b", 1, hash, &e), 0);
	memdisk_set_hook(spare_some, hash);
	sum = 100;
	assert_int_equal(cache_documents_count(p.c, &sum, &e), 0);
	assert_int_equal(sum, 100 + 5 * 4096);
	memdisk_set_hook(NULL, NULL);
	memdisk_fail(MEMDISK_UNLINK, 1, EPERM, false);
	assert_int_equal(cache_documents_trim(p.c, 4 * 4096), 2 * 4096); /* "b" and "c" */
	assert_int_equal(memcache_used(&p), 4 * 4096);
	check_count(&p, "stubborn documents");
	memdisk_fail(MEMDISK_LIST, 1, EIO, false);
	assert_int_equal(cache_documents_count(p.c, &sum, &e), -EIO);
	memcache_leave(&p);
}

/* A sixteenth of what may stay. */
static void share_of_documents(void **state)
{
	static const uint64_t left[] = { 3, 2 };
	uint64_t i, k, freed;
	char name[2] = "a";
	struct err e;

	for (i = 0; i < 2; i++) {
		struct process p;

		memdisk_make(0);
		p = memcache_use_zeros(1, 1, 0);
		for (k = 0; k < 5; k++, name[0]++)
			assert_int_equal(cache_put_document(p.c, GOOD, name, "x", 1, &e), 0);
		assert_int_equal(cache_prune(p.c, 16 * 3 * 4096 - i, &freed, &e), 0);
		assert_int_equal(memcache_used(&p), left[i] * 4096);
		assert_int_equal(freed, (5 - left[i]) * 4096);
		memcache_leave(&p);
	}
}

/* Who looks for one that is not there makes nothing. */
static void no_document(void **state)
{
	struct process p = memcache_use_zeros(1, 1, 0);
	uint64_t made = memdisk_calls(MEMDISK_MAKE_FOLDER);
	char *text;
	struct err e;
	size_t n;

	assert_int_equal(cache_get_document(p.c, EVIL, "x", &text, &n, &e), -ENOENT);
	assert_int_equal(cache_get_document(p.c, GOOD, "x", &text, &n, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "cache: 'x': "));
	assert_int_equal(memdisk_calls(MEMDISK_MAKE_FOLDER), made);
	memcache_leave(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, memcache_set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(down_to),
		TEST(full_disk_once),
		TEST(full_disk_later),
		TEST(other_trouble_stays),
		TEST(rests),
		TEST(wrong_count),
		TEST(filled_meanwhile),
		TEST(marked_meanwhile),
		TEST(cannot_evict),
		TEST(answers),
		TEST(in_words),
		TEST(written_by),
		TEST(makes_room),
		TEST(what_is_missing),
		TEST(held_anew),
		TEST(count_is_kept),
		TEST(cost_of_documents),
		TEST(stubborn_documents),
		TEST(no_document),
		TEST(share_of_documents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
