/* SPDX-License-Identifier: Apache-2.0 */
/* The engine: calls, timers, and exchanges of every end, on a stage (stage.h). */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "tests/unit/alloc.h"
#include "tests/unit/stage.h"

struct watched {
	struct http_exchange x;
	unsigned headers, done;
	size_t bytes;
	int headers_result, bytes_result, r;
	bool again; /* `done` begins it once more */
	char text[1024];
};

static struct watched *watched_of(struct http_exchange *x)
{
	return (struct watched *)x; /* its first member */
}

static int on_headers(struct http_exchange *x, struct err *e)
{
	struct watched *w = watched_of(x);

	w->headers++;
	return w->headers_result < 0 ? err_set(e, -w->headers_result, "not this one") : 0;
}

static int on_bytes(struct http_exchange *x, const void *buf, size_t n, struct err *e)
{
	struct watched *w = watched_of(x);

	w->bytes += n;
	return w->bytes_result < 0 ? err_set(e, -w->bytes_result, "no more") : 0;
}

static void on_done(struct http_exchange *x, int r, const struct err *e)
{
	struct watched *w = watched_of(x);

	w->done++;
	w->r = r;
	snprintf(w->text, sizeof w->text, "%s", e->msg);
	if (w->again) {
		w->again = false;
		http_begin(stage.http, x);
	}
}

static void begin(struct watched *w)
{
	w->x.method = "GET";
	w->x.url = "https://e0.test/";
	w->x.headers = on_headers;
	w->x.bytes = on_bytes;
	w->x.done = on_done;
	http_begin(stage.http, &w->x);
}

static int setup(void **state)
{
	stage_open();
	return 0;
}

static int teardown(void **state)
{
	stage_close();
	return 0;
}

/* ---- calls and timers ---- */

struct noted {
	struct http_call call;
	char name;
};

static char notes[32];

static void note(struct http_call *c)
{
	size_t n = strlen(notes);

	notes[n] = ((struct noted *)c)->name;
	notes[n + 1] = '\0';
}

static void test_calls(void **state)
{
	struct noted a = { { .run = note }, 'a' }, b = { { .run = note }, 'b' };
	struct noted c = { { .run = note }, 'c' };

	notes[0] = '\0';
	http_post(stage.http, &b.call);
	http_post(stage.http, &a.call);
	http_post(stage.http, &b.call); /* it is pending */
	assert_int_equal(stage.wakeups, 3);
	assert_string_equal(notes, "");
	assert_true(stage_run() == CLOCK_NEVER);
	assert_string_equal(notes, "ba");
	http_post(stage.http, &a.call);
	http_run(stage.http, &c.call); /* it is not started */
	assert_string_equal(notes, "baac");
}

static void test_timers(void **state)
{
	struct noted a = { { .run = note }, 'a' }, b = { { .run = note }, 'b' };
	struct noted c = { { .run = note }, 'c' }, d = { { .run = note }, 'd' };
	uint64_t now = clock_ms();

	notes[0] = '\0';
	http_timer_set(stage.http, &a.call, now + 10);
	http_timer_set(stage.http, &b.call, now + 5);
	http_timer_set(stage.http, &c.call, now + 10); /* behind a */
	http_timer_set(stage.http, &d.call, CLOCK_NEVER);
	assert_true(stage_run() == now + 5);
	stage_pass(4);
	assert_string_equal(notes, "");
	stage_pass(1);
	assert_string_equal(notes, "b");
	http_timer_set(stage.http, &a.call, now + 20); /* moved */
	http_timer_set(stage.http, &b.call, now + 30);
	http_timer_clear(stage.http, &b.call);
	http_timer_clear(stage.http, &b.call);
	stage_pass(5);
	assert_string_equal(notes, "bc");
	stage_pass(50);
	assert_string_equal(notes, "bca");
	assert_true(stage_run() == CLOCK_NEVER);
	http_interrupt(stage.http); /* then all are due */
	assert_true(http_now_stopping(stage.http));
	stage_run();
	assert_string_equal(notes, "bcad");
}

