/* SPDX-License-Identifier: Apache-2.0 */
/* test-auth.c - the login of one host as tables: what happens, and when, and what those who ask are
 * told.  What a step is stands in authlib.h. */
#include "tests/unit/authlib.h"

/* ---- who goes ahead ---- */

static void one_goes_ahead_and_the_others_wait(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" },
	    { "ok 1 200", "[2:0 3:0]" }, { "ask 2", "go -" }, { "ask 1", "go -" });
	close_world();
}

static void the_next_goes_ahead_when_the_first_ends(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" },
	    { "leave 1", "[2:0 3:0]" }, { "leave 1", "" }, { "ask 2", "go -" }, { "ask 3", "wait" },
	    { "ok 1 200", "" }, /* it no longer speaks for the others */
	    { "ask 1", "wait" }, { "leave 2", "[3:0 1:0]" }, { "ask 1", "go -" },
	    { "ok 1 500", "" }, { "ask 4", "go -" });
	close_world();
}

static void whoever_leaves_is_not_woken(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" }, { "ask 4", "wait" },
	    { "leave 3", "" }, { "leave 3", "" }, { "ok 1 200", "[2:0 4:0]" }, { "leave 4", "" });
	close_world();
	/* also when another one that is woken sees to that */
	OPEN();
	w.askers[2].kills = 4;
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" }, { "ask 4", "wait" },
	    { "ask 5", "wait" }, { "ok 1 200", "[2:0 3:0 5:0]" });
	close_world();
}

/* ---- Basic ---- */

static void a_password_is_sent_when_it_is_wanted(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BASIC, "0[2:0]" },
	    { "ask 1", GO_ME }, { "ask 2", GO_ME }, { "ok 1 200", "" }, { "inquiry", "none" });
	close_world();
}

/* The same once more, then a refusal for 3 s, then all over: what the host wants is asked anew. */
static void a_refused_password_is_tried_again_later(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, /* the second in a row: refused when it is the same */
	    { "ask 1", "refused " REFUSED }, { "ask 2", "refused " REFUSED }, { "clock 2999", "" },
	    { "ask 1", "refused " REFUSED }, { "clock 1", "" }, { "ask 2", "go -" },
	    { "ask 3", "wait" }, { "401 2" BASIC, "0[3:0]" }, { "ask 2", GO_ME },
	    { "ask 3", GO_ME }, { "ok 2 200", "" }, { "ask 4", GO_ME });
	close_world();
	/* a registry that has become open in the meantime */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, { "ask 1", "refused " REFUSED }, { "clock 3000", "" },
	    { "ask 1", "go -" }, { "ok 1 200", "" }, { "ask 2", "go -" });
	close_world();
}

static void a_password_that_changed_serves_at_once(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" }, { FILE_NEW, "" }, { "ask 1", GO_ME }, { "401 1" BASIC, "0" },
	    { "ask 1", GO_NEW }, { "ok 1 200", "" },
	    /* one that was sent before is asked again with the new one */
	    { "401 2" BASIC, "0" }, { "ask 2", GO_NEW });
	close_world();
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, { "ask 1", "refused " REFUSED }, { FILE_NEW, "" },
	    { "clock 3000", "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_NEW });
	close_world();
}

static void without_credentials_there_is_no_login(void **state)
{
	OPEN();
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1" BASIC,
	      "0[2:reg.io: it wants a user and password, and there are none; log in with 'docker "
	      "login', or name a file with credentials=FILE]" },
	    { "ask 1", "...refused reg.io: it wants a user and password" }, { "clock 3000", "" },
	    { "ask 1", "go -" }, { "ok 1 200", "" }, { "ask 2", "go -" });
	close_world();
}

/* ---- Bearer ---- */

static void a_token_is_fetched_and_renewed(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { "ask 1", "wait" },
	    { TOKEN("a", "100"), "[2:0 1:0]" }, { "ask 1", "go Bearer a" }, { "ok 1 200", "" },
	    { "clock 74999", "" }, { "ask 1", "go Bearer a" }, { "inquiry", "none" },
	    /* old: a new one is fetched meanwhile */
	    { "clock 1", "" }, { "ask 1", "go Bearer a" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { "clock 9999", "" },
	    { "ask 1", "go Bearer a" }, { TOKEN("b", "8"), "" }, { "ask 1", "go Bearer b" },
	    { "clock 5999", "" }, { "ask 1", "go Bearer b" }, { "inquiry", "none" },
	    /* nobody gets one that has run out */
	    { "clock 2001", "" }, { "ask 1", "wait" }, { TOKEN("c", "100"), "[1:0]" },
	    { "ask 1", "go Bearer c" });
	close_world();
}

