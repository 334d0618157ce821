/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_log.c - an append log on real files: against a model, its interop, its refusals, what
 * is left of a process that died, and what it gives back. */
#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/upperlib.h"

#include "core/format.h"

enum {
	SECTORS = 300,
	BYTES = SECTORS * 512,
	STEPS = 10000,
};

static int fill_below(void *arg, void *buf, size_t n, uint64_t off, struct err *e)
{
	size_t i;

	for (i = 0; i < n; i++)
		((uint8_t *)buf)[i] = (uint8_t)((off + i) / 512 + 3 * (off + i) + 1);
	return 0;
}

/* ---- the model ---- */

static uint8_t disk[BYTES];

static void check_all(struct upper_log *u)
{
	static uint8_t read[BYTES];
	struct err e;

	if (upper_log_pread(u, read, BYTES, 0, &e) < 0)
		fail_msg("%s", e.msg);
	assert_memory_equal(read, disk, BYTES);
}

static void change(struct upper_log *u)
{
	uint64_t off = loops_random() % BYTES, n = loops_random() % 9000 + 1, i;
	unsigned flags = loops_random() % 64 ? 0 : UPPER_FUA;
	uint8_t buf[9000];
	int r;

	n = n < BYTES - off ? n : BYTES - off;
	switch (loops_random() % 6) {
	case 0:
		r = upper_log_zero(u, off, n, flags | UPPER_FAST, NULL);
		memset(disk + off, 0, (size_t)n);
		break;
	case 1:
		r = upper_log_trim(u, off, n, flags, NULL);
		for (i = (off + 511) / 512; (i + 1) * 512 <= off + n; i++)
			memset(disk + i * 512, 0, 512);
		break;
	default:
		for (i = 0; i < n; i++)
			buf[i] = (uint8_t)loops_random();
		if (loops_random() % 2) {
			off = off / 512 * 512;
			n = n / 512 * 512;
		}
		r = upper_log_pwrite(u, buf, (size_t)n, off, flags, NULL);
		memcpy(disk + off, buf, (size_t)n);
	}
	assert_int_equal(r, 0);
}

static void check_read(struct upper_log *u)
{
	uint64_t off = loops_random() % BYTES, n = loops_random() % 20000 + 1;
	uint8_t buf[20000];

	n = n < BYTES - off ? n : BYTES - off;
	assert_int_equal(upper_log_pread(u, buf, (size_t)n, off, NULL), 0);
	assert_memory_equal(buf, disk + off, (size_t)n);
}

static void run_model(const struct upper_log_options *options)
{
	struct upper_log *u = upper_new(BYTES, options);
	unsigned i, steps = loops_count(STEPS);

	memset(disk, 0, BYTES);
	if (options->below.pread)
		fill_below(NULL, disk, BYTES, 0, NULL);
	for (i = 0; i < steps; i++) {
		change(u);
		check_read(u);
		if (loops_random() % 32 == 0)
			assert_int_equal(upper_log_flush(u, NULL), 0);
		if (loops_random() % 64 == 0)
			assert_int_equal(upper_log_tidy(u, NULL), 0);
		if (loops_random() % 256 == 0) {
			upper_close(u);
			assert_int_equal(access(upper_pending, F_OK), -1);
			u = upper_open_with(options);
			check_all(u);
		}
	}
	check_all(u);
	upper_close(u);
	if (!options->below.pread)
		upper_check_files(disk, BYTES);
}

static void a_log_is_a_disk(void **state)
{
	struct upper_log_options options = { .garbage = 50,
					     .garbage_records = 64,
					     .garbage_bytes = 1 };

	run_model(&upper_plain);
	run_model(&options);
	options.pending_bytes = 1024;
	options.below.pread = fill_below;
	run_model(&options);
}

static void ranges_beyond_the_disk_are_refused(void **state)
{
	struct upper_log *u = upper_new(BYTES, &upper_plain);
	uint8_t buf[512] = { 0 };
	struct err e;

	assert_int_equal(upper_log_size(u), BYTES);
	assert_int_equal(upper_log_pread(u, buf, 512, BYTES - 511, &e), -EINVAL);
	assert_int_equal(upper_log_pwrite(u, buf, 512, BYTES - 511, 0, &e), -EINVAL);
	assert_int_equal(upper_log_pwrite(u, buf, 512, UINT64_MAX - 5, 0, &e), -EINVAL);
	assert_int_equal(upper_log_zero(u, BYTES, 1, 0, &e), -EINVAL);
	assert_int_equal(upper_log_trim(u, 0, UINT64_MAX, 0, &e), -EINVAL);
	assert_non_null(strstr(e.msg, upper_data));
	assert_int_equal(upper_log_pwrite(u, buf, 0, BYTES, 0, &e), 0);
	upper_close(u);
}

