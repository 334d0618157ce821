/* SPDX-License-Identifier: Apache-2.0 */
/* check-index.c - walks the raw index entries, see check-index.h. */
#include "tools/check-index.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "core/base/le.h"
#include "core/format.h"

enum { PIECE_ENTRIES = 1024 }; /* read at once */

/* The rules that need an entry's neighbours. */
struct walk {
	struct findings *findings;
	uint64_t data_end;     /* sectors */
	uint64_t previous_end; /* of the last good entry, in sectors */
	bool padded;	       /* a padding entry was seen */
	bool holding;	       /* an entry waits for the one after it: */
	struct format_entry held;
	uint64_t held_number;
};

static void report_entry(const struct walk *w, uint64_t number, const struct format_entry *entry,
			 const char *fault)
{
	findings_add(w->findings, FINDING_ERROR,
		     "LSMT index entry %" PRIu64 " (LBA %" PRIu64 ", %" PRIu32
		     " sectors at %" PRIu64 "): %s",
		     number, entry->start, entry->sectors, entry->moffset, fault);
}

/* Judges the entry that waits.  One that reaches beyond the start of the next one, while that fits
 * well behind the one before, is itself the wild one: else all that follow would look out of order.
 */
static void settle_held(struct walk *w, uint64_t next_start)
{
	const struct format_entry *entry = &w->held;
	uint64_t end = entry->start + entry->sectors;
	const char *fault;

	if (!w->holding)
		return;
	w->holding = false;
	fault = format_entry_fault(entry, w->previous_end, w->data_end);
	if (!fault && end > next_start && next_start >= w->previous_end)
		fault = "it overlaps the entry after it, or is out of order";
	if (fault)
		report_entry(w, w->held_number, entry, fault);
	else
		w->previous_end = end;
}

static void walk_entry(struct walk *w, uint64_t number, const uint8_t raw[FORMAT_ENTRY])
{
	struct format_entry entry = format_parse_entry(raw);

	if (entry.start == FORMAT_PADDING) {
		settle_held(w, UINT64_MAX);
		w->padded = true;
	} else if (w->padded) {
		report_entry(w, number, &entry, "it follows a padding entry");
	} else {
		settle_held(w, entry.start);
		w->held = entry;
		w->held_number = number;
		w->holding = true;
	}
}

static void walk_entries(struct source *data, const struct format_header *trailer,
			 struct findings *f)
{
	struct walk w = { .findings = f, .data_end = trailer->index_offset / SECTOR };
	uint8_t raw[PIECE_ENTRIES * FORMAT_ENTRY];
	uint64_t done, n, i;

	for (done = 0; done < trailer->index_size; done += n) {
		struct err e;

		n = min_u64(PIECE_ENTRIES, trailer->index_size - done);
		if (source_pread(data, raw, (size_t)n * FORMAT_ENTRY,
				 trailer->index_offset + done * FORMAT_ENTRY, &e) < 0)
			findings_add(f, FINDING_ERROR,
				     "LSMT index entries %" PRIu64 " to %" PRIu64 ": %s", done,
				     done + n - 1, e.msg);
		else
			for (i = 0; i < n; i++)
				walk_entry(&w, done + i, raw + i * FORMAT_ENTRY);
	}
	settle_held(&w, UINT64_MAX);
}

/* Reads header or trailer; false when it is not right, which is reported. */
static bool read_part(struct source *data, uint64_t off, enum format_part part,
		      struct format_header *h, struct findings *f)
{
	uint8_t raw[FORMAT_SPACE];
	struct err e;

	if (source_pread(data, raw, sizeof raw, off, &e) == 0 &&
	    format_parse_header(h, raw, part, &e) == 0)
		return true;
	findings_add(f, FINDING_ERROR, "%s", e.msg);
	return false;
}

/* Writers put the same identity in both; the trailer counts. */
static void compare_parts(const struct format_header *header, const struct format_header *trailer,
			  struct findings *f)
{
	if (strcasecmp(header->uuid, trailer->uuid) != 0)
		findings_add(f, FINDING_WARNING, "LSMT header and trailer differ: uuid %s and %s",
			     header->uuid, trailer->uuid);
	if (strcasecmp(header->parent_uuid, trailer->parent_uuid) != 0)
		findings_add(f, FINDING_WARNING,
			     "LSMT header and trailer differ: parent uuid %s and %s",
			     header->parent_uuid, trailer->parent_uuid);
	if (header->virtual_size != trailer->virtual_size)
		findings_add(f, FINDING_WARNING,
			     "LSMT header and trailer differ: virtual size %" PRIu64
			     " and %" PRIu64,
			     header->virtual_size, trailer->virtual_size);
}

void check_index(struct source *data, struct findings *f)
{
	struct format_header header, trailer;
	bool has_header, has_trailer;
	struct err e;

	if (data->size < 2 * FORMAT_SPACE) {
		findings_add(f, FINDING_ERROR,
			     "LSMT: %" PRIu64 " bytes are too few for a header and a trailer",
			     data->size);
		return;
	}
	has_header = read_part(data, 0, FORMAT_PART_HEADER, &header, f);
	has_trailer = read_part(data, data->size - FORMAT_SPACE, FORMAT_PART_TRAILER, &trailer, f);
	if (has_header && has_trailer)
		compare_parts(&header, &trailer, f);
	if (!has_trailer)
		return;
	if (format_check_index(&trailer, data->size, &e) < 0)
		findings_add(f, FINDING_ERROR, "%s", e.msg);
	else
		walk_entries(data, &trailer, f);
}
