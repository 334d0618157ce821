/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_replay.c - which acknowledged records are still to be taken up: pending file, index
 * and data are spelt out, and so is what is made of them.  In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/upper_replay.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loglib.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SALT = 100007,
	GENERATION = 12345,
	PID = 4711,
	DATA = 4 << 20, /* bytes of the data file */
	PIECE = 1 << 20, /* bytes of a read */
	MOST = 1024, /* entries, records */
};

static const char uuid[] = "0123ABCD-1DFB-4EC7-8E49-636D2508E22E";

/* One entry or record; sectors 0 ends a list. */
struct item {
	uint64_t start, moffset;
	uint32_t sectors;
	bool zeroed;
};

#define AT(start_, sectors_, moffset_)                                                             \
	{                                                                                          \
		.start = (start_), .sectors = (sectors_), .moffset = (moffset_)                    \
	}
#define TRIM(start_, sectors_)                                                                     \
	{                                                                                          \
		.start = (start_), .sectors = (sectors_), .zeroed = true                           \
	}

static uint8_t *data_bytes; /* DATA of them */
static struct item index_items[MOST], records[MOST];
static size_t entry_count, record_count;
static struct upper_pending_base base, next_base;
static size_t most_read; /* bytes of the data at once */
static unsigned data_reads;

static void set_items(struct item *to, size_t *count, const struct item *from)
{
	for (*count = 0; from[*count].sectors > 0; (*count)++)
		to[*count] = from[*count];
}

static void encode(const struct item *item, uint8_t raw[FORMAT_ENTRY])
{
	struct format_entry entry = { .start = item->start,
				      .sectors = item->sectors,
				      .moffset = item->zeroed ? 8 : item->moffset,
				      .zeroed = item->zeroed };

	format_encode_entry(&entry, raw);
}

static uint8_t *index_bytes(size_t *n)
{
	uint8_t *raw = calloc(1, FORMAT_SPACE + MOST * FORMAT_ENTRY);
	size_t i;

	assert_non_null(raw);
	for (i = 0; i < entry_count; i++)
		encode(&index_items[i], raw + FORMAT_SPACE + i * FORMAT_ENTRY);
	*n = FORMAT_SPACE + entry_count * FORMAT_ENTRY;
	return raw;
}

static uint32_t index_crc(uint64_t entries)
{
	size_t n;
	uint8_t *raw = index_bytes(&n);
	uint32_t crc = crc32c_raw(SALT, raw + FORMAT_SPACE, (size_t)entries * FORMAT_ENTRY);

	free(raw);
	return crc;
}

static void put_pending(bool older)
{
	size_t header = older ? 128 : 256, size = older ? 16 : 32, i, n;
	uint8_t *raw = calloc(1, header + record_count * size);
	int fd = memfs_open("u.pending", O_RDWR | O_CREAT, 0600);

	assert_non_null(raw);
	memcpy(raw, older ? "OBDPEND1" : "OBDPEND2", 8);
	le64_put(raw + 8, PID);
	assert_int_equal(memfs_boot_id((char *)raw + 16), 0);
	memcpy(raw + 52, uuid, 36);
	if (!older) {
		le64_put(raw + 88, base.entries);
		le32_put(raw + 96, base.crc);
		le32_put(raw + 100, GENERATION);
		le64_put(raw + 104, next_base.entries);
		le32_put(raw + 112, next_base.crc);
		le64_put(raw + 116, base.skip);
		le64_put(raw + 124, next_base.skip);
	}
	le32_put(raw + header - 4, crc32c_raw(0, raw, header - 4));
	for (i = 0; i < record_count; i++) {
		uint8_t *to = raw + header + i * size;
		uint64_t off = records[i].moffset * SECTOR, bytes = records[i].sectors * SECTOR;

		encode(&records[i], to);
		if (older)
			continue;
		if (!records[i].zeroed && off + bytes <= DATA)
			le32_put(to + 16, crc32c_raw(SALT, data_bytes + off, (size_t)bytes));
		le32_put(to + 28, crc32c_raw(GENERATION + (uint32_t)i, to, 28));
	}
	n = header + record_count * size;
	assert_int_equal(memfs_pwrite(fd, raw, n, 0), n);
	memfs_close(fd);
	free(raw);
}

