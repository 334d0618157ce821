/* SPDX-License-Identifier: Apache-2.0 */
/* A blob: what is asked for ahead of need, and what becomes of bytes that are wrong. */
#include "tests/unit/bloblib.h"

/* ---- ahead of need ---- */

static void test_want(void **state)
{
	open_scene(&(struct scene){ .size = 600 * CHUNK });
	source_want(source, 2 * CHUNK + 5, CHUNK);
	assert_string_equal(asked(), "2-3");
	source_want(source, 2 * CHUNK, 2 * CHUNK); /* it is under way */
	assert_string_equal(asked(), "2-3");
	answer_all();
	source_want(source, 2 * CHUNK, 2 * CHUNK); /* it is there */
	assert_string_equal(asked(), "");
	shelf.state = CACHE_WRONG;
	source_want(source, 9 * CHUNK, CHUNK);
	source_prefetch(source, 9 * CHUNK, CHUNK);
	assert_string_equal(asked(), "");
	shelf.state = CACHE_PARTIAL;
	source_prefetch(source, 9 * CHUNK, CHUNK);
	assert_string_equal(asked(), "9-9");
	close_scene();
}

/* No cache, or one that keeps nothing at the moment. */
static void open_bare(uint64_t size, bool bare)
{
	open_scene(&(struct scene){ .size = size, .bare = bare });
	if (bare)
		return;
	shelf.idle = true;
	shelf.refused = UINT64_MAX;
}

/* Then no more than is sure to be kept until it is read. */
static void test_want_bare(void **state)
{
	int bare;

	for (bare = 0; bare <= 1; bare++) {
		open_bare(600 * CHUNK, bare);
		source_want(source, 0, 600 * CHUNK);
		assert_string_equal(asked(), "0-255");
		source_want(source, 0, 600 * CHUNK); /* what is under way is that */
		assert_string_equal(asked(), "0-255");
		answer_all();
		source_want(source, 256 * CHUNK, 256 * CHUNK); /* in order, who gets no more */
		assert_string_equal(asked(), "256-511");
		close_scene();
	}
}

/* Read-ahead hears of what was asked for, not of all that was wanted: the read that goes on from
 * there is one in order for it. */
static void test_want_bare_goes_on(void **state)
{
	int bare;

	for (bare = 0; bare <= 1; bare++) {
		open_bare(600 * CHUNK, bare);
		source_want(source, 0, 600 * CHUNK);
		answer_all();
		source_want(source, 256 * CHUNK, CHUNK);
		assert_string_equal(asked(), "256-511");
		close_scene();
	}
}

static unsigned reads_from, furthest;

static void comes_and_is_measured(unsigned times, uint64_t until)
{
	for (stage_run(); stage.count > 0; stage_run()) {
		unsigned last = (unsigned)(stage.running[0]->last / CHUNK);

		assert_true(last < reads_from + FLIGHT_CHUNKS);
		if (last - reads_from > furthest)
			furthest = last - reads_from;
		answer(stage.running[0], 0, 0);
	}
}

/* So it is of reads. */
static void test_ahead_bare(void **state)
{
	int bare;

	for (bare = 0; bare <= 1; bare++) {
		open_bare(SHELF * CHUNK, bare);
		on_wait = comes_and_is_measured;
		furthest = 0;
		for (reads_from = 0; reads_from + 64 < SHELF; reads_from += 64) {
			check_read((uint64_t)reads_from * CHUNK, 64 * CHUNK);
			caller()->read_of = NULL; /* what is kept goes: the next read waits again */
			source_drop(source, 0, SHELF * CHUNK);
		}
		assert_int_equal(furthest, FLIGHT_CHUNKS - 1);
		close_scene();
	}
}

/* Nothing is read ahead of a blob that is found wrong during the read itself. */
static void check_ahead(bool wrong)
{
	unsigned i;

	open_scene(&(struct scene){ .size = 600 * CHUNK });
	on_wait = all_comes;
	for (i = 0; i < 6; i++)
		check_read((uint64_t)i * CHUNK, CHUNK);
	shelf.spoils = wrong;
	for (; shelf.there[i] && asked()[0] == '\0'; i++) {
		shelf.state = CACHE_PARTIAL;
		check_read((uint64_t)i * CHUNK, CHUNK);
	}
	assert_true(i > 6);
	assert_int_equal(asked()[0] == '\0', wrong);
	close_scene();
}

static void test_ahead(void **state)
{
	check_ahead(false);
	check_ahead(true);
}

