/* SPDX-License-Identifier: Apache-2.0 */
/* upper_pending.h - UPPER.pending: the records of what was acknowledged and is not yet in the index
 * file, for whoever opens the log after the death of a process.
 *
 * It is never synced, so its bytes count only while the machine that wrote them runs; and then only
 * if the log is as they say that it was left, see upper_replay.h.
 *
 *   header, 256 bytes
 *     0 magic "OBDPEND2" | 8 pid | 16 boot id, text | 52 uuid of the log, text
 *    88 base: entries that the index file had
 *    96 running CRC of those, see upper_records.h
 *   100 generation: goes into the records' CRCs, so that none of an earlier use of the file counts
 *   104 next base, of an index file that is about to take that one's place; 0 entries: none
 *   112 its CRC
 *   116 and 124 how many of the records below are in the base, and in the next base
 *   252 raw(0) CRC of the bytes before
 *   records, 32 bytes each, in the order in which they were published
 *     0 as in an index file | 16 raw(100007) CRC of the data that it points at, 0 for zeroes
 *    28 raw(generation + number of the record) CRC of the bytes before
 *
 * Older versions wrote "OBDPEND1": the uuid is the last field, 124 has the CRC of the bytes before,
 * and from 128 on stand records of 16 bytes, as in an index file.
 *
 * The pid is that of the process that holds the log, 0 when it is not known.  The name is the data
 * file's with `.pending` in place of `.data`, or with `.upper-pending` behind another name;
 * symbolic links are followed first, since another name of the log must find it too.
 *
 * Threads: one at a time. */
#ifndef OVERLAYBD_CORE_UPPER_PENDING_H
#define OVERLAYBD_CORE_UPPER_PENDING_H

#include <stdbool.h>

#include "core/format.h"
#include "core/index.h"
#include "core/upper_file.h"

enum {
	UPPER_PENDING_BATCH = 256, /* records of one append, at most */
	UPPER_PENDING_SALT = 100007, /* what the CRC of data begins with */
};

/* One that is acknowledged. */
struct upper_pending_record {
	struct mapping map; /* layer 0 */
	uint32_t crc; /* of its data */
};

/* An index file as it was. */
struct upper_pending_base {
	uint64_t entries;
	uint32_t crc; /* running, of those */
	uint64_t skip; /* pending records that are in it */
};

struct upper_pending {
	const struct file_ops *ops;
	char *path;
	char *older_path; /* what an older version left under another name; NULL: nothing */
	int fd; /* -1: dropped, or not yet begun */
	int like; /* the data file, whose owner and mode it has */
	bool waits; /* there was no room to begin it: that of the process before still counts */
	uint64_t end; /* bytes */
	bool unsure; /* what stands behind `end` could not be cut off */
	uint32_t generation;
	struct upper_pending_base base, next_base;
	char boot_id[FILE_BOOT_ID];
	char uuid[FORMAT_UUID]; /* of the log */
};

/* What a pending file of this boot holds. */
struct upper_pending_content {
	struct upper_pending_record *records; /* the caller frees it */
	size_t count;
	struct upper_pending_base base, next_base; /* next_base.entries 0: none */
	uint64_t pid;
	bool is_there; /* a file of this boot and this log */
	bool older; /* of the older form: without bases, and without CRCs of data */
};

/* The byte where records begin. */
uint64_t upper_pending_begins(void);

/* Reads what a process of this boot left for the log with this uuid.  Nothing: there is no such
 * file, or it is of another boot.  EBADMSG: it is damaged, or of another log, or something else
 * that has this name; nothing may be put in its place.  ENOMEM, and what reading gives. */
int upper_pending_read(const struct file_ops *ops, const char *data_path, const char *uuid,
		       struct upper_pending_content *out, struct err *e);

/* Removes the log's pending file, whole or damaged, and what an older version left under another
 * name.  What is something else stays. */
int upper_pending_discard(const struct file_ops *ops, const char *data_path, const char *uuid,
			  bool *removed, struct err *e);

/* The pid that a pending file names, 0 when there is none. */
uint64_t upper_pending_holder(const struct file_ops *ops, const char *data_path);

/* Removes a pending file that belongs to no log, with a line in the log.  EEXIST: what has its name
 * is something else. */
int upper_pending_remove(const struct file_ops *ops, const char *data_path, struct err *e);

/* Names the file; upper_pending_begin makes it.  `data_fd` is the log's. */
int upper_pending_init(struct upper_pending *p, const struct file_ops *ops, const char *data_path,
		       int data_fd, const char *uuid, struct err *e);

/* Replaces the file, whole or not at all, by one with these n records, which follow on `base`. */
int upper_pending_begin(struct upper_pending *p, const struct upper_pending_base *base,
			const struct upper_pending_record *records, size_t n, struct err *e);

/* The same with the records of its own from byte `from` on. */
int upper_pending_shorten(struct upper_pending *p, const struct upper_pending_base *base,
			  uint64_t from, struct err *e);

/* Empties the file, in place: what it holds is durable elsewhere. */
int upper_pending_empty(struct upper_pending *p, const struct upper_pending_base *base,
			struct err *e);

/* Another index file is about to take the old one's place: `next` holds the pending records before
 * byte `from` too.  Until upper_pending_adopt either may be found. */
int upper_pending_announce(struct upper_pending *p, const struct upper_pending_base *next,
			   uint64_t from, struct err *e);

/* It has taken its place. */
int upper_pending_adopt(struct upper_pending *p, struct err *e);

/* Appends n records, at most UPPER_PENDING_BATCH: all of them, or none and -errno. */
int upper_pending_append(struct upper_pending *p, const struct upper_pending_record *records,
			 size_t n, struct err *e);

/* Writes this process's pid. */
int upper_pending_write_pid(struct upper_pending *p, struct err *e);

/* Empties and removes the file, also that of the process before: nothing of it is replayed.  An
 * error: it could neither be emptied nor removed. */
int upper_pending_drop(struct upper_pending *p, struct err *e);

void upper_pending_release(struct upper_pending *p);

#endif
