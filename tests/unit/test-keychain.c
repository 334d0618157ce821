/* SPDX-License-Identifier: Apache-2.0 */
/* test-keychain.c - credential programs that answer, fail, hang, lie and never stop. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "fetch/keychain.h"
#include "tests/unit/loops.h"

#define SERVER "https://index.docker.io/v1/"
#define ANSWER "echo '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"secret\"}'\n"

static char folder[] = "/tmp/test-keychain.XXXXXX";

static const struct {
	const char *name, *script;
} programs[] = {
	{ "good",
	  "[ $# = 1 ] && [ \"$1\" = get ] && [ \"$(cat)\" = '" SERVER "' ] || exit 3\n" ANSWER },
	{ "token", "echo '{\"Username\":\"<token>\",\"Secret\":\"secret\"}'\n" },
	{ "no.ne-1_A", "echo 'credentials not found in native keychain'\nexit 1\n" },
	/* reads nothing, as the question is not for it */
	{ "deaf", "exec <&-\n" ANSWER },
	{ "clean", "[ -e /proc/self/fd/77 ] && exit 4\n"
		   "grep -q '^SigIgn:.*0000$' /proc/self/status || exit 5\n"
		   "grep -q '^SigBlk:.*0000000000000000' /proc/self/status || exit 6\n"
		   "[ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] || exit 7\n" ANSWER },
	{ "loud", "echo secret >&2\n" ANSWER },
	{ "fails", "echo 'secret'\nexit 7\n" },
	{ "dies", "echo 'secret'\nkill -9 $$\n" },
	{ "silent", "exit 0\n" },
	{ "garbage", "echo 'secret {'\n" },
	{ "list", "echo '[\"secret\"]'\n" },
	{ "half", "echo '{\"Username\":\"secret\"}'\n" },
	{ "other-half", "echo '{\"Username\":\"\",\"Secret\":\"secret\"}'\n" },
	{ "numbers", "echo '{\"Username\":1,\"Secret\":2}'\n" },
	{ "endless", "exec yes secret\n" },
	{ "limit", "head -c 65536 /dev/zero\n" },
	{ "hangs", "sleep 1000 &\necho $! >\"$PIDS\"\nsleep 1000\n" },
	{ "closes", "exec >&-\nsleep 1000\n" },
	{ "leaves", "sleep 1000 &\necho $! >\"$PIDS\"\n" ANSWER },
};

static const struct {
	const char *name;
	int result;
	const char *text; /* "user:password", "identity token", or the message */
} answers[] = {
	{ "good", 0, "me:secret" },
	{ "token", 0, "secret" },
	{ "no.ne-1_A", 1, NULL },
	{ "deaf", 0, "me:secret" },
	{ "clean", 0, "me:secret" },
	{ "loud", 0, "me:secret" },
	{ "fails", -EIO, "docker-credential-fails: exit status 7" },
	{ "dies", -EIO, "docker-credential-dies: ended by signal 9" },
	{ "silent", -EINVAL, "docker-credential-silent: wrong JSON in line 1, column 0" },
	{ "garbage", -EINVAL, "docker-credential-garbage: wrong JSON in line 1, column 6" },
	{ "list", -EINVAL, "docker-credential-list: not a JSON object" },
	{ "half", -EINVAL, "docker-credential-half: its answer lacks 'Username' or 'Secret'" },
	{ "other-half", -EINVAL, "docker-credential-other-half: its answer lacks" },
	{ "numbers", -EINVAL, "docker-credential-numbers: its answer lacks" },
	{ "endless", -EFBIG, "docker-credential-endless: an answer of 64 KiB or more" },
	{ "limit", -EFBIG, "docker-credential-limit: an answer of 64 KiB or more" },
	{ "absent", -ENOENT, "docker-credential-absent: No such file or directory" },
	{ "plain", -EACCES, "docker-credential-plain: Permission denied" },
	{ "", -EINVAL, "'' cannot be the name of a credential program" },
	{ "../x", -EINVAL, "'../x' cannot be the name" },
	{ "a b", -EINVAL, "'a b' cannot be the name" },
	{ "a;b", -EINVAL, "'a;b' cannot be the name" },
	{ "\xc3\xa9", -EINVAL, "'\xc3\xa9' cannot be the name" },
	{ "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff12345", -EINVAL,
	  "'aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234' cannot" },
};

