/* SPDX-License-Identifier: Apache-2.0 */
/* upper_pending.c - acknowledged records, see upper_pending.h. */
#include "core/upper_pending.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/upper_intent.h"
#include "core/upper_records.h"

enum {
	OFF_PID = 8,
	OFF_BOOT_ID = 16,
	OFF_UUID = 52,
	OFF_BASE = 88,
	OFF_BASE_CRC = 96,
	OFF_GENERATION = 100,
	OFF_NEXT = 104,
	OFF_NEXT_CRC = 112,
	OFF_SKIP = 116,
	OFF_NEXT_SKIP = 124,
	OFF_CRC = 252,
	HEADER = 256,
	OFF_CRC_1 = 124, /* of the older form; what stands before OFF_BASE is the same in both */
	HEADER_1 = 128,

	OFF_DATA_CRC = 16, /* in a record */
	OFF_RECORD_CRC = 28,
	RECORD = 32, /* divides a page: a process that dies leaves whole ones */
	RECORD_1 = FORMAT_ENTRY,
	PIECE_RECORDS = 4096, /* copied at once */
};

static const char magic[8] = "OBDPEND2";
static const char magic_1[8] = "OBDPEND1"; /* of older versions, see upper_pending.h */

uint64_t upper_pending_begins(void)
{
	return HEADER;
}

/* ---- the header ---- */

struct header {
	uint64_t pid;
	char boot_id[FILE_BOOT_ID];
	char uuid[FORMAT_UUID];
	uint32_t generation;
	struct upper_pending_base base, next_base;
	bool older; /* the older form: what stands before OFF_BASE is all */
};

static void encode_header(const struct upper_pending *p, const struct header *h,
			  uint8_t raw[HEADER])
{
	memset(raw, 0, HEADER);
	memcpy(raw, magic, sizeof magic);
	le64_put(raw + OFF_PID, (uint64_t)getpid());
	memcpy(raw + OFF_BOOT_ID, p->boot_id, FILE_BOOT_ID - 1);
	memcpy(raw + OFF_UUID, p->uuid, FORMAT_UUID - 1);
	le64_put(raw + OFF_BASE, h->base.entries);
	le32_put(raw + OFF_BASE_CRC, h->base.crc);
	le32_put(raw + OFF_GENERATION, h->generation);
	le64_put(raw + OFF_NEXT, h->next_base.entries);
	le32_put(raw + OFF_NEXT_CRC, h->next_base.crc);
	le64_put(raw + OFF_SKIP, h->base.skip);
	le64_put(raw + OFF_NEXT_SKIP, h->next_base.skip);
	le32_put(raw + OFF_CRC, crc32c_raw(0, raw, OFF_CRC));
}

static bool parse_header(const uint8_t raw[HEADER], struct header *h)
{
	bool older = memcmp(raw, magic_1, sizeof magic_1) == 0;
	size_t end = older ? OFF_CRC_1 : OFF_CRC;

	if ((!older && memcmp(raw, magic, sizeof magic) != 0) ||
	    le32_get(raw + end) != crc32c_raw(0, raw, end))
		return false;
	*h = (struct header){ .pid = le64_get(raw + OFF_PID), .older = older };
	if (!older) {
		h->generation = le32_get(raw + OFF_GENERATION);
		h->base = (struct upper_pending_base){ le64_get(raw + OFF_BASE),
						       le32_get(raw + OFF_BASE_CRC),
						       le64_get(raw + OFF_SKIP) };
		h->next_base = (struct upper_pending_base){ le64_get(raw + OFF_NEXT),
							    le32_get(raw + OFF_NEXT_CRC),
							    le64_get(raw + OFF_NEXT_SKIP) };
	}
	memcpy(h->boot_id, raw + OFF_BOOT_ID, FILE_BOOT_ID - 1);
	memcpy(h->uuid, raw + OFF_UUID, FORMAT_UUID - 1);
	return true;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
	static const uint8_t zeroes[HEADER];

	return memcmp(bytes, zeroes, n) == 0;
}

/* ---- reading ---- */

/* A pending file that is being read. */
struct pending_file {
	const struct file_ops *ops;
	const char *path;
	int fd;
	uint64_t size;
};

static bool is_magic(const uint8_t *raw)
{
	return memcmp(raw, magic, sizeof magic) == 0 || memcmp(raw, magic_1, sizeof magic_1) == 0;
}

