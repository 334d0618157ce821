/* SPDX-License-Identifier: Apache-2.0 */
/* flight.c - fetches under way, see flight.h. */
#include "fetch/flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	LOW_SECONDS = 60, /* that a request nobody waits for may take */
	LOW_CHUNKS = 64, /* that it may have: 1 MiB */
};

static struct flight *flight_of(struct request *q)
{
	return (struct flight *)q; /* its first member */
}

static uint64_t byte_of(const struct blob *b, uint64_t chunk)
{
	return min_u64(chunk * CACHE_CHUNK, b->source.size);
}

uint64_t flight_size(const struct flight *f)
{
	return byte_of(f->blob, f->first + f->count) - flight_start(f);
}

/* ---- waiting ---- */

void flight_await_locked(struct flight *f, uint64_t bytes, uint64_t until)
{
	f->awaited = min_u64(f->awaited, bytes);
	clock_wait(&f->moved, &f->blob->lock, until);
}

/* Whoever still has to wait says so again. */
static void wake_locked(struct flight *f)
{
	f->awaited = UINT64_MAX;
	clock_wake(&f->moved);
}

/* ---- the list ---- */

struct flight *flight_find_locked(const struct blob *b, uint64_t chunk)
{
	struct flight *f = b->flights;

	while (f && (chunk < f->first || chunk - f->first >= f->count))
		f = f->next;
	return f;
}

void flight_ref_locked(struct flight *f)
{
	f->refs++;
}

void flight_unref_locked(struct flight *f)
{
	if (--f->refs > 0)
		return;
	request_release(&f->request);
	pthread_cond_destroy(&f->moved);
	free(f->bytes);
	free(f);
}

static void unlist_locked(struct flight *f)
{
	struct flight **at = &f->blob->flights;

	if (!f->listed)
		return;
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	f->listed = false;
	wake_locked(f);
	if (f->kept)
		f->blob->kept_bytes -= flight_size(f);
	flight_unref_locked(f);
}

/* New ones stand first, so the last that is kept is the oldest. */
static void trim_kept_locked(struct blob *b)
{
	while (b->kept_bytes > KEPT_BYTES) {
		struct flight *f, *oldest = NULL;

		for (f = b->flights; f; f = f->next)
			if (f->kept)
				oldest = f;
		unlist_locked(oldest);
	}
}

void flight_drop_locked(struct blob *b, uint64_t off, uint64_t n)
{
	struct flight *f = b->flights;

	while (f) {
		struct flight *next = f->next;

		if (flight_start(f) < off + n && off < flight_start(f) + flight_size(f))
			unlist_locked(f);
		f = next;
	}
}

/* ---- what arrives ---- */

static bool publish(struct blob *b, uint64_t chunk, const uint8_t *bytes)
{
	return b->cache && cache_blob_publish(b->cache, chunk, bytes) == 0;
}

/* Hands over chunks that are complete.  False: one could not be kept. */
static bool publish_arrived(struct flight *f)
{
	struct blob *b = f->blob;
	uint64_t size = flight_size(f);
	bool all = true;

	while (f->published < f->arrived) {
		uint64_t end = min_u64(f->published + CACHE_CHUNK, size);

		if (end > f->arrived)
			break;
		all = publish(b, f->first + f->published / CACHE_CHUNK, f->bytes + f->published) &&
		      all;
		f->published = end;
	}
	return all;
}

/* Bytes of the flight's own range, in order. */
static void take_own(struct flight *f, uint64_t off, const uint8_t *buf, size_t n)
{
	uint64_t start = flight_start(f), at = start + f->arrived, end = start + flight_size(f);
	size_t m;

	if (off > at || off + n <= at || at == end)
		return;
	buf += at - off;
	m = (size_t)min_u64(off + n - at, end - at);
	memcpy(f->bytes + f->arrived, buf, m);
	pthread_mutex_lock(&f->blob->lock);
	f->arrived += m;
	if (f->arrived >= f->awaited)
		wake_locked(f);
	pthread_mutex_unlock(&f->blob->lock);
	f->request.first = at + m;
	if (!publish_arrived(f))
		f->refused = true;
}

