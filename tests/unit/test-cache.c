/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache.c - blobs of several origins in one folder: invariants 7 to 12 (cache.c,
 * cache_whole.c), the keeper, the limit, trouble that lasts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mount.h>

#include <cmocka.h>

#include "tests/unit/cache-users.h"

/* ---- levels ---- */

static void stays(void **state)
{
	struct user u = use(GOOD);

	assert_int_equal(cachelib_count(u.b, &blob), 0);
	assert_int_equal(cachelib_publish(u.b, &blob, 3), 0);
	assert_int_equal(cachelib_publish(u.b, &blob, 19), 0);
	assert_int_equal(cachelib_publish(u.b, &blob, 20), -EINVAL);
	leave(&u);
	u = use(GOOD);
	assert_true(cache_blob_has(u.b, 3));
	assert_false(cache_blob_has(u.b, 4));
	assert_false(cache_blob_has(u.b, 20));
	assert_int_equal(cachelib_look(u.b, &blob, 19), 1);
	assert_int_equal(cachelib_count(u.b, &blob), 2);
	cache_blob_drop(u.b, 3 * CACHE_CHUNK + 5, 1);
	assert_int_equal(cachelib_count(u.b, &blob), 1);
	cache_blob_drop(u.b, SIZE, 1);
	cache_blob_drop(u.b, 4 * CACHE_CHUNK, UINT64_MAX);
	assert_int_equal(cachelib_count(u.b, &blob), 0);
	assert_int_equal(cache_blob_bad_chunks(u.b), 0);
	leave(&u);
}

static void other_size(void **state)
{
	struct user u = use(GOOD);
	struct cache_blob *b;
	struct err e = { "" };

	assert_int_equal(cachelib_publish(u.b, &blob, 0), 0);
	assert_int_equal(cache_blob_open(u.c, GOOD, blob.digest, SIZE + 1, &b, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "a blob of 311298 bytes, which the cache knows with 311297"));
	assert_int_equal(cache_blob_open(u.c, GOOD, "sha256:1", SIZE, &b, &e), -EINVAL);
	assert_int_equal(cache_blob_open(u.c, GOOD, "../../../x", SIZE, &b, &e), -EINVAL);
	leave(&u);
	whole_in_shared(EVIL);
	u.c = cachelib_open(0);
	assert_int_equal(cache_blob_open(u.c, GOOD, blob.digest, SIZE - 1, &b, &e), -EBADMSG);
	cache_close(u.c);
	assert_int_equal(warnings, 0);
}

/* (7): what an evil origin filled is seen by nobody else; found wrong as a whole, its own readers
 * are told so, all of them, until the blob is right. */
static void poisoned(void **state)
{
	struct user evil = use(EVIL), evil2 = use(EVIL), good = use(GOOD);
	struct err e = { "" };

	cachelib_publish_all(evil.b, &forged);
	assert_int_equal(cachelib_count(good.b, &blob), 0);
	assert_int_equal(cachelib_count(evil2.b, &forged), CHUNKS);
	assert_int_equal(cache_blob_verify(evil.b, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "wrong"));
	assert_int_equal(cache_blob_state(evil.b), CACHE_WRONG);
	assert_int_equal(cache_blob_state(evil2.b), CACHE_WRONG);
	assert_int_equal(cache_blob_state(good.b), CACHE_PARTIAL);
	assert_false(cachelib_exists(cachelib_path(NULL, &blob, NULL)));
	assert_int_equal(cachelib_count(evil2.b, &blob), 0);
	cachelib_publish_all(evil2.b, &forged);
	assert_int_equal(cache_blob_verify(evil2.b, &e), -EBADMSG);
	cachelib_publish_all(good.b, &blob);
	assert_int_equal(cache_blob_verify(good.b, &e), 0);
	assert_int_equal(cache_blob_verify(evil.b, &e), 0); /* by what v1/sha256 has */
	assert_int_equal(cache_blob_state(evil.b), CACHE_WHOLE);
	assert_int_equal(cachelib_count(evil.b, &blob), CHUNKS);
	leave(&evil);
	leave(&evil2);
	leave(&good);
}

