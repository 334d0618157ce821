/* SPDX-License-Identifier: Apache-2.0 */
/* sequence.c - a feeder that hands on to a hint a range, one after the other; see sequence.h. */
#include "fetch/sequence.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "fetch/flight.h"

_Static_assert((int)SEQUENCE_CHUNK == (int)CACHE_CHUNK, "a sequence counts the cache's chunks");

struct sequence {
	struct feeder feeder; /* first member */
	struct queue *queue;
	struct sequence_range *ranges;
	size_t count;
	size_t next; /* the engine's */
	struct hint *hint; /* of the range before; the engine's */
	atomic_bool stopping;
	atomic_uint refs; /* the owner, the queue */
};

bool sequence_takes(struct source *s)
{
	return blob_is(s) && blob_of(s)->cache;
}

void sequence_link(struct source *blob, struct link_facts *out)
{
	queue_link(blob_of(blob)->queue, out);
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

static struct hint *next_hint(struct sequence *s)
{
	struct hint *h = NULL;

	while (!h && s->next < s->count) {
		const struct sequence_range *r = &s->ranges[s->next++];
		struct blob *b = blob_of(r->source);

		pthread_mutex_lock(&b->lock);
		h = hint_make_locked(b, r->first * CACHE_CHUNK, r->count * CACHE_CHUNK,
				     REQUEST_PREFETCH);
		pthread_mutex_unlock(&b->lock);
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
