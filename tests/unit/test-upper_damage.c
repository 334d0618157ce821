/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_damage.c - every single-byte change of a log's index and pending file, and what is
 * done about it: it is found (the log is refused), or it is harmless (the disk is the same).  The
 * third kind, a silent one, is counted by field: of our own logs there is none. */
#include "tests/unit/upperlib.h"

#include "core/base/log.h"
#include "core/layer.h"
#include "core/upper_repair.h"

enum {
	SIZE = 1 << 20,
	WRITES = 24,
	VALUES = 255, /* other ones of a byte, of which a twentieth is tried without FULL=1 */
};

/* What a log says, however it is opened. */
struct view {
	struct mapping_run run;
	struct format_header header;
};

static char golden[2][256];

static int look(const char *data, const char *index, struct view *out, struct err *e)
{
	struct layer layer;
	int r = upper_open_read_only(data, index, 0, &layer, NULL, e);

	if (r < 0)
		return r;
	out->run = layer.run;
	out->header = layer.header;
	layer.run = (struct mapping_run){ 0 };
	layer_close(&layer);
	return 0;
}

static bool is_same(const struct view *a, const struct view *b)
{
	return a->run.count == b->run.count &&
	       memcmp(a->run.maps, b->run.maps, a->run.count * sizeof *a->run.maps) == 0 &&
	       a->header.virtual_size == b->header.virtual_size &&
	       strcasecmp(a->header.uuid, b->header.uuid) == 0;
}

/* ---- counting ---- */

enum field { HEADER, START, LENGTH, PLACE, KIND, PENDING_HEADER, PENDING_RECORD, FIELDS };
static const char *const names[] = { "header",	      "start",		"start and length",
				     "place of data", "zeroed and tag", "pending header",
				     "pending record" };
static unsigned silent[FIELDS], found[FIELDS], harmless[FIELDS];

static enum field field_of(bool pending, uint64_t at)
{
	if (pending)
		return at < 256 ? PENDING_HEADER : PENDING_RECORD;
	if (at < FORMAT_SPACE)
		return HEADER;
	at %= FORMAT_ENTRY;
	return at < 6 ? START : at < 8 ? LENGTH : at < 14 ? PLACE : KIND;
}

static void put(int fd, uint64_t at, uint8_t value)
{
	assert_int_equal(pwrite(fd, &value, 1, (off_t)at), 1);
}

/* Changes one byte of a file to `value`, looks, and puts it back. */
static void change(const char *const paths[2], int fd, bool pending, uint64_t at, uint8_t value,
		   uint8_t old, const struct view *good)
{
	enum field field = field_of(pending, at);
	struct view now;
	struct err e;
	int r;

	put(fd, at, value);
	r = look(paths[0], paths[1], &now, &e);
	put(fd, at, old);
	if (r < 0) {
		assert_int_equal(r, -EBADMSG);
		found[field]++;
		return;
	}
	if (is_same(&now, good))
		harmless[field]++;
	else
		silent[field]++;
	free(now.run.maps);
}

static void change_file(const char *const paths[2], const char *path, bool pending,
			const struct view *good)
{
	uint64_t size = upper_file_size(path), at;
	int fd = open(path, O_RDWR);
	unsigned i, tries = loops_count(VALUES);
	uint8_t old;

	assert_true(fd >= 0);
	for (at = 0; at < size; at++) {
		/* The rest of the header is of zeroes that nobody reads. */
		if (!pending && at == 400)
			at = FORMAT_SPACE;
		assert_int_equal(pread(fd, &old, 1, (off_t)at), 1);
		for (i = 1; i <= tries; i++)
			change(paths, fd, pending, at,
			       (uint8_t)(old + (tries == VALUES ? i : 1 + loops_random() % VALUES)),
			       old, good);
	}
	close(fd);
}

/* Returns the silent ones. */
static unsigned report(const char *what)
{
	unsigned i, sum = 0;

	for (i = 0; i < FIELDS; i++) {
		if (found[i] + harmless[i] + silent[i] > 0)
			printf("%s: %s: %u found, %u harmless, %u silent\n", what, names[i],
			       found[i], harmless[i], silent[i]);
		sum += silent[i];
		found[i] = harmless[i] = silent[i] = 0;
	}
	return sum;
}

/* ---- logs ---- */

static const struct upper_log_options few = { .room_records = 8, .garbage_bytes = 1 };

/* Some flushes, and what was only acknowledged. */
static void use(struct upper_log *u, bool flush_last)
{
	uint8_t bytes[4096];
	unsigned i;

	for (i = 0; i < WRITES; i++) {
		memset(bytes, (int)i + 1, sizeof bytes);
		assert_int_equal(upper_log_pwrite(u, bytes, sizeof bytes, i * 40503 % 200 * 4096,
						  i % 4 == 3 && i < 20 ? UPPER_FUA : 0, NULL),
				 0);
	}
	assert_int_equal(upper_log_zero(u, 8192, 16384, 0, NULL), 0);
	if (flush_last)
		assert_int_equal(upper_log_flush(u, NULL), 0);
}

