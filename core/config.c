/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - from a YAML tree to struct image_config, see config.h.
 *
 * Each map has a table of its keys, and keys_read checks it against that: spelling, types, keys of
 * later versions.  The functions here deal in meaning only. */
#include "core/config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/digest.h"
#include "core/base/io.h"
#include "core/base/keys.h"
#include "core/base/scope.h"
#include "core/base/yaml.h"
#include "core/index.h"
#include "core/service.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#define TURBO ": TurboOCI layers are not in this version"

enum {
	IMAGE_LOWERS,
	IMAGE_UPPER,
	IMAGE_IMAGE,
	IMAGE_REPO_BLOB_URL,
	IMAGE_RESULT_FILE,
	IMAGE_DESCRIPTION,
	IMAGE_ACCELERATION_LAYER,
	IMAGE_SERVICE,
	IMAGE_RECORD_TRACE_PATH,
	IMAGE_CONTROL,
	IMAGE_UPPER_GARBAGE,
};

/* The settings of config_setting.h are keys too. */
static const struct key image_keys[] = {
	[IMAGE_LOWERS] = { "lowers", KEY_LIST, NULL },
	[IMAGE_UPPER] = { "upper", KEY_MAP, NULL },
	[IMAGE_IMAGE] = { "image", KEY_TEXT, NULL },
	[IMAGE_REPO_BLOB_URL] = { "repoBlobUrl", KEY_TEXT, NULL },
	[IMAGE_RESULT_FILE] = { "resultFile", KEY_TEXT, NULL },
	[IMAGE_DESCRIPTION] = { "description", KEY_TEXT, NULL },
	[IMAGE_ACCELERATION_LAYER] = { "accelerationLayer", KEY_SWITCH, NULL },
	[IMAGE_SERVICE] = { "service", KEY_TEXT, NULL },
	[IMAGE_RECORD_TRACE_PATH] = { "recordTracePath", KEY_TEXT, NULL },
	[IMAGE_CONTROL] = { "control", KEY_TEXT, NULL },
	[IMAGE_UPPER_GARBAGE] = { "upper-garbage", KEY_COUNT, NULL },
};

enum { IMAGE_COUNT = COUNT_OF(image_keys) };

_Static_assert(IMAGE_COUNT + CONFIG_SETTING_COUNT <= KEYS_MAX, "more keys than a table holds");

enum { LOWER_FILE, LOWER_DIR, LOWER_DIGEST, LOWER_SIZE };

static const struct key lower_keys[] = {
	[LOWER_FILE] = { "file", KEY_TEXT, NULL },
	[LOWER_DIR] = { "dir", KEY_TEXT, NULL },
	[LOWER_DIGEST] = { "digest", KEY_TEXT, NULL },
	[LOWER_SIZE] = { "size", KEY_COUNT, NULL },
	{ "targetFile", KEY_TEXT, TURBO },
	{ "targetDigest", KEY_TEXT, TURBO },
	{ "gzipIndex", KEY_TEXT, TURBO },
};

/* vsize, in GiB, is what the reference's snapshotter made the upper with: the upper itself says its
 * size. */
enum { UPPER_DATA, UPPER_INDEX, UPPER_VSIZE };

static const struct key upper_keys[] = {
	[UPPER_DATA] = { "data", KEY_TEXT, NULL },  [UPPER_INDEX] = { "index", KEY_TEXT, NULL },
	[UPPER_VSIZE] = { "vsize", KEY_ANY, NULL }, { "target", KEY_TEXT, TURBO },
	{ "gzipIndex", KEY_TEXT, TURBO },
};

/* Bytes of a string in the NBD protocol. */
enum { DESCRIPTION_MAX = 4096 };

struct reader {
	struct keys_place place;
	const char *folder; /* absolute, base of relative paths */
};

static int no_memory(const struct reader *rd)
{
	return err_wrap(rd->place.e, err_set(rd->place.e, ENOMEM, "out of memory"), "%s",
			rd->place.file);
}

static int copy_path(const struct reader *rd, const struct yaml_node *value, char **out)
{
	if (!value)
		return 0;
	*out = io_absolute_path(rd->folder, value->text);
	return *out ? 0 : no_memory(rd);
}

