/* SPDX-License-Identifier: Apache-2.0 */
/* test-config_edit.c - a snapshot changes three places of a config and leaves all else as it is.
 *
 * Linked with config_parse wrapped, so that a text says what it does not. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/config.h"
#include "core/config_edit.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define HEX16 "0123456789abcdef"
#define DIGEST "sha256:" HEX16 HEX16 HEX16 HEX16
#define CANNOT                                                                                     \
	"/img/c: it has a form that cannot be changed: write 'lowers' and 'upper' as in the "      \
	"manual"

static const struct config_change change = { .layer = "/img/snap.obd",
					     .data = "/img/u-1.data",
					     .index = "/img/u-1.index" };

static const struct {
	const char *what, *text, *want;
} rows[] = {
	{ "block, comments",
	  "# the disk\nlowers:\n  - file: a # base\n  - file: b   # last\n# between\nupper:\n"
	  "  data: u.data # d\n  index: u.index\ntrace: off\n",
	  "# the disk\nlowers:\n  - file: a # base\n  - file: b   # last\n  - file: snap.obd\n"
	  "# between\nupper:\n  data: u-1.data # d\n  index: u-1.index\ntrace: off\n" },
	{ "no indent, upper first",
	  "upper: {data: u.data, index: u.index}\nlowers:\n- file: a\n  size: 5\n- dir: d\n",
	  "upper: {data: u-1.data, index: u-1.index}\nlowers:\n- file: a\n  size: 5\n- dir: d\n"
	  "- file: snap.obd\n" },
	{ "no newline at the end", "upper: {data: u.data, index: u.index}\nlowers:\n- file: a",
	  "upper: {data: u-1.data, index: u-1.index}\nlowers:\n- file: a\n- file: snap.obd\n" },
	{ "brackets", "lowers: [{file: a}]\nupper: {index: u.index, data: u.data}\n",
	  "lowers: [{file: a}, {\"file\": \"snap.obd\"}]\nupper: {index: u-1.index, data: "
	  "u-1.data}\n" },
	{ "empty brackets", "lowers: [ ]\nupper: {data: u.data, index: u.index}\n",
	  "lowers: [ {\"file\": \"snap.obd\"}]\nupper: {data: u-1.data, index: u-1.index}\n" },
	{ "null", "lowers:\nupper: {data: u.data, index: u.index}\n",
	  "lowers: [{\"file\": \"snap.obd\"}]\nupper: {data: u-1.data, index: u-1.index}\n" },
	{ "no lowers", "# c\nupper: {data: u.data, index: u.index}\n",
	  "# c\nlowers:\n  - file: snap.obd\nupper: {data: u-1.data, index: u-1.index}\n" },
	{ "json, one line",
	  "{\"lowers\":[{\"file\":\"a\"}],\"upper\":{\"data\":\"u.data\",\"index\":\"u.index\"}}",
	  "{\"lowers\":[{\"file\":\"a\"}, {\"file\": \"snap.obd\"}],\"upper\":{\"data\":"
	  "\"u-1.data\",\"index\":\"u-1.index\"}}" },
	{ "json, lines",
	  "{\n \"lowers\": [\n  {\n   \"file\": \"a\"\n  }\n ],\n \"upper\": {\n  \"data\": "
	  "\"/img/u.data\",\n  \"index\": \"/img/u.index\"\n }\n}\n",
	  "{\n \"lowers\": [\n  {\n   \"file\": \"a\"\n  },\n  {\"file\": \"/img/snap.obd\"}\n "
	  "],\n "
	  "\"upper\": {\n  \"data\": \"/img/u-1.data\",\n  \"index\": \"/img/u-1.index\"\n "
	  "}\n}\n" },
	{ "json without lowers", "{\"upper\": {\"data\": \"u.data\", \"index\": \"u.index\"}}\n",
	  "{\"lowers\": [{\"file\": \"snap.obd\"}], \"upper\": {\"data\": \"u-1.data\", \"index\": "
	  "\"u-1.index\"}}\n" },
	{ "json, null", "{\"lowers\": null, \"upper\": {\"data\": \"u.data\", \"index\": \"i\"}}\n",
	  "{\"lowers\": [{\"file\": \"snap.obd\"}], \"upper\": {\"data\": \"u-1.data\", \"index\": "
	  "\"u-1.index\"}}\n" },
	{ "characters of more than a byte, and a mark",
	  "\xef\xbb\xbf# d\xc3\xa9j\xc3\xa0 \xe2\x82\xac\nupper: {data: \xc3\xbc.data, index: "
	  "i}\nlowers:\n  - {file: \xf0\x9f\x92\xbe}\n",
	  "\xef\xbb\xbf# d\xc3\xa9j\xc3\xa0 \xe2\x82\xac\nupper: {data: u-1.data, index: "
	  "u-1.index}\nlowers:\n  - {file: \xf0\x9f\x92\xbe}\n  - file: snap.obd\n" },
	{ "lines that end as in DOS", "lowers:\r\n- file: a\r\nupper: {data: 'u', index: i}\r\n",
	  "lowers:\r\n- file: a\r\n- file: snap.obd\nupper: {data: \"u-1.data\", index: "
	  "u-1.index}\r\n" },
	{ "acceleration layer, dashes",
	  "lowers:\n  - file: a\n  - dir: acc # top\nupper: {data: u.data, index: u.index}\n"
	  "accelerationLayer: true\n",
	  "lowers:\n  - file: a\n  - file: snap.obd\n  - dir: acc # top\nupper: {data: u-1.data, "
	  "index: u-1.index}\naccelerationLayer: true\n" },
	{ "acceleration layer, json",
	  "{\"accelerationLayer\": true, \"lowers\": [{\"file\": \"a\"}, {\"dir\": \"acc\"}], "
	  "\"upper\": {\"data\": \"u.data\", \"index\": \"u.index\"}}",
	  "{\"accelerationLayer\": true, \"lowers\": [{\"file\": \"a\"}, {\"file\": "
	  "\"snap.obd\"}, {\"dir\": \"acc\"}], \"upper\": {\"data\": \"u-1.data\", \"index\": "
	  "\"u-1.index\"}}" },
	{ "acceleration layer, json, lines",
	  "{\n\"accelerationLayer\": true,\n\"lowers\": [\n  {\"file\": \"a\"},\n  {\"dir\": "
	  "\"acc\"}"
	  "\n],\n\"upper\": {\"data\": \"u.data\", \"index\": \"u.index\"}}",
	  "{\n\"accelerationLayer\": true,\n\"lowers\": [\n  {\"file\": \"a\"},\n  {\"file\": "
	  "\"snap.obd\"},\n  {\"dir\": \"acc\"}\n],\n\"upper\": {\"data\": \"u-1.data\", "
	  "\"index\": "
	  "\"u-1.index\"}}" },
	{ "acceleration layer alone",
	  "accelerationLayer: true\nlowers:\n- dir: acc\nupper: {data: u.data, index: u.index}\n",
	  "accelerationLayer: true\nlowers:\n- file: snap.obd\n- dir: acc\nupper: {data: u-1.data, "
	  "index: u-1.index}\n" },
	{ "no acceleration layer",
	  "accelerationLayer: false\nlowers: [{file: a}, {file: b}]\nupper: {data: u.data, index: "
	  "u.index}\n",
	  "accelerationLayer: false\nlowers: [{file: a}, {file: b}, {\"file\": \"snap.obd\"}]\n"
	  "upper: {data: u-1.data, index: u-1.index}\n" },
	{ "no lowers, at the very beginning", "upper: {data: u.data, index: u.index}\n",
	  "lowers:\n  - file: snap.obd\nupper: {data: u-1.data, index: u-1.index}\n" },
	{ "no lowers, all of it to the right",
	  "  upper: {data: u.data, index: u.index}\n  trace: off\n",
	  "  lowers:\n    - file: snap.obd\n  upper: {data: u-1.data, index: u-1.index}\n"
	  "  trace: off\n" },
	{ "null by a word", "lowers: ~\nupper: {data: u.data, index: u.index}\n",
	  "lowers: [{\"file\": \"snap.obd\"}]\nupper: {data: u-1.data, index: u-1.index}\n" },
	{ "brackets on lines of their own, by tabs",
	  "lowers: [\n\t{file: a},\n\t {file: b} ]\nupper: {data: u.data, index: u.index}\n",
	  "lowers: [\n\t{file: a},\n\t {file: b},\n\t {\"file\": \"snap.obd\"} ]\nupper: {data: "
	  "u-1.data, index: u-1.index}\n" },
	{ "a map of several lines at the end, without a line break",
	  "upper: {data: u.data, index: u.index}\nlowers:\n  - file: a\n    dir: b",
	  "upper: {data: u-1.data, index: u-1.index}\nlowers:\n  - file: a\n    dir: b\n"
	  "  - file: snap.obd\n" },
	{ "a document's marks",
	  "---\nlowers:\n- {file: a}\nupper: {data: u.data, index: u.index}\n...\n",
	  "---\nlowers:\n- {file: a}\n- file: snap.obd\nupper: {data: u-1.data, index: u-1.index}\n"
	  "...\n" },
	{ "a list as the last thing, with a comment behind",
	  "upper: {data: u.data, index: u.index}\nlowers:\n  - file: a\n\n# end\n",
	  "upper: {data: u-1.data, index: u-1.index}\nlowers:\n  - file: a\n  - file: snap.obd\n\n"
	  "# end\n" },
};

/* A copy of a text between what is none of it: a letter before, a line break behind its NUL. */
static char *fence(const char *text)
{
	size_t n = strlen(text);
	char *copy = __real_malloc(n + 3);

	assert_non_null(copy);
	copy[0] = 'x';
	memcpy(copy + 1, text, n + 1);
	copy[n + 2] = '\n';
	return copy;
}

