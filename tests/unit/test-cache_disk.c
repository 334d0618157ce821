/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_disk.c - the cache's operations on its disk: the system's do what they are called, a
 * disk in memory does the same, and the cache survives the failure of each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <linux/magic.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "core/base/scope.h"
#include "tests/unit/memcache.h"

/* ---- the system's ---- */

static unsigned syncs, interrupted; /* the first calls that a signal interrupts */
static int synced_fd = -1;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fdatasync(int fd)
{
	syncs++;
	synced_fd = fd;
	if (interrupted > 0) {
		interrupted--;
		errno = EINTR;
		return -1;
	}
	return __real_fdatasync(fd);
}

/* datasync of the real table is a sync of that file. */
static void real_sync(void **state)
{
	struct cache_file f = { &cache_disk_system, -1 };

	cachelib_make_folder();
	f.fd = open(folder, O_RDWR | O_TMPFILE, 0600);
	assert_true(cache_disk_is_open(f));
	syncs = 0;
	assert_int_equal(f.ops->datasync(f.fd), 0);
	assert_int_equal(syncs, 1);
	assert_int_equal(synced_fd, f.fd);
	assert_int_equal(f.ops->datasync(-1), -EBADF);
	syncs = 0;
	interrupted = 2;
	assert_int_equal(f.ops->datasync(f.fd), 0);
	assert_int_equal(syncs, 3);
	cache_disk_close(&f);
	assert_false(cache_disk_is_open(f));
	cachelib_remove_folder();
}

/* ---- all of it, or why not ---- */

static const int *turns; /* what the next calls answer: bytes, or -errno */
static uint8_t moved[64];

static ssize_t read_in_turns(int fd, void *buf, size_t n, uint64_t off)
{
	int r = *turns++;

	assert_in_range(off + n, 0, sizeof moved);
	if (r > 0)
		memcpy(buf, moved + off, (size_t)r);
	return r;
}

static ssize_t write_in_turns(int fd, const void *buf, size_t n, uint64_t off)
{
	int r = *turns++;

	assert_in_range(off + n, 0, sizeof moved);
	if (r > 0)
		memcpy(moved + off, buf, (size_t)r);
	return r;
}

static int open_nothing(int at, const char *name, int flags, mode_t mode)
{
	return -EMFILE;
}

static const struct cache_disk_ops in_turns = { .open = open_nothing,
						.pread = read_in_turns,
						.pwrite = write_in_turns };

/* Calls that are interrupted or short go on where they were; what fails is told with its place. */
static void all_or_why(void **state)
{
	static const struct {
		int turns[6];
		int r;
		const char *text; /* of reading; NULL: none */
		int of_write;
	} rows[] = {
		{ { 10 }, 0, NULL, 0 },
		{ { -EINTR, 3, -EINTR, -EINTR, 7 }, 0, NULL, 0 },
		{ { 4, 1, 5 }, 0, NULL, 0 },
		{ { 4, -EIO }, -EIO, "reading 10 bytes at 20: Input/output error", -EIO },
		{ { -ENOMEM }, -ENOMEM, "reading 10 bytes at 20: Cannot allocate", -ENOMEM },
		{ { 4, 0 }, -EIO, "reading 10 bytes at 20: the file ends at 24", -ENOSPC },
	};
	const struct cache_file f = { &in_turns, 5 };
	struct cache_file none = { &in_turns, 7 };
	uint8_t bytes[10], back[10];
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		memset(bytes, (int)i + 1, sizeof bytes);
		memset(moved, 0, sizeof moved);
		turns = rows[i].turns;
		assert_int_equal(cache_disk_write(f, bytes, 10, 20, &e), rows[i].of_write);
		if (rows[i].of_write < 0)
			assert_non_null(strstr(e.msg, "writing 10 bytes at 20: "));
		else
			assert_memory_equal(moved + 20, bytes, 10);
		assert_int_equal(moved[19] | moved[30], 0);
		turns = rows[i].turns;
		assert_int_equal(cache_disk_read(f, back, 10, 20, &e), rows[i].r);
		if (rows[i].r < 0)
			assert_non_null(strstr(e.msg, rows[i].text));
		else
			assert_memory_equal(back, bytes, 10);
	}
	assert_int_equal(cache_disk_open(f, "x", O_RDONLY, 0, &none), -EMFILE);
	assert_int_equal(none.fd, CACHE_FILE_NONE.fd);
	assert_ptr_equal(none.ops, &in_turns);
}

/* ---- both alike ---- */

