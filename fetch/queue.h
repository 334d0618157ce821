/* SPDX-License-Identifier: Apache-2.0 */
/* queue.h - turns: which request may use a connection next.  Between request.c and queue.c only.
 *
 * Demand goes first, then prefetch, then background.  The latter two together have at most 512 KiB
 * in flight, or twice one round trip times the measured bandwidth, or what the link gives in 8 ms
 * if that is more, so that a demand never waits long behind them.  Threads: the engine's. */
#ifndef OVERLAYBD_FETCH_QUEUE_H
#define OVERLAYBD_FETCH_QUEUE_H

#include "fetch/request.h"

struct endpoint_list *queue_endpoints(struct queue *k);

/* Puts a request behind those of its priority, or, `first`, before them; starts what may start. */
void queue_add(struct queue *k, struct request *q, bool first);

/* Takes a waiting request out. */
void queue_remove(struct queue *k, struct request *q);

/* A started request gives its slot back, for good or until its next try; others may start. */
void queue_release(struct queue *k, struct request *q);

/* n bytes of what a started request asked for have arrived: others may be asked for. */
void queue_note_arrived(struct queue *k, struct request *q, size_t n);

/* What an exchange has shown about the link. */
void queue_note_bytes(struct queue *k, size_t n);
void queue_note_round_trip(struct queue *k, uint64_t us);

/* Keeps account of the requests that have not ended. */
void queue_enter(struct queue *k, struct request *q);
void queue_leave(struct queue *k, struct request *q);

/* request.c's: makes a request known to its queue, before all else; begins a try of one that has
 * just got a slot; ends one, whatever its state. */
void request_enter(struct request *q);
void request_start(struct request *q);
void request_abort(struct request *q);

#endif
