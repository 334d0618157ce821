/* SPDX-License-Identifier: Apache-2.0 */
/* alloc.h - lets a test refuse the allocation that it chooses.
 *
 * For tests that link wrap_malloc (tests/meson.build): our code's calls come here, those within
 * other libraries do not, unless the library is told to (json_set_alloc_funcs).  One thread. */
#ifndef OVERLAYBD_TESTS_ALLOC_H
#define OVERLAYBD_TESTS_ALLOC_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

static long alloc_left = -1; /* allocations that still succeed; negative: all do */

static inline bool alloc_refused(void)
{
	if (alloc_left < 0 || alloc_left-- > 0)
		return false;
	errno = ENOMEM;
	return true;
}

#define ALLOC_WRAP(type, name, parameters, arguments)                                              \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return alloc_refused() ? NULL : __real_##name arguments;                           \
	}

ALLOC_WRAP(void *, malloc, (size_t n), (n))
ALLOC_WRAP(void *, calloc, (size_t count, size_t n), (count, n))
ALLOC_WRAP(void *, realloc, (void *p, size_t n), (p, n))
ALLOC_WRAP(void *, aligned_alloc, (size_t alignment, size_t n), (alignment, n))
ALLOC_WRAP(char *, strdup, (const char *s), (s))

#endif
