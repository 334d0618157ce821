/* SPDX-License-Identifier: Apache-2.0 */
/* test-pending_found.c - what lies under the names of a pending file: what is read of it, what is
 * refused, and what is removed. */
#include "tests/unit/pendinglib.h"

#include <sys/random.h>

#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"

enum {
	HEADER_1 = 128, /* of the older form */
	RECORD_1 = 16,
	RECORDS = 3,
	ENTRIES = 0x5a, /* of the base */
	TEXT = 400,
};

static struct upper_pending_record records[RECORDS];

static ssize_t random_result = -1; /* negative: as the system says */

ssize_t __real_getrandom(void *buf, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags);

ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags)
{
	if (random_result < 0)
		return __real_getrandom(buf, n, flags);
	errno = ENOSYS;
	return random_result;
}

/* ---- what is found ---- */

static size_t make_file(uint8_t *raw, const char *uuid, size_t n)
{
	size_t i;

	memset(raw, 0, HEADER);
	memcpy(raw, "OBDPEND2", 8);
	le64_put(raw + 8, 4711);
	memcpy(raw + 16, BOOT, 36);
	memcpy(raw + 52, uuid, 36);
	le64_put(raw + 88, ENTRIES);
	le32_put(raw + 100, 77);
	le32_put(raw + 252, crc32c_raw(0, raw, 252));
	make_records(records, n);
	for (i = 0; i < n; i++)
		encode_record(&records[i], 77 + (uint32_t)i, raw + HEADER + i * RECORD);
	return HEADER + n * RECORD;
}

/* Of the older form. */
static size_t make_older(uint8_t *raw, const char *uuid, size_t n)
{
	uint8_t record[RECORD];
	size_t i;

	memset(raw, 0, HEADER_1);
	memcpy(raw, "OBDPEND1", 8);
	le64_put(raw + 8, 4712);
	memcpy(raw + 16, BOOT, 36);
	memcpy(raw + 52, uuid, 36);
	memset(raw + 88, 'x', 36); /* it is not used */
	le32_put(raw + 124, crc32c_raw(0, raw, 124));
	make_records(records, n);
	for (i = 0; i < n; i++) {
		records[i].crc = 0; /* it has none */
		encode_record(&records[i], 0, record);
		memcpy(raw + HEADER_1 + i * RECORD_1, record, RECORD_1);
	}
	return HEADER_1 + n * RECORD_1;
}

enum { ROOM = HEADER + 10 * RECORD };

/* How a file with 3 records is changed before it is read. */
static const struct found {
	const char *what;
	bool older;
	size_t at; /* this byte becomes `value`; of the header, with a new CRC */
	uint8_t value;
	bool sums; /* the record's CRC is made to match */
	long size; /* more bytes, or fewer */
	const char *uuid;
	int r;
	bool there;
	size_t count;
	const char *said;
} finds[] = {
	{ "whole", false, 250, 0, false, 0, UUID, 0, true, 3, "" },
	{ "a part of a record", false, 250, 0, false, 31, UUID, 0, true, 3, "" },
	{ "one cut", false, 250, 0, false, -1, UUID, 0, true, 2, "" },
	{ "all cut", false, 250, 0, false, -96, UUID, 0, true, 0, "" },
	{ "zeroes behind", false, 250, 0, false, 64, UUID, 0, true, 3, "" },
	{ "another case", false, 61, '6', false, 0, "01234567-69ab-4def-8123-456789abcdef", 0, true,
	  3, "" },
	{ "another uuid", false, 61, '6', false, 0, UUID, -EBADMSG, false, 0,
	  "holds acknowledged writes of another layer, 01234567-69AB-4DEF-8123-456789ABCDEF: move "
	  "it away" },
	{ "another boot", false, 16, '1', false, 0, UUID, 0, false, 0, "" },
	{ "another magic", false, 7, '3', false, 0, UUID, -EBADMSG, false, 0,
	  "is no file of acknowledged writes, or is damaged: move it away, or 'overlaybd repair' "
	  "drops what it holds" },
	{ "record 0", false, HEADER + 20, 1, false, 0, UUID, -EBADMSG, false, 0,
	  "record 0 of 3 is damaged: 'overlaybd repair' drops what it holds" },
	{ "record 2", false, HEADER + 2 * RECORD + 27, 1, false, 0, UUID, -EBADMSG, false, 0,
	  "record 2 of 3 is damaged: 'overlaybd repair' drops what it holds" },
	{ "a rule", false, HEADER + RECORD + 14, 0x7f, true, 0, UUID, -EBADMSG, false, 0,
	  "record 1 of 3 is damaged: 'overlaybd repair' drops what it holds" },
	{ "older", true, 120, 0, false, 0, UUID, 0, true, 3, "" },
	{ "older and more", true, 120, 0, false, 15, UUID, 0, true, 3, "" },
	{ "older and fewer", true, 120, 0, false, -1, UUID, 0, true, 2, "" },
	{ "older and none", true, 120, 0, false, -48, UUID, 0, true, 0, "" },
	{ "older, another boot", true, 16, '1', false, 0, UUID, 0, false, 0, "" },
	{ "an older rule", true, HEADER_1 + RECORD_1 + 14, 0x7f, false, 0, UUID, -EBADMSG, false, 0,
	  "record 1 of 3 is damaged: 'overlaybd repair' drops what it holds" },
};

