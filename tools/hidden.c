/* SPDX-License-Identifier: Apache-2.0 */
/* hidden.c - mappings beyond the disk's end, see hidden.h. */
#include "tools/hidden.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/le.h"

/* Adds [from, to), which one mapping covers. */
static int add_mark(struct mapping_run *run, size_t *room, uint64_t from, uint64_t to)
{
	if (run->count == *room) {
		size_t more = *room ? 2 * *room : 16;
		struct mapping *maps = realloc(run->maps, more * sizeof *maps);

		if (!maps)
			return -ENOMEM;
		run->maps = maps;
		*room = more;
	}
	run->maps[run->count++] = mapping_make(from, to - from, 0, 0, true);
	return 0;
}

int hidden_marks(const struct index *index, uint64_t from, uint64_t to, struct mapping_run *out)
{
	const struct mapping *m = index_maps(index) + index_find(index, from);
	size_t room = 0;
	int r = 0;

	*out = (struct mapping_run){ 0 };
	for (; r == 0 && mapping_start(*m) < to; m++)
		r = add_mark(out, &room, max_u64(mapping_start(*m), from),
			     min_u64(mapping_end(*m), to));
	if (r < 0) {
		free(out->maps);
		*out = (struct mapping_run){ 0 };
	}
	return r;
}

bool hidden_has_data(const struct index *index, uint64_t from, uint64_t to)
{
	const struct mapping *m = index_maps(index) + index_find(index, from);

	for (; mapping_start(*m) < to; m++)
		if (!mapping_zeroed(*m))
			return true;
	return false;
}
