/* SPDX-License-Identifier: Apache-2.0 */
/* layer_writer.c - writing a dense layer, see layer_writer.h.
 *
 * The index is kept in memory, 16 bytes an entry in its final form, until finish.  The bytes are
 * those of the reference's compacting writer: a zeroed entry's moffset is where the data had got
 * to, and the index is padded to a multiple of 256 entries. */
#include "core/layer_writer.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/log.h"

struct layer_writer {
	struct sink *out;
	struct format_header header; /* of the header; the trailer follows from it */
	struct format_entry last; /* the newest entry, not yet in index; sectors 0: none */
	uint64_t end; /* logical sector after the newest entry */
	uint64_t data_end; /* sector after the data written */
	uint8_t *index;
	uint64_t entries; /* in index */
	uint64_t mappings; /* of them, without padding; once the index is complete */
	const char *name; /* NULL: no warnings */
	uint64_t room; /* entries that fit in index */
};

static int set_uuid(char out[FORMAT_UUID], const char *uuid, const char *what, struct err *e)
{
	size_t i;

	if (!uuid || uuid[0] == '\0')
		uuid = FORMAT_NIL_UUID;
	if (!format_is_uuid(uuid))
		return err_set(e, EINVAL, "%s '%s' is not a uuid", what, uuid);
	for (i = 0; i < FORMAT_UUID; i++)
		out[i] = (char)toupper((unsigned char)uuid[i]);
	return 0;
}

static int set_header(struct format_header *h, const struct layer_writer_options *options,
		      struct err *e)
{
	int r;

	*h = (struct format_header){
		.flags = FORMAT_HEADER | FORMAT_DATA_FILE | FORMAT_SEALED,
		.virtual_size = options->virtual_size,
		.version = 1,
		.sub_version = 1,
	};
	if (options->virtual_size % SECTOR != 0)
		return err_set(e, EINVAL, "virtual size %" PRIu64 " is not a multiple of %d",
			       options->virtual_size, SECTOR);
	if (options->virtual_size / SECTOR >= FORMAT_LBA_LIMIT)
		return err_set(e, EINVAL, "virtual size %" PRIu64 " is over 2^50 sectors",
			       options->virtual_size);
	if (options->message && strlen(options->message) > FORMAT_TAG)
		return err_set(e, EINVAL, "the message is longer than %d bytes", FORMAT_TAG);
	if (options->message)
		strcpy(h->tag, options->message); /* has room for the NUL too */
	r = set_uuid(h->uuid, options->uuid, "uuid", e);
	return r < 0 ? r : set_uuid(h->parent_uuid, options->parent_uuid, "parent uuid", e);
}

int layer_writer_open(struct sink *out, const struct layer_writer_options *options,
		      struct layer_writer **w, struct err *e)
{
	struct layer_writer *t = calloc(1, sizeof *t);
	uint8_t raw[FORMAT_SPACE];
	int r;

	if (!t)
		return err_set(e, ENOMEM, "out of memory");
	r = set_header(&t->header, options, e);
	if (r == 0) {
		format_encode_header(&t->header, raw);
		r = sink_write(out, raw, sizeof raw, e);
	}
	if (r < 0) {
		free(t);
		return r;
	}
	t->out = out;
	t->name = options->name;
	t->data_end = FORMAT_SPACE / SECTOR;
	*w = t;
	return 0;
}

static int push_entry(struct layer_writer *w, const struct format_entry *entry, struct err *e)
{
	if (w->entries == FORMAT_MAX_ENTRIES)
		return err_set(e, EFBIG, "the layer needs more than %" PRIu64 " index entries",
			       FORMAT_MAX_ENTRIES);
	if (w->entries == w->room) {
		uint64_t room = w->room ? 2 * w->room : 1024;
		uint8_t *index = realloc(w->index, (size_t)room * FORMAT_ENTRY);

		if (!index)
			return err_set(e, ENOMEM, "out of memory for %" PRIu64 " index entries",
				       room);
		w->index = index;
		w->room = room;
	}
	format_encode_entry(entry, w->index + w->entries++ * FORMAT_ENTRY);
	return 0;
}

