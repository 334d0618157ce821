/* SPDX-License-Identifier: Apache-2.0 */
/* request.h - one thing wanted from a repository, by whatever it takes: mirrors, authentication,
 * redirects, retries, a deadline; and the queue in which requests wait for their turn.
 *
 * What an answer leads to:
 *   200, 206, 201, 202, 304   it is done.  An answer to a range request has to say first that it is
 *                             what was asked for: 206 with this very range or its beginning (the
 *                             rest is asked for next), or 200 with the blob's length and without a
 *                             range; a 200 without a length is held back until its end
 *   401                       a new token or new credentials, then again; thrice is EACCES
 *   403, 404, 410, 416, ...   final for this place, on to the next one; EACCES, ENOENT, EBADMSG
 *   3xx                       to its target, without credentials unless scheme, host and port are
 *                             the same; a target that wants a login of its own gets what belongs
 *                             to its name; a target is remembered for a blob until it answers with
 *                             4xx
 *   408, 425, 429, 5xx (but   on to the next place; when all have failed, all of them again after
 *   501, 505), no answer, a   a while (back-off with jitter, Retry-After), until the deadline; no
 *   short, mislabelled or     such host, and nobody on this machine, is final while the image is
 *   garbled one               opened
 *
 * Threads: the engine's (http.h), but for request_submit, queue_feed, queue_open and queue_close.
 * Units: bytes, milliseconds of clock_ms. */
#ifndef OVERLAYBD_FETCH_REQUEST_H
#define OVERLAYBD_FETCH_REQUEST_H

#include <stdatomic.h>

#include "fetch/endpoint.h"
#include "fetch/http.h"
#include "fetch/link.h"
#include "fetch/refusal.h"
#include "fetch/stats.h"

enum request_priority {
	REQUEST_DEMAND, /* somebody waits */
	REQUEST_PREFETCH,
	REQUEST_BACKGROUND,
	REQUEST_PRIORITIES
};

struct queue;
struct request;

/* Where a blob's address led at each endpoint, NULL: not known.  Zero at first. */
struct request_targets {
	char *url[ENDPOINTS_MAX];
};
void request_targets_release(struct request_targets *t);

enum request_go {
	REQUEST_GO,
	REQUEST_DONE, /* what it wanted is there */
	REQUEST_LATER, /* ask again in a moment */
};

enum request_state {
	REQUEST_IDLE,
	REQUEST_WAITING, /* for a slot */
	REQUEST_ASKING, /* for an authorization */
	REQUEST_RUNNING, /* an exchange */
	REQUEST_RESTING, /* until the next try */
};

struct request {
	/* Set by the caller; strings stay alive until `done`. */
	struct queue *queue;
	enum request_priority priority;
	const char *method;
	const char *path; /* behind an endpoint's base: "/blobs/sha256:..", "/manifests/latest"; or
			   * a whole address, of an upload */
	const char *accept, *if_none_match, *content_type;
	struct source *body;
	unsigned silence, companions; /* as in http.h */
	bool ranged;
	uint64_t first, last; /* what is still wanted: `bytes` moves first on, `judge` back */
	uint64_t total; /* size of the blob, 0: not known */
	uint32_t avoid; /* endpoints, by bit, to ask last: their bytes were wrong, */
	unsigned rather; /* but of these this one first; ENDPOINTS_MAX: none, */
	uint32_t worst; /* and these last of all */
	struct request_targets *targets; /* of the blob, may be NULL */
	struct stats *stats; /* may be NULL */
	_Atomic uint64_t deadline; /* of all tries together; CLOCK_NEVER */
	uint64_t retry_until; /* no new try after this; CLOCK_NEVER: the deadline alone counts */

	/* It is about to take a connection, for the first try or a later one: last changes to what
	 * is wanted.  NULL: go. */
	enum request_go (*starting)(struct request *q);
	/* n bytes of the body, the first one being byte `off` of what was asked for.  -errno ends
	 * the request with that; 1 ends it as done, since nothing more is wanted.  NULL: no body
	 * is. */
	int (*bytes)(struct request *q, uint64_t off, const void *buf, size_t n, struct err *e);
	/* Of a range request: the exchange that gave bytes is over.  r < 0: it failed, or was
	 * cancelled, and whatever it gave has to be taken back.  0: it was all that its headers
	 * said; -errno says that its bytes will not do all the same (then they have been taken
	 * back), -ENOBUFS that the request cannot go on.  Called once for each exchange that gave
	 * bytes, before anything else happens to the request. */
	int (*judge)(struct request *q, int r, struct err *e);
	/* A whole blob is coming whose length the answer does not say: whether its bytes can be
	 * held back until they are judged.  NULL: no. */
	bool (*may_hold)(struct request *q);
	/* All of the body is there, of an answer that has one: is it right?  0, or -errno, and then
	 * this place is final; the next one is asked.  NULL: it is. */
	int (*check)(struct request *q, struct err *e);
	/* 0, or -errno with a text that names the host.  The request may be freed or submitted
	 * anew.  Until it returns x.url is the address that answered. */
	void (*done)(struct request *q, int r, const struct err *e);

