/* SPDX-License-Identifier: Apache-2.0 */
/* params.h - the plugin's parameters: what is known, what excludes what.
 *
 * Threads: none yet when parameters are read. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_PARAMS_H
#define OVERLAYBD_NBDKIT_PLUGIN_PARAMS_H

#include <stdbool.h>

#include "core/base/err.h"

/* Absolute paths; once all parameters are read, exactly one of them is there. */
struct params {
	char *config; /* of one image */
	char *dir; /* a folder of images */
};

/* The parameter that a bare argument stands for. */
#define PARAMS_MAGIC "config"

/* One line a parameter, for --help. */
#define PARAMS_HELP                                                                                \
	"[config=]FILE         The image to serve: YAML, or overlaybd's config.v1.json.\n"         \
	"dir=DIR               Serve every *.yaml file in DIR as an export of its name."

/* Takes one KEY=VALUE; relative paths count from the working directory.  EINVAL for an unknown or
 * repeated key and for a value that cannot be meant. */
int params_set(struct params *p, const char *key, const char *value, struct err *e);

/* Checks that what must be there is there. */
int params_complete(const struct params *p, struct err *e);

void params_release(struct params *p);

/* Whether a text has the form of an image's name in a registry rather than that of a file:
 * HOST/REPO, a tag or a digest.  Made for messages, it may guess. */
bool params_is_reference(const char *text);

#endif
