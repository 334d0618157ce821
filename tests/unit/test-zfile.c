/* SPDX-License-Identifier: Apache-2.0 */
/* test-zfile.c - reading ZFiles: golden content, every kind of read, each rule of the jump table
 * and of blocks, wrong bytes that heal and that do not, reads that fail. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <zstd.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "tests/unit/loops.h"
#include "tests/unit/zfilelib.h"
#include "tests/zseal.h"
#include "zfile/codec.h"
#include "zfile/zfile.h"
#include "zfile/zwriter.h"

/* All of a ZFile, by nothing but its jump table and the codec. */
static uint8_t *plain_extract(const uint8_t *bytes, const struct zheader *h)
{
	uint8_t *raw = malloc(h->original_size + 1);
	struct codec_decoder d = { NULL };
	uint64_t at = 512, i;
	struct err e = { "" };

	for (i = 0; i < h->blocks; i++) {
		uint32_t stored = le32_get(bytes + h->index_offset + 4 * i) - 4;
		uint64_t to = i * h->block_size;
		size_t n = (size_t)min_u64(h->block_size, h->original_size - to);

		assert_int_equal(crc32c_raw(100007, bytes + at, stored),
				 le32_get(bytes + at + stored));
		if (codec_find(h->algorithm)->decode(&d, raw + to, n, bytes + at, stored, &e) != 0)
			fail_msg("block %" PRIu64 ": %s", i, e.msg);
		at += stored + 4;
	}
	codec_decoder_release(&d);
	return raw;
}

static void random_reads(struct source *z, const uint8_t *raw, unsigned count)
{
	static const size_t most[] = { 600, 5000, 70000, 3000000 };

	while (count-- > 0) {
		uint64_t off = loops_random() % z->size;
		uint64_t n = loops_random() % most[loops_random() % 4];

		expect_read(z, raw, (size_t)min_u64(n, z->size - off), off);
	}
}

static void golden(void **state)
{
	static const char *const names[] = {
		"lz4-4k",  "lz4-8k",  "lz4-16k",  "lz4-32k",  "lz4-64k",  "lz4-64k-grown",
		"zstd-4k", "zstd-8k", "zstd-16k", "zstd-32k", "zstd-64k", "zstd-64k-grown",
	};
	size_t i;

	(void)state;
	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		uint8_t *bytes, *raw;
		struct source *z;
		char name[64];
		struct err e;
		size_t n;

		snprintf(name, sizeof name, "%s/layer0.obd", names[i]);
		bytes = testlib_golden(name, &n);
		z = must_open(bytes, n, NULL);
		assert_int_equal(zfile_check_trailer(z, &e), 0);
		raw = plain_extract(bytes, zfile_header(z));
		assert_memory_equal(raw, "LSMT\0\1\2", 8);
		expect_read(z, raw, (size_t)z->size, 0);
		random_reads(z, raw, loops_count(2000));
		source_close(z);
		free(raw);
		free(bytes);
	}
}

/* More compressed bytes than one piece, blocks of both kinds, a short last block. */
static void pieces(void **state)
{
	static const struct {
		uint8_t algorithm;
		uint32_t block_size;
	} kinds[] = { { ZALGORITHM_LZ4, 4096 },
		      { ZALGORITHM_LZ4, 65536 },
		      { ZALGORITHM_ZSTD, 8192 },
		      { ZALGORITHM_ZSTD, 65536 } };
	size_t i;

	(void)state;
	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		struct fault f = { .fail_at = FAULT_NEVER };
		struct source *z;
		struct sample m;
		uint64_t calls;

		sample_make(&m, kinds[i].algorithm, kinds[i].block_size, 5000001, i % 2 ? 30 : 0);
		z = must_open(m.bytes, m.n, &f);
		calls = f.calls;
		expect_read(z, m.raw, m.raw_n, 0);
		/* neighbours share a pread: one for each MiB, or part of it */
		assert_in_range(f.calls - calls, 4, 6);
		random_reads(z, m.raw, loops_count(2000));
		source_close(z);
		sample_release(&m);
	}
}

