/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - where the trace of an image lies: a file in the cache folder, by the image's identity.
 */
#ifndef OVERLAYBD_PREFETCH_STORE_H
#define OVERLAYBD_PREFETCH_STORE_H

#include <stdbool.h>

#include "prefetch/trace.h"

/* DIR/traces/<hex digits of the identity>.trace; the caller frees it.  NULL: no memory. */
char *store_path(const char *cache_dir, const char *identity);

/* Whether the registry was asked for a trace of the image in the last hour and had none; and that
 * it was, just now. */
bool store_was_asked(const char *cache_dir, const char *identity);
void store_note_asked(const char *cache_dir, const char *identity);

/* Whether a file holds something that does not begin like a trace of ours, so that none must take
 * its place. */
bool store_is_foreign(const char *path);

/* Makes DIR/traces.  Errors: what making a folder gives. */
int store_make_folder(const char *cache_dir, struct err *e);

#endif
