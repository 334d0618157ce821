/* SPDX-License-Identifier: Apache-2.0 */
/* attach-server.c - see attach-server.h. */
#include "tools/attach-server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/scope.h"
#include "tools/attach-process.h"

enum {
	OUTPUT_MAX = 16384, /* bytes of what it says that are kept */
	CANNOT_RUN = 127,
	PID_EVERY = 10, /* ms between two looks for the pid */
	STOPS_MAX = 3, /* servers of one device that are ended, should there be more than one */
};

/* ---- finding it ---- */

static pid_t read_pid(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[24] = "";
	long pid;

	if (fd < 0 || read(fd, text, sizeof text - 1) <= 0)
		return 0;
	pid = strtol(text, NULL, 10);
	return pid > 1 ? (pid_t)pid : 0;
}

int attach_server_find(const struct attach_state *s)
{
	return attach_process_hold(read_pid(s->pid), s);
}

/* The same of any process: whoever started a server may have died before its pid was written. */
static int find_stray(const struct attach_state *s)
{
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	int fd = -1;

	while (processes && fd < 0 && (entry = readdir(processes)))
		fd = attach_process_hold((pid_t)strtol(entry->d_name, NULL, 10), s);
	if (processes)
		closedir(processes);
	return fd;
}

/* ---- starting it ---- */

/* In the child.  Nothing of the parent's is left to it but standard error, the pipe.  Until nbdkit
 * is a daemon, which this does not reach, it dies with the parent: nobody would know of it. */
static void become_server(const struct attach_state *s, pid_t parent, int output)
{
	const struct attach_saved *saved = &s->saved;
	char *words[ATTACH_WORDS + 8];
	size_t n = 0, i;
	sigset_t none;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* A name that begins with @ tells systemd to spare a process at shutdown, for root disks:
	 * the server needs it as much as we do. */
	words[n++] = program_invocation_name[0] == '@' ? (char[]){ "@nbdkit" } : saved->words[0];
	words[n++] = (char[]){ "-U" };
	words[n++] = s->socket;
	words[n++] = (char[]){ "-P" };
	words[n++] = s->pid;
	for (i = 1; i < saved->word_count; i++)
		words[n++] = saved->words[i];
	words[n] = NULL;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(CANNOT_RUN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(output, STDERR_FILENO) < 0 || chdir(saved->folder) < 0)
		dprintf(output, "error: %s: %s\n", saved->folder, strerror(errno));
	else if (execvp(saved->words[0], words) < 0)
		dprintf(STDERR_FILENO, "error: %s: %s\n", saved->words[0], strerror(errno));
	_exit(CANNOT_RUN);
}

/* All that comes, until its end: 0; ETIMEDOUT; EINTR: `signals` is readable. */
static int read_output(int fd, int signals, char text[OUTPUT_MAX + 1])
{
	uint64_t deadline = clock_ms() + ATTACH_SERVER_WAIT * UINT64_C(1000), now;
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	char rest[4096];
	size_t n = 0;
	ssize_t got;

	for (;;) {
		text[n] = '\0';
		now = clock_ms();
		if (now >= deadline)
			return -ETIMEDOUT;
		if (poll(p, 2, (int)(deadline - now)) <= 0)
			continue;
		if (p[1].revents)
			return -EINTR;
		got = n < OUTPUT_MAX ? read(fd, text + n, OUTPUT_MAX - n)
				     : read(fd, rest, sizeof rest);
		if (got == 0 || (got < 0 && errno != EINTR))
			return 0;
		if (got > 0 && n < OUTPUT_MAX)
			n += (size_t)got;
	}
}

/* The last line that names an error, without what nbdkit puts in front. */
static const char *find_cause(char *text)
{
	static const char mark[] = "error: ";
	const char *found = NULL;
	char *line, *rest = text;

	while ((line = strsep(&rest, "\n"))) {
		char *at = strstr(line, mark);

		if (at)
			found = at + sizeof mark - 1;
		else if (line[0] != '\0' && !found)
			found = line;
	}
	return found;
}

/* nbdkit's first process ends when the daemon accepts clients, or could not start. */
static int await_start(pid_t child, int output, int signals, struct err *e)
{
	char text[OUTPUT_MAX + 1];
	const char *cause;
	int status, r = read_output(output, signals, text);

	if (r < 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		if (r == -EINTR)
			return err_set(e, EINTR, "nbdkit: interrupted while it starts");
		return err_set(e, ETIMEDOUT, "nbdkit has not started in %d s", ATTACH_SERVER_WAIT);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return err_set(e, errno, "nbdkit: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	cause = find_cause(text);
	if (cause)
		return err_set(e, EIO, "nbdkit: %s", cause);
	return err_set(e, EIO, "nbdkit ended with status %d", status);
}

/* The daemon writes its pid after its parent has ended. */
static int await_pid(const struct attach_state *s, struct err *e)
{
	uint64_t deadline = clock_ms() + ATTACH_SERVER_GRACE * UINT64_C(1000);
	int pidfd;

	while ((pidfd = attach_server_find(s)) < 0) {
		if (clock_ms() >= deadline)
			return err_set(e, EIO, "nbdkit ended, or has not written its pid");
		(void)poll(NULL, 0, PID_EVERY);
	}
	close(pidfd);
	return 0;
}

int attach_server_start(const struct attach_state *s, int signals, struct err *e)
{
	pid_t parent = getpid(), child;
	int ends[2], r;

	attach_server_stop(s, true);
	/* nbdkit binds to no socket that is there. */
	(void)unlink(s->socket);
	(void)unlink(s->pid);
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, errno, "a pipe: %s", strerror(errno));
	child = fork();
	if (child == 0)
		become_server(s, parent, ends[1]);
	close(ends[1]);
	r = child < 0 ? err_set(e, errno, "starting nbdkit: %s", strerror(errno))
		      : await_start(child, ends[0], signals, e);
	close(ends[0]);
	return r < 0 ? r : await_pid(s, e);
}

/* ---- ending it ---- */

static bool has_ended(int pidfd, int seconds)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	uint64_t deadline = clock_ms() + (uint64_t)seconds * 1000, now;

	do {
		now = clock_ms();
		if (poll(&p, 1, now < deadline ? (int)(deadline - now) : 0) > 0)
			return true;
	} while (now < deadline);
	return false;
}

static void end_server(int pidfd, bool now)
{
	if (!now) {
		(void)pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
		if (has_ended(pidfd, ATTACH_SERVER_GRACE))
			return;
	}
	(void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	(void)has_ended(pidfd, ATTACH_SERVER_GRACE);
}

void attach_server_stop(const struct attach_state *s, bool now)
{
	int i, pidfd;

	for (i = 0; i < STOPS_MAX; i++) {
		pidfd = attach_server_find(s);
		if (pidfd < 0)
			pidfd = find_stray(s);
		if (pidfd < 0)
			return;
		end_server(pidfd, now);
		close(pidfd);
	}
}
