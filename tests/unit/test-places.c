/* SPDX-License-Identifier: Apache-2.0 */
/* test-places.c - which endpoint is asked next, and when, as tables over what is known of each. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/places.h"
#include "fetch/queue.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { NOW = 100 * 1000, PLACES = 3, NONE = ENDPOINTS_MAX };

/* ms: so much later than now. */
#define T(ms) (NOW + (uint64_t)(ms))
#define NEVER CLOCK_NEVER

struct endpoint_list *__wrap_queue_endpoints(struct queue *k);
uint64_t __wrap_auth_rests_until(const struct auth *a);

static struct endpoint_list list;
static struct endpoint items[PLACES];
static uint64_t rests[PLACES]; /* each place's auth is an entry of it */

struct endpoint_list *__wrap_queue_endpoints(struct queue *k)
{
	return &list;
}

uint64_t __wrap_auth_rests_until(const struct auth *a)
{
	return *(const uint64_t *)(const void *)a;
}

static uint64_t now_us(void)
{
	return NOW * UINT64_C(1000);
}

static const struct clock_ops clock_of_test = { .now_us = now_us };

struct place {
	bool unused;
	uint64_t bad, asked, login; /* until when */
};

static struct request make(const struct place *places, size_t count, uint64_t deadline,
			   uint64_t retry_until)
{
	struct request q = { .rather = NONE, .retry_until = retry_until ? retry_until : NEVER };
	size_t i;

	atomic_init(&q.deadline, deadline ? deadline : NEVER);
	list = (struct endpoint_list){ .items = items, .count = count };
	for (i = 0; i < count; i++) {
		rests[i] = places[i].login;
		items[i] = (struct endpoint){ .unused = places[i].unused,
					      .bad_until = places[i].bad,
					      .asked_until = places[i].asked,
					      .auth = (struct auth *)(void *)&rests[i] };
	}
	return q;
}

