/* SPDX-License-Identifier: Apache-2.0 */
/* replay.h - fetches what a trace names, ahead of those who will read it, and never ahead of those
 * who read now.
 *
 * Threads: one call at a time for one replay, but for replay_look_up. */
#ifndef OVERLAYBD_PREFETCH_REPLAY_H
#define OVERLAYBD_PREFETCH_REPLAY_H

#include "core/image.h"
#include "prefetch/plan.h"
#include "prefetch/trace.h"

struct replay;

/* Plans the reads; nothing is fetched yet.  The image must outlive the replay, and not be shut
 * before it is paused or closed.  -ENOMEM. */
int replay_open(struct image *image, const struct trace *t, struct replay **out, struct err *e);

/* Begins, or goes on after replay_pause; what has come meanwhile is not fetched again.  -ENOMEM. */
int replay_run(struct replay *r, struct err *e);

/* Nothing more is asked for. */
void replay_pause(struct replay *r);

/* What of a read is among what is replayed. */
enum plan_has replay_look_up(const struct replay *r, const struct trace_read *read);

/* NULL is allowed. */
void replay_close(struct replay *r);

#endif
