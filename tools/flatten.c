/* SPDX-License-Identifier: Apache-2.0 */
/* flatten.c - mappings into a layer, see flatten.h.
 *
 * Two cursors walk the mappings: one cuts their data into spans for the pool, one writes what comes
 * back.  A span is dense, a mebibyte of data whatever the gaps of the disk, so that a million small
 * mappings on a large disk are not a million jobs; its `off` is a place, see struct cursor. */
#include "tools/flatten.h"

#include <errno.h>

#include "core/base/le.h"
#include "tools/progress.h"
#include "tools/spans.h"

enum { PLACE_SHIFT = 14 }; /* FORMAT_MAX_SECTORS is below 2^14 */

/* A place in the mappings: the next sector is so far into mapping `at`. */
struct cursor {
	size_t at;
	uint64_t skip; /* sectors */
};

/* Sectors of one mapping that follow one another in a layer. */
struct piece {
	uint64_t lba, sectors, moffset;
	size_t layer;
	bool zeroed;
};

struct work {
	struct flatten *f;
	struct layer_writer *writer;
	struct cursor cut, written;
	struct progress progress;
};

/* Takes the next piece, at most `room` sectors if it is data.  False at the end. */
static bool next_piece(const struct flatten *f, struct cursor *c, uint64_t room, struct piece *out)
{
	struct mapping m;
	uint64_t end;

	if (c->at == f->count || mapping_start(f->maps[c->at]) >= f->end)
		return false;
	m = f->maps[c->at];
	end = min_u64(mapping_end(m), f->end);
	*out = (struct piece){ .lba = mapping_start(m) + c->skip,
			       .moffset = mapping_moffset(m) + c->skip,
			       .layer = mapping_layer(m),
			       .zeroed = mapping_zeroed(m) };
	out->sectors = end - out->lba;
	if (!out->zeroed)
		out->sectors = min_u64(out->sectors, room);
	c->skip += out->sectors;
	if (out->lba + out->sectors == end)
		*c = (struct cursor){ .at = c->at + 1 };
	return true;
}

/* The same, past all that is zeroed. */
static bool next_data(const struct flatten *f, struct cursor *c, uint64_t room, struct piece *out)
{
	while (next_piece(f, c, room, out))
		if (!out->zeroed)
			return true;
	return false;
}

static int next_span(void *arg, uint64_t *off, size_t *n, struct err *e)
{
	struct work *w = arg;
	struct piece p;

	*off = (uint64_t)w->cut.at << PLACE_SHIFT | w->cut.skip;
	*n = 0;
	while (*n < SPANS_PIECE && next_data(w->f, &w->cut, (SPANS_PIECE - *n) / SECTOR, &p)) {
		if (w->f->remote)
			source_prefetch(w->f->source(w->f->arg, p.layer), p.moffset * SECTOR,
					p.sectors * SECTOR);
		*n += (size_t)(p.sectors * SECTOR);
	}
	return *n > 0;
}

static int read_piece(const struct flatten *f, const struct piece *p, uint8_t *to, struct err *e)
{
	int r = source_pread(f->source(f->arg, p->layer), to, (size_t)(p->sectors * SECTOR),
			     p->moffset * SECTOR, e);

	return r < 0 ? f->fail(f->arg, p->layer, r, e) : 0;
}

/* One read for all that follow one another in a layer. */
static int work_span(void *arg, struct span *span, struct err *e)
{
	const struct flatten *f = ((const struct work *)arg)->f;
	struct cursor c = { .at = (size_t)(span->off >> PLACE_SHIFT),
			    .skip = span->off & ((1 << PLACE_SHIFT) - 1) };
	struct piece p, next = { 0 };
	size_t done = 0; /* bytes before p */
	int r = 0;

	if (!next_data(f, &c, span->n / SECTOR, &p))
		return 0;
	while (r == 0 && done < span->n) {
		size_t n = (size_t)(p.sectors * SECTOR);
		bool more = done + n < span->n &&
			    next_data(f, &c, (span->n - done - n) / SECTOR, &next);

		if (more && next.layer == p.layer && next.moffset == p.moffset + p.sectors) {
			p.sectors += next.sectors;
			continue;
		}
		r = read_piece(f, &p, span->buffer + done, e);
		done += n;
		p = next;
	}
	return r;
}

static int write_piece(struct work *w, const struct piece *p, const uint8_t *bytes, struct err *e)
{
	if (!p->zeroed) {
		w->f->data += p->sectors * SECTOR;
		return layer_writer_data(w->writer, p->lba, bytes, p->sectors, e);
	}
	if (w->f->drop_zeroed)
		return 0;
	w->f->zeroed += p->sectors * SECTOR;
	return layer_writer_zeroes(w->writer, p->lba, p->sectors, e);
}

static int each_span(void *arg, const struct span *span, struct err *e)
{
	struct work *w = arg;
	struct piece p;
	size_t done = 0;
	int r = span->r < 0 ? err_set(e, -span->r, "%s", span->err.msg) : 0;

	while (r == 0 && done < span->n &&
	       next_piece(w->f, &w->written, (span->n - done) / SECTOR, &p)) {
		r = write_piece(w, &p, span->buffer + done, e);
		done += p.zeroed ? 0 : (size_t)(p.sectors * SECTOR);
	}
	progress_add(&w->progress, span->n);
	return r;
}

static uint64_t data_bytes(const struct flatten *f)
{
	struct cursor c = { 0 };
	struct piece p;
	uint64_t bytes = 0;

	while (next_data(f, &c, UINT64_MAX, &p))
		bytes += p.sectors * SECTOR;
	return bytes;
}

int flatten_write(struct flatten *f, struct layer_writer *writer, struct workers *pool,
		  struct err *e)
{
	static const struct spans_ops ops = {
		.room = SPANS_PIECE, .next = next_span, .work = work_span, .each = each_span
	};
	struct work w = { .f = f, .writer = writer };
	struct piece p;
	int r;

	f->data = f->zeroed = 0;
	progress_init(&w.progress, f->what, data_bytes(f));
	r = spans_run(&ops, &w, pool, e);
	progress_clear(&w.progress);
	/* What is zeroed behind the last data is in no span. */
	while (r == 0 && next_piece(f, &w.written, 0, &p))
		r = write_piece(&w, &p, NULL, e);
	return r;
}
