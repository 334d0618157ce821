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
	{ "Bearer realm=\"https://a/~\",service=\"~\x80\",scope=\" \"", CHALLENGE_BEARER,
	  "https://a/~", "~\x80", " ", NULL },
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

#define BEARER(parameters)                                                                         \
	"Bearer " parameters, CHALLENGE_BEARER, "https://a", "reg", "repository:a:pull"
#define REALM "realm=\"https://a\""
#define REST "service=reg,scope=\"repository:a:pull\""

/* What registries write that the grammar does not have: the rest of it counts. */
static const struct {
	const char *value;
	enum challenge_scheme scheme;
	const char *realm, *service, *scope;
} odd[] = {
	{ BEARER("realm=https://a," REST) },
	{ BEARER(REALM "x," REST) },
	{ BEARER(REALM "," REST ",error=") },
	{ BEARER("error=," REALM "," REST) },
	{ BEARER(REALM "," REST ",error=\"") },
	{ BEARER(REALM "," REST ",error=\"does not end") },
	{ BEARER(REALM "," REST ",scope=x,Service=y,realm=\"https://b\"") },
	{ BEARER(REALM "," REST ",error=\"a\r\nX: y\"") },
	{ BEARER(REALM "," REST ",a,b c=\"d") },
	{ BEARER(REALM "," REST ", \"y\"") },
	{ BEARER(REALM "," REST ";error=x, =, \x01,,") },
	{ BEARER(REALM " " REST) }, /* a blank in place of the comma */
	{ "realm=\"x\", Basic", CHALLENGE_BASIC, NULL, NULL, NULL },
	{ "Basic realm=x, \"y\"", CHALLENGE_BASIC, NULL, NULL, NULL },
	{ "\x01 Basic", CHALLENGE_BASIC, NULL, NULL, NULL },
	/* a Bearer that cannot be met does not hide the others */
	{ "Basic, Bearer service=x", CHALLENGE_BASIC, NULL, NULL, NULL },
	{ "Bearer realm=\"file:///etc/passwd\", Basic", CHALLENGE_BASIC, NULL, NULL, NULL },
	{ "Bearer, "
	  "Bearer " REALM,
	  CHALLENGE_BEARER, "https://a", NULL, NULL },
	{ "Bearer", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"\"", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"https://a b\"", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"https://\xc3\xa9\"", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"https://a\\\nb\"", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"https://a\x7f\"", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "Bearer realm=", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "realm=\"x\"", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "=", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "\"", CHALLENGE_NONE, NULL, NULL, NULL },
	{ "Basic\x01", CHALLENGE_NONE, NULL, NULL, NULL },
};

static void one_odd_part_loses_no_challenge(void **state)
{
	size_t i;

	for (i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct challenge c = { 0 };
		struct err e = { "" };

		if (challenge_parse(odd[i].value, &c, &e) != 0)
			fail_msg("%s: %s", odd[i].value, e.msg);
		if (c.scheme != odd[i].scheme)
			fail_msg("%s: scheme %d", odd[i].value, c.scheme);
		expect_text(odd[i].value, c.realm, odd[i].realm);
		expect_text(odd[i].value, c.service, odd[i].service);
		expect_text(odd[i].value, c.scope, odd[i].scope);
		challenge_release(&c);
	}
}

static void a_value_that_is_too_long_is_refused(void **state)
{
	struct challenge c = { .scheme = CHALLENGE_BASIC };
	char *large = malloc(16 * 1024 + 2);
	struct err e = { "" };

	assert_non_null(large);
	memset(large, ',', 16 * 1024 + 1);
	large[16 * 1024 + 1] = '\0';
	assert_int_equal(challenge_parse(large, &c, &e), -EINVAL);
	assert_string_equal(e.msg, "WWW-Authenticate: more than 16 KiB");
	assert_int_equal(c.scheme, CHALLENGE_BASIC);
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
	assert_true(c.basic);
	assert_int_equal(challenge_parse("Bearer realm=\"https://a\"", &c, &e), 0);
	assert_int_equal(c.scheme, CHALLENGE_BEARER);
	assert_int_equal(challenge_parse("Basic realm=x", &c, &e), 0);
	assert_int_equal(challenge_parse("Bearer realm=\"https://b\"", &c, &e), 0);
	assert_string_equal(c.realm, "https://a");
	assert_true(c.basic);
	assert_int_equal(challenge_parse("Bearer", &c, &e), 0);
	assert_string_equal(c.realm, "https://a");
	challenge_release(&c);
	assert_int_equal(c.scheme, CHALLENGE_NONE);
	assert_int_equal(challenge_parse("Bearer realm=\"https://a\", Negotiate", &c, &e), 0);
	assert_false(c.basic);
	challenge_release(&c);
	assert_int_equal(challenge_parse("Bearer realm=\"https://a\", Basic", &c, &e), 0);
	assert_true(c.basic);
	challenge_release(&c);
}

