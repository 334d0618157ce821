/* SPDX-License-Identifier: Apache-2.0 */
/* cache_disk.h - every operation of the cache on its file system, as one table.
 *
 * A test puts its own table in place (tests/unit/memdisk.h): it fails operations, cuts them short,
 * fills the disk, kills a process.  Nothing of fetch/cache* touches a file but through a table.
 * What belongs together, a descriptor and the table that knows it, is a struct cache_file.
 *
 * Units: bytes.  Threads: all may run concurrently.  Errors: a negative result is -errno.  `at` is
 * a folder's descriptor, or AT_FDCWD for absolute paths. */
#ifndef OVERLAYBD_FETCH_CACHE_DISK_H
#define OVERLAYBD_FETCH_CACHE_DISK_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "core/base/err.h"

/* Which file system it is, and what others may still write to it. */
struct cache_disk_room {
	int64_t type; /* f_type of statfs */
	uint64_t free; /* bytes that a user without privileges may take */
};

struct cache_disk_ops {
	/* A descriptor; O_CLOEXEC is added. */
	int (*open)(int at, const char *name, int flags, mode_t mode);
	void (*close)(int fd);
	int (*replace)(int fd, int with); /* fd is what `with` is; both stay open */

	int (*stat)(int fd, struct stat *st);
	int (*stat_at)(int at, const char *name, struct stat *st); /* of a link, the link */
	int (*exists)(int at, const char *name); /* 0; links are followed */
	int (*room)(int fd, struct cache_disk_room *room);
	/* Calls `each` for every name in the folder `path` (not for . and ..), in no order, until
	 * it returns something else than 0, which is then returned.  A link is -ELOOP or -ENOTDIR.
	 * `each` may delete what it is called for. */
	int (*list)(int at, const char *path, int (*each)(void *arg, const char *name), void *arg);

	int (*make_folder)(int at, const char *name, mode_t mode);
	int (*name)(int at, const char *from, const char *to); /* as rename; -EEXIST, never over */
	int (*rename)(int at, const char *from, const char *to);
	int (*unlink)(int at, const char *name);
	int (*remove_folder)(int at, const char *name);

	/* At most n bytes; may be short.  pread 0: the file ends there. */
	ssize_t (*pread)(int fd, void *buf, size_t n, uint64_t off);
	ssize_t (*pwrite)(int fd, const void *buf, size_t n, uint64_t off);
	int (*truncate)(int fd, uint64_t size);
	int (*allocate)(int fd, uint64_t size); /* blocks for all of [0, size), which it is then */
	int (*punch)(int fd, uint64_t off, uint64_t n); /* a hole, the size stays */
	/* Blocks of its own for all of [0, size): none that a snapshot or a copy shares.
	 * -EOPNOTSUPP, -EINVAL: the file system knows nothing of sharing. */
	int (*unshare)(int fd, uint64_t size);
	int (*no_cow)(int fd); /* -EOPNOTSUPP: it has no such flag */
	int (*give)(int fd, uid_t user, gid_t group); /* a new owner */
	int (*touch)(int fd); /* its time of change is now */
	int (*datasync)(int fd); /* the bytes, and the size that leads to them */

	/* OFD locks.  lock: F_RDLCK, F_WRLCK or F_UNLCK; -EAGAIN: another has it.  Nobody waits
	 * for it in the kernel, for who has it may be frozen.
	 * look: what stands in the way of that lock; l_type F_UNLCK: nothing. */
	int (*lock)(int fd, short type, uint64_t off, uint64_t n);
	int (*look)(int fd, struct flock *lock);

	/* n bytes of the file, shared with all who map it, at `where` in place of what is mapped
	 * there (NULL: anywhere). */
	int (*map)(int fd, size_t n, void *where, void **out);
	void (*unmap)(void *at, size_t n);
	/* Before each store to [at, at + n) of a mapping, which cache_disk_change and
	 * cache_disk_copy do: -ENOSPC where it is known that there is no block for it. */
	int (*prepare)(void *at, size_t n);
};

/* The system's. */
extern const struct cache_disk_ops cache_disk_system;

/* An open file or folder; fd < 0: none. */
struct cache_file {
	const struct cache_disk_ops *ops;
	int fd;
};

#define CACHE_FILE_NONE ((struct cache_file){ .fd = -1 })

static inline bool cache_disk_is_open(struct cache_file f)
{
	return f.fd >= 0;
}

/* Closes it, if it is open, and forgets it. */
void cache_disk_close(struct cache_file *f);

/* Declares a struct cache_file that is closed when its scope is left. */
#define AUTO_CLOSE_FILE __attribute__((cleanup(cache_disk_close)))

/* Opens `name` in a folder.  Returns 0 or -errno; *out is then none. */
int cache_disk_open(struct cache_file at, const char *name, int flags, mode_t mode,
		    struct cache_file *out);

/* Stores to a mapping.  0, or -ENOSPC: the store needed a block (a snapshot or a copy shares the
 * old one), the disk has none, and nothing was stored.  The kernel says that by SIGBUS, which is
 * caught here and nowhere else: no call makes a page ready for sure, for btrfs may write it back,
 * and want a block again, before the store comes. */
enum cache_disk_change {
	CACHE_DISK_SET,
	CACHE_DISK_OR,
	CACHE_DISK_AND,
	CACHE_DISK_ADD,
	CACHE_DISK_SUBTRACT, /* not below 0 */
};
int cache_disk_change(const struct cache_disk_ops *ops, _Atomic uint64_t *at,
		      enum cache_disk_change how, uint64_t value);
int cache_disk_copy(const struct cache_disk_ops *ops, void *to, const void *from, size_t n);

/* All n bytes at off; the file's end before that is EIO. */
int cache_disk_read(struct cache_file f, void *buf, size_t n, uint64_t off, struct err *e);

/* All n bytes at off.  A failure may have written some. */
int cache_disk_write(struct cache_file f, const void *buf, size_t n, uint64_t off, struct err *e);

#endif
