/* SPDX-License-Identifier: Apache-2.0 */
/* upper_repair.h - makes a damaged append log one that can be opened: by giving up what cannot be
 * trusted.
 *
 * The index file is cut where the damage begins, so the disk is as it was after the last flush
 * before that; a pending file that is damaged, or that does not follow on what is left, is removed.
 *
 * Threads: no state.  Errors: as in upper_log.h. */
#ifndef OVERLAYBD_CORE_UPPER_REPAIR_H
#define OVERLAYBD_CORE_UPPER_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/upper_file.h"

/* What becomes of writes that a process acknowledged and did not flush before it died. */
enum upper_acknowledged {
	UPPER_ACKNOWLEDGED_JUDGE, /* as opening does: see core/upper_replay.h */
	UPPER_ACKNOWLEDGED_APPLY, /* where opening cannot tell whether they count: they do */
	UPPER_ACKNOWLEDGED_DROP, /* they do not */
};

struct upper_repair {
	struct err damage; /* of the index file; "": there was none */
	uint64_t kept, dropped; /* records that stay; entries that were cut off */
	bool dropped_pending; /* the pending file, for its damage or as it was asked for */
	uint64_t stale; /* acknowledged writes that do not follow on what is left: dropped */
	uint64_t applied; /* that were written to the index: UPPER_ACKNOWLEDGED_APPLY */
};

/* Repairs a log that nobody has open: EBUSY names who has.  `ops` NULL: the system's.  A log
 * without damage stays as it is.  EBUSY too: the user has to say what becomes of acknowledged
 * writes.  EBADMSG: a header is damaged, or a file with the name of one of
 * the log's is something else: that is left to the user. */
int upper_repair_files(const struct file_ops *ops, const char *data_path, const char *index_path,
		       enum upper_acknowledged acknowledged, struct upper_repair *out,
		       struct err *e);

#endif
