/* SPDX-License-Identifier: Apache-2.0 */
/* test-quit.c - that the end of the server is noticed at once, and that whoever had the signals
 * before gets them as before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "nbdkit-plugin/quit.h"

static const int numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };

enum { COUNT = sizeof numbers / sizeof *numbers };

static volatile sig_atomic_t came[64]; /* how often, by number */
static volatile sig_atomic_t with_sender; /* the process that siginfo names */

static int refused; /* the signal whose handler cannot be set, */
static int unreadable; /* and whose cannot be asked for */

int __real_sigaction(int number, const struct sigaction *now, struct sigaction *before);
int __wrap_sigaction(int number, const struct sigaction *now, struct sigaction *before);
int __wrap_sigaction(int number, const struct sigaction *now, struct sigaction *before)
{
	if ((now && number == refused) || (!now && number == unreadable)) {
		errno = EINVAL;
		return -1;
	}
	return __real_sigaction(number, now, before);
}

static bool is_full; /* there are no descriptors */

int __real_eventfd(unsigned initial, int flags);
int __wrap_eventfd(unsigned initial, int flags);
int __wrap_eventfd(unsigned initial, int flags)
{
	assert_int_equal(flags, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!is_full)
		return __real_eventfd(initial, flags);
	errno = EMFILE;
	return -1;
}

/* What poll gives in place of the real one's, each after some time. */
static const struct poll_step {
	int timeout; /* ms that it must be given */
	uint64_t ms; /* that pass */
	int r, code;
} * steps; /* NULL: the real one */
static uint64_t time_now; /* ms */

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	const struct poll_step *step = steps;

	assert_int_equal(n, 1);
	assert_int_equal(fds->events, POLLIN);
	if (!step)
		return __real_poll(fds, n, timeout);
	steps++;
	assert_int_equal(timeout, step->timeout);
	time_now += step->ms;
	errno = step->code;
	return step->r;
}

static uint64_t now_us(void)
{
	return time_now * 1000;
}

static void plain(int number)
{
	came[number]++;
	errno = ENOTTY;
}

static void informed(int number, siginfo_t *info, void *context)
{
	came[number]++;
	with_sender = context ? (sig_atomic_t)info->si_pid : 0;
}

static void set_plain(int number, void (*handler)(int number))
{
	struct sigaction a = { .sa_handler = handler, .sa_flags = SA_RESTART };

	assert_int_equal(sigaction(number, &a, NULL), 0);
}

static void (*handler_of(int number))(int number)
{
	struct sigaction a;

	assert_int_equal(sigaction(number, NULL, &a), 0);
	return a.sa_handler;
}

static int set_up(void **state)
{
	size_t i;

	for (i = 0; i < sizeof came / sizeof *came; i++)
		came[i] = 0;
	for (i = 0; i < COUNT; i++)
		set_plain(numbers[i], plain);
	return 0;
}

static int tear_down(void **state)
{
	size_t i;

	for (i = 0; i < COUNT; i++)
		set_plain(numbers[i], SIG_DFL);
	return 0;
}

static void each_signal_is_noticed_and_handed_on(void **state)
{
	size_t i;

	for (i = 0; i < COUNT; i++) {
		assert_int_equal(quit_watch(NULL), 0);
		assert_false(quit_wait(0));
		errno = EPERM;
		raise(numbers[i]);
		assert_int_equal(errno, EPERM); /* whatever nbdkit's handler does to it */
		assert_int_equal(came[numbers[i]], 1);
		assert_true(quit_wait(0));
		assert_true(quit_wait(1000000)); /* for good, and at once */
		quit_forget();
		assert_ptr_equal(handler_of(numbers[i]), plain);
		raise(numbers[i]);
		assert_int_equal(came[numbers[i]], 2);
	}
}

static void a_handler_with_three_arguments_gets_them(void **state)
{
	struct sigaction a = { .sa_sigaction = informed, .sa_flags = SA_SIGINFO };

	assert_int_equal(sigaction(SIGTERM, &a, NULL), 0);
	assert_int_equal(quit_watch(NULL), 0);
	kill(getpid(), SIGTERM);
	assert_true(quit_wait(1000000));
	assert_int_equal(came[SIGTERM], 1);
	assert_int_equal(with_sender, getpid());
	quit_forget();
}

