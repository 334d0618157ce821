/* SPDX-License-Identifier: Apache-2.0 */
/* test-zwriter.c - writing ZFiles: the reference's bytes, any number of threads, failures. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "tests/fault.h"
#include "tests/testlib.h"
#include "tests/unit/loglib.h"
#include "zfile/tar.h"
#include "zfile/zfile.h"
#include "zfile/zwriter.h"

static const char *name; /* of the file that is written, if it has one */

/* Compresses in writes of random size. */
static int compress(struct sink *below, const struct zwriter_options *options, struct workers *pool,
		    const uint8_t *bytes, size_t n, struct err *e)
{
	uint64_t seed = 7;
	struct sink *sink;
	size_t at = 0;
	int r = zwriter_open_sink(below, options, pool, &sink, e);

	if (r < 0) {
		sink_close(below);
		return r;
	}
	if (name)
		zwriter_set_name(sink, name);
	while (r == 0 && at < n) {
		size_t piece = (size_t)min_u64(n - at, testlib_random(&seed) % 300000);

		r = sink_write(sink, bytes + at, piece, e);
		at += piece;
	}
	if (r == 0)
		r = sink_finish(sink, e);
	sink_close(sink);
	return r;
}

/* Reads all of a ZFile back. */
static uint8_t *extract(const uint8_t *bytes, size_t size, size_t *n, struct zheader *h)
{
	struct source *s, *z;
	struct err e = { "" };
	uint8_t *out;

	assert_int_equal(source_open_memory(bytes, size, &s, &e), 0);
	if (zfile_open(s, &z, &e) != 0)
		fail_msg("%s", e.msg);
	*h = *zfile_header(z);
	*n = (size_t)z->size;
	out = malloc(*n + 1);
	assert_non_null(out);
	if (source_pread(z, out, *n, 0, &e) != 0)
		fail_msg("%s", e.msg);
	assert_int_equal(zfile_check_trailer(z, &e), 0);
	source_close(z);
	return out;
}

/* Every ZFile of the reference, extracted and compressed again, is the same file, tar wrapper and
 * all. (lz4 1.9.4 and zstd 1.5.4 agree with the versions that wrote them.) */
static void golden_again(void **state)
{
	static const char *const names[] = {
		"lz4-4k/layer0.obd",	   "lz4-8k/layer0.obd",	  "lz4-16k/layer0.obd",
		"lz4-32k/layer0.obd",	   "lz4-64k/layer0.obd",  "lz4-64k-grown/layer0.obd",
		"zstd-4k/layer0.obd",	   "zstd-8k/layer0.obd",  "zstd-16k/layer0.obd",
		"zstd-32k/layer0.obd",	   "zstd-64k/layer0.obd", "zstd-64k-grown/layer0.obd",
		"mixed-3/layer0.obd",	   "mixed-3/layer1.obd",  "tags/layer0.obd",
		"upper-sparse/layer0.obd",
	};
	struct workers *pool;
	struct err e = { "" };
	size_t i;

	(void)state;
	assert_int_equal(workers_open(2, &pool, &e), 0);
	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct testlib_output o = { NULL, 0, 0, false };
		struct sink *below = testlib_open_sink(&o);
		size_t size, n, at = 0;
		uint8_t *bytes = testlib_golden(names[i], &size), *raw;
		struct zwriter_options options;
		struct tar_layout t = { .payload_size = size };
		struct source *s;
		struct zheader h;

		assert_int_equal(source_open_memory(bytes, size, &s, &e), 0);
		if (tar_parse(s, &t, &e) == 0) {
			at = (size_t)t.payload_offset;
			assert_int_equal(tar_open_sink(below, &below, &e), 0);
		}
		source_close(s);
		raw = extract(bytes + at, (size_t)t.payload_size, &n, &h);
		options = (struct zwriter_options){ h.algorithm, h.block_size, 0 };
		if (compress(below, &options, pool, raw, n, &e) != 0)
			fail_msg("%s: %s", names[i], e.msg);
		if (o.n != size || memcmp(o.bytes, bytes, size) != 0)
			fail_msg("%s: %zu bytes, the reference's has %zu", names[i], o.n, size);
		free(o.bytes);
		free(raw);
		free(bytes);
	}
	workers_close(pool);
}

/* Sizes around blocks and slots, all block sizes, some levels: read back right, and the same bytes
 * from 0, 1 and 3 threads. */
