/* SPDX-License-Identifier: Apache-2.0 */
/* array.h - arrays that grow one element at a time.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_BASE_ARRAY_H
#define OVERLAYBD_BASE_ARRAY_H

#include <stddef.h>

/* Makes room for one more element than `count`, each of `size` bytes, in an array that has *room.
 * Returns the array, which may have moved; NULL: there is no memory, and nothing has changed. */
void *array_grow(void *array, size_t count, size_t *room, size_t size);

#endif
