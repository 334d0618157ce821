/* SPDX-License-Identifier: Apache-2.0 */
/* test-record_path.c - what an image's recordTracePath means, and the files that tell of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/identity.h"
#include "prefetch/record_path.h"
#include "prefetch/trace_layers.h"
#include "tests/unit/allocs.h"
#include "tests/unit/stack.h"

enum { SECTORS = 100 };

static struct stack stack;
static struct image *image;
static char path[64], lock[80], ok[80];

static bool exists(const char *name)
{
	return access(name, F_OK) == 0;
}

static void write_file(const char *text)
{
	assert_int_equal(io_replace_file(path, text, strlen(text), NULL), 0);
}

/* Nothing is left of a test before. */
static int clean(void **state)
{
	unlink(path);
	unlink(lock);
	unlink(ok);
	return 0;
}

static struct trace make_trace(void)
{
	struct trace t = { .disk_size = SECTORS * SECTOR, .count = 2 };

	assert_int_equal(image_identity(image, t.identity, NULL), 0);
	t.reads = calloc(2, sizeof *t.reads);
	t.reads[0] = (struct trace_read){ .lba = 40, .sectors = 10 };
	t.reads[1] = (struct trace_read){ .lba = 0, .sectors = 3 };
	return t;
}

static void the_file_says_what_to_do(void **state)
{
	struct err e = { "" };
	char beyond[80];

	assert_int_equal(record_path_begin(path, &e), RECORD_PATH_NONE);
	assert_false(exists(lock));
	write_file("x");
	assert_int_equal(record_path_begin(path, &e), RECORD_PATH_REPLAY);
	assert_false(exists(lock));
	snprintf(beyond, sizeof beyond, "%s/x", path);
	assert_int_equal(record_path_begin(beyond, &e), -ENOTDIR);
	assert_non_null(strstr(e.msg, beyond));
	write_file("");
	assert_int_equal(record_path_begin(path, &e), RECORD_PATH_RECORD);
	assert_true(exists(lock) && !exists(ok));
}

static void recording_ends_with_the_lock(void **state)
{
	char beyond[80];

	write_file("");
	assert_int_equal(record_path_begin(path, NULL), RECORD_PATH_RECORD);
	assert_false(record_path_is_over(path));
	assert_int_equal(unlink(lock), 0);
	assert_true(record_path_is_over(path));
	/* It cannot be seen: that is no sign. */
	snprintf(beyond, sizeof beyond, "%s/x", path);
	assert_false(record_path_is_over(beyond));
}

/* A lock that leads elsewhere would make a file there. */
static void no_link_is_followed(void **state)
{
	struct err e = { "" };

	write_file("");
	assert_int_equal(symlink(ok, lock), 0);
	assert_int_equal(record_path_begin(path, &e), -ELOOP);
	assert_non_null(strstr(e.msg, ".lock: "));
	assert_false(exists(ok));
}

static void what_is_saved_can_be_read(void **state)
{
	struct trace t = make_trace();
	struct trace_layers layers, want;
	struct trace_layers_notes notes;
	char *bytes;
	size_t n, i;

	write_file("");
	assert_int_equal(record_path_save(path, image, &t, NULL), 0);
	assert_true(exists(ok));
	assert_int_equal(io_read_file(path, 1 << 20, &bytes, &n, NULL), 0);
	assert_int_equal(trace_layers_parse(bytes, n, &layers, NULL), 0);
	assert_int_equal(trace_layers_from_disk(&t, image, &want, &notes, NULL), 0);
	assert_true(want.count > 0);
	assert_int_equal(layers.count, want.count);
	for (i = 0; i < want.count; i++) {
		assert_int_equal(layers.reads[i].layer, want.reads[i].layer);
		assert_int_equal(layers.reads[i].off, want.reads[i].off);
		assert_int_equal(layers.reads[i].n, want.reads[i].n);
	}
	trace_layers_release(&layers);
	trace_layers_release(&want);
	free(bytes);
	trace_release(&t);
}

static void what_fails_is_not_ok(void **state)
{
	struct trace t = make_trace();
	struct err e = { "" };

	write_file("");
	t.identity[10] ^= 1;
	assert_int_equal(record_path_save(path, image, &t, &e), -EINVAL);
	t.identity[10] ^= 1;
	assert_false(exists(ok));
	assert_int_equal(record_path_save("/nonexistent/trace", image, &t, &e), -ENOENT);
	assert_int_equal(mkdir(ok, 0700), 0);
	assert_int_equal(record_path_save(path, image, &t, &e), -EISDIR);
	assert_non_null(strstr(e.msg, ".ok: "));
	assert_int_equal(rmdir(ok), 0);
	trace_release(&t);
}

static void lack_of_memory_is_told(void **state)
{
	struct trace t = make_trace();
	int r;
	long k;

	write_file("");
	allocs_left = 0;
	assert_int_equal(record_path_begin(path, NULL), -ENOMEM);
	assert_false(record_path_is_over(path));
	allocs_left = -1;
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		assert_false(exists(ok));
		allocs_left = k;
		r = record_path_save(path, image, &t, NULL);
		allocs_left = -1;
	}
	assert_int_equal(r, 0);
	assert_true(k > 3 && exists(ok));
	trace_release(&t);
}

static int make_image(void **state)
{
	uint8_t bytes[SECTORS * SECTOR] = { 1 };
	struct layer_writer *w;

	stack_init(&stack);
	w = stack_add(&stack, SECTORS);
	assert_int_equal(layer_writer_data(w, 0, bytes, SECTORS, NULL), 0);
	stack_finish(w);
	image = stack_open(&stack);
	snprintf(path, sizeof path, "%s/trace", stack.folder);
	snprintf(lock, sizeof lock, "%s.lock", path);
	snprintf(ok, sizeof ok, "%s.ok", path);
	return 0;
}

static int remove_image(void **state)
{
	image_close(image);
	stack_release(&stack);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(the_file_says_what_to_do, clean),
		cmocka_unit_test_teardown(recording_ends_with_the_lock, clean),
		cmocka_unit_test_teardown(no_link_is_followed, clean),
		cmocka_unit_test_teardown(what_is_saved_can_be_read, clean),
		cmocka_unit_test_teardown(what_fails_is_not_ok, clean),
		cmocka_unit_test_teardown(lack_of_memory_is_told, clean),
	};

	return cmocka_run_group_tests(tests, make_image, remove_image);
}
