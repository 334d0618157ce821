/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-check.c - `overlaybd check`: everything that can be wrong with a layer file or an image.
 *
 * Layers are checked one after the other, each on all cores: findings come in the image's order. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/scope.h"
#include "core/chain.h"
#include "core/config.h"
#include "core/image.h"
#include "tools/check-layer.h"
#include "tools/tool.h"

/* Data that no reader will see: allowed, and left behind when a disk was made smaller. */
static void warn_beyond(struct findings *f, uint64_t count, uint64_t first, uint64_t size)
{
	if (count > 0)
		findings_add(f, FINDING_WARNING,
			     "%" PRIu64 " mappings, the first at byte %" PRIu64
			     ", reach beyond the virtual size of %" PRIu64,
			     count, first * SECTOR, size);
}

/* What a layer maps beyond its own size, if it says one: the last of its mappings. */
static void check_own_reach(const struct layer *layer, struct findings *f)
{
	uint64_t size = layer->header.virtual_size, count = 0, first = 0;
	size_t i;

	for (i = layer->run.count; size > 0 && i > 0; i--) {
		if (mapping_end(layer->run.maps[i - 1]) <= size / SECTOR)
			break;
		first = mapping_start(layer->run.maps[i - 1]);
		count++;
	}
	warn_beyond(f, count, first, size);
}

static uint64_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void check_lone_layer(const char *path, struct workers *pool, struct findings *f)
{
	struct layer_claim claim = { .file = path };
	struct layer layer;

	progress_init(&f->progress, "checking", file_size(path));
	if (check_layer(&claim, 0, false, pool, f, &layer)) {
		check_own_reach(&layer, f);
		layer_close(&layer);
	}
}

/* Who a layer says it is, and who it says is below. */
struct identity {
	char uuid[FORMAT_UUID]; /* "" : not known */
	char parent[FORMAT_UUID];
};

static void set_identity(struct identity *id, const struct format_header *h)
{
	memcpy(id->uuid, h->uuid, sizeof id->uuid);
	memcpy(id->parent, h->parent_uuid, sizeof id->parent);
}

static bool says_nothing(const char *uuid)
{
	return uuid[0] == '\0' || strcmp(uuid, FORMAT_NIL_UUID) == 0;
}

/* Nobody refuses a broken chain, and real images hold zeroes. */
static void check_parents(const struct identity *ids, size_t count, struct findings *f)
{
	size_t i;

	for (i = 1; i < count; i++) {
		if (says_nothing(ids[i].parent) || says_nothing(ids[i - 1].uuid) ||
		    strcasecmp(ids[i].parent, ids[i - 1].uuid) == 0)
			continue;
		findings_add(f, FINDING_WARNING,
			     "layer %zu: its parent uuid is %s, but the uuid of layer %zu is %s", i,
			     ids[i].parent, i - 1, ids[i - 1].uuid);
	}
}

static void check_upper(const struct image_config *config, size_t number, struct findings *f,
			struct identity *id)
{
	struct upper_findings upper;
	struct layer layer;
	struct err e;

	if (upper_open_read_only(config->upper_data, config->upper_index, number, &layer, &upper,
				 &e) < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return;
	}
	if (upper.ignored_records > 0)
		findings_add(f, FINDING_WARNING,
			     "index record %" PRIu64 " cannot be right: %" PRIu64
			     " records from there on are ignored (the log was cut by a crash)",
			     upper.records, upper.ignored_records);
	if (upper.fragment_bytes > 0)
		findings_add(f, FINDING_WARNING,
			     "the index file ends with %" PRIu64
			     " bytes of a record (the log was cut by a crash)",
			     upper.fragment_bytes);
	check_own_reach(&layer, f);
	set_identity(id, &layer.header);
	layer_close(&layer);
}

static void check_lower(const struct lower_config *lower, const char *file, size_t number,
			struct workers *pool, struct findings *f, struct identity *id)
{
	struct layer_claim claim = { file, lower->digest, lower->size };
	struct layer layer;

	if (check_layer(&claim, number, true, pool, f, &layer)) {
		check_own_reach(&layer, f);
		set_identity(id, &layer.header);
		layer_close(&layer);
	}
}

