/* SPDX-License-Identifier: Apache-2.0 */
/* test-layer_writer.c - layers that we write are, byte for byte, those of the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/layer.h"
#include "core/layer_writer.h"
#include "tests/testlib.h"
#include "tests/unit/loglib.h"

static char folder[] = "/tmp/test-layer_writer.XXXXXX";
static char path[64];

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof path, "%s/out", folder);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(path);
	return rmdir(folder);
}

static struct layer_writer *open_writer(const struct layer_writer_options *options)
{
	struct layer_writer *w;
	struct sink *s;

	assert_int_equal(sink_open_file(path, &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, options, &w, NULL), 0);
	return w;
}

static void finish(struct layer_writer *w)
{
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
}

static void assert_same_files(const char *a, const char *b)
{
	char *x, *y;
	size_t m, n;

	assert_int_equal(io_read_file(a, 1 << 24, &x, &m, NULL), 0);
	assert_int_equal(io_read_file(b, 1 << 24, &y, &n, NULL), 0);
	assert_int_equal(m, n);
	assert_memory_equal(x, y, n);
	free(x);
	free(y);
}

/* Writes a layer's mappings again. */
static void copy_layer(const char *from)
{
	struct layer_writer_options options;
	struct layer_writer *w;
	struct source *s;
	struct layer l;
	size_t i;

	assert_int_equal(source_open_file(from, &s, NULL), 0);
	assert_int_equal(layer_open(s, 0, &l, NULL), 0);
	options = (struct layer_writer_options){ .virtual_size = l.header.virtual_size,
						 .uuid = l.header.uuid,
						 .parent_uuid = l.header.parent_uuid,
						 .message = l.header.tag };
	w = open_writer(&options);
	for (i = 0; i < l.run.count; i++) {
		struct mapping m = l.run.maps[i];
		uint8_t *buf = malloc(FORMAT_MAX_SECTORS * SECTOR);
		int r;

		if (mapping_zeroed(m)) {
			r = layer_writer_zeroes(w, mapping_start(m), mapping_sectors(m), NULL);
		} else {
			source_pread(s, buf, mapping_sectors(m) * SECTOR,
				     mapping_moffset(m) * SECTOR, NULL);
			r = layer_writer_data(w, mapping_start(m), buf, mapping_sectors(m), NULL);
		}
		assert_int_equal(r, 0);
		free(buf);
	}
	finish(w);
	layer_close(&l);
}

static void same_bytes_as_the_reference(void **state)
{
	static const char *const layers[] = { "raw-5/layer0.obd", "raw-5/layer1.obd",
					      "raw-5/layer2.obd", "raw-5/layer3.obd",
					      "raw-5/layer4.obd", "mixed-3/layer2.obd" };
	char golden[4096];
	size_t i;

	for (i = 0; i < sizeof layers / sizeof layers[0]; i++) {
		snprintf(golden, sizeof golden, "%s/%s", getenv("GOLDEN"), layers[i]);
		copy_layer(golden);
		assert_same_files(golden, path);
	}
}

static struct layer open_written(void)
{
	struct source *s;
	struct layer l;

	assert_int_equal(source_open_file(path, &s, NULL), 0);
	assert_int_equal(layer_open(s, 3, &l, NULL), 0);
	return l;
}

static void assert_mapping(struct mapping m, uint64_t start, uint64_t sectors, uint64_t moffset,
			   bool zeroed)
{
	assert_int_equal(mapping_start(m), start);
	assert_int_equal(mapping_sectors(m), sectors);
	assert_int_equal(mapping_moffset(m), zeroed ? 0 : moffset);
	assert_int_equal(mapping_zeroed(m), zeroed);
	assert_int_equal(mapping_layer(m), 3);
}

static void neighbours_become_one_entry(void **state)
{
	const struct layer_writer_options options = { .virtual_size = UINT64_C(1) << 40 };
	struct layer_writer *w = open_writer(&options);
	uint8_t *zeroes = calloc(20000, SECTOR);
	struct layer l;

	assert_int_equal(layer_writer_data(w, 0, zeroes, 5, NULL), 0);
	assert_int_equal(layer_writer_data(w, 5, zeroes, 20000, NULL), 0);
	assert_int_equal(layer_writer_zeroes(w, 20005, 1, NULL), 0);
	assert_int_equal(layer_writer_zeroes(w, 20006, 30000, NULL), 0);
	assert_int_equal(layer_writer_data(w, 50006, zeroes, 1, NULL), 0);
	finish(w);
	free(zeroes);
	l = open_written();
	assert_int_equal(l.run.count, 5);
	assert_mapping(l.run.maps[0], 0, 16383, 8, false);
	assert_mapping(l.run.maps[1], 16383, 3622, 8 + 16383, false);
	assert_mapping(l.run.maps[2], 20005, 16383, 0, true);
	assert_mapping(l.run.maps[3], 36388, 13618, 0, true);
	assert_mapping(l.run.maps[4], 50006, 1, 8 + 20005, false);
	assert_int_equal(l.header.index_size, 256);
	assert_string_equal(l.header.uuid, FORMAT_NIL_UUID);
	layer_close(&l);
}

