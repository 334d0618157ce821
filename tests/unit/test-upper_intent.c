/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_intent.c - the note of a change of both files of a log: its name, each byte of it, and
 * what is made of files that it speaks of, or does not.  In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/upper_intent.h"
#include "core/upper_log.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	INTENT = 128,
	BYTES = 64 * SECTOR,
	TEXT = 300,
};

#define UUID "01234567-89AB-4DEF-8123-456789ABCDEF"
#define LOWER "01234567-89ab-4def-8123-456789abcdef"
#define OTHER "01234567-89AB-4DEF-8123-456789ABCDEE"
#define DAMAGED "is damaged, or no intent of 'overlaybd resize' or 'compact'"

/* May fail, as memfs_true_name does not. */
static char *copy_name(const char *path)
{
	return strdup(path);
}

static struct memfs_bytes *bytes_of(const char *name)
{
	return &memfs->files[memfs_find(name)->file].now;
}

static void put_file(const char *name, const void *raw, size_t n)
{
	int fd = memfs_open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(memfs_pwrite(fd, raw, n, 0), n);
	memfs_close(fd);
}

static size_t count_names(void)
{
	size_t i, n = 0;

	for (i = 0; i < MEMFS_NAMES; i++)
		n += memfs->names.list[i].file >= 0;
	return n;
}

static size_t count_fds(void)
{
	size_t i, n = 0;

	for (i = 0; i < MEMFS_FDS; i++)
		n += memfs->fds[i] >= 0;
	return n;
}

/* ---- names ---- */

static void names_are_made_of_the_data_files(void **state)
{
	static const struct {
		const char *data, *name, *older, *new_name;
	} cases[] = {
		{ "u.data", "u.intent", "u.intent", "u.data.new" },
		{ "x/u.data", "x/u.intent", "x/u.intent", "x/u.data.new" },
		{ "u.data.data", "u.data.intent", "u.data.intent", "u.data.data.new" },
		{ "u", "u.upper-intent", "u.intent", "u.new" },
		{ ".data", ".data.upper-intent", ".data.intent", ".data.new" },
		{ "udata", "udata.upper-intent", "udata.intent", "udata.new" },
		{ "u.Data", "u.Data.upper-intent", "u.Data.intent", "u.Data.new" },
		{ "u.datas", "u.datas.upper-intent", "u.datas.intent", "u.datas.new" },
		{ "", ".upper-intent", ".intent", ".new" },
	};
	struct file_ops ops = memfs_ops;
	char *names[3];
	size_t i, k;
	long left;

	ops.true_name = copy_name;
	for (i = 0; i < COUNT_OF(cases); i++) {
		names[0] = upper_intent_name(&ops, cases[i].data, "intent");
		names[1] = upper_intent_older_name(&ops, cases[i].data, "intent");
		names[2] = upper_intent_new_name(&ops, cases[i].data);
		assert_string_equal(names[0], cases[i].name);
		assert_string_equal(names[1], cases[i].older);
		assert_string_equal(names[2], cases[i].new_name);
		for (k = 0; k < 3; k++)
			free(names[k]);
	}
	for (left = 0; left < 2; left++) {
		allocs_left = left;
		assert_null(upper_intent_name(&ops, "u.data", "intent"));
		allocs_left = left;
		assert_null(upper_intent_older_name(&ops, "u.data", "intent"));
		allocs_left = left;
		assert_null(upper_intent_new_name(&ops, "u.data"));
		allocs_left = -1;
	}
}

/* ---- the file ---- */

static void encode(uint64_t kind, uint64_t size, const char *uuid, uint8_t raw[INTENT])
{
	memset(raw, 0, INTENT);
	memcpy(raw, "OBDINTN1", 8);
	le64_put(raw + 8, kind);
	le64_put(raw + 16, size);
	memcpy(raw + 24, uuid, strlen(uuid));
	le32_put(raw + 124, crc32c_raw(0, raw, 124));
}

static struct upper_intent intent_of(enum upper_intent_kind kind, uint64_t size, const char *uuid)
{
	struct upper_intent intent = { .kind = kind, .virtual_size = size };

	memcpy(intent.uuid, uuid, FORMAT_UUID);
	return intent;
}

