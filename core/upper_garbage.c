/* SPDX-License-Identifier: Apache-2.0 */
/* upper_garbage.c - giving back the space of what nothing maps any more, see upper_log.c for the
 * invariants.
 *
 * Data dies in three steps: a record supersedes it (`dying`), that record is durable (`fresh`), the
 * readers that may have looked at the map before are gone (`waiting`).  Then a hole is punched.
 *
 * What this loses sight of - pieces that an earlier process left, that were too small by
 * themselves, that did not fit into the list, whose hole could not be punched - is found by a
 * search: all of the data file that the map does not lead to, up to where it ended when the search
 * began.  A search is due when the file takes more space than live data account for.
 *
 * Where little is to be had, nothing is done for it.  But for a while after a change has found no
 * space, searches give back all there is: they alone put together the pieces of a block that died
 * one by one. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_private.h"

enum {
	HOLE = 4096 / SECTOR, /* sectors: smaller holes give no space back */
	MIN_RECORDS = 4096,
	MIN_BYTES = 16 * 1024 * 1024, /* of garbage, and */
	LIVE_DIVISOR = 4, /* this part of what is live: else there is little to be had */
	SPARE_BYTES = 32 * 1024 * 1024, /* that may be taken over 3/2 of what is live: a search */
	PUNCH_MS = 100, /* at most, at a time */
	RETRY_MS = 30 * 1000, /* after a hole that could not be punched */
	FULL_MS = 10 * 60 * 1000, /* a disk counts as full since the last change without space */
	FULL_PAUSE = 2 * 1000, /* ms between two searches for its sake */
	PIECES = 64,
};

/* ---- holes ---- */

void upper_garbage_init(struct upper_garbage *g, const struct upper_log_options *options)
{
	*g = (struct upper_garbage){
		.percent = options->garbage,
		.min_records = options->garbage_records ? options->garbage_records : MIN_RECORDS,
		.min_bytes = options->garbage_bytes,
	};
	pthread_mutex_init(&g->lock, NULL);
	pthread_mutex_init(&g->tidy_lock, NULL);
}

void upper_garbage_release(struct upper_garbage *g)
{
	pthread_mutex_destroy(&g->lock);
	pthread_mutex_destroy(&g->tidy_lock);
	upper_ranges_release(&g->fresh);
	upper_ranges_release(&g->waiting);
	upper_ranges_release(&g->live);
}

void upper_garbage_add(struct upper_garbage *g, struct upper_ranges *dead)
{
	WITH_LOCK(&g->lock);
	size_t i;

	if (g->fresh.count == 0) {
		struct upper_ranges empty = g->fresh;

		g->fresh = *dead;
		*dead = empty;
		return;
	}
	for (i = 0; i < dead->count; i++)
		upper_ranges_add(&g->fresh, dead->list[i].moffset, dead->list[i].sectors);
}

static int compare(const void *a, const void *b)
{
	const struct upper_range *x = a, *y = b;

	return (x->moffset > y->moffset) - (x->moffset < y->moffset);
}

/* Punches the whole blocks in [from, to), sectors.  False: not now. */
static bool punch_range(struct upper_log *u, uint64_t from, uint64_t to)
{
	struct upper_garbage *g = &u->garbage;
	int r;

	from = (from + HOLE - 1) / HOLE * HOLE;
	to = to / HOLE * HOLE;
	if (from >= to)
		return true;
	r = u->ops->punch(u->data_fd, from * SECTOR, (to - from) * SECTOR);
	if (r == 0)
		g->complained = false;
	if (r == 0 || r == -EINTR)
		return r == 0;
	if (!g->complained)
		log_warn("%s: no space is given back%s: punching a hole: %s", u->data_path,
			 r == -EOPNOTSUPP ? "" : " for now", strerror(-r));
	g->complained = true;
	g->no_holes = r == -EOPNOTSUPP;
	g->retry_ms = clock_ms() + RETRY_MS;
	return false;
}

