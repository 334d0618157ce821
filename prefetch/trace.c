/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - our trace file, see trace.h.
 *
 * The checksum is CRC-32C as everybody else computes it, with the inversion of start and end that
 * the overlaybd formats leave out. */
#include "prefetch/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/crc32c.h"
#include "core/base/io.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/format.h"

enum {
	VERSION = 1,
	AT_VERSION = 8,
	AT_CRC = 12,
	AT_COUNT = 16,
	AT_DISK_SIZE = 24,
	AT_IDENTITY = 32,
	IDENTITY = 32, /* bytes of a sha256 */
	LARGEST = TRACE_HEADER + TRACE_READS_MAX * TRACE_READ, /* bytes of a file */
};

static const uint8_t magic[AT_VERSION] = TRACE_MAGIC;
static const char identity_prefix[] = "sha256:";

static uint32_t checksum(const uint8_t *raw, size_t n)
{
	uint32_t crc = crc32c_raw(~UINT32_C(0), raw, AT_CRC);

	return ~crc32c_raw(crc, raw + AT_COUNT, n - AT_COUNT);
}

_Static_assert(sizeof(struct trace_read) <= TRACE_READ, "reads are parsed in place");

static void identity_to_text(const uint8_t raw[IDENTITY], char out[DIGEST_TEXT])
{
	static const char digits[] = "0123456789abcdef";
	char *p = out + sizeof identity_prefix - 1;
	size_t i;

	memcpy(out, identity_prefix, strlen(identity_prefix));
	for (i = 0; i < IDENTITY; i++) {
		*p++ = digits[raw[i] >> 4];
		*p++ = digits[raw[i] & 15];
	}
	*p = '\0';
}

static uint8_t digit_value(char digit)
{
	return (uint8_t)(digit <= '9' ? digit - '0' : digit - 'a' + 10);
}

/* `text` is a valid digest. */
static void identity_to_raw(const char *text, uint8_t out[IDENTITY])
{
	const char *p = text + sizeof identity_prefix - 1;
	size_t i;

	for (i = 0; i < IDENTITY; i++, p += 2)
		out[i] = (uint8_t)(digit_value(p[0]) << 4 | digit_value(p[1]));
}

static int check_header(const uint8_t *raw, size_t n, struct err *e)
{
	uint64_t count;

	if (n < TRACE_HEADER || memcmp(raw, magic, sizeof magic) != 0)
		return err_set(e, EBADMSG, "no trace (bad magic)");
	if (le32_get(raw + AT_VERSION) != VERSION)
		return err_set(e, EBADMSG, "trace of version %" PRIu32 ", only 1 is known",
			       le32_get(raw + AT_VERSION));
	count = le64_get(raw + AT_COUNT);
	if (count > TRACE_READS_MAX)
		return err_set(e, EBADMSG, "trace of %" PRIu64 " reads, more than %d", count,
			       TRACE_READS_MAX);
	if (n != TRACE_HEADER + count * TRACE_READ)
		return err_set(e, EBADMSG,
			       "trace of %" PRIu64 " reads in %zu bytes, not in %" PRIu64, count, n,
			       TRACE_HEADER + count * TRACE_READ);
	if (le32_get(raw + AT_CRC) != checksum(raw, n))
		return err_set(e, EBADMSG, "trace with a wrong checksum");
	return 0;
}

static int check_disk_size(uint64_t size, int code, struct err *e)
{
	if (size % SECTOR == 0)
		return 0;
	return err_set(e, code, "trace of a disk of %" PRIu64 " bytes, no multiple of %d", size,
		       SECTOR);
}

static int check_reads(const struct trace *t, int code, struct err *e)
{
	uint64_t sectors = t->disk_size / SECTOR;
	size_t i;

	for (i = 0; i < t->count; i++) {
		const struct trace_read *read = &t->reads[i];

		if (read->sectors > 0 && range_fits(read->lba, read->sectors, sectors))
			continue;
		return err_set(e, code,
			       "trace with a read of %" PRIu32 " sectors at %" PRIu64
			       " (number %zu), on a disk of %" PRIu64,
			       read->sectors, read->lba, i, sectors);
	}
	return 0;
}

