/* SPDX-License-Identifier: Apache-2.0 */
/* test-image_memory.c - every allocation of opening an image, of writing to it and of a snapshot
 * fails once: an error that says so, nothing is lost, and the next try works. */
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
#include "core/base/workers.h"
#include "core/image.h"
#include "core/layer_writer.h"
#include "core/upper_log.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"
#include "zfile/tar.h"
#include "zfile/zwriter.h"

enum {
	SECTORS = 64,
	ROUNDS = 2000, /* no call allocates so often */
};

static const char *const warnings[] = { "is read through its log until the next snapshot", NULL };
static const struct config_options no_service = { .service = "none" };
static char folder[] = "/tmp/test-image_memory.XXXXXX";

static const char *in_folder(const char *name)
{
	static char paths[4][96];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static int remove_all(void **state)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s", folder);
	return system(command);
}

/* Sector `at` of the layer holds the letter. */
static void write_layer(const char *name, bool packed, uint64_t at, char letter)
{
	const struct layer_writer_options options = { .virtual_size = SECTORS * SECTOR };
	const struct zwriter_options z = { .algorithm = ZALGORITHM_LZ4, .block_size = 4096 };
	char sector[SECTOR];
	struct layer_writer *w;
	struct workers *pool;
	struct sink *s;

	memset(sector, letter, sizeof sector);
	assert_int_equal(workers_open(1, &pool, NULL), 0);
	assert_int_equal(sink_open_file(in_folder(name), &s, NULL), 0);
	if (packed) {
		assert_int_equal(tar_open_sink(s, &s, NULL), 0);
		assert_int_equal(zwriter_open_sink(s, &z, pool, &s, NULL), 0);
	}
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	assert_int_equal(layer_writer_data(w, at, sector, 1, NULL), 0);
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
	workers_close(pool);
}

static void write_image(void)
{
	static const char text[] = "lowers:\n- file: one\n- file: two\n"
				   "upper: {data: u.data, index: u.index}\n";

	write_layer("one", false, 1, 'a');
	write_layer("two", true, 2, 'b');
	assert_int_equal(upper_log_create(NULL, in_folder("u.data"), in_folder("u.index"),
					  SECTORS * SECTOR, NULL, NULL, NULL),
			 0);
	assert_int_equal(io_replace_file(in_folder("c"), text, sizeof text - 1, NULL), 0);
}

static void expect_sectors(struct image *image, const char *letters)
{
	char sector[SECTOR];
	size_t i;

	for (i = 0; letters[i] != '\0'; i++) {
		assert_int_equal(image_pread(image, sector, SECTOR, i * SECTOR, NULL), 0);
		assert_int_equal(sector[0] ? sector[0] : '.', letters[i]);
		assert_int_equal(sector[SECTOR - 1], sector[0]);
	}
}

static void expect_no_memory(long k, int r, const struct err *e)
{
	if (k >= ROUNDS || r != -ENOMEM || !strstr(e->msg, "emory") || !strstr(e->msg, folder))
		fail_msg("allocation %ld: %d %s", k, r, e->msg);
}

static struct image_config *load(void)
{
	struct image_config *c = NULL;
	struct err e;
	int r = -ENOMEM;
	long k;

	for (k = 0; r != 0; k++) {
		allocs_left = k;
		r = config_load(in_folder("c"), &no_service, &c, &e);
		allocs_left = -1;
		if (r != 0)
			expect_no_memory(k, r, &e);
	}
	assert_true(k > 10);
	return c;
}

static struct image *open_image(const struct image_config *c, bool writable)
{
	const struct image_options options = { .writable = writable };
	struct image *image = NULL;
	struct err e;
	int r = -ENOMEM;
	long k;

	for (k = 0; r != 0; k++) {
		allocs_left = k;
		r = image_open(c, &options, &image, &e);
		allocs_left = -1;
		if (r != 0)
			expect_no_memory(k, r, &e);
	}
	assert_true(k > 20);
	return image;
}

static void opening(void **state)
{
	struct image_config *c;
	struct image *image;
	unsigned writable;

	write_image();
	c = load();
	for (writable = 0; writable <= 1; writable++) {
		image = open_image(c, writable);
		expect_sectors(image, ".ab.");
		image_close(image);
	}
	config_free(c);
}

static void writing_and_snapshots(void **state)
{
	struct image_config *c = load();
	struct image *image = open_image(c, true);
	char sector[SECTOR];
	uint64_t blocked;
	struct err e;
	int r = -ENOMEM;
	long k;

	memset(sector, 'c', sizeof sector);
	for (k = 0; r != 0; k++) {
		allocs_left = k;
		r = image_pwrite(image, sector, SECTOR, 3 * SECTOR, 0, &e);
		allocs_left = -1;
		if (r != 0)
			expect_no_memory(k, r, &e);
	}
	expect_sectors(image, ".abc.");
	for (k = 0, r = -ENOMEM; r != 0; k++) {
		allocs_left = k;
		r = image_snapshot(image, in_folder("three"), &blocked, &e);
		allocs_left = -1;
		if (r != 0)
			expect_no_memory(k, r, &e);
		expect_sectors(image, ".abc.");
	}
	assert_true(k > 20);
	image_close(image);
	config_free(c);
	c = load();
	assert_int_equal(c->lower_count, 3);
	image = open_image(c, true);
	expect_sectors(image, ".abc.");
	image_close(image);
	config_free(c);
}

