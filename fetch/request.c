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
#include "fetch/address.h"
#include "fetch/queue.h"
#include "fetch/range.h"
#include "fetch/places.h"
#include "fetch/request_url.h"
#include "fetch/secret.h"

enum {
	REST = 100, /* ms after the first round */
	REST_MAX = 5000,
	LATER = 50, /* ms */
	REDIRECTS_MAX = 8, /* a round */
	PAGE_MAX = 64 * 1024, /* bytes of an error's body that are read before it is cut off */
	LEAST = 1024, /* bytes that an answer has to bring in HTTP_SILENCE seconds, */
	LEAST_OF_MANY = 16 * 1024, /* and where another endpoint is left */
};

static void take_step(struct request *q);

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
	/* It is x.url, until `done` has returned. */
	AUTO_FREE __attribute__((unused)) char *url = TAKE_PTR(q->url);
	struct err copy = { .msg = "" };

	if (r < 0)
		copy = *e; /* may be q->why */
	http_timer_clear(queue_http(k), &q->timer);
	auth_leave(&q->auth_wait);
	refusal_release(&q->refusal);
	secret_free(TAKE_PTR(q->header));
	free(TAKE_PTR(q->referer));
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

/* Leaves whatever the request is waiting for, but for a login: finish does that. */
static void leave_state(struct request *q)
{
	if (q->state == REQUEST_WAITING)
		queue_remove(q->queue, q);
	if (q->state != REQUEST_RUNNING)
		return;
	http_cancel(&q->x);
	(void)judge(q, -ECANCELED, NULL);
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
	uint64_t half = max_u64(q->rest, REST) / 2;

	return half + clock_chance() % (half + 1);
}

/* Every endpoint has failed, or is left alone: rests, or gives up.  A round in which nobody was to
 * be asked does not count: it goes on as soon as somebody is. */
