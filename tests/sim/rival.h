/* SPDX-License-Identifier: Apache-2.0 */
/* rival.h - the real cache, on a disk in memory, and another process that has the same folder:
 * claims, publishes, drops, evicts, checks wholes, and dies.  The disk can rot.
 *
 * Threads: fibers.  What the rival does is one step: nothing of ours comes in between. */
#ifndef OVERLAYBD_TESTS_SIM_RIVAL_H
#define OVERLAYBD_TESTS_SIM_RIVAL_H

#include "fetch/cache.h"
#include "tests/sim/net.h"

/* An empty disk, our cache on it with its keeper, and the rival's.  `recheck` as of
 * cache_set_recheck, for ours. */
struct cache *rival_open(uint32_t recheck);

/* It does something; the disk does something. */
void rival_act(void);

/* One byte of what the disk holds of some blob changes.  Returns the blob, and its chunk;
 * NET_BLOBS: there was none to change. */
unsigned rival_rot(uint64_t *chunk);

/* It ends; the disk is well. */
void rival_calm(void);

/* All that is ours must be closed, but for the cache. */
void rival_close(void);

/* The wrapped calls tell which blob is which, and judge what is published. */
void rival_note_open(const struct cache_blob *b, const char *digest);
void rival_judge(const struct cache_blob *b, uint64_t chunk, const void *bytes);

#endif
