/* SPDX-License-Identifier: Apache-2.0 */
/* What a request makes of logins, and tells them: each is the test's own, says what the test wants,
 * and notes what it hears. */
#include "fetch/counters.h"
#include "tests/unit/alloc.h"
#include "tests/unit/asking.h"

/* ---- logins ---- */

struct login {
	unsigned number;
	enum auth_answer answer;
	const char *header;
	int challenged, doubted;
	uint64_t rests_until;
	struct auth_wait *waiting;
};

static struct login logins[8];
static unsigned login_count;
static const char *fault = "";
static char notes[512];

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void note(const char *fmt, ...)
{
	size_t n = strlen(notes);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(notes + n, sizeof notes - n, fmt, ap);
	va_end(ap);
}

static void check_notes(const char *expected)
{
	assert_string_equal(notes, expected);
	notes[0] = '\0';
}

static struct login *login_of(struct auth *a)
{
	return (struct login *)a;
}

int __wrap_auth_open(const struct auth_options *o, struct auth **out, struct err *e);
bool __wrap_auth_quiesce(struct auth *a);
void __wrap_auth_close(struct auth *a);
enum auth_answer __wrap_auth_ask(struct auth *a, struct auth_wait *w, const char **header,
				 struct err *e);
uint64_t __wrap_auth_rests_until(const struct auth *a);
void __wrap_auth_leave(struct auth_wait *w);
void __wrap_auth_accepted(struct auth *a, struct auth_wait *w, unsigned status);
int __wrap_auth_challenged(struct auth *a, struct auth_wait *w, const struct challenge *c,
			   const char *header, unsigned strike, struct err *e);
int __wrap_auth_doubted(struct auth *a, struct auth_wait *w, const char *header);
const char *__wrap_auth_fault(const struct auth *a);

int __wrap_auth_open(const struct auth_options *o, struct auth **out, struct err *e)
{
	assert_true(login_count < sizeof logins / sizeof *logins);
	logins[login_count].number = login_count;
	*out = (struct auth *)&logins[login_count++];
	return 0;
}

bool __wrap_auth_quiesce(struct auth *a)
{
	return true;
}

void __wrap_auth_close(struct auth *a)
{
}

enum auth_answer __wrap_auth_ask(struct auth *a, struct auth_wait *w, const char **header,
				 struct err *e)
{
	struct login *l = login_of(a);

	assert_null(w->of);
	assert_non_null(w->ready);
	note("ask%u:%s ", l->number, w->path);
	if (l->answer == AUTH_GO || l->answer == AUTH_WAIT)
		w->of = a;
	if (l->answer == AUTH_GO)
		*header = l->header;
	else
		err_set(e, EACCES, "login %u is not to be had", l->number);
	l->waiting = l->answer == AUTH_WAIT ? w : NULL;
	return l->answer;
}

uint64_t __wrap_auth_rests_until(const struct auth *a)
{
	return ((const struct login *)a)->rests_until;
}

void __wrap_auth_leave(struct auth_wait *w)
{
	if (w->of)
		note("leave%u ", login_of(w->of)->number);
	w->of = NULL;
}

/* Where a guest is wanted, nobody was asked before. */
static void check_ahead(struct auth *a, struct auth_wait *w)
{
	assert_true(w->of == a || (!w->of && login_of(a)->number > 0));
	w->of = NULL;
}

void __wrap_auth_accepted(struct auth *a, struct auth_wait *w, unsigned status)
{
	check_ahead(a, w);
	note("accepted%u:%u ", login_of(a)->number, status);
}

int __wrap_auth_challenged(struct auth *a, struct auth_wait *w, const struct challenge *c,
			   const char *header, unsigned strike, struct err *e)
{
	check_ahead(a, w);
	note("challenged%u:%s:%u:%d ", login_of(a)->number, header ? header : "-", strike,
	     (int)c->scheme);
	return login_of(a)->challenged ? err_set(e, -login_of(a)->challenged, "no use") : 0;
}

int __wrap_auth_doubted(struct auth *a, struct auth_wait *w, const char *header)
{
	note("doubted%u:%s ", login_of(a)->number, header);
	return login_of(a)->doubted;
}