/* 1: its header is whole.  0: there is none: power loss leaves a file that is empty, or zeroes. */
static int read_header(const struct pending_file *f, struct header *h, struct err *e)
{
	uint8_t raw[HEADER] = { 0 };
	size_t n = (size_t)min_u64(f->size, HEADER);
	int r = upper_file_read(f->ops, f->fd, raw, n, 0, e);

	if (r < 0)
		return r;
	if (is_zero(raw, HEADER))
		return 0;
	if (parse_header(raw, h))
		return 1;
	return err_set(
		e, EBADMSG, "%s",
		is_magic(raw)
			? "its header is damaged: 'overlaybd repair' drops what it holds"
			: "is no file of acknowledged writes, or is damaged: move it away, or "
			  "'overlaybd repair' drops what it holds");
}

/* A record of the older form, which has no checksum.  False: it is damaged. */
static bool parse_older_record(const uint8_t raw[RECORD_1], struct upper_pending_record *out)
{
	struct format_entry entry = format_parse_entry(raw);

	if (format_entry_fault(&entry, 0, INDEX_MAX_MOFFSET))
		return false;
	*out = (struct upper_pending_record){
		.map = mapping_make(entry.start, entry.sectors, 0, entry.moffset, entry.zeroed),
	};
	return true;
}

/* False: it is damaged. */
static bool parse_record(const uint8_t raw[RECORD], uint32_t salt, struct upper_pending_record *out)
{
	struct format_entry entry = format_parse_entry(raw);

	if (le32_get(raw + OFF_RECORD_CRC) != crc32c_raw(salt, raw, OFF_RECORD_CRC) ||
	    format_entry_fault(&entry, 0, INDEX_MAX_MOFFSET))
		return false;
	*out = (struct upper_pending_record){
		.map = mapping_make(entry.start, entry.sectors, 0, entry.moffset, entry.zeroed),
		.crc = le32_get(raw + OFF_DATA_CRC),
	};
	return true;
}

/* Takes the records behind the header, but for a part of one: that was not acknowledged.  One of
 * zeroes and all behind it never reached the file, where a file system went down. */
static int read_records(const struct pending_file *f, const struct header *h,
			struct upper_pending_content *out, struct err *e)
{
	size_t header = h->older ? HEADER_1 : HEADER, size = h->older ? RECORD_1 : RECORD;
	size_t n = (size_t)((f->size - header) / size);
	AUTO_FREE uint8_t *raw = NULL;
	int r;

	if (n > FORMAT_MAX_ENTRIES)
		return err_set(e, EFBIG, "%zu records, more than %" PRIu64, n, FORMAT_MAX_ENTRIES);
	if (n == 0)
		return 0;
	raw = malloc(n * size);
	out->records = malloc(n * sizeof *out->records);
	if (!raw || !out->records)
		return err_set(e, ENOMEM, "out of memory for %zu records", n);
	r = upper_file_read(f->ops, f->fd, raw, n * size, header, e);
	for (; r == 0 && out->count < n; out->count++) {
		const uint8_t *record = raw + out->count * size;
		struct upper_pending_record *to = &out->records[out->count];

		if (is_zero(record, size))
			break;
		if (h->older ? !parse_older_record(record, to)
			     : !parse_record(record, h->generation + (uint32_t)out->count, to))
			return err_set(e, EBADMSG,
				       "record %zu of %zu is damaged: 'overlaybd repair' drops "
				       "what it holds",
				       out->count, n);
	}
	return r;
}

static int read_file(struct pending_file *f, const char *uuid, struct upper_pending_content *out,
		     struct err *e)
{
	char boot_id[FILE_BOOT_ID];
	struct header h;
	int r = f->ops->size(f->fd, &f->size);

	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	r = read_header(f, &h, e);
	if (r <= 0)
		return r;
	if (strcasecmp(h.uuid, uuid) != 0)
		return err_set(e, EBADMSG,
			       "holds acknowledged writes of another layer, %s: move it away",
			       h.uuid);
	r = f->ops->boot_id(boot_id);
	if (r < 0)
		return err_set(e, -r, "the boot id of this machine: %s", strerror(-r));
	if (strcmp(h.boot_id, boot_id) != 0)
		return 0;
	out->base = h.base;
	out->next_base = h.next_base;
	out->pid = h.pid;
	out->older = h.older;
	out->is_there = true;
	return read_records(f, &h, out, e);
}

