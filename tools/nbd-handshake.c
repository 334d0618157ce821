/* SPDX-License-Identifier: Apache-2.0 */
/* nbd-handshake.c - see nbd-handshake.h.  Numbers of the protocol are big-endian. */
#include "tools/nbd-handshake.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x4e42444d41474943)
#define OPTION_MAGIC UINT64_C(0x49484156454f5054)
#define REPLY_MAGIC UINT64_C(0x0003e889045565a9)

enum {
	FIXED_NEWSTYLE = 1,
	NO_ZEROES = 2,
	OPTION_GO = 7,
	REPLY_ACK = 1,
	REPLY_INFO = 3,
	INFO_EXPORT = 0,
	INFO_BLOCK_SIZE = 3,

	REPLIES_MAX = 32,
	REPLY_MAX = 4096, /* bytes */
	GO_SIZE = 16 + 4 + 2 + 2,
};

#define REPLY_ERROR (UINT32_C(1) << 31)

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static uint64_t get64(const uint8_t *p)
{
	return (uint64_t)get32(p) << 32 | get32(p + 4);
}

static void put16(uint8_t *p, uint16_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put32(uint8_t *p, uint32_t value)
{
	put16(p, (uint16_t)(value >> 16));
	put16(p + 2, (uint16_t)value);
}

static void put64(uint8_t *p, uint64_t value)
{
	put32(p, (uint32_t)(value >> 32));
	put32(p + 4, (uint32_t)value);
}

/* After a time limit has passed a socket says EAGAIN. */
static int fail(const char *what, struct err *e)
{
	int code = errno == EAGAIN || errno == EWOULDBLOCK ? ETIMEDOUT : errno;

	return err_set(e, code, "%s: %s", what, strerror(code));
}

static int send_all(int fd, const uint8_t *bytes, size_t n, struct err *e)
{
	while (n > 0) {
		ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return fail("sending to the server", e);
		bytes += sent;
		n -= (size_t)sent;
	}
	return 0;
}

static int recv_all(int fd, uint8_t *bytes, size_t n, struct err *e)
{
	while (n > 0) {
		ssize_t got = recv(fd, bytes, n, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail("waiting for the server", e);
		if (got == 0)
			return err_set(e, EPROTO, "the server closed the connection");
		bytes += got;
		n -= (size_t)got;
	}
	return 0;
}

static int greet(int fd, struct err *e)
{
	uint8_t hello[18], flags[4];
	uint16_t offered;
	int r = recv_all(fd, hello, sizeof hello, e);

	if (r < 0)
		return r;
	offered = get16(hello + 16);
	if (get64(hello) != MAGIC || get64(hello + 8) != OPTION_MAGIC ||
	    !(offered & FIXED_NEWSTYLE))
		return err_set(e, EPROTO, "it is no NBD server, or one of old style");
	put32(flags, offered & (FIXED_NEWSTYLE | NO_ZEROES));
	return send_all(fd, flags, sizeof flags, e);
}

/* Asks for the default export, and for the sizes of its blocks. */
static int ask(int fd, struct err *e)
{
	uint8_t go[GO_SIZE];

	put64(go, OPTION_MAGIC);
	put32(go + 8, OPTION_GO);
	put32(go + 12, GO_SIZE - 16);
	put32(go + 16, 0); /* bytes of its name */
	put16(go + 20, 1); /* so much else is asked */
	put16(go + 22, INFO_BLOCK_SIZE);
	return send_all(fd, go, sizeof go, e);
}

static void take_info(const uint8_t *p, size_t n, struct nbd_export *out, bool *has_size)
{
	if (n == 12 && get16(p) == INFO_EXPORT) {
		out->size = get64(p + 2);
		out->flags = get16(p + 10);
		*has_size = true;
	} else if (n == 14 && get16(p) == INFO_BLOCK_SIZE) {
		out->block_min = get32(p + 2);
	}
}

/* One reply; its payload is in `payload`, *n bytes and a NUL. */
static int read_reply(int fd, uint32_t *type, uint8_t payload[REPLY_MAX + 1], size_t *n,
		      struct err *e)
{
	uint8_t head[20];
	int r = recv_all(fd, head, sizeof head, e);

	if (r < 0)
		return r;
	*type = get32(head + 12);
	*n = get32(head + 16);
	if (get64(head) != REPLY_MAGIC || get32(head + 8) != OPTION_GO || *n > REPLY_MAX)
		return err_set(e, EPROTO, "the server's answer is no NBD");
	payload[*n] = '\0';
	return recv_all(fd, payload, *n, e);
}

static int settle(int fd, struct nbd_export *out, struct err *e)
{
	uint8_t payload[REPLY_MAX + 1];
	bool has_size = false;
	uint32_t type;
	size_t n;
	int i, r;

	for (i = 0; i < REPLIES_MAX; i++) {
		r = read_reply(fd, &type, payload, &n, e);
		if (r < 0)
			return r;
		if (type & REPLY_ERROR)
			return err_set(e, EACCES,
				       "the server refuses the export: error %" PRIu32 " %s",
				       type & ~REPLY_ERROR, (const char *)payload);
		if (type == REPLY_ACK && has_size)
			return 0;
		if (type != REPLY_INFO)
			break;
		take_info(payload, n, out, &has_size);
	}
	return err_set(e, EPROTO, "the server does not say how large the export is");
}

static int set_limits(int fd, long seconds, struct err *e)
{
	struct timeval limit = { .tv_sec = seconds };

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0)
		return err_set(e, errno, "time limit of a socket: %s", strerror(errno));
	return 0;
}

int nbd_handshake_on(int fd, struct nbd_export *out, struct err *e)
{
	int r = greet(fd, e);

	*out = (struct nbd_export){ .block_min = 1 };
	if (r == 0)
		r = ask(fd, e);
	if (r == 0)
		r = settle(fd, out, e);
	if (r == 0 && !(out->flags & NBD_EXPORT_HAS_FLAGS))
		r = err_set(e, EPROTO, "the server's flags make no sense");
	return r;
}

static int connect_to(const char *path, int fd, struct err *e)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof to.sun_path)
		return err_set(e, ENAMETOOLONG, "%s: %s", path, strerror(ENAMETOOLONG));
	memcpy(to.sun_path, path, strlen(path) + 1);
	return connect(fd, (struct sockaddr *)&to, sizeof to) < 0 ? fail(path, e) : 0;
}

int nbd_handshake(const char *socket_path, struct nbd_export *out, int *fd, struct err *e)
{
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	if (s < 0)
		return err_set(e, errno, "a socket: %s", strerror(errno));
	r = set_limits(s, NBD_HANDSHAKE_WAIT, e);
	if (r == 0)
		r = connect_to(socket_path, s, e);
	if (r == 0)
		r = nbd_handshake_on(s, out, e);
	if (r == 0)
		r = set_limits(s, 0, e); /* the kernel has its own */
	if (r < 0)
		close(s);
	else
		*fd = s;
	return r;
}