const char *__wrap_auth_fault(const struct auth *a)
{
	return fault;
}

static void begin_logins(struct test *t, unsigned places)
{
	memset(logins, 0, sizeof logins);
	login_count = 0;
	notes[0] = '\0';
	fault = "";
	begin(t, places, false);
}

#define ASK "ask0:/blobs/x "
#define ASK1 "ask1:/blobs/x "

/* ---- what it asks for ---- */

static void test_header(void **state)
{
	struct http_exchange *x;
	struct test t;

	begin_logins(&t, 1);
	request_submit(&t.q);
	x = stage_next();
	assert_null(x->authorization);
	stage_answer(x, PART, 100, 0);
	check_notes(ASK "accepted0:206 ");
	request_release(&t.q);
	make_request(&t);
	logins[0].header = "Bearer t";
	request_submit(&t.q);
	x = stage_next();
	assert_string_equal(x->authorization, "Bearer t");
	assert_ptr_not_equal(x->authorization, logins[0].header); /* it may go meanwhile */
	stage_answer(x, "500", 0, 0);
	check_notes(ASK "accepted0:500 ");
	logins[0].header = NULL;
	x = stage_next();
	assert_null(x->authorization);
	stage_answer(x, "404", 0, 0);
	check_notes(ASK "accepted0:404 ");
	end(&t);
}

static void ready(struct login *l, int r)
{
	struct auth_wait *w = l->waiting;
	struct err e;

	w->of = NULL;
	err_set(&e, -r, "login %u has failed", l->number);
	w->ready(w, r, &e);
}

/* It waits for a login, which comes, fails for now, or for good while it opens. */
static void test_waits(void **state)
{
	struct http_exchange *x;
	struct test t;

	begin_logins(&t, 2);
	logins[0].answer = AUTH_WAIT;
	request_submit(&t.q);
	stage_pass(3000);
	assert_int_equal(stage.count, 0);
	check_notes(ASK);
	logins[0].answer = AUTH_GO;
	logins[0].header = "H";
	ready(&logins[0], 0);
	x = stage_next();
	assert_string_equal(x->authorization, "H");
	stage_answer(x, PART, 100, 0);
	check_notes(ASK "accepted0:206 ");

	request_release(&t.q);
	make_request(&t);
	logins[0].answer = AUTH_WAIT;
	request_submit(&t.q);
	stage_run();
	ready(&logins[0], -EACCES); /* another place may do, and this one later */
	stage_answer(stage_next(), "500", 0, 0);
	logins[0].answer = AUTH_GO;
	stage_answer(stage_next(), PART, 100, 0);
	assert_int_equal(t.r, 0);
	check_notes(ASK ASK1 "accepted1:500 " ASK "accepted0:206 ");

	request_release(&t.q);
	make_request(&t);
	t.q.retry_until = clock_ms() + 10000;
	logins[0].answer = AUTH_WAIT;
	request_submit(&t.q);
	stage_run();
	ready(&logins[0], -EACCES);
	stage_answer(stage_next(), "404", 0, 0);
	assert_int_equal(t.r, -ENOENT);
	check_notes(ASK ASK1 "accepted1:404 ");

	request_release(&t.q);
	make_request(&t);
	t.q.retry_until = clock_ms() + 10000;
	request_submit(&t.q);
	stage_run();
	ready(&logins[0], -EIO); /* that is none for good */
	stage_answer(stage_next(), "404", 0, 0);
	logins[0].answer = AUTH_GO;
	stage_answer(stage_next(), PART, 100, 0);
	assert_int_equal(t.r, 0);
	end(&t);
}

