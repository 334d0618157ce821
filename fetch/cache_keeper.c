/* SPDX-License-Identifier: Apache-2.0 */
/* cache_keeper.c - once a second, and when kicked: looks at each open blob, then at the limit.
 *
 * A blob that the keeper looks at is `tended` and stays open until it is done; closing it makes a
 * check of the whole end early. */
#include "fetch/cache_keeper.h"

#include <errno.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/cache_evict.h"
#include "fetch/cache_limit.h"

enum {
	TEND_EVERY = 1000, /* ms */
	CHECK_PAUSE = 60 * 1000, /* ms until a check that failed is tried again: it costs a hash */
};

/* Looks whether all chunks are there, from where it last met a missing one. */
static bool is_complete(struct cache_blob *b)
{
	while (b->cursor < b->chunks && cache_blob_has(b, b->cursor))
		b->cursor++;
	return b->cursor == b->chunks;
}

/* A check that fails for another reason than the bytes, such as a full disk, is tried again. */
static void check_whole(struct cache_blob *b)
{
	struct err e = { .msg = "" };
	int r = cache_blob_verify(b, &e);

	b->cursor = 0; /* right and moved; or a chunk behind it had gone; or all of them have */
	if (r == 1 || r == -EAGAIN || r == -ECANCELED)
		return;
	if (r == 0) {
		b->told_check = false;
	} else if (r == -EBADMSG) {
		log_warn("cache %s: %s: %s", b->cache->dir, b->digest, e.msg);
	} else {
		b->check_at = clock_ms() + CHECK_PAUSE;
		if (!b->told_check)
			log_warn("cache %s: %s: %s; this is tried again each minute", b->cache->dir,
				 b->digest, e.msg);
		b->told_check = true;
	}
}

static void tend(struct cache_blob *b)
{
	if (pthread_mutex_trylock(&b->change) != 0)
		return; /* somebody checks the whole */
	(void)cache_blob_renew_locked(b, NULL);
	pthread_mutex_unlock(&b->change);
	if (cache_blob_state(b) != CACHE_WHOLE && clock_ms() >= b->check_at && is_complete(b))
		check_whole(b);
}

static void tend_blobs_locked(struct cache *c)
{
	c->next = c->blobs;
	while (c->next && !atomic_load(&c->stopping)) {
		c->tended = c->next;
		c->next = c->tended->next;
		pthread_mutex_unlock(&c->lock);
		tend(c->tended);
		pthread_mutex_lock(&c->lock);
		c->tended = NULL;
		clock_wake(&c->changed); /* cache_blob_close may wait */
	}
}

/* A kick ends the sleep, but not when the last one could not be obeyed: then a kick is pending. */
static void sleep_locked(struct cache *c, uint64_t until)
{
	bool pending = atomic_load(&c->kicked);

	while (!atomic_load(&c->stopping) && (pending || !atomic_load(&c->kicked)) &&
	       clock_ms() < until)
		clock_wait(&c->changed, &c->lock, until);
}

/* After a crash the count may be wrong. */
static void count_once(struct cache *c)
{
	if (!c->counted)
		(void)cache_evict_recount(c, false, NULL);
	c->counted = true;
}

/* The blobs; once a second is enough. */
static void look_after_blobs(struct cache *c)
{
	cache_renew(c);
	if (!cache_is_open(c))
		return;
	count_once(c);
	cache_limit_load(c);
	cache_limit_look_at_disk(c);
	pthread_mutex_lock(&c->lock);
	tend_blobs_locked(c);
	pthread_mutex_unlock(&c->lock);
}

static void evict(struct cache *c)
{
	if (cache_is_open(c))
		cache_limit_evict(c);
}

void cache_keep_once(struct cache *c)
{
	look_after_blobs(c);
	evict(c);
}

static void *keep(void *arg)
{
	struct cache *c = arg;
	uint64_t now, next = 0; /* ms */

	while (!atomic_load(&c->stopping)) {
		now = clock_ms();
		if (now >= next) {
			look_after_blobs(c);
			next = now + TEND_EVERY;
		}
		evict(c);
		pthread_mutex_lock(&c->lock);
		sleep_locked(c, next);
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

int cache_start(struct cache *c, struct err *e)
{
	int r;

	atomic_store(&c->stopping, false);
	r = clock_thread(&c->keeper, keep, c);
	if (r != 0)
		return err_set(e, EAGAIN, "cache %s: starting a thread: %s", c->dir, strerror(r));
	c->running = true;
	return 0;
}

void cache_stop(struct cache *c)
{
	if (!c->running)
		return;
	pthread_mutex_lock(&c->lock);
	atomic_store(&c->stopping, true);
	clock_wake(&c->changed);
	pthread_mutex_unlock(&c->lock);
	clock_join(c->keeper);
	atomic_store(&c->stopping, false); /* cache_blob_verify may still be called */
	c->running = false;
}

void cache_keeper_kick(struct cache *c)
{
	if (atomic_exchange(&c->kicked, true))
		return;
	WITH_LOCK(&c->lock);
	clock_wake(&c->changed);
}
