/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h - digests as the registries write them: "sha256:" and 64 hex digits in lower case, or
 * "sha512:" and 128.
 *
 * What we write is named by a sha256.  What others have named by a sha512, in a config, a reference
 * or a manifest, is fetched, compared and kept in the cache by that. */
#ifndef OVERLAYBD_BASE_DIGEST_H
#define OVERLAYBD_BASE_DIGEST_H

#include <stdbool.h>

#include "core/base/source.h"

enum {
	DIGEST_TEXT = 7 + 64 + 1, /* of a sha256, with the NUL */
	DIGEST_ANY_TEXT = 7 + 128 + 1, /* of either */
};

/* Whether text is a sha256 digest of exactly this form. */
bool digest_is_valid(const char *text);

/* Whether it is a digest of either form: what everybody asks who takes one from outside. */
bool digest_is_any(const char *text);

/* What a digest must be, for messages. */
#define DIGEST_FORM "'sha256:' and 64 hex digits in lower case, nor 'sha512:' and 128"

/* Where a name has "@sha256:" or "@sha512:": what comes behind that, else NULL. */
const char *digest_in_name(const char *name);

/* Copies one that is of either form. */
void digest_copy(char out[DIGEST_ANY_TEXT], const char *digest);

/* Of bytes that come one after the other.  Threads: one at a time. */
struct digest {
	struct evp_md_ctx_st *context; /* libcrypto's */
	bool is_sha512;
};

int digest_open(struct digest *d, struct err *e);

/* One of the kind that `like`, a digest, is; digest_finish_any ends it. */
int digest_open_like(const char *like, struct digest *d, struct err *e);
int digest_update(struct digest *d, const void *bytes, size_t n, struct err *e);

/* The digest of all of them; only digest_close may follow. */
int digest_finish(struct digest *d, char out[DIGEST_TEXT], struct err *e);
int digest_finish_any(struct digest *d, char out[DIGEST_ANY_TEXT], struct err *e);
void digest_close(struct digest *d);

/* The digest of n bytes of memory. */
int digest_bytes(const void *bytes, size_t n, char out[DIGEST_TEXT], struct err *e);

/* The same, of the kind that `like` is. */
int digest_bytes_like(const char *like, const void *bytes, size_t n, char out[DIGEST_ANY_TEXT],
		      struct err *e);

/* The digest of all bytes of s, read in large pieces. */
int digest_source(struct source *s, char out[DIGEST_TEXT], struct err *e);

/* The same, of the kind that `like` is. */
int digest_source_like(const char *like, struct source *s, char out[DIGEST_ANY_TEXT],
		       struct err *e);

#endif
