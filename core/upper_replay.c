/* SPDX-License-Identifier: Apache-2.0 */
/* upper_replay.c - see upper_replay.h. */
#include "core/upper_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_intent.h"

enum {
	PIECE = 1 << 20, /* bytes of data read at once */
	TRIES_EACH = 64, /* comparisons a record */
};

/* The index file against the pending records, in their order. */
struct match {
	const struct upper_pending_content *content;
	size_t next; /* of content->records */
	bool failed;
};

/* Whether `record` goes on where a record of the index is matched up to `done` sectors. */
static bool goes_on(const struct format_entry *entry, uint64_t done, struct mapping record)
{
	return mapping_start(record) == entry->start + done &&
	       mapping_zeroed(record) == entry->zeroed &&
	       mapping_sectors(record) <= entry->sectors - done &&
	       (entry->zeroed || mapping_moffset(record) == entry->moffset + done);
}

static int match_entry(void *arg, const struct format_entry *entry)
{
	const struct upper_pending_content *c;
	struct match *m = arg;
	uint64_t done = 0;

	c = m->content;
	while (!m->failed && done < entry->sectors) {
		m->failed = m->next == c->count || !goes_on(entry, done, c->records[m->next].map);
		if (!m->failed)
			done += mapping_sectors(c->records[m->next++].map);
	}
	return 0;
}

/* 1: the index is this base and then the pending records that it skips no more; *from is the first
 * that is not in it.  0: it is not. */
