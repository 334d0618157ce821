/* SPDX-License-Identifier: Apache-2.0 */
/* upper_garbage.c - giving back the space of what nothing maps any more, see upper_log.c for the
 * invariants.
 *
 * Data dies in three steps: a record supersedes it (`dying`), that record is durable (`fresh`), the
 * readers that may have looked at the map before are gone (`waiting`).  Then a hole is punched. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_private.h"
#include "core/upper_records.h"

enum {
	HOLE = 4096 / SECTOR, /* sectors: smaller holes give no space back */
	MIN_RECORDS = 4096,
	MIN_BYTES = 16 * 1024 * 1024, /* of garbage, and */
	DATA_DIVISOR = 8, /* this part of the data: else there is little to be had for many holes */
	PUNCH_MS = 100, /* at most, at a time */
	FULL_PERCENT = 6, /* of a nearly full index that are worth making it anew */
	PIECES = 64,
	PIECE_RECORDS = 4096, /* written at once */
};

/* ---- holes ---- */

void upper_garbage_init(struct upper_garbage *g, const struct upper_log_options *options)
{
	*g = (struct upper_garbage){
		.percent = options->garbage,
		.min_records = options->garbage_records ? options->garbage_records : MIN_RECORDS,
		.min_bytes = options->garbage_bytes,
	};
	pthread_mutex_init(&g->lock, NULL);
	pthread_mutex_init(&g->tidy_lock, NULL);
}

void upper_garbage_release(struct upper_garbage *g)
{
	pthread_mutex_destroy(&g->lock);
	pthread_mutex_destroy(&g->tidy_lock);
	upper_ranges_release(&g->fresh);
	upper_ranges_release(&g->waiting);
}

void upper_garbage_add(struct upper_garbage *g, struct upper_ranges *dead)
{
	WITH_LOCK(&g->lock);
	size_t i;

	for (i = 0; i < dead->count; i++)
		g->fresh_sectors += dead->list[i].sectors;
	if (g->fresh.count == 0) {
		struct upper_ranges empty = g->fresh;

		g->fresh = *dead;
		*dead = empty;
		return;
	}
	for (i = 0; i < dead->count; i++)
		upper_ranges_add(&g->fresh, dead->list[i].moffset, dead->list[i].sectors);
}

static int compare(const void *a, const void *b)
{
	const struct upper_range *x = a, *y = b;

	return (x->moffset > y->moffset) - (x->moffset < y->moffset);
}

/* Punches the whole blocks in [from, to), sectors. */
static void punch_range(struct upper_log *u, uint64_t from, uint64_t to)
{
	int r;

	from = (from + HOLE - 1) / HOLE * HOLE;
	to = to / HOLE * HOLE;
	if (from >= to || u->garbage.no_holes)
		return;
	r = u->ops->punch(u->data_fd, from * SECTOR, (to - from) * SECTOR);
	if (r == 0 || r == -EINTR)
		return;
	u->garbage.no_holes = true;
	log_warn("%s: no space is given back: punching a hole: %s", u->data_path, strerror(-r));
}

/* Some of them.  Writers wait for each, so that there is a pause until the next call. */
static void punch_waiting(struct upper_log *u)
{
	struct upper_garbage *g = &u->garbage;
	struct upper_ranges *w = &g->waiting;
	uint64_t from, to, until = clock_ms() + PUNCH_MS;

	if (g->punched == 0)
		qsort(w->list, w->count, sizeof *w->list, compare);
	while (g->punched < w->count && clock_ms() < until) {
		from = w->list[g->punched].moffset;
		to = from + w->list[g->punched].sectors;
		while (++g->punched < w->count && w->list[g->punched].moffset == to)
			to += w->list[g->punched].sectors;
		punch_range(u, from, to);
	}
	if (g->punched == w->count)
		w->count = g->punched = 0;
}

static bool is_worth_it(struct upper_log *u)
{
	const struct upper_garbage *g = &u->garbage;
	uint64_t dead = g->fresh_sectors * SECTOR, data = u->data_end * SECTOR;

	if (g->min_bytes > 0)
		return dead >= g->min_bytes;
	return dead >= MIN_BYTES && dead >= data / DATA_DIVISOR;
}

