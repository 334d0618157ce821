/* SPDX-License-Identifier: Apache-2.0 */
/* test-yaml.c - the tree, its scalars, and every text that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "core/base/yaml.h"

/* A string with NULs and its length. */
#define BYTES(s) s, sizeof(s) - 1

static struct yaml_doc *parse(const char *text, size_t n)
{
	struct yaml_doc *doc = NULL;
	struct err e = { "" };

	if (yaml_doc_parse("f.yaml", text, n, &doc, &e) < 0)
		fail_msg("%.60s: %s", text, e.msg);
	return doc;
}

static const struct {
	const char *what, *text;
	size_t n;
	const char *message;
} bad[] = {
	{ "no byte", BYTES(""), "f.yaml:1: the file is empty" },
	{ "only a comment", BYTES("# x\n\n"), "f.yaml:1: the file is empty" },
	{ "only a start", BYTES("---\n"), "f.yaml:1: the file is empty" },
	{ "only a byte order mark", BYTES("\xef\xbb\xbf"), "f.yaml:1: the file is empty" },
	{ "two documents", BYTES("a: 1\n---\nb: 2\n"), "f.yaml:2: a second document in one file" },
	{ "text after the end", BYTES("a: 1\n...\nb: 2\n"), "f.yaml:3: did not find expected" },
	{ "second empty document", BYTES("a: 1\n...\n---\n"),
	  "f.yaml:3: a second document in one file" },
	{ "anchor on a scalar", BYTES("a:\n  - &x 1\n"), "f.yaml:2: anchors are not supported" },
	{ "anchor on a list", BYTES("a: &x [1]\n"), "f.yaml:1: anchors are not supported" },
	{ "anchor on a map", BYTES("a: &x {b: 1}\n"), "f.yaml:1: anchors are not supported" },
	{ "alias", BYTES("a: 1\nb: *a\n"), "f.yaml:2: aliases are not supported" },
	{ "alias as a key", BYTES("*a : 1\n"), "f.yaml:1: aliases are not supported" },
	{ "tag", BYTES("a: 1\nb: !!str 1\n"), "f.yaml:2: tags are not supported" },
	{ "local tag", BYTES("!x [1]\n"), "f.yaml:1: tags are not supported" },
	{ "plain tag", BYTES("a: ! 1\n"), "f.yaml:1: tags are not supported" },
	{ "list as a key", BYTES("\n? [a]\n: 1\n"), "f.yaml:2: a list or map cannot be a key" },
	{ "map as a key", BYTES("{{a: 1}: 2}\n"), "f.yaml:1: a list or map cannot be a key" },
	{ "key twice", BYTES("a: 1\nb: 2\nc: 3\na: 4\n"),
	  "f.yaml:4: duplicate key 'a', first in line 1" },
	{ "key twice, once in quotes", BYTES("a: 1\n\"a\": 4\n"),
	  "f.yaml:2: duplicate key 'a', first in line 1" },
	{ "key twice below", BYTES("l:\n  - x: 1\n    y: 2\n    x: 3\n"),
	  "f.yaml:4: duplicate key 'x', first in line 2" },
	{ "key twice in JSON", BYTES("{\"a\": 1,\n \"a\": 2}"),
	  "f.yaml:2: duplicate key 'a', first in line 1" },
	{ "empty key twice", BYTES("{\"\": 1,\n\"\": 2}"),
	  "f.yaml:2: duplicate key '', first in line 1" },
	{ "no UTF-8", BYTES("a: 1\nb: \xff\n"), "f.yaml:2: invalid leading UTF-8 octet" },
	/* the byte at fault may be the line's end: it belongs to its line */
	{ "UTF-8 cut by a line's end", BYTES("a: 1\nb: \xc3\n"),
	  "f.yaml:2: invalid trailing UTF-8 octet" },
	{ "cut UTF-8", BYTES("a: 1\n\nb: \xe2\x82"), "f.yaml:3: incomplete UTF-8 octet sequence" },
	{ "UTF-16",
	  BYTES("\xff\xfe"
		"a\0:\0 \0001\0"),
	  "f.yaml:1: invalid leading UTF-8 octet" },
	{ "control character", BYTES("a: 1\nb: \x01\n"),
	  "f.yaml:2: control characters are not allowed" },
	{ "NUL", BYTES("a: 1\nb: \0\n"), "f.yaml:2: control characters are not allowed" },
	{ "no end of a list", BYTES("a: [1,\n2\n"),
	  "f.yaml:3: did not find expected ',' or ']' "
	  "while parsing a flow sequence (from line 1)" },
	{ "no end of quotes", BYTES("a: 1\nb: \"x\n"),
	  "f.yaml:3: found unexpected end of stream "
	  "while scanning a quoted scalar (from line 2)" },
	{ "tab as indent", BYTES("a:\n\tb: 1\n"), "f.yaml:2: found character that cannot start" },
	{ "bad indent", BYTES("a:\n  b: 1\n c: 1\n"), "f.yaml:3: did not find expected key" },
	{ "version", BYTES("%YAML 3.0\n---\na: 1\n"),
	  "f.yaml:1: found incompatible YAML document" },
	{ "surrogate pair", BYTES("{\"a\":\n\"\\ud83d\\ude00\"}"),
	  "f.yaml:2: found invalid Unicode character escape code" },
	{ "colon in the next line", BYTES("{\"a\"\n: 1, \"b\"\n: 1}"), "f.yaml:" },
};