static void a_refused_token_is_given_to_nobody(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" }, { "ask 2", "go Bearer a" },
	    { "401 1" BEARER, "0" }, { "ask 3", "wait" }, { "401 2" BEARER, "0" },
	    { "ask 2", "wait" }, { TOKEN("b", "100"), "[3:0 2:0]" }, { "ask 1", "go Bearer b" },
	    /* the third in a row is the end */
	    { "401 1" BEARER, "reg.io: HTTP 401 (unauthorized) for this repository, as user me" });
	close_world();
}

static void token_services_refuse(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 401 {\"errors\":[{\"code\":\"DENIED\",\"message\":\"no way\"}]}",
	      "[2:reg.io: user 'me' and the password are refused (token service: HTTP 401 "
	      "(unauthorized): DENIED: no way); check the credentials, or log in anew]" },
	    { "ask 1", "...refused reg.io: user 'me'" }, { "clock 3000", "" }, { FILE_NEW, "" },
	    { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    /* what was known is tried first, then what the file says now */
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { "reply 401 {}", "" },
	    { "inquiry", ASKED "Basic bWU6bmV3" }, { TOKEN("a", "100"), "" },
	    { "ask 1", "go Bearer a" });
	close_world();
	/* what a service repeats of the password is not told */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 403 {\"message\":\"secret is wrong\"}",
	      "...(token service: HTTP 403 (forbidden)); check" });
	close_world();
	OPEN();
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "inquiry", ASKED "-" },
	    { "reply 400 {}",
	      "[2:reg.io: it wants a login (token service: HTTP 400 (bad request)) and there are "
	      "no credentials; log in with 'docker login', or name a file with "
	      "credentials=FILE]" });
	close_world();
}

static void token_services_fail(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 503 busy", "[2:reg.io: token service: HTTP 503 (service unavailable)]" },
	    { "ask 2", "paused reg.io: token service: HTTP 503 (service unavailable)" },
	    { "clock 199", "" }, { "ask 2", "...paused" }, { "clock 1", "" }, { "ask 2", "go -" },
	    { "401 2" BEARER, "0" }, { "fail", "" },
	    { "ask 2", "paused reg.io: token service: it broke off" }, { "clock 399", "" },
	    { "ask 2", "...paused" }, { "clock 1", "" }, { "ask 2", "go -" },
	    { "401 2" BEARER, "0" }, { "reply 429 Retry-After: 5|", "" }, { "clock 4999", "" },
	    { "ask 2", "...paused reg.io: token service: HTTP 429 (too many requests)" },
	    { "clock 1", "" }, { "ask 2", "go -" }, { "401 2" BEARER, "0" }, { "reply 200 {}", "" },
	    { "ask 2", "paused reg.io: token service: token answer: it holds no token" },
	    { "clock 6400", "" }, { "ask 2", "go -" }, { "401 2" BEARER, "0" },
	    { TOKEN("a", "9"), "" }, { "ask 2", "go Bearer a" });
	close_world();
}

static void a_token_service_has_30_seconds(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" }, { "ask 1", "wait" });
	for (int i = 0; i < 4; i++) {
		/* a line now and then: not silent, but no answer either */
		w.now_ms += 7000;
		assert_true(http_heard_header(w.running, "HTTP/1.1 100 x\r\n", 16));
		turn();
	}
	RUN({ "clock 1999", "" }, { "ask 2", "wait" },
	    { "clock 1", "[1:reg.io: token service: no whole answer in 30 s 2:reg.io: token "
			 "service: no whole answer in 30 s]" },
	    { "inquiry", "none" });
	close_world();
}

