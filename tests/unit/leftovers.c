/* SPDX-License-Identifier: Apache-2.0 */
/* leftovers.c - in each unit test: what it leaves open at its end is a failure, as memory that it
 * leaks is one of LeakSanitizer, which it is linked with. */
#include "tests/unit/leftovers.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

unsigned leftovers_allowed;

static unsigned open_before;
static pid_t test;

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
static void check_open(void)
{
	unsigned open_after = count_open();

	if (getpid() != test || open_after <= open_before + leftovers_allowed)
		return;
	fprintf(stderr, "the test leaves %u descriptors open:\n", open_after - open_before);
	list_open();
	_exit(1);
}

__attribute__((constructor)) static void begin(void)
{
	test = getpid();
	open_before = count_open();
	atexit(check_open);
}
