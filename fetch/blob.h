/* SPDX-License-Identifier: Apache-2.0 */
/* blob.h - a blob of a registry as a source: what the cache has from there, the rest from the
 * network.
 *
 * Threads: as source.h says; all else any thread.  Units: bytes. */
#ifndef OVERLAYBD_FETCH_BLOB_H
#define OVERLAYBD_FETCH_BLOB_H

#include "fetch/cache.h"
#include "fetch/request.h"

struct blob;

struct blob_options {
	struct queue *queue; /* must outlive the blob */
	struct cache *cache; /* NULL: none; must outlive it too */
	const char *origin; /* for the cache */
	const char *digest;
	uint64_t size;
	unsigned timeout; /* s, of a read, all tries together; 0: for ever */
	uint64_t retry_until; /* no new try of a read after this: while opening; CLOCK_NEVER */
	struct stats *stats; /* NULL: none */
};

/* Opens the blob; nothing is fetched yet.  EBADMSG: the cache knows it with another size. */
int blob_open(const struct blob_options *options, struct source **out, struct err *e);

/* Whether blob_open made a source; the blob behind one that it made. */
bool blob_is(const struct source *s);
struct blob *blob_of(struct source *s);

/* Asks for the parts that opening a layer reads: the first 16 KiB, and the last max(64 KiB,
 * size/256), at most 4 MiB.  Returns at once. */
void blob_ask_for_ends(struct blob *b);

/* Opening is over: reads retry up to their deadline. */
void blob_opened(struct blob *b);

/* Fetches what is missing of [off, off + n) at background priority, and returns when it is there or
 * cannot be had: 0; 1 when another process is fetching some of it; -errno. */
int blob_fill(struct blob *b, uint64_t off, uint64_t n, struct err *e);

/* Bytes of [off, off + n) that are in the cache. */
uint64_t blob_present(const struct blob *b, uint64_t off, uint64_t n);

const char *blob_digest(const struct blob *b);
uint64_t blob_size(const struct blob *b);
struct cache_blob *blob_cache(struct blob *b); /* NULL: none */
struct stats *blob_stats(struct blob *b);
bool blob_is_closing(const struct blob *b); /* its queue ends */

#endif
