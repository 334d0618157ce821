/* SPDX-License-Identifier: Apache-2.0 */
/* manifest.h - OCI and docker manifests and indexes: which blobs make an overlaybd image.
 *
 * A layer of an overlaybd image carries the annotations
 * containerd.io/snapshot/overlaybd/blob-digest and .../blob-size (they count before the
 * descriptor's digest and size), optionally .../acceleration-layer "yes".
 * Threads: no state.  Input is hostile: JSON through jansson, at most MANIFEST_MAX bytes, depth
 * limited by it, counts capped. */
#ifndef OVERLAYBD_FETCH_MANIFEST_H
#define OVERLAYBD_FETCH_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/digest.h"
#include "core/base/err.h"

enum { MANIFEST_MAX = 4 * 1024 * 1024 }; /* bytes, what registries allow */

/* What to accept, for the Accept header: OCI and docker, manifests and indexes. */
#define MANIFEST_ACCEPT                                                                            \
	"application/vnd.oci.image.manifest.v1+json, "                                             \
	"application/vnd.oci.image.index.v1+json, "                                                \
	"application/vnd.docker.distribution.manifest.v2+json, "                                   \
	"application/vnd.docker.distribution.manifest.list.v2+json"

struct manifest_layer {
	char digest[DIGEST_ANY_TEXT];
	uint64_t size; /* bytes of the blob, > 0 */
};

struct manifest {
	struct manifest_layer *layers; /* [0] is the bottom; without the acceleration layer */
	size_t layer_count;
	struct manifest_layer acceleration; /* digest "": there is none */
};

enum manifest_kind {
	MANIFEST_IMAGE, /* *out is filled */
	MANIFEST_INDEX, /* `chosen` is the digest of the manifest for the platform */
};

/* Reads a manifest or index.  `platform` is "os/arch[/variant]", NULL for this machine's.  Returns
 * the kind, or -errno: EINVAL, and the text says what is wrong, in particular
 *   "not an overlaybd image: layer 0 has no overlaybd annotation; convert it first"
 *   "no manifest for platform linux/arm64; there is: linux/amd64, linux/s390x" */
int manifest_parse(const char *text, size_t n, const char *platform, struct manifest *out,
		   char chosen[DIGEST_ANY_TEXT], struct err *e);

/* "linux/amd64" and so on: this machine's platform. */
const char *manifest_platform(void);

void manifest_release(struct manifest *m);

#endif
