/* SPDX-License-Identifier: Apache-2.0 */
/* asking.h - a request and its places on a stage (stage.h), and rows of what it asks: for the tests
 * of request.c.  Included once a program.
 *
 * Chance is 0, so a rest is half of its length: 50, 100, 200 ms, .. */
#ifndef OVERLAYBD_TESTS_ASKING_H
#define OVERLAYBD_TESTS_ASKING_H

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
#include "fetch/queue.h"
#include "fetch/request.h"
#include "tests/unit/stage.h"

enum { TOTAL = 100, STEPS = 14 };

#define PART "206|Content-Range: bytes 0-99/100"

/* An exchange that is expected, and how it is answered. */
struct step {
	uint64_t after; /* ms since the last one ended */
	const char *at; /* "e0": there, for the blob; else the address behind https:// */
	const char *head; /* "": none */
	size_t body;
	int end;
	uint64_t first; /* of the range asked for */
	const char *login; /* the header that it carries; NULL: none */
};

struct row {
	const char *what;
	unsigned places; /* 0: one */
	bool opening; /* retry_until is 10 s from now */
	uint64_t deadline; /* ms from now; 0: never */
	uint32_t avoid;
	bool logins; /* the registry's user and password are known */
	bool unknown; /* the blob's size is */
	struct step steps[STEPS];
	int r;
	const char *text; /* part of the message */
	uint64_t after; /* ms from the last exchange to the end */
};

struct test {
	struct request q;
	struct endpoint_list list;
	struct queue *queue;
	struct request_targets targets;
	unsigned got; /* bytes of the blob, in order */
	unsigned judged, taken_back;
	bool done;
	int r;
	char text[1024];
	enum request_go go;
	unsigned starts;
	int bytes_result, check_result, verdict;
};

static void open_places(struct test *t, unsigned places, bool logins)
{
	static char first[] = "https://e0.test", second[] = "https://e1.test", user[] = "user",
		    password[] = "secret";
	static char *mirrors[] = { first, second };
	static struct fetch_settings settings; /* who is redirected looks at them later */
	char name[] = "e0.test/img";
	struct reference ref;

	settings = (struct fetch_settings){ .mirrors = mirrors, .mirror_count = places - 1 };
	if (logins) {
		settings.user = user;
		settings.password = password;
	}
	name[1] = (char)('0' + places - 1);
	assert_int_equal(reference_parse(name, &ref, NULL), 0);
	assert_int_equal(endpoint_list_open(stage.http, &ref, &settings, false, &t->list, NULL), 0);
	reference_release(&ref);
	assert_int_equal(queue_open(stage.http, &t->list, 4, &t->queue, NULL), 0);
}

static struct test *test_of(struct request *q)
{
	return (struct test *)q; /* its first member */
}

static int take_bytes(struct request *q, uint64_t off, const void *buf, size_t n, struct err *e)
{
	struct test *t = test_of(q);
	const uint8_t *bytes = buf;
	size_t i;

	for (i = 0; i < n; i++)
		assert_int_equal(bytes[i], stage_byte(off + i));
	if (off <= q->first && off + n > q->first)
		q->first = off + n;
	t->got += (unsigned)n;
	if (t->bytes_result < 0)
		return err_set(e, -t->bytes_result, "will not have it");
	return t->bytes_result;
}

static int take_verdict(struct request *q, int r, struct err *e)
{
	struct test *t = test_of(q);

	t->judged++;
	if (r < 0) {
		t->taken_back++;
		q->first = q->x.first;
	}
	return t->verdict < 0 ? err_set(e, -t->verdict, "not what it should be") : 0;
}

static void on_done(struct request *q, int r, const struct err *e)
{
	struct test *t = test_of(q);

	assert_false(t->done);
	t->done = stage.over = true;
	t->r = r;
	snprintf(t->text, sizeof t->text, "%s", r < 0 ? e->msg : "");
}

