/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_files.c - the files and folders of a cache: made, found, opened anew, listed, removed;
 * and what others do between two steps of that.  On a disk in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <linux/magic.h>

#include <cmocka.h>

#include "fetch/cache_map_internal.h"
#include "tests/unit/memcache.h"

enum { CHUNK = CACHE_CHUNK, CHUNKS = 8, SIZE = 7 * CACHE_CHUNK + 1000, TRIES = 8 };

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

static void make_folder(const char *path)
{
	assert_int_equal(memdisk_ops.make_folder(AT_FDCWD, path, 0700), 0);
}

/* ---- the folder's own files ---- */

static unsigned names_seen;

static int know_name(void *arg, const char *name)
{
	static const char *const known[] = { "usage", "lock", "limits", "sha256" };
	size_t i;

	for (i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(name, known[i]) == 0)
			names_seen |= 1u << i;
	return ++*(unsigned *)arg, 0;
}

/* Made whole, with nothing left over, and never copied on write. */
static void made(void **state)
{
	struct process p = use(1, GOOD);
	unsigned count = 0;
	struct stat st;

	memcache_leave(&p);
	names_seen = 0;
	assert_int_equal(memdisk_ops.list(AT_FDCWD, DIR "/v1", know_name, &count), 0);
	assert_int_equal(names_seen, 15);
	assert_int_equal(count, 5); /* and the origin's */
	assert_int_equal(memdisk_size(DIR "/v1/lock"), 1);
	assert_int_equal(memdisk_size(DIR "/v1/usage"), 4096);
	assert_int_equal(memdisk_allocated(DIR "/v1/usage"), 4096);
	assert_int_equal(memdisk_calls(MEMDISK_NO_COW), 2);
	assert_int_equal(memdisk_ops.stat_at(AT_FDCWD, DIR "/v1/lock", &st), 0);
	assert_int_equal(st.st_uid, 0);
}

static int strict_open(int at, const char *name, int flags, mode_t mode)
{
	if (flags & O_CREAT) {
		assert_int_equal(mode, 0600);
		assert_int_equal(flags & (O_EXCL | O_ACCMODE), O_EXCL | O_RDWR);
	} else {
		assert_int_equal(mode, 0);
		if (!(flags & O_DIRECTORY)) /* no fifo is waited for, no link followed */
			assert_int_equal(flags & (O_NONBLOCK | O_NOFOLLOW),
					 O_NONBLOCK | O_NOFOLLOW);
		else if (at != AT_FDCWD)
			assert_int_equal(flags & O_NOFOLLOW, O_NOFOLLOW);
	}
	return memdisk_ops.open(at, name, flags, mode);
}

static int strict_make_folder(int at, const char *name, mode_t mode)
{
	assert_int_equal(mode, 0700);
	return memdisk_ops.make_folder(at, name, mode);
}

/* Others can read nothing of it; what is there is opened with care. */
static void with_care(void **state)
{
	struct cache_disk_ops ops = memdisk_ops;
	struct process x = { .number = 1 };
	uint64_t freed, dropped;
	char *text;
	struct err e;
	size_t n;

	ops.open = strict_open;
	ops.make_folder = strict_make_folder;
	memdisk_as(1);
	assert_int_equal(cache_open_on(&ops, DIR, 0, &x.c, &e), 0);
	assert_int_equal(memcache_open_blob(&x, GOOD, &blob, &e), 0);
	cachelib_publish_all(x.b, &blob);
	assert_int_equal(cache_put_document(x.c, GOOD, "x", "x", 1, &e), 0);
	assert_int_equal(cache_get_document(x.c, GOOD, "x", &text, &n, &e), 0);
	free(text);
	keep(&x);
	assert_int_equal(cachelib_count(x.b, &blob), CHUNKS);
	assert_int_equal(cache_prune(x.c, 0, &freed, &e), 0);
	assert_int_equal(cache_drop(x.c, NULL, NULL, &dropped, &e), 0);
	keep(&x);
	memcache_leave(&x);
}

