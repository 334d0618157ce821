/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-resize.c - `overlaybd resize`: another size for the disk of a writable layer. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/image.h"
#include "core/upper_resize.h"
#include "tools/args.h"
#include "tools/hidden.h"
#include "tools/pair.h"
#include "tools/show.h"
#include "tools/tool.h"

static int resize(const struct upper_resize *how, const struct pair *pair, struct err *e)
{
	uint64_t before;
	int r = upper_resize_files(how, pair->data, pair->index, &before, e);

	if (r == 0)
		show_line(stdout, "%s: a disk of %" PRIu64 " bytes, before %" PRIu64, pair->data,
			  how->size, before);
	return r;
}

/* What the image's layers, the writable one among them, hold beyond the smaller of both sizes: data
 * would be lost, or would come back. */
static int look_beyond(const struct image *image, uint64_t size, struct mapping_run *marks,
		       struct err *e)
{
	uint64_t before = image_size(image) / SECTOR, end = size / SECTOR;

	if (hidden_has_data(image_index(image), end, before))
		return err_set(e, EINVAL,
			       "its layers hold data beyond %" PRIu64
			       ", which a smaller disk would lose",
			       size);
	return hidden_marks(image_index(image), before, end, marks) < 0
		       ? err_set(e, ENOMEM, "out of memory")
		       : 0;
}

/* With a config it is known what lies below. */
static int resize_image(struct upper_resize *how, const struct pair *pair, struct err *e)
{
	struct mapping_run marks = { 0 };
	struct image *image;
	int r = image_open(pair->config, NULL, &image, e);

	if (r < 0)
		return r;
	r = look_beyond(image, how->size, &marks, e);
	if (r < 0)
		(void)err_wrap(e, r, "%s", pair->config->path);
	image_close(image);
	how->below = &marks;
	if (r == 0)
		r = resize(how, pair, e);
	free(marks.maps);
	return r;
}

static int run(const struct tool_args *args, struct err *e)
{
	struct upper_resize how = { .ops = NULL };
	struct pair pair;
	int r;

	if (args_size(args->operands[1], "size", &how.size, e) < 0)
		return TOOL_USAGE;
	r = pair_find(args->operands[0], &pair, e);
	if (r < 0)
		return r;
	r = pair.config ? resize_image(&how, &pair, e) : resize(&how, &pair, e);
	pair_release(&pair);
	return r;
}

const struct tool_command cmd_resize = {
	.name = "resize",
	.operand = "UPPER|CONFIG SIZE",
	.min_operands = 2,
	.max_operands = 2,
	.summary = "Make the disk of a writable layer larger or smaller",
	.changes_first = true,
	.run = run,
};
