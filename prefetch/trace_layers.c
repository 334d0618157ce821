/* SPDX-License-Identifier: Apache-2.0 */
/* trace_layers.c - see trace_layers.h.
 *
 * From a layer to the disk it goes by the merged index turned round: its mappings of data sorted by
 * layer and place in it, cut so that they do not overlap there.  One search and one step for each
 * piece that is found is the cost of a record, and pieces are limited, so a hostile file cannot
 * make it long. */
#include "prefetch/trace_layers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/array.h"
#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/identity.h"
#include "prefetch/trace_edit.h"

enum {
	HEADER = 24,
	AT_BYTES = 8,
	AT_CHECKSUM = 16,
	RECORD = 24,
	AT_LAYER = 4,
	AT_COUNT = 8,
	AT_OFFSET = 16,
};

#define MAGIC UINT32_C(0xC2EF1820)

/* ---- the file ---- */

bool trace_layers_are(const void *bytes, size_t n)
{
	return n >= HEADER && le32_get(bytes) == MAGIC;
}

static int check_file(const uint8_t *raw, size_t n, struct err *e)
{
	uint64_t size;

	if (!trace_layers_are(raw, n))
		return err_set(e, EBADMSG, "no trace of layers (bad magic)");
	size = le64_get(raw + AT_BYTES);
	if (size != n - HEADER)
		return err_set(e, EBADMSG,
			       "trace of layers of %" PRIu64 " bytes of records, but %zu are there",
			       size, n - HEADER);
	if (size % RECORD != 0 || size / RECORD > TRACE_LAYERS_MAX)
		return err_set(e, EBADMSG,
			       "trace of layers of %" PRIu64
			       " bytes of records: no multiple of %d, "
			       "or more than %d of them",
			       size, RECORD, TRACE_LAYERS_MAX);
	if (crc32c_raw(0, raw + HEADER, (size_t)size) != le32_get(raw + AT_CHECKSUM))
		return err_set(e, EBADMSG, "trace of layers with a wrong checksum");
	return 0;
}

int trace_layers_parse(const void *bytes, size_t n, struct trace_layers *out, struct err *e)
{
	const uint8_t *raw = bytes;
	AUTO_FREE struct trace_layer_read *reads = NULL;
	size_t i, records, count = 0;
	int r = check_file(raw, n, e);

	if (r < 0)
		return r;
	records = (n - HEADER) / RECORD;
	reads = malloc(records * sizeof *reads);
	if (!reads)
		return err_set(e, ENOMEM, "out of memory");
	for (i = 0, raw += HEADER; i < records; i++, raw += RECORD) {
		if (raw[0] != 'R' && raw[0] != 'W')
			return err_set(
				e, EBADMSG,
				"trace of layers with an unknown operation 0x%02x (record %zu)",
				raw[0], i);
		if (raw[0] == 'R')
			reads[count++] =
				(struct trace_layer_read){ .layer = le32_get(raw + AT_LAYER),
							   .n = le64_get(raw + AT_COUNT),
							   .off = le64_get(raw + AT_OFFSET) };
	}
	*out = (struct trace_layers){ .reads = TAKE_PTR(reads), .count = count };
	return 0;
}

int trace_layers_format(const struct trace_layers *t, void **bytes, size_t *n, struct err *e)
{
	uint8_t *raw, *p;
	size_t size = t->count * RECORD, i;

	if (t->count > TRACE_LAYERS_MAX)
		return err_set(e, EINVAL, "trace of layers of %zu records, more than %d", t->count,
			       TRACE_LAYERS_MAX);
	raw = calloc(1, HEADER + size);
	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	le32_put(raw, MAGIC);
	le64_put(raw + AT_BYTES, size);
	for (i = 0, p = raw + HEADER; i < t->count; i++, p += RECORD) {
		p[0] = 'R';
		le32_put(p + AT_LAYER, t->reads[i].layer);
		le64_put(p + AT_COUNT, t->reads[i].n);
		le64_put(p + AT_OFFSET, t->reads[i].off);
	}
	le32_put(raw + AT_CHECKSUM, crc32c_raw(0, raw + HEADER, size));
	*bytes = raw;
	*n = HEADER + size;
	return 0;
}

void trace_layers_release(struct trace_layers *t)
{
	free(t->reads);
	*t = (struct trace_layers){ 0 };
}

/* ---- from layers to the disk ---- */

/* Orders mappings of data: by layer, by place in it. */
static uint64_t place_of(size_t layer, uint64_t moffset)
{
	return (uint64_t)layer << 48 | moffset;
}

