/* SPDX-License-Identifier: Apache-2.0 */
/* test-zfile_faults.c - ZFiles and tar archives without memory, and with codecs that fail. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <lz4.h>
#include <zstd.h>

#include "core/base/le.h"
#include "tests/unit/alloc.h"
#include "tests/unit/heap.h"
#include "tests/unit/zfilelib.h"
#include "zfile/tar.h"

enum { BLOCK = 4096, BYTES = 100 * BLOCK + 5, SLOT = 256 * 1024 };

/* ---- the codecs' libraries ---- */

static int encodes_left = -1, contexts_left = -1; /* that succeed; negative: all do */

static bool is_used_up(int *left)
{
	return *left >= 0 && (*left)-- <= 0;
}

int __real_LZ4_compress_fast_extState(void *state, const char *src, char *dst, int n, int room,
				      int acceleration);
int __wrap_LZ4_compress_fast_extState(void *state, const char *src, char *dst, int n, int room,
				      int acceleration);
size_t __real_ZSTD_compressCCtx(ZSTD_CCtx *c, void *dst, size_t room, const void *src, size_t n,
				int level);
size_t __wrap_ZSTD_compressCCtx(ZSTD_CCtx *c, void *dst, size_t room, const void *src, size_t n,
				int level);
ZSTD_CCtx *__real_ZSTD_createCCtx(void);
ZSTD_CCtx *__wrap_ZSTD_createCCtx(void);
ZSTD_DCtx *__real_ZSTD_createDCtx(void);
ZSTD_DCtx *__wrap_ZSTD_createDCtx(void);

int __wrap_LZ4_compress_fast_extState(void *state, const char *src, char *dst, int n, int room,
				      int acceleration)
{
	return is_used_up(&encodes_left)
		       ? 0
		       : __real_LZ4_compress_fast_extState(state, src, dst, n, room, acceleration);
}

size_t __wrap_ZSTD_compressCCtx(ZSTD_CCtx *c, void *dst, size_t room, const void *src, size_t n,
				int level)
{
	return is_used_up(&encodes_left) ? (size_t)-1
					 : __real_ZSTD_compressCCtx(c, dst, room, src, n, level);
}

ZSTD_CCtx *__wrap_ZSTD_createCCtx(void)
{
	return is_used_up(&contexts_left) ? NULL : __real_ZSTD_createCCtx();
}

ZSTD_DCtx *__wrap_ZSTD_createDCtx(void)
{
	return is_used_up(&contexts_left) ? NULL : __real_ZSTD_createDCtx();
}

static int allow_all(void **state)
{
	alloc_left = -1;
	encodes_left = contexts_left = -1;
	return 0;
}

/* ---- writing ---- */

static uint8_t raw[BYTES];
static struct workers *pool;

/* With room for all, so that it is not the test that needs memory. */
static struct testlib_output new_output(void)
{
	return (struct testlib_output){ .bytes = malloc(2 * BYTES), .room = 2 * BYTES };
}

static int write_zfile(uint8_t algorithm, struct testlib_output *o, struct err *e)
{
	struct zwriter_options options = { algorithm, BLOCK, 0 };
	long left = alloc_left;
	struct sink *below, *sink;
	int r;

	alloc_left = -1;
	below = testlib_open_sink(o);
	alloc_left = left;
	r = zwriter_open_sink(below, &options, pool, &sink, e);

	if (r < 0) {
		sink_close(below);
		return r;
	}
	r = sink_write(sink, raw, sizeof raw, e);
	if (r == 0)
		r = sink_finish(sink, e);
	sink_close(sink);
	return r;
}

