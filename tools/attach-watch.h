/* SPDX-License-Identifier: Apache-2.0 */
/* attach-watch.h - keeps an attached device alive: when its server or a connection dies, starts the
 * server again and gives the kernel new connections.
 *
 * Threads: one at a time. */
#ifndef OVERLAYBD_TOOLS_ATTACH_WATCH_H
#define OVERLAYBD_TOOLS_ATTACH_WATCH_H

#include "tools/attach-state.h"
#include "tools/nbd-handshake.h"
#include "tools/nbd-netlink.h"

struct attach_watch {
	struct attach_state *state; /* saved */
	struct nbd_netlink *kernel;
	int signals; /* readable when the process is to end; its signals are blocked */
	int server; /* pidfd of the server, -1: none is known */
	uint64_t delay; /* ms until the next try, when the one before failed */
};

/* Connections past the handshake. */
struct attach_links {
	int sockets[NBD_NETLINK_SOCKETS];
	size_t count;
	struct nbd_export export; /* what the server says of each */
};

/* Makes `count` connections to the device's server; fewer, but one at least, when the server says
 * that an export is for one. */
int attach_links_open(const struct attach_state *s, size_t count, struct attach_links *out,
		      struct err *e);
void attach_links_close(struct attach_links *links);

/* Starts to listen for the end of the process: SIGTERM, SIGINT, SIGHUP. */
int attach_watch_open(struct attach_watch *w, struct attach_state *s, struct nbd_netlink *kernel,
		      struct err *e);
void attach_watch_close(struct attach_watch *w);

/* Sees to it that the server runs, and that the device has live connections to it.  Tries once. */
int attach_watch_mend(struct attach_watch *w, struct err *e);

/* Does that whenever it is needed.  Returns 0 when the process is to end: the device and its server
 * stay.  ENODEV: the device is not attached any more, by somebody else's doing. */
int attach_watch_run(struct attach_watch *w, struct err *e);

#endif
