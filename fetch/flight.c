/* SPDX-License-Identifier: Apache-2.0 */
/* flight.c - fetches under way, see flight.h. */
#include "fetch/flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/range.h"

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

struct flight_bytes *flight_hold_locked(struct flight *f)
{
	f->bytes->refs++;
	return f->bytes;
}

void flight_let_go_locked(struct flight_bytes *bytes)
{
	if (bytes && --bytes->refs == 0)
		free(bytes);
}

void flight_unref_locked(struct flight *f)
{
	if (--f->refs > 0)
		return;
	request_release(&f->request);
	pthread_cond_destroy(&f->moved);
	flight_let_go_locked(f->bytes);
	free(f);
}

void flight_unlist_locked(struct flight *f)
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
static void trim_kept_locked(struct blob *b, uint64_t most)
{
	while (b->kept_bytes > most) {
		struct flight *f, *oldest = NULL;

		for (f = b->flights; f; f = f->next)
			if (f->kept)
				oldest = f;
		flight_unlist_locked(oldest);
	}
}

void flight_forget_kept_locked(struct blob *b)
{
	trim_kept_locked(b, 0);
}

/* ---- who gave what ---- */

static void note_origin(struct origin *ring, unsigned size, unsigned *next, const struct origin *o)
{
	ring[(*next)++ % size] = *o;
}

static bool is_origin_of(const struct origin *o, uint64_t first, uint64_t end)
{
	return o->places && o->first < end && first < o->end;
}

static void note_given_locked(struct blob *b, uint64_t first, uint64_t end, uint32_t places)
{
	struct origin *last = &b->given[(b->given_next - 1) % GIVEN];

	if (last->places == places && last->first <= first && first <= last->end)
		last->end = max_u64(last->end, end); /* it goes on */
	else
		note_origin(b->given, GIVEN, &b->given_next,
			    &(struct origin){ .first = first, .end = end, .places = places });
}

uint32_t flight_giver_locked(const struct blob *b, uint64_t chunk)
{
	unsigned i;

	for (i = 1; i <= GIVEN; i++)
		if (is_origin_of(&b->given[(b->given_next - i) % GIVEN], chunk, chunk + 1))
			return b->given[(b->given_next - i) % GIVEN].places;
	return 0;
}

/* The only place there is stays the one that is asked, but not where its redirect led before. */
void flight_blame_locked(struct blob *b, uint64_t chunk, uint32_t places, bool sure)
{
	if (places)
		note_origin(b->suspects, SUSPECTS, &b->suspects_next,
			    &(struct origin){ chunk, chunk + 1, places, sure });
}

uint32_t flight_forget_givers_locked(struct blob *b, uint32_t *first)
{
	uint32_t places = 0;
	unsigned i;

	*first = 0;
	for (i = 0; i < GIVEN; i++) {
		const struct origin *o = &b->given[(b->given_next + i) % GIVEN]; /* oldest first */

		*first = *first ? *first : o->places;
		places |= o->places;
	}
	memset(b->given, 0, sizeof b->given);
	return places;
}

/* Whom a flight should avoid, and whom of these it should rather ask than the others: the one that
 * surely gave it wrong the longest ago, or never; of such that are equal the last, the registry.
 * So who reads again and again gets the bytes of one after the other. */
static void avoid_suspects_locked(struct blob *b, struct flight *f)
{
	const struct origin *o;
	uint32_t blamed, places = mending_suspects_locked(b, &blamed);
	unsigned i, k;

	f->request.rather = ENDPOINTS_MAX;
	for (i = 1; i <= SUSPECTS; i++) {
		o = &b->suspects[(b->suspects_next - i) % SUSPECTS];
		if (!is_origin_of(o, f->first, f->first + f->count))
			continue;
		places |= o->places;
		for (k = 0; o->sure && k < ENDPOINTS_MAX; k++) {
			if (o->places & ~blamed & 1u << k)
				f->request.rather = k;
		}
		blamed |= o->sure ? o->places : 0;
	}
	f->request.avoid = places;
	f->request.worst = blamed;
	for (k = 0; k < ENDPOINTS_MAX; k++)
		if (places & ~blamed & 1u << k)
			f->request.rather = k;
}

void flight_drop_locked(struct blob *b, uint64_t off, uint64_t n)
{
	struct flight *f = b->flights;

	while (f) {
		struct flight *next = f->next;

		if (flight_start(f) < off + n && off < flight_start(f) + flight_size(f)) {
			f->dropped = true;
			flight_unlist_locked(f);
		}
		f = next;
	}
}

