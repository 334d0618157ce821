/* SPDX-License-Identifier: Apache-2.0 */
/* blob.c - reading a blob, see blob.h; its fetches under way are in flight.c.
 *
 * A read takes what the cache has, in order, and waits for what it has not.  When another process
 * has claimed a chunk, the read looks for it in the cache for a while (PATIENCE or four round
 * trips), then tries to be the second to fetch it, and when that place is taken too, waits much
 * longer before it fetches it all the same: so fifty processes that start together fetch each chunk
 * at most twice.
 *
 * When the cache finds that the whole has another digest, it has dropped it all.  The bytes may
 * have been spoilt on their way: all are fetched once more (mending.h), and reads wait for the
 * verdict.  Until the whole is right no read succeeds. */
#include "fetch/blob.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/caller.h"
#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/flight.h"
#include "fetch/mending.h"

enum {
	PATIENCE = 1000, /* ms for the first fetcher, at least */
	PATIENCE_2 = 15 * 1000, /* ms for the second one, more than a stalled exchange lives */
	GRACE = 250, /* ms */
	STUCK_DROP = 16, /* rounds after which a chunk that cannot be read is dropped, */
	STUCK_MAX = 64, /* and the cache is passed over */
	PASS_CACHE = 60 * 1000, /* ms that a cache that gives errors is passed over */
	LOOK_EVERY = 20, /* ms between two looks, at most */
	HEAD = 16 * 1024, /* bytes of a layer's beginning that opening reads */
	TAIL_MIN = 64 * 1024, /* of its end */
	TAIL_MAX = 4 * 1024 * 1024,
	AROUND_MIN = 24, /* chunks that a miss among others fetches; */
	AROUND_MAX = 48,
	AROUND_MS = 40, /* what comes in that time, in between */
};

/* A read under way. */
struct reading {
	uint8_t *buf;
	size_t n;
	uint64_t off;
	uint64_t start; /* where off was at first */
	uint64_t deadline; /* ms */
	struct caller *caller; /* this thread's */
	uint64_t claimed_since; /* ms; 0: nobody else has claimed the chunk */
	uint64_t pause; /* ms before the last look for it in the cache; 0: there was none */
	unsigned stuck; /* rounds in which the cache had it and could not give it */
	uint64_t ahead; /* up to where read-ahead wants it fetched; 0: it was not asked */
};

struct blob *blob_of(struct source *s)
{
	return (struct blob *)s;
}

/* Who finds what this read gives wrong comes with blob_drop, in this thread. */
static void note_piece(struct caller *c, uint64_t off, size_t n, unsigned drops, uint32_t places)
{
	struct caller_piece *last = c->piece_count ? &c->pieces[c->piece_count - 1] : NULL;

	if (last && last->drops == drops && last->places == places) {
		last->end = off + n;
	} else if (last && c->piece_count == CALLER_PIECES) {
		*last = (struct caller_piece){ last->off, off + n, drops, last->places | places };
	} else {
		c->pieces[c->piece_count++] = (struct caller_piece){ off, off + n, drops, places };
	}
}

/* n bytes are there, of these endpoints (0: the cache's); the blob's count of drops was `drops`
 * before they were taken. */
static void advance(struct reading *rd, size_t n, unsigned drops, uint32_t places)
{
	if (n > 0)
		note_piece(rd->caller, rd->off, n, drops, places);
	rd->buf += n;
	rd->off += n;
	rd->n -= n;
	if (n > 0) {
		rd->claimed_since = 0;
		rd->pause = rd->stuck = 0;
	}
}

static uint64_t end_chunk(const struct reading *rd)
{
	return (rd->off + rd->n + CACHE_CHUNK - 1) / CACHE_CHUNK;
}

/* ---- waiting for a flight ---- */

static uint64_t flight_deadline(const struct flight *f)
{
	return atomic_load(&f->request.deadline);
}

static void extend_deadline(struct flight *f, uint64_t deadline)
{
	uint64_t old = atomic_load(&f->request.deadline);

	while (old < deadline &&
	       !atomic_compare_exchange_weak(&f->request.deadline, &old, deadline))
		;
}

/* How a flight that gives no more bytes is for a reader.  One that was not made for it may have
 * failed for lack of time, at low priority or while the image was being opened: the reader makes
 * its own then. */
