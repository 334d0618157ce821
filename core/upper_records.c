/* SPDX-License-Identifier: Apache-2.0 */
/* upper_records.c - the records of an append log, see upper_records.h. */
#include "core/upper_records.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	PIECE_ENTRIES = 4096, /* entries read at once */
	SECTOR_ENTRIES = SECTOR / FORMAT_ENTRY,
};

int upper_records_check_pair(const struct format_header *data, const struct format_header *index,
			     struct err *e)
{
	if (strcasecmp(data->uuid, index->uuid) != 0)
		return err_set(e, EBADMSG, "data and index file have different uuids");
	if (strcasecmp(data->parent_uuid, index->parent_uuid) != 0)
		return err_set(e, EBADMSG, "data and index file have different parent uuids");
	if (data->virtual_size != index->virtual_size)
		return err_set(e, EBADMSG,
			       "data and index file have different virtual sizes, %" PRIu64
			       " and %" PRIu64,
			       data->virtual_size, index->virtual_size);
	return 0;
}

/* How far a log has been read. */
struct reader {
	int (*take)(void *arg, const struct format_entry *entry);
	void *arg;
	uint64_t data_end; /* sectors of the data file */
	uint64_t good; /* see struct upper_records */
	uint64_t padding; /* since then, before a mark of a crash */
	uint64_t seen;
	uint64_t zeroes_end; /* all before this record must be zero, once one was */
	bool cut; /* there was such a mark */
};

static bool is_zero(const uint8_t record[FORMAT_ENTRY])
{
	static const uint8_t zero[FORMAT_ENTRY];

	return memcmp(record, zero, FORMAT_ENTRY) == 0;
}

static int bad_record(const struct reader *r, const char *fault, struct err *e)
{
	return err_set(e, EBADMSG, "LSMT index record %" PRIu64 ": %s", r->seen, fault);
}

static int take_record(struct reader *r, const uint8_t raw[FORMAT_ENTRY], struct err *e)
{
	struct format_entry entry = format_parse_entry(raw);
	const char *fault;
	int result;

	if (r->seen < r->zeroes_end && !is_zero(raw))
		return bad_record(r, "it follows one of zeroes", e);
	if (r->cut)
		return 0;
	if (entry.start == FORMAT_PADDING) {
		r->padding++;
		return 0;
	}
	if (is_zero(raw)) {
		r->cut = true;
		/* The header takes whole sectors, so records fill sectors from the first one on. */
		r->zeroes_end = (r->seen / SECTOR_ENTRIES + 1) * SECTOR_ENTRIES;
		return 0;
	}
	/* Whatever lies within any file does not break the rule about the data's end. */
	fault = format_entry_fault(&entry, 0, UINT64_MAX);
	if (fault)
		return bad_record(r, fault, e);
	r->cut = format_entry_fault(&entry, 0, r->data_end);
	if (r->cut)
		return 0;
	r->good += r->padding + 1;
	r->padding = 0;
	result = r->take(r->arg, &entry);
	return result < 0 ? err_set(e, -result, "%s",
				    result == -ENOMEM ? "out of memory" : strerror(-result))
			  : 0;
}

static int take_piece(struct reader *r, const uint8_t *raw, size_t n, struct err *e)
{
	size_t i;

	for (i = 0; i < n; i++, r->seen++) {
		int result = take_record(r, raw + i * FORMAT_ENTRY, e);

		if (result < 0)
			return result;
	}
	return 0;
}

static int read_all(struct reader *r, struct source *index, uint64_t total, struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc((size_t)min_u64(total, PIECE_ENTRIES) * FORMAT_ENTRY + 1);
	int result = 0;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	while (result == 0 && r->seen < total) {
		size_t n = (size_t)min_u64(PIECE_ENTRIES, total - r->seen);

		result = source_pread(index, raw, n * FORMAT_ENTRY,
				      FORMAT_SPACE + r->seen * FORMAT_ENTRY, e);
		if (result == 0)
			result = take_piece(r, raw, n, e);
	}
	return result;
}

int upper_records_read(struct source *index, uint64_t data_size,
		       int (*take)(void *arg, const struct format_entry *entry), void *arg,
		       struct upper_records *found, struct err *e)
{
	struct reader r = { .take = take,
			    .arg = arg,
			    .data_end = min_u64(data_size / SECTOR, INDEX_MAX_MOFFSET) };
	uint64_t total = (index->size - FORMAT_SPACE) / FORMAT_ENTRY;
	int result;

	if (total > FORMAT_MAX_ENTRIES)
		return err_set(e, EBADMSG, "%" PRIu64 " index records, more than %" PRIu64, total,
			       FORMAT_MAX_ENTRIES);
	result = read_all(&r, index, total, e);
	found->good = r.good;
	found->padding = r.padding;
	found->ignored = r.seen - r.good - r.padding;
	found->fragment = index->size % FORMAT_ENTRY;
	return result;
}

/* The moffset of zeroes carries no meaning; the reference's logs have 8 there, and no tag. */
void upper_records_encode(const struct mapping *records, size_t n, uint8_t *raw)
{
	size_t i;

	for (i = 0; i < n; i++) {
		struct format_entry entry = {
			.start = mapping_start(records[i]),
			.sectors = (uint32_t)mapping_sectors(records[i]),
			.moffset = FORMAT_SPACE / SECTOR,
			.zeroed = mapping_zeroed(records[i]),
		};

		if (!entry.zeroed)
			entry.moffset = mapping_moffset(records[i]);
		format_encode_entry(&entry, raw + i * FORMAT_ENTRY);
	}
}
