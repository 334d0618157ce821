/* SPDX-License-Identifier: Apache-2.0 */
/* caller.c - see caller.h. */
#include "core/base/caller.h"

#include "core/base/clock.h"

static _Thread_local struct caller of_thread;

struct caller *caller(void)
{
	return &of_thread;
}

uint64_t caller_begin(unsigned seconds)
{
	uint64_t before = of_thread.deadline;

	if (before == 0)
		of_thread.deadline =
			seconds ? clock_coarse_ms() + seconds * (uint64_t)1000 : CLOCK_NEVER;
	return before;
}

void caller_end(uint64_t before)
{
	of_thread.deadline = before;
}
