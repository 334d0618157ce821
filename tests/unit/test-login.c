/* SPDX-License-Identifier: Apache-2.0 */
/* test-login.c - what is sent to log in, byte by byte, and where a password may go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/login.h"
#include "fetch/secret.h"
#include "tests/unit/fenced_secrets.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* As in RFC 4648. */
static void encode(const char *text, char *out)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t n = strlen(text), i;

	for (i = 0; i < n; i += 3) {
		uint32_t bits = (uint32_t)(unsigned char)text[i] << 16;

		bits |= i + 1 < n ? (uint32_t)(unsigned char)text[i + 1] << 8 : 0;
		bits |= i + 2 < n ? (unsigned char)text[i + 2] : 0;
		*out++ = digits[bits >> 18];
		*out++ = digits[bits >> 12 & 63];
		*out++ = i + 1 < n ? digits[bits >> 6 & 63] : '=';
		*out++ = i + 2 < n ? digits[bits & 63] : '=';
	}
	*out = '\0';
}

static void passwords_of_each_length(void **state)
{
	char user[] = "me@x\xc3\xa9", password[64] = "", plain[80], expected[128] = "Basic ";
	const struct credentials c = { .user = user, .password = password };
	char *header;
	size_t n;

	fences_secret = "pass0word";
	for (n = 0; n < sizeof password; n++) {
		memset(password, 0, sizeof password);
		memcpy(password, "pass0wordpass0wordpass0wordpass0wordpass0wordpass0wordpass0word",
		       n);
		snprintf(plain, sizeof plain, "%s:%s", user, password);
		encode(plain, expected + 6);
		header = login_basic(&c);
		assert_string_equal(header, expected);
		assert_true(fences_is_tight(header));
		secret_free(header);
		allocs_left = 1; /* the header's own */
		assert_null(login_basic(&c));
		allocs_left = 0;
		assert_null(login_basic(&c));
		allocs_left = -1;
	}
	fences_secret = NULL;
}

static void a_token_follows_its_scheme(void **state)
{
	char *header = login_bearer("a.b-c");

	assert_string_equal(header, "Bearer a.b-c");
	free(header);
	allocs_left = 0;
	assert_null(login_bearer("a.b-c"));
	allocs_left = -1;
}

static const struct {
	const char *service, *scopes, *token, *form;
} forms[] = {
	{ "s", "repository:app:pull", "secret/t",
	  "grant_type=refresh_token&service=s&scope=repository%3Aapp%3Apull"
	  "&client_id=nbdkit-overlaybd&refresh_token=secret%2Ft" },
	{ "a b&c=d", "x y", "secret&t=\xc3\xa9",
	  "grant_type=refresh_token&service=a%20b%26c%3Dd&scope=x%20y"
	  "&client_id=nbdkit-overlaybd&refresh_token=secret%26t%3D%C3%A9" },
	/* a service that is not named is the host; nothing is asked for */
	{ NULL, "", "secret",
	  "grant_type=refresh_token&service=reg.io%3A5000&scope=&client_id=nbdkit-overlaybd"
	  "&refresh_token=secret" },
	{ "", "x", "secret",
	  "grant_type=refresh_token&service=&scope=x&client_id=nbdkit-overlaybd"
	  "&refresh_token=secret" },
};

static void forms_are_filled_in(void **state)
{
	size_t i;
	long k;

	fences_secret = "secret";
	for (i = 0; i < COUNT_OF(forms); i++) {
		char service[32], token[32], *form = NULL;
		struct challenge c = { .scheme = CHALLENGE_BEARER };
		struct credentials credentials = { .identity_token = token };

		c.service = forms[i].service ? strcpy(service, forms[i].service) : NULL;
		strcpy(token, forms[i].token);
		/* each of the five fields has no memory once: there is no form without it */
		for (k = 0; k < 5; k++) {
			allocs_left = k;
			assert_null(login_form(&c, "reg.io:5000", &credentials, forms[i].scopes));
			allocs_left = -1;
		}
		form = login_form(&c, "reg.io:5000", &credentials, forms[i].scopes);
		assert_string_equal(form, forms[i].form);
		secret_free(form);
	}
	fences_secret = NULL;
}

/* No libcurl's memory, no field; and what there was is freed. */
char *__real_curl_easy_escape(void *curl, const char *text, int n);
char *__wrap_curl_easy_escape(void *curl, const char *text, int n);

static long escapes_left = -1;

char *__wrap_curl_easy_escape(void *curl, const char *text, int n)
{
	if (escapes_left == 0)
		return NULL;
	escapes_left -= escapes_left > 0;
	return __real_curl_easy_escape(curl, text, n);
}

static void escaping_runs_out_of_memory(void **state)
{
	char token[] = "secret";
	const struct challenge c = { .scheme = CHALLENGE_BEARER };
	const struct credentials credentials = { .identity_token = token };

	fences_secret = "secret";
	for (escapes_left = 0; escapes_left < 5;) {
		long k = escapes_left;

		assert_null(login_form(&c, "reg.io", &credentials, "x"));
		escapes_left = k + 1;
	}
	escapes_left = -1;
	fences_secret = NULL;
}

static const struct {
	const char *realm, *base;
	bool safe;
} places[] = {
	{ "https://auth.io/t", "https://reg.io", true },
	{ "https://auth.io/t", "http://reg.io", true },
	{ "HTTPS://auth.io/t", "http://reg.io", true },
	{ "http://reg.io/t", "https://reg.io", false },
	{ "http://reg.io/t", "http://reg.io", true },
	{ "http://REG.io:1/t", "http://reg.io:5000", true },
	{ "http://auth.io/t", "http://reg.io", false },
	/* both on this machine, or neither */
	{ "http://127.0.0.1/t", "http://localhost:5000", true },
	{ "http://[::1]/t", "http://127.0.0.1:5000", true },
	{ "http://localhost/t", "http://reg.io", false },
	{ "http://auth.io/t", "http://localhost", false },
	{ "http://127.0.0.1/t", "https://localhost", false },
	/* what is no address */
	{ "auth.io/t", "https://reg.io", false },
	{ "https://", "https://reg.io", false },
	{ "https://auth.io/t", "reg.io", false },
	{ "https://auth.io/t", "ftp://reg.io", false },
	{ "", "", false },
};

static void a_password_goes_where_nobody_listens(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(places); i++)
		if (login_realm_is_safe(places[i].realm, places[i].base) != places[i].safe)
			fail_msg("%s for %s", places[i].realm, places[i].base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passwords_of_each_length),
		cmocka_unit_test(a_token_follows_its_scheme),
		cmocka_unit_test(forms_are_filled_in),
		cmocka_unit_test(escaping_runs_out_of_memory),
		cmocka_unit_test(a_password_goes_where_nobody_listens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
