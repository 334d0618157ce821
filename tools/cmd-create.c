/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-create.c - `overlaybd create`: a new writable layer: empty, or one in the sparse form as an
 * append log. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/image.h"
#include "core/upper_dense.h"
#include "core/upper_lock.h"
#include "core/upper_log.h"
#include "tools/args.h"
#include "tools/hidden.h"
#include "tools/pair.h"
#include "tools/progress.h"
#include "tools/show.h"
#include "tools/tool.h"

enum { OPT_CONFIG, OPT_SIZE, OPT_FROM };

static const struct tool_option options[] = {
	[OPT_CONFIG] = { "config", 0, "CONFIG", "the image that it will lie on" },
	[OPT_SIZE] = { "size", 0, "N", "size of the disk, as 1073741824, 1024M or 1G" },
	[OPT_FROM] = { "from", 0, "UPPER|CONFIG",
		       "take over this layer in overlaybd's sparse form" },
};

/* What the new layer is made of. */
struct plan {
	struct format_header header;
	struct mapping_run maps; /* freed by the caller */
	struct source *from; /* of maps that are not zeroed */
};

static int write_pair(const struct plan *plan, const struct pair *to, struct progress *progress,
		      struct err *e);

/* ---- over an image ---- */

/* The uuid of the topmost layer; readers take any text for one, writers should not pass it on. */
static const char *top_uuid(const struct image *image)
{
	size_t n = image_layer_count(image);
	const char *uuid = n > 0 ? image_layer(image, n - 1)->layer.header.uuid : "";

	return format_is_uuid(uuid) ? uuid : NULL;
}

/* A larger disk reads as zeroes where the image had ended, whatever its layers map there. */
static int plan_over(const struct image *image, uint64_t size, struct plan *plan, struct err *e)
{
	uint64_t before = image_size(image);
	int r;

	if (size == 0 && before == 0)
		return err_set(e, EINVAL, "the image has no layers: --size must say how large");
	if (size == 0)
		size = before;
	if (size < before)
		return err_set(e, EINVAL, "--size %" PRIu64 " is smaller than the image's %" PRIu64,
			       size, before);
	r = upper_log_make_header(&plan->header, size, NULL, top_uuid(image), e);
	if (r == 0 &&
	    hidden_marks(image_index(image), before / SECTOR, size / SECTOR, &plan->maps) < 0)
		r = err_set(e, ENOMEM, "out of memory");
	return r;
}

/* The config may name the layer that is to be made. */
static int create_over(const char *config_path, uint64_t size, const struct pair *to, struct err *e)
{
	struct image_config *config = NULL;
	struct image *image = NULL;
	struct plan plan = { 0 };
	int r = config_load(config_path, NULL, &config, e);

	if (r == 0) {
		pair_drop_upper(config);
		r = image_open(config, NULL, &image, e);
	}
	if (r == 0) {
		r = plan_over(image, size, &plan, e);
		if (r < 0)
			(void)err_wrap(e, r, "%s", config_path);
	}
	if (r == 0)
		r = write_pair(&plan, to, NULL, e);
	free(plan.maps.maps);
	image_close(image);
	config_free(config);
	return r;
}

/* ---- from the sparse form ---- */

static uint64_t data_bytes(const struct mapping_run *maps)
{
	uint64_t sectors = 0;
	size_t i;

	for (i = 0; i < maps->count; i++)
		sectors += mapping_zeroed(maps->maps[i]) ? 0 : mapping_sectors(maps->maps[i]);
	return sectors * SECTOR;
}

static int convert(struct layer *layer, const struct upper_findings *found, const char *path,
		   const struct pair *to, struct err *e)
{
	struct plan plan = { .header = layer->header, .maps = layer->run, .from = layer->data };
	struct progress progress;
	int r;

	if (!found->sparse)
		return err_set(e, EINVAL, "%s: is an append log already", path);
	progress_init(&progress, "converting", data_bytes(&layer->run));
	r = write_pair(&plan, to, &progress, e);
	progress_clear(&progress);
	return r;
}

static int create_from(const char *operand, const struct pair *to, struct err *e)
{
	struct upper_findings found;
	struct layer layer;
	struct pair from;
	int lock, r = pair_find(operand, &from, e);

	if (r < 0)
		return r;
	r = lock = upper_lock_open(NULL, from.data, O_RDONLY, e);
	if (r >= 0)
		r = upper_open_read_only(from.data, from.index, 0, &layer, &found, e);
	if (r >= 0) {
		r = convert(&layer, &found, from.data, to, e);
		layer_close(&layer);
	}
	if (lock >= 0)
		file_ops_system.close(lock);
	pair_release(&from);
	return r;
}

/* ---- all ---- */

static void step(void *arg, uint64_t n)
{
	progress_add(arg, n);
}

static int write_pair(const struct plan *plan, const struct pair *to, struct progress *progress,
		      struct err *e)
{
	struct upper_dense dense = {
		.header = &plan->header,
		.maps = &plan->maps,
		.from = plan->from,
		.step = progress ? step : NULL,
		.arg = progress,
	};
	int r = upper_dense_create(&dense, to->data, to->index, e);

	if (r == 0)
		show_line(stdout, "%s, %s: a disk of %" PRIu64 " bytes", to->data, to->index,
			  plan->header.virtual_size);
	return r;
}

static int create_empty(uint64_t size, const struct pair *to, struct err *e)
{
	struct plan plan = { 0 };
	int r = upper_log_make_header(&plan.header, size, NULL, NULL, e);

	return r < 0 ? r : write_pair(&plan, to, NULL, e);
}

static int check_args(const struct tool_args *args, uint64_t *size, struct err *e)
{
	const char *text = args->values[OPT_SIZE];

	*size = 0;
	if (!args->values[OPT_CONFIG] && !text && !args->values[OPT_FROM])
		return err_set(e, EINVAL, "--config, --size or --from is missing");
	if (args->values[OPT_FROM] && (args->values[OPT_CONFIG] || text))
		return err_set(e, EINVAL, "--from goes with neither --config nor --size");
	if (!text)
		return 0;
	if (args_size(text, "--size", size, e) < 0)
		return -EINVAL;
	return *size > 0 ? 0 : err_set(e, EINVAL, "--size 0 is no disk");
}

static int run(const struct tool_args *args, struct err *e)
{
	struct pair to;
	uint64_t size;
	int r;

	if (check_args(args, &size, e) < 0)
		return TOOL_USAGE;
	r = pair_of_name(args->operands[0], &to, e);
	if (r < 0)
		return r;
	if (args->values[OPT_FROM])
		r = create_from(args->values[OPT_FROM], &to, e);
	else if (args->values[OPT_CONFIG])
		r = create_over(args->values[OPT_CONFIG], size, &to, e);
	else
		r = create_empty(size, &to, e);
	pair_release(&to);
	return r;
}

const struct tool_command cmd_create = {
	.name = "create",
	.operand = "UPPER",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Make a writable layer",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.changes_first = true,
	.run = run,
};
