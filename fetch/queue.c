/* SPDX-License-Identifier: Apache-2.0 */
/* queue.c - see queue.h.
 *
 * (1) `running` counts the requests that hold a slot; it never exceeds `connections`.
 * (2) `low_bytes` is what prefetch and background requests that hold a slot asked for, less what
 * has arrived of it.
 * (3) Feeders are asked only when a request of theirs could start at once, so none waits long. */
#include "fetch/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	LOW_BYTES = 512 * 1024, /* in flight at low priority, at least; */
	LOW_US = 8000, /* or what a link gives in this time, which is as long as a demand waits */
	REQUEST_US = 5000, /* of work that a request makes for a server and for us, about */
	SIDE_BY_SIDE = 4, /* requests at low priority, about */
	LOOK_AGAIN = 20, /* ms */
	MEASURED_BYTES = 128 * 1024, /* over which bandwidth is taken, at least, */
	MEASURED_US = 10 * 1000, /* and in which time */
};

/* `last` is where the next one goes; it counts only where there is a first one. */
struct line {
	struct request *first, **last;
};

struct feeders {
	struct feeder *first, **last;
};

struct queue {
	struct http *http;
	struct endpoint_list *endpoints;
	unsigned connections, running;
	struct line waiting[REQUEST_PRIORITIES];
	struct feeders feeders[REQUEST_PRIORITIES];
	uint64_t low_bytes;
	struct http_call refill;
	bool starting; /* start_waiting is on the stack */
	struct request *live; /* all that have not ended */

	pthread_mutex_t lock;
	struct feeders given; /* guarded by lock: not taken over yet */
	struct http_call take_given;
	atomic_bool closing;
	bool closed; /* guarded by lock: nothing is under way any more */
	pthread_cond_t has_closed;
	struct http_call close;

	atomic_uint replays; /* sequences that run */
	_Atomic uint64_t round_trip; /* us; 0: not known */
	_Atomic uint64_t bandwidth; /* bytes a second; the engine's thread writes */
	uint64_t measured_from, measured_bytes; /* us of clock_us */
};

static void take_given(struct http_call *c);
static void refill(struct http_call *c);

int queue_open(struct http *http, struct endpoint_list *endpoints, unsigned connections,
	       struct queue **out, struct err *e)
{
	struct queue *k = calloc(1, sizeof *k);

	if (!k)
		return err_set(e, ENOMEM, "out of memory");
	k->http = http;
	k->endpoints = endpoints;
	k->connections = connections;
	k->take_given.run = take_given;
	k->refill.run = refill;
	pthread_mutex_init(&k->lock, NULL);
	clock_init_cond(&k->has_closed);
	*out = k;
	return 0;
}

bool queue_is_closing(const struct queue *k)
{
	return atomic_load(&k->closing) || http_now_stopping(k->http);
}

struct http *queue_http(const struct queue *k)
{
	return k->http;
}

struct endpoint_list *queue_endpoints(struct queue *k)
{
	return k->endpoints;
}

uint32_t queue_mirrors(const struct queue *k)
{
	const struct endpoint_list *list = k->endpoints;
	size_t registries = list->items[list->count - 1].sibling ? 2 : 1;

	return list->count > registries ? (1u << (list->count - registries)) - 1 : 0;
}

uint64_t queue_round_trip(const struct queue *k)
{
	return (atomic_load_explicit(&k->round_trip, memory_order_relaxed) + 999) / 1000;
}

/* ---- what the link gives ---- */

void queue_note_round_trip(struct queue *k, uint64_t us)
{
	uint64_t old = atomic_load_explicit(&k->round_trip, memory_order_relaxed);

	if (us == 0)
		return;
	/* The least counts, for what comes above it is the server's work; it ages. */
	us = old == 0 || us < old ? us : old + (us - old) / 16;
	atomic_store_explicit(&k->round_trip, us, memory_order_relaxed);
}

static void begin_measuring(struct queue *k, uint64_t now)
{
	k->measured_from = now;
	k->measured_bytes = 0;
}

/* Over times in which some request was under way, that for its first byte included: bytes that
 * piled up while this thread was kept from reading do not count as fast ones. */
void queue_note_bytes(struct queue *k, size_t n)
{
	uint64_t now = clock_us(), taken = now - k->measured_from, rate, old;

	k->measured_bytes += n;
	if (k->measured_bytes < MEASURED_BYTES || taken < MEASURED_US)
		return;
	rate = k->measured_bytes * 1000000 / taken;
	old = atomic_load_explicit(&k->bandwidth, memory_order_relaxed);
	atomic_store_explicit(&k->bandwidth, rate > old ? rate : (7 * old + rate) / 8,
			      memory_order_relaxed);
	begin_measuring(k, now);
}

