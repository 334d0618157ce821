/* SPDX-License-Identifier: Apache-2.0 */
/* test-range.c - range requests as tables: which answers are what was asked for, and how much is
 * asked for next. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/range.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { NO_HOLDING, REFUSES, AGREES };

static bool refuse(struct request *q)
{
	return false;
}

static bool agree(struct request *q)
{
	return true;
}

#define ANY UINT64_MAX
#define ASKED "asked for bytes 100-199 of 1000, the answer is "

/* Bytes 100-199 are asked for, of `total`. */
static const struct {
	const char *what;
	uint64_t total;
	struct http_answer a;
	int holding;
	int r;
	const char *why;
	uint64_t end; /* of what is good */
	bool whole, held;
} rows[] = {
	{ "it",
	  1000,
	  { .status = 206, .has_range = true, .first = 100, .last = 199, .total = 1000 },
	  NO_HOLDING,
	  0,
	  NULL,
	  200,
	  false,
	  false },
	{ "its beginning",
	  1000,
	  { .status = 206, .has_range = true, .first = 100, .last = 100, .total = 1000 },
	  NO_HOLDING,
	  0,
	  NULL,
	  101,
	  false,
	  false },
	{ "of a total that is not said",
	  1000,
	  { .status = 206, .has_range = true, .first = 100, .last = 199, .total = ANY },
	  NO_HOLDING,
	  0,
	  NULL,
	  200,
	  false,
	  false },
	{ "of a blob whose size is not known",
	  0,
	  { .status = 206, .has_range = true, .first = 100, .last = 199, .total = 7 },
	  NO_HOLDING,
	  0,
	  NULL,
	  200,
	  false,
	  false },
	{ "with its length",
	  1000,
	  { .status = 206,
	    .has_range = true,
	    .first = 100,
	    .last = 199,
	    .total = 1000,
	    .has_length = true,
	    .length = 100 },
	  NO_HOLDING,
	  0,
	  NULL,
	  200,
	  false,
	  false },
	{ "a byte less",
	  1000,
	  { .status = 206,
	    .has_range = true,
	    .first = 100,
	    .last = 199,
	    .total = 1000,
	    .has_length = true,
	    .length = 99 },
	  NO_HOLDING,
	  -EPROTO,
	  "99 bytes in an answer of 100",
	  0,
	  false,
	  false },
	{ "a byte more",
	  1000,
	  { .status = 206,
	    .has_range = true,
	    .first = 100,
	    .last = 198,
	    .total = 1000,
	    .has_length = true,
	    .length = 100 },
	  NO_HOLDING,
	  -EPROTO,
	  "100 bytes in an answer of 99",
	  0,
	  false,
	  false },
	{ "no range",
	  1000,
	  { .status = 206, .first = 100, .last = 199, .total = 1000 },
	  NO_HOLDING,
	  -EPROTO,
	  "HTTP 206 without Content-Range",
	  0,
	  false,
	  false },
	{ "another total",
	  1000,
	  { .status = 206, .has_range = true, .first = 100, .last = 199, .total = 1001 },
	  NO_HOLDING,
	  -EBADMSG,
	  "the blob has 1001 bytes, the manifest says 1000",
	  0,
	  false,
	  false },
	{ "too early",
	  1000,
	  { .status = 206, .has_range = true, .first = 99, .last = 199, .total = 1000 },
	  NO_HOLDING,
	  -EPROTO,
	  ASKED "99-199",
	  0,
	  false,
	  false },
	{ "too late",
	  1000,
	  { .status = 206, .has_range = true, .first = 101, .last = 199, .total = 1000 },
	  NO_HOLDING,
	  -EPROTO,
	  ASKED "101-199",
	  0,
	  false,
	  false },
	{ "too far",
	  1000,
	  { .status = 206, .has_range = true, .first = 100, .last = 200, .total = 1000 },
	  NO_HOLDING,
	  -EPROTO,
	  ASKED "100-200",
	  0,
	  false,
	  false },
	/* all of it */
	{ "whole",
	  1000,
	  { .status = 200, .has_length = true, .length = 1000 },
	  NO_HOLDING,
	  0,
	  NULL,
	  1000,
	  true,
	  false },
	{ "whole, of a size that is not known",
	  0,
	  { .status = 200, .has_length = true, .length = 7 },
	  NO_HOLDING,
	  0,
	  NULL,
	  7,
	  true,
	  false },
	{ "whole, of another size",
	  1000,
	  { .status = 200, .has_length = true, .length = 999 },
	  NO_HOLDING,
	  -EBADMSG,
	  "the blob has 999 bytes, the manifest says 1000",
	  0,
	  false,
	  false },
	{ "whole with a range",
	  1000,
	  { .status = 200,
	    .has_range = true,
	    .first = 100,
	    .last = 199,
	    .has_length = true,
	    .length = 1000 },
	  NO_HOLDING,
	  -EPROTO,
	  "HTTP 200 with a Content-Range",
	  0,
	  false,
	  false },
	{ "whole, held back", 1000, { .status = 200 }, AGREES, 0, NULL, 1000, true, true },
	{ "whole, not held back",
	  1000,
	  { .status = 200 },
	  REFUSES,
	  -EPROTO,
	  "HTTP 200 without a Content-Length to a range request",
	  0,
	  false,
	  false },
	{ "whole, nobody to hold it",
	  1000,
	  { .status = 200 },
	  NO_HOLDING,
	  -EPROTO,
	  "HTTP 200 without a Content-Length to a range request",
	  0,
	  false,
	  false },
	{ "whole, nobody knows how much",
	  0,
	  { .status = 200 },
	  AGREES,
	  -EPROTO,
	  "HTTP 200 without a Content-Length to a range request",
	  0,
	  false,
	  false },
	/* neither */
	{ "packed",
	  1000,
	  { .status = 206,
	    .has_range = true,
	    .first = 100,
	    .last = 199,
	    .total = 1000,
	    .encoded = true },
	  NO_HOLDING,
	  -EPROTO,
	  "the answer has a Content-Encoding, which was not asked for",
	  0,
	  false,
	  false },
	{ "nothing",
	  1000,
	  { .status = 204 },
	  AGREES,
	  -EPROTO,
	  "HTTP 204 to a range request",
	  0,
	  false,
	  false },
	{ "205",
	  1000,
	  { .status = 205 },
	  AGREES,
	  -EPROTO,
	  "HTTP 205 to a range request",
	  0,
	  false,
	  false },
	{ "not modified",
	  1000,
	  { .status = 304 },
	  AGREES,
	  -EPROTO,
	  "HTTP 304 to a range request",
	  0,
	  false,
	  false },
};

