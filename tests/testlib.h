/* SPDX-License-Identifier: Apache-2.0 */
/* testlib.h - what unit tests and fuzz targets share: golden files, a sink into memory, repeatable
 * random numbers.  Whatever cannot be had aborts the test. */
#ifndef OVERLAYBD_TESTS_TESTLIB_H
#define OVERLAYBD_TESTS_TESTLIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/sink.h"

/* The whole of tests/golden/NAME (the folder is in $GOLDEN); the caller frees it. */
uint8_t *testlib_golden(const char *name, size_t *n);

/* What a memory sink has taken; it outlives the sink, and the caller frees bytes. */
struct testlib_output {
	uint8_t *bytes;
	size_t n;
	size_t room;
	bool finished;
};

/* A sink that appends to *o (all zero at first) and can patch it. */
struct sink *testlib_open_sink(struct testlib_output *o);

/* The next of a sequence of random numbers; the seed is the first state. */
uint64_t testlib_random(uint64_t *state);

/* Fills buf with random bytes, `repeat` in 256 of them like their predecessor. */
void testlib_fill(void *buf, size_t n, unsigned repeat, uint64_t *state);

#endif
