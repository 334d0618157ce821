/* SPDX-License-Identifier: Apache-2.0 */
/* Where a request goes: redirects, what is remembered of them, places that are left alone or
 * avoided, logins. */
#include "tests/unit/asking.h"

/* ---- redirects ---- */

static void test_redirects(void **state)
{
	static const struct row rows[] = {
		{ .what = "to a store",
		  .steps = { SAYS(0, "e0", "307|Location: https://t.test/x?sig=1"),
			     GOOD(0, "t.test/x?sig=1") } },
		{ .what = "301, 302, 303, 308, a path alone",
		  .steps = { SAYS(0, "e0", "301|Location: /a"),
			     SAYS(0, "e0.test/a", "302|Location: b"),
			     SAYS(0, "e0.test/b", "303|Location: ../c"),
			     SAYS(0, "e0.test/c", "308|Location: //t.test/d"),
			     GOOD(0, "t.test/d") } },
		{ .what = "nowhere",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "307"), GOOD(0, "e1") } },
		{ .what = "out of TLS",
		  .steps = { SAYS(0, "e0", "307|Location: http://t.test/x") },
		  .r = -EPROTO,
		  .text = "redirect refused" },
		{ .what = "304 and 300 are none",
		  .steps = { SAYS(0, "e0", "300|Location: /a") },
		  .r = -EIO },
		{ .what = "round and round",
		  .steps = { SAYS(0, "e0", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a") },
		  .r = -ELOOP,
		  .text = "too many redirects" },
		{ .what = "the store at the end of a long way refuses: asked anew",
		  .steps = { SAYS(0, "e0", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: https://t.test/x"),
			     SAYS(0, "t.test/x", "403"), GOOD(50, "e0") } },
		{ .what = "the way was too long for that",
		  .steps = { SAYS(0, "e0", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: /a"),
			     SAYS(0, "e0.test/a", "307|Location: https://t.test/x"),
			     SAYS(0, "t.test/x", "403") },
		  .r = -EACCES,
		  .text = "redirected to t.test: HTTP 403" },
		{ .what = "a store that fails",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "307|Location: https://t.test/x"),
			     FAILS(0, "t.test/x", ECONNRESET), GOOD(0, "e1") } },
		{ .what = "a store that refuses: the place is asked anew",
		  .steps = { SAYS(0, "e0", "307|Location: https://t.test/x"),
			     SAYS(0, "t.test/x", "403"),
			     SAYS(50, "e0", "307|Location: https://t.test/y"),
			     GOOD(0, "t.test/y") } },
		{ .what = "a store that is busy",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "307|Location: https://t.test/x"),
			     SAYS(0, "t.test/x", "503"), GOOD(0, "e1") } },
	};

	RUN(rows);
}

/* What is signed for GET refuses HEAD, also the next time. */
static void test_head_refused(void **state)
{
	static const struct row row = { .what = "HEAD",
					.steps = { SAYS(0, "e0", "307|Location: https://t.test/x"),
						   SAYS(0, "t.test/x", "403") },
					.r = -EACCES,
					.text = "e0.test: redirected to t.test: HTTP 403" };
	struct test t;

	begin(&t, 1, false);
	t.q.method = "HEAD";
	t.q.ranged = false;
	request_submit(&t.q);
	play(&t, &row);
	end(&t);
}

/* Where it led is remembered, until it fails there. */
static void test_remembered(void **state)
{
	static const struct row rows[] = {
		{ .what = "found",
		  .steps = { SAYS(0, "e0", "307|Location: https://t.test/1"),
			     GOOD(0, "t.test/1") } },
		{ .what = "remembered", .steps = { GOOD(0, "t.test/1") } },
		{ .what = "run out: no failure of the place",
		  .steps = { SAYS(0, "t.test/1", "403"),
			     SAYS(0, "e0", "307|Location: https://t.test/2"),
			     GOOD(0, "t.test/2") } },
		{ .what = "fails: another try begins at the place",
		  .steps = { FAILS(0, "t.test/2", ECONNRESET),
			     SAYS(50, "e0", "307|Location: https://t.test/3"),
			     GOOD(0, "t.test/3") } },
		{ .what = "remembered again", .steps = { GOOD(0, "t.test/3") } },
	};
	struct test t;
	size_t i;

	begin(&t, 1, false);
	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		play_next(&t, &rows[i]);
	end(&t);
}

