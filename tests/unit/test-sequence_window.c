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

void __real_qsort(void *base, size_t count, size_t size,
		  int (*order)(const void *a, const void *b));
void __wrap_qsort(void *base, size_t count, size_t size,
		  int (*order)(const void *a, const void *b));

/* No two are alike, whichever of them is asked about. */
void __wrap_qsort(void *base, size_t count, size_t size, int (*order)(const void *a, const void *b))
{
	const char *at = base;
	size_t i;

	__real_qsort(base, count, size, order);
	for (i = 1; i < count; i++) {
		assert_true(order(at + (i - 1) * size, at + i * size) < 0);
		assert_true(order(at + i * size, at + (i - 1) * size) > 0);
	}
}

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

/* ---- a model: one gap after the other ---- */

struct model {
	struct sequence_range ranges[RANGES];
	size_t taken, count;
	uint64_t gaps;
};

static bool is_before(const struct sequence_range *a, const struct sequence_range *b)
{
	return a->source == b->source ? a->first < b->first : a->source < b->source;
}

static void model_sort(struct model *m)
{
	size_t i, k;

	for (i = 1; i < m->taken; i++) {
		for (k = i; k > 0 && is_before(&m->ranges[k], &m->ranges[k - 1]); k--) {
			struct sequence_range other = m->ranges[k];

			m->ranges[k] = m->ranges[k - 1];
			m->ranges[k - 1] = other;
		}
	}
}

/* The first of the smallest gaps; false: none is at most `most`. */
static bool model_gap(const struct model *m, uint64_t most, size_t *at, uint64_t *size)
{
	bool found = false;
	size_t i;

	for (i = 0; i + 1 < m->count; i++) {
		uint64_t gap = m->ranges[i + 1].first - m->ranges[i].first - m->ranges[i].count;

		if (m->ranges[i].source == m->ranges[i + 1].source && gap <= most &&
		    (!found || gap < *size)) {
			found = true;
			*at = i;
			*size = gap;
		}
	}
	return found;
}

static void model_take(struct model *m, size_t count, const struct link_facts *link)
{
	uint64_t room = link->bandwidth / 3 / 16384, most = link->cheap_gap / 16384, chunks = 0,
		 gap = 0;
	size_t at = 0;

	room = room < 32 ? 32 : room;
	most = most > 64 ? 64 : most;
	for (m->taken = 0; m->taken < count && chunks < room; m->taken++)
		chunks += m->ranges[m->taken].count;
	m->gaps += chunks / 8;
	model_sort(m);
	m->count = m->taken;
	while (model_gap(m, most, &at, &gap) && gap <= m->gaps) {
		m->gaps -= gap;
		m->ranges[at].count += gap + m->ranges[at + 1].count;
		m->count--;
		memmove(&m->ranges[at + 1], &m->ranges[at + 2],
			(m->count - at - 1) * sizeof *m->ranges);
	}
}

static void as_the_model_says(void **state)
{
	static struct case_ c;
	static struct model m;
	unsigned i, rounds = loops_count(ROUNDS);

	for (i = 0; i < rounds; i++) {
		struct link_facts link = { .bandwidth = loops_random() % (1 << 26),
					   .cheap_gap = loops_random() % (70 * 16384) };
		uint64_t gaps = m.gaps = loops_random() % 40;
		size_t at = 0, k;

		make(&c);
		/* windows that end just with a range, and none but the last shorter than 32 */
		if (i % 4 == 0)
			link.bandwidth = 3 * 16384 * (30 + loops_random() % 6);
		while (at < c.count) {
			struct sequence_window w;

			memcpy(m.ranges, c.ranges + at, (c.count - at) * sizeof *m.ranges);
			model_take(&m, c.count - at, &link);
			w = sequence_window_take(c.ranges + at, c.count - at, &link, &gaps);
			assert_int_equal(w.taken, m.taken);
			assert_int_equal(w.count, m.count);
			assert_int_equal(gaps, m.gaps);
			for (k = 0; k < w.count; k++) {
				assert_ptr_equal(c.ranges[at + k].source, m.ranges[k].source);
				assert_int_equal(c.ranges[at + k].first, m.ranges[k].first);
				assert_int_equal(c.ranges[at + k].count, m.ranges[k].count);
			}
			at += w.taken;
		}
	}
}

/* Two ranges and what lies between them: of just so much that is cheap, or may be spent. */
static void just_joined(void **state)
{
	static const struct {
		uint64_t gap, cheap, gaps, left; /* chunks; 32 are needed, which allow for 4 more */
		size_t count;
	} rows[] = {
		{ 0, 0, 0, 4, 1 },	{ 1, 0, 9, 13, 2 },    { 1, 1, 9, 12, 1 },
		{ 2, 1, 9, 13, 2 },	{ 4, 4, 0, 0, 1 },     { 5, 5, 0, 4, 2 },
		{ 5, 5, 1, 0, 1 },	{ 63, 63, 59, 0, 1 },  { 64, 64, 60, 0, 1 },
		{ 64, 63, 90, 94, 2 },	{ 65, 65, 90, 94, 2 }, { 65, 1000, 90, 94, 2 },
		{ 64, 1000, 60, 0, 1 },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct sequence_range r[] = { { &blobs[0], 10, 20 },
					      { &blobs[0], 30 + rows[i].gap, 12 } };
		struct link_facts link = { .cheap_gap = rows[i].cheap * 16384 };
		uint64_t gaps = rows[i].gaps;
		struct sequence_window w = sequence_window_take(r, 2, &link, &gaps);

		if (w.taken != 2 || w.count != rows[i].count || gaps != rows[i].left)
			fail_msg("row %zu: %zu ranges, %d left", i, w.count, (int)gaps);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost),
		cmocka_unit_test(smallest_gaps_first),
		cmocka_unit_test(as_the_model_says),
		cmocka_unit_test(just_joined),
	};

	loops_seed();
	return cmocka_run_group_tests_name("sequence_window", tests, NULL, NULL);
}
