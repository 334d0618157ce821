/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - random-access, fixed-size, read-only bytes: what every stage of a read implements and
 * consumes (file, tar payload, zfile, later: cache and registry).
 *
 * Units: bytes.
 *
 * Threads: pread, prefetch, want and drop may run concurrently on one source; close must be the
 * last call.
 *
 * Ownership: a source that was opened on another one closes it.  When such an open fails, the lower
 * source stays with the caller.
 *
 * Errors: 0 or -errno.  EBADMSG: the bytes are wrong; EIO, ETIMEDOUT: they could not be had;
 * EACCES: refused; EINVAL: the caller's range is wrong; ENOMEM.  Reads are never short.  A failed
 * read may have written any part of buf. */
#ifndef OVERLAYBD_BASE_SOURCE_H
#define OVERLAYBD_BASE_SOURCE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct source;

struct source_ops {
	const char *name; /* "file", "zfile": for messages and statistics */
	int (*pread)(struct source *s, void *buf, size_t n, uint64_t off, struct err *e);
	/* The source that this one reads, and the range of it that holds *n > 0 bytes at *off.
	 * NULL: none.  Hints pass through it. */
	struct source *(*below)(struct source *s, uint64_t *off, uint64_t *n);
	/* A hint; returns at once. */
	void (*prefetch)(struct source *s, uint64_t off, uint64_t n);
	/* Is read next; returns at once. */
	void (*want)(struct source *s, uint64_t off, uint64_t n);
	/* These bytes were wrong; those below have been told. */
	void (*drop)(struct source *s, uint64_t off, uint64_t n);
	void (*close)(struct source *s); /* frees s */
};

/* First member of each kind of source.  size never changes. */
struct source {
	const struct source_ops *ops;
	uint64_t size;
};

/* Fills buf with bytes [off, off + n).  The only place where the range is checked (EINVAL). */
int source_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e);

/* The lowest source of the chain, and the range of it that [*off, *off + *n) is read from, cut to
 * sizes; *n is 0 when nothing is left. */
struct source *source_bottom(struct source *s, uint64_t *off, uint64_t *n);

/* Says that the range will be read soon.  Cut to the source's size. */
void source_prefetch(struct source *s, uint64_t off, uint64_t n);

/* Says that the caller is about to read the range: who would make it wait for the network begins to
 * fetch at once, as if the read were there.  Cut to the source's size. */
void source_want(struct source *s, uint64_t off, uint64_t n);

/* Says that the range held wrong bytes (a checksum above failed): whoever keeps a copy discards it,
 * and the caller may read once more.  Cut to the source's size. */
void source_drop(struct source *s, uint64_t off, uint64_t n);

/* How often who finds bytes wrong drops them and reads again.  What a cache had may be anybody's,
 * and other processes fill it meanwhile; what is fetched after that is of one endpoint after the
 * other. */
enum { SOURCE_RETRIES = 3 };

/* Closes s and all it was built on.  NULL is allowed. */
void source_close(struct source *s);

/* A regular file or block device, opened read-only; its size is taken now, and a file that has
 * shrunk gives EIO later. */
int source_open_file(const char *path, struct source **out, struct err *e);

/* The same over an open descriptor, which the source then owns (on success). */
int source_open_fd(int fd, struct source **out, struct err *e);

/* n bytes of memory, which the caller keeps alive until close. */
int source_open_memory(const void *bytes, size_t n, struct source **out, struct err *e);

/* Bytes [off, off + n) of another source. */
int source_open_slice(struct source *below, uint64_t off, uint64_t n, struct source **out,
		      struct err *e);

#endif
