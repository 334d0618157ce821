/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_pending.c - which of the writes that a killed process acknowledged count: as its
 * pending file says of the index and of the data, and as far as it reached the disk. */
#include "tests/unit/upperlib.h"

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/format.h"
#include "tests/unit/loglib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SECTORS = 64,
	BYTES = SECTORS * 512,
	RECORDS = 4, /* that were acknowledged: sector 2 * i is letter 'a' + i */
	HEADER = 256,
	RECORD = 32,
	END = HEADER + RECORDS * RECORD,
	/* In the header. */
	BASE = 88,
	BASE_CRC = 96,
	NEXT = 104,
	NEXT_CRC = 112,
	SKIP = 116,
	NEXT_SKIP = 124,
	CRC = 252,
};

static pid_t child;

/* Processes die here, the power stays: nothing waits for the disk. */
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fsync(int fd)
{
	return 0;
}

int __wrap_fdatasync(int fd)
{
	return 0;
}

/* Leaves a log of a killed process: one record was flushed by an earlier one. */
static void make_log(void)
{
	struct upper_log *u = upper_new(BYTES, &upper_plain);
	char bytes[512];
	uint64_t i;

	memset(bytes, 'z', sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, 512, 40 * 512, 0, NULL), 0);
	upper_close(u);
	child = fork();
	if (child == 0) {
		if (upper_log_open(upper_data, upper_index, &upper_plain, &u, NULL, NULL) < 0)
			_exit(1);
		for (i = 0; i < RECORDS; i++) {
			memset(bytes, 'a' + (int)i, sizeof bytes);
			if (upper_log_pwrite(u, bytes, 512, 2 * i * 512, 0, NULL) < 0)
				_exit(1);
		}
		raise(SIGKILL);
	}
	assert_int_equal(waitpid(child, &(int){ 0 }, 0), child);
	assert_int_equal(upper_file_size(upper_pending), END);
}

static void read_at(const char *path, void *raw, size_t n, off_t at)
{
	int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, raw, n, at), n);
	close(fd);
}

static void write_at(const char *path, const void *raw, size_t n, off_t at)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, raw, n, at), n);
	close(fd);
}

/* Records [first, end) count, as a reader and as the next process see it. */
static void expect(const char *what, size_t first, size_t end, size_t stale, size_t lost)
{
	struct upper_findings found;
	struct layer layer;
	struct upper_log *u;
	uint8_t bytes[512];
	struct err e;
	size_t i;

	if (upper_open_read_only(upper_data, upper_index, 0, &layer, &found, &e) < 0)
		fail_msg("%s: %s", what, e.msg);
	if (found.pending_records != end - first || found.stale_records != stale ||
	    found.lost_records != lost || layer.run.count != end - first + 1)
		fail_msg("%s: a reader finds %d, %d stale, %d lost", what,
			 (int)found.pending_records, (int)found.stale_records,
			 (int)found.lost_records);
	layer_close(&layer);
	if (upper_log_open(upper_data, upper_index, &upper_plain, &u, &found, &e) < 0)
		fail_msg("%s: %s", what, e.msg);
	if (found.pending_records != end - first)
		fail_msg("%s: %d count", what, (int)found.pending_records);
	for (i = 0; i < RECORDS; i++) {
		assert_int_equal(upper_log_pread(u, bytes, 512, 2 * i * 512, NULL), 0);
		if (bytes[511] != (i >= first && i < end ? 'a' + (int)i : 0))
			fail_msg("%s: record %zu is '%c'", what, i, bytes[511]);
	}
	upper_close(u);
}

/* A file system that went down has the file's size, and zeroes from some record on. */
static void what_never_reached_the_disk_does_not_count(void **state)
{
	static const uint8_t zeroes[RECORD];
	char what[64];
	size_t k;

	loglib_listen();
	for (k = 0; k < RECORDS; k++) {
		make_log();
		snprintf(what, sizeof what, "record %zu is zeroes", k);
		write_at(upper_pending, zeroes, RECORD, (off_t)(HEADER + k * RECORD));
		expect(what, 0, k, 0, 0);
	}
	for (k = 0; k <= RECORDS; k++) {
		make_log();
		snprintf(what, sizeof what, "%zu records and a part", k);
		assert_int_equal(truncate(upper_pending,
					  (off_t)(HEADER + k * RECORD + (k < RECORDS ? 31 : 0))),
				 0);
		expect(what, 0, k, 0, 0);
	}
	loglib_expect_none();
}

