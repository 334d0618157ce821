/* SPDX-License-Identifier: Apache-2.0 */
/* test-params.c - the plugin's parameters: each one's values, what excludes what, and what is said
 * of those that are none.
 *
 * Linked with explicit_bzero wrapped, to see what is wiped. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "nbdkit-plugin/params.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static void test_reference(void **state)
{
	static const struct {
		const char *text;
		bool is;
	} rows[] = {
		{ "reg.example.com/app:v1", true },
		{ "reg.example.com/app", true },
		{ "reg:5000/a/b", true },
		{ "localhost/app", true },
		{ "app:v1", true },
		{ "library/app@sha256:00", true },
		{ "a.b/c", true },
		{ ":/app", true },
		{ "l", false },
		{ "local", false },
		{ "loc/localhost/", false },
		{ "a/b.c/d", false },
		{ "a.b", false },
		{ "x:1/a", true },
		{ ".yaml", false },
		{ "a:b.yaml", false },
		{ "a:b.json", false },
		{ "a:yaml", true },
		{ "localhosts/app", false },
		{ "local/app", false },
		{ "image", false },
		{ "/reg.example.com/app:v1", false },
		{ "./app:v1", false },
		{ "../app:v1", false },
		{ "images.d/web.yaml", false },
		{ "images.d/config.v1.json", false },
		{ "", false },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++)
		if (params_is_reference(rows[i].text) != rows[i].is)
			fail_msg("'%s'", rows[i].text);
}

/* In place of nbdkit's: what is read is what follows the first character. */
static int read_password(const char *value, char **password)
{
	if (strcmp(value, "+gone") == 0)
		return -1;
	*password = strdup(value + 1);
	return *password ? 0 : -1;
}

static char wiped[512]; /* the texts that were, a blank behind each */

void __real_explicit_bzero(void *p, size_t n);
void __wrap_explicit_bzero(void *p, size_t n);
void __wrap_explicit_bzero(void *p, size_t n)
{
	size_t used = strlen(wiped);

	snprintf(wiped + used, sizeof wiped - used, "%.*s ", (int)n, (const char *)p);
	__real_explicit_bzero(p, n);
}

static int ask_password(const char *value, char **password)
{
	assert_string_equal(value, "-");
	*password = strdup("asked");
	return 0;
}

static void takes(struct params *p, const char *key, const char *value)
{
	struct err e;

	if (params_set(p, key, value, read_password, &e) != 0)
		fail_msg("%s=%s: %s", key, value, e.msg);
}

static void refuses(struct params *p, const char *key, const char *value, const char *message)
{
	struct err e;

	assert_int_equal(params_set(p, key, value, read_password, &e), -EINVAL);
	assert_string_equal(e.msg, message);
}

static void test_params(void **state)
{
	struct params p = { 0 };
	struct err e;

	assert_int_equal(params_complete(&p, &e), -EINVAL);
	takes(&p, "config", "/image.yaml");
	assert_int_equal(params_complete(&p, &e), 0);
	refuses(&p, "config", "/other.yaml", "config= is given twice");
	assert_string_equal(p.config, "/image.yaml");
	takes(&p, "dir", "images");
	assert_true(p.dir[0] == '/');
	assert_int_equal(params_complete(&p, &e), -EINVAL);
	refuses(&p, "dri", "x", "unknown parameter 'dri'; nbdkit overlaybd --help lists them");
	refuses(&p, "cofnig", "x", "unknown parameter 'cofnig' (did you mean 'config'?)");
	refuses(&p, "mirrors", "x", "unknown parameter 'mirrors' (did you mean 'mirror'?)");
	params_release(&p);
	assert_null(p.config);
	params_release(&p);
}

