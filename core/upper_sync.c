/* SPDX-License-Identifier: Apache-2.0 */
/* upper_sync.c - flushing, see upper_log.c for the invariants.
 *
 * One thread at a time syncs.  A flush that finds none at it becomes that one; a flush that finds
 * one waits for the next sync, which some waiting flush then does for all that wait (the records of
 * all their writes go out in one append). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_private.h"
#include "core/upper_records.h"

enum { PIECE_RECORDS = 4096 }; /* encoded and written at once */

enum { NOT_NOW = 1 }; /* what the one who syncs writes has to come first */

void upper_sync_init(struct upper_sync *s)
{
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->finished, NULL);
}

void upper_sync_release(struct upper_sync *s)
{
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->finished);
}

void upper_sync_enter(struct upper_sync *s)
{
	WITH_LOCK(&s->lock);

	while (s->running)
		pthread_cond_wait(&s->finished, &s->lock);
	s->running = true;
}

void upper_sync_leave(struct upper_sync *s)
{
	WITH_LOCK(&s->lock);

	s->running = false;
	pthread_cond_broadcast(&s->finished);
}

/* ---- marks ---- */

enum { TAIL = 2 }; /* entries behind the last CHECK: CONFIRM and OPEN */

/* Whether a process that opens the log next has to find a pending file. */
static enum upper_mark open_mark(const struct upper_log *u)
{
	return u->has_pending ? UPPER_MARK_OPEN : UPPER_MARK_NONE;
}

static void note_room(struct upper_log *u, uint64_t entries)
{
	WITH_LOCK(&u->index_lock);

	u->index_room = max_u64(u->index_room, entries);
}

int upper_sync_confirm(struct upper_log *u)
{
	uint8_t raw[TAIL * FORMAT_ENTRY];
	struct err e;
	int r;

	upper_records_encode_mark(UPPER_MARK_CONFIRM, u->index_crc, raw);
	upper_records_encode_mark(open_mark(u), u->open_as, raw + FORMAT_ENTRY);
	r = upper_file_write(u->ops, u->index_fd, raw, sizeof raw, upper_index_end(u), &e);
	u->confirmed = r == 0;
	if (r == 0)
		note_room(u, u->index_records + TAIL);
	else
		log_debug("%s: the last flush is not confirmed: %s", u->index_path, e.msg);
	return r;
}

/* With index_lock. */
static int unmark_locked(struct upper_log *u)
{
	u->index_room = 0;
	return u->ops->truncate(u->index_fd,
				upper_index_end(u) + (u->confirmed ? FORMAT_ENTRY : 0));
}

int upper_sync_unmark(struct upper_log *u)
{
	WITH_LOCK(&u->index_lock);

	return unmark_locked(u);
}

/* What was not synced may be lost or torn now, and the kernel says so only once.  The pending file
 * must not vouch for it to the next process. */
void upper_sync_fail(struct upper_log *u)
{
	WITH_LOCK(&u->publish_lock);
	struct err e;

	atomic_store(&u->failed, true);
	u->confirmed = false;
	(void)upper_sync_unmark(u);
	if (upper_pending_drop(&u->pending, &e) < 0)
		log_warn("%s", e.msg);
}

static int failed(struct upper_log *u, int r, const char *path, struct err *e)
{
	upper_sync_fail(u);
	return err_set(e, EIO,
		       "%s: fdatasync failed: %s; the upper is read-only until it is opened again",
		       path, strerror(-r));
}

/* Padding entries, which count for nothing, take the place of the next flushes' records: these
 * change no size then, and syncing them is a write of one page, not a change of the file
 * system's journal.  They point past the data's end: a reader beside the server that meets a record
 * of which only the first half is there takes it for one that is not yet there.  Entries from `at`
 * up to `end`. */
static int add_padding(struct upper_log *u, uint64_t at, uint64_t end, struct err *e)
{
	uint8_t raw[PIECE_RECORDS * FORMAT_ENTRY]; /* no allocation, which might fail */
	uint64_t done, n;
	size_t i;
	int r = 0;

	for (i = 0; i < PIECE_RECORDS && i < end - at; i++)
		upper_records_encode_mark(UPPER_MARK_NONE, 0, raw + i * FORMAT_ENTRY);
	for (done = at; r == 0 && done < end; done += n) {
		n = min_u64(end - done, PIECE_RECORDS);
		r = upper_file_write(u->ops, u->index_fd, raw, (size_t)n * FORMAT_ENTRY,
				     FORMAT_SPACE + done * FORMAT_ENTRY, e);
	}
	if (r == 0)
		atomic_store(&u->index_room, end);
	else
		(void)u->ops->truncate(u->index_fd, FORMAT_SPACE + at * FORMAT_ENTRY);
	return r;
}

