/* SPDX-License-Identifier: Apache-2.0 */
/* readahead.h - finds the sequential readers among the reads of a blob, and says how far to fetch
 * ahead of each.
 *
 * Two reads of which one follows the other, or three that are close, make a reader.  It gets a
 * window as long as its read, which grows twofold each time half of what was fetched ahead is used
 * up, and fourfold when a third or later read has to wait all the same, up to twice what it has
 * read and READAHEAD_MAX.
 * Several readers are told apart, and each may come a little out of order, as parallel copies do.
 *
 * Units: chunks.  Threads: the caller's lock, but readahead_is_due, which is lock-free. */
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
	uint64_t window; /* 0: the place is free */
	uint64_t used; /* when last, for replacement */
	uint64_t seen; /* chunks of the reads that it was told of */
	unsigned misses; /* reads of it that had to wait */
	bool established; /* it is read ahead for */
};

struct readahead {
	struct readahead_stream streams[READAHEAD_STREAMS];
	_Atomic uint64_t due[READAHEAD_STREAMS]; /* a read beyond it asks for more; 0: none */
	uint64_t clock;
};

/* A read of [first, end) has to wait for the network.  Returns up to where to fetch, at least end.
 */
uint64_t readahead_miss(struct readahead *ra, uint64_t first, uint64_t end);

/* Whether readahead_hit may have something to say about a read of [first, end). */
static inline bool readahead_is_due(const struct readahead *ra, uint64_t first, uint64_t end)
{
	size_t i;

	for (i = 0; i < READAHEAD_STREAMS; i++) {
		uint64_t due = atomic_load_explicit(&ra->due[i], memory_order_relaxed);

		if (due != 0 && end > due && first <= due + READAHEAD_MAX)
			return true;
	}
	return false;
}

/* A read of [first, end) found all it wanted.  Returns the end of what to fetch from *from on, or
 * 0: nothing. */
uint64_t readahead_hit(struct readahead *ra, uint64_t first, uint64_t end, uint64_t *from);

#endif
