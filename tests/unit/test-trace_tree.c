/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace_tree.c - paths through links, folders in folders, and how often a file is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "prefetch/trace_paths.h"
#include "tests/unit/alloc.h"
#include "tests/unit/ext4lib.h"
#include "tests/unit/heap.h"

enum { MANY = 300, LINKS = TRACE_LINKS_MAX + 2 };

static ext2_ino_t folder, many, inner, file, deep, hidden, crowd[MANY];

static char noted[16384];

static void take_note(void *arg, const char *text)
{
	size_t n = strlen(noted);

	snprintf(noted + n, sizeof noted - n, "%s\n", text);
}

static ext2_ino_t make_folder(ext2_ino_t in, const char *name)
{
	ext2_ino_t made;

	OK(ext2fs_mkdir(fs, in, 0, name));
	OK(ext2fs_lookup(fs, in, name, (int)strlen(name), NULL, &made));
	return made;
}

static void make_link(ext2_ino_t in, const char *name, const char *target)
{
	if (ext2fs_symlink(fs, in, 0, name, target) != 0) { /* the folder is full */
		OK(ext2fs_expand_dir(fs, in));
		OK(ext2fs_symlink(fs, in, 0, name, target));
	}
}

static ext2_ino_t make_file(ext2_ino_t in, const char *name, size_t blocks)
{
	ext2_ino_t made;

	if (ext2fs_expand_dir(fs, in) != 0)
		fail_msg("no room for %s", name);
	made = add_file(in, name, true, blocks);
	return made;
}

static void make_tree(void)
{
	char name[300], target[300];
	unsigned i;

	begin_file_system(&folder);
	file = make_file(folder, "file", 3);
	inner = make_folder(folder, "inner");
	deep = make_file(inner, "deep", 2);
	hidden = make_file(inner, "hidden", 1);
	OK(ext2fs_link(fs, inner, "loop", folder, EXT2_FT_DIR)); /* a folder within itself */
	many = make_folder(EXT2_ROOT_INO, "many");
	for (i = 0; i < 8; i++)
		OK(ext2fs_expand_dir(fs, many));
	for (i = 0; i < MANY; i++) {
		snprintf(name, sizeof name, "%u", i);
		crowd[i] = add_file(many, name, true, 1);
	}
	OK(ext2fs_link(fs, many, "again", crowd[5], EXT2_FT_REG_FILE));
	make_link(EXT2_ROOT_INO, "absolute", "/folder/file");
	make_link(folder, "relative", "../folder//./inner/../file");
	make_link(EXT2_ROOT_INO, "to-folder", "folder");
	make_link(EXT2_ROOT_INO, "nowhere", "folder/none");
	make_link(EXT2_ROOT_INO, "link0", "folder/file");
	OK(ext2fs_expand_dir(fs, EXT2_ROOT_INO));
	OK(ext2fs_expand_dir(fs, EXT2_ROOT_INO));
	for (i = 1; i < LINKS; i++) {
		snprintf(name, sizeof name, "link%u", i);
		snprintf(target, sizeof target, "link%u", i - 1);
		make_link(EXT2_ROOT_INO, name, target);
	}
	OK(ext2fs_close(fs));
}

/* The first blocks of the files whose data the trace reads, in its order; and how many sectors of
 * data in all. */
static blk64_t read_blocks[2048];
static size_t read_count;

static void take(const char *const *paths, size_t count)
{
	struct trace_notes notes = { .line = take_note };
	struct err e = { "" };
	struct trace t;
	size_t i;
	uint32_t k;

	noted[0] = '\0';
	read_count = 0;
	if (trace_from_paths(image, paths, count, &notes, &t, &e) < 0)
		fail_msg("%s", e.msg);
	for (i = 0; i < t.count; i++)
		for (k = 0; k < t.reads[i].sectors; k += PER_BLOCK)
			read_blocks[read_count++] = t.reads[i].lba / PER_BLOCK + k / PER_BLOCK;
	trace_release(&t);
}

