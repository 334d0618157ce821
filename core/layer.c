/* SPDX-License-Identifier: Apache-2.0 */
/* layer.c - opening a sealed layer, see layer.h. */
#include "core/layer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/le.h"
#include "core/base/scope.h"

_Static_assert(sizeof(struct mapping) == FORMAT_ENTRY, "an index is parsed in place");

static int read_part(struct source *data, uint64_t off, enum format_part part,
		     struct format_header *h, struct err *e)
{
	uint8_t raw[FORMAT_SPACE];
	int r = source_pread(data, raw, sizeof raw, off, e);

	return r < 0 ? r : format_parse_header(h, raw, part, e);
}

static int bad_entry(uint64_t i, const struct format_entry *entry, const char *fault, struct err *e)
{
	return err_set(e, EBADMSG,
		       "LSMT index entry %" PRIu64 " (LBA %" PRIu64 ", %" PRIu32
		       " sectors at %" PRIu64 "): %s",
		       i, entry->start, entry->sectors, entry->moffset, fault);
}

/* Turns the raw entries, which fill maps, into mappings at the same place.  Returns how many there
 * are without the padding at the end, or -EBADMSG. */
static int64_t parse_index(struct mapping *maps, const struct format_header *trailer, size_t number,
			   struct err *e)
{
	const uint8_t *raw = (const uint8_t *)maps;
	uint64_t data_end = trailer->index_offset / SECTOR, previous_end = 0, i;
	int64_t count = 0;

	for (i = 0; i < trailer->index_size; i++) {
		struct format_entry entry = format_parse_entry(raw + i * FORMAT_ENTRY);
		const char *fault;

		if (entry.start == FORMAT_PADDING)
			continue;
		fault = count < (int64_t)i ? "it follows a padding entry"
					   : format_entry_fault(&entry, previous_end, data_end);
		if (fault)
			return bad_entry(i, &entry, fault, e);
		previous_end = entry.start + entry.sectors;
		maps[count++] = mapping_make(entry.start, entry.sectors, number, entry.moffset,
					     entry.zeroed);
	}
	return count;
}

static int read_index(struct source *data, const struct format_header *trailer, size_t number,
		      struct layer *out, struct err *e)
{
	size_t bytes = (size_t)trailer->index_size * FORMAT_ENTRY;
	AUTO_FREE struct mapping *maps = malloc(bytes + 1);
	int64_t count;
	int r;

	if (!maps)
		return err_set(e, ENOMEM, "out of memory for %" PRIu64 " index entries",
			       trailer->index_size);
	r = source_pread(data, maps, bytes, trailer->index_offset, e);
	if (r < 0)
		return err_wrap(e, r, "LSMT index");
	count = parse_index(maps, trailer, number, e);
	if (count < 0)
		return (int)count;
	out->run = (struct mapping_run){ .maps = TAKE_PTR(maps), .count = (size_t)count };
	out->entries = (uint64_t)count;
	return 0;
}

int layer_open(struct source *data, size_t number, struct layer *out, struct err *e)
{
	struct format_header header, trailer;
	struct layer t = { .data = data };
	int r;

	if (data->size < 2 * FORMAT_SPACE)
		return err_set(e, EBADMSG,
			       "LSMT: %" PRIu64 " bytes are too few for a header and a trailer",
			       data->size);
	r = read_part(data, 0, FORMAT_PART_HEADER, &header, e);
	if (r == 0)
		r = read_part(data, data->size - FORMAT_SPACE, FORMAT_PART_TRAILER, &trailer, e);
	if (r == 0)
		r = format_check_index(&trailer, data->size, e);
	if (r < 0)
		return r;
	if (trailer.index_offset / SECTOR > INDEX_MAX_MOFFSET)
		return err_set(e, EFBIG, "LSMT: data up to %" PRIu64 ", over the limit of 64 PiB",
			       trailer.index_offset);
	r = read_index(data, &trailer, number, &t, e);
	if (r < 0)
		return r;
	t.header = trailer;
	*out = t;
	return 0;
}

void layer_close(struct layer *l)
{
	free(l->run.maps);
	source_close(l->data);
	*l = (struct layer){ 0 };
}
