/* SPDX-License-Identifier: Apache-2.0 */
/* config_setting.h - the settings of fetching: one table of their names, which are keys of config
 * files and parameters alike, and one parser for each one's value.
 *
 * Values come from levels, the lower one first: built-in defaults, the service file, the image's
 * config, parameters.  A value replaces that of the levels below; the mirrors of one level replace
 * theirs as a whole, and so do the paths to prefetch.  In a config file a value is a scalar, and
 * its text is what a parameter would say; `mirror` and `prefetch` may be lists, and `download` the
 * reference's map.
 *
 * No message quotes a password, nor an address, which may hold one.
 * Threads: no state but what the caller holds. */
#ifndef OVERLAYBD_CORE_CONFIG_SETTING_H
#define OVERLAYBD_CORE_CONFIG_SETTING_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"
#include "core/base/keys.h"
#include "fetch/settings.h"

enum {
	CONFIG_SETTING_COUNT = 25,
	CONFIG_SETTING_MAX = 4096, /* bytes of a value other than a password */
	CONFIG_SETTING_MIRRORS = 64,
	CONFIG_SETTING_PATHS = 4096, /* to prefetch */
	CONFIG_SETTING_TIMEOUT = 1000000, /* s */
};

/* A setting as a parameter gave it. */
struct config_setting {
	const char *name;
	char *value;
};

/* Where values come from.  One for all values of a level. */
struct config_level {
	const char *folder; /* base of relative paths, NULL: the working directory */
	bool is_parameter; /* everybody can read it in the process list: no password may be there */
	bool has_mirrors; /* it has given some: the next one is added, not in their place */
	bool has_prefetch; /* the same of paths */
};

/* The name of setting i < CONFIG_SETTING_COUNT, in the order of the table. */
const char *config_setting_name(size_t i);

/* Whether a level may give it more than once, each a value more. */
bool config_setting_is_list(size_t i);

/* The number of the setting of this name, or -1. */
int config_setting_find(const char *name);

/* Puts the value of setting i into *s.  EINVAL, ENOMEM: the text says what is wrong with the value,
 * for putting the setting's name in front. */
int config_setting_apply(struct config_level *level, size_t i, const char *value,
			 struct fetch_settings *s, struct err *e);

/* The keys of all settings, in the order of the table. */
void config_setting_keys(struct key keys[CONFIG_SETTING_COUNT]);

/* Puts into *s what keys_read found for these keys.  The text is that of keys_fail. */
int config_setting_read(struct keys_place *place, struct config_level *level,
			const struct yaml_node *const values[CONFIG_SETTING_COUNT],
			struct fetch_settings *s);

/* One of them that has another name in the file: sets setting `name` to `text` (NULL: does
 * nothing), which is said at `node`. */
int config_setting_read_as(const struct keys_place *place, struct config_level *level,
			   const struct yaml_node *node, const char *name, const char *text,
			   struct fetch_settings *s);

/* What no single value shows: a user without a password, a key without a certificate.  EINVAL. */
int config_setting_complete(const struct fetch_settings *s, struct err *e);

#endif