	/* For `bytes` and `done`: the last answer. */
	struct http_exchange x;
	bool whole; /* a range was asked for, and the whole blob is coming... */
	bool held; /* ...without saying its length: may_hold has agreed to it */

	/* request.c's, zero at first. */
	struct request *next; /* in a line of the queue */
	struct request *next_live, **live_link; /* among all that have not ended */
	enum request_state state;
	struct http_call submit, timer;
	struct auth_wait auth_wait;
	size_t place; /* of the endpoint in use */
	uint32_t failed, final; /* endpoints, by bit: in this round; for good */
	unsigned strikes, redirects, tries, round_tries;
	uint64_t rest; /* ms: the longest that it rests after this round; 0: the first */
	bool desperate; /* waiting is over: endpoints that are left alone are taken as well */
	bool to_target; /* the exchange goes to a redirect's target... */
	bool remembered; /* ...which an earlier request has found */
	bool following; /* q->url is where to go next */
	bool own; /* the exchange goes to the endpoint's own scheme, host and port */
	struct auth *auth; /* who logs in where it goes; NULL: nobody */
	struct refusal refusal; /* the body of an answer that is none of the good ones */
	bool enough; /* `bytes` returned 1 */
	uint64_t avoid_until; /* ms; 0: not yet known */
	bool gave; /* `bytes` was called in this exchange */
	uint64_t most; /* bytes to ask for at once, 0: all; less after answers that were cut */
	uint64_t end; /* of the part that the answer says it is: its last byte + 1 */
	bool holds_slot;
	uint64_t slot_bytes; /* queue.c's */
	char *url, *header, *referer;
	uint64_t position; /* of the next byte of the body */
	int cause; /* the last failure */
	struct err why;
};

/* Queues the request; `done` will be called.  Any thread. */
void request_submit(struct request *q);

/* Makes one that has not ended a demand.  The engine's thread. */
void request_promote(struct request *q);

/* Frees what the last answer holds.  The request itself is the caller's. */
void request_release(struct request *q);

/* ---- the queue of an image's requests ---- */

/* Work that is cut into requests only when there is room for one: a prefetch, a download. */
struct feeder {
	enum request_priority priority; /* not REQUEST_DEMAND */
	/* The next request, of at most `room` bytes (but of one chunk at least), ready to start;
	 * NULL: there is no more (none, once queue_is_closing), and the feeder is the caller's
	 * again. */
	struct request *(*next_request)(struct feeder *f, uint64_t room);
	/* queue's */
	struct feeder *next;
};

/* Endpoints must outlive the queue. */
int queue_open(struct http *http, struct endpoint_list *endpoints, unsigned connections,
	       struct queue **out, struct err *e);

/* Ends all requests with ESHUTDOWN, those to come as well, and returns when that is done.  Not on
 * the engine's thread. */
void queue_shut(struct queue *k);

/* Shuts and frees it.  NULL is allowed. */
void queue_close(struct queue *k);

/* Whether the engine stops or the queue is being closed. */
bool queue_is_closing(const struct queue *k);

/* Adds work behind what is there of the same priority.  Any thread. */
void queue_feed(struct queue *k, struct feeder *f);

/* The measured round trip in ms, 0: not yet known.  Any thread. */
uint64_t queue_round_trip(const struct queue *k);

/* Any thread. */
void queue_link(const struct queue *k, struct link_facts *out);

/* One more replay runs, or one less; whether some does.  Any thread. */
void queue_note_replays(struct queue *k, int change);
bool queue_is_replaying(const struct queue *k);

struct http *queue_http(const struct queue *k);

/* The endpoints that are mirrors, as bits. */
uint32_t queue_mirrors(const struct queue *k);

#endif
