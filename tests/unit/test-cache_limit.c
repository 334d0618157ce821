/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_limit.c - how much the folder may hold, and a disk that takes no more: invariants 13,
 * 14 and 15, each named in its test.  On a disk in memory, with a clock of our own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "fetch/cache_limit.h"
#include "tests/unit/memcache.h"

enum { SIZE = 20 * CACHE_CHUNK, MINUTE = 60 * 1000 /* ms */ };

#define MIB ((uint64_t)1 << 20)
#define LIMITS DIR "/v1/limits"

static uint64_t limit_of(const struct process *p)
{
	struct cache_limits l;

	cache_get_limits(p->c, &l);
	return l.limit;
}

static uint64_t used(const struct process *p)
{
	return atomic_load(p->c->usage);
}

/* ---- the folder's limit ---- */

/* One limit for all: who is told one sets it, who is not takes it, and all see when it changes. */
static void is_the_folders(void **state)
{
	struct cache_limits only_free = { CACHE_LIMIT_FOLDER, 7 * MIB }, l;
	struct process a, b, c;
	struct err e;

	assert_int_equal(memcache_open(&a, 1, CACHE_LIMIT_FOLDER, &e), 0);
	assert_true(limit_of(&a) == CACHE_LIMIT_DEFAULT);
	assert_int_equal(memcache_open(&b, 2, 50 * 1024 * MIB, &e), 0);
	assert_true(limit_of(&b) == 50 * 1024 * MIB);
	assert_int_equal(warnings, 1);
	assert_non_null(
		strstr(last_warning,
		       "cache-limit is now 50G, for all programs that use the folder; it was "
		       "10G"));
	assert_int_equal(memcache_open(&c, 3, CACHE_LIMIT_FOLDER, &e), 0);
	assert_true(limit_of(&c) == 50 * 1024 * MIB);
	memdisk_as(1);
	cache_keep_once(a.c);
	assert_true(limit_of(&a) == 50 * 1024 * MIB);
	cache_set_limits(a.c, &only_free);
	cache_get_limits(a.c, &l);
	assert_true(l.limit == 50 * 1024 * MIB && l.keep_free == 7 * MIB);
	assert_int_equal(warnings, 2);
	assert_non_null(strstr(last_warning, "cache-keep-free is now 7M"));
	cache_set_limits(a.c, &only_free);
	assert_int_equal(warnings, 2);
	assert_int_equal(memdisk_syncs(LIMITS), 1); /* after a power loss it is not 10G again */
	cache_close(a.c);
	cache_close(b.c);
	cache_close(c.c);
}

/* A damaged file is told once, and never taken for a limit. */
static void damaged(void **state)
{
	static const char *const texts[] = { "",
					     "limit=1\n",
					     "limit=1\nkeep-free=x\n",
					     "limit=1\nkeep-free=2\nmore",
					     "limit=01\nkeep-free=0\n",
					     "limit=-1\nkeep-free=0\n",
					     "long enough to be longer than any that was ever "
					     "written, which is what somebody did who keeps notes "
					     "of what the limit was before it became this one" };
	struct process p;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof texts / sizeof *texts; i++) {
		memdisk_make(0);
		warnings = 0;
		assert_int_equal(memcache_open(&p, 1, MIB, &e), 0);
		p.b = NULL;
		assert_int_equal(cache_folder_replace_file(p.c->root, "limits", texts[i],
							   strlen(texts[i]), false, &e),
				 0);
		cache_keep_once(p.c);
		cache_keep_once(p.c);
		assert_int_equal(warnings, 1);
		assert_non_null(strstr(last_warning, "v1/limits is damaged"));
		assert_true(limit_of(&p) == MIB);
		cache_close(p.c);
		assert_int_equal(memcache_open(&p, 1, 2 * MIB, &e), 0);
		assert_int_equal(warnings, 1);
		cache_keep_once(p.c);
		assert_int_equal(warnings, 1);
		cache_close(p.c);
	}
}

