/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_rot.c - bytes that change on the disk, files that are another's, stores that need a
 * block, wholes that are wrong: invariants 1, 4, 5, 10, 11 and 12, each named in its test.  On a
 * disk in memory, with a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "fetch/cache_limit.h"
#include "fetch/cache_whole.h"
#include "tests/unit/memcache.h"

enum { CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000, MAP_BYTES = 4096 + 8 * CHUNKS };

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

static struct process use_full(unsigned number, const char *origin)
{
	struct process p = use(number, origin);

	cachelib_publish_all(p.b, &blob);
	return p;
}

static int verify(struct process *p)
{
	struct err e;

	memdisk_as(p->number);
	return cache_blob_verify(p->b, &e);
}

/* ---- (4): a disk that rots under a running server ---- */

static void rot(const char *origin, uint64_t chunk)
{
	memcache_flip(memcache_path(origin, &blob, "data"), chunk * CACHE_CHUNK + 77);
}

/* A chunk is checked when it is read first, and again once that was a minute ago. */
static void rechecked(void **state)
{
	struct process p = use_full(1, GOOD);

	memcache_us = UINT64_C(2000000000);
	assert_int_equal(cachelib_look(p.b, &blob, 3), 1);
	rot(GOOD, 3);
	memcache_sleep(60 * 1000 - 1);
	assert_int_equal(cachelib_look(p.b, &blob, 3), -1); /* what is bought by not checking */
	memcache_sleep(1);
	assert_int_equal(cachelib_look(p.b, &blob, 3), 0);
	assert_int_equal(cache_blob_bad_chunks(p.b), 1);
	assert_false(cache_blob_has(p.b, 3));
	assert_int_equal(cachelib_publish(p.b, &blob, 3), 0);
	assert_int_equal(cachelib_look(p.b, &blob, 3), 1);
	/* A check that was good counts for another minute. */
	memcache_sleep(61 * 1000);
	assert_int_equal(cachelib_look(p.b, &blob, 4), 1);
	rot(GOOD, 4);
	memcache_sleep(50 * 1000);
	assert_int_equal(cachelib_look(p.b, &blob, 4), -1);
	memcache_leave(&p);
}

static void rechecked_always(void **state)
{
	struct process p = use_full(1, GOOD);

	cache_set_recheck(p.c, 0);
	assert_int_equal(cachelib_look(p.b, &blob, 3), 1);
	rot(GOOD, 3);
	assert_int_equal(cachelib_look(p.b, &blob, 3), 0);
	memcache_leave(&p);
}

static void rechecked_never(void **state)
{
	struct process p = use_full(1, GOOD);

	cache_set_recheck(p.c, CACHE_RECHECK_NEVER);
	assert_int_equal(cachelib_look(p.b, &blob, 3), 1);
	rot(GOOD, 3);
	memcache_sleep(1000000 * (uint64_t)1000);
	assert_int_equal(cachelib_look(p.b, &blob, 3), -1);
	memcache_leave(&p);
}

/* The whole is hashed as it lies on the disk: what rotted since it was read is fetched again, and
 * the registry is not blamed for it. */
static void rot_is_not_the_registrys(void **state)
{
	struct process p = use_full(1, GOOD);

	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	rot(GOOD, 5);
	assert_int_equal(verify(&p), 1);
	assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
	assert_int_equal(cache_blob_bad_chunks(p.b), 1);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS - 1);
	assert_int_equal(cachelib_publish(p.b, &blob, 5), 0);
	assert_int_equal(verify(&p), 0);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	memcache_leave(&p);
}

/* (11) The same of v1/sha256: the whole is no more than its chunks. */
static void rot_in_shared(void **state)
{
	struct process p = use_full(1, GOOD);

	assert_int_equal(verify(&p), 0);
	assert_int_equal(cachelib_look(p.b, &blob, 2), 1);
	rot(NULL, 2);
	memcache_sleep(61 * 1000);
	assert_int_equal(cachelib_look(p.b, &blob, 2), 0);
	assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
	cache_keep_once(p.c);
	assert_int_equal(cachelib_publish(p.b, &blob, 2), 0);
	assert_int_equal(verify(&p), 0);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memcache_leave(&p);
}

