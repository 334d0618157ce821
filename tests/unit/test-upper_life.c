/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_life.c - an append log from its making to its end: the bytes of its headers, its size,
 * what is left of it, and that a descriptor may be 0.  In memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/random.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/upper_intent.h"
#include "core/upper_private.h"
#include "tests/unit/loglib.h"
#include "tests/unit/memfs.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

enum { BYTES = 64 * SECTOR };

#define UUID "01234567-89AB-4DEF-8123-456789ABCDEF"
#define PARENT "89ABCDEF-0123-4567-89AB-CDEF01234567"

/* ---- uuids ---- */

static const uint8_t *random_bytes; /* NULL: as the system says */
static ssize_t random_count = 16;

ssize_t __real_getrandom(void *buf, size_t n, unsigned flags);
ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags);

ssize_t __wrap_getrandom(void *buf, size_t n, unsigned flags)
{
	if (!random_bytes || n != 16)
		return __real_getrandom(buf, n, flags);
	assert_int_equal(flags, 0);
	memcpy(buf, random_bytes, 16);
	errno = ENOSYS;
	return random_count;
}

static void a_uuid_is_of_random_bytes(void **state)
{
	static const struct {
		uint8_t bytes[16];
		const char *uuid;
	} cases[] = {
		{ { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc,
		    0xdd, 0xee, 0xff },
		  "00112233-4455-4677-8899-AABBCCDDEEFF" },
		{ { 0 }, "00000000-0000-4000-8000-000000000000" },
		{ { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		    0xff, 0xff, 0xff },
		  "FFFFFFFF-FFFF-4FFF-BFFF-FFFFFFFFFFFF" },
	};
	struct format_header h;
	struct err e = { "" };
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		random_bytes = cases[i].bytes;
		assert_int_equal(upper_log_make_header(&h, BYTES, NULL, NULL, NULL), 0);
		assert_string_equal(h.uuid, cases[i].uuid);
	}
	for (random_count = -1; random_count < 17; random_count++) {
		int want = random_count == 16 ? 0 : -ENOSYS;

		assert_int_equal(upper_log_make_header(&h, BYTES, NULL, NULL, &e), want);
		if (want < 0)
			assert_string_equal(e.msg, "random bytes for a uuid: Function not "
						   "implemented");
	}
	random_count = 16;
	random_bytes = NULL;
}

/* ---- headers ---- */

static void headers_are_checked(void **state)
{
	static const struct {
		uint64_t size;
		const char *uuid, *parent, *said;
	} cases[] = {
		{ 0, UUID, PARENT, "" },
		{ 512, "01234567-89ab-4def-8123-456789abcdef", NULL, "" },
		{ 513, UUID, NULL, "virtual size 513 is not a multiple of 512" },
		{ 511, UUID, NULL, "virtual size 511 is not a multiple of 512" },
		{ (FORMAT_LBA_LIMIT - 1) * SECTOR, UUID, NULL, "" },
		{ FORMAT_LBA_LIMIT * SECTOR, UUID, NULL,
		  "virtual size 576460752303423488 is over 2^50 sectors" },
		{ 512, "x", NULL, "uuid 'x' is not a uuid" },
		{ 512, UUID, "x", "parent uuid 'x' is not a uuid" },
	};
	struct format_header h;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		const char *parent = cases[i].parent ? cases[i].parent : FORMAT_NIL_UUID;
		struct err e = { "" };
		int r = upper_log_make_header(&h, cases[i].size, cases[i].uuid, cases[i].parent,
					      &e);

		assert_string_equal(e.msg, cases[i].said);
		assert_int_equal(r, cases[i].said[0] ? -EINVAL : 0);
		if (r < 0)
			continue;
		assert_int_equal(h.flags, FORMAT_HEADER | FORMAT_DATA_FILE);
		assert_int_equal(h.virtual_size, cases[i].size);
		assert_int_equal(h.index_offset + h.index_size, 0);
		assert_int_equal(h.version, 1);
		assert_int_equal(h.sub_version, 1);
		assert_string_equal(h.uuid, UUID);
		assert_string_equal(h.parent_uuid, parent);
		assert_string_equal(h.tag, "");
	}
}