/* A login that is refused or paused at the moment: as long as that takes. */
static void test_not_to_be_had(void **state)
{
	static const struct {
		enum auth_answer answer;
		bool opening;
		int r; /* 0: it waits */
	} rows[] = { { AUTH_REFUSED, false, 0 },
		     { AUTH_REFUSED, true, -EACCES },
		     { AUTH_PAUSED, false, 0 },
		     { AUTH_PAUSED, true, 0 } };
	struct test t;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin_logins(&t, 1);
		logins[0].answer = rows[i].answer;
		logins[0].rests_until = clock_ms() + 777;
		t.q.retry_until = rows[i].opening ? clock_ms() + 10000 : CLOCK_NEVER;
		request_submit(&t.q);
		stage_run();
		check_notes(ASK);
		if (rows[i].r < 0) {
			assert_int_equal(t.r, rows[i].r);
			assert_string_equal(t.text, "login 0 is not to be had");
			end(&t);
			continue;
		}
		stage_pass(776);
		check_notes("");
		logins[0].answer = AUTH_GO;
		stage_pass(1);
		check_notes(ASK);
		stage_answer(stage_next(), PART, 100, 0);
		assert_int_equal(t.r, 0);
		end(&t);
	}
	/* Its time is over before the login can be had: no server was ever asked. */
	begin_logins(&t, 1);
	logins[0].answer = AUTH_PAUSED;
	logins[0].rests_until = clock_ms() + 777;
	atomic_store(&t.q.deadline, clock_ms() + 500);
	request_submit(&t.q);
	stage_pass(500);
	assert_int_equal(t.r, -ETIMEDOUT);
	assert_string_equal(t.text, "login 0 is not to be had");
	end(&t);
}

/* ---- what it tells ---- */

#define BASIC "401|WWW-Authenticate: Basic realm=\"x\""

static void test_challenges(void **state)
{
	struct http_exchange *x;
	struct test t;

	begin_logins(&t, 2);
	request_submit(&t.q);
	x = stage_next();
	logins[0].header = "H";
	stage_answer(x, BASIC, 0, 0);
	stage_answer(stage_next(), BASIC, 0, 0);
	stage_answer(stage_next(), "500", 0, 0);
	stage_answer(stage_next(), BASIC, 0, 0); /* another place: its first */
	stage_answer(stage_next(), "500", 0, 0);
	check_notes(ASK "challenged0:-:0:1 " ASK "challenged0:H:1:1 " ASK "accepted0:500 " ASK1
			"challenged1:-:0:1 " ASK1 "accepted1:500 ");
	stage_answer(stage_next(), BASIC, 0, 0); /* nor does the next round go on counting */
	stage_answer(stage_next(), PART, 100, 0);
	assert_int_equal(t.r, 0);
	check_notes(ASK "challenged0:H:0:1 " ASK "accepted0:206 ");
	end(&t);
}

/* No login will do: that is said, with the server's words. */
static void test_no_use(void **state)
{
	static const char words[] = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"go away\"}]}";
	struct http_exchange *x;
	struct test t;
	int i;

	for (i = 0; i < 2; i++) {
		begin_logins(&t, 1);
		logins[0].challenged = -EACCES;
		t.q.retry_until = clock_ms() + 10000;
		request_submit(&t.q);
		x = stage_next();
		assert_true(stage_head(x, BASIC));
		if (i > 0)
			assert_true(http_heard_bytes(x, words, strlen(words)));
		stage_end(x, 0);
		stage_run();
		assert_int_equal(t.r, -EACCES);
		assert_string_equal(t.text, i > 0 ? "no use: DENIED: go away" : "no use");
		check_notes(ASK "challenged0:-:0:1 ");
		end(&t);
	}
}

/* Some say 403 when a login has run out: once that is tried, if there was one. */
static void test_doubts(void **state)
{
	struct test t;

	begin_logins(&t, 1);
	logins[0].header = "H";
	request_submit(&t.q);
	stage_answer(stage_next(), "403", 0, 0);
	check_notes(ASK "accepted0:403 doubted0:H " ASK);
	stage_answer(stage_next(), "403", 0, 0);
	assert_int_equal(t.r, -EACCES);
	check_notes("accepted0:403 ");
	request_release(&t.q);
	make_request(&t);
	logins[0].doubted = -EACCES;
	request_submit(&t.q);
	stage_answer(stage_next(), "403", 0, 0);
	assert_int_equal(t.r, -EACCES);
	check_notes(ASK "accepted0:403 doubted0:H ");
	request_release(&t.q);
	make_request(&t);
	logins[0].header = NULL;
	fault = "no such helper";
	request_submit(&t.q);
	stage_answer(stage_next(), "403", 0, 0);
	assert_int_equal(t.r, -EACCES);
	check_notes(ASK "accepted0:403 ");
	assert_string_equal(t.text, "e0.test: HTTP 403 (forbidden); credentials: no such helper");
	end(&t);
}

