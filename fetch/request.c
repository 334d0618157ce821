/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - one request through its tries, see request.h for what answers lead to.
 *
 * A round asks each endpoint at most once; `failed` and `final` are bits of endpoints.  A request
 * holds a slot of the queue from request_start until it ends or rests. */
#include "fetch/request.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/queue.h"
#include "fetch/range.h"

enum {
	REST = 100, /* ms after the first round */
	REST_MAX = 5000,
	LATER = 50, /* ms */
	REDIRECTS_MAX = 8, /* a round */
	REFUSAL_MAX = 64 * 1024, /* bytes of an error's body that are worth reading */
	LEAST = 1024, /* bytes that an answer has to bring in HTTP_SILENCE seconds, */
	LEAST_OF_MANY = 16 * 1024, /* and where another endpoint is left */
};

static void take_step(struct request *q);

void request_targets_release(struct request_targets *t)
{
	size_t i;

	for (i = 0; i < ENDPOINTS_MAX; i++)
		free(t->url[i]);
	*t = (struct request_targets){ 0 };
}

static struct endpoint *endpoint_of(struct request *q)
{
	return &queue_endpoints(q->queue)->items[q->place];
}

static uint64_t deadline_of(const struct request *q)
{
	return atomic_load_explicit(&q->deadline, memory_order_relaxed);
}

/* ---- its end ---- */

static void finish(struct request *q, int r, const struct err *e)
{
	struct queue *k = q->queue;
	struct err copy = { .msg = "" };

	if (r < 0)
		copy = *e; /* may be q->why */
	http_timer_clear(queue_http(k), &q->timer);
	free(q->url);
	free(q->header);
	q->url = q->header = NULL;
	q->state = REQUEST_IDLE;
	queue_leave(k, q);
	queue_release(k, q);
	q->done(q, r, &copy);
}

static void finish_shutdown(struct request *q)
{
	struct err e;

	finish(q, err_set(&e, ESHUTDOWN, "%s: shutting down", endpoint_of(q)->name), &e);
}

/* The time is over: what went wrong last is the better part of the message. */
static void finish_late(struct request *q)
{
	struct err e;

	if (q->cause == 0 || q->why.msg[0] == '\0')
		err_set(&e, ETIMEDOUT, "%s: timed out waiting for an answer", endpoint_of(q)->name);
	else if (q->tries == 0)
		err_set(&e, ETIMEDOUT, "%s", q->why.msg);
	else
		err_set(&e, ETIMEDOUT, "%s, after %u tr%s", q->why.msg, q->tries,
			q->tries == 1 ? "y" : "ies");
	finish(q, -ETIMEDOUT, &e);
}

/* Tells how the exchange ended, once, if it gave bytes of a range. */
static int judge(struct request *q, int r, struct err *e)
{
	bool gave = q->gave;

	q->gave = false;
	return gave && q->ranged && q->judge ? q->judge(q, r, e) : 0;
}

/* Leaves whatever the request is waiting for. */
static void leave_state(struct request *q)
{
	switch (q->state) {
	case REQUEST_WAITING:
		queue_remove(q->queue, q);
		break;
	case REQUEST_ASKING:
		auth_leave(endpoint_of(q)->auth, &q->auth_wait);
		break;
	case REQUEST_RUNNING:
		http_cancel(&q->x);
		(void)judge(q, -ECANCELED, NULL);
		if (q->own)
			auth_lost(endpoint_of(q)->auth);
		break;
	case REQUEST_IDLE:
	case REQUEST_RESTING:
		break;
	}
}

void request_abort(struct request *q)
{
	leave_state(q);
	finish_shutdown(q);
}

static void rest_until(struct request *q, uint64_t until)
{
	q->state = REQUEST_RESTING;
	http_timer_set(queue_http(q->queue), &q->timer, min_u64(until, deadline_of(q)));
	queue_release(q->queue, q);
}

static void enter_line(struct request *q, bool first)
{
	q->state = REQUEST_WAITING;
	http_timer_set(queue_http(q->queue), &q->timer, deadline_of(q));
	queue_add(q->queue, q, first);
}

static void on_timer(struct http_call *c)
{
	struct request *q = (struct request *)((char *)c - offsetof(struct request, timer));

	if (queue_is_closing(q->queue)) {
		request_abort(q);
	} else if (clock_ms() >= deadline_of(q)) {
		leave_state(q);
		finish_late(q);
	} else if (q->state == REQUEST_RESTING) {
		enter_line(q, true);
	} else {
		http_timer_set(queue_http(q->queue), c, deadline_of(q)); /* it was moved */
	}
}

