/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_errors.c - what is said, and given back, when an operation of the disk fails: by each
 * of the functions that the cache is built on.  On a disk in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "fetch/cache_map_internal.h"
#include "tests/unit/memcache.h"

enum { CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000 };

static struct test_blob blob;
static struct process p;

static int set_up(void **state)
{
	blob = cachelib_blob(1, SIZE);
	memcache_set_up(state);
	p = memcache_use(1, GOOD, &blob, 0);
	cachelib_publish_all(p.b, &blob);
	return 0;
}

static int tear_down(void **state)
{
	memdisk_heal();
	if (p.c)
		memcache_leave(&p);
	return memcache_tear_down(state);
}

/* ---- what is called, with "x" ---- */

static int replace_synced(struct err *e)
{
	return cache_folder_replace_file(p.c->root, "x", "text", 4, true, e);
}

static int replace(struct err *e)
{
	return cache_folder_replace_file(p.c->root, "x", "text", 4, false, e);
}

static int make_file(struct err *e)
{
	return cache_folder_make_file(p.c->root, "x", "text", 4, 100, e);
}

static int make_folder(struct err *e)
{
	return cache_folder_make(p.c->root, "x", e);
}

static int enter(struct err *e)
{
	struct cache_file f = CACHE_FILE_NONE;
	int r = cache_folder_enter(p.c->root, "sha256/x", true, &f, e);

	assert_int_equal(cache_disk_is_open(f), r == 0);
	cache_disk_close(&f);
	return r;
}

static int open_file(struct err *e)
{
	struct cache_file f = CACHE_FILE_NONE;
	int r = cache_folder_open_file(p.c->root, "limits", false, &f, e);

	assert_int_equal(cache_disk_is_open(f), r == 0);
	cache_disk_close(&f);
	return r;
}

static int read_at_most(size_t limit, const char *name, struct err *e)
{
	struct cache_file f = CACHE_FILE_NONE;
	char *text = NULL;
	size_t n = 0;
	int r = cache_folder_read_file(p.c->root, name, limit, &f, &text, &n, e);

	if (r == 0) {
		assert_int_equal(n, 20);
		assert_string_equal(text, "limit=0\nkeep-free=0\n");
	}
	free(text);
	cache_disk_close(&f);
	return r;
}

static int read_all(struct err *e)
{
	return read_at_most(20, "limits", e);
}

static int read_less(struct err *e)
{
	return read_at_most(19, "limits", e);
}

static int read_folder(struct err *e)
{
	return read_at_most(20, "sha256", e);
}

static int remove_blob_folder(struct err *e)
{
	return cache_folder_remove(p.c->root, p.b->own_path, e);
}

static int open_another(struct err *e)
{
	static _Atomic uint64_t bad;
	const struct cache_map_counters counters = { p.c->usage, &bad, NULL };
	struct cache_map *m;
	int r = cache_map_open(p.c->root, p.b->own_path, blob.digest, SIZE, false, &counters, &m,
			       e);

	if (r == 0)
		cache_map_close(m);
	return r;
}

static int mend(struct err *e)
{
	assert_int_equal(memdisk_ops.truncate(p.b->own->data.fd, 5), 0);
	return cache_map_mend_data(p.b->own, e);
}

static int sync_map(struct err *e)
{
	return cache_map_sync(p.b->own, e);
}

static int open_cache(struct err *e)
{
	struct cache *c;
	int r = cache_open_on(&memdisk_ops, DIR, 0, &c, e);

	if (r == 0)
		cache_close(c);
	return r;
}

static int too_large(struct err *e)
{
	struct process q = { .number = 1, .c = p.c };
	struct test_blob t = blob;
	int r;

	t.size = ((uint64_t)1 << 40) + 1;
	t.digest[10] = t.digest[10] == '0' ? '1' : '0';
	r = memcache_open_blob(&q, GOOD, &t, e);
	if (r == 0)
		cache_blob_close(q.b);
	return r;
}

/* ---- what it says ---- */

#define IO "Input/output error"