/* All but the reads. */
static int parse_header(const uint8_t *raw, size_t n, struct trace *out, struct err *e)
{
	int r = check_header(raw, n, e);

	if (r < 0)
		return r;
	*out = (struct trace){ .count = (size_t)le64_get(raw + AT_COUNT),
			       .disk_size = le64_get(raw + AT_DISK_SIZE) };
	identity_to_text(raw + AT_IDENTITY, out->identity);
	return check_disk_size(out->disk_size, EBADMSG, e);
}

/* Fills t->reads, which may lie at the file's first byte: it is written no faster than read. */
static int parse_reads(const uint8_t *raw, struct trace *t, struct err *e)
{
	size_t i;

	raw += TRACE_HEADER;
	for (i = 0; i < t->count; i++, raw += TRACE_READ) {
		struct trace_read read = { .lba = le64_get(raw),
					   .sectors = le32_get(raw + 8),
					   .us = le32_get(raw + 12) };

		memcpy(&t->reads[i], &read, sizeof read);
	}
	return check_reads(t, EBADMSG, e);
}

int trace_parse(const void *bytes, size_t n, struct trace *out, struct err *e)
{
	AUTO_FREE struct trace_read *reads = NULL;
	struct trace t;
	int r = parse_header(bytes, n, &t, e);

	if (r < 0)
		return r;
	reads = malloc(t.count * sizeof *reads);
	if (!reads)
		return err_set(e, ENOMEM, "out of memory");
	t.reads = reads;
	r = parse_reads(bytes, &t, e);
	if (r < 0)
		return r;
	*out = t;
	out->reads = TAKE_PTR(reads);
	return 0;
}

/* A value that trace_parse would refuse is not written. */
static int check_value(const struct trace *t, struct err *e)
{
	int r;

	if (!digest_is_valid(t->identity))
		return err_set(e, EINVAL, "trace of an image without an identity");
	if (t->count > TRACE_READS_MAX)
		return err_set(e, EINVAL, "trace of %zu reads, more than %d", t->count,
			       TRACE_READS_MAX);
	r = check_disk_size(t->disk_size, EINVAL, e);
	return r < 0 ? r : check_reads(t, EINVAL, e);
}

int trace_format(const struct trace *t, void **bytes, size_t *n, struct err *e)
{
	size_t size = TRACE_HEADER + t->count * TRACE_READ, i;
	uint8_t *raw, *p;
	int r = check_value(t, e);

	if (r < 0)
		return r;
	raw = malloc(size); /* of which each byte is written below */
	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	memcpy(raw, magic, sizeof magic);
	le32_put(raw + AT_VERSION, VERSION);
	le64_put(raw + AT_COUNT, t->count);
	le64_put(raw + AT_DISK_SIZE, t->disk_size);
	identity_to_raw(t->identity, raw + AT_IDENTITY);
	for (i = 0, p = raw + TRACE_HEADER; i < t->count; i++, p += TRACE_READ) {
		le64_put(p, t->reads[i].lba);
		le32_put(p + 8, t->reads[i].sectors);
		le32_put(p + 12, t->reads[i].us);
	}
	le32_put(raw + AT_CRC, checksum(raw, size));
	*bytes = raw;
	*n = size;
	return 0;
}

/* In place: the kernel takes longer to hand out memory for a large trace than this to read it. */
int trace_load(const char *path, struct trace *out, struct err *e)
{
	AUTO_FREE char *bytes = NULL;
	struct trace t;
	size_t n;
	int r = io_read_file(path, LARGEST, &bytes, &n, e);

	if (r == 0)
		r = parse_header((const uint8_t *)bytes, n, &t, e);
	if (r == 0) {
		t.reads = (void *)bytes;
		r = parse_reads((const uint8_t *)bytes, &t, e);
	}
	if (r < 0)
		return err_wrap(e, r, "%s", path);
	*out = t;
	out->reads = (void *)TAKE_PTR(bytes);
	return 0;
}

int trace_save(const struct trace *t, const char *path, struct err *e)
{
	AUTO_FREE void *bytes = NULL;
	size_t n;
	int r = trace_format(t, &bytes, &n, e);

	if (r < 0)
		return err_wrap(e, r, "%s", path);
	return io_replace_file(path, bytes, n, e); /* its messages name the file */
}

void trace_release(struct trace *t)
{
	free(t->reads);
	*t = (struct trace){ 0 };
}
