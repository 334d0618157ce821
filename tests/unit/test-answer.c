/* SPDX-License-Identifier: Apache-2.0 */
/* test-answer.c - JSON of others: what is taken, what is refused and how that is told, and that its
 * texts are overwritten. */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/answer.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define MARK "\xef\xbb\xbf"
#define SPELT "\\xef\\xbb\\xbf"

static const struct {
	const char *text;
	const char *why; /* of a secret; NULL: it is taken */
	const char *more; /* of what is public: what comes behind; NULL: it is taken */
} texts[] = {
	{ "{}", NULL, NULL },
	{ MARK "{}", NULL, NULL },
	{ SPELT "{}", NULL, NULL },
	{ " \n{\"a\":1}\n ", NULL, NULL },
	{ "{\"a\":1,\"a\":2}", NULL, "wrong JSON in line 1, column 10: duplicate object key" },
	{ MARK MARK "{}", "wrong JSON in line 1, column 1", ": '[' or '{' expected" },
	{ "\xef\xbb{}", "wrong JSON in line 1, column 0", ": unable to decode byte 0xef" },
	{ "\xef\xbb", "wrong JSON in line 1, column 0", ": unable to decode byte 0xef" },
	{ MARK, "wrong JSON in line 1, column 0", ": '[' or '{' expected near end of file" },
	{ "", "wrong JSON in line 1, column 0", ": '[' or '{' expected near end of file" },
	{ "{\n\"a\" x", "wrong JSON in line 2, column 5", ": ':' expected near 'x'" },
	{ "[]", "not a JSON object", "" },
	{ "[{\"a\":\"b\"}]", "not a JSON object", "" },
};

static void texts_are_parsed(void **state)
{
	char expected[256];
	size_t i;

	for (i = 0; i < COUNT_OF(texts); i++) {
		enum answer_privacy privacy;

		for (privacy = ANSWER_PUBLIC; privacy <= ANSWER_SECRET; privacy++) {
			bool public = privacy == ANSWER_PUBLIC;
			bool good = public ? !texts[i].more : !texts[i].why;
			json_t *root = NULL;
			struct err e = { "" };
			int r = answer_parse(texts[i].text, strlen(texts[i].text), privacy, &root,
					     &e);

			snprintf(expected, sizeof expected, "%s%s",
				 texts[i].why ? texts[i].why : "",
				 public && texts[i].more ? texts[i].more : "");
			if (r != (good ? 0 : -EINVAL) || !good != !root)
				fail_msg("%s: %d, %s", texts[i].text, r, e.msg);
			if (!good && strncmp(e.msg, expected,
					     public ? strlen(expected) : sizeof expected) != 0)
				fail_msg("%s: %s", texts[i].text, e.msg);
			answer_forget(root);
		}
	}
}

/* Of a key that stands twice the last one counts. */
static void the_last_of_a_key_counts(void **state)
{
	static const char text[] = "{\"a\":\"1\",\"a\":\"2\"}";
	json_t *root;

	assert_int_equal(answer_parse(text, sizeof text - 1, ANSWER_SECRET, &root, NULL), 0);
	assert_string_equal(answer_text(root, "a"), "2");
	answer_forget(root);
}

static void four_mebibytes_are_the_limit(void **state)
{
	char *text = malloc(ANSWER_MAX + 1);
	json_t *root;
	struct err e;

	memset(text, ' ', ANSWER_MAX + 1);
	text[0] = '{';
	text[ANSWER_MAX - 1] = '}';
	assert_int_equal(answer_parse(text, 4194304, ANSWER_PUBLIC, &root, &e), 0);
	answer_forget(root);
	assert_int_equal(answer_parse(text, 4194305, ANSWER_PUBLIC, &root, &e), -EINVAL);
	assert_string_equal(e.msg, "4194305 bytes of JSON, more than the limit of 4194304");
	free(text);
}

static void texts_are_found(void **state)
{
	static const char text[] =
		"{\"a\":\"b\",\"empty\":\"\",\"number\":1,\"null\":null,\"list\":"
		"[\"a\"]}";
	static const char *const none[] = { "empty", "number", "null", "list", "b", "" };
	json_t *root;
	size_t i;

	assert_int_equal(answer_parse(text, sizeof text - 1, ANSWER_PUBLIC, &root, NULL), 0);
	assert_string_equal(answer_text(root, "a"), "b");
	for (i = 0; i < COUNT_OF(none); i++)
		assert_null(answer_text(root, none[i]));
	assert_null(answer_text(NULL, "a"));
	assert_null(answer_text(json_object_get(root, "list"), "a"));
	answer_forget(root);
}