/* Adds [lba, lba + sectors) to the newest entry where it goes on there, else begins a new one.
 * Returns how many sectors were taken: one long range gives the same index however it is cut. */
static int64_t extend_index(struct layer_writer *w, uint64_t lba, uint64_t sectors, bool zeroed,
			    struct err *e)
{
	bool joins = w->last.sectors > 0 && w->last.zeroed == zeroed && w->end == lba &&
		     w->last.sectors < FORMAT_MAX_SECTORS;
	uint64_t n = min_u64(sectors, FORMAT_MAX_SECTORS - (joins ? w->last.sectors : 0));
	int r = 0;

	if (!joins) {
		if (w->last.sectors > 0)
			r = push_entry(w, &w->last, e);
		w->last = (struct format_entry){ .start = lba,
						 .moffset = w->data_end,
						 .zeroed = zeroed };
	}
	w->last.sectors += (uint32_t)n;
	w->end = lba + n;
	if (!zeroed)
		w->data_end += n;
	return r < 0 ? r : (int64_t)n;
}

static int add_range(struct layer_writer *w, uint64_t lba, uint64_t sectors, bool zeroed,
		     struct err *e)
{
	if (lba < w->end)
		return err_set(e, EINVAL, "LBA %" PRIu64 " follows a range that ends at %" PRIu64,
			       lba, w->end);
	if (!range_fits(lba, sectors,
			w->header.virtual_size ? w->header.virtual_size / SECTOR
					       : FORMAT_LBA_LIMIT - 1))
		return err_set(e, EINVAL,
			       "%" PRIu64 " sectors at LBA %" PRIu64
			       " lie beyond the virtual size of %" PRIu64,
			       sectors, lba, w->header.virtual_size);
	while (sectors > 0) {
		int64_t n = extend_index(w, lba, sectors, zeroed, e);

		if (n < 0)
			return (int)n;
		lba += (uint64_t)n;
		sectors -= (uint64_t)n;
	}
	return 0;
}

int layer_writer_data(struct layer_writer *w, uint64_t lba, const void *bytes, uint64_t sectors,
		      struct err *e)
{
	int r = add_range(w, lba, sectors, false, e);

	return r < 0 ? r : sink_write(w->out, bytes, (size_t)(sectors * SECTOR), e);
}

int layer_writer_zeroes(struct layer_writer *w, uint64_t lba, uint64_t sectors, struct err *e)
{
	return add_range(w, lba, sectors, true, e);
}

/* Ends the index with padding entries.  Returns its entries, or -errno. */
static int64_t write_index(struct layer_writer *w, struct err *e)
{
	static const struct format_entry padding = { .start = FORMAT_PADDING };
	int r = 0;

	if (w->last.sectors > 0)
		r = push_entry(w, &w->last, e);
	w->mappings = w->entries;
	while (r == 0 && w->entries % FORMAT_PAD_ENTRIES != 0)
		r = push_entry(w, &padding, e);
	if (r == 0)
		r = sink_write(w->out, w->index, (size_t)(w->entries * FORMAT_ENTRY), e);
	return r < 0 ? r : (int64_t)w->entries;
}

int layer_writer_finish(struct layer_writer *w, struct err *e)
{
	struct format_header trailer = w->header;
	uint8_t raw[FORMAT_SPACE];
	int64_t entries = write_index(w, e);
	int r;

	if (entries < 0)
		return (int)entries;
	trailer.flags = FORMAT_DATA_FILE | FORMAT_SEALED;
	trailer.index_offset = w->data_end * SECTOR;
	trailer.index_size = (uint64_t)entries;
	format_encode_header(&trailer, raw);
	r = sink_write(w->out, raw, sizeof raw, e);
	if (r == 0)
		r = sink_finish(w->out, e);
	if (r == 0 && w->name && w->mappings > FORMAT_REFERENCE_ENTRIES)
		log_warn("%s: %" PRIu64 " mappings: overlaybd itself reads no layer of more than "
			 "%" PRIu64,
			 w->name, w->mappings, FORMAT_REFERENCE_ENTRIES);
	return r;
}

void layer_writer_close(struct layer_writer *w)
{
	if (!w)
		return;
	sink_close(w->out);
	free(w->index);
	free(w);
}
