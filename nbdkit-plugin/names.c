/* SPDX-License-Identifier: Apache-2.0 */
/* names.c - checking and showing export names, see names.h. */
#include "nbdkit-plugin/names.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 100 }; /* bytes of a client's name in a message */

/* Length of the character that begins at p, by its first byte; 0 when none begins so.  0xc0, 0xc1
 * and all above 0xf4 could only spell a character in too many bytes, or none at all. */
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

/* The character of n bytes at p, or 0 when they do not spell one: too many bytes for it, a half of
 * a surrogate pair, beyond the last character.  The NUL that ends the text is no continuation, so
 * nothing is read beyond it. */
static uint32_t decode(const uint8_t *p, size_t n)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
	size_t i;

	for (i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3fu);
	}
	if (c < least[n] || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
		return 0;
	return c;
}

static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

bool names_is_plain(const char *name)
{
	const uint8_t *p = (const uint8_t *)name;

	while (*p != '\0') {
		size_t n = sequence_length(*p);

		if (n == 0 || is_control(decode(p, n)))
			return false;
		p += n;
	}
	return true;
}

char *names_printable(const char *name)
{
	size_t n = strlen(name), i;
	char *text;

	if (n <= SHOWN) {
		text = strdup(name);
	} else {
		text = malloc(SHOWN + sizeof "...");
		if (text) {
			memcpy(text, name, SHOWN);
			memcpy(text + SHOWN, "...", sizeof "...");
		}
	}
	for (i = 0; text && text[i] != '\0'; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			text[i] = '?';
	return text;
}

char *names_join(char *const *names, size_t count)
{
	size_t n = 1, i;
	char *text, *to;

	for (i = 0; i < count; i++)
		n += strlen(names[i]) + 2;
	text = malloc(n);
	if (!text)
		return NULL;
	to = text;
	for (i = 0; i < count; i++)
		to = stpcpy(stpcpy(to, i > 0 ? ", " : ""), names[i]);
	*to = '\0';
	return text;
}