/* What later versions may use is zero. */
static void the_rest_of_the_header_is_zero(void **state)
{
	static const uint8_t zeroes[HEADER];
	uint8_t raw[HEADER];

	make_log();
	read_at(upper_pending, raw, HEADER, 0);
	assert_memory_equal(raw + NEXT, zeroes, CRC - NEXT);
}

/* A file that ends in its header, and one that is no such file. */
static void half_a_header_is_refused(void **state)
{
	static const char damaged[] =
		"its header is damaged: 'overlaybd repair' drops what it holds";
	static const char other[] = "is no file of acknowledged writes, or is damaged: move it "
				    "away, or 'overlaybd repair' drops what it holds";
	static const struct {
		off_t size;
		const char *why;
	} cases[] = { { HEADER - 1, damaged }, { 8, damaged }, { 7, other } };
	struct upper_log *u;
	char want[512];
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log();
		assert_int_equal(truncate(upper_pending, cases[i].size), 0);
		snprintf(want, sizeof want, "%s, %s: %s: %s", upper_data, upper_index,
			 upper_pending, cases[i].why);
		assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e),
				 -EBADMSG);
		assert_string_equal(e.msg, want);
	}
}

/* ---- what it says of the index ---- */

enum base_kind {
	RIGHT,
	WRONG_CRC,
	TOO_LONG, /* more entries than the index has */
	NONE,
};

static void put_base(uint8_t raw[HEADER], enum base_kind kind, uint64_t skip, bool next)
{
	uint64_t entries = le64_get(raw + BASE);
	uint32_t crc = le32_get(raw + BASE_CRC);

	assert_true(entries > 0);
	entries = kind == NONE ? 0 : kind == TOO_LONG ? 100 : entries;
	crc = kind == RIGHT ? crc : kind == NONE ? 0 : crc ^ 1;
	le64_put(raw + (next ? NEXT : BASE), entries);
	le32_put(raw + (next ? NEXT_CRC : BASE_CRC), crc);
	le64_put(raw + (next ? NEXT_SKIP : SKIP), skip);
}

static void forge_bases(enum base_kind next, uint64_t next_skip, enum base_kind base, uint64_t skip)
{
	uint8_t raw[HEADER];

	read_at(upper_pending, raw, HEADER, 0);
	put_base(raw, next, next_skip, true);
	put_base(raw, base, skip, false);
	le32_put(raw + CRC, crc32c_raw(0, raw, CRC));
	write_at(upper_pending, raw, HEADER, 0);
}

static void the_index_is_as_it_says(void **state)
{
	static const struct {
		enum base_kind next, base;
		uint64_t next_skip, skip;
		size_t first, end, stale;
	} cases[] = {
		{ NONE, RIGHT, 0, 0, 0, RECORDS, 0 },
		{ NONE, RIGHT, 0, 1, 1, RECORDS, 0 },
		{ NONE, RIGHT, 0, RECORDS, RECORDS, RECORDS, 0 },
		{ NONE, RIGHT, 0, RECORDS + 1, 0, 0, RECORDS },
		{ NONE, WRONG_CRC, 0, 0, 0, 0, RECORDS },
		{ NONE, TOO_LONG, 0, 0, 0, 0, RECORDS },
		{ RIGHT, WRONG_CRC, 0, 0, 0, RECORDS, 0 },
		{ RIGHT, RIGHT, 2, 1, 2, RECORDS, 0 }, /* the next one is asked first */
		{ WRONG_CRC, RIGHT, 2, 1, 1, RECORDS, 0 },
		{ TOO_LONG, RIGHT, 2, 1, 1, RECORDS, 0 },
		{ RIGHT, RIGHT, RECORDS + 1, 1, 1, RECORDS, 0 },
		{ WRONG_CRC, WRONG_CRC, 0, 0, 0, 0, RECORDS },
	};
	char what[600];
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log();
		forge_bases(cases[i].next, cases[i].next_skip, cases[i].base, cases[i].skip);
		snprintf(what, sizeof what, "case %zu", i);
		loglib_listen();
		expect(what, cases[i].first, cases[i].end, cases[i].stale, 0);
		snprintf(what, sizeof what,
			 "%s: %d writes that process %d acknowledged before it died are dropped: "
			 "the layer was written to since, or its file system went down\n",
			 upper_data, RECORDS, (int)child);
		loglib_expect(cases[i].stale > 0 ? what : "");
		loglib_expect_none();
	}
}

