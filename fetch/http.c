/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - the engine's thread and its exchanges, see http.h; how they reach servers is the
 * transport's (http_transport.h), what an answer's headers say is read in http_answer.c.
 *
 * (1) The lock guards the queue of posted calls and the two flags; all else belongs to the thread.
 * (2) The first failure of an exchange is final: what comes after it is not looked at, and nothing
 *     takes it back.
 * (3) A turn takes the bytes that are there before it runs timers: a process that was stopped for a
 *     while does not blame a server whose answer was waiting meanwhile.
 * (4) Every exchange that runs has its `quiet` timer set. */
#include "fetch/http.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/http_answer.h"
#include "fetch/http_transport.h"

enum {
	POLL_MAX = 60 * 1000, /* ms */
	HEADERS_MAX = 64 * 1024, /* bytes of one answer's headers */
};

struct http {
	const struct http_transport *transport;
	void *state; /* the transport's */
	pthread_mutex_t lock;
	struct http_call *first; /* guarded by lock */
	struct http_call **last; /* guarded by lock */
	bool ending; /* guarded by lock: the thread is to end when nothing is left */
	unsigned held; /* guarded by lock: calls that other threads will post */
	atomic_bool stopping;
	pthread_t thread;
	bool started; /* of the owner */
	bool begun; /* an exchange that the transport has not seen to yet */
	struct http_call *timers; /* by due time */
	struct http_exchange *running;
};

/* ---- calls and timers ---- */

bool http_now_stopping(const struct http *h)
{
	return atomic_load_explicit(&h->stopping, memory_order_relaxed);
}

static void append_locked(struct http *h, struct http_call *c)
{
	if (c->pending)
		return;
	c->pending = true;
	c->next = NULL;
	*h->last = c;
	h->last = &c->next;
}

void http_post(struct http *h, struct http_call *c)
{
	WITH_LOCK(&h->lock);
	append_locked(h, c);
	h->transport->wakeup(h->state);
}

void http_hold(struct http *h)
{
	WITH_LOCK(&h->lock);
	h->held++;
}

void http_post_held(struct http *h, struct http_call *c)
{
	WITH_LOCK(&h->lock);
	h->held--;
	append_locked(h, c);
	h->transport->wakeup(h->state);
}

static struct http_call *take_call(struct http *h)
{
	struct http_call *c;

	WITH_LOCK(&h->lock);
	c = h->first;
	if (c) {
		h->first = c->next;
		if (!h->first)
			h->last = &h->first;
		c->pending = false;
	}
	return c;
}

void http_timer_clear(struct http *h, struct http_call *c)
{
	struct http_call **at = &h->timers;

	while (*at && *at != c)
		at = &(*at)->next;
	if (*at)
		*at = c->next;
}

void http_timer_set(struct http *h, struct http_call *c, uint64_t due)
{
	struct http_call **at = &h->timers;

	http_timer_clear(h, c);
	while (*at && (*at)->due <= due)
		at = &(*at)->next;
	c->due = due;
	c->next = *at;
	*at = c;
}

static struct http_call *take_timer(struct http *h)
{
	struct http_call *c = h->timers;

	if (!c || (c->due > clock_ms() && !http_now_stopping(h)))
		return NULL;
	h->timers = c->next;
	return c;
}

static void run_calls(struct http *h)
{
	struct http_call *c;

	while ((c = take_call(h)) != NULL || (c = take_timer(h)) != NULL)
		c->run(c);
}

void http_run(struct http *h, struct http_call *c)
{
	http_post(h, c);
	if (!h->started)
		run_calls(h);
}

/* ---- what a transport tells ---- */

static bool fail(struct http_exchange *x, int r)
{
	x->failure = r;
	return r == 0;
}

static bool tell_headers(struct http_exchange *x)
{
	if (x->headers_told)
		return true;
	x->headers_told = true;
	return !x->headers || fail(x, x->headers(x, &x->why));
}

bool http_heard_header(struct http_exchange *x, const char *line, size_t n)
{
	if (x->failure < 0)
		return false;
	x->heard = clock_ms();
	if (x->header_bytes == 0)
		x->paced_at = x->heard;
	x->header_bytes += n;
	if (x->header_bytes > HEADERS_MAX)
		return fail(x,
			    err_set(&x->why, EPROTO, "more than %d bytes of headers", HEADERS_MAX));
	return fail(x, http_answer_take(&x->answer, line, n, &x->why));
}

bool http_heard_bytes(struct http_exchange *x, const void *buf, size_t n)
{
	if (x->failure < 0 || !tell_headers(x))
		return false;
	x->heard = clock_ms();
	x->received += n;
	return !x->bytes || fail(x, x->bytes(x, buf, n, &x->why));
}

void http_heard_life(struct http_exchange *x)
{
	x->heard = clock_ms();
}

void http_heard_failure(struct http_exchange *x, int r, const struct err *e)
{
	if (x->failure < 0)
		return;
	x->failure = r;
	x->why = *e;
}

void http_heard_end(struct http_exchange *x, int r, const struct err *e)
{
	x->over = true;
	if (r < 0)
		http_heard_failure(x, r, e);
	else if (x->failure == 0)
		(void)tell_headers(x);
}

/* ---- exchanges ---- */

static void release(struct http_exchange *x)
{
	http_timer_clear(x->http, &x->quiet);
	if (!x->link)
		return;
	*x->link = x->next;
	if (x->next)
		x->next->link = x->link;
	x->link = NULL;
	x->http->transport->end(x->http->state, x);
}

static uint64_t patience_of(const struct http_exchange *x)
{
	return (x->silence ? x->silence : HTTP_SILENCE) * (uint64_t)1000;
}

/* Silence, and a trickle that would keep its reader waiting until the deadline.  A body that is
 * being sent is heard of as well, but not measured. */
