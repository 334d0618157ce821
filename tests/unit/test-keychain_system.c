/* SPDX-License-Identifier: Apache-2.0 */
/* test-keychain_system.c - a credential program and a system that refuses: each call fails once,
 * and what is left then is nothing. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/scope.h"
#include "fetch/keychain.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static char folder[] = "/tmp/test-keychain_system.XXXXXX";

/* ---- the system ---- */

/* The call that fails, the how-manieth one of its name, and how. */
static struct {
	const char *call;
	unsigned nth;
	int error;
	unsigned calls; /* of that name, so far */
} failing;

static unsigned kills, waits;
static pid_t killed;
static int killed_by;

static bool fails(const char *call)
{
	if (!failing.call || strcmp(failing.call, call) != 0 || ++failing.calls != failing.nth)
		return false;
	errno = failing.error;
	return true;
}

/* Calls that return -1 and set errno, and those that return the error. */
#define WRAP(type, name, parameters, arguments)                                                    \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		return fails(#name) ? -1 : __real_##name arguments;                                \
	}
#define WRAP_SPAWN(name, parameters, arguments)                                                    \
	int __real_##name parameters;                                                              \
	int __wrap_##name parameters;                                                              \
	int __wrap_##name parameters                                                               \
	{                                                                                          \
		return fails(#name) ? failing.error : __real_##name arguments;                     \
	}

WRAP(int, pipe2, (int ends[2], int flags), (ends, flags))
WRAP(ssize_t, read, (int fd, void *buf, size_t n), (fd, buf, n))
WRAP_SPAWN(posix_spawn_file_actions_adddup2,
	   (posix_spawn_file_actions_t * files, int fd, int new_fd), (files, fd, new_fd))
WRAP_SPAWN(posix_spawn_file_actions_addopen,
	   (posix_spawn_file_actions_t * files, int fd, const char *path, int flags, mode_t mode),
	   (files, fd, path, flags, mode))
WRAP_SPAWN(posix_spawn_file_actions_addclosefrom_np, (posix_spawn_file_actions_t * files, int fd),
	   (files, fd))
WRAP_SPAWN(posix_spawnattr_setsigmask, (posix_spawnattr_t * a, const sigset_t *s), (a, s))
WRAP_SPAWN(posix_spawnattr_setsigdefault, (posix_spawnattr_t * a, const sigset_t *s), (a, s))
WRAP_SPAWN(posix_spawnattr_setpgroup, (posix_spawnattr_t * a, pid_t group), (a, group))
WRAP_SPAWN(posix_spawnattr_setflags, (posix_spawnattr_t * a, short flags), (a, flags))

/* What is initialised is destroyed, though glibc keeps no memory in an attribute. */
static int inits, alive;

int __real_posix_spawn_file_actions_init(posix_spawn_file_actions_t *files);
int __wrap_posix_spawn_file_actions_init(posix_spawn_file_actions_t *files);
int __real_posix_spawnattr_init(posix_spawnattr_t *a);
int __wrap_posix_spawnattr_init(posix_spawnattr_t *a);
int __real_posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *files);
int __wrap_posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *files);
int __real_posix_spawnattr_destroy(posix_spawnattr_t *a);
int __wrap_posix_spawnattr_destroy(posix_spawnattr_t *a);

int __wrap_posix_spawn_file_actions_init(posix_spawn_file_actions_t *files)
{
	if (fails("posix_spawn_file_actions_init"))
		return failing.error;
	inits++;
	return __real_posix_spawn_file_actions_init(files);
}

int __wrap_posix_spawnattr_init(posix_spawnattr_t *a)
{
	if (fails("posix_spawnattr_init"))
		return failing.error;
	inits++;
	return __real_posix_spawnattr_init(a);
}

int __wrap_posix_spawn_file_actions_destroy(posix_spawn_file_actions_t *files)
{
	alive--;
	return __real_posix_spawn_file_actions_destroy(files);
}

