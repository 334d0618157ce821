/* SPDX-License-Identifier: Apache-2.0 */
/* test-auth.c - the login of one host as tables: what happens, and when, and what those who ask are
 * told; over a transport and a clock of the test's.
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
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
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
		snprintf(text, sizeof text, "refused %s", e.msg);
		break;
	case AUTH_PAUSED:
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
	struct asker *a = NULL;
	const char *arg = strchr(event, ' ');

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
		assert_int_equal(io_replace_file(w.file, arg, strlen(arg), NULL), 0);
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

static void open_world(const char *base, const char *scope)
{
	struct auth_options o = {
		.route = &route,
		.base = base,
		.host = "reg.io",
		.repository = "app",
		.blobs = "https://reg.io/v2/app/blobs/",
		.scope = scope,
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
	log_set_sink(NULL);
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

/* ---- who goes ahead ---- */

static void one_goes_ahead_and_the_others_wait(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" },
	    { "ok 1 200", "[2:0 3:0]" }, { "ask 2", "go -" }, { "ask 1", "go -" });
	close_world();
}

static void the_next_goes_ahead_when_the_first_ends(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" },
	    { "leave 1", "[2:0 3:0]" }, { "leave 1", "" }, { "ask 2", "go -" }, { "ask 3", "wait" },
	    { "ok 1 200", "" }, /* it no longer speaks for the others */
	    { "ask 1", "wait" }, { "leave 2", "[3:0 1:0]" }, { "ask 1", "go -" },
	    { "ok 1 500", "" }, { "ask 4", "go -" });
	close_world();
}

static void whoever_leaves_is_not_woken(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" }, { "ask 4", "wait" },
	    { "leave 3", "" }, { "leave 3", "" }, { "ok 1 200", "[2:0 4:0]" }, { "leave 4", "" });
	close_world();
	/* also when another one that is woken sees to that */
	OPEN();
	w.askers[2].kills = 4;
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "ask 3", "wait" }, { "ask 4", "wait" },
	    { "ask 5", "wait" }, { "ok 1 200", "[2:0 3:0 5:0]" });
	close_world();
}

/* ---- Basic ---- */

static void a_password_is_sent_when_it_is_wanted(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BASIC, "0[2:0]" },
	    { "ask 1", GO_ME }, { "ask 2", GO_ME }, { "ok 1 200", "" }, { "inquiry", "none" });
	close_world();
}

/* Item by item: the same again once, then a refusal for 3 s, then all over. */
static void a_refused_password_is_tried_again_later(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, /* the second in a row: refused when it is the same */
	    { "ask 1", "refused " REFUSED }, { "ask 2", "refused " REFUSED }, { "clock 2999", "" },
	    { "ask 1", "refused " REFUSED }, { "clock 1", "" }, { "ask 2", "wait[2:0]" },
	    { "ask 2", GO_ME }, { "ask 3", GO_ME }, { "ok 2 200", "" }, { "ask 4", GO_ME });
	close_world();
}

static void whoever_waits_is_told_of_a_refusal(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ask 2", GO_ME }, { "401 2" BASIC, "0" }, { "401 1" BASIC, "0" });
	/* nothing but the thread's news is left: they are told by it */
	w.no_threads = false;
	RUN({ "ask 3", GO_ME }, { "401 3" BASIC, "0" }, { "401 3" BASIC, "0" },
	    { "ask 3", "refused " REFUSED });
	close_world();
}

static void a_password_that_changed_serves_at_once(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" }, { FILE_NEW, "" }, { "ask 1", GO_ME }, { "401 1" BASIC, "0" },
	    { "ask 1", GO_NEW }, { "ok 1 200", "" },
	    /* one that was sent before is asked again with the new one */
	    { "401 2" BASIC, "0" }, { "ask 2", GO_NEW });
	close_world();
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "401 1" BASIC, "0" }, { "ask 1", "refused " REFUSED }, { FILE_NEW, "" },
	    { "clock 3000", "" }, { "ask 1", "wait[1:0]" }, { "ask 1", GO_NEW });
	close_world();
}

static void without_credentials_there_is_no_login(void **state)
{
	OPEN();
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1" BASIC,
	      "0[2:reg.io: it wants a user and password, and there are none; log in with 'docker "
	      "login', or name a file with credentials=FILE]" },
	    { "ask 1", "...refused reg.io: it wants a user and password" }, { "clock 3000", "" },
	    { "ask 1", "go -" }, { "ok 1 200", "" }, { "ask 2", "go -" });
	close_world();
}