static struct memfs_bytes *bytes_of(const char *name)
{
	return &memfs->files[memfs_find(name)->file].now;
}

static unsigned made;

static int check_open(const char *path, int flags, mode_t mode)
{
	if (flags & O_CREAT && !strstr(path, ".tmp.")) {
		assert_int_equal(flags, O_RDWR | O_CREAT | O_EXCL);
		assert_int_equal(mode, 0644);
		made++;
	}
	return memfs_open(path, flags, mode);
}

static void a_log_is_made_of_two_headers(void **state)
{
	struct file_ops ops = memfs_ops;
	struct format_header h = { .flags = FORMAT_HEADER | FORMAT_DATA_FILE,
				   .virtual_size = BYTES,
				   .uuid = UUID,
				   .parent_uuid = PARENT,
				   .version = 1,
				   .sub_version = 1 };
	uint8_t want[FORMAT_SPACE];

	ops.open = check_open;
	memfs = memfs_new(1);
	assert_int_equal(upper_log_create(&ops, "u.data", "i/u.index", BYTES, UUID, PARENT, NULL),
			 0);
	assert_int_equal(made, 2);
	format_encode_header(&h, want);
	assert_int_equal(bytes_of("u.data")->n, FORMAT_SPACE);
	assert_memory_equal(bytes_of("u.data")->p, want, FORMAT_SPACE);
	h.flags = FORMAT_HEADER;
	h.index_offset = FORMAT_SPACE;
	format_encode_header(&h, want);
	assert_int_equal(bytes_of("i/u.index")->n, FORMAT_SPACE);
	assert_memory_equal(bytes_of("i/u.index")->p, want, FORMAT_SPACE);
	memfs_free(memfs);
}

/* What has the name of its pending file, or of its intent, is no log's any more, or in the way. */
static void what_lies_under_its_names_is_looked_at(void **state)
{
	static const struct {
		const char *name, *text;
		int r;
		const char *said;
	} cases[] = {
		{ "u.pending", "OBDPEND2", 0, "" },
		{ "u.pending", "letter", -EEXIST, "u.pending: is in the way: " },
		{ "u.intent", "letter", -EEXIST, "u.intent: is in the way: " },
		{ "u.data", "letter", -EEXIST, "u.data: File exists" },
		{ "i/u.index", "letter", -EEXIST, "i/u.index: File exists" },
	};
	size_t i;
	int fd;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct err e = { "" };
		bool stays = cases[i].r < 0;

		memfs = memfs_new(1);
		fd = memfs_open(cases[i].name, O_RDWR | O_CREAT, 0600);
		assert_int_equal(memfs_pwrite(fd, cases[i].text, strlen(cases[i].text), 0),
				 strlen(cases[i].text));
		memfs_close(fd);
		loglib_listen();
		assert_int_equal(
			upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, UUID, NULL, &e),
			cases[i].r);
		log_set_sink(NULL);
		assert_memory_equal(e.msg, cases[i].said, strlen(cases[i].said));
		if (stays) {
			assert_int_equal(bytes_of(cases[i].name)->n, strlen(cases[i].text));
			assert_int_equal(memfs_find("u.data") != NULL, i == 3);
			assert_int_equal(memfs_find("i/u.index") != NULL, i == 4);
		} else {
			assert_null(memfs_find(cases[i].name));
		}
		memfs_free(memfs);
	}
}

/* ---- opening ---- */

