/* SPDX-License-Identifier: Apache-2.0 */
/* yaml.c - builds the tree from libyaml's events, see yaml.h.
 *
 * Events, not libyaml's own document: they come one by one, so a text that goes too deep or too far
 * is refused where it does, and a stack of fixed size replaces recursion. */
#include "core/base/yaml.h"

#include <errno.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define DIGITS "0123456789"

/* Nodes and texts live in chunks that are freed together. */
struct chunk {
	struct chunk *next;
	size_t used, size; /* bytes */
	alignas(max_align_t) char bytes[];
};

enum { MAX_TAG_DIRECTIVES = 64 };
enum { CHUNK = 64 * 1024 - sizeof(struct chunk) };

struct yaml_doc {
	struct chunk *chunks;
	struct yaml_node *root;
	size_t nodes;
};

/* A list or map whose end has not come yet. */
struct level {
	struct yaml_node *node;
	struct yaml_node *last; /* its last value so far */
	const struct yaml_node *key; /* read, and waits for its value */
};

struct builder {
	const char *name;
	yaml_parser_t parser;
	struct yaml_doc *doc;
	struct level open[YAML_MAX_DEPTH];
	size_t depth;
	const struct yaml_node **keys; /* scratch of check_keys */
	size_t key_room;
	struct err *e;
};

static void *doc_alloc(struct yaml_doc *doc, size_t n, size_t align)
{
	struct chunk *c = doc->chunks;
	size_t at = c ? (c->used + align - 1) / align * align : 0;

	if (!c || at > c->size || n > c->size - at) {
		size_t size = n > CHUNK ? n : CHUNK;

		c = malloc(sizeof *c + size);
		if (!c)
			return NULL;
		*c = (struct chunk){ .next = doc->chunks, .size = size };
		doc->chunks = c;
		at = 0;
	}
	c->used = at + n;
	return c->bytes + at;
}

static unsigned mark_line(const yaml_mark_t *mark)
{
	return (unsigned)mark->line + 1;
}

/* The text breaks a rule in this line. */
static int __attribute__((format(printf, 3, 4)))
fault(const struct builder *b, unsigned line, const char *fmt, ...)
{
	char cause[sizeof b->e->msg];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cause, sizeof cause, fmt, ap);
	va_end(ap);
	return err_wrap(b->e, err_set(b->e, EINVAL, "%s", cause), "%s:%u", b->name, line);
}

static int no_memory(const struct builder *b)
{
	return err_wrap(b->e, err_set(b->e, ENOMEM, "out of memory"), "%s", b->name);
}

/* A byte that is no UTF-8 or no character of YAML: libyaml then tells only its offset. */
static int reader_fault(const struct builder *b, const char *text, size_t n)
{
	size_t i, end = b->parser.problem_offset;
	unsigned line = 1;

	for (i = 0; i < n && i < end; i++)
		line += text[i] == '\n';
	return fault(b, line, "%s", b->parser.problem);
}

static int parser_fault(const struct builder *b, const char *text, size_t n)
{
	const yaml_parser_t *p = &b->parser;

	if (p->error == YAML_MEMORY_ERROR)
		return no_memory(b);
	if (p->error == YAML_READER_ERROR)
		return reader_fault(b, text, n);
	if (!p->context)
		return fault(b, mark_line(&p->problem_mark), "%s", p->problem);
	return fault(b, mark_line(&p->problem_mark), "%s %s (from line %u)", p->problem, p->context,
		     mark_line(&p->context_mark));
}

/* Puts a new node where it belongs: the root, a key that waits for its value, or a value. */
static int attach(struct builder *b, struct yaml_node *node)
{
	struct level *top;

	if (b->depth == 0) {
		b->doc->root = node;
		return 0;
	}
	top = &b->open[b->depth - 1];
	if (top->node->kind == YAML_MAP && !top->key) {
		if (node->kind != YAML_SCALAR)
			return fault(b, node->line, "a list or map cannot be a key");
		top->key = node;
		return 0;
	}
	node->key = top->key;
	top->key = NULL;
	if (top->last)
		top->last->next = node;
	else
		top->node->first = node;
	top->last = node;
	top->node->n++;
	return 0;
}