static void each_byte_is_as_the_format_says(void **state)
{
	struct upper_intent cases[] = {
		intent_of(UPPER_INTENT_RESIZE, 0, UUID),
		intent_of(UPPER_INTENT_RESIZE, UINT64_C(0x1234567890abcd) * SECTOR % (1ULL << 58),
			  LOWER),
		intent_of(UPPER_INTENT_RESIZE, (FORMAT_LBA_LIMIT - 1) * SECTOR, UUID),
		intent_of(UPPER_INTENT_COMPACT, 0, OTHER),
	};
	struct err e = { "untouched" };
	struct upper_intent found;
	uint8_t want[INTENT];
	size_t i;
	int data;

	for (i = 0; i < COUNT_OF(cases); i++) {
		memfs = memfs_new(1);
		data = memfs_open("u.data", O_RDWR | O_CREAT, 0600);
		assert_int_equal(upper_intent_write(&memfs_ops, "u.data", data, &cases[i], &e), 0);
		assert_int_equal(bytes_of("u.intent")->n, INTENT);
		encode(cases[i].kind, cases[i].virtual_size, cases[i].uuid, want);
		assert_memory_equal(bytes_of("u.intent")->p, want, INTENT);
		assert_int_equal(count_names(), 2);
		assert_int_equal(count_fds(), 1);
		memset(&found, 0xff, sizeof found);
		assert_int_equal(upper_intent_read(&memfs_ops, "u.data", &found, &e), 0);
		assert_int_equal(found.kind, cases[i].kind);
		assert_int_equal(found.virtual_size, cases[i].virtual_size);
		assert_string_equal(found.uuid, cases[i].uuid);
		assert_false(found.older_name);
		assert_int_equal(count_fds(), 1);
		assert_string_equal(e.msg, "untouched");
		memfs_free(memfs);
	}
}

static void expect_read(const uint8_t *raw, size_t n, int want, const char *said)
{
	struct upper_intent found;
	struct err e = { "" };
	int r;

	put_file("u.intent", raw, n);
	r = upper_intent_read(&memfs_ops, "u.data", &found, &e);
	if (r != want || strcmp(e.msg, said) != 0)
		fail_msg("%d '%s', not %d '%s'", r, e.msg, want, said);
	assert_int_equal(count_fds(), 0);
}

static void what_is_no_intent_is_refused(void **state)
{
	struct upper_intent found;
	uint8_t raw[INTENT];
	struct err e;
	size_t i;

	memfs = memfs_new(1);
	found.kind = UPPER_INTENT_COMPACT;
	assert_int_equal(upper_intent_read(&memfs_ops, "u.data", &found, &e), 0);
	assert_int_equal(found.kind, UPPER_INTENT_NONE);
	assert_int_equal(found.uuid[0] | found.older_name, 0);
	encode(1, 512, UUID, raw);
	expect_read(raw, INTENT, 0, "");
	for (i = 0; i < INTENT; i++) {
		raw[i] ^= 0x10;
		expect_read(raw, INTENT, -EBADMSG, "u.intent: " DAMAGED);
		raw[i] ^= 0x10;
	}
	expect_read(raw, INTENT - 1, -EIO,
		    "u.intent: reading 128 bytes at 0: the file ends at 127");
	encode(0, 512, UUID, raw);
	expect_read(raw, INTENT, -EBADMSG, "u.intent: is of an unknown kind, 0");
	encode(3, 512, UUID, raw);
	expect_read(raw, INTENT, -EBADMSG, "u.intent: is of an unknown kind, 3");
	encode(2, 513, UUID, raw);
	expect_read(raw, INTENT, -EBADMSG, "u.intent: speaks of a virtual size of 513");
	encode(1, FORMAT_LBA_LIMIT * SECTOR, UUID, raw);
	expect_read(raw, INTENT, -EBADMSG,
		    "u.intent: speaks of a virtual size of 576460752303423488");
	memfs_free(memfs);
}

/* ---- the files of a log ---- */

