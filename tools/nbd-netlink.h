/* SPDX-License-Identifier: Apache-2.0 */
/* nbd-netlink.h - the kernel's nbd driver through generic netlink: attach, replace connections,
 * detach, hear of connections that died.
 *
 * Threads: one at a time.  Every call ends within NBD_NETLINK_WAIT seconds of the kernel's own
 * work.  Errors: the kernel's -errno, with its own words where it has some. */
#ifndef OVERLAYBD_TOOLS_NBD_NETLINK_H
#define OVERLAYBD_TOOLS_NBD_NETLINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum {
	NBD_NETLINK_SOCKETS = 64, /* in one request */
	NBD_NETLINK_WAIT = 10, /* s */
};

struct nbd_netlink {
	int requests;
	int events; /* readable when there is something for nbd_netlink_died */
	uint16_t family;
	uint32_t sequence; /* of the last request */
};

/* What a device is attached with. */
struct nbd_device {
	unsigned index; /* N of /dev/nbdN */
	uint64_t size; /* bytes */
	uint32_t block_size; /* bytes, logical */
	uint16_t flags; /* the server's transmission flags */
	unsigned timeout; /* s until a request without an answer is sent again */
	unsigned dead_timeout; /* s that requests wait for a new connection, when all are dead */
	const char *identity; /* later requests must say the same (Linux 5.14 and later) */
};

/* Errors: ENODEV the driver is not there, EOPNOTSUPP it is older than Linux 4.12. */
int nbd_netlink_open(struct nbd_netlink *n, struct err *e);
void nbd_netlink_close(struct nbd_netlink *n);

/* EPERM unless this process may attach devices. */
int nbd_netlink_may_attach(struct nbd_netlink *n, struct err *e);

/* 1: the device is attached to something, 0: it is not, or it does not exist. */
int nbd_netlink_is_attached(struct nbd_netlink *n, unsigned index, struct err *e);

/* The sockets are past the handshake; the kernel takes references of its own.  EBUSY: it is
 * attached already. */
int nbd_netlink_attach(struct nbd_netlink *n, const struct nbd_device *d, const int *sockets,
		       size_t count, struct err *e);

/* Puts these connections in place of dead ones; what is not needed stays the caller's alone.
 * EINVAL: the device is not attached, or has another identity. */
int nbd_netlink_replace(struct nbd_netlink *n, unsigned index, const char *identity,
			const int *sockets, size_t count, struct err *e);

int nbd_netlink_detach(struct nbd_netlink *n, unsigned index, struct err *e);

/* Takes all events that are there.  Whether a connection of this device died, or may have: when
 * too many events came, some are lost. */
bool nbd_netlink_died(struct nbd_netlink *n, unsigned index);

#endif
