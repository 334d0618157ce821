/* SPDX-License-Identifier: Apache-2.0 */
/* test-log.c - where lines of the log go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"

static char last[16384];
static enum log_level last_level;
static unsigned lines;

static void keep(enum log_level level, const char *line)
{
	snprintf(last, sizeof last, "%s", line);
	last_level = level;
	lines++;
}

/* What is written to standard error between the two. */
static int real_stderr, captured;

static void capture(void)
{
	fflush(stderr);
	captured = memfd_create("stderr", MFD_CLOEXEC);
	real_stderr = dup(2);
	assert_true(captured >= 0 && dup2(captured, 2) == 2);
}

static void release(void)
{
	ssize_t n;

	fflush(stderr);
	assert_int_equal(dup2(real_stderr, 2), 2);
	close(real_stderr);
	n = pread(captured, last, sizeof last - 1, 0);
	assert_true(n >= 0);
	last[n] = '\0';
	close(captured);
}

static void a_sink_gets_all_lines(void **state)
{
	log_set_sink(keep);
	capture();
	log_warn("%s %d", "a \x1b[2J", 5);
	release();
	assert_string_equal(last, ""); /* and standard error nothing */
	log_warn("%s %d", "a \x1b[2J", 5);
	assert_string_equal(last, "a \x1b[2J 5"); /* whoever shows it escapes it */
	assert_int_equal(last_level, LOG_WARNING);
	log_debug("%s", "b");
	assert_string_equal(last, "b");
	assert_int_equal(last_level, LOG_DEBUG);
	assert_int_equal(lines, 3);
	log_set_sink(NULL);
}

static void without_a_sink_warnings_go_to_standard_error(void **state)
{
	capture();
	log_debug("nothing %d", 1);
	log_warn("disk %s: \x1b[2J%s", "full", "\n");
	release();
	assert_string_equal(last, "warning: disk full: \\x1b[2J\\x0a\n");
	assert_int_equal(lines, 3);
}

/* However long it is, and however much of it is escaped. */
static void a_long_line_is_cut(void **state)
{
	char text[4000];

	memset(text, 7, sizeof text);
	text[sizeof text - 1] = '\0';
	log_set_sink(keep);
	log_warn("%s", text);
	assert_int_equal(strlen(last), 2047);
	log_set_sink(NULL);
	capture();
	log_warn("%s", text);
	release();
	assert_int_equal(strlen(last), strlen("warning: \n") + 4 * 2047);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sink_gets_all_lines),
		cmocka_unit_test(without_a_sink_warnings_go_to_standard_error),
		cmocka_unit_test(a_long_line_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
