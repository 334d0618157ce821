/* SPDX-License-Identifier: Apache-2.0 */
/* upper_dense.h - writes the two files of an append log that holds no more than what counts: the
 * data in the order of the disk, one record a mapping.
 *
 * Threads: no state.  Errors: as in upper_log.h; on failure neither file is left. */
#ifndef OVERLAYBD_CORE_UPPER_DENSE_H
#define OVERLAYBD_CORE_UPPER_DENSE_H

#include "core/format.h"
#include "core/index.h"
#include "core/upper_file.h"

struct upper_dense {
	const struct file_ops *ops; /* NULL: the system's */
	/* Of both files, but for what says which of them it is. */
	const struct format_header *header;
	const struct mapping_run *maps; /* sorted */
	struct source *from; /* where moffset counts; NULL: all mappings are zeroed */
	/* A data and an index file whose owners and modes the new ones get; NULL: none.  Not for
	 * upper_dense_create. */
	const int *like;
	/* Told of bytes that were copied.  NULL: nobody. */
	void (*step)(void *arg, uint64_t n);
	void *arg;
};

/* Writes and syncs two files, which must not exist (EEXIST).  Their names are not yet durable. */
int upper_dense_write(const struct upper_dense *d, const char *data_path, const char *index_path,
		      struct err *e);

/* Makes a log under its names, durable.  Until it is whole its files have `.part` behind their
 * names; what is left of them by a process that was stopped, the next one takes over.  EBUSY:
 * another process is making it. */
int upper_dense_create(const struct upper_dense *d, const char *data_path, const char *index_path,
		       struct err *e);

#endif
