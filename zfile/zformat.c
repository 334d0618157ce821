/* SPDX-License-Identifier: Apache-2.0 */
/* zformat.c - header and trailer of a ZFile, see zformat.h.
 *
 * Files of 2021 hold garbage in flag bits above 5, in the digest and in reserved bytes.  So only
 * what a known flag or field declares valid is checked; what would change the meaning is refused.
 */
#include "zfile/zformat.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"

/* Where the fields are. */
enum {
	AT_STRUCT_SIZE = 24,
	AT_DIGEST = 28,
	AT_FLAGS = 32,
	AT_INDEX_OFFSET = 40,
	AT_BLOCKS = 48,
	AT_ORIGINAL_SIZE = 56,
	AT_INDEX_CRC = 64,
	AT_BLOCK_SIZE = 72,
	AT_ALGORITHM = 76,
	AT_LEVEL = 77,
	AT_USE_DICT = 78,
	AT_DICT_SIZE = 84,
	AT_VERIFY = 88,
};

enum { STRUCT_SIZE = 96 };

static const uint8_t magic[24] = {
	'Z',  'F',  'i',  'l',	'e',  0x00, 0x01, 0x00, 0x74, 0x75, 0x6a, 0x69,
	0x2e, 0x79, 0x79, 0x66, 0x40, 0x41, 0x6c, 0x69, 0x62, 0x61, 0x62, 0x61,
};

const char *zformat_algorithm_name(uint8_t algorithm)
{
	switch (algorithm) {
	case ZALGORITHM_LZ4:
		return "lz4";
	case ZALGORITHM_ZSTD:
		return "zstd";
	}
	return NULL;
}

bool zformat_is_zfile(const uint8_t raw[ZFORMAT_SPACE])
{
	return memcmp(raw, magic, sizeof magic) == 0;
}

/* The digest covers all 512 bytes, its own field taken as 0. */
static uint32_t digest_of(const uint8_t raw[ZFORMAT_SPACE])
{
	static const uint8_t zero[4];
	uint32_t crc;

	crc = crc32c_raw(0, raw, AT_DIGEST);
	crc = crc32c_raw(crc, zero, sizeof zero);
	return crc32c_raw(crc, raw + AT_FLAGS, ZFORMAT_SPACE - AT_FLAGS);
}

static void load(struct zheader *h, const uint8_t raw[ZFORMAT_SPACE])
{
	*h = (struct zheader){
		.flags = le64_get(raw + AT_FLAGS),
		.index_offset = le64_get(raw + AT_INDEX_OFFSET),
		.blocks = le64_get(raw + AT_BLOCKS),
		.original_size = le64_get(raw + AT_ORIGINAL_SIZE),
		.digest = le32_get(raw + AT_DIGEST),
		.index_crc = le32_get(raw + AT_INDEX_CRC),
		.block_size = le32_get(raw + AT_BLOCK_SIZE),
		.algorithm = raw[AT_ALGORITHM],
		.level = raw[AT_LEVEL],
		.verify = raw[AT_VERIFY] == 1,
	};
}

/* What must hold for a header and a trailer alike, whether its values are final or not. */
static int check_frame(const struct zheader *h, const uint8_t raw[ZFORMAT_SPACE],
		       uint64_t file_size, const char *part, struct err *e)
{
	uint32_t size = le32_get(raw + AT_STRUCT_SIZE);

	if (file_size < 2 * ZFORMAT_SPACE)
		return err_set(e, EBADMSG,
			       "file of %" PRIu64 " bytes is too short for header and trailer",
			       file_size);
	if (!zformat_is_zfile(raw))
		return err_set(e, EBADMSG, "%s: wrong magic", part);
	if (h->flags & ZFLAG_DIGEST_VALID && digest_of(raw) != h->digest)
		return err_set(e, EBADMSG,
			       "%s: digest is 0x%08" PRIx32 ", its bytes give 0x%08" PRIx32, part,
			       h->digest, digest_of(raw));
	if (size != STRUCT_SIZE)
		return err_set(e, EBADMSG, "%s: struct size is %" PRIu32 ", not %d", part, size,
			       STRUCT_SIZE);
	if (h->flags & ZFLAG_INDEX_COMPRESSED)
		return err_set(e, EBADMSG, "%s: compressed jump tables are not supported", part);
	return 0;
}

