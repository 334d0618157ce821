/* SPDX-License-Identifier: Apache-2.0 */
/* cache_admin.h - what people do with a cache folder: list, verify, shrink, drop.
 *
 * Safe beside processes that use the folder.  Threads: as cache.h. */
#ifndef OVERLAYBD_FETCH_CACHE_ADMIN_H
#define OVERLAYBD_FETCH_CACHE_ADMIN_H

#include "core/base/digest.h"
#include "fetch/cache.h"

struct cache_entry {
	char digest[DIGEST_ANY_TEXT];
	char *origin; /* "https://host/repo"; NULL: v1/sha256 */
	uint64_t size; /* bytes of the blob */
	uint64_t present; /* bytes of it that are there */
	bool whole; /* checked against its digest, nothing evicted since */
	bool in_use; /* some process has it open */
};

/* Calls `each` for every blob, ordered by origin and digest.  `each` returns 0 to go on, else the
 * walk ends with what it returned.  A damaged entry is reported through `each` with size 0. */
int cache_list(struct cache *c, int (*each)(void *arg, const struct cache_entry *entry), void *arg,
	       struct err *e);

/* Bytes that the folder holds, and its limit. */
uint64_t cache_usage(struct cache *c);

/* Reads every chunk that is there and compares its CRC; with a whole blob also the digest.  Bad
 * chunks are dropped (the next read fetches them), a wrong whole is dropped altogether.  *checked
 * and *bad count chunks.  `progress` (may be NULL) hears of bytes read. */
int cache_verify_all(struct cache *c, void (*progress)(void *arg, uint64_t bytes), void *arg,
		     uint64_t *checked, uint64_t *bad, struct err *e);

/* Evicts until at most `target` bytes are there, least recently used first (CLOCK). */
int cache_prune(struct cache *c, uint64_t target, uint64_t *freed, struct err *e);

/* Drops a blob everywhere (its digest), or all of an origin's blobs, or everything (both NULL), by
 * renaming its folder away and deleting it.  Processes that have it open go on and open it anew.
 * *dropped counts blobs. */
int cache_drop(struct cache *c, const char *digest, const char *origin, uint64_t *dropped,
	       struct err *e);

#endif
