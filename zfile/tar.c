/* SPDX-License-Identifier: Apache-2.0 */
/* tar.c - the tar wrapper, see tar.h.
 *
 * Reading: any number of 'g' and 'x' headers (up to a cap), then one regular file.  A file type
 * that is not understood is refused rather than skipped: its bytes would be taken for the layer.
 * Writing: the size is known only at the end, so both headers are patched in then. */
#include "zfile/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	BLOCK = 512,
	END_BLOCKS = 2 * BLOCK,
	MAX_RECORDS = 64 * 1024, /* bytes of pax records that we are willing to read */
	MAX_HEADERS = 32, /* before the payload */
	WRAP_SIZE = 3 * BLOCK, /* what our writer puts before the payload */
};

/* Where the fields of a header are. */
enum {
	AT_NAME = 0,
	AT_MODE = 100,
	AT_UID = 108,
	AT_GID = 116,
	AT_SIZE = 124,
	AT_MTIME = 136,
	AT_CHECKSUM = 148,
	AT_TYPE = 156,
	AT_MAGIC = 257,
	AT_UNAME = 265,
	AT_GNAME = 297,
	NAME_SIZE = 100,
	CHECKSUM_SIZE = 8,
	NUMBER_SIZE = 12, /* of size and mtime */
};

/* Magic and version. */
static const char posix_magic[8] = { 'u', 's', 't', 'a', 'r', '\0', '0', '0' };
static const char gnu_magic[8] = "ustar  ";

/* Sum of all bytes, the checksum's own taken as spaces. */
static uint32_t checksum_of(const uint8_t raw[BLOCK])
{
	uint32_t sum = 0;
	int i;

	for (i = 0; i < BLOCK; i++)
		sum += i >= AT_CHECKSUM && i < AT_CHECKSUM + CHECKSUM_SIZE ? ' ' : raw[i];
	return sum;
}

/* Base-256: the top bit of the first byte is set, the rest is a big-endian number.  Negative ones
 * (0xff first) and those over 63 bits are refused. */
static bool parse_base256(const uint8_t *field, int n, uint64_t *out)
{
	uint64_t v = field[0] & 0x7f;
	int i;

	for (i = 1; i < n; i++) {
		if (v >> 55)
			return false;
		v = v << 8 | field[i];
	}
	*out = v;
	return true;
}

/* A number as tar writers put it: octal, after spaces, ended by a NUL, a space or the field's end;
 * or base-256. */
static bool parse_number(const uint8_t *field, int n, uint64_t *out)
{
	uint64_t v = 0;
	int i = 0, digits;

	if (field[0] & 0x80)
		return parse_base256(field, n, out);
	while (i < n && field[i] == ' ')
		i++;
	for (digits = 0; i < n && field[i] >= '0' && field[i] <= '7'; i++, digits++)
		v = v << 3 | (uint64_t)(field[i] - '0'); /* 12 digits: 36 bits */
	if (digits == 0 || (i < n && field[i] != ' ' && field[i] != '\0'))
		return false;
	*out = v;
	return true;
}

/* Whether raw is a header that we can read: the magic of ustar or GNU tar, and a right checksum. */
static bool is_header(const uint8_t raw[BLOCK])
{
	uint64_t sum;

	return (memcmp(raw + AT_MAGIC, posix_magic, sizeof posix_magic) == 0 ||
		memcmp(raw + AT_MAGIC, gnu_magic, sizeof gnu_magic) == 0) &&
	       parse_number(raw + AT_CHECKSUM, CHECKSUM_SIZE, &sum) && sum == checksum_of(raw);
}

