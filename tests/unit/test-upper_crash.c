/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_crash.c - the crash model of the append log.
 *
 * A client writes, zeroes, trims and flushes; before each operation that the log makes on its
 * files, the machine is stopped: the process dies (also in the middle of a write), or the power
 * goes and takes parts of what was not synced.  Each time a copy of the files is opened again and
 * every sector compared with what DESIGN.md 8 allows there.  Now and then the crash is real, and
 * life goes on from what it left.  Numbers in messages are those of the invariants in
 * core/upper_log.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/format.h"
#include "core/upper_log.h"
#include "tests/unit/loops.h"
#include "tests/unit/memfs.h"

enum {
	SECTORS = 48,
	BYTES = SECTORS * 512,
	VERSIONS = 256, /* of a sector in one life */
	LIFE = 5, /* operations on files between two flushes, about */
	LONG = 40 * 1024, /* bytes of data: the files are copied at each operation */
	LOSSES = 4, /* power losses at each operation */
	POINTS = 200000,
	LIVES = 60000, /* that are looked at only when they are over */
};

/* What the client knows of a sector: contents in the order in which they were written. */
struct sector {
	uint64_t versions[VERSIONS]; /* hashes */
	unsigned count; /* those behind `acked` are being written */
	unsigned acked; /* the newest that was acknowledged */
	unsigned flushed; /* the newest that must survive power loss */
	uint8_t bytes[512]; /* of `acked` */
};

static struct sector disk[SECTORS];
static struct upper_log *u;
static uint64_t seed; /* of this test's own decisions */
static uint64_t points, lives, failures;
static uint64_t data_high; /* bytes of the data file that were acknowledged */
static uint64_t data_new; /* the same with those of the write that goes on */
static bool sync_failed, in_flush, opening;
static bool unsure; /* what a real crash left has not been looked at yet */
static bool died; /* a real crash happened */
static unsigned enospc, broken_sync; /* in so many operations one fails; 0: none */
static unsigned operations_left; /* until the real crash */
static bool flush_needed; /* there was no room: a change may wait for a flush of its own */
static bool nested; /* a write while another thread's flush goes on */
static uint64_t refused; /* operations, for want of room */
static bool unobserved; /* only what the real crashes leave is looked at */
static unsigned rarely, reach; /* how often this life flushes, and how far its writes go */

static uint64_t random_below(uint64_t n)
{
	return testlib_random(&seed) % n;
}

static uint64_t hash(const uint8_t bytes[512])
{
	uint64_t h = 1469598103934665603u, word;
	size_t i;

	for (i = 0; i < 512; i += 8) {
		memcpy(&word, bytes + i, 8);
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 29;
	}
	return h;
}

/* Below the log no sector is zero: what is not mapped differs from what is zeroed. */
static int read_below(void *arg, void *buf, size_t n, uint64_t off, struct err *e)
{
	size_t i;

	for (i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)((off + i) / 512 + (off + i) * 7 + 1);
	return 0;
}

static const struct upper_log_options options = {
	.ops = &memfs_ops,
	.below = { .pread = read_below },
	.garbage = 50,
	.garbage_records = 12,
	.garbage_bytes = 1,
	.room_bytes = 4096,
	.room_records = 40,
	.pending_bytes = 500,
};

/* ---- what may be found ---- */

static bool is_among(const struct sector *s, uint64_t h, unsigned from, unsigned to)
{
	for (; from < to; from++)
		if (s->versions[from] == h)
			return true;
	return false;
}

static void report(const char *what, unsigned i, const uint8_t *bytes)
{
	const struct sector *s = &disk[i];
	uint64_t h = hash(bytes);
	unsigned k, found = VERSIONS;

	for (k = 0; k < s->count; k++)
		found = s->versions[k] == h ? k : found;
	fail_msg("%s: sector %u: version %d found; %u flushed, %u acknowledged, %u begun (life "
		 "%" PRIu64 ", point %" PRIu64 ")",
		 what, i, found == VERSIONS ? -1 : (int)found, s->flushed, s->acked, s->count - 1,
		 lives, points);
}

