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
#include <sys/stat.h>

#include "core/base/digest.h"
#include "core/base/io.h"
#include "core/base/keys.h"
#include "core/base/scope.h"
#include "core/base/yaml.h"
#include "core/index.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#define LATER " is not in this version"
#define TURBO ": TurboOCI layers are not in this version"

enum {
	IMAGE_LOWERS,
	IMAGE_UPPER,
	IMAGE_DOWNLOAD,
	IMAGE_RESULT_FILE,
	IMAGE_DESCRIPTION,
	IMAGE_ACCELERATION_LAYER,
};

/* The address in repoBlobUrl has no effect while every layer is a local file. */
static const struct key image_keys[] = {
	[IMAGE_LOWERS] = { "lowers", KEY_LIST, NULL },
	[IMAGE_UPPER] = { "upper", KEY_MAP, NULL },
	[IMAGE_DOWNLOAD] = { "download", KEY_MAP, NULL },
	[IMAGE_RESULT_FILE] = { "resultFile", KEY_TEXT, NULL },
	[IMAGE_DESCRIPTION] = { "description", KEY_TEXT, NULL },
	[IMAGE_ACCELERATION_LAYER] = { "accelerationLayer", KEY_SWITCH, NULL },
	{ "repoBlobUrl", KEY_TEXT, NULL },
	{ "recordTracePath", KEY_TEXT, LATER },
	{ "image", KEY_TEXT, LATER },
	{ "cache-dir", KEY_TEXT, LATER },
	{ "cache-limit", KEY_TEXT, LATER },
	{ "connections", KEY_TEXT, LATER },
	{ "timeout", KEY_TEXT, LATER },
	{ "mirror", KEY_TEXT, LATER },
	{ "proxy", KEY_TEXT, LATER },
	{ "cainfo", KEY_TEXT, LATER },
	{ "credentials", KEY_TEXT, LATER },
	{ "platform", KEY_TEXT, LATER },
	{ "stats", KEY_TEXT, LATER },
	{ "service", KEY_TEXT, LATER },
	{ "insecure", KEY_TEXT, LATER },
	{ "trace", KEY_TEXT, LATER },
	{ "trace-file", KEY_TEXT, LATER },
	{ "trace-seconds", KEY_TEXT, LATER },
	{ "trace-idle", KEY_TEXT, LATER },
	{ "prefetch", KEY_TEXT, LATER },
	{ "control", KEY_TEXT, LATER },
	{ "upper-garbage", KEY_TEXT, LATER },
};

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

enum { UPPER_DATA, UPPER_INDEX };

static const struct key upper_keys[] = {
	[UPPER_DATA] = { "data", KEY_TEXT, NULL },
	[UPPER_INDEX] = { "index", KEY_TEXT, NULL },
	{ "target", KEY_TEXT, TURBO },
	{ "gzipIndex", KEY_TEXT, TURBO },
};

/* Checked, but without effect: a layer that is a local file is not downloaded. */
static const struct key download_keys[] = {
	{ "enable", KEY_SWITCH, NULL }, /* fetch whole layers in the background */
	{ "delay", KEY_COUNT, NULL }, /* seconds */
	{ "delayExtra", KEY_COUNT, NULL }, /* seconds more, at random */
	{ "maxMBps", KEY_COUNT, NULL }, /* megabytes a second */
	{ "tryCnt", KEY_COUNT, NULL }, /* tries a layer */
	{ "blockSize", KEY_COUNT, NULL }, /* bytes a request */
};

_Static_assert(COUNT_OF(image_keys) <= KEYS_MAX, "more keys than a table may have");

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

