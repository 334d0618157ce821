/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-trace_layers.c - any bytes as the reference's trace file: as they are, and with magic, size
 * and checksum put right.
 *
 * Properties: what is accepted has as many records as fit, and comes out the same when it is
 * written and read again; what is refused leaves nothing and gets a message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "prefetch/trace_layers.h"
#include "tests/fuzz/fuzz.h"

static void check_value(const struct trace_layers *t, size_t n)
{
	struct trace_layers again;
	void *bytes;
	size_t size, i;

	FUZZ_CHECK(t->count <= (n - 24) / 24);
	FUZZ_CHECK(trace_layers_format(t, &bytes, &size, NULL) == 0);
	FUZZ_CHECK(size == 24 + 24 * t->count && trace_layers_are(bytes, size));
	FUZZ_CHECK(trace_layers_parse(bytes, size, &again, NULL) == 0);
	FUZZ_CHECK(again.count == t->count);
	for (i = 0; i < t->count; i++) /* by field: there is padding */
		FUZZ_CHECK(again.reads[i].layer == t->reads[i].layer &&
			   again.reads[i].off == t->reads[i].off &&
			   again.reads[i].n == t->reads[i].n);
	trace_layers_release(&again);
	free(bytes);
}

static void try(const uint8_t *raw, size_t n)
{
	struct trace_layers t = { .count = 77 };
	struct err e = { "" };
	int r = trace_layers_parse(raw, n, &t, &e);

	if (r == 0) {
		check_value(&t, n);
		trace_layers_release(&t);
	} else {
		FUZZ_CHECK(r == -EBADMSG && e.msg[0] != '\0' && t.count == 77 && !t.reads);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	uint8_t *raw = calloc(1, n > 0 ? n : 1); /* exactly as long as the input */

	FUZZ_CHECK(raw);
	if (n > 0)
		memcpy(raw, bytes, n);
	try(raw, n);
	if (n >= 24) {
		le32_put(raw, UINT32_C(0xC2EF1820));
		le64_put(raw + 8, n - 24);
		le32_put(raw + 16, crc32c_raw(0, raw + 24, n - 24));
		try(raw, n);
	}
	free(raw);
	return 0;
}
