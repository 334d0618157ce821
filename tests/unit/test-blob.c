/* SPDX-License-Identifier: Apache-2.0 */
/* Reads of a blob: what they wait for, for how long, and whom they blame. */
#include "fetch/counters.h"
#include "tests/unit/bloblib.h"

/* ---- what happens while a read waits ---- */

static void time_passes(unsigned times, uint64_t until)
{
	assert_true(until != CLOCK_NEVER);
	stage_pass(until - clock_ms());
}

static void first_fails(unsigned times, uint64_t until)
{
	if (times == 0)
		stage_answer(stage_next(), "404", 0, 0);
	else
		answer_all();
}

static size_t noted; /* bytes in 10 ms */
static char asked_for[64];

static void comes_in_10_ms(unsigned times, uint64_t until)
{
	snprintf(asked_for, sizeof asked_for, "%s", asked());
	stage_pass(10);
	queue_note_bytes(queue, noted);
	answer_all();
}

/* ---- reads ---- */

static void test_reads(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK + 5 });
	put(3);
	check_read(3 * CHUNK + 1, 100);
	assert_int_equal(count_of(STATS_CACHE_HITS), 1);
	assert_int_equal(count_of(STATS_CACHE_MISSES), 0);
	on_wait = all_comes;
	check_read(3 * CHUNK + 9, 2 * CHUNK); /* some of it is missing */
	assert_int_equal(count_of(STATS_CACHE_HITS), 1);
	assert_int_equal(count_of(STATS_CACHE_MISSES), 1);
	assert_int_equal(count_of(STATS_READS), 2);
	assert_int_equal(count_of(STATS_READ_BYTES), 2 * CHUNK + 100);
	assert_string_equal(shelved(), "3-5");
	check_read(40 * CHUNK, 5);
	assert_int_equal(blob_present(blob, 3 * CHUNK + 1, 3 * CHUNK), 3 * CHUNK - 1);
	assert_int_equal(blob_present(blob, 40 * CHUNK + 2, 3), 3);
	assert_int_equal(blob_present(blob, 7 * CHUNK, 9), 0);
	close_scene();
}

/* A miss among others fetches what comes in 40 ms, from 24 chunks to 48; not while a replay knows
 * better. */
static void test_around(void **state)
{
	static const struct {
		size_t noted;
		int replays;
		const char *asked;
	} rows[] = {
		{ 0, 0, "500-523" },	      { 100 * 1024, 0, "500-523" },
		{ 132000, 0, "500-531" },     { 200 * 1024, 0, "500-547" },
		{ 200 * 1024, 1, "500-500" },
	};
	size_t i, j;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		open_scene(&(struct scene){ .size = 1000 * CHUNK });
		noted = rows[i].noted;
		on_wait = comes_in_10_ms;
		check_read(900 * CHUNK, 10);
		assert_string_equal(asked_for, "900-900");
		for (j = 0; j < READAROUND_EVENTS; j++)
			(void)readaround_miss(&blob->around, 0, 1);
		noted = 0;
		queue_note_replays(queue, rows[i].replays);
		check_read(500 * CHUNK, 10);
		assert_string_equal(asked_for, rows[i].asked);
		queue_note_replays(queue, -rows[i].replays);
		close_scene();
	}
}

/* A read that waits for what is fetched at low priority makes it urgent. */
static void test_promotes(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 40 * CHUNK, .timeout = 100 });
	f = make_flight(0, 4, REQUEST_PREFETCH);
	on_wait = all_comes;
	check_read(CHUNK, 10);
	assert_false(f->low);
	assert_int_equal(f->request.priority, REQUEST_DEMAND);
	assert_int_equal(atomic_load(&f->request.deadline), clock_ms() + 100 * 1000);
	leave_flight(f);
	close_scene();
}

static void take_back_then_all(unsigned times, uint64_t until)
{
	struct http_exchange *x;

	x = stage_next();
	if (times > 0) {
		answer(x, 0, 0);
		return;
	}
	head(x, 0);
	stage_bytes(x, 0, 2 * CHUNK);
	stage_end(x, -ECONNRESET);
	stage_run();
}

static void test_taken_back(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .bare = true });
	on_wait = take_back_then_all;
	check_read(10, 2 * CHUNK);
	assert_int_equal(waits, 3); /* after a cut less is asked for at once */
	close_scene();
}

