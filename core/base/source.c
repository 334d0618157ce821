/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - the range check, and the three plain sources: file, memory, slice. */
#include "core/base/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/scope.h"

int source_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	if (!range_fits(off, n, s->size))
		return err_set(e, EINVAL,
			       "%s: %zu bytes at %" PRIu64 " lie beyond its end at %" PRIu64,
			       s->ops->name, n, off, s->size);
	return n == 0 ? 0 : s->ops->pread(s, buf, n, off, e);
}

void source_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	if (s->ops->prefetch && off < s->size && n > 0)
		s->ops->prefetch(s, off, min_u64(n, s->size - off));
}

void source_want(struct source *s, uint64_t off, uint64_t n)
{
	if (s->ops->want && off < s->size && n > 0)
		s->ops->want(s, off, min_u64(n, s->size - off));
}

void source_drop(struct source *s, uint64_t off, uint64_t n)
{
	if (s->ops->drop && off < s->size && n > 0)
		s->ops->drop(s, off, min_u64(n, s->size - off));
}

void source_close(struct source *s)
{
	if (s)
		s->ops->close(s);
}

struct file_source {
	struct source source;
	int fd;
};

static int file_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	return io_pread(((struct file_source *)s)->fd, buf, n, off, e);
}

static void file_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	(void)posix_fadvise(((struct file_source *)s)->fd, (off_t)off, (off_t)n,
			    POSIX_FADV_WILLNEED);
}

static void file_close(struct source *s)
{
	close(((struct file_source *)s)->fd);
	free(s);
}

static const struct source_ops file_ops = {
	.name = "file",
	.pread = file_pread,
	.prefetch = file_prefetch,
	.close = file_close,
};

int source_open_fd(int fd, struct source **out, struct err *e)
{
	struct file_source *f;
	uint64_t size;
	int r;

	r = io_size(fd, &size, e);
	if (r < 0)
		return r;
	f = calloc(1, sizeof *f);
	if (!f)
		return err_set(e, ENOMEM, "out of memory");
	f->source = (struct source){ .ops = &file_ops, .size = size };
	f->fd = fd;
	*out = &f->source;
	return 0;
}

int source_open_file(const char *path, struct source **out, struct err *e)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int r;

	if (fd < 0)
		return err_set(e, errno, "%s", strerror(errno));
	r = source_open_fd(fd, out, e);
	if (r == 0)
		fd = -1;
	return r;
}

struct memory_source {
	struct source source;
	const uint8_t *bytes;
};

static int memory_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	(void)e;
	memcpy(buf, ((struct memory_source *)s)->bytes + off, n);
	return 0;
}

static void memory_close(struct source *s)
{
	free(s);
}

static const struct source_ops memory_ops = {
	.name = "memory",
	.pread = memory_pread,
	.close = memory_close,
};

int source_open_memory(const void *bytes, size_t n, struct source **out, struct err *e)
{
	struct memory_source *m = calloc(1, sizeof *m);

	if (!m)
		return err_set(e, ENOMEM, "out of memory");
	m->source = (struct source){ .ops = &memory_ops, .size = n };
	m->bytes = bytes;
	*out = &m->source;
	return 0;
}

struct slice_source {
	struct source source;
	struct source *below;
	uint64_t start;
};

static int slice_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	struct slice_source *slice = (struct slice_source *)s;

	return source_pread(slice->below, buf, n, slice->start + off, e);
}

static void slice_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	struct slice_source *slice = (struct slice_source *)s;

	source_prefetch(slice->below, slice->start + off, n);
}

static void slice_want(struct source *s, uint64_t off, uint64_t n)
{
	struct slice_source *slice = (struct slice_source *)s;

	source_want(slice->below, slice->start + off, n);
}

static void slice_drop(struct source *s, uint64_t off, uint64_t n)
{
	struct slice_source *slice = (struct slice_source *)s;

	source_drop(slice->below, slice->start + off, n);
}

static void slice_close(struct source *s)
{
	source_close(((struct slice_source *)s)->below);
	free(s);
}

static const struct source_ops slice_ops = {
	.name = "slice",
	.pread = slice_pread,
	.prefetch = slice_prefetch,
	.want = slice_want,
	.drop = slice_drop,
	.close = slice_close,
};

int source_open_slice(struct source *below, uint64_t off, uint64_t n, struct source **out,
		      struct err *e)
{
	struct slice_source *slice;

	if (!range_fits(off, n, below->size))
		return err_set(e, EINVAL,
			       "slice of %" PRIu64 " bytes at %" PRIu64 " exceeds %" PRIu64
			       " bytes",
			       n, off, below->size);
	slice = calloc(1, sizeof *slice);
	if (!slice)
		return err_set(e, ENOMEM, "out of memory");
	slice->source = (struct source){ .ops = &slice_ops, .size = n };
	slice->below = below;
	slice->start = off;
	*out = &slice->source;
	return 0;
}
