/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace.c - our trace file: written and read back, and every way in which it can be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "prefetch/trace.h"
#include "tests/unit/guard.h"
#include "tests/unit/loops.h"

#define IDENTITY "sha256:00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

enum { DISK = 1 << 20, DISK_SECTORS = DISK / 512 };

static struct trace make(size_t count)
{
	struct trace t = { .identity = IDENTITY, .disk_size = DISK, .count = count };
	size_t i;

	t.reads = malloc((count + 1) * sizeof *t.reads);
	assert_non_null(t.reads);
	for (i = 0; i < count; i++) {
		uint64_t lba = loops_random() % DISK_SECTORS;

		t.reads[i] = (struct trace_read){
			.lba = lba,
			.sectors = 1 + (uint32_t)(loops_random() % (DISK_SECTORS - lba)),
			.us = (uint32_t)loops_random(),
		};
	}
	return t;
}

static void assert_same(const struct trace *a, const struct trace *b)
{
	assert_string_equal(a->identity, b->identity);
	assert_true(a->disk_size == b->disk_size && a->count == b->count);
	if (a->count > 0)
		assert_memory_equal(a->reads, b->reads, a->count * sizeof *a->reads);
}

static uint8_t *format(const struct trace *t, size_t *n)
{
	size_t size = t->count * sizeof *t->reads;
	struct trace copy = *t;
	void *bytes;
	struct err e;

	copy.reads = guard_copy(t->reads, size);
	if (trace_format(&copy, &bytes, n, &e) < 0)
		fail_msg("%s", e.msg);
	guard_free(copy.reads, size);
	return bytes;
}

/* Puts the right checksum over changed bytes. */
static void seal(uint8_t *raw, size_t n)
{
	uint32_t crc = crc32c_raw(~0u, raw, 12);

	le32_put(raw + 12, ~crc32c_raw(crc, raw + 16, n - 16));
}

/* Parses a copy that ends where a read beyond it is found out, and must fail with this text. */
static void assert_refused(const uint8_t *raw, size_t n, const char *text)
{
	uint8_t *copy = guard_copy(raw, n);
	struct trace t = { .count = 77 };
	struct err e = { "" };

	assert_int_equal(trace_parse(copy, n, &t, &e), -EBADMSG);
	if (!strstr(e.msg, text))
		fail_msg("'%s' does not say '%s'", e.msg, text);
	assert_int_equal(t.count, 77);
	assert_null(t.reads);
	guard_free(copy, n);
}

static void round_trips(void **state)
{
	unsigned i, loops = loops_count(2000);

	for (i = 0; i < loops; i++) {
		struct trace t = make(loops_random() % 100), back;
		size_t n;
		uint8_t *raw = format(&t, &n), *copy = guard_copy(raw, n);
		struct err e;

		assert_int_equal(n, TRACE_HEADER + t.count * TRACE_READ);
		if (trace_parse(copy, n, &back, &e) < 0)
			fail_msg("%s", e.msg);
		guard_free(copy, n);
		assert_same(&t, &back);
		trace_release(&back);
		trace_release(&t);
		assert_null(t.reads);
		free(raw);
	}
}

/* Other programs may want to read it: the bytes as trace.h says. */
static void bytes_are_as_documented(void **state)
{
	struct trace_read read = { .lba = 0x123, .sectors = 8, .us = 0x01020304 };
	struct trace t = { .identity = IDENTITY, .disk_size = DISK, .reads = &read, .count = 1 };
	static const uint8_t want[] = {
		'O',  'B',  'D',  'T',	'R',  'A',  'C',  'E',	1,    0,    0,	  0,	0x82, 0x11,
		0xa6, 0x1b, 1,	  0,	0,    0,    0,	  0,	0,    0,    0,	  0,	0x10, 0,
		0,    0,    0,	  0,	0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99,
		0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
		0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x23, 1,    0,	  0,	0,    0,
		0,    0,    8,	  0,	0,    0,    4,	  3,	2,    1,
	};
	size_t n;
	uint8_t *raw = format(&t, &n);

	assert_int_equal(n, sizeof want);
	assert_memory_equal(raw, want, n);
	free(raw);
}

