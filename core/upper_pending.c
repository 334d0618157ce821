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
	OFF_CRC = 124,
	HEADER = 128,
};

static const char magic[8] = "OBDPEND1";

/* ---- the header ---- */

struct header {
	uint64_t pid;
	char boot_id[FILE_BOOT_ID];
	char uuid[FORMAT_UUID];
};

static void encode_header(const struct upper_pending *p, uint8_t raw[HEADER])
{
	memset(raw, 0, HEADER);
	memcpy(raw, magic, sizeof magic);
	le64_put(raw + OFF_PID, (uint64_t)getpid());
	memcpy(raw + OFF_BOOT_ID, p->boot_id, FILE_BOOT_ID - 1);
	memcpy(raw + OFF_UUID, p->uuid, FORMAT_UUID - 1);
	le32_put(raw + OFF_CRC, crc32c_raw(0, raw, OFF_CRC));
}

static bool parse_header(const uint8_t raw[HEADER], struct header *h)
{
	if (memcmp(raw, magic, sizeof magic) != 0 ||
	    le32_get(raw + OFF_CRC) != crc32c_raw(0, raw, OFF_CRC))
		return false;
	*h = (struct header){ .pid = le64_get(raw + OFF_PID) };
	memcpy(h->boot_id, raw + OFF_BOOT_ID, FILE_BOOT_ID - 1);
	memcpy(h->uuid, raw + OFF_UUID, FORMAT_UUID - 1);
	return true;
}

/* ---- reading ---- */

/* A pending file that is being read. */
struct pending_file {
	const struct file_ops *ops;
	const char *path;
	int fd;
	uint64_t size;
};

/* 1: its header is whole. */
static int read_header(const struct pending_file *f, struct header *h, struct err *e)
{
	uint8_t raw[HEADER];
	int r;

	if (f->size < HEADER)
		return 0;
	r = upper_file_read(f->ops, f->fd, raw, HEADER, 0, e);
	return r < 0 ? r : parse_header(raw, h);
}

/* Takes the records in [HEADER, f->size). */
static int read_records(const struct pending_file *f, uint64_t data_size,
			struct upper_pending_content *out, struct err *e)
{
	uint64_t data_end = min_u64(data_size / SECTOR, INDEX_MAX_MOFFSET);
	size_t n = (size_t)((f->size - HEADER) / FORMAT_ENTRY);
	AUTO_FREE uint8_t *raw = NULL;
	int r;

	if (n > FORMAT_MAX_ENTRIES)
		return err_set(e, EFBIG, "%zu records, more than %" PRIu64, n, FORMAT_MAX_ENTRIES);
	raw = malloc(n * FORMAT_ENTRY + 1);
	out->entries = malloc(n * sizeof *out->entries + 1);
	if (!raw || !out->entries)
		return err_set(e, ENOMEM, "out of memory for %zu records", n);
	r = upper_file_read(f->ops, f->fd, raw, n * FORMAT_ENTRY, HEADER, e);
	for (; r == 0 && out->count < n; out->count++) {
		struct format_entry entry = format_parse_entry(raw + out->count * FORMAT_ENTRY);
		const char *fault = format_entry_fault(&entry, 0, data_end);

		if (fault) {
			log_warn("%s: record %zu of %zu: %s; it and those behind it are ignored",
				 f->path, out->count, n, fault);
			break;
		}
		out->entries[out->count] = entry;
	}
	return r;
}

static int read_file(struct pending_file *f, const char *uuid, uint64_t data_size,
		     struct upper_pending_content *out, struct err *e)
{
	char boot_id[FILE_BOOT_ID];
	struct header h;
	int r = f->ops->size(f->fd, &f->size);

	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	r = read_header(f, &h, e);
	if (r <= 0)
		return r;
	r = f->ops->boot_id(boot_id);
	if (r < 0)
		return err_set(e, -r, "the boot id of this machine: %s", strerror(-r));
	if (strcmp(h.boot_id, boot_id) != 0)
		return 0;
	if (strcasecmp(h.uuid, uuid) != 0) {
		log_warn("%s: belongs to another layer, %s: ignored", f->path, h.uuid);
		return 0;
	}
	return read_records(f, data_size, out, e);
}

int upper_pending_read(const struct file_ops *ops, const char *data_path, const char *uuid,
		       uint64_t data_size, struct upper_pending_content *out, struct err *e)
{
	AUTO_FREE char *path = upper_intent_name(ops, data_path, ".pending");
	struct pending_file f = { .ops = ops, .path = path };
	int r;

	*out = (struct upper_pending_content){ 0 };
	if (!path)
		return err_set(e, ENOMEM, "out of memory");
	f.fd = ops->open(path, O_RDONLY, 0);
	if (f.fd == -ENOENT)
		return 0;
	if (f.fd < 0)
		return err_set(e, -f.fd, "%s: %s", path, strerror(-f.fd));
	r = read_file(&f, uuid, data_size, out, e);
	ops->close(f.fd);
	if (r == 0)
		return 0;
	free(out->entries);
	*out = (struct upper_pending_content){ 0 };
	return err_wrap(e, r, "%s", path);
}

