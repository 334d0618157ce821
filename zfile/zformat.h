/* SPDX-License-Identifier: Apache-2.0 */
/* zformat.h - bytes of a ZFile: header, trailer, jump table.
 *
 *   header 512 | block 0 [crc] | block 1 [crc] | ... | jump table | trailer 512
 *
 * Format: containerd/overlaybd, 2026-08.  Units: bytes.  Threads: no state. */
#ifndef OVERLAYBD_ZFILE_ZFORMAT_H
#define OVERLAYBD_ZFILE_ZFORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

enum {
	ZFORMAT_SPACE = 512, /* header and trailer, each */
	ZFORMAT_MIN_BLOCK = 4096,
	ZFORMAT_MAX_BLOCK = 65536,
	ZFORMAT_CRC_SALT = 100007, /* start value of a block's CRC */

	/* Bytes of a stored block, its CRC included, that the reference can read: a block of 64 KiB
	 * that does not shrink takes more. */
	ZFORMAT_REFERENCE_STORED = 65536,
};

#define ZFORMAT_MAX_BLOCKS (UINT64_C(1) << 28)

/* Bits of the flags field. */
enum zflag {
	ZFLAG_HEADER = 1 << 0,
	ZFLAG_DATA_FILE = 1 << 1,
	ZFLAG_SEALED = 1 << 2,
	ZFLAG_HEADER_OVERWRITTEN = 1 << 3, /* the header holds the trailer's values */
	ZFLAG_DIGEST_VALID = 1 << 4,
	ZFLAG_INDEX_COMPRESSED = 1 << 5, /* never written by anyone; refused */
};

enum zalgorithm {
	ZALGORITHM_LZ4 = 1, /* block format */
	ZALGORITHM_ZSTD = 2, /* one frame a block */
};

struct zheader {
	uint64_t flags;
	uint64_t index_offset;
	uint64_t blocks; /* entries of the jump table */
	uint64_t original_size;
	uint32_t digest; /* as stored */
	uint32_t index_crc;
	uint32_t block_size;
	uint8_t algorithm; /* enum zalgorithm */
	uint8_t level;
	bool verify; /* each block is followed by its CRC */
};

/* Whether these bytes carry the magic of a ZFile. */
bool zformat_is_zfile(const uint8_t raw[ZFORMAT_SPACE]);

/* Reads the header.  When ZFLAG_HEADER_OVERWRITTEN is set its values are final and are checked
 * against file_size (the whole payload); otherwise they are not, and the trailer holds them.
 * Errors: EBADMSG, naming the rule; *h is untouched then. */
int zformat_parse_header(struct zheader *h, const uint8_t raw[ZFORMAT_SPACE], uint64_t file_size,
			 struct err *e);

/* The same for the trailer, whose values are always final. */
int zformat_parse_trailer(struct zheader *h, const uint8_t raw[ZFORMAT_SPACE], uint64_t file_size,
			  struct err *e);

/* Writes header or trailer (h->flags says which) with its digest. */
void zformat_encode(const struct zheader *h, uint8_t raw[ZFORMAT_SPACE]);

/* Name of an algorithm, "lz4" or "zstd"; NULL when unknown. */
const char *zformat_algorithm_name(uint8_t algorithm);

#endif
