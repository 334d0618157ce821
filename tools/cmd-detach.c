/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-detach.c - `overlaybd detach`: the end of a device that `overlaybd attach` made.
 *
 * Order: nobody uses the device and can begin to (it is held open exclusively); what was written
 * is flushed while the watcher still mends; the watcher ends, and the lock is ours; the kernel lets
 * go; the server ends; the state goes. */
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/scope.h"
#include "tools/attach-server.h"
#include "tools/attach-state.h"
#include "tools/nbd-netlink.h"
#include "tools/show.h"
#include "tools/tool.h"

enum { OPT_FORCE };

static const struct tool_option options[] = {
	[OPT_FORCE] = { "force", 0, NULL,
			"also when it is in use; what was not written yet is lost" },
};

enum {
	WAIT = 10000, /* ms, for the watcher, and for the kernel */
	LOOK_EVERY = 50, /* ms */
};

struct detach {
	unsigned index;
	bool force;
	struct nbd_netlink kernel;
	struct attach_state state;
	bool has_state;
	int device; /* held open, -1: not */
};

/* Where it is mounted, or a partition of it, as far as this process can see. */
static bool find_mount(unsigned index, char *out, size_t room)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	char device[32];
	struct mntent *m;
	size_t n;
	bool found = false;

	snprintf(device, sizeof device, "/dev/nbd%u", index);
	n = strlen(device);
	while (mounts && !found && (m = getmntent(mounts))) {
		found = strncmp(m->mnt_fsname, device, n) == 0 &&
			(m->mnt_fsname[n] == '\0' || m->mnt_fsname[n] == 'p');
		if (found)
			snprintf(out, room, "%s", m->mnt_dir);
	}
	if (mounts)
		endmntent(mounts);
	return found;
}

/* A device that is mounted (anywhere, in whatever namespace), or part of another one, cannot be
 * opened like this; while it is open like this it cannot be mounted. */
static int hold_device(struct detach *d, struct err *e)
{
	char path[32], where[512];

	snprintf(path, sizeof path, "/dev/nbd%u", d->index);
	d->device = open(path, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (d->device >= 0)
		return 0;
	if (errno != EBUSY)
		return err_set(e, errno, "%s: %s", path, strerror(errno));
	if (find_mount(d->index, where, sizeof where))
		return err_set(e, EBUSY, "%s: it is mounted on %s", path, where);
	return err_set(e, EBUSY,
		       "%s: it is in use: mounted elsewhere, swap, or part of another device",
		       path);
}

static int flush_device(struct detach *d, struct err *e)
{
	if (TEMP_FAILURE_RETRY(fsync(d->device)) == 0)
		return 0;
	return err_set(e, errno,
		       "/dev/nbd%u: what was written cannot be flushed: %s (--force "
		       "detaches it all the same, and loses it)",
		       d->index, strerror(errno));
}

static void let_go_of_device(struct detach *d)
{
	if (d->device >= 0)
		close(d->device);
	d->device = -1;
}

/* Ends whoever watches the device.  It loses nothing by being killed. */
static void end_watcher(pid_t pid)
{
	AUTO_CLOSE int pidfd = pid > 1 ? pidfd_open(pid, 0) : -1;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	if (pidfd < 0)
		return;
	(void)pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
	if (poll(&p, 1, WAIT) == 1)
		return;
	(void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
	(void)poll(&p, 1, WAIT);
}

static int take_state(struct detach *d, const char *run, struct err *e)
{
	pid_t watcher;
	int r = attach_state_open(run, d->index, &d->state, &watcher, e);

	if (r == -EBUSY) {
		end_watcher(watcher);
		r = attach_state_open(run, d->index, &d->state, NULL, e);
	}
	d->has_state = r == 0;
	return r;
}

/* `name` in the device's folder, or "" for that itself. */
static bool exists(const char *run, unsigned index, const char *name)
{
	char path[4096];

	snprintf(path, sizeof path, "%s/nbd%u/%s", run, index, name);
	return access(path, F_OK) == 0;
}

/* Whether the kernel has it; 0 is only an answer when there is a folder that outlived the device,
 * or that an attach left which was killed. */
static int check_attached(struct detach *d, const char *run, struct err *e)
{
	int r = nbd_netlink_is_attached(&d->kernel, d->index, e);

	if (r > 0 && !exists(run, d->index, "state"))
		return err_set(e, EINVAL,
			       "/dev/nbd%u: another program has attached it, or has it open "
			       "(nbd-client -d detaches such a device)",
			       d->index);
	if (r == 0 && !exists(run, d->index, ""))
		return err_set(e, ENODEV, "/dev/nbd%u: it is not attached", d->index);
	return r;
}

/* The kernel lets go when nobody has it open any more. */
static int await_detached(struct detach *d, struct err *e)
{
	uint64_t deadline = clock_ms() + WAIT;
	int r;

	while ((r = nbd_netlink_is_attached(&d->kernel, d->index, e)) > 0) {
		if (d->force || clock_ms() >= deadline) {
			show_line(stderr, "overlaybd: /dev/nbd%u: some process has it open still",
				  d->index);
			return 0;
		}
		(void)poll(NULL, 0, LOOK_EVERY);
	}
	return r;
}

static int disconnect(struct detach *d, struct err *e)
{
	int r = nbd_netlink_detach(&d->kernel, d->index, e);

	let_go_of_device(d);
	return r < 0 ? r : await_detached(d, e);
}

static int detach(struct detach *d, const char *run, struct err *e)
{
	int attached = check_attached(d, run, e), r = 0;

	if (attached < 0)
		return attached;
	if (attached && !d->force) {
		r = hold_device(d, e);
		if (r == 0)
			r = flush_device(d, e);
	}
	if (r == 0)
		r = take_state(d, run, e);
	if (r == 0 && attached)
		r = disconnect(d, e);
	if (r < 0)
		return r;
	attach_server_stop(&d->state, false);
	attach_state_remove(&d->state);
	return 0;
}

static int run(const struct tool_args *args, struct err *e)
{
	struct detach d = { .force = args->values[OPT_FORCE] != NULL,
			    .kernel = { .requests = -1, .events = -1 },
			    .device = -1 };
	AUTO_FREE char *folder = NULL;
	int r;

	if (attach_state_index(args->operands[0], &d.index, e) < 0)
		return TOOL_USAGE;
	r = nbd_netlink_open(&d.kernel, e);
	if (r == 0)
		r = nbd_netlink_may_attach(&d.kernel, e);
	if (r == 0)
		r = attach_state_run(&folder, e);
	if (r == 0)
		r = detach(&d, folder, e);
	let_go_of_device(&d);
	if (d.has_state)
		attach_state_close(&d.state);
	nbd_netlink_close(&d.kernel);
	return r;
}

const struct tool_command cmd_detach = {
	.name = "detach",
	.operand = "/dev/nbdN",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Detach such a device, and end its server",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
