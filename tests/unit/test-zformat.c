/* SPDX-License-Identifier: Apache-2.0 */
/* test-zformat.c - header and trailer of a ZFile: round trip, and one row for each rule. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "tests/testlib.h"
#include "tests/zseal.h"
#include "zfile/zformat.h"

enum { FILE_SIZE = 8192 };

static const struct zheader good_header = {
	.flags = 0x1b,
	.index_offset = 7000,
	.blocks = 3,
	.original_size = 3 * 4096 - 10,
	.index_crc = 0x12345678,
	.block_size = 4096,
	.algorithm = ZALGORITHM_LZ4,
	.verify = true,
};

/* Puts n bytes of v at `at`, and the digest right again. */
static void edit(uint8_t raw[ZFORMAT_SPACE], int at, int n, uint64_t v)
{
	uint8_t both[2 * ZFORMAT_SPACE];
	int i;

	for (i = 0; i < n; i++)
		raw[at + i] = (uint8_t)(v >> (8 * i));
	memcpy(both, raw, ZFORMAT_SPACE);
	memcpy(both + ZFORMAT_SPACE, raw, ZFORMAT_SPACE);
	zseal(both, sizeof both, ZSEAL_DIGESTS);
	memcpy(raw, both, ZFORMAT_SPACE);
}

static void round_trip(void **state)
{
	uint8_t raw[ZFORMAT_SPACE];
	struct zheader in = good_header, out;
	struct err e;

	(void)state;
	zformat_encode(&in, raw);
	assert_true(zformat_is_zfile(raw));
	assert_int_equal(zformat_parse_header(&out, raw, FILE_SIZE, &e), 0);
	assert_int_equal(out.flags, in.flags);
	assert_int_equal(out.index_offset, in.index_offset);
	assert_int_equal(out.blocks, in.blocks);
	assert_int_equal(out.original_size, in.original_size);
	assert_int_equal(out.index_crc, in.index_crc);
	assert_int_equal(out.block_size, in.block_size);
	assert_int_equal(out.algorithm, in.algorithm);
	assert_int_equal(out.level, 0);
	assert_true(out.verify);
	in.flags = 0x16;
	zformat_encode(&in, raw);
	assert_int_equal(zformat_parse_trailer(&out, raw, FILE_SIZE, &e), 0);
}

/* What the reference wrote is what we would write. */
static void golden_bytes(void **state)
{
	static const char *const names[] = { "lz4-4k/layer0.obd", "lz4-64k-grown/layer0.obd",
					     "zstd-16k/layer0.obd" };
	size_t i, n;

	(void)state;
	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		uint8_t *bytes = testlib_golden(names[i], &n), raw[ZFORMAT_SPACE];
		struct zheader h;
		struct err e;

		assert_int_equal(zformat_parse_header(&h, bytes, n, &e), 0);
		zformat_encode(&h, raw);
		assert_memory_equal(raw, bytes, sizeof raw);
		assert_int_equal(zformat_parse_trailer(&h, bytes + n - 512, n, &e), 0);
		zformat_encode(&h, raw);
		assert_memory_equal(raw, bytes + n - 512, sizeof raw);
		free(bytes);
	}
}