/* A place that could not be reached is left alone for a while, which grows; when nobody else is
 * left it is asked all the same. */
static void test_left_alone(void **state)
{
	static const struct row first = { .what = "fails",
					  .places = 2,
					  .steps = { FAILS(0, "e0", ECONNREFUSED),
						     GOOD(0, "e1") } };
	static const struct row second = { .what = "left alone", .steps = { GOOD(0, "e1") } };
	static const struct row third = { .what = "its turn", .steps = { GOOD(0, "e0") } };
	static const struct row desperate = {
		.what = "nobody else", .steps = { FAILS(0, "e1", ECONNRESET), GOOD(50, "e0") }
	};
	struct test t;

	begin(&t, 2, false);
	play_next(&t, &first);
	stage_pass(249);
	play_next(&t, &second);
	stage_pass(1);
	play_next(&t, &first); /* for 500 ms now */
	stage_pass(499);
	play_next(&t, &second);
	play_next(&t, &desperate);
	play_next(&t, &third);
	end(&t);
}

/* Another request was told to come back later: this one, which rests for longer with each failure,
 * asks when that time is over, and does not rest anew. */
static void test_asked_to_wait(void **state)
{
	struct test t;
	uint64_t told;
	unsigned i;

	begin(&t, 1, false);
	request_submit(&t.q);
	for (i = 0; i < 8; i++)
		stage_answer(stage_next(), "500", 0, 0);
	told = stage_ms();
	endpoint_asked(&t.list.items[0], 4);
	assert_non_null(stage_next());
	assert_int_equal(stage_ms(), told + 4000);
	stage_answer(stage.running[0], PART, 100, 0);
	assert_true(t.done);
	end(&t);
}

/* ---- logins ---- */

static void test_logins(void **state)
{
	static const struct row rows[] = {
		{ .what = "a password",
		  .logins = true,
		  .steps = { SAYS(0, "e0", "401|WWW-Authenticate: Basic realm=\"x\""),
			     { .at = "e0",
			       .head = PART,
			       .body = 100,
			       .login = "Basic dXNlcjpzZWNyZXQ=" } } },
		{ .what = "none goes to where it redirects",
		  .logins = true,
		  .steps = { SAYS(0, "e0", "401|WWW-Authenticate: Basic realm=\"x\""),
			     { .at = "e0",
			       .head = "307|Location: https://t.test/x",
			       .login = "Basic dXNlcjpzZWNyZXQ=" },
			     GOOD(0, "t.test/x") } },
		{ .what = "nor to another place",
		  .logins = true,
		  .places = 2,
		  .steps = { SAYS(0, "e0", "500"),
			     SAYS(0, "e1", "401|WWW-Authenticate: Basic realm=\"x\""),
			     { .at = "e1", .head = "500", .login = "Basic dXNlcjpzZWNyZXQ=" },
			     GOOD(50, "e0") } },
		{ .what = "a 401 of an earlier round is no second one in a row",
		  .logins = true,
		  .steps = { SAYS(0, "e0", "401|WWW-Authenticate: Basic realm=\"x\""),
			     { .at = "e0", .head = "500", .login = "Basic dXNlcjpzZWNyZXQ=" },
			     { .after = 50,
			       .at = "e0",
			       .head = "401|WWW-Authenticate: Basic realm=\"x\"",
			       .login = "Basic dXNlcjpzZWNyZXQ=" },
			     { .at = "e0",
			       .head = PART,
			       .body = 100,
			       .login = "Basic dXNlcjpzZWNyZXQ=" } } },
		{ .what = "a refused one, at open",
		  .logins = true,
		  .opening = true,
		  .steps = { SAYS(0, "e0", "401|WWW-Authenticate: Basic realm=\"x\""),
			     { .at = "e0",
			       .head = "401|WWW-Authenticate: Basic realm=\"x\"",
			       .login = "Basic dXNlcjpzZWNyZXQ=" } },
		  .r = -EACCES,
		  .text = "user 'user'" },
	};

	RUN(rows);
}

