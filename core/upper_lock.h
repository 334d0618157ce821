/* SPDX-License-Identifier: Apache-2.0 */
/* upper_lock.h - one process at a time has a writable layer: the lock of its data file. */
#ifndef OVERLAYBD_CORE_UPPER_LOCK_H
#define OVERLAYBD_CORE_UPPER_LOCK_H

#include "core/upper_file.h"

/* Opens the data file (O_CREAT among the flags makes it) and takes its lock, which ends when the
 * descriptor is closed.  `ops` NULL: the system's.  Returns the descriptor, or -errno: EBUSY names
 * the process that has it, where that is known. */
int upper_lock_open(const struct file_ops *ops, const char *data_path, int flags, struct err *e);

#endif
