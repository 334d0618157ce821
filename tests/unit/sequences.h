/* SPDX-License-Identifier: Apache-2.0 */
/* sequences.h - layers that pass for blobs of a registry, and what is asked for of them.
 *
 * For tests that meson.build links with wrap_sequences: what prefetch/ asks of fetch/sequence.h
 * comes here.  Nothing here makes threads wait for each other, so that TSan sees what the tested
 * code leaves out. */
#ifndef OVERLAYBD_TESTS_SEQUENCES_H
#define OVERLAYBD_TESTS_SEQUENCES_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "fetch/sequence.h"

enum { SEQUENCES_MAX = 64 }; /* the first are kept, so that a test can look at them */

struct sequence {
	bool kept;
	atomic_bool closed;
	size_t count;
	struct sequence_range ranges[]; /* as they were asked for */
};

static struct {
	const struct source *remote[8]; /* the layers that are blobs */
	size_t remote_count;
	uint64_t present; /* a bit for each of the first chunks of any blob that the cache has */
	bool refuse; /* sequences are -ENOMEM */
	struct sequence *started[SEQUENCES_MAX]; /* in order; freed by sequences_forget */
	atomic_size_t count;
	atomic_int running;
} sequences;

bool __wrap_sequence_takes(struct source *s);
bool __wrap_sequence_is_present(const struct sequence_range *range);
int __wrap_sequence_start(struct sequence_range *ranges, size_t count, struct sequence **out,
			  struct err *e);
void __wrap_sequence_close(struct sequence *s);

bool __wrap_sequence_takes(struct source *s)
{
	size_t i;

	for (i = 0; i < sequences.remote_count; i++)
		if (sequences.remote[i] == s)
			return true;
	return false;
}

bool __wrap_sequence_is_present(const struct sequence_range *range)
{
	uint64_t i;

	for (i = range->first; i < range->first + range->count; i++)
		if (i >= 64 || !(sequences.present >> i & 1))
			return false;
	return true;
}

int __wrap_sequence_start(struct sequence_range *ranges, size_t count, struct sequence **out,
			  struct err *e)
{
	struct sequence *s = calloc(1, sizeof *s + count * sizeof *ranges);
	size_t i;

	if (count == 0)
		abort();
	if (!s || sequences.refuse) {
		free(s);
		free(ranges);
		return err_set(e, ENOMEM, "out of memory");
	}
	memcpy(s->ranges, ranges, count * sizeof *ranges);
	s->count = count;
	free(ranges);
	i = atomic_fetch_add_explicit(&sequences.count, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&sequences.running, 1, memory_order_relaxed);
	s->kept = i < SEQUENCES_MAX;
	if (s->kept)
		sequences.started[i] = s;
	*out = s;
	return 0;
}

void __wrap_sequence_close(struct sequence *s)
{
	if (!s)
		return;
	if (atomic_exchange_explicit(&s->closed, true, memory_order_relaxed))
		abort(); /* twice */
	atomic_fetch_sub_explicit(&sequences.running, 1, memory_order_relaxed);
	if (!s->kept)
		free(s);
}

/* Layer `number` of the image is a blob from now on. */
static inline void sequences_add_remote(struct image *image, size_t number)
{
	uint64_t off = 0, n = 1;

	sequences.remote[sequences.remote_count++] =
		source_bottom(image_layer(image, number)->layer.data, &off, &n);
}

/* How many are under way. */
static inline int sequences_running(void)
{
	return atomic_load_explicit(&sequences.running, memory_order_relaxed);
}

/* Nothing was ever asked for. */
static inline void sequences_reset(void)
{
	size_t i;

	for (i = 0; i < sequences.count && i < SEQUENCES_MAX; i++)
		free(sequences.started[i]);
	sequences.count = 0;
}

static inline void sequences_forget(void)
{
	sequences_reset();
	memset(&sequences, 0, sizeof sequences);
}

#endif
