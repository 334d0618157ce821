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

enum { CREDENTIAL_MODE, CREDENTIAL_PATH, CREDENTIAL_CA, CREDENTIAL_CERT, CREDENTIAL_KEY };

static const struct key credential_keys[] = {
	[CREDENTIAL_MODE] = { "mode", KEY_TEXT, NULL },
	[CREDENTIAL_PATH] = { "path", KEY_TEXT, NULL },
	[CREDENTIAL_CA] = { "server_ca_path", KEY_TEXT, NULL },
	[CREDENTIAL_CERT] = { "client_cert_path", KEY_TEXT, NULL },
	[CREDENTIAL_KEY] = { "client_key_path", KEY_TEXT, NULL },
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

static int no_memory(struct reader *rd, const struct yaml_node *value)
{
	return keys_fail(&rd->place, value->line, ENOMEM, "out of memory");
}

/* An address to which the reference's users need not write the scheme. */
static int set_address(struct reader *rd, const struct yaml_node *value, const char *scheme,
		       const char *name)
{
	AUTO_FREE char *address = NULL;

	if (strstr(value->text, "://") || strncmp(value->text, "unix:", 5) == 0)
		return set(rd, value, name);
	if (asprintf(&address, "%s://%s", scheme, value->text) < 0) {
		address = NULL; /* left undefined by the failed call */
		return no_memory(rd, value);
	}
	return config_setting_read_as(&rd->place, &rd->level, value, name, address, rd->to);
}

static int read_cache(struct reader *rd, const struct yaml_node *const *values)
{
	int r = set(rd, values[CACHE_DIR], "cache-dir");

	return r < 0 ? r : set_gib(rd, values[CACHE_SIZE]);
}

/* A file's path, into a field of the settings' own. */
static int set_path(struct reader *rd, const struct yaml_node *value, char **field)
{
	if (!value)
		return 0;
	free(*field);
	*field = io_absolute_path(rd->level.folder, value->text);
	return *field ? 0 : no_memory(rd, value);
}

static int set_socket(struct reader *rd, const struct yaml_node *value)
{
	AUTO_FREE char *path = io_absolute_path(rd->level.folder, value->text);
	AUTO_FREE char *address = NULL;

	if (!path || asprintf(&address, "unix:%s", path) < 0) {
		address = NULL; /* left undefined by the failed call */
		return no_memory(rd, value);
	}
	return config_setting_read_as(&rd->place, &rd->level, value, "credentials", address,
				      rd->to);
}

static int set_helper(struct reader *rd, const struct yaml_node *const *values)
{
	struct fetch_credentials *c = &rd->to->service;
	int r = set_address(rd, values[CREDENTIAL_PATH], "https", "credentials");

	if (r == 0)
		r = set_path(rd, values[CREDENTIAL_CA], &c->ca);
	if (r == 0)
		r = set_path(rd, values[CREDENTIAL_CERT], &c->cert);
	if (r == 0)
		r = set_path(rd, values[CREDENTIAL_KEY], &c->key);
	if (r < 0)
		return r;
	free(c->helper);
	c->helper = strdup(rd->to->credentials);
	return c->helper ? 0 : no_memory(rd, values[CREDENTIAL_PATH]);
}

/* One way of the machine to get credentials that we do not know must not keep its public images
 * from being read: those that need a login are told. */
static int set_fault(struct reader *rd, const struct yaml_node *node, const char *what)
{
	struct fetch_settings *s = rd->to;

	free(s->credentials);
	s->credentials = NULL;
	free(s->service.fault);
	if (asprintf(&s->service.fault,
		     "%s:%u: credentialConfig: %s; there are the modes file, http, https and uds",
		     rd->place.file, node->line, what) < 0) {
		s->service.fault = NULL;
		return no_memory(rd, node);
	}
	return 0;
}

static int read_credential(struct reader *rd, const struct yaml_node *const *values)
{
	const struct yaml_node *mode = values[CREDENTIAL_MODE], *path = values[CREDENTIAL_PATH];
	const char *name = mode ? mode->text : "file";
	char what[128];

	if (strcmp(name, "file") != 0 && strcmp(name, "http") != 0 && strcmp(name, "https") != 0 &&
	    strcmp(name, "uds") != 0) {
		snprintf(what, sizeof what, "mode '%.64s' is not known", name);
		return set_fault(rd, mode, what);
	}
	if (!path)
		return 0;
	if (strcmp(name, "http") == 0)
		return set_address(rd, path, "http", "credentials");
	if (strcmp(name, "https") == 0)
		return set_helper(rd, values);
	return strcmp(name, "uds") == 0 ? set_socket(rd, path) : set(rd, path, "credentials");
}

/* Without a path it would be taken for a mirror that stands for the registry. */
static bool has_path(const char *address)
{
	const char *mark = strstr(address, "://");
	const char *slash = strchr(mark ? mark + 3 : address, '/');

	return slash && slash[strspn(slash, "/")] != '\0';
}

/* As the reference has it. */
#define P2P_DEFAULT "http://localhost:9731/accelerator"

static int read_p2p(struct reader *rd, const struct yaml_node *const *values)
{
	const struct yaml_node *address = values[P2P_ADDRESS];
	bool enable = false;

	if (values[P2P_ENABLE])
		(void)yaml_get_bool(values[P2P_ENABLE], &enable);
	if (!enable)
		return 0;
	if (!address)
		return config_setting_read_as(&rd->place, &rd->level, values[P2P_ENABLE], "mirror",
					      P2P_DEFAULT, rd->to);
	if (!has_path(address->text))
		return keys_fail(&rd->place, address->line, EINVAL,
				 "'address' has no path, as in localhost:9731/accelerator; one "
				 "that stands for the registry is a 'mirror'");
	return set_address(rd, address, "http", "mirror");
}

static int read_cert(struct reader *rd, const struct yaml_node *const *values)
{
	int r = set(rd, values[CERT_FILE], "client-cert");

	return r < 0 ? r : set(rd, values[CERT_KEY], "client-key");
}

enum { MAP_KEYS_MAX = 6 };

_Static_assert(COUNT_OF(credential_keys) <= MAP_KEYS_MAX, "more keys than a map's values");

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