static int judge(const struct flight *f, const struct reading *rd, struct err *e)
{
	bool opened = atomic_load(&f->blob->retry_until) == CLOCK_NEVER;
	bool was_opening = f->request.retry_until != CLOCK_NEVER;

	if (!f->done || f->r == 0)
		return 0;
	if (f->unasked && f->r != -ESHUTDOWN)
		return 0;
	if (opened && (was_opening || f->r == -ETIMEDOUT) && f->r != -ESHUTDOWN &&
	    clock_ms() < rd->deadline)
		return 0;
	return err_set(e, -f->r, "%s", f->why.msg);
}

/* A flight whose own time is over says why: it goes first. */
static uint64_t late(const struct reading *rd)
{
	return rd->deadline == CLOCK_NEVER ? CLOCK_NEVER : rd->deadline + GRACE;
}

/* Copies without the lock what a flight has shown; what was taken back meanwhile does not count. */
static void copy_unlocked(struct blob *b, struct flight *f, struct reading *rd, uint64_t skip,
			  uint64_t arrived)
{
	struct flight_bytes *bytes = flight_hold_locked(f);
	unsigned before = f->taken_back, drops = b->drops;
	uint32_t places = f->places;

	pthread_mutex_unlock(&b->lock);
	memcpy(rd->buf, bytes->data + skip, (size_t)(arrived - skip)); /* (3) */
	pthread_mutex_lock(&b->lock);
	if (f->taken_back == before)
		advance(rd, (size_t)(arrived - skip), drops, places);
	flight_let_go_locked(bytes);
}

/* Takes what the cache has, in order. */
static void read_cache(struct blob *b, struct reading *rd)
{
	unsigned drops = b->drops;

	if (flight_has_cache(b))
		advance(rd, cache_blob_read(b->cache, rd->buf, rd->n, rd->off), drops, 0);
}

/* Waits for what a flight has of the rest of a read, and takes it. */
static int read_flight_locked(struct blob *b, struct flight *f, struct reading *rd, struct err *e)
{
	uint64_t skip = rd->off - flight_start(f);
	uint64_t end = min_u64(skip + rd->n, flight_size(f)), arrived;
	int r = 0;

	flight_ref_locked(f);
	extend_deadline(f, rd->deadline);
	flight_promote_locked(f);
	while (f->arrived < end && !f->done && f->listed && clock_ms() < late(rd)) {
		if (flight_is_cached(b, rd->off / CACHE_CHUNK))
			break; /* a whole blob passes by */
		flight_await_locked(f, end, late(rd));
		end = min_u64(skip + rd->n, flight_size(f)); /* it may have become longer */
	}
	arrived = min_u64(f->arrived, end);
	if (arrived <= skip)
		r = judge(f, rd, e);
	if (r == 0 && arrived < end && clock_ms() >= late(rd)) {
		r = err_set(e, ETIMEDOUT, "timed out after %" PRIu64 " s (timeout=%u)",
			    b->timeout + (clock_ms() - rd->deadline) / 1000, b->timeout);
		if (clock_ms() >= flight_deadline(f))
			flight_unlist_locked(f); /* whatever keeps it, nobody waits for it again */
	}
	/* What a flight has that was dropped was found wrong, or came with what was. */
	if (r == 0 && arrived > skip && !f->dropped)
		copy_unlocked(b, f, rd, skip, arrived);
	flight_unref_locked(f);
	return r;
}

/* ---- what is nowhere yet ---- */

static uint64_t around_chunks(const struct blob *b)
{
	struct link_facts link;

	queue_link(b->queue, &link);
	return min_u64(max_u64(link.bandwidth / 1000 * AROUND_MS / CACHE_CHUNK, AROUND_MIN),
		       AROUND_MAX);
}

/* A read of [first, end) has to wait.  Returns up to where to fetch.  While a trace is replayed
 * that knows better what comes next. */
static uint64_t note_miss_locked(struct blob *b, uint64_t first, uint64_t end)
{
	uint64_t least = end;

	if (flight_is_kept(b) && readaround_miss(&b->around, first, end) &&
	    !queue_is_replaying(b->queue)) {
		least = max_u64(end, first + around_chunks(b));
		readaround_mark(&b->around, end, least);
	}
	return readahead_miss(&b->ahead, first, end, least);
}

