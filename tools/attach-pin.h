/* SPDX-License-Identifier: Apache-2.0 */
/* attach-pin.h - which disk it is that a device is attached to.
 *
 * Threads: none when it returns. */
#ifndef OVERLAYBD_TOOLS_ATTACH_PIN_H
#define OVERLAYBD_TOOLS_ATTACH_PIN_H

#include <stdbool.h>

#include "core/base/digest.h"
#include "tools/settings.h"

/* Checks a config file, or a reference, and finds the digest of the manifest that it means now; ""
 * when it names no image of a registry.  Errors as those of opening the image. */
int attach_pin(const char *source, bool is_config, const struct settings *settings,
	       char digest[DIGEST_ANY_TEXT], struct err *e);

#endif
