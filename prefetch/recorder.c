/* SPDX-License-Identifier: Apache-2.0 */
/* recorder.c - see recorder.h.
 *
 * A read takes the next place of an array with an atomic addition and fills it, its sectors last:
 * a place without sectors is still being filled.  The window is closed by moving the next place to
 * the end.  A thread that took its place before may still write to it: the array is never unmapped
 * while there may be readers, its memory is only given back, and what such a thread writes into a
 * later window is either a read of its own or, torn, checked like one from outside. */
#include "prefetch/recorder.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/clock.h"
#include "core/base/le.h"

enum {
	SECTOR_SHIFT = 9,
	SEEN_SHIFT = 22, /* bits of the filter below: 4 Mi, 512 KiB of memory */
	BLOCK_SHIFT = 3, /* sectors of what is new or not: 4 KiB */
};

struct place {
	_Atomic uint64_t lba;
	_Atomic uint32_t us;
	_Atomic uint32_t sectors; /* 0: not filled */
};

struct recorder {
	_Atomic uint64_t next; /* place; TRACE_READS_MAX or more: closed */
	_Atomic uint64_t began; /* us of clock_us; 0: no read yet */
	struct place *places;
	unsigned seconds, idle;

	/* Of who looks. */
	uint64_t looked; /* places */
	uint64_t new_at; /* ms; when something new was last read */
	uint64_t *seen; /* a bit a hash of a block: a collision passes for seen, which only ends a
			 * window a little sooner */
};

int recorder_open(unsigned seconds, unsigned idle, struct recorder **out, struct err *e)
{
	struct recorder *r = calloc(1, sizeof *r);

	if (!r)
		return err_set(e, ENOMEM, "out of memory");
	r->seconds = seconds;
	r->idle = idle;
	r->seen = calloc((size_t)1 << (SEEN_SHIFT - 6), sizeof *r->seen);
	r->places = mmap(NULL, TRACE_READS_MAX * sizeof *r->places, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (r->places == MAP_FAILED)
		r->places = NULL;
	if (!r->seen || !r->places) {
		recorder_close(r);
		return err_set(e, ENOMEM, "out of memory");
	}
	*out = r;
	return 0;
}

/* The first read's time, whoever of several comes first. */
static uint64_t begin(struct recorder *r, uint64_t now)
{
	uint64_t none = 0;

	return atomic_compare_exchange_strong(&r->began, &none, now) ? now : none;
}

void recorder_note(struct recorder *r, uint64_t off, uint64_t n)
{
	uint64_t lba = off >> SECTOR_SHIFT, now, began, i;
	struct place *p;

	if (n == 0 || atomic_load_explicit(&r->next, memory_order_relaxed) >= TRACE_READS_MAX)
		return;
	i = atomic_fetch_add_explicit(&r->next, 1, memory_order_relaxed);
	if (i >= TRACE_READS_MAX)
		return;
	now = clock_us();
	began = atomic_load_explicit(&r->began, memory_order_relaxed);
	if (began == 0)
		began = begin(r, now);
	p = &r->places[i];
	atomic_store_explicit(&p->lba, lba, memory_order_relaxed);
	atomic_store_explicit(&p->us, (uint32_t)min_u64(now > began ? now - began : 0, UINT32_MAX),
			      memory_order_relaxed);
	atomic_store_explicit(&p->sectors, (uint32_t)(((off + n - 1) >> SECTOR_SHIFT) - lba + 1),
			      memory_order_release);
}

/* Whether the block was not seen before; from now on it is. */
static bool is_new_block(struct recorder *r, uint64_t block)
{
	uint64_t hash = (block * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - SEEN_SHIFT);
	uint64_t bit = UINT64_C(1) << hash % 64, old = r->seen[hash / 64];

	r->seen[hash / 64] = old | bit;
	return (old & bit) == 0;
}

static bool is_new(struct recorder *r, const struct place *p)
{
	uint64_t lba = atomic_load_explicit(&p->lba, memory_order_relaxed);
	uint64_t end = lba + atomic_load_explicit(&p->sectors, memory_order_relaxed), block;
	bool found = false;

	for (block = lba >> BLOCK_SHIFT; block << BLOCK_SHIFT < end; block++)
		found |= is_new_block(r, block);
	return found;
}

bool recorder_look(struct recorder *r)
{
	uint64_t began = atomic_load(&r->began), now = clock_ms();
	uint64_t next = min_u64(atomic_load(&r->next), TRACE_READS_MAX);
	bool found = false;

	if (began == 0)
		return false;
	for (; r->looked < next; r->looked++) {
		const struct place *p = &r->places[r->looked];

		if (atomic_load_explicit(&p->sectors, memory_order_acquire) == 0)
			break;
		found |= is_new(r, p);
	}
	if (found || r->new_at == 0)
		r->new_at = now;
	return next == TRACE_READS_MAX || now - r->new_at >= r->idle * (uint64_t)1000 ||
	       clock_us() - began >= r->seconds * (uint64_t)1000000;
}

int recorder_take(struct recorder *r, uint64_t disk_size, struct trace *t, struct err *e)
{
	uint64_t count = min_u64(atomic_exchange(&r->next, TRACE_READS_MAX), TRACE_READS_MAX), i;
	uint64_t disk = disk_size >> SECTOR_SHIFT;

	t->count = 0;
	t->reads = malloc((count + 1) * sizeof *t->reads);
	for (i = 0; t->reads && i < count; i++) {
		const struct place *p = &r->places[i];
		struct trace_read read = {
			.sectors = atomic_load_explicit(&p->sectors, memory_order_acquire),
			.lba = atomic_load_explicit(&p->lba, memory_order_relaxed),
			.us = atomic_load_explicit(&p->us, memory_order_relaxed),
		};

		if (read.sectors > 0 && range_fits(read.lba, read.sectors, disk))
			t->reads[t->count++] = read;
	}
	(void)madvise(r->places, TRACE_READS_MAX * sizeof *r->places, MADV_DONTNEED);
	return t->reads ? 0 : err_set(e, ENOMEM, "out of memory");
}

void recorder_reset(struct recorder *r)
{
	memset(r->seen, 0, (size_t)1 << (SEEN_SHIFT - 3));
	r->looked = r->new_at = 0;
	atomic_store(&r->began, 0);
	atomic_store(&r->next, 0);
}

void recorder_close(struct recorder *r)
{
	if (!r)
		return;
	if (r->places)
		munmap(r->places, TRACE_READS_MAX * sizeof *r->places);
	free(r->seen);
	free(r);
}