static void end_round(struct request *q)
{
	uint64_t now = clock_ms(), until = places_first_worth_asking(q, now);
	bool asked = q->tries != q->round_tries;

	if (asked)
		q->rest = min_u64(max_u64(2 * q->rest, REST), REST_MAX);
	q->round_tries = q->tries;
	q->strikes = q->redirects = 0;
	q->failed = 0;
	q->desperate = true;
	if (asked || until <= now)
		until = max_u64(until, now + rest_time(q));
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

/* The status in words, and the server's own; `meaning`: what it means here, "". */
static void fail_status(struct request *q, int r, const char *meaning)
{
	const char *fault = r == -EACCES || r == -ENOENT ? auth_fault(endpoint_of(q)->auth) : "";
	char said[REFUSAL_TEXT], text[sizeof q->why.msg];

	refusal_text(&q->refusal, q->x.answer.status, q->header, said);
	snprintf(text, sizeof text, "%s%s%s%s%.480s", said, meaning[0] ? "; " : "", meaning,
		 fault[0] ? "; credentials: " : "", fault);
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

static void follow(struct request *q)
{
	const char *location = q->x.answer.location;
	char *url = location ? endpoint_resolve(endpoint_of(q), q->url, location) : NULL;

	if (!url) {
		fail_status(q, -EPROTO,
			    "redirect refused: the Location is missing, malformed, not http(s), or "
			    "leaves TLS");
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
 * the next time, and if not, it is its own failure.  An address that is signed for GET refuses HEAD
 * each time. */
static void leave_target(struct request *q)
{
	char said[REFUSAL_TEXT], text[REFUSAL_TEXT + 300];
	struct address a;

	refusal_text(&q->refusal, q->x.answer.status, q->header, said);
	if (address_parse(q->url, &a))
		snprintf(text, sizeof text, "redirected to %.*s: %s", (int)a.host_n, a.host, said);
	else
		snprintf(text, sizeof text, "redirected: %s", said);
	request_url_forget(q);
	q->to_target = false;
	if (q->remembered)
		take_step(q); /* no failure: the endpoint has not been asked yet */
	else if (++q->redirects <= REDIRECTS_MAX && strcmp(q->method, "HEAD") != 0)
		fail_for_now(q, -EACCES, text);
	else
		fail_for_good(q, -EACCES, text);
}

/* Asks again, with another login, the same place. */
static void ask_again(struct request *q)
{
	q->following = q->to_target;
	take_step(q);
}

static void take_401(struct request *q)
{
	char words[REFUSAL_WORDS];
	struct err e;
	int r = auth_challenged(q->auth, &q->auth_wait, &q->x.answer.challenge, q->header,
				q->strikes++, &e);

	if (r == 0) {
		ask_again(q);
		return;
	}
	refusal_words(&q->refusal, q->header, words);
	if (words[0] != '\0')
		err_set(&q->why, -r, "%.700s: %s", e.msg, words);
	else
		q->why = e;
	e = q->why;
	fail_login(q, r, &e);
}

/* Whether somebody can log in where a redirect has led.  An address that is remembered is asked for
 * anew first: it may be a signature that has run out. */
static bool invite(struct request *q)
{
	if (q->auth || !q->to_target || q->remembered ||
	    q->x.answer.challenge.scheme == CHALLENGE_NONE)
		return q->auth;
	q->auth = endpoint_invite(endpoint_of(q), q->url);
	return q->auth;
}

static void take_busy(struct request *q)
{
	const struct http_answer *a = &q->x.answer;
	char text[REFUSAL_TEXT];

	refusal_text(&q->refusal, a->status, q->header, text);
	if (a->has_retry_after)
		endpoint_asked(endpoint_of(q), a->retry_after);
	fail_for_now(q, -EIO, text);
}

/* 501 and 505 say that it will not be done the next time either. */
static bool is_busy(unsigned status)
{
	return status == 408 || status == 425 || status == 429 ||
	       (status >= 500 && status != 501 && status != 505);
}

static void take_refusal(struct request *q)
{
	unsigned status = q->x.answer.status;

	if (is_busy(status))
		take_busy(q);
	else if (status == 401 && invite(q))
		take_401(q);
	else if (status == 403 && q->auth && q->header && q->strikes++ == 0 &&
		 auth_doubted(q->auth, &q->auth_wait, q->header) == 0)
		ask_again(q);
	else if (q->to_target && !q->own)
		leave_target(q);
	else if (status == 401 || status == 403)
		fail_status(q, -EACCES, "");
	else if (status == 404 || status == 410)
		fail_status(q, -ENOENT, "");
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

	if (!is_good(x->answer.status) || !q->bytes) {
		refusal_take(&q->refusal, buf, n);
		return x->received <= PAGE_MAX ? 0 : err_set(e, EMSGSIZE, "a long error page");
	}
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
	if (verdict < 0 && (r == 0 || verdict == -ENOBUFS))
		r = err_set(e, -verdict, "%s", why.msg);
	if (good && r < 0)
		range_ask_less(q);
	else if (good)
		range_ask_more(q);
	return r;
}

static void succeed(struct request *q)
{
	struct err e;
	int r = q->check && q->x.answer.status == 200 ? q->check(q, &e) : 0;

	if (r < 0) {
		fail_for_good(q, r, e.msg);
		return;
	}
	request_url_keep(q);
	endpoint_worked(endpoint_of(q));
	q->strikes = q->redirects = 0;
	if (q->ranged && !q->whole && !q->enough && q->first <= q->last)
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

/* There is no such host, or on this machine nobody listens: a name that is wrong or a server that
 * does not run is told at once. */
static bool is_hopeless(struct request *q, int r)
{
	struct address a;

	return (r == -EHOSTUNREACH && endpoint_of(q)->no_such_name) ||
	       (r == -ECONNREFUSED && address_parse(q->url, &a) && address_is_local(&a));
}

/* No whole answer came.  A place that could not even be reached is left alone for a while; where
 * there are others, so is one whose answers break off, trickle, or are not what was asked for. */
static void take_failure(struct request *q, int r, const struct err *e)
{
	if (r == -ESHUTDOWN || r == -ENOBUFS) { /* ours: nothing that a server can cause */
		finish(q, r, e);
		return;
	}
	if (r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ENOTUNIQ ||
	    (r == -ETIMEDOUT && q->x.answer.status == 0) || places_has_others(q))
		endpoint_failed(endpoint_of(q));
	if (q->to_target)
		request_url_forget(q);
	if (r == -EHOSTUNREACH)
		endpoint_unresolved(endpoint_of(q), q->url);
	if (r == -ENOTUNIQ)
		take_distrust(q, e);
	else if (is_hopeless(q, r))
		fail_at_open(q, r, e->msg);
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
	unsigned status = q->x.answer.status;
	/* A 401 that was cut short leads to no challenge: somebody else may ask what is wanted. */
	bool lost = status == 0 || (status == 401 && r < 0 && r != -EMSGSIZE);

	queue_note_round_trip(q->queue, q->x.first_byte_us);
	stats_request(q->stats, status);
	if (q->own && status != 0)
		endpoint_answered(endpoint_of(q), status);
	if (q->auth && status != 0 && status != 401)
		auth_accepted(q->auth, &q->auth_wait, status);
	else if (lost)
		auth_leave(&q->auth_wait);
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
	q->x.referer = q->to_target ? q->referer : NULL;
	q->x.content_type = q->content_type;
	q->x.body = q->body;
	q->x.silence = places_silence(q);
	q->x.companions = q->companions;
	q->x.least = q->body || strcmp(q->method, "GET") != 0 ? 0
		     : places_has_others(q)		      ? LEAST_OF_MANY
							      : LEAST;
	q->x.ranged = q->ranged;
	q->x.first = q->first;
	q->x.last = range_last(q);
	q->position = 0;
	q->whole = q->held = q->gave = q->enough = false;
	refusal_release(&q->refusal);
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

static void try_endpoint(struct request *q)
{
	struct endpoint *p = endpoint_of(q);
	const char *header = NULL;
	enum auth_answer answer = AUTH_GO;
	struct err e;

	secret_free(TAKE_PTR(q->header));
	if (request_url_set(q, p) < 0) {
		finish(q, err_set(&e, ENOMEM, "out of memory"), &e);
		return;
	}
	q->own = endpoint_is_own(p, q->url);
	q->auth = q->own ? p->auth : endpoint_guest(p, q->url);
	if (q->auth) {
		q->state = REQUEST_ASKING;
		q->auth_wait.ready = on_ready;
		q->auth_wait.path = q->path;
		answer = auth_ask(q->auth, &q->auth_wait, &header, &e);
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
	place = q->following ? (int)q->place : places_choose(q);
	if (place >= 0) {
		if ((size_t)place != q->place)
			q->strikes = q->redirects = 0;
		q->place = (size_t)place;
		try_endpoint(q);
	} else if (places_all_are_final(q)) {
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
