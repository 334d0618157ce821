/* SPDX-License-Identifier: Apache-2.0 */
/* trace_layers.h - the reference's trace file, which names ranges of layers instead of the disk.
 *
 *   offset 0   u32 magic 0xC2EF1820, 4 bytes of anything
 *          8   u64 bytes of records that follow, up to the end of the file
 *         16   u32 CRC-32C of them, without inversion, from 0; 4 bytes of anything
 *         24   records: 'R' or 'W', 3 bytes of anything, u32 layer (0: the bottom one),
 *              u64 count and i64 offset, bytes in the layer's LSMT file
 *
 * Only the order of records is known, no times.  Units: bytes unless said.  Threads: no state. */
#ifndef OVERLAYBD_PREFETCH_TRACE_LAYERS_H
#define OVERLAYBD_PREFETCH_TRACE_LAYERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/image.h"
#include "prefetch/trace.h"

enum { TRACE_LAYERS_MAX = 1 << 22 }; /* records of a file */

struct trace_layer_read {
	uint64_t off, n;
	uint32_t layer;
};

struct trace_layers {
	struct trace_layer_read *reads; /* owned */
	size_t count;
};

/* Whether the bytes begin like such a file. */
bool trace_layers_are(const void *bytes, size_t n);

/* The reads in a file; records of writes are left out.  EBADMSG names the rule that it breaks. */
int trace_layers_parse(const void *bytes, size_t n, struct trace_layers *out, struct err *e);

/* The bytes of a file, which the caller frees.  EINVAL: more than TRACE_LAYERS_MAX. */
int trace_layers_format(const struct trace_layers *t, void **bytes, size_t *n, struct err *e);

void trace_layers_release(struct trace_layers *t);

/* What a conversion could not keep: for a person to know. */
struct trace_layers_notes {
	uint64_t foreign; /* records of layers that the image does not have, or behind their end */
	uint64_t hidden; /* records of which no byte is on the disk */
	uint64_t upper; /* pieces that lie in the upper, which the file cannot name */
	uint64_t left_out; /* at the end: there is no room for them */
};

/* As reads of the disk, all at time 0, in the records' order.  What a record covers beside visible
 * data, such as a layer's index, is ignored.  Data that several ranges of the disk share counts for
 * the first of them.  Errors: ENOMEM; what naming the image gives, see core/identity.h. */
int trace_layers_to_disk(const struct trace_layers *t, struct image *image, struct trace *out,
			 struct trace_layers_notes *notes, struct err *e);

/* The data of the layers that the reads need, in the reads' order, each sector where it is first
 * read and nowhere else.  EINVAL: the trace is of another image.  Errors: as above. */
int trace_layers_from_disk(const struct trace *t, struct image *image, struct trace_layers *out,
			   struct trace_layers_notes *notes, struct err *e);

#endif
