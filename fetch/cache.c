/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - the blobs that are open in a cache folder, see cache.h.  Invariants 1 to 6 are those of
 * cache_map.c; these are about the two levels of a blob.
 *
 * (7) A reader of an origin's blob sees v1/sha256's copy and that origin's, nothing else.  What was
 *     fetched goes to the origin's; into v1/sha256 come only bytes that were hashed as part of a
 * right whole (cache_whole.c).  So no origin can make another's reads wrong. (8) Levels are
 * replaced, never changed: a folder that was dropped or moved is found out by its path leading
 * elsewhere, once a second, or when a publish meets a sealed map.  Reading the old one meanwhile is
 * harmless: its bytes were and stay what they were fetched as. (9) Trouble
 * pauses filling (cache_limit.c); no read ever fails of it. */
#include "fetch/cache.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/cache_evict.h"
#include "fetch/cache_keeper.h"
#include "fetch/cache_limit.h"

enum { TRIES = 8 }; /* of opening what others remove meanwhile */

int cache_hash(const void *bytes, size_t n, char out[CACHE_PLACE], struct err *e)
{
	char digest[DIGEST_TEXT];
	struct source *s;
	int r = source_open_memory(bytes, n, &s, e);

	if (r < 0)
		return r;
	r = digest_source(s, digest, e);
	source_close(s);
	if (r == 0)
		memcpy(out, digest + strlen("sha256:"), CACHE_PLACE);
	return r;
}

/* ---- levels ---- */

/* One of which nothing should be kept. */
static void set_aside(struct cache *c, const char *path, const char *why)
{
	if (why)
		log_warn("cache %s: %s: %s; it is discarded", c->dir, path, why);
	(void)cache_folder_remove(c->root, path, NULL); /* another may have done it */
}

int cache_open_map(struct cache *c, const char *path, const char *digest, uint64_t size,
		   bool create, const struct cache_map_counters *counters, struct cache_map **out,
		   struct err *e)
{
	struct err why = { .msg = "it is wrong, and cannot be removed" };
	int tries, r = 0;

	for (tries = 0; tries < TRIES; tries++) {
		if (r == -ESTALE) /* who removes it may be slow */
			clock_sleep((uint64_t)1 << tries);
		r = cache_map_open(c->root, path, digest, size, create, counters, out, &why);
		if (r == 0 && (cache_map_flags(*out) & CACHE_MAP_WRONG) &&
		    cache_map_take_alone(*out)) {
			/* Those who were to know that it was wrong have closed it. */
			set_aside(c, path, NULL);
			cache_map_close(*out);
			r = -ESTALE;
		} else if (r == -EUCLEAN) {
			set_aside(c, path, why.msg);
		} else if (r != -ESTALE) {
			return r < 0 ? err_set(e, -r, "%s", why.msg) : 0;
		}
		if (!create)
			return err_set(e, ENOENT, "%s", strerror(ENOENT));
	}
	return err_set(e, -r, "%s", why.msg);
}

struct cache_map_counters cache_blob_counters(struct cache_blob *b)
{
	return (struct cache_map_counters){ b->cache->usage, &b->bad, &b->cache->recheck };
}

/* Only a size that differs is an error: what cannot be opened is as good as not there. */
static int open_shared(struct cache_blob *b, struct cache_map **out, struct err *e)
{
	const struct cache_map_counters counters = cache_blob_counters(b);
	int r = cache_open_map(b->cache, b->shared_path, b->digest, b->size, false, &counters, out,
			       e);

	if (r < 0)
		*out = NULL;
	return r == -EBADMSG ? r : 0;
}