static int compare_places(const void *a, const void *b)
{
	const struct mapping *x = a, *y = b;
	int r = order_u64(x->target, y->target);

	return r != 0 ? r : order_u64(mapping_start(*x), mapping_start(*y));
}

/* The merged index turned round: sorted by place, not overlapping there. */
struct reverse {
	struct mapping *maps;
	size_t count;
};

/* Takes from each mapping what those before it hold, in place. */
static void cut_overlaps(struct reverse *rev)
{
	uint64_t end = 0; /* as a place: the first that is not held yet */
	size_t i, kept = 0;

	for (i = 0; i < rev->count; i++) {
		struct mapping m = rev->maps[i];
		uint64_t sectors = mapping_sectors(m), cut = 0;

		if (m.target < end)
			cut = end - m.target;
		if (cut >= sectors)
			continue;
		rev->maps[kept++] = mapping_make(mapping_start(m) + cut, sectors - cut,
						 mapping_layer(m), mapping_moffset(m) + cut, false);
		end = m.target + sectors;
	}
	rev->count = kept;
}

static int reverse_init(struct reverse *rev, const struct index *ix, uint64_t disk_sectors,
			struct err *e)
{
	const struct mapping *maps = index_maps(ix);
	size_t n = index_count(ix), i;

	*rev = (struct reverse){ .maps = malloc(n * sizeof *rev->maps) };
	if (!rev->maps)
		return err_set(e, ENOMEM, "out of memory");
	/* What is mapped beyond the disk's end is never seen. */
	for (i = 0; i < n && mapping_start(maps[i]) < disk_sectors; i++) {
		uint64_t start = mapping_start(maps[i]);

		if (!mapping_zeroed(maps[i]))
			rev->maps[rev->count++] = mapping_make(
				start, min_u64(mapping_sectors(maps[i]), disk_sectors - start),
				mapping_layer(maps[i]), mapping_moffset(maps[i]), false);
	}
	qsort(rev->maps, rev->count, sizeof *rev->maps, compare_places);
	cut_overlaps(rev);
	return 0;
}

/* The first mapping that ends after this place. */
static size_t reverse_find(const struct reverse *rev, uint64_t place)
{
	size_t low = 0, high = rev->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rev->maps[middle].target + mapping_sectors(rev->maps[middle]) <= place)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct to_disk {
	struct reverse reverse;
	struct trace trace;
	size_t room; /* reads that trace has memory for */
	size_t record_begin; /* reads of earlier records: those are not joined to */
	struct trace_layers_notes *notes;
};

/* Appends a read, to the last one when it goes on there.  1 when there is no room. */
static int add_read(struct to_disk *x, uint64_t lba, uint64_t sectors, struct err *e)
{
	struct trace *t = &x->trace;
	struct trace_read *reads, *last;

	last = t->count > x->record_begin ? &t->reads[t->count - 1] : NULL;
	if (last && last->lba + last->sectors == lba && sectors <= UINT32_MAX - last->sectors) {
		last->sectors += (uint32_t)sectors;
		return 0;
	}
	if (t->count == TRACE_READS_MAX)
		return 1;
	reads = array_grow(t->reads, t->count, &x->room, sizeof *reads);
	if (!reads)
		return err_set(e, ENOMEM, "out of memory");
	t->reads = reads;
	t->reads[t->count++] = (struct trace_read){ .lba = lba, .sectors = (uint32_t)sectors };
	return 0;
}

/* One record; its range lies within its layer's file, whose places fit the index.  1: no room. */
static int convert_record(struct to_disk *x, const struct trace_layer_read *read, struct err *e)
{
	uint64_t at = place_of(read->layer, read->off / SECTOR);
	uint64_t end = place_of(read->layer, (read->off + read->n + SECTOR - 1) / SECTOR);
	size_t i = reverse_find(&x->reverse, at);
	int r = 0;

	x->record_begin = x->trace.count;
	for (; r == 0 && i < x->reverse.count && x->reverse.maps[i].target < end; i++) {
		struct mapping m = x->reverse.maps[i];
		uint64_t from = max_u64(at, m.target);
		uint64_t to = min_u64(end, m.target + mapping_sectors(m));

		r = add_read(x, mapping_start(m) + from - m.target, to - from, e);
	}
	if (r == 0 && x->trace.count == x->record_begin)
		x->notes->hidden++;
	return r;
}