/* What root makes in a folder of another's is that one's. */
static void given(void **state)
{
	static const struct {
		uid_t user;
		gid_t group;
	} owners[] = { { 0, 0 }, { 5, 6 }, { 5, 0 }, { 0, 6 } };
	size_t i;

	for (i = 0; i < 4; i++) {
		struct process x;
		struct stat st;
		int fd;

		memdisk_make(0);
		x = use(1, GOOD);
		fd = memdisk_ops.open(AT_FDCWD, DIR "/v1", O_RDONLY | O_DIRECTORY, 0);
		assert_int_equal(memdisk_ops.give(fd, owners[i].user, owners[i].group), 0);
		memdisk_ops.close(fd);
		memcache_leave(&x);
		x = use(1, EVIL);
		cachelib_publish_all(x.b, &blob);
		assert_int_equal(
			memdisk_ops.stat_at(AT_FDCWD, memcache_path(EVIL, &blob, "map"), &st), 0);
		assert_int_equal(st.st_uid, geteuid() == 0 ? owners[i].user : 0);
		assert_int_equal(st.st_gid, geteuid() == 0 ? owners[i].group : 0);
		/* The limit of 1 GiB: a file that is replaced. */
		cache_set_limits(x.c, &(struct cache_limits){ 1 << 30, 0 });
		assert_int_equal(memdisk_ops.stat_at(AT_FDCWD, DIR "/v1/limits", &st), 0);
		assert_int_equal(st.st_uid, geteuid() == 0 ? owners[i].user : 0);
		assert_int_equal(memdisk_calls(MEMDISK_GIVE) > 1, i > 0 && geteuid() == 0);
		memcache_leave(&x);
	}
}

static void unlink_lock(void)
{
	assert_int_equal(memdisk_ops.unlink(AT_FDCWD, DIR "/v1/lock"), 0);
}

/* One that is removed as soon as it is made is no reason to make another, of whatever size. */
static void removed_at_once(void **state)
{
	struct process p;
	struct err e;

	memcache_on(MEMDISK_OPEN, "lock", 2, unlink_lock, 0);
	assert_int_equal(memcache_open(&p, 1, 0, &e), -ENOENT);
	assert_string_equal(e.msg, "cache " DIR ": lock: No such file or directory");
	memdisk_set_hook(NULL, NULL);
	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	cache_close(p.c);
}

/* A lock that was removed is made anew, and excludes whoever comes then. */
static void lock_removed(void **state)
{
	struct process p = use(1, GOOD), q;

	unlink_lock();
	keep(&p);
	q = use(2, GOOD);
	assert_int_equal(cache_folder_lock(p.c->lock_file, F_WRLCK, 0, 1), 0);
	assert_int_equal(cache_folder_lock(q.c->lock_file, F_WRLCK, 0, 1), -EAGAIN);
	cache_folder_lock(p.c->lock_file, F_UNLCK, 0, 1);
	assert_int_equal(cache_folder_lock(q.c->lock_file, F_WRLCK, 0, 1), 0);
	memcache_leave(&q);
	memcache_leave(&p);
	assert_int_equal(warnings, 0);
}

