/* SPDX-License-Identifier: Apache-2.0 */
/* upper_resize.c - changing the virtual size, see upper_resize.h. */
#include "core/upper_resize.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/upper_intent.h"
#include "core/upper_lock.h"
#include "core/upper_private.h"
#include "core/upper_records.h"

enum {
	PIECES = 64,
	MARKS_MAX = 1 << 23, /* of a disk that grows over layers that are not known: 64 TiB */
};

/* ---- what is there ---- */

static int take_end(void *arg, const struct format_entry *entry)
{
	uint64_t *end = arg;

	*end = max_u64(*end, entry->start + entry->sectors);
	return 0;
}

/* The sector behind the last that the files map, whatever the virtual size is. */
static int find_end(const struct file_ops *ops, const char *data_path, const char *index_path,
		    int data_fd, const struct format_header *header, uint64_t *end, struct err *e)
{
	struct upper_pending_content pending;
	struct upper_records found;
	struct source *index;
	uint64_t data_size;
	size_t i;
	int fd = upper_file_open(ops, index_path, O_RDONLY, e), r;

	if (fd < 0)
		return fd;
	r = upper_file_source(ops, fd, &index, e);
	if (r == 0) {
		r = ops->size(data_fd, &data_size);
		if (r < 0)
			(void)err_set(e, -r, "the size of %s: %s", data_path, strerror(-r));
		else if (index->size >= FORMAT_SPACE)
			r = upper_records_read(index, data_size, take_end, end, &found, e);
		source_close(index);
	}
	ops->close(fd);
	if (r < 0)
		return err_wrap(e, r, "%s", index_path);
	r = upper_pending_read(ops, data_path, header->uuid, &pending, e);
	if (r < 0)
		return r;
	for (i = 0; i < pending.count; i++)
		*end = max_u64(*end, mapping_end(pending.records[i].map));
	free(pending.records);
	return 0;
}

static int read_header(const struct file_ops *ops, const char *data_path, int fd,
		       struct format_header *out, struct err *e)
{
	struct source *data;
	int r = upper_file_source(ops, fd, &data, e);

	if (r == 0) {
		r = format_read_header(out, data, 0, FORMAT_PART_LOG_DATA, e);
		source_close(data);
	}
	return r < 0 ? err_wrap(e, r, "%s", data_path) : 0;
}

int upper_resize_look(const struct file_ops *ops, const char *data_path, const char *index_path,
		      uint64_t *size, uint64_t *end, struct err *e)
{
	struct format_header header = { .virtual_size = 0 };
	int fd = upper_lock_open(ops, data_path, O_RDWR, e), r;

	if (fd < 0)
		return fd;
	*end = 0;
	r = upper_intent_finish(ops, data_path, index_path, &fd, e);
	if (r == 0)
		r = read_header(ops, data_path, fd, &header, e);
	if (r == 0 && header.flags & FORMAT_SPARSE)
		r = err_set(e, EINVAL, "%s: a sparse layer is not written to: convert it to a log",
			    data_path);
	if (r == 0)
		r = find_end(ops, data_path, index_path, fd, &header, end, e);
	ops->close(fd);
	*size = header.virtual_size;
	return r;
}

/* ---- changing it ---- */

/* The first sector of [lba, end) that holds data of the log, and how many follow.  False: none. */
static bool find_data(struct upper_log *u, uint64_t *lba, uint64_t end, uint64_t *sectors)
{
	struct segment pieces[PIECES];
	size_t i, n;

	while (*lba < end) {
		n = upper_log_pieces(u, *lba, end - *lba, pieces, PIECES);
		for (i = 0; i < n; *lba += pieces[i++].sectors) {
			*sectors = pieces[i].sectors;
			if (pieces[i].mapped && !pieces[i].zeroed)
				return true;
		}
	}
	return false;
}

