/* SPDX-License-Identifier: Apache-2.0 */
/* fibers.c - see fibers.h.
 *
 * (1) One fiber runs at a time, or the scheduler, on the stack of the program.
 * (2) A fiber that holds a lock does not give way, but by clock_wait, which gives the lock away
 *     first: so no lock is ever waited for, and one that is taken twice is found.
 * (3) Time moves when no fiber can go on, to the next time that one waits for, and by a microsecond
 *     with each look at the clock, so that nobody can wait for it in a loop for ever. */
#include "tests/sim/fibers.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include "core/base/caller.h"
#include "core/base/clock.h"

#if defined(__SANITIZE_ADDRESS__)
#define ASAN_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ASAN_FIBERS 1
#endif
#endif
#ifdef ASAN_FIBERS
#include <sanitizer/common_interface_defs.h>
#endif

enum {
	STACK = 256 * 1024,
	GIVE_WAY = 6, /* one of so many places where it may */
	STEPS_MAX = 300 * 1000, /* of one run: more is a loop without end */
};

enum fiber_state { FIBER_FREE, FIBER_READY, FIBER_WAITING, FIBER_ENDED };

struct fiber {
	enum fiber_state state;
	const void *waits_at;
	uint64_t until;
	bool detached;
	void *(*body)(void *arg);
	void *arg;
	ucontext_t context; /* of its beginning */
	jmp_buf place; /* where it goes on */
	bool begun;
	void *stack;
	void *fake_stack; /* ASan's */
	struct caller caller; /* what a thread has of its own */
};

static struct {
	struct fiber fibers[FIBERS_MAX];
	struct fiber *running; /* NULL: the scheduler */
	unsigned locks; /* that `running` holds */
	uint64_t now, stood, random, steps;
	void (*watch)(void);
	jmp_buf scheduler;
	void *fake_stack;
	const void *own_stack;
	size_t own_size;
} sim;

int __real_pthread_mutex_lock(pthread_mutex_t *m);
int __real_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __real_pthread_mutex_trylock(pthread_mutex_t *m);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *m);
int __real_pthread_rwlock_rdlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *l);
int __real_pthread_rwlock_wrlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *l);
int __real_pthread_rwlock_unlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *l);

bool fibers_traced;
void (*fibers_fail)(const char *why);

/* ---- chance ---- */

