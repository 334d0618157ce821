/* SPDX-License-Identifier: Apache-2.0 */
/* net.c - the transport and what is under way, see net.h. */
#include "tests/sim/net.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "fetch/cache.h"
#include "tests/sim/fibers.h"

enum {
	WIRES_MAX = 128,
	PIECE_MAX = 64 * 1024,
	LINE = 100, /* bytes of one of `more_lines` */
};

struct net net;
static struct net_wire wires[WIRES_MAX];
static bool wakened;
static uint8_t rubbish[PIECE_MAX];
static char long_line[PIECE_MAX * 2];

void net_reset(void)
{
	if (net.running > 0)
		fibers_fail("(6) an exchange was left behind");
	net = (struct net){ 0 };
	wakened = false;
	if (rubbish[0] == 0) {
		memset(rubbish, '<', sizeof rubbish);
		memset(long_line, 'x', sizeof long_line);
	}
}

struct net_blob net_truths[NET_TRUTHS];

void net_make_truths(void)
{
	static const uint64_t sizes[NET_TRUTHS] = {
		2 * CACHE_CHUNK + 100, 3 * CACHE_CHUNK,	       4 * CACHE_CHUNK + 1,
		6 * CACHE_CHUNK - 1,   12 * CACHE_CHUNK + 513, 40 * CACHE_CHUNK,
	};
	uint64_t random = 7, i, k;

	for (i = 0; i < NET_TRUTHS; i++) {
		uint8_t *bytes = malloc(sizes[i]);
		char *digest = malloc(DIGEST_TEXT);

		for (k = 0; k < sizes[i]; k++)
			bytes[k] =
				(uint8_t)((random = random * 6364136223846793005u + i) >> 40 | 1);
		for (k = 0; k < sizes[i]; k += 7)
			bytes[k] = (uint8_t)(k / 4096);
		if (digest_bytes(bytes, (size_t)sizes[i], digest, NULL) < 0)
			abort();
		net_truths[i] = (struct net_blob){ bytes, sizes[i], digest };
	}
}

struct net_place *net_place_of(const char *url)
{
	unsigned i;

	if (strncmp(url, "https://", 8) != 0 || url[8] == '\0' || url[9] < '0' || url[9] > '9')
		return NULL;
	i = (unsigned)(url[9] - '0');
	return i < net.place_count && strncmp(url + 10, ".test/", 6) == 0 ? &net.places[i] : NULL;
}

/* Both "/v2/img/blobs/sha256:.." and a store's "/sha256:..?sig=N". */
static const struct net_blob *blob_of_url(const char *url)
{
	const char *digest = strstr(url, "sha256:");
	unsigned i;

	for (i = 0; digest && i < net.blob_count; i++)
		if (strncmp(digest, net.blobs[i].digest, DIGEST_TEXT - 1) == 0)
			return &net.blobs[i];
	return NULL;
}

/* ---- making an answer ---- */

void net_line(struct net_wire *w, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(w->head + w->head_size, NET_HEAD - w->head_size, fmt, args);
	va_end(args);
	w->head_size += (size_t)n;
	if (w->head_size + 2 >= NET_HEAD)
		abort();
	memcpy(w->head + w->head_size, "\r\n", 3);
	w->head_size += 2;
}

void net_status(struct net_wire *w, unsigned status)
{
	w->head_size = 0;
	if (fibers_one_in(16))
		net_line(w, "HTTP/1.1 103 Early Hints");
	net_line(w, "HTTP/1.1 %u Whatever", status);
}

void net_length(struct net_wire *w, uint64_t n)
{
	w->stated = n;
	net_line(w, "Content-Length: %" PRIu64, n);
}

void net_part(struct net_wire *w, const struct net_blob *b, uint64_t first, uint64_t last)
{
	w->body = b->bytes + first;
	w->good = w->size = last - first + 1;
}

void net_rubbish(struct net_wire *w, uint64_t n)
{
	w->good = 0;
	w->size = n;
}

