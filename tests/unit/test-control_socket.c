/* SPDX-License-Identifier: Apache-2.0 */
/* test-control_socket.c - the control socket's name: whose is taken, replaced and removed, and what
 * is told where the system refuses. */
#include "tests/unit/controllib.h"

static void only_the_owner_may_open_it(void **state)
{
	struct stat st;
	mode_t before = umask(0);

	assert_int_equal(control_open(path, disk, &control, NULL), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode, S_IFSOCK | 0600);
	control_close(control);
	assert_int_equal(stat(path, &st), -1);
	umask(before);
}

/* A client that comes before the threads do is answered when they are there. */
static void it_listens_before_it_answers(void **state)
{
	int fd;

	assert_int_equal(control_open(path, disk, &control, NULL), 0);
	fd = connect_to(path);
	assert_true(fd >= 0);
	say_text(fd, "{\"command\":\"x\"}\n");
	assert_int_equal(control_start(control, NULL), 0);
	assert_string_equal(hear(fd), NO_COMMAND);
	control_close(control);
}

static void a_thread_that_cannot_be_is_told(void **state)
{
	char message[256];
	struct err e;

	assert_int_equal(control_open(path, disk, &control, NULL), 0);
	thread_failures = 1;
	assert_int_equal(control_start(control, &e), -EAGAIN);
	snprintf(message, sizeof message,
		 "control socket %s: starting a thread: Resource temporarily unavailable", path);
	assert_string_equal(e.msg, message);
	control_close(control);
}

static void leave_socket(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = __real_socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(a.sun_path, path, strlen(path));
	assert_int_equal(__real_bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	close(fd); /* the name stays */
}

/* Each call on the way to a socket fails: what is told, and what becomes of the name. */
static void what_the_system_refuses_is_told(void **state)
{
	static const struct {
		bool stale; /* there is a dead server's */
		const char *call;
		int after, code; /* so many of them succeed */
		int result;
		const char *message;
		bool is_there; /* afterwards */
	} rows[] = {
		{ false, "eventfd", 0, EMFILE, EMFILE, "Too many open files", false },
		{ false, "socket", 0, ENFILE, ENFILE, "Too many open files in system", false },
		{ false, "fchmod", 0, EPERM, EPERM, "Operation not permitted", false },
		{ false, "bind", 0, EACCES, EACCES, "Permission denied", false },
		{ false, "listen", 0, EADDRINUSE, EADDRINUSE, "Address already in use", true },
		{ false, "lstat", 0, EIO, EIO, "Input/output error", true },
		{ true, "lstat", 0, ENOENT, EEXIST, "there is something else of this name", true },
		{ true, "socket", 1, EMFILE, EMFILE, "Too many open files", true },
		{ true, "connect", 0, EAGAIN, EBUSY, "another server answers there", true },
		{ true, "connect", 0, EACCES, EACCES, "Permission denied", true },
		{ true, "unlink", 0, EPERM, EPERM, "removing it: Operation not permitted", true },
		/* another server has it meanwhile */
		{ true, "bind", 1, EADDRINUSE, EADDRINUSE, "Address already in use", false },
		{ true, "bind", 0, EADDRINUSE, 0, NULL, false },
		{ true, "connect", 0, ECONNREFUSED, 0, NULL, false },
	};
	char message[256];
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		int r;

		if (rows[i].stale)
			leave_socket();
		fail_call(rows[i].call, rows[i].after, rows[i].code);
		control = NULL;
		r = control_open(path, disk, &control, &e);
		assert_string_equal(failing, "");
		snprintf(message, sizeof message, "control socket %s: %s", path, rows[i].message);
		if (r != -rows[i].result || (r < 0 && strcmp(e.msg, message) != 0))
			fail_msg("row %zu: %d, %s", i, r, r < 0 ? e.msg : "");
		assert_true((r == 0) == (control != NULL));
		control_close(control);
		if ((access(path, F_OK) == 0) != rows[i].is_there)
			fail_msg("row %zu: the name is%s there", i, rows[i].is_there ? " not" : "");
		remove(path);
	}
}