/* As which fetcher to try, by how long others have kept us waiting. */
static unsigned rank_of(const struct blob *b, const struct reading *rd)
{
	uint64_t patience = max_u64(PATIENCE, 4 * queue_round_trip(b->queue));
	uint64_t waited = rd->claimed_since ? clock_ms() - rd->claimed_since : 0;

	if (waited < patience)
		return 0;
	return waited < patience + PATIENCE_2 ? 1 : CLAIM_NONE;
}

/* Makes the flights that a read needs: 0, 1 when another process has claimed what it waits for. */
static int ask_locked(struct blob *b, struct reading *rd, struct request **made, struct err *e)
{
	uint64_t first = rd->off / CACHE_CHUNK, end;
	unsigned rank = rank_of(b, rd);
	int r;

	if (rd->ahead == 0) /* once a read, however often it comes by */
		rd->ahead = note_miss_locked(b, first, end_chunk(rd));
	/* Without a cache, only as much as is sure to be kept until it is read. */
	end = flight_is_kept(b) ? rd->ahead : min_u64(rd->ahead, first + FLIGHT_CHUNKS);
	/* Another's claim may have ended with its process. */
	r = flight_make_locked(b, first, end, 0, REQUEST_DEMAND, made);
	if (r == 1 && rank > 0)
		r = flight_make_locked(b, first, first + 1, rank, REQUEST_DEMAND, made);
	return r < 0 ? err_set(e, -r, "out of memory") : r;
}

/* Another process fetches it: looks again a moment later. */
static int look_later(struct blob *b, struct reading *rd, struct err *e)
{
	uint64_t now = clock_ms();

	if (rd->claimed_since == 0)
		rd->claimed_since = now;
	rd->pause = min_u64(max_u64(2 * rd->pause, 1), LOOK_EVERY);
	if (now >= rd->deadline)
		return err_set(e, ETIMEDOUT, "another process did not fetch it in time");
	if (queue_is_closing(b->queue))
		return err_set(e, ESHUTDOWN, "shutting down");
	clock_sleep(rd->pause);
	return 0;
}

/* The chunk at rd->off is not in the cache: takes it, or at least one byte of it, from a flight,
 * which is made when there is none.  May return 0 without progress. */
static int read_missing(struct blob *b, struct reading *rd, struct err *e)
{
	uint64_t chunk = rd->off / CACHE_CHUNK;
	struct request *made = NULL;
	struct flight *f;
	int r = 0;

	pthread_mutex_lock(&b->lock);
	f = flight_find_locked(b, chunk);
	if (f) {
		r = read_flight_locked(b, f, rd, e);
		pthread_mutex_unlock(&b->lock);
		return r;
	}
	if (!flight_is_cached(b, chunk))
		r = ask_locked(b, rd, &made, e);
	pthread_mutex_unlock(&b->lock);
	flight_submit(made);
	return r == 1 ? look_later(b, rd, e) : r;
}

uint64_t blob_present(const struct blob *b, uint64_t off, uint64_t n)
{
	uint64_t end = off + n, at, next, present = 0;

	for (at = off; b->cache && at < end; at = next) {
		next = min_u64((at / CACHE_CHUNK + 1) * CACHE_CHUNK, end);
		present += flight_is_cached(b, at / CACHE_CHUNK) ? next - at : 0;
	}
	return present;
}

/* ---- read-ahead ---- */

static void ask_ahead(struct blob *b, uint64_t first, uint64_t end)
{
	struct request *made = NULL;
	uint64_t from, to;

	pthread_mutex_lock(&b->lock);
	to = readahead_hit(&b->ahead, first, end, &from);
	if (to > 0 && !mending_is_needed(b))
		(void)flight_make_locked(b, from, to, 0, REQUEST_DEMAND, &made);
	pthread_mutex_unlock(&b->lock);
	flight_submit(made);
}

/* What was fetched with a miss is read for the first time. */
static void note_use(struct blob *b, uint64_t first, uint64_t end)
{
	WITH_LOCK(&b->lock);
	readaround_use(&b->around, first, end);
}

/* ---- the source ---- */