static void bad_text_is_refused(void **state)
{
	size_t i;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct yaml_doc *doc = NULL;
		struct err e = { "" };
		/* Exactly as long as the text, for sanitizers. */
		char *copy = malloc(bad[i].n + 1);

		memcpy(copy, bad[i].text, bad[i].n);
		copy = realloc(copy, bad[i].n > 0 ? bad[i].n : 1);
		if (yaml_doc_parse("f.yaml", copy, bad[i].n, &doc, &e) != -EINVAL || doc)
			fail_msg("%s: not refused", bad[i].what);
		if (strncmp(e.msg, bad[i].message, strlen(bad[i].message)) != 0)
			fail_msg("%s: %s", bad[i].what, e.msg);
		assert_int_equal(yaml_doc_parse("f.yaml", copy, bad[i].n, &doc, NULL), -EINVAL);
		free(copy);
	}
}

static void the_tree_has_the_shape_of_the_text(void **state)
{
	struct yaml_doc *doc =
		parse(BYTES("# first\na: x\nb:\n  - 1\n  - {c: [], d: }\n\n\"e\": |\n  t\n"));
	const struct yaml_node *root = yaml_doc_root(doc), *v = root->first, *w;

	assert_int_equal(root->kind, YAML_MAP);
	assert_int_equal(root->n, 3);
	assert_int_equal(root->line, 2);
	assert_null(root->key);

	assert_string_equal(v->key->text, "a");
	assert_string_equal(v->text, "x");
	assert_int_equal(v->n, 1);
	assert_false(v->quoted);

	v = v->next;
	assert_string_equal(v->key->text, "b");
	assert_int_equal(v->key->line, 3);
	assert_int_equal(v->kind, YAML_LIST);
	assert_int_equal(v->n, 2);
	w = v->first;
	assert_string_equal(w->text, "1");
	assert_null(w->key);
	w = w->next;
	assert_int_equal(w->kind, YAML_MAP);
	assert_int_equal(w->line, 5);
	assert_int_equal(w->n, 2);
	assert_null(w->next);
	assert_int_equal(w->first->kind, YAML_LIST);
	assert_int_equal(w->first->n, 0);
	assert_null(w->first->first);
	assert_true(yaml_is_null(w->first->next));

	v = v->next;
	assert_string_equal(v->key->text, "e");
	assert_true(v->key->quoted);
	assert_string_equal(v->text, "t\n");
	assert_true(v->quoted);
	assert_int_equal(v->line, 7);
	assert_null(v->next);
	yaml_doc_free(doc);
	yaml_doc_free(NULL);
}

static void json_is_read(void **state)
{
	static const char text[] =
		"{\n\t\"a\\/b\": \"\\u00e9\\n\\\"\\\\\",\n\t\"l\": [1, -2.5e3, true,"
		"false, null, \"\", {}],\n\"nul\": \"x\\u0000y\"}\n";
	struct yaml_doc *doc = parse(BYTES(text));
	const struct yaml_node *v = yaml_doc_root(doc)->first;

	assert_string_equal(v->key->text, "a/b");
	assert_string_equal(v->text, "\xc3\xa9\n\"\\");
	v = v->next;
	assert_int_equal(v->n, 7);
	v = v->next;
	assert_int_equal(v->line, 4);
	assert_int_equal(v->n, 3);
	assert_memory_equal(v->text, "x\0y", 4);
	yaml_doc_free(doc);
}