static char *name_of(const struct file_ops *ops, const char *data_path)
{
	return upper_intent_name(ops, data_path, "pending");
}

/* Whether older versions left a pending file of this log under the name that they gave it, where
 * that is another one.  What else lies there is none of ours. */
static bool is_older(const struct pending_file *f, const char *uuid)
{
	uint8_t raw[HEADER_1];

	return upper_file_read(f->ops, f->fd, raw, sizeof raw, 0, NULL) == 0 &&
	       memcmp(raw, magic_1, sizeof magic_1) == 0 &&
	       strncasecmp((const char *)raw + OFF_UUID, uuid, FORMAT_UUID - 1) == 0;
}

/* Reads the file at `path`, if there is one. */
static int read_at(const struct file_ops *ops, const char *path, bool older_name, const char *uuid,
		   struct upper_pending_content *out, struct err *e)
{
	struct pending_file f = { .ops = ops, .path = path, .fd = ops->open(path, O_RDONLY, 0) };
	int r = 0;

	if (f.fd == -ENOENT || (f.fd < 0 && older_name))
		return 0;
	if (f.fd < 0)
		return err_set(e, -f.fd, "%s: %s", path, strerror(-f.fd));
	if (!older_name || is_older(&f, uuid))
		r = read_file(&f, uuid, out, e);
	ops->close(f.fd);
	if (r == 0)
		return 0;
	free(out->records);
	*out = (struct upper_pending_content){ 0 };
	return err_wrap(e, r, "%s", path);
}

int upper_pending_read(const struct file_ops *ops, const char *data_path, const char *uuid,
		       struct upper_pending_content *out, struct err *e)
{
	AUTO_FREE char *path = name_of(ops, data_path);
	AUTO_FREE char *older = upper_intent_older_name(ops, data_path, "pending");
	int r;

	*out = (struct upper_pending_content){ 0 };
	if (!path || !older)
		return err_set(e, ENOMEM, "out of memory");
	r = read_at(ops, path, false, uuid, out, e);
	if (r < 0 || out->is_there || strcmp(path, older) == 0)
		return r;
	free(out->records);
	*out = (struct upper_pending_content){ 0 };
	return read_at(ops, older, true, uuid, out, e);
}

/* 1: the file at path begins as a pending file does, whole or not; 0: there is none. */
static int look(const struct file_ops *ops, const char *path, struct header *h)
{
	struct pending_file f = { .ops = ops, .path = path, .fd = ops->open(path, O_RDONLY, 0) };
	uint8_t raw[sizeof magic];
	int r;

	if (f.fd < 0)
		return f.fd == -ENOENT ? 0 : f.fd;
	r = ops->size(f.fd, &f.size);
	if (r == 0)
		r = read_header(&f, h, NULL);
	if (r == -EBADMSG && upper_file_read(ops, f.fd, raw, sizeof raw, 0, NULL) == 0 &&
	    is_magic(raw))
		r = 0;
	ops->close(f.fd);
	return r < 0 ? r : 1;
}

/* 1: the file at `path` is a pending file of the log with this uuid, whole or damaged: magic or
 * uuid may be what is damaged.  0: it is not, or there is none. */
static int is_of(const struct file_ops *ops, const char *path, const char *uuid)
{
	int fd = ops->open(path, O_RDONLY, 0), r;
	uint8_t raw[HEADER] = { 0 };
	uint64_t size = 0;

	if (fd < 0)
		return fd == -ENOENT || fd == -ELOOP ? 0 : fd;
	r = ops->size(fd, &size);
	if (r == 0)
		r = upper_file_read(ops, fd, raw, (size_t)min_u64(size, sizeof raw), 0, NULL);
	ops->close(fd);
	if (r < 0)
		return r == -EISDIR ? 0 : r; /* no file */
	return is_magic(raw) ||
	       strncasecmp((const char *)raw + OFF_UUID, uuid, FORMAT_UUID - 1) == 0;
}

