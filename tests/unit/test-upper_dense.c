/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_dense.c - a log without garbage: its bytes, in which pieces they are written, and what
 * is in its way.  In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/upper_dense.h"
#include "core/upper_log.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SALT = 100007,
	PIECE = 1 << 20, /* bytes of a write */
	FROM = 3 * PIECE, /* bytes of what is copied */
	MOST = 70000, /* mappings */
};

static const char uuid[] = "0123ABCD-1DFB-4EC7-8E49-636D2508E22E";
static struct format_header header;
static uint8_t *from; /* FROM bytes: what is copied */

static struct {
	unsigned count;
	size_t largest;
	uint64_t end; /* where the next one has to begin */
} writes;

static struct {
	uint64_t sum;
	unsigned calls;
} steps;

static ssize_t noted_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	if (off == 0)
		writes.end = 0;
	assert_int_equal(off, writes.end);
	writes.end += n;
	writes.count++;
	writes.largest = n > writes.largest ? n : writes.largest;
	return memfs_pwrite(fd, buf, n, off);
}

static void step(void *arg, uint64_t n)
{
	assert_ptr_equal(arg, &steps);
	assert_true(n > 0);
	steps.sum += n;
	steps.calls++;
}

static const struct memfs_bytes *bytes_of(const char *name)
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

static unsigned count_names(void)
{
	unsigned i, n = 0;

	for (i = 0; i < MEMFS_NAMES; i++)
		n += memfs->names.list[i].file >= 0;
	return n;
}

/* ---- bytes ---- */

/* The data file, put together by hand: *n is its size. */
static uint8_t *expected_data(const struct mapping_run *run, size_t *n)
{
	struct format_header h = header;
	size_t i, size = FORMAT_SPACE;
	uint8_t *all;

	for (i = 0; i < run->count; i++)
		size += mapping_zeroed(run->maps[i]) ? 0 : mapping_sectors(run->maps[i]) * SECTOR;
	all = malloc(size);
	assert_non_null(all);
	h.flags = FORMAT_HEADER | FORMAT_DATA_FILE;
	h.index_offset = h.index_size = 0;
	format_encode_header(&h, all);
	for (*n = FORMAT_SPACE, i = 0; i < run->count; i++) {
		size_t bytes = mapping_sectors(run->maps[i]) * SECTOR;

		if (mapping_zeroed(run->maps[i]))
			continue;
		memcpy(all + *n, from + mapping_moffset(run->maps[i]) * SECTOR, bytes);
		*n += bytes;
	}
	return all;
}

static void put_mark(uint8_t *to, uint64_t kind, uint32_t crc)
{
	uint64_t self;

	le64_put(to, ((UINT64_C(1) << 50) - 1) | kind << 50);
	le64_put(to + 8, crc);
	self = crc32c_raw(SALT, to, 12) & 0x7fff;
	le64_put(to + 8, UINT64_C(0xff) << 47 | self << 32 | crc);
}

/* Likewise the index file: header, a record a mapping, CHECK and CONFIRM. */
static uint8_t *expected_index(const struct mapping_run *run, size_t *n)
{
	uint64_t at = FORMAT_SPACE / SECTOR;
	struct format_header h = header;
	uint8_t *all, *to;
	size_t i;

	*n = FORMAT_SPACE + (run->count + 2) * FORMAT_ENTRY;
	all = malloc(*n);
	assert_non_null(all);
	h.flags = FORMAT_HEADER;
	h.index_offset = FORMAT_SPACE;
	h.index_size = 0;
	format_encode_header(&h, all);
	for (to = all + FORMAT_SPACE, i = 0; i < run->count; i++, to += FORMAT_ENTRY) {
		struct mapping m = run->maps[i];
		bool zeroed = mapping_zeroed(m);

		le64_put(to, mapping_start(m) | mapping_sectors(m) << 50);
		le64_put(to + 8, zeroed ? UINT64_C(8) | UINT64_C(1) << 55 : at);
		at += zeroed ? 0 : mapping_sectors(m);
	}
	put_mark(to, 0x1c5a,
		 crc32c_raw(SALT, all + FORMAT_SPACE, (size_t)(to - all) - FORMAT_SPACE));
	to += FORMAT_ENTRY;
	put_mark(to, 0x2a93,
		 crc32c_raw(SALT, all + FORMAT_SPACE, (size_t)(to - all) - FORMAT_SPACE));
	return all;
}

