/* SPDX-License-Identifier: Apache-2.0 */
/* Connections made ahead: taken once, by their address, not when the other side has closed them;
 * closed when they are too old. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <errno.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "fetch/warm.h"
#include "tests/unit/alloc.h"

/* The engine never waits for one of them. */
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	assert_int_equal(n, 1);
	assert_int_equal(timeout, 0);
	return __real_poll(fds, n, timeout);
}

static int connect_error; /* of the next call; 0: none */
static unsigned connects;

int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	connects++;
	errno = connect_error;
	connect_error = 0;
	return errno ? -1 : __real_connect(fd, address, length);
}

static uint64_t now_us;

static uint64_t get_now(void)
{
	return now_us;
}

static const struct clock_ops by_hand = { .now_us = get_now };

/* A server at a port of this machine. */
struct server {
	int fd;
	struct sockaddr_in address;
};

static struct server listen_anywhere(void)
{
	struct server s = { .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	socklen_t n = sizeof s.address;

	s.address.sin_family = AF_INET;
	s.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(s.fd, (struct sockaddr *)&s.address, n), 0);
	assert_int_equal(listen(s.fd, 8), 0);
	assert_int_equal(getsockname(s.fd, (struct sockaddr *)&s.address, &n), 0);
	return s;
}

static void connect_to(struct warm *w, const struct server *s, unsigned count)
{
	warm_connect(w, AF_INET, SOCK_STREAM, 0, (const struct sockaddr *)&s->address,
		     sizeof s->address, count);
}

static int take(struct warm *w, const struct server *s)
{
	return warm_take(w, (const struct sockaddr *)&s->address, sizeof s->address);
}

/* The other end of the next connection, and waits until ours is connected. */
static int accept_one(const struct server *s)
{
	int fd = accept(s->fd, NULL, NULL);

	assert_true(fd >= 0);
	return fd;
}

/* Whether the other side has closed its end. */
static bool is_closed(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&p, 1, 0) == 1 && read(fd, &byte, 1) == 0;
}

static int set_up(void **state)
{
	now_us = 1000 * 1000;
	clock_use(&by_hand);
	return 0;
}

static int tear_down(void **state)
{
	clock_use(NULL);
	return 0;
}

static void test_take(void **state)
{
	struct server s = listen_anywhere(), other = listen_anywhere();
	struct warm w = { 0 };
	int ends[3], fd, i;

	assert_int_equal(take(&w, &s), -1);
	connect_to(&w, &s, 2);
	connect_to(&w, &other, 1);
	ends[0] = accept_one(&s);
	ends[1] = accept_one(&s);
	ends[2] = accept_one(&other);
	assert_int_equal(warm_take(&w, (struct sockaddr *)&s.address, sizeof s.address - 1), -1);
	for (i = 0; i < 2; i++) {
		fd = take(&w, &s);
		assert_true(fd >= 0);
		assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		assert_int_equal(write(fd, "x", 1), 1); /* it is a connection, and ours alone */
		close(fd);
	}
	assert_int_equal(take(&w, &s), -1); /* that to the other one is none */
	assert_false(is_closed(ends[2]));
	fd = take(&w, &other);
	assert_true(fd >= 0);
	close(fd);
	assert_true(warm_expire(&w, CLOCK_NEVER) == CLOCK_NEVER);
	for (i = 0; i < 3; i++)
		close(ends[i]);
	close(s.fd);
	close(other.fd);
}

/* One that the other side has closed, or has sent something on, is passed over. */
static void test_unusable(void **state)
{
	struct server s = listen_anywhere();
	struct warm w = { 0 };
	int ends[3], fd, i;

	connect_to(&w, &s, 3);
	for (i = 0; i < 3; i++)
		ends[i] = accept_one(&s);
	close(ends[0]);
	assert_int_equal(write(ends[2], "x", 1), 1);
	fd = take(&w, &s);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "y", 1), 1);
	assert_int_equal(take(&w, &s), -1);
	(void)warm_expire(&w, CLOCK_NEVER);
	close(fd);
	close(ends[1]);
	close(ends[2]);
	close(s.fd);
}

static void test_expire(void **state)
{
	struct server s = listen_anywhere();
	struct warm w = { 0 };
	int ends[3], i;

	assert_true(warm_expire(&w, 0) == CLOCK_NEVER);
	for (i = 0; i < 3; i++) { /* at 1000, 2000 and 3000 ms */
		connect_to(&w, &s, 1);
		ends[i] = accept_one(&s);
		now_us += 1000 * 1000;
	}
	/* None is due: each is looked at, and the oldest says when. */
	assert_int_equal(warm_expire(&w, 3000), 1000 + WARM_MS);
	assert_int_equal(warm_expire(&w, 1000 + WARM_MS - 1), 1000 + WARM_MS);
	assert_false(is_closed(ends[0]));
	/* The oldest is, which stands last. */
	assert_int_equal(warm_expire(&w, 1000 + WARM_MS), 2000 + WARM_MS);
	assert_true(is_closed(ends[0]));
	assert_false(is_closed(ends[1]));
	assert_false(is_closed(ends[2]));
	assert_true(warm_expire(&w, CLOCK_NEVER) == CLOCK_NEVER);
	assert_true(is_closed(ends[1]));
	assert_true(is_closed(ends[2]));
	assert_null(w.first);
	for (i = 0; i < 3; i++)
		close(ends[i]);
	close(s.fd);
}

