/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_tools.c - what people do with a folder while it is used, or fails them: on a disk in
 * memory.  What they do when all is well is in test-cache_admin.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "tests/unit/memcache.h"

enum { CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000, DOCUMENT_MAX = 16 * 1024 * 1024 };

static struct test_blob blob;

static int set_up(void **state)
{
	blob = cachelib_blob(1, SIZE);
	return memcache_set_up(state);
}

static struct process use_full(void)
{
	struct process p = memcache_use(1, GOOD, &blob, 0);

	cachelib_publish_all(p.b, &blob);
	return p;
}

/* Verifying is no use: what nobody read goes first afterwards, as before. */
static void verifying_marks_nothing(void **state)
{
	struct process p = use_full();
	struct err e;
	uint64_t checked, bad, i, freed;

	for (i = 0; i < 4; i++)
		assert_int_equal(cachelib_look(p.b, &blob, i), 1);
	assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(checked, CHUNKS);
	assert_int_equal(cache_prune(p.c, atomic_load(p.c->usage) - 3 * CACHE_CHUNK, &freed, &e),
			 0);
	for (i = 0; i < 4; i++)
		assert_true(cache_blob_has(p.b, i));
	memcache_leave(&p);
}

static void add_bytes(void *arg, uint64_t bytes)
{
	*(uint64_t *)arg += bytes;
}

/* Progress hears of every byte: once of the chunks, and once more of a whole. */
static void progress(void **state)
{
	struct process p = use_full();
	uint64_t checked, bad, sum = 0;
	struct err e;

	assert_int_equal(cache_verify_all(p.c, add_bytes, &sum, &checked, &bad, &e), 0);
	assert_int_equal(sum, SIZE);
	assert_int_equal(cache_blob_verify(p.b, &e), 0);
	sum = 0;
	assert_int_equal(cache_verify_all(p.c, add_bytes, &sum, &checked, &bad, &e), 0);
	assert_int_equal(sum, 2 * SIZE);
	memcache_leave(&p);
}

/* What lies in a folder that an earlier version made, byte by byte: see cache_map.h. */
static void format_of_a_map(void **state)
{
	struct process p = use_full();
	const char *path = memcache_path(GOOD, &blob, "map");
	uint8_t raw[CACHE_MAP_HEADER + 8 * CHUNKS];
	uint8_t chunk[CACHE_CHUNK];

	assert_int_equal(memdisk_size(path), sizeof raw);
	memdisk_peek(path, 0, raw, sizeof raw);
	assert_memory_equal(raw, "obdcache", 8);
	assert_int_equal(le32_get(raw + 8), 1);
	assert_int_equal(le32_get(raw + 12), 16384);
	assert_int_equal(le64_get(raw + 16), SIZE);
	assert_memory_equal(raw + 24, blob.digest, DIGEST_TEXT);
	assert_int_equal(le32_get(raw + 24 + DIGEST_TEXT),
			 crc32c_raw(UINT32_MAX, raw, 24 + DIGEST_TEXT));
	assert_int_equal(le64_get(raw + 2048), 0);
	cachelib_chunk(&blob, 3, chunk);
	assert_int_equal(le64_get(raw + 4096 + 8 * 3), crc32c_raw(UINT32_MAX, chunk, sizeof chunk) |
							       (uint64_t)1 << 32 |
							       (uint64_t)1 << 34);
	memcache_leave(&p);
}

/* The check of a whole marks nothing either. */
static void checking_marks_nothing(void **state)
{
	struct process p = use_full();
	struct err e;
	uint64_t i, freed;

	for (i = 0; i < 4; i++)
		assert_int_equal(cachelib_look(p.b, &blob, i), 1);
	assert_int_equal(cache_blob_verify(p.b, &e), 0);
	assert_int_equal(cache_prune(p.c, atomic_load(p.c->usage) - 3 * CACHE_CHUNK, &freed, &e),
			 0);
	for (i = 0; i < 4; i++)
		assert_true(cache_blob_has(p.b, i));
	memcache_leave(&p);
}