static void put_part(const char *name, enum format_part part, const char *uuid, uint64_t size)
{
	uint8_t raw[FORMAT_SPACE + FORMAT_ENTRY] = { 0 };
	struct format_header h;

	assert_int_equal(upper_log_make_header(&h, size, uuid, NULL, NULL), 0);
	if (part == FORMAT_PART_LOG_INDEX) {
		h.flags = FORMAT_HEADER;
		h.index_offset = FORMAT_SPACE;
	}
	format_encode_header(&h, raw);
	put_file(name, raw, sizeof raw);
}

static void parts_are_known_by_their_headers(void **state)
{
	memfs = memfs_new(1);
	assert_false(upper_intent_is_part(&memfs_ops, "u.data", FORMAT_PART_LOG_DATA, UUID));
	put_part("u.data", FORMAT_PART_LOG_DATA, UUID, BYTES);
	assert_true(upper_intent_is_part(&memfs_ops, "u.data", FORMAT_PART_LOG_DATA, UUID));
	assert_true(upper_intent_is_part(&memfs_ops, "u.data", FORMAT_PART_LOG_DATA, LOWER));
	assert_false(upper_intent_is_part(&memfs_ops, "u.data", FORMAT_PART_LOG_DATA, OTHER));
	assert_false(upper_intent_is_part(&memfs_ops, "u.data", FORMAT_PART_LOG_INDEX, UUID));
	put_part("u.index", FORMAT_PART_LOG_INDEX, UUID, BYTES);
	assert_true(upper_intent_is_part(&memfs_ops, "u.index", FORMAT_PART_LOG_INDEX, UUID));
	put_file("u.index", "x", 1);
	assert_false(upper_intent_is_part(&memfs_ops, "u.index", FORMAT_PART_LOG_INDEX, UUID));
	assert_int_equal(count_fds(), 0);
	memfs_free(memfs);
}

/* A header as it will be: of the log, it has the new size already. */
static void a_header_is_read_as_it_will_be(void **state)
{
	static const struct {
		const char *what;
		enum upper_intent_kind kind;
		const char *uuid;
		uint64_t stored; /* the size in the file */
		enum format_part part;
		size_t size; /* of the file; 0: as it is */
		int r;
		uint64_t want;
	} cases[] = {
		{ "none", UPPER_INTENT_NONE, UUID, BYTES, FORMAT_PART_LOG_DATA, 0, 0, BYTES },
		{ "compact", UPPER_INTENT_COMPACT, UUID, BYTES, FORMAT_PART_LOG_DATA, 0, 0, BYTES },
		{ "resize", UPPER_INTENT_RESIZE, UUID, BYTES, FORMAT_PART_LOG_DATA, 0, 0, 1024 },
		{ "resize", UPPER_INTENT_RESIZE, LOWER, BYTES, FORMAT_PART_LOG_DATA, 0, 0, 1024 },
		{ "done", UPPER_INTENT_RESIZE, UUID, 1024, FORMAT_PART_LOG_DATA, 0, 0, 1024 },
		{ "half", UPPER_INTENT_RESIZE, UUID, 1023, FORMAT_PART_LOG_DATA, 0, 0, 1024 },
		{ "another", UPPER_INTENT_RESIZE, OTHER, BYTES, FORMAT_PART_LOG_DATA, 0, 0, BYTES },
		{ "the index", UPPER_INTENT_RESIZE, UUID, BYTES, FORMAT_PART_LOG_INDEX, 0, 0,
		  1024 },
		{ "just a header", UPPER_INTENT_RESIZE, UUID, BYTES, FORMAT_PART_LOG_DATA,
		  FORMAT_SPACE, 0, 1024 },
		{ "too short", UPPER_INTENT_RESIZE, UUID, BYTES, FORMAT_PART_LOG_DATA,
		  FORMAT_SPACE - 1, -EBADMSG, 0 },
		{ "damaged", UPPER_INTENT_NONE, UUID, 1023, FORMAT_PART_LOG_DATA, 0, -EBADMSG, 0 },
	};
	struct upper_intent intent;
	struct format_header h;
	struct source *s;
	size_t i;
	int fd, r;

	for (i = 0; i < COUNT_OF(cases); i++) {
		memfs = memfs_new(1);
		put_part("f", cases[i].part, UUID, BYTES);
		format_patch_size(bytes_of("f")->p, cases[i].stored);
		fd = memfs_open("f", O_RDWR, 0);
		if (cases[i].size > 0)
			assert_int_equal(memfs_truncate(fd, cases[i].size), 0);
		assert_int_equal(upper_file_source(&memfs_ops, fd, &s, NULL), 0);
		intent = intent_of(cases[i].kind, 1024, cases[i].uuid);
		memset(&h, 0, sizeof h);
		r = upper_intent_header(&intent, s, cases[i].part, &h, NULL);
		if (r != cases[i].r || h.virtual_size != cases[i].want)
			fail_msg("%s: %d, size %d", cases[i].what, r, (int)h.virtual_size);
		/* What cannot be read is an error, not a header. */
		memfs->dead = true;
		assert_true(upper_intent_header(&intent, s, cases[i].part, &h, NULL) < 0);
		memfs->dead = false;
		source_close(s);
		memfs_close(fd);
		memfs_free(memfs);
	}
}