/* The scratch remembers the block used in part last: each is read and decompressed once. */
static void small_reads(void **state)
{
	struct fault f = { .fail_at = FAULT_NEVER };
	struct source *z, *other;
	struct sample m;
	uint64_t calls, off;

	(void)state;
	sample_make(&m, ZALGORITHM_ZSTD, 65536, 4 * 65536 + 5000, 100);
	z = must_open(m.bytes, m.n, &f);
	calls = f.calls;
	for (off = 0; off < m.raw_n; off += 4096)
		expect_read(z, m.raw, (size_t)min_u64(4096, m.raw_n - off), off);
	assert_int_equal(f.calls - calls, 5);
	expect_read(z, m.raw, 3000, 4 * 65536 - 1000); /* the tail was kept, now the head is */
	assert_int_equal(f.calls - calls, 6);
	expect_read(z, m.raw, 3000, 4 * 65536 - 1000); /* and the other way round */
	assert_int_equal(f.calls - calls, 7);
	expect_read(z, m.raw, 10, 4 * 65536);
	assert_int_equal(f.calls - calls, 7);
	expect_read(z, m.raw, 65536 + 10, 3 * 65536); /* a whole block is not kept */
	expect_read(z, m.raw, 10, 4 * 65536);
	assert_int_equal(f.calls - calls, 8);
	expect_read(z, m.raw, 200, 65536);
	calls = f.calls;
	expect_read(z, m.raw, 65536 + 50, 65536 + 200);
	assert_int_equal(f.calls - calls, 1);

	/* another file has another serial, also one at the same address */
	other = must_open(m.bytes, m.n, NULL);
	expect_read(other, m.raw, 100, 65536);
	source_close(other);
	expect_read(z, m.raw, 100, 65536);
	source_close(z);
	sample_release(&m);
}

/* Reads that alternate between layers decompress each block once too. */
static void small_reads_of_several_files(void **state)
{
	struct fault f = { .fail_at = FAULT_NEVER };
	struct source *z[3];
	struct sample m;
	uint64_t calls, off;
	size_t i;

	(void)state;
	sample_make(&m, ZALGORITHM_LZ4, 65536, 3 * 65536, 100);
	for (i = 0; i < 3; i++)
		z[i] = must_open(m.bytes, m.n, &f);
	calls = f.calls;
	for (off = 0; off < m.raw_n; off += 512)
		expect_read(z[off / 512 % 3], m.raw, 512, off);
	assert_int_equal(f.calls - calls, 9);
	for (i = 0; i < 3; i++)
		source_close(z[i]);
	sample_release(&m);
}

static void hints(void **state)
{
	struct fault f = { .fail_at = FAULT_NEVER };
	const uint8_t *table;
	struct source *z;
	struct sample m;
	uint64_t calls;

	(void)state;
	sample_make(&m, ZALGORITHM_LZ4, 4096, 10 * 4096, 100);
	z = must_open(m.bytes, m.n, &f);
	table = m.bytes + zfile_header(z)->index_offset;
	source_prefetch(z, 4095, 2); /* blocks 0 and 1 */
	assert_int_equal(f.prefetches, 1);
	assert_int_equal(f.last_off, 512);
	assert_int_equal(f.last_n, le32_get(table) + le32_get(table + 4));
	expect_read(z, m.raw, 100, 4096);
	calls = f.calls;
	expect_read(z, m.raw, 100, 4200);
	assert_int_equal(f.calls, calls); /* kept */
	source_drop(z, 4096, UINT64_MAX); /* blocks 1 to 9 */
	assert_int_equal(f.drops, 1);
	assert_int_equal(f.last_off, 512 + le32_get(table));
	assert_int_equal(f.last_off + f.last_n, zfile_header(z)->index_offset);
	expect_read(z, m.raw, 100, 4200);
	assert_int_equal(f.calls, calls + 1); /* no longer */
	source_close(z);
	assert_int_equal(f.closes, 1);
	sample_release(&m);
}