/* A server evicts, and is frozen: pruning waits for it, not for ever; other things do not. */
static void who_waits(void **state)
{
	struct process p = use_full(), q = memcache_use(2, GOOD, &blob, 0);
	uint64_t freed, dropped, then;
	struct err e;

	assert_int_equal(cache_folder_lock(q.c->lock_file, F_WRLCK, 0, 1), 0);
	then = clock_ms();
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), -EAGAIN);
	assert_non_null(strstr(e.msg, "has been evicting for 30 s; it may be frozen"));
	assert_int_equal(clock_ms(), then + 30 * 1000);
	then = clock_ms();
	assert_int_equal(cache_evict_run(p.c, 0, 0, &freed, &e), -EAGAIN);
	assert_int_equal(clock_ms(), then);
	assert_int_equal(cache_evict_recount(p.c, true, &e), -EAGAIN);
	assert_int_equal(warnings, 0);
	then = clock_ms();
	assert_int_equal(cache_blob_hold(p.b, &e), 0); /* without being sure */
	assert_in_range(clock_ms(), then + 30 * 1000, then + 31 * 1000);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "it may be frozen; what is filled may not stay"));
	assert_int_equal(cache_evict_recount(p.c, false, &e), -EAGAIN);
	assert_string_equal(e.msg, "lock: Resource temporarily unavailable");
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	/* None of these needs the right, or waits for it. */
	then = clock_ms();
	assert_int_equal(cache_usage(p.c), atomic_load(p.c->usage));
	cache_set_limits(p.c, &(struct cache_limits){ CACHE_CHUNK, 0 });
	cache_keep_once(p.c);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	assert_int_equal(cache_drop(p.c, NULL, NULL, &dropped, &e), 0);
	assert_int_equal(dropped, 1);
	assert_int_equal(clock_ms(), then);
	/* A thread of this process that evicts is waited for by tools alone. */
	cache_folder_lock(q.c->lock_file, F_UNLCK, 0, 1);
	pthread_mutex_lock(&p.c->evicting);
	assert_int_equal(cache_evict_recount(p.c, false, &e), -EAGAIN);
	assert_string_equal(e.msg, "another thread evicts");
	pthread_mutex_unlock(&p.c->evicting);
	assert_int_equal(cache_evict_recount(p.c, false, &e), 0);
	memdisk_fail(MEMDISK_LOCK, 1, EIO, false);
	assert_int_equal(cache_evict_recount(p.c, true, &e), -EIO);
	assert_string_equal(e.msg, "lock: Input/output error");
	assert_int_equal(cache_evict_recount(p.c, true, &e), 0);
	memcache_leave(&q);
	memcache_leave(&p);
}

/* What could not be removed is no success. */
static void cannot_drop(void **state)
{
	static const enum memdisk_op ops[] = { MEMDISK_RENAME, MEMDISK_UNLINK,
					       MEMDISK_REMOVE_FOLDER, MEMDISK_LIST };
	uint64_t dropped;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof ops / sizeof *ops; i++) {
		struct process p;

		memdisk_make(0);
		p = use_full();
		memdisk_fail(ops[i], 1, EIO, true);
		assert_int_equal(cache_drop(p.c, blob.digest, NULL, &dropped, &e), -EIO);
		assert_non_null(strstr(e.msg, "cache " DIR ": "));
		assert_non_null(strstr(e.msg, "Input/output error"));
		assert_int_equal(dropped, 0);
		memdisk_heal();
		memcache_leave(&p);
	}
}

/* Files in a folder of folders, and a folder that grows while it is deleted. */
static struct cache_file grown_in;
static unsigned grows;

static int grow(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	int fd;

	if (op != MEMDISK_REMOVE_FOLDER || grows == 0)
		return 0;
	grows--;
	fd = memdisk_ops.open(grown_in.fd, "late", O_RDWR | O_CREAT, 0600);
	if (fd >= 0)
		memdisk_ops.close(fd);
	return 0;
}

static void grows_while_deleted(void **state)
{
	struct process p = use_full();
	uint64_t dropped;
	struct err e;
	int r;

	for (grows = 6; grows <= 8; grows++) {
		unsigned times = grows;

		if (cache_folder_enter(p.c->root, p.b->own_path, false, &grown_in, &e) < 0)
			fail_msg("%s", e.msg);
		memdisk_set_hook(grow, NULL);
		r = cache_drop(p.c, blob.digest, NULL, &dropped, &e);
		memdisk_set_hook(NULL, NULL);
		cache_disk_close(&grown_in);
		assert_int_equal(r, times < 8 ? 0 : -ENOTEMPTY);
		grows = times;
		cache_keep_once(p.c);
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	}
	memcache_leave(&p);
}

