/* SPDX-License-Identifier: Apache-2.0 */
/* What a request makes of answers, when it asks again, and how it ends. */
#include "tests/unit/asking.h"

#include "fetch/range.h"

/* ---- answers to a range ---- */

static void test_ranges(void **state)
{
	static const struct row rows[] = {
		{ .what = "the range", .steps = { GOOD(0, "e0") } },
		{ .what = "a total that is not told",
		  .steps = { { .at = "e0",
			       .head = "206|Content-Range: bytes 0-99/*",
			       .body = 100 } } },
		{ .what = "its beginning, then its end",
		  .steps = { { .at = "e0",
			       .head = "206|Content-Range: bytes 0-39/100",
			       .body = 40 },
			     { .at = "e0",
			       .head = "206|Content-Range: bytes 40-99/100",
			       .body = 60,
			       .first = 40 } } },
		{ .what = "the whole",
		  .steps = { { .at = "e0", .head = "200|Content-Length: 100", .body = 100 } } },
		{ .what = "hints alone",
		  .steps = { SAYS(0, "e0", "103|Link: </x>") },
		  .r = -EIO,
		  .text = "HTTP 103" },
		{ .what = "another range",
		  .places = 2,
		  .steps = { { .at = "e0",
			       .head = "206|Content-Range: bytes 1-99/100",
			       .body = 99 },
			     GOOD(0, "e1") } },
		{ .what = "more than was asked for",
		  .places = 2,
		  .steps = { { .at = "e0",
			       .head = "206|Content-Range: bytes 0-100/101",
			       .body = 9 },
			     GOOD(0, "e1") } },
		{ .what = "no Content-Range",
		  .places = 2,
		  .steps = { { .at = "e0", .head = "206|Content-Length: 100", .body = 100 },
			     GOOD(0, "e1") } },
		{ .what = "another length",
		  .places = 2,
		  .steps = { { .at = "e0", .head = PART "|Content-Length: 99", .body = 99 },
			     GOOD(0, "e1") } },
		{ .what = "a coding",
		  .places = 2,
		  .steps = { { .at = "e0", .head = PART "|Content-Encoding: gzip", .body = 100 },
			     GOOD(0, "e1") } },
		{ .what = "another status",
		  .places = 2,
		  .steps = { { .at = "e0", .head = "203|Content-Length: 100", .body = 100 },
			     GOOD(0, "e1") } },
		{ .what = "a whole of another length",
		  .places = 2,
		  .steps = { { .at = "e0", .head = "200|Content-Length: 99", .body = 99 },
			     GOOD(0, "e1") } },
		{ .what = "a whole without a length, which cannot be held",
		  .places = 2,
		  .steps = { { .at = "e0", .head = "200", .body = 100 }, GOOD(0, "e1") } },
		{ .what = "a whole with a range",
		  .places = 2,
		  .steps = { { .at = "e0",
			       .head = "200|Content-Length: 100|Content-Range: bytes 0-99/100",
			       .body = 100 },
			     GOOD(0, "e1") } },
		{ .what = "a blob of another size, later",
		  .steps = { { .at = "e0", .head = "206|Content-Range: bytes 0-99/101", .body = 9 },
			     GOOD(50, "e0") } },
		{ .what = "a blob of another size, at open",
		  .opening = true,
		  .steps = { { .at = "e0", .head = "206|Content-Range: bytes 0-99/101" } },
		  .r = -EBADMSG,
		  .text = "the blob has 101 bytes, the manifest says 100" },
		{ .what = "more bytes than it says",
		  .steps = { { .at = "e0", .head = PART, .body = 101 }, GOOD(50, "e0") } },
		{ .what = "cut in order",
		  .steps = { { .at = "e0", .head = PART, .body = 99 }, GOOD(50, "e0") } },
		{ .what = "cut",
		  .places = 2,
		  .steps = { { .at = "e0", .head = PART, .body = 99, .end = -ECONNRESET },
			     GOOD(0, "e1") } },
		{ .what = "all of it, and then a failure",
		  .places = 2,
		  .steps = { { .at = "e0", .head = PART, .body = 100, .end = -ECONNRESET },
			     GOOD(0, "e1") } },
	};

	RUN(rows);
}

/* What was cut is asked for in pieces of half of what came, in whole 16 KiB; what came in order, in
 * pieces twice as large each time. */