#define TAKE(...)                                                                                  \
	take((const char *const[]){ __VA_ARGS__ },                                                 \
	     sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

/* How often the trace reads the first block of a file. */
static size_t times_read(ext2_ino_t inode)
{
	blk64_t blocks[8];
	size_t i, n = 0;

	assert_true(blocks_of(inode, blocks) > 0);
	for (i = 0; i < read_count; i++)
		n += read_blocks[i] == blocks[0];
	return n;
}

static void links_are_followed(void **state)
{
	static const char *const paths[] = { "/folder/file",	    "/absolute",
					     "/folder/relative",    "/to-folder/file",
					     "/to-folder/relative", "/folder/../folder/./file",
					     "//folder///file",	    "/link0" };
	size_t i;

	for (i = 0; i < sizeof paths / sizeof *paths; i++) {
		TAKE(paths[i]);
		assert_string_equal(noted, "");
		assert_int_equal(times_read(file), 1);
		assert_int_equal(times_read(deep), 0);
	}
}

static void links_have_an_end(void **state)
{
	char name[32];

	snprintf(name, sizeof name, "/link%d", TRACE_LINKS_MAX - 1); /* and that many links */
	TAKE(name);
	assert_string_equal(noted, "");
	assert_int_equal(times_read(file), 1);
	snprintf(name, sizeof name, "/link%d", TRACE_LINKS_MAX);
	TAKE(name);
	assert_non_null(strstr(noted, "/link40"));
	assert_non_null(strstr(noted, strerror(ELOOP)));
	assert_int_equal(times_read(file), 0);
	TAKE("/nowhere");
	assert_non_null(strstr(noted, strerror(ENOENT)));
	TAKE("/absolute/x");
	assert_non_null(strstr(noted, strerror(ENOTDIR)));
	TAKE("/folder/file/x");
	assert_non_null(strstr(noted, strerror(ENOTDIR)));
}

/* What is left of a path comes after what a link says, however long both are. */
static void long_paths_through_long_links(void **state)
{
	static char target[1000];
	char path[TRACE_PATH_LENGTH];
	size_t n;

	memset(target, '/', sizeof target);
	memcpy(target + sizeof target - 7, "folder", 7);
	begin_change();
	make_link(EXT2_ROOT_INO, "long", target);
	end_change();
	close_image();
	open_image();
	TAKE("/long/file");
	assert_string_equal(noted, "");
	assert_int_equal(times_read(file), 1);
	n = (size_t)snprintf(path, sizeof path, "/long");
	while (n + 20 < sizeof path)
		n += (size_t)snprintf(path + n, sizeof path - n, "/.");
	snprintf(path + n, sizeof path - n, "/../long/file");
	TAKE(path);
	assert_string_equal(noted, "");
	assert_int_equal(times_read(file), 1);
}

/* "." is no entry that is looked for: a folder that lost its own is walked as the kernel would. */
static void a_dot_is_where_we_are(void **state)
{
	static const char *const paths[] = { "/folder/inner/./deep", "/folder/inner/././/deep",
					     "/./folder/./inner/deep" };
	size_t i;

	begin_change();
	OK(ext2fs_unlink(fs, inner, ".", inner, 0));
	end_change();
	close_image();
	open_image();
	for (i = 0; i < sizeof paths / sizeof *paths; i++) {
		TAKE(paths[i]);
		assert_string_equal(noted, "");
		assert_int_equal(times_read(deep), 1);
	}
	TAKE("/folder/inner/.");
	assert_string_equal(noted, "");
	TAKE("/folder/file/.");
	assert_non_null(strstr(noted, strerror(ENOTDIR)));
}

static void folders_have_entries(void **state)
{
	TAKE("/folder"); /* the folder alone */
	assert_string_equal(noted, "");
	assert_int_equal(times_read(file), 0);
	assert_int_equal(times_read(deep), 0);
	TAKE("/folder/"); /* and all in it, however deep; itself is in it too */
	assert_string_equal(noted, "");
	assert_int_equal(times_read(file), 1);
	assert_int_equal(times_read(deep), 1);
	assert_int_equal(times_read(hidden), 1);
	TAKE("/folder/*");
	assert_int_equal(times_read(deep), 1);
	TAKE("/to-folder/");
	assert_int_equal(times_read(deep), 1);
	TAKE("/");
	assert_int_equal(times_read(deep), 1);
	assert_int_equal(times_read(crowd[0]), 1);
}

/* However often it is named. */
static void each_file_is_taken_once(void **state)
{
	size_t i;

	TAKE("/many/5", "/many/", "/many", "/many/again", "/many/7", "/folder/file", "/absolute");
	assert_string_equal(noted, "");
	for (i = 0; i < MANY; i++)
		assert_int_equal(times_read(crowd[i]), 1);
	assert_int_equal(times_read(file), 1);
	/* In the paths' order. */
	{
		blk64_t first[8], then[8];

		assert_int_equal(blocks_of(crowd[5], first), 1);
		assert_int_equal(blocks_of(crowd[4], then), 1);
		for (i = 0; i < read_count && read_blocks[i] != first[0]; i++)
			assert_true(read_blocks[i] != then[0]);
	}
}

static void each_allocation_fails_once(void **state)
{
	static const char *const paths[] = { "/many/", "/folder/" };
	struct trace_notes notes = { .line = take_note };
	struct err e = { "" };
	struct trace t;
	long k;
	int r;

	noted[0] = '\0';
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = trace_from_paths(image, paths, 2, &notes, &t, &e);
		alloc_left = -1;
		if (r == -ENOMEM)
			assert_non_null(strstr(e.msg, "out of memory"));
	}
	assert_int_equal(r, 0);
	assert_true(k > 10);
	assert_string_equal(noted, "");
	trace_release(&t);
}

static void take_all(void)
{
	TAKE("/folder/", "/many/5", "/nowhere");
}

static void nothing_is_left_behind(void **state)
{
	HEAP_STEADY(take_all());
}

static int set_up(void **state)
{
	if (make_raw_file() < 0)
		return -1;
	make_tree();
	open_image();
	return 0;
}

static int tear_down(void **state)
{
	close_image();
	return unlink(raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(links_are_followed),
		cmocka_unit_test(links_have_an_end),
		cmocka_unit_test(folders_have_entries),
		cmocka_unit_test(each_file_is_taken_once),
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(long_paths_through_long_links), /* changes a link */
		cmocka_unit_test(a_dot_is_where_we_are), /* changes a folder */
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
