/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_tools.c - a log that nobody has open is resized, compacted and sealed: what is mapped
 * then, which bytes are written and in which pieces, and what is refused.  In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <inttypes.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/log.h"
#include "core/layer.h"
#include "core/upper_compact.h"
#include "core/upper_log.h"
#include "core/upper_resize.h"
#include "core/upper_seal.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { MOST = 64 }; /* sectors of a disk */

static struct file_ops ops;

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

static void ignore_line(enum log_level level, const char *line)
{
}

static struct upper_log *open_log(uint64_t sectors)
{
	struct upper_log_options options = {
		.ops = &memfs_ops, .size = sectors * SECTOR, .room_bytes = 4096, .room_records = 4
	};
	struct upper_log *u;
	struct err e;

	if (upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	return u;
}

/* A log of so many sectors, by its header, that maps what the text says, a letter a sector: 'd'
 * data, 'z' zeroes, '.' nothing.  A process that is killed has acknowledged what is behind '|'. */
static void make_log(uint64_t sectors, const char *map)
{
	char bytes[SECTOR];
	struct upper_log *u;
	bool killed = false;
	uint64_t lba;

	memfs = memfs_new(1);
	ops = memfs_ops;
	assert_int_equal(upper_log_create(&memfs_ops, "u.data", "i/u.index", sectors * SECTOR, NULL,
					  NULL, NULL),
			 0);
	u = open_log(strlen(map));
	for (lba = 0; *map; map++) {
		if (*map == '|') {
			assert_int_equal(upper_log_flush(u, NULL), 0);
			killed = true;
			continue;
		}
		memset(bytes, 'A' + (int)lba, sizeof bytes);
		if (*map == 'd')
			assert_int_equal(upper_log_pwrite(u, bytes, SECTOR, lba * SECTOR, 0, NULL),
					 0);
		if (*map == 'z')
			assert_int_equal(upper_log_zero(u, lba * SECTOR, SECTOR, 0, NULL), 0);
		lba++;
	}
	memfs->dead = killed;
	assert_int_equal(upper_log_close(u, NULL), killed ? -EIO : 0);
	memfs_kill(memfs);
}

static uint64_t header_size(const char *name, enum format_part part)
{
	struct format_header h;

	assert_int_equal(format_parse_header(&h, bytes_of(name)->p, part, NULL), 0);
	return h.virtual_size / SECTOR;
}

/* The log has this size, and maps this; its data are what they were. */
static void expect_log(const char *what, uint64_t sectors, const char *map)
{
	struct upper_log *u = open_log(strlen(map));
	char found[MOST + 1] = "", bytes[SECTOR];
	struct segment piece;
	uint64_t lba, n = strlen(map);

	for (lba = 0; lba < n; lba++) {
		assert_int_equal(upper_log_pieces(u, lba, 1, &piece, 1), 1);
		found[lba] = !piece.mapped ? '.' : piece.zeroed ? 'z' : 'd';
		assert_int_equal(upper_log_pread(u, bytes, SECTOR, lba * SECTOR, NULL), 0);
		assert_int_equal(bytes[7], found[lba] == 'd' ? 'A' + (int)lba : 0);
	}
	if (strcmp(found, map) != 0)
		fail_msg("%s: %s, not %s", what, found, map);
	assert_int_equal(upper_log_close(u, NULL), 0);
	assert_int_equal(header_size("u.data", FORMAT_PART_LOG_DATA), sectors);
	assert_int_equal(header_size("i/u.index", FORMAT_PART_LOG_INDEX), sectors);
	assert_null(memfs_find("u.intent"));
	assert_null(memfs_find("u.pending"));
	assert_int_equal(open_files(), 0);
}

static int resize(uint64_t sectors, const struct mapping_run *below, uint64_t *before,
		  struct err *e)
{
	struct upper_resize how = { .ops = &ops, .size = sectors * SECTOR, .below = below };