static void put_found(const struct found *f, const char *name)
{
	size_t header = f->older ? HEADER_1 : HEADER, n;
	uint8_t raw[ROOM] = { 0 };

	do
		n = f->older ? make_older(raw, UUID, 3) : make_file(raw, UUID, 3);
	while (f->at >= header && raw[f->at] == f->value);
	raw[f->at] = f->value;
	if (f->at < header - 4)
		le32_put(raw + header - 4, crc32c_raw(0, raw, header - 4));
	if (f->sums)
		le32_put(raw + HEADER + RECORD + 28, crc32c_raw(78, raw + HEADER + RECORD, 28));
	put_file(name, raw, (size_t)((long)n + f->size));
}

static void a_file_is_read_or_refused(void **state)
{
	struct upper_pending_content found;
	char want[TEXT];
	size_t i, k;
	int r;

	for (i = 0; i < COUNT_OF(finds); i++) {
		const struct found *f = &finds[i];
		struct err e = { "" };

		memfs = memfs_new(1);
		put_found(f, "u.pending");
		memset(&found, 0xff, sizeof found);
		r = upper_pending_read(&memfs_ops, "u.data", f->uuid, &found, &e);
		snprintf(want, sizeof want, "%s%s", r < 0 ? "u.pending: " : "", f->said);
		if (r != f->r || strcmp(e.msg, want) != 0)
			fail_msg("%s: %d '%s'", f->what, r, e.msg);
		if (found.is_there != f->there || found.count != f->count)
			fail_msg("%s: %zu records", f->what, found.count);
		if (!found.is_there)
			assert_null(found.records);
		assert_int_equal(found.older, f->there && f->older);
		assert_int_equal(found.pid, !f->there ? 0 : f->older ? 4712 : 4711);
		assert_int_equal(found.base.entries, f->there && !f->older ? ENTRIES : 0);
		assert_int_equal(found.base.crc + found.base.skip + found.next_base.entries, 0);
		for (k = 0; k < found.count; k++) {
			assert_int_equal(found.records[k].map.range, records[k].map.range);
			assert_int_equal(found.records[k].map.target, records[k].map.target);
			assert_int_equal(found.records[k].crc, records[k].crc);
		}
		free(found.records);
		assert_int_equal(count_fds(), 0);
		memfs_free(memfs);
	}
}

/* Each byte of a header and of a record counts. */
static void a_byte_that_changed_is_found(void **state)
{
	struct upper_pending_content found;
	uint8_t raw[ROOM];
	size_t i, n, older;

	for (older = 0; older < 2; older++) {
		memfs = memfs_new(1);
		n = older ? make_older(raw, UUID, 1) : make_file(raw, UUID, 1);
		for (i = 0; i < (older ? HEADER_1 : n); i++) {
			raw[i] ^= 0x10;
			put_file("u.pending", raw, n);
			raw[i] ^= 0x10;
			if (upper_pending_read(&memfs_ops, "u.data", UUID, &found, NULL) !=
			    -EBADMSG)
				fail_msg("byte %zu", i);
			assert_null(found.records);
			assert_false(found.is_there);
		}
		memfs_free(memfs);
	}
}

