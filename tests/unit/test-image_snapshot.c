/* SPDX-License-Identifier: Apache-2.0 */
/* test-image_snapshot.c - a snapshot step by step: each that fails leaves all as it was, who looks
 * meanwhile sees the same disk, and what is waited for is waited for as long as it should be. */
#include "tests/unit/snapshotlib.h"

/* ---- waiting ---- */

/* As long as a flush takes its time another one makes less to do while writers wait. */
static void flushes_before_the_gate(void **state)
{
	static const struct {
		unsigned ms, before;
	} rows[] = { { 0, 1 }, { 20, 1 }, { 21, 5 }, { 1000, 5 } };
	char name[16];
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		write_sector(disk.image, 9, (int)i + 1);
		flushes = gate_tries = 0;
		flush_ms = rows[i].ms;
		snprintf(name, sizeof name, "l%zu", i);
		expect_made(name);
		flush_ms = 0;
		assert_int_equal(flushes_at_gate, rows[i].before);
		assert_int_equal(blocked, rows[i].ms);
	}
	assert_int_equal(image_layer_count(disk.image), 2 + i);
}

static void each_flush_fails_once(void **state)
{
	flush_ms = 21;
	for (fail_flush = 1; fail_flush <= 6; fail_flush++) {
		flushes = 0;
		expect_refused(in_folder("l"), EIO, "no flush");
		expect_no_file("l");
		expect_no_file("u-1.data");
		expect_no_file("u-1.index");
	}
	fail_flush = 0;
	expect_made("l");
}

/* Others must not wait long for a writer that waits: the gate is tried again and again. */
static void a_writer_that_does_not_end(void **state)
{
	static const struct timespec dates[][2] = {
		{ { 1000, 0 }, { 1000, 200000000 } },
		{ { 1000, 799999999 }, { 1000, 999999999 } },
		{ { 1000, 800000000 }, { 1001, 0 } },
		{ { 1000, 999999999 }, { 1001, 199999999 } },
	};
	size_t i;

	for (i = 0; i < sizeof dates / sizeof *dates; i++) {
		date = dates[i][0];
		gate_tries = sleeps = slept_ms = 0;
		gate_refusals = 25;
		expect_refused(in_folder("l"), EBUSY, "a write does not end; try again later");
		assert_int_equal(gate_refusals, 0);
		assert_int_equal(gate_tries, 25);
		assert_int_equal(sleeps, 25);
		assert_int_equal(slept_ms, 25 * 200);
		assert_int_equal(gate_until.tv_sec, dates[i][1].tv_sec);
		assert_int_equal(gate_until.tv_nsec, dates[i][1].tv_nsec);
		expect_no_file("l");
		expect_no_file("u-1.data");
	}
	date = (struct timespec){ 0 };
	gate_refusals = 24;
	expect_made("l");
}

/* The layer is there, but in the stack only when the gate can be closed once more. */
static void close_once(void)
{
	gate_refusals = 25;
}

static int check_extent(void *arg, const struct image_extent *x)
{
	uint64_t *at = arg, i;
	struct source *file;
	uint8_t bytes[DISK];

	assert_int_equal(x->off, *at);
	*at += x->n;
	for (i = x->off; x->kind != EXTENT_DATA && i < x->off + x->n; i++)
		assert_int_equal(model[i], 0);
	if (x->kind == EXTENT_DATA) {
		static const char *const files[] = { "lower", "l", "u-1.data" };

		assert_true(x->layer < 3);
		assert_int_equal(source_open_file(in_folder(files[x->layer]), &file, NULL), 0);
		assert_int_equal(source_pread(file, bytes, x->n, x->layer_off, NULL), 0);
		assert_memory_equal(bytes, model + x->off, x->n);
		source_close(file);
	}
	return 0;
}

