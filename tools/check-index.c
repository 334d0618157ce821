/* SPDX-License-Identifier: Apache-2.0 */
/* check-index.c - walks the raw index entries, see check-index.h. */
#include "tools/check-index.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "core/base/le.h"
#include "core/layer.h"

enum { PIECE_ENTRIES = 1024 }; /* read at once */

/* The rules that need an entry's neighbours. */
struct walk {
	struct findings *findings;
	uint64_t data_end; /* sectors */
	uint64_t previous_end; /* of the last good entry, in sectors */
	bool padded; /* a padding entry was seen */
	bool holding; /* an entry waits for the one after it: */
	struct format_entry held;
	uint64_t held_number;
};

static void report_entry(const struct walk *w, uint64_t number, const struct format_entry *entry,
			 const char *fault)
{
	struct err e;

	(void)layer_bad_entry(&e, number, entry, fault);
	findings_add(w->findings, FINDING_ERROR, "%s", e.msg);
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

static bool is_good(int r, const struct err *e, struct findings *f)
{
	if (r < 0)
		findings_add(f, FINDING_ERROR, "%s", e->msg);
	return r == 0;
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
	if (header->index_offset != 0 || header->index_size != 0)
		findings_add(f, FINDING_WARNING,
			     "LSMT header: index of %" PRIu64 " entries at %" PRIu64
			     ", which only the trailer should say",
			     header->index_size, header->index_offset);
}

void check_index(struct source *data, struct findings *f)
{
	struct format_header header, trailer;
	bool has_header, has_trailer;
	struct err e;

	has_header = is_good(format_read_header(&header, data, 0, FORMAT_PART_HEADER, &e), &e, f);
	if (!has_header && data->size < FORMAT_SPACE)
		return;
	has_trailer =
		is_good(layer_read_trailer(data, has_header ? &header : NULL, &trailer, &e), &e, f);
	if (has_header && has_trailer)
		compare_parts(&header, &trailer, f);
	if (has_trailer && is_good(format_check_index(&trailer, data->size, &e), &e, f))
		walk_entries(data, &trailer, f);
}