static const struct {
	int (*call)(struct err *e);
	enum memdisk_op op; /* that fails .. */
	unsigned nth;
	int error; /* .. with this; 0: none does */
	int r;
	const char *text;
} rows[] = {
	{ replace_synced, MEMDISK_DATASYNC, 1, EIO, -EIO, "creating 'x': fdatasync: " IO },
	{ replace, MEMDISK_DATASYNC, 1, EIO, 0, NULL },
	{ replace, MEMDISK_OPEN, 1, EIO, -EIO, "creating 'x': " IO },
	{ replace, MEMDISK_PWRITE, 1, EIO, -EIO, "creating 'x': writing 4 bytes at 0: " IO },
	{ replace, MEMDISK_RENAME, 1, EIO, -EIO, "creating 'x': renaming: " IO },
	{ make_file, MEMDISK_OPEN, 1, EIO, -EIO, "creating 'x': " IO },
	{ make_file, MEMDISK_ALLOCATE, 1, EIO, -EIO, "creating 'x': allocating 100 bytes: " IO },
	{ make_file, MEMDISK_PWRITE, 1, EIO, -EIO, "creating 'x': writing 4 bytes at 0: " IO },
	{ make_file, MEMDISK_NAME, 1, EIO, -EIO, "creating 'x': renaming: " IO },
	{ make_file, MEMDISK_NAME, 1, EEXIST, 0, NULL },
	{ make_file, MEMDISK_NO_COW, 1, EIO, 0, NULL },
	{ make_folder, MEMDISK_MAKE_FOLDER, 1, EIO, -EIO, "creating the folder x: " IO },
	{ make_folder, MEMDISK_MAKE_FOLDER, 1, EEXIST, 0, NULL },
	{ enter, MEMDISK_MAKE_FOLDER, 1, EIO, -EIO, "creating the folder x: " IO },
	{ enter, MEMDISK_OPEN, 1, EIO, -EIO, IO },
	{ enter, MEMDISK_OPEN, 1, ELOOP, -ENOTDIR, "Too many levels of symbolic links" },
	{ enter, MEMDISK_OPEN, 3, EIO, -EIO, IO },
	{ enter, MEMDISK_OPEN, 3, ELOOP, -EUCLEAN, "not a folder" },
	{ enter, MEMDISK_OPEN, 3, ENOTDIR, -EUCLEAN, "not a folder" },
	{ open_file, MEMDISK_OPEN, 1, EIO, -EIO, "limits: " IO },
	{ open_file, MEMDISK_OPEN, 1, EISDIR, -EUCLEAN, "limits: Is a directory" },
	{ open_file, MEMDISK_STAT, 1, EIO, -EUCLEAN, "limits: not a file" },
	{ read_all, MEMDISK_ANY, 0, 0, 0, NULL },
	{ read_less, MEMDISK_ANY, 0, 0, -EFBIG, "it has 20 bytes" },
	{ read_folder, MEMDISK_ANY, 0, 0, -EINVAL, "not a regular file" },
	{ read_all, MEMDISK_OPEN, 1, EIO, -EIO, IO },
	{ read_all, MEMDISK_STAT, 1, EIO, -EIO, IO },
	{ read_all, MEMDISK_PREAD, 1, EIO, -EIO, "reading 20 bytes at 0: " IO },
	{ remove_blob_folder, MEMDISK_RENAME, 1, EIO, -EIO, ": renaming it away: " IO },
	{ remove_blob_folder, MEMDISK_UNLINK, 1, EIO, -EIO, ": deleting gone." },
	{ remove_blob_folder, MEMDISK_UNLINK, 2, EIO, -EIO, ": " IO },
	{ remove_blob_folder, MEMDISK_UNLINK, 2, ENOENT, 0, NULL },
	{ remove_blob_folder, MEMDISK_OPEN, 1, ENOENT, 0, NULL },
	{ remove_blob_folder, MEMDISK_OPEN, 1, EIO, -EIO, ": " IO },
	{ remove_blob_folder, MEMDISK_LIST, 1, EIO, -EIO, ": " IO },
	{ remove_blob_folder, MEMDISK_LIST, 1, ENOENT, 0, NULL },
	{ remove_blob_folder, MEMDISK_REMOVE_FOLDER, 1, EEXIST, 0, NULL },
	{ remove_blob_folder, MEMDISK_REMOVE_FOLDER, 1, EIO, -EIO, ": " IO },
	{ open_another, MEMDISK_ANY, 0, 0, 0, NULL },
	{ open_another, MEMDISK_OPEN, 3, EIO, -EIO, "lock: " IO },
	{ open_another, MEMDISK_OPEN, 4, EIO, -EIO, "map: " IO },
	{ open_another, MEMDISK_OPEN, 5, EIO, -EIO, "data: " IO },
	{ open_another, MEMDISK_LOCK, 1, EAGAIN, -ESTALE, "it is being removed" },
	{ open_another, MEMDISK_STAT, 3, EIO, -EIO, "map: " IO },
	{ open_another, MEMDISK_PREAD, 1, EIO, -EIO, "reading 4096 bytes at 0: " IO },
	{ open_another, MEMDISK_MAP, 1, EIO, -EIO, "mapping the map: " IO },
	{ open_another, MEMDISK_UNSHARE, 1, EIO, 0, NULL },
	{ open_another, MEMDISK_ALLOCATE, 1, EIO, 0, NULL }, /* it has no holes */
	{ mend, MEMDISK_ANY, 0, 0, 0, NULL },
	{ mend, MEMDISK_TRUNCATE, 2, EIO, -EIO, "data: " IO },
	{ mend, MEMDISK_STAT, 1, EIO, -EIO, "data: " IO },
	{ sync_map, MEMDISK_DATASYNC, 1, EIO, -EIO, "fdatasync: " IO },
	{ sync_map, MEMDISK_DATASYNC, 2, EIO, -EIO, "fdatasync: " IO },
	{ sync_map, MEMDISK_DATASYNC, 3, EIO, 0, NULL },
	{ open_cache, MEMDISK_MAP, 1, EIO, -EIO, "cache " DIR ": usage: " IO },
	{ open_cache, MEMDISK_ALLOCATE, 1, EIO, -EIO, "cache " DIR ": allocating 4096 bytes: " IO },
	{ open_cache, MEMDISK_OPEN, 1, EIO, -EIO, "cache " DIR ": " IO },
	{ open_cache, MEMDISK_OPEN, 3, EIO, -EIO, "cache " DIR ": creating a file: " IO },
	{ too_large, MEMDISK_ANY, 0, 0, -EFBIG,
	  "cache " DIR ": a blob of 1099511627777 bytes is too large for the cache" },
};

