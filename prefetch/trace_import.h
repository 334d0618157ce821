/* SPDX-License-Identifier: Apache-2.0 */
/* trace_import.h - a trace for an image from whatever form somebody has it in.
 *
 * The bytes decide: our trace file (trace.h), the reference's (trace_layers.h), a text of reads
 * (trace_text.h), a text of paths (trace_paths.h).  Threads: no state. */
#ifndef OVERLAYBD_PREFETCH_TRACE_IMPORT_H
#define OVERLAYBD_PREFETCH_TRACE_IMPORT_H

#include "core/image.h"
#include "prefetch/trace.h"
#include "prefetch/trace_notes.h"

enum trace_form {
	TRACE_FORM_UNKNOWN,
	TRACE_FORM_OURS,
	TRACE_FORM_LAYERS,
	TRACE_FORM_TEXT,
	TRACE_FORM_PATHS,
};

enum { TRACE_IMPORT_MAX = 128 << 20 }; /* bytes of a file that is worth looking at */

/* By its first bytes.  The rest may still be wrong. */
enum trace_form trace_form_of(const void *bytes, size_t n);

/* Converts them.  What is skipped becomes a note; `notes` may be NULL (a log line each).  EINVAL:
 * of another image, or no form that is known; EBADMSG: a form that is known, but wrong; ENOMEM;
 * what reading the image gives. */
int trace_import(const void *bytes, size_t n, struct image *image, struct trace_notes *notes,
		 struct trace *out, struct err *e);

/* The same from a file, which the text names.  ENOENT, and what else reading it gives. */
int trace_import_file(const char *path, struct image *image, struct trace_notes *notes,
		      struct trace *out, struct err *e);

#endif
