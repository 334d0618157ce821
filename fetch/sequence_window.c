/* SPDX-License-Identifier: Apache-2.0 */
/* sequence_window.c - see sequence_window.h. */
#include "fetch/sequence_window.h"

#include <stdbool.h>
#include <stdlib.h>

#include "core/base/le.h"

enum {
	WINDOW_MIN = 32, /* 512 KiB */
	WINDOWS_A_SECOND = 3, /* over a link that is fast enough for more */
	GAPS_DIVISOR = 8,
	GAP_MAX = 64,
};

static int by_place(const void *a, const void *b)
{
	const struct sequence_range *x = a, *y = b;

	if (x->source != y->source)
		return (uintptr_t)x->source < (uintptr_t)y->source ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

/* Between a range and a later one; UINT64_MAX: they are not of one blob. */
static uint64_t gap_between(const struct sequence_range *x, const struct sequence_range *y)
{
	return x->source == y->source ? y->first - (x->first + x->count) : UINT64_MAX;
}

/* Joins each range to the one before where the gap is at most `most`, of those of just that size
 * only `some`.  Returns how many are left. */
static size_t join(struct sequence_range *ranges, size_t count, uint64_t most, uint64_t some)
{
	size_t i, n = 1;

	for (i = 1; i < count; i++) {
		struct sequence_range *last = &ranges[n - 1];
		uint64_t gap = gap_between(last, &ranges[i]);

		if (gap < most || (gap == most && some > 0)) {
			some -= gap == most;
			last->count += gap + ranges[i].count;
		} else {
			ranges[n++] = ranges[i];
		}
	}
	return n;
}

/* The smallest gaps first, as long as `*gaps` allows. */
static size_t join_gaps(struct sequence_range *ranges, size_t count, uint64_t most, uint64_t *gaps)
{
	uint64_t number[GAP_MAX + 1] = { 0 }, size, some = 0;
	size_t i;

	for (i = 1; i < count; i++) {
		uint64_t gap = gap_between(&ranges[i - 1], &ranges[i]);

		if (gap <= most)
			number[gap]++;
	}
	for (size = 1; size <= most; size++) {
		some = min_u64(number[size], *gaps / size);
		*gaps -= some * size;
		if (some < number[size])
			break;
	}
	return size > most ? join(ranges, count, most + 1, 0) : join(ranges, count, size, some);
}

struct sequence_window sequence_window_take(struct sequence_range *ranges, size_t count,
					    const struct link_facts *link, uint64_t *gaps)
{
	uint64_t room = max_u64(WINDOW_MIN, link->bandwidth / WINDOWS_A_SECOND / SEQUENCE_CHUNK);
	struct sequence_window w = { 0 };
	uint64_t chunks = 0;

	while (w.taken < count && chunks < room)
		chunks += ranges[w.taken++].count;
	qsort(ranges, w.taken, sizeof *ranges, by_place);
	*gaps += chunks / GAPS_DIVISOR;
	w.count = join_gaps(ranges, w.taken, min_u64(link->cheap_gap / SEQUENCE_CHUNK, GAP_MAX),
			    gaps);
	return w;
}
