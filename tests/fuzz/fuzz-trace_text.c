/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz-trace_text.c - any bytes as a text of reads, and as a list of paths.
 *
 * Properties: reads lie within the disk, and written and read again they are the same; paths are
 * absolute, of lawful length, and as many as lines at most; what is refused gets a message. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "prefetch/trace_paths.h"
#include "prefetch/trace_text.h"
#include "tests/fuzz/fuzz.h"

static void try_reads(const char *text, size_t n)
{
	struct trace t, again;
	struct err e = { "" };
	char *written;
	size_t size;

	if (trace_text_parse(text, n, &t, &e) < 0) {
		FUZZ_CHECK(e.msg[0] != '\0');
		return;
	}
	FUZZ_CHECK(t.count <= n && t.disk_size % 512 == 0);
	if (t.identity[0] == '\0')
		strcpy(t.identity,
		       "sha256:0000000000000000000000000000000000000000000000000000000000000000");
	FUZZ_CHECK(trace_text_format(&t, &written, &size, NULL) == 0);
	FUZZ_CHECK(trace_text_parse(written, size, &again, NULL) == 0);
	FUZZ_CHECK(again.count == t.count && again.disk_size == t.disk_size &&
		   strcmp(again.identity, t.identity) == 0);
	FUZZ_CHECK(t.count == 0 || memcmp(again.reads, t.reads, t.count * sizeof *t.reads) == 0);
	trace_release(&t);
	trace_release(&again);
	free(written);
}

static void try_paths(const char *text, size_t n)
{
	struct trace_path_list list;
	struct err e = { "" };
	size_t i;

	if (trace_path_list_parse(text, n, &list, &e) < 0) {
		FUZZ_CHECK(e.msg[0] != '\0');
		return;
	}
	FUZZ_CHECK(list.count <= n && list.count <= TRACE_PATHS_MAX);
	for (i = 0; i < list.count; i++)
		FUZZ_CHECK(list.paths[i][0] == '/' && strlen(list.paths[i]) < TRACE_PATH_LENGTH);
	trace_path_list_release(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *text = malloc(n > 0 ? n : 1); /* exactly as long as the input */

	FUZZ_CHECK(text);
	if (n > 0)
		memcpy(text, bytes, n);
	try_reads(text, n);
	try_paths(text, n);
	free(text);
	return 0;
}