static bool has_marks(const struct upper_log *u)
{
	return u->index_room >= u->index_records + TAIL;
}

/* Pads behind what a flush that goes on writes, or NOT_NOW. */
static int add_room(struct upper_log *u, uint64_t needs, struct err *e)
{
	uint64_t least = min_u64(needs, u->max_records);
	uint64_t most = min_u64(needs + u->room_records, u->max_records);
	int r = 0;
	WITH_LOCK(&u->index_lock);

	if (u->failed)
		return err_set(e, EIO, "an earlier sync failed");
	if (least <= u->index_room)
		return 0; /* another thread was first */
	if (!has_marks(u) || u->index_room < u->append_end)
		return NOT_NOW;
	if (!u->room_is_short) {
		r = add_padding(u, u->index_room, most, e);
		u->room_is_short = r < 0;
	}
	/* The last of the space is for what is needed. */
	if (u->index_room < least && u->room_is_short)
		r = add_padding(u, u->index_room, least, e);
	return r;
}

static uint64_t needed_room(struct upper_log *u, uint64_t n)
{
	WITH_LOCK(&u->publish_lock);

	return upper_index_needs(u, n);
}

int upper_sync_add_room(struct upper_log *u, uint64_t n, struct err *e)
{
	int r = 0;

	/* What is behind the records may be less than what stands there while the log is open. */
	if (!has_marks(u) && !u->failed)
		r = upper_sync_confirm(u);
	if (r < 0)
		return err_set(e, -r, "%s: %s", u->index_path, strerror(-r));
	r = add_room(u, needed_room(u, n), e);
	return r < 0 ? err_wrap(e, r, "%s", u->index_path) : 0;
}

int upper_sync_make_room(struct upper_log *u, uint64_t n, struct err *e)
{
	int r = add_room(u, needed_room(u, n), e);

	if (r < 0)
		return err_wrap(e, r, "%s", u->index_path);
	if (r == 0)
		return 0;
	upper_sync_enter(&u->sync);
	r = upper_sync_add_room(u, n, e);
	upper_sync_leave(&u->sync);
	return r;
}

/* ---- flushing ---- */

/* Ends an append: the CHECK, room for the CONFIRM, and what says that the log is open.  Returns the
 * entries.  *crc is running. */
static size_t end_append(const struct upper_log *u, uint8_t *raw, uint32_t *crc)
{
	upper_records_encode_mark(UPPER_MARK_CHECK, *crc, raw);
	*crc = upper_records_sum(*crc, raw, 1);
	upper_records_encode_mark(UPPER_MARK_NONE, 0, raw + FORMAT_ENTRY);
	upper_records_encode_mark(open_mark(u), u->open_as, raw + (size_t)2 * FORMAT_ENTRY);
	return 1 + TAIL;
}

/* Records of another program, or of an append that was cut short, get a CHECK of their own before
 * something follows them: an append that does not match is cut off from the last CHECK on. */
static int check_rest(struct upper_log *u, uint32_t *crc, struct err *e)
{
	uint8_t raw[FORMAT_ENTRY];
	int r;

	upper_records_encode_mark(UPPER_MARK_CHECK, *crc, raw);
	u->confirmed = false;
	r = upper_file_write(u->ops, u->index_fd, raw, sizeof raw, upper_index_end(u), e);
	if (r < 0)
		return err_wrap(e, r, "%s", u->index_path);
	r = u->ops->datasync(u->index_fd);
	if (r < 0)
		return failed(u, r, u->index_path, e);
	*crc = upper_records_sum(*crc, raw, 1);
	u->unchecked = false;
	WITH_LOCK(&u->publish_lock);
	u->index_crc = *crc;
	u->index_records++;
	return 0;
}

/* Writes the frozen records behind those of the index file, in one go but for memory, and goes on
 * with its running CRC. */
