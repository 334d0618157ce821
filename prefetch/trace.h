/* SPDX-License-Identifier: Apache-2.0 */
/* trace.h - what clients read of a disk while something started from it: the value, and our file
 * format.
 *
 *   offset 0   "OBDTRACE"
 *          8   u32 version, 1
 *         12   u32 CRC-32C of the whole file but these four bytes
 *         16   u64 count of reads
 *         24   u64 size of the disk in bytes
 *         32   sha256 (32 bytes) that names the image, see core/identity.h
 *         64   count times: u64 LBA, u32 sectors, u32 microseconds since the first read
 *
 * All numbers are little-endian; the file ends with the last read.  A read has at least one sector
 * and lies within the disk.  Reads are in the order in which they were begun, nearly: times may go
 * back a little.
 *
 * Units: sectors of 512 bytes unless said.  Threads: a trace belongs to one caller. */
#ifndef OVERLAYBD_PREFETCH_TRACE_H
#define OVERLAYBD_PREFETCH_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/digest.h"
#include "core/base/err.h"

#define TRACE_MAGIC "OBDTRACE" /* in the file without a NUL */

enum {
	TRACE_READS_MAX = 1 << 20, /* a trace; what would follow is not recorded */
	TRACE_HEADER = 64, /* bytes of the file's header */
	TRACE_READ = 16, /* bytes of a read in the file */
};

struct trace_read {
	uint64_t lba;
	uint32_t sectors;
	uint32_t us; /* since the first read */
};

struct trace {
	char identity[DIGEST_TEXT]; /* of the image */
	uint64_t disk_size; /* bytes, a multiple of 512 */
	struct trace_read *reads; /* owned */
	size_t count;
};

/* The trace in n bytes of a file.  EBADMSG names the rule that they break; *out is untouched. */
int trace_parse(const void *bytes, size_t n, struct trace *out, struct err *e);

/* The file's bytes, which the caller frees. */
int trace_format(const struct trace *t, void **bytes, size_t *n, struct err *e);

/* The trace in a file.  ENOENT, EBADMSG, what reading gives; the text names the file. */
int trace_load(const char *path, struct trace *out, struct err *e);

/* Replaces the file: a reader sees the old one or the new one, whole, whatever happens. */
int trace_save(const struct trace *t, const char *path, struct err *e);

void trace_release(struct trace *t);

#endif