/* ---- Bearer ---- */

static void a_token_is_fetched_and_renewed(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { "ask 1", "wait" },
	    { TOKEN("a", "100"), "[2:0 1:0]" }, { "ask 1", "go Bearer a" }, { "ok 1 200", "" },
	    { "clock 74999", "" }, { "ask 1", "go Bearer a" }, { "inquiry", "none" },
	    /* old: a new one is fetched meanwhile */
	    { "clock 1", "" }, { "ask 1", "go Bearer a" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { "clock 24999", "" },
	    { "ask 1", "go Bearer a" },
	    /* and nobody gets one that has run out */
	    { "clock 1", "" }, { "ask 1", "wait" }, { TOKEN("b", "100"), "[1:0]" },
	    { "ask 1", "go Bearer b" });
	close_world();
}

static void a_refused_token_is_given_to_nobody(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" }, { "ask 2", "go Bearer a" },
	    { "401 1" BEARER, "0" }, { "ask 3", "wait" }, { "401 2" BEARER, "0" },
	    { "ask 2", "wait" }, { TOKEN("b", "100"), "[3:0 2:0]" }, { "ask 1", "go Bearer b" },
	    /* the third in a row is the end */
	    { "401 1" BEARER, "reg.io: HTTP 401 (unauthorized) for this repository, as user me" });
	close_world();
}

static void token_services_refuse(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 401 {\"errors\":[{\"code\":\"DENIED\",\"message\":\"no way\"}]}",
	      "[2:reg.io: user 'me' and the password are refused (token service: HTTP 401 "
	      "(unauthorized): DENIED: no way); check the credentials, or log in anew]" },
	    { "ask 1", "...refused reg.io: user 'me'" }, { "clock 3000", "" }, { FILE_NEW, "" },
	    { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    /* what was known is tried first, then what the file says now */
	    { "inquiry", ASKED "Basic bWU6bmV3" }, { TOKEN("a", "100"), "" },
	    { "ask 1", "go Bearer a" });
	close_world();
	/* what a service repeats of the password is not told */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 403 {\"message\":\"secret is wrong\"}",
	      "...(token service: HTTP 403 (forbidden)); check" });
	close_world();
	OPEN();
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "inquiry", ASKED "-" },
	    { "reply 400 {}",
	      "[2:reg.io: it wants a login (token service: HTTP 400 (bad request)) and there are "
	      "no credentials; log in with 'docker login', or name a file with "
	      "credentials=FILE]" });
	close_world();
}

static void token_services_fail(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 503 busy", "[2:reg.io: token service: HTTP 503 (service unavailable)]" },
	    { "ask 2", "paused reg.io: token service: HTTP 503 (service unavailable)" },
	    { "clock 199", "" }, { "ask 2", "...paused" }, { "clock 1", "" }, { "ask 2", "go -" },
	    { "401 2" BEARER, "0" }, { "fail", "" },
	    { "ask 2", "paused reg.io: token service: it broke off" }, { "clock 399", "" },
	    { "ask 2", "...paused" }, { "clock 1", "" }, { "ask 2", "go -" },
	    { "401 2" BEARER, "0" }, { "reply 429 Retry-After: 5|", "" }, { "clock 4999", "" },
	    { "ask 2", "...paused reg.io: token service: HTTP 429 (too many requests)" },
	    { "clock 1", "" }, { "ask 2", "go -" }, { "401 2" BEARER, "0" }, { "reply 200 {}", "" },
	    { "ask 2", "paused reg.io: token service: token answer: it holds no token" },
	    { "clock 6400", "" }, { "ask 2", "go -" }, { "401 2" BEARER, "0" },
	    { TOKEN("a", "9"), "" }, { "ask 2", "go Bearer a" });
	close_world();
}

static void a_token_service_has_30_seconds(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" }, { "ask 1", "wait" });
	for (int i = 0; i < 4; i++) {
		/* a line now and then: not silent, but no answer either */
		w.now_ms += 7000;
		assert_true(http_heard_header(w.running, "HTTP/1.1 100 x\r\n", 16));
		turn();
	}
	RUN({ "clock 1999", "" }, { "ask 2", "wait" },
	    { "clock 1", "[1:reg.io: token service: no whole answer in 30 s 2:reg.io: token "
			 "service: no whole answer in 30 s]" },
	    { "inquiry", "none" });
	close_world();
}

