/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - servers as a model, and the transport that leads to them: mirrors and a registry, stores
 * to which they redirect, token services.
 *
 * Place i is https://eI.test (endpoint), https://tI.test (its store) and https://kI.test (its token
 * service).  A place that is well answers rightly and soon, in a way that HTTP allows.  One that is
 * not answers in the ways of its `kinds`, each time or now and then: see net_kinds.c.  Only a liar
 * sends wrong bytes in an answer that is well-formed to its end.
 *
 * What is sent is cut at random, and comes line by line and piece by piece.  Threads: fibers. */
#ifndef OVERLAYBD_TESTS_SIM_NET_H
#define OVERLAYBD_TESTS_SIM_NET_H

#include <curl/curl.h>

#include "core/base/digest.h"
#include "fetch/http_transport.h"

enum { NET_PLACES = 3, NET_BLOBS = 2, NET_KINDS = 3, NET_TRUTHS = 6, NET_HEAD = 1024 };

struct net_blob {
	const uint8_t *bytes;
	uint64_t size;
	const char *digest;
};

enum net_auth { NET_OPEN, NET_BEARER, NET_BASIC };

struct net_place {
	bool well;
	bool fallen; /* it was not, at some time */
	bool liar; /* with one of three answers */
	enum net_auth auth;
	unsigned token; /* the number of the one that counts */
	bool login_refused; /* whatever the user says, for now */
	bool redirects, stars, shortens, sends_whole, sends_unmeasured; /* ways to be well */
	unsigned kinds[NET_KINDS]; /* of what it does when it is not */
	unsigned sick_in; /* one of so many answers */
	unsigned latency; /* us, at most */
};

/* An answer under way. */
struct net_wire {
	struct http_exchange *x; /* NULL: free */
	const struct net_place *place;
	char head[NET_HEAD]; /* lines */
	size_t head_size, head_at;
	char text[80]; /* a body of its own */
	unsigned long_line, more_lines; /* bytes of one, number of others, behind them */
	const uint8_t *body; /* of which `good` bytes are sent, then rubbish */
	uint64_t good, size, at; /* `size` bytes in all, of which `at` have gone */
	uint64_t stated; /* Content-Length; UINT64_MAX: none */
	uint64_t stall_at; /* nothing comes from this byte on, or... */
	bool trickles; /* ...one a second */
	bool headless; /* it ends before its head */
	bool silent; /* nothing ever comes */
	bool cut; /* by net_heal */
	CURLcode end; /* how libcurl would say that it ended */
	uint64_t due; /* when the next of it comes, us */
};

struct net {
	struct net_place places[NET_PLACES];
	struct net_blob blobs[NET_BLOBS];
	unsigned place_count, blob_count;
	unsigned exchanges; /* begun so far */
	unsigned running;
	bool login_trouble; /* some token service was not well */
	bool lied;
};

/* What a blob may hold: sizes at the edges of chunks and beyond; small ones first.  No byte is zero
 * but for some of those at multiples of 7. */
extern struct net_blob net_truths[NET_TRUTHS];
void net_make_truths(void);

extern struct net net;
extern const struct http_transport net_transport;

void net_reset(void);

/* From now on all places are well; what is under way is cut. */
void net_heal(void);

/* The place of a host's name "https://X1.test/..", NULL: none. */
struct net_place *net_place_of(const char *url);

/* For net_kinds.c: a line of the head; a body. */
void net_line(struct net_wire *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void net_status(struct net_wire *w, unsigned status);
void net_length(struct net_wire *w, uint64_t n);
void net_part(struct net_wire *w, const struct net_blob *b, uint64_t first, uint64_t last);
void net_rubbish(struct net_wire *w, uint64_t n);

/* The right answer about a blob, and a wrong one of the kind. */
void net_answer_well(struct net_wire *w, struct net_place *p, const struct net_blob *b);
void net_answer_sick(struct net_wire *w, const struct net_place *p, const struct net_blob *b,
		     unsigned kind);
void net_answer_token(struct net_wire *w, struct net_place *p);
bool net_wants_login(struct net_wire *w, struct net_place *p);

extern const unsigned net_kind_count;
const char *net_kind_name(unsigned kind);

#endif