/* ---- its files ---- */

/* One write of more than a record can say, and a trim of more than a batch of records. */
static void long_ranges_are_cut_into_records(void **state)
{
	uint64_t size = UINT64_C(9) << 30, n = 40 << 20;
	struct upper_log *u = upper_new(size, &upper_plain);
	uint8_t *bytes = malloc((size_t)n), *read = malloc((size_t)n);
	char command[300];
	uint64_t i;

	for (i = 0; i < n; i++)
		bytes[i] = (uint8_t)(i / 512 + i);
	assert_int_equal(upper_log_trim(u, 0, size, 0, NULL), 0);
	assert_int_equal(upper_log_pwrite(u, bytes, (size_t)n, 12345, 0, NULL), 0);
	assert_int_equal(upper_log_pread(u, read, (size_t)n, 12345, NULL), 0);
	assert_memory_equal(read, bytes, (size_t)n);
	upper_close(u);
	snprintf(command, sizeof command, "python3 %s/../check-upper.py %s %s > /dev/null",
		 getenv("GOLDEN"), upper_data, upper_index);
	assert_int_equal(system(command), 0);
	u = upper_open_with(NULL);
	assert_int_equal(upper_log_pread(u, read, (size_t)n, 12345, NULL), 0);
	assert_memory_equal(read, bytes, (size_t)n);
	upper_close(u);
	free(bytes);
	free(read);
}

static void creating(void **state)
{
	static const char uuid[] = "0123abcd-1dfb-4ec7-8e49-636d2508e22e";
	struct upper_log *u;
	struct err e;

	upper_clear(NULL);
	assert_int_equal(upper_log_create(NULL, upper_data, upper_index, 513, NULL, NULL, &e),
			 -EINVAL);
	assert_int_equal(upper_log_create(NULL, upper_data, upper_index, 512, "x", NULL, &e),
			 -EINVAL);
	assert_int_equal(access(upper_data, F_OK), -1);
	/* The second file cannot be made: the first does not stay. */
	assert_int_equal(upper_log_create(NULL, upper_data, "/nowhere/x", 512, NULL, NULL, &e),
			 -ENOENT);
	assert_int_equal(access(upper_data, F_OK), -1);
	/* Somebody's file has a name that the log needs: it stays, and the log is not made. */
	assert_int_equal(io_replace_file(upper_pending, "x", 1, NULL), 0);
	assert_int_equal(upper_log_create(NULL, upper_data, upper_index, 1024, uuid, uuid, &e),
			 -EEXIST);
	assert_non_null(strstr(e.msg, upper_pending));
	assert_int_equal(upper_file_size(upper_pending), 1);
	assert_int_equal(access(upper_data, F_OK), -1);
	assert_int_equal(unlink(upper_pending), 0);
	assert_int_equal(upper_log_create(NULL, upper_data, upper_index, 1024, uuid, uuid, &e), 0);
	assert_int_equal(upper_log_create(NULL, upper_data, upper_index, 512, NULL, NULL, &e),
			 -EEXIST);
	assert_non_null(strstr(e.msg, upper_data));
	u = upper_open_with(NULL);
	assert_string_equal(upper_log_header(u)->uuid, "0123ABCD-1DFB-4EC7-8E49-636D2508E22E");
	assert_string_equal(upper_log_header(u)->parent_uuid,
			    "0123ABCD-1DFB-4EC7-8E49-636D2508E22E");
	upper_close(u);
	memset(disk, 0, BYTES);
	upper_check_files(disk, 1024);
}

static void copy_golden(const char *name, const char *to)
{
	size_t n;
	uint8_t *bytes = testlib_golden(name, &n);

	assert_int_equal(io_replace_file(to, bytes, n, NULL), 0);
	free(bytes);
}

