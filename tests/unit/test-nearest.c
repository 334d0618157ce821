/* SPDX-License-Identifier: Apache-2.0 */
/* test-nearest.c - which mistyped words are taken for which known ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/nearest.h"

static const char *const words[] = { "map", "info", "lowers", "block-size", "upper", "" };

static void known_slips(void **state)
{
	static const struct {
		const char *word, *nearest;
	} rows[] = {
		{ "mpa", NULL },
		{ "maps", "map" },
		{ "mop", "map" },
		{ "inof", "info" },
		{ "lower", "lowers" },
		{ "Lowers", "lowers" },
		{ "blocksize", "block-size" },
		{ "bloc-sizes", "block-size" },
		{ "upper", "upper" },
		{ "something", NULL },
		{ "x", "" },
		{ "xyz", NULL },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *found = nearest_word(rows[i].word, words, 6);

		if (rows[i].nearest)
			assert_string_equal(found, rows[i].nearest);
		else
			assert_null(found);
	}
}

/* How many edits a word may be away, and which kinds count as one. */
static void the_number_of_edits(void **state)
{
	static const struct {
		const char *known, *word;
		bool near;
	} rows[] = {
		{ "abc", "xabc", true },
		{ "abc", "bc", true },
		{ "abc", "ab", true },
		{ "abc", "abcx", true },
		{ "abc", "axbc", true },
		{ "abc", "axc", true },
		{ "abc", "xaxbc", false },
		{ "abc", "c", false },
		{ "abc", "xxc", false },
		{ "abcd", "xabcdx", true },
		{ "abcd", "cd", true },
		{ "abcd", "badc", false },
		{ "abcd", "xaxbxcd", false },
		{ "abcdefg", "xxcdefg", true },
		{ "abcdefg", "xxxdefg", false },
		{ "abcdefgh", "xxxdefgh", true },
		{ "abcdefgh", "defgh", true },
		{ "abcdefgh", "efgh", false },
		{ "abcdefgh", "xyzabcdefgh", true },
		{ "abcdefgh", "wxyzabcdefgh", false },
		{ "", "", true },
		{ "a", "", true },
		{ "ab", "", false },
	};
	static const char *const alike[] = { "far", "bar", "car" };
	size_t i;

	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const char *found = nearest_word(rows[i].word, &rows[i].known, 1);

		if ((found != NULL) != rows[i].near)
			fail_msg("%s, %s", rows[i].known, rows[i].word);
	}
	/* The first of those that are as near; a nearer one, wherever it is. */
	assert_string_equal(nearest_word("xar", alike, 3), "far");
	assert_string_equal(nearest_word("car", alike, 3), "car");
	assert_string_equal(nearest_word("far", alike, 3), "far");
}

static void no_words_and_long_words(void **state)
{
	char word[200];
	const char *const longest[] = { word };

	memset(word, 'a', sizeof word);
	word[sizeof word - 1] = '\0';
	assert_null(nearest_word("a", words, 0));
	assert_null(nearest_word(word, words, 6));
	assert_null(nearest_word("aaaa", longest, 1));
	word[65] = '\0';
	assert_null(nearest_word(word + 1, longest, 1)); /* the known one is too long, */
	word[64] = '\0';
	assert_ptr_equal(nearest_word(word + 1, longest, 1), word);
	assert_ptr_equal(nearest_word(word, longest, 1), word);
	{
		char longer[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

		assert_int_equal(strlen(longer), 65);
		assert_null(nearest_word(longer, longest, 1)); /* and here the other */
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_slips),
		cmocka_unit_test(the_number_of_edits),
		cmocka_unit_test(no_words_and_long_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