static void clean(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf %s/*", folder);
	assert_int_equal(system(command), 0);
}

static struct image *open_anew(struct image_config **c)
{
	const struct image_options options = { .writable = true };
	struct image *image;

	clean();
	write_image();
	assert_int_equal(config_load(in_folder("c"), &no_service, c, NULL), 0);
	assert_int_equal(image_open(*c, &options, &image, NULL), 0);
	return image;
}

/* Once the config names the new pair the snapshot is made, whatever fails then: the layer is merged
 * later, or by the next process. */
static void what_fails_after_a_snapshot(void **state)
{
	unsigned late = 0, never = 0;
	struct image_config *c;
	struct image *image = open_anew(&c);
	long k;

	loglib_listen();
	for (k = 0;; k++) {
		uint64_t blocked;
		struct err e = { "" };
		int r;

		allocs_refused = false;
		allocs_left = k;
		r = image_snapshot(image, in_folder("three"), &blocked, &e);
		allocs_left = -1;
		expect_sectors(image, ".ab.");
		if (!allocs_refused)
			break;
		if (r < 0) {
			assert_int_equal(r, -ENOMEM);
			continue;
		}
		assert_non_null(strstr(loglib_warnings, "is read through its log until"));
		r = image_snapshot(image, in_folder("four"), &blocked, &e);
		late += r == 0;
		never += r == -EBUSY;
		if (r < 0)
			assert_non_null(strstr(e.msg, "could not be finished: see the log"));
		assert_int_equal(image_layer_count(image), r == 0 ? 5 : 4);
		expect_sectors(image, ".ab.");
		image_close(image);
		config_free(c);
		assert_int_equal(config_load(in_folder("c"), &no_service, &c, NULL), 0);
		assert_int_equal(image_open(c, NULL, &image, NULL), 0);
		expect_sectors(image, ".ab.");
		image_close(image);
		config_free(c);
		loglib_warnings[0] = '\0';
		image = open_anew(&c);
	}
	image_close(image);
	config_free(c);
	loglib_warnings[0] = '\0';
	loglib_expect_none();
	assert_true(late > 5);
	assert_int_equal(never, 1); /* the layer's name was not to be had */
}

/* What is somebody else's, or the upper's own, stays whatever is missing. */
static void nothing_is_taken_for_a_leftover(void **state)
{
	struct image_config *c;
	struct image *image = open_anew(&c);
	uint64_t blocked;
	struct err e;
	int r = -ENOMEM;
	long k;

	for (k = 0; k == 0 || allocs_refused; k++) {
		allocs_refused = false;
		allocs_left = k;
		r = image_snapshot(image, in_folder("u.data"), &blocked, &e);
		allocs_left = -1;
		assert_true(r == -EEXIST || (allocs_refused && r == -ENOMEM));
		assert_int_equal(access(in_folder("u.data"), F_OK), 0);
	}
	assert_int_equal(r, -EEXIST);
	assert_true(k > 2);
	assert_int_equal(upper_log_create(NULL, in_folder("u-1.data"), in_folder("u-1.index"),
					  SECTORS * SECTOR, NULL, NULL, NULL),
			 0);
	for (k = 0, r = -ENOMEM; r != 0; k++) {
		allocs_left = k;
		r = image_snapshot(image, in_folder("three"), &blocked, &e);
		allocs_left = -1;
		assert_int_equal(access(in_folder("u-1.data"), F_OK), 0);
		assert_int_equal(access(in_folder("u-1.index"), F_OK), 0);
	}
	image_close(image);
	config_free(c);
}

static void names_of_the_upper(void **state)
{
	struct image_config *c;
	struct image *image = open_anew(&c);
	char *data, *index, want[128];
	struct err e;
	long k;

	for (k = 0; k < 2; k++) {
		allocs_left = k;
		assert_int_equal(image_upper_files(image, &data, &index, &e), -ENOMEM);
		allocs_left = -1;
		snprintf(want, sizeof want, "%s: out of memory", in_folder("c"));
		assert_string_equal(e.msg, want);
	}
	assert_int_equal(image_upper_files(image, &data, &index, &e), 0);
	free(data);
	free(index);
	image_close(image);
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening),
		cmocka_unit_test(writing_and_snapshots),
		cmocka_unit_test(what_fails_after_a_snapshot),
		cmocka_unit_test(nothing_is_taken_for_a_leftover),
		cmocka_unit_test(names_of_the_upper),
	};

	leftovers_warnings = warnings;
	if (!mkdtemp(folder))
		return 1;
	return cmocka_run_group_tests(tests, NULL, remove_all);
}
