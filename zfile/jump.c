/* SPDX-License-Identifier: Apache-2.0 */
/* jump.c - reads the jump table, see jump.h.
 *
 * The stored form, four bytes a block, is read in pieces, so that it never stands whole in memory
 * beside the final one. */
#include "zfile/jump.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	PIECE_BLOCKS = 16384,
	CRC_SIZE = 4,
};

_Static_assert(sizeof(struct jump_group) == 64, "a cache line");

/* The rules for one block that starts at `start`. */
static int check_length(const struct zheader *h, uint64_t block, uint32_t length, uint64_t start,
			size_t bound, struct err *e)
{
	uint32_t crc_size = h->verify ? CRC_SIZE : 0;

	if (length <= crc_size)
		return err_set(e, EBADMSG,
			       "block %" PRIu64 ": stored length %" PRIu32 " leaves no data", block,
			       length);
	if (length - crc_size > bound)
		return err_set(e, EBADMSG,
			       "block %" PRIu64 ": stored length %" PRIu32
			       " is more than %s needs at most for %" PRIu32 " bytes (%zu)",
			       block, length, zformat_algorithm_name(h->algorithm), h->block_size,
			       bound + crc_size);
	if (!range_fits(start, length, h->index_offset))
		return err_set(e, EBADMSG,
			       "block %" PRIu64 ": %" PRIu32 " bytes at %" PRIu64
			       " reach into the jump table at %" PRIu64,
			       block, length, start, h->index_offset);
	return 0;
}

/* Takes in the raw entries of blocks [first, first + count); *at is where the next block starts. */
static int take_piece(struct jump_table *t, const struct zheader *h, const uint8_t *raw,
		      uint64_t first, size_t count, size_t bound, uint64_t *at, struct err *e)
{
	size_t i;

	for (i = 0; i < count; i++) {
		uint64_t block = first + i;
		struct jump_group *g = &t->groups[block / JUMP_GROUP];
		uint32_t length = le32_get(raw + 4 * i);
		int r = check_length(h, block, length, *at, bound, e);

		if (r < 0)
			return r;
		if (block % JUMP_GROUP == 0)
			g->start = *at;
		*at += length;
		g->end[block % JUMP_GROUP] = (uint32_t)(*at - g->start);
	}
	return 0;
}

static int load_entries(struct jump_table *t, struct source *s, const struct zheader *h,
			size_t bound, struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc(4 * PIECE_BLOCKS);
	uint64_t at = ZFORMAT_SPACE, first;
	uint32_t crc = 0;
	int r;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	for (first = 0; first < h->blocks; first += PIECE_BLOCKS) {
		size_t count = (size_t)min_u64(PIECE_BLOCKS, h->blocks - first);

		r = source_pread(s, raw, 4 * count, h->index_offset + 4 * first, e);
		if (r < 0)
			return err_wrap(e, r, "jump table");
		crc = crc32c_raw(crc, raw, 4 * count);
		r = take_piece(t, h, raw, first, count, bound, &at, e);
		if (r < 0)
			return r;
	}
	if (h->flags & ZFLAG_DIGEST_VALID && crc != h->index_crc)
		return err_set(e, EBADMSG,
			       "jump table: wrong CRC, 0x%08" PRIx32 " stored, 0x%08" PRIx32
			       " computed",
			       h->index_crc, crc);
	return 0;
}

int jump_load(struct jump_table *t, struct source *s, const struct zheader *h, size_t bound,
	      struct err *e)
{
	uint64_t groups = h->blocks / JUMP_GROUP + 1;
	int r;

	t->groups = aligned_alloc(sizeof *t->groups, (size_t)groups * sizeof *t->groups);
	if (!t->groups)
		return err_set(e, ENOMEM, "out of memory for a jump table of %" PRIu64 " blocks",
			       h->blocks);
	r = load_entries(t, s, h, bound, e);
	if (r < 0)
		jump_release(t);
	return r;
}

void jump_release(struct jump_table *t)
{
	free(t->groups);
	t->groups = NULL;
}
