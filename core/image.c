/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - assembles the stack of a read, and walks the merged index.
 *
 * What this file makes of a config is immutable: reads take no lock. */
#include "core/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/base/workers.h"
#include "core/chain.h"

enum {
	OPEN_THREADS = 16, /* layers are opened so many at a time: opening waits for I/O */
	WANTED_LAYERS = 8, /* of a read that are asked for together */
	WANTED_GAP = 16 * 1024, /* bytes that are cheaper to fetch than another request */
};

struct image {
	const struct image_config *config;
	struct lowers lowers;
	struct image_layer *layers; /* from the bottom; the upper is the last */
	size_t layer_count;
	struct index *index;
	uint64_t size;
};

/* Opens all stages of what `bytes` holds, which it takes over. */
static int open_stages(struct image_layer *l, struct source *bytes, size_t number, struct err *e)
{
	struct chain c;
	int r;

	chain_begin(bytes, &c);
	r = chain_enter_layer(&c, e);
	if (r == 0)
		r = layer_open(c.top, number, &l->layer, e);
	if (r < 0) {
		chain_close(&c);
		return r;
	}
	l->file_size = c.file_size;
	l->in_tar = c.in_tar;
	l->tar = c.tar;
	l->in_zfile = c.in_zfile;
	l->zfile = c.zfile;
	return 0;
}

static void close_layer(struct image_layer *l)
{
	if (l->layer.data)
		layer_close(&l->layer);
}

struct open_job {
	struct job job;
	struct image *image;
	size_t number;
	struct image_layer *out;
	int r;
	struct err e;
};

static int open_upper(struct open_job *j)
{
	const struct image_config *c = j->image->config;
	struct image_layer *l = j->out;
	int r;

	l->is_upper = true;
	l->path = c->upper_data;
	r = upper_open_read_only(c->upper_data, c->upper_index, j->number, &l->layer, &l->upper,
				 &j->e);
	if (r < 0)
		return err_wrap(&j->e, r, "%s: upper", c->path);
	l->file_size = l->layer.data->size;
	return 0;
}

static int open_lower(struct open_job *j)
{
	const struct lower_config *lower = &j->image->lowers.list[j->number];
	struct image_layer *l = j->out;
	struct source *bytes;
	int r = lowers_open_layer(&j->image->lowers, j->number, &bytes, &l->path, &l->stats, &j->e);

	l->digest = lower->digest;
	if (r == 0)
		r = open_stages(l, bytes, j->number, &j->e);
	if (r == 0 && lower->size != 0 && lower->size != l->file_size)
		r = err_set(&j->e, EBADMSG, "%" PRIu64 " bytes, but the config says %" PRIu64,
			    l->file_size, lower->size);
	if (r < 0 && l->path)
		(void)err_wrap(&j->e, r, "%s: layer %zu (%s)", j->image->config->path, j->number,
			       l->path);
	return r;
}

static void run_open(struct job *job)
{
	struct open_job *j = (struct open_job *)job;

	j->r = j->number < j->image->lowers.count ? open_lower(j) : open_upper(j);
}

/* Opens all layers; the error is that of the lowest one that failed. */
static int open_layers(struct image *image, struct workers *pool, struct err *e)
{
	struct open_job *jobs = calloc(image->layer_count + 1, sizeof *jobs);
	size_t i;
	int r = 0;

	if (!jobs)
		return err_set(e, ENOMEM, "%s: out of memory", image->config->path);
	for (i = 0; i < image->layer_count; i++) {
		jobs[i] = (struct open_job){
			.job.run = run_open, .image = image, .number = i, .out = &image->layers[i]
		};
		workers_submit(pool, &jobs[i].job);
	}
	for (i = 0; i < image->layer_count; i++) {
		workers_wait(pool, &jobs[i].job);
		if (jobs[i].r < 0 && r == 0)
			r = err_set(e, -jobs[i].r, "%s", jobs[i].e.msg);
	}
	free(jobs);
	return r;
}

static int merge_layers(struct image *image, struct workers *pool, struct err *e)
{
	struct mapping_run *runs = calloc(image->layer_count + 1, sizeof *runs);
	size_t i;
	int r;

	if (!runs)
		return err_set(e, ENOMEM, "%s: out of memory", image->config->path);
	for (i = 0; i < image->layer_count; i++) {
		runs[i] = image->layers[i].layer.run;
		image->layers[i].layer.run = (struct mapping_run){ 0 };
	}
	r = index_merge(runs, image->layer_count, pool, &image->index, e);
	free(runs);
	return r < 0 ? err_wrap(e, r, "%s", image->config->path) : 0;
}

