/* SPDX-License-Identifier: Apache-2.0 */
/* test-inquiry.c - a small question: what is sent, where redirects lead and what goes along, how
 * much of an answer is taken and for how long it is waited, and that no secret stays behind. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/inquiry.h"
#include "tests/unit/fenced_secrets.h"
#include "tests/unit/stage.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define URL "https://reg.io/t"
#define NO_REDIRECT                                                                                \
	"redirect refused: the Location is missing, malformed, not http(s), or leaves TLS"
#define NO_FORM "it redirects a form with a token to another host, to which none is sent"

static const struct http_route plain = {
	.proxy = "proxy",
	.ca = "ca",
	.cert = "cert",
	.key = "key",
	.unix_socket = "socket",
	.user_agent = "agent",
};

static struct http_route route;
static struct inquiry q;
static unsigned told; /* how often it has ended */
static int told_r;
static char told_why[1024];
static const char *next; /* asked from `done` */

static char *copy(const char *text)
{
	return text ? strdup(text) : NULL;
}

static void ask(const char *url, const char *authorization, const char *form, bool own)
{
	struct err e;

	assert_int_equal(inquiry_begin(&q, copy(url), copy(authorization), copy(form), own, &e), 0);
}

static void on_done(struct inquiry *done, int r, const struct err *e)
{
	assert_ptr_equal(done, &q);
	told++;
	told_r = r;
	snprintf(told_why, sizeof told_why, "%s", r < 0 ? e->msg : "");
	if (next) {
		ask(next, NULL, NULL, false);
		next = NULL;
	}
}

static void open_stage(void)
{
	stage_open();
	route = plain;
	q = (struct inquiry){ .http = stage.http, .route = &route, .done = on_done };
	told = 0;
	next = NULL;
}

static void close_stage(void)
{
	inquiry_cancel(&q);
	assert_null(q.text);
	assert_int_equal(q.n, 0);
	assert_int_equal(stage.count, 0);
	/* Nothing of it is left in the engine. */
	assert_true(stage_run() == CLOCK_NEVER);
	stage_close();
}

static void answer(const char *lines, const char *body)
{
	struct http_exchange *x = stage_next();

	assert_non_null(x);
	assert_true(stage_head(x, lines));
	if (body)
		assert_true(http_heard_bytes(x, body, strlen(body)));
	stage_end(x, 0);
	(void)stage_run();
}

static bool is_away(const struct http_route *r)
{
	return r != &route && r->proxy == route.proxy && r->ca == route.ca && !r->cert && !r->key &&
	       !r->unix_socket && r->user_agent == route.user_agent &&
	       r->unchecked == route.unchecked;
}

static void expect_same(const char *got, const char *wanted)
{
	assert_string_equal(got ? got : "(none)", wanted ? wanted : "(none)");
}

static void a_question_is_sent(void **state)
{
	static const struct {
		const char *authorization, *form;
		bool own, unchecked;
	} rows[] = {
		{ NULL, NULL, true, false },
		{ "Basic x", NULL, false, false },
		{ NULL, "a=b", false, true },
		{ "Basic x", "a=b", true, true },
	};
	char sent[8] = "";
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct http_exchange *x;

		open_stage();
		route.unchecked = rows[i].unchecked;
		ask(URL, rows[i].authorization, rows[i].form, rows[i].own);
		x = stage_next();
		assert_ptr_equal(x, &q.x);
		assert_string_equal(x->method, rows[i].form ? "POST" : "GET");
		assert_string_equal(x->url, URL);
		expect_same(x->authorization, rows[i].authorization);
		assert_string_equal(x->accept, "application/json");
		expect_same(x->content_type,
			    rows[i].form ? "application/x-www-form-urlencoded" : NULL);
		assert_true(rows[i].own ? x->route == &route : is_away(x->route));
		assert_true(!x->ranged && !x->referer && !x->if_none_match);
		assert_int_equal(x->silence, 0);
		if (rows[i].form) {
			assert_int_equal(x->body->size, 3);
			assert_int_equal(source_pread(x->body, sent, 3, 0, NULL), 0);
			assert_string_equal(sent, "a=b");
		} else {
			assert_null(x->body);
		}
		assert_int_equal(told, 0);
		assert_true(stage_head(x, "200"));
		assert_true(http_heard_bytes(x, "hel", 3));
		assert_true(http_heard_bytes(x, "lo", 2));
		assert_string_equal(q.text, "hello");
		stage_end(x, 0);
		(void)stage_run();
		assert_int_equal(told, 1);
		assert_int_equal(told_r, 0);
		assert_int_equal(q.x.answer.status, 200);
		assert_string_equal(q.text, "hello");
		assert_int_equal(q.n, 5);
		/* what was asked is gone, the answer stays until the next one */
		assert_true(!q.url && !q.authorization && !q.form && !q.form_source);
		close_stage();
	}
}

