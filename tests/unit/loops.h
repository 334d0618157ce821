/* SPDX-License-Identifier: Apache-2.0 */
/* loops.h - loop counts and random numbers of the tests.
 *
 * Counts are those of the full run (FULL=1 in the environment, `./check --full`); otherwise a
 * twentieth.  The seed is printed; SEED=N repeats a run. */
#ifndef OVERLAYBD_TESTS_LOOPS_H
#define OVERLAYBD_TESTS_LOOPS_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/testlib.h"

static uint64_t loops_state = 1;

static inline uint64_t loops_random(void)
{
	return testlib_random(&loops_state);
}

static inline void loops_seed(void)
{
	const char *seed = getenv("SEED");

	loops_state = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL);
	printf("SEED=%" PRIu64 "\n", loops_state);
	fflush(stdout);
}

static inline unsigned loops_count(unsigned full)
{
	return getenv("FULL") ? full : (full + 19) / 20;
}

#endif
