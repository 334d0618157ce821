/* SPDX-License-Identifier: Apache-2.0 */
/* array.c - see array.h. */
#include "core/base/array.h"

#include <stdlib.h>

void *array_grow(void *array, size_t count, size_t *room, size_t size)
{
	size_t more = *room > 0 ? 2 * *room : 64;
	void *grown;

	if (count < *room)
		return array;
	grown = realloc(array, more * size);
	if (grown)
		*room = more;
	return grown;
}