static void expect_file(const char *what, const char *name, uint8_t *want, size_t n)
{
	const struct memfs_file *f = &memfs->files[memfs_find(name)->file];

	if (f->now.n != n || memcmp(f->now.p, want, n) != 0)
		fail_msg("%s: %s has other bytes, %zu of %zu", what, name, f->now.n, n);
	/* They are durable. */
	assert_int_equal(f->count, 0);
	assert_int_equal(f->durable.n, n);
	free(want);
}

static void expect_log(const char *what, const struct mapping_run *run)
{
	uint64_t sum = 0;
	uint8_t *want;
	size_t i, n;

	for (i = 0; i < run->count; i++)
		sum += mapping_zeroed(run->maps[i]) ? 0 : mapping_sectors(run->maps[i]) * SECTOR;
	want = expected_data(run, &n);
	/* As few writes as can be. */
	i = (n + PIECE - 1) / PIECE;
	expect_file(what, "u.data", want, n);
	want = expected_index(run, &n);
	i += (n + PIECE - 1) / PIECE;
	expect_file(what, "i/u.index", want, n);
	assert_int_equal(writes.count, i);
	assert_true(writes.largest <= PIECE);
	assert_int_equal(steps.sum, sum);
	assert_int_equal(steps.calls > 0, sum > 0);
	assert_int_equal(count_names(), 2);
	assert_int_equal(open_files(), 0);
}

static void write_both_ways(const char *what, const struct mapping_run *run)
{
	struct file_ops ops = memfs_ops;
	struct upper_dense d = {
		.ops = &ops, .header = &header, .maps = run, .step = step, .arg = &steps
	};
	struct err e = { "" };
	unsigned made;

	assert_int_equal(source_open_memory(from, FROM, &d.from, NULL), 0);
	ops.pwrite = noted_pwrite;
	for (made = 0; made < 2; made++) {
		memfs = memfs_new(1);
		memset(&writes, 0, sizeof writes);
		memset(&steps, 0, sizeof steps);
		if ((made ? upper_dense_create : upper_dense_write)(&d, "u.data", "i/u.index", &e) <
		    0)
			fail_msg("%s: %s", what, e.msg);
		expect_log(what, run);
		memfs_free(memfs);
	}
	source_close(d.from);
}

/* Mappings of `sectors` each, every third of zeroes; they point at places that overlap. */
static void make_run(struct mapping_run *run, size_t count, uint64_t sectors, bool zeroes)
{
	size_t i;

	run->count = count;
	for (i = 0; i < count; i++)
		run->maps[i] = mapping_make(i * (sectors + 1), sectors, 0, 8 + i * 7 % 1000,
					    zeroes || i % 3 == 1);
}

static void its_bytes_are_those_of_what_counts(void **state)
{
	static const struct {
		const char *what;
		size_t count;
		uint64_t sectors;
		bool zeroes;
	} cases[] = {
		{ "empty", 0, 0, false },
		{ "one", 1, 1, false },
		{ "three", 3, 5, false },
		{ "zeroes", 3, 5, true },
		{ "many", 5000, 2, true },
		{ "an index of a whole piece", (PIECE - FORMAT_SPACE) / FORMAT_ENTRY - 2, 1, true },
		{ "an index of more", (PIECE - FORMAT_SPACE) / FORMAT_ENTRY - 1, 1, true },
		{ "an index of a piece and a mark", (PIECE - FORMAT_SPACE) / FORMAT_ENTRY, 1,
		  true },
		{ "data of a whole piece", 1, (PIECE - FORMAT_SPACE) / SECTOR, false },
		{ "a sector more", 1, (PIECE - FORMAT_SPACE) / SECTOR + 1, false },
		{ "a sector less", 1, (PIECE - FORMAT_SPACE) / SECTOR - 1, false },
		{ "over pieces", 10, 1000, false },
		{ "two pieces and more", 1, 2 * PIECE / SECTOR + 77, false },
	};
	struct mapping_run run = { .maps = malloc(MOST * sizeof *run.maps) };
	size_t i;

	assert_non_null(run.maps);
	for (i = 0; i < COUNT_OF(cases); i++) {
		assert_true(cases[i].count <= MOST);
		make_run(&run, cases[i].count, cases[i].sectors, cases[i].zeroes);
		write_both_ways(cases[i].what, &run);
	}
	free(run.maps);
}

/* ---- whose it is ---- */

static struct {
	int models[8];
	unsigned count;
} likes;

static int noted_make_like(int fd, int model)
{
	assert_true(likes.count < COUNT_OF(likes.models));
	likes.models[likes.count++] = model;
	return memfs_make_like(fd, model);
}

