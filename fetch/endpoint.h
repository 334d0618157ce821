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

struct endpoint {
	char *base; /* what stands before "/blobs/sha256:..." */
	char *origin; /* SCHEME://HOST[:PORT] */
	const char *name; /* HOST[:PORT], part of origin: for messages */
	struct http_route route;
	struct http_route away; /* to where it redirects: without its client certificate */
	struct credentials_tls tls; /* owns strings of the route */
	struct auth *auth;

	/* How it fares; the engine's. */
	uint64_t bad_until; /* ms; 0: it is well */
	uint64_t asked_until; /* ms; it wants to be left alone (Retry-After) */
	unsigned failures; /* in a row */
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

/* The SCHEME://HOST[:PORT] part of an address; the caller frees it.  NULL: it is none, or no
 * memory. */
char *endpoint_origin_of(const char *url);

/* The absolute form of a Location that an answer from `base` gave, on behalf of an endpoint; the
 * caller frees it.  NULL: it makes no sense, is neither http nor https, leads out of TLS without
 * `insecure`, or no memory. */
char *endpoint_resolve(const struct endpoint *p, const char *base, const char *location);

#endif
