/* SPDX-License-Identifier: Apache-2.0 */
/* memcache.h - what the tests of the cache on memdisk share: processes that use one folder, blobs
 * of known content, and the loop in which every operation fails once. */
#ifndef OVERLAYBD_TESTS_MEMCACHE_H
#define OVERLAYBD_TESTS_MEMCACHE_H

#include "core/base/clock.h"
#include "fetch/cache_evict.h"
#include "fetch/cache_keeper.h"
#include "tests/unit/cachelib.h"
#include "tests/unit/memdisk.h"

#define DIR "/var/cache/obd"

/* ---- the clock: one thread, nobody waits for another ---- */

static uint64_t memcache_us = 1000000000;
static uint32_t memcache_chance = 1;

static inline uint64_t memcache_now_us(void)
{
	return memcache_us;
}

static inline int64_t memcache_date(void)
{
	return (int64_t)(memcache_us / 1000000);
}

static inline void memcache_sleep(uint64_t ms)
{
	memcache_us += ms * 1000;
}

static inline void memcache_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	die("clock", "one thread would wait for itself");
}

static inline void memcache_wake(pthread_cond_t *c)
{
}

static inline uint32_t memcache_draw(void)
{
	memcache_chance = memcache_chance * 1664525 + 1013904223;
	return memcache_chance;
}

static const struct clock_ops memcache_clock = {
	.now_us = memcache_now_us,
	.date = memcache_date,
	.sleep_ms = memcache_sleep,
	.wait = memcache_wait,
	.wake = memcache_wake,
	.chance = memcache_draw,
};

/* ---- processes ---- */

/* A process that has the cache open, and one blob of it. */
struct process {
	unsigned number;
	struct cache *c;
	struct cache_blob *b;
};

static inline int memcache_open(struct process *p, unsigned number, uint64_t limit, struct err *e)
{
	memset(p, 0, sizeof *p);
	p->number = number;
	memdisk_as(number);
	return cache_open_on(&memdisk_ops, DIR, limit, &p->c, e);
}

static inline int memcache_open_blob(struct process *p, const char *origin,
				     const struct test_blob *t, struct err *e)
{
	memdisk_as(p->number);
	return cache_blob_open(p->c, origin, t->digest, t->size, &p->b, e);
}

/* Both, where nothing may fail. */
static inline struct process memcache_use(unsigned number, const char *origin,
					  const struct test_blob *t, uint64_t limit)
{
	struct process p;
	struct err e;

	if (memcache_open(&p, number, limit, &e) < 0 || memcache_open_blob(&p, origin, t, &e) < 0)
		die("memcache", e.msg);
	return p;
}

static inline void memcache_leave(struct process *p)
{
	cache_blob_close(p->b);
	cache_close(p->c);
	memset(p, 0, sizeof *p);
}

/* kill -9 */
static inline void memcache_kill(struct process *p)
{
	memdisk_kill(p->number);
	memcache_leave(p);
}

/* DIR/v1/PLACE/DIGEST/NAME; origin NULL: v1/sha256. */
static inline const char *memcache_path(const char *origin, const struct test_blob *t,
					const char *name)
{
	static char path[512];
	char place[CACHE_PLACE] = CACHE_SHARED;

	if (origin && cache_hash(origin, strlen(origin), place, NULL) < 0)
		die("hash", "failed");
	snprintf(path, sizeof path, DIR "/v1/%s/%s%s%s", place, t->digest, name ? "/" : "",
		 name ? name : "");
	return path;
}

/* Inverts a byte of a file, from outside. */
static inline void memcache_flip(const char *path, uint64_t off)
{
	uint8_t byte;

	memdisk_peek(path, off, &byte, 1);
	byte = (uint8_t)~byte;
	memdisk_poke(path, off, &byte, 1);
}

static inline int memcache_set_up(void **state)
{
	log_set_sink(count_warning);
	warnings = 0;
	clock_use(&memcache_clock);
	memdisk_make(0);
	return 0;
}

static inline int memcache_tear_down(void **state)
{
	bool left = memdisk_abandon();

	memdisk_free();
	clock_use(NULL);
	return left;
}

#endif
