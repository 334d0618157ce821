/* SPDX-License-Identifier: Apache-2.0 */
/* test-sequence_window.c - windows of a sequence against a model: nothing is lost, gaps stay within
 * what may be spent, and a faster link makes longer windows and fewer ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "fetch/sequence_window.h"
#include "tests/unit/loops.h"

enum { CHUNKS = 4096, RANGES = 300, ROUNDS = 2000 };

static struct source blobs[2];

struct case_ {
	struct sequence_range ranges[RANGES];
	size_t count;
	bool needed[2][CHUNKS];
	uint64_t chunks;
};

static void make(struct case_ *c)
{
	memset(c, 0, sizeof *c);
	while (c->count < RANGES) {
		size_t blob = loops_random() % 2;
		uint64_t at = loops_random() % CHUNKS, n = 0;

		while (n < 6 && at + n < CHUNKS && !c->needed[blob][at + n])
			c->needed[blob][at + n++] = true;
		if (n == 0)
			continue;
		c->ranges[c->count++] = (struct sequence_range){ &blobs[blob], at, n };
		c->chunks += n;
	}
}

/* Takes all windows of a case: how many ranges come of it, and chunks. */
static void take_all(struct case_ *c, const struct link_facts *link, size_t *windows,
		     size_t *ranges, uint64_t *fetched)
{
	bool got[2][CHUNKS] = { 0 };
	uint64_t gaps = 0, k;
	size_t at = 0, i;

	*windows = *ranges = 0;
	*fetched = 0;
	while (at < c->count) {
		struct sequence_window w =
			sequence_window_take(c->ranges + at, c->count - at, link, &gaps);

		assert_in_range(w.taken, 1, c->count - at);
		assert_in_range(w.count, 1, w.taken);
		for (i = at; i < at + w.count; i++) {
			size_t blob = c->ranges[i].source == &blobs[1];

			assert_true(c->ranges[i].first + c->ranges[i].count <= CHUNKS);
			for (k = 0; k < c->ranges[i].count; k++) {
				*fetched += !got[blob][c->ranges[i].first + k];
				got[blob][c->ranges[i].first + k] = true;
			}
		}
		*ranges += w.count;
		++*windows;
		at += w.taken;
	}
	for (i = 0; i < 2; i++)
		for (k = 0; k < CHUNKS; k++)
			assert_true(got[i][k] || !c->needed[i][k]);
	assert_true(*fetched <= c->chunks + c->chunks / 8);
}

static void nothing_is_lost(void **state)
{
	static struct case_ c, copy;
	unsigned i, rounds = loops_count(ROUNDS);

	for (i = 0; i < rounds; i++) {
		struct link_facts slow = { 0 };
		struct link_facts fast = { .bandwidth = loops_random() % (1 << 28),
					   .cheap_gap = loops_random() % (1 << 22) };
		size_t windows, ranges, slow_windows, slow_ranges;
		uint64_t fetched;

		make(&c);
		copy = c;
		take_all(&copy, &slow, &slow_windows, &slow_ranges, &fetched);
		assert_int_equal(fetched, c.chunks); /* no gap is cheap */
		copy = c;
		take_all(&copy, &fast, &windows, &ranges, &fetched);
		assert_true(windows <= slow_windows);
		assert_true(ranges <= slow_ranges + windows);
	}
}

static void smallest_gaps_first(void **state)
{
	/* Gaps of 3, 1, 2 and 4 chunks; 40 chunks are needed, so 5 may be spent. */
	struct sequence_range r[] = { { &blobs[0], 0, 8 },
				      { &blobs[0], 11, 8 },
				      { &blobs[0], 20, 8 },
				      { &blobs[0], 30, 8 },
				      { &blobs[0], 42, 8 } };
	struct link_facts link = { .bandwidth = 1 << 30, .cheap_gap = 1 << 20 };
	uint64_t gaps = 0;
	struct sequence_window w = sequence_window_take(r, 5, &link, &gaps);

	assert_int_equal(w.taken, 5);
	assert_int_equal(w.count, 3);
	assert_int_equal(r[0].count, 8);
	assert_int_equal(r[1].first, 11);
	assert_int_equal(r[1].count, 27);
	assert_int_equal(r[2].first, 42);
	assert_int_equal(gaps, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost),
		cmocka_unit_test(smallest_gaps_first),
	};

	loops_seed();
	return cmocka_run_group_tests_name("sequence_window", tests, NULL, NULL);
}