static void programs_answer(void **state)
{
	size_t i;

	for (i = 0; i < sizeof answers / sizeof *answers; i++) {
		struct credentials c;
		struct err e = { "" };
		char pair[64];
		int r = keychain_get(answers[i].name, SERVER, 60, &c, &e);

		if (r != answers[i].result)
			fail_msg("%s: %d, %s", answers[i].name, r, e.msg);
		snprintf(pair, sizeof pair, "%s:%s", c.user ? c.user : "",
			 c.password ? c.password : "");
		if (r < 0 && (strncmp(e.msg, answers[i].text, strlen(answers[i].text)) != 0 ||
			      strstr(e.msg, "secret")))
			fail_msg("%s: %s", answers[i].name, e.msg);
		assert_int_equal(e.msg[0] != '\0', r < 0);
		if (r == 0)
			assert_string_equal(c.identity_token ? c.identity_token : pair,
					    answers[i].text);
		assert_true(r == 0 || (!c.user && !c.password && !c.identity_token));
		assert_null(c.registry_token);
		credentials_release(&c);
	}
}

/* What poll says next, in place of the system; 0: the system is asked. */
static int poll_fails;

int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	errno = poll_fails;
	return poll_fails ? -1 : __real_poll(fds, n, timeout);
}

static void waiting_may_fail(void **state)
{
	struct credentials c;
	struct err e;

	poll_fails = EINVAL;
	assert_int_equal(keychain_get("good", SERVER, 60, &c, &e), -EINVAL);
	poll_fails = 0;
	assert_string_equal(e.msg, "docker-credential-good: poll: Invalid argument");
	assert_null(c.user);
}

static void a_long_name_of_a_server_is_refused(void **state)
{
	char server[5000];
	struct credentials c;
	struct err e;

	memset(server, 'a', sizeof server - 1);
	server[4096] = '\0';
	assert_int_equal(keychain_get("token", server, 60, &c, &e), 0);
	credentials_release(&c);
	server[4096] = 'a';
	server[4097] = '\0';
	assert_int_equal(keychain_get("token", server, 60, &c, &e), -EINVAL);
	assert_string_equal(e.msg, "docker-credential-token: a server's name of 4097 bytes");
}

/* Whether the process that the program noted is gone, or will never run again. */
static bool is_gone(const char *pids)
{
	AUTO_FREE char *text = NULL;
	char line[256] = "";
	bool zombie = false;
	struct err e;
	FILE *file;
	size_t n;

	assert_int_equal(io_read_file(pids, 100, &text, &n, &e), 0);
	snprintf(line, sizeof line, "/proc/%d/status", (int)strtol(text, NULL, 10));
	file = fopen(line, "r");
	if (!file)
		return true;
	while (fgets(line, sizeof line, file))
		zombie = zombie || strncmp(line, "State:\tZ", 8) == 0;
	fclose(file);
	return zombie;
}

/* One that hangs is killed with all that it started: when it says nothing, when it has said all but
 * does not end, when it has ended but a child of it may go on talking. */