/* The client's, else one of this read alone. */
static uint64_t deadline_of(const struct blob *b, const struct caller *c)
{
	if (c->deadline > 0)
		return c->deadline;
	return b->timeout ? clock_coarse_ms() + b->timeout * (uint64_t)1000 : CLOCK_NEVER;
}

/* What was read so far may be wrong: begins anew. */
static void rewind_reading(struct reading *rd)
{
	size_t n = (size_t)(rd->off - rd->start);

	rd->buf -= n;
	rd->off -= n;
	rd->n += n;
	rd->caller->piece_count = 0;
}

/* A chunk that is there, but cannot be read: fetching it anew may help.  If it does not, for the
 * disk lets it neither be read nor dropped, the registry has it still. */
static void get_unstuck(struct blob *b, struct reading *rd)
{
	rd->stuck++;
	if (rd->stuck == STUCK_DROP)
		cache_blob_drop(b->cache, rd->off, 1);
	if (rd->stuck < STUCK_MAX)
		return;
	log_warn(
		"%s: what the cache has of it cannot be read (a bad disk?); it is fetched from the "
		"registry for %d s",
		b->digest, PASS_CACHE / 1000);
	atomic_store(&b->passed_until, clock_ms() + PASS_CACHE);
	rd->stuck = 0;
}

static void note_cache(const struct blob *b)
{
	stats_set(b->stats, STATS_CACHE_ENABLED, flight_is_kept(b));
}

static int read_rest(struct blob *b, struct reading *rd, struct err *e)
{
	uint64_t began = clock_us();
	int r = 0;

	while (rd->n > 0 && r == 0) {
		read_cache(b, rd);
		if (rd->n > 0 && flight_is_cached(b, rd->off / CACHE_CHUNK))
			get_unstuck(b, rd);
		if (rd->n > 0 && r == 0)
			r = read_missing(b, rd, e);
		if (r == 0 && mending_is_needed(b)) {
			rewind_reading(rd);
			r = mending_await(b, rd->deadline, e);
		}
	}
	stats_demand(b->stats, clock_us() - began);
	if (b->cache)
		stats_set(b->stats, STATS_CACHE_DROPS, cache_blob_bad_chunks(b->cache));
	note_cache(b);
	return r;
}

static int blob_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	struct blob *b = blob_of(s);
	struct caller *c = caller();
	struct reading rd = { .buf = buf,
			      .n = n,
			      .off = off,
			      .start = off,
			      .deadline = deadline_of(b, c),
			      .caller = c };
	uint64_t first = off / CACHE_CHUNK, end = end_chunk(&rd);
	int r = 0;

	c->read_of = b;
	c->piece_count = 0;
	if (mending_is_needed(b))
		r = mending_await(b, rd.deadline, e);
	if (r < 0)
		return r;
	stats_add(b->stats, STATS_READS, 1);
	stats_add(b->stats, STATS_READ_BYTES, n);
	read_cache(b, &rd);
	stats_add(b->stats, rd.n == 0 ? STATS_CACHE_HITS : STATS_CACHE_MISSES, 1);
	if (readahead_note(&b->ahead, first, end))
		ask_ahead(b, first, end);
	if (readaround_note(&b->around, first, end))
		note_use(b, first, end);
	return rd.n > 0 ? read_rest(b, &rd, e) : 0;
}

static void blob_prefetch(struct source *s, uint64_t off, uint64_t n)
{
	struct blob *b = blob_of(s);
	struct hint *h;

	if (mending_is_needed(b) || blob_present(b, off, n) == n)
		return;
	pthread_mutex_lock(&b->lock);
	h = hint_make_locked(b, off, n, REQUEST_PREFETCH);
	pthread_mutex_unlock(&b->lock);
	if (h)
		queue_feed(b->queue, &h->feeder);
}

static uint64_t wanted_end_locked(struct blob *b, uint64_t first, uint64_t end)
{
	uint64_t ahead = note_miss_locked(b, first, end);

	return flight_is_kept(b) ? ahead : min_u64(ahead, first + FLIGHT_CHUNKS);
}

