/* SPDX-License-Identifier: Apache-2.0 */
/* test-sink.c - files that are written and read, with every system call that can fail failing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/sink.h"
#include "tests/unit/allocs.h"
#include "tests/unit/syscalls.h"

enum { BUFFER = 256 * 1024 }; /* bytes that a file's sink gathers */

static char folder[] = "/tmp/test-sink.XXXXXX";
static char path[64];

static size_t entries_of(const char *name)
{
	DIR *d = opendir(name);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/* All that is left: the file with this text (NULL: no file), and no descriptor. */
static void assert_left(const char *text, size_t descriptors)
{
	char *bytes;
	size_t n;

	system_calls_end();
	assert_int_equal(entries_of("/proc/self/fd"), descriptors);
	assert_int_equal(entries_of(folder), text ? 3 : 2);
	if (!text)
		return;
	assert_int_equal(io_read_file(path, 100, &bytes, &n, NULL), 0);
	assert_string_equal(bytes, text);
	free(bytes);
}

static void write_old(void)
{
	assert_int_equal(io_replace_file(path, "old", 3, NULL), 0);
}

/* ---- the order of calls ---- */

/* The bytes are on disk before the name is, and the name before anybody is told. */
static void a_name_comes_after_its_bytes(void **state)
{
	unlink(path);
	system_calls_begin();
	assert_int_equal(io_replace_file(path, "new", 3, NULL), 0);
	assert_string_equal(system_calls.log,
			    "open-unnamed write sync-file open-folder link rename sync-folder");
	assert_string_equal(system_calls.opened, folder);
	system_calls_begin();
	assert_int_equal(io_replace_file(path, "new", 3, NULL), 0);
	assert_string_equal(system_calls.log,
			    "open-unnamed write chown chmod sync-file open-folder "
			    "link rename sync-folder");
	system_calls_end();
}

/* Where files cannot be unnamed. */
static void a_named_file_has_the_same_order(void **state)
{
	static const int codes[] = { EOPNOTSUPP, EISDIR, ENOENT };
	size_t i;

	for (i = 0; i < 3; i++) {
		unlink(path);
		system_calls_refuse("open-unnamed", 0, codes[i]);
		assert_int_equal(io_replace_file(path, "new", 3, NULL), 0);
		assert_string_equal(system_calls.log, "open-unnamed open-new write sync-file "
						      "open-folder rename sync-folder");
		assert_left("new", entries_of("/proc/self/fd"));
	}
}

/* A signal that comes while the bytes, or the name, go to disk is no reason to give up. */
static void an_interrupted_sync_is_begun_anew(void **state)
{
	static const char *const syncs[] = { "sync-file", "sync-folder" };
	size_t i;

	for (i = 0; i < 2; i++) {
		unlink(path);
		system_calls_refuse(syncs[i], 0, EINTR);
		assert_int_equal(io_replace_file(path, "new", 3, NULL), 0);
		assert_string_equal(system_calls.log,
				    i == 0 ? "open-unnamed write sync-file sync-file "
					     "open-folder link rename sync-folder"
					   : "open-unnamed write sync-file open-folder link "
					     "rename sync-folder sync-folder");
		assert_left("new", entries_of("/proc/self/fd"));
	}
	system_calls_end();
}

static void what_fails_leaves_the_old_file(void **state)
{
	static const struct {
		const char *call;
		unsigned after;
		int code;
		const char *message;
	} rows[] = {
		{ "open-unnamed", 0, EACCES, "/file: creating it: Permission denied" },
		{ "write", 0, ENOSPC, "/file: writing 3 bytes at 0: No space left on device" },
		{ "chmod", 0, EPERM, "/file: fchmod: Operation not permitted" },
		{ "sync-file", 0, EIO, "/file: fsync: Input/output error" },
		{ "open-folder", 0, EMFILE, "/file: opening its folder: Too many open files" },
		{ "link", 0, ENOSPC, "/file: creating it: No space left on device" },
		{ "rename", 0, EIO, "/file: rename: Input/output error" },
	};
	size_t i, descriptors = entries_of("/proc/self/fd");
	unsigned named;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err e = { "" };

		write_old();
		system_calls_refuse(rows[i].call, rows[i].after, rows[i].code);
		assert_int_equal(io_replace_file(path, "new", 3, &e), -rows[i].code);
		assert_non_null(strstr(e.msg, rows[i].message));
		assert_left("old", descriptors);
	}
	/* The same for a file that has a name from the start. */
	for (named = 0; named < 2; named++) {
		struct sink *s;

		write_old();
		system_calls_refuse("open-unnamed", 0, EOPNOTSUPP);
		assert_int_equal(sink_open_file(path, &s, NULL), 0);
		assert_int_equal(sink_write(s, "new", 3, NULL), 0);
		if (named) {
			system_calls_refuse("rename", 0, EIO);
			assert_int_equal(sink_finish(s, NULL), -EIO);
		}
		assert_int_equal(access(system_calls.temporary, F_OK), named ? -1 : 0);
		if (!named)
			assert_non_null(strstr(system_calls.temporary, "/file.tmp."));
		sink_close(s);
		assert_left("old", descriptors);
	}
}

