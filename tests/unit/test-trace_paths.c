/* SPDX-License-Identifier: Apache-2.0 */
/* test-trace_paths.c - files of a real root file system found on the disk, lists of paths, and file
 * systems that are damaged in every place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "prefetch/trace_edit.h"
#include "prefetch/trace_paths.h"
#include "tests/unit/alloc.h"
#include "tests/unit/loops.h"
#include "tests/unit/stack.h"

static struct image_config *config;
static struct image *golden;

/* Notes of a call, one after the other. */
static char noted[16384];

static void take_note(void *arg, const char *text)
{
	size_t n = strlen(noted);

	snprintf(noted + n, sizeof noted - n, "%s\n", text);
}

static struct trace_notes new_notes(void)
{
	noted[0] = '\0';
	return (struct trace_notes){ .line = take_note };
}

static struct trace take(struct image *image, const char *const *paths, size_t count)
{
	struct trace_notes notes = new_notes();
	struct trace t;
	struct err e;

	if (trace_from_paths(image, paths, count, &notes, &t, &e) < 0)
		fail_msg("%s", e.msg);
	return t;
}

static uint64_t bytes_of(const struct trace *t)
{
	struct trace_totals sum;

	assert_int_equal(trace_sum_up(t, NULL, &sum, NULL), 0);
	assert_true(sum.read_bytes == sum.unique_bytes); /* no sector twice */
	return sum.unique_bytes;
}

/* files.json of the golden folder has the digests of all files.  What a file's data is comes last.
 */
static void finds_the_data(void **state)
{
	static const char *const paths[] = { "/etc/hostname" };
	static const char want[] =
		"sha256:"
		"5ac03da17d7d5241b49a9a94f86b08a431d7052c8585ca997b373f0bc7da0dcc";
	struct trace t = take(golden, paths, 1);
	const struct trace_read *last = &t.reads[t.count - 1];
	uint8_t bytes[4096];
	char got[DIGEST_TEXT] = "";
	size_t n;

	assert_int_equal(last->sectors, sizeof bytes / SECTOR);
	assert_int_equal(image_pread(golden, bytes, sizeof bytes, last->lba * SECTOR, NULL), 0);
	for (n = 1; n <= sizeof bytes && strcmp(got, want) != 0; n++)
		assert_int_equal(digest_bytes(bytes, n, got, NULL), 0);
	assert_string_equal(got, want);
	trace_release(&t);
}

static void finds_files(void **state)
{
	static const char *const one[] = { "/etc/hostname" }, *const folder[] = { "/etc/" },
				 *const star[] = { "/etc/*" }, *const itself[] = { "/etc" },
				 *const all[] = { "/" };
	struct trace of_one = take(golden, one, 1), of_folder = take(golden, folder, 1),
		     of_star = take(golden, star, 1), of_itself = take(golden, itself, 1),
		     of_all = take(golden, all, 1);

	assert_string_equal(noted, "");
	assert_true(bytes_of(&of_itself) < bytes_of(&of_one));
	assert_true(bytes_of(&of_one) < bytes_of(&of_folder));
	assert_true(bytes_of(&of_folder) < bytes_of(&of_all));
	assert_int_equal(of_star.count, of_folder.count);
	assert_memory_equal(of_star.reads, of_folder.reads, of_star.count * sizeof *of_star.reads);
	assert_true(bytes_of(&of_all) > 1000000);
	trace_release(&of_one);
	trace_release(&of_folder);
	trace_release(&of_star);
	trace_release(&of_itself);
	trace_release(&of_all);
}

static void skips_what_is_not_there(void **state)
{
	static const char *const paths[] = {
		"/nothing",	   "/etc/nothing/at/all",    "/etc/hostname/",
		"/etc/hostname/x", "/etc/../etc/./hostname", "//etc//hostname",
		"/etc/hostname",
	};
	struct trace t = take(golden, paths, sizeof paths / sizeof *paths), alone;

	assert_non_null(strstr(noted, "/nothing is skipped: No such file or directory\n"));
	assert_non_null(strstr(noted, "/etc/nothing/at/all is skipped: No such file"));
	assert_non_null(strstr(noted, "/etc/hostname/ is skipped: Not a directory\n"));
	assert_non_null(strstr(noted, "/etc/hostname/x is skipped: Not a directory\n"));
	assert_null(strstr(noted, "//etc"));
	alone = take(golden, paths + 6, 1);
	assert_true(bytes_of(&alone) > 0 && bytes_of(&alone) <= bytes_of(&t));
	trace_release(&t);
	trace_release(&alone);
}

/* Notes say what is wrong, in words. */
static void assert_in_words(const char *text)
{
	assert_null(strstr(text, "Unknown code"));
	assert_null(strstr(text, "(null)"));
}

