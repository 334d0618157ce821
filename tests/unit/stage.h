/* SPDX-License-Identifier: Apache-2.0 */
/* stage.h - an engine whose time and whose answers the test gives by hand, in one thread.
 *
 *   stage_open();
 *   request_submit(&q);
 *   x = stage_next();                       what is asked for, and when: stage_ms()
 *   stage_answer(x, "206|Content-Range: bytes 0-99/100", 100, 0);
 *   ..
 *   stage_close();
 *
 * Chance is always `stage.chance`.  Threads are run to their end where they are started. */
#ifndef OVERLAYBD_TESTS_STAGE_H
#define OVERLAYBD_TESTS_STAGE_H

#include "fetch/http_transport.h"

enum { STAGE_MAX = 64 };

struct stage {
	struct http *http;
	uint64_t now_us;
	uint32_t chance;
	struct http_exchange *running[STAGE_MAX]; /* in the order of their beginning */
	unsigned count;
	unsigned begun, seen; /* exchanges so far; those that stage_next has returned */
	unsigned wakeups, renewals;
	bool refuses; /* the transport begins nothing */
	void (*perform)(void); /* called when bytes are taken; NULL: none come on their own */
	bool over; /* set by the test: stage_next need not wait any more */
};

extern struct stage stage;

void stage_open(void);
void stage_close(void); /* closes the engine */

uint64_t stage_ms(void); /* since stage_open */

/* Turns until nothing is due any more; returns when the next thing is (ms of clock_ms). */
uint64_t stage_run(void);

/* Lets time pass, with all that is due in it. */
void stage_pass(uint64_t ms);

/* The next exchange that begins, however long that takes; NULL: stage.over, or none ever will. */
struct http_exchange *stage_next(void);

/* Header lines, separated by '|', the first one without "HTTP/1.1 "; then bytes of the body, from
 * the pattern that stage_byte gives; then the end.  Each returns what http_heard_.. did. */
bool stage_head(struct http_exchange *x, const char *lines);
bool stage_bytes(struct http_exchange *x, uint64_t off, size_t n);
void stage_end(struct http_exchange *x, int r);

/* All of it, and a turn. */
void stage_answer(struct http_exchange *x, const char *lines, size_t n, int r);

uint8_t stage_byte(uint64_t off);

#endif
