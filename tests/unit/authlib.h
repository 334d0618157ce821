/* SPDX-License-Identifier: Apache-2.0 */
/* authlib.h - an auth in a world of one thread: a transport, a clock and askers of the test's.
 *
 * A step is an event and what comes of it.  Events (N: who asks, 1 to 5):
 *   ask N           go HEADER, go - (without one), wait, or refused or paused and the text
 *   ok N STATUS     its answer came          leave N         it ended without one
 *   401 N [VALUE]   its answer was that, with this WWW-Authenticate: 0, or the text
 *   403 N           0 or no
 *   reply STATUS BODY-OR-HEADER[|BODY]       to the inquiry under way
 *   fail            the inquiry's connection fails
 *   inquiry         method, address and Authorization of the one under way, "none"
 *   form            its body
 *   clock MS        so much later            file TEXT       what the credentials' file says
 * Behind what came of it, in brackets, stands who was woken since, and how. */
#ifndef OVERLAYBD_TESTS_AUTHLIB_H
#define OVERLAYBD_TESTS_AUTHLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/auth.h"
#include "fetch/http_transport.h"
#include "tests/unit/fenced_secrets.h"
#include "tests/unit/leftovers.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { ASKERS = 5, TEXT = 4096 };

static char folder[] = "/tmp/test-auth.XXXXXX";

/* ---- the world ---- */

struct asker {
	struct auth_wait wait;
	char header[TEXT]; /* that it was given last; "": none */
	unsigned strikes;
	int kills; /* the asker that leaves when this one is woken; 0: none */
};

static struct world {
	uint64_t now_ms;
	bool no_threads;
	char *file; /* of credentials */
	struct http *http;
	struct auth *auth;
	struct http_exchange *running; /* the inquiry */
	struct asker askers[ASKERS + 1];
	char woken[TEXT];
	char warnings[TEXT];
} w;

static uint64_t now_us(void)
{
	return w.now_ms * 1000;
}

static int64_t date(void)
{
	return 0;
}

static void sleep_ms(uint64_t ms)
{
	w.now_ms += ms;
}

static void wait_never(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	fail_msg("a wait in a test of one thread");
}

static void wake_nobody(pthread_cond_t *c)
{
}

static uint32_t chance(void)
{
	return 0;
}

/* At once, as if it had been that quick: what it finds is told by the engine's next turn. */
static int run_thread(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg)
{
	if (w.no_threads)
		return EAGAIN;
	body(arg);
	return 0;
}

static void join(pthread_t thread)
{
}

static const struct clock_ops clock_of_test = {
	.now_us = now_us,
	.date = date,
	.sleep_ms = sleep_ms,
	.wait = wait_never,
	.wake = wake_nobody,
	.chance = chance,
	.thread = run_thread,
	.join = join,
};

static int open_state(void *arg, void **state, struct err *e)
{
	*state = arg;
	return 0;
}

static void no_state(void *state)
{
}

static int begin(void *state, struct http_exchange *x, struct err *e)
{
	assert_null(w.running); /* one at a time */
	w.running = x;
	return 0;
}

static void end(void *state, struct http_exchange *x)
{
	if (w.running == x)
		w.running = NULL;
}

static void no_poll(void *state, int ms)
{
}

static uint64_t never(void *state, bool stopping)
{
	return CLOCK_NEVER;
}

static const struct http_transport transport = {
	.open = open_state,
	.close = no_state,
	.renew = no_state,
	.begin = begin,
	.end = end,
	.perform = no_state,
	.poll = no_poll,
	.wakeup = no_state,
	.expire = never,
};

static void note_warning(enum log_level level, const char *line)
{
	if (level == LOG_WARNING)
		snprintf(w.warnings + strlen(w.warnings), TEXT - strlen(w.warnings), "%s\n", line);
}

static void on_ready(struct auth_wait *wait, int r, const struct err *e)
{
	struct asker *a = (struct asker *)wait;
	size_t n = strlen(w.woken);

	snprintf(w.woken + n, TEXT - n, "%s%d:%s", n > 0 ? " " : "", (int)(a - w.askers),
		 r == 0 ? "0" : e->msg);
	if (a->kills)
		auth_leave(&w.askers[a->kills].wait);
}

static void turn(void)
{
	int i;

	for (i = 0; i < 20; i++)
		(void)http_step(w.http);
}

/* The address that a helper would be asked about. */
static char asked_about[TEXT];

int __real_credentials_find(const struct credentials_source *source, const char *host,
			    const char *repository, const char *blob_url, struct credentials *out,
			    struct err *e);
