/* SPDX-License-Identifier: Apache-2.0 */
/* pair.h - the writable layer that a command line names: UPPER, for the files UPPER.data and
 * UPPER.index, or a config that has an `upper:`, whatever its files are called. */
#ifndef OVERLAYBD_TOOLS_PAIR_H
#define OVERLAYBD_TOOLS_PAIR_H

#include "core/config.h"

struct pair {
	char *data, *index; /* paths */
	struct image_config *config; /* NULL: it was named by itself */
};

/* The two paths, whether they exist or not.  ENOMEM. */
int pair_of_name(const char *name, struct pair *out, struct err *e);

/* What the operand names.  ENOENT: neither; EINVAL: a config without an upper. */
int pair_find(const char *operand, struct pair *out, struct err *e);

/* Keeps others from writing to the layer with this data file, for a command that makes a layer of
 * it. A descriptor, to be closed; or -errno: EBUSY names who has it, and says what can be done. */
int pair_lock(const char *data, struct err *e);

/* Leaves the lower layers of an image. */
void pair_drop_upper(struct image_config *config);

/* Allowed more than once. */
void pair_release(struct pair *p);

#endif