/* One that cannot be read at the moment is left as it is by who sets nothing. */
static void unreadable(void **state)
{
	struct process p;
	char text[64] = "";
	struct err e;

	assert_int_equal(memcache_open(&p, 1, MIB, &e), 0);
	cache_close(p.c);
	memdisk_fail(MEMDISK_PREAD, 2, EIO, false); /* the first tries the file system */
	assert_int_equal(memcache_open(&p, 1, CACHE_LIMIT_FOLDER, &e), 0);
	assert_true(memdisk_failed());
	memdisk_peek(LIMITS, 0, text, strlen("limit=1048576\nkeep-free=0\n"));
	assert_string_equal(text, "limit=1048576\nkeep-free=0\n");
	cache_keep_once(p.c);
	assert_true(limit_of(&p) == MIB);
	cache_close(p.c);
}

/* A folder that is made anew under a server has its limit again. */
static void made_anew(void **state)
{
	struct process p;
	struct err e;

	assert_int_equal(memcache_open(&p, 1, MIB, &e), 0);
	assert_int_equal(memdisk_ops.rename(AT_FDCWD, DIR "/v1", "/gone"), 0);
	cache_keep_once(p.c);
	assert_true(memdisk_exists(LIMITS));
	assert_true(limit_of(&p) == MIB);
	cache_close(p.c);
}

/* ---- space that is left to others ---- */

static void keep_free(void **state)
{
	const struct cache_limits l = { 0, 40 * CACHE_CHUNK };
	const struct test_blob t = cachelib_blob(1, SIZE);
	struct process p;

	memdisk_make(70 * CACHE_CHUNK);
	p = memcache_use(1, GOOD, &t, 0);
	cache_set_limits(p.c, &l);
	cachelib_publish_all(p.b, &t);
	cache_keep_once(p.c);
	assert_int_equal(cachelib_count(p.b, &t), 20);
	memdisk_set_room(memdisk_used() + 30 * CACHE_CHUNK); /* another writes something */
	cache_keep_once(p.c);
	assert_in_range(cachelib_count(p.b, &t), 8, 10);
	assert_int_equal(cachelib_publish(p.b, &t, 0) == 0 || cachelib_publish(p.b, &t, 1) == 0, 1);
	memdisk_set_room(memdisk_used() + 39 * CACHE_CHUNK);
	cache_limit_look_at_disk(p.c);
	cache_blob_drop(p.b, 0, SIZE);
	assert_int_equal(cachelib_publish(p.b, &t, 3), -ENOSPC);
	assert_int_equal(warnings, 1); /* keep-free is another now */
	memcache_leave(&p);
}

/* ---- (14): trouble ---- */

/* A full disk: what was used least recently makes room, without a restart. */
static void full_disk(void **state)
{
	const struct test_blob old = cachelib_blob(1, 100 * CACHE_CHUNK),
			       new = cachelib_blob(2, 100 * CACHE_CHUNK);
	struct process p, q;
	uint64_t i, kept = 0;

	memdisk_make(130 * CACHE_CHUNK);
	p = memcache_use(1, GOOD, &old, 0);
	cachelib_publish_all(p.b, &old);
	q = memcache_use(1, EVIL, &new, 0);
	for (i = 0; i < 100 && kept == i; i++)
		kept += cachelib_publish(q.b, &new, i) == 0;
	assert_in_range(kept, 20, 30);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "No space left on device; what was used least"));
	assert_false(cache_is_filling(q.c));
	assert_int_equal(cachelib_publish(q.b, &new, 99), -EROFS);
	cache_keep_once(q.c);
	assert_true(cache_is_filling(q.c));
	for (i = kept; i < 100; i++)
		if (cachelib_publish(q.b, &new, i) < 0) {
			cache_keep_once(q.c);
			assert_int_equal(cachelib_publish(q.b, &new, i), 0);
		}
	assert_int_equal(warnings, 1); /* not with each time that it evicts */
	memcache_sleep(MINUTE);
	memdisk_set_room(0);
	cache_blob_drop(q.b, 0, 1);
	assert_int_equal(cachelib_publish(q.b, &new, 0), 0);
	assert_int_equal(warnings, 2);
	assert_non_null(strstr(last_warning, "it works again"));
	assert_int_equal(cachelib_publish(q.b, &new, 1), 0);
	assert_int_equal(warnings, 2);
	memcache_leave(&p);
	memcache_leave(&q);
}

