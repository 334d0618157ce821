/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - decoding and escaping, see text.h. */
#include "core/base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Length of the character that begins with this byte; 0 when none does.  0xc0, 0xc1 and all above
 * 0xf4 could only spell a character in too many bytes, or none at all. */
static size_t sequence_length(uint8_t first)
{
	if (first < 0x80)
		return 1;
	if (first >= 0xc2 && first <= 0xdf)
		return 2;
	if (first >= 0xe0 && first <= 0xef)
		return 3;
	if (first >= 0xf0 && first <= 0xf4)
		return 4;
	return 0;
}

size_t text_decode(const char *p, uint32_t *code)
{
	/* By length: a character below this has a shorter form. */
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const uint8_t *bytes = (const uint8_t *)p;
	size_t n = sequence_length(bytes[0]), i;
	uint32_t c = n == 1 ? bytes[0] : bytes[0] & (0x7fu >> n);

	for (i = 1; i < n; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0; /* the final NUL stops here too */
		c = c << 6 | (bytes[i] & 0x3fu);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 0;
	*code = c;
	return n;
}

static bool drives_terminal(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

/* Length of the plain character at p, or 0. */
static size_t plain_length(const char *p, uint32_t *code)
{
	size_t n = text_decode(p, code);

	return n > 0 && !drives_terminal(*code) ? n : 0;
}

bool text_is_plain(const char *text)
{
	uint32_t code;
	size_t n;

	for (; *text != '\0'; text += n) {
		n = plain_length(text, &code);
		if (n == 0)
			return false;
	}
	return true;
}

size_t text_escape_one(const char *p, char piece[TEXT_PIECE])
{
	uint32_t code;
	size_t n = plain_length(p, &code), i;

	if (n > 0 && code != '\\') {
		memcpy(piece, p, n);
		piece[n] = '\0';
		return n;
	}
	n = text_decode(p, &code);
	n = n > 0 ? n : 1;
	for (i = 0; i < n; i++)
		snprintf(piece + 4 * i, TEXT_PIECE - 4 * i, "\\x%02x", (uint8_t)p[i]);
	return n;
}

const char *text_escape(const char *text, char *out, size_t room)
{
	char piece[TEXT_PIECE];
	size_t used = 0;

	while (*text != '\0') {
		size_t taken = text_escape_one(text, piece), n = strlen(piece);

		if (n >= room - used)
			break;
		memcpy(out + used, piece, n);
		used += n;
		text += taken;
	}
	out[used] = '\0';
	return out;
}

char *text_format(const char *fmt, ...)
{
	char *out;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&out, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : out;
}