static uint64_t next_random(void)
{
	uint64_t z = sim.random += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint32_t fibers_below(uint32_t n)
{
	return (uint32_t)((next_random() >> 32) * n >> 32);
}

bool fibers_one_in(uint32_t n)
{
	return fibers_below(n) == 0;
}

/* ---- switching ---- */

/* swapcontext would ask the kernel for the signal mask each time. */
static void jump_to(struct fiber *f)
{
	if (_setjmp(sim.scheduler) != 0)
		return;
	if (f->begun)
		_longjmp(f->place, 1);
	f->begun = true;
	setcontext(&f->context);
}

static void enter(struct fiber *f)
{
	sim.running = f;
	*caller() = f->caller;
#ifdef ASAN_FIBERS
	__sanitizer_start_switch_fiber(&sim.fake_stack, f->stack, STACK);
#endif
	jump_to(f);
#ifdef ASAN_FIBERS
	__sanitizer_finish_switch_fiber(sim.fake_stack, NULL, NULL);
#endif
	f = sim.running;
	f->caller = *caller();
	sim.running = NULL;
}

static void leave(struct fiber *f)
{
#ifdef ASAN_FIBERS
	__sanitizer_start_switch_fiber(f->state == FIBER_ENDED ? NULL : &f->fake_stack,
				       sim.own_stack, sim.own_size);
#endif
	if (_setjmp(f->place) == 0)
		_longjmp(sim.scheduler, 1);
#ifdef ASAN_FIBERS
	__sanitizer_finish_switch_fiber(sim.running->fake_stack, &sim.own_stack, &sim.own_size);
#endif
}

static void run_body(void)
{
	struct fiber *f = sim.running;

#ifdef ASAN_FIBERS
	__sanitizer_finish_switch_fiber(NULL, &sim.own_stack, &sim.own_size);
#endif
	(void)f->body(f->arg);
	f->state = FIBER_ENDED;
	fibers_wake(f);
	leave(f);
}

static void give_way(void)
{
	if (!sim.running || sim.locks > 0 || !fibers_one_in(GIVE_WAY))
		return;
	sim.running->state = FIBER_READY;
	leave(sim.running);
}

void fibers_wait(const void *place, uint64_t until)
{
	struct fiber *f = sim.running;

	f->state = FIBER_WAITING;
	f->waits_at = place;
	f->until = until;
	leave(f);
}

void fibers_wake(const void *place)
{
	struct fiber *f;

	for (f = sim.fibers; f < sim.fibers + FIBERS_MAX; f++)
		if (f->state == FIBER_WAITING && f->waits_at == place)
			f->state = FIBER_READY;
}

/* ---- the table of clock.h ---- */

static uint64_t fiber_now_us(void)
{
	give_way();
	return ++sim.now;
}

static int64_t fiber_date(void)
{
	return 1800000000 + (int64_t)(sim.now / 1000000);
}

/* Who holds a lock, or is alone, sleeps for all. */
static void fiber_sleep_ms(uint64_t ms)
{
	if (!sim.running || sim.locks > 0)
		sim.now += ms * 1000;
	else
		fibers_wait(NULL, sim.now + ms * 1000);
}

static void fiber_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	if (sim.locks != 1)
		fibers_fail("waits while it holds another lock");
	__real_pthread_mutex_unlock(lock); /* not to give way between here and waiting */
	sim.locks = 0;
	fibers_wait(c, until_ms > UINT64_MAX / 1000 ? UINT64_MAX : until_ms * 1000);
	if (__real_pthread_mutex_trylock(lock) != 0)
		fibers_fail("a lock is held by a fiber that does not run");
	sim.locks = 1;
}

static void fiber_wake_cond(pthread_cond_t *c)
{
	fibers_wake(c);
}

static uint32_t fiber_chance(void)
{
	return (uint32_t)next_random();
}

static void make_context(ucontext_t *context, void *stack)
{
	getcontext(context);
	context->uc_stack.ss_sp = stack;
	context->uc_stack.ss_size = STACK;
	context->uc_link = NULL;
	makecontext(context, run_body, 0);
}

static struct fiber *start(void *(*body)(void *arg), void *arg, bool detached)
{
	struct fiber *f = sim.fibers;

	while (f < sim.fibers + FIBERS_MAX && f->state != FIBER_FREE)
		f++;
	if (f == sim.fibers + FIBERS_MAX)
		return NULL;
	if (!f->stack)
		f->stack = malloc(STACK);
	f->body = body;
	f->caller = (struct caller){ 0 };
	f->arg = arg;
	f->detached = detached;
	f->state = FIBER_READY;
	f->begun = false;
	make_context(&f->context, f->stack);
	return f;
}

static int fiber_thread(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg)
{
	struct fiber *f = start(body, arg, detached);

	if (!f)
		return EAGAIN;
	if (!detached)
		*out = (pthread_t)(f - sim.fibers);
	return 0;
}

static void fiber_join(pthread_t thread)
{
	struct fiber *f = sim.fibers + thread;

	while (f->state != FIBER_ENDED)
		fibers_wait(f, UINT64_MAX);
	f->state = FIBER_FREE;
}

static const struct clock_ops fiber_clock = {
	.now_us = fiber_now_us,
	.date = fiber_date,
	.sleep_ms = fiber_sleep_ms,
	.wait = fiber_wait,
	.wake = fiber_wake_cond,
	.chance = fiber_chance,
	.thread = fiber_thread,
	.join = fiber_join,
};

/* ---- locks ---- */

static int took(int r)
{
	if (sim.running && r == 0)
		sim.locks++;
	return r;
}