/* Calls that wait go first, also those that a timer posts. */
static void test_calls_before_timers(void **state)
{
	struct noted a = { { .run = note }, 'a' }, b = { { .run = note }, 'b' };

	notes[0] = '\0';
	http_timer_set(stage.http, &a.call, clock_ms());
	http_post(stage.http, &b.call);
	stage_run();
	assert_string_equal(notes, "ba");
}

/* ---- ends ---- */

static void test_good(void **state)
{
	struct watched w = { 0 };

	begin(&w);
	assert_true(http_step(stage.http) != 0); /* it waits for the transport now */
	assert_true(stage_head(&w.x, "100"));
	assert_true(stage_head(&w.x, "200|Content-Length: 7|ETag: x"));
	assert_int_equal(w.headers, 0); /* there may be more of them */
	assert_true(stage_bytes(&w.x, 0, 3));
	assert_int_equal(w.headers, 1);
	assert_true(stage_bytes(&w.x, 3, 4));
	stage_end(&w.x, 0);
	assert_int_equal(w.done, 0); /* not inside the transport */
	stage_run();
	assert_int_equal(w.done, 1);
	assert_int_equal(w.r, 0);
	assert_string_equal(w.text, "");
	assert_int_equal(w.headers, 1);
	assert_int_equal(w.x.received, 7);
	assert_int_equal(w.bytes, 7);
	assert_int_equal(w.x.answer.status, 200);
	assert_int_equal(w.x.answer.length, 7);
	assert_int_equal(stage.count, 0);
	assert_true(stage_run() == CLOCK_NEVER); /* its timer is gone */
	http_answer_release(&w.x.answer);
}

/* Without a body the end tells the headers; without callbacks all is thrown away. */
static void test_bare(void **state)
{
	struct watched w = { 0 };

	begin(&w);
	stage_answer(&w.x, "204", 0, 0);
	assert_int_equal(w.headers, 1);
	assert_int_equal(w.r, 0);
	w.x.headers = NULL;
	w.x.bytes = NULL;
	http_begin(stage.http, &w.x);
	stage_answer(&w.x, "200", 100, 0);
	assert_int_equal(w.done, 2);
	assert_int_equal(w.r, 0);
	assert_int_equal(w.x.received, 100);
	assert_int_equal(w.bytes, 0);
}

/* (2): what comes after the first failure is not looked at, and takes nothing back. */
static void test_first_failure(void **state)
{
	struct watched w = { .headers_result = -EPROTO }, other = { .bytes_result = -ENOSPC };
	struct err e;

	begin(&w);
	assert_true(stage_head(&w.x, "200"));
	assert_false(stage_bytes(&w.x, 0, 5));
	assert_int_equal(w.bytes, 0);
	assert_false(stage_bytes(&w.x, 5, 5));
	assert_false(stage_head(&w.x, "200"));
	stage_end(&w.x, -ECONNRESET);
	stage_run();
	assert_int_equal(w.headers, 1);
	assert_int_equal(w.r, -EPROTO);
	assert_string_equal(w.text, "not this one");

	begin(&other);
	assert_true(stage_head(&other.x, "200"));
	assert_false(stage_bytes(&other.x, 0, 5));
	stage_run(); /* it need not wait for the transport */
	assert_int_equal(other.r, -ENOSPC);
	assert_int_equal(other.done, 1);

	other = (struct watched){ 0 };
	begin(&other);
	http_heard_failure(&other.x, err_set(&e, EPROTO, "first"), &e);
	http_heard_failure(&other.x, err_set(&e, EIO, "second"), &e);
	stage_end(&other.x, 0);
	stage_run();
	assert_int_equal(other.r, -EPROTO);
	assert_string_equal(other.text, "first");
	assert_int_equal(other.headers, 0);
}

