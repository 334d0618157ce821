/* SPDX-License-Identifier: Apache-2.0 */
/* image_manifest.h - the two small documents that make an image of layer blobs: the OCI image
 * config and the OCI image manifest (FORMAT.md 11).  The reader's side is manifest.h.
 *
 * The same layers give the same bytes, so the same digest: nothing in them tells when or where they
 * were made.  Threads: no state. */
#ifndef OVERLAYBD_FETCH_IMAGE_MANIFEST_H
#define OVERLAYBD_FETCH_IMAGE_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/digest.h"
#include "core/base/err.h"

#define IMAGE_MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"

struct image_manifest_layer {
	char digest[DIGEST_TEXT]; /* of the blob as it is uploaded */
	uint64_t size; /* bytes of the blob, > 0 */
	uint64_t vsize; /* bytes of the disk; 0: not said */
	bool acceleration; /* no layer of the disk: a trace */
};

struct image_document {
	char *text; /* ends with a NUL that n does not count */
	size_t n;
	char digest[DIGEST_TEXT];
};

struct image_manifest {
	struct image_document config;
	struct image_document manifest; /* refers to the config */
};

/* Builds both.  layers[0] is the bottom; `platform` is "os/arch[/variant]"; `fs_type` names the
 * file system on the disk ("ext4"), NULL: not said.  Errors: EINVAL, EFBIG for a manifest larger
 * than registries take, ENOMEM. */
int image_manifest_build(const struct image_manifest_layer *layers, size_t count,
			 const char *platform, const char *fs_type, struct image_manifest *out,
			 struct err *e);

void image_manifest_release(struct image_manifest *m);

#endif
