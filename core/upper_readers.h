/* SPDX-License-Identifier: Apache-2.0 */
/* upper_readers.h - who still looks at something that is being replaced: readers announce
 * themselves, by the epoch in which they began, and wait for nobody.
 *
 * What nobody can find any more from epoch n on is looked at by nobody from epoch n + 2 on.
 *
 * Threads: enter and leave any; advance one at a time. */
#ifndef OVERLAYBD_CORE_UPPER_READERS_H
#define OVERLAYBD_CORE_UPPER_READERS_H

#include <stdatomic.h>
#include <stdint.h>

/* Begins zeroed. */
struct upper_readers {
	_Atomic uint64_t epoch;
	_Alignas(64) _Atomic uint64_t active[2]; /* of even epochs, of odd ones */
};

/* A reader announces itself before it looks, and leaves when it is done.  The seat that enter gives
 * is for leave. */
unsigned upper_readers_enter(struct upper_readers *r);
void upper_readers_leave(struct upper_readers *r, unsigned seat);

/* Goes on by as many epochs, at most two, as the readers let it, and returns the one it is now. */
uint64_t upper_readers_advance(struct upper_readers *r);

#endif
