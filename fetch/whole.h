/* SPDX-License-Identifier: Apache-2.0 */
/* whole.h - a whole blob that comes for a range, from a server that does not do ranges.  Between
 * flight.c and this file only.
 *
 * Passing by: its length is the blob's, so it is taken for the blob; what is missing in the cache
 * is kept there, one chunk after it came, and dropped again should the exchange fail. Held: its
 * length is not known.  Nothing is handed on before the end, when length and digest are right.  One
 * at a time for a blob, of HELD_MAX bytes at most.
 *
 * All of it belongs to one exchange, and ends with it.  Threads: the engine's. */
#ifndef OVERLAYBD_FETCH_WHOLE_H
#define OVERLAYBD_FETCH_WHOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/digest.h"
#include "core/base/err.h"

struct blob;
struct flight;
struct request;

enum { HELD_MAX = 64 * 1024 * 1024 }; /* bytes */

/* Chunks that it has given to the cache. */
struct whole_run {
	uint64_t first, count;
};

/* Zero: none is coming. */
struct whole {
	struct request *of; /* whose exchange it is */
	uint64_t at; /* bytes that have come */
	uint8_t *bytes; /* the last two chunks, by turns; or, held, all so far */
	struct whole_run *runs;
	size_t run_count;
	bool held;
	bool refused; /* the cache takes no more; what it has taken may still have to go */
	struct digest sum; /* of a held one */
};

/* Whether an answer of unknown length may be held back now. */
bool whole_may_hold(const struct blob *b);

/* Bytes of it; it begins with off 0.  False: they are not taken. */
bool whole_take(struct flight *f, uint64_t off, const uint8_t *buf, size_t n);

/* Its exchange is over, well (0) or not.  -EPROTO: a held one is not the blob. */
int whole_judge(struct flight *f, int r, struct err *e);

/* All bytes of a held one that was judged well. */
const uint8_t *whole_held(const struct blob *b);

/* Forgets it. */
void whole_end(struct flight *f);

/* Whether one passes by and will soon be at this byte: a request for it can wait. */
bool whole_passes_soon(const struct blob *b, uint64_t off);

#endif
