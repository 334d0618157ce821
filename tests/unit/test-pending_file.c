/* SPDX-License-Identifier: Apache-2.0 */
/* test-pending_file.c - the file of acknowledged records as it is written: each byte of it, and
 * what is left where a write fails. */
#include "tests/unit/pendinglib.h"

#include "tests/unit/fences.h"
#include "tests/unit/loglib.h"

enum {
	MOST = 12000, /* records of the model */
	STEPS = 6000,
};

/* ---- the model ---- */

static struct upper_pending_record records[MOST];
static size_t count;
static struct upper_pending_base base, next_base;
static uint32_t generation;
static struct err untouched = { "untouched" }; /* as what succeeds leaves it */

static void check_header(const uint8_t *raw)
{
	uint8_t want[HEADER] = { 0 };

	memcpy(want, "OBDPEND2", 8);
	le64_put(want + 8, (uint64_t)getpid());
	memcpy(want + 16, BOOT, 36);
	memcpy(want + 52, UUID, 36);
	le64_put(want + 88, base.entries);
	le32_put(want + 96, base.crc);
	le32_put(want + 100, generation);
	le64_put(want + 104, next_base.entries);
	le32_put(want + 112, next_base.crc);
	le64_put(want + 116, base.skip);
	le64_put(want + 124, next_base.skip);
	le32_put(want + 252, crc32c_raw(0, want, 252));
	assert_memory_equal(raw, want, HEADER);
}

static void expect_base(const struct upper_pending_base *got, const struct upper_pending_base *want)
{
	assert_int_equal(got->entries, want->entries);
	assert_int_equal(got->crc, want->crc);
	assert_int_equal(got->skip, want->skip);
}

/* The file holds the model, and is read so. */
static void check_file(void)
{
	const struct memfs_bytes *file = bytes_of("u.pending");
	struct upper_pending_content found;
	uint8_t want[RECORD];
	struct err e;
	size_t i;

	assert_string_equal(untouched.msg, "untouched");
	assert_int_equal(file->n, HEADER + count * RECORD);
	check_header(file->p);
	for (i = 0; i < count; i++) {
		encode_record(&records[i], generation + (uint32_t)i, want);
		if (memcmp(file->p + HEADER + i * RECORD, want, RECORD) != 0)
			fail_msg("record %zu of %zu", i, count);
	}
	assert_int_equal(count_names(), 2);
	assert_int_equal(count_fds(), 2);
	if (upper_pending_read(&memfs_ops, "u.data", UUID, &found, &e) < 0)
		fail_msg("%s", e.msg);
	assert_true(found.is_there);
	assert_false(found.older);
	assert_int_equal(found.pid, getpid());
	assert_int_equal(found.count, count);
	expect_base(&found.base, &base);
	expect_base(&found.next_base, &next_base);
	for (i = 0; i < count; i++) {
		assert_int_equal(found.records[i].map.range, records[i].map.range);
		assert_int_equal(found.records[i].map.target, records[i].map.target);
		assert_int_equal(found.records[i].crc, records[i].crc);
	}
	free(found.records);
	assert_int_equal(count_fds(), 2);
}

static void begin(size_t n)
{
	base = make_base();
	next_base = (struct upper_pending_base){ 0 };
	make_records(records, n);
	count = n;
	generation++;
	assert_int_equal(upper_pending_begin(&pending, &base, records, n, &untouched), 0);
}

static void shorten(size_t from)
{
	base = make_base();
	next_base = (struct upper_pending_base){ 0 };
	count -= from;
	memmove(records, records + from, count * sizeof *records);
	generation++;
	assert_int_equal(upper_pending_shorten(&pending, &base, HEADER + from * RECORD, &untouched),
			 0);
}

static void append(size_t n)
{
	make_records(records + count, n);
	assert_int_equal(upper_pending_append(&pending, records + count, n, &untouched), 0);
	count += n;
}

static void announce(size_t from)
{
	uint64_t unused = loops_random();

	next_base = make_base();
	next_base.skip = unused;
	assert_int_equal(upper_pending_announce(&pending, &next_base, HEADER + from * RECORD, NULL),
			 0);
	next_base.skip = from;
}

