/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-info.c - `overlaybd info`: all fields of a layer file, or of a whole image.
 *
 * What is found becomes one JSON tree.  With --json it is printed as it is, otherwise as indented
 * lines: the two never differ in what they tell. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/chain.h"
#include "core/config.h"
#include "core/image.h"
#include "tools/live.h"
#include "tools/show.h"
#include "tools/tool.h"

enum { OPT_JSON };

static const struct tool_option options[] = {
	[OPT_JSON] = { "json", 0, NULL, "print JSON (its keys: see overlaybd(1))" },
};

/* Adds a member; `value` is used up.  No-op once *object is NULL, which a failure makes it, so that
 * only the last of many calls needs a check. */
static void add(json_t **object, const char *key, json_t *value)
{
	if (*object && json_object_set_new(*object, key, value) == 0)
		return;
	if (!*object)
		json_decref(value);
	json_decref(*object);
	*object = NULL;
}

static void add_number(json_t **object, const char *key, uint64_t value)
{
	add(object, key, json_integer((json_int_t)value));
}

static void add_text(json_t **object, const char *key, const char *value)
{
	add(object, key, show_string(value));
}

static void add_bits(json_t **object, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "0x%" PRIx64, value);
	add_text(object, key, text);
}

static json_t *tar_json(const struct tar_layout *tar)
{
	json_t *out = json_object();

	add_text(&out, "name", tar->name);
	add_number(&out, "payload-offset", tar->payload_offset);
	add_number(&out, "payload-size", tar->payload_size);
	add(&out, "pax", json_boolean(tar->pax));
	add(&out, "end-blocks", json_boolean(tar->end_blocks));
	return out;
}

static json_t *zfile_json(const struct zheader *h)
{
	json_t *out = json_object();

	add_text(&out, "algorithm", zformat_algorithm_name(h->algorithm));
	add_number(&out, "level", h->level);
	add_number(&out, "block-size", h->block_size);
	add_number(&out, "blocks", h->blocks);
	add_number(&out, "original-size", h->original_size);
	add_number(&out, "index-offset", h->index_offset);
	add(&out, "verify", json_boolean(h->verify));
	add_bits(&out, "flags", h->flags);
	add_bits(&out, "digest", h->digest);
	add_bits(&out, "index-crc", h->index_crc);
	return out;
}

static json_t *lsmt_json(const struct layer *l)
{
	const struct format_header *h = &l->header;
	json_t *out = json_object();

	add_number(&out, "virtual-size", h->virtual_size);
	add_text(&out, "uuid", h->uuid);
	add_text(&out, "parent-uuid", h->parent_uuid);
	add_text(&out, "message", h->tag);
	add_number(&out, "version", h->version);
	add_number(&out, "sub-version", h->sub_version);
	add_bits(&out, "flags", h->flags);
	add_number(&out, "index-offset", h->index_offset);
	add_number(&out, "index-entries", h->index_size);
	add_number(&out, "entries", l->entries);
	return out;
}

static json_t *upper_json(const struct upper_findings *upper, const char *index_path)
{
	json_t *out = json_object();

	add_text(&out, "form", upper->sparse ? "sparse" : "log");
	add_text(&out, "index-file", index_path);
	add_number(&out, "records", upper->records);
	add_number(&out, "ignored-records", upper->ignored_records);
	add_number(&out, "fragment-size", upper->fragment_bytes);
	return out;
}

/* Bytes that are data, and that a layer says are zero. */
struct mapped {
	uint64_t data;
	uint64_t zeroed;
};

static void add_mapped(json_t **object, const struct mapped *mapped)
{
	add_number(object, "data-size", mapped->data);
	add_number(object, "zeroed-size", mapped->zeroed);
}

static struct mapped count_run(const struct mapping_run *run)
{
	struct mapped mapped = { 0 };
	size_t i;

	for (i = 0; i < run->count; i++) {
		uint64_t n = mapping_sectors(run->maps[i]) * SECTOR;

		*(mapping_zeroed(run->maps[i]) ? &mapped.zeroed : &mapped.data) += n;
	}
	return mapped;
}

/* The layer that the chain holds; a ZFile or tar archive need not hold one. */
static int add_lone_layer(json_t **out, struct chain *c, struct err *e)
{
	struct mapped mapped;
	struct layer layer;
	json_t *lsmt;
	int r = chain_find_layer(c, e);

	if (r > 0) {
		add(out, "lsmt", json_null());
		return 0;
	}
	if (r < 0)
		return r;
	r = layer_open(c->top, 0, &layer, e);
	if (r < 0)
		return r;
	c->top = NULL; /* the layer's now */
	mapped = count_run(&layer.run);
	lsmt = lsmt_json(&layer);
	add_mapped(&lsmt, &mapped);
	add(out, "lsmt", lsmt);
	layer_close(&layer);
	return 0;
}

static int describe_layer(const char *path, json_t **out, struct err *e)
{
	struct chain c;
	int r = chain_open_all(path, &c, e);

	if (r < 0)
		return r;
	*out = json_object();
	add_text(out, "kind", "layer");
	add_text(out, "file", path);
	add_number(out, "file-size", c.file_size);
	if (c.in_tar)
		add(out, "tar", tar_json(&c.tar));
	if (c.in_zfile)
		add(out, "zfile", zfile_json(&c.zfile));
	r = add_lone_layer(out, &c, e);
	chain_close(&c);
	return r;
}

