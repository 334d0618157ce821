/* SPDX-License-Identifier: Apache-2.0 */
/* A small answer as a whole: what is kept of it, how large it may be, whether it is right. */
#include "fetch/document.h"
#include "tests/unit/bloblib.h"

#include <sched.h>
#include <stdatomic.h>

#define HELLO_DIGEST "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define EMPTY_DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

enum { ANSWERS = 3, LIMIT = 8 };

static struct row {
	const char *what;
	struct {
		const char *head, *body, *rest; /* NULL: there is none of it */
		int end;
	} answers[ANSWERS];
	bool peek;
	const char *digest;
	uint64_t deadline; /* ms from now; 0: never */
	int r;
	const char *text; /* of the document; of a failure, part of the message */
	const char *from; /* its place */
} rows[] = {
	{ .what = "two parts",
	  .answers = { { "200|Content-Length: 5", "he", "llo", 0 } },
	  .text = "hello",
	  .from = "https://e0.test/v2/img/manifests/latest?ns=e1.test" },
	{ .what = "nothing", .answers = { { "200|Content-Length: 0", NULL, NULL, 0 } } },
	{ .what = "as much as is allowed",
	  .answers = { { "200", "1234567", "8", 0 } },
	  .text = "12345678" },
	{ .what = "more than is allowed",
	  .answers = { { "200", "1234567", "89", 0 }, { "200", "1234567", "89", 0 } },
	  .r = -EFBIG,
	  .text = "more than 8 bytes" },
	{ .what = "cut, then again",
	  .answers = { { "200|Content-Length: 8", "old", NULL, -ECONNRESET },
		       { "200", "hello", NULL, 0 } },
	  .text = "hello",
	  .from = "https://e1.test/v2/img/manifests/latest" },
	{ .what = "cut, then nothing",
	  .answers = { { "200|Content-Length: 8", "old", NULL, -ECONNRESET },
		       { "404", NULL, NULL, 0 },
		       { "404", NULL, NULL, 0 } },
	  .r = -ENOENT,
	  .text = "404" },
	{ .what = "the right digest",
	  .answers = { { "200", "hello", NULL, 0 } },
	  .digest = HELLO_DIGEST,
	  .text = "hello",
	  .from = "https://e0.test/v2/img/manifests/latest?ns=e1.test" },
	{ .what = "the right digest, of nothing",
	  .answers = { { "200", NULL, NULL, 0 } },
	  .digest = EMPTY_DIGEST },
	{ .what = "another digest here, the right one there",
	  .answers = { { "200", "hallo", NULL, 0 }, { "200", "hello", NULL, 0 } },
	  .digest = HELLO_DIGEST,
	  .text = "hello",
	  .from = "https://e1.test/v2/img/manifests/latest" },
	{ .what = "another digest everywhere",
	  .answers = { { "200", "hallo", NULL, 0 }, { "200", "hallo", NULL, 0 } },
	  .digest = HELLO_DIGEST,
	  .r = -EBADMSG,
	  .text = "what came for " HELLO_DIGEST " has the digest sha256:" },
	{ .what = "a look",
	  .answers = { { "206|Content-Range: bytes 0-0/77", "h", NULL, 0 } },
	  .peek = true },
	{ .what = "a look, at all of it",
	  .answers = { { "200|Content-Length: 5", "hello", NULL, 0 } },
	  .peek = true },
	{ .what = "no answer in time", .deadline = 300, .r = -ETIMEDOUT },
};

static const struct row *running;

static void play(unsigned times, uint64_t until)
{
	struct http_exchange *x;
	bool goes_on;

	if (times >= ANSWERS || !running->answers[times].head) {
		stage_pass(1000);
		return;
	}
	x = stage_next();
	assert_int_equal(x->ranged, running->peek);
	if (running->peek)
		assert_int_equal(x->last, 0);
	goes_on = stage_head(x, running->answers[times].head);
	if (goes_on && running->answers[times].body)
		goes_on = http_heard_bytes(x, running->answers[times].body,
					   strlen(running->answers[times].body));
	if (goes_on && running->answers[times].rest)
		goes_on = http_heard_bytes(x, running->answers[times].rest,
					   strlen(running->answers[times].rest));
	if (goes_on)
		stage_end(x, running->answers[times].end);
	stage_run();
}

