/* SPDX-License-Identifier: Apache-2.0 */
/* controllib.h - a disk with a control socket, its clients, and the system as a test wants it.
 *
 * Linked with the calls below wrapped (wrap_control): each goes on to the real one unless a test
 * makes it fail or give little.  A test program includes it once. */
#ifndef OVERLAYBD_TESTS_CONTROLLIB_H
#define OVERLAYBD_TESTS_CONTROLLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/upper_log.h"
#include "fetch/stats.h"
#include "nbdkit-plugin/control.h"
#include "nbdkit-plugin/disk.h"
#include "tests/unit/loglib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static char folder[64], path[128];
static struct disk *disk;
static struct control *control;

/* A function's type, the real one and the wrapped one. */
#define WRAP(type, name, parameters)                                                               \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters

/* ---- the calls that make the socket ---- */

static const char *failing = ""; /* the call of this name fails, */
static int failing_after, failure; /* after so many, with this errno */
static const char *zero = ""; /* the call whose descriptor is 0: there is no standard input */

static inline bool fails(const char *call)
{
	if (strcmp(call, failing) != 0 || failing_after-- > 0)
		return false;
	failing = "";
	errno = failure;
	return true;
}

static inline void fail_call(const char *call, int after, int code)
{
	failing = call;
	failing_after = after;
	failure = code;
}

static inline int as_zero(const char *call, int fd)
{
	if (strcmp(call, zero) != 0)
		return fd;
	zero = "";
	assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
	close(fd);
	return STDIN_FILENO;
}

static atomic_int stop_fd; /* the last eventfd */

WRAP(int, eventfd, (unsigned initial, int flags))
{
	assert_int_equal(flags, EFD_CLOEXEC);
	stop_fd = fails("eventfd") ? -1 : as_zero("eventfd", __real_eventfd(initial, flags));
	return stop_fd;
}

WRAP(int, socket, (int domain, int type, int protocol))
{
	assert_int_equal(type, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_int_equal(protocol, 0);
	return fails("socket") ? -1 : as_zero("socket", __real_socket(domain, type, protocol));
}

WRAP(int, fchmod, (int fd, mode_t mode))
{
	return fails("fchmod") ? -1 : __real_fchmod(fd, mode);
}

WRAP(int, bind, (int fd, const struct sockaddr *a, socklen_t n))
{
	return fails("bind") ? -1 : __real_bind(fd, a, n);
}

WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t n))
{
	return fails("connect") ? -1 : __real_connect(fd, a, n);
}

WRAP(int, listen, (int fd, int backlog))
{
	assert_int_equal(backlog, 16);
	return fails("listen") ? -1 : __real_listen(fd, backlog);
}

WRAP(int, lstat64, (const char *name, struct stat *st))
{
	return fails("lstat") ? -1 : __real_lstat64(name, st);
}

WRAP(int, unlink, (const char *name))
{
	return fails("unlink") ? -1 : __real_unlink(name);
}

/* ---- the thread that accepts ---- */

static atomic_int accept_failure; /* errno of the next one, 0: none */
static atomic_int accepter_poll; /* errno of its next poll, negative: that gives 0; 0: none */
static atomic_uint pauses; /* in which it does not accept */
static atomic_bool accepts_zero; /* the next client's descriptor is 0 */

WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags))
{
	int code = atomic_exchange(&accept_failure, 0), r;

	assert_int_equal(flags, SOCK_CLOEXEC);
	if (code) {
		errno = code;
		return -1;
	}
	r = __real_accept4(fd, a, n, flags);
	if (atomic_exchange(&accepts_zero, false)) {
		assert_int_equal(dup2(r, STDIN_FILENO), STDIN_FILENO);
		close(r);
		r = STDIN_FILENO;
	}
	return r;
}

/* ---- the threads of clients ---- */

static atomic_bool is_slow; /* EAGAIN, EINTR, then a byte, and so on */
static atomic_uint turns;
static atomic_int recv_failure, send_failure; /* errno of each, 0: none */
static _Thread_local size_t taken; /* bytes of the request, in the client's thread */