static void test_long_head(void **state)
{
	char line[8002];
	struct watched w = { 0 };
	unsigned i;

	memset(line, 'x', sizeof line - 2);
	line[8000] = '\r';
	line[8001] = '\n';
	begin(&w);
	for (i = 0; i < 8; i++)
		assert_true(http_heard_header(&w.x, line, sizeof line));
	assert_true(http_heard_header(&w.x, line, 64 * 1024 - 8 * sizeof line));
	assert_false(http_heard_header(&w.x, line, 1));
	stage_run();
	assert_int_equal(w.r, -EPROTO);
	assert_string_equal(w.text, "more than 65536 bytes of headers");
}

static void test_bad_header(void **state)
{
	struct watched w = { 0 };

	begin(&w);
	assert_false(stage_head(&w.x, "200|Content-Length: many"));
	stage_run();
	assert_int_equal(w.r, -EPROTO);
}

static void test_not_begun(void **state)
{
	struct watched w = { 0 };

	stage.refuses = true;
	begin(&w);
	assert_int_equal(w.done, 0); /* never before http_begin has returned */
	stage_run();
	assert_int_equal(w.done, 1);
	assert_int_equal(w.r, -ENOMEM);
}

static void test_again(void **state)
{
	struct watched w = { .again = true };

	begin(&w);
	stage_answer(&w.x, "200|Location: /x", 5, 0);
	assert_int_equal(w.done, 1);
	assert_int_equal(stage.begun, 2);
	assert_null(w.x.answer.location); /* of a new answer */
	assert_int_equal(w.x.received, 0);
	stage_answer(&w.x, "200", 2, 0);
	assert_int_equal(w.done, 2);
	assert_int_equal(w.x.received, 2);
}

static void test_cancel(void **state)
{
	struct watched w = { 0 }, other = { 0 };

	begin(&w);
	begin(&other);
	http_cancel(&w.x);
	assert_int_equal(stage.count, 1);
	stage_answer(&other.x, "200", 0, 0);
	assert_int_equal(other.done, 1);
	assert_int_equal(w.done, 0);
	assert_true(stage_run() == CLOCK_NEVER);
}

static void test_interrupt(void **state)
{
	struct watched w = { 0 }, failed = { 0 }, over = { 0 };

	begin(&w);
	begin(&failed);
	begin(&over);
	stage_run();
	stage_end(&failed.x, -EPROTO);
	stage_head(&over.x, "200");
	stage_end(&over.x, 0);
	http_interrupt(stage.http);
	stage_run();
	assert_int_equal(w.r, -ESHUTDOWN);
	assert_string_equal(w.text, "shutting down");
	assert_int_equal(failed.r, -EPROTO);
	assert_int_equal(over.r, 0);
	http_answer_release(&over.x.answer);
	w = (struct watched){ 0 };
	begin(&w);
	stage_run();
	assert_int_equal(w.r, -ESHUTDOWN);
}

/* ---- time ---- */

static void test_silence(void **state)
{
	struct watched w = { 0 };

	begin(&w);
	stage_pass(9999);
	assert_int_equal(w.done, 0);
	stage_pass(1);
	assert_int_equal(w.r, -ETIMEDOUT);
	assert_string_equal(w.text, "no answer for 10 s");

	w = (struct watched){ .x.silence = 3 };
	begin(&w);
	stage_pass(2000);
	stage_head(&w.x, "200");
	stage_pass(2999);
	assert_int_equal(w.done, 0);
	stage_bytes(&w.x, 0, 1);
	stage_pass(2999);
	http_heard_life(&w.x);
	stage_pass(2999);
	assert_int_equal(w.done, 0);
	stage_pass(1);
	assert_int_equal(w.r, -ETIMEDOUT);
	assert_string_equal(w.text, "not a byte for 3 s");
}

