/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c - overlaybd images as an nbdkit plugin: the only file that knows nbdkit.
 *
 * The image of config= or image= is opened in .get_ready, before nbdkit forks and changes user, so
 * that errors reach the terminal and files need to be readable by who starts the server only.
 * Opening leaves no thread behind, since none would survive the fork.  Images of dir= are opened
 * for their first client.  A connection's handle is the struct disk that it reads. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <inttypes.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>
#include <zstd.h>

#include "core/base/clock.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/base/text.h"
#include "core/image.h"
#include "fetch/fetcher.h"
#include "fetch/stats.h"
#include "nbdkit-plugin/disk.h"
#include "nbdkit-plugin/exports.h"
#include "nbdkit-plugin/params.h"
#include "nbdkit-plugin/quit.h"
#include "nbdkit-plugin/report.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
	BLOCK_MIN = 1,
	BLOCK_PREFERRED = 4096,
	BLOCK_MAX = 32 * 1024 * 1024, /* clients assume no more of any server */

	/* In one answer, 8 bytes each.  The client asks again for the rest. */
	EXTENTS_MAX = 65536,

	LIST_MAX = 10000, /* exports in a list: nbdkit takes no more */

	LOOK_EVERY = 1000, /* ms between two looks at what runs beside the reads */
	REPORT_EVERY = 10, /* looks between two writings of the statistics */
};

/* Written while the server starts and ends, with one thread; connections only read them. */
static struct params params;
static struct disk *only; /* with config= or image= */
static struct exports *exports; /* with dir= */
static struct fetcher *fetcher;
static pthread_t watcher;
static bool watching;
static int output = -1; /* standard output as it was, while statistics are to go there */
static pthread_mutex_t report_lock = PTHREAD_MUTEX_INITIALIZER; /* one writes at a time */

struct nbdkit_plugin *plugin_init(void);

/* The only place where a -errno becomes an NBD error, and a text a line of the log: what NBD has no
 * number for is EIO, where nbdkit itself would make it EINVAL, which clients take for their own
 * mistake. */
static int fail(int r, const struct err *e)
{
	char line[4 * sizeof e->msg];

	nbdkit_error("%s", text_escape(e->msg, line, sizeof line));
	nbdkit_set_error(r == -EINVAL || r == -ENOSPC || r == -EROFS || r == -ENOMEM ||
					 r == -EDQUOT || r == -EFBIG || r == -EOPNOTSUPP ||
					 r == -ESHUTDOWN
				 ? -r
				 : EIO);
	return -1;
}

