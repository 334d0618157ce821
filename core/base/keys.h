/* SPDX-License-Identifier: Apache-2.0 */
/* keys.h - checks a map of a config file against a table of the keys that it may have.
 *
 * Messages read "FILE:LINE: [PART: ]cause", as in
 *   image.yaml:3: layer 0: unknown key 'digset' (did you mean 'digest'?)
 * Threads: nothing is shared. */
#ifndef OVERLAYBD_BASE_KEYS_H
#define OVERLAYBD_BASE_KEYS_H

#include "core/base/yaml.h"

enum { KEYS_MAX = 64 }; /* keys in a table */

enum key_want {
	KEY_TEXT, /* without a NUL in it */
	KEY_COUNT, /* what yaml_get_u64 reads */
	KEY_SWITCH, /* true or false */
	KEY_LIST,
	KEY_MAP,
	KEY_ANY, /* whoever reads the value looks at its form */
};

struct key {
	const char *name;
	enum key_want want;
	/* NULL, or why a value of any type is refused: follows the quoted name in the message. */
	const char *refusal;
};

/* What becomes of a key that the table does not have. */
enum keys_unknown {
	KEYS_REFUSE, /* it is an error */
	KEYS_WARN, /* it is ignored with a warning */
	KEYS_IGNORE, /* it is ignored with a line of the debug log */
};

/* Where the reader of a file is. */
struct keys_place {
	const char *file; /* as messages name it */
	char part[32]; /* "layer 3", or "" */
	enum keys_unknown unknown;
	struct err *e;
};

/* Sets the text to "FILE:LINE: [PART: ]cause" and returns -code. */
int keys_fail(const struct keys_place *place, unsigned line, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Checks `map` against keys[0..n), at most KEYS_MAX, and sets values[i] to what keys[i] has.  NULL
 * stands for a key that is absent, null or an empty string, which is allowed whatever the key
 * wants.  Errors: EINVAL for an unknown key (see enum keys_unknown), a value of a wrong type, a
 * refused key. */
int keys_read(const struct keys_place *place, const struct yaml_node *map, const struct key *keys,
	      size_t n, const struct yaml_node **values);

#endif
