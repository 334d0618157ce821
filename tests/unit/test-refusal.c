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
#include "tests/unit/fenced_secrets.h"

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
	/* four bytes are a secret, and so are the first sixteen of one, not fifteen */
	{ 401, "{\"details\":\"abc\"}", "Bearer abc", "HTTP 401 (unauthorized): abc" },
	{ 401, "{\"details\":\"abcd\"}", "Bearer abcd", "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"0123456789abcde-\"}", "Bearer 0123456789abcdef",
	  "HTTP 401 (unauthorized): 0123456789abcde-" },
	{ 401, "{\"details\":\"0123456789abcdef-\"}", "Bearer 0123456789abcdefg",
	  "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"0123456789abcde\"}", "Bearer 0123456789abcde",
	  "HTTP 401 (unauthorized)" },
	{ 401, "{\"details\":\"abc is bad\"}", "Basic bWU6YWJj",
	  "HTTP 401 (unauthorized): abc is bad" },
	{ 401, "{\"details\":\"abcd is bad\"}", "basic bWU6YWJjZA==", "HTTP 401 (unauthorized)" },
	/* what stands in no Basic header is no password of ours */
	{ 401, "{\"details\":\"secret\"}", "Digest bWU6c2VjcmV0",
	  "HTTP 401 (unauthorized): secret" },
	{ 401, "{\"details\":\"secret\"}", "Basics bWU6c2VjcmV0",
	  "HTTP 401 (unauthorized): secret" },
	{ 401, "{\"details\":\"secret\"}", "Basic c2VjcmV0", "HTTP 401 (unauthorized): secret" },
	{ 401, "{\"details\":\"fine\"}", "Basic ", "HTTP 401 (unauthorized): fine" },
	/* what is an end of words, and what is not */
	{ 404, "{\"message\":\"a. b . . \"}", NULL, "HTTP 404 (not found): a. b" },
	{ 404, "{\"message\":\" . \"}", NULL, "HTTP 404 (not found)" },
	{ 404, "{\"message\":\"a\\u001fb\\u007fc~\"}", NULL, "HTTP 404 (not found): a b c~" },
	{ 404, "{\"message\":\"\xc3\xa9\"}", NULL, "HTTP 404 (not found): \xc3\xa9" },
	{ 404,
	  "{\"error\":\"a\",\"code\":\"b\",\"error_description\":\"c\",\"message\":\"d\","
	  "\"details\":\"e\"}",
	  NULL, "HTTP 404 (not found): a: b: c: d: e" },
	{ 404,
	  "{\"errors\":[{\"code\":\"A\"},{\"message\":\"b\"},{\"code\":\"C\",\"message\":\"d\"}]}",
	  NULL, "HTTP 404 (not found): A; b; C: d" },
	{ 404, "\t\r\n <?xml?><Code>A</Code><Message>b</Message>", NULL,
	  "HTTP 404 (not found): A: b" },
	{ 404, "<?xml?><Message>b</Message><Code>A</Code>", NULL, "HTTP 404 (not found): A: b" },
	{ 404, "<Err><Code>A</Code>", NULL, "HTTP 404 (not found)" },
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
	size_t i, n;

	/* of two bytes each: whole ones are left, wherever the cut falls */
	for (i = 0; i < 4; i++) {
		bool xml = i / 2 == 1;
		size_t shift = i % 2;

		n = (size_t)snprintf(body, sizeof body, "%s%s",
				     xml ? "<Error><Code>" : "{\"details\":\"", shift ? "x" : "");
		while (n < 360)
			n += (size_t)snprintf(body + n, sizeof body - n, "\xc3\xa9");
		n += (size_t)snprintf(body + n, sizeof body - n, xml ? "</Code>" : "\"}");
		refusal_take(&r, body, n);
		refusal_words(&r, NULL, words);
		assert_in_range(strlen(words), REFUSAL_WORDS - 3, REFUSAL_WORDS - 1);
		assert_int_equal((strlen(words) - shift) % 2, 0);
		refusal_release(&r);
	}
}