/* What the operations of one table answered, in order, in words. */
struct protocol {
	char text[16384];
	size_t n;
};

static void note(struct protocol *p, const char *what, int64_t result)
{
	int n = snprintf(p->text + p->n, sizeof p->text - p->n, "%s %" PRId64 "\n", what, result);

	p->n += (size_t)n;
	assert_true(p->n < sizeof p->text);
}

/* A descriptor's number says nothing. */
static int note_open(struct protocol *p, const char *what, int fd)
{
	note(p, what, fd < 0 ? fd : 0);
	return fd;
}

static void note_stat(struct protocol *p, const char *what, int r, const struct stat *st)
{
	note(p, what, r);
	if (r < 0)
		return;
	note(p, "  regular", S_ISREG(st->st_mode));
	if (!S_ISREG(st->st_mode))
		return;
	note(p, "  names", (int64_t)st->st_nlink);
	note(p, "  size", st->st_size);
	note(p, "  blocks", st->st_blocks);
}

static int count_name(void *arg, const char *name)
{
	*(unsigned *)arg += 1 + (unsigned)strlen(name);
	return strcmp(name, "stop") == 0 ? 7 : 0;
}

static void names_alike(const struct cache_disk_ops *ops, int at, struct protocol *p)
{
	unsigned seen = 0;
	struct stat st;
	int a, sub;

	note(p, "make", ops->make_folder(at, "sub", 0700));
	note(p, "make again", ops->make_folder(at, "sub", 0700));
	note(p, "make in nothing", ops->make_folder(at, "none/sub", 0700));
	note_open(p, "open nothing", ops->open(at, "none", O_RDWR, 0));
	note_open(p, "write a folder", ops->open(at, "sub", O_RDWR, 0));
	sub = note_open(p, "folder", ops->open(at, "sub", O_RDONLY | O_DIRECTORY, 0));
	a = note_open(p, "new", ops->open(at, "a", O_RDWR | O_CREAT | O_EXCL, 0600));
	note_open(p, "new again", ops->open(at, "a", O_RDWR | O_CREAT | O_EXCL, 0600));
	note_open(p, "no folder", ops->open(at, "a", O_RDONLY | O_DIRECTORY, 0));
	note_open(p, "below a file", ops->open(at, "a/b", O_RDONLY, 0));
	note(p, "exists", ops->exists(at, "a"));
	note(p, "exists not", ops->exists(at, "b"));
	ops->close(ops->open(at, "b", O_RDWR | O_CREAT, 0600));
	note(p, "name, taken", ops->name(at, "a", "b"));
	note(p, "it stays", ops->exists(at, "a"));
	note(p, "name", ops->name(at, "b", "c"));
	note(p, "name nothing", ops->name(at, "b", "d"));
	note(p, "name a folder", ops->name(at, "c", "sub"));
	note(p, "rename back", ops->rename(at, "c", "b"));
	note_stat(p, "one name", ops->stat(a, &st), &st);
	note(p, "rename away", ops->rename(at, "b", "sub/b"));
	note_stat(p, "is there", ops->stat_at(at, "sub/b", &st), &st);
	note(p, "rename over", ops->rename(at, "a", "sub"));
	note(p, "rename onto a file", ops->rename(at, "sub", "a"));
	note(p, "make 2", ops->make_folder(at, "sub2", 0700));
	note(p, "onto a full folder", ops->rename(at, "sub2", "sub"));
	note(p, "onto an empty one", ops->rename(at, "sub", "sub2"));
	note(p, "list", ops->list(at, ".", count_name, &seen));
	note(p, "names", seen);
	note(p, "list nothing", ops->list(at, "none", count_name, &seen));
	note(p, "list a file", ops->list(at, "a", count_name, &seen));
	note(p, "unlink a folder", ops->unlink(at, "sub2"));
	note(p, "remove a file", ops->remove_folder(at, "a"));
	note(p, "remove a full one", ops->remove_folder(at, "sub2"));
	note(p, "unlink", ops->unlink(at, "sub2/b"));
	note(p, "unlink again", ops->unlink(at, "sub2/b"));
	note(p, "remove", ops->remove_folder(at, "sub2"));
	note_open(p, "in a removed one", ops->open(sub, "x", O_RDWR | O_CREAT, 0600));
	note(p, "folder there", ops->make_folder(sub, "x", 0700));
	note(p, "unlink the last", ops->unlink(at, "a"));
	note_stat(p, "no name", ops->stat(a, &st), &st);
	ops->close(a);
	ops->close(sub);
}