/* Nothing is made of an address that is too long, or to which nothing leads. */
static void test_failing(void **state)
{
	struct sockaddr_storage longer[2];
	struct server s = listen_anywhere();
	struct warm w = { 0 };
	int before = dup(s.fd), after;

	close(before);
	memset(longer, 0, sizeof longer);
	memcpy(longer, &s.address, sizeof s.address);
	warm_connect(&w, AF_INET, SOCK_STREAM, 0, (struct sockaddr *)longer, sizeof longer, 1);
	assert_null(w.first);
	warm_connect(&w, AF_INET6, SOCK_STREAM, 0, (struct sockaddr *)&s.address, sizeof s.address,
		     1);
	assert_null(w.first);
	warm_connect(&w, -1, SOCK_STREAM, 0, (struct sockaddr *)&s.address, sizeof s.address, 1);
	assert_null(w.first);
	warm_connect(&w, AF_INET, SOCK_STREAM, 0, (struct sockaddr *)&s.address, sizeof s.address,
		     0);
	assert_null(w.first);
	after = dup(s.fd);
	assert_int_equal(after, before); /* nor is a descriptor left */
	close(after);
	close(s.fd);
}

/* The first that cannot be made is the last that is tried. */
static void test_not_made(void **state)
{
	struct server s = listen_anywhere();
	struct warm w = { 0 };

	connects = 0;
	alloc_left = 0;
	connect_to(&w, &s, 3);
	assert_int_equal(alloc_left, -1);
	assert_null(w.first);
	assert_int_equal(connects, 0);
	connect_error = ENETUNREACH;
	connect_to(&w, &s, 3);
	assert_null(w.first);
	assert_int_equal(connects, 1);
	connect_error = EINPROGRESS; /* that is none, as far as is known */
	connect_to(&w, &s, 1);
	assert_non_null(w.first);
	assert_true(warm_expire(&w, CLOCK_NEVER) == CLOCK_NEVER);
	assert_null(w.first);
	close(s.fd);
}

/* One that is connected at once, whatever errno was; over the descriptor 0 as over any other. */
static void test_at_once(void **state)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX }, nobody = name;
	const struct sockaddr *at = (const struct sockaddr *)&name;
	int listens = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), saved = dup(0), other, fd;
	struct warm w = { 0 };

	/* of no file: the first byte is 0 */
	snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "test-warm.%d", (int)getpid());
	snprintf(nobody.sun_path + 1, sizeof nobody.sun_path - 1, "test-warm.%d-", (int)getpid());
	assert_int_equal(bind(listens, at, sizeof name), 0);
	assert_int_equal(listen(listens, 8), 0);
	close(0);
	warm_connect(&w, AF_UNIX, SOCK_STREAM, 0, (const struct sockaddr *)&nobody, sizeof nobody,
		     2);
	assert_null(w.first);
	assert_int_equal(fcntl(0, F_GETFD), -1); /* it is closed */
	warm_connect(&w, AF_UNIX, SOCK_STREAM, 0, at, sizeof name, 2);
	other = accept(listens, NULL, NULL);
	assert_true(fcntl(0, F_GETFD) >= 0);
	assert_int_equal(warm_take(&w, (const struct sockaddr *)&nobody, sizeof nobody), -1);
	fd = warm_take(&w, at, sizeof name);
	assert_true(fd > 0); /* the newest */
	assert_int_equal(warm_take(&w, at, sizeof name), 0);
	close(0);
	assert_int_equal(dup(saved), 0);
	close(saved);
	close(fd);
	close(other);
	close(listens);
}

/* An address as long as one may be. */
static void test_longest(void **state)
{
	struct server s = listen_anywhere();
	struct sockaddr_storage storage;
	struct warm w = { 0 };
	int other, fd;

	memset(&storage, 0, sizeof storage);
	memcpy(&storage, &s.address, sizeof s.address);
	warm_connect(&w, AF_INET, SOCK_STREAM, 0, (struct sockaddr *)&storage, sizeof storage, 1);
	other = accept_one(&s);
	assert_int_equal(take(&w, &s), -1); /* of another length */
	fd = warm_take(&w, (struct sockaddr *)&storage, sizeof storage);
	assert_true(fd >= 0);
	close(fd);
	close(other);
	close(s.fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_take),     TEST(test_unusable), TEST(test_expire),  TEST(test_failing),
		TEST(test_not_made), TEST(test_at_once),  TEST(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