/* Headers as the reference's other tools and its old versions wrote them. */
static void header_variants(void **state)
{
	struct source *z;
	struct sample m;
	struct err e;

	(void)state;
	sample_make(&m, ZALGORITHM_LZ4, 4096, 50000, 100);
	le64_put(m.bytes + 32, 0x13);
	memset(m.bytes + 40, 0, 28);
	zseal(m.bytes, m.n, ZSEAL_DIGESTS);
	z = must_open(m.bytes, m.n, NULL);
	assert_int_equal(zfile_header(z)->flags, 0x16);
	expect_read(z, m.raw, m.raw_n, 0);
	source_close(z);

	le64_put(m.bytes + 32, UINT64_C(0x5555555555555540) | 0x03);
	le64_put(m.bytes + m.n - 480, UINT64_C(0x5555555555555540) | 0x06);
	memset(m.bytes + m.n - 448, 0x77, 4); /* index_crc: not valid without bit 4 */
	z = must_open(m.bytes, m.n, NULL);
	expect_read(z, m.raw, m.raw_n, 0);
	assert_int_equal(zfile_check_trailer(z, &e), 0);
	source_close(z);
	sample_release(&m);
}

/* Blocks without CRCs. */
static void without_crc(void **state)
{
	uint8_t bytes[8192] = { 0 };
	struct codec_encoder encoder;
	struct zheader h = { .flags = 0x1b,
			     .blocks = 2,
			     .original_size = 8192,
			     .block_size = 4096,
			     .algorithm = ZALGORITHM_LZ4 };
	const struct codec *codec = codec_find(ZALGORITHM_LZ4);
	size_t at = 512, i, stored[2];
	uint8_t raw[8192];
	uint64_t seed = 5;
	struct source *z;
	struct err e;

	(void)state;
	testlib_fill(raw, sizeof raw, 230, &seed);
	assert_int_equal(codec->encoder_init(&encoder, 0, &e), 0);
	for (i = 0; i < 2; i++) {
		stored[i] = codec->encode(&encoder, bytes + at, 4118, raw + 4096 * i, 4096);
		at += stored[i];
	}
	codec_encoder_release(&encoder);
	h.index_offset = at;
	le32_put(bytes + at, (uint32_t)stored[0]);
	le32_put(bytes + at + 4, (uint32_t)stored[1]);
	h.index_crc = crc32c_raw(0, bytes + at, 8);
	zformat_encode(&h, bytes);
	z = must_open(bytes, at + 8 + 512, NULL);
	assert_false(zfile_header(z)->verify);
	expect_read(z, raw, sizeof raw, 0);
	expect_read(z, raw, 5000, 1);
	source_close(z);
}

static void empty(void **state)
{
	struct source *z;
	struct sample m;
	struct err e;

	(void)state;
	sample_make(&m, ZALGORITHM_ZSTD, 4096, 0, 0);
	assert_int_equal(m.n, 1024);
	z = must_open(m.bytes, m.n, NULL);
	assert_int_equal(z->size, 0);
	assert_int_equal(source_pread(z, NULL, 0, 0, &e), 0);
	assert_int_equal(source_pread(z, &e, 1, 0, &e), -EINVAL);
	source_prefetch(z, 0, 1);
	source_drop(z, 0, 1);
	source_close(z);
	sample_release(&m);
}

static void not_a_zfile(void **state)
{
	struct source *z;
	struct sample m;
	struct err e;
	size_t n;

	(void)state;
	sample_make(&m, ZALGORITHM_LZ4, 4096, 100, 0);
	for (n = 0; n < m.n; n++) {
		int r = open_bytes(m.bytes, n, NULL, &z, &e);

		assert_int_equal(r, n < 24 ? 1 : -EBADMSG);
		if (n >= 24)
			assert_non_null(strstr(e.msg, "zfile: "));
	}
	m.bytes[10] ^= 1;
	assert_int_equal(open_bytes(m.bytes, m.n, NULL, &z, &e), 1);
	sample_release(&m);
}

