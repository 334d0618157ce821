/* SPDX-License-Identifier: Apache-2.0 */
/* cache_folder.c - the file system under the cache, see cache_folder.h. */
#include "fetch/cache_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/scope.h"

/* Temporary names, each followed by chance. */
#define GONE "gone." /* a folder that is being deleted */
#define PROBE "probe."
#define NEW "new." /* a file that is being made */

enum { DEPTH = 4, TRIES = 8, NAME = 32, UNFINISHED = 3600 /* s that making something may take */ };

/* A pid would not do: those of two containers that share the folder are often the same. */
static void make_name(char out[NAME], const char *kind)
{
	snprintf(out, NAME, "%s%08" PRIx32 "%08" PRIx32, kind, clock_chance(), clock_chance());
}

/* ---- which file systems ---- */

/* Left out although they punch holes: bcachefs copies on every write, so that a store to a mapping
 * raises SIGBUS on a full disk; zfs, fuse and network file systems keep mapping and pread apart, or
 * locks, on terms of their own. */
static bool is_known(int64_t magic)
{
	switch (magic) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case TMPFS_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static int try_punch(int fd, struct err *e)
{
	enum { SIZE = 65536, HOLE = 16384 };
	AUTO_FREE char *bytes = malloc(SIZE);
	size_t i;
	int r;

	if (!bytes)
		return err_set(e, ENOMEM, "out of memory");
	memset(bytes, 0xff, SIZE);
	r = io_pwrite(fd, bytes, SIZE, 0, e);
	if (r < 0)
		return r;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HOLE) < 0)
		return err_set(e, errno, "the file system cannot punch holes: %s", strerror(errno));
	r = io_pread(fd, bytes, SIZE, 0, e);
	if (r < 0)
		return r;
	for (i = 0; i < SIZE; i++)
		if (bytes[i] != (i < HOLE ? 0 : (char)0xff))
			return err_set(e, EOPNOTSUPP, "the file system punches no holes");
	return 0;
}

int cache_folder_check(int folder, struct err *e)
{
	char name[NAME];
	AUTO_CLOSE int fd = -1;
	struct statfs fs;
	int r;

	if (fstatfs(folder, &fs) < 0)
		return err_set(e, errno, "statfs: %s", strerror(errno));
	if (!is_known(fs.f_type))
		return err_set(e, EOPNOTSUPP,
			       "a file system of type 0x%" PRIx64 " is not known to be safe for a "
			       "cache: ext4, xfs, btrfs, f2fs, tmpfs or overlayfs",
			       (uint64_t)fs.f_type);
	make_name(name, PROBE);
	fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = fd < 0 ? err_set(e, errno, "creating a file: %s", strerror(errno)) : try_punch(fd, e);
	unlinkat(folder, name, 0);
	return r == -ENOSPC || r == -EDQUOT ? 0 : r; /* a full disk can still be read */
}

/* ---- files ---- */

/* Before the file has any block, as btrfs wants it.  Other file systems have no such flag, and need
 * none; overlayfs hands it to the one below. */
static int no_copy_on_write(int fd, struct err *e)
{
	struct statfs fs;
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		if (ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0)
			return 0;
	}
	if (fstatfs(fd, &fs) == 0 && fs.f_type == BTRFS_SUPER_MAGIC)
		return err_set(e, EOPNOTSUPP, "btrfs does not allow the flag NOCOW");
	return 0;
}

int cache_folder_allocate(int fd, uint64_t size, struct err *e)
{
	if (fallocate(fd, 0, 0, (off_t)size) < 0)
		return err_set(e, errno, "allocating %" PRIu64 " bytes: %s", size, strerror(errno));
	return 0;
}

static int fill_file(int fd, const void *head, size_t n, uint64_t size, struct err *e)
{
	int r = no_copy_on_write(fd, e);

	if (r == 0)
		r = cache_folder_allocate(fd, size, e);
	return r < 0 ? r : io_pwrite(fd, head, n, 0, e);
}

/* Gives what root has made to the owner of the folder in which it is.  Should that fail, its owner
 * lacks rights that are told of when they are missed. */
static void give(int folder, int fd)
{
	struct stat st;

	if (geteuid() == 0 && fstat(folder, &st) == 0 && (st.st_uid != 0 || st.st_gid != 0))
		(void)!fchown(fd, st.st_uid, st.st_gid);
}

/* A new file, under a temporary name. */
static int make_temporary(int folder, char name[NAME])
{
	int fd;

	make_name(name, NEW);
	fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		give(folder, fd);
	return fd;
}

int cache_folder_make_file(int folder, const char *name, const void *head, size_t n, uint64_t size,
			   struct err *e)
{
	char temporary[NAME];
	AUTO_CLOSE int fd = make_temporary(folder, temporary);
	int r;

