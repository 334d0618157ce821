/* SPDX-License-Identifier: Apache-2.0 */
/* shelf.h - a model of the cache's blobs, in memory, that other processes use as well: what
 * fetch/cache.h promises, and nothing more, with the least that it promises at times.
 *
 * The program is linked with --wrap of the calls (shelf.c has them all).  The real cache has tests
 * of its own; here it is to be quick, and to be made to do what is rare. */
#ifndef OVERLAYBD_TESTS_SIM_SHELF_H
#define OVERLAYBD_TESTS_SIM_SHELF_H

#include "fetch/cache.h"
#include "tests/sim/net.h"

enum { SHELF_CHUNKS = 48, SHELF_RANKS = 2 };

struct shelf_blob {
	const struct net_blob *truth;
	uint8_t *bytes; /* of all chunks */
	bool present[SHELF_CHUNKS];
	bool rotten[SHELF_CHUNKS]; /* there, but cannot be read until it is dropped */
	bool ours[SHELF_CHUNKS][SHELF_RANKS]; /* claimed by this process... */
	bool theirs[SHELF_CHUNKS][SHELF_RANKS]; /* ...by another */
	enum cache_state state;
	unsigned verdicts; /* how often the whole was judged */
	bool sealed;
	unsigned open;
};

struct shelf {
	struct shelf_blob blobs[NET_BLOBS];
	bool full; /* nothing can be kept */
	bool others; /* there are other processes */
};

extern struct shelf shelf;

void shelf_reset(void);

/* Other processes do something now and then; they end when `on` is false. */
void shelf_disturb(void);
void shelf_calm(void);

/* What the keeper does: a blob that is all there is judged. */
void shelf_judge(void);

/* Fails the run if anything is left open or claimed. */
void shelf_check_closed(void);

/* For blob_options: there is but one. */
struct cache *shelf_cache(void);

#endif
