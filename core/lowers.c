/* SPDX-License-Identifier: Apache-2.0 */
/* lowers.c - local files and blobs, see lowers.h. */
#include "core/lowers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/index.h"
#include "fetch/download.h"
#include "fetch/referrers.h"
#include "fetch/remote.h"
#include "zfile/tar.h"

struct lower {
	char *file; /* NULL: it is remote */
	struct source *blob; /* of a remote one */
	bool given; /* the source was handed out */
	struct stats *stats;
	int failure; /* why it was not found: told when its turn comes, */
	char *why; /* so that the lowest layer that fails is the one that is named */
};

/* ---- what the config's `image` stands for ---- */

static int use_remote(struct lowers *l, const struct reference *ref, struct err *e)
{
	int r = 0;

	if (!l->fetcher) {
		r = fetcher_open(&l->fetcher, e);
		l->owns_fetcher = r == 0;
	}
	if (r == 0)
		r = remote_open(l->fetcher, &l->config->fetch, ref, stats_group_image(l->stats),
				false, &l->remote, e);
	return r < 0 ? err_wrap(e, r, "%s", l->config->path) : 0;
}

static int take_layer(const struct manifest_layer *from, struct lower_config *to)
{
	to->digest = strdup(from->digest);
	to->size = from->size;
	return to->digest ? 0 : -ENOMEM;
}

static int take_manifest(struct lowers *l, const struct manifest *m, struct err *e)
{
	size_t i;
	int r = 0;

	/* One layer number less: there may be an upper on top. */
	if (m->layer_count >= INDEX_MAX_LAYERS)
		return err_set(e, EINVAL, "%s: %zu layers, more than the limit of %d",
			       l->config->path, m->layer_count, INDEX_MAX_LAYERS - 1);
	l->resolved = calloc(m->layer_count + 1, sizeof *l->resolved);
	if (!l->resolved)
		return err_set(e, ENOMEM, "%s: out of memory", l->config->path);
	l->list = l->resolved;
	for (i = 0; r == 0 && i < m->layer_count; i++, l->count++)
		r = take_layer(&m->layers[i], &l->resolved[i]);
	if (r == 0 && m->acceleration.digest[0] != '\0')
		r = take_layer(&m->acceleration, &l->acceleration);
	return r < 0 ? err_set(e, ENOMEM, "%s: out of memory", l->config->path) : 0;
}

static int resolve(struct lowers *l, struct err *e)
{
	struct manifest m = { 0 };
	struct reference ref;
	int r = reference_parse(l->config->image, &ref, e);

	if (r < 0)
		return strcmp(l->config->path, l->config->image) == 0
			       ? r
			       : err_wrap(e, r, "%s", l->config->path);
	r = use_remote(l, &ref, e);
	if (r == 0)
		r = remote_resolve(l->remote, &m, l->digest, e);
	if (r == 0)
		r = take_manifest(l, &m, e);
	manifest_release(&m);
	reference_release(&ref);
	return r;
}

/* ---- finding the layers ---- */

static int fail_layer(const struct lowers *l, size_t i, int r, struct err *e)
{
	const struct lower_config *lower = &l->list[i];

	if (lower->line > 0)
		return err_wrap(e, r, "%s:%u: layer %zu", l->config->path, lower->line, i);
	return err_wrap(e, r, "%s: layer %zu", l->config->path, i);
}

/* The registry of the config's layers that are not here. */
static int use_blob_url(struct lowers *l, struct err *e)
{
	struct reference ref;
	int r;

	if (l->remote)
		return 0;
	r = reference_parse_blob_url(l->config->repo_blob_url, &ref, e);
	if (r < 0)
		return err_wrap(e, r, "%s: repoBlobUrl", l->config->path);
	r = use_remote(l, &ref, e);
	reference_release(&ref);
	return r;
}

