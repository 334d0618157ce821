/* SPDX-License-Identifier: Apache-2.0 */
/* cache_evict.c - CLOCK over all chunks of all blobs, see cache_evict.h.
 *
 * The blobs stand in a circle, ordered by path.  The hand goes on where it stopped, in whichever
 * process that was.  Where it passes, a chunk that was referenced since the last time loses the
 * mark, and another its place.  Two rounds see every chunk without its mark. */
#include "fetch/cache_evict.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/scope.h"

enum {
	USAGE_SIZE = 4096,
	DOCUMENTS_SHARE = 16, /* that part of the folder may be documents */
	PATIENCE = 30 * 1000, /* ms that a tool waits for the right to evict */
	LOOK_EVERY = 20, /* ms between two tries */
};

/* ---- the two files ---- */

/* Opens one of the two; what is there and is no file goes. */
static int open_own_file(struct cache_file root, const char *name, uint64_t size,
			 struct cache_file *out, struct err *e)
{
	int r = cache_folder_open_file(root, name, false, out, e);

	if (r == -EUCLEAN)
		r = cache_folder_remove(root, name, e) == 0 ? -ENOENT : r;
	if (r != -ENOENT)
		return r;
	r = cache_folder_make_file(root, name, "", 0, size, e);
	return r < 0 ? r : cache_folder_open_file(root, name, false, out, e);
}

/* Opens `usage` and maps it, in place of what was mapped if there is something.  It is whole even
 * if somebody cut it.  What is in it does not matter. */
static int open_usage(struct cache *c, struct cache_file *out, struct err *e)
{
	int r = open_own_file(c->root, "usage", USAGE_SIZE, out, e);
	void *at;

	if (r == 0)
		r = cache_folder_allocate(*out, USAGE_SIZE, e);
	if (r < 0)
		return r;
	/* A new one comes where the old one was: others read that, and the pointers, meanwhile. */
	r = c->ops->map(out->fd, USAGE_SIZE, c->page, &at);
	if (r < 0)
		return err_set(e, -r, "usage: %s", strerror(-r));
	if (!c->page) {
		c->page = at;
		c->usage = &c->page->bytes;
	}
	return 0;
}

int cache_evict_open(struct cache *c, struct err *e)
{
	int r = open_own_file(c->root, "lock", 1, &c->lock_file, e);

	return r < 0 ? r : open_usage(c, &c->usage_file, e);
}

static int replace(struct cache_file with, struct cache_file f, struct err *e)
{
	int r = f.ops->replace(f.fd, with.fd);

	return r < 0 ? err_set(e, -r, "%s", strerror(-r)) : 0;
}

static int renew_locked(struct cache *c, bool *anew, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file lock = CACHE_FILE_NONE;
	AUTO_CLOSE_FILE struct cache_file usage = CACHE_FILE_NONE;
	int r = 0;

	if (!cache_folder_is_at(c->root, "lock", c->lock_file)) {
		r = open_own_file(c->root, "lock", 1, &lock, e);
		if (r == 0)
			r = replace(lock, c->lock_file, e);
	}
	if (r == 0 && !cache_folder_is_at(c->root, "usage", c->usage_file)) {
		r = open_usage(c, &usage, e);
		if (r == 0)
			r = replace(usage, c->usage_file, e);
		*anew = r == 0;
	}
	return r;
}

int cache_evict_renew(struct cache *c, struct err *e)
{
	bool anew = false;
	int r;

	if (pthread_mutex_trylock(&c->evicting) != 0)
		return 0; /* later */
	r = renew_locked(c, &anew, e);
	pthread_mutex_unlock(&c->evicting);
	if (anew)
		(void)cache_evict_recount(c, false, NULL);
	return r;
}

void cache_evict_close(struct cache *c)
{
	if (c->page)
		c->ops->unmap(c->page, USAGE_SIZE);
	cache_disk_close(&c->lock_file);
	cache_disk_close(&c->usage_file);
}

