/* SPDX-License-Identifier: Apache-2.0 */
/* test-plan.c - what has to be fetched for a trace, of which layer, and in which order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "prefetch/plan.h"
#include "tests/unit/allocs.h"
#include "tests/unit/guard.h"
#include "tests/unit/heap.h"
#include "tests/unit/sequences.h"
#include "tests/unit/stack.h"

enum {
	PIECES = 50000,
	SECONDS = 20,
	HEAD = 4096 / SECTOR, /* of a layer's file, before its data */
	CHUNK = SEQUENCE_CHUNK / SECTOR,
};

static struct stack stack;
static struct image *image;

static void add_layer(uint64_t disk, uint64_t lba, uint64_t sectors)
{
	struct layer_writer *w = stack_add(&stack, disk);
	uint8_t *bytes = calloc(sectors, SECTOR);

	assert_int_equal(layer_writer_data(w, lba, bytes, sectors, NULL), 0);
	stack_finish(w);
	free(bytes);
}

static void open_image(void)
{
	image = stack_open(&stack);
}

static int close_image(void **state)
{
	allocs_left = -1;
	image_close(image);
	image = NULL;
	stack_release(&stack);
	sequences_forget();
	return 0;
}

static int new_stack(void **state)
{
	stack_init(&stack);
	return 0;
}

static struct plan plan_of(struct trace_read *reads, size_t count)
{
	size_t size = count * sizeof *reads;
	struct trace t = { .disk_size = image_size(image),
			   .reads = guard_copy(reads, size),
			   .count = count };
	struct plan plan;

	assert_int_equal(plan_make(image, &t, &plan, NULL), 0);
	guard_free(t.reads, size);
	return plan;
}

#define PLAN(...)                                                                                  \
	plan_of((struct trace_read[]){ __VA_ARGS__ },                                              \
		sizeof((struct trace_read[]){ __VA_ARGS__ }) / sizeof(struct trace_read))

/* Chunks [first, first + count) of the remote layer with this number among these. */
static void assert_range(const struct plan *p, size_t i, size_t remote, uint64_t first,
			 uint64_t count)
{
	assert_true(i < p->count);
	assert_ptr_equal(p->ranges[i].source, sequences.remote[remote]);
	assert_int_equal(p->ranges[i].first, first);
	assert_int_equal(p->ranges[i].count, count);
}

/* LBA n is sector HEAD + n of the layer's file. */
static void sectors_become_chunks(void **state)
{
	enum { N = 10 * CHUNK };
	static const struct {
		struct trace_read read;
		uint64_t first, count;
	} rows[] = {
		{ { .lba = 0, .sectors = 1 }, 0, 1 },
		{ { .lba = CHUNK - HEAD - 1, .sectors = 1 }, 0, 1 },
		{ { .lba = CHUNK - HEAD, .sectors = 1 }, 1, 1 },
		{ { .lba = CHUNK - HEAD - 1, .sectors = 2 }, 0, 2 },
		{ { .lba = CHUNK - HEAD, .sectors = CHUNK }, 1, 1 },
		{ { .lba = CHUNK - HEAD, .sectors = CHUNK + 1 }, 1, 2 },
		{ { .lba = 0, .sectors = N }, 0, 11 },
		{ { .lba = N - 1, .sectors = 1 }, 10, 1 },
	};
	size_t i;

	add_layer(N, 0, N);
	open_image();
	sequences_add_remote(image, 0);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct plan p = PLAN(rows[i].read);

		assert_int_equal(p.count, 1);
		assert_int_equal(p.chunks, rows[i].count);
		assert_range(&p, 0, 0, rows[i].first, rows[i].count);
		plan_release(&p);
	}
}

static void each_chunk_is_planned_at_its_first_use(void **state)
{
	enum { N = 10 * CHUNK };
	struct plan p;

	add_layer(N, 0, N);
	open_image();
	sequences_add_remote(image, 0);
	p = PLAN({ .lba = 5 * CHUNK, .sectors = 1 }, { .lba = 0, .sectors = 1 },
		 { .lba = 5 * CHUNK + 1, .sectors = 1 }, { .lba = CHUNK, .sectors = 1 },
		 { .lba = 4 * CHUNK, .sectors = 3 * CHUNK });
	assert_int_equal(p.chunks, 6);
	assert_int_equal(p.count, 4);
	assert_range(&p, 0, 0, 5, 1);
	assert_range(&p, 1, 0, 0, 2); /* neighbours of two reads are one range */
	assert_range(&p, 2, 0, 4, 1);
	assert_range(&p, 3, 0, 6, 2);
	plan_release(&p);
}

/* The bottom and the top layer are remote, the one between them is not. */
static void make_three_layers(void)
{
	add_layer(64 * CHUNK, 0, 8 * CHUNK);
	add_layer(64 * CHUNK, 2 * CHUNK, 2 * CHUNK);
	add_layer(64 * CHUNK, 32 * CHUNK, 8 * CHUNK);
	open_image();
	sequences_add_remote(image, 0);
	sequences_add_remote(image, 2);
}

