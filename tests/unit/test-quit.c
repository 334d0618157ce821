/* SPDX-License-Identifier: Apache-2.0 */
/* test-quit.c - that the end of the server is noticed at once, and that whoever had the signals
 * before gets them as before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "nbdkit-plugin/quit.h"
#include "tests/unit/leftovers.h"

static const int numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };

enum { COUNT = sizeof numbers / sizeof *numbers };

static volatile sig_atomic_t came[64]; /* how often, by number */
static volatile sig_atomic_t with_sender; /* the process that siginfo names */

static int refused; /* the signal whose handler cannot be set */

int __real_sigaction(int number, const struct sigaction *now, struct sigaction *before);
int __wrap_sigaction(int number, const struct sigaction *now, struct sigaction *before);
int __wrap_sigaction(int number, const struct sigaction *now, struct sigaction *before)
{
	if (now && number == refused) {
		errno = EINVAL;
		return -1;
	}
	return __real_sigaction(number, now, before);
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

/* All or none. */
static void what_cannot_be_watched_is_an_error(void **state)
{
	struct err e;
	size_t i;

	refused = SIGQUIT;
	assert_int_equal(quit_watch(&e), -EINVAL);
	assert_string_equal(e.msg, "watching for signals: Invalid argument");
	refused = 0;
	for (i = 0; i < COUNT; i++)
		assert_ptr_equal(handler_of(numbers[i]), plain);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_signal_is_noticed_and_handed_on),
		TEST(a_handler_with_three_arguments_gets_them),
		TEST(a_signal_without_a_handler_is_left_alone),
		TEST(flags_and_mask_stay),
		TEST(ours_stays_in_the_chain_of_a_later_handler),
		TEST(waiting_ends_when_it_is_told),
		TEST(waiting_takes_its_time),
		TEST(what_cannot_be_watched_is_an_error),
	};

	leftovers_allowed = 1; /* quit.c's eventfd */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
