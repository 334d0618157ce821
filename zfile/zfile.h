/* SPDX-License-Identifier: Apache-2.0 */
/* zfile.h - a ZFile read as a source of its original bytes.
 *
 * A read finds its blocks in the jump table, fetches neighbouring blocks with one pread below,
 * checks each block's CRC and decompresses straight into the caller's buffer where the block is
 * wholly wanted.  Scratch memory belongs to the thread and is reused; there is no malloc on this
 * path once a thread is warm.  A block that fails its CRC or does not decompress is dropped below
 * and read once more, then the read is EBADMSG, naming the block.
 *
 * Threads: as source.h says.  Memory: about 4.6 bytes a block. */
#ifndef OVERLAYBD_ZFILE_ZFILE_H
#define OVERLAYBD_ZFILE_ZFILE_H

#include "core/base/source.h"
#include "zfile/zformat.h"

/* Opens the ZFile that `below` holds from its first to its last byte.  Returns 0, 1 when it does
 * not begin with a ZFile's magic (*out untouched, `below` stays with the caller), or -errno. */
int zfile_open(struct source *below, struct source **out, struct err *e);

/* The values that were in force at open.  s must come from zfile_open. */
const struct zheader *zfile_header(const struct source *s);

/* How many blocks the reference cannot read, see ZFORMAT_REFERENCE_STORED. */
uint64_t zfile_count_large(const struct source *s);

/* Whether the trailer is right and agrees with the header.  Reading does not need it when the
 * header holds the final values (ZFLAG_HEADER_OVERWRITTEN), so open leaves it alone then;
 * `overlaybd check` asks.  EBADMSG names the rule. */
int zfile_check_trailer(struct source *s, struct err *e);

#endif