static void test_upper_params(void **state)
{
	AUTO_FREE char *cwd = getcwd(NULL, 0);
	char want[4096];
	struct params p = { 0 };
	struct err e;

	refuses(&p, "upper", "", "upper= is empty");
	refuses(&p, "upper", ".data",
		"upper=.data: the name is without '.data' and '.index', which both its files "
		"have");
	refuses(&p, "upper", "u.data",
		"upper=u.data: the name is without '.data' and '.index', which both its files "
		"have");
	refuses(&p, "upper-garbage", "", "upper-garbage=: '' is not a percentage, 0 to 100");
	refuses(&p, "upper-garbage", "-1", "upper-garbage=: '-1' is not a percentage, 0 to 100");
	takes(&p, "upper", "u");
	takes(&p, "upper-garbage", "100");
	refuses(&p, "upper", "v", "upper= is given twice");
	refuses(&p, "upper-garbage", "0", "upper-garbage= is given twice");
	snprintf(want, sizeof want, "%s/u", cwd);
	assert_string_equal(p.options.upper, want);
	assert_string_equal(p.options.upper_garbage, "100");
	takes(&p, "dir", "x");
	assert_int_equal(params_complete(&p, &e), -EINVAL);
	assert_string_equal(e.msg,
			    "dir= and upper= exclude each other: each image has its own upper");
	params_release(&p);
}

