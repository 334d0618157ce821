/* SPDX-License-Identifier: Apache-2.0 */
/* upper_intent.c - changes of both files of a log, see upper_intent.h. */
#include "core/upper_intent.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"

enum {
	OFF_KIND = 8,
	OFF_SIZE = 16,
	OFF_UUID = 24,
	OFF_CRC = 124,
	INTENT = 128,
	OFF_HEADER_UUID = 56, /* in a header */
};

static const char magic[8] = "OBDINTN1";

/* `other`: what stands between a name that does not end in ".data" and `what`. */
static char *name_with(const struct file_ops *ops, const char *data_path, const char *other,
		       const char *what)
{
	AUTO_FREE char *data = ops->true_name(data_path);
	size_t n = data ? strlen(data) : 0;
	bool usual = n > 5 && strcmp(data + n - 5, ".data") == 0;
	char *name;

	if (!data)
		return NULL;
	return asprintf(&name, "%.*s%s%s", (int)(usual ? n - 5 : n), data, usual ? "." : other,
			what) < 0
		       ? NULL
		       : name;
}

char *upper_intent_name(const struct file_ops *ops, const char *data_path, const char *what)
{
	return name_with(ops, data_path, ".upper-", what);
}

char *upper_intent_older_name(const struct file_ops *ops, const char *data_path, const char *what)
{
	return name_with(ops, data_path, ".", what);
}

char *upper_intent_new_name(const struct file_ops *ops, const char *path)
{
	AUTO_FREE char *true_name = ops->true_name(path);
	char *name;

	return !true_name || asprintf(&name, "%s.new", true_name) < 0 ? NULL : name;
}

static int no_memory(struct err *e)
{
	return err_set(e, ENOMEM, "out of memory");
}

/* ---- the file ---- */

static void encode(const struct upper_intent *intent, uint8_t raw[INTENT])
{
	memset(raw, 0, INTENT);
	memcpy(raw, magic, sizeof magic);
	le64_put(raw + OFF_KIND, intent->kind);
	le64_put(raw + OFF_SIZE, intent->virtual_size);
	memcpy(raw + OFF_UUID, intent->uuid, strnlen(intent->uuid, FORMAT_UUID - 1));
	le32_put(raw + OFF_CRC, crc32c_raw(0, raw, OFF_CRC));
}

static int parse(const uint8_t raw[INTENT], struct upper_intent *out, struct err *e)
{
	uint64_t kind = le64_get(raw + OFF_KIND), size = le64_get(raw + OFF_SIZE);

	if (memcmp(raw, magic, sizeof magic) != 0 ||
	    le32_get(raw + OFF_CRC) != crc32c_raw(0, raw, OFF_CRC))
		return err_set(e, EBADMSG,
			       "is damaged, or no intent of 'overlaybd resize' or 'compact'");
	if (kind != UPPER_INTENT_RESIZE && kind != UPPER_INTENT_COMPACT)
		return err_set(e, EBADMSG, "is of an unknown kind, %" PRIu64, kind);
	if (size % SECTOR != 0 || size / SECTOR >= FORMAT_LBA_LIMIT)
		return err_set(e, EBADMSG, "speaks of a virtual size of %" PRIu64, size);
	*out = (struct upper_intent){ .kind = (enum upper_intent_kind)kind, .virtual_size = size };
	memcpy(out->uuid, raw + OFF_UUID, FORMAT_UUID - 1);
	return 0;
}

/* -ENOENT: there is no such file. */
static int read_bytes(const struct file_ops *ops, const char *path, void *raw, size_t n,
		      uint64_t off, struct err *e)
{
	int fd = ops->open(path, O_RDONLY, 0), r;

	if (fd < 0)
		return err_set(e, -fd, "%s", strerror(-fd));
	r = upper_file_read(ops, fd, raw, n, off, e);
	ops->close(fd);
	return r;
}

/* The uuid is compared first: the file may be somebody else's, for all else that it may hold.  The
 * header of the data file may be one that is half changed, but for its uuid. */
static int read_older(const struct file_ops *ops, const char *data_path, struct upper_intent *out,
		      struct err *e)
{
	AUTO_FREE char *data = ops->true_name(data_path);
	AUTO_FREE char *path = upper_intent_older_name(ops, data_path, "intent");
	uint8_t raw[INTENT], uuid[FORMAT_UUID - 1];
	int r;

