/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace_edit.c - joining, comparing and summing up, against a map of every sector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/identity.h"
#include "prefetch/trace_edit.h"
#include "tests/unit/alloc.h"
#include "tests/unit/guard.h"
#include "tests/unit/loops.h"
#include "tests/unit/stack.h"

#define IDENTITY "sha256:00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

enum { SECTORS = 500, LONGEST = 40 };

static struct trace make(size_t count, uint32_t latest)
{
	struct trace t = { .identity = IDENTITY, .disk_size = SECTORS * 512, .count = count };
	size_t i;

	t.reads = malloc((count + 1) * sizeof *t.reads);
	for (i = 0; i < count; i++) {
		uint64_t lba = loops_random() % SECTORS;
		uint64_t most = SECTORS - lba < LONGEST ? SECTORS - lba : LONGEST;

		t.reads[i] = (struct trace_read){
			.lba = lba,
			.sectors = 1 + (uint32_t)(loops_random() % most),
			.us = (uint32_t)(loops_random() % latest),
		};
	}
	return t;
}

/* Its reads lie before a guard from now on, until unguard frees them. */
static void guard(struct trace *t)
{
	struct trace_read *reads = t->reads;

	t->reads = guard_copy(reads, t->count * sizeof *reads);
	free(reads);
}

static void unguard(struct trace *t)
{
	guard_free(t->reads, t->count * sizeof *t->reads);
}

/* Marks each sector of the trace with the place of its first read, from 1. */
static void mark(const struct trace *t, size_t map[SECTORS])
{
	size_t i;
	uint32_t k;

	memset(map, 0, SECTORS * sizeof *map);
	for (i = 0; i < t->count; i++)
		for (k = 0; k < t->reads[i].sectors; k++)
			if (map[t->reads[i].lba + k] == 0)
				map[t->reads[i].lba + k] = i + 1;
}

/* Exactly the sectors where `want` is true, in order, with gaps. */
static void assert_ranges(const struct trace_ranges *r, const bool want[SECTORS])
{
	bool got[SECTORS] = { false };
	uint64_t end = 0, sum = 0;
	size_t i;

	for (i = 0; i < r->count; i++) {
		assert_true(r->list[i].sectors > 0);
		assert_true(i == 0 || r->list[i].lba > end);
		end = r->list[i].lba + r->list[i].sectors;
		assert_true(end <= SECTORS);
		memset(got + r->list[i].lba, 1, r->list[i].sectors);
		sum += r->list[i].sectors;
	}
	assert_memory_equal(got, want, SECTORS);
	assert_true(sum == r->sectors);
}

static void ranges(void **state)
{
	unsigned loop, loops = loops_count(4000);

	for (loop = 0; loop < loops; loop++) {
		struct trace a = make(loops_random() % 40, 1), b = make(loops_random() % 40, 1);
		size_t in_a[SECTORS], in_b[SECTORS], i;
		bool want[SECTORS];
		struct trace_ranges of_a, of_b, rest;

		guard(&a);
		guard(&b);
		mark(&a, in_a);
		mark(&b, in_b);
		assert_int_equal(trace_ranges_of(&a, &of_a, NULL), 0);
		assert_int_equal(trace_ranges_of(&b, &of_b, NULL), 0);
		for (i = 0; i < SECTORS; i++)
			want[i] = in_a[i] > 0;
		assert_ranges(&of_a, want);
		assert_int_equal(trace_ranges_subtract(&of_a, &of_b, &rest, NULL), 0);
		for (i = 0; i < SECTORS; i++)
			want[i] = in_a[i] > 0 && in_b[i] == 0;
		assert_ranges(&rest, want);
		trace_ranges_release(&rest);
		trace_ranges_release(&of_a);
		trace_ranges_release(&of_b);
		unguard(&a);
		unguard(&b);
	}
}