/* Some of them.  Writers wait for each, so that there is a pause until the next call. */
static void punch_waiting(struct upper_log *u)
{
	struct upper_garbage *g = &u->garbage;
	struct upper_ranges *w = &g->waiting;
	uint64_t from, to, until = clock_ms() + PUNCH_MS;
	size_t next = g->punched;

	if (g->punched == 0)
		qsort(w->list, w->count, sizeof *w->list, compare);
	while (g->punched < w->count && clock_ms() < until) {
		from = w->list[next].moffset;
		to = from + w->list[next].sectors;
		while (++next < w->count && w->list[next].moffset == to)
			to += w->list[next].sectors;
		if (!punch_range(u, from, to))
			return;
		g->punched = next;
	}
	if (g->punched == w->count)
		w->sectors = w->count = g->punched = 0;
}

static bool is_worth_it(struct upper_log *u, uint64_t dead_sectors)
{
	const struct upper_garbage *g = &u->garbage;
	uint64_t dead = dead_sectors * SECTOR, live = u->map.data * SECTOR;

	if (g->min_bytes > 0)
		return dead >= g->min_bytes;
	return dead >= MIN_BYTES && dead >= live / LIVE_DIVISOR;
}

static bool dying_is_worth_it(struct upper_log *u)
{
	WITH_LOCK(&u->publish_lock);

	return is_worth_it(u, u->dying.sectors);
}

static void take_fresh(struct upper_log *u)
{
	struct upper_garbage *g = &u->garbage;
	struct upper_ranges empty = g->waiting;
	WITH_LOCK(&g->lock);

	if (!is_worth_it(u, g->fresh.sectors))
		return;
	g->waiting = g->fresh;
	g->fresh = empty;
	/* The map changed before now: who began later does not know them. */
	g->epoch = atomic_load(&u->readers.epoch);
}

/* ---- the search ---- */

void upper_garbage_note_full(struct upper_garbage *g)
{
	atomic_store(&g->full_at, max_u64(clock_ms(), 1));
}

static bool is_full(const struct upper_garbage *g)
{
	uint64_t at = atomic_load(&g->full_at);

	return at != 0 && clock_ms() < at + FULL_MS;
}

/* Sectors of what has died and was not given back since the last search. */
static uint64_t count_dead(struct upper_log *u)
{
	uint64_t dead;

	pthread_mutex_lock(&u->publish_lock);
	dead = u->dying.sectors;
	pthread_mutex_unlock(&u->publish_lock);
	pthread_mutex_lock(&u->garbage.lock);
	dead += u->garbage.fresh.sectors;
	pthread_mutex_unlock(&u->garbage.lock);
	return dead;
}

/* Once when the disk has become full, and then when more has died. */
static bool is_due_when_full(struct upper_log *u, uint64_t taken, uint64_t live)
{
	struct upper_garbage *g = &u->garbage;

	if (!is_full(g))
		g->full_searched = 0;
	if (!is_full(g) || taken < live + HOLE * SECTOR)
		return false;
	if (g->full_searched != 0 &&
	    (clock_ms() < g->full_searched + FULL_PAUSE || count_dead(u) < HOLE))
		return false;
	g->full_searched = max_u64(clock_ms(), 1);
	return true;
}

/* Whether the file takes too much space, and more than after the search before. */
static bool search_is_due(struct upper_log *u)
{
	struct upper_garbage *g = &u->garbage;
	uint64_t live = u->map.data * SECTOR, spare = g->min_bytes ? g->min_bytes : SPARE_BYTES;
	struct file_status status;
	uint64_t taken;

	if (u->beyond || u->ops->status(u->data_fd, &status) < 0)
		return false;
	taken = status.allocated;
	/* What a search could not help is no reason for the next one. */
	g->searched = min_u64(g->searched, taken);
	if (!is_due_when_full(u, taken, live) &&
	    (taken <= live + live / 2 + spare || taken < g->searched + spare / 2))
		return false;
	g->searched = taken;
	return true;
}

/* Collects what the map leads to below `end`.  -ENOMEM: there is too much of it. */
static int collect_live(struct upper_log *u, struct upper_ranges *live, uint64_t end)
{
	struct segment pieces[PIECES];
	uint64_t lba = 0, kept = 0;
	size_t i, n;

	while (lba < u->sectors) {
		n = upper_map_pieces(&u->map, lba, u->sectors - lba, pieces, PIECES);
		for (i = 0; i < n; lba += pieces[i++].sectors) {
			if (!pieces[i].mapped || pieces[i].zeroed || pieces[i].moffset >= end)
				continue;
			upper_ranges_add(live, pieces[i].moffset, pieces[i].sectors);
		}
	}
	for (i = 0; i < live->count; i++)
		kept += live->list[i].sectors;
	return kept < live->sectors ? -ENOMEM : 0;
}