static void make_request(struct test *t)
{
	t->q = (struct request){
		.queue = t->queue,
		.method = "GET",
		.path = "/blobs/x",
		.ranged = true,
		.first = 0,
		.last = TOTAL - 1,
		.total = TOTAL,
		.targets = &t->targets,
		.retry_until = CLOCK_NEVER,
		.rather = ENDPOINTS_MAX,
		.bytes = take_bytes,
		.judge = take_verdict,
		.done = on_done,
	};
	atomic_init(&t->q.deadline, CLOCK_NEVER);
	t->done = stage.over = false;
	t->got = t->judged = t->taken_back = t->starts = 0;
}

static void begin(struct test *t, unsigned places, bool logins)
{
	memset(t, 0, sizeof *t);
	stage_open();
	open_places(t, places, logins);
	make_request(t);
}

static void end(struct test *t)
{
	request_release(&t->q);
	queue_close(t->queue);
	request_targets_release(&t->targets);
	endpoint_list_close(&t->list);
	stage_close();
}

/* Mirrors are told whose blob it is. */
static void name_url(const struct test *t, const char *at, char *url, size_t n)
{
	bool own = strlen(at) == 2;
	const char *query = own ? t->list.items[at[1] - '0'].query : NULL;

	snprintf(url, n, "https://%s%s%s%s", at, own ? ".test/v2/img/blobs/x" : "",
		 query ? "?" : "", query ? query : "");
}

static void play(struct test *t, const struct row *row)
{
	uint64_t then = stage_ms();
	const struct step *s;
	char url[300];

	for (s = row->steps; s->at; s++) {
		struct http_exchange *x = stage_next();

		if (!x)
			fail_msg("%s: step %d is not asked: %s", row->what, (int)(s - row->steps),
				 t->text);
		name_url(t, s->at, url, sizeof url);
		assert_string_equal(x->url, url);
		if (stage_ms() - then != s->after)
			fail_msg("%s: step %d after %" PRIu64 " ms", row->what,
				 (int)(s - row->steps), stage_ms() - then);
		if (x->ranged && x->first != s->first)
			fail_msg("%s: step %d asks from %" PRIu64 " on", row->what,
				 (int)(s - row->steps), x->first);
		if (s->login)
			assert_string_equal(x->authorization, s->login);
		else
			assert_null(x->authorization);
		stage_answer(x, s->head, s->body, s->end);
		then = stage_ms();
	}
	if (!t->done && stage_next())
		fail_msg("%s: one more is asked: %s", row->what, stage.running[0]->url);
	assert_true(t->done);
	if (stage_ms() - then != row->after)
		fail_msg("%s: ends after %" PRIu64 " ms", row->what, stage_ms() - then);
	if (t->r != row->r)
		fail_msg("%s: %d %s", row->what, t->r, t->text);
	if (row->text && !strstr(t->text, row->text))
		fail_msg("%s: '%s'", row->what, t->text);
}

/* The same request once more. */
static inline void play_next(struct test *t, const struct row *row)
{
	request_release(&t->q);
	make_request(t);
	request_submit(&t->q);
	play(t, row);
}

static inline void run_rows(const struct row *rows, size_t n)
{
	struct test t;
	size_t i;

	for (i = 0; i < n; i++) {
		const struct row *row = &rows[i];

		begin(&t, row->places ? row->places : 1, row->logins);
		if (row->opening)
			t.q.retry_until = clock_ms() + 10000;
		if (row->deadline)
			atomic_store(&t.q.deadline, clock_ms() + row->deadline);
		if (row->unknown)
			t.q.total = 0;
		t.q.avoid = row->avoid;
		request_submit(&t.q);
		play(&t, row);
		if (t.r == 0)
			assert_true(t.q.first == TOTAL);
		end(&t);
	}
}

#define RUN(rows) run_rows(rows, sizeof rows / sizeof *rows)
#define GOOD(ms, place)                                                                            \
	{                                                                                          \
		.after = ms, .at = place, .head = PART, .body = 100                                \
	}
#define SAYS(ms, place, status)                                                                    \
	{                                                                                          \
		.after = ms, .at = place, .head = status                                           \
	}
#define FAILS(ms, place, error)                                                                    \
	{                                                                                          \
		.after = ms, .at = place, .head = "", .end = -(error)                              \
	}

#endif