/* What flights wait for may be in the cache now. */
static void wake_all(struct blob *b)
{
	struct flight *f;

	WITH_LOCK(&b->lock);
	for (f = b->flights; f; f = f->next)
		wake_locked(f);
}

/* What passes by when a server sends the whole blob for a range: the cache takes it.  False: it
 * does not. */
static bool take_stray(struct blob *b, uint64_t off, const uint8_t *buf, size_t n)
{
	while (n > 0) {
		uint64_t chunk = off / CACHE_CHUNK, begin = chunk * CACHE_CHUNK;
		uint64_t end = byte_of(b, chunk + 1);
		size_t m = (size_t)min_u64(n, end - off);

		memcpy(b->stream_chunk + (off - begin), buf, m);
		off += m;
		buf += m;
		n -= m;
		if (off == end && !cache_blob_has(b->cache, chunk)) {
			if (!publish(b, chunk, b->stream_chunk))
				return false;
			wake_all(b);
		}
	}
	b->stream_at = off;
	return true;
}

/* One request at a time turns into a stream. */
static bool becomes_stream(struct blob *b, struct request *q, uint64_t off)
{
	if (b->stream || off > 0 || !b->cache)
		return b->stream == q;
	b->stream_chunk = malloc(CACHE_CHUNK);
	if (b->stream_chunk)
		b->stream = q;
	return b->stream == q;
}

static void end_stream(struct blob *b, const struct request *q)
{
	if (b->stream != q)
		return;
	b->stream = NULL;
	free(b->stream_chunk);
	b->stream_chunk = NULL;
}

static int on_bytes(struct request *q, uint64_t off, const void *buf, size_t n, struct err *e)
{
	struct flight *f = flight_of(q);
	bool stream = q->whole && becomes_stream(f->blob, q, off);

	take_own(f, off, buf, n);
	if (stream && !take_stray(f->blob, off, buf, n)) {
		end_stream(f->blob, q);
		stream = false;
	}
	return q->whole && !stream && q->first > q->last; /* all of ours is there */
}

/* ---- begin and end ---- */

static bool all_is_cached_locked(const struct flight *f)
{
	uint64_t i;

	for (i = 0; i < f->count; i++)
		if (!f->blob->cache || !cache_blob_has(f->blob->cache, f->first + i))
			return false;
	return true;
}

static enum request_go on_starting(struct request *q)
{
	struct flight *f = flight_of(q);
	struct blob *b = f->blob;

	WITH_LOCK(&b->lock);
	if (all_is_cached_locked(f))
		return REQUEST_DONE;
	if (b->stream && b->stream_at <= flight_start(f))
		return REQUEST_LATER; /* it passes by */
	if (f->started)
		return REQUEST_GO;
	f->bytes = malloc((size_t)flight_size(f));
	if (!f->bytes)
		return REQUEST_LATER;
	f->started = true;
	q->first = flight_start(f);
	q->last = q->first + flight_size(f) - 1;
	if (b->suspect.place && q->first < b->suspect.end && b->suspect.off <= q->last)
		q->failed |= b->suspect.place;
	return REQUEST_GO;
}

static void end_hint_locked(struct hint *h)
{
	struct blob *b = h->blob;

	clock_wake(&b->changed);
	if (h->exhausted && h->flights == 0 && !h->awaited)
		free(h);
}