/* The reference's log: read as it is, written on, read again. */
static void the_reference_log_is_written_on(void **state)
{
	enum { SIZE = 16 << 20 };
	uint8_t *before, *after, *read = malloc(SIZE);
	struct upper_log *u;

	copy_golden("upper-log/upper.data", upper_data);
	copy_golden("upper-log/upper.index", upper_index);
	before = upper_read_only(SIZE);
	u = upper_open_with(NULL);
	assert_int_equal(upper_log_pread(u, read, SIZE, 0, NULL), 0);
	assert_memory_equal(read, before, SIZE);
	assert_int_equal(upper_log_pwrite(u, "some bytes", 10, 4242424, 0, NULL), 0);
	memcpy(before + 4242424, "some bytes", 10);
	assert_int_equal(upper_log_zero(u, 5000000, 300000, 0, NULL), 0);
	memset(before + 5000000, 0, 300000);
	upper_close(u);
	after = upper_read_only(SIZE);
	assert_memory_equal(after, before, SIZE);
	free(before);
	free(after);
	free(read);
}

/* Writes one byte over a file's. */
static void patch(const char *path, int at, uint8_t value)
{
	int fd = open(path, O_WRONLY);

	assert_int_equal(pwrite(fd, &value, 1, at), 1);
	close(fd);
}

static void refusals(void **state)
{
	static const struct {
		const char *message;
		bool index;
		int at;
		uint8_t value;
	} bad[] = {
		{ "bad magic", false, 0, 0 },
		{ "flags 0x7", false, 28, 7 },
		{ "a sparse layer is not written to", false, 28, 0x13 },
		{ "different uuids", true, 57, '!' },
		{ "different virtual sizes", true, 50, 9 },
		{ "index record 0: its length is 0", true, 4096 + 6, 0 },
		{ "index record 0: its data lies in the header", true, 4096 + 8, 7 },
	};
	struct upper_log *u;
	struct err e;
	size_t i;

	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		u = upper_new(BYTES, &upper_plain);
		assert_int_equal(upper_log_pwrite(u, disk, 512, 512, 0, NULL), 0);
		upper_close(u);
		patch(bad[i].index ? upper_index : upper_data, bad[i].at, bad[i].value);
		if (upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e) >= 0 ||
		    !strstr(e.msg, bad[i].message) || !strstr(e.msg, upper_data))
			fail_msg("%s: got: %s", bad[i].message, e.msg);
		assert_int_equal(access(upper_pending, F_OK), -1);
	}
	unlink(upper_index);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e), -ENOENT);
	assert_int_equal(upper_log_open(upper_folder, upper_index, NULL, &u, NULL, &e), -EISDIR);
	assert_int_equal(upper_log_open("/dev/null", upper_index, NULL, &u, NULL, &e), -EINVAL);
}

/* What a crash left is cut off; the data goes on behind all that records point at. */
static void the_end_of_a_crash_is_cut(void **state)
{
	struct upper_findings found;
	struct upper_log *u = upper_new(BYTES, &upper_plain);
	uint8_t bytes[1024];
	struct err e;

	memset(bytes, 7, sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, 1024, 0, 0, NULL), 0);
	upper_close(u);
	/* Two entries beyond the data, and a fragment. */
	assert_int_equal(truncate(upper_index, 4096 + 16), 0);
	patch(upper_index, 4096 + 16 + 6, 4);
	patch(upper_index, 4096 + 16 + 8, 200);
	patch(upper_index, 4096 + 32 + 6, 4);
	patch(upper_index, 4096 + 32 + 8, 201);
	patch(upper_index, 4096 + 52, 1);
	assert_int_equal(truncate(upper_data, 4096 + 1024 + 5), 0);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
	assert_int_equal(found.records, 1);
	assert_int_equal(found.ignored_records, 2);
	assert_int_equal(found.fragment_bytes, 5);
	assert_int_equal(upper_file_size(upper_index), 4096 + (1 + 2) * 16);
	assert_int_equal(upper_log_pwrite(u, bytes, 512, 1024, 0, NULL), 0);
	upper_close(u);
	assert_int_equal(upper_file_size(upper_data), 4096 + 1024 + 512);
	memset(disk, 0, BYTES);
	memset(disk, 7, 1536);
	upper_check_files(disk, BYTES);
}

