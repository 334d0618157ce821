/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_system.c - the file operations of the system: that they do what the files in memory of
 * tests pretend to do, a sync above all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdlib.h>
#include <sys/file.h>

#include <cmocka.h>

#include "core/upper_file.h"
#include "tests/unit/allocs.h"
#include "tests/unit/syscalls.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const struct file_ops *const ops = &file_ops_system;

static char folder[] = "/tmp/test-upper_system.XXXXXX";
static char path[64], other[64];

static bool reads_are_short, reads_fail;

ssize_t __real_read(int fd, void *buf, size_t n);
ssize_t __wrap_read(int fd, void *buf, size_t n);

ssize_t __wrap_read(int fd, void *buf, size_t n)
{
	if (reads_fail) {
		errno = EIO;
		return -1;
	}
	return __real_read(fd, buf, reads_are_short && n > 5 ? 5 : n);
}

static int open_new(const char *name)
{
	int fd = ops->open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void files_are_opened_for_us_alone(void **state)
{
	mode_t before = umask(0);
	struct stat st;
	int fd;

	assert_int_equal(ops->open(path, O_RDWR, 0), -ENOENT);
	fd = ops->open(path, O_RDWR | O_CREAT | O_EXCL, 0640);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC); /* helpers do not get it */
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(ops->open(path, O_RDWR | O_CREAT | O_EXCL, 0640), -EEXIST);
	ops->close(fd);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	umask(before);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(20);
	fd = ops->open(path, O_RDONLY, 0); /* nobody writes to it: it does not wait */
	alarm(0);
	ops->close(fd);
	unlink(path);
}

static void bytes_go_to_their_place(void **state)
{
	const uint64_t far = (UINT64_C(1) << 33) + 5;
	int fd = open_new(path), read_only = ops->open(path, O_RDONLY, 0);
	uint64_t size = 0;
	char buf[8];

	assert_int_equal(ops->pwrite(fd, "far", 3, far), 3);
	assert_int_equal(ops->pwrite(fd, "near", 4, 1), 4);
	assert_int_equal(ops->pread(fd, buf, 8, far), 3);
	assert_memory_equal(buf, "far", 3);
	assert_int_equal(ops->pread(fd, buf, 5, 0), 5);
	assert_memory_equal(buf, "\0near", 5);
	assert_int_equal(ops->pread(fd, buf, 8, far + 3), 0);
	assert_int_equal(ops->size(fd, &size), 0);
	assert_true(size == far + 3);
	assert_int_equal(ops->truncate(fd, far + 1), 0);
	assert_int_equal(ops->size(fd, &size), 0);
	assert_true(size == far + 1);
	assert_true(ops->truncate(read_only, 1) < 0);
	assert_int_equal(ops->pwrite(read_only, "x", 1, 0), -EBADF);
	assert_int_equal(ops->pread(-1, buf, 1, 0), -EBADF);
	assert_int_equal(ops->size(-1, &size), -EBADF);
	ops->close(fd);
	ops->close(read_only);
	fd = ops->open(folder, O_RDONLY, 0);
	assert_int_equal(ops->size(fd, &size), -EINVAL);
	ops->close(fd);
}

/* What was flushed survives power loss only if the system was asked. */
static void syncs_reach_the_system(void **state)
{
	int fd = open_new(path);
	char cwd[256], opened[80];

	system_calls_begin();
	assert_int_equal(ops->datasync(fd), 0);
	assert_string_equal(system_calls.log, "sync-file");
	system_calls_refuse("sync-file", 0, EIO);
	assert_int_equal(ops->datasync(fd), -EIO);
	system_calls_begin();
	assert_int_equal(ops->sync_folder(path), 0);
	assert_string_equal(system_calls.log, "open-folder sync-folder");
	snprintf(opened, sizeof opened, "%s/.", folder);
	assert_string_equal(system_calls.opened, opened);
	system_calls_refuse("sync-folder", 0, ENOSPC);
	assert_int_equal(ops->sync_folder(path), -ENOSPC);
	system_calls_refuse("open-folder", 0, EACCES);
	assert_int_equal(ops->sync_folder(path), -EACCES);
	assert_string_equal(system_calls.log, "open-folder");
	/* A relative name's folder is the working directory. */
	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_int_equal(chdir(folder), 0);
	system_calls_begin();
	assert_int_equal(ops->sync_folder("file"), 0);
	assert_string_equal(system_calls.log, "open-folder sync-folder");
	assert_non_null(strstr(system_calls.opened, "/test-upper_system."));
	assert_int_equal(chdir(cwd), 0);
	system_calls_end();
	assert_int_equal(ops->sync_folder("/nonexistent/file"), -ENOENT);
	ops->close(fd);
}

