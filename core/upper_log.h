/* SPDX-License-Identifier: Apache-2.0 */
/* upper_log.h - an append log open for writing: the writable layer of a disk.
 *
 * What was acknowledged survives the death of the process; what was flushed survives power loss
 * (DESIGN.md 8; the invariants stand in upper_log.c).
 *
 * Units: bytes unless said.  Threads: all calls but open and close may run concurrently on one log;
 * reads never wait for a writer's I/O.  The log has no thread of its own.
 *
 * Errors: 0 or -errno.  ENOSPC, EDQUOT: there was no room, nothing that was acknowledged is lost, a
 * later try may succeed.  EIO: reading or writing failed; once syncing failed, every write and
 * flush is EIO.  EBADMSG: the files break a rule.  EINVAL: a range beyond the disk. */
#ifndef OVERLAYBD_CORE_UPPER_LOG_H
#define OVERLAYBD_CORE_UPPER_LOG_H

#include <stdbool.h>

#include "core/format.h"
#include "core/index.h"
#include "core/upper.h"
#include "core/upper_file.h"

struct upper_log;

/* What is read where the log maps nothing: [off, off + n) of the layers below.  May be called by
 * several threads at once, and may take its time. */
struct upper_below {
	int (*pread)(void *arg, void *buf, size_t n, uint64_t off, struct err *e);
	void *arg;
};

struct upper_log_options {
	const struct file_ops *ops; /* NULL: the system's */
	uint64_t size; /* of the disk, a multiple of 512; 0: as the log's header says */
	uint64_t size_below; /* when neither says anything: that of the layers below */
	struct upper_below below; /* pread NULL: zeroes */
	/* Percent of dead records from which the index is rewritten, and less when it is nearly
	 * full; 0: never. */
	unsigned garbage;
	uint64_t garbage_records; /* but not an index of fewer than these; 0: 4096 */
	uint64_t garbage_bytes; /* of dead data from which holes are punched; 0: 16 MiB, and a
				 * quarter of what is live */
	uint64_t max_records; /* in the index file, more is ENOSPC; 0: FORMAT_MAX_ENTRIES */
	uint64_t room_bytes; /* the data file is made longer ahead of writes; 0: by 16 MiB */
	uint64_t room_records; /* the index file is too, by padding entries; 0: by 4096 */
	bool apply_older; /* see struct upper_replay_log */
	uint64_t pending_bytes; /* a flush makes a pending file of so many anew; 0: 2 MiB */
};

/* The header of a new log's data file: see upper_log_create. */
int upper_log_make_header(struct format_header *h, uint64_t size, const char *uuid,
			  const char *parent_uuid, struct err *e);

/* Makes the two files of an empty log, which must not exist (EEXIST), and syncs them.  `size` is
 * the virtual size, a multiple of 512 (0: that of the layers below).  uuid NULL: a random one;
 * parent_uuid NULL: zeroes. */
int upper_log_create(const struct file_ops *ops, const char *data_path, const char *index_path,
		     uint64_t size, const char *uuid, const char *parent_uuid, struct err *e);

/* Opens a log for writing.  Cuts off what a crash left behind, and takes up what a process of this
 * boot acknowledged and did not sync.  EBUSY names the process that has it open.  `findings` (may
 * be NULL) is what was found.  `options` may be NULL. */
int upper_log_open(const char *data_path, const char *index_path,
		   const struct upper_log_options *options, struct upper_log **out,
		   struct upper_findings *findings, struct err *e);

/* Gives the data file one more name: this very file, whatever its old name leads to now. */
int upper_log_link(const struct upper_log *u, const char *path, struct err *e);

/* Gives the files of a log that was made just now the owners and modes of another one's. */
int upper_log_make_like(struct upper_log *u, const struct upper_log *model, struct err *e);

/* In a child that goes on with the log: writes its pid for those who find the log in use. */
int upper_log_after_fork(struct upper_log *u, struct err *e);

/* Another layer has taken the place of a log that was flushed and that nobody writes to any more:
 * removes its names and its pending file.  It can be read until it is closed. */
void upper_log_retire(struct upper_log *u);

/* Whether a sync failed: no more writing. */
bool upper_log_has_failed(const struct upper_log *u);

/* Invariant 5, for who knows better than a sync: no more writing. */
void upper_log_fail(struct upper_log *u);

/* Flushes, and closes whatever that gives.  NULL is allowed. */
int upper_log_close(struct upper_log *u, struct err *e);

uint64_t upper_log_size(const struct upper_log *u);
const struct format_header *upper_log_header(const struct upper_log *u);

/* Fills buf with [off, off + n), of any alignment. */
int upper_log_pread(struct upper_log *u, void *buf, size_t n, uint64_t off, struct err *e);

/* The first pieces of [lba, lba + sectors) as the log maps them, without gaps: up to `room` of
 * them, fewer only when the range ends.  moffset counts sectors of the data file. */
size_t upper_log_pieces(struct upper_log *u, uint64_t lba, uint64_t sectors, struct segment *out,
			size_t room);

/* All that the log maps: sorted, no two that could be one, layer 0.  The caller frees out->maps.
 * Nobody may write meanwhile.  ENOMEM; EINVAL: records lie beyond the
 * disk, and would be lost. */
int upper_log_mappings(struct upper_log *u, struct mapping_run *out, struct err *e);

enum upper_flag {
	UPPER_FUA = 1 << 0, /* durable before it returns */
	UPPER_MAY_TRIM = 1 << 1, /* zeroing need not keep space: this log never does */
	UPPER_FAST = 1 << 2, /* zeroing must not be slower than writing: it never is */
};

/* Writes [off, off + n), of any alignment.  A failed write may have taken place in parts. */
int upper_log_pwrite(struct upper_log *u, const void *buf, size_t n, uint64_t off, unsigned flags,
		     struct err *e);

/* Makes the range read as zeroes. */
int upper_log_zero(struct upper_log *u, uint64_t off, uint64_t n, unsigned flags, struct err *e);

/* The client needs the range no more: its whole sectors read as zeroes from then on. */
int upper_log_trim(struct upper_log *u, uint64_t off, uint64_t n, unsigned flags, struct err *e);

/* All that was acknowledged before the call is durable when it returns 0. */
int upper_log_flush(struct upper_log *u, struct err *e);

/* Gives back space: punches holes where the data file holds what nothing maps any more, for about a
 * tenth of a second a call, and rewrites the index file when too much of it is dead.  Call it once
 * a second or so from a thread that may take its time; reads and writes go on meanwhile, but wait
 * for each hole (some file systems tell the disk of it); flushes may wait.  Failing to give back is
 * no error.  Errors: those of a failed sync. */
int upper_log_tidy(struct upper_log *u, struct err *e);

#endif