static void a_token_service_redirects(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "reply 301 Location: /other?x=1|", "" },
	    { "inquiry", "GET https://auth.io/other?x=1 Basic bWU6c2VjcmV0" },
	    { "reply 307 Location: https://elsewhere.io/t|", "" },
	    { "inquiry", "GET https://elsewhere.io/t -" },
	    { "reply 307 Location: http://elsewhere.io/t|", "" },
	    { "ask 1", "paused reg.io: token service: redirect refused: the Location is missing, "
		       "malformed, not http(s), or leaves TLS" });
	close_world();
}

static void scopes_of_both_are_asked_for(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" },
	    { "401 1 Bearer realm=\"https://auth.io/t\",scope=\"aws\"", "0" },
	    { "inquiry", "GET https://auth.io/t?scope=aws&scope=repository%3Aapp%3Apull Basic "
			 "bWU6c2VjcmV0" });
	close_world();
	open_world("https://reg.io", NULL);
	RUN({ "file {}", "" }, { "ask 1", "go -" },
	    { "401 1 Bearer realm=\"https://auth.io/t\",scope=\"aws\"", "0" },
	    { "inquiry", "GET https://auth.io/t?scope=aws -" });
	close_world();
}

static void an_identity_token_goes_by_a_form(void **state)
{
	OPEN();
	RUN({ FILE_IDENTITY, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "inquiry", "POST https://auth.io/token -" },
	    { "form", "grant_type=refresh_token&service=s&scope=repository%3Aapp%3Apull&client_id="
		      "nbdkit-overlaybd&refresh_token=who%2Fam%2Fi" },
	    { "reply 307 Location: https://elsewhere.io/t|", "" },
	    { "ask 1", "paused reg.io: token service: it redirects a form with a token to another "
		       "host, to which none is sent" });
	close_world();
}

static void no_password_goes_where_others_listen(void **state)
{
	static const struct {
		const char *base, *realm;
		bool safe;
	} rows[] = {
		{ "https://reg.io", "https://auth.io/t", true },
		{ "https://reg.io", "http://reg.io/t", false },
		{ "http://reg.io:5000", "https://auth.io/t", true },
		{ "http://reg.io:5000", "http://reg.io:5001/t", true },
		{ "http://reg.io:5000", "http://REG.io/t", true },
		{ "http://reg.io", "http://auth.io/t", false },
		{ "http://reg.io", "http://reg.io.evil.io/t", false },
		{ "http://reg.io", "http://reg.io@evil.io/t", false },
		{ "http://localhost:5000", "http://127.0.0.1/t", true },
		{ "http://localhost:5000", "http://auth.io/t", false },
		{ "http://[2001:db8::1]:5000", "http://[2001:db8::1]/t", true },
		{ "http://[2001:db8::1]:5000", "http://[2001:db8::2]/t", false },
		{ "http://[2001:db8::1]", "http://[fe80::1]/t", false },
		{ "http://[::1]:5000", "http://[::1]/t", true },
		{ "http://[::1]:5000", "http://[::2]/t", false },
	};
	char event[256];
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		const char *login;

		open_world(rows[i].base, NULL);
		(void)take_event(FILE_ME);
		assert_string_equal(take_event("ask 1"), "go -");
		snprintf(event, sizeof event, "401 1 Bearer realm=\"%s\"", rows[i].realm);
		assert_string_equal(take_event(event), "0");
		turn();
		login = strrchr(inquiry(), ' ');
		if ((strcmp(login, " -") != 0) != rows[i].safe)
			fail_msg("%s, %s: %s", rows[i].base, rows[i].realm, login);
		close_world();
	}
	open_world("http://reg.io", NULL);
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1 Bearer realm=\"http://auth.io/t\"", "0" },
	    { "reply 401 {}", "...[2:reg.io: it wants a login at a token service without TLS on "
			      "another machine, to which no password is sent (HTTP 401" });
	close_world();
}

/* ---- one way after the other ---- */

static void basic_after_bearer(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("small", "100"), "" }, { "ask 1", "go Bearer small" }, { "401 1" BASIC, "0" },
	    { "ask 1", GO_ME }, { "ok 1 200", "" }, { "ask 2", GO_ME });
	close_world();
	/* both offered each time */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER ", Basic realm=x", "0" },
	    { TOKEN("small", "100"), "" }, { "ask 1", "go Bearer small" },
	    { "401 1" BEARER ", Basic realm=x", "0" }, { "ask 1", GO_ME });
	close_world();
	/* and back: a registry that wants another kind of login now */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" }, { "ask 1", GO_ME }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" });
	close_world();
}

