/* SPDX-License-Identifier: Apache-2.0 */
/* A blob that is wrong as a whole, and fetched once more. */
#include "tests/unit/bloblib.h"

static void is_right_then(unsigned times, uint64_t until)
{
	assert_int_equal(until, clock_ms() + 50);
	answer_all();
	if (times == 2)
		shelf.state = CACHE_WHOLE;
	stage_pass(50);
}

/* All of it is fetched once more, and the read goes on with the verdict. */
static void test_mending(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	on_wait = is_right_then;
	check_read(0, 10);
	assert_string_equal(shelved(), "0-39");
	assert_int_equal(waits, 3);
	assert_int_equal(blob->mending.wrong, 0); /* that were wrong */
	close_scene();
}

static void is_wrong_again(unsigned times, uint64_t until)
{
	answer_all();
	__wrap_cache_blob_drop(NULL, 0, 40 * CHUNK);
}

static void test_mending_fails(void **state)
{
	uint64_t due;

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	on_wait = is_wrong_again;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_non_null(strstr(why.msg, "do not have the digest sha256:x"));
	assert_int_equal(waits, 1);
	due = blob->mending.not_before;
	assert_int_equal(due, 5000 + 10 * 1000);
	assert_int_equal(read_at(0, 10), -EIO); /* not again so soon */
	assert_int_equal(waits, 1);
	stage_pass(due - clock_ms());
	assert_int_equal(read_at(0, 10), -EIO);
	assert_int_equal(waits, 2);
	assert_int_equal(blob->mending.not_before, due + 20 * 1000);
	close_scene();
}

static uint64_t waited_until[4];

static void note_until(unsigned times, uint64_t until)
{
	assert_true(times < 4);
	assert_true(blob->mending.hint->awaited); /* it is the mending's to free */
	waited_until[times] = until - 5000;
	stage_pass(until - clock_ms());
}

/* As long as its deadline allows, and not a moment longer. */
static void test_mending_in_time(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	caller()->deadline = clock_ms() + 70;
	on_wait = note_until;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_int_equal(waits, 2);
	assert_int_equal(waited_until[0], 50);
	assert_int_equal(waited_until[1], 70);
	assert_non_null(strstr(why.msg, "the registry's bytes do not have the digest sha256:x"));
	caller()->deadline = clock_ms();
	assert_int_equal(read_at(0, 10), -EIO);
	assert_int_equal(waits, 2);
	caller()->deadline = 0;
	close_scene();
}

/* The pause is twice as long each time, up to 85 minutes. */
static void test_mending_pauses(void **state)
{
	unsigned wrong;

	for (wrong = 0; wrong < 14; wrong++) {
		open_scene(&(struct scene){ .size = 40 * CHUNK });
		shelf.state = CACHE_WRONG;
		blob->mending.wrong = wrong;
		on_wait = is_wrong_again;
		assert_int_equal(read_at(0, 10), -EIO);
		assert_int_equal(blob->mending.wrong, wrong + 1);
		assert_int_equal(blob->mending.not_before,
				 5000 + 10000 * (UINT64_C(1) << (wrong < 9 ? wrong : 9)));
		close_scene();
	}
}

/* What is there when a mending begins another process has fetched, or one that was given up: is it
 * wrong then, the next begins soon, once. */
static void joins(unsigned times, uint64_t until)
{
	answer_all();
	if (strcmp(shelved(), "0-39") == 0)
		__wrap_cache_blob_drop(NULL, 0, 40 * CHUNK);
	stage_pass(50);
}

static void joins_again(unsigned times, uint64_t until)
{
	assert_true(blob->mending.joined); /* that was forgiven once, not for good */
	is_right_then(times, until);
}

static void test_mending_joined(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	shelf.there[7] = true;
	on_wait = joins;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_int_equal(blob->mending.wrong, 1);
	assert_in_range(clock_ms(), 5000 + 1000, 5000 + 1200);
	/* Again after the pause of one that was wrong, not of two. */
	assert_in_range(blob->mending.not_before, 5000 + 11 * 1000, 5000 + 11 * 1000 + 200);
	stage_pass(blob->mending.not_before - clock_ms());
	shelf.there[7] = true;
	on_wait = joins_again;
	waits = 0;
	check_read(0, 10);
	close_scene();
}

/* Processes that join each other's mendings of what stays wrong. */
static void joins_always(unsigned times, uint64_t until)
{
	joins(times, until);
	shelf.there[7] = true;
}

static void test_mending_joined_always(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	shelf.there[7] = true;
	on_wait = joins_always;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_int_equal(blob->mending.wrong, 1);
	close_scene();
}

