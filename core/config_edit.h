/* SPDX-License-Identifier: Apache-2.0 */
/* config_edit.h - changes the text of an image's config, and nothing else in it: comments, order
 * and form stay as they are.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_CORE_CONFIG_EDIT_H
#define OVERLAYBD_CORE_CONFIG_EDIT_H

#include <stddef.h>

#include "core/base/err.h"

/* What a snapshot changes. */
struct config_change {
	const char *layer; /* absolute path; the new topmost of `lowers` */
	const char *data, *index; /* absolute paths, the new `upper` */
};

/* Makes a new text of the config at `path` (absolute), whose text is `text`.  Names of files are
 * relative where the upper's were, and the file lies in the config's folder or below.  The result
 * is read again and must say just what was wanted; else, and for a config without `upper` or with
 * `image`, EINVAL.  The caller frees *out. */
int config_edit(const char *path, const char *text, size_t n, const struct config_change *change,
		char **out, size_t *out_n, struct err *e);

#endif