/* Each allocation fails once, whoever makes it. */
static void writing_without_memory(void **state)
{
	static const uint8_t algorithms[] = { ZALGORITHM_LZ4, ZALGORITHM_ZSTD };
	size_t i;

	for (i = 0; i < 2; i++) {
		long k;
		int r;

		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			struct testlib_output o = new_output();
			struct err e = { "" };

			alloc_left = k;
			r = write_zfile(algorithms[i], &o, &e);
			alloc_left = -1;
			if (r == -ENOMEM)
				assert_non_null(strstr(e.msg, "out of memory"));
			assert_int_equal(o.finished, r == 0);
			free(o.bytes);
		}
		assert_int_equal(r, 0);
		assert_true(k > 4);
	}
	for (i = 0; i < 2; i++) {
		struct testlib_output o = new_output();
		struct err e = { "" };

		contexts_left = (int)i;
		assert_int_equal(write_zfile(ZALGORITHM_ZSTD, &o, &e), -ENOMEM);
		assert_string_equal(e.msg, "zfile: out of memory");
		contexts_left = -1;
		free(o.bytes);
	}
}

/* What is not compressed is not written either, and the block is named. */
static void codecs_that_fail(void **state)
{
	static const uint8_t algorithms[] = { ZALGORITHM_LZ4, ZALGORITHM_ZSTD };
	static const int places[] = { 0, 1, 63, 64, 100 };
	size_t i, k;

	for (i = 0; i < 2; i++)
		for (k = 0; k < sizeof places / sizeof *places; k++) {
			struct testlib_output o = new_output();
			struct err e = { "" };
			char want[80];

			encodes_left = places[k];
			assert_int_equal(write_zfile(algorithms[i], &o, &e), -EIO);
			snprintf(want, sizeof want, "zfile: %s cannot compress block %d",
				 i == 0 ? "lz4" : "zstd", places[k]);
			assert_string_equal(e.msg, want);
			assert_false(o.finished);
			free(o.bytes);
			encodes_left = -1;
		}
}

static void write_and_forget(void)
{
	struct testlib_output o = new_output();

	assert_int_equal(write_zfile(ZALGORITHM_ZSTD, &o, NULL), 0);
	free(o.bytes);
	o = new_output();
	encodes_left = 70;
	assert_int_equal(write_zfile(ZALGORITHM_LZ4, &o, NULL), -EIO);
	encodes_left = -1;
	free(o.bytes);
}

/* ---- reading ---- */

/* A thread of its own has nothing kept: what reading needs is made anew. */
struct reader {
	struct source *z;
	long allocations;
	int contexts, r;
	struct err e;
};

static void *read_first(void *arg)
{
	struct reader *x = arg;
	uint8_t buf[2 * BLOCK];

	alloc_left = x->allocations;
	contexts_left = x->contexts;
	x->r = source_pread(x->z, buf, sizeof buf, 0, &x->e);
	alloc_left = contexts_left = -1;
	if (x->r == 0 && memcmp(buf, raw, sizeof buf) != 0)
		x->r = -1;
	if (x->r != 0) { /* and the next read works */
		int r = source_pread(x->z, buf, sizeof buf, 0, NULL);

		if (r != 0 || memcmp(buf, raw, sizeof buf) != 0)
			x->r = -2;
	}
	return NULL;
}

static void reading_without_memory(void **state)
{
	struct testlib_output o = new_output();
	struct source *s, *z;
	struct err e = { "" };
	long k;
	int r, contexts;

	assert_int_equal(write_zfile(ZALGORITHM_ZSTD, &o, NULL), 0);
	assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = zfile_open(s, &z, &e);
		alloc_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "out of memory"));
	}
	assert_int_equal(r, 0);
	assert_int_equal(k, 4); /* itself, the table and its stored form */
	for (k = 0; k < 2; k++)
		for (contexts = 0; contexts < 2; contexts++) {
			struct reader x = { .z = z,
					    .allocations = k ? -1 : 0,
					    .contexts = contexts ? -1 : 0 };
			pthread_t thread;

			assert_int_equal(pthread_create(&thread, NULL, read_first, &x), 0);
			pthread_join(thread, NULL);
			assert_int_equal(x.r, k && contexts ? 0 : -ENOMEM);
		}
	source_close(z);
	free(o.bytes);
}

/* ---- tar ---- */

static int wrap_bytes(struct testlib_output *o, size_t n, struct err *e)
{
	long left = alloc_left;
	struct sink *below, *sink;
	int r;

	alloc_left = -1;
	below = testlib_open_sink(o);
	alloc_left = left;
	r = tar_open_sink(below, &sink, e);

	if (r < 0) {
		sink_close(below);
		return r;
	}
	r = sink_write(sink, raw, n, e);
	if (r == 0)
		r = sink_patch(sink, "patched", 7, 3, e);
	if (r == 0)
		r = sink_finish(sink, e);
	sink_close(sink);
	return r;
}

