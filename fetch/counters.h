/* SPDX-License-Identifier: Apache-2.0 */
/* counters.h - the counters behind stats.h, which stats.c counts and stats_format.c writes.
 *
 * (1) Each set of counters has cache lines of its own: layers that count at once do not disturb
 *     each other.
 * (2) A demand read is counted in its one bucket alone.  Cumulative buckets and the count of all
 *     are sums taken when they are written, so in what is written they always agree.
 * (3) Names are UTF-8 from the moment they are copied: a byte that is none became \\xNN. */
#ifndef OVERLAYBD_FETCH_COUNTERS_H
#define OVERLAYBD_FETCH_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "fetch/stats.h"

enum {
	COUNTERS_LINE = 64, /* bytes of a cache line */
	COUNTERS_CODES = 19,
	COUNTERS_CLASSES = 5, /* 1xx to 5xx, without those codes */
	COUNTERS_NO_ANSWER = COUNTERS_CODES + COUNTERS_CLASSES,
	COUNTERS_STATUSES = COUNTERS_NO_ANSWER + 1,
	COUNTERS_BOUNDS = 16,
	COUNTERS_BUCKETS = COUNTERS_BOUNDS + 1, /* the last has no bound */
};

extern const unsigned counters_codes[COUNTERS_CODES]; /* the HTTP codes that matter */

extern const struct counters_bound {
	unsigned microseconds;
	const char *seconds;
} counters_bounds[COUNTERS_BOUNDS]; /* of the buckets, ascending; they include it */

struct stats {
	_Alignas(COUNTERS_LINE) _Atomic uint64_t counts[STATS_COUNTS];
	_Atomic uint64_t requests[COUNTERS_STATUSES]; /* codes, classes, no answer */
	_Atomic uint64_t demand[COUNTERS_BUCKETS];
	_Atomic uint64_t demand_time; /* microseconds of all */
	char *name;
	struct stats *above; /* the next layer */
};

struct stats_group {
	struct stats image; /* first: memory of a group begins with its own counters */
	struct stats *bottom, *top; /* layers, NULL when there is none */
};

static inline uint64_t counters_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
