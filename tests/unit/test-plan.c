/* SPDX-License-Identifier: Apache-2.0 */
/* test-plan.c - what has to be fetched for a trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "prefetch/plan.h"
#include "tests/unit/stack.h"

enum { PIECES = 50000, SECONDS = 20 };

/* Whoever may push to a registry may push such a trace.  A thread that plans it holds up the end of
 * the server. */
static void repetitions_take_no_time(void **state)
{
	struct trace t = { .count = TRACE_READS_MAX };
	uint8_t bytes[SECTOR] = { 1 };
	struct layer_writer *w;
	struct image *image;
	struct plan plan;
	struct stack s;
	uint64_t began;
	size_t i;

	stack_init(&s);
	w = stack_add(&s, 2 * PIECES);
	for (i = 0; i < PIECES; i++)
		assert_int_equal(layer_writer_data(w, 2 * i, bytes, 1, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
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
	image_close(image);
	stack_release(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(repetitions_take_no_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