	if (fd < 0)
		return err_set(e, errno, "creating '%s': %s", name, strerror(errno));
	r = fill_file(fd, head, n, size, e);
	if (r == 0 && linkat(folder, temporary, folder, name, 0) < 0 && errno != EEXIST)
		r = err_set(e, errno, "linking: %s", strerror(errno));
	unlinkat(folder, temporary, 0);
	return r < 0 ? err_wrap(e, r, "creating '%s'", name) : 0;
}

int cache_folder_replace_file(int folder, const char *name, const void *bytes, size_t n,
			      struct err *e)
{
	char temporary[NAME];
	AUTO_CLOSE int fd = make_temporary(folder, temporary);
	int r;

	if (fd < 0)
		return err_set(e, errno, "creating '%s': %s", name, strerror(errno));
	r = io_pwrite(fd, bytes, n, 0, e);
	if (r == 0 && renameat(folder, temporary, folder, name) < 0)
		r = err_set(e, errno, "renaming: %s", strerror(errno));
	if (r < 0)
		unlinkat(folder, temporary, 0);
	return r < 0 ? err_wrap(e, r, "creating '%s'", name) : 0;
}

int cache_folder_open_file(int folder, const char *name, bool create, int *out, struct err *e)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
	struct stat st;
	int tries;

	*out = openat(folder, name, flags);
	for (tries = 0; *out < 0 && errno == ENOENT && create && tries < TRIES; tries++) {
		*out = openat(folder, name, flags | O_CREAT | O_EXCL, 0600);
		if (*out >= 0)
			give(folder, *out);
		else if (errno == EEXIST)
			*out = openat(folder, name, flags);
		else
			break;
	}
	if (*out < 0)
		return err_set(
			e, errno == ELOOP || errno == EISDIR || errno == ENXIO ? EUCLEAN : errno,
			"%s: %s", name, strerror(errno));
	if (fstat(*out, &st) == 0 && S_ISREG(st.st_mode))
		return 0;
	close(*out);
	*out = -1;
	return err_set(e, EUCLEAN, "%s: not a file", name);
}

bool cache_folder_is_at(int folder, const char *name, int fd)
{
	struct stat ours, there;

	if (fstat(fd, &ours) < 0 || ours.st_nlink == 0)
		return false;
	if (fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) < 0)
		return errno != ENOENT; /* with less rights than when it was opened: who knows */
	return ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* ---- folders ---- */

