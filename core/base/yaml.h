/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.h - a YAML or JSON text as a read-only tree that knows its line numbers.
 *
 * One document of lists, maps and scalars.  Refused, each with its line: anchors and aliases (so a
 * tree is never larger than its text), tags, a second document, keys that are not scalars, a key
 * twice in one map, and whatever goes beyond the limits below.
 *
 * JSON is read as the YAML that it is.  The parser below, libyaml, does not take three things that
 * JSON allows: a character written as two surrogate escapes ("\ud83d\ude00"; the character itself
 * is fine), a key of more than 1,024 bytes with its quotes, and a line break before the colon.
 *
 * Threads: a tree never changes; all calls may run concurrently. */
#ifndef OVERLAYBD_BASE_YAML_H
#define OVERLAYBD_BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum {
	YAML_MAX_INPUT = 16 * 1024 * 1024, /* bytes */
	YAML_MAX_NODES = 1024 * 1024, /* keys included */
	YAML_MAX_DEPTH = 64, /* lists and maps in each other */
};

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
	enum yaml_kind kind;
	bool quoted; /* a scalar in quotes or in a block: text, whatever it looks like */
	bool flow; /* a list or map in brackets or braces */
	unsigned line; /* where it begins, from 1 */
	/* Where it stands in the text, in characters.  Of a list or
	 * map that is not `flow`, only the beginning means something. */
	size_t begin, end;
	size_t n; /* bytes of a scalar; elements of a list; keys of a map */
	const char *text; /* of a scalar: UTF-8, a NUL follows; NULs within come only from "\0" */
	const struct yaml_node *key; /* of a value in a map, else NULL */
	const struct yaml_node *first; /* of a list or map: the first value */
	const struct yaml_node *next; /* the next value of the same list or map */
};

struct yaml_doc;

/* Reads n bytes of text; `name` begins each message ("NAME:LINE: cause").  Keeps nothing of `text`.
 * Errors: EINVAL for what the text says (an empty document included), EFBIG, ENOMEM. */
int yaml_doc_parse(const char *name, const char *text, size_t n, struct yaml_doc **out,
		   struct err *e);

const struct yaml_node *yaml_doc_root(const struct yaml_doc *doc);

/* Frees the tree with all its nodes.  NULL is allowed. */
void yaml_doc_free(struct yaml_doc *doc);

/* Whether a scalar stands for nothing: an unquoted ~, null, Null, NULL, or no text at all. */
bool yaml_is_null(const struct yaml_node *node);

/* Whether a tree has the form of JSON: all its lists and maps stand in brackets and braces, and all
 * keys in quotes. */
bool yaml_is_json(const struct yaml_node *node);

/* Whether it is a text: a scalar that is quoted, or is neither null, true, false nor a number. */
bool yaml_is_text(const struct yaml_node *node);

/* Reads an unquoted true or false.  Returns false, *out untouched, when it is something else. */
bool yaml_get_bool(const struct yaml_node *node, bool *out);

/* Reads an unquoted decimal number from 0 to 2^64 - 1, without sign or leading zeros.  Returns
 * false, *out untouched, when it is something else. */
bool yaml_get_u64(const struct yaml_node *node, uint64_t *out);

#endif