	return upper_resize_files(&how, "u.data", "i/u.index", before, e);
}

/* ---- resizing ---- */

#define LOSES(at, size)                                                                            \
	"u.data: it holds data at " #at ", which a disk of " #size " bytes would lose"

static const struct {
	const char *what;
	uint64_t before, after; /* sectors */
	const char *map, *then; /* NULL: as it was */
	struct stretch {
		uint64_t start, sectors;
	} below[4]; /* sectors 0: the end */
	bool knows; /* what is below */
	const char *said; /* NULL: it is done */
} resizings[] = {
	{ "grows", 8, 16, "dd.z....", "dd.z....zzzzzzzz", { { 0 } }, false, NULL },
	{ "grows over nothing", 8, 16, "dd.z....", "dd.z............", { { 0 } }, true, NULL },
	{ "grows over some",
	  8,
	  16,
	  "dd.z....",
	  "dd.z......zz..zz",
	  { { 10, 2 }, { 14, 6 }, { 16, 4 }, { 30, 2 } },
	  true,
	  NULL },
	{ "grows over all", 8, 16, "dd.z....", "dd.z....zzzzzzzz", { { 8, 8 } }, true, NULL },
	{ "grows by a sector", 8, 9, "dd.z....", "dd.z....z", { { 0 } }, false, NULL },
	{ "grows over its own",
	  8,
	  16,
	  "dd......d..dd.zd",
	  "dd......z..zz.zz",
	  { { 0 } },
	  true,
	  NULL },
	{ "grows over its own and others",
	  8,
	  16,
	  "dd......d..dd.zd",
	  "dd......zz.zz.zz",
	  { { 9, 1 } },
	  true,
	  NULL },
	{ "grows over its own, and others are not known",
	  8,
	  16,
	  "dd......d..dd.zd",
	  "dd......zzzzzzzz",
	  { { 0 } },
	  false,
	  NULL },
	{ "grows over some of its own",
	  8,
	  12,
	  "dd......d..dd..d",
	  "dd......z..zd..d",
	  { { 0 } },
	  true,
	  NULL },
	{ "grows over what is pending",
	  8,
	  16,
	  "dd......|d..dd.zd",
	  "dd......z..zz.zz",
	  { { 0 } },
	  true,
	  NULL },
	{ "stays", 8, 8, "dd.z....", NULL, { { 0 } }, false, NULL },
	{ "stays, with more behind", 8, 8, "dd.z....dz", NULL, { { 0 } }, true, NULL },
	{ "stays, with more behind that is not known",
	  8,
	  8,
	  "dd.z....dz",
	  NULL,
	  { { 0 } },
	  false,
	  NULL },
	{ "shrinks", 16, 8, "dd.z....", NULL, { { 0 } }, false, NULL },
	{ "shrinks to its last", 16, 8, "dd.z...d", NULL, { { 0 } }, false, NULL },
	{ "shrinks over zeroes", 16, 8, "dd.z....zz..z..z", NULL, { { 0 } }, false, NULL },
	{ "shrinks, with more behind", 12, 8, "dd.z........dd", NULL, { { 0 } }, false, NULL },
	{ "would lose the next", 16, 8, "dd......d", NULL, { { 0 } }, false, LOSES(4096, 4096) },
	{ "would lose its last",
	  16,
	  8,
	  "dd......z......d",
	  NULL,
	  { { 0 } },
	  false,
	  LOSES(7680, 4096) },
	{ "would lose what is pending",
	  16,
	  8,
	  "dd......|....d",
	  NULL,
	  { { 0 } },
	  true,
	  LOSES(6144, 4096) },
	{ "gets a size", 0, 16, "dd.z....", NULL, { { 0 } }, false, NULL },
	{ "gets a size, with what is hidden",
	  0,
	  16,
	  "dd.z............",
	  "dd.z........zz..",
	  { { 12, 2 } },
	  true,
	  NULL },
	{ "gets one that is too small",
	  0,
	  8,
	  "dd.z.....d",
	  NULL,
	  { { 0 } },
	  false,
	  LOSES(4608, 4096) },
};

static void a_disk_shows_nothing_that_it_did_not_have(void **state)
{
	struct mapping maps[4];
	uint64_t before;
	size_t i;
	struct err e;
	int r;

	for (i = 0; i < COUNT_OF(resizings); i++) {
		struct mapping_run below = { .maps = maps };
		char map[MOST] = "", *bar;

		while (below.count < 4 && resizings[i].below[below.count].sectors > 0) {
			maps[below.count] =
				mapping_make(resizings[i].below[below.count].start,
					     resizings[i].below[below.count].sectors, 0, 8, false);
			below.count++;
		}
		make_log(resizings[i].before, resizings[i].map);
		before = 999;
		r = resize(resizings[i].after, resizings[i].knows ? &below : NULL, &before, &e);
		if (r != (resizings[i].said ? -EINVAL : 0) ||
		    (r < 0 && strcmp(e.msg, resizings[i].said)))
			fail_msg("%s: %d: %s", resizings[i].what, r, e.msg);
		assert_int_equal(before, resizings[i].before * SECTOR);
		snprintf(map, sizeof map, "%s",
			 resizings[i].then ? resizings[i].then : resizings[i].map);
		bar = strchr(map, '|');
		if (bar)
			memmove(bar, bar + 1, strlen(bar));
		expect_log(resizings[i].what,
			   resizings[i].said ? resizings[i].before : resizings[i].after, map);
		memfs_free(memfs);
	}
}

static int no_lock(int fd)
{
	return -EIO;
}

static void a_size_is_one_of_sectors(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 511, 513, UINT64_C(1) << 59, UINT64_MAX };
	const uint64_t largest = (UINT64_C(1) << 59) - SECTOR;
	struct upper_resize how = { .ops = &ops };
	uint64_t before;
	char want[64];
	struct err e;
	size_t i;