/* Padding holds a place for later records, and is nothing to warn of; one that an append left out
 * counts as little. */
static void padding_is_cut(void **state)
{
	struct upper_log_options options = { .room_records = 100 };
	struct upper_log *u = upper_new(BYTES, &options);
	struct upper_findings found;
	struct layer layer;
	uint8_t bytes[1024];
	struct err e;
	size_t i;

	memset(bytes, 7, sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, 1024, 0, 0, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(upper_file_size(upper_index), 4096 + (31 + 100) * 16);
	assert_int_equal(upper_log_pwrite(u, bytes, 512, 4096, UPPER_FUA, NULL), 0);
	assert_int_equal(upper_file_size(upper_index), 4096 + (31 + 100) * 16);
	/* A reader comes when the half of a record is written. */
	patch(upper_index, 4096 + 4 * 16, 16);
	for (i = 1; i < 8; i++)
		patch(upper_index, 4096 + 4 * 16 + (int)i, 0);
	patch(upper_index, 4096 + 4 * 16 + 6, 4);
	assert_int_equal(upper_open_read_only(upper_data, upper_index, 0, &layer, &found, &e), 0);
	layer_close(&layer);
	assert_int_equal(found.records, 2);
	assert_int_equal(found.ignored_records, 31 + 100 - 4);
	upper_close(u);
	assert_int_equal(upper_file_size(upper_index), 4096 + 5 * 16);

	/* Of another program: without checksums, but with padding, at both ends and between. */
	assert_int_equal(truncate(upper_index, 4096 + 3 * 16), 0);
	for (i = 0; i < 2 * 16; i++)
		patch(upper_index, 4096 + (int)i, 0xff);
	for (i = 0; i < 100 * 16; i++)
		patch(upper_index, 4096 + 3 * 16 + (int)i, 0xff);
	assert_int_equal(upper_log_open(upper_data, upper_index, &options, &u, &found, &e), 0);
	assert_int_equal(found.records, 1);
	assert_int_equal(found.ignored_records, 0);
	assert_int_equal(upper_file_size(upper_index), 4096 + 5 * 16);
	upper_close(u);
	assert_int_equal(upper_file_size(upper_index), 4096 + 4 * 16);
	memset(disk, 0, BYTES);
	memset(disk + 4096, 7, 512);
	upper_check_files(disk, BYTES);
}

/* A sector of an append that never reached the disk, before one that did. */
static void a_torn_append_is_cut(void **state)
{
	static const uint8_t zeroes[31 * 16];
	struct upper_findings found;
	struct upper_log *u = upper_new(BYTES, &upper_plain);
	struct err e;
	int fd, i;

	for (i = 0; i < 40; i++)
		assert_int_equal(upper_log_pwrite(u, "x", 1, (uint64_t)i * 1024, 0, NULL), 0);
	upper_close(u);
	/* Not confirmed: it need not have been synced.  None of it counts. */
	assert_int_equal(truncate(upper_index, 4096 + 41 * 16), 0);
	fd = open(upper_index, O_WRONLY);
	assert_int_equal(pwrite(fd, zeroes, sizeof zeroes, 4096 + 16), sizeof zeroes);
	close(fd);
	memset(disk, 0, BYTES);
	free(upper_read_only(BYTES));
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
	assert_int_equal(found.records, 0);
	assert_int_equal(found.ignored_records, 41);
	check_all(u);
	upper_close(u);
	upper_check_files(disk, BYTES);
}

/* ---- other processes ---- */

static void a_log_has_one_writer(void **state)
{
	struct upper_log *u = upper_new(BYTES, &upper_plain), *other;
	char expected[64];
	struct err e;
	int status, ready[2];
	pid_t child;
	char c;

	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &other, NULL, &e), -EBUSY);
	snprintf(expected, sizeof expected, "is in use by process %d", (int)getpid());
	assert_non_null(strstr(e.msg, expected));
	/* As nbdkit does: the child goes on with what the parent opened. */
	assert_int_equal(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		close(ready[0]);
		alarm(60); /* the test may fail */
		_exit(upper_log_after_fork(u, NULL) < 0 || write(ready[1], "x", 1) != 1 || pause());
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &other, NULL, &e), -EBUSY);
	snprintf(expected, sizeof expected, "is in use by process %d", (int)child);
	assert_non_null(strstr(e.msg, expected));
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	upper_close(u);
	upper_close(upper_open_with(NULL));
}

