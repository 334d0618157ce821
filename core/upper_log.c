/* SPDX-License-Identifier: Apache-2.0 */
/* upper_log.c - an append log open for writing, see upper_log.h.
 *
 * Invariants; code and tests cite the numbers, which are those of DESIGN.md 8:
 *
 * (1) The data file is append-only.  A write reserves its place with one atomic addition, writes it
 *     outside of all locks, and is published then.  A mapping once published never changes meaning:
 *     a reader that looked at the map before a write reads what was there before.  What nothing
 *     maps any more becomes a hole, but only when the record that superseded it is durable and no
 *     reader is left that could know it.
 *
 * (2) A record enters the index file only after the data that it points at is durable: a flush is
 *     fdatasync(data), append of the records, fdatasync(index).  It returns only after a sync that
 *     began after it arrived.
 *
 * (3) In the critical section that publishes a write in memory, its record goes to the pending file
 *     by write(2), before anything is acknowledged; on a full disk a record of zeroes is flushed
 *     instead.  The index file has space for it by then, so that flushing takes none; zeroing
 *     alone goes on without, when all else is durable.  Opening takes up those of this boot that
 *     no flush reached, if the log is as the pending file says (upper_replay.h), and drops them
 *     otherwise.  The pending file is made anew only when all that it loses is durable in the
 *     index file.
 *
 * (4) After power loss all that was flushed is there; of what was not, each sector is there or not.
 *     Opening stops at the first mark of a crash, cuts the index file there, and never guesses;
 *     what no crash leaves is damage, and refused (upper_records.h).
 *     What it cut off must not come back, so the cut is synced; data goes on behind all that some
 *     record points at, and what the data file holds there is cut off.  (Both files are kept longer
 *     than what they hold, the index file by padding entries: a flush then has less to sync.)
 *
 * (5) A failed sync is final: the log is read-only from then on, every later write and flush is
 *     EIO, and the pending file is removed, since it would vouch for data that may be lost.
 *
 * (6) Writes of zeroes, trims and writes with FUA are writes like others: 1 to 5 hold for them. */
#include "core/upper_log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_intent.h"
#include "core/upper_lock.h"
#include "core/upper_names.h"
#include "core/upper_private.h"
#include "core/upper_records.h"

enum { PENDING_BYTES = 1 << 21, ROOM_BYTES = 1 << 24, ROOM_RECORDS = 4096 };

/* ---- making one ---- */

