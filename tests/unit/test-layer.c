/* SPDX-License-Identifier: Apache-2.0 */
/* test-layer.c - sealed layers: written and opened with every read, write and allocation failing,
 * bytes that heal, indexes of several pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "core/layer.h"
#include "core/layer_writer.h"
#include "tests/fault.h"
#include "tests/testlib.h"
#include "tests/unit/alloc.h"
#include "tests/unit/heap.h"

enum {
	ENTRIES = 3 * 4096 + 100, /* of several pieces of 4096 */
	DISK = 4 * ENTRIES, /* sectors */
};

static const struct layer_writer_options options = { .virtual_size = (uint64_t)DISK * SECTOR };

/* ENTRIES entries of one sector, every fifth of zeroes; the first bytes of a sector are its number.
 */
static int write_layer(struct sink *sink, struct err *e)
{
	uint8_t sector[SECTOR] = { 0 };
	struct layer_writer *w;
	uint64_t i;
	int r = layer_writer_open(sink, &options, &w, e);

	if (r < 0) {
		sink_close(sink); /* it stays ours */
		return r;
	}
	for (i = 0; r == 0 && i < ENTRIES; i++) {
		le64_put(sector, i);
		r = i % 5 == 4 ? layer_writer_zeroes(w, 3 * i, 1, e)
			       : layer_writer_data(w, 3 * i, sector, 1, e);
	}
	if (r == 0)
		r = layer_writer_finish(w, e);
	layer_writer_close(w);
	return r;
}

static struct testlib_output made;

static int make_layer(void **state)
{
	return write_layer(testlib_open_sink(&made), NULL);
}

static int free_layer(void **state)
{
	free(made.bytes);
	return 0;
}

static int open_through(struct fault *f, struct layer *l, struct err *e)
{
	struct source *s;
	int r;

	assert_int_equal(source_open_memory(made.bytes, made.n, &s, NULL), 0);
	fault_open_source(s, f, &s);
	r = layer_open(s, 7, l, e);
	if (r < 0)
		source_close(s);
	return r;
}

static void all_entries_come_back(void **state)
{
	struct fault f = { .fail_at = FAULT_NEVER };
	struct layer l;
	uint64_t i, data = 0;

	assert_int_equal(open_through(&f, &l, NULL), 0);
	assert_int_equal(l.entries, ENTRIES);
	assert_int_equal(l.run.count, ENTRIES);
	assert_int_equal(f.calls, 6); /* header, trailer, four pieces */
	assert_int_equal(f.drops, 0);
	for (i = 0; i < ENTRIES; i++) {
		struct mapping m = l.run.maps[i];

		assert_int_equal(mapping_start(m), 3 * i);
		assert_int_equal(mapping_sectors(m), 1);
		assert_int_equal(mapping_layer(m), 7);
		assert_int_equal(mapping_zeroed(m), i % 5 == 4);
		if (i % 5 != 4)
			assert_int_equal(mapping_moffset(m), FORMAT_SPACE / SECTOR + data++);
	}
	assert_int_equal(l.header.index_size % 256, 0);
	assert_true(l.header.index_size - ENTRIES < 256);
	assert_int_equal(l.header.index_offset, FORMAT_SPACE + data * SECTOR);
	assert_int_equal(made.n, l.header.index_offset + 16 * l.header.index_size + FORMAT_SPACE);
	layer_close(&l);
	assert_int_equal(f.closes, 1);
}

static void each_read_fails_once(void **state)
{
	uint64_t k;

	for (k = 0;; k++) {
		struct fault f = { .fail_at = k };
		struct err e = { "" };
		struct layer l;
		int r = open_through(&f, &l, &e);

		if (!f.fired) {
			assert_int_equal(r, 0);
			layer_close(&l);
			break;
		}
		assert_int_equal(r, -EIO);
		assert_non_null(strstr(e.msg, "injected fault"));
		if (k >= 2)
			assert_memory_equal(e.msg, "LSMT index: ", 12);
		assert_int_equal(f.drops, 0); /* they were not wrong */
	}
	assert_int_equal(k, 6);
}