static void a_layer_that_comes_later(void **state)
{
	struct err e = { "" };
	uint64_t at = 0;
	char want[256];

	write_sector(disk.image, 20, 'a');
	write_sector(disk.image, 22, 'a');
	at_seal = close_once; /* the gate is closed already: the next try is the merge's */
	assert_int_equal(image_snapshot(disk.image, in_folder("l"), &blocked, &e), 0);
	at_seal = NULL;
	assert_null(strstr(e.msg, ": snapshot: "));
	snprintf(want, sizeof want,
		 "%s: snapshot: the new layer is read through its log until the next snapshot: a "
		 "write does not end; try again later\n",
		 in_folder("c"));
	loglib_expect(want);
	assert_non_null(image_stack(disk.image)->frozen);
	compare(disk.image);
	write_sector(disk.image, 22, 'b');
	write_sector(disk.image, 40, 'b');
	compare(disk.image);
	assert_int_equal(image_extents(disk.image, 0, DISK, false, check_extent, &at), 0);
	assert_int_equal(at, DISK);
	gate_refusals = 25;
	assert_int_equal(image_snapshot(disk.image, in_folder("l2"), &blocked, &e), -EBUSY);
	snprintf(want, sizeof want,
		 "%s: snapshot: the last snapshot could not be finished: a write does not end; try "
		 "again later",
		 in_folder("c"));
	assert_string_equal(e.msg, want);
	assert_int_equal(blocked, 0);
	expect_no_file("l2");
	expect_made("l2");
	assert_null(image_stack(disk.image)->frozen);
	assert_int_equal(image_layer_count(disk.image), 4);
	assert_string_equal(image_layer(disk.image, 1)->path, in_folder("l"));
	assert_string_equal(image_layer(disk.image, 2)->path, in_folder("l2"));
	expect_upper("u-2");
}

/* ---- who looks meanwhile ---- */

static unsigned steps;

/* Somebody who walks the extents is in the middle of them when the disk gets new layers. */
static int snapshot_meanwhile(void *arg, const struct image_extent *x)
{
	char name[16];

	if (steps < 3) {
		snprintf(name, sizeof name, "l%u", steps);
		assert_int_equal(image_snapshot(disk.image, in_folder(name), &blocked, NULL), 0);
		assert_int_equal(image_tidy(disk.image, NULL), 0);
		assert_int_equal(image_tidy(disk.image, NULL), 0);
		assert_non_null(disk.image->retired);
	}
	steps++;
	*(uint64_t *)arg += x->n;
	return 0;
}

static void what_is_looked_at_stays(void **state)
{
	uint64_t n = 0;

	steps = 0;
	assert_int_equal(image_extents(disk.image, 0, DISK, false, snapshot_meanwhile, &n), 0);
	assert_int_equal(n, DISK);
	assert_true(steps > 20);
	compare(disk.image);
	assert_non_null(disk.image->retired);
	assert_int_equal(image_tidy(disk.image, NULL), 0);
	assert_null(disk.image->retired);
	assert_int_equal(image_layer_count(disk.image), 5);
}

/* All that look leave again: the next snapshot frees what it has replaced. */
static void who_looks_leaves(void **state)
{
	char *data, *index;
	uint8_t byte;
	unsigned i;

	for (i = 0; i < 10; i++) {
		char name[16];

		assert_int_equal(image_layer_count(disk.image), 2 + i);
		assert_true(image_layer(disk.image, 1 + i)->is_upper);
		assert_int_equal(image_layer(disk.image, 1 + i)->layer.data->size, 0);
		assert_int_equal(image_layer(disk.image, 1 + i)->layer.header.virtual_size, DISK);
		assert_false(image_layer(disk.image, i)->is_upper);
		assert_true(image_is_writable(disk.image));
		assert_true(image_has_upper(disk.image));
		assert_int_equal(image_index_memory(disk.image),
				 index_memory(image_index(disk.image)));
		assert_int_equal(image_mapping_count(disk.image),
				 index_count(image_index(disk.image)));
		assert_int_equal(image_upper_files(disk.image, &data, &index, NULL), 0);
		assert_string_equal(image_layer(disk.image, 1 + i)->path, data);
		free(data);
		free(index);
		assert_int_equal(image_pread(disk.image, &byte, 1, 5, NULL), 0);
		assert_int_equal(image_flush(disk.image, NULL), 0);
		write_sector(disk.image, i + 30, 'a');
		snprintf(name, sizeof name, "l%u", i);
		expect_made(name);
	}
	assert_int_equal(image_mapping_count(disk.image), 22 + 11 - 4);
}

