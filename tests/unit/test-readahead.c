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

/* ---- step by step ---- */

enum { PLACE = 5, FORGOTTEN = 99 /* its place is the next to be taken */ };

/* What a stream is before a read and after it, and its zone. */
static const struct step {
	const char *what;
	struct readahead_stream before; /* at PLACE; used is 7 */
	uint64_t used; /* of its zone */
	bool hit;
	uint64_t first, end, least;
	uint64_t result, from;
	struct readahead_stream after;
	bool elsewhere; /* another stream begins */
	bool zone_stays;
	uint64_t zone_from;
} steps[] = {
	/* next, ahead, window, used, seen, misses, strikes, established */
	{ "follows",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  1000,
	  1004,
	  1004,
	  1012,
	  0,
	  { 1004, 1012, 8, 0, 12, 2, 0, true },
	  false,
	  false,
	  1004 },
	{ "begins in the end",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  999,
	  1003,
	  1003,
	  1011,
	  0,
	  { 1003, 1011, 8, 0, 12, 2, 0, true },
	  false,
	  false,
	  1003 },
	{ "begins before that",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  998,
	  1002,
	  1002,
	  1002,
	  0,
	  { 1002, 1002, 8, 0, 12, 2, 0, false },
	  false,
	  false,
	  1002 },
	{ "leaves one out",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  1001,
	  1005,
	  1005,
	  1005,
	  0,
	  { 1005, 1005, 8, 0, 12, 2, 0, false },
	  false,
	  false,
	  1005 },
	{ "the third that is close",
	  { 1000, 1000, 8, 7, 8, 2, 0, false },
	  0,
	  false,
	  998,
	  1002,
	  1002,
	  1026,
	  0,
	  { 1002, 1026, 24, 0, 12, 3, 0, true },
	  false,
	  false,
	  1002 },
	{ "as far back as may be",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  984,
	  985,
	  985,
	  985,
	  0,
	  { 1000, 1000, 8, 0, 9, 2, 0, false },
	  false,
	  false,
	  985 },
	{ "too far back",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  983,
	  984,
	  984,
	  984,
	  0,
	  { 984, 984, 1, 0, 1, 1, 0, false },
	  true,
	  false,
	  984 },
	{ "as far on as may be",
	  { 1000, 1100, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  1116,
	  1117,
	  1117,
	  1117,
	  0,
	  { 1117, 1117, 8, 0, 9, 2, 0, false },
	  false,
	  false,
	  1117 },
	{ "too far on",
	  { 1000, 1100, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  1117,
	  1118,
	  1120,
	  1120,
	  0,
	  { 1118, 1120, 1, 0, 1, 1, 0, false },
	  true,
	  false,
	  1118 },
	{ "as far back as an established one may be",
	  { 1000, 1100, 8, 7, 8, 3, 0, true },
	  2,
	  false,
	  992,
	  993,
	  993,
	  1015,
	  0,
	  { 1000, 1100, 22, 0, 11, 4, 0, true },
	  false,
	  false,
	  993 },
	{ "too far back for it",
	  { 1000, 1100, 8, 7, 8, 3, 0, true },
	  2,
	  false,
	  991,
	  992,
	  992,
	  992,
	  0,
	  { 992, 992, 1, 0, 1, 1, 0, false },
	  true,
	  false,
	  992 },
	{ "as far on as it may be",
	  { 1000, 1100, 8, 7, 8, 3, 0, true },
	  2,
	  false,
	  1108,
	  1109,
	  1109,
	  1131,
	  0,
	  { 1109, 1131, 22, 0, 11, 4, 0, true },
	  false,
	  false,
	  1109 },
	{ "too far on for it",
	  { 1000, 1100, 8, 7, 8, 3, 0, true },
	  2,
	  false,
	  1109,
	  1110,
	  1110,
	  1110,
	  0,
	  { 1110, 1110, 1, 0, 1, 1, 0, false },
	  true,
	  false,
	  1110 },
	{ "grows fourfold",
	  { 1000, 1040, 40, 7, 100, 5, 3, true },
	  10,
	  false,
	  1040,
	  1044,
	  1044,
	  1204,
	  0,
	  { 1044, 1204, 160, 0, 114, 6, 0, true },
	  false,
	  false,
	  1044 },
	{ "has not read a quarter",
	  { 1000, 1040, 40, 7, 100, 5, 3, true },
	  9,
	  false,
	  1040,
	  1044,
	  1044,
	  1084,
	  0,
	  { 1044, 1084, 40, 0, 104, 6, 4, true },
	  false,
	  false,
	  1044 },
	{ "for the last time",
	  { 1000, 1040, 40, 7, 100, 5, 6, true },
	  9,
	  false,
	  1040,
	  1044,
	  1044,
	  1084,
	  0,
	  { 1044, 1084, 40, 0, 104, 6, 7, true },
	  false,
	  false,
	  1044 },
	{ "is no reader",
	  { 1000, 1040, 40, 7, 100, 5, 7, true },
	  9,
	  false,
	  1040,
	  1044,
	  1050,
	  1050,
	  0,
	  { 1044, 1050, 4, 0, 4, 1, 0, false },
	  false,
	  false,
	  1044 },
	{ "twice what it has read",
	  { 1000, 1100, 100, 7, 40, 5, 0, true },
	  25,
	  false,
	  1100,
	  1104,
	  1104,
	  1242,
	  0,
	  { 1104, 1242, 138, 0, 69, 6, 0, true },
	  false,
	  false,
	  1104 },
	{ "the longest",
	  { 1000, 1100, 100, 7, 1000, 5, 0, true },
	  25,
	  false,
	  1100,
	  1104,
	  1104,
	  1360,
	  0,
	  { 1104, 1360, 256, 0, 1029, 6, 0, true },
	  false,
	  false,
	  1104 },
	{ "wants more than that",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  1000,
	  1004,
	  5000,
	  5000,
	  0,
	  { 1004, 5000, 8, 0, 12, 2, 0, true },
	  false,
	  false,
	  1004 },
	{ "is further ahead",
	  { 1000, 2000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  1000,
	  1004,
	  1004,
	  1012,
	  0,
	  { 1004, 2000, 8, 0, 12, 2, 0, true },
	  false,
	  false,
	  1004 },
	{ "a long read",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  false,
	  3000,
	  3300,
	  3300,
	  3300,
	  0,
	  { 3300, 3300, 256, 0, 300, 1, 0, false },
	  true,
	  false,
	  3300 },
	/* hits */
	{ "may be none",
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  0,
	  true,
	  1000,
	  1004,
	  0,
	  0,
	  0,
	  { 1000, 1000, 8, 7, 8, 1, 0, false },
	  false,
	  true,
	  0 },
	{ "has enough",
	  { 1000, 1040, 40, 7, 100, 3, 0, true },
	  10,
	  true,
	  1000,
	  1019,
	  0,
	  0,
	  0,
	  { 1019, 1040, 40, 0, 100, 3, 0, true },
	  false,
	  true,
	  0 },
	{ "half is used up",
	  { 1000, 1040, 40, 7, 100, 3, 2, true },
	  10,
	  true,
	  1000,
	  1020,
	  0,
	  1120,
	  1040,
	  { 1020, 1120, 80, 0, 110, 3, 0, true },
	  false,
	  false,
	  1000 },
	{ "is behind",
	  { 1030, 1040, 40, 7, 100, 3, 0, true },
	  10,
	  true,
	  1000,
	  1010,
	  0,
	  1120,
	  1040,
	  { 1030, 1120, 80, 0, 110, 3, 0, true },
	  false,
	  false,
	  1000 },
	{ "is beyond",
	  { 1000, 1040, 40, 7, 100, 3, 0, true },
	  10,
	  true,
	  1030,
	  1050,
	  0,
	  1130,
	  1050,
	  { 1050, 1130, 80, 0, 110, 3, 0, true },
	  false,
	  false,
	  1010 },
	{ "near the beginning",
	  { 30, 40, 40, 7, 100, 3, 0, true },
	  10,
	  true,
	  30,
	  35,
	  0,
	  120,
	  40,
	  { 35, 120, 80, 0, 110, 3, 0, true },
	  false,
	  false,
	  0 },
	{ "has not used a quarter",
	  { 1000, 1040, 40, 7, 100, 3, 0, true },
	  9,
	  true,
	  1000,
	  1020,
	  0,
	  0,
	  0,
	  { 1020, 1040, 40, 0, 100, 3, 1, true },
	  false,
	  true,
	  0 },
	{ "nor the last time",
	  { 1000, 1040, 40, 7, 100, 3, 6, true },
	  9,
	  true,
	  1000,
	  1020,
	  0,
	  0,
	  0,
	  { 1020, 1040, 40, 0, 100, 3, 7, true },
	  false,
	  true,
	  0 },
	{ "so it is none",
	  { 1000, 1040, 40, 7, 100, 3, 7, true },
	  9,
	  true,
	  1010,
	  1020,
	  0,
	  0,
	  0,
	  { 1020, 1020, 10, FORGOTTEN, 10, 1, 0, false },
	  false,
	  false,
	  1020 },
};

static void check_stream(const char *what, const struct readahead_stream *s,
			 const struct readahead_stream *wanted, uint64_t used)
{
	if (s->next != wanted->next || s->ahead != wanted->ahead || s->window != wanted->window ||
	    s->seen != wanted->seen || s->misses != wanted->misses ||
	    s->strikes != wanted->strikes || s->established != wanted->established ||
	    s->used != used)
		fail_msg("%s: next %d ahead %d window %d seen %d misses %u strikes %u %s used %d",
			 what, (int)s->next, (int)s->ahead, (int)s->window, (int)s->seen, s->misses,
			 s->strikes, s->established ? "established" : "", (int)s->used);
}

static void check_zone(const struct step *t, const struct readahead *ra, unsigned place)
{
	const struct readahead_zone *z = &ra->zones[place];
	bool zoned = t->after.established;

	if (t->zone_stays) {
		assert_int_equal(atomic_load(&z->from), 11);
		assert_int_equal(atomic_load(&z->to), 22);
		assert_int_equal(atomic_load(&z->due), 33);
		assert_int_equal(atomic_load(&z->used), t->used);
		assert_int_equal(atomic_load(&ra->zoned), 0xff0f);
		return;
	}
	if (atomic_load(&z->from) != t->zone_from ||
	    atomic_load(&z->to) != (zoned ? t->after.ahead : 0) ||
	    atomic_load(&z->due) != t->after.ahead - t->after.window / 2 ||
	    atomic_load(&z->used) != 0)
		fail_msg("%s: zone from %d to %d, due %d, used %d", t->what,
			 (int)atomic_load(&z->from), (int)atomic_load(&z->to),
			 (int)atomic_load(&z->due), (int)atomic_load(&z->used));
	assert_int_equal(atomic_load(&ra->zoned),
			 zoned ? 0xff0f | 1u << place : 0xff0f & ~(1u << place));
}

static uint64_t used_after(const struct step *t)
{
	if (t->after.used == FORGOTTEN)
		return 0;
	return t->after.used ? t->after.used : 71;
}

static void step_by_step(void **state)
{
	size_t i;

	for (i = 0; i < sizeof steps / sizeof *steps; i++) {
		const struct step *t = &steps[i];
		unsigned place = t->elsewhere ? 0 : PLACE;
		struct readahead ra = { .clock = 70 };
		uint64_t result, from = 0;

		ra.streams[PLACE] = t->before;
		atomic_store(&ra.zoned, 0xff0f);
		atomic_store(&ra.zones[PLACE].from, 11);
		atomic_store(&ra.zones[PLACE].to, 22);
		atomic_store(&ra.zones[PLACE].due, 33);
		atomic_store(&ra.zones[PLACE].used, t->used);
		result = t->hit ? readahead_hit(&ra, t->first, t->end, &from)
				: readahead_miss(&ra, t->first, t->end, t->least);
		if (result != t->result || from != t->from)
			fail_msg("%s: %d from %d", t->what, (int)result, (int)from);
		check_stream(t->what, &ra.streams[place], &t->after, used_after(t));
		check_zone(t, &ra, place);
		if (t->elsewhere)
			check_stream(t->what, &ra.streams[PLACE], &t->before, 7);
	}
}

/* Of several that a read may be of, an established one; a new one takes the place of that which was
 * used the longest ago, but an established one stays for 128 reads more. */
static void which_stream(void **state)
{
	static const struct {
		unsigned established[2]; /* of these that read at 1000; the others are not */
		unsigned of[2], count; /* that do */
		unsigned taken;
	} found[] = {
		{ { 20, 20 }, { 3, 5 }, 2, 3 },	   { { 5, 20 }, { 3, 5 }, 2, 5 },
		{ { 3, 20 }, { 3, 5 }, 2, 3 },	   { { 20, 20 }, { 0, 15 }, 2, 0 },
		{ { 15, 20 }, { 0, 15 }, 2, 15 },  { { 0, 20 }, { 0, 15 }, 2, 0 },
		{ { 20, 20 }, { 15, 15 }, 1, 15 },
	};
	static const struct {
		unsigned place;
		uint64_t used;
		unsigned taken; /* beside place 4, established, last used at 10 */
	} oldest[] = {
		{ 9, 137, 9 }, { 9, 138, 4 }, { 9, 139, 4 },   { 0, 137, 0 },
		{ 1, 137, 1 }, { 1, 138, 1 }, { 15, 137, 15 }, { 0, 138, 0 },
	};
	size_t i, k;

	for (i = 0; i < sizeof found / sizeof *found; i++) {
		struct readahead ra = { .clock = 70 };

		for (k = 0; k < READAHEAD_STREAMS; k++)
			ra.streams[k] =
				(struct readahead_stream){ 9000, 9000, 8, 1, 8, 1, 0, false };
		for (k = 0; k < found[i].count; k++)
			ra.streams[found[i].of[k]].next = ra.streams[found[i].of[k]].ahead = 1000;
		for (k = 0; k < 2; k++)
			if (found[i].established[k] < READAHEAD_STREAMS)
				ra.streams[found[i].established[k]].established = true;
		(void)readahead_miss(&ra, 1000, 1001, 1001);
		for (k = 0; k < READAHEAD_STREAMS; k++)
			assert_int_equal(ra.streams[k].used, k == found[i].taken ? 71 : 1);
	}
	for (i = 0; i < sizeof oldest / sizeof *oldest; i++) {
		struct readahead ra = { .clock = 70 };

		for (k = 0; k < READAHEAD_STREAMS; k++)
			ra.streams[k] = (struct readahead_stream){ 9000, 9000, 8, 1000 + k,
								   8,	 1,    0, false };
		ra.streams[4].established = true;
		ra.streams[4].used = 10;
		ra.streams[oldest[i].place].used = oldest[i].used;
		(void)readahead_miss(&ra, 1000, 1001, 1001);
		for (k = 0; k < READAHEAD_STREAMS; k++)
			assert_int_equal(ra.streams[k].used == 71, k == oldest[i].taken);
	}
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
		cmocka_unit_test(step_by_step),
		cmocka_unit_test(which_stream),
	};

	loops_seed();
	return cmocka_run_group_tests_name("readahead", tests, NULL, NULL);
}
