/* SPDX-License-Identifier: Apache-2.0 */
/* test-workers.c - the order of jobs, the end of a pool, what the system refuses; and the real
 * clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "core/base/caller.h"
#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/workers.h"
#include "tests/unit/allocs.h"
#include "tests/unit/heap.h"

enum { JOBS = 300, THREADS = 4 };

static int threads_left = -1; /* that the system still gives; negative: any number */
static bool random_is_refused, affinity_is_refused, limits_are_refused;

int __real_pthread_create(pthread_t *out, const pthread_attr_t *how, void *(*body)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *how, void *(*body)(void *),
			  void *arg);
int __real_sched_getaffinity(pid_t pid, size_t n, cpu_set_t *set);
int __wrap_sched_getaffinity(pid_t pid, size_t n, cpu_set_t *set);
ssize_t __real_getrandom(void *buf, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags);
int __real_getrlimit64(int what, struct rlimit *limit);
int __wrap_getrlimit64(int what, struct rlimit *limit);

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *how, void *(*body)(void *),
			  void *arg)
{
	if (threads_left == 0)
		return EAGAIN;
	threads_left -= threads_left > 0;
	return __real_pthread_create(out, how, body, arg);
}

int __wrap_sched_getaffinity(pid_t pid, size_t n, cpu_set_t *set)
{
	return affinity_is_refused ? -1 : __real_sched_getaffinity(pid, n, set);
}

ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags)
{
	return random_is_refused ? -1 : __real_getrandom(buf, n, flags);
}

int __wrap_getrlimit64(int what, struct rlimit *limit)
{
	return limits_are_refused ? -1 : __real_getrlimit64(what, limit);
}

struct numbered {
	struct job job;
	unsigned runs;
	unsigned place; /* among those that were run */
};

static struct numbered jobs[JOBS];
static atomic_uint run_count;

static void run_numbered(struct job *j)
{
	struct numbered *x = (struct numbered *)j;

	x->runs++;
	x->place = atomic_fetch_add_explicit(&run_count, 1, memory_order_relaxed);
}

static struct workers *open_pool(unsigned threads)
{
	struct workers *w;
	unsigned i;

	assert_int_equal(workers_open(threads, &w, NULL), 0);
	memset(jobs, 0, sizeof jobs);
	atomic_store(&run_count, 0);
	for (i = 0; i < JOBS; i++)
		jobs[i].job.run = run_numbered;
	return w;
}

static void jobs_run_in_their_order(void **state)
{
	unsigned threads, i;

	for (threads = 0; threads < 2; threads++) {
		struct workers *w = open_pool(threads);

		for (i = 0; i < JOBS; i++)
			workers_submit(w, &jobs[i].job);
		for (i = JOBS; i-- > 0;)
			workers_wait(w, &jobs[i].job);
		for (i = 0; i < JOBS; i++)
			assert_true(jobs[i].runs == 1 && jobs[i].place == i);
		workers_close(w);
	}
}

/* Nobody waits: the pool's end does. */
static void what_is_queued_is_run_at_the_end(void **state)
{
	unsigned threads, i;

	for (threads = 0; threads < THREADS; threads++) {
		struct workers *w = open_pool(threads);

		for (i = 0; i < JOBS; i++)
			workers_submit(w, &jobs[i].job);
		workers_close(w);
		for (i = 0; i < JOBS; i++)
			assert_int_equal(jobs[i].runs, 1);
	}
	workers_close(NULL);
}

/* A job that waits for another one needs a second thread. */
static pthread_mutex_t meeting = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t met = PTHREAD_COND_INITIALIZER;
static unsigned present;

static void meet(struct job *j)
{
	pthread_mutex_lock(&meeting);
	present++;
	pthread_cond_broadcast(&met);
	while (present < THREADS)
		pthread_cond_wait(&met, &meeting);
	pthread_mutex_unlock(&meeting);
}

static void jobs_run_at_the_same_time(void **state)
{
	struct workers *w = open_pool(THREADS);
	unsigned i;

	present = 0;
	for (i = 0; i < THREADS; i++) {
		jobs[i].job.run = meet;
		workers_submit(w, &jobs[i].job);
	}
	for (i = 0; i < THREADS; i++)
		workers_wait(w, &jobs[i].job);
	workers_close(w);
}

