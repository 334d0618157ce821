/* SPDX-License-Identifier: Apache-2.0 */
/* readahead.h - finds the sequential readers among the reads of a blob, and says how far to fetch
 * ahead of each.
 *
 * Two reads of which one follows the other, or three that are close, make a reader.  It gets a
 * window as long as its read, which grows twofold each time half of what was fetched ahead is used
 * up, and fourfold when a third or later read has to wait all the same, up to twice what it has
 * read and READAHEAD_MAX.  What makes a reader may be chance: one that has not read at least a
 * quarter of its last window is none.
 * Several readers are told apart, and each may come a little out of order, as parallel copies do.
 *
 * Units: chunks.  Threads: the caller's lock, but readahead_note, which is lock-free. */
#ifndef OVERLAYBD_FETCH_READAHEAD_H
#define OVERLAYBD_FETCH_READAHEAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	READAHEAD_STREAMS = 16,
	READAHEAD_MAX = 256, /* 4 MiB */
};

struct readahead_stream {
	uint64_t next; /* where its reader is */
	uint64_t ahead; /* fetched up to here, or being fetched */
	uint64_t window; /* at most `ahead`; 0: the place is free */
	uint64_t used; /* when last, for replacement */
	uint64_t seen; /* chunks of the reads that it was told of */
	unsigned misses; /* reads of it that had to wait */
	unsigned strikes; /* times that it should have had more, and had not read what it has */
	bool established; /* it is read ahead for */
};

/* What was fetched ahead for an established reader, for those who read without the lock. */
struct readahead_zone {
	_Atomic uint64_t from, to; /* to 0: none */
	_Atomic uint64_t due; /* a read beyond it asks for more */
	_Atomic uint64_t used; /* chunks that were read of it, as often as they were */
};

struct readahead {
	struct readahead_stream streams[READAHEAD_STREAMS];
	_Atomic uint32_t zoned; /* a bit a stream: it has a zone */
	struct readahead_zone zones[READAHEAD_STREAMS];
	uint64_t clock;
};

/* A read of [first, end) has to wait for the network.  Returns up to where to fetch: at least up to
 * `least`, which is at least end. */
uint64_t readahead_miss(struct readahead *ra, uint64_t first, uint64_t end, uint64_t least);

/* Takes note of a read of [first, end), whether it has to wait or not.  Returns whether
 * readahead_hit may have something to say about it. */
bool readahead_note_zones(struct readahead *ra, uint32_t zoned, uint64_t first, uint64_t end);

static inline bool readahead_note(struct readahead *ra, uint64_t first, uint64_t end)
{
	uint32_t zoned = atomic_load_explicit(&ra->zoned, memory_order_relaxed);

	return zoned != 0 && readahead_note_zones(ra, zoned, first, end);
}

/* A read of [first, end) found all it wanted.  Returns the end of what to fetch from *from on, or
 * 0: nothing. */
uint64_t readahead_hit(struct readahead *ra, uint64_t first, uint64_t end, uint64_t *from);

#endif
