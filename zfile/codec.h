/* SPDX-License-Identifier: Apache-2.0 */
/* codec.h - compression of single blocks: lz4 (block format) and zstd (one frame a block).
 *
 * Units: bytes.  Threads: a coder belongs to one caller at a time.  Sizes are at most
 * ZFORMAT_MAX_BLOCK before compression, and at most the codec's bound after. */
#ifndef OVERLAYBD_ZFILE_CODEC_H
#define OVERLAYBD_ZFILE_CODEC_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* Memory that decoding reuses; all zero at first. */
struct codec_decoder {
	void *zstd; /* ZSTD_DCtx, made when first needed */
};

/* The same for encoding; which field is used depends on codec and level. */
struct codec_encoder {
	void *lz4; /* state of LZ4_compress_fast_extState or LZ4_compress_HC_extStateHC */
	void *zstd; /* ZSTD_CCtx */
	int level;
};

struct codec {
	/* Largest stored length of a block of n bytes. */
	size_t (*bound)(size_t n);

	/* Decompresses src into exactly n bytes.  EBADMSG: src is not one block of n bytes; ENOMEM.
	 */
	int (*decode)(struct codec_decoder *d, void *dst, size_t n, const void *src, size_t stored,
		      struct err *e);

	/* Prepares an encoder.  Level 0 is the codec's default; EINVAL for one out of range;
	 * ENOMEM. */
	int (*encoder_init)(struct codec_encoder *c, int level, struct err *e);

	/* Compresses n bytes into dst, which has room for bound(n).  Returns the stored length, or
	 * 0 when the library fails. */
	size_t (*encode)(struct codec_encoder *c, void *dst, size_t room, const void *src,
			 size_t n);
};

/* The codec of an enum zalgorithm; NULL when unknown. */
const struct codec *codec_find(uint8_t algorithm);

void codec_decoder_release(struct codec_decoder *d);
void codec_encoder_release(struct codec_encoder *c);

#endif
