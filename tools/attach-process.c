/* SPDX-License-Identifier: Apache-2.0 */
/* attach-process.c - see attach-process.h. */
#include "tools/attach-process.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/scope.h"

#define PROGRAM "nbdkit"
#define DELETED " (deleted)" /* what the kernel adds to a name that is gone, as after an upgrade   \
			      */

enum {
	FIRST_WORDS = 5, /* the program, -U SOCKET -P PIDFILE */
	TEXT_MAX = 65536, /* bytes of a command line */
};

/* Reads /proc/PID/NAME as far as it fits; a NUL follows.  Returns its bytes, 0 when there are none.
 */
static size_t read_all(pid_t pid, const char *name, char *text, size_t room)
{
	AUTO_CLOSE int fd = -1;
	char path[64];
	ssize_t got;
	size_t n = 0;

	snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && n < room - 1 && (got = read(fd, text + n, room - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	return n;
}

/* The real, effective, saved and file system's.  The owner of /proc/PID would not do: that is root
 * for a process that may not be dumped, whoever's it is. */
static bool has_our_ids(pid_t pid)
{
	unsigned long ids[4];
	char text[4096];
	const char *line;
	size_t i;

	read_all(pid, "status", text, sizeof text);
	line = strstr(text, "\nUid:");
	if (!line ||
	    sscanf(line, "\nUid: %lu %lu %lu %lu", &ids[0], &ids[1], &ids[2], &ids[3]) != 4)
		return false;
	for (i = 0; i < 4; i++)
		if (ids[i] != geteuid())
			return false;
	return true;
}

static bool has_our_program(pid_t pid)
{
	char path[64], target[4096 + sizeof DELETED];
	const char *name;
	ssize_t n;

	snprintf(path, sizeof path, "/proc/%ld/exe", (long)pid);
	n = readlink(path, target, sizeof target - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	name = strrchr(target, '/');
	name = name ? name + 1 : target;
	return strcmp(name, PROGRAM) == 0 || strcmp(name, PROGRAM DELETED) == 0;
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

/* What is left of a command line, word by word. */
struct words {
	const char *p, *end;
};

static const char *next_word(struct words *w)
{
	const char *word = w->p;

	if (w->p >= w->end)
		return NULL;
	w->p += strlen(w->p) + 1;
	return word;
}

static bool next_is(struct words *w, const char *wanted)
{
	const char *word = next_word(w);

	return word && strcmp(word, wanted) == 0;
}

/* A device whose state is lost has no saved words. */
static bool names_our_plugin(struct words *w)
{
	const char *word;

	while ((word = next_word(w)))
		if (strcmp(word, "overlaybd") == 0 || ends_with(word, "overlaybd-plugin.so"))
			return true;
	return false;
}

static bool has_our_words(pid_t pid, const struct attach_state *s)
{
	AUTO_FREE char *text = malloc(TEXT_MAX);
	struct words w = { text, text };
	size_t i;

	if (!text)
		return false;
	w.end += read_all(pid, "cmdline", text, TEXT_MAX);
	(void)next_word(&w); /* the program, under any name */
	if (!next_is(&w, "-U") || !next_is(&w, s->socket) || !next_is(&w, "-P") ||
	    !next_is(&w, s->pid))
		return false;
	if (s->saved.word_count == 0)
		return names_our_plugin(&w);
	for (i = 1; i < s->saved.word_count; i++)
		if (!next_is(&w, s->saved.words[i]))
			return false;
	return next_word(&w) == NULL;
}

static bool sees_our_folder(pid_t pid, const struct attach_state *s)
{
	AUTO_FREE char *theirs = NULL;
	struct stat a, b;

	if (asprintf(&theirs, "/proc/%ld/root%s", (long)pid, s->path) < 0) {
		theirs = NULL; /* left undefined by the failed call */
		return false;
	}
	return stat(s->path, &a) == 0 && stat(theirs, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int attach_process_hold(pid_t pid, const struct attach_state *s)
{
	int fd = pid > 1 ? pidfd_open(pid, 0) : -1;

	/* The number may be another process's by now, but none's that comes later. */
	if (fd >= 0 && has_our_ids(pid) && has_our_program(pid) && has_our_words(pid, s) &&
	    sees_our_folder(pid, s))
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}