static void a_token_service_redirects(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "reply 301 Location: /other?x=1|", "" },
	    { "inquiry", "GET https://auth.io/other?x=1 Basic bWU6c2VjcmV0" },
	    { "reply 307 Location: https://elsewhere.io/t|", "" },
	    { "inquiry", "GET https://elsewhere.io/t -" },
	    { "reply 307 Location: http://elsewhere.io/t|", "" },
	    { "ask 1", "paused reg.io: token service: redirect refused: the Location is missing, "
		       "malformed, not http(s), or leaves TLS" });
	close_world();
}

static void scopes_of_both_are_asked_for(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" },
	    { "401 1 Bearer realm=\"https://auth.io/t\",scope=\"aws\"", "0" },
	    { "inquiry", "GET https://auth.io/t?scope=aws&scope=repository%3Aapp%3Apull Basic "
			 "bWU6c2VjcmV0" });
	close_world();
	open_world("https://reg.io", NULL);
	RUN({ "file {}", "" }, { "ask 1", "go -" },
	    { "401 1 Bearer realm=\"https://auth.io/t\",scope=\"aws\"", "0" },
	    { "inquiry", "GET https://auth.io/t?scope=aws -" });
	close_world();
}

static void an_identity_token_goes_by_a_form(void **state)
{
	OPEN();
	RUN({ FILE_IDENTITY, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "inquiry", "POST https://auth.io/token -" },
	    { "form", "grant_type=refresh_token&service=s&scope=repository%3Aapp%3Apull&client_id="
		      "nbdkit-overlaybd&refresh_token=who%2Fam%2Fi" },
	    { "reply 307 Location: https://elsewhere.io/t|", "" },
	    { "ask 1", "paused reg.io: token service: it redirects a form with a token to another "
		       "host, to which none is sent" });
	close_world();
}

static void no_password_goes_where_others_listen(void **state)
{
	static const struct {
		const char *base, *realm;
		bool safe;
	} rows[] = {
		{ "https://reg.io", "https://auth.io/t", true },
		{ "https://reg.io", "http://reg.io/t", false },
		{ "http://reg.io:5000", "https://auth.io/t", true },
		{ "http://reg.io:5000", "http://reg.io:5001/t", true },
		{ "http://reg.io:5000", "http://REG.io/t", true },
		{ "http://reg.io", "http://auth.io/t", false },
		{ "http://reg.io", "http://reg.io.evil.io/t", false },
		{ "http://reg.io", "http://reg.io@evil.io/t", false },
		{ "http://localhost:5000", "http://127.0.0.1/t", true },
		{ "http://localhost:5000", "http://auth.io/t", false },
		{ "http://[2001:db8::1]:5000", "http://[2001:db8::1]/t", true },
		{ "http://[2001:db8::1]:5000", "http://[2001:db8::2]/t", false },
		{ "http://[2001:db8::1]", "http://[fe80::1]/t", false },
		{ "http://[::1]:5000", "http://[::1]/t", true },
		{ "http://[::1]:5000", "http://[::2]/t", false },
	};
	char event[256];
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		const char *login;

		open_world(rows[i].base, NULL);
		(void)take_event(FILE_ME);
		assert_string_equal(take_event("ask 1"), "go -");
		snprintf(event, sizeof event, "401 1 Bearer realm=\"%s\"", rows[i].realm);
		assert_string_equal(take_event(event), "0");
		turn();
		login = strrchr(inquiry(), ' ');
		if ((strcmp(login, " -") != 0) != rows[i].safe)
			fail_msg("%s, %s: %s", rows[i].base, rows[i].realm, login);
		close_world();
	}
	open_world("http://reg.io", NULL);
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1 Bearer realm=\"http://auth.io/t\"", "0" },
	    { "reply 401 {}", "...[2:reg.io: it wants a login at a token service without TLS on "
			      "another machine, to which no password is sent (HTTP 401" });
	close_world();
}

/* ---- one way after the other ---- */

static void basic_after_bearer(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("small", "100"), "" }, { "ask 1", "go Bearer small" }, { "401 1" BASIC, "0" },
	    { "ask 1", GO_ME }, { "ok 1 200", "" }, { "ask 2", GO_ME });
	close_world();
	/* both offered each time */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER ", Basic realm=x", "0" },
	    { TOKEN("small", "100"), "" }, { "ask 1", "go Bearer small" },
	    { "401 1" BEARER ", Basic realm=x", "0" }, { "ask 1", GO_ME });
	close_world();
	/* and back: a registry that wants another kind of login now */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" }, { "ask 1", GO_ME }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" });
	close_world();
}

