/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_records.c - the entries of an index file: what the marks look like, what counts of a
 * file that is spelt as a string, and in which pieces it is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/upper_records.h"
#include "tests/unit/allocs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SALT = 100007,
	DATA_END = 100, /* sectors of the data file */
	OPEN_AS = 77,
	MOST = 256, /* entries of a spelt file */
};

/* ---- marks ---- */

static void marks_are_as_the_format_says(void **state)
{
	static const struct {
		enum upper_mark mark;
		uint64_t kind;
	} marks[] = {
		{ UPPER_MARK_CHECK, 0x1c5a },
		{ UPPER_MARK_CONFIRM, 0x2a93 },
		{ UPPER_MARK_OPEN, 0x336c },
	};
	uint8_t raw[FORMAT_ENTRY], changed[FORMAT_ENTRY];
	uint32_t crc = 0;
	size_t i, bit;

	for (i = 0; i < COUNT_OF(marks); i++) {
		uint64_t range, target;

		upper_records_encode_mark(marks[i].mark, 0x89abcdef, raw);
		range = le64_get(raw);
		target = le64_get(raw + 8);
		assert_true((range & ((UINT64_C(1) << 50) - 1)) == (UINT64_C(1) << 50) - 1);
		assert_true(range >> 50 == marks[i].kind);
		assert_true((target & 0xffffffff) == 0x89abcdef);
		assert_true((target >> 32 & 0x7fff) == (crc32c_raw(SALT, raw, 12) & 0x7fff));
		assert_true(target >> 47 == 0xff);
		assert_int_equal(upper_records_parse_mark(raw, &crc), marks[i].mark);
		assert_true(crc == 0x89abcdef);
		/* One bit is enough to make it none. */
		for (bit = 0; bit < 8 * FORMAT_ENTRY; bit++) {
			memcpy(changed, raw, sizeof raw);
			changed[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(upper_records_parse_mark(changed, &crc), UPPER_MARK_NONE);
		}
	}
	upper_records_encode_mark(UPPER_MARK_NONE, 0x89abcdef, raw);
	assert_true(le64_get(raw) == ((UINT64_C(1) << 51) - 1));
	assert_true(le64_get(raw + 8) == (UINT64_C(1) << 55) - 1);
	assert_int_equal(upper_records_parse_mark(raw, &crc), UPPER_MARK_NONE);
}

static void the_boot_and_the_file_say_who_has_it_open(void **state)
{
	static const char boot[] = "01234567-89ab-4def-8123-456789abcdef";
	struct file_status status = { .device = UINT64_C(0x1122334455667788) };
	uint8_t raw[16];
	uint32_t crc;

	for (status.inode = 0; status.inode < 16; status.inode++) {
		le64_put(raw, status.device);
		le64_put(raw + 8, status.inode);
		crc = crc32c_raw(crc32c_raw(SALT, boot, 36), raw, 16);
		assert_int_equal(upper_records_open_as(boot, &status), crc | 1);
	}
}

static void headers_belong_together(void **state)
{
	static const char one[] = "0123ABCD-1dfb-4ec7-8e49-636d2508e22e",
			  lower[] = "0123abcd-1DFB-4EC7-8E49-636D2508E22E";
	struct format_header data = { .virtual_size = 512 }, index;
	struct err e = { "" };

	memcpy(data.uuid, one, sizeof one);
	memcpy(data.parent_uuid, one, sizeof one);
	index = data;
	memcpy(index.uuid, lower, sizeof lower);
	memcpy(index.parent_uuid, lower, sizeof lower);
	assert_int_equal(upper_records_check_pair(&data, &index, &e), 0);
	index.uuid[3] = '4';
	assert_int_equal(upper_records_check_pair(&data, &index, &e), -EBADMSG);
	assert_string_equal(e.msg, "data and index file have different uuids");
	index = data;
	index.parent_uuid[3] = '4';
	assert_int_equal(upper_records_check_pair(&data, &index, &e), -EBADMSG);
	assert_string_equal(e.msg, "data and index file have different parent uuids");
	index = data;
	index.virtual_size = 1024;
	assert_int_equal(upper_records_check_pair(&data, &index, &e), -EBADMSG);
	assert_string_equal(e.msg, "data and index file have different virtual sizes, 512 and "
				   "1024");
}

/* Zeroes point at the first sector of data, as the reference's do, and have no tag. */
static void records_are_entries(void **state)
{
	const struct mapping maps[] = { mapping_make(5, 3, 9, 1000, false),
					mapping_make(6, 4, 9, 1000, true) };
	uint8_t raw[2 * FORMAT_ENTRY];

	upper_records_encode(maps, 2, raw);
	assert_true(le64_get(raw) == (5 | UINT64_C(3) << 50));
	assert_true(le64_get(raw + 8) == 1000);
	assert_true(le64_get(raw + 16) == (6 | UINT64_C(4) << 50));
	assert_true(le64_get(raw + 24) == (8 | UINT64_C(1) << 55));
}

/* ---- what counts ---- */

/* A letter an entry; 's' repeats the one before it up to the end of a sector, of 32 entries.
 *
 *   r data in the next free sector   z zeroes   b a record of no length   h data in the header
 *   x data that go on where the last end, and end behind the file   u the same behind used ones
 *   y data behind the file's end by one sector   e data that begin at its end
 *   0 sixteen zero bytes   p padding   P padding of another program
 *   C F a CHECK, a CONFIRM   c f one that does not match   O it is open */
struct spelling {
	uint8_t raw[FORMAT_SPACE + MOST * FORMAT_ENTRY];
	size_t n; /* entries */
	uint64_t used; /* sectors of data that the records point at */
};

static void add(struct spelling *s, char letter)
{
	uint8_t *raw = s->raw + FORMAT_SPACE + s->n * FORMAT_ENTRY;
	uint32_t crc = crc32c_raw(SALT, s->raw + FORMAT_SPACE, s->n * FORMAT_ENTRY);
	struct format_entry entry = { .start = s->n + 1, .sectors = 1, .moffset = s->used };

	assert_true(s->n < MOST);
	s->n++;
	switch (letter) {
	case 'r':
		s->used++;
		break;
	case 'z':
		entry.zeroed = true;
		entry.moffset = 8;
		break;
	case 'b':
		entry.sectors = 0;
		break;
	case 'h':
		entry.moffset = 7;
		break;
	case 'x':
		entry.sectors = 200;
		break;
	case 'u':
		entry.moffset--;
		entry.sectors = 200;
		break;
	case 'y':
		entry.moffset = DATA_END + 1;
		break;
	case 'e':
		entry.moffset = DATA_END;
		break;
	case '0':
		memset(raw, 0, FORMAT_ENTRY);
		return;
	case 'p':
		upper_records_encode_mark(UPPER_MARK_NONE, 0, raw);
		return;
	case 'P':
		memset(raw, 0xff, FORMAT_ENTRY);
		return;
	case 'C':
	case 'c':
		upper_records_encode_mark(UPPER_MARK_CHECK, crc ^ (letter == 'c'), raw);
		return;
	case 'F':
	case 'f':
		upper_records_encode_mark(UPPER_MARK_CONFIRM, crc ^ (letter == 'f'), raw);
		return;
	case 'O':
		upper_records_encode_mark(UPPER_MARK_OPEN, OPEN_AS, raw);
		return;
	default:
		fail_msg("'%c'", letter);
	}
	format_encode_entry(&entry, raw);
}

static void spell(struct spelling *s, const char *text)
{
	memset(s, 0, sizeof *s);
	s->used = 8;
	for (; *text; text++) {
		if (*text == 's')
			while (s->n % 32 != 0)
				add(s, text[-1]);
		else
			add(s, *text);
	}
}

#define LENGTH "its length is 0"
#define CHANGED "it, or one up to the next checksum, was changed"
#define FOLLOWS "it follows one of zeroes"
#define ZEROES "it is of zeroes"
#define BEYOND "its data lies beyond the end of the data"
#define IN_HEADER "its data lies in the header"

static const struct {
	const char *text;
	unsigned good, records, padding, ignored;
	bool unchecked, open;
	int at; /* the record that is damaged; -1: none is */
	const char *damage;
} rows[] = {
	{ "", 0, 0, 0, 0, false, false, -1, "" },
	{ "p", 0, 0, 1, 0, false, false, -1, "" },
	{ "P", 0, 0, 1, 0, false, false, -1, "" },
	{ "r", 1, 1, 0, 0, true, false, -1, "" },
	{ "rz", 2, 2, 0, 0, true, false, -1, "" },
	{ "rp", 1, 1, 1, 0, true, false, -1, "" },
	{ "PrPrPP", 4, 2, 2, 0, true, false, -1, "" },
	{ "rC", 2, 1, 0, 0, false, false, -1, "" },
	{ "rzC", 3, 2, 0, 0, false, false, -1, "" },
	{ "rCF", 2, 1, 1, 0, false, false, -1, "" },
	{ "rCFO", 2, 1, 2, 0, false, true, -1, "" },
	{ "rCFOpp", 2, 1, 4, 0, false, true, -1, "" },
	{ "rCpOpp", 2, 1, 4, 0, false, true, -1, "" },
	{ "rCO", 2, 1, 1, 0, false, true, -1, "" },
	{ "rCOF", 2, 1, 2, 0, false, false, -1, "" },
	{ "rCOr", 4, 2, 0, 0, true, false, -1, "" },
	{ "rCO0", 2, 1, 0, 2, false, false, -1, "" },
	{ "rCFOrC", 6, 2, 0, 0, false, false, -1, "" },
	{ "rCFOr", 5, 2, 0, 0, true, false, -1, "" },
	{ "rCrrC", 5, 3, 0, 0, false, false, -1, "" },
	{ "rCrrCF", 5, 3, 1, 0, false, false, -1, "" },
	/* A CONFIRM behind records that no CHECK covers says that they are there. */
	{ "rF", 1, 1, 1, 0, false, false, -1, "" },
	{ "rpF", 1, 1, 2, 0, false, false, -1, "" },
	{ "rCrF", 3, 2, 1, 0, false, false, -1, "" },
	{ "rFr", 3, 2, 0, 0, true, false, -1, "" },
	/* One append that did not come whole. */
	{ "rc", 0, 0, 0, 2, false, false, -1, "" },
	{ "rCrc", 2, 1, 0, 2, false, false, -1, "" },
	{ "rCc", 2, 1, 0, 1, false, false, -1, "" },
	{ "rCrcpp", 2, 1, 0, 4, false, false, -1, "" },
	{ "rCrcO", 2, 1, 0, 3, false, true, -1, "" },
	{ "rCbc", 2, 1, 0, 2, false, false, -1, "" },
	{ "rCrcb", 2, 1, 0, 3, false, false, -1, "" },
	{ "rCrc0", 2, 1, 0, 3, false, false, -1, "" },
	{ "rCrb", 3, 2, 0, 1, true, false, -1, "" },
	{ "rCrbb", 3, 2, 0, 2, true, false, -1, "" },
	{ "rCrbp", 3, 2, 0, 2, true, false, -1, "" },
	/* But something stands behind it. */
	{ "rcr", 0, 0, 0, 3, false, false, 0, CHANGED },
	{ "rCrcr", 2, 1, 0, 3, false, false, 2, CHANGED },
	{ "rCrcz", 2, 1, 0, 3, false, false, 2, CHANGED },
	{ "rCrcC", 2, 1, 0, 3, false, false, 2, CHANGED },
	{ "rCrcF", 2, 1, 0, 3, false, false, 2, CHANGED },
	{ "rCrcc", 2, 1, 0, 3, false, false, 2, CHANGED },
	{ "rCf", 2, 1, 0, 1, false, false, 2, CHANGED },
	{ "rCrf", 2, 1, 0, 2, false, false, 2, CHANGED },
	{ "rCrCrcr", 4, 2, 0, 3, false, false, 4, CHANGED },
	{ "rCrCFrcr", 4, 2, 0, 4, false, false, 5, CHANGED },
	{ "rCbcr", 2, 1, 0, 3, false, false, 2, LENGTH },
	{ "rCrbcr", 2, 1, 0, 4, false, false, 3, LENGTH },
	{ "rCbf", 2, 1, 0, 2, false, false, 2, LENGTH },
	{ "rCbhf", 2, 1, 0, 3, false, false, 2, LENGTH },
	/* A bad record is damage when what follows was written. */
	{ "bC", 0, 0, 0, 2, false, false, 0, LENGTH },
	{ "bF", 0, 0, 0, 2, false, false, 0, LENGTH },
	{ "rCbC", 2, 1, 0, 2, false, false, 2, LENGTH },
	{ "rCbCrC", 2, 1, 0, 4, false, false, 2, LENGTH },
	{ "rbC", 1, 1, 0, 2, true, false, 1, LENGTH },
	{ "bhC", 0, 0, 0, 3, false, false, 0, LENGTH },
	{ "hbC", 0, 0, 0, 3, false, false, 0, IN_HEADER },
	{ "br", 0, 0, 0, 2, false, false, 0, LENGTH },
	{ "bz", 0, 0, 0, 2, false, false, 0, LENGTH },
	{ "rbr", 1, 1, 0, 2, true, false, 1, LENGTH },
	{ "rhbz", 1, 1, 0, 3, true, false, 1, IN_HEADER },
	/* Zeroes up to the end of a sector are what a crash leaves. */
	{ "0", 0, 0, 0, 1, false, false, -1, "" },
	{ "r00", 1, 1, 0, 2, true, false, -1, "" },
	{ "0s", 0, 0, 0, 32, false, false, -1, "" },
	{ "0sr", 0, 0, 0, 33, false, false, -1, "" },
	{ "0sp", 0, 0, 0, 33, false, false, -1, "" },
	{ "rrrrr0sr", 5, 5, 0, 28, true, false, -1, "" },
	{ "0s0sr", 0, 0, 0, 65, false, false, -1, "" },
	{ "rs0sr", 32, 32, 0, 33, true, false, -1, "" },
	{ "rCr0sr", 3, 2, 0, 30, true, false, -1, "" },
	{ "0r", 0, 0, 0, 2, false, false, 1, FOLLOWS },
	{ "0p", 0, 0, 0, 2, false, false, 1, FOLLOWS },
	{ "0b", 0, 0, 0, 2, false, false, 1, FOLLOWS },
	{ "r00r", 1, 1, 0, 3, true, false, 3, FOLLOWS },
	{ "0s0r", 0, 0, 0, 34, false, false, 33, FOLLOWS },
	{ "0rr", 0, 0, 0, 3, false, false, 1, FOLLOWS },
	{ "0sC", 0, 0, 0, 33, false, false, 0, ZEROES },
	{ "rCr0sC", 3, 2, 0, 30, true, false, 3, ZEROES },
	{ "b0sr", 0, 0, 0, 33, false, false, 0, LENGTH },
	{ "0sbr", 0, 0, 0, 34, false, false, -1, "" },
	{ "0scr", 0, 0, 0, 34, false, false, 0, ZEROES },
	/* The reference writes data and record at once: a crash cuts off the data of the last. */
	{ "x", 0, 0, 0, 1, false, false, -1, "" },
	{ "rxz", 1, 1, 0, 2, true, false, -1, "" },
	{ "rxzz", 1, 1, 0, 3, true, false, -1, "" },
	{ "rxyz", 1, 1, 0, 3, true, false, -1, "" },
	{ "rxr", 1, 1, 0, 2, true, false, 1, BEYOND },
	{ "rxzr", 1, 1, 0, 3, true, false, 1, BEYOND },
	{ "ruz", 1, 1, 0, 2, true, false, 1, BEYOND },
	{ "rez", 1, 1, 0, 2, true, false, -1, "" },
	{ "ryz", 1, 1, 0, 2, true, false, 1, BEYOND },
	{ "rbxz", 1, 1, 0, 3, true, false, 1, LENGTH },
	{ "zxz", 1, 1, 0, 2, true, false, -1, "" },
	{ "uz", 0, 0, 0, 2, false, false, 0, IN_HEADER },
};

static void what_counts(void **state)
{
	static struct spelling s;
	struct upper_records found;
	struct source *index;
	char want[128];
	size_t i, extra;
	struct err e;

	for (i = 0; i < COUNT_OF(rows); i++) {
		spell(&s, rows[i].text);
		extra = i % FORMAT_ENTRY; /* bytes of a fragment */
		assert_int_equal(source_open_memory(s.raw,
						    FORMAT_SPACE + s.n * FORMAT_ENTRY + extra,
						    &index, &e),
				 0);
		memset(&found, 0xa5, sizeof found);
		assert_int_equal(upper_records_scan(index, DATA_END * SECTOR, &found, &e), 0);
		want[0] = '\0';
		if (rows[i].at >= 0)
			snprintf(want, sizeof want, "LSMT index record %d: %s", rows[i].at,
				 rows[i].damage);
		if (found.good != rows[i].good || found.records != rows[i].records ||
		    found.padding != rows[i].padding || found.ignored != rows[i].ignored ||
		    found.unchecked != rows[i].unchecked ||
		    found.open_as != (rows[i].open ? OPEN_AS : 0) ||
		    strcmp(found.damage.msg, want) != 0)
			fail_msg("%s: %d good, %d records, %d padding, %d ignored%s, open as %d: "
				 "'%s'",
				 rows[i].text, (int)found.good, (int)found.records,
				 (int)found.padding, (int)found.ignored,
				 found.unchecked ? ", unchecked" : "", (int)found.open_as,
				 found.damage.msg);
		assert_int_equal(found.fragment, extra);
		assert_int_equal(found.crc, crc32c_raw(SALT, s.raw + FORMAT_SPACE,
						       (size_t)found.good * FORMAT_ENTRY));
		source_close(index);
	}
}

/* Sectors of the data file count, whole ones, and no more than a mapping can point at. */
static void data_end_where_the_file_ends(void **state)
{
	static const struct {
		uint64_t moffset, sectors, data_size;
		unsigned good;
	} cases[] = {
		{ 8, 2, 10 * SECTOR, 1 },
		{ 8, 2, 10 * SECTOR - 1, 0 },
		{ 8, 2, 10 * SECTOR + 1, 1 },
		{ INDEX_MAX_MOFFSET - 2, 2, UINT64_MAX, 1 },
		{ INDEX_MAX_MOFFSET - 1, 2, UINT64_MAX, 0 },
	};
	uint8_t raw[FORMAT_SPACE + FORMAT_ENTRY] = { 0 };
	struct upper_records found;
	struct source *index;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct format_entry entry = { .start = 1,
					      .sectors = (uint32_t)cases[i].sectors,
					      .moffset = cases[i].moffset };

		format_encode_entry(&entry, raw + FORMAT_SPACE);
		assert_int_equal(source_open_memory(raw, sizeof raw, &index, NULL), 0);
		assert_int_equal(upper_records_scan(index, cases[i].data_size, &found, NULL), 0);
		assert_int_equal(found.good, cases[i].good);
		source_close(index);
	}
}

