/* SPDX-License-Identifier: Apache-2.0 */
/* cache_whole.c - a blob that is all there: is it right, and then into v1/sha256 with it.
 *
 * (10) Who checks a blob holds the checker's right in its folder and has sealed it (5).  So what is
 *      hashed, what is moved or copied, and what stands in v1/sha256 afterwards are the same bytes.
 *      For that the origin's chunks are hashed where both levels have one: v1/sha256 may lose its
 *      own before they are copied.
 * (11) A right whole is brought to the disk before it moves: from then on only the chunks' CRCs are
 *      looked at, and after a power loss an older fill with its older word could pass for checked.
 *      (Nothing else in the cache is ever synced, see (4).)
 * (12) A wrong whole is emptied in place, so that all who have it open see CACHE_MAP_WRONG at once.
 *      What came from v1/sha256 was right once and is spared, unless it is to blame: nothing came
 *      from the origin's folder, or emptying that did not help the last time. */
#include "fetch/cache_whole.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/cache_limit.h"

/* ---- the digest ---- */

struct whole_source {
	struct source source;
	const struct cache_whole *whole;
};

static bool is_stopped(const struct cache_whole *w)
{
	return (w->stops[0] && atomic_load(w->stops[0])) ||
	       (w->stops[1] && atomic_load(w->stops[1]));
}

/* How many bytes of [off, off + n) come before a chunk that the first level has. */
static size_t before_first_level(const struct cache_whole *w, uint64_t off, size_t n)
{
	uint64_t at = off;

	while (at < off + n && !(w->levels[0] && cache_map_has(w->levels[0], at / CACHE_CHUNK)))
		at = (at / CACHE_CHUNK + 1) * CACHE_CHUNK;
	return (size_t)(min_u64(at, off + n) - off);
}

static int whole_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	const struct cache_whole *w = ((struct whole_source *)s)->whole;
	size_t done = 0, before;

	do {
		before = done;
		if (w->levels[0])
			done += cache_map_read(w->levels[0], (char *)buf + done, n - done,
					       off + done, CACHE_MAP_CHECK);
		if (w->levels[1])
			done += cache_map_read(w->levels[1], (char *)buf + done,
					       before_first_level(w, off + done, n - done),
					       off + done, CACHE_MAP_CHECK);
	} while (done < n && done > before);
	if (is_stopped(w))
		return err_set(e, ECANCELED, "stopped");
	if (done < n)
		return err_set(e, ENODATA, "a chunk is missing");
	if (w->progress)
		w->progress(w->arg, n);
	return 0;
}

int cache_whole_digest(const struct cache_whole *w, const char *like, uint64_t size,
		       char out[DIGEST_ANY_TEXT], struct err *e)
{
	static const struct source_ops ops = { .name = "cache", .pread = whole_pread };
	struct whole_source s = { .source = { .ops = &ops, .size = size }, .whole = w };
	int r = digest_source_like(like, &s.source, out, e);

	return r == -ENODATA ? 1 : r;
}

/* ---- a right one ---- */

/* Copies what v1/sha256 misses.  1: it is missing here too, by now. */
static int copy_missing(struct cache_map *from, struct cache_map *to, struct err *e)
{
	uint8_t chunk[CACHE_CHUNK];
	uint64_t i;
	int r;

	for (i = 0; i < cache_map_chunks(to); i++) {
		size_t n = (size_t)cache_map_chunk_bytes(to, i);

		if (cache_map_has(to, i))
			continue;
		if (cache_map_read(from, chunk, n, i * CACHE_CHUNK, CACHE_MAP_CHECK) != n)
			return 1;
		r = cache_map_publish(to, i, chunk, true);
		if (r < 0)
			return err_set(e, r == -EBUSY ? EAGAIN : -r,
				       "copying chunk %" PRIu64 ": %s", i, strerror(-r));
	}
	return 0;
}

/* Says of what lies in v1/sha256 that it is right.  1: a chunk has gone meanwhile. */
static int say_whole(struct cache_map *m, struct err *e)
{
	if (cache_map_set_whole(m))
		return 0;
	if (cache_map_present(m) < cache_map_size(m))
		return 1;
	return err_set(e, ENOSPC, "marking it as whole: %s", strerror(ENOSPC));
}

/* v1/sha256 has the blob, in part. */
static int merge(struct cache_blob *b, struct err *e)
{
	struct cache *c = b->cache;
	int r = copy_missing(b->own, b->shared, e);

	if (r != 0)
		return r;
	r = say_whole(b->shared, e);
	if (r != 0)
		return r;
	if (cache_folder_remove(c->root, b->own_path, NULL) == 0)
		cache_map_subtract(c->ops, c->usage,
				   cache_map_present(b->own) + cache_map_file_size(b->own));
	cache_blob_set_levels_locked(b, b->shared, NULL);
	return 0;
}

