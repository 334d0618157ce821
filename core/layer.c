/* SPDX-License-Identifier: Apache-2.0 */
/* layer.c - opening a sealed layer, see layer.h. */
#include "core/layer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum { PIECE_ENTRIES = 4096 }; /* entries read at once */

int layer_bad_entry(struct err *e, uint64_t number, const struct format_entry *entry,
		    const char *fault)
{
	return err_set(e, EBADMSG,
		       "LSMT index entry %" PRIu64 " (LBA %" PRIu64 ", %" PRIu32
		       " sectors at %" PRIu64 "): %s",
		       number, entry->start, entry->sectors, entry->moffset, fault);
}

/* Mappings of an index that is being read. */
struct index_reader {
	const struct format_header *trailer;
	size_t number; /* of the layer */
	struct mapping *maps;
	size_t count;
	size_t room;
	uint64_t seen; /* entries, padding included */
	uint64_t end; /* sector after the last mapping */
};

static int reserve(struct index_reader *x, size_t more, struct err *e)
{
	size_t room = x->count + more;
	struct mapping *maps;

	if (room <= x->room)
		return 0;
	room = (size_t)min_u64(max_u64(room, 2 * x->room), x->trailer->index_size);
	maps = realloc(x->maps, room * sizeof *maps);
	if (!maps)
		return err_set(e, ENOMEM, "out of memory for %zu index entries", room);
	x->maps = maps;
	x->room = room;
	return 0;
}

/* Takes in the next n raw entries.  Padding takes no memory: a small file can have much of it. */
static int take_entries(struct index_reader *x, const uint8_t *raw, size_t n, struct err *e)
{
	uint64_t data_end = x->trailer->index_offset / SECTOR;
	int r = reserve(x, n, e);
	size_t i;

	for (i = 0; r == 0 && i < n; i++, x->seen++) {
		struct format_entry entry = format_parse_entry(raw + i * FORMAT_ENTRY);
		const char *fault;

		if (entry.start == FORMAT_PADDING)
			continue;
		fault = x->count < x->seen ? "it follows a padding entry"
					   : format_entry_fault(&entry, x->end, data_end);
		if (fault)
			return layer_bad_entry(e, x->seen, &entry, fault);
		x->end = entry.start + entry.sectors;
		x->maps[x->count++] = mapping_make(entry.start, entry.sectors, x->number,
						   entry.moffset, entry.zeroed);
	}
	return r;
}

static int read_entries(struct index_reader *x, struct source *data, struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc(PIECE_ENTRIES * FORMAT_ENTRY);
	uint64_t left;
	int r = 0;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	while (r == 0 && (left = x->trailer->index_size - x->seen) > 0) {
		size_t n = (size_t)min_u64(PIECE_ENTRIES, left);

		r = source_pread(data, raw, n * FORMAT_ENTRY,
				 x->trailer->index_offset + x->seen * FORMAT_ENTRY, e);
		r = r < 0 ? err_wrap(e, r, "LSMT index") : take_entries(x, raw, n, e);
	}
	return r;
}

static int read_index(struct source *data, const struct format_header *trailer, size_t number,
		      struct layer *out, struct err *e)
{
	struct index_reader x = { .trailer = trailer, .number = number };
	int r = read_entries(&x, data, e);

	if (r < 0) {
		free(x.maps);
		return r;
	}
	out->run = (struct mapping_run){ .maps = x.maps, .count = x.count };
	out->entries = x.count;
	return 0;
}

/* Whether what stands where a trailer should says that it is one. */
static bool has_trailer(struct source *data)
{
	uint8_t raw[64];

	return data->size >= 2 * FORMAT_SPACE &&
	       source_pread(data, raw, sizeof raw, data->size - FORMAT_SPACE, NULL) == 0 &&
	       format_is_layer(raw, sizeof raw);
}

int layer_read_trailer(struct source *data, const struct format_header *header,
		       struct format_header *trailer, struct err *e)
{
	uint64_t at = data->size - min_u64(data->size, FORMAT_SPACE);
	int r = format_read_header(trailer, data, at, FORMAT_PART_TRAILER, e);

	/* A layer that was sealed in place keeps its flags in the header, and has a trailer. */
	if (r == -EBADMSG && header && (header->flags & FORMAT_SEALED) == 0 && !has_trailer(data))
		return err_set(e, EBADMSG,
			       "LSMT: not sealed: the data file of a writable layer; name it under "
			       "'upper:' in a config");
	return r;
}

static int load(struct source *data, size_t number, struct layer *out, struct err *e)
{
	struct format_header header, trailer;
	int r = format_read_header(&header, data, 0, FORMAT_PART_HEADER, e);

	if (r < 0)
		return r;
	r = layer_read_trailer(data, &header, &trailer, e);
	if (r == 0)
		r = format_check_index(&trailer, data->size, e);
	if (r < 0)
		return r;
	if (trailer.index_offset / SECTOR > INDEX_MAX_MOFFSET)
		return err_set(e, EFBIG, "LSMT: data up to %" PRIu64 ", over the limit of 64 PiB",
			       trailer.index_offset);
	out->header = trailer;
	return read_index(data, &trailer, number, out, e);
}

/* Says below that what load has read is wrong. */
static void drop_loaded(struct source *data, const struct layer *l)
{
	uint64_t tail = data->size - min_u64(data->size, FORMAT_SPACE);

	if (l->header.index_offset)
		tail = l->header.index_offset;
	source_drop(data, 0, FORMAT_SPACE);
	source_drop(data, tail, data->size - tail);
}

int layer_open(struct source *data, size_t number, struct layer *out, struct err *e)
{
	struct layer t = { .data = data };
	int r = load(data, number, &t, e);
	unsigned again;

	/* A cache may hold wrong bytes, and fetch better ones. */
	for (again = 0; r == -EBADMSG && again < SOURCE_RETRIES; again++) {
		drop_loaded(data, &t);
		r = load(data, number, &t, e);
	}
	if (r < 0)
		return r;
	*out = t;
	return 0;
}

void layer_close(struct layer *l)
{
	free(l->run.maps);
	source_close(l->data);
	*l = (struct layer){ 0 };
}
