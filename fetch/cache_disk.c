/* SPDX-License-Identifier: Apache-2.0 */
/* cache_disk.c - the system's file operations as a table, see cache_disk.h. */
#include "fetch/cache_disk.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "core/base/le.h"

/* ---- the system's ---- */

static int result(int r)
{
	return r < 0 ? -errno : r;
}

static int system_open(int at, const char *name, int flags, mode_t mode)
{
	return result(openat(at, name, flags | O_CLOEXEC, mode));
}

static void system_close(int fd)
{
	(void)close(fd);
}

static int system_replace(int fd, int with)
{
	return dup3(with, fd, O_CLOEXEC) < 0 ? -errno : 0;
}

static int system_stat(int fd, struct stat *st)
{
	return result(fstat(fd, st));
}

static int system_stat_at(int at, const char *name, struct stat *st)
{
	return result(fstatat(at, name, st, AT_SYMLINK_NOFOLLOW));
}

static int system_exists(int at, const char *name)
{
	return result(faccessat(at, name, F_OK, 0));
}

static int system_room(int fd, struct cache_disk_room *room)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return -errno;
	room->type = fs.f_type;
	room->free = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
	return 0;
}

static int system_list(int at, const char *path, int (*each)(void *arg, const char *name),
		       void *arg)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!d) {
		r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	for (;;) {
		errno = 0; /* only so is the end told from an error */
		entry = readdir(d);
		if (!entry) {
			r = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = each(arg, entry->d_name);
		if (r != 0)
			break;
	}
	closedir(d);
	return r;
}

static int system_make_folder(int at, const char *name, mode_t mode)
{
	return result(mkdirat(at, name, mode));
}

/* A file system that cannot rename like that has two names for a moment. */
static int system_name(int at, const char *from, const char *to)
{
	if (renameat2(at, from, at, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (linkat(at, from, at, to, 0) < 0)
		return -errno;
	return result(unlinkat(at, from, 0));
}

static int system_rename(int at, const char *from, const char *to)
{
	return result(renameat(at, from, at, to));
}

static int system_unlink(int at, const char *name)
{
	return result(unlinkat(at, name, 0));
}

static int system_remove_folder(int at, const char *name)
{
	return result(unlinkat(at, name, AT_REMOVEDIR));
}

static ssize_t system_pread(int fd, void *buf, size_t n, uint64_t off)
{
	ssize_t r = pread(fd, buf, n, (off_t)off);

	return r < 0 ? -errno : r;
}

static ssize_t system_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	ssize_t r = pwrite(fd, buf, n, (off_t)off);

	return r < 0 ? -errno : r;
}

static int system_truncate(int fd, uint64_t size)
{
	return result(ftruncate(fd, (off_t)size));
}

static int system_allocate(int fd, uint64_t size)
{
	return result(fallocate(fd, 0, 0, (off_t)size));
}

static int system_punch(int fd, uint64_t off, uint64_t n)
{
	return result(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)n));
}

static int system_unshare(int fd, uint64_t size)
{
	return result(fallocate(fd, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size));
}

static int system_no_cow(int fd)
{
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return -EOPNOTSUPP;
	flags |= FS_NOCOW_FL;
	return ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0 ? -EOPNOTSUPP : 0;
}

static int system_give(int fd, uid_t user, gid_t group)
{
	return result(fchown(fd, user, group));
}

static int system_touch(int fd)
{
	return result(futimens(fd, NULL));
}

static int system_datasync(int fd)
{
	return result((int)TEMP_FAILURE_RETRY(fdatasync(fd)));
}

static int system_lock(int fd, short type, uint64_t off, uint64_t n)
{
	struct flock lock = {
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)off,
		.l_len = (off_t)n,
	};

	while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		if (errno == EACCES)
			return -EAGAIN;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

static int system_look(int fd, struct flock *lock)
{
	return result(fcntl(fd, F_OFD_GETLK, lock));
}