static void blob_want(struct source *s, uint64_t off, uint64_t n)
{
	struct blob *b = blob_of(s);
	uint64_t first = off / CACHE_CHUNK, end = (off + n + CACHE_CHUNK - 1) / CACHE_CHUNK;
	struct request *made = NULL;

	if (mending_is_needed(b) || blob_present(b, off, n) == n)
		return;
	if (!flight_is_kept(b)) /* only as much as is sure to be kept until it is read */
		end = min_u64(end, first + FLIGHT_CHUNKS);
	pthread_mutex_lock(&b->lock);
	/* A read that finds all of it under way is no miss for read-ahead either. */
	if (flight_is_missing_locked(b, first, end))
		(void)flight_make_locked(b, first, wanted_end_locked(b, first, end), 0,
					 REQUEST_DEMAND, &made);
	pthread_mutex_unlock(&b->lock);
	flight_submit(made);
}

/* Whether all that the last read of this thread took of the chunks has been dropped by another
 * since: what is there now came later, and is not to blame. */
static bool was_dropped_locked(const struct blob *b, uint64_t first, uint64_t end)
{
	const struct caller *c = caller();
	unsigned i, overlapping = 0;

	for (i = 0; c->read_of == b && i < c->piece_count; i++) {
		uint64_t from = max_u64(c->pieces[i].off / CACHE_CHUNK, first);
		uint64_t to = min_u64((c->pieces[i].end + CACHE_CHUNK - 1) / CACHE_CHUNK, end);

		if (from >= to)
			continue;
		overlapping++;
		if (!flight_was_dropped_locked(b, from, to, c->pieces[i].drops))
			return false;
	}
	return overlapping > 0;
}

/* Blames whoever gave this thread the chunks. */
static void blame_locked(struct blob *b, uint64_t first, uint64_t end)
{
	const struct caller *c = caller();
	uint32_t places, giver;
	uint64_t chunk;
	unsigned i;

	for (chunk = first; chunk < end; chunk++) {
		places = 0;
		for (i = 0; c->read_of == b && i < c->piece_count; i++)
			if (c->pieces[i].off / CACHE_CHUNK <= chunk &&
			    chunk * CACHE_CHUNK < c->pieces[i].end)
				places |= c->pieces[i].places;
		giver = flight_giver_locked(b, chunk);
		if (places == 0 || places & giver)
			places = giver; /* of a flight's several, the one that gave this chunk */
		if (places)
			flight_blame_locked(b, chunk, places, (places & (places - 1)) == 0);
		else /* who put it in the cache is not known: a mirror, most likely */
			flight_blame_locked(b, chunk, queue_mirrors(b->queue), false);
	}
}

/* The lock is held over the cache's part: another who drops the same must not find the old bytes.
 */
static void blob_drop(struct source *s, uint64_t off, uint64_t n)
{
	struct blob *b = blob_of(s);
	uint64_t first = off / CACHE_CHUNK, end = (off + n + CACHE_CHUNK - 1) / CACHE_CHUNK;

	stats_add(b->stats, STATS_CRC_DROPS, 1);
	WITH_LOCK(&b->lock);
	while (b->publishing) /* it may be one of these chunks */
		clock_wait(&b->changed, &b->lock, CLOCK_NEVER);
	if (was_dropped_locked(b, first, end))
		return;
	blame_locked(b, first, end);
	flight_drop_locked(b, off, n);
	b->dropped[b->drops++ % DROPPED] = (struct chunk_range){ first, end };
	if (b->cache)
		cache_blob_drop(b->cache, off, n);
}

void blob_unref(struct blob *b)
{
	pthread_mutex_lock(&b->lock);
	if (--b->refs > 0) {
		pthread_mutex_unlock(&b->lock);
		return;
	}
	flight_drop_locked(b, 0, b->source.size);
	pthread_mutex_unlock(&b->lock);
	pthread_cond_destroy(&b->changed);
	pthread_mutex_destroy(&b->lock);
	cache_blob_close(b->cache);
	request_targets_release(&b->targets);
	readaround_release(&b->around);
	mending_release(&b->mending);
	free(b->digest);
	free(b->path);
	free(b);
}

static void blob_close(struct source *s)
{
	blob_unref(blob_of(s));
}

static const struct source_ops blob_ops = {
	.name = "blob",
	.pread = blob_pread,
	.prefetch = blob_prefetch,
	.want = blob_want,
	.drop = blob_drop,
	.close = blob_close,
};