/* More is asked for as soon as the end of what was fetched ahead is read, and not before. */
static void test_ahead_at_once(void **state)
{
	unsigned i, end;

	open_scene(&(struct scene){ .size = 600 * CHUNK });
	on_wait = all_comes;
	for (i = 0; i < 6; i++)
		check_read((uint64_t)i * CHUNK, CHUNK);
	answer_all();
	for (end = 6; shelf.there[end]; end++)
		;
	assert_true(end > 8);
	check_read(6 * CHUNK, 1);
	assert_string_equal(asked(), "");
	check_read((uint64_t)(end - 2) * CHUNK, 2 * CHUNK);
	assert_string_not_equal(asked(), "");
	close_scene();
}

static const struct ends {
	uint64_t size;
	const char *asked;
} ends[] = {
	{ 600 * CHUNK, "0-0 596-599" }, /* 64 KiB at least */
	{ 4 * CHUNK, "0-3" },
	{ 5 * CHUNK, "0-4" }, /* the gap would be none */
	{ 6 * CHUNK, "0-0 2-5" },
	{ 1, "0-0" },
	{ 4096 * CHUNK, "0-0 4080-4095" }, /* a 256th part */
	{ UINT64_C(131072) * CHUNK, "0-0 130816-131071" }, /* 4 MiB at most */
};

static void test_ends(void **state)
{
	size_t i;

	for (i = 0; i < sizeof ends / sizeof *ends; i++) {
		open_scene(&(struct scene){ .size = ends[i].size, .bare = true });
		blob_ask_for_ends(blob);
		assert_string_equal(asked(), ends[i].asked);
		close_scene();
	}
}

/* ---- bytes that are wrong ---- */

/* A chunk that is there and cannot be read is dropped; then the cache is passed over. */
static void test_stuck(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	put(0);
	shelf.unreadable[0] = true;
	on_wait = all_comes;
	check_read(0, 10);
	assert_int_equal(shelf.drops, 1);
	assert_string_equal(last_warning, "");
	assert_int_equal(shelf.reads, 18);
	close_scene();
}

/* The disk lets it neither be read nor dropped: from the registry, for a minute. */
static void test_passed_over(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	put(0);
	shelf.unreadable[0] = shelf.undroppable = true;
	on_wait = all_comes;
	check_read(0, 10);
	assert_int_equal(shelf.drops, 1);
	assert_int_equal(shelf.reads, 65);
	assert_non_null(strstr(last_warning, "sha256:x: what the cache has of it cannot be read"));
	assert_int_equal(shelf.publishes, 0);
	assert_int_equal(atomic_load(&blob->passed_until), clock_ms() + 60 * 1000);
	stage_pass(60 * 1000 - 1);
	assert_false(flight_has_cache(blob));
	stage_pass(1);
	assert_true(flight_has_cache(blob));
	close_scene();
}

/* All that a read took was dropped since: what is there now is not to blame. */
static void test_blamed_once(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
	on_wait = all_comes;
	check_read(0, 2 * CHUNK);
	source_drop(source, 0, 2 * CHUNK);
	assert_int_equal(blob->suspects_next, 2);
	assert_int_equal(shelf.drops, 1);
	source_drop(source, 0, 2 * CHUNK); /* another reader of the same bytes */
	source_drop(source, CHUNK, CHUNK);
	assert_int_equal(blob->suspects_next, 2);
	assert_int_equal(shelf.drops, 1);
	check_read(0, 2 * CHUNK);
	source_drop(source, CHUNK, 1); /* that is new */
	assert_int_equal(blob->suspects_next, 3);
	assert_int_equal(shelf.drops, 2);
	assert_string_equal(shelved(), "0");
	caller()->read_of = NULL; /* a thread that has not read it knows nothing of drops */
	source_drop(source, CHUNK, 1);
	assert_int_equal(shelf.drops, 3);
	assert_int_equal(count_of(STATS_CRC_DROPS), 5);
	close_scene();
}