static void each(void **state)
{
	size_t i;

	tear_down(state);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err e = { "untouched" };
		const char *text = rows[i].text ? rows[i].text : "untouched";
		int r;

		set_up(state);
		if (rows[i].error)
			memdisk_fail(rows[i].op, rows[i].nth, rows[i].error, false);
		r = rows[i].call(&e);
		if (r != rows[i].r || !strstr(e.msg, text) ||
		    (text[0] != ':' && strncmp(e.msg, text, strlen(text)) != 0))
			fail_msg("row %zu: %d: %s", i, r, e.msg);
		tear_down(state);
	}
	set_up(state);
}

/* A folder that is open, but gone: nothing can be made in it, and nobody tries for ever. */
static void in_a_removed_folder(void **state)
{
	struct cache_file place, f = CACHE_FILE_NONE;
	uint64_t calls;
	struct err e;

	assert_int_equal(cache_folder_enter(p.c->root, "x", true, &place, &e), 0);
	assert_int_equal(memdisk_ops.remove_folder(p.c->root.fd, "x"), 0);
	calls = memdisk_calls(MEMDISK_OPEN);
	assert_int_equal(cache_folder_open_file(place, "y", true, &f, &e), -ENOENT);
	assert_string_equal(e.msg, "y: No such file or directory");
	assert_true(memdisk_calls(MEMDISK_OPEN) - calls < 20);
	assert_int_equal(cache_folder_make_file(place, "y", "", 0, 10, &e), -ENOENT);
	assert_int_equal(cache_folder_make(place, "y", &e), -ENOENT);
	assert_false(cache_folder_is_at(p.c->root, "x", place));
	cache_disk_close(&place);
}

static int taken_and_gone(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	unsigned *times = arg;

	if (op != MEMDISK_OPEN || strcmp(name, "y") != 0 || *times == 0)
		return 0;
	return --*times % 2 ? -EEXIST : -ENOENT;
}

/* A file that others make and remove by turns. */
static void made_and_removed(void **state)
{
	struct cache_file f = CACHE_FILE_NONE;
	unsigned times;
	struct err e;

	for (times = 3; times <= 19; times += 2) {
		unsigned left = times;
		int r;

		(void)memdisk_ops.unlink(p.c->root.fd, "y");
		memdisk_set_hook(taken_and_gone, &left);
		r = cache_folder_open_file(p.c->root, "y", true, &f, &e);
		memdisk_set_hook(NULL, NULL);
		assert_int_equal(r, times < 17 ? 0 : -ENOENT);
		cache_disk_close(&f);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each),
		TEST(in_a_removed_folder),
		TEST(made_and_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