/* Bytes that are under way when the link is full. */
static uint64_t link_bytes(const struct queue *k)
{
	uint64_t us = atomic_load_explicit(&k->round_trip, memory_order_relaxed);
	uint64_t bandwidth = atomic_load_explicit(&k->bandwidth, memory_order_relaxed);

	return us * (bandwidth / 1000) / 1000;
}

/* What comes in so many microseconds. */
static uint64_t bytes_in(const struct queue *k, uint64_t us)
{
	return us * (atomic_load_explicit(&k->bandwidth, memory_order_relaxed) / 1000) / 1000;
}

/* What is in flight keeps the link busy while a request waits for its answer, unless that takes
 * longer: then each request costs some of the time, and a few go side by side.  The work that it
 * makes costs time in any case. */
void queue_link(const struct queue *k, struct link_facts *out)
{
	uint64_t waiting = link_bytes(k);

	out->bandwidth = atomic_load_explicit(&k->bandwidth, memory_order_relaxed);
	out->cheap_gap = max_u64(waiting > LOW_BYTES / 2 ? waiting / SIDE_BY_SIDE : 0,
				 bytes_in(k, REQUEST_US));
}

void queue_note_replays(struct queue *k, int change)
{
	atomic_fetch_add(&k->replays, (unsigned)change);
}

bool queue_is_replaying(const struct queue *k)
{
	return atomic_load_explicit(&k->replays, memory_order_relaxed) > 0;
}

/* Twice what the link holds, since what it holds is never seen to be more than what was asked for:
 * a demand waits at most a round trip longer. */
static uint64_t low_limit(const struct queue *k)
{
	return max_u64(max_u64(2 * link_bytes(k), bytes_in(k, LOW_US)), LOW_BYTES);
}

/* ---- turns ---- */

static uint64_t wanted(const struct request *q)
{
	return q->ranged ? q->last - q->first + 1 : 0;
}

static struct request *take_waiting(struct queue *k, enum request_priority p)
{
	struct request *q = k->waiting[p].first;

	if (q)
		k->waiting[p].first = q->next;
	return q;
}

/* There may be very many: a client's hints over a disk of small pieces. */
static void append_feeder(struct feeders *line, struct feeder *f)
{
	f->next = NULL;
	*(line->first ? line->last : &line->first) = f;
	line->last = &f->next;
}

static struct feeder *take_feeder(struct feeders *line)
{
	struct feeder *f = line->first;

	if (f)
		line->first = f->next;
	return f;
}

/* Asks the feeders of a priority in turn. */
static struct request *take_fed(struct queue *k, enum request_priority p, uint64_t room)
{
	struct feeders *line = &k->feeders[p];
	struct request *q = NULL;
	struct feeder *f;

	while (!q && (f = take_feeder(line)) != NULL) { /* it may free itself */
		q = f->next_request(f, room);
		if (q) {
			f->next = line->first;
			line->first = f;
			if (!f->next)
				line->last = &f->next;
			request_enter(q);
		}
	}
	return q;
}

/* Whether so much of the limit is free that what fits is worth a request: three quarters, but less
 * where the link would run dry until its first byte. */
static bool has_low_room(const struct queue *k)
{
	uint64_t limit = low_limit(k), link = link_bytes(k);

	return k->low_bytes <= max_u64(limit / 4, min_u64(link + link / 2, limit / 2));
}

static struct request *take_low(struct queue *k, enum request_priority p)
{
	uint64_t limit = low_limit(k);
	struct request *q;

	if (!has_low_room(k))
		return NULL;
	q = take_waiting(k, p);
	if (!q)
		q = take_fed(k, p, limit - k->low_bytes);
	return q;
}

static struct request *take_next(struct queue *k)
{
	struct request *q = take_waiting(k, REQUEST_DEMAND);

	if (!q)
		q = take_low(k, REQUEST_PREFETCH);
	if (!q)
		q = take_low(k, REQUEST_BACKGROUND);
	return q;
}