/* Soon nbdkit will replace it by /dev/null; with -s it is the client's. */
static void keep_output(void)
{
	if (nbdkit_stdio_safe())
		output = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

static void drop_output(void)
{
	close(output); /* or -1, which is none */
	output = -1;
}

static void overlaybd_unload(void)
{
	disk_close(TAKE_PTR(only));
	exports_close(TAKE_PTR(exports));
	fetcher_close(TAKE_PTR(fetcher));
	params_release(&params);
	drop_output();
}

static int overlaybd_config(const char *key, const char *value)
{
	struct err e;
	int r = params_set(&params, key, value, nbdkit_read_password, &e);

	if (r > 0)
		return -1; /* nbdkit has said why */
	return r < 0 ? fail(r, &e) : 0;
}

static int overlaybd_config_complete(void)
{
	struct err e;
	int r = params_complete(&params, &e);

	keep_output();
	return r < 0 ? fail(r, &e) : 0;
}

static void overlaybd_dump_plugin(void)
{
	printf("overlaybd_version=%s\n", PROJECT_VERSION);
	printf("overlaybd_formats=lsmt,zfile-lz4,zfile-zstd,tar\n");
	printf("overlaybd_writable=yes\n");
	printf("overlaybd_registry=yes\n");
	printf("overlaybd_lz4_version=%s\n", LZ4_versionString());
	printf("overlaybd_zstd_version=%s\n", ZSTD_versionString());
	printf("overlaybd_libcurl_version=%s\n", curl_version_info(CURLVERSION_NOW)->version);
	printf("overlaybd_libyaml_version=%s\n", yaml_get_version_string());
}

/* Of an upper that a crash cut short, what came before the cut is served: somebody should know. */
static void warn_of_cut_log(const struct image_layer *l, const char *config)
{
	if (l->upper.ignored_records > 0 || l->upper.fragment_bytes > 0)
		log_warn("%s: the writable layer's log was cut by a crash: %" PRIu64
			 " records and %" PRIu64 " bytes at its end are ignored",
			 config, l->upper.ignored_records, l->upper.fragment_bytes);
}

static void log_opened(const struct disk *d)
{
	size_t i, layers = image_layer_count(d->image);

	log_debug("%s: %" PRIu64 " bytes, %zu layers, %zu mappings, %zu bytes of index",
		  d->config->path, image_size(d->image), layers, image_mapping_count(d->image),
		  image_index_memory(d->image));
	/* A writable upper says it itself: it cuts that off. */
	for (i = 0; i < layers && !image_has_upper(d->image); i++)
		if (image_layer(d->image, i)->is_upper)
			warn_of_cut_log(image_layer(d->image, i), d->config->path);
}

/* What no call can return.  nbdkit 1.32 has no warnings. */
static void log_line(enum log_level level, const char *line)
{
	char escaped[8192];

	text_escape(line, escaped, sizeof escaped);
	if (level == LOG_WARNING)
		nbdkit_error("warning: %s", escaped);
	else
		nbdkit_debug("%s", escaped);
}

/* Images of a folder may have their own word on it, but who wants it printed says so here. */
static bool wants_output(void)
{
	const struct config_options *o = &params.options;
	size_t i;

	if (only)
		return only->config->fetch.stats && strcmp(only->config->fetch.stats, "-") == 0;
	for (i = 0; i < o->setting_count; i++)
		if (strcmp(o->settings[i].name, "stats") == 0)
			return strcmp(o->settings[i].value, "-") == 0;
	return false;
}

static int open_all(struct err *e)
{
	int r = fetcher_open(&fetcher, e);

	if (r < 0)
		return r;
	if (params.dir)
		return exports_open(params.dir, &params.options, fetcher, &exports, e);
	r = params.image ? disk_open_image(params.image, &params.options, fetcher, &only, e)
			 : disk_open(params.config, &params.options, fetcher, &only, e);
	if (r == 0)
		log_opened(only);
	return r;
}

/* Before 1.34 nbdkit asserts that a client's socket is open while it replies to it in parallel; a
 * client that is killed then ends the server.  With one image that client loses nothing.  The
 * version that counts is the running one's, which is told by a function that came with 1.34. */
static void warn_of_old_nbdkit(void)
{
	if (!dlsym(RTLD_DEFAULT, "nbdkit_disconnect"))
		log_warn("dir=: nbdkit before 1.34 ends when a client is killed in the middle of "
			 "reads, and takes all exports along: run a server for each image, or add "
			 "--filter=noparallel");
}

static int overlaybd_get_ready(void)
{
	struct err e;
	int r;

	limits_raise_files();
	log_set_sink(log_line);
	r = open_all(&e);
	if (fetcher)
		fetcher_stop(fetcher);
	if (r < 0)
		return fail(r, &e);
	if (exports)
		warn_of_old_nbdkit();
	if (!wants_output())
		drop_output();
	return 0;
}

/* Does something with all disks that are open. */
static void with_disks(void (*what)(struct disk *const *disks, size_t count))
{
	struct disk **disks;
	size_t count, i;

	if (only) {
		what(&only, 1);
	} else if (exports_acquire_all(exports, &disks, &count) == 0) {
		what(disks, count);
		for (i = 0; i < count; i++)
			exports_release(exports, disks[i]);
		free(disks);
	}
}

static void report_some(struct disk *const *disks, size_t count)
{
	report_write(disks, count, false);
}

static void report_last(struct disk *const *disks, size_t count)
{
	report_write(disks, count, true);
}

static void report(bool last)
{
	pthread_mutex_lock(&report_lock);
	with_disks(last ? report_last : report_some);
	pthread_mutex_unlock(&report_lock);
}

static void look(struct disk *const *disks, size_t count)
{
	struct err e;
	size_t i;

	for (i = 0; i < count; i++) {
		launch_look(disks[i]->launch);
		/* What fails here fails in the clients' flushes too, which say so each time. */
		(void)image_tidy(disks[i]->image, &e);
		/* If there was no thread for it when the disk was opened, which has been told. */
		(void)image_start_download(disks[i]->image, &e);
	}
}

/* Clients may stay as long as they like, and who stops a service may lose patience. */
static void flush_all(struct disk *const *disks, size_t count)
{
	struct err e;
	size_t i;

	for (i = 0; i < count; i++)
		if (image_flush(disks[i]->image, &e) < 0)
			log_warn("%s", e.msg);
}

static void end_launches(struct disk *const *disks, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		launch_end(disks[i]->launch);
}

/* What must be kept is kept when nbdkit is told to end: clients may stay for long after that. */
static void *watch(void *arg)
{
	unsigned looks = 0;

	while (!quit_wait(LOOK_EVERY)) {
		with_disks(look);
		fetcher_look(fetcher);
		if (++looks % REPORT_EVERY == 0)
			report(false);
	}
	with_disks(flush_all);
	fetcher_interrupt(fetcher);
	with_disks(end_launches);
	report(false);
	return NULL;
}

/* Whether there is something to watch: a plain local image is served without a thread of ours. */
static bool needs_watcher(void)
{
	return !only || only->config->fetch.stats || fetcher_is_used(fetcher) ||
	       launch_is_recording(only->launch) || image_has_upper(only->image);
}

static int overlaybd_after_fork(void)
{
	struct err e;
	int r = fetcher_resume(fetcher, &e), code;

	if (r < 0)
		return fail(r, &e);
	if (only)
		disk_start(only);
	if (!needs_watcher())
		return 0;
	r = quit_watch(&e);
	if (r < 0)
		return fail(r, &e);
	code = clock_thread(&watcher, watch, NULL);
	if (code != 0) {
		quit_forget();
		r = err_set(&e, code, "starting a thread: %s", strerror(code));
		return fail(r, &e);
	}
	watching = true;
	return 0;
}

static void overlaybd_cleanup(void)
{
	if (!watching)
		return;
	quit_tell(); /* it may end without a signal */
	clock_join(watcher);
	quit_forget();
	watching = false;
	dup2(output, STDOUT_FILENO); /* if there is one */
	report(true);
}

static int list_folder(struct nbdkit_exports *list)
{
	struct export_names names;
	struct err e;
	size_t i;
	int r = exports_list(exports, &names, &e);

	if (r < 0)
		return fail(r, &e);
	/* A description would have to be read from each file: a client gets it when it asks about
	 * one export. */
	for (i = 0; r == 0 && i < names.count && i < LIST_MAX; i++)
		r = nbdkit_add_export(list, names.names[i], NULL);
	export_names_release(&names);
	return r;
}

static int overlaybd_list_exports(int readonly, int is_tls, struct nbdkit_exports *list)
{
	return exports ? list_folder(list) : nbdkit_add_export(list, "", only->description);
}

/* With dir= the empty name is the only image's.  Where that says nothing it stays empty, and .open
 * gives the reason. */
static const char *overlaybd_default_export(int readonly, int is_tls)
{
	struct export_names names;
	const char *name = "";

	if (!exports || exports_list(exports, &names, NULL) < 0)
		return "";
	if (names.count == 1)
		name = nbdkit_strdup_intern(names.names[0]);
	export_names_release(&names);
	return name;
}

static void *overlaybd_open(int readonly)
{
	struct disk *d;
	const char *name;
	struct err e;
	int r;

	if (!exports) {
		launch_client_came(only->launch);
		return only;
	}
	name = nbdkit_export_name();
	if (!name)
		return NULL; /* nbdkit has said why */
	r = exports_acquire(exports, name, &d, &e);
	if (r < 0) {
		(void)fail(r, &e);
		return NULL;
	}
	log_opened(d);
	launch_client_came(d->launch);
	return d;
}

static void overlaybd_close(void *handle)
{
	const struct disk *d = handle;

	launch_client_went(d->launch);
	if (!exports)
		return;
	if (d->config->fetch.stats)
		report(true); /* it may be this disk's last chance */
	exports_release(exports, handle);
}

static const char *overlaybd_export_description(void *handle)
{
	const struct disk *d = handle;

	return d->description;
}

static int64_t overlaybd_get_size(void *handle)
{
	const struct disk *d = handle;

	return (int64_t)image_size(d->image);
}

static int overlaybd_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
				uint32_t *maximum)
{
	*minimum = BLOCK_MIN;
	*preferred = BLOCK_PREFERRED;
	*maximum = BLOCK_MAX;
	return 0;
}

