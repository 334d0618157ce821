/* SPDX-License-Identifier: Apache-2.0 */
/* nearest.h - the known word that a mistyped one was probably meant to be.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_BASE_NEAREST_H
#define OVERLAYBD_BASE_NEAREST_H

#include <stddef.h>

/* The one of `words` (count entries) with the fewest single-character edits to `word`; NULL when
 * none is near enough to be a likely slip (one edit, and one more for every four letters). */
const char *nearest_word(const char *word, const char *const *words, size_t count);

#endif
