/* SPDX-License-Identifier: Apache-2.0 */
/* test-auth_given.c - a login whose password is given, or that nobody is to have; and that no
 * login leaves a secret behind.  What a step is stands in authlib.h. */
#include "tests/unit/authlib.h"

/* ---- what is given ---- */

static void a_given_password_comes_before_any_file(void **state)
{
	given_user = "me";
	given_password = "new";
	OPEN();
	asked_about[0] = '\0';
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_NEW },
	    { "401 1" BASIC, "0" }, { "ask 1", "refused " REFUSED });
	assert_string_equal(asked_about, "");
	close_world();
	/* a name alone is none */
	given_password = NULL;
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME });
	close_world();
	given_user = NULL;
	given_password = "new";
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME });
	close_world();
	given_password = NULL;
}

static void nothing_is_looked_for_anonymously(void **state)
{
	anonymous = true;
	OPEN();
	asked_about[0] = '\0';
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" }, { "inquiry", ASKED "-" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" });
	assert_string_equal(asked_about, "");
	close_world();
	OPEN();
	RUN({ "ask 1", "go -" }, { "ok 1 200", "" }, { "401 1", "0" }, { "401 1", "0" },
	    { "401 1", "reg.io: HTTP 401 (unauthorized)" });
	close_world();
	anonymous = false;
	OPEN();
	RUN({ "ask 1", "go -" }, { "ok 1 200", "" }, { "401 1", "0" }, { "401 1", "0" },
	    { "401 1", "reg.io: HTTP 401 (unauthorized), and it does not say how to log in" });
	close_world();
}

/* ---- what statuses mean ---- */

#define REASON(text) "reg.io: token service: HTTP " text

static void token_services_answer(void **state)
{
	static const struct {
		const char *reply, *then; /* what who asks is told */
	} rows[] = {
		{ "reply 200 {\"token\":\"a\"}", "go Bearer a" },
		{ "reply 299 {\"token\":\"a\"}", "go Bearer a" },
		{ "reply 300 {\"token\":\"a\"}", "paused " REASON("300 (multiple choices)") },
		{ "reply 304 {}", "paused " REASON("304 (not modified)") },
		{ "reply 400 {}", "refused reg.io: user 'me' and the password are refused (token "
				  "service: HTTP 400 (bad request)); check the credentials, or log "
				  "in anew" },
		{ "reply 402 {}", "paused " REASON("402 (payment required)") },
		{ "reply 404 {}", "paused " REASON("404 (not found)") },
		{ "reply 200 ",
		  "paused reg.io: token service: token answer: wrong JSON in line 1, column 0" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		OPEN();
		RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
		    { rows[i].reply, "" }, { "ask 1", rows[i].then });
		close_world();
	}
	OPEN();
	RUN({ FILE_IDENTITY, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "reply 401 {\"message\":\"who/am/i is it\"}", "" },
	    { "ask 1", "refused reg.io: user '(token)' and the password are refused (token "
		       "service: HTTP 401 (unauthorized)); check the credentials, or log in "
		       "anew" });
	close_world();
	/* an identity token that may not go there */
	open_world("http://reg.io", NULL);
	RUN({ FILE_IDENTITY, "" }, { "ask 1", "go -" },
	    { "401 1 Bearer realm=\"http://auth.io/t\"", "0" },
	    { "inquiry", "GET http://auth.io/t -" }, { "reply 401 {}", "" },
	    { "ask 1", "refused reg.io: it wants a login at a token service without TLS on another "
		       "machine, to which no password is sent (HTTP 401 (unauthorized))" });
	close_world();
}

/* A good answer, or a redirect, says that it went without those that cannot be had. */
static void a_good_answer_warns_of_a_fault(void **state)
{
	static const struct {
		const char *accepted;
		bool warned;
	} rows[] = {
		{ "ok 1 199", false }, { "ok 1 200", true },  { "ok 1 399", true },
		{ "ok 1 400", false }, { "ok 1 500", false },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		OPEN(); /* there is no file */
		RUN({ "ask 1", "go -" }, { "401 1" BEARER, "0" }, { TOKEN("a", "100"), "" },
		    { "ask 1", "go Bearer a" }, { rows[i].accepted, "" });
		if ((w.warnings[0] != '\0') != rows[i].warned)
			fail_msg("%s: '%s'", rows[i].accepted, w.warnings);
		w.warnings[0] = '\0';
		/* once, as long as it is the same fault */
		RUN({ "ok 1 200", "" }, { "ok 1 200", "" });
		assert_int_equal(w.warnings[0] != '\0', !rows[i].warned);
		close_world();
	}
}

