/* SPDX-License-Identifier: Apache-2.0 */
/* test-jump.c - jump tables of several pieces, and trailers of which a single field differs. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "tests/unit/zfilelib.h"
#include "tests/zseal.h"

/* Any field that differs is told, its digest right or not.  Offsets: zformat.h. */
static void any_field_of_the_trailer_differs(void **state)
{
	static const struct {
		int at;
		uint8_t by;
	} rows[] = {
		{ 40, 1 }, /* index_offset */
		{ 48, 1 }, /* blocks */
		{ 56, 1 }, /* original_size */
		{ 64, 1 }, /* index_crc */
		{ 72 + 1, 0x30 }, /* block_size: 4096 and 8192 */
		{ 76, 3 }, /* algorithm: lz4 and zstd */
		{ 77, 1 }, /* level */
	};
	struct sample m;
	size_t i;

	sample_make(&m, ZALGORITHM_LZ4, 4096, 10000, 100);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint8_t *field = m.bytes + m.n - 512 + rows[i].at;
		struct err e = { "" };
		struct source *z, *s;

		/* The header is used as it is: the trailer is changed after the opening. */
		assert_int_equal(source_open_memory(m.bytes, m.n, &s, NULL), 0);
		assert_int_equal(zfile_open(s, &z, NULL), 0);
		assert_int_equal(zfile_check_trailer(z, &e), 0);
		*field ^= rows[i].by;
		zseal(m.bytes, m.n, ZSEAL_DIGESTS);
		assert_int_equal(zfile_check_trailer(z, &e), -EBADMSG);
		*field ^= rows[i].by;
		zseal(m.bytes, m.n, ZSEAL_DIGESTS);
		source_close(z);
	}
	sample_release(&m);
}

/* The jump table is read in pieces of 16384 blocks. */
static void tables_of_several_pieces(void **state)
{
	enum { PIECE = 16384, BLOCKS = 2 * PIECE + 5, BLOCK = 4096 };
	static const uint64_t places[] = {
		0, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1, BLOCKS - 1
	};
	struct source *z;
	struct sample m;
	struct err e;
	size_t i;

	sample_make(&m, ZALGORITHM_LZ4, BLOCK, (size_t)BLOCKS * BLOCK, 255);
	z = must_open(m.bytes, m.n, NULL);
	assert_int_equal(zfile_header(z)->blocks, BLOCKS);
	for (i = 0; i < sizeof places / sizeof *places; i++)
		expect_read(z, m.raw, BLOCK, places[i] * BLOCK);
	expect_read(z, m.raw, 4 * BLOCK, (PIECE - 2) * BLOCK);
	for (i = 0; i < sizeof places / sizeof *places; i++) {
		uint8_t *entry = m.bytes + zfile_header(z)->index_offset + 4 * places[i];
		uint32_t was = le32_get(entry);
		char text[64];
		struct source *none;

		le32_put(entry, 0);
		zseal(m.bytes, m.n, ZSEAL_TABLE | ZSEAL_DIGESTS);
		assert_int_equal(open_bytes(m.bytes, m.n, NULL, &none, &e), -EBADMSG);
		snprintf(text, sizeof text, "block %" PRIu64 ": stored length 0", places[i]);
		assert_non_null(strstr(e.msg, text));
		le32_put(entry, was);
	}
	source_close(z);
	sample_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_field_of_the_trailer_differs),
		cmocka_unit_test(tables_of_several_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