/* Finds the layers' files; the path is NULL, and a finding there, where there is none. */
static void find_lowers(const struct image_config *config, char **paths, struct findings *f)
{
	char part[64];
	uint64_t total = 0;
	struct err e;
	size_t i;

	f->part = part;
	for (i = 0; i < config->lower_count; i++) {
		snprintf(part, sizeof part, "layer %zu (line %u)", i, config->lowers[i].line);
		if (config_find_lower(&config->lowers[i], &paths[i], &e) < 0)
			findings_add(f, FINDING_ERROR, "%s", e.msg);
		else
			total += file_size(paths[i]);
	}
	f->part = NULL;
	progress_init(&f->progress, "checking", total);
}

static void check_layers(const struct image_config *config, char *const *paths,
			 struct workers *pool, struct findings *f, struct identity *ids)
{
	char part[512];
	size_t i;

	f->part = part;
	for (i = 0; i < config->lower_count; i++) {
		if (!paths[i])
			continue;
		snprintf(part, sizeof part, "layer %zu (%s)", i, paths[i]);
		check_lower(&config->lowers[i], paths[i], i, pool, f, &ids[i]);
	}
	if (config->upper_data) {
		f->part = "upper"; /* its messages name the file */
		check_upper(config, i, f, &ids[i]);
	}
	f->part = NULL;
}

/* Mappings that reach beyond the image, layer by layer.  They are the last of the merged index.
 * What reaches beyond a smaller layer's own size was reported with that layer. */
static int check_reach(struct image *image, struct findings *f)
{
	const struct index *ix = image_index(image);
	size_t layers = image_layer_count(image), i;
	AUTO_FREE uint64_t *counts = calloc(layers + 1, sizeof *counts);
	AUTO_FREE uint64_t *firsts = calloc(layers + 1, sizeof *firsts);
	char part[64];

	if (!counts || !firsts)
		return -1;
	for (i = index_count(ix); i > 0; i--) {
		struct mapping m = index_maps(ix)[i - 1];

		if (mapping_end(m) <= image_size(image) / SECTOR)
			break;
		counts[mapping_layer(m)]++;
		firsts[mapping_layer(m)] = mapping_start(m);
	}
	f->part = part;
	for (i = 0; i < layers; i++) {
		uint64_t own = image_layer(image, i)->layer.header.virtual_size;

		if (own > 0 && own <= image_size(image))
			continue;
		snprintf(part, sizeof part, "layer %zu", i);
		warn_beyond(f, counts[i], firsts[i], image_size(image));
	}
	f->part = NULL;
	return 0;
}

/* What only the whole can show. */
static void check_stack(const struct image_config *config, struct findings *f)
{
	struct image *image;
	struct err e;

	if (image_open(config, NULL, &image, &e) < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return;
	}
	if (image_size(image) == 0)
		findings_add(f, FINDING_WARNING, "no layer has a virtual size: the disk is empty");
	if (check_reach(image, f) < 0)
		findings_add(f, FINDING_ERROR, "out of memory");
	image_close(image);
}

static void free_paths(char **paths, size_t count)
{
	size_t i;

	for (i = 0; paths && i < count; i++)
		free(paths[i]);
	free(paths);
}

static int check_image(const char *path, struct workers *pool, struct findings *f, struct err *e)
{
	AUTO_FREE struct identity *ids = NULL;
	struct image_config *config;
	size_t count;
	char **paths;
	int r = config_load(path, &config, e);

	if (r < 0)
		return r;
	count = config->lower_count + (config->upper_data != NULL);
	ids = calloc(count + 1, sizeof *ids);
	paths = calloc(count + 1, sizeof *paths);
	if (ids && paths) {
		find_lowers(config, paths, f);
		check_layers(config, paths, pool, f, ids);
		check_parents(ids, count, f);
		if (f->errors == 0)
			check_stack(config, f);
	} else {
		findings_add(f, FINDING_ERROR, "out of memory");
	}
	free_paths(paths, count);
	config_free(config);
	return 0;
}

static int run(const struct tool_args *args, struct err *e)
{
	struct findings f = { .file = args->operand };
	struct workers *pool;
	int is_layer = chain_is_layer(args->operand, e), r;

	if (is_layer < 0)
		return err_wrap(e, is_layer, "%s", args->operand);
	r = workers_open(workers_cpus(), &pool, e);
	if (r < 0)
		return r;
	if (is_layer)
		check_lone_layer(args->operand, pool, &f);
	else
		r = check_image(args->operand, pool, &f, e);
	workers_close(pool);
	if (r < 0)
		return r;
	findings_print_sum(&f);
	return f.errors > 0 ? TOOL_FOUND : 0;
}

const struct tool_command cmd_check = {
	.name = "check",
	.operand = "FILE|CONFIG",
	.summary = "Look for everything that is wrong with a layer file or an image",
	.run = run,
};