/* An older version left it under another name: it counts if it is of this log, and is whole. */
static void the_older_name_is_looked_at_too(void **state)
{
	static const struct {
		const char *what, *uuid; /* NULL: there is no data file */
		size_t at; /* a byte that is changed */
		size_t size;
		int r;
		enum upper_intent_kind kind;
		const char *said;
	} cases[] = {
		{ "ours", UUID, 0, INTENT, 0, UPPER_INTENT_RESIZE, "" },
		{ "in lower case", LOWER, 0, INTENT, 0, UPPER_INTENT_RESIZE, "" },
		{ "another's", OTHER, 0, INTENT, 0, UPPER_INTENT_NONE, "" },
		{ "a letter", UUID, 7, INTENT, 0, UPPER_INTENT_NONE, "" },
		{ "a part", UUID, 0, INTENT - 1, 0, UPPER_INTENT_NONE, "" },
		{ "damaged", UUID, 17, INTENT, -EBADMSG, UPPER_INTENT_NONE, "u.intent: " DAMAGED },
		{ "another's, damaged", OTHER, 17, INTENT, 0, UPPER_INTENT_NONE, "" },
		{ "no data", NULL, 0, INTENT, -ENOENT, UPPER_INTENT_NONE,
		  "u: No such file or directory" },
	};
	struct upper_intent found;
	uint8_t raw[INTENT];
	struct file_ops ops = memfs_ops;
	size_t i;
	long k;
	int r;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct err e = { "" };

		memfs = memfs_new(1);
		if (cases[i].uuid)
			put_part("u", FORMAT_PART_LOG_DATA, cases[i].uuid, BYTES);
		encode(UPPER_INTENT_RESIZE, 1024, UUID, raw);
		raw[cases[i].at] ^= cases[i].at > 0;
		put_file("u.intent", raw, cases[i].size);
		r = upper_intent_read(&memfs_ops, "u", &found, &e);
		if (r != cases[i].r || (r < 0 && strcmp(e.msg, cases[i].said) != 0))
			fail_msg("%s: %d '%s'", cases[i].what, r, e.msg);
		assert_int_equal(found.kind, cases[i].kind);
		if (found.kind != UPPER_INTENT_NONE) {
			assert_true(found.older_name);
			assert_int_equal(found.virtual_size, 1024);
		}
		assert_int_equal(count_fds(), 0);
		/* The file of the usual name is asked first. */
		encode(UPPER_INTENT_COMPACT, 0, UUID, raw);
		put_file("u.upper-intent", raw, INTENT);
		assert_int_equal(upper_intent_read(&memfs_ops, "u", &found, NULL), 0);
		assert_int_equal(found.kind, UPPER_INTENT_COMPACT);
		assert_false(found.older_name);
		memfs_free(memfs);
	}
	memfs = memfs_new(1);
	put_part("u", FORMAT_PART_LOG_DATA, UUID, BYTES);
	encode(UPPER_INTENT_RESIZE, 1024, UUID, raw);
	put_file("u.intent", raw, INTENT);
	ops.true_name = copy_name;
	for (k = 0, r = -ENOMEM; r < 0; k++) {
		struct err e = { "" };

		allocs_left = k;
		r = upper_intent_read(&ops, "u", &found, &e);
		allocs_left = -1;
		assert_string_equal(e.msg, r < 0 ? "out of memory" : e.msg);
	}
	assert_int_equal(k, 6); /* two names, and the data file's */
	memfs_free(memfs);
}

