/* SPDX-License-Identifier: Apache-2.0 */
/* test-nearest.c - which mistyped words are taken for which known ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
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

static void no_words_and_long_words(void **state)
{
	char word[200];
	const char *const longest[] = { word };

	memset(word, 'a', sizeof word);
	word[sizeof word - 1] = '\0';
	assert_null(nearest_word("a", words, 0));
	assert_null(nearest_word(word, words, 6));
	assert_null(nearest_word("aaaa", longest, 1));
	word[64] = '\0';
	assert_ptr_equal(nearest_word(word + 1, longest, 1), word);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_slips),
		cmocka_unit_test(no_words_and_long_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