/* A decimal number that ends at `end`. */
static bool parse_decimal(const char *p, const char *end, uint64_t *out)
{
	uint64_t v = 0;

	if (p == end)
		return false;
	for (; p < end; p++) {
		unsigned digit = (unsigned)*p - '0';

		if (digit > 9 || v > (UINT64_MAX - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*out = v;
	return true;
}

/* One record, "LENGTH KEY=VALUE\n", of at most n bytes.  *length becomes its LENGTH; a `size` key
 * sets *size and *has_size. */
static int parse_record(const char *p, size_t n, uint64_t *length, uint64_t *size, bool *has_size,
			struct err *e)
{
	const char *space = memchr(p, ' ', n);
	const char *key, *equals, *end;

	if (!space || !parse_decimal(p, space, length))
		return err_set(e, EBADMSG, "pax record without a length");
	if (*length > n || *length < (uint64_t)(space - p) + 3 || p[*length - 1] != '\n')
		return err_set(e, EBADMSG,
			       "pax record of %" PRIu64
			       " bytes does not end in a newline within %zu",
			       *length, n);
	key = space + 1;
	end = p + *length - 1;
	equals = memchr(key, '=', (size_t)(end - key));
	if (!equals)
		return err_set(e, EBADMSG, "pax record without '='");
	if (equals - key != 4 || memcmp(key, "size", 4) != 0)
		return 0;
	if (!parse_decimal(equals + 1, end, size))
		return err_set(e, EBADMSG, "pax record: size is not a number");
	*has_size = true;
	return 0;
}

/* The records of an 'x' header, n bytes at off. */
static int parse_records(struct source *s, uint64_t off, uint64_t n, uint64_t *size, bool *has_size,
			 struct err *e)
{
	AUTO_FREE char *records = NULL;
	uint64_t at, length = 0;
	int r;

	if (n > MAX_RECORDS)
		return err_set(e, EBADMSG,
			       "%" PRIu64 " bytes of pax records are more than the %d supported", n,
			       MAX_RECORDS);
	records = malloc((size_t)n + 1);
	if (!records)
		return err_set(e, ENOMEM, "out of memory");
	r = source_pread(s, records, (size_t)n, off, e);
	if (r < 0)
		return err_wrap(e, r, "pax records");
	for (at = 0; at < n; at += length) {
		r = parse_record(records + at, (size_t)(n - at), &length, size, has_size, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether the archive ends as it should: the two zero blocks after the padded payload, nothing
 * between. */
static int find_end(struct source *s, struct tar_layout *out, struct err *e)
{
	uint64_t end = out->payload_offset + out->payload_size;
	uint8_t raw[END_BLOCKS];
	size_t i;
	int r;

	end += (BLOCK - end % BLOCK) % BLOCK; /* cannot wrap: sizes are below 2^63 */
	out->end_blocks = false;
	if (!range_fits(end, sizeof raw, s->size))
		return 0;
	r = source_pread(s, raw, sizeof raw, end, e);
	if (r < 0)
		return err_wrap(e, r, "end of the archive");
	for (i = 0; i < sizeof raw; i++)
		if (raw[i] != 0)
			return 0;
	out->end_blocks = true;
	return 0;
}

/* The name as a terminal may show it. */
static void copy_name(char out[NAME_SIZE + 1], const uint8_t raw[BLOCK])
{
	int i;

	for (i = 0; i < NAME_SIZE && raw[AT_NAME + i] != '\0'; i++) {
		char c = (char)raw[AT_NAME + i];

		out[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	out[i] = '\0';
}

/* The payload's header stands at off. */
static int take_payload(struct source *s, const uint8_t raw[BLOCK], uint64_t off, uint64_t size,
			bool pax, struct tar_layout *out, struct err *e)
{
	struct tar_layout t = { .payload_offset = off + BLOCK, .payload_size = size, .pax = pax };
	int r;

	if (!range_fits(t.payload_offset, size, s->size))
		return err_set(e, EBADMSG,
			       "payload of %" PRIu64 " bytes at %" PRIu64
			       " does not fit in %" PRIu64 " bytes",
			       size, t.payload_offset, s->size);
	copy_name(t.name, raw);
	r = find_end(s, &t, e);
	if (r == 0)
		*out = t;
	return r;
}

/* Reads the header at off, which must be one unless it is the first. */
static int read_header(struct source *s, uint64_t off, uint8_t raw[BLOCK], struct err *e)
{
	int r;

	if (!range_fits(off, BLOCK, s->size))
		return off == 0 ? 1
				: err_set(e, EBADMSG, "header at %" PRIu64 " lies beyond the end",
					  off);
	r = source_pread(s, raw, BLOCK, off, e);
	if (r < 0)
		return err_wrap(e, r, "header at %" PRIu64, off);
	if (is_header(raw))
		return 0;
	return off == 0 ? 1
			: err_set(e, EBADMSG, "no header with a right checksum at %" PRIu64, off);
}

static int parse(struct source *s, struct tar_layout *out, struct err *e)
{
	uint64_t off = 0, size = 0, pax_size = 0;
	bool has_pax_size = false;
	uint8_t raw[BLOCK];
	int headers, r;

	for (headers = 0; headers < MAX_HEADERS; headers++) {
		bool has_size, file;

		r = read_header(s, off, raw, e);
		if (r != 0)
			return r;
		has_size = parse_number(raw + AT_SIZE, NUMBER_SIZE, &size);
		file = raw[AT_TYPE] == '0' || raw[AT_TYPE] == '\0';
		if (file && has_pax_size)
			return take_payload(s, raw, off, pax_size, true, out, e);
		if (!file && raw[AT_TYPE] != 'x' && raw[AT_TYPE] != 'g')
			return err_set(e, EBADMSG,
				       "member at %" PRIu64 " is no regular file (typeflag 0x%02x)",
				       off, raw[AT_TYPE]);
		if (!has_size)
			return err_set(e, EBADMSG, "header at %" PRIu64 ": size is not a number",
				       off);
		if (file)
			return take_payload(s, raw, off, size, false, out, e);
		off += BLOCK;
		if (!range_fits(off, size, s->size))
			return err_set(e, EBADMSG,
				       "pax records of %" PRIu64 " bytes at %" PRIu64
				       " do not fit in %" PRIu64 " bytes",
				       size, off, s->size);
		r = raw[AT_TYPE] == 'x' ? parse_records(s, off, size, &pax_size, &has_pax_size, e)
					: 0;
		if (r < 0)
			return r;
		off += size + (BLOCK - size % BLOCK) % BLOCK;
	}
	return err_set(e, EBADMSG, "more than %d headers before the payload", MAX_HEADERS);
}

int tar_parse(struct source *s, struct tar_layout *out, struct err *e)
{
	int r = parse(s, out, e);

	return r < 0 ? err_wrap(e, r, "tar") : r;
}

struct tar_sink {
	struct sink sink;
	struct sink *below;
};

/* `digits` octal digits at most, blank-padded on the left, then a space.  Truncation cannot happen:
 * callers pass small numbers. */
static void put_number(uint8_t *field, int digits, unsigned value)
{
	char text[16];

	snprintf(text, sizeof text, "%*o ", digits, value);
	memcpy(field, text, (size_t)digits + 1);
}

/* Fills in what both headers share, and the checksum over all. */
static void seal_header(uint8_t raw[BLOCK], const char *name, char type)
{
	memcpy(raw + AT_NAME, name, strlen(name));
	memcpy(raw + AT_MAGIC, posix_magic, sizeof posix_magic);
	raw[AT_TYPE] = (uint8_t)type;
	put_number(raw + AT_CHECKSUM, 6, checksum_of(raw));
}

/* "LENGTH size=SIZE\n", where LENGTH counts its own digits. */
static unsigned format_record(char *out, size_t room, uint64_t size)
{
	int length = 0, next;

	for (;;) {
		next = snprintf(out, room, "%d size=%" PRIu64 "\n", length, size);
		if (next == length)
			return (unsigned)length;
		length = next;
	}
}

/* Both headers, byte for byte as the reference writes them. */
static void make_headers(uint8_t raw[WRAP_SIZE], uint64_t size)
{
	uint8_t *records = raw + BLOCK, *payload = raw + 2 * BLOCK;

	memset(raw, 0, WRAP_SIZE);
	put_number(raw + AT_SIZE, 11, format_record((char *)records, BLOCK, size));
	seal_header(raw, "overlaybd.pax", 'x');
	put_number(payload + AT_MODE, 6, 0100644);
	put_number(payload + AT_UID, 6, 0);
	put_number(payload + AT_GID, 6, 0);
	put_number(payload + AT_SIZE, 11, 0); /* the pax record has it */
	put_number(payload + AT_MTIME, 11, 0);
	memcpy(payload + AT_UNAME, "root", 4);
	memcpy(payload + AT_GNAME, "root", 4);
	seal_header(payload, "overlaybd.commit", '0');
}

static int tar_write(struct sink *s, const void *buf, size_t n, struct err *e)
{
	return sink_write(((struct tar_sink *)s)->below, buf, n, e);
}

static int tar_patch(struct sink *s, const void *buf, size_t n, uint64_t off, struct err *e)
{
	return sink_patch(((struct tar_sink *)s)->below, buf, n, WRAP_SIZE + off, e);
}

static int tar_finish(struct sink *s, struct err *e)
{
	struct tar_sink *t = (struct tar_sink *)s;
	uint64_t padding = (BLOCK - s->written % BLOCK) % BLOCK;
	uint8_t raw[WRAP_SIZE];
	int r;

	make_headers(raw, s->written);
	r = sink_write_zeroes(t->below, padding + END_BLOCKS, e);
	if (r == 0)
		r = sink_patch(t->below, raw, sizeof raw, 0, e);
	return r < 0 ? r : sink_finish(t->below, e);
}

static void tar_close(struct sink *s)
{
	sink_close(((struct tar_sink *)s)->below);
	free(s);
}

static const struct sink_ops tar_ops = {
	.name = "tar",
	.write = tar_write,
	.patch = tar_patch,
	.finish = tar_finish,
	.close = tar_close,
};

int tar_open_sink(struct sink *below, struct sink **out, struct err *e)
{
	struct tar_sink *t;
	int r;

	if (below->written != 0 || !below->ops->patch)
		return err_set(e, EINVAL, "tar: %s below must be new and able to overwrite",
			       below->ops->name);
	r = sink_write_zeroes(below, WRAP_SIZE, e);
	if (r < 0)
		return r;
	t = malloc(sizeof *t);
	if (!t)
		return err_set(e, ENOMEM, "out of memory");
	*t = (struct tar_sink){ .sink.ops = &tar_ops, .below = below };
	*out = &t->sink;
	return 0;
}

int tar_pack(const char *name, const void *bytes, size_t n, void **out, size_t *out_n,
	     struct err *e)
{
	uint64_t padding = (BLOCK - n % BLOCK) % BLOCK;
	size_t total = BLOCK + n + padding + END_BLOCKS;
	uint8_t *raw = calloc(1, total);

	if (!raw)
		return err_set(e, ENOMEM, "out of memory");
	put_number(raw + AT_MODE, 6, 0100644);
	put_number(raw + AT_UID, 6, 0);
	put_number(raw + AT_GID, 6, 0);
	put_number(raw + AT_SIZE, 11, (unsigned)n);
	put_number(raw + AT_MTIME, 11, 0);
	seal_header(raw, name, '0');
	memcpy(raw + BLOCK, bytes, n);
	*out = raw;
	*out_n = total;
	return 0;
}
