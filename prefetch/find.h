/* SPDX-License-Identifier: Apache-2.0 */
/* find.h - the traces of an image, wherever they may be.
 *
 * All of them return 0; -ENOENT: there is none; or what went wrong, and the text names the place.
 * A trace that is handed out is of this image, and the caller releases it.  Threads: no state. */
#ifndef OVERLAYBD_PREFETCH_FIND_H
#define OVERLAYBD_PREFETCH_FIND_H

#include "core/image.h"
#include "prefetch/trace.h"

/* What an artifact that holds a trace is to a registry, and its layer. */
#define FIND_ARTIFACT "application/vnd.nbdkit-overlaybd.trace.v1"

/* Our trace in a file.  EINVAL: it is another image's. */
int find_file(const char *path, const char *identity, struct image *image, struct trace *out,
	      struct err *e);

/* One that was pushed beside the image.  Asks the registry. */
int find_pushed(const char *identity, struct image *image, struct trace *out, struct err *e);

/* That of the reference in the image's acceleration layer.  `follows_paths`: also a list of paths,
 * for which the file system on the disk is parsed; without it that is EPERM. */
int find_acceleration(struct image *image, bool follows_paths, struct trace *out, struct err *e);

#endif
