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

/* ---- bytes ---- */

#define UUID "A708494B-1DFB-4EC7-8E49-636D2508E22E"
#define PARENT "0123456789abcdef0123456789abcdef0123" /* no form is asked for here */

/* A header in which no two fields are alike, and its bytes, where FORMAT.md has them. */
static struct format_header a_header(uint8_t raw[FORMAT_SPACE])
{
	struct format_header h = { .flags = FORMAT_HEADER | FORMAT_DATA_FILE | 0xa5b00000,
				   .index_offset = UINT64_C(0x0102030405060708),
				   .index_size = UINT64_C(0x1112131415161718),
				   .virtual_size = UINT64_C(0x0021222324252600),
				   .uuid = UUID,
				   .parent_uuid = PARENT,
				   .version = 1,
				   .sub_version = 0xee };

	memset(h.tag, 't', FORMAT_TAG);
	h.tag[FORMAT_TAG - 1] = 'u';
	memset(raw, 0, FORMAT_SPACE);
	memcpy(raw, "LSMT\0\1\2\0\x65\x7e\x63\xd2\x94\x44\x08\x4c\xa2\xd2\xc8\xec\x4f\xcf\xae\x8a",
	       24);
	memcpy(raw + 24, "\x86\x01\0\0\x03\0\xb0\xa5", 8);
	memcpy(raw + 32, "\x08\7\6\5\4\3\2\1\x18\x17\x16\x15\x14\x13\x12\x11", 16);
	memcpy(raw + 48, "\0\x26\x25\x24\x23\x22\x21\0", 8);
	memcpy(raw + 56, UUID, 37);
	memcpy(raw + 93, PARENT, 37);
	raw[132] = 1;
	raw[133] = 0xee;
	memcpy(raw + 134, h.tag, 256);
	return h;
}

static void assert_same_header(const struct format_header *a, const struct format_header *b)
{
	assert_int_equal(a->flags, b->flags);
	assert_int_equal(a->index_offset, b->index_offset);
	assert_int_equal(a->index_size, b->index_size);
	assert_int_equal(a->virtual_size, b->virtual_size);
	assert_string_equal(a->uuid, b->uuid);
	assert_string_equal(a->parent_uuid, b->parent_uuid);
	assert_int_equal(a->version, b->version);
	assert_int_equal(a->sub_version, b->sub_version);
	assert_string_equal(a->tag, b->tag);
}

static void each_field_has_its_place(void **state)
{
	uint8_t want[FORMAT_SPACE], raw[FORMAT_SPACE + 64];
	const struct format_header h = a_header(want);
	struct format_header got, kept;
	struct source *s;
	struct err e;

	memset(raw, 0x5a, sizeof raw);
	format_encode_header(&h, raw);
	assert_memory_equal(raw, want, FORMAT_SPACE);
	assert_int_equal(raw[FORMAT_SPACE], 0x5a);
	memset(&got, 0x5a, sizeof got);
	assert_int_equal(format_parse_header(&got, raw, FORMAT_PART_HEADER, NULL), 0);
	assert_same_header(&got, &h);
	/* What is refused leaves the header alone. */
	memset(&got, 0x5a, sizeof got);
	memcpy(&kept, &got, sizeof kept);
	assert_int_equal(format_parse_header(&got, raw, FORMAT_PART_TRAILER, &e), -EBADMSG);
	assert_string_equal(e.msg, "LSMT trailer: flags 0xa5b00003 are not those of a trailer (0x6 "
				   "set, 0x1 clear)");
	raw[0] = 0;
	assert_int_equal(format_parse_header(&got, raw, FORMAT_PART_HEADER, NULL), -EBADMSG);
	raw[0] = 'L';
	assert_memory_equal(&got, &kept, sizeof got);
	format_patch_size(raw, UINT64_C(0x3132333435363738));
	memcpy(want + 48, "\x38\x37\x36\x35\x34\x33\x32\x31", 8);
	assert_memory_equal(raw, want, FORMAT_SPACE);
	/* From the middle of something. */
	memmove(raw + 64, raw, FORMAT_SPACE);
	memcpy(raw + 64 + 48, "\0\x26\x25\x24\x23\x22\x21\0", 8);
	assert_int_equal(source_open_memory(raw, sizeof raw, &s, NULL), 0);
	assert_int_equal(format_read_header(&got, s, 64, FORMAT_PART_HEADER, NULL), 0);
	assert_same_header(&got, &h);
	assert_int_equal(format_read_header(&got, s, 65, FORMAT_PART_HEADER, NULL), -EBADMSG);
	assert_int_equal(format_read_header(&got, s, 63, FORMAT_PART_HEADER, NULL), -EBADMSG);
	source_close(s);
}

