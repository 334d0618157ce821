/* SPDX-License-Identifier: Apache-2.0 */
/* upper_records.h - the entries of an append log's index file: reads them for whoever opens the
 * log, and makes them.
 *
 * Records are in the order of the writes, later ones win.  Between ours stand padding entries,
 * which every reader skips and which carry a checksum for us:
 *
 *   bits 0-49    2^50 - 1, as in all padding
 *        50-63   kind
 *        64-95   running CRC: raw(100007) over all entries before this one
 *        96-110  the low bits of raw(100007) over bits 0 to 95: tells that this is such an entry
 *        111-118 ones: whatever else is taken for it, it points at no data
 *
 *   CHECK   ends every append: the records before it are those that were written
 *   CONFIRM stands behind the last CHECK, written once that append was synced; the next append
 *           takes its place
 *   OPEN    stands behind the CONFIRM while a process has the log open; in place of the CRC stands
 *           what upper_records_open_as gives
 *
 * What a crash leaves lies behind the last sync, so it is in the last append alone: a CHECK that
 * does not match and has nothing behind it, records without a CHECK, zeroes up to the end of a
 * sector, a fragment of less than 16 bytes.  From there on nothing counts.  A CHECK that does not
 * match with something behind it, a CONFIRM that does not match, a record that breaks a rule with
 * good ones behind it: these are damage, and no entry counts from the append on that is damaged.
 *
 * A log that another program wrote has no checksums; its records count up to the first that is bad,
 * which is damage too when good ones stand behind it.  But a crash of overlaybd leaves more than
 * one bad record at the end: from one on whose data the end of the data file cuts, none counts when
 * all behind it point past that end too, or at nothing (zeroes).
 *
 * Threads: no state. */
#ifndef OVERLAYBD_CORE_UPPER_RECORDS_H
#define OVERLAYBD_CORE_UPPER_RECORDS_H

#include <stdbool.h>

#include "core/format.h"
#include "core/index.h"
#include "core/upper_file.h"

enum { UPPER_RECORDS_SALT = 100007 }; /* what a running CRC begins with */

enum upper_mark {
	UPPER_MARK_NONE,
	UPPER_MARK_CHECK,
	UPPER_MARK_CONFIRM,
	UPPER_MARK_OPEN,
};

struct upper_records {
	uint64_t good; /* entries up to the last that counts, with padding among them */
	uint64_t records; /* that count, without padding */
	uint64_t padding; /* entries behind that, and nothing else */
	uint64_t ignored; /* entries from the first mark of a crash, or from the damage, on */
	uint64_t fragment; /* bytes at the end */
	uint32_t crc; /* running, of the good ones */
	bool unchecked; /* the last of them are records that no CHECK covers */
	uint32_t open_as; /* what the OPEN entry says: upper_records_open_as; 0: there is none */
	struct err damage; /* what is damaged; "": nothing is */
};

/* Refuses headers that do not belong together. */
int upper_records_check_pair(const struct format_header *data, const struct format_header *index,
			     struct err *e);

/* Finds what counts.  `data_size` is that of the data file.  Damage is no error here: who reads on
 * looks at found->damage.  Errors: EBADMSG: too many records; ENOMEM, and what reading gives. */
int upper_records_scan(struct source *index, uint64_t data_size, struct upper_records *found,
		       struct err *e);

/* Hands the records among entries [from, to) to `take`, in order; when it returns -errno, that ends
 * the reading.  Padding is skipped, and no rule is checked. */
int upper_records_each(struct source *index, uint64_t from, uint64_t to,
		       int (*take)(void *arg, const struct format_entry *entry), void *arg,
		       struct err *e);

/* Both: hands what counts to `take`.  EBADMSG: it is damaged. */
int upper_records_read(struct source *index, uint64_t data_size,
		       int (*take)(void *arg, const struct format_entry *entry), void *arg,
		       struct upper_records *found, struct err *e);

/* The running CRC of the first n entries. */
int upper_records_crc(struct source *index, uint64_t n, uint32_t *crc, struct err *e);

/* Goes on with a running CRC over n encoded entries. */
uint32_t upper_records_sum(uint32_t crc, const uint8_t *raw, size_t n);

/* Writes n records, FORMAT_ENTRY bytes each, to raw. */
void upper_records_encode(const struct mapping *records, size_t n, uint8_t *raw);

/* What tells this data file in this boot from others; not 0. */
uint32_t upper_records_open_as(const char *boot_id, const struct file_status *data);

/* Writes a padding entry: with a checksum, or without (UPPER_MARK_NONE). */
void upper_records_encode_mark(enum upper_mark mark, uint32_t crc, uint8_t raw[FORMAT_ENTRY]);

/* Which of them an entry is, and the CRC in it. */
enum upper_mark upper_records_parse_mark(const uint8_t raw[FORMAT_ENTRY], uint32_t *crc);

#endif