	if (!data || !path)
		return no_memory(e);
	if (read_bytes(ops, path, raw, INTENT, 0, NULL) < 0 ||
	    memcmp(raw, magic, sizeof magic) != 0)
		return 0;
	r = read_bytes(ops, data, uuid, sizeof uuid, OFF_HEADER_UUID, e);
	if (r < 0)
		return err_wrap(e, r, "%s", data);
	if (strncasecmp((char *)raw + OFF_UUID, (char *)uuid, sizeof uuid) != 0)
		return 0;
	r = parse(raw, out, e);
	out->older_name = true;
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

int upper_intent_read(const struct file_ops *ops, const char *data_path, struct upper_intent *out,
		      struct err *e)
{
	AUTO_FREE char *path = upper_intent_name(ops, data_path, "intent");
	uint8_t raw[INTENT];
	int r;

	*out = (struct upper_intent){ .kind = UPPER_INTENT_NONE };
	if (!path)
		return no_memory(e);
	r = read_bytes(ops, path, raw, INTENT, 0, e);
	if (r == -ENOENT)
		return read_older(ops, data_path, out, e);
	if (r == 0)
		r = parse(raw, out, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : 0;
}

static int write_file(const struct file_ops *ops, int fd, const char *temporary, const char *path,
		      const uint8_t raw[INTENT], struct err *e)
{
	int r = upper_file_write(ops, fd, raw, INTENT, 0, e);

	if (r < 0)
		return r;
	r = ops->datasync(fd);
	if (r == 0)
		r = ops->rename(temporary, path);
	return r < 0 ? err_set(e, -r, "%s", strerror(-r)) : 0;
}

int upper_intent_write(const struct file_ops *ops, const char *data_path, int data_fd,
		       const struct upper_intent *intent, struct err *e)
{
	AUTO_FREE char *path = upper_intent_name(ops, data_path, "intent");
	uint8_t raw[INTENT];
	char *temporary;
	int fd, r;

	if (!path)
		return no_memory(e);
	encode(intent, raw);
	fd = upper_file_temporary(ops, path, data_fd, &temporary, e);
	if (fd < 0)
		return fd;
	r = write_file(ops, fd, temporary, path, raw, e);
	ops->close(fd);
	if (r < 0)
		ops->unlink(temporary);
	free(temporary);
	return r < 0 ? err_wrap(e, r, "%s", path) : upper_file_sync_folder(ops, path, e);
}

static int remove_file(const struct file_ops *ops, const char *path, struct err *e)
{
	int r = path ? ops->unlink(path) : -ENOMEM;

	return r < 0 && r != -ENOENT ? err_set(e, -r, "%s: %s", path ? path : "", strerror(-r)) : 0;
}

bool upper_intent_is_part(const struct file_ops *ops, const char *path, enum format_part part,
			  const char *uuid)
{
	struct format_header h;
	struct source *s = NULL;
	int fd = ops->open(path, O_RDONLY, 0), r;

	if (fd < 0)
		return false;
	r = upper_file_source(ops, fd, &s, NULL);
	if (r == 0)
		r = format_read_header(&h, s, 0, part, NULL);
	source_close(s);
	ops->close(fd);
	return r == 0 && strcasecmp(h.uuid, uuid) == 0;
}

/* What no intent speaks of would only take space, if it is a part of this log. */
static int remove_new(const struct file_ops *ops, const char *path, enum format_part part,
		      const char *uuid, struct err *e)
{
	AUTO_FREE char *name = upper_intent_new_name(ops, path);

	if (!name)
		return no_memory(e);
	if (!upper_intent_is_part(ops, name, part, uuid))
		return 0;
	log_warn("%s: what a compaction that was stopped left is removed", name);
	return remove_file(ops, name, e);
}

static int remove_both(const struct file_ops *ops, const char *data_path, const char *index_path,
		       const char *uuid, struct err *e)
{
	int r = remove_new(ops, data_path, FORMAT_PART_LOG_DATA, uuid, e);

	return r < 0 ? r : remove_new(ops, index_path, FORMAT_PART_LOG_INDEX, uuid, e);
}

/* Durable: a change that was carried out must not be carried out again later. */
static int remove_intent(const struct file_ops *ops, const char *data_path, bool older_name,
			 struct err *e)
{
	AUTO_FREE char *path = older_name ? upper_intent_older_name(ops, data_path, "intent")
					  : upper_intent_name(ops, data_path, "intent");
	int r = remove_file(ops, path, e);

