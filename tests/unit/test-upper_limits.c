/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_limits.c - an append log where something ends: its index, its data file, the room
 * ahead of both, its pending file; and what each change is made of.  In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/upper_private.h"
#include "core/upper_records.h"
#include "tests/unit/loglib.h"
#include "tests/unit/loops.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	MOST = FORMAT_MAX_SECTORS,
	SECTORS = 300000,
	DATA = 8, /* the first sector of data */
	HEADER = 256, /* of the pending file */
	RECORD = 32,
	MARKS = 3, /* behind the records of an append: CHECK, CONFIRM, OPEN */
};

#define BYTES ((uint64_t)SECTORS * SECTOR)

static struct file_ops ops;
static struct upper_log *u;

/* ---- the disk, as the test wants it ---- */

static struct {
	uint64_t size; /* of the data file, when not 0 */
	uint64_t truncated[16]; /* the data file, to so many sectors */
	size_t truncates;
	int data_error, pending_error, index_error, truncate_error;
	size_t index_bytes; /* only such a write to the index fails; 0: all */
	void (*meanwhile)(void); /* called once, by a write of data */
	bool far; /* what is written to the data file goes nowhere */
} fake;

static bool is_file(int fd, const char *name)
{
	return memfs_is_named(fd, name) == 1;
}

static int fake_size(int fd, uint64_t *size)
{
	int r = memfs_size(fd, size);

	if (fake.size && is_file(fd, "u.data"))
		*size = fake.size;
	return r;
}

static ssize_t fake_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	void (*meanwhile)(void) = fake.meanwhile;
	bool data = is_file(fd, "u.data");
	int error = fake.data_error;

	if (data && meanwhile) {
		fake.meanwhile = NULL;
		fake.data_error = 0;
		meanwhile();
	}
	if (data && error)
		return error;
	if (is_file(fd, "u.pending") && fake.pending_error)
		return fake.pending_error;
	if (is_file(fd, "i/u.index") && fake.index_error &&
	    (fake.index_bytes == 0 || fake.index_bytes == n)) {
		(void)memfs_pwrite(fd, buf, n / 2, off);
		return fake.index_error;
	}
	return data && fake.far ? (ssize_t)n : memfs_pwrite(fd, buf, n, off);
}

static int fake_truncate(int fd, uint64_t size)
{
	if (!is_file(fd, "u.data"))
		return memfs_truncate(fd, size);
	assert_int_equal(size % SECTOR, 0);
	if (fake.truncate_error)
		return fake.truncate_error;
	if (fake.truncates < COUNT_OF(fake.truncated))
		fake.truncated[fake.truncates] = size / SECTOR;
	fake.truncates++;
	return fake.far ? 0 : memfs_truncate(fd, size);
}

static const struct upper_log_options plain = { .ops = &ops,
						.room_bytes = 4096,
						.room_records = 8 };