/* ---- pieces ---- */

/* A file of zeroed records, entry n of sector n, as far as its size says. */
static struct {
	unsigned reads;
	uint64_t offs[8], sizes[8];
	unsigned fail_at; /* this read fails */
} noted;

static int noted_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	uint64_t first = (off - FORMAT_SPACE) / FORMAT_ENTRY, i;

	if (noted.reads == noted.fail_at)
		return err_set(e, EIO, "no read");
	assert_true(noted.reads < COUNT_OF(noted.offs));
	noted.offs[noted.reads] = off;
	noted.sizes[noted.reads++] = n;
	for (i = 0; i < n / FORMAT_ENTRY; i++) {
		struct format_entry entry = { .start = first + i, .sectors = 1, .zeroed = true };

		format_encode_entry(&entry, (uint8_t *)buf + i * FORMAT_ENTRY);
	}
	return 0;
}

static const struct source_ops noted_ops = { .name = "noted", .pread = noted_pread };

struct taken {
	uint64_t next, count;
	uint64_t fail_at;
	int code;
};

static int take(void *arg, const struct format_entry *entry)
{
	struct taken *t = arg;

	assert_int_equal(entry->start, t->next++);
	return ++t->count == t->fail_at ? t->code : 0;
}

static void entries_are_read_in_pieces(void **state)
{
	static const struct {
		uint64_t from, to;
		unsigned reads;
		uint64_t last; /* entries of the last read */
	} cases[] = {
		{ 0, 0, 0, 0 },	      { 5, 5, 0, 0 },	 { 0, 1, 1, 1 },       { 3, 10, 1, 7 },
		{ 0, 4096, 1, 4096 }, { 0, 4097, 2, 1 }, { 1, 4097, 1, 4096 }, { 7, 8200, 3, 1 },
	};
	struct source s = { .ops = &noted_ops, .size = UINT64_C(1) << 40 };
	struct err e = { "" };
	size_t i;

	noted.fail_at = UINT32_MAX;
	for (i = 0; i < COUNT_OF(cases); i++) {
		struct taken t = { .next = cases[i].from };

		noted.reads = 0;
		assert_int_equal(upper_records_each(&s, cases[i].from, cases[i].to, take, &t, &e),
				 0);
		assert_int_equal(t.count, cases[i].to - cases[i].from);
		assert_int_equal(noted.reads, cases[i].reads);
		if (noted.reads == 0)
			continue;
		assert_int_equal(noted.offs[0], FORMAT_SPACE + cases[i].from * FORMAT_ENTRY);
		assert_int_equal(noted.sizes[noted.reads - 1], cases[i].last * FORMAT_ENTRY);
	}
}