static int append_records(struct upper_log *u, size_t n, uint32_t *crc, struct err *e)
{
	AUTO_FREE uint8_t *raw =
		malloc(((size_t)min_u64(n, PIECE_RECORDS) + 1 + TAIL) * FORMAT_ENTRY);
	uint64_t at = upper_index_end(u);
	size_t done = 0, piece, entries;
	int r = 0;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	if (u->index_records + n + 1 + TAIL > u->max_records)
		return err_set(e, ENOSPC, "%s: the index is full", u->index_path);
	u->confirmed = false;
	do {
		piece = (size_t)min_u64(n - done, PIECE_RECORDS);
		pthread_mutex_lock(&u->publish_lock); /* publishing moves the list */
		upper_records_encode(u->queue.list + done, piece, raw);
		pthread_mutex_unlock(&u->publish_lock);
		*crc = upper_records_sum(*crc, raw, piece);
		done += piece;
		entries = piece;
		if (done == n)
			entries += end_append(u, raw + piece * FORMAT_ENTRY, crc);
		r = upper_file_write(u->ops, u->index_fd, raw, entries * FORMAT_ENTRY, at, e);
		at += entries * FORMAT_ENTRY;
	} while (r == 0 && done < n);
	return r < 0 ? err_wrap(e, r, "%s", u->index_path) : 0;
}

/* Cuts off what came of the append, in one step, for what a killed process leaves must begin as the
 * pending file does; and what had room gets it again at once. */
static int restore_room(struct upper_log *u)
{
	WITH_LOCK(&u->index_lock);
	uint64_t room = u->index_room;
	int r = unmark_locked(u);

	if (r == 0 && room > u->index_records)
		(void)add_padding(u, u->index_records, room, NULL);
	return r;
}

/* There was no room for all of an append: it is tried later, at the same place.  Durable, because a
 * part of a record on the disk, under the size that a later append gives the file, would read as a
 * record that nobody wrote. */
static int take_back(struct upper_log *u)
{
	int r = restore_room(u);

	if (r == 0)
		r = u->ops->datasync(u->index_fd);
	if (r == 0)
		(void)upper_sync_confirm(u);
	return r;
}

/* From now on others pad behind the append of n records, or wait where there is no room for it yet:
 * a gap before padding would be damage after a crash. */
static void claim_append(struct upper_log *u, size_t n)
{
	/* A CHECK of what has none, the records, their CHECK, and the marks. */
	uint64_t end = min_u64(u->index_records + 1 + n + 1 + TAIL, u->max_records);

	if (!has_marks(u))
		(void)upper_sync_confirm(u);
	WITH_LOCK(&u->index_lock);
	u->append_end = end;
	if (has_marks(u) && u->index_room < end)
		(void)add_padding(u, u->index_room, end, NULL);
}

/* After a flush that got through there may be space again. */
static void end_claim(struct upper_log *u, int r)
{
	WITH_LOCK(&u->index_lock);

	u->append_end = 0;
	u->room_is_short = u->room_is_short && r < 0;
}

/* Invariant 2: the data, then the records that point at it. */
static int write_out(struct upper_log *u, size_t n, uint32_t *crc, struct err *e)
{
	int r;

	if (n > 0)
		claim_append(u, n);
	r = u->ops->datasync(u->data_fd);
	if (r < 0)
		return failed(u, r, u->data_path, e);
	if (n > 0 && u->unchecked)
		r = check_rest(u, crc, e);
	if (r == 0 && n > 0)
		r = append_records(u, n, crc, e);
	if (r == -ENOSPC || r == -EDQUOT)
		upper_garbage_note_full(&u->garbage);
	if (r == -ENOSPC || r == -EDQUOT || r == -ENOMEM) {
		int back = u->confirmed ? 0 : take_back(u); /* confirmed: nothing was written */

		return back < 0 ? failed(u, back, u->index_path, e) : r;
	}
	if (r < 0 && u->failed)
		return r;
	if (r < 0) {
		upper_sync_fail(u);
		return err_wrap(e, -EIO, "the upper is read-only until it is opened again");
	}
	r = u->ops->datasync(u->index_fd);
	if (r == 0)
		return 0;
	/* The kernel takes them for clean, and may go on showing what the disk does not hold: who
	 * opens the log next would add to records that power loss turns to zeroes. */
	return failed(u, r, u->index_path, e);
}

static size_t freeze(struct upper_log *u, struct upper_ranges *dying)
{
	WITH_LOCK(&u->publish_lock);

	*dying = u->dying;
	u->dying = (struct upper_ranges){ 0 };
	u->queue.frozen = u->queue.count;
	u->frozen_end = u->pending.end;
	u->has_pending = u->pending.fd >= 0;
	return u->queue.frozen;
}