static int random_uuid(char out[FORMAT_UUID], struct err *e)
{
	uint8_t b[16];

	if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
		return err_set(e, errno, "random bytes for a uuid: %s", strerror(errno));
	b[6] = (uint8_t)((b[6] & 0x0f) | 0x40);
	b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
	snprintf(out, FORMAT_UUID,
		 "%02X%02X%02X%02X-%02X%02X-%02X%02X-%02X%02X-%02X%02X%02X%02X%02X%02X", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
	return 0;
}

static int set_uuid(char out[FORMAT_UUID], const char *uuid, const char *what, struct err *e)
{
	size_t i;

	if (!format_is_uuid(uuid))
		return err_set(e, EINVAL, "%s '%s' is not a uuid", what, uuid);
	for (i = 0; i < FORMAT_UUID; i++)
		out[i] = (char)toupper((unsigned char)uuid[i]);
	return 0;
}

static int check_size(uint64_t size, struct err *e)
{
	if (size % SECTOR != 0)
		return err_set(e, EINVAL, "virtual size %" PRIu64 " is not a multiple of %d", size,
			       SECTOR);
	if (size / SECTOR >= FORMAT_LBA_LIMIT)
		return err_set(e, EINVAL, "virtual size %" PRIu64 " is over 2^50 sectors", size);
	return 0;
}

/* Makes one file that holds a header.  It is gone again when that fails. */
static int create_file(const struct file_ops *ops, const char *path, const struct format_header *h,
		       struct err *e)
{
	int fd = ops->open(path, O_RDWR | O_CREAT | O_EXCL, 0644);
	uint8_t raw[FORMAT_SPACE];
	int r;

	if (fd < 0)
		return err_set(e, -fd, "%s: %s", path, strerror(-fd));
	format_encode_header(h, raw);
	r = upper_file_write(ops, fd, raw, sizeof raw, 0, e);
	if (r == 0) {
		r = ops->datasync(fd);
		if (r == 0)
			r = ops->sync_folder(path);
		if (r < 0)
			err_set(e, -r, "syncing: %s", strerror(-r));
	}
	ops->close(fd);
	if (r == 0)
		return 0;
	ops->unlink(path);
	return err_wrap(e, r, "%s", path);
}

int upper_log_make_header(struct format_header *h, uint64_t size, const char *uuid,
			  const char *parent_uuid, struct err *e)
{
	int r = check_size(size, e);

	*h = (struct format_header){
		.flags = FORMAT_HEADER | FORMAT_DATA_FILE,
		.virtual_size = size,
		.version = 1,
		.sub_version = 1,
	};
	if (r == 0)
		r = uuid ? set_uuid(h->uuid, uuid, "uuid", e) : random_uuid(h->uuid, e);
	if (r == 0)
		r = set_uuid(h->parent_uuid, parent_uuid ? parent_uuid : FORMAT_NIL_UUID,
			     "parent uuid", e);
	return r;
}

int upper_log_create(const struct file_ops *ops, const char *data_path, const char *index_path,
		     uint64_t size, const char *uuid, const char *parent_uuid, struct err *e)
{
	struct format_header h;
	int r = upper_log_make_header(&h, size, uuid, parent_uuid, e);

	ops = ops ? ops : &file_ops_system;
	if (r == 0)
		r = create_file(ops, data_path, &h, e);
	if (r < 0)
		return r;
	r = upper_pending_remove(ops, data_path, e);
	if (r == 0)
		r = upper_intent_remove(ops, data_path, e);
	h.flags = FORMAT_HEADER;
	h.index_offset = FORMAT_SPACE;
	if (r == 0)
		r = create_file(ops, index_path, &h, e);
	if (r < 0)
		ops->unlink(data_path);
	return r;
}

/* ---- opening ---- */

static int read_header(struct upper_log *u, struct err *e)
{
	struct source *data;
	int r = upper_file_source(u->ops, u->data_fd, &data, e);

	if (r == 0) {
		r = format_read_header(&u->header, data, 0, FORMAT_PART_LOG_DATA, e);
		source_close(data);
	}
	if (r == 0 && u->header.flags & FORMAT_SPARSE)
		r = err_set(e, EINVAL, "a sparse layer is not written to: convert it to a log");
	return r < 0 ? err_wrap(e, r, "%s", u->data_path) : 0;
}

static int open_files(struct upper_log *u, struct err *e)
{
	int r;

	u->data_fd = upper_lock_open(u->ops, u->data_path, O_RDWR, e);
	if (u->data_fd < 0)
		return u->data_fd;
	r = upper_intent_finish(u->ops, u->data_path, u->index_path, &u->data_fd, e);
	if (r == 0)
		r = read_header(u, e);
	if (r < 0)
		return r;
	upper_names_tidy(u->ops, u->data_path, u->index_path, u->header.uuid);
	u->index_fd = upper_file_open(u->ops, u->index_path, O_RDWR, e);
	return u->index_fd < 0 ? u->index_fd : 0;
}

static uint64_t size_of_disk(const struct upper_log *u, const struct upper_log_options *options)
{
	if (options->size)
		return options->size;
	return u->header.virtual_size ? u->header.virtual_size : options->size_below;
}

static int set_open_as(struct upper_log *u, struct err *e)
{
	struct file_status status;
	int r = u->ops->status(u->data_fd, &status);

	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	u->open_as = upper_records_open_as(u->pending.boot_id, &status);
	return 0;
}

static int start(struct upper_log *u, const struct upper_log_options *options,
		 struct upper_findings *findings, struct err *e)
{
	int r = open_files(u, e);

	if (r < 0)
		return r;
	u->sectors = size_of_disk(u, options) / SECTOR;
	if (u->sectors == 0)
		return err_set(e, EINVAL,
			       "%s: it has no virtual size of its own: give it one with "
			       "'overlaybd resize'",
			       u->data_path);
	r = upper_pending_init(&u->pending, u->ops, u->data_path, u->data_fd, u->header.uuid, e);
	if (r == 0)
		r = set_open_as(u, e);
	if (r == 0 && upper_map_init(&u->map, u->sectors) < 0)
		r = err_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = upper_recover(u, findings, e);
	return r < 0 ? err_wrap(e, r, "%s, %s", u->data_path, u->index_path) : 0;
}

static struct upper_log *make(const char *data_path, const char *index_path,
			      const struct upper_log_options *options)
{
	struct upper_log *u = aligned_alloc(_Alignof(struct upper_log), sizeof *u);

	if (!u)
		return NULL;
	memset(u, 0, sizeof *u);
	u->ops = options->ops ? options->ops : &file_ops_system;
	u->below = options->below;
	u->apply_older = options->apply_older;
	u->room_bytes = options->room_bytes ? options->room_bytes : ROOM_BYTES;
	u->room_records = options->room_records ? options->room_records : ROOM_RECORDS;
	u->pending_bytes = options->pending_bytes ? options->pending_bytes : PENDING_BYTES;
	u->max_records = options->max_records ? options->max_records : FORMAT_MAX_ENTRIES;
	u->data_fd = u->index_fd = u->pending.fd = -1;
	u->given_back = UINT64_MAX;
	pthread_mutex_init(&u->publish_lock, NULL);
	pthread_mutex_init(&u->room_lock, NULL);
	pthread_mutex_init(&u->index_lock, NULL);
	upper_claims_init(&u->claims);
	upper_sync_init(&u->sync);
	upper_garbage_init(&u->garbage, options);
	u->data_path = u->ops->true_name(data_path);
	u->index_path = u->ops->true_name(index_path);
	return u;
}

static void release(struct upper_log *u)
{
	upper_pending_release(&u->pending);
	upper_map_release(&u->map);
	upper_garbage_release(&u->garbage);
	upper_sync_release(&u->sync);
	upper_claims_release(&u->claims);
	pthread_mutex_destroy(&u->publish_lock);
	pthread_mutex_destroy(&u->room_lock);
	pthread_mutex_destroy(&u->index_lock);
	upper_ranges_release(&u->dying);
	free(u->queue.list);
	if (u->index_fd >= 0)
		u->ops->close(u->index_fd);
	if (u->data_fd >= 0)
		u->ops->close(u->data_fd); /* the lock ends with it, so it is the last */
	free(u->data_path);
	free(u->index_path);
	free(u);
}

int upper_log_open(const char *data_path, const char *index_path,
		   const struct upper_log_options *options, struct upper_log **out,
		   struct upper_findings *findings, struct err *e)
{
	static const struct upper_log_options defaults;
	struct upper_findings unused;
	struct upper_log *u;
	int r;

	options = options ? options : &defaults;
	r = check_size(options->size, e);
	if (r < 0)
		return r;
	u = make(data_path, index_path, options);
	if (!u)
		return err_set(e, ENOMEM, "out of memory");
	if (!u->data_path || !u->index_path)
		r = err_set(e, ENOMEM, "out of memory");
	if (r == 0)
		r = start(u, options, findings ? findings : &unused, e);
	if (r < 0) {
		release(u);
		return r;
	}
	*out = u;
	return 0;
}

int upper_log_link(const struct upper_log *u, const char *path, struct err *e)
{
	int r = u->ops->link(u->data_fd, path);

	return r < 0 ? err_set(e, -r, "%s: %s", path, strerror(-r)) : 0;
}

int upper_log_make_like(struct upper_log *u, const struct upper_log *model, struct err *e)
{
	int r = u->ops->make_like(u->data_fd, model->data_fd);

	if (r == 0)
		r = u->ops->make_like(u->index_fd, model->index_fd);
	return r < 0 ? err_set(e, -r, "%s: owner and mode: %s", u->data_path, strerror(-r)) : 0;
}

int upper_log_after_fork(struct upper_log *u, struct err *e)
{
	WITH_LOCK(&u->publish_lock);

	return upper_pending_write_pid(&u->pending, e);
}

static void remove_name(const struct upper_log *u, const char *path)
{
	int r = u->ops->unlink(path);

	if (r < 0 && r != -ENOENT)
		log_warn("%s: cannot be removed: %s", path, strerror(-r));
}

/* What says that the log is open goes first: without it nobody misses the pending file. */
int upper_log_end_pending(struct upper_log *u, struct err *e)
{
	int r;

	upper_sync_enter(&u->sync);
	u->has_pending = false;
	r = upper_sync_unmark(u);
	upper_sync_leave(&u->sync);
	if (r < 0)
		return err_set(e, -r, "%s: resizing: %s", u->index_path, strerror(-r));
	WITH_LOCK(&u->publish_lock);
	return upper_pending_drop(&u->pending, e);
}

void upper_log_retire(struct upper_log *u)
{
	WITH_LOCK(&u->garbage.tidy_lock);
	struct err e;

	u->garbage.retired = true;
	if (upper_log_end_pending(u, &e) < 0)
		log_warn("%s", e.msg);
	remove_name(u, u->index_path);
	remove_name(u, u->data_path);
}

bool upper_log_has_failed(const struct upper_log *u)
{
	return u->failed;
}

void upper_log_fail(struct upper_log *u)
{
	upper_sync_fail(u);
}

int upper_log_close(struct upper_log *u, struct err *e)
{
	int r;

	if (!u)
		return 0;
	r = upper_log_flush(u, e);
	if (r == 0)
		r = upper_log_end_pending(u, e);
	/* What stays longer than what it holds is cut when it is opened. */
	if (r == 0 && u->data_room > 0)
		(void)u->ops->truncate(u->data_fd, u->data_end * SECTOR);
	release(u);
	return r;
}

uint64_t upper_log_size(const struct upper_log *u)
{
	return u->sectors * SECTOR;
}

const struct format_header *upper_log_header(const struct upper_log *u)
{
	return &u->header;
}