/* Who is blamed for chunks 0 and 1, by what this thread has read and who gave what last. */
static void test_whom(void **state)
{
	static const struct {
		struct caller_piece pieces[2];
		unsigned count;
		bool other_blob; /* that the thread has read */
		uint32_t given; /* of chunk 0; two mirrors, and the registry as 4 */
		struct origin suspects[2]; /* places 0: nobody */
	} rows[] = {
		/* nothing is known: a mirror, most likely */
		{ { { 0 } }, 0, false, 0, { { 0, 1, 3, false }, { 1, 2, 3, false } } },
		{ { { 0, CHUNK, 0, 4 } }, 1, true, 0, { { 0, 1, 3, false }, { 1, 2, 3, false } } },
		{ { { 0, CHUNK, 0, 4 } }, 1, false, 0, { { 0, 1, 4, true }, { 1, 2, 3, false } } },
		{ { { 0, 2 * CHUNK, 0, 4 } },
		  1,
		  false,
		  0,
		  { { 0, 1, 4, true }, { 1, 2, 4, true } } },
		/* to the byte */
		{ { { CHUNK - 1, CHUNK + 1, 0, 4 } },
		  1,
		  false,
		  0,
		  { { 0, 1, 4, true }, { 1, 2, 4, true } } },
		{ { { CHUNK, CHUNK + 1, 0, 4 } },
		  1,
		  false,
		  0,
		  { { 0, 1, 3, false }, { 1, 2, 4, true } } },
		/* of several the one that gave it last, or all of them */
		{ { { 0, CHUNK, 0, 3 } }, 1, false, 2, { { 0, 1, 2, true }, { 1, 2, 3, false } } },
		{ { { 0, CHUNK, 0, 3 } }, 1, false, 4, { { 0, 1, 3, false }, { 1, 2, 3, false } } },
		{ { { 0, CHUNK, 0, 1 } }, 1, false, 2, { { 0, 1, 1, true }, { 1, 2, 3, false } } },
		{ { { 0, 9, 0, 1 }, { 9, CHUNK, 0, 4 } },
		  2,
		  false,
		  0,
		  { { 0, 1, 5, false }, { 1, 2, 3, false } } },
		{ { { 0, 9, 0, 1 }, { 9, CHUNK, 0, 4 } },
		  2,
		  false,
		  4,
		  { { 0, 1, 4, true }, { 1, 2, 3, false } } },
		/* from the cache */
		{ { { 0, CHUNK, 0, 0 } }, 1, false, 2, { { 0, 1, 2, true }, { 1, 2, 3, false } } },
	};
	size_t i, k;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 3 });
		memcpy(caller()->pieces, rows[i].pieces, sizeof rows[i].pieces);
		caller()->piece_count = rows[i].count;
		caller()->read_of = rows[i].other_blob ? (void *)&shelf : (void *)blob;
		set_origin(0, 1, rows[i].given);
		source_drop(source, 0, CHUNK + 1);
		assert_int_equal(blob->suspects_next, 2);
		for (k = 0; k < 2; k++) {
			const struct origin *o = &blob->suspects[k], *wanted = &rows[i].suspects[k];

			if (o->first != wanted->first || o->end != wanted->end ||
			    o->places != wanted->places || o->sure != wanted->sure)
				fail_msg("row %zu, chunk %zu: places %u%s", i, k, o->places,
					 o->sure ? ", surely" : "");
		}
		close_scene();
	}
}

/* Whether what is dropped is what this thread has read, and not what came since.  Two drops were
 * before: of chunks 2 and 3, and of chunk 5. */
static void test_dropped_since(void **state)
{
	static const struct {
		struct caller_piece pieces[2];
		unsigned count;
		uint64_t off, n; /* that are dropped now */
		bool again; /* it is the same that is dropped already */
	} rows[] = {
		{ { { 2 * CHUNK, 4 * CHUNK, 0, 0 } }, 1, 2 * CHUNK, 2 * CHUNK, true },
		{ { { 2 * CHUNK, 4 * CHUNK, 1, 0 } }, 1, 2 * CHUNK, 2 * CHUNK, false },
		{ { { 2 * CHUNK, 4 * CHUNK, 0, 0 } }, 1, 3 * CHUNK, 1, true },
		{ { { 2 * CHUNK, 4 * CHUNK, 0, 0 } }, 0, 3 * CHUNK, 1, false },
		{ { { 5 * CHUNK, 6 * CHUNK, 1, 0 } }, 1, 5 * CHUNK, CHUNK, true },
		{ { { 5 * CHUNK, 6 * CHUNK, 2, 0 } }, 1, 5 * CHUNK, CHUNK, false },
		/* what it has not read is no matter */
		{ { { 2 * CHUNK, 4 * CHUNK, 0, 0 } }, 1, 0, 4 * CHUNK, true },
		{ { { 2 * CHUNK, 4 * CHUNK, 0, 0 } }, 1, 4 * CHUNK, CHUNK, false },
		{ { { 2 * CHUNK, 4 * CHUNK, 0, 0 } }, 1, 0, 2 * CHUNK, false },
		{ { { 0, 5 * CHUNK, 0, 0 } }, 1, 0, 4 * CHUNK, false },
		{ { { 3 * CHUNK - 1, 3 * CHUNK + 1, 0, 0 } }, 1, 2 * CHUNK, 2 * CHUNK, true },
		{ { { 3 * CHUNK, 4 * CHUNK + 1, 0, 0 } }, 1, 3 * CHUNK, CHUNK + 1, false },
		/* all pieces of it */
		{ { { 2 * CHUNK, 3 * CHUNK, 0, 0 }, { 3 * CHUNK, 4 * CHUNK, 1, 0 } },
		  2,
		  2 * CHUNK,
		  2 * CHUNK,
		  false },
		{ { { 2 * CHUNK, 3 * CHUNK, 0, 0 }, { 3 * CHUNK, 4 * CHUNK, 1, 0 } },
		  2,
		  2 * CHUNK,
		  CHUNK,
		  true },
		{ { { 2 * CHUNK, 3 * CHUNK, 1, 0 }, { 3 * CHUNK, 4 * CHUNK, 0, 0 } },
		  2,
		  3 * CHUNK,
		  CHUNK,
		  true },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		open_scene(&(struct scene){ .size = 40 * CHUNK, .places = 2 });
		blob->dropped[0] = (struct chunk_range){ 2, 4 };
		blob->dropped[1] = (struct chunk_range){ 5, 6 };
		atomic_store(&blob->drops, 2);
		memcpy(caller()->pieces, rows[i].pieces, sizeof rows[i].pieces);
		caller()->piece_count = rows[i].count;
		caller()->read_of = blob;
		source_drop(source, rows[i].off, rows[i].n);
		if ((blob->drops == 2) != rows[i].again || (shelf.drops == 0) != rows[i].again)
			fail_msg("row %zu", i);
		if (!rows[i].again) {
			assert_int_equal(blob->dropped[2].first, rows[i].off / CHUNK);
			assert_int_equal(blob->dropped[2].end,
					 (rows[i].off + rows[i].n + CHUNK - 1) / CHUNK);
		}
		close_scene();
	}
}