bool blob_is(const struct source *s)
{
	return s->ops == &blob_ops;
}

/* ---- opening ---- */

static void init_locks(struct blob *b)
{
	pthread_mutex_init(&b->lock, NULL);
	clock_init_cond(&b->changed);
}

/* The cache is a convenience: only a blob that it knows otherwise is an error. */
static int open_cache(struct blob *b, const struct blob_options *o, struct err *e)
{
	struct err why;
	int r;

	if (!o->cache)
		return 0;
	r = cache_blob_open(o->cache, o->origin, o->digest, o->size, &b->cache, &why);
	if (r == 0)
		return 0;
	b->cache = NULL;
	if (r == -EBADMSG || r == -ENOMEM)
		return err_set(e, -r, "%s", why.msg);
	log_warn("%s: %s; reads of it go to the registry each time", o->digest, why.msg);
	return 0;
}

int blob_open(const struct blob_options *o, struct source **out, struct err *e)
{
	struct blob *b = calloc(1, sizeof *b);
	int r;

	if (!b)
		return err_set(e, ENOMEM, "out of memory");
	b->source = (struct source){ .ops = &blob_ops, .size = o->size };
	b->queue = o->queue;
	b->stats = o->stats;
	b->timeout = o->timeout;
	atomic_init(&b->retry_until, o->retry_until);
	b->refs = 1;
	b->digest = strdup(o->digest);
	init_locks(b);
	readaround_init(&b->around, blob_chunks(b));
	if (!b->digest || asprintf(&b->path, "/blobs/%s", o->digest) < 0) {
		b->path = NULL;
		r = err_set(e, ENOMEM, "out of memory");
	} else {
		r = open_cache(b, o, e);
	}
	if (r < 0) {
		blob_unref(b);
		return r;
	}
	note_cache(b);
	*out = &b->source;
	return 0;
}

void blob_opened(struct blob *b)
{
	atomic_store(&b->retry_until, CLOCK_NEVER);
}

void blob_ask_for_ends(struct blob *b)
{
	uint64_t size = b->source.size;
	uint64_t tail = min_u64(max_u64(TAIL_MIN, size / 256), TAIL_MAX);
	uint64_t from = (size - min_u64(tail, size)) / CACHE_CHUNK;
	struct request *head = NULL, *rest = NULL;

	pthread_mutex_lock(&b->lock);
	if (from > HEAD / CACHE_CHUNK)
		(void)flight_make_locked(b, 0, HEAD / CACHE_CHUNK, 0, REQUEST_DEMAND, &head);
	else
		from = 0;
	(void)flight_make_locked(b, from, blob_chunks(b), 0, REQUEST_DEMAND, &rest);
	pthread_mutex_unlock(&b->lock);
	flight_submit(head);
	flight_submit(rest);
}

/* ---- for background download ---- */

int blob_fill(struct blob *b, uint64_t off, uint64_t n, struct err *e)
{
	struct hint *h;
	int r;

	pthread_mutex_lock(&b->lock);
	flight_forget_kept_locked(b); /* what the cache did not take once it may take now */
	h = hint_make_locked(b, off, n, REQUEST_BACKGROUND);
	pthread_mutex_unlock(&b->lock);
	if (!h)
		return err_set(e, ENOMEM, "out of memory");
	h->awaited = true;
	queue_feed(b->queue, &h->feeder);
	pthread_mutex_lock(&b->lock);
	while (!h->exhausted || h->flights > 0)
		clock_wait(&b->changed, &b->lock, CLOCK_NEVER);
	r = h->r < 0 ? err_set(e, -h->r, "%s", h->why.msg) : h->skipped;
	if (r == 1 && queue_is_closing(b->queue))
		r = err_set(e, ESHUTDOWN, "shutting down");
	pthread_mutex_unlock(&b->lock);
	free(h);
	return r;
}

const char *blob_digest(const struct blob *b)
{
	return b->digest;
}

uint64_t blob_size(const struct blob *b)
{
	return b->source.size;
}

struct cache_blob *blob_cache(struct blob *b)
{
	return b->cache;
}

struct stats *blob_stats(struct blob *b)
{
	return b->stats;
}

bool blob_is_closing(const struct blob *b)
{
	return queue_is_closing(b->queue);
}
