/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-merge.c - `overlaybd merge`: layers that lie on top of each other become one.
 *
 * What a layer marks as zeroed hides what is below: the mark stays where layers below the run
 * remain, and is not needed where the run begins at the bottom. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/config.h"
#include "core/image.h"
#include "core/upper_file.h"
#include "tools/args.h"
#include "tools/flatten.h"
#include "tools/layer-output.h"
#include "tools/pair.h"
#include "tools/show.h"

enum { OPT_LAYERS = LAYER_OPTIONS };

static const struct tool_option options[] = {
	LAYER_OPTION_ROWS,
	[OPT_LAYERS] = { "layers", 0, "FROM-TO",
			 "only these, 0 being the bottom one; also N, or FROM-\n(default: all)" },
};

struct merge {
	struct image_config *config;
	struct image *image;
	size_t from, to; /* layers [from, to) */
	int lock; /* on the upper; -1: none */
	struct flatten flatten;
};

/* ---- which layers ---- */

/* "2-5", "2-", "3"; *to is behind the last, 0 for all. */
static int parse_layers(const char *text, size_t *from, size_t *to, struct err *e)
{
	char first[24], *hyphen;
	uint64_t a, b;
	int r;

	*from = *to = 0;
	if (!text)
		return 0;
	if (strlen(text) >= sizeof first)
		return err_set(e, EINVAL, "--layers '%.40s' is not FROM-TO", text);
	strcpy(first, text);
	hyphen = strchr(first, '-');
	if (hyphen)
		*hyphen = '\0';
	r = args_number(first, INDEX_MAX_LAYERS, "layer", &a, e);
	b = a;
	if (r == 0 && hyphen && hyphen[1] != '\0')
		r = args_number(hyphen + 1, INDEX_MAX_LAYERS, "layer", &b, e);
	if (r == 0 && b < a)
		r = err_set(e, EINVAL, "--layers '%s' ends before it begins", text);
	if (r < 0)
		return r;
	*from = (size_t)a;
	*to = hyphen && hyphen[1] == '\0' ? 0 : (size_t)b + 1;
	return 0;
}

static int open_image(struct merge *m, struct err *e)
{
	struct image_options wanted = { .merge_from = m->from, .merge_to = m->to };
	size_t count;
	int r = image_open(m->config, &wanted, &m->image, e);

	if (r < 0)
		return r;
	count = image_layer_count(m->image);
	if (count == 0)
		return err_set(e, EINVAL, "%s: the image has no layers", m->config->path);
	if (m->to == 0)
		m->to = count;
	if (m->to <= count && m->from < m->to)
		return 0;
	return err_set(e, EINVAL, "%s: there is no layer %zu, the topmost is %zu", m->config->path,
		       m->to > count ? m->to - 1 : m->from, count - 1);
}

/* ---- the layer ---- */

/* Of the topmost layer of [from, to) that says how large the disk is; 0: none does. */
static uint64_t size_said(const struct merge *m, size_t from, size_t to)
{
	uint64_t size = 0;

	for (; to > from && size == 0; to--)
		size = image_layer(m->image, to - 1)->layer.header.virtual_size;
	return size;
}

/* Seen alone, the run is as large as the topmost layer of it that says so.  What it maps beyond
 * that is never seen where it is the topmost that does; below others that say so it may be, so
 * there the new layer holds it. */
static uint64_t disk_size(const struct merge *m)
{
	const struct index *index = image_index(m->image);
	size_t count = index_count(index);
	uint64_t size = size_said(m, 0, m->to);

	if (size > 0 && count > 0 && size_said(m, m->to, image_layer_count(m->image)) > 0)
		size = max_u64(size, mapping_end(index_maps(index)[count - 1]) * SECTOR);
	return size;
}

static struct source *source_of(void *arg, size_t layer)
{
	return image_layer(((struct merge *)arg)->image, layer)->layer.data;
}

static int fail(void *arg, size_t layer, int r, struct err *e)
{
	const struct merge *m = arg;

	return err_wrap(e, r, "%s: layer %zu (%s)", m->config->path, layer,
			image_layer(m->image, layer)->path);
}

static int write_layer(void *arg, struct layer_writer *writer, struct workers *pool, struct err *e)
{
	struct merge *m = arg;
	const struct index *index = image_index(m->image);
	uint64_t size = disk_size(m);

	m->flatten = (struct flatten){ .what = "merging",
				       .maps = index_maps(index),
				       .count = index_count(index),
				       .end = size ? size / SECTOR : FORMAT_LBA_LIMIT,
				       .drop_zeroed = m->from == 0,
				       .remote = image_is_remote(m->image),
				       .source = source_of,
				       .fail = fail,
				       .arg = m };
	return flatten_write(&m->flatten, writer, pool, e);
}

static int merge(struct merge *m, const struct tool_args *args, const struct output_form *form,
		 struct err *e)
{
	struct layer_job job = {
		.write = write_layer,
		.arg = m,
		.virtual_size = disk_size(m),
		.parent_uuid = image_layer(m->image, m->from)->layer.header.parent_uuid,
	};
	const char *path = args->values[LAYER_OUTPUT];
	uint64_t file_size;
	int r = config_refuse_own_file(m->config, path, e);

	if (r < 0)
		return err_wrap(e, r, "the output");
	r = layer_output_write(args, form, &job, &file_size, e);
	if (r == 0)
		show_line(stdout,
			  "%s: %" PRIu64 " bytes; %zu layers, mapped %" PRIu64 " data and %" PRIu64
			  " zeroed",
			  path, file_size, m->to - m->from, m->flatten.data, m->flatten.zeroed);
	return r;
}

/* Whether the upper, which is on top, is among them is known once the image is open; until then
 * nobody may write to it either. */
static int open_all(struct merge *m, const char *config_path, struct err *e)
{
	int r = config_load(config_path, NULL, &m->config, e);

	if (r == 0 && m->config->upper_data) {
		m->lock = pair_lock(m->config->upper_data, e);
		r = m->lock < 0 ? m->lock : 0;
	}
	return r < 0 ? r : open_image(m, e);
}

static int run(const struct tool_args *args, struct err *e)
{
	struct merge m = { .lock = -1 };
	struct output_form form;
	int r;

	if (parse_layers(args->values[OPT_LAYERS], &m.from, &m.to, e) < 0)
		return TOOL_USAGE;
	r = layer_output_parse(args, &form, e);
	if (r != 0)
		return r;
	r = open_all(&m, args->operands[0], e);
	if (r == 0)
		r = merge(&m, args, &form, e);
	image_close(m.image);
	if (m.lock >= 0)
		file_ops_system.close(m.lock);
	config_free(m.config);
	return r;
}

const struct tool_command cmd_merge = {
	.name = "merge",
	.operand = "CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Make one layer of several that lie on each other",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
