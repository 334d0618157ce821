/* SPDX-License-Identifier: Apache-2.0 */
/* referrers.h - small artifacts that are stored in a registry beside the image that they refer to,
 * and are found by its digest.
 *
 * OCI distribution 1.1: the artifact is a manifest whose `subject` is the image's; the registry
 * lists those at /referrers/DIGEST, and where it does not know that, whoever pushes keeps the list
 * as an index under the tag sha256-HEX.
 *
 * Threads: any but the engine's; calls block.  What comes is checked against its digests. */
#ifndef OVERLAYBD_FETCH_REFERRERS_H
#define OVERLAYBD_FETCH_REFERRERS_H

#include "fetch/remote.h"

/* The bytes of the newest artifact of a type that refers to the manifest `subject`; the caller
 * frees them.  -ENOENT: there is none.  EFBIG: more than `limit` bytes. */
int referrers_find(struct remote *r, const char *subject, const char *type, size_t limit,
		   char **bytes, size_t *n, struct err *e);

/* Stores n bytes as such an artifact; `r` must have been opened to push.  `digest` gets that of the
 * artifact's manifest. */
int referrers_push(struct remote *r, const char *subject, const char *type, const void *bytes,
		   size_t n, char digest[DIGEST_TEXT], struct err *e);

#endif
