/* SPDX-License-Identifier: Apache-2.0 */
/* upper_queue.c - records on their way to the index file, see upper_private.h. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/le.h"
#include "core/upper_private.h"

int upper_queue_reserve(struct upper_queue *q, size_t n)
{
	size_t room = q->room ? q->room : 64;
	struct mapping *list;

	if (q->room - q->count >= n)
		return 0;
	while (room - q->count < n)
		room *= 2;
	list = realloc(q->list, room * sizeof *list);
	if (!list)
		return -ENOMEM;
	q->list = list;
	q->room = room;
	return 0;
}

void upper_queue_push(struct upper_queue *q, struct mapping record)
{
	struct mapping *last = q->count > q->frozen ? &q->list[q->count - 1] : NULL;
	bool zeroed = mapping_zeroed(record);
	uint64_t sectors;

	if (last && mapping_end(*last) == mapping_start(record) &&
	    mapping_zeroed(*last) == zeroed &&
	    (zeroed ||
	     mapping_moffset(*last) + mapping_sectors(*last) == mapping_moffset(record))) {
		sectors = mapping_sectors(*last) + mapping_sectors(record);
		if (sectors <= FORMAT_MAX_SECTORS) {
			*last = mapping_make(mapping_start(*last), sectors, 0,
					     mapping_moffset(*last), zeroed);
			return;
		}
	}
	q->list[q->count++] = record;
}

size_t upper_queue_cut(uint64_t start, uint64_t sectors, uint64_t moffset, bool zeroed,
		       struct mapping *out, size_t room)
{
	size_t n = 0;

	for (; sectors > 0 && n < room; n++) {
		uint64_t taken = min_u64(sectors, FORMAT_MAX_SECTORS);

		out[n] = mapping_make(start, taken, 0, moffset, zeroed);
		start += taken;
		moffset += taken;
		sectors -= taken;
	}
	return n;
}
