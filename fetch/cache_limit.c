/* SPDX-License-Identifier: Apache-2.0 */
/* cache_limit.c - see cache_limit.h. */
#include "fetch/cache_limit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/cache_evict.h"
#include "fetch/cache_keeper.h"

enum {
	PAUSE = 60 * 1000, /* ms until what failed is tried again */
	AGAIN = 1000, /* ms until what readers have spoilt is; doubled up to PAUSE */
	TEXT = 128, /* bytes of the file */
	SLACK = 64 * CACHE_CHUNK, /* bytes that the folder may at least be over its limit */
	MAP_SHARE = 16, /* that part of the limit may be one map */
	IN_WORDS = 24, /* bytes of a limit as people read it */
};

/* ---- the file ---- */

static size_t format(char text[TEXT], const struct cache_limits *l)
{
	return (size_t)snprintf(text, TEXT, "limit=%" PRIu64 "\nkeep-free=%" PRIu64 "\n", l->limit,
				l->keep_free);
}

/* -ENOENT: there is none.  Only what `format` makes is taken. */
static int read_limits(struct cache *c, struct cache_limits *out)
{
	AUTO_CLOSE_FILE struct cache_file f = CACHE_FILE_NONE;
	AUTO_FREE char *text = NULL;
	char again[TEXT];
	size_t n;
	int r = cache_folder_read_file(c->root, "limits", TEXT, &f, &text, &n, NULL);

	if (r < 0)
		return r == -EFBIG ? -EUCLEAN : r;
	if (sscanf(text, "limit=%" SCNu64 "\nkeep-free=%" SCNu64, &out->limit, &out->keep_free) !=
		    2 ||
	    format(again, out) != n || memcmp(again, text, n) != 0)
		return -EUCLEAN;
	return 0;
}

static int write_limits(struct cache *c, const struct cache_limits *l, struct err *e)
{
	char text[TEXT];
	size_t n = format(text, l);

	return cache_folder_replace_file(c->root, "limits", text, n, true, e);
}

static void use_limits(struct cache *c, const struct cache_limits *l)
{
	atomic_store(&c->limit, l->limit);
	atomic_store(&c->keep_free, l->keep_free);
}

void cache_limit_load(struct cache *c)
{
	struct cache_limits l;
	int r = read_limits(c, &l);

	if (r == 0)
		use_limits(c, &l);
	else if (r == -EUCLEAN && !atomic_exchange(&c->told_limits, true))
		log_warn(
			"cache %s: the file v1/limits is damaged and not used; cache-limit= writes "
			"it anew",
			c->dir);
}

void cache_limit_keep(struct cache *c)
{
	const struct cache_limits ours = { atomic_load(&c->limit), atomic_load(&c->keep_free) };
	struct cache_limits there;

	if (read_limits(c, &there) == -ENOENT)
		(void)write_limits(c, &ours, NULL);
}

static const char *describe(uint64_t n, char out[IN_WORDS])
{
	static const char units[] = "BKMGT";
	size_t unit = 0;

	while (n > 0 && n % 1024 == 0 && unit + 2 < sizeof units) {
		n /= 1024;
		unit++;
	}
	if (n == 0)
		snprintf(out, IN_WORDS, "none");
	else
		snprintf(out, IN_WORDS, "%" PRIu64 "%c", n, units[unit]);
	return out;
}

static void tell_change(const struct cache *c, const char *what, uint64_t old, uint64_t now)
{
	char a[IN_WORDS], b[IN_WORDS];

	if (old != now)
		log_warn("cache %s: %s is now %s, for all programs that use the folder; it was %s",
			 c->dir, what, describe(now, b), describe(old, a));
}

static void merge(struct cache_limits *into, const struct cache_limits *l)
{
	if (l->limit != CACHE_LIMIT_FOLDER)
		into->limit = l->limit;
	if (l->keep_free != CACHE_LIMIT_FOLDER)
		into->keep_free = l->keep_free;
}

/* (16) False: it is open, or the keeper has opened it meanwhile: then these are the folder's. */
static bool note_limits(struct cache *c, const struct cache_limits *l)
{
	if (cache_is_open(c))
		return false;
	if (l->limit != CACHE_LIMIT_FOLDER)
		atomic_store(&c->limit, l->limit);
	if (l->keep_free != CACHE_LIMIT_FOLDER)
		atomic_store(&c->keep_free, l->keep_free);
	return !cache_is_open(c);
}