/* A write whose data are not what they were, and all behind it. */
static void the_data_are_as_it_says(void **state)
{
	uint8_t raw[RECORD];
	char what[600];
	size_t k;

	for (k = 0; k < RECORDS; k++) {
		make_log();
		read_at(upper_pending, raw, RECORD, (off_t)(HEADER + k * RECORD));
		write_at(upper_data, "x", 1,
			 (off_t)(le64_get(raw + 8) & ((UINT64_C(1) << 55) - 1)) * 512 + 511);
		snprintf(what, sizeof what, "data of record %zu", k);
		loglib_listen();
		expect(what, 0, k, 0, RECORDS - k);
		snprintf(what, sizeof what,
			 "%s: %zu writes that process %d acknowledged before it died are dropped: "
			 "their data are gone, as when the file system went down\n",
			 upper_data, RECORDS - k, (int)child);
		loglib_expect(what);
		loglib_expect_none();
	}
}

/* ---- looking while a server writes ---- */

static unsigned looks; /* times that the index was opened */
static void (*before_look)(unsigned look);

int __real_openat64(int folder, const char *name, int flags, ...);
int __wrap_openat64(int folder, const char *name, int flags, ...);
int __wrap_openat64(int folder, const char *name, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (before_look && strcmp(name, "u.index") == 0 && !(flags & O_PATH))
		before_look(looks++);
	return __real_openat64(folder, name, flags, mode);
}

static void change_nothing(unsigned look)
{
}

/* Each look finds one acknowledged write less. */
static void shorten_pending(unsigned look)
{
	assert_int_equal(truncate(upper_pending, END - (off_t)look * RECORD), 0);
}

/* As many at all looks but the first. */
static void shorten_pending_once(unsigned look)
{
	if (look == 1)
		shorten_pending(look);
}

/* The last write is there at every other look. */
static void hide_the_last(unsigned look)
{
	static const uint8_t zeroes[RECORD];
	static uint8_t last[RECORD];

	if (look == 0)
		read_at(upper_pending, last, RECORD, END - RECORD);
	write_at(upper_pending, look % 2 ? zeroes : last, RECORD, END - RECORD);
}

/* Each finds a longer index, which a sparse layer must not have. */
static void lengthen_index(unsigned look)
{
	assert_int_equal(truncate(upper_index, (off_t)look + 1), 0);
}

static void lengthen_index_twice(unsigned look)
{
	assert_int_equal(truncate(upper_index, look < 2 ? (off_t)look + 1 : 0), 0);
}

static void make_stale(void)
{
	make_log();
	forge_bases(NONE, 0, WRONG_CRC, 0);
}

static void make_lost(void)
{
	make_log();
	write_at(upper_data, "x", 1, 4096 + 512); /* the first of those acknowledged */
}

static void make_sparse(void)
{
	struct format_header h;
	uint8_t raw[FORMAT_SPACE];

	upper_clear(NULL);
	assert_int_equal(upper_log_make_header(&h, BYTES, NULL, NULL, NULL), 0);
	h.flags |= FORMAT_SPARSE;
	format_encode_header(&h, raw);
	assert_int_equal(io_replace_file(upper_data, raw, sizeof raw, NULL), 0);
	assert_int_equal(truncate(upper_data, FORMAT_SPACE + BYTES), 0);
	assert_int_equal(io_replace_file(upper_index, "", 0, NULL), 0);
}

/* At the first look and the third: never twice in a row. */
static void damage_at_times(unsigned look)
{
	uint8_t byte;

	if (look > 3)
		return;
	before_look = NULL; /* this is none */
	read_at(upper_index, &byte, 1, 57); /* of its uuid */
	byte ^= 1;
	write_at(upper_index, &byte, 1, 57);
	before_look = damage_at_times;
}

/* While its index is opened, by which it cannot be told yet. */
static void become_sparse(unsigned look)
{
	if (look == 1)
		make_sparse();
}

static void make_without_index(void)
{
	make_log();
	unlink(upper_index);
}

static void make_damaged(void)
{
	make_sparse();
	assert_int_equal(io_replace_file(upper_index, "abc", 3, NULL), 0);
}

