/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - escaping, sizes, JSON strings, see text.h. */
#include "tools/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"

/* Smallest code point that needs as many bytes; a longer form of a smaller one is not UTF-8. */
static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };

/* Length of the UTF-8 character at p, 0 when it is none; *code is its code point. */
static size_t decode(const unsigned char *p, uint32_t *code)
{
	size_t length, i;

	if (p[0] < 0x80)
		length = 1;
	else if (p[0] >= 0xc2 && p[0] < 0xe0)
		length = 2;
	else if (p[0] >= 0xe0 && p[0] < 0xf0)
		length = 3;
	else if (p[0] >= 0xf0 && p[0] < 0xf5)
		length = 4;
	else
		return 0;
	*code = length == 1 ? p[0] : p[0] & (0x7fu >> length);
	for (i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0; /* the final NUL stops here too */
		*code = *code << 6 | (p[i] & 0x3fu);
	}
	if (*code < smallest[length] || *code > 0x10ffff || (*code >= 0xd800 && *code < 0xe000))
		return 0;
	return length;
}

/* C0 and C1 control characters, line and paragraph separators, marks that turn the direction. */
static bool is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200e && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

void text_print(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	while (*p != '\0') {
		uint32_t code;
		size_t length = decode(p, &code);

		if (length > 0 && !is_control(code) && code != '\\') {
			fwrite(p, 1, length, out);
			p += length;
			continue;
		}
		for (length = length ? length : 1; length > 0; length--)
			fprintf(out, "\\x%02x", *p++);
	}
}

void text_line(FILE *out, const char *fmt, ...)
{
	char text[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	text_print(out, text);
	fputc('\n', out);
}

const char *text_size(uint64_t bytes, char buf[TEXT_SIZE])
{
	static const char units[][4] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	unsigned unit = 0;
	uint64_t tenths = 0;

	while (bytes >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
		tenths = bytes % 1024 * 10 / 1024;
		bytes /= 1024;
		unit++;
	}
	if (tenths == 0)
		snprintf(buf, TEXT_SIZE, "%" PRIu64 " %s", bytes, units[unit]);
	else
		snprintf(buf, TEXT_SIZE, "%" PRIu64 ".%" PRIu64 " %s", bytes, tenths, units[unit]);
	return buf;
}

json_t *text_json(const char *text)
{
	static const char replacement[] = "\xef\xbf\xbd";
	AUTO_FREE char *clean = NULL;
	char *out;

	if (!text)
		return json_null();
	clean = malloc(3 * strlen(text) + 1);
	if (!clean)
		return NULL;
	out = clean;
	while (*text != '\0') {
		uint32_t code;
		size_t length = decode((const unsigned char *)text, &code);

		if (length > 0) {
			memcpy(out, text, length);
			out += length;
			text += length;
		} else {
			memcpy(out, replacement, 3);
			out += 3;
			text++;
		}
	}
	*out = '\0';
	return json_string(clean);
}

void text_print_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
}