/* Invariant 3. */
static void a_dead_process_keeps_its_word(void **state)
{
	struct upper_log_options options = { .below = { .pread = fill_below } };
	struct upper_findings found;
	struct upper_log *u = upper_new(BYTES, &options);
	uint8_t *read;
	struct err e;

	fill_below(NULL, disk, BYTES, 0, NULL);
	upper_close(u);
	write_and_die(&options);
	memcpy(disk + 100, "flushed", 7);
	memcpy(disk + 2000, "acknowledged", 12);
	memset(disk + 4096, 0, 4096);
	/* Who only reads sees it too. */
	read = upper_read_only(BYTES);
	assert_memory_equal(read + 1536, disk + 1536, 512);
	free(read);
	assert_int_equal(upper_log_open(upper_data, upper_index, &options, &u, &found, &e), 0);
	assert_true(found.pending_records >= 2);
	check_all(u);
	/* It is flushed with the rest, and survives what follows. */
	upper_close(u);
	assert_int_equal(access(upper_pending, F_OK), -1);
	u = upper_open_with(&options);
	check_all(u);
	upper_close(u);
	/* Without the file the write is lost: this is what it is for. */
	fill_below(NULL, disk, BYTES, 0, NULL);
	u = upper_new(BYTES, &options);
	upper_close(u);
	write_and_die(&options);
	assert_int_equal(unlink(upper_pending), 0);
	memcpy(disk + 100, "flushed", 7);
	u = upper_open_with(&options);
	check_all(u);
	upper_close(u);
}

/* Gives the pending file other bytes, of a header that is whole. */
static void forge_header(size_t at, const char *bytes)
{
	uint8_t raw[256];
	int fd = open(upper_pending, O_RDWR);

	assert_int_equal(pread(fd, raw, sizeof raw, 0), sizeof raw);
	memcpy(raw + at, bytes, strlen(bytes));
	le32_put(raw + 252, crc32c_raw(0, raw, 252));
	assert_int_equal(pwrite(fd, raw, sizeof raw, 0), sizeof raw);
	close(fd);
}

/* One of another boot is not replayed; power loss may have left nothing of it. */
static void a_pending_file_of_another_boot_is_ignored(void **state)
{
	static const uint8_t zeroes[256];
	struct upper_findings found;
	struct upper_log *u;
	struct err e;
	int i;

	for (i = 0; i < 3; i++) {
		upper_close(upper_new(BYTES, &upper_plain));
		write_and_die(NULL);
		if (i == 0)
			forge_header(16, "00000000-0000-4000-8000-000000000000");
		else
			assert_int_equal(
				io_replace_file(upper_pending, zeroes, i == 1 ? 256 : 0, NULL), 0);
		assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, &found, &e), 0);
		assert_int_equal(found.pending_records, 0);
		assert_int_equal(found.records, 1);
		upper_close(u);
	}
}

/* Of another log, damaged, or something else: it stays, and the log is not opened. */
static void what_is_no_pending_file_is_refused(void **state)
{
	static const int at[] = { 0, 8, 16, 52, 88, 96, 100, 252, 256, 256 + 16, 256 + 28 };
	struct upper_log *u;
	char *text, *after;
	struct err e;
	size_t i, n;

	for (i = 0; i <= sizeof at / sizeof at[0]; i++) {
		upper_close(upper_new(BYTES, &upper_plain));
		write_and_die(NULL);
		if (i < sizeof at / sizeof at[0]) {
			assert_int_equal(io_read_file(upper_pending, 1 << 20, &text, &n, NULL), 0);
			patch(upper_pending, at[i], (uint8_t)(text[at[i]] ^ 1));
			free(text);
		} else {
			forge_header(52, "00000000-0000-4000-8000-000000000000");
		}
		assert_int_equal(io_read_file(upper_pending, 1 << 20, &text, &n, NULL), 0);
		assert_int_equal(upper_log_open(upper_data, upper_index, NULL, &u, NULL, &e),
				 -EBADMSG);
		assert_non_null(strstr(e.msg, upper_pending));
		assert_int_equal(io_read_file(upper_pending, 1 << 20, &after, &n, NULL), 0);
		assert_memory_equal(text, after, n);
		free(text);
		free(after);
	}
}