	make_log(8, "dd");
	for (i = 0; i < COUNT_OF(sizes); i++) {
		how.size = sizes[i];
		assert_int_equal(upper_resize_files(&how, "u.data", "i/u.index", &before, &e),
				 -EINVAL);
		snprintf(want, sizeof want, "%" PRIu64 " is no virtual size", sizes[i]);
		assert_string_equal(e.msg, want);
	}
	/* The largest one is no reason to stop before the log is locked. */
	how.size = largest;
	ops.lock = no_lock;
	assert_int_equal(upper_resize_files(&how, "u.data", "i/u.index", &before, &e), -EIO);
	assert_string_equal(e.msg, "u.data: locking: Input/output error");
	memfs_free(memfs);
}

static ssize_t no_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	const struct memfs_name *pending = memfs_find("u.pending");

	return pending && pending->file == memfs->fds[fd] && off > 0
		       ? -EIO
		       : memfs_pwrite(fd, buf, n, off);
}

/* 2^23 marks of 16383 sectors are too many; one less is begun. */
static void too_much_does_not_grow_at_once(void **state)
{
	const uint64_t limit = (UINT64_C(1) << 23) * 16383;
	uint64_t before;
	struct err e;

	make_log(8, "dd");
	ops.pwrite = no_pwrite;
	assert_int_equal(resize(8 + limit, NULL, &before, &e), -EFBIG);
	assert_string_equal(e.msg, "u.data: too much grows at once where the layers below are not "
				   "known: name the config instead");
	assert_int_equal(resize(8 + limit - 1, NULL, &before, &e), -EIO);
	expect_log("refused", 8, "dd......");
	memfs_free(memfs);
}

static unsigned locks;

static int late_lock(int fd)
{
	if (++locks == 2) {
		format_patch_size(bytes_of("u.data")->p, 20 * SECTOR);
		format_patch_size(bytes_of("i/u.index")->p, 20 * SECTOR);
	}
	return memfs_lock(fd);
}

static void another_process_resized_it(void **state)
{
	uint64_t before;
	struct err e;

	make_log(8, "dd");
	ops.lock = late_lock;
	locks = 0;
	assert_int_equal(resize(16, NULL, &before, &e), -EBUSY);
	assert_string_equal(e.msg, "u.data: another process resized it meanwhile");
	expect_log("as it was resized", 20, "dd..................");
	memfs_free(memfs);
}