/* `usage` that was removed is counted at once; by who evicts at the moment, if somebody does. */
static void usage_removed(void **state)
{
	struct process p = use(1, GOOD), q = use(2, GOOD);
	uint64_t then;

	cachelib_publish_all(p.b, &blob);
	keep(&p);
	assert_int_equal(memdisk_ops.unlink(AT_FDCWD, DIR "/v1/usage"), 0);
	keep(&p);
	assert_int_equal(atomic_load(p.c->usage), SIZE + 4096 + 8 * CHUNKS);
	keep(&q);
	assert_int_equal(atomic_load(q.c->usage), atomic_load(p.c->usage));
	assert_int_equal(memdisk_ops.unlink(AT_FDCWD, DIR "/v1/usage"), 0);
	assert_int_equal(cache_folder_lock(q.c->lock_file, F_WRLCK, 0, 1), 0);
	then = clock_ms();
	keep(&p);
	assert_int_equal(clock_ms(), then);
	assert_int_equal(atomic_load(p.c->usage), 0);
	cache_folder_lock(q.c->lock_file, F_UNLCK, 0, 1);
	/* Not while another thread evicts. */
	assert_int_equal(memdisk_ops.unlink(AT_FDCWD, DIR "/v1/usage"), 0);
	pthread_mutex_lock(&p.c->evicting);
	keep(&p);
	assert_false(memdisk_exists(DIR "/v1/usage"));
	pthread_mutex_unlock(&p.c->evicting);
	keep(&p);
	assert_true(memdisk_exists(DIR "/v1/usage"));
	memcache_leave(&q);
	memcache_leave(&p);
}

/* What cannot be put in place of the old one is told as trouble, and tried again. */
static void not_replaced(void **state)
{
	static const char *const gone[] = { DIR "/v1/lock", DIR "/v1/usage", DIR "/v1" };
	size_t i;

	for (i = 0; i < 3; i++) {
		struct process p, q;

		memdisk_make(0);
		warnings = 0;
		p = use(1, GOOD);
		memcache_rename_away(gone[i]);
		memdisk_fail(MEMDISK_REPLACE, 1, EMFILE, false);
		keep(&p);
		assert_true(memdisk_failed());
		assert_int_equal(warnings, 1);
		assert_non_null(
			strstr(last_warning, "cache " DIR ": Too many open files; nothing"));
		assert_false(cache_is_filling(p.c));
		memcache_sleep(60 * 1000);
		keep(&p);
		q = use(2, GOOD);
		assert_true(atomic_load(q.c->usage) == atomic_load(p.c->usage));
		cachelib_publish_all(p.b, &blob);
		keep(&q);
		assert_int_equal(cachelib_count(q.b, &blob), CHUNKS);
		assert_int_equal(atomic_load(q.c->usage), atomic_load(p.c->usage));
		memcache_leave(&q);
		memcache_leave(&p);
	}
}

/* ---- which file systems ---- */

static void file_systems(void **state)
{
	static const struct {
		int64_t type;
		int r;
	} rows[] = {
		{ EXT4_SUPER_MAGIC, 0 },
		{ XFS_SUPER_MAGIC, 0 },
		{ BTRFS_SUPER_MAGIC, -EOPNOTSUPP }, /* this one has no flag NOCOW */
		{ F2FS_SUPER_MAGIC, 0 },
		{ TMPFS_MAGIC, 0 },
		{ OVERLAYFS_SUPER_MAGIC, 0 },
		{ NFS_SUPER_MAGIC, -EOPNOTSUPP },
	};
	struct process p;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		memdisk_make(0);
		memdisk_set_type(rows[i].type);
		assert_int_equal(memcache_open(&p, 1, 0, &e), rows[i].r);
		if (rows[i].r == 0)
			cache_close(p.c);
		else if (rows[i].type == BTRFS_SUPER_MAGIC)
			assert_non_null(strstr(e.msg, "btrfs does not allow the flag NOCOW"));
	}
}

static uint64_t shift, less, more;

static int punch_otherwise(int fd, uint64_t off, uint64_t n)
{
	assert_int_equal(off, 0);
	assert_int_equal(n, CHUNK); /* whole blocks */
	return memdisk_ops.punch(fd, off + shift, n - shift - less + more);
}