/* For TSan: two threads that submit, wait and read what the jobs wrote. */
struct submitter {
	struct workers *w;
	unsigned first;
};

static void *submit_half(void *arg)
{
	struct submitter *x = arg;
	unsigned i, end = x->first + JOBS / 2, wrong = 0;

	for (i = x->first; i < end; i++) {
		workers_submit(x->w, &jobs[i].job);
		if (i % 3 == 0) {
			workers_wait(x->w, &jobs[i].job);
			wrong += jobs[i].runs != 1;
		}
	}
	for (i = x->first; i < end; i++) {
		workers_wait(x->w, &jobs[i].job);
		wrong += jobs[i].runs != 1;
	}
	return wrong ? x : NULL;
}

static void several_threads_use_one_pool(void **state)
{
	struct workers *w = open_pool(THREADS);
	struct submitter other = { w, JOBS / 2 }, self = { w, 0 };
	pthread_t thread;
	void *wrong;

	assert_int_equal(pthread_create(&thread, NULL, submit_half, &other), 0);
	assert_null(submit_half(&self));
	pthread_join(thread, &wrong);
	assert_null(wrong);
	workers_close(w);
}

static void open_and_close(void)
{
	workers_close(open_pool(0));
	workers_close(open_pool(1));
}

static void refuse_the_third(void)
{
	struct workers *w;

	threads_left = 2;
	assert_int_equal(workers_open(THREADS, &w, NULL), -EAGAIN);
	threads_left = -1;
}

static void what_the_system_refuses(void **state)
{
	struct err e = { "" };
	struct workers *w;
	unsigned i;

	for (i = 0; i < THREADS; i++) {
		threads_left = (int)i;
		assert_int_equal(workers_open(THREADS, &w, &e), -EAGAIN);
		assert_string_equal(e.msg, "starting a thread: Resource temporarily unavailable");
		threads_left = -1;
	}
	HEAP_STEADY(refuse_the_third());
	HEAP_STEADY(open_and_close());
	allocs_left = 0;
	assert_int_equal(workers_open(1, &w, &e), -ENOMEM);
	allocs_left = -1;
}

static void processors(void **state)
{
	cpu_set_t all, one;
	size_t first = 0;

	assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
	assert_int_equal(workers_cpus(), CPU_COUNT(&all));
	while (!CPU_ISSET(first, &all))
		first++;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
	assert_int_equal(workers_cpus(), 1);
	assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
	affinity_is_refused = true;
	assert_int_equal(workers_cpus(), 1);
	affinity_is_refused = false;
}

static void files_may_be_as_many_as_can_be(void **state)
{
	struct rlimit was, now;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	now = was;
	now.rlim_cur = was.rlim_max / 2;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	limits_are_refused = true;
	limits_raise_files();
	limits_are_refused = false;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
	assert_int_equal(now.rlim_cur, was.rlim_max / 2); /* nothing is known: nothing is set */
	limits_raise_files();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
	assert_int_equal(now.rlim_cur, was.rlim_max);
	assert_int_equal(now.rlim_max, was.rlim_max);
	limits_raise_files();
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

/* ---- the clock ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond;
static unsigned woken;

static void *wait_until_woken(void *arg)
{
	pthread_mutex_lock(&lock);
	while (*(bool *)arg == false)
		clock_wait(&cond, &lock, CLOCK_NEVER);
	woken++;
	clock_wake(&cond);
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void the_clock_goes(void **state)
{
	uint64_t us = clock_us(), ms = clock_ms();
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	assert_true(us / 1000000 - (uint64_t)t.tv_sec + 1 <= 2);
	assert_true(ms - us / 1000 < 1000);
	assert_true(clock_date() - time(NULL) + 1 <= 1 && clock_date() >= time(NULL) - 1);
	clock_sleep(30);
	assert_true(clock_us() - us >= 30000);
	us = clock_us();
	clock_sleep(1100);
	assert_true(clock_us() - us >= 1100000 && clock_us() - us < 60 * 1000000);
}

static void a_wait_ends_in_time(void **state)
{
	uint64_t began = clock_ms(), until = began + 1030;

	clock_init_cond(&cond);
	pthread_mutex_lock(&lock);
	while (clock_ms() < until)
		clock_wait(&cond, &lock, until);
	clock_wait(&cond, &lock, began); /* which has passed: returns at once */
	pthread_mutex_unlock(&lock);
	assert_true(clock_ms() >= until && clock_ms() < began + 60000);
	pthread_cond_destroy(&cond);
}

