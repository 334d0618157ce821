/* SPDX-License-Identifier: Apache-2.0 */
/* Who has the next turn, how much is in flight at low priority, what is known of the link. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/queue.h"
#include "tests/unit/alloc.h"
#include "tests/unit/stage.h"

enum { KIB = 1024, BLOB = 64 * 1024 * KIB, REQUESTS = 12 };

struct asked {
	struct request q; /* first member */
	char path[16];
	bool done;
	int r;
};

struct fed {
	struct feeder feeder; /* first member */
	struct asked *next, *end;
	uint64_t room; /* that it was last offered */
	unsigned calls;
	bool ended;
};

static struct endpoint_list list;
static struct queue *queue;
static struct asked asked[REQUESTS];

static void close_queue(void)
{
	size_t i;

	queue_close(queue);
	for (i = 0; i < REQUESTS; i++)
		request_release(&asked[i].q);
	endpoint_list_close(&list);
	stage_close();
}

static int take_bytes(struct request *q, uint64_t off, const void *buf, size_t n, struct err *e)
{
	q->first = off + n;
	return 0;
}

static void on_done(struct request *q, int r, const struct err *e)
{
	struct asked *a = (struct asked *)q;

	a->done = true;
	a->r = r;
}

/* Request i wants `kib` KiB; 0: no range. */
static struct request *make(unsigned i, enum request_priority priority, uint64_t kib)
{
	struct asked *a = &asked[i];

	snprintf(a->path, sizeof a->path, "/blobs/%c", (char)('a' + i));
	a->q = (struct request){
		.queue = queue,
		.priority = priority,
		.method = "GET",
		.path = a->path,
		.ranged = kib > 0,
		.last = kib * KIB - 1,
		.total = BLOB,
		.retry_until = CLOCK_NEVER,
		.rather = ENDPOINTS_MAX,
		.bytes = take_bytes,
		.done = on_done,
	};
	atomic_init(&a->q.deadline, CLOCK_NEVER);
	return &a->q;
}

/* The letters of those that are under way, in the order of their beginning. */
static const char *running(void)
{
	static char letters[STAGE_MAX + 1];
	unsigned i;

	stage_run();
	for (i = 0; i < stage.count; i++)
		letters[i] = stage.running[i]->url[strlen(stage.running[i]->url) - 1];
	letters[i] = '\0';
	return letters;
}

static struct http_exchange *exchange_of(char letter)
{
	unsigned i;

	for (i = 0; i < stage.count; i++)
		if (stage.running[i]->url[strlen(stage.running[i]->url) - 1] == letter)
			return stage.running[i];
	fail_msg("%c is not asked for", letter);
	return NULL;
}

static void head_of(char letter)
{
	struct http_exchange *x = exchange_of(letter);
	char lines[100];

	snprintf(lines, sizeof lines, "206|Content-Range: bytes %d-%d/%d", (int)x->first,
		 (int)x->last, BLOB);
	assert_true(stage_head(x, lines));
}

static void finish(char letter)
{
	struct http_exchange *x = exchange_of(letter);
	uint64_t n = x->last + 1;

	if (!x->ranged) {
		stage_answer(x, "200", 0, 0);
		return;
	}
	head_of(letter);
	assert_true(stage_bytes(x, 0, (size_t)n));
	stage_end(x, 0);
	stage_run();
}

static void open_queue(unsigned connections)
{
	struct fetch_settings settings = { 0 };
	struct reference ref;

	stage_open();
	assert_int_equal(reference_parse("e0.test/img", &ref, NULL), 0);
	assert_int_equal(endpoint_list_open(stage.http, &ref, &settings, false, &list, NULL), 0);
	reference_release(&ref);
	assert_int_equal(queue_open(stage.http, &list, connections, &queue, NULL), 0);
	memset(asked, 0, sizeof asked);
	/* The first one finds out that no login is wanted; others would wait for it. */
	request_submit(make(REQUESTS - 1, REQUEST_DEMAND, 0));
	stage_run();
	finish((char)('a' + REQUESTS - 1));
}

/* ---- turns ---- */