static void open_log(const struct upper_log_options *options)
{
	struct err e;

	if (upper_log_open("u.data", "i/u.index", options, &u, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	fake.truncates = 0;
}

static void make_files(void)
{
	ops = memfs_ops;
	ops.size = fake_size;
	ops.pwrite = fake_pwrite;
	ops.truncate = fake_truncate;
	memset(&fake, 0, sizeof fake);
	memfs = memfs_new(1);
	assert_int_equal(
		upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, NULL, NULL, NULL), 0);
}

static void start(const struct upper_log_options *options)
{
	make_files();
	open_log(options);
}

static void kill_process(void)
{
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs_kill(memfs);
}

static void end(void)
{
	kill_process();
	memfs_free(memfs);
}

static struct memfs_bytes *bytes_of(const char *name)
{
	return &memfs->files[memfs_find(name)->file].now;
}

/* Entries that the index file has room for. */
static uint64_t entries_of_index(void)
{
	assert_int_equal(bytes_of("i/u.index")->n % FORMAT_ENTRY, 0);
	return (bytes_of("i/u.index")->n - FORMAT_SPACE) / FORMAT_ENTRY;
}

static size_t records_pending(void)
{
	assert_int_equal(bytes_of("u.pending")->n % RECORD, 0);
	return (bytes_of("u.pending")->n - HEADER) / RECORD;
}

/* Data or zeroes, no two neighbours. */
static int put(uint64_t number, struct err *e)
{
	return number % 2 ? upper_log_trim(u, number * 2 * SECTOR, SECTOR, 0, e)
			  : upper_log_pwrite(u, "x", 1, number * 2 * SECTOR, 0, e);
}

static struct segment piece_at(uint64_t lba)
{
	struct segment piece;

	assert_int_equal(upper_log_pieces(u, lba, 1, &piece, 1), 1);
	return piece;
}

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

/* ---- a disk that is no longer written to ---- */

static void fail_meanwhile(void)
{
	upper_log_fail(u);
}

static void what_failed_is_only_read(void **state)
{
	static const char failed[] = "u.data: an earlier sync failed";
	struct err e = { "" };
	char byte;

	start(&plain);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	fake.meanwhile = fail_meanwhile;
	assert_int_equal(upper_log_pwrite(u, "y", 1, 0, 0, &e), -EIO);
	assert_string_equal(e.msg, failed);
	assert_true(upper_log_has_failed(u));
	assert_null(memfs_find("u.pending"));
	e.msg[0] = '\0';
	assert_int_equal(upper_log_pwrite(u, "y", 1, 0, 0, &e), -EIO);
	assert_string_equal(e.msg, failed);
	e.msg[0] = '\0';
	assert_int_equal(upper_log_zero(u, 0, 512, 0, &e), -EIO);
	assert_string_equal(e.msg, failed);
	e.msg[0] = '\0';
	assert_int_equal(upper_log_trim(u, 0, 512, 0, &e), -EIO);
	assert_string_equal(e.msg, failed);
	e.msg[0] = '\0';
	assert_int_equal(upper_log_trim(u, 0, 5, 0, &e), -EIO);
	e.msg[0] = '\0';
	assert_int_equal(upper_log_flush(u, &e), -EIO);
	assert_string_equal(e.msg, failed);
	assert_int_equal(upper_log_pread(u, &byte, 1, 0, NULL), 0);
	assert_int_equal(byte, 'x');
	end();
}

static void what_lies_beyond_the_end_is_named(void **state)
{
	static const char beyond[] =
		"u.data: 2 bytes at 153599999 lie beyond the disk's end at 153600000";
	struct err e = { "" };
	char bytes[2] = "";

	start(&plain);
	assert_int_equal(upper_log_pread(u, bytes, 2, BYTES - 1, &e), -EINVAL);
	assert_string_equal(e.msg, beyond);
	e.msg[0] = '\0';
	assert_int_equal(upper_log_pwrite(u, bytes, 2, BYTES - 1, 0, &e), -EINVAL);
	assert_string_equal(e.msg, beyond);
	e.msg[0] = '\0';
	assert_int_equal(upper_log_zero(u, BYTES - 1, 2, 0, &e), -EINVAL);
	assert_string_equal(e.msg, beyond);
	e.msg[0] = '\0';
	assert_int_equal(upper_log_trim(u, BYTES - 1, 2, 0, &e), -EINVAL);
	assert_string_equal(e.msg, beyond);
	assert_int_equal(upper_log_pread(u, bytes, 1, BYTES - 1, NULL), 0);
	assert_int_equal(upper_log_pread(u, bytes, 0, BYTES, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, bytes, 1, BYTES - 1, 0, NULL), 0);
	assert_int_equal(upper_log_zero(u, BYTES, 0, 0, NULL), 0);
	assert_int_equal(records_pending(), 1);
	end();
}

/* ---- what a change is made of ---- */

/* Each record of the pending file has the checksum of the data that it points at. */
static void check_sums(const char *what)
{
	const struct memfs_bytes *file = bytes_of("u.pending");
	const uint8_t *raw;

	for (raw = file->p + HEADER; raw < file->p + file->n; raw += RECORD) {
		struct format_entry entry = format_parse_entry(raw);
		uint32_t want = 0;

		if (!entry.zeroed)
			want = crc32c_raw(100007, bytes_of("u.data")->p + entry.moffset * SECTOR,
					  (size_t)entry.sectors * SECTOR);
		if (le32_get(raw + 16) != want)
			fail_msg("%s: record %d", what, (int)(raw - file->p - HEADER) / RECORD);
	}
}

static void a_write_is_so_many_records(void **state)
{
	static const struct {
		const char *what;
		uint64_t off, n;
		size_t writes, zeroes, trims; /* records of each kind of change */
	} cases[] = {
		{ "a sector", 0, 512, 1, 1, 1 },
		{ "two", 512, 1024, 1, 1, 1 },
		{ "nothing", 512, 0, 0, 0, 0 },
		{ "within one", 100, 100, 1, 1, 0 },
		{ "its beginning", 1024, 511, 1, 1, 0 },
		{ "its end", 1025, 511, 1, 1, 0 },
		{ "over an edge", 500, 24, 1, 2, 0 },
		{ "over an edge, nearly all", 1, 1022, 1, 2, 0 },
		{ "a sector and before", 300, 724, 1, 2, 1 },
		{ "a sector and behind", 512, 700, 1, 2, 1 },
		{ "a sector and both", 100, 1000, 1, 3, 1 },
		{ "many and both", 100, 10000, 1, 3, 1 },
		{ "as long as can be", 0, MOST * 512, 1, 1, 1 },
		{ "one more", 512, (MOST + 1) * 512, 2, 2, 2 },
		{ "and both", 1000, (MOST + 1) * 512, 2, 4, 2 },
		{ "long and both", 511, (2 * MOST + 5) * 512, 3, 4, 3 },
	};
	uint8_t *bytes = malloc((2 * MOST + 6) * 512);
	size_t i, k;

	assert_non_null(bytes);
	for (i = 0; i < (2 * MOST + 6) * 512; i++)
		bytes[i] = (uint8_t)(i / 512 + 7 * i);
	for (i = 0; i < COUNT_OF(cases); i++)
		for (k = 0; k < 3; k++) {
			uint64_t off = cases[i].off, n = cases[i].n;
			size_t want = k == 0   ? cases[i].writes
				      : k == 1 ? cases[i].zeroes
					       : cases[i].trims;
			int r;

			start(&plain);
			r = k == 0   ? upper_log_pwrite(u, bytes, (size_t)n, off, 0, NULL)
			    : k == 1 ? upper_log_zero(u, off, n, 0, NULL)
				     : upper_log_trim(u, off, n, 0, NULL);
			assert_int_equal(r, 0);
			if (records_pending() != want)
				fail_msg("%s: %zu records of kind %zu", cases[i].what,
					 records_pending(), k);
			check_sums(cases[i].what);
			end();
		}
	free(bytes);
}

/* Zeroing gets through where no space is left for its record; writing does not. */
static void zeroes_get_through_a_full_disk(void **state)
{
	static const int errors[] = { -ENOSPC, -EDQUOT, -EIO };
	struct err e = { "" };
	size_t i;

	for (i = 0; i < COUNT_OF(errors); i++) {
		bool full = errors[i] != -EIO;

		start(&plain);
		fake.pending_error = errors[i];
		assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, &e), errors[i]);
		assert_non_null(strstr(e.msg, "u.pending: writing 32 bytes at 256"));
		assert_false(u->through);
		assert_int_equal(upper_log_trim(u, 4096, 512, 0, &e), full ? 0 : errors[i]);
		assert_int_equal(piece_at(8).mapped, full);
		assert_int_equal(u->through, full);
		assert_int_equal(u->index_records, full ? 2 : 0); /* it was flushed */
		/* Data get through too, then: each is flushed before it is acknowledged. */
		assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, &e), full ? 0 : errors[i]);
		assert_int_equal(u->index_records, full ? 4 : 0);
		assert_int_equal(records_pending(), 0);
		fake.pending_error = 0;
		assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_int_equal(upper_log_trim(u, 8192, 512, 0, NULL), 0);
		assert_false(u->through && u->queue.count > 0);
		end();
	}
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

