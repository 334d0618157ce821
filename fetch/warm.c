/* SPDX-License-Identifier: Apache-2.0 */
/* warm.c - see warm.h. */
#include "fetch/warm.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/le.h"

struct warm_socket {
	struct warm_socket *next;
	int fd;
	uint64_t born; /* ms */
	socklen_t length;
	struct sockaddr_storage address;
};

static bool connect_one(struct warm *w, int family, int type, int protocol,
			const struct sockaddr *address, socklen_t length)
{
	struct warm_socket *s = calloc(1, sizeof *s);

	if (!s)
		return false;
	s->fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
	if (s->fd < 0 || (connect(s->fd, address, length) < 0 && errno != EINPROGRESS)) {
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return false;
	}
	memcpy(&s->address, address, length);
	s->length = length;
	s->born = clock_ms();
	s->next = w->first;
	w->first = s;
	return true;
}

void warm_connect(struct warm *w, int family, int type, int protocol,
		  const struct sockaddr *address, socklen_t length, unsigned count)
{
	if (length > sizeof(struct sockaddr_storage))
		return;
	while (count > 0 && connect_one(w, family, type, protocol, address, length))
		count--;
}

/* Connected, and not closed by the other side meanwhile. */
static bool is_usable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };

	return poll(&p, 1, 0) == 1 && p.revents == POLLOUT;
}

int warm_take(struct warm *w, const struct sockaddr *address, socklen_t length)
{
	struct warm_socket **at, *s;
	int fd;

	for (at = &w->first; (s = *at) != NULL; at = &s->next)
		if (s->length == length && memcmp(&s->address, address, length) == 0 &&
		    is_usable(s->fd))
			break;
	if (!s)
		return -1;
	*at = s->next;
	fd = s->fd;
	free(s);
	return fd;
}

uint64_t warm_expire(struct warm *w, uint64_t now)
{
	struct warm_socket **at = &w->first, *s;
	uint64_t next = CLOCK_NEVER;

	while ((s = *at) != NULL) {
		if (now - s->born >= WARM_MS) {
			*at = s->next;
			close(s->fd);
			free(s);
		} else {
			next = min_u64(next, s->born + WARM_MS);
			at = &s->next;
		}
	}
	return next;
}