/* At least so many bytes in each span of silence, from the first line of the answer on. */
static void test_pace(void **state)
{
	struct watched w = { .x.silence = 4, .x.least = 10 };

	begin(&w);
	stage_pass(3500);
	stage_head(&w.x, "200");
	stage_pass(2000);
	stage_bytes(&w.x, 0, 10);
	stage_pass(2000);
	assert_int_equal(w.done, 0); /* 10 in the first 4 s */
	stage_bytes(&w.x, 10, 4);
	stage_pass(1900);
	stage_bytes(&w.x, 14, 5);
	stage_pass(2099);
	assert_int_equal(w.done, 0);
	stage_pass(1);
	assert_int_equal(w.r, -ETIMEDOUT);
	assert_string_equal(w.text, "only 9 bytes in 4 s");

	w = (struct watched){ .x.silence = 4 }; /* any pace will do */
	begin(&w);
	stage_head(&w.x, "200");
	stage_pass(3000);
	stage_bytes(&w.x, 0, 1);
	stage_pass(3000);
	stage_bytes(&w.x, 0, 1);
	stage_pass(3000);
	assert_int_equal(w.done, 0);
	http_cancel(&w.x);
}

static struct watched *waiting;

static void take_what_waited(void)
{
	if (waiting && clock_ms() >= 5000 + 12000) {
		stage_head(&waiting->x, "200");
		stage_bytes(&waiting->x, 0, 5);
		waiting = NULL;
	}
}

/* (3): the process stood still for 12 s, and the answer has been there since the first. */
static void test_bytes_before_timers(void **state)
{
	struct watched w = { 0 };

	begin(&w);
	stage_run();
	waiting = &w;
	stage.perform = take_what_waited;
	stage.now_us += 12 * 1000 * 1000;
	stage_run();
	assert_int_equal(w.done, 0);
	assert_int_equal(w.bytes, 5);
	stage_end(&w.x, 0);
	stage_run();
	assert_int_equal(w.r, 0);
}

/* ---- the thread ---- */

static void test_thread(void **state)
{
	struct noted a = { { .run = note }, 'a' };
	struct watched w = { 0 };

	clock_use(NULL); /* a real one */
	assert_int_equal(http_start(stage.http, NULL), 0);
	notes[0] = '\0';
	http_hold(stage.http);
	http_post_held(stage.http, &a.call);
	http_stop(stage.http);
	assert_string_equal(notes, "a");
	assert_int_equal(stage.renewals, 1);
	assert_true(http_now_stopping(stage.http));
	http_stop(stage.http); /* it is stopped */
	assert_int_equal(stage.renewals, 1);
	begin(&w);
	assert_int_equal(http_start(stage.http, NULL), 0);
	assert_false(http_now_stopping(stage.http));
	http_stop(stage.http);
	assert_int_equal(w.r, -ESHUTDOWN);
	assert_int_equal(stage.renewals, 2);
	http_close(NULL);
}

/* ---- what fails together with something else ---- */

static struct watched *late;

static void fail_late(struct http_call *c)
{
	struct err e;

	http_heard_failure(&late->x, err_set(&e, EPROTO, "first"), &e);
}

static void begin_late(struct http_call *c)
{
	begin(late);
}

/* Its time is over just when it has failed. */
static void test_fails_when_late(void **state)
{
	struct http_call c = { .run = fail_late };
	struct watched w = { 0 };

	late = &w;
	begin(&w);
	stage_run();
	http_post(stage.http, &c);
	stage.now_us += 20 * 1000 * 1000;
	stage_run();
	assert_int_equal(w.r, -EPROTO);
	assert_string_equal(w.text, "first");
	assert_int_equal(w.done, 1);
}

/* Begun by a call when the engine ends, with timers that are all due. */
static void test_begun_at_the_end(void **state)
{
	struct http_call c = { .run = begin_late };
	struct watched w = { 0 };

	late = &w;
	http_interrupt(stage.http);
	http_post(stage.http, &c);
	stage_run();
	assert_int_equal(w.done, 1);
	assert_int_equal(w.r, -ESHUTDOWN);
	assert_int_equal(stage.count, 0);
}

/* ---- the thread, by hand ---- */

