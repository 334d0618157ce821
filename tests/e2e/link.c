/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - a TCP link to a server, as slow as it is told to be: for tests and benchmarks.
 *
 *   link PORT RTT BANDWIDTH PORT-FILE CONTROL
 *
 * Listens on a free port of 127.0.0.1, which it writes to a file, and passes on what comes to PORT
 * there, half a round trip (RTT milliseconds) later in either direction.  BANDWIDTH is in Mbit/s,
 * 0 for no limit.  Up is towards the target, down is towards the client.
 *
 * (1) A client's connect() takes no time here, so its bytes are left unread for one round trip.
 *
 * (2) All connections share one line down: a piece leaves when the line is free, pieces take turns
 * by connection, and no more is taken from the targets than the line sends within BACKLOG.
 *
 * (3) Delays are the same for all, so pieces in flight in one direction arrive in their order.
 *
 * (4) Ends and resets travel like bytes.
 *
 * (5) Connections are freed only at the end of a turn of the loop: events point to them.
 *
 * Not modelled: slow start and loss.  A black hole accepts connections, then keeps silent.
 *
 * The control socket speaks HTTP: GET /stats, POST /drop (reset all connections), /refuse, /hole
 * (nothing moves), /pass (the end of both), /reset (counts), /shape?rtt=MS&bandwidth=MBIT.
 * One thread.  Times are nanoseconds of CLOCK_MONOTONIC. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PIECE 16384
#define SECOND 1000000000LL
#define BACKLOG (SECOND / 500)
#define MAX_WINDOW (16 << 20)
#define CONTROL_MS 1000 /* that a control client may take to ask */

enum { UP, DOWN };
enum what { BYTES, FIN, RESET };
enum mode { PASS, REFUSE, HOLE };
static const char *const mode_names[] = { "pass", "refuse", "hole" };

struct piece {
	STAILQ_ENTRY(piece) next;
	struct stream *stream;
	int64_t due;
	enum what what;
	size_t length, written;
	uint8_t bytes[];
};
STAILQ_HEAD(pieces, piece);

/* One direction of a connection: stream[UP] reads fd[UP], the client's, and writes fd[DOWN]. */
struct stream {
	TAILQ_ENTRY(stream) next; /* in link.ready */
	struct connection *connection;
	bool readable, listed, ended, done;
	size_t queued; /* bytes in flight or arrived */
	struct pieces arrived; /* due, but not yet taken by the receiver */
};
TAILQ_HEAD(streams, stream);

struct connection {
	LIST_ENTRY(connection) next; /* in link.open or link.dead */
	STAILQ_ENTRY(connection) next_young; /* in link.young until due */
	int fd[2];
	int64_t due;
	bool dead;
	size_t refs; /* pieces in flight, and the list of the young */
	struct stream stream[2];
};
LIST_HEAD(connections, connection);

struct link {
	int listener, control, epoll;
	struct sockaddr_in here, target;
	int64_t now, rtt, bits; /* bits a second; 0: no limit */
	int64_t line_free; /* when the line down has sent what it took */
	enum mode mode;
	STAILQ_HEAD(, connection) young; /* in their first round trip */
	struct connections open, dead;
	struct pieces flight[2];
	struct streams ready[2];
	uint64_t bytes[2], connections, n_open, max_open;
	int64_t busy, busy_since; /* with bytes in flight down */
};

static void die(const char *what)
{
	fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void look_at_clock(struct link *l)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	l->now = t.tv_sec * SECOND + t.tv_nsec;
}

static void watch(struct link *l, int fd, uint32_t events, void *mark)
{
	struct epoll_event event = { .events = events, .data.ptr = mark };

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		die("epoll_ctl");
}

static void set_listed(struct link *l, struct stream *s, bool listed)
{
	struct streams *ready = &l->ready[s - s->connection->stream];

	if (listed && !s->listed)
		TAILQ_INSERT_TAIL(ready, s, next);
	else if (!listed && s->listed)
		TAILQ_REMOVE(ready, s, next);
	s->listed = listed;
}

static size_t window(const struct link *l)
{
	double n = (double)l->bits / 8 * (double)l->rtt / SECOND * 2;

	if (l->bits == 0 || n > MAX_WINDOW)
		return MAX_WINDOW;
	return n < 1 << 18 ? 1 << 18 : (size_t)n;
}

/* Lists a stream that can be read, unless its window is full. */
static void consider(struct link *l, struct stream *s)
{
	set_listed(l, s, !s->connection->dead && s->readable && !s->ended && s->queued < window(l));
}