/* Neither a client that flushes nor one that does not makes it grow for ever. */
static void the_pending_file_is_made_anew(void **state)
{
	struct upper_log_options options = { .pending_bytes = 1000 };
	struct upper_log *u = upper_new(BYTES, &options);
	unsigned i;

	for (i = 0; i < 3000; i++) {
		assert_int_equal(upper_log_pwrite(u, "x", 1, i * 40503 % BYTES, 0, NULL), 0);
		if (i % 10 == 0)
			assert_int_equal(upper_log_flush(u, NULL), 0);
		assert_true(upper_file_size(upper_pending) <= 1000 + 11 * 32);
	}
	for (i = 0; i < 10000; i++) {
		assert_int_equal(upper_log_pwrite(u, "x", 1, i * 40503 % BYTES, 0, NULL), 0);
		assert_true(upper_file_size(upper_pending) <= 33 * 1000);
	}
	upper_close(u);
}

/* ---- giving back ---- */

static uint64_t blocks(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks;
}

static void overwritten_data_becomes_holes(void **state)
{
	enum { SIZE = 4 << 20 };
	struct upper_log *u = upper_new(SIZE, &upper_plain);
	uint8_t *bytes = malloc(SIZE);
	unsigned i;

	for (i = 0; i < 4; i++) {
		memset(bytes, (int)i + 1, SIZE);
		assert_int_equal(upper_log_pwrite(u, bytes, SIZE, 0, 0, NULL), 0);
		assert_true(blocks(upper_data) >= (i ? 2 : 1) * (uint64_t)SIZE / 512);
		/* A client that does not flush is no reason to keep it. */
		assert_int_equal(i % 2 ? upper_log_flush(u, NULL) : 0, 0);
		assert_int_equal(upper_log_tidy(u, NULL), 0);
		assert_true(blocks(upper_data) <= SIZE / 512 + 100);
	}
	assert_int_equal(upper_log_pread(u, bytes, SIZE, 0, NULL), 0);
	for (i = 0; i < SIZE; i++)
		assert_int_equal(bytes[i], 4);
	upper_close(u);
	upper_check_files(bytes, SIZE);
	free(bytes);
}

static struct upper_log *overtaken;

/* A read has looked at the map; before it reads, all of it is overwritten, flushed and given back.
 */
static ssize_t slow_pread(int fd, void *buf, size_t n, uint64_t off)
{
	struct upper_log *u = overtaken;
	uint8_t bytes[16 * 512];
	unsigned i;

	if (u) {
		overtaken = NULL;
		memset(bytes, 2, sizeof bytes);
		assert_int_equal(upper_log_pwrite(u, bytes, sizeof bytes, 0, UPPER_FUA, NULL), 0);
		for (i = 0; i < 5; i++)
			assert_int_equal(upper_log_tidy(u, NULL), 0);
	}
	return file_ops_system.pread(fd, buf, n, off);
}

/* Invariant 1. */
static void no_hole_under_a_reader(void **state)
{
	struct file_ops ops = file_ops_system;
	struct upper_log_options options = { .ops = &ops, .garbage_bytes = 1 };
	struct upper_log *u;
	uint8_t bytes[16 * 512];
	uint64_t before;
	unsigned i;

	ops.pread = slow_pread;
	u = upper_new(BYTES, &options);
	memset(bytes, 1, sizeof bytes);
	assert_int_equal(upper_log_pwrite(u, bytes, sizeof bytes, 0, UPPER_FUA, NULL), 0);
	overtaken = u;
	memset(bytes, 0, sizeof bytes);
	assert_int_equal(upper_log_pread(u, bytes, sizeof bytes, 0, NULL), 0);
	for (i = 0; i < sizeof bytes; i++)
		assert_int_equal(bytes[i], 1);
	before = blocks(upper_data);
	for (i = 0; i < 3; i++)
		assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_true(blocks(upper_data) < before);
	upper_close(u);
}

