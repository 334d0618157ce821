/* SPDX-License-Identifier: Apache-2.0 */
/* quit.h - tells at once when the server is told to end, though clients are still attached.
 *
 * nbdkit calls .close and .cleanup when the last client has gone, which may be never.  The one call
 * of its API that notices earlier, nbdkit_nanosleep, logs an error each time.  So the signals that
 * end nbdkit get a handler of ours, which notes them and then calls nbdkit's.
 *
 * What ends nbdkit without a signal (nbdkit_shutdown, called by a filter such as exitlast) is not
 * noticed here: quit_tell in .cleanup takes its place.
 *
 * Threads: quit_watch and quit_forget while no other call runs; the others may run concurrently. */
#ifndef OVERLAYBD_NBDKIT_PLUGIN_QUIT_H
#define OVERLAYBD_NBDKIT_PLUGIN_QUIT_H

#include <stdbool.h>

#include "core/base/err.h"

/* Begins to notice.  In .after_fork: nbdkit's handlers are there by then. */
int quit_watch(struct err *e);

/* Waits for `ms` milliseconds, or until the server is told to end: then it returns true, and does
 * so at once from then on. */
bool quit_wait(unsigned ms);

/* The same as a signal, but for this file alone. */
void quit_tell(void);

/* Gives the signals back to nbdkit's handlers, and forgets that there was one. */
void quit_forget(void);

#endif