static void test_kept_without_a_cache(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .bare = true });
	on_wait = all_comes;
	check_read(0, 2 * CHUNK);
	on_wait = NULL; /* nothing is asked for again */
	check_read(CHUNK, CHUNK);
	assert_int_equal(blob->kept_bytes, 2 * CHUNK);
	close_scene();
}

/* Chunk 0 is there; it is dropped while the rest is waited for. */
static void drops_what_was_read(unsigned times, uint64_t until)
{
	struct caller own = *caller(); /* it is another thread that does so */

	caller()->read_of = NULL;
	source_drop(source, 0, CHUNK);
	*caller() = own;
	answer_all();
}

static void test_pieces(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	put(0);
	on_wait = drops_what_was_read;
	check_read(10, 2 * CHUNK);
	assert_ptr_equal(caller()->read_of, blob);
	assert_int_equal(caller()->piece_count, 2);
	assert_int_equal(caller()->pieces[0].off, 10);
	assert_int_equal(caller()->pieces[0].end, CHUNK);
	assert_int_equal(caller()->pieces[0].drops, 0);
	assert_int_equal(caller()->pieces[1].off, CHUNK);
	assert_int_equal(caller()->pieces[1].end, 2 * CHUNK + 10);
	assert_int_equal(caller()->pieces[1].drops, 1);
	source_drop(source, 0, CHUNK); /* another was first */
	assert_int_equal(blob->drops, 1);
	source_drop(source, 0, 2 * CHUNK); /* the second chunk came later, and is to blame */
	assert_int_equal(blob->drops, 2);
	assert_string_equal(shelved(), "2");
	close_scene();
}

static void whole_passes(unsigned times, uint64_t until)
{
	struct http_exchange *x = stage.running[0];

	assert_int_equal(times, 0); /* it is not waited for its own flight */
	stage_head(x, "200|Content-Length: 655360");
	stage_bytes(x, 0, 9 * CHUNK);
}

/* A read takes from the cache what a whole blob has left there, passing by. */
static void test_whole_passes(void **state)
{
	struct flight *f, *waiting;

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	f = make_flight(30, 31, REQUEST_DEMAND);
	assert_string_equal(asked(), "30-30");
	waiting = make_flight(7, 8, REQUEST_DEMAND);
	on_wait = whole_passes;
	check_read(7 * CHUNK, 100);
	assert_true(waiting->listed && !waiting->done);
	leave_flight(f);
	leave_flight(waiting);
	close_scene();
}

/* Has it measured so many bytes a second. */
static void measure_link(uint64_t bandwidth)
{
	struct link_facts link;

	stage.now_us += 10 * 1000 * 1000;
	queue_note_bytes(queue, 1 << 20);
	stage.now_us += 100 * 1000;
	queue_note_bytes(queue, (size_t)bandwidth / 10);
	queue_link(queue, &link);
	assert_int_equal(link.bandwidth, bandwidth);
}

/* Reads that keep together get what follows a miss as well: on a slow link some, else as much as
 * comes in 40 ms, on a fast one not too much. */
static void test_reads_around(void **state)
{
	static const uint64_t at[] = { 5, 12, 1, 9 };
	unsigned i;

	open_scene(&(struct scene){ .size = 600 * CHUNK });
	on_wait = all_comes;
	for (i = 0; i < 24; i++) /* far from each other, and in the same areas again */
		check_read((at[i / 6] + i % 6 * 16) * CHUNK, 100);
	memset(shelf.there, 0, sizeof shelf.there);
	check_read(48 * CHUNK, 100);
	assert_string_equal(shelved(), "48-71");
	memset(shelf.there, 0, sizeof shelf.there);
	measure_link(15155 * 1000);
	check_read(200 * CHUNK, 100);
	assert_string_equal(shelved(), "200-235");
	measure_link(15156 * 1000);
	check_read(300 * CHUNK, 100);
	assert_string_equal(shelved(), "200-235,300-336");
	measure_link(100 * 1000 * 1000);
	check_read(400 * CHUNK, 100);
	assert_string_equal(shelved(), "200-235,300-336,400-447");
	/* What came with a miss counts as a read, once, when it is read. */
	i = blob->around.count;
	check_read(410 * CHUNK, 100);
	assert_int_equal(blob->around.count, i + 1);
	check_read(410 * CHUNK, 100);
	check_read(400 * CHUNK, 100);
	assert_int_equal(blob->around.count, i + 1);
	close_scene();
}

/* ---- failures ---- */

static void test_fails(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	on_wait = nothing_is_there;
	assert_int_equal(read_at(0, 10), -ENOENT);
	assert_non_null(strstr(why.msg, "404"));
	assert_int_equal(waits, 1);
	close_scene();
}

