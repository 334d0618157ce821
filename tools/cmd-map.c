/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-map.c - `overlaybd map`: which range of the disk comes from which layer.
 *
 * Pieces that go on in both spaces, the disk's and the layer file's, are joined: how an index was
 * cut into entries does not show. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/config.h"
#include "core/image.h"
#include "tools/live.h"
#include "tools/show.h"
#include "tools/tool.h"

enum { OPT_JSON };

static const struct tool_option options[] = {
	[OPT_JSON] = { "json", 0, NULL, "print JSON (its keys: see overlaybd(1))" },
};

struct map {
	const struct image *image;
	struct image_extent last; /* not printed yet; n 0: none */
	bool json;
	bool begun; /* something was printed */
};

static const char *const kinds[] = {
	[EXTENT_DATA] = "data",
	[EXTENT_ZERO] = "zero",
	[EXTENT_HOLE] = "hole",
};

static void print_row(const struct map *map, const struct image_extent *x)
{
	printf("%-14" PRIu64 " %-14" PRIu64 " %-4s", x->off, x->n, kinds[x->kind]);
	if (x->kind == EXTENT_HOLE) {
		puts("      -              -  -");
		return;
	}
	printf("  %5zu ", x->layer);
	if (x->kind == EXTENT_DATA)
		printf("%14" PRIu64 "  ", x->layer_off);
	else
		printf("%14s  ", "-");
	show_text(stdout, image_layer(map->image, x->layer)->path);
	putchar('\n');
}

/* One object a line, so that a map of millions of pieces is never in memory. */
static int print_object(const struct map *map, const struct image_extent *x)
{
	json_t *out = json_pack("{s:I, s:I, s:b, s:b}", "start", (json_int_t)x->off, "length",
				(json_int_t)x->n, "data", x->kind == EXTENT_DATA, "zero",
				x->kind != EXTENT_DATA);
	int r = out ? 0 : -1;

	if (r == 0 && x->kind != EXTENT_HOLE) {
		r = json_object_set_new(out, "layer", json_integer((json_int_t)x->layer));
		r |= json_object_set_new(out, "file",
					 show_string(image_layer(map->image, x->layer)->path));
	}
	if (r == 0 && x->kind == EXTENT_DATA)
		r = json_object_set_new(out, "offset", json_integer((json_int_t)x->layer_off));
	if (r == 0) {
		fputs(map->begun ? ",\n  " : "\n  ", stdout);
		json_dumpf(out, stdout, JSON_ENSURE_ASCII);
	}
	json_decref(out);
	return r < 0 ? -ENOMEM : 0;
}

static int print_last(struct map *map)
{
	int r = 0;

	if (map->last.n == 0)
		return 0;
	if (map->json)
		r = print_object(map, &map->last);
	else
		print_row(map, &map->last);
	map->begun = true;
	return r;
}

/* Whether b goes on where a ends.  a comes before b without a gap. */
static bool continues(const struct image_extent *a, const struct image_extent *b)
{
	if (a->n == 0 || a->kind != b->kind)
		return false;
	if (a->kind == EXTENT_HOLE)
		return true;
	return a->layer == b->layer &&
	       (a->kind == EXTENT_ZERO || a->layer_off + a->n == b->layer_off);
}

static int take_extent(void *arg, const struct image_extent *extent)
{
	struct map *map = arg;
	int r = 0;

	if (continues(&map->last, extent)) {
		map->last.n += extent->n;
		return 0;
	}
	r = print_last(map);
	map->last = *extent;
	return r;
}

static int print_map(struct image *image, bool json, struct err *e)
{
	struct map map = { .image = image, .json = json };
	int r;

	fputs(json ? "[" : "Start          Length         Kind  Layer         Offset  File\n",
	      stdout);
	r = image_extents(image, 0, image_size(image), false, take_extent, &map);
	if (r == 0)
		r = print_last(&map);
	if (r < 0)
		return err_set(e, -r, "out of memory");
	if (json)
		puts(map.begun ? "\n]" : "]");
	return 0;
}

static int run(const struct tool_args *args, struct err *e)
{
	struct image_config *config;
	struct image *image;
	int r = live_open(args->operands[0], &config, &image, e);

	if (r < 0)
		return r;
	r = print_map(image, args->values[OPT_JSON] != NULL, e);
	image_close(image);
	config_free(config);
	return r;
}

const struct tool_command cmd_map = {
	.name = "map",
	.operand = "CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Show which range of an image comes from which layer",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