/* ---- what goes wrong ---- */

/* Up to the renaming of the config a folder that is not synced is a failure. */
static void each_sync_of_a_folder_fails_once(void **state)
{
	struct err e = { "" };
	char want[256];

	for (fail_folder_sync = 1; fail_folder_sync <= 4; fail_folder_sync++) {
		folder_syncs = 0;
		expect_refused(in_folder("l"), EIO, "Input/output error");
		expect_no_file("l");
		expect_no_file("u-1.data");
		expect_no_file("u-1.index");
	}
	/* The last one is of names that are gone anyway. */
	fail_folder_sync = 6;
	folder_syncs = 0;
	assert_int_equal(image_snapshot(disk.image, in_folder("l"), &blocked, &e), 0);
	assert_int_equal(folder_syncs, 6);
	fail_folder_sync = 0;
	snprintf(want, sizeof want, "%s: %s: syncing its folder: Input/output error\n",
		 in_folder("c"), in_folder("u.data"));
	loglib_expect(want);
	compare(disk.image);
	expect_no_file("u.data");
	expect_no_file("u.index");
	assert_string_equal(image_layer(disk.image, 1)->path, in_folder("l"));
}

static void remove_config(void)
{
	__real_unlink(in_folder("c"));
}

static void change_config(void)
{
	write_text("c", CONFIG "# changed\n");
}

/* Of the same length. */
static void rename_lower(void)
{
	write_text("c", "lowers: [{file: l0wer}]\n" UPPER);
}

static void same_config(void)
{
	write_text("c", CONFIG);
}