/* ---- (11): a whole is brought to the disk before it moves ---- */

static void synced(void **state)
{
	struct process p = use_full(1, GOOD);

	assert_int_equal(memdisk_calls(MEMDISK_DATASYNC), 1); /* limits */
	assert_int_equal(verify(&p), 0);
	assert_int_equal(memdisk_syncs(memcache_path(NULL, &blob, "data")), 1);
	assert_int_equal(memdisk_syncs(memcache_path(NULL, &blob, "map")), 1);
	memcache_leave(&p);
}

/* And not called whole where that failed, for either file. */
static void not_synced(void **state)
{
	uint64_t k;

	for (k = 1; k <= 2; k++) {
		struct process p;

		memdisk_make(0);
		p = use_full(1, GOOD);
		memdisk_fail(MEMDISK_DATASYNC, k, EIO, false);
		assert_int_equal(verify(&p), -EIO);
		assert_int_equal(cache_blob_state(p.b), CACHE_PARTIAL);
		assert_true(memdisk_exists(memcache_path(GOOD, &blob, "data")));
		assert_int_equal(verify(&p), 0);
		memcache_leave(&p);
	}
}

/* ---- (1): a store that needs a block on a full disk ---- */

/* As a snapshot of the folder shares all blocks: nothing is stored that needs one, nobody dies. */
static void shared_blocks(void **state)
{
	struct process p = use(1, GOOD);
	uint64_t freed, usage;
	struct err e;

	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	assert_int_equal(cachelib_publish(p.b, &blob, 1), 0);
	memdisk_set_room(memdisk_used());
	memdisk_share(memcache_path(GOOD, &blob, "map"));
	memdisk_share(DIR "/v1/usage");
	assert_int_equal(cachelib_publish(p.b, &blob, 2), -ENOSPC);
	assert_int_equal(cachelib_look(p.b, &blob, 0), 1); /* without a mark */
	cache_blob_drop(p.b, 0, 1); /* its word stays, and is not believed any more */
	assert_int_equal(cachelib_look(p.b, &blob, 0), 0);
	assert_false(cache_blob_has(p.b, 0));
	assert_int_equal(cachelib_look(p.b, &blob, 1), 1);
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), 0);
	assert_int_equal(cache_put_document(p.c, GOOD, "latest", "x", 1, &e), -ENOSPC);
	cache_keep_once(p.c);
	assert_int_equal(warnings, 1);
	memdisk_set_room(0);
	memcache_sleep(60 * 1000);
	assert_int_equal(cachelib_publish(p.b, &blob, 2), 0);
	assert_int_equal(cachelib_look(p.b, &blob, 2), 1);
	usage = cache_usage(p.c);
	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0); /* in its place */
	assert_int_equal(cachelib_look(p.b, &blob, 0), 1);
	assert_int_equal(cache_usage(p.c), usage);
	memcache_leave(&p);
}

/* (7) Who refuses a chunk and fetches it again must not harm those who still take the old one. */
static void refused_and_fetched_again(void **state)
{
	struct process p = use(1, GOOD), q;

	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	q = use(2, GOOD);
	assert_int_equal(cachelib_look(q.b, &blob, 0), 1);
	memdisk_set_room(memdisk_used());
	memdisk_share(memcache_path(GOOD, &blob, "map"));
	memdisk_as(1);
	cache_blob_drop(p.b, 0, 1);
	assert_int_equal(cachelib_publish(p.b, &blob, 0), -ENOSPC);
	memdisk_as(2);
	assert_int_not_equal(cachelib_look(q.b, &blob, 0), -1); /* zeros */
	memcache_leave(&p);
	memcache_leave(&q);
}

/* The check of a whole seals it, and ends where it cannot. */
static void shared_blocks_of_a_whole(void **state)
{
	struct process p = use_full(1, GOOD);

	memdisk_set_room(memdisk_used());
	memdisk_share(memcache_path(GOOD, &blob, "map"));
	assert_int_equal(verify(&p), -ENOSPC);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memdisk_set_room(0);
	assert_int_equal(verify(&p), 0);
	memcache_leave(&p);
}

