/* SPDX-License-Identifier: Apache-2.0 */
/* fakeregistry.h - a registry as a table of routes, behind a transport of the test's: what is asked
 * is noted line by line, what is answered stands in the table.  The engine runs in its own thread.
 *
 * A note: METHOD URL [auth=HEADER] [range=FIRST-LAST] [referer=URL] [unless=ETAG]
 * [body=TEXT] */
#ifndef OVERLAYBD_TESTS_FAKEREGISTRY_H
#define OVERLAYBD_TESTS_FAKEREGISTRY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fetch/http_transport.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { FAKE_EXCHANGES = 64, FAKE_NOTES = 16384 };

struct route {
	const char *method; /* NULL: any */
	const char *url; /* all of it, or with a '*' at its end its beginning */
	const char *auth; /* what Authorization must be; NULL: anything, "": none */
	unsigned status; /* 0: the connection is refused; 1: there is no such host; 2: it breaks */
	const char *headers; /* lines, each with its "\r\n"; NULL: none */
	const char *body; /* NULL: none */
	unsigned times; /* that it answers; 0: always */
};

static struct fake {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct http_exchange *begun[FAKE_EXCHANGES];
	bool woken;
	struct route *routes;
	size_t count;
	char notes[FAKE_NOTES];
	bool no_name; /* what the resolver says of names that are not found */
} fake = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static int fake_open(void *arg, void **state, struct err *e)
{
	*state = NULL;
	return 0;
}

static void fake_nothing(void *state)
{
}

static int fake_begin(void *state, struct http_exchange *x, struct err *e)
{
	size_t i;

	for (i = 0; fake.begun[i]; i++)
		assert_true(i + 1 < FAKE_EXCHANGES);
	fake.begun[i] = x;
	return 0;
}

static void fake_end(void *state, struct http_exchange *x)
{
	size_t i;

	for (i = 0; i < FAKE_EXCHANGES; i++)
		if (fake.begun[i] == x)
			fake.begun[i] = NULL;
}

static void fake_note(const struct http_exchange *x)
{
	size_t n = strlen(fake.notes);
	char body[2048] = "";

	n += (size_t)snprintf(fake.notes + n, FAKE_NOTES - n, "%s %s", x->method, x->url);
	if (x->authorization)
		n += (size_t)snprintf(fake.notes + n, FAKE_NOTES - n, " auth=%s", x->authorization);
	if (x->ranged)
		n += (size_t)snprintf(fake.notes + n, FAKE_NOTES - n, " range=%" PRIu64 "-%" PRIu64,
				      x->first, x->last);
	if (x->referer)
		n += (size_t)snprintf(fake.notes + n, FAKE_NOTES - n, " referer=%s", x->referer);
	if (x->if_none_match)
		n += (size_t)snprintf(fake.notes + n, FAKE_NOTES - n, " unless=%s",
				      x->if_none_match);
	if (x->body && x->body->size < sizeof body) {
		assert_int_equal(source_pread(x->body, body, x->body->size, 0, NULL), 0);
		n += (size_t)snprintf(fake.notes + n, FAKE_NOTES - n, " body=%s", body);
	}
	assert_true(n + 1 < FAKE_NOTES);
	snprintf(fake.notes + n, FAKE_NOTES - n, "\n");
}

static bool fake_fits(const struct route *r, const struct http_exchange *x)
{
	size_t n = strlen(r->url);
	bool begins = n > 0 && r->url[n - 1] == '*';

	if (r->times == UINT32_MAX || (r->method && strcmp(r->method, x->method) != 0))
		return false;
	if (begins ? strncmp(r->url, x->url, n - 1) != 0 : strcmp(r->url, x->url) != 0)
		return false;
	return !r->auth || strcmp(r->auth, x->authorization ? x->authorization : "") == 0;
}

static bool fake_line(struct http_exchange *x, const char *line, size_t n)
{
	return http_heard_header(x, line, n);
}

/* Content-Length comes by itself, unless the headers say it, or that there is none ("no length").
 */
static void fake_answer(struct http_exchange *x, const struct route *r)
{
	const char *body = r->body ? r->body : "", *p = r->headers ? r->headers : "", *end;
	char line[64];

	snprintf(line, sizeof line, "HTTP/1.1 %u x\r\n", r->status);
	if (!fake_line(x, line, strlen(line)))
		return;
	for (; (end = strstr(p, "\r\n")) != NULL; p = end + 2)
		if (!fake_line(x, p, (size_t)(end - p) + 2))
			return;
	snprintf(line, sizeof line, "Content-Length: %zu\r\n", strlen(body));
	if ((!r->headers || (!strstr(r->headers, "Length:") && !strstr(r->headers, "no length"))) &&
	    !fake_line(x, line, strlen(line)))
		return;
	if (!fake_line(x, "\r\n", 2))
		return;
	if (strcmp(x->method, "HEAD") != 0 && body[0] != '\0' &&
	    !http_heard_bytes(x, body, strlen(body)))
		return;
	http_heard_end(x, 0, NULL);
}

static void fake_fail(struct http_exchange *x, unsigned status)
{
	struct err e;

	http_heard_end(x,
		       status == 0 ? err_set(&e, ECONNREFUSED, "connection refused")
				   : err_set(&e, EHOSTUNREACH, "no such host"),
		       &e);
}

static void fake_serve(struct http_exchange *x)
{
	static const struct route nothing = {
		.status = 404,
		.body = "{\"errors\":[{\"code\":\"NAME_UNKNOWN\",\"message\":\"no such place\"}]}",
	};
	struct route *r = NULL;
	size_t i;

	fake_note(x);
	for (i = 0; !r && i < fake.count; i++)
		if (fake_fits(&fake.routes[i], x))
			r = &fake.routes[i];
	if (r && r->status < 3)
		fake_fail(x, r->status);
	else
		fake_answer(x, r ? r : &nothing);
	if (r && r->times > 0 && --r->times == 0)
		r->times = UINT32_MAX; /* no more */
}

static void fake_perform(void *state)
{
	size_t i;

	for (i = 0; i < FAKE_EXCHANGES; i++)
		if (fake.begun[i]) {
			struct http_exchange *x = fake.begun[i];

			fake.begun[i] = NULL;
			fake_serve(x);
		}
}

static void fake_poll(void *state, int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&fake.lock);
	while (!fake.woken && pthread_cond_timedwait(&fake.changed, &fake.lock, &until) == 0)
		;
	fake.woken = false;
	pthread_mutex_unlock(&fake.lock);
}

static void fake_wakeup(void *state)
{
	pthread_mutex_lock(&fake.lock);
	fake.woken = true;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.lock);
}

static uint64_t fake_expire(void *state, bool stopping)
{
	return UINT64_MAX;
}

static bool fake_is_no_name(const char *host)
{
	return fake.no_name;
}

static const struct http_transport fake_transport = {
	.open = fake_open,
	.close = fake_nothing,
	.renew = fake_nothing,
	.begin = fake_begin,
	.end = fake_end,
	.perform = fake_perform,
	.poll = fake_poll,
	.wakeup = fake_wakeup,
	.expire = fake_expire,
	.is_no_name = fake_is_no_name,
};

/* Before anything is asked: a table of at most so many routes, up to one without an address. */
static inline void fake_use(struct route *routes, size_t count)
{
	fake.routes = routes;
	for (fake.count = 0; fake.count < count && routes[fake.count].url; fake.count++)
		;
	fake.notes[0] = '\0';
	fake.no_name = false;
}

#endif
