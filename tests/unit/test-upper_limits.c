/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_limits.c - an append log where something ends: its index, its data file, the room
 * ahead of both, its pending file. */
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
	static const uint64_t sizes[] = { 8, 8, 8, 14, 14, 14, 20, 20, 20, 26 };
	struct upper_log_options options = plain;
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
	assert_int_equal(entries_of_index(), 8);
	assert_int_equal(put(1, NULL), 0);
	assert_int_equal(put(2, NULL), 0);
	assert_int_equal(put(3, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(entries_of_index(), 10);
	end();
	/* Without space there is none, and the flush succeeds all the same. */
	start(&plain);
	fake.index_error = -ENOSPC;
	fake.index_bytes = 8 * FORMAT_ENTRY;
	assert_int_equal(put(0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(entries_of_index(), 1 + MARKS);
	fake.index_error = 0;
	assert_int_equal(put(1, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(entries_of_index(), 2 + 1 + MARKS + 8);
	end();
}

/* More records than are encoded at once, in one append. */
static void a_long_append_is_whole(void **state)
{
	static const uint64_t counts[] = { 4095, 4096, 4097, 8192, 8193 };
	struct upper_findings found;
	size_t i;
	uint64_t k;

	for (i = 0; i < COUNT_OF(counts); i++) {
		start(&plain);
		for (k = 0; k < counts[i]; k++)
			assert_int_equal(upper_log_trim(u, 2 * k * SECTOR, SECTOR, 0, NULL), 0);
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_int_equal(entries_of_index(), counts[i] + MARKS + 8);
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
		assert_int_equal(u->given_back, fits ? 0 : 1);
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
	assert_int_equal(u->given_back, 1);
	assert_false(piece_at(0).mapped);
	assert_int_equal(records_pending(), 0);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 1024, 0, NULL), 0);
	assert_int_equal(piece_at(2).moffset, DATA);
	fake.data_error = -EIO;
	fake.meanwhile = write_beside;
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, &e), -EIO);
	assert_int_equal(u->given_back, 2);
	assert_int_equal(piece_at(16).moffset, DATA + 2);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 4096, 0, NULL), 0);
	assert_int_equal(piece_at(8).moffset, DATA + 3);
	assert_int_equal(u->given_back, 2);
	end();
}

/* ---- the pending file ---- */

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_index_is_filled_to_its_end),
		cmocka_unit_test(a_smaller_index_is_not_flushed_to),
		cmocka_unit_test(the_index_has_room_ahead),
		cmocka_unit_test(a_long_append_is_whole),
		cmocka_unit_test(a_flush_without_space_keeps_what_died),
		cmocka_unit_test(a_data_file_is_filled_to_its_end),
		cmocka_unit_test(the_data_file_has_room_ahead),
		cmocka_unit_test(a_place_that_was_not_used_is_given_back),
		cmocka_unit_test(a_long_pending_file_is_emptied),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
