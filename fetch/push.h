/* SPDX-License-Identifier: Apache-2.0 */
/* push.h - uploads: blobs in one piece each, and manifests.
 *
 * Threads: any but the engine's; calls block. */
#ifndef OVERLAYBD_FETCH_PUSH_H
#define OVERLAYBD_FETCH_PUSH_H

#include "fetch/remote.h"

/* Uploads the bytes of `body`, whose digest is `digest`, unless the repository has them.  Returns
 * 0, 1 when they were there, or -errno.  `r` must have been opened to push. */
int push_blob(struct remote *r, const char *digest, struct source *body, struct err *e);

/* Uploads a manifest under a tag or digest. */
int push_manifest(struct remote *r, const char *name, const char *media_type, const void *bytes,
		  size_t n, struct err *e);

#endif