static void test_pieces(void **state)
{
	enum { KIB = 1024 };
	static const struct {
		uint64_t most, received;
		bool whole;
		uint64_t less;
	} cut[] = {
		{ 0, 0, false, 0 },
		{ 0, 1, false, 16 * KIB },
		{ 0, 32 * KIB, false, 16 * KIB },
		{ 0, 64 * KIB - 1, false, 16 * KIB },
		{ 0, 64 * KIB, false, 32 * KIB },
		{ 0, 127 * KIB, false, 48 * KIB },
		{ 0, 1024 * KIB, true, 0 }, /* a server that gives it as a whole, always */
		{ 32 * KIB, 0, false, 32 * KIB },
		{ 64 * KIB, 1, false, 16 * KIB },
		{ 64 * KIB, 1, true, 64 * KIB },
	};
	static const struct {
		uint64_t most, more;
	} in_order[] = {
		{ 0, 0 },
		{ 16 * KIB, 32 * KIB },
		{ UINT64_MAX / 2, UINT64_MAX - 1 },
		{ UINT64_MAX / 2 + 1, 0 },
	};
	static const struct {
		uint64_t most, first, last, piece;
	} pieces[] = {
		{ 0, 5, 100, 100 }, { 1, 5, 100, 5 },	 { 10, 5, 100, 14 },
		{ 95, 5, 100, 99 }, { 96, 5, 100, 100 }, { 97, 5, 100, 100 },
	};
	struct request q = { 0 };
	size_t i;

	for (i = 0; i < sizeof cut / sizeof *cut; i++) {
		q.most = cut[i].most;
		q.x.received = cut[i].received;
		q.whole = cut[i].whole;
		range_ask_less(&q);
		if (q.most != cut[i].less)
			fail_msg("cut %zu: %" PRIu64, i, q.most);
	}
	for (i = 0; i < sizeof in_order / sizeof *in_order; i++) {
		q.most = in_order[i].most;
		range_ask_more(&q);
		assert_true(q.most == in_order[i].more);
	}
	for (i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		q.most = pieces[i].most;
		q.first = pieces[i].first;
		q.last = pieces[i].last;
		assert_int_equal(range_last(&q), pieces[i].piece);
	}
}

/* ---- refusals ---- */

static void test_refusals(void **state)
{
	static const struct row rows[] = {
		{ .what = "404, and another has it",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "404"), GOOD(0, "e1") } },
		{ .what = "404 everywhere",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "404"), SAYS(0, "e1", "404") },
		  .r = -ENOENT,
		  .text = "e1.test: HTTP 404" },
		{ .what = "410", .steps = { SAYS(0, "e0", "410") }, .r = -ENOENT },
		{ .what = "403", .steps = { SAYS(0, "e0", "403") }, .r = -EACCES },
		{ .what = "416",
		  .steps = { SAYS(0, "e0", "416") },
		  .r = -EBADMSG,
		  .text = "the blob has another size" },
		{ .what = "400", .steps = { SAYS(0, "e0", "400") }, .r = -EIO, .text = "HTTP 400" },
		{ .what = "501", .steps = { SAYS(0, "e0", "501") }, .r = -EIO },
		{ .what = "505", .steps = { SAYS(0, "e0", "505") }, .r = -EIO },
		{ .what = "a final one, then one that may change",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "404"), SAYS(0, "e1", "500"), SAYS(50, "e1", "500"),
			     GOOD(100, "e1") } },
		{ .what = "busy ones",
		  .steps = { SAYS(0, "e0", "408"), SAYS(50, "e0", "425"), SAYS(100, "e0", "429"),
			     SAYS(200, "e0", "500"), SAYS(400, "e0", "503"), SAYS(800, "e0", "504"),
			     SAYS(1600, "e0", "599"), SAYS(2500, "e0", "502"),
			     SAYS(2500, "e0", "502"), GOOD(2500, "e0") } },
		{ .what = "Retry-After",
		  .steps = { SAYS(0, "e0", "503|Retry-After: 7"), GOOD(7000, "e0") } },
		{ .what = "Retry-After, and another place",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "503|Retry-After: 7"), GOOD(0, "e1") } },
		{ .what = "Retry-After at both: the first that is over",
		  .places = 2,
		  .steps = { SAYS(0, "e0", "503|Retry-After: 7"),
			     SAYS(0, "e1", "429|Retry-After: 3"), GOOD(3000, "e1") } },
		{ .what = "Retry-After beyond the deadline is no help",
		  .deadline = 5000,
		  .steps = { SAYS(0, "e0", "503|Retry-After: 7"), GOOD(50, "e0") } },
		{ .what = "Retry-After of no time",
		  .steps = { SAYS(0, "e0", "503|Retry-After: 0"), GOOD(50, "e0") } },
		{ .what = "an error page that is long",
		  .steps = { { .at = "e0", .head = "404", .body = 70 * 1024 } },
		  .r = -ENOENT,
		  .text = "HTTP 404" },
		{ .what = "an error page that is cut",
		  .places = 2,
		  .steps = { { .at = "e0", .head = "404", .body = 10, .end = -ECONNRESET },
			     GOOD(0, "e1") } },
	};

	RUN(rows);
}