static void only_what_is_remote_is_planned(void **state)
{
	struct plan p;

	make_three_layers();
	p = PLAN({ .lba = 2 * CHUNK, .sectors = 2 * CHUNK }, { .lba = 50 * CHUNK, .sectors = 10 },
		 { .lba = 32 * CHUNK, .sectors = 1 }, { .lba = 60 * CHUNK, .sectors = 5 * CHUNK });
	assert_int_equal(p.count, 1);
	assert_range(&p, 0, 1, 0, 1);
	plan_release(&p);
	p = PLAN({ .lba = 2 * CHUNK - 1, .sectors = 2 * CHUNK + 2 });
	assert_int_equal(p.count, 2);
	assert_range(&p, 0, 0, 2, 1);
	assert_range(&p, 1, 0, 4, 1);
	plan_release(&p);
	/* Neighbours by number, of two layers. */
	p = PLAN({ .lba = 0, .sectors = 1 }, { .lba = 33 * CHUNK, .sectors = 1 });
	assert_int_equal(p.count, 2);
	assert_range(&p, 0, 0, 0, 1);
	assert_range(&p, 1, 1, 1, 1);
	plan_release(&p);
}

static enum plan_has look_up(const struct plan *p, uint64_t lba, uint32_t sectors)
{
	struct trace_read read = { .lba = lba, .sectors = sectors };

	return plan_look_up(p, image, &read);
}

static void a_plan_knows_what_it_has(void **state)
{
	struct plan p;

	make_three_layers();
	p = PLAN({ .lba = 0, .sectors = 4 * CHUNK - HEAD }, { .lba = 33 * CHUNK, .sectors = 1 });
	assert_int_equal(p.chunks, 4);
	assert_int_equal(look_up(&p, 0, 1), PLAN_HAS_ALL);
	assert_int_equal(look_up(&p, 0, 4 * CHUNK), PLAN_HAS_ALL); /* its end is local */
	assert_int_equal(look_up(&p, 0, 4 * CHUNK + 1), PLAN_LACKS_SOME);
	assert_int_equal(look_up(&p, 4 * CHUNK, 1), PLAN_LACKS_SOME);
	assert_int_equal(look_up(&p, 4 * CHUNK, 1), PLAN_LACKS_SOME); /* asking adds nothing */
	assert_int_equal(look_up(&p, 2 * CHUNK, 2 * CHUNK), PLAN_NOTHING_REMOTE);
	assert_int_equal(look_up(&p, 40 * CHUNK, 24 * CHUNK), PLAN_NOTHING_REMOTE);
	assert_int_equal(look_up(&p, 33 * CHUNK, CHUNK - HEAD), PLAN_HAS_ALL);
	assert_int_equal(look_up(&p, 32 * CHUNK, CHUNK), PLAN_LACKS_SOME);
	/* What does not fit is of another disk. */
	assert_int_equal(look_up(&p, 0, 65 * CHUNK), PLAN_NOTHING_REMOTE);
	assert_int_equal(p.chunks, 4);
	assert_int_equal(p.count, 2);
	plan_release(&p);
	/* One lacking chunk is the answer, whatever follows. */
	p = PLAN({ .lba = 5 * CHUNK, .sectors = 1 });
	assert_int_equal(look_up(&p, 4 * CHUNK, 2 * CHUNK), PLAN_LACKS_SOME);
	/* And a plan of nothing has nothing. */
	plan_release(&p);
	p = plan_of(NULL, 0);
	assert_int_equal(p.count, 0);
	assert_int_equal(look_up(&p, 0, 1), PLAN_LACKS_SOME);
	plan_release(&p);
}

/* More ranges than there is room for at first. */
static void many_ranges_keep_their_order(void **state)
{
	enum { N = 700 };
	struct trace_read reads[2 * N];
	struct plan p;
	size_t i;

	add_layer(2 * N * CHUNK, 0, N * CHUNK);
	add_layer(2 * N * CHUNK, N * CHUNK, N * CHUNK);
	open_image();
	sequences_add_remote(image, 0);
	sequences_add_remote(image, 1);
	for (i = 0; i < 2 * N; i++)
		reads[i] = (struct trace_read){ .lba = (i / 2 + i % 2 * N) * CHUNK, .sectors = 1 };
	p = plan_of(reads, 2 * N);
	assert_int_equal(p.count, 2 * N);
	for (i = 0; i < 2 * N; i++)
		assert_range(&p, i, i % 2, i / 2, 1);
	plan_release(&p);
}

/* Of many chunks, one by one: those that are planned, and those that are not. */
static void each_chunk_is_known(void **state)
{
	enum { N = 300 };
	static const unsigned steps[] = { 1, 2, 3, 63, 64, 65 };
	struct trace_read reads[2 * N];
	struct plan p;
	size_t i, k, n;

	add_layer(N * CHUNK, 0, N * CHUNK);
	open_image();
	sequences_add_remote(image, 0);
	for (k = 0; k < sizeof steps / sizeof *steps; k++) {
		for (i = n = 0; i < 2 * N; i++) /* each twice */
			if (i % N % steps[k] == 0)
				reads[n++] =
					(struct trace_read){ .lba = i % N * CHUNK, .sectors = 1 };
		p = plan_of(reads, n);
		assert_int_equal(p.chunks, n / 2);
		assert_int_equal(p.count, k == 0 ? 1 : n / 2);
		for (i = 0; i < N; i++)
			assert_int_equal(look_up(&p, i * CHUNK, 1),
					 i % steps[k] == 0 ? PLAN_HAS_ALL : PLAN_LACKS_SOME);
		plan_release(&p);
	}
}