int __wrap_posix_spawnattr_destroy(posix_spawnattr_t *a)
{
	alive--;
	return __real_posix_spawnattr_destroy(a);
}

int __real_pidfd_open(pid_t pid, unsigned flags);
int __wrap_pidfd_open(pid_t pid, unsigned flags);
ssize_t __real_write(int fd, const void *buf, size_t n);
ssize_t __wrap_write(int fd, const void *buf, size_t n);
pid_t __real_waitpid(pid_t pid, int *status, int options);
pid_t __wrap_waitpid(pid_t pid, int *status, int options);
int __real_kill(pid_t pid, int number);
int __wrap_kill(pid_t pid, int number);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);

static bool pidfd_is_0;

/* Where standard input is closed a descriptor may be 0; what errno is then says nothing. */
int __wrap_pidfd_open(pid_t pid, unsigned flags)
{
	int fd;

	if (fails("pidfd_open"))
		return -1;
	fd = __real_pidfd_open(pid, flags);
	if (!pidfd_is_0)
		return fd;
	assert_int_equal(dup2(fd, 0), 0);
	close(fd);
	errno = ESRCH;
	return 0;
}

/* Fails, or with error 0 takes a byte less. */
ssize_t __wrap_write(int fd, const void *buf, size_t n)
{
	if (fails("write"))
		return failing.error ? -1 : __real_write(fd, buf, n - 1);
	return __real_write(fd, buf, n);
}

/* A child that the system has waited for itself is not there any more. */
pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
	int ignored;

	waits++;
	assert_int_equal(options, 0);
	if (!fails("waitpid"))
		return __real_waitpid(pid, status, options);
	if (failing.error == ECHILD)
		(void)__real_waitpid(pid, &ignored, 0);
	errno = failing.error;
	return -1;
}

int __wrap_kill(pid_t pid, int number)
{
	kills++;
	killed = pid;
	killed_by = number;
	return __real_kill(pid, number);
}

static int timeouts[8]; /* that poll was asked for */
static unsigned polls;
static uint64_t now; /* ms; 0: the system's clock */
static uint64_t steps[8]; /* ms that each poll takes, and then has nothing; 0: it is asked */

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	unsigned i = polls < COUNT_OF(timeouts) ? polls++ : COUNT_OF(timeouts) - 1;

	assert_int_equal(n, 1);
	assert_int_equal(fds->events, POLLIN);
	timeouts[i] = timeout;
	if (fails("poll"))
		return -1;
	if (steps[i] == 0)
		return __real_poll(fds, n, -1);
	now += steps[i];
	return 0;
}

static uint64_t now_us(void)
{
	return now * 1000;
}

static const struct clock_ops clock_of_test = { .now_us = now_us };

static int get(const char *name, struct credentials *c, struct err *e)
{
	int r;

	kills = waits = polls = failing.calls = 0;
	inits = alive = 0;
	r = keychain_get(name, "reg.io", 10, c, e);
	assert_int_equal(alive, -inits);
	return r;
}

/* ---- each call ---- */

#define SPAWN(call, nth)                                                                           \
	{                                                                                          \
		"good", call, nth, ENOMEM, -ENOMEM, "Cannot allocate memory", 0                    \
	}