/* Holes that are not where they should be are none. */
static void holes(void **state)
{
	static const uint64_t rows[][3] = { { 0, 0, 0 },    { 4096, 0, 0 },   { 0, 4096, 0 },
					    { 0, 1, 0 },    { 1, 0, 0 },      { 0, 0, 1 },
					    { 0, 0, 4096 }, { 8192, 0, 8192 } };
	struct cache_disk_ops ops = memdisk_ops;
	struct cache *c;
	struct err e;
	size_t i;

	ops.punch = punch_otherwise;
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		memdisk_make(0);
		shift = rows[i][0];
		less = rows[i][1];
		more = rows[i][2];
		assert_int_equal(cache_open_on(&ops, DIR, 0, &c, &e), i == 0 ? 0 : -EOPNOTSUPP);
		if (i == 0)
			cache_close(c);
		else
			assert_string_equal(e.msg,
					    "cache " DIR ": the file system punches no holes");
	}
}

/* A cache on a full disk can still be read; other trouble is told. */
static void full_when_opened(void **state)
{
	static const struct {
		enum memdisk_op op;
		int error, r;
		const char *text;
	} rows[] = {
		{ MEMDISK_PWRITE, ENOSPC, 0, NULL },
		{ MEMDISK_PWRITE, EDQUOT, 0, NULL },
		{ MEMDISK_PUNCH, ENOSPC, 0, NULL },
		{ MEMDISK_PWRITE, EIO, -EIO, "writing 65536 bytes at 0: Input/output error" },
		{ MEMDISK_PREAD, EIO, -EIO, "reading 65536 bytes at 0: Input/output error" },
		{ MEMDISK_PUNCH, EPERM, -EPERM, "the file system cannot punch holes: Operation" },
		{ MEMDISK_ROOM, EIO, -EIO, "statfs: Input/output error" },
	};
	struct process p;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		memdisk_make(0);
		p = use(1, GOOD);
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
		memcache_leave(&p);
		memdisk_fail(rows[i].op, 1, rows[i].error, false);
		assert_int_equal(memcache_open(&p, 1, 0, &e), rows[i].r);
		assert_true(memdisk_failed());
		if (rows[i].r < 0) {
			assert_non_null(strstr(e.msg, rows[i].text));
			continue;
		}
		assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
		assert_int_equal(cachelib_look(p.b, &blob, 0), 1);
		memcache_leave(&p);
	}
}

/* What is above the folder need not be ours to make. */
static int read_only_above(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	return op == MEMDISK_MAKE_FOLDER && name[0] == '/' ? -EROFS : 0;
}

static void above(void **state)
{
	struct process p = use(1, GOOD);
	struct err e;

	memcache_leave(&p);
	memdisk_set_hook(read_only_above, NULL);
	p = use(1, GOOD);
	memcache_leave(&p);
	memcache_rename_away(DIR);
	assert_int_equal(memcache_open(&p, 1, 0, &e), -EROFS);
	assert_string_equal(e.msg, "cache " DIR ": creating " DIR ": Read-only file system");
}

/* ---- nothing is left over ---- */

static unsigned temporaries;

static void count_temporary(void *arg, const char *path)
{
	const char *name = strrchr(path, '/') + 1;

	temporaries += strncmp(name, "new.", 4) == 0 || strncmp(name, "probe.", 6) == 0;
}

static uint64_t until_fault;

static int fail_but_unlink(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	return op != MEMDISK_UNLINK && until_fault > 0 && --until_fault == 0 ? -EIO : 0;
}

/* Whatever fails while a file is made, what was made of it so far goes. */
static void no_leftovers(void **state)
{
	uint64_t nth;
	bool struck = true;

	for (nth = 1; struck; nth++) {
		struct process p = { .number = 1 };
		struct err e;
		int r;

		memdisk_make(0);
		until_fault = nth;
		memdisk_set_hook(fail_but_unlink, NULL);
		r = memcache_open(&p, 1, 0, &e);
		if (r == 0 && memcache_open_blob(&p, GOOD, &blob, &e) == 0)
			(void)cachelib_publish(p.b, &blob, 0);
		if (r == 0)
			(void)cache_put_document(p.c, GOOD, "x", "x", 1, &e);
		struck = until_fault == 0;
		memdisk_set_hook(NULL, NULL);
		temporaries = 0;
		memdisk_walk(count_temporary, NULL);
		if (temporaries > 0)
			fail_msg("%u files are left over after operation %d", temporaries,
				 (int)nth);
		memcache_leave(&p);
		memdisk_free();
	}
	assert_true(nth > 40);
	memdisk_make(0);
}