/* ---- carrying it out ---- */

/* The log has BYTES, and what the new files hold has a size of its own. */
enum file {
	ABSENT,
	OURS,
	ANOTHERS,
	OF_NONE, /* no part of any log */
};

static void put_some(const char *name, enum format_part part, enum file file, uint64_t size)
{
	if (file == OF_NONE)
		put_file(name, "letter", 6);
	else if (file != ABSENT)
		put_part(name, part, file == OURS ? UUID : OTHER, size);
}

static uint64_t size_of(const char *name)
{
	return memfs_find(name) ? le64_get(bytes_of(name)->p + 48) : 0;
}

#define GONE(x) "u." x ".new: what a compaction that was stopped left is removed\n"
#define NO_PART "is no part of the layer that is being changed"

static const struct finish {
	const char *what;
	enum upper_intent_kind kind;
	const char *uuid;
	enum file data, index, new_data, new_index;
	int r;
	uint64_t data_size, index_size; /* that the headers speak of then; 0: there is no file */
	bool new_data_stays, new_index_stays, stays; /* the new files, the intent */
	const char *said, *warned;
} finishes[] = {
	{ "none", UPPER_INTENT_NONE, UUID, OURS, OURS, ABSENT, ABSENT, 0, BYTES, BYTES, false,
	  false, false, "", "" },
	{ "what was not begun", UPPER_INTENT_NONE, UUID, OURS, OURS, OURS, OURS, 0, BYTES, BYTES,
	  false, false, false, "", GONE("data") GONE("index") },
	{ "half of it", UPPER_INTENT_NONE, UUID, OURS, OURS, OURS, ABSENT, 0, BYTES, BYTES, false,
	  false, false, "", GONE("data") },
	{ "the other half", UPPER_INTENT_NONE, UUID, OURS, OURS, ABSENT, OURS, 0, BYTES, BYTES,
	  false, false, false, "", GONE("index") },
	{ "another's", UPPER_INTENT_NONE, UUID, OURS, OURS, ANOTHERS, ANOTHERS, 0, BYTES, BYTES,
	  true, true, false, "", "" },
	{ "nobody's", UPPER_INTENT_NONE, UUID, OURS, OURS, OF_NONE, OF_NONE, 0, BYTES, BYTES, true,
	  true, false, "", "" },
	{ "no log", UPPER_INTENT_NONE, UUID, OF_NONE, OURS, OURS, OURS, 0, 0, BYTES, true, true,
	  false, "", "" },
	{ "resize", UPPER_INTENT_RESIZE, LOWER, OURS, OURS, ABSENT, ABSENT, 0, 1024, 1024, false,
	  false, false, "", "" },
	{ "resize beside", UPPER_INTENT_RESIZE, UUID, OURS, OURS, OURS, OURS, 0, 1024, 1024, true,
	  true, false, "", "" },
	{ "resize another", UPPER_INTENT_RESIZE, OTHER, OURS, OURS, OURS, ABSENT, 0, BYTES, BYTES,
	  false, false, false, "",
	  "u.data: an intent for another layer, " OTHER ", is removed\n" GONE("data") },
	{ "another index", UPPER_INTENT_RESIZE, UUID, OURS, ANOTHERS, ABSENT, ABSENT, -EBADMSG,
	  BYTES, BYTES, false, false, true, "u.index: " NO_PART, "" },
	{ "no index", UPPER_INTENT_RESIZE, UUID, OURS, ABSENT, ABSENT, ABSENT, -ENOENT, BYTES, 0,
	  false, false, true, "u.index: No such file or directory", "" },
	{ "no data", UPPER_INTENT_RESIZE, UUID, OF_NONE, OURS, ABSENT, ABSENT, -EBADMSG, 0, BYTES,
	  false, false, true, "u.data: LSMT data file's header: 6 bytes are too few", "" },
	{ "compact", UPPER_INTENT_COMPACT, LOWER, OURS, OURS, OURS, OURS, 0, 512, 512, false, false,
	  false, "", "" },
	{ "data done", UPPER_INTENT_COMPACT, UUID, OURS, OURS, ABSENT, OURS, 0, BYTES, 512, false,
	  false, false, "", "" },
	{ "index done", UPPER_INTENT_COMPACT, UUID, OURS, OURS, OURS, ABSENT, 0, 512, BYTES, false,
	  false, false, "", "" },
	{ "both done", UPPER_INTENT_COMPACT, UUID, OURS, OURS, ABSENT, ABSENT, 0, BYTES, BYTES,
	  false, false, false, "", "" },
	{ "compact another", UPPER_INTENT_COMPACT, OTHER, OURS, OURS, OURS, ANOTHERS, 0, BYTES,
	  BYTES, false, true, false, "",
	  "u.data: an intent for another layer, " OTHER ", is removed\n" GONE("data") },
	{ "another's data", UPPER_INTENT_COMPACT, UUID, OURS, OURS, ANOTHERS, OURS, -EBADMSG, BYTES,
	  BYTES, true, true, true, "u.data.new: " NO_PART, "" },
	{ "another's index", UPPER_INTENT_COMPACT, UUID, OURS, OURS, OURS, ANOTHERS, -EBADMSG, 512,
	  BYTES, false, true, true, "u.index.new: " NO_PART, "" },
};