static const struct {
	const char *what;
	size_t count;
	struct place places[PLACES];
	uint32_t failed, final, avoid;
	unsigned rather; /* + 1; 0: none */
	uint32_t worst;
	bool desperate;
	uint64_t deadline, retry_until; /* 0: never */
	uint64_t avoid_until; /* as an earlier call has found it */
	int chosen;
	uint64_t first; /* when one is worth asking */
} rows[] = {
	{ "one", 1, { { 0 } }, .chosen = 0, .first = 0 },
	{ "the first of three", 3, { { 0 } }, .chosen = 0, .first = 0 },
	{ "one has failed", 3, { { 0 } }, .failed = 1, .chosen = 1 },
	{ "two have failed", 3, { { 0 } }, .failed = 3, .chosen = 2 },
	{ "all have failed", 3, { { 0 } }, .failed = 7, .chosen = -1 },
	{ "one is final", 2, { { 0 } }, .final = 1, .chosen = 1 },
	{ "both are final", 2, { { 0 } }, .final = 3, .chosen = -1, .first = NEVER },
	{ "one is unused", 2, { { .unused = true } }, .chosen = 1 },
	{ "final and unused", 2, { { .unused = true } }, .final = 2, .chosen = -1, .first = NEVER },
	{ "unused and asked",
	  2,
	  { { .unused = true, .asked = T(5) }, { .asked = T(9) } },
	  .chosen = -1,
	  .first = T(9) },
	{ "final and asked",
	  2,
	  { { .asked = T(5) }, { .asked = T(9) } },
	  .final = 1,
	  .chosen = -1,
	  .first = T(9) },
	/* left alone */
	{ "bad", 2, { { .bad = T(1) } }, .chosen = 1 },
	{ "bad until now", 2, { { .bad = T(0) } }, .chosen = 0 },
	{ "both are bad", 2, { { .bad = T(1) }, { .bad = T(1) } }, .chosen = -1 },
	{ "both are bad, and waiting is over",
	  2,
	  { { .bad = T(1) }, { .bad = T(1) } },
	  .desperate = true,
	  .chosen = 0 },
	{ "asked", 2, { { .asked = T(1) } }, .chosen = 1 },
	{ "asked, though waiting is over",
	  2,
	  { { .asked = T(1) } },
	  .desperate = true,
	  .chosen = 1 },
	{ "asked until now",
	  2,
	  { { .asked = T(0) }, { .asked = T(1) } },
	  .chosen = 0,
	  .first = T(0) },
	{ "asked alone", 1, { { .asked = T(50) } }, .chosen = -1, .first = T(50) },
	{ "asked for all the time", 1, { { .asked = T(50) } }, .deadline = T(50), .chosen = 0 },
	{ "asked for more than all", 1, { { .asked = T(51) } }, .deadline = T(50), .chosen = 0 },
	{ "asked for almost all",
	  1,
	  { { .asked = T(50) } },
	  .deadline = T(51),
	  .chosen = -1,
	  .first = T(50) },
	{ "asked for all tries",
	  1,
	  { { .asked = T(50) } },
	  .deadline = T(99),
	  .retry_until = T(50),
	  .chosen = 0 },
	{ "asked for almost all tries",
	  1,
	  { { .asked = T(50) } },
	  .retry_until = T(51),
	  .chosen = -1,
	  .first = T(50) },
	{ "the sooner one",
	  3,
	  { { .asked = T(40) }, { .asked = T(20) }, { .asked = T(30) } },
	  .chosen = -1,
	  .first = T(20) },
	/* a login that rests; who asks is told so */
	{ "no login", 1, { { .login = T(30) } }, .chosen = 0, .first = T(30) },
	{ "no login for all the time", 1, { { .login = T(30) } }, .deadline = T(30), .chosen = 0 },
	{ "no login for almost all",
	  1,
	  { { .login = T(30) } },
	  .deadline = T(31),
	  .chosen = 0,
	  .first = T(30) },
	{ "no login for all tries", 1, { { .login = T(30) } }, .retry_until = T(30), .chosen = 0 },
	{ "no login, later asked",
	  1,
	  { { .asked = T(10), .login = T(30) } },
	  .chosen = -1,
	  .first = T(30) },
	{ "asked, later no login",
	  1,
	  { { .asked = T(40), .login = T(30) } },
	  .chosen = -1,
	  .first = T(40) },
	/* to avoid */
	{ "another first", 2, { { 0 } }, .avoid = 1, .chosen = 1 },
	{ "nobody else", 1, { { 0 } }, .avoid = 1, .chosen = 0 },
	{ "the other is final", 2, { { 0 } }, .avoid = 1, .final = 2, .chosen = 0 },
	{ "the other is unused", 2, { { 0 }, { .unused = true } }, .avoid = 1, .chosen = 0 },
	{ "the other has failed", 2, { { 0 } }, .avoid = 1, .failed = 2, .chosen = -1 },
	{ "10 s at most",
	  2,
	  { { 0 }, { .asked = T(20000) } },
	  .avoid = 1,
	  .chosen = -1,
	  .first = T(10000) },
	{ "half of 20 s",
	  2,
	  { { 0 }, { .asked = T(19000) } },
	  .avoid = 1,
	  .deadline = T(19998),
	  .chosen = -1,
	  .first = T(9999) },
	{ "half of more",
	  2,
	  { { 0 }, { .asked = T(19000) } },
	  .avoid = 1,
	  .deadline = T(20002),
	  .chosen = -1,
	  .first = T(10000) },
	{ "half of the tries",
	  2,
	  { { 0 }, { .asked = T(90) } },
	  .avoid = 1,
	  .deadline = T(900),
	  .retry_until = T(100),
	  .chosen = -1,
	  .first = T(50) },
	{ "half of 2 ms",
	  2,
	  { { 0 }, { .bad = T(9) } },
	  .avoid = 1,
	  .deadline = T(2),
	  .chosen = -1 },
	{ "half of 1 ms",
	  2,
	  { { 0 }, { .bad = T(9) } },
	  .avoid = 1,
	  .deadline = T(1),
	  .chosen = 0 },
	{ "no time", 2, { { 0 }, { .bad = T(9) } }, .avoid = 1, .deadline = T(0), .chosen = 0 },
	{ "late", 2, { { 0 }, { .bad = T(9) } }, .avoid = 1, .deadline = NOW - 10, .chosen = 0 },
	{ "as was found",
	  2,
	  { { 0 }, { .asked = T(90) } },
	  .avoid = 1,
	  .avoid_until = T(70),
	  .deadline = T(100),
	  .chosen = -1,
	  .first = T(70) },
	{ "it is over",
	  2,
	  { { 0 }, { .asked = T(90) } },
	  .avoid = 1,
	  .avoid_until = T(0),
	  .deadline = T(100),
	  .chosen = 0,
	  .first = T(0) },
	{ "both are avoided",
	  2,
	  { { .asked = T(30) }, { .asked = T(20) } },
	  .avoid = 3,
	  .chosen = -1,
	  .first = T(20) },
	/* of those to avoid, this one first */
	{ "rather the second", 3, { { 0 } }, .avoid = 7, .rather = 1 + 1, .chosen = 1 },
	{ "rather the first", 3, { { 0 } }, .avoid = 7, .rather = 0 + 1, .chosen = 0 },
	{ "rather the last", 3, { { 0 } }, .avoid = 7, .rather = 2 + 1, .chosen = 2 },
	{ "rather one that has failed",
	  3,
	  { { 0 } },
	  .avoid = 7,
	  .failed = 2,
	  .rather = 1 + 1,
	  .chosen = 0 },
	{ "a good one, when the others are no longer waited for",
	  2,
	  { { 0 } },
	  .avoid = 2,
	  .avoid_until = T(0),
	  .rather = 1 + 1,
	  .chosen = 0 },
	{ "none of them rather", 3, { { 0 } }, .avoid = 7, .failed = 1, .chosen = 1 },
	{ "the worst last", 3, { { 0 } }, .avoid = 7, .worst = 1, .chosen = 1 },
	{ "the worst last, and one is final",
	  3,
	  { { 0 } },
	  .avoid = 7,
	  .worst = 1,
	  .final = 4,
	  .rather = 2 + 1,
	  .chosen = 1 },
	{ "only the worst is left",
	  3,
	  { { 0 } },
	  .avoid = 7,
	  .worst = 1,
	  .failed = 6,
	  .chosen = 0 },
};

