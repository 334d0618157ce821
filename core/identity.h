/* SPDX-License-Identifier: Apache-2.0 */
/* identity.h - a name for what the lowers of an image hold, wherever they lie: a trace belongs to
 * it.
 *
 * It is the sha256 over the digests of the lowers, from the bottom, one a line.  A lower without a
 * digest counts by the sha256 of its trailer and index, as they stand in its LSMT file, each
 * mapping of it being there.  The upper does not count. */
#ifndef OVERLAYBD_CORE_IDENTITY_H
#define OVERLAYBD_CORE_IDENTITY_H

#include "core/base/digest.h"
#include "core/image.h"

/* Reads what it needs of lowers without a digest.  Errors: what reading gives, naming the layer;
 * ENOMEM. */
int image_identity(struct image *image, char out[DIGEST_TEXT], struct err *e);

#endif