/* Of the trace that repeats itself, too, all that is read is planned, in order of first use. */
static void repetitions_hide_nothing(void **state)
{
	enum { HALF = 100, READS = 400, EXHAUSTED = 64 * (READS + 2 * HALF) / (2 * HALF) };
	struct trace_read reads[READS];
	uint8_t bytes[SECTOR] = { 0 };
	struct layer_writer *w = stack_add(&stack, 4 * HALF);
	struct plan p;
	size_t i;

	for (i = 0; i < 2 * HALF; i++)
		assert_int_equal(layer_writer_data(w, 2 * i, bytes, 1, NULL), 0);
	stack_finish(w);
	open_image();
	sequences_add_remote(image, 0);
	assert_int_equal(image_mapping_count(image), 2 * HALF);
	for (i = 0; i < READS; i++)
		reads[i] = (struct trace_read){ .sectors = 2 * HALF };
	/* That which the patience ends with, and the last. */
	reads[EXHAUSTED] = (struct trace_read){ .lba = 350, .sectors = 50 };
	reads[READS - 1] = (struct trace_read){ .lba = 300, .sectors = 50 };
	p = plan_of(reads, READS);
	assert_int_equal(p.chunks, 7);
	assert_int_equal(p.count, 3);
	assert_range(&p, 0, 0, 0, 4); /* sectors 8 to 107 of the file */
	assert_range(&p, 1, 0, 5, 2); /* 183 to 207 */
	assert_range(&p, 2, 0, 4, 1); /* 158 to 182 */
	plan_release(&p);
}

static void lack_of_memory_is_told(void **state)
{
	struct trace_read reads[2] = { { .lba = 0, .sectors = 1 },
				       { .lba = 33 * CHUNK, .sectors = 1 } };
	struct trace t = { .reads = reads, .count = 2 };
	struct err e = { "" };
	struct plan p;
	long k;
	int r;

	make_three_layers();
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		allocs_left = k;
		r = plan_make(image, &t, &p, &e);
		allocs_left = -1;
	}
	assert_int_equal(r, 0);
	assert_int_equal(k, 5); /* the layers, two maps, the ranges */
	assert_string_equal(e.msg, "Cannot allocate memory");
	assert_int_equal(p.chunks, 2);
	plan_release(&p);
}

static void make_and_release(void)
{
	struct plan p = PLAN({ .lba = 0, .sectors = 1 }, { .lba = 33 * CHUNK, .sectors = 1 });

	plan_release(&p);
	assert_true(!p.ranges && !p.layers && p.count == 0 && p.layer_count == 0);
	plan_release(&p); /* again is allowed */
}

static void nothing_is_left_behind(void **state)
{
	make_three_layers();
	HEAP_STEADY(make_and_release());
}

/* Whoever may push to a registry may push such a trace.  A thread that plans it holds up the end of
 * the server. */
static void repetitions_take_no_time(void **state)
{
	struct trace t = { .count = TRACE_READS_MAX };
	uint8_t bytes[SECTOR] = { 1 };
	struct layer_writer *w;
	struct plan plan;
	uint64_t began;
	size_t i;

	w = stack_add(&stack, 2 * PIECES);
	for (i = 0; i < PIECES; i++)
		assert_int_equal(layer_writer_data(w, 2 * i, bytes, 1, NULL), 0);
	stack_finish(w);
	open_image();
	t.disk_size = image_size(image);
	t.reads = malloc(t.count * sizeof *t.reads);
	for (i = 0; i < t.count; i++)
		t.reads[i] = (struct trace_read){ .sectors = 2 * PIECES };
	began = clock_ms();
	assert_int_equal(plan_make(image, &t, &plan, NULL), 0);
	print_message("%zu ms\n", (size_t)(clock_ms() - began));
	assert_true(clock_ms() - began < SECONDS * 1000);
	assert_int_equal(plan.count, 0); /* nothing is remote */
	assert_int_equal(plan_look_up(&plan, image, &t.reads[0]), PLAN_NOTHING_REMOTE);
	plan_release(&plan);
	free(t.reads);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, new_stack, close_image)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sectors_become_chunks),
		TEST(each_chunk_is_planned_at_its_first_use),
		TEST(only_what_is_remote_is_planned),
		TEST(a_plan_knows_what_it_has),
		TEST(many_ranges_keep_their_order),
		TEST(repetitions_hide_nothing),
		TEST(each_chunk_is_known),
		TEST(lack_of_memory_is_told),
		TEST(nothing_is_left_behind),
		TEST(repetitions_take_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
