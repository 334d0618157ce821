/* SPDX-License-Identifier: Apache-2.0 */
/* io.c - whole reads and writes, see io.h. */
#include "core/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/scope.h"
#include "core/base/sink.h"

/* EIO that says where the file ends now. */
static int ended_early(int fd, size_t n, uint64_t off, struct err *e)
{
	uint64_t size;

	if (io_size(fd, &size, NULL) < 0)
		size = off;
	return err_set(e, EIO, "reading %zu bytes at %" PRIu64 ": the file ends at %" PRIu64, n,
		       off, size);
}

int io_pread(int fd, void *buf, size_t n, uint64_t off, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pread(fd, (char *)buf + done, n - done, (off_t)(off + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_set(e, errno, "reading %zu bytes at %" PRIu64 ": %s", n, off,
				       strerror(errno));
		if (r == 0)
			return ended_early(fd, n, off, e);
		done += (size_t)r;
	}
	return 0;
}

int io_pwrite(int fd, const void *buf, size_t n, uint64_t off, struct err *e)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r = pwrite(fd, (const char *)buf + done, n - done, (off_t)(off + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_set(e, errno, "writing %zu bytes at %" PRIu64 ": %s", n, off,
				       strerror(errno));
		if (r == 0)
			return err_set(e, EIO,
				       "writing %zu bytes at %" PRIu64
				       ": the file system takes none from %" PRIu64 " on",
				       n, off, off + done);
		done += (size_t)r;
	}
	return 0;
}

int io_size(int fd, uint64_t *size, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(e, errno, "fstat: %s", strerror(errno));
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, size) < 0)
			return err_set(e, errno, "size of block device: %s", strerror(errno));
		return 0;
	}
	if (S_ISDIR(st.st_mode))
		return err_set(e, EISDIR, "%s", strerror(EISDIR));
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "neither a regular file nor a block device");
	*size = (uint64_t)st.st_size;
	return 0;
}

int io_read_file(const char *path, size_t limit, char **out, size_t *n, struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	AUTO_FREE char *text = NULL;
	uint64_t size;
	int r;

	if (fd < 0)
		return err_set(e, errno, "%s", strerror(errno));
	r = io_size(fd, &size, e);
	if (r < 0)
		return r;
	if (size > limit)
		return err_set(e, EFBIG, "%" PRIu64 " bytes, more than the limit of %zu", size,
			       limit);
	text = malloc((size_t)size + 1);
	if (!text)
		return err_set(e, ENOMEM, "out of memory");
	r = io_pread(fd, text, (size_t)size, 0, e);
	if (r < 0)
		return r;
	text[size] = '\0';
	*n = (size_t)size;
	*out = TAKE_PTR(text);
	return 0;
}

int io_replace_file(const char *path, const void *bytes, size_t n, struct err *e)
{
	struct sink *s;
	int r;

	r = sink_open_file(path, &s, e);
	if (r < 0)
		return r;
	r = sink_write(s, bytes, n, e);
	if (r == 0)
		r = sink_finish(s, e);
	sink_close(s);
	return r;
}

int io_make_like(int fd, const struct stat *model)
{
	mode_t mode = model->st_mode & 0777;

	/* Root may give both away, others at most the group. */
	if (fchown(fd, model->st_uid, model->st_gid) < 0 &&
	    fchown(fd, (uid_t)-1, model->st_gid) < 0)
		mode &= ~(mode_t)070;
	return fchmod(fd, mode) < 0 ? -errno : 0;
}

char *io_absolute_path(const char *folder, const char *path)
{
	AUTO_FREE char *cwd = NULL;
	char *out;

	if (path[0] == '/')
		return strdup(path);
	if (!folder) {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return NULL;
		folder = cwd;
	}
	if (asprintf(&out, "%s%s%s", folder, strcmp(folder, "/") == 0 ? "" : "/", path) < 0)
		return NULL;
	return out;
}

char *io_parent(const char *path)
{
	char *folder = strdup(path), *slash;

	if (folder) {
		slash = strrchr(folder, '/');
		slash[slash == folder] = '\0'; /* "/" stays */
	}
	return folder;
}
