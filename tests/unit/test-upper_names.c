/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_names.c - which names belong to a log, and which files of killed processes are
 * removed. */
#include "tests/unit/upperlib.h"

#include "core/upper_names.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { SIZE = 1 << 20 };

#define DIGITS "0123456789abcdef"

/* ---- names ---- */

static void a_name_has_a_stem_and_a_number(void **state)
{
	static const struct {
		const char *name;
		size_t stem;
		unsigned number;
	} cases[] = {
		{ "/a/u.data", 4, 0 },
		{ "/a/u", 4, 0 },
		{ "/a/u-2.data", 4, 2 },
		{ "/a/u-2", 4, 2 },
		{ "/a/u-90.data", 4, 90 },
		{ "/a/u-09.data", 4, 9 },
		{ "/a/u-0.data", 4, 0 },
		{ "/a/u-123456.data", 4, 123456 },
		{ "/a/u-1234567", 12, 0 },
		{ "/a/u-.data", 5, 0 },
		{ "/a/u2.data", 5, 0 },
		{ "/a/u-2x", 7, 0 },
		{ "/a/-2.data", 5, 0 },
		{ "/a/--2.data", 4, 2 },
		{ "/a/u-1-2.data", 6, 2 },
		{ "-2", 2, 0 },
		{ "a-2", 1, 2 },
		{ "12", 2, 0 },
		{ "", 0, 0 },
		{ ".data", 5, 0 },
		{ "x.data", 1, 0 },
		{ "/a/u-2.index", 12, 0 },
		{ "/a/u-2/", 7, 0 },
		{ "/a/u-2:", 7, 0 },
	};
	unsigned number;
	size_t i, stem;

	for (i = 0; i < COUNT_OF(cases); i++) {
		number = 99;
		stem = upper_names_stem(cases[i].name, &number);
		if (stem != cases[i].stem || number != cases[i].number)
			fail_msg("%s: %zu, %u", cases[i].name, stem, number);
	}
}

/* As the system's names: of a folder, also by another name of it. */
static void kept_names_are_refused(void **state)
{
	static const struct {
		const char *name;
		bool kept;
	} cases[] = {
		{ "u.pending", true },
		{ "u.intent", true },
		{ "u.upper-pending", true },
		{ "u.upper-intent", true },
		{ "u.data.new", true },
		{ "u.index.new", true },
		{ "u.data.part", true },
		{ "u.index.part", true },
		{ "u-1.pending", true },
		{ "u-12345.intent", true },
		{ "u-0.data.new", true },
		{ "u-9.data.new", true },
		{ "u.data.tmp." DIGITS, true },
		{ "u-1.index.tmp." DIGITS, true },
		{ "u.tmp." DIGITS, false }, /* it would be a name's beginning */
		{ "u-1x.tmp." DIGITS, false },
		{ "ux.tmp." DIGITS, false },
		{ "u.data.tmp.0123456789abcde", false },
		{ "u.data.tmp.0123456789abcdeF", false },
		{ "u.data.tmp.0123456789abcdef0", false },
		{ "u-x.pending", false },
		{ "u--1.pending", false },
		{ "u-1-2.pending", false },
		{ "u-/.pending", false },
		{ "u-1:.pending", false },
		{ "upending", false },
		{ "u.pending.new", false },
		{ "u.data", false },
		{ "u.index", false },
		{ "U.pending", false },
		{ "t.pending", false },
	};
	static const char *const logs[] = { "u.data", "u", "u-7.data" };
	char data[96], path[160], want[320], link[96];
	struct err e;
	size_t i, k;
	int r;

	snprintf(link, sizeof link, "%s/other", upper_folder);
	assert_int_equal(symlink(".", link), 0);
	for (i = 0; i < COUNT_OF(cases); i++)
		for (k = 0; k < COUNT_OF(logs); k++) {
			snprintf(data, sizeof data, "%s/%s", upper_folder, logs[k]);
			snprintf(path, sizeof path, "%s/%s", k == 1 ? link : upper_folder,
				 cases[i].name);
			e.msg[0] = '\0';
			r = upper_names_refuse_kept(data, path, &e);
			if (r != (cases[i].kept ? -EINVAL : 0))
				fail_msg("%s of %s: %d", cases[i].name, logs[k], r);
			snprintf(want, sizeof want,
				 "'%s' is a name under which the writable layer, or the next one, "
				 "keeps files: choose another",
				 path);
			assert_string_equal(e.msg, cases[i].kept ? want : "");
			snprintf(path, sizeof path, "/tmp/%s", cases[i].name);
			assert_int_equal(upper_names_refuse_kept(data, path, &e), 0);
			snprintf(path, sizeof path, "%s/nowhere/%s", upper_folder, cases[i].name);
			assert_int_equal(upper_names_refuse_kept(data, path, &e), 0);
		}
	unlink(link);
}

