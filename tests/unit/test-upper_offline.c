/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_offline.c - the crash model of what tools do to a log that nobody has open.
 *
 * A client leaves a log behind: some of it flushed, some acknowledged by a process that died, now
 * and then with a tail that a crash of the reference could have left.  An operation runs on it.
 * Before each of its steps the machine is stopped: the process dies (also in the middle of a
 * write), or the power goes and takes parts of what was not synced.  Each time a copy of the files
 * must be the disk that it was.  Then one crash is real, and the operation is done again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/format.h"
#include "core/layer.h"
#include "core/upper_log.h"
#include "core/upper_seal.h"
#include "tests/unit/loops.h"
#include "tests/unit/memfs.h"

enum {
	SECTORS = 64,
	BYTES = SECTORS * 512,
	ROUNDS = 2000, /* of each operation */
	LOSSES = 3, /* power losses at each step */
};

/* What is done to a log. */
struct operation {
	const char *name;
	int (*run)(struct err *e);
	bool seals; /* in the end it is a layer */
};

static uint8_t flushed[BYTES], now[BYTES]; /* the disk: what was flushed, what was acknowledged */
static uint64_t seed, points;
static const struct operation *operation;
static unsigned steps_left; /* until the real crash; 0: there is none */
static bool again; /* it is the second try */
static bool no_room; /* now and then there is no space */

static const struct upper_log_options options = { .ops = &memfs_ops };

static uint64_t random_below(uint64_t n)
{
	return testlib_random(&seed) % n;
}

/* ---- what may be found ---- */

/* `lost`: each sector is what was flushed or what was written later; else all is there. */
static void check_disk(const uint8_t *disk, bool lost, const char *as)
{
	size_t i;

	for (i = 0; i < BYTES; i += 512)
		if (memcmp(disk + i, now + i, 512) != 0 &&
		    (!lost || memcmp(disk + i, flushed + i, 512) != 0))
			fail_msg("%s: sector %zu of the %s is another one%s (point %" PRIu64 ")",
				 operation->name, i / 512, as, lost ? ", the power was gone" : "",
				 points);
}

static void check_log(bool lost)
{
	uint8_t disk[BYTES];
	struct upper_log *u;
	struct err e;

	if (upper_log_open("u.data", "u.index", &options, &u, NULL, &e) < 0)
		fail_msg("%s: %s (point %" PRIu64 ")", operation->name, e.msg, points);
	assert_int_equal(upper_log_size(u), BYTES);
	assert_int_equal(upper_log_pread(u, disk, BYTES, 0, NULL), 0);
	check_disk(disk, lost, "log");
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs->dead = false;
}

static void read_layer(struct layer *layer, uint8_t *disk)
{
	size_t i;

	for (i = 0; i < layer->run.count; i++) {
		struct mapping m = layer->run.maps[i];

		if (!mapping_zeroed(m))
			assert_int_equal(source_pread(layer->data, disk + mapping_start(m) * SECTOR,
						      mapping_sectors(m) * SECTOR,
						      mapping_moffset(m) * SECTOR, NULL),
					 0);
	}
}

static void check_layer(void)
{
	int fd = memfs_open("u.data", O_RDONLY, 0);
	uint8_t disk[BYTES] = { 0 };
	struct source *data;
	struct layer layer;
	struct err e;

	assert_true(fd >= 0);
	assert_int_equal(upper_file_source(&memfs_ops, fd, &data, NULL), 0);
	if (layer_open(data, 0, &layer, &e) < 0)
		fail_msg("%s: %s (point %" PRIu64 ")", operation->name, e.msg, points);
	assert_int_equal(layer.header.virtual_size, BYTES);
	read_layer(&layer, disk);
	check_disk(disk, false, "layer");
	layer_close(&layer);
	memfs_close(fd);
}

