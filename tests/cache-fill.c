/* SPDX-License-Identifier: Apache-2.0 */
/* cache-fill.c - cache-fill DIR ORIGIN FILE [CHUNKS]: puts a file's first chunks, or all of it,
 * into a cache, as if it had been fetched from ORIGIN; a complete one is verified.  Prints its
 * digest. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/digest.h"
#include "core/base/le.h"
#include "fetch/cache.h"

static int fill(struct cache_blob *b, struct source *s, uint64_t chunks, struct err *e)
{
	uint8_t bytes[CACHE_CHUNK];
	uint64_t i, all = (s->size + CACHE_CHUNK - 1) / CACHE_CHUNK;
	int r;

	for (i = 0; i < min_u64(chunks, all); i++) {
		uint64_t off = i * CACHE_CHUNK;

		r = source_pread(s, bytes, (size_t)min_u64(CACHE_CHUNK, s->size - off), off, e);
		if (r == 0)
			r = cache_blob_publish(b, i, bytes);
		if (r < 0)
			return r;
	}
	r = cache_blob_verify(b, e);
	return r < 0 ? r : 0;
}

int main(int argc, char **argv)
{
	char digest[DIGEST_TEXT];
	struct cache_blob *b = NULL;
	struct cache *c = NULL;
	struct source *s = NULL;
	struct err e = { .msg = "usage: cache-fill DIR ORIGIN FILE [CHUNKS]" };
	int r = -1;

	if (argc == 4 || argc == 5)
		r = source_open_file(argv[3], &s, &e);
	if (r == 0)
		r = digest_source(s, digest, &e);
	if (r == 0)
		r = cache_open(argv[1], 0, &c, &e);
	if (r == 0)
		r = cache_blob_open(c, argv[2], digest, s->size, &b, &e);
	if (r == 0)
		r = fill(b, s, argc > 4 ? strtoull(argv[4], NULL, 10) : UINT64_MAX, &e);
	if (r == 0)
		puts(digest);
	else
		fprintf(stderr, "cache-fill: %s\n", e.msg);
	cache_blob_close(b);
	cache_close(c);
	source_close(s);
	return r == 0 ? 0 : 1;
}
