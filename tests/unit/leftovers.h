/* SPDX-License-Identifier: Apache-2.0 */
/* leftovers.h - what a unit test leaves behind is a failure; each of them is linked with this. */
#ifndef OVERLAYBD_TESTS_UNIT_LEFTOVERS_H
#define OVERLAYBD_TESTS_UNIT_LEFTOVERS_H

#include "core/base/log.h"

/* Of the descriptors, so many may stay open, for the process keeps them for good. */
extern unsigned leftovers_allowed;

/* Texts, up to a NULL, of which each warning that the test provokes holds one.  NULL: there are
 * none. */
extern const char *const *leftovers_warnings;

/* Where lines go from the start, and again after a test that looked at them itself. */
void leftovers_sink(enum log_level level, const char *line);

#endif