static uint64_t fake_size;

static int say_size(int fd, uint64_t *size)
{
	*size = fake_size;
	return 0;
}

/* May fail, as memfs_true_name does not. */
static char *copy_name(const char *path)
{
	return strdup(path);
}

static void too_many_records_are_refused(void **state)
{
	struct file_ops ops = memfs_ops;
	struct upper_pending_content found;
	struct err e = { "" };
	uint8_t raw[ROOM];

	memfs = memfs_new(1);
	put_file("u.pending", raw, make_file(raw, UUID, 1));
	ops.size = say_size;
	ops.true_name = copy_name;
	fake_size = HEADER + (FORMAT_MAX_ENTRIES + 1) * RECORD;
	assert_int_equal(upper_pending_read(&ops, "u.data", UUID, &found, &e), -EFBIG);
	assert_string_equal(e.msg, "u.pending: 67108865 records, more than 67108864");
	fake_size -= RECORD;
	allocs_left = 4; /* two names */
	assert_int_equal(upper_pending_read(&ops, "u.data", UUID, &found, &e), -ENOMEM);
	allocs_left = -1;
	assert_string_equal(e.msg, "u.pending: out of memory for 67108864 records");
	fake_size = HEADER + 2 * RECORD; /* it was cut meanwhile */
	assert_int_equal(upper_pending_read(&ops, "u.data", UUID, &found, &e), -EIO);
	assert_string_equal(e.msg, "u.pending: reading 64 bytes at 256: the file ends at 288");
	assert_int_equal(count_fds(), 0);
	memfs_free(memfs);
}

/* ---- names ---- */

/* What may lie under a name of the pending file. */
enum content {
	NOTHING,
	WHOLE, /* of this log */
	OF_OTHER,
	DAMAGED, /* but for magic and uuid */
	ONLY_MAGIC,
	ONLY_UUID,
	ONLY_OTHERS_UUID,
	SHORT_MAGIC,
	ZEROES,
	EMPTY,
	LETTER, /* somebody's */
	OLDER,
	OLDER_OTHER,
	OLDER_MAGIC,
	OLDER_SHORT,
	OLDER_DAMAGED,
	CONTENTS,
};

static void put_content(const char *name, enum content c)
{
	uint8_t raw[ROOM] = { 0 };
	size_t n = c >= OLDER ? make_older(raw, c == OLDER_OTHER ? OTHER : UUID, 1)
			      : make_file(raw,
					  c == OF_OTHER || c == ONLY_OTHERS_UUID ? OTHER : UUID, 1);

	if (c == NOTHING)
		return;
	if (c == DAMAGED || c == ONLY_MAGIC || c == ONLY_UUID)
		raw[140] ^= 1;
	if (c == ONLY_MAGIC)
		memset(raw + 52, 'x', 36);
	if (c == ONLY_UUID || c == ONLY_OTHERS_UUID || c == OLDER_MAGIC)
		raw[7] = 'x';
	if (c == SHORT_MAGIC)
		n = 8;
	if (c == ZEROES || c == LETTER)
		memset(raw, c == ZEROES ? 0 : 'x', sizeof raw);
	if (c == EMPTY)
		n = 0;
	if (c == OLDER_SHORT)
		n = HEADER_1 - 1;
	if (c == OLDER_DAMAGED)
		raw[100] ^= 1;
	put_file(name, raw, n);
}

/* Under the name that older versions gave it, only one of this log and of the older form counts. */
static void the_older_name_is_looked_at_too(void **state)
{
	struct upper_pending_content found;
	enum content older, newer;
	int r;

	for (newer = NOTHING; newer <= ZEROES; newer++)
		for (older = NOTHING; older < CONTENTS; older++) {
			bool refused = newer != NOTHING && newer != WHOLE && newer != ZEROES;
			bool counts = newer != WHOLE && older == OLDER;

			/* One that is damaged counts too, and so is in the way. */
			refused |= newer != WHOLE && older == OLDER_DAMAGED;

			memfs = memfs_new(1);
			put_content("u.upper-pending", newer);
			put_content("u.pending", older);
			r = upper_pending_read(&memfs_ops, "u", UUID, &found, NULL);
			if (r != (refused ? -EBADMSG : 0))
				fail_msg("%d and %d: %d", newer, older, r);
			if (found.is_there != (!refused && (newer == WHOLE || counts)))
				fail_msg("%d and %d: %d are there", newer, older, found.is_there);
			assert_int_equal(found.older, !refused && counts);
			free(found.records);
			assert_int_equal(count_fds(), 0);
			memfs_free(memfs);
		}
}