static int data_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	most_read = n > most_read ? n : most_read;
	data_reads++;
	memcpy(buf, data_bytes + off, n);
	return 0;
}

/* That of the files in memory does without a memory that fails. */
static char *true_name(const char *path)
{
	return strdup(path);
}

/* What is made of all that. */
static int look(bool older, bool apply, const char *damage, uint64_t data_size,
		struct upper_replay *out, struct err *e)
{
	static const struct source_ops data_ops = { .name = "data", .pread = data_pread };
	struct source data = { .ops = &data_ops, .size = data_size }, *index;
	struct upper_records found = { .good = entry_count };
	struct file_ops ops = memfs_ops;
	struct upper_replay_log log = { .ops = &ops,
					.data_path = "u.data",
					.uuid = uuid,
					.data = &data,
					.found = &found,
					.apply_older = apply };
	long left = allocs_left;
	uint8_t *raw;
	size_t n;
	int r;

	allocs_left = -1;
	raw = index_bytes(&n);
	ops.true_name = true_name;
	snprintf(found.damage.msg, sizeof found.damage.msg, "%s", damage);
	memfs = memfs_new(1);
	put_pending(older);
	assert_int_equal(source_open_memory(raw, n, &index, NULL), 0);
	log.index = index;
	most_read = data_reads = 0;
	e->msg[0] = '\0';
	allocs_left = left;
	r = upper_replay_read(&log, out, e);
	allocs_left = -1;
	source_close(index);
	memfs_free(memfs);
	free(raw);
	return r;
}

static void fill_data(void)
{
	size_t i;

	for (i = 0; i < DATA; i++)
		data_bytes[i] = (uint8_t)(i / SECTOR * 31 + i % 251 + 1);
}

/* ---- what the index holds ---- */

