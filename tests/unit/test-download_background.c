/* SPDX-License-Identifier: Apache-2.0 */
/* test-download_background.c - downloads in the background: when they begin, how fast they go, what
 * they wait for, and that they end when they are to. */
#include "tests/unit/alloc.h"
#include "tests/unit/downloadlib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- by hand: the thread's body runs when the test says so ---- */

static void *(*body)(void *arg);
static void *body_arg;
static int thread_fails;
static uint32_t chance;
static unsigned joined;

static int keep_body(pthread_t *out, bool detached, void *(*run)(void *arg), void *arg)
{
	assert_false(detached);
	body = run;
	body_arg = arg;
	return thread_fails;
}

static void count_join(pthread_t thread)
{
	joined++;
}

static void wait_by_hand(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until)
{
	assert_ptr_equal(c, made_cond); /* one that goes by this clock */
	assert_true(until * 1000 > now_us);
	test_sleep(until - now_us / 1000);
}

static void wake_nobody(pthread_cond_t *c)
{
}

static uint32_t by_chance(void)
{
	return chance;
}

static int set_up_by_hand(void **state)
{
	static struct clock_ops clock;

	if (set_up(state) < 0)
		return -1;
	clock = (struct clock_ops){ .now_us = test_now,
				    .wait = wait_by_hand,
				    .wake = wake_nobody,
				    .chance = by_chance,
				    .thread = keep_body,
				    .join = count_join };
	clock_use(&clock);
	body = NULL;
	thread_fails = 0;
	joined = 0;
	return 0;
}

/* All that a download does of these blobs. */
static void run_all(const struct fetch_download *how, const struct download_blob *blobs,
		    size_t count)
{
	struct download *d;
	struct err e;

	assert_int_equal(download_open(how, blobs, count, &d, &e), 0);
	assert_int_equal(b.claims, 0); /* not in this thread */
	assert_null(body(body_arg));
	download_close(d);
	assert_int_equal(joined, 1);
	joined = 0;
}

static void run_one(const struct fetch_download *how, const char *dir)
{
	const struct download_blob x = what(dir);

	run_all(how, &x, 1);
}

