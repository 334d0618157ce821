/* SPDX-License-Identifier: Apache-2.0 */
/* upper_seal.h - makes a sealed layer of an append log, in place: the sorted index and a trailer go
 * behind the data.
 *
 * The header and all that the index file points at stay as they are, so until the last sync, and
 * for as long as the index file is there, the pair is still the log that it was.
 *
 * Threads: one at a time for one log; it may be read meanwhile.  Errors: as in upper_log.h. */
#ifndef OVERLAYBD_CORE_UPPER_SEAL_H
#define OVERLAYBD_CORE_UPPER_SEAL_H

#include "core/upper_log.h"

/* Appends index and trailer to the data file `fd` and syncs it.  `maps` is sorted and what counts;
 * `data_end` (sectors) is where the data ends: what the file holds behind it is cut off.  On
 * failure the file ends there again, if it can be cut. */
int upper_seal_append(const struct file_ops *ops, int fd, const struct format_header *header,
		      const struct mapping_run *maps, uint64_t data_end, struct err *e);

/* The same for an open log that was flushed, and that nobody writes to any more. */
int upper_seal_log(struct upper_log *u, struct err *e);

/* Takes that back: writing goes on. */
int upper_seal_undo(struct upper_log *u, struct err *e);

/* Seals a log that nobody has open: EBUSY names who has.  What a killed process of this boot had
 * acknowledged is in it.  Once it is durable, index and pending file are removed.  *file_size is
 * that of the layer, in bytes.  EINVAL: a sparse layer, one that is sealed already, or one without
 * a virtual size of its own. */
int upper_seal_files(const struct file_ops *ops, const char *data_path, const char *index_path,
		     uint64_t *file_size, struct err *e);

#endif