int __wrap_credentials_find(const struct credentials_source *source, const char *host,
			    const char *repository, const char *blob_url, struct credentials *out,
			    struct err *e);

int __wrap_credentials_find(const struct credentials_source *source, const char *host,
			    const char *repository, const char *blob_url, struct credentials *out,
			    struct err *e)
{
	snprintf(asked_about, sizeof asked_about, "%s", blob_url);
	return __real_credentials_find(source, host, repository, blob_url, out, e);
}

/* ---- events ---- */

static const char *ask(struct asker *a)
{
	static char text[2 * TEXT];
	const char *header = NULL;
	struct err e = { "" };

	switch (auth_ask(w.auth, &a->wait, &header, &e)) {
	case AUTH_GO:
		snprintf(a->header, TEXT, "%s", header ? header : "");
		snprintf(text, sizeof text, "go %s", header ? header : "-");
		break;
	case AUTH_WAIT:
		return "wait";
	case AUTH_REFUSED:
		a->strikes = 0; /* as request.c does */
		snprintf(text, sizeof text, "refused %s", e.msg);
		break;
	case AUTH_PAUSED:
		a->strikes = 0;
		snprintf(text, sizeof text, "paused %s", e.msg);
		break;
	}
	return text;
}

static const char *challenge(struct asker *a, const char *value)
{
	static struct err e;
	struct challenge c = { 0 };
	int r;

	assert_int_equal(challenge_parse(value, &c, &e), 0);
	r = auth_challenged(w.auth, &a->wait, &c, a->header[0] ? a->header : NULL, a->strikes++,
			    &e);
	challenge_release(&c);
	assert_true(r == 0 || r == -EACCES);
	return r == 0 ? "0" : e.msg;
}

/* STATUS [HEADER: VALUE|]BODY */
static void reply(const char *text)
{
	struct http_exchange *x = w.running;
	const char *body = strchr(text, '|');
	char line[TEXT];

	assert_non_null(x);
	snprintf(line, sizeof line, "HTTP/1.1 %.3s x\r\n", text);
	assert_true(http_heard_header(x, line, strlen(line)));
	text += 4;
	if (body) {
		snprintf(line, sizeof line, "%.*s\r\n", (int)(body - text), text);
		assert_true(http_heard_header(x, line, strlen(line)));
	}
	body = body ? body + 1 : text;
	if (*body != '\0')
		(void)http_heard_bytes(x, body, strlen(body));
	http_heard_end(x, 0, NULL);
	turn();
}

static void break_off(void)
{
	struct err e;

	assert_non_null(w.running);
	http_heard_failure(w.running, err_set(&e, ECONNRESET, "it broke off"), &e);
	turn();
}

static const char *inquiry(void)
{
	static char text[2 * TEXT];
	const struct http_exchange *x = w.running;

	if (!x)
		return "none";
	snprintf(text, sizeof text, "%s %s %s", x->method, x->url,
		 x->authorization ? x->authorization : "-");
	return text;
}

static const char *form(void)
{
	static char text[TEXT];

	assert_true(w.running && w.running->body);
	assert_int_equal(source_pread(w.running->body, text, w.running->body->size, 0, NULL), 0);
	text[w.running->body->size] = '\0';
	return text;
}

static const char *take_event(const char *event)
{
	const char *arg = strchr(event, ' '), *secret = fences_secret;
	struct asker *a = NULL;

	arg = arg ? arg + 1 : "";
	if (strncmp(event, "ask ", 4) == 0 || strncmp(event, "ok ", 3) == 0 ||
	    strncmp(event, "leave ", 6) == 0 || strncmp(event, "40", 2) == 0) {
		a = &w.askers[arg[0] - '0'];
		arg += arg[1] == ' ' ? 2 : 1;
	}
	if (strncmp(event, "ask", 3) == 0)
		return ask(a);
	if (strncmp(event, "401", 3) == 0)
		return challenge(a, arg);
	if (strncmp(event, "403", 3) == 0)
		return auth_doubted(w.auth, &a->wait, a->header[0] ? a->header : NULL) ? "no" : "0";
	if (strncmp(event, "inquiry", 7) == 0)
		return inquiry();
	if (strncmp(event, "form", 4) == 0)
		return form();
	if (strncmp(event, "ok", 2) == 0) {
		a->strikes = 0;
		auth_accepted(w.auth, &a->wait, (unsigned)strtoul(arg, NULL, 10));
	} else if (strncmp(event, "leave", 5) == 0) {
		auth_leave(&a->wait);
	} else if (strncmp(event, "reply", 5) == 0) {
		reply(arg);
	} else if (strncmp(event, "fail", 4) == 0) {
		break_off();
	} else if (strncmp(event, "clock", 5) == 0) {
		w.now_ms += strtoul(arg, NULL, 10);
	} else if (strncmp(event, "file", 4) == 0) {
		fences_secret = NULL; /* not for the test's own buffers */
		assert_int_equal(io_replace_file(w.file, arg, strlen(arg), NULL), 0);
		fences_secret = secret;
	} else if (strncmp(event, "no threads", 10) == 0) {
		w.no_threads = true;
	} else if (strncmp(event, "threads", 7) == 0) {
		w.no_threads = false;
	} else {
		fail_msg("no such event: %s", event);
	}
	return "";
}

