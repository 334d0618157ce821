/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_limits.c - an append log where something ends: its index, its data file, the room
 * ahead of both, its pending file. */
#include <unistd.h>

#include "tests/unit/leftovers.h"
#include "tests/unit/upperfake.h"

/* ---- the index ---- */

/* What could not be flushed is refused; all that was acknowledged can. */
static void an_index_is_filled_to_its_end(void **state)
{
	struct upper_log_options options = plain;
	struct err e = { "" };
	uint64_t i, n;

	for (options.max_records = 10; options.max_records < 15; options.max_records++) {
		start(&options);
		/* A flush adds three entries, and one where another program wrote. */
		n = options.max_records - 4;
		for (i = 0; i < n; i++)
			assert_int_equal(put(i, NULL), 0);
		assert_int_equal(put(i, &e), -ENOSPC);
		assert_string_equal(e.msg, "i/u.index: the index is full");
		assert_false(piece_at(2 * i).mapped);
		assert_int_equal(upper_log_trim(u, 0, SECTOR, 0, &e), -ENOSPC);
		assert_int_equal(records_pending(), n);
		assert_int_equal(upper_log_flush(u, &e), 0);
		assert_int_equal(entries_of_index(), options.max_records);
		assert_int_equal(put(i, &e), -ENOSPC);
		end();
	}
	/* A change that takes several is refused as a whole. */
	options.max_records = 6;
	start(&options);
	assert_int_equal(upper_log_trim(u, 0, 3 * MOST * SECTOR, 0, &e), -ENOSPC);
	assert_int_equal(records_pending(), 0);
	assert_int_equal(upper_log_trim(u, 0, 2 * MOST * SECTOR, 0, &e), 0);
	assert_int_equal(records_pending(), 2);
	end();
}

/* What a process before had acknowledged may not fit. */
static void a_smaller_index_is_not_flushed_to(void **state)
{
	struct upper_log_options options = plain;
	struct err e = { "" };
	uint64_t i;

	start(&plain);
	for (i = 0; i < 10; i++)
		assert_int_equal(put(i, NULL), 0);
	kill_process();
	options.max_records = 12;
	open_log(&options);
	assert_int_equal(upper_log_flush(u, &e), -ENOSPC);
	assert_string_equal(e.msg, "i/u.index: the index is full");
	assert_false(upper_log_has_failed(u));
	kill_process();
	options.max_records = 13;
	open_log(&options);
	assert_int_equal(upper_log_flush(u, &e), 0);
	assert_int_equal(entries_of_index(), 13);
	end();
}