/* Fetched anew and right, it ends to be wrong; also when nobody is left who was to know. */
static void right_at_last(void **state)
{
	struct user a = use(EVIL), b = use(EVIL);
	struct err e;

	cachelib_publish_all(a.b, &forged);
	assert_int_equal(cache_blob_verify(a.b, &e), -EBADMSG);
	cachelib_publish_all(a.b, &blob);
	assert_int_equal(cache_blob_state(a.b), CACHE_WRONG);
	assert_int_equal(cache_blob_verify(a.b, &e), 0);
	assert_int_equal(cache_blob_state(a.b), CACHE_WHOLE);
	assert_int_equal(cache_blob_verify(b.b, &e), 0);
	assert_int_equal(cache_blob_state(b.b), CACHE_WHOLE);
	leave(&a);
	leave(&b);
	cachelib_remove_folder();
	cachelib_make_folder();
	a = use(EVIL);
	cachelib_publish_all(a.b, &forged);
	assert_int_equal(cache_blob_verify(a.b, &e), -EBADMSG);
	b = use(EVIL);
	assert_int_equal(cache_blob_state(b.b), CACHE_WRONG);
	leave(&a);
	leave(&b);
	a = use(EVIL);
	assert_int_equal(cache_blob_state(a.b), CACHE_PARTIAL);
	leave(&a);
}

/* Whole and right: moved, and there for every origin; evicted from, it is whole no more, filled
 * elsewhere, and whole again. */
static void moves(void **state)
{
	struct user good = use(GOOD), other;
	struct err e = { "" };
	uint64_t i;

	for (i = 0; i < CHUNKS - 1; i++)
		assert_int_equal(cachelib_publish(good.b, &blob, i), 0);
	assert_int_equal(cache_blob_verify(good.b, &e), 1);
	assert_int_equal(cachelib_publish(good.b, &blob, i), 0);
	assert_int_equal(cache_blob_state(good.b), CACHE_PARTIAL);
	assert_int_equal(cache_blob_verify(good.b, &e), 0);
	assert_true(cachelib_exists(cachelib_path(NULL, &blob, "map")));
	assert_false(cachelib_exists(cachelib_path(GOOD, &blob, NULL)));
	other = use(EVIL);
	assert_int_equal(cachelib_count(other.b, &blob), CHUNKS);
	assert_int_equal(cache_blob_state(other.b), CACHE_WHOLE);
	assert_false(cachelib_exists(cachelib_path(EVIL, &blob, NULL)));
	cache_blob_drop(good.b, 2 * CACHE_CHUNK, 3 * CACHE_CHUNK);
	assert_int_equal(cache_blob_state(other.b), CACHE_PARTIAL);
	for (i = 2; i < 5; i++)
		assert_int_equal(cachelib_publish(other.b, &blob, i), 0);
	assert_int_equal(cachelib_count(other.b, &blob), CHUNKS);
	assert_int_equal(cachelib_count(good.b, &blob), CHUNKS - 3);
	assert_int_equal(cache_blob_verify(other.b, &e), 0);
	assert_int_equal(cachelib_count(good.b, &blob), CHUNKS);
	assert_int_equal(cache_blob_state(good.b), CACHE_WHOLE);
	assert_false(cachelib_exists(cachelib_path(EVIL, &blob, NULL)));
	assert_int_equal(cache_usage(good.c), SIZE + MAP_BYTES);
	leave(&good);
	leave(&other);
}

/* (5), (7): who opened the origin's folder before it moved cannot put its fetches into v1/sha256,
 * and is helped to a folder of its own. */
