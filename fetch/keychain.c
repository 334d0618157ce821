/* SPDX-License-Identifier: Apache-2.0 */
/* keychain.c - running credential programs, see keychain.h.
 *
 * The question is put into the pipe before the program starts: a pipe holds it all, and its reading
 * end is ours then, so writing neither blocks nor raises SIGPIPE. */
#include "fetch/keychain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/scope.h"
#include "fetch/answer.h"

enum { NAME_LONGEST = 64 };

#define NOT_FOUND "credentials not found in native keychain"

/* Waits until there is something to read (or the process of a pidfd has ended). */
static int await(int fd, int64_t deadline, struct err *e)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t left;
	int r;

	do {
		left = deadline - (int64_t)clock_ms();
		if (left <= 0)
			return err_set(e, ETIMEDOUT, "no answer in time");
		r = poll(&p, 1, (int)left);
	} while (r == 0 || (r < 0 && errno == EINTR));
	return r < 0 ? err_set(e, errno, "poll: %s", strerror(errno)) : 0;
}

/* The reading end of a pipe that holds the question. */
static int open_question(const char *server, int *fd, struct err *e)
{
	size_t n = strlen(server);
	int ends[2];
	ssize_t r;

	if (n > PIPE_BUF)
		return err_set(e, EINVAL, "a server's name of %zu bytes", n);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, errno, "pipe: %s", strerror(errno));
	r = write(ends[1], server, n);
	close(ends[1]);
	if (r != (ssize_t)n) {
		close(ends[0]);
		return err_set(e, EIO, "the pipe did not take the server's name");
	}
	*fd = ends[0];
	return 0;
}

/* What the program finds: our two ends, no error output, no other descriptor. */
static int set_files(posix_spawn_file_actions_t *files, int in, int out)
{
	int r = posix_spawn_file_actions_adddup2(files, in, STDIN_FILENO);

	if (r == 0)
		r = posix_spawn_file_actions_adddup2(files, out, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn_file_actions_addopen(files, STDERR_FILENO, "/dev/null", O_WRONLY,
						     0);
	if (r == 0)
		r = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
	return r;
}

/* And: a group of its own, and signals as a shell would have left them. */
static int set_signals(posix_spawnattr_t *attributes)
{
	sigset_t none, all;
	int r;

	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawnattr_setsigmask(attributes, &none);
	if (r == 0)
		r = posix_spawnattr_setsigdefault(attributes, &all);
	if (r == 0)
		r = posix_spawnattr_setpgroup(attributes, 0);
	if (r == 0)
		r = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK |
								 POSIX_SPAWN_SETSIGDEF |
								 POSIX_SPAWN_SETPGROUP);
	return r;
}

