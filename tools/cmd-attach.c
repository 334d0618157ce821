/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-attach.c - `overlaybd attach`: an image as a block device of the kernel, which survives the
 * death of its server.
 *
 * Whatever dies, what is attached has a state (attach-state.h), from which this command goes on
 * when it is run again. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "tools/args.h"
#include "tools/attach-notify.h"
#include "tools/attach-pin.h"
#include "tools/attach-server.h"
#include "tools/attach-state.h"
#include "tools/attach-watch.h"
#include "tools/settings.h"
#include "tools/show.h"
#include "tools/tool.h"

enum {
	OPT_FOREGROUND,
	OPT_READ_ONLY,
	OPT_SOCKETS,
	OPT_TIMEOUT,
	OPT_DEAD_TIMEOUT,
	OPT_UPPER,
	OPT_PLUGIN,
	OPT_CACHE_DIR,
	OPT_CACHE_LIMIT,
	OPT_CACHE_KEEP_FREE,
	OPT_PLATFORM,
	OPT_TRACE,
	OPT_SETTINGS,
};

static const struct tool_option options[] = {
	[OPT_FOREGROUND] = { "foreground", 'f', NULL,
			     "stay, and watch the device (for service managers)" },
	[OPT_READ_ONLY] = { "read-only", 'r', NULL, "refuse writes to a writable image" },
	[OPT_SOCKETS] = { "sockets", 0, "N",
			  "connections to the server (default: 4, or the\nnumber of processors)" },
	[OPT_TIMEOUT] = { "io-timeout", 0, "SECONDS",
			  "a request without an answer is sent again after this\n(default: 25)" },
	[OPT_DEAD_TIMEOUT] = { "dead-timeout", 0, "SECONDS",
			       "how long requests wait while there is no server\n(default: 600)" },
	[OPT_UPPER] = { "upper", 0, "UPPER", "write to UPPER.data and UPPER.index" },
	[OPT_PLUGIN] = { "plugin", 0, "FILE", "nbdkit's plugin (default: overlaybd)" },
	[OPT_CACHE_DIR] = { "cache-dir", 0, "DIR", "where what was fetched is kept" },
	[OPT_CACHE_LIMIT] = { "cache-limit", 0, "SIZE",
			      "how much the cache may hold (default: as the folder has\nit, or "
			      "10G)" },
	[OPT_CACHE_KEEP_FREE] = { "cache-keep-free", 0, "SIZE",
				  "how much of its disk the cache leaves to others" },
	[OPT_PLATFORM] = { "platform", 0, "OS/ARCH", "which image of several" },
	[OPT_TRACE] = { "trace", 0, "MODE", "auto, record, replay or off (default: auto)" },
	[OPT_SETTINGS] = SETTINGS_REACH,
};

enum {
	SOCKETS_DEFAULT = 4,
	TIMEOUT_DEFAULT = 25, /* s */
	TIMEOUT_MAX = 3600,
	TIMEOUT_MIN = 5,
	DEAD_TIMEOUT_DEFAULT = 600, /* s */
	DEAD_TIMEOUT_MAX = 7 * 24 * 3600,
	BLOCK_SIZE = 512, /* unless the server wants more */
	BLOCK_SIZE_MAX = 4096, /* the kernel's pages */
	DEVICES_MAX = 1024,
};

struct attach {
	const struct tool_args *args;
	struct settings settings;
	bool is_config;
	char *source; /* absolute path of a config, or a reference */
	const char *device; /* as it was named, NULL: any */
	unsigned sockets, timeout, dead_timeout;
	struct nbd_netlink kernel;
	struct attach_state state;
	bool has_state;
	bool anew; /* attached by this process */
	struct attach_watch watch;
};

/* ---- what was asked for ---- */

static int read_number(const struct attach *a, int option, uint64_t min, uint64_t max,
		       unsigned *out, struct err *e)
{
	const char *name = options[option].name;
	uint64_t n;
	int r;

	if (!a->args->values[option])
		return 0;
	r = args_number(a->args->values[option], max, name, &n, e);
	if (r < 0)
		return r;
	if (n < min)
		return err_set(e, EINVAL, "--%s: it must be %" PRIu64 " or more", name, min);
	*out = (unsigned)n;
	return 0;
}

