/* SPDX-License-Identifier: Apache-2.0 */
/* test-readahead.c - readers in order, with gaps, out of order, two at once, and at random: how
 * often a fetch is asked for.  What is asked for is there at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/le.h"
#include "fetch/readahead.h"
#include "tests/unit/loops.h"

enum { CHUNKS = 16384, SMALL = 3300, ROUNDS = 200 };

/* A blob's fetches, as blob.c makes them. */
struct fetches {
	struct readahead ahead;
	bool there[CHUNKS];
	unsigned count;
	uint64_t chunks;
};

static int set_up(void **state)
{
	static struct fetches f;

	memset(&f, 0, sizeof f);
	*state = &f;
	return 0;
}

static uint64_t count_missing(const struct fetches *f, uint64_t first, uint64_t end)
{
	uint64_t n = 0;

	for (; first < end; first++)
		n += !f->there[first];
	return n;
}

static void fetch(struct fetches *f, uint64_t first, uint64_t end)
{
	uint64_t missing;

	end = min_u64(end, CHUNKS);
	missing = count_missing(f, first, end);
	f->chunks += missing;
	f->count += missing > 0;
	for (; first < end; first++)
		f->there[first] = true;
}

static void read_chunks(struct fetches *f, uint64_t first, uint64_t n)
{
	uint64_t end = min_u64(first + n, CHUNKS), i, from, to;

	if (readahead_note(&f->ahead, first, end)) {
		to = readahead_hit(&f->ahead, first, end, &from);
		fetch(f, from, to);
	}
	for (i = first; i < end; i++)
		if (!f->there[i])
			fetch(f, i, readahead_miss(&f->ahead, i, end, end));
}

static void in_order(void **state)
{
	struct fetches *f = *state;
	uint64_t at;

	for (at = 0; at < CHUNKS; at += 9)
		read_chunks(f, at, 9);
	assert_in_range(f->count, CHUNKS / READAHEAD_MAX, CHUNKS / READAHEAD_MAX + 8);
}

/* Upper layers hide parts of a lower one. */
static void with_gaps(void **state)
{
	struct fetches *f = *state;
	uint64_t at;

	for (at = 0; at < CHUNKS; at += loops_random() % 4 == 0 ? 9 + 32 : 9)
		read_chunks(f, at, 9);
	assert_in_range(f->count, CHUNKS / READAHEAD_MAX, CHUNKS / READAHEAD_MAX + 20);
}

/* As a client does that has 16 reads under way, which come in any order. */
static void out_of_order(void **state)
{
	struct fetches *f = *state;
	uint64_t group, at[16], i;

	for (group = 0; group < CHUNKS; group += 9 * 16) {
		for (i = 0; i < 16; i++)
			at[i] = group + 9 * i;
		for (i = 16; i > 0; i--) {
			uint64_t j = loops_random() % i;

			read_chunks(f, at[j], 9);
			at[j] = at[i - 1];
		}
	}
	assert_in_range(f->count, CHUNKS / READAHEAD_MAX, CHUNKS / READAHEAD_MAX + 40);
}

static void two_at_once(void **state)
{
	struct fetches *f = *state;
	uint64_t at;

	for (at = 0; at < CHUNKS / 2; at += 4) {
		read_chunks(f, at, 4);
		read_chunks(f, CHUNKS / 2 + at, 4);
	}
	assert_in_range(f->count, CHUNKS / READAHEAD_MAX, CHUNKS / READAHEAD_MAX + 16);
}

/* A twentieth of a small blob, in pieces: hardly more than what was asked for is fetched.  Two that
 * happen to lie side by side are no reader in order. */
static void read_at_random(struct fetches *f, uint64_t n)
{
	uint64_t wanted = 0, reads = SMALL / 20 / n, i, at;
	unsigned round;

	for (round = 0; round < ROUNDS; round++) {
		memset(f, 0, offsetof(struct fetches, count));
		for (i = 0; i < reads; i++) {
			at = loops_random() % (SMALL - n);
			wanted += count_missing(f, at, at + n);
			read_chunks(f, at, n);
		}
	}
	assert_in_range(f->chunks, wanted / 2, wanted + wanted * 15 / 100);
}

