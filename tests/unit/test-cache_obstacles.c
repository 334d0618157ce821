/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_obstacles.c - what lies in the way of a blob's folder, what its map says, and what
 * others do with both levels and with claims meanwhile.  On a disk in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "fetch/cache_map_internal.h"
#include "tests/unit/memcache.h"

enum { CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000 };

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

static int verify(struct process *p, struct err *e)
{
	memdisk_as(p->number);
	return cache_blob_verify(p->b, e);
}

/* DIR/v1/PLACE of an origin. */
static const char *place_of(const char *origin)
{
	static char path[256];
	char place[CACHE_PLACE];

	assert_int_equal(cache_hash(origin, strlen(origin), place, NULL), 0);
	snprintf(path, sizeof path, DIR "/v1/%s", place);
	return path;
}

/* ---- what lies in the way ---- */

/* The origin's folder is a file: it is discarded once. */
static void place_is_a_file(void **state)
{
	struct process p;
	struct err e;

	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	memcache_make_file(place_of(GOOD), "x");
	assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, ": not a folder; it is discarded"));
	cachelib_publish_all(p.b, &blob);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memcache_leave(&p);
	warnings = 0;
	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	memcache_on(MEMDISK_OPEN, blob.digest, 1, NULL, -ELOOP); /* a link in the blob's place */
	assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
	memdisk_set_hook(NULL, NULL);
	memcache_leave(&p);
}

/* The origin's folder cannot be made: that is told as it is, and nothing is kept for now. */
static void place_cannot_be_made(void **state)
{
	struct process p;
	struct err e;

	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	memdisk_fail(MEMDISK_MAKE_FOLDER, 1, EACCES, false);
	assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "creating the folder "));
	assert_non_null(strstr(last_warning, ": Permission denied; nothing more is kept"));
	assert_false(cache_is_filling(p.c));
	memcache_sleep(60 * 1000);
	keep(&p);
	cachelib_publish_all(p.b, &blob);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memcache_leave(&p);
}

/* What is no file, by each way of saying so. */
static void not_a_file(void **state)
{
	static const struct {
		int error;
		bool discarded;
	} rows[] = { { ELOOP, true }, { EISDIR, true }, { ENXIO, true }, { EACCES, false } };
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct process p;
		struct err e;
		int r;

		memdisk_make(0);
		warnings = 0;
		p = use(1, GOOD);
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
		memcache_leave(&p);
		assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
		memcache_on(MEMDISK_OPEN, "map", 1, NULL, -rows[i].error);
		r = memcache_open_blob(&p, GOOD, &blob, &e);
		memdisk_set_hook(NULL, NULL);
		assert_int_equal(warnings, 1);
		assert_int_equal(strstr(last_warning, "it is discarded") != NULL,
				 rows[i].discarded);
		assert_int_equal(r, 0);
		assert_int_equal(memdisk_exists(memcache_path(GOOD, &blob, "map")),
				 !rows[i].discarded);
		memcache_leave(&p);
	}
}

/* A map that appears under a user who has none yet, and is none: discarded when it is looked at. */
static void appears_damaged(void **state)
{
	struct process p = use(1, GOOD);

	memcache_make_file(memcache_path(GOOD, &blob, "map"), "no map");
	memcache_sleep(1);
	keep(&p);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "map of 6 bytes; it is discarded"));
	cachelib_publish_all(p.b, &blob);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memcache_leave(&p);
}

/* A header whose CRC is right and that says something else. */
static void other_headers(void **state)
{
	static const struct {
		unsigned at; /* a 32-bit number there .. */
		uint32_t value; /* .. is this */
		const char *text;
	} rows[] = {
		{ 8, 2, "map of version 2 with chunks of 16384 bytes" },
		{ 12, 32768, "map of version 1 with chunks of 32768 bytes" },
		{ 20, 256, "map of 4160 bytes for a blob of 1099511743464" },
	};
	const size_t at = 24 + DIGEST_TEXT;
	uint8_t raw[CACHE_MAP_HEADER];
	char path[600];
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct process p;

		memdisk_make(0);
		warnings = 0;
		p = use(1, GOOD);
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
		memcache_leave(&p);
		snprintf(path, sizeof path, "%s", memcache_path(GOOD, &blob, "map"));
		memdisk_peek(path, 0, raw, sizeof raw);
		le32_put(raw + rows[i].at, rows[i].value);
		le32_put(raw + at, crc32c_raw(CACHE_MAP_SEED, raw, at));
		memdisk_poke(path, 0, raw, sizeof raw);
		p = use(1, GOOD);
		assert_int_equal(warnings, 1);
		if (!strstr(last_warning, rows[i].text))
			fail_msg("%s", last_warning);
		memcache_leave(&p);
	}
}