static void holes_give_space_back(void **state)
{
	enum { MIB = 1 << 20 };
	int fd = open_new(path), read_only = ops->open(path, O_RDONLY, 0);
	char *bytes = malloc(MIB), piece[2];
	struct stat before, after;

	memset(bytes, 'b', MIB);
	assert_int_equal(ops->pwrite(fd, bytes, MIB, 0), MIB);
	assert_int_equal(fstat(fd, &before), 0);
	assert_int_equal(ops->punch(fd, MIB / 2, MIB / 2), 0);
	assert_int_equal(fstat(fd, &after), 0);
	assert_int_equal(after.st_size, MIB); /* it stays as long as it was */
	assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(ops->pread(fd, piece, 2, MIB / 2 - 1), 2);
	assert_memory_equal(piece, "b\0", 2);
	assert_true(ops->punch(read_only, 0, 4096) < 0);
	ops->close(fd);
	ops->close(read_only);
	free(bytes);
}

static void one_holds_the_lock(void **state)
{
	int first = open_new(path), second = ops->open(path, O_RDWR, 0);

	assert_int_equal(ops->lock(first), 0);
	assert_int_equal(ops->lock(second), -EWOULDBLOCK); /* at once */
	ops->close(first);
	assert_int_equal(ops->lock(second), 0);
	ops->close(second);
	assert_int_equal(ops->lock(-1), -EBADF);
}

static void names_are_compared(void **state)
{
	char beyond[80];
	int fd = open_new(path), fd2 = open_new(other);

	assert_int_equal(ops->is_named(fd, path), 1);
	assert_int_equal(ops->is_named(fd, other), 0);
	assert_int_equal(ops->is_named(fd2, other), 1);
	snprintf(beyond, sizeof beyond, "%s/x", path);
	assert_int_equal(ops->is_named(fd, beyond), -ENOTDIR);
	assert_int_equal(ops->is_named(-1, path), -EBADF);
	assert_int_equal(ops->rename(path, other), 0);
	assert_int_equal(ops->is_named(fd, path), 0); /* nothing has that name */
	assert_int_equal(ops->is_named(fd, other), 1);
	assert_int_equal(ops->rename(path, other), -ENOENT);
	assert_int_equal(ops->unlink(other), 0);
	assert_int_equal(ops->unlink(other), -ENOENT);
	ops->close(fd);
	ops->close(fd2);
}

static void assert_true_name(const char *name, const char *want)
{
	char *got = ops->true_name(name);

	assert_string_equal(got, want);
	free(got);
}

static void links_lead_to_true_names(void **state)
{
	char link_path[64], *resolved = realpath(folder, NULL), want[300];

	snprintf(link_path, sizeof link_path, "%s/link", folder);
	ops->close(open_new(path));
	assert_true_name(path, path);
	assert_true_name("/nonexistent/x", "/nonexistent/x");
	assert_int_equal(symlink("other", link_path), 0);
	assert_true_name(link_path, link_path); /* it leads nowhere */
	assert_int_equal(symlink("file", other), 0);
	snprintf(want, sizeof want, "%s/file", resolved);
	assert_true_name(link_path, want); /* through both */
	assert_true_name(other, want);
	allocs_left = 0;
	assert_null(ops->true_name(path));
	allocs_left = -1;
	unlink(link_path);
	unlink(other);
	free(resolved);
}

