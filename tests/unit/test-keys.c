/* SPDX-License-Identifier: Apache-2.0 */
/* test-keys.c - tables of keys, texts that break in a certain line, and YAML without memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/keys.h"
#include "core/base/log.h"
#include "tests/unit/alloc.h"
#include "tests/unit/heap.h"

static const struct key keys[] = {
	{ "text", KEY_TEXT, NULL },
	{ "count", KEY_COUNT, NULL },
	{ "switch", KEY_SWITCH, NULL },
	{ "list", KEY_LIST, NULL },
	{ "map", KEY_MAP, NULL },
	{ "any", KEY_ANY, NULL },
	{ "gone", KEY_ANY, " is not supported" },
};

enum { KEYS = sizeof keys / sizeof *keys };

static char logged[400];
static enum log_level logged_level;

static void keep_line(enum log_level level, const char *line)
{
	snprintf(logged, sizeof logged, "%s", line);
	logged_level = level;
}

static int read_text(const char *text, size_t n, const char *part, enum keys_unknown unknown,
		     unsigned *found, struct err *e)
{
	const struct yaml_node *values[KEYS];
	struct keys_place place = { .file = "f", .unknown = unknown, .e = e };
	struct yaml_doc *doc;
	unsigned i;
	int r;

	snprintf(place.part, sizeof place.part, "%s", part);
	assert_int_equal(yaml_doc_parse("f", text, n, &doc, NULL), 0);
	r = keys_read(&place, yaml_doc_root(doc), keys, KEYS, values);
	*found = 0;
	for (i = 0; r == 0 && i < KEYS; i++)
		*found |= (unsigned)(values[i] != NULL) << i;
	yaml_doc_free(doc);
	return r;
}

static void each_type_is_checked(void **state)
{
	static const struct {
		const char *text, *message; /* NULL: found */
		unsigned found;
	} rows[] = {
		{ "text: x", NULL, 1 },
		{ "text: '5'", NULL, 1 },
		{ "text: 5", "f:1: 'text' must be text (in quotes when it looks like a number)",
		  0 },
		{ "text: [a]", "f:1: 'text' must be text", 0 },
		{ "count: 5", NULL, 2 },
		{ "count: -5", "f:1: 'count' must be a whole number, not negative and below 2^64",
		  0 },
		{ "switch: true", NULL, 4 },
		{ "switch: false", NULL, 4 },
		{ "switch: yes", "f:1: 'switch' must be true or false", 0 },
		{ "list: []", NULL, 8 },
		{ "list: {}", "f:1: 'list' must be a list", 0 },
		{ "map: {}", NULL, 16 },
		{ "map: []", "f:1: 'map' must be a map of keys", 0 },
		{ "any: []", NULL, 32 },
		{ "any: 5", NULL, 32 },
		{ "any: x\ncount: 1\ntext: t", NULL, 35 },
		/* Absent, whatever they would have to be. */
		{ "text:\ncount: ''\nswitch: null\nlist: ~\nmap: \"\"\nany:\ngone:", NULL, 0 },
		{ "\ngone: 1", "f:2: 'gone' is not supported", 0 },
		{ "\n\ntex: 1", "f:3: unknown key 'tex' (did you mean 'text'?)", 0 },
		{ "swatch: 1", "f:1: unknown key 'swatch' (did you mean 'switch'?)", 0 },
		{ "another: 1", "f:1: unknown key 'another'", 0 },
		{ "another:", "f:1: unknown key 'another'", 0 },
		{ "count: 1\n'te\\0': 1\n", "f:2: unknown key", 0 },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *text = rows[i].text;
		struct err e = { "" };
		unsigned found;
		int r = read_text(text, strlen(text), "", KEYS_REFUSE, &found, &e);

		if (rows[i].message) {
			assert_int_equal(r, -EINVAL);
			if (strncmp(e.msg, rows[i].message, strlen(rows[i].message)) != 0)
				fail_msg("%s: %s", text, e.msg);
		} else {
			if (r != 0)
				fail_msg("%s: %s", text, e.msg);
			assert_int_equal(found, rows[i].found);
		}
	}
}

static void places_are_named(void **state)
{
	static const char nul[] = "text: \"a\\0b\"", key[] = "\"text\\0\": x";
	struct err e = { "" };
	unsigned found;

	assert_int_equal(read_text("\nx: 1", 5, "layer 3", KEYS_REFUSE, &found, &e), -EINVAL);
	assert_string_equal(e.msg, "f:2: layer 3: unknown key 'x'");
	assert_int_equal(read_text(nul, sizeof nul - 1, "", KEYS_REFUSE, &found, &e), -EINVAL);
	assert_string_equal(e.msg, "f:1: 'text' holds a NUL");
	assert_int_equal(read_text(key, sizeof key - 1, "", KEYS_REFUSE, &found, &e), -EINVAL);
	assert_memory_equal(e.msg, "f:1: unknown key 'text'", 23);
}

static void unknown_keys_may_be_passed_over(void **state)
{
	static const char text[] = "text: x\nfoo: [1, 2]\ncoun: 3\nswitch: true";
	struct err e = { "" };
	unsigned found;

	log_set_sink(keep_line);
	assert_int_equal(read_text(text, sizeof text - 1, "", KEYS_IGNORE, &found, &e), 0);
	assert_int_equal(found, 5);
	assert_int_equal(logged_level, LOG_DEBUG);
	assert_string_equal(logged, "f:3: unknown key 'coun' is ignored");
	assert_int_equal(read_text(text, sizeof text - 1, "layer 2", KEYS_WARN, &found, &e), 0);
	assert_int_equal(found, 5);
	assert_int_equal(logged_level, LOG_WARNING);
	assert_string_equal(logged,
			    "f:3: layer 2: unknown key 'coun' (did you mean 'count'?) is ignored");
	assert_int_equal(read_text(text, 19, "", KEYS_WARN, &found, &e), 0);
	assert_string_equal(logged, "f:2: unknown key 'foo' is ignored");
	log_set_sink(NULL);
	assert_string_equal(e.msg, "");
}