/* ---- what arrives ---- */

bool flight_was_dropped_locked(const struct blob *b, uint64_t first, uint64_t end, unsigned since)
{
	unsigned i;

	if (b->drops - since > DROPPED)
		return true; /* what was dropped so long ago is not known any more */
	for (i = since; i != b->drops; i++)
		if (b->dropped[i % DROPPED].first <= first && end <= b->dropped[i % DROPPED].end)
			return true;
	return false;
}

/* The cache's map takes space in proportion to the size, and whoever makes manifests can claim any:
 * before an answer has confirmed it nothing is given to the cache. */
static bool is_confirmed_locked(struct blob *b)
{
	b->confirmed = b->confirmed || cache_blob_has_map(b->cache);
	return b->confirmed;
}

bool flight_publish(struct flight *f, uint64_t chunk, const uint8_t *bytes)
{
	struct blob *b = f->blob;
	int r;

	pthread_mutex_lock(&b->lock);
	if (!flight_has_cache(b) || !is_confirmed_locked(b) || f->dropped ||
	    flight_was_dropped_locked(b, chunk, chunk + 1, f->drops)) {
		pthread_mutex_unlock(&b->lock);
		return false;
	}
	note_given_locked(b, chunk, chunk + 1, 1u << f->request.place);
	b->publishing = true;
	pthread_mutex_unlock(&b->lock);
	r = cache_blob_publish(b->cache, chunk, bytes);
	pthread_mutex_lock(&b->lock);
	b->publishing = false;
	clock_wake(&b->changed);
	pthread_mutex_unlock(&b->lock);
	return r == 0;
}

/* Hands over chunks that are complete, up to `end` bytes.  False: one could not be kept. */
static bool publish_up_to(struct flight *f, uint64_t end)
{
	uint64_t size = flight_size(f), next;
	bool all = true;

	for (; f->published < size; f->published = next) {
		next = min_u64(f->published + CACHE_CHUNK, size);
		if (next > end)
			break;
		all = flight_publish(f, f->first + f->published / CACHE_CHUNK,
				     f->bytes->data + f->published) &&
		      all;
	}
	return all;
}

/* Readers may take so many bytes now. */
static void show(struct flight *f, uint64_t bytes)
{
	pthread_mutex_lock(&f->blob->lock);
	if (!f->noted)
		note_given_locked(f->blob, f->first + f->proven / CACHE_CHUNK, f->first + f->count,
				  1u << f->request.place);
	f->noted = true;
	f->places |= 1u << f->request.place;
	f->arrived = max_u64(f->arrived, bytes);
	if (f->arrived >= f->awaited)
		wake_locked(f);
	pthread_mutex_unlock(&f->blob->lock);
	if (!publish_up_to(f, bytes))
		f->refused = true;
}

/* Bytes of the flight's own range, in order. */
static void take_own(struct flight *f, uint64_t off, const uint8_t *buf, size_t n)
{
	uint64_t start = flight_start(f), at = start + f->received, end = start + flight_size(f);
	size_t m;

	if (off > at || off + n <= at || at == end)
		return;
	buf += at - off;
	m = (size_t)min_u64(off + n - at, end - at);
	memcpy(f->bytes->data + f->received, buf, m);
	f->received += m;
	f->request.first = at + m;
	if (f->received > HELD_BACK && f->received - HELD_BACK > f->proven)
		show(f, f->received - HELD_BACK);
}

void flight_wake_all(struct blob *b)
{
	struct flight *f;

	WITH_LOCK(&b->lock);
	for (f = b->flights; f; f = f->next)
		wake_locked(f);
}

/* What was found wrong before is not what this exchange gives. */
static void note_exchange(struct flight *f)
{
	WITH_LOCK(&f->blob->lock);
	f->drops = f->blob->drops;
	f->noted = false;
	f->blob->confirmed = f->blob->confirmed || range_confirms_size(&f->request);
}

static int on_bytes(struct request *q, uint64_t off, const void *buf, size_t n, struct err *e)
{
	struct flight *f = flight_of(q);
	bool goes_on;

	if (f->request.x.received == n) /* the first of this exchange */
		note_exchange(f);
	goes_on = q->whole && whole_take(f, off, buf, n);

	if (q->held)
		return goes_on ? 0 : err_set(e, EPROTO, "a blob that cannot be held back");
	take_own(f, off, buf, n);
	return q->whole && !goes_on && q->first > q->last; /* all of ours is there */
}

