/* SPDX-License-Identifier: Apache-2.0 */
/* upper_file.c - the system's file operations, see upper_file.h. */
#include "core/upper_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/base/text.h"

static int result(int r)
{
	return r < 0 ? -errno : r;
}

/* ---- the folder that holds a file ---- */

/* As many symbolic links as the kernel follows. */
enum { LINKS_MAX = 40 };

/* What was met on the way. */
struct way {
	unsigned links;
	bool led; /* by a link of another user's: `..` is his choice as well */
};

static int walk(int at, const char *path, size_t n, struct way *way);

/* In a user namespace the links of the machine's root, and of everybody who has no number there,
 * seem to be the overflow user's. */
static bool is_roots(uid_t uid)
{
	enum { OVERFLOW_UID = 65534 };
	unsigned inside = 0, outside = 0, count = UINT_MAX;
	FILE *map;

	if (uid != OVERFLOW_UID)
		return uid == 0;
	map = fopen("/proc/self/uid_map", "re");
	if (!map)
		return false;
	if (fscanf(map, "%u %u %u", &inside, &outside, &count) != 3)
		count = UINT_MAX;
	fclose(map);
	return inside != 0 || outside != 0 || count != UINT_MAX;
}

/* Of another user's link, only to what is that user's: else it would lend our rights. */
static bool may_follow(uid_t link, uid_t target)
{
	return link == geteuid() || link == target || is_roots(link);
}

/* Opens what the symbolic link `link` in the folder `at` leads to. */
static int follow(int at, int link, const char *target, size_t n, struct way *way)
{
	struct stat of_link, of_target;
	int fd;

	if (++way->links > LINKS_MAX)
		return -ELOOP;
	fd = walk(at, target, n, way);
	if (fd < 0)
		return fd;
	if (fstat(link, &of_link) < 0 || fstat(fd, &of_target) < 0 ||
	    !may_follow(of_link.st_uid, of_target.st_uid)) {
		close(fd);
		return -ELOOP;
	}
	way->led = way->led || (of_link.st_uid != geteuid() && !is_roots(of_link.st_uid));
	return fd;
}

/* Whether the open link is one of the kernel's own, as /proc/PID/root: its text is not where it
 * leads. */
static bool is_magic(int link)
{
	struct statfs fs;

	return fstatfs(link, &fs) == 0 && fs.f_type == PROC_SUPER_MAGIC;
}

/* Opens one part of a path in the folder `at`. */
static int step(int at, const char *name, struct way *way)
{
	int fd, link;
	char target[PATH_MAX]; /* longer than any */
	ssize_t n;

	if (way->led && strcmp(name, "..") == 0)
		return -ELOOP;
	/* O_DIRECTORY: what is mounted when it is used is. */
	fd = result(openat(at, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC));
	if (fd != -ENOTDIR)
		return fd;
	link = result(openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
	if (link < 0)
		return link;
	n = readlinkat(link, "", target, sizeof target);
	if (n < 0)
		fd = -ENOTDIR;
	else if (is_magic(link))
		fd = result(openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC));
	else
		fd = follow(at, link, target, (size_t)n, way);
	close(link);
	return fd;
}

/* Opens the n bytes of `path` from the folder `at` on, which stays open. */
static int walk(int at, const char *path, size_t n, struct way *way)
{
	int fd = n > 0 && path[0] == '/' ? open("/", O_PATH | O_CLOEXEC)
					 : openat(at, ".", O_PATH | O_CLOEXEC);
	const char *end = path + n;
	size_t length;

	if (fd < 0)
		return -errno;
	for (; fd >= 0 && path < end; path += length) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		char name[NAME_MAX + 1] = "";
		int next = -ENAMETOOLONG;

		length = (size_t)((slash ? slash : end) - path);
		if (length == 0) {
			length = 1; /* a slash */
			continue;
		}
		if (length <= NAME_MAX) {
			memcpy(name, path, length);
			next = step(fd, name, way);
		}
		close(fd);
		fd = next;
	}
	return fd;
}

/* Opens the folder that holds `path`, for calls with *base, the last part.  Whoever owns a folder
 * on the way may put a link there at any time: it is followed no further than may_follow says. */
static int open_folder(const char *path, const char **base)
{
	const char *slash = strrchr(path, '/');
	struct way way = { 0 };

	*base = slash ? slash + 1 : path;
	return walk(AT_FDCWD, path, (size_t)(*base - path), &way);
}

static int system_open(const char *path, int flags, mode_t mode)
{
	const char *base;
	AUTO_CLOSE int folder = open_folder(path, &base);

	/* O_NONBLOCK: the name of a pipe must not make us wait.  O_NOCTTY: nor one of a terminal
	 * give somebody a key that ends us. */
	return folder < 0 ? folder
			  : result(openat(folder, base,
					  flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW,
					  mode));
}

