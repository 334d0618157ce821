/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_changes.c - what a change of an append log is made of, what refuses one, and what all
 * changes leave mapped. */
#include "tests/unit/leftovers.h"
#include "tests/unit/upperfake.h"

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
		{ "and both", 1000, (MOST + 1) * 512, 2, 3, 1 },
		{ "long and both", 511, (2 * MOST + 5) * 512, 3, 5, 3 },
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

/* What has to be durable is flushed, with all before it; also where nothing is left to do. */
static void a_change_is_durable_if_asked(void **state)
{
	unsigned kind, flags;
	uint64_t n;

	for (kind = 0; kind < 3; kind++)
		for (n = 0; n <= 512; n += 256)
			for (flags = 0; flags <= (UPPER_FUA | UPPER_FAST); flags++) {
				char bytes[512] = "";
				int r;

				start(&plain);
				assert_int_equal(put(3, NULL), 0);
				r = kind == 0	? upper_log_pwrite(u, bytes, n, 0, flags, NULL)
				    : kind == 1 ? upper_log_zero(u, 0, n, flags, NULL)
						: upper_log_trim(u, 0, n, flags, NULL);
				assert_int_equal(r, 0);
				if ((u->queue.count == 0) != (flags & UPPER_FUA) ||
				    (u->index_records > 0) != (flags & UPPER_FUA))
					fail_msg("kind %u, %d bytes, flags %u: %d wait", kind,
						 (int)n, flags, (int)u->queue.count);
				end();
			}
}

/* Of more pieces than are looked up at once, from any byte of a sector on. */
static void a_read_of_many_pieces_is_whole(void **state)
{
	enum { PIECES = 100, ALL = 2 * PIECES * SECTOR };
	static const uint64_t offs[] = { 0, 1, 100, 511, 512, 700, 1535 };
	uint8_t *disk = calloc(1, ALL), *found = malloc(ALL);
	size_t i;

	assert_true(disk && found);
	start(&plain);
	for (i = 0; i < PIECES; i++) {
		memset(disk + 2 * i * SECTOR, (int)i + 1, SECTOR);
		assert_int_equal(
			upper_log_pwrite(u, disk + 2 * i * SECTOR, SECTOR, 2 * i * SECTOR, 0, NULL),
			0);
	}
	for (i = 0; i < COUNT_OF(offs); i++) {
		size_t n = ALL - (size_t)offs[i] - i;

		memset(found, 'f', ALL);
		assert_int_equal(upper_log_pread(u, found, n, offs[i], NULL), 0);
		assert_memory_equal(found, disk + offs[i], n);
	}
	end();
	free(disk);
	free(found);
}

static int below_result;
static unsigned belows;
static uint64_t below_off;
static size_t below_n;

static int read_below(void *arg, void *buf, size_t n, uint64_t off, struct err *e)
{
	assert_ptr_equal(arg, &belows);
	belows++;
	below_off = off;
	below_n = n;
	memset(buf, 'b', n);
	return below_result < 0 ? err_set(e, -below_result, "below") : 0;
}

static int read_result;

static ssize_t read_or_fail(int fd, void *buf, size_t n, uint64_t off)
{
	return read_result < 0 && is_file(fd, "u.data") ? read_result
							: memfs_pread(fd, buf, n, off);
}