static void bytes_alike(const struct cache_disk_ops *ops, int at, struct protocol *p)
{
	uint8_t bytes[3 * 4096], got[5 * 4096];
	struct stat st;
	uint64_t state = 5;
	unsigned i, sum = 0;
	int a = ops->open(at, "f", O_RDWR | O_CREAT, 0600), b = ops->open(at, "f", O_RDONLY, 0);

	testlib_fill(bytes, sizeof bytes, 0, &state);
	note(p, "write", ops->pwrite(a, bytes, sizeof bytes, 4096));
	note(p, "write, not allowed", ops->pwrite(b, bytes, 1, 0));
	note_stat(p, "size", ops->stat(b, &st), &st);
	note(p, "punch", ops->punch(a, 2 * 4096 - 100, 4096 + 200));
	note_stat(p, "punched", ops->stat(b, &st), &st);
	note(p, "read", ops->pread(b, got, sizeof got, 0));
	for (i = 0; i < 4 * 4096; i++)
		sum = sum * 31 + got[i];
	note(p, "sum", sum);
	note(p, "read the end", ops->pread(b, got, sizeof got, 4 * 4096 - 10));
	note(p, "read behind", ops->pread(b, got, sizeof got, 1 << 20));
	note(p, "truncate", ops->truncate(a, 4096 + 10));
	note(p, "longer", ops->truncate(a, 8 * 4096));
	note(p, "read", ops->pread(b, got, 4096, 4096));
	for (i = 0, sum = 0; i < 4096; i++)
		sum = sum * 31 + got[i];
	note(p, "sum", sum);
	note(p, "allocate", ops->allocate(a, 6 * 4096));
	note(p, "unshare", ops->unshare(a, 8 * 4096) == 0 || true); /* as the file system likes */
	note_stat(p, "allocated", ops->stat(b, &st), &st);
	note(p, "sync", ops->datasync(a));
	note(p, "touch", ops->touch(a));
	note(p, "replace", ops->replace(b, a));
	note(p, "write by the other", ops->pwrite(b, bytes, 10, 0));
	ops->close(a);
	note(p, "still open", ops->pread(b, got, 10, 0));
	ops->close(b);
}

static int lock_alike(const struct cache_disk_ops *ops, int fd, short type, uint64_t off,
		      uint64_t n)
{
	return ops->lock(fd, type, off, n);
}

static void look_alike(const struct cache_disk_ops *ops, int fd, uint64_t off, uint64_t n,
		       struct protocol *p)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)off, .l_len = (off_t)n
	};

	note(p, "look", ops->look(fd, &lock));
	note(p, "  type", lock.l_type);
	if (lock.l_type == F_UNLCK)
		return;
	note(p, "  from", lock.l_start);
	note(p, "  bytes", lock.l_len);
}

static void locks_alike(const struct cache_disk_ops *ops, int at, struct protocol *p)
{
	int a = ops->open(at, "l", O_RDWR | O_CREAT, 0600), b = ops->open(at, "l", O_RDWR, 0);
	int c = ops->open(at, "l", O_RDWR, 0);

	note(p, "a 10+10", lock_alike(ops, a, F_WRLCK, 10, 10));
	note(p, "a again", lock_alike(ops, a, F_WRLCK, 5, 10));
	note(p, "b 19+1", lock_alike(ops, b, F_RDLCK, 19, 1));
	note(p, "b 20+5", lock_alike(ops, b, F_RDLCK, 20, 5));
	note(p, "c 20+5", lock_alike(ops, c, F_RDLCK, 20, 5));
	note(p, "a 22", lock_alike(ops, a, F_WRLCK, 22, 1));
	look_alike(ops, c, 0, 100, p);
	look_alike(ops, c, 20, 0, p);
	look_alike(ops, a, 6, 4, p);
	note(p, "a gives 8+4", lock_alike(ops, a, F_UNLCK, 8, 4));
	note(p, "c 8+4", lock_alike(ops, c, F_WRLCK, 8, 4));
	note(p, "c 7", lock_alike(ops, c, F_WRLCK, 7, 1));
	note(p, "c 12", lock_alike(ops, c, F_WRLCK, 12, 1));
	note(p, "b read to write", lock_alike(ops, b, F_WRLCK, 20, 5));
	ops->close(c);
	note(p, "b once c is gone", lock_alike(ops, b, F_WRLCK, 20, 5));
	note(p, "b to the end", lock_alike(ops, b, F_WRLCK, 1000, 0));
	note(p, "a far away", lock_alike(ops, a, F_RDLCK, (uint64_t)1 << 40, 1));
	note(p, "a has none in its way", lock_alike(ops, a, F_WRLCK, 900, 1));
	note(p, "b gives all", lock_alike(ops, b, F_UNLCK, 0, 0));
	look_alike(ops, a, 500, 0, p);
	ops->close(a);
	look_alike(ops, b, 0, 0, p);
	ops->close(b);
}

