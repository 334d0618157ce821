/* SPDX-License-Identifier: Apache-2.0 */
/* Fetches under way: who gave what, and who is asked for what was wrong. */
#include "tests/unit/bloblib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void test_places(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 8 * CHUNK, .places = 2 });
	f = make_flight(0, 4, REQUEST_DEMAND);
	assert_int_equal(f->request.rather, 0);
	answer(stage_next(), 3 * CHUNK, -ECONNRESET);
	assert_int_equal(f->places, 0); /* taken back */
	while (!f->done)
		answer(stage_next(), 0, 0);
	assert_int_equal(f->places, 2);
	assert_int_equal(blob->given_next, 2);
	assert_int_equal(blob->given[0].first, 0);
	assert_int_equal(blob->given[0].end, 4);
	assert_int_equal(blob->given[0].places, 1);
	assert_int_equal(blob->given[1].first, 0);
	assert_int_equal(blob->given[1].end, 4);
	assert_int_equal(blob->given[1].places, 2); /* it is what counts */
	leave_flight(f);
	close_scene();
}

/* Chunk after chunk of one place is one entry; what came later counts, as long as it is known. */
static void test_given(void **state)
{
	static const struct {
		unsigned place;
		uint64_t chunk;
		unsigned entries;
		uint64_t first, end; /* of the last */
	} rows[] = {
		{ 0, 3, 1, 3, 4 }, { 0, 4, 1, 3, 5 },  { 0, 5, 1, 3, 6 },   { 0, 3, 1, 3, 6 },
		{ 0, 2, 2, 2, 3 }, { 0, 4, 3, 4, 5 },  { 1, 5, 4, 5, 6 },   { 1, 6, 4, 5, 7 },
		{ 1, 8, 5, 8, 9 }, { 0, 9, 6, 9, 10 }, { 0, 10, 6, 9, 11 },
	};
	struct flight f = { .drops = 0 };
	size_t i;

	open_scene(&(struct scene){ .size = 1000 * CHUNK, .places = 2 });
	shelf.has_map = true;
	f.blob = blob;
	for (i = 0; i < COUNT_OF(rows); i++) {
		const struct origin *last;

		f.request.place = rows[i].place;
		assert_true(flight_publish(&f, rows[i].chunk, shelf.bytes));
		assert_int_equal(blob->given_next, rows[i].entries);
		last = &blob->given[rows[i].entries - 1];
		assert_int_equal(last->first, rows[i].first);
		assert_int_equal(last->end, rows[i].end);
		assert_int_equal(last->places, 1u << rows[i].place);
		assert_int_equal(flight_giver_locked(blob, rows[i].chunk), 1u << rows[i].place);
	}
	assert_int_equal(flight_giver_locked(blob, 5), 2);
	assert_int_equal(flight_giver_locked(blob, 4), 1);
	assert_int_equal(flight_giver_locked(blob, 7), 0);
	assert_int_equal(flight_giver_locked(blob, 11), 0);
	for (i = 0; i < GIVEN - 6; i++) { /* not one after the other */
		assert_int_equal(flight_giver_locked(blob, 3), 1);
		f.request.place = i % 2;
		assert_true(flight_publish(&f, 20 + 2 * i, shelf.bytes));
	}
	assert_int_equal(blob->given_next, GIVEN);
	assert_int_equal(flight_giver_locked(blob, 3), 1); /* the first of all */
	assert_true(flight_publish(&f, 900, shelf.bytes));
	assert_int_equal(flight_giver_locked(blob, 3), 0);
	assert_int_equal(flight_giver_locked(blob, 2), 1); /* the second */
	close_scene();
}