static void check_row(const struct row *row)
{
	struct document d = { 0 };
	struct err e = { .msg = "" };
	int r;

	print_message("%s\n", row->what);
	open_scene(&(struct scene){ .size = CHUNK, .places = 2 });
	d = (struct document){
		.queue = queue,
		.method = "GET",
		.path = "/manifests/latest",
		.limit = LIMIT,
		.peek = row->peek,
		.check = row->digest ? document_check_digest : NULL,
		.digest = row->digest,
		.deadline = row->deadline ? clock_ms() + row->deadline : CLOCK_NEVER,
		.retry_until = CLOCK_NEVER,
	};
	running = row;
	on_wait = play;
	r = document_fetch(&d, &e);
	assert_int_equal(r, row->r);
	if (r < 0) {
		assert_null(d.from);
		if (row->text)
			assert_non_null(strstr(e.msg, row->text));
	} else if (row->text) {
		assert_string_equal(d.text, row->text);
		assert_int_equal(d.n, strlen(row->text));
	} else {
		assert_int_equal(d.n, 0);
		assert_null(d.text);
	}
	if (row->from)
		assert_string_equal(d.from, row->from);
	document_release(&d);
	assert_null(d.text);
	assert_null(d.from);
	assert_int_equal(d.n, 0);
	close_scene();
}

static void test_rows(void **state)
{
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		check_row(&rows[i]);
}

/* What a look is for: the headers. */
static void test_answer(void **state)
{
	struct document d;

	open_scene(&(struct scene){ .size = CHUNK });
	d = (struct document){ .queue = queue,
			       .method = "GET",
			       .path = "/blobs/x",
			       .peek = true,
			       .deadline = CLOCK_NEVER,
			       .retry_until = CLOCK_NEVER };
	running = &(struct row){ .answers = { { "206|Content-Range: bytes 0-0/77", "h", NULL, 0 } },
				 .peek = true };
	on_wait = play;
	assert_int_equal(document_fetch(&d, NULL), 0);
	assert_int_equal(d.answer.status, 206);
	assert_int_equal(d.answer.total, 77);
	document_release(&d);
	close_scene();
}

static void shut(unsigned times, uint64_t until)
{
	assert_true(until == CLOCK_NEVER);
	queue_shut(queue);
}

static void test_shut(void **state)
{
	struct document d;

	open_scene(&(struct scene){ .size = CHUNK });
	d = (struct document){ .queue = queue,
			       .method = "GET",
			       .path = "/manifests/latest",
			       .limit = LIMIT,
			       .deadline = CLOCK_NEVER,
			       .retry_until = CLOCK_NEVER };
	on_wait = shut;
	assert_int_equal(document_fetch(&d, NULL), -ESHUTDOWN);
	document_release(&d);
	close_scene();
}

/* ---- two threads, for TSan ---- */

/* Only relaxed atomics say whose turn it is: what orders the two for TSan is the document's own
 * lock. */
static atomic_bool asker_waits, asker_is_woken;

static void until(atomic_bool *what)
{
	while (!atomic_load_explicit(what, memory_order_relaxed))
		sched_yield();
}

static void wait_for_the_engine(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	pthread_mutex_unlock(lock);
	atomic_store_explicit(&asker_waits, true, memory_order_relaxed);
	until(&asker_is_woken);
	pthread_mutex_lock(lock);
}

static void wake_the_asker(pthread_cond_t *c)
{
	atomic_store_explicit(&asker_is_woken, true, memory_order_relaxed);
}

static void *ask(void *arg)
{
	struct document d = { .queue = queue,
			      .method = "GET",
			      .path = "/manifests/latest",
			      .limit = LIMIT,
			      .deadline = CLOCK_NEVER,
			      .retry_until = CLOCK_NEVER };
	intptr_t r = document_fetch(&d, NULL);

	if (r == 0 && (d.n != 5 || !d.from || d.answer.status != 200))
		r = -EPROTO;
	document_release(&d);
	return (void *)r;
}

/* Who asks waits before the answer is there, and looks at it as soon as it is. */
static void test_threads(void **state)
{
	struct clock_ops ops = lib_clock;
	pthread_t asker;
	void *r;

	open_scene(&(struct scene){ .size = CHUNK });
	ops.wait = wait_for_the_engine;
	ops.wake = wake_the_asker;
	clock_use(&ops);
	assert_int_equal(pthread_create(&asker, NULL, ask, NULL), 0);
	until(&asker_waits);
	stage_answer(stage_next(), "200|Content-Length: 5", 5, 0);
	pthread_join(asker, &r);
	assert_int_equal((intptr_t)r, 0);
	clock_use(&lib_clock);
	close_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_shut),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