static struct hand {
	int open_fails, thread_fails;
	unsigned opened, closed, renewed, wakeups, expires, joins;
	bool was_stopping; /* what expire was told last */
	uint64_t expire; /* ms from now; CLOCK_NEVER */
	int polls[16];
	unsigned poll_count;
	void (*on_poll)(unsigned n);
	struct http *http;
	void *(*body)(void *arg);
	void *body_arg;
	const char *host;
} hand;

static int hand_open(void *arg, void **state, struct err *e)
{
	assert_ptr_equal(arg, notes);
	*state = &hand;
	hand.opened++;
	return hand.open_fails ? err_set(e, hand.open_fails, "no transport") : 0;
}

static void hand_close(void *state)
{
	assert_ptr_equal(state, &hand);
	hand.closed++;
}

static void hand_renew(void *state)
{
	assert_ptr_equal(state, &hand);
	hand.renewed++;
}

static void hand_perform(void *state)
{
	assert_ptr_equal(state, &hand);
}

static void hand_poll(void *state, int ms)
{
	assert_ptr_equal(state, &hand);
	assert_true(hand.poll_count < 16);
	hand.polls[hand.poll_count] = ms;
	hand.on_poll(hand.poll_count++);
}

static void hand_wakeup(void *state)
{
	assert_ptr_equal(state, &hand);
	hand.wakeups++;
}

static int hand_begin(void *state, struct http_exchange *x, struct err *e)
{
	assert_ptr_equal(state, &hand);
	return 0;
}

static void hand_end(void *state, struct http_exchange *x)
{
	assert_ptr_equal(state, &hand);
}

static uint64_t hand_expire(void *state, bool stopping)
{
	assert_ptr_equal(state, &hand);
	hand.was_stopping = stopping;
	return hand.expire == CLOCK_NEVER ? CLOCK_NEVER : clock_ms() + hand.expire;
}

static bool hand_is_no_name(const char *host)
{
	hand.host = host;
	return true;
}

static const struct http_transport hand_transport = {
	.open = hand_open,
	.close = hand_close,
	.renew = hand_renew,
	.begin = hand_begin,
	.end = hand_end,
	.perform = hand_perform,
	.poll = hand_poll,
	.wakeup = hand_wakeup,
	.expire = hand_expire,
	.is_no_name = hand_is_no_name,
};

static int hand_thread(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg)
{
	assert_false(detached);
	hand.body = body;
	hand.body_arg = arg;
	return hand.thread_fails;
}

static void hand_join(pthread_t thread)
{
	hand.joins++;
}

static uint64_t hand_now(void)
{
	return stage.now_us;
}

static const struct clock_ops hand_clock = { .now_us = hand_now,
					     .thread = hand_thread,
					     .join = hand_join };

static void open_by_hand(void)
{
	hand = (struct hand){ .expire = CLOCK_NEVER };
	clock_use(&hand_clock);
	assert_int_equal(http_open_on(&hand_transport, notes, &hand.http, NULL), 0);
	assert_int_equal(http_start(hand.http, NULL), 0);
}

static struct noted timer = { { .run = note }, 't' }, call = { { .run = note }, 'c' };

static struct watched asked_by_hand;

static void begin_by_hand(struct http_call *c)
{
	note(&call.call);
	asked_by_hand.x.done = on_done;
	http_begin(hand.http, &asked_by_hand.x);
}

static struct http_call begins = { .run = begin_by_hand };

