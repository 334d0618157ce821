/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-zfile.c - any bytes as a ZFile.
 *
 * Byte 0 of the input says which checksums are made right before the file is opened (zseal.h), so
 * that they do not hide what lies behind them; the rest is the file. Properties: opening gives 0, 1
 * or EBADMSG with a message; a block reads or is EBADMSG, the same each time; pieces of a range
 * read to the same bytes as the whole; no thread's kept block is ever stale. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "tests/fuzz/fuzz.h"
#include "tests/zseal.h"
#include "zfile/zfile.h"

enum { MOST = 4 << 20 }; /* bytes read of one file; the rest is read at its end */

/* Reads [off, off + n) whole, then again in steps that fit no block. */
static void check_range(struct source *z, uint64_t off, size_t n)
{
	uint8_t *whole = malloc(n + 1), piece[3001];
	struct err e = { "" };
	int r, all = 0;
	size_t at;

	FUZZ_CHECK(whole);
	r = source_pread(z, whole, n, off, &e);
	FUZZ_CHECK(r == 0 || (r == -EBADMSG && strncmp(e.msg, "zfile block ", 12) == 0));
	for (at = 0; at < n; at += sizeof piece) {
		size_t take = n - at < sizeof piece ? n - at : sizeof piece;
		int one = source_pread(z, piece, take, off + at, &e);

		FUZZ_CHECK(one == 0 || one == -EBADMSG);
		FUZZ_CHECK(r != 0 || (one == 0 && memcmp(piece, whole + at, take) == 0));
		all = one < 0 ? one : all;
		if (all < 0 && n > sizeof piece * 64)
			break;
	}
	FUZZ_CHECK(r == 0 || all < 0);
	free(whole);
}

static void check_file(struct source *z, uint64_t file_size)
{
	const struct zheader *h = zfile_header(z);
	uint64_t n = min_u64(z->size, MOST);

	FUZZ_CHECK(h->blocks <= file_size / 4);
	FUZZ_CHECK(z->size == h->original_size);
	check_range(z, 0, (size_t)n);
	if (z->size > MOST)
		check_range(z, z->size - h->block_size, h->block_size);
	source_prefetch(z, 0, z->size);
	source_drop(z, 0, z->size);
	(void)zfile_check_trailer(z, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct err e = { "" };
	struct source *s, *z;
	uint8_t *bytes;
	size_t n;
	int r;

	if (size == 0)
		return 0;
	n = size - 1;
	bytes = malloc(n + 1);
	FUZZ_CHECK(bytes);
	memcpy(bytes, input + 1, n);
	zseal(bytes, n, input[0]);
	FUZZ_CHECK(source_open_memory(bytes, n, &s, &e) == 0);
	r = zfile_open(s, &z, &e);
	if (r == 0) {
		check_file(z, n);
		source_close(z);
	} else {
		FUZZ_CHECK(r == 1 || (r == -EBADMSG && strncmp(e.msg, "zfile: ", 7) == 0));
		source_close(s);
	}
	free(bytes);
	return 0;
}