/* ---- background download ---- */

static void test_fill(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	on_wait = all_comes;
	assert_int_equal(blob_fill(blob, CHUNK, 3 * CHUNK, &why), 0);
	assert_string_equal(shelved(), "1-3");
	shelf.claims[0][6] = OTHERS;
	assert_int_equal(blob_fill(blob, 4 * CHUNK, 4 * CHUNK, &why), 1);
	assert_string_equal(shelved(), "1-5,7");
	on_wait = nothing_is_there;
	assert_int_equal(blob_fill(blob, 9 * CHUNK, CHUNK, &why), -ENOENT);
	on_wait = shuts;
	assert_int_equal(blob_fill(blob, 10 * CHUNK, CHUNK, &why), -ESHUTDOWN);
	close_scene();
}

/* What the cache did not take when it was read is kept in memory, and still fetched for it. */
static void test_fill_what_is_kept(void **state)
{
	open_scene(&(struct scene){ .size = 40 * CHUNK });
	on_wait = all_comes;
	shelf.refused = UINT64_MAX;
	check_read(2 * CHUNK, 10);
	assert_true(blob->kept_bytes > 0);
	shelf.refused = SHELF;
	assert_int_equal(blob_fill(blob, 0, 40 * CHUNK, &why), 0);
	assert_string_equal(shelved(), "0-39");
	close_scene();
}

/* ---- opening ---- */

/* A cache that cannot be used costs fetches; one that knows the blob otherwise is an error. */
static void test_opening(void **state)
{
	static const struct {
		int cache, r;
		bool warns;
	} table[] = {
		{ 0, 0, false },
		{ -EACCES, 0, true },
		{ -EIO, 0, true },
		{ -EBADMSG, -EBADMSG, false },
		{ -ENOMEM, -ENOMEM, false },
	};
	struct blob_options o;
	struct source *s;
	size_t i;

	open_scene(&(struct scene){ .size = 40 * CHUNK });
	for (i = 0; i < sizeof table / sizeof *table; i++) {
		o = (struct blob_options){ .queue = queue,
					   .cache = (struct cache *)&shelf,
					   .origin = "https://e0.test/img",
					   .digest = "sha256:y",
					   .size = 5 * CHUNK };
		last_warning[0] = '\0';
		shelf.open_result = table[i].cache;
		assert_int_equal(blob_open(&o, &s, &why), table[i].r);
		assert_int_equal(last_warning[0] != '\0', table[i].warns);
		if (table[i].r < 0) {
			assert_string_equal(why.msg, "the shelf is shut");
			continue;
		}
		assert_int_equal(blob_cache(blob_of(s)) != NULL, table[i].cache == 0);
		assert_int_equal(blob_size(blob_of(s)), 5 * CHUNK);
		assert_string_equal(blob_digest(blob_of(s)), "sha256:y");
		assert_true(blob_is(s));
		source_close(s);
	}
	assert_non_null(blob_cache(blob));
	close_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_want),
		cmocka_unit_test(test_want_bare),
		cmocka_unit_test(test_want_bare_goes_on),
		cmocka_unit_test(test_ahead_bare),
		cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_ahead_at_once),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_stuck),
		cmocka_unit_test(test_passed_over),
		cmocka_unit_test(test_blamed_once),
		cmocka_unit_test(test_whom),
		cmocka_unit_test(test_dropped_since),
		cmocka_unit_test(test_fill),
		cmocka_unit_test(test_fill_what_is_kept),
		cmocka_unit_test(test_opening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