static void a_registry_that_says_nothing_is_asked_at_its_door(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1", "0[2:0]" }, /* a passing disorder? */
	    { "ask 1", "go -" }, { "401 1", "0" }, { "inquiry", "GET https://reg.io/v2/ -" },
	    { "reply 401 WWW-Authenticate:" BEARER "|", "" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { TOKEN("a", "100"), "" },
	    { "ask 1", "go Bearer a" }, { "ok 1 200", "" },
	    /* what it once said counts when it says nothing */
	    { "401 1", "0" }, { "inquiry", ASKED "Basic bWU6c2VjcmV0" });
	close_world();
	/* and where that says nothing either, a password is tried */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "reply 200 {}", "" }, { "ask 1", GO_ME },
	    { "401 1", "...reg.io: "
		       "HTTP 401 (unauthorized) for this repository" });
	close_world();
	OPEN();
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "fail", "" },
	    { "ask 1", "refused reg.io: HTTP 401 (unauthorized); it does not say how to log in, "
		       "and there are no credentials to try" });
	close_world();
}

static void an_open_registry_has_a_passing_disorder(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ok 1 200", "" }, { "ask 1", "go -" },
	    { "ask 2", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", "go -" },
	    { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    /* one without a header, sent before there was one */
	    { "401 2" BASIC, "0" }, { "ask 2", GO_ME }, { "inquiry", "none" });
	close_world();
}

static void a_fixed_token_is_all_there_is(void **state)
{
	OPEN();
	RUN({ FILE_FIXED, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "ask 1", "go Bearer fixed" }, { "401 1" BEARER, "0" },
	    { "ask 1", "refused reg.io: user '(token)' and the password are refused; check the "
		       "credentials, or log in anew" });
	close_world();
}

/* ---- a pause ---- */

#define BUSY "reg.io: token service: HTTP 503 (service unavailable)"

/* While it lasts a good header serves, and a refusal of that renews nothing. */
static void a_pause_outlasts_a_refused_token(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" }, { "clock 75000", "" },
	    { "ask 1", "go Bearer a" }, { "reply 503 busy", "" });
	assert_int_equal(auth_rests_until(w.auth), 0);
	RUN({ "clock 199", "" }, { "ask 1", "go Bearer a" }, { "inquiry", "none" },
	    { "401 1" BEARER, "0" }, { "inquiry", "none" }, { "ask 1", "paused " BUSY });
	assert_int_equal(auth_rests_until(w.auth), w.now_ms + 1);
	RUN({ "clock 1", "" });
	assert_int_equal(auth_rests_until(w.auth), 0);
	RUN({ "ask 1", "wait" }, { "inquiry", ASKED "Basic bWU6c2VjcmV0" });
	assert_int_equal(auth_rests_until(w.auth), 0);
	RUN({ TOKEN("b", "100"), "[1:0]" }, { "ask 1", "go Bearer b" });
	close_world();
	/* a refusal says until when, too */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, { "ask 1", "refused " REFUSED });
	assert_int_equal(auth_rests_until(w.auth), w.now_ms + 3000);
	close_world();
	/* a password that was refused meanwhile is looked up anew: nobody goes ahead without one */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "clock 1000", "" }, { "no threads", "" }, { "403 1", "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, { "ask 1", "...paused reg.io: no thread" }, { "threads", "" },
	    { "clock 200", "" }, { "ask 1", "wait[1:0]" }, { "ask 1", GO_ME });
	close_world();
}

