/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_faults.c - each step of what is done to a log fails once: what is said, in which order
 * the steps come, and that what was flushed is there afterwards.
 *
 * The tables of upper-steps.h are the whole trace of an operation: a step that is left out, or that
 * comes too early, is a difference.  In memory; steps that read are counted by themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/format.h"
#include "core/upper_compact.h"
#include "core/upper_dense.h"
#include "core/upper_log.h"
#include "core/upper_repair.h"
#include "core/upper_resize.h"
#include "core/upper_seal.h"
#include "tests/unit/loglib.h"
#include "tests/unit/memfs.h"
#include "tests/unit/upper-steps.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SECTORS = 64,
	BYTES = SECTORS * SECTOR,
	TEXT = 1024,
};

/* ---- the faulty disk ---- */

static bool counts_reads; /* else what changes files */
static long left = -1; /* steps until one fails; negative: none does */
static char step[64]; /* that failed */
static struct file_ops ops;

static const char *short_name(const char *path)
{
	static char name[MEMFS_NAME];
	char *digits;

	snprintf(name, sizeof name, "%s", path);
	digits = strstr(name, ".tmp.");
	if (digits)
		digits[4] = '\0';
	return name;
}

static const char *name_of(int fd)
{
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file >= 0 && memfs->names.list[i].file == memfs->fds[fd])
			return memfs->names.list[i].name;
	return "(no name)";
}

static int take(bool reads, const char *what, const char *path)
{
	if (reads != counts_reads || left < 0)
		return 0;
	if (left-- > 0)
		return 0;
	snprintf(step, sizeof step, "%s %s", what, short_name(path));
	return -EIO;
}

static int faulty_open(const char *path, int flags, mode_t mode)
{
	bool makes = flags & O_CREAT;
	/* That there is none is told by opening it. */
	int r = makes || memfs_find(path) ? take(!makes, makes ? "make" : "open", path) : 0;

	return r < 0 ? r : memfs_open(path, flags, mode);
}

static ssize_t faulty_pread(int fd, void *buf, size_t n, uint64_t off)
{
	int r = take(true, "read", name_of(fd));

	return r < 0 ? r : memfs_pread(fd, buf, n, off);
}

static ssize_t faulty_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	int r = take(false, "write", name_of(fd));

	return r < 0 ? r : memfs_pwrite(fd, buf, n, off);
}

static int faulty_size(int fd, uint64_t *size)
{
	int r = take(true, "size", name_of(fd));

	return r < 0 ? r : memfs_size(fd, size);
}

static int faulty_status(int fd, struct file_status *out)
{
	int r = take(true, "status", name_of(fd));

	return r < 0 ? r : memfs_status(fd, out);
}

static int faulty_boot_id(char out[FILE_BOOT_ID])
{
	int r = take(true, "boot id", "");

	return r < 0 ? r : memfs_boot_id(out);
}

static int faulty_truncate(int fd, uint64_t size)
{
	int r = take(false, "truncate", name_of(fd));

	return r < 0 ? r : memfs_truncate(fd, size);
}

static int faulty_datasync(int fd)
{
	int r = take(false, "sync", name_of(fd));

	return r < 0 ? r : memfs_datasync(fd);
}

static int faulty_make_like(int fd, int model)
{
	int r = take(false, "mode of", name_of(fd));

	return r < 0 ? r : memfs_make_like(fd, model);
}

static int faulty_rename(const char *from, const char *to)
{
	int r = take(false, "rename to", to);

	return r < 0 ? r : memfs_rename(from, to);
}

static int faulty_unlink(const char *path)
{
	int r = memfs_find(path) ? take(false, "unlink", path) : 0;

	return r < 0 ? r : memfs_unlink(path);
}

static int faulty_sync_folder(const char *path)
{
	int r = take(false, "sync folder of", path);

	return r < 0 ? r : memfs_sync_folder(path);
}

static void make_ops(void)
{
	ops = memfs_ops;
	ops.open = faulty_open;
	ops.pread = faulty_pread;
	ops.pwrite = faulty_pwrite;
	ops.size = faulty_size;
	ops.status = faulty_status;
	ops.boot_id = faulty_boot_id;
	ops.truncate = faulty_truncate;
	ops.datasync = faulty_datasync;
	ops.make_like = faulty_make_like;
	ops.rename = faulty_rename;
	ops.unlink = faulty_unlink;
	ops.sync_folder = faulty_sync_folder;
}

/* ---- the log ---- */

static const struct upper_log_options options = {
	.ops = &ops, .garbage = 50, .garbage_records = 10, .room_records = 4, .room_bytes = 4096
};
static struct upper_log *u; /* open before the operation; NULL: it is not */
static int result; /* of the operation */