/* ---- failures ---- */

/* Half of it is chance, so that clients do not come back all at once. */
static uint64_t rest_time(const struct request *q)
{
	uint64_t ms = REST, span;

	ms = min_u64(ms << (q->rounds < 8 ? q->rounds - 1 : 7), REST_MAX);
	span = ms / 2 + 1;
	ms = ms / 2 + clock_chance() % span;
	return ms;
}

/* Until when an endpoint is to be left alone because it said so.  One that asks for more time than
 * the request has is tried all the same: waiting would be no better than an error. */
static uint64_t asked_until(const struct request *q, const struct endpoint *p)
{
	return p->asked_until < min_u64(q->retry_until, deadline_of(q)) ? p->asked_until : 0;
}

static uint64_t first_asked_until(const struct request *q)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	uint64_t first = CLOCK_NEVER;
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!(q->final & 1u << i) && !list->items[i].unused)
			first = min_u64(first, asked_until(q, &list->items[i]));
	return first;
}

/* Every endpoint has failed, or is left alone: rests, or gives up. */
static void end_round(struct request *q)
{
	uint64_t now = clock_ms(), until;

	q->rounds++;
	q->redirects = 0;
	q->failed = 0;
	q->desperate = true;
	until = max_u64(now + rest_time(q), first_asked_until(q));
	if (until >= min_u64(q->retry_until, deadline_of(q))) {
		finish_late(q);
		return;
	}
	rest_until(q, until);
}

static void keep_cause(struct request *q, int r, const char *text)
{
	q->cause = r;
	err_set(&q->why, -r, "%s: %s", endpoint_of(q)->name, text);
}

/* Worth another try, elsewhere first. */
static void fail_for_now(struct request *q, int r, const char *text)
{
	keep_cause(q, r, text);
	q->failed |= 1u << q->place;
	take_step(q);
}

/* This endpoint will not do. */
static void fail_for_good(struct request *q, int r, const char *text)
{
	keep_cause(q, r, text);
	q->final |= 1u << q->place;
	take_step(q);
}

static void fail_status(struct request *q, int r, const char *meaning)
{
	char text[160];

	snprintf(text, sizeof text, "HTTP %u%s%s", q->x.answer.status, meaning[0] ? ", " : "",
		 meaning);
	fail_for_good(q, r, text);
}

/* No login will do here, or there is none.  A refusal is the user's to mend while opening; later a
 * login may be about to change, or the registry be in disorder: until the deadline all may be well.
 */
static void fail_login(struct request *q, int r, const struct err *e)
{
	q->following = false;
	q->cause = r;
	q->why = *e;
	if (r == -EACCES && q->retry_until != CLOCK_NEVER)
		q->final |= 1u << q->place;
	else
		q->failed |= 1u << q->place;
	q->strikes = 0;
	take_step(q);
}

/* ---- answers ---- */

static void forget_target(struct request *q)
{
	if (q->targets) {
		free(q->targets->url[q->place]);
		q->targets->url[q->place] = NULL;
	}
}

static void follow(struct request *q)
{
	const char *location = q->x.answer.location;
	char *url = location ? endpoint_resolve(endpoint_of(q), q->url, location) : NULL;

	if (!url) {
		fail_status(q, -EPROTO, "a redirect that leads nowhere we may go");
		return;
	}
	if (++q->redirects > REDIRECTS_MAX) {
		free(url);
		fail_for_good(q, -ELOOP, "too many redirects");
		return;
	}
	free(q->url);
	q->url = url;
	q->to_target = q->following = true;
	take_step(q);
}

/* A signed address that has run out, or a store that lost the blob: the endpoint leads elsewhere
 * the next time, and if not, it is its own failure. */
static void leave_target(struct request *q)
{
	unsigned status = q->x.answer.status;
	char text[80];

	forget_target(q);
	free(q->url);
	q->url = NULL;
	q->to_target = false;
	if (q->remembered) {
		take_step(q); /* no failure: the endpoint has not been asked yet */
		return;
	}
	snprintf(text, sizeof text, "HTTP %u from where it redirects to", status);
	if (++q->redirects <= REDIRECTS_MAX)
		fail_for_now(q, -EACCES, text);
	else
		fail_for_good(q, -EACCES, text);
}

static void take_401(struct request *q)
{
	struct err e;
	int r = auth_challenged(endpoint_of(q)->auth, &q->x.answer.challenge, q->header,
				q->strikes++, &e);

	if (r < 0)
		fail_login(q, r, &e);
	else
		take_step(q);
}