static void change(void)
{
	switch (loops_random() % 8) {
	case 0:
		begin((size_t)(loops_random() % 3));
		break;
	case 1:
		shorten((size_t)(loops_random() % (count + 1)));
		break;
	case 2:
		base = make_base();
		next_base = (struct upper_pending_base){ 0 };
		count = 0;
		generation++;
		assert_int_equal(upper_pending_empty(&pending, &base, &untouched), 0);
		break;
	case 3:
		announce((size_t)(loops_random() % (count + 1)));
		break;
	case 4:
		base = next_base;
		next_base = (struct upper_pending_base){ 0 };
		assert_int_equal(upper_pending_adopt(&pending, &untouched), 0);
		break;
	case 5:
		/* As another process left it. */
		le64_put(bytes_of("u.pending")->p + 8, 1);
		assert_int_equal(upper_pending_write_pid(&pending, &untouched), 0);
		break;
	default:
		append((size_t)(loops_random() % 9));
	}
}

/* A data file is open, and a pending file is begun. */
static void start(void)
{
	int data;

	fault.done = 0;
	memfs = memfs_new(1);
	data = memfs_open("u.data", O_RDWR | O_CREAT, 0600);
	assert_int_equal(upper_pending_init(&pending, &memfs_ops, "u.data", data, UUID, &untouched),
			 0);
	assert_int_equal(pending.fd, -1);
	assert_int_equal(pending.like, data);
	assert_string_equal(pending.path, "u.pending");
	assert_string_equal(pending.uuid, UUID);
	assert_string_equal(pending.boot_id, BOOT);
	assert_null(pending.older_path);
	generation = pending.generation;
	begin(0);
	check_file();
}

static void end(void)
{
	upper_pending_release(&pending);
	assert_int_equal(pending.fd, -1);
	assert_int_equal(count_fds(), 1);
	memfs_free(memfs);
}

static void each_byte_is_as_the_format_says(void **state)
{
	unsigned i, steps = loops_count(STEPS);

	assert_int_equal(upper_pending_begins(), HEADER);
	start();
	for (i = 0; i < steps; i++) {
		change();
		assert_int_equal(pending.end, HEADER + count * RECORD);
		assert_int_equal(pending.generation, generation);
		expect_base(&pending.base, &base);
		expect_base(&pending.next_base, &next_base);
		assert_false(pending.unsure || pending.waits);
		check_file();
	}
	end();
}

/* More than are written or copied at once. */
static void many_records_go_in_batches(void **state)
{
	static const size_t counts[] = { 255, 256, 257, 511, 512, 513, 4095, 4096, 4097, 8193 };
	static const size_t left[] = { 4097, 4096, 4095, 257, 256, 255, 1, 0 };
	size_t i;

	start();
	for (i = 0; i < COUNT_OF(counts); i++) {
		begin(counts[i]);
		check_file();
		append(UPPER_PENDING_BATCH);
		check_file();
		shorten(100);
		check_file();
	}
	begin(8193);
	for (i = 0; i < COUNT_OF(left); i++) {
		shorten(count - left[i]);
		check_file();
	}
	end();
}

/* ---- failing ---- */

/* What could not be appended is not there, in part neither. */
static void a_failed_append_leaves_nothing(void **state)
{
	struct upper_pending_record some[3];
	struct err e = { "" };

	start();
	append(2);
	make_records(some, 3);
	for (fault.done = 0; fault.done <= 3 * RECORD; fault.done += 17) {
		fail_once(MEMFS_WRITE, 0);
		assert_int_equal(upper_pending_append(&pending, some, 3, &e), -ENOSPC);
		assert_string_equal(e.msg,
				    "u.pending: writing 96 bytes at 320: No space left on device");
		assert_false(pending.unsure);
		check_file();
	}
	append(1);
	check_file();
	/* Nor can it be cut off: nothing follows it. */
	fail_once(MEMFS_WRITE, 0);
	fail_also(MEMFS_TRUNCATE);
	assert_int_equal(upper_pending_append(&pending, some, 3, &e), -ENOSPC);
	assert_true(pending.unsure);
	assert_int_equal(pending.end, HEADER + count * RECORD);
	assert_int_equal(upper_pending_append(&pending, some, 1, &e), -EIO);
	assert_string_equal(e.msg, "u.pending: an earlier write failed");
	shorten(1);
	assert_false(pending.unsure);
	append(1);
	check_file();
	end();
}