/* Invariant 3, or after power loss 4. */
static void check_disk(struct upper_log *log, bool lost)
{
	uint8_t bytes[BYTES];
	struct err e;
	unsigned i;

	if (upper_log_pread(log, bytes, BYTES, 0, &e) < 0)
		fail_msg("reading after a crash: %s (point %" PRIu64 ")", e.msg, points);
	for (i = 0; i < SECTORS; i++) {
		const struct sector *s = &disk[i];

		if (!is_among(s, hash(bytes + 512 * i), lost ? s->flushed : s->acked, s->count))
			report(lost ? "(4) after power loss" : "(3) after a kill", i,
			       bytes + 512 * i);
	}
}

static struct upper_log *open_image(struct memfs *image)
{
	struct upper_log *log;
	struct err e;

	memfs = image;
	if (upper_log_open("u.data", "u.index", &options, &log, NULL, &e) < 0)
		fail_msg("opening after a crash: %s (point %" PRIu64 ")", e.msg, points);
	return log;
}

/* Closes without a trace. */
static void drop_image(struct memfs *image, struct upper_log *log)
{
	memfs = image;
	image->dead = true;
	(void)upper_log_close(log, NULL);
	memfs_free(image);
}

/* What was found is there after a flush and power loss too, and so is what was written before the
 * flush. */
static void check_next_life(struct memfs *image, struct upper_log *log)
{
	uint8_t found[BYTES], again[BYTES];
	uint64_t i, n = random_below(4);
	struct memfs *next;

	assert_int_equal(upper_log_pread(log, found, BYTES, 0, NULL), 0);
	for (i = 0; i < n; i++) {
		uint8_t *bytes = found + random_below(SECTORS) * 512;

		testlib_fill(bytes, 512, 0, &seed);
		assert_int_equal(
			upper_log_pwrite(log, bytes, 512, (uint64_t)(bytes - found), 0, NULL), 0);
	}
	assert_int_equal(upper_log_flush(log, NULL), 0);
	next = memfs_image(image, true, &seed);
	log = open_image(next);
	assert_int_equal(upper_log_pread(log, again, BYTES, 0, NULL), 0);
	for (i = 0; i < SECTORS; i++)
		if (memcmp(found + 512 * i, again + 512 * i, 512) != 0)
			fail_msg("(4) sector %" PRIu64 " changed after a crash (point %" PRIu64 ")",
				 i, points);
	drop_image(next, log);
	memfs = image;
}

/* Opens a copy of the files as they are after a crash, and looks; with `go_on` at what becomes of
 * it too. */
static void check_image(struct memfs *image, bool lost, bool go_on)
{
	struct memfs *before = memfs;
	struct upper_log *log = open_image(image);

	points++;
	check_disk(log, lost);
	if (go_on)
		check_next_life(image, log);
	drop_image(image, log);
	memfs = before;
}

static void check_kill(bool go_on)
{

	check_image(go_on ? memfs_clone(memfs) : memfs_image(memfs, false, &seed), unsure, go_on);
}

static void check_loss(bool go_on)
{
	struct memfs *image = memfs_image(memfs, true, &seed);

	if (go_on)
		memfs_settle(image);
	check_image(image, true, go_on);
}

/* The process dies in the middle of a write: a part of it, in order, was made. */
static void check_torn_kill(int file, uint64_t off, const uint8_t *bytes, size_t n)
{
	struct memfs *image = memfs_image(memfs, false, &seed);
	size_t unit = n % 512 == 0 ? 512 : 16, i;

	/* A file that has a name has the same place among the names of the copy. */
	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file == file)
			memfs_put(&image->files[image->names.list[i].file].now, off, bytes,
				  (size_t)random_below(n / unit + 1) * unit);
	check_image(image, false, false);
}

/* Invariant 2, in the making: no record before its data. */
static void check_records(uint64_t off, const uint8_t *bytes, size_t n)
{
	const struct memfs_file *data = &memfs->files[memfs_find("u.data")->file];
	size_t i, k;

	for (i = 0; off >= FORMAT_SPACE && i < n; i += FORMAT_ENTRY) {
		struct format_entry entry = format_parse_entry(bytes + i);
		uint64_t from = entry.moffset * 512, end = from + entry.sectors * 512;

		if (entry.zeroed || entry.start == FORMAT_PADDING)
			continue;
		if (end > data->durable.n)
			fail_msg("(2) a record points behind what is durable");
		for (k = 0; k < data->count; k++)
			if (data->changes[k].kind == MEMFS_WRITE && data->changes[k].off < end &&
			    from < data->changes[k].off + data->changes[k].n)
				fail_msg("(2) a record points at data that is not durable");
	}
}

