/* SPDX-License-Identifier: Apache-2.0 */
/* codec.c - lz4 and zstd as block codecs, see codec.h. */
#include "zfile/codec.h"

#include <errno.h>
#include <lz4.h>
#include <lz4hc.h>
#include <stdbool.h>
#include <stdlib.h>
#include <zstd.h>

#include "core/base/le.h"
#include "zfile/zformat.h"

enum { ZSTD_DEFAULT_LEVEL = 3, ZSTD_TOP_LEVEL = 19 };

static size_t lz4_bound(size_t n)
{
	return (size_t)LZ4_compressBound((int)n);
}

static int lz4_decode(struct codec_decoder *d, void *dst, size_t n, const void *src, size_t stored,
		      struct err *e)
{
	int got = LZ4_decompress_safe(src, dst, (int)stored, (int)n);

	(void)d;
	if (got < 0)
		return err_set(e, EBADMSG, "lz4 data is malformed");
	if ((size_t)got != n)
		return err_set(e, EBADMSG, "lz4 data gives %d bytes, not %zu", got, n);
	return 0;
}

static int lz4_encoder_init(struct codec_encoder *c, int level, struct err *e)
{
	int size = level == 0 ? LZ4_sizeofState() : LZ4_sizeofStateHC();

	if (level < 0 || level > LZ4HC_CLEVEL_MAX)
		return err_set(e, EINVAL, "lz4 level %d is not within 0 to %d", level,
			       LZ4HC_CLEVEL_MAX);
	*c = (struct codec_encoder){ .lz4 = malloc((size_t)size), .level = level };
	return c->lz4 ? 0 : err_set(e, ENOMEM, "out of memory");
}

static size_t lz4_encode(struct codec_encoder *c, void *dst, size_t room, const void *src, size_t n)
{
	if (c->level == 0)
		return (size_t)LZ4_compress_fast_extState(c->lz4, src, dst, (int)n, (int)room, 1);
	return (size_t)LZ4_compress_HC_extStateHC(c->lz4, src, dst, (int)n, (int)room, c->level);
}

static size_t zstd_bound(size_t n)
{
	return ZSTD_compressBound(n);
}

/* Bytes of the frame that src begins with, found by its headers (RFC 8878, 3.1.1); 0 when they do
 * not fit.  ZSTD_findFrameCompressedSize says the same, but takes a tenth of the time of decoding 4
 * KiB. */
static size_t zstd_frame_length(const uint8_t *src, size_t stored)
{
	static const uint8_t dictionary_bytes[] = { 0, 1, 2, 4 }, size_bytes[] = { 0, 2, 4, 8 };
	enum { LAST_BLOCK = 1, TYPE_RLE = 1 };
	uint8_t descriptor = stored > 4 ? src[4] : 0;
	bool single_segment = descriptor >> 5 & 1, checksum = descriptor >> 2 & 1;
	size_t at = 5u + (single_segment ? 0u : 1u) + dictionary_bytes[descriptor & 3] +
		    size_bytes[descriptor >> 6];
	uint32_t block;

	at += single_segment && descriptor >> 6 == 0; /* its content size has a byte even so */
	do {
		if (!range_fits(at, 3, stored))
			return 0;
		block = (uint32_t)src[at] | (uint32_t)src[at + 1] << 8 |
			(uint32_t)src[at + 2] << 16;
		at += 3 + ((block >> 1 & 3) == TYPE_RLE ? 1 : block >> 3);
	} while (!(block & LAST_BLOCK));
	at += checksum ? 4 : 0;
	return at <= stored ? at : 0;
}

/* Whether src is exactly one frame.  The library itself would skip skippable frames and decode
 * several.  That a frame holds more than the block is for decoding to find: dst has no room. */
static int zstd_check_frame(const uint8_t *src, size_t stored, struct err *e)
{
	size_t frame;

	if (stored < 4 || le32_get(src) != ZSTD_MAGICNUMBER)
		return err_set(e, EBADMSG, "not a zstd frame");
	frame = zstd_frame_length(src, stored);
	if (frame == 0)
		return err_set(e, EBADMSG, "zstd frame is malformed");
	if (frame != stored)
		return err_set(e, EBADMSG, "%zu bytes after the zstd frame", stored - frame);
	return 0;
}

/* Decoding in one call uses dst itself as the window, so whatever window a frame asks for costs no
 * memory. */
static int zstd_decode(struct codec_decoder *d, void *dst, size_t n, const void *src, size_t stored,
		       struct err *e)
{
	size_t got;
	int r = zstd_check_frame(src, stored, e);

	if (r < 0)
		return r;
	if (!d->zstd)
		d->zstd = ZSTD_createDCtx();
	if (!d->zstd)
		return err_set(e, ENOMEM, "out of memory");
	got = ZSTD_decompressDCtx(d->zstd, dst, n, src, stored);
	if (ZSTD_isError(got))
		return err_set(e, EBADMSG, "zstd data does not give %zu bytes: %s", n,
			       ZSTD_getErrorName(got));
	if (got != n)
		return err_set(e, EBADMSG, "zstd data gives %zu bytes, not %zu", got, n);
	return 0;
}

static int zstd_encoder_init(struct codec_encoder *c, int level, struct err *e)
{
	if (level < 0 || level > ZSTD_TOP_LEVEL)
		return err_set(e, EINVAL, "zstd level %d is not within 0 to %d", level,
			       ZSTD_TOP_LEVEL);
	*c = (struct codec_encoder){ .zstd = ZSTD_createCCtx(),
				     .level = level == 0 ? ZSTD_DEFAULT_LEVEL : level };
	return c->zstd ? 0 : err_set(e, ENOMEM, "out of memory");
}

static size_t zstd_encode(struct codec_encoder *c, void *dst, size_t room, const void *src,
			  size_t n)
{
	size_t got = ZSTD_compressCCtx(c->zstd, dst, room, src, n, c->level);

	return ZSTD_isError(got) ? 0 : got;
}

static const struct codec lz4 = {
	.bound = lz4_bound,
	.decode = lz4_decode,
	.encoder_init = lz4_encoder_init,
	.encode = lz4_encode,
};

static const struct codec zstd = {
	.bound = zstd_bound,
	.decode = zstd_decode,
	.encoder_init = zstd_encoder_init,
	.encode = zstd_encode,
};

const struct codec *codec_find(uint8_t algorithm)
{
	switch (algorithm) {
	case ZALGORITHM_LZ4:
		return &lz4;
	case ZALGORITHM_ZSTD:
		return &zstd;
	}
	return NULL;
}

void codec_decoder_release(struct codec_decoder *d)
{
	ZSTD_freeDCtx(d->zstd);
	d->zstd = NULL;
}

void codec_encoder_release(struct codec_encoder *c)
{
	free(c->lz4);
	ZSTD_freeCCtx(c->zstd);
	*c = (struct codec_encoder){ 0 };
}
