/* SPDX-License-Identifier: Apache-2.0 */
/* http_transport.h - how an engine's exchanges reach servers, as a table: libcurl's in http_curl.c,
 * a test's model of servers in its place.
 *
 * A transport calls http_heard_* while it performs, in this order for each exchange: header lines
 * (a status line may come again, after "100 Continue"), bytes of the body, the end, once.
 * Threads: the engine's only, but for `wakeup`. */
#ifndef OVERLAYBD_FETCH_HTTP_TRANSPORT_H
#define OVERLAYBD_FETCH_HTTP_TRANSPORT_H

#include "fetch/http.h"

struct http_transport {
	/* *state is handed to all others; -errno. */
	int (*open)(void *arg, void **state, struct err *e);
	void (*close)(void *state);
	/* Ends what connections there are: those of before a fork must not be used after it. */
	void (*renew)(void *state);
	/* Starts an exchange; may set x->transfer.  -ENOMEM. */
	int (*begin)(void *state, struct http_exchange *x, struct err *e);
	/* The exchange ended, or is cancelled: nothing more is heard of it.  Also after a failed
	 * begin. */
	void (*end)(void *state, struct http_exchange *x);
	/* Moves what can be moved without waiting. */
	void (*perform)(void *state);
	/* Waits until something can be moved, at most `ms`. */
	void (*poll)(void *state, int ms);
	void (*wakeup)(void *state); /* ends a poll, also one that has not begun; any thread */
	/* Closes what is kept open without use, by the time or when the engine stops.  Returns when
	 * to call it again (ms of clock_ms), CLOCK_NEVER. */
	uint64_t (*expire)(void *state, bool stopping);
	/* Whether the name of a host, which was not found, is known not to exist: asks and blocks;
	 * any thread.  NULL: it never is. */
	bool (*is_no_name)(const char *host);
};

extern const struct http_transport http_transport_curl;

/* What it makes of one of libcurl's codes (CURLcode), for a model that fails as libcurl does. */
int http_curl_errno(int code);

/* A line of the headers with its line end; false: the exchange has failed, send no more. */
bool http_heard_header(struct http_exchange *x, const char *line, size_t n);

/* Bytes of the body; false as above. */
bool http_heard_bytes(struct http_exchange *x, const void *buf, size_t n);

/* The transport sent or read some of the request's body: it is alive. */
void http_heard_life(struct http_exchange *x);

/* It failed: the first cause counts. */
void http_heard_failure(struct http_exchange *x, int r, const struct err *e);

/* It is over: r and e as in `done`, unless it failed before. */
void http_heard_end(struct http_exchange *x, int r, const struct err *e);

#endif