/* The longest password that is looked for has 1,020 bytes or so. */
static void long_passwords_are_found(void **state)
{
	static const struct {
		size_t groups; /* of four bytes in base64 */
		bool hidden;
	} lengths[] = { { 340, true }, { 341, true }, { 342, false } };
	char header[2048], text[REFUSAL_TEXT];
	size_t i, k, n;

	for (i = 0; i < COUNT_OF(lengths); i++) {
		static const char body[] = "{\"details\":\"secretsecretsecret\"}";
		struct refusal r = { 0 };

		n = (size_t)sprintf(header, "Basic bTpz"); /* m:s */
		for (k = 1; k < lengths[i].groups; k++) /* ecr, ets */
			n += (size_t)sprintf(header + n, "%s", k % 2 ? "ZWNy" : "ZXRz");
		refusal_take(&r, body, sizeof body - 1);
		refusal_text(&r, 401, header, text);
		if (!strstr(text, "secret") != lengths[i].hidden)
			fail_msg("%zu: %s", lengths[i].groups, text);
		refusal_release(&r);
	}
}

/* Of texts that fill the words, or all but a few bytes, nothing is written behind them, and what
 * has no room is left out with what would part it. */
static void words_end_where_their_room_ends(void **state)
{
	struct {
		char words[REFUSAL_WORDS], behind[16];
	} out;
	char body[600], expected[600];
	size_t first, second;

	for (first = REFUSAL_WORDS - 8; first < REFUSAL_WORDS + 8; first++)
		for (second = 1; second < 10; second++) {
			struct refusal r = { 0 };
			size_t n = (size_t)sprintf(body, "{\"errors\":[{\"code\":\"%0*d\",",
						   (int)first, 0);

			n += (size_t)sprintf(body + n, "\"message\":\"%0*d\"}]}", (int)second, 1);
			refusal_take(&r, body, n);
			memset(&out, '#', sizeof out);
			refusal_words(&r, NULL, out.words);
			refusal_release(&r);
			/* 239 bytes of both, if there is any room for the second */
			sprintf(expected, "%0*d%s%0*d", (int)first, 0,
				first < REFUSAL_WORDS - 3 ? ": " : "", (int)second, 1);
			expected[first < REFUSAL_WORDS - 3 || first >= REFUSAL_WORDS - 1
					 ? REFUSAL_WORDS - 1
					 : first] = '\0';
			assert_string_equal(out.words, expected);
			assert_memory_equal(out.behind, "################", 16);
		}
}

/* Words of nothing but what is taken away at their end, with the same before them in memory. */
static void nothing_is_taken_away_before_the_words(void **state)
{
	static const struct {
		char before, within;
	} edges[] = { { '\x80', '\x80' }, { '\xff', '\x80' }, { ' ', '.' }, { '.', '.' } };
	struct {
		char before[16], words[REFUSAL_WORDS];
	} out;
	char body[400];
	size_t i, k;

	for (i = 0; i < COUNT_OF(edges); i++) {
		struct refusal r = { 0 };
		size_t n = (size_t)sprintf(body, "<Error><Code>");

		memset(body + n, edges[i].within, 300);
		body[n + 300] = '\0';
		refusal_take(&r, body, n + 300);
		memset(&out, edges[i].before, sizeof out);
		refusal_words(&r, NULL, out.words);
		refusal_release(&r);
		assert_string_equal(out.words, "");
		for (k = 0; k < sizeof out.before; k++)
			assert_int_equal(out.before[k], edges[i].before);
	}
}

/* A body that has no memory is none. */
static void a_refusal_does_without_memory(void **state)
{
	struct refusal r = { 0 };
	char text[REFUSAL_TEXT];

	allocs_left = 0;
	refusal_take(&r, "{}", 2);
	allocs_left = -1;
	assert_true(!r.body && r.n == 0);
	refusal_text(&r, 404, NULL, text);
	assert_string_equal(text, "HTTP 404 (not found)");
	/* and what is there is written within its memory */
	refusal_take(&r, text, 5);
	assert_int_equal(r.n, 5);
	assert_string_equal(r.body, "HTTP ");
	refusal_release(&r);
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
		cmocka_unit_test(long_passwords_are_found),
		cmocka_unit_test(words_end_where_their_room_ends),
		cmocka_unit_test(nothing_is_taken_away_before_the_words),
		cmocka_unit_test(a_refusal_does_without_memory),
		cmocka_unit_test(a_long_body_is_looked_at_in_part),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
