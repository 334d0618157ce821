/* SPDX-License-Identifier: Apache-2.0 */
/* upper_replay.h - which of the acknowledged records of a pending file are still to be taken up.
 *
 * A pending file is believed when the index file is as it says: its first entries are its base, and
 * the records behind that are the pending file's own first ones, in their order (a flush joins
 * neighbours).  The records that are then left are those that no flush reached; they count in their
 * order, up to the first whose data are not what its checksum says.
 *
 * Anything else in the index was written by somebody who did not know the pending file, or comes
 * from a file system that went down and forgot.  Then the pending file does not count: it must not
 * undo what is newer.
 *
 * A file of the older form says nothing of the index, nor of the data.  It is believed when the
 * files themselves tell that it is the newest: the records at the end of the index are its own
 * first ones, or none is there; what is left points behind all the data that the rest of the index
 * points at, and is not of blocks that the rest trims, unless data of its own are flushed behind
 * that; and these data are there, and are not all zeroes.  Where that cannot be told the log
 * is refused (EBUSY) until the user has decided: `overlaybd repair --acknowledged`.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_CORE_UPPER_REPLAY_H
#define OVERLAYBD_CORE_UPPER_REPLAY_H

#include "core/upper_pending.h"
#include "core/upper_records.h"

struct upper_replay {
	/* The records that are to be taken up: content.records[from, from + count). */
	struct upper_pending_content content;
	size_t from, count;
	/* Acknowledged ones that do not count: `stale` because the log is another one now, `lost`
	 * because their data are gone. */
	size_t stale, lost;
};

/* The files of a log, open, and what names them. */
struct upper_replay_log {
	const struct file_ops *ops;
	const char *data_path, *uuid;
	struct source *data, *index;
	const struct upper_records *found; /* in the index file */
	bool apply_older; /* a file of the older form is believed, as far as its data are there */
};

/* Reads the pending file of a log.  The caller releases *out.  Errors: EBUSY, see above; those of
 * upper_pending_read, and of reading the files. */
int upper_replay_read(const struct upper_replay_log *log, struct upper_replay *out, struct err *e);

/* A line in the log for what does not count. */
void upper_replay_warn(const struct upper_replay *r, const char *data_path);

void upper_replay_release(struct upper_replay *r);

#endif