static int judge_pace(struct http_exchange *x, uint64_t now)
{
	uint64_t patience = patience_of(x), got = x->received - x->paced_bytes;

	if (now >= x->heard + patience)
		return err_set(&x->why, ETIMEDOUT, "%s for %u s",
			       x->answer.status ? "not a byte" : "no answer",
			       (unsigned)(patience / 1000));
	if (!x->least || x->header_bytes == 0 || now < x->paced_at + patience)
		return 0;
	if (got < x->least)
		return err_set(&x->why, ETIMEDOUT, "only %" PRIu64 " bytes in %u s", got,
			       (unsigned)(patience / 1000));
	x->paced_at = now;
	x->paced_bytes = x->received;
	return 0;
}

/* libcurl's own limit of speed looks at an average, and so is seconds late. */
static void end_quiet(struct http_call *c)
{
	struct http_exchange *x =
		(struct http_exchange *)((char *)c - offsetof(struct http_exchange, quiet));
	uint64_t now = clock_ms(), due;

	if (http_now_stopping(x->http) || x->failure < 0)
		return; /* end_over sees to it */
	if (!fail(x, judge_pace(x, now)))
		return;
	due = x->heard + patience_of(x);
	if (x->least && x->header_bytes > 0)
		due = min_u64(due, x->paced_at + patience_of(x));
	http_timer_set(x->http, c, due);
}

void http_begin(struct http *h, struct http_exchange *x)
{
	http_answer_release(&x->answer);
	x->http = h;
	x->received = x->first_byte_us = x->paced_bytes = 0;
	x->header_bytes = 0;
	x->headers_told = x->over = false;
	x->failure = 0;
	x->transfer = NULL;
	x->link = &h->running;
	x->next = h->running;
	if (x->next)
		x->next->link = &x->next;
	h->running = x;
	x->heard = x->paced_at = clock_ms();
	x->quiet.run = end_quiet;
	http_timer_set(h, &x->quiet, x->heard + patience_of(x));
	h->begun = true;
	x->failure = h->transport->begin(h->state, x, &x->why);
}

void http_cancel(struct http_exchange *x)
{
	release(x);
}

/* Tells of those that are over, in full or failed, and of all of them once the engine stops.
 * `done` may begin others, and cancel them. */
static void end_over(struct http *h)
{
	struct http_exchange *x = h->running;
	struct err e;
	int r;

	while (x) {
		if (http_now_stopping(h) && x->failure == 0 && !x->over)
			(void)fail(x, err_set(&x->why, ESHUTDOWN, "shutting down"));
		if (x->failure == 0 && !x->over) {
			x = x->next;
			continue;
		}
		r = x->failure;
		e = r < 0 ? x->why : (struct err){ .msg = "" };
		release(x);
		x->done(x, r, &e);
		x = h->running;
	}
}

/* ---- the thread ---- */

static bool has_calls(struct http *h, bool *ending)
{
	WITH_LOCK(&h->lock);
	*ending = h->ending && h->held == 0;
	return h->first != NULL;
}

/* Returns when there is more to do. */
static uint64_t turn(struct http *h, bool *ending)
{
	uint64_t due;

	h->begun = false;
	h->transport->perform(h->state);
	end_over(h);
	run_calls(h);
	end_over(h);
	due = h->transport->expire(h->state, http_now_stopping(h));
	if (has_calls(h, ending) || h->begun || (http_now_stopping(h) && (h->running || h->timers)))
		return 0;
	return h->timers ? min_u64(due, h->timers->due) : due;
}

uint64_t http_step(struct http *h)
{
	bool ending;

	return turn(h, &ending);
}

static void *run_engine(void *arg)
{
	struct http *h = arg;
	bool ending;

	for (;;) {
		uint64_t due = turn(h, &ending), now;

		if (due == 0)
			continue;
		if (ending)
			return NULL;
		now = clock_ms();
		h->transport->poll(h->state, (int)min_u64(due - min_u64(due, now), POLL_MAX));
	}
}

bool http_is_no_name(const struct http *h, const char *host)
{
	return h->transport->is_no_name && h->transport->is_no_name(host);
}

int http_open_on(const struct http_transport *transport, void *arg, struct http **out,
		 struct err *e)
{
	struct http *h = calloc(1, sizeof *h);
	int r;

	if (!h)
		return err_set(e, ENOMEM, "http: out of memory");
	h->transport = transport;
	r = transport->open(arg, &h->state, e);
	if (r < 0) {
		free(h);
		return r;
	}
	pthread_mutex_init(&h->lock, NULL);
	h->last = &h->first;
	*out = h;
	return 0;
}

int http_open(struct http **out, struct err *e)
{
	return http_open_on(&http_transport_curl, NULL, out, e);
}

int http_start(struct http *h, struct err *e)
{
	int code;

	h->ending = false;
	atomic_store(&h->stopping, false);
	code = clock_thread(&h->thread, run_engine, h);
	if (code != 0)
		return err_set(e, code, "http: starting a thread: %s", strerror(code));
	h->started = true;
	return 0;
}

void http_interrupt(struct http *h)
{
	atomic_store(&h->stopping, true);
	h->transport->wakeup(h->state);
}

void http_stop(struct http *h)
{
	if (!h->started)
		return;
	atomic_store(&h->stopping, true);
	pthread_mutex_lock(&h->lock);
	h->ending = true;
	pthread_mutex_unlock(&h->lock);
	h->transport->wakeup(h->state);
	clock_join(h->thread);
	h->started = false;
	/* Its connections must not be shared between this process and the next one. */
	h->transport->renew(h->state);
}

void http_close(struct http *h)
{
	if (!h)
		return;
	http_stop(h);
	h->transport->close(h->state);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
