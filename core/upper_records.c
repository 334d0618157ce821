/* SPDX-License-Identifier: Apache-2.0 */
/* upper_records.c - the records of an append log, see upper_records.h. */
#include "core/upper_records.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	PIECE_ENTRIES = 4096, /* entries read at once */
	SECTOR_ENTRIES = SECTOR / FORMAT_ENTRY,
};

int upper_records_check_pair(const struct format_header *data, const struct format_header *index,
			     struct err *e)
{
	if (strcasecmp(data->uuid, index->uuid) != 0)
		return err_set(e, EBADMSG, "data and index file have different uuids");
	if (strcasecmp(data->parent_uuid, index->parent_uuid) != 0)
		return err_set(e, EBADMSG, "data and index file have different parent uuids");
	if (data->virtual_size != index->virtual_size)
		return err_set(e, EBADMSG,
			       "data and index file have different virtual sizes, %" PRIu64
			       " and %" PRIu64,
			       data->virtual_size, index->virtual_size);
	return 0;
}

/* ---- padding entries ---- */

enum {
	KIND_SHIFT = 50,
	SELF_SHIFT = 32,
	SELF_MASK = (1 << 15) - 1,
	/* No two differ in one byte only; none is the length that other programs' padding has. */
	KIND_CHECK = 0x1c5a,
	KIND_CONFIRM = 0x2a93,
	KIND_OPEN = 0x336c,
	SELF_BYTES = 12, /* the part of an entry that the self-check covers */
};

#define ABSENT_DATA (UINT64_C(0xff) << 47) /* moffset bits: past the end of any data file */

static const uint16_t kinds[] = {
	[UPPER_MARK_CHECK] = KIND_CHECK,
	[UPPER_MARK_CONFIRM] = KIND_CONFIRM,
	[UPPER_MARK_OPEN] = KIND_OPEN,
};

void upper_records_encode_mark(enum upper_mark mark, uint32_t crc, uint8_t raw[FORMAT_ENTRY])
{
	uint64_t kind = mark == UPPER_MARK_NONE ? 1 : kinds[mark];
	uint32_t self;

	le64_put(raw, FORMAT_PADDING | kind << KIND_SHIFT);
	le64_put(raw + 8, ABSENT_DATA | ((UINT64_C(1) << 47) - 1));
	if (mark == UPPER_MARK_NONE)
		return;
	le64_put(raw + 8, crc);
	self = crc32c_raw(UPPER_RECORDS_SALT, raw, SELF_BYTES) & SELF_MASK;
	le64_put(raw + 8, ABSENT_DATA | (uint64_t)self << SELF_SHIFT | crc);
}

enum upper_mark upper_records_parse_mark(const uint8_t raw[FORMAT_ENTRY], uint32_t *crc)
{
	uint64_t kind = le64_get(raw) >> KIND_SHIFT;
	uint8_t expected[FORMAT_ENTRY];
	unsigned mark;

	*crc = le32_get(raw + 8);
	for (mark = UPPER_MARK_CHECK; mark <= UPPER_MARK_OPEN; mark++) {
		if (kind != kinds[mark])
			continue;
		upper_records_encode_mark(mark, *crc, expected);
		if (memcmp(raw, expected, sizeof expected) == 0)
			return mark;
	}
	return UPPER_MARK_NONE;
}

uint32_t upper_records_open_as(const char *boot_id, const struct file_status *data)
{
	uint8_t raw[16];
	uint32_t crc = crc32c_raw(UPPER_RECORDS_SALT, boot_id, strlen(boot_id));

	le64_put(raw, data->device);
	le64_put(raw + 8, data->inode);
	return crc32c_raw(crc, raw, sizeof raw) | 1;
}

uint32_t upper_records_sum(uint32_t crc, const uint8_t *raw, size_t n)
{
	return crc32c_raw(crc, raw, n * FORMAT_ENTRY);
}

/* ---- reading in pieces ---- */

