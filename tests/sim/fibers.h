/* SPDX-License-Identifier: Apache-2.0 */
/* fibers.h - threads as coroutines of one thread, under a virtual clock and a seeded scheduler.
 *
 * While fibers_run runs, clock.h's table is this one: what a module starts as a thread becomes a
 * fiber, waiting and sleeping give way to others, and time passes only when nobody can go on.  A
 * fiber also gives way, by chance, where it takes or gives a lock and where it reads the clock,
 * while it holds none: so every order of the steps of readers and engine comes up that could with
 * threads, but for steps inside what a lock guards.  The program is linked with
 * --wrap of the calls that take and give locks.
 *
 * The same seed gives the same run.  Units: microseconds, unless said.  Threads: one. */
#ifndef OVERLAYBD_TESTS_SIM_FIBERS_H
#define OVERLAYBD_TESTS_SIM_FIBERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FIBERS_MAX = 64 };

/* Runs `body` in a first fiber, and all that it starts, until every fiber has ended. */
void fibers_run(uint64_t seed, void *(*body)(void *arg), void *arg);

/* One more fiber, inside fibers_run; joined by fibers_join. */
unsigned fibers_start(void *(*body)(void *arg), void *arg);
void fibers_join(unsigned fiber);

uint64_t fibers_now(void);

/* Below n, from the seed; whether one of n times. */
uint32_t fibers_below(uint32_t n);
bool fibers_one_in(uint32_t n);

/* Gives way to others until `until`, or until fibers_wake of the same place, whichever is first. */
void fibers_wait(const void *place, uint64_t until);
void fibers_wake(const void *place);

/* The fiber gives way to no other until this is off again. */
void fibers_alone(bool on);

/* The whole process stands still: time passes, and nothing runs. */
void fibers_stand_still(uint64_t us);

/* How long it stood still so far. */
uint64_t fibers_stood(void);

/* Called each time before a fiber goes on; may change the world, wake, and fail the run. */
void fibers_watch(void (*watch)(void));

/* One line of the schedule; printed when the run is traced. */
extern bool fibers_traced;
void fibers_trace(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The run has failed: says why and ends the program, see test-sim.c. */
extern void (*fibers_fail)(const char *why);

#endif
