/* SPDX-License-Identifier: Apache-2.0 */
/* net_kinds.c - what a server may answer: rightly, in each way that HTTP allows, and wrongly in
 * each way that somebody has met, see net.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "tests/sim/fibers.h"
#include "tests/sim/net.h"

/* ---- logins ---- */

static bool has_login(const struct net_wire *w, const struct net_place *p)
{
	const char *given = w->x->authorization;
	char token[32];

	if (p->login_refused || !given)
		return false;
	if (p->auth == NET_BASIC)
		return strcmp(given, "Basic dXNlcjpzZWNyZXQ=") == 0; /* user:secret */
	snprintf(token, sizeof token, "Bearer T%u", p->token);
	return strcmp(given, token) == 0;
}

bool net_wants_login(struct net_wire *w, struct net_place *p)
{
	if (p->auth == NET_OPEN || has_login(w, p))
		return false;
	net_status(w, 401);
	if (p->auth == NET_BASIC)
		net_line(w, "WWW-Authenticate: Basic realm=\"here\"");
	else
		net_line(w,
			 "WWW-Authenticate: Bearer realm=\"https://k%c.test/token\",service=\"s\"",
			 w->x->url[9]);
	net_length(w, 0);
	if (!p->well && fibers_one_in(8))
		w->end = CURLE_RECV_ERROR;
	return true;
}

void net_answer_token(struct net_wire *w, struct net_place *p)
{
	net.login_trouble = net.login_trouble || !p->well;
	if (p->login_refused) {
		net_status(w, 401);
		net_length(w, 0);
		return;
	}
	if (!p->well && fibers_one_in(3)) {
		static const unsigned statuses[] = { 200, 204, 400, 401, 403, 404, 429, 500, 503 };

		net_status(w, statuses[fibers_below(sizeof statuses / sizeof *statuses)]);
		net_rubbish(w, fibers_below(3000));
		if (fibers_one_in(4))
			w->silent = true;
		if (fibers_one_in(4))
			w->end = CURLE_RECV_ERROR;
		return;
	}
	p->token++;
	snprintf(w->text, sizeof w->text, "{\"token\":\"T%u\",\"expires_in\":%u}", p->token,
		 1 + fibers_below(300));
	net_status(w, 200);
	w->body = (const uint8_t *)w->text;
	w->good = w->size = strlen(w->text);
	net_length(w, w->size);
}

/* ---- right answers ---- */