/* What failed was not made for this read: it makes its own. */
static void test_unasked_fails(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	f = make_flight(0, 4, REQUEST_PREFETCH);
	on_wait = first_fails;
	check_read(10, 10);
	assert_int_equal(f->r, -ENOENT);
	assert_int_equal(waits, 2);
	leave_flight(f);
	close_scene();
}

/* A demand of the time when the image was opened, which gives up soon. */
static void test_opening_fails(void **state)
{
	struct flight *f;
	struct http_exchange *x;

	open_scene(&(struct scene){ .size = 40 * CHUNK, .retry_for = 1000 });
	f = make_flight(0, 4, REQUEST_DEMAND);
	x = stage_next();
	blob_opened(blob);
	assert_true(atomic_load(&blob->retry_until) == CLOCK_NEVER);
	assert_false(f->request.retry_until == CLOCK_NEVER);
	stage_answer(x, "500", 0, 0);
	on_wait = first_fails;
	check_read(10, 10);
	assert_int_equal(f->r, -ENOENT);
	leave_flight(f);
	close_scene();
}

static void test_while_opening(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .retry_for = 1000 });
	on_wait = nothing_is_there;
	assert_int_equal(read_at(0, 10), -ENOENT);
	assert_int_equal(waits, 1);
	close_scene();
}

static void test_shut(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	f = make_flight(0, 4, REQUEST_PREFETCH); /* even of one that was not made for it */
	on_wait = shuts;
	assert_int_equal(read_at(0, 10), -ESHUTDOWN);
	leave_flight(f);
	close_scene();
}

/* ---- time ---- */

static void time_jumps(unsigned times, uint64_t until)
{
	assert_int_equal(until, 5000 + 3000 + 250);
	stage.now_us = until * 1000; /* and the engine does nothing */
}

/* A flight that does not end when it should leaves the list, so that nobody waits for it again. */
static void test_timeout(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .timeout = 3 });
	on_wait = time_jumps;
	assert_int_equal(read_at(0, 10), -ETIMEDOUT);
	assert_string_equal(why.msg, "timed out after 3 s (timeout=3)");
	assert_null(blob->flights);
	close_scene();
}

/* Another may wait for it longer. */
static void test_timeout_of_one(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 40 * CHUNK, .timeout = 3 });
	f = make_flight(0, 4, REQUEST_DEMAND);
	atomic_store(&f->request.deadline, clock_ms() + 9000);
	on_wait = time_jumps;
	assert_int_equal(read_at(0, 10), -ETIMEDOUT);
	assert_true(f->listed);
	assert_int_equal(atomic_load(&f->request.deadline), 5000 + 9000);
	leave_flight(f);
	close_scene();
}

/* The client's deadline goes before that of the image; the flight says what it waits for. */
static void test_deadline(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .timeout = 300 });
	caller()->deadline = clock_ms() + 700;
	on_wait = time_passes;
	(void)make_flight(0, 1, REQUEST_DEMAND);
	leave_flight(blob->flights);
	atomic_store(&blob->flights->request.deadline, clock_ms() + 500);
	assert_int_equal(read_at(0, 10), -ETIMEDOUT);
	assert_int_equal(stage_ms(), 950);
	close_scene();
}

/* ---- other processes ---- */

static void appears(unsigned times)
{
	if (times == 5)
		put(0);
}

static void test_others_fetch(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.claims[0][0] = OTHERS;
	on_sleep = appears;
	check_read(0, 10);
	assert_int_equal(sleeps, 6);
	assert_int_equal(slept[0], 1); /* twofold each time, up to 20 ms */
	assert_int_equal(slept[1], 2);
	assert_int_equal(slept[4], 16);
	assert_int_equal(slept[5], 20);
	assert_int_equal(stage.count, 0);
	close_scene();
}

/* The first fetcher is waited for for a second, the second for 15 more. */
static void check_patience(bool second, uint64_t from, uint64_t to)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.claims[0][0] = OTHERS;
	shelf.claims[1][0] = second ? OTHERS : NOBODY;
	on_wait = all_comes;
	check_read(0, CHUNK);
	assert_in_range(stage_ms(), from, to);
	assert_string_equal(shelved(), "0");
	close_scene();
}

static void test_patience(void **state)
{
	check_patience(false, 1000, 1020);
	check_patience(true, 16000, 16020);
}

static void leaves(unsigned times)
{
	if (times == 3)
		shelf.claims[0][0] = NOBODY;
}