int upper_pending_discard(const struct file_ops *ops, const char *data_path, const char *uuid,
			  bool *removed, struct err *e)
{
	AUTO_FREE char *path = name_of(ops, data_path);
	AUTO_FREE char *older = upper_intent_older_name(ops, data_path, "pending");
	bool is_another = path && older && strcmp(path, older) != 0;
	struct pending_file f = { .ops = ops, .path = older };
	int r = path && older ? 0 : err_set(e, ENOMEM, "out of memory");

	*removed = false;
	if (r < 0)
		return r;
	r = is_of(ops, path, uuid);
	if (r > 0) {
		r = ops->unlink(path);
		*removed = r == 0;
	}
	if (r < 0)
		return err_set(e, -r, "%s: %s", path, strerror(-r));
	f.fd = is_another ? ops->open(older, O_RDONLY, 0) : -ENOENT;
	if (f.fd < 0)
		return 0;
	if (is_older(&f, uuid)) {
		r = ops->unlink(older);
		*removed |= r == 0;
	}
	ops->close(f.fd);
	return r < 0 ? err_set(e, -r, "%s: %s", older, strerror(-r)) : 0;
}

uint64_t upper_pending_holder(const struct file_ops *ops, const char *data_path)
{
	AUTO_FREE char *path = name_of(ops, data_path);
	struct header h = { 0 };

	return path && look(ops, path, &h) == 1 ? h.pid : 0;
}

int upper_pending_remove(const struct file_ops *ops, const char *data_path, struct err *e)
{
	AUTO_FREE char *path = name_of(ops, data_path);
	struct header h = { 0 };
	int r = path ? look(ops, path, &h) : -ENOMEM;

	if (r == 0)
		return 0;
	if (r == -EBADMSG || r == -ELOOP || r == -EINVAL)
		return err_set(e, EEXIST,
			       "%s: is in the way: the layer would keep acknowledged writes under "
			       "this name",
			       path);
	if (r > 0) {
		log_warn("%s: acknowledged writes of a layer that is gone (%s) are removed", path,
			 h.uuid);
		r = ops->unlink(path);
	}
	return r < 0 && r != -ENOENT ? err_set(e, -r, "%s: %s", path, strerror(-r)) : 0;
}

/* ---- writing ---- */

/* Notes what an older version left under another name. */
static int find_older(struct upper_pending *p, const char *data_path, struct err *e)
{
	AUTO_FREE char *path = upper_intent_older_name(p->ops, data_path, "pending");
	struct pending_file f = { .ops = p->ops, .path = path };

	if (!path)
		return err_set(e, ENOMEM, "out of memory");
	f.fd = strcmp(path, p->path) == 0 ? -ENOENT : p->ops->open(path, O_RDONLY, 0);
	if (f.fd < 0)
		return 0;
	if (is_older(&f, p->uuid))
		p->older_path = TAKE_PTR(path);
	p->ops->close(f.fd);
	return 0;
}

int upper_pending_init(struct upper_pending *p, const struct file_ops *ops, const char *data_path,
		       int data_fd, const char *uuid, struct err *e)
{
	int r;

	*p = (struct upper_pending){
		.ops = ops, .fd = -1, .like = data_fd, .path = name_of(ops, data_path)
	};
	memcpy(p->uuid, uuid, strnlen(uuid, FORMAT_UUID - 1));
	r = p->path ? find_older(p, data_path, e) : err_set(e, ENOMEM, "out of memory");
	if (r < 0)
		return r;
	if (getrandom(&p->generation, sizeof p->generation, 0) != (ssize_t)sizeof p->generation)
		return err_set(e, errno, "random bytes: %s", strerror(errno));
	r = ops->boot_id(p->boot_id);
	return r < 0 ? err_set(e, -r, "the boot id of this machine: %s", strerror(-r)) : 0;
}

/* Writes n records as numbers `number` and on. */
static int write_records(const struct upper_pending *p, int fd, uint32_t generation,
			 const struct upper_pending_record *records, size_t n, uint64_t number,
			 struct err *e)
{
	uint8_t raw[UPPER_PENDING_BATCH * RECORD];
	size_t done, batch, i;
	int r = 0;