/* Reads that make a reader by chance must not make it grow: no run is far off. */
static void at_random_for_long(void **state)
{
	struct fetches *f = *state;
	uint64_t wanted, at;
	unsigned round, i;

	for (round = 0; round < ROUNDS; round++) {
		memset(f, 0, sizeof *f);
		for (wanted = 0, i = 0; i < 600; i++) {
			at = loops_random() % 6000;
			wanted += count_missing(f, at, at + 3);
			read_chunks(f, at, 3);
		}
		assert_in_range(f->chunks, 0, wanted + wanted / 4);
	}
}

/* A read counts for the zone of a reader that it is in, and is told of when it comes to the zone's
 * second half; one that may be no reader has no zone. */
static void zones(void **state)
{
	static const struct {
		uint64_t first, end;
		bool told;
		uint64_t used; /* of the second place's zone, in all */
	} rows[] = {
		{ 1000, 1010, false, 0 },
		{ 1009, 1010, false, 0 },
		{ 5007, 5008, false, 0 },
		{ 5007, 5010, false, 2 },
		{ 5009, 5011, true, 4 },
		{ 5000, 6000, true, 8 },
		{ 5011, 5013, true, 9 },
		{ 5012, 5013, true, 9 },
		{ 5010 + READAHEAD_MAX, 6000, true, 9 },
		{ 5011 + READAHEAD_MAX, 6000, false, 9 },
	};
	struct fetches *f = *state;
	struct readahead *ra = &f->ahead;
	size_t i;

	assert_int_equal(readahead_miss(ra, 1000, 1010, 1010), 1010);
	assert_false(readahead_note(ra, 1009, 1010));
	assert_int_equal(readahead_miss(ra, 5000, 5004, 5004), 5004);
	assert_int_equal(readahead_miss(ra, 5004, 5008, 5008), 5012);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		if (readahead_note(ra, rows[i].first, rows[i].end) != rows[i].told)
			fail_msg("row %zu", i);
		if (atomic_load(&ra->zones[1].used) != rows[i].used)
			fail_msg("row %zu: %d used", i, (int)atomic_load(&ra->zones[1].used));
		assert_int_equal(atomic_load(&ra->zones[0].used), 0);
	}
}

static void at_random(void **state)
{
	read_at_random(*state, 1);
	set_up(state);
	read_at_random(*state, 3);
	set_up(state);
	read_at_random(*state, 9);
}

/* A place that has no zone any more wants to hear of nothing. */
static void no_zone(void **state)
{
	struct readahead ra = { .zoned = 2 };

	atomic_store(&ra.zones[1].to, 4000);
	atomic_store(&ra.zones[1].from, 3000);
	atomic_store(&ra.zones[1].due, 3500);
	assert_false(readahead_note(&ra, 0, 10));
	assert_false(readahead_note(&ra, 3000, 3500));
	assert_int_equal(atomic_load(&ra.zones[1].used), 500);
	assert_true(readahead_note(&ra, 3499, 3501));
	assert_true(readahead_note(&ra, 3500 + READAHEAD_MAX, 4000));
	assert_false(readahead_note(&ra, 3501 + READAHEAD_MAX, 4000));
	atomic_store(&ra.zones[0].to, 100);
	assert_false(readahead_note(&ra, 0, 10));
	assert_int_equal(atomic_load(&ra.zones[0].used), 0);
	atomic_store(&ra.zones[0].to, 0);
	atomic_store(&ra.zoned, 3);
	assert_false(readahead_note(&ra, 0, 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(in_order, set_up),
		cmocka_unit_test_setup(with_gaps, set_up),
		cmocka_unit_test_setup(out_of_order, set_up),
		cmocka_unit_test_setup(two_at_once, set_up),
		cmocka_unit_test_setup(zones, set_up),
		cmocka_unit_test_setup(at_random, set_up),
		cmocka_unit_test_setup(at_random_for_long, set_up),
		cmocka_unit_test(no_zone),
	};

	loops_seed();
	return cmocka_run_group_tests_name("readahead", tests, NULL, NULL);
}