static void put_finish(const struct finish *f, int *fd)
{
	uint8_t raw[INTENT];

	put_some("u.data", FORMAT_PART_LOG_DATA, f->data, BYTES);
	put_some("u.index", FORMAT_PART_LOG_INDEX, f->index, BYTES);
	put_some("u.data.new", FORMAT_PART_LOG_DATA, f->new_data, 512);
	put_some("u.index.new", FORMAT_PART_LOG_INDEX, f->new_index, 512);
	encode(f->kind, 1024, f->uuid, raw);
	if (f->kind != UPPER_INTENT_NONE)
		put_file("u.intent", raw, INTENT);
	*fd = memfs_open("u.data", O_RDWR, 0);
	assert_int_equal(memfs_lock(*fd), 0);
}

static void an_intent_is_carried_out(void **state)
{
	size_t i, k;
	int fd, r;

	for (i = 0; i < COUNT_OF(finishes); i++) {
		const struct finish *f = &finishes[i];
		bool again = true;

		memfs = memfs_new(1);
		put_finish(f, &fd);
		/* Once more does no harm. */
		for (k = 0; again && k < 2; k++) {
			struct err e = { "" };

			loglib_listen();
			r = upper_intent_finish(&memfs_ops, "u.data", "u.index", &fd, &e);
			if (r != f->r || strncmp(e.msg, f->said, strlen(f->said)) != 0 ||
			    (r == 0 && k == 0 && f->kind != UPPER_INTENT_NONE && e.msg[0]))
				fail_msg("%s: %d '%s'", f->what, r, e.msg);
			loglib_expect(k == 0 ? f->warned : "");
			loglib_expect_none();
			if ((f->data != OF_NONE && size_of("u.data") != f->data_size) ||
			    size_of("u.index") != f->index_size)
				fail_msg("%s: sizes %d and %d", f->what, (int)size_of("u.data"),
					 (int)size_of("u.index"));
			assert_int_equal(memfs_find("u.data.new") != NULL, f->new_data_stays);
			assert_int_equal(memfs_find("u.index.new") != NULL, f->new_index_stays);
			assert_int_equal(memfs_find("u.intent") != NULL, f->stays);
			/* The file that has the name is the one that is open and locked. */
			assert_int_equal(count_fds(), 1);
			assert_int_equal(memfs_is_named(fd, "u.data"), 1);
			assert_true(memfs->locked[fd]);
			/* New files are left for who opens the log next. */
			again = !f->new_data_stays || f->kind != UPPER_INTENT_RESIZE;
		}
		memfs_free(memfs);
	}
}

static int locked_result;

static int lock_as_told(int fd)
{
	return locked_result;
}

static int renamed_result;
static unsigned renames;

static int rename_as_told(const char *from, const char *to)
{
	return renames-- == 0 ? renamed_result : memfs_rename(from, to);
}

