/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_recover.c - what opening a log finds, cuts, syncs and says, and what repairing does.
 * In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/upper.h"
#include "core/upper_log.h"
#include "core/upper_private.h"
#include "core/upper_records.h"
#include "core/upper_repair.h"
#include "tests/unit/loglib.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { SECTORS = 32, BYTES = SECTORS * SECTOR };

static struct file_ops ops;
static struct upper_log_options options = { .ops = &ops, .room_records = 1, .room_bytes = 512 };
static struct upper_log *u;

static struct memfs_bytes *bytes_of(const char *name)
{
	const struct memfs_name *found = memfs_find(name);

	assert_non_null(found);
	return &memfs->files[found->file].now;
}

static unsigned open_files(void)
{
	unsigned i, n = 0;

	for (i = 0; i < MEMFS_FDS; i++)
		n += memfs->fds[i] >= 0;
	return n;
}

static bool is_file(int fd, const char *name)
{
	const struct memfs_name *found = memfs_find(name);

	return found && found->file == memfs->fds[fd];
}

static void put(uint64_t lba, char letter)
{
	char bytes[SECTOR];

	memset(bytes, letter, sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, SECTOR, lba * SECTOR, 0, NULL), 0);
}

static char letter_at(uint64_t lba)
{
	char bytes[SECTOR];

	assert_int_equal(upper_log_pread(u, bytes, SECTOR, lba * SECTOR, NULL), 0);
	assert_int_equal(bytes[0], bytes[SECTOR - 1]);
	return bytes[0] ? bytes[0] : '.';
}

static void open_log(struct upper_findings *found)
{
	struct err e;

	if (upper_log_open("u.data", "i/u.index", &options, &u, found, &e) < 0)
		fail_msg("%s", e.msg);
}

/* That closing fails then is not what the test is about. */
static void kill_process(void)
{
	loglib_expect("");
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	u = NULL;
	memfs_kill(memfs);
	loglib_listen();
}

/* Sector 1 is flushed, 3 and 5 are not.  With `killed` its process has died, else it ended. */
static void make_log(bool killed)
{
	loglib_listen();
	memfs = memfs_new(1);
	ops = memfs_ops;
	options.size = 0;
	assert_int_equal(upper_log_create(&ops, "u.data", "i/u.index", BYTES, NULL, NULL, NULL), 0);
	open_log(NULL);
	put(1, 'a');
	assert_int_equal(upper_log_flush(u, NULL), 0);
	put(3, 'b');
	put(5, 'c');
	if (killed)
		kill_process();
	else
		assert_int_equal(upper_log_close(u, NULL), 0);
	u = NULL;
	loglib_listen();
}

static void end_log(void)
{
	if (u)
		kill_process();
	memfs_free(memfs);
	loglib_expect_none();
}

static void append(const char *name, const void *bytes, size_t n)
{
	struct memfs_bytes *b = bytes_of(name);

	memfs_put(b, b->n, bytes, n);
}

/* ---- the index ---- */

static struct {
	char calls[32]; /* t: the index is cut, s: it is synced, f: its folder is */
	uint64_t cut_to;
} noted;

static void note(char what)
{
	size_t n = strlen(noted.calls);

	assert_true(n + 1 < sizeof noted.calls);
	noted.calls[n] = what;
	noted.calls[n + 1] = '\0';
}

static int noted_truncate(int fd, uint64_t size)
{
	if (is_file(fd, "i/u.index")) {
		note('t');
		noted.cut_to = size;
	}
	return memfs_truncate(fd, size);
}

static int noted_datasync(int fd)
{
	if (is_file(fd, "i/u.index"))
		note('s');
	return memfs_datasync(fd);
}

static int noted_sync_folder(const char *path)
{
	note(strcmp(path, "i/u.index") == 0 ? 'f' : 'x');
	return memfs_sync_folder(path);
}

#define CUT(records, entries, bytes)                                                               \
	"i/u.index: cut after a crash: " #records " records stay, " #entries                       \
	" whole entries and " #bytes " bytes that were never flushed go\n"

