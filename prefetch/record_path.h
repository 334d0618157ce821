/* SPDX-License-Identifier: Apache-2.0 */
/* record_path.h - the reference's recordTracePath (FORMAT.md 7): an empty file is recorded into,
 * until PATH.lock, which is made at the start, is removed; then PATH.ok appears.  Any other is
 * replayed.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_PREFETCH_RECORD_PATH_H
#define OVERLAYBD_PREFETCH_RECORD_PATH_H

#include <stdbool.h>

#include "core/image.h"
#include "prefetch/trace.h"

enum record_path {
	RECORD_PATH_NONE, /* no such file: as if it had not been named */
	RECORD_PATH_RECORD,
	RECORD_PATH_REPLAY,
};

/* What to do with the file; makes PATH.lock.  Or -errno. */
int record_path_begin(const char *path, struct err *e);

/* Whether the recording is to end. */
bool record_path_is_over(const char *path);

/* Writes the trace, then PATH.ok. */
int record_path_save(const char *path, struct image *image, const struct trace *t, struct err *e);

#endif