static void on_done(struct request *q, int r, const struct err *e)
{
	struct flight *f = flight_of(q);
	struct blob *b = f->blob;

	end_stream(b, q);
	pthread_mutex_lock(&b->lock);
	f->done = true;
	f->r = r;
	f->why = *e;
	if (f->rank != CLAIM_NONE)
		cache_blob_unclaim(b->cache, f->first, f->count, f->rank);
	if (r == 0)
		b->last_place = 1u << q->place;
	f->kept = f->refused && f->arrived == flight_size(f) && f->listed;
	if (f->kept) {
		b->kept_bytes += flight_size(f);
		trim_kept_locked(b);
	} else {
		unlist_locked(f);
	}
	if (f->hint) {
		f->hint->flights--;
		if (r < 0 && f->hint->r == 0) {
			f->hint->r = r;
			f->hint->why = *e;
		}
		end_hint_locked(f->hint);
	}
	wake_locked(f);
	flight_unref_locked(f);
	pthread_mutex_unlock(&b->lock);
	blob_unref(b);
}

/* ---- making them ---- */

static void set_request(struct flight *f, enum request_priority priority)
{
	struct blob *b = f->blob;
	struct request *q = &f->request;
	uint64_t now = clock_ms();
	unsigned seconds = priority == REQUEST_DEMAND ? b->timeout : LOW_SECONDS;

	*q = (struct request){
		.queue = b->queue,
		.priority = priority,
		.method = "GET",
		.path = b->path,
		.ranged = true,
		.total = b->source.size,
		.targets = &b->targets,
		.stats = b->stats,
		.retry_until = atomic_load(&b->retry_until),
		.starting = on_starting,
		.bytes = on_bytes,
		.done = on_done,
	};
	atomic_init(&q->deadline, seconds ? now + seconds * (uint64_t)1000 : CLOCK_NEVER);
}

static struct flight *make_one_locked(struct blob *b, uint64_t first, uint64_t count, unsigned rank,
				      enum request_priority priority)
{
	struct flight *f = calloc(1, sizeof *f);

	if (!f)
		return NULL;
	clock_init_cond(&f->moved);
	f->awaited = UINT64_MAX;
	f->blob = b;
	f->first = first;
	f->count = count;
	f->rank = b->cache ? rank : CLAIM_NONE;
	f->refs = 2; /* the list, the request */
	f->listed = true;
	f->unasked = f->low = priority != REQUEST_DEMAND;
	f->next = b->flights;
	b->flights = f;
	b->refs++;
	set_request(f, priority);
	f->request.first = flight_start(f);
	f->request.last = f->request.first + flight_size(f) - 1;
	return f;
}

/* A demand that waits for its turn, and ends where the new run begins. */
static struct flight *find_longer_locked(const struct blob *b, uint64_t first, uint64_t count,
					 unsigned rank)
{
	struct flight *f = first > 0 ? flight_find_locked(b, first - 1) : NULL;

	if (!f || f->started || f->done || f->unasked || f->first + f->count != first ||
	    f->count + count > FLIGHT_CHUNKS || f->rank != rank)
		return NULL;
	return f;
}

/* Chunks from `first` on that nobody has; at most `most`. */
static uint64_t missing_run_locked(const struct blob *b, uint64_t first, uint64_t most)
{
	uint64_t n = 0;

	while (n < most && !(b->cache && cache_blob_has(b->cache, first + n)) &&
	       !flight_find_locked(b, first + n))
		n++;
	return n;
}

bool flight_is_missing_locked(const struct blob *b, uint64_t first, uint64_t end)
{
	while (first < end && missing_run_locked(b, first, 1) == 0)
		first++;
	return first < end;
}

int flight_make_locked(struct blob *b, uint64_t first, uint64_t end, unsigned rank,
		       enum request_priority priority, struct request **made)
{
	struct request **last = made;
	uint64_t at = first, n;
	struct flight *f;
	int r = 0;

