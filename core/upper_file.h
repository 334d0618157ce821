/* SPDX-License-Identifier: Apache-2.0 */
/* upper_file.h - every operation on the files of a writable layer, as one table.
 *
 * A test puts its own table in place: it records the operations, cuts them short, loses what was
 * not synced.  Nothing of core/upper_* touches a file but through such a table.
 *
 * Units: bytes.  Threads: all may run concurrently.  Errors: a negative result is -errno. */
#ifndef OVERLAYBD_CORE_UPPER_FILE_H
#define OVERLAYBD_CORE_UPPER_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/source.h"

enum { FILE_BOOT_ID = 37 }; /* 36 characters and a NUL */

struct file_status {
	uint64_t allocated; /* bytes of disk that the file takes */
	uint64_t device, inode; /* what it is, whatever its name */
	uint64_t links; /* names that it has */
};

struct file_ops {
	/* A descriptor.  O_CLOEXEC is added, and O_NOFOLLOW: ELOOP for a symbolic link, which
	 * whoever owns the folder may have put there.  Who means to follow links asks true_name
	 * first.  As in all that takes a path, a link among its folders is followed when it is
	 * ours or root's, or its owner's folder is what it leads to, else ELOOP. */
	int (*open)(const char *path, int flags, mode_t mode);
	void (*close)(int fd);
	/* At most n bytes; may be short.  0: the file ends there. */
	ssize_t (*pread)(int fd, void *buf, size_t n, uint64_t off);
	ssize_t (*pwrite)(int fd, const void *buf, size_t n, uint64_t off);
	int (*size)(int fd, uint64_t *size); /* EINVAL: not a regular file */
	int (*truncate)(int fd, uint64_t size);
	int (*datasync)(int fd); /* the bytes, and the size that leads to them */
	int (*punch)(int fd, uint64_t off, uint64_t n); /* a hole, the size stays */
	/* Takes the lock of the file at once, or EWOULDBLOCK.  It belongs to the open file, passes
	 * to children of fork, and ends with the last of its descriptors. */
	int (*lock)(int fd);
	int (*is_named)(int fd, const char *path); /* 1: the open file has this name; 0 */
	/* Where a symbolic link leads in the end, else the name itself: what a rename may replace,
	 * and what other names are made of.  A link is followed when it is ours or root's, or its
	 * owner's file is what it leads to.  The caller frees it; NULL: no memory. */
	char *(*true_name)(const char *path);
	int (*status)(int fd, struct file_status *out);
	/* Calls `take` for the names in path's folder that begin as path's last part does, with the
	 * folder as path has it.  What `take` does to the folder meanwhile may be seen or not. */
	int (*list)(const char *path, void (*take)(void *arg, const char *name), void *arg);
	/* Gives a file the mode of another, and the owner as far as we may. */
	int (*make_like)(int fd, int model);
	/* Gives the open file one more name.  ENOENT: it has none any more. */
	int (*link)(int fd, const char *path);
	int (*rename)(const char *from, const char *to);
	int (*unlink)(const char *path);
	int (*sync_folder)(const char *path); /* the folder that holds path */
	int (*boot_id)(char out[FILE_BOOT_ID]); /* differs after every start of the machine */
};

/* The system's. */
extern const struct file_ops file_ops_system;

/* All n bytes at off; the file's end before that is EIO. */
int upper_file_read(const struct file_ops *ops, int fd, void *buf, size_t n, uint64_t off,
		    struct err *e);

/* All n bytes at off.  A failure may have written some. */
int upper_file_write(const struct file_ops *ops, int fd, const void *buf, size_t n, uint64_t off,
		     struct err *e);

/* Makes a file beside `path` with a name that nobody can guess, PATH.tmp. and 16 hex digits, and
 * with the owner and mode of the open file `like` (-1: ours, 0644).  The caller frees *name.
 * Returns the descriptor. */
int upper_file_temporary(const struct file_ops *ops, const char *path, int like, char **name,
			 struct err *e);

/* Whether a path ends as the names of upper_file_temporary do. */
bool upper_file_is_temporary(const char *path);

/* Opens a file by a name of the user's, through links as true_name follows them. */
int upper_file_open(const struct file_ops *ops, const char *path, int flags, struct err *e);

/* Makes the name of a file durable; the error names the file. */
int upper_file_sync_folder(const struct file_ops *ops, const char *path, struct err *e);

/* A source over a descriptor, which stays the caller's.  Its size is taken now. */
int upper_file_source(const struct file_ops *ops, int fd, struct source **out, struct err *e);

#endif