/* Names that look alike are another's; what is being made is left alone for an hour. */
static void swept(void **state)
{
	static const char *const others[] = { DIR "/v1/gone", DIR "/v1/news", DIR "/v1/probe",
					      DIR "/v1/xnew.1" };
	static const char *const ours[] = { DIR "/v1/new.1", DIR "/v1/probe.1" };
	struct process p = use(1, GOOD);
	uint64_t freed;
	struct err e;
	size_t i;

	for (i = 0; i < 4; i++)
		memcache_make_file(others[i], "x");
	for (i = 0; i < 2; i++)
		memcache_make_file(ours[i], "x");
	memcache_make_file(DIR "/v1/gone.1", "x");
	memcache_sleep(3600 * 1000);
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), 0);
	assert_false(memdisk_exists(DIR "/v1/gone.1"));
	for (i = 0; i < 2; i++)
		assert_true(memdisk_exists(ours[i]));
	memcache_sleep(1000);
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), 0);
	for (i = 0; i < 2; i++)
		assert_false(memdisk_exists(ours[i]));
	for (i = 0; i < 4; i++)
		assert_true(memdisk_exists(others[i]));
	memcache_leave(&p);
}

/* ---- removing ---- */

static int unlink_as_posix_says(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	return op == MEMDISK_UNLINK && strncmp(name, "gone.", 5) == 0 ? -EPERM : 0;
}

/* Folders within folders, as deep as nobody makes them. */
static void deep(void **state)
{
	unsigned depth, i;

	for (depth = 0; depth <= 4; depth++) {
		struct process p;
		char path[600];
		uint64_t dropped;
		struct err e;
		int r;

		memdisk_make(0);
		p = use(1, GOOD);
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
		snprintf(path, sizeof path, "%s", memcache_path(GOOD, &blob, NULL));
		for (i = 0; i < depth; i++) {
			memcpy(path + strlen(path), "/d", 3);
			make_folder(path);
		}
		memdisk_set_hook(unlink_as_posix_says, NULL);
		r = cache_drop(p.c, blob.digest, NULL, &dropped, &e);
		memdisk_set_hook(NULL, NULL);
		assert_int_equal(r, depth < 4 ? 0 : -ELOOP);
		assert_int_equal(dropped, depth < 4);
		if (r < 0)
			assert_non_null(strstr(e.msg, ": deleting gone."));
		memcache_leave(&p);
	}
}

/* A folder of a blob that nobody has made a map in goes with its last user, and nothing is made for
 * that; not when it is in use, or another has made one by now. */
static void unmade(void **state)
{
	struct process p = use(1, GOOD), q = use(2, GOOD);
	const char *folder_path = memcache_path(GOOD, &blob, NULL);
	uint64_t folders;

	assert_true(memdisk_exists(folder_path));
	memcache_leave(&q);
	assert_true(memdisk_exists(folder_path));
	folders = memdisk_calls(MEMDISK_MAKE_FOLDER);
	memcache_leave(&p);
	assert_false(memdisk_exists(folder_path));
	p = use(1, GOOD);
	folders = memdisk_calls(MEMDISK_MAKE_FOLDER);
	memcache_rename_away(memcache_path(GOOD, &blob, NULL));
	memcache_leave(&p);
	assert_int_equal(memdisk_calls(MEMDISK_MAKE_FOLDER), folders);
	/* In the millisecond in which it has looked, another makes it. */
	memdisk_make(0);
	p = use(1, GOOD);
	q = use(2, GOOD);
	memcache_sleep(1);
	memdisk_as(1);
	assert_false(cache_map_is_made(p.b->own));
	memdisk_as(2);
	cachelib_publish_all(q.b, &blob);
	memcache_leave(&q);
	memdisk_as(1);
	memcache_leave(&p);
	assert_true(memdisk_exists(memcache_path(GOOD, &blob, "map")));
	p = use(1, GOOD);
	assert_int_equal(cachelib_count(p.b, &blob), CHUNKS);
	memcache_leave(&p);
}

