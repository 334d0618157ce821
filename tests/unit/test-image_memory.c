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
	if (packed)
		assert_int_equal(zwriter_open_sink(s, &z, pool, &s, NULL), 0);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opening),
		cmocka_unit_test(writing_and_snapshots),
	};

	leftovers_warnings = warnings;
	if (!mkdtemp(folder))
		return 1;
	return cmocka_run_group_tests(tests, NULL, remove_all);
}