/* A cache that has wrong bytes is told of all that was read, and of nothing else. */
static void wrong_bytes_heal(void **state)
{
	uint64_t index = made.n - FORMAT_SPACE - 16 * (uint64_t)((ENTRIES + 255) / 256 * 256);
	const uint64_t places[] = { 0, 132 /* the version */, made.n - FORMAT_SPACE,
				    made.n - FORMAT_SPACE + 24, index + 16 * 5000 + 7 };
	size_t i;

	for (i = 0; i < sizeof places / sizeof *places; i++) {
		struct fault f = { .fail_at = FAULT_NEVER, .flip_off = places[i], .flips = 1 };
		struct layer l;

		assert_int_equal(open_through(&f, &l, NULL), 0);
		assert_int_equal(f.drops, 2);
		/* What of the index is known decides where the end begins. */
		assert_int_equal(f.last_off, i == 4 ? index : made.n - FORMAT_SPACE);
		assert_int_equal(f.last_off + f.last_n, made.n);
		assert_int_equal(l.run.count, ENTRIES);
		layer_close(&l);
		f = (struct fault){ .fail_at = FAULT_NEVER,
				    .flip_off = places[i],
				    .flips = SOURCE_RETRIES };
		assert_int_equal(open_through(&f, &l, NULL), 0);
		layer_close(&l);
		assert_true(!l.data && !l.run.maps);
		/* What stays wrong is told. */
		f = (struct fault){ .fail_at = FAULT_NEVER,
				    .flip_off = places[i],
				    .flips = SOURCE_RETRIES + 1 };
		assert_int_equal(open_through(&f, &l, NULL), -EBADMSG);
	}
}

/* The header of a layer that was sealed in place, or not yet, and what should be its trailer. */
static void put_ends(uint8_t *bytes, size_t n, uint32_t flags, bool trailer)
{
	struct format_header h = { .flags = flags,
				   .index_offset = 4096,
				   .virtual_size = 4096,
				   .uuid = FORMAT_NIL_UUID,
				   .parent_uuid = FORMAT_NIL_UUID,
				   .version = 1 };

	memset(bytes, 0x77, n);
	format_encode_header(&h, bytes);
	if (trailer) {
		h.flags = FORMAT_DATA_FILE | FORMAT_SEALED;
		h.version = 2;
		format_encode_header(&h, bytes + n - 4096);
	}
}

/* A data file of a writable layer is told from a layer whose trailer is damaged. */
static void what_is_not_sealed_is_told_from_damage(void **state)
{
	enum { OPEN = FORMAT_HEADER | FORMAT_DATA_FILE, SEALED = OPEN | FORMAT_SEALED };
	static const struct {
		size_t n;
		uint32_t flags;
		bool trailer, no_header;
		const char *message;
	} rows[] = {
		{ 4096, OPEN, false, false, "LSMT: not sealed: the data file of a writable layer" },
		{ 8191, OPEN, false, false, "LSMT: not sealed: the data file of a writable layer" },
		{ 8192, OPEN, false, false, "LSMT: not sealed: the data file of a writable layer" },
		{ 12288, OPEN, false, false,
		  "LSMT: not sealed: the data file of a writable layer" },
		{ 8192, OPEN, true, false, "LSMT trailer: version 2, not 1" },
		{ 12288, OPEN, true, false, "LSMT trailer: version 2, not 1" },
		{ 4096, SEALED, false, false, "LSMT trailer: flags 0x7 " },
		{ 8192, SEALED, false, false, "LSMT trailer: bad magic" },
		{ 12288, SEALED, true, false, "LSMT trailer: version 2, not 1" },
		{ 12288, OPEN, false, true, "LSMT trailer: bad magic" },
	};
	uint8_t bytes[12288];
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct format_header header, trailer;
		struct fault f = { .fail_at = FAULT_NEVER };
		struct source *s;
		struct err e = { "" };
		int r;

		put_ends(bytes, rows[i].n, rows[i].flags, rows[i].trailer);
		assert_int_equal(source_open_memory(bytes, rows[i].n, &s, NULL), 0);
		assert_int_equal(format_read_header(&header, s, 0, FORMAT_PART_HEADER, NULL), 0);
		fault_open_source(s, &f, &s);
		r = layer_read_trailer(s, rows[i].no_header ? NULL : &header, &trailer, &e);
		if (r != -EBADMSG || strncmp(e.msg, rows[i].message, strlen(rows[i].message)) != 0)
			fail_msg("row %zu: %d %s", i, r, e.msg);
		/* What could not be read is not known to be wrong. */
		f.fail_at = f.calls;
		assert_int_equal(layer_read_trailer(s, &header, &trailer, &e), -EIO);
		source_close(s);
	}
}

static void a_short_file_is_dropped_whole(void **state)
{
	static const size_t sizes[] = { 1, 100, 4095, 4096, 4097, 8191 };
	static uint8_t zeroes[8192];
	size_t i;

	for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct fault f = { .fail_at = FAULT_NEVER };
		struct source *s;
		struct layer l;

		assert_int_equal(source_open_memory(zeroes, sizes[i], &s, NULL), 0);
		fault_open_source(s, &f, &s);
		assert_int_equal(layer_open(s, 0, &l, NULL), -EBADMSG);
		assert_int_equal(f.drops, 2 * SOURCE_RETRIES);
		assert_int_equal(f.last_off, sizes[i] < 4096 ? 0 : sizes[i] - 4096);
		assert_int_equal(f.last_off + f.last_n, sizes[i]);
		source_close(s);
	}
}