static void its_files_are_like_their_models(void **state)
{
	struct file_ops ops = memfs_ops;
	struct mapping_run none = { 0 };
	const int like[2] = { 4, 9 };
	struct upper_dense d = { .ops = &ops, .header = &header, .maps = &none, .like = like };

	ops.make_like = noted_make_like;
	memfs = memfs_new(1);
	likes.count = 0;
	assert_int_equal(upper_dense_write(&d, "u.data", "i/u.index", NULL), 0);
	assert_int_equal(likes.count, 2);
	assert_int_equal(likes.models[0], 4);
	assert_int_equal(likes.models[1], 9);
	d.like = NULL;
	likes.count = 0;
	assert_int_equal(upper_dense_write(&d, "v.data", "i/v.index", NULL), 0);
	assert_int_equal(upper_dense_create(&d, "w.data", "i/w.index", NULL), 0);
	assert_int_equal(likes.count, 0);
	memfs_free(memfs);
}

/* ---- what is in its way ---- */

static void put_file(const char *name, const void *bytes, size_t n)
{
	int fd = memfs_open(name, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(memfs_pwrite(fd, bytes, n, 0), n);
	memfs_close(fd);
}

/* What has one of the two names stays, and nothing else is left. */
static void a_file_of_that_name_stays(void **state)
{
	static const char *const names[] = { "u.data", "i/u.index" };
	struct mapping_run none = { 0 };
	struct upper_dense d = { .ops = &memfs_ops, .header = &header, .maps = &none };
	struct err e;
	char want[64];
	unsigned i;

	for (i = 0; i < 4; i++) {
		memfs = memfs_new(1);
		put_file(names[i / 2], "mine", 4);
		assert_int_equal((i % 2 ? upper_dense_create : upper_dense_write)(&d, "u.data",
										  "i/u.index", &e),
				 -EEXIST);
		snprintf(want, sizeof want, "%s: File exists", names[i / 2]);
		assert_string_equal(e.msg, want);
		assert_int_equal(count_names(), 1);
		assert_int_equal(bytes_of(names[i / 2])->n, 4);
		assert_int_equal(open_files(), 0);
		memfs_free(memfs);
	}
}

/* What cannot even be opened may be anything. */
static const char *refused;
static int refusal;

static int refusing_open(const char *path, int flags, mode_t mode)
{
	return refused && strcmp(path, refused) == 0 ? refusal : memfs_open(path, flags, mode);
}

static int refusing_size(int fd, uint64_t *size)
{
	const struct memfs_name *name = refused ? memfs_find(refused) : NULL;

	return name && name->file == memfs->fds[fd] ? refusal : memfs_size(fd, size);
}

static void what_cannot_be_looked_at_stays(void **state)
{
	static const struct {
		const char *name;
		bool opens; /* then it has no size */
		int refusal, r;
		const char *said;
	} cases[] = {
		{ "u.data", false, -ELOOP, -EEXIST, "u.data: File exists" },
		{ "i/u.index", false, -EACCES, -EEXIST, "i/u.index: File exists" },
		{ "i/u.index.part", false, -EACCES, -EACCES, "i/u.index.part: Permission denied" },
		{ "i/u.index.part", true, -EINVAL, -EINVAL, "i/u.index.part: not a regular file" },
		{ "i/u.index.part", true, -EIO, -EIO, "i/u.index.part: Input/output error" },
		{ "u.data.part", true, -EINVAL, -EINVAL, "u.data.part: not a regular file" },
		{ "u.data.part", true, -EIO, -EIO, "u.data.part: Input/output error" },
	};
	struct file_ops ops = memfs_ops;
	struct mapping_run none = { 0 };
	struct upper_dense d = { .ops = &ops, .header = &header, .maps = &none };
	struct err e;
	size_t i;

	ops.open = refusing_open;
	ops.size = refusing_size;
	for (i = 0; i < COUNT_OF(cases); i++) {
		ops.open = cases[i].opens ? memfs_open : refusing_open;
		ops.size = cases[i].opens ? refusing_size : memfs_size;
		memfs = memfs_new(1);
		put_file(cases[i].name, "mine", 4);
		refused = cases[i].name;
		refusal = cases[i].refusal;
		assert_int_equal(upper_dense_create(&d, "u.data", "i/u.index", &e), cases[i].r);
		refused = NULL;
		assert_string_equal(e.msg, cases[i].said);
		assert_int_equal(bytes_of(cases[i].name)->n, 4);
		assert_null(strcmp(cases[i].name, "u.data") ? memfs_find("u.data") : NULL);
		assert_int_equal(open_files(), 0);
		memfs_free(memfs);
	}
}

/* Parts that a killed process left are taken over: they are zeroes, or begin as a layer does. */
static void parts_are_taken_over_if_they_are_ours(void **state)
{
	static const struct {
		const char *what;
		size_t magic, zeroes; /* bytes of a header, of zeroes behind them */
		const char *text; /* behind those */
		bool ours;
	} cases[] = {
		{ "empty", 0, 0, "", true },
		{ "a zero", 0, 1, "", true },
		{ "a sector of zeroes", 0, SECTOR, "", true },
		{ "text behind zeroes", 0, SECTOR, "mine", true },
		{ "text in the last byte", 0, SECTOR - 1, "m", false },
		{ "text", 0, 0, "m", false },
		{ "a header", FORMAT_SPACE, 100, "", true },
		{ "the magic", 24, 0, "", true },
		{ "a part of the magic", 23, 0, "", false },
		{ "the magic and text", 24, 0, "mine", true },
	};
	static const char *const parts[] = { "u.data.part", "i/u.index.part" };
	uint8_t raw[2 * FORMAT_SPACE];
	struct mapping_run none = { 0 };
	struct upper_dense d = { .ops = &memfs_ops, .header = &header, .maps = &none };
	struct err e;
	char want[128];
	size_t i, n;

	for (i = 0; i < 2 * COUNT_OF(cases); i++) {
		const char *name = parts[i % 2];

		memset(raw, 0, sizeof raw);
		format_encode_header(&header, raw);
		memset(raw + cases[i / 2].magic, 0, sizeof raw - cases[i / 2].magic);
		n = cases[i / 2].magic + cases[i / 2].zeroes;
		memcpy(raw + n, cases[i / 2].text, strlen(cases[i / 2].text));
		n += strlen(cases[i / 2].text);
		memfs = memfs_new(1);
		put_file(name, raw, n);
		e.msg[0] = '\0';
		if (upper_dense_create(&d, "u.data", "i/u.index", &e) !=
		    (cases[i / 2].ours ? 0 : -EEXIST))
			fail_msg("%s in %s: %s", cases[i / 2].what, name, e.msg);
		if (cases[i / 2].ours) {
			assert_int_equal(count_names(), 2);
			assert_int_equal(bytes_of("u.data")->n, FORMAT_SPACE);
			assert_int_equal(bytes_of("i/u.index")->n, FORMAT_SPACE + 32);
		} else {
			snprintf(want, sizeof want,
				 "%s: is in the way, and no part of a layer: move it away", name);
			assert_string_equal(e.msg, want);
			assert_int_equal(bytes_of(name)->n, n);
			assert_null(memfs_find("u.data"));
			assert_null(memfs_find("i/u.index"));
		}
		assert_int_equal(open_files(), 0);
		memfs_free(memfs);
	}
}

/* ---- two at once ---- */

static const char *appears; /* this file, while the lock is taken */
static unsigned renames;

static int slow_lock(int fd)
{
	if (appears)
		put_file(appears, "mine", 4);
	return memfs_lock(fd);
}

static int busy_lock(int fd)
{
	return -EWOULDBLOCK;
}

/* Another process makes it: it is never taken from that one. */
static void one_process_makes_it(void **state)
{
	static const char *const names[] = { "u.data", "i/u.index" };
	struct file_ops ops = memfs_ops;
	struct mapping_run none = { 0 };
	struct upper_dense d = { .ops = &ops, .header = &header, .maps = &none };
	struct err e;
	size_t i;

	ops.lock = busy_lock;
	memfs = memfs_new(1);
	assert_int_equal(upper_dense_create(&d, "u.data", "i/u.index", &e), -EBUSY);
	assert_string_equal(e.msg, "u.data.part: is in use by another process");
	assert_non_null(memfs_find("u.data.part")); /* that one's */
	assert_int_equal(open_files(), 0);
	memfs_free(memfs);
	ops.lock = slow_lock;
	for (i = 0; i < COUNT_OF(names); i++) {
		memfs = memfs_new(1);
		appears = names[i];
		put_file("i/u.index.part", "theirs", 6);
		assert_int_equal(upper_dense_create(&d, "u.data", "i/u.index", &e), -EEXIST);
		appears = NULL;
		assert_int_equal(bytes_of(names[i])->n, 4);
		assert_int_equal(bytes_of("i/u.index.part")->n, 6);
		assert_non_null(memfs_find("u.data.part"));
		assert_int_equal(open_files(), 0);
		memfs_free(memfs);
	}
}

static int late_rename(const char *source, const char *to)
{
	if (strcmp(to, "i/u.index.part") == 0) {
		renames++;
		put_file("u.data", "mine", 4);
	}
	return memfs_rename(source, to);
}

/* Somebody else's file gets the data's name before ours: it stays, and all of ours goes. */
static void a_name_is_taken_from_nobody(void **state)
{
	struct file_ops ops = memfs_ops;
	struct mapping_run none = { 0 };
	struct upper_dense d = { .ops = &ops, .header = &header, .maps = &none };
	struct err e;

	ops.rename = late_rename;
	renames = 0;
	memfs = memfs_new(1);
	assert_int_equal(upper_dense_create(&d, "u.data", "i/u.index", &e), -EEXIST);
	assert_string_equal(e.msg, "u.data: File exists");
	assert_int_equal(renames, 1);
	assert_int_equal(count_names(), 1);
	assert_int_equal(bytes_of("u.data")->n, 4);
	assert_int_equal(open_files(), 0);
	memfs_free(memfs);
}

/* A pending file and an intent of a log that is gone go with it; what only has their name stays,
 * and the log is not made. */
static void what_an_earlier_log_left_goes(void **state)
{
	static const struct {
		const char *name, *bytes;
		bool ours;
	} cases[] = {
		{ "u.pending", "OBDPEND2", true },
		{ "u.pending", "mine", false },
		{ "u.intent", "mine", false },
	};
	struct mapping_run none = { 0 };
	struct upper_dense d = { .ops = &memfs_ops, .header = &header, .maps = &none };
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		memfs = memfs_new(1);
		put_file(cases[i].name, cases[i].bytes, strlen(cases[i].bytes));
		assert_int_equal(upper_dense_create(&d, "u.data", "i/u.index", &e),
				 cases[i].ours ? 0 : -EEXIST);
		assert_int_equal(!memfs_find(cases[i].name), cases[i].ours);
		assert_int_equal(!memfs_find("u.data"), !cases[i].ours);
		assert_int_equal(count_names(), cases[i].ours ? 2 : 1);
		assert_int_equal(open_files(), 0);
		memfs_free(memfs);
	}
}