static void test_connections(void **state)
{
	unsigned i;

	open_queue(3);
	for (i = 0; i < 6; i++)
		request_submit(make(i, REQUEST_DEMAND, 16));
	assert_string_equal(running(), "abc");
	finish('b');
	assert_string_equal(running(), "acd");
	finish('a');
	finish('c');
	assert_string_equal(running(), "def");
	finish('e');
	assert_string_equal(running(), "df");
	assert_true(asked[4].done);
	close_queue();
	assert_int_equal(asked[3].r, -ESHUTDOWN);
}

static void test_priorities(void **state)
{
	open_queue(1);
	request_submit(make(0, REQUEST_BACKGROUND, 16));
	assert_string_equal(running(), "a");
	request_submit(make(1, REQUEST_BACKGROUND, 16));
	request_submit(make(2, REQUEST_PREFETCH, 16));
	request_submit(make(3, REQUEST_DEMAND, 16));
	request_submit(make(4, REQUEST_PREFETCH, 16));
	request_submit(make(5, REQUEST_DEMAND, 16));
	assert_string_equal(running(), "a");
	finish('a');
	assert_string_equal(running(), "d");
	request_promote(&asked[4].q); /* somebody waits for it now */
	finish('d');
	finish('f');
	assert_string_equal(running(), "e");
	request_promote(&asked[4].q); /* it runs: nothing to do */
	finish('e');
	assert_string_equal(running(), "c");
	finish('c');
	assert_string_equal(running(), "b");
	close_queue();
}

/* One that comes back from a rest goes before those that wait. */
static void test_back_first(void **state)
{
	open_queue(1);
	request_submit(make(0, REQUEST_DEMAND, 16));
	request_submit(make(1, REQUEST_DEMAND, 16));
	request_submit(make(2, REQUEST_DEMAND, 16));
	stage_run();
	stage_answer(exchange_of('a'), "500", 0, 0);
	assert_string_equal(running(), "b"); /* a resting one holds no slot */
	stage_pass(50);
	finish('b');
	assert_string_equal(running(), "a");
	close_queue();
}

/* Waiting ones end at their deadline, wherever they stand in the line. */
static void test_leaving(void **state)
{
	unsigned i;

	open_queue(1);
	for (i = 0; i < 5; i++)
		request_submit(make(i, REQUEST_DEMAND, 16));
	atomic_store(&asked[2].q.deadline, clock_ms() + 10);
	atomic_store(&asked[4].q.deadline, clock_ms() + 20);
	stage_pass(15);
	assert_int_equal(asked[2].r, -ETIMEDOUT);
	assert_false(asked[4].done);
	stage_pass(5);
	assert_int_equal(asked[4].r, -ETIMEDOUT);
	request_submit(make(5, REQUEST_DEMAND, 16)); /* behind what is the last now */
	stage_run();
	finish('a');
	finish('b');
	finish('d');
	assert_string_equal(running(), "f");
	close_queue();
}

/* ---- low priority ---- */

/* At most 512 KiB; another starts when three quarters of that are free. */
static void test_low_bytes(void **state)
{
	open_queue(8);
	request_submit(make(0, REQUEST_PREFETCH, 129));
	request_submit(make(1, REQUEST_PREFETCH, 100));
	request_submit(make(2, REQUEST_BACKGROUND, 100));
	request_submit(make(3, REQUEST_DEMAND, 4000)); /* does not count */
	assert_string_equal(running(), "ad");
	head_of('a');
	assert_true(stage_bytes(exchange_of('a'), 0, 1 * KIB - 1));
	assert_string_equal(running(), "ad");
	assert_true(stage_bytes(exchange_of('a'), 1 * KIB - 1, 1));
	assert_string_equal(running(), "adb"); /* 128 of 512 KiB: there is room */
	finish('b');
	assert_string_equal(running(), "adc");
	close_queue();
}

static struct request *next_fed(struct feeder *feeder, uint64_t room)
{
	struct fed *f = (struct fed *)feeder;

	f->room = room;
	f->calls++;
	if (f->next == f->end || queue_is_closing(queue)) {
		f->ended = true;
		return NULL;
	}
	return make((unsigned)(f->next++ - asked), f->feeder.priority, 100);
}