/* Calls `each` for every piece of entries [from, to); `first` is the number of its first one. */
static int read_pieces(struct source *index, uint64_t from, uint64_t to,
		       int (*each)(void *arg, const uint8_t *raw, uint64_t first, size_t n,
				   struct err *e),
		       void *arg, struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc(PIECE_ENTRIES * FORMAT_ENTRY);
	int r = 0;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	while (r == 0 && from < to) {
		size_t n = (size_t)min_u64(PIECE_ENTRIES, to - from);

		r = source_pread(index, raw, n * FORMAT_ENTRY, FORMAT_SPACE + from * FORMAT_ENTRY,
				 e);
		if (r == 0)
			r = each(arg, raw, from, n, e);
		from += n;
	}
	return r;
}

static int sum_piece(void *arg, const uint8_t *raw, uint64_t first, size_t n, struct err *e)
{
	uint32_t *crc = arg;

	*crc = upper_records_sum(*crc, raw, n);
	return 0;
}

int upper_records_crc(struct source *index, uint64_t n, uint32_t *crc, struct err *e)
{
	*crc = UPPER_RECORDS_SALT;
	return read_pieces(index, 0, n, sum_piece, crc, e);
}

struct taker {
	int (*take)(void *arg, const struct format_entry *entry);
	void *arg;
};

static int take_piece(void *arg, const uint8_t *raw, uint64_t first, size_t n, struct err *e)
{
	const struct taker *t = arg;
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < n; i++) {
		struct format_entry entry = format_parse_entry(raw + i * FORMAT_ENTRY);

		if (entry.start != FORMAT_PADDING)
			r = t->take(t->arg, &entry);
	}
	return r < 0 ? err_set(e, -r, "%s", r == -ENOMEM ? "out of memory" : strerror(-r)) : 0;
}

int upper_records_each(struct source *index, uint64_t from, uint64_t to,
		       int (*take)(void *arg, const struct format_entry *entry), void *arg,
		       struct err *e)
{
	struct taker t = { take, arg };

	return read_pieces(index, from, to, take_piece, &t, e);
}

/* ---- what counts ---- */

/* The tail: what stands behind the last CHECK or CONFIRM that matched. */
struct tail {
	uint64_t begin;
	uint64_t records; /* that count so far */
	uint64_t end; /* behind the last record that counts */
	uint32_t end_crc; /* running, up to there */
	uint64_t bad; /* the first record that does not count; UINT64_MAX: none */
	bool zeroes; /* it is of zeroes */
	const char *fault; /* the rule that it breaks */
	bool cut_short; /* it points at data that were not yet durable, see is_cut_short */
	unsigned good_behind; /* records that would count, behind it; of one that is cut short not
			       * those of zeroes */
	uint64_t check; /* the first CHECK that does not match; UINT64_MAX: none */
	unsigned behind_check; /* records and marks behind that */
	bool confirmed; /* a CONFIRM that does not match was there */
};

struct scan {
	struct upper_records *found;
	uint64_t data_end; /* sectors of the data file */
	uint64_t data_used; /* up to where records that count point, so far */
	uint32_t crc; /* running, of all entries */
	uint64_t last; /* behind the last record, good or bad */
	uint64_t zeroes_end; /* all before this entry must be zero, once one was */
	struct tail tail;
};

static void begin_tail(struct scan *s, uint64_t at)
{
	s->tail = (struct tail){ .begin = at,
				 .end = s->found->good,
				 .end_crc = s->found->crc,
				 .bad = UINT64_MAX,
				 .check = UINT64_MAX };
}

static bool is_zero(const uint8_t record[FORMAT_ENTRY])
{
	static const uint8_t zero[FORMAT_ENTRY];

	return memcmp(record, zero, FORMAT_ENTRY) == 0;
}