void cache_set_limits(struct cache *c, const struct cache_limits *l)
{
	struct cache_limits old, now;
	struct err e;
	int known;

	if (note_limits(c, l))
		return;
	known = read_limits(c, &old);
	if (known < 0)
		old = (struct cache_limits){ CACHE_LIMIT_DEFAULT, 0 };
	now = old;
	merge(&now, l);
	use_limits(c, &now);
	if (known < 0 && known != -ENOENT && l->limit == CACHE_LIMIT_FOLDER &&
	    l->keep_free == CACHE_LIMIT_FOLDER)
		return; /* what could not be read may still say something */
	if (known == 0 && memcmp(&old, &now, sizeof now) == 0)
		return;
	if (known == 0) {
		tell_change(c, "cache-limit", old.limit, now.limit);
		tell_change(c, "cache-keep-free", old.keep_free, now.keep_free);
	}
	if (write_limits(c, &now, &e) < 0)
		log_debug("cache %s: limits: %s; they hold for this program alone", c->dir, e.msg);
}

void cache_get_limits(const struct cache *c, struct cache_limits *out)
{
	*out = (struct cache_limits){ atomic_load(&c->limit), atomic_load(&c->keep_free) };
}

/* ---- above it? ---- */

void cache_limit_look_at_disk(struct cache *c)
{
	struct cache_disk_room room;

	if (atomic_load(&c->keep_free) > 0 && c->ops->room(c->root.fd, &room) == 0)
		atomic_store(&c->disk_free, room.free);
	else
		atomic_store(&c->disk_free, UINT64_MAX);
}

static uint64_t above_limit(const struct cache *c)
{
	uint64_t limit = atomic_load(&c->limit), usage = atomic_load(c->usage);

	return limit > 0 && usage > limit ? usage - limit : 0;
}

static uint64_t missing_free(const struct cache *c)
{
	uint64_t keep = atomic_load(&c->keep_free), there = atomic_load(&c->disk_free);

	return there < keep ? keep - there : 0;
}

uint64_t cache_limit_excess(const struct cache *c)
{
	return max_u64(above_limit(c), missing_free(c));
}

static uint64_t slack(const struct cache *c)
{
	return max_u64(atomic_load(&c->limit) / 16, SLACK);
}

bool cache_limit_is_far_over(const struct cache *c)
{
	return above_limit(c) > slack(c) || missing_free(c) > 0;
}

bool cache_limit_allows_map(const struct cache *c, uint64_t bytes)
{
	uint64_t limit = atomic_load(&c->limit);

	return limit == 0 || bytes <= limit / MAP_SHARE;
}

/* ---- evicting ---- */

static uint64_t less(uint64_t from, uint64_t n)
{
	return from - min_u64(from, n);
}

/* How much may stay, UINT64_MAX: all. */
static uint64_t find_target(const struct cache *c, bool full)
{
	uint64_t usage = atomic_load(c->usage), limit = atomic_load(&c->limit), target = UINT64_MAX;
	uint64_t lack = missing_free(c);

	if (above_limit(c) > 0)
		target = limit - limit / 10;
	if (lack > 0)
		target = min_u64(target, less(usage, lack + lack / 10));
	if (full)
		target = min_u64(target, less(usage, max_u64(usage / 10, SLACK)));
	return target;
}

static void tell_too_small(struct cache *c, uint64_t pinned)
{
	char limit[IN_WORDS];

	if (!c->told_small)
		log_warn(
			"cache %s: its open layers need %" PRIu64
			" KiB to be kept at all, more than cache-limit=%s allows: reads fetch what "
			"does not fit each time",
			c->dir, pinned / 1024, describe(atomic_load(&c->limit), limit));
	c->told_small = true;
}

/* A run has freed less than it should (15): because there is no more, or because readers marked and
 * filled meanwhile, which is soon tried again. */
static void rest_after(struct cache *c, int r)
{
	uint64_t limit = atomic_load(&c->limit), pinned = r == 0 ? cache_evict_pinned(c) : 0;
	bool too_small = above_limit(c) > 0 && pinned > limit;

	if (r == 0 && missing_free(c) == 0 && !too_small)
		c->rest = c->rest == 0 ? AGAIN : min_u64(2 * c->rest, PAUSE);
	else
		c->rest = PAUSE;
	c->rest_until = clock_ms() + c->rest;
	c->rest_usage = atomic_load(c->usage);
	if (too_small)
		tell_too_small(c, pinned);
}

