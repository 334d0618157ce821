/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_sparse.c - a sparse layer: what its holes say, and when they cannot be believed. */
#include "tests/unit/readerlib.h"

/* ---- the holes of a sparse layer ---- */

#define LARGEST ((INDEX_MAX_MOFFSET - DATA) * SECTOR)

static void what_is_no_hole_is_mapped(void **state)
{
	enum { BASE = FORMAT_SPACE, END = FORMAT_SPACE + BYTES };
	static const struct {
		const char *what;
		uint64_t virtual_size;
		struct stretch list[3];
		size_t count;
		struct {
			uint64_t start, sectors;
		} maps[4];
		size_t maps_count;
	} cases[] = {
		{ "a header", BYTES, { { 0, BASE } }, 1, { { 0, 0 } }, 0 },
		{ "the first sector", BYTES, { { 0, BASE + 512 } }, 1, { { 0, 1 } }, 1 },
		{ "the second", BYTES, { { BASE + 512, BASE + 1024 } }, 1, { { 1, 1 } }, 1 },
		{ "parts of sectors", BYTES, { { BASE + 700, BASE + 1025 } }, 1, { { 1, 2 } }, 1 },
		{ "all but a byte", BYTES, { { BASE + 511, BASE + 1535 } }, 1, { { 0, 3 } }, 1 },
		{ "two stretches",
		  BYTES,
		  { { 0, BASE + 1024 }, { BASE + 4096, BASE + 8192 } },
		  2,
		  { { 0, 2 }, { 8, 8 } },
		  2 },
		{ "up to the end", BYTES, { { END - 512, END } }, 1, { { SECTORS - 1, 1 } }, 1 },
		{ "it grew", BYTES, { { END - 1024, END + 9000 } }, 1, { { SECTORS - 2, 2 } }, 1 },
		{ "it grew behind", BYTES, { { END, END + 9000 } }, 1, { { 0, 0 } }, 0 },
		{ "it grew further", BYTES, { { END + 512, END + 9000 } }, 1, { { 0, 0 } }, 0 },
		{ "as long as can be",
		  UINT64_C(1) << 30,
		  { { BASE + 512, BASE + (MOST + 1) * UINT64_C(512) } },
		  1,
		  { { 1, MOST } },
		  1 },
		{ "longer",
		  UINT64_C(1) << 30,
		  { { BASE + 512, BASE + (2 * MOST + 6) * UINT64_C(512) } },
		  1,
		  { { 1, MOST }, { MOST + 1, MOST }, { 2 * MOST + 1, 5 } },
		  3 },
		{ "the largest",
		  LARGEST,
		  { { BASE + LARGEST - 512, BASE + LARGEST } },
		  1,
		  { { LARGEST / 512 - 1, 1 } },
		  1 },
	};
	struct upper_findings found;
	struct mapping want[4];
	struct layer layer;
	size_t i, k;

	for (i = 0; i < COUNT_OF(cases); i++) {
		reset(NULL);
		write_sparse(cases[i].virtual_size);
		fake.size = FORMAT_SPACE + cases[i].virtual_size;
		fake.list = cases[i].list;
		fake.count = cases[i].count;
		for (k = 0; k < cases[i].maps_count; k++)
			want[k] = mapping_make(cases[i].maps[k].start, cases[i].maps[k].sectors,
					       NUMBER, DATA + cases[i].maps[k].start, false);
		open_it(cases[i].what, &layer, &found);
		expect_maps(cases[i].what, &layer, want, cases[i].maps_count);
		assert_int_equal(layer.entries, cases[i].maps_count);
		assert_int_equal(layer.header.virtual_size, cases[i].virtual_size);
		assert_true(found.sparse);
		assert_int_equal(found.records + found.ignored_records + found.fragment_bytes, 0);
		layer_close(&layer);
	}
}

static void expect_refusal(const char *what, int want, const char *said)
{
	char message[600];
	struct layer layer;
	struct err e;
	int r;

	snprintf(message, sizeof message, "%s, %s: %s", upper_data, upper_index, said);
	r = upper_open_read_only(upper_data, upper_index, NUMBER, &layer, NULL, &e);
	if (r != want || strcmp(e.msg, message) != 0)
		fail_msg("%s: %d '%s', not %d '%s'", what, r, r < 0 ? e.msg : "", want, message);
}