/* What is wrong with credentials is said to who is refused, or does not find it. */
static void test_fault(void **state)
{
	static const struct {
		const char *status, *text;
	} rows[] = {
		{ "403", "e0.test: HTTP 403 (forbidden); credentials: why" },
		{ "404", "e0.test: HTTP 404 (not found); credentials: why" },
		{ "410", "e0.test: HTTP 410 (gone); credentials: why" },
		{ "400", "e0.test: HTTP 400 (bad request)" },
		{ "416", "; the blob has another size" },
	};
	struct test t;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin_logins(&t, 1);
		fault = "why";
		request_submit(&t.q);
		stage_answer(stage_next(), rows[i].status, 0, 0);
		assert_true(t.done);
		if (strlen(t.text) < strlen(rows[i].text) ||
		    strcmp(t.text + strlen(t.text) - strlen(rows[i].text), rows[i].text) != 0)
			fail_msg("%s: %s", rows[i].status, t.text);
		end(&t);
	}
}

/* No answer, or one that was cut, says nothing about a login: another may go ahead. */
static void test_no_answer(void **state)
{
	static const struct {
		const char *head;
		size_t body;
		int end;
		const char *notes;
	} rows[] = {
		{ "", 0, -ECONNRESET, ASK "leave0 " },
		{ BASIC, 0, -ECONNRESET, ASK "leave0 " },
		{ BASIC, 70 * 1024, 0, ASK "challenged0:-:0:1 " ASK },
		{ "400", 0, -ECONNRESET, ASK "accepted0:400 " },
		{ "402", 0, -ECONNRESET, ASK "accepted0:402 " },
		{ PART, 50, -ECONNRESET, ASK "accepted0:206 " },
	};
	struct test t;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin_logins(&t, 1);
		request_submit(&t.q);
		stage_answer(stage_next(), rows[i].head, rows[i].body, rows[i].end);
		check_notes(rows[i].notes);
		queue_shut(t.queue);
		end(&t);
	}
}

/* Whoever is ended while it waits or runs leaves its place to others. */
static void test_aborted(void **state)
{
	struct test t;
	int i;

	for (i = 0; i < 2; i++) {
		begin_logins(&t, 1);
		logins[0].answer = i == 0 ? AUTH_WAIT : AUTH_GO;
		atomic_store(&t.q.deadline, clock_ms() + 1000);
		request_submit(&t.q);
		stage_pass(999);
		check_notes(ASK);
		stage_pass(1);
		check_notes("leave0 ");
		assert_int_equal(t.r, -ETIMEDOUT);
		assert_int_equal(stage.count, 0);
		end(&t);
	}
}

/* ---- where it redirects ---- */

#define AWAY "307|Location: https://t.test/x"

static void test_guest(void **state)
{
	struct http_exchange *x;
	struct test t;

	begin_logins(&t, 1);
	logins[0].header = "H";
	request_submit(&t.q);
	stage_answer(stage_next(), AWAY, 0, 0);
	check_notes(ASK "accepted0:307 "); /* and nobody logs in there */
	x = stage_next();
	assert_null(x->authorization);
	logins[1].header = "G";
	stage_answer(x, BASIC, 0, 0);
	check_notes("challenged1:-:0:1 " ASK1);
	x = stage_next();
	assert_string_equal(x->url, "https://t.test/x");
	assert_string_equal(x->authorization, "G");
	logins[1].answer = AUTH_WAIT;
	stage_answer(x, BASIC, 0, 0);
	check_notes("challenged1:G:1:1 " ASK1);
	logins[1].answer = AUTH_GO;
	ready(&logins[1], 0);
	x = stage_next();
	assert_string_equal(x->url, "https://t.test/x"); /* not from the beginning */
	stage_answer(x, PART, 100, 0);
	assert_int_equal(t.r, 0);
	check_notes(ASK1 "accepted1:206 ");

	/* What is remembered is asked for anew first. */
	request_release(&t.q);
	make_request(&t);
	logins[1].answer = AUTH_WAIT;
	request_submit(&t.q);
	stage_run();
	check_notes(ASK1);
	logins[1].answer = AUTH_GO;
	ready(&logins[1], 0);
	stage_answer(stage_next(), PART, 100, 0);
	check_notes(ASK1 "accepted1:206 ");
	end(&t);
}