static void a_place_is_chosen(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct request q =
			make(rows[i].places, rows[i].count, rows[i].deadline, rows[i].retry_until);
		uint64_t first;
		int chosen;

		q.failed = rows[i].failed;
		q.final = rows[i].final;
		q.avoid = rows[i].avoid;
		q.rather = rows[i].rather ? rows[i].rather - 1 : NONE;
		q.worst = rows[i].worst;
		q.desperate = rows[i].desperate;
		q.avoid_until = rows[i].avoid_until;
		chosen = places_choose(&q);
		if (chosen != rows[i].chosen)
			fail_msg("%s: %d", rows[i].what, chosen);
		q.avoid_until = rows[i].avoid_until;
		first = places_first_worth_asking(&q, NOW);
		if (first != rows[i].first)
			fail_msg("%s: at %" PRId64, rows[i].what, (int64_t)(first - NOW));
	}
}

static void others_are_counted(void **state)
{
	static const struct {
		size_t count, place;
		uint32_t final, unused;
		bool others, all_are_final;
	} counts[] = {
		{ 1, 0, 0, 0, false, false }, { 1, 0, 1, 0, false, true },
		{ 1, 0, 0, 1, false, true },  { 2, 0, 0, 0, true, false },
		{ 2, 1, 0, 0, true, false },  { 2, 0, 2, 0, false, false },
		{ 2, 0, 1, 0, true, false },  { 2, 0, 0, 2, false, false },
		{ 2, 1, 0, 1, false, false }, { 2, 1, 3, 0, false, true },
		{ 3, 1, 5, 0, false, false }, { 3, 1, 1, 4, false, false },
		{ 3, 1, 3, 0, true, false },  { 3, 0, 3, 4, false, true },
		{ 3, 2, 0, 1, true, false },
	};
	size_t i, k;

	for (i = 0; i < COUNT_OF(counts); i++) {
		struct place places[PLACES] = { { 0 } };
		struct request q;

		for (k = 0; k < PLACES; k++)
			places[k].unused = counts[i].unused >> k & 1;
		q = make(places, counts[i].count, 0, 0);
		q.place = counts[i].place;
		q.final = counts[i].final;
		if (places_has_others(&q) != counts[i].others ||
		    places_all_are_final(&q) != counts[i].all_are_final)
			fail_msg("row %zu", i);
	}
}

static void silence_is_borne(void **state)
{
	static const struct {
		size_t count;
		uint64_t deadline, retry_until;
		unsigned silence;
		bool sends;
		unsigned seconds;
	} silences[] = {
		{ 1, 0, 0, 0, false, 10 },
		{ 1, T(8000), 0, 0, false, 10 },
		{ 1, T(8000), 0, 300, false, 300 },
		{ 2, 0, 0, 0, false, 10 },
		{ 2, 0, 0, 7, false, 7 },
		{ 2, T(8000), 0, 0, false, 4 },
		{ 2, T(7999), 0, 0, false, 3 },
		{ 2, T(20000), 0, 0, false, 10 },
		{ 2, T(22000), 0, 0, false, 10 },
		{ 2, T(30000), 0, 300, false, 15 },
		{ 2, T(8000), 0, 3, false, 3 },
		{ 2, T(8000), 0, 0, true, 10 },
		{ 2, T(8000), 0, 300, true, 300 },
		{ 2, 0, T(6000), 0, false, 3 },
		{ 2, T(8000), T(6000), 0, false, 3 },
		{ 2, T(8000), T(16000), 0, false, 4 },
		{ 2, T(2000), 0, 0, false, 1 },
		{ 2, T(1999), 0, 0, false, 1 },
		{ 2, T(1), 0, 0, false, 1 },
		{ 2, T(0), 0, 0, false, 10 },
		{ 2, NOW - 5000, 0, 0, false, 10 },
	};
	struct place places[PLACES] = { { 0 } };
	struct source body;
	size_t i;

	for (i = 0; i < COUNT_OF(silences); i++) {
		struct request q = make(places, silences[i].count, silences[i].deadline,
					silences[i].retry_until);

		q.silence = silences[i].silence;
		q.body = silences[i].sends ? &body : NULL;
		if (places_silence(&q) != silences[i].seconds)
			fail_msg("row %zu: %u s", i, places_silence(&q));
	}
}

/* One that nobody logs in at. */
static void a_place_may_have_no_login(void **state)
{
	struct place places[PLACES] = { { .login = T(30) } };
	struct request q = make(places, 1, 0, 0);

	items[0].auth = NULL;
	assert_true(places_first_worth_asking(&q, NOW) == 0);
}

static int set_up(void **state)
{
	clock_use(&clock_of_test);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_place_is_chosen),
		cmocka_unit_test(others_are_counted),
		cmocka_unit_test(silence_is_borne),
		cmocka_unit_test(a_place_may_have_no_login),
	};

	return cmocka_run_group_tests(tests, set_up, NULL);
}
