/* SPDX-License-Identifier: Apache-2.0 */
/* test-challenge.c - WWW-Authenticate headers and token answers, good and bad. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/challenge.h"
#include "tests/unit/allocs.h"

static const struct {
	const char *value;
	enum challenge_scheme scheme;
	const char *realm, *service, *scope, *error;
} good[] = {
	{ "", CHALLENGE_NONE, NULL, NULL, NULL, NULL },
	{ " , ,", CHALLENGE_NONE, NULL, NULL, NULL, NULL },
	{ "Bearer realm=\"https://auth.io/token\",service=\"reg.io\",scope=\"repository:a:pull\"",
	  CHALLENGE_BEARER, "https://auth.io/token", "reg.io", "repository:a:pull", NULL },
	{ "bearer  REALM = \"http://a/t\" ,\tService=reg , ,error=\"invalid_token\"",
	  CHALLENGE_BEARER, "http://a/t", "reg", NULL, "invalid_token" },
	{ "Bearer realm=\"https://a/\\\"\\t\",charset=UTF-8", CHALLENGE_BEARER, "https://a/\"t",
	  NULL, NULL, NULL },
	{ "Bearer realm=\"https://a/x,y=z\", scope=\"a b,c\"", CHALLENGE_BEARER, "https://a/x,y=z",
	  NULL, "a b,c", NULL },
	{ "Bearer realm=\"https://a\",service=\"\"", CHALLENGE_BEARER, "https://a", "", NULL,
	  NULL },
	{ "Basic realm=\"Registry\"", CHALLENGE_BASIC, NULL, NULL, NULL, NULL },
	{ "Basic", CHALLENGE_BASIC, NULL, NULL, NULL, NULL },
	{ "BASIC realm=\"a\", charset=\"UTF-8\"", CHALLENGE_BASIC, NULL, NULL, NULL, NULL },
	/* several in one header: the better one, whatever the order */
	{ "Basic realm=\"x\", Bearer realm=\"https://a\"", CHALLENGE_BEARER, "https://a", NULL,
	  NULL, NULL },
	{ "Bearer realm=\"https://a\", Basic realm=\"x\"", CHALLENGE_BEARER, "https://a", NULL,
	  NULL, NULL },
	{ "Bearer realm=\"https://a\", Bearer realm=\"https://b\"", CHALLENGE_BEARER, "https://a",
	  NULL, NULL, NULL },
	/* unknown schemes */
	{ "Negotiate", CHALLENGE_NONE, NULL, NULL, NULL, NULL },
	{ "Negotiate YWJj/+==", CHALLENGE_NONE, NULL, NULL, NULL, NULL },
	{ "Negotiate YWJj= , Basic realm=x", CHALLENGE_BASIC, NULL, NULL, NULL, NULL },
	{ "Negotiate, NTLM,Basic", CHALLENGE_BASIC, NULL, NULL, NULL, NULL },
	{ "Digest realm=\"a\",nonce=\"b\",realm=\"c\", Basic", CHALLENGE_BASIC, NULL, NULL, NULL,
	  NULL },
	{ "Bearers realm=\"https://a\"", CHALLENGE_NONE, NULL, NULL, NULL, NULL },
};

static void expect_text(const char *what, const char *got, const char *wanted)
{
	if (!got != !wanted || (got && strcmp(got, wanted) != 0))
		fail_msg("%s: '%s', not '%s'", what, got ? got : "NULL", wanted ? wanted : "NULL");
}

static void good_challenges_are_read(void **state)
{
	size_t i;

	for (i = 0; i < sizeof good / sizeof *good; i++) {
		struct challenge c = { 0 };
		struct err e = { "" };

		if (challenge_parse(good[i].value, &c, &e) != 0)
			fail_msg("%s: %s", good[i].value, e.msg);
		if (c.scheme != good[i].scheme)
			fail_msg("%s: scheme %d", good[i].value, c.scheme);
		expect_text(good[i].value, c.realm, good[i].realm);
		expect_text(good[i].value, c.service, good[i].service);
		expect_text(good[i].value, c.scope, good[i].scope);
		expect_text(good[i].value, c.error, good[i].error);
		challenge_release(&c);
	}
}

static const struct {
	const char *value, *why;
} bad[] = {
	{ "Bearer", "Bearer without a realm" },
	{ "Basic, Bearer service=x", "Bearer without a realm" },
	{ "Bearer realm=\"\"", "realm '' is no http address" },
	{ "Bearer realm=\"file:///etc/passwd\"", "realm 'file:///etc/passwd' is no http address" },
	{ "Bearer realm=\"https://a b\"", "realm 'https://a b' is no http address" },
	{ "Bearer realm=\"https://\xc3\xa9\"", "is no http address" },
	{ "Bearer realm=\"https://a", "a quoted text does not end" },
	{ "Bearer realm=\"https://a\\", "a quoted text does not end" },
	{ "Bearer realm=\"a\r\nX: y\"", "a control character in a quoted text" },
	{ "Bearer realm=\"a\\\nb\"", "a control character in a quoted text" },
	{ "Bearer realm=\"a\x7f\"", "a control character in a quoted text" },
	{ "Bearer realm=", "Bearer without a realm" }, /* reads like a token68 */
	{ "Bearer realm=,x=y", "Bearer without a realm" },
	{ "Bearer a=b,realm=", "a parameter without a value" },
	{ "Bearer realm=https://a", "no comma behind a parameter" },
	{ "Bearer realm=\"https://a\"x", "no comma behind a parameter" },
	{ "Bearer realm=\"https://a\",realm=\"https://b\"", "a parameter stands twice" },
	{ "Bearer realm=\"https://a\",scope=a,Scope=b", "a parameter stands twice" },
	{ "realm=\"x\"", "no authentication scheme" },
	{ "Basic realm=x, \"y\"", "no authentication scheme" },
	{ "=", "no authentication scheme" },
	{ "Basic\x01", "no authentication scheme" },
};

