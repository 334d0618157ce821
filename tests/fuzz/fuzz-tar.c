/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-tar.c - any bytes as a tar archive.
 *
 * Properties: a payload that is found lies within the file and can be read; its name is text; what
 * is no archive or a wrong one is 1 or EBADMSG with a message, never anything else. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "tests/fuzz/fuzz.h"
#include "zfile/tar.h"

static void check_payload(struct source *s, const struct tar_layout *t)
{
	struct source *payload;
	uint8_t byte;
	struct err e;

	FUZZ_CHECK(range_fits(t->payload_offset, t->payload_size, s->size));
	FUZZ_CHECK(t->payload_offset % 512 == 0 && t->payload_offset > 0);
	FUZZ_CHECK(memchr(t->name, '\0', sizeof t->name) != NULL);
	FUZZ_CHECK(source_open_slice(s, t->payload_offset, t->payload_size, &payload, &e) == 0);
	if (payload->size > 0)
		FUZZ_CHECK(source_pread(payload, &byte, 1, payload->size - 1, &e) == 0);
	source_close(payload);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct tar_layout t;
	struct err e = { "" };
	struct source *s;
	int r;

	FUZZ_CHECK(source_open_memory(bytes, n, &s, &e) == 0);
	r = tar_parse(s, &t, &e);
	if (r == 0) {
		check_payload(s, &t); /* closes s */
		return 0;
	}
	FUZZ_CHECK(r == 1 || (r == -EBADMSG && strncmp(e.msg, "tar: ", 5) == 0));
	source_close(s);
	return 0;
}