static int refuse_loss(struct upper_log *u, uint64_t size, uint64_t before, struct err *e)
{
	uint64_t lba = size / SECTOR, sectors;

	if (!find_data(u, &lba, before ? before / SECTOR : u->sectors, &sectors))
		return 0;
	return err_set(e, EINVAL,
		       "%s: it holds data at %" PRIu64 ", which a disk of %" PRIu64
		       " bytes would lose",
		       u->data_path, lba * SECTOR, size);
}

static int zero(struct upper_log *u, uint64_t from, uint64_t to, struct err *e)
{
	return from < to ? upper_log_zero(u, from * SECTOR, (to - from) * SECTOR, 0, e) : 0;
}

/* What the layers below map beyond the disk's end is not to show. */
static int hide_below(struct upper_log *u, const struct mapping_run *below, uint64_t end,
		      struct err *e)
{
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < below->count; i++)
		r = zero(u, mapping_start(below->maps[i]),
			 min_u64(mapping_end(below->maps[i]), end), e);
	return r;
}

/* Nor what the log itself had there before it was made smaller. */
static int hide_own(struct upper_log *u, uint64_t from, uint64_t to, struct err *e)
{
	uint64_t sectors;
	int r = 0;

	while (r == 0 && find_data(u, &from, to, &sectors))
		r = zero(u, from, from + sectors, e);
	return r;
}

/* All that is new: any of it may be mapped below. */
static int hide_all(struct upper_log *u, uint64_t from, uint64_t to, struct err *e)
{
	if (from < to && (to - from) / FORMAT_MAX_SECTORS >= MARKS_MAX)
		return err_set(e, EFBIG,
			       "%s: too much grows at once where the layers below are not known: "
			       "name the config instead",
			       u->data_path);
	return zero(u, from, to, e);
}

static int prepare(struct upper_log *u, const struct upper_resize *how, struct err *e)
{
	uint64_t before = u->header.virtual_size, end = how->size / SECTOR;
	int r = 0;

	if (before == 0 || how->size < before)
		r = refuse_loss(u, how->size, before, e);
	else if (how->below)
		r = hide_own(u, before / SECTOR, end, e);
	else
		r = hide_all(u, before / SECTOR, end, e);
	if (r == 0 && how->below)
		r = hide_below(u, how->below, end, e);
	return r < 0 ? r : upper_log_flush(u, e);
}

static int change(struct upper_log *u, uint64_t size, struct err *e)
{
	struct upper_intent intent = { .kind = UPPER_INTENT_RESIZE, .virtual_size = size };
	int r;

	memcpy(intent.uuid, u->header.uuid, sizeof intent.uuid);
	r = upper_intent_write(u->ops, u->data_path, u->data_fd, &intent, e);
	if (r == 0)
		r = upper_intent_finish(u->ops, u->data_path, u->index_path, &u->data_fd, e);
	return r;
}

int upper_resize_files(const struct upper_resize *how, const char *data_path,
		       const char *index_path, uint64_t *before, struct err *e)
{
	struct upper_log_options options = { .ops = how->ops ? how->ops : &file_ops_system };
	struct upper_log *u;
	uint64_t end;
	int closed, r;

	if (how->size == 0 || how->size % SECTOR != 0 || how->size / SECTOR >= FORMAT_LBA_LIMIT)
		return err_set(e, EINVAL, "%" PRIu64 " is no virtual size", how->size);
	r = upper_resize_look(options.ops, data_path, index_path, before, &end, e);
	if (r < 0)
		return r;
	options.size = max_u64(max_u64(how->size, *before), end * SECTOR);
	r = upper_log_open(data_path, index_path, &options, &u, NULL, e);
	if (r < 0)
		return r;
	if (u->header.virtual_size != *before)
		r = err_set(e, EBUSY, "%s: another process resized it meanwhile", data_path);
	if (r == 0)
		r = prepare(u, how, e);
	if (r == 0 && how->size != *before)
		r = change(u, how->size, e);
	closed = upper_log_close(u, r == 0 ? e : NULL);
	return r < 0 ? r : closed;
}