/* That of the topmost layer that has one. */
static uint64_t virtual_size(const struct image *image)
{
	size_t i;

	for (i = image->layer_count; i > 0; i--)
		if (image->layers[i - 1].layer.header.virtual_size != 0)
			return image->layers[i - 1].layer.header.virtual_size;
	return 0;
}

static int find_layers(struct image *image, struct fetcher *fetcher, struct err *e)
{
	int r = lowers_open(image->config, fetcher, &image->lowers, e);

	if (r < 0)
		return r;
	image->layer_count = image->lowers.count + (image->config->upper_data != NULL);
	image->layers = calloc(image->layer_count + 1, sizeof *image->layers);
	return image->layers ? 0 : err_set(e, ENOMEM, "%s: out of memory", image->config->path);
}

static int assemble(struct image *image, const struct image_options *options, struct err *e)
{
	struct workers *pool;
	size_t threads;
	int r = find_layers(image, options ? options->fetcher : NULL, e);

	if (r < 0)
		return r;
	threads = image->layer_count < OPEN_THREADS ? image->layer_count : OPEN_THREADS;
	r = workers_open((unsigned)threads, &pool, e);
	if (r < 0)
		return err_wrap(e, r, "%s", image->config->path);
	r = open_layers(image, pool, e);
	if (r == 0)
		r = merge_layers(image, pool, e);
	workers_close(pool);
	if (r < 0)
		return r;
	lowers_opened(&image->lowers);
	image->size =
		options && options->virtual_size ? options->virtual_size : virtual_size(image);
	return 0;
}

int image_open(const struct image_config *config, const struct image_options *options,
	       struct image **out, struct err *e)
{
	struct image *image;
	int r;

	if (options && (options->virtual_size % SECTOR != 0 ||
			options->virtual_size / SECTOR >= FORMAT_LBA_LIMIT))
		return err_set(e, EINVAL, "%s: %" PRIu64 " is no virtual size", config->path,
			       options->virtual_size);
	if (config->lower_count + 1 > INDEX_MAX_LAYERS)
		return err_set(e, EINVAL, "%s: %zu layers, more than %d", config->path,
			       config->lower_count, INDEX_MAX_LAYERS - 1);
	image = calloc(1, sizeof *image);
	if (!image)
		return err_set(e, ENOMEM, "%s: out of memory", config->path);
	image->config = config;
	r = assemble(image, options, e);
	if (r < 0) {
		image_close(image);
		return r;
	}
	*out = image;
	return 0;
}

void image_shut(struct image *image)
{
	lowers_shut(&image->lowers);
}

void image_close(struct image *image)
{
	size_t i;

	if (!image)
		return;
	image_shut(image);
	for (i = 0; image->layers && i < image->layer_count; i++)
		close_layer(&image->layers[i]);
	lowers_close(&image->lowers);
	index_close(image->index);
	free(image->layers);
	free(image);
}

uint64_t image_size(const struct image *image)
{
	return image->size;
}

bool image_is_remote(const struct image *image)
{
	return image->lowers.remote != NULL;
}

int image_start_download(struct image *image, struct err *e)
{
	return lowers_start_download(&image->lowers, e);
}

int image_read_acceleration(struct image *image, size_t limit, char **bytes, size_t *n,
			    struct err *e)
{
	return lowers_read_acceleration(&image->lowers, limit, bytes, n, e);
}

int image_find_artifact(struct image *image, const char *type, size_t limit, char **bytes,
			size_t *n, struct err *e)
{
	return lowers_find_artifact(&image->lowers, type, limit, bytes, n, e);
}

struct stats_group *image_stats(const struct image *image)
{
	return image->lowers.stats;
}

const char *image_digest(const struct image *image)
{
	return image->lowers.digest;
}

size_t image_layer_count(const struct image *image)
{
	return image->layer_count;
}

const struct image_layer *image_layer(const struct image *image, size_t number)
{
	return &image->layers[number];
}

const struct index *image_index(const struct image *image)
{
	return image->index;
}

/* The first piece of [off, off + n), where *m is the first mapping that ends after off. */
static struct image_extent first_piece(const struct mapping *m, uint64_t off, uint64_t n)
{
	uint64_t skip = off % SECTOR; /* of the sector that holds off */
	struct segment s = segment_at(*m, off / SECTOR, (skip + n + SECTOR - 1) / SECTOR);
	struct image_extent x = { .off = off, .n = min_u64(n, s.sectors * SECTOR - skip) };

	if (!s.mapped) {
		x.kind = EXTENT_HOLE;
		return x;
	}
	x.kind = s.zeroed ? EXTENT_ZERO : EXTENT_DATA;
	x.layer = s.layer;
	if (!s.zeroed)
		x.layer_off = s.moffset * SECTOR + skip;
	return x;
}