/* The other process ended without it: at once. */
static void test_claim_ends(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.claims[0][0] = OTHERS;
	on_sleep = leaves;
	on_wait = all_comes;
	check_read(0, CHUNK);
	assert_int_equal(sleeps, 4);
	close_scene();
}

static void test_others_too_late(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .timeout = 1 });
	caller()->deadline = clock_ms() + 500;
	shelf.claims[0][0] = OTHERS;
	assert_int_equal(read_at(0, 10), -ETIMEDOUT);
	assert_non_null(strstr(why.msg, "another process"));
	assert_in_range(stage_ms(), 500, 520);
	close_scene();
}

static void shuts_asleep(unsigned times)
{
	queue_shut(queue);
}

static void test_others_shut(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.claims[0][0] = OTHERS;
	on_sleep = shuts_asleep;
	assert_int_equal(read_at(0, 10), -ESHUTDOWN);
	assert_int_equal(sleeps, 1);
	close_scene();
}

/* ---- to the millisecond ---- */

static const uint64_t *times; /* ms since the scene was opened, at the end of each sleep or wait */

static void jumps_asleep(unsigned n)
{
	stage.now_us = (5000 + times[n]) * 1000;
}

/* From when on it is the second fetcher, and the only one that others do not matter to. */
static void test_patience_ends(void **state)
{
	static const struct {
		bool second; /* others are that as well */
		uint64_t round_trip; /* us */
		uint64_t times[3];
	} rows[] = {
		{ false, 0, { 0, 999, 1000 } },	      { false, 249999, { 0, 999, 1000 } },
		{ false, 250001, { 0, 1003, 1004 } }, { false, 500000, { 0, 1999, 2000 } },
		{ true, 0, { 0, 15999, 16000 } },     { true, 500000, { 1999, 16999, 17000 } },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		open_scene(&(struct scene){ .size = 40 * CHUNK });
		queue_note_round_trip(queue, rows[i].round_trip);
		shelf.claims[0][0] = OTHERS;
		shelf.claims[1][0] = rows[i].second ? OTHERS : NOBODY;
		times = rows[i].times;
		on_sleep = jumps_asleep;
		on_wait = all_comes;
		check_read(0, CHUNK);
		assert_int_equal(sleeps, 3);
		close_scene();
	}
}

/* Each chunk has a time of its own, and the looks begin anew. */
static void comes_after_900_ms(unsigned n)
{
	static const uint64_t at[] = { 0, 900, 900, 1899, 1900 };

	stage.now_us = (5000 + at[n]) * 1000;
	if (n == 1)
		put(0);
}

static void test_patience_anew(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.claims[0][0] = shelf.claims[0][1] = OTHERS;
	on_sleep = comes_after_900_ms;
	on_wait = all_comes;
	check_read(0, 2 * CHUNK);
	assert_int_equal(sleeps, 5);
	assert_int_equal(slept[0], 1);
	assert_int_equal(slept[1], 2);
	assert_int_equal(slept[2], 1);
	assert_int_equal(slept[4], 4);
	close_scene();
}

static void test_others_just_too_late(void **state)
{
	static const uint64_t at[] = { 499, 500 };

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	caller()->deadline = clock_ms() + 500;
	shelf.claims[0][0] = OTHERS;
	times = at;
	on_sleep = jumps_asleep;
	assert_int_equal(read_at(0, 10), -ETIMEDOUT);
	assert_int_equal(sleeps, 2);
	close_scene();
}

static uint64_t ends_at; /* ms since the scene was opened */

/* Its flight's own time, which is another's, is over by then. */
static void ends_late(unsigned n, uint64_t until)
{
	if (n > 0) {
		answer_all();
		return;
	}
	stage.now_us = (5000 + ends_at) * 1000;
	atomic_store(&blob->flights->request.deadline, clock_ms() + 1);
	stage_answer(stage_next(), "500", 0, 0);
}

/* A flight that was late for others is made anew by who has time. */
static void test_late_for_others(void **state)
{
	for (ends_at = 2999; ends_at <= 3000; ends_at++) {
		open_scene(&(struct scene){ .size = 40 * CHUNK, .timeout = 3 });
		on_wait = ends_late;
		if (ends_at < 3000) {
			check_read(0, 10);
			assert_int_equal(waits, 2);
		} else {
			assert_int_equal(read_at(0, 10), -ETIMEDOUT);
			assert_non_null(strstr(why.msg, "HTTP 500"));
			assert_int_equal(waits, 1);
		}
		close_scene();
	}
}