static void round_trip(void **state)
{
	static const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 262143, 262144, 262145, 3000001 };
	static const struct zwriter_options options[] = {
		{ ZALGORITHM_LZ4, 4096, 0 },   { ZALGORITHM_LZ4, 65536, 0 },
		{ ZALGORITHM_LZ4, 16384, 1 },  { ZALGORITHM_LZ4, 8192, 9 },
		{ ZALGORITHM_ZSTD, 4096, 0 },  { ZALGORITHM_ZSTD, 65536, 0 },
		{ ZALGORITHM_ZSTD, 32768, 1 },
	};
	static const unsigned threads[] = { 0, 1, 3 };
	uint8_t *bytes = malloc(3000001);
	struct workers *pool[3];
	uint64_t seed = 1;
	struct err e;
	size_t i, j, k;

	(void)state;
	testlib_fill(bytes, 3000001, 200, &seed);
	for (k = 0; k < 3; k++)
		assert_int_equal(workers_open(threads[k], &pool[k], &e), 0);
	for (i = 0; i < sizeof options / sizeof options[0]; i++) {
		for (j = 0; j < sizeof sizes / sizeof sizes[0]; j++) {
			struct testlib_output o[3] = { { NULL, 0, 0, false } };
			struct zheader h;
			uint8_t *back;
			size_t n;

			for (k = 0; k < 3; k++) {
				if (compress(testlib_open_sink(&o[k]), &options[i], pool[k], bytes,
					     sizes[j], &e) != 0)
					fail_msg("%s", e.msg);
				assert_true(o[k].finished);
				assert_int_equal(o[k].n, o[0].n);
				assert_memory_equal(o[k].bytes, o[0].bytes, o[0].n);
			}
			back = extract(o[0].bytes, o[0].n, &n, &h);
			assert_int_equal(h.flags, 0x1b);
			assert_int_equal(h.level, 0);
			assert_int_equal(h.block_size, options[i].block_size);
			assert_int_equal(n, sizes[j]);
			assert_memory_equal(back, bytes, n);
			free(back);
			for (k = 0; k < 3; k++)
				free(o[k].bytes);
		}
	}
	for (k = 0; k < 3; k++)
		workers_close(pool[k]);
	free(bytes);
}

static void refuse_options(void **state)
{
	static const struct {
		struct zwriter_options options;
		const char *msg;
	} bad[] = {
		{ { 0, 4096, 0 }, "zfile: algorithm 0 is unknown" },
		{ { 3, 4096, 0 }, "zfile: algorithm 3 is unknown" },
		{ { ZALGORITHM_LZ4, 2048, 0 }, "block size 2048 is not a power of two" },
		{ { ZALGORITHM_LZ4, 131072, 0 }, "block size 131072 is not a power of two" },
		{ { ZALGORITHM_LZ4, 5000, 0 }, "block size 5000 is not a power of two" },
		{ { ZALGORITHM_LZ4, 4096, -1 }, "lz4 level -1 is not within 0 to 12" },
		{ { ZALGORITHM_LZ4, 4096, 13 }, "lz4 level 13 is not within 0 to 12" },
		{ { ZALGORITHM_ZSTD, 4096, -1 }, "zstd level -1 is not within 0 to 19" },
		{ { ZALGORITHM_ZSTD, 4096, 20 }, "zstd level 20 is not within 0 to 19" },
	};
	struct zwriter_options fine = { ZALGORITHM_LZ4, 4096, 0 };
	struct testlib_output o = { NULL, 0, 0, false };
	struct sink *below = testlib_open_sink(&o), *sink;
	struct workers *pool;
	struct err e;
	size_t i;

	(void)state;
	assert_int_equal(workers_open(0, &pool, &e), 0);
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		assert_int_equal(zwriter_open_sink(below, &bad[i].options, pool, &sink, &e),
				 -EINVAL);
		if (!strstr(e.msg, bad[i].msg))
			fail_msg("\"%s\" where \"%s\" was expected", e.msg, bad[i].msg);
	}
	assert_int_equal(sink_write(below, "x", 1, &e), 0);
	assert_int_equal(zwriter_open_sink(below, &fine, pool, &sink, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "must be new"));
	sink_close(below);
	workers_close(pool);
	free(o.bytes);
}

/* Each write below fails once; whatever was under way is waited for and released. */
static void each_write_fails_once(void **state)
{
	static const struct zwriter_options options = { ZALGORITHM_ZSTD, 16384, 0 };
	size_t n = 2000000;
	uint8_t *bytes = malloc(n);
	struct workers *pool;
	uint64_t seed = 3, k;
	unsigned threads;
	struct err e;

	(void)state;
	testlib_fill(bytes, n, 250, &seed);
	for (threads = 0; threads < 3; threads++) {
		assert_int_equal(workers_open(threads, &pool, &e), 0);
		for (k = 0;; k++) {
			struct testlib_output o = { NULL, 0, 0, false };
			struct fault f = { .fail_at = k };
			struct sink *below;
			int r;

			fault_open_sink(testlib_open_sink(&o), &f, &below);
			r = compress(below, &options, pool, bytes, n, &e);
			assert_int_equal(f.closes, 1);
			assert_int_equal(o.finished, !f.fired);
			free(o.bytes);
			if (!f.fired)
				break;
			assert_int_equal(r, -EIO);
			assert_non_null(strstr(e.msg, "injected fault"));
		}
		assert_int_equal(
			k, 1 + 8 + 4); /* placeholder, slots, table, trailer, header, finish */
		workers_close(pool);
	}
	free(bytes);
}

