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
		/* What stays wrong is told. */
		f = (struct fault){ .fail_at = FAULT_NEVER,
				    .flip_off = places[i],
				    .flips = SOURCE_RETRIES + 1 };
		assert_int_equal(open_through(&f, &l, NULL), -EBADMSG);
	}
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
		r = layer_open(s, 0, &l, &e);
		alloc_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "out of memory"));
	}
	assert_int_equal(r, 0);
	assert_true(k > 3); /* the raw entries, and room for them that grows */
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
		struct testlib_output o = { 0 };
		struct sink *s = testlib_open_sink(&o);
		struct err e = { "" };

		alloc_left = k;
		r = write_layer(s, &e);
		alloc_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "out of memory"));
		else
			assert_memory_equal(o.bytes, made.bytes, made.n);
		free(o.bytes);
	}
	assert_int_equal(r, 0);
	assert_true(k > 4);
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
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(each_write_fails_once),
		cmocka_unit_test(each_allocation_of_a_writer_fails_once),
		cmocka_unit_test(the_limits_of_a_header),
		cmocka_unit_test(the_limits_of_ranges),
	};

	return cmocka_run_group_tests(tests, make_layer, free_layer);
}