static void die_with(bool flush_last)
{
	struct upper_log *u;
	pid_t child;

	upper_close(upper_new(SIZE, &few));
	child = fork();
	if (child == 0) {
		if (upper_log_open(upper_data, upper_index, &few, &u, NULL, NULL) < 0)
			_exit(1);
		use(u, flush_last);
		raise(SIGKILL);
	}
	assert_true(waitpid(child, &(int){ 0 }, 0) > 0);
}

static void change_all(const char *what, bool pending)
{
	const char *paths[2] = { upper_data, upper_index };
	struct view good;
	struct err e;

	if (look(upper_data, upper_index, &good, &e) < 0)
		fail_msg("%s", e.msg);
	change_file(paths, upper_index, false, &good);
	if (pending)
		change_file(paths, upper_pending, true, &good);
	assert_int_equal(report(what), 0);
	free(good.run.maps);
}

static void a_log_that_was_closed(void **state)
{
	struct upper_log *u = upper_new(SIZE, &few);

	use(u, false);
	upper_close(u);
	change_all("closed", false);
}

static void a_log_whose_process_died(void **state)
{
	die_with(true);
	change_all("flushed and killed", true);
	die_with(false);
	change_all("killed", true);
}

/* The reference's has no checksums: what breaks no rule is not found before it is ours. */
static void a_log_of_the_reference(void **state)
{
	const char *paths[2] = { upper_data, upper_index };
	const char *const names_of[2] = { "upper.data", "upper.index" };
	struct upper_log *u;
	struct view good;
	unsigned before;
	size_t i, n;
	char *bytes;

	upper_clear(NULL);
	for (i = 0; i < 2; i++) {
		snprintf(golden[i], sizeof golden[i], "%s/upper-log/%s", getenv("GOLDEN"),
			 names_of[i]);
		assert_int_equal(io_read_file(golden[i], 1 << 28, &bytes, &n, NULL), 0);
		assert_int_equal(io_replace_file(paths[i], bytes, n, NULL), 0);
		free(bytes);
	}
	assert_int_equal(look(upper_data, upper_index, &good, NULL), 0);
	change_file(paths, upper_index, false, &good);
	before = report("the reference's");
	free(good.run.maps);
	assert_true(before > 0);
	u = upper_open_with(NULL);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	upper_close(u);
	change_all("the reference's, with one write of ours", false);
}

/* ---- mending ---- */

/* An early record is hit: all later flushes are there, and nobody cuts them off but who is told to.
 */
static void damage_is_not_cut_by_opening(void **state)
{
	struct upper_repair done;
	struct upper_log *u = upper_new(SIZE, &few);
	uint64_t size;
	uint8_t byte;
	struct err e;
	int fd;

	assert_int_equal(upper_log_pwrite(u, "a", 1, 0, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "b", 1, 512, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, "c", 1, 1024, UPPER_FUA, NULL), 0);
	upper_close(u);
	size = upper_file_size(upper_index);
	fd = open(upper_index, O_RDWR);
	assert_int_equal(pread(fd, &byte, 1, FORMAT_SPACE + 2 * FORMAT_ENTRY + 13), 1);
	put(fd, FORMAT_SPACE + 2 * FORMAT_ENTRY + 13, byte ^ 64);
	close(fd);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "overlaybd repair"));
	assert_non_null(strstr(e.msg, "record 2"));
	assert_int_equal(upper_file_size(upper_index), size);
	assert_int_equal(upper_repair_files(NULL, upper_data, upper_index, UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 0);
	assert_int_equal(done.kept, 1);
	assert_true(done.dropped > 0);
	assert_non_null(strstr(done.damage.msg, "record 2"));
	u = upper_open_with(NULL);
	assert_int_equal(upper_log_pread(u, &byte, 1, 0, NULL), 0);
	assert_int_equal(byte, 'a');
	assert_int_equal(upper_log_pread(u, &byte, 1, 512, NULL), 0);
	assert_int_equal(byte, 0);
	upper_close(u);
	/* Nothing is to be done now, and nothing is. */
	size = upper_file_size(upper_index);
	assert_int_equal(upper_repair_files(NULL, upper_data, upper_index, UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 0);
	assert_int_equal(done.dropped, 0);
	assert_string_equal(done.damage.msg, "");
	assert_int_equal(upper_file_size(upper_index), size);
}

static void a_damaged_pending_file_is_dropped(void **state)
{
	struct upper_repair done;
	struct upper_log *u;
	uint8_t byte;
	struct err e;
	int fd;

	upper_close(upper_new(SIZE, &few));
	write_and_die(NULL);
	fd = open(upper_pending, O_RDWR);
	put(fd, 256 + 3, 77);
	close(fd);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e), -EBADMSG);
	assert_int_equal(upper_repair_files(NULL, upper_data, upper_index, UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 0);
	assert_true(done.dropped_pending);
	assert_int_equal(access(upper_pending, F_OK), -1);
	u = upper_open_with(NULL);
	assert_int_equal(upper_log_pread(u, &byte, 1, 100, NULL), 0);
	assert_int_equal(byte, 'f');
	upper_close(u);
	/* Somebody's file is not removed for its name. */
	assert_int_equal(io_replace_file(upper_pending, "letters", 7, NULL), 0);
	assert_int_equal(upper_repair_files(NULL, upper_data, upper_index, UPPER_ACKNOWLEDGED_JUDGE,
					    &done, &e),
			 -EBADMSG);
	assert_int_equal(upper_file_size(upper_pending), 7);
}