	for (done = 0; r == 0 && done < n; done += batch) {
		batch = (size_t)min_u64(n - done, UPPER_PENDING_BATCH);
		memset(raw, 0, batch * RECORD);
		for (i = 0; i < batch; i++) {
			uint8_t *to = raw + i * RECORD;

			upper_records_encode(&records[done + i].map, 1, to);
			le32_put(to + OFF_DATA_CRC, records[done + i].crc);
			le32_put(to + OFF_RECORD_CRC,
				 crc32c_raw(generation + (uint32_t)(number + done + i), to,
					    OFF_RECORD_CRC));
		}
		r = upper_file_write(p->ops, fd, raw, batch * RECORD,
				     HEADER + (number + done) * RECORD, e);
	}
	return r;
}

static int write_header(const struct upper_pending *p, int fd, const struct header *h,
			struct err *e)
{
	uint8_t raw[HEADER];

	encode_header(p, h, raw);
	return upper_file_write(p->ops, fd, raw, HEADER, 0, e);
}

/* What an older version left under another name is in the file of the usual name now, or is not to
 * count. */
static int remove_older(struct upper_pending *p, struct err *e)
{
	int r = p->older_path ? p->ops->unlink(p->older_path) : 0;

	if (r < 0 && r != -ENOENT)
		return err_set(e, -r, "%s: cannot be removed: %s", p->older_path, strerror(-r));
	free(p->older_path);
	p->older_path = NULL;
	return 0;
}

/* Puts a file that was made under a temporary name in the place of the old one. */
static int replace(struct upper_pending *p, int fd, const char *temporary, const struct header *h,
		   uint64_t end, struct err *e)
{
	int r = p->ops->rename(temporary, p->path);
	struct err why;

	if (r < 0)
		return err_set(e, -r, "%s: %s", p->path, strerror(-r));
	if (p->fd >= 0)
		p->ops->close(p->fd);
	p->fd = fd;
	p->end = end;
	p->generation = h->generation;
	p->base = h->base;
	p->next_base = (struct upper_pending_base){ 0 };
	p->unsure = p->waits = false;
	/* As long as this file is there, that one does not count. */
	if (remove_older(p, &why) < 0)
		log_warn("%s", why.msg);
	return 0;
}

/* What goes into a new file. */
struct content {
	const struct upper_pending_record *records;
	size_t n;
	uint64_t from; /* records NULL: those of the old file, from this byte on */
};

static int copy_records(const struct upper_pending *p, int fd, uint32_t generation, uint64_t from,
			struct err *e)
{
	AUTO_FREE uint8_t *raw = malloc(PIECE_RECORDS * RECORD);
	AUTO_FREE struct upper_pending_record *records = malloc(PIECE_RECORDS * sizeof *records);
	uint64_t number = (from - HEADER) / RECORD, end = (p->end - HEADER) / RECORD, written = 0;
	size_t n, i;
	int r = 0;

	if (!raw || !records)
		return err_set(e, ENOMEM, "out of memory");
	for (; r == 0 && number < end; number += n, written += n) {
		n = (size_t)min_u64(end - number, PIECE_RECORDS);
		r = upper_file_read(p->ops, p->fd, raw, n * RECORD, HEADER + number * RECORD, e);
		for (i = 0; r == 0 && i < n; i++)
			if (!parse_record(raw + i * RECORD, p->generation + (uint32_t)(number + i),
					  &records[i]))
				r = err_set(e, EBADMSG, "record %" PRIu64 " is damaged",
					    number + i);
		if (r == 0)
			r = write_records(p, fd, generation, records, n, written, e);
	}
	return r;
}

static int fill(struct upper_pending *p, int fd, const char *temporary, const struct header *h,
		const struct content *c, struct err *e)
{
	uint64_t end = HEADER + (c->from > 0 ? p->end - c->from : c->n * RECORD);
	int r = write_header(p, fd, h, e);

	if (r == 0 && c->from > 0)
		r = copy_records(p, fd, h->generation, c->from, e);
	else if (r == 0)
		r = write_records(p, fd, h->generation, c->records, c->n, 0, e);
	return r < 0 ? r : replace(p, fd, temporary, h, end, e);
}

static int make_anew(struct upper_pending *p, const struct upper_pending_base *base,
		     const struct content *c, struct err *e)
{
	struct header h = { .base = *base, .generation = p->generation + 1 };
	char *temporary;
	int fd = upper_file_temporary(p->ops, p->path, p->like, &temporary, e), r;

	if (fd < 0)
		return fd;
	r = fill(p, fd, temporary, &h, c, e);
	if (r < 0) {
		p->ops->close(fd);
		p->ops->unlink(temporary);
		(void)err_wrap(e, r, "%s", temporary);
	}
	free(temporary);
	return r;
}