/* Text that fills its field: a uuid ends in a NUL all the same, a message need not. */
static void texts_are_cut_to_their_fields(void **state)
{
	uint8_t want[FORMAT_SPACE], raw[FORMAT_SPACE];
	struct format_header h = a_header(want), got;
	struct err e;

	memset(h.uuid, 'U', sizeof h.uuid);
	memset(h.parent_uuid, 'P', sizeof h.parent_uuid);
	memset(h.tag, 'T', sizeof h.tag);
	format_encode_header(&h, raw);
	memset(want + 56, 'U', 36);
	memset(want + 93, 'P', 36);
	memset(want + 134, 'T', 256);
	assert_memory_equal(raw, want, FORMAT_SPACE);
	assert_int_equal(format_parse_header(&got, raw, FORMAT_PART_HEADER, NULL), 0);
	assert_int_equal(strlen(got.uuid), 36);
	assert_int_equal(strlen(got.tag), 256);
	strcpy(h.uuid, "u");
	h.parent_uuid[0] = h.tag[0] = '\0';
	format_encode_header(&h, raw);
	assert_int_equal(format_parse_header(&got, raw, FORMAT_PART_HEADER, NULL), 0);
	assert_same_header(&got, &h);
	/* The NUL of the next field is not its end. */
	raw[92] = 'x';
	memset(raw + 56, 'x', 36);
	assert_int_equal(format_parse_header(&got, raw, FORMAT_PART_HEADER, &e), -EBADMSG);
	assert_string_equal(e.msg, "LSMT header: uuid has no end");
}

static void disks_have_a_limit(void **state)
{
	static const struct {
		uint64_t size;
		const char *message;
	} rows[] = {
		{ 0, NULL },
		{ 512, NULL },
		{ 511, "LSMT header: virtual size 511 is not a multiple of 512" },
		{ 513, "LSMT header: virtual size 513 is not a multiple of 512" },
		{ ((UINT64_C(1) << 50) - 1) * 512, NULL },
		{ UINT64_C(1) << 59,
		  "LSMT header: virtual size 576460752303423488 is over 2^50 sectors" },
	};
	uint8_t raw[FORMAT_SPACE];
	struct format_header h = a_header(raw);
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err e = { "" };
		int r;

		h.virtual_size = rows[i].size;
		format_encode_header(&h, raw);
		r = format_parse_header(&h, raw, FORMAT_PART_HEADER, &e);
		assert_int_equal(r, rows[i].message ? -EBADMSG : 0);
		assert_string_equal(e.msg, rows[i].message ? rows[i].message : "");
	}
}

