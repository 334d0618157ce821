/* SPDX-License-Identifier: Apache-2.0 */
/* format.c - LSMT bytes, see format.h. */
#include "core/format.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/base/le.h"

enum {
	OFF_MAGIC0 = 0,
	OFF_MAGIC1 = 8,
	OFF_STRUCT_SIZE = 24,
	OFF_FLAGS = 28,
	OFF_INDEX_OFFSET = 32,
	OFF_INDEX_SIZE = 40,
	OFF_VIRTUAL_SIZE = 48,
	OFF_UUID = 56,
	OFF_PARENT_UUID = 93,
	OFF_VERSION = 132,
	OFF_SUB_VERSION = 133,
	OFF_TAG = 134,
	STRUCT_SIZE = 390,
	FIRST_DATA_SECTOR = FORMAT_SPACE / SECTOR,
};

static const uint8_t magic[24] = { 'L',	 'S',  'M',  'T',  0,	 1,    2,    0,
				   0x65, 0x7e, 0x63, 0xd2, 0x94, 0x44, 0x08, 0x4c,
				   0xa2, 0xd2, 0xc8, 0xec, 0x4f, 0xcf, 0xae, 0x8a };

/* For each part: its name, and the flags that must be set and clear. */
static const struct {
	const char *name;
	uint32_t set;
	uint32_t clear;
} parts[] = {
	[FORMAT_PART_HEADER] = { "header", FORMAT_HEADER | FORMAT_DATA_FILE, 0 },
	[FORMAT_PART_TRAILER] = { "trailer", FORMAT_DATA_FILE | FORMAT_SEALED, FORMAT_HEADER },
	[FORMAT_PART_LOG_DATA] = { "data file's header", FORMAT_HEADER | FORMAT_DATA_FILE,
				   FORMAT_SEALED },
	[FORMAT_PART_LOG_INDEX] = { "index file's header", FORMAT_HEADER,
				    FORMAT_DATA_FILE | FORMAT_SEALED | FORMAT_SPARSE },
};

bool format_is_layer(const uint8_t *raw, size_t n)
{
	return n >= sizeof magic && memcmp(raw + OFF_MAGIC0, magic, sizeof magic) == 0;
}

static int check_identity(const uint8_t *raw, const char *name, struct err *e)
{
	if (!format_is_layer(raw, FORMAT_SPACE))
		return err_set(e, EBADMSG, "LSMT %s: bad magic", name);
	if (le32_get(raw + OFF_STRUCT_SIZE) != STRUCT_SIZE)
		return err_set(e, EBADMSG, "LSMT %s: struct size %" PRIu32 ", not %d", name,
			       le32_get(raw + OFF_STRUCT_SIZE), STRUCT_SIZE);
	if (raw[OFF_VERSION] != 1)
		return err_set(e, EBADMSG, "LSMT %s: version %u, not 1", name, raw[OFF_VERSION]);
	if (!memchr(raw + OFF_UUID, '\0', FORMAT_UUID))
		return err_set(e, EBADMSG, "LSMT %s: uuid has no end", name);
	if (!memchr(raw + OFF_PARENT_UUID, '\0', FORMAT_UUID))
		return err_set(e, EBADMSG, "LSMT %s: parent uuid has no end", name);
	return 0;
}

static int check_values(const struct format_header *h, enum format_part part, struct err *e)
{
	const char *name = parts[part].name;

	if ((h->flags & parts[part].set) != parts[part].set || (h->flags & parts[part].clear) != 0)
		return err_set(e, EBADMSG,
			       "LSMT %s: flags 0x%" PRIx32 " are not those of a %s (0x%" PRIx32
			       " set, 0x%" PRIx32 " clear)",
			       name, h->flags, name, parts[part].set, parts[part].clear);
	if (h->virtual_size % SECTOR != 0)
		return err_set(e, EBADMSG,
			       "LSMT %s: virtual size %" PRIu64 " is not a multiple of %d", name,
			       h->virtual_size, SECTOR);
	if (h->virtual_size / SECTOR >= FORMAT_LBA_LIMIT)
		return err_set(e, EBADMSG, "LSMT %s: virtual size %" PRIu64 " is over 2^50 sectors",
			       name, h->virtual_size);
	if (part == FORMAT_PART_LOG_INDEX && h->index_offset != FORMAT_SPACE)
		return err_set(e, EBADMSG, "LSMT %s: index offset %" PRIu64 ", not %d", name,
			       h->index_offset, FORMAT_SPACE);
	return 0;
}

int format_parse_header(struct format_header *h, const uint8_t raw[FORMAT_SPACE],
			enum format_part part, struct err *e)
{
	struct format_header t = {
		.flags = le32_get(raw + OFF_FLAGS),
		.index_offset = le64_get(raw + OFF_INDEX_OFFSET),
		.index_size = le64_get(raw + OFF_INDEX_SIZE),
		.virtual_size = le64_get(raw + OFF_VIRTUAL_SIZE),
		.version = raw[OFF_VERSION],
		.sub_version = raw[OFF_SUB_VERSION],
	};
	int r;

	memcpy(t.uuid, raw + OFF_UUID, FORMAT_UUID);
	memcpy(t.parent_uuid, raw + OFF_PARENT_UUID, FORMAT_UUID);
	memcpy(t.tag, raw + OFF_TAG, FORMAT_TAG);
	r = check_identity(raw, parts[part].name, e);
	if (r == 0)
		r = check_values(&t, part, e);
	if (r == 0)
		*h = t;
	return r;
}