/* ---- listing ---- */

static char listed[8192];
static unsigned wanted; /* entries, then it is enough */

static int list_entry(void *arg, const struct cache_entry *entry)
{
	size_t n = strlen(listed);

	snprintf(listed + n, sizeof listed - n, "%.20s %.9s %d/%d%s%s\n",
		 entry->origin ? entry->origin : "-", entry->digest + 7, (int)entry->present,
		 (int)entry->size, entry->whole ? " whole" : "", entry->in_use ? " in use" : "");
	return --wanted == 0 ? 7 : 0;
}

static const char *list(struct process *p, unsigned most, int expected)
{
	struct err e = { "" };

	listed[0] = '\0';
	wanted = most;
	memdisk_as(p->number);
	assert_int_equal(cache_list(p->c, list_entry, NULL, &e), expected);
	return listed;
}

/* Opens a blob of one chunk whose digest ends in zeros, and publishes it. */
static struct process use_small(unsigned number, const char *origin, const char *digest)
{
	struct test_blob t = { .seed = 3, .size = 5 };
	struct process p;

	snprintf(t.digest, sizeof t.digest, "sha256:%s%0*d", digest, 64 - (int)strlen(digest), 0);
	p = memcache_use(number, origin, &t, 0);
	assert_int_equal(cachelib_publish(p.b, &t, 0), 0);
	return p;
}

/* By origin, then digest, the shared ones first; until it is enough. */
static void in_order(void **state)
{
	static const char *const digests[] = { "ffffffff1", "000000001", "777777771" };
	struct process p[6];
	unsigned i;

	for (i = 0; i < 6; i++)
		p[i] = use_small(i + 1, i % 2 ? "https://b/x" : "https://a/x", digests[i / 2]);
	memdisk_as(1);
	cache_keep_once(p[0].c); /* its digest is another: wrong, and empty */
	assert_string_equal(list(&p[2], 9, 0), "https://a/x 000000001 5/5 in use\n"
					       "https://a/x 777777771 5/5 in use\n"
					       "https://a/x ffffffff1 0/5 in use\n"
					       "https://b/x 000000001 5/5 in use\n"
					       "https://b/x 777777771 5/5 in use\n"
					       "https://b/x ffffffff1 5/5 in use\n");
	for (i = 0; i < 6; i++)
		memcache_leave(&p[i]);
	p[0] = use_full();
	assert_int_equal(cache_blob_verify(p[0].b, NULL), 0);
	list(&p[0], 2, 7);
	assert_int_equal(strncmp(listed, "- ", 2), 0);
	assert_non_null(strstr(listed, " 115688/115688 whole in use\nhttps://a/x 000000001 5/5\n"));
	assert_int_equal(strlen(strstr(listed, "https:")), strlen("https://a/x 000000001 5/5\n"));
	memcache_leave(&p[0]);
}

/* A blob that is open and has no map yet is none; an origin whose text is damaged, or not its own,
 * is called by its folder. */
static void not_listed(void **state)
{
	struct process p = memcache_use(1, GOOD, &blob, 0);
	char path[256], place[CACHE_PLACE], expected[64];
	unsigned i;

	assert_string_equal(list(&p, 9, 0), "");
	assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
	assert_int_equal(cache_hash(GOOD, strlen(GOOD), place, NULL), 0);
	snprintf(expected, sizeof expected, "%.20s ", place);
	snprintf(path, sizeof path, DIR "/v1/%s/origin", place);
	assert_int_equal(strncmp(list(&p, 9, 0), "https://good.example ", 21), 0);
	memcache_flip(path, 3);
	assert_int_equal(strncmp(list(&p, 9, 0), expected, 21), 0);
	memcache_flip(path, 3);
	for (i = 0; i < 2; i++) {
		int fd = memdisk_ops.open(AT_FDCWD, path, O_RDWR, 0);

		assert_int_equal(memdisk_ops.truncate(fd, strlen(GOOD) + 1 - 2 * i), 0);
		memdisk_ops.close(fd);
		assert_int_equal(strncmp(list(&p, 9, 0), expected, 21), 0);
	}
	assert_int_equal(memdisk_ops.unlink(AT_FDCWD, path), 0);
	assert_int_equal(strncmp(list(&p, 9, 0), expected, 21), 0);
	memcache_leave(&p);
}

