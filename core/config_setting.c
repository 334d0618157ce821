/* SPDX-License-Identifier: Apache-2.0 */
/* config_setting.c - the table and its parsers, see config_setting.h. */
#include "core/config_setting.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/io.h"
#include "core/base/text.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

#define DIGITS "0123456789"
#define PLATFORM_CHARACTERS "abcdefghijklmnopqrstuvwxyz._-" DIGITS

enum { DOWNLOAD_COUNT_MAX = 1000000, DOWNLOAD_BLOCK_MAX = 1 << 30 };

/* ---- one parser a value; `field` is the setting's place in struct fetch_settings ---- */

/* Puts text, which is the field's then, in place of what is there.  NULL: no memory. */
static int replace(void *field, char *text, struct err *e)
{
	char **old = field;

	if (!text)
		return err_set(e, ENOMEM, "out of memory");
	if (*old)
		explicit_bzero(*old, strlen(*old));
	free(*old);
	*old = text;
	return 0;
}

static int parse_path(struct config_level *level, const char *value, void *field, struct err *e)
{
	char *path = io_absolute_path(level->folder, value);

	if (!path && errno != ENOMEM)
		return err_set(e, errno, "'%s': its absolute path: %s", value, strerror(errno));
	return replace(field, path, e);
}

static int parse_cache_dir(struct config_level *level, const char *value, void *field,
			   struct err *e)
{
	char **dir = field;

	if (strcmp(value, "none") != 0)
		return parse_path(level, value, field, e);
	free(*dir);
	*dir = NULL;
	return 0;
}

static int parse_stats(struct config_level *level, const char *value, void *field, struct err *e)
{
	return strcmp(value, "-") == 0 ? replace(field, strdup(value), e)
				       : parse_path(level, value, field, e);
}

/* Decimal digits, and then *end.  False when there are none, or too many for 64 bits. */
static bool read_number(const char *value, uint64_t *out, const char **end)
{
	size_t digits = strspn(value, DIGITS);

	errno = 0;
	*out = strtoull(value, NULL, 10);
	*end = value + digits;
	return digits > 0 && errno == 0;
}

static int parse_count(const char *value, unsigned min, unsigned max, unsigned *out,
		       const char *unit, struct err *e)
{
	const char *end;
	uint64_t n;

	if (!read_number(value, &n, &end) || *end != '\0' || n < min || n > max)
		return err_set(e, EINVAL, "'%.64s' is not a whole number%s from %u to %u", value,
			       unit, min, max);
	*out = (unsigned)n;
	return 0;
}

static int parse_connections(struct config_level *level, const char *value, void *field,
			     struct err *e)
{
	return parse_count(value, 1, FETCH_CONNECTIONS_MAX, field, "", e);
}

static int parse_timeout(struct config_level *level, const char *value, void *field, struct err *e)
{
	return parse_count(value, 0, CONFIG_SETTING_TIMEOUT, field, " of seconds", e);
}

static int parse_size(struct config_level *level, const char *value, void *field, struct err *e)
{
	static const char units[] = "KMGT";
	const char *end, *unit;
	unsigned shift = 0;
	uint64_t n;

	if (strcmp(value, "none") == 0)
		value = "0";
	if (!read_number(value, &n, &end))
		end = "?";
	unit = *end != '\0' ? strchr(units, *end & ~0x20) : NULL; /* capital or small */
	if (unit && *unit != '\0') {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
	}
	if (*end != '\0' || n > (uint64_t)INT64_MAX >> shift)
		return err_set(e, EINVAL,
			       "'%.64s' is neither a size such as 512M or 10G nor 'none'", value);
	*(uint64_t *)field = n << shift;
	return 0;
}

static int parse_verify(struct config_level *level, const char *value, void *field, struct err *e)
{
	const char *end;
	uint64_t n;

	if (strcmp(value, "always") == 0) {
		n = 0;
	} else if (strcmp(value, "once") == 0) {
		n = FETCH_VERIFY_ONCE;
	} else if (!read_number(value, &n, &end) || *end != '\0' || n > CONFIG_SETTING_TIMEOUT) {
		return err_set(
			e, EINVAL,
			"'%.64s' is neither 'always', 'once' nor a number of seconds up to %d",
			value, CONFIG_SETTING_TIMEOUT);
	}
	*(unsigned *)field = (unsigned)n;
	return 0;
}

