/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - the monotonic clock, for deadlines and durations. */
#ifndef OVERLAYBD_BASE_CLOCK_H
#define OVERLAYBD_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* A deadline that never comes. */
#define CLOCK_NEVER UINT64_MAX

static inline uint64_t clock_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static inline uint64_t clock_ms(void)
{
	return clock_us() / 1000;
}

#endif