static void late_fill(void **state)
{
	struct user first = use(EVIL), late = use(EVIL), good;
	struct err e;

	cachelib_publish_all(first.b, &blob);
	assert_int_equal(cache_blob_verify(first.b, &e), 0);
	cache_blob_drop(first.b, 7 * CACHE_CHUNK, 1);
	assert_int_equal(cachelib_publish(late.b, &forged, 7), 0);
	good = use(GOOD);
	assert_int_equal(cachelib_look(good.b, &blob, 7), 0); /* -1: poisoned */
	assert_int_equal(cachelib_count(good.b, &blob), CHUNKS - 1);
	assert_int_equal(cachelib_look(late.b, &forged, 7), 1);
	assert_true(cachelib_exists(cachelib_path(EVIL, &blob, "map")));
	/* (12): its part is wrong, the shared one is spared. */
	assert_int_equal(cache_blob_verify(late.b, &e), -EBADMSG);
	assert_int_equal(cachelib_count(good.b, &blob), CHUNKS - 1);
	leave(&first);
	leave(&late);
	leave(&good);
}

/* (10): while one checks, nobody fills; when it died, the seal is broken. */
static void seal_of_the_dead(void **state)
{
	struct user u = use(GOOD), other;
	struct err e;

	assert_int_equal(cachelib_publish(u.b, &blob, 0), 0);
	assert_true(cache_map_take(u.b->own, CACHE_MAP_CHECKER));
	cache_map_change_flags(u.b->own, CACHE_MAP_SEALED, 0);
	other = use(GOOD);
	assert_int_equal(cachelib_publish(other.b, &blob, 1), -EBUSY);
	assert_int_equal(cache_blob_verify(other.b, &e), -EAGAIN);
	assert_true(cache_is_filling(other.c));
	leave(&u);
	assert_int_equal(cachelib_publish(other.b, &blob, 1), 0);
	assert_int_equal(cachelib_count(other.b, &blob), 2);
	leave(&other);
}

static void damaged_map(void **state)
{
	struct user u = use(GOOD);

	cachelib_publish_all(u.b, &blob);
	leave(&u);
	cachelib_flip(cachelib_path(GOOD, &blob, "map"), 20);
	u = use(GOOD);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "wrong CRC of the map's header; it is discarded"));
	assert_int_equal(cachelib_count(u.b, &blob), 0);
	cachelib_publish_all(u.b, &blob);
	assert_int_equal(cachelib_count(u.b, &blob), CHUNKS);
	leave(&u);
	/* A data file that is gone, and words of another life. */
	assert_int_equal(unlink(cachelib_path(GOOD, &blob, "data")), 0);
	u = use(GOOD);
	assert_int_equal(cachelib_count(u.b, &blob), 0);
	assert_int_equal(cache_blob_bad_chunks(u.b), CHUNKS);
	cachelib_publish_all(u.b, &blob);
	cachelib_flip(cachelib_path(GOOD, &blob, "data"), 5 * CACHE_CHUNK);
	cachelib_flip(cachelib_path(GOOD, &blob, "map"), 4096 + 8 * 9 + 1);
	assert_int_equal(cachelib_count(u.b, &blob), CHUNKS - 2);
	leave(&u);
	assert_int_equal(warnings, 2); /* damage is told once, however much there is */
	assert_non_null(strstr(last_warning, "is damaged there"));
}

static void claims(void **state)
{
	struct user a = use(GOOD), b = use(GOOD), elsewhere = use(EVIL);

	assert_int_equal(cache_blob_claim(a.b, 4, 100, 0), CHUNKS - 4);
	assert_int_equal(cache_blob_claim(a.b, CHUNKS, 1, 0), 0);
	assert_int_equal(cache_blob_claim(b.b, 0, CHUNKS, 0), 4);
	assert_int_equal(cache_blob_claim(elsewhere.b, 0, CHUNKS, 0), CHUNKS);
	assert_int_equal(cache_blob_claim(b.b, 5, 1, 1), 1);
	cache_blob_unclaim(a.b, 4, CHUNKS - 4, 0);
	assert_int_equal(cache_blob_claim(b.b, 4, 1, 0), 1);
	assert_true(cache_blob_claim_download(a.b));
	assert_false(cache_blob_claim_download(b.b));
	assert_true(cache_blob_claim_download(elsewhere.b));
	cache_blob_unclaim_download(a.b);
	assert_true(cache_blob_claim_download(b.b));
	leave(&a);
	leave(&b);
	leave(&elsewhere);
}