/* A login that fails is left alone for longer each time, and whoever waits for it goes on when that
 * is over, not after a rest of its own. */
static void test_login_paused(void **state)
{
	struct http_exchange *x;
	uint64_t then = 0, pause = 200;
	struct test t;
	unsigned i;

	begin(&t, 1, false);
	request_submit(&t.q);
	for (i = 0; i < 10; i++) {
		x = stage_next();
		assert_non_null(strstr(x->url, "e0.test"));
		if (i > 0)
			assert_int_equal(stage_ms() - then, pause);
		if (i > 0 && pause < 6400)
			pause *= 2;
		stage_answer(x, "401|WWW-Authenticate: Bearer realm=\"https://k.test/t\"", 0, 0);
		x = stage_next();
		assert_non_null(strstr(x->url, "k.test"));
		then = stage_ms();
		stage_answer(x, "503", 0, 0);
	}
	stage_answer(stage_next(), PART, 100, 0);
	assert_true(t.done);
	end(&t);
}

/* A place whose bytes were wrong is asked last, and others are waited for. */
static void test_avoided(void **state)
{
	static const struct row rows[] = {
		{ .what = "another first", .places = 2, .avoid = 1, .steps = { GOOD(0, "e1") } },
		{ .what = "the other is final",
		  .places = 2,
		  .avoid = 1,
		  .steps = { SAYS(0, "e1", "404"), GOOD(0, "e0") } },
		{ .what = "the only one", .avoid = 1, .steps = { GOOD(0, "e0") } },
		{ .what = "the other is waited for",
		  .places = 2,
		  .avoid = 1,
		  .steps = { SAYS(0, "e1", "500"), GOOD(50, "e1") } },
		{ .what = "the other wants more than half of the time",
		  .places = 2,
		  .avoid = 1,
		  .deadline = 4090,
		  .steps = { SAYS(0, "e1", "503|Retry-After: 3"), GOOD(2045, "e0") } },
		{ .what = "not asked while the other one rests",
		  .places = 2,
		  .avoid = 1,
		  .steps = { SAYS(0, "e1", "500"), SAYS(50, "e1", "500"), SAYS(100, "e1", "500"),
			     SAYS(200, "e1", "500"), SAYS(400, "e1", "503|Retry-After: 7"),
			     GOOD(7000, "e1") } },
		{ .what = "for 10 s in all",
		  .places = 2,
		  .avoid = 1,
		  .steps = { SAYS(0, "e1", "500"), SAYS(50, "e1", "500"), SAYS(100, "e1", "500"),
			     SAYS(200, "e1", "500"), SAYS(400, "e1", "503|Retry-After: 60"),
			     GOOD(9250, "e0") } },
		{ .what = "for half of the time to open",
		  .places = 2,
		  .avoid = 1,
		  .opening = true,
		  .steps = { SAYS(0, "e1", "500"), SAYS(50, "e1", "500"), SAYS(100, "e1", "500"),
			     SAYS(200, "e1", "500"), SAYS(400, "e1", "503|Retry-After: 9"),
			     GOOD(4250, "e0") } },
		{ .what = "for half of the time there is",
		  .places = 2,
		  .avoid = 1,
		  .deadline = 6000,
		  .steps = { SAYS(0, "e1", "500"), SAYS(50, "e1", "500"), SAYS(100, "e1", "500"),
			     SAYS(200, "e1", "500"), SAYS(400, "e1", "503|Retry-After: 4"),
			     GOOD(2250, "e0") } },
	};

	RUN(rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_redirects),     cmocka_unit_test(test_remembered),
		cmocka_unit_test(test_head_refused),  cmocka_unit_test(test_left_alone),
		cmocka_unit_test(test_logins),	      cmocka_unit_test(test_avoided),
		cmocka_unit_test(test_asked_to_wait), cmocka_unit_test(test_login_paused),
	};

	setenv("HOME", "/nonexistent", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