/* Of the last 64 chunks that were wrong. */
static void test_suspects_are_forgotten(void **state)
{
	struct flight *f;
	unsigned i, k;

	for (k = 0; k < 2; k++) {
		open_scene(&(struct scene){ .size = 100 * CHUNK, .places = 2 });
		pthread_mutex_lock(&blob->lock);
		for (i = 0; i < SUSPECTS + k; i++)
			flight_blame_locked(blob, i, 1, true);
		pthread_mutex_unlock(&blob->lock);
		f = make_flight(0, 1, REQUEST_DEMAND);
		stage_run();
		assert_int_equal(f->request.avoid, k == 0 ? 1 : 0);
		leave_flight(f);
		close_scene();
	}
}

static void blame(uint64_t first, uint64_t end)
{
	uint64_t chunk;

	pthread_mutex_lock(&blob->lock);
	for (chunk = first; chunk < end; chunk++)
		flight_blame_locked(blob, chunk, flight_giver_locked(blob, chunk), true);
	pthread_mutex_unlock(&blob->lock);
}

static void test_blame(void **state)
{
	struct flight *f;

	open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
	f = make_flight(0, 4, REQUEST_DEMAND);
	answer_all();
	leave_flight(f);
	blame(4, 9); /* nobody gave these */
	assert_int_equal(blob->suspects_next, 0);
	blame(1, 3);
	assert_int_equal(blob->suspects_next, 2); /* a chunk each */
	assert_int_equal(blob->suspects[1].first, 2);
	assert_int_equal(blob->suspects[1].end, 3);
	__wrap_cache_blob_drop(NULL, 0, 4 * CHUNK);
	/* Chunk 3 is not suspected, 2 is. */
	f = make_flight(3, 4, REQUEST_DEMAND);
	assert_string_equal(asked(), "3-3");
	assert_int_equal(f->request.avoid, 0);
	assert_int_equal(f->request.rather, ENDPOINTS_MAX);
	answer_all();
	leave_flight(f);
	f = make_flight(2, 3, REQUEST_DEMAND);
	stage_run();
	assert_int_equal(f->request.avoid, 1);
	assert_int_equal(f->request.rather, 0);
	assert_non_null(strstr(stage.running[0]->url, "e1.test"));
	answer_all();
	leave_flight(f);
	blame(2, 3); /* who gave it last counts, not who gave it first */
	__wrap_cache_blob_drop(NULL, 2 * CHUNK, CHUNK);
	f = make_flight(2, 3, REQUEST_DEMAND);
	stage_run();
	assert_int_equal(f->request.avoid, 3);
	assert_int_equal(f->request.rather, 0); /* that was longer ago */
	assert_non_null(strstr(stage.running[0]->url, "e0.test"));
	answer_all();
	leave_flight(f);
	blame(2, 3);
	__wrap_cache_blob_drop(NULL, 2 * CHUNK, CHUNK);
	f = make_flight(2, 3, REQUEST_DEMAND);
	stage_run();
	assert_int_equal(f->request.rather, 1); /* by turns */
	leave_flight(f);
	close_scene();
}

/* A guess makes an endpoint one to avoid, and not worse than one that surely gave wrong bytes. */
static void test_guesses(void **state)
{
	static const struct {
		struct origin suspects[3]; /* the newest last */
		uint32_t avoid;
		unsigned rather;
	} rows[] = {
		{ { { 4, 5, 3, false } }, 3, 1 },
		{ { { 4, 5, 2, true }, { 4, 5, 1, false } }, 3, 0 },
		{ { { 4, 5, 1, false }, { 4, 5, 2, true } }, 3, 0 },
		{ { { 4, 5, 1, true }, { 4, 5, 2, false } }, 3, 1 },
		{ { { 4, 5, 1, true }, { 5, 6, 2, true } }, 3, 0 },
		{ { { 4, 5, 2, true }, { 5, 6, 1, true }, { 4, 5, 3, false } }, 3, 1 },
		{ { { 4, 5, 2, true }, { 4, 5, 1, true }, { 4, 5, 2, true } }, 3, 0 },
		{ { { 4, 5, 2, true }, { 8, 9, 1, true } }, 2, 1 }, /* elsewhere */
	};
	struct flight *f;
	size_t i, k;

	for (i = 0; i < COUNT_OF(rows); i++) {
		open_scene(&(struct scene){ .size = 8 * CHUNK, .places = 2 });
		for (k = 0; k < 3; k++)
			blob->suspects[k] = rows[i].suspects[k];
		blob->suspects_next = 3;
		f = make_flight(0, 8, REQUEST_DEMAND);
		stage_run();
		assert_int_equal(f->request.avoid, rows[i].avoid);
		assert_int_equal(f->request.rather, rows[i].rather);
		leave_flight(f);
		close_scene();
	}
}