WRAP(ssize_t, recv, (int fd, void *buf, size_t n, int flags))
{
	unsigned turn = is_slow ? atomic_fetch_add(&turns, 1) % 3 : 2;
	ssize_t r;

	assert_true(flags & MSG_DONTWAIT);
	assert_int_equal(n, 64 * 1024 - taken);
	assert_true(n > 0);
	if (recv_failure || turn < 2) {
		errno = recv_failure ? recv_failure : turn == 0 ? EAGAIN : EINTR;
		return -1;
	}
	r = __real_recv(fd, buf, is_slow ? 1 : n, flags);
	taken += r > 0 ? (size_t)r : 0;
	return r;
}

/* That it took nothing is no failure of a send. */
WRAP(ssize_t, send, (int fd, const void *buf, size_t n, int flags))
{
	unsigned turn = is_slow ? atomic_fetch_add(&turns, 1) % 4 : 3;

	assert_true(flags & MSG_NOSIGNAL);
	assert_true(flags & MSG_DONTWAIT);
	assert_true(n > 0);
	if (send_failure || turn < 2) {
		errno = send_failure ? send_failure : turn == 0 ? EAGAIN : EINTR;
		return -1;
	}
	if (turn == 2) {
		errno = EPIPE; /* of what came before */
		return 0;
	}
	return __real_send(fd, buf, is_slow ? 1 : n, flags);
}

static atomic_int client_poll; /* errno of the next one, negative: it gives 0 with that errno */
static atomic_uint polls; /* of clients */
static atomic_uint waits; /* that had to wait */
static atomic_int patience; /* ms that the last one may take */
static sem_t polled; /* is posted at each */
static atomic_bool never_times_out; /* the clock stands still, then */

static inline int give(int code)
{
	errno = code < 0 ? -code : code;
	return code < 0 ? 0 : -1;
}

WRAP(int, poll, (struct pollfd * fds, nfds_t n, int timeout))
{
	int code;

	if (n == 1) { /* ends with the server */
		assert_int_equal(fds->fd, stop_fd);
		assert_int_equal(fds->events, POLLIN);
		assert_int_equal(timeout, 100);
		pauses++;
		return 0;
	}
	assert_int_equal(n, 2);
	code = atomic_exchange(timeout < 0 ? &accepter_poll : &client_poll, 0);
	if (timeout >= 0) {
		patience = timeout;
		polls++;
		if (!code && __real_poll(fds, n, 0) == 0)
			waits++;
		sem_post(&polled);
	}
	return code ? give(code) : __real_poll(fds, n, never_times_out ? -1 : timeout);
}

/* ---- the disk ---- */

static sem_t snapshot_begun, snapshot_may_end;
static bool snapshot_waits;
/* In place of the semaphores, which order the threads' accesses for TSan as a lock would. */
static bool is_unordered;
static atomic_bool may_go_on;

WRAP(int, image_snapshot,
     (struct image * image, const char *layer, uint64_t *blocked, struct err *e))
{
	if (snapshot_waits) {
		sem_post(&snapshot_begun);
		while (is_unordered && !atomic_load_explicit(&may_go_on, memory_order_relaxed))
			sched_yield();
		if (!is_unordered)
			sem_wait(&snapshot_may_end);
		*blocked = 7;
		return 0;
	}
	return __real_image_snapshot(image, layer, blocked, e);
}

static bool stats_fail;

WRAP(int, stats_format,
     (struct stats_group *const *groups, size_t count, bool prometheus, char **out, size_t *n,
      struct err *e))
{
	return stats_fail ? err_set(e, ENOMEM, "no \"memory\"")
			  : __real_stats_format(groups, count, prometheus, out, n, e);
}

/* ---- memory and threads ---- */

static atomic_size_t refused_size; /* no memory for that many bytes, once */
static atomic_int json_left = -1; /* the allocation of jansson's that fails; negative: none */

WRAP(void *, malloc, (size_t n))
{
	size_t expected = n;

	return atomic_compare_exchange_strong(&refused_size, &expected, 0) ? NULL
									   : __real_malloc(n);
}

static inline void *json_malloc(size_t n)
{
	return atomic_fetch_sub(&json_left, 1) == 0 ? NULL : __real_malloc(n);
}

static sem_t waits_for_client; /* is posted when somebody does */

WRAP(int, pthread_cond_wait, (pthread_cond_t * c, pthread_mutex_t *lock))
{
	sem_post(&waits_for_client);
	return __real_pthread_cond_wait(c, lock);
}