/* A link leads to the log: the names beside that count. */
static void a_link_stands_for_what_it_leads_to(void **state)
{
	char link[96], path[96];
	struct err e;

	upper_close(upper_new(SIZE, NULL));
	snprintf(link, sizeof link, "%s/v.data", upper_folder);
	assert_int_equal(symlink("u.data", link), 0);
	snprintf(path, sizeof path, "%s/u.pending", upper_folder);
	assert_int_equal(upper_names_refuse_kept(link, path, &e), -EINVAL);
	snprintf(path, sizeof path, "%s/v.pending", upper_folder);
	assert_int_equal(upper_names_refuse_kept(link, path, &e), 0);
	unlink(link);
}

static void files_of_the_image_are_refused(void **state)
{
	static const char *const own[] = { "u.data",	  "u.index",   "u.data.new",
					   "u.index.new", "u.pending", "u.intent" };
	char path[96], link[96], hard[96], want[256];
	struct err e;
	size_t i;

	upper_close(upper_new(SIZE, NULL));
	for (i = 0; i < COUNT_OF(own); i++) { /* most are not there */
		snprintf(path, sizeof path, "%s/%s", upper_folder, own[i]);
		assert_int_equal(upper_names_refuse(upper_data, upper_index, path, &e), -EINVAL);
		snprintf(want, sizeof want, "'%s' is a file of the image: %s", path, path);
		assert_string_equal(e.msg, want);
		snprintf(path, sizeof path, "/tmp/%s", own[i]);
		assert_int_equal(upper_names_refuse(upper_data, upper_index, path, &e), 0);
	}
	snprintf(link, sizeof link, "%s/link", upper_folder);
	snprintf(hard, sizeof hard, "%s/hard", upper_folder);
	assert_int_equal(symlink("u.index", link), 0);
	assert_int_equal(linkat(AT_FDCWD, upper_data, AT_FDCWD, hard, 0), 0);
	assert_int_equal(upper_names_refuse(upper_data, upper_index, link, &e), -EINVAL);
	snprintf(want, sizeof want, "'%s' is a file of the image: %s", link, upper_index);
	assert_string_equal(e.msg, want);
	assert_int_equal(upper_names_refuse(upper_data, upper_index, hard, &e), -EINVAL);
	snprintf(want, sizeof want, "'%s' is a file of the image: %s", hard, upper_data);
	assert_string_equal(e.msg, want);
	unlink(link);
	unlink(hard);
	/* The next layer's. */
	snprintf(path, sizeof path, "%s/u-1.pending", upper_folder);
	assert_int_equal(upper_names_refuse(upper_data, upper_index, path, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "or the next one, keeps"));
	snprintf(path, sizeof path, "%s/free", upper_folder);
	assert_int_equal(upper_names_refuse(upper_data, upper_index, path, &e), 0);
	/* Relative to the working directory. */
	assert_int_equal(chdir(upper_folder), 0);
	assert_int_equal(upper_names_refuse("u.data", "u.index", "u.intent", &e), -EINVAL);
	assert_string_equal(e.msg, "'u.intent' is a file of the image: u.intent");
	assert_int_equal(upper_names_refuse("u.data", "u.index", "v.intent", &e), 0);
	assert_int_equal(chdir("/"), 0);
}

/* ---- what was left ---- */

