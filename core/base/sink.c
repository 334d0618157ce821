/* SPDX-License-Identifier: Apache-2.0 */
/* sink.c - the common checks, and the file sink.
 *
 * The file sink writes to an unnamed file where the file system has them (O_TMPFILE), so that even
 * kill -9 leaves nothing behind; elsewhere to a temporary name, which close removes.  Small writes
 * gather in a buffer; large ones go straight out. */
#include "core/base/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	FILE_BUFFER = 256 * 1024,
	TEMPORARY_BASE = 200, /* bytes of the name that a temporary one begins with */
};

int sink_write(struct sink *s, const void *buf, size_t n, struct err *e)
{
	int r = n == 0 ? 0 : s->ops->write(s, buf, n, e);

	if (r == 0)
		s->written += n;
	return r;
}

int sink_write_zeroes(struct sink *s, uint64_t n, struct err *e)
{
	static const char zeroes[4096];
	int r = 0;

	while (n > 0 && r == 0) {
		size_t piece = (size_t)min_u64(n, sizeof zeroes);

		r = sink_write(s, zeroes, piece, e);
		n -= piece;
	}
	return r;
}

int sink_patch(struct sink *s, const void *buf, size_t n, uint64_t off, struct err *e)
{
	if (!s->ops->patch)
		return err_set(e, EINVAL, "%s: cannot overwrite", s->ops->name);
	if (!range_fits(off, n, s->written))
		return err_set(e, EINVAL,
			       "%s: %zu bytes at %" PRIu64 " were not written yet (%" PRIu64
			       " bytes were)",
			       s->ops->name, n, off, s->written);
	return s->ops->patch(s, buf, n, off, e);
}

int sink_finish(struct sink *s, struct err *e)
{
	return s->ops->finish(s, e);
}

void sink_close(struct sink *s)
{
	if (s)
		s->ops->close(s);
}

struct file_sink {
	struct sink sink;
	int fd;
	char *path; /* the name to appear under, symbolic links resolved */
	char *folder;
	char *temporary; /* NULL while the file has no name */
	bool replaces; /* there is a file, whose mode is kept, and owner where that can be */
	struct stat replaced;
	uint64_t flushed; /* bytes in the file; the rest is in buffer */
	size_t buffered;
	uint8_t buffer[FILE_BUFFER];
};

static int file_fail(const struct file_sink *f, const char *what, struct err *e)
{
	int code = errno;

	return err_set(e, code, "%s: %s: %s", f->path, what, strerror(code));
}

static int file_append(struct file_sink *f, const void *buf, size_t n, struct err *e)
{
	int r = io_pwrite(f->fd, buf, n, f->flushed, e);

	if (r < 0)
		return err_wrap(e, r, "%s", f->path);
	f->flushed += n;
	return 0;
}

static int file_flush(struct file_sink *f, struct err *e)
{
	int r = file_append(f, f->buffer, f->buffered, e);

	f->buffered = 0;
	return r;
}

static int file_write(struct sink *s, const void *buf, size_t n, struct err *e)
{
	struct file_sink *f = (struct file_sink *)s;
	int r;

	if (n > sizeof f->buffer - f->buffered) {
		r = file_flush(f, e);
		if (r < 0)
			return r;
	}
	if (n >= sizeof f->buffer)
		return file_append(f, buf, n, e);
	memcpy(f->buffer + f->buffered, buf, n);
	f->buffered += n;
	return 0;
}

static int file_patch(struct sink *s, const void *buf, size_t n, uint64_t off, struct err *e)
{
	struct file_sink *f = (struct file_sink *)s;
	int r = file_flush(f, e);

	if (r == 0)
		r = io_pwrite(f->fd, buf, n, off, e);
	return r < 0 ? err_wrap(e, r, "%s", f->path) : 0;
}

/* Gives the file a free temporary name beside its path with `make`, which returns false with errno
 * set, EEXIST to try another name. */
static int file_name_temporary(struct file_sink *f, bool (*make)(struct file_sink *f),
			       struct err *e)
{
	const char *slash = strrchr(f->path, '/'), *base = slash ? slash + 1 : f->path;
	int length = (int)(base - f->path) + (int)strnlen(base, TEMPORARY_BASE);
	unsigned try;

	for (try = 0; try < 100; try++) {
		if (asprintf(&f->temporary, "%.*s.tmp.%d.%u", length, f->path, (int)getpid(), try) <
		    0) {
			f->temporary = NULL;
			return err_set(e, ENOMEM, "out of memory");
		}
		if (make(f))
			return 0;
		free(TAKE_PTR(f->temporary)); /* whoever has that name keeps it */
		if (errno != EEXIST)
			break;
	}
	return file_fail(f, "creating it", e);
}

