/* SPDX-License-Identifier: Apache-2.0 */
/* upper_private.h - what the files of an open append log share, see upper_log.c.
 *
 * Locks, in the order in which they may be taken:
 *
 * - a claim on a range of the disk: whoever changes it, over I/O;
 *
 * - garbage.tidy_lock: whoever tidies, over I/O;
 *
 * - sync.lock: who syncs; never held over I/O.  Being the one who syncs (sync.running) is itself a
 *   lock, held over I/O; it alone changes index_records and index_crc, with publish_lock, and
 *   index_fd, with index_lock;
 *
 * - publish_lock: the critical section of invariant 3; held over a write(2) to the pending file;
 *
 * - index_lock: the room of the index file and the padding in it; held over I/O;
 *
 * - map.locks, within upper_map.c; claims.lock; garbage.lock: under these no other is taken. */
#ifndef OVERLAYBD_CORE_UPPER_PRIVATE_H
#define OVERLAYBD_CORE_UPPER_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "core/upper_claims.h"
#include "core/upper_log.h"
#include "core/upper_map.h"
#include "core/upper_pending.h"
#include "core/upper_readers.h"

/* Records that are not yet in the index file, in the order in which they were published. */
struct upper_queue {
	struct mapping *list;
	size_t count, room;
	size_t frozen; /* the first so many are on their way to the index file */
};

/* Group commit: one thread syncs for all who asked before it began. */
struct upper_sync {
	pthread_mutex_t lock;
	pthread_cond_t finished;
	bool running;
	uint64_t begun, ended; /* syncs, counted */
	int result; /* of the newest that ended */
	struct err error; /* when that failed */
};

struct upper_garbage {
	unsigned percent; /* see struct upper_log_options */
	uint64_t min_records;
	uint64_t min_bytes; /* 0: see struct upper_log_options */
	_Atomic uint64_t
		full_at; /* clock_ms, 0: never; when a change or a flush last found no space */
	pthread_mutex_t lock;
	/* Guarded by lock: dead, and the records that say so are durable. */
	struct upper_ranges fresh;

	pthread_mutex_t tidy_lock; /* guards the rest; held over I/O by the one who tidies */
	struct upper_ranges waiting; /* for the readers of `epoch` and before */
	size_t punched; /* of them; then they are sorted */
	uint64_t epoch;
	bool no_holes; /* the file system has none */
	bool complained; /* the last hole could not be punched */
	uint64_t retry_ms; /* clock_ms: none is punched before */
	/* A search for what was lost sight of: goes up to this sector of the data file, 0: none
	 * does; begins when the writers of this epoch and before are gone. */
	uint64_t search_end, search_epoch;
	uint64_t searched; /* bytes that the file took when the last one began */
	uint64_t full_searched; /* clock_ms of the last one for a full disk; 0: none since it is */
	struct upper_ranges live;
	bool retired; /* see upper_log_retire */
	/* After a failed rewriting, so many records make another try worth it. */
	_Atomic uint64_t retry_records;
};

struct upper_log {
	const struct file_ops *ops;
	char *data_path, *index_path;
	struct format_header header; /* of the data file */
	uint64_t sectors; /* of the disk */
	struct upper_below below;
	/* The files map something beyond the disk, which the map knows nothing of: the index is not
	 * made anew without it. */
	bool beyond;

	int data_fd;
	_Atomic uint64_t data_end; /* sectors; what lies behind belongs to nobody */
	/* Sectors: the lowest that data_end went back to since a search began. */
	_Atomic uint64_t given_back;
	_Atomic uint64_t data_room; /* sectors up to which the data file was made longer; 0: it ends
				     * where the data end */
	pthread_mutex_t room_lock; /* for changing data_room; held over a truncate */
	_Atomic bool failed; /* a sync failed: read-only from then on */
	struct upper_claims claims;
	struct upper_map map; /* changed under publish_lock */

	pthread_mutex_t publish_lock;
	struct upper_queue queue; /* guarded by publish_lock */
	struct upper_ranges dying; /* guarded by publish_lock: dead once `queue` is durable */
	struct upper_pending pending; /* guarded by publish_lock */
	/* See struct upper_log_options. */
	uint64_t pending_bytes, max_records, room_bytes, room_records;
	_Atomic uint64_t pending_end; /* pending.end, for a look without the lock */
	/* Guarded by publish_lock: where the pending file ended when the flush that goes on began,
	 * and when the last one began that got through: what stands before is in the index. */
	uint64_t frozen_end, flushed_end;
	/* Guarded by publish_lock: a record is not in the pending file, which is full.  Until that
	 * is begun anew, nothing is appended to it, and changes are flushed before they are
	 * acknowledged. */
	bool through;

