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
		cmocka_unit_test(no_secret_is_left),
		cmocka_unit_test(an_auth_needs_memory),
		cmocka_unit_test(a_lookup_is_waited_for),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