struct step {
	const char *event, *outcome;
};

static void run(const char *name, const struct step *steps, size_t n)
{
	char got[3 * TEXT];
	size_t i;

	for (i = 0; i < n; i++) {
		const char *outcome;

		w.woken[0] = '\0';
		outcome = take_event(steps[i].event);
		turn();
		snprintf(got, sizeof got, "%s%s%s%s", outcome, w.woken[0] ? "[" : "", w.woken,
			 w.woken[0] ? "]" : "");
		/* "...": what follows, or comes before, is left open */
		if (strncmp(steps[i].outcome, "...", 3) == 0) {
			if (!strstr(got, steps[i].outcome + 3))
				fail_msg("%s, step %zu: %s: %s", name, i, steps[i].event, got);
		} else if (strcmp(got, steps[i].outcome) != 0) {
			fail_msg("%s, step %zu: %s: %s", name, i, steps[i].event, got);
		}
		if (!auth_waiters_are_watched(w.auth))
			fail_msg("%s, step %zu: %s: nobody will wake who waits", name, i,
				 steps[i].event);
	}
}

static const struct http_route route;

/* A user and a password that are given, and whether nobody is to be logged in: for the next
 * open_world. */
static const char *given_user, *given_password;
static bool anonymous;

static void open_world(const char *base, const char *scope)
{
	struct auth_options o = {
		.route = &route,
		.base = base,
		.host = "reg.io",
		.repository = "app",
		.blobs = "https://reg.io/v2/app/blobs/",
		.scope = scope,
		.user = given_user,
		.password = given_password,
		.anonymous = anonymous,
	};
	struct err e;
	size_t i;

	memset(&w, 0, sizeof w);
	assert_true(asprintf(&w.file, "%s/auth.json", folder) > 0);
	unlink(w.file);
	o.source.place = w.file;
	w.now_ms = 1000000;
	clock_use(&clock_of_test);
	log_set_sink(note_warning);
	assert_int_equal(http_open_on(&transport, &w, &w.http, &e), 0);
	o.http = w.http;
	assert_int_equal(auth_open(&o, &w.auth, &e), 0);
	for (i = 0; i <= ASKERS; i++)
		w.askers[i].wait.ready = on_ready;
	w.askers[1].wait.path = "/manifests/latest";
}

static void close_world(void)
{
	turn();
	assert_true(auth_quiesce(w.auth));
	auth_close(w.auth);
	http_close(w.http);
	free(w.file);
	log_set_sink(leftovers_sink);
	clock_use(NULL);
}

#define RUN(...)                                                                                   \
	do {                                                                                       \
		const struct step steps_[] = { __VA_ARGS__ };                                      \
	                                                                                           \
		run(__func__, steps_, COUNT_OF(steps_));                                           \
	} while (0)

#define OPEN() open_world("https://reg.io", "repository:app:pull")

/* me:secret, me:new; an identity and a registry token */
#define FILE_ME "file {\"auths\":{\"reg.io\":{\"auth\":\"bWU6c2VjcmV0\"}}}"
#define FILE_NEW "file {\"auths\":{\"reg.io\":{\"auth\":\"bWU6bmV3\"}}}"
#define FILE_IDENTITY "file {\"auths\":{\"reg.io\":{\"identitytoken\":\"who/am/i\"}}}"
#define FILE_FIXED "file {\"auths\":{\"reg.io\":{\"registrytoken\":\"fixed\"}}}"
#define GO_ME "go Basic bWU6c2VjcmV0"
#define GO_NEW "go Basic bWU6bmV3"
#define BASIC " Basic realm=\"x\""
#define BEARER " Bearer realm=\"https://auth.io/token\",service=\"s\",scope=\"repository:app:pull\""
#define TOKEN(name, seconds) "reply 200 {\"token\":\"" name "\",\"expires_in\":" seconds "}"
#define ASKED "GET https://auth.io/token?service=s&scope=repository%3Aapp%3Apull "
#define REFUSED                                                                                    \
	"reg.io: user 'me' and the password are refused; check the credentials, or log in anew"

#endif