static void open_log(void)
{
	struct err e;

	if (upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e) < 0)
		fail_msg("%s", e.msg);
}

/* The process is gone, without a word. */
static void kill_process(void)
{
	if (u) {
		memfs->dead = true;
		(void)upper_log_close(u, NULL);
		u = NULL;
	}
	memfs_kill(memfs);
}

static void put(uint64_t sector, char letter)
{
	char bytes[SECTOR];

	memset(bytes, letter, sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, SECTOR, sector * SECTOR, 0, NULL), 0);
}

/* Sector 1 was flushed, sector 2 is zeroed, sector 3 was acknowledged only. */
static void make_log(void)
{
	unsigned i;

	memfs = memfs_new(1);
	assert_int_equal(upper_log_create(&ops, "u.data", "i/u.index", BYTES, NULL, NULL, NULL), 0);
	open_log();
	for (i = 0; i < 20; i++)
		put(1 + i % 2 * 4, 'a');
	assert_int_equal(upper_log_zero(u, 2 * SECTOR, SECTOR, 0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	put(3, 'c');
}

static void make_killed(void)
{
	make_log();
	kill_process();
}

/* A record of the index is of no length, and five bytes follow on the last. */
static void make_damaged(void)
{
	struct memfs_bytes *index;

	make_killed();
	index = &memfs->files[memfs_find("i/u.index")->file].now;
	index->p[FORMAT_SPACE + 6] ^= 4;
	memfs_put(index, index->n, (const uint8_t *)"12345", 5);
}

/* The pending file is one of an older version, which does not say whether it is the newest. */
static void make_older(void)
{
	struct format_entry entry = { .start = 3, .sectors = 1, .moffset = 9 };
	uint8_t raw[128 + FORMAT_ENTRY];
	struct memfs_bytes *pending;

	make_killed();
	pending = &memfs->files[memfs_find("u.pending")->file].now;
	memcpy(raw, pending->p, 128);
	memcpy(raw, "OBDPEND1", 8);
	memset(raw + 88, 0, sizeof raw - 88);
	le32_put(raw + 124, crc32c_raw(0, raw, 124));
	format_encode_entry(&entry, raw + 128);
	memfs_resize(pending, 0);
	memfs_put(pending, 0, raw, sizeof raw);
}

static void make_nothing(void)
{
	memfs = memfs_new(1);
}

static int create(struct err *e)
{
	return upper_log_create(&ops, "u.data", "i/u.index", BYTES, NULL, NULL, e);
}

/* Under its own names, with one sector of data. */
static int create_dense(struct err *e)
{
	struct mapping maps[] = { mapping_make(1, 1, 0, 8, false), mapping_make(2, 3, 0, 0, true) };
	struct mapping_run run = { .maps = maps, .count = COUNT_OF(maps) };
	struct format_header h;
	struct upper_dense dense = { .ops = &ops, .header = &h, .maps = &run };
	int r, fd = memfs_open("from", O_RDWR | O_CREAT, 0644);

	memfs_put(&memfs->files[memfs_find("from")->file].now, 8 * SECTOR, (uint8_t[SECTOR]){ 'a' },
		  SECTOR);
	assert_int_equal(upper_log_make_header(&h, BYTES, NULL, NULL, NULL), 0);
	assert_int_equal(upper_file_source(&memfs_ops, fd, &dense.from, NULL), 0);
	r = upper_dense_create(&dense, "u.data", "i/u.index", e);
	source_close(dense.from);
	memfs_close(fd);
	return r;
}

static int reopen(struct err *e)
{
	return upper_log_open("u.data", "i/u.index", &options, &u, NULL, e);
}

static int flush(struct err *e)
{
	return upper_log_flush(u, e);
}

static int tidy(struct err *e)
{
	return upper_log_tidy(u, e);
}

static int seal(struct err *e)
{
	uint64_t size;

	return upper_seal_files(&ops, "u.data", "i/u.index", &size, e);
}

static int compact(struct err *e)
{
	struct upper_compact how = { .ops = &ops };

	return upper_compact_files(&how, "u.data", "i/u.index", e);
}

static int grow(struct err *e)
{
	struct upper_resize how = { .ops = &ops, .size = 2 * BYTES };
	uint64_t before;

	return upper_resize_files(&how, "u.data", "i/u.index", &before, e);
}

static int repair_as(enum upper_acknowledged how, struct err *e)
{
	struct upper_repair done;

	return upper_repair_files(&ops, "u.data", "i/u.index", how, &done, e);
}

static int repair(struct err *e)
{
	return repair_as(UPPER_ACKNOWLEDGED_JUDGE, e);
}

static int repair_dropping(struct err *e)
{
	return repair_as(UPPER_ACKNOWLEDGED_DROP, e);
}

static int repair_applying(struct err *e)
{
	return repair_as(UPPER_ACKNOWLEDGED_APPLY, e);
}

#define STEPS(table)                                                                               \
	{                                                                                          \
		table, COUNT_OF(table)                                                             \
	}

struct operation {
	const char *name;
	void (*make)(void);
	int (*run)(struct err *e);
	bool reads;
	struct {
		const struct upper_step *steps;
		size_t count;
	} parts[4];
};

static const struct operation operations[] = {
	{ "create", make_nothing, create, false, { STEPS(create_steps) } },
	{ "create dense", make_nothing, create_dense, false, { STEPS(dense_steps) } },
	{ "open", make_killed, reopen, false, { STEPS(open_steps) } },
	{ "flush", make_log, flush, false, { STEPS(flush_steps) } },
	{ "tidy", make_log, tidy, false, { STEPS(tidy_steps) } },
	{ "seal", make_killed, seal, false, { STEPS(open_steps), STEPS(seal_steps) } },
	{ "compact", make_killed, compact, false, { STEPS(open_steps), STEPS(compact_steps) } },
	{ "grow", make_killed, grow, false, { STEPS(open_steps), STEPS(grow_steps) } },
	{ "open", make_killed, reopen, true, { STEPS(open_reads) } },
	{ "tidy", make_log, tidy, true, { STEPS(tidy_reads) } },
	{ "seal",
	  make_killed,
	  seal,
	  true,
	  { STEPS(look_reads), STEPS(open_reads), STEPS(seal_reads) } },
	{ "compact",
	  make_killed,
	  compact,
	  true,
	  { STEPS(look_reads), STEPS(open_reads), STEPS(compact_reads) } },
	{ "grow",
	  make_killed,
	  grow,
	  true,
	  { STEPS(look_reads), STEPS(open_reads), STEPS(grow_reads) } },
	{ "repair", make_damaged, repair, false, { STEPS(repair_steps) } },
	{ "repair", make_damaged, repair, true, { STEPS(scan_reads), STEPS(repair_reads) } },
	{ "drop", make_killed, repair_dropping, false, { STEPS(drop_steps) } },
	{ "drop", make_killed, repair_dropping, true, { STEPS(scan_reads), STEPS(drop_reads) } },
	{ "apply", make_older, repair_applying, false, { STEPS(apply_steps) } },
	{ "apply",
	  make_older,
	  repair_applying,
	  true,
	  { STEPS(scan_reads), STEPS(apply_reads), STEPS(apply_look_reads),
	    STEPS(apply_open_reads) } },
};

/* The random digits of a temporary name become a star. */
static void hide_digits(char *text)
{
	char *at = text;

	while ((at = strstr(at, ".tmp."))) {
		at += strlen(".tmp.");
		memmove(at + 1, at + 16, strlen(at + 16) + 1);
		*at = '*';
	}
}

/* Runs it with step k failing.  False: there are not so many. */
static bool run_one(const struct operation *o, long k, char said[TEXT])
{
	struct err e = { "" };

	left = -1;
	step[0] = '\0';
	counts_reads = o->reads;
	o->make();
	loglib_listen();
	left = k;
	result = o->run(&e);
	left = -1;
	snprintf(said, TEXT, "%s%s", loglib_warnings, result < 0 ? e.msg : "");
	hide_digits(said);
	return step[0];
}

/* What was flushed is there, for the next process. */
static void expect_flushed(const struct operation *o)
{
	char bytes[SECTOR];
	uint64_t i;
	struct err e;

	kill_process();
	if (!memfs_find("i/u.index") || o->make == make_nothing)
		return; /* sealed, or empty */
	if (result < 0 && (o->make == make_damaged || o->make == make_older))
		return; /* not repaired */
	if (upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e) < 0)
		fail_msg("%s, after %s: %s", o->name, step, e.msg);
	for (i = 1; i < 3; i++) {
		assert_int_equal(upper_log_pread(u, bytes, SECTOR, i * SECTOR, NULL), 0);
		if (bytes[0] != (i == 1 ? 'a' : 0) || bytes[SECTOR - 1] != bytes[0])
			fail_msg("%s, after %s: sector %d is lost", o->name, step, (int)i);
	}
}

/* What is made on the way is gone, and so are descriptors. */
static void expect_nothing_left(const struct operation *o)
{
	size_t i, opened = 0;

	/* A log is made of both files, or of none. */
	if (o->make == make_nothing && result < 0 &&
	    (memfs_find("u.data") || memfs_find("u.data.part") || memfs_find("i/u.index") ||
	     memfs_find("i/u.index.part")))
		fail_msg("%s, after %s: a file is left", o->name, step);
	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file >= 0 && strstr(memfs->names.list[i].name, ".tmp."))
			fail_msg("%s, after %s: %s is left", o->name, step,
				 memfs->names.list[i].name);
	for (i = 0; i < MEMFS_FDS; i++)
		opened += memfs->fds[i] >= 0;
	/* Data, index and pending file of one that is open; the last is gone when that failed. */
	if (opened > (u ? 3 : 0))
		fail_msg("%s, after %s: %zu descriptors are left", o->name, step, opened);
}

