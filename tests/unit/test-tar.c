/* SPDX-License-Identifier: Apache-2.0 */
/* test-tar.c - the tar wrapper: what other tools write, one row for each rule, and our writer. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/fault.h"
#include "tests/testlib.h"
#include "zfile/tar.h"

enum { BLOCK = 512, PAYLOAD = 700 };

/* Puts the right checksum into a header. */
static void seal(uint8_t *raw)
{
	unsigned sum = 0;
	int i;

	memset(raw + 148, ' ', 8);
	for (i = 0; i < BLOCK; i++)
		sum += raw[i];
	snprintf((char *)raw + 148, 8, "%06o", sum & 0777777);
}

static void header(uint8_t *raw, char type, const char *size)
{
	memset(raw, 0, BLOCK);
	strcpy((char *)raw, "layer");
	memcpy(raw + 124, size, strlen(size));
	memcpy(raw + 257,
	       "ustar\0"
	       "00",
	       8);
	raw[156] = (uint8_t)type;
	seal(raw);
}

/* An archive of PAYLOAD bytes of 'p', all zero around: pax header, records, payload header,
 * payload, end.  5120 bytes are plenty. */
struct archive {
	uint8_t bytes[5120];
	size_t n;
};

static void make(struct archive *a, const char *records)
{
	uint8_t *p = a->bytes;
	char size[32];

	memset(a, 0, sizeof *a);
	if (records) {
		snprintf(size, sizeof size, "%011zo", strlen(records));
		header(p, 'x', size);
		memcpy(p + BLOCK, records, strlen(records));
		p += 2 * BLOCK;
	}
	header(p, '0', "00000001274");
	memset(p + BLOCK, 'p', PAYLOAD);
	a->n = (size_t)(p - a->bytes) + BLOCK + 2 * BLOCK + 2 * BLOCK;
}

static int parse(const void *bytes, size_t n, struct tar_layout *t, struct err *e)
{
	struct source *s;
	int r;

	assert_int_equal(source_open_memory(bytes, n, &s, e), 0);
	r = tar_parse(s, t, e);
	source_close(s);
	return r;
}

static void expect_layout(const struct archive *a, uint64_t offset, uint64_t size, bool pax)
{
	struct tar_layout t;
	struct err e = { "" };
	int r = parse(a->bytes, a->n, &t, &e);

	if (r != 0)
		fail_msg("returned %d: %s", r, e.msg);
	assert_int_equal(t.payload_offset, offset);
	assert_int_equal(t.payload_size, size);
	assert_int_equal(t.pax, pax);
	assert_true(t.end_blocks);
	assert_string_equal(t.name, "layer");
}

static void plain_and_pax(void **state)
{
	struct archive a;

	(void)state;
	make(&a, NULL);
	expect_layout(&a, 512, PAYLOAD, false);
	a.bytes[156] = '\0'; /* the type of old tars */
	seal(a.bytes);
	expect_layout(&a, 512, PAYLOAD, false);
	make(&a, "12 size=700\n");
	memset(a.bytes + 2 * BLOCK + 124, 0, 12); /* then ignored, whatever it is */
	seal(a.bytes + 2 * BLOCK);
	expect_layout(&a, 1536, PAYLOAD, true);
	make(&a, "11 size=99\n20 path=some/name.x\n12 size=700\n");
	expect_layout(&a, 1536, PAYLOAD, true);
	make(&a, "20 path=some/name.x\n");
	expect_layout(&a, 1536, PAYLOAD, false);
	make(&a, "4 =\n5 a=\n12 siz=size\n16 sizes=999999\n"); /* none is our key */
	expect_layout(&a, 1536, PAYLOAD, false);
}

