/* SPDX-License-Identifier: Apache-2.0 */
/* trace_text.h - a trace as text, for people and their scripts.
 *
 *   # LBA, sectors of 512 bytes, milliseconds since the first read
 *   image sha256:9f86...
 *   disk 1073741824
 *   2048 8 0.000
 *   2056 16 0.715
 *
 * Blank lines and those that begin with # say nothing.  A text may lack the lines `image` and
 * `disk` (then whoever imports it knows them), and reads their time (then it is 0).
 * Threads: no state. */
#ifndef OVERLAYBD_PREFETCH_TRACE_TEXT_H
#define OVERLAYBD_PREFETCH_TRACE_TEXT_H

#include "prefetch/trace.h"

/* The text, with a NUL after it that *n does not count; the caller frees it.  Errors: ENOMEM. */
int trace_text_format(const struct trace *t, char **text, size_t *n, struct err *e);

/* The trace in a text.  What it lacks, identity or disk size, is "" or 0 in *out.  Reads lie within
 * the disk when that is said, else below 2^54 sectors.  EBADMSG names the line that is wrong. */
int trace_text_parse(const char *text, size_t n, struct trace *out, struct err *e);

#endif
