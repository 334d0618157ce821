/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_older.c - what older versions left in the middle of something: acknowledged writes and
 * intents; and what becomes of acknowledged writes when a log is repaired. */
#include "tests/unit/upperlib.h"

#include <time.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/layer.h"
#include "core/upper_compact.h"
#include "core/upper_intent.h"
#include "core/upper_repair.h"

enum { BYTES = 300 * 512 };

static char data[80], index_path[80], pending[96], older[96], intent[96], older_intent[96];

/* The names of a log whose data file's name ends in ".data", or does not. */
static void name_log(bool usual)
{
	snprintf(data, sizeof data, "%s/%s", upper_folder, usual ? "v.data" : "v");
	snprintf(index_path, sizeof index_path, "%s/v.index", upper_folder);
	snprintf(pending, sizeof pending, "%s/%s", upper_folder,
		 usual ? "v.pending" : "v.upper-pending");
	snprintf(older, sizeof older, "%s/v.pending", upper_folder);
	snprintf(intent, sizeof intent, "%s/%s", upper_folder,
		 usual ? "v.intent" : "v.upper-intent");
	snprintf(older_intent, sizeof older_intent, "%s/v.intent", upper_folder);
}

static int remove_log(void **state)
{
	const char *const all[] = { data, index_path, pending, older, intent, older_intent };
	size_t i;

	for (i = 0; i < sizeof all / sizeof *all; i++)
		(void)unlink(all[i]);
	return 0;
}

static void make_log(bool usual)
{
	struct err e;

	remove_log(NULL);
	name_log(usual);
	if (upper_log_create(NULL, data, index_path, BYTES, NULL, NULL, &e) < 0)
		fail_msg("%s", e.msg);
}

static struct upper_log *open_log(struct upper_findings *found)
{
	struct upper_log *u;
	struct err e;

	if (upper_log_open(data, index_path, NULL, &u, found, &e) < 0)
		fail_msg("%s", e.msg);
	return u;
}

static void check_at(struct upper_log *u, uint64_t off, const char *text)
{
	char found[16] = "";

	assert_int_equal(upper_log_pread(u, found, strlen(text) + 1, off, NULL), 0);
	assert_string_equal(found, text);
}

/* ---- what an older version acknowledged ---- */

static uint8_t *read_file(const char *path, size_t *n)
{
	char *text;

	assert_int_equal(io_read_file(path, 1 << 28, &text, n, NULL), 0);
	return (uint8_t *)text;
}

/* What an older version would have left in the place of this pending file. */
static void make_older(void)
{
	size_t n, i, count;
	uint8_t *new = read_file(pending, &n), raw[128 + 16 * 64] = "OBDPEND1";

	count = (n - 256) / 32;
	assert_true(count <= 64);
	memcpy(raw + 8, new + 8, 80); /* up to the uuid */
	le32_put(raw + 124, crc32c_raw(0, raw, 124));
	for (i = 0; i < count; i++)
		memcpy(raw + 128 + 16 * i, new + 256 + 32 * i, 16);
	unlink(pending);
	assert_int_equal(io_replace_file(older, raw, 128 + 16 * count, NULL), 0);
	free(new);
}