/* ---- redirects ---- */

static const struct {
	const char *what;
	const char *url, *form;
	bool unchecked;
	const char *answer;
	const char *to; /* NULL: it ends there */
	bool named; /* the password goes along */
	bool own; /* by the host's own route */
	int r; /* where it ends */
	const char *why;
} redirects[] = {
	{ "301", URL, NULL, false, "301|Location: /u", "https://reg.io/u", true, true, 0, "" },
	{ "302", URL, NULL, false, "302|Location: u", "https://reg.io/u", true, true, 0, "" },
	{ "303", URL, NULL, false, "303|Location: ?x", "https://reg.io/t?x", true, true, 0, "" },
	{ "307", URL, NULL, false, "307|Location: ./u", "https://reg.io/u", true, true, 0, "" },
	{ "308", URL, NULL, false, "308|Location: //REG.io:443/u", "https://REG.io:443/u", true,
	  true, 0, "" },
	{ "300", URL, NULL, false, "300|Location: /u", NULL, false, false, 0, "" },
	{ "304", URL, NULL, false, "304|Location: /u", NULL, false, false, 0, "" },
	{ "305", URL, NULL, false, "305|Location: /u", NULL, false, false, 0, "" },
	{ "306", URL, NULL, false, "306|Location: /u", NULL, false, false, 0, "" },
	{ "309", URL, NULL, false, "309|Location: /u", NULL, false, false, 0, "" },
	{ "200", URL, NULL, false, "200|Location: /u", NULL, false, false, 0, "" },
	{ "another port", URL, NULL, false, "307|Location: https://reg.io:1/u",
	  "https://reg.io:1/u", true, false, 0, "" },
	{ "into TLS", "http://reg.io/t", NULL, false, "307|Location: https://reg.io/u",
	  "https://reg.io/u", true, false, 0, "" },
	{ "into TLS elsewhere", "http://reg.io/t", NULL, false, "307|Location: https://a.io/u",
	  "https://a.io/u", false, false, 0, "" },
	{ "another port without TLS", "http://reg.io/t", NULL, false,
	  "307|Location: http://reg.io:1/u", "http://reg.io:1/u", false, false, 0, "" },
	{ "the same without TLS", "http://reg.io/t", NULL, false, "307|Location: http://reg.io/u",
	  "http://reg.io/u", true, true, 0, "" },
	{ "another host", URL, NULL, false, "307|Location: https://a.io/u", "https://a.io/u", false,
	  false, 0, "" },
	{ "out of TLS", URL, NULL, false, "307|Location: http://reg.io/u", NULL, false, false,
	  -EPROTO, NO_REDIRECT },
	{ "out of TLS unchecked", URL, NULL, true, "307|Location: http://reg.io/u",
	  "http://reg.io/u", false, false, 0, "" },
	{ "nowhere", URL, NULL, false, "307", NULL, false, false, -EPROTO, NO_REDIRECT },
	{ "no http", URL, NULL, false, "307|Location: ftp://reg.io", NULL, false, false, -EPROTO,
	  NO_REDIRECT },
	{ "a form", URL, "a=b", false, "307|Location: /u", "https://reg.io/u", true, true, 0, "" },
	{ "a form to another port", URL, "a=b", false, "301|Location: https://reg.io:1/u",
	  "https://reg.io:1/u", true, false, 0, "" },
	{ "a form to another host", URL, "a=b", false, "307|Location: https://a.io/u", NULL, false,
	  false, -EPROTO, NO_FORM },
	{ "a form out of TLS", URL, "a=b", true, "307|Location: http://reg.io/u", NULL, false,
	  false, -EPROTO, NO_FORM },
};

static void redirects_lead_on(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(redirects); i++) {
		struct http_exchange *x;

		print_message("%s\n", redirects[i].what);
		open_stage();
		route.unchecked = redirects[i].unchecked;
		ask(redirects[i].url, "Basic x", redirects[i].form, true);
		answer(redirects[i].answer, "page");
		if (redirects[i].to) {
			assert_int_equal(told, 0);
			x = stage_next();
			assert_non_null(x);
			assert_null(q.text); /* the page is forgotten */
			assert_int_equal(q.n, 0);
			assert_string_equal(x->url, redirects[i].to);
			expect_same(x->authorization, redirects[i].named ? "Basic x" : NULL);
			assert_true(redirects[i].own ? x->route == &route : is_away(x->route));
			assert_string_equal(x->method, redirects[i].form ? "POST" : "GET");
			assert_true(!x->body == !redirects[i].form);
			assert_true(stage_head(x, "200"));
			stage_end(x, 0);
			(void)stage_run();
			assert_null(q.text);
		}
		assert_int_equal(told, 1);
		assert_int_equal(told_r, redirects[i].r);
		assert_string_equal(told_why, redirects[i].why);
		close_stage();
	}
}

