/* SPDX-License-Identifier: Apache-2.0 */
/* check-index.h - every rule of a sealed LSMT layer's header, trailer and index, for
 * `overlaybd check`.  layer_open stops at the first fault; this goes on. */
#ifndef OVERLAYBD_TOOLS_CHECK_INDEX_H
#define OVERLAYBD_TOOLS_CHECK_INDEX_H

#include "core/base/source.h"
#include "tools/findings.h"

/* Adds what is wrong with the LSMT file that `data` holds. */
void check_index(struct source *data, struct findings *f);

#endif