/* Another process changes the log, and is killed. */
static void change_and_die(int (*change)(struct upper_log *u))
{
	struct upper_log *u;
	int status;

	if (fork() == 0) {
		if (upper_log_open(data, index_path, NULL, &u, NULL, NULL) < 0 || change(u) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	assert_true(wait(&status) > 0);
	assert_true(WIFSIGNALED(status));
}

static int write_all_kinds(struct upper_log *u)
{
	int r = upper_log_pwrite(u, "first", 6, 512, 0, NULL);

	if (r == 0)
		r = upper_log_pwrite(u, "flushed", 8, 100, UPPER_FUA, NULL);
	if (r == 0)
		r = upper_log_pwrite(u, "acknowledged", 13, 2048, 0, NULL);
	return r < 0 ? r : upper_log_trim(u, 512, 512, 0, NULL);
}

static int write_unflushed(struct upper_log *u)
{
	int r = upper_log_trim(u, 8192, 512, 0, NULL);

	return r < 0 ? r : upper_log_pwrite(u, "acknowledged", 13, 2048, 0, NULL);
}

static int trim(struct upper_log *u)
{
	return upper_log_trim(u, 512, 512, 0, NULL);
}

static int write_zeroes(struct upper_log *u)
{
	static const uint8_t zeroes[512];

	return upper_log_pwrite(u, zeroes, 512, 2048, 0, NULL);
}

static int open_status(struct err *e)
{
	struct upper_log *u;
	struct layer layer;
	int r = upper_log_open(data, index_path, NULL, &u, NULL, e), read_only;

	read_only = upper_open_read_only(data, index_path, 0, &layer, NULL, NULL);
	assert_int_equal(r, read_only);
	if (r == 0) {
		layer_close(&layer);
		assert_int_equal(upper_log_close(u, NULL), 0);
	}
	return r;
}

/* A server that was killed is started again as a newer version: under either name, and whether or
 * not some of it was flushed. */
static void what_an_older_version_acknowledged_is_taken_up(void **state)
{
	struct upper_findings found;
	struct layer layer;
	struct upper_log *u;
	unsigned i;

	for (i = 0; i < 4; i++) {
		bool flushed = i % 2;

		make_log(i < 2);
		u = open_log(NULL);
		assert_int_equal(upper_log_pwrite(u, "kept", 5, 1024, 0, NULL), 0);
		assert_int_equal(upper_log_close(u, NULL), 0);
		change_and_die(flushed ? write_all_kinds : write_unflushed);
		make_older();
		assert_int_equal(upper_open_read_only(data, index_path, 0, &layer, &found, NULL),
				 0);
		assert_int_equal(found.pending_records, 2);
		layer_close(&layer);
		/* Killed before it flushes: now it is in a file of ours. */
		change_and_die(trim);
		assert_int_equal(access(pending, F_OK), 0);
		assert_int_equal(strcmp(pending, older) == 0 ? -1 : access(older, F_OK), -1);
		u = open_log(&found);
		assert_int_equal(found.pending_records, 3);
		check_at(u, 1024, "kept");
		check_at(u, 2048, "acknowledged");
		check_at(u, 100, flushed ? "flushed" : "");
		check_at(u, 512, "");
		assert_int_equal(upper_log_close(u, NULL), 0);
		assert_int_equal(access(pending, F_OK), -1);
	}
}

/* On an empty log, on one that has all of it, after a start of the machine. */
static void what_says_nothing_new_is_no_hindrance(void **state)
{
	struct upper_findings found;
	struct upper_log *u;
	uint8_t *old;
	size_t n;

	make_log(false);
	change_and_die(trim);
	make_older();
	u = open_log(&found);
	assert_int_equal(found.pending_records, 1);
	assert_int_equal(upper_log_close(u, NULL), 0);
	make_log(false);
	change_and_die(write_all_kinds);
	make_older();
	old = read_file(older, &n);
	u = open_log(NULL);
	assert_int_equal(upper_log_close(u, NULL), 0);
	assert_int_equal(io_replace_file(older, old, n, NULL), 0);
	u = open_log(&found);
	assert_int_equal(found.pending_records, 0);
	assert_int_equal(upper_log_close(u, NULL), 0);
	/* Of another boot, and of another log with this name. */
	make_log(false);
	memcpy(old + 16, "another boot, as long as an id is: ok", 36);
	le32_put(old + 124, crc32c_raw(0, old, 124));
	assert_int_equal(io_replace_file(older, old, n, NULL), 0);
	u = open_log(&found);
	assert_int_equal(found.pending_records, 0);
	assert_int_equal(upper_log_close(u, NULL), 0);
	assert_int_equal(access(older, F_OK), 0);
	free(old);
}

enum hidden { NEWER, NEWER_TRIM, ONLY_TRIMS, ZEROES, SHORT };

/* Leaves a log of which nobody can tell whether the pending file is the newest. */
static void make_doubtful(enum hidden what, bool usual)
{
	struct upper_log *u;
	uint8_t *old, *kept;
	size_t n, m;

	make_log(usual);
	u = open_log(NULL);
	assert_int_equal(upper_log_pwrite(u, "newest", 7, 512, 0, NULL), 0);
	assert_int_equal(upper_log_close(u, NULL), 0);
	change_and_die(what == ONLY_TRIMS ? trim : what == ZEROES ? write_zeroes : write_unflushed);
	make_older();
	if (what == SHORT)
		assert_int_equal(truncate(data, 4096 + 512), 0);
	if (what != NEWER && what != NEWER_TRIM)
		return;
	old = read_file(older, &n);
	if (what == NEWER_TRIM)
		unlink(older); /* the program that trims does not know it, nor cuts the data */
	kept = read_file(data, &m);
	u = open_log(NULL);
	assert_int_equal(what == NEWER ? upper_log_pwrite(u, "newer", 6, 2048, 0, NULL)
				       : upper_log_trim(u, 2048, 512, 0, NULL),
			 0);
	assert_int_equal(upper_log_close(u, NULL), 0);
	assert_int_equal(io_replace_file(older, old, n, NULL), 0);
	if (what == NEWER_TRIM) {
		int fd = open(data, O_WRONLY);

		assert_int_equal(pwrite(fd, kept, m, 0), m);
		close(fd);
	}
	free(kept);
	free(old);
}

/* Nothing that may be newer is undone, nothing acknowledged is lost: the user decides. */
static void what_cannot_be_told_is_asked(void **state)
{
	static const struct {
		enum hidden what;
		uint64_t at;
		const char *applied, *dropped, *why;
		uint64_t count;
	} rows[] = {
		{ NEWER, 2048, "acknowledged", "newer", "written to since", 2 },
		{ NEWER_TRIM, 2048, "acknowledged", "", "written to since", 2 },
		{ ONLY_TRIMS, 512, "", "newest", "written to since", 1 },
		{ ZEROES, 2048, "", "", "reads as zeroes", 1 },
		{ SHORT, 2048, "", "", "reads as zeroes", 1 },
	};
	struct upper_repair done;
	struct upper_log *u;
	struct err e;
	size_t i;

	for (i = 0; i < 4 * sizeof rows / sizeof *rows; i++) {
		enum upper_acknowledged how =
			i % 2 ? UPPER_ACKNOWLEDGED_APPLY : UPPER_ACKNOWLEDGED_DROP;

		make_doubtful(rows[i / 4].what, i / 2 % 2);
		assert_int_equal(open_status(&e), -EBUSY);
		if (!strstr(e.msg, rows[i / 4].why))
			fail_msg("row %u: %s", (unsigned)i, e.msg);
		assert_non_null(strstr(e.msg, "overlaybd repair --acknowledged=apply"));
		assert_int_equal(upper_repair_files(NULL, data, index_path,
						    UPPER_ACKNOWLEDGED_JUDGE, &done, &e),
				 -EBUSY);
		assert_int_equal(access(older, F_OK), 0);
		assert_int_equal(upper_repair_files(NULL, data, index_path, how, &done, &e), 0);
		assert_int_equal(done.dropped_pending, how == UPPER_ACKNOWLEDGED_DROP);
		assert_int_equal(done.applied, i % 2 ? rows[i / 4].count : 0);
		assert_int_equal(access(older, F_OK), -1);
		u = open_log(NULL);
		check_at(u, rows[i / 4].at, i % 2 ? rows[i / 4].applied : rows[i / 4].dropped);
		assert_int_equal(upper_log_close(u, NULL), 0);
	}
}

/* Records that nearly match everywhere, which would take a minute to compare each with each. */
static void a_hostile_one_is_judged_soon(void **state)
{
	enum { N = 150 * 1000, SOON = 10 /* s of the processor, whatever else runs */ };
	static uint8_t raw[128 + 16 * N], entries[16 * N];
	struct format_entry entry = { .start = 1, .sectors = 1, .moffset = 8, .zeroed = true };
	clock_t began;
	size_t i, n;
	uint8_t *old;
	struct err e;
	int fd;

	make_log(false);
	change_and_die(trim);
	make_older();
	old = read_file(older, &n);
	memcpy(raw, old, 128);
	free(old);
	for (i = 0; i < N; i++) {
		entry.start = i == N / 2 ? 2 : 1; /* the content has no such record */
		format_encode_entry(&entry, entries + 16 * i);
		entry.start = 1;
		format_encode_entry(&entry, raw + 128 + 16 * i);
	}
	assert_int_equal(io_replace_file(older, raw, sizeof raw, NULL), 0);
	fd = open(index_path, O_RDWR);
	assert_int_equal(pwrite(fd, entries, sizeof entries, 4096), sizeof entries);
	close(fd);
	began = clock();
	assert_int_equal(open_status(&e), -EBUSY);
	assert_true(clock() - began < SOON * CLOCKS_PER_SEC);
}

static void a_damaged_one_is_found(void **state)
{
	static const size_t places[] = { 9, 40, 125, 128 + 6 };
	struct upper_repair done;
	struct err e;
	size_t i, n;

	for (i = 0; i < sizeof places / sizeof *places; i++) {
		uint8_t *raw;

		make_log(false);
		change_and_die(trim);
		make_older();
		raw = read_file(older, &n);
		raw[places[i]] ^= raw[places[i]] ? raw[places[i]] : 1;
		assert_int_equal(io_replace_file(older, raw, n, NULL), 0);
		free(raw);
		assert_int_equal(open_status(&e), -EBADMSG);
		assert_non_null(strstr(e.msg, older));
		assert_int_equal(upper_repair_files(NULL, data, index_path,
						    UPPER_ACKNOWLEDGED_JUDGE, &done, &e),
				 0);
		assert_true(done.dropped_pending);
		assert_int_equal(open_status(&e), 0);
	}
}

/* Leaves a log with acknowledged writes, of which the second record of the index is damaged. */
static void make_damaged(void)
{
	struct upper_log *u;
	uint8_t byte;
	int fd;

	make_log(true);
	u = open_log(NULL);
	assert_int_equal(upper_log_pwrite(u, "a", 2, 0, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "b", 2, 512, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_close(u, NULL), 0);
	change_and_die(write_unflushed);
	fd = open(index_path, O_RDWR);
	assert_int_equal(pread(fd, &byte, 1, 4096 + 32), 1); /* after the first CHECK */
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, 4096 + 32), 1);
	close(fd);
}

/* What an index that was cut does not lead to is not put on top of it. */
static void what_does_not_follow_is_dropped_by_repair(void **state)
{
	struct upper_repair done;
	struct upper_log *u;
	struct err e;

	make_damaged();
	assert_int_equal(open_status(&e), -EBADMSG);
	assert_int_equal(
		upper_repair_files(NULL, data, index_path, UPPER_ACKNOWLEDGED_JUDGE, &done, &e), 0);
	assert_int_equal(done.stale, 2);
	assert_int_equal(done.kept, 1);
	assert_false(done.dropped_pending);
	assert_int_equal(access(pending, F_OK), -1);
	u = open_log(NULL);
	check_at(u, 0, "a");
	check_at(u, 512, "");
	check_at(u, 2048, "");
	assert_int_equal(upper_log_close(u, NULL), 0);
}

static int cut_fd = -1, syncs_of_cut;

static int note_truncate(int fd, uint64_t size)
{
	cut_fd = fd;
	return file_ops_system.truncate(fd, size);
}

static int note_sync(int fd)
{
	syncs_of_cut += fd == cut_fd;
	return file_ops_system.datasync(fd);
}

static int refuse_sync(int fd)
{
	return -EIO;
}

/* What was cut must not come back with the power. */
static void what_repair_cut_is_durable(void **state)
{
	struct file_ops ops = file_ops_system;
	struct upper_repair done;
	struct err e;

	make_damaged();
	ops.truncate = note_truncate;
	ops.datasync = note_sync;
	assert_int_equal(
		upper_repair_files(&ops, data, index_path, UPPER_ACKNOWLEDGED_JUDGE, &done, &e), 0);
	assert_int_equal(syncs_of_cut, 1);
	make_damaged();
	ops.datasync = refuse_sync;
	assert_int_equal(
		upper_repair_files(&ops, data, index_path, UPPER_ACKNOWLEDGED_JUDGE, &done, &e),
		-EIO);
	assert_non_null(strstr(e.msg, index_path));
}

/* Of an older version's nobody can tell: before it is decided, nothing is cut. */
static void repair_asks_before_it_cuts(void **state)
{
	struct upper_repair done;
	struct upper_log *u;
	struct err e;

	make_damaged();
	make_older();
	assert_int_equal(
		upper_repair_files(NULL, data, index_path, UPPER_ACKNOWLEDGED_JUDGE, &done, &e),
		-EBUSY);
	assert_int_equal(done.dropped, 0);
	assert_int_equal(open_status(&e), -EBADMSG);
	assert_int_equal(
		upper_repair_files(NULL, data, index_path, UPPER_ACKNOWLEDGED_APPLY, &done, &e), 0);
	assert_int_equal(done.kept, 1);
	assert_int_equal(done.applied, 2);
	u = open_log(NULL);
	check_at(u, 0, "a");
	check_at(u, 2048, "acknowledged");
	assert_int_equal(upper_log_close(u, NULL), 0);
}

/* The user may give up what would count, too. */
static void acknowledged_writes_are_dropped_if_asked(void **state)
{
	struct upper_repair done;
	struct upper_log *u;
	struct err e;

	make_log(false);
	change_and_die(write_all_kinds);
	assert_int_equal(
		upper_repair_files(NULL, data, index_path, UPPER_ACKNOWLEDGED_DROP, &done, &e), 0);
	assert_true(done.dropped_pending);
	u = open_log(NULL);
	check_at(u, 100, "flushed");
	check_at(u, 2048, "");
	assert_int_equal(upper_log_close(u, NULL), 0);
	assert_int_equal(
		upper_repair_files(NULL, data, index_path, UPPER_ACKNOWLEDGED_DROP, &done, &e), 0);
	assert_false(done.dropped_pending);
}

/* ---- records without a CHECK ---- */

static int index_fd = -1;
static bool check_waits; /* a CHECK is written and not synced */
static unsigned checks;

static int note_open(const char *path, int flags, mode_t mode)
{
	int fd = file_ops_system.open(path, flags, mode);

	if (strcmp(path, index_path) == 0)
		index_fd = fd;
	return fd;
}

static ssize_t note_write(int fd, const void *buf, size_t n, uint64_t off)
{
	if (fd == index_fd) {
		assert_false(check_waits);
		check_waits = n == FORMAT_ENTRY;
		checks += check_waits;
	}
	return file_ops_system.pwrite(fd, buf, n, off);
}

static int end_wait(int fd)
{
	check_waits &= fd != index_fd;
	return file_ops_system.datasync(fd);
}

/* It is durable before anything follows: what comes after it may be cut off, down to it. */
static void records_of_others_get_a_durable_check(void **state)
{
	struct format_entry entry = { .start = 1, .sectors = 1, .moffset = 8, .zeroed = true };
	struct file_ops ops = file_ops_system;
	struct upper_log_options options = { .ops = &ops };
	uint8_t raw[FORMAT_ENTRY];
	struct upper_log *u;
	int fd;

	make_log(true);
	format_encode_entry(&entry, raw);
	fd = open(index_path, O_WRONLY);
	assert_int_equal(pwrite(fd, raw, sizeof raw, FORMAT_SPACE), sizeof raw);
	close(fd);
	ops.open = note_open;
	ops.pwrite = note_write;
	ops.datasync = end_wait;
	assert_int_equal(upper_log_open(data, index_path, &options, &u, NULL, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "a", 2, 0, UPPER_FUA, NULL), 0);
	assert_int_equal(checks, 1);
	assert_int_equal(upper_log_pwrite(u, "b", 2, 0, UPPER_FUA, NULL), 0);
	assert_int_equal(checks, 1);
	assert_int_equal(upper_log_close(u, NULL), 0);
}

/* ---- what an older version had begun ---- */

static void put_intent(const char *uuid, uint64_t size)
{
	struct upper_intent what = { .kind = UPPER_INTENT_RESIZE, .virtual_size = size };
	int fd = open(data, O_RDWR);
	struct err e;

	memcpy(what.uuid, uuid, FORMAT_UUID);
	assert_int_equal(upper_intent_write(&file_ops_system, data, fd, &what, &e), 0);
	close(fd);
	if (strcmp(intent, older_intent) != 0)
		assert_int_equal(rename(intent, older_intent), 0);
}

static void uuid_of_log(char uuid[FORMAT_UUID])
{
	struct upper_log *u = open_log(NULL);

	memcpy(uuid, upper_log_header(u)->uuid, FORMAT_UUID);
	assert_int_equal(upper_log_close(u, NULL), 0);
}

static uint64_t size_of_log(void)
{
	struct upper_log *u = open_log(NULL);
	uint64_t size = upper_log_size(u);

	assert_int_equal(upper_log_close(u, NULL), 0);
	return size;
}

static void an_intent_under_the_older_name_is_carried_out(void **state)
{
	char uuid[FORMAT_UUID];
	struct layer layer;
	unsigned usual;

	for (usual = 0; usual < 2; usual++) {
		make_log(usual);
		uuid_of_log(uuid);
		put_intent(uuid, 2 * BYTES);
		/* Who only reads sees it carried out. */
		assert_int_equal(upper_open_read_only(data, index_path, 0, &layer, NULL, NULL), 0);
		assert_int_equal(layer.header.virtual_size, 2 * BYTES);
		layer_close(&layer);
		assert_int_equal(access(older_intent, F_OK), 0);
		assert_int_equal(size_of_log(), 2 * BYTES);
		assert_int_equal(access(older_intent, F_OK), -1);
	}
}

/* "v" and "v.data" had one name for it. */
static void an_intent_of_another_log_stays(void **state)
{
	char uuid[FORMAT_UUID] = "11111111-2222-3333-4444-555555555555";
	uint8_t *raw;
	size_t n;
	struct err e;

	make_log(false);
	put_intent(uuid, 2 * BYTES);
	assert_int_equal(size_of_log(), BYTES);
	assert_int_equal(access(older_intent, F_OK), 0);
	/* Nor is it judged. */
	raw = read_file(older_intent, &n);
	raw[16]++;
	assert_int_equal(io_replace_file(older_intent, raw, n, NULL), 0);
	free(raw);
	assert_int_equal(size_of_log(), BYTES);
	assert_int_equal(io_replace_file(older_intent, "OBDINTN1", 8, NULL), 0);
	assert_int_equal(size_of_log(), BYTES);
	/* One of this log is. */
	uuid_of_log(uuid);
	put_intent(uuid, 2 * BYTES);
	raw = read_file(older_intent, &n);
	raw[16]++;
	assert_int_equal(io_replace_file(older_intent, raw, n, NULL), 0);
	free(raw);
	assert_int_equal(open_status(&e), -EBADMSG);
	assert_non_null(strstr(e.msg, older_intent));
}

static int remove_all(void **state)
{
	remove_log(NULL);
	return upper_remove_folder(state);
}

static void ignore_line(enum log_level level, const char *line)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_an_older_version_acknowledged_is_taken_up),
		cmocka_unit_test(what_says_nothing_new_is_no_hindrance),
		cmocka_unit_test(what_cannot_be_told_is_asked),
		cmocka_unit_test(a_hostile_one_is_judged_soon),
		cmocka_unit_test(a_damaged_one_is_found),
		cmocka_unit_test(what_does_not_follow_is_dropped_by_repair),
		cmocka_unit_test(what_repair_cut_is_durable),
		cmocka_unit_test(repair_asks_before_it_cuts),
		cmocka_unit_test(acknowledged_writes_are_dropped_if_asked),
		cmocka_unit_test(records_of_others_get_a_durable_check),
		cmocka_unit_test(an_intent_under_the_older_name_is_carried_out),
		cmocka_unit_test(an_intent_of_another_log_stays),
	};

	log_set_sink(ignore_line);
	name_log(true);
	return cmocka_run_group_tests(tests, upper_make_folder, remove_all);
}
