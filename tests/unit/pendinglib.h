/* SPDX-License-Identifier: Apache-2.0 */
/* pendinglib.h - records and files of acknowledged writes, made by hand, in memory; and faults of
 * that memory.  A test program includes it once. */
#ifndef OVERLAYBD_TESTS_PENDINGLIB_H
#define OVERLAYBD_TESTS_PENDINGLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/format.h"
#include "core/upper_pending.h"
#include "tests/unit/loops.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	HEADER = 256,
	RECORD = 32,
	DATA = 8, /* the first sector of data */
};

#define UUID "01234567-89AB-4DEF-8123-456789ABCDEF"
#define OTHER "01234567-89AB-4DEF-8123-456789ABCDEE"
#define BOOT "00000001-0000-4000-8000-000000000000"

static struct upper_pending pending;

/* ---- files ---- */

static inline struct memfs_bytes *bytes_of(const char *name)
{
	return &memfs->files[memfs_find(name)->file].now;
}

static inline void put_file(const char *name, const uint8_t *raw, size_t n)
{
	int fd = memfs_open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_int_equal(memfs_pwrite(fd, raw, n, 0), n);
	memfs_close(fd);
}

static inline size_t count_names(void)
{
	size_t i, n = 0;

	for (i = 0; i < MEMFS_NAMES; i++)
		n += memfs->names.list[i].file >= 0;
	return n;
}

static inline size_t count_fds(void)
{
	size_t i, n = 0;

	for (i = 0; i < MEMFS_FDS; i++)
		n += memfs->fds[i] >= 0;
	return n;
}

/* ---- records ---- */

static inline void encode_record(const struct upper_pending_record *r, uint32_t salt,
				 uint8_t raw[RECORD])
{
	struct format_entry entry = { .start = mapping_start(r->map),
				      .sectors = (uint32_t)mapping_sectors(r->map),
				      .moffset = DATA,
				      .zeroed = mapping_zeroed(r->map) };

	if (!entry.zeroed)
		entry.moffset = mapping_moffset(r->map);
	memset(raw, 0, RECORD);
	format_encode_entry(&entry, raw);
	le32_put(raw + 16, r->crc);
	le32_put(raw + 28, crc32c_raw(salt, raw, 28));
}

static inline void make_records(struct upper_pending_record *out, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++) {
		bool zeroed = loops_random() % 4 == 0;
		uint64_t start = loops_random() % (1 << 20);
		uint64_t sectors = 1 + loops_random() % FORMAT_MAX_SECTORS;
		uint64_t moffset = DATA + loops_random() % (1 << 20);

		out[i] = (struct upper_pending_record){
			.map = mapping_make(start, sectors, 0, zeroed ? 0 : moffset, zeroed),
			.crc = (uint32_t)loops_random(),
		};
	}
}

static inline struct upper_pending_base make_base(void)
{
	return (struct upper_pending_base){ .entries = loops_random(),
					    .crc = (uint32_t)loops_random(),
					    .skip = loops_random() % 1000 };
}

/* ---- faults ---- */

static struct {
	enum memfs_kind kinds[2]; /* that fail */
	unsigned after[2]; /* as many of them succeed before */
	bool fails[2];
	size_t done; /* of a write that fails */
} fault;

static inline int fail_some(enum memfs_kind kind, int file, uint64_t off, const void *bytes,
			    size_t n, size_t *done)
{
	size_t i;

	for (i = 0; i < 2; i++)
		if (fault.fails[i] && fault.kinds[i] == kind && fault.after[i]-- == 0) {
			fault.fails[i] = false;
			if (done)
				*done = fault.done;
			return i == 0 ? -ENOSPC : -EACCES;
		}
	return 0;
}

static inline void fail_once(enum memfs_kind kind, unsigned after)
{
	fault.kinds[0] = kind;
	fault.after[0] = after;
	fault.fails[0] = true;
	fault.fails[1] = false;
	memfs->hook = fail_some;
}

static inline void fail_also(enum memfs_kind kind)
{
	fault.kinds[1] = kind;
	fault.after[1] = 0;
	fault.fails[1] = true;
}

#endif
