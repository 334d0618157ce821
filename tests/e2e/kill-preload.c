/* SPDX-License-Identifier: Apache-2.0 */
/* kill-preload.c - ends a process, as kill -9 does, at one of the calls that change files: for
 * LD_PRELOAD.
 *
 * KILL_CONTROL names a file with a number k in it.  From when the file is there, such calls count k
 * down; at the one that finds 0 the process ends, with status 99, and the call is not made. */
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int ftruncate64(int fd, off64_t n);
ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off);

static void step(void)
{
	static atomic_long left;
	static atomic_bool armed;
	const char *control = getenv("KILL_CONTROL");
	FILE *f;
	long k;

	if (!control)
		return;
	if (!armed) {
		f = fopen(control, "re");
		if (!f)
			return;
		if (fscanf(f, "%ld", &k) == 1) {
			left = k;
			armed = true;
		}
		fclose(f);
	}
	if (armed && left-- == 0)
		syscall(SYS_exit_group, 99);
}

static void *find(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

#define VISIBLE __attribute__((visibility("default")))

VISIBLE int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
	int (*next)(int, const char *, int, const char *, int);

	*(void **)&next = find("linkat");
	step();
	return next(from_folder, from, to_folder, to, flags);
}

VISIBLE int rename(const char *from, const char *to)
{
	int (*next)(const char *, const char *);

	*(void **)&next = find("rename");
	step();
	return next(from, to);
}

VISIBLE int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
	int (*next)(int, const char *, int, const char *);

	*(void **)&next = find("renameat");
	step();
	return next(from_folder, from, to_folder, to);
}

VISIBLE int unlink(const char *path)
{
	int (*next)(const char *);

	*(void **)&next = find("unlink");
	step();
	return next(path);
}

VISIBLE int unlinkat(int folder, const char *name, int flags)
{
	int (*next)(int, const char *, int);

	*(void **)&next = find("unlinkat");
	step();
	return next(folder, name, flags);
}

VISIBLE int fsync(int fd)
{
	int (*next)(int);

	*(void **)&next = find("fsync");
	step();
	return next(fd);
}

VISIBLE int fdatasync(int fd)
{
	int (*next)(int);

	*(void **)&next = find("fdatasync");
	step();
	return next(fd);
}

VISIBLE int ftruncate64(int fd, off64_t n)
{
	int (*next)(int, off64_t);

	*(void **)&next = find("ftruncate64");
	step();
	return next(fd, n);
}

VISIBLE ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off)
{
	ssize_t (*next)(int, const void *, size_t, off64_t);

	*(void **)&next = find("pwrite64");
	step();
	return next(fd, buf, n, off);
}