/* There is nothing to evict: it is tried again after a minute, and works when there is room. */
static void full_of_others(void **state)
{
	const struct test_blob t = cachelib_blob(1, SIZE);
	struct process p = memcache_use(1, GOOD, &t, 0);

	memdisk_set_room(memdisk_used());
	assert_int_equal(cachelib_publish(p.b, &t, 0), -ENOSPC);
	cache_keep_once(p.c);
	assert_int_equal(cachelib_publish(p.b, &t, 0), -EROFS);
	memcache_sleep(MINUTE - 1);
	assert_int_equal(cachelib_publish(p.b, &t, 0), -EROFS);
	memcache_sleep(1);
	assert_int_equal(cachelib_publish(p.b, &t, 0), -ENOSPC);
	memdisk_set_room(0);
	memcache_sleep(MINUTE);
	assert_int_equal(cachelib_publish(p.b, &t, 0), 0);
	assert_int_equal(cachelib_look(p.b, &t, 0), 1);
	assert_int_equal(warnings, 2);
	memcache_leave(&p);
}

/* Each kind of trouble passes; what is not trouble of the folder pauses nothing. */
static void each_kind(void **state)
{
	static const struct {
		int error;
		bool pauses;
	} rows[] = { { ENOSPC, true }, { EDQUOT, true }, { EROFS, true },  { EACCES, true },
		     { EPERM, true },  { EIO, true },	 { EMFILE, true }, { ENFILE, true },
		     { EBUSY, false }, { EFBIG, false } };
	const struct test_blob t = cachelib_blob(1, SIZE);
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct process p;

		memdisk_make(0);
		p = memcache_use(1, GOOD, &t, 0);
		warnings = 0;
		memdisk_fail(MEMDISK_PWRITE, 1, rows[i].error, false);
		assert_int_equal(cachelib_publish(p.b, &t, 0), -rows[i].error);
		assert_int_equal(cache_is_filling(p.c), !rows[i].pauses);
		assert_int_equal(warnings, rows[i].pauses);
		memcache_sleep(MINUTE);
		assert_int_equal(cachelib_publish(p.b, &t, 0), 0);
		assert_int_equal(warnings, 2 * rows[i].pauses);
		memcache_leave(&p);
	}
}

/* A wrong errno: the folder cannot be made for lack of rights, not because it is missing. */
static void cannot_be_made(void **state)
{
	struct process p;
	struct err e;

	memdisk_fail(MEMDISK_MAKE_FOLDER, 2, EACCES, false);
	assert_int_equal(memcache_open(&p, 1, 0, &e), -EACCES);
	assert_string_equal(e.msg, "cache " DIR ": creating /var/cache: Permission denied");
}

/* ---- (15): what cannot be evicted ---- */

/* Maps of open layers above the limit: one warning, and no work each second. */
static void only_maps(void **state)
{
	enum { LAYERS = 40 };
	struct process p[LAYERS];
	struct test_blob t[LAYERS];
	uint64_t calls;
	unsigned i;

	for (i = 0; i < LAYERS; i++) {
		t[i] = cachelib_blob(i, 1000);
		p[i] = memcache_use(1, GOOD, &t[i], 128 * 1024);
		assert_int_equal(cachelib_publish(p[i].b, &t[i], 0), 0);
	}
	assert_true(used(&p[0]) > 128 * 1024);
	cache_keep_once(p[0].c);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "its open layers need"));
	assert_non_null(strstr(last_warning, "cache-limit=128K"));
	calls = memdisk_calls(MEMDISK_OPEN);
	for (i = 0; i < 50; i++) {
		cache_keep_once(p[0].c);
		memcache_sleep(1000);
	}
	assert_true(memdisk_calls(MEMDISK_OPEN) - calls < 200); /* not 40 layers each time */
	calls = memdisk_calls(MEMDISK_OPEN);
	memcache_sleep(MINUTE);
	cache_keep_once(p[0].c);
	assert_true(memdisk_calls(MEMDISK_OPEN) - calls > LAYERS);
	assert_int_equal(warnings, 1);
	for (i = 0; i < LAYERS; i++)
		memcache_leave(&p[i]);
}

/* ---- (13): sizes that nobody has confirmed ---- */