	return r < 0 ? r : upper_file_sync_folder(ops, path, e);
}

int upper_intent_remove(const struct file_ops *ops, const char *data_path, struct err *e)
{
	AUTO_FREE char *path = upper_intent_name(ops, data_path, "intent");
	struct upper_intent intent;
	int r;

	if (!path)
		return no_memory(e);
	r = upper_intent_read(ops, data_path, &intent, NULL);
	if (r < 0 && r != -ENOMEM)
		return err_set(e, EEXIST,
			       "%s: is in the way: changes of the layer would be kept under this "
			       "name",
			       path);
	if (r < 0 || intent.kind == UPPER_INTENT_NONE)
		return r < 0 ? no_memory(e) : 0;
	log_warn("%s: an intent of a layer that is gone (%s) is removed", path, intent.uuid);
	return remove_file(ops, path, e);
}

/* ---- carrying it out ---- */

int upper_intent_header(const struct upper_intent *intent, struct source *s, enum format_part part,
			struct format_header *out, struct err *e)
{
	uint8_t raw[FORMAT_SPACE];
	struct format_header h;

	if (intent->kind != UPPER_INTENT_RESIZE || s->size < FORMAT_SPACE ||
	    source_pread(s, raw, sizeof raw, 0, NULL) < 0)
		return format_read_header(out, s, 0, part, e);
	format_patch_size(raw, intent->virtual_size);
	if (format_parse_header(&h, raw, part, NULL) < 0 || strcasecmp(h.uuid, intent->uuid) != 0)
		return format_read_header(out, s, 0, part, e);
	*out = h;
	return 0;
}

/* Writes the new virtual size into one header. */
static int resize_file(const struct file_ops *ops, int fd, const struct upper_intent *intent,
		       const char *path, struct err *e)
{
	uint8_t raw[FORMAT_SPACE];
	int r = upper_file_read(ops, fd, raw, sizeof raw, 0, e);

	if (r == 0) {
		format_patch_size(raw, intent->virtual_size);
		r = upper_file_write(ops, fd, raw, sizeof raw, 0, e);
	}
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	r = ops->datasync(fd);
	return r < 0 ? err_set(e, -r, "%s: syncing: %s", path, strerror(-r)) : 0;
}

/* 1: the open file is a part of the log that the intent is for.  0: it is one of another log.  What
 * cannot be read, or is no part of a log, may be either. */
static int belongs(const struct file_ops *ops, int fd, enum format_part part,
		   const struct upper_intent *intent, const char *path, struct err *e)
{
	struct source *s;
	struct format_header h;
	int r = upper_file_source(ops, fd, &s, e);

	if (r == 0) {
		r = upper_intent_header(intent, s, part, &h, e);
		source_close(s);
	}
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	return strcasecmp(h.uuid, intent->uuid) == 0;
}

static int must_belong(const struct file_ops *ops, int fd, enum format_part part,
		       const struct upper_intent *intent, const char *path, struct err *e)
{
	int r = belongs(ops, fd, part, intent, path, e);

	if (r == 0)
		return err_set(e, EBADMSG, "%s: is no part of the layer that is being changed",
			       path);
	return r < 0 ? r : 0;
}

/* Both files are looked at before the first of them is written to. */
static int finish_resize(const struct file_ops *ops, const char *data_path, const char *index_path,
			 int data_fd, const struct upper_intent *intent, struct err *e)
{
	int fd = ops->open(index_path, O_RDWR, 0), r;

	if (fd < 0)
		return err_set(e, -fd, "%s: %s", index_path, strerror(-fd));
	r = must_belong(ops, fd, FORMAT_PART_LOG_INDEX, intent, index_path, e);
	if (r == 0)
		r = resize_file(ops, data_fd, intent, data_path, e);
	if (r == 0)
		r = resize_file(ops, fd, intent, index_path, e);
	ops->close(fd);
	return r;
}

/* Puts the new data file in the old one's place, and has its lock before others can open it. */
static int replace_data(const struct file_ops *ops, const char *data_path,
			const struct upper_intent *intent, int *data_fd, struct err *e)
{
	AUTO_FREE char *path = upper_intent_new_name(ops, data_path);
	int fd = path ? ops->open(path, O_RDWR, 0) : -ENOMEM, r;

	if (fd == -ENOENT)
		return 0; /* it is there already */
	if (fd < 0)
		return err_set(e, -fd, "%s: %s", path ? path : data_path, strerror(-fd));
	r = must_belong(ops, fd, FORMAT_PART_LOG_DATA, intent, path, e);
	if (r < 0) {
		ops->close(fd);
		return r;
	}
	r = ops->lock(fd);
	if (r == 0)
		r = ops->rename(path, data_path);
	if (r < 0) {
		ops->close(fd);
		return err_set(e, r == -EWOULDBLOCK ? EBUSY : -r, "%s: %s", path, strerror(-r));
	}
	ops->close(*data_fd);
	*data_fd = fd;
	return 0;
}

static int replace_index(const struct file_ops *ops, const char *index_path,
			 const struct upper_intent *intent, struct err *e)
{
	AUTO_FREE char *path = upper_intent_new_name(ops, index_path);
	int fd = path ? ops->open(path, O_RDONLY, 0) : -ENOMEM, r;

	if (fd == -ENOENT)
		return 0; /* it is there already */
	if (fd < 0)
		return err_set(e, -fd, "%s: %s", path ? path : index_path, strerror(-fd));
	r = must_belong(ops, fd, FORMAT_PART_LOG_INDEX, intent, path, e);
	ops->close(fd);
	if (r < 0)
		return r;
	r = ops->rename(path, index_path);
	return r < 0 ? err_set(e, -r, "%s: %s", path, strerror(-r)) : 0;
}

static int finish_compact(const struct file_ops *ops, const char *data_path, const char *index_path,
			  const struct upper_intent *intent, int *data_fd, struct err *e)
{
	int r = replace_data(ops, data_path, intent, data_fd, e);

	if (r == 0)
		r = replace_index(ops, index_path, intent, e);
	if (r < 0)
		return r;
	r = upper_file_sync_folder(ops, data_path, e);
	return r < 0 ? r : upper_file_sync_folder(ops, index_path, e);
}

/* 1: the open data file has this uuid, which is copied out.  0: it cannot be told, and who opens
 * the log says why. */
static int read_uuid(const struct file_ops *ops, int data_fd, char uuid[FORMAT_UUID])
{
	struct format_header h;
	struct source *s;
	int r;

	if (upper_file_source(ops, data_fd, &s, NULL) < 0)
		return 0;
	r = format_read_header(&h, s, 0, FORMAT_PART_LOG_DATA, NULL);
	source_close(s);
	if (r == 0)
		memcpy(uuid, h.uuid, FORMAT_UUID);
	return r == 0;
}

int upper_intent_finish(const struct file_ops *ops, const char *data_path, const char *index_path,
			int *data_fd, struct err *e)
{
	AUTO_FREE char *data = ops->true_name(data_path);
	AUTO_FREE char *index = ops->true_name(index_path);
	char uuid[FORMAT_UUID];
	struct upper_intent intent;
	int r = data && index ? upper_intent_read(ops, data, &intent, e) : no_memory(e);

	if (r < 0)
		return r;
	if (intent.kind != UPPER_INTENT_NONE) {
		r = belongs(ops, *data_fd, FORMAT_PART_LOG_DATA, &intent, data_path, e);
		if (r == 0) {
			log_warn("%s: an intent for another layer, %s, is removed", data,
				 intent.uuid);
			r = remove_intent(ops, data, intent.older_name, e);
			intent.kind = UPPER_INTENT_NONE;
		}
	}
	if (r < 0)
		return r;
	if (intent.kind == UPPER_INTENT_NONE)
		return read_uuid(ops, *data_fd, uuid) ? remove_both(ops, data, index, uuid, e) : 0;
	r = intent.kind == UPPER_INTENT_RESIZE
		    ? finish_resize(ops, data, index, *data_fd, &intent, e)
		    : finish_compact(ops, data, index, &intent, data_fd, e);
	return r < 0 ? r : remove_intent(ops, data, intent.older_name, e);
}
