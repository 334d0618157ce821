/* SPDX-License-Identifier: Apache-2.0 */
/* flatten.h - writes what mappings say, in the order of the disk, into a layer: reading runs in the
 * pool, writing keeps the order.
 *
 * The layer does not depend on how the ranges were cut into mappings, nor on the pool. */
#ifndef OVERLAYBD_TOOLS_FLATTEN_H
#define OVERLAYBD_TOOLS_FLATTEN_H

#include "core/index.h"
#include "core/layer_writer.h"

struct flatten {
	const char *what; /* "committing", for the progress line */
	const struct mapping *maps; /* sorted */
	size_t count;
	uint64_t end; /* sector: what lies from there on is left out */
	bool drop_zeroed; /* leave out what is zeroed */
	bool remote; /* data are worth asking for before they are read */
	struct source *(*source)(void *arg, size_t layer); /* where a layer's moffset counts */
	/* Names the layer in an error of reading.  Returns r. */
	int (*fail)(void *arg, size_t layer, int r, struct err *e);
	void *arg;
	uint64_t data, zeroed; /* out: bytes written and marked */
};

/* Leaves the writer unfinished.  Errors: of reading and writing. */
int flatten_write(struct flatten *f, struct layer_writer *writer, struct workers *pool,
		  struct err *e);

#endif
