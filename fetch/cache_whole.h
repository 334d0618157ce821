/* SPDX-License-Identifier: Apache-2.0 */
/* cache_whole.h - the digest of a blob from what the cache has of it. */
#ifndef OVERLAYBD_FETCH_CACHE_WHOLE_H
#define OVERLAYBD_FETCH_CACHE_WHOLE_H

#include "fetch/cache_internal.h"

struct cache_whole {
	struct cache_map
		*levels[2]; /* where the first has a chunk, it counts; either may be NULL */
	const atomic_bool *stops[2]; /* each, when set, ends it with -ECANCELED; may be NULL */
	void (*progress)(void *arg, uint64_t bytes); /* hears of bytes read; may be NULL */
	void *arg;
};

/* 1: a chunk is missing.  Does not move the clock's marks. */
int cache_whole_digest(const struct cache_whole *w, const char *like, uint64_t size,
		       char out[DIGEST_ANY_TEXT], struct err *e);

#endif