static void what_cannot_be_synced_or_given_away_is_borne(void **state)
{
	struct err e = { "" };

	write_old();
	system_calls_refuse("open-folder", 0, EACCES); /* may be written, but not read */
	assert_int_equal(io_replace_file(path, "1", 1, &e), 0);
	assert_null(strstr(system_calls.log, "sync-folder"));
	system_calls_refuse("sync-folder", 0, EINVAL); /* not on this file system */
	assert_int_equal(io_replace_file(path, "2", 1, &e), 0);
	system_calls_refuse("sync-folder", 0, EIO);
	assert_int_equal(io_replace_file(path, "3", 1, &e), -EIO);
	assert_non_null(strstr(e.msg, "/file: syncing its folder: Input/output error"));
	assert_left("3", entries_of("/proc/self/fd")); /* it is there, but who knows for how long */
}

static void an_error_of_an_early_write_is_told(void **state)
{
	char *big = calloc(1, BUFFER + 1);
	struct err e = { "" };
	struct sink *s;

	write_old();
	assert_int_equal(sink_open_file(path, &s, NULL), 0);
	assert_int_equal(sink_write(s, big, 10, NULL), 0);
	system_calls_refuse("write", 0, ENOSPC);
	assert_int_equal(sink_write(s, big, BUFFER, &e), -ENOSPC); /* of the ten bytes */
	assert_int_equal(s->written, 10);
	sink_close(s);
	assert_left("old", entries_of("/proc/self/fd"));
	assert_int_equal(sink_open_file(path, &s, NULL), 0);
	system_calls_refuse("write", 0, EDQUOT);
	assert_int_equal(sink_write(s, big, BUFFER, &e), -EDQUOT);
	sink_close(s);
	assert_int_equal(sink_open_file(path, &s, NULL), 0);
	assert_int_equal(sink_write(s, big, 10, NULL), 0);
	system_calls_refuse("write", 0, EIO);
	assert_int_equal(sink_patch(s, "x", 1, 0, &e), -EIO);
	assert_non_null(strstr(e.msg, "/file: writing 10 bytes at 0: "));
	system_calls_refuse("write", 0, EIO);
	assert_int_equal(sink_patch(s, "x", 1, 3, &e), -EIO);
	sink_close(s);
	assert_int_equal(sink_open_file(path, &s, NULL), 0);
	assert_int_equal(sink_write(s, big, 10, NULL), 0);
	system_calls_refuse("write", 1, EIO); /* the patch itself */
	assert_int_equal(sink_patch(s, "x", 1, 3, &e), -EIO);
	assert_non_null(strstr(e.msg, "/file: writing 1 bytes at 3: "));
	sink_close(s);
	assert_left("old", entries_of("/proc/self/fd"));
	free(big);
}

static void lack_of_memory_leaves_the_old_file(void **state)
{
	size_t descriptors = entries_of("/proc/self/fd");
	long k;
	int r;

	write_old();
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		struct err e = { "" };

		if (k > 0)
			assert_left("old", descriptors);
		allocs_left = k;
		r = io_replace_file(path, "new", 3, &e);
		allocs_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "out of memory"));
	}
	assert_int_equal(r, 0);
	assert_int_equal(k, 4); /* the sink, the folder, the temporary name */
	unlink(path);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		allocs_left = k;
		r = io_replace_file(path, "new", 3, NULL);
		allocs_left = -1;
	}
	assert_int_equal(k, 5); /* and the path, which does not exist yet */
}