/* The only place there is is asked again, but not where its redirect led. */
static void test_one_place(void **state)
{
	struct flight *f;
	int wrong;

	for (wrong = 0; wrong <= 1; wrong++) {
		open_scene(&(struct scene){ .size = 8 * CHUNK });
		f = make_flight(0, 4, REQUEST_DEMAND);
		stage_answer(stage_next(), "307|Location: https://edge.test/x", 0, 0);
		assert_non_null(strstr(stage_next()->url, "edge.test"));
		answer_all();
		leave_flight(f);
		if (wrong) {
			blame(3, 4);
			__wrap_cache_blob_drop(NULL, 0, 4 * CHUNK);
		}
		f = make_flight(wrong ? 2 : 4, wrong ? 4 : 8, REQUEST_DEMAND);
		assert_non_null(strstr(stage_next()->url, wrong ? "e0.test" : "edge.test"));
		assert_int_equal(f->request.avoid, wrong);
		answer_all();
		leave_flight(f);
		close_scene();
	}
}

/* Of a blob that is wrong as a whole, see mending.h. */
static void test_wrong_as_a_whole(void **state)
{
	static const struct {
		enum cache_state state;
		uint32_t blamed, guessed, avoid;
		unsigned rather;
	} rows[] = {
		{ CACHE_WRONG, 0, 0, 0, ENDPOINTS_MAX },
		{ CACHE_WRONG, 0, 1, 1, 0 },
		{ CACHE_WRONG, 4, 1, 5, 0 },
		{ CACHE_WRONG, 4, 5, 5, 0 },
		{ CACHE_WRONG, 0, 5, 5, 2 },
		{ CACHE_WRONG, 5, 5, 5, ENDPOINTS_MAX },
		{ CACHE_PARTIAL, 4, 5, 0, ENDPOINTS_MAX },
	};
	struct flight *f;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 3 });
		shelf.state = rows[i].state;
		blob->mending.blamed = rows[i].blamed;
		blob->mending.guessed = rows[i].guessed;
		f = make_flight(3, 4, REQUEST_DEMAND);
		stage_run();
		assert_int_equal(f->request.avoid, rows[i].avoid);
		assert_int_equal(f->request.rather, rows[i].rather);
		assert_int_equal(f->request.worst, rows[i].avoid & rows[i].blamed);
		leave_flight(f);
		close_scene();
	}
}

static void test_givers_are_forgotten(void **state)
{
	uint32_t first;

	open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 3 });
	blob->given[0] = (struct origin){ 0, 4, 1, false };
	blob->given[GIVEN - 1] = (struct origin){ 4, 5, 4, false };
	blob->given_next = GIVEN + 1; /* so the last is older */
	assert_int_equal(flight_forget_givers_locked(blob, &first), 5);
	assert_int_equal(first, 4);
	assert_int_equal(flight_forget_givers_locked(blob, &first), 0);
	assert_int_equal(first, 0);
	assert_int_equal(flight_giver_locked(blob, 0), 0);
	close_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_given),
		cmocka_unit_test(test_suspects_are_forgotten),
		cmocka_unit_test(test_blame),
		cmocka_unit_test(test_guesses),
		cmocka_unit_test(test_one_place),
		cmocka_unit_test(test_wrong_as_a_whole),
		cmocka_unit_test(test_givers_are_forgotten),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
