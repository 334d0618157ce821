/* SPDX-License-Identifier: Apache-2.0 */
/* guard.h - memory behind whose end nothing can be read or written: whoever does is ended by it.
 *
 *	t.reads = guard_copy(reads, count * sizeof *reads);
 *	...
 *	guard_free(t.reads, count * sizeof *reads);
 */
#ifndef OVERLAYBD_TESTS_GUARD_H
#define OVERLAYBD_TESTS_GUARD_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GUARD_PAGE = 4096 };

/* What n bytes take, with the page behind them. */
static inline size_t guard_space(size_t n)
{
	return (n + GUARD_PAGE - 1) / GUARD_PAGE * GUARD_PAGE + GUARD_PAGE;
}

static inline void *guard_copy(const void *bytes, size_t n)
{
	size_t space = guard_space(n);
	uint8_t *at = mmap(NULL, space, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || mprotect(at + space - GUARD_PAGE, GUARD_PAGE, PROT_NONE) < 0)
		abort();
	at += space - GUARD_PAGE - n;
	if (n > 0)
		memcpy(at, bytes, n);
	return at;
}

static inline void guard_free(const void *guarded, size_t n)
{
	munmap((void *)((uintptr_t)guarded + n + GUARD_PAGE - guard_space(n)), guard_space(n));
}

#endif