/* ---- names ---- */

static void temporary_names_are_beside_the_file(void **state)
{
	char name[320], want[320], cwd[256];
	size_t n = (size_t)snprintf(name, sizeof name, "%s/", folder);
	int pid = (int)getpid();

	unlink(path);
	system_calls_begin();
	assert_int_equal(io_replace_file(path, "new", 3, NULL), 0);
	snprintf(want, sizeof want, "%s.tmp.%d.0", path, pid);
	assert_string_equal(system_calls.temporary, want);
	/* Of a long name as much as there is room for. */
	memset(name + n, 'n', 255);
	name[n + 255] = '\0';
	assert_int_equal(io_replace_file(name, "new", 3, NULL), 0);
	assert_int_equal(unlink(name), 0);
	snprintf(want, sizeof want, "%.*s.tmp.%d.0", (int)n + 200, name, pid);
	assert_string_equal(system_calls.temporary, want);
	/* Of a name without a folder too. */
	assert_non_null(getcwd(cwd, sizeof cwd));
	assert_int_equal(chdir(folder), 0);
	unlink("file");
	assert_int_equal(io_replace_file("file", "new", 3, NULL), 0);
	assert_int_equal(chdir(cwd), 0);
	snprintf(want, sizeof want, "file.tmp.%d.0", pid);
	assert_string_equal(system_calls.temporary, want);
	assert_string_equal(system_calls.opened, ".");
	system_calls_end();
}

static void a_file_may_lie_in_the_root(void **state)
{
	struct sink *s;

	system_calls_refuse("open-unnamed", 0, EACCES); /* as for who is not root */
	assert_int_equal(sink_open_file("/test-sink", &s, NULL), -EACCES);
	assert_string_equal(system_calls.opened, "/");
	system_calls_end();
}

/* Others that have our number are passed by, but not for ever. */
static void names_that_are_taken_are_passed_by(void **state)
{
	struct err e = { "" };
	char want[80];

	unlink(path);
	system_calls_refuse("link", 0, EEXIST);
	assert_int_equal(io_replace_file(path, "new", 3, &e), 0);
	snprintf(want, sizeof want, "%s.tmp.%d.1", path, (int)getpid());
	assert_string_equal(system_calls.temporary, want);
	system_calls_refuse("link", 0, EEXIST);
	system_calls.for_good = true;
	assert_int_equal(io_replace_file(path, "2nd", 3, &e), -EEXIST);
	snprintf(want, sizeof want, "%s.tmp.%d.99", path, (int)getpid());
	assert_string_equal(system_calls.temporary, want);
	assert_left("new", entries_of("/proc/self/fd"));
}

static void what_is_no_file_is_refused(void **state)
{
	struct err e = { "" };
	struct sink *s;
	char beyond[80];

	write_old();
	snprintf(beyond, sizeof beyond, "%s/x", path);
	assert_int_equal(sink_open_file(beyond, &s, &e), -ENOTDIR);
	assert_non_null(strstr(e.msg, "/file/x: Not a directory"));
	assert_int_equal(sink_open_file(folder, &s, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "exists and is not a regular file"));
	assert_int_equal(sink_open_file("", &s, &e), -EINVAL);
	assert_string_equal(e.msg, "an output needs a name");
}

/* A file that has a name while it is written is for no more eyes than the one that it replaces. */
static void a_temporary_file_has_the_mode_of_the_old_one(void **state)
{
	mode_t before = umask(0);
	struct stat st;
	struct sink *s;
	unsigned old;

	for (old = 0; old < 2; old++) {
		unlink(path);
		if (old) {
			write_old();
			assert_int_equal(chmod(path, 0640), 0);
		}
		system_calls_refuse("open-unnamed", 0, EOPNOTSUPP);
		assert_int_equal(sink_open_file(path, &s, NULL), 0);
		assert_int_equal(stat(system_calls.temporary, &st), 0);
		assert_int_equal(st.st_mode & 07777, old ? 0640 : 0666);
		sink_close(s);
	}
	system_calls_end();
	umask(before);
}

