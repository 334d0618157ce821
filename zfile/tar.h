/* SPDX-License-Identifier: Apache-2.0 */
/* tar.h - the tar wrapper of a layer blob: an archive with one file, the payload.
 *
 *   [pax header 'x' | its records]  payload header | payload | NULs to 512 | two zero blocks
 *
 * Format: POSIX ustar and pax; the writer's bytes are those of the reference implementation, so
 * that the same payload has the same digest.  Units: bytes. */
#ifndef OVERLAYBD_ZFILE_TAR_H
#define OVERLAYBD_ZFILE_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/sink.h"
#include "core/base/source.h"

struct tar_layout {
	uint64_t payload_offset;
	uint64_t payload_size;
	char name[101]; /* the payload's name, what is not printable ASCII as "?" */
	bool pax; /* a pax header gave the size */
	bool end_blocks; /* the two zero blocks are there */
};

/* Finds the payload.  Returns 0 with *out filled, 1 when s is not a tar archive (a bare payload),
 * or -EBADMSG: a tar that holds something else, or less than it says. */
int tar_parse(struct source *s, struct tar_layout *out, struct err *e);

/* A sink that wraps what is written into a tar archive, with the pax header.  `below` must be new
 * (nothing written yet) and able to patch. */
int tar_open_sink(struct sink *below, struct sink **out, struct err *e);

/* Wraps n bytes, less than 4 GiB, into an archive of their own, as the file `name` of at most 99
 * bytes; the caller frees *out.  -ENOMEM. */
int tar_pack(const char *name, const void *bytes, size_t n, void **out, size_t *out_n,
	     struct err *e);

#endif
