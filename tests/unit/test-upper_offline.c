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
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/format.h"
#include "core/layer.h"
#include "core/upper.h"
#include "core/upper_compact.h"
#include "core/upper_dense.h"
#include "core/upper_log.h"
#include "core/upper_resize.h"
#include "core/upper_seal.h"
#include "tests/unit/loops.h"
#include "tests/unit/memfs.h"

enum {
	SECTORS = 64,
	BYTES = SECTORS * 512,
	ROUNDS = 6000, /* of each operation */
	LOSSES = 3, /* power losses at each step */
	GROWN = BYTES + 40 * 512,
	SHRUNK = BYTES - 16 * 512,
	LARGEST = GROWN,
	READ_ONLY = 32, /* one look of so many is that of a reader on real files */
};

/* What is done to a log. */
struct operation {
	const char *name;
	int (*run)(struct err *e);
	bool seals; /* in the end it is a layer */
	uint64_t size; /* that the disk gets; 0: it stays as it is */
};

/* The index lies in a folder of its own: what is durable there says nothing of the other. */
static char folder[] = "/tmp/test-offline.XXXXXX", index_folder[64];
static uint8_t flushed[BYTES], now[BYTES]; /* the disk: what was flushed, what was acknowledged */
static uint64_t seed, points;
static const struct operation *operation;
static unsigned steps_left; /* until the real crash; 0: there is none */
static bool again; /* it is the second try */
static bool no_room; /* now and then there is no space */

/* Below the log no sector is zero: what is not mapped differs from what is zeroed. */
static int read_below(void *arg, void *buf, size_t n, uint64_t off, struct err *e)
{
	size_t i;

	for (i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)((off + i) / 512 + (off + i) * 7 + 1);
	return 0;
}

static const struct upper_log_options options = {
	.ops = &memfs_ops, .room_bytes = 4096, .room_records = 40, .below = { .pread = read_below }
};

static size_t min(uint64_t a, uint64_t b)
{
	return (size_t)(a < b ? a : b);
}

static uint64_t random_below(uint64_t n)
{
	return testlib_random(&seed) % n;
}

/* ---- what may be found ---- */

/* `lost`: each sector is what was flushed or what was written later; else all is there. */
static void check_disk(const uint8_t *disk, uint64_t size, bool lost, const char *as)
{
	static const uint8_t zeroes[512];
	size_t i;

	if (size != BYTES && size != operation->size)
		fail_msg("%s: the %s has %" PRIu64 " bytes (point %" PRIu64 ")", operation->name,
			 as, size, points);
	for (i = BYTES; i < size; i += 512)
		if (memcmp(disk + i, zeroes, 512) != 0)
			fail_msg("%s: sector %zu of the %s is new and not zero (point %" PRIu64 ")",
				 operation->name, i / 512, as, points);
	for (i = 0; i < BYTES && i < size; i += 512)
		if (memcmp(disk + i, now + i, 512) != 0 &&
		    (!lost || memcmp(disk + i, flushed + i, 512) != 0))
			fail_msg("%s: sector %zu of the %s is another one%s (point %" PRIu64 ")",
				 operation->name, i / 512, as, lost ? ", the power was gone" : "",
				 points);
}

static void check_log(bool lost)
{
	uint8_t disk[LARGEST];
	struct upper_log *u;
	struct err e;

	if (upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e) < 0)
		fail_msg("%s: %s (point %" PRIu64 ")", operation->name, e.msg, points);
	assert_true(upper_log_size(u) <= LARGEST);
	assert_int_equal(upper_log_pread(u, disk, upper_log_size(u), 0, NULL), 0);
	check_disk(disk, upper_log_size(u), lost, "log");
	/* An intent was carried out, and is gone. */
	assert_null(memfs_find("u.intent"));
	assert_null(memfs_find("u.data.new"));
	assert_null(memfs_find("i/u.index.new"));
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs->dead = false;
}