/* ---- limits ---- */

static void so_many_mappings_at_most(void **state)
{
	struct mapping_run maps = { .count = (size_t)FORMAT_MAX_ENTRIES + 1 };
	struct upper_dense d = { .ops = &memfs_ops, .header = &header, .maps = &maps };
	struct err e;

	memfs = memfs_new(1);
	assert_int_equal(upper_dense_write(&d, "u.data", "i/u.index", &e), -EFBIG);
	assert_string_equal(e.msg, "u.data: 67108865 mappings, more than 67108864");
	assert_int_equal(upper_dense_create(&d, "v.data", "i/v.index", &e), -EFBIG);
	assert_string_equal(e.msg, "v.data: 67108865 mappings, more than 67108864");
	assert_int_equal(count_names(), 0);
	/* As many as may be are begun. */
	maps.count--;
	put_file("u.data", "mine", 4);
	assert_int_equal(upper_dense_write(&d, "u.data", "i/u.index", &e), -EEXIST);
	assert_int_equal(upper_dense_create(&d, "u.data", "i/u.index", &e), -EEXIST);
	memfs_free(memfs);
}

static int make_header(void **state)
{
	uint64_t random = 1;

	from = malloc(FROM);
	testlib_fill(from, FROM, 0, &random);
	return upper_log_make_header(&header, UINT64_C(1) << 40, uuid, uuid, NULL);
}

static int free_from(void **state)
{
	free(from);
	return 0;
}

static const char *const warnings[] = { "acknowledged writes of a layer that is gone", NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(its_bytes_are_those_of_what_counts),
		cmocka_unit_test(its_files_are_like_their_models),
		cmocka_unit_test(a_file_of_that_name_stays),
		cmocka_unit_test(what_cannot_be_looked_at_stays),
		cmocka_unit_test(parts_are_taken_over_if_they_are_ours),
		cmocka_unit_test(one_process_makes_it),
		cmocka_unit_test(a_name_is_taken_from_nobody),
		cmocka_unit_test(what_an_earlier_log_left_goes),
		cmocka_unit_test(so_many_mappings_at_most),
	};

	leftovers_warnings = warnings;
	return cmocka_run_group_tests(tests, make_header, free_from);
}