/* Replacing the file succeeds as a whole or changes nothing. */
static void a_failed_beginning_changes_nothing(void **state)
{
	static const struct {
		enum memfs_kind kind;
		unsigned after;
		const char *said;
	} faults[] = {
		{ MEMFS_OPEN, 0, "making a file beside u.pending: No space left on device" },
		{ MEMFS_WRITE, 0,
		  "u.pending.tmp.*: writing 256 bytes at 0: No space left on device" },
		{ MEMFS_WRITE, 1,
		  "u.pending.tmp.*: writing 64 bytes at 256: No space left on device" },
		{ MEMFS_RENAME, 0, "u.pending.tmp.*: u.pending: No space left on device" },
	};
	struct upper_pending_base another = { 5, 6, 7 };
	struct upper_pending_record some[2];
	struct err e = { "" };
	size_t i, shortens;
	char *at;
	int r;

	start();
	append(3);
	make_records(some, 2);
	for (i = 0; i < COUNT_OF(faults); i++)
		for (shortens = 0; shortens < 2; shortens++) {
			fail_once(faults[i].kind, faults[i].after);
			r = shortens
				    ? upper_pending_shorten(&pending, &another, HEADER + RECORD, &e)
				    : upper_pending_begin(&pending, &another, some, 2, &e);
			assert_int_equal(r, -ENOSPC);
			at = strstr(e.msg, ".tmp.");
			if (at)
				memmove(at + 6, at + 21, strlen(at + 21) + 1), at[5] = '*';
			assert_string_equal(e.msg, faults[i].said);
			assert_int_equal(pending.generation, generation);
			check_file();
		}
	/* A record that is damaged is not copied. */
	bytes_of("u.pending")->p[HEADER + 2 * RECORD] ^= 1;
	assert_int_equal(upper_pending_shorten(&pending, &another, HEADER + RECORD, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, ": record 2 is damaged"));
	assert_int_equal(count_names(), 2);
	bytes_of("u.pending")->p[HEADER + 2 * RECORD] ^= 1;
	check_file();
	end();
}

static void what_fails_in_place_is_not_built_on(void **state)
{
	struct upper_pending_base another = { 5, 6, 7 };
	struct upper_pending_record some;
	struct err e = { "" };

	start();
	append(3);
	fail_once(MEMFS_TRUNCATE, 0);
	assert_int_equal(upper_pending_empty(&pending, &another, &e), -ENOSPC);
	assert_string_equal(e.msg, "u.pending: No space left on device");
	assert_false(pending.unsure);
	check_file();
	/* Empty, and still of the old base. */
	fail_once(MEMFS_WRITE, 0);
	assert_int_equal(upper_pending_empty(&pending, &another, &e), -ENOSPC);
	assert_string_equal(e.msg, "u.pending: writing 256 bytes at 0: No space left on device");
	assert_true(pending.unsure);
	assert_int_equal(pending.end, HEADER);
	count = 0;
	check_file();
	make_records(&some, 1);
	assert_int_equal(upper_pending_append(&pending, &some, 1, &e), -EIO);
	base = another;
	generation++;
	assert_int_equal(upper_pending_empty(&pending, &base, &e), 0);
	assert_false(pending.unsure);
	append(2);
	check_file();
	/* A next base. */
	fail_once(MEMFS_WRITE, 0);
	assert_int_equal(upper_pending_announce(&pending, &another, HEADER, &e), -ENOSPC);
	assert_string_equal(e.msg, "u.pending: writing 256 bytes at 0: No space left on device");
	assert_false(pending.unsure);
	check_file();
	announce(1);
	check_file();
	fail_once(MEMFS_WRITE, 0);
	assert_int_equal(upper_pending_adopt(&pending, &e), -ENOSPC);
	assert_true(pending.unsure);
	check_file(); /* both are there, as before */
	base = next_base;
	next_base = (struct upper_pending_base){ 0 };
	assert_int_equal(upper_pending_write_pid(&pending, &e), 0);
	assert_true(pending.unsure);
	check_file();
	fail_once(MEMFS_WRITE, 0);
	assert_int_equal(upper_pending_write_pid(&pending, &e), -ENOSPC);
	end();
}