static void a_registry_that_says_nothing_is_asked_at_its_door(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1", "0[2:0]" }, /* a passing disorder? */
	    { "ask 1", "go -" }, { "401 1", "0" }, { "inquiry", "GET https://reg.io/v2/ -" },
	    { "reply 401 WWW-Authenticate:" BEARER "|", "" },
	    { "inquiry", ASKED "Basic bWU6c2VjcmV0" }, { TOKEN("a", "100"), "" },
	    { "ask 1", "go Bearer a" }, { "ok 1 200", "" },
	    /* what it once said counts when it says nothing */
	    { "401 1", "0" }, { "inquiry", ASKED "Basic bWU6c2VjcmV0" });
	close_world();
	/* and where that says nothing either, a password is tried */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "reply 200 {}", "" }, { "ask 1", GO_ME },
	    { "401 1", "...reg.io: "
		       "HTTP 401 (unauthorized) for this repository" });
	close_world();
	OPEN();
	RUN({ "file {}", "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "fail", "" },
	    { "ask 1", "refused reg.io: HTTP 401 (unauthorized); it does not say how to log in, "
		       "and there are no credentials to try" });
	close_world();
}

static void an_open_registry_has_a_passing_disorder(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "ok 1 200", "" }, { "ask 1", "go -" },
	    { "ask 2", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", "go -" },
	    { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    /* one without a header, sent before there was one */
	    { "401 2" BASIC, "0" }, { "ask 2", GO_ME }, { "inquiry", "none" });
	close_world();
}

static void a_fixed_token_is_all_there_is(void **state)
{
	OPEN();
	RUN({ FILE_FIXED, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { "ask 1", "go Bearer fixed" }, { "401 1" BEARER, "0" },
	    { "ask 1", "refused reg.io: user '(token)' and the password are refused; check the "
		       "credentials, or log in anew" });
	close_world();
}

/* ---- 403 ---- */

static void a_forbidden_answer_may_mean_an_old_token(void **state)
{
	OPEN();
	RUN({ "403 1", "no" }, { FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" },
	    { TOKEN("a", "100"), "" }, { "ask 1", "go Bearer a" }, { "clock 999", "" },
	    { "403 1", "0" }, { "inquiry", "none" }, { "ask 2", "go Bearer a" }, { "clock 1", "" },
	    { "403 1", "0" }, { "ask 2", "wait" }, { TOKEN("b", "100"), "[2:0]" },
	    { "ask 1", "go Bearer b" }, { "ask 2", "go Bearer b" },
	    /* one that was sent with the old one */
	    { "clock 2000", "" });
	snprintf(w.askers[3].header, TEXT, "Bearer a");
	RUN({ "403 3", "0" }, { "inquiry", "none" });
	close_world();
	/* a password serves on while it is looked up anew */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "clock 1000", "" }, { "403 1", "0" }, { "ask 2", GO_ME }, { FILE_NEW, "" },
	    { "clock 1000", "" }, { "403 1", "0" }, { "ask 1", GO_NEW });
	close_world();
}

/* ---- credentials that cannot be had ---- */

#define GONE "/auth.json: No such file or directory"

static void a_public_image_needs_no_credentials(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "401 1" BEARER, "0" }, { "inquiry", ASKED "-" },
	    { TOKEN("anybody", "100"), "" }, { "ask 1", "go Bearer anybody" });
	assert_string_equal(w.warnings, "");
	RUN({ "ok 1 404", "" });
	assert_string_equal(w.warnings, "");
	RUN({ "ok 1 206", "" }, { "ok 1 200", "" });
	assert_int_equal(strncmp(w.warnings, "reg.io: credentials: /tmp/", 26), 0);
	assert_non_null(strstr(w.warnings, GONE "; going on without a login\n"));
	assert_ptr_equal(strchr(w.warnings, '\n'), w.warnings + strlen(w.warnings) - 1);
	assert_non_null(strstr(auth_fault(w.auth), GONE));
	close_world();
}