static void unref(struct link *l, struct connection *c)
{
	c->refs--;
	if (c->dead && c->refs == 0) {
		LIST_REMOVE(c, next);
		LIST_INSERT_HEAD(&l->dead, c, next);
	}
}

static void end_connection(struct link *l, struct connection *c, bool reset)
{
	static const struct linger hard = { .l_onoff = 1 };

	if (c->dead)
		return;
	c->dead = true;
	for (int i = UP; i <= DOWN; i++) {
		struct stream *s = &c->stream[i];
		struct piece *p;

		set_listed(l, s, false);
		while ((p = STAILQ_FIRST(&s->arrived))) {
			STAILQ_REMOVE_HEAD(&s->arrived, next);
			free(p);
		}
		if (reset)
			setsockopt(c->fd[i], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
		close(c->fd[i]);
	}
	l->n_open--;
	c->refs++;
	unref(l, c);
}

static void free_dead(struct link *l)
{
	struct connection *c;

	while ((c = LIST_FIRST(&l->dead))) {
		LIST_REMOVE(c, next);
		free(c);
	}
}

static void accept_one(struct link *l)
{
	struct connection *c;
	const int on = 1;
	int fd = accept4(l->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	c = calloc(1, sizeof *c);
	if (!c)
		die("a connection");
	c->fd[UP] = fd;
	c->fd[DOWN] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd[DOWN] < 0)
		die("socket");
	for (int i = UP; i <= DOWN; i++) {
		c->stream[i].connection = c;
		STAILQ_INIT(&c->stream[i].arrived);
		setsockopt(c->fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	}
	/* Where this fails, reading will say so. */
	connect(c->fd[DOWN], (struct sockaddr *)&l->target, sizeof l->target);
	watch(l, c->fd[DOWN], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &c->stream[DOWN]);
	c->due = l->now + l->rtt;
	c->refs = 1;
	LIST_INSERT_HEAD(&l->open, c, next);
	STAILQ_INSERT_TAIL(&l->young, c, next_young);
	l->connections++;
	l->n_open++;
	if (l->n_open > l->max_open)
		l->max_open = l->n_open;
}

static void grow_up(struct link *l)
{
	struct connection *c;

	while ((c = STAILQ_FIRST(&l->young)) && c->due <= l->now) {
		STAILQ_REMOVE_HEAD(&l->young, next_young);
		if (!c->dead)
			watch(l, c->fd[UP], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
			      &c->stream[UP]);
		unref(l, c);
	}
}

static size_t piece_size(const struct link *l)
{
	int64_t n = l->bits / 8 / 1000; /* a millisecond */

	if (l->bits == 0 || n > PIECE)
		return PIECE;
	return n < 512 ? 512 : (size_t)n;
}

/* Takes one piece from where the stream reads, and sends it on its way. */
static void take(struct link *l, struct stream *s)
{
	int way = (int)(s - s->connection->stream);
	struct piece *p = malloc(sizeof *p + PIECE);
	ssize_t n;

	if (!p)
		die("a piece");
	n = read(s->connection->fd[way], p->bytes, piece_size(l));
	if (n < 0 && errno == EAGAIN) {
		s->readable = false;
		set_listed(l, s, false);
		free(p);
		return;
	}
	p->stream = s;
	p->what = n > 0 ? BYTES : n == 0 ? FIN : RESET;
	p->length = n > 0 ? (size_t)n : 0;
	p->written = 0;
	p->due = l->now;
	if (way == DOWN && l->bits > 0 && n > 0) {
		l->line_free =
			(l->line_free > l->now ? l->line_free : l->now) + n * 8 * SECOND / l->bits;
		p->due = l->line_free;
	}
	p->due += l->rtt / 2;
	if (way == DOWN && STAILQ_EMPTY(&l->flight[DOWN]))
		l->busy_since = l->now;
	STAILQ_INSERT_TAIL(&l->flight[way], p, next);
	s->connection->refs++;
	s->ended = n <= 0;
	s->queued += p->length;
	set_listed(l, s, false); /* and to the end of the list: the others' turn */
	consider(l, s);
}

static bool line_has_room(const struct link *l, int way)
{
	return way == UP || l->bits == 0 || l->line_free - l->now < BACKLOG;
}

/* Takes what can be read; but now and then events must be seen, and what is due must leave. */
static void take_all(struct link *l, int way)
{
	struct stream *s;

	for (int i = 0; i < 64 && line_has_room(l, way) && (s = TAILQ_FIRST(&l->ready[way])); i++) {
		take(l, s);
		look_at_clock(l);
	}
}

/* Gives the receiver what has arrived, as far as it takes it. */
static void give(struct link *l, struct stream *s)
{
	struct connection *c = s->connection;
	int way = (int)(s - c->stream);
	struct piece *p;

	while (!c->dead && (p = STAILQ_FIRST(&s->arrived))) {
		if (p->what == BYTES) {
			ssize_t n = send(c->fd[!way], p->bytes + p->written, p->length - p->written,
					 MSG_NOSIGNAL);
			if (n < 0) {
				if (errno != EAGAIN)
					end_connection(l, c, true);
				return;
			}
			l->bytes[way] += (uint64_t)n;
			s->queued -= (size_t)n;
			p->written += (size_t)n;
			if (p->written < p->length)
				continue;
		}
		STAILQ_REMOVE_HEAD(&s->arrived, next);
		s->done = p->what != BYTES;
		if (p->what == FIN)
			shutdown(c->fd[!way], SHUT_WR);
		if (p->what == RESET || (c->stream[UP].done && c->stream[DOWN].done))
			end_connection(l, c, p->what == RESET);
		free(p);
	}
	consider(l, s);
}

static void arrive(struct link *l, int way)
{
	struct piece *p;

	while ((p = STAILQ_FIRST(&l->flight[way])) && p->due <= l->now) {
		struct stream *s = p->stream;

		STAILQ_REMOVE_HEAD(&l->flight[way], next);
		if (s->connection->dead) {
			free(p);
		} else {
			STAILQ_INSERT_TAIL(&s->arrived, p, next);
			give(l, s);
		}
		unref(l, s->connection);
		if (way == DOWN && STAILQ_EMPTY(&l->flight[DOWN]))
			l->busy += l->now - l->busy_since;
	}
}

static void drop_all(struct link *l)
{
	struct connection *c, *next;

	for (c = LIST_FIRST(&l->open); c; c = next) {
		next = LIST_NEXT(c, next);
		end_connection(l, c, true);
	}
}

/* The guard, bound but not listening, keeps the port while connections to it are refused. */
static int bound_socket(struct sockaddr_in *address)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof *address;
	const int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(fd, (struct sockaddr *)address, size) < 0 ||
	    getsockname(fd, (struct sockaddr *)address, &size) < 0)
		die("a port");
	return fd;
}