static void places_change(void **state)
{
	struct err e;
	char *out;
	size_t i, n;
	int r;

	for (i = 0; i < COUNT_OF(rows); i++) {
		char *text = fence(rows[i].text);

		r = config_edit("/img/c", text + 1, strlen(text + 1), &change, &out, &n, &e);
		if (r < 0)
			fail_msg("%s: %s", rows[i].what, e.msg);
		if (strcmp(out, rows[i].want) != 0 || n != strlen(out))
			fail_msg("%s: %s", rows[i].what, out);
		free(out);
		free(text);
	}
}

/* Every allocation of every row fails, and all that follow. */
static void memory_runs_out(void **state)
{
	struct err e;
	char *out;
	size_t i, n;
	long k;
	int r;

	for (i = 0; i < COUNT_OF(rows); i++) {
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			out = NULL;
			allocs_left = k;
			r = config_edit("/img/c", rows[i].text, strlen(rows[i].text), &change, &out,
					&n, &e);
			allocs_left = -1;
			if (r == -ENOMEM &&
			    (out || strncmp(e.msg, "/img/c:", 7) != 0 || !strstr(e.msg, "emory")))
				fail_msg("%s, allocation %ld: %s", rows[i].what, k, e.msg);
		}
		assert_int_equal(r, 0);
		assert_string_equal(out, rows[i].want);
		assert_true(k > 20);
		free(out);
	}
}