/* A manifest claims 1 TiB: nothing of it is on the disk, not even when a chunk comes. */
static void claims_a_tebibyte(void **state)
{
	struct test_blob t = cachelib_blob(1, SIZE);
	uint64_t before, bytes;
	struct process p;
	struct err e;

	assert_int_equal(memcache_open(&p, 1, 8 * MIB, &e), 0);
	before = memdisk_used();
	t.size = (uint64_t)1 << 40;
	assert_int_equal(memcache_open_blob(&p, GOOD, &t, &e), 0);
	bytes = memdisk_used();
	assert_true(bytes - before <= 2 * MEMDISK_BLOCK); /* the origin's text */
	assert_int_equal(cache_blob_claim(p.b, 0, 4, 0), 4);
	cache_blob_unclaim(p.b, 0, 4, 0);
	assert_int_equal(cachelib_publish(p.b, &t, 0), -EFBIG);
	assert_int_equal(cachelib_publish(p.b, &t, 1), -EFBIG);
	assert_int_equal(memdisk_used(), bytes);
	assert_int_equal(warnings, 1);
	assert_non_null(strstr(last_warning, "1099511627776 bytes needs 536875008 for its map"));
	cache_blob_close(p.b);
	assert_false(memdisk_exists(memcache_path(GOOD, &t, NULL)));
	/* A blob whose map is just a sixteenth of the limit is kept. */
	t.size = (8 * MIB / 16 - 4096) / 8 * CACHE_CHUNK; /* its digest does not matter */
	assert_true(cache_map_cost(t.size) == 8 * MIB / 16);
	assert_int_equal(memcache_open_blob(&p, GOOD, &t, &e), 0);
	assert_int_equal(cachelib_publish(p.b, &t, 0), 0);
	memcache_leave(&p);
}

/* Without a map there are claims, and what another process publishes then is seen. */
static void before_the_map(void **state)
{
	const struct test_blob t = cachelib_blob(1, SIZE);
	struct process a = memcache_use(1, GOOD, &t, 0), b = memcache_use(2, GOOD, &t, 0);

	assert_int_equal(cache_blob_claim(a.b, 0, 5, 0), 5);
	assert_int_equal(cache_blob_claim(b.b, 0, 5, 0), 0);
	assert_int_equal(cachelib_look(b.b, &t, 0), 0);
	assert_false(cache_blob_has_map(a.b));
	assert_int_equal(cachelib_publish(a.b, &t, 0), 0);
	assert_true(cache_blob_has_map(a.b));
	memcache_sleep(1);
	assert_true(cache_blob_has(b.b, 0));
	assert_true(cache_blob_has_map(b.b));
	assert_int_equal(cachelib_look(b.b, &t, 0), 1);
	assert_int_equal(cache_blob_claim(b.b, 0, 5, 0), 0); /* still */
	cache_blob_close(a.b);
	assert_true(memdisk_exists(memcache_path(GOOD, &t, "map")));
	cache_close(a.c);
	memcache_leave(&b);
}

/* A blob of no bytes is whole without a chunk. */
static void of_no_bytes(void **state)
{
	const struct test_blob t = cachelib_blob(1, 0);
	struct process p = memcache_use(1, GOOD, &t, 0);

	cache_keep_once(p.c);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	memcache_leave(&p);
}

/* ---- what is held ---- */

