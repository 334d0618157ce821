/* SPDX-License-Identifier: Apache-2.0 */
/* fetcher.c - see fetcher.h. */
#include "fetch/fetcher.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/scope.h"

enum { TRY_EVERY = 60 * 1000 /* ms until a thread that could not be started is tried again */ };

struct folder {
	struct folder *next;
	struct cache *cache;
	bool kept; /* its keeper runs */
	bool told; /* that it does not */
	uint64_t try_at; /* ms: not before then */
	char *dir;
};

struct fetcher {
	struct http *http;
	pthread_mutex_t lock;
	struct folder *folders; /* guarded by lock */
	bool used; /* guarded by lock: some image needs the threads */
	bool started; /* guarded by lock */
};

int fetcher_open(struct fetcher **out, struct err *e)
{
	struct fetcher *f = calloc(1, sizeof *f);
	int r;

	if (!f)
		return err_set(e, ENOMEM, "out of memory");
	r = http_open(&f->http, e);
	if (r < 0) {
		free(f);
		return r;
	}
	pthread_mutex_init(&f->lock, NULL);
	*out = f;
	return 0;
}

/* A cache without its keeper serves, but is neither evicted nor checked. */
static void start_keeper(struct folder *p)
{
	struct err e;

	if (!p->cache || p->kept || clock_ms() < p->try_at)
		return;
	p->kept = cache_start(p->cache, &e) == 0;
	if (p->kept && p->told)
		log_warn("cache %s: its keeper works now: it is evicted and checked", p->dir);
	else if (!p->kept && !p->told)
		log_warn("%s; nothing is evicted or checked there; this is tried again each minute",
			 e.msg);
	p->told = !p->kept;
	p->try_at = clock_ms() + TRY_EVERY;
}

static void start_keepers_locked(struct fetcher *f)
{
	struct folder *p;

	for (p = f->folders; f->started && p; p = p->next)
		start_keeper(p);
}

static int start_locked(struct fetcher *f, struct err *e)
{
	int r = f->started ? 0 : http_start(f->http, e);

	if (r < 0)
		return r;
	f->started = true;
	start_keepers_locked(f);
	return 0;
}

int fetcher_use(struct fetcher *f, struct err *e)
{
	WITH_LOCK(&f->lock);
	f->used = true;
	return start_locked(f, e);
}

int fetcher_resume(struct fetcher *f, struct err *e)
{
	WITH_LOCK(&f->lock);
	return f->used ? start_locked(f, e) : 0;
}

void fetcher_look(struct fetcher *f)
{
	WITH_LOCK(&f->lock);
	start_keepers_locked(f);
}

bool fetcher_is_used(struct fetcher *f)
{
	WITH_LOCK(&f->lock);
	return f->used;
}

void fetcher_interrupt(struct fetcher *f)
{
	http_interrupt(f->http);
}

void fetcher_stop(struct fetcher *f)
{
	struct folder *p;

	http_stop(f->http);
	WITH_LOCK(&f->lock);
	f->started = false;
	for (p = f->folders; p; p = p->next) {
		if (p->cache)
			cache_stop(p->cache);
		p->kept = false;
		p->try_at = 0;
	}
}

void fetcher_close(struct fetcher *f)
{
	if (!f)
		return;
	fetcher_stop(f);
	http_close(f->http);
	while (f->folders) {
		struct folder *p = f->folders;

		f->folders = p->next;
		cache_close(p->cache);
		free(p->dir);
		free(p);
	}
	pthread_mutex_destroy(&f->lock);
	free(f);
}

struct http *fetcher_http(struct fetcher *f)
{
	return f->http;
}

/* One that cannot be opened yet is opened later. */
static int open_cache(struct folder *p, const struct fetch_settings *settings, struct err *e)
{
	struct err why;
	int r = cache_open_late(p->dir, settings->cache_limit, &p->cache, &why);

	if (r < 0) {
		p->cache = NULL;
		return err_set(e, -r, "%s", why.msg);
	}
	if (r > 0)
		log_warn("no cache: %s; reads go to the registry each time; this is tried again "
			 "each minute",
			 why.msg);
	return 0;
}

static struct folder *find_locked(struct fetcher *f, const char *dir)
{
	struct folder *p;

	for (p = f->folders; p && strcmp(p->dir, dir) != 0; p = p->next)
		;
	if (p)
		return p;
	p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->dir = strdup(dir);
	if (!p->dir) {
		free(p);
		return NULL;
	}
	p->next = f->folders;
	f->folders = p;
	return p;
}

int fetcher_cache(struct fetcher *f, const struct fetch_settings *settings, struct cache **out,
		  struct err *e)
{
	const struct cache_limits limits = { settings->cache_limit, settings->cache_keep_free };
	struct folder *p;
	int r;

	WITH_LOCK(&f->lock);
	p = find_locked(f, settings->cache_dir);
	if (!p)
		return err_set(e, ENOMEM, "out of memory");
	r = p->cache ? 0 : open_cache(p, settings, e);
	if (r < 0)
		return r;
	start_keepers_locked(f);
	cache_set_limits(p->cache, &limits);
	cache_set_recheck(p->cache, settings->verify_cache);
	*out = p->cache;
	return 0;
}
