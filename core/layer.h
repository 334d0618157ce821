/* SPDX-License-Identifier: Apache-2.0 */
/* layer.h - one LSMT layer: its bytes, its identity, its mappings.
 *
 * Threads: none of these calls share state. */
#ifndef OVERLAYBD_CORE_LAYER_H
#define OVERLAYBD_CORE_LAYER_H

#include "core/base/source.h"
#include "core/format.h"
#include "core/index.h"

struct layer {
	struct source *data; /* the LSMT file's bytes: moffset counts from its byte 0 */
	struct format_header header; /* the trailer's values in a sealed layer */
	struct mapping_run run; /* for index_merge */
	uint64_t entries; /* index entries in the file, padding not counted */
};

/* Reads header, trailer and index of a sealed layer and checks every rule.  `number` is the layer's
 * place in the image (0: bottom) and goes into each mapping.  On success the layer owns `data`.
 * Errors: EBADMSG naming the rule, and what reading gives. */
int layer_open(struct source *data, size_t number, struct layer *out, struct err *e);

/* Reads the trailer alone.  `header` tells a writable layer's data file from a damaged layer; NULL
 * when it could not be read. */
int layer_read_trailer(struct source *data, const struct format_header *header,
		       struct format_header *trailer, struct err *e);

/* Sets the text for a fault of index entry `number` and returns -EBADMSG. */
int layer_bad_entry(struct err *e, uint64_t number, const struct format_entry *entry,
		    const char *fault);

/* Closes the source and frees what run still holds. */
void layer_close(struct layer *l);

#endif
