/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_system.c - the cache's operations of the system that a disk in memory has no part in:
 * folders that are listed, and stores to a mapping that the disk has no block for. */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fetch/cache_disk.h"
#include "tests/unit/cachelib.h"

/* The fds of this process that point to the folder, and are closed in a new program. */
static int count_closed_on_exec(void *arg, const char *name)
{
	char link[64], to[PATH_MAX];
	unsigned *found = arg;
	int fd;

	for (fd = 3; fd < 256; fd++) {
		ssize_t n;

		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		n = readlink(link, to, sizeof to - 1);
		if (n <= 0)
			continue;
		to[n] = '\0';
		if (strncmp(to, folder, strlen(folder)) == 0 && strstr(to, "/sub"))
			*found += (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
	}
	return 7;
}

static int go_on(void *arg, const char *name)
{
	return 0;
}

/* Only folders are listed, none through a link, and nothing else is even opened. */
static void real_list(void **state)
{
	const struct cache_disk_ops *ops = &cache_disk_system;
	unsigned found = 0;
	int at, input;

	cachelib_make_folder();
	at = open(folder, O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(at, "sub", 0700), 0);
	assert_int_equal(mkdirat(at, "sub/name", 0700), 0);
	assert_int_equal(mkfifoat(at, "fifo", 0600), 0);
	assert_int_equal(symlinkat("sub", at, "link"), 0);
	alarm(20); /* who opens a fifo waits for ever */
	assert_int_equal(ops->list(at, "fifo", go_on, NULL), -ENOTDIR);
	alarm(0);
	assert_true(ops->list(at, "link", go_on, NULL) < 0);
	assert_int_equal(ops->list(at, "sub", count_closed_on_exec, &found), 7);
	assert_int_equal(found, 1);
	input = dup(0); /* a program without input may get any descriptor for the folder */
	close(0);
	assert_int_equal(ops->list(at, "sub", count_closed_on_exec, &found), 7);
	dup2(input, 0);
	close(input);
	close(at);
	cachelib_remove_folder();
}

/* ---- stores that need a block ---- */

/* A mapping of a file that has nothing there: a store to it raises SIGBUS. */
static void *map_nothing(void)
{
	int fd = open(folder, O_RDWR | O_TMPFILE, 0600);
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	return at;
}

/* Exits with the number of what went wrong; notes that all was right, and dies of its own store,
 * whatever store of the cache was the last. */
static void store_in_vain(bool *was_right, unsigned last)
{
	static const enum cache_disk_change how[] = { CACHE_DISK_SET, CACHE_DISK_OR, CACHE_DISK_AND,
						      CACHE_DISK_ADD, CACHE_DISK_SUBTRACT };
	void *nothing = map_nothing();
	_Atomic uint64_t there = 5, *at = nothing;
	uint64_t from = 1, plain = 5;
	unsigned i;

	signal(SIGBUS, SIG_DFL);
	alarm(20);
	if (nothing == MAP_FAILED)
		_exit(1);
	for (i = 0; i < 5; i++)
		if (cache_disk_change(&cache_disk_system, at, how[i], 1) != -ENOSPC)
			_exit(2);
	if (cache_disk_copy(&cache_disk_system, nothing, &from, sizeof from) != -ENOSPC)
		_exit(3);
	if (cache_disk_change(&cache_disk_system, &there, CACHE_DISK_ADD, 2) != 0 || there != 7)
		_exit(4);
	if (last == 1 &&
	    (cache_disk_copy(&cache_disk_system, &plain, &from, sizeof from) != 0 || plain != 1))
		_exit(6);
	if (last == 2 && cache_disk_change(&cache_disk_system, at, CACHE_DISK_ADD, 2) != -ENOSPC)
		_exit(7);
	if (last == 3 && cache_disk_copy(&cache_disk_system, nothing, &from, 8) != -ENOSPC)
		_exit(8);
	*was_right = true;
	*at = 1; /* nobody's store but this program's */
	_exit(5);
}

static void bus_errors(void **state)
{
	bool *was_right = mmap(NULL, sizeof *was_right, PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned last;
	int status;
	pid_t child;

	cachelib_make_folder();
	for (last = 0; last < 4; last++) {
		*was_right = false;
		child = fork();
		if (child == 0)
			store_in_vain(was_right, last);
		assert_int_equal(waitpid(child, &status, 0), child);
		if (WIFEXITED(status))
			assert_int_equal(WEXITSTATUS(status), 0);
		assert_int_equal(WTERMSIG(status), SIGBUS);
		assert_true(*was_right);
	}
	munmap(was_right, sizeof *was_right);
	cachelib_remove_folder();
}

/* What each change does where there is room. */
static void changes(void **state)
{
	static const struct {
		enum cache_disk_change how;
		uint64_t before, value, after;
	} rows[] = {
		{ CACHE_DISK_SET, 6, 3, 3 },	  { CACHE_DISK_OR, 6, 3, 7 },
		{ CACHE_DISK_AND, 6, 3, 2 },	  { CACHE_DISK_ADD, 6, 3, 9 },
		{ CACHE_DISK_SUBTRACT, 6, 3, 3 }, { CACHE_DISK_SUBTRACT, 2, 3, 0 },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		_Atomic uint64_t at = rows[i].before;

		assert_int_equal(
			cache_disk_change(&cache_disk_system, &at, rows[i].how, rows[i].value), 0);
		assert_int_equal(at, rows[i].after);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bus_errors), /* first: before its handler is there */
		cmocka_unit_test(changes),
		cmocka_unit_test(real_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
