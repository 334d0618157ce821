/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h - what the system lets this process have. */
#ifndef OVERLAYBD_BASE_LIMITS_H
#define OVERLAYBD_BASE_LIMITS_H

/* Raises the number of files that may be open to what the process may raise it to: each layer takes
 * one.  Where that fails the limit stays, and the file that is too many says so.  For programs that
 * do not use select(2).  Threads: any, but once is enough. */
void limits_raise_files(void);

#endif
