/* SPDX-License-Identifier: Apache-2.0 */
/* attach-process.h - whether a process is the nbdkit that was started for an attached device.
 *
 * Such a process gets killed, so a pid in a file and words on a command line are not enough:
 * anybody can give a process any words.  It is ours when
 *   - all its user ids are ours;
 *   - its executable is called nbdkit;
 *   - its command line is the one that attach-server.c makes: -U SOCKET -P PIDFILE first, then the
 *     words that are saved, as far as they are known, or else this plugin;
 *   - it finds the device's folder where we find it: a container's nbdkit has files of its own.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_TOOLS_ATTACH_PROCESS_H
#define OVERLAYBD_TOOLS_ATTACH_PROCESS_H

#include <sys/types.h>

#include "tools/attach-state.h"

/* A descriptor of the process (pidfd_open(2)) if it is a server for this device, else -1.  The
 * process was looked at while the descriptor held on to it. */
int attach_process_hold(pid_t pid, const struct attach_state *s);

#endif
