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

/* The digest of all bytes of s, read in large pieces. */
int digest_source(struct source *s, char out[DIGEST_TEXT], struct err *e);

#endif
