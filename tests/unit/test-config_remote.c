/* SPDX-License-Identifier: Apache-2.0 */
/* test-config_remote.c - what a config says about fetching: settings among its keys, an image by
 * its name, with and without a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/digest.h"
#include "core/config.h"
#include "tests/unit/allocs.h"

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

/* Each number of the map: what it is without a word, its least, its most, and too much. */
static void a_download_has_limits(void **state)
{
	static const struct {
		const char *name;
		unsigned most;
		bool zero_is_default;
		uint64_t otherwise;
	} keys[] = {
		{ "delay", 1000000, false, 300 },	{ "delayExtra", 1000000, false, 30 },
		{ "maxMBps", 1000000, false, 100 },	{ "tryCnt", 1000000, true, 5 },
		{ "blockSize", 1 << 30, true, 262144 },
	};
	size_t i, k, j;

	for (i = 0; i < sizeof keys / sizeof *keys; i++) {
		const uint64_t values[] = { 0, 1, keys[i].most, keys[i].most + 1 };

		for (k = 0; k < 4; k++) {
			char text[256], message[256];
			struct image_config *c = NULL;
			struct err e;
			int r;

			snprintf(text, sizeof text, LOWER "download: {%s: %llu}\n", keys[i].name,
				 (unsigned long long)values[k]);
			r = config_parse("/c", text, strlen(text), &no_service, &c, &e);
			if (k == 3) {
				assert_int_equal(r, -EINVAL);
				snprintf(message, sizeof message,
					 "/c:2: download: '%s' is %u, more than the limit of %u",
					 keys[i].name, keys[i].most + 1, keys[i].most);
				assert_string_equal(e.msg, message);
				continue;
			}
			assert_int_equal(r, 0);
			for (j = 0; j < sizeof keys / sizeof *keys; j++) {
				const struct fetch_download *d = &c->fetch.download;
				const uint64_t got[] = { d->delay, d->delay_extra, d->max_mbps,
							 d->tries, d->block_size };
				bool said = j == i && !(k == 0 && keys[i].zero_is_default);

				if (got[j] != (said ? values[k] : keys[j].otherwise))
					fail_msg("%s: %s is %llu", text, keys[j].name,
						 (unsigned long long)got[j]);
			}
			config_free(c);
		}
	}
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

/* What a name may have, and how long it may be. */
static void a_name_is_printable_and_not_too_long(void **state)
{
	static const struct {
		const char *name;
		bool is;
	} rows[] = {
		{ "!", true },		{ "~", true },		{ "a!~b", true },
		{ "a b", false },	{ "a\x7f", false },	{ "\x1f", false },
		{ "a\xc3\xa4", false }, { " a", false },	{ "a ", false },
		{ "a@" DIGEST, true },	{ "a@sha512:0", true }, { "a@b@" DIGEST, false },
		{ "a@", false },	{ "a@sha256", false },	{ "@sha256:", true },
	};
	char name[CONFIG_SETTING_MAX + 2];
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		if ((config_check_reference(rows[i].name, &e) == 0) != rows[i].is)
			fail_msg("'%s'", rows[i].name);
	memset(name, 'x', sizeof name);
	name[CONFIG_SETTING_MAX] = '\0';
	assert_int_equal(config_check_reference(name, &e), 0);
	name[CONFIG_SETTING_MAX] = 'x';
	name[CONFIG_SETTING_MAX + 1] = '\0';
	assert_int_equal(config_check_reference(name, &e), -EINVAL);
}

static void a_percentage_has_three_digits(void **state)
{
	static const char *const bad[] = { "",	 "-1", "101", "0100", "1000",
					   "7x", " 7", "7 ",  "999",  "18446744073709551617" };
	char text[8];
	unsigned i, got;
	struct err e;

	for (i = 0; i <= 100; i++) {
		snprintf(text, sizeof text, i % 2 ? "%u" : "%03u", i);
		got = 1000;
		assert_int_equal(config_parse_percent(text, &got, &e), 0);
		assert_int_equal(got, i);
	}
	for (i = 0; i < sizeof bad / sizeof *bad; i++) {
		char message[128];

		assert_int_equal(config_parse_percent(bad[i], &got, &e), -EINVAL);
		snprintf(message, sizeof message, "'%s' is not a percentage, 0 to 100", bad[i]);
		assert_string_equal(e.msg, message);
	}
	assert_int_equal(got, 100); /* of none of them */
}

static void expect_options(const char *text, const struct config_options *options,
			   const char *message)
{
	struct image_config *c = NULL;
	struct err e = { "" };
	int r = config_parse("/c", text, strlen(text), options, &c, &e);

	assert_int_equal(r, message[0] == '\0' ? 0 : -EINVAL);
	assert_string_equal(e.msg, message);
	config_free(c);
}

/* From a file, and from the command line. */
static void a_socket_has_a_short_name(void **state)
{
	char name[CONFIG_CONTROL_MAX + 2], text[256], message[256];
	struct config_options options = { .service = "none", .control = name };
	int n;

	for (n = CONFIG_CONTROL_MAX; n <= CONFIG_CONTROL_MAX + 1; n++) {
		memset(name, 'n', sizeof name);
		name[0] = '/';
		name[n] = '\0';
		snprintf(message, sizeof message,
			 "/c: control: '%s' is too long for a socket, which may have 107 bytes",
			 name);
		expect_options(LOWER, &options, n > CONFIG_CONTROL_MAX ? message : "");
		snprintf(text, sizeof text, LOWER "control: %s\n", name);
		snprintf(message, sizeof message,
			 "/c:2: control: '%s' is too long for a socket, which may have 107 bytes",
			 name);
		expect_options(text, &no_service, n > CONFIG_CONTROL_MAX ? message : "");
	}
}

static void options_are_checked(void **state)
{
	char value[] = "1";
	const struct config_setting settings[] = { { "timeout", value }, { "timeouts", value } };
	struct config_options options = { .service = "none",
					  .settings = settings,
					  .setting_count = 2 };

	expect_options(LOWER, &options, "/c: timeouts: there is no such setting");
	options.setting_count = 1;
	expect_options(LOWER, &options, "");
	options.upper_garbage = "101";
	expect_options(LOWER, &options, "/c: upper-garbage: '101' is not a percentage, 0 to 100");
}

/* Every allocation fails, and all that follow: of a name with all that options say, and of a file.
 */
static void memory_runs_out(void **state)
{
	static const char text[] = "image: a/b\ndescription: d\nresultFile: r\n"
				   "recordTracePath: t\ncontrol: c\nprefetch: [/a, /b]\n"
				   "mirror: [http://a]\nservice: none\n";
	char proxy[] = "http://p";
	const struct config_setting setting = { "proxy", proxy };
	const struct config_options options = { .service = "none",
						.settings = &setting,
						.setting_count = 1,
						.digest = DIGEST,
						.upper = "/u",
						.control = "/s" };
	int way, r;
	long k;

	for (way = 0; way < 2; way++) {
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			struct image_config *c = NULL;
			struct err e = { "" };

			allocs_left = k;
			r = way == 0 ? config_from_image("a/b", &options, &c, &e)
				     : config_parse("/c", text, sizeof text - 1, &options, &c, &e);
			allocs_left = -1;
			if (r == -ENOMEM &&
			    (c || !strstr(e.msg, "emory") ||
			     strncmp(e.msg, way == 0 ? "a/b:" : "/c:", way == 0 ? 4 : 3) != 0))
				fail_msg("allocation %ld: %s", k, e.msg);
			if (r == 0) {
				assert_string_equal(c->image, "a/b@" DIGEST);
				assert_string_equal(c->upper_data, "/u.data");
				assert_string_equal(c->upper_index, "/u.index");
				assert_string_equal(c->control, "/s");
				assert_int_equal(c->upper_garbage, CONFIG_GARBAGE);
				assert_true(c->upper_is_option);
				if (way == 1) {
					assert_string_equal(c->record_trace_path, "/t");
					assert_string_equal(c->result_file, "/r");
					assert_string_equal(c->description, "d");
					assert_int_equal(c->fetch.prefetch_count, 2);
				}
			}
			config_free(c);
		}
		assert_int_equal(r, 0);
		assert_true(k > 8);
	}
}