static void the_size_is_found(void **state)
{
	static const struct {
		uint64_t own, size, below, want;
	} cases[] = {
		{ 1024, 0, 0, 1024 },	 { 1024, 0, 2048, 1024 }, { 1024, 512, 2048, 512 },
		{ 0, 0, 2048, 2048 },	 { 0, 0, 2049, 2048 },	  { 0, 512, 2048, 512 },
		{ 0, 0, 512, 512 },	 { 0, 0, 0, 0 },	  { 0, 0, 511, 0 },
		{ 1024, 4096, 0, 4096 },
	};
	struct upper_log *u;
	size_t i;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct upper_log_options options = { .ops = &memfs_ops,
						     .size = cases[i].size,
						     .size_below = cases[i].below };
		struct err e = { "" };
		int r;

		memfs = memfs_new(1);
		assert_int_equal(upper_log_create(&memfs_ops, "u.data", "i/u.index", cases[i].own,
						  UUID, NULL, NULL),
				 0);
		r = upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e);
		assert_int_equal(r, cases[i].want ? 0 : -EINVAL);
		if (r == 0) {
			assert_int_equal(upper_log_size(u), cases[i].want);
			assert_int_equal(upper_log_header(u)->virtual_size, cases[i].own);
			assert_int_equal(upper_log_close(u, NULL), 0);
		} else {
			assert_string_equal(e.msg, "u.data: it has no virtual size of its own: "
						   "give it one with 'overlaybd resize'");
		}
		memfs_free(memfs);
	}
}

static void what_is_no_log_is_not_opened(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		uint64_t size;
		const char *said;
	} cases[] = {
		{ 28, 0x13, 0, "u.data: a sparse layer is not written to: convert it to a log" },
		{ 0, 'x', 0, "u.data: " },
		{ 28, 3, 513, "virtual size 513 is not a multiple of 512" },
	};
	struct upper_log *u;
	size_t i, k;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct upper_log_options options = { .ops = &memfs_ops, .size = cases[i].size };
		struct err e = { "" };

		memfs = memfs_new(1);
		assert_int_equal(upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, UUID,
						  NULL, NULL),
				 0);
		bytes_of("u.data")->p[cases[i].at] = cases[i].value;
		assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, &e),
				 i == 1 ? -EBADMSG : -EINVAL);
		assert_memory_equal(e.msg, cases[i].said, strlen(cases[i].said));
		for (k = 0; k < MEMFS_FDS; k++)
			assert_int_equal(memfs->fds[k], -1);
		memfs_free(memfs);
	}
}

/* ---- a descriptor that is 0 ---- */

static long zero_at; /* of the opens, the one that gets 0; the others get more */
static int holder; /* a file that has 0 until then */

static int open_at_zero(const char *path, int flags, mode_t mode)
{
	int fd;

	if (zero_at >= 0 && memfs->fds[0] < 0)
		memfs->fds[0] = holder;
	if (zero_at == 0 && memfs->fds[0] == holder)
		memfs->fds[0] = -1;
	fd = memfs_open(path, flags, mode);
	if (fd >= 0)
		zero_at--;
	else if (zero_at == 0)
		memfs->fds[0] = holder;
	return fd;
}

static void free_zero(void)
{
	if (memfs->fds[0] == holder)
		memfs->fds[0] = -1;
}

static void expect_no_fds(long k)
{
	size_t i;

	free_zero();
	for (i = 0; i < MEMFS_FDS; i++)
		if (memfs->fds[i] >= 0)
			fail_msg("open %ld: descriptor %zu is left", k, i);
}

/* A log whose name does not end in ".data" is made, written, killed, taken up, tidied, compacted by
 * hand, closed; what lies beside it is looked at. */
