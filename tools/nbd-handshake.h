/* SPDX-License-Identifier: Apache-2.0 */
/* nbd-handshake.h - takes a connection to an NBD server as far as the kernel wants it: past the
 * handshake (fixed newstyle, NBD_OPT_GO, no structured replies), nothing sent since.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_TOOLS_NBD_HANDSHAKE_H
#define OVERLAYBD_TOOLS_NBD_HANDSHAKE_H

#include <stdint.h>

#include "core/base/err.h"

enum {
	NBD_HANDSHAKE_WAIT = 10, /* s, for each part of it */

	/* Transmission flags. */
	NBD_EXPORT_HAS_FLAGS = 1 << 0,
	NBD_EXPORT_READ_ONLY = 1 << 1,
	NBD_EXPORT_MULTI_CONN = 1 << 8,
};

struct nbd_export {
	uint64_t size; /* bytes */
	uint16_t flags;
	uint32_t block_min; /* smallest request in bytes; 1 when the server does not say */
};

/* Connects to a unix socket and asks for the default export.  *fd is the caller's.  Errors:
 * ECONNREFUSED or ENOENT nobody listens, ETIMEDOUT it does not answer, EPROTO it speaks otherwise
 * or closes early, EACCES it refuses. */
int nbd_handshake(const char *socket_path, struct nbd_export *out, int *fd, struct err *e);

/* The same on a socket that is connected. */
int nbd_handshake_on(int fd, struct nbd_export *out, struct err *e);

#endif