/* A layer of one sector, where data can end: header, nothing, the sector, index, trailer. */
struct huge {
	struct source source;
	uint64_t index_offset;
};

static int huge_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	const struct huge *h = (const struct huge *)s;
	struct format_header header = { .flags = FORMAT_HEADER | FORMAT_DATA_FILE | FORMAT_SEALED,
					.uuid = FORMAT_NIL_UUID,
					.parent_uuid = FORMAT_NIL_UUID,
					.version = 1 };
	const struct format_entry entry = { .start = 5,
					    .sectors = 1,
					    .moffset = h->index_offset / SECTOR - 1 };
	uint8_t raw[FORMAT_SPACE];

	if (off == h->index_offset) {
		assert_int_equal(n, 16);
		format_encode_entry(&entry, buf);
		return 0;
	}
	if (off > 0) {
		header.flags = FORMAT_DATA_FILE | FORMAT_SEALED;
		header.index_offset = h->index_offset;
		header.index_size = 1;
	}
	format_encode_header(&header, raw);
	memcpy(buf, raw, n);
	return 0;
}

static void huge_close(struct source *s)
{
}

/* 64 PiB: more does not fit in a mapping. */
static void data_has_a_limit(void **state)
{
	static const struct source_ops ops = { .name = "huge",
					       .pread = huge_pread,
					       .close = huge_close };
	const uint64_t limit = UINT64_C(64) << 50;
	struct huge h = { .source = { .ops = &ops, .size = limit + 16 + FORMAT_SPACE },
			  .index_offset = limit };
	struct err e = { "" };
	struct layer l;

	assert_int_equal(layer_open(&h.source, 3, &l, &e), 0);
	assert_string_equal(e.msg, "");
	assert_int_equal(l.entries, 1);
	assert_int_equal(mapping_start(l.run.maps[0]), 5);
	assert_int_equal(mapping_moffset(l.run.maps[0]), limit / SECTOR - 1);
	assert_int_equal(mapping_layer(l.run.maps[0]), 3);
	assert_false(mapping_zeroed(l.run.maps[0]));
	layer_close(&l);
	h.index_offset += SECTOR;
	h.source.size += SECTOR;
	assert_int_equal(layer_open(&h.source, 3, &l, &e), -EFBIG);
	assert_string_equal(e.msg, "LSMT: data up to 72057594037928448, over the limit of 64 PiB");
}

static void open_and_close(void)
{
	struct fault f = { .fail_at = FAULT_NEVER };
	struct layer l;

	assert_int_equal(open_through(&f, &l, NULL), 0);
	layer_close(&l);
	f = (struct fault){ .fail_at = 4 };
	assert_int_equal(open_through(&f, &l, NULL), -EIO);
	f = (struct fault){ .fail_at = FAULT_NEVER, .flip_off = 132, .flips = SOURCE_RETRIES + 1 };
	assert_int_equal(open_through(&f, &l, NULL), -EBADMSG);
}

static void each_allocation_fails_once(void **state)
{
	struct source *s;
	struct layer l;
	long k;
	int r;

	assert_int_equal(source_open_memory(made.bytes, made.n, &s, NULL), 0);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		struct err e = { "" };

		alloc_left = k;
		alloc_total = 0;
		r = layer_open(s, 0, &l, &e);
		alloc_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "out of memory"));
	}
	assert_int_equal(r, 0);
	/* A piece of raw entries, and room for mappings, which doubles, up to what the index has.
	 */
	assert_int_equal(k, 1 + 3 + 1);
	assert_int_equal(alloc_total, 16 * (4096 + 4096 + 2 * 4096 + l.header.index_size));
	layer_close(&l);
	HEAP_STEADY(open_and_close());
}

/* ---- writing ---- */

static void each_write_fails_once(void **state)
{
	uint64_t k, step;

	/* The header's, some of the data's, those of index and trailer, the finishing. */
	for (k = 0, step = 1;; k += step) {
		struct testlib_output o = { 0 };
		struct fault f = { .fail_at = k };
		struct err e = { "" };
		struct sink *s;
		int r;

		fault_open_sink(testlib_open_sink(&o), &f, &s);
		r = write_layer(s, &e);
		assert_int_equal(f.closes, 1);
		free(o.bytes);
		if (!f.fired) {
			assert_int_equal(r, 0);
			assert_true(o.finished);
			assert_int_equal(f.calls, k);
			break;
		}
		assert_int_equal(r, -EIO);
		assert_false(o.finished);
		step = k < 3 || k > (uint64_t)ENTRIES * 4 / 5 - 10 ? 1 : 977;
		if (k + step > (uint64_t)ENTRIES * 4 / 5 && step > 1)
			step = (uint64_t)ENTRIES * 4 / 5 - 5 - k;
	}
}

