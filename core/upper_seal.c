/* SPDX-License-Identifier: Apache-2.0 */
/* upper_seal.c - sealing in place, see upper_seal.h.
 *
 * The trailer is written when all before it is durable: a file whose last 4096 bytes are a trailer
 * is a whole layer, whenever the power goes. */
#include "core/upper_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_private.h"
#include "core/upper_records.h"
#include "core/upper_resize.h"

enum { PIECE_RECORDS = 64 * 1024 }; /* encoded and written at once */

/* A layer that is being finished. */
struct seal {
	const struct file_ops *ops;
	int fd;
	uint64_t at; /* bytes; where the next ones go */
};

static int put(struct seal *s, const void *bytes, size_t n, struct err *e)
{
	int r = upper_file_write(s->ops, s->fd, bytes, n, s->at, e);

	s->at += n;
	return r;
}

/* Entries, then zeroes up to the end of a sector, which do not count as entries. */
static int put_index(struct seal *s, const struct mapping_run *maps, struct err *e)
{
	static const uint8_t zeroes[SECTOR];
	AUTO_FREE uint8_t *raw =
		malloc((size_t)min_u64(maps->count, PIECE_RECORDS) * FORMAT_ENTRY + 1);
	size_t done = 0, piece;
	int r = 0;

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	for (; r == 0 && done < maps->count; done += piece) {
		piece = (size_t)min_u64(maps->count - done, PIECE_RECORDS);
		upper_records_encode(maps->maps + done, piece, raw);
		r = put(s, raw, piece * FORMAT_ENTRY, e);
	}
	return r < 0 ? r : put(s, zeroes, (SECTOR - s->at % SECTOR) % SECTOR, e);
}

static int sync_data(const struct seal *s, struct err *e)
{
	int r = s->ops->datasync(s->fd);

	return r < 0 ? err_set(e, -r, "syncing: %s", strerror(-r)) : 0;
}

static int put_trailer(struct seal *s, const struct format_header *header, uint64_t index_offset,
		       uint64_t entries, struct err *e)
{
	struct format_header trailer = *header;
	uint8_t raw[FORMAT_SPACE];

	trailer.flags = FORMAT_DATA_FILE | FORMAT_SEALED;
	trailer.index_offset = index_offset;
	trailer.index_size = entries;
	format_encode_header(&trailer, raw);
	return put(s, raw, sizeof raw, e);
}

static int append_all(struct seal *s, const struct format_header *header,
		      const struct mapping_run *maps, struct err *e)
{
	uint64_t index_offset = s->at;
	int r = put_index(s, maps, e);

	if (r == 0)
		r = sync_data(s, e);
	if (r == 0)
		r = put_trailer(s, header, index_offset, maps->count, e);
	return r < 0 ? r : sync_data(s, e);
}

int upper_seal_append(const struct file_ops *ops, int fd, const struct format_header *header,
		      const struct mapping_run *maps, uint64_t data_end, struct err *e)
{
	struct seal s = { .ops = ops, .fd = fd, .at = data_end * SECTOR };
	int r;

	if (maps->count > FORMAT_MAX_ENTRIES)
		return err_set(e, EFBIG, "%zu mappings, more than %" PRIu64, maps->count,
			       FORMAT_MAX_ENTRIES);
	/* Nobody's bytes may lie behind the trailer, and the index begins at a sector. */
	r = ops->truncate(fd, s.at);
	if (r < 0)
		return err_set(e, -r, "resizing: %s", strerror(-r));
	r = append_all(&s, header, maps, e);
	if (r < 0)
		(void)ops->truncate(fd, data_end * SECTOR);
	return r;
}

int upper_seal_log(struct upper_log *u, struct err *e)
{
	struct mapping_run maps;
	int r = upper_log_mappings(u, &maps, e);

	u->data_room = 0; /* from now on more than data lies behind data_end */
	if (r == 0)
		r = upper_seal_append(u->ops, u->data_fd, &u->header, &maps, u->data_end, e);
	free(maps.maps);
	if (r == 0 && maps.count > FORMAT_REFERENCE_ENTRIES)
		log_warn("%s: %zu mappings: overlaybd itself reads no layer of more than %" PRIu64,
			 u->data_path, maps.count, FORMAT_REFERENCE_ENTRIES);
	return r < 0 ? err_wrap(e, r, "%s", u->data_path) : 0;
}

int upper_seal_undo(struct upper_log *u, struct err *e)
{
	int r = u->ops->truncate(u->data_fd, u->data_end * SECTOR);

	return r < 0 ? err_set(e, -r, "%s: resizing: %s", u->data_path, strerror(-r)) : 0;
}

/* ---- as a whole ---- */

/* A layer that was sealed has no index file any more; else the error is what it was. */
static int explain_missing(const struct file_ops *ops, const char *data_path, int r, struct err *e)
{
	struct source *data = NULL;
	struct format_header trailer;
	int fd = upper_file_open(ops, data_path, O_RDONLY, NULL), sealed = -ENOENT;

	if (fd < 0)
		return r;
	if (upper_file_source(ops, fd, &data, NULL) == 0)
		sealed = layer_read_trailer(data, NULL, &trailer, NULL);
	source_close(data);
	ops->close(fd);
	return sealed < 0 ? r : err_set(e, EINVAL, "%s: is sealed already", data_path);
}

/* Flushes, seals, and takes away what only a log has. */
static int seal_open(struct upper_log *u, uint64_t *file_size, struct err *e)
{
	int r = upper_log_flush(u, e);

	if (r == 0)
		r = upper_seal_log(u, e);
	if (r < 0)
		return r;
	r = u->ops->size(u->data_fd, file_size);
	if (r == 0)
		r = u->ops->unlink(u->index_path);
	if (r == 0)
		r = u->ops->sync_folder(u->index_path);
	if (r < 0)
		return err_set(e, -r, "%s: is sealed, but removing %s: %s", u->data_path,
			       u->index_path, strerror(-r));
	return 0;
}

int upper_seal_files(const struct file_ops *ops, const char *data_path, const char *index_path,
		     uint64_t *file_size, struct err *e)
{
	struct upper_log_options options = { .ops = ops ? ops : &file_ops_system };
	struct upper_log *u;
	uint64_t size, end;
	int r = upper_resize_look(options.ops, data_path, index_path, &size, &end, e), closed;

	/* What lies beyond the virtual size is kept too. */
	if (r == 0) {
		options.size = max_u64(size, end * SECTOR);
		r = upper_log_open(data_path, index_path, &options, &u, NULL, e);
	}
	if (r == -ENOENT)
		return explain_missing(options.ops, data_path, r, e);
	if (r < 0)
		return r;
	r = seal_open(u, file_size, e);
	closed = upper_log_close(u, r == 0 ? e : NULL);
	return r < 0 ? r : closed;
}
