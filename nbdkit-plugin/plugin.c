/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c - overlaybd images as an nbdkit plugin: the only file that knows nbdkit.
 *
 * The image of config= is opened in .get_ready, before nbdkit forks and changes user, so that
 * errors reach the terminal and files need to be readable by who starts the server only.  Opening
 * leaves no thread behind, since none would survive the fork.  Images of dir= are opened for their
 * first client.  A connection's handle is the struct disk that it reads. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <inttypes.h>
#include <lz4.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>
#include <zstd.h>

#include "core/base/crc32c.h"
#include "core/base/limits.h"
#include "core/base/text.h"
#include "core/image.h"
#include "nbdkit-plugin/disk.h"
#include "nbdkit-plugin/exports.h"
#include "nbdkit-plugin/params.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
	BLOCK_MIN = 1,
	BLOCK_PREFERRED = 4096,
	BLOCK_MAX = 32 * 1024 * 1024, /* clients assume no more of any server */

	/* In one answer, 8 bytes each.  The client asks again for the rest. */
	EXTENTS_MAX = 65536,

	LIST_MAX = 10000, /* exports in a list: nbdkit takes no more */
};

/* Written while the server starts and ends, with one thread; connections only read them. */
static struct params params;
static struct disk *only; /* with config= */
static struct exports *exports; /* with dir= */

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

static void overlaybd_unload(void)
{
	disk_close(only);
	exports_close(exports);
	params_release(&params);
}

static int overlaybd_config(const char *key, const char *value)
{
	struct err e;
	int r = params_set(&params, key, value, &e);

	return r < 0 ? fail(r, &e) : 0;
}

static int overlaybd_config_complete(void)
{
	struct err e;
	int r = params_complete(&params, &e);

	return r < 0 ? fail(r, &e) : 0;
}

static void overlaybd_dump_plugin(void)
{
	printf("overlaybd_version=%s\n", PROJECT_VERSION);
	printf("overlaybd_formats=lsmt,zfile-lz4,zfile-zstd,tar\n");
	printf("overlaybd_writable=no\n");
	printf("overlaybd_registry=no\n");
	printf("overlaybd_lz4_version=%s\n", LZ4_versionString());
	printf("overlaybd_zstd_version=%s\n", ZSTD_versionString());
	printf("overlaybd_libyaml_version=%s\n", yaml_get_version_string());
	printf("overlaybd_crc32c=%s\n", crc32c_implementation());
}

/* Of an upper that a crash cut short, what came before the cut is served: somebody should know. */
static void warn_of_cut_log(const struct image_layer *l, const char *config)
{
	if (l->upper.ignored_records > 0 || l->upper.fragment_bytes > 0)
		nbdkit_error("%s: warning: the writable layer's log was cut by a crash: %" PRIu64
			     " records and %" PRIu64 " bytes at its end are ignored",
			     config, l->upper.ignored_records, l->upper.fragment_bytes);
}

static void log_opened(const struct disk *d)
{
	size_t i, layers = image_layer_count(d->image);
	char path[4096];

	text_escape(d->config->path, path, sizeof path);
	nbdkit_debug("%s: %" PRIu64 " bytes, %zu layers, %zu mappings, %zu bytes of index", path,
		     image_size(d->image), layers, index_count(image_index(d->image)),
		     index_memory(image_index(d->image)));
	for (i = 0; i < layers; i++)
		if (image_layer(d->image, i)->is_upper)
			warn_of_cut_log(image_layer(d->image, i), path);
}

static int overlaybd_get_ready(void)
{
	struct err e;
	int r;

	limits_raise_files();
	if (params.dir) {
		r = exports_open(params.dir, &exports, &e);
	} else {
		r = disk_open(params.config, &only, &e);
		if (r == 0)
			log_opened(only);
	}
	return r < 0 ? fail(r, &e) : 0;
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

	if (!exports)
		return only;
	name = nbdkit_export_name();
	if (!name)
		return NULL; /* nbdkit has said why */
	r = exports_acquire(exports, name, &d, &e);
	if (r < 0) {
		(void)fail(r, &e);
		return NULL;
	}
	log_opened(d);
	return d;
}

static void overlaybd_close(void *handle)
{
	if (exports)
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

/* All connections read the same immutable image. */
static int overlaybd_can_multi_conn(void *handle)
{
	return 1;
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
	struct err e;
	int r = image_pread(d->image, buf, count, offset, &e);

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
	.description = "layered overlaybd images as read-only disks",
	.unload = overlaybd_unload,
	.config = overlaybd_config,
	.config_complete = overlaybd_config_complete,
	.config_help = PARAMS_HELP,
	.magic_config_key = PARAMS_MAGIC,
	.dump_plugin = overlaybd_dump_plugin,
	.get_ready = overlaybd_get_ready,
	.list_exports = overlaybd_list_exports,
	.default_export = overlaybd_default_export,
	.open = overlaybd_open,
	.close = overlaybd_close,
	.export_description = overlaybd_export_description,
	.get_size = overlaybd_get_size,
	.block_size = overlaybd_block_size,
	.can_multi_conn = overlaybd_can_multi_conn,
	.can_extents = overlaybd_can_extents,
	.can_cache = overlaybd_can_cache,
	.pread = overlaybd_pread,
	.extents = overlaybd_extents,
	.cache = overlaybd_cache,
};

NBDKIT_REGISTER_PLUGIN(plugin)