void upper_sync_moved(struct upper_log *u)
{
	uint64_t begins = upper_pending_begins();

	/* A flush may go on. */
	u->frozen_end =
		begins + (u->frozen_end > u->flushed_end ? u->frozen_end - u->flushed_end : 0);
	u->flushed_end = begins;
}

/* Begins the pending file anew without what is durable.  Who may no longer make files in the folder
 * can still empty it in place. */
static void shorten_pending(struct upper_log *u)
{
	struct upper_pending_base base = upper_index_base(u);
	struct err e;
	int r;

	if (u->queue.count == 0 && (u->pending.waits || u->pending.unsure))
		r = upper_pending_begin(&u->pending, &base, NULL, 0, &e);
	else if (u->queue.count == 0)
		r = upper_pending_empty(&u->pending, &base, &e);
	else
		r = upper_pending_shorten(&u->pending, &base, u->flushed_end, &e);
	if (r == 0) {
		upper_sync_moved(u);
		u->through = false;
	} else {
		u->flushed_end = min_u64(u->flushed_end, u->pending.end);
		log_debug("%s: goes on as it is: %s", u->pending.path, e.msg);
	}
	atomic_store_explicit(&u->pending_end, u->pending.end, memory_order_relaxed);
}

/* The first n records are durable: the queue ends with those that came meanwhile, and the pending
 * file needs no others. */
static void forget_written(struct upper_log *u, size_t n)
{
	struct upper_queue *q = &u->queue;

	q->count -= n;
	if (n > 0)
		memmove(q->list, q->list + n, q->count * sizeof *q->list);
	u->flushed_end = u->frozen_end;
	if (u->failed)
		return;
	if (u->through ? q->count == 0 : u->pending.end >= u->pending_bytes)
		shorten_pending(u);
}

/* Ends what freeze began: r says how the writing of the n frozen records went. */
static void thaw(struct upper_log *u, size_t n, struct upper_ranges *dying, int r, uint32_t crc)
{
	WITH_LOCK(&u->publish_lock);
	size_t i;

	u->queue.frozen = 0;
	if (r == 0) {
		/* Before they leave the queue: both count, in publishing. */
		u->index_records += n > 0 ? n + 1 : 0;
		u->index_crc = crc;
		forget_written(u, n);
	}
	for (i = 0; r < 0 && i < dying->count; i++)
		upper_ranges_add(&u->dying, dying->list[i].moffset, dying->list[i].sectors);
}

static int sync_once(struct upper_log *u, struct err *e)
{
	uint32_t crc = u->index_crc;
	struct upper_ranges dying;
	size_t n;
	int r;

	if (u->failed)
		return err_set(e, EIO, "%s: an earlier sync failed", u->data_path);
	n = freeze(u, &dying);
	r = n > 0 || !u->synced ? write_out(u, n, &crc, e) : 0;
	thaw(u, n, &dying, r, crc);
	end_claim(u, r);
	if (r == 0) {
		if (n > 0)
			(void)upper_sync_confirm(u);
		u->synced = true;
		upper_garbage_add(&u->garbage, &dying);
		/* Who publishes finds no moment for it where flush follows flush. */
		if (n > 0)
			(void)upper_sync_add_room(u, u->room_records / 2, NULL);
	}
	upper_ranges_release(&dying);
	return r;
}

/* Invariant 4: the sync that counts for a flush has not begun yet. */
int upper_log_flush(struct upper_log *u, struct err *e)
{
	struct upper_sync *s = &u->sync;
	struct err error = { "" };
	uint64_t mine;
	int r;
	WITH_LOCK(&s->lock);

	mine = s->begun + 1;
	while (s->ended < mine) {
		if (s->running) {
			pthread_cond_wait(&s->finished, &s->lock);
			continue;
		}
		s->running = true;
		s->begun++;
		pthread_mutex_unlock(&s->lock);
		r = sync_once(u, &error);
		pthread_mutex_lock(&s->lock);
		s->running = false;
		s->ended = s->begun;
		s->result = r;
		s->error = error;
		pthread_cond_broadcast(&s->finished);
	}
	return s->result < 0 ? err_set(e, -s->result, "%s", s->error.msg) : 0;
}
