/* SPDX-License-Identifier: Apache-2.0 */
/* test-recorder.c - what is noted is handed out, once, in order; and each of the ends of a window.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "prefetch/recorder.h"
#include "tests/unit/alloc.h"
#include "tests/unit/heap.h"

enum { THREADS = 4, READS = 20000, FOREVER = 3600, SECOND = 1000000 };

#define DISK ((uint64_t)1 << 40)

static struct recorder *make(unsigned seconds, unsigned idle)
{
	struct recorder *r;

	assert_int_equal(recorder_open(seconds, idle, &r, NULL), 0);
	return r;
}

static struct trace take(struct recorder *r, uint64_t disk)
{
	struct trace t = { .count = 77 }; /* whatever was there */

	assert_int_equal(recorder_take(r, disk, &t, NULL), 0);
	return t;
}

static bool mappings_are_refused;

void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);

void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
	return mappings_are_refused ? MAP_FAILED : __real_mmap64(at, n, prot, flags, fd, off);
}

static void open_without_memory(void)
{
	struct err e = { "" };
	struct recorder *r;
	struct trace t;
	long k;

	for (k = 0; k < 3; k++) {
		alloc_left = k;
		mappings_are_refused = k == 2;
		assert_int_equal(recorder_open(1, 1, &r, &e), -ENOMEM);
		assert_string_equal(e.msg, "out of memory");
	}
	mappings_are_refused = false;
	alloc_left = -1;
	r = make(1, 1);
	recorder_note(r, 0, 512);
	alloc_left = 0;
	assert_int_equal(recorder_take(r, DISK, &t, &e), -ENOMEM);
	assert_string_equal(e.msg, "out of memory");
	alloc_left = -1;
	recorder_close(r);
	recorder_close(NULL);
}

/* A failed opening or taking leaves nothing behind. */
static void lack_of_memory_is_told(void **state)
{
	HEAP_STEADY(open_without_memory());
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

/* us; the recorder's clock in the tests below */
static uint64_t now;

static uint64_t tell_us(void)
{
	return now;
}

static int stop_clock(void **state)
{
	static struct clock_ops ops;

	ops = clock_system;
	ops.now_us = tell_us;
	clock_use(&ops);
	now = 1000 * SECOND;
	return 0;
}

static int start_clock(void **state)
{
	clock_use(NULL);
	return 0;
}

static void times_count_from_the_first_read(void **state)
{
	static const struct {
		int64_t after; /* us, of the first read */
		uint32_t us;
	} rows[] = {
		{ 0, 0 },
		{ -5, 0 }, /* a thread that looked at the clock earlier */
		{ 7, 7 },
		{ 1000000, 1000000 },
		{ UINT32_MAX, UINT32_MAX },
		{ (int64_t)UINT32_MAX + 1, UINT32_MAX },
	};
	struct recorder *r = make(FOREVER, FOREVER);
	uint64_t began = now;
	struct trace t;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		now = began + (uint64_t)rows[i].after;
		recorder_note(r, i * 512, 512);
	}
	t = take(r, DISK);
	assert_int_equal(t.count, sizeof rows / sizeof *rows);
	for (i = 0; i < t.count; i++)
		assert_int_equal(t.reads[i].us, rows[t.reads[i].lba].us);
	trace_release(&t);
	recorder_close(r);
}

static void it_ends_when_nothing_new_is_read(void **state)
{
	struct recorder *r = make(FOREVER, 3);

	recorder_note(r, 0, 4096);
	now += 9 * SECOND; /* nobody has looked yet: it counts from the first look */
	assert_false(recorder_look(r));
	now += 3 * SECOND - 1000;
	recorder_note(r, 0, 4096); /* nothing new */
	assert_false(recorder_look(r));
	now += 1000;
	assert_true(recorder_look(r));
	recorder_close(r);
}

static void it_ends_in_any_case(void **state)
{
	struct recorder *r = make(2, FOREVER);

	recorder_note(r, 0, 4096);
	assert_false(recorder_look(r));
	now += 2 * SECOND - 1;
	recorder_note(r, 1 << 20, 4096);
	assert_false(recorder_look(r));
	now++;
	recorder_note(r, 2 << 20, 4096);
	assert_true(recorder_look(r));
	recorder_close(r);
}

/* Blocks of 4 KiB are new or not: a read is, when one of its blocks is. */
static void something_new_keeps_it_open(void **state)
{
	static const struct {
		uint64_t off, n;
		bool is_new;
	} rows[] = {
		{ 1 << 20, 4096, true },
		{ 1 << 20, 4096, false },
		{ (1 << 20) + 512, 512, false },
		{ (1 << 20) + 4096, 512, true },
		{ (1 << 20) - 512, 512, true },
		{ (1 << 20) - 512, 1024, false },
		{ (1 << 20) - 4096, 4 * 4096, true }, /* its last two */
		{ (1 << 20) + 2 * 4096, 4096, false },
	};
	struct recorder *r = make(FOREVER, 3);
	size_t i;

	recorder_note(r, 0, 512);
	assert_false(recorder_look(r));
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		now += 2 * SECOND;
		recorder_note(r, rows[i].off, rows[i].n);
		assert_false(recorder_look(r));
		now += SECOND;
		assert_int_equal(recorder_look(r), !rows[i].is_new);
		recorder_note(r, (i + 100) << 20, 512); /* for the next row */
		assert_false(recorder_look(r));
	}
	recorder_close(r);
}