/* How long it sleeps, turn by turn; not at all after a turn in which an exchange was begun. */
static void set_the_scene(unsigned n)
{
	switch (n) {
	case 0:
		assert_false(hand.was_stopping);
		http_timer_set(hand.http, &timer.call, clock_ms() + 5000);
		break;
	case 1:
		http_timer_set(hand.http, &timer.call, clock_ms() + 60001);
		break;
	case 2:
		hand.expire = 300;
		break;
	case 3:
		hand.expire = 0;
		break;
	case 4:
		hand.expire = CLOCK_NEVER;
		stage.now_us += 60001 * 1000;
		break;
	case 5:
		assert_string_equal(notes, "t");
		http_post(hand.http, &begins);
		break;
	case 6:
		assert_string_equal(notes, "tc");
		assert_int_equal(asked_by_hand.done, 0);
		http_hold(hand.http);
		http_hold(hand.http);
		http_stop(hand.http);
		break;
	case 7:
		assert_true(hand.was_stopping);
		assert_int_equal(asked_by_hand.r, -ESHUTDOWN);
		http_post_held(hand.http, &call.call);
		break;
	case 8:
		assert_string_equal(notes, "tcc");
		http_post_held(hand.http, &call.call);
		break;
	default:
		fail_msg("it does not end");
	}
}

static void test_turns(void **state)
{
	static const int polls[] = { 60000, 5000, 60000, 300, 0, 60000, 10000, 60000, 60000 };
	unsigned i;

	notes[0] = '\0';
	open_by_hand();
	memset(&asked_by_hand, 0, sizeof asked_by_hand);
	hand.on_poll = set_the_scene;
	assert_null(hand.body(hand.body_arg));
	assert_int_equal(hand.poll_count, 9);
	for (i = 0; i < 9; i++)
		assert_int_equal(hand.polls[i], polls[i]);
	assert_string_equal(notes, "tccc");
	assert_int_equal(hand.wakeups, 4); /* a call, two held ones, the end */
	assert_int_equal(hand.joins, 1);
	assert_int_equal(hand.renewed, 1);
	http_stop(hand.http);
	assert_int_equal(hand.joins, 1);
	http_close(hand.http);
	assert_int_equal(hand.closed, 1);
}

static void test_interrupt_wakes(void **state)
{
	open_by_hand();
	assert_true(http_is_no_name(hand.http, "reg.io"));
	assert_string_equal(hand.host, "reg.io");
	assert_false(http_is_no_name(stage.http, "reg.io")); /* it cannot tell */
	http_interrupt(hand.http);
	assert_true(http_now_stopping(hand.http));
	assert_int_equal(hand.wakeups, 1);
	assert_int_equal(hand.joins, 0);
	http_close(hand.http); /* which stops it */
	assert_int_equal(hand.joins, 1);
	assert_int_equal(hand.wakeups, 2);
}

static void test_cannot_be(void **state)
{
	struct http *h;
	struct err e;

	hand = (struct hand){ .expire = CLOCK_NEVER, .open_fails = EMFILE };
	assert_int_equal(http_open_on(&hand_transport, notes, &h, &e), -EMFILE);
	assert_string_equal(e.msg, "no transport");
	hand.open_fails = 0;
	alloc_left = 0;
	assert_int_equal(http_open_on(&hand_transport, notes, &h, &e), -ENOMEM);
	alloc_left = -1;
	assert_string_equal(e.msg, "http: out of memory");
	assert_int_equal(hand.opened, 1);
	assert_int_equal(hand.closed, 0);
	clock_use(&hand_clock);
	assert_int_equal(http_open_on(&hand_transport, notes, &h, &e), 0);
	hand.thread_fails = EAGAIN;
	assert_int_equal(http_start(h, &e), -EAGAIN);
	assert_string_equal(e.msg, "http: starting a thread: Resource temporarily unavailable");
	http_close(h);
	assert_int_equal(hand.joins, 0);
	assert_int_equal(hand.renewed, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_calls),
		TEST(test_timers),
		TEST(test_calls_before_timers),
		TEST(test_good),
		TEST(test_bare),
		TEST(test_first_failure),
		TEST(test_long_head),
		TEST(test_bad_header),
		TEST(test_not_begun),
		TEST(test_again),
		TEST(test_cancel),
		TEST(test_interrupt),
		TEST(test_silence),
		TEST(test_pace),
		TEST(test_bytes_before_timers),
		TEST(test_thread),
		TEST(test_fails_when_late),
		TEST(test_begun_at_the_end),
		TEST(test_turns),
		TEST(test_interrupt_wakes),
		TEST(test_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