/* ---- what a crash of overlaybd leaves ---- */

enum { DATA_END = 18, MOST = 8 }; /* sectors of the data file; records */

#define DATA(from, n)                                                                              \
	{                                                                                          \
		.start = 3, .sectors = (n), .moffset = (from)                                      \
	}
#define ZERO                                                                                       \
	{                                                                                          \
		.start = 5, .sectors = 2, .moffset = 8, .zeroed = true                             \
	}

static const struct {
	const char *what;
	struct format_entry entries[MOST];
	unsigned good; /* records that count */
	bool damaged;
} tails[] = {
	{ "whole", { DATA(8, 4), DATA(12, 6), ZERO }, 3, false },
	{ "behind the end", { DATA(8, 4), DATA(12, 6), DATA(18, 6), ZERO }, 2, false },
	{ "over the end", { DATA(8, 4), DATA(12, 8), ZERO, ZERO }, 1, false },
	{ "several", { DATA(8, 4), DATA(12, 8), DATA(20, 1), ZERO, DATA(21, 9) }, 1, false },
	{ "after zeroes", { ZERO, DATA(8, 40), ZERO }, 1, false },
	{ "one", { DATA(8, 11), ZERO }, 0, false },
	/* No crash cuts these. */
	{ "far behind the end", { DATA(8, 4), DATA(19, 4), ZERO }, 1, true },
	{ "among data", { DATA(8, 4), DATA(11, 8), ZERO }, 1, true },
	{ "data behind", { DATA(8, 4), DATA(12, 8), ZERO, DATA(12, 2) }, 1, true },
	{ "no length", { DATA(8, 4), DATA(12, 0), ZERO }, 1, true },
	{ "zeroes without end", { DATA(8, 4), { .start = 1, .zeroed = true }, ZERO }, 1, true },
	{ "in the header", { DATA(8, 4), DATA(7, 20), ZERO }, 1, true },
};

static unsigned put_tail(const struct format_entry entries[MOST])
{
	uint8_t raw[MOST * FORMAT_ENTRY];
	unsigned n;
	int fd = open(upper_index, O_WRONLY);

	for (n = 0; n < MOST && entries[n].start > 0; n++)
		format_encode_entry(&entries[n], raw + n * FORMAT_ENTRY);
	assert_int_equal(pwrite(fd, raw, n * FORMAT_ENTRY, FORMAT_SPACE), n * FORMAT_ENTRY);
	close(fd);
	assert_int_equal(truncate(upper_data, DATA_END * 512), 0);
	return n;
}

static void what_a_crash_of_overlaybd_leaves_is_cut(void **state)
{
	struct upper_findings seen;
	struct upper_repair done;
	struct upper_log *u;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof tails / sizeof *tails; i++) {
		unsigned n;
		int r;

		upper_close(upper_new(SIZE, NULL));
		n = put_tail(tails[i].entries);
		r = upper_log_open(upper_data, upper_index, NULL, &u, &seen, &e);
		if (r != (tails[i].damaged ? -EBADMSG : 0))
			fail_msg("%s: %d, %s", tails[i].what, r, r < 0 ? e.msg : "");
		if (r < 0) {
			assert_non_null(strstr(e.msg, "'overlaybd repair' cuts it there"));
			assert_int_equal(upper_repair_files(NULL, upper_data, upper_index,
							    UPPER_ACKNOWLEDGED_JUDGE, &done, &e),
					 0);
			assert_int_equal(done.kept, tails[i].good);
			assert_int_equal(done.dropped, n - tails[i].good);
			assert_int_equal(
				upper_log_open(upper_data, upper_index, NULL, &u, &seen, &e), 0);
		} else {
			assert_int_equal(seen.ignored_records, n - tails[i].good);
		}
		if (seen.records != tails[i].good)
			fail_msg("%s: %u", tails[i].what, (unsigned)seen.records);
		assert_int_equal(upper_log_close(u, NULL), 0);
	}
}

static void ignore_line(enum log_level level, const char *line)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_log_that_was_closed),
		cmocka_unit_test(a_log_whose_process_died),
		cmocka_unit_test(a_log_of_the_reference),
		cmocka_unit_test(damage_is_not_cut_by_opening),
		cmocka_unit_test(a_damaged_pending_file_is_dropped),
		cmocka_unit_test(what_a_crash_of_overlaybd_leaves_is_cut),
	};

	loops_seed();
	log_set_sink(ignore_line);
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
