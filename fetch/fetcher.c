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

enum { TRY_EVERY = 60 * 1000 /* ms */ };

struct folder {
	struct folder *next;
	struct cache *cache; /* NULL: it cannot be used */
	bool told; /* which was said */
	uint64_t tried_at; /* ms */
	char dir[];
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

static int start_locked(struct fetcher *f, struct err *e)
{
	struct folder *p;
	int r = f->started ? 0 : http_start(f->http, e);

	if (r < 0 || f->started)
		return r;
	for (p = f->folders; p && r == 0; p = p->next)
		if (p->cache)
			r = cache_start(p->cache, e);
	f->started = true; /* as far as it went: stop ends it */
	return r;
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
	for (p = f->folders; p; p = p->next)
		if (p->cache)
			cache_stop(p->cache);
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
		free(p);
	}
	pthread_mutex_destroy(&f->lock);
	free(f);
}

struct http *fetcher_http(struct fetcher *f)
{
	return f->http;
}

/* With a warning where it cannot be used, but for the first time only. */
static void open_cache(struct folder *p, const struct fetch_settings *settings)
{
	struct err e;

	p->tried_at = clock_ms();
	if (cache_open(p->dir, settings->cache_limit, &p->cache, &e) == 0)
		return;
	p->cache = NULL;
	if (!p->told)
		log_warn("no cache: %s; reads go to the registry each time", e.msg);
	p->told = true;
}

static struct folder *find_locked(struct fetcher *f, const char *dir)
{
	struct folder *p;

	for (p = f->folders; p && strcmp(p->dir, dir) != 0; p = p->next)
		;
	if (p)
		return p;
	p = malloc(sizeof *p + strlen(dir) + 1);
	if (!p)
		return NULL;
	*p = (struct folder){ .next = f->folders };
	memcpy(p->dir, dir, strlen(dir) + 1);
	f->folders = p;
	return p;
}

int fetcher_cache(struct fetcher *f, const struct fetch_settings *settings, struct cache **out,
		  struct err *e)
{
	const struct cache_limits limits = { settings->cache_limit, settings->cache_keep_free };
	struct folder *p;

	WITH_LOCK(&f->lock);
	p = find_locked(f, settings->cache_dir);
	if (!p)
		return err_set(e, ENOMEM, "out of memory");
	if (!p->cache && (!p->told || clock_ms() - p->tried_at >= TRY_EVERY)) {
		open_cache(p, settings);
		if (f->started && p->cache && cache_start(p->cache, e) < 0)
			log_warn("%s: no thread for eviction: %s", p->dir, e ? e->msg : "");
	}
	if (p->cache) {
		cache_set_limits(p->cache, &limits);
		cache_set_recheck(p->cache, settings->verify_cache);
	}
	*out = p->cache;
	return 0;
}