static void read_layer(struct layer *layer, uint8_t *disk)
{
	size_t i;

	for (i = 0; i < layer->run.count; i++) {
		struct mapping m = layer->run.maps[i];
		uint8_t *to = disk + mapping_start(m) * SECTOR;
		size_t n = mapping_sectors(m) * SECTOR;

		if (mapping_start(m) * SECTOR >= LARGEST)
			continue; /* a record beyond the disk */
		n = n < LARGEST - mapping_start(m) * SECTOR ? n
							    : LARGEST - mapping_start(m) * SECTOR;
		if (mapping_zeroed(m))
			memset(to, 0, n);
		else
			assert_int_equal(
				source_pread(layer->data, to, n, mapping_moffset(m) * SECTOR, NULL),
				0);
	}
}

static void check_layer(void)
{
	int fd = memfs_open("u.data", O_RDONLY, 0);
	uint8_t disk[LARGEST];
	struct source *data;
	struct layer layer;
	struct err e;

	(void)read_below(NULL, disk, LARGEST, 0, NULL);
	assert_true(fd >= 0);
	assert_int_equal(upper_file_source(&memfs_ops, fd, &data, NULL), 0);
	if (layer_open(data, 0, &layer, &e) < 0)
		fail_msg("%s: %s (point %" PRIu64 ")", operation->name, e.msg, points);
	assert_int_equal(layer.header.virtual_size, BYTES);
	read_layer(&layer, disk);
	check_disk(disk, BYTES, false, "layer");
	layer_close(&layer);
	memfs_close(fd);
}

/* Puts the files into a real folder. */
static void write_out(void)
{
	char path[128];
	FILE *f;
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++) {
		const struct memfs_name *name = &memfs->names.list[i];
		const struct memfs_bytes *b;

		if (name->file < 0)
			continue;
		b = &memfs->files[name->file].now;
		snprintf(path, sizeof path, "%s/%s", folder, name->name);
		f = fopen(path, "w");
		assert_non_null(f);
		assert_int_equal(fwrite(b->p, 1, b->n, f), b->n);
		assert_int_equal(fclose(f), 0);
	}
}

static void empty_folder(void)
{
	char path[128];
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++) {
		if (memfs->names.list[i].file < 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", folder, memfs->names.list[i].name);
		unlink(path);
	}
}

/* A reader that may not write sees the same, whatever was begun.  It knows no boot but this one, so
 * what is pending does not count. */