static void errors_end_the_reading(void **state)
{
	struct source s = { .ops = &noted_ops, .size = UINT64_C(1) << 40 };
	struct taken t = { .fail_at = 5, .code = -ENOMEM };
	struct err e = { "" };
	uint32_t crc;

	noted.fail_at = UINT32_MAX;
	noted.reads = 0;
	assert_int_equal(upper_records_each(&s, 0, 9000, take, &t, &e), -ENOMEM);
	assert_string_equal(e.msg, "out of memory");
	assert_int_equal(t.count, 5);
	assert_int_equal(noted.reads, 1);
	t = (struct taken){ .fail_at = 4096, .code = -EINTR };
	noted.reads = 0;
	assert_int_equal(upper_records_each(&s, 0, 9000, take, &t, &e), -EINTR);
	assert_string_equal(e.msg, strerror(EINTR));
	assert_int_equal(t.count, 4096);
	assert_int_equal(noted.reads, 1);
	noted.reads = 0;
	noted.fail_at = 1;
	t = (struct taken){ .code = 0 };
	assert_int_equal(upper_records_each(&s, 0, 9000, take, &t, &e), -EIO);
	assert_string_equal(e.msg, "no read");
	assert_int_equal(t.count, 4096);
	noted.reads = 0;
	assert_int_equal(upper_records_crc(&s, 9000, &crc, &e), -EIO);
}

