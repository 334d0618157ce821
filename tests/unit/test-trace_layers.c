/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace_layers.c - the reference's trace file, and the way from layers to the disk and back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "core/identity.h"
#include "prefetch/trace_edit.h"
#include "prefetch/trace_layers.h"
#include "tests/unit/alloc.h"
#include "tests/unit/guard.h"
#include "tests/unit/loops.h"
#include "tests/unit/stack.h"

enum { SECTORS = 2000, GOLDEN_RECORDS = 582 };

/* ---- disks of more pieces than a file would have room for ---- */

/* Data pieces of one sector that do not adjoin, of the bottom layer, in the next read's range.
 * EVERYTHING: what the disk really has there. */
#define EVERYTHING UINT64_MAX
static uint64_t pieces[8] = { EVERYTHING };
static size_t pieces_asked;

int __real_image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
			 int (*each)(void *arg, const struct image_extent *extent), void *arg);
int __wrap_image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
			 int (*each)(void *arg, const struct image_extent *extent), void *arg);

int __wrap_image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
			 int (*each)(void *arg, const struct image_extent *extent), void *arg)
{
	uint64_t i;
	int r = 0;

	if (pieces[0] == EVERYTHING)
		return __real_image_extents(image, off, n, merged, each, arg);
	for (i = 0; r == 0 && i < pieces[pieces_asked]; i++) {
		struct image_extent x = { .off = off,
					  .n = SECTOR,
					  .kind = EXTENT_DATA,
					  .layer_off = FORMAT_SPACE + i % 2 * 4 * SECTOR };

		r = each(arg, &x);
	}
	pieces_asked++;
	return r < 0 ? r : 0;
}

static void seal(uint8_t *raw, size_t n)
{
	le32_put(raw + 16, crc32c_raw(0, raw + 24, n - 24));
}

static void assert_refused(const uint8_t *raw, size_t n, const char *text)
{
	uint8_t *copy = guard_copy(raw, n);
	struct trace_layers t = { .count = 77 };
	struct err e = { "" };

	assert_int_equal(trace_layers_parse(copy, n, &t, &e), -EBADMSG);
	if (!strstr(e.msg, text))
		fail_msg("'%s' does not say '%s'", e.msg, text);
	assert_int_equal(t.count, 77);
	guard_free(copy, n);
}

static struct trace_layers load_golden(void)
{
	struct trace_layers t;
	size_t n;
	uint8_t *raw = testlib_golden("trace/recorded.trace", &n);

	assert_true(trace_layers_are(raw, n));
	assert_int_equal(trace_layers_parse(raw, n, &t, NULL), 0);
	free(raw);
	return t;
}

static void reads_the_golden_trace(void **state)
{
	struct trace_layers t = load_golden();

	assert_int_equal(t.count, GOLDEN_RECORDS);
	assert_int_equal(t.reads[3].layer, 0);
	assert_int_equal(t.reads[3].off, 259584);
	assert_int_equal(t.reads[9].layer, 1);
	assert_int_equal(t.reads[9].n, 512);
	assert_int_equal(t.reads[9].off, 159232);
	trace_layers_release(&t);
}

/* The first records of `t`, as a file. */
static uint8_t *small_file(struct trace_layers *t, size_t count, size_t *n)
{
	void *bytes;
	size_t size = count * sizeof *t->reads;
	struct trace_layers first = { guard_copy(t->reads, size), count };

	assert_int_equal(trace_layers_format(&first, &bytes, n, NULL), 0);
	guard_free(first.reads, size);
	return bytes;
}

static void writes_what_it_reads(void **state)
{
	struct trace_layers t = load_golden(), back;
	size_t n, i;
	uint8_t *raw = small_file(&t, t.count, &n), *copy = guard_copy(raw, n);

	assert_int_equal(n, 24 + 24 * GOLDEN_RECORDS);
	assert_int_equal(trace_layers_parse(copy, n, &back, NULL), 0);
	guard_free(copy, n);
	assert_int_equal(back.count, t.count);
	for (i = 0; i < t.count; i++) /* by field: there is padding */
		assert_true(back.reads[i].layer == t.reads[i].layer &&
			    back.reads[i].off == t.reads[i].off && back.reads[i].n == t.reads[i].n);
	trace_layers_release(&back);
	trace_layers_release(&t);
	free(raw);
}