/* The origin's folder, and a file in it that tells people which. */
static int make_place(const struct cache_blob *b, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file place = CACHE_FILE_NONE;
	int r = cache_folder_enter(b->cache->root, b->place, true, &place, e);

	if (r == -EUCLEAN) {
		set_aside(b->cache, b->place, "not a folder");
		r = cache_folder_enter(b->cache->root, b->place, true, &place, e);
	}
	if (r == 0 && place.ops->exists(place.fd, "origin") < 0)
		(void)cache_folder_replace_file(place, "origin", b->origin, strlen(b->origin),
						false, NULL);
	return r;
}

/* A seal stays when whoever checked the whole died.  With the checker's right in hand, and the
 * folder where it was, nobody is at it. */
static void break_stale_seal(const struct cache_blob *b, struct cache_map *own)
{
	if (!(cache_map_flags(own) & CACHE_MAP_SEALED) || !cache_map_take(own, CACHE_MAP_CHECKER))
		return;
	if (cache_map_is_at(own, b->cache->root, b->own_path))
		(void)cache_map_change_flags(own, 0, CACHE_MAP_SEALED);
	cache_map_yield(own, CACHE_MAP_CHECKER);
}

static int open_own(struct cache_blob *b, struct cache_map **out, struct err *e)
{
	const struct cache_map_counters counters = cache_blob_counters(b);
	bool create = cache_is_filling(b->cache);
	struct err why = { .msg = "" };
	int tries = 0, r;

	do {
		r = create ? make_place(b, &why) : 0;
		if (r == 0)
			r = cache_open_map(b->cache, b->own_path, b->digest, b->size, create,
					   &counters, out, &why);
	} while (r == -ENOENT && create && ++tries < TRIES);
	if (r == 0)
		return 0;
	*out = NULL;
	cache_limit_trouble(b->cache, r, why.msg);
	return cache_is_filling(b->cache) || r == -EBADMSG ? err_set(e, -r, "%s", why.msg) : 0;
}

static void hold_levels(const struct cache_blob *b)
{
	if (b->shared)
		cache_map_hold(b->shared);
	if (b->own)
		cache_map_hold(b->own);
}

void cache_blob_set_levels_locked(struct cache_blob *b, struct cache_map *shared,
				  struct cache_map *own)
{
	struct cache_map *old[] = { b->shared, b->own };
	size_t i;

	if (shared == b->shared && own == b->own)
		return;
	for (i = 0; i < LEVEL_LOCKS; i++)
		pthread_rwlock_wrlock(&b->locks[i].lock);
	b->shared = shared;
	b->own = own;
	for (i = 0; i < LEVEL_LOCKS; i++)
		pthread_rwlock_unlock(&b->locks[i].lock);
	for (i = 0; i < sizeof old / sizeof *old; i++)
		if (old[i] != shared && old[i] != own)
			cache_map_close(old[i]);
	if (b->held)
		hold_levels(b);
}

static bool is_whole(const struct cache_map *m)
{
	return m && (cache_map_flags(m) & CACHE_MAP_WHOLE);
}

int cache_blob_renew_locked(struct cache_blob *b, struct err *e)
{
	struct cache_map *shared = b->shared, *own = b->own;
	int r = 0;

	if (!cache_is_open(b->cache))
		return 0;
	if (shared && !cache_map_is_at(shared, b->cache->root, b->shared_path))
		shared = NULL;
	if (own && !cache_map_is_at(own, b->cache->root, b->own_path))
		own = NULL;
	if (!shared)
		r = open_shared(b, &shared, e);
	if (is_whole(shared) && !b->checking)
		own = NULL; /* nothing in it is missed; it may even be known to be wrong */
	else if (r == 0 && !own)
		r = open_own(b, &own, e);
	if (own && !b->checking)
		break_stale_seal(b, own);
	cache_blob_set_levels_locked(b, shared, own);
	return r;
}

/* ---- a blob ---- */

static int init_blob(struct cache_blob *b, const char *origin, const char *digest, uint64_t size,
		     struct err *e)
{
	pthread_rwlockattr_t fair;
	size_t i;

