/* SPDX-License-Identifier: Apache-2.0 */
/* test-replay.c - what is asked for when a replay begins, rests and goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "prefetch/replay.h"
#include "tests/unit/allocs.h"
#include "tests/unit/sequences.h"
#include "tests/unit/stack.h"

enum { CHUNK = SEQUENCE_CHUNK / SECTOR, SECTORS = 32 * CHUNK };

static struct stack stack;
static struct image *image;

static struct replay *open_replay(void)
{
	/* Chunks 1, 8 and 9, 4: of the layer's file, which has 8 sectors before its data. */
	struct trace_read reads[] = { { .lba = CHUNK, .sectors = 1 },
				      { .lba = 8 * CHUNK, .sectors = CHUNK },
				      { .lba = 4 * CHUNK, .sectors = 1 } };
	struct trace t = { .disk_size = image_size(image), .reads = reads, .count = 3 };
	struct replay *r;

	assert_int_equal(replay_open(image, &t, &r, NULL), 0);
	return r;
}

static void assert_started(size_t i, const struct sequence_range *want, size_t count)
{
	size_t k;

	assert_int_equal(sequences.count, i + 1);
	assert_int_equal(sequences.started[i]->count, count);
	for (k = 0; k < count; k++) {
		assert_ptr_equal(sequences.started[i]->ranges[k].source, sequences.remote[0]);
		assert_int_equal(sequences.started[i]->ranges[k].first, want[k].first);
		assert_int_equal(sequences.started[i]->ranges[k].count, want[k].count);
	}
}

static void it_rests_and_goes_on(void **state)
{
	static const struct sequence_range all[] = { { NULL, 1, 1 },
						     { NULL, 8, 2 },
						     { NULL, 4, 1 } };
	struct replay *r = open_replay();

	assert_int_equal(sequences.count, 0); /* opening asks for nothing */
	assert_int_equal(replay_run(r, NULL), 0);
	assert_started(0, all, 3);
	assert_int_equal(replay_run(r, NULL), 0); /* it runs */
	assert_int_equal(sequences.count, 1);
	replay_pause(r);
	assert_int_equal(sequences_running(), 0);
	replay_pause(r);
	sequences.present = 1 << 1 | 1 << 8; /* of a range a part, which is not enough */
	assert_int_equal(replay_run(r, NULL), 0);
	assert_started(1, all + 1, 2);
	assert_int_equal(sequences_running(), 1);
	replay_close(r);
	assert_int_equal(sequences_running(), 0);
}

static void what_is_there_is_not_asked_for(void **state)
{
	struct replay *r = open_replay();

	sequences.present = 0x3ff;
	assert_int_equal(replay_run(r, NULL), 0);
	assert_int_equal(sequences.count, 0);
	sequences.present = 0;
	assert_int_equal(replay_run(r, NULL), 0); /* it was lost: it is asked for now */
	assert_int_equal(sequences.count, 1);
	replay_close(r);
}

static void a_trace_may_need_nothing(void **state)
{
	struct trace t = { .disk_size = image_size(image) };
	struct replay *r;

	assert_int_equal(replay_open(image, &t, &r, NULL), 0);
	assert_int_equal(replay_run(r, NULL), 0);
	assert_int_equal(sequences.count, 0);
	replay_close(r);
	replay_close(NULL);
}

static void it_knows_what_it_replays(void **state)
{
	static const struct trace_read in = { .lba = CHUNK, .sectors = 2 };
	static const struct trace_read out = { .lba = 20 * CHUNK, .sectors = 2 };
	struct replay *r = open_replay();

	assert_int_equal(replay_look_up(r, &in), PLAN_HAS_ALL);
	assert_int_equal(replay_look_up(r, &out), PLAN_LACKS_SOME);
	replay_close(r);
}

static void lack_of_memory_is_told(void **state)
{
	struct trace_read read = { .lba = 0, .sectors = 1 };
	struct trace t = { .reads = &read, .count = 1 };
	struct replay *r;
	long k;
	int code;

	for (k = 0, code = -ENOMEM; code == -ENOMEM; k++) {
		allocs_left = k;
		code = replay_open(image, &t, &r, NULL);
		allocs_left = -1;
	}
	assert_int_equal(code, 0);
	assert_int_equal(k, 5);
	allocs_left = 0;
	assert_int_equal(replay_run(r, NULL), -ENOMEM);
	allocs_left = -1;
	sequences.refuse = true;
	assert_int_equal(replay_run(r, NULL), -ENOMEM);
	sequences.refuse = false;
	assert_int_equal(replay_run(r, NULL), 0);
	assert_int_equal(sequences.count, 1);
	replay_close(r);
}

static int open_image(void **state)
{
	struct layer_writer *w;
	uint8_t *bytes = calloc(SECTORS, SECTOR);

	stack_init(&stack);
	w = stack_add(&stack, SECTORS);
	assert_int_equal(layer_writer_data(w, 0, bytes, SECTORS, NULL), 0);
	stack_finish(w);
	free(bytes);
	image = stack_open(&stack);
	sequences_add_remote(image, 0);
	return 0;
}

static int close_image(void **state)
{
	image_close(image);
	stack_release(&stack);
	sequences_forget();
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_image, close_image)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(it_rests_and_goes_on),	TEST(what_is_there_is_not_asked_for),
		TEST(a_trace_may_need_nothing), TEST(it_knows_what_it_replays),
		TEST(lack_of_memory_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