static int gave(int r)
{
	if (sim.running)
		sim.locks--;
	give_way();
	return r;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
	give_way();
	if (!sim.running)
		return __real_pthread_mutex_lock(m);
	if (__real_pthread_mutex_trylock(m) != 0)
		fibers_fail("takes a lock that it holds, or that another holds who waits");
	return took(0);
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *m)
{
	return took(__real_pthread_mutex_trylock(m));
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
	return gave(__real_pthread_mutex_unlock(m));
}

int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
	give_way();
	return took(__real_pthread_rwlock_rdlock(l));
}

int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
	give_way();
	return took(__real_pthread_rwlock_wrlock(l));
}

int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *l)
{
	return gave(__real_pthread_rwlock_unlock(l));
}

/* ---- the scheduler ---- */

/* A fiber that can go on, by chance; NULL: none can. */
static struct fiber *choose(bool *live)
{
	struct fiber *f, *chosen = NULL;
	uint32_t ready = 0;

	*live = false;
	for (f = sim.fibers; f < sim.fibers + FIBERS_MAX; f++) {
		if (f->state == FIBER_ENDED && f->detached)
			f->state = FIBER_FREE;
		*live = *live || f->state == FIBER_READY || f->state == FIBER_WAITING;
		if (f->state == FIBER_WAITING && f->until <= sim.now)
			f->state = FIBER_READY;
		if (f->state == FIBER_READY && fibers_one_in(++ready))
			chosen = f;
	}
	return chosen;
}

static void pass_time(void)
{
	uint64_t next = UINT64_MAX;
	struct fiber *f;

	for (f = sim.fibers; f < sim.fibers + FIBERS_MAX; f++)
		if (f->state == FIBER_WAITING && f->until < next)
			next = f->until;
	if (next == UINT64_MAX)
		fibers_fail("everybody waits, and nothing will wake anybody");
	fibers_trace("time passes: %" PRIu64 " us", next - sim.now);
	sim.now = next;
}

void fibers_run(uint64_t seed, void *(*body)(void *arg), void *arg)
{
	bool live;

	sim.random = seed;
	sim.now = 1000 * 1000 * 1000;
	sim.stood = sim.steps = 0;
	sim.watch = NULL;
	clock_use(&fiber_clock);
	(void)start(body, arg, true);
	for (;;) {
		struct fiber *f = choose(&live);

		if (!live)
			break;
		if (!f) {
			pass_time();
			continue;
		}
		if (++sim.steps > STEPS_MAX)
			fibers_fail("goes on for ever: a loop, or time that does not pass");
		if (sim.watch)
			sim.watch();
		enter(f);
	}
	clock_use(NULL);
}

unsigned fibers_start(void *(*body)(void *arg), void *arg)
{
	struct fiber *f = start(body, arg, false);

	if (!f)
		fibers_fail("too many fibers");
	return (unsigned)(f - sim.fibers);
}

void fibers_join(unsigned fiber)
{
	fiber_join((pthread_t)fiber);
}

uint64_t fibers_now(void)
{
	return sim.now;
}

void fibers_alone(bool on)
{
	if (sim.running)
		sim.locks += on ? 1 : -1u;
}

void fibers_stand_still(uint64_t us)
{
	fibers_trace("the process stands still for %" PRIu64 " ms", us / 1000);
	sim.now += us;
	sim.stood += us;
}

uint64_t fibers_stood(void)
{
	return sim.stood;
}

void fibers_watch(void (*watch)(void))
{
	sim.watch = watch;
}

void fibers_trace(const char *fmt, ...)
{
	uint64_t us = sim.now - 1000 * 1000 * 1000;
	va_list args;

	if (!fibers_traced)
		return;
	printf("%4" PRIu64 ".%06" PRIu64 " ", us / 1000000, us % 1000000);
	if (sim.running)
		printf("[%d] ", (int)(sim.running - sim.fibers));
	else
		printf("[-] ");
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	putchar('\n');
}