static bool is_in_layer(const struct image *image, const struct trace_layer_read *read)
{
	const struct source *data;

	if (read->layer >= image_layer_count(image) || read->n == 0)
		return false;
	data = image_layer(image, read->layer)->layer.data;
	return range_fits(read->off, read->n, data->size) &&
	       (read->off + read->n) / SECTOR < INDEX_MAX_MOFFSET;
}

static int convert_records(struct to_disk *x, const struct trace_layers *t,
			   const struct image *image, struct err *e)
{
	size_t i;
	int r = 0;

	for (i = 0; r >= 0 && i < t->count; i++) {
		if (!is_in_layer(image, &t->reads[i])) {
			x->notes->foreign++;
			continue;
		}
		r = convert_record(x, &t->reads[i], e);
		if (r > 0) {
			x->notes->left_out = t->count - i;
			return 0;
		}
	}
	return r;
}

int trace_layers_to_disk(const struct trace_layers *t, struct image *image, struct trace *out,
			 struct trace_layers_notes *notes, struct err *e)
{
	struct to_disk x = { .notes = notes };
	int r = image_identity(image, x.trace.identity, e);

	*notes = (struct trace_layers_notes){ 0 };
	if (r < 0)
		return r;
	x.trace.disk_size = image_size(image);
	r = reverse_init(&x.reverse, image_index(image), x.trace.disk_size / SECTOR, e);
	if (r == 0)
		r = convert_records(&x, t, image, e);
	free(x.reverse.maps);
	if (r < 0) {
		trace_release(&x.trace);
		return r;
	}
	*out = x.trace;
	return 0;
}

/* ---- from the disk to layers ---- */

struct from_disk {
	const struct image *image;
	struct trace_layers layers;
	size_t room;
	size_t read_begin; /* records of earlier reads: those are not joined to */
	bool full; /* there was no room for this read */
	struct trace_layers_notes *notes;
};

static int add_extent(void *arg, const struct image_extent *extent)
{
	struct from_disk *x = arg;
	struct trace_layers *t = &x->layers;
	struct trace_layer_read *reads, *last;

	if (extent->kind != EXTENT_DATA)
		return 0;
	if (image_layer(x->image, extent->layer)->is_upper) {
		x->notes->upper++;
		return 0;
	}
	last = t->count > x->read_begin ? &t->reads[t->count - 1] : NULL;
	if (last && last->layer == extent->layer && last->off + last->n == extent->layer_off) {
		last->n += extent->n;
		return 0;
	}
	if (t->count == TRACE_LAYERS_MAX) {
		x->full = true;
		return 1;
	}
	reads = array_grow(t->reads, t->count, &x->room, sizeof *reads);
	if (!reads)
		return -ENOMEM;
	t->reads = reads;
	t->reads[t->count++] = (struct trace_layer_read){ .layer = (uint32_t)extent->layer,
							  .off = extent->layer_off,
							  .n = extent->n };
	return 0;
}

/* Each sector once: repeated reads of a disk of many pieces would take for ever. */
static int first_uses(const struct trace *t, struct trace *out, size_t *left_out, struct err *e)
{
	size_t i;
	int r;

	*out = *t;
	out->reads = malloc(t->count * sizeof *out->reads);
	if (!out->reads)
		return err_set(e, ENOMEM, "out of memory");
	for (i = 0; i < t->count; i++)
		out->reads[i] = t->reads[i];
	r = trace_keep_first(out, left_out, e);
	if (r < 0)
		trace_release(out);
	return r;
}

static int convert_reads(struct from_disk *x, const struct trace *t, struct image *image)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < t->count; i++) {
		x->read_begin = x->layers.count;
		x->full = false;
		r = image_extents(image, t->reads[i].lba * SECTOR,
				  (uint64_t)t->reads[i].sectors * SECTOR, false, add_extent, x);
		x->notes->left_out += x->full;
	}
	return r;
}

int trace_layers_from_disk(const struct trace *t, struct image *image, struct trace_layers *out,
			   struct trace_layers_notes *notes, struct err *e)
{
	struct from_disk x = { .image = image, .notes = notes };
	struct trace first;
	size_t left_out = 0;
	int r = trace_check_image(t, image, e);

	*notes = (struct trace_layers_notes){ 0 };
	if (r == 0)
		r = first_uses(t, &first, &left_out, e);
	if (r < 0)
		return r;
	notes->left_out = left_out;
	r = convert_reads(&x, &first, image);
	trace_release(&first);
	if (r < 0) {
		trace_layers_release(&x.layers);
		return err_set(e, -r, "out of memory");
	}
	*out = x.layers;
	return 0;
}
