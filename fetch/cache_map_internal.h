/* SPDX-License-Identifier: Apache-2.0 */
/* cache_map_internal.h - what the two files of a map share: cache_map_file.c opens and makes it,
 * cache_map.c is about its chunks. */
#ifndef OVERLAYBD_FETCH_CACHE_MAP_INTERNAL_H
#define OVERLAYBD_FETCH_CACHE_MAP_INTERNAL_H

#include <pthread.h>

#include "fetch/cache_map.h"

enum {
	CACHE_MAP_MUTEXES = 16,
	CACHE_MAP_IN_USE = 0, /* offset in `lock` */
};

struct cache_map {
	struct cache_file lock;
	struct cache_file folder; /* where the map is made, or appears */
	char digest[DIGEST_TEXT];
	uint64_t size, chunks;
	struct cache_map_counters counters;
	pthread_mutex_t mutexes[CACHE_MAP_MUTEXES]; /* (3): of chunk i, [i % CACHE_MAP_MUTEXES] */
	void (*cleared)(void *arg);
	void *cleared_arg;

	/* What follows is there once `made` is set, and does not change any more, (13). */
	pthread_mutex_t making; /* held by who makes it */
	atomic_bool made;
	_Atomic uint64_t looked; /* ms: when we last looked whether another has made it */
	struct cache_file data, map;
	uint64_t mapped_size;
	_Atomic uint64_t *mapped; /* the map file */
	_Atomic uint64_t *words; /* within it */
	_Atomic uint64_t *verified; /* (4), (7): words without the referenced bit, 0: none */
	_Atomic uint32_t *checked; /* (4): s, when that was */
};

/* Extends the data to their size.  Where the file was cut, what lay behind is gone, also for those
 * who have checked it: a file that is long again would give them zeros for it. */
int cache_map_mend_data(struct cache_map *m, struct err *e);

#endif
