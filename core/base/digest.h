/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h - sha256 digests as the registries write them: "sha256:" and 64 hex digits in lower
 * case. */
#ifndef OVERLAYBD_BASE_DIGEST_H
#define OVERLAYBD_BASE_DIGEST_H

#include <stdbool.h>

#include "core/base/source.h"

enum { DIGEST_TEXT = 7 + 64 + 1 }; /* with the NUL */

/* Whether text has exactly this form. */
bool digest_is_valid(const char *text);

/* Of bytes that come one after the other.  Threads: one at a time. */
struct digest {
	struct evp_md_ctx_st *context; /* libcrypto's */
};

int digest_open(struct digest *d, struct err *e);
int digest_update(struct digest *d, const void *bytes, size_t n, struct err *e);

/* The digest of all of them; only digest_close may follow. */
int digest_finish(struct digest *d, char out[DIGEST_TEXT], struct err *e);
void digest_close(struct digest *d);

/* The digest of n bytes of memory. */
int digest_bytes(const void *bytes, size_t n, char out[DIGEST_TEXT], struct err *e);

/* The digest of all bytes of s, read in large pieces. */
int digest_source(struct source *s, char out[DIGEST_TEXT], struct err *e);

#endif