static void put(char **to, const char *text)
{
	free(*to);
	*to = text ? strdup(text) : NULL;
}

/* Changes one thing of what a config says; false: there is no such thing. */
static bool tamper(struct image_config *c, unsigned what)
{
	struct lower_config *first = c->lowers, *last = first + c->lower_count - 1;
	size_t n = c->lower_count;

	switch (what) {
	case 0:
		c->lowers = realloc(c->lowers, (n + 1) * sizeof *c->lowers);
		c->lowers[n] = (struct lower_config){ .file = strdup(change.layer) };
		c->lower_count++;
		return true;
	case 1:
		put(&last->file, "/img/other");
		return true;
	case 2:
		put(&last->file, NULL);
		return true;
	case 3:
		put(&c->upper_data, "/img/other");
		return true;
	case 4:
		put(&c->upper_index, "/img/other");
		return true;
	case 5:
		put(&c->upper_index, NULL);
		return true;
	case 6:
		c->acceleration_layer = !c->acceleration_layer;
		return true;
	case 7:
		put(&c->acceleration_dir, "/img/other");
		return true;
	case 8:
		put(&c->acceleration_dir, NULL);
		return true;
	case 9:
		put(&first->file, "/img/other");
		return true;
	case 10:
		put(&first->file, NULL);
		return true;
	case 11:
		put(&first->dir, "/img/other");
		return true;
	case 12:
		put(&first->dir, NULL);
		return true;
	case 13:
		put(&first->digest, NULL);
		return true;
	case 14:
		put(&first->digest, "sha256:0");
		return true;
	case 15:
		first->size++;
		return true;
	case 16:
		put(&first[1].dir, "/img/more");
		return true;
	case 17:
		put(&first[1].digest, "sha256:0");
		return true;
	default:
		return false;
	}
}

