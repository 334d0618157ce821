/* SPDX-License-Identifier: Apache-2.0 */
/* cache_evict.h - the folder's size, and the clock that keeps it under its limit.
 *
 * DIR/v1/usage: struct cache_usage_page, mapped by all processes.  Its count is kept up by whoever
 *   publishes or discards, and made anew by whoever evicts.  Any contents are valid.
 * DIR/v1/lock: an OFD lock on it is the right to evict. */
#ifndef OVERLAYBD_FETCH_CACHE_EVICT_H
#define OVERLAYBD_FETCH_CACHE_EVICT_H

#include "fetch/cache_internal.h"

/* Opens and maps the files.  They go with the cache: cache_evict_close. */
int cache_evict_open(struct cache *c, struct err *e);
void cache_evict_close(struct cache *c);

/* Opens the files anew if they were removed or replaced. */
int cache_evict_renew(struct cache *c, struct err *e);

/* Counts the folder's bytes.  Whoever evicts meanwhile makes it wait, or with `wait` false return
 * -EAGAIN. */
int cache_evict_recount(struct cache *c, bool wait, struct err *e);

/* Bytes that eviction cannot free: the maps that somebody has open.  0 where they cannot be listed.
 */
uint64_t cache_evict_pinned(struct cache *c);

/* Returns when nobody evicts who had begun before. */
void cache_evict_await(struct cache *c);

enum {
	CACHE_EVICT_WAIT = 1, /* for who evicts at the moment, else -EAGAIN */
	CACHE_EVICT_SPARE = 2, /* what is held, even when nothing else is left */
};

/* Evicts chunks, least recently used first and what is held last, until at most `target` bytes are
 * there or all were looked at; removes folders that nobody uses and that hold nothing. */
int cache_evict_run(struct cache *c, uint64_t target, unsigned how, uint64_t *freed, struct err *e);

#endif