/* Rules for values, which hold for a final header and for a trailer. */
static const struct {
	const char *what;
	int at, n;
	uint64_t value;
	const char *msg;
} bad_values[] = {
	{ "magic0", 0, 1, 'z', "wrong magic" },
	{ "magic0 version", 6, 1, 2, "wrong magic" },
	{ "magic1", 23, 1, 'b', "wrong magic" },
	{ "struct size", 24, 4, 100, "struct size is 100, not 96" },
	{ "no data file", 32, 1, 0, "flag bit" },
	{ "compressed table", 32, 1, 0x3b | 4, "compressed jump tables are not supported" },
	{ "block size zero", 72, 4, 0, "block size is 0, not a power of two" },
	{ "block size small", 72, 4, 2048, "block size is 2048" },
	{ "block size large", 72, 4, 131072, "block size is 131072" },
	{ "block size odd", 72, 4, 12288, "block size is 12288" },
	{ "mini-lzo", 76, 1, 0, "algorithm 0 is unknown" },
	{ "algorithm", 76, 1, 3, "algorithm 3 is unknown" },
	{ "use_dict", 78, 1, 1, "dictionaries are not supported (use_dict is 1)" },
	{ "dict_size", 84, 4, 512, "dictionaries are not supported (dict_size is 512)" },
	{ "verify", 88, 1, 2, "verify is 2, not 0 or 1" },
	{ "too few blocks", 48, 8, 2, "2 blocks, where 12278 bytes in blocks of 4096 make 3" },
	{ "too many blocks", 48, 8, 4, "4 blocks, where 12278 bytes in blocks of 4096 make 3" },
	{ "no size", 56, 8, 0, "3 blocks, where 0 bytes" },
	{ "size wraps", 56, 8, UINT64_MAX, "make 4503599627370496" },
	{ "count over the cap", 48, 8, (UINT64_C(1) << 28) + 1, "are more than the 268435456" },
	{ "count wraps", 48, 8, UINT64_MAX, "are more than the 268435456" },
	{ "table in the header", 40, 8, 511, "jump table at 511 lies in the header" },
	{ "table past the trailer", 40, 8, 7669, "does not end before the trailer at 7680" },
	{ "table far away", 40, 8, UINT64_MAX, "does not end before the trailer at 7680" },
};

static void refuse_values(void **state)
{
	struct zheader h = good_header, out, untouched;
	size_t i;

	(void)state;
	memset(&untouched, 0xaa, sizeof untouched);
	for (i = 0; i < 2 * (sizeof bad_values / sizeof bad_values[0]); i++) {
		bool trailer = i & 1;
		uint8_t raw[ZFORMAT_SPACE];
		struct err e = { "" };
		uint64_t value = bad_values[i / 2].value;
		int r;

		h.flags = trailer ? 0x16 : 0x1b;
		if (bad_values[i / 2].at == 32 && trailer)
			value &= ~UINT64_C(9);
		zformat_encode(&h, raw);
		edit(raw, bad_values[i / 2].at, bad_values[i / 2].n, value);
		out = untouched;
		r = trailer ? zformat_parse_trailer(&out, raw, FILE_SIZE, &e)
			    : zformat_parse_header(&out, raw, FILE_SIZE, &e);
		if (r != -EBADMSG || !strstr(e.msg, bad_values[i / 2].msg) ||
		    !strstr(e.msg, trailer ? "trailer" : "header"))
			fail_msg("%s: returned %d, \"%s\"", bad_values[i / 2].what, r, e.msg);
		assert_memory_equal(&out, &untouched, sizeof out);
	}
}

/* Rules for the flags, each on its own. */
static const struct {
	bool trailer;
	uint64_t flags;
	const char *msg;
} bad_flags[] = {
	{ false, 0x1a, "header: flag bit 0 says that it is a trailer" },
	{ false, 0x19, "header: flag bit 1 says that it is no data file" },
	{ false, 0x33, "header: compressed jump tables" },
	{ true, 0x17, "trailer: flag bit 0 says that it is a header" },
	{ true, 0x14, "trailer: flag bit 1 says that it is no data file" },
	{ true, 0x12, "trailer: flag bit 2 says that the file is not sealed" },
	{ true, 0x36, "trailer: compressed jump tables" },
};

static void refuse_flags(void **state)
{
	struct zheader h = good_header, out;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad_flags / sizeof bad_flags[0]; i++) {
		uint8_t raw[ZFORMAT_SPACE];
		struct err e = { "" };
		int r;

		h.flags = bad_flags[i].flags;
		zformat_encode(&h, raw);
		r = bad_flags[i].trailer ? zformat_parse_trailer(&out, raw, FILE_SIZE, &e)
					 : zformat_parse_header(&out, raw, FILE_SIZE, &e);
		if (r != -EBADMSG || !strstr(e.msg, bad_flags[i].msg))
			fail_msg("%s: returned %d, \"%s\"", bad_flags[i].msg, r, e.msg);
	}
}