/* A copy that shares its blocks with the first gets its own when it is opened. */
static void unshared_when_opened(void **state)
{
	struct process p = use_full(1, GOOD);

	memcache_leave(&p);
	memdisk_share(memcache_path(GOOD, &blob, "map"));
	p = use(1, GOOD);
	assert_int_equal(memdisk_calls(MEMDISK_UNSHARE) > 0, 1);
	memdisk_set_room(memdisk_used());
	cache_blob_drop(p.b, 0, 1); /* needs no new block now */
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS - 1);
	memcache_leave(&p);
}

/* ---- files of another's ---- */

/* A second name elsewhere: nothing is written through it, the cache makes a file of its own. */
static void hard_links(void **state)
{
	static const char *const names[] = { "data", "map", "lock" };
	uint8_t before[8], after[8];
	size_t i;

	for (i = 0; i < 3; i++) {
		struct process p;

		memdisk_make(0);
		warnings = 0;
		p = use_full(1, GOOD);
		memcache_leave(&p);
		memdisk_link(memcache_path(GOOD, &blob, names[i]), "/mine");
		memset(before, 0, sizeof before);
		if (memdisk_size("/mine") >= sizeof before)
			memdisk_peek("/mine", 0, before, sizeof before);
		p = use(1, GOOD);
		cachelib_publish_all(p.b, &forged);
		cachelib_publish_all(p.b, &blob);
		memset(after, 0, sizeof after);
		if (memdisk_size("/mine") >= sizeof after)
			memdisk_peek("/mine", 0, after, sizeof after);
		assert_memory_equal(before, after, sizeof before);
		assert_int_equal(warnings, 1);
		assert_non_null(strstr(last_warning, "has another name too (a hard link)"));
		memcache_leave(&p);
	}
}

/* The folder's own two as well. */
static void hard_links_of_the_folder(void **state)
{
	static const char *const names[] = { DIR "/v1/usage", DIR "/v1/lock" };
	uint8_t bytes[64] = { 0 }, got[64];
	size_t i;

	for (i = 0; i < 2; i++) {
		struct process p;

		memdisk_make(0);
		p = use_full(1, GOOD);
		memcache_leave(&p);
		memdisk_link(names[i], "/mine");
		memset(bytes, 0xab, sizeof bytes);
		memdisk_poke("/mine", 0, bytes, sizeof bytes);
		p = use_full(1, EVIL);
		cache_keep_once(p.c);
		memdisk_peek("/mine", 0, got, sizeof got);
		assert_memory_equal(bytes, got, sizeof got);
		memcache_leave(&p);
	}
}

/* A file system on which holes are none holds no cache. */
static void without_holes(void **state)
{
	struct cache *c;
	struct err e;

	memdisk_set_punches(false);
	assert_int_equal(cache_open_on(&memdisk_ops, DIR, 0, &c, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "the file system punches no holes"));
	memdisk_set_punches(true);
	memdisk_set_type(0x2fc12fc1); /* zfs */
	assert_int_equal(cache_open_on(&memdisk_ops, DIR, 0, &c, &e), -EOPNOTSUPP);
	assert_non_null(strstr(e.msg, "type 0x2fc12fc1 is not known"));
}

/* ---- (10), (12): a whole in two folders ---- */

/* Evicts these chunks of v1/sha256. */
static void punch_shared(struct process *p, uint64_t first, uint64_t count)
{
	uint64_t i;

	for (i = first; i < first + count; i++)
		cache_map_drop(p->b->shared, i);
	cache_keep_once(p->c);
}

/* One piece of the digest lies partly in each: all of it is hashed, in its place. */
static void whole_of_both(void **state)
{
	static const uint64_t cuts[][2] = { { 0, 3 }, { 3, 2 }, { 5, 3 }, { 7, 1 }, { 1, 6 } };
	size_t i;

	for (i = 0; i < sizeof cuts / sizeof *cuts; i++) {
		struct process p;
		uint64_t k;

		memdisk_make(0);
		p = use_full(1, GOOD);
		assert_int_equal(verify(&p), 0);
		punch_shared(&p, cuts[i][0], cuts[i][1]);
		assert_non_null(p.b->own);
		for (k = cuts[i][0]; k < cuts[i][0] + cuts[i][1]; k++)
			assert_int_equal(cachelib_publish(p.b, &blob, k), 0);
		assert_int_equal(verify(&p), 0);
		assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
		assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
		memcache_leave(&p);
	}
}

