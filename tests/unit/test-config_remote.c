/* SPDX-License-Identifier: Apache-2.0 */
/* test-config_remote.c - what a config says about fetching: settings among its keys, an image by
 * its name, with and without a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/digest.h"
#include "core/config.h"

#define HEX16 "0123456789abcdef"
#define DIGEST "sha256:" HEX16 HEX16 HEX16 HEX16
#define OTHER "sha256:" HEX16 HEX16 HEX16 "0123456789abcde0"
#define LOWER "lowers: [{file: a}]\n"

/* What the machine's own file says must not matter. */
static const struct config_options no_service = { .service = "none" };

static struct image_config *parse(const char *text)
{
	struct image_config *c = NULL;
	struct err e = { "" };

	if (config_parse("/img/c.yaml", text, strlen(text), &no_service, &c, &e) < 0)
		fail_msg("%.60s: %s", text, e.msg);
	return c;
}

static void settings_are_keys(void **state)
{
	struct image_config *c = parse(LOWER "cache-dir: cache\ncache-limit: 20G\nconnections: 4\n"
					     "timeout: \"0\"\ninsecure: true\npassword: 0123\n"
					     "user: me\nproxy: http://me:pw@proxy:3128\n"
					     "mirror:\n  - https://a\n  - http://me:pw@b/v2/x/\n"
					     "download: {delay: 5, tryCnt: 0, blockSize: 0}\n");
	const struct fetch_settings *f = &c->fetch;

	assert_string_equal(f->cache_dir, "/img/cache");
	assert_true(f->cache_limit == (uint64_t)20 << 30);
	assert_int_equal(f->connections, 4);
	assert_int_equal(f->timeout, 0);
	assert_true(f->insecure);
	assert_string_equal(f->user, "me");
	assert_string_equal(f->password, "0123");
	assert_string_equal(f->proxy, "http://me:pw@proxy:3128");
	assert_int_equal(f->mirror_count, 2);
	assert_string_equal(f->mirrors[0], "https://a");
	assert_string_equal(f->mirrors[1], "http://me:pw@b/v2/x/");
	assert_false(f->download.enable);
	assert_int_equal(f->download.delay, 5);
	assert_int_equal(f->download.delay_extra, 30);
	assert_int_equal(f->download.max_mbps, 100);
	assert_int_equal(f->download.tries, 5);
	assert_int_equal(f->download.block_size, 262144);
	config_free(c);

	c = parse(LOWER "mirror: http://one\ndownload: true\ncache-dir: none\n");
	assert_int_equal(c->fetch.mirror_count, 1);
	assert_string_equal(c->fetch.mirrors[0], "http://one");
	assert_true(c->fetch.download.enable);
	assert_null(c->fetch.cache_dir);
	config_free(c);
}

static void an_acceleration_layer_is_left_out(void **state)
{
	struct image_config *c = parse("accelerationLayer: true\nlowers:\n- file: a\n"
				       "- {digest: " DIGEST ", dir: d}\n");

	assert_true(c->acceleration_layer);
	assert_string_equal(c->acceleration_dir, "/img/d");
	assert_int_equal(c->lower_count, 1);
	assert_string_equal(c->lowers[0].file, "/img/a");
	config_free(c);
	c = parse("accelerationLayer: true\nlowers: [{file: a}]\nupper: {data: d, index: i}\n");
	assert_true(c->acceleration_layer);
	assert_null(c->acceleration_dir);
	assert_int_equal(c->lower_count, 0);
	config_free(c);
}

static void an_image_is_named(void **state)
{
	struct image_config *c = parse("image: reg.example.com/app:v1\nplatform: linux/arm64\n");

	assert_string_equal(c->path, "/img/c.yaml");
	assert_string_equal(c->image, "reg.example.com/app:v1");
	assert_int_equal(c->lower_count, 0);
	assert_string_equal(c->fetch.platform, "linux/arm64");
	config_free(c);
	c = parse("image: a/b@" DIGEST "\nlowers: []\nupper: {data: d, index: i}\n");
	assert_string_equal(c->image, "a/b@" DIGEST);
	assert_string_equal(c->upper_data, "/img/d");
	config_free(c);
}