/* ---- the keeper ---- */

static bool is_whole(void *arg)
{
	return cache_blob_state(arg) == CACHE_WHOLE;
}

static bool is_wrong(void *arg)
{
	return cache_blob_state(arg) == CACHE_WRONG;
}

static bool is_empty(void *arg)
{
	return cachelib_count(arg, &blob) == 0;
}

static void keeper_checks(void **state)
{
	struct user a = use(GOOD), b = use(GOOD), evil = use(EVIL);
	struct err e;

	assert_int_equal(cache_start(a.c, &e) | cache_start(b.c, &e) | cache_start(evil.c, &e), 0);
	cachelib_publish_all(evil.b, &forged);
	assert_true(cachelib_await(10, is_wrong, evil.b));
	cachelib_publish_all(a.b, &blob);
	assert_true(cachelib_await(10, is_whole, a.b));
	assert_true(cachelib_await(10, is_whole, b.b));
	assert_true(cachelib_await(10, is_whole, evil.b));
	assert_int_equal(cachelib_count(evil.b, &blob), CHUNKS);
	leave(&a);
	leave(&b);
	leave(&evil);
	assert_int_equal(warnings, 1);
	assert_non_null(
		strstr(last_warning, "the blob is wrong: its bytes have the digest sha256:"));
}

/* (8) */
static void keeper_notices_drops(void **state)
{
	struct user a = use(GOOD), b = use(GOOD);
	uint64_t dropped;
	struct err e;

	assert_int_equal(cache_start(a.c, &e), 0);
	cachelib_publish_all(a.b, &blob);
	assert_true(cachelib_await(10, is_whole, a.b));
	assert_int_equal(cache_drop(b.c, blob.digest, NULL, &dropped, &e), 0);
	assert_int_equal(dropped, 1);
	assert_int_equal(cache_usage(b.c), 0);
	assert_true(cachelib_await(10, is_empty, a.b));
	cachelib_publish_all(a.b, &blob);
	assert_true(cachelib_await(10, is_whole, a.b));
	leave(&b);
	b = use(GOOD);
	assert_int_equal(cachelib_count(b.b, &blob), CHUNKS);
	leave(&a);
	leave(&b);
}

static bool is_small(void *arg)
{
	const struct cache *c = arg;

	return atomic_load(c->usage) <= c->limit;
}

/* Without the keeper a fill ends at the limit and its slack, softly; with it, it goes on. */
static void limit(void **state)
{
	enum { LIMIT = MAP_BYTES + 8 * CACHE_CHUNK, BIG = 100 };
	struct test_blob big = cachelib_blob(9, BIG * CACHE_CHUNK);
	struct cache *c = cachelib_open(LIMIT);
	struct cache_blob *b = cachelib_open_blob(c, GOOD, &big);
	uint64_t i, kept = 0;
	struct err e;

	for (i = 0; i < BIG; i++) {
		int r = cachelib_publish(b, &big, i);

		assert_true(r == 0 || r == -ENOSPC);
		kept += r == 0;
	}
	assert_in_range(kept, 64, 80);
	assert_true(cache_is_filling(c));
	assert_int_equal(cachelib_count(b, &big), kept);
	assert_int_equal(cache_start(c, &e), 0);
	assert_true(cachelib_await(10, is_small, c));
	for (i = 0; i < BIG; i++)
		(void)cachelib_publish(b, &big, i);
	assert_true(cachelib_await(10, is_small, c));
	assert_true(cachelib_count(b, &big) <= 8);
	cache_blob_close(b);
	cache_close(c);
	assert_int_equal(warnings, 0);
}

/* What was read since the hand passed outlives what was not, over all blobs; the hand goes on where
 * it stopped, in any process; a folder that is empty and idle goes. */
