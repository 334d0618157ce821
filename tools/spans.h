/* SPDX-License-Identifier: Apache-2.0 */
/* spans.h - works through a long input on all cores, and hands the pieces out in order. */
#ifndef OVERLAYBD_TOOLS_SPANS_H
#define OVERLAYBD_TOOLS_SPANS_H

#include "core/base/source.h"
#include "core/base/workers.h"

enum { SPANS_PIECE = 1024 * 1024 }; /* bytes of a span, at most */

struct span {
	uint64_t off;
	size_t n;
	uint8_t *buffer; /* ops.room bytes, the span's until `each` returns */
	int r; /* what `work` returned */
	struct err err; /* when r is negative */
};

struct spans_ops {
	size_t room;
	/* Gives the next span, in ascending order: 1; 0 at the end; -errno.  Caller's thread. */
	int (*next)(void *arg, uint64_t *off, size_t *n, struct err *e);
	/* Fills the buffer.  Runs in the pool, for several spans at once. */
	int (*work)(void *arg, struct span *span, struct err *e);
	/* Takes a span, also one whose work failed: 0 to go on, or -errno.  Caller's thread. */
	int (*each)(void *arg, const struct span *span, struct err *e);
};

/* Runs until the end, or until the first negative result of next or each, which is returned.  The
 * pool may run other jobs too. */
int spans_run(const struct spans_ops *ops, void *arg, struct workers *pool, struct err *e);

/* Reads s from front to back: span->r says what reading it gave. */
int spans_read(struct source *s, struct workers *pool,
	       int (*each)(void *arg, const struct span *span, struct err *e), void *arg,
	       struct err *e);

#endif