/* ---- looking ---- */

static void the_end_is_that_of_all_records(void **state)
{
	static const struct {
		uint64_t sectors;
		const char *map;
		uint64_t end;
	} cases[] = {
		{ 8, "........", 0 },	      { 8, "d.......", 1 },   { 8, ".......d", 8 },
		{ 8, "z...d...", 5 },	      { 8, "d...z...", 5 },   { 8, "d.......z.d..", 11 },
		{ 8, "d.......|....d.", 13 }, { 8, ".......z|d", 9 }, { 8, "..d|z", 4 },
		{ 0, "....d.", 5 },
	};
	uint64_t size, end;
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		make_log(cases[i].sectors, cases[i].map);
		size = end = 77;
		assert_int_equal(upper_resize_look(&ops, "u.data", "i/u.index", &size, &end, &e),
				 0);
		assert_int_equal(size, cases[i].sectors * SECTOR);
		assert_int_equal(end, cases[i].end);
		assert_int_equal(open_files(), 0);
		memfs_free(memfs);
	}
	/* What is no index file yet has no records. */
	make_log(8, "d.......");
	memfs_resize(bytes_of("i/u.index"), FORMAT_SPACE - 1);
	assert_int_equal(upper_resize_look(&ops, "u.data", "i/u.index", &size, &end, &e), 0);
	assert_int_equal(end, 0);
	/* A sparse layer is no log. */
	bytes_of("u.data")->p[28] |= FORMAT_SPARSE;
	assert_int_equal(upper_resize_look(&ops, "u.data", "i/u.index", &size, &end, &e), -EINVAL);
	assert_string_equal(e.msg, "u.data: a sparse layer is not written to: convert it to a log");
	assert_int_equal(open_files(), 0);
	memfs_free(memfs);
}

/* ---- compacting ---- */

static struct {
	uint64_t sum, total;
	unsigned calls;
} steps;

static void note_step(void *arg, uint64_t n, uint64_t total)
{
	assert_ptr_equal(arg, &steps);
	assert_true(steps.calls == 0 || steps.total == total);
	steps.calls++;
	steps.sum += n;
	steps.total = total;
}

static void it_takes_what_it_says(void **state)
{
	static const struct {
		uint64_t sectors;
		const char *map;
		unsigned data, mappings;
	} cases[] = {
		{ 8, "........", 0, 0 }, { 8, "d.......", 1, 1 },   { 8, "ddzz..zd", 3, 4 },
		{ 8, "zzzz....", 0, 1 }, { 8, "d.......dd", 3, 2 }, { 8, "d.d.....|z.d", 3, 4 },
		{ 0, "d.d.z", 2, 3 },
	};
	struct upper_compact how;
	uint64_t before;
	struct err e;
	size_t i;

	for (i = 0; i < 2 * COUNT_OF(cases); i++) {
		char map[MOST], *bar;

		make_log(cases[i / 2].sectors, cases[i / 2].map);
		before = bytes_of("u.data")->n + bytes_of("i/u.index")->n;
		memset(&steps, 0, sizeof steps);
		how = (struct upper_compact){ .ops = &ops, .before = 1, .after = 1 };
		if (i % 2) {
			how.step = note_step;
			how.arg = &steps;
		}
		if (upper_compact_files(&how, "u.data", "i/u.index", &e) < 0)
			fail_msg("%s: %s", cases[i / 2].map, e.msg);
		assert_int_equal(open_files(), 0);
		/* A killed process leaves records to be flushed first. */
		bar = strchr(cases[i / 2].map, '|');
		if (!bar)
			assert_in_range(how.before, before, before + 16);
		assert_int_equal(how.after, 2 * FORMAT_SPACE + cases[i / 2].data * SECTOR +
						    (cases[i / 2].mappings + 2) * FORMAT_ENTRY);
		assert_int_equal(bytes_of("u.data")->n, FORMAT_SPACE + cases[i / 2].data * SECTOR);
		assert_int_equal(bytes_of("i/u.index")->n,
				 FORMAT_SPACE + (cases[i / 2].mappings + 2) * FORMAT_ENTRY);
		assert_int_equal(steps.sum, i % 2 ? cases[i / 2].data * SECTOR : 0);
		assert_int_equal(steps.total, steps.sum);
		assert_null(memfs_find("u.data.new"));
		assert_null(memfs_find("i/u.index.new"));
		snprintf(map, sizeof map, "%s", cases[i / 2].map);
		bar = strchr(map, '|');
		if (bar)
			memmove(bar, bar + 1, strlen(bar));
		expect_log("compacted", cases[i / 2].sectors, map);
		memfs_free(memfs);
	}
}

