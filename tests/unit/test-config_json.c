/* SPDX-License-Identifier: Apache-2.0 */
/* test-config_json.c - configs as the reference's programs write them: which unknown keys of theirs
 * are warnings, and which of ours are errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/config.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/loglib.h"

#define LOWER "lowers: [{file: a}]\n"

/* What the machine's own file says must not matter. */
static const struct config_options no_service = { .service = "none" };

static struct image_config *parse(const char *text)
{
	struct image_config *c = NULL;
	struct err e = { "" };

	if (config_parse("/img/c.yaml", text, strlen(text), &no_service, &c, &e) < 0)
		fail_msg("%s", e.msg);
	return c;
}

static void expect_bad(const char *what, const char *text, const char *message)
{
	struct image_config *c = NULL;
	struct err e = { "" };
	char expected[1024];

	snprintf(expected, sizeof expected, "/img/c.yaml:%s", message);
	if (config_parse("/img/c.yaml", text, strlen(text), &no_service, &c, &e) != -EINVAL || c)
		fail_msg("%s: not refused", what);
	if (strncmp(e.msg, expected, strlen(expected)) != 0)
		fail_msg("%s: %s", what, e.msg);
}

/* The config that this text is; what it warns of is kept. */
static struct image_config *parse_and_listen(const char *text)
{
	struct image_config *c;

	loglib_listen();
	c = parse(text);
	log_set_sink(leftovers_sink);
	return c;
}

#define JSON_LOWER "\"lowers\":[{\"file\":\"a\"}]"

/* The reference's programs write JSON: what a newer one of them adds keeps no disk from being
 * served. */
static void unknown_keys_of_json_are_warnings(void **state)
{
	static const struct {
		const char *text, *warnings;
	} rows[] = {
		{ "{" JSON_LOWER "}", "" },
		{ "{" JSON_LOWER ",\"colour\":1}",
		  "/img/c.yaml:1: unknown key 'colour' is ignored\n" },
		{ "\n {" JSON_LOWER ",\n\"timout\":{\"a\":[1]}}\n",
		  "/img/c.yaml:3: unknown key 'timout' (did you mean 'timeout'?) is ignored\n" },
		{ "{\"lowers\":[{\"file\":\"a\",\n\"uuid\":\"x\"}],\"upper\":{\"mode\":\"rw\"},"
		  "\"download\":{\"enable\":true,\"speed\":\"\"}}",
		  "/img/c.yaml:2: upper: unknown key 'mode' is ignored\n"
		  "/img/c.yaml:2: layer 0: unknown key 'uuid' is ignored\n"
		  "/img/c.yaml:2: download: unknown key 'speed' is ignored\n" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct image_config *c = parse_and_listen(rows[i].text);

		assert_int_equal(c->lower_count, 1);
		loglib_expect(rows[i].warnings);
		config_free(c);
	}
}

/* A file is JSON from its outermost brace to the innermost key. */
static void yaml_in_braces_is_not_json(void **state)
{
	expect_bad("key without quotes", "{lowers: [{file: a}], \"colour\": 1}",
		   "1: unknown key 'colour'");
	expect_bad("key within", "{\"lowers\":[{file: a}], \"colour\": 1}",
		   "1: unknown key 'colour'");
	expect_bad("list without brackets", "\"lowers\":\n- {\"file\": \"a\"}\n\"colour\": 1\n",
		   "3: unknown key 'colour'");
	/* What it means is as strict as ever. */
	expect_bad("type", "{" JSON_LOWER ",\"download\":{\"enable\":3}}",
		   "1: download: 'enable' must be true or false");
	expect_bad("twice", "{" JSON_LOWER ",\n" JSON_LOWER "}", "2: ");
}

/* Size in GiB of which the snapshotter made the upper. */
static void upper_vsize_is_read_and_means_nothing(void **state)
{
	static const char *const texts[] = {
		"{" JSON_LOWER ",\"upper\":{\"index\":\"i\",\"data\":\"d\",\"vsize\":64}}",
		"{" JSON_LOWER ",\"upper\":{\"index\":\"i\",\"data\":\"d\",\"vsize\":\"64\"}}",
		LOWER "upper: {data: d, index: i, vsize: 64}\n",
	};
	size_t i;

	for (i = 0; i < sizeof texts / sizeof *texts; i++) {
		struct image_config *c = parse_and_listen(texts[i]);

		assert_non_null(strstr(c->upper_data, "img/d"));
		loglib_expect_none();
		config_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_keys_of_json_are_warnings),
		cmocka_unit_test(yaml_in_braces_is_not_json),
		cmocka_unit_test(upper_vsize_is_read_and_means_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
