/* SPDX-License-Identifier: Apache-2.0 */
/* upper_names.h - the names of a writable layer's files, which nothing else may be written to. */
#ifndef OVERLAYBD_CORE_UPPER_NAMES_H
#define OVERLAYBD_CORE_UPPER_NAMES_H

#include "core/base/err.h"

/* EINVAL when `path` leads to a file of the layer, by whatever name, or has a name under which it
 * keeps others: what waits to be flushed, what is being changed. */
int upper_names_refuse(const char *data_path, const char *index_path, const char *path,
		       struct err *e);

#endif
