/* SPDX-License-Identifier: Apache-2.0 */
/* config_edit.c - see config_edit.h.
 *
 * The places to change are known from the tree of the text, which knows where its nodes stand.
 * Whatever form this file does not foresee gives a text that says something else: reading the
 * result finds that. */
#include "core/config_edit.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/base/yaml.h"
#include "core/config.h"

/* A piece of the text and what takes its place. */
struct edit {
	size_t begin, end; /* bytes */
	char *text;
};

enum { EDITS = 3 };

struct editor {
	const char *path, *folder; /* the config's */
	const char *text;
	size_t n;
	const struct yaml_node *root;
	const struct image_config *old; /* what the text says */
	bool relative; /* as the upper's files are named */
	struct edit edits[EDITS];
	size_t count;
	struct err *e;
};

static int no_memory(const struct editor *ed)
{
	return err_set(ed->e, ENOMEM, "%s: out of memory", ed->path);
}

/* The byte at which a character begins. */
static size_t byte_of(const struct editor *ed, size_t character)
{
	size_t at;

	for (at = 0; at < ed->n; at++)
		if (((unsigned char)ed->text[at] & 0xc0) != 0x80 && character-- == 0)
			break;
	return at;
}

static size_t line_begin(const struct editor *ed, size_t at)
{
	while (at > 0 && ed->text[at - 1] != '\n')
		at--;
	return at;
}

/* Behind the line break, or the text's end. */
static size_t line_end(const struct editor *ed, size_t at)
{
	const char *found = memchr(ed->text + at, '\n', ed->n - at);

	return found ? (size_t)(found - ed->text) + 1 : ed->n;
}

/* Takes over `text`. */
static int add_edit(struct editor *ed, size_t begin, size_t end, char *text)
{
	if (!text)
		return no_memory(ed);
	ed->edits[ed->count++] = (struct edit){ begin, end, text };
	return 0;
}

/* NULL: no memory. */
__attribute__((format(printf, 1, 2))) static char *format_text(const char *fmt, ...)
{
	va_list ap;
	char *out;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&out, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : out;
}

static const struct yaml_node *find_key(const struct yaml_node *map, const char *name)
{
	const struct yaml_node *value;

	for (value = map->first; value; value = value->next)
		if (strcmp(value->key->text, name) == 0)
			return value;
	return NULL;
}

/* ---- names ---- */

static bool is_plain(const char *text)
{
	const char *p;

	for (p = text; *p != '\0'; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-",
			    *p))
			return false;
	/* A letter or a slash: neither a number, nor a dash, nor the end of a document. */
	return (text[0] == '/' && text[1] != '\0') ||
	       (((text[0] | 0x20) >= 'a' && (text[0] | 0x20) <= 'z') && strchr(text, '.'));
}

/* Double quotes, as JSON and YAML both read them. */
static char *quote(const char *text)
{
	char *out = malloc(6 * strlen(text) + 3), *to = out;
	const char *p;

	if (!out)
		return NULL;
	*to++ = '"';
	for (p = text; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			*to++ = '\\';
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			to += sprintf(to, "\\u%04x", (unsigned)*p);
		else
			*to++ = *p;
	}
	*to++ = '"';
	*to = '\0';
	return out;
}

static const char *shorten(const struct editor *ed, const char *path)
{
	size_t n = strlen(ed->folder);

	if (!ed->relative || strncmp(path, ed->folder, n) != 0)
		return path;
	n -= n == 1; /* "/" ends with its slash */
	return path[n] == '/' && path[n + 1] != '\0' && path[n + 1] != '/' ? path + n + 1 : path;
}

/* A path as it will stand in the text. */
static char *name_of(const struct editor *ed, const char *path, bool quoted)
{
	const char *name = shorten(ed, path);

	return !quoted && is_plain(name) ? strdup(name) : quote(name);
}

static int replace_name(struct editor *ed, const struct yaml_node *node, const char *path)
{
	return add_edit(ed, byte_of(ed, node->begin), byte_of(ed, node->end),
			name_of(ed, path, node->quoted));
}

/* ---- a new element of lowers ---- */

/* What stands between the beginning of the line and `at`, when that is blanks only; else NULL. */
static char *indent_at(const struct editor *ed, size_t at)
{
	size_t begin = line_begin(ed, at);

	if (strspn(ed->text + begin, " \t") < at - begin)
		return NULL;
	return strndup(ed->text + begin, at - begin);
}