/* The reference's own files are JSON. */
static void json_is_told_from_yaml(void **state)
{
	static const struct {
		const char *text;
		bool json;
	} rows[] = {
		{ "{}", true },
		{ "[]", true },
		{ "x", true },
		{ "{\"a\": [1, {\"b\": \"c\"}], \"d\": {}}", true },
		{ "{a: 1}", false },
		{ "{\"a\": 1, b: 2}", false },
		{ "{\"a\": [1, {b: 2}]}", false },
		{ "\"a\": 1", false },
		{ "- a", false },
		{ "[1,\n {\"a\": [2]}]", true },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct yaml_doc *doc;

		assert_int_equal(
			yaml_doc_parse("f", rows[i].text, strlen(rows[i].text), &doc, NULL), 0);
		if (yaml_is_json(yaml_doc_root(doc)) != rows[i].json)
			fail_msg("%s", rows[i].text);
		yaml_doc_free(doc);
	}
}

/* ---- lines and places of a text ---- */

static void wrong_bytes_are_in_their_line(void **state)
{
	static const struct {
		const char *text;
		const char *message;
	} rows[] = {
		{ "\xff", "f:1: " },
		{ "a: 1\nb: \xff\nc: 2\n", "f:2: " },
		{ "a: 1\n\n\xe2\n\x82\n", "f:3: " }, /* the end of its line is in a character */
		{ "a: 1\n\xc0", "f:2: " },
		{ "a: 1\nb: \x01\n", "f:2: " },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct yaml_doc *doc;
		struct err e = { "" };

		assert_int_equal(yaml_doc_parse("f", rows[i].text, strlen(rows[i].text), &doc, &e),
				 -EINVAL);
		if (strncmp(e.msg, rows[i].message, 5) != 0)
			fail_msg("%zu: %s", i, e.msg);
	}
}

/* Whoever edits a file needs to know where in it a value stands. */
static void nodes_know_their_places(void **state)
{
	static const char text[] = "a: [1, 22]\nb:\n  c: \"x\"\n";
	const struct yaml_node *a, *b, *c;
	struct yaml_doc *doc;

	assert_int_equal(yaml_doc_parse("f", text, sizeof text - 1, &doc, NULL), 0);
	a = yaml_doc_root(doc)->first;
	b = a->next;
	c = b->first;
	assert_true(a->line == 1 && a->begin == 3 && a->end == 10 && a->flow);
	assert_true(a->first->begin == 4 && a->first->end == 5);
	assert_true(a->first->next->begin == 7 && a->first->next->end == 9);
	assert_true(b->key->line == 2 && b->key->begin == 11 && b->line == 3 && !b->flow);
	assert_true(c->line == 3 && c->begin == 19 && c->end == 22 && c->quoted);
	assert_true(a->n == 2 && b->n == 1 && yaml_doc_root(doc)->n == 2);
	assert_null(b->next);
	yaml_doc_free(doc);
}

/* ---- memory ---- */

static int parse_all(long allocations, struct err *e)
{
	/* Long texts need chunks of their own, and two maps of different sizes a longer list. */
	static char text[30000];
	struct yaml_doc *doc;
	size_t n = 0, i;
	int r;

	for (i = 0; i < 100; i++)
		n += (size_t)snprintf(text + n, sizeof text - n, "key%zu: {a: 1, b: %0200d}\n", i,
				      7);
	alloc_left = allocations;
	r = yaml_doc_parse("f", text, n, &doc, e);
	alloc_left = -1;
	if (r == 0) {
		assert_int_equal(yaml_doc_root(doc)->n, 100);
		yaml_doc_free(doc);
	}
	return r;
}

static void parse_with(long allocations, int want)
{
	struct err e = { "" };

	assert_int_equal(parse_all(allocations, &e), want);
	if (want < 0)
		assert_string_equal(e.msg, "f: out of memory");
}

static void parse_wrong(void)
{
	struct yaml_doc *doc;

	assert_int_equal(yaml_doc_parse("f", "a: [1, 2", 8, &doc, NULL), -EINVAL);
	assert_int_equal(yaml_doc_parse("f", "{a: 1, b: 2, a: 3}", 18, &doc, NULL), -EINVAL);
	assert_int_equal(yaml_doc_parse("f", "a: &x 1", 7, &doc, NULL), -EINVAL);
	yaml_doc_free(NULL);
}

static void lack_of_memory_is_told(void **state)
{
	struct err e = { "" };
	long k, count = 0;

	while (parse_all(count, &e) == -ENOMEM)
		count++;
	assert_true(count > 4);
	for (k = 0; k < count; k++)
		HEAP_STEADY(parse_with(k, -ENOMEM));
	HEAP_STEADY(parse_with(-1, 0));
	HEAP_STEADY(parse_wrong());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_type_is_checked),
		cmocka_unit_test(places_are_named),
		cmocka_unit_test(unknown_keys_may_be_passed_over),
		cmocka_unit_test(json_is_told_from_yaml),
		cmocka_unit_test(wrong_bytes_are_in_their_line),
		cmocka_unit_test(nodes_know_their_places),
		cmocka_unit_test(lack_of_memory_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
