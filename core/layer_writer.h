/* SPDX-License-Identifier: Apache-2.0 */
/* layer_writer.h - writes a sealed, dense LSMT layer into a sink.
 *
 * Ranges arrive in ascending order.  Entries that are adjacent on the disk and in the file become
 * one, up to 16383 sectors.  Units: sectors of 512 bytes.  Threads: one at a time.  Errors: final,
 * as in sink.h. */
#ifndef OVERLAYBD_CORE_LAYER_WRITER_H
#define OVERLAYBD_CORE_LAYER_WRITER_H

#include "core/base/sink.h"
#include "core/format.h"

struct layer_writer_options {
	uint64_t virtual_size; /* bytes, a multiple of 512; 0: that of the layers below */
	const char *uuid; /* NULL: the nil uuid; upper-cased */
	const char *parent_uuid; /* NULL: the nil uuid; upper-cased */
	const char *message; /* NULL: none; at most FORMAT_TAG bytes */
	/* Of the file, for the warning that the reference cannot read it; must outlive the writer.
	 * NULL: it is not told. */
	const char *name;
};

struct layer_writer;

/* Writes the header.  EINVAL for options that break a rule.  The writer owns `out` on success. */
int layer_writer_open(struct sink *out, const struct layer_writer_options *options,
		      struct layer_writer **w, struct err *e);

/* Maps [lba, lba + sectors) to these bytes. */
int layer_writer_data(struct layer_writer *w, uint64_t lba, const void *bytes, uint64_t sectors,
		      struct err *e);

/* Maps [lba, lba + sectors) to zeroes. */
int layer_writer_zeroes(struct layer_writer *w, uint64_t lba, uint64_t sectors, struct err *e);

/* Writes index and trailer and finishes the sink. */
int layer_writer_finish(struct layer_writer *w, struct err *e);

/* Closes the sink too; without finish nothing remains of the output.  NULL is allowed. */
void layer_writer_close(struct layer_writer *w);

#endif