static bool has_name(int file, const char *name)
{
	const struct memfs_name *found = memfs_find(name);

	return found && found->file == file;
}

/* The index file, or one that is to take its place. */
static bool is_index(int file)
{
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file == file &&
		    (strcmp(memfs->names.list[i].name, "u.index") == 0 ||
		     strncmp(memfs->names.list[i].name, "u.index.tmp.", 12) == 0))
			return true;
	return false;
}

static bool is_pending(int file)
{
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file == file &&
		    strncmp(memfs->names.list[i].name, "u.pending", 9) == 0)
			return true;
	return false;
}

static void write_during_flush(void);

/* A failed sync: the kernel takes the pages for clean.  It may throw them away, or go on showing
 * what the disk does not hold. */
static int break_sync(int file)
{
	struct memfs_file *f = &memfs->files[file];
	struct memfs_bytes left = memfs_after_loss(f, &seed);

	sync_failed = true;
	memfs_forget_changes(f);
	free(f->durable.p);
	f->durable = left;
	if (random_below(2) == 0) {
		memfs_resize(&f->now, left.n);
		memfs_put(&f->now, 0, left.p, left.n);
	}
	return -EIO;
}

/* All that could be found if it ended here. */
static void look(enum memfs_kind kind, int file, uint64_t off, const void *bytes, size_t n)
{
	unsigned i;

	/* Between a failed sync and the removal of the pending file, a kill finds that file: what
	 * it says may be lost, and nobody can know. */
	if (!sync_failed)
		check_kill(kind == MEMFS_SYNC_FOLDER || random_below(8) == 0);
	for (i = 0; i < LOSSES; i++)
		check_loss(random_below(8) == 0);
	/* A header of the pending file lies within a page, of which no process writes a part. */
	if (kind == MEMFS_WRITE && !sync_failed && !unsure && !(off == 0 && n == 256))
		check_torn_kill(file, off, bytes, n);
}

static int before_operation(enum memfs_kind kind, int file, uint64_t off, const void *bytes,
			    size_t n, size_t *done)
{
	if (!unobserved)
		look(kind, file, off, bytes, n);
	if (kind == MEMFS_WRITE && is_index(file))
		check_records(off, bytes, n);
	if (kind == MEMFS_WRITE && has_name(file, "u.data") && off < data_high)
		fail_msg("(1) the data file is written at %" PRIu64 ", below %" PRIu64, off,
			 data_high);
	if (!sync_failed && operations_left > 0 && --operations_left == 0) {
		memfs->dead = died = true;
		return -EIO;
	}
	if (kind == MEMFS_SYNC && in_flush && !flush_needed && random_below(3) == 0)
		write_during_flush();
	if (kind == MEMFS_SYNC && (has_name(file, "u.data") || has_name(file, "u.index")) &&
	    !died && !opening && broken_sync && random_below(broken_sync) == 0)
		return break_sync(file);
	/* While it is opened, what may have no room is the new pending file. */
	if ((kind == MEMFS_WRITE || kind == MEMFS_OPEN) && (!opening || is_pending(file)) &&
	    !nested && enospc && random_below(opening ? 3 : enospc) == 0) {
		flush_needed = true;
		refused++;
		if (kind == MEMFS_WRITE && !(off == 0 && n == 256))
			*done = (size_t)random_below(n / 16 + 1) * 16;
		return -ENOSPC;
	}
	if (kind == MEMFS_WRITE && has_name(file, "u.data"))
		data_new = off + n;
	return 0;
}

/* ---- the client ---- */

/* Bytes [off, off + n) are about to change; NULL: to zeroes. */
static void begin(uint64_t off, uint64_t n, const uint8_t *bytes)
{
	uint64_t i;

	for (i = off / 512; i * 512 < off + n; i++) {
		struct sector *s = &disk[i];
		uint64_t from = off > i * 512 ? off : i * 512;
		uint64_t to = off + n < (i + 1) * 512 ? off + n : (i + 1) * 512;
		uint8_t changed[512];

		memcpy(changed, s->bytes, 512);
		if (bytes)
			memcpy(changed + from % 512, bytes + (from - off), (size_t)(to - from));
		else
			memset(changed + from % 512, 0, (size_t)(to - from));
		assert_true(s->count < VERSIONS);
		s->versions[s->count++] = hash(changed);
	}
}

