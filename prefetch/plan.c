/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - see plan.h. */
#include "prefetch/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "prefetch/trace_edit.h"

enum {
	WINDOW = 32, /* chunks at least: 512 KiB */
	WINDOWS_A_SECOND = 10, /* over a link that is fast enough for more */
	GAPS_DIVISOR = 8, /* gaps are at most so large a part of the chunks that are needed */
	PIECES_A_READ = 64, /* of the disk, on average: a trace with more repeats itself */
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
	uint64_t pieces_left; /* to look at before reads are to be made unique */
	bool asking; /* nothing is added: stops at the first chunk that is not planned */
	enum plan_has has; /* the answer */
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

	bool planned = l->bits && has_bit(l->bits, chunk);

	if (p->asking)
		p->has = planned ? PLAN_HAS_ALL : PLAN_LACKS_SOME;
	if (planned || p->asking)
		return !planned;
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

	if (p->pieces_left-- == 0)
		return -E2BIG;
	/* Layers that came later are the work of snapshots, and local. */
	if (x->kind != EXTENT_DATA || x->layer >= p->plan->layer_count ||
	    !p->plan->layers[x->layer].blob)
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

/* Each sector once, where it is first read. */
static int walk_first_uses(struct planner *p, const struct trace_read *reads, size_t count)
{
	struct trace first = { .reads = malloc(count * sizeof *reads), .count = count };
	size_t i;
	int r;

	if (!first.reads)
		return -ENOMEM;
	memcpy(first.reads, reads, count * sizeof *reads);
	r = trace_keep_first(&first, NULL, NULL);
	for (i = 0; r == 0 && i < first.count; i++)
		r = walk_read(p, &first.reads[i]);
	trace_release(&first);
	return r;
}

/* A trace of repeated reads of a disk of many pieces would take for ever; to look for repetitions
 * in every trace takes longer than to walk most. */
static int walk_reads(struct planner *p, const struct trace *t)
{
	size_t i;
	int r = 0;

	p->pieces_left = PIECES_A_READ * ((uint64_t)t->count + image_mapping_count(p->image));
	for (i = 0; r == 0 && i < t->count; i++)
		r = walk_read(p, &t->reads[i]);
	if (r != -E2BIG)
		return r;
	p->pieces_left = UINT64_MAX;
	return walk_first_uses(p, &t->reads[i - 1], t->count - (i - 1));
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

/* Whether a run continues a range without a gap. */
static bool touches(const struct sequence_range *range, const struct sequence_range *next)
{
	return range->source == next->source && range->first + range->count >= next->first &&
	       range->first <= next->first;
}

/* The runs of a window become ranges, in the order of their places. */
static void take_window(struct plan *p, struct run *runs, size_t count)
{
	size_t i;

	qsort(runs, count, sizeof *runs, by_place);
	for (i = 0; i < count; i++) {
		struct sequence_range next = { .source = p->layers[runs[i].layer].blob,
					       .first = runs[i].first,
					       .count = runs[i].count };

		if (p->count > 0 && touches(&p->ranges[p->count - 1], &next))
			p->ranges[p->count - 1].count =
				next.first + next.count - p->ranges[p->count - 1].first;
		else
			p->ranges[p->count++] = next;
	}
}

/* A gap between a range and the one after it. */
struct gap {
	uint64_t unneeded; /* chunks */
	size_t range;
};

static int by_size(const void *a, const void *b)
{
	const struct gap *x = a, *y = b;

	if (x->unneeded != y->unneeded)
		return x->unneeded < y->unneeded ? -1 : 1;
	return x->range < y->range ? -1 : x->range > y->range;
}

static const struct plan_layer *layer_of(const struct plan *p, const struct source *blob)
{
	const struct plan_layer *l = p->layers;

	while (l->blob != blob)
		l++;
	return l;
}

/* The gaps of at most `most` chunks, the smallest first. */
static size_t find_gaps(const struct plan *p, uint64_t most, struct gap *gaps)
{
	size_t i, n = 0;

	for (i = 0; i + 1 < p->count; i++) {
		const struct sequence_range *x = &p->ranges[i], *y = x + 1;
		uint64_t end = x->first + x->count;

		if (x->source == y->source && y->first > end && y->first - end <= most)
			gaps[n++] =
				(struct gap){ count_unneeded(layer_of(p, x->source), end, y->first),
					      i };
	}
	qsort(gaps, n, sizeof *gaps, by_size);
	return n;
}

/* A range that is to be joined with the next one takes it over; what is left moves up. */
static void join_marked(struct plan *p, const bool *joined)
{
	size_t i, n = 0;

	for (i = 0; i < p->count; i++) {
		struct sequence_range *last = n > 0 ? &p->ranges[n - 1] : NULL;
		const struct sequence_range *next = &p->ranges[i];

		if (last && joined[i - 1])
			last->count = next->first + next->count - last->first;
		else
			p->ranges[n++] = *next;
	}
	p->count = n;
}

static int join_gaps(struct plan *p, uint64_t most)
{
	AUTO_FREE struct gap *gaps = calloc(p->count, sizeof *gaps);
	AUTO_FREE bool *joined = calloc(p->count, sizeof *joined);
	size_t i, n;

	if (!gaps || !joined)
		return -ENOMEM;
	n = find_gaps(p, most, gaps);
	for (i = 0; i < n; i++) {
		if (p->gaps + gaps[i].unneeded > p->chunks / GAPS_DIVISOR)
			break;
		p->gaps += gaps[i].unneeded;
		joined[gaps[i].range] = true;
	}
	join_marked(p, joined);
	return 0;
}

static int make_ranges(struct planner *p)
{
	struct plan *plan = p->plan;
	struct link_facts link;
	size_t begin = 0, end;
	uint64_t window;

	if (p->count == 0)
		return 0;
	plan->ranges = calloc(p->count, sizeof *plan->ranges);
	if (!plan->ranges)
		return -ENOMEM;
	sequence_link(plan->layers[p->runs[0].layer].blob, &link);
	window = max_u64(WINDOW, link.bandwidth / WINDOWS_A_SECOND / SEQUENCE_CHUNK);
	while (begin < p->count) {
		uint64_t chunks = 0;

		for (end = begin; end < p->count && chunks < window; end++)
			chunks += p->runs[end].count;
		take_window(plan, p->runs + begin, end - begin);
		begin = end;
	}
	return join_gaps(plan, link.cheap_gap / SEQUENCE_CHUNK);
}

int plan_make(struct image *image, const struct trace *t, struct plan *out, struct err *e)
{
	struct plan plan = { 0 };
	struct planner p = { .image = image, .plan = &plan };
	int r = find_blobs(&p);

	if (r == 0)
		r = walk_reads(&p, t);
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

enum plan_has plan_look_up(const struct plan *plan, struct image *image,
			   const struct trace_read *read)
{
	struct plan asked = *plan; /* which stays as it is: see `asking` */
	struct planner p = {
		.image = image, .plan = &asked, .pieces_left = UINT64_MAX, .asking = true
	};

	(void)walk_read(&p, read);
	return p.has;
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
