/* SPDX-License-Identifier: Apache-2.0 */
/* trace_edit.c - see trace_edit.h.
 *
 * Which sectors are known is kept for "cells", the pieces into which the ends of all reads cut the
 * disk: a read either covers a cell or does not touch it.  Each known cell points to a later one
 * that may be unknown, and the pointers are shortened while they are followed, so that all steps
 * together are nearly linear in the number of cells. */
#include "prefetch/trace_edit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/array.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/identity.h"

static int no_memory(struct err *e)
{
	return err_set(e, ENOMEM, "out of memory");
}

static int compare_u64(const void *a, const void *b)
{
	return order_u64(*(const uint64_t *)a, *(const uint64_t *)b);
}

/* ---- ranges ---- */

static int compare_ranges(const void *a, const void *b)
{
	const struct trace_range *x = a, *y = b;

	return order_u64(x->lba, y->lba);
}

/* Appends a range that begins at or after the beginning of the last one.  There is room. */
static void add_range(struct trace_ranges *r, uint64_t lba, uint64_t sectors)
{
	struct trace_range *last = r->count > 0 ? &r->list[r->count - 1] : NULL;
	uint64_t end = last ? last->lba + last->sectors : 0;

	if (!last || lba > end) {
		r->list[r->count++] = (struct trace_range){ .lba = lba, .sectors = sectors };
		r->sectors += sectors;
	} else if (lba + sectors > end) {
		last->sectors += lba + sectors - end;
		r->sectors += lba + sectors - end;
	}
}

int trace_ranges_of(const struct trace *t, struct trace_ranges *out, struct err *e)
{
	struct trace_ranges all = { .list = malloc(t->count * sizeof *all.list) };
	size_t i;

	if (!all.list)
		return no_memory(e);
	for (i = 0; i < t->count; i++)
		all.list[i] = (struct trace_range){ .lba = t->reads[i].lba,
						    .sectors = t->reads[i].sectors };
	qsort(all.list, t->count, sizeof *all.list, compare_ranges);
	/* In place: what is written lies behind what was read. */
	for (i = 0; i < t->count; i++)
		add_range(&all, all.list[i].lba, all.list[i].sectors);
	*out = all;
	return 0;
}

int trace_ranges_subtract(const struct trace_ranges *a, const struct trace_ranges *b,
			  struct trace_ranges *out, struct err *e)
{
	/* Each range of b cuts one more piece off at most. */
	struct trace_ranges rest = { .list = malloc((a->count + b->count) * sizeof *rest.list) };
	size_t i, k = 0;

	if (!rest.list)
		return no_memory(e);
	for (i = 0; i < a->count; i++) {
		uint64_t at = a->list[i].lba, end = at + a->list[i].sectors;

		while (k < b->count && b->list[k].lba + b->list[k].sectors <= at)
			k++;
		/* The last that touches this range may touch the next one too: k stays there. */
		for (; k < b->count && b->list[k].lba < end; k++) {
			if (b->list[k].lba > at)
				add_range(&rest, at, b->list[k].lba - at);
			at = b->list[k].lba + b->list[k].sectors;
			if (at >= end)
				break;
		}
		if (at < end)
			add_range(&rest, at, end - at);
	}
	*out = rest;
	return 0;
}

void trace_ranges_release(struct trace_ranges *r)
{
	free(r->list);
	*r = (struct trace_ranges){ 0 };
}

/* ---- first use ---- */

struct cells {
	uint64_t *starts; /* [count + 1], ascending: cell i is [starts[i], starts[i + 1]) */
	uint32_t *next; /* [count + 1]: a cell at or after i that may be unknown; count: the end */
	size_t count;
};

static void cells_release(struct cells *c)
{
	free(c->starts);
	free(c->next);
}

static int cells_init(struct cells *c, const struct trace_read *reads, size_t n, struct err *e)
{
	size_t i, kept = 0;

	*c = (struct cells){ .starts = malloc(2 * n * sizeof *c->starts) };
	if (!c->starts)
		return no_memory(e);
	for (i = 0; i < n; i++) {
		c->starts[2 * i] = reads[i].lba;
		c->starts[2 * i + 1] = reads[i].lba + reads[i].sectors;
	}
	qsort(c->starts, 2 * n, sizeof *c->starts, compare_u64);
	for (i = 0; i < 2 * n; i++)
		if (kept == 0 || c->starts[i] != c->starts[kept - 1])
			c->starts[kept++] = c->starts[i];
	c->count = kept > 0 ? kept - 1 : 0;
	c->next = malloc(kept * sizeof *c->next);
	if (!c->next) {
		cells_release(c);
		return no_memory(e);
	}
	for (i = 0; i < kept; i++)
		c->next[i] = (uint32_t)i;
	return 0;
}