static const struct {
	const char *program, *call;
	unsigned nth;
	int error;
	int r;
	const char *text; /* behind the program's name, or the user */
	unsigned kills;
} rows[] = {
	{ "good", NULL, 0, 0, 0, "me", 0 },
	{ "good", "pipe2", 1, EMFILE, -EMFILE, "pipe: Too many open files", 0 },
	{ "good", "pipe2", 2, ENFILE, -ENFILE, "pipe: Too many open files in system", 0 },
	{ "good", "write", 1, EPIPE, -EIO, "the pipe did not take the server's name", 0 },
	{ "good", "write", 1, 0, -EIO, "the pipe did not take the server's name", 0 },
	SPAWN("posix_spawn_file_actions_init", 1),
	SPAWN("posix_spawn_file_actions_adddup2", 1),
	SPAWN("posix_spawn_file_actions_adddup2", 2),
	SPAWN("posix_spawn_file_actions_addopen", 1),
	SPAWN("posix_spawn_file_actions_addclosefrom_np", 1),
	SPAWN("posix_spawnattr_init", 1),
	SPAWN("posix_spawnattr_setsigmask", 1),
	SPAWN("posix_spawnattr_setsigdefault", 1),
	SPAWN("posix_spawnattr_setpgroup", 1),
	SPAWN("posix_spawnattr_setflags", 1),
	{ "good", "read", 1, EIO, -EIO, "reading its answer: Input/output error", 1 },
	{ "good", "read", 2, EIO, -EIO, "reading its answer: Input/output error", 1 },
	{ "good", "read", 1, EINTR, 0, "me", 0 },
	{ "good", "pidfd_open", 1, EMFILE, -EMFILE, "pidfd_open: Too many open files", 1 },
	{ "good", "pidfd_open", 1, ESRCH, 0, "me", 0 },
	{ "good", "poll", 1, EINTR, 0, "me", 0 },
	{ "good", "poll", 1, EFAULT, -EFAULT, "poll: Bad address", 1 },
	{ "good", "poll", 3, EFAULT, -EFAULT, "poll: Bad address", 1 },
	{ "good", "waitpid", 1, EINTR, 0, "me", 0 },
	{ "good", "waitpid", 1, ECHILD, 0, "me", 0 },
	/* no status is left: what it said counts alone */
	{ "fails", "waitpid", 1, EINTR, -EIO, "exit status 7", 0 },
	{ "fails", "waitpid", 1, ECHILD, 0, "me", 0 },
};

static void each_call_fails_once(void **state)
{
	char text[128];
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct credentials c;
		struct err e = { "" };
		int r;

		now = 1000;
		failing.call = rows[i].call;
		failing.nth = rows[i].nth;
		failing.error = rows[i].error;
		r = get(rows[i].program, &c, &e);
		failing.call = NULL;
		snprintf(text, sizeof text, "docker-credential-%s: %s", rows[i].program,
			 rows[i].text);
		if (r != rows[i].r || strcmp(r < 0 ? e.msg : c.user, r < 0 ? text : "me") != 0)
			fail_msg("row %zu: %d, %s", i, r, e.msg);
		assert_int_equal(kills, rows[i].kills);
		if (kills > 0)
			assert_true(killed < -1 && killed_by == SIGKILL && waits > 0);
		credentials_release(&c);
	}
}

/* Of the ten seconds that there are, what is left is waited for. */
static void the_time_runs_down(void **state)
{
	struct credentials c;
	struct err e;

	now = 1000;
	assert_int_equal(get("good", &c, &e), 0);
	assert_int_equal(timeouts[0], 10000);
	credentials_release(&c);
	now = 1000;
	steps[0] = 4000;
	steps[1] = 5999;
	assert_int_equal(get("good", &c, &e), 0);
	assert_int_equal(timeouts[0], 10000);
	assert_int_equal(timeouts[1], 6000);
	assert_int_equal(timeouts[2], 1);
	credentials_release(&c);
	now = 1000;
	steps[1] = 6000;
	assert_int_equal(get("good", &c, &e), -ETIMEDOUT);
	assert_string_equal(e.msg, "docker-credential-good: no answer in time");
	assert_int_equal(polls, 2);
	assert_int_equal(kills, 1);
	memset(steps, 0, sizeof steps);
}

/* The end of the program is waited for whatever number its descriptor has. */
static void a_descriptor_may_be_0(void **state)
{
	int input = fcntl(0, F_DUPFD_CLOEXEC, 3);
	struct credentials c;
	struct err e;

	now = 1000;
	pidfd_is_0 = true;
	assert_int_equal(get("good", &c, &e), 0);
	pidfd_is_0 = false;
	assert_int_equal(dup2(input, 0), 0);
	close(input);
	assert_int_equal(polls, 3);
	credentials_release(&c);
}