/* A host that was left is not spoken to by its own route again, nor with the password. */
static void what_was_left_behind_stays_there(void **state)
{
	struct http_exchange *x;

	open_stage();
	ask(URL, "Basic x", NULL, true);
	answer("307|Location: https://a.io/u", NULL);
	answer("307|Location: https://reg.io/t", NULL);
	x = stage_next();
	assert_null(x->authorization);
	assert_true(is_away(x->route));
	close_stage();
}

static void five_redirects_are_followed(void **state)
{
	int i;

	open_stage();
	ask(URL, NULL, NULL, true);
	for (i = 0; i < 5; i++)
		answer("307|Location: /t", NULL);
	assert_int_equal(told, 0);
	answer("200", NULL);
	assert_int_equal(told, 1);
	assert_int_equal(told_r, 0);
	/* the next question has as many of its own */
	ask(URL, NULL, NULL, true);
	for (i = 0; i < 5; i++)
		answer("307|Location: /t", NULL);
	assert_int_equal(told, 1);
	answer("307|Location: /t", NULL);
	assert_int_equal(told, 2);
	assert_int_equal(told_r, -ELOOP);
	assert_string_equal(told_why, "too many redirects");
	close_stage();
}

/* ---- how much, and how long ---- */

static void a_mebibyte_is_taken(void **state)
{
	static char mebibyte[INQUIRY_MAX];
	struct http_exchange *x;

	memset(mebibyte, 'x', sizeof mebibyte);
	open_stage();
	ask(URL, NULL, NULL, true);
	x = stage_next();
	assert_true(stage_head(x, "200"));
	assert_true(http_heard_bytes(x, mebibyte, INQUIRY_MAX - 1));
	assert_true(http_heard_bytes(x, "y", 1));
	assert_true(fences_is_tight(q.text));
	assert_int_equal(q.n, INQUIRY_MAX);
	assert_int_equal(strlen(q.text), INQUIRY_MAX);
	assert_int_equal(q.text[INQUIRY_MAX - 1], 'y');
	assert_false(http_heard_bytes(x, "z", 1));
	(void)stage_run();
	assert_int_equal(told, 1);
	assert_int_equal(told_r, -EPROTO);
	assert_string_equal(told_why, "an answer of more than 1048576 bytes");
	close_stage();
}

/* All of it has 30 s, redirects too, however lively the server is. */
static void half_a_minute_is_waited(void **state)
{
	int i;

	open_stage();
	ask(URL, NULL, NULL, true);
	for (i = 0; i < 3; i++) {
		stage_pass(9000);
		answer("307|Location: /t", NULL);
	}
	stage_pass(2999);
	assert_int_equal(told, 0);
	assert_int_equal(stage.count, 1);
	stage_pass(1);
	assert_int_equal(told, 1);
	assert_int_equal(told_r, -ETIMEDOUT);
	assert_string_equal(told_why, "no whole answer in 30 s");
	assert_int_equal(stage.count, 0);
	/* and never again */
	stage_pass(100 * 1000);
	assert_int_equal(told, 1);
	close_stage();
	/* nor after an answer */
	open_stage();
	ask(URL, NULL, NULL, true);
	answer("200", NULL);
	stage_pass(100 * 1000);
	assert_int_equal(told, 1);
	close_stage();
}

static void a_silent_server_is_given_up(void **state)
{
	open_stage();
	ask(URL, NULL, NULL, true);
	stage_pass(10 * 1000);
	assert_int_equal(told, 1);
	assert_int_equal(told_r, -ETIMEDOUT);
	assert_string_equal(told_why, "no answer for 10 s");
	close_stage();
}

static void a_connection_breaks(void **state)
{
	open_stage();
	ask(URL, NULL, NULL, true);
	assert_true(stage_head(stage_next(), "307|Location: /t"));
	stage_end(stage.running[0], -ECONNRESET); /* no redirect: it is not whole */
	(void)stage_run();
	assert_int_equal(told, 1);
	assert_int_equal(told_r, -ECONNRESET);
	assert_string_equal(told_why, "Connection reset by peer");
	close_stage();
}

static void the_engine_stops(void **state)
{
	open_stage();
	ask(URL, NULL, NULL, true);
	assert_non_null(stage_next());
	http_interrupt(stage.http);
	(void)stage_run();
	assert_int_equal(told, 1);
	assert_int_equal(told_r, -ESHUTDOWN);
	assert_string_equal(told_why, "shutting down");
	close_stage();
}

static void ask_now(struct http_call *c)
{
	ask(URL, NULL, NULL, true);
}

