/* SPDX-License-Identifier: Apache-2.0 */
/* progress.h - one line on a terminal that says how far a long job has got.
 *
 * Silent when standard error is no terminal.  Drawn at most ten times a second.
 * Threads: one at a time.  Units: bytes. */
#ifndef OVERLAYBD_TOOLS_PROGRESS_H
#define OVERLAYBD_TOOLS_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
	const char *what; /* "checking" */
	uint64_t total;
	uint64_t done;
	uint64_t started; /* monotonic clock, in milliseconds */
	uint64_t drawn; /* when last; 0: the line is not on the screen */
	bool shown; /* standard error is a terminal */
};

/* Starts a job of `total` bytes; `what` must stay alive. */
void progress_init(struct progress *p, const char *what, uint64_t total);

/* Says that n more bytes are done. */
void progress_add(struct progress *p, uint64_t n);

/* Wipes the line, so that other text can be printed; the next progress_add draws it again. */
void progress_clear(struct progress *p);

#endif
