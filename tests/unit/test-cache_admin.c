/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_admin.c - documents; listing, verifying and dropping; what the dead leave behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "tests/unit/cache-users.h"

/* ---- documents ---- */

static void documents(void **state)
{
	struct cache *c = cachelib_open(0);
	char name[DIGEST_TEXT] = "sha256:", *text = NULL, path[256];
	uint64_t dropped;
	struct err e;
	size_t n;

	assert_int_equal(cache_hash("{}", 2, name + 7, &e), 0);
	assert_int_equal(cache_get_document(c, NULL, name, &text, &n, &e), -ENOENT);
	assert_int_equal(cache_put_document(c, NULL, name, "{}", 2, &e), 0);
	assert_int_equal(cache_get_document(c, NULL, name, &text, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_string_equal(text, "{}");
	free(text);
	assert_int_equal(cache_get_document(c, GOOD, name, &text, &n, &e), -ENOENT);
	snprintf(path, sizeof path, "%s/v1/sha256/documents/%s", folder, name);
	cachelib_flip(path, 1);
	assert_int_equal(cache_get_document(c, NULL, name, &text, &n, &e), -ENOENT);
	/* Any other name. */
	assert_int_equal(cache_put_document(c, GOOD, "../tag/\n", "one", 3, &e), 0);
	assert_int_equal(cache_put_document(c, GOOD, "../tag/\n", "second", 6, &e), 0);
	assert_int_equal(cache_put_document(c, EVIL, "../tag/\n", "", 0, &e), 0);
	assert_int_equal(cache_get_document(c, GOOD, "../tag/\n", &text, &n, &e), 0);
	assert_int_equal(n, 6);
	assert_string_equal(text, "second");
	free(text);
	assert_int_equal(cache_drop(c, NULL, GOOD, &dropped, &e), 0);
	assert_int_equal(cache_get_document(c, GOOD, "../tag/\n", &text, &n, &e), -ENOENT);
	assert_int_equal(cache_get_document(c, EVIL, "../tag/\n", &text, &n, &e), 0);
	free(text);
	assert_int_equal(cache_put_document(c, NULL, "x", "", (size_t)1 << 30, &e), -EFBIG);
	cache_close(c);
}

static void put_numbered(struct cache *c, unsigned i, size_t n)
{
	static const char bytes[8192];
	char name[8];
	struct err e;

	snprintf(name, sizeof name, "%u", i);
	assert_int_equal(cache_put_document(c, i % 2 ? GOOD : NULL, name, bytes, n, &e), 0);
	usleep(15000); /* a tick of the file system's clock, by which they are ordered */
}

/* They count, in blocks of 4 KiB, and the least recently used go when they are a sixteenth of what
 * may stay. */
static void many_documents(void **state)
{
	struct cache *c = cachelib_open(0);
	uint64_t freed;
	char *text;
	unsigned i;
	struct err e;
	size_t n;

	for (i = 0; i < 8; i++)
		put_numbered(c, i, 5000);
	put_numbered(c, 2, 10);
	assert_int_equal(atomic_load(c->usage), 15 * 4096);
	assert_int_equal(cache_usage(c), 15 * 4096);
	assert_int_equal(cache_get_document(c, NULL, "0", &text, &n, &e), 0);
	assert_int_equal(n, 5000);
	free(text);
	assert_int_equal(cache_prune(c, 1024 * 1024, &freed, &e), 0);
	assert_int_equal(freed, 0);
	/* 2 and 0 were used last. */
	assert_int_equal(cache_prune(c, 3 * 16 * 4096, &freed, &e), 0);
	assert_int_equal(freed, 12 * 4096);
	assert_int_equal(cache_usage(c), 3 * 4096);
	assert_int_equal(cache_get_document(c, NULL, "0", &text, &n, &e), 0);
	free(text);
	assert_int_equal(cache_get_document(c, GOOD, "7", &text, &n, &e), -ENOENT);
	assert_int_equal(cache_prune(c, 0, &freed, &e), 0);
	assert_int_equal(cache_usage(c), 0);
	cache_close(c);
}

/* ---- administration ---- */

static char listed[1024];

static int list_one(void *arg, const struct cache_entry *entry)
{
	size_t n = strlen(listed);

	snprintf(listed + n, sizeof listed - n, "%s %d %d/%d%s%s\n",
		 entry->origin ? entry->origin : "-", entry->digest[7] == blob.digest[7],
		 (int)entry->present, (int)entry->size, entry->whole ? " whole" : "",
		 entry->in_use ? " in use" : "");
	return ++*(int *)arg == 3 ? 7 : 0;
}

static void administration(void **state)
{
	struct user good, evil;
	struct cache *c;
	uint64_t checked, bad, dropped;
	int count = 0;
	struct err e = { "" };

	whole_in_shared(GOOD);
	c = cachelib_open(0);
	good = use(GOOD);
	cache_blob_drop(good.b, 0, 1); /* so that the next ones get folders of their own */
	evil = use(EVIL);
	assert_int_equal(cachelib_publish(evil.b, &blob, 0), 0);
	leave(&good);
	listed[0] = '\0';
	assert_int_equal(cache_list(c, list_one, &count, &e), 0);
	assert_string_equal(listed, "- 1 294913/311297 in use\n" EVIL " 1 16384/311297 in use\n");
	assert_int_equal(cache_verify_all(c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(checked, CHUNKS);
	assert_int_equal(bad, 0);
	assert_int_equal(cache_blob_verify(evil.b, &e), 0);
	leave(&evil);
	cachelib_flip(cachelib_path(NULL, &blob, "data"), SIZE - 1);
	assert_int_equal(cache_verify_all(c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(checked, CHUNKS);
	assert_int_equal(bad, 1);
	good = use(GOOD);
	cachelib_publish_all(good.b, &blob);
	assert_int_equal(cache_blob_verify(good.b, &e), 0);
	leave(&good);
	count = 0;
	listed[0] = '\0';
	assert_int_equal(cache_list(c, list_one, &count, &e), 0);
	assert_string_equal(listed, "- 1 311297/311297 whole\n");
	/* Damaged: listed as such, and dropped by verify. */
	cachelib_flip(cachelib_path(NULL, &blob, "map"), 0);
	count = 2;
	listed[0] = '\0';
	assert_int_equal(cache_list(c, list_one, &count, &e), 7);
	assert_string_equal(listed, "- 1 0/0\n");
	assert_int_equal(cache_verify_all(c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(bad, 1);
	assert_false(cachelib_exists(cachelib_path(NULL, &blob, NULL)));
	assert_int_equal(cache_drop(c, NULL, NULL, &dropped, &e), 0);
	assert_int_equal(dropped, 0);
	assert_int_equal(cache_usage(c), 0);
	cache_close(c);
}

/* A whole whose chunks all have the right CRC, but whose digest is another. */
static void wrong_whole(void **state)
{
	struct user u = use(GOOD);
	uint64_t checked, bad;
	char place[512];
	struct err e;

	cachelib_publish_all(u.b, &forged);
	cache_map_change_flags(u.b->own, CACHE_MAP_SEALED | CACHE_MAP_WHOLE, 0);
	leave(&u);
	snprintf(place, sizeof place, "%s", cachelib_path(GOOD, &blob, NULL));
	u.c = cachelib_open(0);
	assert_int_equal(rename(place, cachelib_path(NULL, &blob, NULL)), 0);
	assert_int_equal(cache_verify_all(u.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(bad, CHUNKS);
	assert_false(cachelib_exists(cachelib_path(NULL, &blob, NULL)));
	cache_close(u.c);
}

static void drops(void **state)
{
	struct test_blob second = cachelib_blob(6, SIZE);
	struct cache *c = cachelib_open(0);
	const char *const origins[] = { GOOD, EVIL };
	uint64_t dropped;
	struct err e;
	size_t i;

	for (i = 0; i < 4; i++) {
		struct cache_blob *b =
			cachelib_open_blob(c, origins[i % 2], i < 2 ? &blob : &second);

		assert_int_equal(cachelib_publish(b, i < 2 ? &blob : &second, 1), 0);
		cache_blob_close(b);
	}
	assert_int_equal(cache_usage(c), 4 * (MAP_BYTES + CACHE_CHUNK));
	assert_int_equal(cache_drop(c, blob.digest, EVIL, &dropped, &e), 0);
	assert_int_equal(dropped, 1);
	assert_true(cachelib_exists(cachelib_path(GOOD, &blob, NULL)));
	assert_false(cachelib_exists(cachelib_path(EVIL, &blob, NULL)));
	assert_int_equal(cache_drop(c, second.digest, NULL, &dropped, &e), 0);
	assert_int_equal(dropped, 2);
	assert_int_equal(cache_drop(c, NULL, "https://nobody/x", &dropped, &e), 0);
	assert_int_equal(dropped, 0);
	assert_int_equal(cache_drop(c, NULL, GOOD, &dropped, &e), 0);
	assert_int_equal(dropped, 1);
	assert_int_equal(cache_usage(c), 0);
	cache_close(c);
}

/* What a process that died while deleting left behind is swept up. */
static void leftovers(void **state)
{
	struct user u = use_made(GOOD);
	char path[128];
	uint64_t freed;
	struct err e;

	leave(&u);
	snprintf(path, sizeof path, "%s/v1/gone.1.2", folder);
	assert_int_equal(rename(cachelib_path(GOOD, &blob, NULL), path), 0);
	u.c = cachelib_open(0);
	assert_int_equal(cache_prune(u.c, 0, &freed, &e), 0);
	assert_false(cachelib_exists(path));
	/* So is a damaged one, when the hand comes by; counting leaves it alone. */
	u.b = cachelib_open_blob(u.c, EVIL, &blob);
	cachelib_publish_all(u.b, &blob);
	cache_blob_close(u.b);
	u.b = cachelib_open_blob(u.c, GOOD, &blob);
	assert_int_equal(cache_map_make(u.b->own, &e), 0);
	cachelib_flip(cachelib_path(EVIL, &blob, "map"), 0);
	assert_int_equal(cache_usage(u.c), MAP_BYTES);
	assert_int_equal(warnings, 0);
	assert_int_equal(cache_prune(u.c, 0, &freed, &e), 0);
	assert_int_equal(warnings, 1);
	assert_false(cachelib_exists(cachelib_path(EVIL, &blob, NULL)));
	leave(&u);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(documents),   TEST(many_documents), TEST(administration),
		TEST(wrong_whole), TEST(drops),		 TEST(leftovers),
	};

	make_blobs();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
