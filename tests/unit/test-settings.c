/* SPDX-License-Identifier: Apache-2.0 */
/* test-settings.c - the built-in defaults, and that settings give back all that they own. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fetch/settings.h"
#include "tests/unit/fenced_secrets.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

static uid_t user_id;

uid_t __wrap_geteuid(void);

uid_t __wrap_geteuid(void)
{
	return user_id;
}

static void set(const char *name, const char *value)
{
	assert_int_equal(value ? setenv(name, value, 1) : unsetenv(name), 0);
}

static const struct {
	const char *xdg, *home;
	uid_t user;
	const char *cache;
} caches[] = {
	{ "/x", "/h", 1000, "/x/overlaybd" },
	{ "/x", "/h", 0, "/x/overlaybd" },
	{ "/x", NULL, 1000, "/x/overlaybd" },
	{ NULL, "/h", 1000, "/h/.cache/overlaybd" },
	{ NULL, "/h", 0, "/var/cache/overlaybd" },
	{ NULL, NULL, 1000, "/var/cache/overlaybd" },
	{ NULL, NULL, 0, "/var/cache/overlaybd" },
	/* what is no absolute path is not there */
	{ "", "/h", 1000, "/h/.cache/overlaybd" },
	{ "x", "/h", 1, "/h/.cache/overlaybd" },
	{ "x", "h", 1000, "/var/cache/overlaybd" },
	{ NULL, "", 1000, "/var/cache/overlaybd" },
};

static void the_cache_has_its_place(void **state)
{
	struct fetch_settings s;
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(caches); i++) {
		set("XDG_CACHE_HOME", caches[i].xdg);
		set("HOME", caches[i].home);
		user_id = caches[i].user;
		assert_int_equal(fetch_settings_init(&s, &e), 0);
		assert_string_equal(s.cache_dir, caches[i].cache);
		fetch_settings_release(&s);
		assert_null(s.cache_dir);
		allocs_left = 0;
		assert_int_equal(fetch_settings_init(&s, &e), -ENOMEM);
		allocs_left = -1;
		assert_string_equal(e.msg, "out of memory");
		assert_null(s.cache_dir);
	}
}

/* As the manual says. */
static void the_defaults(void **state)
{
	struct fetch_settings s, zero = { 0 };
	struct err e;

	memset(&s, 0xff, sizeof s);
	assert_int_equal(fetch_settings_init(&s, &e), 0);
	assert_true(s.cache_limit == UINT64_MAX && s.cache_keep_free == UINT64_MAX);
	assert_int_equal(s.verify_cache, 60);
	assert_int_equal(s.connections, 16);
	assert_int_equal(s.timeout, 60);
	assert_false(s.insecure);
	assert_false(s.download.enable);
	assert_int_equal(s.download.delay, 300);
	assert_int_equal(s.download.delay_extra, 30);
	assert_int_equal(s.download.max_mbps, 100);
	assert_int_equal(s.download.tries, 5);
	assert_int_equal(s.download.block_size, 262144);
	assert_int_equal(s.trace.mode, FETCH_TRACE_AUTO);
	assert_int_equal(s.trace.seconds, 120);
	assert_int_equal(s.trace.idle, 15);
	assert_false(s.trace.follows_paths);
	assert_true(!s.mirrors && !s.mirror_count && !s.proxy && !s.cainfo && !s.client_cert &&
		    !s.client_key && !s.credentials && !s.service.helper && !s.service.ca &&
		    !s.service.cert && !s.service.key && !s.service.fault && !s.user &&
		    !s.password && !s.platform && !s.user_agent && !s.trace.file && !s.prefetch &&
		    !s.prefetch_count && !s.stats);
	fetch_settings_release(&s);
	assert_memory_equal(&s, &zero, sizeof s);
}

static char *text(const char *value)
{
	return strdup(value);
}

static char **list(const char *value)
{
	char **items = malloc(2 * sizeof *items);

	items[0] = text(value);
	items[1] = text(value);
	return items;
}

/* Each text is one of its own, and is found missing when it is not freed; what may hold a password
 * is overwritten. */
static void all_is_given_back(void **state)
{
	struct fetch_settings zero = { 0 }, s = {
		.cache_dir = text("/cache"),
		.mirrors = list("https://me:s3cret@mirror.io"),
		.mirror_count = 2,
		.proxy = text("http://me:s3cret@proxy"),
		.cainfo = text("/ca"),
		.client_cert = text("/cert"),
		.client_key = text("/key"),
		.credentials = text("/auth.json"),
		.service = { .helper = text("unix:/helper"),
			     .ca = text("/ca"),
			     .cert = text("/cert"),
			     .key = text("/key"),
			     .fault = text("fault") },
		.user = text("me"),
		.password = text("s3cret"),
		.platform = text("linux/arm"),
		.user_agent = text("agent"),
		.trace = { .file = text("/trace") },
		.prefetch = list("/file"),
		.prefetch_count = 2,
		.stats = text("-"),
	};

	fences_secret = "s3cret";
	fetch_settings_release(&s);
	fences_secret = NULL;
	assert_memory_equal(&s, &zero, sizeof s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_cache_has_its_place),
		cmocka_unit_test(the_defaults),
		cmocka_unit_test(all_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