/* One row for each rule of the jump table: entry `entry` becomes `value`.  17 blocks of 4096, lz4.
 */
static const struct {
	const char *what;
	unsigned entry;
	uint32_t value;
	bool sealed;
	const char *msg;
} bad_entries[] = {
	{ "zero", 3, 0, true, "zfile: block 3: stored length 0 leaves no data" },
	{ "only a CRC", 16, 4, true, "zfile: block 16: stored length 4 leaves no data" },
	{ "over the bound", 0, 4117 + 4 + 12, true,
	  "zfile: block 0: stored length 4133 is more than lz4 needs at most for 4096 bytes" },
	{ "wraps", 5, UINT32_MAX, true, "zfile: block 5: stored length 4294967295 is more" },
	{ "into the table", 16, 4000, true, "reach into the jump table at" },
	{ "table CRC", 1, 100, false, "zfile: jump table: wrong CRC, 0x" },
};

static void refuse_entries(void **state)
{
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad_entries / sizeof bad_entries[0]; i++) {
		struct fault f = { .fail_at = FAULT_NEVER };
		struct err e = { "" };
		struct source *z;
		struct sample m;
		int r;

		sample_make(&m, ZALGORITHM_LZ4, 4096, 17 * 4096, 240);
		le32_put(m.bytes + le64_get(m.bytes + 40) + 4 * bad_entries[i].entry,
			 bad_entries[i].value);
		zseal(m.bytes, m.n, bad_entries[i].sealed ? ZSEAL_TABLE | ZSEAL_DIGESTS : 0);
		r = open_bytes(m.bytes, m.n, &f, &z, &e);
		if (r != -EBADMSG || !strstr(e.msg, bad_entries[i].msg))
			fail_msg("%s: returned %d, \"%s\"", bad_entries[i].what, r, e.msg);
		/* Header, then table and trailer; each time. */
		assert_int_equal(f.drops, 2 * SOURCE_RETRIES);
		assert_int_equal(f.closes, 1);
		sample_release(&m);
	}
}

/* A jump table that a cache held wrong is had again. */
static void open_heals(void **state)
{
	size_t at[4], i;

	(void)state;
	for (i = 0; i < 4; i++) {
		struct fault f = { .fail_at = FAULT_NEVER, .flips = 1 };
		struct source *z;
		struct sample m;

		sample_make(&m, ZALGORITHM_LZ4, 4096, 17 * 4096, 240);
		if (i == 3) { /* the trailer is needed */
			le64_put(m.bytes + 32, 0x13);
			zseal(m.bytes, m.n, ZSEAL_DIGESTS);
		}
		at[0] = 200; /* digest of the header */
		at[1] = (size_t)le64_get(m.bytes + 40) + 5; /* table */
		at[2] = 40; /* index_offset */
		at[3] = m.n - 1;
		f.flip_off = at[i];
		z = must_open(m.bytes, m.n, &f);
		assert_int_equal(f.flips, 0);
		expect_read(z, m.raw, m.raw_n, 0);
		source_close(z);
		sample_release(&m);
	}
}

/* A wrong byte in each block: each time that it is read wrong just that block is dropped, until it
 * heals, or is EBADMSG; other blocks still read. */