static int keep_failure(struct lower *x, int r, const struct err *e)
{
	x->failure = r;
	x->why = strdup(e->msg);
	return x->why ? 0 : -ENOMEM;
}

static int find(struct lowers *l, size_t i, struct err *e)
{
	const char *name = l->list[i].digest ? l->list[i].digest : "";
	struct lower *x = &l->opened[i];
	struct err own;
	int r = l->resolved ? 1 : config_find_lower(&l->list[i], &x->file, &own);

	if (r < 0)
		r = keep_failure(x, fail_layer(l, i, r, &own), &own);
	else if (r == 1)
		r = use_blob_url(l, e);
	if (r < 0)
		return r == -ENOMEM ? err_set(e, ENOMEM, "%s: out of memory", l->config->path) : r;
	return stats_group_add_layer(l->stats, x->file ? x->file : name, &x->stats, e);
}

static bool is_remote(const struct lowers *l, size_t i)
{
	return !l->opened[i].file && !l->opened[i].why;
}

static int open_blob(struct lowers *l, size_t i, struct err *e)
{
	const struct lower_config *lower = &l->list[i];
	struct lower *x = &l->opened[i];
	uint64_t size = lower->size;
	int r = 0;

	if (size == 0)
		r = remote_blob_size(l->remote, lower->digest, &size, e);
	if (r == 0)
		r = remote_open_blob(l->remote, lower->digest, size, x->stats, &x->blob, e);
	return r;
}

static int find_all(struct lowers *l, struct err *e)
{
	size_t i;
	int r = 0;

	l->opened = calloc(l->count + 1, sizeof *l->opened);
	if (!l->opened)
		return err_set(e, ENOMEM, "%s: out of memory", l->config->path);
	for (i = 0; r == 0 && i < l->count; i++)
		r = find(l, i, e);
	/* Those of known size now, since that does not wait. */
	for (i = 0; r == 0 && i < l->count; i++)
		if (is_remote(l, i) && l->list[i].size != 0 && (r = open_blob(l, i, e)) < 0)
			r = fail_layer(l, i, r, e);
	return r;
}

int lowers_open(const struct image_config *config, struct fetcher *fetcher, struct lowers *out,
		struct err *e)
{
	int r;

	*out = (struct lowers){ .config = config,
				.list = config->lowers,
				.count = config->lower_count,
				.fetcher = fetcher };
	r = stats_group_open(config->path, &out->stats, e);
	if (r == 0 && config->image)
		r = resolve(out, e);
	if (r == 0)
		r = find_all(out, e);
	if (r < 0) {
		lowers_shut(out);
		lowers_close(out);
	}
	return r;
}

int lowers_open_layer(struct lowers *l, size_t number, struct source **out, const char **name,
		      struct stats **stats, struct err *e)
{
	struct lower *x = &l->opened[number];
	int r = 0;

	*name = NULL;
	*stats = NULL;
	if (x->why)
		return err_set(e, -x->failure, "%s", x->why);
	*name = x->file ? x->file : l->list[number].digest;
	/* A remote one counts for itself. */
	*stats = x->file && l->config->fetch.stats ? x->stats : NULL;
	if (x->file)
		return source_open_file(x->file, out, e);
	if (!x->blob)
		r = open_blob(l, number, e);
	if (r < 0)
		return r;
	*out = x->blob;
	x->given = true;
	return 0;
}

void lowers_opened(struct lowers *l)
{
	if (l->remote)
		remote_opened(l->remote);
}

int lowers_start_download(struct lowers *l, struct err *e)
{
	AUTO_FREE struct download_blob *blobs = NULL;
	size_t i, n = 0;

	if (!l->remote || !l->config->fetch.download.enable || l->download)
		return 0;
	blobs = calloc(l->count + 1, sizeof *blobs);
	if (!blobs)
		return err_set(e, ENOMEM, "%s: out of memory", l->config->path);
	for (i = 0; i < l->count; i++)
		if (l->opened[i].blob)
			blobs[n++] = (struct download_blob){ .blob = l->opened[i].blob,
							     .dir = l->list[i].dir,
							     .name = l->list[i].digest };
	return download_open(&l->config->fetch.download, blobs, n, &l->download, e);
}