	if (!digest_is_any(digest))
		return err_set(e, EINVAL, "'%.136s' is not " DIGEST_FORM, digest);
	b->size = size;
	b->chunks = size / CACHE_CHUNK + (size % CACHE_CHUNK != 0);
	digest_copy(b->digest, digest);
	b->origin = strdup(origin);
	if (!b->origin)
		return err_set(e, ENOMEM, "out of memory");
	pthread_mutex_init(&b->change, NULL);
	pthread_rwlockattr_init(&fair); /* readers that never end must not keep a new level out */
	pthread_rwlockattr_setkind_np(&fair, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	for (i = 0; i < LEVEL_LOCKS; i++)
		pthread_rwlock_init(&b->locks[i].lock, &fair);
	pthread_rwlockattr_destroy(&fair);
	return cache_hash(origin, strlen(origin), b->place, e);
}

static void free_blob(struct cache_blob *b)
{
	bool made = b->own && cache_map_is_made(b->own);
	size_t i;

	cache_map_close(b->shared);
	cache_map_close(b->own);
	if (b->own_path[0] && !made && cache_is_open(b->cache))
		cache_map_remove_unmade(b->cache->root, b->own_path);
	if (b->origin) { /* as far as init_blob came */
		for (i = 0; i < LEVEL_LOCKS; i++)
			pthread_rwlock_destroy(&b->locks[i].lock);
		pthread_mutex_destroy(&b->change);
	}
	free(b->origin);
	free(b);
}

static void add_blob(struct cache *c, struct cache_blob *b)
{
	WITH_LOCK(&c->lock);
	b->next = c->blobs;
	c->blobs = b;
}

int cache_blob_open(struct cache *c, const char *origin, const char *digest, uint64_t size,
		    struct cache_blob **out, struct err *e)
{
	struct cache_blob *b = calloc(1, sizeof *b);
	int r;

	if (!b)
		return err_set(e, ENOMEM, "out of memory");
	b->cache = c;
	r = init_blob(b, origin, digest, size, e);
	if (r == 0) {
		snprintf(b->own_path, sizeof b->own_path, "%s/%s", b->place, digest);
		snprintf(b->shared_path, sizeof b->shared_path, CACHE_SHARED "/%s", digest);
		r = cache_blob_renew_locked(b, e); /* nobody else knows it */
	}
	if (r < 0) {
		free_blob(b);
		return err_wrap(e, r, "cache %s", c->dir);
	}
	add_blob(c, b);
	*out = b;
	return 0;
}

/* Takes the blob from the keeper, who may be at work on it. */
static void remove_blob(struct cache *c, struct cache_blob *b)
{
	struct cache_blob **at = &c->blobs;

	atomic_store(&b->closing, true);
	WITH_LOCK(&c->lock);
	while (c->tended == b)
		clock_wait(&c->changed, &c->lock, CLOCK_NEVER);
	while (*at != b)
		at = &(*at)->next;
	*at = b->next;
	if (c->next == b)
		c->next = b->next;
}

void cache_blob_close(struct cache_blob *b)
{
	if (!b)
		return;
	remove_blob(b->cache, b);
	free_blob(b);
}

static void note_damage(const struct cache_blob *b)
{
	if (!atomic_exchange(&b->cache->told_damage, true))
		log_warn("cache %s: %s is damaged there (a crash? a bad disk?), and fetched again",
			 b->cache->dir, b->digest);
}

/* Lets the caller use the levels until it unlocks what is returned. */
static pthread_rwlock_t *use_levels(const struct cache_blob *b)
{
	unsigned here = (unsigned)sched_getcpu() % LEVEL_LOCKS; /* any will do */
	pthread_rwlock_t *lock = (pthread_rwlock_t *)(uintptr_t)&b->locks[here].lock;

	pthread_rwlock_rdlock(lock);
	return lock;
}

size_t cache_blob_read(struct cache_blob *b, void *buf, size_t n, uint64_t off)
{
	pthread_rwlock_t *lock;
	size_t done = 0, before;

	if (off >= b->size)
		return 0;
	lock = use_levels(b);
	do {
		before = done;
		if (b->shared)
			done += cache_map_read(b->shared, (char *)buf + done, n - done, off + done,
					       CACHE_MAP_TOUCH);
		if (b->own)
			done += cache_map_read(b->own, (char *)buf + done, n - done, off + done,
					       CACHE_MAP_TOUCH);
	} while (b->shared && b->own && done > before && done < n);
	pthread_rwlock_unlock(lock);
	if (done < n && cache_blob_bad_chunks(b) > 0)
		note_damage(b);
	return done;
}

static bool has_locked(const struct cache_blob *b, uint64_t chunk)
{
	return (b->shared && cache_map_has(b->shared, chunk)) ||
	       (b->own && cache_map_has(b->own, chunk));
}

bool cache_blob_has(const struct cache_blob *b, uint64_t chunk)
{
	pthread_rwlock_t *lock = use_levels(b);
	bool has;

	has = chunk < b->chunks && has_locked(b, chunk);
	pthread_rwlock_unlock(lock);
	return has;
}

enum cache_state cache_blob_state(const struct cache_blob *b)
{
	pthread_rwlock_t *lock = use_levels(b);
	unsigned shared, own;

