/* SPDX-License-Identifier: Apache-2.0 */
/* format.h - bytes of an LSMT layer: header, trailer, index entries.  The only file that knows
 * their offsets.
 *
 *   header 4096 | data | index | trailer 4096        sealed layer, all in one file
 *   header 4096 | data  and  header 4096 | entries   append log, two files
 *
 * Format: containerd/overlaybd, 2026-08.  Units: bytes, and sectors of 512 bytes where said.
 * Threads: no state. */
#ifndef OVERLAYBD_CORE_FORMAT_H
#define OVERLAYBD_CORE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/source.h"

enum {
	SECTOR = 512,
	FORMAT_SPACE = 4096, /* header and trailer, each */
	FORMAT_ENTRY = 16, /* bytes of an index entry */
	FORMAT_MAX_SECTORS = 16383, /* one entry maps at most so many */
	FORMAT_UUID = 37, /* 36 characters and a NUL */
	FORMAT_TAG = 256,
	FORMAT_PAD_ENTRIES = 256, /* a dense index is padded to a multiple of so many entries */
};

#define FORMAT_MAX_ENTRIES (UINT64_C(1) << 26) /* a layer; more is refused */
#define FORMAT_REFERENCE_ENTRIES UINT64_C(1000000) /* a layer; the reference reads no more */
#define FORMAT_LBA_LIMIT (UINT64_C(1) << 50) /* logical sectors */
#define FORMAT_PADDING (FORMAT_LBA_LIMIT - 1) /* offset of a padding entry */
#define FORMAT_NIL_UUID "00000000-0000-0000-0000-000000000000"

enum format_flag {
	FORMAT_HEADER = 1 << 0,
	FORMAT_DATA_FILE = 1 << 1,
	FORMAT_SEALED = 1 << 2,
	FORMAT_SPARSE = 1 << 4, /* sparse writable layer */
};

/* What a header is expected to be. */
enum format_part {
	FORMAT_PART_HEADER, /* first 4096 bytes of a sealed layer */
	FORMAT_PART_TRAILER, /* last 4096 bytes of a sealed layer: the authority */
	FORMAT_PART_LOG_DATA, /* data file of a writable layer, append log or sparse */
	FORMAT_PART_LOG_INDEX, /* index file of an append log */
};

struct format_header {
	uint32_t flags;
	uint64_t index_offset; /* bytes */
	uint64_t index_size; /* entries */
	uint64_t virtual_size; /* bytes */
	char uuid[FORMAT_UUID];
	char parent_uuid[FORMAT_UUID];
	uint8_t version;
	uint8_t sub_version;
	char tag[FORMAT_TAG + 1]; /* commit message */
};

/* One index entry.  Units: sectors. */
struct format_entry {
	uint64_t start; /* first logical sector */
	uint64_t moffset; /* first sector in the layer file; without meaning when zeroed */
	uint32_t sectors;
	bool zeroed;
	uint8_t tag; /* ignored but for TurboOCI files */
};

/* Whether these bytes carry the magic of an LSMT layer. */
bool format_is_layer(const uint8_t *raw, size_t n);

/* Reads a header, checking what can be checked without the file.  EBADMSG names the rule; *h is
 * untouched then. */
int format_parse_header(struct format_header *h, const uint8_t raw[FORMAT_SPACE],
			enum format_part part, struct err *e);

/* Reads the FORMAT_SPACE bytes at off and parses them.  EBADMSG when s ends before. */
int format_read_header(struct format_header *h, struct source *s, uint64_t off,
		       enum format_part part, struct err *e);

/* Writes a header or trailer; h->flags says which. */
void format_encode_header(const struct format_header *h, uint8_t raw[FORMAT_SPACE]);

/* Changes the virtual size in a header's bytes, and nothing else. */
void format_patch_size(uint8_t raw[FORMAT_SPACE], uint64_t virtual_size);

/* Whether the trailer's index lies between header and trailer of a file of file_size bytes. */
int format_check_index(const struct format_header *trailer, uint64_t file_size, struct err *e);

struct format_entry format_parse_entry(const uint8_t raw[FORMAT_ENTRY]);
void format_encode_entry(const struct format_entry *entry, uint8_t raw[FORMAT_ENTRY]);

/* The rule that an entry breaks, or NULL.  It must begin at or after `previous_end` (sectors; pass
 * 0 for a log, whose entries are in no order) and, unless zeroed, point to data in [8, data_end)
 * sectors of its file.  Padding entries are the caller's to skip. */
const char *format_entry_fault(const struct format_entry *entry, uint64_t previous_end,
			       uint64_t data_end);

/* Whether text is a uuid: 36 characters, hex digits and hyphens in the usual places. */
bool format_is_uuid(const char *text);

#endif
