/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - writes the statistics of disks to the files that their configs name.
 *
 * Threads: one at a time. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_REPORT_H
#define OVERLAYBD_NBDKIT_PLUGIN_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "nbdkit-plugin/disk.h"

/* Disks that name one file share it.  Standard output ("-") gets them when `last` is set, files
 * always. A file that cannot be written is a warning. */
void report_write(struct disk *const *disks, size_t count, bool last);

#endif