static unsigned tampering; /* with what the second text says; 0: with nothing */
static unsigned parsed; /* texts */

int __real_config_parse(const char *path, const char *text, size_t n,
			const struct config_options *options, struct image_config **out,
			struct err *e);
int __wrap_config_parse(const char *path, const char *text, size_t n,
			const struct config_options *options, struct image_config **out,
			struct err *e);
int __wrap_config_parse(const char *path, const char *text, size_t n,
			const struct config_options *options, struct image_config **out,
			struct err *e)
{
	int r = __real_config_parse(path, text, n, options, out, e);

	assert_string_equal(options->service, "none");
	if (r == 0 && ++parsed == 2 && tampering > 0 && !tamper(*out, tampering - 1))
		tampering = 0;
	return r;
}

/* Whatever else the new text would say of the disk is found out. */
static void nothing_else_changes(void **state)
{
	static const char text[] = "accelerationLayer: true\nlowers:\n"
				   "- {file: a, dir: d, size: 5, digest: " DIGEST "}\n"
				   "- {file: b}\n- {file: c, dir: acc}\n"
				   "upper: {data: u.data, index: u.index}\n";
	struct err e;
	size_t n;
	char *out;
	unsigned i;
	int r;

	for (i = 1;; i++) {
		tampering = i;
		parsed = 0;
		r = config_edit("/img/c", text, strlen(text), &change, &out, &n, &e);
		if (tampering == 0)
			break;
		if (r != -EINVAL || strcmp(e.msg, CANNOT) != 0)
			fail_msg("%u is not found out: %s", i - 1, r < 0 ? e.msg : out);
		assert_null(out);
	}
	assert_int_equal(r, 0); /* when nothing was done to it */
	assert_int_equal(i, 19);
	free(out);
}

/* A path as it is named: short where that is possible, in quotes where it must be. */
static void names_are_short_and_plain(void **state)
{
	static const struct {
		const char *folder, *layer, *name;
	} names[] = {
		{ "/img/", "/img/a.obd", "a.obd" },
		{ "/img/", "/img/z.obd", "z.obd" },
		{ "/img/", "/img/A.obd", "A.obd" },
		{ "/img/", "/img/Z.obd", "Z.obd" },
		{ "/img/", "/img/m_-9/x.0", "m_-9/x.0" },
		{ "/img/", "/img/_a.obd", "\"_a.obd\"" },
		{ "/img/", "/img/0.obd", "\"0.obd\"" },
		{ "/img/", "/img/-a.obd", "\"-a.obd\"" },
		{ "/img/", "/img/.obd", "\".obd\"" },
		{ "/img/", "/img/abc", "\"abc\"" },
		{ "/img/", "/img/a b.obd", "\"a b.obd\"" },
		{ "/img/", "/img/\xc3\xa4.obd", "\"\xc3\xa4.obd\"" },
		{ "/img/", "/img/a\x1f\x7f\x01.obd", "\"a\\u001f\\u007f\\u0001.obd\"" },
		{ "/img/", "/other/abc", "/other/abc" },
		{ "/img/", "/imgs/a.obd", "/imgs/a.obd" },
		{ "/img/", "/img//a.obd", "/img//a.obd" },
		{ "/img/", "/a", "/a" },
		{ "/i/", "/i/a.obd", "a.obd" },
		{ "/", "/a.obd", "a.obd" },
		{ "/", "/b/a.obd", "b/a.obd" },
	};
	static const char text[] = "upper: {data: u.data, index: u.index}\n";
	char path[16], want[256];
	struct err e;
	size_t i, n;
	char *out;

	for (i = 0; i < COUNT_OF(names); i++) {
		struct config_change c = { names[i].layer, "/x/d.d", "/x/i.i" };
		const char *slash = names[i].folder[1] == '\0' ? "" : "/";

		snprintf(path, sizeof path, "%sc", names[i].folder);
		snprintf(want, sizeof want,
			 "lowers:\n  - file: %s\nupper: {data: %sx/d.d, index: %sx/i.i}\n",
			 names[i].name, slash, slash);
		if (config_edit(path, text, strlen(text), &c, &out, &n, &e) < 0)
			fail_msg("%s: %s", names[i].layer, e.msg);
		assert_string_equal(out, want);
		free(out);
	}
}