static int read_arguments(struct attach *a, struct err *e)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned index;
	int r;

	a->sockets = processors < SOCKETS_DEFAULT && processors > 0 ? (unsigned)processors
								    : SOCKETS_DEFAULT;
	a->timeout = TIMEOUT_DEFAULT;
	a->dead_timeout = DEAD_TIMEOUT_DEFAULT;
	r = read_number(a, OPT_SOCKETS, 1, NBD_NETLINK_SOCKETS, &a->sockets, e);
	if (r == 0)
		r = read_number(a, OPT_TIMEOUT, TIMEOUT_MIN, TIMEOUT_MAX, &a->timeout, e);
	if (r == 0)
		r = read_number(a, OPT_DEAD_TIMEOUT, 1, DEAD_TIMEOUT_MAX, &a->dead_timeout, e);
	if (a->args->operand_count > 1)
		a->device = a->args->operands[1];
	if (r == 0 && a->device)
		r = attach_state_index(a->device, &index, e);
	return r;
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);

	return n >= m && strcmp(text + n - m, end) == 0;
}

/* A file wins: a reference that is also the name of one can be given with its host.  What can only
 * be meant as a file is one, so that it is missed as such. */
static int read_source(struct attach *a, struct err *e)
{
	const char *what = a->args->operands[0];

	a->is_config = access(what, F_OK) == 0 || what[0] == '/' || what[0] == '.' ||
		       ends_with(what, ".yaml") || ends_with(what, ".json");
	a->source = a->is_config ? io_absolute_path(NULL, what) : strdup(what);
	return a->source ? 0 : err_set(e, errno, "%s: %s", what, strerror(errno));
}

/* ---- which device ---- */

static void drop_state(struct attach *a)
{
	if (a->has_state)
		attach_state_close(&a->state);
	a->has_state = false;
}

/* Locks a device.  1: it is attached to what was asked for, and nobody watches it; 0: it is free;
 * EBUSY: neither. */
static int try_device(struct attach *a, const char *run, unsigned index, struct err *e)
{
	int r = attach_state_open(run, index, &a->state, NULL, e);

	if (r < 0)
		return r;
	a->has_state = true;
	r = nbd_netlink_is_attached(&a->kernel, index, e);
	if (r <= 0)
		return r;
	r = attach_state_load(&a->state, e);
	if (r == -ENOENT)
		return err_set(e, EBUSY,
			       "/dev/nbd%u: another program has attached it, or has it open",
			       index);
	if (r < 0)
		return r;
	if (strcmp(a->state.saved.source, a->source) == 0)
		return 1;
	return err_set(e, EBUSY, "/dev/nbd%u: it is attached to %s", index, a->state.saved.source);
}

/* Leaves a device locked when it is in this condition: 0 free, 1 ours. */
static bool accept_device(struct attach *a, const char *run, unsigned index, int wanted)
{
	if (try_device(a, run, index, NULL) == wanted)
		return true;
	drop_state(a);
	return false;
}

/* The first of the image that nobody watches, else the first that is free.  As try_device. */
static int find_device(struct attach *a, const char *run, struct err *e)
{
	unsigned index;
	char path[4096];

	for (index = 0; index < DEVICES_MAX; index++) {
		snprintf(path, sizeof path, "%s/nbd%u/state", run, index);
		if (access(path, F_OK) == 0 && accept_device(a, run, index, 1))
			return 1;
	}
	for (index = 0; index < DEVICES_MAX; index++)
		if (accept_device(a, run, index, 0))
			return 0;
	return err_set(e, EBUSY, "there is no free nbd device");
}

static int choose_device(struct attach *a, struct err *e)
{
	AUTO_FREE char *run = NULL;
	unsigned index;
	int r = attach_state_run(&run, e);

	if (r < 0)
		return r;
	if (!a->device)
		return find_device(a, run, e);
	r = attach_state_index(a->device, &index, e);
	return r < 0 ? r : try_device(a, run, index, e);
}

/* ---- attaching ---- */

static int add_setting(struct attach_saved *s, const char *name, const char *value, struct err *e)
{
	AUTO_FREE char *word = NULL;

	if (asprintf(&word, "%s=%s", name, value) < 0) {
		word = NULL; /* left undefined by the failed call */
		return err_set(e, ENOMEM, "out of memory");
	}
	return attach_state_add_word(s, word, e);
}