/* The right to evict.  Waiting is for tools, and has an end: who holds it may be frozen. */
static int take_right(struct cache *c, bool wait, struct err *e)
{
	uint64_t until = clock_ms() + (wait ? PATIENCE : 0);
	int r;

	if (wait)
		pthread_mutex_lock(&c->evicting);
	else if (pthread_mutex_trylock(&c->evicting) != 0)
		return err_set(e, EAGAIN, "another thread evicts");
	while ((r = cache_folder_lock(c->lock_file, F_WRLCK, 0, 1)) == -EAGAIN &&
	       clock_ms() < until)
		clock_sleep(LOOK_EVERY);
	if (r == 0)
		return 0;
	if (r == -EAGAIN && wait)
		r = err_set(e, EAGAIN,
			    "lock: another process has been evicting for %d s; it may be frozen",
			    PATIENCE / 1000);
	else
		r = err_set(e, -r, "lock: %s", strerror(-r));
	pthread_mutex_unlock(&c->evicting);
	return r;
}

static void yield_right(struct cache *c)
{
	cache_folder_lock(c->lock_file, F_UNLCK, 0, 1);
	pthread_mutex_unlock(&c->evicting);
}

void cache_evict_await(struct cache *c)
{
	struct err e;

	if (!cache_is_open(c))
		return;
	if (take_right(c, true, &e) == 0)
		yield_right(c);
	else
		log_warn("cache %s: %s; what is filled may not stay", c->dir, e.msg);
}

/* ---- a blob by its path ---- */

struct visit {
	_Atomic uint64_t bad; /* nobody asks */
	struct cache_map *m;
};

/* Only the clock discards what is damaged: counting changes nothing. */
static int open_visit(struct visit *v, struct cache *c, const char *path, bool discard,
		      struct err *e)
{
	const struct cache_map_counters counters = { c->usage, &v->bad, NULL };
	const char *digest = strchr(path, '/') + 1;

	*v = (struct visit){ 0 };
	if (discard)
		return cache_open_map(c, path, digest, CACHE_MAP_ANY_SIZE, false, &counters, &v->m,
				      e);
	return cache_map_open(c->root, path, digest, CACHE_MAP_ANY_SIZE, false, &counters, &v->m,
			      e);
}

/* The bytes of all blobs that these names lead to. */
static int count_blobs(struct cache *c, const struct cache_names *names, uint64_t *sum,
		       struct err *e)
{
	size_t i;

	for (i = 0; i < names->count; i++) {
		struct visit v;
		int r = open_visit(&v, c, names->names[i], false, e);

		if (r == -ENOENT || r == -ENOTDIR || r == -ESTALE || r == -EUCLEAN)
			continue;
		if (r < 0)
			return err_wrap(e, r, "%s", names->names[i]);
		*sum += cache_map_present(v.m) + cache_map_file_size(v.m);
		cache_map_close(v.m);
	}
	return 0;
}

/* Lists the blobs and counts all anew.  What is published meanwhile may count twice, never not at
 * all: so the old count is read before anything is looked at. */
static int recount_locked(struct cache *c, struct cache_names *names, struct err *e)
{
	uint64_t before = atomic_load(c->usage), sum = 0;
	int r = cache_folder_list(c->root, names, e);

	if (r < 0)
		return r;
	r = count_blobs(c, names, &sum, e);
	if (r == 0)
		r = cache_documents_count(c, &sum, e);
	if (r < 0)
		cache_names_release(names);
	else
		cache_map_add(c->ops, c->usage, sum - before);
	return r;
}

int cache_evict_recount(struct cache *c, bool wait, struct err *e)
{
	struct cache_names names;
	int r = take_right(c, wait, e);

	if (r < 0)
		return r;
	r = recount_locked(c, &names, e);
	if (r == 0)
		cache_names_release(&names);
	yield_right(c);
	return r;
}

uint64_t cache_evict_pinned(struct cache *c)
{
	struct cache_names names;
	uint64_t sum = 0;
	size_t i;

	if (cache_folder_list(c->root, &names, NULL) < 0)
		return 0;
	for (i = 0; i < names.count; i++) {
		struct visit v;

		if (open_visit(&v, c, names.names[i], false, NULL) < 0)
			continue;
		if (cache_map_in_use(v.m))
			sum += cache_map_file_size(v.m);
		cache_map_close(v.m);
	}
	cache_names_release(&names);
	return sum;
}

/* ---- the clock ---- */

struct hand {
	char path[CACHE_PATH];
	uint64_t chunk;
};