/* Each sector once, in the order and at the time of the first read of it. */
static void first_uses(void **state)
{
	unsigned loop, loops = loops_count(4000);

	for (loop = 0; loop < loops; loop++) {
		struct trace t = make(loops_random() % 60, 1000), original = t;
		size_t map[SECTORS], i, last = 0, left_out = 9, covered = 0, wanted = 0;
		uint32_t k;

		original.reads = malloc((t.count + 1) * sizeof *t.reads);
		memcpy(original.reads, t.reads, t.count * sizeof *t.reads);
		mark(&t, map);
		assert_int_equal(trace_keep_first(&t, &left_out, NULL), 0);
		assert_int_equal(left_out, 0);
		for (i = 0; i < SECTORS; i++)
			wanted += map[i] > 0;
		for (i = 0; i < t.count; i++) {
			const struct trace_read *read = &t.reads[i];
			size_t place = map[read->lba];

			assert_true(place >= last);
			last = place;
			assert_int_equal(read->us, original.reads[place - 1].us);
			for (k = 0; k < read->sectors; k++)
				assert_int_equal(map[read->lba + k], place);
			covered += read->sectors;
		}
		assert_int_equal(covered, wanted); /* so none comes twice */
		trace_release(&t);
		free(original.reads);
	}
}

static void merges_by_time(void **state)
{
	struct trace_read first[] = { { 0, 8, 100 }, { 100, 8, 300 } };
	struct trace_read second[] = { { 4, 8, 50 }, { 200, 8, 300 }, { 96, 16, 400 } };
	struct trace a = { IDENTITY, SECTORS * 512, first, 2 };
	struct trace b = { IDENTITY, SECTORS * 512, second, 3 };
	static const struct trace_read want[] = {
		{ 4, 8, 50 },	 { 0, 4, 100 },	 { 100, 8, 300 },
		{ 200, 8, 300 }, { 96, 4, 400 }, { 108, 4, 400 },
	};
	const struct trace *both[] = { &a, &b };
	struct trace out;

	assert_int_equal(trace_merge(both, 2, &out, NULL, NULL), 0);
	assert_string_equal(out.identity, IDENTITY);
	assert_int_equal(out.disk_size, SECTORS * 512);
	assert_int_equal(out.count, sizeof want / sizeof *want);
	assert_memory_equal(out.reads, want, sizeof want);
	trace_release(&out);
}

/* Whatever one of them has, or lacks. */
static void merges_small_traces(void **state)
{
	struct trace_read one[] = { { 8, 8, 100 } }, two[] = { { 0, 8, 100 }, { 8, 16, 90 } };
	struct trace traces[] = { { IDENTITY, SECTORS * 512, NULL, 0 },
				  { IDENTITY, SECTORS * 512, guard_copy(one, sizeof one), 1 },
				  { IDENTITY, SECTORS * 512, guard_copy(two, sizeof two), 2 } };
	static const struct {
		size_t first, second, count;
		struct trace_read want[3];
	} rows[] = {
		{ 0, 0, 0, { { 0 } } },
		{ 0, 1, 1, { { 8, 8, 100 } } },
		{ 1, 0, 1, { { 8, 8, 100 } } },
		{ 1, 2, 2, { { 8, 16, 90 }, { 0, 8, 100 } } },
		{ 2, 1, 2, { { 8, 16, 90 }, { 0, 8, 100 } } },
		{ 2, 2, 2, { { 8, 16, 90 }, { 0, 8, 100 } } },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct trace *both[] = { &traces[rows[i].first], &traces[rows[i].second] };
		size_t left_out = 9;
		struct trace out;

		assert_int_equal(trace_merge(both, 2, &out, &left_out, NULL), 0);
		assert_int_equal(left_out, 0);
		assert_int_equal(out.count, rows[i].count);
		if (out.count > 0)
			assert_memory_equal(out.reads, rows[i].want, out.count * sizeof *out.reads);
		trace_release(&out);
	}
	unguard(&traces[1]);
	unguard(&traces[2]);
}

static void refuses_different_images(void **state)
{
	struct trace a = make(3, 10), b = make(3, 10), out = { .count = 7 };
	const struct trace *both[] = { &a, &b };
	struct err e;

	b.identity[20] ^= 1;
	assert_int_equal(trace_merge(both, 2, &out, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "different images"));
	assert_non_null(strstr(e.msg, IDENTITY));
	b = (struct trace){ IDENTITY, a.disk_size + 512, b.reads, b.count };
	assert_int_equal(trace_merge(both, 2, &out, NULL, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "different sizes: 256000 and 256512 bytes"));
	assert_int_equal(out.count, 7);
	trace_release(&a);
	trace_release(&b);
}