static void end_one(void)
{
	kill_process();
	memfs_free(memfs);
}

/* NULL: there are not so many. */
static const struct upper_step *find_step(const struct operation *o, size_t k)
{
	size_t i;

	for (i = 0; i < COUNT_OF(o->parts); i++) {
		if (k < o->parts[i].count)
			return &o->parts[i].steps[k];
		k -= o->parts[i].count;
	}
	return NULL;
}

static void check_step(const struct operation *o, size_t k, const struct upper_step *want,
		       const char *said)
{
	bool goes_on = !want->said[0] || strchr(want->said, '\n');

	if (strcmp(step, want->step) != 0 || strcmp(said, want->said) != 0)
		fail_msg("%s, step %zu: '%s' failed: '%s', not '%s': '%s'", o->name, k, step, said,
			 want->step, want->said);
	if (result != (goes_on ? 0 : -EIO))
		fail_msg("%s, step %zu, %s: returned %d", o->name, k, step, result);
}

static void each_step_fails_once(void **state)
{
	const struct upper_step *want;
	const struct operation *o;
	char said[TEXT];
	size_t i, k;

	for (i = 0; i < COUNT_OF(operations); i++) {
		o = &operations[i];
		for (k = 0; (want = find_step(o, k)); k++) {
			if (!run_one(o, (long)k, said))
				fail_msg("%s has only %zu steps", o->name, k);
			check_step(o, k, want, said);
			expect_nothing_left(o);
			expect_flushed(o);
			end_one();
		}
		if (run_one(o, (long)k, said))
			fail_msg("%s: one step more: %s", o->name, step);
		assert_int_equal(result, 0);
		assert_string_equal(said, "");
		end_one();
	}
}

