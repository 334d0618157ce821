/* SPDX-License-Identifier: Apache-2.0 */
/* upper_names.h - the names of a writable layer's files, which nothing else may be written to. */
#ifndef OVERLAYBD_CORE_UPPER_NAMES_H
#define OVERLAYBD_CORE_UPPER_NAMES_H

#include "core/base/err.h"
#include "core/upper_file.h"

/* EINVAL when `path` leads to a file of the layer, by whatever name, or has a name under which the
 * layer, or one that a snapshot puts in its place (UPPER-1, UPPER-2 and so on), keeps others: what
 * waits to be flushed, what is being changed. */
int upper_names_refuse(const char *data_path, const char *index_path, const char *path,
		       struct err *e);

/* The second part of that alone. */
int upper_names_refuse_kept(const char *data_path, const char *path, struct err *e);

/* Bytes of a data file's name before ".data" and before a number that a snapshot gave it, which
 * goes to *number. */
size_t upper_names_stem(const char *data_path, unsigned *number);

/* Removes files that processes which were killed left under names of upper_file_temporary: parts of
 * the log with this uuid, or empty.  By who has the log's lock.  What cannot be removed stays. */
void upper_names_tidy(const struct file_ops *ops, const char *data_path, const char *index_path,
		      const char *uuid);

#endif