static void answer(struct net_wire *w)
{
	const char *url = w->x->url;
	const struct net_blob *b = blob_of_url(url);
	struct net_place *p = net_place_of(url);
	unsigned kind;

	if (!p) {
		w->headless = true;
		w->end = CURLE_COULDNT_RESOLVE_HOST;
		return;
	}
	w->place = p;
	w->due += fibers_below(p->latency + 1);
	kind = p->kinds[fibers_below(NET_KINDS)];
	if (url[8] == 'k') {
		net_answer_token(w, p);
	} else if (url[8] == 'e' && net_wants_login(w, p)) {
		fibers_trace("  %.8s: 401", url + 8);
	} else if (!b) {
		net_status(w, 404);
		net_length(w, 0);
	} else if (!p->well && fibers_one_in(p->sick_in)) {
		fibers_trace("  %.8s: %s", url + 8, net_kind_name(kind));
		net_answer_sick(w, p, b, kind);
	} else {
		net_answer_well(w, p, b);
	}
}

/* What HTTP would do with it. */
static void settle(struct net_wire *w)
{
	bool bodiless = strcmp(w->x->method, "HEAD") == 0 || strstr(w->head, " 304 ") ||
			strstr(w->head, " 204 ");

	if (bodiless) {
		w->size = w->good = 0;
		return;
	}
	if (w->stated == UINT64_MAX)
		return;
	if (w->size > w->stated)
		w->size = w->stated;
	if (w->size < w->stated && w->end == CURLE_OK)
		w->end = CURLE_PARTIAL_FILE;
}

/* ---- sending it ---- */

static bool send_line(struct net_wire *w)
{
	const char *line = w->head + w->head_at, *end = strchr(line, '\n');
	size_t n = (size_t)(end - line) + 1;

	if (w->head_at == 0)
		w->x->first_byte_us = 1 + fibers_below(1000);
	w->head_at += n;
	return http_heard_header(w->x, line, n);
}

static bool send_more_head(struct net_wire *w)
{
	size_t n = w->long_line;

	if (n > 0) {
		w->long_line = 0;
		return http_heard_header(w->x, long_line, n);
	}
	w->more_lines--;
	return http_heard_header(w->x, "X-Header: 0123456789012345678901234567890123456789\r\n",
				 52);
}

/* Half of all pieces are large, the others of any size. */
static size_t piece(const struct net_wire *w)
{
	uint64_t left = w->size - w->at, most = min_u64(left, PIECE_MAX);

	if (w->trickles && w->at >= w->stall_at)
		return 1;
	if (w->at < w->stall_at)
		most = min_u64(most, w->stall_at - w->at);
	if (w->at < w->good)
		most = min_u64(most, w->good - w->at);
	switch (fibers_below(4)) {
	case 0:
		return 1 + fibers_below((uint32_t)most);
	case 1:
		return (size_t)min_u64(most, 16 * 1024);
	case 2:
		return (size_t)min_u64(most, 1 + fibers_below(16));
	default:
		return (size_t)most;
	}
}

static bool send_piece(struct net_wire *w)
{
	const uint8_t *from = w->at < w->good ? w->body + w->at : rubbish;
	size_t n = piece(w);

	w->at += n;
	return http_heard_bytes(w->x, from, n);
}

static void send_end(struct net_wire *w)
{
	struct err e = { .msg = "" };
	int r = 0;

	w->due = UINT64_MAX;
	if (w->end != CURLE_OK)
		r = err_set(&e, http_curl_errno((int)w->end), "%s", curl_easy_strerror(w->end));
	fibers_trace("  %.8s ends: %s", w->x->url + 8, curl_easy_strerror(w->end));
	http_heard_end(w->x, r, &e);
}

/* Sends the next part of it, and says when the one behind it comes.  Like libcurl it goes on until
 * the engine says no or ends the exchange, whatever the engine knows already. */
