/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - see log.h. */
#include "core/base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "core/base/text.h"

enum { LINE_MAX_BYTES = 2048 };

static void (*log_sink)(enum log_level level, const char *line);

void log_set_sink(void (*sink)(enum log_level level, const char *line))
{
	log_sink = sink;
}

static void to_standard_error(enum log_level level, const char *line)
{
	char escaped[4 * LINE_MAX_BYTES];

	if (level == LOG_WARNING)
		fprintf(stderr, "warning: %s\n", text_escape(line, escaped, sizeof escaped));
}

__attribute__((format(printf, 2, 0))) static void send_line(enum log_level level, const char *fmt,
							    va_list ap)
{
	char line[LINE_MAX_BYTES];

	vsnprintf(line, sizeof line, fmt, ap);
	if (log_sink)
		log_sink(level, line);
	else
		to_standard_error(level, line);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	send_line(LOG_WARNING, fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	send_line(LOG_DEBUG, fmt, ap);
	va_end(ap);
}
