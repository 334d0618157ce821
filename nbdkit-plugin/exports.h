/* SPDX-License-Identifier: Apache-2.0 */
/* exports.h - a folder of images: each NAME.yaml directly in it is an export called NAME.
 *
 * An image is opened when its first client comes, shared by the clients that come while it is open,
 * and closed when the last one has gone; the next client finds the file as it is then.
 * Names are looked up in the folder's listing and never joined to a path, so that a name with a
 * slash in it leads nowhere.  A file counts when it is a regular file or a link to one, and its
 * name is plain (core/base/text.h) and does not begin with a dot.
 *
 * Threads: all calls but open and close may run concurrently. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_EXPORTS_H
#define OVERLAYBD_NBDKIT_PLUGIN_EXPORTS_H

#include <stddef.h>

#include "core/base/err.h"
#include "nbdkit-plugin/disk.h"

struct exports;

struct export_names {
	char **names; /* sorted by their bytes */
	size_t count;
};

/* Fails when the folder at `folder`, an absolute path, cannot be listed.  `options` are those of
 * every image in it; NULL, or there as long as the exports are, as is the fetcher. */
int exports_open(const char *folder, const struct config_options *options, struct fetcher *fetcher,
		 struct exports **out, struct err *e);

/* All disks must have been released.  NULL is allowed. */
void exports_close(struct exports *x);

/* The names that are there now; the caller releases them. */
int exports_list(const struct exports *x, struct export_names *out, struct err *e);
void export_names_release(struct export_names *names);

/* The disk of an export, which is open until exports_release.  The empty name stands for the only
 * image of the folder.  ENOENT when there is no such export; an image that does not open concerns
 * its own clients only and is tried anew for the next one. */
int exports_acquire(struct exports *x, const char *name, struct disk **out, struct err *e);
void exports_release(struct exports *x, struct disk *d);

/* Acquires every disk that is open.  The caller releases each, and frees *out.  -ENOMEM. */
int exports_acquire_all(struct exports *x, struct disk ***out, size_t *count);

#endif