static void limits_notes(void **state)
{
	static const struct {
		size_t count;
		const char *end;
	} rows[] = {
		{ TRACE_NOTES_MAX, "such file or directory\n" },
		{ TRACE_NOTES_MAX + 1, "\n1 more like these\n" },
		{ TRACE_NOTES_MAX + 5, "\n5 more like these\n" },
	};
	const char *paths[TRACE_NOTES_MAX + 5];
	struct trace t;
	size_t i, k, lines;

	for (i = 0; i < TRACE_NOTES_MAX + 5; i++)
		paths[i] = "/nothing";
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		t = take(golden, paths, rows[i].count);
		assert_true(strlen(noted) > 30);
		assert_string_equal(noted + strlen(noted) - strlen(rows[i].end), rows[i].end);
		for (k = lines = 0; noted[k]; k++)
			lines += noted[k] == '\n';
		assert_int_equal(lines, TRACE_NOTES_MAX + (i > 0));
		trace_release(&t);
	}
}

static void cuts_long_notes(void **state)
{
	static char path[3000];
	const char *paths[] = { path };
	struct trace t;

	memset(path, 'x', sizeof path - 1);
	path[0] = '/';
	t = take(golden, paths, 1);
	assert_int_equal(strlen(noted), 1023 + 1);
	assert_memory_equal(noted, path, 1023);
	trace_release(&t);
}

static void refuses_relative_paths(void **state)
{
	static const char *const paths[] = { "etc/hostname" };
	struct trace t;
	struct err e;

	assert_int_equal(trace_from_paths(golden, paths, 1, NULL, &t, &e), -EINVAL);
	assert_string_equal(e.msg, "'etc/hostname' is not an absolute path");
}

/* ---- lists ---- */

static void reads_lists(void **state)
{
	static const char text[] = "# what starts\n\n/usr/bin/python3\r\n  \t\n\r\n"
				   "/usr/lib/python3/\n/with blank/*\n/re\rturn\n/last\r\r";
	static const char *const want[] = { "/usr/bin/python3", "/usr/lib/python3/",
					    "/with blank/*", "/re\rturn", "/last\r" };
	struct trace_path_list list;
	size_t i, n;

	assert_int_equal(trace_path_list_parse(text, sizeof text - 1, &list, NULL), 0);
	assert_int_equal(list.count, 5);
	for (i = 0; i < 5; i++)
		assert_string_equal(list.paths[i], want[i]);
	assert_true(malloc_usable_size(list.text) >= sizeof text);
	trace_path_list_release(&list);
	for (n = 0; n < sizeof text; n++) {
		char *copy = malloc(n > 0 ? n : 1);

		memcpy(copy, text, n);
		if (trace_path_list_parse(copy, n, &list, NULL) == 0)
			trace_path_list_release(&list);
		free(copy);
	}
}

static void refuses_lists(void **state)
{
	struct trace_path_list list = { .count = 77 };
	char *many = malloc(2 * (TRACE_PATHS_MAX + 1)), *longest = malloc(TRACE_PATH_LENGTH + 1);
	struct err e;
	size_t i;

	assert_int_equal(trace_path_list_parse("/a\nb\n", 5, &list, &e), -EINVAL);
	assert_string_equal(e.msg, "line 2: 'b' is not an absolute path");
	assert_int_equal(trace_path_list_parse("/a\0b", 4, &list, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "NUL byte at 2"));
	for (i = 0; i <= TRACE_PATHS_MAX; i++)
		memcpy(many + 2 * i, "/\n", 2);
	assert_int_equal(trace_path_list_parse(many, 2 * (TRACE_PATHS_MAX + 1), &list, &e),
			 -EINVAL);
	assert_non_null(strstr(e.msg, "line 65537: more than 65536 paths"));
	memset(longest, '/', TRACE_PATH_LENGTH);
	longest[TRACE_PATH_LENGTH] = '\0';
	assert_int_equal(trace_path_list_parse(longest, TRACE_PATH_LENGTH, &list, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "a path of 4096 bytes, more than 4095"));
	assert_int_equal(list.count, 77);
	free(many);
	free(longest);
}

/* ---- what is no ext4 ---- */

static void assert_no_file_system(const uint8_t *head, size_t n, int code, const char *text)
{
	static const char *const paths[] = { "/" };
	struct layer_writer *w;
	struct image *image;
	struct trace t;
	struct stack s;
	struct err e;

	stack_init(&s);
	w = stack_add(&s, 64);
	assert_int_equal(layer_writer_data(w, 0, head, n / SECTOR, NULL), 0);
	stack_finish(w);
	image = stack_open(&s);
	assert_int_equal(trace_from_paths(image, paths, 1, NULL, &t, &e), -code);
	if (!strstr(e.msg, text))
		fail_msg("'%s' does not say '%s'", e.msg, text);
	image_close(image);
	stack_release(&s);
}

