/* SPDX-License-Identifier: Apache-2.0 */
/* test-config_edit.c - a snapshot changes three places of a config and leaves all else as it is. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/config_edit.h"

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
	{ "a document's marks",
	  "---\nlowers:\n- {file: a}\nupper: {data: u.data, index: u.index}\n...\n",
	  "---\nlowers:\n- {file: a}\n- file: snap.obd\nupper: {data: u-1.data, index: u-1.index}\n"
	  "...\n" },
	{ "a list as the last thing, with a comment behind",
	  "upper: {data: u.data, index: u.index}\nlowers:\n  - file: a\n\n# end\n",
	  "upper: {data: u-1.data, index: u-1.index}\nlowers:\n  - file: a\n  - file: snap.obd\n\n"
	  "# end\n" },
};

static void places_change(void **state)
{
	struct err e;
	char *out;
	size_t i, n;
	int r;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		r = config_edit("/img/c", rows[i].text, strlen(rows[i].text), &change, &out, &n,
				&e);
		if (r < 0)
			fail_msg("%s: %s", rows[i].what, e.msg);
		if (strcmp(out, rows[i].want) != 0 || n != strlen(out))
			fail_msg("%s: %s", rows[i].what, out);
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
		{ "image: reg/a\nupper: {data: u, index: i}\n",
		  "/img/c: it has no 'lowers' that a layer could be added to, but 'image'" },
		{ "lowers:\n  -\n    file: |\n      a\nupper: {data: u, index: i}\n",
		  "/img/c: it has a form that cannot be changed: write 'lowers' and 'upper' as in "
		  "the manual" },
		{ "upper: [", "/img/c:2: " },
	};
	struct err e;
	size_t i, n;
	char *out;

	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
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
		cmocka_unit_test(names_are_quoted_where_they_must_be),
		cmocka_unit_test(what_cannot_be_changed_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
