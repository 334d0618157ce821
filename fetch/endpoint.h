/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint.h - the places from which a repository's blobs can be had: the mirrors in the order in
 * which they were given, then the registry itself.
 *
 * Forms of a mirror's address (no scheme: https, on this machine http):
 *   SCHEME://HOST[:PORT]           stands for the registry: /v2/REPOSITORY/...
 *   SCHEME://HOST[:PORT]/v2/PATH   the same with this path in place of /v2
 *   SCHEME://HOST[:PORT]/PATH      an address prefix, as of Dragonfly: the whole address follows
 *
 * Threads: made while the engine is stopped, then the engine's. */
#ifndef OVERLAYBD_FETCH_ENDPOINT_H
#define OVERLAYBD_FETCH_ENDPOINT_H

#include "fetch/auth.h"
#include "fetch/credentials.h"
#include "fetch/reference.h"
#include "fetch/settings.h"

enum { ENDPOINTS_MAX = 32 };

enum { ENDPOINT_GUESTS_MAX = 8 };

/* Another registry to which an endpoint redirects, and which wants a login of its own. */
struct endpoint_guest {
	char *origin;
	struct auth *auth;
};

struct endpoint {
	char *base; /* what stands before "/blobs/sha256:..." */
	char *origin; /* SCHEME://HOST[:PORT] */
	const char *name; /* HOST[:PORT], part of origin: for messages */
	char *query; /* "ns=HOST", which says to a mirror whom it stands for; NULL: none */
	const struct fetch_settings *settings;
	struct http *http;
	struct http_route route;
	struct http_route away; /* to where it redirects: without its client certificate */
	struct credentials_tls tls; /* owns strings of the route */
	struct auth *auth;
	struct endpoint_guest guests[ENDPOINT_GUESTS_MAX];
	size_t guest_count;

	/* Whether the name of a host that was not found is known not to exist. */
	struct http_call name_looked_up;
	char *looked_up; /* the host; not NULL: a thread looks... */
	bool found_none; /* ...and what it finds is the thread's until its call runs */
	bool no_such_name;

	/* How it fares; the engine's. */
	uint64_t bad_until; /* ms; 0: it is well */
	uint64_t asked_until; /* ms; it wants to be left alone (Retry-After) */
	uint64_t left_alone; /* ms, after the last failure; 0: it works */
	struct endpoint *sibling; /* the registry by the other scheme, where both are tried */
	bool unused; /* the sibling has answered */
};

struct endpoint_list {
	struct endpoint *items;
	size_t count; /* at most ENDPOINTS_MAX, at least one */
};

/* Makes the list for a repository.  `push`: the registry alone, and a token that may write.
 * EINVAL for a mirror's address that makes no sense, and for plain HTTP to another machine without
 * `insecure`. */
int endpoint_list_open(struct http *http, const struct reference *ref,
		       const struct fetch_settings *settings, bool push, struct endpoint_list *out,
		       struct err *e);

void endpoint_list_close(struct endpoint_list *list);

/* Something went wrong with the place itself: it is left alone for a while, which grows, as long as
 * there are others. */
void endpoint_failed(struct endpoint *p);

/* It asked to be left alone for so many seconds, by all requests. */
void endpoint_asked(struct endpoint *p, unsigned seconds);
void endpoint_worked(struct endpoint *p);

/* An answer of that status came from it: its scheme is the right one. */
void endpoint_answered(struct endpoint *p, unsigned status);

/* The absolute form of a Location that an answer from `base` gave, on behalf of an endpoint, as
 * address_resolve. */
char *endpoint_resolve(const struct endpoint *p, const char *base, const char *location);

/* Whether an address has the endpoint's own scheme, host and port. */
bool endpoint_is_own(const struct endpoint *p, const char *url);

/* Who logs in at an address to which the endpoint redirects: NULL, as long as none was wanted. */
struct auth *endpoint_guest(const struct endpoint *p, const char *url);

/* The same when a login is wanted there: the credentials are those that belong to that host's name.
 * NULL: no memory, no address, or too many of them. */
struct auth *endpoint_invite(struct endpoint *p, const char *url);

/* No such host, says the resolver: it may be that it cannot be asked now.  Finds out which of the
 * two it is, for p->no_such_name. */
void endpoint_unresolved(struct endpoint *p, const char *url);

/* Ends what is under way; false: a thread runs still, try again later. */
bool endpoint_quiesce(struct endpoint *p);

#endif