static void what_changes_is_looked_at_again(void **state)
{
	static const struct {
		const char *what;
		void (*make)(void);
		void (*before)(unsigned look);
		unsigned looks;
		int r;
		size_t stale, lost;
		const char *said;
	} cases[] = {
		{ "whole", make_log, change_nothing, 1, 0, 0, 0, "" },
		{ "stale", make_stale, change_nothing, 2, 0, RECORDS, 0, "" },
		{ "lost", make_lost, change_nothing, 2, 0, 0, RECORDS, "" },
		{ "fewer stale", make_stale, shorten_pending_once, 3, 0, RECORDS - 1, 0, "" },
		{ "fewer lost", make_lost, shorten_pending_once, 3, 0, 0, RECORDS - 1, "" },
		{ "no more stale", make_stale, shorten_pending, RECORDS + 1, 0, 0, 0, "" },
		{ "no more lost", make_lost, shorten_pending, RECORDS + 1, 0, 0, 0, "" },
		{ "always another stale", make_stale, hide_the_last, 20, 0, RECORDS - 1, 0, "" },
		{ "always another lost", make_lost, hide_the_last, 20, 0, 0, RECORDS - 1, "" },
		{ "damaged at times", make_stale, damage_at_times, 5, 0, RECORDS, 0, "" },
		{ "becomes another", make_stale, become_sparse, 3, 0, 0, 0, "" },
		{ "no index", make_without_index, change_nothing, 1, -ENOENT, 0, 0,
		  "No such file or directory" },
		{ "damaged", make_damaged, change_nothing, 2, -EBADMSG, 0, 0,
		  "a sparse layer's index file has 3 bytes, not 0" },
		{ "damaged for a while", make_sparse, lengthen_index_twice, 3, 0, 0, 0, "" },
		{ "always another", make_sparse, lengthen_index, 20, -EBADMSG, 0, 0,
		  "a sparse layer's index file has 20 bytes, not 0" },
	};
	struct upper_findings found;
	struct layer layer;
	struct err e;
	size_t i;
	int r;

	for (i = 0; i < COUNT_OF(cases); i++) {
		cases[i].make();
		looks = 0;
		before_look = cases[i].before;
		e.msg[0] = '\0';
		r = upper_open_read_only(upper_data, upper_index, 0, &layer, &found, &e);
		before_look = NULL;
		if (r == 0)
			layer_close(&layer);
		if (r != cases[i].r || looks != cases[i].looks || !strstr(e.msg, cases[i].said))
			fail_msg("%s: %d after %u looks: %s", cases[i].what, r, looks, e.msg);
		if (r == 0 &&
		    (found.stale_records != cases[i].stale || found.lost_records != cases[i].lost))
			fail_msg("%s: %d stale, %d lost", cases[i].what, (int)found.stale_records,
				 (int)found.lost_records);
	}
}

/* ---- how long it grows ---- */

enum change {
	WRITE,
	ZERO,
	TRIM,
};

/* A client that never flushes: the record that makes the file 32 times pending_bytes long is
 * followed by a flush, which empties it. */
static void it_is_flushed_when_it_is_long(void **state)
{
	struct upper_log_options options = { .pending_bytes = 16 };
	const uint64_t last = 32 * 16;
	enum change kind;
	struct upper_log *u;
	uint64_t size, i;
	int r;

	for (kind = WRITE; kind <= TRIM; kind++) {
		u = upper_new(BYTES, &options);
		for (size = HEADER + RECORD, i = 0; size <= last; size += RECORD, i += 2) {
			r = kind == WRITE  ? upper_log_pwrite(u, "x", 1, i * 512, 0, NULL)
			    : kind == ZERO ? upper_log_zero(u, i * 512, 512, 0, NULL)
					   : upper_log_trim(u, i * 512, 512, 0, NULL);
			assert_int_equal(r, 0);
			assert_int_equal(upper_file_size(upper_pending),
					 size < last ? size : HEADER);
		}
		upper_close(u);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_never_reached_the_disk_does_not_count),
		cmocka_unit_test(the_rest_of_the_header_is_zero),
		cmocka_unit_test(half_a_header_is_refused),
		cmocka_unit_test(the_index_is_as_it_says),
		cmocka_unit_test(the_data_are_as_it_says),
		cmocka_unit_test(what_changes_is_looked_at_again),
		cmocka_unit_test(it_is_flushed_when_it_is_long),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
