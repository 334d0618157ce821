/* SPDX-License-Identifier: Apache-2.0 */
/* upper_replay.c - see upper_replay.h. */
#include "core/upper_replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"

enum { PIECE = 1 << 20 }; /* bytes of data read at once */

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

/* 1: the data are what they were. */
static int check_data(struct source *data, const struct upper_pending_record *record,
		      uint8_t *buffer, struct err *e)
{
	uint64_t off = mapping_moffset(record->map) * SECTOR;
	uint64_t left = mapping_sectors(record->map) * SECTOR;
	uint32_t crc = UPPER_PENDING_SALT;

	if (mapping_zeroed(record->map))
		return 1;
	if (!range_fits(off, left, data->size))
		return 0;
	while (left > 0) {
		size_t n = (size_t)min_u64(left, PIECE);
		int r = source_pread(data, buffer, n, off, e);

		if (r < 0)
			return r;
		crc = crc32c_raw(crc, buffer, n);
		off += n;
		left -= n;
	}
	return crc == record->crc;
}

static int check_all(struct upper_replay *out, struct source *data, struct err *e)
{
	AUTO_FREE uint8_t *buffer = malloc(PIECE);
	size_t left = out->content.count - out->from;
	int r = 1;

	if (!buffer)
		return err_set(e, ENOMEM, "out of memory");
	while (r > 0 && out->count < left) {
		r = check_data(data, &out->content.records[out->from + out->count], buffer, e);
		out->count += r > 0;
	}
	out->lost = left - out->count;
	return r < 0 ? r : 0;
}

static int replay(struct upper_replay *out, struct source *data, struct source *index,
		  const struct upper_records *found, struct err *e)
{
	const struct upper_pending_content *c = &out->content;
	int r = 0;

	if (c->next_base.entries > 0)
		r = try_base(c, &c->next_base, index, found, &out->from, e);
	if (r == 0)
		r = try_base(c, &c->base, index, found, &out->from, e);
	if (r > 0)
		return check_all(out, data, e);
	out->stale = c->count;
	return r;
}

int upper_replay_read(const struct file_ops *ops, const char *data_path, const char *uuid,
		      struct source *data, struct source *index, const struct upper_records *found,
		      struct upper_replay *out, struct err *e)
{
	int r;

	*out = (struct upper_replay){ 0 };
	r = upper_pending_read(ops, data_path, uuid, &out->content, e);
	if (r == 0 && out->content.count > 0)
		r = replay(out, data, index, found, e);
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