/* Given up half way: nothing finished, nothing left running. */
/* Blocks of 64 KiB that do not shrink: the reference writes them too, and cannot read them back. */
static void blocks_that_the_reference_cannot_read_are_told(void **state)
{
	enum { SIZE = 3 * 65536 };
	static const struct {
		uint8_t algorithm;
		uint32_t block_size;
		const char *name, *warnings;
	} rows[] = {
		{ ZALGORITHM_LZ4, 65536, "x.obd",
		  "x.obd: 2 blocks of 64 KiB do not shrink: overlaybd itself cannot read them; "
		  "with smaller blocks it can\n" },
		{ ZALGORITHM_ZSTD, 65536, "x.obd",
		  "x.obd: 2 blocks of 64 KiB do not shrink: overlaybd itself cannot read them; "
		  "with smaller blocks it can\n" },
		{ ZALGORITHM_LZ4, 65536, NULL, "" },
		{ ZALGORITHM_LZ4, 32768, "x.obd", "" },
	};
	uint8_t *bytes = calloc(1, SIZE);
	struct workers *pool;
	uint64_t seed = 3;
	size_t i;

	testlib_fill(bytes, 2 * 65536, 0, &seed);
	assert_int_equal(workers_open(2, &pool, NULL), 0);
	loglib_listen();
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct zwriter_options options = { .algorithm = rows[i].algorithm,
						   .block_size = rows[i].block_size };
		struct testlib_output out = { 0 };
		struct source *file, *zfile;

		name = rows[i].name;
		assert_int_equal(
			compress(testlib_open_sink(&out), &options, pool, bytes, SIZE, NULL), 0);
		loglib_expect(rows[i].warnings);
		assert_int_equal(source_open_memory(out.bytes, out.n, &file, NULL), 0);
		assert_int_equal(zfile_open(file, &zfile, NULL), 0);
		assert_int_equal(zfile_count_large(zfile), rows[i].block_size == 65536 ? 2 : 0);
		source_close(zfile);
		free(out.bytes);
	}
	loglib_expect_none();
	name = NULL;
	workers_close(pool);
	free(bytes);
}

static void close_early(void **state)
{
	static const struct zwriter_options options = { ZALGORITHM_LZ4, 4096, 12 };
	struct testlib_output o = { NULL, 0, 0, false };
	uint8_t *bytes = calloc(1, 700000);
	struct workers *pool;
	struct sink *sink;
	struct err e;

	(void)state;
	assert_int_equal(workers_open(2, &pool, &e), 0);
	assert_int_equal(zwriter_open_sink(testlib_open_sink(&o), &options, pool, &sink, &e), 0);
	assert_int_equal(sink_write(sink, bytes, 700000, &e), 0);
	sink_close(sink);
	assert_false(o.finished);
	workers_close(pool);
	free(bytes);
	free(o.bytes);
}

/* Two slots a processor are filled before the oldest one is waited for. */
static void compresses_in_the_background(void **state)
{
	static const struct zwriter_options options = { .algorithm = ZALGORITHM_LZ4,
							.block_size = 4096 };
	struct fault f = { .fail_at = FAULT_NEVER };
	struct testlib_output o = { NULL, 0, 0, false };
	size_t slots = 2 * workers_cpus() < 64 ? 2 * workers_cpus() : 64, i;
	uint8_t *raw = calloc(1, 256 * 1024);
	struct sink *below, *sink;
	struct workers *pool;
	uint64_t before;

	fault_open_sink(testlib_open_sink(&o), &f, &below);
	assert_int_equal(workers_open(1, &pool, NULL), 0);
	assert_int_equal(zwriter_open_sink(below, &options, pool, &sink, NULL), 0);
	before = f.calls;
	for (i = 1; i <= slots + 1; i++) {
		assert_int_equal(sink_write(sink, raw, 256 * 1024, NULL), 0);
		assert_int_equal(f.calls - before, i < slots ? 0 : i - slots + 1);
	}
	assert_int_equal(sink_finish(sink, NULL), 0);
	sink_close(sink);
	workers_close(pool);
	free(o.bytes);
	free(raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(golden_again),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(refuse_options),
		cmocka_unit_test(each_write_fails_once),
		cmocka_unit_test(blocks_that_the_reference_cannot_read_are_told),
		cmocka_unit_test(close_early),
		cmocka_unit_test(compresses_in_the_background),
	};

	return cmocka_run_group_tests_name("zwriter", tests, NULL, NULL);
}
