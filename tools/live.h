/* SPDX-License-Identifier: Apache-2.0 */
/* live.h - images whose config a server replaces while a tool reads it: a snapshot puts another
 * file in the config's place, and removes those that only the old one named. */
#ifndef OVERLAYBD_TOOLS_LIVE_H
#define OVERLAYBD_TOOLS_LIVE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "core/config.h"
#include "core/image.h"

enum { LIVE_TRIES = 100 }; /* of a config that is replaced again and again */

/* What a file is; compared with what it is later. */
struct live_file {
	struct stat status;
	bool known;
};

void live_look(const char *path, struct live_file *out);

/* Whether another file has this name now. */
bool live_was_replaced(const char *path, const struct live_file *before);

/* Loads a config and opens its image; anew when that fails because the config was replaced
 * meanwhile.  The caller closes the image, then frees the config. */
int live_open(const char *path, struct image_config **config, struct image **image, struct err *e);

#endif