/* How blocks are stored. */
static int check_options(const struct zheader *h, const uint8_t raw[ZFORMAT_SPACE],
			 const char *part, struct err *e)
{
	uint32_t dict_size = le32_get(raw + AT_DICT_SIZE);

	if (h->block_size < ZFORMAT_MIN_BLOCK || h->block_size > ZFORMAT_MAX_BLOCK ||
	    (h->block_size & (h->block_size - 1)) != 0)
		return err_set(e, EBADMSG,
			       "%s: block size is %" PRIu32 ", not a power of two from %d to %d",
			       part, h->block_size, ZFORMAT_MIN_BLOCK, ZFORMAT_MAX_BLOCK);
	if (!zformat_algorithm_name(h->algorithm))
		return err_set(e, EBADMSG, "%s: algorithm %u is unknown", part, h->algorithm);
	if (raw[AT_USE_DICT] != 0)
		return err_set(e, EBADMSG, "%s: dictionaries are not supported (use_dict is %u)",
			       part, raw[AT_USE_DICT]);
	if (dict_size != 0)
		return err_set(e, EBADMSG,
			       "%s: dictionaries are not supported (dict_size is %" PRIu32 ")",
			       part, dict_size);
	if (raw[AT_VERIFY] > 1)
		return err_set(e, EBADMSG, "%s: verify is %u, not 0 or 1", part, raw[AT_VERIFY]);
	return 0;
}

/* Counts and places, against each other and against the file. */
static int check_layout(const struct zheader *h, uint64_t file_size, const char *part,
			struct err *e)
{
	uint64_t want = h->original_size / h->block_size + (h->original_size % h->block_size != 0);

	if (h->blocks > ZFORMAT_MAX_BLOCKS)
		return err_set(e, EBADMSG,
			       "%s: %" PRIu64 " blocks are more than the %" PRIu64 " supported",
			       part, h->blocks, ZFORMAT_MAX_BLOCKS);
	if (h->blocks != want)
		return err_set(e, EBADMSG,
			       "%s: %" PRIu64 " blocks, where %" PRIu64
			       " bytes in blocks of %" PRIu32 " make %" PRIu64,
			       part, h->blocks, h->original_size, h->block_size, want);
	if (h->index_offset < ZFORMAT_SPACE)
		return err_set(e, EBADMSG, "%s: jump table at %" PRIu64 " lies in the header", part,
			       h->index_offset);
	if (!range_fits(h->index_offset, h->blocks * 4, file_size - ZFORMAT_SPACE))
		return err_set(e, EBADMSG,
			       "%s: jump table of %" PRIu64 " blocks at %" PRIu64
			       " does not end before the trailer at %" PRIu64,
			       part, h->blocks, h->index_offset, file_size - ZFORMAT_SPACE);
	return 0;
}

static int check_final(const struct zheader *h, const uint8_t raw[ZFORMAT_SPACE],
		       uint64_t file_size, const char *part, struct err *e)
{
	int r = check_options(h, raw, part, e);

	return r < 0 ? r : check_layout(h, file_size, part, e);
}

int zformat_parse_header(struct zheader *h, const uint8_t raw[ZFORMAT_SPACE], uint64_t file_size,
			 struct err *e)
{
	struct zheader t;
	int r;

	load(&t, raw);
	r = check_frame(&t, raw, file_size, "header", e);
	if (r < 0)
		return r;
	if (!(t.flags & ZFLAG_HEADER))
		return err_set(e, EBADMSG, "header: flag bit 0 says that it is a trailer");
	if (!(t.flags & ZFLAG_DATA_FILE))
		return err_set(e, EBADMSG, "header: flag bit 1 says that it is no data file");
	if (t.flags & ZFLAG_HEADER_OVERWRITTEN)
		r = check_final(&t, raw, file_size, "header", e);
	if (r == 0)
		*h = t;
	return r;
}

int zformat_parse_trailer(struct zheader *h, const uint8_t raw[ZFORMAT_SPACE], uint64_t file_size,
			  struct err *e)
{
	struct zheader t;
	int r;

	load(&t, raw);
	r = check_frame(&t, raw, file_size, "trailer", e);
	if (r < 0)
		return r;
	if (t.flags & ZFLAG_HEADER)
		return err_set(e, EBADMSG, "trailer: flag bit 0 says that it is a header");
	if (!(t.flags & ZFLAG_DATA_FILE))
		return err_set(e, EBADMSG, "trailer: flag bit 1 says that it is no data file");
	if (!(t.flags & ZFLAG_SEALED))
		return err_set(e, EBADMSG, "trailer: flag bit 2 says that the file is not sealed");
	r = check_final(&t, raw, file_size, "trailer", e);
	if (r == 0)
		*h = t;
	return r;
}

void zformat_encode(const struct zheader *h, uint8_t raw[ZFORMAT_SPACE])
{
	memset(raw, 0, ZFORMAT_SPACE);
	memcpy(raw, magic, sizeof magic);
	le32_put(raw + AT_STRUCT_SIZE, STRUCT_SIZE);
	le64_put(raw + AT_FLAGS, h->flags);
	le64_put(raw + AT_INDEX_OFFSET, h->index_offset);
	le64_put(raw + AT_BLOCKS, h->blocks);
	le64_put(raw + AT_ORIGINAL_SIZE, h->original_size);
	le32_put(raw + AT_INDEX_CRC, h->index_crc);
	le32_put(raw + AT_BLOCK_SIZE, h->block_size);
	raw[AT_ALGORITHM] = h->algorithm;
	raw[AT_LEVEL] = h->level;
	raw[AT_VERIFY] = h->verify;
	le32_put(raw + AT_DIGEST, digest_of(raw));
}
