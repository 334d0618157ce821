/* SPDX-License-Identifier: Apache-2.0 */
/* launch.h - what is done with traces while an image is being served: what is replayed when it
 * starts, whether and how long clients' reads are recorded, what becomes of the recording.
 *
 *   trace=auto    (images with remote layers) a trace of this image is replayed.  Reads are
 *                 recorded; kept is a recording when there was no trace, or, merged with it, when
 *                 more than a fifth of the reads of what is remote were not in it.  Less than
 *                 1 MiB is no start-up: the next read begins anew.  More than half of the image's
 *                 data is a copy or a scan; where merging would lead to that, the recording takes
 *                 the trace's place.
 *   trace=record  what is recorded replaces the trace.
 *   trace=replay  nothing is recorded.
 * A recordTracePath of the config does what it does in the reference, and takes the place of all
 * that; an acceleration layer's trace and the paths of prefetch= are replayed as well.
 *
 * Traces are conveniences: what goes wrong with them is a line in the log, never an error of the
 * image.
 *
 * Process life: a thread of its own from launch_start on.  The image must outlive the launch, and
 * be shut before launch_close, which waits for that thread.  Threads: launch_note any; the others
 * may run concurrently, but for open, start and close. */
#ifndef OVERLAYBD_PREFETCH_LAUNCH_H
#define OVERLAYBD_PREFETCH_LAUNCH_H

#include <stdbool.h>

#include "core/config.h"
#include "core/image.h"

struct launch;

/* Finds and reads the trace.  Fails for lack of memory only. */
int launch_open(const struct image_config *config, struct image *image, struct launch **out,
		struct err *e);

/* Begins to replay.  After a fork. */
void launch_start(struct launch *l);

/* A client reads n bytes at `off`. */
void launch_note(struct launch *l, uint64_t off, uint64_t n);

/* Clients come and go.  When the last has gone the replay pauses, until one comes again. */
void launch_client_came(struct launch *l);
void launch_client_went(struct launch *l);

/* Whether launch_look still has something to look for. */
bool launch_is_recording(struct launch *l);

/* To be called about once a second while it records. */
void launch_look(struct launch *l);

/* The server is about to end: saves what was recorded, now. */
void launch_end(struct launch *l);

/* Does so too.  NULL is allowed. */
void launch_close(struct launch *l);

#endif