static const struct {
	const char *text;
	bool null, is_text;
	int yes; /* 1 true, 0 false, -1 neither */
	bool is_number;
	uint64_t number;
} scalars[] = {
	{ "~", true, false, -1, false, 0 },
	{ "null", true, false, -1, false, 0 },
	{ "Null", true, false, -1, false, 0 },
	{ "NULL", true, false, -1, false, 0 },
	{ "nULL", false, true, -1, false, 0 },
	{ "\"\"", false, true, -1, false, 0 },
	{ "'null'", false, true, -1, false, 0 },
	{ "true", false, false, 1, false, 0 },
	{ "false", false, false, 0, false, 0 },
	{ "\"true\"", false, true, -1, false, 0 },
	{ "True", false, true, -1, false, 0 },
	{ "yes", false, true, -1, false, 0 },
	{ "0", false, false, -1, true, 0 },
	{ "7", false, false, -1, true, 7 },
	{ "18446744073709551615", false, false, -1, true, UINT64_MAX },
	{ "18446744073709551616", false, false, -1, false, 0 },
	{ "99999999999999999999999999", false, false, -1, false, 0 },
	{ "\"7\"", false, true, -1, false, 0 },
	{ "07", false, false, -1, false, 0 },
	{ "-7", false, false, -1, false, 0 },
	{ "+7", false, false, -1, false, 0 },
	{ "7.0", false, false, -1, false, 0 },
	{ ".5", false, false, -1, false, 0 },
	{ "7.", false, false, -1, false, 0 },
	{ "1e3", false, false, -1, false, 0 },
	{ "-1.5E-3", false, false, -1, false, 0 },
	{ "1e", false, true, -1, false, 0 },
	{ "1e+", false, true, -1, false, 0 },
	{ ".", false, true, -1, false, 0 },
	{ "..", false, true, -1, false, 0 },
	{ "e3", false, true, -1, false, 0 },
	{ "1.2.3", false, true, -1, false, 0 },
	{ "0x10", false, true, -1, false, 0 },
	{ "1 2", false, true, -1, false, 0 },
	{ "1k", false, true, -1, false, 0 },
	{ "/a b", false, true, -1, false, 0 },
	{ "[]", false, false, -1, false, 0 },
	{ "{}", false, false, -1, false, 0 },
};

static void scalars_have_types(void **state)
{
	size_t i;

	for (i = 0; i < sizeof scalars / sizeof *scalars; i++) {
		struct yaml_doc *doc;
		const struct yaml_node *v;
		uint64_t number = 99;
		bool yes = false, other = true;
		char text[64];
		int n;

		n = snprintf(text, sizeof text, "a: %s\n", scalars[i].text);
		doc = parse(text, (size_t)n);
		v = yaml_doc_root(doc)->first;
		if (yaml_is_null(v) != scalars[i].null)
			fail_msg("%s: null", scalars[i].text);
		if (yaml_is_text(v) != scalars[i].is_text)
			fail_msg("%s: text", scalars[i].text);
		if (yaml_get_bool(v, &yes) != (scalars[i].yes >= 0) || yes != (scalars[i].yes == 1))
			fail_msg("%s: bool", scalars[i].text);
		if (yaml_get_bool(v, &other) && other != yes)
			fail_msg("%s: bool again", scalars[i].text);
		if (yaml_get_u64(v, &number) != scalars[i].is_number ||
		    number != (scalars[i].is_number ? scalars[i].number : 99))
			fail_msg("%s: number", scalars[i].text);
		yaml_doc_free(doc);
	}
}

/* `head`, `count` times `unit`, `tail`; the caller frees it. */
static char *repeat(const char *head, const char *unit, size_t count, const char *tail, size_t *n)
{
	size_t i, u = strlen(unit), h = strlen(head), t = strlen(tail);
	char *text = malloc(h + u * count + t + 1);

	assert_non_null(text);
	memcpy(text, head, h);
	for (i = 0; i < count; i++)
		memcpy(text + h + i * u, unit, u);
	memcpy(text + h + u * count, tail, t + 1);
	*n = h + u * count + t;
	return text;
}

