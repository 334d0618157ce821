/* SPDX-License-Identifier: Apache-2.0 */
/* image_read.c - walks what an image is made of: reads, extents, hints. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/base/le.h"
#include "core/image_private.h"

enum {
	WANTED_LAYERS = 8, /* of a read that are asked for together */
	WANTED_GAP = 16 * 1024, /* bytes that are cheaper to fetch than another request */
	PIECES = 64, /* of an upper that are looked up at once */
};

/* The first piece of [off, off + n), where *m is the first mapping that ends after off. */
static struct image_extent first_piece(const struct mapping *m, uint64_t off, uint64_t n)
{
	uint64_t skip = off % SECTOR; /* of the sector that holds off */
	struct segment s = segment_at(*m, off / SECTOR, UINT64_MAX);
	struct image_extent x = { .off = off, .n = min_u64(n, s.sectors * SECTOR - skip) };

	if (!s.mapped) {
		x.kind = EXTENT_HOLE;
		return x;
	}
	x.kind = s.zeroed ? EXTENT_ZERO : EXTENT_DATA;
	x.layer = s.layer;
	if (!s.zeroed)
		x.layer_off = s.moffset * SECTOR + skip;
	return x;
}

int image_check_range(const struct image *image, uint64_t n, uint64_t off, struct err *e)
{
	if (range_fits(off, n, image->size))
		return 0;
	return err_set(e, EINVAL,
		       "%s: %" PRIu64 " bytes at %" PRIu64 " lie beyond the disk's end at %" PRIu64,
		       image->config->path, n, off, image->size);
}

static int read_layer(struct image *image, const struct stack *stack, const struct image_extent *x,
		      void *buf, struct err *e)
{
	const struct image_layer *l = stack->layers[x->layer];
	int r = source_pread(l->layer.data, buf, (size_t)x->n, x->layer_off, e);

	if (l->stats) {
		stats_add(l->stats, STATS_READS, 1);
		stats_add(l->stats, STATS_READ_BYTES, x->n);
	}
	return r < 0 ? err_wrap(e, r, "%s: layer %zu (%s)", image->config->path, x->layer, l->path)
		     : 0;
}

/* A range of one layer that a read is going to want. */
struct wanted {
	size_t layer;
	uint64_t off, n; /* n 0: none */
};

static void flush_wanted(const struct stack *stack, struct wanted *w)
{
	if (w->n > 0)
		source_want(stack->layers[w->layer]->layer.data, w->off, w->n);
	w->n = 0;
}

/* Adds a piece; those of a layer mostly follow one another there, and go out as one. */
static void add_wanted(const struct stack *stack, struct wanted *w, const struct image_extent *x)
{
	uint64_t end = w->off + w->n;

	if (w->n > 0 &&
	    (w->layer != x->layer || x->layer_off < end || x->layer_off - end > WANTED_GAP))
		flush_wanted(stack, w);
	if (w->n == 0)
		*w = (struct wanted){ .layer = x->layer, .off = x->layer_off };
	w->n = x->layer_off + x->n - w->off;
}

/* Asks for all of a read before its first part is waited for.  Layers share the slots: where they
 * collide, their pieces go out one by one. */
static void want_all(const struct stack *stack, const struct mapping *m, uint64_t off, uint64_t n)
{
	struct wanted wanted[WANTED_LAYERS] = { 0 };
	size_t i;

	while (n > 0) {
		struct image_extent x = first_piece(m, off, n);

		if (x.kind == EXTENT_DATA)
			add_wanted(stack, &wanted[x.layer % WANTED_LAYERS], &x);
		m += x.kind != EXTENT_HOLE;
		off += x.n;
		n -= x.n;
	}
	for (i = 0; i < WANTED_LAYERS; i++)
		flush_wanted(stack, &wanted[i]);
}

int image_read_layers(struct image *image, const struct stack *stack, void *buf, size_t n,
		      uint64_t off, struct err *e)
{
	const struct mapping *m = index_maps(stack->index) + index_find(stack->index, off / SECTOR);
	uint8_t *to = buf;
	int r = 0;

	if (image->lowers.remote && first_piece(m, off, n).n < n)
		want_all(stack, m, off, n);
	while (r == 0 && n > 0) {
		struct image_extent x = first_piece(m, off, n);

		if (x.kind == EXTENT_DATA)
			r = read_layer(image, stack, &x, to, e);
		else
			memset(to, 0, (size_t)x.n);
		m += x.kind != EXTENT_HOLE;
		to += x.n;
		off += x.n;
		n -= (size_t)x.n;
	}
	return r;
}

