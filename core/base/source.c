/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - the range check, and the three plain sources: file, memory, slice. */
#include "core/base/source.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
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

/* Cuts *n to what the source has from `off` on.  False: that is nothing. */
static bool cut_to_size(const struct source *s, uint64_t off, uint64_t *n)
{
	if (off >= s->size)
		return false;
	*n = min_u64(*n, s->size - off);
	return *n > 0;
}

struct source *source_bottom(struct source *s, uint64_t *off, uint64_t *n)
{
	while (s->ops->below && cut_to_size(s, *off, n))
		s = s->ops->below(s, off, n);
	if (!cut_to_size(s, *off, n))
		*n = 0;
	return s;
}

void source_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	s = source_bottom(s, &off, &n);
	if (s->ops->prefetch && n > 0)
		s->ops->prefetch(s, off, n);
}

void source_want(struct source *s, uint64_t off, uint64_t n)
{
	s = source_bottom(s, &off, &n);
	if (s->ops->want && n > 0)
		s->ops->want(s, off, n);
}

/* The lowest first: what is above might read the wrong bytes again in between. */
void source_drop(struct source *s, uint64_t off, uint64_t n)
{
	uint64_t below_off = off, below_n;

	if (!cut_to_size(s, off, &n))
		return;
	below_n = n;
	if (s->ops->below) {
		struct source *below = s->ops->below(s, &below_off, &below_n);

		source_drop(below, below_off, below_n);
	}
	if (s->ops->drop)
		s->ops->drop(s, off, n);
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
	f = malloc(sizeof *f);
	if (!f)
		return err_set(e, ENOMEM, "out of memory");
	*f = (struct file_source){ .source = { .ops = &file_ops, .size = size }, .fd = fd };
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
	struct memory_source *m = malloc(sizeof *m);

	if (!m)
		return err_set(e, ENOMEM, "out of memory");
	*m = (struct memory_source){ .source = { .ops = &memory_ops, .size = n }, .bytes = bytes };
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

static struct source *slice_below(struct source *s, uint64_t *off, uint64_t *n)
{
	struct slice_source *slice = (struct slice_source *)s;

	*off += slice->start;
	return slice->below;
}

static void slice_close(struct source *s)
{
	source_close(((struct slice_source *)s)->below);
	free(s);
}

static const struct source_ops slice_ops = {
	.name = "slice",
	.pread = slice_pread,
	.below = slice_below,
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
	slice = malloc(sizeof *slice);
	if (!slice)
		return err_set(e, ENOMEM, "out of memory");
	*slice = (struct slice_source){ .source = { .ops = &slice_ops, .size = n },
					.below = below,
					.start = off };
	*out = &slice->source;
	return 0;
}