static void a_read_that_fails_is_told(void **state)
{
	struct upper_log_options options = plain;
	struct err e = { "" };
	char bytes[2048];

	options.below = (struct upper_below){ .pread = read_below, .arg = &belows };
	start(&options);
	ops.pread = read_or_fail;
	memset(bytes, 'x', sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, 512, 512, 0, NULL), 0);
	/* A hole, data, a hole. */
	assert_int_equal(upper_log_pread(u, bytes, 1300, 100, NULL), 0);
	assert_int_equal(belows, 2);
	assert_int_equal(below_off, 1024);
	assert_int_equal(below_n, 376);
	assert_true(bytes[411] == 'b' && bytes[412] == 'x');
	assert_true(bytes[923] == 'x' && bytes[924] == 'b');
	belows = 0;
	below_result = -ETIMEDOUT;
	assert_int_equal(upper_log_pread(u, bytes, 1300, 100, &e), -ETIMEDOUT);
	assert_string_equal(e.msg, "below");
	assert_int_equal(belows, 1);
	read_result = -EIO;
	assert_int_equal(upper_log_pread(u, bytes, 1300, 100, &e), -EIO);
	assert_string_equal(e.msg, "u.data: reading 512 bytes at 4096: Input/output error");
	assert_int_equal(belows, 1);
	assert_int_equal(upper_log_pwrite(u, "y", 1, 600, 0, &e), -EIO);
	read_result = 0;
	/* A part of a sector cannot be filled up: it is not written, nor what would follow. */
	assert_int_equal(upper_log_pwrite(u, "y", 1, 100, 0, &e), -ETIMEDOUT);
	assert_int_equal(upper_log_pwrite(u, bytes, 1000, 100, 0, &e), -ETIMEDOUT);
	assert_int_equal(upper_log_pwrite(u, bytes, 1000, 600, 0, &e), -ETIMEDOUT);
	assert_int_equal(upper_log_zero(u, 100, 1024, 0, &e), -ETIMEDOUT);
	assert_string_equal(e.msg, "below");
	assert_int_equal(records_pending(), 1);
	/* Its beginning is data. */
	assert_int_equal(upper_log_zero(u, 600, 1024, 0, &e), -ETIMEDOUT);
	assert_int_equal(records_pending(), 3);
	assert_true(u->given_back == UINT64_MAX);
	below_result = 0;
	ops.pread = memfs_pread;
	end();
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

/* ---- all that it maps ---- */

static void all_mappings_are_told(void **state)
{
	struct upper_log_options options = plain;
	unsigned round, rounds = loops_count(200);
	struct mapping_run maps;
	struct err untouched = { "untouched" };
	uint64_t lba, k;
	uint8_t byte;
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
				assert_int_equal(upper_log_trim(u, at, n * SECTOR, 0, &untouched),
						 0);
			else
				assert_int_equal(
					upper_log_pwrite(u, bytes, n * SECTOR, at, 0, &untouched),
					0);
		}
		assert_int_equal(upper_log_mappings(u, &maps, &untouched), 0);
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
		assert_int_equal(upper_log_zero(u, 100, 1000, UPPER_FUA, &untouched), 0);
		assert_int_equal(upper_log_pread(u, &byte, 1, 100, &untouched), 0);
		assert_int_equal(upper_log_after_fork(u, &untouched), 0);
		assert_int_equal(upper_log_flush(u, &untouched), 0);
		/* What succeeds has nothing to say. */
		assert_string_equal(untouched.msg, "untouched");
		end();
	}
}

/* Room for them is doubled: it is not asked for with each of them. */
static void room_is_made_in_doubles(void **state)
{
	struct mapping_run maps;
	uint64_t i;

	start(&plain);
	for (i = 0; i < 129; i++)
		assert_int_equal(put(i, NULL), 0);
	fences_asks = 0;
	assert_int_equal(upper_log_mappings(u, &maps, NULL), 0);
	assert_int_equal(maps.count, 129);
	assert_int_equal(fences_asks, 3);
	for (i = 0; i < 3; i++)
		assert_int_equal(fences_asked[i], ((size_t)64 << i) * sizeof *maps.maps);
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

static const char *const warnings[] = { "cannot be removed", NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_failed_is_only_read),
		cmocka_unit_test(what_lies_beyond_the_end_is_named),
		cmocka_unit_test(a_write_is_so_many_records),
		cmocka_unit_test(a_change_is_durable_if_asked),
		cmocka_unit_test(a_read_of_many_pieces_is_whole),
		cmocka_unit_test(a_read_that_fails_is_told),
		cmocka_unit_test(zeroes_get_through_a_full_disk),
		cmocka_unit_test(all_mappings_are_told),
		cmocka_unit_test(room_is_made_in_doubles),
		cmocka_unit_test(what_lies_beyond_the_disk_is_not_told),
	};

	loops_seed();
	leftovers_warnings = warnings;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