/* It was acknowledged; or it failed, and each of its sectors is the old one or the new one. */
static void end(uint64_t off, uint64_t n, int r, bool durable)
{
	uint8_t bytes[512];
	uint64_t i;

	for (i = off / 512; i * 512 < off + n; i++) {
		struct sector *s = &disk[i];
		uint64_t h;

		assert_int_equal(upper_log_pread(u, bytes, 512, i * 512, NULL), 0);
		h = hash(bytes);
		if (h != s->versions[s->count - 1] &&
		    (r == 0 || !is_among(s, h, s->acked, s->count)))
			report("in the running process", (unsigned)i, bytes);
		/* What failed may be seen, and be gone after a crash. */
		if (r == 0)
			s->acked = s->count - 1;
		memcpy(s->bytes, bytes, 512);
		if (durable)
			s->flushed = s->acked;
	}
	if (r == 0)
		data_high = data_new;
}

static int change(uint64_t off, uint64_t n, unsigned flags)
{
	uint8_t bytes[BYTES];
	uint64_t what = random_below(8), state = testlib_random(&seed);
	struct err e;
	int r;

	testlib_fill(bytes, (size_t)n, 128, &state);
	if (what == 0) { /* only whole sectors */
		uint64_t first = (off + 511) / 512 * 512, last = (off + n) / 512 * 512;

		if (first >= last)
			return 0;
		off = first;
		n = last - first;
	}
	begin(off, n, what < 2 ? NULL : bytes);
	data_new = data_high;
	if (what == 0)
		r = upper_log_trim(u, off, n, flags, &e);
	else if (what == 1)
		r = upper_log_zero(u, off, n, flags, &e);
	else
		r = upper_log_pwrite(u, bytes, (size_t)n, off, flags, &e);
	if (sync_failed || died)
		return r;
	if (r != 0 && r != -ENOSPC)
		fail_msg("a write: %s", e.msg);
	/* Writes with FUA may be done and not durable. */
	end(off, n, r, r == 0 && flags & UPPER_FUA);
	return r;
}

static int change_some(unsigned flags)
{
	uint64_t off = random_below(BYTES), n = random_below(reach * 512) + 1;

	if (random_below(4) > 0) {
		off = off / 512 * 512;
		n = (n + 511) / 512 * 512;
	}
	return change(off, n < BYTES - off ? n : BYTES - off, flags);
}

/* As another thread would. */
static void write_during_flush(void)
{
	in_flush = false;
	nested = true;
	(void)change_some(0);
	nested = false;
	in_flush = true;
}

static void tidy(void)
{
	struct err e;

	if (upper_log_tidy(u, &e) < 0 && !sync_failed && !died)
		fail_msg("tidying: %s", e.msg);
}

static void flush(void)
{
	unsigned acked[SECTORS], i;
	uint64_t refused_before = refused;
	struct err e;
	int r;

	for (i = 0; i < SECTORS; i++)
		acked[i] = disk[i].acked;
	in_flush = true;
	r = upper_log_flush(u, &e);
	in_flush = false;
	flush_needed = r != 0 || refused > refused_before;
	if (died)
		return;
	if (r != 0 && r != -ENOSPC && !sync_failed)
		fail_msg("a flush: %s", e.msg);
	if (sync_failed && r != -EIO)
		fail_msg("(5) a flush that failed gives %d", r);
	for (i = 0; r == 0 && i < SECTORS; i++)
		disk[i].flushed = acked[i];
	/* What is superseded only by what did not get through must not be given back. */
	for (i = 0; r == -ENOSPC && i < 3; i++)
		tidy();
}

static void step(void)
{
	uint64_t what = random_below(rarely);
	struct err e;

	if (sync_failed) {
		if (upper_log_flush(u, &e) != -EIO ||
		    upper_log_pwrite(u, "x", 1, 0, 0, &e) != -EIO ||
		    upper_log_trim(u, 0, BYTES, 0, &e) != -EIO)
			fail_msg("(5) it goes on after a failed sync");
		memfs->dead = died = true;
		return;
	}
	if (what == 0)
		(void)change_some(UPPER_FUA);
	else if (what < 4)
		flush();
	else if (what > 5)
		(void)change_some(0);
	else
		tidy();
}

/* ---- lives ---- */

