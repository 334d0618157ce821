/* SPDX-License-Identifier: Apache-2.0 */
/* readerlib.h - a writable layer that is only read, on a system that says what the test wants.  A
 * test program includes it once. */
#ifndef OVERLAYBD_TESTS_READERLIB_H
#define OVERLAYBD_TESTS_READERLIB_H

#include "tests/unit/upperlib.h"

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/format.h"
#include "core/upper_intent.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum {
	SECTORS = 64,
	BYTES = SECTORS * SECTOR,
	NUMBER = 3, /* of the layer */
	MOST = FORMAT_MAX_SECTORS,
	DATA = 8, /* the first sector of data */
	FEW = 24, /* records of a case, at most */
};

#define UUID "01234567-89AB-4DEF-8123-456789ABCDEF"
#define OTHER "FEDCBA98-89AB-4DEF-8123-456789ABCDEF"

/* ---- the system, as the test wants it ---- */

struct stretch {
	uint64_t from, to; /* bytes of the data file that are no hole */
};

static struct {
	const struct stretch *list; /* NULL: as the system says */
	size_t count;
	int data_error, hole_error, open_error, status_error;
	unsigned status_after; /* calls before that error */
	uint64_t size, allocated; /* 0: as they are */
	int flags; /* of the last open of the data file */
} fake;

int __real_openat64(int folder, const char *name, int flags, ...);
off_t __real_lseek64(int fd, off_t off, int whence);
int __real_fstat64(int fd, struct stat *st);
int __wrap_openat64(int folder, const char *name, int flags, ...);
off_t __wrap_lseek64(int fd, off_t off, int whence);
int __wrap_fstat64(int fd, struct stat *st);

int __wrap_openat64(int folder, const char *name, int flags, ...)
{
	va_list ap;
	mode_t mode;

	va_start(ap, flags);
	mode = flags & O_CREAT ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (strcmp(name, "u.data") == 0 && !(flags & O_PATH)) {
		fake.flags = flags;
		if (fake.open_error && (flags & O_ACCMODE) == O_RDWR) {
			errno = fake.open_error;
			return -1;
		}
	}
	return __real_openat64(folder, name, flags, mode);
}

/* The power stays: nothing waits for the disk. */
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);

int __wrap_fsync(int fd)
{
	return 0;
}

int __wrap_fdatasync(int fd)
{
	return 0;
}

/* What realloc is asked for. */
static size_t asked[64], asks;
static long refused = -1; /* this one of them fails; negative: none does */

void *__real_realloc(void *old, size_t n);
void *__wrap_realloc(void *old, size_t n);

void *__wrap_realloc(void *old, size_t n)
{
	if (asks < COUNT_OF(asked))
		asked[asks++] = n;
	return refused-- == 0 ? NULL : __real_realloc(old, n);
}

static inline off_t fail_with(int error)
{
	errno = error;
	return -1;
}

off_t __wrap_lseek64(int fd, off_t off, int whence)
{
	uint64_t at = (uint64_t)off;
	size_t i;

	if (whence == SEEK_DATA && fake.data_error)
		return fail_with(fake.data_error);
	if (whence == SEEK_HOLE && fake.hole_error && (!fake.list || off > 0))
		return fail_with(fake.hole_error);
	if (!fake.list || (whence != SEEK_DATA && whence != SEEK_HOLE))
		return __real_lseek64(fd, off, whence);
	for (i = 0; i < fake.count; i++) {
		const struct stretch *s = &fake.list[i];

		if (whence == SEEK_DATA && at < s->to)
			return (off_t)(at > s->from ? at : s->from);
		if (whence == SEEK_HOLE && at >= s->from && at < s->to)
			return (off_t)s->to;
	}
	return whence == SEEK_HOLE ? off : fail_with(ENXIO);
}

int __wrap_fstat64(int fd, struct stat *st)
{
	int r = __real_fstat64(fd, st);

	if (fake.status_error && fake.status_after-- == 0)
		return (int)fail_with(fake.status_error);
	if (fake.size && st->st_size > 0)
		st->st_size = (off_t)fake.size;
	if (fake.allocated)
		st->st_blocks = (blkcnt_t)(fake.allocated / 512);
	return r;
}

static inline int reset(void **state)
{
	memset(&fake, 0, sizeof fake);
	return upper_clear(state);
}

/* ---- files ---- */

static inline void write_whole(const char *path, const uint8_t *raw, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, raw, n), n);
	close(fd);
}

static inline void write_part(const char *path, const char *uuid, uint64_t virtual_size,
			      uint32_t flags, const uint8_t *behind, size_t n)
{
	size_t total = FORMAT_SPACE + n;
	uint8_t *raw = calloc(1, total);
	struct format_header h;

	assert_non_null(raw);
	assert_int_equal(upper_log_make_header(&h, virtual_size, uuid, NULL, NULL), 0);
	h.flags = flags;
	if (!(flags & FORMAT_DATA_FILE))
		h.index_offset = FORMAT_SPACE;
	format_encode_header(&h, raw);
	if (n > 0)
		memcpy(raw + FORMAT_SPACE, behind, n);
	write_whole(path, raw, total);
	free(raw);
}

/* A log of another program: records without checksums. */
static inline void write_log(const char *data, const char *index, uint64_t virtual_size,
			     uint64_t data_sectors, const struct format_entry *entries, size_t n)
{
	uint8_t *raw = malloc(n * FORMAT_ENTRY + 1);
	size_t i;

	assert_non_null(raw);
	for (i = 0; i < n; i++)
		format_encode_entry(&entries[i], raw + i * FORMAT_ENTRY);
	write_part(data, UUID, virtual_size, FORMAT_HEADER | FORMAT_DATA_FILE, NULL, 0);
	write_part(index, UUID, virtual_size, FORMAT_HEADER, raw, n * FORMAT_ENTRY);
	assert_int_equal(truncate(data, (off_t)(FORMAT_SPACE + data_sectors * SECTOR)), 0);
	free(raw);
}

static inline void open_it(const char *what, struct layer *layer, struct upper_findings *found)
{
	struct err e = { "untouched" };

	memset(found, 0xff, sizeof *found);
	if (upper_open_read_only(upper_data, upper_index, NUMBER, layer, found, &e) < 0)
		fail_msg("%s: %s", what, e.msg);
	assert_string_equal(e.msg, "untouched");
}

static inline void expect_maps(const char *what, const struct layer *layer,
			       const struct mapping *want, size_t n)
{
	size_t i;

	if (layer->run.count != n)
		fail_msg("%s: %zu mappings, not %zu", what, layer->run.count, n);
	for (i = 0; i < n; i++)
		if (layer->run.maps[i].range != want[i].range ||
		    layer->run.maps[i].target != want[i].target)
			fail_msg("%s: mapping %zu has %d sectors at %d, from %d of layer %d", what,
				 i, (int)mapping_sectors(layer->run.maps[i]),
				 (int)mapping_start(layer->run.maps[i]),
				 (int)mapping_moffset(layer->run.maps[i]),
				 (int)mapping_layer(layer->run.maps[i]));
}

static inline void write_sparse(uint64_t virtual_size)
{
	write_part(upper_data, UUID, virtual_size, FORMAT_HEADER | FORMAT_DATA_FILE | FORMAT_SPARSE,
		   NULL, 0);
	assert_int_equal(io_replace_file(upper_index, "", 0, NULL), 0);
}

#endif
