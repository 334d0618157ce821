/* SPDX-License-Identifier: Apache-2.0 */
/* hidden.h - what layers map beyond the end of a disk: it would show when the disk grows. */
#ifndef OVERLAYBD_TOOLS_HIDDEN_H
#define OVERLAYBD_TOOLS_HIDDEN_H

#include "core/index.h"

/* Zeroed mappings over all that `index` maps in [from, to), sectors.  The caller frees out->maps.
 * -ENOMEM. */
int hidden_marks(const struct index *index, uint64_t from, uint64_t to, struct mapping_run *out);

/* Whether the index maps data in [from, to). */
bool hidden_has_data(const struct index *index, uint64_t from, uint64_t to);

#endif