static void all_who_wait_are_woken(void **state)
{
	pthread_t threads[THREADS];
	bool go = false;
	unsigned i;

	clock_init_cond(&cond);
	woken = 0;
	for (i = 0; i < THREADS; i++)
		assert_int_equal(clock_thread(&threads[i], wait_until_woken, &go), 0);
	assert_int_equal(clock_thread_detached(wait_until_woken, &go), 0);
	clock_sleep(20);
	pthread_mutex_lock(&lock);
	assert_int_equal(woken, 0);
	go = true;
	clock_wake(&cond); /* once, for all */
	while (woken < THREADS + 1)
		clock_wait(&cond, &lock, CLOCK_NEVER);
	pthread_mutex_unlock(&lock);
	for (i = 0; i < THREADS; i++)
		clock_join(threads[i]);
	threads_left = 0;
	assert_int_equal(clock_thread(&threads[0], wait_until_woken, &go), EAGAIN);
	assert_int_equal(clock_thread_detached(wait_until_woken, &go), EAGAIN);
	threads_left = -1;
}

static void chance_differs(void **state)
{
	uint32_t ones, zeroes;
	unsigned i, refused;

	for (refused = 0; refused < 2; refused++) {
		random_is_refused = refused;
		ones = 0;
		zeroes = UINT32_MAX;
		for (i = 0; i < 200; i++) {
			uint32_t chance = clock_chance();

			ones |= chance;
			zeroes &= chance;
			clock_sleep(refused);
		}
		assert_true(ones == UINT32_MAX && zeroes == 0); /* each bit has been both */
	}
	random_is_refused = false;
}

static uint64_t still_us(void)
{
	return 7000999;
}

static void *look_at_deadline(void *arg)
{
	*(uint64_t *)arg = caller()->deadline;
	return NULL;
}

/* One deadline for all that is done for a request, in its thread. */
static void the_first_deadline_counts(void **state)
{
	struct clock_ops still = clock_system;
	uint64_t first, second, other = 1;
	pthread_t thread;

	still.now_us = still_us;
	clock_use(&still);
	assert_int_equal(caller()->deadline, 0);
	first = caller_begin(5);
	assert_int_equal(first, 0);
	assert_int_equal(caller()->deadline, 12000);
	second = caller_begin(1);
	assert_int_equal(second, 12000);
	assert_int_equal(caller()->deadline, 12000);
	assert_int_equal(pthread_create(&thread, NULL, look_at_deadline, &other), 0);
	pthread_join(thread, NULL);
	assert_int_equal(other, 0);
	caller_end(second);
	assert_int_equal(caller()->deadline, 12000);
	caller_end(first);
	assert_int_equal(caller()->deadline, 0);
	first = caller_begin(0);
	assert_true(caller()->deadline == CLOCK_NEVER);
	caller_end(first);
	clock_use(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_run_in_their_order),
		cmocka_unit_test(what_is_queued_is_run_at_the_end),
		cmocka_unit_test(jobs_run_at_the_same_time),
		cmocka_unit_test(several_threads_use_one_pool),
		cmocka_unit_test(what_the_system_refuses),
		cmocka_unit_test(processors),
		cmocka_unit_test(files_may_be_as_many_as_can_be),
		cmocka_unit_test(the_clock_goes),
		cmocka_unit_test(a_wait_ends_in_time),
		cmocka_unit_test(all_who_wait_are_woken),
		cmocka_unit_test(chance_differs),
		cmocka_unit_test(the_first_deadline_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
