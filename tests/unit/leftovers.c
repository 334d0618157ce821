/* SPDX-License-Identifier: Apache-2.0 */
/* leftovers.c - in each unit test: what it leaves open at its end is a failure, and so is a warning
 * that nobody expects.  Memory that it leaks is one of LeakSanitizer, which it is linked with. */
#include "tests/unit/leftovers.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

unsigned leftovers_allowed;
const char *const *leftovers_warnings;

/* A program that links nothing which logs has none. */
#pragma weak log_set_sink

static unsigned open_before;
static atomic_uint unexpected; /* warnings */
static pid_t test;

void leftovers_sink(enum log_level level, const char *line)
{
	const char *const *text;

	if (level != LOG_WARNING)
		return;
	fprintf(stderr, "warning: %s\n", line);
	for (text = leftovers_warnings; text && *text; text++)
		if (strstr(line, *text))
			return;
	atomic_fetch_add(&unexpected, 1);
}

static unsigned count_open(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned n = 0;

	while (folder && readdir(folder))
		n++;
	if (folder)
		closedir(folder);
	return n;
}

static void list_open(void)
{
	char path[32], target[256];
	ssize_t n;
	int fd;

	for (fd = 3; fd < 1024; fd++) {
		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof target);
		if (n >= 0)
			fprintf(stderr, "%d: %.*s\n", fd, (int)n, target);
	}
}

/* A child of the test may leave open what it likes: it ends. */
static void check(void)
{
	unsigned open_after = count_open();

	if (getpid() != test)
		return;
	if (atomic_load(&unexpected) > 0) {
		fprintf(stderr, "%u warnings that the test does not expect\n",
			atomic_load(&unexpected));
		_exit(1);
	}
	if (open_after <= open_before + leftovers_allowed)
		return;
	fprintf(stderr, "the test leaves %u descriptors open:\n", open_after - open_before);
	list_open();
	_exit(1);
}

__attribute__((constructor)) static void begin(void)
{
	test = getpid();
	open_before = count_open();
	if (log_set_sink)
		log_set_sink(leftovers_sink);
	atexit(check);
}
