/* SPDX-License-Identifier: Apache-2.0 */
/* fences.h - finds who writes behind a block of memory, without a sanitizer: for tests that
 * meson.build links with wrap_fences.  A test program includes it once.
 *
 * Only blocks that our own objects allocate are fenced; a fence is looked at when its block is
 * freed or made larger.  One thread. */
#ifndef OVERLAYBD_TESTS_FENCES_H
#define OVERLAYBD_TESTS_FENCES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

enum { FENCE = 16, FENCES = 1 << 16 /* more blocks are not fenced */ };

static struct {
	void *block; /* NULL: none was ever here */
	size_t n;
} fences[FENCES];

/* Sizes that realloc was asked for, since the test said that none were. */
static size_t fences_asked[64], fences_asks;

static const char fence[FENCE] = "that is mine, no";

/* The place of a block, or where it would be; FENCES: there is none. */
static size_t fence_find(const void *block)
{
	size_t at = (size_t)((uintptr_t)block >> 4) % FENCES, i;

	for (i = 0; i < FENCES; i++, at = (at + 1) % FENCES)
		if (!fences[at].block || fences[at].block == block)
			return at;
	return FENCES;
}

static void *fence_in(void *block, size_t n)
{
	size_t at = block ? fence_find(block) : FENCES;

	if (at == FENCES)
		return block;
	fences[at].block = block;
	fences[at].n = n;
	memcpy((char *)block + n, fence, FENCE);
	return block;
}

static void fence_look(const void *block)
{
	size_t at = block ? fence_find(block) : FENCES;

	if (at == FENCES || !fences[at].block || fences[at].n == SIZE_MAX)
		return;
	if (memcmp((const char *)block + fences[at].n, fence, FENCE) != 0) {
		fprintf(stderr, "written behind a block of %zu bytes\n", fences[at].n);
		abort();
	}
	fences[at].n = SIZE_MAX; /* it is somebody else's from now on */
}

void *__wrap_malloc(size_t n)
{
	return fence_in(__real_malloc(n + FENCE), n);
}

void *__wrap_calloc(size_t count, size_t n)
{
	return fence_in(__real_calloc(1, count * n + FENCE), count * n);
}

void *__wrap_realloc(void *p, size_t n)
{
	if (fences_asks < sizeof fences_asked / sizeof *fences_asked)
		fences_asked[fences_asks++] = n;
	fence_look(p);
	return fence_in(__real_realloc(p, n + FENCE), n);
}

void __wrap_free(void *p)
{
	fence_look(p);
	__real_free(p);
}

#endif
