/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - see plan.h. */
#include "prefetch/plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/array.h"
#include "core/base/le.h"
#include "prefetch/trace_edit.h"

enum {
	PIECES_A_READ = 64, /* of the disk, on average: a trace with more repeats itself */
};

/* What is planned of one layer. */
struct plan_layer {
	struct source *blob; /* NULL: it is none */
	uint64_t *bits; /* one a chunk; NULL until there is one */
};

struct planner {
	struct image *image;
	struct plan *plan;
	size_t room; /* of the plan's ranges */
	uint64_t pieces_left; /* to look at before reads are to be made unique */
	bool asking; /* nothing is added: stops at the first chunk that is not planned */
	enum plan_has has; /* the answer */
};

static bool has_bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> i % 64 & 1;
}

static int append_chunk(struct planner *p, struct source *blob, uint64_t chunk)
{
	struct plan *plan = p->plan;
	struct sequence_range *ranges = plan->ranges, *last;

	last = plan->count > 0 ? &ranges[plan->count - 1] : NULL;
	if (last && last->source == blob && last->first + last->count == chunk) {
		last->count++;
		return 0;
	}
	ranges = array_grow(ranges, plan->count, &p->room, sizeof *ranges);
	if (!ranges)
		return -ENOMEM;
	plan->ranges = ranges;
	plan->ranges[plan->count++] =
		(struct sequence_range){ .source = blob, .first = chunk, .count = 1 };
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
	return append_chunk(p, l->blob, chunk);
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
	plan->layers = calloc(plan->layer_count, sizeof *plan->layers);
	if (!plan->layers)
		return -ENOMEM;
	for (i = 0; i < plan->layer_count; i++) {
		uint64_t off = 0, n = 1;
		struct source *s = source_bottom(image_layer(p->image, i)->layer.data, &off, &n);

		plan->layers[i].blob = sequence_takes(s) ? s : NULL;
	}
	return 0;
}

int plan_make(struct image *image, const struct trace *t, struct plan *out, struct err *e)
{
	struct plan plan = { 0 };
	struct planner p = { .image = image, .plan = &plan };
	int r = find_blobs(&p);

	if (r == 0)
		r = walk_reads(&p, t);
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