/* Another process fetches a chunk, and dies; a second later all of it comes. */
static void comes_in_two(unsigned times, uint64_t until)
{
	answer_all();
	if (times == 0) {
		assert_string_equal(shelved(), "0-2,4-39");
		assert_int_equal(blob->mending.not_before, 5000 + 10 * 1000);
		return;
	}
	if (times == 1) { /* what came stays, for the other may be mending as well */
		assert_string_equal(shelved(), "0-2,4-39");
		assert_int_equal(blob->mending.not_before, clock_ms() + 1000);
		shelf.claims[0][3] = NOBODY;
	}
	if (strcmp(shelved(), "0-39") == 0)
		shelf.state = CACHE_WHOLE;
	stage_pass(50);
}

/* A mending that did not bring all of it is made anew soon, and the read waits for it. */
static void test_mending_in_two(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	shelf.claims[0][3] = OTHERS;
	on_wait = comes_in_two;
	check_read(0, 10);
	assert_int_equal(blob->mending.wrong, 0);
	assert_in_range(clock_ms(), 5000 + 1000, 5000 + 1200);
	close_scene();
}

/* A process that fetches a chunk of it is frozen, and not dead: others are the second to fetch it,
 * as for any read. */
static void comes_but_for_one(unsigned times, uint64_t until)
{
	answer_all();
	if (strcmp(shelved(), "0-39") == 0)
		shelf.state = CACHE_WHOLE;
	stage_pass(50);
}

static void test_mending_beside_a_frozen_one(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	shelf.claims[0][3] = OTHERS;
	on_wait = comes_but_for_one;
	caller()->deadline = clock_ms() + 40 * 1000;
	check_read(0, 10);
	caller()->deadline = 0;
	close_scene();
}

static void is_gone(unsigned times, uint64_t until)
{
	while (stage.count > 0)
		stage_answer(stage_next(), "404", 0, 0);
	stage_pass(500);
	if (times > 2000)
		fail_msg("the read waits for ever: %u s", (unsigned)(clock_ms() / 1000));
}

/* With timeout=0, and a registry that says that it has no such blob any more. */
static void test_mending_of_what_is_gone(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	blob->timeout = 0;
	shelf.state = CACHE_WRONG;
	on_wait = is_gone;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_non_null(strstr(why.msg, "404"));
	close_scene();
}

static void is_gone_late(unsigned times, uint64_t until)
{
	for (stage_run(); stage.count > 0; stage_run())
		stage_answer(stage_next(), "404", 0, 0);
	stage_pass(300);
}

/* It fails when the read has no more time: that is told all the same. */
static void test_mending_fails_at_last(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	on_wait = is_gone_late;
	caller()->deadline = clock_ms() + 300;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_int_equal(waits, 1);
	assert_non_null(strstr(why.msg, "404"));
	caller()->deadline = 0;
	close_scene();
}

static void is_away(unsigned times, uint64_t until)
{
	while (stage.count > 0)
		answer(stage_next(), 0, -ETIMEDOUT);
	stage_pass(500);
}

/* What is told, and by when, while the registry does not give it. */
static void test_mending_fails_for_now(void **state)
{
	uint64_t began;

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.state = CACHE_WRONG;
	on_wait = is_away;
	began = clock_ms();
	caller()->deadline = began + 100 * 1000;
	assert_int_equal(read_at(0, 10), -EIO);
	caller()->deadline = 0;
	assert_in_range(clock_ms(), began + 100 * 1000, began + 101 * 1000);
	assert_non_null(strstr(why.msg, "fetching them again failed: "));
	assert_int_equal(blob->mending.wrong, 0);
	close_scene();
}

/* Bytes that a flight keeps, for the cache did not take them, are fetched again too. */
static void test_mending_of_kept(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	shelf.refused = 2;
	on_wait = all_comes;
	check_read(2 * CHUNK, 10);
	assert_true(blob->kept_bytes > 0);
	shelf.refused = SHELF;
	shelf.state = CACHE_WRONG;
	waits = 0;
	on_wait = is_right_then;
	check_read(0, 10);
	assert_string_equal(shelved(), "0-39");
	close_scene();
}

static void spoils(unsigned times, uint64_t until)
{
	if (times == 0) {
		answer_all();
		shelf.state = CACHE_WRONG;
		shelf.sealed = true;
		return;
	}
	shelf.sealed = false;
	shelf.state = CACHE_WHOLE;
	stage_pass(50);
}