/* An origin may be long. */
static void long_origins(void **state)
{
	static char origin[4098];
	size_t n;

	for (n = 4096; n <= 4097; n++) {
		struct process p;

		memdisk_make(0);
		memset(origin, 'x', n);
		origin[n] = '\0';
		p = memcache_use(1, origin, &blob, 0);
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
		assert_int_equal(strncmp(list(&p, 9, 0), "xxxxx", 5) == 0, n == 4096);
		memcache_leave(&p);
	}
}

static int refuse_map(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	return op == MEMDISK_OPEN && strcmp(name, "map") == 0 ? -EACCES : 0;
}

/* Whatever cannot be looked at is told, with its path. */
static void cannot_look(void **state)
{
	struct process p = use_full();
	uint64_t nth, checked, bad, dropped, freed;
	struct err e = { "" };

	memdisk_set_hook(refuse_map, NULL);
	list(&p, 9, -EACCES);
	assert_string_equal(listed, "");
	assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), -EACCES);
	assert_int_equal(strncmp(e.msg, "cache " DIR ": ", strlen("cache " DIR ": ")), 0);
	assert_non_null(strstr(e.msg, p.b->own_path));
	assert_non_null(strstr(e.msg, ": map: Permission denied"));
	assert_int_equal(checked + bad, 0);
	assert_int_equal(cache_evict_recount(p.c, false, &e), -EACCES);
	assert_non_null(strstr(e.msg, p.b->own_path));
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), -EACCES);
	assert_int_equal(freed, 0);
	memdisk_set_hook(NULL, NULL);
	for (nth = 1; nth <= 3; nth++) {
		memdisk_fail(MEMDISK_LIST, nth, EIO, false);
		list(&p, 9, -EIO);
		assert_string_equal(listed, "");
		memdisk_fail(MEMDISK_LIST, nth, EIO, false);
		assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), -EIO);
		assert_non_null(strstr(e.msg, "cache " DIR ": listing "));
		assert_int_equal(checked, 0);
	}
	memdisk_fail(MEMDISK_LIST, 1, EIO, false);
	assert_int_equal(cache_drop(p.c, NULL, NULL, &dropped, &e), -EIO);
	assert_int_equal(dropped, 0);
	memdisk_heal();
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memcache_leave(&p);
}

/* What is in v1/sha256 and not whole is not hashed, whatever its flag says. */
static void not_hashed(void **state)
{
	struct process p = use_full();
	uint64_t checked, bad, sum = 0;
	struct err e;

	assert_int_equal(cache_blob_verify(p.b, &e), 0);
	cache_map_drop(p.b->shared, 7);
	assert_int_equal(cache_verify_all(p.c, add_bytes, &sum, &checked, &bad, &e), 0);
	assert_int_equal(sum, SIZE - 1000);
	assert_int_equal(cache_map_change_flags(p.b->shared, CACHE_MAP_WHOLE, 0), 0);
	assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(checked, CHUNKS - 1);
	assert_int_equal(bad, 0);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS - 1);
	memcache_leave(&p);
}

/* ---- dropping ---- */

static bool has_document(struct cache *c, const char *origin)
{
	char *text = NULL;
	size_t n;
	bool has = cache_get_document(c, origin, "x", &text, &n, NULL) == 0;

	free(text);
	return has;
}