static void note_damage(struct scan *s, uint64_t at, const char *fault)
{
	if (s->found->damage.msg[0] == '\0')
		(void)err_set(&s->found->damage, EBADMSG, "LSMT index record %" PRIu64 ": %s", at,
			      fault);
}

static void note_bad(struct scan *s, uint64_t at, const char *fault)
{
	if (s->tail.bad != UINT64_MAX)
		return;
	s->tail.bad = at;
	s->tail.fault = fault;
}

/* All before a mark that matches was written so. */
static void take_matching(struct scan *s, enum upper_mark mark, uint64_t at)
{
	if (s->tail.bad != UINT64_MAX)
		note_damage(s, s->tail.bad, s->tail.fault);
	if (s->found->damage.msg[0])
		return;
	s->found->records += s->tail.records;
	if (mark == UPPER_MARK_CHECK) {
		s->found->good = at + 1;
		s->found->crc = s->crc;
	} else {
		s->found->good = s->tail.end;
		s->found->crc = s->tail.end_crc;
	}
	begin_tail(s, at + 1);
}

static void take_mark(struct scan *s, enum upper_mark mark, uint32_t stored, uint32_t before,
		      uint64_t at)
{
	if (s->tail.check != UINT64_MAX)
		s->tail.behind_check++;
	if (stored == before && s->tail.check == UINT64_MAX) {
		take_matching(s, mark, at);
		return;
	}
	if (s->tail.check == UINT64_MAX)
		s->tail.check = at;
	s->tail.confirmed |= mark == UPPER_MARK_CONFIRM;
}

/* Whether a record goes on where the data of those before it end, and the data file ends within its
 * data.  Other programs append both at once, in one order, and sync only when they are asked to:
 * what of the data file the power took is its end, and of the records those that point there.
 * Records of zeroes point at no data, so behind such a one they are no sign of damage. */
static bool is_cut_short(const struct scan *s, const struct format_entry *entry)
{
	return !entry->zeroed && !format_entry_fault(entry, 0, INDEX_MAX_MOFFSET) &&
	       entry->moffset >= s->data_used && entry->moffset <= s->data_end;
}

/* An entry that is no padding. */
static void take_record(struct scan *s, const uint8_t *raw, uint64_t at)
{
	struct format_entry entry = format_parse_entry(raw);
	struct tail *t = &s->tail;
	const char *fault;

	if (at < s->zeroes_end && !is_zero(raw)) {
		note_damage(s, at, "it follows one of zeroes");
		return;
	}
	if (is_zero(raw)) {
		t->zeroes |= t->bad == UINT64_MAX;
		note_bad(s, at, "it is of zeroes");
		/* The header takes whole sectors, so records fill sectors from the first one on. */
		s->zeroes_end = (at / SECTOR_ENTRIES + 1) * SECTOR_ENTRIES;
		return;
	}
	fault = format_entry_fault(&entry, 0, s->data_end);
	if (t->check != UINT64_MAX)
		t->behind_check += !fault;
	if (fault) {
		t->cut_short |= t->bad == UINT64_MAX && is_cut_short(s, &entry);
		note_bad(s, at, fault);
	} else if (t->bad != UINT64_MAX) {
		t->good_behind += !t->cut_short || !entry.zeroed;
	} else {
		if (!entry.zeroed)
			s->data_used = max_u64(s->data_used, entry.moffset + entry.sectors);
		t->records++;
		t->end = at + 1;
		t->end_crc = s->crc;
	}
}

