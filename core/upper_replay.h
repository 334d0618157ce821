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

/* Reads the pending file of a log whose index file holds `found`.  The caller releases *out.
 * Errors: those of upper_pending_read, and of reading the files. */
int upper_replay_read(const struct file_ops *ops, const char *data_path, const char *uuid,
		      struct source *data, struct source *index, const struct upper_records *found,
		      struct upper_replay *out, struct err *e);

/* A line in the log for what does not count. */
void upper_replay_warn(const struct upper_replay *r, const char *data_path);

void upper_replay_release(struct upper_replay *r);

#endif