static void first_delay(void **state)
{
	static const struct {
		unsigned delay, extra;
		uint32_t chance;
		const char *rests;
	} rows[] = {
		{ 0, 0, 7, "" },	{ 7, 0, 7, "7000" },	{ 7, 3, 5999, "9999" },
		{ 7, 3, 6000, "7000" }, { 0, 3, 2999, "2999" }, { 5000000, 5, 7001, "5000002001" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct fetch_download how = { .delay = rows[i].delay,
					      .delay_extra = rows[i].extra };

		chance = rows[i].chance;
		b.whole = true;
		rest_times = 0;
		run_one(&how, NULL);
		assert_string_equal(list_rests(), rows[i].rests);
	}
}

static void takes_600_ms(void)
{
	now_us += 600 * 1000;
}

static void takes_3_s(void)
{
	now_us += 3000 * 1000;
}

static void pace(void **state)
{
	static const struct {
		unsigned mbps;
		void (*filled)(void);
		bool present[STEPS];
		const char *rests;
	} rows[] = {
		/* 1048 ms a step, and the last byte is too little to wait for */
		{ 1, NULL, { false }, "1048 1049" },
		{ 2, NULL, { false }, "524 524" },
		{ 100, NULL, { false }, "10 10" },
		{ 0, NULL, { false }, "" },
		/* what a fetch takes is part of it */
		{ 1, takes_600_ms, { false }, "448 449" },
		{ 1, takes_3_s, { false }, "" },
		/* what is there is free */
		{ 1, NULL, { true }, "1048" },
		{ 1, NULL, { true, true }, "" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct fetch_download how = { .tries = 1, .max_mbps = rows[i].mbps };

		b.claims = 0;
		b.filled = rows[i].filled;
		memcpy(b.present, rows[i].present, sizeof b.present);
		rest_times = 0;
		run_one(&how, NULL);
		assert_string_equal(list_rests(), rows[i].rests);
	}
	assert_int_equal(warnings, 0);
}

static void evicts(void)
{
	b.present[1] = false; /* of which some was there */
}

/* What goes from the cache meanwhile is no reason to wait. */
static void pace_of_what_goes(void **state)
{
	const struct fetch_download how = { .tries = 1, .max_mbps = 1, .block_size = 2 * STEP };

	b.step = 2 * STEP;
	b.present[1] = true;
	b.filled = evicts;
	b.fail = 1;
	b.fail_times = 1;
	run_one(&how, NULL);
	/* 1000 before the second time over it, which brings both pieces of the first step */
	assert_string_equal(list_rests(), "1000 1097");
}

/* A copy into the folder that does not come from the cache is paced as well. */
static void pace_of_copies(void **state)
{
	const struct fetch_download how = { .tries = 1, .max_mbps = 1 };

	b.has_cache = false;
	run_one(&how, folder);
	assert_string_equal(list_rests(), "1048 1049");
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
	assert_int_equal(unlink(in_folder("overlaybd.commit")), 0);
	memset(b.present, true, sizeof b.present);
	rest_times = 0;
	run_one(&how, folder);
	assert_string_equal(list_rests(), "");
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
	assert_int_equal(unlink(in_folder("overlaybd.commit")), 0);
	b.closing = true;
	run_one(&how, folder);
	assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
	assert_int_equal(size_of(".download"), UINT64_MAX);
	assert_int_equal(warnings, 0);
}

static unsigned looks;

/* The other process is done at the third look. */
static void whole_at_the_third(void)
{
	b.whole = ++looks == 3;
}

static void another_downloads(void **state)
{
	const struct fetch_download how = { .tries = 3 };

	b.taken = true;
	b.present[0] = true;
	looks = 0;
	b.looked = whole_at_the_third;
	run_one(&how, NULL);
	assert_string_equal(list_rests(), "2000 2000");
	assert_int_equal(b.fills, 0);
	assert_int_equal(b.verified, 0);
	assert_int_equal(b.told_times, 3);
	assert_int_equal(b.told[0], STEP);
	assert_int_equal(b.told[2], SIZE);
	assert_int_equal(warnings, 0);
}

/* One blob after the other, by the names that were theirs at first; failures are told. */
static void one_after_the_other(void **state)
{
	const struct fetch_download how = { .tries = 1 };
	char names[3][8] = { "first", "second", "third" }, dirs[2][sizeof folder];
	struct download_blob blobs[] = { { &b.source, NULL, names[0] },
					 { &b.source, dirs[0], names[1] },
					 { &b.source, dirs[1], names[2] } };
	struct download *d;
	struct err e;

	snprintf(dirs[0], sizeof dirs[0], "%s", folder);
	snprintf(dirs[1], sizeof dirs[1], "%s", "/none");
	assert_int_equal(download_open(&how, blobs, 3, &d, &e), 0);
	memset(names, 'x', sizeof names);
	memset(dirs, 'x', sizeof dirs);
	memset(blobs, 0, sizeof blobs);
	b.fail = -EIO;
	b.fail_times = 1;
	assert_null(body(body_arg));
	download_close(d);
	assert_int_equal(warnings, 2);
	assert_non_null(strstr(first_warning, "background download of first: as the test wants"));
	assert_non_null(strstr(last_warning, "background download of third: /none/.download: "
					     "No such file or directory"));
	assert_int_equal(b.claims, 3);
	assert_int_equal(b.unclaims, 3);
	assert_int_equal(b.fills, 1 + STEPS);
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
	assert_false(b.held);
}

/* Who ends is not told of it. */
static void ends_with_its_server(void **state)
{
	const struct fetch_download how = { .tries = 3 };
	struct download_blob blobs[] = { what(NULL), what(NULL) };

	b.fail = -ESHUTDOWN;
	b.fail_times = 1;
	run_all(&how, blobs, 2);
	assert_int_equal(b.fills, 1);
	b.claims = 0;
	b.fail = -EIO; /* in the rest before the next try */
	b.fail_times = 1;
	b.closing = true;
	run_all(&how, blobs, 2);
	assert_int_equal(b.fills, 2);
	b.claims = 0;
	b.taken = true;
	run_all(&how, blobs, 2);
	b.taken = false;
	b.fail = 1; /* before the next time over it */
	b.fail_times = 100;
	run_all(&how, blobs, 2);
	assert_int_equal(b.claims, 1);
	b.claims = b.fail_times = 0;
	b.verdicts[b.verified % 4] = -EAGAIN;
	run_all(&how, blobs, 2);
	assert_int_equal(b.claims, 1);
	assert_int_equal(b.verified, 1);
	assert_int_equal(warnings, 0);
}

/* The third time that it looks, the cache can be used. */
static void fills_at_the_third(void)
{
	b.paused = ++looks < 3;
}

static void waits_for_the_cache(void **state)
{
	const struct fetch_download how = { .tries = 3 };

	b.paused = true;
	looks = 0;
	b.looked = fills_at_the_third;
	run_one(&how, NULL);
	assert_string_equal(list_rests(), "2000 2000");
	assert_int_equal(b.fills, STEPS);
	assert_int_equal(b.claims, 3);
	assert_int_equal(b.unclaims, 3);
	assert_int_equal(warnings, 0);
	/* What is to be a file as well does not wait for it. */
	b.claims = 0;
	b.looked = NULL;
	b.paused = true;
	memset(b.present, 0, sizeof b.present);
	rest_times = 0;
	run_one(&how, folder);
	assert_string_equal(list_rests(), "");
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
	/* Nor does what does not fit into one that can be used. */
	b.claims = 0;
	b.paused = false;
	b.fail = -ENOSPC;
	b.fail_times = 1;
	run_one(&how, NULL);
	assert_string_equal(list_rests(), "");
	assert_int_equal(warnings, 1);
}

static void not_begun(void **state)
{
	const struct fetch_download how = { .tries = 1 };
	const struct download_blob blobs[] = { what(folder), what(NULL) };
	struct download *d;
	struct err e;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = download_open(&how, blobs, 2, &d, &e);
		alloc_left = -1;
		if (r < 0)
			assert_string_equal(e.msg, "out of memory");
		assert_int_equal(body != NULL, r == 0);
	}
	assert_int_equal(r, 0);
	assert_int_equal(k, 6);
	download_close(d);
	joined = 0;
	thread_fails = EAGAIN;
	assert_int_equal(download_open(&how, blobs, 2, &d, &e), -EAGAIN);
	assert_string_equal(e.msg, "starting a thread: Resource temporarily unavailable");
	assert_int_equal(joined, 0);
	thread_fails = 0;
	run_all(&how, blobs, 0);
	download_close(NULL);
}

/* ---- in a thread of its own ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static bool is_filling, may_go_on;

/* The download is in the midst of a piece until the test lets it go on. */
static void stand_still(void)
{
	pthread_mutex_lock(&lock);
	is_filling = true;
	pthread_cond_broadcast(&moved);
	while (!may_go_on)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
}

/* download_close has said that it is to stop: only then it goes on. */
static void wake_and_let_go(pthread_cond_t *c)
{
	clock_system.wake(c);
	pthread_mutex_lock(&lock);
	may_go_on = true;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
}

/* A server that ends does not wait for the rest of the download. */
static void stopped(void **state)
{
	const struct fetch_download how = { .tries = 3, .block_size = STEP };
	const struct download_blob x = what("");
	static struct clock_ops clock;
	struct download *d;
	struct err e;

	clock = clock_system;
	clock.wake = wake_and_let_go;
	clock_use(&clock);
	is_filling = may_go_on = false;
	b.filled = stand_still;
	assert_int_equal(download_open(&how, &x, 1, &d, &e), 0);
	pthread_mutex_lock(&lock);
	while (!is_filling)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
	download_close(d);
	assert_int_equal(b.fills, 1);
	assert_int_equal(b.verified, 0);
	assert_int_equal(b.unclaims, 1);
	assert_false(b.held); /* it was not asked for by name */
	assert_int_equal(warnings, 0);
}

/* Before it began, and while another process has it. */
static void stopped_while_waiting(void **state)
{
	const struct fetch_download later = { .delay = 3600, .delay_extra = 10, .tries = 3 };
	const struct fetch_download soon = { .tries = 3 };
	const struct download_blob x = what(NULL);
	struct download *d;
	struct err e;

	clock_use(NULL);
	assert_int_equal(download_open(&later, &x, 1, &d, &e), 0);
	download_close(d);
	assert_int_equal(b.claims, 0);
	b.taken = true;
	assert_int_equal(download_open(&soon, &x, 1, &d, &e), 0);
	download_close(d);
	assert_int_equal(b.fills, 0);
	download_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define BY_HAND(name) cmocka_unit_test_setup_teardown(name, set_up_by_hand, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BY_HAND(first_delay),
		BY_HAND(pace),
		BY_HAND(pace_of_what_goes),
		BY_HAND(pace_of_copies),
		BY_HAND(another_downloads),
		BY_HAND(one_after_the_other),
		BY_HAND(ends_with_its_server),
		BY_HAND(waits_for_the_cache),
		BY_HAND(not_begun),
		TEST(stopped),
		TEST(stopped_while_waiting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