static int scan_piece(void *arg, const uint8_t *raw, uint64_t first, size_t n, struct err *e)
{
	struct scan *s = arg;
	size_t i;

	for (i = 0; i < n; i++, raw += FORMAT_ENTRY) {
		uint32_t before = s->crc, stored;
		uint64_t at = first + i;
		bool padding = (le64_get(raw) & (FORMAT_LBA_LIMIT - 1)) == FORMAT_PADDING;
		enum upper_mark mark = UPPER_MARK_NONE;

		if (padding)
			mark = upper_records_parse_mark(raw, &stored);
		s->crc = upper_records_sum(before, raw, 1);
		if (mark == UPPER_MARK_OPEN)
			s->found->open_as = stored;
		else if (mark != UPPER_MARK_NONE || !padding)
			s->found->open_as = 0;
		if (mark == UPPER_MARK_CHECK || mark == UPPER_MARK_CONFIRM)
			take_mark(s, mark, stored, before, at);
		else if (!padding)
			take_record(s, raw, at);
		else if (at < s->zeroes_end)
			note_damage(s, at, "it follows one of zeroes");
		if (!padding)
			s->last = at + 1;
	}
	return 0;
}

/* What the tail is: records that count, what a crash left, or damage. */
static void judge_tail(struct scan *s, uint64_t total)
{
	const struct tail *t = &s->tail;
	struct upper_records *found = s->found;

	if (t->check != UINT64_MAX) {
		/* One append that did not reach the disk whole, if nothing was written later. */
		if ((t->confirmed || t->behind_check > 0) && t->bad != UINT64_MAX)
			note_damage(s, t->bad, t->fault);
		else if (t->confirmed || t->behind_check > 0)
			note_damage(s, t->begin, "it, or one up to the next checksum, was changed");
	} else {
		if (t->bad != UINT64_MAX && !t->zeroes && t->good_behind > 0)
			note_damage(s, t->bad, t->fault);
		found->unchecked = t->records > 0;
		found->records += t->records;
		found->good = t->end;
		found->crc = t->end_crc;
	}
	if (t->check != UINT64_MAX || s->last > found->good)
		found->ignored = total - found->good;
	else
		found->padding = total - found->good;
}

int upper_records_scan(struct source *index, uint64_t data_size, struct upper_records *found,
		       struct err *e)
{
	struct scan s = { .found = found,
			  .data_end = min_u64(data_size / SECTOR, INDEX_MAX_MOFFSET),
			  .data_used = FORMAT_SPACE / SECTOR };
	uint64_t total = (index->size - FORMAT_SPACE) / FORMAT_ENTRY;
	int r;

	*found = (struct upper_records){ .fragment = index->size % FORMAT_ENTRY,
					 .crc = UPPER_RECORDS_SALT };
	if (total > FORMAT_MAX_ENTRIES)
		return err_set(e, EBADMSG, "%" PRIu64 " index records, more than %" PRIu64, total,
			       FORMAT_MAX_ENTRIES);
	s.crc = found->crc;
	begin_tail(&s, 0);
	r = read_pieces(index, 0, total, scan_piece, &s, e);
	if (r == 0)
		judge_tail(&s, total);
	return r;
}

int upper_records_read(struct source *index, uint64_t data_size,
		       int (*take)(void *arg, const struct format_entry *entry), void *arg,
		       struct upper_records *found, struct err *e)
{
	int r = upper_records_scan(index, data_size, found, e);

	if (r == 0 && found->damage.msg[0])
		return err_set(e, EBADMSG,
			       "%s: the index is damaged: 'overlaybd repair' cuts it there",
			       found->damage.msg);
	return r < 0 ? r : upper_records_each(index, 0, found->good, take, arg, e);
}

/* ---- writing ---- */

/* The moffset of zeroes carries no meaning; the reference's logs have 8 there, and no tag. */
void upper_records_encode(const struct mapping *records, size_t n, uint8_t *raw)
{
	size_t i;

	for (i = 0; i < n; i++) {
		struct format_entry entry = {
			.start = mapping_start(records[i]),
			.sectors = (uint32_t)mapping_sectors(records[i]),
			.moffset = FORMAT_SPACE / SECTOR,
			.zeroed = mapping_zeroed(records[i]),
		};

		if (!entry.zeroed)
			entry.moffset = mapping_moffset(records[i]);
		format_encode_entry(&entry, raw + i * FORMAT_ENTRY);
	}
}