static void load_hand(const struct cache *c, struct hand *hand)
{
	memcpy(hand->path, c->page->hand_path, CACHE_PATH);
	hand->path[CACHE_PATH - 1] = '\0';
	hand->chunk = atomic_load(&c->page->hand_chunk);
}

static void store_hand(struct cache *c, const struct hand *hand)
{
	/* Where that fails the next one begins where this one did. */
	if (cache_disk_copy(c->ops, c->page->hand_path, hand->path, CACHE_PATH) == 0)
		(void)cache_disk_change(c->ops, &c->page->hand_chunk, CACHE_DISK_SET, hand->chunk);
}

static void set_hand(struct hand *hand, const char *path, uint64_t chunk)
{
	snprintf(hand->path, sizeof hand->path, "%s", path);
	hand->chunk = chunk;
}

static size_t find_hand(const struct cache_names *names, struct hand *hand)
{
	size_t i = 0;

	while (i < names->count && strcmp(names->names[i], hand->path) < 0)
		i++;
	i = i < names->count ? i : 0;
	if (strcmp(names->names[i], hand->path) != 0)
		set_hand(hand, names->names[i], 0);
	return i;
}

static void remove_if_idle(struct cache *c, const char *path, struct cache_map *m)
{
	if (cache_map_present(m) == 0 && cache_map_take_alone(m) && cache_map_present(m) == 0 &&
	    cache_map_is_at(m, c->root, path) && cache_folder_remove(c->root, path, NULL) == 0)
		cache_map_subtract(c->ops, c->usage, cache_map_file_size(m));
}

/* Moves the hand to the blob's end, or to where enough is evicted.  Returns the bytes evicted. */
static uint64_t sweep_blob(struct cache *c, struct hand *hand, uint64_t target, bool spare)
{
	uint64_t freed = 0, chunks;
	struct visit v;

	if (open_visit(&v, c, hand->path, true, NULL) < 0) {
		cache_map_remove_unmade(c->root, hand->path);
		hand->chunk = UINT64_MAX;
		return 0;
	}
	chunks = cache_map_chunks(v.m);
	if (spare && cache_map_is_held(v.m))
		hand->chunk = chunks;
	while (hand->chunk < chunks && atomic_load(c->usage) > target)
		freed += cache_map_evict(v.m, hand->chunk++);
	if (hand->chunk >= chunks) {
		hand->chunk = UINT64_MAX;
		remove_if_idle(c, hand->path, v.m);
	}
	cache_map_close(v.m);
	return freed;
}

/* Two rounds. */
static uint64_t run_rounds(struct cache *c, const struct cache_names *names, struct hand *hand,
			   uint64_t target, bool spare)
{
	size_t at = find_hand(names, hand), step;
	uint64_t freed = 0;

	/* One blob more than two rounds: the first may have been begun in its middle. */
	for (step = 0; step <= 2 * names->count && atomic_load(c->usage) > target; step++) {
		freed += sweep_blob(c, hand, target, spare);
		if (hand->chunk == UINT64_MAX) {
			at = (at + 1) % names->count;
			set_hand(hand, names->names[at], 0);
		}
	}
	return freed;
}

static uint64_t run_clock(struct cache *c, const struct cache_names *names, uint64_t target,
			  bool spare)
{
	struct hand hand;
	uint64_t freed;

	load_hand(c, &hand);
	freed = run_rounds(c, names, &hand, target, true);
	if (!spare)
		freed += run_rounds(c, names, &hand, target, false);
	store_hand(c, &hand);
	return freed;
}

int cache_evict_run(struct cache *c, uint64_t target, unsigned how, uint64_t *freed, struct err *e)
{
	struct cache_names names;
	int r = take_right(c, how & CACHE_EVICT_WAIT, e);

	*freed = 0;
	if (r < 0)
		return r;
	cache_folder_sweep(c->root);
	r = recount_locked(c, &names, e);
	if (r == 0) {
		*freed = cache_documents_trim(c, target / DOCUMENTS_SHARE);
		if (names.count > 0)
			*freed += run_clock(c, &names, target, how & CACHE_EVICT_SPARE);
		cache_names_release(&names);
	}
	yield_right(c);
	return r;
}
