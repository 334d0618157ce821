/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_rewrite.c - an index that is made anew while the log is open: its entries, in which
 * pieces they are written, and when it is left as it was.  In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/format.h"
#include "core/upper_log.h"
#include "core/upper_records.h"
#include "tests/unit/loglib.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SALT = 100007,
	SECTORS = 1 << 17,
	PIECE = 4096 * FORMAT_ENTRY, /* bytes of a write */
	MARKS = 3, /* CHECK, CONFIRM and what says that it is open */
};

static struct file_ops ops;
static struct upper_log *u;
static const struct upper_log_options options = { .ops = &ops,
						  .garbage = 1,
						  .garbage_records = 1,
						  .room_bytes = 4096,
						  .room_records = 1,
						  .pending_bytes = 1 << 30 };

/* What was written to the new index file: lengths, in their order. */
static struct {
	size_t lengths[16];
	unsigned count;
} writes;

static bool is_new_index(int fd)
{
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file == memfs->fds[fd])
			return strncmp(memfs->names.list[i].name, "i/u.index.tmp.", 14) == 0;
	return false;
}

static ssize_t noted_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	if (is_new_index(fd)) {
		assert_true(writes.count < COUNT_OF(writes.lengths));
		writes.lengths[writes.count++] = n;
	}
	return memfs_pwrite(fd, buf, n, off);
}

static void open_log(void)
{
	struct err e;

	if (upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e) < 0)
		fail_msg("%s", e.msg);
}

/* The process dies; that closing fails then is not what the test is about. */
static void kill_process(void)
{
	loglib_expect("");
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs_kill(memfs);
	loglib_listen();
}

static void make_log(void)
{
	memfs = memfs_new(1);
	ops = memfs_ops;
	ops.pwrite = noted_pwrite;
	assert_int_equal(upper_log_create(&ops, "u.data", "i/u.index", (uint64_t)SECTORS * SECTOR,
					  NULL, NULL, NULL),
			 0);
	open_log();
	memset(&writes, 0, sizeof writes);
	loglib_listen();
}

static void drop_log(void)
{
	kill_process();
	memfs_free(memfs);
	loglib_expect_none();
}

static const struct memfs_bytes *index_bytes(void)
{
	return &memfs->files[memfs_find("i/u.index")->file].now;
}

static void zero(uint64_t start, uint64_t sectors)
{
	assert_int_equal(upper_log_zero(u, start * SECTOR, sectors * SECTOR, 0, NULL), 0);
}

static void write_some(uint64_t start, uint64_t sectors, int letter)
{
	uint8_t *bytes = malloc((size_t)sectors * SECTOR);

	assert_non_null(bytes);
	memset(bytes, letter, (size_t)sectors * SECTOR);
	assert_int_equal(
		upper_log_pwrite(u, bytes, (size_t)sectors * SECTOR, start * SECTOR, 0, NULL), 0);
	free(bytes);
}

/* Flushes, and makes the index anew. */
static void flush_and_tidy(void)
{
	assert_int_equal(upper_log_flush(u, NULL), 0);
	memset(&writes, 0, sizeof writes);
	assert_int_equal(upper_log_tidy(u, NULL), 0);
}

static struct format_entry entry_at(size_t i)
{
	const struct memfs_bytes *b = index_bytes();

	assert_true(FORMAT_SPACE + (i + 1) * FORMAT_ENTRY <= b->n);
	return format_parse_entry(b->p + FORMAT_SPACE + i * FORMAT_ENTRY);
}

/* Behind n records: that they are checked and confirmed, and that the log is open. */
static void expect_marks(size_t n)
{
	const struct memfs_bytes *b = index_bytes();
	const uint8_t *raw = b->p + FORMAT_SPACE;
	uint32_t crc;

	/* With room for the next append and one record. */
	assert_int_equal(b->n, FORMAT_SPACE + (n + 1 + 5 + 1) * FORMAT_ENTRY);
	assert_int_equal(upper_records_parse_mark(raw + n * FORMAT_ENTRY, &crc), UPPER_MARK_CHECK);
	assert_int_equal(crc, crc32c_raw(SALT, raw, n * FORMAT_ENTRY));
	n++;
	assert_int_equal(upper_records_parse_mark(raw + n * FORMAT_ENTRY, &crc),
			 UPPER_MARK_CONFIRM);
	assert_int_equal(crc, crc32c_raw(SALT, raw, n * FORMAT_ENTRY));
	n++;
	assert_int_equal(upper_records_parse_mark(raw + n * FORMAT_ENTRY, &crc), UPPER_MARK_OPEN);
}