static void each_allocation_of_a_writer_fails_once(void **state)
{
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		/* It asks for nothing itself. */
		struct testlib_output o = { .bytes = malloc(made.n), .room = made.n };
		struct sink *s = testlib_open_sink(&o);
		struct err e = { "" };

		alloc_left = k;
		alloc_total = 0;
		r = write_layer(s, &e);
		alloc_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "out of memory"));
		else
			assert_memory_equal(o.bytes, made.bytes, made.n);
		free(o.bytes);
	}
	assert_int_equal(r, 0);
	/* The writer, and room for entries, which doubles. */
	assert_int_equal(k, 1 + 5 + 1);
	assert_true(alloc_total > 16 * (1024 + 2048 + 4096 + 8192 + 16384) &&
		    alloc_total < 16 * (1024 + 2048 + 4096 + 8192 + 16384) + 2000);
}

static int try_options(struct layer_writer_options how, struct err *e)
{
	struct testlib_output o = { 0 };
	struct sink *s = testlib_open_sink(&o);
	struct layer_writer *w;
	int r = layer_writer_open(s, &how, &w, e);

	if (r == 0)
		layer_writer_close(w);
	else
		sink_close(s);
	free(o.bytes);
	return r;
}

static void the_limits_of_a_header(void **state)
{
	char tag[258], parent[] = "a708494b-1dfb-4ec7-8e49-636d2508e22e";
	struct err e;

	memset(tag, 't', sizeof tag);
	tag[FORMAT_TAG] = '\0';
	assert_int_equal(try_options((struct layer_writer_options){ .message = tag }, &e), 0);
	tag[FORMAT_TAG] = 't';
	tag[FORMAT_TAG + 1] = '\0';
	assert_int_equal(try_options((struct layer_writer_options){ .message = tag }, &e), -EINVAL);
	assert_int_equal(try_options(
				 (struct layer_writer_options){
					 .virtual_size = ((UINT64_C(1) << 50) - 1) * SECTOR },
				 &e),
			 0);
	assert_int_equal(
		try_options((struct layer_writer_options){ .virtual_size =
								   (UINT64_C(1) << 50) * SECTOR },
			    &e),
		-EINVAL);
	assert_non_null(strstr(e.msg, "is over 2^50 sectors"));
	assert_int_equal(try_options((struct layer_writer_options){ .virtual_size = 1 }, &e),
			 -EINVAL);
	assert_int_equal(
		try_options((struct layer_writer_options){ .uuid = "", .parent_uuid = parent }, &e),
		0);
	assert_int_equal(try_options((struct layer_writer_options){ .parent_uuid = "x" }, &e),
			 -EINVAL);
	assert_string_equal(e.msg, "parent uuid 'x' is not a uuid");
	assert_int_equal(try_options((struct layer_writer_options){ .uuid = "x" }, &e), -EINVAL);
	assert_string_equal(e.msg, "uuid 'x' is not a uuid");
	layer_writer_close(NULL);
}

/* Without a virtual size of its own a layer may map all that can be mapped. */
static void the_limits_of_ranges(void **state)
{
	static const struct {
		uint64_t size, lba, sectors;
		int r;
	} rows[] = {
		{ 0, (UINT64_C(1) << 50) - 2, 1, 0 },
		{ 0, (UINT64_C(1) << 50) - 2, 2, -EINVAL },
		{ 0, (UINT64_C(1) << 50) - 1, 1, -EINVAL },
		{ 10 * SECTOR, 9, 1, 0 },
		{ 10 * SECTOR, 9, 2, -EINVAL },
		{ 10 * SECTOR, 10, 1, -EINVAL },
		{ 10 * SECTOR, 10, 0, 0 },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct layer_writer_options how = { .virtual_size = rows[i].size };
		struct testlib_output o = { 0 };
		struct layer_writer *w;

		assert_int_equal(layer_writer_open(testlib_open_sink(&o), &how, &w, NULL), 0);
		assert_int_equal(layer_writer_zeroes(w, rows[i].lba, rows[i].sectors, NULL),
				 rows[i].r);
		layer_writer_close(w);
		free(o.bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_entries_come_back),
		cmocka_unit_test(each_read_fails_once),
		cmocka_unit_test(wrong_bytes_heal),
		cmocka_unit_test(what_is_not_sealed_is_told_from_damage),
		cmocka_unit_test(a_short_file_is_dropped_whole),
		cmocka_unit_test(data_has_a_limit),
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(each_write_fails_once),
		cmocka_unit_test(each_allocation_of_a_writer_fails_once),
		cmocka_unit_test(the_limits_of_a_header),
		cmocka_unit_test(the_limits_of_ranges),
	};

	return cmocka_run_group_tests(tests, make_layer, free_layer);
}