static void refuses_every_flipped_bit(void **state)
{
	struct trace t = make(5);
	size_t n, i;
	uint8_t *raw = format(&t, &n);

	for (i = 0; i < 8 * n; i++) {
		raw[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_refused(raw, n, "trace");
		raw[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	free(raw);
	trace_release(&t);
}

static void refuses_every_other_length(void **state)
{
	struct trace t = make(5);
	size_t n, i;
	uint8_t *raw = format(&t, &n), *longer = calloc(1, n + TRACE_READ);

	for (i = 0; i < n; i++)
		assert_refused(raw, i, "trace");
	memcpy(longer, raw, n);
	for (i = 1; i <= TRACE_READ; i++)
		assert_refused(longer, n + i, "5 reads in");
	free(longer);
	free(raw);
	trace_release(&t);
}

/* With a right checksum: what a person or another program may write. */
static void refuses_wrong_values(void **state)
{
	static const struct {
		size_t at;
		unsigned bytes;
		uint64_t value;
		const char *text;
	} rows[] = {
		{ 0, 4, 0, "bad magic" },
		{ 8, 4, 0, "version 0" },
		{ 8, 4, 2, "version 2" },
		{ 16, 8, 4, "4 reads in 144 bytes" },
		{ 16, 8, 6, "6 reads in 144 bytes" },
		{ 16, 8, (1 << 20) + 1, "1048577 reads, more than 1048576" },
		{ 16, 8, UINT64_MAX, "more than 1048576" },
		/* wraps round to the right size when multiplied */
		{ 16, 8, 5 + (UINT64_C(1) << 60), "more than 1048576" },
		{ 24, 8, DISK + 1, "no multiple of 512" },
		{ 24, 8, 0, "on a disk of 0" },
		{ 64, 8, DISK_SECTORS, "sectors at 2048 (number 0), on a disk of 2048" },
		{ 64, 8, UINT64_MAX, "(number 0)" },
		{ 80, 8, UINT64_C(1) << 63, "(number 1)" },
		{ 72, 4, 0, "a read of 0 sectors" },
		{ 72, 4, UINT32_MAX, "a read of 4294967295 sectors" },
	};
	struct trace t = make(5);
	size_t n, i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint8_t *raw = format(&t, &n);

		if (rows[i].bytes == 4)
			le32_put(raw + rows[i].at, (uint32_t)rows[i].value);
		else
			le64_put(raw + rows[i].at, rows[i].value);
		seal(raw, n);
		assert_refused(raw, n, rows[i].text);
		free(raw);
	}
	trace_release(&t);
}

static void reads_may_touch_the_end(void **state)
{
	struct trace_read read = { .lba = DISK_SECTORS - 1, .sectors = 1 };
	struct trace t = { .identity = IDENTITY, .disk_size = DISK, .reads = &read, .count = 1 };
	struct trace back;
	size_t n;
	uint8_t *raw = format(&t, &n);

	assert_int_equal(trace_parse(raw, n, &back, NULL), 0);
	trace_release(&back);
	free(raw);
}

/* What cannot be read back is not written. */
static void refuses_to_write(void **state)
{
	struct trace_read read = { .lba = 0, .sectors = 1 };
	struct trace good = { .identity = IDENTITY, .disk_size = DISK, .reads = &read, .count = 1 };
	struct trace t;
	void *bytes = NULL;
	size_t n;

	t = good;
	t.identity[10] = 'X';
	assert_int_equal(trace_format(&t, &bytes, &n, NULL), -EINVAL);
	t = good;
	t.identity[0] = '\0';
	assert_int_equal(trace_format(&t, &bytes, &n, NULL), -EINVAL);
	t = good;
	t.disk_size = 511;
	assert_int_equal(trace_format(&t, &bytes, &n, NULL), -EINVAL);
	t = good;
	t.count = TRACE_READS_MAX + 1;
	assert_int_equal(trace_format(&t, &bytes, &n, NULL), -EINVAL);
	t = good;
	read.sectors = 0;
	assert_int_equal(trace_format(&t, &bytes, &n, NULL), -EINVAL);
	read = (struct trace_read){ .lba = DISK_SECTORS, .sectors = 1 };
	assert_int_equal(trace_format(&t, &bytes, &n, NULL), -EINVAL);
	assert_null(bytes);
}

static void files(void **state)
{
	char folder[] = "/tmp/test-trace.XXXXXX", *path;
	struct trace t = make(20), other = make(30), back;
	struct err e;

	assert_non_null(mkdtemp(folder));
	assert_true(asprintf(&path, "%s/trace", folder) > 0);
	assert_int_equal(trace_load(path, &back, &e), -ENOENT);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(trace_save(&t, path, &e), 0);
	assert_int_equal(trace_save(&other, path, &e), 0);
	assert_int_equal(trace_load(path, &back, &e), 0);
	assert_same(&other, &back);
	trace_release(&back);
	other.disk_size = 1;
	assert_int_equal(trace_save(&other, path, &e), -EINVAL);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(trace_load(path, &back, &e), 0); /* that of before */
	trace_release(&back);
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(trace_load(path, &back, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(truncate(path, (off_t)100 << 20), 0);
	assert_int_equal(trace_load(path, &back, &e), -EFBIG);
	unlink(path);
	assert_int_equal(trace_save(&t, "/nowhere/trace", &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nowhere/trace"));
	rmdir(folder);
	free(path);
	trace_release(&t);
	trace_release(&other);
}

static void largest(void **state)
{
	char folder[] = "/tmp/test-trace.XXXXXX", *path;
	struct trace t = make(TRACE_READS_MAX), back;
	uint64_t began;

	assert_non_null(mkdtemp(folder));
	assert_true(asprintf(&path, "%s/trace", folder) > 0);
	assert_int_equal(trace_save(&t, path, NULL), 0);
	began = clock_us();
	assert_int_equal(trace_load(path, &back, NULL), 0);
	print_message("%zu reads in %.1f ms\n", back.count, (double)(clock_us() - began) / 1000);
	assert_same(&t, &back);
	trace_release(&back);
	trace_release(&t);
	unlink(path);
	rmdir(folder);
	free(path);
}

static int set_up(void **state)
{
	loops_seed();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trips),
		cmocka_unit_test(bytes_are_as_documented),
		cmocka_unit_test(refuses_every_flipped_bit),
		cmocka_unit_test(refuses_every_other_length),
		cmocka_unit_test(refuses_wrong_values),
		cmocka_unit_test(reads_may_touch_the_end),
		cmocka_unit_test(refuses_to_write),
		cmocka_unit_test(files),
		cmocka_unit_test(largest),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