/* The number formats of other tools. */
static void numbers(void **state)
{
	static const struct {
		const char *text; /* 12 bytes */
		uint64_t value;
	} good[] = {
		{ "00000001274\0", 700 },
		{ "       1274 ", 700 },
		{ "1274\0xxxxxxx", 700 },
		{ "000000001274", 700 },
		{ "\x80\0\0\0\0\0\0\0\0\0\x02\xbc", 700 },
		{ "          0 ", 0 },
	};
	static const char *const bad[] = {
		"\0\0\0\0\0\0\0\0\0\0\0\0",
		"            ",
		"0000000128 \0",
		"-0000000127\0",
		"1274x\0\0\0\0\0\0\0",
		"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"\x80\x01\0\0\0\0\0\0\0\0\0",
	};
	struct archive a;
	struct tar_layout t;
	struct err e;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof good / sizeof good[0]; i++) {
		make(&a, NULL);
		memcpy(a.bytes + 124, good[i].text, 12);
		seal(a.bytes);
		assert_int_equal(parse(a.bytes, a.n, &t, &e), 0);
		assert_int_equal(t.payload_size, good[i].value);
	}
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		make(&a, NULL);
		memcpy(a.bytes + 124, bad[i], 12);
		seal(a.bytes);
		assert_int_equal(parse(a.bytes, a.n, &t, &e), -EBADMSG);
		assert_non_null(strstr(e.msg, "tar: header at 0: size is not a number"));
	}
}

/* The largest, and one more. */
static void large_numbers(void **state)
{
	static const struct {
		const char *text; /* 12 bytes; or records */
		const char *msg;
	} rows[] = {
		{ "777777777777", "payload of 68719476735 bytes at 512 does not fit" },
		{ "\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff",
		  "payload of 9223372036854775807 bytes at 512 does not fit" },
		{ "\x80\0\0\0\x80\0\0\0\0\0\0\0", "size is not a number" },
		{ "\x80\0\0\x01\0\0\0\0\0\0\0\0", "size is not a number" },
		{ "29 size=18446744073709551615\n",
		  "payload of 18446744073709551615 bytes at 1536 does not fit" },
		{ "29 size=18446744073709551616\n", "size is not a number" },
		{ "29 size=18446744073709551620\n", "size is not a number" },
	};
	struct archive a;
	struct tar_layout t;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		bool records = strchr(rows[i].text, '=') != NULL;
		struct err e = { "" };

		make(&a, records ? rows[i].text : NULL);
		if (!records)
			memcpy(a.bytes + 124, rows[i].text, 12);
		seal(a.bytes);
		assert_int_equal(parse(a.bytes, a.n, &t, &e), -EBADMSG);
		if (!strstr(e.msg, rows[i].msg))
			fail_msg("row %zu: %s", i, e.msg);
	}
}

/* A checksum with other padding, GNU's magic, a name of 100 bytes, one that a terminal should not
 * see. */
static void dialects(void **state)
{
	struct tar_layout t;
	struct archive a;
	struct err e;

	(void)state;
	make(&a, NULL);
	memcpy(a.bytes + 257, "ustar  ", 8);
	seal(a.bytes);
	expect_layout(&a, 512, PAYLOAD, false);
	make(&a, NULL);
	memset(a.bytes, 'n', 100);
	seal(a.bytes);
	assert_int_equal(parse(a.bytes, a.n, &t, &e), 0);
	assert_int_equal(strlen(t.name), 100);
	make(&a, NULL);
	memcpy(a.bytes, "a\033[2J\xe4\x7f", 8);
	seal(a.bytes);
	assert_int_equal(parse(a.bytes, a.n, &t, &e), 0);
	assert_string_equal(t.name, "a?[2J??");
}

static void global_headers(void **state)
{
	struct archive a, g = { .n = 0 };
	struct tar_layout t;
	struct err e;
	int i;

	(void)state;
	make(&a, NULL);
	header(g.bytes, 'g', "00000000014");
	memcpy(g.bytes + BLOCK, "12 size=111\n", 12); /* not for us */
	memcpy(g.bytes + 2 * BLOCK, a.bytes, a.n);
	g.n = a.n + 2 * BLOCK;
	expect_layout(&g, 1536, PAYLOAD, false);
	for (i = 0; i < 10; i++)
		header(g.bytes + i * BLOCK, 'g', "0");
	assert_int_equal(parse(g.bytes, sizeof g.bytes, &t, &e), -EBADMSG);
	{
		uint8_t many[40 * BLOCK];

		for (i = 0; i < 40; i++)
			header(many + i * BLOCK, 'g', "0");
		assert_int_equal(parse(many, sizeof many, &t, &e), -EBADMSG);
		assert_string_equal(e.msg, "tar: more than 32 headers before the payload");
		header(many + 32 * BLOCK, '0', "0");
		assert_int_equal(parse(many, sizeof many, &t, &e), -EBADMSG);
		header(many + 31 * BLOCK, '0', "0"); /* the last that counts */
		assert_int_equal(parse(many, sizeof many, &t, &e), 0);
		assert_int_equal(t.payload_offset, 32 * BLOCK);
	}
}