static int no_older(const char *path, int flags, mode_t mode)
{
	return strcmp(path, "u.pending") == 0 ? -EACCES : memfs_open(path, flags, mode);
}

static int no_newer(const char *path, int flags, mode_t mode)
{
	return strcmp(path, "u.upper-pending") == 0 ? -EACCES : memfs_open(path, flags, mode);
}

static void who_cannot_be_opened_is_in_the_way_or_not(void **state)
{
	struct upper_pending_content found;
	struct file_ops ops = memfs_ops;
	struct err e = { "" };
	bool removed;

	memfs = memfs_new(1);
	put_content("u.pending", OLDER);
	put_content("u.upper-pending", WHOLE);
	ops.open = no_newer;
	assert_int_equal(upper_pending_read(&ops, "u", UUID, &found, &e), -EACCES);
	assert_string_equal(e.msg, "u.upper-pending: Permission denied");
	assert_int_equal(upper_pending_holder(&ops, "u"), 0);
	assert_int_equal(upper_pending_remove(&ops, "u", &e), -EACCES);
	assert_string_equal(e.msg, "u.upper-pending: Permission denied");
	/* Nobody knows what is not removed: all stays. */
	assert_int_equal(upper_pending_discard(&ops, "u", UUID, &removed, &e), -EACCES);
	assert_string_equal(e.msg, "u.upper-pending: Permission denied");
	assert_false(removed);
	assert_non_null(memfs_find("u.pending"));
	assert_non_null(memfs_find("u.upper-pending"));
	put_content("u.pending", OLDER);
	ops.open = no_older;
	assert_int_equal(memfs_unlink("u.upper-pending"), 0);
	assert_int_equal(upper_pending_read(&ops, "u", UUID, &found, &e), 0);
	assert_false(found.is_there);
	assert_int_equal(upper_pending_discard(&ops, "u", UUID, &removed, &e), 0);
	assert_false(removed);
	assert_int_equal(upper_pending_init(&pending, &ops, "u", -1, UUID, &e), 0);
	assert_null(pending.older_path);
	upper_pending_release(&pending);
	memfs_free(memfs);
}

static void what_is_of_the_log_is_discarded(void **state)
{
	enum content older, newer;
	struct err e = { "" };
	bool removed;
	size_t i;

	for (newer = NOTHING; newer < CONTENTS; newer++)
		for (older = NOTHING; older < CONTENTS; older++) {
			bool goes = newer != NOTHING && newer != ONLY_OTHERS_UUID &&
				    newer != ZEROES && newer != EMPTY && newer != LETTER;
			/* It says that it is of this log by its uuid, or by a magic. */
			bool went = goes, older_went = older == OLDER || older == OLDER_DAMAGED;

			memfs = memfs_new(1);
			put_content("u.upper-pending", newer);
			put_content("u.pending", older);
			removed = 99;
			assert_int_equal(upper_pending_discard(&memfs_ops, "u", UUID, &removed, &e),
					 0);
			if (removed != (went || older_went) ||
			    !memfs_find("u.upper-pending") != (went || newer == NOTHING) ||
			    !memfs_find("u.pending") != (older_went || older == NOTHING))
				fail_msg("%d and %d: removed %d", newer, older, removed);
			assert_int_equal(count_fds(), 0);
			memfs_free(memfs);
		}
	/* Neither can be removed. */
	for (i = 0; i < 2; i++) {
		memfs = memfs_new(1);
		put_content("u.upper-pending", i == 0 ? WHOLE : NOTHING);
		put_content("u.pending", OLDER);
		fail_once(MEMFS_UNLINK, 0);
		assert_int_equal(upper_pending_discard(&memfs_ops, "u", UUID, &removed, &e),
				 -ENOSPC);
		assert_string_equal(e.msg, i == 0 ? "u.upper-pending: No space left on device"
						  : "u.pending: No space left on device");
		assert_false(removed);
		assert_int_equal(count_fds(), 0);
		memfs_free(memfs);
	}
	/* The usual name is looked at once. */
	memfs = memfs_new(1);
	put_content("u.pending", OLDER_OTHER);
	assert_int_equal(upper_pending_discard(&memfs_ops, "u.data", UUID, &removed, &e), 0);
	assert_true(removed);
	put_content("u.pending", LETTER);
	assert_int_equal(upper_pending_discard(&memfs_ops, "u.data", UUID, &removed, &e), 0);
	assert_false(removed);
	memfs_free(memfs);
}