static int check_range(const struct image *image, uint64_t n, uint64_t off, struct err *e)
{
	if (range_fits(off, n, image->size))
		return 0;
	return err_set(e, EINVAL,
		       "%s: %" PRIu64 " bytes at %" PRIu64 " lie beyond the disk's end at %" PRIu64,
		       image->config->path, n, off, image->size);
}

static int read_layer(struct image *image, const struct image_extent *x, void *buf, struct err *e)
{
	const struct image_layer *l = &image->layers[x->layer];
	int r = source_pread(l->layer.data, buf, (size_t)x->n, x->layer_off, e);

	if (l->stats) {
		stats_add(l->stats, STATS_READS, 1);
		stats_add(l->stats, STATS_READ_BYTES, x->n);
	}
	return r < 0 ? err_wrap(e, r, "%s: layer %zu (%s)", image->config->path, x->layer, l->path)
		     : 0;
}

/* A range of one layer that a read is going to want. */
struct wanted {
	size_t layer;
	uint64_t off, n; /* n 0: none */
};

static void flush_wanted(struct image *image, struct wanted *w)
{
	if (w->n > 0)
		source_want(image->layers[w->layer].layer.data, w->off, w->n);
	w->n = 0;
}

/* Adds a piece; those of a layer mostly follow one another there, and go out as one. */
static void add_wanted(struct image *image, struct wanted *w, const struct image_extent *x)
{
	uint64_t end = w->off + w->n;

	if (w->n > 0 &&
	    (w->layer != x->layer || x->layer_off < end || x->layer_off - end > WANTED_GAP))
		flush_wanted(image, w);
	if (w->n == 0)
		*w = (struct wanted){ .layer = x->layer, .off = x->layer_off };
	w->n = x->layer_off + x->n - w->off;
}

/* Asks for all of a read before its first part is waited for.  Layers share the slots: where they
 * collide, their pieces go out one by one. */
static void want_all(struct image *image, const struct mapping *m, uint64_t off, uint64_t n)
{
	struct wanted wanted[WANTED_LAYERS] = { 0 };
	size_t i;

	while (n > 0) {
		struct image_extent x = first_piece(m, off, n);

		if (x.kind == EXTENT_DATA)
			add_wanted(image, &wanted[x.layer % WANTED_LAYERS], &x);
		m += x.kind != EXTENT_HOLE;
		off += x.n;
		n -= x.n;
	}
	for (i = 0; i < WANTED_LAYERS; i++)
		flush_wanted(image, &wanted[i]);
}

int image_pread(struct image *image, void *buf, size_t n, uint64_t off, struct err *e)
{
	const struct mapping *m;
	uint8_t *to = buf;
	int r = check_range(image, n, off, e);

	if (r < 0)
		return r;
	m = index_maps(image->index) + index_find(image->index, off / SECTOR);
	if (image->lowers.remote && first_piece(m, off, n).n < n)
		want_all(image, m, off, n);
	while (r == 0 && n > 0) {
		struct image_extent x = first_piece(m, off, n);

		if (x.kind == EXTENT_DATA)
			r = read_layer(image, &x, to, e);
		else
			memset(to, 0, (size_t)x.n);
		m += x.kind != EXTENT_HOLE;
		to += x.n;
		off += x.n;
		n -= (size_t)x.n;
	}
	return r;
}

int image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
		  int (*each)(void *arg, const struct image_extent *extent), void *arg)
{
	struct image_extent whole = { .off = off };
	const struct mapping *m;
	int r = check_range(image, n, off, NULL);

	if (r < 0)
		return r;
	m = index_maps(image->index) + index_find(image->index, off / SECTOR);
	while (r == 0 && n > 0) {
		struct image_extent x = first_piece(m, off, n);

		if (whole.n > 0 && merged && whole.kind == x.kind) {
			whole.n += x.n;
		} else {
			if (whole.n > 0)
				r = each(arg, &whole);
			whole = x;
		}
		m += x.kind != EXTENT_HOLE;
		off += x.n;
		n -= x.n;
	}
	if (r == 0 && whole.n > 0)
		r = each(arg, &whole);
	return r < 0 ? r : 0;
}

static int prefetch_extent(void *arg, const struct image_extent *x)
{
	struct image *image = arg;

	if (x->kind == EXTENT_DATA)
		source_prefetch(image->layers[x->layer].layer.data, x->layer_off, x->n);
	return 0;
}

void image_prefetch(struct image *image, uint64_t off, uint64_t n)
{
	if (off < image->size)
		(void)image_extents(image, off, min_u64(n, image->size - off), false,
				    prefetch_extent, image);
}
