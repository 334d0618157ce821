/* SPDX-License-Identifier: Apache-2.0 */
/* test-refusal.c - statuses and error bodies in words, and no secret in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/refusal.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static const struct {
	unsigned status;
	const char *body, *secret, *text;
} rows[] = {
	{ 404, NULL, NULL, "HTTP 404 (not found)" },
	{ 401, "", NULL, "HTTP 401 (unauthorized)" },
	{ 403, "{}", NULL, "HTTP 403 (forbidden)" },
	{ 429, "[]", NULL, "HTTP 429 (too many requests)" },
	{ 308, "x", NULL, "HTTP 308 (permanent redirect)" },
	{ 501, NULL, NULL, "HTTP 501 (not implemented)" },
	{ 599, NULL, NULL, "HTTP 599" },
	{ 599, "{\"errors\":[{\"code\":\"A\"}]}", NULL, "HTTP 599: A" },
	/* registries */
	{ 404, "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest unknown\"}]}",
	  NULL, "HTTP 404 (not found): MANIFEST_UNKNOWN: manifest unknown" },
	{ 404, "{\"errors\":[{\"message\":\"no.\"}]}", NULL, "HTTP 404 (not found): no" },
	{ 404,
	  "{\"errors\":[{\"code\":\"A\",\"message\":\"b\",\"detail\":\"c\"},{\"code\":\"D\"}]}",
	  NULL, "HTTP 404 (not found): A: b; D" },
	{ 404, "{\"errors\":[{\"code\":7},\"x\",null]}", NULL, "HTTP 404 (not found)" },
	{ 404, "{\"errors\":{\"code\":\"A\"}}", NULL, "HTTP 404 (not found)" },
	{ 404, "{\"errors\":[{\"code\":\"A\",\"message\":\" \\n two\\nlines \\u0007\"}]}", NULL,
	  "HTTP 404 (not found): A: two lines" },
	/* token services */
	{ 401, "{\"error\":\"invalid_grant\",\"error_description\":\"it has run out\"}", NULL,
	  "HTTP 401 (unauthorized): invalid_grant: it has run out" },
	{ 401, "{\"details\":\"incorrect username or password\"}", NULL,
	  "HTTP 401 (unauthorized): incorrect username or password" },
	{ 400, "{\"code\":12,\"message\":\"why\"}", NULL, "HTTP 400 (bad request): why" },
	/* stores */
	{ 403,
	  "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired"
	  "</Message><HostId>x</HostId></Error>",
	  NULL, "HTTP 403 (forbidden): AccessDenied: Request has expired" },
	{ 403, "  <Error><Code>A</Code></Error>", NULL, "HTTP 403 (forbidden): A" },
	{ 403, "<Error><Message>cut", NULL, "HTTP 403 (forbidden): cut" },
	/* pages */
	{ 502, "<html><Code>A</Code></html>", NULL, "HTTP 502 (bad gateway)" },
	{ 502, "upstream", NULL, "HTTP 502 (bad gateway)" },
	/* what they repeat is not told */
	{ 401, "{\"details\":\"token abcdef is bad\"}", "Bearer abcdef",
	  "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"token abcdef is bad\"}", "Bearer abcdeg",
	  "HTTP 401 (unauthorized): token abcdef is bad" },
	{ 401, "{\"details\":\"abc\"}", "Bearer abc", "HTTP 401 (unauthorized): abc" },
	{ 401, "{\"details\":\"0123456789abcdefxxxx\"}", "Bearer 0123456789abcdefghij",
	  "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"bWU6c2VjcmV0 is bad\"}", "Basic bWU6c2VjcmV0",
	  "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"me:secret is bad\"}", "Basic bWU6c2VjcmV0",
	  "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"me is bad\"}", "Basic bWU6c2VjcmV0",
	  "HTTP 401 (unauthorized): me is bad" },
	{ 401, "{\"details\":\"se:cret is bad\"}",
	  "Basic bWU6c2U6Y3JldA==", "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"fine\"}", "Basic ???", "HTTP 401 (unauthorized): fine" },
	{ 401, "{\"details\":\"fine\"}", "odd", "HTTP 401 (unauthorized): fine" },
};

static void refusals_are_put_into_words(void **state)
{
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct refusal r = { 0 };
		char text[REFUSAL_TEXT];

		if (rows[i].body) {
			size_t n = strlen(rows[i].body);

			refusal_take(&r, rows[i].body, n / 2);
			refusal_take(&r, rows[i].body + n / 2, n - n / 2);
		}
		refusal_text(&r, rows[i].status, rows[i].secret, text);
		if (strcmp(text, rows[i].text) != 0)
			fail_msg("%u, %s: %s", rows[i].status, rows[i].body, text);
		refusal_release(&r);
		assert_null(r.body);
		assert_int_equal(r.n, 0);
	}
}

static void long_words_are_cut(void **state)
{
	struct refusal r = { 0 };
	char body[400], words[REFUSAL_WORDS];
	size_t n, shift;

	/* of two bytes each: whole ones are left, wherever the cut falls */
	for (shift = 0; shift < 2; shift++) {
		n = (size_t)snprintf(body, sizeof body, "{\"details\":\"%s", shift ? "x" : "");
		while (n < 360)
			n += (size_t)snprintf(body + n, sizeof body - n, "\xc3\xa9");
		n += (size_t)snprintf(body + n, sizeof body - n, "\"}");
		refusal_take(&r, body, n);
		refusal_words(&r, NULL, words);
		assert_in_range(strlen(words), REFUSAL_WORDS - 3, REFUSAL_WORDS - 1);
		assert_int_equal((strlen(words) - shift) % 2, 0);
		refusal_release(&r);
	}
}

static void a_long_body_is_looked_at_in_part(void **state)
{
	struct refusal r = { 0 };
	char words[REFUSAL_WORDS];
	char *page = calloc(1, 3 * REFUSAL_MAX);

	assert_non_null(page);
	memset(page, ' ', 3 * REFUSAL_MAX);
	memcpy(page, "<Error><Code>A</Code>", 21);
	refusal_take(&r, page, 5000);
	refusal_take(&r, page + 5000, 5000);
	refusal_take(&r, page + 10000, 10000);
	assert_int_equal(r.n, REFUSAL_MAX);
	refusal_words(&r, NULL, words);
	assert_string_equal(words, "A");
	refusal_release(&r);
	free(page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refusals_are_put_into_words),
		cmocka_unit_test(long_words_are_cut),
		cmocka_unit_test(a_long_body_is_looked_at_in_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
