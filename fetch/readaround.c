/* SPDX-License-Identifier: Apache-2.0 */
/* readaround.c - see readaround.h. */
#include "fetch/readaround.h"

#include <stdlib.h>

#include "core/base/le.h"

enum {
	ONE = 256, /* an event that counts in full */
	ENOUGH = ONE / 4, /* the mean from which reads keep together, */
	DOUBT = 2 * ONE, /* above which so much more is wanted of all of them: a few are chance */
	WORD = 64,
};

void readaround_init(struct readaround *ra, uint64_t chunks)
{
	*ra = (struct readaround){ .chunks = chunks };
}

void readaround_release(struct readaround *ra)
{
	free(ra->areas);
	free(atomic_load(&ra->unused));
}

static uint64_t area_count(const struct readaround *ra)
{
	return ra->chunks / READAROUND_AREA + 1;
}

/* Marks the areas of [first, end) as read in; returns whether one of them was already. */
static bool touch(struct readaround *ra, uint64_t first, uint64_t end)
{
	uint64_t area = first / READAROUND_AREA, last = (end - 1) / READAROUND_AREA;
	bool near = false;

	for (; area <= last; area++) {
		uint64_t bit = UINT64_C(1) << area % WORD;

		if (ra->areas[area / WORD] & bit)
			near = true;
		else
			ra->touched++;
		ra->areas[area / WORD] |= bit;
	}
	return near;
}

void readaround_use(struct readaround *ra, uint64_t first, uint64_t end)
{
	uint64_t areas = (end - 1) / READAROUND_AREA - first / READAROUND_AREA + 1;
	uint64_t chance = min_u64(ONE * areas * ra->touched / area_count(ra), ONE);
	bool near = touch(ra, first, min_u64(end, ra->chunks));

	ra->events[ra->count++ % READAROUND_EVENTS] = (near ? ONE : 0) - (int)chance;
}

static bool keeps_together(const struct readaround *ra)
{
	unsigned i, n = ra->count < READAROUND_EVENTS ? ra->count : READAROUND_EVENTS;
	int sum = 0;

	for (i = 0; i < n; i++)
		sum += ra->events[i];
	return sum >= ENOUGH * (int)n + DOUBT;
}

bool readaround_miss(struct readaround *ra, uint64_t first, uint64_t end)
{
	if (!ra->areas)
		ra->areas = calloc(area_count(ra) / WORD + 1, sizeof *ra->areas);
	if (!ra->areas)
		return false;
	readaround_use(ra, first, end);
	return keeps_together(ra);
}

/* The bits of word `at` that stand for [first, end). */
static uint64_t bits_of(uint64_t at, uint64_t first, uint64_t end)
{
	uint64_t from = max_u64(first, at * WORD) % WORD;
	uint64_t n = min_u64(end, (at + 1) * WORD) - max_u64(first, at * WORD);

	return (n == WORD ? UINT64_MAX : (UINT64_C(1) << n) - 1) << from;
}

void readaround_mark(struct readaround *ra, uint64_t first, uint64_t end)
{
	struct readaround_word *unused = atomic_load_explicit(&ra->unused, memory_order_relaxed);
	uint64_t at;

	end = min_u64(end, ra->chunks);
	if (!unused) {
		unused = calloc(ra->chunks / WORD + 1, sizeof *unused);
		if (!unused)
			return;
		atomic_store_explicit(&ra->unused, unused, memory_order_release);
	}
	for (at = first / WORD; at * WORD < end; at++)
		atomic_fetch_or_explicit(&unused[at].bits, bits_of(at, first, end),
					 memory_order_relaxed);
}

bool readaround_note_marked(struct readaround *ra, uint64_t first, uint64_t end)
{
	struct readaround_word *unused = atomic_load_explicit(&ra->unused, memory_order_acquire);
	bool found = false;
	uint64_t at;

	for (at = first / WORD; at * WORD < end; at++) {
		uint64_t bits = bits_of(at, first, end);

		if (atomic_load_explicit(&unused[at].bits, memory_order_relaxed) & bits)
			found = (atomic_fetch_and_explicit(&unused[at].bits, ~bits,
							   memory_order_relaxed) &
				 bits) != 0 ||
				found;
	}
	return found;
}