static void a_sum_goes_over_all_pieces(void **state)
{
	enum { N = 4100 };
	static uint8_t raw[N * FORMAT_ENTRY];
	struct source s = { .ops = &noted_ops, .size = UINT64_C(1) << 40 };
	uint32_t crc = 1, again;
	size_t i;

	noted.fail_at = UINT32_MAX;
	noted.reads = 0;
	assert_int_equal(noted_pread(&s, raw, sizeof raw, FORMAT_SPACE, NULL), 0);
	for (i = 0; i <= N; i += N / 4) {
		noted.reads = 0;
		assert_int_equal(upper_records_crc(&s, i, &crc, NULL), 0);
		assert_int_equal(crc, crc32c_raw(SALT, raw, i * FORMAT_ENTRY));
		again = upper_records_sum(SALT, raw, i);
		assert_int_equal(again, crc);
	}
}

static void without_memory_nothing_is_read(void **state)
{
	struct source s = { .ops = &noted_ops, .size = FORMAT_SPACE + FORMAT_ENTRY };
	struct upper_records found;
	struct taken t = { 0 };
	struct err e[3] = { { "" } };
	uint32_t crc;
	size_t i;

	noted.reads = 0;
	noted.fail_at = UINT32_MAX;
	allocs_left = 0;
	assert_int_equal(upper_records_crc(&s, 1, &crc, &e[0]), -ENOMEM);
	assert_int_equal(upper_records_each(&s, 0, 1, take, &t, &e[1]), -ENOMEM);
	assert_int_equal(upper_records_scan(&s, 0, &found, &e[2]), -ENOMEM);
	allocs_left = -1;
	for (i = 0; i < COUNT_OF(e); i++)
		assert_string_equal(e[i].msg, "out of memory");
	assert_int_equal(noted.reads, 0);
}

