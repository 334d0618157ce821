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

static const uint8_t memcache_zeros[CACHE_CHUNK];

/* A process that has a blob of so many chunks open, of which `there` are published: of zeros, and
 * nobody knows its digest. */
static inline struct process memcache_use_zeros(unsigned number, uint64_t chunks, uint64_t there)
{
	struct test_blob t = { .size = chunks * CACHE_CHUNK };
	struct process p;
	uint64_t i;

	snprintf(t.digest, sizeof t.digest, "sha256:%064x", number);
	p = memcache_use(number, GOOD, &t, 0);
	for (i = 0; i < there; i++)
		if (cache_blob_publish(p.b, i, memcache_zeros) < 0)
			die("memcache", "publish");
	return p;
}

/* Bytes of the folder, as they are counted. */
static inline uint64_t memcache_used(const struct process *p)
{
	return atomic_load(p->c->usage);
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

/* Makes a file of few bytes, from outside. */
static inline void memcache_make_file(const char *path, const char *text)
{
	int fd = memdisk_ops.open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);

	if (fd < 0 || memdisk_ops.pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text))
		die(path, "cannot be made");
	memdisk_ops.close(fd);
}

static inline void memcache_rename_away(const char *path)
{
	if (memdisk_ops.rename(AT_FDCWD, path, "/away") < 0)
		die(path, "cannot be renamed");
}

/* Inverts a byte of a file, from outside. */
static inline void memcache_flip(const char *path, uint64_t off)
{
	uint8_t byte;

	memdisk_peek(path, off, &byte, 1);
	byte = (uint8_t)~byte;
	memdisk_poke(path, off, &byte, 1);
}

/* ---- what others do meanwhile ---- */

/* Happens once, before the nth operation `op` of process 1 on a name that ends so. */
static struct {
	enum memdisk_op op;
	const char *name;
	unsigned nth;
	void (*what)(void);
	int r; /* of the operation; 0: it is done */
} memcache_meanwhile;

static inline int memcache_intrude(void *arg, enum memdisk_op op, unsigned process,
				   const char *name)
{
	size_t n = strlen(name), m;

	if (op != memcache_meanwhile.op || process != 1 || memcache_meanwhile.nth == 0)
		return 0;
	m = strlen(memcache_meanwhile.name);
	if (n < m || strcmp(name + n - m, memcache_meanwhile.name) != 0 ||
	    --memcache_meanwhile.nth > 0)
		return 0;
	if (memcache_meanwhile.what)
		memcache_meanwhile.what();
	memdisk_as(1);
	return memcache_meanwhile.r;
}

static inline void memcache_on(enum memdisk_op op, const char *name, unsigned nth,
			       void (*what)(void), int r)
{
	memcache_meanwhile.op = op;
	memcache_meanwhile.name = name;
	memcache_meanwhile.nth = nth;
	memcache_meanwhile.what = what;
	memcache_meanwhile.r = r;
	memdisk_set_hook(memcache_intrude, NULL);
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