/* Found wrong in the middle of a read: it begins anew. */
static void test_rewinds(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	on_wait = spoils;
	check_read(5, 3 * CHUNK);
	assert_int_equal(waits, 2);
	assert_int_equal(caller()->piece_count, 1);
	assert_int_equal(caller()->pieces[0].off, 5);
	assert_int_equal(caller()->pieces[0].end, 5 + 3 * CHUNK);
	close_scene();
}

/* ---- a whole that is wrong at some endpoints ---- */

static uint32_t wrong_at, gone_at; /* endpoints, as bits */
static char asked_of[32]; /* one digit a mending: which endpoint gave it */

static int place_of(const struct http_exchange *x)
{
	return strstr(x->url, "//e")[3] - '0';
}

static void comes_from_one(unsigned times, uint64_t until)
{
	int giver = -1;

	for (stage_run(); stage.count > 0; stage_run()) {
		struct http_exchange *x = stage.running[0];
		int place = place_of(x);

		if (gone_at & 1u << place) {
			stage_answer(x, "404", 0, 0);
			continue;
		}
		assert_true(giver < 0 || giver == place);
		giver = place;
		answer(x, 0, 0);
	}
	if (giver >= 0) {
		assert_true(strlen(asked_of) < sizeof asked_of - 1);
		asked_of[strlen(asked_of)] = (char)('0' + giver);
		if (wrong_at & 1u << giver)
			__wrap_cache_blob_drop(NULL, 0, 40 * CHUNK);
		else
			shelf.state = CACHE_WHOLE;
	}
	stage_pass(50);
}

/* While an endpoint is left that was not asked, what is wrong is fetched from there, within the
 * same read; a pause comes when all have given it wrong.  The next round begins with another. */
static void test_mending_elsewhere(void **state)
{
	static const struct {
		uint32_t given; /* who gave what was wrong first; 0: not known */
		uint32_t wrong, gone;
		const char *asked[3]; /* in each round */
		int r;
	} rows[] = {
		{ 1, 1, 0, { "1" }, 0 }, /* a mirror that lies, and the registry */
		{ 0, 1, 0, { "1" }, 0 },
		{ 3, 1, 0, { "1" }, 0 },
		{ 2, 2, 0, { "0" }, 0 },
		{ 0, 2, 0, { "10" }, 0 },
		{ 3, 2, 0, { "10" }, 0 },
		{ 1, 3, 0, { "10", "1", "0" }, -EIO },
		{ 0, 3, 0, { "10", "1", "0" }, -EIO },
		{ 1, 2, 1, { "11", "1", "1" }, -EIO }, /* who has none is not asked for ever */
		{ 0, 2, 1, { "11", "1", "1" }, -EIO },
	};
	struct flight *f;
	size_t i;
	unsigned k;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
		shelf.state = CACHE_WRONG;
		set_origin(0, 40, rows[i].given);
		wrong_at = rows[i].wrong;
		gone_at = rows[i].gone;
		for (k = 0; k < 3 && rows[i].asked[k]; k++) {
			memset(asked_of, 0, sizeof asked_of);
			on_wait = comes_from_one;
			waits = 0;
			if (read_at(0, 10) != rows[i].r || strcmp(asked_of, rows[i].asked[k]) != 0)
				fail_msg("row %zu, round %u: %s, \"%s\"", i, k, why.msg, asked_of);
			assert_int_equal(blob->mending.wrong, rows[i].r < 0 ? k + 1 : 0);
			if (rows[i].r < 0)
				stage_pass(blob->mending.not_before - clock_ms());
		}
		/* Who was blamed is not avoided for ever. */
		shelf.state = CACHE_WHOLE;
		__wrap_cache_blob_drop(NULL, 0, 40 * CHUNK);
		f = make_flight(0, 1, REQUEST_DEMAND);
		stage_run();
		assert_int_equal(f->request.avoid, 0);
		leave_flight(f);
		close_scene();
	}
}

/* One of three that has it right is asked, whoever else gives it wrong or not at all. */
static void test_mending_among_three(void **state)
{
	uint32_t right, gone, given;

	for (right = 1; right < 8; right *= 2) {
		for (gone = 0; gone < 8; gone++) {
			for (given = 0; given < 8 && !(gone & right); given++) {
				open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 3 });
				shelf.state = CACHE_WRONG;
				set_origin(0, 40, given);
				wrong_at = ~right;
				gone_at = gone;
				memset(asked_of, 0, sizeof asked_of);
				on_wait = comes_from_one;
				if (read_at(0, 10) != 0 || strlen(asked_of) > 3)
					fail_msg("%u is right, %u gone, %u gave it: \"%s\"", right,
						 gone, given, asked_of);
				close_scene();
			}
		}
	}
}

