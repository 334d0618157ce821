/* SPDX-License-Identifier: Apache-2.0 */
/* zfilelib.h - ZFiles for tests: made in memory, opened, read and compared. */
#ifndef OVERLAYBD_TESTS_ZFILELIB_H
#define OVERLAYBD_TESTS_ZFILELIB_H

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fault.h"
#include "tests/testlib.h"
#include "zfile/zfile.h"
#include "zfile/zwriter.h"

/* A ZFile and what it holds. */
struct sample {
	uint8_t *bytes;
	size_t n;
	uint8_t *raw;
	size_t raw_n;
};

static inline void sample_make(struct sample *m, uint8_t algorithm, uint32_t block_size,
			       size_t raw_n, unsigned repeat)
{
	struct zwriter_options options = { algorithm, block_size, 0 };
	struct testlib_output o = { NULL, 0, 0, false };
	struct workers *pool;
	struct sink *sink;
	uint64_t seed = raw_n;
	struct err e;

	m->raw_n = raw_n;
	m->raw = malloc(raw_n + 1);
	testlib_fill(m->raw, raw_n, repeat, &seed);
	assert_int_equal(workers_open(0, &pool, &e), 0);
	assert_int_equal(zwriter_open_sink(testlib_open_sink(&o), &options, pool, &sink, &e), 0);
	assert_int_equal(sink_write(sink, m->raw, raw_n, &e), 0);
	assert_int_equal(sink_finish(sink, &e), 0);
	sink_close(sink);
	workers_close(pool);
	m->bytes = o.bytes;
	m->n = o.n;
}

static inline void sample_release(struct sample *m)
{
	free(m->bytes);
	free(m->raw);
}

/* Opens bytes as a ZFile, through a fault source unless f is NULL. */
static inline int open_bytes(const uint8_t *bytes, size_t n, struct fault *f, struct source **z,
			     struct err *e)
{
	struct source *s;
	int r;

	assert_int_equal(source_open_memory(bytes, n, &s, e), 0);
	if (f)
		fault_open_source(s, f, &s);
	r = zfile_open(s, z, e);
	if (r != 0) {
		source_close(s);
		*z = NULL;
	}
	return r;
}

static inline struct source *must_open(const uint8_t *bytes, size_t n, struct fault *f)
{
	struct source *z;
	struct err e = { "" };

	if (open_bytes(bytes, n, f, &z, &e) != 0)
		fail_msg("%s", e.msg);
	return z;
}

/* Reads and compares. */
static inline void expect_read(struct source *z, const uint8_t *raw, size_t n, uint64_t off)
{
	uint8_t *buf = malloc(n + 1);
	struct err e = { "" };

	if (source_pread(z, buf, n, off, &e) != 0)
		fail_msg("%zu at %" PRIu64 ": %s", n, off, e.msg);
	if (memcmp(buf, raw + off, n) != 0)
		fail_msg("%zu at %" PRIu64 ": wrong bytes", n, off);
	free(buf);
}

#endif