static int copy_text(const struct reader *rd, const struct yaml_node *value, char **out)
{
	if (!value)
		return 0;
	*out = strdup(value->text);
	return *out ? 0 : no_memory(rd);
}

/* "none" is no file. */
static int read_service(const struct reader *rd, const struct yaml_node *value, char **out)
{
	bool none = value && strcmp(value->text, "none") == 0;

	return none ? copy_text(rd, value, out) : copy_path(rd, value, out);
}

static int read_digest(const struct reader *rd, const struct yaml_node *value, char **out)
{
	if (!value)
		return 0;
	if (!digest_is_any(value->text))
		return keys_fail(&rd->place, value->line, EINVAL,
				 "digest '%.96s' is not " DIGEST_FORM, value->text);
	return copy_text(rd, value, out);
}

static void lower_release(struct lower_config *lower)
{
	free(lower->file);
	free(lower->dir);
	free(lower->digest);
}

static int read_lower(const struct reader *rd, const struct yaml_node *node,
		      struct lower_config *lower)
{
	const struct yaml_node *values[COUNT_OF(lower_keys)];
	int r;

	if (node->kind != YAML_MAP)
		return keys_fail(&rd->place, node->line, EINVAL,
				 "must be a map of keys such as 'file'");
	r = keys_read(&rd->place, node, lower_keys, COUNT_OF(lower_keys), values);
	if (r < 0)
		return r;
	if (!values[LOWER_FILE] && !values[LOWER_DIR] && !values[LOWER_DIGEST])
		return keys_fail(&rd->place, node->line, EINVAL,
				 "has neither 'file' nor 'dir' nor 'digest'");
	lower->line = node->line;
	r = read_digest(rd, values[LOWER_DIGEST], &lower->digest);
	if (r < 0)
		return r;
	if (values[LOWER_SIZE])
		(void)yaml_get_u64(values[LOWER_SIZE], &lower->size); /* checked by keys_read */
	r = copy_path(rd, values[LOWER_FILE], &lower->file);
	return r < 0 ? r : copy_path(rd, values[LOWER_DIR], &lower->dir);
}

static int read_lowers(struct reader *rd, const struct yaml_node *list, struct image_config *c)
{
	const struct yaml_node *node;
	int r;

	if (!list || list->n == 0)
		return 0;
	/* One layer number less: there may be an upper on top. */
	if (list->n >= INDEX_MAX_LAYERS)
		return keys_fail(&rd->place, list->key->line, EINVAL,
				 "%zu layers, more than the limit of %d", list->n,
				 INDEX_MAX_LAYERS - 1);
	c->lowers = calloc(list->n, sizeof *c->lowers);
	if (!c->lowers)
		return no_memory(rd);
	for (node = list->first; node; node = node->next) {
		snprintf(rd->place.part, sizeof rd->place.part, "layer %zu", c->lower_count);
		c->lowers[c->lower_count].repo_blob_url = c->repo_blob_url;
		r = read_lower(rd, node, &c->lowers[c->lower_count++]);
		if (r < 0)
			return r;
	}
	rd->place.part[0] = '\0';
	return 0;
}

static int read_upper(struct reader *rd, const struct yaml_node *map, struct image_config *c)
{
	const struct yaml_node *values[COUNT_OF(upper_keys)];
	int r;

	if (!map)
		return 0;
	snprintf(rd->place.part, sizeof rd->place.part, "upper");
	r = keys_read(&rd->place, map, upper_keys, COUNT_OF(upper_keys), values);
	if (r < 0)
		return r;
	if (!values[UPPER_DATA] != !values[UPPER_INDEX])
		return keys_fail(&rd->place, map->key->line, EINVAL,
				 "needs both 'data' and 'index'");
	r = copy_path(rd, values[UPPER_DATA], &c->upper_data);
	if (r == 0)
		r = copy_path(rd, values[UPPER_INDEX], &c->upper_index);
	rd->place.part[0] = '\0';
	return r;
}

int config_parse_percent(const char *text, unsigned *out, struct err *e)
{
	size_t n = strspn(text, "0123456789");

	if (n == 0 || n > 3 || text[n] != '\0' || strtoul(text, NULL, 10) > 100)
		return err_set(e, EINVAL, "'%.64s' is not a percentage, 0 to 100", text);
	*out = (unsigned)strtoul(text, NULL, 10);
	return 0;
}