static void clock_order(void **state)
{
	struct user a = use(GOOD), b = use(EVIL);
	uint64_t i, freed;
	struct err e;

	for (i = 0; i < 8; i++) {
		assert_int_equal(cachelib_publish(a.b, &blob, i), 0);
		assert_int_equal(cachelib_publish(b.b, &blob, i), 0);
	}
	for (i = 0; i < 8; i += 2) {
		assert_int_equal(cachelib_look(a.b, &blob, i), 1);
		assert_int_equal(cachelib_look(b.b, &blob, i), 1);
	}
	assert_int_equal(cache_prune(a.c, 2 * MAP_BYTES + 8 * CACHE_CHUNK, &freed, &e), 0);
	assert_int_equal(freed, 8 * CACHE_CHUNK);
	for (i = 0; i < 8; i++) {
		assert_int_equal(cache_blob_has(a.b, i), i % 2 == 0);
		assert_int_equal(cache_blob_has(b.b, i), i % 2 == 0);
	}
	/* No chunk has its mark now: the first four go, in the order of the circle. */
	assert_int_equal(cache_prune(b.c, 2 * MAP_BYTES + 6 * CACHE_CHUNK, &freed, &e), 0);
	assert_int_equal(cache_prune(a.c, 2 * MAP_BYTES + 4 * CACHE_CHUNK, &freed, &e), 0);
	assert_true(cachelib_count(a.b, &blob) == 0 || cachelib_count(b.b, &blob) == 0);
	leave(&b);
	assert_int_equal(cache_prune(a.c, 0, &freed, &e), 0);
	assert_false(cachelib_exists(cachelib_path(EVIL, &blob, NULL)));
	assert_true(cachelib_exists(cachelib_path(GOOD, &blob, NULL))); /* in use */
	assert_int_equal(cachelib_publish(a.b, &blob, 0), 0);
	leave(&a);
	a.c = cachelib_open(0);
	assert_int_equal(cache_prune(a.c, 0, &freed, &e), 0);
	assert_int_equal(cache_usage(a.c), 0);
	cache_close(a.c);
}

/* Any contents of `usage` are valid, and counted anew. */
static void counter(void **state)
{
	struct user u = use(GOOD);
	char path[64];
	uint64_t freed;
	struct err e;

	cachelib_publish_all(u.b, &blob);
	assert_int_equal(cache_usage(u.c), SIZE + MAP_BYTES);
	snprintf(path, sizeof path, "%s/v1/usage", folder);
	memset(u.c->page, 0xff, 4096);
	assert_int_equal(cache_usage(u.c), SIZE + MAP_BYTES);
	assert_int_equal(cache_prune(u.c, 0, &freed, &e), 0);
	assert_int_equal(freed, SIZE);
	leave(&u);
	assert_int_equal(truncate(path, 10), 0);
	u = use(GOOD);
	assert_int_equal(cachelib_publish(u.b, &blob, 0), 0);
	assert_int_equal(cache_usage(u.c), CACHE_CHUNK + MAP_BYTES);
	leave(&u);
}

/* ---- trouble ---- */

/* Runs `body` where it may mount at `folder`; skips the test where it may not. */
static void with_mount(const char *type, const char *options, int (*body)(void *arg))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("none", folder, type, 0, options) < 0)
			_exit(77);
		_exit(body(NULL));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("SKIP: only root can mount a %s\n", type);
		skip();
	}
	assert_int_equal(status, 0);
}

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static int on_full_disk(void *arg)
{
	struct test_blob big = cachelib_blob(8, 100 * CACHE_CHUNK), more = cachelib_blob(7, SIZE);
	struct cache *c = cachelib_open(0);
	struct cache_blob *b = cachelib_open_blob(c, GOOD, &big), *later;
	uint64_t i, kept = 0;

	for (i = 0; i < 100 && cachelib_publish(b, &big, i) == 0; i++)
		kept++;
	CHECK(kept > 30 && kept < 100);
	CHECK(!cache_is_filling(c));
	CHECK(warnings == 1);
	CHECK(strstr(last_warning, folder));
	CHECK(strstr(last_warning,
		     "No space left on device; what was used least recently makes room"));
	CHECK(cachelib_publish(b, &big, 99) == -EROFS);
	CHECK(cachelib_publish(b, &big, 0) == 0);
	CHECK(cachelib_count(b, &big) == kept);
	later = cachelib_open_blob(c, GOOD, &more);
	CHECK(cachelib_count(later, &more) == 0);
	cache_blob_close(later);
	cache_blob_close(b);
	cache_close(c);
	CHECK(warnings == 1);
	/* A process that starts on the full disk reads what is there. */
	c = cachelib_open(0);
	b = cachelib_open_blob(c, GOOD, &big);
	CHECK(cachelib_count(b, &big) == kept);
	CHECK(cachelib_publish(b, &big, 99) == -ENOSPC);
	CHECK(cachelib_count(b, &big) == kept);
	cache_blob_close(b);
	cache_close(c);
	CHECK(warnings == 2);
	return 0;
}