static void take_busy(struct request *q)
{
	const struct http_answer *a = &q->x.answer;
	char text[64];

	snprintf(text, sizeof text, "HTTP %u", a->status);
	if (a->has_retry_after)
		endpoint_asked(endpoint_of(q), a->retry_after);
	fail_for_now(q, -EIO, text);
}

static void take_refusal(struct request *q)
{
	unsigned status = q->x.answer.status;

	if (status == 408 || status == 425 || status == 429 || status >= 500)
		take_busy(q);
	else if (q->to_target && !q->own)
		leave_target(q);
	else if (status == 401 && q->own)
		take_401(q);
	else if (status == 403 && q->own && q->header && q->strikes++ == 0 &&
		 auth_doubted(endpoint_of(q)->auth, q->header) == 0)
		take_step(q);
	else if (status == 401 || status == 403)
		fail_status(q, -EACCES, status == 401 ? "unauthorized" : "forbidden");
	else if (status == 404 || status == 410)
		fail_status(q, -ENOENT, "it does not have this");
	else if (status == 416)
		fail_status(q, -EBADMSG, "the blob has another size");
	else
		fail_status(q, -EIO, "");
}

static bool is_good(unsigned status)
{
	return (status >= 200 && status <= 206) || status == 304;
}

static bool is_redirect(unsigned status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Runs inside the transport.  Until it has returned 0 nothing of the answer is looked at. */
static int on_headers(struct http_exchange *x, struct err *e)
{
	struct request *q = (struct request *)((char *)x - offsetof(struct request, x));
	const struct http_answer *a = &x->answer;

	if (!is_good(a->status) || !q->ranged)
		return 0;
	return range_check(q, e);
}

static int on_bytes(struct http_exchange *x, const void *buf, size_t n, struct err *e)
{
	struct request *q = (struct request *)((char *)x - offsetof(struct request, x));
	uint64_t off = q->position;
	int r;

	if (!is_good(x->answer.status) || !q->bytes)
		return x->received <= REFUSAL_MAX ? 0 : err_set(e, EMSGSIZE, "a long error page");
	queue_note_bytes(q->queue, n);
	queue_note_arrived(q->queue, q, n);
	stats_add(q->stats, STATS_FETCHED_BYTES, n);
	if (q->ranged && n > q->end - off)
		return err_set(e, EPROTO, "more bytes than the answer's headers say");
	q->position += n;
	q->gave = true;
	r = q->bytes(q, off, buf, n, e);
	q->enough = r > 0;
	return r > 0 ? err_set(e, ECANCELED, "enough") : r;
}

/* How the exchange ended, now that it is known, and whether what it gave is right. */
static int settle(struct request *q, int r, struct err *e)
{
	bool good = q->ranged && is_good(q->x.answer.status);
	struct err why;
	int verdict;

	if (q->enough)
		r = 0;
	if (r == 0 && good && !q->enough && q->position != q->end)
		r = err_set(e, ECONNRESET, "the answer was cut short");
	verdict = judge(q, r, &why);
	if (r == 0 && verdict < 0)
		r = err_set(e, -verdict, "%s", why.msg);
	if (good && r < 0)
		range_ask_less(q);
	else if (good)
		range_ask_more(q);
	return r;
}

static void keep_target(struct request *q)
{
	if (!q->to_target || !q->targets || q->targets->url[q->place])
		return;
	q->targets->url[q->place] = strdup(q->url); /* without it we ask again */
}

static void succeed(struct request *q)
{
	struct err e;
	int r = q->check && q->x.answer.status == 200 ? q->check(q, &e) : 0;

	if (r < 0) {
		fail_for_good(q, r, e.msg);
		return;
	}
	keep_target(q);
	endpoint_worked(endpoint_of(q));
	q->strikes = q->redirects = 0;
	if (q->ranged && !q->whole && q->first <= q->last)
		take_step(q); /* the rest of it, from the place that gives it */
	else
		finish(q, 0, NULL);
}

/* At open it is the user's to mend; later it may be the server's passing trouble. */
static void fail_at_open(struct request *q, int r, const char *text)
{
	if (q->retry_until != CLOCK_NEVER)
		fail_for_good(q, r, text);
	else
		fail_for_now(q, r, text);
}

static void take_distrust(struct request *q, const struct err *e)
{
	char text[sizeof e->msg];

	snprintf(text, sizeof text, "%.900s; name its CA's file with cainfo=FILE", e->msg);
	fail_at_open(q, -EACCES, text);
}

/* Whether another endpoint can be asked in place of this one. */
static bool has_others(const struct request *q)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	size_t i;

	for (i = 0; i < list->count; i++)
		if (i != q->place && !(q->final & 1u << i) && !list->items[i].unused)
			return true;
	return false;
}

