/* SPDX-License-Identifier: Apache-2.0 */
/* inquiry.h - a small question beside the requests for blobs: to a token service for a token, or to
 * a registry for what it wants from those who log in.
 *
 * It ends within INQUIRY_SECONDS, however slowly the answer comes; redirects are followed, and
 * what was sent for one host is not sent to another.
 * Threads: the engine's only (http.h).  No message quotes what was sent or came. */
#ifndef OVERLAYBD_FETCH_INQUIRY_H
#define OVERLAYBD_FETCH_INQUIRY_H

#include "fetch/http.h"

enum {
	INQUIRY_SECONDS = 30,
	INQUIRY_MAX = 1024 * 1024, /* bytes of an answer */
};

struct inquiry {
	/* Set by the caller. */
	struct http *http;
	const struct http_route *route;
	/* 0: an answer of whatever status is there; -errno: none is, and the text says why.  It may
	 * begin the next one. */
	void (*done)(struct inquiry *q, int r, const struct err *e);

	/* The answer, until the next begin or inquiry_release. */
	struct http_exchange x;
	char *text; /* its body; NULL: empty */
	size_t n;

	/* inquiry.c's, zero at first. */
	struct http_route
		away; /* the route without the client certificate, which is for the host */
	struct http_call patience;
	char *url, *authorization, *form;
	struct source *form_source;
	unsigned redirects;
	bool running;
};

/* Asks with GET, or with POST when there is a form.  Takes over the texts, which may be NULL but
 * for the address; `own` says that it is the route's own host.  Always ends with `done`, unless it
 * is cancelled; -ENOMEM, with a form only: never begun. */
int inquiry_begin(struct inquiry *q, char *url, char *authorization, char *form, bool own,
		  struct err *e);

/* Ends it without `done`, and frees everything.  It may be none. */
void inquiry_cancel(struct inquiry *q);

#endif