static const char uuid[] = "0123ABCD-1DFB-4EC7-8E49-636D2508E22E",
		  lower[] = "0123abcd-1dfb-4ec7-8e49-636d2508e22e",
		  other[] = "0123ABCD-1DFB-4EC7-8E49-636D2508E22F";

/* A file that begins with this magic, and has the uuid there. */
static size_t begin_as(uint8_t *raw, const char *magic, size_t at, const char *id, size_t n)
{
	memset(raw, 0, n);
	memcpy(raw, magic, 8);
	memcpy(raw + at, id, 36);
	return n;
}

static void put_file(const char *name, const void *bytes, size_t n)
{
	int fd = memfs_open(name, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(memfs_pwrite(fd, bytes, n, 0), n);
	memfs_close(fd);
}

static void tidy(const struct file_ops *ops)
{
	upper_names_tidy(ops, "u.data", "i/u.index", uuid);
}

static void what_a_killed_process_left_is_removed(void **state)
{
	static const struct {
		const char *what, *magic;
		size_t at;
		const char *id;
		size_t n;
		bool removed;
	} cases[] = {
		{ "a header", "LSMT\0\1\2", 56, uuid, 4096, true },
		{ "a header, in small letters", "LSMT\0\1\2", 56, lower, 4096, true },
		{ "another log's header", "LSMT\0\1\2", 56, other, 4096, false },
		{ "a header with the uuid elsewhere", "LSMT\0\1\2", 52, uuid, 4096, false },
		{ "a pending file", "OBDPEND2", 52, uuid, 256, true },
		{ "another log's pending file", "OBDPEND2", 52, other, 256, false },
		{ "a pending file with the uuid elsewhere", "OBDPEND2", 56, uuid, 256, false },
		{ "an older pending file", "OBDPEND1", 52, uuid, 256, false },
		{ "an intent", "OBDINTN1", 24, uuid, 128, true },
		{ "another log's intent", "OBDINTN1", 24, other, 128, false },
		{ "a part of an intent", "OBDINTN1", 24, uuid, 60, true },
		{ "a shorter part", "OBDINTN1", 24, uuid, 59, false },
		{ "nothing", "\0\0\0\0\0\0\0", 0, "\0", 0, true },
		{ "a zero", "\0\0\0\0\0\0\0", 0, "\0", 1, true },
		{ "text", "my text.", 24, uuid, 128, false },
		{ "text that begins so", "LSMT.txt", 56, uuid, 128, false },
	};
	uint8_t raw[4096];
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		memset(raw, 0, sizeof raw);
		if (cases[i].id[0])
			begin_as(raw, cases[i].magic, cases[i].at, cases[i].id, sizeof raw);
		memfs = memfs_new(1);
		put_file("u.pending.tmp." DIGITS, raw, cases[i].n);
		loglib_listen();
		tidy(&memfs_ops);
		if (!memfs_find("u.pending.tmp." DIGITS) != cases[i].removed)
			fail_msg("%s", cases[i].what);
		loglib_expect(cases[i].removed ? "u.pending.tmp." DIGITS
						 ": is removed: a process that was killed left it\n"
					       : "");
		loglib_expect_none();
		memfs_free(memfs);
	}
}

/* What follows on the beginning is not looked at. */
static void zeroes_at_the_beginning_are_enough(void **state)
{
	uint8_t raw[129] = { 0 };

	memfs = memfs_new(1);
	raw[127] = 1;
	put_file("u.intent.tmp." DIGITS, raw, sizeof raw);
	raw[127] = 0;
	raw[128] = 1;
	put_file("u.pending.tmp." DIGITS, raw, sizeof raw);
	loglib_listen();
	tidy(&memfs_ops);
	assert_non_null(memfs_find("u.intent.tmp." DIGITS));
	assert_null(memfs_find("u.pending.tmp." DIGITS));
	loglib_expect("u.pending.tmp." DIGITS ": is removed: a process that was killed left it\n");
	loglib_expect_none();
	memfs_free(memfs);
}

