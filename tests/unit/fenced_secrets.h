/* SPDX-License-Identifier: Apache-2.0 */
/* fenced_secrets.h - watches what our code does with the memory that it allocates: for tests that
 * meson.build links with wrap_fences.  It includes allocs.h, which can refuse allocations.
 *
 * A fence behind each block of malloc and realloc is looked at when the block is freed: nobody may
 * have written behind the end.  No freed memory may hold fences_secret.  Else the program ends. */
#ifndef OVERLAYBD_TESTS_FENCED_SECRETS_H
#define OVERLAYBD_TESTS_FENCED_SECRETS_H

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>

/* allocs.h's wrappers end here. */
#define __real_malloc fences_malloc
#define __real_realloc fences_realloc
#include "tests/unit/allocs.h"
#undef __real_malloc
#undef __real_realloc

void *__real_malloc(size_t n);
void __real_free(void *p);
void __real_curl_free(void *p);
void __wrap_free(void *p);
void __wrap_curl_free(void *p);

enum { FENCES = 4096, FENCE = 16 /* bytes */, FENCE_BYTE = 0x5a, FRESH_BYTE = 0xa5 };

static const char *fences_secret; /* NULL: none */

/* The addresses are kept as their complements: a leak checker must not find them. */
static struct {
	uintptr_t p;
	size_t n;
} fences[FENCES];

static pthread_mutex_t fences_lock = PTHREAD_MUTEX_INITIALIZER;

/* Whether it is a block of ours, of *n bytes; `forget`: and is none any more. */
static inline bool fences_find(const void *p, size_t *n, bool forget)
{
	bool found = false;
	size_t i;

	pthread_mutex_lock(&fences_lock);
	for (i = 0; p && i < FENCES && !found; i++) {
		found = fences[i].p == ~(uintptr_t)p;
		if (found)
			*n = fences[i].n;
		if (found && forget)
			fences[i].p = 0;
	}
	pthread_mutex_unlock(&fences_lock);
	return found;
}

static inline void fences_fail(const char *what, size_t n)
{
	fprintf(stderr, "a block of %zu bytes: %s\n", n, what);
	abort();
}

static inline void fences_look_for_secret(const void *p, size_t n)
{
	if (fences_secret && memmem(p, n, fences_secret, strlen(fences_secret)))
		fences_fail("freed with a secret in it", n);
}

void *fences_malloc(size_t n)
{
	uint8_t *p = __real_malloc(n + FENCE);
	size_t i;

	memset(p, FRESH_BYTE, n);
	memset(p + n, FENCE_BYTE, FENCE);
	pthread_mutex_lock(&fences_lock);
	for (i = 0; fences[i].p != 0; i++)
		if (i + 1 == FENCES)
			fences_fail("one too many", n);
	fences[i].p = ~(uintptr_t)p;
	fences[i].n = n;
	pthread_mutex_unlock(&fences_lock);
	return p;
}

void __wrap_free(void *p)
{
	size_t n, k;

	if (!p)
		return;
	if (fences_find(p, &n, true)) {
		for (k = 0; k < FENCE; k++)
			if (((const uint8_t *)p)[n + k] != FENCE_BYTE)
				fences_fail("written behind its end", n);
	} else {
		n = malloc_usable_size(p); /* another library's, as of asprintf */
	}
	fences_look_for_secret(p, n);
	__real_free(p);
}

void __wrap_curl_free(void *p)
{
	if (p)
		fences_look_for_secret(p, malloc_usable_size(p));
	__real_curl_free(p);
}

void *fences_realloc(void *p, size_t n)
{
	void *longer = fences_malloc(n);
	size_t had = 0;

	if (p && !fences_find(p, &had, false))
		had = malloc_usable_size(p);
	if (p)
		memcpy(longer, p, had < n ? had : n);
	__wrap_free(p);
	return longer;
}

/* Whether a block that is not freed yet has no byte to spare. */
static inline bool fences_is_tight(const void *p)
{
	size_t n;

	return fences_find(p, &n, false) && ((const uint8_t *)p)[n - 1] != FRESH_BYTE;
}

#endif