static int read_digest(const struct reader *rd, const struct yaml_node *value, char **out)
{
	if (!value)
		return 0;
	if (!digest_is_valid(value->text))
		return keys_fail(&rd->place, value->line, EINVAL,
				 "digest '%.96s' is not 'sha256:' and 64 hex digits in lower case",
				 value->text);
	*out = strdup(value->text);
	return *out ? 0 : no_memory(rd);
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

static int check_download(struct reader *rd, const struct yaml_node *map)
{
	const struct yaml_node *values[COUNT_OF(download_keys)];
	int r;

	if (!map)
		return 0;
	snprintf(rd->place.part, sizeof rd->place.part, "download");
	r = keys_read(&rd->place, map, download_keys, COUNT_OF(download_keys), values);
	rd->place.part[0] = '\0';
	return r;
}

static int read_description(const struct reader *rd, const struct yaml_node *value, char **out)
{
	if (!value)
		return 0;
	if (value->n > DESCRIPTION_MAX)
		return keys_fail(&rd->place, value->key->line, EINVAL,
				 "'description' has %zu bytes, limit is %d", value->n,
				 DESCRIPTION_MAX);
	*out = strdup(value->text);
	return *out ? 0 : no_memory(rd);
}

static int check_acceleration_layer(const struct reader *rd, const struct yaml_node *value)
{
	bool yes;

	if (value && yaml_get_bool(value, &yes) && yes)
		return keys_fail(&rd->place, value->key->line, EINVAL,
				 "'accelerationLayer: true' is not in this version");
	return 0;
}

static int read_image(struct reader *rd, const struct yaml_node *root, struct image_config *c)
{
	const struct yaml_node *values[COUNT_OF(image_keys)];
	int r;

	if (root->kind != YAML_MAP)
		return keys_fail(&rd->place, root->line, EINVAL,
				 "an image config is a map of keys such as 'lowers'");
	r = keys_read(&rd->place, root, image_keys, COUNT_OF(image_keys), values);
	if (r == 0)
		r = check_acceleration_layer(rd, values[IMAGE_ACCELERATION_LAYER]);
	if (r == 0)
		r = check_download(rd, values[IMAGE_DOWNLOAD]);
	if (r == 0)
		r = copy_path(rd, values[IMAGE_RESULT_FILE], &c->result_file);
	if (r == 0)
		r = read_description(rd, values[IMAGE_DESCRIPTION], &c->description);
	if (r == 0)
		r = read_upper(rd, values[IMAGE_UPPER], c);
	if (r == 0)
		r = read_lowers(rd, values[IMAGE_LOWERS], c);
	if (r == 0 && c->lower_count == 0 && !c->upper_data)
		r = keys_fail(&rd->place, root->line, EINVAL,
			      "no layer in 'lowers', and no 'upper'");
	return r;
}

/* Where the config lies: its absolute path, and the folder of that. */
static int locate(const char *path, char **absolute, char **folder, struct err *e)
{
	char *slash;

	*absolute = io_absolute_path(NULL, path);
	if (!*absolute)
		return err_set(e, errno, "%s: its absolute path: %s", path, strerror(errno));
	*folder = strdup(*absolute);
	if (!*folder)
		return err_set(e, ENOMEM, "%s: out of memory", path);
	slash = strrchr(*folder, '/');
	slash[slash == *folder] = '\0'; /* "/" stays */
	return 0;
}

static int parse(const char *path, const char *text, size_t n, struct image_config *c,
		 struct err *e)
{
	AUTO_FREE char *folder = NULL;
	struct yaml_doc *doc;
	int r;

	r = locate(path, &c->path, &folder, e);
	if (r < 0)
		return r;
	r = yaml_doc_parse(path, text, n, &doc, e);
	if (r == 0) {
		struct reader rd = { .place = { .file = path, .e = e }, .folder = folder };

		r = read_image(&rd, yaml_doc_root(doc), c);
		yaml_doc_free(doc);
	}
	return r;
}

int config_parse(const char *path, const char *text, size_t n, struct image_config **out,
		 struct err *e)
{
	struct image_config *c = calloc(1, sizeof *c);
	int r;

	if (!c)
		return err_set(e, ENOMEM, "%s: out of memory", path);
	r = parse(path, text, n, c, e);
	if (r < 0) {
		config_free(c);
		return r;
	}
	*out = c;
	return 0;
}

int config_load(const char *path, struct image_config **out, struct err *e)
{
	AUTO_FREE char *text = NULL;
	size_t n;
	int r;

	if (path[0] == '\0')
		return err_set(e, EINVAL, "the name of the config file is empty");
	r = io_read_file(path, YAML_MAX_INPUT, &text, &n, e);
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	return config_parse(path, text, n, out, e);
}

void config_free(struct image_config *c)
{
	size_t i;

	if (!c)
		return;
	for (i = 0; i < c->lower_count; i++) {
		free(c->lowers[i].file);
		free(c->lowers[i].dir);
		free(c->lowers[i].digest);
	}
	free(c->lowers);
	free(c->upper_data);
	free(c->upper_index);
	free(c->result_file);
	free(c->description);
	free(c->path);
	free(c);
}

/* Where one lower may lie, the first that exists counts; the rest is NULL. */
enum { PLACES_MAX = 4 };

static int list_places(const struct lower_config *lower, char *places[PLACES_MAX], struct err *e)
{
	static const char *const names[] = { "overlaybd.commit", ".commit", "overlaybd.sealed" };
	size_t i, n = 0;

	if (lower->file) {
		places[n] = strdup(lower->file);
		if (!places[n++])
			return err_set(e, ENOMEM, "out of memory");
	}
	for (i = 0; lower->dir && i < COUNT_OF(names); i++, n++) {
		places[n] = io_absolute_path(lower->dir, names[i]);
		if (!places[n])
			return err_set(e, ENOMEM, "out of memory");
	}
	return 0;
}

/* No place holds the file.  Without a digest it could come from nowhere else. */
static int no_local_file(const struct lower_config *lower, char *const places[PLACES_MAX],
			 struct err *e)
{
	char tried[640] = "";
	size_t i, n;

	if (!lower->dir && !lower->digest)
		return err_set(e, ENOENT, "%s: %s", places[0], strerror(ENOENT));
	for (i = 0; i < PLACES_MAX && places[i]; i++) {
		n = strlen(tried);
		snprintf(tried + n, sizeof tried - n, "%s%s", i == 0 ? " (tried " : ", ",
			 places[i]);
	}
	return err_set(e, ENOENT, "no local file%s%s%s", tried, i > 0 ? ")" : "",
		       lower->digest ? "; fetching layers from a registry is not in this version"
				     : "");
}

/* Moves the first place that exists to *out. */
static int find_place(char *places[PLACES_MAX], char **out, struct err *e)
{
	struct stat st;
	size_t i;

	for (i = 0; i < PLACES_MAX && places[i]; i++) {
		if (stat(places[i], &st) == 0) {
			*out = TAKE_PTR(places[i]);
			return 0;
		}
		if (errno != ENOENT && errno != ENOTDIR)
			return err_set(e, errno, "%s: %s", places[i], strerror(errno));
	}
	return 0;
}

int config_find_lower(const struct lower_config *lower, char **out, struct err *e)
{
	char *places[PLACES_MAX] = { NULL }, *found = NULL;
	size_t i;
	int r;

	r = list_places(lower, places, e);
	if (r == 0)
		r = find_place(places, &found, e);
	if (r == 0 && !found)
		r = no_local_file(lower, places, e);
	for (i = 0; i < PLACES_MAX; i++)
		free(places[i]);
	if (r == 0)
		*out = found;
	return r;
}

static int refuse_same(const struct stat *st, const char *path, const char *own, struct err *e)
{
	struct stat other;

	if (stat(own, &other) < 0 || other.st_dev != st->st_dev || other.st_ino != st->st_ino)
		return 0;
	return err_set(e, EINVAL, "'%s' is a file of the image: %s", path, own);
}

int config_refuse_own_file(const struct image_config *c, const char *path, struct err *e)
{
	struct stat st;
	size_t i;
	int r;

	if (stat(path, &st) < 0)
		return 0; /* new, or whoever writes it says what is wrong */
	r = refuse_same(&st, path, c->path, e);
	if (r == 0 && c->upper_data)
		r = refuse_same(&st, path, c->upper_data, e);
	if (r == 0 && c->upper_index)
		r = refuse_same(&st, path, c->upper_index, e);
	for (i = 0; r == 0 && i < c->lower_count; i++) {
		AUTO_FREE char *file = NULL;

		if (config_find_lower(&c->lowers[i], &file, NULL) == 0)
			r = refuse_same(&st, path, file, e);
	}
	return r;
}