/* No whole answer came.  A place that could not even be reached is left alone for a while; where
 * there are others, so is one whose answers break off, trickle, or are not what was asked for. */
static void take_failure(struct request *q, int r, const struct err *e)
{
	if (r == -ESHUTDOWN) {
		finish(q, r, e);
		return;
	}
	if (r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ENOTUNIQ ||
	    (r == -ETIMEDOUT && q->x.answer.status == 0) || has_others(q))
		endpoint_failed(endpoint_of(q));
	if (q->to_target)
		forget_target(q);
	if (r == -ENOTUNIQ)
		take_distrust(q, e);
	else if (r == -EFBIG)
		fail_for_good(q, r, e->msg);
	else if (r == -EBADMSG)
		fail_at_open(q, r, e->msg);
	else
		fail_for_now(q, r, e->msg);
}

/* What the answer says about the place and the login, whatever becomes of its body. */
static void note_answer(struct request *q, int r)
{
	struct auth *auth = endpoint_of(q)->auth;
	unsigned status = q->x.answer.status;
	/* A 401 that was cut short leads to no challenge: somebody else may ask what is wanted. */
	bool lost = status == 0 || (status == 401 && r < 0 && r != -EMSGSIZE);

	queue_note_round_trip(q->queue, q->x.first_byte_us);
	stats_request(q->stats, r < 0 && status == 0 ? 0 : status);
	if (q->own && status != 0)
		endpoint_answered(endpoint_of(q), status);
	if (q->own && status != 0 && status != 401)
		auth_accepted(auth);
	else if (q->own && lost)
		auth_lost(auth);
}

static void on_done(struct http_exchange *x, int r, const struct err *why)
{
	struct request *q = (struct request *)((char *)x - offsetof(struct request, x));
	unsigned status = x->answer.status;
	struct err e = *why;

	q->state = REQUEST_IDLE;
	note_answer(q, r);
	r = settle(q, r, &e);
	if (r < 0 && r != -EMSGSIZE)
		take_failure(q, r, &e);
	else if (is_redirect(status))
		follow(q);
	else if (!is_good(status))
		take_refusal(q);
	else
		succeed(q);
}

/* ---- a try ---- */

static void begin(struct request *q)
{
	struct endpoint *p = endpoint_of(q);

	q->state = REQUEST_RUNNING;
	if (q->tries++ > 0)
		stats_add(q->stats, STATS_RETRIES, 1);
	q->x.route = q->own ? &p->route : &p->away;
	q->x.method = q->method;
	q->x.url = q->url;
	q->x.authorization = q->header;
	q->x.accept = q->accept;
	q->x.if_none_match = q->if_none_match;
	q->x.content_type = q->content_type;
	q->x.body = q->body;
	q->x.silence = q->silence;
	q->x.companions = q->companions;
	q->x.least = q->body || strcmp(q->method, "GET") != 0 ? 0
		     : has_others(q)			      ? LEAST_OF_MANY
							      : LEAST;
	q->x.ranged = q->ranged;
	q->x.first = q->first;
	q->x.last = range_last(q);
	q->position = 0;
	q->whole = q->held = q->gave = q->enough = false;
	q->x.headers = on_headers;
	q->x.bytes = on_bytes;
	q->x.done = on_done;
	http_begin(queue_http(q->queue), &q->x);
}

static void on_ready(struct auth_wait *w, int r, const struct err *e)
{
	struct request *q = (struct request *)((char *)w - offsetof(struct request, auth_wait));

	q->state = REQUEST_IDLE;
	if (r < 0)
		fail_login(q, r, e);
	else
		take_step(q);
}

/* Whether the exchange goes to the endpoint's own scheme, host and port. */
static bool is_own(const struct request *q, const struct endpoint *p)
{
	AUTO_FREE char *origin = endpoint_origin_of(q->url);

	return origin && strcasecmp(origin, p->origin) == 0;
}

