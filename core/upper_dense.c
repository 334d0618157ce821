/* SPDX-License-Identifier: Apache-2.0 */
/* upper_dense.c - writing a log without garbage, see upper_dense.h. */
#include "core/upper_dense.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/upper_intent.h"
#include "core/upper_lock.h"
#include "core/upper_pending.h"
#include "core/upper_records.h"

enum { PIECE = 1024 * 1024 }; /* bytes written at once */

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
		if (r == 0) {
			r = source_pread(d->from, to, n, from, e);
			if (r < 0)
				(void)err_wrap(e, r, "the data to copy");
		}
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
	uint8_t raw[2 * FORMAT_ENTRY];
	uint64_t moffset = FORMAT_SPACE / SECTOR;
	uint32_t crc = UPPER_RECORDS_SALT;
	size_t i;
	int r = put_header(d, true, o, e);

	for (i = 0; r == 0 && i < d->maps->count; i++) {
		struct mapping m = d->maps->maps[i];
		bool zeroed = mapping_zeroed(m);

		m = mapping_make(mapping_start(m), mapping_sectors(m), 0, moffset, zeroed);
		upper_records_encode(&m, 1, raw);
		crc = upper_records_sum(crc, raw, 1);
		r = out_put(o, raw, FORMAT_ENTRY, e);
		moffset += zeroed ? 0 : mapping_sectors(m);
	}
	if (r < 0)
		return r;
	/* All is synced before it counts. */
	upper_records_encode_mark(UPPER_MARK_CHECK, crc, raw);
	crc = upper_records_sum(crc, raw, 1);
	upper_records_encode_mark(UPPER_MARK_CONFIRM, crc, raw + FORMAT_ENTRY);
	return out_put(o, raw, sizeof raw, e);
}