/* Documents go with their origin, all of them with all; what is no origin's is left alone. */
static void documents_dropped(void **state)
{
	static const char *const origins[] = { GOOD, EVIL, NULL };
	static const char *const names[] = {
		"lost+found",
		"000000000000000000000000000000000000000000000000000000000000000",
		"00000000000000000000000000000000000000000000000000000000000000000",
		"000000000000000000000000000000000000000000000000000000000000000G",
	};
	struct process p = use_full();
	uint64_t dropped;
	char path[256];
	struct err e;
	unsigned i, row;

	for (i = 0; i < 4; i++) {
		snprintf(path, sizeof path, DIR "/v1/%s", names[i]);
		assert_int_equal(memdisk_ops.make_folder(AT_FDCWD, path, 0700), 0);
	}
	for (row = 0; row < 4; row++) { /* of one blob; of one origin; of the other; of all */
		for (i = 0; i < 3; i++)
			assert_int_equal(cache_put_document(p.c, origins[i], "x", "x", 1, &e), 0);
		assert_int_equal(cache_drop(p.c, row ? NULL : blob.digest,
					    row == 0 || row == 3 ? NULL : origins[row - 1],
					    &dropped, &e),
				 0);
		assert_int_equal(has_document(p.c, GOOD), row == 0 || row == 2);
		assert_int_equal(has_document(p.c, EVIL), row == 0 || row == 1);
		assert_int_equal(has_document(p.c, NULL), row < 3);
	}
	assert_int_equal(cache_drop(p.c, NULL, NULL, &dropped, &e), 0); /* there is nothing */
	for (i = 0; i < 4; i++) {
		snprintf(path, sizeof path, DIR "/v1/%s", names[i]);
		assert_true(memdisk_exists(path));
	}
	memcache_leave(&p);
}

/* ---- documents ---- */

/* The largest, and one byte more. */
static void largest_document(void **state)
{
	struct process p = memcache_use(1, GOOD, &blob, 0);
	char *text = calloc(1, DOCUMENT_MAX + 1), *got;
	struct err e;
	size_t n;

	assert_non_null(text);
	assert_int_equal(cache_put_document(p.c, GOOD, "large", text, DOCUMENT_MAX, &e), 0);
	assert_int_equal(cache_get_document(p.c, GOOD, "large", &got, &n, &e), 0);
	assert_int_equal(n, DOCUMENT_MAX);
	free(got);
	assert_int_equal(cache_put_document(p.c, GOOD, "larger", text, DOCUMENT_MAX + 1, &e),
			 -EFBIG);
	assert_string_equal(e.msg, "'larger' has 16777217 bytes, limit is 16777216");
	free(text);
	memcache_leave(&p);
}

/* Least recently used first, also within one second. */
static void oldest_document_first(void **state)
{
	static const char *const names[] = { "a", "b", "c", "d" };
	struct process p = memcache_use(1, GOOD, &blob, 0);
	char *got;
	struct err e;
	size_t i, n;

	for (i = 0; i < 4; i++)
		assert_int_equal(cache_put_document(p.c, GOOD, names[i], "x", 1, &e), 0);
	memcache_sleep(3000);
	assert_int_equal(cache_get_document(p.c, GOOD, "a", &got, &n, &e), 0);
	free(got);
	assert_int_equal(cache_get_document(p.c, GOOD, "c", &got, &n, &e), 0);
	free(got);
	assert_int_equal(cache_documents_trim(p.c, 2 * 4096), 2 * 4096);
	for (i = 0; i < 4; i++) {
		int r = cache_get_document(p.c, GOOD, names[i], &got, &n, &e);

		assert_int_equal(r, i % 2 == 0 ? 0 : -ENOENT);
		if (r == 0)
			free(got);
	}
	/* "a" was used before "c", in the same second. */
	assert_int_equal(cache_get_document(p.c, GOOD, "a", &got, &n, &e), 0);
	free(got);
	assert_int_equal(cache_documents_trim(p.c, 4096), 4096);
	assert_int_equal(cache_get_document(p.c, GOOD, "c", &got, &n, &e), -ENOENT);
	memcache_leave(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(verifying_marks_nothing),
		TEST(progress),
		TEST(format_of_a_map),
		TEST(checking_marks_nothing),
		TEST(who_waits),
		TEST(cannot_drop),
		TEST(grows_while_deleted),
		TEST(largest_document),
		TEST(oldest_document_first),
		TEST(in_order),
		TEST(not_listed),
		TEST(long_origins),
		TEST(cannot_look),
		TEST(not_hashed),
		TEST(documents_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