/* A record a mapping, in the order of the disk, so many at once. */
static void records_are_written_in_pieces(void **state)
{
	static const struct {
		size_t records;
		size_t writes[6];
	} cases[] = {
		{ 1, { FORMAT_SPACE, FORMAT_ENTRY, MARKS * FORMAT_ENTRY } },
		{ 4095, { FORMAT_SPACE, PIECE - FORMAT_ENTRY, MARKS * FORMAT_ENTRY } },
		{ 4096, { FORMAT_SPACE, PIECE, MARKS * FORMAT_ENTRY } },
		{ 4097, { FORMAT_SPACE, PIECE, FORMAT_ENTRY, MARKS * FORMAT_ENTRY } },
		{ 8200, { FORMAT_SPACE, PIECE, PIECE, 8 * FORMAT_ENTRY, MARKS * FORMAT_ENTRY } },
	};
	uint8_t header[FORMAT_SPACE];
	size_t i, k;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log();
		memcpy(header, index_bytes()->p, sizeof header);
		/* Backwards, so that the order is another one; one of them counts no more. */
		for (k = cases[i].records; k > 0; k--)
			zero(2 * k, 1);
		for (k = 0; k <= cases[i].records / 50; k++) {
			zero(2, 1);
			zero(4, cases[i].records > 1);
		}
		flush_and_tidy();
		for (k = 0; k < COUNT_OF(cases[i].writes); k++)
			if (writes.lengths[k] != cases[i].writes[k])
				fail_msg("%zu records: write %zu has %zu bytes", cases[i].records,
					 k, writes.lengths[k]);
		assert_memory_equal(index_bytes()->p, header, sizeof header);
		for (k = 0; k < cases[i].records; k++) {
			struct format_entry entry = entry_at(k);

			assert_int_equal(entry.start, 2 * (k + 1));
			assert_int_equal(entry.sectors, 1);
			assert_int_equal(entry.moffset, 8);
			assert_true(entry.zeroed);
		}
		expect_marks(cases[i].records);
		drop_log();
	}
}

/* A stretch that is longer than a record can say: of data, and of zeroes. */
static void long_stretches_are_cut(void **state)
{
	enum { MAX = FORMAT_MAX_SECTORS };
	static const struct format_entry want[] = {
		{ .start = 3, .sectors = MAX, .moffset = 8 },
		{ .start = 3 + MAX, .sectors = 3000, .moffset = 8 + MAX },
		{ .start = 40000, .sectors = MAX, .moffset = 8, .zeroed = true },
		{ .start = 40000 + MAX, .sectors = MAX, .moffset = 8, .zeroed = true },
		{ .start = 40000 + 2 * MAX, .sectors = 1, .moffset = 8, .zeroed = true },
	};
	char bytes[2 * SECTOR];
	size_t i;

	make_log();
	write_some(3, MAX + 3000, 'a');
	for (i = 0; i < 10; i++)
		zero(40000, 2 * MAX + 1);
	flush_and_tidy();
	for (i = 0; i < COUNT_OF(want); i++) {
		struct format_entry entry = entry_at(i);

		assert_int_equal(entry.start, want[i].start);
		assert_int_equal(entry.sectors, want[i].sectors);
		assert_int_equal(entry.moffset, want[i].moffset);
		assert_int_equal(entry.zeroed, want[i].zeroed);
	}
	expect_marks(COUNT_OF(want));
	/* What comes later stands behind them, and all of it is found by the next process. */
	write_some(3, 1, 'b');
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(entry_at(COUNT_OF(want) + 1).start, 3);
	kill_process();
	open_log();
	assert_int_equal(upper_log_pread(u, bytes, sizeof bytes, 3 * SECTOR, NULL), 0);
	assert_int_equal(bytes[0], 'b');
	assert_int_equal(bytes[SECTOR], 'a');
	drop_log();
}

/* Somebody cut the index file behind our back: what can be read of it does not take its place. */
static void an_index_that_is_shorter_stays(void **state)
{
	struct memfs_file *f;
	size_t i, n;

	make_log();
	for (i = 0; i < 10; i++)
		zero(2 * (i % 3), 1);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	f = &memfs->files[memfs_find("i/u.index")->file];
	memfs_resize(&f->now, FORMAT_SPACE + 9 * FORMAT_ENTRY);
	n = f->now.n;
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	loglib_expect("i/u.index: not rewritten: the index has 9 records that count, not 11\n");
	assert_int_equal(index_bytes()->n, n);
	drop_log();
}