static void wrong_blocks(void **state)
{
	uint8_t buf[4096];
	struct sample m;
	uint64_t at = 512;
	unsigned i;

	(void)state;
	sample_make(&m, ZALGORITHM_ZSTD, 4096, 5 * 4096, 200);
	for (i = 0; i < 5; i++) {
		uint32_t stored = le32_get(m.bytes + le64_get(m.bytes + 40) + 4 * i);
		struct fault f = { .fail_at = FAULT_NEVER,
				   .flip_off = at + 9,
				   .flips = 1 + i % SOURCE_RETRIES };
		const unsigned flips = f.flips;
		struct source *z = must_open(m.bytes, m.n, &f);
		struct err e = { "" };
		char msg[64];

		expect_read(z, m.raw, m.raw_n, 0);
		assert_int_equal(f.drops, flips);
		f.drops = 0;
		assert_int_equal(f.last_off, at);
		assert_int_equal(f.last_n, stored);
		f.flips = 1000;
		assert_int_equal(source_pread(z, buf, 4096, 4096 * i, &e), -EBADMSG);
		snprintf(msg, sizeof msg, "zfile block %u: wrong CRC, 0x", i);
		assert_non_null(strstr(e.msg, msg));
		assert_int_equal(source_pread(z, buf, 10, 4096 * i + 5, &e), -EBADMSG);
		assert_int_equal(f.drops, 2 * SOURCE_RETRIES);
		expect_read(z, m.raw, 4096, 4096 * ((i + 1) % 5));
		f.flips = 0;
		expect_read(z, m.raw, 10, 4096 * i + 5);
		source_close(z);
		at += stored;
	}
	sample_release(&m);
}

/* A cache that has got all bytes of a file wrong, and all right after the first drop. */
struct cached {
	struct source source;
	const uint8_t *bytes;
	bool wrong;
	unsigned drops;
};

static int cached_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	struct cached *c = (struct cached *)s;
	uint8_t *to = buf;
	size_t i;

	for (i = 0; i < n; i++)
		to[i] = c->bytes[off + i] ^ c->wrong;
	return 0;
}

static void cached_drop(struct source *s, uint64_t off, uint64_t n)
{
	struct cached *c = (struct cached *)s;

	c->wrong = false;
	c->drops++;
}

static void cached_close(struct source *s)
{
}

/* What was read together is not dropped again once the first block of it has brought better bytes.
 */
static void one_drop_mends_what_came_together(void **state)
{
	static const struct source_ops ops = {
		.name = "cached", .pread = cached_pread, .drop = cached_drop, .close = cached_close
	};
	struct cached c = { .source.ops = &ops };
	struct source *z;
	struct sample m;

	sample_make(&m, ZALGORITHM_LZ4, 4096, 40000, 100);
	c.source.size = m.n;
	c.bytes = m.bytes;
	assert_int_equal(zfile_open(&c.source, &z, NULL), 0);
	c.wrong = true;
	expect_read(z, m.raw, 20000, 4096);
	assert_int_equal(c.drops, 1);
	source_close(z);
	sample_release(&m);
}