/* All connections see the same disk, and a flush of one is for the writes of all. */
static int overlaybd_can_multi_conn(void *handle)
{
	return 1;
}

/* nbdkit asks when the client may write at all. */
static int overlaybd_can_write(void *handle)
{
	const struct disk *d = handle;

	return image_is_writable(d->image);
}

static int overlaybd_can_fua(void *handle)
{
	const struct disk *d = handle;

	return image_is_writable(d->image) ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

static int overlaybd_can_extents(void *handle)
{
	return 1;
}

static int overlaybd_can_cache(void *handle)
{
	return NBDKIT_CACHE_NATIVE;
}

static int overlaybd_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct disk *d = handle;
	struct stats *stats = stats_group_image(image_stats(d->image));
	struct err e;
	int r;

	launch_note(d->launch, offset, count);
	r = image_pread(d->image, buf, count, offset, &e);

	stats_add(stats, STATS_READS, 1);
	stats_add(stats, STATS_READ_BYTES, count);
	return r < 0 ? fail(r, &e) : 0;
}

static unsigned change_flags(uint32_t flags)
{
	unsigned f = 0;

	if (flags & NBDKIT_FLAG_FUA)
		f |= UPPER_FUA;
	if (flags & NBDKIT_FLAG_MAY_TRIM)
		f |= UPPER_MAY_TRIM;
	if (flags & NBDKIT_FLAG_FAST_ZERO)
		f |= UPPER_FAST;
	return f;
}