static void take_fresh(struct upper_log *u)
{
	struct upper_garbage *g = &u->garbage;
	struct upper_ranges empty = g->waiting;
	WITH_LOCK(&g->lock);

	if (!is_worth_it(u))
		return;
	g->waiting = g->fresh;
	g->fresh = empty;
	g->fresh_sectors = 0;
	/* The map changed before now: who began later does not know them. */
	g->epoch = atomic_load(&u->readers.epoch);
}

static void punch_holes(struct upper_log *u)
{
	struct upper_garbage *g = &u->garbage;

	if (g->waiting.count == 0)
		take_fresh(u);
	if (g->waiting.count == 0)
		return;
	if (upper_readers_advance(&u->readers) >= g->epoch + 2)
		punch_waiting(u);
}

/* ---- the index file ---- */

static bool index_is_dead(struct upper_log *u)
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
	uint8_t *raw; /* PIECE_RECORDS */
	size_t n; /* records in raw */
	uint64_t written; /* records */
};

static int write_piece(struct rewrite *w, struct err *e)
{
	int r = upper_file_write(w->ops, w->fd, w->raw, w->n * FORMAT_ENTRY,
				 FORMAT_SPACE + w->written * FORMAT_ENTRY, e);

	w->written += w->n;
	w->n = 0;
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
	if (r < 0)
		return r;
	r = w->ops->datasync(w->fd);
	if (r == 0)
		r = w->ops->rename(u->index_temporary, u->index_path);
	return r < 0 ? err_set(e, -r, "%s", strerror(-r)) : 0;
}

/* Writes the new file and puts it in the old one's place.  Before the rename nothing has changed.
 */
static int replace_index(struct upper_log *u, struct err *e)
{
	struct rewrite w = { .ops = u->ops };
	AUTO_FREE uint8_t *raw = malloc(PIECE_RECORDS * FORMAT_ENTRY);
	int r;

	w.raw = raw;
	w.fd = raw ? w.ops->open(u->index_temporary, O_RDWR | O_CREAT | O_TRUNC, 0600) : -ENOMEM;
	if (w.fd < 0)
		return err_set(e, -w.fd, "%s", strerror(-w.fd));
	r = w.ops->make_like(w.fd, u->index_fd);
	r = r < 0 ? err_set(e, -r, "%s", strerror(-r)) : write_file(u, &w, e);
	if (r < 0) {
		w.ops->close(w.fd);
		w.ops->unlink(u->index_temporary);
		return r;
	}
	w.ops->close(u->index_fd);
	u->index_fd = w.fd;
	u->index_records = w.written;
	u->index_room = 0;
	return 0;
}

/* By the one who syncs. */
static int rewrite_index(struct upper_log *u, struct err *e)
{
	struct err why;
	int r;

	if (u->failed || !index_is_dead(u))
		return 0;
	/* Others may have written the files before. */
	r = u->synced ? 0 : u->ops->datasync(u->data_fd);
	if (r < 0) {
		upper_sync_fail(u);
		return err_set(e, EIO, "%s: syncing failed: %s; no more writing", u->data_path,
			       strerror(-r));
	}
	if (replace_index(u, &why) < 0) {
		log_warn("%s: not rewritten: %s", u->index_temporary, why.msg);
		u->garbage.retry_records = 2 * u->index_records;
		return 0;
	}
	/* Until the name is durable, power loss brings back the old file, which records that are
	 * flushed from now on would not be in. */
	r = u->ops->sync_folder(u->index_path);
	if (r == 0)
		return 0;
	upper_sync_fail(u);
	return err_set(e, EIO, "%s: syncing its folder: %s; no more writing", u->index_path,
		       strerror(-r));
}

int upper_log_tidy(struct upper_log *u, struct err *e)
{
	int r;
	WITH_LOCK(&u->garbage.tidy_lock);

	if (u->garbage.retired)
		return 0;
	punch_holes(u);
	if (!index_is_dead(u))
		return 0;
	upper_sync_enter(&u->sync);
	r = rewrite_index(u, e);
	upper_sync_leave(&u->sync);
	return r;
}