/* ---- what comes beside the layers ---- */

static int read_all(struct source *s, size_t limit, char **bytes, size_t *n, struct err *e)
{
	int r;

	if (s->size > limit)
		return err_set(e, EFBIG, "%" PRIu64 " bytes, more than the limit of %zu", s->size,
			       limit);
	*n = (size_t)s->size;
	*bytes = malloc(*n + 1);
	if (!*bytes)
		return err_set(e, ENOMEM, "out of memory");
	(*bytes)[*n] = '\0';
	r = source_pread(s, *bytes, *n, 0, e);
	if (r < 0) {
		free(*bytes);
		*bytes = NULL;
	}
	return r;
}

/* A tar archive with one file, or that file as it is. */
static int read_payload(struct source **blob, size_t limit, char **bytes, size_t *n, struct err *e)
{
	struct tar_layout tar;
	struct source *payload;
	int r = tar_parse(*blob, &tar, e);

	if (r == 0) {
		r = source_open_slice(*blob, tar.payload_offset, tar.payload_size, &payload, e);
		if (r == 0)
			*blob = payload;
	}
	return r < 0 ? r : read_all(*blob, limit, bytes, n, e);
}

static int read_acceleration_blob(struct lowers *l, size_t limit, char **bytes, size_t *n,
				  struct err *e)
{
	const struct lower_config *a = &l->acceleration;
	struct source *blob;
	int r = remote_open_blob(l->remote, a->digest, a->size, NULL, &blob, e);

	if (r < 0)
		return r;
	r = read_payload(&blob, limit, bytes, n, e);
	source_close(blob);
	return r < 0 ? err_wrap(e, r, "acceleration layer %s", a->digest) : 0;
}

int lowers_read_acceleration(struct lowers *l, size_t limit, char **bytes, size_t *n, struct err *e)
{
	AUTO_FREE char *path = NULL;
	int r;

	if (l->acceleration.digest && l->remote)
		return read_acceleration_blob(l, limit, bytes, n, e);
	if (!l->config->acceleration_dir)
		return err_set(e, ENOENT, "there is no acceleration layer");
	if (asprintf(&path, "%s/trace", l->config->acceleration_dir) < 0) {
		path = NULL; /* left undefined by the failed call */
		return err_set(e, ENOMEM, "out of memory");
	}
	r = io_read_file(path, limit, bytes, n, e);
	return r < 0 ? err_wrap(e, r, "acceleration layer %s", path) : 0;
}

int lowers_find_artifact(struct lowers *l, const char *type, size_t limit, char **bytes, size_t *n,
			 struct err *e)
{
	if (!l->remote || l->digest[0] == '\0')
		return err_set(e, ENOENT, "the image comes from no manifest");
	return referrers_find(l->remote, l->digest, type, limit, bytes, n, e);
}

void lowers_shut(struct lowers *l)
{
	if (l->remote)
		remote_shut(l->remote);
	download_close(l->download);
	l->download = NULL;
}

void lowers_close(struct lowers *l)
{
	size_t i;

	for (i = 0; l->opened && i < l->count; i++) {
		if (!l->opened[i].given)
			source_close(l->opened[i].blob);
		free(l->opened[i].file);
		free(l->opened[i].why);
	}
	free(l->opened);
	for (i = 0; l->resolved && i < l->count; i++)
		free(l->resolved[i].digest);
	free(l->resolved);
	free(l->acceleration.digest);
	remote_close(l->remote);
	if (l->owns_fetcher)
		fetcher_close(l->fetcher);
	stats_group_close(l->stats);
	*l = (struct lowers){ 0 };
}
