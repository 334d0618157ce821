/* SPDX-License-Identifier: Apache-2.0 */
/* test-format.c - one row for each rule about LSMT bytes: a one-byte edit of a good layer, opened
 * as an image must be refused with a message that names config, layer, file and rule. */
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
#include "core/base/le.h"
#include "core/image.h"
#include "core/layer_writer.h"

static char folder[] = "/tmp/test-format.XXXXXX";
static char layer_path[64], data_path[64], index_path[64];

/* The good layer: three data entries, one zeroed, 252 padding. */
enum {
	SIZE_SECTORS = 4096,
	INDEX = 4096 + 24 * 512, /* where its index is */
	TRAILER = INDEX + 256 * 16,
	LAYER_BYTES = TRAILER + 4096,
};

static uint8_t good[LAYER_BYTES];

static int make_good_layer(void **state)
{
	struct layer_writer_options options = { .virtual_size = SIZE_SECTORS * 512 };
	uint8_t *bytes = calloc(8, 512);
	struct layer_writer *w;
	struct sink *s;
	char *text;
	size_t n;

	if (!mkdtemp(folder))
		return -1;
	snprintf(layer_path, sizeof layer_path, "%s/layer.obd", folder);
	snprintf(data_path, sizeof data_path, "%s/upper.data", folder);
	snprintf(index_path, sizeof index_path, "%s/upper.index", folder);
	assert_int_equal(sink_open_file(layer_path, &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	assert_int_equal(layer_writer_data(w, 16, bytes, 8, NULL), 0);
	assert_int_equal(layer_writer_data(w, 32, bytes, 8, NULL), 0);
	assert_int_equal(layer_writer_zeroes(w, 64, 8, NULL), 0);
	assert_int_equal(layer_writer_data(w, 72, bytes, 8, NULL), 0);
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
	free(bytes);
	assert_int_equal(io_read_file(layer_path, 1 << 20, &text, &n, NULL), 0);
	assert_int_equal(n, LAYER_BYTES);
	memcpy(good, text, n);
	free(text);
	return 0;
}

static int remove_folder(void **state)
{
	unlink(layer_path);
	unlink(data_path);
	unlink(index_path);
	return rmdir(folder);
}

static int open_bytes(const uint8_t *bytes, size_t n, struct err *e)
{
	struct lower_config lower = { .file = layer_path };
	struct image_config config = { .path = (char[]){ "/x/image.yaml" },
				       .lowers = &lower,
				       .lower_count = 1 };
	struct image *image;
	int r;

	assert_int_equal(io_replace_file(layer_path, bytes, n, NULL), 0);
	r = image_open(&config, NULL, &image, e);
	if (r == 0)
		image_close(image);
	return r;
}

static const struct {
	const char *rule;
	const char *message;
	int at;
	uint8_t value;
} bad[] = {
	{ "first magic", "neither LSMT nor ZFile magic", 0, 'l' },
	{ "second magic", "neither LSMT nor ZFile magic", 23, 0 },
	{ "header struct size", "LSMT header: struct size 391, not 390", 24, 0x87 },
	{ "header version", "LSMT header: version 2, not 1", 132, 2 },
	{ "header without header flag", "LSMT header: flags 0x6", 28, 6 },
	{ "header without data flag", "LSMT header: flags 0x5", 28, 5 },
	{ "header uuid", "LSMT header: uuid has no end", 92, '0' },
	{ "header parent uuid", "LSMT header: parent uuid has no end", 129, '0' },
	{ "header virtual size", "LSMT header: virtual size 2097153 is not a mult", 48, 1 },
	{ "trailer magic", "LSMT trailer: bad magic", TRAILER, 0 },
	{ "trailer struct size", "LSMT trailer: struct size 391, not 390", TRAILER + 24, 0x87 },
	{ "trailer version", "LSMT trailer: version 0, not 1", TRAILER + 132, 0 },
	{ "trailer with header flag", "LSMT trailer: flags 0x7", TRAILER + 28, 7 },
	{ "trailer without data flag", "LSMT trailer: flags 0x4", TRAILER + 28, 4 },
	{ "trailer not sealed", "LSMT trailer: flags 0x2", TRAILER + 28, 2 },
	{ "trailer uuid", "LSMT trailer: uuid has no end", TRAILER + 92, '0' },
	{ "trailer parent uuid", "LSMT trailer: parent uuid has no end", TRAILER + 129, '0' },
	{ "virtual size", "LSMT trailer: virtual size 2097153 is not a multiple of 512",
	  TRAILER + 48, 1 },
	{ "virtual size over 2^50 sectors", "is over 2^50 sectors", TRAILER + 55, 0x08 },
	{ "index offset not on a sector", "index offset 16385 is not a multiple of 512",
	  TRAILER + 32, 1 },
	{ "index offset in the header", "index offset 0 lies in the header", TRAILER + 33, 0 },
	{ "index offset behind the trailer", "does not fit before the trailer", TRAILER + 34, 1 },
	{ "index offset wraps", "does not fit before the trailer", TRAILER + 39, 0xff },
	{ "index too long", "index of 257 entries", TRAILER + 40, 1 },
	{ "index of too many entries", "more than 67108864", TRAILER + 44, 1 },
	{ "entry of length 0", "index entry 0 (LBA 16, 0 sectors at 8): its length is 0", INDEX + 6,
	  0 },
	{ "entry beyond 2^50 sectors", "index entry 3", INDEX + 3 * 16 + 6, 0x23 },
	{ "entries out of order", "it overlaps the entry before it, or is out of order", INDEX + 16,
	  8 },
	{ "entries overlap", "it overlaps the entry before it, or is out of order", INDEX + 16,
	  23 },
	{ "zeroed entry overlaps", "index entry 2", INDEX + 32, 39 },
	{ "data in the header", "index entry 0 (LBA 16, 8 sectors at 7): its data lies in the head",
	  INDEX + 8, 7 },
	{ "data behind the data", "index entry 3 (LBA 72, 8 sectors at 25): its data lies beyond",
	  INDEX + 3 * 16 + 8, 25 },
	{ "data far behind", "its data lies beyond", INDEX + 14, 0x40 },
	{ "entry after padding", "index entry 255", INDEX + 255 * 16, 0 },
};

static void each_rule_has_its_message(void **state)
{
	uint8_t bytes[LAYER_BYTES];
	char start[128];
	struct err e;
	size_t i;

	snprintf(start, sizeof start, "/x/image.yaml: layer 0 (%s): ", layer_path);
	assert_int_equal(open_bytes(good, sizeof good, &e), 0);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		memcpy(bytes, good, sizeof good);
		assert_int_not_equal(bytes[bad[i].at], bad[i].value);
		bytes[bad[i].at] = bad[i].value;
		if (strstr(bad[i].rule, "2^50 sectors") && bad[i].at < TRAILER) {
			/* start 2^50 - 8: all 50 bits but the lowest three */
			memcpy(bytes + INDEX + 3 * 16, "\xf9\xff\xff\xff\xff\xff\x23", 7);
		}
		if (open_bytes(bytes, sizeof bytes, &e) != -EBADMSG ||
		    !strstr(e.msg, bad[i].message) || strncmp(e.msg, start, strlen(start)) != 0)
			fail_msg("%s: got: %s", bad[i].rule, e.msg);
	}
}

static void every_short_file_is_refused(void **state)
{
	struct err e;
	size_t n;

	for (n = 0; n < sizeof good; n += n < 64 ? 1 : 509)
		assert_int_equal(open_bytes(good, n, &e), -EBADMSG);
}

static void what_is_tolerated(void **state)
{
	uint8_t bytes[LAYER_BYTES];
	struct err e;
	size_t i;

	memcpy(bytes, good, sizeof good);
	bytes[133] = bytes[TRAILER + 133] = 9; /* sub-version */
	bytes[130] = bytes[TRAILER + 131] = 0xaa; /* reserved */
	bytes[28] = 3; /* as in a layer sealed in place */
	bytes[INDEX + 15] = 7; /* tag of an entry */
	memset(bytes + INDEX + 2 * 16 + 8, 0xff, 7); /* moffset of the zeroed entry */
	for (i = 4; i < 256; i++) /* the rest of the padding */
		memset(bytes + INDEX + i * 16 + 7, 0x5a, 9);
	for (i = 390; i < 4096; i++)
		bytes[i] = bytes[TRAILER + i] = 0x77;
	if (open_bytes(bytes, sizeof bytes, &e) != 0)
		fail_msg("%s", e.msg);
}

/* The unsealed pair. */
static uint8_t log_data[4096 + 16 * 512], log_index[4096 + 3 * 16 + 5];

static void make_log(void)
{
	struct format_header h = { .flags = FORMAT_HEADER | FORMAT_DATA_FILE,
				   .virtual_size = SIZE_SECTORS * 512,
				   .uuid = FORMAT_NIL_UUID,
				   .parent_uuid = FORMAT_NIL_UUID,
				   .version = 1,
				   .sub_version = 1 };
	static const struct format_entry entries[3] = {
		{ .start = 100, .sectors = 8, .moffset = 8 },
		{ .start = 100, .sectors = 4, .zeroed = true, .tag = 9 },
		{ .start = 50, .sectors = 8, .moffset = 16 },
	};
	size_t i;

	memset(log_data, 0xdd, sizeof log_data);
	format_encode_header(&h, log_data);
	h.flags = FORMAT_HEADER;
	h.index_offset = 4096;
	format_encode_header(&h, log_index);
	for (i = 0; i < 3; i++)
		format_encode_entry(&entries[i], log_index + 4096 + i * 16);
}

static int open_log(size_t data_n, size_t index_n, struct image **image, struct err *e)
{
	static struct image_config config;

	config = (struct image_config){ .path = (char[]){ "/x/image.yaml" },
					.upper_data = data_path,
					.upper_index = index_path };
	assert_int_equal(io_replace_file(data_path, log_data, data_n, NULL), 0);
	assert_int_equal(io_replace_file(index_path, log_index, index_n, NULL), 0);
	return image_open(&config, NULL, image, e);
}

static void a_log_is_read(void **state)
{
	const struct upper_findings *f;
	uint8_t buf[512 * 20];
	struct image *image;
	struct err e;
	int i;

	make_log();
	assert_int_equal(open_log(sizeof log_data, sizeof log_index, &image, &e), 0);
	f = &image_layer(image, 0)->upper;
	assert_int_equal(f->records, 3);
	assert_int_equal(f->ignored_records, 0);
	assert_int_equal(f->fragment_bytes, 5);
	assert_int_equal(image_pread(image, buf, sizeof buf, 96 * 512, &e), 0);
	for (i = 0; i < (int)sizeof buf; i++)
		assert_int_equal(buf[i], i >= 8 * 512 && i < 12 * 512 ? 0xdd : 0);
	image_close(image);
	/* The data file lost its end: the third record and what follows do not count. */
	assert_int_equal(open_log(sizeof log_data - 1, sizeof log_index, &image, &e), 0);
	f = &image_layer(image, 0)->upper;
	assert_int_equal(f->records, 2);
	assert_int_equal(f->ignored_records, 1);
	image_close(image);
	/* Nothing but the headers. */
	assert_int_equal(open_log(4096, 4096, &image, &e), 0);
	assert_int_equal(index_count(image_index(image)), 0);
	image_close(image);
}

/* What no crash leaves behind is damage, not the end of the log. */
static void a_bad_record_is_damage(void **state)
{
	static const struct {
		const char *message;
		int record;
		int at;
		uint8_t value;
	} records[] = {
		{ "index record 0: its length is 0", 0, 6, 0 },
		{ "index record 1: its length is 0", 1, 6, 0 },
		{ "index record 0: its data lies in the header", 0, 8, 7 },
	};
	struct image *image;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof records / sizeof records[0]; i++) {
		make_log();
		log_index[4096 + 16 * records[i].record + records[i].at] = records[i].value;
		if (open_log(sizeof log_data, sizeof log_index, &image, &e) != -EBADMSG ||
		    !strstr(e.msg, records[i].message) || !strstr(e.msg, index_path))
			fail_msg("%s: got: %s", records[i].message, e.msg);
	}
	make_log(); /* the last one: a crash may have cut it */
	log_index[4096 + 16 * 2 + 6] = 0;
	assert_int_equal(open_log(sizeof log_data, sizeof log_index, &image, &e), 0);
	assert_int_equal(image_layer(image, 0)->upper.records, 2);
	assert_int_equal(image_layer(image, 0)->upper.ignored_records, 1);
	image_close(image);
	make_log();
	memset(log_index + 4096 + 16, 0, 16);
	assert_int_equal(open_log(sizeof log_data, sizeof log_index, &image, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "index record 2: it follows one of zeroes"));
	memset(log_index + 4096 + 16, 0, 32);
	assert_int_equal(open_log(sizeof log_data, sizeof log_index, &image, &e), 0);
	assert_int_equal(image_layer(image, 0)->upper.records, 1);
	assert_int_equal(image_layer(image, 0)->upper.ignored_records, 2);
	image_close(image);
}

