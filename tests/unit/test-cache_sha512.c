/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_sha512.c - a blob that is named by a sha512 is kept, judged, shared, counted, evicted
 * and dropped as any other, beside one of a sha256 with the same bytes.  On a disk in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "tests/unit/memcache.h"

enum { CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000, MAP_BYTES = 4096 + 8 * CHUNKS };

static struct test_blob blob, forged, shorter;

static int set_up(void **state)
{
	blob = cachelib_blob_like("sha512:", 1, SIZE);
	shorter = cachelib_blob(1, SIZE);
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

/* Right, it serves all origins and later processes; by its own digest, not by the other's. */
static void whole(void **state)
{
	struct process p = use(1, GOOD), q;

	assert_int_equal(strlen(blob.digest), DIGEST_ANY_TEXT - 1);
	assert_int_equal(cachelib_publish(p.b, &blob, 2), 0);
	memcache_leave(&p);
	p = use(1, GOOD);
	assert_int_equal(cachelib_count(p.b, &blob), 1);
	cachelib_publish_all(p.b, &blob);
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	assert_true(memdisk_exists(memcache_path(NULL, &blob, "data")));
	q = use(2, EVIL);
	assert_int_equal(cachelib_count(q.b, &blob), CHUNKS);
	memcache_leave(&q);
	q = memcache_use(2, EVIL, &shorter, 0);
	assert_int_equal(cachelib_count(q.b, &shorter), 0);
	memcache_leave(&q);
	memcache_leave(&p);
	assert_int_equal(warnings, 0);
}

static void wrong(void **state)
{
	struct process p = use(1, EVIL);

	cachelib_publish_all(p.b, &forged);
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_WRONG);
	assert_non_null(strstr(last_warning, "its bytes have the digest sha512:"));
	assert_false(memdisk_exists(memcache_path(NULL, &blob, NULL)));
	assert_int_equal(cachelib_count(p.b, &forged), 0);
	cachelib_publish_all(p.b, &blob);
	keep(&p);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	memcache_leave(&p);
}

static int note_entry(void *arg, const struct cache_entry *entry)
{
	unsigned *found = arg;

	assert_true(entry->whole);
	*found += strcmp(entry->digest, blob.digest) == 0 ? 1 : 0;
	*found += strcmp(entry->digest, shorter.digest) == 0 ? 10 : 0;
	return 0;
}

static void fill(const struct test_blob *t)
{
	struct process p = memcache_use(1, GOOD, t, 0);

	cachelib_publish_all(p.b, t);
	keep(&p);
	memcache_leave(&p);
}

static void looked_after(void **state)
{
	struct process p = { .number = 1 };
	uint64_t checked, bad, n;
	unsigned found = 0;
	struct err e;

	fill(&blob);
	fill(&shorter);
	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	assert_int_equal(cache_list(p.c, note_entry, &found, &e), 0);
	assert_int_equal(found, 11);
	assert_int_equal(cache_usage(p.c), 2 * (SIZE + MAP_BYTES));
	assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(checked, 2 * CHUNKS);
	assert_int_equal(bad, 0);
	assert_int_equal(cache_drop(p.c, blob.digest, NULL, &n, &e), 0);
	assert_int_equal(n, 1);
	found = 0;
	assert_int_equal(cache_list(p.c, note_entry, &found, &e), 0);
	assert_int_equal(found, 10);
	fill(&blob);
	assert_int_equal(cache_prune(p.c, 0, &n, &e), 0);
	assert_int_equal(n, 2 * SIZE);
	assert_int_equal(cache_usage(p.c), 0);
	cache_close(p.c);
}

/* One whose chunks are right by their CRCs, and whose whole is not: dropped altogether. */
static void verified(void **state)
{
	struct process p = { .number = 1 };
	uint8_t chunk[CACHE_CHUNK];
	uint64_t checked, bad;
	struct err e;

	fill(&blob);
	p = use(1, GOOD);
	cache_map_drop(p.b->shared, 4);
	cachelib_chunk(&forged, 4, chunk);
	assert_int_equal(cache_map_publish(p.b->shared, 4, chunk, true), 0);
	assert_int_equal(cache_map_change_flags(p.b->shared, CACHE_MAP_WHOLE, 0), 0);
	memcache_leave(&p);
	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(bad, CHUNKS);
	assert_false(memdisk_exists(memcache_path(NULL, &blob, NULL)));
	cache_close(p.c);
}

/* Its path is the longest that there is: it is found there, before it has a map and afterwards. */
static void stays_where_it_is(void **state)
{
	struct process p = use(1, GOOD);
	const struct cache_map *own = p.b->own;
	unsigned i;

	for (i = 0; i < 2; i++) {
		keep(&p);
		assert_ptr_equal(p.b->own, own);
		assert_int_equal(cachelib_publish(p.b, &blob, i), 0);
	}
	assert_int_equal(cachelib_count(p.b, &blob), 2);
	memcache_leave(&p);
}

/* A map under the name of a blob whose digest begins alike is another's. */
static void another_blobs_map(void **state)
{
	struct test_blob other = blob;
	struct process p;
	char path[512];
	uint8_t header[CACHE_MAP_HEADER];

	p = use(1, GOOD);
	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	memcache_leave(&p);
	other.digest[DIGEST_ANY_TEXT - 2] = blob.digest[DIGEST_ANY_TEXT - 2] == '0' ? '1' : '0';
	p = memcache_use(1, GOOD, &other, 0);
	assert_int_equal(cachelib_publish(p.b, &other, 0), 0);
	memcache_leave(&p);
	memdisk_peek(memcache_path(GOOD, &blob, "map"), 0, header, sizeof header);
	snprintf(path, sizeof path, "%s", memcache_path(GOOD, &other, "map"));
	memdisk_poke(path, 0, header, sizeof header);
	p = memcache_use(1, GOOD, &other, 0);
	assert_non_null(strstr(last_warning, "map of another blob"));
	assert_int_equal(cachelib_count(p.b, &other), 0);
	memcache_leave(&p);
}

static void documents(void **state)
{
	struct process p = { .number = 1 };
	char name[DIGEST_ANY_TEXT], path[512], *text;
	struct err e;
	size_t n;

	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	assert_int_equal(digest_bytes_like("sha512:", "{}", 2, name, &e), 0);
	assert_int_equal(cache_put_document(p.c, NULL, name, "{}", 2, &e), 0);
	assert_int_equal(cache_get_document(p.c, NULL, name, &text, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_string_equal(text, "{}");
	free(text);
	snprintf(path, sizeof path, DIR "/v1/" CACHE_SHARED "/" CACHE_DOCUMENTS "/%s", name);
	memcache_flip(path, 1);
	assert_int_equal(cache_get_document(p.c, NULL, name, &text, &n, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "it was damaged"));
	cache_close(p.c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(whole),
		TEST(wrong),
		TEST(looked_after),
		TEST(verified),
		TEST(another_blobs_map),
		TEST(stays_where_it_is),
		TEST(documents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
