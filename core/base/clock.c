/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - see clock.h.  The table in place is the one global that this folder has beside the log
 * sink: every module asks for the time, and none should carry a pointer for it. */
#include "core/base/clock.h"

#include <stddef.h>
#include <sys/random.h>

static uint64_t system_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* A few ns in place of 20 and more, for it reads no counter. */
static uint64_t system_coarse_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Not time(), which may be behind what the kernel gives files by a tick. */
static int64_t system_date(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec;
}

static void system_sleep_ms(uint64_t ms)
{
	struct timespec t = { .tv_sec = (time_t)(ms / 1000),
			      .tv_nsec = (long)(ms % 1000) * 1000000 };

	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static void system_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	struct timespec t = { .tv_sec = (time_t)(until_ms / 1000),
			      .tv_nsec = (long)(until_ms % 1000) * 1000000 };

	if (until_ms == CLOCK_NEVER)
		pthread_cond_wait(c, lock);
	else
		pthread_cond_timedwait(c, lock, &t);
}

static void system_wake(pthread_cond_t *c)
{
	pthread_cond_broadcast(c);
}

static uint32_t system_chance(void)
{
	uint32_t chance;

	if (getrandom(&chance, sizeof chance, GRND_NONBLOCK) != sizeof chance)
		chance = (uint32_t)(system_now_us() * 2654435761u);
	return chance;
}

static int system_thread(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg)
{
	pthread_t thread;
	int code = pthread_create(&thread, NULL, body, arg);

	if (code == 0 && detached)
		pthread_detach(thread);
	else if (code == 0)
		*out = thread;
	return code;
}

static void system_join(pthread_t thread)
{
	pthread_join(thread, NULL);
}

const struct clock_ops clock_system = {
	.now_us = system_now_us,
	.date = system_date,
	.sleep_ms = system_sleep_ms,
	.wait = system_wait,
	.wake = system_wake,
	.chance = system_chance,
	.thread = system_thread,
	.join = system_join,
};

static const struct clock_ops *in_place = &clock_system;

void clock_use(const struct clock_ops *ops)
{
	in_place = ops ? ops : &clock_system;
}

uint64_t clock_us(void)
{
	return in_place->now_us();
}

uint64_t clock_ms(void)
{
	return in_place->now_us() / 1000;
}

uint64_t clock_coarse_ms(void)
{
	/* A table that has its own time has it in both. */
	return in_place->now_us == system_now_us ? system_coarse_ms() : clock_ms();
}

int64_t clock_date(void)
{
	return in_place->date();
}

void clock_sleep(uint64_t ms)
{
	in_place->sleep_ms(ms);
}

void clock_init_cond(pthread_cond_t *c)
{
	pthread_condattr_t monotonic;

	pthread_condattr_init(&monotonic); /* none of these can fail on Linux */
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(c, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

void clock_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	in_place->wait(c, lock, until_ms);
}

void clock_wake(pthread_cond_t *c)
{
	in_place->wake(c);
}

uint32_t clock_chance(void)
{
	return in_place->chance();
}

int clock_thread(pthread_t *out, void *(*body)(void *arg), void *arg)
{
	return in_place->thread(out, false, body, arg);
}

int clock_thread_detached(void *(*body)(void *arg), void *arg)
{
	return in_place->thread(NULL, true, body, arg);
}

void clock_join(pthread_t thread)
{
	in_place->join(thread);
}