static const struct {
	const char *message;
	int at;
	uint8_t value;
	bool index; /* edit of the index file, else of the data file */
} bad_log[] = {
	{ "data file's header: bad magic", 0, 0, false },
	{ "data file's header: flags 0x7", 28, 7, false },
	{ "data file's header: flags 0x2", 28, 2, false },
	{ "data file's header: version 3", 132, 3, false },
	{ "index file's header: bad magic", 8, 0, true },
	{ "index file's header: flags 0x3", 28, 3, true },
	{ "index file's header: flags 0x5", 28, 5, true },
	{ "index file's header: index offset 8192, not 4096", 33, 0x20, true },
	{ "different uuids", 56, '1', true },
	{ "different parent uuids", 93, '1', true },
	{ "different virtual sizes", 49, 0x02, true },
	{ "not a multiple of 512", 48, 1, true },
	{ "index file has 4149 bytes, not 0", 28, 0x13, false },
};

static void each_rule_of_a_log_has_its_message(void **state)
{
	struct image *image;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof bad_log / sizeof bad_log[0]; i++) {
		make_log();
		(bad_log[i].index ? log_index : log_data)[bad_log[i].at] = bad_log[i].value;
		if (open_log(sizeof log_data, sizeof log_index, &image, &e) != -EBADMSG ||
		    !strstr(e.msg, bad_log[i].message) || !strstr(e.msg, data_path))
			fail_msg("%s: got: %s", bad_log[i].message, e.msg);
	}
	make_log();
	assert_int_equal(open_log(4095, 4096, &image, &e), -EBADMSG);
	assert_int_equal(open_log(4096, 4095, &image, &e), -EBADMSG);
}

static void uuids(void **state)
{
	assert_true(format_is_uuid("A708494B-1DFB-4EC7-8E49-636D2508E22E"));
	assert_true(format_is_uuid(FORMAT_NIL_UUID));
	assert_false(format_is_uuid(""));
	assert_false(format_is_uuid("A708494B-1DFB-4EC7-8E49-636D2508E22"));
	assert_false(format_is_uuid("A708494B-1DFB-4EC7-8E49-636D2508E22E0"));
	assert_false(format_is_uuid("A708494B01DFB-4EC7-8E49-636D2508E22E"));
	assert_false(format_is_uuid("G708494B-1DFB-4EC7-8E49-636D2508E22E"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_rule_has_its_message),
		cmocka_unit_test(every_short_file_is_refused),
		cmocka_unit_test(what_is_tolerated),
		cmocka_unit_test(a_log_is_read),
		cmocka_unit_test(a_bad_record_is_damage),
		cmocka_unit_test(each_rule_of_a_log_has_its_message),
		cmocka_unit_test(uuids),
	};

	return cmocka_run_group_tests(tests, make_good_layer, remove_folder);
}