/* Another fault is told of anew, and so is the same after a lookup that went well. */
static void each_fault_is_warned_of(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" });
	assert_string_equal(w.warnings, "");
	RUN({ "file {", "" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME }, { "ok 1 200", "" });
	assert_non_null(strstr(w.warnings, "wrong JSON in line 1"));
	w.warnings[0] = '\0';
	RUN({ "401 1" BASIC, "0" }, { "ask 1", GO_ME }, { "ok 1 200", "" });
	assert_string_equal(w.warnings, "");
	RUN({ "file []", "" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME }, { "ok 1 200", "" });
	assert_non_null(strstr(w.warnings, "not a JSON object"));
	assert_non_null(strstr(auth_fault(w.auth), "not a JSON object"));
	w.warnings[0] = '\0';
	RUN({ FILE_ME, "" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME }, { "ok 1 200", "" });
	assert_string_equal(w.warnings, "");
	assert_string_equal(auth_fault(w.auth), "");
	RUN({ "file []", "" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME }, { "ok 1 200", "" });
	assert_non_null(strstr(w.warnings, "not a JSON object"));
	close_world();
}

/* ---- who is asked how ---- */

/* The host itself by its own route, a token service without the host's client certificate. */
static void a_token_service_has_a_route_of_its_own(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "inquiry", "GET https://reg.io/v2/ -" });
	assert_ptr_equal(w.running->route, &route);
	RUN({ "reply 401 WWW-Authenticate:" BEARER "|", "" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" });
	assert_ptr_not_equal(w.running->route, &route);
	close_world();
	/* any other status says nothing of what it wants */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "reply 403 WWW-Authenticate:" BEARER "|", "" }, { "ask 1", GO_ME });
	close_world();
}

#define FILE_BOTH                                                                                  \
	"file {\"auths\":{\"reg.io\":{\"auth\":\"bWU6c2VjcmV0\",\"identitytoken\":\"who/am/i\"}}}"

static void an_identity_token_comes_before_a_password(void **state)
{
	OPEN();
	RUN({ FILE_BOTH, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "inquiry", "POST https://auth.io/token -" },
	    { "reply 403 {\"message\":\"secret\"}", "" },
	    { "ask 1", "refused reg.io: user 'me' and the password are refused (token service: "
		       "HTTP 403 (forbidden)); check the credentials, or log in anew" });
	close_world();
	OPEN();
	RUN({ FILE_BOTH, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "reply 403 {\"message\":\"who/am/i\"}", "" },
	    { "ask 1", "refused reg.io: user 'me' and the password are refused (token service: "
		       "HTTP 403 (forbidden)); check the credentials, or log in anew" });
	close_world();
	OPEN();
	RUN({ FILE_BOTH, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "reply 403 {\"message\":\"you\"}", "" },
	    { "ask 1", "refused reg.io: user 'me' and the password are refused (token service: "
		       "HTTP 403 (forbidden): you); check the credentials, or log in anew" });
	close_world();
}

/* A token from a file never runs out: a 403 to it may lead to another one, and else it stays. */
static void a_fixed_token_outlives_a_forbidden_answer(void **state)
{
	OPEN();
	RUN({ FILE_FIXED, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "ask 1", "go Bearer fixed" }, { "clock 1000", "" }, { "403 1", "0" },
	    { "ask 1", "go Bearer fixed" }, { "ask 2", "go Bearer fixed" });
	close_world();
}

/* The third 401 in a row is the end for who went ahead, not for those who wait for it. */
static void the_third_in_a_row_is_the_end(void **state)
{
	OPEN();
	w.askers[1].strikes = 2;
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1" BASIC, "reg.io: HTTP 401 (unauthorized), and it does not say how to log in"
			     "[2:0]" },
	    { "ask 2", "go -" });
	close_world();
	OPEN();
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" },
	    { "401 1" BEARER, "reg.io: HTTP 401 (unauthorized) for this repository" });
	close_world();
}

/* ---- what is forgotten ---- */