/* Two full traces have no room in one: what comes last is left out, and counted. */
static void merges_large_traces(void **state)
{
	struct trace a = { IDENTITY, UINT64_C(1) << 40, NULL, TRACE_READS_MAX }, b = a, out;
	const struct trace *both[] = { &a, &b };
	size_t i, left_out;

	a.reads = malloc(a.count * sizeof *a.reads);
	b.reads = malloc(b.count * sizeof *b.reads);
	for (i = 0; i < a.count; i++) {
		a.reads[i] = (struct trace_read){ .lba = i * 100, .sectors = 8, .us = (uint32_t)i };
		b.reads[i] =
			(struct trace_read){ .lba = i * 100 + 50, .sectors = 8, .us = (uint32_t)i };
	}
	assert_int_equal(trace_merge(both, 2, &out, &left_out, NULL), 0);
	assert_int_equal(out.count, TRACE_READS_MAX);
	assert_int_equal(left_out, TRACE_READS_MAX);
	assert_int_equal(out.reads[TRACE_READS_MAX - 1].us, TRACE_READS_MAX / 2 - 1);
	trace_release(&a);
	trace_release(&b);
	trace_release(&out);
}

/* So many that their memory could not be told: refused before any is asked for. */
static void refuses_too_many_reads(void **state)
{
	struct trace a = { IDENTITY, UINT64_C(1) << 40, NULL, 3 }, b = a, out;
	const struct trace *both[] = { &a, &b };
	struct err e = { "" };

	b.count = UINT32_MAX / 2 - a.count;
	assert_int_equal(trace_merge(both, 2, &out, NULL, &e), -EINVAL);
	assert_string_equal(e.msg, "2147483647 reads are too many to merge");
	b.count--;
	alloc_left = 0; /* it is the memory that is missing now */
	assert_int_equal(trace_merge(both, 2, &out, NULL, &e), -ENOMEM);
	alloc_left = -1;
}

