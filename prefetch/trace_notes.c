/* SPDX-License-Identifier: Apache-2.0 */
/* trace_notes.c - see trace_notes.h. */
#include "prefetch/trace_notes.h"

#include <stdarg.h>
#include <stdio.h>

#include "core/base/log.h"

static void show(struct trace_notes *notes, const char *text)
{
	if (notes->line)
		notes->line(notes->arg, text);
	else
		log_warn("%s", text);
}

void trace_note(struct trace_notes *notes, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (++notes->count > TRACE_NOTES_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	show(notes, text);
}

void trace_notes_end(struct trace_notes *notes)
{
	char text[64];

	if (notes->count <= TRACE_NOTES_MAX)
		return;
	snprintf(text, sizeof text, "%zu more like these", notes->count - TRACE_NOTES_MAX);
	show(notes, text);
}