/* What is forgotten is new again. */
static void a_new_window_has_seen_nothing(void **state)
{
	struct recorder *r = make(FOREVER, 3);
	struct trace t;

	recorder_note(r, 0, 4096);
	assert_false(recorder_look(r));
	now += 3 * SECOND;
	assert_true(recorder_look(r));
	t = take(r, DISK);
	trace_release(&t);
	recorder_reset(r);
	assert_false(recorder_look(r));
	now += SECOND;
	recorder_note(r, 4096, 512);
	assert_false(recorder_look(r));
	now += 2 * SECOND;
	recorder_note(r, 0, 4096);
	assert_false(recorder_look(r));
	now += SECOND;
	assert_false(recorder_look(r));
	t = take(r, DISK);
	assert_int_equal(t.count, 2);
	assert_true(t.reads[0].us == 0 && t.reads[1].us == 2 * SECOND);
	trace_release(&t);
	recorder_close(r);
}

/* However much is read in sequence: each block of it is new, and so it is in the next window. */
static void all_that_was_seen_is_forgotten(void **state)
{
	enum { BLOCKS = TRACE_READS_MAX - 100 };
	struct recorder *r = make(4 * BLOCKS, 3);
	unsigned window;
	struct trace t;
	uint64_t i;

	for (window = 0; window < 2; window++) {
		for (i = 0; i < BLOCKS; i++) {
			now += 3 * SECOND;
			recorder_note(r, i * 4096, 4096);
			assert_false(recorder_look(r));
		}
		t = take(r, DISK);
		assert_int_equal(t.count, BLOCKS);
		trace_release(&t);
		recorder_reset(r);
	}
	recorder_close(r);
}

/* Of an earlier window nothing comes back, however much it had. */
static void old_reads_do_not_come_back(void **state)
{
	static const uint64_t counts[] = { 30, 1, 70001, 5000, 17, 2 };
	struct recorder *r = make(FOREVER, FOREVER);
	struct trace t;
	uint64_t i, k;

	for (k = 0; k < sizeof counts / sizeof *counts; k++) {
		for (i = 0; i < counts[k]; i++)
			recorder_note(r, i * 512, 512);
		t = take(r, DISK);
		assert_int_equal(t.count, counts[k]);
		trace_release(&t);
		recorder_reset(r);
	}
	/* Between two windows nothing is taken, nor is a place. */
	recorder_note(r, 0, 512);
	t = take(r, DISK);
	trace_release(&t);
	recorder_note(r, 0, 512);
	recorder_reset(r);
	recorder_note(r, 4096, 512);
	t = take(r, DISK);
	assert_int_equal(t.count, 1);
	assert_int_equal(t.reads[0].lba, 8);
	trace_release(&t);
	recorder_close(r);
	/* Nor of a recorder that was closed without anybody's taking them. */
	r = make(FOREVER, FOREVER);
	recorder_note(r, 0, 512);
	recorder_close(r);
	r = make(FOREVER, FOREVER);
	recorder_note(r, 512, 512);
	t = take(r, DISK);
	assert_int_equal(t.count, 1);
	assert_int_equal(t.reads[0].lba, 1);
	trace_release(&t);
	recorder_close(r);
}

static long pages(void)
{
	FILE *f = fopen("/proc/self/statm", "re");
	long n = -1;

	assert_int_equal(fscanf(f, "%ld", &n), 1);
	fclose(f);
	return n;
}

/* Room for a million reads, 16 MiB, is given back. */
static void no_mapping_is_left_behind(void **state)
{
	long before = pages(), i;

	for (i = 0; i < 20; i++)
		recorder_close(make(1, 1));
	assert_true(pages() - before < 20 * 4096 / 2);
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

#define CLOCK_TEST(f) cmocka_unit_test_setup_teardown(f, stop_clock, start_clock)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lack_of_memory_is_told),
		cmocka_unit_test(reads_come_out_in_order),
		cmocka_unit_test(a_closed_window_takes_nothing),
		cmocka_unit_test(what_lies_beyond_the_disk_is_left_out),
		CLOCK_TEST(times_count_from_the_first_read),
		CLOCK_TEST(it_ends_when_nothing_new_is_read),
		CLOCK_TEST(it_ends_in_any_case),
		CLOCK_TEST(something_new_keeps_it_open),
		CLOCK_TEST(a_new_window_has_seen_nothing),
		CLOCK_TEST(all_that_was_seen_is_forgotten),
		cmocka_unit_test(old_reads_do_not_come_back),
		cmocka_unit_test(no_mapping_is_left_behind),
		cmocka_unit_test(it_ends_when_it_is_full),
		cmocka_unit_test(threads_lose_nothing),
		cmocka_unit_test(windows_end_beside_readers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