/* ---- what is written ---- */

/* Small writes gather, large ones go straight out; whatever their sizes, the file is the same. */
static void any_sizes_make_the_same_file(void **state)
{
	static const struct {
		size_t sizes[4];
		const char *log; /* of writes before the end */
	} rows[] = {
		{ { 1, BUFFER - 1, 0, 0 }, "" },
		{ { 1, BUFFER - 1, 1, 0 }, "write" },
		{ { BUFFER, 0, 0, 0 }, "write" },
		{ { BUFFER - 1, 1, BUFFER - 1, 1 }, "write" },
		{ { 5, BUFFER, 7, 0 }, "write write" },
		{ { BUFFER - 1, 2, BUFFER + 1, 3 }, "write write write" },
	};
	char *bytes = malloc(4 * BUFFER), *got;
	size_t i, k, n, at;

	for (i = 0; i < 4 * BUFFER; i++)
		bytes[i] = (char)(i * 31 + i / 251);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct sink *s;

		unlink(path);
		assert_int_equal(sink_open_file(path, &s, NULL), 0);
		system_calls_begin();
		for (k = 0, at = 0; k < 4; at += rows[i].sizes[k++])
			assert_int_equal(sink_write(s, bytes + at, rows[i].sizes[k], NULL), 0);
		assert_string_equal(system_calls.log, rows[i].log);
		system_calls_end();
		assert_int_equal(s->written, at);
		assert_int_equal(sink_patch(s, "patched", 7, at - 7, NULL), 0);
		assert_int_equal(sink_write(s, "more", 4, NULL), 0);
		assert_int_equal(sink_finish(s, NULL), 0);
		sink_close(s);
		assert_int_equal(io_read_file(path, 8 * BUFFER, &got, &n, NULL), 0);
		assert_int_equal(n, at + 4);
		assert_memory_equal(got, bytes, at - 7);
		assert_string_equal(got + at - 7, "patchedmore");
		free(got);
	}
	free(bytes);
}

struct stub {
	struct sink sink;
	unsigned writes;
	uint64_t bytes;
	unsigned fail_at;
};

static int stub_write(struct sink *s, const void *buf, size_t n, struct err *e)
{
	struct stub *x = (struct stub *)s;
	size_t i;

	if (x->writes++ == x->fail_at)
		return err_set(e, ENOSPC, "full");
	for (i = 0; i < n; i++)
		assert_int_equal(((const char *)buf)[i], 0);
	x->bytes += n;
	return 0;
}

static void the_common_checks(void **state)
{
	static const struct sink_ops ops = { .name = "stub", .write = stub_write };
	struct stub x = { .sink.ops = &ops, .fail_at = 99 };
	struct err e = { "" };

	assert_int_equal(sink_write(&x.sink, NULL, 0, &e), 0);
	assert_int_equal(x.writes, 0);
	assert_int_equal(sink_write_zeroes(&x.sink, 0, &e), 0);
	assert_int_equal(x.writes, 0);
	assert_int_equal(sink_write_zeroes(&x.sink, 4096, &e), 0);
	assert_int_equal(x.writes, 1);
	assert_int_equal(sink_write_zeroes(&x.sink, 8193, &e), 0);
	assert_int_equal(x.writes, 4);
	assert_int_equal(x.bytes, 4096 + 8193);
	assert_int_equal(x.sink.written, 4096 + 8193);
	x.fail_at = 5;
	assert_int_equal(sink_write_zeroes(&x.sink, 100000, &e), -ENOSPC);
	assert_int_equal(x.writes, 6); /* and no more after the failure */
	assert_int_equal(x.sink.written, 4096 + 8193 + 4096);
	assert_int_equal(sink_patch(&x.sink, "x", 1, 0, &e), -EINVAL);
	assert_string_equal(e.msg, "stub: cannot overwrite");
	sink_close(NULL);
}

static void only_what_was_written_is_patched(void **state)
{
	struct err e = { "" };
	struct sink *s;

	assert_int_equal(sink_open_file(path, &s, &e), 0);
	assert_int_equal(sink_write(s, "12345", 5, &e), 0);
	assert_int_equal(sink_patch(s, "xx", 2, 4, &e), -EINVAL);
	assert_string_equal(e.msg, "file: 2 bytes at 4 were not written yet (5 bytes were)");
	assert_int_equal(sink_patch(s, "x", 1, 5, &e), -EINVAL);
	assert_int_equal(sink_patch(s, "x", 1, 4, &e), 0);
	sink_close(s);
}