/* Without a file there is nothing to write to. */
static void what_was_dropped_is_not_written_to(void **state)
{
	struct upper_pending_base another = { 5, 6, 7 };
	struct upper_pending_record some;
	struct err e = { "" };

	start();
	append(1);
	loglib_listen();
	assert_int_equal(upper_pending_drop(&pending, &untouched), 0);
	assert_string_equal(untouched.msg, "untouched");
	loglib_expect_none();
	assert_int_equal(pending.fd, -1);
	assert_int_equal(count_fds(), 1);
	assert_null(memfs_find("u.pending"));
	make_records(&some, 1);
	assert_int_equal(upper_pending_append(&pending, &some, 1, &e), -EIO);
	assert_string_equal(e.msg, "u.pending: an earlier write failed");
	assert_int_equal(upper_pending_empty(&pending, &another, &e), 0);
	assert_int_equal(upper_pending_announce(&pending, &another, HEADER, &e), 0);
	assert_int_equal(upper_pending_adopt(&pending, &e), 0);
	assert_int_equal(upper_pending_write_pid(&pending, &e), 0);
	assert_int_equal(count_names(), 1);
	/* Nor is one removed that is not ours. */
	put_file("u.pending", (const uint8_t *)"x", 1);
	assert_int_equal(upper_pending_drop(&pending, &e), 0);
	assert_non_null(memfs_find("u.pending"));
	/* Unless it is that of the process before, which waits. */
	pending.waits = true;
	fail_once(MEMFS_UNLINK, 0);
	assert_int_equal(upper_pending_drop(&pending, &e), -ENOSPC);
	assert_string_equal(e.msg, "u.pending: cannot be removed: No space left on device");
	assert_false(pending.waits);
	pending.waits = true;
	assert_int_equal(upper_pending_drop(&pending, &e), 0);
	assert_null(memfs_find("u.pending"));
	pending.waits = true;
	assert_int_equal(upper_pending_drop(&pending, &e), 0); /* it is gone already */
	end();
}

static void dropping_empties_or_removes(void **state)
{
	static const struct {
		bool no_unlink, no_truncate;
		int r;
		const char *said, *warned;
	} cases[] = {
		{ false, false, 0, "", "" },
		{ false, true, 0, "", "" },
		{ true, false, 0, "",
		  "u.pending: it is empty, but cannot be removed: No space left on device\n" },
		{ true, true, -ENOSPC, "u.pending: cannot be removed: No space left on device",
		  "" },
	};
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct err e = { "" };

		start();
		append(2);
		fail_once(MEMFS_UNLINK, cases[i].no_unlink ? 0 : 99);
		if (cases[i].no_truncate)
			fail_also(MEMFS_TRUNCATE);
		loglib_listen();
		assert_int_equal(upper_pending_drop(&pending, &e), cases[i].r);
		assert_string_equal(e.msg, cases[i].said);
		loglib_expect(cases[i].warned);
		loglib_expect_none();
		assert_int_equal(memfs_find("u.pending") != NULL, cases[i].no_unlink);
		if (cases[i].no_unlink)
			assert_int_equal(bytes_of("u.pending")->n,
					 cases[i].no_truncate ? HEADER + 2 * RECORD : HEADER);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_byte_is_as_the_format_says),
		cmocka_unit_test(many_records_go_in_batches),
		cmocka_unit_test(a_failed_append_leaves_nothing),
		cmocka_unit_test(a_failed_beginning_changes_nothing),
		cmocka_unit_test(what_fails_in_place_is_not_built_on),
		cmocka_unit_test(what_was_dropped_is_not_written_to),
		cmocka_unit_test(dropping_empties_or_removes),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