/* Whoever owns the folder may put a link there: it leads where its owner may write, or nowhere. */
static void links_of_others_lead_to_their_own_files(void **state)
{
	enum { NOBODY = 65534, SOMEBODY = 65533 };
	static const struct {
		uid_t we, link, target;
		bool followed;
	} cases[] = {
		{ 0, 0, 0, true },
		{ 0, 0, NOBODY, true },
		{ 0, NOBODY, 0, false },
		{ 0, NOBODY, NOBODY, true },
		{ 0, NOBODY, SOMEBODY, false },
		{ NOBODY, NOBODY, 0, true },
		{ NOBODY, 0, SOMEBODY, true },
		{ NOBODY, SOMEBODY, 0, false },
		{ NOBODY, SOMEBODY, NOBODY, false },
		{ NOBODY, SOMEBODY, SOMEBODY, true },
	};
	char *resolved, want[300];
	size_t i;

	if (geteuid() != 0) {
		printf("only root can be two users\n");
		skip();
	}
	assert_int_equal(chmod(folder, 0755), 0);
	resolved = realpath(folder, NULL);
	snprintf(want, sizeof want, "%s/file", resolved);
	ops->close(open_new(path));
	assert_int_equal(symlink("file", other), 0);
	for (i = 0; i < COUNT_OF(cases); i++) {
		assert_int_equal(lchown(other, cases[i].link, cases[i].link), 0);
		assert_int_equal(chown(path, cases[i].target, cases[i].target), 0);
		assert_int_equal(seteuid(cases[i].we), 0);
		assert_true_name(other, cases[i].followed ? want : other);
		assert_int_equal(seteuid(0), 0);
	}
	/* Without memory it is not followed either. */
	assert_int_equal(lchown(other, NOBODY, NOBODY), 0);
	allocs_left = 0;
	assert_null(ops->true_name(other));
	allocs_left = -1;
	unlink(other);
	unlink(path);
	free(resolved);
}

static void a_file_says_what_it_is(void **state)
{
	int fd = open_new(path);
	struct file_status status;
	char bytes[10000] = "x";
	struct stat st;

	assert_int_equal(ops->pwrite(fd, bytes, sizeof bytes, 0), sizeof bytes);
	assert_int_equal(fsync(fd), 0); /* some file systems allocate late */
	assert_int_equal(ops->status(fd, &status), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(status.allocated > 0);
	assert_int_equal(status.allocated, (uint64_t)st.st_blocks * 512);
	assert_int_equal(status.device, st.st_dev);
	assert_int_equal(status.inode, st.st_ino);
	assert_int_equal(status.links, 1);
	assert_int_equal(link(path, other), 0);
	assert_int_equal(ops->status(fd, &status), 0);
	assert_int_equal(status.links, 2);
	unlink(other);
	ops->close(fd);
	assert_int_equal(ops->status(-1, &status), -EBADF);
}

/* ---- lists ---- */

static struct {
	char all[512]; /* names, each with a space behind it */
	unsigned count;
} listed;

static void take_name(void *arg, const char *name)
{
	size_t n = strlen(listed.all);

	assert_ptr_equal(arg, &listed);
	listed.count++;
	snprintf(listed.all + n, sizeof listed.all - n, "%s ", name);
}

static int list(const char *name)
{
	memset(&listed, 0, sizeof listed);
	return ops->list(name, take_name, &listed);
}

static void expect_listed(const char *where, const char *name)
{
	char want[128];

	snprintf(want, sizeof want, "%s/%s ", where, name);
	if (!strstr(listed.all, want))
		fail_msg("'%s' is not among '%s'", want, listed.all);
}

static void names_that_begin_so_are_listed(void **state)
{
	static const char *const names[] = { "file", "file.a", "file.tmp.b", "fil", "afile" };
	char made[96], cwd[256], nowhere[96];
	long k;
	size_t i;
	int r;

	for (i = 0; i < COUNT_OF(names); i++) {
		snprintf(made, sizeof made, "%s/%s", folder, names[i]);
		ops->close(open_new(made));
	}
	assert_int_equal(list(path), 0);
	assert_int_equal(listed.count, 3);
	for (i = 0; i < 3; i++)
		expect_listed(folder, names[i]);
	snprintf(nowhere, sizeof nowhere, "%s.x/file", folder);
	assert_int_equal(list(nowhere), -ENOENT);
	assert_int_equal(listed.count, 0);
	snprintf(nowhere, sizeof nowhere, "%s/none", folder);
	assert_int_equal(list(nowhere), 0);
	assert_int_equal(listed.count, 0);
	/* In the working directory, and in the root's. */
	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_int_equal(chdir(folder), 0);
	assert_int_equal(list("file.t"), 0);
	assert_int_equal(listed.count, 1);
	assert_string_equal(listed.all, "file.tmp.b ");
	assert_int_equal(chdir(cwd), 0);
	assert_int_equal(list("/pro"), 0);
	assert_non_null(strstr(listed.all, "/proc "));
	assert_int_equal(listed.all[1], 'p');
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		allocs_left = k;
		r = list(path);
		allocs_left = -1;
	}
	assert_int_equal(r, 0);
	assert_int_equal(listed.count, 3);
	assert_int_equal(k, 4); /* one a name */
	for (i = 0; i < COUNT_OF(names); i++) {
		snprintf(made, sizeof made, "%s/%s", folder, names[i]);
		unlink(made);
	}
}