static void test_feeders(void **state)
{
	struct fed first = { .feeder = { .priority = REQUEST_PREFETCH, .next_request = next_fed },
			     .next = asked,
			     .end = asked + 3 };
	struct fed second = { .feeder = { .priority = REQUEST_PREFETCH, .next_request = next_fed },
			      .next = asked + 3,
			      .end = asked + 6 };
	struct fed third = { .feeder = { .priority = REQUEST_BACKGROUND, .next_request = next_fed },
			     .next = asked + 6,
			     .end = asked + 7 };

	open_queue(8);
	queue_feed(queue, &first.feeder);
	queue_feed(queue, &second.feeder);
	queue_feed(queue, &third.feeder);
	assert_int_equal(first.calls, 0); /* the engine asks, not the caller */
	assert_string_equal(running(), "ab"); /* 200 of 512 KiB */
	assert_int_equal(first.room, 412 * KIB);
	assert_int_equal(second.calls, 0);
	finish('a');
	assert_string_equal(running(), "bc");
	finish('b');
	assert_true(first.ended);
	assert_string_equal(running(), "cd");
	finish('c');
	finish('d');
	finish('e');
	assert_true(second.ended);
	assert_string_equal(running(), "fg"); /* what is of lower priority comes last */
	request_submit(make(7, REQUEST_PREFETCH, 16)); /* one that waits goes before feeders */
	finish('f');
	finish('g');
	assert_true(third.ended);
	assert_string_equal(running(), "h");
	close_queue();
}

/* Closing asks each feeder once more, which then says that there is no more. */
static void test_closing(void **state)
{
	struct fed fed = { .feeder = { .priority = REQUEST_BACKGROUND, .next_request = next_fed },
			   .next = asked + 1,
			   .end = asked + 2 };
	struct fed other = { .feeder = { .priority = REQUEST_PREFETCH, .next_request = next_fed },
			     .next = asked + 2,
			     .end = asked + 3 };

	open_queue(1);
	request_submit(make(0, REQUEST_DEMAND, 16));
	stage_run();
	queue_feed(queue, &other.feeder);
	stage_run(); /* taken over, and not asked yet */
	assert_int_equal(other.calls, 0);
	queue_feed(queue, &fed.feeder); /* not taken over yet */
	assert_false(queue_is_closing(queue));
	queue_shut(queue);
	assert_true(queue_is_closing(queue));
	assert_true(fed.ended);
	assert_true(other.ended);
	assert_int_equal(asked[0].r, -ESHUTDOWN);
	assert_int_equal(stage.count, 0);
	/* A thread that comes after that is told at once, and does not wait for the second time. */
	request_submit(make(1, REQUEST_DEMAND, 16));
	stage_run();
	assert_true(asked[1].done);
	assert_int_equal(asked[1].r, -ESHUTDOWN);
	close_queue();
	queue_close(NULL);
}

/* ---- the link ---- */

static void test_round_trip(void **state)
{
	open_queue(1);
	assert_int_equal(queue_round_trip(queue), 0);
	queue_note_round_trip(queue, 0); /* unknown */
	assert_int_equal(queue_round_trip(queue), 0);
	queue_note_round_trip(queue, 8001);
	assert_int_equal(queue_round_trip(queue), 9); /* ms, upwards */
	queue_note_round_trip(queue, 4000); /* the least counts */
	assert_int_equal(queue_round_trip(queue), 4);
	queue_note_round_trip(queue, 4000 + 16 * 1000); /* and ages by a sixteenth */
	assert_int_equal(queue_round_trip(queue), 5);
	queue_note_round_trip(queue, 0);
	assert_int_equal(queue_round_trip(queue), 5);
	queue_note_round_trip(queue, 1);
	assert_int_equal(queue_round_trip(queue), 1);
	queue_note_round_trip(queue, 1 + 16 * 1000 - 16);
	assert_int_equal(queue_round_trip(queue), 1);
	queue_note_round_trip(queue, 1000 + 16);
	assert_int_equal(queue_round_trip(queue), 2);
	close_queue();
	open_queue(1);
	queue_note_round_trip(queue, 1);
	assert_int_equal(queue_round_trip(queue), 1);
	close_queue();
}

static uint64_t bandwidth(void)
{
	struct link_facts link;

	queue_link(queue, &link);
	return link.bandwidth;
}