static const struct {
	const char *realm, *service, *scope, *asked, *url;
} urls[] = {
	{ "https://a/t", "reg.io", "repository:a/b:pull", NULL,
	  "https://a/t?service=reg.io&scope=repository%3Aa%2Fb%3Apull" },
	/* the challenge's and ours, unless one has the other */
	{ "https://a/t", "reg.io", "x", "y", "https://a/t?service=reg.io&scope=x&scope=y" },
	{ "https://a/t", NULL, "aws", "repository:a:pull",
	  "https://a/t?scope=aws&scope=repository%3Aa%3Apull" },
	/* a scope that has no actions is covered by itself alone */
	{ "https://a/t", NULL, "x", "x", "https://a/t?scope=x" },
	{ "https://a/t", NULL, "x yz", "yz", "https://a/t?scope=x&scope=yz" },
	{ "https://a/t", NULL, "xy", "x", "https://a/t?scope=xy&scope=x" },
	{ "https://a/t", NULL, "x", "xy", "https://a/t?scope=x&scope=xy" },
	{ "https://a/t", NULL, "r:a", "r:a:b", "https://a/t?scope=r%3Aa&scope=r%3Aa%3Ab" },
	{ "https://a/t", NULL, "r:a:b", "r:a", "https://a/t?scope=r%3Aa%3Ab&scope=r%3Aa" },
	{ "https://a/t", NULL, "r:ab:c", "r:a:c", "https://a/t?scope=r%3Aab%3Ac&scope=r%3Aa%3Ac" },
	{ "https://a/t", NULL, "r:a:b,c,d", "r:a:d,b", "https://a/t?scope=r%3Aa%3Ab%2Cc%2Cd" },
	{ "https://a/t", NULL, "r:a:b,c r:a:d", "r:a:d,c",
	  "https://a/t?scope=r%3Aa%3Ab%2Cc&scope=r%3Aa%3Ad&scope=r%3Aa%3Ad%2Cc" },
	{ "https://a/t", NULL, "r:a:b", "r:a:", "https://a/t?scope=r%3Aa%3Ab&scope=r%3Aa%3A" },
	{ "https://a/t", NULL, "r:a:", "r:a:b", "https://a/t?scope=r%3Aa%3A&scope=r%3Aa%3Ab" },
	{ "https://a/t", NULL, "r:a:pull", "r:a:pull", "https://a/t?scope=r%3Aa%3Apull" },
	{ "https://a/t", NULL, "r:a:push,pull", "r:a:pull",
	  "https://a/t?scope=r%3Aa%3Apush%2Cpull" },
	{ "https://a/t", NULL, "r:a:pull", "r:a:pull,push",
	  "https://a/t?scope=r%3Aa%3Apull&scope=r%3Aa%3Apull%2Cpush" },
	{ "https://a/t", NULL, "r:a:pul", "r:a:pull",
	  "https://a/t?scope=r%3Aa%3Apul&scope=r%3Aa%3Apull" },
	{ "https://a/t", NULL, "r:a:pullx", "r:a:pull",
	  "https://a/t?scope=r%3Aa%3Apullx&scope=r%3Aa%3Apull" },
	{ "https://a/t", NULL, "r:l/a:pull  r:b:pull", "r:a:pull",
	  "https://a/t?scope=r%3Al%2Fa%3Apull&scope=r%3Ab%3Apull&scope=r%3Aa%3Apull" },
	{ "https://a/t", NULL, "r:b:pull r:a:*,pull", "r:a:pull",
	  "https://a/t?scope=r%3Ab%3Apull&scope=r%3Aa%3A%2A%2Cpull" },
	{ "https://a/t?k=v", "r&s", NULL, "x", "https://a/t?k=v&service=r%26s&scope=x" },
	{ "https://a/t", NULL, NULL, NULL, "https://a/t" },
	{ "https://a/t", NULL, NULL, "x", "https://a/t?scope=x" },
	{ "https://a/t#f?g", "s", NULL, NULL, "https://a/t?service=s" },
	{ "https://a/t", "", "", NULL, "https://a/t?service=" },
};

static void token_addresses_are_made(void **state)
{
	size_t i;
	long k;

	for (i = 0; i < sizeof urls / sizeof *urls; i++) {
		char realm[32], service[32], scope[32], *url, *scopes;
		struct challenge c = { .scheme = CHALLENGE_BEARER, .realm = realm };

		c.service = urls[i].service ? strcpy(service, urls[i].service) : NULL;
		c.scope = urls[i].scope ? strcpy(scope, urls[i].scope) : NULL;
		strcpy(realm, urls[i].realm);
		for (k = 0, url = NULL; !url; k++) {
			allocs_left = k;
			scopes = challenge_scopes(&c, urls[i].asked);
			url = scopes ? challenge_token_url(&c, scopes) : NULL;
			allocs_left = -1;
			free(scopes);
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
	{ "{\"token\":\"t\",\"expires_in\":1}", "t", 1 },
	{ "{\"token\":\"t\",\"expires_in\":31535999}", "t", 31535999 },
	{ "{\"token\":\"t\",\"expires_in\":31536001}", "t", 31536000 },
	{ "{\"token\":\"s\",\"token\":\"t\"}", "t", 60 },
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
		cmocka_unit_test(one_odd_part_loses_no_challenge),
		cmocka_unit_test(a_value_that_is_too_long_is_refused),
		cmocka_unit_test(the_best_of_several_headers_stays),
		cmocka_unit_test(token_addresses_are_made),
		cmocka_unit_test(tokens_are_read),
		cmocka_unit_test(large_tokens_are_refused),
		cmocka_unit_test(allocations_fail_one_by_one),
	};

	allocs_wrap_json();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