/* ---- what is counted ---- */

static void comes_7_ms_later(unsigned n, uint64_t until)
{
	stage.now_us += 7000;
	answer_all();
}

static void test_counts(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	assert_int_equal(count_of(STATS_CACHE_ENABLED), 1);
	put(0);
	shelf.bad_chunks = 5;
	check_read(0, 10);
	assert_int_equal(atomic_load(&blob->stats->demand_time), 0);
	assert_int_equal(count_of(STATS_CACHE_DROPS), 0); /* what waits tells */
	on_wait = comes_7_ms_later;
	check_read(CHUNK, 10);
	assert_int_equal(atomic_load(&blob->stats->demand_time), 7000);
	assert_int_equal(count_of(STATS_CACHE_DROPS), 5);
	assert_int_equal(count_of(STATS_CACHE_ENABLED), 1);
	shelf.idle = true;
	shelf.refused = UINT64_MAX;
	check_read(9 * CHUNK, 10);
	assert_int_equal(count_of(STATS_CACHE_ENABLED), 0);
	assert_int_equal(atomic_load(&blob->stats->demand_time), 14000);
	close_scene();
	open_scene(&(struct scene){ .size = 40 * CHUNK, .bare = true });
	assert_int_equal(count_of(STATS_CACHE_ENABLED), 0);
	close_scene();
}

/* More pieces than are remembered: the last is of all that gave some of it. */
static void test_many_pieces(void **state)
{
	const struct caller *c = caller();
	unsigned i;

	open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
	for (i = 0; i < 12; i += 2)
		put(i);
	shelf.refused = UINT64_MAX;
	on_wait = all_comes;
	check_read(5, 12 * CHUNK - 5);
	assert_int_equal(c->piece_count, CALLER_PIECES);
	for (i = 0; i < CALLER_PIECES; i++) {
		assert_int_equal(c->pieces[i].off, i == 0 ? 5 : i * CHUNK);
		assert_int_equal(c->pieces[i].end, (i < 7 ? i + 1 : 12) * CHUNK);
		assert_int_equal(c->pieces[i].drops, 0);
		assert_int_equal(c->pieces[i].places, i % 2);
	}
	check_read(0, CHUNK); /* of the next read alone */
	assert_int_equal(c->piece_count, 1);
	assert_int_equal(c->pieces[0].end, CHUNK);
	close_scene();
}

static void comes_to_a_full_disk(unsigned turn, uint64_t until)
{
	answer_all();
}

static void comes_right(unsigned turn, uint64_t until)
{
	answer_all();
	shelf.state = CACHE_WHOLE;
	stage_pass(50);
}

/* What the cache does not keep is not the registry's fault: each pause is as long as the first. */
static void test_full(void **state)
{
	uint64_t began;
	unsigned i;

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	shelf.refused = UINT64_MAX;
	on_wait = comes_to_a_full_disk;
	for (i = 0; i < 12; i++) {
		assert_int_equal(read_at(0, 10), -EIO);
		assert_non_null(strstr(why.msg, "the cache did not keep all of them"));
		assert_true(blob->mending.not_before - clock_ms() <= 10000);
		stage_pass(blob->mending.not_before - clock_ms());
	}
	shelf.refused = SHELF; /* there is room again */
	on_wait = comes_right;
	began = clock_ms();
	while (read_at(0, 10) < 0)
		stage_pass(1000);
	assert_true(clock_ms() - began <= 11000);
	close_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_reads),
		cmocka_unit_test(test_promotes),
		cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_kept_without_a_cache),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_whole_passes),
		cmocka_unit_test(test_fails),
		cmocka_unit_test(test_unasked_fails),
		cmocka_unit_test(test_opening_fails),
		cmocka_unit_test(test_while_opening),
		cmocka_unit_test(test_shut),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_timeout_of_one),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_others_fetch),
		cmocka_unit_test(test_patience),
		cmocka_unit_test(test_claim_ends),
		cmocka_unit_test(test_others_too_late),
		cmocka_unit_test(test_others_shut),
		cmocka_unit_test(test_reads_around),
		cmocka_unit_test(test_around),
		cmocka_unit_test(test_patience_ends),
		cmocka_unit_test(test_patience_anew),
		cmocka_unit_test(test_others_just_too_late),
		cmocka_unit_test(test_late_for_others),
		cmocka_unit_test(test_counts),
		cmocka_unit_test(test_many_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
