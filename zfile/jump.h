/* SPDX-License-Identifier: Apache-2.0 */
/* jump.h - the jump table of a ZFile in memory: where each block is stored.
 *
 * Groups of 14 blocks, a 64-bit start for each group and a 32-bit end for each block: 4.6 bytes a
 * block, and a lookup touches one group, which is one cache line.  Immutable once loaded: no lock.
 */
#ifndef OVERLAYBD_ZFILE_JUMP_H
#define OVERLAYBD_ZFILE_JUMP_H

#include "core/base/source.h"
#include "zfile/zformat.h"

enum { JUMP_GROUP = 14 };

struct jump_group {
	uint64_t start; /* of its first block, in the ZFile */
	uint32_t end[JUMP_GROUP]; /* of each block, counted from start */
};

struct jump_table {
	struct jump_group *groups; /* on a cache line */
};

/* Reads and checks the table that h, a checked header, describes.  `bound` is the largest length of
 * compressed data a block can have.  EBADMSG names the block and the rule. */
int jump_load(struct jump_table *t, struct source *s, const struct zheader *h, size_t bound,
	      struct err *e);

void jump_release(struct jump_table *t);

/* First byte of block i, and the byte after its last one, its CRC included. */
static inline uint64_t jump_start(const struct jump_table *t, uint64_t i)
{
	const struct jump_group *g = &t->groups[i / JUMP_GROUP];
	unsigned k = (unsigned)(i % JUMP_GROUP);

	return k == 0 ? g->start : g->start + g->end[k - 1];
}

static inline uint64_t jump_end(const struct jump_table *t, uint64_t i)
{
	const struct jump_group *g = &t->groups[i / JUMP_GROUP];

	return g->start + g->end[i % JUMP_GROUP];
}

#endif
