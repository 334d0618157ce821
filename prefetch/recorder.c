/* SPDX-License-Identifier: Apache-2.0 */
/* recorder.c - see recorder.h.
 *
 * A thread takes some places of an array at a time, with an atomic addition, and fills one a read,
 * its sectors last: a place without sectors is not filled.  The window is closed by moving the next
 * place to the end, and by a new serial, which makes void what threads have taken.  A thread that
 * was about to fill a place may still write to it: the array is never unmapped while there may be
 * readers, its memory is only given back, and what such a thread writes into a later window is
 * either a read of its own or, torn, checked like one from outside.
 */
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
	SEEN_WORDS = 1 << (SEEN_SHIFT - 6),
	LINE = 64, /* bytes */
	BATCH = 16, /* places that a thread takes at a time */
	BLOCK_SHIFT = 3, /* sectors of what is new or not: 4 KiB */
};

struct place {
	_Atomic uint64_t lba;
	_Atomic uint32_t us;
	_Atomic uint32_t sectors; /* 0: not filled */
};

struct recorder {
	/* On a cache line of its own: readers write it. */
	_Alignas(LINE) _Atomic uint64_t next; /* place; TRACE_READS_MAX or more: closed */
	_Alignas(LINE) _Atomic uint64_t serial; /* of the window, in this process */
	_Atomic uint64_t began; /* us of clock_us; 0: no read yet */
	struct place *places;
	unsigned seconds, idle;

	/* Of who looks. */
	uint64_t looked; /* places from the first on, all filled */
	uint64_t new_at; /* ms; when something new was last read */
	uint64_t *seen; /* a bit a hash of a block: a collision passes for seen, which only ends a
			 * window a little sooner */
};

/* The places that this thread has taken, of the window with this serial. */
static _Thread_local struct {
	uint64_t serial, next, end;
} batch;

static _Atomic uint64_t next_serial = 1; /* 0: that of a thread without a batch */

static uint64_t new_serial(void)
{
	return atomic_fetch_add(&next_serial, 1);
}

int recorder_open(unsigned seconds, unsigned idle, struct recorder **out, struct err *e)
{
	struct recorder *r = aligned_alloc(LINE, sizeof *r);

	if (!r)
		return err_set(e, ENOMEM, "out of memory");
	*r = (struct recorder){ .seconds = seconds, .idle = idle };
	atomic_init(&r->serial, new_serial());
	r->seen = calloc(SEEN_WORDS, sizeof *r->seen);
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

/* A place for a read; TRACE_READS_MAX: the window is closed. */
static uint64_t take_place(struct recorder *r)
{
	uint64_t serial = atomic_load_explicit(&r->serial, memory_order_relaxed);

	if (batch.serial != serial || batch.next == batch.end) {
		if (atomic_load_explicit(&r->next, memory_order_relaxed) >= TRACE_READS_MAX)
			return TRACE_READS_MAX;
		batch.next = atomic_fetch_add_explicit(&r->next, BATCH, memory_order_relaxed);
		batch.end = batch.next + BATCH;
		batch.serial = serial;
	}
	return min_u64(batch.next++, TRACE_READS_MAX);
}

void recorder_note(struct recorder *r, uint64_t off, uint64_t n)
{
	uint64_t lba = off >> SECTOR_SHIFT, now, began, i = n > 0 ? take_place(r) : TRACE_READS_MAX;
	struct place *p;

	if (i == TRACE_READS_MAX)
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

/* Looks at what is filled.  Places behind one that is not are looked at again the next time. */
static bool look_at_places(struct recorder *r, uint64_t next)
{
	bool all = true, found = false;
	uint64_t i;

	for (i = r->looked; i < next; i++) {
		const struct place *p = &r->places[i];
		bool filled = atomic_load_explicit(&p->sectors, memory_order_acquire) != 0;

		all = all && filled;
		r->looked += all;
		if (filled && is_new(r, p))
			found = true;
	}
	return found;
}

bool recorder_look(struct recorder *r)
{
	uint64_t began = atomic_load(&r->began), now = clock_ms();
	uint64_t next = min_u64(atomic_load(&r->next), TRACE_READS_MAX);

	if (began == 0)
		return false;
	if (look_at_places(r, next) || r->new_at == 0)
		r->new_at = now;
	return next == TRACE_READS_MAX || now - r->new_at >= r->idle * (uint64_t)1000 ||
	       clock_us() - began >= r->seconds * (uint64_t)1000000;
}

static int by_time(const void *a, const void *b)
{
	const struct trace_read *x = a, *y = b;

	return order_u64(x->us, y->us);
}

int recorder_take(struct recorder *r, uint64_t disk_size, struct trace *t, struct err *e)
{
	uint64_t count = min_u64(atomic_exchange(&r->next, TRACE_READS_MAX), TRACE_READS_MAX), i;
	uint64_t disk = disk_size >> SECTOR_SHIFT;

	atomic_store(&r->serial, new_serial()); /* what threads have taken is void */
	t->count = 0;
	t->reads = malloc(count * sizeof *t->reads);
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
	if (!t->reads)
		return err_set(e, ENOMEM, "out of memory");
	qsort(t->reads, t->count, sizeof *t->reads, by_time);
	return 0;
}

void recorder_reset(struct recorder *r)
{
	memset(r->seen, 0, SEEN_WORDS * sizeof *r->seen);
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
