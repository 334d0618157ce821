/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - the fetch engine: one thread that runs HTTP exchanges, timers and posted calls.
 *
 * An exchange is one request and its answer over libcurl's multi interface.  Nothing is retried,
 * redirected or authenticated here: request.h does that.
 *
 * Threads: http_post and http_now_stopping may be called from any thread; http_begin, http_cancel
 *   and the timers from the engine's thread only.  All callbacks run there and must not block;
 * those of an exchange other than `done` run inside libcurl and must not begin or cancel exchanges.
 * Process life: an engine may be stopped (before a fork) and started again; its connections are
 * gone then.  While it is stopped posted calls wait. Units: bytes; milliseconds of clock_ms. */
#ifndef OVERLAYBD_FETCH_HTTP_H
#define OVERLAYBD_FETCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/source.h"
#include "fetch/challenge.h"

enum {
	HTTP_SILENCE = 10, /* s without a byte, after which an exchange is given up */
};

struct http;
struct http_transport;

/* An engine whose exchanges go over libcurl. */
int http_open(struct http **out, struct err *e);

/* One whose exchanges go over another transport (http_transport.h): a test's. */
int http_open_on(const struct http_transport *transport, void *arg, struct http **out,
		 struct err *e);

/* -EAGAIN when the system refuses a thread. */
int http_start(struct http *h, struct err *e);

/* Ends every exchange with -ESHUTDOWN, runs every call and timer at once (they can ask
 * http_now_stopping), and joins the thread when nothing is left.  Allowed when it is stopped. */
void http_stop(struct http *h);

/* Stops it.  NULL is allowed. */
void http_close(struct http *h);

bool http_now_stopping(const struct http *h);

/* One turn of the engine, in the caller's thread, without waiting: bytes that are there are taken,
 * exchanges that ended are told, posted calls and timers that are due run.  Only while it is not
 * started.  Returns when the next timer is due (ms of clock_ms; 0: there is more to do at once;
 * CLOCK_NEVER). */
uint64_t http_step(struct http *h);

/* From now on, and until the next start, ends what is waiting as http_stop does, but returns at
 * once and leaves the thread running.  Any thread. */
void http_interrupt(struct http *h);

/* Something to run on the engine's thread.  Belongs to the caller; all zero before its first use.
 */
struct http_call {
	void (*run)(struct http_call *c);
	/* The rest is the engine's. */
	struct http_call *next;
	uint64_t due; /* of a timer */
	bool pending;
};

/* Runs the call soon, calls in the order of their posting.  One that is pending stays so. */
void http_post(struct http *h, struct http_call *c);

/* Posts it; while the engine is stopped, runs it, and all that waits before it, in this thread. */
void http_run(struct http *h, struct http_call *c);

/* For work that another thread does for a call: http_stop waits from http_hold until that thread
 * posts the call with http_post_held. */
void http_hold(struct http *h);
void http_post_held(struct http *h, struct http_call *c);

/* Runs the call at `due` (CLOCK_NEVER: when the engine stops); one that is set already is moved.
 * http_timer_clear takes it back. */
void http_timer_set(struct http *h, struct http_call *c, uint64_t due);
void http_timer_clear(struct http *h, struct http_call *c);

/* How to reach servers: the same for all exchanges of an image at one host.  The strings belong to
 * the owner of the route. */
struct http_route {
	const char *proxy; /* NULL: the environment's */
	const char *ca; /* PEM file; NULL: the system's */
	const char *cert; /* NULL: none */
	const char *key;
	const char *unix_socket; /* NULL: by name */
	const char *user_agent;
	bool unchecked; /* certificates are not checked */
};

/* What an answer's headers said. */
struct http_answer {
	unsigned status; /* 0: no answer */
	bool has_length, has_range, has_retry_after, encoded;
	uint64_t length; /* Content-Length */
	uint64_t first, last, total; /* Content-Range; total UINT64_MAX: '*' */
	unsigned retry_after; /* s from now */
	char *location; /* as it stands; NULL: none */
	char *etag;
	char *digest; /* Docker-Content-Digest */
	char *link; /* Link */
	struct challenge challenge;
};

struct http_exchange {
	/* Set by the caller, and alive until `done`. */
	const struct http_route *route;
	const char *method; /* "GET", "HEAD", "POST", "PUT" */
	const char *url;
	const char *authorization; /* the header's value, NULL: none */
	const char *accept; /* NULL: anything */
	const char *if_none_match; /* NULL: unconditional */
	const char *referer; /* NULL: none */
	const char *content_type; /* of `body` */
	struct source *body; /* what POST and PUT send, NULL: nothing */
	unsigned silence; /* s without a byte until it is given up; 0: HTTP_SILENCE */
	unsigned least; /* bytes that must come in each such time, from the first one on; 0: any */
	unsigned companions; /* connections to make beside its own, if it needs a new one: warm.h */
	bool ranged;
	uint64_t first, last; /* Range: bytes=first-last, when `ranged` */

	/* The headers are there: 0 goes on to the body, -errno ends the exchange. */
	int (*headers)(struct http_exchange *x, struct err *e);
	/* n bytes of the body: 0 or -errno likewise.  NULL: the body is thrown away. */
	int (*bytes)(struct http_exchange *x, const void *buf, size_t n, struct err *e);
	/* It ended: 0 when the answer, of whatever status, arrived in full, else -errno:
	 * what a callback returned; ETIMEDOUT, ECONNREFUSED, ECONNRESET, EHOSTUNREACH (no such
	 * name), EPROTO (no HTTP, or more than fits: header lines without end), ENOTUNIQ (the
	 * certificate is not one to trust), ESHUTDOWN, ENOMEM (it could not be begun).  The
	 * exchange may be begun again from here. */
	void (*done)(struct http_exchange *x, int r, const struct err *e);

	/* Filled by the engine. */
	struct http_answer answer;
	uint64_t received; /* bytes of the body */
	uint64_t first_byte_us; /* from sending the request to its first byte; 0: none came */

	/* The engine's. */
	struct http_call quiet; /* the timer that ends it when nothing is heard */
	uint64_t heard; /* when a byte last moved */
	uint64_t paced_at, paced_bytes; /* the beginning of the time that `least` looks at */
	struct http *http;
	struct http_exchange *next, **link; /* link is NULL: it does not run */
	size_t header_bytes;
	bool headers_told;
	bool over; /* the transport said so */
	int failure; /* the first cause; once there is one no callback but `done` is called */
	struct err why;
	void *transfer; /* the transport's */
};

/* Begins it.  Always ends with `done`, never before this returns. */
void http_begin(struct http *h, struct http_exchange *x);

/* Ends a running exchange without `done`. */
void http_cancel(struct http_exchange *x);

/* Whether the name of a host, which was not found, is known not to exist.  Blocks; any thread. */
bool http_is_no_name(const struct http *h, const char *host);

/* Frees what an answer holds. */
void http_answer_release(struct http_answer *a);

#endif
