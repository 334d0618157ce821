/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - the description of an image: our YAML or the reference's config.v1.json, which is
 * (nearly) YAML too; or just its name in a registry.
 *
 * All paths come out absolute, counted from the config file's folder.  Null and an empty string
 * mean absent.  An unknown key is an error with file, line and the nearest known key; in a file
 * that is JSON, which is what the reference's programs write, it is a warning.  A duplicate key is
 * an error.
 * How blobs are fetched is said by built-in defaults, the service file, the config and the caller's
 * options; the later one counts (config_setting.h).  In messages the bottom layer is layer 0. */
#ifndef OVERLAYBD_CORE_CONFIG_H
#define OVERLAYBD_CORE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/config_setting.h"
#include "fetch/settings.h"

struct lower_config {
	char *file; /* absolute path, NULL: not said */
	char *dir; /* absolute path of a folder to look in, NULL: not said */
	char *digest; /* a sha256 or sha512, see core/base/digest.h, or NULL */
	uint64_t size; /* bytes of the blob, 0: not said */
	const char *repo_blob_url; /* the config's: with a digest, it can be fetched from there */
	unsigned line; /* of the config file, where it begins */
};

struct image_config {
	char *path; /* absolute path of the config file; the reference when there is no file */
	char *image; /* a reference to an image in a registry, not parsed; then there are no lowers.
		      * NULL: none */
	char *repo_blob_url; /* the address that, with /DIGEST, is a lower's blob; NULL: none */
	struct lower_config *lowers; /* [0] is the bottom */
	size_t lower_count;
	bool acceleration_layer; /* the config had one more, on top, that holds no disk data */
	char *acceleration_dir; /* the `dir` of that; NULL: not said */
	char *record_trace_path; /* absolute path of a trace of the reference; NULL: none */
	char *upper_data; /* NULL: no upper */
	char *upper_index;
	bool upper_is_option; /* the caller's options name it, not the file */
	unsigned upper_garbage; /* see struct upper_log_options; percent */
	char *control; /* absolute path of the control socket; NULL: none */
	char *result_file; /* NULL: none; gets "success" or "failed:REASON" */
	char *description; /* NULL: none; shown to clients that list exports */
	struct fetch_settings fetch;
};

/* What the caller adds: parameters, options of a command line. */
struct config_options {
	const char *service; /* see service_load; NULL: what the config says, or the default */
	const struct config_setting *settings; /* in order; they count before all else */
	size_t setting_count;
	const char *folder; /* base of relative paths in settings; NULL: the working directory */
	const char *digest; /* pins `image` to this manifest, whatever its tag means; NULL: no */
	const char
		*upper; /* absolute path; the upper is this with .data and .index; NULL: not said */
	const char *upper_garbage; /* a number, checked; NULL: not said */
	const char *control; /* absolute path; NULL: not said */
};

enum {
	CONFIG_GARBAGE = 50, /* percent, where nothing is said */
	CONFIG_CONTROL_MAX = 107, /* bytes of a socket's name */
};

/* Reads the file at `path`, and the service file.  `options` may be NULL.  Errors: EINVAL for what
 * a text says, EFBIG, ENOENT and other -errno for a file that cannot be had; the message begins
 * with the file and, where there is one, the line number. */
int config_load(const char *path, const struct config_options *options, struct image_config **out,
		struct err *e);

/* The same from memory; `path` serves for messages and as the base of relative paths. */
int config_parse(const char *path, const char *text, size_t n, const struct config_options *options,
		 struct image_config **out, struct err *e);

/* The config that says nothing but `image: REFERENCE`. */
int config_from_image(const char *reference, const struct config_options *options,
		      struct image_config **out, struct err *e);

/* Reads a percentage, 0 to 100.  EINVAL; the message is for putting a name in front. */
int config_parse_percent(const char *text, unsigned *out, struct err *e);

/* EINVAL when a text cannot be a reference, or may hold a password.  The message is for putting a
 * name in front, and does not quote the text.  What it lets pass, reference_parse decides on. */
int config_check_reference(const char *text, struct err *e);

/* Where a layer's file is: `file` when it exists, else the first that exists in `dir` of
 * overlaybd.commit, .commit and overlaybd.sealed.  The caller frees *out, an absolute path.  1 when
 * there is none and the layer can be fetched (*out is unchanged); ENOENT when it cannot, or what
 * looking for it gave; the message is for putting config, line and layer in front. */
int config_find_lower(const struct lower_config *lower, char **out, struct err *e);

/* EINVAL when `path` leads to one of the files that the image consists of, by whatever name: the
 * config, a layer that is found, a part of the upper.  Writing there would destroy it. */
int config_refuse_own_file(const struct image_config *c, const char *path, struct err *e);

/* NULL is allowed. */
void config_free(struct image_config *c);

#endif
