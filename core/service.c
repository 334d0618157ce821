/* SPDX-License-Identifier: Apache-2.0 */
/* service.c - from the reference's words to our settings, see service.h. */
#include "core/service.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/keys.h"
#include "core/base/scope.h"
#include "core/base/yaml.h"
#include "core/config_setting.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	CACHE_DIR_OLD,
	CACHE_SIZE_OLD,
	CACHE,
	CREDENTIAL_FILE,
	CREDENTIAL,
	P2P,
	CERT,
	USER_AGENT,
	REFERENCE_COUNT,
};

static const struct key reference_keys[REFERENCE_COUNT] = {
	[CACHE_DIR_OLD] = { "registryCacheDir", KEY_TEXT, NULL },
	[CACHE_SIZE_OLD] = { "registryCacheSizeGB", KEY_COUNT, NULL },
	[CACHE] = { "cacheConfig", KEY_MAP, NULL },
	[CREDENTIAL_FILE] = { "credentialFilePath", KEY_TEXT, NULL },
	[CREDENTIAL] = { "credentialConfig", KEY_MAP, NULL },
	[P2P] = { "p2pConfig", KEY_MAP, NULL },
	[CERT] = { "certConfig", KEY_MAP, NULL },
	[USER_AGENT] = { "userAgent", KEY_TEXT, NULL },
};

_Static_assert(REFERENCE_COUNT + CONFIG_SETTING_COUNT <= KEYS_MAX, "more keys than a table holds");

enum { CACHE_DIR, CACHE_SIZE };

static const struct key cache_keys[] = {
	[CACHE_DIR] = { "cacheDir", KEY_TEXT, NULL },
	[CACHE_SIZE] = { "cacheSizeGB", KEY_COUNT, NULL },
};

enum { CREDENTIAL_MODE, CREDENTIAL_PATH };

static const struct key credential_keys[] = {
	[CREDENTIAL_MODE] = { "mode", KEY_TEXT, NULL },
	[CREDENTIAL_PATH] = { "path", KEY_TEXT, NULL },
	{ "timeout", KEY_COUNT, NULL }, /* without effect: ours is fixed */
};

enum { P2P_ENABLE, P2P_ADDRESS };

static const struct key p2p_keys[] = {
	[P2P_ENABLE] = { "enable", KEY_SWITCH, NULL },
	[P2P_ADDRESS] = { "address", KEY_TEXT, NULL },
};

enum { CERT_FILE, CERT_KEY };

static const struct key cert_keys[] = {
	[CERT_FILE] = { "certFile", KEY_TEXT, NULL },
	[CERT_KEY] = { "keyFile", KEY_TEXT, NULL },
};

struct reader {
	struct keys_place place;
	struct config_level level;
	struct fetch_settings *to;
};

/* Sets our setting `name` to what the reference's key says. */
static int set(struct reader *rd, const struct yaml_node *value, const char *name)
{
	return value ? config_setting_read_as(&rd->place, &rd->level, value, name, value->text,
					      rd->to)
		     : 0;
}

/* The reference counts in GiB. */
static int set_gib(struct reader *rd, const struct yaml_node *value)
{
	char size[32];

	if (!value)
		return 0;
	snprintf(size, sizeof size, "%.20sG", value->text);
	return config_setting_read_as(&rd->place, &rd->level, value, "cache-limit", size, rd->to);
}

/* An address to which the reference's users need not write the scheme. */
static int set_address(struct reader *rd, const struct yaml_node *value, const char *name)
{
	AUTO_FREE char *address = NULL;

	if (strstr(value->text, "://") || strncmp(value->text, "unix:", 5) == 0)
		return set(rd, value, name);
	if (asprintf(&address, "http://%s", value->text) < 0) {
		address = NULL; /* left undefined by the failed call */
		return keys_fail(&rd->place, value->line, ENOMEM, "out of memory");
	}
	return config_setting_read_as(&rd->place, &rd->level, value, name, address, rd->to);
}

static int read_cache(struct reader *rd, const struct yaml_node *const *values)
{
	int r = set(rd, values[CACHE_DIR], "cache-dir");

	return r < 0 ? r : set_gib(rd, values[CACHE_SIZE]);
}

static int read_credential(struct reader *rd, const struct yaml_node *const *values)
{
	const struct yaml_node *mode = values[CREDENTIAL_MODE], *path = values[CREDENTIAL_PATH];
	bool http = mode && strcmp(mode->text, "http") == 0;

	if (mode && !http && strcmp(mode->text, "file") != 0)
		return keys_fail(&rd->place, mode->line, EINVAL,
				 "'mode' is '%.64s', neither 'file' nor 'http'", mode->text);
	return path && http ? set_address(rd, path, "credentials") : set(rd, path, "credentials");
}