/* Frames with every kind of header end where they end. */
static void zstd_frames(void **state)
{
	static const size_t sizes[] = { 1, 100, 255, 256, 300, 65535, 65536 };
	/* A block of three bytes as they are, and a last one of a byte that is repeated. */
	static const uint8_t repeated[] = {
		0x28, 0xb5, 0x2f, 0xfd, 0x20, 10, 3 << 3, 0, 0, 'a', 'b', 'c', 7 << 3 | 1 << 1 | 1,
		0,    0,    'x'
	};
	static const uint8_t repeated_raw[10] = "abcxxxxxxx";
	const struct codec *zstd = codec_find(ZALGORITHM_ZSTD);
	uint8_t *raw = calloc(1, 65536), *out = malloc(65536), *frame = malloc(70000);
	ZSTD_CCtx *c = ZSTD_createCCtx();
	struct codec_decoder d = { NULL };
	uint64_t seed = 1;
	struct err e;
	unsigned i;

	(void)state;
	for (i = 0; i < 8 * 7; i++) {
		size_t n = sizes[i / 8], stored;

		testlib_fill(raw, n, i % 2 ? 0 : 250, &seed);
		ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, i >> 1 & 1);
		ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, i >> 2 & 1);
		stored = ZSTD_compress2(c, frame, 69999, raw, n);
		assert_false(ZSTD_isError(stored));
		if (zstd->decode(&d, out, n, frame, stored, &e) != 0)
			fail_msg("%zu bytes, variant %u: %s", n, i % 8, e.msg);
		assert_memory_equal(out, raw, n);
		assert_int_equal(zstd->decode(&d, out, n, frame, stored + 1, &e), -EBADMSG);
		assert_string_equal(e.msg, "1 bytes after the zstd frame");
		assert_int_equal(zstd->decode(&d, out, n, frame, stored - 1, &e), -EBADMSG);
	}
	for (i = 0; i < 3; i++) { /* a decoder that was released can be used again */
		codec_decoder_release(&d);
		assert_int_equal(
			zstd->decode(&d, out, sizeof repeated_raw, repeated, sizeof repeated, &e),
			0);
		assert_memory_equal(out, repeated_raw, sizeof repeated_raw);
	}
	codec_decoder_release(&d);
	codec_decoder_release(&d);
	ZSTD_freeCCtx(c);
	free(frame);
	free(out);
	free(raw);
}

static void malformed_blocks(void **state)
{
	static const struct {
		uint8_t algorithm;
		int at; /* in block 1 */
		uint8_t value;
		const char *msg;
	} bad[] = {
		{ ZALGORITHM_LZ4, 0, 0xff, "zfile block 1: lz4 data" },
		{ ZALGORITHM_ZSTD, 0, 0x50, "zfile block 1: not a zstd frame" },
		{ ZALGORITHM_ZSTD, 4, 0xff, "zfile block 1: zstd frame" },
	};
	uint8_t buf[4096];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct fault f = { .fail_at = FAULT_NEVER };
		struct err e = { "" };
		struct source *z;
		struct sample m;

		sample_make(&m, bad[i].algorithm, 4096, 3 * 4096, 250);
		m.bytes[512 + le32_get(m.bytes + le64_get(m.bytes + 40)) + (unsigned)bad[i].at] =
			bad[i].value;
		zseal(m.bytes, m.n, ZSEAL_BLOCKS);
		z = must_open(m.bytes, m.n, &f);
		assert_int_equal(source_pread(z, buf, 4096, 4096, &e), -EBADMSG);
		if (!strstr(e.msg, bad[i].msg))
			fail_msg("\"%s\" where \"%s\" was expected", e.msg, bad[i].msg);
		assert_int_equal(f.drops, SOURCE_RETRIES);
		source_close(z);
		sample_release(&m);
	}
}