static void an_index_is_cut_behind_what_counts(void **state)
{
	/* Of a log that was closed: a, CHECK, b, c, CHECK, CONFIRM. */
	static const struct {
		const char *what, *tail; /* n: a record of no length, p: padding, k: a CHECK that
					  * does not match, 0: zeroes, 5: five bytes */
		const char *calls, *said;
		uint64_t records, ignored, fragment;
	} cases[] = {
		{ "whole", "", "sf", "", 3, 0, 0 },
		{ "one of padding", "p", "sf", "", 3, 0, 0 },
		{ "two of padding", "pp", "tsf", "", 3, 0, 0 },
		{ "a fragment", "5", "tsf", CUT(3, 0, 5), 3, 0, 5 },
		{ "a bad record", "n", "tsf", CUT(3, 2, 0), 3, 2, 0 },
		{ "a bad record and a fragment", "n5", "tsf", CUT(3, 2, 5), 3, 2, 5 },
		{ "as many entries as bytes", "nnnn5", "tsf", CUT(3, 5, 5), 3, 5, 5 },
		{ "zeroes", "00", "tsf", CUT(3, 3, 0), 3, 3, 0 },
		{ "an append that is not whole", "k", "tsf", CUT(3, 2, 0), 3, 2, 0 },
	};
	struct upper_findings found;
	uint8_t raw[FORMAT_ENTRY];
	const char *at;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log(false);
		assert_int_equal(bytes_of("i/u.index")->n, FORMAT_SPACE + 6 * FORMAT_ENTRY);
		for (at = cases[i].tail; *at; at++) {
			memset(raw, 0, sizeof raw);
			raw[0] = *at == 'n';
			if (*at == 'p' || *at == 'k')
				upper_records_encode_mark(
					*at == 'k' ? UPPER_MARK_CHECK : UPPER_MARK_NONE, 1, raw);
			append("i/u.index", raw, *at == '5' ? 5 : sizeof raw);
		}
		memset(&noted, 0, sizeof noted);
		ops.truncate = noted_truncate;
		ops.datasync = noted_datasync;
		ops.sync_folder = noted_sync_folder;
		open_log(&found);
		if (strcmp(noted.calls, cases[i].calls) != 0)
			fail_msg("%s: %s", cases[i].what, noted.calls);
		if (strchr(noted.calls, 't'))
			assert_int_equal(noted.cut_to, FORMAT_SPACE + 5 * FORMAT_ENTRY);
		loglib_expect(cases[i].said);
		assert_int_equal(found.records, cases[i].records);
		assert_int_equal(found.ignored_records, cases[i].ignored);
		assert_int_equal(found.fragment_bytes, cases[i].fragment);
		assert_int_equal(found.pending_records, 0);
		assert_int_equal(letter_at(1), 'a');
		assert_int_equal(letter_at(5), 'c');
		end_log();
	}
}

/* A log that is served smaller or larger than it was: of a record the part on the disk counts. */
static void a_record_is_cut_at_the_end_of_the_disk(void **state)
{
	static const struct {
		uint64_t sectors;
		const char *map; /* of sectors 0 to 7 */
		bool beyond;
	} cases[] = {
		{ 8, ".aabbbz.", false }, { 7, ".aabbbz", false }, { 6, ".aabbb", true },
		{ 5, ".aabb", true },	  { 3, ".aa", true },	   { 2, ".a", true },
		{ 1, ".", true },
	};
	size_t i, k;

	for (i = 0; i < COUNT_OF(cases); i++) {
		char bytes[3 * SECTOR];

		make_log(false);
		assert_int_equal(memfs_unlink("u.data"), 0);
		assert_int_equal(memfs_unlink("i/u.index"), 0);
		assert_int_equal(
			upper_log_create(&ops, "u.data", "i/u.index", 8 * SECTOR, NULL, NULL, NULL),
			0);
		open_log(NULL);
		memset(bytes, 'a', sizeof bytes);
		assert_int_equal(upper_log_pwrite(u, bytes, 2 * SECTOR, SECTOR, 0, NULL), 0);
		memset(bytes, 'b', sizeof bytes);
		assert_int_equal(upper_log_pwrite(u, bytes, 3 * SECTOR, 3 * SECTOR, 0, NULL), 0);
		assert_int_equal(upper_log_zero(u, 6 * SECTOR, SECTOR, 0, NULL), 0);
		assert_int_equal(upper_log_close(u, NULL), 0);
		options.size = cases[i].sectors * SECTOR;
		open_log(NULL);
		for (k = 0; k < cases[i].sectors; k++)
			assert_int_equal(letter_at(k),
					 cases[i].map[k] == 'z' ? '.' : cases[i].map[k]);
		assert_int_equal(u->beyond, cases[i].beyond);
		/* New data go behind all that is there. */
		assert_int_equal(u->data_end, FORMAT_SPACE / SECTOR + 5);
		end_log();
	}
}