static void start_waiting(struct queue *k)
{
	struct request *q;

	if (k->starting)
		return; /* a request that ended at once: the loop below goes on */
	k->starting = true;
	while (k->running < k->connections && (q = take_next(k)) != NULL) {
		if (k->running++ == 0)
			begin_measuring(k, clock_us());
		q->holds_slot = true;
		q->slot_bytes = q->priority == REQUEST_DEMAND ? 0 : wanted(q);
		k->low_bytes += q->slot_bytes;
		request_start(q);
	}
	k->starting = false;
}

void queue_add(struct queue *k, struct request *q, bool first)
{
	struct line *line = &k->waiting[q->priority];

	if (first) {
		q->next = line->first;
		line->first = q;
		if (!q->next)
			line->last = &q->next;
	} else {
		q->next = NULL;
		*(line->first ? line->last : &line->first) = q;
		line->last = &q->next;
	}
	start_waiting(k);
}

void queue_remove(struct queue *k, struct request *q)
{
	struct line *line = &k->waiting[q->priority];
	struct request **at = &line->first;

	while (*at && *at != q)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = q->next;
	if (!*at)
		line->last = at;
}

void queue_release(struct queue *k, struct request *q)
{
	if (!q->holds_slot)
		return;
	q->holds_slot = false;
	k->running--;
	k->low_bytes -= q->slot_bytes;
	start_waiting(k);
}

static void refill(struct http_call *c)
{
	start_waiting((struct queue *)((char *)c - offsetof(struct queue, refill)));
}

/* Not from here: libcurl is on the stack.  And never once the queue is being closed, for the call
 * might then outlive it. */
void queue_note_arrived(struct queue *k, struct request *q, size_t n)
{
	uint64_t gone = min_u64(n, q->slot_bytes);

	q->slot_bytes -= gone;
	k->low_bytes -= gone;
	if (gone > 0 && has_low_room(k) && !queue_is_closing(k))
		http_post(k->http, &k->refill);
}

/* ---- feeders ---- */

static void take_given(struct http_call *c)
{
	struct queue *k = (struct queue *)((char *)c - offsetof(struct queue, take_given));
	struct feeder *f;

	pthread_mutex_lock(&k->lock);
	while ((f = take_feeder(&k->given)) != NULL)
		append_feeder(&k->feeders[f->priority], f);
	pthread_mutex_unlock(&k->lock);
	start_waiting(k);
}

void queue_feed(struct queue *k, struct feeder *f)
{
	WITH_LOCK(&k->lock);
	append_feeder(&k->given, f);
	http_post(k->http, &k->take_given);
}

/* ---- the accounts, and the end ---- */

void queue_enter(struct queue *k, struct request *q)
{
	q->next_live = k->live;
	q->live_link = &k->live;
	if (k->live)
		k->live->live_link = &q->next_live;
	k->live = q;
}

void queue_leave(struct queue *k, struct request *q)
{
	*q->live_link = q->next_live;
	if (q->next_live)
		q->next_live->live_link = q->live_link;
}

static bool quiesce(struct queue *k)
{
	bool quiet = true;
	size_t i;

	take_given(&k->take_given);
	while (k->live)
		request_abort(k->live);
	for (i = 0; i < REQUEST_PRIORITIES; i++) /* each says that there is no more */
		(void)take_fed(k, (enum request_priority)i, 0);
	for (i = 0; i < k->endpoints->count; i++)
		quiet = endpoint_quiesce(&k->endpoints->items[i]) && quiet;
	return quiet;
}

static void close_on_engine(struct http_call *c)
{
	struct queue *k = (struct queue *)((char *)c - offsetof(struct queue, close));

	if (!quiesce(k)) {
		/* Timers do not wait once the engine stops, and there is little else to do. */
		if (http_now_stopping(k->http))
			clock_sleep(LOOK_AGAIN);
		http_timer_set(k->http, c, clock_ms() + LOOK_AGAIN);
		return;
	}
	WITH_LOCK(&k->lock);
	k->closed = true;
	clock_wake(&k->has_closed);
}

static void await_closed(struct queue *k)
{
	WITH_LOCK(&k->lock);
	while (!k->closed)
		clock_wait(&k->has_closed, &k->lock, CLOCK_NEVER);
}

/* Done again before it is freed, since the engine may still be about to tell a thread that came
 * after the first time that it is closed. */
void queue_shut(struct queue *k)
{
	atomic_store(&k->closing, true);
	k->closed = false; /* the engine has nothing to do with it now */
	k->close.run = close_on_engine;
	http_run(k->http, &k->close);
	await_closed(k);
}

void queue_close(struct queue *k)
{
	if (!k)
		return;
	queue_shut(k);
	pthread_cond_destroy(&k->has_closed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}