static void a_program_that_hangs_is_killed(void **state)
{
	static const char *const names[] = { "hangs", "closes", "leaves" };
	struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 }, from, to;
	struct credentials c;
	struct err e;
	char pids[64], expected[128];
	size_t i;
	int k;

	snprintf(pids, sizeof pids, "%s/pids", folder);
	assert_int_equal(setenv("PIDS", pids, 1), 0);
	for (i = 0; i < sizeof names / sizeof *names; i++) {
		clock_gettime(CLOCK_MONOTONIC, &from);
		assert_int_equal(keychain_get(names[i], SERVER, 1, &c, &e), -ETIMEDOUT);
		clock_gettime(CLOCK_MONOTONIC, &to);
		snprintf(expected, sizeof expected, "docker-credential-%s: no answer in time",
			 names[i]);
		assert_string_equal(e.msg, expected);
		assert_true(to.tv_sec - from.tv_sec < 30);
		for (k = 0; k < 1000 && strcmp(names[i], "closes") != 0 && !is_gone(pids); k++)
			nanosleep(&tick, NULL);
		assert_true(k < 1000);
	}
}

static void no_status_is_left_where_children_are_ignored(void **state)
{
	struct credentials c;
	struct err e;
	int i;

	signal(SIGCHLD, SIG_IGN);
	for (i = 0; i < 20; i++) { /* one that has ended may be gone by now, or not yet */
		assert_int_equal(keychain_get("good", SERVER, 60, &c, &e), 0);
		assert_string_equal(c.password, "secret");
		credentials_release(&c);
		assert_int_equal(keychain_get("fails", SERVER, 60, &c, &e), -EINVAL);
	}
	signal(SIGCHLD, SIG_DFL);
}

static void no_descriptor_is_left(void **state)
{
	int before = dup(0), after;
	struct credentials c;
	size_t i;

	close(before);
	for (i = 0; i < sizeof answers / sizeof *answers; i++) {
		(void)keychain_get(answers[i].name, SERVER, 60, &c, NULL);
		credentials_release(&c);
	}
	after = dup(0);
	close(after);
	assert_int_equal(after, before);
}

static void *ask_often(void *arg)
{
	unsigned i, n = loops_count(200);
	size_t *wrong = arg;

	for (i = 0; i < n; i++) {
		struct credentials c;
		int r = keychain_get(i % 2 ? "good" : "token", SERVER, 60, &c, NULL);

		*wrong += r != 0 || strcmp(i % 2 ? c.password : c.identity_token, "secret") != 0;
		credentials_release(&c);
	}
	return NULL;
}

static void many_threads_ask(void **state)
{
	size_t wrong[8] = { 0 };
	pthread_t threads[8];
	int i;

	for (i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &wrong[i]), 0);
	for (i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	for (i = 0; i < 8; i++)
		assert_int_equal(wrong[i], 0);
}

static void write_program(const char *name, const char *script, mode_t mode)
{
	char path[128], text[1024];
	struct err e;
	int n = snprintf(text, sizeof text, "#!/bin/sh\n%s", script);

	snprintf(path, sizeof path, "%s/docker-credential-%s", folder, name);
	assert_int_equal(io_replace_file(path, text, (size_t)n, &e), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static int make_programs(void **state)
{
	AUTO_FREE char *path = NULL;
	size_t i;

	if (!mkdtemp(folder) || asprintf(&path, "%s:%s", folder, getenv("PATH")) < 0)
		return -1;
	for (i = 0; i < sizeof programs / sizeof *programs; i++)
		write_program(programs[i].name, programs[i].script, 0755);
	write_program("plain", "", 0644);
	/* What a program must not inherit. */
	signal(SIGPIPE, SIG_IGN);
	if (dup2(0, 77) < 0)
		return -1;
	return setenv("PATH", path, 1);
}

static int remove_programs(void **state)
{
	char command[64];

	close(77);
	snprintf(command, sizeof command, "rm -r %s", folder);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(programs_answer),
		cmocka_unit_test(a_long_name_of_a_server_is_refused),
		cmocka_unit_test(waiting_may_fail),
		cmocka_unit_test(a_program_that_hangs_is_killed),
		cmocka_unit_test(no_status_is_left_where_children_are_ignored),
		cmocka_unit_test(no_descriptor_is_left),
		cmocka_unit_test(many_threads_ask),
	};

	return cmocka_run_group_tests(tests, make_programs, remove_programs);
}
