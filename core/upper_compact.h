/* SPDX-License-Identifier: Apache-2.0 */
/* upper_compact.h - gives back all space that an append log wastes: its live data go into a new
 * pair of files, which takes the old one's place.
 *
 * Threads: no state.  Errors: as in upper_log.h. */
#ifndef OVERLAYBD_CORE_UPPER_COMPACT_H
#define OVERLAYBD_CORE_UPPER_COMPACT_H

#include "core/upper_file.h"

struct upper_compact {
	const struct file_ops *ops; /* NULL: the system's */
	/* Told that n more of `total` bytes were copied.  NULL: nobody. */
	void (*step)(void *arg, uint64_t n, uint64_t total);
	void *arg;
	uint64_t before, after; /* out: bytes of both files together */
};

/* Compacts a log that nobody has open: EBUSY names who has.  Stopped at any moment, the log is as
 * it was, or as it will be. */
int upper_compact_files(struct upper_compact *how, const char *data_path, const char *index_path,
			struct err *e);

#endif
