/* SPDX-License-Identifier: Apache-2.0 */
/* test-recorder.c - what is noted is handed out, once, in order; and each of the ends of a window.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "prefetch/recorder.h"

enum { THREADS = 4, READS = 20000, FOREVER = 3600 };

#define DISK ((uint64_t)1 << 40)

static struct recorder *make(unsigned seconds, unsigned idle)
{
	struct recorder *r;

	assert_int_equal(recorder_open(seconds, idle, &r, NULL), 0);
	return r;
}

static struct trace take(struct recorder *r, uint64_t disk)
{
	struct trace t = { 0 };

	assert_int_equal(recorder_take(r, disk, &t, NULL), 0);
	return t;
}

static void reads_come_out_in_order(void **state)
{
	struct recorder *r = make(FOREVER, FOREVER);
	struct trace t;
	size_t i;

	assert_false(recorder_look(r)); /* it has not opened */
	for (i = 0; i < 100; i++)
		recorder_note(r, (100 - i) * 4096, 4096);
	recorder_note(r, 1, 0); /* nothing */
	recorder_note(r, 511, 2); /* two sectors */
	assert_false(recorder_look(r));
	t = take(r, DISK);
	assert_int_equal(t.count, 101);
	for (i = 0; i < 100; i++) {
		assert_int_equal(t.reads[i].lba, (100 - i) * 8);
		assert_int_equal(t.reads[i].sectors, 8);
		assert_true(i == 0 || t.reads[i].us >= t.reads[i - 1].us);
	}
	assert_int_equal(t.reads[100].lba, 0);
	assert_int_equal(t.reads[100].sectors, 2);
	trace_release(&t);
	recorder_close(r);
}

static void a_closed_window_takes_nothing(void **state)
{
	struct recorder *r = make(FOREVER, FOREVER);
	struct trace t;

	recorder_note(r, 0, 512);
	t = take(r, DISK);
	assert_int_equal(t.count, 1);
	trace_release(&t);
	recorder_note(r, 512, 512);
	t = take(r, DISK);
	assert_int_equal(t.count, 0);
	trace_release(&t);
	recorder_reset(r);
	assert_false(recorder_look(r));
	recorder_note(r, 1024, 512);
	t = take(r, DISK);
	assert_int_equal(t.count, 1);
	assert_int_equal(t.reads[0].lba, 2);
	trace_release(&t);
	recorder_close(r);
}

static void what_lies_beyond_the_disk_is_left_out(void **state)
{
	struct recorder *r = make(FOREVER, FOREVER);
	struct trace t;

	recorder_note(r, 4096, 4096);
	recorder_note(r, 4096, 4097);
	recorder_note(r, 1 << 20, 512);
	t = take(r, 8192);
	assert_int_equal(t.count, 1);
	trace_release(&t);
	recorder_close(r);
}

/* Looks until it says that the window is over; gives up after some seconds. */
static double seconds_until_over(struct recorder *r, bool read_on)
{
	unsigned ticks;

	for (ticks = 0; ticks < 100 && !recorder_look(r); ticks++) {
		usleep(50000);
		if (read_on)
			recorder_note(r, (uint64_t)ticks << 20, 4096);
		else
			recorder_note(r, 0, 4096); /* nothing new */
	}
	return ticks * 0.05;
}

static void it_ends_when_nothing_new_is_read(void **state)
{
	struct recorder *r = make(FOREVER, 1);
	double seconds;

	recorder_note(r, 0, 4096);
	seconds = seconds_until_over(r, false);
	assert_true(seconds > 0.5 && seconds < 4);
	recorder_close(r);
}

static void it_ends_in_any_case(void **state)
{
	struct recorder *r = make(1, FOREVER);
	double seconds;

	recorder_note(r, 0, 4096);
	seconds = seconds_until_over(r, true);
	assert_true(seconds > 0.5 && seconds < 4);
	recorder_close(r);
}

static void something_new_keeps_it_open(void **state)
{
	struct recorder *r = make(FOREVER, 1);
	unsigned i;

	for (i = 0; i < 40; i++) {
		recorder_note(r, (uint64_t)i << 20, 4096);
		assert_false(recorder_look(r));
		usleep(50000);
	}
	recorder_close(r);
}

static void it_ends_when_it_is_full(void **state)
{
	struct recorder *r = make(FOREVER, FOREVER);
	struct trace t;
	uint64_t i;

	for (i = 0; i < TRACE_READS_MAX + 100; i++)
		recorder_note(r, i << 12, 4096);
	assert_true(recorder_look(r));
	t = take(r, UINT64_C(1) << 50);
	assert_int_equal(t.count, TRACE_READS_MAX);
	assert_int_equal(t.reads[TRACE_READS_MAX - 1].lba, (uint64_t)(TRACE_READS_MAX - 1) * 8);
	trace_release(&t);
	recorder_close(r);
}

struct reader {
	pthread_t thread;
	struct recorder *recorder;
	unsigned number;
};

static void *read_all(void *arg)
{
	struct reader *x = arg;
	uint64_t i;

	for (i = 0; i < READS; i++)
		recorder_note(x->recorder, (i * THREADS + x->number) * 512, 512);
	return NULL;
}

static void threads_lose_nothing(void **state)
{
	struct reader readers[THREADS];
	struct recorder *r = make(FOREVER, FOREVER);
	uint8_t *seen = calloc(THREADS, READS);
	struct trace t;
	size_t i;

	for (i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){ .recorder = r, .number = (unsigned)i };
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]),
				 0);
	}
	for (i = 0; i < 100; i++)
		assert_false(recorder_look(r));
	for (i = 0; i < THREADS; i++)
		pthread_join(readers[i].thread, NULL);
	t = take(r, DISK);
	assert_int_equal(t.count, THREADS * READS);
	for (i = 0; i < t.count; i++) {
		assert_true(i == 0 || t.reads[i].us >= t.reads[i - 1].us);
		assert_int_equal(seen[t.reads[i].lba]++, 0);
	}
	free(seen);
	trace_release(&t);
	recorder_close(r);
}

/* Under a sanitizer: nothing that a late reader does may go wrong. */
static void windows_end_beside_readers(void **state)
{
	struct reader readers[THREADS];
	struct recorder *r = make(FOREVER, FOREVER);
	size_t i, k, total = 0;

	for (i = 0; i < THREADS; i++) {
		readers[i] = (struct reader){ .recorder = r, .number = (unsigned)i };
		assert_int_equal(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]),
				 0);
	}
	for (k = 0; k < 50; k++) {
		struct trace t = take(r, DISK);

		for (i = 0; i < t.count; i++)
			assert_int_equal(t.reads[i].sectors, 1);
		total += t.count;
		trace_release(&t);
		recorder_reset(r);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(readers[i].thread, NULL);
	assert_true(total <= THREADS * READS);
	recorder_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_come_out_in_order),
		cmocka_unit_test(a_closed_window_takes_nothing),
		cmocka_unit_test(what_lies_beyond_the_disk_is_left_out),
		cmocka_unit_test(it_ends_when_nothing_new_is_read),
		cmocka_unit_test(it_ends_in_any_case),
		cmocka_unit_test(something_new_keeps_it_open),
		cmocka_unit_test(it_ends_when_it_is_full),
		cmocka_unit_test(threads_lose_nothing),
		cmocka_unit_test(windows_end_beside_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
