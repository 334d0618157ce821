/* SPDX-License-Identifier: Apache-2.0 */
/* allocs.h - makes a chosen allocation fail: for tests that meson.build links with wrap_allocs.
 *
 *	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
 *		allocs_left = k;
 *		r = ...;
 *		allocs_left = -1;
 *	}
 *
 * Only calls from our own objects are reached, and jansson's after allocs_wrap_json. */
#ifndef OVERLAYBD_TESTS_ALLOCS_H
#define OVERLAYBD_TESTS_ALLOCS_H

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t count, size_t n);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t count, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t count, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t count, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __real_vasprintf(char **out, const char *fmt, va_list ap);
int __wrap_asprintf(char **out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_vasprintf(char **out, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static long allocs_left = -1; /* allocations that still succeed; negative: all do */

static bool allocs_once; /* one alone is refused, not all after it */

static bool allocs_refused; /* at least one, since the test said that none was */

static atomic_size_t allocs_total; /* bytes asked for by malloc and calloc */

static bool allocs_refuse(void)
{
	if (allocs_left < 0 || allocs_left-- > 0)
		return false;
	allocs_left = allocs_once ? -1 : 0;
	allocs_refused = true;
	errno = ENOMEM;
	return true;
}

void *__wrap_malloc(size_t n)
{
	allocs_total += n;
	return allocs_refuse() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t count, size_t n)
{
	allocs_total += count * n;
	return allocs_refuse() ? NULL : __real_calloc(count, n);
}

void *__wrap_realloc(void *p, size_t n)
{
	return allocs_refuse() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t count, size_t n)
{
	return allocs_refuse() ? NULL : __real_reallocarray(p, count, n);
}

char *__wrap_strdup(const char *s)
{
	return allocs_refuse() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
	return allocs_refuse() ? NULL : __real_strndup(s, n);
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (allocs_refuse()) {
		*out = (char *)-1; /* undefined, says the manual: not to be used */
		return -1;
	}
	va_start(ap, fmt);
	n = __real_vasprintf(out, fmt, ap);
	va_end(ap);
	return n;
}

int __wrap_vasprintf(char **out, const char *fmt, va_list ap)
{
	if (!allocs_refuse())
		return __real_vasprintf(out, fmt, ap);
	*out = (char *)-1;
	return -1;
}

/* jansson's too. */
static inline void allocs_wrap_json(void)
{
	json_set_alloc_funcs(__wrap_malloc, free);
}

#endif
