/* SPDX-License-Identifier: Apache-2.0 */
/* cache_open.c - the cache folder: made, opened, opened anew when it was removed, and opened late
 * when that was not possible at first.
 *
 * (16) A cache that is not open yet (`closed`) has no folder, no usage page and no levels; whoever
 *      would use them asks cache_is_open first.  The keeper alone opens it, and it stays open. */
#include "fetch/cache.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/cache_evict.h"
#include "fetch/cache_limit.h"

enum { OPEN_PAUSE = 60 * 1000 /* ms until a folder that could not be opened is tried again */ };

/* The folder and all above it. */
static int make_folders(const struct cache_disk_ops *ops, const char *dir, struct err *e)
{
	AUTO_FREE char *path = strdup(dir);
	char *slash = path;
	int r;

	if (!path)
		return err_set(e, ENOMEM, "out of memory");
	do {
		slash = strchr(slash + 1, '/');
		if (slash)
			*slash = '\0';
		r = ops->make_folder(AT_FDCWD, path, 0700);
		if (r < 0 && r != -EEXIST && ops->exists(AT_FDCWD, path) < 0)
			return err_set(e, -r, "creating %s: %s", path, strerror(-r));
		if (slash)
			*slash = '/';
	} while (slash);
	return 0;
}

/* DIR/v1, as *root. */
static int open_root(const struct cache *c, struct cache_file *root, struct err *e)
{
	const struct cache_file cwd = { c->ops, AT_FDCWD };
	AUTO_CLOSE_FILE struct cache_file top = CACHE_FILE_NONE;
	int r = make_folders(c->ops, c->dir, e);

	if (r < 0)
		return r;
	r = cache_disk_open(cwd, c->dir, O_RDONLY | O_DIRECTORY, 0, &top);
	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	r = cache_folder_enter(top, "v1", true, root, e);
	if (r == 0)
		r = cache_folder_check(*root, e);
	return r < 0 ? r : cache_folder_make(*root, CACHE_SHARED, e);
}

static bool is_root_there(const struct cache *c)
{
	char path[PATH_MAX + sizeof "/v1"];

	snprintf(path, sizeof path, "%s/v1", c->dir);
	return cache_folder_is_at((struct cache_file){ c->ops, AT_FDCWD }, path, c->root);
}

/* The descriptor keeps its number, for other threads use it. */
static int renew_root(struct cache *c, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file root = CACHE_FILE_NONE;
	int r = open_root(c, &root, e);

	if (r < 0)
		return r;
	r = c->ops->replace(c->root.fd, root.fd);
	return r < 0 ? err_set(e, -r, "%s", strerror(-r)) : 0;
}

/* The folder and its files; nothing of them stays open when one cannot be. */
static int open_all(struct cache *c, struct err *e)
{
	int r = open_root(c, &c->root, e);

	if (r == 0)
		r = cache_evict_open(c, e);
	if (r < 0) {
		cache_evict_close(c);
		cache_disk_close(&c->root);
	}
	return r;
}

/* What was said of limits meanwhile is the folder's now. */
static void open_late(struct cache *c)
{
	struct cache_limits wanted;
	struct err e;

	if (clock_ms() < c->open_at)
		return;
	if (open_all(c, &e) < 0) {
		c->open_at = clock_ms() + OPEN_PAUSE;
		return;
	}
	atomic_store(&c->closed, false); /* first: who notes limits from now on sees it */
	cache_get_limits(c, &wanted);
	cache_set_limits(c, &wanted);
	log_warn("cache %s: it works now: what is fetched is kept", c->dir);
}

void cache_renew(struct cache *c)
{
	bool anew = false;
	struct err e;
	int r = 0;

	if (!cache_is_open(c))
		open_late(c);
	if (!cache_is_filling(c))
		return;
	if (!is_root_there(c)) {
		r = renew_root(c, &e);
		anew = r == 0;
	}
	if (r == 0)
		r = cache_evict_renew(c, &e);
	if (r < 0)
		cache_limit_trouble(c, r, e.msg);
	else if (anew)
		cache_limit_keep(c);
}

static struct cache *new_cache(const struct cache_disk_ops *ops, const char *dir)
{
	struct cache *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->ops = ops;
	c->root = c->lock_file = c->usage_file = CACHE_FILE_NONE;
	c->disk_free = UINT64_MAX;
	c->recheck = CACHE_RECHECK;
	c->dir = io_absolute_path(NULL, dir);
	pthread_mutex_init(&c->evicting, NULL); /* plain ones cannot fail */
	pthread_mutex_init(&c->limiting, NULL);
	pthread_mutex_init(&c->lock, NULL);
	clock_init_cond(&c->changed);
	return c;
}

static int open_cache(const struct cache_disk_ops *ops, const char *dir, uint64_t limit, bool late,
		      struct cache **out, struct err *e)
{
	const struct cache_limits limits = { limit, CACHE_LIMIT_FOLDER };
	struct cache *c = new_cache(ops, dir);
	int r;

	if (!c || !c->dir)
		r = err_set(e, ENOMEM, "out of memory");
	else
		r = open_all(c, e);
	if (r < 0 && (!late || r == -ENOMEM)) {
		cache_close(c);
		return err_wrap(e, r, "cache %s", dir);
	}
	if (r < 0) {
		err_wrap(e, r, "cache %s", dir);
		c->open_at = clock_ms() + OPEN_PAUSE;
		atomic_store(&c->closed, true);
		atomic_store(&c->limit, CACHE_LIMIT_FOLDER); /* nothing was said yet */
		atomic_store(&c->keep_free, CACHE_LIMIT_FOLDER);
	}
	cache_set_limits(c, &limits);
	*out = c;
	return r < 0;
}

int cache_open_on(const struct cache_disk_ops *ops, const char *dir, uint64_t limit,
		  struct cache **out, struct err *e)
{
	return open_cache(ops, dir, limit, false, out, e);
}

int cache_open(const char *dir, uint64_t limit, struct cache **out, struct err *e)
{
	return cache_open_on(&cache_disk_system, dir, limit, out, e);
}

int cache_open_late_on(const struct cache_disk_ops *ops, const char *dir, uint64_t limit,
		       struct cache **out, struct err *e)
{
	return open_cache(ops, dir, limit, true, out, e);
}

int cache_open_late(const char *dir, uint64_t limit, struct cache **out, struct err *e)
{
	return cache_open_late_on(&cache_disk_system, dir, limit, out, e);
}

void cache_close(struct cache *c)
{
	if (!c)
		return;
	cache_stop(c);
	cache_evict_close(c);
	cache_disk_close(&c->root);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	pthread_mutex_destroy(&c->limiting);
	pthread_mutex_destroy(&c->evicting);
	free(c->dir);
	free(c);
}

void cache_set_recheck(struct cache *c, uint32_t seconds)
{
	atomic_store(&c->recheck, seconds);
}