static void check_reader(void)
{
	char data[64], index[64];
	uint8_t disk[LARGEST];
	struct layer layer;
	struct err e;

	write_out();
	snprintf(data, sizeof data, "%s/u.data", folder);
	snprintf(index, sizeof index, "%s/i/u.index", folder);
	(void)read_below(NULL, disk, LARGEST, 0, NULL);
	if (upper_open_read_only(data, index, 0, &layer, NULL, &e) < 0)
		fail_msg("%s: reading: %s (point %" PRIu64 ")", operation->name, e.msg, points);
	read_layer(&layer, disk);
	check_disk(disk, layer.header.virtual_size, true, "log that is read");
	layer_close(&layer);
	empty_folder();
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
	if (operation->seals && (!memfs_find("i/u.index") || (!again && has_trailer())))
		check_layer();
	if (memfs_find("i/u.index") && random_below(READ_ONLY) == 0)
		check_reader();
	if (memfs_find("i/u.index"))
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
	/* A header of the pending file lies within a page, of which no process writes a part. */
	if (kind == MEMFS_WRITE && !(off == 0 && n == 256))
		check_torn(file, off, bytes, n);
	if (steps_left > 0 && --steps_left == 0) {
		memfs->dead = true;
		return -EIO;
	}
	if ((kind == MEMFS_WRITE || kind == MEMFS_OPEN) && no_room && random_below(12) == 0) {
		if (kind == MEMFS_WRITE && !(off == 0 && n == 256))
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
	uint64_t sectors = operation->size == SHRUNK ? SHRUNK / 512 : SECTORS;
	uint64_t first = random_below(sectors), n = random_below(12) + 1, i;
	uint8_t bytes[12 * 512];

	n = n < sectors - first ? n : sectors - first;
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
	struct memfs_file *index = &memfs->files[memfs_find("i/u.index")->file];
	struct format_entry entry = { .start = random_below(SECTORS - 8), .sectors = 8 };
	uint8_t raw[FORMAT_ENTRY];

	entry.moffset = data->now.n / SECTOR + random_below(3);
	format_encode_entry(&entry, raw);
	memfs_put(&data->now, data->now.n, raw, (size_t)random_below(FORMAT_ENTRY));
	memfs_put(&index->now, index->now.n, raw, sizeof raw);
	if (random_below(2))
		memfs_put(&index->now, index->now.n, raw, 5);
}

/* What the disk had there when it was larger. */
static void add_beyond(void)
{
	struct memfs_file *index = &memfs->files[memfs_find("i/u.index")->file];
	struct format_entry entry = { .start = SECTORS + random_below(20),
				      .sectors = 4,
				      .moffset = 8 };
	uint8_t raw[FORMAT_ENTRY];

	if (memfs->files[memfs_find("u.data")->file].now.n < FORMAT_SPACE + 4 * SECTOR)
		return;
	format_encode_entry(&entry, raw);
	memfs_put(&index->now, index->now.n, raw, sizeof raw);
}

static void make_log(void)
{
	struct upper_log *u;
	uint64_t i, n = random_below(20);
	bool killed;

	memfs = memfs_new(1);
	(void)read_below(NULL, now, BYTES, 0, NULL);
	assert_int_equal(
		upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, NULL, NULL, NULL), 0);
	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, NULL), 0);
	for (i = 0; i < n; i++)
		change(u, false);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	memcpy(flushed, now, BYTES);
	memset(changed, 0, sizeof changed);
	n = random_below(3) ? random_below(8) : 0;
	for (i = 0; i < n; i++)
		change(u, true);
	killed = random_below(2);
	if (killed) {
		memfs->dead = true;
		(void)upper_log_close(u, NULL);
		memfs_kill(memfs);
	} else {
		assert_int_equal(upper_log_close(u, NULL), 0);
	}
	if (random_below(3) == 0) {
		/* Another program's records end what a dead process acknowledged. */
		if (!killed && random_below(2))
			add_beyond();
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
	if (operation->seals && !memfs_find("i/u.index"))
		return;
	memfs->hook = NULL;
	check_log(lost);
	memfs_kill(memfs);
	/* Which of the two contents survived is settled by a look. */
	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, NULL), 0);
	assert_int_equal(upper_log_pread(u, now, min(upper_log_size(u), BYTES), 0, NULL), 0);
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

static void check_size(void)
{
	struct upper_log *u;

	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, NULL), 0);
	assert_int_equal(upper_log_size(u), operation->size);
	assert_int_equal(upper_log_close(u, NULL), 0);
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
		if (operation->seals && !memfs_find("i/u.index")) {
			check_image(memfs_image(memfs, false, &seed), false);
			memfs_free(memfs);
			return;
		}
		assert_int_equal(run_once(), 1);
	}
	check_image(memfs_image(memfs, false, &seed), false);
	check_image(memfs_image(memfs, true, &seed), no_room);
	if (!no_room && operation->size)
		check_size();
	if (!no_room && operation->seals) {
		struct memfs *lost = memfs_image(memfs, true, &seed), *files = memfs;

		assert_null(memfs_find("i/u.index"));
		assert_null(memfs_find("u.pending"));
		/* Nor does the power bring it back. */
		memfs = lost;
		assert_null(memfs_find("i/u.index"));
		memfs = files;
		memfs_free(lost);
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

	return upper_seal_files(&memfs_ops, "u.data", "i/u.index", &size, e);
}