	end = min_u64(end, blob_chunks(b));
	rank = b->cache ? rank : CLAIM_NONE;
	for (; at<end; at += n> 0 ? n : 1) {
		n = missing_run_locked(b, at, min_u64(end - at, FLIGHT_CHUNKS));
		if (n == 0)
			continue;
		if (rank != CLAIM_NONE)
			n = cache_blob_claim(b->cache, at, n, rank);
		if (n == 0) {
			r = at == first ? 1 : r;
			continue;
		}
		f = priority == REQUEST_DEMAND ? find_longer_locked(b, at, n, rank) : NULL;
		if (f) {
			f->count += n;
			continue;
		}
		f = make_one_locked(b, at, n, rank, priority);
		if (!f) {
			if (rank != CLAIM_NONE)
				cache_blob_unclaim(b->cache, at, n, rank);
			return -ENOMEM;
		}
		*last = &f->request;
		last = &f->request.next;
	}
	return r;
}

static void on_promote(struct http_call *c)
{
	struct flight *f = (struct flight *)((char *)c - offsetof(struct flight, promote));
	struct blob *b = f->blob;

	if (!f->done) /* which only this thread sets */
		request_promote(&f->request);
	pthread_mutex_lock(&b->lock);
	flight_unref_locked(f);
	pthread_mutex_unlock(&b->lock);
	blob_unref(b);
}

void flight_promote_locked(struct flight *f)
{
	if (!f->low || f->done)
		return;
	f->low = false;
	f->refs++;
	f->blob->refs++;
	f->promote.run = on_promote;
	http_post(queue_http(f->blob->queue), &f->promote);
}

void flight_submit(struct request *made)
{
	while (made) {
		struct request *next = made->next;

		request_submit(made);
		made = next;
	}
}

/* ---- hints ---- */

/* The next run of a hint that nobody has, as a flight. */
static struct flight *next_flight_locked(struct hint *h, uint64_t most)
{
	struct blob *b = h->blob;

	while (h->next < h->end) {
		uint64_t n = missing_run_locked(b, h->next, min_u64(h->end - h->next, most));
		unsigned rank = b->cache ? 0 : CLAIM_NONE;
		uint64_t first = h->next;
		struct flight *f;

		if (n > 0 && rank != CLAIM_NONE) {
			n = cache_blob_claim(b->cache, first, n, rank);
			h->skipped = h->skipped || n == 0;
		}
		h->next += n > 0 ? n : 1;
		if (n == 0)
			continue;
		f = make_one_locked(b, first, n, rank, h->feeder.priority);
		if (!f && rank != CLAIM_NONE)
			cache_blob_unclaim(b->cache, first, n, rank);
		return f;
	}
	return NULL;
}

static struct request *next_request(struct feeder *feeder, uint64_t room)
{
	struct hint *h = (struct hint *)feeder;
	struct blob *b = h->blob;
	uint64_t most = min_u64(max_u64(room / CACHE_CHUNK, 1), LOW_CHUNKS);
	struct flight *f = NULL;

	pthread_mutex_lock(&b->lock);
	if (!queue_is_closing(b->queue))
		f = next_flight_locked(h, most);
	if (f) {
		f->hint = h;
		h->flights++;
	} else {
		h->skipped = h->skipped || h->next < h->end;
		h->exhausted = true;
		b->hints--;
		end_hint_locked(h);
	}
	pthread_mutex_unlock(&b->lock);
	if (!f)
		blob_unref(b);
	return f ? &f->request : NULL;
}

struct hint *hint_make_locked(struct blob *b, uint64_t off, uint64_t n,
			      enum request_priority priority)
{
	struct hint *h = calloc(1, sizeof *h);

	if (!h)
		return NULL;
	h->feeder.priority = priority;
	h->feeder.next_request = next_request;
	h->blob = b;
	h->next = off / CACHE_CHUNK;
	h->end = (off + n + CACHE_CHUNK - 1) / CACHE_CHUNK;
	if (b->hints >= HINTS_MAX && priority == REQUEST_PREFETCH) {
		free(h);
		return NULL;
	}
	b->hints++;
	b->refs++;
	return h;
}
