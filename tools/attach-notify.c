/* SPDX-License-Identifier: Apache-2.0 */
/* attach-notify.c - see attach-notify.h. */
#include "tools/attach-notify.h"

#include "core/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "core/base/text.h"

/* These are levels of the log here; syslog has others of the same name. */
#undef LOG_DEBUG
#undef LOG_WARNING

/* What goes through the pipe; its writer's end without it means that the child died. */
struct outcome {
	int r;
	char text[sizeof((struct err *)0)->msg];
};

static int hear(int from, pid_t child, struct err *e)
{
	struct outcome o = { 0 };
	size_t n = 0;
	ssize_t got = 1;

	while (n < sizeof o && got != 0) {
		got = read(from, (char *)&o + n, sizeof o - n);
		if (got < 0 && errno != EINTR)
			break;
		if (got > 0)
			n += (size_t)got;
	}
	if (n < sizeof o) {
		waitpid(child, NULL, 0);
		return err_set(e, ECHILD, "the process that was to attach the device died");
	}
	if (o.r < 0)
		return err_set(e, -o.r, "%s", o.text);
	puts(o.text);
	return 1;
}

int attach_notify_fork(int *to, struct err *e)
{
	int ends[2], r;
	pid_t parent = getpid(), child;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(e, errno, "a pipe: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		close(ends[0]);
		*to = ends[1];
		(void)setsid();
		(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(EXIT_FAILURE);
		signal(SIGPIPE, SIG_IGN); /* the parent may be gone when it is told */
		return 0;
	}
	close(ends[1]);
	r = child < 0 ? err_set(e, errno, "fork: %s", strerror(errno)) : hear(ends[0], child, e);
	close(ends[0]);
	return r;
}

static void to_syslog(enum log_level level, const char *line)
{
	char escaped[4096];

	if (level != LOG_DEBUG)
		syslog(LOG_NOTICE, "%s", text_escape(line, escaped, sizeof escaped));
}

static void leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	openlog("overlaybd", LOG_PID, LOG_DAEMON);
	log_set_sink(to_syslog);
	if (chdir("/") < 0 || null < 0)
		return;
	(void)dup2(null, STDIN_FILENO);
	(void)dup2(null, STDOUT_FILENO);
	(void)dup2(null, STDERR_FILENO);
	close(null);
}

bool attach_notify_parent(int to, int r, const char *text)
{
	struct outcome o = { .r = r };
	size_t n = 0;
	ssize_t done;

	snprintf(o.text, sizeof o.text, "%s", text);
	(void)prctl(PR_SET_PDEATHSIG, 0);
	while (n < sizeof o) {
		done = write(to, (const char *)&o + n, sizeof o - n);
		if (done < 0 && errno != EINTR)
			break;
		if (done > 0)
			n += (size_t)done;
	}
	close(to);
	if (r == 0)
		leave_terminal();
	return n == sizeof o;
}

void attach_notify_systemd(const char *status)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	char text[512];
	size_t n;
	int s;

	if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof to.sun_path)
		return;
	n = strlen(path);
	memcpy(to.sun_path, path, n);
	if (path[0] == '@')
		to.sun_path[0] = '\0'; /* of the abstract kind: no NUL at its end */
	s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (s < 0)
		return;
	snprintf(text, sizeof text, "READY=1\nSTATUS=%s\n", status);
	(void)sendto(s, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&to,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
	close(s);
}
