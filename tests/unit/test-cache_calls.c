/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_calls.c - the system's table of the cache: which call each operation makes, with what,
 * and what becomes of its errno.  Linked with these calls wrapped. */
#include <dirent.h>
#include <errno.h>
#include <linux/fs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>

#include <cmocka.h>

#include "fetch/cache_disk.h"
#include "tests/unit/cachelib.h"

static const struct cache_disk_ops *const ops = &cache_disk_system;

/* What the next calls answer: 0: they are done; else this errno. */
static int renames, links, locks, opens, reads, gets, sets;
static char called[256]; /* the last one that notes itself */
static int flags_then; /* that FS_IOC_GETFLAGS gives */

static bool fails(int code)
{
	errno = code;
	return code != 0;
}

int __real_renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags);
int __wrap_renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags);
int __real_linkat(int from_at, const char *from, int to_at, const char *to, int flags);
int __wrap_linkat(int from_at, const char *from, int to_at, const char *to, int flags);
int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);
struct dirent *__real_readdir64(DIR *d);
struct dirent *__wrap_readdir64(DIR *d);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_fallocate64(int fd, int mode, off_t off, off_t n);
int __wrap_fchown(int fd, uid_t user, gid_t group);
int __wrap_futimens(int fd, const struct timespec times[2]);

int __wrap_renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
	return fails(renames) ? -1 : __real_renameat2(from_at, from, to_at, to, flags);
}

int __wrap_linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
	snprintf(called, sizeof called, "link %s %s", from, to);
	return fails(links) ? -1 : __real_linkat(from_at, from, to_at, to, flags);
}

/* EINTR: once. */
int __wrap_fcntl64(int fd, int command, ...)
{
	int code = locks;
	va_list ap;
	void *lock;

	va_start(ap, command);
	lock = va_arg(ap, void *);
	va_end(ap);
	if (code == EINTR)
		locks = 0;
	return fails(code) ? -1 : __real_fcntl64(fd, command, lock);
}

DIR *__wrap_fdopendir(int fd)
{
	return fails(opens) ? NULL : __real_fdopendir(fd);
}

struct dirent *__wrap_readdir64(DIR *d)
{
	return reads != 0 && fails(reads) ? NULL : __real_readdir64(d);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	int *flags;

	va_start(ap, request);
	flags = va_arg(ap, int *);
	va_end(ap);
	if (request == FS_IOC_GETFLAGS) {
		*flags = flags_then;
		return fails(gets) ? -1 : 0;
	}
	snprintf(called, sizeof called, "%s %x", request == FS_IOC_SETFLAGS ? "set" : "?", *flags);
	return fails(sets) ? -1 : 0;
}

int __wrap_fallocate64(int fd, int mode, off_t off, off_t n)
{
	snprintf(called, sizeof called, "fallocate %x %d %d", mode, (int)off, (int)n);
	return fails(sets) ? -1 : 0;
}

int __wrap_fchown(int fd, uid_t user, gid_t group)
{
	snprintf(called, sizeof called, "chown %d %d", (int)user, (int)group);
	return fails(sets) ? -1 : 0;
}

int __wrap_futimens(int fd, const struct timespec times[2])
{
	snprintf(called, sizeof called, "touch %s", times ? "then" : "now");
	return fails(sets) ? -1 : 0;
}

/* ---- in a folder of our own ---- */

static int at;

static int set_up(void **state)
{
	renames = links = locks = opens = reads = gets = sets = 0;
	called[0] = '\0';
	cachelib_make_folder();
	at = open(folder, O_RDONLY | O_DIRECTORY);
	return at < 0;
}

static int tear_down(void **state)
{
	close(at);
	cachelib_remove_folder();
	return 0;
}

static void make_file(const char *name)
{
	int fd = openat(at, name, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	close(fd);
}

static bool exists(const char *name)
{
	return faccessat(at, name, F_OK, 0) == 0;
}

/* ---- tests ---- */

/* A file system that cannot rename without replacing has two names for a moment; another error is
 * one. */
static void names(void **state)
{
	static const int cannot[] = { EINVAL, ENOSYS };
	size_t i;

	make_file("taken");
	for (i = 0; i < 2; i++) {
		make_file("a");
		renames = cannot[i];
		assert_int_equal(ops->name(at, "a", "taken"), -EEXIST);
		assert_true(exists("a"));
		called[0] = '\0';
		assert_int_equal(ops->name(at, "a", "b"), 0);
		assert_string_equal(called, "link a b");
		assert_false(exists("a"));
		assert_true(exists("b"));
		assert_int_equal(ops->name(at, "a", "c"), -ENOENT);
		links = EPERM;
		assert_int_equal(ops->name(at, "b", "c"), -EPERM);
		assert_true(exists("b"));
		links = 0;
		assert_int_equal(unlinkat(at, "b", 0), 0);
	}
	make_file("a");
	renames = EXDEV;
	called[0] = '\0';
	assert_int_equal(ops->name(at, "a", "b"), -EXDEV);
	renames = 0;
	assert_int_equal(ops->name(at, "a", "taken"), -EEXIST);
	assert_int_equal(ops->name(at, "a", "b"), 0);
	assert_string_equal(called, "");
	assert_true(exists("b"));
}

/* A lock that another has is EAGAIN, whatever the system calls it; an interruption is none. */
static void locking(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 1 };
	int a, b;

	make_file("a");
	a = openat(at, "a", O_RDWR);
	b = openat(at, "a", O_RDWR);
	locks = EACCES;
	assert_int_equal(ops->lock(a, F_WRLCK, 3, 2), -EAGAIN);
	locks = EBADF;
	assert_int_equal(ops->lock(a, F_WRLCK, 3, 2), -EBADF);
	assert_int_equal(ops->look(a, &lock), -EBADF);
	locks = EINTR;
	assert_int_equal(ops->lock(a, F_WRLCK, 3, 2), 0);
	assert_int_equal(locks, 0);
	assert_int_equal(ops->lock(b, F_WRLCK, 4, 1), -EAGAIN);
	assert_int_equal(ops->lock(b, F_WRLCK, 5, 1), 0);
	assert_int_equal(ops->look(b, &lock), 0);
	assert_int_equal(lock.l_start, 3);
	close(a);
	close(b);
}

