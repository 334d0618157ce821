/* SPDX-License-Identifier: Apache-2.0 */
/* test-image_names.c - the names that a snapshot takes: of the layer, of the fresh pair, and what
 * one that was cut short has left under them. */
#include "tests/unit/snapshotlib.h"

/* ---- the layer's name ---- */

static void names_that_a_layer_cannot_have(void **state)
{
	char name[400];

	expect_refused("l", EINVAL, "'l' is not an absolute path");
	expect_refused(in_folder("u.pending"), EINVAL, "/u.pending");
	memset(name, 'n', sizeof name);
	memcpy(name, in_folder(""), strlen(in_folder("")));
	name[sizeof name - 1] = '\0';
	gate_tries = 0;
	expect_refused(name, ENAMETOOLONG, "nnn: File name too long");
	assert_int_equal(gate_tries, 0); /* nobody was kept waiting for that */
	expect_refused(in_folder("lower"), EEXIST, "/lower: File exists");
	expect_refused(in_folder("u.data"), EEXIST, "/u.data: File exists");
	expect_refused("/proc/l", EXDEV,
		       "/proc/l: the layer has to lie on the file system of /tmp/");
	expect_refused(in_folder("none/l"), ENOENT, "/none: No such file or directory");
	/* What one that was cut short has left may be in the way for good. */
	assert_int_equal(link(in_folder("u.data"), in_folder("l")), 0);
	fail_unlink = true;
	expect_refused(in_folder("l"), EPERM, "/l: Operation not permitted");
	fail_unlink = false;
	assert_int_equal(access(in_folder("l"), F_OK), 0);
	expect_made("l");
}

/* It is its own name only in its own folder. */
static void the_same_name_in_another_folder(void **state)
{
	assert_int_equal(mkdir(in_folder("sub"), 0755), 0);
	assert_int_equal(link(in_folder("u.data"), in_folder("sub/u.data")), 0);
	expect_made("sub/u.data");
	assert_string_equal(image_layer(disk.image, 1)->path, in_folder("sub/u.data"));
	expect_no_file("u.data");
}

static void a_data_file_that_is_gone(void **state)
{
	struct err e;

	assert_int_equal(__real_rename(in_folder("u.data"), in_folder("away")), 0);
	assert_int_equal(image_snapshot(disk.image, in_folder("l"), &blocked, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/u.data: No such file or directory"));
	assert_int_equal(__real_rename(in_folder("away"), in_folder("u.data")), 0);
	expect_made("l");
}

/* ---- the fresh pair's ---- */

/* Makes a pair as a snapshot that was cut short, or somebody else, has left it.  Of more than 0
 * bytes, or none with -1. */
static void leave_pair(bool ours, off_t data, off_t index)
{
	struct err e;
	const char *uuid = upper_log_header(image_stack(disk.image)->upper->log)->uuid;

	if (upper_log_create(NULL, in_folder("u-1.data"), in_folder("u-1.index"), DISK, NULL,
			     ours ? uuid : NULL, &e) < 0)
		fail_msg("%s", e.msg);
	if (data >= 0)
		assert_int_equal(truncate(in_folder("u-1.data"), data), 0);
	else
		assert_int_equal(__real_unlink(in_folder("u-1.data")), 0);
	if (index >= 0)
		assert_int_equal(truncate(in_folder("u-1.index"), index), 0);
	else
		assert_int_equal(__real_unlink(in_folder("u-1.index")), 0);
}

static void leftovers_are_told_from_others(void **state)
{
	static const struct {
		bool ours;
		off_t data, index;
		bool removed;
	} rows[] = {
		{ true, 4096, 4096, true },
		{ true, 4096 + 32, 4096, true },
		{ true, 4096, 4096 + 32, true },
		{ true, 4096, -1, true },
		{ true, 0, -1, true },
		{ true, 0, 4096, true },
		{ true, 4096 + 33, 4096, false },
		{ true, 4096, 4096 + 33, false },
		{ true, 1, 4096, false },
		{ true, -1, 4096, false },
		{ false, 4096, 4096, false },
		{ false, 4096, -1, false },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		leave_pair(rows[i].ours, rows[i].data, rows[i].index);
		expect_made("l");
		expect_upper(rows[i].removed ? "u-1" : "u-2");
		assert_int_equal(access(in_folder("u-1.data"), F_OK),
				 rows[i].removed || rows[i].data >= 0 ? 0 : -1);
		assert_int_equal(access(in_folder("u-1.index"), F_OK),
				 rows[i].removed || rows[i].index >= 0 ? 0 : -1);
		assert_int_equal(tear_down(NULL), 0);
		assert_int_equal(set_up(NULL), 0);
	}
}

static void a_leftover_that_is_in_use_or_cannot_be_seen(void **state)
{
	struct upper_log *log;

	leave_pair(true, 4096, 4096);
	assert_int_equal(upper_log_open(in_folder("u-1.data"), in_folder("u-1.index"), NULL, &log,
					NULL, NULL),
			 0);
	expect_made("l");
	expect_upper("u-2");
	assert_int_equal(access(in_folder("u-1.data"), F_OK), 0);
	assert_int_equal(upper_log_close(log, NULL), 0);
	assert_int_equal(symlink("u-3.index", in_folder("u-3.index")), 0);
	expect_made("l2");
	expect_upper("u-4");
}

static void names_come_to_an_end(void **state)
{
	expect_made("l");
	expect_upper("u-1");
	taken_names = 2 * 10000;
	{
		struct err e;

		assert_int_equal(image_snapshot(disk.image, in_folder("l2"), &blocked, &e),
				 -EEXIST);
		assert_non_null(strstr(e.msg, "taken"));
	}
	assert_int_equal(taken_names, 0);
	taken_names = 2 * 9999;
	expect_made("l2");
	expect_upper("u-10001");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_that_a_layer_cannot_have),
		TEST(the_same_name_in_another_folder),
		TEST(a_data_file_that_is_gone),
		TEST(leftovers_are_told_from_others),
		TEST(a_leftover_that_is_in_use_or_cannot_be_seen),
		TEST(names_come_to_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
