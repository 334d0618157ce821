/* SPDX-License-Identifier: Apache-2.0 */
/* test-clock.c - the system's clocks beside each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "tests/unit/leftovers.h"

/* As a second begins, the kernel's time of the last tick is still the old one's; a file may have
 * the new one's. */
static void no_file_is_from_the_future(void **state)
{
	struct timespec now, first;
	struct stat st;
	FILE *file = tmpfile();
	int i;

	assert_non_null(file);
	for (i = 0; i < 3; i++) {
		clock_gettime(CLOCK_REALTIME, &first);
		do
			clock_gettime(CLOCK_REALTIME, &now);
		while (now.tv_sec == first.tv_sec);
		assert_true(clock_date() >= now.tv_sec);
		assert_int_equal(write(fileno(file), "x", 1), 1);
		assert_int_equal(fstat(fileno(file), &st), 0);
		assert_true(st.st_mtime <= clock_date());
	}
	fclose(file);
}

static uint64_t seven(void)
{
	return 7000;
}

/* Late, but not for ever; and a table's own time is that of both. */
static void the_coarse_clock_is_late(void **state)
{
	struct clock_ops ops = clock_system;
	uint64_t coarse, fine;
	int i;

	for (i = 0; i < 1000; i++) {
		coarse = clock_coarse_ms();
		fine = clock_ms();
		assert_true(coarse <= fine);
	}
	while (clock_coarse_ms() < fine)
		clock_sleep(1);
	ops.now_us = seven;
	clock_use(&ops);
	assert_int_equal(clock_coarse_ms(), 7);
	assert_int_equal(clock_ms(), 7);
	clock_use(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_file_is_from_the_future),
		cmocka_unit_test(the_coarse_clock_is_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