static void not_tar(void **state)
{
	uint8_t zeroes[2048] = { 0 };
	struct tar_layout t;
	struct archive a;
	struct err e;
	int i;

	(void)state;
	assert_int_equal(parse(zeroes, 0, &t, &e), 1);
	assert_int_equal(parse(zeroes, 511, &t, &e), 1);
	assert_int_equal(parse(zeroes, sizeof zeroes, &t, &e), 1);
	for (i = 0; i < BLOCK; i++) {
		bool in_checksum = i >= 154 && i < 156; /* its NULs and spaces */

		make(&a, NULL);
		a.bytes[i] ^= 1;
		if (!in_checksum)
			assert_int_equal(parse(a.bytes, a.n, &t, &e), 1);
	}
}

/* One row for each rule: `value` at `at`, of an archive with these records; a sealed header says
 * -1. */
static const struct {
	const char *what;
	const char *records;
	int at;
	uint8_t value;
	int seal_at;
	const char *msg;
} bad[] = {
	{ "symlink", NULL, 156, '2', 0, "tar: member at 0 is no regular file (typeflag 0x32)" },
	{ "folder", NULL, 156, '5', 0, "is no regular file (typeflag 0x35)" },
	{ "long name", NULL, 156, 'L', 0, "is no regular file (typeflag 0x4c)" },
	{ "folder after pax", "12 size=700\n", 1024 + 156, '5', 1024, "member at 1024 is no" },
	{ "second header", "12 size=700\n", 1024, 'x', -1,
	  "no header with a right checksum at 1024" },
	{ "payload too long", NULL, 128, '7', 0, "payload of 1835708 bytes at 512 does not fit" },
	{ "pax size too long", "15 size=700000\n", 0, 'y', 0, "payload of 700000 bytes at 1536" },
	{ "pax size overflow", "29 size=99999999999999999999\n", 0, 'y', 0,
	  "size is not a number" },
	{ "pax size text", "12 size=7o0\n", 0, 'y', 0, "pax record: size is not a number" },
	{ "pax size empty", "8 size=\n", 0, 'y', 0, "pax record: size is not a number" },
	{ "no length", "size=700\n", 0, 'y', 0, "pax record without a length" },
	{ "length text", "1z size=700\n", 0, 'y', 0, "pax record without a length" },
	{ "empty length", " size=700\n", 0, 'y', 0, "pax record without a length" },
	{ "length too long", "13 size=700\n", 0, 'y', 0, "of 13 bytes does not end in a newline" },
	{ "length too short", "11 size=700\n", 0, 'y', 0, "of 11 bytes does not end in a newline" },
	{ "length in itself", "2 \n", 0, 'y', 0, "of 2 bytes does not end in a newline" },
	{ "length without a key", "3 \n", 0, 'y', 0, "of 3 bytes does not end in a newline" },
	{ "length zero", "0 a=b\n", 0, 'y', 0, "of 0 bytes does not end in a newline" },
	{ "no equals", "12 size~700\n", 0, 'y', 0, "pax record without '='" },
	{ "records too long", "12 size=700\n", 129, '1', 0, "do not fit in" },
	{ "records size", "12 size=700\n", 130, 'x', 0, "header at 0: size is not a number" },
};

static void refuse(void **state)
{
	struct tar_layout t;
	struct archive a;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct err e = { "" };
		int r;

		make(&a, bad[i].records);
		a.bytes[bad[i].at] = bad[i].value;
		if (bad[i].seal_at >= 0)
			seal(a.bytes + bad[i].seal_at);
		r = parse(a.bytes, a.n, &t, &e);
		if (r != -EBADMSG || !strstr(e.msg, bad[i].msg))
			fail_msg("%s: returned %d, \"%s\"", bad[i].what, r, e.msg);
	}
}

static void refuse_many_records(void **state)
{
	size_t n = 128 * 1024;
	uint8_t *bytes = calloc(1, n);
	struct tar_layout t;
	struct err e;

	(void)state;
	header(bytes, 'x', "00000200001"); /* 65537 */
	assert_int_equal(parse(bytes, n, &t, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "65537 bytes of pax records are more than the 65536"));
	header(bytes, 'x', "00000200000"); /* just as many, as one record */
	memset(bytes + BLOCK, 'x', 65536);
	memcpy(bytes + BLOCK, "65536 comment=", 14);
	bytes[BLOCK + 65535] = '\n';
	header(bytes + BLOCK + 65536, '0', "00000000100");
	assert_int_equal(parse(bytes, n, &t, &e), 0);
	assert_int_equal(t.payload_offset, 65536 + 2 * BLOCK);
	assert_int_equal(t.payload_size, 64);
	free(bytes);
}

