/* SPDX-License-Identifier: Apache-2.0 */
/* quit.c - a handler before nbdkit's own, see quit.h.
 *
 * A signal handler knows its arguments and what is global, hence the globals.  `before` and `taken`
 * are written while the handler they are for is not in place, or nothing else runs. */
#include "nbdkit-plugin/quit.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/clock.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* The signals that end nbdkit. */
static const int numbers[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };

static struct sigaction before[COUNT_OF(numbers)]; /* nbdkit's */
static bool taken[COUNT_OF(numbers)]; /* ours is set, and `before` counts */
static atomic_int told = -1; /* an eventfd, readable once the server is told to end */

void quit_tell(void)
{
	const uint64_t one = 1;

	(void)!write(atomic_load(&told), &one, sizeof one); /* it fails when there are 2^64 - 2 */
}

/* Calls nothing but what a signal handler may call (signal-safety(7)). */
static void on_signal(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	size_t i;

	quit_tell();
	for (i = 0; i < COUNT_OF(numbers); i++) {
		if (numbers[i] != number || !taken[i])
			continue;
		if (before[i].sa_flags & SA_SIGINFO)
			before[i].sa_sigaction(number, info, context);
		else
			before[i].sa_handler(number);
	}
	errno = saved;
}

/* A signal without a handler does not end nbdkit in good order, or is ignored: it stays as it is.
 */
static int take_signal(size_t i)
{
	struct sigaction own;

	if (sigaction(numbers[i], NULL, &before[i]) < 0)
		return -errno;
	if (before[i].sa_handler == SIG_DFL || before[i].sa_handler == SIG_IGN)
		return 0;
	own = before[i]; /* its mask and SA_RESTART are right for both */
	own.sa_flags |= SA_SIGINFO;
	own.sa_sigaction = on_signal;
	taken[i] = true;
	return sigaction(numbers[i], &own, NULL) < 0 ? -errno : 0;
}

int quit_watch(struct err *e)
{
	size_t i;
	uint64_t old;
	int r = 0, fd = atomic_load(&told);

	/* It is never closed: a handler that runs in another thread may be about to write to it,
	 * and the number could be a disk's file by then. */
	if (fd < 0)
		fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return err_set(e, errno, "watching for signals: %s", strerror(errno));
	(void)!read(fd, &old, sizeof old); /* what an earlier watch was told */
	atomic_store(&told, fd);
	for (i = 0; r == 0 && i < COUNT_OF(numbers); i++)
		r = take_signal(i);
	if (r < 0) {
		quit_forget();
		return err_set(e, -r, "watching for signals: %s", strerror(-r));
	}
	return 0;
}

bool quit_wait(unsigned ms)
{
	struct pollfd fd = { .fd = atomic_load(&told), .events = POLLIN };
	uint64_t now = clock_ms(), deadline = now + ms;
	int r;

	do {
		r = poll(&fd, 1, now < deadline ? (int)(deadline - now) : 0);
		now = clock_ms();
	} while (r < 0 && errno == EINTR);
	return r > 0;
}

void quit_forget(void)
{
	struct sigaction now;
	size_t i;

	for (i = 0; i < COUNT_OF(numbers); i++) {
		/* Who has put a handler before ours calls ours for good. */
		if (taken[i] && sigaction(numbers[i], NULL, &now) == 0 &&
		    now.sa_sigaction == on_signal && sigaction(numbers[i], &before[i], NULL) == 0)
			taken[i] = false;
	}
}
