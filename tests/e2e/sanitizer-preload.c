/* SPDX-License-Identifier: Apache-2.0 */
/* sanitizer-preload.c - defines one function, so that nbdkit ends when a sanitizer is preloaded.
 *
 * A preloaded sanitizer starts late: at the first call that it intercepts, made by a constructor of
 * libp11-kit, within newlocale, which holds glibc's locale lock.  It then looks for swift_demangle;
 * the failure's text is translated, under the same lock, which that leaves broken: the process
 * hangs at exit.  Where the function is found, nothing fails. */
#include <stddef.h>
#include <stdint.h>

__attribute__((visibility("default"))) char *swift_demangle(const char *name, size_t n, char *out,
							    size_t *room, uint32_t flags);

/* NULL: not a Swift name. */
char *swift_demangle(const char *name, size_t n, char *out, size_t *room, uint32_t flags)
{
	return NULL;
}