static void answers_are_judged(void **state)
{
	bool (*const may_hold[])(struct request * q) = { NULL, refuse, agree };
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct request q = { .first = 100,
				     .total = rows[i].total,
				     .position = 55,
				     .end = 66,
				     .may_hold = may_hold[rows[i].holding],
				     .x = { .last = 199, .answer = rows[i].a } };
		struct err e = { "" };
		int r = range_check(&q, &e);

		if (r != rows[i].r || (r < 0 && strcmp(e.msg, rows[i].why) != 0))
			fail_msg("%s: %d, %s", rows[i].what, r, e.msg);
		if (r < 0)
			continue;
		if (q.end != rows[i].end || q.whole != rows[i].whole || q.held != rows[i].held)
			fail_msg("%s: up to %" PRIu64, rows[i].what, q.end);
		assert_int_equal(q.position, rows[i].whole ? 55 : 100);
	}
}

/* An answer that names no total confirms the size by giving the last byte. */
static void a_size_is_confirmed_or_not(void **state)
{
	static const struct {
		bool whole;
		uint64_t last, total;
		bool confirms;
	} sizes[] = {
		{ false, 199, 1000, true },	    { false, 199, UINT64_MAX, false },
		{ false, 999, UINT64_MAX, true },   { false, 998, UINT64_MAX, false },
		{ false, 1000, UINT64_MAX, false }, { true, 0, 0, true },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(sizes); i++) {
		const struct request q = {
			.total = 1000,
			.whole = sizes[i].whole,
			.x.answer = { .last = sizes[i].last, .total = sizes[i].total },
		};

		if (range_confirms_size(&q) != sizes[i].confirms)
			fail_msg("row %zu", i);
	}
}

/* ---- how much ---- */

enum { KIB = 1024 };

static const struct {
	uint64_t first, last, most, asked;
} lasts[] = {
	{ 0, 99, 0, 99 },   { 0, 99, 1, 0 },	{ 0, 99, 99, 98 },
	{ 0, 99, 100, 99 }, { 0, 99, 101, 99 }, { 50, 99, 10, 59 },
	{ 50, 99, 50, 99 }, { 99, 99, 1, 99 },	{ 0, UINT64_MAX - 1, 0, UINT64_MAX - 1 },
};

static void no_more_is_asked_for_than_that(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(lasts); i++) {
		struct request q = { .first = lasts[i].first,
				     .last = lasts[i].last,
				     .most = lasts[i].most };

		if (range_last(&q) != lasts[i].asked)
			fail_msg("row %zu: %" PRIu64, i, range_last(&q));
	}
}

/* What an answer that was cut brought, and how much is asked for at once then: half of it in steps
 * of 16 KiB. */
static const struct {
	uint64_t got, most;
} cuts[] = {
	{ 1, 16 * KIB },	   { 16 * KIB, 16 * KIB },     { 64 * KIB - 1, 16 * KIB },
	{ 64 * KIB, 32 * KIB },	   { 96 * KIB - 2, 32 * KIB }, { 96 * KIB, 48 * KIB },
	{ 1024 * KIB, 512 * KIB },
};

static void less_is_asked_for_after_a_cut(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(cuts); i++) {
		struct request q = { .most = 7, .x = { .received = cuts[i].got } };

		range_ask_less(&q);
		if (q.most != cuts[i].most)
			fail_msg("%" PRIu64 ": %" PRIu64, cuts[i].got, q.most);
		/* a whole blob that was cut says nothing, nor does one that brought nothing */
		q.most = 7;
		q.whole = true;
		range_ask_less(&q);
		assert_int_equal(q.most, 7);
	}
	struct request none = { .most = 7 };

	range_ask_less(&none);
	assert_int_equal(none.most, 7);
}

static void more_is_asked_for_after_a_good_one(void **state)
{
	static const struct {
		uint64_t most, then;
	} steps[] = {
		{ 0, 0 },
		{ 1, 2 },
		{ 16 * KIB, 32 * KIB },
		{ UINT64_MAX / 2, UINT64_MAX - 1 },
		{ UINT64_MAX / 2 + 1, 0 },
		{ UINT64_MAX, 0 },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(steps); i++) {
		struct request q = { .most = steps[i].most };

		range_ask_more(&q);
		assert_true(q.most == steps[i].then);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(answers_are_judged),
		cmocka_unit_test(a_size_is_confirmed_or_not),
		cmocka_unit_test(no_more_is_asked_for_than_that),
		cmocka_unit_test(less_is_asked_for_after_a_cut),
		cmocka_unit_test(more_is_asked_for_after_a_good_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