/* The clock's hand removes a folder without a lock that is empty, and makes nothing in one that it
 * cannot remove; nor does who counts. */
static void without_a_lock(void **state)
{
	struct test_blob other = cachelib_blob(2, SIZE);
	struct process p = use(1, GOOD);
	char path[600];
	uint64_t freed;
	unsigned full;
	struct err e;

	for (full = 0; full < 2; full++) {
		assert_int_equal(cachelib_publish(p.b, &blob, 0), 0);
		make_folder(memcache_path(GOOD, &other, NULL));
		snprintf(path, sizeof path, "%s", memcache_path(GOOD, &other, "x"));
		if (full)
			memcache_make_file(path, "x");
		assert_int_equal(cache_usage(p.c), CHUNK + 4096 + 8 * CHUNKS);
		assert_false(memdisk_exists(memcache_path(GOOD, &other, "lock")));
		assert_int_equal(cache_prune(p.c, 0, &freed, &e), 0);
		assert_int_equal(memdisk_exists(memcache_path(GOOD, &other, NULL)), full);
		assert_false(memdisk_exists(memcache_path(GOOD, &other, "lock")));
	}
	memcache_leave(&p);
}

static struct cache_map *open_alone(struct process *q)
{
	static _Atomic uint64_t bad;
	const struct cache_map_counters counters = { q->c->usage, &bad, NULL };
	char path[CACHE_PATH];
	struct cache_map *m;

	memcpy(path, q->b->own_path, sizeof path);
	cache_blob_close(q->b);
	q->b = NULL;
	assert_int_equal(
		cache_map_open(q->c->root, path, blob.digest, SIZE, false, &counters, &m, NULL), 0);
	assert_true(cache_map_take_alone(m));
	return m;
}

/* Who removes a folder may be slow: who opens it waits a quarter of a second; who evicts, lists or
 * counts does not. */
static void being_removed(void **state)
{
	struct process p = { .number = 1 }, q = use(2, GOOD);
	struct cache_map *m;
	uint64_t then, freed, checked, bad;
	struct err e;

	assert_int_equal(cachelib_publish(q.b, &blob, 0), 0);
	m = open_alone(&q);
	assert_int_equal(memcache_open(&p, 1, 0, &e), 0);
	then = clock_ms();
	assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), -ESTALE);
	assert_string_equal(e.msg, "cache " DIR ": it is being removed");
	assert_int_equal(clock_ms() - then, 2 + 4 + 8 + 16 + 32 + 64 + 128);
	then = clock_ms();
	assert_int_equal(cache_prune(p.c, 0, &freed, &e), 0);
	assert_int_equal(freed, 0);
	assert_int_equal(cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e), 0);
	assert_int_equal(checked + bad, 0);
	assert_int_equal(clock_ms(), then);
	cache_map_close(m);
	assert_int_equal(memcache_open_blob(&p, GOOD, &blob, &e), 0);
	assert_int_equal(cachelib_look(p.b, &blob, 0), 1);
	memcache_leave(&p);
	cache_close(q.c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(made),	     TEST(with_care),
		TEST(given),	     TEST(removed_at_once),
		TEST(lock_removed),  TEST(usage_removed),
		TEST(not_replaced),  TEST(file_systems),
		TEST(holes),	     TEST(full_when_opened),
		TEST(above),	     TEST(no_leftovers),
		TEST(swept),	     TEST(deep),
		TEST(unmade),	     TEST(without_a_lock),
		TEST(being_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
