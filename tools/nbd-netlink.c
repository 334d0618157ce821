/* SPDX-License-Identifier: Apache-2.0 */
/* nbd-netlink.c - see nbd-netlink.h.
 *
 * A message is a header of netlink, one of generic netlink, and attributes: length, type, payload,
 * each padded to four bytes; an attribute may hold attributes.  All numbers are in the machine's
 * own byte order. */
#include "tools/nbd-netlink.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum {
	MESSAGE_MAX = 8192, /* bytes; what the kernel sends is smaller than a page */
	NETLINK_HEADER = sizeof(struct nlmsghdr),
	HEADERS = NETLINK_HEADER + sizeof(struct genlmsghdr),
	ATTRIBUTE_HEADER = sizeof(struct nlattr),
};

_Static_assert(NETLINK_HEADER % 4 == 0 && HEADERS % 4 == 0 && ATTRIBUTE_HEADER % 4 == 0,
	       "a header is padded");

struct message {
	_Alignas(struct nlmsghdr) uint8_t bytes[MESSAGE_MAX];
	size_t n;
};

static size_t padded(size_t n)
{
	return (n + 3) & ~(size_t)3;
}

/* ---- writing ---- */

static void begin(struct message *m, uint16_t family, uint8_t command)
{
	struct nlmsghdr head = { .nlmsg_type = family, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK };
	struct genlmsghdr generic = { .cmd = command, .version = 1 };

	memset(m, 0, sizeof *m);
	memcpy(m->bytes, &head, sizeof head);
	memcpy(m->bytes + NETLINK_HEADER, &generic, sizeof generic);
	m->n = HEADERS;
}

/* Begins an attribute; its place is for end(). */
static size_t put_header(struct message *m, uint16_t type)
{
	size_t at = m->n;
	struct nlattr a = { .nla_len = ATTRIBUTE_HEADER, .nla_type = type };

	memcpy(m->bytes + at, &a, sizeof a);
	m->n += ATTRIBUTE_HEADER;
	return at;
}

/* The attribute that began at `at` holds all that was put since. */
static void end(struct message *m, size_t at)
{
	uint16_t length = (uint16_t)(m->n - at);

	memcpy(m->bytes + at, &length, sizeof length);
	m->n = padded(m->n);
}

/* Messages are far smaller than a buffer: only the sockets vary in number, and that is limited. */
static void put(struct message *m, uint16_t type, const void *value, size_t n)
{
	size_t at = put_header(m, type);

	memcpy(m->bytes + m->n, value, n);
	m->n += n;
	end(m, at);
}

static void put_u32(struct message *m, uint16_t type, uint32_t value)
{
	put(m, type, &value, sizeof value);
}

static void put_u64(struct message *m, uint16_t type, uint64_t value)
{
	put(m, type, &value, sizeof value);
}

static void put_sockets(struct message *m, const int *sockets, size_t count)
{
	size_t list = put_header(m, NBD_ATTR_SOCKETS | NLA_F_NESTED), i;

	for (i = 0; i < count; i++) {
		size_t item = put_header(m, NBD_SOCK_ITEM | NLA_F_NESTED);

		put_u32(m, NBD_SOCK_FD, (uint32_t)sockets[i]);
		end(m, item);
	}
	end(m, list);
}

/* ---- reading ---- */

struct piece {
	const uint8_t *bytes; /* NULL: there is none */
	size_t n;
};

/* The payload of the first attribute of this type. */
static struct piece find(struct piece in, uint16_t type)
{
	while (in.bytes && in.n >= ATTRIBUTE_HEADER) {
		struct nlattr a;
		size_t whole;

		memcpy(&a, in.bytes, sizeof a);
		if (a.nla_len < ATTRIBUTE_HEADER || a.nla_len > in.n)
			break;
		if ((a.nla_type & NLA_TYPE_MASK) == type)
			return (struct piece){ in.bytes + ATTRIBUTE_HEADER,
					       a.nla_len - (size_t)ATTRIBUTE_HEADER };
		whole = padded(a.nla_len);
		if (whole > in.n)
			break;
		in.bytes += whole;
		in.n -= whole;
	}
	return (struct piece){ 0 };
}

/* Reads a number of this size. */
static bool take(struct piece in, void *value, size_t n)
{
	if (!in.bytes || in.n < n)
		return false;
	memcpy(value, in.bytes, n);
	return true;
}

static struct piece attributes(const struct message *m)
{
	return (struct piece){ m->bytes + HEADERS, m->n - HEADERS };
}

/* One message; its length is checked. */
static int receive(int fd, struct message *m, int flags)
{
	struct nlmsghdr head;
	ssize_t n;

	do {
		n = recv(fd, m->bytes, sizeof m->bytes, flags);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof head)
		return -EBADMSG;
	memcpy(&head, m->bytes, sizeof head);
	if (head.nlmsg_len < sizeof head || head.nlmsg_len > (size_t)n)
		return -EBADMSG;
	m->n = head.nlmsg_len;
	return 0;
}

