/* SPDX-License-Identifier: Apache-2.0 */
/* caller.h - what a thread carries with it while it does something for a client: the deadline of
 * the client's request, handed down through layers and stages to whatever waits in the end.
 *
 * All of a read runs in the thread in which it came in, so this belongs to the thread; a stage that
 * hands work to another thread hands it on as well. */
#ifndef OVERLAYBD_BASE_CALLER_H
#define OVERLAYBD_BASE_CALLER_H

#include <stdint.h>

enum { CALLER_PIECES = 8 };

/* Bytes [off, end) of the last read, how many drops their blob had seen when they were taken, and
 * the endpoints that they came from, as bits; 0: the cache's. */
struct caller_piece {
	uint64_t off, end;
	unsigned drops;
	uint32_t places;
};

struct caller {
	uint64_t deadline; /* ms of clock_ms, CLOCK_NEVER; 0: the caller has set none */
	/* Of the last read of a blob in this thread: which one, and the pieces that it was put
	 * together from.  Who then says that bytes were wrong, says it of those. */
	const void *read_of;
	struct caller_piece pieces[CALLER_PIECES];
	unsigned piece_count;
};

/* This thread's.  All zero at first. */
struct caller *caller(void);

/* Sets the deadline `seconds` from now (0: never), unless one is set already.  Returns what was
 * set, for caller_end. */
uint64_t caller_begin(unsigned seconds);
void caller_end(uint64_t before);

#endif
