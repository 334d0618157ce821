/* SPDX-License-Identifier: Apache-2.0 */
/* upper_dense.c - writing a log without garbage, see upper_dense.h. */
#include "core/upper_dense.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/upper_intent.h"
#include "core/upper_pending.h"
#include "core/upper_records.h"

enum {
	PIECE = 1024 * 1024, /* bytes written at once */
	PIECE_RECORDS = 4096,
};

/* A file that is written from front to back, in large pieces. */
struct out {
	const struct file_ops *ops;
	int fd;
	uint8_t *raw; /* PIECE bytes */
	size_t n; /* in raw */
	uint64_t at; /* where raw goes */
};

static int out_flush(struct out *o, struct err *e)
{
	int r = upper_file_write(o->ops, o->fd, o->raw, o->n, o->at, e);

	o->at += o->n;
	o->n = 0;
	return r;
}

/* Room for at most `want` bytes, which the caller fills; *n is how many there are. */
static int out_room(struct out *o, uint64_t want, uint8_t **at, size_t *n, struct err *e)
{
	int r = o->n == PIECE ? out_flush(o, e) : 0;

	*at = o->raw + o->n;
	*n = (size_t)min_u64(want, PIECE - o->n);
	o->n += *n;
	return r;
}

static int out_put(struct out *o, const uint8_t *bytes, size_t n, struct err *e)
{
	uint8_t *to;
	size_t piece;
	int r = 0;

	for (; r == 0 && n > 0; n -= piece, bytes += piece) {
		r = out_room(o, n, &to, &piece, e);
		memcpy(to, bytes, piece);
	}
	return r;
}

static int copy_mapping(const struct upper_dense *d, struct mapping m, struct out *o, struct err *e)
{
	uint64_t from = mapping_moffset(m) * SECTOR, left = mapping_sectors(m) * SECTOR;
	uint8_t *to;
	size_t n;
	int r = 0;

	for (; r == 0 && left > 0; left -= n, from += n) {
		r = out_room(o, left, &to, &n, e);
		if (r == 0)
			r = source_pread(d->from, to, n, from, e);
		if (r == 0 && d->step)
			d->step(d->arg, n);
	}
	return r;
}

static int put_header(const struct upper_dense *d, bool index, struct out *o, struct err *e)
{
	struct format_header h = *d->header;
	uint8_t raw[FORMAT_SPACE];

	h.flags = index ? FORMAT_HEADER : FORMAT_HEADER | FORMAT_DATA_FILE;
	h.index_offset = index ? FORMAT_SPACE : 0;
	h.index_size = 0;
	format_encode_header(&h, raw);
	return out_put(o, raw, sizeof raw, e);
}

static int put_data(const struct upper_dense *d, struct out *o, struct err *e)
{
	size_t i;
	int r = put_header(d, false, o, e);

	for (i = 0; r == 0 && i < d->maps->count; i++)
		if (!mapping_zeroed(d->maps->maps[i]))
			r = copy_mapping(d, d->maps->maps[i], o, e);
	return r;
}

/* The records of the same mappings, with the places that put_data gave them. */
static int put_index(const struct upper_dense *d, struct out *o, struct err *e)
{
	struct mapping records[PIECE_RECORDS];
	uint8_t raw[PIECE_RECORDS * FORMAT_ENTRY];
	uint64_t moffset = FORMAT_SPACE / SECTOR;
	size_t i, n = 0;
	int r = put_header(d, true, o, e);

	for (i = 0; r == 0 && i < d->maps->count; i++) {
		struct mapping m = d->maps->maps[i];
		bool zeroed = mapping_zeroed(m);

		records[n++] =
			mapping_make(mapping_start(m), mapping_sectors(m), 0, moffset, zeroed);
		moffset += zeroed ? 0 : mapping_sectors(m);
		if (n < PIECE_RECORDS && i + 1 < d->maps->count)
			continue;
		upper_records_encode(records, n, raw);
		r = out_put(o, raw, n * FORMAT_ENTRY, e);
		n = 0;
	}
	return r;
}

/* Makes one of the files.  It is gone again when that fails. */
static int write_file(const struct upper_dense *d, const struct file_ops *ops, const char *path,
		      int (*put)(const struct upper_dense *d, struct out *o, struct err *e),
		      struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc(PIECE);
	struct out o = { .ops = ops, .raw = raw };
	int r;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	o.fd = ops->open(path, O_RDWR | O_CREAT | O_EXCL, d->mode ? d->mode : 0644);
	if (o.fd < 0)
		return err_set(e, -o.fd, "%s: %s", path, strerror(-o.fd));
	r = put(d, &o, e);
	if (r == 0)
		r = out_flush(&o, e);
	if (r == 0) {
		r = ops->datasync(o.fd);
		if (r < 0)
			err_set(e, -r, "syncing: %s", strerror(-r));
	}
	ops->close(o.fd);
	if (r == 0)
		return 0;
	ops->unlink(path);
	return err_wrap(e, r, "%s", path);
}

int upper_dense_write(const struct upper_dense *d, const char *data_path, const char *index_path,
		      struct err *e)
{
	const struct file_ops *ops = d->ops ? d->ops : &file_ops_system;
	int r;

	if (d->maps->count > FORMAT_MAX_ENTRIES)
		return err_set(e, EFBIG, "%s: %zu mappings, more than %" PRIu64, data_path,
			       d->maps->count, FORMAT_MAX_ENTRIES);
	r = write_file(d, ops, data_path, put_data, e);
	if (r < 0)
		return r;
	r = write_file(d, ops, index_path, put_index, e);
	if (r < 0)
		ops->unlink(data_path);
	return r;
}

/* ---- under its own names ---- */

static int refuse_existing(const struct file_ops *ops, const char *path, struct err *e)
{
	int fd = ops->open(path, O_RDONLY, 0);

	if (fd == -ENOENT)
		return 0;
	if (fd >= 0)
		ops->close(fd);
	return err_set(e, EEXIST, "%s: %s", path, strerror(EEXIST));
}

/* The data file of that name is ours; what is left of an index file is not yet under its name. */
static int finish_create(const struct file_ops *ops, const char *data_path, const char *index_path,
			 const char *temporary, struct err *e)
{
	int r = upper_pending_remove(ops, data_path, e);

	if (r == 0)
		r = upper_intent_remove(ops, data_path, index_path, e);
	if (r < 0)
		return r;
	r = ops->sync_folder(data_path);
	if (r == 0)
		r = ops->rename(temporary, index_path);
	if (r == 0)
		r = ops->sync_folder(index_path);
	return r < 0 ? err_set(e, -r, "%s: %s", index_path, strerror(-r)) : 0;
}

int upper_dense_create(const struct upper_dense *d, const char *data_path, const char *index_path,
		       struct err *e)
{
	const struct file_ops *ops = d->ops ? d->ops : &file_ops_system;
	AUTO_FREE char *temporary = NULL;
	int r = refuse_existing(ops, index_path, e);

	if (r < 0)
		return r;
	if (asprintf(&temporary, "%s.part", index_path) < 0) {
		temporary = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	ops->unlink(temporary);
	r = upper_dense_write(d, data_path, temporary, e);
	if (r < 0)
		return r;
	r = finish_create(ops, data_path, index_path, temporary, e);
	if (r < 0) {
		ops->unlink(temporary);
		ops->unlink(index_path);
		ops->unlink(data_path);
	}
	return r;
}
