/* SPDX-License-Identifier: Apache-2.0 */
/* cache_internal.h - what the cache's own files share: the structs behind cache.h.
 *
 * Order of locks: blob.change, blob.locks; cache.evicting; cache.lock is a leaf. */
#ifndef OVERLAYBD_FETCH_CACHE_INTERNAL_H
#define OVERLAYBD_FETCH_CACHE_INTERNAL_H

#include <pthread.h>

#include "fetch/cache_map.h"

/* DIR/v1/usage.  The hand belongs to whoever evicts. */
struct cache_usage_page {
	_Atomic uint64_t bytes; /* of all chunks and maps in the folder */
	_Atomic uint64_t hand_chunk; /* of the blob at hand_path: where the clock goes on */
	char hand_path[CACHE_PATH];
};

struct cache {
	const struct cache_disk_ops *ops;
	char *dir; /* as given, for messages and documents */
	atomic_bool closed; /* (16): the folder could not be opened yet */
	uint64_t open_at; /* ms, the keeper's: not before then */
	/* bytes, 0: none; see cache_limit.h.  While closed: what was asked for. */
	_Atomic uint64_t limit, keep_free;
	_Atomic uint64_t disk_free; /* bytes, when we looked last; UINT64_MAX: it does not matter */
	/* DIR/v1, and what is held by who evicts.  Their descriptors keep their numbers when they
	 * are opened anew, for other threads use them. */
	struct cache_file root, lock_file;
	struct cache_file usage_file;
	struct cache_usage_page *page;
	_Atomic uint64_t *usage; /* its bytes */
	_Atomic uint32_t recheck; /* s, see cache_map_counters */
	/* (14), ms: filling is paused until then (0: it is not); when there was trouble last. */
	_Atomic uint64_t paused_until, trouble_at;
	atomic_bool told_trouble; /* a warning was given, and not taken back */
	atomic_bool told_limits; /* the file is damaged, and a warning was given */
	atomic_bool full; /* the disk took no more since something was evicted */
	pthread_mutex_t limiting; /* held by the thread that sees to the limit, as what follows */
	uint64_t rest_until, rest, rest_usage; /* (15), ms, ms and bytes */
	bool told_small, evict_failed; /* warnings that were given */
	atomic_bool told_damage; /* a warning was given */
	atomic_bool kicked; /* the keeper was told that the folder is over its limit */
	pthread_mutex_t evicting; /* lock_file between the threads of this process */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* stopping, a kick, a blob no longer tended */
	struct cache_blob *blobs; /* guarded by lock, as all below */
	struct cache_blob *next; /* that the keeper looks at */
	struct cache_blob *tended; /* that it looks at now: must stay open */
	bool running; /* not guarded: start and stop run alone */
	atomic_bool stopping; /* read without the lock too */
	bool counted; /* the folder's bytes, when the keeper began; the keeper's */
	pthread_t keeper;
};

enum { LEVEL_LOCKS = 16 };

struct cache_blob {
	struct cache *cache;
	struct cache_blob *next; /* guarded by cache->lock */
	char *origin;
	char digest[DIGEST_ANY_TEXT];
	char place[CACHE_PLACE]; /* of the origin */
	char own_path[CACHE_PATH], shared_path[CACHE_PATH];
	uint64_t size, chunks;
	/* The two levels, NULL where there is none.  They change under `change` and all of `locks`;
	 * `change` or one of `locks`, that of the reader's processor, is enough to use them.  So
	 * readers do not pass one cache line around.  `change` is held long (while the whole is
	 * checked), `locks` never. */
	pthread_mutex_t change;
	union {
		pthread_rwlock_t lock;
		char line[128]; /* no two of them in one cache line, wherever the struct begins */
	} locks[LEVEL_LOCKS];
	struct cache_map *shared, *own;
	bool checking; /* the seal of `own` is ours; guarded by change */
	_Atomic uint64_t bad;
	atomic_bool closing; /* whoever checks the whole gives up */
	uint64_t cursor; /* the keeper's: all chunks before it were seen present */
	bool held; /* cache_blob_hold; guarded by change */
	atomic_bool told_map; /* a warning was given: its map is too large */
	uint64_t check_at; /* ms, the keeper's: not before then, for a check has failed */
	bool told_check; /* the keeper's: a warning was given about that */
};

/* (16) */
static inline bool cache_is_open(const struct cache *c)
{
	return !atomic_load(&c->closed);
}

/* Opens anew what was removed or replaced of the folder itself: DIR/v1, usage, lock; or all of it,
 * when that was not possible before. */
void cache_renew(struct cache *c);

struct cache_map_counters cache_blob_counters(struct cache_blob *b);

/* Opens a folder of the cache; what is damaged there is set aside and, with `create`, made anew.
 * -ENOENT as cache_map_open. */
int cache_open_map(struct cache *c, const char *path, const char *digest, uint64_t size,
		   bool create, const struct cache_map_counters *counters, struct cache_map **out,
		   struct err *e);

/* Closes levels that were removed, replaced or moved, and opens what is there now.  The caller
 * holds b->change. */
int cache_blob_renew_locked(struct cache_blob *b, struct err *e);

/* Replaces both levels and closes what is no longer one.  The caller holds b->change. */
void cache_blob_set_levels_locked(struct cache_blob *b, struct cache_map *shared,
				  struct cache_map *own);

/* Adds what the documents take to *sum. */
int cache_documents_count(struct cache *c, uint64_t *sum, struct err *e);

/* Deletes documents, least recently used first, until they take at most `target` bytes.  Returns
 * how many were freed.  The caller has the right to evict. */
uint64_t cache_documents_trim(struct cache *c, uint64_t target);

/* The sha256 of n bytes as 64 hex digits. */
int cache_hash(const void *bytes, size_t n, char out[CACHE_PLACE], struct err *e);

#endif
