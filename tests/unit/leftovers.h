/* SPDX-License-Identifier: Apache-2.0 */
/* leftovers.h - what a unit test leaves behind is a failure; each of them is linked with this. */
#ifndef OVERLAYBD_TESTS_UNIT_LEFTOVERS_H
#define OVERLAYBD_TESTS_UNIT_LEFTOVERS_H

/* Of the descriptors, so many may stay open, for the process keeps them for good. */
extern unsigned leftovers_allowed;

#endif