/* All of it durably so, and most of it in the gaps; the rest is found by the next search. */
static void drop_fresh(struct upper_garbage *g)
{
	WITH_LOCK(&g->lock);
	g->fresh.count = 0;
	g->fresh.sectors = 0;
}

/* What lies between the live pieces is dead. */
static void take_gaps(struct upper_garbage *g, uint64_t end)
{
	uint64_t at = FORMAT_SPACE / SECTOR;
	size_t i;

	if (g->full_searched != 0)
		drop_fresh(g); /* it would count as more that has died */
	if (g->live.count > 0)
		qsort(g->live.list, g->live.count, sizeof *g->live.list, compare);
	for (i = 0; i < g->live.count && at < end; i++) {
		const struct upper_range *l = &g->live.list[i];

		if (l->moffset > at)
			upper_ranges_add(&g->waiting, at, min_u64(l->moffset, end) - at);
		at = max_u64(at, l->moffset + l->sectors);
	}
	if (at < end)
		upper_ranges_add(&g->waiting, at, end - at);
}

/* A search in three steps, one a call.  First those writers must be gone that had a place below the
 * end and had not published it.  What was superseded while the map was walked is durably so after a
 * flush.  Then the gaps wait for their readers, as what is fresh does. */
static int search(struct upper_log *u, struct err *e)
{
	struct upper_garbage *g = &u->garbage;
	int r;

	if (g->search_end == 0) {
		if (!search_is_due(u))
			return 0;
		atomic_store(&u->given_back, UINT64_MAX);
		g->search_end = u->data_end;
		g->search_epoch = atomic_load(&u->writers.epoch);
	}
	if (upper_readers_advance(&u->writers) < g->search_epoch + 2)
		return 0;
	/* A place below the end that a write gave back may be another one's already. */
	r = atomic_load(&u->given_back) >= g->search_end ? collect_live(u, &g->live, g->search_end)
							 : -EAGAIN;
	if (r == 0) {
		r = upper_log_flush(u, e);
		if (r == 0)
			take_gaps(g, g->search_end);
	}
	if (r == -EAGAIN)
		g->searched = g->full_searched = 0;
	g->search_end = 0;
	g->epoch = atomic_load(&u->readers.epoch);
	upper_ranges_release(&g->live);
	return r == -EIO ? r : 0; /* anything else is tried again */
}

static int punch_holes(struct upper_log *u, struct err *e)
{
	struct upper_garbage *g = &u->garbage;
	bool full = is_full(g);
	int r = 0;

	if (g->no_holes || u->failed || clock_ms() < g->retry_ms)
		return 0;
	/* A client that does not flush must not keep what it superseded. */
	if (dying_is_worth_it(u))
		r = upper_log_flush(u, e);
	if (full && r == 0 && g->waiting.count == 0)
		r = search(u, e);
	if (g->waiting.count == 0)
		take_fresh(u);
	if (!full && r == 0 && g->waiting.count == 0)
		r = search(u, e);
	r = r == -EIO ? r : 0; /* no room to flush: a hole may make it */
	if (r == 0 && g->waiting.count > 0 && upper_readers_advance(&u->readers) >= g->epoch + 2)
		punch_waiting(u);
	return r;
}

/* Whether records that the process before acknowledged are in its pending file alone, which cannot
 * be made anew before they are flushed. */
static bool has_unflushed(struct upper_log *u)
{
	WITH_LOCK(&u->publish_lock);

	return u->pending.waits && u->queue.count > 0;
}

int upper_log_tidy(struct upper_log *u, struct err *e)
{
	int r;
	WITH_LOCK(&u->garbage.tidy_lock);

	if (u->garbage.retired)
		return 0;
	r = punch_holes(u, e);
	if (r < 0 || !upper_rewrite_is_due(u))
		return r;
	if (has_unflushed(u)) {
		r = upper_log_flush(u, e);
		if (r < 0)
			return r == -EIO ? r : 0; /* no room: later */
	}
	upper_sync_enter(&u->sync);
	r = upper_rewrite_index(u, e);
	upper_sync_leave(&u->sync);
	return r;
}
