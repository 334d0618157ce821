/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - time, waiting, chance and threads: all that makes a run differ from the next, as one
 * table.
 *
 * A test puts a table of its own in place and decides when time passes, who is woken and what
 * chance says.  fetch/ reads no clock, sleeps, waits on no condition, starts no thread and draws no
 * random number but through this.
 *
 * Units: microseconds and milliseconds of the monotonic clock, where said.  Threads: any, but for
 * clock_use, which is for a test before it starts the first of its threads. */
#ifndef OVERLAYBD_BASE_CLOCK_H
#define OVERLAYBD_BASE_CLOCK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* A deadline that never comes. */
#define CLOCK_NEVER UINT64_MAX

struct clock_ops {
	uint64_t (*now_us)(void); /* of the monotonic clock */
	int64_t (*date)(void); /* s since 1970, as the wall has it */
	void (*sleep_ms)(uint64_t ms);
	/* Gives the mutex away until the condition is woken or `until_ms` (of clock_ms,
	 * CLOCK_NEVER) has come; may return early.  The condition is one of clock_init_cond. */
	void (*wait)(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms);
	void (*wake)(pthread_cond_t *c); /* all who wait for it */
	uint32_t (*chance)(void); /* evenly distributed; not for secrets */
	/* As pthread_create, with its codes; `detached`: *out is not set, nobody joins it. */
	int (*thread)(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg);
	void (*join)(pthread_t thread);
};

/* The system's. */
extern const struct clock_ops clock_system;

/* Puts a table in place, NULL: the system's. */
void clock_use(const struct clock_ops *ops);

uint64_t clock_us(void);
uint64_t clock_ms(void);
uint64_t clock_coarse_ms(void); /* never ahead of clock_ms; for what every read asks */
int64_t clock_date(void); /* never behind the time of a file made before, on a local disk */
void clock_sleep(uint64_t ms);
void clock_init_cond(pthread_cond_t *c); /* one that waits by the monotonic clock */
void clock_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms);
void clock_wake(pthread_cond_t *c);
uint32_t clock_chance(void);
int clock_thread(pthread_t *out, void *(*body)(void *arg), void *arg);
int clock_thread_detached(void *(*body)(void *arg), void *arg);
void clock_join(pthread_t thread);

#endif