static void maps_alike(const struct cache_disk_ops *ops, int at, struct protocol *p)
{
	int a = ops->open(at, "m", O_RDWR | O_CREAT, 0600),
	    b = ops->open(at, "n", O_RDWR | O_CREAT, 0600);
	void *x, *y, *z;

	note(p, "allocate", ops->allocate(a, 8192) + ops->allocate(b, 8192));
	note(p, "write", ops->pwrite(a, "abc", 3, 4096));
	note(p, "map", ops->map(a, 8192, NULL, &x));
	note(p, "map", ops->map(a, 8192, NULL, &y));
	note(p, "map", ops->map(b, 8192, NULL, &z));
	note(p, "prepare", ops->prepare((char *)x + 4000, 200));
	((char *)x)[4097] = 'X';
	note(p, "seen", ((volatile char *)y)[4097]);
	note(p, "not there", ((volatile char *)z)[4097]);
	note(p, "write b", ops->pwrite(b, "Y", 1, 4097));
	note(p, "in place of", ops->map(b, 8192, x, &x));
	note(p, "now b", ((volatile char *)x)[4097]);
	((char *)x)[0] = 'Z';
	note(p, "seen", ((volatile char *)z)[0]);
	note(p, "not in a", ((volatile char *)y)[0]);
	ops->unmap(x, 8192);
	ops->unmap(y, 8192);
	ops->unmap(z, 8192);
	ops->close(a);
	ops->close(b);
}

/* memdisk answers what the system's operations answer: a simulation on it is of what runs. */
static void alike(void **state)
{
	static struct protocol real, memory;
	void (*const parts[])(const struct cache_disk_ops *, int,
			      struct protocol *) = { names_alike, bytes_alike, locks_alike,
						     maps_alike };
	size_t i;
	int at;

	cachelib_make_folder();
	at = cache_disk_system.open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	assert_true(at >= 0);
	for (i = 0; i < sizeof parts / sizeof *parts; i++)
		parts[i](&cache_disk_system, at, &real);
	cache_disk_system.close(at);
	cachelib_remove_folder();
	memdisk_make(0);
	assert_int_equal(memdisk_ops.make_folder(AT_FDCWD, "/d", 0700), 0);
	at = memdisk_ops.open(AT_FDCWD, "/d", O_RDONLY | O_DIRECTORY, 0);
	for (i = 0; i < sizeof parts / sizeof *parts; i++)
		parts[i](&memdisk_ops, at, &memory);
	memdisk_ops.close(at);
	memdisk_free();
	for (i = 0; real.text[i] && real.text[i] == memory.text[i];)
		i++;
	if (real.text[i] || memory.text[i]) {
		while (i > 0 && real.text[i - 1] != '\n')
			i--;
		fail_msg("the system says: %.200s\nmemdisk says: %.200s", real.text + i,
			 memory.text + i);
	}
}

/* ---- memdisk itself ---- */

/* The disk's size holds, and what is freed can be taken again. */
static void room(void **state)
{
	static const uint8_t bytes[4 * MEMDISK_BLOCK];
	struct cache_disk_room left;
	int f;

	memdisk_make(3 * MEMDISK_BLOCK);
	f = memdisk_ops.open(AT_FDCWD, "/f", O_RDWR | O_CREAT, 0600);
	assert_int_equal(memdisk_ops.pwrite(f, bytes, sizeof bytes, 0), 3 * MEMDISK_BLOCK);
	assert_int_equal(memdisk_ops.pwrite(f, bytes, 1, 3 * MEMDISK_BLOCK), -ENOSPC);
	assert_int_equal(memdisk_ops.allocate(f, 4 * MEMDISK_BLOCK), -ENOSPC);
	assert_int_equal(memdisk_ops.punch(f, 0, MEMDISK_BLOCK), 0);
	assert_int_equal(memdisk_ops.room(f, &left), 0);
	assert_int_equal(left.free, MEMDISK_BLOCK);
	assert_int_equal(memdisk_ops.pwrite(f, bytes, 1, 3 * MEMDISK_BLOCK), 1);
	assert_int_equal(memdisk_used(), 3 * MEMDISK_BLOCK);
	memdisk_ops.close(f);
	memdisk_free();
}

