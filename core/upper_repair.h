/* SPDX-License-Identifier: Apache-2.0 */
/* upper_repair.h - makes a damaged append log one that can be opened: by giving up what cannot be
 * trusted.
 *
 * The index file is cut where the damage begins, so the disk is as it was after the last flush
 * before that; a damaged pending file is removed.
 *
 * Threads: no state.  Errors: as in upper_log.h. */
#ifndef OVERLAYBD_CORE_UPPER_REPAIR_H
#define OVERLAYBD_CORE_UPPER_REPAIR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/upper_file.h"

struct upper_repair {
	struct err damage; /* of the index file; "": there was none */
	uint64_t kept, dropped; /* records that stay; entries that were cut off */
	bool dropped_pending; /* the pending file, for its damage or because of a lost name */
};

/* Repairs a log that nobody has open: EBUSY names who has.  `ops` NULL: the system's.  A log
 * without damage stays as it is.  EBADMSG: a header is damaged, or a file with the name of one of
 * the log's is something else: that is left to the user. */
int upper_repair_files(const struct file_ops *ops, const char *data_path, const char *index_path,
		       struct upper_repair *out, struct err *e);

#endif