static int read_image(struct image *image, void *buf, size_t n, uint64_t off, struct err *e)
{
	unsigned seat;
	int r;

	if (!image->writable)
		return image_read_layers(image, image_stack(image), buf, n, off, e);
	seat = upper_readers_enter(&image->readers);
	r = upper_log_pread(image_stack(image)->upper->log, buf, n, off, e);
	upper_readers_leave(&image->readers, seat);
	return r < 0 ? err_wrap(e, r, "%s", image->config->path) : 0;
}

/* One deadline for all of it, however many layers and pieces it takes. */
int image_pread(struct image *image, void *buf, size_t n, uint64_t off, struct err *e)
{
	uint64_t before;
	int r = image_check_range(image, n, off, e);

	if (r < 0)
		return r;
	before = image_caller_begin(image);
	r = read_image(image, buf, n, off, e);
	caller_end(before);
	return r;
}

/* ---- extents ---- */

struct extent_walk {
	const struct stack *stack;
	bool merged;
	int (*each)(void *arg, const struct image_extent *extent);
	void *arg;
	struct image_extent whole; /* the pieces of one kind so far */
};

static int emit_whole(struct extent_walk *w)
{
	return w->whole.n > 0 ? w->each(w->arg, &w->whole) : 0;
}

static int emit(struct extent_walk *w, const struct image_extent *x)
{
	int r;

	if (w->whole.n > 0 && w->merged && w->whole.kind == x->kind) {
		w->whole.n += x->n;
		return 0;
	}
	r = emit_whole(w);
	w->whole = *x;
	return r;
}

static int walk_layers(struct extent_walk *w, uint64_t off, uint64_t n)
{
	const struct mapping *m =
		index_maps(w->stack->index) + index_find(w->stack->index, off / SECTOR);
	int r = 0;

	while (r == 0 && n > 0) {
		struct image_extent x = first_piece(m, off, n);

		r = emit(w, &x);
		m += x.kind != EXTENT_HOLE;
		off += x.n;
		n -= x.n;
	}
	return r;
}

/* What an upper says of a piece that it maps. */
static struct image_extent upper_extent(const struct segment *s, size_t layer, uint64_t off,
					uint64_t n)
{
	struct image_extent x = {
		.off = off,
		.n = n,
		.kind = s->zeroed ? EXTENT_ZERO : EXTENT_DATA,
		.layer = layer,
	};

	if (!s->zeroed)
		x.layer_off = s->moffset * SECTOR + off % SECTOR;
	return x;
}

/* uppers[0] is the topmost; it is layer number `layer`, the one below it is `layer` - 1. */
static int walk_uppers(struct extent_walk *w, struct image_upper *const *uppers, size_t count,
		       size_t layer, uint64_t off, uint64_t n)
{
	struct segment pieces[PIECES];
	int r = 0;

	if (count == 0)
		return walk_layers(w, off, n);
	while (r == 0 && n > 0) {
		uint64_t sectors = (off % SECTOR + n + SECTOR - 1) / SECTOR;
		size_t found =
			upper_log_pieces(uppers[0]->log, off / SECTOR, sectors, pieces, PIECES);
		size_t i;

		for (i = 0; r == 0 && i < found; i++) {
			uint64_t bytes = min_u64(n, pieces[i].sectors * SECTOR - off % SECTOR);
			struct image_extent x = upper_extent(&pieces[i], layer, off, bytes);

			r = pieces[i].mapped
				    ? emit(w, &x)
				    : walk_uppers(w, uppers + 1, count - 1, layer - 1, off, bytes);
			off += bytes;
			n -= bytes;
		}
	}
	return r;
}

static int walk(struct extent_walk *w, uint64_t off, uint64_t n)
{
	const struct stack *s = w->stack;
	struct image_upper *uppers[2];
	size_t count = 0;

	if (s->upper)
		uppers[count++] = s->upper;
	if (s->frozen)
		uppers[count++] = s->frozen;
	return walk_uppers(w, uppers, count, s->layer_count - 1, off, n);
}

int image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
		  int (*each)(void *arg, const struct image_extent *extent), void *arg)
{
	struct extent_walk w = { .merged = merged, .each = each, .arg = arg };
	unsigned seat;
	int r = image_check_range(image, n, off, NULL);

	if (r < 0)
		return r;
	seat = image_sit_down(image);
	w.stack = image_stack(image);
	r = walk(&w, off, n);
	if (r == 0)
		r = emit_whole(&w);
	image_stand_up(image, seat);
	return r < 0 ? r : 0;
}

static int prefetch_extent(void *arg, const struct image_extent *x)
{
	struct image *image = arg;

	if (x->kind == EXTENT_DATA)
		source_prefetch(image_layer(image, x->layer)->layer.data, x->layer_off, x->n);
	return 0;
}

void image_prefetch(struct image *image, uint64_t off, uint64_t n)
{
	(void)image_extents(image, off, min_u64(n, image->size - off), false, prefetch_extent,
			    image);
}
