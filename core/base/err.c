/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - error texts, see err.h. */
#include "core/base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (e) {
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof e->msg, fmt, ap);
		va_end(ap);
	}
	return -code;
}

int err_wrap(struct err *e, int r, const char *fmt, ...)
{
	char prefix[sizeof e->msg];
	size_t cause, room;
	va_list ap;

	if (!e)
		return r;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof prefix, fmt, ap);
	va_end(ap);
	cause = strlen(e->msg);
	if (cause + 3 > sizeof e->msg)
		return r; /* the cause fills the text */
	room = sizeof e->msg - cause - 3;
	if (strlen(prefix) > room)
		prefix[room] = '\0';
	room = strlen(prefix);
	memmove(e->msg + room + 2, e->msg, cause + 1);
	memcpy(e->msg, prefix, room);
	memcpy(e->msg + room, ": ", 2);
	return r;
}