static void holes_that_cannot_be_told_are_refused(void **state)
{
	static const struct stretch all[] = { { 0, FORMAT_SPACE + BYTES } };
	static const struct {
		const char *what;
		int data_error, hole_error;
		bool first; /* of the whole file */
		int r;
		const char *said;
	} cases[] = {
		{ "no holes", 0, EINVAL, true, -EOPNOTSUPP,
		  "its holes cannot be found here (SEEK_HOLE): Invalid argument" },
		{ "a bad disk", 0, EIO, true, -EIO,
		  "its holes cannot be found here (SEEK_HOLE): Input/output error" },
		{ "no data", EINVAL, 0, false, -EOPNOTSUPP,
		  "its holes cannot be found here (SEEK_DATA): Invalid argument" },
		{ "bad data", EIO, 0, false, -EIO,
		  "its holes cannot be found here (SEEK_DATA): Input/output error" },
		{ "an end that is not found", 0, EINVAL, false, -EOPNOTSUPP,
		  "its holes cannot be found here (SEEK_DATA): Invalid argument" },
		{ "a bad end", 0, EIO, false, -EIO,
		  "its holes cannot be found here (SEEK_DATA): Input/output error" },
		{ "an end that is none", 0, ENXIO, false, -ENXIO,
		  "its holes cannot be found here (SEEK_DATA): No such device or address" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		reset(NULL);
		write_sparse(BYTES);
		assert_int_equal(truncate(upper_data, FORMAT_SPACE + BYTES), 0);
		fake.list = cases[i].first ? NULL : all;
		fake.count = 1;
		fake.allocated = FORMAT_SPACE + BYTES;
		fake.data_error = cases[i].data_error;
		fake.hole_error = cases[i].hole_error;
		expect_refusal(cases[i].what, cases[i].r, cases[i].said);
	}
}

/* Where all is said to be data, it must take as much space. */
static void a_file_without_holes_takes_its_space(void **state)
{
	static const struct stretch all[] = { { 0, FORMAT_SPACE + BYTES } };
	enum { ALL = FORMAT_SPACE + BYTES };
	struct upper_findings found;
	struct layer layer;
	char said[200];

	write_sparse(BYTES);
	assert_int_equal(truncate(upper_data, ALL), 0);
	fake.list = all;
	fake.count = 1;
	fake.allocated = ALL - 512;
	snprintf(said, sizeof said,
		 "%d bytes take %d bytes of space, but this file system shows no holes: copy it to "
		 "one that does",
		 ALL, ALL - 512);
	expect_refusal("a hole", -EOPNOTSUPP, said);
	for (fake.allocated = ALL; fake.allocated <= ALL + 512; fake.allocated += 512) {
		open_it("all is data", &layer, &found);
		assert_int_equal(layer.run.count, 1);
		assert_int_equal(mapping_sectors(layer.run.maps[0]), SECTORS);
		layer_close(&layer);
	}
	fake.status_error = EOVERFLOW;
	fake.status_after = 9; /* behind those of names and sizes */
	expect_refusal("no status", -EOVERFLOW, "fstat: Value too large for defined data type");
}

static void sparse_layers_of_other_sizes_are_refused(void **state)
{
	static const struct stretch none[] = { { 0, FORMAT_SPACE } };
	static const struct {
		uint64_t virtual_size, size;
		int r;
		const char *said;
	} cases[] = {
		{ BYTES, FORMAT_SPACE + BYTES - 1, -EBADMSG,
		  "a sparse layer of virtual size 32768 is 36863 bytes long, not 36864" },
		{ BYTES, FORMAT_SPACE + BYTES + 1, -EBADMSG,
		  "a sparse layer of virtual size 32768 is 36865 bytes long, not 36864" },
		{ LARGEST + 512, FORMAT_SPACE + LARGEST + 512, -EFBIG,
		  "a sparse layer over the limit of 64 PiB" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		write_sparse(cases[i].virtual_size);
		fake.list = none;
		fake.count = 1;
		fake.size = cases[i].size;
		expect_refusal("a size", cases[i].r, cases[i].said);
	}
	reset(NULL);
	write_sparse(BYTES);
	assert_int_equal(io_replace_file(upper_index, "x", 1, NULL), 0);
	expect_refusal("an index", -EBADMSG, "a sparse layer's index file has 1 bytes, not 0");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_is_no_hole_is_mapped, reset),
		cmocka_unit_test_setup(holes_that_cannot_be_told_are_refused, reset),
		cmocka_unit_test_setup(a_file_without_holes_takes_its_space, reset),
		cmocka_unit_test_setup(sparse_layers_of_other_sizes_are_refused, reset),
	};

	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
