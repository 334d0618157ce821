/* SPDX-License-Identifier: Apache-2.0 */
/* readaround.h - finds out whether the reads of a blob keep together, as those of a start do that
 * reads one file after the other; then what follows a miss is worth fetching with it.
 *
 * The blob is cut into areas.  A read of chunks that were not used before counts one when one of
 * its areas was read in before, less how likely that is by chance: the part of all areas that was.
 * The mean of the last of these is near zero for reads at random, and well over a quarter for a
 * start.
 *
 * Units: chunks.  Threads: the caller's lock, but readaround_note, which is lock-free.  Without
 * memory it says no. */
#ifndef OVERLAYBD_FETCH_READAROUND_H
#define OVERLAYBD_FETCH_READAROUND_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	READAROUND_AREA = 16,
	READAROUND_EVENTS = 32, /* that count */
};

struct readaround_word {
	_Atomic uint64_t bits;
};

struct readaround {
	uint64_t chunks; /* of the blob */
	uint64_t *areas; /* a bit each: it was read in.  NULL: there was no miss */
	uint64_t touched; /* of them */
	/* A bit a chunk: it was fetched with a miss, and not read since.  NULL: none ever was. */
	_Atomic(struct readaround_word *) unused;
	int events[READAROUND_EVENTS]; /* in 1/256 */
	unsigned count; /* events so far */
};

void readaround_init(struct readaround *ra, uint64_t chunks);
void readaround_release(struct readaround *ra);

/* A read of [first, end) has to wait for the network.  Whether what follows should come with it. */
bool readaround_miss(struct readaround *ra, uint64_t first, uint64_t end);

/* [first, end) is being fetched because readaround_miss said so. */
void readaround_mark(struct readaround *ra, uint64_t first, uint64_t end);

bool readaround_note_marked(struct readaround *ra, uint64_t first, uint64_t end);

/* Takes note of any read of [first, end).  Returns whether it is the first of something marked:
 * then readaround_use is to be told. */
static inline bool readaround_note(struct readaround *ra, uint64_t first, uint64_t end)
{
	return atomic_load_explicit(&ra->unused, memory_order_acquire) &&
	       readaround_note_marked(ra, first, end);
}

void readaround_use(struct readaround *ra, uint64_t first, uint64_t end);

#endif
