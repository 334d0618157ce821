/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace_tree.c - paths through links, folders in folders, and how often a file is taken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "prefetch/trace_paths.h"
#include "tests/unit/alloc.h"
#include "tests/unit/ext4lib.h"
#include "tests/unit/heap.h"

enum { MANY = 560, LINKS = TRACE_LINKS_MAX + 2 };

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
	for (i = 0; i < 12; i++)
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

static struct trace_read reads_made[2048]; /* the reads themselves */
static size_t made_count;

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
	made_count = t.count;
	memcpy(reads_made, t.reads, t.count * sizeof *t.reads);
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
	TAKE("/*");
	assert_string_equal(noted, "");
	assert_int_equal(times_read(deep), 1);
	TAKE("/folder/file/*");
	assert_non_null(strstr(noted, strerror(ENOTDIR)));
	TAKE("/folder*"); /* no pattern */
	assert_non_null(strstr(noted, strerror(ENOENT)));
}

static char logged[256];

static void take_line(enum log_level level, const char *line)
{
	assert_int_equal(level, LOG_WARNING);
	strncpy(logged, line, sizeof logged - 1);
}

/* Who takes no notes finds them in the log. */
static void notes_are_logged(void **state)
{
	static const char *const paths[] = { "/nowhere" };
	struct trace t;

	log_set_sink(take_line);
	assert_int_equal(trace_from_paths(image, paths, 1, NULL, &t, NULL), 0);
	log_set_sink(NULL);
	assert_string_equal(logged, "/nowhere is skipped: No such file or directory");
	trace_release(&t);
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

/* Changes what is there, and opens it anew. */
static void end_of_change(void)
{
	end_change();
	close_image();
	open_image();
}

static void write_block(uint64_t number, const void *bytes)
{
	int fd = open(raw, O_RDWR | O_CLOEXEC);

	OK(io_pwrite(fd, bytes, BLOCK, number * BLOCK, NULL));
	close(fd);
}

/* A block of pointers, of which this many lead to one and the same block. */
static void write_pointers(uint64_t number, size_t count, uint32_t to)
{
	uint8_t bytes[BLOCK] = { 0 };
	size_t i;

	for (i = 0; i < count; i++)
		le32_put(bytes + 4 * i, to);
	write_block(number, bytes);
}

/* Its blocks from now on: these, or what `tree` of pointers leads to. */
static void set_blocks(ext2_ino_t inode, unsigned size, const uint32_t *blocks, size_t count)
{
	struct ext2_inode node;
	size_t i;

	OK(ext2fs_read_inode(fs, inode, &node));
	node.i_flags &= ~(unsigned)EXT4_EXTENTS_FL;
	node.i_size = size;
	memset(node.i_block, 0, sizeof node.i_block);
	for (i = 0; i < count; i++)
		node.i_block[i] = blocks[i];
	OK(ext2fs_write_inode(fs, inode, &node));
}

static void set_tree(ext2_ino_t inode, unsigned size, unsigned depth, uint32_t tree)
{
	uint32_t blocks[EXT2_N_BLOCKS] = { 0 };

	blocks[EXT2_NDIR_BLOCKS - 1 + depth] = tree;
	set_blocks(inode, size, blocks, EXT2_N_BLOCKS);
}

/* Two numbers may fall on one place of the set, wherever it is; of 256 places at first. */
static void files_are_told_apart(void **state)
{
	char one[24], other[24];
	size_t i;

	for (i = 0; i + 256 < MANY; i++) {
		assert_int_equal(crowd[i + 256], crowd[i] + 256);
		snprintf(one, sizeof one, "/many/%zu", i);
		snprintf(other, sizeof other, "/many/%zu", i + 256);
		TAKE(one, other, one);
		assert_string_equal(noted, "");
		assert_int_equal(times_read(crowd[i]), 1);
		assert_int_equal(times_read(crowd[i + 256]), 1);
	}
}

static void assert_reads_end_with(const struct trace_read *want, size_t count)
{
	size_t i;

	assert_true(made_count > count);
	for (i = 0; i < count; i++) {
		const struct trace_read *read = &reads_made[made_count - count + i];

		assert_int_equal(read->lba, want[i].lba * PER_BLOCK);
		assert_int_equal(read->sectors, want[i].sectors * PER_BLOCK);
	}
}

/* Within a path in the disk's order, what adjoins being one read; but not across paths. */
static void data_has_an_order(void **state)
{
	static const uint32_t forward[] = { 3800, 3801, 3802 }, backward[] = { 3813, 3811, 3812 },
			      next[] = { 3803 }, before[] = { 3799 };
	ext2_ino_t forth, back, then, early, both;

	begin_change();
	forth = add_file(folder, "forth", false, 1);
	back = add_file(folder, "back", false, 1);
	then = add_file(folder, "then", false, 1);
	early = add_file(folder, "early", false, 1);
	set_blocks(forth, 3 * BLOCK, forward, 3);
	set_blocks(back, 3 * BLOCK, backward, 3);
	set_blocks(then, BLOCK, next, 1);
	set_blocks(early, BLOCK, before, 1);
	both = make_folder(folder, "both");
	OK(ext2fs_link(fs, both, "back", back, EXT2_FT_REG_FILE));
	OK(ext2fs_link(fs, both, "forth", forth, EXT2_FT_REG_FILE));
	OK(ext2fs_link(fs, both, "then", then, EXT2_FT_REG_FILE));
	end_of_change();
	TAKE("/folder/forth");
	assert_reads_end_with((struct trace_read[]){ { 3800, 3, 0 } }, 1);
	TAKE("/folder/back");
	assert_reads_end_with((struct trace_read[]){ { 3811, 2, 0 }, { 3813, 1, 0 } }, 2);
	TAKE("/folder/back", "/folder/forth", "/folder/then", "/folder/early");
	assert_reads_end_with((struct trace_read[]){ { 3811, 2, 0 },
						     { 3813, 1, 0 },
						     { 3800, 3, 0 },
						     { 3803, 1, 0 },
						     { 3799, 1, 0 } },
			      5);
	TAKE("/folder/both/");
	assert_reads_end_with(
		(struct trace_read[]){ { 3800, 4, 0 }, { 3811, 2, 0 }, { 3813, 1, 0 } }, 3);
}

/* Entries need not say what they are; if they do they are believed. */
static void entries_of_all_kinds(void **state)
{
	char target[200];
	ext2_ino_t kinds, hushed, in_hushed, quiet, link, no_file;

	memset(target, 't', sizeof target);
	target[199] = '\0';
	begin_change();
	kinds = make_folder(EXT2_ROOT_INO, "kinds");
	hushed = make_folder(folder, "hushed");
	in_hushed = add_file(hushed, "file", true, 1);
	quiet = add_file(folder, "quiet", true, 1);
	no_file = add_file(folder, "no-file", true, 1);
	OK(ext2fs_link(fs, kinds, "hushed", hushed, EXT2_FT_UNKNOWN));
	OK(ext2fs_link(fs, kinds, "quiet", quiet, EXT2_FT_UNKNOWN));
	OK(ext2fs_link(fs, kinds, "no-file", no_file, EXT2_FT_CHRDEV));
	make_link(kinds, "link", target);
	OK(ext2fs_lookup(fs, kinds, "link", 4, NULL, &link));
	end_of_change();
	TAKE("/kinds/");
	assert_string_equal(noted, "");
	assert_int_equal(times_read(in_hushed), 1);
	assert_int_equal(times_read(quiet), 1);
	assert_int_equal(times_read(no_file), 0);
	assert_int_equal(times_read(link), 1); /* where it leads is read, but not followed */
}

/* Each is told of once, and the others are taken. */
static void what_is_damaged_is_skipped(void **state)
{
	static const uint32_t behind[] = { BLOCKS };
	ext2_ino_t bad, sub, last, in_last;

	begin_change();
	bad = make_folder(EXT2_ROOT_INO, "bad");
	last = make_folder(bad, "last"); /* taken last: folders wait on a stack */
	sub = make_folder(bad, "sub");
	in_last = add_file(last, "file", true, 1);
	OK(ext2fs_link(fs, bad, "gone", 100000, EXT2_FT_REG_FILE));
	OK(ext2fs_link(fs, bad, "file", file, EXT2_FT_REG_FILE));
	set_blocks(sub, BLOCK, behind, 1);
	end_of_change();
	TAKE("/bad/");
	assert_memory_equal(noted, "/bad/: an entry is skipped: damaged file system: ", 49);
	assert_memory_equal(strchr(noted, '\n') + 1,
			    "/bad/: a folder is skipped: damaged file system: ", 49);
	assert_ptr_equal(strchr(strchr(noted, '\n') + 1, '\n'), noted + strlen(noted) - 1);
	assert_null(strstr(noted, "Unknown code"));
	assert_int_equal(times_read(file), 1);
	assert_int_equal(times_read(in_last), 1);
}

/* Five links, one after the other, before what is left of the path. */
static void paths_that_grow_too_long(void **state)
{
	enum { TARGET = 1000, LONGEST = 3198 }; /* 5 * 1000 - 7 + 3199 are 8192 */
	static char path[TRACE_PATH_LENGTH];
	char target[TARGET + 1], name[8];
	unsigned i, more;

	begin_change();
	memset(target, '/', TARGET);
	target[TARGET] = '\0';
	for (i = 1; i <= 5; i++) {
		memset(target + 1, '/', 8);
		if (i < 5)
			memcpy(target + 1, (char[]){ 'L', (char)('1' + i) }, 2);
		else
			memcpy(target + 1, "folder", 6);
		snprintf(name, sizeof name, "L%u", i);
		make_link(EXT2_ROOT_INO, name, target);
	}
	end_of_change();
	for (more = 0; more < 2; more++) {
		memset(path, '/', sizeof path);
		memcpy(path, "/L1", 3);
		memcpy(path + 3 + LONGEST + more - 4, "file", 5);
		TAKE(path);
		assert_int_equal(times_read(file), !more);
		assert_int_equal(noted[0] == '/', more); /* the path is longer than notes are */
	}
}

/* A folder may have the same block of entries again and again. */
static void folders_have_a_limit(void **state)
{
	enum { ENTRIES = 64, AT = 3900, BYTES = BLOCK / ENTRIES };
	uint8_t bytes[BLOCK] = { 0 };
	ext2_ino_t wide;
	size_t i;

	begin_change();
	wide = make_folder(EXT2_ROOT_INO, "wide");
	set_tree(wide, BLOCK, 2, AT + 2);
	end_change();
	for (i = 0; i < ENTRIES; i++) {
		le32_put(bytes + i * BYTES, file);
		bytes[i * BYTES + 4] = BYTES;
		bytes[i * BYTES + 6] = 4; /* and a name of four letters */
		bytes[i * BYTES + 7] = EXT2_FT_REG_FILE;
		memset(bytes + i * BYTES + 8, 'n', 4);
	}
	write_block(AT, bytes);
	write_pointers(AT + 1, BLOCK / 4, AT);
	write_pointers(AT + 2, TRACE_ENTRIES_MAX / (ENTRIES * BLOCK / 4), AT + 1);
	close_image();
	open_image();
	TAKE("/wide/");
	assert_string_equal(noted, "");
	assert_int_equal(times_read(file), 1);
	TAKE("/wide/", "/folder/inner/");
	assert_string_equal(noted, "/folder/inner/: more than 262144 entries in folders: "
				   "the rest is left out\n");
	assert_int_equal(times_read(deep), 0);
	TAKE("/folder/inner/", "/wide/");
	assert_non_null(strstr(noted, "/wide/: more than 262144 entries in folders: "));
	assert_int_equal(times_read(deep), 1);
	assert_int_equal(times_read(file), 1);
}

/* And a file the same block of data.  Behind it nothing is looked at. */
static void data_has_a_limit(void **state)
{
	enum { AT = 3910 };
	char target[200];
	ext2_ino_t all, circle, link, sub;

	memset(target, 't', sizeof target);
	target[199] = '\0';
	begin_change();
	all = make_folder(EXT2_ROOT_INO, "all");
	circle = add_file(all, "circle", false, 1);
	set_tree(circle, UINT32_MAX, 3, AT);
	make_link(all, "link", target);
	OK(ext2fs_lookup(fs, all, "link", 4, NULL, &link));
	sub = make_folder(all, "sub");
	end_change();
	write_pointers(AT, BLOCK / 4, AT);
	close_image();
	open_image();
	TAKE("/all/");
	assert_string_equal(noted,
			    "the files need more than 1048576 reads: the rest is left out\n");
	assert_int_equal(times_read(link), 0);
	assert_int_equal(times_read(sub), 0);
	TAKE("/all/circle", "/all/sub");
	assert_string_equal(noted,
			    "the files need more than 1048576 reads: the rest is left out\n");
	assert_int_equal(times_read(sub), 0);
}

/* A file that is damaged is told of each time that it is taken: once, however often it is named. */
static void none_is_forgotten(void **state)
{
	static const uint32_t behind[] = { BLOCKS };
	static char names[MANY][16], last[40];
	const char *paths[MANY + 1] = { "/many/" };
	unsigned i;

	begin_change();
	for (i = 0; i < MANY; i++) {
		set_blocks(crowd[i], BLOCK, behind, 1);
		snprintf(names[i], sizeof names[i], "/many/%u", i);
		paths[1 + i] = names[i];
	}
	end_of_change();
	take(paths, MANY + 1);
	snprintf(last, sizeof last, "\n%d more like these\n", MANY - TRACE_NOTES_MAX);
	assert_string_equal(noted + strlen(noted) - strlen(last), last);
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
		cmocka_unit_test(notes_are_logged),
		cmocka_unit_test(each_file_is_taken_once),
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(files_are_told_apart),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(long_paths_through_long_links), /* changes a link */
		cmocka_unit_test(a_dot_is_where_we_are), /* changes a folder */
		/* And these, more. */
		cmocka_unit_test(data_has_an_order),
		cmocka_unit_test(entries_of_all_kinds),
		cmocka_unit_test(what_is_damaged_is_skipped),
		cmocka_unit_test(paths_that_grow_too_long),
		cmocka_unit_test(folders_have_a_limit),
		cmocka_unit_test(data_has_a_limit),
		cmocka_unit_test(none_is_forgotten),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