/* ---- the data ---- */

static int no_truncate(int fd, uint64_t size)
{
	return is_file(fd, "u.data") ? -EIO : memfs_truncate(fd, size);
}

/* What lies behind is cut off; where it cannot be, data go on behind it. */
static void data_end_where_records_end(void **state)
{
	static const struct {
		size_t more; /* bytes behind them */
		bool stays;
		uint64_t end; /* sectors behind the three that are written */
	} cases[] = {
		{ 0, false, 0 },  { 1, false, 0 },  { 5000, false, 0 },
		{ 0, true, 0 },	  { 1, true, 1 },   { 511, true, 1 },
		{ 512, true, 1 }, { 513, true, 2 }, { 5120, true, 10 },
	};
	static const uint8_t more[5120];
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log(false);
		append("u.data", more, cases[i].more);
		if (cases[i].stays)
			ops.truncate = no_truncate;
		open_log(NULL);
		assert_int_equal(u->data_end, FORMAT_SPACE / SECTOR + 3 + cases[i].end);
		assert_int_equal(bytes_of("u.data")->n,
				 FORMAT_SPACE + 3 * SECTOR + (cases[i].stays ? cases[i].more : 0));
		ops.truncate = memfs_truncate;
		put(7, 'd');
		assert_int_equal(letter_at(7), 'd');
		assert_int_equal(letter_at(5), 'c');
		end_log();
	}
}

/* In whatever order records point at them; zeroes point at none. */
static void data_end_behind_all_records(void **state)
{
	static const struct format_entry entries[] = {
		{ .start = 1, .sectors = 2, .moffset = 10 },
		{ .start = 5, .sectors = 1, .moffset = 8 },
		{ .start = 7, .sectors = 20, .moffset = 8, .zeroed = true },
		{ .start = 1, .sectors = 2, .moffset = 8, .zeroed = true },
	};
	uint8_t raw[COUNT_OF(entries) * FORMAT_ENTRY], data[40 * SECTOR];
	struct upper_findings found;
	size_t i;

	make_log(false);
	memfs_resize(bytes_of("i/u.index"), FORMAT_SPACE);
	for (i = 0; i < COUNT_OF(entries); i++)
		format_encode_entry(&entries[i], raw + i * FORMAT_ENTRY);
	append("i/u.index", raw, sizeof raw);
	memset(data, 'x', sizeof data);
	append("u.data", data, sizeof data);
	open_log(&found);
	assert_int_equal(found.records, COUNT_OF(entries));
	assert_int_equal(u->data_end, 12);
	assert_int_equal(bytes_of("u.data")->n, 12 * SECTOR);
	assert_int_equal(letter_at(5), 'a'); /* what make_log wrote first */
	assert_int_equal(letter_at(1), '.');
	end_log();
}

static uint64_t data_size;

static int fake_size(int fd, uint64_t *size)
{
	int r = memfs_size(fd, size);

	if (data_size > 0 && is_file(fd, "u.data"))
		*size = data_size;
	return r;
}

static void data_have_a_limit(void **state)
{
	struct err e;

	make_log(false);
	ops.size = fake_size;
	data_size = (UINT64_C(1) << 56) + 1;
	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e), -EFBIG);
	assert_string_equal(e.msg, "u.data, i/u.index: 72057594037927937 bytes of data, over the "
				   "limit of 64 PiB");
	assert_int_equal(open_files(), 0);
	data_size--;
	open_log(NULL);
	data_size = 0;
	end_log();
}

/* ---- what was acknowledged ---- */

static void what_was_acknowledged_is_taken_up(void **state)
{
	struct upper_findings found;

	make_log(true);
	open_log(&found);
	assert_int_equal(found.records, 1);
	assert_int_equal(found.pending_records, 2);
	assert_int_equal(letter_at(3), 'b');
	assert_int_equal(letter_at(5), 'c');
	assert_int_equal(u->queue.count, 2);
	/* Once more, and served smaller: it is still there. */
	kill_process();
	options.size = 4 * SECTOR;
	open_log(&found);
	assert_int_equal(found.pending_records, 2);
	assert_int_equal(letter_at(3), 'b');
	assert_true(u->beyond);
	assert_int_equal(upper_log_close(u, NULL), 0);
	options.size = 0;
	open_log(&found);
	assert_int_equal(found.records, 3);
	assert_int_equal(found.pending_records, 0);
	assert_int_equal(letter_at(5), 'c');
	end_log();
}

