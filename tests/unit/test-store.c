/* SPDX-License-Identifier: Apache-2.0 */
/* test-store.c - where traces lie in the cache folder, and when the registry is asked for one
 * again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "prefetch/store.h"
#include "tests/unit/allocs.h"

#define IDENTITY "sha256:00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"
#define NAME "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef"

static char folder[] = "/tmp/test-store.XXXXXX";
static char cache[64];
static int64_t date;

static int64_t tell_date(void)
{
	return date;
}

/* A path in the cache folder. */
static const char *at(const char *name)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/%s", cache, name);
	return path;
}

static int64_t time_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mtime;
}

static unsigned mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static void the_name_is_the_identity(void **state)
{
	char *path = store_path("/cache", IDENTITY);

	assert_string_equal(path, "/cache/traces/" NAME ".trace");
	free(path);
}

static void the_registry_is_asked_once_an_hour(void **state)
{
	struct clock_ops clock = clock_system;
	int64_t asked;

	clock.date = tell_date;
	clock_use(&clock);
	assert_false(store_was_asked(cache, IDENTITY));
	store_note_asked(cache, IDENTITY);
	/* Whoever else has a login here need not know what is used. */
	assert_int_equal(mode_of(cache), 0700);
	assert_int_equal(mode_of(at("traces")), 0700);
	asked = time_of(at("traces/" NAME ".asked"));
	date = asked;
	assert_true(store_was_asked(cache, IDENTITY));
	date = asked + 3599;
	assert_true(store_was_asked(cache, IDENTITY));
	date = asked + 3600;
	assert_false(store_was_asked(cache, IDENTITY));
	date = asked - 1; /* the clock was wrong once: ask */
	assert_false(store_was_asked(cache, IDENTITY));
	clock_use(NULL);
	assert_int_equal(unlink(at("traces/" NAME ".asked")), 0);
	/* No folder: it is made, but not that which it lies in. */
	store_note_asked("/nonexistent/cache", IDENTITY);
	assert_false(store_was_asked("/nonexistent/cache", IDENTITY));
}

static void the_folder_is_made_once(void **state)
{
	struct err e = { "" };

	assert_int_equal(store_make_folder(cache, &e), 0);
	assert_int_equal(store_make_folder(cache, &e), 0);
	assert_int_equal(store_make_folder("/nonexistent/cache", &e), -ENOENT);
	assert_string_equal(e.msg, "creating /nonexistent/cache/traces: No such file or directory");
	assert_int_equal(io_replace_file(at("file"), "x", 1, NULL), 0);
	assert_int_equal(store_make_folder(at("file"), &e), -ENOTDIR);
	assert_int_equal(unlink(at("file")), 0);
}

static void only_traces_are_overwritten(void **state)
{
	static const struct {
		const char *bytes;
		bool foreign;
	} rows[] = {
		{ "", false },
		{ TRACE_MAGIC, false },
		{ TRACE_MAGIC " and more", false },
		{ "OBDTRACf", true },
		{ "OBDTRAC", true },
		{ "x", true },
		{ "a long text that somebody keeps", true },
	};
	const char *path = at("file");
	size_t i;

	assert_int_equal(store_make_folder(cache, NULL), 0);
	assert_false(store_is_foreign(path)); /* there is none */
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(io_replace_file(path, rows[i].bytes, strlen(rows[i].bytes), NULL),
				 0);
		assert_int_equal(store_is_foreign(path), rows[i].foreign);
	}
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	alarm(20);
	assert_false(store_is_foreign(path)); /* and does not wait for a writer */
	alarm(0);
	assert_int_equal(unlink(path), 0);
}

static void without_memory_nothing_is_known(void **state)
{
	struct err e;

	allocs_left = 0;
	assert_null(store_path(cache, IDENTITY));
	allocs_left = 0;
	assert_int_equal(store_make_folder(cache, &e), -ENOMEM);
	allocs_left = -1;
	store_note_asked(cache, IDENTITY);
	allocs_left = 0;
	assert_false(store_was_asked(cache, IDENTITY));
	allocs_left = -1;
	assert_true(store_was_asked(cache, IDENTITY));
	assert_int_equal(unlink(at("traces/" NAME ".asked")), 0);
	allocs_left = 0;
	store_note_asked(cache, IDENTITY);
	allocs_left = -1;
	assert_false(store_was_asked(cache, IDENTITY));
}

static int make_folder(void **state)
{
	snprintf(cache, sizeof cache, "%s/cache", mkdtemp(folder));
	return 0;
}

static int remove_folder(void **state)
{
	(void)rmdir(at("traces"));
	(void)rmdir(cache);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_name_is_the_identity),
		cmocka_unit_test(the_registry_is_asked_once_an_hour),
		cmocka_unit_test(the_folder_is_made_once),
		cmocka_unit_test(only_traces_are_overwritten),
		cmocka_unit_test(without_memory_nothing_is_known),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
