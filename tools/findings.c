/* SPDX-License-Identifier: Apache-2.0 */
/* findings.c - lines and counts, see findings.h. */
#include "tools/findings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/base/err.h"
#include "tools/show.h"

void findings_add(struct findings *f, enum finding kind, const char *fmt, ...)
{
	struct err line; /* the same form as every other message */
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line.msg, sizeof line.msg, fmt, ap);
	va_end(ap);
	if (f->part)
		err_wrap(&line, 0, "%s", f->part);
	progress_clear(&f->progress);
	show_line(stdout, "%s: %s: %s", kind == FINDING_ERROR ? "error" : "warning", f->file,
		  line.msg);
	*(kind == FINDING_ERROR ? &f->errors : &f->warnings) += 1;
}

void findings_print_sum(struct findings *f)
{
	progress_clear(&f->progress);
	if (f->errors == 0 && f->warnings == 0)
		show_line(stdout, "%s: ok", f->file);
	else if (f->errors == 0)
		show_line(stdout, "%s: ok, warnings: %" PRIu64, f->file, f->warnings);
	else
		show_line(stdout, "%s: errors: %" PRIu64 ", warnings: %" PRIu64, f->file, f->errors,
			  f->warnings);
}