	shared = b->shared ? cache_map_flags(b->shared) : 0;
	own = b->own ? cache_map_flags(b->own) : 0;
	pthread_rwlock_unlock(lock);
	if ((shared | own) & CACHE_MAP_WRONG)
		return CACHE_WRONG;
	return shared & CACHE_MAP_WHOLE ? CACHE_WHOLE : CACHE_PARTIAL;
}

bool cache_blob_is_sealed(const struct cache_blob *b)
{
	pthread_rwlock_t *lock = use_levels(b);
	bool sealed = b->own && (cache_map_flags(b->own) & CACHE_MAP_SEALED);

	pthread_rwlock_unlock(lock);
	return sealed;
}

bool cache_blob_is_filling(const struct cache_blob *b)
{
	return cache_is_filling(b->cache);
}

bool cache_blob_has_map(const struct cache_blob *b)
{
	pthread_rwlock_t *lock = use_levels(b);
	bool has = b->shared || (b->own && cache_map_is_made(b->own));

	pthread_rwlock_unlock(lock);
	return has;
}

uint64_t cache_blob_bad_chunks(const struct cache_blob *b)
{
	return atomic_load_explicit(&b->bad, memory_order_relaxed);
}

/* ---- filling ---- */

/* (13) Whoever makes manifests can claim any size: a map that is out of proportion is not made. */
static bool allows_map(struct cache_blob *b)
{
	uint64_t cost = cache_map_cost(b->size);

	if (cache_map_is_made(b->own) || cache_limit_allows_map(b->cache, cost))
		return true;
	if (!atomic_exchange(&b->told_map, true))
		log_warn("cache %s: %s is not kept: a blob of %" PRIu64 " bytes needs %" PRIu64
			 " for its map, too many for the cache-limit",
			 b->cache->dir, b->digest, b->size, cost);
	return false;
}

static int publish_once(struct cache_blob *b, uint64_t chunk, const void *bytes)
{
	pthread_rwlock_t *lock = use_levels(b);
	int r = -ESTALE;

	if (has_locked(b, chunk))
		r = 0;
	else if (b->own && !allows_map(b))
		r = -EFBIG;
	else if (b->own)
		r = cache_map_publish(b->own, chunk, bytes, false);
	else if (is_whole(b->shared)) /* a power loss spared the flag alone */
		(void)cache_map_change_flags(b->shared, 0, CACHE_MAP_WHOLE);
	pthread_rwlock_unlock(lock);
	return r;
}

/* Not while somebody checks the whole: then nothing is missing anyway. */
static int renew(struct cache_blob *b)
{
	int r;

	if (pthread_mutex_trylock(&b->change) != 0)
		return -EBUSY;
	r = cache_blob_renew_locked(b, NULL);
	pthread_mutex_unlock(&b->change);
	return r;
}

int cache_blob_publish(struct cache_blob *b, uint64_t chunk, const void *bytes)
{
	struct cache *c = b->cache;
	int r;

	if (chunk >= b->chunks)
		return -EINVAL;
	if (cache_blob_has(b, chunk))
		return 0;
	if (!cache_is_filling(c))
		return -EROFS;
	if (cache_limit_is_far_over(c)) {
		cache_keeper_kick(c);
		return -ENOSPC;
	}
	r = publish_once(b, chunk, bytes);
	if (r == -ESTALE) {
		r = renew(b);
		if (r == 0)
			r = publish_once(b, chunk, bytes);
	}
	if (cache_limit_excess(c) > 0)
		cache_keeper_kick(c);
	if (r == 0)
		cache_limit_worked(c);
	return r == -ESTALE ? -EBUSY : cache_limit_trouble(c, r, strerror(-r));
}

void cache_blob_drop(struct cache_blob *b, uint64_t off, uint64_t n)
{
	pthread_rwlock_t *lock;
	uint64_t i;

	if (off >= b->size || n == 0)
		return;
	n = min_u64(n, b->size - off);
	lock = use_levels(b);
	for (i = off / CACHE_CHUNK; i <= (off + n - 1) / CACHE_CHUNK; i++) {
		if (b->shared)
			cache_map_drop(b->shared, i);
		if (b->own)
			cache_map_drop(b->own, i);
	}
	pthread_rwlock_unlock(lock);
}

/* Without a folder of its own the blob cannot be coordinated, and everybody may fetch. */
uint64_t cache_blob_claim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank)
{
	pthread_rwlock_t *lock;

	if (first >= b->chunks)
		return 0;
	count = min_u64(count, b->chunks - first);
	lock = use_levels(b);
	if (b->own)
		count = cache_map_claim(b->own, first, count, rank);
	pthread_rwlock_unlock(lock);
	return count;
}

