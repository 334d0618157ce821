/* SPDX-License-Identifier: Apache-2.0 */
/* fence.h - memory whose end is watched, and allocations that are refused: for tests that
 * meson.build links with wrap_allocs and wrap_free.
 *
 *	fence_refuse(k, false);             the kth allocation from now on (0: the next) fails
 *	r = ...;
 *	refused = fence_allow();            whether one was
 *
 * A write just behind an allocation aborts when that is freed; one of no bytes is NULL, as it may
 * be elsewhere.  Only calls from our own objects are reached.  One thread. */
#ifndef OVERLAYBD_TESTS_FENCE_H
#define OVERLAYBD_TESTS_FENCE_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FENCE = 64 /* bytes */, FENCE_BYTE = 0xfe, FENCE_MAX = 4096 };

void *__real_malloc(size_t n);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t count, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_asprintf(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_vasprintf(char **out, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
void __wrap_free(void *p);

static struct {
	uint8_t *at;
	size_t n;
} fenced[FENCE_MAX];

static size_t fenced_count;
static long fence_left = -1; /* allocations that still succeed; negative: all do */
static bool fence_lasting, fence_refused;

static inline void fence_refuse(long k, bool lasting)
{
	fence_left = k;
	fence_lasting = lasting;
	fence_refused = false;
}

static inline bool fence_allow(void)
{
	fence_left = -1;
	return fence_refused;
}

static bool fence_is_refused(void)
{
	if (fence_left < 0 || fence_left-- > 0)
		return false;
	fence_left = fence_lasting ? 0 : -1;
	fence_refused = true;
	errno = ENOMEM;
	return true;
}

/* Takes an allocation out of the list, if it is there, and looks at its end. */
static size_t fence_forget(const void *p)
{
	size_t i, k, n;

	for (i = fenced_count; i > 0 && fenced[i - 1].at != p;)
		i--;
	if (i == 0)
		return 0; /* the C library's own */
	n = fenced[i - 1].n;
	for (k = 0; k < FENCE; k++)
		if (fenced[i - 1].at[n + k] != FENCE_BYTE) {
			fprintf(stderr, "written to %zu bytes behind %zu allocated ones\n", k, n);
			abort();
		}
	fenced[i - 1] = fenced[--fenced_count];
	return n;
}

void *__wrap_malloc(size_t n)
{
	uint8_t *p =
		n == 0 || n > SIZE_MAX / 2 || fence_is_refused() ? NULL : __real_malloc(n + FENCE);

	if (!p)
		return NULL;
	if (fenced_count == FENCE_MAX)
		abort();
	(void)fence_forget(p); /* one that the C library freed */
	memset(p + n, FENCE_BYTE, FENCE);
	fenced[fenced_count].at = p;
	fenced[fenced_count++].n = n;
	return p;
}

void *__wrap_calloc(size_t count, size_t n)
{
	void *p = __wrap_malloc(count * n);

	return p ? memset(p, 0, count * n) : NULL;
}

void *__wrap_realloc(void *p, size_t n)
{
	void *more = __wrap_malloc(n);

	if (more && p) {
		size_t old = fence_forget(p);

		memcpy(more, p, old < n ? old : n);
		__real_free(p);
	}
	return more;
}

void *__wrap_reallocarray(void *p, size_t count, size_t n)
{
	return __wrap_realloc(p, count * n);
}

char *__wrap_strndup(const char *s, size_t n)
{
	size_t length = strnlen(s, n);
	char *copy = __wrap_malloc(length + 1);

	if (copy) {
		memcpy(copy, s, length);
		copy[length] = '\0';
	}
	return copy;
}

char *__wrap_strdup(const char *s)
{
	return __wrap_strndup(s, SIZE_MAX);
}

int __wrap_vasprintf(char **out, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	*out = __wrap_malloc((size_t)n + 1);
	if (!*out) {
		*out = (char *)-1; /* undefined, says the manual: not to be used */
		return -1;
	}
	return vsnprintf(*out, (size_t)n + 1, fmt, ap);
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = __wrap_vasprintf(out, fmt, ap);
	va_end(ap);
	return n;
}

void __wrap_free(void *p)
{
	(void)fence_forget(p);
	__real_free(p);
}

#endif
