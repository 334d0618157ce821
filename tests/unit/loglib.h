/* SPDX-License-Identifier: Apache-2.0 */
/* loglib.h - what a test's run warns of: a good one warns of nothing.
 *
 * A test program includes it once.  Threads: the log may be written by any. */
#ifndef OVERLAYBD_TESTS_LOGLIB_H
#define OVERLAYBD_TESTS_LOGLIB_H

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "tests/unit/leftovers.h"

static char loglib_warnings[8192]; /* since loglib_listen, a line each */
static pthread_mutex_t loglib_lock = PTHREAD_MUTEX_INITIALIZER;

static inline void loglib_keep(enum log_level level, const char *line)
{
	size_t n;

	if (level != LOG_WARNING)
		return;
	pthread_mutex_lock(&loglib_lock);
	n = strlen(loglib_warnings);
	snprintf(loglib_warnings + n, sizeof loglib_warnings - n, "%s\n", line);
	pthread_mutex_unlock(&loglib_lock);
}

/* From now on warnings are kept, and not printed. */
static inline void loglib_listen(void)
{
	loglib_warnings[0] = '\0';
	log_set_sink(loglib_keep);
}

/* No longer.  Fails the test when there was a warning that it has not taken away. */
static inline void loglib_expect_none(void)
{
	log_set_sink(leftovers_sink);
	assert_string_equal(loglib_warnings, "");
}

/* Fails the test unless these lines were warned of, and takes them away. */
static inline void loglib_expect(const char *lines)
{
	assert_string_equal(loglib_warnings, lines);
	loglib_warnings[0] = '\0';
}

#endif