/* The index file is longer than what it holds, by so many entries, from flush to flush. */
static void the_index_has_room_ahead(void **state)
{
	/* After each flush of one record: a record and its CHECK stay of those before. */
	static const uint64_t sizes[] = { 11, 11, 17, 17, 17, 23, 23, 23, 29, 29 };
	struct upper_log_options options = plain;
	struct err e;
	size_t i;

	options.room_records = 4;
	start(&options);
	for (i = 0; i < COUNT_OF(sizes); i++) {
		assert_int_equal(put(i, NULL), 0);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_int_equal(u->index_records, 2 * i + 2);
		if (entries_of_index() != sizes[i])
			fail_msg("flush %zu: %d entries", i, (int)entries_of_index());
	}
	end();
	/* As far as the index may grow. */
	options.max_records = 10;
	start(&options);
	assert_int_equal(put(0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(entries_of_index(), 10);
	assert_int_equal(put(1, NULL), 0);
	assert_int_equal(put(2, NULL), 0);
	assert_int_equal(put(3, NULL), 0);
	assert_int_equal(put(4, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(entries_of_index(), 10);
	end();
	/* Without space there is none: what could not be flushed is not acknowledged, but for
	 * zeroes, which may be what makes space. */
	start(&plain);
	fake.index_error = -ENOSPC;
	assert_int_equal(put(0, &e), -ENOSPC);
	assert_string_equal(e.msg, "i/u.index: writing 96 bytes at 4128: No space left on device");
	assert_int_equal(entries_of_index(), 2);
	assert_int_equal(upper_log_trim(u, 0, SECTOR, 0, NULL), 0);
	fake.index_error = 0;
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(entries_of_index(), 2 + 4 + 5 + 8);
	end();
	/* The last of the space is for what is needed. */
	start(&plain);
	fake.index_error = -ENOSPC;
	fake.index_bytes = 14 * FORMAT_ENTRY;
	assert_int_equal(put(0, NULL), 0);
	assert_int_equal(entries_of_index(), 1 + 2 + 5);
	fake.index_error = 0;
	end();
}

/* What was acknowledged while there was space can be flushed when there is none, zeroes too; and a
 * flush makes room for what comes next. */
static void a_flush_takes_no_space(void **state)
{
	uint64_t i, k, entries;

	start(&plain);
	for (i = 0; i < 40; i++) {
		for (k = 0; k < i; k++)
			assert_int_equal(put(3 * (100 * i + k), NULL), 0);
		assert_int_equal(upper_log_trim(u, 3 * 100 * i * SECTOR, SECTOR, 0, NULL), 0);
		entries = entries_of_index();
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_true(u->index_records + 2 <= entries);
		assert_true(u->index_records + 5 + 4 <= entries_of_index());
	}
	end();
}

static uint64_t next_even; /* what is put there is data */

static void fill_the_disk(void)
{
	fake.index_end = FORMAT_SPACE + entries_of_index() * FORMAT_ENTRY;
}

/* Until one is refused. */
static void write_on_and_on(void)
{
	uint64_t end = next_even + 2 * 100;

	while (next_even < end && put(next_even, NULL) == 0)
		next_even += 2;
	assert_true(next_even < end);
}

/* A flush that goes on is no reason to acknowledge what cannot be flushed. */
static void a_full_disk_is_full_during_a_flush_too(void **state)
{
	uint64_t before;
	struct err e;

	start(&plain);
	next_even = 0;
	assert_int_equal(put(3000, NULL), 0);
	fill_the_disk();
	fake.at_sync = write_on_and_on;
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(put(3000, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "i/u.index: "));
	assert_int_equal(upper_log_trim(u, 0, SECTOR, 0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	/* With space, they go on while it flushes. */
	fake.index_end = 0;
	assert_int_equal(put(3000, NULL), 0);
	before = next_even;
	for (; next_even < before + 2 * 20; next_even += 2)
		assert_int_equal(put(next_even, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	end();
}

static void write_some(void)
{
	uint64_t i;

	for (i = 0; i < 50; i++)
		assert_int_equal(put(2 * (100 + i), NULL), 0);
}

/* Nor is anybody kept waiting for it. */
static void the_index_grows_during_a_flush(void **state)
{
	uint64_t i;

	start(&plain);
	assert_int_equal(put(0, NULL), 0);
	fake.at_sync = write_some;
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_null(fake.at_sync);
	assert_int_equal(u->queue.count, 50);
	fill_the_disk();
	assert_int_equal(upper_log_flush(u, NULL), 0);
	kill_process();
	fake.index_end = 0;
	open_log(&plain);
	for (i = 0; i < 50; i++)
		assert_true(piece_at(4 * (100 + i)).mapped);
	end();
}

/* Others may take the space that an append gives back, but not that of what was acknowledged. */
static void a_refused_append_keeps_the_room(void **state)
{
	static const int errors[] = { -ENOSPC, -EDQUOT, -ENOMEM };
	size_t i;

	for (i = 0; i < COUNT_OF(errors); i++) {
		start(&plain);
		assert_int_equal(put(0, NULL), 0);
		assert_int_equal(put(2, NULL), 0);
		fake.index_error = errors[i];
		fake.index_bytes = (2 + MARKS) * FORMAT_ENTRY;
		assert_int_equal(upper_log_flush(u, NULL), errors[i]);
		fake.index_error = 0;
		fill_the_disk();
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_int_equal(u->index_records, 3);
		end();
	}
}

/* Killed while it makes room of a refused append again, at any write: all is still acknowledged. */
static void a_kill_in_between_loses_nothing(void **state)
{
	enum { RECORDS = 1000 };
	unsigned writes;
	uint64_t i;

	for (writes = 2; writes < 12; writes++) {
		start(&plain);
		for (i = 0; i < RECORDS; i++)
			assert_int_equal(put(2 * i, NULL), 0);
		fake.index_error = -ENOSPC;
		fake.index_bytes = (RECORDS + MARKS) * FORMAT_ENTRY;
		fake.lives = writes;
		(void)upper_log_flush(u, NULL);
		fake.index_error = 0;
		fake.lives = 0;
		fake.is_dead = false;
		kill_process();
		loglib_listen();
		open_log(&plain);
		log_set_sink(NULL);
		for (i = 0; i < RECORDS; i++)
			if (!piece_at(4 * i).mapped)
				fail_msg("killed by write %u: %d is lost", writes, (int)i);
		end();
	}
}

/* Whatever a file system answers is an error, and nothing to wait for. */
static void any_error_of_the_pending_file_is_one(void **state)
{
	static const int errors[] = { -ENOBUFS, -EAGAIN, -EBUSY };
	size_t i;

	for (i = 0; i < COUNT_OF(errors); i++) {
		start(&plain);
		assert_int_equal(put(0, NULL), 0);
		fake.pending_error = errors[i];
		alarm(60);
		assert_int_equal(put(2, NULL), errors[i]);
		assert_int_equal(upper_log_trim(u, 9 * SECTOR, SECTOR, 0, NULL), errors[i]);
		alarm(0);
		fake.pending_error = 0;
		assert_int_equal(put(2, NULL), 0);
		end();
	}
}

/* More records than are encoded at once, in one append. */
static void a_long_append_is_whole(void **state)
{
	static const uint64_t counts[] = { 4095, 4096, 4097, 8192, 8193 };
	struct upper_findings found;
	size_t i;
	uint64_t k, room, least;

	for (i = 0; i < COUNT_OF(counts); i++) {
		start(&plain);
		for (k = 0; k < counts[i]; k++)
			assert_int_equal(upper_log_trim(u, 2 * k * SECTOR, SECTOR, 0, NULL), 0);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		room = 6 + 8 + (counts[i] - 1) / 9 * 9;
		least = counts[i] + 1 + 4 + 5; /* what the flush sees to */
		assert_int_equal(entries_of_index(), room >= least ? room : least + 8);
		assert_int_equal(put(100000, NULL), 0);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		kill_process();
		assert_int_equal(memfs_unlink("u.pending"), 0);
		loglib_listen();
		assert_int_equal(upper_log_open("u.data", "i/u.index", &plain, &u, &found, NULL),
				 0);
		log_set_sink(NULL);
		assert_int_equal(found.records, counts[i] + 1);
		assert_int_equal(found.ignored_records + found.pending_records, 0);
		for (k = 0; k < counts[i]; k += 7)
			assert_true(piece_at(2 * k).zeroed && !piece_at(2 * k + 1).mapped);
		end();
	}
}

/* Of a disk of another program, that ends at this sector of the data file. */
static void make_far(uint64_t data_end)
{
	struct format_entry entry = { .start = 1, .sectors = 1, .moffset = data_end - 1 };
	uint8_t raw[FORMAT_ENTRY];
	int fd;

	make_files();
	format_encode_entry(&entry, raw);
	fd = memfs_open("i/u.index", O_RDWR, 0);
	assert_int_equal(memfs_pwrite(fd, raw, sizeof raw, FORMAT_SPACE), sizeof raw);
	memfs_close(fd);
	fake.size = data_end * SECTOR;
	fake.far = true;
	open_log(&plain);
}

/* ---- what stands behind its records ---- */

/* A letter for each entry: a record, CHECK, cOnfirm, oPen, or a gap. */
static void expect_entries(const char *want)
{
	const uint8_t *raw = bytes_of("i/u.index")->p + FORMAT_SPACE;
	uint32_t sum = UPPER_RECORDS_SALT, crc;
	char found[100] = "";
	size_t i;

	for (i = 0; i < entries_of_index() && i + 1 < sizeof found; i++) {
		enum upper_mark mark = upper_records_parse_mark(raw + i * FORMAT_ENTRY, &crc);
		struct format_entry entry = format_parse_entry(raw + i * FORMAT_ENTRY);

		found[i] = mark == UPPER_MARK_CHECK	   ? 'C'
			   : mark == UPPER_MARK_CONFIRM	   ? 'O'
			   : mark == UPPER_MARK_OPEN	   ? 'P'
			   : entry.start == FORMAT_PADDING ? '-'
							   : 'r';
		if (mark == UPPER_MARK_CHECK || mark == UPPER_MARK_CONFIRM)
			assert_int_equal(crc, sum);
		if (mark == UPPER_MARK_OPEN)
			assert_int_equal(crc, u->open_as);
		if (mark != UPPER_MARK_CONFIRM)
			sum = upper_records_sum(sum, raw + i * FORMAT_ENTRY, 1);
	}
	assert_string_equal(found, want);
}

static void marks_stand_behind_the_records(void **state)
{
	struct upper_log_options options = plain;

	options.room_records = 2;
	start(&options);
	expect_entries("OP");
	assert_int_equal(put(0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	expect_entries("rCOP----");
	assert_int_equal(put(1, NULL), 0);
	assert_int_equal(put(2, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	expect_entries("rCrrCOP----");
	/* The CONFIRM does not get there: the next append takes its place all the same. */
	assert_int_equal(put(3, NULL), 0);
	fake.index_error = -EIO;
	fake.index_bytes = 2 * FORMAT_ENTRY;
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_false(u->confirmed);
	assert_int_equal(upper_log_close(u, NULL), 0);
	expect_entries("rCrrCrC");
	memfs_kill(memfs);
	fake.index_error = 0;
	open_log(&options);
	expect_entries("rCrrCrCOP");
	assert_int_equal(upper_log_close(u, NULL), 0);
	expect_entries("rCrrCrCO");
	memfs_kill(memfs);
	/* There is no pending file, and nothing says that there has to be one. */
	fake.no_pending = true;
	loglib_listen();
	open_log(&options);
	log_set_sink(NULL);
	expect_entries("rCrrCrCO-");
	fake.no_pending = false;
	assert_int_equal(put(4, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	expect_entries("rCrrCrCrCOP----");
	end();
}

/* Records of another program get a CHECK before others follow them, and that is synced. */
static void records_of_others_get_a_check(void **state)
{
	static const int errors[] = { -ENOSPC, -EDQUOT, -EIO };
	struct err e = { "" };
	size_t i;

	make_far(100);
	fake.far = false;
	expect_entries("rOP");
	assert_true(u->unchecked);
	assert_int_equal(u->index_records, 1);
	assert_int_equal(put(5, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	expect_entries("rCrCOP---------");
	assert_int_equal(u->index_records, 4);
	assert_false(u->unchecked);
	end();
	for (i = 0; i < COUNT_OF(errors); i++) {
		make_far(100);
		fake.far = false;
		assert_int_equal(put(5, NULL), 0);
		fake.index_error = errors[i];
		fake.index_bytes = FORMAT_ENTRY;
		assert_int_equal(upper_log_flush(u, &e), errors[i]);
		assert_non_null(strstr(e.msg, "i/u.index: writing 16 bytes at 4112"));
		assert_int_equal(upper_log_has_failed(u), errors[i] == -EIO);
		fake.index_error = 0;
		assert_int_equal(upper_log_flush(u, &e), errors[i] == -EIO ? -EIO : 0);
		if (errors[i] != -EIO)
			expect_entries("rCrCOP---------");
		end();
	}
	make_far(100);
	fake.far = false;
	assert_int_equal(put(5, NULL), 0);
	fake.sync_error = -ENOSPC; /* of a sync it is final too */
	assert_int_equal(upper_log_flush(u, &e), -EIO);
	assert_string_equal(e.msg, "i/u.index: fdatasync failed: No space left on device; the "
				   "upper is read-only until it is opened again");
	assert_true(upper_log_has_failed(u));
	assert_null(memfs_find("u.pending"));
	end();
}

/* The index does not say any more that it is open, nor that all of it was synced. */
static void a_failed_sync_leaves_no_marks(void **state)
{
	static const struct {
		int index, data, unlink, cut;
		const char *said, *warned;
	} cases[] = {
		{ 0, -EIO, 0, 0, "u.data: fdatasync failed: Input/output error", "" },
		{ -EROFS, 0, 0, 0, "i/u.index: fdatasync failed: Read-only file system", "" },
		{ 0, -EIO, -EACCES, 0, "u.data: fdatasync failed: Input/output error",
		  "u.pending: it is empty, but cannot be removed: Permission denied\n" },
		{ 0, -EIO, -EACCES, -EIO, "u.data: fdatasync failed: Input/output error",
		  "u.pending: cannot be removed: Permission denied\n" },
	};
	char want[200];
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct err e = { "" };

		start(&plain);
		assert_int_equal(put(0, NULL), 0);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		expect_entries("rCOP------------");
		assert_int_equal(put(1, NULL), 0);
		fake.sync_error = cases[i].index;
		fake.data_sync_error = cases[i].data;
		fake.unlink_error = cases[i].unlink;
		fake.cut_error = cases[i].cut;
		loglib_listen();
		assert_int_equal(upper_log_flush(u, &e), -EIO);
		loglib_expect(cases[i].warned);
		loglib_expect_none();
		snprintf(want, sizeof want, "%s; the upper is read-only until it is opened again",
			 cases[i].said);
		assert_string_equal(e.msg, want);
		expect_entries("rC");
		assert_int_equal(memfs_find("u.pending") != NULL, cases[i].unlink < 0);
		if (cases[i].unlink < 0)
			assert_int_equal(records_pending(), cases[i].cut < 0 ? 2 : 0);
		assert_true(upper_log_has_failed(u));
		end();
	}
}

/* An append for which there was no room is taken back, durably, or else the log has failed. */
static void an_append_without_room_is_taken_back(void **state)
{
	static const struct {
		int cut, sync, r;
		const char *said;
	} cases[] = {
		{ 0, 0, -ENOSPC, "i/u.index: writing 64 bytes at 4128: No space left on device" },
		{ -EIO, 0, -EIO,
		  "i/u.index: fdatasync failed: Input/output error; the upper is read-only until "
		  "it is opened again" },
		{ 0, -EROFS, -EIO,
		  "i/u.index: fdatasync failed: Read-only file system; the upper is read-only "
		  "until it is opened again" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct err e = { "" };

		start(&plain);
		assert_int_equal(put(0, NULL), 0);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_int_equal(put(1, NULL), 0);
		fake.index_error = -ENOSPC;
		fake.index_bytes = (1 + MARKS) * FORMAT_ENTRY;
		fake.index_cut_error = cases[i].cut;
		fake.sync_error = cases[i].sync;
		assert_int_equal(upper_log_flush(u, &e), cases[i].r);
		assert_string_equal(e.msg, cases[i].said);
		assert_int_equal(upper_log_has_failed(u), cases[i].r == -EIO);
		fake.index_error = fake.index_cut_error = fake.sync_error = 0;
		if (cases[i].r == -ENOSPC) {
			expect_entries("rCOP------------"); /* what had room has it */
			assert_int_equal(upper_log_flush(u, &e), 0);
			expect_entries("rCrCOP----------");
		}
		end();
	}
}

/* A flush that finds no space takes nothing with it: what died is given back by the next. */
static void a_flush_without_space_keeps_what_died(void **state)
{
	struct err e = { "" };

	start(&plain);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "y", 1, 2048, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	assert_int_equal(upper_log_trim(u, 2048, SECTOR, 0, NULL), 0);
	assert_int_equal(u->dying.sectors, 2);
	fake.index_error = -EDQUOT;
	assert_int_equal(upper_log_flush(u, &e), -EDQUOT);
	assert_string_equal(e.msg, "i/u.index: writing 80 bytes at 4160: Disk quota exceeded");
	assert_false(upper_log_has_failed(u));
	assert_int_equal(u->queue.count, 2);
	assert_int_equal(u->queue.frozen, 0);
	assert_int_equal(u->dying.sectors, 2);
	assert_int_equal(u->garbage.fresh.sectors, 0);
	fake.index_error = 0;
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(u->queue.count, 0);
	assert_int_equal(u->dying.sectors, 0);
	assert_int_equal(u->garbage.fresh.sectors, 2);
	end();
}

/* ---- the data file ---- */

static void a_data_file_is_filled_to_its_end(void **state)
{
	enum { ROOM = 8 }; /* sectors of room_bytes */
	struct err e = { "" };
	uint8_t bytes[4 * SECTOR];
	uint64_t left;

	memset(bytes, 'x', sizeof bytes);
	for (left = 0; left < 6; left++) {
		bool fits = left >= 4;

		make_far(INDEX_MAX_MOFFSET - left);
		assert_int_equal(upper_log_pwrite(u, bytes, sizeof bytes, 8192, 0, &e),
				 fits ? 0 : -ENOSPC);
		if (!fits)
			assert_string_equal(e.msg, "u.data: the data file is full");
		assert_int_equal(piece_at(16).mapped, fits);
		if (fits)
			assert_int_equal(piece_at(16).moffset, INDEX_MAX_MOFFSET - left);
		assert_int_equal(u->data_end, INDEX_MAX_MOFFSET - left + (fits ? 4 : 0));
		assert_int_equal(u->given_back, fits ? UINT64_MAX : INDEX_MAX_MOFFSET - left);
		assert_int_equal(fake.truncates, 0); /* there is no room ahead */
		fake.size = (INDEX_MAX_MOFFSET - left) * SECTOR;
		end();
	}
	for (left = ROOM; left < ROOM + 3; left++) {
		make_far(INDEX_MAX_MOFFSET - left - 1);
		assert_int_equal(upper_log_pwrite(u, bytes, 2 * SECTOR, 8192, 0, &e), 0);
		/* Behind the two sectors there are left - 1. */
		assert_int_equal(fake.truncates, left - 1 >= ROOM);
		if (left - 1 >= ROOM)
			assert_int_equal(fake.truncated[0], INDEX_MAX_MOFFSET - left + 1 + ROOM);
		end();
	}
}

/* It is made longer by room_bytes when a write ends behind its end, and only then. */
static void the_data_file_has_room_ahead(void **state)
{
	static const uint64_t ends[] = { 11, 14, 17 };
	struct upper_log_options options = plain;
	uint8_t bytes[8 * SECTOR] = { 1 };
	uint64_t i;

	options.room_bytes = 1024;
	start(&options);
	for (i = 0; i < 9; i++) {
		assert_int_equal(upper_log_pwrite(u, "x", 1, i * 1024, 0, NULL), 0);
		assert_int_equal(piece_at(2 * i).moffset, DATA + i);
		assert_int_equal(fake.truncates, i / 3 + 1);
		assert_int_equal(fake.truncated[i / 3], ends[i / 3]);
		assert_int_equal(bytes_of("u.data")->n, ends[i / 3] * SECTOR);
	}
	assert_int_equal(upper_log_pwrite(u, bytes, sizeof bytes, 32768, 0, NULL), 0);
	assert_int_equal(fake.truncated[3], 17 + 8 + 2);
	assert_int_equal(upper_log_close(u, NULL), 0);
	assert_int_equal(bytes_of("u.data")->n, (17 + 8) * SECTOR);
	memfs_kill(memfs);
	/* Where that fails writes make it longer, and the next one tries again. */
	open_log(&options);
	fake.truncate_error = -EFBIG;
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	assert_int_equal(bytes_of("u.data")->n, (17 + 8 + 1) * SECTOR);
	fake.truncate_error = 0;
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	assert_int_equal(bytes_of("u.data")->n, (17 + 8 + 2 + 2) * SECTOR);
	end();
}

static void write_beside(void)
{
	assert_int_equal(upper_log_pwrite(u, "y", 1, 8192, 0, NULL), 0);
}

/* The place of a write that failed is the next one's, unless another follows it already. */
static void a_place_that_was_not_used_is_given_back(void **state)
{
	struct err e = { "" };

	start(&plain);
	fake.data_error = -ENOSPC;
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, &e), -ENOSPC);
	assert_string_equal(e.msg, "u.data: writing 512 bytes at 4096: No space left on device");
	fake.data_error = 0;
	assert_int_equal(u->given_back, DATA);
	assert_false(piece_at(0).mapped);
	assert_int_equal(records_pending(), 0);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 1024, 0, NULL), 0);
	assert_int_equal(piece_at(2).moffset, DATA);
	fake.data_error = -EIO;
	fake.meanwhile = write_beside;
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, &e), -EIO);
	assert_int_equal(u->given_back, DATA);
	assert_int_equal(piece_at(16).moffset, DATA + 2);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 4096, 0, NULL), 0);
	assert_int_equal(piece_at(8).moffset, DATA + 3);
	assert_int_equal(u->given_back, DATA);
	end();
}

/* ---- the pending file ---- */

/* A write to it fails, and what was written of it cannot be cut off. */
static void break_pending(uint64_t number)
{
	fake.pending_error = fake.cut_error = -EIO;
	assert_int_equal(put(number, NULL), -EIO);
	fake.pending_error = fake.cut_error = 0;
	assert_true(u->pending.unsure);
}

static void expect_pending(size_t count, const uint64_t *numbers)
{
	const uint8_t *raw = bytes_of("u.pending")->p + HEADER;
	size_t i;

	assert_int_equal(records_pending(), count);
	for (i = 0; i < count; i++)
		assert_int_equal(format_parse_entry(raw + i * RECORD).start, 2 * numbers[i]);
	assert_int_equal(u->pending.end, HEADER + count * RECORD);
	assert_int_equal(u->pending_end, u->pending.end);
}

static void write_in_the_flush(void)
{
	assert_int_equal(put(21, NULL), 0);
}

/* The next write begins it anew, with what no flush has reached; also while one goes on. */
static void a_broken_pending_file_is_begun_anew(void **state)
{
	start(&plain);
	assert_int_equal(put(1, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(put(3, NULL), 0);
	expect_pending(2, (uint64_t[]){ 1, 3 });
	break_pending(5);
	assert_int_equal(put(7, NULL), 0);
	expect_pending(2, (uint64_t[]){ 3, 7 });
	assert_int_equal(u->pending.base.entries, u->index_records);
	assert_int_equal(u->pending.base.crc, u->index_crc);
	assert_int_equal(u->flushed_end, HEADER);
	break_pending(9);
	fake.at_sync = write_in_the_flush;
	assert_int_equal(upper_log_flush(u, NULL), 0);
	expect_pending(3, (uint64_t[]){ 3, 7, 21 });
	assert_int_equal(u->flushed_end, HEADER + 2 * RECORD);
	break_pending(11);
	assert_int_equal(put(13, NULL), 0);
	expect_pending(2, (uint64_t[]){ 21, 13 });
	end();
}

/* A flush empties the pending file once it has so many bytes. */
static void a_long_pending_file_is_emptied(void **state)
{
	struct upper_log_options options = plain;
	uint64_t i, n;

	options.pending_bytes = HEADER + 4 * RECORD;
	for (n = 1; n < 7; n++) {
		start(&options);
		for (i = 0; i < n; i++)
			assert_int_equal(put(i, NULL), 0);
		assert_int_equal(records_pending(), n);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_int_equal(records_pending(), n < 4 ? n : 0);
		assert_int_equal(u->pending_end, n < 4 ? HEADER + n * RECORD : HEADER);
		assert_int_equal(u->flushed_end, u->pending_end);
		end();
	}
	/* What is not said. */
	start(&(struct upper_log_options){ .ops = &ops });
	assert_int_equal(u->pending_bytes, 2 << 20);
	assert_int_equal(u->room_bytes, 16 << 20);
	assert_int_equal(u->room_records, 4096);
	assert_int_equal(u->max_records, 1 << 26);
	end();
}

static const char *const warnings[] = { "cannot be removed", NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_index_is_filled_to_its_end),
		cmocka_unit_test(a_smaller_index_is_not_flushed_to),
		cmocka_unit_test(the_index_has_room_ahead),
		cmocka_unit_test(a_flush_takes_no_space),
		cmocka_unit_test(a_full_disk_is_full_during_a_flush_too),
		cmocka_unit_test(the_index_grows_during_a_flush),
		cmocka_unit_test(a_refused_append_keeps_the_room),
		cmocka_unit_test(a_kill_in_between_loses_nothing),
		cmocka_unit_test(any_error_of_the_pending_file_is_one),
		cmocka_unit_test(a_long_append_is_whole),
		cmocka_unit_test(marks_stand_behind_the_records),
		cmocka_unit_test(records_of_others_get_a_check),
		cmocka_unit_test(a_failed_sync_leaves_no_marks),
		cmocka_unit_test(an_append_without_room_is_taken_back),
		cmocka_unit_test(a_flush_without_space_keeps_what_died),
		cmocka_unit_test(a_data_file_is_filled_to_its_end),
		cmocka_unit_test(the_data_file_has_room_ahead),
		cmocka_unit_test(a_place_that_was_not_used_is_given_back),
		cmocka_unit_test(a_broken_pending_file_is_begun_anew),
		cmocka_unit_test(a_long_pending_file_is_emptied),
	};

	loops_seed();
	leftovers_warnings = warnings;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