/* The rules for zstd frames and lz4 blocks, at the codec. */
static void codec_rules(void **state)
{
	/* a frame without content size: window 1 MiB, one raw block of 3 bytes, the last */
	static const uint8_t no_size[] = { 0x28, 0xb5, 0x2f, 0xfd, 0,	0x50,
					   0x19, 0,    0,    'a',  'b', 'c' };
	/* the same with a window of 2 TiB */
	static const uint8_t huge_window[] = { 0x28, 0xb5, 0x2f, 0xfd, 0,   0xff,
					       0x19, 0,	   0,	 'a',  'b', 'c' };
	static const uint8_t skippable[] = { 0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c' };
	const struct codec *zstd = codec_find(ZALGORITHM_ZSTD), *lz4 = codec_find(ZALGORITHM_LZ4);
	uint8_t raw[8192], packed[2 * 9000], buf[16384];
	struct codec_encoder encoder;
	struct codec_decoder d = { NULL };
	uint64_t seed = 1;
	struct err e;
	size_t n;

	(void)state;
	testlib_fill(raw, sizeof raw, 200, &seed);
	assert_int_equal(zstd->encoder_init(&encoder, 0, &e), 0);
	n = zstd->encode(&encoder, packed, sizeof packed, raw, sizeof raw);
	codec_encoder_release(&encoder);
	assert_int_equal(zstd->decode(&d, buf, 8192, packed, n, &e), 0);
	assert_memory_equal(buf, raw, 8192);
	assert_int_equal(zstd->decode(&d, buf, 4096, packed, n, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "zstd data does not give 4096 bytes"));
	assert_int_equal(zstd->decode(&d, buf, 16384, packed, n, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "zstd data gives 8192 bytes, not 16384"));
	assert_int_equal(zstd->decode(&d, buf, 8192, packed, n - 1, &e), -EBADMSG);
	assert_int_equal(zstd->decode(&d, buf, 8192, packed, 3, &e), -EBADMSG);
	memcpy(packed + n, packed, n); /* a second frame */
	assert_int_equal(zstd->decode(&d, buf, 16384, packed, 2 * n, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "bytes after the zstd frame"));
	packed[n] = 0;
	assert_int_equal(zstd->decode(&d, buf, 8192, packed, n + 1, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "1 bytes after the zstd frame"));
	assert_int_equal(zstd->decode(&d, buf, 3, no_size, sizeof no_size, &e), 0);
	assert_memory_equal(buf, "abc", 3);
	assert_int_equal(zstd->decode(&d, buf, 2, no_size, sizeof no_size, &e), -EBADMSG);
	assert_int_equal(zstd->decode(&d, buf, 3, huge_window, sizeof huge_window, &e), -EBADMSG);
	assert_int_equal(zstd->decode(&d, buf, 3, skippable, sizeof skippable, &e), -EBADMSG);
	assert_string_equal(e.msg, "not a zstd frame");
	codec_decoder_release(&d);

	assert_int_equal(lz4->encoder_init(&encoder, 0, &e), 0);
	n = lz4->encode(&encoder, packed, sizeof packed, raw, sizeof raw);
	codec_encoder_release(&encoder);
	assert_int_equal(lz4->decode(&d, buf, 8192, packed, n, &e), 0);
	assert_int_equal(lz4->decode(&d, buf, 8193, packed, n, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "lz4 data gives 8192 bytes, not 8193"));
	assert_int_equal(lz4->decode(&d, buf, 8191, packed, n, &e), -EBADMSG);
	assert_string_equal(e.msg, "lz4 data is malformed");
	assert_null(codec_find(0));
}

static void trailer_differs(void **state)
{
	struct source *z;
	struct sample m;
	struct err e;

	(void)state;
	sample_make(&m, ZALGORITHM_LZ4, 4096, 10000, 100);
	m.bytes[m.n - 512 + 77] = 9; /* level */
	z = must_open(m.bytes, m.n, NULL);
	assert_int_equal(zfile_check_trailer(z, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "zfile: trailer: digest is 0x"));
	source_close(z);
	zseal(m.bytes, m.n, ZSEAL_DIGESTS);
	z = must_open(m.bytes, m.n, NULL);
	assert_int_equal(zfile_check_trailer(z, &e), -EBADMSG);
	assert_string_equal(e.msg, "zfile: header and trailer differ");
	source_close(z);
	sample_release(&m);
}

/* Each read below fails once: code, message, and the same read works after. */
static void each_read_fails_once(void **state)
{
	struct sample m;
	uint64_t k;

	(void)state;
	sample_make(&m, ZALGORITHM_LZ4, 65536, 3000000, 0);
	le64_put(m.bytes + 32, 0x13);
	zseal(m.bytes, m.n, ZSEAL_DIGESTS);
	for (k = 0;; k++) {
		struct fault f = { .fail_at = k };
		struct source *z;
		struct err e = { "" };
		uint8_t *buf = malloc(m.raw_n);
		int r = open_bytes(m.bytes, m.n, &f, &z, &e);

		if (r == 0) {
			r = source_pread(z, buf, m.raw_n - 2, 1, &e);
			f.fail_at = FAULT_NEVER;
			expect_read(z, m.raw, m.raw_n - 2, 1);
			source_close(z);
		}
		free(buf);
		assert_int_equal(f.closes, 1);
		if (!f.fired)
			break;
		assert_int_equal(r, -EIO);
		assert_int_equal(f.drops, 0);
		assert_non_null(strstr(e.msg, "zfile"));
		assert_non_null(strstr(e.msg, ": injected fault at call"));
	}
	assert_int_equal(k, 3 + 3); /* header, trailer, table; three pieces */
	sample_release(&m);
}

/* The second try at a wrong block fails too. */
static void retry_fails(void **state)
{
	struct fault f = { .fail_at = 3, .flip_off = 600, .flips = 9 }; /* header, table, block */
	struct err e = { "" };
	struct source *z;
	struct sample m;
	uint8_t buf[100];

	(void)state;
	sample_make(&m, ZALGORITHM_LZ4, 4096, 10000, 0);
	z = must_open(m.bytes, m.n, &f);
	assert_int_equal(source_pread(z, buf, 100, 0, &e), -EIO);
	assert_string_equal(e.msg, "zfile block 0: injected fault at call 3");
	source_close(z);
	sample_release(&m);
}

struct reader {
	pthread_t thread;
	struct source *z[2];
	const struct sample *m;
	uint64_t seed;
	unsigned wrong;
};

static void *read_randomly(void *arg)
{
	struct reader *t = arg;
	uint8_t buf[20000];
	unsigned i, count = loops_count(20000);

	for (i = 0; i < count; i++) {
		uint64_t off = testlib_random(&t->seed) % (t->m->raw_n - sizeof buf);
		size_t n = (size_t)(testlib_random(&t->seed) % sizeof buf);
		struct source *z = t->z[i % 2];

		if (i % 100 == 0)
			source_drop(z, off, 1);
		if (source_pread(z, buf, n, off, NULL) != 0 || memcmp(buf, t->m->raw + off, n) != 0)
			t->wrong++;
	}
	return NULL;
}

static void many_threads(void **state)
{
	struct reader readers[4];
	struct source *z[2];
	struct sample m;
	unsigned i;

	(void)state;
	sample_make(&m, ZALGORITHM_ZSTD, 16384, 1000000, 200);
	z[0] = must_open(m.bytes, m.n, NULL);
	z[1] = must_open(m.bytes, m.n, NULL);
	for (i = 0; i < 4; i++) {
		readers[i] = (struct reader){ .z = { z[0], z[1] }, .m = &m, .seed = i };
		assert_int_equal(
			pthread_create(&readers[i].thread, NULL, read_randomly, &readers[i]), 0);
	}
	for (i = 0; i < 4; i++) {
		pthread_join(readers[i].thread, NULL);
		assert_int_equal(readers[i].wrong, 0);
	}
	source_close(z[0]);
	source_close(z[1]);
	sample_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden),
		cmocka_unit_test(pieces),
		cmocka_unit_test(small_reads),
		cmocka_unit_test(small_reads_of_several_files),
		cmocka_unit_test(hints),
		cmocka_unit_test(header_variants),
		cmocka_unit_test(without_crc),
		cmocka_unit_test(empty),
		cmocka_unit_test(not_a_zfile),
		cmocka_unit_test(refuse_entries),
		cmocka_unit_test(open_heals),
		cmocka_unit_test(wrong_blocks),
		cmocka_unit_test(malformed_blocks),
		cmocka_unit_test(one_drop_mends_what_came_together),
		cmocka_unit_test(zstd_frames),
		cmocka_unit_test(codec_rules),
		cmocka_unit_test(trailer_differs),
		cmocka_unit_test(each_read_fails_once),
		cmocka_unit_test(retry_fails),
		cmocka_unit_test(many_threads),
	};

	loops_seed();
	return cmocka_run_group_tests_name("zfile", tests, NULL, NULL);
}
