/* SPDX-License-Identifier: Apache-2.0 */
/* upper.h - a writable layer, read-only: the append log (a data and an index file) and the sparse
 * form (a data file with holes, and an empty index file).
 *
 * A log that a crash cut short is read up to the first mark of that, one that is damaged is
 * refused, see core/upper_records.h; what a process of this boot acknowledged before it died is
 * read from its pending file.  A server that writes to the log meanwhile may be seen at any moment
 * of the call.
 *
 * A sparse file's presence is what SEEK_DATA says; a file system without it is refused
 * (EOPNOTSUPP). */
#ifndef OVERLAYBD_CORE_UPPER_H
#define OVERLAYBD_CORE_UPPER_H

#include "core/layer.h"

/* What reading a log found out of order; for `overlaybd check`. */
struct upper_findings {
	uint64_t records; /* records in force */
	uint64_t ignored_records; /* entries, from the first mark of a crash on */
	uint64_t fragment_bytes; /* at the end of the index file */
	uint64_t pending_records; /* in force on top of those; of a process of this boot */
	uint64_t stale_records, lost_records; /* of that, not in force: see core/upper_replay.h */
	bool sparse;
};

/* What a data file is. */
enum upper_form {
	UPPER_LOG, /* an append log that can be opened for writing */
	UPPER_SPARSE,
	UPPER_ON_READ_ONLY, /* on a file system that is mounted read-only */
};

/* Looks at a data file's header.  ENOENT and other errors of opening it for writing; EBADMSG. */
int upper_look(const char *data_path, enum upper_form *form, struct err *e);

/* Opens the pair as layer `number` of an image.  `findings` may be NULL. */
int upper_open_read_only(const char *data_path, const char *index_path, size_t number,
			 struct layer *out, struct upper_findings *findings, struct err *e);

#endif