static void test_bandwidth(void **state)
{
	struct link_facts link;

	open_queue(1);
	assert_int_equal(bandwidth(), 0);
	request_submit(make(0, REQUEST_DEMAND, 1000));
	stage_run(); /* from here on it is measured */
	stage_pass(9);
	queue_note_bytes(queue, 200 * KIB); /* too short a time */
	assert_int_equal(bandwidth(), 0);
	stage_pass(1);
	queue_note_bytes(queue, 0);
	assert_int_equal(bandwidth(), 200 * KIB * 100);
	stage_pass(20);
	queue_note_bytes(queue, 128 * KIB - 1); /* too few bytes */
	assert_int_equal(bandwidth(), 200 * KIB * 100);
	queue_note_bytes(queue, 1); /* a slower link: 128 KiB in 20 ms */
	assert_int_equal(bandwidth(), (7 * 200 * KIB * 100 + 128 * KIB * 50) / 8);
	stage_pass(10);
	queue_note_bytes(queue, 400 * KIB); /* a faster one counts at once */
	assert_int_equal(bandwidth(), 400 * KIB * 100);

	/* A gap of what comes in 5 ms, the work of a request... */
	queue_link(queue, &link);
	assert_int_equal(link.cheap_gap, 400 * KIB * 100 / 1000 * 5);
	/* ...or, where a round trip holds more than 256 KiB, a quarter of that. */
	queue_note_round_trip(queue, 100 * 1000);
	queue_link(queue, &link);
	assert_int_equal(link.cheap_gap, 400 * KIB * 100 / 1000 * 100 / 4);
	close_queue();
}

/* On a link that holds much, more is in flight at low priority: twice what it holds. */
static void test_long_link(void **state)
{
	open_queue(8);
	request_submit(make(0, REQUEST_DEMAND, 1000));
	stage_run();
	stage_pass(10);
	queue_note_bytes(queue, 100 * KIB);
	queue_note_bytes(queue, 100 * KIB); /* 20 MB/s */
	queue_note_round_trip(queue, 100 * 1000); /* holds 2 MB, so 4 MB are in flight */
	request_submit(make(1, REQUEST_PREFETCH, 1901));
	request_submit(make(2, REQUEST_PREFETCH, 100));
	request_submit(make(3, REQUEST_PREFETCH, 100));
	assert_string_equal(running(), "abc"); /* c: no more than half of it was asked for */
	close_queue();
}

/* What goes on in time with others begins nothing anew; what begins after a pause does. */
static void test_measuring_begins(void **state)
{
	open_queue(2);
	request_submit(make(0, REQUEST_DEMAND, 1000));
	stage_run();
	stage_pass(9);
	request_submit(make(1, REQUEST_DEMAND, 16));
	stage_run();
	stage_pass(1);
	queue_note_bytes(queue, 200 * KIB);
	assert_int_equal(bandwidth(), 200 * KIB * 100);
	request_abort(&asked[0].q);
	request_abort(&asked[1].q);
	stage_pass(1000);
	request_submit(make(2, REQUEST_DEMAND, 16));
	stage_run();
	stage_pass(10);
	queue_note_bytes(queue, 400 * KIB);
	assert_int_equal(bandwidth(), 400 * KIB * 100);
	close_queue();
}

/* ---- limits ---- */

/* Has the link measured: so many bytes a second, and us. */
static void measure(uint64_t bytes, uint64_t us)
{
	if (bytes > 0) {
		stage_pass(10 * 1000);
		queue_note_bytes(queue, 1024 * KIB);
		stage_pass(100);
		queue_note_bytes(queue, (size_t)bytes / 10);
		assert_int_equal(bandwidth(), bytes / 10 * 10);
	}
	queue_note_round_trip(queue, us);
}

/* A feeder's first request wants so many bytes. */
struct sized {
	struct feeder feeder; /* first member */
	uint64_t bytes, room;
	unsigned calls;
};

static struct request *next_sized(struct feeder *feeder, uint64_t room)
{
	struct sized *f = (struct sized *)feeder;
	struct request *q;

	if (f->calls++ > 0)
		return NULL;
	f->room = room;
	q = make(0, REQUEST_BACKGROUND, 1);
	q->last = f->bytes - 1;
	return q;
}