/* The cell that begins at this sector, which a read begins or ends at. */
static size_t cells_find(const struct cells *c, uint64_t lba)
{
	size_t low = 0, high = c->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (c->starts[middle] < lba)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first unknown cell at or after i. */
static size_t cells_unknown(struct cells *c, size_t i)
{
	while (c->next[i] != i) {
		c->next[i] = c->next[c->next[i]];
		i = c->next[i];
	}
	return i;
}

/* Where reads go; beyond its room they are counted only. */
struct collector {
	struct trace_read *reads;
	size_t count, room, left_out;
};

static void collect(struct collector *out, const struct trace_read *read)
{
	if (out->count < out->room)
		out->reads[out->count++] = *read;
	else
		out->left_out++;
}

/* Hands on the unknown parts of a read, which are known then. */
static void collect_unknown(struct cells *c, const struct trace_read *read, struct collector *out)
{
	size_t end = cells_find(c, read->lba + read->sectors);
	size_t i = cells_unknown(c, cells_find(c, read->lba));

	while (i < end) {
		struct trace_read part = *read;
		size_t first = i;

		for (; i < end && c->next[i] == i; i++)
			c->next[i] = (uint32_t)i + 1;
		part.lba = c->starts[first];
		part.sectors = (uint32_t)(c->starts[i] - part.lba);
		collect(out, &part);
		i = cells_unknown(c, i);
	}
}

/* The first uses among n reads, as a new array. */
static int find_first_uses(const struct trace_read *reads, size_t n, struct collector *out,
			   struct err *e)
{
	struct cells cells;
	size_t i;
	int r = cells_init(&cells, reads, n, e);

	if (r < 0)
		return r;
	/* Each part that is handed on has a cell of its own. */
	out->room = (size_t)min_u64(cells.count, TRACE_READS_MAX);
	out->reads = malloc(out->room * sizeof *out->reads);
	if (out->reads)
		for (i = 0; i < n; i++)
			collect_unknown(&cells, &reads[i], out);
	cells_release(&cells);
	return out->reads ? 0 : no_memory(e);
}

int trace_keep_first(struct trace *t, size_t *left_out, struct err *e)
{
	struct collector out = { 0 };
	int r = find_first_uses(t->reads, t->count, &out, e);

	if (r < 0)
		return r;
	free(t->reads);
	t->reads = out.reads;
	t->count = out.count;
	if (left_out)
		*left_out = out.left_out;
	return 0;
}

/* ---- merge ---- */

int trace_same_image(const struct trace *a, const struct trace *b, struct err *e)
{
	if (strcmp(a->identity, b->identity) != 0)
		return err_set(e, EINVAL, "traces of different images: %s and %s", a->identity,
			       b->identity);
	if (a->disk_size != b->disk_size)
		return err_set(e, EINVAL,
			       "traces of disks of different sizes: %" PRIu64 " and %" PRIu64
			       " bytes",
			       a->disk_size, b->disk_size);
	return 0;
}

int trace_check_image(const struct trace *t, struct image *image, struct err *e)
{
	char identity[DIGEST_TEXT];
	int r = image_identity(image, identity, e);

	if (r < 0)
		return r;
	if (strcmp(identity, t->identity) != 0)
		return err_set(e, EINVAL, "the trace is of another image: %s, this one is %s",
			       t->identity, identity);
	if (t->disk_size > image_size(image))
		return err_set(e, EINVAL,
			       "the trace is of a disk of %" PRIu64 " bytes, this one has %" PRIu64,
			       t->disk_size, image_size(image));
	return 0;
}

/* A read and its place among those of all traces, which decides between equal times. */
struct placed_read {
	struct trace_read read;
	size_t place;
};

static int compare_times(const void *a, const void *b)
{
	const struct placed_read *x = a, *y = b;
	int r = order_u64(x->read.us, y->read.us);

	return r != 0 ? r : order_u64(x->place, y->place);
}

static int sort_by_time(struct trace_read *reads, size_t n, struct err *e)
{
	AUTO_FREE struct placed_read *placed = malloc(n * sizeof *placed);
	size_t i;

	if (!placed)
		return no_memory(e);
	for (i = 0; i < n; i++)
		placed[i] = (struct placed_read){ .read = reads[i], .place = i };
	qsort(placed, n, sizeof *placed, compare_times);
	for (i = 0; i < n; i++)
		reads[i] = placed[i].read;
	return 0;
}

int trace_merge(const struct trace *const *traces, size_t count, struct trace *out,
		size_t *left_out, struct err *e)
{
	struct trace all = { 0 };
	size_t i, k, total = 0;
	int r = 0;

	for (i = 0; r == 0 && i < count; i++) {
		r = trace_same_image(traces[0], traces[i], e);
		total += traces[i]->count;
	}
	if (r < 0)
		return r;
	if (total >= UINT32_MAX / 2)
		return err_set(e, EINVAL, "%zu reads are too many to merge", total);
	all.reads = malloc(total * sizeof *all.reads);
	if (!all.reads)
		return no_memory(e);
	for (i = 0; i < count; i++)
		for (k = 0; k < traces[i]->count; k++)
			all.reads[all.count++] = traces[i]->reads[k];
	r = sort_by_time(all.reads, all.count, e);
	if (r == 0)
		r = trace_keep_first(&all, left_out, e);
	if (r < 0) {
		trace_release(&all);
		return r;
	}
	memcpy(all.identity, traces[0]->identity, sizeof all.identity);
	all.disk_size = traces[0]->disk_size;
	*out = all;
	return 0;
}

/* ---- totals ---- */

static int add_data(void *arg, const struct image_extent *x)
{
	if (x->kind == EXTENT_DATA)
		*(uint64_t *)arg += x->n;
	return 0;
}

/* Bytes of a layer's file that hold some of what is read. */
struct packed {
	uint64_t off, end;
	size_t layer;
};

struct packed_list {
	struct image *image;
	struct packed *list;
	size_t count, room;
	uint64_t bytes; /* of the disk */
};

static int add_packed(void *arg, const struct image_extent *x)
{
	struct packed_list *p = arg;
	uint64_t off = x->layer_off, n = x->n;
	struct packed *grown;

	if (x->kind != EXTENT_DATA)
		return 0;
	p->bytes += x->n;
	grown = array_grow(p->list, p->count, &p->room, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	p->list = grown;
	(void)source_bottom(image_layer(p->image, x->layer)->layer.data, &off, &n);
	p->list[p->count++] = (struct packed){ off, off + n, x->layer };
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct packed *x = a, *y = b;
	int r = order_u64(x->layer, y->layer);

	return r != 0 ? r : order_u64(x->off, y->off);
}

/* Neighbours share blocks. */
static uint64_t sum_up_packed(struct packed_list *p)
{
	uint64_t sum = 0, end = 0;
	size_t i;

	if (p->list)
		qsort(p->list, p->count, sizeof *p->list, by_place);
	for (i = 0; i < p->count; i++) {
		const struct packed *x = &p->list[i];

		if (i > 0 && x->layer != x[-1].layer)
			end = 0;
		sum += max_u64(x->end, end) - max_u64(x->off, end);
		end = max_u64(x->end, end);
	}
	return sum;
}

static int sum_up_image(const struct trace_ranges *ranges, struct image *image,
			struct trace_totals *out, struct err *e)
{
	struct packed_list packed = { .image = image };
	size_t i;
	int r = image_extents(image, 0, image_size(image), true, add_data, &out->image_bytes);

	for (i = 0; r == 0 && i < ranges->count; i++)
		r = image_extents(image, ranges->list[i].lba * SECTOR,
				  ranges->list[i].sectors * SECTOR, false, add_packed, &packed);
	if (r == 0) {
		out->packed_bytes = sum_up_packed(&packed);
		out->image_unique_bytes = packed.bytes;
		out->has_image = true;
	}
	free(packed.list);
	if (r == -ENOMEM)
		return no_memory(e);
	return r < 0 ? err_set(e, -r, "trace of a larger disk than the image's") : 0;
}

int trace_sum_up(const struct trace *t, struct image *image, struct trace_totals *out,
		 struct err *e)
{
	struct trace_totals totals = { .reads = t->count };
	struct trace_ranges ranges;
	size_t i;
	int r = trace_ranges_of(t, &ranges, e);

	if (r < 0)
		return r;
	for (i = 0; i < t->count; i++) {
		totals.read_bytes += (uint64_t)t->reads[i].sectors * SECTOR;
		totals.duration_us = max_u64(totals.duration_us, t->reads[i].us);
	}
	totals.unique_bytes = ranges.sectors * SECTOR;
	r = image ? sum_up_image(&ranges, image, &totals, e) : 0;
	trace_ranges_release(&ranges);
	if (r == 0)
		*out = totals;
	return r;
}