/* Of each file that is made under a temporary name; others have names of their own. */
static void only_names_of_ours_are_looked_at(void **state)
{
	static const struct {
		const char *name;
		bool removed;
	} cases[] = {
		{ "i/u.index.tmp." DIGITS, true },
		{ "u.data.new.tmp." DIGITS, true },
		{ "i/u.index.new.tmp." DIGITS, true },
		{ "u.pending.tmp." DIGITS, true },
		{ "u.intent.tmp." DIGITS, true },
		{ "u.data.tmp." DIGITS, false },
		{ "v.pending.tmp." DIGITS, false },
		{ "u.intent.x.tmp." DIGITS, false },
		{ "u.intent.tmp.0123456789abcde", false },
		{ "u.intent.tmp.0123456789abcdeg", false },
		{ "u.intent.tmp.0123456789abcdef0", false },
		{ "i/u.index", false },
		{ "u.intent", false },
	};
	size_t i;

	memfs = memfs_new(1);
	for (i = 0; i < COUNT_OF(cases); i++)
		put_file(cases[i].name, "", 0);
	loglib_listen();
	tidy(&memfs_ops);
	loglib_warnings[0] = '\0';
	loglib_expect_none();
	for (i = 0; i < COUNT_OF(cases); i++)
		if (!memfs_find(cases[i].name) != cases[i].removed)
			fail_msg("%s", cases[i].name);
	memfs_free(memfs);
}

static int no_open(const char *path, int flags, mode_t mode)
{
	return -EACCES;
}

static int no_size(int fd, uint64_t *size)
{
	return -EIO;
}

static ssize_t no_pread(int fd, void *buf, size_t n, uint64_t off)
{
	return -EIO;
}

static int no_unlink(const char *path)
{
	return -EACCES;
}

/* Nor is anything said of it. */
static void what_cannot_be_removed_stays(void **state)
{
	struct file_ops ops[4] = { memfs_ops, memfs_ops, memfs_ops, memfs_ops };
	size_t i;

	ops[0].open = no_open;
	ops[1].size = no_size;
	ops[2].pread = no_pread;
	ops[3].unlink = no_unlink;
	memfs = memfs_new(1);
	put_file("u.pending.tmp." DIGITS, "\0", 1);
	loglib_listen();
	for (i = 0; i < COUNT_OF(ops); i++) {
		tidy(&ops[i]);
		assert_non_null(memfs_find("u.pending.tmp." DIGITS));
		assert_int_equal(memfs->fds[0], -1);
	}
	loglib_expect_none();
	memfs_free(memfs);
}

/* Whatever allocation fails: a name that is taken is never told to be free. */
static void without_memory_no_name_is_free(void **state)
{
	static const char *const taken[] = { "u.pending", "u-3.index.new", "u.index" };
	char data[96], index[96], path[96];
	struct err e;
	size_t i;
	int r;

	snprintf(data, sizeof data, "%s/u.data", upper_folder);
	snprintf(index, sizeof index, "%s/u.index", upper_folder);
	for (i = 0; i < COUNT_OF(taken); i++) {
		long k = 0;

		snprintf(path, sizeof path, "%s/%s", upper_folder, taken[i]);
		allocs_once = true;
		do {
			allocs_left = k++;
			allocs_refused = false;
			r = upper_names_refuse(data, index, path, &e);
			allocs_left = -1;
			if (r != -EINVAL && r != -ENOMEM)
				fail_msg("%s, allocation %ld: %d", taken[i], k, r);
		} while (allocs_refused);
		allocs_once = false;
		assert_int_equal(r, -EINVAL);
		assert_true(k > 6);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_has_a_stem_and_a_number),
		cmocka_unit_test(kept_names_are_refused),
		cmocka_unit_test(a_link_stands_for_what_it_leads_to),
		cmocka_unit_test(files_of_the_image_are_refused),
		cmocka_unit_test(what_a_killed_process_left_is_removed),
		cmocka_unit_test(zeroes_at_the_beginning_are_enough),
		cmocka_unit_test(only_names_of_ours_are_looked_at),
		cmocka_unit_test(what_cannot_be_removed_stays),
		cmocka_unit_test(without_memory_no_name_is_free),
	};

	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