int format_read_header(struct format_header *h, struct source *s, uint64_t off,
		       enum format_part part, struct err *e)
{
	uint8_t raw[FORMAT_SPACE];
	int r;

	if (!range_fits(off, FORMAT_SPACE, s->size))
		return err_set(e, EBADMSG, "LSMT %s: %" PRIu64 " bytes are too few for it",
			       parts[part].name, s->size);
	r = source_pread(s, raw, sizeof raw, off, e);
	return r < 0 ? r : format_parse_header(h, raw, part, e);
}

void format_encode_header(const struct format_header *h, uint8_t raw[FORMAT_SPACE])
{
	memset(raw, 0, FORMAT_SPACE);
	memcpy(raw, magic, sizeof magic);
	le32_put(raw + OFF_STRUCT_SIZE, STRUCT_SIZE);
	le32_put(raw + OFF_FLAGS, h->flags);
	le64_put(raw + OFF_INDEX_OFFSET, h->index_offset);
	le64_put(raw + OFF_INDEX_SIZE, h->index_size);
	le64_put(raw + OFF_VIRTUAL_SIZE, h->virtual_size);
	memcpy(raw + OFF_UUID, h->uuid, strnlen(h->uuid, FORMAT_UUID - 1));
	memcpy(raw + OFF_PARENT_UUID, h->parent_uuid, strnlen(h->parent_uuid, FORMAT_UUID - 1));
	raw[OFF_VERSION] = h->version;
	raw[OFF_SUB_VERSION] = h->sub_version;
	memcpy(raw + OFF_TAG, h->tag, strnlen(h->tag, FORMAT_TAG));
}

void format_patch_size(uint8_t raw[FORMAT_SPACE], uint64_t virtual_size)
{
	le64_put(raw + OFF_VIRTUAL_SIZE, virtual_size);
}

int format_check_index(const struct format_header *trailer, uint64_t file_size, struct err *e)
{
	uint64_t limit;

	if (file_size < 2 * FORMAT_SPACE)
		return err_set(e, EBADMSG,
			       "LSMT: %" PRIu64 " bytes are too few for a header and a trailer",
			       file_size);
	limit = file_size - FORMAT_SPACE;
	if (trailer->index_offset % SECTOR != 0)
		return err_set(e, EBADMSG,
			       "LSMT trailer: index offset %" PRIu64 " is not a multiple of %d",
			       trailer->index_offset, SECTOR);
	if (trailer->index_offset < FORMAT_SPACE)
		return err_set(e, EBADMSG,
			       "LSMT trailer: index offset %" PRIu64 " lies in the header",
			       trailer->index_offset);
	if (trailer->index_size > FORMAT_MAX_ENTRIES)
		return err_set(e, EBADMSG,
			       "LSMT trailer: %" PRIu64 " index entries, more than %" PRIu64,
			       trailer->index_size, FORMAT_MAX_ENTRIES);
	if (!range_fits(trailer->index_offset, trailer->index_size * FORMAT_ENTRY, limit))
		return err_set(e, EBADMSG,
			       "LSMT trailer: index of %" PRIu64 " entries at %" PRIu64
			       " does not fit before the trailer at %" PRIu64,
			       trailer->index_size, trailer->index_offset, limit);
	return 0;
}

/* offset: bits 0-49 start, 50-63 sectors; target: bits 0-54 moffset, 55 zeroed, 56-63 tag. */
struct format_entry format_parse_entry(const uint8_t raw[FORMAT_ENTRY])
{
	uint64_t range = le64_get(raw);
	uint64_t target = le64_get(raw + 8);

	return (struct format_entry){
		.start = range & (FORMAT_LBA_LIMIT - 1),
		.sectors = (uint32_t)(range >> 50),
		.moffset = target & ((UINT64_C(1) << 55) - 1),
		.zeroed = target >> 55 & 1,
		.tag = (uint8_t)(target >> 56),
	};
}

void format_encode_entry(const struct format_entry *entry, uint8_t raw[FORMAT_ENTRY])
{
	le64_put(raw, entry->start | (uint64_t)entry->sectors << 50);
	le64_put(raw + 8,
		 entry->moffset | (uint64_t)entry->zeroed << 55 | (uint64_t)entry->tag << 56);
}

const char *format_entry_fault(const struct format_entry *entry, uint64_t previous_end,
			       uint64_t data_end)
{
	if (entry->sectors == 0)
		return "its length is 0";
	if (entry->start + entry->sectors > FORMAT_LBA_LIMIT)
		return "it ends beyond sector 2^50";
	if (entry->start < previous_end)
		return "it overlaps the entry before it, or is out of order";
	if (entry->zeroed)
		return NULL;
	if (entry->moffset < FIRST_DATA_SECTOR)
		return "its data lies in the header";
	if (!range_fits(entry->moffset, entry->sectors, data_end))
		return "its data lies beyond the end of the data";
	return NULL;
}

bool format_is_uuid(const char *text)
{
	size_t i;

	for (i = 0; i < FORMAT_UUID - 1; i++) {
		bool hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? text[i] != '-' : !isxdigit((unsigned char)text[i]))
			return false;
	}
	return text[i] == '\0';
}