static void set_mode(struct link *l, enum mode mode)
{
	if (mode == REFUSE && l->listener >= 0) {
		close(l->listener);
		l->listener = -1;
	} else if (mode != REFUSE && l->listener < 0) {
		l->listener = bound_socket(&l->here);
		if (listen(l->listener, 1024) < 0)
			die("listen");
		watch(l, l->listener, EPOLLIN, &l->listener);
	}
	l->mode = mode;
}

static void reset_counts(struct link *l)
{
	memset(l->bytes, 0, sizeof l->bytes);
	l->connections = 0;
	l->max_open = l->n_open;
	l->busy = 0;
	l->busy_since = l->now;
}

static void set_shape(struct link *l, double rtt_ms, double mbit)
{
	l->rtt = (int64_t)(rtt_ms * SECOND / 1000);
	l->bits = (int64_t)(mbit * 1e6);
}

static bool obey(struct link *l, const char *method, const char *path)
{
	double rtt, mbit;

	if (strcmp(method, "POST") != 0)
		return strcmp(path, "/stats") == 0;
	if (strcmp(path, "/drop") == 0)
		drop_all(l);
	else if (strcmp(path, "/refuse") == 0)
		set_mode(l, REFUSE);
	else if (strcmp(path, "/hole") == 0)
		set_mode(l, HOLE);
	else if (strcmp(path, "/pass") == 0)
		set_mode(l, PASS);
	else if (strcmp(path, "/reset") == 0)
		reset_counts(l);
	else if (sscanf(path, "/shape?rtt=%lf&bandwidth=%lf", &rtt, &mbit) == 2)
		set_shape(l, rtt, mbit);
	else
		return false;
	return true;
}