/* What each says when it is given twice, empty, or with what cannot be meant. */
static void test_each_param(void **state)
{
	static const struct {
		const char *key, *value, *bad, *message;
	} rows[] = {
		{ "config", "a.yaml", "", "config= is empty" },
		{ "dir", "d", "", "dir= is empty" },
		{ "control", "c", "", "control= is empty" },
		{ "digest",
		  "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		  "sha256:0",
		  "digest=: not 'sha256:' and 64 hex digits in lower case, nor 'sha512:' and 128" },
		{ "image", "r/a:b", "",
		  "image=: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, of printable ASCII "
		  "characters" },
		{ "upper-garbage", "7", "101",
		  "upper-garbage=: '101' is not a percentage, 0 to 100" },
		{ "service", "s", "", "service= is empty" },
		{ "service", "none", "", "service= is empty" },
		{ "upper", "u", "u.index",
		  "upper=u.index: the name is without '.data' and '.index', which both its files "
		  "have" },
		{ "acceleration-paths", "true", "yes",
		  "acceleration-paths=: 'yes' is neither true nor false" },
		{ "user-agent", "x", "", "user-agent=: it is empty" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		const char *key = rows[i].key;
		struct params p = { 0 };
		char message[64];

		refuses(&p, key, rows[i].bad, rows[i].message);
		takes(&p, key, rows[i].value);
		snprintf(message, sizeof message, "%s= is given twice", key);
		refuses(&p, key, rows[i].value, message);
		refuses(&p, key, "none", message);
		params_release(&p);
	}
}

/* What options say is what config_load gets. */
static void test_options(void **state)
{
	AUTO_FREE char *cwd = getcwd(NULL, 0);
	char path[4200];
	struct params p = { 0 };

	takes(&p, "control", "c");
	snprintf(path, sizeof path, "%s/c", cwd);
	assert_string_equal(p.options.control, path);
	takes(&p, "service", "s");
	snprintf(path, sizeof path, "%s/s", cwd);
	assert_string_equal(p.options.service, path);
	assert_null(p.options.folder);
	takes(&p, "acceleration-paths", "true");
	takes(&p, "user-agent", "x");
	takes(&p, "mirror", "http://a");
	takes(&p, "mirror", "http://b");
	takes(&p, "prefetch", "/a");
	takes(&p, "prefetch", "/b");
	assert_string_equal(p.options.folder, cwd);
	assert_int_equal(p.options.setting_count, 6);
	assert_string_equal(p.options.settings[0].name, "acceleration-paths");
	assert_string_equal(p.options.settings[0].value, "true");
	assert_string_equal(p.options.settings[3].name, "mirror");
	assert_string_equal(p.options.settings[3].value, "http://b");
	params_release(&p);
	takes(&p, "service", "none");
	assert_string_equal(p.options.service, "none");
	assert_null(p.options.digest);
	takes(&p, "digest",
	      "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	assert_string_equal(p.options.digest, p.digest);
	assert_string_equal(p.digest + 7 + 48, "0123456789abcdef");
	params_release(&p);
}

/* Passwords stay nowhere in memory. */
static void test_wiping(void **state)
{
	struct params p = { 0 };

	takes(&p, "user", "me");
	wiped[0] = '\0';
	takes(&p, "password", "+hush");
	/* The one that was tried, and the one that was read. */
	assert_string_equal(wiped, "hush hush ");
	wiped[0] = '\0';
	params_release(&p);
	assert_string_equal(wiped, "me hush ");
}

/* Every key that is long enough, with a letter more. */
static void test_suggestions(void **state)
{
	static const char *const others[] = { "config", "control", "digest",
					      "image",	"service", "upper-garbage" };
	struct params p = { 0 };
	char key[64], message[160];
	size_t i;

	for (i = 0; i < CONFIG_SETTING_COUNT + COUNT_OF(others); i++) {
		const char *name = i < CONFIG_SETTING_COUNT ? config_setting_name(i)
							    : others[i - CONFIG_SETTING_COUNT];

		if (strlen(name) < 6)
			continue;
		snprintf(key, sizeof key, "%sx", name);
		snprintf(message, sizeof message, "unknown parameter '%s' (did you mean '%s'?)",
			 key, name);
		refuses(&p, key, "1", message);
	}
	params_release(&p);
}

/* A file is meant where there is one. */
static void test_files_and_references(void **state)
{
	char folder[] = "/tmp/test-params.XXXXXX", *cwd = getcwd(NULL, 0);
	struct params p = { 0 };
	struct err e;

	assert_non_null(mkdtemp(folder));
	assert_int_equal(chdir(folder), 0);
	refuses(&p, "config", "reg.io/app:v1",
		"reg.io/app:v1: no such file; did you mean image=reg.io/app:v1?");
	params_release(&p);
	takes(&p, "config", "app.yaml"); /* whether it is there is seen when it is opened */
	params_release(&p);
	assert_int_equal(io_replace_file("app:v1", "x", 1, NULL), 0);
	takes(&p, "config", "app:v1");
	assert_string_equal(strrchr(p.config, '/'), "/app:v1");
	params_release(&p);
	/* Where nothing is relative to. */
	assert_int_equal(unlink("app:v1"), 0);
	assert_int_equal(rmdir(folder), 0);
	assert_int_equal(params_set(&p, "connections", "7", read_password, &e), -ENOENT);
	assert_string_equal(e.msg, "the working directory: No such file or directory");
	assert_int_equal(params_set(&p, "dir", "d", read_password, &e), -ENOENT);
	assert_string_equal(e.msg, "dir=d: No such file or directory");
	params_release(&p);
	assert_int_equal(chdir(cwd), 0);
	free(cwd);
}

static void test_exclusions(void **state)
{
	static const struct {
		const char *pairs[6], *message;
	} rows[] = {
		{ { "config", "a" }, NULL },
		{ { "dir", "a" }, NULL },
		{ { "image", "r/a:b" }, NULL },
		{ { "config", "a", "digest",
		    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		  NULL },
		{ { "config", "a", "control", "c", "upper", "u" }, NULL },
		{ { "config", "a", "trace-file", "t" }, NULL },
		{ { "dir", "a", "trace", "off" }, NULL },
		{ { "config", "a", "dir", "b" }, "config=, dir= and image= exclude each other" },
		{ { "config", "a", "image", "r/a:b" },
		  "config=, dir= and image= exclude each other" },
		{ { "dir", "a", "image", "r/a:b" }, "config=, dir= and image= exclude each other" },
		{ { "dir", "a", "digest",
		    "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		  "dir= and digest= exclude each other" },
		{ { "dir", "a", "control", "c" },
		  "dir= and control= exclude each other: name a socket for each image in its "
		  "config" },
		{ { "dir", "a", "upper", "u" },
		  "dir= and upper= exclude each other: each image has its own upper" },
		{ { "dir", "a", "trace", "off", "trace-file", "t" },
		  "dir= and trace-file= exclude each other: its images would share one trace" },
		{ { "trace", "off" },
		  "nothing to serve: config=FILE, dir=DIR or image=REF is needed" },
	};
	size_t i, k;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct params p = { 0 };
		struct err e;
		int r;

		for (k = 0; k < 6 && rows[i].pairs[k]; k += 2)
			takes(&p, rows[i].pairs[k], rows[i].pairs[k + 1]);
		r = params_complete(&p, &e);
		if (r != (rows[i].message ? -EINVAL : 0))
			fail_msg("row %zu: %d", i, r);
		if (rows[i].message)
			assert_string_equal(e.msg, rows[i].message);
		params_release(&p);
	}
}

static void test_image_params(void **state)
{
	struct params p = { 0 };
	struct err e;

	refuses(&p, "image", "",
		"image=: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, of printable ASCII "
		"characters");
	refuses(&p, "image", "me:hush@reg/app",
		"image=: a name is HOST/REPOSITORY:TAG or ...@sha256:DIGEST, without user and "
		"password");
	takes(&p, "image", "reg/app:v1");
	refuses(&p, "image", "reg/app:v2", "image= is given twice");
	assert_int_equal(params_complete(&p, &e), 0);
	takes(&p, "dir", "/x");
	assert_int_equal(params_complete(&p, &e), -EINVAL);
	assert_string_equal(e.msg, "config=, dir= and image= exclude each other");
	params_release(&p);
}

static void test_setting_params(void **state)
{
	AUTO_FREE char *cwd = getcwd(NULL, 0);
	struct params p = { 0 };
	const struct config_options *o = &p.options;

	refuses(&p, "connections", "0", "connections=: '0' is not a whole number from 1 to 1024");
	refuses(&p, "stats", "", "stats=: it is empty");
	assert_int_equal(o->setting_count, 0);
	takes(&p, "connections", "8");
	refuses(&p, "connections", "9", "connections= is given twice");
	takes(&p, "mirror", "http://a");
	takes(&p, "stats", "out.json");
	takes(&p, "mirror", "http://b");
	assert_int_equal(o->setting_count, 4);
	assert_string_equal(o->settings[0].name, "connections");
	assert_string_equal(o->settings[0].value, "8");
	assert_string_equal(o->settings[1].value, "http://a");
	assert_string_equal(o->settings[3].value, "http://b");
	assert_string_equal(o->folder, cwd);
	assert_null(o->service);
	takes(&p, "service", "none");
	assert_string_equal(o->service, "none");
	refuses(&p, "service", "x", "service= is given twice");
	params_release(&p);
	takes(&p, "service", "x");
	assert_int_equal(o->service[0], '/');
	refuses(&p, "service", "none", "service= is given twice");
	params_release(&p);
}

static void test_password_params(void **state)
{
	static const char *const literal[] = { "hush", "-hush", "-1hush", "+", "" };
	static const char asked[] = "-\0x"; /* what stands behind its end is none of it */
	struct params p = { 0 };
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(literal); i++)
		refuses(&p, "password", literal[i],
			"password= would show it in the process list: use password=+FILE, or "
			"password=- to be asked");
	assert_int_equal(params_set(&p, "password", "+gone", read_password, &e), 1);
	refuses(&p, "password", "+hu\tsh",
		"password=: it holds a line break or another control character");
	refuses(&p, "password", "-", "password=: it is empty");
	refuses(&p, "proxy", "http://me:hush@proxy",
		"proxy=: an address with '@' in it would show a user or password in the process "
		"list: say it in a config file");
	takes(&p, "password", "+hush");
	refuses(&p, "password", "-7", "password= is given twice");
	assert_string_equal(p.options.settings[0].value, "hush");
	params_release(&p);
	takes(&p, "password", "-7");
	params_release(&p);
	assert_int_equal(params_set(&p, "password", asked, ask_password, &e), 0);
	params_release(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),      cmocka_unit_test(test_params),
		cmocka_unit_test(test_upper_params),   cmocka_unit_test(test_each_param),
		cmocka_unit_test(test_options),	       cmocka_unit_test(test_wiping),
		cmocka_unit_test(test_suggestions),    cmocka_unit_test(test_files_and_references),
		cmocka_unit_test(test_exclusions),     cmocka_unit_test(test_image_params),
		cmocka_unit_test(test_setting_params), cmocka_unit_test(test_password_params),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