/* Every length that cuts a good archive short: refused while it cuts the payload, served after. */
static void cut_short(void **state)
{
	struct archive a;
	struct tar_layout t;
	struct err e;
	size_t n;

	(void)state;
	make(&a, "12 size=700\n");
	for (n = 512; n < a.n; n++) {
		int r = parse(a.bytes, n, &t, &e);

		if (n < 1536 + PAYLOAD) {
			assert_int_equal(r, -EBADMSG);
		} else {
			assert_int_equal(r, 0);
			assert_false(t.end_blocks);
		}
	}
	assert_int_equal(parse(a.bytes, a.n, &t, &e), 0);
	assert_true(t.end_blocks);
	a.bytes[a.n - 1] = 1;
	assert_int_equal(parse(a.bytes, a.n, &t, &e), 0);
	assert_false(t.end_blocks);
}

static void each_read_fails_once(void **state)
{
	struct tar_layout t;
	struct archive a;
	struct err e;
	uint64_t k;

	(void)state;
	make(&a, "12 size=700\n");
	for (k = 0;; k++) {
		struct fault f = { .fail_at = k };
		struct source *s;
		int r;

		assert_int_equal(source_open_memory(a.bytes, a.n, &s, &e), 0);
		fault_open_source(s, &f, &s);
		r = tar_parse(s, &t, &e);
		source_close(s);
		assert_int_equal(f.closes, 1);
		if (!f.fired)
			break;
		assert_int_equal(r, -EIO);
		assert_non_null(strstr(e.msg, "tar: "));
		assert_non_null(strstr(e.msg, ": injected fault at call"));
	}
	assert_int_equal(k, 4); /* header, records, header, end */
}

/* The payload of each wrapped golden file, wrapped again, is the same file. */
static void golden_again(void **state)
{
	static const char *const names[] = { "mixed-3/layer0.obd",     "mixed-3/layer1.obd",
					     "tags/layer0.obd",	       "ext4-3/layer0.obd",
					     "ext4-3/layer1.obd",      "ext4-3/layer2.obd",
					     "upper-sparse/layer0.obd" };
	size_t i, n;

	(void)state;
	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		uint8_t *bytes = testlib_golden(names[i], &n);
		struct testlib_output o = { NULL, 0, 0, false };
		struct sink *sink;
		struct tar_layout t;
		struct err e;

		assert_int_equal(parse(bytes, n, &t, &e), 0);
		assert_int_equal(t.payload_offset, 1536);
		assert_true(t.pax && t.end_blocks);
		assert_string_equal(t.name, "overlaybd.commit");
		assert_int_equal(tar_open_sink(testlib_open_sink(&o), &sink, &e), 0);
		assert_int_equal(sink_write(sink, bytes + 1536, t.payload_size - 1, &e), 0);
		assert_int_equal(sink_write(sink, "x", 1, &e), 0);
		assert_int_equal(sink_patch(sink, bytes + 1536 + t.payload_size - 1, 1,
					    t.payload_size - 1, &e),
				 0);
		assert_int_equal(sink_finish(sink, &e), 0);
		sink_close(sink);
		assert_true(o.finished);
		assert_int_equal(o.n, n);
		assert_memory_equal(o.bytes, bytes, n);
		free(o.bytes);
		free(bytes);
	}
}

/* Sizes around a block, and those where the record's own length gains a digit. */
static void written_sizes(void **state)
{
	static const size_t sizes[] = { 0, 1, 9, 10, 99, 511, 512, 513, 99999, 100000 };
	uint8_t *payload = calloc(1, 100000);
	size_t i;

	(void)state;
	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct testlib_output o = { NULL, 0, 0, false };
		struct tar_layout t;
		struct sink *sink;
		struct err e;

		assert_int_equal(tar_open_sink(testlib_open_sink(&o), &sink, &e), 0);
		assert_int_equal(sink_write(sink, payload, sizes[i], &e), 0);
		assert_int_equal(sink_finish(sink, &e), 0);
		sink_close(sink);
		assert_int_equal(o.n % BLOCK, 0);
		assert_int_equal(parse(o.bytes, o.n, &t, &e), 0);
		assert_int_equal(t.payload_size, sizes[i]);
		assert_true(t.end_blocks);
		free(o.bytes);
	}
	free(payload);
}

