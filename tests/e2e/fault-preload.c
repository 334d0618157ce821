/* SPDX-License-Identifier: Apache-2.0 */
/* fault-preload.c - makes one pread of a process fail: for LD_PRELOAD.
 *
 * FAULT_CONTROL names a file with a number k in it.  While the file exists, preads of files whose
 * name ends in .obd count k down; the one that finds 0 fails with EIO and removes the file. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t pread64(int fd, void *buf, size_t n, off64_t off);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_layer(int fd)
{
	char link[32], name[4096];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = readlink(link, name, sizeof name);
	return n > 4 && memcmp(name + n - 4, ".obd", 4) == 0;
}

/* Whether this call is the one.  Caller holds the lock. */
static int count_down_locked(const char *control)
{
	FILE *f = fopen(control, "r+");
	long k;

	if (!f)
		return 0;
	if (fscanf(f, "%ld", &k) != 1)
		k = 0;
	rewind(f);
	fprintf(f, "%-20ld", k - 1);
	fclose(f);
	if (k == 0)
		unlink(control);
	return k == 0;
}

__attribute__((visibility("default"))) ssize_t pread64(int fd, void *buf, size_t n, off64_t off)
{
	static ssize_t (*next)(int, void *, size_t, off64_t);
	const char *control = getenv("FAULT_CONTROL");
	int fail = 0;

	pthread_mutex_lock(&lock);
	if (!next)
		*(void **)&next = dlsym(RTLD_NEXT, "pread64");
	if (control && is_layer(fd))
		fail = count_down_locked(control);
	pthread_mutex_unlock(&lock);
	if (fail) {
		errno = EIO;
		return -1;
	}
	return next(fd, buf, n, off);
}