/* A piece of the digest that lies in both takes no more than its own bytes from either, though what
 * follows on it is there too: it would not fit behind them. */
static void pieces_of_both_end_in_time(void **state)
{
	enum { MANY = 1024 * 1024 / CACHE_CHUNK + 2 }; /* more than one piece */
	const struct test_blob large = cachelib_blob(2, MANY * (uint64_t)CACHE_CHUNK);
	struct process p = memcache_use(1, GOOD, &large, 0);
	char digest[DIGEST_ANY_TEXT];
	uint64_t i, reads;
	struct err e;

	cachelib_publish_all(p.b, &large);
	assert_int_equal(verify(&p), 0);
	punch_shared(&p, 1, MANY - 1);
	assert_non_null(p.b->own);
	for (i = 1; i < MANY; i++)
		assert_int_equal(cachelib_publish(p.b, &large, i), 0);
	for (i = 0; i < 2; i++) {
		const struct cache_whole whole = { .levels = { i == 0 ? p.b->own : p.b->shared,
							       i == 0 ? p.b->shared : p.b->own } };

		reads = memdisk_calls(MEMDISK_PREAD);
		assert_int_equal(cache_whole_digest(&whole, large.digest, large.size, digest, &e),
				 0);
		assert_string_equal(digest, large.digest);
		assert_int_equal(memdisk_calls(MEMDISK_PREAD) - reads, MANY);
	}
	memcache_leave(&p);
}

/* What an origin adds is wrong: its folder is emptied, v1/sha256 spared. */
static void wrong_part_of_own(void **state)
{
	struct process p = use_full(1, GOOD);

	assert_int_equal(verify(&p), 0);
	punch_shared(&p, 2, 2);
	assert_int_equal(cachelib_publish(p.b, &blob, 2), 0);
	assert_int_equal(cachelib_publish(p.b, &forged, 3), 0);
	assert_int_equal(verify(&p), -EBADMSG);
	assert_int_equal(cache_blob_state(p.b), CACHE_WRONG);
	assert_int_equal(cache_map_present(p.b->own), 0);
	assert_int_equal(cache_map_present(p.b->shared), SIZE - 2 * CACHE_CHUNK);
	/* All came right the second time. */
	assert_int_equal(cachelib_publish(p.b, &blob, 2), 0);
	assert_int_equal(cachelib_publish(p.b, &blob, 3), 0);
	assert_int_equal(verify(&p), 0);
	memcache_leave(&p);
}

/* v1/sha256 itself is wrong (with right CRCs), and there is nothing in the origin's folder. */
static void wrong_shared(void **state)
{
	struct process p = use_full(1, GOOD);
	uint8_t chunk[CACHE_CHUNK];

	assert_int_equal(verify(&p), 0);
	cache_map_drop(p.b->shared, 4);
	cachelib_chunk(&forged, 4, chunk);
	assert_int_equal(cache_map_publish(p.b->shared, 4, chunk, true), 0);
	assert_null(p.b->own);
	assert_int_equal(verify(&p), -EBADMSG);
	assert_int_equal(cache_blob_state(p.b), CACHE_WRONG);
	assert_int_equal(cache_map_present(p.b->shared), 0);
	memcache_leave(&p);
}

/* The same with a folder of the origin's that is made, but empty. */
static void wrong_shared_beside_an_empty_own(void **state)
{
	struct process p = use_full(1, GOOD);
	uint8_t chunk[CACHE_CHUNK];

	assert_int_equal(verify(&p), 0);
	punch_shared(&p, 4, 1);
	assert_non_null(p.b->own);
	cachelib_chunk(&forged, 4, chunk);
	assert_int_equal(cache_map_make(p.b->own, NULL), 0);
	assert_int_equal(cache_map_publish(p.b->shared, 4, chunk, true), 0);
	assert_int_equal(verify(&p), -EBADMSG);
	assert_int_equal(cache_map_present(p.b->shared), 0);
	memcache_leave(&p);
}