/* Of a log that is gone: what is a pending file goes, all else stays. */
static void what_is_left_of_another_log_is_removed(void **state)
{
	static const struct {
		enum content content;
		int r;
		uint64_t holder;
		const char *uuid; /* that is named */
	} cases[] = {
		{ NOTHING, 0, 0, NULL },
		{ WHOLE, 0, 4711, UUID },
		{ OF_OTHER, 0, 4711, OTHER },
		{ DAMAGED, 0, 0, "" },
		{ ONLY_MAGIC, 0, 0, "" },
		{ ONLY_UUID, -EEXIST, 0, NULL },
		{ ONLY_OTHERS_UUID, -EEXIST, 0, NULL },
		{ SHORT_MAGIC, 0, 0, "" },
		{ ZEROES, 0, 0, "" },
		{ EMPTY, 0, 0, "" },
		{ LETTER, -EEXIST, 0, NULL },
		{ OLDER, 0, 4712, UUID },
		{ OLDER_OTHER, 0, 4712, OTHER },
		{ OLDER_MAGIC, -EEXIST, 0, NULL },
		{ OLDER_SHORT, 0, 0, "" },
		{ OLDER_DAMAGED, 0, 0, "" },
	};
	char want[TEXT];
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct err e = { "" };

		memfs = memfs_new(1);
		put_content("u.pending", cases[i].content);
		loglib_listen();
		assert_int_equal(upper_pending_holder(&memfs_ops, "u.data"), cases[i].holder);
		if (upper_pending_remove(&memfs_ops, "u.data", &e) != cases[i].r)
			fail_msg("case %zu: '%s'", i, e.msg);
		assert_string_equal(e.msg, cases[i].r < 0
						   ? "u.pending: is in the way: the layer would "
						     "keep acknowledged writes under this name"
						   : "");
		assert_int_equal(memfs_find("u.pending") != NULL, cases[i].r < 0);
		snprintf(want, sizeof want,
			 "u.pending: acknowledged writes of a layer that is gone (%s) are "
			 "removed\n",
			 cases[i].uuid ? cases[i].uuid : "");
		loglib_expect(cases[i].uuid ? want : "");
		loglib_expect_none();
		assert_int_equal(count_fds(), 0);
		memfs_free(memfs);
	}
}

static int told_result;

static int open_as_told(const char *path, int flags, mode_t mode)
{
	return told_result;
}

static int unlink_as_told(const char *path)
{
	return told_result;
}

static void errors_of_removing_are_told_apart(void **state)
{
	static const struct {
		int r, want;
	} opens[] = { { -ENOENT, 0 },
		      { -ELOOP, -EEXIST },
		      { -EINVAL, -EEXIST },
		      { -EIO, -EIO },
		      { -EACCES, -EACCES } };
	struct file_ops ops = memfs_ops;
	struct err e = { "" };
	size_t i;

	memfs = memfs_new(1);
	put_content("u.pending", WHOLE);
	ops.open = open_as_told;
	for (i = 0; i < COUNT_OF(opens); i++) {
		told_result = opens[i].r;
		assert_int_equal(upper_pending_remove(&ops, "u.data", &e), opens[i].want);
	}
	assert_string_equal(e.msg, "u.pending: Permission denied");
	ops = memfs_ops;
	ops.unlink = unlink_as_told;
	loglib_listen();
	told_result = -EROFS;
	assert_int_equal(upper_pending_remove(&ops, "u.data", &e), -EROFS);
	assert_string_equal(e.msg, "u.pending: Read-only file system");
	told_result = -ENOENT; /* somebody else did */
	assert_int_equal(upper_pending_remove(&ops, "u.data", &e), 0);
	log_set_sink(NULL);
	memfs_free(memfs);
}