static void totals(void **state)
{
	struct trace_read reads[] = { { 0, 8, 5 }, { 4, 8, 1000 }, { 100, 4, 900 } };
	struct trace t = { IDENTITY, 256 * 512, reads, 3 };
	static const uint8_t bytes[10 * SECTOR];
	struct trace_totals sum;
	struct err e = { "" };
	struct layer_writer *w;
	struct image *image;
	struct stack s;

	assert_int_equal(trace_sum_up(&t, NULL, &sum, NULL), 0);
	assert_true(sum.reads == 3 && sum.read_bytes == 20 * 512 && sum.unique_bytes == 16 * 512);
	assert_true(sum.duration_us == 1000 && !sum.has_image);

	stack_init(&s);
	w = stack_add(&s, 256);
	assert_int_equal(layer_writer_data(w, 2, bytes, 4, NULL), 0);
	assert_int_equal(layer_writer_zeroes(w, 6, 4, NULL), 0);
	assert_int_equal(layer_writer_data(w, 102, bytes, 10, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	assert_int_equal(trace_sum_up(&t, image, &sum, NULL), 0);
	assert_true(sum.has_image && sum.image_bytes == 14 * 512);
	assert_int_equal(sum.image_unique_bytes, 6 * 512);
	assert_int_equal(sum.packed_bytes, 6 * 512);
	t.disk_size *= 2;
	reads[2].lba = 256;
	assert_int_equal(trace_sum_up(&t, image, &sum, &e), -EINVAL);
	assert_string_equal(e.msg, "trace of a larger disk than the image's");
	assert_int_equal(sum.packed_bytes, 6 * 512); /* as it was */
	image_close(image);
	stack_release(&s);
}

/* Where data stands in a layer's file need not be in the disk's order, and bytes that two ranges of
 * the disk share are fetched once. */
static void packed_bytes_count_once(void **state)
{
	static const uint64_t places[] = { 20, 0, 10, 25 }; /* sectors of the layer's data */
	static const struct {
		struct trace_read read;
		uint64_t sectors;
	} rows[] = {
		{ { .lba = 0, .sectors = 200 }, 35 },	     { { .lba = 0, .sectors = 60 }, 20 },
		{ { .lba = 5, .sectors = 50 }, 10 },	     { { .lba = 0, .sectors = 10 }, 10 },
		{ { .lba = 0, .sectors = 600 }, 35 + 23 }, /* and all of the other layer */
		{ { .lba = 150, .sectors = 351 }, 10 + 23 },
	};
	static const uint8_t bytes[22 * SECTOR];
	struct trace t = { IDENTITY, 600 * SECTOR, NULL, 1 };
	struct format_entry entry;
	struct layer_writer *w;
	struct image *image;
	struct stack s;
	uint8_t raw[FORMAT_ENTRY];
	uint64_t at;
	size_t i;
	int fd;

	stack_init(&s);
	w = stack_add(&s, 600);
	for (i = 0; i < 4; i++)
		assert_int_equal(layer_writer_data(w, i * 50, bytes, 10, NULL), 0);
	stack_finish(w);
	w = stack_add(&s, 600); /* the second piece stands where the first layer's do */
	assert_int_equal(layer_writer_data(w, 400, bytes, 22, NULL), 0);
	assert_int_equal(layer_writer_data(w, 500, bytes, 1, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	at = image_layer(image, 0)->layer.header.index_offset;
	image_close(image);
	fd = open(s.lowers[0].file, O_RDWR | O_CLOEXEC);
	for (i = 0; i < 4; i++) {
		assert_int_equal(io_pread(fd, raw, sizeof raw, at + i * sizeof raw, NULL), 0);
		entry = format_parse_entry(raw);
		entry.moffset = FORMAT_SPACE / SECTOR + places[i];
		format_encode_entry(&entry, raw);
		assert_int_equal(io_pwrite(fd, raw, sizeof raw, at + i * sizeof raw, NULL), 0);
	}
	close(fd);
	image = stack_open(&s);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct trace_read read = rows[i].read;
		struct trace_totals sum;

		t.reads = &read;
		assert_int_equal(trace_sum_up(&t, image, &sum, NULL), 0);
		assert_int_equal(sum.packed_bytes, rows[i].sectors * SECTOR);
	}
	image_close(image);
	stack_release(&s);
}

/* Data that lies in several layers is fetched from each. */
static void packed_bytes_are_of_each_layer(void **state)
{
	struct trace_read read = { .lba = 0, .sectors = 200 };
	struct trace t = { IDENTITY, 200 * SECTOR, &read, 1 };
	static const uint8_t bytes[100 * SECTOR];
	struct trace_totals sum;
	struct layer_writer *w;
	struct image *image;
	struct stack s;

	stack_init(&s);
	w = stack_add(&s, 200);
	assert_int_equal(layer_writer_data(w, 0, bytes, 10, NULL), 0);
	stack_finish(w);
	w = stack_add(&s, 200);
	assert_int_equal(layer_writer_data(w, 10, bytes, 100, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	assert_int_equal(trace_sum_up(&t, image, &sum, NULL), 0);
	assert_int_equal(sum.packed_bytes, 110 * SECTOR);
	assert_int_equal(sum.image_unique_bytes, 110 * SECTOR);
	image_close(image);
	stack_release(&s);
}

/* Where nothing is shared, what is fetched is what is read: counted sector by sector. */
struct sectors {
	bool data[SECTORS];
};

static int mark_data(void *arg, const struct image_extent *x)
{
	struct sectors *sectors = arg;

	memset(sectors->data + x->off / SECTOR, x->kind == EXTENT_DATA, x->n / SECTOR);
	return 0;
}

static void totals_are_those_of_sectors(void **state)
{
	unsigned loop, loops = loops_count(1000);

	for (loop = 0; loop < loops; loop++) {
		struct trace t = make(loops_random() % 40, 1000);
		uint64_t data = 0, read = 0, unique = 0, latest = 0, lengths = 0;
		size_t map[SECTORS], i;
		struct trace_totals sum;
		struct sectors sectors;
		struct image *image;
		struct stack s;

		stack_init(&s);
		for (i = 0; i < 3; i++)
			stack_add_random(&s, SECTORS);
		image = stack_open(&s);
		assert_int_equal(
			image_extents(image, 0, image_size(image), false, mark_data, &sectors), 0);
		guard(&t);
		mark(&t, map);
		for (i = 0; i < SECTORS; i++) {
			unique += map[i] > 0;
			data += sectors.data[i];
			read += map[i] > 0 && sectors.data[i];
		}
		for (i = 0; i < t.count; i++) {
			lengths += t.reads[i].sectors;
			if (t.reads[i].us > latest)
				latest = t.reads[i].us;
		}
		assert_int_equal(trace_sum_up(&t, image, &sum, NULL), 0);
		assert_true(sum.has_image);
		assert_int_equal(sum.reads, t.count);
		assert_int_equal(sum.read_bytes, lengths * SECTOR);
		assert_int_equal(sum.unique_bytes, unique * SECTOR);
		assert_int_equal(sum.duration_us, latest);
		assert_int_equal(sum.image_bytes, data * SECTOR);
		assert_int_equal(sum.image_unique_bytes, read * SECTOR);
		assert_int_equal(sum.packed_bytes, read * SECTOR);
		image_close(image);
		stack_release(&s);
		unguard(&t);
	}
}

static void belongs_to_its_image(void **state)
{
	struct trace t = { .disk_size = 64 * SECTOR };
	struct image *image;
	struct stack s;
	struct err e;

	stack_init(&s);
	stack_add_random(&s, 64);
	image = stack_open(&s);
	assert_int_equal(image_identity(image, t.identity, NULL), 0);
	assert_int_equal(trace_check_image(&t, image, &e), 0);
	t.disk_size -= SECTOR;
	assert_int_equal(trace_check_image(&t, image, &e), 0);
	t.disk_size += 2 * SECTOR;
	assert_int_equal(trace_check_image(&t, image, &e), -EINVAL);
	assert_string_equal(e.msg, "the trace is of a disk of 33280 bytes, this one has 32768");
	memcpy(t.identity, IDENTITY, sizeof t.identity);
	assert_int_equal(trace_check_image(&t, image, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "of another image: " IDENTITY));
	image_close(image);
	stack_release(&s);
}

static void out_of_memory_for_totals(const struct trace *t)
{
	static const uint8_t bytes[SECTORS * SECTOR] = { 1 };
	struct trace_totals sum;
	struct err e = { "" };
	struct layer_writer *w;
	struct image *image;
	struct stack s;
	long k;
	int r;

	stack_init(&s);
	w = stack_add(&s, SECTORS);
	assert_int_equal(layer_writer_data(w, 0, bytes, SECTORS, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		e.msg[0] = '\0';
		alloc_left = k;
		r = trace_sum_up(t, image, &sum, &e);
		alloc_left = -1;
		assert_string_equal(e.msg, r < 0 ? "out of memory" : "");
	}
	assert_int_equal(r, 0);
	assert_int_equal(k, 3); /* the ranges, and what is packed */
	image_close(image);
	stack_release(&s);
}

/* Each allocation is refused once. */
static void out_of_memory(void **state)
{
	struct trace a = make(20, 100), b = make(20, 100), out;
	const struct trace *both[] = { &a, &b };
	struct trace_ranges of_a, of_b, rest;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = trace_merge(both, 2, &out, NULL, NULL);
		alloc_left = -1;
	}
	assert_true(r == 0 && k > 4);
	trace_release(&out);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = trace_ranges_of(&a, &of_a, NULL);
		if (r == 0) {
			r = trace_ranges_of(&b, &of_b, NULL);
			if (r == 0) {
				r = trace_ranges_subtract(&of_a, &of_b, &rest, NULL);
				trace_ranges_release(&of_b);
			}
			trace_ranges_release(&of_a);
		}
		alloc_left = -1;
	}
	assert_true(r == 0 && k > 2);
	trace_ranges_release(&rest);
	out_of_memory_for_totals(&a);
	trace_release(&a);
	trace_release(&b);
}

static int set_up(void **state)
{
	loops_seed();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ranges),
		cmocka_unit_test(first_uses),
		cmocka_unit_test(merges_by_time),
		cmocka_unit_test(merges_small_traces),
		cmocka_unit_test(refuses_different_images),
		cmocka_unit_test(merges_large_traces),
		cmocka_unit_test(refuses_too_many_reads),
		cmocka_unit_test(totals),
		cmocka_unit_test(packed_bytes_count_once),
		cmocka_unit_test(packed_bytes_are_of_each_layer),
		cmocka_unit_test(totals_are_those_of_sectors),
		cmocka_unit_test(belongs_to_its_image),
		cmocka_unit_test(out_of_memory),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