/* Where the content of a node ends, trailing comments not counted; characters. */
static size_t content_end(const struct yaml_node *node)
{
	const struct yaml_node *child;
	size_t end = node->begin, inner;

	if (node->kind == YAML_SCALAR || node->flow)
		return node->end;
	for (child = node->first; child; child = child->next) {
		inner = content_end(child);
		end = inner > end ? inner : end;
	}
	return end;
}

static const struct yaml_node *last_child(const struct yaml_node *list)
{
	const struct yaml_node *child = list->first;

	while (child->next)
		child = child->next;
	return child;
}

/* In brackets: on a line of its own where the element beside it has one. */
static int add_in_brackets(struct editor *ed, const struct yaml_node *list, const char *name,
			   bool before_last)
{
	const struct yaml_node *last = list->first ? last_child(list) : NULL;
	AUTO_FREE char *element = format_text("{\"file\": %s}", name);
	AUTO_FREE char *indent = NULL;
	AUTO_FREE char *apart = NULL;
	size_t at;

	if (!element)
		return no_memory(ed);
	if (!last)
		return add_edit(ed, byte_of(ed, list->end) - 1, byte_of(ed, list->end) - 1,
				TAKE_PTR(element));
	indent = indent_at(ed, byte_of(ed, last->begin));
	apart = indent ? format_text("\n%s", indent) : strdup(" ");
	if (!apart)
		return no_memory(ed);
	at = byte_of(ed, before_last ? last->begin : content_end(last));
	return add_edit(ed, at, at,
			before_last ? format_text("%s,%s", element, apart)
				    : format_text(",%s%s", apart, element));
}

/* With dashes: a line like that of the last element. */
static int add_with_dash(struct editor *ed, const struct yaml_node *list, const char *name,
			 bool before_last)
{
	const struct yaml_node *last = last_child(list);
	size_t dash = line_begin(ed, byte_of(ed, last->begin));
	size_t blanks = strspn(ed->text + dash, " "), at = dash;

	if (!before_last)
		at = line_end(ed, byte_of(ed, content_end(last)) - 1);
	return add_edit(ed, at, at,
			format_text("%s%.*s- file: %s\n", ed->text[at - 1] != '\n' ? "\n" : "",
				    (int)blanks, ed->text + dash, name));
}

/* There is no list yet. */
static int add_list(struct editor *ed, const struct yaml_node *empty, const char *name)
{
	const struct yaml_node *first = ed->root->first;
	size_t at = byte_of(ed, ed->root->begin), blanks;

	if (empty)
		return add_edit(ed, byte_of(ed, empty->begin), byte_of(ed, empty->end),
				format_text("%s[{\"file\": %s}]",
					    empty->begin == empty->end ? " " : "", name));
	if (ed->root->flow)
		return add_edit(ed, at + 1, at + 1,
				format_text("\"lowers\": [{\"file\": %s}], ", name));
	at = line_begin(ed, byte_of(ed, first->key->begin));
	blanks = strspn(ed->text + at, " ");
	return add_edit(ed, at, at,
			format_text("%.*slowers:\n%.*s  - file: %s\n", (int)blanks, ed->text + at,
				    (int)blanks, ed->text + at, name));
}

static int add_lower(struct editor *ed, const char *layer)
{
	const struct yaml_node *list = find_key(ed->root, "lowers");
	const struct yaml_node *acceleration = find_key(ed->root, "accelerationLayer");
	bool brackets = ed->root->flow || !list || list->kind != YAML_LIST || list->flow;
	bool new_lines = !ed->root->flow && !list;
	AUTO_FREE char *name = name_of(ed, layer, brackets && !new_lines);
	bool before_last = false;

	if (!name)
		return no_memory(ed);
	if (acceleration)
		(void)yaml_get_bool(acceleration, &before_last);
	if (!list || list->kind != YAML_LIST)
		return add_list(ed, list, name);
	return list->flow ? add_in_brackets(ed, list, name, before_last)
			  : add_with_dash(ed, list, name, before_last);
}

/* ---- all of it ---- */