/* How much is offered, and from which part of it on no more is asked for; what gap is cheap. */
static void test_limits(void **state)
{
	static const struct {
		uint64_t bandwidth, us, limit, room, gap;
	} rows[] = {
		{ 0, 0, 512 * KIB, 128 * KIB, 0 },
		{ 0, 50000, 512 * KIB, 128 * KIB, 0 },
		/* twice what the link holds, and half of it */
		{ 20000000, 100000, 4000000, 2000000, 500000 },
		{ 20001990, 33333, 1333386, 666693, 166673 },
		/* what comes in 8 ms */
		{ 100000000, 1000, 800000, 200000, 500000 },
		{ 100000000, 2001, 800000, 300150, 500000 },
		{ 100000000, 3000, 800000, 400000, 500000 },
		{ 10000000, 1000, 512 * KIB, 128 * KIB, 50000 },
		/* from 256 KiB that the link holds on a quarter of that is cheap, else 5 ms */
		{ 2048000, 128000, 512 * KIB, 256 * KIB, 10240 },
		{ 2048000, 128001, 524292, 262146, 65536 },
		{ 2049990, 64000, 512 * KIB, 196704, 10245 },
	};
	size_t i;
	int more;

	for (i = 0; i < 2 * sizeof rows / sizeof *rows; i++) {
		struct sized f = { .feeder = { .priority = REQUEST_BACKGROUND,
					       .next_request = next_sized } };
		struct link_facts link;

		more = i % 2;
		open_queue(8);
		measure(rows[i / 2].bandwidth, rows[i / 2].us);
		queue_link(queue, &link);
		f.bytes = rows[i / 2].room + (uint64_t)more;
		queue_feed(queue, &f.feeder);
		stage_run();
		if (f.room != rows[i / 2].limit || link.cheap_gap != rows[i / 2].gap)
			fail_msg("row %zu: %d, a gap of %d", i / 2, (int)f.room,
				 (int)link.cheap_gap);
		if (f.calls != (more ? 1 : 2))
			fail_msg("row %zu: there is %s room", i / 2, more ? "more" : "less");
		close_queue();
	}
}

/* Bytes make the engine look for more to ask for only where there may be some. */
static void test_looks_for_more(void **state)
{
	unsigned before;

	open_queue(8);
	request_submit(make(0, REQUEST_DEMAND, 16));
	request_submit(make(1, REQUEST_PREFETCH, 400));
	assert_string_equal(running(), "ab");
	head_of('a');
	head_of('b');
	before = stage.wakeups;
	assert_true(stage_bytes(exchange_of('a'), 0, KIB));
	assert_true(stage_bytes(exchange_of('b'), 0, 271 * KIB));
	assert_int_equal(stage.wakeups, before); /* 129 KiB are under way still */
	assert_true(stage_bytes(exchange_of('b'), 271 * KIB, KIB));
	assert_int_equal(stage.wakeups, before + 1);
	stage_run();
	assert_true(stage_bytes(exchange_of('a'), KIB, KIB));
	assert_int_equal(stage.wakeups, before + 1);
	http_interrupt(stage.http);
	before = stage.wakeups;
	assert_true(stage_bytes(exchange_of('b'), 272 * KIB, KIB));
	assert_int_equal(stage.wakeups, before);
	close_queue();
}

/* ---- the end ---- */

static const void *made_cond;
static unsigned waits, wakes;

void __real_clock_init_cond(pthread_cond_t *c);
void __wrap_clock_init_cond(pthread_cond_t *c);

void __wrap_clock_init_cond(pthread_cond_t *c)
{
	made_cond = c;
	__real_clock_init_cond(c);
}

static uint64_t now_by_hand(void)
{
	return stage.now_us;
}

static void end_lookup(void)
{
	free(list.items[0].looked_up);
	list.items[0].looked_up = NULL;
}

/* The lookup ends before the engine looks the second time. */
static void wait_for_lookup(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until)
{
	assert_ptr_equal(c, made_cond);
	assert_true(until == CLOCK_NEVER);
	assert_int_equal(pthread_mutex_unlock(lock), 0);
	assert_int_equal(waits++, 0);
	stage_pass(19);
	assert_int_equal(wakes, 0);
	assert_int_equal(stage.count, 0);
	end_lookup();
	stage_pass(1);
	assert_int_equal(wakes, 1);
	pthread_mutex_lock(lock);
}

