/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_locks.c - which bytes of which file are locked, as cache_map.h says and other versions
 * rely on; how long anybody waits for a chunk, and how often a read is tried.  On a disk in memory,
 * with a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "fetch/cache_map_internal.h"
#include "tests/unit/memcache.h"

enum { CHUNK = CACHE_CHUNK, CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000 };

static struct test_blob blob;
static struct process p;
static int outside; /* another opening of the file that is looked at */

static int set_up(void **state)
{
	blob = cachelib_blob(1, SIZE);
	memcache_set_up(state);
	p = memcache_use(1, GOOD, &blob, 0);
	return 0;
}

static void look_at(const char *path)
{
	memdisk_as(9);
	outside = memdisk_ops.open(AT_FDCWD, path, O_RDWR, 0);
	assert_true(outside >= 0);
	memdisk_as(1);
}

static void look_away(void)
{
	memdisk_ops.close(outside);
}

/* The first lock from `from` on that keeps us from [from, end) is [at, at + n). */
static void expect_lock(short type, uint64_t from, uint64_t at, uint64_t n)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)from };

	assert_int_equal(memdisk_ops.look(outside, &lock), 0);
	assert_int_equal(lock.l_type, type);
	if (type == F_UNLCK)
		return;
	assert_int_equal(lock.l_start, at);
	assert_int_equal(lock.l_len, n);
}

/* ---- which bytes ---- */

static void of_a_blob(void **state)
{
	const uint64_t claims = (uint64_t)1 << 32;

	look_at(memcache_path(GOOD, &blob, "lock"));
	expect_lock(F_RDLCK, 0, 0, 1);
	expect_lock(F_UNLCK, 1, 0, 0);
	assert_true(cache_map_take(p.b->own, CACHE_MAP_CHECKER));
	expect_lock(F_WRLCK, 1, 1, 1);
	expect_lock(F_UNLCK, 2, 0, 0);
	cache_map_yield(p.b->own, CACHE_MAP_CHECKER);
	expect_lock(F_UNLCK, 1, 0, 0);
	assert_true(cache_blob_claim_download(p.b));
	expect_lock(F_WRLCK, 1, 2, 1);
	cache_blob_unclaim_download(p.b);
	expect_lock(F_UNLCK, 1, 0, 0);
	assert_int_equal(cache_blob_claim(p.b, 2, 3, 0), 3);
	expect_lock(F_WRLCK, 1, claims + 2, 3);
	assert_int_equal(cache_blob_claim(p.b, 2, 3, 1), 3);
	expect_lock(F_WRLCK, claims + 5, 2 * claims + 2, 3);
	cache_blob_unclaim(p.b, 2, 3, 0);
	expect_lock(F_WRLCK, 1, 2 * claims + 2, 3);
	cache_blob_unclaim(p.b, 3, 0, 1); /* nothing, not all that follows */
	expect_lock(F_WRLCK, 1, 2 * claims + 2, 3);
	cache_blob_unclaim(p.b, 2, 3, 1);
	expect_lock(F_UNLCK, 1, 0, 0);
	assert_int_equal(cache_blob_hold(p.b, NULL), 0);
	expect_lock(F_RDLCK, 1, 3, 1);
	expect_lock(F_UNLCK, 4, 0, 0);
	assert_true(cache_map_take_alone(p.b->own));
	expect_lock(F_WRLCK, 0, 0, 1);
	memcache_leave(&p);
	expect_lock(F_UNLCK, 0, 0, 0);
	look_away();
}

static void expect_lock_then(void *arg)
{
	expect_lock(F_WRLCK, 0, CACHE_MAP_HEADER + 8 * 3, 8);
}

/* A chunk's lock is its word, all of it and no more; while it is discarded, and not afterwards. */
static void of_a_chunk(void **state)
{
	uint64_t byte;

	cachelib_publish_all(p.b, &blob);
	look_at(memcache_path(GOOD, &blob, "map"));
	expect_lock(F_UNLCK, 0, 0, 0);
	cache_map_set_hook(p.b->own, expect_lock_then, NULL);
	cache_map_drop(p.b->own, 3);
	expect_lock(F_UNLCK, 0, 0, 0);
	assert_int_equal(cachelib_publish(p.b, &blob, 3), 0);
	expect_lock(F_UNLCK, 0, 0, 0);
	assert_int_equal(cache_map_evict(p.b->own, 3), CHUNK);
	expect_lock(F_UNLCK, 0, 0, 0);
	cache_map_set_hook(p.b->own, NULL, NULL);
	for (byte = 0; byte < 10; byte++) {
		uint64_t off = CACHE_MAP_HEADER + 8 * 3 + byte - 1, then = clock_ms();
		bool within = byte >= 1 && byte <= 8;

		assert_int_equal(memdisk_ops.lock(outside, F_WRLCK, off, 1), 0);
		assert_int_equal(cachelib_publish(p.b, &blob, 3), within ? -EBUSY : 0);
		assert_int_equal(clock_ms() - then, within ? 20 : 0);
		assert_int_equal(memdisk_ops.lock(outside, F_UNLCK, off, 1), 0);
		cache_blob_drop(p.b, 3 * CHUNK, 1);
	}
	look_away();
	memcache_leave(&p);
}