/* What is found after a crash is all there is. */
static void adopt(bool lost)
{
	uint8_t bytes[BYTES];
	unsigned i;

	check_disk(u, lost);
	assert_int_equal(upper_log_pread(u, bytes, BYTES, 0, NULL), 0);
	for (i = 0; i < SECTORS; i++) {
		struct sector *s = &disk[i];
		uint64_t h = hash(bytes + 512 * i);

		memcpy(s->bytes, bytes + 512 * i, 512);
		if (lost) {
			s->versions[0] = h;
			s->acked = s->flushed = 0;
			s->count = 1;
			continue;
		}
		/* It may still be lost to the power. */
		while (s->acked + 1 < s->count && h != s->versions[s->acked])
			s->acked++;
		memmove(s->versions, s->versions + s->flushed,
			(s->acked + 1 - s->flushed) * sizeof s->versions[0]);
		s->acked -= s->flushed;
		s->flushed = 0;
		s->count = s->acked + 1;
	}
}

/* `lost`: the power went, or as much was lost. */
static void open_log(bool lost)
{
	struct err e;

	opening = true;
	unsure = lost;
	if (upper_log_open("u.data", "u.index", &options, &u, NULL, &e) < 0)
		fail_msg("opening: %s", e.msg);
	opening = unsure = false;
	adopt(lost);
	data_high = memfs->files[memfs_find("u.data")->file].now.n;
}

/* Drops the process's memory; its files do not notice. */
static void drop_log(void)
{
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs_kill(memfs);
	u = NULL;
}

/* An orderly end; one that fails is as good as a crash. */
static void close_log(void)
{
	struct err e;
	unsigned i;
	int r = upper_log_close(u, &e);

	u = NULL;
	if (died || sync_failed)
		return;
	if (r != 0 && r != -ENOSPC)
		fail_msg("closing: %s", e.msg);
	for (i = 0; r == 0 && i < SECTORS; i++)
		disk[i].flushed = disk[i].acked;
}

static void live(void)
{
	bool lost, orderly;

	enospc = random_below(3) == 0 ? 12 : 0;
	broken_sync = random_below(4) == 0 ? 8 : 0;
	rarely = random_below(2) ? 20 : 100;
	reach = random_below(3) ? 4 : 20;
	operations_left = (unsigned)random_below(rarely * LIFE) + 1;
	orderly = random_below(4) == 0;
	while (!died && !(orderly && random_below(50) == 0))
		step();
	if (!died)
		close_log();
	lives++;
	operations_left = 0;
	died = false;
	drop_log();
	lost = random_below(2);
	if (lost) {
		struct memfs *image = memfs_image(memfs, true, &seed);

		memfs_settle(image);
		image->hook = before_operation;
		memfs_free(memfs);
		memfs = image;
	}
	/* On the same boot too, a failed sync is as if the power had gone. */
	failures += sync_failed;
	lost |= sync_failed;
	sync_failed = false;
	open_log(lost);
}

static void make_log(void)
{
	unsigned i;

	memfs = memfs_new(1);
	assert_int_equal(upper_log_create(&memfs_ops, "u.data", "u.index", BYTES, NULL, NULL, NULL),
			 0);
	for (i = 0; i < SECTORS; i++) {
		struct sector *s = &disk[i];

		*s = (struct sector){ .count = 1 };
		(void)read_below(NULL, s->bytes, 512, i * 512, NULL);
		s->versions[0] = hash(s->bytes);
	}
	memfs->hook = before_operation;
	open_log(false);
}

static void live_often(uint64_t (*counted)(void), uint64_t wanted)
{
	seed = loops_random();
	while (counted() < wanted) {
		make_log();
		do
			live();
		while (counted() < wanted && data_high < LONG);
		drop_log();
		memfs_free(memfs);
	}
	printf("%" PRIu64 " crash points, %" PRIu64 " lives, %" PRIu64 " failed syncs\n", points,
	       lives, failures);
	points = lives = failures = 0;
}

static uint64_t count_points(void)
{
	return points;
}

static uint64_t count_lives(void)
{
	return lives;
}

static void no_crash_breaks_a_promise(void **state)
{
	live_often(count_points, loops_count(POINTS));
}

/* What it takes several lives to break: a failed sync, a full disk, and what comes after. */
static void no_life_breaks_a_promise(void **state)
{
	unobserved = true;
	live_often(count_lives, loops_count(LIVES));
	unobserved = false;
}

static void ignore_line(enum log_level level, const char *line)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_crash_breaks_a_promise),
		cmocka_unit_test(no_life_breaks_a_promise),
	};

	loops_seed();
	log_set_sink(ignore_line);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
