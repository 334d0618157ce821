/* SPDX-License-Identifier: Apache-2.0 */
/* zwriter.h - a sink that compresses what is written into a ZFile.
 *
 * Blocks are compressed by the given pool, in parallel, and leave in order: the same input gives
 * the same bytes whatever the number of threads.  The header is overwritten with the final values
 * at the end (flags 0x1b), and a trailer (0x16) is written too, as the reference's commit does.
 *
 * Threads: see sink.h. */
#ifndef OVERLAYBD_ZFILE_ZWRITER_H
#define OVERLAYBD_ZFILE_ZWRITER_H

#include "core/base/sink.h"
#include "core/base/workers.h"
#include "zfile/zformat.h"

struct zwriter_options {
	uint8_t algorithm; /* enum zalgorithm */
	uint32_t block_size; /* power of two, ZFORMAT_MIN_BLOCK to ZFORMAT_MAX_BLOCK */
	int level; /* 0: the codec's default (lz4: acceleration 1; zstd: 3) */
};

/* lz4: level 0 to 12 (0 fast, else high compression); zstd: 0 to 19.  Anything else is EINVAL.
 * `below` must be new and able to patch; `pool` must outlive the sink. */
int zwriter_open_sink(struct sink *below, const struct zwriter_options *options,
		      struct workers *pool, struct sink **out, struct err *e);

/* Says which file it is: when that is finished and holds blocks that the reference cannot read, a
 * warning names it.  `name` must outlive the sink. */
void zwriter_set_name(struct sink *zwriter, const char *name);

#endif
