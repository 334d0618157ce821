/* SPDX-License-Identifier: Apache-2.0 */
/* spans.c - pieces through the pool and back in order, see spans.h.
 *
 * A ring of slots, each with its buffer and its job.  The caller's thread starts spans in all free
 * slots, then takes the oldest one back, and so on. */
#include "tools/spans.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/base/le.h"

/* Each takes some MiB; that many keep a fast disk busy. */
enum { MAX_SLOTS = 32 };

struct slot {
	struct job job; /* first: the pool hands it back */
	const struct spans_ops *ops;
	void *arg;
	struct span span;
};

static void run_slot(struct job *job)
{
	struct slot *slot = (struct slot *)job;

	slot->span.r = slot->ops->work(slot->arg, &slot->span, &slot->span.err);
}

static void free_slots(struct slot *slots, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		free(slots[i].span.buffer);
	free(slots);
}

static struct slot *make_slots(const struct spans_ops *ops, void *arg, size_t count)
{
	struct slot *slots = calloc(count, sizeof *slots);
	size_t i;

	for (i = 0; slots && i < count; i++) {
		slots[i] = (struct slot){ .job.run = run_slot, .ops = ops, .arg = arg };
		slots[i].span.buffer = malloc(ops->room);
		if (!slots[i].span.buffer) {
			free_slots(slots, i);
			return NULL;
		}
	}
	return slots;
}

int spans_run(const struct spans_ops *ops, void *arg, struct workers *pool, struct err *e)
{
	size_t count = (size_t)min_u64(2 * (uint64_t)workers_cpus() + 1, MAX_SLOTS);
	struct slot *slots = make_slots(ops, arg, count);
	uint64_t started = 0, taken = 0;
	bool more = true;
	int r = 0;

	if (!slots)
		return err_set(e, ENOMEM, "out of memory");
	do {
		while (more && started - taken < count) {
			struct slot *slot = &slots[started % count];

			r = ops->next(arg, &slot->span.off, &slot->span.n, e);
			more = r > 0;
			if (more) {
				workers_submit(pool, &slot->job);
				started++;
			}
		}
		if (taken < started) {
			struct slot *slot = &slots[taken++ % count];

			workers_wait(pool, &slot->job);
			if (r >= 0)
				r = ops->each(arg, &slot->span, e);
			more = more && r == 0;
		}
	} while (more || taken < started);
	free_slots(slots, count);
	return r;
}

/* spans_read's own callbacks. */
struct reader {
	struct source *source;
	uint64_t position; /* of the next span */
	int (*each)(void *arg, const struct span *span, struct err *e);
	void *arg;
};

static int reader_next(void *arg, uint64_t *off, size_t *n, struct err *e)
{
	struct reader *reader = arg;

	(void)e;
	*off = reader->position;
	*n = (size_t)min_u64(SPANS_PIECE, reader->source->size - reader->position);
	reader->position += *n;
	return *n > 0;
}

static int reader_work(void *arg, struct span *span, struct err *e)
{
	const struct reader *reader = arg;

	return source_pread(reader->source, span->buffer, span->n, span->off, e);
}

static int reader_each(void *arg, const struct span *span, struct err *e)
{
	const struct reader *reader = arg;

	return reader->each(reader->arg, span, e);
}

int spans_read(struct source *s, struct workers *pool,
	       int (*each)(void *arg, const struct span *span, struct err *e), void *arg,
	       struct err *e)
{
	static const struct spans_ops ops = {
		.room = SPANS_PIECE, .next = reader_next, .work = reader_work, .each = reader_each
	};
	struct reader reader = { .source = s, .each = each, .arg = arg };

	return spans_run(&ops, &reader, pool, e);
}