static void who_is_refused_is_told_why_there_are_none(void **state)
{
	OPEN();
	RUN({ "ask 1", "go -" }, { "401 1" BEARER, "0" }, { TOKEN("anybody", "100"), "" },
	    { "ask 1", "go Bearer anybody" }, { "401 1" BEARER, "0" },
	    { TOKEN("anybody", "100"), "" }, { "ask 1", "go Bearer anybody" },
	    { "401 1" BEARER, "..." GONE });
	assert_string_equal(w.warnings, "");
	close_world();
	OPEN();
	RUN({ "file {", "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1" BASIC, "...name a file with credentials=FILE; credentials: /tmp/" },
	    { "ask 1", "...: wrong JSON in line 1" });
	close_world();
	OPEN();
	RUN({ "ask 1", "go -" }, { "ask 2", "wait" }, { "401 1" BEARER, "0" },
	    { "reply 403 {}", "..." GONE });
	close_world();
}

static void a_login_outlives_its_file(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" }, { "file {", "" }, { "401 1" BASIC, "0" }, { "ask 1", GO_ME },
	    { "ok 1 200", "" });
	assert_non_null(strstr(w.warnings, "; going on with those of before\n"));
	RUN({ "401 1" BASIC, "0" }, { "ask 1", GO_ME }, { "401 1" BASIC, "0" },
	    { "ask 1", "...refused " REFUSED "; credentials: /tmp/" });
	close_world();
}

static void a_lookup_needs_a_thread(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "no threads", "" }, { "ask 1", "go -" }, { "ask 2", "wait" },
	    { "401 1" BASIC, "0[2:reg.io: no thread to look up credentials: Resource temporarily "
			     "unavailable]" },
	    { "ask 2", "...paused reg.io: no thread" }, { "threads", "" }, { "clock 200", "" },
	    { "ask 2", "go -" }, { "401 2" BASIC, "0" }, { "ask 2", GO_ME });
	close_world();
}

/* ---- the end ---- */

static void whoever_waits_is_told_of_the_end(void **state)
{
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" }, { "ask 1", "wait" },
	    { "ask 2", "wait" });
	http_interrupt(w.http);
	RUN({ "clock 1", "[1:reg.io: token service: shutting down 2:reg.io: token service: "
			 "shutting down]" });
	close_world();
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1", "0" }, { "ask 1", "go -" },
	    { "401 1", "0" }, { "ask 1", "wait" });
	http_interrupt(w.http);
	RUN({ "clock 1", "...shutting down" });
	close_world();
	/* and what is under way is given up */
	OPEN();
	RUN({ FILE_ME, "" }, { "ask 1", "go -" }, { "401 1" BEARER, "0" });
	assert_true(auth_quiesce(w.auth));
	assert_null(w.running);
	close_world();
}

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_goes_ahead_and_the_others_wait),
		cmocka_unit_test(the_next_goes_ahead_when_the_first_ends),
		cmocka_unit_test(whoever_leaves_is_not_woken),
		cmocka_unit_test(a_password_is_sent_when_it_is_wanted),
		cmocka_unit_test(a_refused_password_is_tried_again_later),
		cmocka_unit_test(whoever_waits_is_told_of_a_refusal),
		cmocka_unit_test(a_password_that_changed_serves_at_once),
		cmocka_unit_test(without_credentials_there_is_no_login),
		cmocka_unit_test(a_token_is_fetched_and_renewed),
		cmocka_unit_test(a_refused_token_is_given_to_nobody),
		cmocka_unit_test(token_services_refuse),
		cmocka_unit_test(token_services_fail),
		cmocka_unit_test(a_token_service_has_30_seconds),
		cmocka_unit_test(a_token_service_redirects),
		cmocka_unit_test(scopes_of_both_are_asked_for),
		cmocka_unit_test(an_identity_token_goes_by_a_form),
		cmocka_unit_test(no_password_goes_where_others_listen),
		cmocka_unit_test(basic_after_bearer),
		cmocka_unit_test(a_registry_that_says_nothing_is_asked_at_its_door),
		cmocka_unit_test(an_open_registry_has_a_passing_disorder),
		cmocka_unit_test(a_fixed_token_is_all_there_is),
		cmocka_unit_test(a_forbidden_answer_may_mean_an_old_token),
		cmocka_unit_test(a_public_image_needs_no_credentials),
		cmocka_unit_test(who_is_refused_is_told_why_there_are_none),
		cmocka_unit_test(a_login_outlives_its_file),
		cmocka_unit_test(a_lookup_needs_a_thread),
		cmocka_unit_test(whoever_waits_is_told_of_the_end),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