/* ---- reading and writing ---- */

static void short_and_interrupted_calls_go_on(void **state)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char buf[10];
	struct err e = { "" };

	system_calls_refuse("write", 1, EINTR);
	system_calls.piece = 4;
	assert_int_equal(io_pwrite(fd, "0123456789", 10, 3, &e), 0);
	assert_string_equal(system_calls.log, "write write write write");
	system_calls_refuse("read", 1, EINTR);
	system_calls.piece = 4;
	assert_int_equal(io_pread(fd, buf, 10, 3, &e), 0);
	assert_string_equal(system_calls.log, "read read read read");
	assert_memory_equal(buf, "0123456789", 10);
	system_calls_refuse("write", 1, EIO);
	system_calls.piece = 4;
	assert_int_equal(io_pwrite(fd, "0123456789", 10, 3, &e), -EIO);
	assert_string_equal(e.msg, "writing 10 bytes at 3: Input/output error");
	system_calls_begin();
	system_calls.takes_none = true; /* as POSIX lets a file system answer */
	assert_int_equal(io_pwrite(fd, "0123456789", 10, 3, &e), -EIO);
	assert_string_equal(e.msg,
			    "writing 10 bytes at 3: the file system takes none from 3 on");
	assert_string_equal(system_calls.log, "write");
	system_calls_refuse("read", 0, EIO);
	assert_int_equal(io_pread(fd, buf, 10, 3, &e), -EIO);
	assert_string_equal(e.msg, "reading 10 bytes at 3: Input/output error");
	system_calls_refuse("stat", 0, EIO);
	assert_int_equal(io_pread(fd, buf, 10, 4, &e), -EIO);
	assert_string_equal(e.msg,
			    "reading 10 bytes at 4: the file ends at 4"); /* it cannot tell */
	system_calls_end();
	assert_int_equal(io_pread(fd, buf, 10, 4, &e), -EIO);
	assert_string_equal(e.msg, "reading 10 bytes at 4: the file ends at 13");
	close(fd);
}

static void sizes(void **state)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct err e = { "" };
	uint64_t size = 0;

	assert_int_equal(ftruncate(fd, (off_t)1 << 33), 0);
	assert_int_equal(io_size(fd, &size, &e), 0);
	assert_true(size == UINT64_C(1) << 33);
	assert_int_equal(io_size(-1, &size, &e), -EBADF);
	assert_string_equal(e.msg, "fstat: Bad file descriptor");
	system_calls_begin();
	system_calls.block_device = true;
	assert_int_equal(io_size(fd, &size, &e), 0);
	assert_int_equal(size, 1 << 30);
	system_calls_refuse("ioctl", 0, ENOTTY);
	system_calls.block_device = true;
	assert_int_equal(io_size(fd, &size, &e), -ENOTTY);
	assert_string_equal(e.msg, "size of block device: Inappropriate ioctl for device");
	system_calls_end();
	close(fd);
}

static void small_files_are_read_whole(void **state)
{
	size_t descriptors = entries_of("/proc/self/fd"), n = 99;
	struct err e = { "" };
	char *bytes;

	assert_int_equal(io_replace_file(path, "12345", 5, NULL), 0);
	assert_int_equal(io_read_file(path, 5, &bytes, &n, &e), 0);
	assert_int_equal(n, 5);
	assert_string_equal(bytes, "12345");
	free(bytes);
	assert_int_equal(io_read_file(path, 4, &bytes, &n, &e), -EFBIG);
	assert_string_equal(e.msg, "5 bytes, more than the limit of 4");
	system_calls_refuse("read", 0, EIO);
	assert_int_equal(io_read_file(path, 5, &bytes, &n, &e), -EIO);
	system_calls_refuse("stat", 0, EIO);
	assert_int_equal(io_read_file(path, 5, &bytes, &n, &e), -EIO);
	system_calls_end();
	allocs_left = 0;
	assert_int_equal(io_read_file(path, 5, &bytes, &n, &e), -ENOMEM);
	allocs_left = -1;
	assert_int_equal(io_read_file(folder, 5, &bytes, &n, &e), -EISDIR);
	unlink(path);
	assert_int_equal(io_read_file(path, 5, &bytes, &n, &e), -ENOENT);
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(20);
	assert_int_equal(io_read_file(path, 5, &bytes, &n, &e), -EINVAL); /* does not wait */
	alarm(0);
	unlink(path);
	assert_int_equal(entries_of("/proc/self/fd"), descriptors);
}