static void modes_are_taken_over(void **state)
{
	int fd = open_new(path), model = open_new(other);
	struct stat st;

	assert_int_equal(fchmod(model, 0640), 0);
	assert_int_equal(ops->make_like(fd, model), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	system_calls_refuse("chmod", 0, EPERM); /* a file system that has no modes */
	assert_int_equal(ops->make_like(fd, model), 0);
	system_calls_refuse("chmod", 0, EOPNOTSUPP);
	assert_int_equal(ops->make_like(fd, model), 0);
	system_calls_refuse("chmod", 0, EROFS);
	assert_int_equal(ops->make_like(fd, model), -EROFS);
	system_calls_end();
	assert_int_equal(ops->make_like(fd, -1), -EBADF);
	ops->close(fd);
	ops->close(model);
	unlink(other);
}

static void a_boot_has_an_id(void **state)
{
	char one[FILE_BOOT_ID] = "", two[FILE_BOOT_ID] = "";

	assert_int_equal(ops->boot_id(one), 0);
	assert_int_equal(ops->boot_id(two), 0);
	assert_int_equal(strlen(one), 36);
	assert_string_equal(one, two);
	system_calls_refuse("open", 0, ENOENT);
	assert_int_equal(ops->boot_id(one), -ENOENT);
	system_calls_end();
	reads_are_short = true;
	assert_int_equal(ops->boot_id(one), -EIO);
	reads_are_short = false;
	reads_fail = true;
	assert_int_equal(ops->boot_id(one), -EIO);
	reads_fail = false;
}

/* ---- whole reads and writes ---- */

static struct {
	unsigned calls, interrupt_at, fail_at;
	size_t end; /* of the file */
	char bytes[20];
} fake;

static ssize_t fake_call(size_t n, uint64_t off)
{
	unsigned call = fake.calls++;

	if (call == fake.interrupt_at)
		return -EINTR;
	if (call == fake.fail_at)
		return -ENOSPC;
	if (n > 4)
		n = 4;
	return (ssize_t)(off + n > fake.end ? fake.end - off : n);
}

static ssize_t fake_pread(int fd, void *buf, size_t n, uint64_t off)
{
	ssize_t r = fake_call(n, off);

	if (r > 0)
		memcpy(buf, fake.bytes + off, (size_t)r);
	return r;
}

static ssize_t fake_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	ssize_t r = fake_call(n, off);

	if (r > 0)
		memcpy(fake.bytes + off, buf, (size_t)r);
	return r;
}

static const struct file_ops fakes = { .pread = fake_pread, .pwrite = fake_pwrite };

static void reset_fake(unsigned interrupt_at, unsigned fail_at)
{
	fake.calls = 0;
	fake.interrupt_at = interrupt_at;
	fake.fail_at = fail_at;
	fake.end = sizeof fake.bytes;
}

static void short_and_interrupted_calls_go_on(void **state)
{
	struct err e = { "" };
	char buf[10];

	reset_fake(1, 99);
	assert_int_equal(upper_file_write(&fakes, 3, "0123456789", 10, 5, &e), 0);
	assert_int_equal(fake.calls, 4);
	reset_fake(1, 99);
	assert_int_equal(upper_file_read(&fakes, 3, buf, 10, 5, &e), 0);
	assert_int_equal(fake.calls, 4);
	assert_memory_equal(buf, "0123456789", 10);
	reset_fake(99, 1);
	assert_int_equal(upper_file_write(&fakes, 3, "0123456789", 10, 5, &e), -ENOSPC);
	assert_string_equal(e.msg, "writing 10 bytes at 5: No space left on device");
	reset_fake(99, 1);
	assert_int_equal(upper_file_read(&fakes, 3, buf, 10, 5, &e), -ENOSPC);
	assert_string_equal(e.msg, "reading 10 bytes at 5: No space left on device");
	reset_fake(99, 99);
	fake.end = 12;
	assert_int_equal(upper_file_read(&fakes, 3, buf, 10, 5, &e), -EIO);
	assert_string_equal(e.msg, "reading 10 bytes at 5: the file ends at 12");
	reset_fake(99, 99);
	fake.end = 12;
	assert_int_equal(upper_file_write(&fakes, 3, "0123456789", 10, 5, &e), -EIO);
	assert_string_equal(e.msg, "writing 10 bytes at 5: the file system takes none from 12 on");
	reset_fake(99, 0); /* nothing asks nobody */
	assert_int_equal(upper_file_write(&fakes, 3, "", 0, 5, &e), 0);
	assert_int_equal(upper_file_read(&fakes, 3, buf, 0, 5, &e), 0);
	assert_int_equal(fake.calls, 0);
}