/* ---- its name and its answer ---- */

#define A32 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void a_name_of_64_bytes_is_the_longest(void **state)
{
	struct credentials c;
	struct err e;

	now = 1000;
	assert_int_equal(get(A32 A32, &c, &e), -ENOENT);
	assert_string_equal(e.msg, "docker-credential-" A32 A32 ": No such file or directory");
	memset(&c, 0xff, sizeof c);
	assert_int_equal(get(A32 A32 "b", &c, &e), -EINVAL);
	assert_string_equal(e.msg, "'" A32 A32 "' cannot be the name of a credential program");
	assert_true(!c.user && !c.password && !c.identity_token && !c.registry_token);
}

/* 64 KiB less one byte are taken, blanks among them. */
static void an_answer_has_a_limit(void **state)
{
	struct credentials c;
	struct err e = { "" };

	now = 1000;
	if (get("long", &c, &e) != 0)
		fail_msg("%s", e.msg);
	assert_string_equal(c.user, "me");
	assert_string_equal(c.password, "secret");
	credentials_release(&c);
	assert_int_equal(get("longer", &c, &e), -EFBIG);
	assert_string_equal(e.msg, "docker-credential-longer: an answer of 64 KiB or more");
	assert_int_equal(kills, 1);
}

static void memory_runs_out(void **state)
{
	static const char *const names[] = { "good", "token" };
	struct credentials c;
	struct err e;
	size_t i;
	long k;
	int r;

	for (i = 0; i < 2 * COUNT_OF(names); i++) {
		allocs_once = i % 2 == 1;
		for (k = 0, r = -ENOMEM; r < 0; k++) {
			now = 1000;
			allocs_left = k;
			r = get(names[i / 2], &c, &e);
			allocs_left = -1;
			assert_true(r == 0 || r == -ENOMEM || r == -EINVAL);
			assert_true(r == 0 || (!c.user && !c.password && !c.identity_token));
			assert_int_equal(kills, 0);
			credentials_release(&c);
		}
		assert_true(k > 5);
	}
	allocs_once = false;
}

static void write_program(const char *name, const char *script)
{
	char path[128];
	FILE *file;

	snprintf(path, sizeof path, "%s/docker-credential-%s", folder, name);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\n%s", script);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, 0755), 0);
}

#define ANSWER "echo '{\"Username\":\"me\",\"Secret\":\"secret\"}'\n"

static int make_programs(void **state)
{
	AUTO_FREE char *path = NULL;

	if (!mkdtemp(folder) || asprintf(&path, "%s:%s", folder, getenv("PATH")) < 0)
		return -1;
	write_program("good", "[ \"$(cat)\" = reg.io ] || exit 3\n" ANSWER);
	write_program("token", "echo '{\"Username\":\"<token>\",\"Secret\":\"secret\"}'\n");
	write_program("fails", ANSWER "exit 7\n");
	/* 36 bytes, and blanks */
	write_program("long", ANSWER "head -c 65499 /dev/zero | tr '\\0' ' '\n");
	write_program("longer", ANSWER "head -c 65500 /dev/zero | tr '\\0' ' '\n");
	clock_use(&clock_of_test);
	allocs_wrap_json();
	return setenv("PATH", path, 1);
}

static int remove_programs(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_fails_once),
		cmocka_unit_test(the_time_runs_down),
		cmocka_unit_test(a_descriptor_may_be_0),
		cmocka_unit_test(a_name_of_64_bytes_is_the_longest),
		cmocka_unit_test(an_answer_has_a_limit),
		cmocka_unit_test(memory_runs_out),
	};

	return cmocka_run_group_tests(tests, make_programs, remove_programs);
}