static int add_node(struct builder *b, const struct yaml_node *value, const yaml_char_t *anchor,
		    const yaml_char_t *tag)
{
	struct yaml_node *node;
	int r;

	if (anchor)
		return fault(b, value->line, "anchors are not supported");
	if (tag)
		return fault(b, value->line, "tags are not supported");
	if (b->doc->nodes == YAML_MAX_NODES)
		return fault(b, value->line, "more than %d keys and values", YAML_MAX_NODES);
	node = doc_alloc(b->doc, sizeof *node, alignof(struct yaml_node));
	if (!node)
		return no_memory(b);
	*node = *value;
	b->doc->nodes++;
	if (node->kind == YAML_SCALAR)
		return attach(b, node);
	if (b->depth == YAML_MAX_DEPTH)
		return fault(b, node->line, "more than %d lists and maps in each other",
			     YAML_MAX_DEPTH);
	r = attach(b, node);
	if (r < 0)
		return r;
	b->open[b->depth++] = (struct level){ .node = node };
	return 0;
}

static int add_scalar(struct builder *b, const yaml_event_t *event)
{
	size_t n = event->data.scalar.length;
	struct yaml_node value = {
		.kind = YAML_SCALAR,
		.quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE,
		.line = mark_line(&event->start_mark),
		.begin = event->start_mark.index,
		.end = event->end_mark.index,
		.n = n,
	};
	char *text = doc_alloc(b->doc, n + 1, 1);

	if (!text)
		return no_memory(b);
	memcpy(text, event->data.scalar.value, n);
	text[n] = '\0';
	value.text = text;
	return add_node(b, &value, event->data.scalar.anchor, event->data.scalar.tag);
}

static int compare_text(const struct yaml_node *a, const struct yaml_node *b)
{
	int r = memcmp(a->text, b->text, a->n < b->n ? a->n : b->n);

	return r != 0 ? r : (a->n > b->n) - (a->n < b->n);
}

/* Orders keys by text, and equal ones as they stand in the file. */
static int compare_keys(const void *a, const void *b)
{
	const struct yaml_node *x = *(const struct yaml_node *const *)a;
	const struct yaml_node *y = *(const struct yaml_node *const *)b;
	int r = compare_text(x, y);

	return r != 0 ? r : (x->line > y->line) - (x->line < y->line);
}

/* Finds a key that stands twice in one map.  Sorted, for a map may have a million keys. */
static int check_keys(struct builder *b, const struct yaml_node *map)
{
	const struct yaml_node *value;
	size_t n = 0, i;

	if (map->n > b->key_room) {
		const struct yaml_node **keys;
		size_t room = map->n > 2 * b->key_room ? map->n : 2 * b->key_room;

		keys = realloc(b->keys, room * sizeof *keys);
		if (!keys)
			return no_memory(b);
		b->keys = keys;
		b->key_room = room;
	}
	for (value = map->first; value; value = value->next)
		b->keys[n++] = value->key;
	if (n > 1)
		qsort(b->keys, n, sizeof *b->keys, compare_keys);
	for (i = 1; i < n; i++)
		if (compare_text(b->keys[i - 1], b->keys[i]) == 0)
			return fault(b, b->keys[i]->line, "duplicate key '%.64s', first in line %u",
				     b->keys[i]->text, b->keys[i - 1]->line);
	return 0;
}

static int end_document(struct builder *b)
{
	const struct yaml_node *root = b->doc->root;

	if (!root || (root->kind == YAML_SCALAR && !root->quoted && root->n == 0))
		return fault(b, 1, "the file is empty");
	return 0;
}

static int take_event(struct builder *b, const yaml_event_t *event)
{
	struct yaml_node value = {
		.line = mark_line(&event->start_mark),
		.begin = event->start_mark.index,
	};

	switch (event->type) {
	case YAML_DOCUMENT_START_EVENT:
		if (!b->doc->root)
			return 0;
		return fault(b, value.line, "a second document in one file");
	case YAML_ALIAS_EVENT:
		return fault(b, value.line, "aliases are not supported");
	case YAML_SCALAR_EVENT:
		return add_scalar(b, event);
	case YAML_SEQUENCE_START_EVENT:
		value.kind = YAML_LIST;
		value.flow = event->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE;
		return add_node(b, &value, event->data.sequence_start.anchor,
				event->data.sequence_start.tag);
	case YAML_MAPPING_START_EVENT:
		value.kind = YAML_MAP;
		value.flow = event->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
		return add_node(b, &value, event->data.mapping_start.anchor,
				event->data.mapping_start.tag);
	case YAML_SEQUENCE_END_EVENT:
		b->open[--b->depth].node->end = event->end_mark.index;
		return 0;
	case YAML_MAPPING_END_EVENT:
		b->open[--b->depth].node->end = event->end_mark.index;
		return check_keys(b, b->open[b->depth].node);
	case YAML_STREAM_END_EVENT:
		return end_document(b);
	default:
		return 0;
	}
}