static uint64_t links;
static int status_after; /* calls that succeed before one fails; negative: none does */

static int fake_status(int fd, struct file_status *out)
{
	int r = memfs_status(fd, out);

	out->links = links;
	return status_after >= 0 && status_after-- == 0 ? -EIO : r;
}

/* The index says that a process had it open, and its pending file is not there. */
static void a_pending_file_is_missed(void **state)
{
	struct err e;

	for (links = 1; links <= 2; links++) {
		make_log(true);
		assert_int_equal(memfs_unlink("u.pending"), 0);
		ops.status = fake_status;
		for (status_after = 0; status_after < 2; status_after++) {
			int calls = status_after;

			assert_int_equal(
				upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e),
				-EIO);
			assert_string_equal(e.msg, "u.data, i/u.index: Input/output error");
			assert_int_equal(open_files(), 0);
			status_after = calls;
		}
		status_after = -1;
		if (links == 2) {
			assert_int_equal(
				upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e),
				-EBUSY);
			assert_string_equal(
				e.msg, "u.data, i/u.index: a process that had the layer open by "
				       "another name died: what it acknowledged lies beside that "
				       "name: open it by that, or give up those writes with "
				       "'overlaybd repair'");
			assert_int_equal(open_files(), 0);
		} else {
			open_log(NULL);
			loglib_expect("u.pending: is missing: what a process acknowledged before "
				      "it died is lost\n");
			assert_int_equal(letter_at(1), 'a');
			assert_int_equal(letter_at(3), '.');
		}
		end_log();
	}
	/* After another start of the machine nobody misses it. */
	links = 2;
	make_log(true);
	assert_int_equal(memfs_unlink("u.pending"), 0);
	ops.status = fake_status;
	memfs->boot++;
	open_log(NULL);
	end_log();
	/* Nor when it was closed. */
	make_log(false);
	ops.status = fake_status;
	open_log(NULL);
	end_log();
}

static int refusal; /* of a new pending file */

static int refusing_open(const char *path, int flags, mode_t mode)
{
	return refusal && strncmp(path, "u.pending.tmp.", 14) == 0 ? refusal
								   : memfs_open(path, flags, mode);
}

static void a_full_disk_can_be_read(void **state)
{
	static const int codes[] = { -ENOSPC, -EDQUOT, -EACCES };
	struct upper_findings found;
	char sector[SECTOR] = "";
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(codes); i++) {
		make_log(true);
		ops.open = refusing_open;
		refusal = codes[i];
		if (codes[i] == -EACCES) {
			assert_int_equal(
				upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e),
				-EACCES);
			assert_string_equal(e.msg, "u.data, i/u.index: making a file beside "
						   "u.pending: Permission denied");
			assert_int_equal(open_files(), 0);
			end_log();
			continue;
		}
		open_log(&found);
		loglib_expect("u.data: no space left: it can be read, and written to once there is "
			      "space\n");
		assert_int_equal(found.pending_records, 2);
		assert_int_equal(letter_at(3), 'b');
		assert_true(u->pending.waits);
		assert_false(u->has_pending);
		assert_int_equal(upper_log_pwrite(u, sector, SECTOR, 0, 0, NULL), codes[i]);
		refusal = 0;
		assert_int_equal(upper_log_flush(u, NULL), 0);
		put(0, 'e');
		assert_int_equal(upper_log_close(u, NULL), 0);
		open_log(&found);
		assert_int_equal(found.records, 4);
		assert_int_equal(letter_at(0), 'e');
		end_log();
	}
	refusal = 0;
}

/* ---- repairing ---- */

enum damage {
	NONE,
	RECORD, /* the second one is of no length */
	FRAGMENT, /* five bytes more */
	BOTH, /* as many bytes as bad entries, with the CONFIRM */
	PENDING, /* of the pending file's first record */
	FOREIGN, /* the pending file is something else */
	STALE, /* the index goes on otherwise */
};