static void says_what_it_is(void **state)
{
	uint8_t head[2048] = { 0 };

	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds no ext4 file system");
	assert_no_file_system(head, 512, EINVAL, "the disk holds no ext4 file system");
	memcpy(head + 510, "\x55\xaa", 2);
	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds a partition table");
	memset(head, 0, sizeof head);
	memcpy(head + 512, "EFI PART", 8);
	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds a partition table");
	head[520] = 1; /* as it is on such disks */
	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds a partition table");
	head[519] = 'X';
	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds no ext4 file system");
	head[1024 + 56] = 0x53; /* half of the magic number, and the other half */
	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds no ext4 file system");
	memcpy(head + 1024 + 56, "\0\xef", 2);
	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds no ext4 file system");
	memcpy(head + 1024, "\xe2\xe1\xf5\xe0", 4);
	assert_no_file_system(head, sizeof head, EINVAL, "the disk holds an erofs file system");
	memcpy(head + 1024 + 56, "\x53\xef", 2);
	assert_no_file_system(head, sizeof head, EBADMSG, "damaged file system: ");
	memset(head + 1024, 0xff, 1024);
	memcpy(head + 1024 + 56, "\x53\xef", 2);
	assert_no_file_system(head, sizeof head, EBADMSG, "damaged file system: ");
}

/* ---- damage ---- */

enum { BLOCK = 4096 };

/* The golden file system as one bare layer, whose data can be overwritten in its file. */
struct copy {
	struct stack stack;
	uint64_t *blocks; /* of the disk, in the order of the layer file */
	size_t count;
};

enum { METADATA = 16 }; /* blocks of the golden file system, at its beginning, that finding reads */

static void copy_block(struct copy *c, struct layer_writer *w, uint64_t block)
{
	uint8_t bytes[BLOCK];

	assert_int_equal(image_pread(golden, bytes, BLOCK, block * BLOCK, NULL), 0);
	assert_int_equal(
		layer_writer_data(w, block * (BLOCK / SECTOR), bytes, BLOCK / SECTOR, NULL), 0);
	c->blocks[c->count++] = block;
}

/* Only what listing everything reads: enough to find the files, and small. */
static void copy_golden(struct copy *c)
{
	static const char *const all[] = { "/" };
	struct trace t = take(golden, all, 1);
	struct trace_ranges ranges;
	struct layer_writer *w;
	uint64_t next = 0, block;
	size_t i;

	stack_init(&c->stack);
	c->count = 0;
	c->blocks = malloc(image_size(golden) / BLOCK * sizeof *c->blocks);
	w = stack_add(&c->stack, image_size(golden) / SECTOR);
	assert_int_equal(trace_ranges_of(&t, &ranges, NULL), 0);
	for (i = 0; i < ranges.count; i++) {
		uint64_t end = (ranges.list[i].lba + ranges.list[i].sectors) * SECTOR;

		block = max_u64(next, ranges.list[i].lba * SECTOR / BLOCK);
		for (; block * BLOCK < end; block++)
			copy_block(c, w, block);
		next = block;
	}
	stack_finish(w);
	trace_ranges_release(&ranges);
	trace_release(&t);
}

/* Overwrites some bytes, mostly in superblock, descriptors, inode tables and folders. */
static void damage(const struct copy *c, int fd, uint8_t *saved, uint64_t *at, size_t *n)
{
	uint8_t bytes[BLOCK];
	size_t i;

	*at = FORMAT_SPACE + loops_random() % (loops_random() % 4 ? METADATA : c->count) * BLOCK;
	*n = BLOCK;
	assert_int_equal(io_pread(fd, saved, BLOCK, *at, NULL), 0);
	memcpy(bytes, saved, BLOCK);
	for (i = 1 + loops_random() % 8; i > 0; i--) {
		size_t place = loops_random() % BLOCK, looked = 0;

		/* Most of a block is unused. */
		while (bytes[place] == 0 && looked++ < BLOCK)
			place = (place + 1) % BLOCK;
		switch (loops_random() % 3) {
		case 0:
			bytes[place] = (uint8_t)loops_random();
			break;
		case 1:
			bytes[place] ^= (uint8_t)(1 << loops_random() % 8);
			break;
		default:
			memset(bytes + place, loops_random() % 2 ? 0xff : 0,
			       min_u64(4, BLOCK - place));
		}
	}
	assert_int_equal(io_pwrite(fd, bytes, BLOCK, *at, NULL), 0);
}