uint64_t upper_pending_holder(const struct file_ops *ops, const char *data_path)
{
	AUTO_FREE char *path = upper_intent_name(ops, data_path, ".pending");
	struct pending_file f = { .ops = ops, .path = path };
	struct header h = { 0 };

	f.fd = path ? ops->open(path, O_RDONLY, 0) : -ENOMEM;
	if (f.fd < 0)
		return 0;
	if (ops->size(f.fd, &f.size) < 0 || read_header(&f, &h, NULL) != 1)
		h.pid = 0;
	ops->close(f.fd);
	return h.pid;
}

int upper_pending_remove(const struct file_ops *ops, const char *data_path, struct err *e)
{
	AUTO_FREE char *path = upper_intent_name(ops, data_path, ".pending");
	int r = path ? ops->unlink(path) : -ENOMEM;

	return r < 0 && r != -ENOENT ? err_set(e, -r, "%s: %s", path, strerror(-r)) : 0;
}

/* ---- writing ---- */

int upper_pending_init(struct upper_pending *p, const struct file_ops *ops, const char *data_path,
		       const char *uuid, struct err *e)
{
	int r;

	*p = (struct upper_pending){ .ops = ops,
				     .fd = -1,
				     .path = upper_intent_name(ops, data_path, ".pending") };
	memcpy(p->uuid, uuid, strnlen(uuid, FORMAT_UUID - 1));
	if (!p->path || asprintf(&p->temporary, "%s.tmp", p->path) < 0) {
		p->temporary = NULL;
		return err_set(e, ENOMEM, "out of memory");
	}
	r = ops->boot_id(p->boot_id);
	return r < 0 ? err_set(e, -r, "the boot id of this machine: %s", strerror(-r)) : 0;
}

/* Writes n records at `off`, however many they are. */
static int write_records(const struct upper_pending *p, int fd, const struct mapping *records,
			 size_t n, uint64_t off, struct err *e)
{
	uint8_t raw[UPPER_PENDING_BATCH * FORMAT_ENTRY];
	size_t done = 0, batch;
	int r = 0;

	for (; r == 0 && done < n; done += batch) {
		batch = (size_t)min_u64(n - done, UPPER_PENDING_BATCH);
		upper_records_encode(records + done, batch, raw);
		r = upper_file_write(p->ops, fd, raw, batch * FORMAT_ENTRY,
				     off + done * FORMAT_ENTRY, e);
	}
	return r;
}

int upper_pending_begin(struct upper_pending *p, const struct mapping *records, size_t n,
			struct err *e)
{
	int fd = p->ops->open(p->temporary, O_RDWR | O_CREAT | O_TRUNC, 0644);
	uint8_t raw[HEADER];
	int r;

	if (fd < 0)
		return err_set(e, -fd, "%s: %s", p->temporary, strerror(-fd));
	encode_header(p, raw);
	r = upper_file_write(p->ops, fd, raw, HEADER, 0, e);
	if (r == 0)
		r = write_records(p, fd, records, n, HEADER, e);
	if (r == 0) {
		r = p->ops->rename(p->temporary, p->path);
		if (r < 0)
			err_set(e, -r, "rename: %s", strerror(-r));
	}
	if (r < 0) {
		p->ops->close(fd);
		p->ops->unlink(p->temporary);
		return err_wrap(e, r, "%s", p->temporary);
	}
	if (p->fd >= 0)
		p->ops->close(p->fd);
	p->fd = fd;
	p->end = HEADER + n * FORMAT_ENTRY;
	p->unsure = p->waits = false;
	return 0;
}

int upper_pending_empty(struct upper_pending *p, struct err *e)
{
	int r = p->fd < 0 ? 0 : p->ops->truncate(p->fd, HEADER);

	if (r < 0)
		return err_set(e, -r, "%s: %s", p->path, strerror(-r));
	p->end = HEADER;
	p->unsure = false;
	return 0;
}

int upper_pending_append(struct upper_pending *p, const struct mapping *records, size_t n,
			 struct err *e)
{
	int r;

	if (p->unsure || p->fd < 0)
		return err_set(e, EIO, "%s: an earlier write failed", p->path);
	r = write_records(p, p->fd, records, n, p->end, e);
	if (r == 0) {
		p->end += n * FORMAT_ENTRY;
		return 0;
	}
	/* What was written of it must not be replayed. */
	p->unsure = p->ops->truncate(p->fd, p->end) < 0;
	return err_wrap(e, r, "%s", p->path);
}

int upper_pending_write_pid(struct upper_pending *p, struct err *e)
{
	uint8_t raw[HEADER];
	int r;

	if (p->fd < 0)
		return 0;
	encode_header(p, raw);
	r = upper_file_write(p->ops, p->fd, raw, HEADER, 0, e);
	return r < 0 ? err_wrap(e, r, "%s", p->path) : 0;
}

void upper_pending_drop(struct upper_pending *p)
{
	int r;

	if (p->fd < 0 && !p->waits)
		return;
	if (p->fd >= 0) {
		/* Who may not remove names from the folder can still do this. */
		(void)p->ops->truncate(p->fd, HEADER);
		p->ops->close(p->fd);
	}
	p->fd = -1;
	p->waits = false;
	r = p->ops->unlink(p->path);
	if (r < 0 && r != -ENOENT)
		log_warn("%s: cannot be removed: %s", p->path, strerror(-r));
}

void upper_pending_release(struct upper_pending *p)
{
	if (p->fd >= 0)
		p->ops->close(p->fd);
	free(p->path);
	free(p->temporary);
	*p = (struct upper_pending){ .fd = -1 };
}