static void an_index_lies_before_its_trailer(void **state)
{
	const uint64_t max = UINT64_C(1) << 26;
	const struct {
		uint64_t file, offset, size;
		const char *message;
	} rows[] = {
		{ 8192, 4096, 0, NULL },
		{ 8191, 4096, 0, "LSMT: 8191 bytes are too few for a header and a trailer" },
		{ 4096, 0, 0, "LSMT: 4096 bytes are too few for a header and a trailer" },
		{ 100, 512, 0, "LSMT: 100 bytes are too few for a header and a trailer" },
		{ 8192 + 16, 4096, 1, NULL },
		{ 8192 + 15, 4096, 1,
		  "LSMT trailer: index of 1 entries at 4096 does not fit before "
		  "the trailer at 4111" },
		{ 8192 + 511, 4608, 0,
		  "LSMT trailer: index of 0 entries at 4608 does not fit "
		  "before the trailer at 4607" },
		{ 8192, 3584, 0, "LSMT trailer: index offset 3584 lies in the header" },
		{ 8192, 4097, 0, "LSMT trailer: index offset 4097 is not a multiple of 512" },
		{ 8192 + 16 * max, 4096, max, NULL },
		{ 1 + (max << 8), 4096, max + 1,
		  "LSMT trailer: 67108865 index entries, more than 67108864" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct format_header trailer = { .index_offset = rows[i].offset,
						 .index_size = rows[i].size };
		struct err e = { "" };
		int r = format_check_index(&trailer, rows[i].file, &e);

		assert_string_equal(e.msg, rows[i].message ? rows[i].message : "");
		assert_int_equal(r, rows[i].message ? -EBADMSG : 0);
	}
}

/* Each field of an entry alone, with all its bits. */
static void entries_are_packed(void **state)
{
	static const struct {
		struct format_entry entry;
		const char *raw;
	} rows[] = {
		{ { .start = 0 }, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" },
		{ { .start = (UINT64_C(1) << 50) - 1 },
		  "\xff\xff\xff\xff\xff\xff\3\0\0\0\0\0\0\0\0\0" },
		{ { .sectors = 16383 }, "\0\0\0\0\0\0\xfc\xff\0\0\0\0\0\0\0\0" },
		{ { .moffset = (UINT64_C(1) << 55) - 1 },
		  "\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\x7f\0" },
		{ { .zeroed = true }, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80\0" },
		{ { .tag = 255 }, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct format_entry *want = &rows[i].entry;
		struct format_entry got;
		uint8_t raw[16 + 1];

		memset(raw, 0x5a, sizeof raw);
		format_encode_entry(want, raw);
		assert_memory_equal(raw, rows[i].raw, 16);
		assert_int_equal(raw[16], 0x5a);
		got = format_parse_entry(raw);
		assert_int_equal(got.start, want->start);
		assert_int_equal(got.sectors, want->sectors);
		assert_int_equal(got.moffset, want->moffset);
		assert_int_equal(got.zeroed, want->zeroed);
		assert_int_equal(got.tag, want->tag);
	}
}

static void entries_have_limits(void **state)
{
	const uint64_t end = UINT64_C(1) << 50;
	const char *const beyond = "its data lies beyond the end of the data";
	const struct {
		struct format_entry entry;
		uint64_t previous_end, data_end;
		const char *fault;
	} rows[] = {
		{ { .start = 10, .sectors = 1, .moffset = 8 }, 10, 9, NULL },
		{ { .start = 10, .sectors = 0, .moffset = 8 }, 10, 9, "its length is 0" },
		{ { .start = 9, .sectors = 1, .moffset = 8 },
		  10,
		  9,
		  "it overlaps the entry before it, or is out of order" },
		{ { .start = end - 5, .sectors = 5, .moffset = 8 }, 10, 13, NULL },
		{ { .start = end - 5, .sectors = 6, .moffset = 8 },
		  10,
		  99,
		  "it ends beyond sector 2^50" },
		{ { .start = end - 1, .sectors = 2, .zeroed = true },
		  10,
		  99,
		  "it ends beyond sector 2^50" },
		{ { .start = 0, .sectors = 1, .moffset = 7 },
		  0,
		  99,
		  "its data lies in the header" },
		{ { .start = 0, .sectors = 1, .moffset = 7, .zeroed = true }, 0, 99, NULL },
		{ { .start = 0, .sectors = 9, .moffset = 90 }, 0, 99, NULL },
		{ { .start = 0, .sectors = 10, .moffset = 90 }, 0, 99, beyond },
		{ { .start = 0, .sectors = 1, .moffset = 99 }, 0, 99, beyond },
		{ { .start = 0, .sectors = 1, .moffset = 200 }, 0, 99, beyond },
		{ { .start = 0, .sectors = 1, .moffset = 200, .zeroed = true }, 0, 99, NULL },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *fault =
			format_entry_fault(&rows[i].entry, rows[i].previous_end, rows[i].data_end);

		assert_string_equal(fault ? fault : "", rows[i].fault ? rows[i].fault : "");
	}
}

static void magics(void **state)
{
	uint8_t raw[FORMAT_SPACE];
	size_t i;

	(void)a_header(raw);
	assert_true(format_is_layer(raw, 24));
	assert_true(format_is_layer(raw, sizeof raw));
	assert_false(format_is_layer(raw, 23));
	for (i = 0; i < 24; i++) {
		raw[i] ^= 1;
		assert_false(format_is_layer(raw, 24));
		raw[i] ^= 1;
	}
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
	char text[37];
	size_t i, k;

	assert_true(format_is_uuid("A708494B-1DFB-4EC7-8E49-636D2508E22E"));
	assert_true(format_is_uuid(FORMAT_NIL_UUID));
	assert_false(format_is_uuid(""));
	assert_false(format_is_uuid("A708494B-1DFB-4EC7-8E49-636D2508E22"));
	assert_false(format_is_uuid("A708494B-1DFB-4EC7-8E49-636D2508E22E0"));
	assert_false(format_is_uuid("A708494B01DFB-4EC7-8E49-636D2508E22E"));
	for (i = 0; i < 36; i++) {
		static const char others[] = "0afAF-gG/:@`\x80\xff";
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		for (k = 0; k < sizeof others; k++) { /* the NUL too */
			strcpy(text, UUID);
			text[i] = others[k];
			assert_int_equal(format_is_uuid(text), hyphen ? k == 5 : k < 5);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_rule_has_its_message),
		cmocka_unit_test(every_short_file_is_refused),
		cmocka_unit_test(what_is_tolerated),
		cmocka_unit_test(each_field_has_its_place),
		cmocka_unit_test(texts_are_cut_to_their_fields),
		cmocka_unit_test(disks_have_a_limit),
		cmocka_unit_test(an_index_lies_before_its_trailer),
		cmocka_unit_test(entries_are_packed),
		cmocka_unit_test(entries_have_limits),
		cmocka_unit_test(magics),
		cmocka_unit_test(a_log_is_read),
		cmocka_unit_test(a_bad_record_is_damage),
		cmocka_unit_test(each_rule_of_a_log_has_its_message),
		cmocka_unit_test(uuids),
	};

	return cmocka_run_group_tests(tests, make_good_layer, remove_folder);
}