/* With less rights than when it was opened nobody knows whether it is still there: it is kept. */
static void who_knows(void **state)
{
	struct process p = use(1, GOOD);
	const struct cache_map *own = p.b->own;

	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	memcache_on(MEMDISK_STAT_AT, "map", 1, NULL, -EACCES);
	keep(&p);
	assert_int_equal(memcache_meanwhile.nth, 0);
	assert_ptr_equal(p.b->own, own);
	memcache_on(MEMDISK_STAT, "", 1, NULL, -EIO);
	memdisk_set_hook(NULL, NULL);
	memcache_rename_away(memcache_path(GOOD, &blob, NULL));
	keep(&p);
	assert_int_equal(cachelib_count(p.b, &blob), 0);
	memcache_leave(&p);
}

/* ---- the two levels ---- */

/* v1/sha256's copy comes and goes beside one's own, and what lies there is read, each from where it
 * is. */
static void shared_comes_and_goes(void **state)
{
	struct process p = use(1, GOOD), q = use(2, EVIL);
	uint64_t i;

	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	cachelib_publish_all(q.b, &blob);
	assert_int_equal(verify(&q, NULL), 0);
	for (i = 0; i < 3; i++)
		cache_map_drop(q.b->shared, i);
	keep(&p);
	assert_non_null(p.b->shared);
	assert_non_null(p.b->own);
	for (i = 0; i < CHUNKS; i++)
		assert_int_equal(cachelib_look(p.b, &blob, i), i == 0 || i > 2);
	assert_int_equal(cache_folder_remove(p.c->root, p.b->shared_path, NULL), 0);
	keep(&p);
	assert_null(p.b->shared);
	for (i = 0; i < CHUNKS; i++)
		assert_int_equal(cachelib_look(p.b, &blob, i), i == 0);
	memcache_leave(&q);
	memcache_leave(&p);
}

/* ---- claims ---- */

static struct process *claimer;

static void unclaim(void)
{
	cache_blob_unclaim(claimer->b, 0, 5, 0);
}

/* What is in the way may be gone when one looks who it was, and the look may fail. */
static void claims(void **state)
{
	struct process p = use(1, GOOD), q = use(2, GOOD);

	claimer = &q;
	memdisk_as(2);
	assert_int_equal(cache_blob_claim(q.b, 3, 2, 0), 2);
	memdisk_as(1);
	assert_int_equal(cache_blob_claim(p.b, 0, CHUNKS, 0), 3);
	cache_blob_unclaim(p.b, 0, 3, 0);
	assert_int_equal(cache_blob_claim(p.b, 3, 2, 0), 0);
	assert_int_equal(cache_blob_claim(p.b, 4, 2, 0), 0);
	memdisk_fail(MEMDISK_LOOK, 1, EIO, false);
	assert_int_equal(cache_blob_claim(p.b, 1, CHUNKS, 0), 2);
	cache_blob_unclaim(p.b, 1, 2, 0);
	memcache_on(MEMDISK_LOOK, "", 1, unclaim, 0);
	assert_int_equal(cache_blob_claim(p.b, 0, CHUNKS, 0), CHUNKS);
	memdisk_set_hook(NULL, NULL);
	memdisk_as(2);
	assert_int_equal(cache_blob_claim(q.b, 3, 2, 0), 0);
	assert_int_equal(cache_blob_claim(q.b, 3, 2, 1), 2);
	memcache_leave(&q);
	memcache_leave(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(place_is_a_file),
		TEST(place_cannot_be_made),
		TEST(not_a_file),
		TEST(appears_damaged),
		TEST(other_headers),
		TEST(who_knows),
		TEST(shared_comes_and_goes),
		TEST(claims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
