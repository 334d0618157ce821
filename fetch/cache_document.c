/* SPDX-License-Identifier: Apache-2.0 */
/* cache_document.c - small files beside the blobs, see cache.h.
 *
 * DIR/v1/PLACE/documents/NAME: a digest as it is; any other name, which may hold anything, by its
 * sha256.  They count for the limit, and go when their origin is dropped, or, least recently used
 * first, when they are too many for it.  A file's time of change is when it was used last. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/cache_internal.h"

enum { DOCUMENT_MAX = 16 * 1024 * 1024, BLOCK = 4096 }; /* bytes */

/* What a document takes of the folder: whole blocks. */
static uint64_t cost_of(const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size;

	return size + (BLOCK - size % BLOCK) % BLOCK;
}

/* Opens the folder of an origin's documents, and finds a document's name in it. */
static int find(struct cache *c, const char *origin, const char *name, bool create,
		struct cache_file *folder, char file[DIGEST_ANY_TEXT], struct err *e)
{
	char place[CACHE_PLACE] = CACHE_SHARED, path[sizeof place + sizeof "/" CACHE_DOCUMENTS];
	int r = origin ? cache_hash(origin, strlen(origin), place, e) : 0;

	if (!cache_is_open(c))
		return err_set(e, ENOENT, "the folder cannot be used at the moment");
	if (r == 0 && digest_is_any(name))
		digest_copy(file, name);
	else if (r == 0)
		r = cache_hash(name, strlen(name), file, e);
	if (r == 0 && create)
		r = cache_folder_make(c->root, place, e);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, "%s/" CACHE_DOCUMENTS, place);
	return cache_folder_enter(c->root, path, create, folder, e);
}

int cache_put_document(struct cache *c, const char *origin, const char *name, const void *bytes,
		       size_t n, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file folder = CACHE_FILE_NONE;
	struct stat old = { 0 }, now = { .st_size = (off_t)n };
	char file[DIGEST_ANY_TEXT];
	int r;

	if (n > DOCUMENT_MAX)
		return err_set(e, EFBIG, "'%.128s' has %zu bytes, limit is %d", name, n,
			       DOCUMENT_MAX);
	r = find(c, origin, name, true, &folder, file, e);
	if (r == 0) {
		if (c->ops->stat_at(folder.fd, file, &old) < 0)
			old.st_size = 0;
		r = cache_folder_replace_file(folder, file, bytes, n, false, e);
	}
	if (r < 0)
		return err_wrap(e, r, "cache: keeping '%.128s'", name);
	cache_map_subtract(c->ops, c->usage, cost_of(&old));
	cache_map_add(c->ops, c->usage, cost_of(&now));
	return 0;
}

/* A document whose name is its digest must have it. */
static int check_document(const char *name, const char *text, size_t n, struct err *e)
{
	char digest[DIGEST_ANY_TEXT];
	int r;

	if (!digest_is_any(name))
		return 0;
	r = digest_bytes_like(name, text, n, digest, e);
	if (r == 0 && strcmp(digest, name) != 0)
		return err_set(e, ENOENT, "it was damaged");
	return r;
}

/* Reads all of it, and lets those who delete documents know that it is in use. */
static int read_document(struct cache_file folder, const char *file, char **text, size_t *n,
			 struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file f = CACHE_FILE_NONE;
	int r = cache_folder_read_file(folder, file, DOCUMENT_MAX, &f, text, n, e);

	if (r == 0)
		(void)f.ops->touch(f.fd);
	return r;
}

int cache_get_document(struct cache *c, const char *origin, const char *name, char **out, size_t *n,
		       struct err *e)
{
	AUTO_FREE char *text = NULL;
	AUTO_CLOSE_FILE struct cache_file folder = CACHE_FILE_NONE;
	char file[DIGEST_ANY_TEXT];
	int r = find(c, origin, name, false, &folder, file, e);

	if (r == 0)
		r = read_document(folder, file, &text, n, e);
	if (r == 0)
		r = check_document(name, text, *n, e);
	if (r < 0)
		return err_wrap(e, r, "cache: '%.128s'", name);
	*out = TAKE_PTR(text);
	return 0;
}

/* ---- how much they are ---- */

struct listed {
	const char *path;
	uint64_t cost;
	struct timespec used;
};

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct listed *)a)->used;
	const struct timespec *y = &((const struct listed *)b)->used;

	if (x->tv_sec != y->tv_sec)
		return x->tv_sec < y->tv_sec ? -1 : 1;
	return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* All that are files, least recently used first; returns what they take in all. */
static uint64_t look_at(const struct cache *c, const struct cache_names *names,
			struct listed *listed, size_t *count)
{
	uint64_t sum = 0;
	struct stat st;
	size_t i;

	*count = 0;
	for (i = 0; i < names->count; i++) {
		if (c->ops->stat_at(c->root.fd, names->names[i], &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		listed[*count] = (struct listed){ names->names[i], cost_of(&st), st.st_mtim };
		sum += listed[(*count)++].cost;
	}
	qsort(listed, *count, sizeof *listed, by_use);
	return sum;
}

/* Both counts, and trims down to `target` bytes. */
static int trim(struct cache *c, uint64_t target, uint64_t *sum, uint64_t *freed, struct err *e)
{
	AUTO_FREE struct listed *listed = NULL;
	struct cache_names names;
	size_t count, i;
	uint64_t left;
	int r = cache_folder_list_documents(c->root, &names, e);

	if (r < 0)
		return r;
	listed = calloc(names.count + 1, sizeof *listed);
	if (listed) {
		*sum = left = look_at(c, &names, listed, &count);
		for (i = 0; i < count && left > target; i++) {
			if (c->ops->unlink(c->root.fd, listed[i].path) < 0)
				continue;
			left -= listed[i].cost;
			cache_map_subtract(c->ops, c->usage, listed[i].cost);
		}
		*freed = *sum - left;
	}
	cache_names_release(&names);
	return listed ? 0 : err_set(e, ENOMEM, "out of memory");
}

int cache_documents_count(struct cache *c, uint64_t *sum, struct err *e)
{
	uint64_t all = 0, freed;
	int r = trim(c, UINT64_MAX, &all, &freed, e);

	*sum += all;
	return r;
}

uint64_t cache_documents_trim(struct cache *c, uint64_t target)
{
	uint64_t all, freed = 0;

	(void)trim(c, target, &all, &freed, NULL);
	return freed;
}
