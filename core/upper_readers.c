/* SPDX-License-Identifier: Apache-2.0 */
/* upper_readers.c - see upper_readers.h. */
#include "core/upper_readers.h"

unsigned upper_readers_enter(struct upper_readers *r)
{
	for (;;) {
		uint64_t epoch = atomic_load(&r->epoch);

		atomic_fetch_add(&r->active[epoch % 2], 1);
		if (atomic_load(&r->epoch) == epoch)
			return epoch % 2;
		/* It went on meanwhile, and may not have seen us. */
		atomic_fetch_sub(&r->active[epoch % 2], 1);
	}
}

void upper_readers_leave(struct upper_readers *r, unsigned seat)
{
	atomic_fetch_sub(&r->active[seat], 1);
}

/* Begins the next epoch if the readers of the one before this are gone. */
static void advance_once(struct upper_readers *r)
{
	uint64_t epoch = atomic_load(&r->epoch);

	if (atomic_load(&r->active[(epoch + 1) % 2]) == 0)
		atomic_store(&r->epoch, epoch + 1);
}

uint64_t upper_readers_advance(struct upper_readers *r)
{
	advance_once(r);
	advance_once(r);
	return atomic_load(&r->epoch);
}
