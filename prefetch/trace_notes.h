/* SPDX-License-Identifier: Apache-2.0 */
/* trace_notes.h - lines for people about parts that were skipped while the rest went on. */
#ifndef OVERLAYBD_PREFETCH_TRACE_NOTES_H
#define OVERLAYBD_PREFETCH_TRACE_NOTES_H

#include <stddef.h>

enum { TRACE_NOTES_MAX = 20 }; /* lines; further ones are counted */

/* Where the lines go: all zero at first, but for `line` and `arg`.  A line is lower case, without a
 * newline, and may hold hostile text: whoever prints it escapes it. */
struct trace_notes {
	void (*line)(void *arg, const char *text); /* NULL: log_warn */
	void *arg;
	size_t count; /* lines so far, with those that were not shown */
};

void trace_note(struct trace_notes *notes, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Says how many lines were not shown, if any. */
void trace_notes_end(struct trace_notes *notes);

#endif