static void check_repeated(const char *head, const char *unit, size_t count, const char *tail,
			   int code, const char *message)
{
	struct yaml_doc *doc = NULL;
	struct err e = { "" };
	size_t n;
	char *text = repeat(head, unit, count, tail, &n);

	assert_int_equal(yaml_doc_parse("f", text, n, &doc, &e), code);
	assert_non_null(strstr(e.msg, message));
	yaml_doc_free(doc);
	free(text);
}

static void limits_hold(void **state)
{
	char ends[YAML_MAX_DEPTH + 2];

	memset(ends, ']', sizeof ends - 1);
	ends[sizeof ends - 1] = '\0';
	check_repeated("", "[", YAML_MAX_DEPTH + 1, ends, -EINVAL,
		       "f:1: more than 64 lists and maps in each other");
	ends[YAML_MAX_DEPTH] = '\0';
	check_repeated("", "[", YAML_MAX_DEPTH, ends, 0, "");

	check_repeated("[", "a,", YAML_MAX_NODES - 1, "]", 0, "");
	check_repeated("[", "a,", YAML_MAX_NODES, "]", -EINVAL,
		       "f:1: more than 1048576 keys and values");

	check_repeated("a #", "x", YAML_MAX_INPUT - 3, "", 0, "");
	check_repeated("a #", "x", YAML_MAX_INPUT - 2, "", -EFBIG,
		       "f: 16777217 bytes, more than the limit of 16777216");

	check_repeated("%TAG !a! b\n%TAG !b! b\n--- x # ", "%TAG ", 62, "", 0, "");
	check_repeated("", "%TAG !a! b\n", 65, "", -EINVAL, "f:1: '%TAG' more than 64 times");

	check_repeated("{\"", "k", 1022, "\": 1}", 0, "");
	check_repeated("{\"", "k", 1023, "\": 1}", -EINVAL,
		       "f:1: did not find expected ',' or '}'");
	check_repeated("- \"", "long ", 20000, "\"", 0, "");
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The largest inputs of each form take time in proportion to their size, refused or not. */
static void hostile_text_is_quick(void **state)
{
	static const struct {
		const char *head, *unit, *tail;
	} forms[] = {
		{ "", "[", "" },    { "", "{a: ", "" },		{ "", "- ", "" },
		{ "", "? ", "" },   { "[", "{\"a\":1},", "]" }, { "", "-\n", "" },
		{ "", "#x\n", "" }, { "|\n", " x\n", "" },	{ "'", "''", "'" },
		{ "", "!", "" },    { "", "\n", "" },		{ "", "%TAG !a! b\n", "" },
		{ "", "?\n", "" },
	};
	size_t i, n;

	for (i = 0; i < sizeof forms / sizeof *forms; i++) {
		size_t count = (4 * 1024 * 1024) / strlen(forms[i].unit);
		char *text = repeat(forms[i].head, forms[i].unit, count, forms[i].tail, &n);
		struct yaml_doc *doc = NULL;
		double start = now();

		yaml_doc_parse("f", text, n, &doc, NULL);
		if (now() - start > 10)
			fail_msg("'%s': %.1f s", forms[i].unit, now() - start);
		yaml_doc_free(doc);
		free(text);
	}
}

static void a_map_of_many_keys_is_checked(void **state)
{
	enum { KEYS = 200000 };
	char *text = malloc(KEYS * 16 + 16);
	struct yaml_doc *doc;
	struct err e = { "" };
	size_t n = 0;
	unsigned i;

	assert_non_null(text);
	for (i = 0; i < KEYS; i++)
		n += (size_t)sprintf(text + n, "k%u: %u\n", i, i);
	doc = parse(text, n);
	assert_int_equal(yaml_doc_root(doc)->n, KEYS);
	yaml_doc_free(doc);
	n += (size_t)sprintf(text + n, "k%u: 0\n", 12344);
	assert_int_equal(yaml_doc_parse("f", text, n, &doc, &e), -EINVAL);
	assert_string_equal(e.msg, "f:200001: duplicate key 'k12344', first in line 12345");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bad_text_is_refused),
		cmocka_unit_test(the_tree_has_the_shape_of_the_text),
		cmocka_unit_test(json_is_read),
		cmocka_unit_test(scalars_have_types),
		cmocka_unit_test(limits_hold),
		cmocka_unit_test(hostile_text_is_quick),
		cmocka_unit_test(a_map_of_many_keys_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