static int half_at; /* who gives the first half, wrong, and has none of the rest */

static void comes_in_halves(unsigned times, uint64_t until)
{
	bool came = false, wrong = false;

	for (stage_run(); stage.count > 0; stage_run()) {
		struct http_exchange *x = stage.running[0];

		if (place_of(x) == half_at && x->first >= 20 * CHUNK) {
			stage_answer(x, "404", 0, 0);
			continue;
		}
		wrong = wrong || place_of(x) == half_at;
		came = true;
		answer(x, 0, 0);
	}
	if (came && wrong)
		__wrap_cache_blob_drop(NULL, 0, 40 * CHUNK);
	else if (came)
		shelf.state = CACHE_WHOLE;
	stage_pass(50);
}

/* The other is asked for all of it. */
static void test_mending_of_halves(void **state)
{
	uint32_t given;

	for (half_at = 0; half_at < 2; half_at++) {
		for (given = 0; given < 4; given++) {
			open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
			shelf.state = CACHE_WRONG;
			set_origin(0, 40, given);
			on_wait = comes_in_halves;
			check_read(0, 10);
			assert_int_equal(blob->mending.wrong, 0);
			close_scene();
		}
	}
}

static void is_wrong_and_then_unkept(unsigned times, uint64_t until)
{
	assert_true(times < 100);
	if (times > 0)
		shelf.refused = 2;
	comes_from_one(times, until);
}

/* Others are left, and a disk that is full: the read ends. */
static void test_mending_elsewhere_unkept(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
	blob->timeout = 0;
	shelf.state = CACHE_WRONG;
	wrong_at = 3;
	gone_at = 0;
	memset(asked_of, 0, sizeof asked_of);
	on_wait = is_wrong_and_then_unkept;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_non_null(strstr(why.msg, "the cache did not keep all of them"));
	close_scene();
}

/* It is right again: nothing is left of what was. */
static void test_mending_is_over(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
	shelf.state = CACHE_WRONG;
	wrong_at = 3;
	gone_at = 0;
	memset(asked_of, 0, sizeof asked_of);
	on_wait = comes_from_one;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_true(blob->mending.not_before > clock_ms() && blob->mending.wrong == 1);
	shelf.state = CACHE_WHOLE;
	leave_flight(make_flight(0, 1, REQUEST_DEMAND));
	stage_run();
	assert_int_equal(blob->mending.not_before, 0);
	assert_int_equal(blob->mending.wrong, 0);
	assert_int_equal(blob->mending.guessed | blob->mending.blamed, 0);
	assert_true(blob->mending.ended);
	answer_all();
	close_scene();
}

static void is_wrong_and_then_gone(unsigned times, uint64_t until)
{
	if (times == 0)
		wrong_at = 3;
	else
		gone_at = 3;
	comes_from_one(times, until);
	assert_true(times < 1000);
}

/* Others are left, but they say that they have none: waiting is no use, with timeout=0 either. */
static void test_mending_elsewhere_refused(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
	blob->timeout = 0;
	shelf.state = CACHE_WRONG;
	wrong_at = gone_at = 0;
	memset(asked_of, 0, sizeof asked_of);
	on_wait = is_wrong_and_then_gone;
	assert_int_equal(read_at(0, 10), -EIO);
	assert_non_null(strstr(why.msg, "404"));
	assert_string_equal(asked_of, "1");
	close_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mending),
		cmocka_unit_test(test_mending_fails),
		cmocka_unit_test(test_mending_in_time),
		cmocka_unit_test(test_mending_pauses),
		cmocka_unit_test(test_mending_joined),
		cmocka_unit_test(test_mending_joined_always),
		cmocka_unit_test(test_mending_in_two),
		cmocka_unit_test(test_mending_beside_a_frozen_one),
		cmocka_unit_test(test_mending_of_what_is_gone),
		cmocka_unit_test(test_mending_fails_at_last),
		cmocka_unit_test(test_mending_fails_for_now),
		cmocka_unit_test(test_mending_of_kept),
		cmocka_unit_test(test_rewinds),
		cmocka_unit_test(test_mending_elsewhere),
		cmocka_unit_test(test_mending_among_three),
		cmocka_unit_test(test_mending_of_halves),
		cmocka_unit_test(test_mending_elsewhere_unkept),
		cmocka_unit_test(test_mending_is_over),
		cmocka_unit_test(test_mending_elsewhere_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
