/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_hostile.c - ways to lose what an append log holds: other names, other sizes, folders
 * of other users, damaged and full indexes. */
#include "tests/unit/leftovers.h"
#include "tests/unit/upperlib.h"

#include "core/layer.h"
#include "core/upper_compact.h"
#include "core/upper_seal.h"
#include "tests/unit/loglib.h"

enum {
	SECTORS = 300,
	BYTES = SECTORS * 512,
};

static uint8_t disk[BYTES];

static void check_all(struct upper_log *u)
{
	static uint8_t read[BYTES];

	assert_int_equal(upper_log_pread(u, read, BYTES, 0, NULL), 0);
	assert_memory_equal(read, disk, BYTES);
}

/* A symbolic link leads to the same log: its pending file, and the index that is made anew. */
static void other_names_lead_to_the_same_log(void **state)
{
	struct upper_log_options options = { .garbage = 50, .garbage_records = 100 };
	char data[80], index[80];
	struct layer layer;
	struct upper_findings found;
	struct upper_log *u;
	struct stat st;
	struct err e;
	unsigned i;

	snprintf(data, sizeof data, "%s/link.data", upper_folder);
	snprintf(index, sizeof index, "%s/link.index", upper_folder);
	assert_int_equal(symlink("u.data", data), 0);
	assert_int_equal(symlink("u.index", index), 0);
	upper_close(upper_new(BYTES, &upper_plain));
	write_and_die(NULL);
	/* Who only reads finds it too. */
	assert_int_equal(upper_open_read_only(data, index, 0, &layer, &found, &e), 0);
	assert_true(found.pending_records >= 2);
	layer_close(&layer);
	assert_int_equal(upper_log_open(data, index, &options, &u, &found, &e), 0);
	assert_true(found.pending_records >= 2);
	memset(disk, 0, BYTES);
	memcpy(disk + 100, "flushed", 7);
	memcpy(disk + 2000, "acknowledged", 12);
	for (i = 0; i < 1000; i++) {
		uint64_t off = i * 40503 % 100 * 1024;

		memset(disk + off, (int)i, 512);
		assert_int_equal(upper_log_pwrite(u, disk + off, 512, off, 0, NULL), 0);
	}
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "last", 4, 512, 0, NULL), 0);
	memcpy(disk + 512, "last", 4);
	upper_close(u);
	assert_int_equal(lstat(index, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(access(upper_pending, F_OK), -1);
	assert_true(upper_file_size(upper_index) < 4096 + 200 * 16);
	u = upper_open_with(NULL);
	check_all(u);
	upper_close(u);
	unlink(data);
	unlink(index);
}

static uint8_t *read_sealed(uint64_t size)
{
	uint8_t *read = calloc(1, (size_t)size);
	struct source *data;
	struct layer layer;
	size_t i;

	assert_int_equal(source_open_file(upper_data, &data, NULL), 0);
	assert_int_equal(layer_open(data, 0, &layer, NULL), 0);
	for (i = 0; i < layer.run.count; i++) {
		struct mapping m = layer.run.maps[i];

		if (!mapping_zeroed(m))
			assert_int_equal(source_pread(data, read + mapping_start(m) * SECTOR,
						      mapping_sectors(m) * SECTOR,
						      mapping_moffset(m) * SECTOR, NULL),
					 0);
	}
	layer_close(&layer);
	return read;
}

/* Served smaller for once: what lies beyond stays, whatever is rewritten, killed or sealed. */
static void what_lies_beyond_the_disk_stays(void **state)
{
	struct upper_log_options large = { .size = 2 * BYTES };
	struct upper_log_options small = { .garbage = 50, .garbage_records = 100 };
	struct upper_compact compact;
	uint64_t size;
	uint8_t byte, *read;
	struct upper_log *u = upper_new(BYTES, &large);
	struct err e;
	unsigned i;

	assert_int_equal(upper_log_pwrite(u, "A", 1, BYTES + 5000, 0, NULL), 0);
	upper_close(u);
	u = upper_open_with(&small);
	for (i = 0; i < 1000; i++)
		assert_int_equal(upper_log_pwrite(u, "x", 1, i % 10 * 512, 0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	upper_close(u);
	u = upper_open_with(&large);
	assert_int_equal(upper_log_pread(u, &byte, 1, BYTES + 5000, NULL), 0);
	assert_int_equal(byte, 'A');
	upper_close(u);
	compact = (struct upper_compact){ 0 };
	assert_int_equal(upper_compact_files(&compact, upper_data, upper_index, &e), 0);
	u = upper_open_with(&large);
	assert_int_equal(upper_log_pread(u, &byte, 1, BYTES + 5000, NULL), 0);
	assert_int_equal(byte, 'A');
	upper_close(u);
	/* The same, acknowledged by a process that died. */
	if (fork() == 0) {
		if (upper_log_open(upper_data, upper_index, &large, &u, NULL, NULL) == 0 &&
		    upper_log_pwrite(u, "B", 1, 2 * BYTES - 1, 0, NULL) == 0)
			raise(SIGKILL);
		_exit(1);
	}
	assert_true(wait(&(int){ 0 }) > 0);
	upper_close(upper_open_with(&small));
	u = upper_open_with(&large);
	assert_int_equal(upper_log_pread(u, &byte, 1, 2 * BYTES - 1, NULL), 0);
	assert_int_equal(byte, 'B');
	upper_close(u);
	assert_int_equal(upper_seal_files(NULL, upper_data, upper_index, &size, &e), 0);
	read = read_sealed(2 * BYTES);
	assert_int_equal(read[BYTES + 5000], 'A');
	assert_int_equal(read[2 * BYTES - 1], 'B');
	free(read);
}

/* One that leaves its size to the layers below has no disk of its own. */
static void a_log_without_a_size_is_compacted(void **state)
{
	struct upper_log_options options = { .size_below = BYTES };
	struct upper_compact compact = { 0 };
	struct upper_log *u = upper_new(0, &options);
	uint8_t byte;
	struct err e;

	assert_int_equal(upper_log_pwrite(u, "A", 1, 5000, 0, NULL), 0);
	upper_close(u);
	assert_int_equal(upper_compact_files(&compact, upper_data, upper_index, &e), 0);
	u = upper_open_with(&options);
	assert_int_equal(upper_log_size(u), BYTES);
	assert_int_equal(upper_log_pread(u, &byte, 1, 5000, NULL), 0);
	assert_int_equal(byte, 'A');
	upper_close(u);
}

static bool no_sync;

static int broken_datasync(int fd)
{
	return no_sync ? -EIO : file_ops_system.datasync(fd);
}

static int refused_unlink(const char *path)
{
	return strstr(path, ".pending") ? -EACCES : file_ops_system.unlink(path);
}

/* Invariant 5, where the folder is not ours, as after nbdkit -u nobody: the pending file stays, but
 * vouches for nothing. */
static void what_was_not_synced_is_not_vouched_for(void **state)
{
	struct file_ops ops = file_ops_system;
	struct upper_log_options options = { .ops = &ops };
	struct upper_findings found;
	struct upper_log *u;
	struct err e;

	ops.datasync = broken_datasync;
	ops.unlink = refused_unlink;
	u = upper_new(BYTES, &options);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	no_sync = true;
	assert_int_equal(upper_log_flush(u, &e), -EIO);
	no_sync = false;
	(void)upper_log_close(u, NULL);
	assert_int_equal(access(upper_pending, F_OK), 0);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
	assert_int_equal(found.pending_records, 0);
	upper_close(u);
}

/* An index file that cannot be read back whole is not replaced by the part that can. */
static void a_damaged_index_is_not_rewritten(void **state)
{
	static const uint8_t zeroes[16];
	struct upper_log_options options = { .garbage = 50, .garbage_records = 100 };
	struct upper_log *u = upper_new(BYTES, &options);
	uint64_t size;
	unsigned i;
	int fd;

	for (i = 0; i < 320; i++)
		assert_int_equal(upper_log_pwrite(u, "x", 1, i % 100 * 1024, 0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	size = upper_file_size(upper_index);
	fd = open(upper_index, O_WRONLY);
	for (i = 31; i < 320; i += 32)
		assert_int_equal(pwrite(fd, zeroes, 16, 4096 + i * 16), 16);
	close(fd);
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_int_equal(upper_file_size(upper_index), size);
	upper_close(u);
}

/* More than half of a nearly full index counts, so it is not dead; still it must not fill up with
 * the rest.  What no room is left for is refused before it is acknowledged. */
static void a_full_index_refuses_writes_not_flushes(void **state)
{
	struct upper_log_options options = { .garbage = 50,
					     .garbage_records = 10,
					     .max_records = 128 };
	struct upper_log *u = upper_new(BYTES, &options);
	unsigned i, refused = 0;

	memset(disk, 0, BYTES);
	for (i = 0; i < 1000; i++) {
		uint64_t off = i * 40503 % 90 * 1024;

		memset(disk + off, (int)i, 512);
		assert_int_equal(upper_log_pwrite(u, disk + off, 512, off, 0, NULL), 0);
		if (i % 5 == 0) {
			assert_int_equal(upper_log_flush(u, NULL), 0);
			assert_int_equal(upper_log_tidy(u, NULL), 0);
		}
	}
	for (i = 0; i < 300; i++) {
		uint64_t off = i * 40503 % 150 * 1024;
		uint8_t bytes[512];
		int r;

		memset(bytes, (int)i + 1, 512);
		r = upper_log_pwrite(u, bytes, 512, off, 0, NULL);
		assert_true(r == 0 || r == -ENOSPC);
		refused += r < 0;
		if (r == 0)
			memcpy(disk + off, bytes, 512);
		if (i % 50 == 0)
			assert_int_equal(upper_log_flush(u, NULL), 0);
	}
	assert_true(refused > 0);
	check_all(u);
	upper_close(u);
	u = upper_open_with(&options);
	check_all(u);
	upper_close(u);
	upper_check_files(disk, BYTES);
}

static uint8_t *read_pending(size_t *n)
{
	char *text;

	assert_int_equal(io_read_file(upper_pending, 1 << 20, &text, n, NULL), 0);
	return (uint8_t *)text;
}

static void check_at(struct upper_log *u, uint64_t off, const char *text)
{
	char found[16] = "";

	assert_int_equal(upper_log_pread(u, found, strlen(text), off, NULL), 0);
	assert_string_equal(found, text);
}

/* A file system that went down, or a removal that failed, brings the pending file back: what was
 * written since stays. */
static void an_old_pending_file_undoes_nothing(void **state)
{
	struct upper_findings found;
	struct upper_log *u;
	uint8_t *old;
	struct err e;
	size_t n;

	upper_close(upper_new(BYTES, NULL));
	write_and_die(NULL);
	old = read_pending(&n);
	u = upper_open_with(NULL);
	check_at(u, 2000, "acknowledged");
	upper_close(u);
	/* Just back: it says what is so. */
	assert_int_equal(io_replace_file(upper_pending, old, n, NULL), 0);
	u = upper_open_with(NULL);
	check_at(u, 2000, "acknowledged");
	assert_int_equal(upper_log_pwrite(u, "newer than it", 13, 2000, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "also", 4, 4096, UPPER_FUA, NULL), 0);
	upper_close(u);
	assert_int_equal(io_replace_file(upper_pending, old, n, NULL), 0);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
	assert_int_equal(found.pending_records, 0);
	check_at(u, 2000, "newer than it");
	check_at(u, 4096, "also");
	upper_close(u);
	free(old);
}

static bool is_full; /* for files of their own; the index may still be replaced */

static int open_when_full(const char *path, int flags, mode_t mode)
{
	return is_full && strstr(path, ".pending.tmp.") ? -ENOSPC
							: file_ops_system.open(path, flags, mode);
}

/* Takes up what a process left on a disk that is full, tidies, and is killed. */
static void tidy_and_die(bool full_for_good)
{
	struct file_ops ops = file_ops_system;
	struct upper_log_options options = { .ops = &ops, .garbage = 50, .garbage_records = 10 };
	struct upper_log *u;
	int status;

	ops.open = open_when_full;
	if (fork() == 0) {
		is_full = true;
		if (upper_log_open(upper_data, upper_index, &options, &u, NULL, NULL) < 0)
			_exit(1);
		is_full = full_for_good;
		if (upper_log_tidy(u, NULL) < 0)
			_exit(2);
		raise(SIGKILL);
	}
	assert_true(wait(&status) > 0);
	assert_true(WIFSIGNALED(status));
}

/* A pending file of the process before that still counts speaks of the index as it is. */
static void what_waits_outlives_another_index(void **state)
{
	unsigned i, full;

	for (full = 0; full < 2; full++) {
		struct upper_log *u = upper_new(BYTES, NULL);
		struct upper_findings found;
		struct err e;
		uint64_t size;

		for (i = 0; i < 60; i++)
			assert_int_equal(upper_log_pwrite(u, "x", 1, i % 3 * 1024, 0, NULL), 0);
		upper_close(u);
		write_and_die(NULL);
		size = upper_file_size(upper_index);
		tidy_and_die(full);
		assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
		check_at(u, 100, "flushed");
		check_at(u, 2000, "acknowledged");
		upper_close(u);
		/* It was made anew, once there was space. */
		if (!full)
			assert_true(upper_file_size(upper_index) < size);
	}
}

/* The reference went on with the log before we did. */
static void another_program_is_not_undone(void **state)
{
	struct format_entry zeroes = { .start = 3, .sectors = 1, .moffset = 8, .zeroed = true };
	struct upper_findings found;
	struct upper_log *u;
	uint8_t raw[FORMAT_ENTRY];
	struct err e;
	int fd;

	upper_close(upper_new(BYTES, NULL));
	write_and_die(NULL);
	format_encode_entry(&zeroes, raw);
	fd = open(upper_index, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, raw, sizeof raw), sizeof raw);
	close(fd);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
	assert_int_equal(found.pending_records, 0);
	check_at(u, 100, "flushed");
	check_at(u, 2000, "");
	upper_close(u);
}

/* The file system went down: the record is there, and what it points at is not. */
static void a_record_without_its_data_does_not_count(void **state)
{
	struct format_entry entry;
	struct upper_findings found;
	struct segment piece;
	struct upper_log *u;
	uint8_t zeroes[512] = { 0 }, *old, byte;
	struct err e;
	size_t n;
	int fd;

	upper_close(upper_new(BYTES, NULL));
	write_and_die(NULL);
	old = read_pending(&n);
	entry = format_parse_entry(old + 256 + 32); /* the first is flushed */
	free(old);
	fd = open(upper_data, O_WRONLY);
	assert_int_equal(pwrite(fd, zeroes, 512, (off_t)entry.moffset * 512), 512);
	close(fd);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
	assert_int_equal(found.pending_records, 0);
	check_at(u, 100, "flushed");
	assert_int_equal(upper_log_pread(u, &byte, 1, 2000, NULL), 0);
	assert_int_equal(byte, 0);
	/* Not mapped, rather than mapped to nothing. */
	assert_int_equal(upper_log_pieces(u, 3, 1, &piece, 1), 1);
	assert_false(piece.mapped);
	upper_close(u);
}

/* The reference reads no layer of more; it is made all the same. */
static void a_layer_that_the_reference_does_not_read(void **state)
{
	const size_t most = (size_t)FORMAT_REFERENCE_ENTRIES;
	uint8_t *raw = malloc((most + 1) * FORMAT_ENTRY);
	char warning[256];
	uint64_t size;
	size_t i, n;
	struct err e;
	int fd;

	assert_non_null(raw);
	for (i = 0; i <= most; i++) {
		struct format_entry entry = { .start = 2 * i, .sectors = 1, .zeroed = true };

		format_encode_entry(&entry, raw + i * FORMAT_ENTRY);
	}
	for (n = most; n <= most + 1; n++) {
		upper_clear(NULL);
		assert_int_equal(upper_log_create(NULL, upper_data, upper_index,
						  2 * (most + 1) * SECTOR, NULL, NULL, NULL),
				 0);
		fd = open(upper_index, O_WRONLY);
		assert_int_equal(pwrite(fd, raw, n * FORMAT_ENTRY, FORMAT_SPACE), n * FORMAT_ENTRY);
		close(fd);
		loglib_listen();
		if (upper_seal_files(NULL, upper_data, upper_index, &size, &e) < 0)
			fail_msg("%s", e.msg);
		/* Two headers, and the index up to the end of a sector. */
		assert_int_equal(size, 2 * FORMAT_SPACE +
					       (n * FORMAT_ENTRY + SECTOR - 1) / SECTOR * SECTOR);
		snprintf(warning, sizeof warning,
			 "%s: 1000001 mappings: overlaybd itself reads no layer of more than "
			 "1000000\n",
			 upper_data);
		loglib_expect(n > most ? warning : "");
		loglib_expect_none();
	}
	free(raw);
}

static const char *const warnings[] = { "it is empty, but cannot be removed",
					"not rewritten: LSMT index record 31",
					"no space left: it can be read",
					"acknowledged before it died are dropped", NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_names_lead_to_the_same_log),
		cmocka_unit_test(what_lies_beyond_the_disk_stays),
		cmocka_unit_test(a_log_without_a_size_is_compacted),
		cmocka_unit_test(what_was_not_synced_is_not_vouched_for),
		cmocka_unit_test(a_damaged_index_is_not_rewritten),
		cmocka_unit_test(a_full_index_refuses_writes_not_flushes),
		cmocka_unit_test(an_old_pending_file_undoes_nothing),
		cmocka_unit_test(what_waits_outlives_another_index),
		cmocka_unit_test(another_program_is_not_undone),
		cmocka_unit_test(a_record_without_its_data_does_not_count),
		cmocka_unit_test(a_layer_that_the_reference_does_not_read),
	};

	loops_seed();
	leftovers_warnings = warnings;
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
