/* SPDX-License-Identifier: Apache-2.0 */
/* upper_rewrite.c - an index file without the records that are superseded, which takes the old
 * one's place while the log is open; see upper_log.c for the invariants. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_private.h"
#include "core/upper_records.h"

enum {
	FULL_PERCENT = 6, /* of a nearly full index that are worth making it anew */
	PIECES = 64,
	PIECE_RECORDS = 4096, /* written at once */
};

bool upper_rewrite_is_due(struct upper_log *u)
{
	const struct upper_garbage *g = &u->garbage;
	uint64_t records = u->index_records, live = u->map.count, percent = g->percent;

	if (records >= u->max_records / 4 * 3)
		percent = min_u64(percent, FULL_PERCENT);
	return g->percent > 0 && !u->beyond && records >= g->min_records &&
	       records >= g->retry_records && live < records &&
	       (records - live) * 100 > records * percent;
}

/* An index file under construction. */
struct rewrite {
	const struct file_ops *ops;
	int fd;
	char *name; /* of the file, until it has the index file's */
	uint8_t *raw; /* PIECE_RECORDS */
	size_t n; /* records in raw */
	uint64_t written; /* entries */
	uint32_t crc; /* running, of those */
};

static int write_piece(struct rewrite *w, struct err *e)
{
	int r = upper_file_write(w->ops, w->fd, w->raw, w->n * FORMAT_ENTRY,
				 FORMAT_SPACE + w->written * FORMAT_ENTRY, e);

	w->crc = upper_records_sum(w->crc, w->raw, w->n);
	w->written += w->n;
	w->n = 0;
	return r;
}

/* What every append ends with, and what every flush does: the file is synced before it counts. */
static int write_end(const struct upper_log *u, struct rewrite *w, struct err *e)
{
	uint8_t raw[3 * FORMAT_ENTRY];
	uint32_t crc = w->crc;
	int r;

	upper_records_encode_mark(UPPER_MARK_CHECK, crc, raw);
	crc = upper_records_sum(crc, raw, 1);
	upper_records_encode_mark(UPPER_MARK_CONFIRM, crc, raw + FORMAT_ENTRY);
	upper_records_encode_mark(u->has_pending ? UPPER_MARK_OPEN : UPPER_MARK_NONE, u->open_as,
				  raw + (size_t)2 * FORMAT_ENTRY);
	r = upper_file_write(w->ops, w->fd, raw, sizeof raw,
			     FORMAT_SPACE + w->written * FORMAT_ENTRY, e);
	w->crc = crc;
	w->written++;
	return r;
}

static int write_records(struct rewrite *w, uint64_t lba, const struct segment *s, struct err *e)
{
	uint64_t done = 0, moffset = s->zeroed ? 0 : s->moffset;
	struct mapping record;
	int r = 0;

	for (; r == 0 && s->mapped && done < s->sectors; done += mapping_sectors(record)) {
		upper_queue_cut(lba + done, s->sectors - done, moffset + done, s->zeroed, &record,
				1);
		upper_records_encode(&record, 1, w->raw + w->n++ * FORMAT_ENTRY);
		if (w->n == PIECE_RECORDS)
			r = write_piece(w, e);
	}
	return r;
}

static int write_live(struct rewrite *w, struct upper_map *live, struct err *e)
{
	struct segment pieces[PIECES];
	uint64_t lba = 0;
	size_t i, n;
	int r = 0;

	while (r == 0 && lba < live->sectors) {
		n = upper_map_pieces(live, lba, live->sectors - lba, pieces, PIECES);
		for (i = 0; r == 0 && i < n; lba += pieces[i++].sectors)
			r = write_records(w, lba, &pieces[i], e);
	}
	return r == 0 ? write_piece(w, e) : r;
}

static int take_entry(void *arg, const struct format_entry *entry)
{
	return upper_recover_entry(arg, entry);
}

/* What the index file says now.  The map in memory knows more, of which the data is not durable. */
static int read_live(struct upper_log *u, struct upper_map *live, uint8_t header[FORMAT_SPACE],
		     struct err *e)
{
	struct upper_records found;
	struct source *index;
	uint64_t data_size;
	int r = u->ops->size(u->data_fd, &data_size);

	if (r < 0)
		return err_set(e, -r, "%s: %s", u->data_path, strerror(-r));
	r = upper_file_source(u->ops, u->index_fd, &index, e);
	if (r < 0)
		return r;
	r = source_pread(index, header, FORMAT_SPACE, 0, e);
	if (r == 0)
		r = upper_records_read(index, data_size, take_entry, live, &found, e);
	source_close(index);
	/* A cut is what opening makes after a crash; here it is damage, and the file is kept. */
	if (r == 0 && found.good < u->index_records)
		r = err_set(e, EBADMSG,
			    "the index has %" PRIu64 " records that count, not %" PRIu64,
			    found.good, u->index_records);
	return r;
}