static struct nlmsghdr header_of(const struct message *m)
{
	struct nlmsghdr head;

	memcpy(&head, m->bytes, sizeof head);
	return head;
}

/* What an acknowledgement says: 0 or the kernel's -errno, *why its own words or NULL. */
static int read_ack(const struct message *m, const char **why)
{
	struct nlmsghdr head = header_of(m);
	struct nlmsgerr ack;
	struct piece text;
	size_t at = NETLINK_HEADER + sizeof ack;

	*why = NULL;
	if (m->n < at)
		return -EBADMSG;
	memcpy(&ack, m->bytes + NETLINK_HEADER, sizeof ack);
	if (ack.error != 0 && head.nlmsg_flags & NLM_F_ACK_TLVS) {
		/* Behind our own message, unless that was left out. */
		if (!(head.nlmsg_flags & NLM_F_CAPPED) && ack.msg.nlmsg_len > sizeof ack.msg)
			at += padded(ack.msg.nlmsg_len - sizeof ack.msg);
		if (at < m->n) {
			text = find((struct piece){ m->bytes + at, m->n - at }, NLMSGERR_ATTR_MSG);
			if (text.bytes && memchr(text.bytes, '\0', text.n))
				*why = (const char *)text.bytes;
		}
	}
	return ack.error;
}

/* Sends a request and waits until the kernel has done it.  An answer with data is left in
 * *answer, whose n is 0 when there was none; NULL: not wanted. */
static int call(struct nbd_netlink *n, struct message *m, struct message *answer, struct err *e)
{
	struct nlmsghdr head = header_of(m);
	struct message in;
	const char *why;
	int r;

	head.nlmsg_len = (uint32_t)m->n;
	head.nlmsg_seq = ++n->sequence;
	memcpy(m->bytes, &head, sizeof head);
	if (answer)
		answer->n = 0;
	if (send(n->requests, m->bytes, m->n, 0) < 0)
		return err_set(e, errno, "netlink: %s", strerror(errno));
	while ((r = receive(n->requests, &in, 0)) == 0) {
		if (header_of(&in).nlmsg_seq != n->sequence)
			continue; /* of a call that waited too long */
		if (header_of(&in).nlmsg_type == NLMSG_ERROR)
			break;
		if (answer && in.n >= HEADERS)
			*answer = in;
	}
	if (r < 0)
		return err_set(e, -r, "netlink: %s", strerror(-r));
	r = read_ack(&in, &why);
	return r < 0 ? err_set(e, -r, "%s", why ? why : strerror(-r)) : 0;
}

/* ---- opening ---- */

static int open_socket(int *fd, struct err *e)
{
	struct timeval wait = { .tv_sec = NBD_NETLINK_WAIT };
	int on = 1;

	*fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (*fd < 0 || setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0)
		return err_set(e, errno, "netlink: %s", strerror(errno));
	/* An old kernel's words would be fewer. */
	(void)setsockopt(*fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
	return 0;
}

static int join(int fd, uint32_t group, struct err *e)
{
	struct sockaddr_nl any = { .nl_family = AF_NETLINK };

	if (bind(fd, (struct sockaddr *)&any, sizeof any) < 0 ||
	    setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) < 0)
		return err_set(e, errno, "netlink: events of nbd devices: %s", strerror(errno));
	return 0;
}

static int refuse_driver(struct err *e)
{
	if (access("/sys/block/nbd0", F_OK) == 0 || access("/sys/module/nbd", F_OK) == 0)
		return err_set(e, EOPNOTSUPP,
			       "this kernel's nbd driver has no netlink interface: Linux 4.12 or "
			       "later is needed");
	return err_set(e, ENODEV, "the kernel's nbd driver is not loaded; try: modprobe nbd");
}

/* Finds the driver's number, and that of its events. */
static int resolve(struct nbd_netlink *n, uint32_t *group, struct err *e)
{
	struct message m, answer;
	struct piece all, groups;
	int r;

	begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	put(&m, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof NBD_GENL_FAMILY_NAME);
	r = call(n, &m, &answer, e);
	if (r == -ENOENT)
		return refuse_driver(e);
	if (r < 0)
		return r;
	if (answer.n < HEADERS)
		return err_set(e, EBADMSG, "netlink: no answer about the nbd driver");
	all = attributes(&answer);
	groups = find(all, CTRL_ATTR_MCAST_GROUPS); /* the driver has one, its item has number 1 */
	if (!take(find(all, CTRL_ATTR_FAMILY_ID), &n->family, sizeof n->family) ||
	    !take(find(find(groups, 1), CTRL_ATTR_MCAST_GRP_ID), group, sizeof *group))
		return err_set(e, EBADMSG, "netlink: the kernel does not say how to reach nbd");
	return 0;
}

