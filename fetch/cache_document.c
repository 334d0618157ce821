/* SPDX-License-Identifier: Apache-2.0 */
/* cache_document.c - small files beside the blobs, see cache.h.
 *
 * DIR/v1/PLACE/documents/NAME: a digest as it is; any other name, which may hold anything, by its
 * sha256.  They do not count for the limit, and go when their origin is dropped. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "fetch/cache_internal.h"

enum { DOCUMENT_MAX = 16 * 1024 * 1024 }; /* bytes */

/* The document's path; its length up to the last '/' is *folder. */
static int find_path(const struct cache *c, const char *origin, const char *name, char **out,
		     size_t *folder, struct err *e)
{
	char place[CACHE_PLACE] = CACHE_SHARED, hashed[CACHE_PLACE] = "";
	int n, r = 0;

	if (origin)
		r = cache_hash(origin, strlen(origin), place, e);
	if (r == 0 && !digest_is_valid(name))
		r = cache_hash(name, strlen(name), hashed, e);
	if (r < 0)
		return r;
	n = asprintf(out, "%s/v1/%s/documents/%s", c->dir, place, hashed[0] ? hashed : name);
	if (n < 0) {
		*out = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	*folder = (size_t)(strrchr(*out, '/') - *out);
	return 0;
}

static int make_folder(char *path, size_t length, struct err *e)
{
	char *slash = memrchr(path, '/', length);
	int r = 0;

	path[length] = '\0';
	*slash = '\0';
	(void)mkdir(path, 0700); /* if it fails, the next one tells */
	*slash = '/';
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		r = err_set(e, errno, "creating %s: %s", path, strerror(errno));
	path[length] = '/';
	return r;
}

int cache_put_document(struct cache *c, const char *origin, const char *name, const void *bytes,
		       size_t n, struct err *e)
{
	AUTO_FREE char *path = NULL;
	size_t folder;
	int r;

	if (n > DOCUMENT_MAX)
		return err_set(e, EFBIG, "'%.128s' has %zu bytes, limit is %d", name, n,
			       DOCUMENT_MAX);
	r = find_path(c, origin, name, &path, &folder, e);
	if (r == 0)
		r = make_folder(path, folder, e);
	if (r == 0)
		r = io_replace_file(path, bytes, n, e);
	return r < 0 ? err_wrap(e, r, "cache: keeping '%.128s'", name) : 0;
}

/* A document whose name is its digest must have it. */
static int check_document(const char *name, const char *text, size_t n, struct err *e)
{
	char digest[CACHE_PLACE];
	int r;

	if (!digest_is_valid(name))
		return 0;
	r = cache_hash(text, n, digest, e);
	if (r == 0 && strcmp(digest, name + strlen("sha256:")) != 0)
		return err_set(e, ENOENT, "it was damaged");
	return r;
}

int cache_get_document(struct cache *c, const char *origin, const char *name, char **out, size_t *n,
		       struct err *e)
{
	AUTO_FREE char *path = NULL, *text = NULL;
	size_t folder;
	int r = find_path(c, origin, name, &path, &folder, e);

	if (r == 0)
		r = io_read_file(path, DOCUMENT_MAX, &text, n, e);
	if (r == 0)
		r = check_document(name, text, *n, e);
	if (r < 0)
		return err_wrap(e, r, "cache: '%.128s'", name);
	*out = TAKE_PTR(text);
	return 0;
}