/* The server's program and how it serves: as many requests at a time as the kernel sends, so that
 * none waits behind others until its time is over. */
static int add_program(const struct attach *a, struct attach_saved *s, struct err *e)
{
	const char *plugin = a->args->values[OPT_PLUGIN];
	AUTO_FREE char *path = NULL;
	int r = attach_state_add_word(s, "nbdkit", e);

	if (r == 0)
		r = attach_state_add_word(s, "--threads=128", e);
	if (r == 0 && a->args->values[OPT_READ_ONLY])
		r = attach_state_add_word(s, "--readonly", e);
	if (r == 0 && plugin && strchr(plugin, '/')) {
		path = io_absolute_path(NULL, plugin);
		if (!path)
			return err_set(e, errno, "%s: %s", plugin, strerror(errno));
		plugin = path;
	}
	return r < 0 ? r : attach_state_add_word(s, plugin ? plugin : "overlaybd", e);
}

/* What it serves.  A read must have failed before the kernel would send it again. */
static int add_parameters(const struct attach *a, struct attach_saved *s, struct err *e)
{
	const struct config_options *o = &a->settings.options;
	char seconds[16];
	size_t i;
	int r;

	snprintf(seconds, sizeof seconds, "%u", a->timeout * 4 / 5);
	r = add_setting(s, a->is_config ? "config" : "image", a->source, e);
	if (r == 0 && s->digest[0] != '\0')
		r = add_setting(s, "digest", s->digest, e);
	if (r == 0)
		r = add_setting(s, "timeout", seconds, e);
	if (r == 0 && o->service)
		r = add_setting(s, "service", o->service, e);
	if (r == 0 && a->args->values[OPT_UPPER])
		r = add_setting(s, "upper", a->args->values[OPT_UPPER], e);
	for (i = 0; r == 0 && i < o->setting_count; i++)
		r = add_setting(s, o->settings[i].name, o->settings[i].value, e);
	return r;
}

static int make_identity(char out[ATTACH_IDENTITY], struct err *e)
{
	uint8_t random[16];
	size_t i;

	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
		return err_set(e, errno, "random bytes: %s", strerror(errno));
	snprintf(out, ATTACH_IDENTITY, "overlaybd-");
	for (i = 0; i < sizeof random; i++)
		snprintf(out + strlen(out), 3, "%02x", random[i]);
	return 0;
}

static int describe(const struct attach *a, struct attach_saved *s, struct err *e)
{
	int r = attach_pin(a->source, a->is_config, &a->settings, s->digest, e);

	if (r == 0)
		r = make_identity(s->identity, e);
	s->source = strdup(a->source);
	s->folder = getcwd(NULL, 0);
	if (r == 0 && (!s->source || !s->folder))
		r = err_set(e, errno, "the working directory: %s", strerror(errno));
	if (r == 0)
		r = add_program(a, s, e);
	return r < 0 ? r : add_parameters(a, s, e);
}

/* What the kernel is told, by what the server says. */
static int fit_device(struct attach *a, const struct attach_links *links, struct err *e)
{
	struct attach_saved *s = &a->state.saved;
	const struct nbd_export *x = &links->export;
	uint32_t block = x->block_min > BLOCK_SIZE ? x->block_min : BLOCK_SIZE;

	if (block > BLOCK_SIZE_MAX || block & (block - 1))
		return err_set(e, EINVAL, "%s: blocks of %" PRIu32 " bytes are not for the kernel",
			       a->source, block);
	if (x->size == 0 || x->size % block != 0 || x->size > INT64_MAX)
		return err_set(e, EINVAL, "%s: a disk of %" PRIu64 " bytes is not for the kernel",
			       a->source, x->size);
	s->connections = (unsigned)links->count;
	s->device = (struct nbd_device){
		.index = a->state.index,
		.size = x->size,
		.block_size = block,
		.flags = x->flags,
		.timeout = a->timeout,
		.dead_timeout = a->dead_timeout,
		.identity = s->identity,
	};
	return 0;
}