/* Padding is anything, and not covered in the header: bytes 4-7 and 20-23. */
static void refuses_damage(void **state)
{
	struct trace_layers t = load_golden(), back;
	size_t n, i;
	uint8_t *raw = small_file(&t, 4, &n), *longer = calloc(1, n + 24);

	for (i = 0; i < 8 * n; i++) {
		raw[i / 8] ^= (uint8_t)(1 << i % 8);
		if (i / 32 == 1 || i / 32 == 5) {
			assert_int_equal(trace_layers_parse(raw, n, &back, NULL), 0);
			trace_layers_release(&back);
		} else {
			assert_refused(raw, n, "trace of layers");
		}
		raw[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	for (i = 0; i < n; i++)
		assert_refused(raw, i, "trace of layers");
	memcpy(longer, raw, n);
	for (i = 1; i <= 24; i++)
		assert_refused(longer, n + i, "but ");
	le64_put(raw + 8, UINT64_MAX);
	assert_refused(raw, n, "18446744073709551615 bytes of records, but 96 are there");
	le64_put(raw + 8, 95);
	assert_refused(raw, n - 1, "no multiple");
	free(longer);
	free(raw);
	trace_layers_release(&t);
}

static void leaves_out_writes(void **state)
{
	struct trace_layers t = load_golden(), back;
	size_t n, i;
	uint8_t *raw = small_file(&t, 4, &n);

	raw[24 + 24] = 'W';
	raw[24 + 1] = 0xa5; /* padding is anything */
	seal(raw, n);
	assert_int_equal(trace_layers_parse(raw, n, &back, NULL), 0);
	assert_int_equal(back.count, 3);
	for (i = 1; i < 3; i++) {
		assert_int_equal(back.reads[i].off, t.reads[i + 1].off);
		assert_int_equal(back.reads[i].n, t.reads[i + 1].n);
		assert_int_equal(back.reads[i].layer, t.reads[i + 1].layer);
	}
	trace_layers_release(&back);
	raw[24 + 24] = 'X';
	seal(raw, n);
	assert_refused(raw, n, "unknown operation 0x58 (record 1)");
	free(raw);
	trace_layers_release(&t);
}

/* For each sector of the disk that comes from data: its layer and place there. */
struct place {
	bool data;
	size_t layer;
	uint64_t off;
};

static int note_place(void *arg, const struct image_extent *x)
{
	struct place *map = arg;
	uint64_t i;

	for (i = 0; i < x->n; i += SECTOR)
		map[(x->off + i) / SECTOR] = (struct place){ .data = x->kind == EXTENT_DATA,
							     .layer = x->layer,
							     .off = x->layer_off + i };
	return 0;
}

static struct place *map_of(struct image *image)
{
	struct place *map = calloc(image_size(image) / SECTOR, sizeof *map);

	assert_int_equal(image_extents(image, 0, image_size(image), false, note_place, map), 0);
	return map;
}

static bool overlaps(const struct trace_layer_read *read, const struct place *place)
{
	return place->data && place->layer == read->layer && place->off + SECTOR > read->off &&
	       place->off < read->off + read->n;
}

/* The disk's sectors that hold a byte of a record, one by one. */
static void assert_converted(struct image *image, struct trace_layer_read record)
{
	struct trace_layers t = { .reads = &record, .count = 1 };
	uint64_t sectors = image_size(image) / SECTOR, lba, found = 0;
	bool *got = calloc(sectors, sizeof *got);
	struct place *map = map_of(image);
	struct trace_layers_notes notes;
	struct trace out;
	size_t i;

	assert_int_equal(trace_layers_to_disk(&t, image, &out, &notes, NULL), 0);
	for (i = 0; i < out.count; i++)
		for (lba = out.reads[i].lba; lba < out.reads[i].lba + out.reads[i].sectors; lba++) {
			assert_true(lba < sectors && !got[lba]);
			got[lba] = true;
		}
	for (lba = 0; lba < sectors; lba++) {
		if (got[lba] != overlaps(&record, &map[lba]))
			fail_msg("sector %zu, record at %zu", (size_t)lba, (size_t)record.off);
		found += got[lba];
	}
	assert_int_equal(notes.hidden, found == 0);
	assert_int_equal(notes.foreign, 0);
	trace_release(&out);
	free(map);
	free(got);
}

static void finds_the_disk(void **state)
{
	unsigned loop, loops = loops_count(1000), k;

	for (loop = 0; loop < loops; loop++) {
		size_t layers = 1 + loops_random() % 4, i;
		struct image *image;
		struct stack s;

		stack_init(&s);
		for (i = 0; i < layers; i++)
			stack_add_random(&s, SECTORS);
		image = stack_open(&s);
		for (k = 0; k < 20; k++) {
			uint32_t layer = (uint32_t)(loops_random() % layers);
			uint64_t size = image_layer(image, layer)->layer.data->size;
			uint64_t off = loops_random() % size;
			uint64_t most = k % 2 ? size - off : min_u64(size - off, 5000);
			uint64_t n = 1 + loops_random() % most;

			if (k % 5 == 0) /* ends with the first byte of a sector */
				n = (size - 1 - off) / SECTOR * SECTOR + 1 - off % SECTOR;
			if (n > size - off)
				n = 1;
			assert_converted(image, (struct trace_layer_read){
							.layer = layer, .off = off, .n = n });
		}
		image_close(image);
		stack_release(&s);
	}
}

/* From the disk to layers and back: all data that was read, in its order, and nothing else. */
static void goes_and_comes_back(void **state)
{
	unsigned loop, loops = loops_count(1000);

	for (loop = 0; loop < loops; loop++) {
		struct trace t = { .disk_size = SECTORS * SECTOR, .count = loops_random() % 30 };
		struct trace_read reads[30];
		struct trace_layers_notes notes;
		struct trace_ranges wanted, got, rest;
		struct trace_layers records;
		struct place *map;
		struct image *image;
		struct trace back;
		struct stack s;
		uint64_t lba;
		size_t i;

		stack_init(&s);
		stack_add_random(&s, SECTORS);
		stack_add_random(&s, SECTORS);
		image = stack_open(&s);
		assert_int_equal(image_identity(image, t.identity, NULL), 0);
		for (i = 0; i < t.count; i++) {
			lba = loops_random() % SECTORS;
			reads[i] = (struct trace_read){
				.lba = lba,
				.sectors =
					1 + (uint32_t)(loops_random() % min_u64(SECTORS - lba, 90)),
			};
		}
		t.reads = guard_copy(reads, t.count * sizeof *reads);
		assert_int_equal(trace_layers_from_disk(&t, image, &records, &notes, NULL), 0);
		assert_int_equal(notes.upper + notes.left_out, 0);
		assert_int_equal(trace_layers_to_disk(&records, image, &back, &notes, NULL), 0);
		assert_int_equal(notes.foreign + notes.hidden + notes.left_out, 0);
		assert_string_equal(back.identity, t.identity);
		assert_int_equal(back.disk_size, t.disk_size);
		trace_ranges_of(&t, &wanted, NULL);
		trace_ranges_of(&back, &got, NULL);
		trace_ranges_subtract(&got, &wanted, &rest, NULL);
		assert_int_equal(rest.count, 0);
		trace_ranges_release(&rest);
		trace_ranges_subtract(&wanted, &got, &rest, NULL);
		map = map_of(image);
		for (i = 0; i < rest.count; i++)
			for (lba = 0; lba < rest.list[i].sectors; lba++)
				assert_false(map[rest.list[i].lba + lba].data);
		free(map);
		trace_ranges_release(&rest);
		trace_ranges_release(&wanted);
		trace_ranges_release(&got);
		guard_free(t.reads, t.count * sizeof *t.reads);
		trace_release(&back);
		trace_layers_release(&records);
		image_close(image);
		stack_release(&s);
	}
}

static void ignores_what_is_not_there(void **state)
{
	struct trace_layer_read reads[] = {
		{ .layer = 2, .off = 4096, .n = 512 }, /* the image has two layers */
		{ .layer = UINT32_MAX, .off = 4096, .n = 512 },
		{ .layer = 0, .off = UINT64_MAX - 10, .n = 512 },
		{ .layer = 0, .off = 4096, .n = UINT64_MAX - 4096 },
		{ .layer = 0, .off = UINT64_C(1) << 56, .n = 1 },
		{ .layer = 0, .off = 0, .n = 0 },
		{ .layer = 0, .off = 0, .n = 4096 }, /* its header */
		{ .layer = 0, .off = 4096, .n = 512 }, /* hidden by the upper layer */
		{ .layer = 0, .off = 4096 + 512, .n = 512 },
	};
	struct trace_layers t = { .reads = reads, .count = sizeof reads / sizeof *reads };
	static const uint8_t bytes[2 * SECTOR];
	struct trace_layers_notes notes;
	struct layer_writer *w;
	struct image *image;
	struct trace out;
	struct stack s;

	stack_init(&s);
	w = stack_add(&s, 100);
	assert_int_equal(layer_writer_data(w, 10, bytes, 2, NULL), 0);
	stack_finish(w);
	w = stack_add(&s, 100);
	assert_int_equal(layer_writer_zeroes(w, 10, 1, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	assert_int_equal(trace_layers_to_disk(&t, image, &out, &notes, NULL), 0);
	assert_int_equal(notes.foreign, 6);
	assert_int_equal(notes.hidden, 2);
	assert_int_equal(notes.left_out, 0);
	assert_int_equal(out.count, 1);
	assert_true(out.reads[0].lba == 11 && out.reads[0].sectors == 1);
	assert_int_equal(out.disk_size, 100 * SECTOR);
	trace_release(&out);
	image_close(image);
	stack_release(&s);
}

/* A disk that was made smaller: what lies behind its end is in the layers, but never seen. */
static void ignores_what_lies_beyond_the_end(void **state)
{
	struct trace_layer_read reads[] = {
		{ .layer = 0, .off = FORMAT_SPACE, .n = 30 * SECTOR },
		{ .layer = 0, .off = FORMAT_SPACE + 12 * SECTOR, .n = 5 * SECTOR },
		{ .layer = 0, .off = FORMAT_SPACE + 22 * SECTOR, .n = 5 * SECTOR },
	};
	struct trace_layers t = { .reads = reads, .count = 3 };
	static const uint8_t bytes[10 * SECTOR];
	struct trace_layers_notes notes;
	struct layer_writer *w;
	struct image *image;
	struct trace out;
	struct stack s;
	int i;

	stack_init(&s);
	w = stack_add(&s, 200);
	for (i = 0; i < 3; i++) /* at 0, 50 and 100 */
		assert_int_equal(layer_writer_data(w, (uint64_t)i * 50, bytes, 10, NULL), 0);
	stack_finish(w);
	w = stack_add(&s, 55);
	assert_int_equal(layer_writer_zeroes(w, 20, 1, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	assert_int_equal(image_size(image), 55 * SECTOR);
	assert_int_equal(trace_layers_to_disk(&t, image, &out, &notes, NULL), 0);
	assert_int_equal(out.disk_size, 55 * SECTOR);
	assert_int_equal(out.count, 3);
	assert_true(out.reads[0].lba == 0 && out.reads[0].sectors == 10);
	assert_true(out.reads[1].lba == 50 && out.reads[1].sectors == 5);
	assert_true(out.reads[2].lba == 52 && out.reads[2].sectors == 3);
	assert_int_equal(notes.hidden, 1);
	trace_release(&out);
	image_close(image);
	stack_release(&s);
}

/* Pieces of one read that adjoin in a layer are one record; two reads are two, so that the order of
 * reads can be seen. */
static void keeps_reads_apart(void **state)
{
	struct trace_read reads[] = { { .lba = 10, .sectors = 2 },
				      { .lba = 12, .sectors = 2 },
				      { .lba = 14, .sectors = 50 } };
	struct trace t = { .disk_size = 100 * SECTOR, .reads = reads, .count = 3 };
	static const uint8_t bytes[10 * SECTOR];
	struct trace_layers_notes notes;
	struct trace_layers out;
	struct layer_writer *w;
	struct image *image;
	struct stack s;

	stack_init(&s);
	w = stack_add(&s, 100);
	assert_int_equal(layer_writer_data(w, 10, bytes, 10, NULL), 0);
	assert_int_equal(layer_writer_data(w, 40, bytes, 10, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	assert_int_equal(image_identity(image, t.identity, NULL), 0);
	assert_int_equal(trace_layers_from_disk(&t, image, &out, &notes, NULL), 0);
	assert_int_equal(out.count, 3);
	assert_true(out.reads[0].off == FORMAT_SPACE && out.reads[0].n == 2 * SECTOR);
	assert_true(out.reads[1].off == FORMAT_SPACE + 2 * SECTOR && out.reads[1].n == 2 * SECTOR);
	assert_true(out.reads[2].off == FORMAT_SPACE + 4 * SECTOR && out.reads[2].n == 16 * SECTOR);
	trace_layers_release(&out);
	image_close(image);
	stack_release(&s);
}

/* Three ranges of the disk, at 0, 50 and 100, whose data a layer has at these places. */
struct shared {
	uint64_t sectors[3], places[3];
	struct trace_read want[3];
	size_t count;
};

static void assert_shared(const struct shared *row)
{
	struct trace_layer_read read = { .off = FORMAT_SPACE };
	struct trace_layers t = { &read, 1 };
	static const uint8_t bytes[10 * SECTOR];
	struct trace_layers_notes notes;
	struct format_entry entry;
	struct layer_writer *w;
	struct image *image;
	uint8_t raw[FORMAT_ENTRY];
	struct trace out;
	struct stack s;
	uint64_t at;
	int fd, i;

	stack_init(&s);
	w = stack_add(&s, 200);
	for (i = 0; i < 3; i++) {
		assert_int_equal(
			layer_writer_data(w, (uint64_t)i * 50, bytes, row->sectors[i], NULL), 0);
		read.n += row->sectors[i] * SECTOR;
	}
	stack_finish(w);
	image = stack_open(&s);
	at = image_layer(image, 0)->layer.header.index_offset;
	image_close(image);
	fd = open(s.lowers[0].file, O_RDWR | O_CLOEXEC);
	for (i = 0; i < 3; i++) {
		assert_int_equal(io_pread(fd, raw, sizeof raw, at + (uint64_t)i * sizeof raw, NULL),
				 0);
		entry = format_parse_entry(raw);
		entry.moffset = FORMAT_SPACE / SECTOR + row->places[i];
		format_encode_entry(&entry, raw);
		assert_int_equal(
			io_pwrite(fd, raw, sizeof raw, at + (uint64_t)i * sizeof raw, NULL), 0);
	}
	close(fd);
	image = stack_open(&s);
	assert_int_equal(trace_layers_to_disk(&t, image, &out, &notes, NULL), 0);
	assert_int_equal(out.count, row->count);
	assert_memory_equal(out.reads, row->want, row->count * sizeof *row->want);
	trace_release(&out);
	image_close(image);
	stack_release(&s);
}

/* Ranges of the disk may share data in a layer: it counts for the first, and once. */
static void finds_shared_data(void **state)
{
	static const struct shared rows[] = {
		{ .sectors = { 10, 10, 10 },
		  .places = { 0, 4, 10 },
		  .want = { { .lba = 0, .sectors = 10 },
			    { .lba = 56, .sectors = 4 },
			    { .lba = 104, .sectors = 6 } },
		  .count = 3 },
		/* The second lies within the first, and the third begins within it. */
		{ .sectors = { 10, 3, 10 },
		  .places = { 0, 2, 8 },
		  .want = { { .lba = 0, .sectors = 10 }, { .lba = 102, .sectors = 8 } },
		  .count = 2 },
		/* The second ends where the first does. */
		{ .sectors = { 10, 3, 10 },
		  .places = { 0, 7, 10 },
		  .want = { { .lba = 0, .sectors = 10 }, { .lba = 100, .sectors = 10 } },
		  .count = 2 },
		/* All have the same. */
		{ .sectors = { 10, 10, 10 }, .want = { { .lba = 0, .sectors = 10 } }, .count = 1 },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_shared(&rows[i]);
}

/* A file cannot name the upper: what lies there is counted. */
static void counts_what_lies_in_the_upper(void **state)
{
	struct trace_read reads[] = { { .lba = 10, .sectors = 4 }, { .lba = 20, .sectors = 30 } };
	struct trace t = { .disk_size = 100 * SECTOR, .reads = reads, .count = 2 };
	static const uint8_t bytes[10 * SECTOR];
	struct trace_layers_notes notes;
	struct trace_layers out;
	struct image_layer *upper;
	struct layer_writer *w;
	struct image *image;
	struct stack s;

	stack_init(&s);
	w = stack_add(&s, 100);
	assert_int_equal(layer_writer_data(w, 10, bytes, 10, NULL), 0);
	stack_finish(w);
	w = stack_add(&s, 100);
	assert_int_equal(layer_writer_data(w, 12, bytes, 10, NULL), 0);
	assert_int_equal(layer_writer_data(w, 40, bytes, 1, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	upper = (void *)(uintptr_t)image_layer(image, 1);
	upper->is_upper = true;
	assert_int_equal(image_identity(image, t.identity, NULL), 0);
	assert_int_equal(trace_layers_from_disk(&t, image, &out, &notes, NULL), 0);
	upper->is_upper = false;
	assert_int_equal(notes.upper, 3);
	assert_int_equal(notes.left_out, 0);
	assert_int_equal(out.count, 1);
	assert_int_equal(out.reads[0].layer, 0);
	assert_int_equal(out.reads[0].off, FORMAT_SPACE);
	assert_int_equal(out.reads[0].n, 2 * SECTOR);
	trace_layers_release(&out);
	image_close(image);
	stack_release(&s);
}

/* A disk in more pieces than a file has room for: each read of which something is missing counts,
 * and those that need nothing do not. */
static void counts_what_there_is_no_room_for(void **state)
{
	struct trace_read reads[6];
	struct trace t = { .disk_size = 100 * SECTOR, .reads = reads, .count = 6 };
	struct trace_layers_notes notes;
	struct trace_layers out;
	struct image *image;
	struct stack s;
	size_t i;

	stack_init(&s);
	stack_add_random(&s, 100);
	image = stack_open(&s);
	assert_int_equal(image_identity(image, t.identity, NULL), 0);
	for (i = 0; i < 6; i++)
		reads[i] = (struct trace_read){ .lba = i * 10, .sectors = 8 };
	pieces_asked = 0;
	memcpy(pieces, (uint64_t[]){ 1, TRACE_LAYERS_MAX - 2, 1, 0, 3, 1 }, 6 * sizeof *pieces);
	assert_int_equal(trace_layers_from_disk(&t, image, &out, &notes, NULL), 0);
	pieces[0] = EVERYTHING;
	assert_int_equal(pieces_asked, 6);
	assert_int_equal(out.count, TRACE_LAYERS_MAX);
	assert_int_equal(notes.left_out, 2);
	assert_int_equal(notes.upper, 0);
	trace_layers_release(&out);
	image_close(image);
	stack_release(&s);
}

/* A layer of single sectors, in which each record covers everything: no time is lost on what there
 * is no room for. */
static void ends_soon(void **state)
{
	enum { PIECES = 1 << 16, RECORDS = 1 << 18 };
	struct trace_layers t = { .reads = malloc(RECORDS * sizeof *t.reads), .count = RECORDS };
	static const uint8_t bytes[SECTOR];
	struct trace_layers_notes notes;
	struct layer_writer *w;
	struct image *image;
	struct trace out;
	struct stack s;
	uint64_t began;
	size_t i;

	stack_init(&s);
	w = stack_add(&s, 2 * PIECES);
	for (i = 0; i < PIECES; i++)
		assert_int_equal(layer_writer_data(w, 2 * i, bytes, 1, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	for (i = 0; i < RECORDS; i++)
		t.reads[i] =
			(struct trace_layer_read){ .n = image_layer(image, 0)->layer.data->size };
	began = clock_ms();
	assert_int_equal(trace_layers_to_disk(&t, image, &out, &notes, NULL), 0);
	print_message("%zu ms\n", (size_t)(clock_ms() - began));
	assert_int_equal(out.count, TRACE_READS_MAX);
	assert_int_equal(notes.left_out, RECORDS - TRACE_READS_MAX / PIECES);
	trace_release(&out);

	/* And back: the whole disk, over and over, is one range of the layer. */
	out = (struct trace){ .disk_size = image_size(image), .count = RECORDS };
	assert_int_equal(image_identity(image, out.identity, NULL), 0);
	out.reads = malloc(RECORDS * sizeof *out.reads);
	for (i = 0; i < RECORDS; i++)
		out.reads[i] = (struct trace_read){ .sectors = 2 * PIECES };
	trace_layers_release(&t);
	assert_int_equal(trace_layers_from_disk(&out, image, &t, &notes, NULL), 0);
	assert_int_equal(t.count, 1);
	assert_true(t.reads[0].off == FORMAT_SPACE && t.reads[0].n == PIECES * SECTOR);
	assert_int_equal(notes.left_out, 0);
	trace_layers_release(&t);
	trace_release(&out);
	image_close(image);
	stack_release(&s);
}

static void refuses_another_image(void **state)
{
	struct trace t = { .disk_size = 100 * SECTOR };
	struct trace_layers_notes notes;
	struct trace_layers out;
	struct image *image;
	struct stack s;

	stack_init(&s);
	stack_add_random(&s, 100);
	image = stack_open(&s);
	assert_int_equal(trace_layers_from_disk(&t, image, &out, &notes, NULL), -EINVAL);
	image_close(image);
	stack_release(&s);
}

/* All that the reference recorded beside headers, indexes and hidden data is found. */
static void converts_the_golden_trace(void **state)
{
	struct image_config *config;
	struct trace_layers_notes notes;
	struct trace_layers t = load_golden();
	struct image *image;
	struct trace out;
	struct place *map;
	char *path;
	uint64_t lba;
	size_t i, k = 0, visible = 0;

	assert_true(asprintf(&path, "%s/trace/config.v1.json", getenv("GOLDEN")) > 0);
	assert_int_equal(config_load(path, NULL, &config, NULL), 0);
	assert_int_equal(image_open(config, NULL, &image, NULL), 0);
	assert_int_equal(trace_layers_to_disk(&t, image, &out, &notes, NULL), 0);
	map = map_of(image);
	for (i = 0; i < t.count; i++) {
		bool seen = false;

		for (lba = 0; !seen && lba < image_size(image) / SECTOR; lba++)
			seen = overlaps(&t.reads[i], &map[lba]);
		visible += seen;
		/* In order: the reads of a record follow those of the one before. */
		for (; k < out.count && overlaps(&t.reads[i], &map[out.reads[k].lba]); k++)
			assert_true(seen);
	}
	assert_int_equal(k, out.count);
	assert_int_equal(notes.foreign, 0);
	assert_int_equal(notes.hidden, t.count - visible);
	assert_true(visible > 500);
	print_message("%zu of %zu records, %zu reads\n", visible, t.count, out.count);
	trace_release(&out);
	free(map);
	trace_layers_release(&t);
	image_close(image);
	config_free(config);
	free(path);
}

/* Each allocation is refused once. */
static void out_of_memory(void **state)
{
	struct trace_layer_read read = { .off = 4096, .n = 1 << 20 };
	struct trace_layers t = { &read, 1 }, records;
	struct trace_layers_notes notes;
	struct image *image;
	struct trace out;
	struct stack s;
	long k;
	int r;

	stack_init(&s);
	stack_add_random(&s, SECTORS);
	image = stack_open(&s);
	read.n = image_layer(image, 0)->layer.data->size - 4096;
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = trace_layers_to_disk(&t, image, &out, &notes, NULL);
		alloc_left = -1;
	}
	assert_true(r == 0 && k > 2);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = trace_layers_from_disk(&out, image, &records, &notes, NULL);
		alloc_left = -1;
	}
	assert_true(r == 0 && k > 4);
	trace_layers_release(&records);
	trace_release(&out);
	image_close(image);
	stack_release(&s);
}

static int set_up(void **state)
{
	loops_seed();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_golden_trace),
		cmocka_unit_test(writes_what_it_reads),
		cmocka_unit_test(refuses_damage),
		cmocka_unit_test(leaves_out_writes),
		cmocka_unit_test(finds_the_disk),
		cmocka_unit_test(goes_and_comes_back),
		cmocka_unit_test(ignores_what_is_not_there),
		cmocka_unit_test(ignores_what_lies_beyond_the_end),
		cmocka_unit_test(keeps_reads_apart),
		cmocka_unit_test(finds_shared_data),
		cmocka_unit_test(counts_what_lies_in_the_upper),
		cmocka_unit_test(counts_what_there_is_no_room_for),
		cmocka_unit_test(ends_soon),
		cmocka_unit_test(refuses_another_image),
		cmocka_unit_test(converts_the_golden_trace),
		cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