static bool link_unnamed(struct file_sink *f)
{
	char self[32];

	snprintf(self, sizeof self, "/proc/self/fd/%d", f->fd);
	return linkat(AT_FDCWD, self, AT_FDCWD, f->temporary, AT_SYMLINK_FOLLOW) == 0;
}

static bool create_named(struct file_sink *f)
{
	f->fd = open(f->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
		     f->replaces ? f->replaced.st_mode & 0777 : 0666);
	return f->fd >= 0;
}

/* -1: a folder that may be written but not read cannot be synced. */
static int file_open_folder(struct file_sink *f, int *fd, struct err *e)
{
	*fd = open(f->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *fd >= 0 || errno == EACCES ? 0 : file_fail(f, "opening its folder", e);
}

static int file_appear(struct file_sink *f, struct err *e)
{
	AUTO_CLOSE int folder = -1;
	/* First: what fails before the name is given leaves the file as it was. */
	int r = file_open_folder(f, &folder, e);

	if (r == 0 && !f->temporary)
		r = file_name_temporary(f, link_unnamed, e);
	if (r < 0)
		return r;
	if (rename(f->temporary, f->path) < 0)
		return file_fail(f, "rename", e);
	free(TAKE_PTR(f->temporary));
	/* The folders of some file systems cannot be synced: the file is there all the same. */
	if (folder >= 0 && TEMP_FAILURE_RETRY(fsync(folder)) < 0 && errno != EINVAL)
		return file_fail(f, "syncing its folder", e);
	return 0;
}

static int file_finish(struct sink *s, struct err *e)
{
	struct file_sink *f = (struct file_sink *)s;
	int r = file_flush(f, e);

	if (r < 0)
		return r;
	if (f->replaces) {
		r = io_make_like(f->fd, &f->replaced);
		if (r < 0)
			return err_set(e, -r, "%s: fchmod: %s", f->path, strerror(-r));
	}
	if (TEMP_FAILURE_RETRY(fsync(f->fd)) < 0)
		return file_fail(f, "fsync", e);
	return file_appear(f, e);
}

static void file_close(struct sink *s)
{
	struct file_sink *f = (struct file_sink *)s;

	if (f->temporary)
		unlink(f->temporary);
	if (f->fd >= 0)
		close(f->fd);
	free(f->temporary);
	free(f->folder);
	free(f->path);
	free(f);
}

static const struct sink_ops file_ops = {
	.name = "file",
	.write = file_write,
	.patch = file_patch,
	.finish = file_finish,
	.close = file_close,
};

/* The name that will be replaced: an existing regular file, seen through links, or a new one. */
static int file_resolve(struct file_sink *f, const char *path, struct err *e)
{
	struct stat st;
	char *slash;

	if (stat(path, &st) == 0) {
		if (!S_ISREG(st.st_mode))
			return err_set(e, EINVAL, "%s: exists and is not a regular file", path);
		f->path = realpath(path, NULL);
		f->replaces = true;
		f->replaced = st;
	} else if (errno != ENOENT) {
		return err_set(e, errno, "%s: %s", path, strerror(errno));
	} else if (lstat(path, &st) == 0) {
		return err_set(e, EINVAL, "%s: is a symbolic link that leads nowhere", path);
	} else {
		f->path = strdup(path);
	}
	f->folder = f->path ? strdup(f->path) : NULL;
	if (!f->folder)
		return err_set(e, ENOMEM, "%s: out of memory", path);
	slash = strrchr(f->folder, '/');
	if (!slash)
		strcpy(f->folder, "."); /* a path is at least one character long */
	else
		slash[slash == f->folder] = '\0';
	return 0;
}

static int file_create(struct file_sink *f, struct err *e)
{
	f->fd = open(f->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	if (f->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)
		return file_fail(f, "creating it", e);
	return file_name_temporary(f, create_named, e);
}

int sink_open_file(const char *path, struct sink **out, struct err *e)
{
	struct file_sink *f;
	int r;

	if (path[0] == '\0')
		return err_set(e, EINVAL, "an output needs a name");
	f = calloc(1, sizeof *f);
	if (!f)
		return err_set(e, ENOMEM, "out of memory");
	f->sink.ops = &file_ops;
	f->fd = -1;
	r = file_resolve(f, path, e);
	if (r == 0)
		r = file_create(f, e);
	if (r < 0) {
		file_close(&f->sink);
		return r;
	}
	*out = &f->sink;
	return 0;
}