static void a_dead_index_is_rewritten(void **state)
{
	struct upper_log_options options = { .garbage = 50,
					     .garbage_records = 100,
					     .room_records = 1 };
	struct upper_log *u = upper_new(BYTES, &options);
	struct stat st;
	unsigned i;

	memset(disk, 0, BYTES);
	assert_int_equal(chmod(upper_index, 0640), 0);
	for (i = 0; i < 1000; i++) {
		uint64_t off = i * 40503 % 100 * 1024;

		memset(disk + off, (int)i, 512);
		assert_int_equal(upper_log_pwrite(u, disk + off, 512, off, 0, NULL), 0);
	}
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(upper_file_size(upper_index), 4096 + (1001 + 5 + 1) * 16);
	/* One that is not flushed yet does not enter it. */
	assert_int_equal(upper_log_pwrite(u, "y", 1, 0, 0, NULL), 0);
	disk[0] = 'y';
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	/* It has room for that one. */
	assert_int_equal(upper_file_size(upper_index), 4096 + (101 + 1 + 5 + 1) * 16);
	assert_int_equal(stat(upper_index, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	check_all(u);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(upper_file_size(upper_index), 4096 + (101 + 1 + 5 + 1) * 16);
	upper_close(u);
	upper_check_files(disk, BYTES);
}

/* ---- group commit ---- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static _Atomic unsigned data_syncs;
static _Atomic bool waits;

static int slow_datasync(int fd)
{
	char name[64], path[128] = "";

	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	if (readlink(name, path, sizeof path - 1) > 0 && strcmp(path, upper_data) == 0) {
		data_syncs++;
		waits = true;
		pthread_mutex_lock(&gate);
		pthread_mutex_unlock(&gate);
	}
	return file_ops_system.datasync(fd);
}

static void *flush_thread(void *u)
{
	assert_int_equal(upper_log_flush(u, NULL), 0);
	return NULL;
}

/* Invariant 2: those who come while a sync runs share the next one. */
static void flushes_share_syncs(void **state)
{
	enum { THREADS = 12 };
	struct file_ops ops = file_ops_system;
	struct upper_log_options options = { .ops = &ops, .garbage_bytes = 1 };
	struct upper_log *u = upper_new(BYTES, &options);
	pthread_t threads[THREADS];
	unsigned i;

	ops.datasync = slow_datasync;
	data_syncs = 0;
	waits = false;
	assert_int_equal(upper_log_pwrite(u, "a", 1, 0, 0, NULL), 0);
	pthread_mutex_lock(&gate);
	for (i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_create(&threads[i], NULL, flush_thread, u), 0);
		while (i == 0 && !waits)
			usleep(1000);
	}
	/* Written and read while a sync waits for its disk. */
	assert_int_equal(upper_log_pwrite(u, "b", 1, 512, 0, NULL), 0);
	memset(disk, 0, BYTES);
	disk[0] = 'a';
	disk[512] = 'b';
	check_all(u);
	usleep(50000); /* so that all have come; if not, there are more syncs */
	pthread_mutex_unlock(&gate);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_in_range(data_syncs, 2, 3);
	i = data_syncs;
	/* Nothing to do: no sync. */
	assert_int_equal(upper_log_flush(u, NULL), 0);
	assert_int_equal(data_syncs, i);
	upper_close(u);
	upper_check_files(disk, BYTES);
}

static const char *const warnings[] = { "cut after a crash",
					"is missing: what a process acknowledged", NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_log_is_a_disk),
		cmocka_unit_test(ranges_beyond_the_disk_are_refused),
		cmocka_unit_test(long_ranges_are_cut_into_records),
		cmocka_unit_test(creating),
		cmocka_unit_test(the_reference_log_is_written_on),
		cmocka_unit_test(refusals),
		cmocka_unit_test(the_end_of_a_crash_is_cut),
		cmocka_unit_test(a_torn_append_is_cut),
		cmocka_unit_test(padding_is_cut),
		cmocka_unit_test(a_log_has_one_writer),
		cmocka_unit_test(a_dead_process_keeps_its_word),
		cmocka_unit_test(a_pending_file_of_another_boot_is_ignored),
		cmocka_unit_test(what_is_no_pending_file_is_refused),
		cmocka_unit_test(the_pending_file_is_made_anew),
		cmocka_unit_test(overwritten_data_becomes_holes),
		cmocka_unit_test(no_hole_under_a_reader),
		cmocka_unit_test(a_dead_index_is_rewritten),
		cmocka_unit_test(flushes_share_syncs),
	};

	loops_seed();
	leftovers_warnings = warnings;
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
