/* SPDX-License-Identifier: Apache-2.0 */
/* attach-watch.c - see attach-watch.h.
 *
 * Three things say that there is something to mend: the kernel (a connection died), the server's
 * pidfd (it ended), and the clock, should one of the others have been missed.  Mending is the same
 * for all, and does no harm when nothing is broken: the kernel takes only as many new connections
 * as it has dead ones. */
#include "tools/attach-watch.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "tools/attach-server.h"

enum {
	LOOK_EVERY = 5000, /* ms between two looks whether the device is still attached */
	DELAY_MIN = 100, /* ms */
	DELAY_MAX = 5000, /* ms */
	SILENT_TRIES = 2, /* handshakes without an answer until the server is killed */
};

/* ---- connections ---- */

void attach_links_close(struct attach_links *links)
{
	while (links->count > 0)
		close(links->sockets[--links->count]);
}

int attach_links_open(const struct attach_state *s, size_t count, struct attach_links *out,
		      struct err *e)
{
	int r = 0;

	out->count = 0;
	while (r == 0 && out->count < count) {
		r = nbd_handshake(s->socket, &out->export, &out->sockets[out->count], e);
		if (r == 0)
			out->count++;
		if (r == 0 && !(out->export.flags & NBD_EXPORT_MULTI_CONN))
			break;
	}
	if (r < 0)
		attach_links_close(out);
	return r;
}

/* Two tries: a busy machine may take longer than one. */
static int open_links(struct attach_watch *w, struct attach_links *links, struct err *e)
{
	int i, r = -ETIMEDOUT;

	for (i = 0; i < SILENT_TRIES && r == -ETIMEDOUT; i++)
		r = attach_links_open(w->state, w->state->saved.connections, links, e);
	return r;
}

/* ---- mending ---- */

static void forget_server(struct attach_watch *w)
{
	if (w->server >= 0)
		close(w->server);
	w->server = -1;
}

/* The disk under a client cannot become another one. */
static int check_same(const struct attach_saved *saved, const struct nbd_export *now, struct err *e)
{
	const struct nbd_device *d = &saved->device;

	if (now->size != d->size)
		return err_set(e, EINVAL,
			       "%s has %" PRIu64 " bytes now, and had %" PRIu64
			       " when it was attached",
			       saved->source, now->size, d->size);
	if (now->flags != d->flags)
		return err_set(e, EINVAL,
			       "%s has the flags 0x%x now, and had 0x%x when it was attached",
			       saved->source, now->flags, d->flags);
	return 0;
}

/* A server that runs is connected to; one that does not is started first.  One that runs and cannot
 * be connected to is of no use. */
static int reach_server(struct attach_watch *w, struct attach_links *links, struct err *e)
{
	int r;

	forget_server(w);
	w->server = attach_server_find(w->state);
	if (w->server >= 0) {
		r = open_links(w, links, e);
		if (r == 0)
			return 0;
		log_warn("/dev/nbd%u: its server is ended: %s", w->state->index, e ? e->msg : "");
		forget_server(w);
	}
	r = attach_server_start(w->state, w->signals, e);
	if (r < 0)
		return r;
	w->server = attach_server_find(w->state);
	return open_links(w, links, e);
}

int attach_watch_mend(struct attach_watch *w, struct err *e)
{
	const struct attach_saved *saved = &w->state->saved;
	struct attach_links links = { 0 };
	int r = reach_server(w, &links, e);

	if (r < 0)
		return r;
	r = check_same(saved, &links.export, e);
	if (r < 0) {
		/* Whoever mends the image wants it opened anew. */
		attach_links_close(&links);
		attach_server_stop(w->state, false);
		return r;
	}
	r = nbd_netlink_replace(w->kernel, w->state->index, saved->identity, links.sockets,
				links.count, e);
	attach_links_close(&links);
	return r;
}

/* ---- watching ---- */

int attach_watch_open(struct attach_watch *w, struct attach_state *s, struct nbd_netlink *kernel,
		      struct err *e)
{
	sigset_t ends;

	*w = (struct attach_watch){ .state = s, .kernel = kernel, .signals = -1, .server = -1 };
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &ends, NULL) < 0 ||
	    (w->signals = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
		return err_set(e, errno, "signals: %s", strerror(errno));
	return 0;
}

void attach_watch_close(struct attach_watch *w)
{
	forget_server(w);
	if (w->signals >= 0)
		close(w->signals);
	w->signals = -1;
}

enum { SIGNAL, EVENT, SERVER, SOURCES };

/* Waits for something to happen, at most `ms`; p[i].revents says what. */
static void await(const struct attach_watch *w, struct pollfd p[SOURCES], int ms)
{
	p[SIGNAL] = (struct pollfd){ .fd = w->signals, .events = POLLIN };
	p[EVENT] = (struct pollfd){ .fd = w->kernel->events, .events = POLLIN };
	p[SERVER] = (struct pollfd){ .fd = w->server, .events = POLLIN };
	if (poll(p, SOURCES, ms) < 0)
		p[SIGNAL].revents = p[EVENT].revents = p[SERVER].revents = 0;
}

/* Waits before the next try, each time longer.  True when the process is to end. */
static bool back_off(struct attach_watch *w)
{
	struct pollfd p = { .fd = w->signals, .events = POLLIN };

	w->delay = w->delay == 0 ? DELAY_MIN : w->delay * 2;
	if (w->delay > DELAY_MAX)
		w->delay = DELAY_MAX;
	return poll(&p, 1, (int)w->delay) > 0;
}

/* ENODEV when the kernel says that the device is gone; that it says nothing proves nothing. */
static int check_attached(struct attach_watch *w, struct err *e)
{
	if (nbd_netlink_is_attached(w->kernel, w->state->index, NULL) != 0)
		return 0;
	return err_set(e, ENODEV, "/dev/nbd%u: it is not attached any more", w->state->index);
}

/* Until it works, the device is gone, or the process is to end (1). */
static int mend(struct attach_watch *w, struct err *e)
{
	uint64_t began = clock_ms();
	struct err cause;
	int r;

	/* A server that dies soon after it was started is not started again and again at full
	 * speed. */
	if (w->delay > 0 && back_off(w))
		return 1;
	while (attach_watch_mend(w, &cause) < 0) {
		log_warn("/dev/nbd%u: %s", w->state->index, cause.msg);
		r = check_attached(w, e);
		if (r < 0)
			return r;
		if (back_off(w))
			return 1;
	}
	if (w->delay == 0)
		w->delay = DELAY_MIN;
	log_warn("/dev/nbd%u: it has new connections to its server, after %" PRIu64 " ms",
		 w->state->index, clock_ms() - began);
	return 0;
}

int attach_watch_run(struct attach_watch *w, struct err *e)
{
	struct pollfd p[SOURCES];
	int r;

	for (;;) {
		await(w, p, LOOK_EVERY);
		if (p[SIGNAL].revents)
			return 0;
		if (!p[EVENT].revents && !p[SERVER].revents) {
			w->delay = 0;
			r = check_attached(w, e);
			if (r < 0)
				return r;
			continue;
		}
		if (p[EVENT].revents && !nbd_netlink_died(w->kernel, w->state->index) &&
		    !p[SERVER].revents)
			continue;
		r = mend(w, e);
		if (r != 0)
			return r > 0 ? 0 : r;
	}
}