static int overlaybd_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
			    uint32_t flags)
{
	struct disk *d = handle;
	struct err e;
	int r = image_pwrite(d->image, buf, count, offset, change_flags(flags), &e);

	return r < 0 ? fail(r, &e) : 0;
}

static int overlaybd_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct disk *d = handle;
	struct err e;
	int r = image_zero(d->image, offset, count, change_flags(flags), &e);

	return r < 0 ? fail(r, &e) : 0;
}

static int overlaybd_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct disk *d = handle;
	struct err e;
	int r = image_trim(d->image, offset, count, change_flags(flags), &e);

	return r < 0 ? fail(r, &e) : 0;
}

static int overlaybd_flush(void *handle, uint32_t flags)
{
	struct disk *d = handle;
	struct err e;
	int r = image_flush(d->image, &e);

	return r < 0 ? fail(r, &e) : 0;
}

static int overlaybd_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct disk *d = handle;

	image_prefetch(d->image, offset, count);
	return 0;
}

struct extent_walk {
	struct nbdkit_extents *extents;
	bool one; /* the client wants the first run only */
	uint32_t first; /* type of that run */
	unsigned pieces;
};

/* What a layer zeroed and what no layer maps look alike to a client: nothing is stored, zeroes are
 * read.  nbdkit joins neighbours of one type. */
static int add_extent(void *arg, const struct image_extent *x)
{
	uint32_t type = x->kind == EXTENT_DATA ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
	struct extent_walk *w = arg;

	if (w->pieces == 0)
		w->first = type;
	if (w->one && type != w->first)
		return 1;
	if (nbdkit_add_extent(w->extents, x->off, x->n, type) < 0)
		return -errno;
	return ++w->pieces == EXTENTS_MAX;
}

static int overlaybd_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			     struct nbdkit_extents *extents)
{
	struct extent_walk w = { .extents = extents, .one = flags & NBDKIT_FLAG_REQ_ONE };
	struct disk *d = handle;
	struct err e;
	int r = image_extents(d->image, offset, count, true, add_extent, &w);

	if (r < 0) {
		r = err_set(&e, -r, "%s: extents of %" PRIu32 " bytes at %" PRIu64 ": %s",
			    d->config->path, count, offset, strerror(-r));
		return fail(r, &e);
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name = "overlaybd",
	.longname = "overlaybd images",
	.version = PROJECT_VERSION,
	.description = "layered overlaybd images as disks",
	.unload = overlaybd_unload,
	.config = overlaybd_config,
	.config_complete = overlaybd_config_complete,
	.config_help = PARAMS_HELP,
	.magic_config_key = PARAMS_MAGIC,
	.dump_plugin = overlaybd_dump_plugin,
	.get_ready = overlaybd_get_ready,
	.after_fork = overlaybd_after_fork,
	.cleanup = overlaybd_cleanup,
	.list_exports = overlaybd_list_exports,
	.default_export = overlaybd_default_export,
	.open = overlaybd_open,
	.close = overlaybd_close,
	.export_description = overlaybd_export_description,
	.get_size = overlaybd_get_size,
	.block_size = overlaybd_block_size,
	.can_write = overlaybd_can_write,
	.can_flush = overlaybd_can_write,
	.can_trim = overlaybd_can_write,
	.can_zero = overlaybd_can_write,
	.can_fast_zero = overlaybd_can_write,
	.can_fua = overlaybd_can_fua,
	.can_multi_conn = overlaybd_can_multi_conn,
	.can_extents = overlaybd_can_extents,
	.can_cache = overlaybd_can_cache,
	.pread = overlaybd_pread,
	.pwrite = overlaybd_pwrite,
	.zero = overlaybd_zero,
	.trim = overlaybd_trim,
	.flush = overlaybd_flush,
	.extents = overlaybd_extents,
	.cache = overlaybd_cache,
};

NBDKIT_REGISTER_PLUGIN(plugin)