/* What an older version left goes when there is a file of the usual name, or none is to count. */
static void what_an_older_version_left_is_replaced(void **state)
{
	enum content older;
	struct err e = { "" };
	const struct upper_pending_base none = { 0 };
	unsigned fails;

	for (older = NOTHING; older < CONTENTS; older++)
		for (fails = 0; fails < 4; fails++) {
			bool ours = older == OLDER || older == OLDER_DAMAGED;
			int data, r;

			memfs = memfs_new(1);
			data = memfs_open("u", O_RDWR | O_CREAT, 0600);
			put_content("u.pending", older);
			assert_int_equal(
				upper_pending_init(&pending, &memfs_ops, "u", data, UUID, &e), 0);
			assert_int_equal(pending.older_path != NULL, ours);
			assert_int_equal(count_fds(), 1);
			fail_once(MEMFS_UNLINK, fails % 2 == 1 && ours ? 0 : 99);
			loglib_listen();
			assert_int_equal(upper_pending_begin(&pending, &none, NULL, 0, &e), 0);
			loglib_expect(fails % 2 == 1 && ours
					      ? "u.pending: cannot be removed: No space left on "
						"device\n"
					      : "");
			assert_int_equal(pending.older_path != NULL, fails % 2 == 1 && ours);
			/* The second try is the last. */
			fail_once(MEMFS_UNLINK, fails >= 2 ? 1 : 99);
			r = upper_pending_drop(&pending, &e);
			assert_int_equal(r, fails == 3 && ours ? -ENOSPC : 0);
			if (r < 0)
				assert_string_equal(e.msg, "u.pending: cannot be removed: No space "
							   "left on device");
			loglib_expect_none();
			assert_int_equal(memfs_find("u.pending") != NULL,
					 older != NOTHING && (!ours || r < 0));
			upper_pending_release(&pending);
			assert_int_equal(count_fds(), 1);
			memfs_free(memfs);
		}
}

static int no_boot_id(char out[FILE_BOOT_ID])
{
	return -EIO;
}

static void a_name_and_a_boot_are_needed(void **state)
{
	struct file_ops ops = memfs_ops;
	struct err e = { "" };
	uint32_t first = 0;
	long k;
	int r = -ENOMEM;

	memfs = memfs_new(1);
	put_content("u.pending", OLDER);
	ops.true_name = copy_name;
	for (k = 0; r < 0; k++) {
		allocs_left = k;
		r = upper_pending_init(&pending, &ops, "u", -1, UUID, &e);
		allocs_left = -1;
		assert_true(r == 0 || r == -ENOMEM);
		assert_string_equal(e.msg, "out of memory");
		first = pending.generation;
		upper_pending_release(&pending);
	}
	assert_true(k > 4);
	assert_int_equal(upper_pending_init(&pending, &memfs_ops, "u", -1, UUID, &e), 0);
	assert_int_not_equal(pending.generation, first); /* but once in four billion */
	upper_pending_release(&pending);
	random_result = 3;
	assert_int_equal(upper_pending_init(&pending, &memfs_ops, "u", -1, UUID, &e), -ENOSYS);
	random_result = -1;
	assert_string_equal(e.msg, "random bytes: Function not implemented");
	upper_pending_release(&pending);
	ops.boot_id = no_boot_id;
	assert_int_equal(upper_pending_init(&pending, &ops, "u", -1, UUID, &e), -EIO);
	assert_string_equal(e.msg, "the boot id of this machine: Input/output error");
	upper_pending_release(&pending);
	memfs_free(memfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_is_read_or_refused),
		cmocka_unit_test(a_byte_that_changed_is_found),
		cmocka_unit_test(too_many_records_are_refused),
		cmocka_unit_test(the_older_name_is_looked_at_too),
		cmocka_unit_test(who_cannot_be_opened_is_in_the_way_or_not),
		cmocka_unit_test(what_is_of_the_log_is_discarded),
		cmocka_unit_test(what_is_left_of_another_log_is_removed),
		cmocka_unit_test(errors_of_removing_are_told_apart),
		cmocka_unit_test(what_an_older_version_left_is_replaced),
		cmocka_unit_test(a_name_and_a_boot_are_needed),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