static void live(const struct file_ops *ops, long k)
{
	struct upper_log_options options = {
		.ops = ops, .garbage = 50, .garbage_records = 10, .room_bytes = 512
	};
	struct upper_intent intent = { .kind = UPPER_INTENT_RESIZE,
				       .virtual_size = 2 * BYTES,
				       .uuid = UUID };
	struct upper_findings found;
	struct upper_log *u;
	struct err e = { "" };
	bool removed;
	char byte;
	unsigned i;
	int fd, r;

	loglib_listen();
	r = upper_log_create(ops, "u", "i/u.index", BYTES, UUID, NULL, &e);
	if (r == 0)
		r = upper_log_open("u", "i/u.index", &options, &u, NULL, &e);
	if (r < 0)
		fail_msg("open %ld: %s", k, e.msg);
	for (i = 0; i < 40; i++)
		assert_int_equal(upper_log_pwrite(u, "x", 1, i % 4 * 1024, 0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_true(u->index_records < 20);
	assert_int_equal(upper_log_pwrite(u, "y", 1, 8192, 0, NULL), 0);
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs->dead = false;
	expect_no_fds(k);
	assert_int_equal(upper_pending_holder(ops, "u"), getpid());
	assert_int_equal(upper_log_open("u", "i/u.index", &options, &u, &found, NULL), 0);
	assert_int_equal(found.pending_records, 1);
	assert_int_equal(upper_log_pread(u, &byte, 1, 8192, NULL), 0);
	assert_int_equal(byte, 'y');
	assert_int_equal(upper_log_close(u, NULL), 0);
	expect_no_fds(k);
	assert_null(memfs_find("u.upper-pending"));
	fd = ops->open("u", O_RDWR, 0);
	assert_int_equal(upper_intent_write(ops, "u", fd, &intent, NULL), 0);
	ops->close(fd);
	assert_int_equal(upper_log_open("u", "i/u.index", &options, &u, NULL, NULL), 0);
	assert_int_equal(upper_log_size(u), 2 * BYTES);
	assert_int_equal(upper_log_pwrite(u, "z", 1, 8192, 0, NULL), 0);
	memfs->dead = true;
	(void)upper_log_close(u, NULL);
	memfs->dead = false;
	assert_true(upper_intent_is_part(ops, "u", FORMAT_PART_LOG_DATA, UUID));
	assert_int_equal(upper_pending_discard(ops, "u", UUID, &removed, NULL), 0);
	assert_true(removed);
	expect_no_fds(k);
	memfs_close(memfs_open("u.upper-pending", O_RDWR | O_CREAT, 0600));
	assert_int_equal(upper_pending_remove(ops, "u", NULL), 0);
	log_set_sink(NULL);
	assert_null(memfs_find("u.upper-pending"));
	assert_int_equal(upper_intent_remove(ops, "u", NULL), 0);
	expect_no_fds(k);
}

/* What older versions left, of the log whose name does not end in ".data". */
static void live_with_older(const struct file_ops *ops, long k)
{
	uint8_t raw[128] = "OBDPEND1";
	struct upper_log_options options = { .ops = ops };
	struct upper_pending_content content;
	struct upper_log *u;
	bool removed;
	int fd, i;

	memcpy(raw + 16, "00000001-0000-4000-8000-000000000000", 36);
	memcpy(raw + 52, UUID, 36);
	le32_put(raw + 124, crc32c_raw(0, raw, 124));
	assert_int_equal(upper_log_create(ops, "u", "i/u.index", BYTES, UUID, NULL, NULL), 0);
	for (i = 0; i < 2; i++) {
		fd = memfs_open("u.pending", O_RDWR | O_CREAT, 0600);
		assert_int_equal(memfs_pwrite(fd, raw, sizeof raw, 0), sizeof raw);
		memfs_close(fd);
		assert_int_equal(upper_pending_read(ops, "u", UUID, &content, NULL), 0);
		assert_true(content.is_there && content.older);
		free(content.records);
		if (i == 0) {
			assert_int_equal(upper_pending_discard(ops, "u", UUID, &removed, NULL), 0);
			assert_true(removed);
			assert_null(memfs_find("u.pending"));
		}
		expect_no_fds(k);
	}
	assert_int_equal(upper_log_open("u", "i/u.index", &options, &u, NULL, NULL), 0);
	assert_null(memfs_find("u.pending")); /* there is a new one */
	assert_int_equal(upper_log_close(u, NULL), 0);
	expect_no_fds(k);
	memset(raw, 0, sizeof raw);
	memcpy(raw, "OBDINTN1", 8);
	le64_put(raw + 8, UPPER_INTENT_RESIZE);
	le64_put(raw + 16, 2 * BYTES);
	memcpy(raw + 24, UUID, 36);
	le32_put(raw + 124, crc32c_raw(0, raw, 124));
	fd = memfs_open("u.intent", O_RDWR | O_CREAT, 0600);
	assert_int_equal(memfs_pwrite(fd, raw, sizeof raw, 0), sizeof raw);
	memfs_close(fd);
	assert_int_equal(upper_log_open("u", "i/u.index", &options, &u, NULL, NULL), 0);
	assert_int_equal(upper_log_size(u), 2 * BYTES);
	assert_null(memfs_find("u.intent"));
	assert_int_equal(upper_log_close(u, NULL), 0);
	expect_no_fds(k);
}

static void a_descriptor_may_be_zero(void **state)
{
	static void (*const lives[])(const struct file_ops *ops, long k) = { live,
									     live_with_older };
	struct file_ops ops = memfs_ops;
	size_t i;
	long k;

	ops.open = open_at_zero;
	for (i = 0; i < COUNT_OF(lives); i++)
		for (k = 0, zero_at = -1; zero_at < 0; k++) {
			memfs = memfs_new(1);
			memfs_close(memfs_open("holder", O_RDWR | O_CREAT, 0600));
			holder = memfs_find("holder")->file;
			zero_at = k;
			lives[i](&ops, k);
			memfs_free(memfs);
			assert_true(k < 1000);
		}
}

/* ---- the end ---- */

static int unlink_result;
static char unlinked[100];

static int note_unlink(const char *path)
{
	size_t n = strlen(unlinked);

	snprintf(unlinked + n, sizeof unlinked - n, "%s ", path);
	return unlink_result ? unlink_result : memfs_unlink(path);
}

static int truncate_result;

static int truncate_as_told(int fd, uint64_t size)
{
	return truncate_result ? truncate_result : memfs_truncate(fd, size);
}

static struct upper_log *open_told(struct file_ops *ops)
{
	struct upper_log_options options = { .ops = ops, .room_bytes = 4096, .room_records = 4 };
	struct upper_log *u;

	*ops = memfs_ops;
	ops->unlink = note_unlink;
	ops->truncate = truncate_as_told;
	unlink_result = truncate_result = 0;
	memfs = memfs_new(1);
	assert_int_equal(
		upper_log_create(&memfs_ops, "u.data", "i/u.index", BYTES, UUID, NULL, NULL), 0);
	assert_int_equal(upper_log_open("u.data", "i/u.index", &options, &u, NULL, NULL), 0);
	unlinked[0] = '\0';
	return u;
}

static void a_retired_log_loses_its_names(void **state)
{
	static const struct {
		int unlink, truncate;
		const char *warned;
	} cases[] = {
		{ 0, 0, "" },
		{ -ENOENT, 0, "" },
		{ -EROFS, 0,
		  "u.pending: it is empty, but cannot be removed: Read-only file system\n"
		  "i/u.index: cannot be removed: Read-only file system\n"
		  "u.data: cannot be removed: Read-only file system\n" },
		{ 0, -EIO, "i/u.index: resizing: Input/output error\n" },
	};
	struct file_ops ops;
	size_t i;
	char byte;

	for (i = 0; i < COUNT_OF(cases); i++) {
		struct upper_log *u = open_told(&ops);

		assert_int_equal(upper_log_pwrite(u, "x", 1, 0, UPPER_FUA, NULL), 0);
		unlink_result = cases[i].unlink;
		truncate_result = cases[i].truncate;
		loglib_listen();
		upper_log_retire(u);
		loglib_expect(cases[i].warned);
		assert_string_equal(unlinked, cases[i].truncate ? "i/u.index u.data "
								: "u.pending i/u.index u.data ");
		unlink_result = truncate_result = 0;
		assert_int_equal(upper_log_pread(u, &byte, 1, 0, NULL), 0);
		assert_int_equal(byte, 'x');
		(void)upper_log_close(u, NULL);
		loglib_expect_none();
		memfs_free(memfs);
	}
}

/* Both files end where what they hold ends, and the pending file is gone. */
static void a_closed_log_has_no_room(void **state)
{
	struct file_ops ops;
	struct upper_log *u = open_told(&ops);
	struct err e = { "" };

	assert_int_equal(upper_log_close(NULL, &e), 0);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, 0, NULL), 0);
	assert_int_equal(bytes_of("u.data")->n, FORMAT_SPACE + 512 + 4096);
	assert_int_equal(upper_log_close(u, &e), 0);
	assert_string_equal(unlinked, "u.pending ");
	assert_int_equal(bytes_of("u.data")->n, FORMAT_SPACE + 512);
	/* A record, its CHECK and CONFIRM. */
	assert_int_equal(bytes_of("i/u.index")->n, FORMAT_SPACE + 3 * FORMAT_ENTRY);
	memfs_free(memfs);
	/* The index cannot be cut: it goes on saying that the log is open. */
	u = open_told(&ops);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, UPPER_FUA, NULL), 0);
	truncate_result = -EIO;
	assert_int_equal(upper_log_close(u, &e), -EIO);
	assert_string_equal(e.msg, "i/u.index: resizing: Input/output error");
	assert_non_null(memfs_find("u.pending"));
	assert_int_equal(bytes_of("u.data")->n, FORMAT_SPACE + 512 + 4096);
	memfs_free(memfs);
	/* What was never written to is not cut. */
	u = open_told(&ops);
	assert_int_equal(memfs_truncate(u->data_fd, FORMAT_SPACE + 512), 0);
	assert_int_equal(upper_log_close(u, &e), 0);
	assert_int_equal(bytes_of("u.data")->n, FORMAT_SPACE + 512);
	memfs_free(memfs);
}

