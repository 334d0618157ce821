/* SPDX-License-Identifier: Apache-2.0 */
/* chain.h - a layer file stage by stage: file, tar wrapper, ZFile, as they are found.
 *
 * An image opens all of a layer or nothing.  The tools also want what lies in a damaged one, and
 * ZFiles that hold no layer.  Threads: one at a time, but reads of `top` may run concurrently. */
#ifndef OVERLAYBD_CORE_CHAIN_H
#define OVERLAYBD_CORE_CHAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/source.h"
#include "zfile/tar.h"
#include "zfile/zformat.h"

struct chain {
	struct source *top; /* the innermost stage that is open; owns those below */
	uint64_t file_size;
	bool in_tar;
	struct tar_layout tar; /* when in_tar */
	bool in_zfile; /* top is the ZFile then */
	struct zheader zfile; /* when in_zfile */
};

/* Opens the file, and nothing in it. */
int chain_open(const char *path, struct chain *c, struct err *e);

/* Begins with a source that is open, and takes it over. */
void chain_begin(struct source *bytes, struct chain *c);

/* Goes through a tar wrapper, then through a ZFile, when there is one.  On failure the chain stays
 * as it was. */
int chain_enter_tar(struct chain *c, struct err *e);
int chain_enter_zfile(struct chain *c, struct err *e);

/* All of it, down to an LSMT layer: EBADMSG when there is none.  What is wrong is dropped below and
 * read once more: a cache may hold wrong bytes, and fetch better ones. */
int chain_enter_layer(struct chain *c, struct err *e);

/* All three steps; closed again on failure. */
int chain_open_all(const char *path, struct chain *c, struct err *e);

/* Whether the innermost stage has the magic of an LSMT layer: 0; 1 for a ZFile or tar archive that
 * holds something else; -EBADMSG for a file that is something else altogether, or what reading it
 * gives.  Unless 0, the text says why. */
int chain_find_layer(struct chain *c, struct err *e);

/* Allowed more than once. */
void chain_close(struct chain *c);

/* Whether `path` holds a layer or ZFile (a tar header, or the magic of a ZFile or an LSMT layer)
 * rather than the text of a config: 1 or 0; -EBADMSG for bytes that can be neither, or what opening
 * it gives. */
int chain_is_layer(const char *path, struct err *e);

#endif