static int system_map(int fd, size_t n, void *where, void **out)
{
	const int fixed = where ? MAP_FIXED : 0;
	void *at = mmap(where, n, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	*out = at;
	return 0;
}

static void system_unmap(void *at, size_t n)
{
	(void)munmap(at, n);
}

static int system_prepare(void *at, size_t n)
{
	return 0; /* the kernel tells when it comes to it */
}

const struct cache_disk_ops cache_disk_system = {
	.open = system_open,
	.close = system_close,
	.replace = system_replace,
	.stat = system_stat,
	.stat_at = system_stat_at,
	.exists = system_exists,
	.room = system_room,
	.list = system_list,
	.make_folder = system_make_folder,
	.name = system_name,
	.rename = system_rename,
	.unlink = system_unlink,
	.remove_folder = system_remove_folder,
	.pread = system_pread,
	.pwrite = system_pwrite,
	.truncate = system_truncate,
	.allocate = system_allocate,
	.punch = system_punch,
	.unshare = system_unshare,
	.no_cow = system_no_cow,
	.give = system_give,
	.touch = system_touch,
	.datasync = system_datasync,
	.lock = system_lock,
	.look = system_look,
	.map = system_map,
	.unmap = system_unmap,
	.prepare = system_prepare,
};

/* ---- on any table ---- */

void cache_disk_close(struct cache_file *f)
{
	if (f->fd >= 0)
		f->ops->close(f->fd);
	f->fd = -1;
}

int cache_disk_open(struct cache_file at, const char *name, int flags, mode_t mode,
		    struct cache_file *out)
{
	int fd = at.ops->open(at.fd, name, flags, mode);

	*out = (struct cache_file){ at.ops, fd < 0 ? -1 : fd };
	return fd < 0 ? fd : 0;
}

int cache_disk_read(struct cache_file f, void *buf, size_t n, uint64_t off, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = f.ops->pread(f.fd, (char *)buf + done, n - done, off + done);

		if (r == -EINTR)
			continue;
		if (r < 0)
			return err_set(e, (int)-r, "reading %zu bytes at %" PRIu64 ": %s", n, off,
				       strerror((int)-r));
		if (r == 0)
			return err_set(e, EIO,
				       "reading %zu bytes at %" PRIu64
				       ": the file ends at %" PRIu64,
				       n, off, off + done);
		done += (size_t)r;
	}
	return 0;
}

int cache_disk_write(struct cache_file f, const void *buf, size_t n, uint64_t off, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = f.ops->pwrite(f.fd, (const char *)buf + done, n - done, off + done);

		if (r == -EINTR)
			continue;
		if (r == 0)
			r = -ENOSPC; /* what a disk does that takes no more, and does not say so */
		if (r < 0)
			return err_set(e, (int)-r, "writing %zu bytes at %" PRIu64 ": %s", n, off,
				       strerror((int)-r));
		done += (size_t)r;
	}
	return 0;
}

/* ---- stores that may raise SIGBUS ---- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct sigaction others; /* what SIGBUS did before */
static _Thread_local sigjmp_buf *guard; /* where a store of this thread goes on that failed */

/* One that is not ours goes where it would have gone: the instruction is tried again without us. */
static void on_bus_error(int number)
{
	if (guard)
		siglongjmp(*guard, 1);
	(void)sigaction(SIGBUS, &others, NULL);
}

static void catch_bus_errors(void)
{
	struct sigaction ours = { .sa_handler = on_bus_error, .sa_flags = SA_NODEFER };

	sigemptyset(&ours.sa_mask);
	(void)sigaction(SIGBUS, &ours, &others);
}

static void change(_Atomic uint64_t *at, enum cache_disk_change how, uint64_t value)
{
	uint64_t old;

	switch (how) {
	case CACHE_DISK_SET:
		atomic_store(at, value);
		break;
	case CACHE_DISK_OR:
		atomic_fetch_or(at, value);
		break;
	case CACHE_DISK_AND:
		atomic_fetch_and(at, value);
		break;
	case CACHE_DISK_ADD:
		atomic_fetch_add(at, value);
		break;
	case CACHE_DISK_SUBTRACT:
		old = atomic_load(at);
		while (!atomic_compare_exchange_weak(at, &old, old - min_u64(value, old)))
			;
		break;
	}
}

int cache_disk_change(const struct cache_disk_ops *ops, _Atomic uint64_t *at,
		      enum cache_disk_change how, uint64_t value)
{
	sigjmp_buf failed;
	int r = ops->prepare(at, sizeof *at);

	if (r < 0)
		return r;
	pthread_once(&once, catch_bus_errors);
	if (sigsetjmp(failed, 0) == 0) {
		guard = &failed;
		atomic_signal_fence(memory_order_seq_cst);
		change(at, how, value);
		atomic_signal_fence(memory_order_seq_cst);
		guard = NULL;
		return 0;
	}
	guard = NULL;
	return -ENOSPC;
}

int cache_disk_copy(const struct cache_disk_ops *ops, void *to, const void *from, size_t n)
{
	sigjmp_buf failed;
	int r = ops->prepare(to, n);

	if (r < 0)
		return r;
	pthread_once(&once, catch_bus_errors);
	if (sigsetjmp(failed, 0) == 0) {
		guard = &failed;
		atomic_signal_fence(memory_order_seq_cst);
		memcpy(to, from, n);
		atomic_signal_fence(memory_order_seq_cst);
		guard = NULL;
		return 0;
	}
	guard = NULL;
	return -ENOSPC;
}