static void bad_challenges_are_refused(void **state)
{
	struct challenge c = { .scheme = CHALLENGE_BASIC };
	char *large = malloc(16 * 1024 + 2);
	struct err e = { "" };
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (challenge_parse(bad[i].value, &c, &e) != -EINVAL)
			fail_msg("%s: not refused", bad[i].value);
		if (strncmp(e.msg, "WWW-Authenticate: ", 18) != 0 || !strstr(e.msg, bad[i].why))
			fail_msg("%s: %s", bad[i].value, e.msg);
		assert_int_equal(c.scheme, CHALLENGE_BASIC);
		assert_null(c.realm);
	}
	assert_non_null(large);
	memset(large, ',', 16 * 1024 + 1);
	large[16 * 1024 + 1] = '\0';
	assert_int_equal(challenge_parse(large, &c, &e), -EINVAL);
	assert_string_equal(e.msg, "WWW-Authenticate: more than 16 KiB");
	assert_int_equal(challenge_parse(large + 1, &c, &e), 0);
	free(large);
}

static void the_best_of_several_headers_stays(void **state)
{
	struct challenge c = { 0 };
	struct err e;

	assert_int_equal(challenge_parse("Basic realm=x", &c, &e), 0);
	assert_int_equal(challenge_parse("Negotiate", &c, &e), 0);
	assert_int_equal(c.scheme, CHALLENGE_BASIC);
	assert_int_equal(challenge_parse("Bearer realm=\"https://a\"", &c, &e), 0);
	assert_int_equal(c.scheme, CHALLENGE_BEARER);
	assert_int_equal(challenge_parse("Basic realm=x", &c, &e), 0);
	assert_int_equal(challenge_parse("Bearer realm=\"https://b\"", &c, &e), 0);
	assert_string_equal(c.realm, "https://a");
	assert_int_equal(challenge_parse("Bearer", &c, &e), -EINVAL);
	assert_string_equal(c.realm, "https://a");
	challenge_release(&c);
	assert_int_equal(c.scheme, CHALLENGE_NONE);
}

static const struct {
	const char *realm, *service, *scope, *asked, *url;
} urls[] = {
	{ "https://a/t", "reg.io", "repository:a/b:pull", NULL,
	  "https://a/t?service=reg.io&scope=repository%3Aa%2Fb%3Apull" },
	{ "https://a/t", "reg.io", "x", "y z", "https://a/t?service=reg.io&scope=y%20z" },
	{ "https://a/t?k=v", "r&s", NULL, "x", "https://a/t?k=v&service=r%26s&scope=x" },
	{ "https://a/t", NULL, NULL, NULL, "https://a/t" },
	{ "https://a/t", NULL, NULL, "x", "https://a/t?scope=x" },
	{ "https://a/t#f?g", "s", NULL, NULL, "https://a/t?service=s" },
	{ "https://a/t", "", "", NULL, "https://a/t?service=&scope=" },
};

static void token_addresses_are_made(void **state)
{
	size_t i;
	long k;

	for (i = 0; i < sizeof urls / sizeof *urls; i++) {
		char realm[32], service[32], scope[32], *url;
		struct challenge c = { .scheme = CHALLENGE_BEARER, .realm = realm };

		c.service = urls[i].service ? strcpy(service, urls[i].service) : NULL;
		c.scope = urls[i].scope ? strcpy(scope, urls[i].scope) : NULL;
		strcpy(realm, urls[i].realm);
		for (k = 0, url = NULL; !url; k++) {
			allocs_left = k;
			url = challenge_token_url(&c, urls[i].asked);
			allocs_left = -1;
		}
		assert_string_equal(url, urls[i].url);
		free(url);
	}
}

static const struct {
	const char *text, *token;
	unsigned lifetime;
} good_tokens[] = {
	{ "{\"token\":\"t0k.en\",\"expires_in\":300,\"issued_at\":\"x\"}", "t0k.en", 300 },
	{ "{\"access_token\":\"t\"}", "t", 60 },
	{ "{\"access_token\":\"a\",\"token\":\"t\",\"expires_in\":5}", "t", 5 },
	{ "{\"access_token\":\"a\",\"token\":\"\"}", "a", 60 },
	{ "{\"access_token\":\"a\",\"token\":null,\"expires_in\":0}", "a", 60 },
	{ "{\"token\":\"t\",\"expires_in\":-1}", "t", 60 },
	{ "{\"token\":\"t\",\"expires_in\":\"300\"}", "t", 60 },
	{ "{\"token\":\"t\",\"expires_in\":9223372036854775807}", "t", 365 * 24 * 3600 },
};

