/* SPDX-License-Identifier: Apache-2.0 */
/* trace_edit.h - what people do with traces: join them, compare them, sum them up.
 *
 * Everything here sorts: O(n log n) in the number of reads.  Units: sectors of 512 bytes unless
 * said.  Threads: no state. */
#ifndef OVERLAYBD_PREFETCH_TRACE_EDIT_H
#define OVERLAYBD_PREFETCH_TRACE_EDIT_H

#include "core/image.h"
#include "prefetch/trace.h"

/* Ranges of a disk: in ascending order, with a gap between any two. */
struct trace_range {
	uint64_t lba, sectors;
};

struct trace_ranges {
	struct trace_range *list; /* owned */
	size_t count;
	uint64_t sectors; /* in all of them */
};

/* What a trace reads.  Errors: ENOMEM. */
int trace_ranges_of(const struct trace *t, struct trace_ranges *out, struct err *e);

/* What of `a` is not in `b`.  Errors: ENOMEM. */
int trace_ranges_subtract(const struct trace_ranges *a, const struct trace_ranges *b,
			  struct trace_ranges *out, struct err *e);

void trace_ranges_release(struct trace_ranges *r);

/* EINVAL unless both are of the same image; the text says which they are. */
int trace_same_image(const struct trace *a, const struct trace *b, struct err *e);

/* EINVAL unless the trace is of this image.  Errors: what naming the image gives, see
 * core/identity.h. */
int trace_check_image(const struct trace *t, struct image *image, struct err *e);

/* The reads of several traces of one image (EINVAL) as one: in the order of their times, each
 * sector where it is first read and nowhere else.  A read of which the middle is known becomes two.
 * Also useful with one trace.  *left_out (NULL is allowed) counts reads at the end that there is no
 * room for.  Errors: ENOMEM. */
int trace_merge(const struct trace *const *traces, size_t count, struct trace *out,
		size_t *left_out, struct err *e);

/* The same by the place in `reads`, whatever the times say, of one trace and in it: `t` is changed.
 */
int trace_keep_first(struct trace *t, size_t *left_out, struct err *e);

struct trace_totals {
	uint64_t reads;
	uint64_t read_bytes; /* a sector counts as often as it was read */
	uint64_t unique_bytes; /* a sector counts once */
	uint64_t duration_us; /* from the first read to the last one's beginning */
	bool has_image; /* those below are known */
	uint64_t image_bytes; /* of the disk that come from data of a layer */
	uint64_t image_unique_bytes; /* of those, read */
	uint64_t packed_bytes; /* that have to be fetched for them, as the layers store them */
};

/* `image` may be NULL; else the trace must be of it, as far as sizes go (EINVAL).  Errors: ENOMEM.
 */
int trace_sum_up(const struct trace *t, struct image *image, struct trace_totals *out,
		 struct err *e);

#endif