/* Who says 401 there without wanting a login, or for an address that is remembered, is no host. */
static void test_no_guest(void **state)
{
	struct test t;

	begin_logins(&t, 1);
	request_submit(&t.q);
	stage_answer(stage_next(), AWAY, 0, 0);
	stage_answer(stage_next(), "401", 0, 0);
	assert_int_equal(login_count, 1);
	check_notes(ASK "accepted0:307 ");
	stage_answer(stage_next(), AWAY, 0, 0);
	stage_answer(stage_next(), PART, 100, 0);
	assert_int_equal(t.r, 0);
	check_notes(ASK "accepted0:307 ");
	request_release(&t.q);
	make_request(&t);
	request_submit(&t.q);
	stage_answer(stage_next(), BASIC, 0, 0); /* a signature that has run out */
	assert_int_equal(login_count, 1);
	stage_answer(stage_next(), AWAY, 0, 0);
	check_notes(ASK "accepted0:307 ");
	stage_answer(stage_next(), BASIC, 0, 0);
	assert_int_equal(login_count, 2);
	stage_answer(stage_next(), PART, 100, 0);
	assert_int_equal(t.r, 0);
	end(&t);
}

/* ---- what is counted, and noted of the link ---- */

static void test_counts(void **state)
{
	struct stats_group *group;
	struct http_exchange *x;
	struct stats *s;
	struct test t;

	assert_int_equal(stats_group_open("img", &group, NULL), 0);
	s = stats_group_image(group);
	begin_logins(&t, 1);
	t.q.stats = s;
	request_submit(&t.q);
	x = stage_next();
	x->first_byte_us = 0;
	stage_answer(x, "", 0, -ECONNRESET);
	assert_int_equal(atomic_load(&s->requests[COUNTERS_NO_ANSWER]), 1);
	assert_int_equal(queue_round_trip(t.queue), 0);
	assert_int_equal(stats_get(s, STATS_RETRIES), 0);
	x = stage_next();
	assert_int_equal(stats_get(s, STATS_RETRIES), 1);
	x->first_byte_us = 7000;
	stage_answer(x, PART, 50, -ECONNRESET);
	assert_int_equal(atomic_load(&s->requests[COUNTERS_NO_ANSWER]), 1);
	assert_int_equal(atomic_load(&s->requests[1]), 1); /* 206 */
	assert_int_equal(queue_round_trip(t.queue), 7);
	assert_int_equal(stats_get(s, STATS_FETCHED_BYTES), 50);
	x = stage_next();
	stage_answer(x, PART, 100, 0);
	assert_int_equal(atomic_load(&s->requests[1]), 2);
	assert_int_equal(stats_get(s, STATS_RETRIES), 2);
	assert_int_equal(stats_get(s, STATS_FETCHED_BYTES), 150);
	end(&t);
	stats_group_close(group);
}

static void test_no_memory(void **state)
{
	struct test t;

	begin_logins(&t, 1);
	logins[0].header = "H";
	request_submit(&t.q);
	alloc_left = 0; /* for the header */
	stage_run();
	alloc_left = -1;
	assert_true(t.done);
	assert_int_equal(t.r, -ENOMEM);
	assert_string_equal(t.text, "out of memory");
	assert_int_equal(stage.count, 0);
	check_notes(ASK "leave0 ");
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),	      cmocka_unit_test(test_waits),
		cmocka_unit_test(test_not_to_be_had), cmocka_unit_test(test_challenges),
		cmocka_unit_test(test_no_use),	      cmocka_unit_test(test_doubts),
		cmocka_unit_test(test_fault),	      cmocka_unit_test(test_no_answer),
		cmocka_unit_test(test_aborted),	      cmocka_unit_test(test_guest),
		cmocka_unit_test(test_no_guest),      cmocka_unit_test(test_counts),
		cmocka_unit_test(test_no_memory),
	};

	setenv("HOME", "/nonexistent", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
