/* SPDX-License-Identifier: Apache-2.0 */
/* check-layer.h - all of one sealed layer file, for `overlaybd check`: its digest and size, the tar
 * wrapper, every block of a ZFile, every rule of the LSMT layer in it. */
#ifndef OVERLAYBD_TOOLS_CHECK_LAYER_H
#define OVERLAYBD_TOOLS_CHECK_LAYER_H

#include "core/base/workers.h"
#include "core/layer.h"
#include "tools/findings.h"

/* A layer file and what is said of it. */
struct layer_claim {
	const char *file; /* its name in messages, when `bytes` are given */
	struct source
		*bytes; /* of a layer that is no file, check_layer's then; NULL: read the file */
	const char *digest; /* NULL: nothing */
	uint64_t size; /* 0: nothing */
};

/* Adds what is wrong with the layer file, and tells f->progress how much of the file is read.
 * `number` is its place in an image.  A ZFile that holds something else than a layer is an error
 * when `must_hold_layer`, else a warning.  Returns true when the layer was opened as *out, which is
 * the caller's to close. */
bool check_layer(const struct layer_claim *claim, size_t number, bool must_hold_layer,
		 struct workers *pool, struct findings *f, struct layer *out);

#endif
