/* SPDX-License-Identifier: Apache-2.0 */
/* attach-server.h - the nbdkit behind an attached device: a daemon of its own, which lives on when
 * the process that started it dies.
 *
 * Threads: one at a time, and none else in the process when a server is started (it forks). */
#ifndef OVERLAYBD_TOOLS_ATTACH_SERVER_H
#define OVERLAYBD_TOOLS_ATTACH_SERVER_H

#include "tools/attach-state.h"

enum {
	ATTACH_SERVER_WAIT = 60, /* s until it has opened its image */
	ATTACH_SERVER_GRACE = 10, /* s from a signal to the next */
};

/* A descriptor that becomes readable when the server ends (pidfd_open(2)); -1: none is running.
 * Only what attach-process.h takes for ours counts, whatever the pid file says. */
int attach_server_find(const struct attach_state *s);

/* Starts it; it accepts clients when this returns.  Errors are nbdkit's own words.  One that runs
 * is killed first.  EINTR: `signals` (-1: none) became readable; the server is ended. */
int attach_server_start(const struct attach_state *s, int signals, struct err *e);

/* Ends it, if it runs, even if it has not written its pid: asks, then kills it.  `now`: kills it.
 */
void attach_server_stop(const struct attach_state *s, bool now);

#endif
