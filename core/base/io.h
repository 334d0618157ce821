/* SPDX-License-Identifier: Apache-2.0 */
/* io.h - whole reads and writes on descriptors, and small files.  EINTR and short transfers are
 * handled here.  Units: bytes.  Threads: all may run concurrently. */
#ifndef OVERLAYBD_BASE_IO_H
#define OVERLAYBD_BASE_IO_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct stat;

/* Reads exactly n bytes at off; the end of the file before that is EIO. */
int io_pread(int fd, void *buf, size_t n, uint64_t off, struct err *e);

/* Writes exactly n bytes at off. */
int io_pwrite(int fd, const void *buf, size_t n, uint64_t off, struct err *e);

/* Size of a regular file or block device; anything else is EINVAL. */
int io_size(int fd, uint64_t *size, struct err *e);

/* The whole of a small file, with a NUL after it that *n does not count; the caller frees *out.
 * More than `limit` bytes is EFBIG. */
int io_read_file(const char *path, size_t limit, char **out, size_t *n, struct err *e);

/* Replaces the file at path by these bytes: written to a temporary name, synced, renamed.  Readers
 * see the old file or the new one, whole. */
int io_replace_file(const char *path, const void *bytes, size_t n, struct err *e);

/* Gives an open file the mode of another (never setuid: the owner may be another), and its owner as
 * far as we may.  What the group may do there is for no other group.  -errno. */
int io_make_like(int fd, const struct stat *model);

/* An absolute form of path, relative ones counted from `folder` (NULL: the working directory).
 * Symbolic links and `..` stay as they are.  The caller frees it; NULL with errno set on failure.
 */
char *io_absolute_path(const char *folder, const char *path);

/* The folder of an absolute path: all before its last slash, or "/".  The caller frees it; NULL: no
 * memory. */
char *io_parent(const char *path);

#endif