/* A process may have no standard input: then descriptor 0 is one like others. */
static void each_file_may_have_descriptor_zero(void **state)
{
	static const char *const names[] = { "u.data",	    "i/u.index",     "u.pending",
					     "u.intent",    "u.data.new",    "i/u.index.new",
					     "u.data.part", "i/u.index.part" };
	char said[TEXT];
	size_t i, k;

	for (i = 0; i < COUNT_OF(operations) * COUNT_OF(names); i++) {
		const struct operation *o = &operations[i / COUNT_OF(names)];

		memfs_zero = names[i % COUNT_OF(names)];
		for (k = 0; find_step(o, k); k++)
			;
		if (run_one(o, (long)k, said) || result < 0 || said[0])
			fail_msg("%s, %s has descriptor 0: %s", o->name, memfs_zero, said);
		expect_nothing_left(o);
		expect_flushed(o);
		end_one();
	}
	memfs_zero = NULL;
}

/* An index that could not be made anew is tried again when it is twice as long, not each time. */
static void a_failed_rewriting_waits(void **state)
{
	enum { RECORDS = 22 }; /* in the index, of make_log */
	struct operation o = { "tidy", make_log, tidy, false, { { NULL, 0 } } };
	char said[TEXT];
	size_t n;

	assert_true(run_one(&o, 0, said));
	for (n = RECORDS; n < 2 * RECORDS; n += 2) { /* a record and its CHECK */
		left = 0;
		step[0] = '\0';
		assert_int_equal(upper_log_tidy(u, NULL), 0);
		assert_string_equal(step, "");
		left = -1;
		if (n > RECORDS) /* the first is what make_log did not flush */
			put(1, 'a');
		assert_int_equal(upper_log_flush(u, NULL), 0);
	}
	left = 0;
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_string_equal(step, "make i/u.index.tmp");
	end_one();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_step_fails_once),
		cmocka_unit_test(each_file_may_have_descriptor_zero),
		cmocka_unit_test(a_failed_rewriting_waits),
	};

	make_ops();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