/* The index is a base of one entry, and then `index`. */
static void the_index_goes_on_as_the_records_do(void **state)
{
	static const struct {
		const char *what;
		struct item index[6], records[6];
		uint64_t skip;
		int from; /* -1: they are stale */
	} cases[] = {
		{ "none", { { 0 } }, { AT(1, 2, 8), TRIM(5, 3) }, 0, 0 },
		{ "the first", { AT(1, 2, 8) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, 1 },
		{ "all", { AT(1, 2, 8), TRIM(5, 3) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, 2 },
		{ "all and more",
		  { AT(1, 2, 8), TRIM(5, 3), TRIM(9, 1) },
		  { AT(1, 2, 8), TRIM(5, 3) },
		  0,
		  2 },
		{ "another one", { AT(2, 2, 8) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, -1 },
		{ "another place", { AT(1, 2, 9) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, -1 },
		{ "zeroes instead", { TRIM(1, 2) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, -1 },
		{ "data instead", { AT(5, 3, 8) }, { TRIM(5, 3), AT(1, 2, 8) }, 0, -1 },
		{ "a shorter one", { AT(1, 1, 8) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, -1 },
		{ "a longer one", { AT(1, 3, 8) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, -1 },
		{ "the second", { TRIM(5, 3) }, { AT(1, 2, 8), TRIM(5, 3) }, 0, -1 },
		{ "the second, of which it knows",
		  { TRIM(5, 3) },
		  { AT(1, 2, 8), TRIM(5, 3) },
		  1,
		  2 },
		{ "the first, then another",
		  { AT(1, 2, 8), TRIM(9, 1) },
		  { AT(1, 2, 8), TRIM(5, 3) },
		  0,
		  -1 },
		{ "joined", { AT(1, 5, 8) }, { AT(1, 2, 8), AT(3, 3, 10), TRIM(5, 3) }, 0, 2 },
		{ "three joined",
		  { TRIM(1, 6) },
		  { TRIM(1, 1), TRIM(2, 2), TRIM(4, 3), AT(9, 1, 8) },
		  0,
		  3 },
		{ "joined, but the place does not go on",
		  { AT(1, 5, 8) },
		  { AT(1, 2, 8), AT(3, 3, 11), TRIM(5, 3) },
		  0,
		  -1 },
		{ "joined, but the start does not go on",
		  { AT(1, 5, 8) },
		  { AT(1, 2, 8), AT(4, 3, 10), TRIM(5, 3) },
		  0,
		  -1 },
		{ "joined, but for a part",
		  { AT(1, 4, 8) },
		  { AT(1, 2, 8), AT(3, 3, 10), TRIM(5, 3) },
		  0,
		  -1 },
		{ "joined, the last of all", { AT(1, 6, 8) }, { AT(1, 2, 8), AT(3, 3, 10) }, 0, 2 },
	};
	struct upper_replay out;
	struct err e;
	size_t i;

	fill_data();
	for (i = 0; i < COUNT_OF(cases); i++) {
		size_t count;
		int r;

		set_items(index_items + 1, &entry_count, cases[i].index);
		index_items[0] = (struct item)AT(100, 1, 8);
		entry_count++;
		set_items(records, &record_count, cases[i].records);
		base = (struct upper_pending_base){ 1, index_crc(1), cases[i].skip };
		next_base = (struct upper_pending_base){ 0 };
		r = look(false, false, "", DATA, &out, &e);
		if (r < 0)
			fail_msg("%s: %s", cases[i].what, e.msg);
		count = cases[i].from < 0 ? 0 : record_count - (size_t)cases[i].from;
		if (out.count != count || out.lost != 0 ||
		    out.stale != (cases[i].from < 0 ? record_count : 0) ||
		    (cases[i].from >= 0 && out.from != (size_t)cases[i].from))
			fail_msg("%s: %zu from %zu, %zu stale, %zu lost", cases[i].what, out.count,
				 out.from, out.stale, out.lost);
		upper_replay_release(&out);
		assert_null(out.content.records);
		assert_int_equal(out.content.count, 0);
	}
}

/* A base is the whole index, or less; the next one is asked only if there is one. */
static void a_base_is_no_longer_than_the_index(void **state)
{
	static const struct item one[] = { AT(1, 2, 8), { 0 } };
	struct upper_replay out;
	struct err e;
	uint64_t entries;

	fill_data();
	set_items(records, &record_count, one);
	set_items(index_items, &entry_count, one);
	for (entries = 0; entries <= 2; entries++) {
		base = (struct upper_pending_base){ entries, index_crc(entries), 0 };
		next_base = (struct upper_pending_base){ 0, SALT, 5 };
		assert_int_equal(look(false, false, "", DATA, &out, &e), 0);
		/* 0: the index is the record; 1: the record is new; 2: of another index. */
		assert_int_equal(out.count, entries == 1);
		assert_int_equal(out.from, entries == 0);
		assert_int_equal(out.stale, entries == 2);
		upper_replay_release(&out);
		/* An empty one is none, whatever it says. */
		base.crc ^= 1;
		next_base = (struct upper_pending_base){ 0, SALT, 0 };
		assert_int_equal(look(false, false, "", DATA, &out, &e), 0);
		assert_int_equal(out.stale, 1);
		upper_replay_release(&out);
		next_base = (struct upper_pending_base){ 1, index_crc(1), 0 };
		assert_int_equal(look(false, false, "", DATA, &out, &e), 0);
		assert_int_equal(out.stale, 0);
		assert_int_equal(out.count, 1);
		upper_replay_release(&out);
	}
}

/* ---- the data ---- */

static void data_are_read_in_pieces(void **state)
{
	static const struct {
		uint32_t sectors;
		unsigned reads;
	} cases[] = { { 1, 1 }, { 2047, 1 }, { 2048, 1 }, { 2049, 2 }, { 4096, 2 }, { 5000, 3 } };
	struct upper_replay out;
	struct err e;
	size_t i;

	fill_data();
	entry_count = 0;
	base = (struct upper_pending_base){ 0, SALT, 0 };
	next_base = (struct upper_pending_base){ 0 };
	for (i = 0; i < COUNT_OF(cases); i++) {
		records[0] = (struct item)AT(1, cases[i].sectors, 8);
		record_count = 1;
		assert_int_equal(look(false, false, "", DATA, &out, &e), 0);
		assert_int_equal(out.count, 1);
		assert_int_equal(data_reads, cases[i].reads);
		assert_true(most_read <= PIECE);
		upper_replay_release(&out);
		/* The last byte of the file is needed. */
		assert_int_equal(look(false, false, "", (8 + cases[i].sectors) * SECTOR, &out, &e),
				 0);
		assert_int_equal(out.count, 1);
		upper_replay_release(&out);
		assert_int_equal(
			look(false, false, "", (8 + cases[i].sectors) * SECTOR - 1, &out, &e), 0);
		assert_int_equal(out.count, 0);
		assert_int_equal(out.lost, 1);
		assert_int_equal(data_reads, 0);
		upper_replay_release(&out);
	}
}

/* ---- the older form ---- */

#define SINCE "the layer may have been written to since"
#define GONE                                                                                       \
	"some of what they wrote reads as zeroes or is gone, as after its file system went down"

static const struct older_case {
	const char *what;
	struct item index[6], records[6];
	size_t from, count, lost; /* where nobody has to be asked, or it is to be applied */
	const char *why; /* NULL: it is believed */
	size_t asked; /* records that are asked for */
	const char *damage;
} older_cases[] = {
	{ "an empty index", { { 0 } }, { AT(1, 2, 8), TRIM(5, 3) }, 0, 2, 0, NULL, 0, "" },
	{ "an empty index, zeroes", { { 0 } }, { TRIM(5, 3) }, 0, 1, 0, NULL, 0, "" },
	{ "data behind it", { AT(9, 2, 8) }, { AT(1, 2, 10), TRIM(5, 3) }, 0, 2, 0, NULL, 0, "" },
	{ "data before its end", { AT(9, 2, 8) }, { AT(1, 2, 9) }, 0, 1, 0, SINCE, 1, "" },
	{ "data before the end of the first of it",
	  { AT(9, 4, 8), AT(20, 1, 9) },
	  { AT(1, 2, 10) },
	  0,
	  1,
	  0,
	  SINCE,
	  1,
	  "" },
	{ "one before, one behind",
	  { AT(9, 2, 8) },
	  { AT(1, 2, 10), AT(4, 1, 9) },
	  0,
	  2,
	  0,
	  SINCE,
	  2,
	  "" },
	{ "zeroes have no place", { AT(9, 2, 8) }, { TRIM(5, 3) }, 0, 1, 0, SINCE, 1, "" },
	{ "damage", { AT(9, 2, 8) }, { AT(1, 2, 10) }, 0, 1, 0, SINCE, 1, "some" },
	{ "flushed in part",
	  { AT(9, 2, 8), AT(1, 2, 10) },
	  { AT(1, 2, 10), AT(3, 1, 14) },
	  1,
	  1,
	  0,
	  NULL,
	  0,
	  "" },
	{ "flushed and joined",
	  { AT(9, 2, 8), AT(1, 3, 10) },
	  { AT(1, 2, 10), AT(3, 1, 12), TRIM(5, 3) },
	  2,
	  1,
	  0,
	  NULL,
	  0,
	  "" },
	{ "flushed",
	  { AT(9, 2, 8), AT(1, 2, 10), TRIM(5, 3) },
	  { AT(1, 2, 10), TRIM(5, 3) },
	  2,
	  0,
	  0,
	  NULL,
	  0,
	  "" },
	{ "flushed zeroes", { TRIM(5, 3) }, { TRIM(5, 3) }, 1, 0, 0, NULL, 0, "" },
	/* The longest end of the index that is the beginning of the records. */
	{ "twice the same",
	  { TRIM(5, 3), TRIM(5, 3) },
	  { TRIM(5, 3), TRIM(5, 3), AT(1, 1, 8) },
	  2,
	  1,
	  0,
	  NULL,
	  0,
	  "" },
	{ "more of the same",
	  { TRIM(5, 3), TRIM(5, 3), TRIM(5, 3) },
	  { TRIM(5, 3), TRIM(5, 3), AT(1, 1, 8) },
	  2,
	  1,
	  0,
	  NULL,
	  0,
	  "" },
	/* Zeroes of the index that what is pending would undo. */
	{ "zeroes overlap", { TRIM(3, 3) }, { AT(5, 3, 8) }, 0, 1, 0, SINCE, 1, "" },
	{ "zeroes end before", { TRIM(2, 3) }, { AT(5, 3, 8) }, 0, 1, 0, NULL, 0, "" },
	{ "zeroes begin behind", { TRIM(8, 3) }, { AT(5, 3, 8) }, 0, 1, 0, NULL, 0, "" },
	{ "zeroes begin at the last", { TRIM(7, 3) }, { AT(5, 3, 8) }, 0, 1, 0, SINCE, 1, "" },
	{ "zeroes among many",
	  { TRIM(30, 1) },
	  { AT(40, 1, 8), AT(10, 25, 9), AT(20, 2, 34), AT(50, 3, 36) },
	  0,
	  4,
	  0,
	  SINCE,
	  4,
	  "" },
	{ "zeroes between many",
	  { TRIM(36, 4) },
	  { AT(40, 1, 8), AT(10, 25, 9), AT(20, 2, 34), AT(50, 3, 36) },
	  0,
	  4,
	  0,
	  NULL,
	  0,
	  "" },
	{ "the second zeroes", { TRIM(1, 1), TRIM(5, 1) }, { AT(5, 3, 8) }, 0, 1, 0, SINCE, 1, "" },
	/* Data of its own that are flushed stand behind them. */
	{ "zeroes before flushed data",
	  { TRIM(5, 3), AT(1, 1, 8) },
	  { AT(1, 1, 8), AT(5, 3, 9) },
	  1,
	  1,
	  0,
	  NULL,
	  0,
	  "" },
	{ "zeroes before flushed zeroes",
	  { TRIM(5, 3), TRIM(1, 1) },
	  { TRIM(1, 1), AT(5, 3, 9) },
	  1,
	  1,
	  0,
	  SINCE,
	  1,
	  "" },
	{ "zeroes that are its own",
	  { TRIM(5, 3) },
	  { TRIM(5, 3), AT(5, 3, 8) },
	  1,
	  1,
	  0,
	  NULL,
	  0,
	  "" },
	{ "only zeroes are left, data are flushed",
	  { AT(9, 2, 8), AT(1, 1, 10) },
	  { AT(1, 1, 10), TRIM(5, 3) },
	  1,
	  1,
	  0,
	  NULL,
	  0,
	  "" },
	/* Its data: sector 100 is of zeroes, 8000 lies behind the file's first part. */
	{ "zeroes were written", { { 0 } }, { AT(1, 1, 100) }, 0, 1, 0, GONE, 1, "" },
	{ "zeroes and more", { { 0 } }, { AT(1, 2, 100) }, 0, 1, 0, NULL, 0, "" },
	{ "more and zeroes", { { 0 } }, { AT(1, 2, 99) }, 0, 1, 0, NULL, 0, "" },
	{ "the second is of zeroes",
	  { { 0 } },
	  { AT(1, 1, 8), AT(1, 1, 100), AT(3, 1, 102) },
	  0,
	  3,
	  0,
	  GONE,
	  3,
	  "" },
	{ "its data are gone", { { 0 } }, { AT(1, 2, 8191) }, 0, 0, 1, GONE, 1, "" },
	{ "the second's are gone",
	  { { 0 } },
	  { AT(1, 1, 8191), AT(2, 1, 8192), TRIM(3, 1) },
	  0,
	  1,
	  2,
	  GONE,
	  3,
	  "" },
};

static void check_older(const struct older_case *c, bool apply)
{
	struct upper_replay out;
	struct err e;
	char want[512];
	size_t from = apply && c->why && strcmp(c->why, SINCE) == 0 ? 0 : c->from;
	int r = look(true, apply, c->damage, DATA, &out, &e);

	if (c->why && !apply) {
		snprintf(
			want, sizeof want,
			"u.pending: an older version, process %d, acknowledged %zu writes before "
			"it was killed, but %s: 'overlaybd repair --acknowledged=apply' makes them "
			"part of the layer, '--acknowledged=drop' gives them up",
			PID, c->asked, c->why);
		if (r != -EBUSY || strcmp(e.msg, want) != 0)
			fail_msg("%s: %d: %s", c->what, r, e.msg);
		assert_null(out.content.records);
		return;
	}
	if (r < 0)
		fail_msg("%s: %s", c->what, e.msg);
	if (out.from != from || out.count != c->count + (c->from - from) || out.lost != c->lost ||
	    out.stale != 0)
		fail_msg("%s, applied: %d: %zu from %zu, %zu lost", c->what, apply, out.count,
			 out.from, out.lost);
	upper_replay_release(&out);
}

static void an_older_form_is_judged_by_its_places(void **state)
{
	size_t i;

	fill_data();
	memset(data_bytes + 100 * SECTOR, 0, SECTOR);
	for (i = 0; i < COUNT_OF(older_cases); i++) {
		set_items(index_items, &entry_count, older_cases[i].index);
		set_items(records, &record_count, older_cases[i].records);
		check_older(&older_cases[i], false);
		check_older(&older_cases[i], true);
	}
}

/* One of the older form gets the CRC of the data that are there. */
static void data_of_the_older_form_are_summed(void **state)
{
	static const struct item two[] = { AT(1, 3, 8), AT(9, 2500, 20), { 0 } };
	struct upper_replay out;
	struct err e;
	size_t i;

	fill_data();
	entry_count = 0;
	set_items(records, &record_count, two);
	assert_int_equal(look(true, false, "", DATA, &out, &e), 0);
	assert_int_equal(out.count, 2);
	for (i = 0; i < 2; i++)
		assert_int_equal(out.content.records[i].crc,
				 crc32c_raw(SALT, data_bytes + two[i].moffset * SECTOR,
					    two[i].sectors * SECTOR));
	upper_replay_release(&out);
	/* The second piece of a long record is of zeroes, or all but that. */
	memset(data_bytes + 20 * SECTOR + PIECE, 0, 2500 * SECTOR - PIECE);
	assert_int_equal(look(true, false, "", DATA, &out, &e), 0);
	upper_replay_release(&out);
	fill_data();
	memset(data_bytes + 20 * SECTOR, 0, PIECE);
	assert_int_equal(look(true, false, "", DATA, &out, &e), 0);
	upper_replay_release(&out);
	memset(data_bytes + 20 * SECTOR, 0, 2500 * SECTOR);
	assert_int_equal(look(true, false, "", DATA, &out, &e), -EBUSY);
	data_bytes[20 * SECTOR + 1] = 1;
	assert_int_equal(look(true, false, "", DATA, &out, &e), 0);
	upper_replay_release(&out);
	data_bytes[20 * SECTOR + 1] = 0;
	data_bytes[20 * SECTOR] = 1;
	assert_int_equal(look(true, false, "", DATA, &out, &e), 0);
	upper_replay_release(&out);
	fill_data();
}

/* An index of many entries is looked at as a whole; sorting what is pending finds each overlap. */
static void many_are_judged_as_few_are(void **state)
{
	struct upper_replay out;
	struct err e;
	size_t i, hit;

	fill_data();
	record_count = 100;
	for (i = 0; i < record_count; i++)
		records[i] = (struct item)AT(1 + i * 37 % 100 * 10, 3, 2000 + 3 * i);
	for (hit = 0; hit < 1000; hit += 7) {
		entry_count = 600;
		for (i = 0; i < entry_count; i++)
			index_items[i] = (struct item)AT(5000 + i, 1, 8 + i);
		index_items[300] = (struct item)TRIM(1 + hit, 1);
		/* Each record is three sectors of ten. */
		assert_int_equal(look(true, false, "", DATA, &out, &e), hit % 10 < 3 ? -EBUSY : 0);
		upper_replay_release(&out);
	}
}

/* Files that seem to match everywhere are not compared for ever: 64 comparisons for each of their
 * entries and records, and no more. */
static void so_long_it_is_compared(void **state)
{
	enum { BEFORE = 255 };
	struct upper_replay out;
	char want[64];
	struct err e;
	size_t i, behind;

	for (behind = 1; behind <= 2; behind++) {
		entry_count = BEFORE + 1 + behind;
		record_count = entry_count;
		for (i = 0; i < entry_count; i++)
			index_items[i] = records[i] = (struct item)TRIM(1, 1);
		index_items[BEFORE] = (struct item)TRIM(2, 1);
		/* Comparisons: 256 + 255 + .. + 1, of 64 * 2 * (256 + behind). */
		assert_int_equal(look(true, false, "", DATA, &out, &e), -EBUSY);
		snprintf(want, sizeof want, "acknowledged %zu writes",
			 behind == 1 ? record_count : record_count - behind);
		if (!strstr(e.msg, want))
			fail_msg("%zu: %s", behind, e.msg);
	}
}

/* ---- warnings, memory ---- */

static void what_does_not_count_is_told(void **state)
{
	struct upper_replay r = { .content = { .pid = PID } };

	loglib_listen();
	upper_replay_warn(&r, "u.data");
	loglib_expect("");
	r.stale = 1;
	upper_replay_warn(&r, "u.data");
	loglib_expect("u.data: 1 writes that process 4711 acknowledged before it died are dropped: "
		      "the layer was written to since, or its file system went down\n");
	r.stale = 0;
	r.lost = 1;
	upper_replay_warn(&r, "u.data");
	loglib_expect("u.data: 1 writes that process 4711 acknowledged before it died are dropped: "
		      "their data are gone, as when the file system went down\n");
	loglib_expect_none();
}

/* Without memory nothing is judged: an error, or the user is asked. */
static void each_allocation_fails_once(void **state)
{
	struct upper_replay out;
	struct err e;
	unsigned older;
	long k;
	int r;

	fill_data();
	for (older = 0; older < 2; older++) {
		entry_count = 600;
		for (k = 0; k < 600; k++)
			index_items[k] = (struct item)AT(500 + (uint64_t)k, 1, 8 + (uint64_t)k);
		record_count = 3;
		for (k = 0; k < 3; k++)
			records[k] = (struct item)AT(1 + (uint64_t)k, 1, 700 + (uint64_t)k);
		base = (struct upper_pending_base){ 600, index_crc(600), 0 };
		next_base = (struct upper_pending_base){ 0 };
		for (k = 0, r = -1; r < 0; k++) {
			allocs_left = k;
			r = look(older, false, "", DATA, &out, &e);
			if (r < 0 && r != -ENOMEM && r != -EBUSY)
				fail_msg("allocation %ld: %d: %s", k, r, e.msg);
			if (r == -ENOMEM && !strstr(e.msg, "out of memory"))
				fail_msg("allocation %ld: %s", k, e.msg);
			if (r < 0)
				assert_null(out.content.records);
		}
		assert_true(k > 4);
		assert_int_equal(out.count, 3);
		upper_replay_release(&out);
	}
}

static int make_data(void **state)
{
	data_bytes = malloc(DATA);
	return data_bytes ? 0 : -1;
}

static int free_data(void **state)
{
	free(data_bytes);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_index_goes_on_as_the_records_do),
		cmocka_unit_test(a_base_is_no_longer_than_the_index),
		cmocka_unit_test(data_are_read_in_pieces),
		cmocka_unit_test(an_older_form_is_judged_by_its_places),
		cmocka_unit_test(data_of_the_older_form_are_summed),
		cmocka_unit_test(many_are_judged_as_few_are),
		cmocka_unit_test(so_long_it_is_compared),
		cmocka_unit_test(what_does_not_count_is_told),
		cmocka_unit_test(each_allocation_fails_once),
	};

	return cmocka_run_group_tests(tests, make_data, free_data);
}