/* A service may ask for a minute, no longer; else a pause is 6.4 s at most, until one succeeds. */
static void a_pause_has_an_end(void **state)
{
	static const struct {
		const char *answer;
		uint64_t pause;
	} rows[] = {
		{ "reply 503 busy", 200 },
		{ "reply 503 busy", 400 },
		{ "reply 503 Retry-After: 60|", 60000 },
		{ "reply 503 Retry-After: 61|", 60000 },
		{ "reply 503 busy", 3200 },
		{ "reply 503 busy", 6400 },
		{ "reply 503 busy", 6400 },
		{ "reply 503 Retry-After: 1|", 6400 },
		{ TOKEN("a", "100"), 0 },
		{ "reply 503 busy", 200 },
	};
	size_t i;

	OPEN();
	RUN({ FILE_ME, "" });
	for (i = 0; i < COUNT_OF(rows); i++) {
		w.askers[1].strikes = 0;
		if (i != COUNT_OF(rows) - 1)
			RUN({ "ask 1", "go -" }, { "401 1" BEARER, "0" });
		else
			RUN({ "ask 1", "go Bearer a" }, { "401 1" BEARER, "0" });
		(void)take_event(rows[i].answer);
		if (auth_rests_until(w.auth) != (rows[i].pause ? w.now_ms + rows[i].pause : 0))
			fail_msg("row %zu: until %" PRIu64 ", now is %" PRIu64, i,
				 auth_rests_until(w.auth), w.now_ms);
		w.now_ms += rows[i].pause;
		turn();
	}
	close_world();
}

/* ---- 403 ---- */

static void a_forbidden_answer_may_mean_an_old_token(void **state)
{
	OPEN();
	RUN({ "403 1", "no" }, { FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" }, { "clock 999", "" },
	    { "403 1", "0" }, { "inquiry", "none" }, { "ask 2", "go Bearer a" }, { "clock 1", "" },
	    { "403 1", "0" }, { "ask 2", "wait" }, { TOKEN("b", "100"), "[2:0]" },
	    { "ask 1", "go Bearer b" }, { "ask 2", "go Bearer b" },
	    /* one that was sent with the old one */
	    { "clock 2000", "" });
	snprintf(w.askers[3].header, TEXT, "Bearer a");
	RUN({ "403 3", "0" }, { "inquiry", "none" });
	close_world();
	/* what it was got with may be old as well: that is looked up anew */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { TOKEN("a", "100"), "" },
	    { "ask 1", "go Bearer a" }, { FILE_NEW, "" }, { "clock 1000", "" }, { "403 1", "0" },
	    { "inquiry", ASKED "Basic bWU6bmV3" }, { TOKEN("b", "100"), "" },
	    { "ask 1", "go Bearer b" });
	close_world();
	/* a password serves on while it is looked up anew */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "clock 1000", "" }, { "403 1", "0" }, { "ask 2", GO_ME }, { FILE_NEW, "" },
	    { "clock 1000", "" }, { "403 1", "0" }, { "ask 1", GO_NEW });
	close_world();
}

/* ---- credentials that cannot be had ---- */

#define GONE "/auth.json: No such file or directory"

static void a_public_image_needs_no_credentials(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "401 1" BEARER, "0" }, { "inquiry", ASKED "-" },
	    { TOKEN("anybody", "100"), "" }, { "ask 1", "go Bearer anybody" });
	assert_string_equal(w.warnings, "");
	RUN({ "ok 1 404", "" });
	assert_string_equal(w.warnings, "");
	RUN({ "ok 1 206", "" }, { "ok 1 200", "" });
	assert_int_equal(strncmp(w.warnings, "reg.io: credentials: /tmp/", 26), 0);
	assert_non_null(strstr(w.warnings, GONE "; going on without a login\n"));
	assert_ptr_equal(strchr(w.warnings, '\n'), w.warnings + strlen(w.warnings) - 1);
	assert_non_null(strstr(auth_fault(w.auth), GONE));
	close_world();
}

static void who_is_refused_is_told_why_there_are_none(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "401 1" BEARER, "0" }, { TOKEN("anybody", "100"), "" },
	    { "ask 1", "go Bearer anybody" }, { "401 1" BEARER, "0" },
	    { TOKEN("anybody", "100"), "" }, { "ask 1", "go Bearer anybody" },
	    { "401 1" BEARER, "..." GONE });
	assert_string_equal(w.warnings, "");
	close_world();
	OPEN();
	RUN({ "file {", "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1" BASIC, "...name a file with credentials=FILE; credentials: /tmp/" },
	    { "ask 1", "...: wrong JSON in line 1" });
	close_world();
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 403 {}", "..." GONE });
	close_world();
}