/* Without a path it would be taken for a mirror that stands for the registry. */
static bool has_path(const char *address)
{
	const char *mark = strstr(address, "://");
	const char *slash = strchr(mark ? mark + 3 : address, '/');

	return slash && slash[strspn(slash, "/")] != '\0';
}

static int read_p2p(struct reader *rd, const struct yaml_node *const *values)
{
	const struct yaml_node *address = values[P2P_ADDRESS];
	bool enable = false;

	if (values[P2P_ENABLE])
		(void)yaml_get_bool(values[P2P_ENABLE], &enable);
	if (!enable || !address)
		return 0;
	if (!has_path(address->text))
		return keys_fail(&rd->place, address->line, EINVAL,
				 "'address' has no path, as in localhost:9731/accelerator; one "
				 "that stands for the registry is a 'mirror'");
	return set_address(rd, address, "mirror");
}

static int read_cert(struct reader *rd, const struct yaml_node *const *values)
{
	int r = set(rd, values[CERT_FILE], "client-cert");

	return r < 0 ? r : set(rd, values[CERT_KEY], "client-key");
}

enum { MAP_KEYS_MAX = 4 };

/* A map of the reference within the file. */
static int read_map(struct reader *rd, const struct yaml_node *map, const struct key *keys,
		    size_t n, int (*read)(struct reader *rd, const struct yaml_node *const *values))
{
	const struct yaml_node *values[MAP_KEYS_MAX];
	int r;

	if (!map)
		return 0;
	snprintf(rd->place.part, sizeof rd->place.part, "%s", map->key->text);
	r = keys_read(&rd->place, map, keys, n, values);
	if (r == 0)
		r = read(rd, values);
	rd->place.part[0] = '\0';
	return r;
}

/* What comes later counts. */
static int read_reference(struct reader *rd, const struct yaml_node *const values[REFERENCE_COUNT])
{
	int r = set(rd, values[CACHE_DIR_OLD], "cache-dir");

	if (r == 0)
		r = set_gib(rd, values[CACHE_SIZE_OLD]);
	if (r == 0)
		r = read_map(rd, values[CACHE], cache_keys, COUNT_OF(cache_keys), read_cache);
	if (r == 0)
		r = set(rd, values[CREDENTIAL_FILE], "credentials");
	if (r == 0)
		r = read_map(rd, values[CREDENTIAL], credential_keys, COUNT_OF(credential_keys),
			     read_credential);
	if (r == 0)
		r = read_map(rd, values[P2P], p2p_keys, COUNT_OF(p2p_keys), read_p2p);
	if (r == 0)
		r = read_map(rd, values[CERT], cert_keys, COUNT_OF(cert_keys), read_cert);
	return r < 0 ? r : set(rd, values[USER_AGENT], "user-agent");
}

static int read_file(struct reader *rd, const struct yaml_node *root)
{
	const struct yaml_node *values[REFERENCE_COUNT + CONFIG_SETTING_COUNT];
	struct key keys[REFERENCE_COUNT + CONFIG_SETTING_COUNT];
	int r;

	if (root->kind != YAML_MAP)
		return keys_fail(&rd->place, root->line, EINVAL,
				 "a service file is a map of keys such as 'cacheConfig'");
	memcpy(keys, reference_keys, sizeof reference_keys);
	config_setting_keys(keys + REFERENCE_COUNT);
	r = keys_read(&rd->place, root, keys, COUNT_OF(keys), values);
	if (r == 0)
		r = read_reference(rd, values);
	return r < 0 ? r
		     : config_setting_read(&rd->place, &rd->level, values + REFERENCE_COUNT,
					   rd->to);
}

int service_parse(const char *path, const char *text, size_t n, struct fetch_settings *s,
		  struct err *e)
{
	AUTO_FREE char *folder = io_parent(path);
	struct reader rd = { .place = { .file = path, .unknown = KEYS_IGNORE, .e = e },
			     .level.folder = folder,
			     .to = s };
	struct yaml_doc *doc;
	int r;

	if (!folder)
		return err_set(e, ENOMEM, "%s: out of memory", path);
	r = yaml_doc_parse(path, text, n, &doc, e);
	if (r < 0)
		return r;
	r = read_file(&rd, yaml_doc_root(doc));
	yaml_doc_free(doc);
	return r;
}

int service_load(const char *path, struct fetch_settings *s, struct err *e)
{
	AUTO_FREE char *absolute = NULL, *text = NULL;
	size_t n;
	int r;

	if (path && strcmp(path, "none") == 0)
		return 0;
	absolute = io_absolute_path(NULL, path ? path : SERVICE_DEFAULT);
	if (!absolute)
		return err_set(e, errno, "service file %s: %s", path, strerror(errno));
	r = io_read_file(absolute, YAML_MAX_INPUT, &text, &n, e);
	if (r == -ENOENT && !path)
		return 0;
	if (r < 0)
		return err_wrap(e, r, "service file %s", absolute);
	return service_parse(absolute, text, n, s, e);
}