static void of_the_folder(void **state)
{
	look_at(DIR "/v1/lock");
	expect_lock(F_UNLCK, 0, 0, 0);
	assert_int_equal(cache_evict_recount(p.c, false, NULL), 0);
	expect_lock(F_UNLCK, 0, 0, 0);
	/* Its first byte is the right to evict, and no other is. */
	assert_int_equal(memdisk_ops.lock(outside, F_WRLCK, 1, 100), 0);
	assert_int_equal(cache_evict_recount(p.c, false, NULL), 0);
	assert_int_equal(memdisk_ops.lock(outside, F_UNLCK, 0, 0), 0);
	assert_int_equal(memdisk_ops.lock(outside, F_RDLCK, 0, 1), 0);
	assert_int_equal(cache_evict_recount(p.c, false, NULL), -EAGAIN);
	look_away();
	assert_int_equal(cache_evict_recount(p.c, false, NULL), 0);
	memcache_leave(&p);
}

/* ---- how long ---- */

/* Who holds a chunk is waited for 20 ms by who fills or drops it, not at all by who evicts. */
static void patience(void **state)
{
	uint64_t then;

	cachelib_publish_all(p.b, &blob);
	look_at(memcache_path(GOOD, &blob, "map"));
	assert_int_equal(memdisk_ops.lock(outside, F_WRLCK, CACHE_MAP_HEADER + 8 * 5, 8), 0);
	then = clock_ms();
	assert_int_equal(cache_map_evict(p.b->own, 5), 0);
	assert_int_equal(clock_ms(), then);
	assert_int_equal(cache_map_evict(p.b->own, 4), CHUNK);
	cache_map_drop(p.b->own, 5);
	assert_int_equal(clock_ms() - then, 20);
	assert_false(cache_blob_has(p.b, 5));
	look_away();
	memdisk_fail(MEMDISK_LOCK, 1, EIO, false);
	assert_int_equal(cachelib_publish(p.b, &blob, 4), -EIO);
	assert_int_equal(clock_ms() - then, 20);
	/* Nobody is left with the mutex. */
	pthread_mutex_lock(&p.b->own->mutexes[4]);
	assert_int_equal(cache_map_evict(p.b->own, 4), 0);
	pthread_mutex_unlock(&p.b->own->mutexes[4]);
	memcache_leave(&p);
}

/* Each mutex is of every 16th chunk. */
static void mutexes(void **state)
{
	struct process q = memcache_use_zeros(2, 40, 40);
	unsigned held, i;

	for (held = 0; held < 16; held++) {
		pthread_mutex_lock(&q.b->own->mutexes[held]);
		for (i = 0; i < 40; i++) {
			bool there = cache_blob_has(q.b, i);

			assert_int_equal(cache_map_evict(q.b->own, i) > 0, there && i % 16 != held);
		}
		pthread_mutex_unlock(&q.b->own->mutexes[held]);
		for (i = 0; i < 40; i++)
			assert_int_equal(cache_blob_publish(q.b, i, memcache_zeros), 0);
	}
	memcache_leave(&q);
	memcache_leave(&p);
}

/* ---- how often ---- */

static uint64_t reads, changes; /* of the data; how many more of them find the chunk changed */
static uint64_t which; /* chunk */

static int change_before_read(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	if (op != MEMDISK_PREAD)
		return 0;
	reads++;
	if (changes > 0) {
		changes--;
		memdisk_set_hook(NULL, NULL);
		cache_map_drop(p.b->own, which);
		assert_int_equal(cachelib_publish(p.b, &blob, which), 0);
		memdisk_set_hook(change_before_read, NULL);
	}
	return 0;
}