static int start(const char *program, int in, int out, pid_t *pid, struct err *e)
{
	AUTO_FREE char *name = strdup(program);
	char get[] = "get", *const argv[] = { name, get, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	int r;

	if (!name)
		return err_set(e, ENOMEM, "out of memory");
	r = posix_spawn_file_actions_init(&files);
	if (r != 0)
		return err_set(e, r, "%s", strerror(r));
	r = posix_spawnattr_init(&attributes);
	if (r == 0) {
		r = set_files(&files, in, out);
		if (r == 0)
			r = set_signals(&attributes);
		if (r == 0)
			r = posix_spawnp(pid, program, &files, &attributes, argv, environ);
		posix_spawnattr_destroy(&attributes);
	}
	posix_spawn_file_actions_destroy(&files);
	return r != 0 ? err_set(e, r, "%s", strerror(r)) : 0;
}

/* Reads up to the end, at most KEYCHAIN_MAX bytes, and puts a NUL behind. */
static int collect(int fd, char *answer, int64_t deadline, struct err *e)
{
	size_t n = 0;

	for (;;) {
		int r = await(fd, deadline, e);
		ssize_t got;

		if (r < 0)
			return r;
		got = read(fd, answer + n, KEYCHAIN_MAX - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set(e, errno, "reading its answer: %s", strerror(errno));
		if (got == 0)
			break;
		n += (size_t)got;
		if (n == KEYCHAIN_MAX)
			return err_set(e, EFBIG, "an answer of 64 KiB or more");
	}
	answer[n] = '\0';
	return 0;
}

static int await_end(pid_t pid, int64_t deadline, struct err *e)
{
	AUTO_CLOSE int fd = pidfd_open(pid, 0);

	if (fd < 0 && errno == ESRCH)
		return 0; /* SIGCHLD is ignored: nothing is left of it */
	return fd < 0 ? err_set(e, errno, "pidfd_open: %s", strerror(errno))
		      : await(fd, deadline, e);
}

/* Runs it; *status is how it ended. */
static int run(const char *program, const char *server, int64_t deadline, char *answer, int *status,
	       struct err *e)
{
	AUTO_CLOSE int in = -1;
	AUTO_CLOSE int out = -1;
	int ends[2], r = open_question(server, &in, e);
	pid_t pid;

	if (r < 0)
		return r;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, errno, "pipe: %s", strerror(errno));
	out = ends[0];
	r = start(program, in, ends[1], &pid, e);
	close(ends[1]);
	if (r < 0)
		return r;
	r = collect(out, answer, deadline, e);
	if (r == 0)
		r = await_end(pid, deadline, e);
	if (r < 0)
		kill(-pid, SIGKILL);
	/* Where SIGCHLD is ignored no status is left: the answer alone counts then. */
	while (waitpid(pid, status, 0) < 0)
		if (errno != EINTR) {
			*status = 0;
			break;
		}
	return r;
}

static int copy_answer(const json_t *root, struct credentials *out, struct err *e)
{
	const char *user = answer_text(root, "Username"), *secret = answer_text(root, "Secret");
	struct credentials c = { 0 };
	bool is_token;

	if (!user || !secret)
		return err_set(e, EINVAL, "its answer lacks 'Username' or 'Secret'");
	is_token = strcmp(user, "<token>") == 0;
	if (is_token) {
		c.identity_token = strdup(secret);
	} else {
		c.user = strdup(user);
		c.password = strdup(secret);
	}
	if (is_token ? !c.identity_token : !c.user || !c.password) {
		credentials_release(&c);
		return err_set(e, ENOMEM, "out of memory");
	}
	*out = c;
	return 0;
}

static int read_answer(char *answer, int status, struct credentials *out, struct err *e)
{
	AUTO_ANSWER json_t *root = NULL;
	int r;

	if (strncmp(answer, NOT_FOUND, strlen(NOT_FOUND)) == 0)
		return 1;
	if (WIFSIGNALED(status))
		return err_set(e, EIO, "ended by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return err_set(e, EIO, "exit status %d", WEXITSTATUS(status));
	r = answer_parse(answer, strlen(answer), ANSWER_SECRET, &root, e);
	return r < 0 ? r : copy_answer(root, out, e);
}

static bool is_plain_word(const char *name)
{
	return name[0] != '\0' && strlen(name) <= NAME_LONGEST &&
	       name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				 "0123456789._-")] == '\0';
}

int keychain_get(const char *name, const char *server, unsigned seconds, struct credentials *out,
		 struct err *e)
{
	int64_t deadline = (int64_t)clock_ms() + (int64_t)seconds * 1000;
	char program[sizeof "docker-credential-" + NAME_LONGEST], *answer;
	int status, r;

	*out = (struct credentials){ 0 };
	if (!is_plain_word(name))
		return err_set(e, EINVAL, "'%.*s' cannot be the name of a credential program",
			       NAME_LONGEST, name);
	snprintf(program, sizeof program, "docker-credential-%s", name);
	answer = calloc(1, KEYCHAIN_MAX + 1);
	if (!answer)
		return err_set(e, ENOMEM, "%s: out of memory", program);
	r = run(program, server, deadline, answer, &status, e);
	if (r == 0)
		r = read_answer(answer, status, out, e);
	explicit_bzero(answer, KEYCHAIN_MAX);
	free(answer);
	return r < 0 ? err_wrap(e, r, "%s", program) : r;
}