static int write_file(struct upper_log *u, struct rewrite *w, struct err *e)
{
	uint8_t header[FORMAT_SPACE];
	struct upper_map live;
	int r = upper_map_init(&live, u->sectors);

	if (r < 0)
		return err_set(e, ENOMEM, "out of memory");
	r = read_live(u, &live, header, e);
	if (r == 0)
		r = upper_file_write(w->ops, w->fd, header, FORMAT_SPACE, 0, e);
	if (r == 0)
		r = write_live(w, &live, e);
	upper_map_release(&live);
	if (r == 0)
		r = write_end(u, w, e);
	if (r < 0)
		return r;
	r = w->ops->datasync(w->fd);
	return r < 0 ? err_set(e, -r, "fdatasync: %s", strerror(-r)) : 0;
}

static void adopt_file(struct upper_log *u, const struct rewrite *w)
{
	WITH_LOCK(&u->index_lock);

	w->ops->close(u->index_fd);
	u->index_fd = w->fd;
	u->index_records = w->written;
	u->index_crc = w->crc;
	u->index_room = 0;
	u->confirmed = true;
}

/* The pending file has to follow on the new index file too, from the moment on that it has its
 * name. */
static int take_place(struct upper_log *u, const struct rewrite *w, struct err *e)
{
	struct upper_pending_base base = { .entries = w->written, .crc = w->crc };
	WITH_LOCK(&u->publish_lock);
	int r = upper_pending_announce(&u->pending, &base, u->flushed_end, e);

	if (r == 0) {
		r = w->ops->rename(w->name, u->index_path);
		if (r < 0)
			(void)err_set(e, -r, "rename: %s", strerror(-r));
	}
	if (r < 0)
		return r;
	if (upper_pending_adopt(&u->pending, e) < 0)
		log_warn("%s", e->msg);
	adopt_file(u, w);
	return 0;
}

/* Writes the new file and puts it in the old one's place.  Before the rename nothing has changed.
 */
static int replace_index(struct upper_log *u, struct err *e)
{
	struct rewrite w = { .ops = u->ops, .crc = UPPER_RECORDS_SALT };
	AUTO_FREE uint8_t *raw = malloc(PIECE_RECORDS * FORMAT_ENTRY);
	int r;

	w.raw = raw;
	w.fd = raw ? upper_file_temporary(w.ops, u->index_path, u->index_fd, &w.name, e)
		   : err_set(e, ENOMEM, "out of memory");
	if (w.fd < 0)
		return w.fd;
	r = write_file(u, &w, e);
	if (r == 0)
		r = take_place(u, &w, e);
	if (r < 0) {
		w.ops->close(w.fd);
		w.ops->unlink(w.name);
	}
	free(w.name);
	return r;
}

/* A pending file of the process before, which still counts, follows on the index file as it is: it
 * must not wait any more when another one takes its place. */
static bool end_waiting(struct upper_log *u)
{
	struct upper_pending_base base;
	WITH_LOCK(&u->publish_lock);

	if (!u->pending.waits)
		return true;
	base = upper_index_base(u);
	if (u->queue.count > 0 || upper_pending_begin(&u->pending, &base, NULL, 0, NULL) < 0)
		return false;
	upper_sync_moved(u);
	u->has_pending = true;
	return true;
}

int upper_rewrite_index(struct upper_log *u, struct err *e)
{
	struct err why;
	int r;

	if (u->failed || !upper_rewrite_is_due(u) || !end_waiting(u))
		return 0;
	/* Others may have written the files before. */
	r = u->synced ? 0 : u->ops->datasync(u->data_fd);
	if (r < 0) {
		upper_sync_fail(u);
		return err_set(e, EIO,
			       "%s: fdatasync failed: %s; the upper is read-only until it is "
			       "opened again",
			       u->data_path, strerror(-r));
	}
	if (replace_index(u, &why) < 0) {
		log_warn("%s: not rewritten: %s", u->index_path, why.msg);
		u->garbage.retry_records = 2 * u->index_records;
		return 0;
	}
	/* Until the name is durable, power loss brings back the old file, which records that are
	 * flushed from now on would not be in. */
	r = u->ops->sync_folder(u->index_path);
	if (r == 0) {
		(void)upper_sync_add_room(u, 0, NULL); /* else for the next record, or not at all */
		return 0;
	}
	upper_sync_fail(u);
	return err_set(
		e, EIO,
		"%s: syncing its folder: %s; the upper is read-only until it is opened again",
		u->index_path, strerror(-r));
}