static int try_base(const struct upper_pending_content *content,
		    const struct upper_pending_base *base, struct source *index,
		    const struct upper_records *found, size_t *from, struct err *e)
{
	struct match m = { .content = content, .next = (size_t)base->skip };
	uint32_t crc;
	int r;

	if (base->entries > found->good || base->skip > content->count)
		return 0;
	r = upper_records_crc(index, base->entries, &crc, e);
	if (r < 0 || crc != base->crc)
		return r;
	r = upper_records_each(index, base->entries, found->good, match_entry, &m, e);
	if (r < 0)
		return r;
	*from = m.next;
	/* Behind all of them nothing can be undone. */
	return !m.failed || m.next == content->count;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
	return n == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/* The CRC of a record's data, and whether they are zeroes.  1: they are there, 0: they are not. */
static int sum_data(struct source *data, const struct upper_pending_record *record, uint32_t *crc,
		    bool *zeroes, uint8_t *buffer, struct err *e)
{
	uint64_t off = mapping_moffset(record->map) * SECTOR;
	uint64_t left = mapping_sectors(record->map) * SECTOR;

	if (!range_fits(off, left, data->size))
		return 0;
	*crc = UPPER_PENDING_SALT;
	*zeroes = true;
	while (left > 0) {
		size_t n = (size_t)min_u64(left, PIECE);
		int r = source_pread(data, buffer, n, off, e);

		if (r < 0)
			return r;
		*crc = crc32c_raw(*crc, buffer, n);
		*zeroes = *zeroes && is_zero(buffer, n);
		off += n;
		left -= n;
	}
	return 1;
}

/* Counts the records whose data are what they were.  One of the older form has no CRC: it gets that
 * of what is there, and *zeroes says whether some are all zeroes; else that is not looked at. */
static int check_all(struct upper_replay *out, struct source *data, bool *zeroes, struct err *e)
{
	AUTO_FREE uint8_t *buffer = malloc(PIECE);
	size_t left = out->content.count - out->from;
	int r = 1;

	if (!buffer)
		return err_set(e, ENOMEM, "out of memory");
	while (r > 0 && out->count < left) {
		struct upper_pending_record *record = &out->content.records[out->from + out->count];
		bool all_zero;
		uint32_t crc;

		if (!mapping_zeroed(record->map)) {
			r = sum_data(data, record, &crc, &all_zero, buffer, e);
			if (r > 0 && out->content.older) {
				record->crc = crc;
				*zeroes |= all_zero;
			} else if (r > 0) {
				r = crc == record->crc;
			}
		}
		out->count += r > 0;
	}
	out->lost = left - out->count;
	return r < 0 ? r : 0;
}

/* ---- the older form ---- */

/* The records of an index file. */
struct entries {
	struct format_entry *list;
	size_t count, room;
};

static int add_entry(void *arg, const struct format_entry *entry)
{
	struct entries *all = arg;

	if (all->count == all->room) {
		size_t room = all->room ? 2 * all->room : 256;
		struct format_entry *list = realloc(all->list, room * sizeof *list);

		if (!list)
			return -ENOMEM;
		all->list = list;
		all->room = room;
	}
	all->list[all->count++] = *entry;
	return 0;
}

/* How many pending records the last entries of the index are, at most: its end from *first on.
 * Taking them up again would change nothing, since they are the newest.  Files that seem to match
 * everywhere are a fraud: they match nowhere once that has taken long. */
static size_t match_end(const struct entries *all, const struct upper_pending_content *content,
			size_t *first)
{
	size_t from = all->count - min_u64(all->count, content->count), i;
	uint64_t patience = TRIES_EACH * (uint64_t)(all->count + content->count);

	for (; from < all->count && patience > 0; from++) {
		struct match m = { .content = content };

		for (i = from; i < all->count && !m.failed; i++)
			(void)match_entry(&m, &all->list[i]);
		patience -= min_u64(patience, m.next + 1);
		if (m.failed)
			continue;
		*first = from;
		return m.next;
	}
	*first = all->count;
	return 0;
}

struct span {
	uint64_t start, end; /* sectors; after sorting, `end` is the furthest so far */
};

static int by_start(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

/* Whether one of these records begins before `end` and ends behind `start`. */
static bool overlaps(const struct span *spans, size_t n, uint64_t start, uint64_t end)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (spans[middle].start < end)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && spans[low - 1].end > start;
}

/* Whether the index, before `first`, has zeroes where the pending records from `from` on have
 * something: which of the two is newer no place tells.  Without memory: it may. */
static bool may_undo_zeroes(const struct entries *all, size_t first,
			    const struct upper_pending_content *content, size_t from)
{
	size_t n = content->count - from, i;
	AUTO_FREE struct span *spans = calloc(n + 1, sizeof *spans);
	bool found = !spans;

	for (i = 0; spans && i < n; i++) {
		struct mapping m = content->records[from + i].map;

		spans[i] = (struct span){ mapping_start(m), mapping_start(m) + mapping_sectors(m) };
	}
	if (spans)
		qsort(spans, n, sizeof *spans, by_start);
	for (i = 1; spans && i < n; i++)
		spans[i].end = max_u64(spans[i].end, spans[i - 1].end);
	for (i = 0; i < first && !found; i++)
		found = all->list[i].zeroed && overlaps(spans, n, all->list[i].start,
							all->list[i].start + all->list[i].sectors);
	return found;
}

/* Whether some of the pending records that are in the index has a place: then what stands before
 * them there is older. */
static bool has_flushed_data(const struct upper_pending_content *content, size_t from)
{
	size_t i;

	for (i = 0; i < from; i++)
		if (!mapping_zeroed(content->records[i].map))
			return true;
	return false;
}

/* Whether the records from `from` on, or those before that are in the index, show that nothing in
 * the index is newer: data are only appended, but zeroes have no place. */
static bool is_newest(const struct entries *all, size_t first,
		      const struct upper_pending_content *content, size_t from)
{
	uint64_t end = 0;
	bool has_place = all->count == 0;
	size_t i;

	if (!has_flushed_data(content, from) && may_undo_zeroes(all, first, content, from))
		return false;

	for (i = 0; i < first; i++)
		if (!all->list[i].zeroed)
			end = max_u64(end, all->list[i].moffset + all->list[i].sectors);
	for (i = 0; i < content->count; i++) {
		struct mapping m = content->records[i].map;

		if (mapping_zeroed(m))
			continue;
		if (i >= from && mapping_moffset(m) < end)
			return false;
		has_place = true;
	}
	return has_place || from == content->count;
}

/* The user decides. */
static int refuse_older(const struct upper_replay_log *log, const struct upper_replay *out,
			const char *why, struct err *e)
{
	AUTO_FREE char *path = upper_intent_older_name(log->ops, log->data_path, "pending");

	return err_set(e, EBUSY,
		       "%s: an older version, process %" PRIu64
		       ", acknowledged %zu writes before it was killed, but %s: 'overlaybd repair "
		       "--acknowledged=apply' makes them part of the layer, '--acknowledged=drop' "
		       "gives them up",
		       path ? path : log->data_path, out->content.pid,
		       out->content.count - out->from, why);
}

static int replay_older(const struct upper_replay_log *log, struct upper_replay *out, struct err *e)
{
	struct entries all = { 0 };
	bool zeroes = false, newest;
	size_t first;
	int r = upper_records_each(log->index, 0, log->found->good, add_entry, &all, e);

	if (r < 0) {
		free(all.list);
		return r;
	}
	out->from = match_end(&all, &out->content, &first);
	newest = !log->found->damage.msg[0] && is_newest(&all, first, &out->content, out->from);
	free(all.list);
	if (log->apply_older && !newest)
		out->from = 0;
	r = check_all(out, log->data, &zeroes, e);
	if (r < 0 || log->apply_older)
		return r;
	if (!newest)
		return refuse_older(log, out, "the layer may have been written to since", e);
	if (zeroes || out->lost > 0)
		return refuse_older(log, out,
				    "some of what they wrote reads as zeroes or is gone, as after "
				    "its file system went down",
				    e);
	return 0;
}

/* ---- as a whole ---- */

static int replay(const struct upper_replay_log *log, struct upper_replay *out, struct err *e)
{
	const struct upper_pending_content *c = &out->content;
	int r = 0;

	if (c->older)
		return replay_older(log, out, e);
	if (c->next_base.entries > 0)
		r = try_base(c, &c->next_base, log->index, log->found, &out->from, e);
	if (r == 0)
		r = try_base(c, &c->base, log->index, log->found, &out->from, e);
	if (r > 0)
		return check_all(out, log->data, NULL, e);
	out->stale = c->count;
	return r;
}

int upper_replay_read(const struct upper_replay_log *log, struct upper_replay *out, struct err *e)
{
	int r;

	*out = (struct upper_replay){ 0 };
	r = upper_pending_read(log->ops, log->data_path, log->uuid, &out->content, e);
	if (r == 0 && out->content.count > 0)
		r = replay(log, out, e);
	if (r < 0)
		upper_replay_release(out);
	return r;
}

void upper_replay_warn(const struct upper_replay *r, const char *data_path)
{
	if (r->stale > 0)
		log_warn(
			"%s: %zu writes that process %" PRIu64
			" acknowledged before it died are dropped: the layer was written to since, "
			"or its file system went down",
			data_path, r->stale, r->content.pid);
	if (r->lost > 0)
		log_warn("%s: %zu writes that process %" PRIu64
			 " acknowledged before it died are dropped: their data are gone, as when "
			 "the file system went down",
			 data_path, r->lost, r->content.pid);
}

void upper_replay_release(struct upper_replay *r)
{
	free(r->content.records);
	*r = (struct upper_replay){ 0 };
}