/* Each status there may be, of something that is no range. */
static void test_each_status(void **state)
{
	static const unsigned busy[] = { 408, 425, 429, 500, 502, 503, 504 };
	unsigned status, i;

	for (status = 100; status < 700; status++) {
		bool again = status > 505;
		char head[16];
		struct test t;
		int r = -EIO;

		for (i = 0; i < sizeof busy / sizeof *busy; i++)
			again = again || status == busy[i];
		if (status == 401) /* the logins' */
			continue;
		if ((status >= 200 && status <= 206) || status == 304)
			r = 0;
		else if ((status >= 301 && status <= 303) || status == 307 || status == 308)
			r = -EPROTO; /* to nowhere */
		else if (status == 403)
			r = -EACCES;
		else if (status == 404 || status == 410)
			r = -ENOENT;
		else if (status == 416)
			r = -EBADMSG;
		begin(&t, 1, false);
		t.q.ranged = false;
		request_submit(&t.q);
		snprintf(head, sizeof head, "%u", status);
		stage_answer(stage_next(), head, 0, 0);
		if (t.done == again || (t.done && t.r != r))
			fail_msg("HTTP %u: %d %s", status, t.r, t.done ? t.text : "again");
		end(&t);
	}
}

/* An error's page is read up to 64 KiB. */
static void test_long_page(void **state)
{
	struct http_exchange *x;
	struct test t;

	begin(&t, 1, false);
	request_submit(&t.q);
	x = stage_next();
	assert_true(stage_head(x, "404"));
	assert_true(stage_bytes(x, 0, 64 * 1024));
	assert_false(stage_bytes(x, 64 * 1024, 1));
	stage_run();
	assert_int_equal(t.r, -ENOENT);
	assert_int_equal(t.got, 0);
	end(&t);
}

/* Half of a rest is chance; it is twice as long each time, up to 5 s. */
static void test_rests(void **state)
{
	static const uint32_t chances[] = { 0, 49, 50, 51, 1000, UINT32_MAX };
	uint64_t then, rest;
	struct test t;
	unsigned i, k;

	for (i = 0; i < sizeof chances / sizeof *chances; i++) {
		begin(&t, 1, false);
		stage.chance = chances[i];
		request_submit(&t.q);
		for (k = 0, rest = 100; k < 10; k++) {
			stage_answer(stage_next(), "500", 0, 0);
			then = stage_ms();
			assert_non_null(stage_next());
			stage.seen--;
			assert_int_equal(stage_ms() - then, rest / 2 + chances[i] % (rest / 2 + 1));
			rest = 2 * rest < 5000 ? 2 * rest : 5000;
		}
		end(&t);
	}
}

/* ---- no answer ---- */