static void send_next(struct net_wire *w)
{
	uint64_t now = fibers_now();
	bool more;

	if (!w->headless && w->head_at < w->head_size)
		more = send_line(w);
	else if (!w->headless && (w->long_line > 0 || w->more_lines > 0))
		more = send_more_head(w);
	else if (!w->headless && w->at < w->size)
		more = send_piece(w);
	else {
		send_end(w);
		return;
	}
	if (!more) {
		w->end = CURLE_WRITE_ERROR;
		send_end(w);
		return;
	}
	if (w->cut)
		return; /* while the engine took that */
	if (w->at >= w->stall_at && w->head_at == w->head_size)
		w->due = w->trickles ? now + 1000 * 1000 : UINT64_MAX;
	else if (fibers_one_in(8))
		w->due = now + fibers_below(w->place->well ? 2000 : 200 * 1000);
}

/* ---- the transport ---- */

static int net_open(void *arg, void **state, struct err *e)
{
	*state = &net;
	return 0;
}

static void net_close(void *state)
{
}

static int net_begin(void *state, struct http_exchange *x, struct err *e)
{
	struct net_wire *w = wires;

	while (w < wires + WIRES_MAX && w->x)
		w++;
	if (w == wires + WIRES_MAX)
		return err_set(e, ENOMEM, "the model has no more connections");
	w->x = x;
	w->place = &net.places[0];
	w->head_size = w->head_at = w->long_line = w->more_lines = 0;
	w->head[0] = '\0';
	w->body = NULL;
	w->good = w->size = w->at = 0;
	w->stated = w->stall_at = UINT64_MAX;
	w->trickles = w->headless = w->silent = w->cut = false;
	w->end = CURLE_OK;
	w->due = fibers_now();
	x->transfer = w;
	net.running++;
	net.exchanges++;
	if (x->ranged)
		fibers_trace("asks %.60s %" PRIu64 "-%" PRIu64, x->url, x->first, x->last);
	else
		fibers_trace("asks %s %.60s", x->method, x->url);
	answer(w);
	settle(w);
	if (w->silent)
		w->due = UINT64_MAX;
	return 0;
}

static void net_end(void *state, struct http_exchange *x)
{
	struct net_wire *w = x->transfer;

	x->transfer = NULL;
	if (!w)
		return;
	w->x = NULL;
	net.running--;
}

static void net_perform(void *state)
{
	struct net_wire *w;

	for (w = wires; w < wires + WIRES_MAX; w++)
		while (w->x && w->due <= fibers_now()) {
			send_next(w);
			if (fibers_one_in(3))
				break;
		}
}

static void net_poll(void *state, int ms)
{
	uint64_t until = fibers_now() + (uint64_t)ms * 1000;
	struct net_wire *w;

	for (w = wires; w < wires + WIRES_MAX; w++)
		if (w->x)
			until = min_u64(until, w->due);
	if (!wakened && until > fibers_now())
		fibers_wait(&net, until);
	wakened = false;
}

static void net_wakeup(void *state)
{
	wakened = true;
	fibers_wake(&net);
}

static uint64_t net_expire(void *state, bool stopping)
{
	return CLOCK_NEVER;
}

static bool net_is_no_name(const char *host)
{
	return host[1] == '9' && fibers_one_in(2);
}

const struct http_transport net_transport = {
	.open = net_open,
	.close = net_close,
	.renew = net_close,
	.begin = net_begin,
	.end = net_end,
	.perform = net_perform,
	.poll = net_poll,
	.wakeup = net_wakeup,
	.expire = net_expire,
	.is_no_name = net_is_no_name,
};

void net_heal(void)
{
	struct net_wire *w;
	unsigned i;

	fibers_trace("the world is well again");
	for (i = 0; i < net.place_count; i++) {
		struct net_place *p = &net.places[i];

		p->well = true;
		p->login_refused = false;
		p->latency = 20 * 1000;
		p->sends_unmeasured = false;
	}
	for (w = wires; w < wires + WIRES_MAX; w++) {
		if (!w->x)
			continue;
		w->headless = w->cut = true;
		w->end = CURLE_RECV_ERROR;
		w->due = fibers_now();
	}
	net_wakeup(NULL);
}