static void do_damage(enum damage what)
{
	struct format_entry entry = { .start = 9, .sectors = 1, .moffset = 8, .zeroed = true };
	uint8_t raw[FORMAT_ENTRY];

	switch (what) {
	case NONE:
		break;
	case RECORD:
		bytes_of("i/u.index")->p[FORMAT_SPACE + 6] ^= 4;
		break;
	case FRAGMENT:
		append("i/u.index", "12345", 5);
		break;
	case BOTH:
		memset(raw, 0, sizeof raw);
		append("i/u.index", raw, sizeof raw);
		append("i/u.index", "12", 2);
		break;
	case PENDING:
		bytes_of("u.pending")->p[256] ^= 1;
		break;
	case FOREIGN:
		memset(bytes_of("u.pending")->p, 'x', bytes_of("u.pending")->n);
		break;
	case STALE:
		format_encode_entry(&entry, raw);
		append("i/u.index", raw, sizeof raw);
		break;
	}
}

static void repair_keeps_what_can_be_trusted(void **state)
{
	/* a, CHECK, CONFIRM, that it is open, padding. */
	static const struct {
		const char *what;
		bool killed;
		enum damage damage;
		enum upper_acknowledged how;
		int r;
		const char *said, *found; /* an error; the damage */
		uint64_t kept, dropped, stale;
		bool dropped_pending;
		const char *map; /* of sectors 1, 3, 5 afterwards; NULL: it cannot be opened */
	} cases[] = {
		{ "whole", false, NONE, UPPER_ACKNOWLEDGED_JUDGE, 0, "", "", 3, 0, 0, false,
		  "abc" },
		{ "whole, and dropping", false, NONE, UPPER_ACKNOWLEDGED_DROP, 0, "", "", 3, 0, 0,
		  false, "abc" },
		{ "killed", true, NONE, UPPER_ACKNOWLEDGED_JUDGE, 0, "", "", 1, 0, 0, false,
		  "abc" },
		{ "killed, and applying", true, NONE, UPPER_ACKNOWLEDGED_APPLY, 0, "", "", 1, 0, 0,
		  false, "abc" },
		{ "killed, and dropping", true, NONE, UPPER_ACKNOWLEDGED_DROP, 0, "", "", 1, 0, 0,
		  true, "a.." },
		{ "a record", false, RECORD, UPPER_ACKNOWLEDGED_JUDGE, 0, "",
		  "LSMT index record 0: its length is 0", 0, 6, 0, false, "..." },
		/* The pending file has the record too, and follows on an empty index. */
		{ "a record, killed", true, RECORD, UPPER_ACKNOWLEDGED_JUDGE, 0, "",
		  "LSMT index record 0: its length is 0", 0, 9, 0, false, "abc" },
		{ "a record, killed, and dropping", true, RECORD, UPPER_ACKNOWLEDGED_DROP, 0, "",
		  "LSMT index record 0: its length is 0", 0, 9, 0, true, "..." },
		{ "a fragment", false, FRAGMENT, UPPER_ACKNOWLEDGED_JUDGE, 0, "", "", 3, 0, 0,
		  false, "abc" },
		{ "a record of the pending file", true, PENDING, UPPER_ACKNOWLEDGED_JUDGE, 0, "",
		  "", 1, 0, 0, true, "a.." },
		{ "another file of its name", true, FOREIGN, UPPER_ACKNOWLEDGED_JUDGE, -EBADMSG,
		  "u.pending: is no file of acknowledged writes, or is damaged: move it away, or "
		  "'overlaybd repair' drops what it holds",
		  "", 1, 0, 0, false, NULL },
		{ "another file of its name, and dropping", true, FOREIGN, UPPER_ACKNOWLEDGED_DROP,
		  0, "", "", 1, 0, 0, false, NULL },
		{ "written to since", true, STALE, UPPER_ACKNOWLEDGED_JUDGE, 0, "", "", 2, 0, 3,
		  false, "a.." },
	};
	struct upper_repair done;
	struct err e;
	size_t i;
	int r;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log(cases[i].killed);
		do_damage(cases[i].damage);
		memset(&done, 0x5a, sizeof done);
		r = upper_repair_files(&ops, "u.data", "i/u.index", cases[i].how, &done, &e);
		if (r != cases[i].r || (r < 0 && strcmp(e.msg, cases[i].said) != 0))
			fail_msg("%s: %d: %s", cases[i].what, r, e.msg);
		if (strcmp(done.damage.msg, cases[i].found) != 0 || done.kept != cases[i].kept ||
		    done.dropped != cases[i].dropped || done.stale != cases[i].stale ||
		    done.dropped_pending != cases[i].dropped_pending || done.applied != 0)
			fail_msg("%s: '%s', %d kept, %d dropped, %d stale%s", cases[i].what,
				 done.damage.msg, (int)done.kept, (int)done.dropped,
				 (int)done.stale, done.dropped_pending ? ", pending dropped" : "");
		assert_int_equal(open_files(), 0);
		loglib_expect("");
		if (cases[i].map) {
			open_log(NULL);
			assert_int_equal(letter_at(1), cases[i].map[0]);
			assert_int_equal(letter_at(3), cases[i].map[1]);
			assert_int_equal(letter_at(5), cases[i].map[2]);
		}
		end_log();
	}
}