/* libyaml compares each %TAG directive with all that came before: a text of a million of them would
 * keep it busy for hours, and no tag is allowed anyway. */
static int check_directives(const struct builder *b, const char *text, size_t n)
{
	const char *p = text, *end = text + n;
	unsigned found = 0;

	while ((p = memmem(p, (size_t)(end - p), "%TAG", 4)) != NULL) {
		p += 4;
		if (++found > MAX_TAG_DIRECTIVES)
			return fault(b, 1, "'%%TAG' more than %d times", MAX_TAG_DIRECTIVES);
	}
	return 0;
}

static int build(struct builder *b, const char *text, size_t n)
{
	yaml_event_t event;
	bool end;
	int r;

	r = check_directives(b, text, n);
	if (r < 0)
		return r;
	/* Without this a byte order mark would turn the input into UTF-16. */
	yaml_parser_set_encoding(&b->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&b->parser, (const unsigned char *)text, n);
	do {
		if (!yaml_parser_parse(&b->parser, &event))
			return parser_fault(b, text, n);
		end = event.type == YAML_STREAM_END_EVENT;
		r = take_event(b, &event);
		yaml_event_delete(&event);
	} while (r == 0 && !end);
	return r;
}

int yaml_doc_parse(const char *name, const char *text, size_t n, struct yaml_doc **out,
		   struct err *e)
{
	struct builder b = { .name = name, .e = e };
	int r;

	if (n > YAML_MAX_INPUT)
		return err_set(e, EFBIG, "%s: %zu bytes, more than the limit of %d", name, n,
			       YAML_MAX_INPUT);
	b.doc = calloc(1, sizeof *b.doc);
	if (!b.doc || !yaml_parser_initialize(&b.parser)) {
		free(b.doc);
		return no_memory(&b);
	}
	r = build(&b, text, n);
	yaml_parser_delete(&b.parser);
	free(b.keys);
	if (r < 0) {
		yaml_doc_free(b.doc);
		return r;
	}
	*out = b.doc;
	return 0;
}

const struct yaml_node *yaml_doc_root(const struct yaml_doc *doc)
{
	return doc->root;
}

void yaml_doc_free(struct yaml_doc *doc)
{
	struct chunk *c, *next;

	if (!doc)
		return;
	for (c = doc->chunks; c; c = next) {
		next = c->next;
		free(c);
	}
	free(doc);
}

static bool is_plain(const struct yaml_node *node, const char *text)
{
	return node->kind == YAML_SCALAR && !node->quoted && strcmp(node->text, text) == 0;
}

bool yaml_is_json(const struct yaml_node *node)
{
	const struct yaml_node *value;

	if (node->kind == YAML_SCALAR)
		return true;
	for (value = node->first; value; value = value->next)
		if ((value->key && !value->key->quoted) || !yaml_is_json(value))
			return false;
	return node->flow;
}

bool yaml_is_null(const struct yaml_node *node)
{
	return is_plain(node, "") || is_plain(node, "~") || is_plain(node, "null") ||
	       is_plain(node, "Null") || is_plain(node, "NULL");
}

/* Decimal, with or without sign, fraction and exponent. */
static bool is_number(const char *s)
{
	size_t digits;

	s += *s == '-' || *s == '+';
	digits = strspn(s, DIGITS);
	s += digits;
	if (*s == '.') {
		size_t fraction = strspn(s + 1, DIGITS);

		digits += fraction;
		s += 1 + fraction;
	}
	if (digits > 0 && (*s == 'e' || *s == 'E')) {
		s++;
		s += *s == '-' || *s == '+';
		digits = strspn(s, DIGITS);
		s += digits;
	}
	return digits > 0 && *s == '\0';
}

bool yaml_is_text(const struct yaml_node *node)
{
	if (node->kind != YAML_SCALAR)
		return false;
	return node->quoted || !(yaml_is_null(node) || is_plain(node, "true") ||
				 is_plain(node, "false") || is_number(node->text));
}

bool yaml_get_bool(const struct yaml_node *node, bool *out)
{
	bool yes = is_plain(node, "true");

	if (!yes && !is_plain(node, "false"))
		return false;
	*out = yes;
	return true;
}

bool yaml_get_u64(const struct yaml_node *node, uint64_t *out)
{
	unsigned long long v;

	if (node->kind != YAML_SCALAR || node->quoted || node->n == 0 ||
	    strspn(node->text, DIGITS) != node->n || (node->text[0] == '0' && node->n > 1))
		return false;
	errno = 0;
	v = strtoull(node->text, NULL, 10);
	if (errno != 0)
		return false;
	*out = v;
	return true;
}
