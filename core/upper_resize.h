/* SPDX-License-Identifier: Apache-2.0 */
/* upper_resize.h - another virtual size for an append log that nobody has open.
 *
 * Threads: no state.  Errors: as in upper_log.h; a change that failed has not happened, unless its
 * intent is there, see upper_intent.h. */
#ifndef OVERLAYBD_CORE_UPPER_RESIZE_H
#define OVERLAYBD_CORE_UPPER_RESIZE_H

#include "core/index.h"
#include "core/upper_file.h"

struct upper_resize {
	const struct file_ops *ops; /* NULL: the system's */
	uint64_t size; /* bytes, a multiple of 512, not 0 */
	/* What the layers below map beyond the disk's present end, sorted: in a larger disk it is
	 * hidden by zeroes.  NULL: not known, so all of the new space is marked zeroed. */
	const struct mapping_run *below;
};

/* *before is the size that it had; 0: that of the layers below, whose end the caller knows then.
 * EINVAL: the log holds data that a smaller disk would lose. */
int upper_resize_files(const struct upper_resize *how, const char *data_path,
		       const char *index_path, uint64_t *before, struct err *e);

/* The virtual size in bytes, and *end, the sector behind the last that the files map: a log that is
 * opened smaller does not know all that it holds. */
int upper_resize_look(const struct file_ops *ops, const char *data_path, const char *index_path,
		      uint64_t *size, uint64_t *end, struct err *e);

#endif
