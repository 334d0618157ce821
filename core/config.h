/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the description of an image: our YAML or the reference's config.v1.json, which is
 * (nearly) YAML too.
 *
 * All paths come out absolute, counted from the config file's folder.  Null and an empty string
 * mean absent.  An unknown or duplicate key is an error with file, line and the nearest known key.
 * In messages the bottom layer is layer 0. */
#ifndef OVERLAYBD_CORE_CONFIG_H
#define OVERLAYBD_CORE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct lower_config {
	char *file; /* absolute path, NULL: not said */
	char *dir; /* absolute path of a folder to look in, NULL: not said */
	char *digest; /* "sha256:<64 hex digits>", or NULL */
	uint64_t size; /* bytes of the blob, 0: not said */
	unsigned line; /* of the config file, where it begins */
};

struct image_config {
	char *path; /* absolute path of the config file */
	struct lower_config *lowers; /* [0] is the bottom */
	size_t lower_count;
	char *upper_data; /* NULL: no upper */
	char *upper_index;
	char *result_file; /* NULL: none; gets "success" or "failed:REASON" */
	char *description; /* NULL: none; shown to clients that list exports */
};

/* Reads the file at `path`, and looks at no other.  Errors: EINVAL for what the text says, EFBIG,
 * ENOENT and other -errno for a file that cannot be had; the message begins with the file and,
 * where there is one, the line number. */
int config_load(const char *path, struct image_config **out, struct err *e);

/* The same from memory; `path` serves for messages and as the base of relative paths. */
int config_parse(const char *path, const char *text, size_t n, struct image_config **out,
		 struct err *e);

/* Where a layer's file is: `file` when it exists, else the first that exists in `dir` of
 * overlaybd.commit, .commit and overlaybd.sealed.  The caller frees *out, an absolute path.  ENOENT
 * when there is none, or what looking for it gave; the message is for putting config, line and
 * layer in front. */
int config_find_lower(const struct lower_config *lower, char **out, struct err *e);

/* EINVAL when `path` leads to one of the files that the image consists of, by whatever name: the
 * config, a layer that is found, a part of the upper.  Writing there would destroy it. */
int config_refuse_own_file(const struct image_config *c, const char *path, struct err *e);

/* NULL is allowed. */
void config_free(struct image_config *c);

#endif
