/* SPDX-License-Identifier: Apache-2.0 */
/* test-exports.c - the plugin without nbdkit: parameters, export names, the table of open images.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "nbdkit-plugin/exports.h"
#include "nbdkit-plugin/names.h"
#include "nbdkit-plugin/params.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* ---- names ---- */

static void test_plain(void **state)
{
	static const struct {
		const char *name;
		bool plain;
	} rows[] = {
		{ "", true },
		{ "debian-12.6", true },
		{ "gr\xc3\xb6\xc3\x9f"
		  "e",
		  true },
		{ "\xe2\x82\xac", true },
		{ "\xf0\x9f\x98\x80", true },
		{ "\xf4\x8f\xbf\xbf", true }, /* the last character */
		{ "new\nline", false },
		{ "\x7f", false },
		{ "\xc2\x85", false }, /* a control character beyond ASCII */
		{ "latin\xe4", false },
		{ "\x80", false }, /* a continuation with nothing before it */
		{ "\xc3", false }, /* cut off */
		{ "\xe2\x82", false },
		{ "\xf0\x9f\x98", false },
		{ "\xc0\xaf", false }, /* '/' in too many bytes */
		{ "\xe0\x80\xaf", false },
		{ "\xf0\x80\x80\xaf", false },
		{ "\xed\xa0\x80", false }, /* half of a surrogate pair */
		{ "\xf4\x90\x80\x80", false }, /* beyond the last character */
		{ "\xff", false },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++)
		if (names_is_plain(rows[i].name) != rows[i].plain)
			fail_msg("row %zu", i);
}

static void test_printable(void **state)
{
	AUTO_FREE char *shown = names_printable("a\nb\x7f\xc3\xb6..");
	AUTO_FREE char *cut = NULL;
	char name[301];

	assert_string_equal(shown, "a?b???..");
	memset(name, 'x', 300);
	name[300] = '\0';
	cut = names_printable(name);
	assert_int_equal(strlen(cut), 103);
	assert_string_equal(cut + 100, "...");
}

/* ---- parameters ---- */

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

static void test_params(void **state)
{
	struct params p = { 0 };
	struct err e;

	assert_int_equal(params_complete(&p, &e), -EINVAL);
	assert_int_equal(params_set(&p, "config", "/image.yaml", &e), 0);
	assert_int_equal(params_complete(&p, &e), 0);
	assert_int_equal(params_set(&p, "config", "/other.yaml", &e), -EINVAL);
	assert_string_equal(p.config, "/image.yaml");
	assert_int_equal(params_set(&p, "dir", "images", &e), 0);
	assert_true(p.dir[0] == '/');
	assert_int_equal(params_complete(&p, &e), -EINVAL);
	assert_int_equal(params_set(&p, "image", "x", &e), -EINVAL);
	assert_string_equal(e.msg, "'image' is not in this version");
	assert_int_equal(params_set(&p, "dri", "x", &e), -EINVAL);
	assert_string_equal(e.msg, "unknown parameter 'dri'; there are config=FILE and dir=DIR");
	assert_int_equal(params_set(&p, "cofnig", "x", &e), -EINVAL);
	assert_string_equal(e.msg, "unknown parameter 'cofnig' (did you mean 'config'?)");
	params_release(&p);
	assert_null(p.config);
	params_release(&p);
}

/* ---- exports ---- */

static char *path_in(const char *folder, const char *name)
{
	char *path;

	assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
	return path;
}

static void write_text(const char *folder, const char *name, const char *text)
{
	AUTO_FREE char *path = path_in(folder, name);

	assert_int_equal(io_replace_file(path, text, strlen(text), NULL), 0);
}

/* An image of one golden layer. */
static void add_image(const char *folder, const char *name)
{
	AUTO_FREE char *text = NULL;
	const char *golden = getenv("GOLDEN");

	assert_non_null(golden);
	assert_true(asprintf(&text, "lowers: [{file: \"%s/raw-5/layer0.obd\"}]\n", golden) > 0);
	write_text(folder, name, text);
}

static int make_folder(void **state)
{
	char name[] = "/tmp/test-exports.XXXXXX";

	if (!mkdtemp(name))
		return -1;
	*state = strdup(name);
	return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
	AUTO_FREE char *command = NULL;
	int status = -1;

	if (asprintf(&command, "rm -rf '%s'", (char *)*state) > 0)
		status = system(command);
	free(*state);
	return status;
}