/* One request and its answer.  The link waits: the client is a test, on this machine. */
static void serve_control(struct link *l)
{
	char request[4096] = "", method[8] = "", path[64] = "";
	int fd = accept4(l->control, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t busy;
	bool known;

	if (fd < 0)
		return;
	if (poll(&p, 1, CONTROL_MS) == 1 && read(fd, request, sizeof request - 1) > 0) {
		sscanf(request, "%7s %63s", method, path);
		known = obey(l, method, path);
		busy = l->busy + (STAILQ_EMPTY(&l->flight[DOWN]) ? 0 : l->now - l->busy_since);
		dprintf(fd,
			"HTTP/1.1 %s\r\nConnection: close\r\n\r\n{\"mode\": \"%s\", "
			"\"connections\": "
			"%" PRIu64 ", \"open\": %" PRIu64 ", \"max_open\": %" PRIu64
			", \"bytes_up\": %" PRIu64 ", \"bytes_down\": %" PRIu64
			", \"busy_seconds\": %.6f}\n",
			known ? "200 OK" : "400 Bad Request", mode_names[l->mode], l->connections,
			l->n_open, l->max_open, l->bytes[UP], l->bytes[DOWN],
			(double)busy / SECOND);
	}
	close(fd);
}

static void handle(struct link *l, const struct epoll_event *event)
{
	struct stream *s = event->data.ptr;

	if (event->data.ptr == &l->control) {
		serve_control(l);
	} else if (event->data.ptr == &l->listener) {
		if (l->listener >= 0)
			accept_one(l);
	} else if (!s->connection->dead) {
		if (event->events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
			s->readable = true;
			consider(l, s);
		}
		if (event->events & EPOLLOUT)
			give(l, &s->connection->stream[s == s->connection->stream]);
	}
}

/* When something is due next, or INT64_MAX. */
static int64_t next_due(const struct link *l)
{
	const struct connection *young = STAILQ_FIRST(&l->young);
	int64_t due = young ? young->due : INT64_MAX;

	if (l->mode == HOLE)
		return INT64_MAX;
	for (int way = UP; way <= DOWN; way++) {
		const struct piece *p = STAILQ_FIRST(&l->flight[way]);

		if (p && p->due < due)
			due = p->due;
		if (TAILQ_EMPTY(&l->ready[way]))
			continue;
		if (line_has_room(l, way))
			return l->now;
		if (l->line_free - BACKLOG / 2 < due)
			due = l->line_free - BACKLOG / 2;
	}
	return due;
}

static void move(struct link *l)
{
	if (l->mode == HOLE)
		return;
	grow_up(l);
	for (int way = UP; way <= DOWN; way++) {
		take_all(l, way);
		arrive(l, way);
	}
}

static void run(struct link *l)
{
	struct epoll_event events[64];

	for (;;) {
		int64_t due = next_due(l), wait = due > l->now ? due - l->now : 0;
		struct timespec t = { .tv_sec = wait / SECOND, .tv_nsec = wait % SECOND };
		int n = epoll_pwait2(l->epoll, events, 64, due < INT64_MAX ? &t : NULL, NULL);

		look_at_clock(l);
		for (int i = 0; i < n; i++)
			handle(l, &events[i]);
		move(l);
		free_dead(l);
	}
}

static void open_control(struct link *l, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof address.sun_path) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(address.sun_path, path);
	unlink(path);
	l->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l->control < 0 || bind(l->control, (struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(l->control, 16) < 0)
		die(path);
	watch(l, l->control, EPOLLIN, &l->control);
}

static void write_port(const char *path, int port)
{
	char part[4096];
	FILE *f;

	snprintf(part, sizeof part, "%s.part", path);
	f = fopen(part, "w");
	if (!f || fprintf(f, "%d\n", port) < 0 || fclose(f) != 0 || rename(part, path) < 0)
		die(path);
}

static void open_link(struct link *l)
{
	STAILQ_INIT(&l->young);
	LIST_INIT(&l->open);
	LIST_INIT(&l->dead);
	for (int way = UP; way <= DOWN; way++) {
		STAILQ_INIT(&l->flight[way]);
		TAILQ_INIT(&l->ready[way]);
	}
	l->here = l->target;
	l->here.sin_port = 0;
	bound_socket(&l->here); /* the guard */
	l->listener = -1;
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll < 0 || prctl(PR_SET_TIMERSLACK, 1) < 0)
		die("epoll");
	look_at_clock(l);
	set_mode(l, PASS);
}

int main(int argc, char *argv[])
{
	struct link l = { .target = { .sin_family = AF_INET } };

	if (argc != 6) {
		fprintf(stderr, "usage: link PORT RTT BANDWIDTH PORT-FILE CONTROL\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	l.target.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	l.target.sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10));
	set_shape(&l, strtod(argv[2], NULL), strtod(argv[3], NULL));
	open_link(&l);
	open_control(&l, argv[5]);
	write_port(argv[4], ntohs(l.here.sin_port));
	run(&l);
}