static int set_url(struct request *q, const struct endpoint *p)
{
	const char *known = q->targets ? q->targets->url[q->place] : NULL;

	if (q->following) {
		q->following = q->remembered = false;
		return 0;
	}
	free(q->url);
	q->to_target = q->remembered = known != NULL;
	if (known)
		q->url = strdup(known);
	else if (q->path[0] != '/')
		q->url = strdup(q->path);
	else if (asprintf(&q->url, "%s%s", p->base, q->path) < 0)
		q->url = NULL;
	return q->url ? 0 : -ENOMEM;
}

static void try_endpoint(struct request *q)
{
	struct endpoint *p = endpoint_of(q);
	const char *header = NULL;
	enum auth_answer answer = AUTH_GO;
	struct err e;

	q->header = (free(q->header), NULL);
	if (set_url(q, p) < 0) {
		finish(q, err_set(&e, ENOMEM, "out of memory"), &e);
		return;
	}
	q->own = is_own(q, p);
	if (q->own) {
		q->state = REQUEST_ASKING;
		q->auth_wait.ready = on_ready;
		answer = auth_ask(p->auth, &q->auth_wait, &header, &e);
	}
	if (answer == AUTH_WAIT) {
		q->following = q->to_target && !q->remembered;
		return;
	}
	if (answer == AUTH_REFUSED || answer == AUTH_PAUSED) {
		q->state = REQUEST_IDLE;
		fail_login(q, answer == AUTH_REFUSED ? -EACCES : -EIO, &e);
		return;
	}
	if (header) {
		q->header = strdup(header);
		if (!q->header) {
			finish(q, err_set(&e, ENOMEM, "out of memory"), &e);
			return;
		}
	}
	begin(q);
}

static int first_usable(const struct request *q, uint32_t without)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	uint64_t now = clock_ms();
	size_t i;

	for (i = 0; i < list->count; i++) {
		const struct endpoint *p = &list->items[i];

		if ((q->failed | q->final | without) & 1u << i || p->unused)
			continue;
		if (asked_until(q, p) <= now && (q->desperate || p->bad_until <= now))
			return (int)i;
	}
	return -1;
}

/* Whether some endpoint is neither final nor one to avoid. */
static bool has_better(const struct request *q)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!((q->final | q->avoid) & 1u << i) && !list->items[i].unused)
			return true;
	return false;
}

/* The first endpoint that is worth a try now; -1: none.  One whose bytes were wrong before is asked
 * only when every other has failed, also after waiting for them. */
static int choose(const struct request *q)
{
	int place = first_usable(q, q->avoid);

	if (place < 0 && q->avoid && (q->desperate || !has_better(q)))
		place = first_usable(q, 0);
	return place;
}

static bool all_are_final(const struct request *q)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!(q->final & 1u << i) && !list->items[i].unused)
			return false;
	return true;
}

/* What next?  Called whenever nothing is under way for the request, which holds a slot. */
static void take_step(struct request *q)
{
	int place;

	if (queue_is_closing(q->queue)) {
		finish_shutdown(q);
		return;
	}
	if (clock_ms() >= deadline_of(q)) {
		finish_late(q);
		return;
	}
	place = q->following ? (int)q->place : choose(q);
	if (place >= 0) {
		if ((size_t)place != q->place)
			q->strikes = 0;
		q->place = (size_t)place;
		try_endpoint(q);
	} else if (all_are_final(q)) {
		finish(q, q->cause, &q->why);
	} else {
		end_round(q);
	}
}

void request_start(struct request *q)
{
	enum request_go go = REQUEST_GO;

	q->state = REQUEST_IDLE;
	http_timer_set(queue_http(q->queue), &q->timer, deadline_of(q));
	if (q->starting && !queue_is_closing(q->queue))
		go = q->starting(q);
	if (go == REQUEST_DONE)
		finish(q, 0, NULL);
	else if (go == REQUEST_LATER)
		rest_until(q, clock_ms() + LATER);
	else
		take_step(q);
}

static void on_submit(struct http_call *c)
{
	struct request *q = (struct request *)((char *)c - offsetof(struct request, submit));

	request_enter(q);
	enter_line(q, false);
}

void request_enter(struct request *q)
{
	q->timer.run = on_timer;
	queue_enter(q->queue, q);
}

void request_promote(struct request *q)
{
	bool waiting = q->state == REQUEST_WAITING;

	if (waiting)
		queue_remove(q->queue, q);
	q->priority = REQUEST_DEMAND;
	if (waiting)
		queue_add(q->queue, q, false);
}

void request_release(struct request *q)
{
	http_answer_release(&q->x.answer);
}

void request_submit(struct request *q)
{
	q->submit.run = on_submit;
	http_post(queue_http(q->queue), &q->submit);
}