/* What came of a wrong blob that was not fetched as a whole again stays for others who do that, and
 * goes when nobody has it open any more. */
static void not_mended(void **state)
{
	struct process a = use(1, GOOD), b;

	cachelib_publish_all(a.b, &forged);
	assert_int_equal(verify(&a), -EBADMSG);
	assert_int_equal(cachelib_publish(a.b, &forged, 0), 0);
	b = use(2, GOOD);
	assert_int_equal(cache_blob_state(b.b), CACHE_WRONG);
	assert_int_equal(cachelib_publish(b.b, &forged, 5), 0);
	memcache_leave(&a);
	assert_int_equal(cachelib_count(b.b, &forged), 2);
	memcache_leave(&b);
	a = use(1, GOOD);
	assert_int_equal(cache_blob_state(a.b), CACHE_PARTIAL);
	assert_int_equal(cachelib_count(a.b, &forged), 0);
	memcache_leave(&a);
}

/* ---- (5), (10): who died while it checked ---- */

static unsigned pieces;

static int kill_at_piece(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	if (op == MEMDISK_PREAD && process == 1 && --pieces == 0)
		memdisk_kill(1);
	return 0;
}

/* Its seal is broken by the next, who does not keep the right to check for itself. */
static void died_checking(void **state)
{
	struct process a = use_full(1, GOOD), b, c;

	pieces = 3;
	memdisk_set_hook(kill_at_piece, NULL);
	(void)verify(&a);
	memdisk_set_hook(NULL, NULL);
	memcache_leave(&a);
	b = use(2, GOOD);
	assert_false(cache_blob_is_sealed(b.b));
	c = use(3, GOOD);
	assert_int_equal(verify(&c), 0);
	assert_int_equal(cache_blob_state(c.b), CACHE_WHOLE);
	memcache_leave(&c);
	memcache_leave(&b);
}

/* ---- a folder that others remove meanwhile ---- */

static int remove_map(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	const char *path = arg;

	/* Once it is open, and before anything is known about it. */
	if (op == MEMDISK_STAT && memdisk_exists(path) && pieces++ == 0)
		(void)memdisk_ops.unlink(AT_FDCWD, path);
	return 0;
}

/* A map that has lost its name is none: nobody would see what is stored there. */
static void removed_while_opened(void **state)
{
	const struct cache_file top = { &memdisk_ops, AT_FDCWD };
	static _Atomic uint64_t bad;
	struct process p = use_full(1, GOOD);
	const struct cache_map_counters counters = { p.c->usage, &bad, NULL };
	char path[512];
	struct cache_map *m;
	unsigned k, stale = 0;
	struct err e;

	snprintf(path, sizeof path, "%s", memcache_path(GOOD, &blob, NULL));
	cache_blob_close(p.b);
	for (k = 0; k < 6; k++) {
		char map[600];
		int r;

		p.b = NULL;
		assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
		cache_blob_close(p.b);
		snprintf(map, sizeof map, "%s/map", path);
		pieces = 0u - k; /* at the kth look at an open file */
		memdisk_set_hook(remove_map, map);
		r = cache_map_open(top, path, blob.digest, SIZE, false, &counters, &m, &e);
		memdisk_set_hook(NULL, NULL);
		stale += r == -ESTALE;
		if (r == 0)
			cache_map_close(m);
	}
	assert_true(stale > 0);
	cache_close(p.c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(rechecked),
		TEST(rechecked_always),
		TEST(rechecked_never),
		TEST(rot_is_not_the_registrys),
		TEST(rot_in_shared),
		TEST(synced),
		TEST(not_synced),
		TEST(shared_blocks),
		TEST(refused_and_fetched_again),
		TEST(shared_blocks_of_a_whole),
		TEST(unshared_when_opened),
		TEST(hard_links),
		TEST(hard_links_of_the_folder),
		TEST(without_holes),
		TEST(whole_of_both),
		TEST(pieces_of_both_end_in_time),
		TEST(wrong_part_of_own),
		TEST(wrong_shared),
		TEST(wrong_shared_beside_an_empty_own),
		TEST(not_mended),
		TEST(died_checking),
		TEST(removed_while_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