/* ---- all that it maps ---- */

static void all_mappings_are_told(void **state)
{
	struct upper_log_options options = plain;
	unsigned round, rounds = loops_count(200);
	struct mapping_run maps;
	uint64_t lba, k;
	size_t i;

	for (round = 0; round < rounds; round++) {
		unsigned changes = (unsigned)(loops_random() % 300);

		start(&options);
		while (changes-- > 0) {
			uint8_t bytes[3 * SECTOR] = { 1 };
			uint64_t at = loops_random() % (SECTORS - 40000) * SECTOR;
			uint64_t n = 1 + loops_random() % 3;

			/* Mostly near one another. */
			if (loops_random() % 64)
				at %= 1000 * SECTOR;
			if (loops_random() % 128 == 0)
				n += loops_random() % 40000;
			if (n > 3 || loops_random() % 3 == 0)
				assert_int_equal(upper_log_trim(u, at, n * SECTOR, 0, NULL), 0);
			else
				assert_int_equal(
					upper_log_pwrite(u, bytes, n * SECTOR, at, 0, NULL), 0);
		}
		assert_int_equal(upper_log_mappings(u, &maps, NULL), 0);
		for (i = 0, lba = 0; i < maps.count; i++) {
			struct mapping m = maps.maps[i];
			struct segment piece, last;

			assert_int_equal(mapping_layer(m), 0);
			assert_true(mapping_start(m) >= lba && mapping_sectors(m) > 0);
			if (mapping_start(m) > lba) {
				assert_int_equal(
					upper_log_pieces(u, lba, mapping_start(m) - lba, &piece, 1),
					1);
				assert_false(piece.mapped);
				assert_int_equal(piece.sectors, mapping_start(m) - lba);
			}
			for (k = 0; k < 2; k++) {
				last = piece_at(k ? mapping_end(m) - 1 : mapping_start(m));
				assert_true(last.mapped);
				assert_int_equal(last.zeroed, mapping_zeroed(m));
				if (!last.zeroed)
					assert_int_equal(last.moffset,
							 mapping_moffset(m) +
								 (k ? mapping_sectors(m) - 1 : 0));
			}
			assert_int_equal(upper_log_pieces(u, mapping_start(m), mapping_sectors(m),
							  &piece, 1),
					 1);
			assert_int_equal(piece.sectors, mapping_sectors(m));
			lba = mapping_end(m);
			/* Only one as long as can be may go on. */
			if (lba < SECTORS && mapping_sectors(m) < MOST) {
				assert_int_equal(upper_log_pieces(u, mapping_start(m),
								  mapping_sectors(m) + 1, &piece,
								  1),
						 1);
				assert_int_equal(piece.sectors, mapping_sectors(m));
			}
		}
		if (lba < SECTORS)
			assert_false(piece_at(lba).mapped || piece_at(SECTORS - 1).mapped);
		free(maps.maps);
		end();
	}
}