int upper_pending_begin(struct upper_pending *p, const struct upper_pending_base *base,
			const struct upper_pending_record *records, size_t n, struct err *e)
{
	return make_anew(p, base, &(struct content){ .records = records, .n = n }, e);
}

int upper_pending_shorten(struct upper_pending *p, const struct upper_pending_base *base,
			  uint64_t from, struct err *e)
{
	return make_anew(p, base, &(struct content){ .from = from }, e);
}

/* The records go first.  Without them and with the old base it says nothing, whatever the index
 * has; with them and the new base it would say that they follow on what they are in already. */
int upper_pending_empty(struct upper_pending *p, const struct upper_pending_base *base,
			struct err *e)
{
	struct header h = { .base = *base, .generation = p->generation + 1 };
	int r = p->fd < 0 ? 0 : p->ops->truncate(p->fd, HEADER);

	if (r < 0 || p->fd < 0)
		return r < 0 ? err_set(e, -r, "%s: %s", p->path, strerror(-r)) : 0;
	p->end = HEADER;
	p->unsure = true;
	r = write_header(p, p->fd, &h, e);
	if (r < 0)
		return err_wrap(e, r, "%s", p->path);
	p->base = *base;
	p->next_base = (struct upper_pending_base){ 0 };
	p->generation = h.generation;
	p->unsure = false;
	return 0;
}

static int rewrite_header(struct upper_pending *p, struct err *e)
{
	struct header h = { .base = p->base,
			    .next_base = p->next_base,
			    .generation = p->generation };
	int r = p->fd < 0 ? 0 : write_header(p, p->fd, &h, e);

	return r < 0 ? err_wrap(e, r, "%s", p->path) : 0;
}

int upper_pending_announce(struct upper_pending *p, const struct upper_pending_base *next,
			   uint64_t from, struct err *e)
{
	p->next_base = *next;
	p->next_base.skip = from / RECORD - HEADER / RECORD;
	return rewrite_header(p, e);
}

/* While the old base stays too, it does no harm; but there is no third place for the next one. */
int upper_pending_adopt(struct upper_pending *p, struct err *e)
{
	int r;

	p->base = p->next_base;
	p->next_base = (struct upper_pending_base){ 0 };
	r = rewrite_header(p, e);
	p->unsure |= r < 0;
	return r;
}

int upper_pending_append(struct upper_pending *p, const struct upper_pending_record *records,
			 size_t n, struct err *e)
{
	int r;

	if (p->unsure || p->fd < 0)
		return err_set(e, EIO, "%s: an earlier write failed", p->path);
	r = write_records(p, p->fd, p->generation, records, n, (p->end - HEADER) / RECORD, e);
	if (r == 0) {
		p->end += n * RECORD;
		return 0;
	}
	/* What was written of it must not be replayed. */
	p->unsure = p->ops->truncate(p->fd, p->end) < 0;
	return err_wrap(e, r, "%s", p->path);
}

int upper_pending_write_pid(struct upper_pending *p, struct err *e)
{
	return rewrite_header(p, e);
}

/* Who may not remove names from the folder can still empty the file, which is as good. */
int upper_pending_drop(struct upper_pending *p, struct err *e)
{
	int emptied = -EBADF, r;

	if (p->fd < 0 && !p->waits)
		return 0;
	if (p->fd >= 0) {
		emptied = p->ops->truncate(p->fd, HEADER);
		p->ops->close(p->fd);
	}
	p->fd = -1;
	p->waits = false;
	r = p->ops->unlink(p->path);
	if (r == 0 || r == -ENOENT)
		return remove_older(p, e);
	if (emptied < 0)
		return err_set(e, -r, "%s: cannot be removed: %s", p->path, strerror(-r));
	log_warn("%s: it is empty, but cannot be removed: %s", p->path, strerror(-r));
	return remove_older(p, e);
}

void upper_pending_release(struct upper_pending *p)
{
	if (p->fd >= 0)
		p->ops->close(p->fd);
	free(p->path);
	free(p->older_path);
	*p = (struct upper_pending){ .fd = -1 };
}
