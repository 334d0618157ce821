/* SPDX-License-Identifier: Apache-2.0 */
/* names.h - export names as texts: which ones NBD and a log can carry.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_NAMES_H
#define OVERLAYBD_NBDKIT_PLUGIN_NAMES_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the name is UTF-8 and free of control characters. */
bool names_is_plain(const char *name);

/* A copy for messages: control characters and bytes beyond ASCII become '?', and what is over 100
 * bytes becomes "...".  The caller frees it; NULL when out of memory. */
char *names_printable(const char *name);

/* The names with ", " between them.  The caller frees it; NULL when out of memory. */
char *names_join(char *const *names, size_t count);

#endif