/* (9) */
static void full_disk(void **state)
{
	with_mount("tmpfs", "size=1m", on_full_disk);
}

static int on_unknown(void *arg)
{
	struct cache *c;
	struct err e = { "" };

	CHECK(cache_open(folder, 0, &c, &e) == -EOPNOTSUPP);
	CHECK(strstr(e.msg, "a file system of type 0x858458f6 is not known to be safe"));
	return 0;
}

static void unknown_file_system(void **state)
{
	with_mount("ramfs", NULL, on_unknown);
}

/* As nbdkit -u does after the cache was opened. */
static int without_rights(void *arg)
{
	struct user u = use(GOOD);
	struct test_blob other = cachelib_blob(5, SIZE);
	struct cache_blob *later;
	uint64_t freed;
	struct err e;

	CHECK(cachelib_publish(u.b, &blob, 0) == 0);
	CHECK(setuid(65534) == 0);
	CHECK(cache_start(u.c, &e) == 0);
	CHECK(cachelib_publish(u.b, &blob, 1) == 0);
	CHECK(cachelib_count(u.b, &blob) == 2);
	usleep(1500000); /* the keeper looks around */
	CHECK(cache_is_filling(u.c) && warnings == 0);
	CHECK(cachelib_publish(u.b, &blob, 2) == 0);
	CHECK(cachelib_count(u.b, &blob) == 3);
	CHECK(cache_prune(u.c, 0, &freed, &e) == -EACCES);
	later = cachelib_open_blob(u.c, GOOD, &other);
	CHECK(warnings == 1 && !cache_is_filling(u.c));
	CHECK(cachelib_count(later, &other) == 0);
	CHECK(cachelib_count(u.b, &blob) == 3);
	cache_blob_close(later);
	leave(&u);
	CHECK(warnings == 1);
	return 0;
}

static void user_changes(void **state)
{
	if (geteuid() != 0) {
		print_message("SKIP: only root can become another user\n");
		skip();
	}
	assert_true(cachelib_in_child(without_rights, NULL));
}

static void cannot_open(void **state)
{
	struct cache *c;
	char path[64];
	struct err e;
	int fd;

	snprintf(path, sizeof path, "%s/file", folder);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	close(fd);
	assert_int_equal(cache_open(path, 0, &c, &e), -ENOTDIR);
	assert_non_null(strstr(e.msg, path));
	snprintf(path, sizeof path, "%s/file/x", folder);
	assert_int_equal(cache_open(path, 0, &c, &e), -ENOTDIR);
	snprintf(path, sizeof path, "%s/a/b/c/", folder);
	assert_int_equal(cache_open(path, 0, &c, &e), 0);
	cache_close(c);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(stays),
		TEST(other_size),
		TEST(poisoned),
		TEST(right_at_last),
		TEST(moves),
		TEST(late_fill),
		TEST(seal_of_the_dead),
		TEST(damaged_map),
		TEST(claims),
		TEST(keeper_checks),
		TEST(keeper_notices_drops),
		TEST(limit),
		TEST(clock_order),
		TEST(counter),
		TEST(full_disk),
		TEST(unknown_file_system),
		TEST(user_changes),
		TEST(cannot_open),
	};

	make_blobs();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