/* Without a config file: nothing is read, and nothing in the working directory is meant. */
static void a_name_is_enough(void **state)
{
	char limit[] = "1K", wrong[] = "1X";
	struct config_setting setting = { "cache-limit", limit };
	struct config_options options = { .service = "none",
					  .settings = &setting,
					  .setting_count = 1 };
	struct image_config *c = NULL;
	struct err e;

	assert_int_equal(config_from_image("localhost:5000/app", &options, &c, &e), 0);
	assert_string_equal(c->path, "localhost:5000/app");
	assert_string_equal(c->image, "localhost:5000/app");
	assert_int_equal(c->fetch.cache_limit, 1024);
	assert_int_equal(c->fetch.connections, FETCH_CONNECTIONS);
	assert_int_equal(config_refuse_own_file(c, "/dev/null", &e), 0);
	config_free(c);
	c = NULL;
	setting.value = wrong;
	assert_int_equal(config_from_image("app", &options, &c, &e), -EINVAL);
	assert_string_equal(e.msg, "app: cache-limit: '1X' is neither a size such as 512M or 10G "
				   "nor 'none'");
	assert_int_equal(config_from_image("", NULL, &c, &e), -EINVAL);
	assert_int_equal(config_from_image("https://me:hush@r/a:b", NULL, &c, &e), -EINVAL);
	assert_null(strstr(e.msg, "hush"));
	assert_null(c);
}

/* A digest beside the name says which image was meant, and pins it. */
static void a_digest_pins_an_image(void **state)
{
	static const struct {
		const char *image, *digest, *pinned, *message;
	} rows[] = {
		{ "a/b:v1", DIGEST, "a/b:v1@" DIGEST, NULL },
		{ "a/b@" DIGEST, DIGEST, "a/b@" DIGEST, NULL },
		{ "a/b@" DIGEST, OTHER, NULL, ": its image is " DIGEST ", not " OTHER },
		{ "a/b", "sha256:12", NULL, ": digest 'sha256:12' is not " DIGEST_FORM },
		{ NULL, DIGEST, NULL, ": a digest is given, but it names no 'image'" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct config_options options = { .service = "none",
							.digest = rows[i].digest };
		struct image_config *c = NULL;
		char text[256] = LOWER, message[512];
		struct err e = { "" };
		int r;

		if (rows[i].image)
			snprintf(text, sizeof text, "image: %s\n", rows[i].image);
		r = config_parse("/c", text, strlen(text), &options, &c, &e);
		if (rows[i].pinned) {
			assert_int_equal(r, 0);
			assert_string_equal(c->image, rows[i].pinned);
			config_free(c);
			continue;
		}
		assert_int_equal(r, -EINVAL);
		snprintf(message, sizeof message, "/c%s", rows[i].message);
		assert_string_equal(e.msg, message);
	}
}

static void expect_message(const char *text, const char *message)
{
	struct image_config *c = NULL;
	struct err e;

	assert_int_equal(config_parse("/c", text, strlen(text), &no_service, &c, &e), -EINVAL);
	assert_string_equal(e.msg, message);
}

static void settings_that_need_each_other(void **state)
{
	expect_message(LOWER "user: me\n", "/c: 'user' is given without 'password'");
	expect_message(LOWER "password: hush\n", "/c: 'password' is given without 'user'");
	expect_message(LOWER "client-key: k\n", "/c: 'client-key' is given without 'client-cert'");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_are_keys),
		cmocka_unit_test(an_acceleration_layer_is_left_out),
		cmocka_unit_test(an_image_is_named),
		cmocka_unit_test(a_name_is_enough),
		cmocka_unit_test(a_digest_pins_an_image),
		cmocka_unit_test(settings_that_need_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
