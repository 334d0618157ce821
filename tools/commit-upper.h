/* SPDX-License-Identifier: Apache-2.0 */
/* commit-upper.h - a dense layer of what a writable layer holds. */
#ifndef OVERLAYBD_TOOLS_COMMIT_UPPER_H
#define OVERLAYBD_TOOLS_COMMIT_UPPER_H

#include "tools/layer-output.h"

/* `overlaybd commit UPPER|CONFIG`: the layer that the first operand names. */
int commit_upper(const struct tool_args *args, const struct output_form *form, struct err *e);

#endif