static bool has_trailer(void)
{
	int fd = memfs_open("u.data", O_RDONLY, 0);
	struct format_header trailer;
	struct source *data;
	int r;

	assert_true(fd >= 0);
	assert_int_equal(upper_file_source(&memfs_ops, fd, &data, NULL), 0);
	r = layer_read_trailer(data, NULL, &trailer, NULL);
	source_close(data);
	memfs_close(fd);
	return r == 0;
}

/* Looks at a copy of the files, and drops it. */
static void check_image(struct memfs *image, bool lost)
{
	struct memfs *before = memfs;

	points++;
	memfs = image;
	/* A trailer vouches for all before it, also while there still is a log.  (One that an
	 * earlier try left speaks of what was there then.) */
	if (operation->seals && (!memfs_find("u.index") || (!again && has_trailer())))
		check_layer();
	if (memfs_find("u.index"))
		check_log(lost);
	memfs_free(image);
	memfs = before;
}

/* The process dies in the middle of a write: a part of it, in order, was made. */
static void check_torn(int file, uint64_t off, const uint8_t *bytes, size_t n)
{
	struct memfs *image = memfs_image(memfs, false, &seed);
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file == file)
			memfs_put(&image->files[image->names.list[i].file].now, off, bytes,
				  (size_t)random_below(n + 1));
	check_image(image, false);
}

static int before_step(enum memfs_kind kind, int file, uint64_t off, const void *bytes, size_t n,
		       size_t *done)
{
	unsigned i;

	check_image(memfs_image(memfs, false, &seed), false);
	for (i = 0; i < LOSSES; i++)
		check_image(memfs_image(memfs, true, &seed), true);
	if (kind == MEMFS_WRITE)
		check_torn(file, off, bytes, n);
	if (steps_left > 0 && --steps_left == 0) {
		memfs->dead = true;
		return -EIO;
	}
	if ((kind == MEMFS_WRITE || kind == MEMFS_OPEN) && no_room && random_below(12) == 0) {
		if (kind == MEMFS_WRITE)
			*done = (size_t)random_below(n + 1);
		return -ENOSPC;
	}
	return 0;
}

/* ---- what is left behind ---- */

static bool changed[SECTORS]; /* since the flush */

/* A sector has two contents that count, not three: with `once` it changes only once. */
static void change(struct upper_log *u, bool once)
{
	uint64_t first = random_below(SECTORS), n = random_below(12) + 1, i;
	uint8_t bytes[12 * 512];

	n = n < SECTORS - first ? n : SECTORS - first;
	for (i = first; i < first + n; i++)
		if (once && changed[i])
			return;
	for (i = first; once && i < first + n; i++)
		changed[i] = true;
	testlib_fill(bytes, sizeof bytes, 128, &seed);
	if (random_below(4) == 0) {
		memset(bytes, 0, sizeof bytes);
		assert_int_equal(upper_log_zero(u, first * 512, n * 512, 0, NULL), 0);
	} else {
		assert_int_equal(upper_log_pwrite(u, bytes, n * 512, first * 512, 0, NULL), 0);
	}
	memcpy(now + first * 512, bytes, n * 512);
}

/* What a crash of somebody who syncs less leaves: a part of a sector at the data's end, and a
 * record of data that never came. */
static void add_tail(void)
{
	struct memfs_file *data = &memfs->files[memfs_find("u.data")->file];
	struct memfs_file *index = &memfs->files[memfs_find("u.index")->file];
	struct format_entry entry = { .start = random_below(SECTORS - 8), .sectors = 8 };
	uint8_t raw[FORMAT_ENTRY];

	entry.moffset = data->now.n / SECTOR + random_below(3);
	format_encode_entry(&entry, raw);
	memfs_put(&data->now, data->now.n, raw, (size_t)random_below(FORMAT_ENTRY));
	memfs_put(&index->now, index->now.n, raw, sizeof raw);
	if (random_below(2))
		memfs_put(&index->now, index->now.n, raw, 5);
}