static void evict_to(struct cache *c, uint64_t target, bool full)
{
	uint64_t wanted = less(atomic_load(c->usage), target), freed;
	struct err e;
	int r = cache_evict_run(c, target, 0, &freed, &e);

	if (r == -EAGAIN) {
		if (full)
			atomic_store(&c->full, true);
		return;
	}
	if (r < 0 && !c->evict_failed) {
		log_warn("cache %s: evicting: %s", c->dir, e.msg);
		c->evict_failed = true;
	}
	if (full && freed > 0)
		atomic_store(&c->paused_until, 0); /* (14) */
	cache_limit_look_at_disk(c);
	if (cache_limit_excess(c) == 0 || freed >= wanted)
		c->rest = 0;
	else
		rest_after(c, r);
}

void cache_limit_evict(struct cache *c)
{
	uint64_t target;
	bool full;

	if (pthread_mutex_trylock(&c->limiting) != 0)
		return; /* another thread is at it */
	full = atomic_exchange(&c->full, false);
	target = find_target(c, full);
	if (target < UINT64_MAX && (full || clock_ms() >= c->rest_until ||
				    atomic_load(c->usage) > c->rest_usage + slack(c)))
		evict_to(c, target, full);
	atomic_store(&c->kicked, cache_limit_excess(c) > 0);
	pthread_mutex_unlock(&c->limiting);
}

int cache_limit_make_room(struct cache *c, uint64_t bytes, struct err *e)
{
	uint64_t limit = atomic_load(&c->limit), freed;
	char text[IN_WORDS];
	int r;

	if (!cache_is_open(c))
		return err_set(e, ENOSPC, "cache %s: it cannot be used at the moment", c->dir);
	if (limit == 0 || atomic_load(c->usage) + bytes <= limit)
		return 0;
	if (bytes > limit)
		return err_set(e, ENOSPC, "%" PRIu64 " bytes do not fit under cache-limit=%s",
			       bytes, describe(limit, text));
	r = cache_evict_run(c, limit - bytes, CACHE_EVICT_WAIT | CACHE_EVICT_SPARE, &freed, e);
	if (r < 0)
		return err_wrap(e, r, "cache %s", c->dir);
	if (atomic_load(c->usage) + bytes <= limit)
		return 0;
	return err_set(e, ENOSPC,
		       "%" PRIu64 " bytes do not fit under cache-limit=%s beside the %" PRIu64
		       " that are being filled or in use",
		       bytes, describe(limit, text), atomic_load(c->usage));
}

/* ---- trouble, (14) ---- */

bool cache_is_filling(const struct cache *c)
{
	uint64_t until = atomic_load(&c->paused_until);

	return cache_is_open(c) && (until == 0 || clock_ms() >= until);
}

static void pause_filling(struct cache *c, bool full, const char *why)
{
	uint64_t now = clock_ms();

	atomic_store(&c->trouble_at, now);
	atomic_store(&c->paused_until, now + PAUSE);
	if (!atomic_exchange(&c->told_trouble, true))
		log_warn(
			"cache %s: %s; %s", c->dir, why,
			full ? "what was used least recently makes room, else nothing more is kept "
			       "in it until there is room"
			     : "nothing more is kept in it until that works again");
	if (full) {
		atomic_store(&c->full, true);
		cache_keeper_kick(c);
	}
}

int cache_limit_trouble(struct cache *c, int r, const char *why)
{
	bool full = r == -ENOSPC || r == -EDQUOT;

	if (full || r == -EROFS || r == -EACCES || r == -EPERM || r == -EIO || r == -EMFILE ||
	    r == -ENFILE)
		pause_filling(c, full, why);
	return r;
}

void cache_limit_worked(struct cache *c)
{
	if (!atomic_load_explicit(&c->told_trouble, memory_order_relaxed) ||
	    clock_ms() - atomic_load(&c->trouble_at) < PAUSE)
		return;
	atomic_store(&c->paused_until, 0);
	if (atomic_exchange(&c->told_trouble, false))
		log_warn("cache %s: it works again: what is fetched is kept", c->dir);
}