/* Without a working directory, a relative name leads nowhere. */
static void a_config_is_somewhere(void **state)
{
	char gone[] = "/tmp/test-config.XXXXXX", *cwd = getcwd(NULL, 0);
	struct image_config *c = NULL;
	struct err e;

	assert_non_null(mkdtemp(gone));
	assert_int_equal(chdir(gone), 0);
	assert_int_equal(rmdir(gone), 0);
	assert_int_equal(config_parse("c", LOWER, sizeof LOWER - 1, &no_service, &c, &e), -ENOENT);
	assert_string_equal(e.msg, "c: its absolute path: No such file or directory");
	assert_null(c);
	assert_int_equal(chdir(cwd), 0);
	free(cwd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(settings_are_keys),
		cmocka_unit_test(a_download_has_limits),
		cmocka_unit_test(an_acceleration_layer_is_left_out),
		cmocka_unit_test(an_image_is_named),
		cmocka_unit_test(a_name_is_enough),
		cmocka_unit_test(a_digest_pins_an_image),
		cmocka_unit_test(settings_that_need_each_other),
		cmocka_unit_test(a_name_is_printable_and_not_too_long),
		cmocka_unit_test(a_percentage_has_three_digits),
		cmocka_unit_test(a_socket_has_a_short_name),
		cmocka_unit_test(options_are_checked),
		cmocka_unit_test(memory_runs_out),
		cmocka_unit_test(a_config_is_somewhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
