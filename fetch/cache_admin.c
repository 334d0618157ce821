/* SPDX-License-Identifier: Apache-2.0 */
/* cache_admin.c - see cache_admin.h.  Each folder is opened by itself, as another process would. */
#include "fetch/cache_admin.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/cache_evict.h"
#include "fetch/cache_whole.h"

enum { ORIGIN_MAX = 4096 }; /* bytes */

/* A folder that was opened, or why not. */
struct visit {
	const char *path, *digest;
	bool shared;
	_Atomic uint64_t bad;
	struct cache_map *m; /* NULL: damaged */
};

/* Opens each folder that `digest` and `place` (NULL: any) do not leave out, in order, and calls
 * `each`; what disappears meanwhile is left out too. */
static int visit_all(struct cache *c, const char *digest, const char *place,
		     int (*each)(void *arg, struct visit *v, struct err *e), void *arg,
		     struct err *e)
{
	struct cache_names names;
	size_t i;
	int r = cache_folder_list(c->root, &names, e);

	if (r < 0)
		return r;
	for (i = 0; r == 0 && i < names.count; i++) {
		struct visit v = { .path = names.names[i],
				   .digest = strchr(names.names[i], '/') + 1 };
		const struct cache_map_counters counters = { c->usage, &v.bad, NULL };

		if ((digest && strcmp(v.digest, digest) != 0) ||
		    (place && strncmp(v.path, place, (size_t)(v.digest - v.path - 1)) != 0))
			continue;
		v.shared = strncmp(v.path, CACHE_SHARED "/", strlen(CACHE_SHARED "/")) == 0;
		r = cache_map_open(c->root, v.path, v.digest, CACHE_MAP_ANY_SIZE, false, &counters,
				   &v.m, e);
		if (r == 0 || r == -EUCLEAN)
			r = each(arg, &v, e);
		else if (r == -ENOENT || r == -ESTALE)
			r = 0;
		else
			err_wrap(e, r, "%s", v.path);
		cache_map_close(v.m);
	}
	cache_names_release(&names);
	return r;
}

static int wrap(const struct cache *c, int r, struct err *e)
{
	return r < 0 ? err_wrap(e, r, "cache %s", c->dir) : r;
}

/* ---- listing ---- */

struct listing {
	struct cache *c;
	struct cache_entry *entries;
	size_t count, room;
};

/* Text of the origin's file, if it is what its folder is named after; else the folder's name. */
static char *read_origin(const struct cache *c, const char *path)
{
	AUTO_CLOSE_FILE struct cache_file f = CACHE_FILE_NONE;
	AUTO_FREE char *text = NULL;
	char file[CACHE_PLACE + sizeof "/origin"], hash[CACHE_PLACE];
	size_t n;

	snprintf(file, sizeof file, "%.64s/origin", path);
	if (cache_folder_read_file(c->root, file, ORIGIN_MAX, &f, &text, &n, NULL) == 0 &&
	    strlen(text) == n && cache_hash(text, n, hash, NULL) == 0 &&
	    strncmp(hash, path, 64) == 0)
		return TAKE_PTR(text);
	return strndup(path, 64);
}

static int add_entry(void *arg, struct visit *v, struct err *e)
{
	struct listing *l = arg;
	struct cache_entry *entry;

	if (l->count == l->room) {
		size_t room = 2 * l->room + 16;

		entry = realloc(l->entries, room * sizeof *entry);
		if (!entry)
			return err_set(e, ENOMEM, "out of memory");
		l->entries = entry;
		l->room = room;
	}
	entry = &l->entries[l->count];
	*entry = (struct cache_entry){ 0 };
	digest_copy(entry->digest, v->digest);
	if (!v->shared) {
		entry->origin = read_origin(l->c, v->path);
		if (!entry->origin)
			return err_set(e, ENOMEM, "out of memory");
	}
	l->count++;
	if (v->m) {
		entry->size = cache_map_size(v->m);
		entry->present = cache_map_present(v->m);
		entry->whole = v->shared && (cache_map_flags(v->m) & CACHE_MAP_WHOLE);
		entry->in_use = cache_map_in_use(v->m);
	}
	return 0;
}

static int by_origin(const void *a, const void *b)
{
	const struct cache_entry *x = a, *y = b;
	int order = strcmp(x->origin ? x->origin : "", y->origin ? y->origin : "");

	return order ? order : strcmp(x->digest, y->digest);
}

int cache_list(struct cache *c, int (*each)(void *arg, const struct cache_entry *entry), void *arg,
	       struct err *e)
{
	struct listing l = { .c = c };
	int r = visit_all(c, NULL, NULL, add_entry, &l, e);
	size_t i;