/* Who may give a file away is another matter than who may read it. */
static void modes_follow_owners(void **state)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat model = { .st_mode = S_IFREG | 06775, .st_uid = getuid(), .st_gid = getgid() };
	struct stat st;

	system_calls_begin();
	assert_int_equal(io_make_like(fd, &model), 0);
	assert_string_equal(system_calls.log, "chown chmod");
	assert_int_equal(system_calls.uid, model.st_uid);
	system_calls_end();
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0775);
	system_calls_refuse("chown", 0, EPERM); /* the group alone */
	assert_int_equal(io_make_like(fd, &model), 0);
	assert_string_equal(system_calls.log, "chown chown chmod");
	assert_int_equal(system_calls.uid, (uid_t)-1);
	assert_int_equal(system_calls.gid, model.st_gid);
	system_calls_end();
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0775);
	system_calls_refuse("chown", 0, EPERM);
	system_calls.for_good = true;
	assert_int_equal(io_make_like(fd, &model), 0);
	system_calls_end();
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0705);
	system_calls_refuse("chmod", 0, EROFS);
	assert_int_equal(io_make_like(fd, &model), -EROFS);
	system_calls_end();
	close(fd);
}

static void paths(void **state)
{
	static const struct {
		const char *path, *parent;
	} rows[] = { { "/a/b", "/a" }, { "/a", "/" }, { "/", "/" }, { "/a/b/c", "/a/b" } };
	char cwd[256], gone[80], *p;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		p = io_parent(rows[i].path);
		assert_string_equal(p, rows[i].parent);
		free(p);
	}
	allocs_left = 0;
	assert_null(io_parent("/a"));
	allocs_left = 0;
	assert_null(io_absolute_path("/a", "b"));
	allocs_left = 0;
	assert_null(io_absolute_path("/a", "/b"));
	allocs_left = -1;
	assert_non_null(getcwd(cwd, sizeof cwd));
	snprintf(gone, sizeof gone, "%s/gone", folder);
	assert_int_equal(mkdir(gone, 0700), 0);
	assert_int_equal(chdir(gone), 0);
	assert_int_equal(rmdir(gone), 0);
	assert_null(io_absolute_path(NULL, "b"));
	assert_int_equal(chdir(folder), 0);
	p = io_absolute_path(NULL, "b");
	assert_non_null(strstr(p, "/test-sink."));
	assert_string_equal(p + strlen(p) - 2, "/b");
	free(p);
	assert_int_equal(chdir(cwd), 0);
}

static int make_folder(void **state)
{
	snprintf(path, sizeof path, "%s/file", mkdtemp(folder));
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	return rmdir(folder); /* fails when a test left something behind */
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
		TEST(a_name_comes_after_its_bytes),
		TEST(a_named_file_has_the_same_order),
		TEST(an_interrupted_sync_is_begun_anew),
		TEST(what_fails_leaves_the_old_file),
		TEST(what_cannot_be_synced_or_given_away_is_borne),
		TEST(an_error_of_an_early_write_is_told),
		TEST(lack_of_memory_leaves_the_old_file),
		TEST(temporary_names_are_beside_the_file),
		TEST(a_file_may_lie_in_the_root),
		TEST(names_that_are_taken_are_passed_by),
		TEST(what_is_no_file_is_refused),
		TEST(a_temporary_file_has_the_mode_of_the_old_one),
		TEST(any_sizes_make_the_same_file),
		TEST(the_common_checks),
		TEST(only_what_was_written_is_patched),
		TEST(short_and_interrupted_calls_go_on),
		TEST(sizes),
		TEST(small_files_are_read_whole),
		TEST(modes_follow_owners),
		TEST(paths),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