static json_t *image_layer_json(const struct image_config *config, const struct image_layer *l,
				size_t number, const struct mapped *visible)
{
	json_t *out = json_object(), *lsmt = lsmt_json(&l->layer);

	add_number(&out, "number", number);
	add_text(&out, "file", l->path);
	add_number(&out, "file-size", l->file_size);
	if (l->digest)
		add_text(&out, "digest", l->digest);
	if (l->in_tar)
		add(&out, "tar", tar_json(&l->tar));
	if (l->in_zfile)
		add(&out, "zfile", zfile_json(&l->zfile));
	add(&out, "lsmt", lsmt);
	if (l->is_upper)
		add(&out, "upper", upper_json(&l->upper, config->upper_index));
	add_number(&out, "visible-data-size", visible->data);
	add_number(&out, "visible-zeroed-size", visible->zeroed);
	return out;
}

static int count_extent(void *arg, const struct image_extent *extent)
{
	struct mapped *visible = arg; /* one a layer */

	if (extent->kind == EXTENT_DATA)
		visible[extent->layer].data += extent->n;
	else if (extent->kind == EXTENT_ZERO)
		visible[extent->layer].zeroed += extent->n;
	return 0;
}

static int image_json(const struct image_config *config, struct image *image, json_t **out)
{
	size_t count = image_layer_count(image), i;
	AUTO_FREE struct mapped *visible = calloc(count + 1, sizeof *visible);
	struct mapped all = { 0 };
	uint64_t entries = 0;
	json_t *layers = json_array();
	int r;

	if (!visible || !layers) {
		json_decref(layers);
		return -ENOMEM;
	}
	r = image_extents(image, 0, image_size(image), false, count_extent, visible);
	for (i = 0; i < count; i++) {
		const struct image_layer *l = image_layer(image, i);

		all.data += visible[i].data;
		all.zeroed += visible[i].zeroed;
		entries += l->layer.entries;
		if (json_array_append_new(layers, image_layer_json(config, l, i, &visible[i])) < 0)
			r = -ENOMEM;
	}
	*out = json_object();
	add_text(out, "kind", "image");
	add_text(out, "config", config->path);
	if (config->description)
		add_text(out, "description", config->description);
	add_number(out, "virtual-size", image_size(image));
	add_mapped(out, &all);
	add_number(out, "entries", entries);
	add_number(out, "mappings", index_count(image_index(image)));
	add_number(out, "index-memory-size", index_memory(image_index(image)));
	add(out, "layers", layers);
	return r;
}

static int describe_image(const char *path, json_t **out, struct err *e)
{
	struct image_config *config;
	struct image *image;
	int r = live_open(path, &config, &image, e);

	if (r < 0)
		return r;
	r = image_json(config, image, out);
	if (r < 0)
		err_set(e, -r, "%s: out of memory", path);
	image_close(image);
	config_free(config);
	return r;
}

static bool is_size(const char *key)
{
	size_t length = strlen(key);

	return length >= 4 && strcmp(key + length - 4, "size") == 0;
}

static void print_scalar(const char *key, const json_t *value)
{
	char size[SHOW_SIZE];

	if (!json_is_string(value) || json_string_length(value) > 0)
		putchar(' ');
	if (json_is_string(value))
		show_text(stdout, json_string_value(value));
	else if (json_is_integer(value))
		printf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else
		fputs(json_is_true(value) ? "yes" : json_is_false(value) ? "no" : "none", stdout);
	if (json_is_integer(value) && is_size(key) && json_integer_value(value) >= 1024)
		printf(" (%s)", show_size((uint64_t)json_integer_value(value), size));
	putchar('\n');
}

static void print_lines(json_t *object, int depth)
{
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		size_t i;

		printf("%*s%s:", 2 * depth, "", key);
		if (json_is_object(value)) {
			putchar('\n');
			print_lines(value, depth + 1);
		} else if (json_is_array(value)) {
			putchar('\n');
			for (i = 0; i < json_array_size(value); i++) {
				if (i > 0)
					putchar('\n');
				print_lines(json_array_get(value, i), depth + 1);
			}
		} else {
			print_scalar(key, value);
		}
	}
}

static int run(const struct tool_args *args, struct err *e)
{
	json_t *out = NULL;
	int r = chain_is_layer(args->operands[0], e);

	if (r > 0)
		r = describe_layer(args->operands[0], &out, e);
	else if (r == 0) {
		r = describe_image(args->operands[0], &out, e);
		if (r < 0) {
			json_decref(out);
			return r; /* the text begins with the config's name */
		}
	}
	if (r == 0 && !out)
		r = err_set(e, ENOMEM, "out of memory");
	if (r < 0) {
		json_decref(out);
		return err_wrap(e, r, "%s", args->operands[0]);
	}
	if (args->values[OPT_JSON])
		show_json(out);
	else
		print_lines(out, 0);
	json_decref(out);
	return 0;
}

const struct tool_command cmd_info = {
	.name = "info",
	.operand = "FILE|CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Show all fields of a layer file, or of an image and its layers",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