static void what_stops_a_replacement_is_told(void **state)
{
	static const struct {
		int lock, rename;
		unsigned renames; /* before that */
		int r;
		const char *said;
	} cases[] = {
		{ -EWOULDBLOCK, 0, 9, -EBUSY, "u.data.new: Resource temporarily unavailable" },
		{ -EIO, 0, 9, -EIO, "u.data.new: Input/output error" },
		{ 0, -EROFS, 0, -EROFS, "u.data.new: Read-only file system" },
		{ 0, -EROFS, 1, -EROFS, "u.index.new: Read-only file system" },
	};
	struct file_ops ops = memfs_ops;
	struct err e = { "" };
	size_t i;
	int fd;

	ops.lock = lock_as_told;
	ops.rename = rename_as_told;
	for (i = 0; i < COUNT_OF(cases); i++) {
		const struct finish f = { .kind = UPPER_INTENT_COMPACT,
					  .uuid = UUID,
					  .data = OURS,
					  .index = OURS,
					  .new_data = OURS,
					  .new_index = OURS };

		memfs = memfs_new(1);
		put_finish(&f, &fd);
		locked_result = cases[i].lock;
		renamed_result = cases[i].rename;
		renames = cases[i].renames;
		assert_int_equal(upper_intent_finish(&ops, "u.data", "u.index", &fd, &e),
				 cases[i].r);
		assert_string_equal(e.msg, cases[i].said);
		assert_int_equal(count_fds(), 1);
		assert_int_equal(memfs_is_named(fd, "u.data"), 1);
		assert_non_null(memfs_find("u.intent"));
		memfs_free(memfs);
	}
}

/* ---- what is left of a log that is gone ---- */

static int unlinked_result;

static int unlink_as_told(const char *path)
{
	return unlinked_result;
}

static void an_intent_without_a_log_is_removed(void **state)
{
	struct file_ops ops = memfs_ops;
	struct err e = { "" };
	uint8_t raw[INTENT];
	long k;
	int r = -ENOMEM;

	memfs = memfs_new(1);
	loglib_listen();
	assert_int_equal(upper_intent_remove(&memfs_ops, "u.data", &e), 0);
	encode(2, 0, OTHER, raw);
	put_file("u.intent", raw, INTENT);
	ops.unlink = unlink_as_told;
	unlinked_result = -EROFS;
	assert_int_equal(upper_intent_remove(&ops, "u.data", &e), -EROFS);
	assert_string_equal(e.msg, "u.intent: Read-only file system");
	unlinked_result = -ENOENT;
	assert_int_equal(upper_intent_remove(&ops, "u.data", &e), 0);
	loglib_listen();
	assert_int_equal(upper_intent_remove(&memfs_ops, "u.data", &e), 0);
	assert_null(memfs_find("u.intent"));
	loglib_expect("u.intent: an intent of a layer that is gone (" OTHER ") is removed\n");
	loglib_expect_none();
	raw[30] ^= 1;
	put_file("u.intent", raw, INTENT);
	assert_int_equal(upper_intent_remove(&memfs_ops, "u.data", &e), -EEXIST);
	assert_string_equal(e.msg, "u.intent: is in the way: changes of the layer would be kept "
				   "under this name");
	assert_non_null(memfs_find("u.intent"));
	assert_int_equal(count_fds(), 0);
	ops = memfs_ops;
	ops.true_name = copy_name;
	assert_int_equal(memfs_unlink("u.intent"), 0);
	for (k = 0; r == -ENOMEM; k++) {
		allocs_left = k;
		r = upper_intent_remove(&ops, "u.data", &e);
		allocs_left = -1;
		assert_string_equal(e.msg, k == 0 || r < 0 ? "out of memory" : e.msg);
	}
	assert_int_equal(r, 0);
	assert_true(k > 4);
	memfs_free(memfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_made_of_the_data_files),
		cmocka_unit_test(each_byte_is_as_the_format_says),
		cmocka_unit_test(what_is_no_intent_is_refused),
		cmocka_unit_test(parts_are_known_by_their_headers),
		cmocka_unit_test(a_header_is_read_as_it_will_be),
		cmocka_unit_test(the_older_name_is_looked_at_too),
		cmocka_unit_test(an_intent_is_carried_out),
		cmocka_unit_test(what_stops_a_replacement_is_told),
		cmocka_unit_test(an_intent_without_a_log_is_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
