/* SPDX-License-Identifier: Apache-2.0 */
/* plan.h - from what clients read of a disk to what has to be fetched of which blob, and in which
 * order.
 *
 * LBAs -> merged index -> layers -> compressed bytes -> chunks of blobs.  Each chunk is planned
 * once, at its first use.
 *
 * Parts of the disk that no remote layer holds are not in a plan.
 * Threads: a plan never changes once made. */
#ifndef OVERLAYBD_PREFETCH_PLAN_H
#define OVERLAYBD_PREFETCH_PLAN_H

#include "core/image.h"
#include "fetch/sequence.h"
#include "prefetch/trace.h"

struct plan_layer;

struct plan {
	struct sequence_range *ranges; /* in order of first use */
	size_t count;
	uint64_t chunks; /* that the reads need */
	struct plan_layer *layers;
	size_t layer_count;
};

/* The reads must lie within the image; those that do not are left out.  -ENOMEM.  The image must
 * outlive the plan. */
int plan_make(struct image *image, const struct trace *t, struct plan *out, struct err *e);

/* What a plan has of a read. */
enum plan_has {
	PLAN_NOTHING_REMOTE, /* nothing of it is ever fetched */
	PLAN_HAS_ALL, /* every remote byte */
	PLAN_LACKS_SOME,
};
enum plan_has plan_look_up(const struct plan *p, struct image *image,
			   const struct trace_read *read);

void plan_release(struct plan *p);

#endif