static atomic_int thread_failures; /* so many threads are refused from now on */

WRAP(int, pthread_create,
     (pthread_t * out, const pthread_attr_t *attributes, void *(*body)(void *arg), void *arg))
{
	if (thread_failures > 0) {
		atomic_fetch_sub(&thread_failures, 1);
		return EAGAIN;
	}
	return __real_pthread_create(out, attributes, body, arg);
}

/* ---- time ---- */

static atomic_ullong skipped; /* us that the clock is ahead */

static inline uint64_t now_us(void)
{
	return (never_times_out ? 1000 * 1000 : clock_system.now_us()) + skipped;
}

/* From now on time passes at the test's word. */
static inline void stop_time(void)
{
	static struct clock_ops ops;

	ops = clock_system;
	ops.now_us = now_us;
	skipped = 0;
	never_times_out = true;
	clock_use(&ops);
}

/* ---- a disk and its socket ---- */

static inline void write_text(const char *name, const char *text)
{
	char file[128];

	snprintf(file, sizeof file, "%s/%s", folder, name);
	assert_int_equal(io_replace_file(file, text, strlen(text), NULL), 0);
}

static inline void open_disk(const char *config)
{
	const struct config_options options = { .service = "none" };
	char file[128];
	struct err e;

	write_text("d.yaml", config);
	snprintf(file, sizeof file, "%s/d.yaml", folder);
	if (disk_open(file, &options, NULL, &disk, &e) < 0)
		fail_msg("%s", e.msg);
}

static inline int set_up(void **state)
{
	char data[128], index[128];

	snprintf(folder, sizeof folder, "/tmp/test-control.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	json_set_alloc_funcs(json_malloc, free);
	snprintf(path, sizeof path, "%s/control", folder);
	snprintf(data, sizeof data, "%s/u.data", folder);
	snprintf(index, sizeof index, "%s/u.index", folder);
	assert_int_equal(upper_log_create(NULL, data, index, 1 << 20, NULL, NULL, NULL), 0);
	failing = zero = "";
	open_disk("upper: {data: u.data, index: u.index}\n");
	snapshot_waits = is_unordered = stats_fail = false;
	is_slow = may_go_on = accepts_zero = false;
	recv_failure = send_failure = thread_failures = accept_failure = 0;
	accepter_poll = client_poll = 0;
	pauses = polls = waits = 0;
	refused_size = 0;
	json_left = -1;
	sem_init(&polled, 0, 0);
	sem_init(&snapshot_begun, 0, 0);
	sem_init(&snapshot_may_end, 0, 0);
	sem_init(&waits_for_client, 0, 0);
	loglib_listen();
	return 0;
}

static inline int tear_down(void **state)
{
	char command[128];

	never_times_out = false;
	clock_use(NULL);
	disk_close(disk);
	loglib_expect_none();
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static inline void start(void)
{
	struct err e;

	if (control_open(path, disk, &control, &e) < 0 || control_start(control, &e) < 0)
		fail_msg("%s", e.msg);
}

/* ---- clients ---- */

static inline int connect_to(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = __real_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path, name, strlen(name));
	if (__real_connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	close(fd);
	return -errno;
}

static inline void say(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, text, n);

		assert_true(done > 0);
		text += done;
		n -= (size_t)done;
	}
}

static inline void say_text(int fd, const char *text)
{
	say(fd, text, strlen(text));
}

/* All that comes until the other side closes, which holds no NUL; closes too. */
static inline const char *hear(int fd)
{
	static char text[65536];
	size_t n = 0;
	ssize_t got;

	while ((got = read(fd, text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(fd);
	assert_int_equal(strlen(text), n);
	return text;
}

static inline const char *ask(const char *request)
{
	int fd = connect_to(path);

	assert_true(fd >= 0);
	say_text(fd, request);
	return hear(fd);
}

static inline void expect(const char *request, const char *answer)
{
	const char *got = ask(request);

	if (strcmp(got, answer) != 0)
		fail_msg("%s: %s", request, got);
}

#define NO(text) "{\"ok\":false,\"error\":\"" text "\"}\n"
#define NO_REQUEST NO("a request is a line of JSON, {\\\"command\\\": NAME}")
#define NO_COMMAND NO("no such command: there are snapshot, stats and status")

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