/* Filling an image makes room among what is older, and keeps what it has got. */
static void filling(void **state)
{
	const struct test_blob old = cachelib_blob(1, 60 * CACHE_CHUNK),
			       one = cachelib_blob(2, 40 * CACHE_CHUNK),
			       two = cachelib_blob(3, 40 * CACHE_CHUNK),
			       three = cachelib_blob(4, 40 * CACHE_CHUNK);
	struct process p = memcache_use(1, GOOD, &old, 100 * CACHE_CHUNK), q, r, s;
	struct err e;

	cachelib_publish_all(p.b, &old);
	assert_int_equal(cachelib_count(p.b, &old), 60); /* and marked as used */
	q = memcache_use(2, EVIL, &one, CACHE_LIMIT_FOLDER);
	assert_int_equal(cache_blob_hold(q.b, &e), 0);
	cachelib_publish_all(q.b, &one);
	r = memcache_use(2, EVIL, &two, CACHE_LIMIT_FOLDER);
	assert_int_equal(cache_blob_hold(r.b, &e), 0);
	assert_int_equal(cachelib_count(q.b, &one), 40);
	assert_in_range(cachelib_count(p.b, &old), 10, 20);
	cachelib_publish_all(r.b, &two);
	cache_keep_once(r.c);
	assert_int_equal(cachelib_count(q.b, &one), 40);
	assert_int_equal(cachelib_count(r.b, &two), 40);
	/* A third has no room beside them, and takes none of theirs. */
	s = memcache_use(2, EVIL, &three, CACHE_LIMIT_FOLDER);
	assert_int_equal(cache_blob_hold(s.b, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "do not fit under cache-limit=1600K beside the"));
	assert_int_equal(cachelib_count(q.b, &one) + cachelib_count(r.b, &two), 80);
	/* But when the limit cannot be kept otherwise they are evicted too. */
	cache_set_limits(s.c, &(struct cache_limits){ 50 * CACHE_CHUNK, CACHE_LIMIT_FOLDER });
	cache_keep_once(s.c);
	assert_true(used(&s) <= 50 * CACHE_CHUNK);
	memcache_leave(&s);
	memcache_leave(&r);
	memcache_leave(&q);
	memcache_leave(&p);
}

/* One that is larger than the limit is refused before anything is evicted for it. */
static void too_large(void **state)
{
	const struct test_blob old = cachelib_blob(1, SIZE), big = cachelib_blob(2, 4 * SIZE);
	struct process p = memcache_use(1, GOOD, &old, 3 * SIZE), q;
	struct err e;

	cachelib_publish_all(p.b, &old);
	q = memcache_use(2, EVIL, &big, CACHE_LIMIT_FOLDER);
	assert_int_equal(cache_blob_hold(q.b, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "do not fit under cache-limit=960K"));
	assert_int_equal(cachelib_count(p.b, &old), 20);
	/* What is there already needs no room. */
	assert_int_equal(cache_blob_hold(p.b, &e), 0);
	memcache_leave(&q);
	memcache_leave(&p);
}

/* ---- while a whole is checked ---- */

static struct process *filler;
static const struct test_blob *filling_blob;
static unsigned reads;

/* Another process goes on filling meanwhile, and the keeper hears that it is over its limit. */
static int fill_meanwhile(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	if (op == MEMDISK_PREAD && process == 1 && ++reads < 60)
		(void)cachelib_publish(filler->b, filling_blob, reads);
	if (op == MEMDISK_PREAD && process == 1)
		cache_keeper_kick(arg);
	return 0;
}

static void evicts_while_it_checks(void **state)
{
	const struct test_blob t = cachelib_blob(1, 130 * CACHE_CHUNK),
			       other = cachelib_blob(2, 100 * CACHE_CHUNK);
	struct process p = memcache_use(1, GOOD, &t, 0), q = memcache_use(2, EVIL, &other, 0);
	struct err e;
	uint64_t freed;

	cachelib_publish_all(p.b, &t);
	cache_keep_once(q.c);
	assert_int_equal(cache_evict_run(q.c, UINT64_MAX, 0, &freed, &e), 0);
	cache_set_limits(p.c, &(struct cache_limits){ 150 * CACHE_CHUNK, CACHE_LIMIT_FOLDER });
	filler = &q;
	filling_blob = &other;
	reads = 0;
	memdisk_set_hook(fill_meanwhile, p.c);
	memdisk_as(1);
	(void)cache_blob_verify(p.b, &e);
	memdisk_set_hook(NULL, NULL);
	assert_true(reads >= 60);
	assert_true(used(&p) <= 150 * CACHE_CHUNK);
	memcache_leave(&q);
	memcache_leave(&p);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, memcache_set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(is_the_folders),	 TEST(damaged),
		TEST(made_anew),	 TEST(unreadable),
		TEST(keep_free),	 TEST(full_disk),
		TEST(full_of_others),	 TEST(each_kind),
		TEST(cannot_be_made),	 TEST(only_maps),
		TEST(claims_a_tebibyte), TEST(before_the_map),
		TEST(of_no_bytes),	 TEST(filling),
		TEST(too_large),	 TEST(evicts_while_it_checks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