static void play_secrets(void)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { FILE_NEW, "" }, { "401 1" BASIC, "0" }, { "ask 1", GO_NEW },
	    { "401 1" BASIC, "..." });
	close_world();
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, { "ask 1", "refused " REFUSED });
	close_world();
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("t0ken", "100"), "" }, { "clock 80000", "" }, { "ask 1", "go Bearer t0ken" },
	    { TOKEN("t0ken", "100"), "" }, { "clock 80000", "" }, { "ask 1", "go Bearer t0ken" },
	    { "reply 403 {\"message\":\"secret is wrong, and so is bWU6c2VjcmV0\"}", "" },
	    { "reply 503 {\"message\":\"secret is wrong, and so is bWU6c2VjcmV0\"}", "" });
	close_world();
	OPEN();
	RUN({ FILE_IDENTITY, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "reply 403 {\"message\":\"who/am/i\"}", "" });
	close_world();
	OPEN();
	RUN({ FILE_FIXED, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "ask 1", "go Bearer fixed" }, { "401 1" BEARER, "0" });
	close_world();
	given_user = "me";
	given_password = "secret";
	OPEN();
	RUN({ "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME });
	close_world();
	given_user = given_password = NULL;
}

static void no_secret_is_left(void **state)
{
	static const char *const secrets[] = { "secret",       "bWU6c2VjcmV0", "who/am/i",
					       "who%2Fam%2Fi", "fixed",	       "t0ken" };
	size_t i;

	for (i = 0; i < COUNT_OF(secrets); i++) {
		fences_secret = secrets[i];
		play_secrets();
		fences_secret = NULL;
	}
}

/* What the lookup before has found is not its own any more. */
static void a_lookup_without_a_thread_loses_nothing(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" }, { "no threads", "" }, { "401 1" BASIC, "0" },
	    { "ask 1", "...paused reg.io: no thread" }, { "threads", "" }, { "clock 200", "" },
	    { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME });
	close_world();
	/* nor is it when there is nothing to find */
	anonymous = true;
	OPEN();
	RUN({ "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "clock 3000", "" }, { "ask 1", "go -" },
	    { "401 1" BASIC, "0" });
	close_world();
	anonymous = false;
}

/* ---- its beginning and its end ---- */

static void an_auth_needs_memory(void **state)
{
	struct auth_options o = { .route = &route,
				  .base = "https://reg.io",
				  .host = "reg.io",
				  .repository = "app",
				  .blobs = "https://reg.io/v2/app/blobs/",
				  .scope = "x",
				  .user = "me",
				  .password = "secret" };
	struct auth *a;
	struct err e;
	int without, r;
	long k;

	for (without = 0; without < 2; without++) {
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			a = NULL;
			allocs_left = k;
			r = auth_open(&o, &a, &e);
			allocs_left = -1;
			if (r == -ENOMEM)
				assert_string_equal(e.msg, "out of memory");
			assert_true(!a == (r < 0));
		}
		assert_int_equal(r, 0);
		assert_int_equal(k, without ? 6 : 9);
		assert_true(auth_quiesce(a));
		auth_close(a);
		o.scope = o.user = o.password = NULL;
	}
	auth_close(NULL);
}

/* A lookup is waited for; what else is under way is given up. */
static void a_lookup_is_waited_for(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" });
	assert_string_equal(take_event("401 1" BASIC), "0");
	assert_false(auth_quiesce(w.auth));
	turn();
	assert_true(auth_quiesce(w.auth));
	RUN({ "ask 1", GO_ME });
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
		cmocka_unit_test(a_given_password_comes_before_any_file),
		cmocka_unit_test(nothing_is_looked_for_anonymously),
		cmocka_unit_test(token_services_answer),
		cmocka_unit_test(a_good_answer_warns_of_a_fault),
		cmocka_unit_test(each_fault_is_warned_of),
		cmocka_unit_test(a_token_service_has_a_route_of_its_own),
		cmocka_unit_test(an_identity_token_comes_before_a_password),
		cmocka_unit_test(a_fixed_token_outlives_a_forbidden_answer),
		cmocka_unit_test(the_third_in_a_row_is_the_end),
		cmocka_unit_test(a_lookup_without_a_thread_loses_nothing),
		cmocka_unit_test(no_secret_is_left),
		cmocka_unit_test(an_auth_needs_memory),
		cmocka_unit_test(a_lookup_is_waited_for),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
