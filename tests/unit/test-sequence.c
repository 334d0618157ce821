/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges that a replay asks for: passed over where they are there, cut where there is room, stopped
 * in between. */
#include "fetch/sequence.h"
#include "tests/unit/alloc.h"
#include "tests/unit/bloblib.h"

static struct sequence *start(const struct sequence_range *ranges, size_t count)
{
	struct sequence_range *copy = malloc(count * sizeof *copy);
	struct sequence *s;
	size_t i;

	memcpy(copy, ranges, count * sizeof *copy);
	for (i = 0; i < count; i++)
		copy[i].source = source;
	assert_int_equal(sequence_start(copy, count, &s, NULL), 0);
	return s;
}

/* All that is asked for until nothing is, as "first+count" each. */
static const char *all_asked(void)
{
	static char text[512];
	struct http_exchange *x;
	size_t at = 0;

	text[0] = '\0';
	for (stage_run(); stage.count > 0; stage_run()) {
		x = stage.running[0];
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%d+%d", at ? " " : "",
				       (int)(x->first / CHUNK),
				       (int)((x->last - x->first) / CHUNK + 1));
		answer(x, 0, 0);
	}
	return text;
}

static void test_takes(void **state)
{
	struct source plain = { 0 };

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	assert_true(sequence_takes(source));
	assert_false(sequence_takes(&plain));
	close_scene();
	open_scene(&(struct scene){ .size = 8 * CHUNK, .bare = true });
	assert_false(sequence_takes(source));
	close_scene();
}

static void test_present(void **state)
{
	open_scene(&(struct scene){ .size = 8 * CHUNK - 9 });
	put(6);
	assert_true(sequence_is_present(&(struct sequence_range){ source, 6, 1 }));
	assert_false(sequence_is_present(&(struct sequence_range){ source, 5, 2 }));
	assert_false(sequence_is_present(&(struct sequence_range){ source, 6, 2 }));
	put(7); /* which is short */
	assert_true(sequence_is_present(&(struct sequence_range){ source, 6, 2 }));
	assert_true(sequence_is_present(&(struct sequence_range){ source, 6, 9 }));
	close_scene();
}

static void test_ranges(void **state)
{
	static const struct sequence_range ranges[] = {
		{ NULL, 20, 4 },   { NULL, 10, 3 }, { NULL, 300, 1 },
		{ NULL, 100, 40 }, { NULL, 90, 2 },
	};
	struct sequence *s;

	open_scene(&(struct scene){ .size = 400 * CHUNK, .connections = 1 });
	put(11);
	shelf.claims[0][22] = OTHERS;
	s = start(ranges, 5);
	assert_true(queue_is_replaying(queue));
	/* In order within the first window, of which 100 to 139 is the last, cut by the room that
	 * there is (512 KiB); then what is left. */
	assert_string_equal(all_asked(), "10+1 12+1 20+2 23+1 100+32 132+8 300+1 90+2");
	assert_false(queue_is_replaying(queue));
	assert_int_equal(blob->hints, 0);
	sequence_close(s);
	close_scene();
}

static void test_nothing_missing(void **state)
{
	static const struct sequence_range ranges[] = { { NULL, 3, 1 }, { NULL, 1, 1 } };
	struct sequence *s;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	put(1);
	put(3);
	s = start(ranges, 2);
	sequence_close(s); /* before its first turn, or after it */
	assert_string_equal(all_asked(), "");
	assert_false(queue_is_replaying(queue));
	close_scene();
}

/* What is under way goes on, the rest of its range is not asked for. */
static void test_close(void **state)
{
	static const struct sequence_range ranges[] = { { NULL, 0, 200 }, { NULL, 300, 9 } };
	struct sequence *s;

	open_scene(&(struct scene){ .size = 400 * CHUNK, .connections = 1 });
	s = start(ranges, 2);
	stage_run();
	assert_int_equal(stage.count, 1);
	assert_int_equal(blob->hints, 1);
	sequence_close(s);
	assert_true(queue_is_replaying(queue));
	assert_string_equal(all_asked(), "0+32"); /* 512 KiB */
	assert_false(queue_is_replaying(queue));
	assert_int_equal(blob->hints, 0);
	close_scene();
}

static void test_shut(void **state)
{
	static const struct sequence_range ranges[] = { { NULL, 0, 200 } };
	struct sequence *s;

	open_scene(&(struct scene){ .size = 400 * CHUNK, .connections = 1 });
	s = start(ranges, 1);
	stage_run();
	queue_shut(queue);
	assert_false(queue_is_replaying(queue));
	assert_int_equal(blob->hints, 0);
	sequence_close(s);
	sequence_close(NULL);
	close_scene();
}

/* A hint that cannot be made is left out. */
static void test_too_many_hints(void **state)
{
	static const struct sequence_range ranges[] = { { NULL, 0, 2 }, { NULL, 5, 1 } };
	struct sequence *s;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	blob->hints = HINTS_MAX;
	s = start(ranges, 2);
	assert_string_equal(all_asked(), "");
	assert_false(queue_is_replaying(queue));
	assert_int_equal(blob->hints, HINTS_MAX);
	blob->hints = 0;
	sequence_close(s);
	close_scene();
}

/* The ranges are taken over all the same. */
static void test_no_memory(void **state)
{
	struct sequence_range *ranges = calloc(1, sizeof *ranges);
	struct sequence *s;
	struct err e;

	open_scene(&(struct scene){ .size = 8 * CHUNK });
	*ranges = (struct sequence_range){ source, 0, 2 };
	alloc_left = 0;
	assert_int_equal(sequence_start(ranges, 1, &s, &e), -ENOMEM);
	alloc_left = -1;
	assert_string_equal(e.msg, "out of memory");
	assert_false(queue_is_replaying(queue));
	close_scene();
}

/* Many windows, each of 32 chunks or more; who closes it in between stops it there. */
static void test_windows(void **state)
{
	enum { RANGES = 40 };
	struct sequence_range ranges[RANGES];
	struct sequence *s, *other;
	unsigned i;

	for (i = 0; i < RANGES; i++) /* backwards, within a window forwards */
		ranges[i] = (struct sequence_range){ NULL, 900 - 20 * i, 11 };
	open_scene(&(struct scene){ .size = SHELF * CHUNK, .connections = 1 });
	s = start(ranges, RANGES);
	other = start(ranges, 1);
	queue_note_replays(queue, 1);
	(void)all_asked();
	assert_true(queue_is_replaying(queue)); /* that is neither of them */
	queue_note_replays(queue, -1);
	assert_false(queue_is_replaying(queue));
	for (i = 0; i < RANGES; i++)
		assert_true(sequence_is_present(
			&(struct sequence_range){ source, ranges[i].first, 11 }));
	for (i = 0; i < SHELF; i++)
		assert_int_equal(shelf.there[i], i >= 120 && i <= 910 && (i - 120) % 20 < 11);
	sequence_close(other);
	sequence_close(s);
	close_scene();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_takes),	       cmocka_unit_test(test_present),
		cmocka_unit_test(test_ranges),	       cmocka_unit_test(test_nothing_missing),
		cmocka_unit_test(test_close),	       cmocka_unit_test(test_shut),
		cmocka_unit_test(test_too_many_hints), cmocka_unit_test(test_no_memory),
		cmocka_unit_test(test_windows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