static unsigned listed;

static int note_name(void *arg, const char *name)
{
	assert_string_equal(name, "a");
	listed++;
	return 0;
}

/* A folder that cannot be read to its end is not taken for a short one. */
static void listing(void **state)
{
	make_file("a");
	listed = 0;
	opens = ENOMEM;
	assert_int_equal(ops->list(at, ".", note_name, NULL), -ENOMEM);
	opens = 0;
	reads = EIO;
	assert_int_equal(ops->list(at, ".", note_name, NULL), -EIO);
	reads = 0;
	assert_int_equal(listed, 0);
	assert_int_equal(ops->list(at, ".", note_name, NULL), 0);
	assert_int_equal(listed, 1);
	assert_int_equal(ops->list(at, "none", note_name, NULL), -ENOENT);
}

/* With which arguments. */
static void arguments(void **state)
{
	char expected[64];

	flags_then = 0x10;
	assert_int_equal(ops->no_cow(7), 0);
	snprintf(expected, sizeof expected, "set %x", FS_NOCOW_FL | 0x10);
	assert_string_equal(called, expected);
	assert_int_equal(ops->punch(7, 100, 30), 0);
	snprintf(expected, sizeof expected, "fallocate %x 100 30",
		 FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	assert_string_equal(called, expected);
	assert_int_equal(ops->allocate(7, 300), 0);
	assert_string_equal(called, "fallocate 0 0 300");
	assert_int_equal(ops->unshare(7, 300), 0);
	snprintf(expected, sizeof expected, "fallocate %x 0 300",
		 FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE);
	assert_string_equal(called, expected);
	assert_int_equal(ops->give(7, 11, 22), 0);
	assert_string_equal(called, "chown 11 22");
	assert_int_equal(ops->touch(7), 0);
	assert_string_equal(called, "touch now");
	sets = EPERM;
	assert_int_equal(ops->punch(7, 100, 30), -EPERM);
	assert_int_equal(ops->allocate(7, 300), -EPERM);
	assert_int_equal(ops->unshare(7, 300), -EPERM);
	assert_int_equal(ops->give(7, 11, 22), -EPERM);
	assert_int_equal(ops->touch(7), -EPERM);
	assert_int_equal(ops->no_cow(7), -EOPNOTSUPP);
	called[0] = '\0';
	gets = ENOTTY;
	assert_int_equal(ops->no_cow(7), -EOPNOTSUPP);
	assert_string_equal(called, "");
}

/* What others may still write, and on what. */
static void room(void **state)
{
	struct cache_disk_room left = { 0 };
	struct statfs fs;

	assert_int_equal(fstatfs(at, &fs), 0);
	assert_int_equal(ops->room(at, &left), 0);
	assert_true(left.type == fs.f_type);
	/* Others may write or delete meanwhile, but not that much. */
	assert_true(left.free / 2 <= (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize);
	assert_true(left.free >= (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize / 2);
	assert_int_equal(ops->room(-1, &left), -EBADF);
}

static bool is_closed_on_exec(int fd)
{
	return fcntl(fd, F_GETFD) & FD_CLOEXEC;
}

/* No program that is started inherits a descriptor; what fails says why. */
static void descriptors(void **state)
{
	struct stat st;
	void *where;
	char byte;
	int a, b;

	a = ops->open(at, "a", O_RDWR | O_CREAT, 0640);
	assert_true(a >= 0 && is_closed_on_exec(a));
	assert_int_equal(ops->stat(a, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	b = open("/dev/null", O_RDONLY);
	assert_int_equal(ops->replace(b, a), 0);
	assert_true(is_closed_on_exec(b));
	assert_int_equal(ops->pwrite(b, "x", 1, 5), 1);
	assert_int_equal(ops->pread(a, &byte, 1, 5), 1);
	assert_int_equal(byte, 'x');
	ops->close(b);
	assert_int_equal(fcntl(b, F_GETFD), -1);
	assert_int_equal(ops->replace(a, -1), -EBADF);
	assert_int_equal(ops->stat(-1, &st), -EBADF);
	assert_int_equal(ops->pread(-1, &byte, 1, 0), -EBADF);
	assert_int_equal(ops->pwrite(-1, &byte, 1, 0), -EBADF);
	assert_int_equal(ops->truncate(-1, 1), -EBADF);
	assert_int_equal(ops->datasync(-1), -EBADF);
	assert_int_equal(ops->map(-1, 4096, NULL, &where), -EBADF);
	assert_int_equal(ops->make_folder(at, "f", 0710), 0);
	assert_int_equal(ops->stat_at(at, "f", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0710);
	assert_int_equal(symlinkat("a", at, "link"), 0);
	assert_int_equal(ops->stat_at(at, "link", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(ops->exists(at, "link"), 0);
	assert_int_equal(ops->prepare(&byte, 1), 0);
	ops->close(a);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(names),	 TEST(locking), TEST(listing),
		TEST(arguments), TEST(room),	TEST(descriptors),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
