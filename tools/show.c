/* SPDX-License-Identifier: Apache-2.0 */
/* show.c - escaped text, sizes, JSON strings, see show.h. */
#include "tools/show.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/base/text.h"

void show_text(FILE *out, const char *text)
{
	char piece[TEXT_PIECE];

	while (*text != '\0') {
		text += text_escape_one(text, piece);
		fputs(piece, out);
	}
}

void show_line(FILE *out, const char *fmt, ...)
{
	char text[8192];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	show_text(out, text);
	fputc('\n', out);
}

const char *show_size(uint64_t bytes, char buf[SHOW_SIZE])
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
		snprintf(buf, SHOW_SIZE, "%" PRIu64 " %s", bytes, units[unit]);
	else
		snprintf(buf, SHOW_SIZE, "%" PRIu64 ".%" PRIu64 " %s", bytes, tenths, units[unit]);
	return buf;
}

json_t *show_string(const char *text)
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
		size_t length = text_decode(text, &code);

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

void show_json(const json_t *value)
{
	json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
}