static void a_source_over_a_descriptor(void **state)
{
	int fd = open_new(path), none = ops->open(folder, O_RDONLY, 0);
	struct err e = { "" };
	struct source *s;
	char buf[4];

	assert_int_equal(ops->pwrite(fd, "abcdef", 6, 0), 6);
	assert_int_equal(upper_file_source(ops, fd, &s, &e), 0);
	assert_int_equal(s->size, 6);
	assert_int_equal(source_pread(s, buf, 4, 2, &e), 0);
	assert_memory_equal(buf, "cdef", 4);
	source_close(s);
	assert_int_equal(ops->pread(fd, buf, 1, 0), 1); /* the descriptor stays open */
	assert_int_equal(upper_file_source(ops, none, &s, &e), -EINVAL);
	assert_string_equal(e.msg, "not a regular file");
	assert_int_equal(upper_file_source(ops, -1, &s, &e), -EBADF);
	assert_string_equal(e.msg, "Bad file descriptor");
	allocs_left = 0;
	assert_int_equal(upper_file_source(ops, fd, &s, &e), -ENOMEM);
	allocs_left = -1;
	ops->close(fd);
	ops->close(none);
}

/* ---- temporary files ---- */

static unsigned opens, taken; /* names that are somebody's already */
static mode_t opens_with;

static int opens_some(const char *name, int flags, mode_t mode)
{
	assert_int_equal(flags, O_RDWR | O_CREAT | O_EXCL);
	assert_int_equal(mode, opens_with);
	assert_true(upper_file_is_temporary(name));
	if (opens++ < taken)
		return -EEXIST;
	return ops->open(name, flags, mode);
}

static int no_disk(const char *name, int flags, mode_t mode)
{
	opens++;
	return -ENOSPC;
}

static int no_modes(int fd, int model)
{
	return -EROFS;
}