static void test_failures(void **state)
{
	static const struct row rows[] = {
		{ .what = "refused, then there",
		  .steps = { FAILS(0, "e0", ECONNREFUSED), GOOD(50, "e0") } },
		{ .what = "both, in rounds",
		  .places = 2,
		  .steps = { FAILS(0, "e0", ECONNREFUSED), FAILS(0, "e1", ETIMEDOUT),
			     FAILS(50, "e0", ECONNRESET), FAILS(0, "e1", EPROTO),
			     FAILS(100, "e0", EHOSTUNREACH), GOOD(0, "e1") } },
		{ .what = "no memory is nobody's fault, and passes",
		  .steps = { FAILS(0, "e0", ENOMEM), GOOD(50, "e0") } },
		{ .what = "more than there may be",
		  .places = 2,
		  .steps = { FAILS(0, "e0", EFBIG), FAILS(0, "e1", EFBIG) },
		  .r = -EFBIG },
		{ .what = "shut down", .steps = { FAILS(0, "e0", ESHUTDOWN) }, .r = -ESHUTDOWN },
		{ .what = "distrust at open",
		  .opening = true,
		  .steps = { FAILS(0, "e0", ENOTUNIQ) },
		  .r = -EACCES,
		  .text = "name its CA's file with cainfo=FILE" },
		{ .what = "distrust later", .steps = { FAILS(0, "e0", ENOTUNIQ), GOOD(50, "e0") } },
		{ .what = "the deadline",
		  .deadline = 120,
		  .steps = { FAILS(0, "e0", ECONNRESET), FAILS(50, "e0", ECONNREFUSED) },
		  .r = -ETIMEDOUT,
		  .text = "e0.test: Connection refused, after 2 tries" },
		{ .what = "the deadline, after one try",
		  .deadline = 20,
		  .steps = { FAILS(0, "e0", ECONNRESET) },
		  .r = -ETIMEDOUT,
		  .text = "after 1 try" },
		{ .what = "the deadline is where the rest would end",
		  .deadline = 50,
		  .steps = { FAILS(0, "e0", ECONNRESET) },
		  .r = -ETIMEDOUT,
		  .text = "after 1 try" },
		{ .what = "and just behind that",
		  .deadline = 51,
		  .steps = { FAILS(0, "e0", ECONNRESET), FAILS(50, "e0", ECONNRESET) },
		  .r = -ETIMEDOUT,
		  .text = "after 2 tries" },
		{ .what = "opening ends",
		  .opening = true,
		  .steps = { FAILS(0, "e0", ECONNRESET), FAILS(50, "e0", ECONNRESET),
			     FAILS(100, "e0", ECONNRESET), FAILS(200, "e0", ECONNRESET),
			     FAILS(400, "e0", ECONNRESET), FAILS(800, "e0", ECONNRESET),
			     FAILS(1600, "e0", ECONNRESET), FAILS(2500, "e0", ECONNRESET),
			     FAILS(2500, "e0", ECONNRESET) },
		  .r = -ETIMEDOUT,
		  .text = "Connection reset" },
	};

	RUN(rows);
}

/* Which failures make a place one that is left alone: all, where there is another. */
static void test_left_alone_for(void **state)
{
	static const struct {
		int r;
		const char *head;
		bool alone;
	} rows[] = {
		{ -ECONNREFUSED, "", true }, { -EHOSTUNREACH, "", true },
		{ -ENOTUNIQ, "", true },     { -ETIMEDOUT, "", true },
		{ -ETIMEDOUT, PART, false }, { -ECONNRESET, "", false },
		{ -EPROTO, "", false },	     { -EBADMSG, "", false },
		{ -EIO, PART, false },
	};
	struct test t;
	unsigned places;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (places = 1; places <= 2; places++) {
			begin(&t, places, false);
			request_submit(&t.q);
			stage_answer(stage_next(), rows[i].head, 0, rows[i].r);
			if ((t.list.items[0].bad_until > 0) != (rows[i].alone || places == 2))
				fail_msg("row %zu, %u places", i, places);
			queue_shut(t.queue);
			end(&t);
		}
	}
}

/* ---- what the caller says ---- */

/* What an exchange gave is not right, although it ended well; or cannot be gone on from. */
static void test_verdicts(void **state)
{
	static const struct {
		int end, verdict, r; /* r 0: it goes on with the next place */
		const char *text;
	} rows[] = {
		{ 0, -EPROTO, 0, "e0.test: not what it should be" },
		{ -ECONNRESET, -EPROTO, 0, "e0.test: Connection reset by peer" },
		{ 0, -ENOBUFS, -ENOBUFS, "not what it should be" },
		{ -ECONNRESET, -ENOBUFS, -ENOBUFS, "not what it should be" },
	};
	struct test t;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin(&t, 2, false);
		t.verdict = rows[i].verdict;
		request_submit(&t.q);
		stage_answer(stage_next(), PART, 100, rows[i].end);
		assert_int_equal(t.judged, 1);
		assert_int_equal(t.taken_back, rows[i].end < 0);
		assert_int_equal(t.done, rows[i].r < 0);
		assert_string_equal(t.done ? t.text : t.q.why.msg, rows[i].text);
		assert_int_equal(t.r, rows[i].r);
		queue_shut(t.queue);
		end(&t);
	}
}