/* A killed process loses its locks, and what it stores from then on is not seen. */
static void killed(void **state)
{
	int a, b;
	uint8_t *x, got = 1;
	void *at;

	memdisk_make(0);
	memdisk_as(1);
	a = memdisk_ops.open(AT_FDCWD, "/f", O_RDWR | O_CREAT, 0600);
	memdisk_as(2);
	b = memdisk_ops.open(AT_FDCWD, "/f", O_RDWR, 0);
	assert_int_equal(memdisk_ops.allocate(a, MEMDISK_BLOCK), 0);
	assert_int_equal(memdisk_ops.map(a, MEMDISK_BLOCK, NULL, &at), 0);
	x = at;
	assert_int_equal(memdisk_ops.lock(a, F_WRLCK, 0, 0), 0);
	assert_int_equal(memdisk_ops.lock(b, F_WRLCK, 0, 0), -EAGAIN);
	memdisk_kill(1);
	assert_int_equal(memdisk_ops.lock(b, F_WRLCK, 0, 0), 0);
	x[0] = 7;
	memdisk_peek("/f", 0, &got, 1);
	assert_int_equal(got, 0);
	assert_int_equal(memdisk_ops.pread(a, &got, 1, 0), -EBADF);
	memdisk_ops.unmap(at, MEMDISK_BLOCK);
	memdisk_ops.close(a);
	memdisk_ops.close(b);
	memdisk_free();
}

/* ---- what it costs ---- */

/* A simulation opens caches and blobs a million times. */
static void quick(void **state)
{
	const struct test_blob t = cachelib_blob(1, 3 * CACHE_CHUNK);
	uint64_t began, each;
	int i;

	log_set_sink(count_warning);
	began = clock_us();
	for (i = 0; i < 1000; i++) {
		struct process p;

		memdisk_make(0);
		p = memcache_use(1, GOOD, &t, 0);
		memcache_leave(&p);
		memdisk_free();
	}
	each = (clock_us() - began) / 1000;
	print_message("a disk, a cache and a blob: %" PRIu64 " us\n", each);
	assert_true(each < 5000);
}

/* ---- each operation fails ---- */

enum { SIZE = 5 * CACHE_CHUNK + 100, SMALL = 2 * CACHE_CHUNK };

static struct test_blob blob, small;

/* What is read is right, whatever failed.  Publishing may fail. */
static void use_blob(struct process *p, const struct test_blob *t)
{
	uint64_t i;

	for (i = 0; i < cachelib_chunks(t); i++)
		(void)cachelib_publish(p->b, t, i);
	for (i = 0; i < cachelib_chunks(t); i++)
		assert_int_not_equal(cachelib_look(p->b, t, i), -1);
	if (cache_blob_claim(p->b, 0, 2, 0) > 0)
		cache_blob_unclaim(p->b, 0, 2, 0);
	if (cache_blob_claim_download(p->b))
		cache_blob_unclaim_download(p->b);
	cache_blob_drop(p->b, CACHE_CHUNK, 1);
	(void)cachelib_publish(p->b, t, 1);
}

static void use_documents(struct cache *c)
{
	AUTO_FREE char *text = NULL;
	struct err e;
	size_t n;

	(void)cache_put_document(c, GOOD, "latest", "one", 3, &e);
	if (cache_put_document(c, GOOD, "latest", "two", 3, &e) == 0 &&
	    cache_get_document(c, GOOD, "latest", &text, &n, &e) == 0)
		assert_string_equal(text, "two");
}

static int ignore(void *arg, const struct cache_entry *entry)
{
	return 0;
}

/* All that a process does with the cache and its tools, one after the other. */
static void use_all(void)
{
	struct process p, q = { 0 };
	uint64_t freed, checked, bad, dropped;
	struct err e = { "" };

	if (memcache_open(&p, 1, 16 * CACHE_CHUNK, &e) < 0) {
		assert_non_null(strstr(e.msg, "cache " DIR));
		return;
	}
	if (memcache_open_blob(&p, GOOD, &blob, &e) == 0) {
		use_blob(&p, &blob);
		(void)cache_blob_verify(p.b, &e);
		cache_keep_once(p.c);
	}
	use_documents(p.c);
	if (memcache_open(&q, 2, 16 * CACHE_CHUNK, &e) == 0 &&
	    memcache_open_blob(&q, EVIL, &small, &e) == 0) {
		use_blob(&q, &small);
		cache_keep_once(q.c);
	}
	memdisk_as(1);
	(void)cache_list(p.c, ignore, NULL, &e);
	(void)cache_usage(p.c);
	(void)cache_verify_all(p.c, NULL, NULL, &checked, &bad, &e);
	(void)cache_prune(p.c, SMALL, &freed, &e);
	cache_keep_once(p.c);
	(void)cache_drop(p.c, small.digest, NULL, &dropped, &e);
	(void)cache_drop(p.c, NULL, NULL, &dropped, &e);
	cache_keep_once(p.c);
	memcache_leave(&p);
	if (q.c)
		memcache_leave(&q);
}