	if (l.count > 0)
		qsort(l.entries, l.count, sizeof *l.entries, by_origin);
	for (i = 0; r == 0 && i < l.count; i++)
		r = each(arg, &l.entries[i]);
	for (i = 0; i < l.count; i++)
		free(l.entries[i].origin);
	free(l.entries);
	return r;
}

uint64_t cache_usage(struct cache *c)
{
	(void)cache_evict_recount(c, false, NULL); /* who evicts at the moment has counted */
	return atomic_load(c->usage);
}

/* ---- verifying ---- */

struct verification {
	struct cache *c;
	void (*progress)(void *arg, uint64_t bytes);
	void *arg;
	uint64_t checked, bad;
};

/* Drops a folder altogether. */
static void remove_visited(struct cache *c, const struct visit *v)
{
	if (cache_folder_remove(c->root, v->path, NULL) == 0 && v->m)
		cache_map_subtract(c->ops, c->usage,
				   cache_map_present(v->m) + cache_map_file_size(v->m));
}

/* Whatever was checked before, and without letting the clock know. */
static void verify_chunks(struct verification *v, struct visit *at)
{
	uint8_t chunk[CACHE_CHUNK];
	uint64_t i;

	for (i = 0; i < cache_map_chunks(at->m); i++) {
		size_t n = (size_t)cache_map_chunk_bytes(at->m, i);

		if (!cache_map_has(at->m, i))
			continue;
		(void)cache_map_read(at->m, chunk, n, i * CACHE_CHUNK, CACHE_MAP_CHECK);
		v->checked++;
		if (v->progress)
			v->progress(v->arg, n);
	}
	v->bad += atomic_load(&at->bad);
}

static int verify_whole(struct verification *v, struct visit *at, struct err *e)
{
	const struct cache_whole w = { .levels = { at->m },
				       .progress = v->progress,
				       .arg = v->arg };
	char digest[DIGEST_ANY_TEXT];
	int r;

	if (!at->shared || !(cache_map_flags(at->m) & CACHE_MAP_WHOLE))
		return 0;
	r = cache_whole_digest(&w, at->digest, cache_map_size(at->m), digest, e);
	if (r == 0 && strcmp(digest, at->digest) != 0) {
		v->bad += cache_map_chunks(at->m);
		remove_visited(v->c, at);
	}
	return r < 0 ? r : 0;
}

static int verify(void *arg, struct visit *at, struct err *e)
{
	struct verification *v = arg;

	if (!at->m) {
		v->bad++;
		remove_visited(v->c, at);
		return 0;
	}
	verify_chunks(v, at);
	return verify_whole(v, at, e);
}

int cache_verify_all(struct cache *c, void (*progress)(void *arg, uint64_t bytes), void *arg,
		     uint64_t *checked, uint64_t *bad, struct err *e)
{
	struct verification v = { .c = c, .progress = progress, .arg = arg };
	int r = visit_all(c, NULL, NULL, verify, &v, e);

	*checked = v.checked;
	*bad = v.bad;
	return wrap(c, r, e);
}

/* ---- shrinking ---- */

int cache_prune(struct cache *c, uint64_t target, uint64_t *freed, struct err *e)
{
	return wrap(c, cache_evict_run(c, target, CACHE_EVICT_WAIT, freed, e), e);
}

struct dropping {
	struct cache *c;
	uint64_t dropped;
};

static int drop(void *arg, struct visit *v, struct err *e)
{
	struct dropping *d = arg;
	int r = cache_folder_remove(d->c->root, v->path, e);

	if (r == -ENOENT)
		return 0; /* another did it */
	d->dropped += r == 0;
	return r;
}

/* What is left of origins: their documents. */
static int drop_places(struct cache *c, const char *place, struct err *e)
{
	struct cache_names origins;
	size_t i;
	int r = cache_folder_list_origins(c->root, &origins, e);

	if (r < 0)
		return r;
	for (i = 0; r == 0 && i < origins.count; i++)
		if (!place || strcmp(origins.names[i], place) == 0)
			r = cache_folder_remove(c->root, origins.names[i], e);
	cache_names_release(&origins);
	if (r == 0 && !place)
		r = cache_folder_remove(c->root, CACHE_SHARED "/" CACHE_DOCUMENTS, e);
	return r == -ENOENT ? 0 : r;
}

int cache_drop(struct cache *c, const char *digest, const char *origin, uint64_t *dropped,
	       struct err *e)
{
	struct dropping d = { .c = c };
	char place[CACHE_PLACE];
	int r = origin ? cache_hash(origin, strlen(origin), place, e) : 0;

	if (r == 0)
		r = visit_all(c, digest, origin ? place : NULL, drop, &d, e);
	if (r == 0 && !digest)
		r = drop_places(c, origin ? place : NULL, e);
	*dropped = d.dropped;
	(void)cache_evict_recount(c, false, NULL);
	return wrap(c, r, e);
}
