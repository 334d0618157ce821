/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - see plan.h. */
#include "prefetch/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	WINDOW = 32, /* chunks: 512 KiB */
	GAPS_DIVISOR = 10, /* gaps are at most so large a part of the chunks that are needed */
};

/* What is planned of one layer. */
struct plan_layer {
	struct source *blob; /* NULL: it is none */
	uint64_t *bits; /* one a chunk; NULL until there is one */
};

/* A run of chunks, in order of first use. */
struct run {
	uint64_t first, count;
	size_t layer;
};

struct planner {
	struct image *image;
	struct plan *plan;
	struct run *runs;
	size_t count, room;
	bool asking; /* nothing is added: stops at the first chunk that is not planned */
	bool missing;
};

static bool has_bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static int append_run(struct planner *p, size_t layer, uint64_t chunk)
{
	struct run *last = p->count > 0 ? &p->runs[p->count - 1] : NULL;

	if (last && last->layer == layer && last->first + last->count == chunk) {
		last->count++;
		return 0;
	}
	if (p->count == p->room) {
		size_t room = p->room ? 2 * p->room : 1024;
		struct run *grown = reallocarray(p->runs, room, sizeof *grown);

		if (!grown)
			return -ENOMEM;
		p->runs = grown;
		p->room = room;
	}
	p->runs[p->count++] = (struct run){ .first = chunk, .count = 1, .layer = layer };
	return 0;
}

static int add_chunk(struct planner *p, size_t number, uint64_t chunk)
{
	struct plan_layer *l = &p->plan->layers[number];

	if (l->bits && has_bit(l->bits, chunk))
		return 0;
	if (p->asking) {
		p->missing = true;
		return 1;
	}
	if (!l->bits) {
		l->bits = calloc(l->blob->size / SEQUENCE_CHUNK / 64 + 1, sizeof *l->bits);
		if (!l->bits)
			return -ENOMEM;
	}
	l->bits[chunk / 64] |= UINT64_C(1) << chunk % 64;
	p->plan->chunks++;
	return append_run(p, number, chunk);
}

static int add_piece(void *arg, const struct image_extent *x)
{
	struct planner *p = arg;
	uint64_t off = x->layer_off, n = x->n, chunk, end;
	int r = 0;

	if (x->kind != EXTENT_DATA || !p->plan->layers[x->layer].blob)
		return 0;
	(void)source_bottom(image_layer(p->image, x->layer)->layer.data, &off, &n);
	end = (off + n + SEQUENCE_CHUNK - 1) / SEQUENCE_CHUNK;
	for (chunk = off / SEQUENCE_CHUNK; r == 0 && chunk < end; chunk++)
		r = add_chunk(p, x->layer, chunk);
	return r;
}

/* A read that does not fit is none of this image's. */
static int walk_read(struct planner *p, const struct trace_read *read)
{
	uint64_t sectors = image_size(p->image) / SECTOR;

	if (!range_fits(read->lba, read->sectors, sectors))
		return 0;
	return image_extents(p->image, read->lba * SECTOR, (uint64_t)read->sectors * SECTOR, false,
			     add_piece, p);
}

static int find_blobs(struct planner *p)
{
	struct plan *plan = p->plan;
	size_t i;

	plan->layer_count = image_layer_count(p->image);
	plan->layers = calloc(plan->layer_count + 1, sizeof *plan->layers);
	if (!plan->layers)
		return -ENOMEM;
	for (i = 0; i < plan->layer_count; i++) {
		uint64_t off = 0, n = 1;
		struct source *s = source_bottom(image_layer(p->image, i)->layer.data, &off, &n);

		plan->layers[i].blob = sequence_takes(s) ? s : NULL;
	}
	return 0;
}

/* ---- ranges ---- */

static int by_place(const void *a, const void *b)
{
	const struct run *x = a, *y = b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

/* Chunks of [first, end) that no read needs. */
static uint64_t count_unneeded(const struct plan_layer *l, uint64_t first, uint64_t end)
{
	uint64_t n = 0;

	for (; first < end; first++)
		n += !has_bit(l->bits, first);
	return n;
}

/* Whether the run can be fetched with the range before it. */
static bool join(struct plan *p, const struct run *run, uint64_t gap)
{
	struct sequence_range *last = p->count > 0 ? &p->ranges[p->count - 1] : NULL;
	const struct plan_layer *l = &p->layers[run->layer];
	uint64_t end, unneeded;

	if (!last || last->source != l->blob || last->first > run->first)
		return false;
	end = last->first + last->count;
	if (run->first > end + gap)
		return false;
	unneeded = count_unneeded(l, end, run->first);
	if (p->gaps + unneeded > p->chunks / GAPS_DIVISOR)
		return false;
	p->gaps += unneeded;
	last->count = max_u64(last->count, run->first + run->count - last->first);
	return true;
}

/* The last range of one window is not joined with the first of the next but where both touch. */
static void take_window(struct plan *p, struct run *runs, size_t count, uint64_t gap)
{
	size_t i;

	qsort(runs, count, sizeof *runs, by_place);
	for (i = 0; i < count; i++)
		if (!join(p, &runs[i], i > 0 ? gap : 0))
			p->ranges[p->count++] =
				(struct sequence_range){ .source = p->layers[runs[i].layer].blob,
							 .first = runs[i].first,
							 .count = runs[i].count };
}

static int make_ranges(struct planner *p)
{
	struct plan *plan = p->plan;
	size_t begin = 0, end;
	uint64_t gap;

	if (p->count == 0)
		return 0;
	plan->ranges = calloc(p->count, sizeof *plan->ranges);
	if (!plan->ranges)
		return -ENOMEM;
	gap = sequence_cheap_gap(plan->layers[p->runs[0].layer].blob) / SEQUENCE_CHUNK;
	while (begin < p->count) {
		uint64_t chunks = 0;

		for (end = begin; end < p->count && chunks < WINDOW; end++)
			chunks += p->runs[end].count;
		take_window(plan, p->runs + begin, end - begin, gap);
		begin = end;
	}
	return 0;
}

int plan_make(struct image *image, const struct trace *t, struct plan *out, struct err *e)
{
	struct plan plan = { 0 };
	struct planner p = { .image = image, .plan = &plan };
	int r = find_blobs(&p);
	size_t i;

	for (i = 0; r == 0 && i < t->count; i++)
		r = walk_read(&p, &t->reads[i]);
	if (r == 0)
		r = make_ranges(&p);
	free(p.runs);
	if (r < 0) {
		plan_release(&plan);
		return err_set(e, -r, "%s", strerror(-r));
	}
	*out = plan;
	return 0;
}

bool plan_covers(const struct plan *plan, struct image *image, const struct trace_read *read)
{
	struct plan asked = *plan; /* which stays as it is: see `asking` */
	struct planner p = { .image = image, .plan = &asked, .asking = true };

	(void)walk_read(&p, read);
	return !p.missing;
}

void plan_release(struct plan *p)
{
	size_t i;

	for (i = 0; p->layers && i < p->layer_count; i++)
		free(p->layers[i].bits);
	free(p->layers);
	free(p->ranges);
	*p = (struct plan){ 0 };
}
