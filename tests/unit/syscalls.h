/* SPDX-License-Identifier: Apache-2.0 */
/* syscalls.h - the system as a test wants it: says which calls the tested code made and in which
 * order, and refuses one of them.
 *
 * For tests that meson.build links with wrap_syscalls.  Only our own objects' calls come here.  One
 * thread. */
#ifndef OVERLAYBD_TESTS_SYSCALLS_H
#define OVERLAYBD_TESTS_SYSCALLS_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
	bool on; /* off: calls go straight on */
	char log[2048]; /* the calls, a word each */
	const char *refuse; /* the word of the call that fails; NULL: none */
	int code; /* with this errno */
	unsigned after; /* calls of that name that succeed before */
	bool for_good; /* and all that follow fail too */
	size_t piece; /* bytes that a read or write moves at most; 0: any */
	bool takes_none; /* each write moves 0 bytes */
	bool block_device; /* what fstat says that each file is */
	char temporary[512]; /* the last name given by linkat, or opened with O_EXCL */
	char opened[512]; /* the last path that was opened */
	uid_t uid; /* of the last fchown */
	gid_t gid;
} system_calls;

/* Forgets the past; from now on all calls are noted. */
static inline void system_calls_begin(void)
{
	memset(&system_calls, 0, sizeof system_calls);
	system_calls.on = true;
}

/* From now on the call `word` fails, after so many of them. */
static inline void system_calls_refuse(const char *word, unsigned after, int code)
{
	system_calls_begin();
	system_calls.refuse = word;
	system_calls.after = after;
	system_calls.code = code;
}

static inline void system_calls_end(void)
{
	system_calls.on = false;
}

/* Notes a call.  Returns whether it is to fail. */
static inline bool system_calls_take(const char *word)
{
	size_t n = strlen(system_calls.log);

	if (!system_calls.on)
		return false;
	snprintf(system_calls.log + n, sizeof system_calls.log - n, "%s%s", n > 0 ? " " : "", word);
	if (!system_calls.refuse || strcmp(system_calls.refuse, word) != 0)
		return false;
	if (system_calls.after > 0) {
		system_calls.after--;
		return false;
	}
	if (!system_calls.for_good)
		system_calls.refuse = NULL;
	errno = system_calls.code;
	return true;
}

static inline size_t system_calls_cut(size_t n)
{
	return system_calls.on && system_calls.piece > 0 && n > system_calls.piece
		       ? system_calls.piece
		       : n;
}

#define SYSTEM_CALL(type, name, parameters)                                                        \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters

int __real_fstat64(int fd, struct stat *st);

/* What a descriptor is of. */
static inline const char *system_calls_sync(int fd)
{
	struct stat st;

	return __real_fstat64(fd, &st) == 0 && S_ISDIR(st.st_mode) ? "sync-folder" : "sync-file";
}

SYSTEM_CALL(ssize_t, pread64, (int fd, void *buf, size_t n, off_t off))
{
	return system_calls_take("read") ? -1 : __real_pread64(fd, buf, system_calls_cut(n), off);
}

SYSTEM_CALL(ssize_t, pwrite64, (int fd, const void *buf, size_t n, off_t off))
{
	if (system_calls_take("write"))
		return -1;
	n = system_calls.on && system_calls.takes_none ? 0 : system_calls_cut(n);
	return __real_pwrite64(fd, buf, n, off);
}

SYSTEM_CALL(int, fsync, (int fd))
{
	return system_calls_take(system_calls_sync(fd)) ? -1 : __real_fsync(fd);
}

SYSTEM_CALL(int, fdatasync, (int fd))
{
	return system_calls_take(system_calls_sync(fd)) ? -1 : __real_fdatasync(fd);
}

SYSTEM_CALL(int, rename, (const char *from, const char *to))
{
	return system_calls_take("rename") ? -1 : __real_rename(from, to);
}

SYSTEM_CALL(int, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags))
{
	snprintf(system_calls.temporary, sizeof system_calls.temporary, "%s", to);
	return system_calls_take("link") ? -1 : __real_linkat(from_fd, from, to_fd, to, flags);
}

SYSTEM_CALL(int, fchown, (int fd, uid_t uid, gid_t gid))
{
	system_calls.uid = uid;
	system_calls.gid = gid;
	return system_calls_take("chown") ? -1 : __real_fchown(fd, uid, gid);
}

SYSTEM_CALL(int, fchmod, (int fd, mode_t mode))
{
	return system_calls_take("chmod") ? -1 : __real_fchmod(fd, mode);
}

SYSTEM_CALL(int, fstat64, (int fd, struct stat *st))
{
	int r = system_calls_take("stat") ? -1 : __real_fstat64(fd, st);

	if (r == 0 && system_calls.on && system_calls.block_device)
		st->st_mode = S_IFBLK | 0600;
	return r;
}

/* Notes that a file is opened.  Returns whether that is to fail. */
static inline bool system_calls_open(const char *path, int flags)
{
	const char *word = (flags & O_TMPFILE) == O_TMPFILE ? "open-unnamed"
			   : flags & O_EXCL		    ? "open-new"
			   : flags & O_DIRECTORY	    ? "open-folder"
							    : "open";

	snprintf(system_calls.opened, sizeof system_calls.opened, "%s", path);
	if (flags & O_EXCL)
		snprintf(system_calls.temporary, sizeof system_calls.temporary, "%s", path);
	/* A file that a child inherits stays open in helpers that know nothing of it. */
	if (!(flags & O_CLOEXEC))
		word = "open-for-children";
	return system_calls_take(word);
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	/* With O_PATH a name is looked at, no file. */
	if (!(flags & O_PATH) && system_calls_open(path, flags))
		return -1;
	return __real_open64(path, flags, mode);
}

int __real_openat64(int folder, const char *name, int flags, ...);
int __wrap_openat64(int folder, const char *name, int flags, ...);
int __wrap_openat64(int folder, const char *name, int flags, ...)
{
	char link[64], path[2 * 512] = "";
	ssize_t n;
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
	n = readlink(link, path, 512);
	if (n > 0)
		snprintf(path + n, sizeof path - (size_t)n, "/%s", name);
	if (!(flags & O_PATH) && system_calls_open(path, flags))
		return -1;
	return __real_openat64(folder, name, flags, mode);
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	uint64_t *size;

	va_start(ap, request);
	size = va_arg(ap, uint64_t *);
	va_end(ap);
	if (!system_calls.on)
		return __real_ioctl(fd, request, size);
	if (system_calls_take("ioctl"))
		return -1;
	*size = 1 << 30; /* of the block device */
	return 0;
}

#endif