static void a_login_outlives_its_file(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" }, { "file {", "" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" });
	assert_non_null(strstr(w.warnings, "; going on with those of before\n"));
	RUN({ "401 1" BASIC, "0" }, { "ask 1", GO_ME }, { "401 1" BASIC, "0" },
	    { "ask 1", "...refused " REFUSED "; credentials: /tmp/" });
	close_world();
}

static void a_lookup_needs_a_thread(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "no threads", "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1" BASIC, "0[2:reg.io: no thread to look up credentials: Resource temporarily "
			     "unavailable]" },
	    { "ask 2", "...paused reg.io: no thread" }, { "threads", "" }, { "clock 200", "" },
	    { "ask 2", "go -" }, { "401 2" BASIC, "0" }, { "ask 2", GO_ME });
	close_world();
}

#define HEX32 "0123456789abcdef0123456789abcdef"
#define BLOBS "https://reg.io/v2/app/blobs/"
#define EMPTY "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* A helper of the reference's users takes the repository from a whole blob's address. */
static void helpers_are_told_a_whole_address(void **state)
{
	static const struct {
		const char *path, *address;
	} paths[] = {
		{ "/blobs/sha256:" HEX32 HEX32, BLOBS "sha256:" HEX32 HEX32 },
		{ "/blobs/sha512:" HEX32 HEX32 HEX32 HEX32,
		  BLOBS "sha512:" HEX32 HEX32 HEX32 HEX32 },
		{ "/manifests/sha256:" HEX32 HEX32, BLOBS "sha256:" HEX32 HEX32 },
		{ "https://reg.io/sha/up?digest=sha256:" HEX32 HEX32 "&x=sha256:1",
		  BLOBS "sha256:" HEX32 HEX32 },
		{ "/manifests/latest", BLOBS EMPTY },
		{ "/blobs/sha256:" HEX32 "0", BLOBS EMPTY },
		{ NULL, BLOBS EMPTY },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(paths); i++) {
		OPEN();
		w.askers[1].wait.path = paths[i].path;
		RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" });
		assert_string_equal(asked_about, paths[i].address);
		close_world();
	}
}

/* ---- out of memory ---- */

/* The inquiry's answer, as far as there is memory for it. */
static void answer_inquiry(const char *body)
{
	static const char line[] = "HTTP/1.1 200 OK\r\n";
	struct http_exchange *x = w.running;

	if (http_heard_header(x, line, sizeof line - 1))
		(void)http_heard_bytes(x, body, strlen(body));
	http_heard_end(x, 0, NULL);
	turn();
}

/* One asker comes again and again until it is logged in.  What it says is the answer of a registry
 * that wants `challenge`, and of a token service that gives "a". */
static void log_in(const char *challenge, const char *header)
{
	char event[512], *text;
	bool told = false;
	long left;
	int i;

	snprintf(event, sizeof event, "401 1%s", challenge);
	for (i = 0; i < 40; i++) {
		struct err e = { "" };
		struct challenge c = { 0 };
		const char *given = NULL;
		enum auth_answer answer = auth_ask(w.auth, &w.askers[1].wait, &given, &e);

		if (answer == AUTH_GO && given && strcmp(given, header) == 0)
			break;
		if (answer == AUTH_PAUSED || answer == AUTH_REFUSED) {
			told = told || strstr(e.msg, "out of memory") != NULL;
			w.now_ms += 5000;
		}
		if (answer == AUTH_GO) {
			text = w.askers[1].header;
			snprintf(text, TEXT, "%s", given ? given : "");
			left = allocs_left;
			allocs_left = -1; /* not ours */
			(void)challenge_parse(challenge[0] ? challenge + 1 : "", &c, &e);
			allocs_left = left;
			if (auth_challenged(w.auth, &w.askers[1].wait, &c, text[0] ? text : NULL,
					    w.askers[1].strikes++ % 2, &e) == -ENOMEM)
				told = true;
			challenge_release(&c);
		}
		turn();
		if (w.running && strncmp(w.running->url, "https://reg.io/v2/", 18) == 0)
			answer_inquiry("{}");
		else if (w.running)
			answer_inquiry("{\"token\":\"a\",\"expires_in\":100}");
		assert_null(w.running);
		if (w.askers[1].wait.of && answer == AUTH_WAIT)
			fail_msg("allocation refused, and it waits for ever");
		if (allocs_refused)
			allocs_left = -1;
	}
	if (i == 40)
		fail_msg("it never came to %s", header);
	if (allocs_refused && !told && challenge[0] != '\0')
		fail_msg("nobody was told that there is no memory");
}