/* ---- sealing ---- */

static struct {
	size_t lengths[8];
	unsigned count;
	unsigned synced_at; /* writes before the first sync */
	unsigned syncs;
	uint64_t cut_to[4];
	unsigned cuts;
	unsigned fail_at; /* this write fails; from 1 on */
} noted;

static ssize_t noted_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	assert_true(noted.count < COUNT_OF(noted.lengths));
	noted.lengths[noted.count++] = n;
	return noted.count == noted.fail_at ? -EIO : memfs_pwrite(fd, buf, n, off);
}

static int noted_datasync(int fd)
{
	if (noted.syncs++ == 0)
		noted.synced_at = noted.count;
	return memfs_datasync(fd);
}

static int noted_truncate(int fd, uint64_t size)
{
	assert_true(noted.cuts < COUNT_OF(noted.cut_to));
	noted.cut_to[noted.cuts++] = size;
	return memfs_truncate(fd, size);
}

static void note_all(void)
{
	memset(&noted, 0, sizeof noted);
	ops = memfs_ops;
	ops.pwrite = noted_pwrite;
	ops.datasync = noted_datasync;
	ops.truncate = noted_truncate;
}

static void make_header(struct format_header *h)
{
	assert_int_equal(upper_log_make_header(h, UINT64_C(1) << 40, NULL, NULL, NULL), 0);
}

/* Index, zeroes up to a sector, then what says that it is a layer, once the rest is durable. */
static void a_layer_ends_with_its_trailer(void **state)
{
	enum { DATA = 10, MANY = 65536 };
	static const struct {
		size_t maps;
		size_t lengths[5];
	} cases[] = {
		{ 0, { FORMAT_SPACE } },
		{ 1, { 16, 496, FORMAT_SPACE } },
		{ 31, { 496, 16, FORMAT_SPACE } },
		{ 32, { 512, FORMAT_SPACE } },
		{ 33, { 528, 496, FORMAT_SPACE } },
		{ MANY - 1, { (MANY - 1) * 16, 16, FORMAT_SPACE } },
		{ MANY, { MANY * 16, FORMAT_SPACE } },
		{ MANY + 1, { MANY * 16, 16, 496, FORMAT_SPACE } },
	};
	struct mapping *maps = malloc((MANY + 1) * sizeof *maps);
	static const uint8_t zeroes[SECTOR];
	struct format_header h, trailer;
	const struct memfs_bytes *b;
	struct err e;
	size_t i, k, n;
	int fd;

	assert_non_null(maps);
	for (k = 0; k <= MANY; k++)
		maps[k] = mapping_make(3 * k, 1, 0, 8 + k % 2, k % 5 == 1);
	make_header(&h);
	for (i = 0; i < COUNT_OF(cases); i++) {
		struct mapping_run run = { .maps = maps, .count = cases[i].maps };

		memfs = memfs_new(1);
		note_all();
		fd = memfs_open("u.data", O_RDWR | O_CREAT, 0644);
		memfs_resize(&memfs_file(fd)->now, 20 * SECTOR); /* more than its data */
		memset(memfs_file(fd)->now.p, 0x55, 20 * SECTOR);
		assert_int_equal(upper_seal_append(&ops, fd, &h, &run, DATA, &e), 0);
		for (k = 0; k < COUNT_OF(cases[i].lengths); k++)
			assert_int_equal(noted.lengths[k], cases[i].lengths[k]);
		assert_int_equal(noted.syncs, 2);
		assert_int_equal(noted.synced_at, noted.count - 1);
		assert_int_equal(noted.cuts, 1);
		assert_int_equal(noted.cut_to[0], DATA * SECTOR);
		b = &memfs_file(fd)->now;
		n = cases[i].maps * FORMAT_ENTRY;
		assert_int_equal(b->n, DATA * SECTOR + (n + 511) / 512 * 512 + FORMAT_SPACE);
		assert_int_equal(b->p[DATA * SECTOR - 1], 0x55);
		for (k = 0; k < cases[i].maps; k++) {
			struct format_entry entry =
				format_parse_entry(b->p + DATA * SECTOR + k * FORMAT_ENTRY);

			if (entry.start != 3 * k || entry.sectors != 1 ||
			    entry.zeroed != (k % 5 == 1) ||
			    entry.moffset != (entry.zeroed ? 8 : 8 + k % 2))
				fail_msg("entry %zu", k);
		}
		assert_memory_equal(b->p + DATA * SECTOR + n, zeroes, (512 - n % 512) % 512);
		assert_int_equal(format_parse_header(&trailer, b->p + b->n - FORMAT_SPACE,
						     FORMAT_PART_TRAILER, NULL),
				 0);
		assert_int_equal(trailer.flags, FORMAT_DATA_FILE | FORMAT_SEALED);
		assert_int_equal(trailer.index_offset, DATA * SECTOR);
		assert_int_equal(trailer.index_size, cases[i].maps);
		assert_int_equal(trailer.virtual_size, h.virtual_size);
		assert_string_equal(trailer.uuid, h.uuid);
		memfs_close(fd);
		memfs_free(memfs);
	}
	free(maps);
}