	struct upper_sync sync;
	int index_fd; /* the one who syncs */
	_Atomic uint64_t index_records; /* entries in the index file; the one who syncs sets it */
	uint32_t index_crc; /* running, of those; the one who syncs changes it with publish_lock */
	uint32_t open_as; /* for the OPEN entry */
	bool apply_older; /* see struct upper_log_options */
	pthread_mutex_t index_lock;
	/* Entries for which the index file has space, by padding; changed with index_lock. */
	_Atomic uint64_t index_room;
	/* Guarded by index_lock: entries with those that a flush is about to add; 0: none. */
	uint64_t append_end;
	bool room_is_short; /* guarded by index_lock: no space for it since the last flush */
	bool unchecked; /* the one who syncs: the last of them are records that no CHECK covers */
	bool confirmed; /* the one who syncs: behind them stands a CONFIRM */
	bool has_pending; /* the one who syncs: there was a pending file when it began */
	bool synced; /* the one who syncs: nothing but `queue` waits to be made durable */
	struct upper_readers readers;
	struct upper_readers
		writers; /* that have a place in the data file and did not publish it */
	struct upper_garbage garbage;
};

/* A change or a flush has found no space: for a while, what is dead is given back however little it
 * is.  Any thread. */
void upper_garbage_note_full(struct upper_garbage *g);

/* Bytes of the index file, but for its padding.  By the one who syncs. */
static inline uint64_t upper_index_end(const struct upper_log *u)
{
	return FORMAT_SPACE + u->index_records * FORMAT_ENTRY;
}

/* upper_queue.c */

/* Room for n more records.  -ENOMEM. */
int upper_queue_reserve(struct upper_queue *q, size_t n);

/* Appends a record, for which room was reserved; joined to the newest where it goes on there. */
void upper_queue_push(struct upper_queue *q, struct mapping record);

/* Cuts [start, start + sectors) into records, at most `room`; returns how many. */
size_t upper_queue_cut(uint64_t start, uint64_t sectors, uint64_t moffset, bool zeroed,
		       struct mapping *out, size_t room);

/* upper_sync.c */

void upper_sync_init(struct upper_sync *s);
void upper_sync_release(struct upper_sync *s);

/* Becomes the one who syncs, and stops being it. */
void upper_sync_enter(struct upper_sync *s);
void upper_sync_leave(struct upper_sync *s);

/* Invariant 5: makes the log read-only for good.  By the one who syncs. */
void upper_sync_fail(struct upper_log *u);

/* Confirms that all of the index file is durable, and says that the log is open: see
 * upper_records.h.  Not synced.  -errno, which nobody has to tell: damage of the last append would
 * be taken for a crash.  By the one who syncs. */
int upper_sync_confirm(struct upper_log *u);

/* Cuts the index file behind what is confirmed, or else what it holds: nothing says any more that
 * the log is open.  By the one who syncs. */
int upper_sync_unmark(struct upper_log *u);

/* Entries that the index file will have once the queue and n more records are in it.  With
 * publish_lock. */
static inline uint64_t upper_index_needs(const struct upper_log *u, uint64_t n)
{
	/* Each of two flushes ends with a CHECK, the last one with CONFIRM and OPEN too, and what
	 * has no CHECK yet gets one. */
	return u->index_records + u->queue.count + n + 5;
}

/* Makes the index file longer by padding, if it has no space for the queue and n more records: what
 * is acknowledged can be flushed when the disk is full.  -ENOSPC and the like.  By the one who
 * syncs. */
int upper_sync_add_room(struct upper_log *u, uint64_t n, struct err *e);

/* The same, by anybody else, also while a flush goes on. */
int upper_sync_make_room(struct upper_log *u, uint64_t n, struct err *e);

/* The pending file begins with what stood at flushed_end.  With publish_lock. */
void upper_sync_moved(struct upper_log *u);

/* The index file as it is. */
static inline struct upper_pending_base upper_index_base(const struct upper_log *u)
{
	return (struct upper_pending_base){ .entries = u->index_records, .crc = u->index_crc };
}

/* upper_recover.c */

/* Maps the part of an entry that lies on the disk.  -ENOMEM. */
int upper_recover_entry(struct upper_map *m, const struct format_entry *entry);

/* Reads index and pending file into the map, cuts off what a crash left, and begins a new pending
 * file. */
int upper_recover(struct upper_log *u, struct upper_findings *findings, struct err *e);

/* upper_log.c */

/* All is flushed and nothing more comes: removes the pending file. */
int upper_log_end_pending(struct upper_log *u, struct err *e);

/* upper_garbage.c */

void upper_garbage_init(struct upper_garbage *g, const struct upper_log_options *options);
void upper_garbage_release(struct upper_garbage *g);

/* Takes over pieces that nothing maps any more, where the records that say so are durable. */
void upper_garbage_add(struct upper_garbage *g, struct upper_ranges *dead);

/* upper_rewrite.c */

/* Whether too much of the index file is superseded. */
bool upper_rewrite_is_due(struct upper_log *u);

/* Puts a new index file in the old one's place, if that is due.  By the one who syncs.  Failing to
 * is a line in the log; errors: those of a failed sync. */
int upper_rewrite_index(struct upper_log *u, struct err *e);

#endif