/* What failed is over: a process that starts now fills, checks and reads. */
static void is_well(void)
{
	struct process p = memcache_use(3, GOOD, &blob, 0);
	struct err e = { "" };

	cachelib_publish_all(p.b, &blob);
	assert_int_equal(cachelib_count(p.b, &blob), cachelib_chunks(&blob));
	if (cache_blob_verify(p.b, &e) != 0)
		fail_msg("verify: %s", e.msg);
	assert_int_equal(cache_blob_state(p.b), CACHE_WHOLE);
	assert_int_equal(cachelib_count(p.b, &blob), cachelib_chunks(&blob));
	memcache_leave(&p);
}

/* The k-th operation of all fails, for every k, once or from then on. */
static void sweep(int error, bool lasting)
{
	uint64_t k;

	for (k = 1;; k++) {
		bool failed;

		memdisk_make(0);
		memdisk_fail(MEMDISK_ANY, k, error, lasting);
		use_all();
		failed = memdisk_failed();
		memdisk_heal();
		is_well();
		memdisk_free();
		if (!failed)
			break;
	}
	print_message("%" PRIu64 " operations failed with %s\n", k - 1, strerror(error));
	assert_true(k > 300);
}

static void set_up_sweep(void)
{
	log_set_sink(count_warning);
	clock_use(&memcache_clock);
	blob = cachelib_blob(1, SIZE);
	small = cachelib_blob(2, SMALL);
}

static void each_eio(void **state)
{
	set_up_sweep();
	sweep(EIO, false);
	sweep(EIO, true);
}

static void each_enospc(void **state)
{
	set_up_sweep();
	sweep(ENOSPC, false);
	sweep(ENOSPC, true);
}

static void each_emfile(void **state)
{
	set_up_sweep();
	sweep(EMFILE, false);
	sweep(EINTR, false);
}

/* A disk of every size, in blocks. */
static void each_size(void **state)
{
	uint64_t blocks;

	set_up_sweep();
	for (blocks = 1; blocks < 80; blocks++) {
		memdisk_make(blocks * MEMDISK_BLOCK);
		use_all();
		memdisk_set_room(0);
		is_well();
		memdisk_free();
	}
}

/* Short reads and writes are continued. */
static void each_short(void **state)
{
	const enum memdisk_op ops[] = { MEMDISK_PREAD, MEMDISK_PWRITE };
	uint64_t k;
	size_t i;

	set_up_sweep();
	for (i = 0; i < 2; i++)
		for (k = 1; k < 40; k++) {
			memdisk_make(0);
			memdisk_cut(ops[i], k, 1000);
			is_well();
			memdisk_free();
		}
}

/* The process is killed before its k-th operation, in the midst of what it does. */
static int kill_there(void *arg, enum memdisk_op op, unsigned process, const char *name)
{
	uint64_t *left = arg;

	if (*left > 0 && --*left == 0)
		memdisk_kill(1);
	return 0;
}

static void each_kill(void **state)
{
	uint64_t k, left;

	set_up_sweep();
	for (k = 1;; k++) {
		memdisk_make(0);
		left = k;
		memdisk_set_hook(kill_there, &left);
		use_all();
		memdisk_set_hook(NULL, NULL);
		is_well();
		memdisk_free();
		if (left > 0)
			break;
	}
	print_message("killed at %" PRIu64 " operations\n", k - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_sync),   cmocka_unit_test(all_or_why),
		cmocka_unit_test(alike),       cmocka_unit_test(room),
		cmocka_unit_test(killed),      cmocka_unit_test(quick),
		cmocka_unit_test(each_eio),    cmocka_unit_test(each_enospc),
		cmocka_unit_test(each_emfile), cmocka_unit_test(each_size),
		cmocka_unit_test(each_short),  cmocka_unit_test(each_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