void cache_blob_unclaim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank)
{
	pthread_rwlock_t *lock = use_levels(b);

	if (b->own)
		cache_map_unclaim(b->own, first, count, rank);
	pthread_rwlock_unlock(lock);
}

/* Bytes that are still to come, with the map. */
static uint64_t missing_of(const struct cache_blob *b)
{
	uint64_t missing = b->size;

	if (!b->own || !cache_map_is_made(b->own))
		missing += b->shared ? 0 : cache_map_cost(b->size);
	if (b->shared)
		missing -= min_u64(missing, cache_map_present(b->shared));
	if (b->own)
		missing -= min_u64(missing, cache_map_present(b->own));
	return missing;
}

int cache_blob_hold(struct cache_blob *b, struct err *e)
{
	uint64_t missing;

	pthread_mutex_lock(&b->change);
	b->held = true;
	hold_levels(b);
	pthread_mutex_unlock(&b->change);
	/* Whoever evicts at the moment may not have seen that: once it is done, all do. */
	cache_evict_await(b->cache);
	pthread_mutex_lock(&b->change);
	missing = missing_of(b);
	pthread_mutex_unlock(&b->change);
	return cache_limit_make_room(b->cache, missing, e);
}

bool cache_blob_claim_download(struct cache_blob *b)
{
	pthread_rwlock_t *lock = use_levels(b);
	bool mine;

	mine = !b->own || cache_map_take(b->own, CACHE_MAP_DOWNLOADER);
	pthread_rwlock_unlock(lock);
	return mine;
}

void cache_blob_unclaim_download(struct cache_blob *b)
{
	pthread_rwlock_t *lock = use_levels(b);

	if (b->own)
		cache_map_yield(b->own, CACHE_MAP_DOWNLOADER);
	pthread_rwlock_unlock(lock);
}