/* A member of its own, whatever its size. */
static void packs_one_file(void **state)
{
	static const size_t sizes[] = { 1, 511, 512, 513, 5000 };
	static const struct {
		size_t at;
		const char *text;
		size_t n;
	} fields[] = {
		{ 0, "a.name", 7 },
		{ 100, "100644 \0", 8 },
		{ 108, "     0 \0", 8 },
		{ 116, "     0 \0", 8 },
		{ 136, "          0 ", 12 },
		{ 154, " \0", 2 },
		{ 156, "0", 1 },
		{ 157, "\0\0", 2 },
		{ 257,
		  "ustar\0"
		  "00",
		  8 },
	};
	size_t i, k, n;

	(void)state;
	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		uint8_t *payload = malloc(sizes[i]), *raw;
		struct tar_layout t;
		struct err e;
		void *bytes;

		memset(payload, 'p', sizes[i]);
		assert_int_equal(tar_pack("a.name", payload, sizes[i], &bytes, &n, &e), 0);
		raw = bytes;
		assert_int_equal(n, BLOCK + (sizes[i] + BLOCK - 1) / BLOCK * BLOCK + 2 * BLOCK);
		for (k = 0; k < sizeof fields / sizeof fields[0]; k++)
			assert_memory_equal(raw + fields[k].at, fields[k].text, fields[k].n);
		assert_int_equal(parse(raw, n, &t, &e), 0);
		assert_string_equal(t.name, "a.name");
		assert_int_equal(t.payload_offset, BLOCK);
		assert_int_equal(t.payload_size, sizes[i]);
		assert_true(t.end_blocks && !t.pax);
		assert_memory_equal(raw + BLOCK, payload, sizes[i]);
		for (k = BLOCK + sizes[i]; k < n; k++)
			assert_int_equal(raw[k], 0);
		free(payload);
		free(bytes);
	}
}

static void each_write_fails_once(void **state)
{
	uint64_t k;

	(void)state;
	for (k = 0;; k++) {
		struct testlib_output o = { NULL, 0, 0, false };
		struct fault f = { .fail_at = k };
		struct sink *below, *sink = NULL;
		struct err e;
		int r;

		fault_open_sink(testlib_open_sink(&o), &f, &below);
		r = tar_open_sink(below, &sink, &e);
		if (r == 0)
			r = sink_write(sink, "payload", 7, &e);
		if (r == 0)
			r = sink_finish(sink, &e);
		sink_close(sink ? sink : below);
		assert_int_equal(f.closes, 1);
		assert_int_equal(o.finished, !f.fired);
		free(o.bytes);
		if (!f.fired)
			break;
		assert_int_equal(r, -EIO);
		assert_non_null(strstr(e.msg, "injected fault"));
	}
	assert_int_equal(k, 5); /* placeholder, payload, end, headers, finish */
}

static void refuse_used_sink(void **state)
{
	struct testlib_output o = { NULL, 0, 0, false };
	struct sink *below = testlib_open_sink(&o), *sink;
	struct err e;

	(void)state;
	assert_int_equal(sink_write(below, "x", 1, &e), 0);
	assert_int_equal(tar_open_sink(below, &sink, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "must be new"));
	sink_close(below);
	free(o.bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_and_pax),    cmocka_unit_test(numbers),
		cmocka_unit_test(large_numbers),    cmocka_unit_test(dialects),
		cmocka_unit_test(global_headers),   cmocka_unit_test(not_tar),
		cmocka_unit_test(refuse),	    cmocka_unit_test(refuse_many_records),
		cmocka_unit_test(cut_short),	    cmocka_unit_test(each_read_fails_once),
		cmocka_unit_test(golden_again),	    cmocka_unit_test(written_sizes),
		cmocka_unit_test(packs_one_file),   cmocka_unit_test(each_write_fails_once),
		cmocka_unit_test(refuse_used_sink),
	};

	return cmocka_run_group_tests_name("tar", tests, NULL, NULL);
}
