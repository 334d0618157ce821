/* SPDX-License-Identifier: Apache-2.0 */
/* upperfake.h - an append log in memory, whose disk fails, ends and interrupts as the test wants
 * it.  A test program includes it once. */
#ifndef OVERLAYBD_TESTS_UPPERFAKE_H
#define OVERLAYBD_TESTS_UPPERFAKE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/upper_private.h"
#include "core/upper_records.h"
#include "tests/unit/fences.h"
#include "tests/unit/loglib.h"
#include "tests/unit/loops.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	MOST = FORMAT_MAX_SECTORS,
	SECTORS = 300000,
	DATA = 8, /* the first sector of data */
	HEADER = 256, /* of the pending file */
	RECORD = 32,
	MARKS = 3, /* behind the records of an append: CHECK, CONFIRM, OPEN */
};

#define BYTES ((uint64_t)SECTORS * SECTOR)

static struct file_ops ops;
static struct upper_log *u;

/* ---- the disk, as the test wants it ---- */

static struct {
	uint64_t size; /* of the data file, when not 0 */
	uint64_t truncated[16]; /* the data file, to so many sectors */
	size_t truncates;
	int data_error, pending_error, index_error, truncate_error;
	size_t index_bytes; /* only such a write to the index fails; 0: all */
	uint64_t index_end; /* bytes that the index may have, for the disk is full; 0: it is not */
	unsigned lives; /* the process is killed by this write to the index; 0: never */
	bool is_dead; /* then nothing has an effect any more */
	void (*meanwhile)(void); /* called once, by a write of data */
	void (*at_sync)(void); /* called once, by a sync of the data file */
	int sync_error, data_sync_error; /* of a sync of the index, of the data */
	bool no_pending; /* there is no space for a new one */
	int cut_error, index_cut_error; /* of the pending file, of the index */
	int unlink_error;
	bool far; /* what is written to the data file goes nowhere */
} fake;

static inline bool is_file(int fd, const char *name)
{
	return memfs_is_named(fd, name) == 1;
}

static inline int fake_size(int fd, uint64_t *size)
{
	int r = memfs_size(fd, size);

	if (fake.size && is_file(fd, "u.data"))
		*size = fake.size;
	return r;
}

static inline ssize_t fake_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	void (*meanwhile)(void) = fake.meanwhile;
	bool data = is_file(fd, "u.data");
	int error = fake.data_error;

	if (data && meanwhile) {
		fake.meanwhile = NULL;
		fake.data_error = 0;
		meanwhile();
	}
	if (is_file(fd, "i/u.index") && fake.lives > 0 && --fake.lives == 0) {
		fake.is_dead = true; /* behind a page of this one */
		return memfs_pwrite(fd, buf, (size_t)min_u64(n, 4096), off);
	}
	if (fake.is_dead)
		return (ssize_t)n;
	if (data && error)
		return error;
	if (is_file(fd, "u.pending") && fake.pending_error)
		return fake.pending_error;
	if (is_file(fd, "i/u.index") && fake.index_error &&
	    (fake.index_bytes == 0 || fake.index_bytes == n)) {
		(void)memfs_pwrite(fd, buf, n / 2, off);
		return fake.index_error;
	}
	if (is_file(fd, "i/u.index") && fake.index_end && off + n > fake.index_end)
		return -ENOSPC;
	return data && fake.far ? (ssize_t)n : memfs_pwrite(fd, buf, n, off);
}

static inline int fake_truncate(int fd, uint64_t size)
{
	if (fake.is_dead)
		return 0;
	if (is_file(fd, "u.pending") && fake.cut_error)
		return fake.cut_error;
	if (is_file(fd, "i/u.index") && fake.index_cut_error)
		return fake.index_cut_error;
	if (!is_file(fd, "u.data"))
		return memfs_truncate(fd, size);
	assert_int_equal(size % SECTOR, 0);
	if (fake.truncate_error)
		return fake.truncate_error;
	if (fake.truncates < COUNT_OF(fake.truncated))
		fake.truncated[fake.truncates] = size / SECTOR;
	fake.truncates++;
	return fake.far ? 0 : memfs_truncate(fd, size);
}

static inline int fake_datasync(int fd)
{
	void (*at_sync)(void) = fake.at_sync;

	if (is_file(fd, "i/u.index") && fake.sync_error)
		return fake.sync_error;
	if (is_file(fd, "u.data") && fake.data_sync_error)
		return fake.data_sync_error;
	if (is_file(fd, "u.data") && at_sync) {
		fake.at_sync = NULL;
		at_sync();
	}
	return memfs_datasync(fd);
}

static inline int fake_open(const char *path, int flags, mode_t mode)
{
	return fake.no_pending && strstr(path, ".pending.tmp.") ? -ENOSPC
								: memfs_open(path, flags, mode);
}

static inline int fake_unlink(const char *path)
{
	if (fake.is_dead)
		return 0;
	return fake.unlink_error ? fake.unlink_error : memfs_unlink(path);
}

static const struct upper_log_options plain = { .ops = &ops,
						.room_bytes = 4096,
						.room_records = 8 };

static inline void open_log(const struct upper_log_options *options)
{
	struct err e;

	if (upper_log_open("u.data", "i/u.index", options, &u, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	fake.truncates = 0;
}

static inline void make_files(void)
{
	ops = memfs_ops;
	ops.size = fake_size;
	ops.pwrite = fake_pwrite;
	ops.truncate = fake_truncate;
	ops.datasync = fake_datasync;
	ops.open = fake_open;
	ops.unlink = fake_unlink;
	memset(&fake, 0, sizeof fake);
	memfs = memfs_new(1);
	assert_int_equal(
		upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, NULL, NULL, NULL), 0);
}

static inline void start(const struct upper_log_options *options)
{
	make_files();
	open_log(options);
}

static inline void kill_process(void)
{
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs_kill(memfs);
}

static inline void end(void)
{
	kill_process();
	memfs_free(memfs);
}

static inline struct memfs_bytes *bytes_of(const char *name)
{
	return &memfs->files[memfs_find(name)->file].now;
}

/* Entries that the index file has room for. */
static inline uint64_t entries_of_index(void)
{
	assert_int_equal(bytes_of("i/u.index")->n % FORMAT_ENTRY, 0);
	return (bytes_of("i/u.index")->n - FORMAT_SPACE) / FORMAT_ENTRY;
}

static inline size_t records_pending(void)
{
	assert_int_equal(bytes_of("u.pending")->n % RECORD, 0);
	return (bytes_of("u.pending")->n - HEADER) / RECORD;
}

/* Data or zeroes, no two neighbours. */
static inline int put(uint64_t number, struct err *e)
{
	return number % 2 ? upper_log_trim(u, number * 2 * SECTOR, SECTOR, 0, e)
			  : upper_log_pwrite(u, "x", 1, number * 2 * SECTOR, 0, e);
}

static inline struct segment piece_at(uint64_t lba)
{
	struct segment piece;

	assert_int_equal(upper_log_pieces(u, lba, 1, &piece, 1), 1);
	return piece;
}

#endif