static int check(struct request *q, struct err *e)
{
	struct test *t = test_of(q);

	return t->check_result < 0 ? err_set(e, -t->check_result, "it is wrong") : 0;
}

static enum request_go on_starting(struct request *q)
{
	struct test *t = test_of(q);

	return t->starts++ == 0 ? t->go : REQUEST_GO;
}

static void test_callbacks(void **state)
{
	static const struct row good = { .what = "good", .steps = { GOOD(0, "e0") } };
	static const struct row later = { .what = "later", .steps = { GOOD(50, "e0") } };
	static const struct row part = {
		.what = "enough",
		.steps = { { .at = "e0", .head = "200|Content-Length: 100", .body = 10 } }
	};
	static const struct row part_of_range = {
		.what = "enough of a range", .steps = { { .at = "e0", .head = PART, .body = 10 } }
	};
	static const struct row other = { .what = "it is wrong",
					  .steps = { { .at = "e0", .head = "200", .body = 10 },
						     { .at = "e1", .head = "200", .body = 10 } },
					  .r = -EBADMSG,
					  .text = "e1.test: it is wrong" };
	struct test t;

	begin(&t, 2, false);
	t.go = REQUEST_LATER;
	t.q.starting = on_starting;
	request_submit(&t.q);
	play(&t, &later);
	assert_int_equal(t.starts, 2);
	assert_int_equal(t.got, TOTAL);
	assert_int_equal(t.judged, 1);
	assert_int_equal(t.taken_back, 0);

	request_release(&t.q);
	make_request(&t);
	t.go = REQUEST_DONE;
	t.q.starting = on_starting;
	request_submit(&t.q);
	(void)stage_run();
	assert_true(t.done);
	assert_int_equal(t.r, 0);

	t.bytes_result = 1;
	play_next(&t, &part);
	assert_int_equal(t.q.first, 10);
	assert_int_equal(t.judged, 1);
	assert_int_equal(t.taken_back, 0);
	play_next(&t, &part_of_range); /* and the rest is not asked for */
	assert_int_equal(t.q.first, 10);
	assert_int_equal(t.judged, 1);
	assert_int_equal(t.taken_back, 0);
	t.bytes_result = 0;
	play_next(&t, &good);

	request_release(&t.q);
	make_request(&t);
	t.check_result = -EBADMSG;
	t.q.ranged = false;
	t.q.check = check;
	request_submit(&t.q);
	play(&t, &other);
	/* It is about a document, not about what else may be good. */
	request_release(&t.q);
	make_request(&t);
	t.q.ranged = false;
	t.q.check = check;
	request_submit(&t.q);
	stage_answer(stage_next(), "201", 0, 0);
	assert_true(t.done);
	assert_int_equal(t.r, 0);
	end(&t);
}

/* The exchange is ended at the byte with which there is enough, or that is not wanted. */
static void test_bytes_end_it(void **state)
{
	static const struct {
		int result, r;
		const char *text;
	} rows[] = { { 1, 0, "" }, { -ENOBUFS, -ENOBUFS, "will not have it" } };
	struct http_exchange *x;
	struct test t;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		begin(&t, 1, false);
		request_submit(&t.q);
		x = stage_next();
		assert_true(stage_head(x, PART));
		assert_true(stage_bytes(x, 0, 10));
		t.bytes_result = rows[i].result;
		assert_false(stage_bytes(x, 10, 10));
		stage_run();
		assert_true(t.done);
		assert_int_equal(t.r, rows[i].r);
		assert_string_equal(t.text, rows[i].text);
		assert_int_equal(t.judged, 1);
		assert_int_equal(t.taken_back, rows[i].r < 0);
		assert_int_equal(stage.count, 0);
		end(&t);
	}
}

static enum request_go promotes(struct request *q)
{
	test_of(q)->starts++;
	request_promote(q);
	return REQUEST_GO;
}

/* One that starts waits no longer: who promotes it then does not put it in line once more. */
static void test_promoted_while_it_starts(void **state)
{
	static const struct row good = { .what = "good", .steps = { GOOD(0, "e0") } };
	struct test t;

	begin(&t, 1, false);
	t.q.priority = REQUEST_PREFETCH;
	t.q.starting = promotes;
	request_submit(&t.q);
	play(&t, &good);
	assert_int_equal(t.starts, 1);
	assert_int_equal(t.q.priority, REQUEST_DEMAND);
	end(&t);
}

