/* SPDX-License-Identifier: Apache-2.0 */
/* sink.h - bytes written in order: what every stage of writing a layer implements and consumes
 * (file, tar wrapper, zfile).  The mirror image of source.h.
 *
 * Units: bytes.  Threads: one at a time.  Errors: 0 or -errno, final: after a failure only
 * sink_close may follow.
 * Ownership: a sink that was opened on another one closes it.  When such an open fails, the lower
 *   sink stays with the caller. */
#ifndef OVERLAYBD_BASE_SINK_H
#define OVERLAYBD_BASE_SINK_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct sink;

struct sink_ops {
	const char *name;
	int (*write)(struct sink *s, const void *buf, size_t n, struct err *e);
	/* Overwrites bytes that were written before; NULL: this sink cannot. */
	int (*patch)(struct sink *s, const void *buf, size_t n, uint64_t off, struct err *e);
	int (*finish)(struct sink *s, struct err *e);
	void (*close)(struct sink *s); /* frees s */
};

struct sink {
	const struct sink_ops *ops;
	uint64_t written; /* bytes accepted so far, kept by sink_write */
};

/* Appends n bytes. */
int sink_write(struct sink *s, const void *buf, size_t n, struct err *e);

/* Appends n zero bytes. */
int sink_write_zeroes(struct sink *s, uint64_t n, struct err *e);

/* Overwrites [off, off + n), which must have been written; EINVAL otherwise, or where a sink
 * cannot. */
int sink_patch(struct sink *s, const void *buf, size_t n, uint64_t off, struct err *e);

/* Ends the output: writes what the format wants at the end, then finishes the sink below.  A file
 * appears under its name only now. */
int sink_finish(struct sink *s, struct err *e);

/* Closes s and all it was built on; an output that was not finished leaves nothing behind.  NULL is
 * allowed. */
void sink_close(struct sink *s);

/* A new file at `path`: written under a temporary name in the same folder, synced and renamed over
 * `path` by finish; a file that was there before gives it its mode.  Refuses (EINVAL) a path that
 * exists and is not a regular file, and a link that leads nowhere. */
int sink_open_file(const char *path, struct sink **out, struct err *e);

#endif