static void a_name_that_stays_is_told(void **state)
{
	char expected[256];

	start();
	fail_call("unlink", 0, EPERM);
	control_close(control);
	snprintf(expected, sizeof expected,
		 "control socket %s: cannot be removed: Operation not permitted\n", path);
	loglib_expect(expected);
}

/* 0 is a descriptor as good as any, both for the socket and for what ends its thread. */
static void descriptor_zero_is_one(void **state)
{
	static const char *const calls[] = { "eventfd", "socket" };
	int saved = dup(STDIN_FILENO);
	size_t i;

	for (i = 0; i < COUNT_OF(calls); i++) {
		zero = calls[i];
		start();
		assert_string_equal(zero, "");
		expect("{\"command\":\"x\"}\n", NO_COMMAND);
		control_close(control);
		assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1);
		dup2(saved, STDIN_FILENO);
	}
	close(saved);
}

static void a_dead_servers_socket_is_replaced(void **state)
{
	leave_socket();
	start();
	expect("{\"command\":\"x\"}\n", NO_COMMAND);
	control_close(control);
}

static void a_living_servers_socket_is_not(void **state)
{
	struct control *second = NULL;
	char message[256];
	struct err e;

	start();
	assert_int_equal(control_open(path, disk, &second, &e), -EBUSY);
	snprintf(message, sizeof message, "control socket %s: another server answers there", path);
	assert_string_equal(e.msg, message);
	expect("{\"command\":\"x\"}\n", NO_COMMAND); /* its name is still there */
	control_close(control);
}

static void other_files_are_left_alone(void **state)
{
	char message[256], place[128];
	struct err e;

	write_text("control", "precious");
	assert_int_equal(control_open(path, disk, &control, &e), -EEXIST);
	snprintf(message, sizeof message, "control socket %s: there is something else of this name",
		 path);
	assert_string_equal(e.msg, message);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(place, sizeof place, "%s/none/control", folder);
	assert_int_equal(control_open(place, disk, &control, &e), -ENOENT);
	snprintf(message, sizeof message, "control socket %s: No such file or directory", place);
	assert_string_equal(e.msg, message);
}

/* At the end the name may be another server's. */
static void only_its_own_name_is_removed(void **state)
{
	start();
	assert_int_equal(unlink(path), 0);
	write_text("control", "precious");
	control_close(control);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(unlink(path), 0);
	start();
	assert_int_equal(unlink(path), 0);
	control_close(control); /* and when there is none, nothing is said */
}

/* 107 bytes, the longest that there is. */
static void a_long_name_is_taken_whole(void **state)
{
	char name[CONFIG_CONTROL_MAX + 1];
	size_t n = strlen(folder);
	struct stat st;
	int fd;

	memcpy(name, folder, n);
	memset(name + n, 'n', sizeof name - n);
	name[n] = '/';
	name[sizeof name - 1] = '\0';
	assert_int_equal(control_open(name, disk, &control, NULL), 0);
	assert_int_equal(stat(name, &st), 0);
	fd = connect_to(name);
	assert_true(fd >= 0);
	close(fd);
	control_close(control);
	assert_int_equal(stat(name, &st), -1);
}

static void nothing_is_closed(void **state)
{
	control_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(only_the_owner_may_open_it),	 TEST(it_listens_before_it_answers),
		TEST(a_thread_that_cannot_be_is_told),	 TEST(what_the_system_refuses_is_told),
		TEST(a_name_that_stays_is_told),	 TEST(descriptor_zero_is_one),
		TEST(a_dead_servers_socket_is_replaced), TEST(a_living_servers_socket_is_not),
		TEST(other_files_are_left_alone),	 TEST(only_its_own_name_is_removed),
		TEST(a_long_name_is_taken_whole),	 TEST(nothing_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