/* Fills one of the files, which is empty. */
static int fill_file(const struct upper_dense *d, const struct file_ops *ops, int fd,
		     const char *path,
		     int (*put)(const struct upper_dense *d, struct out *o, struct err *e),
		     struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc(PIECE);
	struct out o = { .ops = ops, .raw = raw, .fd = fd };
	int r = raw ? put(d, &o, e) : err_set(e, ENOMEM, "out of memory");

	if (r == 0)
		r = out_flush(&o, e);
	if (r == 0) {
		r = ops->datasync(fd);
		if (r < 0)
			err_set(e, -r, "syncing: %s", strerror(-r));
	}
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

static int refuse_existing(const struct file_ops *ops, const char *path, struct err *e)
{
	int fd = ops->open(path, O_RDONLY, 0);

	if (fd == -ENOENT)
		return 0;
	if (fd >= 0)
		ops->close(fd);
	return err_set(e, EEXIST, "%s: %s", path, strerror(EEXIST));
}

/* Makes one of the files; `like`: -1, or the file whose owner and mode it gets.  It has its name
 * only when it is whole. */
static int write_file(const struct upper_dense *d, const struct file_ops *ops, const char *path,
		      int like,
		      int (*put)(const struct upper_dense *d, struct out *o, struct err *e),
		      struct err *e)
{
	int r = refuse_existing(ops, path, e), fd;
	char *temporary;

	if (r < 0)
		return r;
	fd = upper_file_temporary(ops, path, like, &temporary, e);
	if (fd < 0)
		return fd;
	r = fill_file(d, ops, fd, path, put, e);
	ops->close(fd);
	if (r == 0) {
		r = ops->rename(temporary, path);
		if (r < 0)
			(void)err_set(e, -r, "%s: %s", path, strerror(-r));
	}
	if (r < 0)
		ops->unlink(temporary);
	free(temporary);
	return r;
}

static int check_count(const struct upper_dense *d, const char *data_path, struct err *e)
{
	if (d->maps->count <= FORMAT_MAX_ENTRIES)
		return 0;
	return err_set(e, EFBIG, "%s: %zu mappings, more than %" PRIu64, data_path, d->maps->count,
		       FORMAT_MAX_ENTRIES);
}

int upper_dense_write(const struct upper_dense *d, const char *data_path, const char *index_path,
		      struct err *e)
{
	const struct file_ops *ops = d->ops ? d->ops : &file_ops_system;
	const int *like = d->like;
	int r = check_count(d, data_path, e);

	if (r == 0)
		r = write_file(d, ops, data_path, like ? like[0] : -1, put_data, e);
	if (r < 0)
		return r;
	r = write_file(d, ops, index_path, like ? like[1] : -1, put_index, e);
	if (r < 0)
		ops->unlink(data_path);
	return r;
}

/* ---- under its own names ---- */

/* A log that is being made.  Whoever has the lock of the data's temporary file makes it. */
struct creation {
	const struct upper_dense *d;
	const struct file_ops *ops;
	const char *data_path, *index_path;
	char *data_part, *index_part;
	int fd; /* of data_part */
	bool ours; /* both parts */
};

static int refuse_log(const struct creation *c, struct err *e)
{
	int r = refuse_existing(c->ops, c->index_path, e);

	return r < 0 ? r : refuse_existing(c->ops, c->data_path, e);
}

/* What a process that was killed left has our magic, or nothing yet. */
static int refuse_foreign(const struct file_ops *ops, int fd, const char *path, struct err *e)
{
	static const uint8_t zeroes[SECTOR];
	uint8_t raw[SECTOR] = { 0 };
	uint64_t size;
	int r = ops->size(fd, &size);

	if (r < 0)
		return err_set(e, -r, "%s: %s", path,
			       r == -EINVAL ? "not a regular file" : strerror(-r));
	r = upper_file_read(ops, fd, raw, (size_t)min_u64(size, SECTOR), 0, e);
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	if (memcmp(raw, zeroes, SECTOR) == 0 || format_is_layer(raw, SECTOR))
		return 0;
	return err_set(e, EEXIST, "%s: is in the way, and no part of a layer: move it away", path);
}

static int remove_index_part(const struct creation *c, struct err *e)
{
	int fd = c->ops->open(c->index_part, O_RDONLY, 0), r;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return err_set(e, -fd, "%s: %s", c->index_part, strerror(-fd));
	r = refuse_foreign(c->ops, fd, c->index_part, e);
	c->ops->close(fd);
	if (r < 0)
		return r;
	r = c->ops->unlink(c->index_part);
	return r < 0 ? err_set(e, -r, "%s: %s", c->index_part, strerror(-r)) : 0;
}

/* Both files under their temporary names, over what a process that was killed left there. */
static int write_parts(struct creation *c, struct err *e)
{
	int r = refuse_log(c, e); /* another process may have made it meanwhile */

	if (r < 0)
		return r;
	r = refuse_foreign(c->ops, c->fd, c->data_part, e);
	if (r == 0)
		r = remove_index_part(c, e);
	if (r < 0)
		return r;
	c->ours = true;
	r = c->ops->truncate(c->fd, 0);
	if (r < 0)
		return err_set(e, -r, "%s: %s", c->data_part, strerror(-r));
	r = fill_file(c->d, c->ops, c->fd, c->data_part, put_data, e);
	return r < 0 ? r : write_file(c->d, c->ops, c->index_part, -1, put_index, e);
}

/* Gives the data its name.  The name is claimed first, since a rename asks nobody. */
static int name_data(const struct creation *c, struct err *e)
{
	int r = c->ops->open(c->data_path, O_RDWR | O_CREAT | O_EXCL, 0644);

	if (r >= 0) {
		c->ops->close(r);
		r = c->ops->rename(c->data_part, c->data_path);
		if (r < 0)
			c->ops->unlink(c->data_path);
	}
	return r < 0 ? err_set(e, -r, "%s: %s", c->data_path, strerror(-r)) : 0;
}

/* The data file of that name is ours; it is no log until there is an index file. */
static int name_index(const struct creation *c, struct err *e)
{
	int r = upper_pending_remove(c->ops, c->data_path, e);

	if (r == 0)
		r = upper_intent_remove(c->ops, c->data_path, e);
	if (r < 0)
		return r;
	r = upper_file_sync_folder(c->ops, c->data_path, e);
	if (r < 0)
		return r;
	r = c->ops->rename(c->index_part, c->index_path);
	return r < 0 ? err_set(e, -r, "%s: %s", c->index_path, strerror(-r))
		     : upper_file_sync_folder(c->ops, c->index_path, e);
}

static int finish(const struct creation *c, struct err *e)
{
	int r = name_index(c, e);

	if (r < 0) {
		c->ops->unlink(c->index_part);
		c->ops->unlink(c->index_path);
		c->ops->unlink(c->data_path);
	}
	return r;
}

static int create(struct creation *c, struct err *e)
{
	int r = refuse_log(c, e);

	if (r < 0)
		return r;
	c->fd = upper_lock_open(c->ops, c->data_part, O_RDWR | O_CREAT | O_NOFOLLOW, e);
	if (c->fd < 0)
		return c->fd;
	r = write_parts(c, e);
	if (r == 0)
		r = name_data(c, e);
	if (r < 0 && c->ours) {
		c->ops->unlink(c->index_part);
		c->ops->unlink(c->data_part);
	}
	if (r == 0)
		r = finish(c, e);
	c->ops->close(c->fd);
	return r;
}

int upper_dense_create(const struct upper_dense *d, const char *data_path, const char *index_path,
		       struct err *e)
{
	struct creation c = { .d = d,
			      .ops = d->ops ? d->ops : &file_ops_system,
			      .data_path = data_path,
			      .index_path = index_path };
	int r = check_count(d, data_path, e);

	if (r < 0)
		return r;
	if (asprintf(&c.data_part, "%s.part", data_path) < 0)
		c.data_part = NULL;
	if (asprintf(&c.index_part, "%s.part", index_path) < 0)
		c.index_part = NULL;
	r = c.data_part && c.index_part ? create(&c, e) : err_set(e, ENOMEM, "out of memory");
	free(c.data_part);
	free(c.index_part);
	return r;
}
