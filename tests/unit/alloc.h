/* SPDX-License-Identifier: Apache-2.0 */
/* alloc.h - lets a test refuse the allocation that it chooses.
 *
 * For tests that link wrap_malloc (tests/meson.build): our code's calls come here, those within
 * other libraries do not, unless the library is told to (json_set_alloc_funcs).  One thread. */
#ifndef OVERLAYBD_TESTS_ALLOC_H
#define OVERLAYBD_TESTS_ALLOC_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

static long alloc_left = -1; /* allocations that still succeed; negative: all do */
static bool alloc_empty_is_null; /* one of 0 bytes gives NULL: C allows it */
static atomic_size_t alloc_total; /* bytes asked for, since the test set it to 0 */

static inline bool alloc_refused(void)
{
	if (alloc_left < 0 || alloc_left-- > 0)
		return false;
	errno = ENOMEM;
	return true;
}

static inline bool alloc_refused_of(size_t n)
{
	alloc_total += n;
	return (n == 0 && alloc_empty_is_null) || alloc_refused();
}

#define ALLOC_WRAP(type, name, parameters, arguments, size)                                        \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return alloc_refused_of(size) ? NULL : __real_##name arguments;                    \
	}

ALLOC_WRAP(void *, malloc, (size_t n), (n), n)
ALLOC_WRAP(void *, calloc, (size_t count, size_t n), (count, n), count *n)
ALLOC_WRAP(void *, realloc, (void *p, size_t n), (p, n), n)
ALLOC_WRAP(char *, strdup, (const char *s), (s), strlen(s) + 1)

/* What is aligned has bytes behind it that nobody may touch, which a test may look at while it is
 * there. */
enum { ALLOC_GUARD = 0x5a, ALLOC_BLOCKS = 2 };
static struct {
	unsigned char *bytes;
	size_t alignment, n;
} alloc_blocks[ALLOC_BLOCKS]; /* the last ones, alloc_count in all */
static atomic_uint alloc_count;

void *__real_aligned_alloc(size_t alignment, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n);
void *__wrap_aligned_alloc(size_t alignment, size_t n)
{
	unsigned i = atomic_fetch_add(&alloc_count, 1) % ALLOC_BLOCKS;
	unsigned char *p =
		alloc_refused_of(n) ? NULL : __real_aligned_alloc(alignment, n + alignment);

	if (!p)
		return NULL;
	memset(p + n, ALLOC_GUARD, alignment);
	alloc_blocks[i].bytes = p;
	alloc_blocks[i].alignment = alignment;
	alloc_blocks[i].n = n;
	return p;
}

/* Whether block i is aligned so and has n bytes, and nobody has written behind it. */
static inline bool alloc_block_is(unsigned i, size_t alignment, size_t n)
{
	size_t k;

	if (alloc_blocks[i].alignment != alignment || alloc_blocks[i].n != n)
		return false;
	for (k = n; k < n + alignment; k++)
		if (alloc_blocks[i].bytes[k] != ALLOC_GUARD)
			return false;
	return true;
}

#endif