static void what_is_printable(void **state)
{
	char text[] = "a?b";
	int c;

	for (c = 1; c < 256; c++) {
		text[1] = (char)c;
		if (answer_is_printable(text) != (c > ' ' && c < 0x7f) ||
		    answer_is_printable(text + 1) != (c > ' ' && c < 0x7f))
			fail_msg("byte %d", c);
	}
	assert_true(answer_is_printable("a"));
	assert_false(answer_is_printable(""));
	assert_false(answer_is_printable("a "));
	assert_false(answer_is_printable(" a"));
}

/* ---- out of reach ---- */

enum { WATCHED = 5 };

static struct {
	const char *text;
	size_t n;
	bool freed;
} watched[WATCHED];

/* What is freed within one of those that are watched has been overwritten. */
static void look_and_free(void *p)
{
	size_t i, k;

	for (i = 0; i < WATCHED; i++) {
		if (p != watched[i].text)
			continue;
		for (k = 0; k < watched[i].n; k++)
			assert_int_equal(watched[i].text[k], 0);
		watched[i].text = NULL;
		watched[i].freed = true;
	}
	free(p);
}

static void watch(size_t i, const json_t *string)
{
	watched[i].text = json_string_value(string);
	watched[i].n = json_string_length(string);
	watched[i].freed = false;
	assert_non_null(watched[i].text);
}

static void texts_are_overwritten(void **state)
{
	static const char text[] = "{\"a\":\"the first\",\"b\":[\"the second\",1,[\"the "
				   "third\"],{\"c\":\"the fourth\"}],"
				   "\"d\":{\"e\":{\"f\":\"the fifth\"}},\"g\":null}";
	json_t *root, *list;
	size_t i;

	json_set_alloc_funcs(malloc, look_and_free);
	assert_int_equal(answer_parse(text, sizeof text - 1, ANSWER_SECRET, &root, NULL), 0);
	list = json_object_get(root, "b");
	watch(0, json_object_get(root, "a"));
	watch(1, json_array_get(list, 0));
	watch(2, json_array_get(json_array_get(list, 2), 0));
	watch(3, json_object_get(json_array_get(list, 3), "c"));
	watch(4, json_object_get(json_object_get(json_object_get(root, "d"), "e"), "f"));
	answer_forget(root);
	for (i = 0; i < WATCHED; i++)
		assert_true(watched[i].freed);
	json_set_alloc_funcs(malloc, free);
}

/* A list at the top is no answer, and is forgotten as one. */
static char listed[] = "[\"a secret\"]";
static bool seen;

static void look_for_secret(void *p)
{
	seen = seen || (p && malloc_usable_size(p) >= 9 && memcmp(p, "a secret", 9) == 0);
	free(p);
}

static void a_refused_list_is_overwritten(void **state)
{
	json_t *root;

	seen = false;
	json_set_alloc_funcs(malloc, look_for_secret);
	assert_int_equal(answer_parse(listed, sizeof listed - 1, ANSWER_SECRET, &root, NULL),
			 -EINVAL);
	json_set_alloc_funcs(malloc, free);
	assert_false(seen);
}

/* No text that is right is called wrong for lack of memory alone, as far as jansson says so. */
static void memory_runs_out(void **state)
{
	static const char text[] = "{\"a\":[{\"b\":\"c\"},1,2.5,true,null]}";
	unsigned short_of_memory = 0;
	json_t *root;
	struct err e;
	long k;
	int r;

	allocs_wrap_json();
	for (k = 0, r = -1; r < 0; k++) {
		allocs_left = k;
		r = answer_parse(text, sizeof text - 1, ANSWER_PUBLIC, &root, &e);
		allocs_left = -1;
		if (r == -ENOMEM)
			assert_string_equal(e.msg, "out of memory");
		short_of_memory += r == -ENOMEM;
		assert_true(r == 0 || r == -ENOMEM || r == -EINVAL);
	}
	assert_true(short_of_memory > 2);
	answer_forget(root);
	json_set_alloc_funcs(malloc, free);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_are_parsed),
		cmocka_unit_test(the_last_of_a_key_counts),
		cmocka_unit_test(four_mebibytes_are_the_limit),
		cmocka_unit_test(texts_are_found),
		cmocka_unit_test(what_is_printable),
		cmocka_unit_test(texts_are_overwritten),
		cmocka_unit_test(a_refused_list_is_overwritten),
		cmocka_unit_test(memory_runs_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
