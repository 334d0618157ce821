/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c - key tables, see keys.h. */
#include "core/base/keys.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/nearest.h"

static const char *const want_names[] = {
	[KEY_TEXT] = "text (in quotes when it looks like a number)",
	[KEY_COUNT] = "a whole number, not negative and below 2^64",
	[KEY_SWITCH] = "true or false",
	[KEY_LIST] = "a list",
	[KEY_MAP] = "a map of keys",
	[KEY_ANY] = "", /* never refused */
};

int keys_fail(const struct keys_place *place, unsigned line, int code, const char *fmt, ...)
{
	char cause[sizeof place->e->msg];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(cause, sizeof cause, fmt, ap);
	va_end(ap);
	r = err_set(place->e, code, "%s", cause);
	if (place->part[0] != '\0')
		err_wrap(place->e, r, "%s", place->part);
	return err_wrap(place->e, r, "%s:%u", place->file, line);
}

static int unknown_key(const struct keys_place *place, const struct key *keys, size_t n,
		       const struct yaml_node *key)
{
	const char *names[KEYS_MAX], *meant;
	struct err text;
	struct keys_place own = *place;
	size_t i;
	int r;

	if (place->unknown == KEYS_IGNORE) {
		log_debug("%s:%u: unknown key '%.64s' is ignored", place->file, key->line,
			  key->text);
		return 0;
	}
	for (i = 0; i < n; i++)
		names[i] = keys[i].name;
	meant = nearest_word(key->text, names, n);
	own.e = &text;
	r = meant ? keys_fail(&own, key->line, EINVAL, "unknown key '%.64s' (did you mean '%s'?)",
			      key->text, meant)
		  : keys_fail(&own, key->line, EINVAL, "unknown key '%.64s'", key->text);
	if (place->unknown == KEYS_REFUSE)
		return err_set(place->e, -r, "%s", text.msg);
	log_warn("%s is ignored", text.msg);
	return 0;
}

static bool has_type(const struct yaml_node *value, enum key_want want)
{
	uint64_t count;
	bool yes;

	switch (want) {
	case KEY_TEXT:
		return yaml_is_text(value);
	case KEY_COUNT:
		return yaml_get_u64(value, &count);
	case KEY_SWITCH:
		return yaml_get_bool(value, &yes);
	case KEY_LIST:
		return value->kind == YAML_LIST;
	case KEY_MAP:
		return value->kind == YAML_MAP;
	case KEY_ANY:
		break;
	}
	return true;
}

static int check_value(const struct keys_place *place, const struct key *key,
		       const struct yaml_node *value)
{
	unsigned line = value->key->line;

	if (key->refusal)
		return keys_fail(place, line, EINVAL, "'%s'%s", key->name, key->refusal);
	if (!has_type(value, key->want))
		return keys_fail(place, line, EINVAL, "'%s' must be %s", key->name,
				 want_names[key->want]);
	if (key->want == KEY_TEXT && strlen(value->text) != value->n)
		return keys_fail(place, line, EINVAL, "'%s' holds a NUL", key->name);
	return 0;
}

static bool is_absent(const struct yaml_node *value)
{
	return yaml_is_null(value) || (value->kind == YAML_SCALAR && value->n == 0);
}

static bool is_named(const struct yaml_node *key, const char *name)
{
	return strlen(name) == key->n && memcmp(name, key->text, key->n) == 0;
}

int keys_read(const struct keys_place *place, const struct yaml_node *map, const struct key *keys,
	      size_t n, const struct yaml_node **values)
{
	const struct yaml_node *value;
	size_t i;
	int r;

	for (i = 0; i < n; i++)
		values[i] = NULL;
	for (value = map->first; value; value = value->next) {
		for (i = 0; i < n && !is_named(value->key, keys[i].name); i++)
			;
		if (i < n && is_absent(value))
			continue;
		r = i < n ? check_value(place, &keys[i], value)
			  : unknown_key(place, keys, n, value->key);
		if (r < 0)
			return r;
		if (i < n)
			values[i] = value;
	}
	return 0;
}
