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
#include "nbdkit-plugin/report.h"
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
	char folder[] = "/tmp/test-memory.XXXXXX", path[64], other[64];
	struct export_names names = { 0 };
	struct exports *x = NULL;
	struct err e;
	int r = -ENOMEM;
	long k;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/a.yaml", folder);
	snprintf(other, sizeof other, "%s/b.yaml", folder);
	assert_int_equal(io_replace_file(path, "x", 1, NULL), 0);
	assert_int_equal(io_replace_file(other, "x", 1, NULL), 0);
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
	assert_int_equal(names.count, 2);
	export_names_release(&names);
	/* A name of its own, the entry, the entry's name, its path, and what opening needs. */
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		struct disk *d;

		assert_true(k < ROUNDS);
		allocs_left = k;
		r = exports_acquire(x, "a", &d, &e);
		allocs_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "emory"));
		if (k == 3)
			assert_string_equal(e.msg, "a: out of memory");
	}
	assert_int_equal(r, -EINVAL); /* it is no image */
	assert_true(k > 5);
	{
		struct disk **disks;
		size_t n;

		allocs_left = 0;
		assert_int_equal(exports_acquire_all(x, &disks, &n), -ENOMEM);
		allocs_left = -1;
	}
	exports_close(x);
	unlink(path);
	unlink(other);
	rmdir(folder);
}

/* From the config to the disk, and the statistics of one. */
static void disks(void **state)
{
	static const char *const keys[] = { "", "description: d\n", "control: c\nresultFile: r\n" };
	static const struct config_options options = { .service = "none" };
	char folder[] = "/tmp/test-memory.XXXXXX", path[64], stats[64], text[512], command[64];
	struct disk *d = NULL;
	struct err e = { "" };
	size_t i;
	long k;
	int r, n;

	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/a.yaml", folder);
	snprintf(stats, sizeof stats, "%s/stats", folder);
	for (i = 0; i < COUNT_OF(keys); i++) {
		n = snprintf(text, sizeof text,
			     "%sstats: stats\nlowers: [{file: '%s/raw-5/layer0.obd'}]\n", keys[i],
			     getenv("GOLDEN"));
		assert_int_equal(io_replace_file(path, text, (size_t)n, NULL), 0);
		for (k = 0, allocs_refused = true; allocs_refused; k++) {
			disk_close(d);
			d = NULL;
			assert_true(k < 10 * ROUNDS);
			allocs_refused = false;
			allocs_left = k;
			r = disk_open(path, &options, NULL, &d, &e);
			allocs_left = -1;
			assert_true((r == 0) == (d != NULL));
			if (r != 0 && (r != -ENOMEM || !strstr(e.msg, "emory")))
				fail_msg("allocation %ld: %d %s", k, r, e.msg);
		}
		assert_true(k > 30);
		assert_string_equal(d->description, i == 1 ? "d" : "overlaybd image, 1 layer");
		allocs_left = 0;
		report_write(&d, 1, true);
		allocs_left = -1;
		assert_int_equal(access(stats, F_OK), -1);
		report_write(&d, 1, true);
		assert_int_equal(unlink(stats), 0);
		disk_close(d);
		d = NULL;
	}
	snprintf(command, sizeof command, "rm -r '%s'", folder);
	assert_int_equal(system(command), 0);
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
		cmocka_unit_test(disks),
		cmocka_unit_test(control),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