static int grow(struct err *e)
{
	struct upper_resize how = { .ops = &memfs_ops, .size = GROWN };
	uint64_t before;

	return upper_resize_files(&how, "u.data", "i/u.index", &before, e);
}

/* Its end holds nothing. */
static int shrink(struct err *e)
{
	struct upper_resize how = { .ops = &memfs_ops, .size = SHRUNK };
	uint64_t before;

	return upper_resize_files(&how, "u.data", "i/u.index", &before, e);
}

static int compact(struct err *e)
{
	struct upper_compact how = { .ops = &memfs_ops };

	return upper_compact_files(&how, "u.data", "i/u.index", e);
}

static void no_crash_breaks_a_log_that_is_sealed(void **state)
{
	run_rounds(&(struct operation){ .name = "seal", .run = seal, .seals = true });
}

static void no_crash_breaks_a_log_that_grows(void **state)
{
	run_rounds(&(struct operation){ .name = "grow", .run = grow, .size = GROWN });
}

static void no_crash_breaks_a_log_that_shrinks(void **state)
{
	run_rounds(&(struct operation){ .name = "shrink", .run = shrink, .size = SHRUNK });
}

static void no_crash_breaks_a_log_that_is_compacted(void **state)
{
	run_rounds(&(struct operation){ .name = "compact", .run = compact });
}

static int make_folder(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(index_folder, sizeof index_folder, "%s/i", folder);
	return mkdir(index_folder, 0755);
}

static int remove_folder(void **state)
{
	return rmdir(index_folder) < 0 ? -1 : rmdir(folder);
}

/* When creating has returned, the power may go; what an earlier log of that name left is gone. */
static void a_new_log_stays(void **state)
{
	unsigned i, rounds = loops_count(ROUNDS);

	seed = loops_random();
	for (i = 0; i < rounds; i++) {
		struct format_header header;
		struct mapping_run none = { 0 };
		struct upper_dense dense = { .ops = &memfs_ops, .header = &header, .maps = &none };
		struct memfs *files = memfs = memfs_new(1);
		struct upper_log *u;
		struct err e;

		memfs_close(memfs_open("u.pending", O_RDWR | O_CREAT, 0644));
		assert_int_equal(upper_log_make_header(&header, BYTES, NULL, NULL, NULL), 0);
		assert_int_equal(upper_dense_create(&dense, "u.data", "i/u.index", NULL), 0);
		assert_null(memfs_find("u.pending"));
		memfs = memfs_image(files, true, &seed);
		if (upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e) < 0)
			fail_msg("%s", e.msg);
		assert_int_equal(upper_log_close(u, NULL), 0);
		memfs_free(memfs);
		memfs_free(files);
	}
}

/* Overlapping writes can make more mappings than there were records; a log of so many could never
 * be opened again. */
static void too_many_mappings_are_not_written(void **state)
{
	struct format_header header;
	struct mapping_run maps = { .count = (size_t)FORMAT_MAX_ENTRIES + 1 };
	struct upper_dense dense = { .ops = &memfs_ops, .header = &header, .maps = &maps };

	memfs = memfs_new(1);
	assert_int_equal(upper_log_make_header(&header, BYTES, NULL, NULL, NULL), 0);
	assert_int_equal(upper_dense_write(&dense, "u.data", "i/u.index", NULL), -EFBIG);
	assert_null(memfs_find("u.data"));
	memfs_free(memfs);
}

static void ignore_line(enum log_level level, const char *line)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_new_log_stays),
		cmocka_unit_test(no_crash_breaks_a_log_that_is_sealed),
		cmocka_unit_test(no_crash_breaks_a_log_that_grows),
		cmocka_unit_test(no_crash_breaks_a_log_that_shrinks),
		cmocka_unit_test(no_crash_breaks_a_log_that_is_compacted),
		cmocka_unit_test(too_many_mappings_are_not_written),
	};

	loops_seed();
	log_set_sink(ignore_line);
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