/* Only what has to go is cut: padding and a CONFIRM stay. */
static void repair_cuts_no_more_than_it_must(void **state)
{
	static const struct {
		bool killed;
		enum damage damage;
		size_t entries; /* of the index afterwards */
		bool cut;
	} cases[] = {
		{ false, NONE, 6, false }, { false, FRAGMENT, 5, true },
		{ true, NONE, 2, true }, /* it says that it is open */
		{ true, RECORD, 0, true }, { true, STALE, 10, false },
	};
	struct upper_repair done;
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log(cases[i].killed);
		do_damage(cases[i].damage);
		memset(&noted, 0, sizeof noted);
		ops.truncate = noted_truncate;
		ops.datasync = noted_datasync;
		assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index",
						    UPPER_ACKNOWLEDGED_JUDGE, &done, &e),
				 0);
		assert_string_equal(noted.calls, cases[i].cut ? "ts" : "");
		assert_int_equal(bytes_of("i/u.index")->n,
				 FORMAT_SPACE + cases[i].entries * FORMAT_ENTRY);
		end_log();
	}
}

static int no_sync(int fd)
{
	return -EIO;
}

static int no_unlink(const char *path)
{
	return -EACCES;
}

static void repair_says_what_it_cannot_do(void **state)
{
	struct upper_repair done;
	struct err e;

	make_log(true);
	ops.datasync = no_sync;
	assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -EIO);
	assert_string_equal(e.msg, "i/u.index: cutting it: Input/output error");
	ops = memfs_ops;
	ops.unlink = no_unlink;
	assert_int_equal(
		upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_DROP, &done, &e),
		-EACCES);
	assert_string_equal(e.msg, "u.pending: Permission denied");
	assert_false(done.dropped_pending);
	ops = memfs_ops;
	bytes_of("i/u.index")->p[56] ^= 1;
	assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -EBADMSG);
	assert_string_equal(e.msg, "i/u.index: data and index file have different uuids");
	bytes_of("i/u.index")->p[0] ^= 1;
	assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -EBADMSG);
	assert_string_equal(e.msg, "i/u.index: LSMT index file's header: bad magic");
	assert_int_equal(memfs_unlink("i/u.index"), 0);
	assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -ENOENT);
	assert_string_equal(e.msg, "i/u.index: No such file or directory");
	bytes_of("u.data")->p[28] |= FORMAT_SPARSE;
	assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -EINVAL);
	assert_string_equal(e.msg, "u.data: a sparse layer has nothing that could be repaired");
	bytes_of("u.data")->p[0] ^= 1;
	assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -EBADMSG);
	assert_string_equal(e.msg, "u.data: LSMT data file's header: bad magic");
	assert_int_equal(memfs_unlink("u.data"), 0);
	assert_int_equal(upper_repair_files(&ops, "u.data", "i/u.index", UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -ENOENT);
	assert_string_equal(e.msg, "u.data: No such file or directory");
	assert_int_equal(open_files(), 0);
	end_log();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_index_is_cut_behind_what_counts),
		cmocka_unit_test(a_record_is_cut_at_the_end_of_the_disk),
		cmocka_unit_test(data_end_where_records_end),
		cmocka_unit_test(data_end_behind_all_records),
		cmocka_unit_test(data_have_a_limit),
		cmocka_unit_test(what_was_acknowledged_is_taken_up),
		cmocka_unit_test(a_pending_file_is_missed),
		cmocka_unit_test(a_full_disk_can_be_read),
		cmocka_unit_test(repair_keeps_what_can_be_trusted),
		cmocka_unit_test(repair_cuts_no_more_than_it_must),
		cmocka_unit_test(repair_says_what_it_cannot_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