static void test_folder(void **state)
{
	struct exports *x;
	struct export_names names;
	struct disk *d;
	struct err e;

	assert_int_equal(exports_open("/no/such/folder", &x, &e), -ENOENT);
	assert_string_equal(e.msg, "/no/such/folder: No such file or directory");
	assert_int_equal(exports_open(*state, &x, &e), 0);
	assert_int_equal(exports_acquire(x, "", &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no image (*.yaml) in this folder"));
	add_image(*state, "b.yaml");
	add_image(*state, "a.yaml");
	write_text(*state, "a.yml", "");
	write_text(*state, ".hidden.yaml", "");
	assert_int_equal(exports_list(x, &names, &e), 0);
	assert_int_equal(names.count, 2);
	assert_string_equal(names.names[0], "a");
	assert_string_equal(names.names[1], "b");
	export_names_release(&names);
	assert_int_equal(exports_acquire(x, "", &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no default export among several: a, b"));
	assert_int_equal(exports_acquire(x, "../a", &d, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "no export '../a'; there is: a, b"));
	exports_close(x);
}

static void test_sharing(void **state)
{
	AUTO_FREE char *path = path_in(*state, "one.yaml");
	struct disk *first, *second, *third;
	struct exports *x;
	struct err e;

	add_image(*state, "one.yaml");
	assert_int_equal(exports_open(*state, &x, &e), 0);
	assert_int_equal(exports_acquire(x, "one", &first, &e), 0);
	assert_int_equal(exports_acquire(x, "", &second, &e), 0);
	assert_ptr_equal(first, second);
	assert_string_equal(first->config->path, path);
	exports_release(x, first);
	/* What was removed stays open for those who have it. */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(exports_acquire(x, "one", &third, &e), -ENOENT);
	assert_int_equal(image_size(second->image), 16777216);
	exports_release(x, second);
	/* A failed open is tried again. */
	write_text(*state, "one.yaml", "lowers: [{file: none}]");
	assert_int_equal(exports_acquire(x, "one", &third, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "one.yaml:1: layer 0: "));
	add_image(*state, "one.yaml");
	assert_int_equal(exports_acquire(x, "one", &third, &e), 0);
	exports_release(x, third);
	exports_close(x);
}

enum { THREADS = 12, ROUNDS = 40 };

struct client {
	struct exports *exports;
	pthread_barrier_t *start;
	char name[8];
	bool good;
	unsigned faults;
};

static void *run_client(void *arg)
{
	struct client *c = arg;
	struct disk *d;
	struct err e;
	int i, r;

	for (i = 0; i < ROUNDS; i++) {
		pthread_barrier_wait(c->start);
		r = exports_acquire(c->exports, c->name, &d, &e);
		c->faults += (r == 0) != c->good;
		if (r == 0) {
			char sector[512];

			c->faults += image_pread(d->image, sector, sizeof sector, 0, &e) < 0;
			exports_release(c->exports, d);
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct client clients[THREADS];
	pthread_barrier_t start;
	pthread_t threads[THREADS];
	struct exports *x;
	struct err e;
	int i;

	add_image(*state, "good0.yaml");
	add_image(*state, "good1.yaml");
	write_text(*state, "bad0.yaml", "lowers: [{file: none}]");
	write_text(*state, "bad1.yaml", "{{{");
	assert_int_equal(exports_open(*state, &x, &e), 0);
	pthread_barrier_init(&start, NULL, THREADS);
	for (i = 0; i < THREADS; i++) {
		struct client *c = &clients[i];

		*c = (struct client){ .exports = x, .start = &start, .good = i % 3 != 0 };
		snprintf(c->name, sizeof c->name, "%s%d", c->good ? "good" : "bad", i / 3 % 2);
		assert_int_equal(pthread_create(&threads[i], NULL, run_client, c), 0);
	}
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(clients[i].faults, 0);
	}
	pthread_barrier_destroy(&start);
	exports_close(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_printable),
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_params),
		cmocka_unit_test_setup_teardown(test_folder, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_sharing, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_threads, make_folder, remove_folder),
	};

	return cmocka_run_group_tests_name("exports", tests, NULL, NULL);
}