static void what_becomes_of_the_config_meanwhile(void **state)
{
	static const struct {
		void (*what)(void);
		int code;
		const char *text;
	} rows[] = {
		{ remove_config, ENOENT, "/c: No such file or directory" },
		{ change_config, EBUSY, "/c: somebody changes it: try again" },
		{ rename_lower, EBUSY, "/c: somebody changes it: try again" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		at_seal = rows[i].what;
		expect_refused(in_folder("l"), rows[i].code, rows[i].text);
		at_seal = NULL;
		expect_no_file("l");
		expect_no_file("u-1.data");
		write_text("c", CONFIG);
	}
	at_seal = same_config;
	expect_made("l");
	at_seal = NULL;
}

static void take_name(void)
{
	write_text("l", "mine");
}

/* What came there at the last moment is not ours to remove. */
static void a_name_that_is_taken_meanwhile(void **state)
{
	at_seal = take_name;
	expect_refused(in_folder("l"), EEXIST, "/l: File exists");
	at_seal = NULL;
	assert_int_equal(access(in_folder("l"), F_OK), 0);
	expect_no_file("u-1.data");
}

static void leave_config(const char *from, const char *to)
{
}

static void other_config(const char *from, const char *to)
{
	at_rename = NULL;
	write_text("c", CONFIG "# other\n");
}

/* The config could not be replaced, and names the old pair: everything is taken back. */
static void a_config_that_cannot_be_replaced(void **state)
{
	void (*const hows[])(const char *from, const char *to) = { leave_config, other_config };
	char want[128];
	size_t i;

	for (i = 0; i < 2; i++) {
		write_text("c", CONFIG);
		at_rename = hows[i];
		expect_refused(in_folder("l"), EIO, "Input/output error");
		at_rename = NULL;
		expect_no_file("l");
		expect_no_file("u-1.data");
	}
	at_rename = leave_config;
	fail_undo = true;
	expect_refused(in_folder("l"), EIO, "Input/output error");
	fail_undo = false;
	at_rename = NULL;
	snprintf(want, sizeof want, "%s: no undo\n", in_folder("c"));
	loglib_expect(want);
	write_text("c", CONFIG);
	expect_made("l");
}

static void no_config(const char *from, const char *to)
{
	__real_unlink(to);
}

static void new_config(const char *from, const char *to)
{
	assert_int_equal(__real_rename(from, to), 0);
}

/* When the config names the new pair, or nobody can tell, all files are kept and no more is
 * written. */
static void a_config_that_may_have_been_replaced(void **state)
{
	void (*const hows[])(const char *from, const char *to) = { no_config, new_config };
	size_t i;

	for (i = 0; i < 2; i++) {
		struct err e = { "" };
		uint8_t byte = 1;

		at_rename = hows[i];
		assert_int_equal(image_snapshot(disk.image, in_folder("l"), &blocked, &e), -EIO);
		at_rename = NULL;
		assert_non_null(strstr(e.msg,
				       "/c: snapshot: the snapshot is made, but power loss may "
				       "undo it, so nothing more is written: "));
		assert_int_equal(access(in_folder("u.data"), F_OK), 0);
		assert_int_equal(access(in_folder("u.index"), F_OK), 0);
		assert_int_equal(access(in_folder("u-1.data"), F_OK), 0);
		assert_int_equal(access(in_folder("u-1.index"), F_OK), 0);
		assert_int_equal(access(in_folder("l"), F_OK), 0);
		assert_int_equal(image_pwrite(disk.image, &byte, 1, 0, 0, &e), -EIO);
		assert_false(image_is_writable(disk.image));
		compare(disk.image);
		close_image(&disk);
		loglib_warnings[0] = '\0'; /* closing tells that nothing can be flushed */
		if (i == 0) {
			write_text("c", CONFIG);
			__real_unlink(in_folder("l"));
			__real_unlink(in_folder("u-1.data"));
			__real_unlink(in_folder("u-1.index"));
		}
		disk = open_image(true);
		compare(disk.image);
	}
	assert_int_equal(image_layer_count(disk.image), 3);
}

static void replace_data(void)
{
	assert_int_equal(__real_rename(in_folder("u.data"), in_folder("sealed")), 0);
	assert_int_equal(link(in_folder("lower"), in_folder("u.data")), 0);
}

/* What is sealed becomes the layer, whatever has its name by then. */
static void another_file_under_the_name(void **state)
{
	struct err e;

	at_seal = replace_data;
	assert_int_equal(image_snapshot(disk.image, in_folder("l"), &blocked, &e), 0);
	at_seal = NULL;
	compare(disk.image);
	close_image(&disk);
	disk = open_image(true);
	compare(disk.image);
	__real_unlink(in_folder("sealed"));
}

static void texts_that_name_something_else(void **state)
{
	static const struct {
		const char *text, *message;
	} rows[] = {
		{ "lowers: [{file: lower}]\n", "/c: it does not name the upper that is served, " },
		{ CONFIG_OF("x.data", "u.index"), "it does not name the upper that is served, " },
		{ CONFIG_OF("u.data", "x.index"), "it does not name the upper that is served, " },
		{ "lowers: [{file: lower}]\nupper: {data: u.data}\n", "needs both 'data' and" },
		{ "lowers: [\n", "/c:" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		write_text("c", rows[i].text);
		expect_refused(in_folder("l"), EINVAL, rows[i].message);
		expect_no_file("u-1.data");
	}
	remove_config();
	expect_refused(in_folder("l"), ENOENT, "/c: No such file or directory");
	write_text("c", CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(another_file_under_the_name),
		TEST(flushes_before_the_gate),
		TEST(each_flush_fails_once),
		TEST(a_writer_that_does_not_end),
		TEST(a_layer_that_comes_later),
		TEST(what_is_looked_at_stays),
		TEST(who_looks_leaves),
		TEST(each_sync_of_a_folder_fails_once),
		TEST(what_becomes_of_the_config_meanwhile),
		TEST(a_config_that_cannot_be_replaced),
		TEST(a_config_that_may_have_been_replaced),
		TEST(texts_that_name_something_else),
		TEST(a_name_that_is_taken_meanwhile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