/* More entries than a log may have are not even read; so many are. */
static void too_many_are_refused(void **state)
{
	const uint64_t most = UINT64_C(1) << 26;
	struct source s = { .ops = &noted_ops, .size = FORMAT_SPACE + (most + 1) * FORMAT_ENTRY };
	struct upper_records found;
	struct err e = { "" };

	noted.reads = 0;
	noted.fail_at = 0;
	assert_int_equal(upper_records_scan(&s, 0, &found, &e), -EBADMSG);
	assert_string_equal(e.msg, "67108865 index records, more than 67108864");
	s.size--;
	assert_int_equal(upper_records_scan(&s, 0, &found, &e), -EIO);
	assert_string_equal(e.msg, "no read");
}

/* What counts is handed on, and nothing when it is damaged. */
static void damage_is_refused_before_a_record_is_taken(void **state)
{
	static struct spelling s;
	struct upper_records found;
	struct taken t = { .next = 1 };
	struct source *index;
	struct err e = { "" };

	spell(&s, "rzCb");
	assert_int_equal(source_open_memory(s.raw, FORMAT_SPACE + s.n * FORMAT_ENTRY, &index, &e),
			 0);
	assert_int_equal(upper_records_read(index, DATA_END * SECTOR, take, &t, &found, &e), 0);
	assert_int_equal(t.count, 2);
	assert_int_equal(found.good, 3);
	source_close(index);
	t = (struct taken){ .next = 1 };
	spell(&s, "rzCbC");
	assert_int_equal(source_open_memory(s.raw, FORMAT_SPACE + s.n * FORMAT_ENTRY, &index, &e),
			 0);
	assert_int_equal(upper_records_read(index, DATA_END * SECTOR, take, &t, &found, &e),
			 -EBADMSG);
	assert_int_equal(t.count, 0);
	assert_string_equal(e.msg, "LSMT index record 3: " LENGTH
				   ": the index is damaged: 'overlaybd repair' cuts it there");
	source_close(index);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(marks_are_as_the_format_says),
		cmocka_unit_test(the_boot_and_the_file_say_who_has_it_open),
		cmocka_unit_test(headers_belong_together),
		cmocka_unit_test(records_are_entries),
		cmocka_unit_test(what_counts),
		cmocka_unit_test(data_end_where_the_file_ends),
		cmocka_unit_test(entries_are_read_in_pieces),
		cmocka_unit_test(errors_end_the_reading),
		cmocka_unit_test(a_sum_goes_over_all_pieces),
		cmocka_unit_test(without_memory_nothing_is_read),
		cmocka_unit_test(too_many_are_refused),
		cmocka_unit_test(damage_is_refused_before_a_record_is_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