static int find_edits(struct editor *ed, const struct config_change *change)
{
	const struct yaml_node *upper = find_key(ed->root, "upper"), *data, *index;
	int r;

	if (!ed->old->upper_data)
		return err_set(ed->e, EINVAL, "%s: it names no upper", ed->path);
	data = find_key(upper, "data");
	index = find_key(upper, "index");
	if (find_key(ed->root, "image"))
		return err_set(ed->e, EINVAL,
			       "%s: it has no 'lowers' that a layer could be added to, but 'image'",
			       ed->path);
	ed->relative = data->text[0] != '/';
	r = add_lower(ed, change->layer);
	if (r == 0)
		r = replace_name(ed, data, change->data);
	return r < 0 ? r : replace_name(ed, index, change->index);
}

static int by_place(const void *a, const void *b)
{
	const struct edit *x = a, *y = b;

	return (x->begin > y->begin) - (x->begin < y->begin);
}

static int apply(struct editor *ed, char **out, size_t *out_n)
{
	size_t room = ed->n + 1, from = 0, i;
	char *to;

	qsort(ed->edits, ed->count, sizeof *ed->edits, by_place);
	for (i = 0; i < ed->count; i++)
		room += strlen(ed->edits[i].text);
	*out = to = malloc(room);
	if (!to)
		return no_memory(ed);
	for (i = 0; i < ed->count; i++) {
		const struct edit *x = &ed->edits[i];

		to = mempcpy(to, ed->text + from, x->begin - from);
		to = mempcpy(to, x->text, strlen(x->text));
		from = x->end;
	}
	to = mempcpy(to, ed->text + from, ed->n - from);
	*to = '\0';
	*out_n = (size_t)(to - *out);
	return 0;
}

static bool same(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_lower(const struct lower_config *a, const struct lower_config *b)
{
	return same(a->file, b->file) && same(a->dir, b->dir) && same(a->digest, b->digest) &&
	       a->size == b->size;
}

/* Whether the new text says the change and nothing else of the disk. */
static bool says(const struct image_config *old, const struct image_config *new,
		 const struct config_change *change)
{
	size_t i;

	if (new->lower_count != old->lower_count + 1 ||
	    !same(new->lowers[old->lower_count].file, change->layer) ||
	    !same(new->upper_data, change->data) || !same(new->upper_index, change->index) ||
	    new->acceleration_layer != old->acceleration_layer ||
	    !same(old->acceleration_dir, new->acceleration_dir))
		return false;
	for (i = 0; i < old->lower_count; i++)
		if (!same_lower(&old->lowers[i], &new->lowers[i]))
			return false;
	return true;
}

/* What the machine's own file says is not of this text. */
static const struct config_options no_service = { .service = "none" };

static int check(const struct editor *ed, const char *text, size_t n,
		 const struct config_change *change)
{
	struct image_config *new = NULL;
	int r = config_parse(ed->path, text, n, &no_service, &new, NULL);

	if (r == -ENOMEM)
		(void)no_memory(ed);
	else if (r < 0 || !says(ed->old, new, change))
		r = err_set(ed->e, EINVAL,
			    "%s: it has a form that cannot be changed: write 'lowers' and 'upper' "
			    "as in the manual",
			    ed->path);
	config_free(new);
	return r;
}

static int edit(struct editor *ed, const struct config_change *change, char **out, size_t *out_n)
{
	size_t i;
	int r = find_edits(ed, change);

	if (r == 0)
		r = apply(ed, out, out_n);
	if (r == 0)
		r = check(ed, *out, *out_n, change);
	if (r < 0)
		free(TAKE_PTR(*out));
	for (i = 0; i < ed->count; i++)
		free(ed->edits[i].text);
	return r;
}

int config_edit(const char *path, const char *text, size_t n, const struct config_change *change,
		char **out, size_t *out_n, struct err *e)
{
	AUTO_FREE char *folder = io_parent(path);
	struct editor ed = { .path = path, .folder = folder, .text = text, .n = n, .e = e };
	struct image_config *old;
	struct yaml_doc *doc;
	int r = folder ? config_parse(path, text, n, &no_service, &old, e) : no_memory(&ed);

	if (r < 0)
		return r;
	*out = NULL;
	r = yaml_doc_parse(path, text, n, &doc, e);
	if (r == 0) {
		ed.old = old;
		ed.root = yaml_doc_root(doc);
		r = edit(&ed, change, out, out_n);
		yaml_doc_free(doc);
	}
	config_free(old);
	return r;
}
