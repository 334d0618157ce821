/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-check.c - `overlaybd check`: everything that can be wrong with a layer file or an image.
 *
 * Layers are checked one after the other, each on all cores: findings come in the image's order. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/chain.h"
#include "core/config.h"
#include "core/image.h"
#include "core/lowers.h"
#include "tools/check-layer.h"
#include "tools/live.h"
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

/* -ENOENT, and no finding, when `live` says that a snapshot has taken the files away. */
static int check_upper(const struct image_config *config, const struct live_file *live,
		       size_t number, struct findings *f, struct identity *id)
{
	struct upper_findings upper;
	struct layer layer;
	struct err e;
	int r = upper_open_read_only(config->upper_data, config->upper_index, number, &layer,
				     &upper, &e);

	if (r < 0 && live_was_replaced(config->path, live))
		return -ENOENT;
	if (r < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return 0;
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
	if (upper.stale_records + upper.lost_records > 0)
		findings_add(
			f, FINDING_WARNING,
			"%" PRIu64 " writes that a process acknowledged and did not flush are "
			"not taken up: the layer was written to since, or its file system went "
			"down",
			upper.stale_records + upper.lost_records);
	check_own_reach(&layer, f);
	set_identity(id, &layer.header);
	layer_close(&layer);
	return 0;
}

/* The layers of an image that are to be checked. */
struct subjects {
	const struct image_config *config;
	struct live_file live; /* the config's, as it was loaded */
	const struct lower_config *list; /* the config's, or what its `image` stands for */
	char **paths; /* of local files; NULL: it is remote, or was not found */
	size_t count; /* without an upper */
	struct lowers lowers; /* when some are remote */
	bool has_lowers;
};

static void check_lower(const struct lower_config *lower, const char *name, struct source *bytes,
			size_t number, struct workers *pool, struct findings *f,
			struct identity *id)
{
	struct layer_claim claim = { name, bytes, lower->digest, lower->size };
	struct layer layer;

	if (check_layer(&claim, number, true, pool, f, &layer)) {
		check_own_reach(&layer, f);
		set_identity(id, &layer.header);
		layer_close(&layer);
	}
}

static bool use_lowers(struct subjects *s, struct findings *f)
{
	struct err e;

	if (s->has_lowers)
		return true;
	s->has_lowers = lowers_open(s->config, NULL, &s->lowers, &e) == 0;
	if (s->has_lowers)
		lowers_opened(&s->lowers);
	else
		findings_add(f, FINDING_ERROR, "%s", e.msg);
	return s->has_lowers;
}

/* Finds the layers' files; the path is NULL, and a finding there, where there is none. */
static void find_files(struct subjects *s, struct findings *f, uint64_t *total)
{
	char part[64];
	struct err e;
	size_t i;
	int r;

	f->part = part;
	for (i = 0; i < s->count; i++) {
		snprintf(part, sizeof part, "layer %zu (line %u)", i, s->list[i].line);
		r = config_find_lower(&s->list[i], &s->paths[i], &e);
		if (r < 0)
			findings_add(f, FINDING_ERROR, "%s", e.msg);
		else if (r == 0)
			*total += file_size(s->paths[i]);
		else if (use_lowers(s, f))
			*total += s->list[i].size;
	}
	f->part = NULL;
}

static int find_subjects(struct subjects *s, struct findings *f)
{
	uint64_t total = 0;
	size_t i;

	s->list = s->config->lowers;
	s->count = s->config->lower_count;
	if (s->config->image && use_lowers(s, f)) {
		s->list = s->lowers.list;
		s->count = s->lowers.count;
		for (i = 0; i < s->count; i++)
			total += s->list[i].size;
	}
	s->paths = calloc(s->count + 1, sizeof *s->paths);
	if (!s->paths)
		return -1;
	if (!s->config->image)
		find_files(s, f, &total);
	progress_init(&f->progress, "checking", total);
	return 0;
}

/* What can be said of a layer that is in a registry: the same, after reading all of it. */
static void check_remote(struct subjects *s, size_t i, struct workers *pool, struct findings *f,
			 struct identity *id)
{
	struct source *bytes;
	struct stats *stats;
	const char *name;
	struct err e;
	int r = lowers_open_layer(&s->lowers, i, &bytes, &name, &stats, &e);

	if (r < 0)
		findings_add(f, FINDING_ERROR, "%s", e.msg);
	else
		check_lower(&s->list[i], name, bytes, i, pool, f, id);
}

static int check_layers(struct subjects *s, struct workers *pool, struct findings *f,
			struct identity *ids)
{
	char part[512];
	size_t i;
	int r = 0;

	f->part = part;
	for (i = 0; i < s->count; i++) {
		const struct lower_config *lower = &s->list[i];

		snprintf(part, sizeof part, "layer %zu (%s)", i,
			 s->paths[i]	 ? s->paths[i]
			 : lower->digest ? lower->digest
					 : "");
		if (s->paths[i])
			check_lower(lower, s->paths[i], NULL, i, pool, f, &ids[i]);
		else if (s->has_lowers && lower->digest)
			check_remote(s, i, pool, f, &ids[i]);
	}
	if (s->config->upper_data) {
		f->part = "upper"; /* its messages name the file */
		r = check_upper(s->config, &s->live, i, f, &ids[i]);
	}
	f->part = NULL;
	return r;
}

static void subjects_release(struct subjects *s)
{
	size_t i;

	if (s->has_lowers) {
		lowers_shut(&s->lowers);
		lowers_close(&s->lowers);
	}
	for (i = 0; s->paths && i < s->config->lower_count; i++)
		free(s->paths[i]);
	free(s->paths);
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

static void keep_quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

/* What only the whole can show.  What opening it would warn of is among the findings. */
static int check_stack(const struct image_config *config, const struct live_file *live,
		       struct findings *f)
{
	struct image *image;
	struct err e;
	int r;

	log_set_sink(keep_quiet);
	r = image_open(config, NULL, &image, &e);
	log_set_sink(NULL);
	if (r < 0 && live_was_replaced(config->path, live))
		return -ENOENT;
	if (r < 0) {
		findings_add(f, FINDING_ERROR, "%s", e.msg);
		return 0;
	}
	if (image_size(image) == 0)
		findings_add(f, FINDING_WARNING, "no layer has a virtual size: the disk is empty");
	if (check_reach(image, f) < 0)
		findings_add(f, FINDING_ERROR, "out of memory");
	image_close(image);
	return 0;
}

/* -ENOENT: a snapshot has replaced the config. */
static int check_subjects(struct subjects *s, struct workers *pool, struct findings *f)
{
	AUTO_FREE struct identity *ids = NULL;
	size_t count = s->count + (s->config->upper_data != NULL);
	int r;

	ids = calloc(count + 1, sizeof *ids);
	if (!ids) {
		findings_add(f, FINDING_ERROR, "out of memory");
		return 0;
	}
	r = check_layers(s, pool, f, ids);
	if (r < 0)
		return r;
	check_parents(ids, count, f);
	return f->errors == 0 ? check_stack(s->config, &s->live, f) : 0;
}

/* -ENOENT, `replaced` set: as check_subjects. */
static int check_once(const char *path, struct workers *pool, struct findings *f, bool *replaced,
		      struct err *e)
{
	struct subjects s = { 0 };
	struct image_config *config;
	int r;

	live_look(path, &s.live);
	r = config_load(path, NULL, &config, e);
	if (r < 0)
		return r;
	s.config = config;
	if (find_subjects(&s, f) < 0)
		findings_add(f, FINDING_ERROR, "out of memory");
	else
		r = check_subjects(&s, pool, f);
	*replaced = r < 0;
	subjects_release(&s);
	config_free(config);
	return r < 0 ? err_set(e, EBUSY, "%s: is replaced again and again", path) : 0;
}

/* What was found of layers that are still there is found, and printed, once more. */
static int check_image(const char *path, struct workers *pool, struct findings *f, struct err *e)
{
	bool replaced = true;
	unsigned try;
	int r = 0;

	for (try = 0; replaced && try < LIVE_TRIES; try++) {
		replaced = false;
		f->errors = f->warnings = 0;
		r = check_once(path, pool, f, &replaced, e);
	}
	return r;
}

static int run(const struct tool_args *args, struct err *e)
{
	struct findings f = { .file = args->operands[0] };
	struct workers *pool;
	int is_layer = chain_is_layer(args->operands[0], e), r;

	if (is_layer < 0)
		return err_wrap(e, is_layer, "%s", args->operands[0]);
	r = workers_open(workers_cpus(), &pool, e);
	if (r < 0)
		return r;
	if (is_layer)
		check_lone_layer(args->operands[0], pool, &f);
	else
		r = check_image(args->operands[0], pool, &f, e);
	workers_close(pool);
	if (r < 0)
		return r;
	findings_print_sum(&f);
	return f.errors > 0 ? TOOL_FOUND : 0;
}

const struct tool_command cmd_check = {
	.name = "check",
	.operand = "FILE|CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Look for everything that is wrong with a layer file or an image",
	.run = run,
};