static int open_folder(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int cache_folder_make(int at, const char *name, struct err *e)
{
	AUTO_CLOSE int fd = -1;

	if (mkdirat(at, name, 0700) < 0)
		return errno == EEXIST ? 0
				       : err_set(e, errno, "creating the folder %s: %s", name,
						 strerror(errno));
	fd = open_folder(at, name);
	if (fd >= 0)
		give(at, fd);
	return 0;
}

int cache_folder_enter(int root, const char *path, bool create, int *out, struct err *e)
{
	AUTO_FREE char *parent = strdup(path);
	AUTO_CLOSE int above = -1;
	char *name = parent ? strrchr(parent, '/') : NULL;
	int at = root, r = 0;

	*out = -1;
	if (!parent)
		return err_set(e, ENOMEM, "out of memory");
	if (name) {
		*name++ = '\0';
		at = above = open_folder(root, parent);
	} else {
		name = parent;
	}
	if (at < 0)
		return err_set(e, errno == ELOOP ? ENOTDIR : errno, "%s", strerror(errno));
	if (create)
		r = cache_folder_make(at, name, e);
	if (r < 0)
		return r;
	*out = open_folder(at, name);
	if (*out >= 0)
		return 0;
	return err_set(e, errno == ENOTDIR || errno == ELOOP ? EUCLEAN : errno, "%s",
		       errno == ENOTDIR || errno == ELOOP ? "not a folder" : strerror(errno));
}

int cache_folder_lock(int fd, short type, uint64_t off, uint64_t n)
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

/* ---- removing ---- */

static int delete_entry(int parent, const char *name, int depth);

static int delete_entries(int folder, int depth)
{
	DIR *d = fdopendir(folder);
	const struct dirent *entry;
	int r = 0;

	if (!d) {
		r = -errno;
		close(folder);
		return r;
	}
	while (r == 0 && (entry = readdir(d)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = delete_entry(dirfd(d), entry->d_name, depth);
	closedir(d);
	return r;
}

/* Who opened the folder before it was renamed may still be making files in it: hence the tries. */
static int delete_folder(int parent, const char *name, int depth)
{
	int tries, folder, r;

	for (tries = 0; tries < TRIES; tries++) {
		folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (folder < 0)
			return errno == ENOENT ? 0 : -errno;
		r = delete_entries(folder, depth);
		if (r < 0)
			return r;
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return -errno;
	}
	return -ENOTEMPTY;
}

static int delete_entry(int parent, const char *name, int depth)
{
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	return depth > 0 ? delete_folder(parent, name, depth - 1) : -ELOOP;
}

int cache_folder_remove(int root, const char *path, struct err *e)
{
	char gone[NAME];
	int r;

	make_name(gone, GONE);
	if (renameat(root, path, root, gone) < 0)
		return err_set(e, errno, "%s: renaming it away: %s", path, strerror(errno));
	r = delete_entry(root, gone, DEPTH);
	return r < 0 ? err_set(e, -r, "%s: deleting %s: %s", path, gone, strerror(-r)) : 0;
}

/* ---- listing ---- */

static bool begins(const struct dirent *d, const char *with)
{
	return strncmp(d->d_name, with, strlen(with)) == 0;
}

static int is_temporary(const struct dirent *d)
{
	return begins(d, GONE) || begins(d, PROBE) || begins(d, NEW);
}

static int is_document(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

static int is_origin(const struct dirent *d)
{
	return strlen(d->d_name) == 64 && strspn(d->d_name, "0123456789abcdef") == 64;
}

static int is_blob(const struct dirent *d)
{
	return digest_is_valid(d->d_name);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Adds "prefix" "name" for each entry that `wanted` takes.  A folder that is not there has none. */
static int add_entries(int root, const char *folder, const char *prefix,
		       int (*wanted)(const struct dirent *), struct cache_names *names,
		       struct err *e)
{
	struct dirent **found;
	char **more;
	int n = scandirat(root, folder, &found, wanted, by_bytes), i, r = 0;

	if (n < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
		return 0;
	if (n < 0)
		return err_set(e, errno, "listing %s: %s", folder, strerror(errno));
	more = realloc(names->names, (names->count + (size_t)n + 1) * sizeof *more);
	if (more)
		names->names = more;
	else
		r = err_set(e, ENOMEM, "listing %s: out of memory", folder);
	for (i = 0; i < n; i++) {
		if (r == 0 && asprintf(&more[names->count], "%s%s", prefix, found[i]->d_name) < 0)
			r = err_set(e, ENOMEM, "listing %s: out of memory", folder);
		names->count += r == 0;
		free(found[i]);
	}
	free(found);
	return r;
}

void cache_names_release(struct cache_names *names)
{
	size_t i;

	for (i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct cache_names){ 0 };
}

int cache_folder_list_origins(int root, struct cache_names *out, struct err *e)
{
	int r;

	*out = (struct cache_names){ 0 };
	r = add_entries(root, ".", "", is_origin, out, e);
	if (r < 0)
		cache_names_release(out);
	return r;
}

/* Adds what each place has in its folder `inside` ("": itself). */
static int list_places(int root, const char *inside, int (*wanted)(const struct dirent *),
		       struct cache_names *out, struct err *e)
{
	struct cache_names places;
	size_t i;
	int r = cache_folder_list_origins(root, &places, e);

	*out = (struct cache_names){ 0 };
	if (r < 0)
		return r;
	for (i = 0; r == 0 && i <= places.count; i++) { /* "sha256" is after every hex digit */
		char folder[CACHE_PLACE + sizeof CACHE_DOCUMENTS + 1], prefix[sizeof folder + 1];

		snprintf(folder, sizeof folder, "%s%s",
			 i < places.count ? places.names[i] : CACHE_SHARED, inside);
		snprintf(prefix, sizeof prefix, "%s/", folder);
		r = add_entries(root, folder, prefix, wanted, out, e);
	}
	cache_names_release(&places);
	if (r < 0)
		cache_names_release(out);
	return r;
}

int cache_folder_list(int root, struct cache_names *out, struct err *e)
{
	return list_places(root, "", is_blob, out, e);
}

int cache_folder_list_documents(int root, struct cache_names *out, struct err *e)
{
	return list_places(root, "/" CACHE_DOCUMENTS, is_document, out, e);
}

/* Whether nobody can be at work on it any more.  What is gone is of use to nobody. */
static bool is_left(int root, const char *name)
{
	struct stat st;

	if (strncmp(name, GONE, strlen(GONE)) == 0)
		return true;
	return fstatat(root, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       clock_date() - st.st_mtime > UNFINISHED;
}

void cache_folder_sweep(int root)
{
	struct cache_names left = { 0 };
	size_t i;

	if (add_entries(root, ".", "", is_temporary, &left, NULL) == 0)
		for (i = 0; i < left.count; i++)
			if (is_left(root, left.names[i]))
				(void)delete_entry(root, left.names[i], DEPTH);
	cache_names_release(&left);
}