static int read_garbage(const struct reader *rd, const struct yaml_node *value, unsigned *out)
{
	struct err cause;
	int r = value ? config_parse_percent(value->text, out, &cause) : 0;

	return r < 0 ? keys_fail(&rd->place, value->line, -r, "upper-garbage: %s", cause.msg) : 0;
}

static int check_control(const char *path, struct err *e)
{
	if (path && strlen(path) > CONFIG_CONTROL_MAX)
		return err_set(e, EINVAL, "'%s' is too long for a socket, which may have %d bytes",
			       path, CONFIG_CONTROL_MAX);
	return 0;
}

static int read_control(const struct reader *rd, const struct yaml_node *value, char **out)
{
	struct err cause;
	int r = copy_path(rd, value, out);

	if (r < 0 || check_control(*out, &cause) == 0)
		return r;
	return keys_fail(&rd->place, value->line, EINVAL, "control: %s", cause.msg);
}

static int read_description(const struct reader *rd, const struct yaml_node *value, char **out)
{
	if (!value)
		return 0;
	if (value->n > DESCRIPTION_MAX)
		return keys_fail(&rd->place, value->key->line, EINVAL,
				 "'description' has %zu bytes, limit is %d", value->n,
				 DESCRIPTION_MAX);
	return copy_text(rd, value, out);
}

/* The topmost lower is none of the disk's. */
static int split_acceleration_layer(const struct reader *rd, const struct yaml_node *value,
				    struct image_config *c)
{
	struct lower_config *top;

	if (value)
		(void)yaml_get_bool(value, &c->acceleration_layer); /* checked by keys_read */
	if (!c->acceleration_layer)
		return 0;
	if (c->lower_count == 0)
		return keys_fail(&rd->place, value->key->line, EINVAL,
				 "'accelerationLayer: true', but no layer in 'lowers'");
	top = &c->lowers[--c->lower_count];
	c->acceleration_dir = TAKE_PTR(top->dir);
	lower_release(top);
	return 0;
}

static int read_image_reference(const struct reader *rd, const struct yaml_node *value,
				struct image_config *c)
{
	struct err cause;
	int r;

	if (!value)
		return 0;
	if (c->lowers || c->repo_blob_url)
		return keys_fail(&rd->place, value->key->line, EINVAL,
				 "'image' and '%s' exclude each other",
				 c->lowers ? "lowers" : "repoBlobUrl");
	r = config_check_reference(value->text, &cause);
	if (r < 0)
		return keys_fail(&rd->place, value->line, -r, "image: %s", cause.msg);
	return copy_text(rd, value, &c->image);
}

static int read_layers(struct reader *rd, const struct yaml_node *const *values,
		       const struct yaml_node *root, struct image_config *c)
{
	int r = copy_text(rd, values[IMAGE_REPO_BLOB_URL], &c->repo_blob_url);

	if (r == 0)
		r = read_upper(rd, values[IMAGE_UPPER], c);
	if (r == 0)
		r = read_lowers(rd, values[IMAGE_LOWERS], c);
	if (r == 0)
		r = split_acceleration_layer(rd, values[IMAGE_ACCELERATION_LAYER], c);
	if (r == 0)
		r = read_image_reference(rd, values[IMAGE_IMAGE], c);
	if (r == 0 && c->lower_count == 0 && !c->image && !c->upper_data)
		r = keys_fail(&rd->place, root->line, EINVAL,
			      "no layer in 'lowers', no 'image' and no 'upper'");
	return r;
}

static int replace_text(char **to, const char *text, const char *suffix)
{
	char *made;

	if (asprintf(&made, "%s%s", text, suffix) < 0)
		return -ENOMEM;
	free(*to);
	*to = made;
	return 0;
}

/* What options say of the upper, in place of what the file says. */
static int apply_upper_options(const struct config_options *options, struct image_config *c,
			       struct err *e)
{
	int r = 0;

