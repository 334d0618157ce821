/* SPDX-License-Identifier: Apache-2.0 */
/* attach-notify.h - how a process that goes on in the background, or under systemd, says that the
 * device is there, or why not.
 *
 * Threads: none may run when it forks. */
#ifndef OVERLAYBD_TOOLS_ATTACH_NOTIFY_H
#define OVERLAYBD_TOOLS_ATTACH_NOTIFY_H

#include <stdbool.h>

#include "core/base/err.h"

/* Forks.  In the child it returns 0, with *to where attach_notify_parent writes.  In the parent it
 * returns 1 once the child has said that all is well, having printed its text, or the child's
 * -errno and error.  Until the child tells it, the child gets SIGTERM should the parent die. */
int attach_notify_fork(int *to, struct err *e);

/* Tells the parent how it went: a line for standard output when r is 0, else the error.  After
 * success the child has no terminal any more, and log lines go to syslog.  False: the parent is
 * gone. */
bool attach_notify_parent(int to, int r, const char *text);

/* Tells systemd that the service is ready, if it asked for that (sd_notify(3)). */
void attach_notify_systemd(const char *status);

#endif
