/* SPDX-License-Identifier: Apache-2.0 */
/* cache-fill.h - `overlaybd cache fill`: warms a machine with all of an image. */
#ifndef OVERLAYBD_TOOLS_CACHE_FILL_H
#define OVERLAYBD_TOOLS_CACHE_FILL_H

#include "tools/settings.h"

/* Downloads every remote layer of `what`, a config file or a reference, into the cache, with a
 * progress line, and prints a line a layer.  Errors name image, layer and cause. */
int cache_fill(const char *what, const struct settings *settings, struct err *e);

#endif