static const struct {
	const char *text, *why;
} bad_tokens[] = {
	{ "", "wrong JSON in line 1, column 0" },
	{ "secret", "wrong JSON in line 1, column 6" },
	{ "{\"token\":\"secret\"", "wrong JSON in line 1" },
	{ "{\"token\":\"secret\",\"token\":\"secret\"}", "wrong JSON in line 1" },
	{ "{\"token\":\"secret\\u0000\"}", "wrong JSON in line 1" },
	{ "[\"secret\"]", "not a JSON object" },
	{ "{}", "it holds no token" },
	{ "{\"token\":12,\"access_token\":[\"secret\"]}", "it holds no token" },
	{ "{\"token\":\"secret secret\"}", "the token cannot stand in a header" },
	{ "{\"token\":\"secret\\r\\nX: y\"}", "the token cannot stand in a header" },
	{ "{\"token\":\"s\xc3\xa9"
	  "cret\"}",
	  "the token cannot stand in a header" },
	{ "{\"token\":\"secret\\u007f\"}", "the token cannot stand in a header" },
	{ "{\"token\":\"secret\",\"expires_in\":99999999999999999999}", "wrong JSON in line 1" },
};

static void tokens_are_read(void **state)
{
	char *token = NULL;
	unsigned lifetime;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof good_tokens / sizeof *good_tokens; i++) {
		const char *text = good_tokens[i].text;

		if (challenge_parse_token(text, strlen(text), &token, &lifetime, &e) != 0)
			fail_msg("%s: %s", text, e.msg);
		assert_string_equal(token, good_tokens[i].token);
		assert_int_equal(lifetime, good_tokens[i].lifetime);
		free(token);
	}
	token = NULL;
	for (i = 0; i < sizeof bad_tokens / sizeof *bad_tokens; i++) {
		const char *text = bad_tokens[i].text;

		if (challenge_parse_token(text, strlen(text), &token, &lifetime, &e) != -EINVAL)
			fail_msg("%s: not refused", text);
		if (strncmp(e.msg, "token answer: ", 14) != 0 ||
		    !strstr(e.msg, bad_tokens[i].why) || strstr(e.msg, "ecret"))
			fail_msg("%s: %s", text, e.msg);
		assert_null(token);
	}
}

static void large_tokens_are_refused(void **state)
{
	static const size_t sizes[] = { 65536, 65537, 4 * 1024 * 1024 };
	static const char *const why[] = { NULL, "token answer: the token has more than 64 KiB",
					   "token answer: 4194316 bytes of JSON, more than the "
					   "limit of 4194304" };
	unsigned lifetime;
	struct err e;
	size_t i;

	for (i = 0; i < 3; i++) {
		size_t n = sizes[i];
		char *text = malloc(n + 13), *token = NULL;
		int r;

		assert_non_null(text);
		memcpy(text, "{\"token\":\"", 10);
		memset(text + 10, 't', n);
		memcpy(text + 10 + n, "\"}", 3);
		r = challenge_parse_token(text, n + 12, &token, &lifetime, &e);
		assert_int_equal(r, why[i] ? -EINVAL : 0);
		if (why[i])
			assert_string_equal(e.msg, why[i]);
		free(token);
		free(text);
	}
}

static void allocations_fail_one_by_one(void **state)
{
	static const char text[] = "{\"token\":\"t\",\"expires_in\":5}";
	struct challenge c = { 0 };
	char *token = NULL;
	unsigned lifetime;
	struct err e;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		allocs_left = k;
		r = challenge_parse("Basic realm=x, Bearer realm=\"https://a\",service=b,scope=c,"
				    "error=d",
				    &c, &e);
		allocs_left = -1;
		if (r == -ENOMEM)
			assert_int_equal(c.scheme, CHALLENGE_NONE);
	}
	assert_int_equal(r, 0);
	assert_true(k > 5);
	challenge_release(&c);

	/* Where jansson's scanner has no memory, it takes the text for wrong. */
	for (k = 0, r = -ENOMEM; r < 0; k++) {
		allocs_left = k;
		r = challenge_parse_token(text, sizeof text - 1, &token, &lifetime, &e);
		allocs_left = -1;
		assert_true(r == 0 || ((r == -ENOMEM || r == -EINVAL) && !token));
	}
	assert_true(k > 5);
	free(token);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_challenges_are_read),
		cmocka_unit_test(bad_challenges_are_refused),
		cmocka_unit_test(the_best_of_several_headers_stays),
		cmocka_unit_test(token_addresses_are_made),
		cmocka_unit_test(tokens_are_read),
		cmocka_unit_test(large_tokens_are_refused),
		cmocka_unit_test(allocations_fail_one_by_one),
	};

	allocs_wrap_json();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