/* Any changed byte of a header with bit 4 set is found by the digest, if by nothing before. */
static void refuse_any_change(void **state)
{
	uint8_t raw[ZFORMAT_SPACE];
	struct zheader out;
	struct err e;
	int i;

	(void)state;
	zformat_encode(&good_header, raw);
	for (i = 0; i < ZFORMAT_SPACE; i++) {
		raw[i] ^= 0x40;
		assert_int_equal(zformat_parse_header(&out, raw, FILE_SIZE, &e), -EBADMSG);
		assert_non_null(strstr(e.msg, i < 24 ? "wrong magic" : "digest is 0x"));
		raw[i] ^= 0x40;
	}
}

static void refuse_short_file(void **state)
{
	uint8_t raw[ZFORMAT_SPACE];
	struct zheader out;
	struct err e;

	(void)state;
	zformat_encode(&good_header, raw);
	assert_int_equal(zformat_parse_header(&out, raw, 1023, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "file of 1023 bytes is too short"));
	assert_int_equal(zformat_parse_trailer(&out, raw, 0, &e), -EBADMSG);
}

/* Garbage where no known flag says that something is valid. */
static void accept_old_garbage(void **state)
{
	struct zheader h = good_header, out;
	uint8_t raw[ZFORMAT_SPACE];
	struct err e;

	(void)state;
	h.flags = UINT64_C(0xdeadbeefcafe0000) | 0x0b | 0xc0;
	zformat_encode(&h, raw);
	memset(raw + 28, 0x5a, 4); /* digest */
	memset(raw + 68, 0x5a, 4); /* reserved */
	memset(raw + 79, 0x5a, 5); /* reserved */
	memset(raw + 89, 0x5a, ZFORMAT_SPACE - 89);
	assert_int_equal(zformat_parse_header(&out, raw, FILE_SIZE, &e), 0);
	assert_int_equal(out.blocks, 3);
	h.flags = 0x06 | 0xc0;
	zformat_encode(&h, raw);
	memset(raw + 28, 0x5a, 4);
	assert_int_equal(zformat_parse_trailer(&out, raw, FILE_SIZE, &e), 0);
}

/* A header whose values the trailer holds is not judged by them. */
static void accept_open_header(void **state)
{
	struct zheader h = { .flags = 0x13 }, out;
	uint8_t raw[ZFORMAT_SPACE];
	struct err e;

	(void)state;
	zformat_encode(&h, raw);
	assert_int_equal(zformat_parse_header(&out, raw, FILE_SIZE, &e), 0);
	assert_false(out.flags & ZFLAG_HEADER_OVERWRITTEN);
}

/* The largest file that the cap on blocks allows, and an empty one. */
static void accept_extremes(void **state)
{
	struct zheader h = good_header, out;
	uint8_t raw[ZFORMAT_SPACE];
	struct err e;

	(void)state;
	h.block_size = 65536;
	h.blocks = ZFORMAT_MAX_BLOCKS;
	h.original_size = h.blocks * h.block_size;
	h.index_offset = UINT64_C(1) << 40;
	zformat_encode(&h, raw);
	assert_int_equal(zformat_parse_header(&out, raw, h.index_offset + 4 * h.blocks + 512, &e),
			 0);
	assert_int_equal(zformat_parse_header(&out, raw, h.index_offset + 4 * h.blocks + 511, &e),
			 -EBADMSG);
	h.blocks = h.original_size = 0;
	h.index_offset = 512;
	zformat_encode(&h, raw);
	assert_int_equal(zformat_parse_header(&out, raw, 1024, &e), 0);
}

static void names(void **state)
{
	(void)state;
	assert_string_equal(zformat_algorithm_name(ZALGORITHM_LZ4), "lz4");
	assert_string_equal(zformat_algorithm_name(ZALGORITHM_ZSTD), "zstd");
	assert_null(zformat_algorithm_name(0));
	assert_null(zformat_algorithm_name(255));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),	      cmocka_unit_test(golden_bytes),
		cmocka_unit_test(refuse_values),      cmocka_unit_test(refuse_flags),
		cmocka_unit_test(refuse_any_change),  cmocka_unit_test(refuse_short_file),
		cmocka_unit_test(accept_old_garbage), cmocka_unit_test(accept_open_header),
		cmocka_unit_test(accept_extremes),    cmocka_unit_test(names),
	};

	return cmocka_run_group_tests_name("zformat", tests, NULL, NULL);
}