static void what_is_wrapped_can_be_patched(void **state)
{
	static const size_t sizes[] = { 10, 511, 512, 513, 5000 };
	size_t i;

	for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct testlib_output o = new_output();
		struct tar_layout layout;
		struct source *s;

		assert_int_equal(wrap_bytes(&o, sizes[i], NULL), 0);
		assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
		assert_int_equal(tar_parse(s, &layout, NULL), 0);
		assert_int_equal(layout.payload_size, sizes[i]);
		assert_true(layout.end_blocks && layout.pax);
		assert_memory_equal(o.bytes + layout.payload_offset, raw, 3);
		assert_memory_equal(o.bytes + layout.payload_offset + 3, "patched", 7);
		assert_int_equal(o.n, layout.payload_offset + (sizes[i] + 511) / 512 * 512 + 1024);
		source_close(s);
		free(o.bytes);
	}
}

static void tar_without_memory(void **state)
{
	struct testlib_output o = new_output();
	struct tar_layout layout;
	struct err e = { "" };
	struct source *s;
	void *out;
	size_t n;

	alloc_left = 0;
	assert_int_equal(wrap_bytes(&o, 10, &e), -ENOMEM);
	assert_string_equal(e.msg, "out of memory");
	alloc_left = 0;
	assert_int_equal(tar_pack("x", raw, 10, &out, &n, &e), -ENOMEM);
	alloc_left = -1;
	free(o.bytes);
	o = new_output();
	assert_int_equal(wrap_bytes(&o, 10, &e), 0);
	assert_int_equal(source_open_memory(o.bytes, o.n, &s, NULL), 0);
	alloc_left = 0;
	assert_int_equal(tar_parse(s, &layout, &e), -ENOMEM); /* of the pax records */
	alloc_left = -1;
	source_close(s);
	free(o.bytes);
}

/* A small archive in memory, such as an acceleration layer. */
static void small_archives(void **state)
{
	static const size_t sizes[] = { 0, 1, 511, 512, 513, 4096 };
	char name[100];
	size_t i, k, n;

	memset(name, 'n', sizeof name);
	name[99] = '\0';
	for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct tar_layout layout;
		struct source *s;
		uint8_t *bytes;
		void *out;

		assert_int_equal(tar_pack(name, raw, sizes[i], &out, &n, NULL), 0);
		bytes = out;
		assert_int_equal(n, 512 + (sizes[i] + 511) / 512 * 512 + 1024);
		assert_int_equal(source_open_memory(out, n, &s, NULL), 0);
		assert_int_equal(tar_parse(s, &layout, NULL), 0);
		assert_int_equal(layout.payload_offset, 512);
		assert_int_equal(layout.payload_size, sizes[i]);
		assert_string_equal(layout.name, name);
		assert_true(!layout.pax && layout.end_blocks);
		assert_memory_equal(bytes + 512, raw, sizes[i]);
		for (k = 512 + sizes[i]; k < n; k++)
			assert_int_equal(bytes[k], 0);
		assert_string_equal((char *)bytes + 100, "100644 ");
		assert_string_equal((char *)bytes + 108, "     0 ");
		assert_string_equal((char *)bytes + 116, "     0 ");
		assert_memory_equal(bytes + 136, "          0 ", 12);
		source_close(s);
		free(out);
	}
}

static void nothing_is_left_behind(void **state)
{
	HEAP_STEADY(write_and_forget());
}

static int set_up(void **state)
{
	uint64_t seed = 5;

	testlib_fill(raw, sizeof raw, 200, &seed);
	return workers_open(0, &pool, NULL);
}

static int tear_down(void **state)
{
	workers_close(pool);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup(f, allow_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writing_without_memory), TEST(codecs_that_fail),
		TEST(reading_without_memory), TEST(what_is_wrapped_can_be_patched),
		TEST(tar_without_memory),     TEST(small_archives),
		TEST(nothing_is_left_behind),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
