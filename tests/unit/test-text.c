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

/* UTF-8 of a code point, whatever it is. */
static const char *encode(uint32_t c)
{
	static char out[5];

	memset(out, 0, sizeof out);
	if (c < 0x80) {
		out[0] = (char)c;
	} else if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
	} else {
		out[0] = (char)(0xf0 | c >> 18);
		out[1] = (char)(0x80 | (c >> 12 & 0x3f));
		out[2] = (char)(0x80 | (c >> 6 & 0x3f));
		out[3] = (char)(0x80 | (c & 0x3f));
	}
	return out;
}

/* From each of these on, up to the next, code points are plain or not. */
static void ranges_end_where_they_should(void **state)
{
	static const struct {
		uint32_t first;
		bool plain;
	} rows[] = {
		{ 0x1, false },	     { 0x20, true },	  { 0x7f, false },   { 0xa0, true },
		{ 0x200e, false },   { 0x2010, true },	  { 0x2028, false }, { 0x202f, true },
		{ 0x2066, false },   { 0x206a, true },	  { 0xd800, false }, { 0xe000, true },
		{ 0x110000, false }, { 0x1fffff, false }, { 0, false },
	};
	uint32_t code;
	size_t i;

	for (i = 0; rows[i].first != 0; i++) {
		uint32_t first = rows[i].first, last = rows[i + 1].first - 1;

		if (text_is_plain(encode(first)) != rows[i].plain)
			fail_msg("U+%04x", first);
		if (rows[i + 1].first != 0 && text_is_plain(encode(last)) != rows[i].plain)
			fail_msg("U+%04x", last);
	}
	/* Where another number of bytes begins. */
	for (i = 0; i < 6; i++) {
		static const uint32_t codes[] = { 0x7e, 0x7ff, 0x800, 0xffff, 0x10000, 0x10ffff };
		static const size_t lengths[] = { 1, 2, 3, 3, 4, 4 };

		assert_int_equal(text_decode(encode(codes[i]), &code), lengths[i]);
		assert_int_equal(code, codes[i]);
	}
	assert_int_equal(text_decode("\xc2\x80", &code), 2);
	assert_int_equal(code, 0x80);
	assert_int_equal(text_decode("\xc1\xbf", &code), 0);
	assert_int_equal(text_decode("\xbf\xbf", &code), 0);
	assert_int_equal(text_decode("\xf5\x80\x80\x80", &code), 0);
	assert_int_equal(text_decode("\xf8\x88\x80\x80\x80", &code), 0);
}

/* Nothing behind the end of a text is looked at. */
static void a_piece_is_a_whole_character(void **state)
{
	static const struct {
		const char *text, *piece;
		size_t n;
	} rows[] = {
		{ "ab", "a", 1 },
		{ "\\b", "\\x5c", 1 },
		{ "\nb", "\\x0a", 1 },
		{ "\xe2\x82\xac!", "\xe2\x82\xac", 3 },
		{ "\xe2\x80\xae!", "\\xe2\\x80\\xae", 3 },
		{ "\xe2\x82!", "\\xe2", 1 },
		{ "\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80", 4 },
	};
	char piece[TEXT_PIECE];
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(text_escape_one(rows[i].text, piece), rows[i].n);
		assert_string_equal(piece, rows[i].piece);
	}
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
		cmocka_unit_test(ranges_end_where_they_should),
		cmocka_unit_test(a_piece_is_a_whole_character),
		cmocka_unit_test(escapes),
		cmocka_unit_test(escapes_are_cut_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