static void make_log(void)
{
	struct upper_log *u;
	uint64_t i, n = random_below(20);

	memfs = memfs_new(1);
	memset(now, 0, BYTES);
	assert_int_equal(upper_log_create(&memfs_ops, "u.data", "u.index", BYTES, NULL, NULL, NULL),
			 0);
	assert_int_equal(upper_log_open("u.data", "u.index", &options, &u, NULL, NULL), 0);
	for (i = 0; i < n; i++)
		change(u, false);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	memcpy(flushed, now, BYTES);
	memset(changed, 0, sizeof changed);
	n = random_below(3) ? random_below(8) : 0;
	for (i = 0; i < n; i++)
		change(u, true);
	if (random_below(2)) {
		memfs->dead = true; /* killed */
		(void)upper_log_close(u, NULL);
		memfs_kill(memfs);
	} else {
		assert_int_equal(upper_log_close(u, NULL), 0);
	}
	if (random_below(3) == 0) {
		add_tail();
		memfs_settle(memfs);
	}
}

/* ---- rounds ---- */

/* The crash is real: what it left goes on, and is what counts. */
static void live_on(void)
{
	struct upper_log *u;
	bool lost = random_below(2);

	memfs_kill(memfs);
	if (lost) {
		struct memfs *image = memfs_image(memfs, true, &seed);

		memfs_settle(image);
		memfs_free(memfs);
		memfs = image;
	}
	if (operation->seals && !memfs_find("u.index"))
		return;
	memfs->hook = NULL;
	check_log(lost);
	memfs_kill(memfs);
	/* Which of the two contents survived is settled by a look. */
	assert_int_equal(upper_log_open("u.data", "u.index", &options, &u, NULL, NULL), 0);
	assert_int_equal(upper_log_pread(u, now, BYTES, 0, NULL), 0);
	assert_int_equal(upper_log_close(u, NULL), 0);
	memcpy(flushed, now, BYTES);
}

/* 1: it ended, however. */
static int run_once(void)
{
	struct err e;
	int r;

	memfs->hook = before_step;
	r = operation->run(&e);
	if (memfs->dead)
		return 0;
	if (r < 0 && !no_room)
		fail_msg("%s: %s", operation->name, e.msg);
	memfs->hook = NULL;
	return 1;
}

static void run_round(void)
{
	make_log();
	no_room = random_below(4) == 0;
	again = false;
	steps_left = random_below(2) ? (unsigned)random_below(30) + 1 : 0;
	if (!run_once()) {
		live_on();
		again = true;
		steps_left = 0;
		if (operation->seals && !memfs_find("u.index")) {
			check_image(memfs_image(memfs, false, &seed), false);
			memfs_free(memfs);
			return;
		}
		assert_int_equal(run_once(), 1);
	}
	check_image(memfs_image(memfs, false, &seed), false);
	check_image(memfs_image(memfs, true, &seed), no_room);
	if (!no_room && operation->seals) {
		assert_null(memfs_find("u.index"));
		assert_null(memfs_find("u.pending"));
	}
	memfs_free(memfs);
}

static void run_rounds(const struct operation *o)
{
	unsigned i, rounds = loops_count(ROUNDS);

	operation = o;
	points = 0;
	seed = loops_random();
	for (i = 0; i < rounds; i++)
		run_round();
	printf("%s: %u rounds, %" PRIu64 " crash points\n", o->name, rounds, points);
}

/* ---- operations ---- */

static int seal(struct err *e)
{
	uint64_t size;

	return upper_seal_files(&memfs_ops, "u.data", "u.index", &size, e);
}

static void no_crash_breaks_a_log_that_is_sealed(void **state)
{
	run_rounds(&(struct operation){ .name = "seal", .run = seal, .seals = true });
}

static void ignore_line(enum log_level level, const char *line)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_crash_breaks_a_log_that_is_sealed),
	};

	loops_seed();
	log_set_sink(ignore_line);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