static void survives_damage(void **state)
{
	static const char *const paths[] = { "/", "/usr/bin/busybox", "/usr/lib/*", "/srv/app.py" };
	unsigned loop, loops = loops_count(10000), worked = 0, noted_some = 0;
	uint64_t longest = 0;
	struct copy c;
	int fd;

	copy_golden(&c);
	assert_true(c.count > METADATA);
	fd = open(c.stack.lowers[0].file, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (loop = 0; loop < loops; loop++) {
		struct trace_notes notes = new_notes();
		uint8_t saved[BLOCK];
		struct image *image;
		struct trace t;
		struct err e = { "" };
		uint64_t at, began = clock_ms();
		size_t n, i;
		int r;

		damage(&c, fd, saved, &at, &n);
		image = stack_open(&c.stack);
		r = trace_from_paths(image, paths, 4, &notes, &t, &e);
		if (r == 0) {
			for (i = 0; i < t.count; i++)
				assert_true(t.reads[i].sectors > 0 &&
					    range_fits(t.reads[i].lba, t.reads[i].sectors,
						       image_size(image) / SECTOR));
			trace_release(&t);
			worked++;
		} else if (r != -EBADMSG && r != -EFBIG &&
			   (r != -EINVAL || !strstr(e.msg, "the disk holds no ext4"))) {
			fail_msg("%d: %s", r, e.msg);
		}
		assert_in_words(e.msg);
		assert_in_words(noted);
		noted_some += notes.count > 0;
		longest = max_u64(longest, clock_ms() - began);
		image_close(image);
		assert_int_equal(io_pwrite(fd, saved, n, at, NULL), 0);
	}
	print_message("%u damaged, %u still read, %u with notes, at most %zu ms\n", loops, worked,
		      noted_some, (size_t)longest);
	assert_true(noted_some > 0 && worked > 0 && worked < loops);
	close(fd);
	free(c.blocks);
	stack_release(&c.stack);
}

/* Each allocation of ours is refused once; none becomes a note. */
static void out_of_memory(void **state)
{
	static const char *const paths[] = { "/usr/bin/busybox", "/usr/lib/*", "/srv/" };
	struct trace_notes notes = new_notes();
	struct trace_path_list list;
	struct trace t;
	long k;
	int r;

	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		alloc_left = k;
		r = trace_from_paths(golden, paths, 3, &notes, &t, NULL);
		alloc_left = -1;
	}
	assert_true(r == 0 && k > 10);
	assert_string_equal(noted, "");
	trace_release(&t);
	for (k = 0; k < 2; k++) {
		alloc_left = k;
		assert_int_equal(trace_path_list_parse("/a", 2, &list, NULL), -ENOMEM);
		alloc_left = -1;
	}
}

/* A disk that cannot be read is not a damaged file system: all is given up. */
static void reports_failed_reads(void **state)
{
	static const char *const paths[] = { "/usr/bin/busybox", "/usr/lib/*" };
	struct trace_notes notes = new_notes();
	unsigned kept, failed = 0;
	struct copy c;

	copy_golden(&c);
	notes = new_notes();
	for (kept = METADATA; kept > 0; kept--) {
		struct image *image = stack_open(&c.stack);
		struct trace t;
		struct err e;
		char *file = c.stack.lowers[0].file, *copy;
		size_t n;
		int r;

		assert_int_equal(io_read_file(file, 1 << 30, &copy, &n, NULL), 0);
		assert_int_equal(truncate(file, FORMAT_SPACE + kept * BLOCK), 0);
		r = trace_from_paths(image, paths, 2, &notes, &t, &e);
		if (r == 0) {
			trace_release(&t);
		} else {
			assert_int_equal(r, -EIO);
			assert_non_null(strstr(e.msg, "the file ends at"));
			failed++;
		}
		assert_int_equal(io_replace_file(file, copy, n, NULL), 0);
		image_close(image);
		free(copy);
	}
	assert_true(failed > 5);
	assert_string_equal(noted, "");
	free(c.blocks);
	stack_release(&c.stack);
}

static int set_up(void **state)
{
	char *path;

	loops_seed();
	if (asprintf(&path, "%s/ext4-3/config.v1.json", getenv("GOLDEN")) < 0 ||
	    config_load(path, NULL, &config, NULL) < 0 ||
	    image_open(config, NULL, &golden, NULL) < 0)
		return -1;
	free(path);
	return 0;
}

static int tear_down(void **state)
{
	image_close(golden);
	config_free(config);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_data),
		cmocka_unit_test(finds_files),
		cmocka_unit_test(skips_what_is_not_there),
		cmocka_unit_test(limits_notes),
		cmocka_unit_test(cuts_long_notes),
		cmocka_unit_test(refuses_relative_paths),
		cmocka_unit_test(reads_lists),
		cmocka_unit_test(refuses_lists),
		cmocka_unit_test(says_what_it_is),
		cmocka_unit_test(survives_damage),
		cmocka_unit_test(out_of_memory),
		cmocka_unit_test(reports_failed_reads),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
