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

#define PADDING_MOFFSET ((UINT64_C(1) << 55) - 1)

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

/* What was not synced may be lost or torn now, and the kernel says so only once.  The pending file
 * must not vouch for it to the next process. */
void upper_sync_fail(struct upper_log *u)
{
	WITH_LOCK(&u->publish_lock);

	atomic_store(&u->failed, true);
	upper_pending_drop(&u->pending);
}

static int failed(struct upper_log *u, int r, const char *path, struct err *e)
{
	upper_sync_fail(u);
	return err_set(e, EIO, "%s: syncing failed: %s; no more writing", path, strerror(-r));
}

/* Padding entries, which count for nothing, take the place of the next flushes' records: these
 * change neither the file's size nor where it lies, so their sync is spared a commit of the file
 * system's journal.  They point past the data's end: a reader beside the server that meets a record
 * of which only the first half is there takes it for one that is not yet there.  Who has no space
 * left goes on without. */
static void add_room(struct upper_log *u, uint64_t records)
{
	static const struct format_entry padding = { .start = FORMAT_PADDING,
						     .sectors = 1,
						     .moffset = PADDING_MOFFSET };
	uint64_t room = min_u64(u->room_records, u->max_records - records);
	AUTO_FREE uint8_t *raw = malloc((size_t)room * FORMAT_ENTRY + 1);
	uint64_t at = FORMAT_SPACE + records * FORMAT_ENTRY, i;

	if (!raw || room == 0)
		return;
	for (i = 0; i < room; i++)
		format_encode_entry(&padding, raw + i * FORMAT_ENTRY);
	if (upper_file_write(u->ops, u->index_fd, raw, (size_t)room * FORMAT_ENTRY, at, NULL) == 0)
		u->index_room = records + room;
	else
		(void)u->ops->truncate(u->index_fd, at);
}

/* Writes the frozen records behind those of the index file, in one go but for memory. */
static int append_records(struct upper_log *u, size_t n, struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc((size_t)min_u64(n, PIECE_RECORDS) * FORMAT_ENTRY + 1);
	uint64_t at = upper_index_end(u);
	size_t done = 0, piece;
	int r = 0;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	if (u->index_records + n > u->max_records)
		return err_set(e, ENOSPC, "%s: the index is full", u->index_path);
	for (; r == 0 && done < n; done += piece) {
		piece = (size_t)min_u64(n - done, PIECE_RECORDS);
		pthread_mutex_lock(&u->publish_lock); /* publishing moves the list */
		upper_records_encode(u->queue.list + done, piece, raw);
		pthread_mutex_unlock(&u->publish_lock);
		r = upper_file_write(u->ops, u->index_fd, raw, piece * FORMAT_ENTRY,
				     at + done * FORMAT_ENTRY, e);
	}
	if (r == 0 && u->index_records + n > u->index_room)
		add_room(u, u->index_records + n);
	return r < 0 ? err_wrap(e, r, "%s", u->index_path) : 0;
}

/* There was no room for all of an append: it is tried later, at the same place.  Durable, because a
 * part of a record on the disk, under the size that a later append gives the file, would read as a
 * record that nobody wrote. */
static int take_back(struct upper_log *u)
{
	int r = u->ops->truncate(u->index_fd, upper_index_end(u));

	u->index_room = 0;
	return r < 0 ? r : u->ops->datasync(u->index_fd);
}

/* Invariant 2: the data, then the records that point at it. */
static int write_out(struct upper_log *u, size_t n, struct err *e)
{
	int r = u->ops->datasync(u->data_fd);

	if (r < 0)
		return failed(u, r, u->data_path, e);
	r = append_records(u, n, e);
	if (r == -ENOSPC || r == -EDQUOT || r == -ENOMEM) {
		int back = take_back(u);

		return back < 0 ? failed(u, back, u->index_path, e) : r;
	}
	if (r < 0) {
		upper_sync_fail(u);
		return err_wrap(e, -EIO, "no more writing");
	}
	r = u->ops->datasync(u->index_fd);
	if (r == 0)
		return 0;
	/* The kernel takes them for clean, and may go on showing what the disk does not hold: who
	 * opens the log next would add to records that power loss turns to zeroes. */
	(void)u->ops->truncate(u->index_fd, upper_index_end(u));
	return failed(u, r, u->index_path, e);
}

static size_t freeze(struct upper_log *u, struct upper_ranges *dying)
{
	WITH_LOCK(&u->publish_lock);

	*dying = u->dying;
	u->dying = (struct upper_ranges){ 0 };
	u->queue.frozen = u->queue.count;
	return u->queue.frozen;
}

/* The first n records are durable: the queue ends with those that came meanwhile, and the pending
 * file needs no others. */
static void forget_written(struct upper_log *u, size_t n)
{
	struct upper_queue *q = &u->queue;
	struct err e;

	q->count -= n;
	if (n > 0)
		memmove(q->list, q->list + n, q->count * sizeof *q->list);
	if (u->pending.end < u->pending_bytes || u->failed)
		return;
	/* Who may no longer make files in the folder can still do the first. */
	if ((q->count == 0 ? upper_pending_empty(&u->pending, &e)
			   : upper_pending_begin(&u->pending, q->list, q->count, &e)) < 0)
		log_debug("%s: goes on as it is: %s", u->pending.path, e.msg);
	atomic_store_explicit(&u->pending_end, u->pending.end, memory_order_relaxed);
}

/* Ends what freeze began: r says how the writing of the n frozen records went. */
static void thaw(struct upper_log *u, size_t n, struct upper_ranges *dying, int r)
{
	WITH_LOCK(&u->publish_lock);
	size_t i;

	u->queue.frozen = 0;
	if (r == 0)
		forget_written(u, n);
	for (i = 0; r < 0 && i < dying->count; i++)
		upper_ranges_add(&u->dying, dying->list[i].moffset, dying->list[i].sectors);
}

static int sync_once(struct upper_log *u, struct err *e)
{
	struct upper_ranges dying;
	size_t n;
	int r;

	if (u->failed)
		return err_set(e, EIO, "%s: an earlier sync failed", u->data_path);
	n = freeze(u, &dying);
	r = n > 0 || !u->synced ? write_out(u, n, e) : 0;
	if (r == 0)
		u->index_records += n; /* before they leave the queue: both count, in publishing */
	thaw(u, n, &dying, r);
	if (r == 0) {
		u->synced = true;
		upper_garbage_add(&u->garbage, &dying);
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