static void sleep_by_hand(uint64_t ms)
{
	assert_int_equal(ms, 20);
	stage.now_us += ms * 1000;
	if (++waits == 3)
		end_lookup();
}

static void count_wake(pthread_cond_t *c)
{
	assert_ptr_equal(c, made_cond);
	wakes++;
}

/* A thread that runs still for one of its endpoints is waited for. */
static void check_busy(bool stopping)
{
	static const struct clock_ops by_hand = { .now_us = now_by_hand,
						  .sleep_ms = sleep_by_hand,
						  .wait = wait_for_lookup,
						  .wake = count_wake };

	open_queue(1);
	request_submit(make(0, REQUEST_DEMAND, 16));
	stage_run();
	list.items[0].looked_up = strdup("e0.test");
	clock_use(&by_hand);
	waits = wakes = 0;
	if (stopping)
		http_interrupt(stage.http);
	queue_shut(queue);
	assert_int_equal(waits, stopping ? 3 : 1);
	assert_int_equal(wakes, 1);
	assert_int_equal(asked[0].r, -ESHUTDOWN);
	close_queue();
}

static void test_closing_is_busy(void **state)
{
	check_busy(false);
	check_busy(true);
}

static void test_no_memory(void **state)
{
	struct queue *k;
	struct err e;

	alloc_left = 0;
	assert_int_equal(queue_open(NULL, NULL, 1, &k, &e), -ENOMEM);
	alloc_left = -1;
	assert_string_equal(e.msg, "out of memory");
}

static void test_replays(void **state)
{
	open_queue(1);
	assert_false(queue_is_replaying(queue));
	queue_note_replays(queue, 1);
	queue_note_replays(queue, 1);
	queue_note_replays(queue, -1);
	assert_true(queue_is_replaying(queue));
	queue_note_replays(queue, -1);
	assert_false(queue_is_replaying(queue));
	assert_int_equal(queue_endpoints(queue)->count, 1);
	assert_ptr_equal(queue_http(queue), stage.http);
	assert_ptr_equal(queue_endpoints(queue), &list);
	close_queue();
}

/* ---- places ---- */

/* The registry comes last, in both schemes where both are tried, and is no mirror. */
static void test_mirrors(void **state)
{
	static const struct {
		size_t mirrors;
		bool insecure;
		unsigned places;
		uint32_t of_these;
	} rows[] = { { 0, false, 1, 0 },
		     { 1, false, 2, 1 },
		     { 3, false, 4, 7 },
		     { 0, true, 2, 0 },
		     { 2, true, 4, 3 } };
	static char first[] = "https://m0.test", second[] = "https://m1.test",
		    third[] = "https://m2.test";
	char *mirrors[] = { first, second, third };
	struct reference ref;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct fetch_settings settings = { .mirrors = mirrors,
						   .mirror_count = rows[i].mirrors,
						   .insecure = rows[i].insecure };

		stage_open();
		assert_int_equal(reference_parse("e0.test/img", &ref, NULL), 0);
		assert_int_equal(
			endpoint_list_open(stage.http, &ref, &settings, false, &list, NULL), 0);
		reference_release(&ref);
		assert_int_equal(queue_open(stage.http, &list, 1, &queue, NULL), 0);
		assert_int_equal(queue_endpoints(queue)->count, rows[i].places);
		assert_int_equal(queue_mirrors(queue), rows[i].of_these);
		queue_close(queue);
		endpoint_list_close(&list);
		stage_close();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_connections),	 cmocka_unit_test(test_priorities),
		cmocka_unit_test(test_back_first),	 cmocka_unit_test(test_leaving),
		cmocka_unit_test(test_low_bytes),	 cmocka_unit_test(test_feeders),
		cmocka_unit_test(test_closing),		 cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_bandwidth),	 cmocka_unit_test(test_long_link),
		cmocka_unit_test(test_replays),		 cmocka_unit_test(test_mirrors),
		cmocka_unit_test(test_measuring_begins), cmocka_unit_test(test_limits),
		cmocka_unit_test(test_looks_for_more),	 cmocka_unit_test(test_closing_is_busy),
		cmocka_unit_test(test_no_memory),
	};

	setenv("HOME", "/nonexistent", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