static void an_empty_layer(void **state)
{
	const struct layer_writer_options options = {
		.virtual_size = 512,
		.uuid = "a708494b-1dfb-4ec7-8e49-636d2508e22e",
		.parent_uuid = "b708494b-1dfb-4ec7-8e49-636d2508e22f",
		.message = "hello"
	};
	struct layer l;

	finish(open_writer(&options));
	l = open_written();
	assert_int_equal(l.run.count, 0);
	assert_string_equal(l.header.uuid, "A708494B-1DFB-4EC7-8E49-636D2508E22E");
	assert_string_equal(l.header.parent_uuid, "B708494B-1DFB-4EC7-8E49-636D2508E22F");
	assert_string_equal(l.header.tag, "hello");
	layer_close(&l);
}

/* Padding does not count. */
static void more_mappings_than_the_reference_reads_are_told(void **state)
{
	struct layer_writer_options options = { .name = "x.obd" };
	uint64_t count, i;

	loglib_listen();
	for (count = FORMAT_REFERENCE_ENTRIES; count <= FORMAT_REFERENCE_ENTRIES + 2; count++) {
		struct testlib_output out = { 0 };
		struct layer_writer *w;

		if (count == FORMAT_REFERENCE_ENTRIES + 2)
			options.name = NULL; /* nobody wants to know */
		assert_int_equal(layer_writer_open(testlib_open_sink(&out), &options, &w, NULL), 0);
		for (i = 0; i < count; i++)
			assert_int_equal(layer_writer_zeroes(w, 2 * i, 1, NULL), 0);
		loglib_expect("");
		assert_int_equal(layer_writer_finish(w, NULL), 0);
		layer_writer_close(w);
		free(out.bytes);
		loglib_expect(count == FORMAT_REFERENCE_ENTRIES + 1
				      ? "x.obd: 1000001 mappings: overlaybd itself reads no layer "
					"of more than 1000000\n"
				      : "");
	}
	loglib_expect_none();
}

static void what_breaks_a_rule_is_refused(void **state)
{
	struct layer_writer_options options = { .virtual_size = 4096 };
	char message[258];
	struct layer_writer *w;
	struct sink *s;
	uint8_t sector[SECTOR] = { 0 };
	struct err e;

	w = open_writer(&options);
	assert_int_equal(layer_writer_data(w, 2, sector, 1, NULL), 0);
	assert_int_equal(layer_writer_data(w, 2, sector, 1, &e), -EINVAL);
	assert_string_equal(e.msg, "LBA 2 follows a range that ends at 3");
	assert_int_equal(layer_writer_zeroes(w, 1, 1, &e), -EINVAL);
	assert_string_equal(e.msg, "LBA 1 follows a range that ends at 3");
	assert_int_equal(layer_writer_zeroes(w, 7, 2, &e), -EINVAL);
	assert_string_equal(e.msg, "2 sectors at LBA 7 lie beyond the virtual size of 4096");
	assert_int_equal(layer_writer_zeroes(w, UINT64_MAX, 2, NULL), -EINVAL);
	layer_writer_close(w);
	assert_int_equal(sink_open_file(path, &s, NULL), 0);
	options.uuid = "x";
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), -EINVAL);
	options.uuid = NULL;
	memset(message, 'm', 257);
	message[257] = '\0';
	options.message = message;
	assert_int_equal(layer_writer_open(s, &options, &w, &e), -EINVAL);
	assert_string_equal(e.msg, "the message is longer than 256 bytes");
	options.message = NULL;
	options.virtual_size = 513;
	assert_int_equal(layer_writer_open(s, &options, &w, &e), -EINVAL);
	assert_string_equal(e.msg, "virtual size 513 is not a multiple of 512");
	sink_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_bytes_as_the_reference),
		cmocka_unit_test(neighbours_become_one_entry),
		cmocka_unit_test(an_empty_layer),
		cmocka_unit_test(more_mappings_than_the_reference_reads_are_told),
		cmocka_unit_test(what_breaks_a_rule_is_refused),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