static bool may_hold(struct request *q)
{
	return whole_may_hold(flight_of(q)->blob);
}

/* The bytes of a flight from `proven` on are to be written anew.  False: no memory. */
static bool renew_bytes_locked(struct flight *f)
{
	size_t size = (size_t)flight_size(f);
	struct flight_bytes *fresh;

	if (f->bytes->refs == 1 || f->arrived == f->proven)
		return true;
	fresh = malloc(sizeof *fresh + size);
	if (!fresh)
		return false;
	fresh->refs = 1;
	memcpy(fresh->data, f->bytes->data, (size_t)f->proven);
	flight_let_go_locked(f->bytes);
	f->bytes = fresh;
	return true;
}

/* The exchange failed: nothing of what it gave stays, see (5). */
static int take_back(struct flight *f, struct err *e)
{
	struct blob *b = f->blob;
	uint64_t kept = f->proven / CACHE_CHUNK * CACHE_CHUNK; /* published up to here before */
	int r = 0;

	if (b->cache && f->published > kept)
		cache_blob_drop(b->cache, flight_start(f) + kept, f->published - kept);
	f->published = min_u64(f->published, kept);
	pthread_mutex_lock(&b->lock);
	if (!renew_bytes_locked(f))
		r = err_set(e, ENOBUFS, "out of memory");
	if (f->arrived > f->proven)
		f->taken_back++;
	f->arrived = f->proven;
	f->places = f->proven_places;
	pthread_mutex_unlock(&b->lock);
	f->received = f->proven;
	f->request.first = flight_start(f) + f->proven;
	return r;
}

static int on_judge(struct request *q, int r, struct err *e)
{
	struct flight *f = flight_of(q);
	int held = q->whole ? whole_judge(f, r, e) : 0;

	if (r == 0 && held == 0 && q->held) {
		const uint8_t *bytes = whole_held(f->blob);

		take_own(f, 0, bytes, (size_t)f->blob->source.size);
	}
	if (q->whole)
		whole_end(f);
	if (r < 0 || held < 0)
		return take_back(f, e) < 0 ? -ENOBUFS : held;
	show(f, f->received);
	f->proven = f->received;
	pthread_mutex_lock(&f->blob->lock);
	f->proven_places = f->places;
	pthread_mutex_unlock(&f->blob->lock);
	return 0;
}

/* ---- begin and end ---- */

static bool all_is_cached_locked(const struct flight *f)
{
	uint64_t i;

	for (i = 0; i < f->count; i++)
		if (!flight_is_cached(f->blob, f->first + i))
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
	if (whole_passes_soon(b, flight_start(f)))
		return REQUEST_LATER;
	if (f->started)
		return REQUEST_GO;
	f->bytes = malloc(sizeof *f->bytes + (size_t)flight_size(f));
	if (!f->bytes)
		return REQUEST_LATER;
	f->bytes->refs = 1;
	f->started = true;
	q->first = flight_start(f);
	q->last = q->first + flight_size(f) - 1;
	avoid_suspects_locked(b, f);
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

	pthread_mutex_lock(&b->lock);
	f->done = true;
	f->r = r;
	f->why = *e;
	if (f->rank != CLAIM_NONE)
		cache_blob_unclaim(b->cache, f->first, f->count, f->rank);
	f->kept = f->refused && f->arrived == flight_size(f) && f->listed;
	if (f->kept) { /* who waited has all of it, and was woken */
		b->kept_bytes += flight_size(f);
		trim_kept_locked(b, KEPT_BYTES);
	} else {
		flight_unlist_locked(f);
	}
	if (f->hint) {
		f->hint->flights--;
		f->hint->unkept = f->hint->unkept || f->refused;
		if (r < 0 && f->hint->r == 0) {
			f->hint->r = r;
			f->hint->why = *e;
		}
		end_hint_locked(f->hint);
	}
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
		.judge = on_judge,
		.may_hold = may_hold,
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

	while (n < most && !flight_is_cached(b, first + n) && !flight_find_locked(b, first + n))
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

	while (*last) /* what an earlier call has made must be sent as well */
		last = &(*last)->next;
	end = min_u64(end, blob_chunks(b));
	rank = b->cache ? rank : CLAIM_NONE;
	for (; at < end; at += max_u64(n, 1)) {
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
		unsigned rank = b->cache ? h->rank : CLAIM_NONE;
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
		h->skipped = h->skipped || !f;
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