/* One that holds what lies beyond the disk would lose it. */
static void what_lies_beyond_the_disk_keeps_it(void **state)
{
	struct upper_log_options small = options;
	uint64_t n;
	size_t i;
	unsigned edge;

	for (edge = 0; edge < 2; edge++) {
		make_log();
		for (i = 0; i < 10; i++)
			zero(8 + 2 * (i % 3), 1);
		assert_int_equal(upper_log_close(u, NULL), 0);
		/* The last sector that is mapped is the disk's last, or lies beyond. */
		small.size = (13 - edge) * SECTOR;
		assert_int_equal(upper_log_open("u.data", "i/u.index", &small, &u, NULL, NULL), 0);
		n = index_bytes()->n;
		assert_int_equal(upper_log_tidy(u, NULL), 0);
		assert_int_equal(index_bytes()->n < n, edge == 0);
		drop_log();
	}
}

static bool is_full; /* for pending files */

static int full_open(const char *path, int flags, mode_t mode)
{
	return is_full && strncmp(path, "u.pending.tmp.", 14) == 0 ? -ENOSPC
								   : memfs_open(path, flags, mode);
}

/* The log was opened when there was no room for a pending file.  The new index says that there is
 * one, so that has to be made before. */
static void there_is_a_pending_file_before(void **state)
{
	uint64_t n;
	size_t i;

	make_log();
	for (i = 0; i < 10; i++)
		zero(2 * (i % 3), 1);
	assert_int_equal(upper_log_close(u, NULL), 0);
	ops.open = full_open;
	is_full = true;
	open_log();
	loglib_expect(
		"u.data: no space left: it can be read, and written to once there is space\n");
	n = index_bytes()->n;
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_int_equal(index_bytes()->n, n);
	assert_null(memfs_find("u.pending"));
	is_full = false;
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	expect_marks(3);
	assert_non_null(memfs_find("u.pending"));
	drop_log();
}

/* When the data are not known to be durable they are synced first; a failure is final. */
static unsigned syncs;
static int sync_result;

static int noted_datasync(int fd)
{
	const struct memfs_name *data = memfs_find("u.data");

	if (!data || data->file != memfs->fds[fd])
		return memfs_datasync(fd);
	syncs++;
	return sync_result < 0 ? sync_result : memfs_datasync(fd);
}

static void others_data_are_synced_first(void **state)
{
	struct err e;
	uint64_t n;
	size_t i;

	for (sync_result = 0; sync_result >= -EIO; sync_result -= EIO) {
		make_log();
		for (i = 0; i < 10; i++)
			zero(2 * (i % 3), 1);
		assert_int_equal(upper_log_close(u, NULL), 0);
		ops.datasync = noted_datasync;
		open_log();
		syncs = 0;
		assert_int_equal(upper_log_tidy(u, &e), sync_result);
		assert_int_equal(syncs, 1);
		/* Three records, the marks and room, or ten and their CHECK at least. */
		assert_int_equal(index_bytes()->n <= FORMAT_SPACE + 10 * FORMAT_ENTRY,
				 sync_result == 0);
		if (sync_result < 0) {
			assert_string_equal(e.msg,
					    "u.data: fdatasync failed: Input/output error; the "
					    "upper is read-only until it is opened again");
			assert_true(upper_log_has_failed(u));
			syncs = 0;
			assert_int_equal(upper_log_tidy(u, &e), 0); /* nothing more is done */
			assert_int_equal(syncs, 0);
		} else {
			/* Not again. */
			assert_int_equal(upper_log_flush(u, NULL), 0);
			for (i = 0; i < 10; i++)
				zero(2, 1);
			zero(4, 1);
			zero(2, 1);
			assert_int_equal(upper_log_flush(u, NULL), 0);
			syncs = 0;
			n = index_bytes()->n;
			assert_int_equal(upper_log_tidy(u, &e), 0);
			assert_true(index_bytes()->n < n);
			assert_int_equal(syncs, 0);
		}
		drop_log();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_are_written_in_pieces),
		cmocka_unit_test(long_stretches_are_cut),
		cmocka_unit_test(an_index_that_is_shorter_stays),
		cmocka_unit_test(what_lies_beyond_the_disk_keeps_it),
		cmocka_unit_test(there_is_a_pending_file_before),
		cmocka_unit_test(others_data_are_synced_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
