/* SPDX-License-Identifier: Apache-2.0 */
/* test-text.c - what counts as plain text, and how the rest is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/text.h"

static void plain_texts(void **state)
{
	static const struct {
		const char *text;
		bool plain;
	} rows[] = {
		{ "", true },
		{ "debian-12.6", true },
		{ "gr\xc3\xb6\xc3\x9f"
		  "e",
		  true },
		{ "\xe2\x82\xac", true },
		{ "\xf0\x9f\x98\x80", true },
		{ "\xf4\x8f\xbf\xbf", true }, /* the last character */
		{ "new\nline", false },
		{ "\x7f", false },
		{ "\xc2\x85", false }, /* a control character beyond ASCII */
		{ "latin\xe4", false },
		{ "\x80", false }, /* a continuation with nothing before it */
		{ "\xc3", false }, /* cut off */
		{ "\xe2\x82", false },
		{ "\xf0\x9f\x98", false },
		{ "\xc0\xaf", false }, /* '/' in too many bytes */
		{ "\xe0\x80\xaf", false },
		{ "\xf0\x80\x80\xaf", false },
		{ "\xed\xa0\x80", false }, /* half of a surrogate pair */
		{ "\xf4\x90\x80\x80", false }, /* beyond the last character */
		{ "\xff", false },
		{ "\xe2\x80\xae", false }, /* turns the direction of text */
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		if (text_is_plain(rows[i].text) != rows[i].plain)
			fail_msg("row %zu", i);
}

static void escapes(void **state)
{
	static const struct {
		const char *text, *shown;
	} rows[] = {
		{ "plain text", "plain text" },
		{ "\x1b[2J", "\\x1b[2J" },
		{ "a\nb\tc\x7f", "a\\x0ab\\x09c\\x7f" },
		{ "back\\slash", "back\\x5cslash" },
		{ "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		  "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "\xc2\x9b", "\\xc2\\x9b" }, /* a C1 control character */
		{ "\xe2\x80\xae", "\\xe2\\x80\\xae" }, /* turns the direction of text */
		{ "\xc0\xaf", "\\xc0\\xaf" }, /* longer than it must be */
		{ "\xe0\x80\x80", "\\xe0\\x80\\x80" },
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80" }, /* a surrogate */
		{ "\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80" }, /* above U+10FFFF */
		{ "\xff\xc3", "\\xff\\xc3" },
		{ "\xe2\x82", "\\xe2\\x82" }, /* cut */
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		char shown[64];

		assert_ptr_equal(text_escape(rows[i].text, shown, sizeof shown), shown);
		assert_string_equal(shown, rows[i].shown);
	}
}

/* What is cut is cut before a character or an escape, never within. */
static void escapes_are_cut_whole(void **state)
{
	static const char text[] = "a\n\xe2\x82\xac";
	static const char *const cut[] = {
		"", "a", "a", "a", "a", "a\\x0a", "a\\x0a", "a\\x0a", "a\\x0a\xe2\x82\xac",
	};
	size_t room;

	for (room = 1; room <= sizeof cut / sizeof *cut; room++) {
		char shown[16];

		memset(shown, '#', sizeof shown);
		text_escape(text, shown, room);
		assert_string_equal(shown, cut[room - 1]);
		assert_int_equal(shown[room], '#');
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_texts),
		cmocka_unit_test(escapes),
		cmocka_unit_test(escapes_are_cut_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
