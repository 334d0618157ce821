/* SPDX-License-Identifier: Apache-2.0 */
/* cache_limit.h - how much the folder may hold: one limit for all programs that use it, kept in it,
 * and what happens when its disk takes no more.
 *
 * DIR/v1/limits: "limit=BYTES\nkeep-free=BYTES\n".  Whoever is told a limit writes it there;
 * whoever is not takes what is there, or the default.  All look once a second.
 *
 * (14) Trouble (a full disk, no rights, no descriptors) pauses filling for PAUSE ms, with one
 *      warning; then it is tried again, and what was told is taken back once it works.  Of a full
 *      disk we take our own part back at once: the chunks that were used least recently.
 * (15) A folder whose limit is less than what cannot be evicted (maps that are in use), or whose
 *      disk others fill, is not looked at again until it has grown or PAUSE is over: evicting must
 *      not cost a processor.  Where less came of it for another reason, such as readers that mark
 *      as fast as the clock goes round, it is tried again after a second, then ever more rarely.
 *
 * Threads: all may run concurrently. */
#ifndef OVERLAYBD_FETCH_CACHE_LIMIT_H
#define OVERLAYBD_FETCH_CACHE_LIMIT_H

#include "fetch/cache_internal.h"

/* Takes over what the folder says, where that has changed. */
void cache_limit_load(struct cache *c);

/* Writes this program's limits into a folder that has none, such as one that was made anew. */
void cache_limit_keep(struct cache *c);

/* Bytes above the limit, or missing from what is to stay free; 0: all is well. */
uint64_t cache_limit_excess(const struct cache *c);

/* Whether one map may take so much: a blob's size is only as true as its registry. */
bool cache_limit_allows_map(const struct cache *c, uint64_t bytes);

/* So far above it that nothing may be added before something was evicted. */
bool cache_limit_is_far_over(const struct cache *c);

/* Looks how much of the file system is free. */
void cache_limit_look_at_disk(struct cache *c);

/* Evicts what the limit or the disk asks for, unless that was found to be no use. */
void cache_limit_evict(struct cache *c);

/* Evicts so much of what is not held that `bytes` more can come in.  -ENOSPC: they do not fit. */
int cache_limit_make_room(struct cache *c, uint64_t bytes, struct err *e);

/* Pauses filling, with a warning, when r is the kind of trouble that concerns all of the folder.
 * Returns r. */
int cache_limit_trouble(struct cache *c, int r, const char *why);

/* Something was written: the trouble is over. */
void cache_limit_worked(struct cache *c);

#endif