/* Whatever fails, the file ends where its data end, as far as it can be cut. */
static void a_layer_that_fails_is_none(void **state)
{
	struct mapping one = mapping_make(3, 1, 0, 8, false);
	struct mapping_run run = { .maps = &one, .count = 1 };
	struct format_header h;
	struct err e;
	unsigned k;
	int fd;

	make_header(&h);
	for (k = 1; k <= 3; k++) {
		memfs = memfs_new(1);
		note_all();
		noted.fail_at = k;
		fd = memfs_open("u.data", O_RDWR | O_CREAT, 0644);
		memfs_resize(&memfs_file(fd)->now, 20 * SECTOR);
		assert_int_equal(upper_seal_append(&ops, fd, &h, &run, 10, &e), -EIO);
		assert_int_equal(noted.cuts, 2);
		assert_int_equal(noted.cut_to[1], 10 * SECTOR);
		assert_int_equal(memfs_file(fd)->now.n, 10 * SECTOR);
		memfs_close(fd);
		memfs_free(memfs);
	}
	/* So many mappings at most. */
	memfs = memfs_new(1);
	note_all();
	fd = memfs_open("u.data", O_RDWR | O_CREAT, 0644);
	run.count = (size_t)FORMAT_MAX_ENTRIES + 1;
	assert_int_equal(upper_seal_append(&ops, fd, &h, &run, 10, &e), -EFBIG);
	assert_string_equal(e.msg, "67108865 mappings, more than 67108864");
	assert_int_equal(noted.cuts, 0);
	memfs->dead = true;
	run.count--;
	assert_int_equal(upper_seal_append(&ops, fd, &h, &run, 10, &e), -EIO);
	assert_string_equal(e.msg, "resizing: Input/output error");
	memfs->dead = false;
	memfs_close(fd);
	memfs_free(memfs);
}