/* The longest name that there is in quotes: each character takes six. */
static void control_characters_have_room(void **state)
{
	static const char text[] = "lowers: []\nupper: {data: u.data, index: u.index}\n";
	char layer[256] = "/img/", want[2048];
	struct config_change c = { layer, "/x/d", "/x/i" };
	struct err e;
	size_t i, n, length;
	char *out;

	for (length = 1; length < 200; length++) {
		memset(layer + 5, 1, length);
		layer[5 + length] = '\0';
		n = (size_t)sprintf(want, "lowers: [{\"file\": \"");
		for (i = 0; i < length; i++)
			n += (size_t)sprintf(want + n, "\\u0001");
		sprintf(want + n, "\"}]\nupper: {data: /x/d, index: /x/i}\n");
		assert_int_equal(config_edit("/img/c", text, strlen(text), &c, &out, &n, &e), 0);
		assert_string_equal(out, want);
		free(out);
	}
}

static void names_are_quoted_where_they_must_be(void **state)
{
	static const char text[] = "lowers: []\nupper: {data: u.data, index: u.index}\n";
	static const struct config_change odd = { .layer = "/img/a \"b\"\\c#: \t.obd",
						  .data = "/img/1",
						  .index = "/other/u x" };
	struct err e;
	size_t n;
	char *out;

	assert_int_equal(config_edit("/img/c", text, strlen(text), &odd, &out, &n, &e), 0);
	assert_string_equal(out, "lowers: [{\"file\": \"a \\\"b\\\"\\\\c#: \\u0009.obd\"}]\n"
				 "upper: {data: \"1\", index: \"/other/u x\"}\n");
	free(out);
}

static void what_cannot_be_changed_is_refused(void **state)
{
	static const struct {
		const char *text, *message;
	} bad[] = {
		{ "lowers: [{file: a}]\n", "/img/c: it names no upper" },
		{ "lowers: [{file: a}]\nupper: {}\n", "/img/c: it names no upper" },
		{ "lowers: [{file: a}]\nupper:\n", "/img/c: it names no upper" },
		{ "lowers: [{file: a}]\nupper: {data: , index: ''}\n",
		  "/img/c: it names no upper" },
		{ "lowers: [{file: a}]\nupper: {data: d}\n", "/img/c:2: upper: needs both" },
		{ "lowers: [{file: a}]\nupper: {data: {a: b}, index: i}\n",
		  "/img/c:2: upper: 'data' must be text" },
		{ "lowers: [{file: a}]\nupper: [a]\n", "/img/c:2: 'upper' must be a map" },
		{ "- a\n", "/img/c:1: an image config is a map" },
		{ "accelerationLayer: true\nlowers: []\nupper: {data: u, index: i}\n",
		  "/img/c:1: 'accelerationLayer: true', but no layer in 'lowers'" },
		{ "image: reg/a\nupper: {data: u, index: i}\n",
		  "/img/c: it has no 'lowers' that a layer could be added to, but 'image'" },
		{ "lowers:\n  -\n    file: |\n      a\nupper: {data: u, index: i}\n", CANNOT },
		{ "upper: [", "/img/c:2: " },
	};
	struct err e;
	size_t i, n;
	char *out;

	for (i = 0; i < COUNT_OF(bad); i++) {
		assert_int_equal(config_edit("/img/c", bad[i].text, strlen(bad[i].text), &change,
					     &out, &n, &e),
				 -EINVAL);
		if (strncmp(e.msg, bad[i].message, strlen(bad[i].message)) != 0)
			fail_msg("%s: %s", bad[i].text, e.msg);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places_change),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(nothing_else_changes),
		cmocka_unit_test(names_are_short_and_plain),
		cmocka_unit_test(control_characters_have_room),
		cmocka_unit_test(names_are_quoted_where_they_must_be),
		cmocka_unit_test(what_cannot_be_changed_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
