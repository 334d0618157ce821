/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-trace.c - any bytes as our trace file: as they are, and with magic, version and checksum put
 * right, which the fuzzer would not find.
 *
 * Properties: what is accepted lies within its disk and is written back byte by byte; what is
 * refused leaves nothing and gets a message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "prefetch/trace.h"
#include "tests/fuzz/fuzz.h"

static void check_value(const struct trace *t, const uint8_t *raw, size_t n)
{
	uint64_t sectors = t->disk_size / 512;
	void *bytes;
	size_t size, i;

	FUZZ_CHECK(digest_is_valid(t->identity));
	FUZZ_CHECK(t->count <= TRACE_READS_MAX && t->disk_size % 512 == 0);
	for (i = 0; i < t->count; i++)
		FUZZ_CHECK(t->reads[i].sectors > 0 && t->reads[i].lba < sectors &&
			   t->reads[i].sectors <= sectors - t->reads[i].lba);
	FUZZ_CHECK(trace_format(t, &bytes, &size, NULL) == 0);
	FUZZ_CHECK(size == n && memcmp(bytes, raw, n) == 0);
	free(bytes);
}

static void try(const uint8_t *raw, size_t n)
{
	struct trace t = { .count = 77 };
	struct err e = { "" };
	int r = trace_parse(raw, n, &t, &e);

	if (r == 0) {
		check_value(&t, raw, n);
		trace_release(&t);
	} else {
		FUZZ_CHECK(r == -EBADMSG && e.msg[0] != '\0' && t.count == 77 && !t.reads);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	uint8_t *raw = calloc(1, n > 0 ? n : 1); /* exactly as long as the input */
	uint32_t crc;

	FUZZ_CHECK(raw);
	if (n > 0)
		memcpy(raw, bytes, n);
	try(raw, n);
	if (n >= TRACE_HEADER) {
		memcpy(raw, "OBDTRACE\1\0\0\0", 12);
		crc = crc32c_raw(~UINT32_C(0), raw, 12);
		le32_put(raw + 12, ~crc32c_raw(crc, raw + 16, n - 16));
		try(raw, n);
	}
	free(raw);
	return 0;
}
