/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h - an image that is being served, and what clients are told about it.
 *
 * Threads: a disk never changes after disk_open; disk_close must be the last call. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_DISK_H
#define OVERLAYBD_NBDKIT_PLUGIN_DISK_H

#include "core/base/err.h"
#include "core/config.h"
#include "core/image.h"
#include "nbdkit-plugin/control.h"
#include "prefetch/launch.h"

struct disk {
	struct image_config *config;
	struct image *image;
	struct launch *launch;
	struct control *control; /* NULL: none is asked for */
	char *description; /* the config's, or one made up; escaped, fit for the protocol */
};

/* Reads the config at `path` and opens its layers, the upper for writing.  `options` as for
 * config_load, `fetcher` as in image.h.  When the config names a result file, the outcome is
 * written there, and failing to write it fails the call, as does a result file that is one of the
 * image's own.  Errors begin with the config's path. */
int disk_open(const char *path, const struct config_options *options, struct fetcher *fetcher,
	      struct disk **out, struct err *e);

/* The same for an image of a registry, without a config file. */
int disk_open_image(const char *reference, const struct config_options *options,
		    struct fetcher *fetcher, struct disk **out, struct err *e);

/* Starts what runs beside the reads: replay, the background download that the config asks for, and
 * the control socket's answers.  That one of them cannot be is a warning in the log, since reads do
 * without it; whoever has the disk may try the download again.  After a fork. */
void disk_start(struct disk *d);

/* NULL is allowed. */
void disk_close(struct disk *d);

#endif
