/* SPDX-License-Identifier: Apache-2.0 */
/* test-plugin_memory.c - every allocation of the plugin's parameters, exports and control socket
 * fails once: an error that says so, nothing lost, and the next try works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "nbdkit-plugin/exports.h"
#include "nbdkit-plugin/params.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { ROUNDS = 200 }; /* no call allocates so often */

static int read_password(const char *value, char **password)
{
	*password = __real_strdup(value + 1);
	return 0;
}

static void parameters(void **state)
{
	static const char *const rows[][2] = {
		{ "config", "a.yaml" },
		{ "dir", "d" },
		{ "image", "r/a:b" },
		{ "digest",
		  "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		{ "service", "s" },
		{ "service", "none" },
		{ "upper", "u" },
		{ "upper-garbage", "7" },
		{ "control", "c" },
		{ "connections", "7" },
		{ "mirror", "http://a" },
		{ "prefetch", "/a" },
		{ "cache-dir", "c" },
		{ "password", "+hush" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		int r = -ENOMEM;
		long k;

		for (k = 0; r != 0; k++) {
			struct params p = { 0 };
			struct err e = { "" };

			assert_true(k < ROUNDS);
			allocs_left = k;
			r = params_set(&p, rows[i][0], rows[i][1], read_password, &e);
			allocs_left = -1;
			if (r != 0 && (r != -ENOMEM || !strstr(e.msg, "emory") ||
				       strncmp(e.msg, rows[i][0], strlen(rows[i][0])) != 0))
				fail_msg("%s, allocation %ld: %d %s", rows[i][0], k, r, e.msg);
			assert_int_equal(p.options.setting_count, r == 0 && i >= 9);
			params_release(&p);
		}
		assert_true(k > 1); /* some failed */
	}
}

static void exports(void **state)
{
	char folder[] = "/tmp/test-memory.XXXXXX", path[64];
	struct export_names names = { 0 };
	struct exports *x = NULL;
	struct err e;
	int r = -ENOMEM;
	long k;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/a.yaml", folder);
	assert_int_equal(io_replace_file(path, "x", 1, NULL), 0);
	for (k = 0; r != 0; k++) {
		assert_true(k < ROUNDS);
		allocs_left = k;
		r = exports_open(folder, NULL, NULL, &x, &e);
		allocs_left = -1;
		assert_true(r == 0 || (r == -ENOMEM && strstr(e.msg, "out of memory")));
	}
	assert_true(k > 3);
	for (k = 0, r = -ENOMEM; r != 0; k++) {
		assert_true(k < ROUNDS);
		allocs_left = k;
		r = exports_list(x, &names, &e);
		allocs_left = -1;
		assert_true(r == 0 || (r == -ENOMEM && strstr(e.msg, "out of memory")));
	}
	assert_int_equal(names.count, 1);
	export_names_release(&names);
	for (k = 0; k < 3; k++) { /* a name of its own, the entry, the entry's name */
		struct disk *d;

		allocs_left = k;
		r = exports_acquire(x, "a", &d, &e);
		allocs_left = -1;
		assert_int_equal(r, -ENOMEM);
		assert_non_null(strstr(e.msg, "out of memory"));
	}
	{
		struct disk **disks;
		size_t n;

		allocs_left = 0;
		assert_int_equal(exports_acquire_all(x, &disks, &n), -ENOMEM);
		allocs_left = -1;
	}
	exports_close(x);
	unlink(path);
	rmdir(folder);
}

static void control(void **state)
{
	struct control *c = NULL;
	struct err e;

	allocs_left = 0;
	assert_int_equal(control_open("/tmp/c", NULL, &c, &e), -ENOMEM);
	allocs_left = -1;
	assert_string_equal(e.msg, "control socket /tmp/c: out of memory");
	assert_null(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parameters),
		cmocka_unit_test(exports),
		cmocka_unit_test(control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