static int like_result, likes;
static int like_fds[4];

static int note_like(int fd, int model)
{
	like_fds[2 * likes] = fd;
	like_fds[2 * likes + 1] = model;
	return likes++ == 1 ? like_result : 0;
}

static void a_log_is_made_like_another(void **state)
{
	struct file_ops ops;
	struct upper_log *u = open_told(&ops), *model;
	struct upper_log_options options = { .ops = &memfs_ops };
	struct err e = { "" };

	assert_int_equal(
		upper_log_create(&memfs_ops, "v.data", "i/v.index", BYTES, UUID, NULL, NULL), 0);
	assert_int_equal(upper_log_open("v.data", "i/v.index", &options, &model, NULL, NULL), 0);
	ops.make_like = note_like;
	assert_int_equal(upper_log_make_like(u, model, &e), 0);
	assert_int_equal(likes, 2);
	assert_int_equal(like_fds[0], u->data_fd);
	assert_int_equal(like_fds[1], model->data_fd);
	assert_int_equal(like_fds[2], u->index_fd);
	assert_int_equal(like_fds[3], model->index_fd);
	likes = 0;
	like_result = -EPERM;
	assert_int_equal(upper_log_make_like(u, model, &e), -EPERM);
	assert_string_equal(e.msg, "u.data: owner and mode: Operation not permitted");
	likes = 1; /* the first fails: the second is not touched */
	like_result = -EROFS;
	assert_int_equal(upper_log_make_like(u, model, &e), -EROFS);
	assert_int_equal(likes, 2);
	assert_int_equal(upper_log_close(u, NULL), 0);
	assert_int_equal(upper_log_close(model, NULL), 0);
	memfs_free(memfs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_uuid_is_of_random_bytes),
		cmocka_unit_test(headers_are_checked),
		cmocka_unit_test(a_log_is_made_of_two_headers),
		cmocka_unit_test(what_lies_under_its_names_is_looked_at),
		cmocka_unit_test(the_size_is_found),
		cmocka_unit_test(what_is_no_log_is_not_opened),
		cmocka_unit_test(a_descriptor_may_be_zero),
		cmocka_unit_test(a_retired_log_loses_its_names),
		cmocka_unit_test(a_closed_log_has_no_room),
		cmocka_unit_test(a_log_is_made_like_another),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