/* One that begins while the engine stops finds its timers due at once. */
static void the_engine_is_stopping(void **state)
{
	struct http_call call = { .run = ask_now };

	open_stage();
	http_interrupt(stage.http);
	http_post(stage.http, &call);
	(void)stage_run();
	assert_int_equal(told, 1);
	assert_int_equal(told_r, -ESHUTDOWN);
	assert_string_equal(told_why, "shutting down");
	close_stage();
}

/* ---- one after the other ---- */

static void the_next_one_begins_from_done(void **state)
{
	open_stage();
	next = "https://reg.io/2";
	ask(URL, "Basic x", "a=b", true);
	answer("200", "old");
	assert_int_equal(told, 1);
	assert_non_null(stage_next());
	assert_string_equal(q.x.url, "https://reg.io/2");
	assert_null(q.x.authorization);
	assert_null(q.x.body);
	assert_null(q.text);
	assert_true(is_away(q.x.route));
	assert_true(stage_head(&q.x, "404"));
	stage_end(&q.x, 0);
	(void)stage_run();
	assert_int_equal(told, 2);
	assert_int_equal(told_r, 0);
	assert_int_equal(q.x.answer.status, 404);
	close_stage();
}

static void one_that_is_cancelled_tells_nobody(void **state)
{
	open_stage();
	inquiry_cancel(&q); /* there is none */
	ask(URL, "Basic x", NULL, true);
	assert_non_null(stage_next());
	assert_true(stage_head(&q.x, "200|Location: /kept|Docker-Content-Digest: x"));
	assert_true(http_heard_bytes(&q.x, "hello", 5));
	ask("https://reg.io/2", NULL, NULL, true); /* in its place */
	assert_int_equal(stage.count, 1);
	answer("200", "2");
	assert_int_equal(told, 1);
	assert_string_equal(q.text, "2");
	ask(URL, "Basic x", "a=b", false);
	assert_non_null(stage_next());
	inquiry_cancel(&q);
	assert_int_equal(stage.count, 0);
	stage_pass(100 * 1000);
	assert_int_equal(told, 1);
	close_stage();
}

/* ---- memory ---- */

static void memory_runs_out(void **state)
{
	struct http_exchange *x;
	struct err e;

	/* a form that cannot be sent was never asked */
	open_stage();
	allocs_left = 0;
	assert_int_equal(inquiry_begin(&q, __real_strdup(URL), __real_strdup("Basic x"),
				       __real_strdup("a=b"), true, &e),
			 -ENOMEM);
	allocs_left = -1;
	assert_string_equal(e.msg, "out of memory");
	assert_int_equal(stage.count, 0);
	stage_pass(100 * 1000);
	assert_int_equal(told, 0);
	close_stage();
	/* bytes that have no room */
	open_stage();
	ask(URL, NULL, NULL, true);
	x = stage_next();
	assert_true(stage_head(x, "200"));
	assert_true(http_heard_bytes(x, "hel", 3));
	allocs_left = 0;
	assert_false(http_heard_bytes(x, "lo", 2));
	allocs_left = -1;
	(void)stage_run();
	assert_int_equal(told, 1);
	assert_int_equal(told_r, -ENOMEM);
	assert_string_equal(told_why, "out of memory");
	close_stage();
}

/* What was sent and what came, in pieces, is overwritten before its memory is given back: when it
 * is over, when another question follows, when it is led elsewhere, when it is given up. */
static void no_secret_is_left(void **state)
{
	int i;

	fences_secret = "s3cret";
	for (i = 0; i < 4; i++) {
		struct http_exchange *x;

		open_stage();
		ask(URL, "Basic s3cret", i == 2 ? NULL : "token=s3cret", true);
		x = stage_next();
		assert_true(stage_head(x, i == 2 ? "307|Location: https://a.io/" : "200"));
		assert_true(http_heard_bytes(x, "one s3cret", 10));
		assert_true(http_heard_bytes(x, ", two s3cret", 12));
		if (i < 3) {
			stage_end(x, 0);
			(void)stage_run();
		}
		if (i == 1)
			ask(URL, "Basic s3cret", "token=s3cret", true);
		close_stage();
	}
	fences_secret = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_question_is_sent),
		cmocka_unit_test(redirects_lead_on),
		cmocka_unit_test(what_was_left_behind_stays_there),
		cmocka_unit_test(five_redirects_are_followed),
		cmocka_unit_test(a_mebibyte_is_taken),
		cmocka_unit_test(half_a_minute_is_waited),
		cmocka_unit_test(a_silent_server_is_given_up),
		cmocka_unit_test(a_connection_breaks),
		cmocka_unit_test(the_engine_stops),
		cmocka_unit_test(the_engine_is_stopping),
		cmocka_unit_test(the_next_one_begins_from_done),
		cmocka_unit_test(one_that_is_cancelled_tells_nobody),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(no_secret_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
