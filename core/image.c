/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - from a config to an open image, see image_private.h. */
#include "core/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/base/workers.h"
#include "core/chain.h"
#include "core/image_private.h"

enum { OPEN_THREADS = 16 }; /* layers are opened so many at a time: opening waits for I/O */

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

int image_open_layer_file(const char *path, size_t number, struct image_layer *out, struct err *e)
{
	struct source *bytes;
	int r = source_open_file(path, &bytes, e);

	if (r == 0)
		r = open_stages(out, bytes, number, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

static void close_layer(struct image_layer *l)
{
	if (l->layer.data)
		layer_close(&l->layer);
	free(l->own_path);
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
	/* Its stages fit each other, so it is a whole layer: the reference does not look at the
	 * size of a local file, and configs of its users have wrong ones. */
	if (r == 0 && lower->size != 0 && lower->size != l->file_size)
		log_warn("%s: layer %zu (%s): %" PRIu64 " bytes, but the config says %" PRIu64
			 "; it is served as it is",
			 j->image->config->path, j->number, l->path, l->file_size, lower->size);
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
static int open_layers(struct image *image, struct stack *stack, struct workers *pool,
		       struct err *e)
{
	struct open_job *jobs = calloc(stack->layer_count + 1, sizeof *jobs);
	size_t i;
	int r = 0;

	if (!jobs)
		return err_set(e, ENOMEM, "%s: out of memory", image->config->path);
	for (i = 0; i < stack->layer_count; i++) {
		jobs[i] = (struct open_job){
			.job.run = run_open, .image = image, .number = i, .out = stack->layers[i]
		};
		workers_submit(pool, &jobs[i].job);
	}
	for (i = 0; i < stack->layer_count; i++) {
		workers_wait(pool, &jobs[i].job);
		if (jobs[i].r < 0 && r == 0)
			r = err_set(e, -jobs[i].r, "%s", jobs[i].e.msg);
	}
	free(jobs);
	return r;
}

/* Hidden layers give no mappings. */
static int merge_layers(struct image *image, struct stack *stack,
			const struct image_options *options, struct workers *pool, struct err *e)
{
	struct mapping_run *runs = calloc(stack->layer_count + 1, sizeof *runs);
	size_t to = options->merge_to ? options->merge_to : stack->layer_count, i;
	int r;

	if (!runs)
		return err_set(e, ENOMEM, "%s: out of memory", image->config->path);
	for (i = 0; i < stack->layer_count; i++) {
		struct mapping_run *run = &stack->layers[i]->layer.run;

		if (i < options->merge_from || i >= to)
			free(run->maps);
		else
			runs[i] = *run;
		*run = (struct mapping_run){ 0 };
	}
	r = index_merge(runs, stack->layer_count, pool, &stack->index, e);
	free(runs);
	return r < 0 ? err_wrap(e, r, "%s", image->config->path) : 0;
}

/* That of the topmost layer that has one. */
static uint64_t virtual_size(const struct stack *stack)
{
	size_t i;

	for (i = stack->layer_count; i > 0; i--)
		if (stack->layers[i - 1]->layer.header.virtual_size != 0)
			return stack->layers[i - 1]->layer.header.virtual_size;
	return 0;
}

/* With room for a writable upper on top. */
static int make_stack(struct image *image, size_t layer_count, struct err *e)
{
	struct stack *stack = calloc(1, sizeof *stack);

	if (stack)
		stack->layers = calloc(layer_count + 1, sizeof *stack->layers);
	atomic_store(&image->stack, stack);
	while (stack && stack->layers && stack->layer_count < layer_count) {
		stack->layers[stack->layer_count] = calloc(1, sizeof **stack->layers);
		if (!stack->layers[stack->layer_count])
			break;
		stack->layer_count++;
	}
	if (!stack || !stack->layers || stack->layer_count < layer_count)
		return err_set(e, ENOMEM, "%s: out of memory", image->config->path);
	return 0;
}

static int open_and_merge(struct image *image, struct stack *stack,
			  const struct image_options *options, struct err *e)
{
	unsigned threads = (unsigned)min_u64(stack->layer_count, OPEN_THREADS);
	struct workers *pool;
	int r = workers_open(threads, &pool, e);

	if (r < 0)
		return err_wrap(e, r, "%s", image->config->path);
	r = open_layers(image, stack, pool, e);
	if (r == 0)
		r = merge_layers(image, stack, options, pool, e);
	workers_close(pool);
	return r;
}

static int assemble(struct image *image, const struct image_options *options, struct err *e)
{
	const struct image_config *c = image->config;
	bool upper = c->upper_data && !image->writable;
	struct stack *stack;
	int r = lowers_open(c, options->fetcher, &image->lowers, e);

	if (r == 0)
		r = make_stack(image, image->lowers.count + upper, e);
	if (r < 0)
		return r;
	stack = image_stack(image);
	r = open_and_merge(image, stack, options, e);
	if (r < 0)
		return r;
	lowers_opened(&image->lowers);
	image->size = options->virtual_size ? options->virtual_size : virtual_size(stack);
	return image->writable ? image_open_upper(image, stack, options->virtual_size, e) : 0;
}

static int check_options(const struct image_config *config, const struct image_options *options,
			 struct err *e)
{
	if (options->virtual_size % SECTOR != 0 ||
	    options->virtual_size / SECTOR >= FORMAT_LBA_LIMIT)
		return err_set(e, EINVAL,
			       "%s: invalid virtual size %" PRIu64 ": must be a multiple of 512, "
			       "below 2^50 sectors",
			       config->path, options->virtual_size);
	if (config->lower_count + 1 > INDEX_MAX_LAYERS)
		return err_set(e, EINVAL, "%s: %zu layers, more than %d", config->path,
			       config->lower_count, INDEX_MAX_LAYERS - 1);
	return 0;
}

int image_open(const struct image_config *config, const struct image_options *options,
	       struct image **out, struct err *e)
{
	static const struct image_options defaults;
	struct image *image;
	int r;

	options = options ? options : &defaults;
	r = check_options(config, options, e);
	if (r < 0)
		return r;
	image = aligned_alloc(_Alignof(struct image), sizeof *image);
	if (!image)
		return err_set(e, ENOMEM, "%s: out of memory", config->path);
	memset(image, 0, sizeof *image);
	image->config = config;
	image_gate_init(image);
	r = options->writable && config->upper_data ? image_upper_takes_writes(config, e) : 0;
	image->writable = r > 0;
	if (r >= 0)
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

/* The writable uppers are closed. */
static void close_stack(struct stack *stack)
{
	size_t i, own;

	if (!stack)
		return;
	own = stack->layer_count - !!stack->upper - !!stack->frozen;
	for (i = 0; i < own; i++) {
		close_layer(stack->layers[i]);
		free(stack->layers[i]);
	}
	index_close(stack->index);
	free(stack->layers);
	free(stack);
}

void image_close(struct image *image)
{
	if (!image)
		return;
	image_shut(image);
	image_close_uppers(image);
	close_stack(image_stack(image));
	lowers_close(&image->lowers);
	image_gate_release(image);
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
	unsigned seat = image_sit_down(image);
	size_t count = image_stack(image)->layer_count;

	image_stand_up(image, seat);
	return count;
}

const struct image_layer *image_layer(const struct image *image, size_t number)
{
	unsigned seat = image_sit_down(image);
	const struct image_layer *layer = image_stack(image)->layers[number];

	image_stand_up(image, seat);
	return layer;
}

size_t image_index_memory(const struct image *image)
{
	unsigned seat = image_sit_down(image);
	size_t memory = index_memory(image_stack(image)->index);

	image_stand_up(image, seat);
	return memory;
}

size_t image_mapping_count(const struct image *image)
{
	unsigned seat = image_sit_down(image);
	size_t count = index_count(image_stack(image)->index);

	image_stand_up(image, seat);
	return count;
}

const struct index *image_index(const struct image *image)
{
	return image_stack(image)->index;
}