static size_t asked[8], asks;

void *__real_realloc(void *old, size_t n);
void *__wrap_realloc(void *old, size_t n);

void *__wrap_realloc(void *old, size_t n)
{
	if (asks < COUNT_OF(asked))
		asked[asks++] = n;
	return __real_realloc(old, n);
}

/* Room for them is doubled: it is not asked for with each of them. */
static void room_is_made_in_doubles(void **state)
{
	struct mapping_run maps;
	uint64_t i;

	start(&plain);
	for (i = 0; i < 129; i++)
		assert_int_equal(put(i, NULL), 0);
	asks = 0;
	assert_int_equal(upper_log_mappings(u, &maps, NULL), 0);
	assert_int_equal(maps.count, 129);
	assert_int_equal(asks, 3);
	for (i = 0; i < 3; i++)
		assert_int_equal(asked[i], ((size_t)64 << i) * sizeof *maps.maps);
	free(maps.maps);
	end();
}

static void what_lies_beyond_the_disk_is_not_told(void **state)
{
	struct upper_log_options options = plain;
	struct mapping_run maps;
	struct err e = { "" };

	start(&plain);
	assert_int_equal(upper_log_trim(u, 1024, 512, 0, NULL), 0);
	assert_int_equal(upper_log_close(u, NULL), 0);
	memfs_kill(memfs);
	options.size = 1536;
	open_log(&options);
	assert_int_equal(upper_log_mappings(u, &maps, &e), 0);
	assert_int_equal(maps.count, 1);
	free(maps.maps);
	kill_process();
	options.size = 1024;
	open_log(&options);
	assert_int_equal(upper_log_mappings(u, &maps, &e), -EINVAL);
	assert_string_equal(e.msg, "u.data: it maps sectors beyond its virtual size of 1024 bytes: "
				   "make it larger with 'overlaybd resize'");
	assert_null(maps.maps);
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
		cmocka_unit_test(what_failed_is_only_read),
		cmocka_unit_test(what_lies_beyond_the_end_is_named),
		cmocka_unit_test(a_write_is_so_many_records),
		cmocka_unit_test(zeroes_get_through_a_full_disk),
		cmocka_unit_test(a_long_pending_file_is_emptied),
		cmocka_unit_test(all_mappings_are_told),
		cmocka_unit_test(room_is_made_in_doubles),
		cmocka_unit_test(what_lies_beyond_the_disk_is_not_told),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
