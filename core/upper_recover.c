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
#include "core/upper_replay.h"

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

static int read_index(struct upper_log *u, struct source *index, uint64_t data_size,
		      struct upper_records *found, struct err *e)
{
	struct format_header header;
	int r = format_read_header(&header, index, 0, FORMAT_PART_LOG_INDEX, e);

	if (r == 0)
		r = upper_records_check_pair(&u->header, &header, e);
	return r < 0 ? r : upper_records_read(index, data_size, take_entry, u, found, e);
}

/* Takes up one pending record, whole: part of it may lie beyond the disk. */
static int take_pending(struct upper_log *u, const struct upper_pending_record *record)
{
	struct format_entry entry = {
		.start = mapping_start(record->map),
		.sectors = (uint32_t)mapping_sectors(record->map),
		.moffset = mapping_moffset(record->map),
		.zeroed = mapping_zeroed(record->map),
	};

	if (take_entry(u, &entry) < 0 || upper_queue_reserve(&u->queue, 1) < 0)
		return -ENOMEM;
	upper_queue_push(&u->queue, record->map);
	return 0;
}

/* What a process acknowledged through another name of the log, and did not flush, lies beside that
 * name.  Where there is no other name, somebody removed it. */
static int check_open(const struct upper_log *u, const struct upper_records *found,
		      const struct upper_replay *replay, struct err *e)
{
	struct file_status status;
	int r;

	if (found->open_as != u->open_as || replay->content.is_there)
		return 0;
	r = u->ops->status(u->data_fd, &status);
	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	if (status.links > 1)
		return err_set(e, EBUSY,
			       "a process that had the layer open by another name died: what it "
			       "acknowledged lies beside that name: open it by that, or give up "
			       "those writes with 'overlaybd repair'");
	log_warn("%s: is missing: what a process acknowledged before it died is lost",
		 u->pending.path);
	return 0;
}

static int read_pending(struct upper_log *u, struct source *index,
			const struct upper_records *found, struct upper_replay *replay,
			struct err *e)
{
	struct upper_replay_log log = { .ops = u->ops,
					.data_path = u->data_path,
					.uuid = u->header.uuid,
					.index = index,
					.found = found,
					.apply_older = u->apply_older };
	size_t i;
	int r = upper_file_source(u->ops, u->data_fd, &log.data, e);

	if (r < 0)
		return r;
	r = upper_replay_read(&log, replay, e);
	source_close(log.data);
	if (r == 0)
		r = check_open(u, found, replay, e);
	for (i = 0; r == 0 && i < replay->count; i++)
		if (take_pending(u, &replay->content.records[replay->from + i]) < 0)
			r = err_set(e, ENOMEM, "out of memory for %zu pending records",
				    replay->count);
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
			 " whole entries and %" PRIu64 " bytes that were never flushed go",
			 u->index_path, found->records, found->ignored, found->fragment);
	/* What confirms the last flush stays: it is put there again, and might be lost between. */
	if (found->ignored + found->fragment > 0 || found->padding > 2)
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
 * before, which stays until there is room for another, and until then no data are written. */
static int begin_pending(struct upper_log *u, const struct upper_replay *replay, struct err *e)
{
	struct upper_pending *p = &u->pending;
	struct upper_pending_base base = upper_index_base(u);
	int r = upper_pending_begin(p, &base, replay->content.records + replay->from, replay->count,
				    e);

	u->flushed_end = upper_pending_begins();
	p->waits = r == -ENOSPC || r == -EDQUOT;
	if (!p->waits)
		return r;
	log_warn("%s: no space left: it can be read, and written to once there is space",
		 u->data_path);
	return 0;
}

static int recover(struct upper_log *u, struct source *index, struct upper_records *found,
		   struct upper_replay *replay, struct err *e)
{
	uint64_t data_size;
	int r = u->ops->size(u->data_fd, &data_size);

	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	if (data_size > INDEX_MAX_MOFFSET * SECTOR)
		return err_set(e, EFBIG, "%" PRIu64 " bytes of data, over the limit of 64 PiB",
			       data_size);
	u->data_end = FORMAT_SPACE / SECTOR;
	r = read_index(u, index, data_size, found, e);
	if (r == 0)
		r = read_pending(u, index, found, replay, e);
	if (r < 0)
		return r;
	upper_replay_warn(replay, u->data_path);
	r = cut_index(u, found, e);
	u->index_records = found->good;
	u->index_crc = found->crc;
	u->unchecked = found->unchecked;
	if (r == 0)
		r = begin_pending(u, replay, e);
	if (r < 0)
		return r;
	/* All of it was synced just now. */
	u->has_pending = u->pending.fd >= 0;
	(void)upper_sync_confirm(u);
	cut_data(u, data_size);
	return 0;
}

int upper_recover(struct upper_log *u, struct upper_findings *findings, struct err *e)
{
	struct upper_records found = { 0 };
	struct upper_replay replay = { 0 };
	struct source *index;
	int r = upper_file_source(u->ops, u->index_fd, &index, e);

	if (r < 0)
		return r;
	r = recover(u, index, &found, &replay, e);
	source_close(index);
	*findings = (struct upper_findings){ .records = found.records,
					     .ignored_records = found.ignored,
					     .fragment_bytes = found.fragment,
					     .pending_records = replay.count };
	upper_replay_release(&replay);
	return r;
}
