/* SPDX-License-Identifier: Apache-2.0 */
/* upper_lock.c - the lock of a writable layer, see upper_lock.h. */
#include "core/upper_lock.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/upper_pending.h"

/* A file is replaced by a process that has the lock of the old and of the new one, so whoever gets
 * the lock of a file that has the name has the layer. */
enum { TRIES = 100 };

static int lock(const struct file_ops *ops, int fd, const char *data_path, struct err *e)
{
	int r = ops->lock(fd);
	uint64_t pid;

	if (r == 0)
		return 0;
	if (r != -EWOULDBLOCK)
		return err_set(e, -r, "%s: locking: %s", data_path, strerror(-r));
	pid = upper_pending_holder(ops, data_path);
	if (pid == 0)
		return err_set(e, EBUSY, "%s: is in use by another process", data_path);
	return err_set(e, EBUSY, "%s: is in use by process %" PRIu64, data_path, pid);
}

int upper_lock_open(const struct file_ops *ops, const char *data_path, int flags, struct err *e)
{
	int i, fd, r = 0;

	ops = ops ? ops : &file_ops_system;
	for (i = 0; r == 0 && i < TRIES; i++) {
		fd = upper_file_open(ops, data_path, flags, e);
		if (fd < 0)
			return fd;
		r = lock(ops, fd, data_path, e);
		if (r == 0 && ops->is_named(fd, data_path) == 1)
			return fd;
		ops->close(fd);
	}
	return r < 0 ? r : err_set(e, EBUSY, "%s: is replaced again and again", data_path);
}
