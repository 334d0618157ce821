/* SPDX-License-Identifier: Apache-2.0 */
/* recorder.h - notes what clients read, from the first read on, at the cost of some atomic
 * operations a read.
 *
 * A window opens with the first read, and is over when `seconds` have passed, when for
 * `idle` seconds nothing new was read, or when TRACE_READS_MAX reads are noted.  Somebody has to
 * look at it from time to time (recorder_look), about once a second.
 *
 * Threads: recorder_note any, concurrently with all but open and close; the other calls one thread
 * at a time.  Memory: 16 bytes a noted read, until the window is taken or reset. */
#ifndef OVERLAYBD_PREFETCH_RECORDER_H
#define OVERLAYBD_PREFETCH_RECORDER_H

#include <stdbool.h>

#include "prefetch/trace.h"

struct recorder;

/* Times in seconds. -ENOMEM. */
int recorder_open(unsigned seconds, unsigned idle, struct recorder **out, struct err *e);

/* A client reads n bytes at `off`. */
void recorder_note(struct recorder *r, uint64_t off, uint64_t n);

/* Whether the window is over.  False as long as it has not opened. */
bool recorder_look(struct recorder *r);

/* Ends the window and hands out its reads within a disk of disk_size bytes, as t->reads and
 * t->count, which the caller frees.  -ENOMEM. */
int recorder_take(struct recorder *r, uint64_t disk_size, struct trace *t, struct err *e);

/* The next read opens a new window.  After recorder_take only. */
void recorder_reset(struct recorder *r);

/* NULL is allowed. */
void recorder_close(struct recorder *r);

#endif
