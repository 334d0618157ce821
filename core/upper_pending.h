/* SPDX-License-Identifier: Apache-2.0 */
/* upper_pending.h - UPPER.pending: the records of what was acknowledged and is not yet in the index
 * file, for whoever opens the log after the death of a process.
 *
 * Its bytes count only while the machine that wrote them runs: they are never synced.
 *
 *   0 magic "OBDPEND1" | 8 pid | 16 boot id, text | 52 uuid, text | 124 CRC-32C of the 124 bytes
 *   before | 128 records of 16 bytes, as in an index file
 *
 * The pid is that of the process that holds the log, 0 when it is not known.  The name is the data
 * file's with `.pending` in place of `.data`, or behind it; symbolic links are followed first,
 * since another name of the log must find it too.
 *
 * Threads: one at a time. */
#ifndef OVERLAYBD_CORE_UPPER_PENDING_H
#define OVERLAYBD_CORE_UPPER_PENDING_H

#include <stdbool.h>

#include "core/format.h"
#include "core/index.h"
#include "core/upper_file.h"

enum { UPPER_PENDING_BATCH = 256 }; /* records of one append, at most */

struct upper_pending {
	const struct file_ops *ops;
	char *path, *temporary;
	int fd; /* -1: dropped, or not yet begun */
	bool waits; /* there was no room to begin it: that of the process before still counts */
	uint64_t end; /* bytes */
	bool unsure; /* what stands behind `end` could not be cut off */
	char boot_id[FILE_BOOT_ID];
	char uuid[FORMAT_UUID]; /* of the log */
};

/* What a pending file of this boot holds. */
struct upper_pending_content {
	struct format_entry *entries; /* the caller frees it */
	size_t count;
};

/* Reads the records that a process of this boot left for the log with this uuid.  None: there is no
 * such file, or it is of another boot or another log.  A record that breaks a rule ends them, with
 * a warning.  Errors: ENOMEM, and what reading gives. */
int upper_pending_read(const struct file_ops *ops, const char *data_path, const char *uuid,
		       uint64_t data_size, struct upper_pending_content *out, struct err *e);

/* The pid that a pending file names, 0 when there is none. */
uint64_t upper_pending_holder(const struct file_ops *ops, const char *data_path);

/* Removes a pending file that belongs to no log. */
int upper_pending_remove(const struct file_ops *ops, const char *data_path, struct err *e);

/* Names the file; upper_pending_begin makes it. */
int upper_pending_init(struct upper_pending *p, const struct file_ops *ops, const char *data_path,
		       const char *uuid, struct err *e);

/* Replaces the file, whole or not at all, by one with these n records. */
int upper_pending_begin(struct upper_pending *p, const struct mapping *records, size_t n,
			struct err *e);

/* Empties the file, in place: what it holds is durable elsewhere. */
int upper_pending_empty(struct upper_pending *p, struct err *e);

/* Appends n records, at most UPPER_PENDING_BATCH: all of them, or none and -errno. */
int upper_pending_append(struct upper_pending *p, const struct mapping *records, size_t n,
			 struct err *e);

/* Writes this process's pid. */
int upper_pending_write_pid(struct upper_pending *p, struct err *e);

/* Empties and removes the file, also that of the process before: nothing of it is replayed. */
void upper_pending_drop(struct upper_pending *p);

void upper_pending_release(struct upper_pending *p);

#endif