static unsigned count_files(void)
{
	DIR *dir = opendir(folder);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void temporary_files_come_whole_or_not(void **state)
{
	struct file_ops some = *ops, full = *ops, bare = *ops;
	char *name = NULL, want[128];
	int model = open_new(path), fd;
	unsigned files = count_files();
	struct err e = { "" };
	struct stat st;

	some.open = opens_some;
	full.open = no_disk;
	bare.make_like = no_modes;
	opens_with = 0644;
	for (taken = 0; taken < 100; taken += 99) { /* a hundred names are tried */
		opens = 0;
		fd = upper_file_temporary(&some, path, -1, &name, &e);
		assert_true(fd >= 0);
		assert_int_equal(opens, taken + 1);
		assert_true(ops->is_named(fd, name) == 1);
		ops->close(fd);
		unlink(name);
		free(name);
	}
	opens = 0;
	taken = 100;
	assert_int_equal(upper_file_temporary(&some, path, -1, &name, &e), -EEXIST);
	assert_int_equal(opens, 100);
	snprintf(want, sizeof want, "making a file beside %s: File exists", path);
	assert_string_equal(e.msg, want);
	opens = 0; /* any other error is one */
	assert_int_equal(upper_file_temporary(&full, path, -1, &name, &e), -ENOSPC);
	assert_int_equal(opens, 1);
	snprintf(want, sizeof want, "making a file beside %s: No space left on device", path);
	assert_string_equal(e.msg, want);
	assert_int_equal(upper_file_temporary(&bare, path, model, &name, &e), -EROFS);
	snprintf(want, sizeof want, "owner and mode of a file beside %s: Read-only file system",
		 path);
	assert_string_equal(e.msg, want);
	assert_int_equal(count_files(), files);
	/* Nobody else can open it before it has its model's mode. */
	taken = opens = 0;
	opens_with = 0600;
	fd = upper_file_temporary(&some, path, model, &name, &e);
	assert_true(fd >= 0);
	ops->close(fd);
	unlink(name);
	free(name);
	assert_int_equal(fchmod(model, 0644), 0);
	system_calls_refuse("chmod", 0, EPERM);
	fd = upper_file_temporary(ops, path, model, &name, &e);
	system_calls_end();
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	ops->close(fd);
	unlink(name);
	free(name);
	ops->close(model);
}

static void temporary_names_are_known(void **state)
{
	static const struct {
		const char *name;
		bool temporary;
	} cases[] = {
		{ "x.tmp.0123456789abcdef", true },
		{ "/a/u.index.tmp.fedcba9876543210", true },
		{ "x.tmp.tmp.0123456789abcdef", true },
		{ "x.tmp.0123456789abcdef.tmp.0123456789abcdef", true },
		{ ".tmp.0123456789abcdef", false },
		{ "tmp.0123456789abcdef", false },
		{ "", false },
		{ "x", false },
		{ "x.tmp.0123456789abcde", false },
		{ "x.tmp.0123456789abcdef0", false },
		{ "x.tmp.0123456789abcdeg", false },
		{ "x.tmp.0123456789ABCDEF", false },
		{ "x.tmp.g123456789abcdef", false },
		{ "x.tmp_0123456789abcdef", false },
		{ "x_tmp.0123456789abcdef", false },
		{ "x.tmp.0123456789abcdef/", false },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++)
		if (upper_file_is_temporary(cases[i].name) != cases[i].temporary)
			fail_msg("%s", cases[i].name);
}

/* ---- by a name of the user's ---- */

static void users_names_are_opened(void **state)
{
	struct err e = { "" };
	char want[256];
	mode_t before = umask(0);
	struct stat st;
	int fd;

	unlink(path);
	assert_int_equal(upper_file_open(ops, path, O_RDWR, &e), -ENOENT);
	snprintf(want, sizeof want, "%s: No such file or directory", path);
	assert_string_equal(e.msg, want);
	fd = upper_file_open(ops, path, O_RDWR | O_CREAT, &e);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	ops->close(fd);
	umask(before);
	assert_int_equal(symlink("file", other), 0);
	fd = upper_file_open(ops, other, O_RDONLY, &e);
	assert_true(fd >= 0);
	assert_int_equal(ops->is_named(fd, path), 1);
	assert_true(ops->pwrite(fd, "x", 1, 0) < 0);
	ops->close(fd);
	unlink(path);
	assert_int_equal(upper_file_open(ops, other, O_RDONLY, &e), -ELOOP);
	snprintf(want, sizeof want,
		 "%s: is a symbolic link that leads nowhere, or that another user made: not "
		 "followed",
		 other);
	assert_string_equal(e.msg, want);
	unlink(other);
	allocs_left = 0;
	assert_int_equal(upper_file_open(ops, path, O_RDONLY, &e), -ENOMEM);
	allocs_left = -1;
	snprintf(want, sizeof want, "%s: Cannot allocate memory", path);
	assert_string_equal(e.msg, want);
	assert_int_equal(upper_file_sync_folder(ops, path, &e), 0);
	assert_int_equal(upper_file_sync_folder(ops, "/nowhere/x", &e), -ENOENT);
	assert_string_equal(e.msg, "/nowhere/x: syncing its folder: No such file or directory");
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/file", folder);
	snprintf(other, sizeof other, "%s/other", folder);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	unlink(other);
	return rmdir(folder);
}

static int begin(void **state)
{
	system_calls_end();
	allocs_left = -1;
	return 0;
}

#define TEST(f) cmocka_unit_test_setup(f, begin)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(files_are_opened_for_us_alone),
		TEST(bytes_go_to_their_place),
		TEST(syncs_reach_the_system),
		TEST(holes_give_space_back),
		TEST(one_holds_the_lock),
		TEST(names_are_compared),
		TEST(links_lead_to_true_names),
		TEST(links_of_others_lead_to_their_own_files),
		TEST(a_file_says_what_it_is),
		TEST(names_that_begin_so_are_listed),
		TEST(modes_are_taken_over),
		TEST(a_boot_has_an_id),
		TEST(short_and_interrupted_calls_go_on),
		TEST(a_source_over_a_descriptor),
		TEST(temporary_files_come_whole_or_not),
		TEST(temporary_names_are_known),
		TEST(users_names_are_opened),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