/* Such a signal ends the process, or does nothing: neither is ours to change. */
static void a_signal_without_a_handler_is_left_alone(void **state)
{
	set_plain(SIGHUP, SIG_IGN);
	set_plain(SIGQUIT, SIG_DFL);
	assert_int_equal(quit_watch(NULL), 0);
	assert_ptr_equal(handler_of(SIGHUP), SIG_IGN);
	assert_ptr_equal(handler_of(SIGQUIT), SIG_DFL);
	raise(SIGHUP);
	assert_false(quit_wait(0));
	quit_forget();
	assert_ptr_equal(handler_of(SIGHUP), SIG_IGN);
	assert_ptr_equal(handler_of(SIGQUIT), SIG_DFL);
}

/* The mask and flags stay nbdkit's: with SA_RESTART no call of its fails with EINTR. */
static void flags_and_mask_stay(void **state)
{
	struct sigaction a = { .sa_handler = plain, .sa_flags = SA_RESTART };

	sigaddset(&a.sa_mask, SIGUSR1);
	assert_int_equal(sigaction(SIGINT, &a, NULL), 0);
	assert_int_equal(quit_watch(NULL), 0);
	assert_int_equal(sigaction(SIGINT, NULL, &a), 0);
	assert_true(a.sa_flags & SA_RESTART);
	assert_true(a.sa_flags & SA_SIGINFO); /* without it ours would not be told who sent it */
	assert_true(sigismember(&a.sa_mask, SIGUSR1));
	quit_forget();
}

static void ours_stays_in_the_chain_of_a_later_handler(void **state)
{
	assert_int_equal(quit_watch(NULL), 0);
	set_plain(SIGTERM, SIG_IGN); /* somebody's, after us */
	quit_forget();
	assert_ptr_equal(handler_of(SIGTERM), SIG_IGN);
	assert_ptr_equal(handler_of(SIGINT), plain);
	set_plain(SIGTERM, plain);
	assert_int_equal(quit_watch(NULL), 0);
	raise(SIGTERM);
	assert_true(quit_wait(0));
	assert_int_equal(came[SIGTERM], 1);
	quit_forget();
	assert_ptr_equal(handler_of(SIGTERM), plain);
}

static void *tell(void *arg)
{
	quit_tell();
	return NULL;
}

static void *wait_long(void *arg)
{
	return quit_wait(1000000) ? arg : NULL;
}

static void waiting_ends_when_it_is_told(void **state)
{
	pthread_t waiter, teller;
	void *woken;
	int any;

	assert_int_equal(quit_watch(NULL), 0);
	assert_int_equal(pthread_create(&waiter, NULL, wait_long, &any), 0);
	assert_int_equal(pthread_create(&teller, NULL, tell, NULL), 0);
	pthread_join(teller, NULL);
	pthread_join(waiter, &woken);
	assert_ptr_equal(woken, &any);
	quit_forget();
	assert_int_equal(quit_watch(NULL), 0); /* begins anew */
	assert_false(quit_wait(0));
	quit_forget();
}

static void waiting_takes_its_time(void **state)
{
	uint64_t begin = clock_ms();

	assert_int_equal(quit_watch(NULL), 0);
	assert_false(quit_wait(30));
	assert_true(clock_ms() - begin >= 30);
	errno = EINTR; /* of what came before */
	assert_false(quit_wait(0));
	quit_forget();
	quit_forget(); /* harmless */
}