	if (options->upper) {
		r = replace_text(&c->upper_data, options->upper, ".data");
		if (r == 0)
			r = replace_text(&c->upper_index, options->upper, ".index");
		c->upper_is_option = true;
	}
	if (r == 0 && options->control)
		r = replace_text(&c->control, options->control, "");
	if (r < 0)
		return err_set(e, ENOMEM, "%s: out of memory", c->path);
	if (options->upper_garbage)
		r = config_parse_percent(options->upper_garbage, &c->upper_garbage, e);
	if (r < 0)
		return err_wrap(e, r, "%s: upper-garbage", c->path);
	r = options->control ? check_control(c->control, e) : 0;
	return r < 0 ? err_wrap(e, r, "%s: control", c->path) : 0;
}

static int apply_options(const struct config_options *options, struct image_config *c,
			 struct err *e)
{
	struct config_level level = { .folder = options->folder, .is_parameter = true };
	size_t i;

	for (i = 0; i < options->setting_count; i++) {
		const struct config_setting *given = &options->settings[i];
		int n = config_setting_find(given->name), r;

		r = n < 0 ? err_set(e, EINVAL, "there is no such setting")
			  : config_setting_apply(&level, (size_t)n, given->value, &c->fetch, e);
		if (r < 0)
			return err_wrap(e, r, "%s: %s", c->path, given->name);
	}
	return 0;
}

/* Fills c->fetch level by level.  `rd` and `values` are those of the config file, or NULL. */
static int read_settings(struct reader *rd, const struct yaml_node *const *values,
			 const struct config_options *options, struct image_config *c,
			 struct err *e)
{
	AUTO_FREE char *service = NULL;
	int r = fetch_settings_init(&c->fetch, e);

	if (r < 0)
		return err_wrap(e, r, "%s", c->path);
	if (rd && !(options && options->service))
		r = read_service(rd, values[IMAGE_SERVICE], &service);
	if (r == 0)
		r = service_load(options && options->service ? options->service : service,
				 &c->fetch, e);
	if (r == 0 && rd) {
		struct config_level level = { .folder = rd->folder };

		r = config_setting_read(&rd->place, &level, values + IMAGE_COUNT, &c->fetch);
	}
	if (r == 0 && options)
		r = apply_options(options, c, e);
	if (r == 0 && options)
		r = apply_upper_options(options, c, e);
	if (r < 0)
		return r;
	r = config_setting_complete(&c->fetch, e);
	return r < 0 ? err_wrap(e, r, "%s", c->path) : 0;
}

/* A reference with a digest behind its tag is the digest's.  What the image already has must be the
 * same, since it says which disk is meant. */
static int pin(const char *digest, struct image_config *c, struct err *e)
{
	const char *has = c->image ? strchr(c->image, '@') : NULL;
	char *pinned;

	if (!digest_is_any(digest))
		return err_set(e, EINVAL, "%s: digest '%.96s' is not " DIGEST_FORM, c->path,
			       digest);
	if (!c->image)
		return err_set(e, EINVAL, "%s: a digest is given, but it names no 'image'",
			       c->path);
	if (has)
		return strcmp(has + 1, digest) == 0
			       ? 0
			       : err_set(e, EINVAL, "%s: its image is %s, not %s", c->path, has + 1,
					 digest);
	if (asprintf(&pinned, "%s@%s", c->image, digest) < 0)
		return err_set(e, ENOMEM, "%s: out of memory", c->path);
	free(c->image);
	c->image = pinned;
	return 0;
}

static int read_image(struct reader *rd, const struct yaml_node *root,
		      const struct config_options *options, struct image_config *c)
{
	const struct yaml_node *values[IMAGE_COUNT + CONFIG_SETTING_COUNT];
	struct key keys[IMAGE_COUNT + CONFIG_SETTING_COUNT];
	int r;

	if (root->kind != YAML_MAP)
		return keys_fail(&rd->place, root->line, EINVAL,
				 "an image config is a map of keys such as 'lowers'");
	memcpy(keys, image_keys, sizeof image_keys);
	config_setting_keys(keys + IMAGE_COUNT);
	r = keys_read(&rd->place, root, keys, COUNT_OF(keys), values);
	if (r == 0)
		r = copy_path(rd, values[IMAGE_RESULT_FILE], &c->result_file);
	if (r == 0)
		r = copy_path(rd, values[IMAGE_RECORD_TRACE_PATH], &c->record_trace_path);
	if (r == 0)
		r = read_control(rd, values[IMAGE_CONTROL], &c->control);
	if (r == 0)
		r = read_garbage(rd, values[IMAGE_UPPER_GARBAGE], &c->upper_garbage);
	if (r == 0)
		r = read_description(rd, values[IMAGE_DESCRIPTION], &c->description);
	if (r == 0)
		r = read_layers(rd, values, root, c);
	if (r == 0 && options && options->digest)
		r = pin(options->digest, c, rd->place.e);
	return r < 0 ? r : read_settings(rd, values, options, c, rd->place.e);
}