/* What an exchange is told. */
static void test_exchange(void **state)
{
	struct http_exchange *x;
	struct test t;

	begin(&t, 2, false);
	t.q.silence = 3;
	t.q.companions = 2;
	t.q.accept = "a/b";
	request_submit(&t.q);
	x = stage_next();
	assert_string_equal(x->method, "GET");
	assert_string_equal(x->accept, "a/b");
	assert_true(x->ranged);
	assert_int_equal(x->last, TOTAL - 1);
	assert_int_equal(x->silence, 3);
	assert_int_equal(x->companions, 2);
	assert_int_equal(x->least, 16 * 1024); /* there is another place */
	assert_ptr_equal(x->route, &t.list.items[0].route);
	stage_answer(x, "404", 0, 0);
	x = stage_next();
	assert_int_equal(x->least, 1024); /* there is none any more */
	stage_answer(x, "307|Location: https://t.test/x", 0, 0);
	x = stage_next();
	assert_ptr_equal(x->route, &t.list.items[1].away);
	assert_string_equal(x->referer, "https://e1.test/v2/img/blobs/x");
	stage_answer(x, PART, 100, 0);
	assert_int_equal(t.r, 0);

	request_release(&t.q);
	make_request(&t);
	t.q.method = "HEAD";
	t.q.ranged = false;
	request_submit(&t.q);
	x = stage_next();
	assert_string_equal(x->method, "HEAD");
	assert_int_equal(x->least, 0);
	assert_null(x->referer);
	stage_answer(x, "200|Content-Length: 5", 0, 0);
	assert_int_equal(t.r, 0);
	assert_int_equal(t.q.x.answer.length, 5);
	end(&t);
}

/* One is ended by its deadline while its exchange runs; what it gave is taken back. */
static void test_deadline_in_between(void **state)
{
	struct http_exchange *x;
	struct test t;

	begin(&t, 1, false);
	atomic_store(&t.q.deadline, clock_ms() + 1000);
	request_submit(&t.q);
	x = stage_next();
	assert_true(stage_head(x, PART));
	assert_true(stage_bytes(x, 0, 10));
	stage_pass(999);
	assert_false(t.done);
	stage_pass(1);
	assert_true(t.done);
	assert_int_equal(t.r, -ETIMEDOUT);
	assert_non_null(strstr(t.text, "e0.test: timed out waiting for an answer"));
	assert_int_equal(t.taken_back, 1);
	assert_int_equal(stage.count, 0);

	/* It is moved while it runs. */
	request_release(&t.q);
	make_request(&t);
	atomic_store(&t.q.deadline, clock_ms() + 1000);
	request_submit(&t.q);
	x = stage_next();
	atomic_store(&t.q.deadline, clock_ms() + 3000);
	stage_pass(2999);
	assert_false(t.done);
	stage_answer(x, PART, 100, 0);
	assert_int_equal(t.r, 0);
	end(&t);
}

/* Closing the queue ends all, in whatever state. */
static void test_abort(void **state)
{
	struct test t, rests;

	begin(&t, 1, false);
	request_submit(&t.q);
	assert_true(stage_bytes(stage_next(), 0, 0));
	memset(&rests, 0, sizeof rests);
	rests.queue = t.queue;
	make_request(&rests);
	request_submit(&rests.q);
	stage_answer(stage_next(), "500", 0, 0);
	assert_int_equal(rests.q.state, REQUEST_RESTING);
	queue_shut(t.queue);
	assert_int_equal(t.r, -ESHUTDOWN);
	assert_int_equal(rests.r, -ESHUTDOWN);
	assert_non_null(strstr(t.text, "shutting down"));
	assert_int_equal(stage.count, 0);

	request_release(&rests.q);
	make_request(&rests);
	request_submit(&rests.q);
	(void)stage_run();
	assert_int_equal(rests.r, -ESHUTDOWN);
	request_release(&rests.q);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_each_status),
		cmocka_unit_test(test_long_page),
		cmocka_unit_test(test_rests),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_callbacks),
		cmocka_unit_test(test_left_alone_for),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_bytes_end_it),
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_deadline_in_between),
		cmocka_unit_test(test_abort),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_promoted_while_it_starts),
	};

	setenv("HOME", "/nonexistent", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