/* A chunk that keeps changing is tried eight times in a row, whether it was verified or not. */
static void tries(void **state)
{
	static const struct {
		unsigned changes, reads;
		bool found;
	} rows[] = {
		{ 0, 1, true }, { 1, 2, true }, { 7, 8, true }, { 8, 8, false }, { 20, 8, false }
	};
	uint8_t got[CHUNK];
	size_t i;

	cachelib_publish_all(p.b, &blob);
	which = 2;
	for (i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		size_t n;

		if (i % 2)
			assert_int_equal(cachelib_look(p.b, &blob, 2), 1);
		reads = 0;
		changes = rows[i / 2].changes;
		memdisk_set_hook(change_before_read, NULL);
		n = cache_map_read(p.b->own, got, CHUNK, 2 * CHUNK, CACHE_MAP_TOUCH);
		memdisk_set_hook(NULL, NULL);
		assert_int_equal(n, rows[i / 2].found ? CHUNK : 0);
		assert_int_equal(reads, rows[i / 2].reads);
	}
	assert_int_equal(cache_blob_bad_chunks(p.b), 0);
	memcache_leave(&p);
}

static int change_each(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	int r = change_before_read(arg, op, process, name);

	if (op == MEMDISK_PREAD && changes == 0) {
		changes = 5;
		which++;
	}
	return r;
}

/* The tries are those of a chunk, not of the read. */
static void tries_of_each(void **state)
{
	uint8_t got[4 * CHUNK];

	cachelib_publish_all(p.b, &blob);
	which = 1;
	changes = 5;
	reads = 0;
	memdisk_set_hook(change_each, NULL);
	assert_int_equal(cache_map_read(p.b->own, got, 4 * CHUNK, CHUNK, CACHE_MAP_TOUCH),
			 4 * CHUNK);
	memdisk_set_hook(NULL, NULL);
	assert_true(reads > 8);
	memcache_leave(&p);
}

/* What was verified is read 64 chunks at a time. */
static void at_once(void **state)
{
	enum { MANY = 200 };
	struct process q = memcache_use_zeros(2, MANY, MANY);
	uint8_t *got = malloc(MANY * CHUNK);
	static const struct {
		uint64_t off, n;
		unsigned reads;
	} rows[] = { { 0, 64 * CHUNK, 1 },	{ 0, 64 * CHUNK + 1, 2 },
		     { 5, 64 * CHUNK, 2 },	{ 5, 64 * CHUNK - 5, 1 },
		     { CHUNK, 128 * CHUNK, 2 }, { 0, MANY * CHUNK, 4 },
		     { 199 * CHUNK, CHUNK, 1 }, { 199 * CHUNK, 5 * CHUNK, 1 } };
	size_t i;

	assert_non_null(got);
	assert_int_equal(cache_blob_read(q.b, got, MANY * CHUNK, 0), MANY * CHUNK);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_t before = memdisk_calls(MEMDISK_PREAD);
		uint64_t all = MANY * CHUNK - rows[i].off;

		assert_int_equal(cache_blob_read(q.b, got, rows[i].n, rows[i].off),
				 rows[i].n < all ? rows[i].n : all);
		assert_int_equal(memdisk_calls(MEMDISK_PREAD) - before, rows[i].reads);
	}
	free(got);
	memcache_leave(&q);
	memcache_leave(&p);
}

/* Data that cannot be read any more, though they were verified: the chunks are found bad, each
 * by itself. */
static void unreadable(void **state)
{
	uint8_t got[3 * CHUNK];

	cachelib_publish_all(p.b, &blob);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memdisk_fail(MEMDISK_PREAD, 1, EIO, false);
	assert_int_equal(cache_blob_read(p.b, got, 3 * CHUNK, 2 * CHUNK), 3 * CHUNK);
	assert_int_equal(cache_blob_bad_chunks(p.b), 0); /* it was only once */
	memdisk_fail(MEMDISK_PREAD, 1, EIO, true);
	assert_int_equal(cache_blob_read(p.b, got, 3 * CHUNK, 2 * CHUNK), 0);
	memdisk_heal();
	assert_int_equal(cache_blob_bad_chunks(p.b), 1);
	assert_false(cache_blob_has(p.b, 2));
	assert_true(cache_blob_has(p.b, 3));
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS - 1);
	/* No bytes for want of memory or descriptors are no bad bytes. */
	memdisk_fail(MEMDISK_PREAD, 1, ENOMEM, true);
	assert_int_equal(cache_blob_read(p.b, got, CHUNK, 3 * CHUNK), 0);
	memdisk_heal();
	assert_int_equal(cache_blob_bad_chunks(p.b), 1);
	assert_int_equal(cachelib_look(p.b, &blob, 3), 1);
	memcache_leave(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(of_a_blob),     TEST(of_a_chunk), TEST(of_the_folder),
		TEST(patience),	     TEST(mutexes),    TEST(tries),
		TEST(tries_of_each), TEST(at_once),    TEST(unreadable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