static int parse(const char *path, const char *text, size_t n, const struct config_options *options,
		 struct image_config *c, struct err *e)
{
	AUTO_FREE char *folder = NULL;
	struct yaml_doc *doc;
	int r;

	c->path = io_absolute_path(NULL, path);
	if (!c->path)
		return err_set(e, errno, "%s: its absolute path: %s", path, strerror(errno));
	folder = io_parent(c->path);
	if (!folder)
		return err_set(e, ENOMEM, "%s: out of memory", path);
	r = yaml_doc_parse(path, text, n, &doc, e);
	if (r == 0) {
		const struct yaml_node *root = yaml_doc_root(doc);
		struct reader rd = { .place = { .file = path, .e = e }, .folder = folder };

		/* Programs write JSON, and what a later version of theirs adds is not a slip of
		 * the pen. */
		rd.place.unknown = yaml_is_json(root) ? KEYS_WARN : KEYS_REFUSE;
		r = read_image(&rd, root, options, c);
		yaml_doc_free(doc);
	}
	return r;
}

int config_parse(const char *path, const char *text, size_t n, const struct config_options *options,
		 struct image_config **out, struct err *e)
{
	struct image_config *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return err_set(e, ENOMEM, "%s: out of memory", path);
	c->upper_garbage = CONFIG_GARBAGE;
	r = parse(path, text, n, options, c, e);
	if (r < 0) {
		config_free(c);
		return r;
	}
	*out = c;
	return 0;
}

int config_load(const char *path, const struct config_options *options, struct image_config **out,
		struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t n;
	int r;

	if (path[0] == '\0')
		return err_set(e, EINVAL, "the name of the config file is empty");
	r = io_read_file(path, YAML_MAX_INPUT, &text, &n, e);
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	return config_parse(path, text, n, options, out, e);
}

int config_from_image(const char *reference, const struct config_options *options,
		      struct image_config **out, struct err *e)
{
	struct image_config *c;
	int r = config_check_reference(reference, e);

	if (r < 0)
		return err_wrap(e, r, "image");
	c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, ENOMEM, "%s: out of memory", reference);
	c->upper_garbage = CONFIG_GARBAGE;
	c->path = strdup(reference);
	c->image = strdup(reference);
	r = c->path && c->image ? read_settings(NULL, NULL, options, c, e)
				: err_set(e, ENOMEM, "%s: out of memory", reference);
	if (r == 0 && options && options->digest)
		r = pin(options->digest, c, e);
	if (r < 0) {
		config_free(c);
		return r;
	}
	*out = c;
	return 0;
}

/* An '@' stands before a digest; any other is that of a user and password. */
int config_check_reference(const char *text, struct err *e)
{
	const char *at = strchr(text, '@'), *p;

	if (at && digest_in_name(text) != at + 8)
		return err_set(e, EINVAL,
			       "a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, "
			       "without user and password");
	for (p = text; *p > ' ' && *p <= '~'; p++)
		;
	if (p == text || *p != '\0' || p - text > CONFIG_SETTING_MAX)
		return err_set(e, EINVAL,
			       "a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, of "
			       "printable ASCII characters");
	return 0;
}

void config_free(struct image_config *c)
{
	size_t i;

	if (!c)
		return;
	for (i = 0; i < c->lower_count; i++)
		lower_release(&c->lowers[i]);
	free(c->lowers);
	free(c->image);
	free(c->repo_blob_url);
	free(c->acceleration_dir);
	free(c->record_trace_path);
	free(c->upper_data);
	free(c->upper_index);
	free(c->control);
	free(c->result_file);
	free(c->description);
	free(c->path);
	fetch_settings_release(&c->fetch);
	free(c);
}