/* Sealed while it is open, and then not: it goes on as a log. */
static void a_seal_is_taken_back(void **state)
{
	char bytes[SECTOR];
	struct upper_log *u;
	uint64_t n;
	struct err e;

	make_log(8, "dd.z....");
	u = open_log(8);
	memset(bytes, 'A' + 6, sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, SECTOR, 6 * SECTOR, UPPER_FUA, NULL), 0);
	n = FORMAT_SPACE + 3 * SECTOR;
	assert_true(bytes_of("u.data")->n > n + 2 * SECTOR); /* room */
	assert_int_equal(upper_seal_log(u, &e), 0);
	assert_int_equal(bytes_of("u.data")->n, n + SECTOR + FORMAT_SPACE);
	memfs->dead = true;
	assert_int_equal(upper_seal_undo(u, &e), -EIO);
	assert_string_equal(e.msg, "u.data: resizing: Input/output error");
	assert_int_equal(upper_seal_log(u, &e), -EIO);
	assert_string_equal(e.msg, "u.data: resizing: Input/output error");
	memfs->dead = false;
	assert_int_equal(upper_seal_undo(u, &e), 0);
	assert_int_equal(bytes_of("u.data")->n, n);
	memset(bytes, 'A' + 5, sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, SECTOR, 5 * SECTOR, 0, NULL), 0);
	/* The room is gone, and is made anew. */
	assert_true(bytes_of("u.data")->n > n + 2 * SECTOR);
	assert_int_equal(upper_log_close(u, NULL), 0);
	expect_log("goes on", 8, "dd.z.dd.");
	memfs_free(memfs);
}

/* All that the log holds is in the layer: also what is pending, and what lies beyond its size. */
static void a_layer_holds_all_of_the_log(void **state)
{
	static const struct {
		const char *map;
		size_t mappings;
	} cases[] = { { "dd.z....", 2 }, { "dd.z....dd", 3 }, { "dd......|z.d", 3 } };
	uint64_t size;
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct source *s;
		struct layer layer;

		make_log(8, cases[i].map);
		size = 1;
		assert_int_equal(upper_seal_files(&ops, "u.data", "i/u.index", &size, &e), 0);
		assert_int_equal(size, bytes_of("u.data")->n);
		assert_null(memfs_find("i/u.index"));
		assert_null(memfs_find("u.pending"));
		assert_int_equal(open_files(), 0);
		assert_int_equal(source_open_memory(bytes_of("u.data")->p, (size_t)size, &s, NULL),
				 0);
		assert_int_equal(layer_open(s, 0, &layer, &e), 0);
		assert_int_equal(layer.run.count, cases[i].mappings);
		layer_close(&layer);
		assert_int_equal(upper_seal_files(&ops, "u.data", "i/u.index", &size, &e), -EINVAL);
		assert_string_equal(e.msg, "u.data: is sealed already");
		assert_int_equal(open_files(), 0);
		memfs_free(memfs);
	}
	/* Without its index it is no layer, nor without its data. */
	make_log(8, "dd.z....");
	assert_int_equal(memfs_unlink("i/u.index"), 0);
	assert_int_equal(upper_seal_files(&ops, "u.data", "i/u.index", &size, &e), -ENOENT);
	assert_string_equal(e.msg, "i/u.index: No such file or directory");
	assert_int_equal(memfs_unlink("u.data"), 0);
	assert_int_equal(upper_seal_files(&ops, "u.data", "i/u.index", &size, &e), -ENOENT);
	assert_string_equal(e.msg, "u.data: No such file or directory");
	assert_int_equal(open_files(), 0);
	memfs_free(memfs);
	/* One that has no size cannot be one. */
	make_log(0, "....");
	assert_int_equal(upper_seal_files(&ops, "u.data", "i/u.index", &size, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "it has no virtual size of its own"));
	assert_non_null(memfs_find("i/u.index"));
	memfs_free(memfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_shows_nothing_that_it_did_not_have),
		cmocka_unit_test(a_size_is_one_of_sectors),
		cmocka_unit_test(too_much_does_not_grow_at_once),
		cmocka_unit_test(another_process_resized_it),
		cmocka_unit_test(the_end_is_that_of_all_records),
		cmocka_unit_test(it_takes_what_it_says),
		cmocka_unit_test(a_layer_ends_with_its_trailer),
		cmocka_unit_test(a_layer_that_fails_is_none),
		cmocka_unit_test(a_seal_is_taken_back),
		cmocka_unit_test(a_layer_holds_all_of_the_log),
	};

	log_set_sink(ignore_line);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