/* Another's was moved there meanwhile; or what lies there cannot be opened, and is of no use. */
static int look_at_obstacle(struct cache_blob *b, struct err *e)
{
	int r = cache_blob_renew_locked(b, e);

	if (r == 0 && !b->shared)
		r = cache_folder_remove(b->cache->root, b->shared_path, e);
	return r == -ENOENT ? 0 : r;
}

/* Moves the origin's folder, or what is in it, to v1/sha256. */
static int promote(struct cache_blob *b, struct err *e)
{
	int tries, r = b->own ? cache_map_sync(b->own, e) : 0;

	for (tries = 0; r == 0 && b->own && tries < 3; tries++) {
		if (b->shared)
			return merge(b, e);
		r = b->cache->ops->rename(b->cache->root.fd, b->own_path, b->shared_path);
		if (r == 0)
			cache_blob_set_levels_locked(b, b->own, NULL);
		else if (r == -ENOTEMPTY || r == -EEXIST || r == -ENOTDIR)
			r = look_at_obstacle(b, e);
		else
			err_set(e, -r, "moving it to " CACHE_SHARED ": %s", strerror(-r));
	}
	if (r < 0)
		return r;
	return b->shared ? say_whole(b->shared, e) : 1;
}

/* Readers need not wait for its move, which may fail. */
static void acquit(struct cache_blob *b)
{
	if (b->own)
		(void)cache_map_change_flags(b->own, 0, CACHE_MAP_WRONG);
	if (b->shared)
		(void)cache_map_change_flags(b->shared, 0, CACHE_MAP_WRONG);
}

/* ---- a wrong one ---- */

static int condemn(struct cache_blob *b, const char *digest, struct err *e)
{
	bool again = cache_blob_state(b) == CACHE_WRONG;
	bool ours = b->own && cache_map_present(b->own) > 0;

	(void)cache_map_change_flags(b->own && cache_map_is_made(b->own) ? b->own : b->shared,
				     CACHE_MAP_WRONG, 0);
	if (b->own)
		cache_map_empty(b->own);
	if (b->shared && (again || !ours))
		cache_map_empty(b->shared);
	return err_set(e, EBADMSG, "the blob is wrong: its bytes have the digest %s", digest);
}

/* ---- either ---- */

/* What is not there needs no seal; a blob of no bytes gets its map now, for nothing of it is ever
 * published. */
static int seal(struct cache_blob *b, struct err *e)
{
	int r = b->own && b->chunks == 0 ? cache_map_make(b->own, e) : 0;

	if (r < 0 || !b->own)
		return r;
	r = cache_map_change_flags(b->own, CACHE_MAP_SEALED, 0);
	return r == 0 || r == -ENOENT ? 0 : err_set(e, -r, "sealing it: %s", strerror(-r));
}

/* The keeper that checks a large blob would let the folder grow meanwhile. */
static void see_to_limit(void *arg, uint64_t bytes)
{
	struct cache *c = arg;

	if (atomic_load(&c->kicked))
		cache_limit_evict(c);
}

/* The caller has the checker's right. */
static int check_locked(struct cache_blob *b, struct err *e)
{
	const struct cache_whole w = {
		.levels = { b->own, b->shared },
		.stops = { &b->closing, &b->cache->stopping },
		.progress = see_to_limit,
		.arg = b->cache,
	};
	char digest[DIGEST_ANY_TEXT];
	int r;

	if (b->own && !cache_map_is_at(b->own, b->cache->root, b->own_path))
		return err_set(e, EAGAIN, "another process has just moved it");
	r = seal(b, e);
	if (r == 0)
		r = cache_whole_digest(&w, b->digest, b->size, digest, e);
	if (r == 0 && strcmp(digest, b->digest) == 0) {
		acquit(b);
		r = promote(b, e);
	} else if (r == 0) {
		r = condemn(b, digest, e);
	}
	if (b->own)
		(void)cache_map_change_flags(b->own, 0, CACHE_MAP_SEALED);
	return r;
}

int cache_blob_verify(struct cache_blob *b, struct err *e)
{
	struct cache_map *folder;
	int r;

	WITH_LOCK(&b->change);
	r = cache_blob_renew_locked(b, e);
	if (r < 0)
		return r;
	if (cache_blob_state(b) == CACHE_WHOLE)
		return 0;
	folder = b->own ? b->own : b->shared;
	if (!folder)
		return 1;
	if (!cache_map_take(folder, CACHE_MAP_CHECKER))
		return err_set(e, EAGAIN, "another process checks it");
	b->checking = true;
	r = check_locked(b, e);
	b->checking = false;
	if (folder == b->own || folder == b->shared) /* else closed, its locks with it */
		cache_map_yield(folder, CACHE_MAP_CHECKER);
	return r;
}
