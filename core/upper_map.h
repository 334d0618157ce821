/* SPDX-License-Identifier: Apache-2.0 */
/* upper_map.h - what a writable layer maps, in memory, while it changes.
 *
 * The disk is cut into regions of 2^13 sectors (4 MiB).  Each has a small sorted array of mappings,
 * which do not overlap and do not leave it, so that a change moves a few kilobytes at most; where
 * no region of a block of regions was ever written, nothing is allocated.
 *
 * Threads: one at a time changes it (the caller sees to that); any number read meanwhile.  A
 * region's lock is held while memory is read or changed, and never longer: no reader waits for I/O.
 * Units: sectors.  Knows nothing of files. */
#ifndef OVERLAYBD_CORE_UPPER_MAP_H
#define OVERLAYBD_CORE_UPPER_MAP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/index.h"

enum {
	UPPER_REGION = 1 << 13, /* sectors; less than FORMAT_MAX_SECTORS */
	UPPER_MAP_LOCKS = 64, /* regions share them */
};

/* Pieces of the data file that nothing maps any more. */
struct upper_range {
	uint64_t moffset, sectors;
};

struct upper_ranges {
	struct upper_range *list;
	size_t count, room;
	uint64_t sectors; /* that were added, also those that were forgotten */
};

/* Adds a piece; joins it to the newest where it goes on there.  Without memory, or when there are a
 * million of them, it is forgotten: upper_garbage.c finds it again. */
void upper_ranges_add(struct upper_ranges *r, uint64_t moffset, uint64_t sectors);
void upper_ranges_release(struct upper_ranges *r);

struct upper_region {
	struct mapping *maps; /* layer 0; sorted */
	uint32_t count, room;
};

struct upper_map_lock {
	_Alignas(64) pthread_mutex_t mutex; /* on a cache line of its own */
};

struct upper_map {
	uint64_t sectors; /* of the disk */
	size_t block_regions; /* regions in a block */
	size_t block_count;
	/* A block is NULL until something in it is mapped, and stays until release. */
	_Atomic(struct upper_region *) *blocks;
	_Atomic uint64_t count; /* mappings */
	_Atomic uint64_t data; /* sectors that are mapped to data */
	struct upper_map_lock locks[UPPER_MAP_LOCKS]; /* of region n: n modulo their number */
};

/* For a disk of `sectors`, 1 to 2^50.  -ENOMEM. */
int upper_map_init(struct upper_map *m, uint64_t sectors);
void upper_map_release(struct upper_map *m);

/* Makes sure that one upper_map_set within the range needs no memory.  -ENOMEM. */
int upper_map_reserve(struct upper_map *m, uint64_t start, uint64_t sectors);

/* Maps [start, start + sectors), which was reserved and lies within the disk, to the data from
 * `moffset` on, or to zeroes.  The data that it replaces is added to `dead` (may be NULL). */
void upper_map_set(struct upper_map *m, uint64_t start, uint64_t sectors, uint64_t moffset,
		   bool zeroed, struct upper_ranges *dead);

/* The first pieces of [lba, lba + sectors), without gaps, neighbours of one kind joined.  Fills
 * out[0..room) and returns how many there are: all of the range, or its beginning when `room` is
 * too small for it. */
size_t upper_map_pieces(struct upper_map *m, uint64_t lba, uint64_t sectors, struct segment *out,
			size_t room);

#endif
