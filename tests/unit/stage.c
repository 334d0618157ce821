/* SPDX-License-Identifier: Apache-2.0 */
/* stage.c - see stage.h. */
#include "tests/unit/stage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

enum { TURNS_MAX = 10 * 1000, BEGUN_US = 5000 * 1000 };

struct stage stage;

/* ---- the clock ---- */

static uint64_t now_us(void)
{
	return stage.now_us;
}

static int64_t date(void)
{
	return 1800000000 + (int64_t)(stage.now_us / 1000000);
}

static void sleep_ms(uint64_t ms)
{
	stage.now_us += ms * 1000;
}

static void never_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	fprintf(stderr, "waits, and there is no other thread\n");
	abort();
}

static void wake(pthread_cond_t *c)
{
}

static uint32_t chance(void)
{
	return stage.chance;
}

static int run_thread(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg)
{
	(void)body(arg);
	return 0;
}

static void join(pthread_t thread)
{
}

static const struct clock_ops stage_clock = {
	.now_us = now_us,
	.date = date,
	.sleep_ms = sleep_ms,
	.wait = never_wait,
	.wake = wake,
	.chance = chance,
	.thread = run_thread,
	.join = join,
};

/* ---- the transport ---- */

static int open_state(void *arg, void **state, struct err *e)
{
	*state = &stage;
	return 0;
}

static void close_state(void *state)
{
}

static void renew(void *state)
{
	stage.renewals++;
}

static int begin(void *state, struct http_exchange *x, struct err *e)
{
	if (stage.refuses || stage.count == STAGE_MAX)
		return err_set(e, ENOMEM, "the stage takes no request");
	stage.running[stage.count++] = x;
	stage.begun++;
	return 0;
}

static void end(void *state, struct http_exchange *x)
{
	unsigned i;

	for (i = 0; i < stage.count && stage.running[i] != x; i++)
		;
	if (i == stage.count)
		return;
	memmove(stage.running + i, stage.running + i + 1,
		(stage.count - i - 1) * sizeof *stage.running);
	stage.count--;
	stage.seen -= i < stage.seen;
}

static void perform(void *state)
{
	if (stage.perform)
		stage.perform();
}

static void poll_state(void *state, int ms)
{
	stage.now_us += (uint64_t)ms * 1000;
}

static void wakeup(void *state)
{
	stage.wakeups++;
}

static uint64_t expire(void *state, bool stopping)
{
	return CLOCK_NEVER;
}

static const struct http_transport stage_transport = {
	.open = open_state,
	.close = close_state,
	.renew = renew,
	.begin = begin,
	.end = end,
	.perform = perform,
	.poll = poll_state,
	.wakeup = wakeup,
	.expire = expire,
};

/* ---- by hand ---- */

void stage_open(void)
{
	struct err e;

	stage = (struct stage){ .now_us = BEGUN_US };
	clock_use(&stage_clock);
	if (http_open_on(&stage_transport, NULL, &stage.http, &e) < 0)
		abort();
}

void stage_close(void)
{
	http_close(stage.http);
	clock_use(NULL);
}

uint64_t stage_ms(void)
{
	return (stage.now_us - BEGUN_US) / 1000;
}

uint64_t stage_run(void)
{
	unsigned turns;
	uint64_t due;

	for (turns = 0; turns < TURNS_MAX; turns++) {
		due = http_step(stage.http);
		if (due > clock_ms())
			return due;
	}
	fprintf(stderr, "turns without an end\n");
	abort();
}

void stage_pass(uint64_t ms)
{
	uint64_t until = clock_ms() + ms, due;

	while ((due = stage_run()) <= until)
		stage.now_us = due * 1000;
	stage.now_us = until * 1000;
	(void)stage_run();
}

struct http_exchange *stage_next(void)
{
	uint64_t due;

	for (;;) {
		due = stage_run();
		if (stage.seen < stage.count)
			return stage.running[stage.seen++];
		if (stage.over || due == CLOCK_NEVER)
			return NULL;
		stage.now_us = due * 1000;
	}
}

bool stage_head(struct http_exchange *x, const char *lines)
{
	char line[1024];
	bool good = true;
	size_t n;
	int printed;

	printed = snprintf(line, sizeof line, "HTTP/1.1 %.*s Text\r\n", (int)strcspn(lines, "|"),
			   lines);
	good = http_heard_header(x, line, (size_t)printed);
	for (lines += strcspn(lines, "|"); *lines == '|'; lines += n) {
		lines++;
		n = strcspn(lines, "|");
		printed = snprintf(line, sizeof line, "%.*s\r\n", (int)n, lines);
		good = http_heard_header(x, line, (size_t)printed);
	}
	return good;
}

uint8_t stage_byte(uint64_t off)
{
	return (uint8_t)(off * 31 + off / 251);
}

bool stage_bytes(struct http_exchange *x, uint64_t off, size_t n)
{
	uint8_t *bytes = malloc(n + 1);
	bool good;
	size_t i;

	for (i = 0; i < n; i++)
		bytes[i] = stage_byte(off + i);
	good = http_heard_bytes(x, bytes, n);
	free(bytes);
	return good;
}

void stage_end(struct http_exchange *x, int r)
{
	struct err e = { .msg = "" };

	if (r < 0)
		err_set(&e, -r, "%s", strerror(-r));
	http_heard_end(x, r, &e);
}

void stage_answer(struct http_exchange *x, const char *lines, size_t n, int r)
{
	uint64_t off = strncmp(lines, "206", 3) == 0 ? x->first : 0;

	if (lines[0] == '\0' || stage_head(x, lines)) {
		if (n == 0 || stage_bytes(x, off, n))
			stage_end(x, r);
	}
	(void)stage_run();
}
