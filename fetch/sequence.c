/* SPDX-License-Identifier: Apache-2.0 */
/* sequence.c - a feeder that hands on to one hint a range, window after window; see sequence.h. */
#include "fetch/sequence.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/scope.h"
#include "fetch/flight.h"
#include "fetch/sequence_window.h"

_Static_assert((int)SEQUENCE_CHUNK == (int)CACHE_CHUNK, "a sequence counts the cache's chunks");

struct sequence {
	struct feeder feeder; /* first member */
	struct queue *queue;
	struct sequence_range *ranges;
	size_t count;
	struct hint *hint; /* of the range before; the engine's, as what follows */
	size_t next; /* range to be fetched */
	size_t window_end; /* of those that are ordered, up to where they are; */
	size_t rest; /* where the others begin */
	uint64_t gaps; /* chunks that may still be fetched without need */
	atomic_bool stopping;
	atomic_uint refs; /* the owner, the queue */
};

bool sequence_takes(struct source *s)
{
	return blob_is(s) && blob_of(s)->cache;
}

bool sequence_is_present(const struct sequence_range *r)
{
	uint64_t off = r->first * CACHE_CHUNK, n = r->count * CACHE_CHUNK;
	const struct blob *b = blob_of(r->source);

	if (n > b->source.size - off)
		n = b->source.size - off;
	return blob_present(b, off, n) == n;
}

static void unref(struct sequence *s)
{
	if (atomic_fetch_sub(&s->refs, 1) > 1)
		return;
	free(s->ranges);
	free(s);
}

/* As late as possible: what the link gives is known better each time. */
static void order_window(struct sequence *s)
{
	struct sequence_window w;
	struct link_facts link;

	queue_link(s->queue, &link);
	w = sequence_window_take(s->ranges + s->rest, s->count - s->rest, &link, &s->gaps);
	s->next = s->rest;
	s->window_end = s->next + w.count;
	s->rest += w.taken;
}

static struct hint *hint_for(const struct sequence_range *r)
{
	struct blob *b = blob_of(r->source);

	WITH_LOCK(&b->lock);
	return hint_make_locked(b, r->first * CACHE_CHUNK, r->count * CACHE_CHUNK,
				REQUEST_PREFETCH);
}

static struct hint *next_hint(struct sequence *s)
{
	struct hint *h = NULL;

	while (!h && (s->next < s->window_end || s->rest < s->count)) {
		if (s->next == s->window_end)
			order_window(s);
		h = hint_for(&s->ranges[s->next++]);
	}
	return h;
}

/* Such a hint gives nothing more. */
static void end_hint(struct sequence *s)
{
	if (!s->hint)
		return;
	s->hint->next = s->hint->end;
	(void)s->hint->feeder.next_request(&s->hint->feeder, 0);
	s->hint = NULL;
}

static struct request *next_request(struct feeder *feeder, uint64_t room)
{
	struct sequence *s = (struct sequence *)feeder;
	struct request *q = NULL;

	while (!q && !atomic_load(&s->stopping) && !queue_is_closing(s->queue)) {
		if (!s->hint)
			s->hint = next_hint(s);
		if (!s->hint)
			break;
		q = s->hint->feeder.next_request(&s->hint->feeder, room);
		if (!q)
			s->hint = NULL; /* it is at its end, and has freed itself */
	}
	if (!q) {
		end_hint(s);
		queue_note_replays(s->queue, -1);
		unref(s);
	}
	return q;
}

int sequence_start(struct sequence_range *ranges, size_t count, struct sequence **out,
		   struct err *e)
{
	struct sequence *s = calloc(1, sizeof *s);

	if (!s) {
		free(ranges);
		return err_set(e, ENOMEM, "out of memory");
	}
	s->feeder.priority = REQUEST_PREFETCH;
	s->feeder.next_request = next_request;
	s->queue = blob_of(ranges[0].source)->queue;
	s->ranges = ranges;
	s->count = count;
	atomic_init(&s->refs, 2);
	*out = s;
	queue_note_replays(s->queue, 1);
	queue_feed(s->queue, &s->feeder);
	return 0;
}

void sequence_close(struct sequence *s)
{
	if (!s)
		return;
	atomic_store(&s->stopping, true);
	unref(s);
}
