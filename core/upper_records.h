/* SPDX-License-Identifier: Apache-2.0 */
/* upper_records.h - reads the index file of an append log, for whoever opens the log.
 *
 * Records are in the order of the writes, later ones win.  Three things are marks of a crash: an
 * entry that points past the data file's end; zeroes up to the end of a sector, a part of an append
 * that never reached the disk; a fragment of less than 16 bytes.  From the first mark on records do
 * not count.  Any other record that breaks a rule is damage.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_CORE_UPPER_RECORDS_H
#define OVERLAYBD_CORE_UPPER_RECORDS_H

#include "core/format.h"
#include "core/index.h"

struct upper_records {
	uint64_t good; /* records up to the last one that counts, with padding among them */
	uint64_t padding; /* behind that */
	uint64_t ignored; /* whole ones, from the first mark of a crash on */
	uint64_t fragment; /* bytes at the end */
};

/* Refuses headers that do not belong together. */
int upper_records_check_pair(const struct format_header *data, const struct format_header *index,
			     struct err *e);

/* Hands the records that count to `take`, in order; when it returns -errno, that ends the reading.
 * `data_size` is that of the data file.
 * Errors: EBADMSG naming the record and the rule, ENOMEM, and what reading and `take` give. */
int upper_records_read(struct source *index, uint64_t data_size,
		       int (*take)(void *arg, const struct format_entry *entry), void *arg,
		       struct upper_records *found, struct err *e);

/* Writes n records, FORMAT_ENTRY bytes each, to raw. */
void upper_records_encode(const struct mapping *records, size_t n, uint8_t *raw);

#endif
