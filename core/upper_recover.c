/* SPDX-License-Identifier: Apache-2.0 */
/* upper_recover.c - what opening a log for writing finds, see upper_log.c for the invariants. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/log.h"
#include "core/upper_private.h"
#include "core/upper_records.h"

enum { PIECES = 64 };

int upper_recover_entry(struct upper_map *m, const struct format_entry *entry)
{
	uint64_t sectors;

	if (entry->start >= m->sectors)
		return 0;
	sectors = min_u64(entry->sectors, m->sectors - entry->start);
	if (upper_map_reserve(m, entry->start, sectors) < 0)
		return -ENOMEM;
	upper_map_set(m, entry->start, sectors, entry->moffset, entry->zeroed, NULL);
	return 0;
}

/* Also what later records supersede must stay within the data file. */
static void note_end(struct upper_log *u, const struct format_entry *entry)
{
	if (!entry->zeroed && u->data_end < entry->moffset + entry->sectors)
		u->data_end = entry->moffset + entry->sectors;
}

static int take_entry(void *arg, const struct format_entry *entry)
{
	struct upper_log *u = arg;

	note_end(u, entry);
	u->beyond |= entry->start + entry->sectors > u->sectors;
	return upper_recover_entry(&u->map, entry);
}

static int read_index(struct upper_log *u, uint64_t data_size, struct upper_records *found,
		      struct err *e)
{
	struct format_header header;
	struct source *index;
	int r = upper_file_source(u->ops, u->index_fd, &index, e);

	if (r < 0)
		return r;
	r = format_read_header(&header, index, 0, FORMAT_PART_LOG_INDEX, e);
	if (r == 0)
		r = upper_records_check_pair(&u->header, &header, e);
	if (r == 0)
		r = upper_records_read(index, data_size, take_entry, u, found, e);
	source_close(index);
	return r;
}

/* Publishes what `final` maps in [lba, lba + s->sectors), also beyond the disk's end. */
static int take_piece(struct upper_log *u, uint64_t lba, const struct segment *s)
{
	uint64_t done, n, moffset = s->zeroed ? 0 : s->moffset;
	struct mapping record;

	for (done = 0; s->mapped && done < s->sectors; done += n) {
		struct format_entry entry;

		upper_queue_cut(lba + done, s->sectors - done, moffset + done, s->zeroed, &record,
				1);
		n = mapping_sectors(record);
		entry = (struct format_entry){ .start = lba + done,
					       .sectors = (uint32_t)n,
					       .moffset = mapping_moffset(record),
					       .zeroed = s->zeroed };
		/* What it replaces may be itself, from the index file: nothing dies. */
		if (take_entry(u, &entry) < 0 || upper_queue_reserve(&u->queue, 1) < 0)
			return -ENOMEM;
		upper_queue_push(&u->queue, record);
	}
	return 0;
}

static int take_final(struct upper_log *u, struct upper_map *final)
{
	struct segment pieces[PIECES];
	uint64_t lba = 0;
	size_t i, n;
	int r = 0;

	while (r == 0 && lba < final->sectors) {
		n = upper_map_pieces(final, lba, final->sectors - lba, pieces, PIECES);
		for (i = 0; r == 0 && i < n; lba += pieces[i++].sectors)
			r = take_piece(u, lba, &pieces[i]);
	}
	return r;
}

/* Some of the pending records may be in the index file already, so they must not follow there one
 * by one again: a crash in the middle would let an old one win over a newer one that was flushed.
 * What goes on is what they come to, each sector once. */
static int take_pending(struct upper_log *u, const struct upper_pending_content *content)
{
	struct upper_map final;
	uint64_t sectors = u->sectors;
	size_t i;
	int r;

	for (i = 0; i < content->count; i++)
		sectors = max_u64(sectors, content->entries[i].start + content->entries[i].sectors);
	r = upper_map_init(&final, sectors);

	for (i = 0; r == 0 && i < content->count; i++) {
		note_end(u, &content->entries[i]);
		r = upper_recover_entry(&final, &content->entries[i]);
	}
	if (r == 0)
		r = take_final(u, &final);
	upper_map_release(&final);
	return r;
}

static int read_pending(struct upper_log *u, uint64_t data_size, size_t *taken, struct err *e)
{
	struct upper_pending_content content;
	int r = upper_pending_read(u->ops, u->data_path, u->header.uuid, data_size, &content, e);

	*taken = content.count;
	if (r == 0 && content.count > 0 && take_pending(u, &content) < 0)
		r = err_set(e, ENOMEM, "out of memory for %zu pending records", content.count);
	free(content.entries);
	return r;
}

/* Invariant 4: cuts the index file after the last record that counts.  File and name are synced
 * also where nothing is cut: a process that died may have cut off records, or put a new file in the
 * old one's place, and what was before must not come back. */
static int cut_index(struct upper_log *u, const struct upper_records *found, struct err *e)
{
	int r = 0;

	if (found->ignored > 0 || found->fragment > 0)
		log_warn("%s: cut after a crash: %" PRIu64 " records stay, %" PRIu64
			 " whole ones and %" PRIu64 " bytes that were never flushed go",
			 u->index_path, found->good, found->ignored, found->fragment);
	if (found->ignored + found->padding + found->fragment > 0)
		r = u->ops->truncate(u->index_fd, FORMAT_SPACE + found->good * FORMAT_ENTRY);
	if (r == 0)
		r = u->ops->datasync(u->index_fd);
	if (r == 0)
		r = u->ops->sync_folder(u->index_path);
	return r < 0 ? err_set(e, -r, "syncing the index: %s", strerror(-r)) : 0;
}

/* Invariant 4: what lies behind was never published, or not flushed, or is room.  Where it cannot
 * be cut, data goes on behind it. */
static void cut_data(struct upper_log *u, uint64_t data_size)
{
	if (data_size > u->data_end * SECTOR &&
	    u->ops->truncate(u->data_fd, u->data_end * SECTOR) < 0)
		u->data_end = (data_size + SECTOR - 1) / SECTOR;
}

/* A disk that is full can be read: what was acknowledged stands in the pending file of the process
 * before, which stays until there is room for another, and until then nothing is written. */
static int begin_pending(struct upper_log *u, struct err *e)
{
	struct upper_pending *p = &u->pending;
	int r = upper_pending_begin(p, u->queue.list, u->queue.count, e);

	p->waits = r == -ENOSPC || r == -EDQUOT;
	if (!p->waits)
		return r;
	log_warn("%s: no space left: it can be read, and written to once there is space",
		 u->data_path);
	return 0;
}

int upper_recover(struct upper_log *u, struct upper_findings *findings, struct err *e)
{
	struct upper_records found = { 0 };
	uint64_t data_size;
	size_t taken = 0;
	int r = u->ops->size(u->data_fd, &data_size);

	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	if (data_size > INDEX_MAX_MOFFSET * SECTOR)
		return err_set(e, EFBIG, "%" PRIu64 " bytes of data, over the limit of 64 PiB",
			       data_size);
	u->data_end = FORMAT_SPACE / SECTOR;
	r = read_index(u, data_size, &found, e);
	if (r == 0)
		r = read_pending(u, data_size, &taken, e);
	if (r == 0)
		r = cut_index(u, &found, e);
	if (r == 0)
		r = begin_pending(u, e);
	u->index_records = found.good;
	if (r == 0)
		cut_data(u, data_size);
	*findings = (struct upper_findings){ .records = found.good,
					     .ignored_records = found.ignored,
					     .fragment_bytes = found.fragment,
					     .pending_records = taken };
	return r;
}