static int connect_device(struct attach *a, struct err *e)
{
	struct attach_links links = { 0 };
	int r = attach_links_open(&a->state, a->sockets, &links, e);

	if (r < 0)
		return r;
	r = fit_device(a, &links, e);
	if (r == 0)
		r = attach_state_save(&a->state, e);
	if (r == 0)
		r = nbd_netlink_attach(&a->kernel, &a->state.saved.device, links.sockets,
				       links.count, e);
	attach_links_close(&links);
	return r;
}

static int attach_anew(struct attach *a, struct err *e)
{
	int r;

	attach_server_stop(&a->state, false); /* one that was left behind */
	r = describe(a, &a->state.saved, e);
	/* From here on there is something to be cleaned up when a signal comes. */
	if (r == 0)
		r = attach_watch_open(&a->watch, &a->state, &a->kernel, e);
	if (r == 0)
		r = attach_state_begin(&a->state, e);
	if (r == 0)
		r = attach_server_start(&a->state, a->watch.signals, e);
	if (r == 0)
		r = connect_device(a, e);
	if (r < 0) {
		attach_server_stop(&a->state, false);
		attach_state_remove(&a->state);
	}
	a->anew = r == 0;
	return r;
}

/* One that somebody has attached, and nobody watches.  Its connections may have died meanwhile. */
static int take_over(struct attach *a, struct err *e)
{
	int r = attach_watch_open(&a->watch, &a->state, &a->kernel, e);

	return r < 0 ? r : attach_watch_mend(&a->watch, e);
}

/* ---- all of it ---- */

static int open_device(struct attach *a, struct err *e)
{
	int r = nbd_netlink_open(&a->kernel, e);

	if (r == 0)
		r = nbd_netlink_may_attach(&a->kernel, e);
	if (r == 0)
		r = read_source(a, e);
	if (r < 0)
		return r;
	r = choose_device(a, e);
	if (r < 0)
		return r;
	return r > 0 ? take_over(a, e) : attach_anew(a, e);
}

static void close_device(struct attach *a)
{
	attach_watch_close(&a->watch);
	drop_state(a);
	nbd_netlink_close(&a->kernel);
	free(a->source);
}

/* The device is detached: nothing needs the server any more. */
static void clean_up(struct attach *a)
{
	attach_server_stop(&a->state, false);
	attach_state_remove(&a->state);
}

static int watch_device(struct attach *a, struct err *e)
{
	int r;

	a->watch.server = attach_server_find(&a->state);
	r = attach_watch_run(&a->watch, e);
	if (r == -ENODEV)
		clean_up(a);
	return r;
}

static int run_here(struct attach *a, struct err *e)
{
	char name[32];
	int r = open_device(a, e);

	if (r < 0)
		return r;
	snprintf(name, sizeof name, "/dev/nbd%u", a->state.index);
	puts(name);
	fflush(stdout);
	attach_notify_systemd(name);
	return watch_device(a, e);
}

/* In a process of its own.  Whoever waits for it hears how it went. */
static void run_behind(struct attach *a, int to)
{
	struct err e = { .msg = "" };
	char name[32];
	int r = open_device(a, &e);

	if (r == 0)
		snprintf(name, sizeof name, "/dev/nbd%u", a->state.index);
	/* Whoever ended the parent does not want what it was to do. */
	if (!attach_notify_parent(to, r, r < 0 ? e.msg : name) && r == 0 && a->anew) {
		r = nbd_netlink_detach(&a->kernel, a->state.index, &e);
		clean_up(a);
	} else if (r == 0) {
		r = watch_device(a, &e);
	}
	close_device(a);
	_exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int run(const struct tool_args *args, struct err *e)
{
	struct attach a = { .args = args,
			    .kernel = { .requests = -1, .events = -1 },
			    .watch = { .signals = -1, .server = -1 } };
	int r, to;

	settings_take(&cmd_attach, args, &a.settings);
	if (read_arguments(&a, e) < 0)
		return TOOL_USAGE;
	if (args->values[OPT_FOREGROUND]) {
		r = run_here(&a, e);
		close_device(&a);
		return r;
	}
	r = attach_notify_fork(&to, e);
	if (r == 0)
		run_behind(&a, to);
	return r < 0 ? r : 0;
}

const struct tool_command cmd_attach = {
	.name = "attach",
	.operand = "CONFIG|REF [/dev/nbdN]",
	.min_operands = 1,
	.max_operands = 2,
	.summary = "Make an image a block device that survives its server",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
