/* SPDX-License-Identifier: Apache-2.0 */
/* sequence.h - ranges of several blobs of one image, fetched at prefetch priority, in windows one
 * after the other (sequence_window.h): what a replay asks for.
 *
 * What the cache or a fetch under way has is passed over, as is what another process has claimed. A
 * range is cut into requests only when there is room for one, so that a sequence can be stopped,
 * and a read that wants the same bytes is never behind it.
 *
 * Units: chunks of CACHE_CHUNK bytes.  Threads: any, one at a time for one sequence. */
#ifndef OVERLAYBD_FETCH_SEQUENCE_H
#define OVERLAYBD_FETCH_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/source.h"

enum { SEQUENCE_CHUNK = 16 * 1024 }; /* bytes of a chunk */

struct sequence_range {
	struct source *source; /* a blob */
	uint64_t first, count;
};

struct sequence;

/* Whether a source can be in a sequence: a blob that keeps in a cache what is fetched ahead. */
bool sequence_takes(struct source *s);

/* Whether all bytes of the range are in the cache. */
bool sequence_is_present(const struct sequence_range *range);

/* Begins to fetch the ranges, count > 0, which do not overlap and whose array it takes over
 * (malloc), also when it fails.  The blobs have one queue, and live until sequence_close or until
 * they are shut.  -ENOMEM. */
int sequence_start(struct sequence_range *ranges, size_t count, struct sequence **out,
		   struct err *e);

/* No more is asked for; what is under way goes on.  Returns at once.  NULL is allowed. */
void sequence_close(struct sequence *s);

#endif
