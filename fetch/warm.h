/* SPDX-License-Identifier: Apache-2.0 */
/* warm.h - connections made ahead of need: while the first answer of a server is under way, others
 * are connected to the same address, so that what follows does not wait for them.
 *
 * Threads: the engine's. */
#ifndef OVERLAYBD_FETCH_WARM_H
#define OVERLAYBD_FETCH_WARM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { WARM_MS = 5000 }; /* that an unused one is kept */

struct warm_socket;
struct warm {
	struct warm_socket *first; /* zero at first */
};

/* Begins to connect `count` sockets of this kind.  What fails is not there. */
void warm_connect(struct warm *w, int family, int type, int protocol,
		  const struct sockaddr *address, socklen_t length, unsigned count);

/* A socket that is connected to the address, now the caller's; -1: there is none. */
int warm_take(struct warm *w, const struct sockaddr *address, socklen_t length);

/* Closes those older than WARM_MS at `now` (of clock_ms), with CLOCK_NEVER all.  Returns when to
 * look again; CLOCK_NEVER: none are left. */
uint64_t warm_expire(struct warm *w, uint64_t now);

#endif
