/* SPDX-License-Identifier: Apache-2.0 */
/* exchanging.h - exchanges of libcurl's with a server in this program (httpserver.h), one after the
 * other, in the engine's thread; for tests that meson.build links with wrap_curl and wrap_allocs.
 * Included once a program. */
#ifndef OVERLAYBD_TESTS_EXCHANGING_H
#define OVERLAYBD_TESTS_EXCHANGING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <semaphore.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/http.h"
#include "fetch/http_transport.h"
#include "tests/unit/allocs.h"
#include "tests/unit/curllib.h"
#include "tests/unit/httpserver.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define OK_5 "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

/* ---- an exchange ---- */

static struct http *http;
static struct server server;

struct asked {
	struct http_exchange x;
	struct http_call begin;
	sem_t over;
	int headers_result, bytes_result;
	unsigned told_headers;
	char got[1 << 16];
	size_t n;
	int r;
	struct err e;
	unsigned status;
	uint64_t length, took_ms;
};

static int take_headers(struct http_exchange *x, struct err *e)
{
	struct asked *a = (struct asked *)x;

	a->told_headers++;
	return a->headers_result < 0 ? err_set(e, -a->headers_result, "no such headers") : 0;
}

static int take_bytes(struct http_exchange *x, const void *buf, size_t n, struct err *e)
{
	struct asked *a = (struct asked *)x;

	assert_true(a->n + n < sizeof a->got);
	memcpy(a->got + a->n, buf, n);
	a->n += n;
	a->got[a->n] = '\0';
	return a->bytes_result < 0 ? err_set(e, -a->bytes_result, "no such bytes") : 0;
}

static void on_done(struct http_exchange *x, int r, const struct err *e)
{
	struct asked *a = (struct asked *)x;

	a->r = r;
	a->e = *e;
	a->status = x->answer.status;
	a->length = x->answer.length;
	sem_post(&a->over);
}

static void begin_on_engine(struct http_call *c)
{
	struct asked *a = (struct asked *)((char *)c - offsetof(struct asked, begin));

	http_begin(http, &a->x);
}

static const struct http_route plain_route;

static inline struct asked *new_asked(const char *method, const char *url)
{
	struct asked *a = calloc(1, sizeof *a);

	a->x = (struct http_exchange){
		.route = &plain_route,
		.method = method,
		.url = url,
		.headers = take_headers,
		.bytes = take_bytes,
		.done = on_done,
	};
	a->begin.run = begin_on_engine;
	sem_init(&a->over, 0, 0);
	return a;
}

static void begin(struct asked *a)
{
	a->took_ms = clock_ms();
	http_post(http, &a->begin);
}

static void end(struct asked *a)
{
	while (sem_wait(&a->over) < 0)
		assert_int_equal(errno, EINTR);
	a->took_ms = clock_ms() - a->took_ms;
	http_answer_release(&a->x.answer);
	(void)server_count(&server, &server.requests); /* by its lock: `heard` can be looked at */
}

static inline void run(struct asked *a)
{
	begin(a);
	end(a);
}

static inline void done(struct asked *a)
{
	sem_destroy(&a->over);
	free(a);
}

/* An address of the server. */
static inline const char *url_of(const char *path)
{
	static char url[256];

	snprintf(url, sizeof url, "http://127.0.0.1:%u%s", server.port, path);
	return url;
}

static inline void assert_heard(const char *text)
{
	if (!strstr(server.heard, text))
		fail_msg("not '%s' in: %s", text, server.heard);
}

static inline void assert_not_heard(const char *text)
{
	if (strstr(server.heard, text))
		fail_msg("'%s' in: %s", text, server.heard);
}

enum { BODY = 300000 };

static inline uint8_t *make_body(struct source **out)
{
	uint8_t *body = malloc(BODY);
	size_t i;

	for (i = 0; i < BODY; i++)
		body[i] = (uint8_t)(i * 7 + i / 256);
	assert_int_equal(source_open_memory(body, BODY, out, NULL), 0);
	return body;
}

static inline int set_up(void **state)
{
	struct err e;

	server_start(&server, NULL);
	return http_open(&http, &e) < 0 || http_start(http, &e) < 0;
}

static inline int tear_down(void **state)
{
	http_close(http);
	server_stop(&server);
	return 0;
}

static inline void forget_proxies(void)
{
	static const char *const proxies[] = { "http_proxy", "https_proxy", "all_proxy",
					       "HTTPS_PROXY", "ALL_PROXY" };
	size_t i;

	for (i = 0; i < COUNT_OF(proxies); i++)
		unsetenv(proxies[i]);
}

#endif
