/* SPDX-License-Identifier: Apache-2.0 */
/* auth.h - the Authorization header that one host wants for one repository: found out by the first
 * request, shared by all, renewed before it expires.
 *
 * Threads: the engine's only (http.h), but for open and close.
 * Credentials are looked up by a thread of their own, since files and helper programs block.
 * No message quotes a secret. */
#ifndef OVERLAYBD_FETCH_AUTH_H
#define OVERLAYBD_FETCH_AUTH_H

#include <stdbool.h>

#include "fetch/credentials.h"
#include "fetch/http.h"

struct auth;

struct auth_options {
	struct http *http;
	const struct http_route *route;
	const char *base; /* SCHEME://HOST[:PORT] of the host */
	const char *host; /* its name in credential files */
	const char *repository;
	const char
		*blobs; /* the address of its blobs, before "sha256:..": for credential helpers */
	const char *scope; /* "repository:REPO:pull"; NULL: what the challenge says */
	struct credentials_source source;
	bool anonymous; /* nobody is logged in, nothing is looked for */
	const char *user, *password; /* before any file; NULL: none */
};

/* Copies the strings, but for those of `source`; they and the route must stay alive. */
int auth_open(const struct auth_options *options, struct auth **out, struct err *e);

/* Gives up what is under way.  False: a lookup runs still; try again later. */
bool auth_quiesce(struct auth *a);

/* Nothing may be under way.  NULL is allowed. */
void auth_close(struct auth *a);

/* Somebody who asks.  All zero before its first use. */
struct auth_wait {
	/* Called with 0 when it is worth asking again, or with the error.  Both set by the caller.
	 */
	void (*ready)(struct auth_wait *w, int r, const struct err *e);
	/* What is asked for, as "/blobs/sha256:..."; may be NULL.  Alive while it waits. */
	const char *path;
	/* auth.c's */
	struct auth *of; /* where it waits or goes ahead; NULL: neither */
	struct auth_wait *next;
	unsigned round;
};

enum auth_answer {
	AUTH_GO, /* send the request with *header, or without one when that is NULL */
	AUTH_WAIT, /* w->ready will be called */
	AUTH_REFUSED, /* we were refused a moment ago: the text says by whom */
	AUTH_PAUSED, /* a renewal failed, which the text tells: try again a while later */
};

/* What to send.  Before the host has said what it wants, one request goes ahead and the others wait
 * for its answer: whoever got AUTH_GO calls auth_accepted, auth_challenged or auth_leave once its
 * exchange has ended, whatever the way.  `w` must be in no other auth.  *header lives until the
 * engine's thread returns to this module. */
enum auth_answer auth_ask(struct auth *a, struct auth_wait *w, const char **header, struct err *e);

/* ms: until when auth_ask says AUTH_REFUSED or AUTH_PAUSED; 0: it does not. */
uint64_t auth_rests_until(const struct auth *a);

/* It waits no longer, or ended without an answer: the next one may go ahead.  It may be none. */
void auth_leave(struct auth_wait *w);

/* The host answered with a status other than 401. */
void auth_accepted(struct auth *a, struct auth_wait *w, unsigned status);

/* The host answered 401 to a request that carried `header` (NULL: none), for the `strike`-th time
 * in a row (from 0).  0: ask again with auth_ask, a renewal is under way or done; -EACCES: it is no
 * use, and the text says what to do. */
int auth_challenged(struct auth *a, struct auth_wait *w, const struct challenge *c,
		    const char *header, unsigned strike, struct err *e);

/* The host answered 403 to a request that carried `header`, which some do when it has run out.  0:
 * ask again, with what a renewal brings (one that is too young to have run out stays); -EACCES:
 * there is nothing to renew. */
int auth_doubted(struct auth *a, struct auth_wait *w, const char *header);

/* Why there are no credentials although some were to be had, for those who are refused without; ""
 * when that is not so. */
const char *auth_fault(const struct auth *a);

/* Invariant 3 of auth.c, for tests: whoever waits will be woken. */
bool auth_waiters_are_watched(const struct auth *a);

#endif
