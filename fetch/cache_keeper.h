/* SPDX-License-Identifier: Apache-2.0 */
/* cache_keeper.h - the thread behind cache_start and cache_stop. */
#ifndef OVERLAYBD_FETCH_CACHE_KEEPER_H
#define OVERLAYBD_FETCH_CACHE_KEEPER_H

#include "fetch/cache_internal.h"

/* Wakes the keeper, if there is one: the folder is over its limit. */
void cache_keeper_kick(struct cache *c);

/* What the keeper does each second, in this thread and at once: for tests that start no keeper. */
void cache_keep_once(struct cache *c);

#endif