/* Each allocation is refused once: whoever waits is told, and a while later all is well. */
static void a_login_outlives_lack_of_memory(void **state)
{
	static const struct {
		const char *file, *challenge, *header;
		long allocations; /* at least */
	} rows[] = {
		{ FILE_ME, BASIC, GO_ME, 8 },
		{ FILE_ME, BEARER, "go Bearer a", 12 },
		{ FILE_IDENTITY, BEARER, "go Bearer a", 12 },
		{ FILE_FIXED, BEARER, "go Bearer fixed", 8 },
		{ FILE_ME, "", GO_ME, 8 },
	};
	size_t i;
	long k;

	for (i = 0; i < 2 * COUNT_OF(rows); i++) {
		allocs_once = i % 2 == 1;
		for (k = 0, allocs_refused = true; allocs_refused; k++) {
			OPEN();
			(void)take_event(rows[i / 2].file);
			allocs_refused = false;
			allocs_left = k;
			log_in(rows[i / 2].challenge, rows[i / 2].header + 3);
			allocs_left = -1;
			close_world();
		}
		if (k < rows[i / 2].allocations)
			fail_msg("row %zu: only %ld allocations", i, k);
	}
	allocs_once = false;
}

/* ---- the end ---- */

static void whoever_waits_is_told_of_the_end(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" }, { "ask 1", "wait" },
	    { "ask 2", "wait" });
	http_interrupt(w.http);
	RUN({ "clock 1", "[1:reg.io: token service: shutting down 2:reg.io: token service: "
			 "shutting down]" });
	close_world();
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "ask 1", "wait" });
	http_interrupt(w.http);
	RUN({ "clock 1", "...shutting down" });
	close_world();
	/* and what is under way is given up */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" });
	assert_true(auth_quiesce(w.auth));
	assert_null(w.running);
	close_world();
}

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_goes_ahead_and_the_others_wait),
		cmocka_unit_test(the_next_goes_ahead_when_the_first_ends),
		cmocka_unit_test(whoever_leaves_is_not_woken),
		cmocka_unit_test(a_password_is_sent_when_it_is_wanted),
		cmocka_unit_test(a_refused_password_is_tried_again_later),
		cmocka_unit_test(a_password_that_changed_serves_at_once),
		cmocka_unit_test(without_credentials_there_is_no_login),
		cmocka_unit_test(a_token_is_fetched_and_renewed),
		cmocka_unit_test(a_refused_token_is_given_to_nobody),
		cmocka_unit_test(token_services_refuse),
		cmocka_unit_test(token_services_fail),
		cmocka_unit_test(a_token_service_has_30_seconds),
		cmocka_unit_test(a_token_service_redirects),
		cmocka_unit_test(scopes_of_both_are_asked_for),
		cmocka_unit_test(an_identity_token_goes_by_a_form),
		cmocka_unit_test(no_password_goes_where_others_listen),
		cmocka_unit_test(basic_after_bearer),
		cmocka_unit_test(a_registry_that_says_nothing_is_asked_at_its_door),
		cmocka_unit_test(an_open_registry_has_a_passing_disorder),
		cmocka_unit_test(a_fixed_token_is_all_there_is),
		cmocka_unit_test(a_pause_outlasts_a_refused_token),
		cmocka_unit_test(a_pause_has_an_end),
		cmocka_unit_test(a_forbidden_answer_may_mean_an_old_token),
		cmocka_unit_test(a_public_image_needs_no_credentials),
		cmocka_unit_test(who_is_refused_is_told_why_there_are_none),
		cmocka_unit_test(a_login_outlives_its_file),
		cmocka_unit_test(a_lookup_needs_a_thread),
		cmocka_unit_test(helpers_are_told_a_whole_address),
		cmocka_unit_test(a_login_outlives_lack_of_memory),
		cmocka_unit_test(whoever_waits_is_told_of_the_end),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