static void answer_part(struct net_wire *w, const struct net_blob *b, uint64_t first, uint64_t last,
			bool star)
{
	net_status(w, 206);
	if (star)
		net_line(w, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/*", first, last);
	else
		net_line(w, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, first, last,
			 b->size);
	net_part(w, b, first, last);
	if (!fibers_one_in(4))
		net_length(w, last - first + 1);
}

static void answer_whole(struct net_wire *w, const struct net_blob *b, bool measured)
{
	net_status(w, 200);
	net_part(w, b, 0, b->size - 1);
	if (measured)
		net_length(w, b->size);
}

static void redirect(struct net_wire *w, const struct net_blob *b, char place)
{
	net_status(w, fibers_one_in(2) ? 307 : 302);
	net_line(w, "Location: https://t%c.test/%s?sig=%u", place, b->digest, fibers_below(1000));
	net_length(w, 0);
}

void net_answer_well(struct net_wire *w, struct net_place *p, const struct net_blob *b)
{
	uint64_t first = w->x->first, last = w->x->last;

	if (p->redirects && w->x->url[8] == 'e') {
		redirect(w, b, w->x->url[9]);
		return;
	}
	if (!w->x->ranged || (p->sends_whole && fibers_one_in(2))) {
		answer_whole(w, b, !p->sends_unmeasured);
		return;
	}
	if (p->shortens && last > first && fibers_one_in(2))
		last = first + fibers_below((uint32_t)(last - first));
	answer_part(w, b, first, last, p->stars && fibers_one_in(2));
	if (p->liar && fibers_one_in(3)) {
		w->good = fibers_below((uint32_t)w->size);
		net.lied = true;
		fibers_trace("  %.8s lies from byte %" PRIu64 " on", w->x->url + 8,
			     first + w->good);
	}
}

/* ---- wrong answers ---- */

/* A place in the body. */
static uint64_t within(const struct net_wire *w)
{
	return w->size > 0 ? fibers_below((uint32_t)w->size) : 0;
}

static void right_part(struct net_wire *w, const struct net_blob *b)
{
	answer_part(w, b, w->x->first, w->x->last, false);
}

static void wrong_range(struct net_wire *w, const struct net_blob *b)
{
	uint64_t first = fibers_below((uint32_t)b->size);
	uint64_t last = first + fibers_below((uint32_t)(b->size - first));

	if (first == w->x->first && last <= w->x->last)
		first = first > 0 ? first - 1 : last > 0;
	answer_part(w, b, first, max_u64(first, last), fibers_one_in(4));
}

static void no_range(struct net_wire *w, const struct net_blob *b)
{
	net_status(w, 206);
	net_part(w, b, w->x->first, w->x->last);
	net_length(w, w->size);
}

static void wrong_total(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	w->head_size = 0;
	net_status(w, 206);
	net_line(w, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, w->x->first,
		 w->x->last, b->size + 1 + fibers_below(100));
}

static void wrong_part_length(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	w->head_size = 0;
	net_status(w, 206);
	net_line(w, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, w->x->first,
		 w->x->last, b->size);
	net_length(w, fibers_below((uint32_t)w->size + 100));
}

static void whole_of_wrong_length(struct net_wire *w, const struct net_blob *b)
{
	uint64_t n = b->size - 1 - fibers_below((uint32_t)b->size / 2);

	net_status(w, 200);
	net_part(w, b, 0, n - 1);
	net_length(w, n);
}

static void login_page(struct net_wire *w, const struct net_blob *b)
{
	static const unsigned sizes[] = { 100, 3000, 20000, 70000 };

	net_status(w, 200);
	net_rubbish(w, fibers_one_in(8) ? b->size + fibers_below(5000) + 1
					: sizes[fibers_below(4)] + fibers_below(3000));
	if (fibers_one_in(2) && w->size != b->size)
		net_length(w, w->size);
}

static void part_as_whole(struct net_wire *w, const struct net_blob *b)
{
	bool all = w->x->first == 0 && w->x->last == b->size - 1;

	net_status(w, 200);
	net_part(w, b, w->x->first, w->x->last);
	if (!all && fibers_one_in(2))
		net_line(w, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, w->x->first,
			 w->x->last, b->size);
	if (!all && fibers_one_in(3))
		net_length(w, w->size);
}

/* Of exactly the blob's length, and its own Content-Range says that it is something else. */
static void whole_with_range(struct net_wire *w, const struct net_blob *b)
{
	net_status(w, 200);
	net_line(w, "Content-Range: bytes 1-%" PRIu64 "/%" PRIu64, b->size, b->size + 1);
	net_length(w, b->size);
	net_rubbish(w, b->size);
}

static void whole_unmeasured_wrong(struct net_wire *w, const struct net_blob *b)
{
	answer_whole(w, b, false);
	w->good = within(w);
	if (fibers_one_in(2))
		w->size = w->good + fibers_below(8000);
	if (fibers_one_in(3))
		w->end = CURLE_RECV_ERROR;
}

static void whole_cut(struct net_wire *w, const struct net_blob *b)
{
	answer_whole(w, b, !fibers_one_in(4));
	w->size = w->good = within(w);
	w->end = CURLE_RECV_ERROR;
}

static void whole_stalls(struct net_wire *w, const struct net_blob *b)
{
	answer_whole(w, b, true);
	w->stall_at = within(w);
	w->trickles = fibers_one_in(2);
}

static void cut(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	w->size = w->good = within(w);
	if (w->stated != UINT64_MAX || fibers_one_in(2))
		w->end = CURLE_RECV_ERROR; /* else it is an early end in order */
}

static void stalls(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	w->stall_at = within(w);
}

static void trickles(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	w->stall_at = within(w);
	w->trickles = true;
}

/* A proxy writes its error page into the body, and ends. */
static void rubbish_and_cut(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	w->good = within(w);
	w->size = min_u64(w->good + fibers_below(4000), w->size);
	if (w->stated != UINT64_MAX || fibers_one_in(2) || w->size == w->x->last - w->x->first + 1)
		w->end = CURLE_RECV_ERROR;
}

static void silent(struct net_wire *w, const struct net_blob *b)
{
	w->silent = true;
}

static void unreachable(struct net_wire *w, const struct net_blob *b)
{
	static const CURLcode ends[] = {
		CURLE_COULDNT_CONNECT,	    CURLE_RECV_ERROR,
		CURLE_COULDNT_RESOLVE_HOST, CURLE_PEER_FAILED_VERIFICATION,
		CURLE_OPERATION_TIMEDOUT,   CURLE_WEIRD_SERVER_REPLY,
		CURLE_SSL_CONNECT_ERROR,    CURLE_GOT_NOTHING,
		CURLE_HTTP2_STREAM,
	};

	w->headless = true;
	w->end = ends[fibers_below(sizeof ends / sizeof *ends)];
}

static void refusal(struct net_wire *w, const struct net_blob *b)
{
	static const unsigned statuses[] = { 204, 304, 400, 403, 404, 405, 408, 410, 416, 425,
					     429, 500, 502, 503, 504, 199, 299, 999, 0 };

	net_status(w, statuses[fibers_below(sizeof statuses / sizeof *statuses)]);
	net_rubbish(w, fibers_one_in(3) ? fibers_below(200 * 1000) : fibers_below(500));
	if (fibers_one_in(2))
		net_length(w, w->size);
	if (fibers_one_in(6))
		w->end = CURLE_RECV_ERROR;
}

static void busy(struct net_wire *w, const struct net_blob *b)
{
	net_status(w, fibers_one_in(2) ? 429 : 503);
	if (fibers_one_in(4))
		net_line(w, "Retry-After: soon");
	else
		net_line(w, "Retry-After: %u", fibers_below(20));
	net_length(w, 0);
}

static void challenge(struct net_wire *w, const struct net_blob *b)
{
	static const char *const headers[] = {
		"WWW-Authenticate: Basic realm=\"x\"",
		"WWW-Authenticate: Bearer realm=\"https://k9.test/\"",
		"WWW-Authenticate: Bearer realm=\"not an address\"",
		"WWW-Authenticate: Digest what=ever",
		"WWW-Authenticate: ,,=\"",
		"X-None: 1",
	};

	net.login_trouble = true;
	net_status(w, 401);
	net_line(w, "%s", headers[fibers_below(6)]);
	net_rubbish(w, fibers_below(300));
	if (fibers_one_in(6))
		w->end = CURLE_RECV_ERROR;
}

static void redirects(struct net_wire *w, const struct net_blob *b)
{
	static const char *const places[] = {
		"",
		"Location: ",
		"Location: http://t0.test/x",
		"Location: ftp://t0.test/x",
		"Location: https://t9.test/x",
		"Location: //",
		"Location: https://t0.test/none",
	};

	if (fibers_one_in(3)) {
		redirect(w, b, (char)('0' + fibers_below(net.place_count)));
		return;
	}
	net_status(w, 307);
	if (fibers_one_in(3))
		net_line(w, "Location: %.200s", w->x->url); /* round and round */
	else
		net_line(w, "%s", places[fibers_below(7)]);
	net_length(w, 0);
}

static void long_head(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	if (fibers_one_in(2))
		w->long_line = 100 * 1000 + fibers_below(1000);
	else
		w->more_lines = 2000;
	if (fibers_one_in(2)) { /* libcurl gives up on its own */
		w->headless = true;
		w->end = CURLE_OUT_OF_MEMORY;
	}
}

static void encoded(struct net_wire *w, const struct net_blob *b)
{
	right_part(w, b);
	w->head_size = 0;
	net_status(w, 206);
	net_line(w, "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, w->x->first,
		 w->x->last, b->size);
	net_line(w, "Content-Encoding: gzip");
	w->good = 0;
}

static void odd_head(struct net_wire *w, const struct net_blob *b)
{
	static const char *const lines[] = {
		"Content-Range: bytes 0-1",
		"Content-Range: bytes 5-4/10",
		"Content-Length: -1",
		"Content-Length: 99999999999999999999",
		"Content-Range: bytes 18446744073709551615-18446744073709551615/*",
	};

	net_status(w, 206);
	net_line(w, "%s", lines[fibers_below(5)]);
	net_rubbish(w, 100);
}

static void only_hints(struct net_wire *w, const struct net_blob *b)
{
	net_line(w, "HTTP/1.1 100 Continue");
	w->end = fibers_one_in(2) ? CURLE_OK : CURLE_RECV_ERROR;
}

static const struct {
	const char *name;
	void (*make)(struct net_wire *w, const struct net_blob *b);
} kinds[] = {
	{ "206 of another range", wrong_range },
	{ "206 without Content-Range", no_range },
	{ "206 of a blob of another size", wrong_total },
	{ "206 of another length", wrong_part_length },
	{ "200 of another length", whole_of_wrong_length },
	{ "200, a login page", login_page },
	{ "200 for a part", part_as_whole },
	{ "200 with a Content-Range", whole_with_range },
	{ "200 without a length, wrong", whole_unmeasured_wrong },
	{ "200 that is cut", whole_cut },
	{ "200 that stalls", whole_stalls },
	{ "206 that is cut", cut },
	{ "206 that stalls", stalls },
	{ "206 that trickles", trickles },
	{ "206, an error page in the middle, and a cut", rubbish_and_cut },
	{ "silence", silent },
	{ "not reachable", unreachable },
	{ "refused", refusal },
	{ "busy", busy },
	{ "401", challenge },
	{ "a redirect", redirects },
	{ "a head too long", long_head },
	{ "Content-Encoding", encoded },
	{ "odd headers", odd_head },
	{ "only 100 Continue", only_hints },
};

const unsigned net_kind_count = sizeof kinds / sizeof *kinds;

const char *net_kind_name(unsigned kind)
{
	return kinds[kind].name;
}

void net_answer_sick(struct net_wire *w, const struct net_place *p, const struct net_blob *b,
		     unsigned kind)
{
	if (w->x->ranged)
		kinds[kind].make(w, b);
	else
		refusal(w, b);
}