static void system_close(int fd)
{
	close(fd);
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

static int system_size(int fd, uint64_t *size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*size = (uint64_t)st.st_size;
	return 0;
}

static int system_truncate(int fd, uint64_t size)
{
	return result(ftruncate(fd, (off_t)size));
}

/* Interrupted, it has not failed: nothing was reported as lost. */
static int system_datasync(int fd)
{
	return result((int)TEMP_FAILURE_RETRY(fdatasync(fd)));
}

static int system_punch(int fd, uint64_t off, uint64_t n)
{
	return result(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)n));
}

static int system_lock(int fd)
{
	return result(flock(fd, LOCK_EX | LOCK_NB));
}

static int system_is_named(int fd, const char *path)
{
	struct stat opened, named;
	const char *base;
	AUTO_CLOSE int folder = open_folder(path, &base);

	if (folder < 0)
		return folder == -ENOENT ? 0 : folder;
	if (fstat(fd, &opened) < 0)
		return -errno;
	if (fstatat(folder, base, &named, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

/* Where the symbolic link of that name leads, one step, and whose it is: a name that the caller
 * frees.  NULL with 0: it is no link. */
static int read_link(const char *path, char **out, uid_t *owner)
{
	const char *base;
	AUTO_CLOSE int folder = open_folder(path, &base);
	AUTO_CLOSE int link =
		folder < 0 ? folder : result(openat(folder, base, O_PATH | O_NOFOLLOW | O_CLOEXEC));
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	*out = NULL;
	if (link < 0)
		return link;
	if (fstat(link, &st) < 0)
		return -errno;
	*owner = st.st_uid;
	if (!S_ISLNK(st.st_mode))
		return 0;
	n = readlinkat(link, "", target, sizeof target);
	if (n < 0)
		return -errno;
	*out = text_format("%.*s%.*s", target[0] == '/' ? 0 : (int)(base - path), path, (int)n,
			   target);
	return *out ? 0 : -ENOMEM;
}

static char *system_true_name(const char *path)
{
	char *name = strdup(path), *next;
	uid_t owners[LINKS_MAX + 1], owner = 0;
	unsigned n = 0, i;
	int r = name ? 0 : -ENOMEM;

	while (r == 0) {
		r = read_link(name, &next, &owner);
		if (r < 0 || !next)
			break;
		free(name);
		name = next;
		owners[n++] = owner;
		if (n > LINKS_MAX)
			r = -ELOOP;
	}
	for (i = 0; i < n && r == 0; i++)
		if (!may_follow(owners[i], owner))
			r = -ELOOP;
	if (r == 0)
		return name;
	free(name);
	/* One that is not followed, or leads nowhere: opening says so. */
	return r == -ENOMEM ? NULL : strdup(path);
}

static int system_link(int fd, const char *path)
{
	const char *base;
	AUTO_CLOSE int folder = open_folder(path, &base);
	char open_file[32];

	snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", fd);
	return folder < 0 ? folder
			  : result(linkat(AT_FDCWD, open_file, folder, base, AT_SYMLINK_FOLLOW));
}

static int system_status(int fd, struct file_status *out)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*out = (struct file_status){ .allocated = (uint64_t)st.st_blocks * 512,
				     .device = st.st_dev,
				     .inode = st.st_ino,
				     .links = st.st_nlink };
	return 0;
}

static int system_list(const char *path, void (*take)(void *arg, const char *name), void *arg)
{
	const char *base;
	AUTO_CLOSE int folder = open_folder(path, &base);
	int fd = folder < 0 ? folder
			    : result(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *entry;
	DIR *dir;
	int r = 0;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (entry = readdir(dir))) {
		AUTO_FREE char *name = NULL;

		if (strncmp(entry->d_name, base, strlen(base)) != 0)
			continue;
		name = text_format("%.*s%s", (int)(base - path), path, entry->d_name);
		if (name)
			take(arg, name);
		else
			r = -ENOMEM;
	}
	closedir(dir);
	return r;
}

static int system_make_like(int fd, int model)
{
	struct stat st;
	int r = fstat(model, &st) < 0 ? -errno : io_make_like(fd, &st);

	/* Where there are no modes it stays ours alone. */
	return r == -EPERM || r == -EOPNOTSUPP ? 0 : r;
}

static int system_rename(const char *from, const char *to)
{
	const char *from_base, *to_base;
	AUTO_CLOSE int from_folder = open_folder(from, &from_base);
	AUTO_CLOSE int to_folder = open_folder(to, &to_base);

	if (from_folder < 0 || to_folder < 0)
		return from_folder < 0 ? from_folder : to_folder;
	return result(renameat(from_folder, from_base, to_folder, to_base));
}

static int system_unlink(const char *path)
{
	const char *base;
	AUTO_CLOSE int folder = open_folder(path, &base);

	return folder < 0 ? folder : result(unlinkat(folder, base, 0));
}

static int system_sync_folder(const char *path)
{
	const char *base;
	AUTO_CLOSE int folder = open_folder(path, &base);
	AUTO_CLOSE int fd =
		folder < 0 ? folder
			   : result(openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	return fd < 0 ? fd : result((int)TEMP_FAILURE_RETRY(fsync(fd)));
}

static int system_boot_id(char out[FILE_BOOT_ID])
{
	AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, out, FILE_BOOT_ID - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return n == FILE_BOOT_ID - 1 ? 0 : -EIO;
}

const struct file_ops file_ops_system = {
	.open = system_open,
	.close = system_close,
	.pread = system_pread,
	.pwrite = system_pwrite,
	.size = system_size,
	.truncate = system_truncate,
	.datasync = system_datasync,
	.punch = system_punch,
	.lock = system_lock,
	.is_named = system_is_named,
	.true_name = system_true_name,
	.status = system_status,
	.list = system_list,
	.make_like = system_make_like,
	.link = system_link,
	.rename = system_rename,
	.unlink = system_unlink,
	.sync_folder = system_sync_folder,
	.boot_id = system_boot_id,
};

int upper_file_read(const struct file_ops *ops, int fd, void *buf, size_t n, uint64_t off,
		    struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = ops->pread(fd, (char *)buf + done, n - done, off + done);

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

int upper_file_write(const struct file_ops *ops, int fd, const void *buf, size_t n, uint64_t off,
		     struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = ops->pwrite(fd, (const char *)buf + done, n - done, off + done);

		if (r == -EINTR)
			continue;
		if (r < 0)
			return err_set(e, (int)-r, "writing %zu bytes at %" PRIu64 ": %s", n, off,
				       strerror((int)-r));
		if (r == 0)
			return err_set(e, EIO,
				       "writing %zu bytes at %" PRIu64
				       ": the file system takes none from %" PRIu64 " on",
				       n, off, off + done);
		done += (size_t)r;
	}
	return 0;
}

enum { RANDOM_DIGITS = 16, NAME_TRIES = 100 };
static const char infix[] = ".tmp.";

int upper_file_temporary(const struct file_ops *ops, const char *path, int like, char **name,
			 struct err *e)
{
	int fd = -EEXIST, try, r;
	uint64_t random;

	for (try = 0; fd == -EEXIST && try < NAME_TRIES; try++) {
		if (getrandom(&random, sizeof random, 0) != (ssize_t)sizeof random)
			return err_set(e, errno, "random bytes for a name: %s", strerror(errno));
		*name = text_format("%s%s%016" PRIx64, path, infix, random);
		if (!*name)
			return err_set(e, ENOMEM, "out of memory");
		/* With nobody's rights but ours, until it has those of its model. */
		fd = ops->open(*name, O_RDWR | O_CREAT | O_EXCL, like < 0 ? 0644 : 0600);
		if (fd < 0)
			free(*name);
	}
	if (fd < 0)
		return err_set(e, -fd, "making a file beside %s: %s", path, strerror(-fd));
	r = like < 0 ? 0 : ops->make_like(fd, like);
	if (r == 0)
		return fd;
	ops->close(fd);
	ops->unlink(*name);
	free(*name);
	return err_set(e, -r, "owner and mode of a file beside %s: %s", path, strerror(-r));
}

bool upper_file_is_temporary(const char *path)
{
	size_t n = strlen(path), tail = strlen(infix) + RANDOM_DIGITS;
	const char *digits = path + n - RANDOM_DIGITS;

	return n > tail && strncmp(path + n - tail, infix, strlen(infix)) == 0 &&
	       strspn(digits, "0123456789abcdef") == RANDOM_DIGITS;
}

int upper_file_open(const struct file_ops *ops, const char *path, int flags, struct err *e)
{
	AUTO_FREE char *name = ops->true_name(path);
	int fd = name ? ops->open(name, flags, 0644) : -ENOMEM;

	if (fd == -ELOOP)
		return err_set(e, ELOOP,
			       "%s: is a symbolic link that leads nowhere, or that another user "
			       "made: not followed",
			       path);
	return fd < 0 ? err_set(e, -fd, "%s: %s", path, strerror(-fd)) : fd;
}

int upper_file_sync_folder(const struct file_ops *ops, const char *path, struct err *e)
{
	int r = ops->sync_folder(path);

	return r < 0 ? err_set(e, -r, "%s: syncing its folder: %s", path, strerror(-r)) : 0;
}

struct file_source {
	struct source source;
	const struct file_ops *ops;
	int fd;
};

static int file_source_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	const struct file_source *f = (const struct file_source *)s;

	return upper_file_read(f->ops, f->fd, buf, n, off, e);
}

static void file_source_close(struct source *s)
{
	free(s);
}

int upper_file_source(const struct file_ops *ops, int fd, struct source **out, struct err *e)
{
	static const struct source_ops source_ops = {
		.name = "file",
		.pread = file_source_pread,
		.close = file_source_close,
	};
	struct file_source *f = calloc(1, sizeof *f);
	int r = f ? ops->size(fd, &f->source.size) : -ENOMEM;

	if (r < 0) {
		free(f);
		return err_set(e, -r, "%s", r == -EINVAL ? "not a regular file" : strerror(-r));
	}
	f->source.ops = &source_ops;
	f->ops = ops;
	f->fd = fd;
	*out = &f->source;
	return 0;
}