static int parse_switch(struct config_level *level, const char *value, void *field, struct err *e)
{
	bool yes = strcmp(value, "true") == 0;

	if (!yes && strcmp(value, "false") != 0)
		return err_set(e, EINVAL, "'%.64s' is neither true nor false", value);
	*(bool *)field = yes;
	return 0;
}

static bool begins_with(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* Whether all bytes are printable ASCII from `least` on. */
static bool is_ascii_from(char least, const char *text)
{
	for (; *text >= least && *text <= '~'; text++)
		;
	return *text == '\0';
}

/* Whether text begins with a host, after a user and password perhaps. */
static bool has_host(const char *text)
{
	size_t n = strcspn(text, "/?#");
	const char *at = memrchr(text, '@', n);
	const char *host = at ? at + 1 : text;

	return host < text + n && *host != ':';
}

static bool is_http(const char *value)
{
	const char *host = strstr(value, "://");

	return (begins_with(value, "http://") || begins_with(value, "https://")) &&
	       is_ascii_from('!', value) && has_host(host + 3);
}

/* A parameter is seen by everybody who lists processes.  Any '@' counts: one that a password in
 * front of it keeps from being where it should be holds one all the same. */
static int refuse_password(const struct config_level *level, const char *value, struct err *e)
{
	if (!level->is_parameter || !strchr(value, '@'))
		return 0;
	return err_set(e, EINVAL,
		       "an address with '@' in it would show a user or password in the "
		       "process list: say it in a config file");
}

/* Adds a copy of a value to one of the lists. */
static int append(char ***list, size_t *count, size_t max, const char *what, const char *value,
		  struct err *e)
{
	char **grown, *copy;

	if (*count == max)
		return err_set(e, EINVAL, "more than %zu %s", max, what);
	copy = strdup(value);
	grown = copy ? realloc(*list, (*count + 1) * sizeof *grown) : NULL;
	if (!grown) {
		free(copy);
		return err_set(e, ENOMEM, "out of memory");
	}
	*list = grown;
	grown[(*count)++] = copy;
	return 0;
}

/* The first mirror of a level takes the place of those of the levels below. */
static void begin_mirrors(struct config_level *level, struct fetch_settings *s)
{
	for (; !level->has_mirrors && s->mirror_count > 0; s->mirror_count--) {
		char *last = s->mirrors[s->mirror_count - 1];

		explicit_bzero(last, strlen(last));
		free(last);
	}
	level->has_mirrors = true;
}

/* `field`: all settings, as a list is more than one field. */
static int parse_mirror(struct config_level *level, const char *value, void *field, struct err *e)
{
	struct fetch_settings *s = field;
	int r = refuse_password(level, value, e);

	if (r < 0)
		return r;
	if (!is_http(value) || strpbrk(value, "?#"))
		return err_set(e, EINVAL,
			       "an address with http:// or https://, a host, and neither '?' nor "
			       "'#' is needed");
	begin_mirrors(level, s);
	return append(&s->mirrors, &s->mirror_count, CONFIG_SETTING_MIRRORS, "mirrors", value, e);
}

static int parse_trace(struct config_level *level, const char *value, void *field, struct err *e)
{
	static const char *const modes[] = {
		[FETCH_TRACE_AUTO] = "auto",
		[FETCH_TRACE_RECORD] = "record",
		[FETCH_TRACE_REPLAY] = "replay",
		[FETCH_TRACE_OFF] = "off",
	};
	size_t i;

	for (i = 0; i < COUNT_OF(modes); i++)
		if (strcmp(modes[i], value) == 0) {
			*(enum fetch_trace_mode *)field = (enum fetch_trace_mode)i;
			return 0;
		}
	return err_set(e, EINVAL, "'%.64s' is neither auto nor record nor replay nor off", value);
}

static int parse_trace_time(struct config_level *level, const char *value, void *field,
			    struct err *e)
{
	return parse_count(value, 1, FETCH_TRACE_SECONDS_MAX, field, " of seconds", e);
}

/* Those of a level take the place of those of the levels below. */
static void begin_prefetch(struct config_level *level, struct fetch_settings *s)
{
	for (; !level->has_prefetch && s->prefetch_count > 0; s->prefetch_count--)
		free(s->prefetch[s->prefetch_count - 1]);
	level->has_prefetch = true;
}

/* `field`: all settings. */
static int parse_prefetch(struct config_level *level, const char *value, void *field, struct err *e)
{
	struct fetch_settings *s = field;

	if (value[0] != '/')
		return err_set(e, EINVAL,
			       "'%.64s' is no absolute path of a file or folder in the image",
			       value);
	begin_prefetch(level, s);
	return append(&s->prefetch, &s->prefetch_count, CONFIG_SETTING_PATHS, "paths", value, e);
}

/* As libcurl takes it: without a scheme it is an HTTP proxy. */
static int parse_proxy(struct config_level *level, const char *value, void *field, struct err *e)
{
	static const char *const schemes[] = { "http",	  "https",  "socks4",
					       "socks4a", "socks5", "socks5h" };
	const char *mark = strstr(value, "://"), *host = mark ? mark + 3 : value;
	size_t n = mark ? (size_t)(mark - value) : 0, i;
	int r = refuse_password(level, value, e);

	if (r < 0)
		return r;
	for (i = 0; mark && i < COUNT_OF(schemes); i++)
		if (strlen(schemes[i]) == n && memcmp(schemes[i], value, n) == 0)
			break;
	if (i == COUNT_OF(schemes) || !is_ascii_from('!', value) || !has_host(host))
		return err_set(e, EINVAL,
			       "an address such as http://HOST:PORT is needed; there are http, "
			       "https, socks4, socks4a, socks5 and socks5h");
	return replace(field, strdup(value), e);
}

static int parse_credentials(struct config_level *level, const char *value, void *field,
			     struct err *e)
{
	int r;

	if (begins_with(value, "unix:/"))
		return replace(field, strdup(value), e);
	if (!begins_with(value, "unix:") && !strstr(value, "://"))
		return parse_path(level, value, field, e);
	r = refuse_password(level, value, e);
	if (r < 0)
		return r;
	if (!is_http(value))
		return err_set(e, EINVAL,
			       "a file, or an address such as http://HOST, https://HOST or "
			       "unix:/PATH is needed");
	return replace(field, strdup(value), e);
}

static int parse_user(struct config_level *level, const char *value, void *field, struct err *e)
{
	if (strchr(value, ':') || !text_is_plain(value))
		return err_set(e, EINVAL, "a name holds neither ':' nor a control character");
	return replace(field, strdup(value), e);
}

static int parse_password(struct config_level *level, const char *value, void *field, struct err *e)
{
	const char *p;

	for (p = value; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return err_set(e, EINVAL,
				       "it holds a line break or another control character");
	return replace(field, strdup(value), e);
}

static int parse_platform(struct config_level *level, const char *value, void *field, struct err *e)
{
	size_t parts = 0, n;
	const char *p;

	for (p = value;; p += n + 1) {
		n = strspn(p, PLATFORM_CHARACTERS);
		if (n == 0)
			break;
		parts++;
		if (p[n] != '/')
			break;
	}
	if (n == 0 || p[n] != '\0' || parts < 2 || parts > 3)
		return err_set(e, EINVAL,
			       "'%.64s' is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as "
			       "linux/arm64",
			       value);
	return replace(field, strdup(value), e);
}

/* A header line. */
static int parse_user_agent(struct config_level *level, const char *value, void *field,
			    struct err *e)
{
	if (!is_ascii_from(' ', value))
		return err_set(e, EINVAL, "only printable ASCII characters can be sent");
	return replace(field, strdup(value), e);
}

/* ---- the table ---- */

#define AT(field) offsetof(struct fetch_settings, field)

static const struct setting {
	const char *name;
	size_t at; /* of the field */
	int (*parse)(struct config_level *level, const char *value, void *field, struct err *e);
} settings[] = {
	{ "acceleration-paths", AT(trace.follows_paths), parse_switch },
	{ "cache-dir", AT(cache_dir), parse_cache_dir },
	{ "cache-keep-free", AT(cache_keep_free), parse_size },
	{ "cache-limit", AT(cache_limit), parse_size },
	{ "cainfo", AT(cainfo), parse_path },
	{ "client-cert", AT(client_cert), parse_path },
	{ "client-key", AT(client_key), parse_path },
	{ "connections", AT(connections), parse_connections },
	{ "credentials", AT(credentials), parse_credentials },
	{ "download", AT(download.enable), parse_switch },
	{ "insecure", AT(insecure), parse_switch },
	{ "mirror", 0, parse_mirror },
	{ "password", AT(password), parse_password },
	{ "platform", AT(platform), parse_platform },
	{ "prefetch", 0, parse_prefetch },
	{ "proxy", AT(proxy), parse_proxy },
	{ "stats", AT(stats), parse_stats },
	{ "timeout", AT(timeout), parse_timeout },
	{ "trace", AT(trace.mode), parse_trace },
	{ "trace-file", AT(trace.file), parse_path },
	{ "trace-idle", AT(trace.idle), parse_trace_time },
	{ "trace-seconds", AT(trace.seconds), parse_trace_time },
	{ "user", AT(user), parse_user },
	{ "user-agent", AT(user_agent), parse_user_agent },
	{ "verify-cache", AT(verify_cache), parse_verify },
};

_Static_assert(COUNT_OF(settings) == CONFIG_SETTING_COUNT, "the header counts the table's rows");

const char *config_setting_name(size_t i)
{
	return settings[i].name;
}

int config_setting_find(const char *name)
{
	int i;

	for (i = 0; i < CONFIG_SETTING_COUNT; i++)
		if (strcmp(settings[i].name, name) == 0)
			return i;
	return -1;
}

bool config_setting_is_list(size_t i)
{
	return settings[i].parse == parse_mirror || settings[i].parse == parse_prefetch;
}

int config_setting_apply(struct config_level *level, size_t i, const char *value,
			 struct fetch_settings *s, struct err *e)
{
	size_t max = settings[i].parse == parse_password ? (size_t)FETCH_PASSWORD_MAX
							 : (size_t)CONFIG_SETTING_MAX;

	if (value[0] == '\0')
		return err_set(e, EINVAL, "it is empty");
	if (strlen(value) > max)
		return err_set(e, EINVAL, "%zu bytes, more than the limit of %zu", strlen(value),
			       max);
	return settings[i].parse(level, value, (char *)s + settings[i].at, e);
}

int config_setting_complete(const struct fetch_settings *s, struct err *e)
{
	if (!s->user != !s->password)
		return err_set(e, EINVAL, "'%s' is given without '%s'",
			       s->user ? "user" : "password", s->user ? "password" : "user");
	if (s->client_key && !s->client_cert)
		return err_set(e, EINVAL, "'client-key' is given without 'client-cert'");
	return 0;
}

/* ---- values in a config file ---- */

void config_setting_keys(struct key keys[CONFIG_SETTING_COUNT])
{
	size_t i;

	for (i = 0; i < CONFIG_SETTING_COUNT; i++)
		keys[i] = (struct key){ settings[i].name, KEY_ANY, NULL };
}

int config_setting_read_as(const struct keys_place *place, struct config_level *level,
			   const struct yaml_node *node, const char *name, const char *text,
			   struct fetch_settings *s)
{
	struct err cause;
	int r = text ? config_setting_apply(level, (size_t)config_setting_find(name), text, s,
					    &cause)
		     : 0;

	return r < 0 ? keys_fail(place, node->line, -r, "%s: %s", name, cause.msg) : 0;
}

static int read_scalar(const struct keys_place *place, struct config_level *level,
		       const struct yaml_node *node, const char *name, struct fetch_settings *s)
{
	if (node->kind != YAML_SCALAR)
		return keys_fail(place, node->line, EINVAL,
				 "'%s' must be a text, a number, true "
				 "or false",
				 name);
	if (strlen(node->text) != node->n)
		return keys_fail(place, node->line, EINVAL, "'%s' holds a NUL", name);
	return config_setting_read_as(place, level, node, name, node->text, s);
}

static int read_list(const struct keys_place *place, struct config_level *level,
		     const struct yaml_node *list, size_t i, struct fetch_settings *s)
{
	const struct yaml_node *node;
	int r = 0;

	if (settings[i].parse == parse_mirror) /* an empty list means none */
		begin_mirrors(level, s);
	else
		begin_prefetch(level, s);
	for (node = list->first; r == 0 && node; node = node->next)
		r = read_scalar(place, level, node, settings[i].name, s);
	return r;
}

enum { ENABLE, DELAY, DELAY_EXTRA, MAX_MBPS, TRY_COUNT, BLOCK_SIZE };

static const struct key download_keys[] = {
	[ENABLE] = { "enable", KEY_SWITCH, NULL },
	[DELAY] = { "delay", KEY_COUNT, NULL },
	[DELAY_EXTRA] = { "delayExtra", KEY_COUNT, NULL },
	[MAX_MBPS] = { "maxMBps", KEY_COUNT, NULL },
	[TRY_COUNT] = { "tryCnt", KEY_COUNT, NULL },
	[BLOCK_SIZE] = { "blockSize", KEY_COUNT, NULL },
};

static int read_count(const struct keys_place *place, const struct yaml_node *value, uint64_t max,
		      uint64_t *out)
{
	uint64_t n;

	if (!value)
		return 0;
	(void)yaml_get_u64(value, &n); /* checked by keys_read */
	if (n > max)
		return keys_fail(place, value->line, EINVAL,
				 "'%s' is %" PRIu64 ", more than the limit of %" PRIu64,
				 value->key->text, n, max);
	*out = n;
	return 0;
}

static int read_download(struct keys_place *place, const struct yaml_node *map,
			 struct fetch_download *d)
{
	uint64_t counts[] = { [DELAY] = d->delay,
			      [DELAY_EXTRA] = d->delay_extra,
			      [MAX_MBPS] = d->max_mbps,
			      [TRY_COUNT] = d->tries,
			      [BLOCK_SIZE] = d->block_size };
	const struct yaml_node *values[COUNT_OF(download_keys)];
	size_t i;
	int r;

	snprintf(place->part, sizeof place->part, "download");
	r = keys_read(place, map, download_keys, COUNT_OF(download_keys), values);
	for (i = DELAY; r == 0 && i <= BLOCK_SIZE; i++)
		r = read_count(place, values[i],
			       i == BLOCK_SIZE ? DOWNLOAD_BLOCK_MAX : DOWNLOAD_COUNT_MAX,
			       &counts[i]);
	place->part[0] = '\0';
	if (r < 0)
		return r;
	if (values[ENABLE])
		(void)yaml_get_bool(values[ENABLE], &d->enable);
	d->delay = (unsigned)counts[DELAY];
	d->delay_extra = (unsigned)counts[DELAY_EXTRA];
	d->max_mbps = (unsigned)counts[MAX_MBPS];
	/* Writers of this form have zeroes where they say nothing. */
	if (counts[TRY_COUNT] > 0)
		d->tries = (unsigned)counts[TRY_COUNT];
	if (counts[BLOCK_SIZE] > 0)
		d->block_size = counts[BLOCK_SIZE];
	return 0;
}

int config_setting_read(struct keys_place *place, struct config_level *level,
			const struct yaml_node *const values[CONFIG_SETTING_COUNT],
			struct fetch_settings *s)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < CONFIG_SETTING_COUNT; i++) {
		const struct yaml_node *value = values[i];

		if (!value)
			continue;
		if (value->kind == YAML_LIST && config_setting_is_list(i))
			r = read_list(place, level, value, i, s);
		else if (value->kind == YAML_MAP && strcmp(settings[i].name, "download") == 0)
			r = read_download(place, value, &s->download);
		else
			r = read_scalar(place, level, value, settings[i].name, s);
	}
	return r;
}