int nbd_netlink_open(struct nbd_netlink *n, struct err *e)
{
	uint32_t group;
	int r;

	*n = (struct nbd_netlink){ .requests = -1, .events = -1 };
	r = open_socket(&n->requests, e);
	if (r == 0)
		r = open_socket(&n->events, e);
	if (r == 0)
		r = resolve(n, &group, e);
	if (r == 0)
		r = join(n->events, group, e);
	if (r < 0)
		nbd_netlink_close(n);
	return r;
}

void nbd_netlink_close(struct nbd_netlink *n)
{
	if (n->requests >= 0)
		close(n->requests);
	if (n->events >= 0)
		close(n->events);
	n->requests = n->events = -1;
}

/* ---- what can be asked ---- */

int nbd_netlink_may_attach(struct nbd_netlink *n, struct err *e)
{
	struct message m;
	int r;

	/* Of no device: whoever may do it hears that one is missing. */
	begin(&m, n->family, NBD_CMD_DISCONNECT);
	r = call(n, &m, NULL, e);
	if (r == -EPERM)
		return err_set(e, EPERM, "nbd devices are for root only (CAP_SYS_ADMIN)");
	return r == -EINVAL ? 0 : r;
}

int nbd_netlink_is_attached(struct nbd_netlink *n, unsigned index, struct err *e)
{
	struct message m, answer;
	uint8_t attached;
	struct piece item;
	int r;

	begin(&m, n->family, NBD_CMD_STATUS);
	put_u32(&m, NBD_ATTR_INDEX, index);
	r = call(n, &m, &answer, e);
	if (r < 0)
		return err_wrap(e, r, "/dev/nbd%u: its state", index);
	if (answer.n < HEADERS)
		return 0;
	item = find(find(attributes(&answer), NBD_ATTR_DEVICE_LIST), NBD_DEVICE_ITEM);
	return take(find(item, NBD_DEVICE_CONNECTED), &attached, sizeof attached) && attached;
}

int nbd_netlink_attach(struct nbd_netlink *n, const struct nbd_device *d, const int *sockets,
		       size_t count, struct err *e)
{
	struct message m;
	int r;

	begin(&m, n->family, NBD_CMD_CONNECT);
	put_u32(&m, NBD_ATTR_INDEX, d->index);
	put_u64(&m, NBD_ATTR_SIZE_BYTES, d->size);
	put_u64(&m, NBD_ATTR_BLOCK_SIZE_BYTES, d->block_size);
	put_u64(&m, NBD_ATTR_TIMEOUT, d->timeout);
	put_u64(&m, NBD_ATTR_DEAD_CONN_TIMEOUT, d->dead_timeout);
	put_u64(&m, NBD_ATTR_SERVER_FLAGS, d->flags);
	put(&m, NBD_ATTR_BACKEND_IDENTIFIER, d->identity, strlen(d->identity) + 1);
	put_sockets(&m, sockets, count);
	r = call(n, &m, NULL, e);
	return r < 0 ? err_wrap(e, r, "/dev/nbd%u: attaching it", d->index) : 0;
}

int nbd_netlink_replace(struct nbd_netlink *n, unsigned index, const char *identity,
			const int *sockets, size_t count, struct err *e)
{
	struct message m;
	int r;

	begin(&m, n->family, NBD_CMD_RECONFIGURE);
	put_u32(&m, NBD_ATTR_INDEX, index);
	put(&m, NBD_ATTR_BACKEND_IDENTIFIER, identity, strlen(identity) + 1);
	put_sockets(&m, sockets, count);
	r = call(n, &m, NULL, e);
	return r < 0 ? err_wrap(e, r, "/dev/nbd%u: replacing its connections", index) : 0;
}

int nbd_netlink_detach(struct nbd_netlink *n, unsigned index, struct err *e)
{
	struct message m;
	int r;

	begin(&m, n->family, NBD_CMD_DISCONNECT);
	put_u32(&m, NBD_ATTR_INDEX, index);
	r = call(n, &m, NULL, e);
	return r < 0 ? err_wrap(e, r, "/dev/nbd%u: detaching it", index) : 0;
}

static bool is_about(const struct message *m, unsigned index)
{
	struct genlmsghdr generic;
	uint32_t of;

	if (m->n < HEADERS)
		return false;
	memcpy(&generic, m->bytes + NETLINK_HEADER, sizeof generic);
	return generic.cmd == NBD_CMD_LINK_DEAD &&
	       take(find(attributes(m), NBD_ATTR_INDEX), &of, sizeof of) && of == index;
}

bool nbd_netlink_died(struct nbd_netlink *n, unsigned index)
{
	struct message m;
	bool died = false;
	int r;

	while ((r = receive(n->events, &m, MSG_DONTWAIT)) != -EAGAIN) {
		if (r == -ENOBUFS)
			died = true;
		else if (r < 0)
			break;
		else if (header_of(&m).nlmsg_type == n->family && is_about(&m, index))
			died = true;
	}
	return died;
}