/* Whatever interrupts it, the time is that which was asked for. */
static void waiting_goes_on_after_interruptions(void **state)
{
	static const struct {
		struct poll_step steps[4];
		unsigned count;
		bool told;
	} rows[] = {
		{ { { 1000, 400, -1, EINTR }, { 600, 599, -1, EINTR }, { 1, 1, 0, EINTR } },
		  3,
		  false },
		{ { { 1000, 1000, -1, EINTR }, { 0, 0, 0, 0 } }, 2, false },
		{ { { 1000, 1001, -1, EINTR }, { 0, 0, 0, 0 } }, 2, false },
		{ { { 1000, 10, -1, EINTR }, { 990, 0, 1, EINTR } }, 2, true },
		{ { { 1000, 10, -1, ENOMEM } }, 1, false },
		{ { { 1000, 0, 1, 0 } }, 1, true },
	};
	struct clock_ops ops = clock_system;
	size_t i;

	ops.now_us = now_us;
	clock_use(&ops);
	assert_int_equal(quit_watch(NULL), 0);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		steps = rows[i].steps;
		time_now = 5;
		if (quit_wait(1000) != rows[i].told || steps != rows[i].steps + rows[i].count)
			fail_msg("row %zu: %td steps", i, steps - rows[i].steps);
		steps = NULL;
	}
	quit_forget();
	clock_use(NULL);
}

/* Who took ours for the handler before its own calls it when it is forgotten, too: then it hands
 * the signal to nobody, who has it already. */
static void what_was_forgotten_is_handed_to_nobody(void **state)
{
	struct sigaction ours;

	assert_int_equal(quit_watch(NULL), 0);
	assert_int_equal(sigaction(SIGTERM, NULL, &ours), 0);
	quit_forget();
	ours.sa_sigaction(SIGTERM, NULL, NULL);
	assert_int_equal(came[SIGTERM], 0);
}

/* What cannot be given back, or looked at, stays ours and is handed on. */
static void what_cannot_be_forgotten_is_handed_on(void **state)
{
	int which;

	for (which = 0; which < 2; which++) {
		assert_int_equal(quit_watch(NULL), 0);
		refused = which == 0 ? SIGTERM : 0;
		unreadable = which == 1 ? SIGTERM : 0;
		quit_forget();
		refused = unreadable = 0;
		assert_ptr_not_equal(handler_of(SIGTERM), plain);
		assert_ptr_equal(handler_of(SIGINT), plain);
		raise(SIGTERM);
		assert_int_equal(came[SIGTERM], which + 1);
		quit_forget();
		assert_ptr_equal(handler_of(SIGTERM), plain);
	}
}

static void without_a_descriptor_nothing_is_watched(void **state)
{
	struct err e;
	size_t i;

	is_full = true;
	assert_int_equal(quit_watch(&e), -EMFILE);
	is_full = false;
	assert_string_equal(e.msg, "watching for signals: Too many open files");
	for (i = 0; i < COUNT; i++)
		assert_ptr_equal(handler_of(numbers[i]), plain);
}

/* All or none. */
static void what_cannot_be_watched_is_an_error(void **state)
{
	struct err e;
	size_t i, k;

	for (k = 0; k < 2 * COUNT; k++) {
		refused = k < COUNT ? numbers[k] : 0;
		unreadable = k < COUNT ? 0 : numbers[k - COUNT];
		assert_int_equal(quit_watch(&e), -EINVAL);
		assert_string_equal(e.msg, "watching for signals: Invalid argument");
		refused = unreadable = 0;
		for (i = 0; i < COUNT; i++)
			assert_ptr_equal(handler_of(numbers[i]), plain);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(without_a_descriptor_nothing_is_watched), /* while there is none yet */
		TEST(each_signal_is_noticed_and_handed_on),
		TEST(a_handler_with_three_arguments_gets_them),
		TEST(a_signal_without_a_handler_is_left_alone),
		TEST(flags_and_mask_stay),
		TEST(ours_stays_in_the_chain_of_a_later_handler),
		TEST(waiting_ends_when_it_is_told),
		TEST(waiting_takes_its_time),
		TEST(waiting_goes_on_after_interruptions),
		TEST(what_was_forgotten_is_handed_to_nobody),
		TEST(what_cannot_be_forgotten_is_handed_on),
		TEST(what_cannot_be_watched_is_an_error),
	};

	close(STDIN_FILENO); /* so that quit.c's eventfd is 0, a descriptor as good as any */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
