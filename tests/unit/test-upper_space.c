/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_space.c - what a log takes of its disk, and what can be done when that is full. */
#include "tests/unit/upperlib.h"

#include "core/base/clock.h"
#include "core/base/log.h"

enum {
	MIB = 1 << 20,
	LIVE = 4 * MIB,
	LIMIT = 2 * LIVE + 64 * MIB, /* of what is allocated */
	PIECE = 256 * 1024,
};

static uint8_t bytes[PIECE];

static uint64_t allocated(void)
{
	struct stat st;

	assert_int_equal(stat(upper_data, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void overwrite_all(struct upper_log *u, unsigned round)
{
	uint64_t off;

	memset(bytes, (int)round + 1, sizeof bytes);
	for (off = 0; off < LIVE; off += PIECE)
		assert_int_equal(upper_log_pwrite(u, bytes, PIECE, off, 0, NULL), 0);
}

static void check_all(struct upper_log *u, unsigned round)
{
	uint64_t off;
	size_t i;

	for (off = 0; off < LIVE; off += PIECE) {
		assert_int_equal(upper_log_pread(u, bytes, PIECE, off, NULL), 0);
		for (i = 0; i < PIECE; i += 511)
			assert_int_equal(bytes[i], round + 1);
	}
}

/* A client that never flushes, and one tidying a round. */
static void a_running_log_takes_little(void **state)
{
	struct upper_log *u = upper_new(LIVE, NULL);
	unsigned i;

	for (i = 0; i < 60; i++) {
		overwrite_all(u, i);
		assert_int_equal(upper_log_tidy(u, NULL), 0);
		assert_true(allocated() <= LIMIT);
	}
	check_all(u, 59);
	upper_close(u);
}

static void tidy_often(struct upper_log *u)
{
	unsigned i;

	for (i = 0; i < 20; i++)
		assert_int_equal(upper_log_tidy(u, NULL), 0);
}

/* What a process left that died before it made holes. */
static void what_is_left_is_found(void **state)
{
	struct upper_log *u;
	unsigned i;
	pid_t child;

	upper_close(upper_new(LIVE, NULL));
	child = fork();
	if (child == 0) {
		if (upper_log_open(upper_data, upper_index, NULL, &u, NULL, NULL) < 0)
			_exit(1);
		for (i = 0; i < 40; i++)
			overwrite_all(u, i);
		raise(SIGKILL);
	}
	assert_true(waitpid(child, &(int){ 0 }, 0) > 0);
	assert_true(allocated() > LIMIT);
	u = upper_open_with(NULL);
	tidy_often(u);
	assert_true(allocated() <= LIMIT);
	check_all(u, 39);
	/* Another search would find nothing, and is not made. */
	overwrite_all(u, 40);
	tidy_often(u);
	check_all(u, 40);
	upper_close(u);
	u = upper_open_with(NULL);
	check_all(u, 40);
	upper_close(u);
}

static uint64_t later_us;
static int punch_result;
static unsigned punches;

static uint64_t fake_now_us(void)
{
	return clock_system.now_us() + later_us;
}

static int bad_punch(int fd, uint64_t off, uint64_t n)
{
	punches++;
	return punch_result < 0 ? punch_result : file_ops_system.punch(fd, off, n);
}

static void a_hole_that_fails_is_tried_again(void **state)
{
	struct clock_ops clock = clock_system;
	struct file_ops ops = file_ops_system;
	struct upper_log_options options = { .ops = &ops };
	struct upper_log *u;
	unsigned i;

	clock.now_us = fake_now_us;
	clock_use(&clock);
	ops.punch = bad_punch;
	u = upper_new(LIVE, &options);
	for (i = 0; i < 40; i++)
		overwrite_all(u, i);
	punch_result = -EIO;
	punches = 0;
	tidy_often(u);
	assert_int_equal(punches, 1);
	punch_result = 0;
	tidy_often(u);
	assert_int_equal(punches, 1);
	later_us += 31 * 1000000;
	tidy_often(u);
	assert_true(allocated() <= LIMIT);
	/* A file system that has none is not asked again. */
	punch_result = -EOPNOTSUPP;
	for (i = 0; i < 40; i++)
		overwrite_all(u, i);
	punches = 0;
	tidy_often(u);
	later_us += 31 * 1000000;
	tidy_often(u);
	assert_int_equal(punches, 1);
	check_all(u, 39);
	upper_close(u);
	clock_use(NULL);
}

/* ---- a full disk ---- */

static bool full;

static bool is_file(int fd, const char *path)
{
	return file_ops_system.is_named(fd, path) == 1;
}

static int full_open(const char *path, int flags, mode_t mode)
{
	return full && flags & O_CREAT ? -ENOSPC : file_ops_system.open(path, flags, mode);
}

/* What makes a file longer, and all data, finds no room.  The index has some. */
static ssize_t full_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	uint64_t size = 0;

	if (full && is_file(fd, upper_data))
		return -ENOSPC;
	if (full && file_ops_system.size(fd, &size) == 0 && off + n > size)
		return -ENOSPC;
	return file_ops_system.pwrite(fd, buf, n, off);
}

/* Trims and flushes on a full disk, dies, and leaves all that it acknowledged. */
static void run_full(struct upper_log *u)
{
	if (upper_log_pwrite(u, "flushed", 7, 0, UPPER_FUA, NULL) < 0 ||
	    upper_log_pwrite(u, "trimmed", 7, 4096, 0, NULL) < 0 ||
	    upper_log_pwrite(u, "pending", 7, 8192, 0, NULL) < 0)
		_exit(1);
	full = true;
	if (upper_log_pwrite(u, "x", 1, 65536, 0, NULL) != -ENOSPC)
		_exit(2);
	if (upper_log_trim(u, 4096, 4096, 0, NULL) < 0 || upper_log_flush(u, NULL) < 0 ||
	    upper_log_zero(u, 16384, 4096, 0, NULL) < 0)
		_exit(3);
	full = false;
	if (upper_log_pwrite(u, "later", 5, 12288, 0, NULL) < 0)
		_exit(4);
	raise(SIGKILL);
}

static void trims_and_flushes_work_on_a_full_disk(void **state)
{
	struct file_ops ops = file_ops_system;
	struct upper_log_options options = { .ops = &ops };
	struct upper_log *u;
	int status;
	pid_t child;

	ops.open = full_open;
	ops.pwrite = full_pwrite;
	upper_close(upper_new(MIB, &options));
	child = fork();
	if (child == 0) {
		if (upper_log_open(upper_data, upper_index, &options, &u, NULL, NULL) == 0)
			run_full(u);
		_exit(5);
	}
	assert_true(waitpid(child, &status, 0) > 0);
	if (!WIFSIGNALED(status))
		fail_msg("step %d", WEXITSTATUS(status));
	u = upper_open_with(NULL);
	assert_int_equal(upper_log_pread(u, bytes, 20480, 0, NULL), 0);
	assert_memory_equal(bytes, "flushed", 7);
	assert_memory_equal(bytes + 4096, "\0\0\0\0\0\0\0", 7);
	assert_memory_equal(bytes + 8192, "pending", 7);
	assert_memory_equal(bytes + 12288, "later", 5);
	upper_close(u);
}

/* What is trimmed on a full disk is space for the next write, however little it is, and although a
 * small write went through meanwhile. */
static void a_write_without_space_makes_some(void **state)
{
	struct file_ops ops = file_ops_system;
	struct upper_log *u = upper_new(MIB, &(struct upper_log_options){ .ops = &ops });
	uint64_t before;

	ops.pwrite = full_pwrite;
	assert_int_equal(upper_log_pwrite(u, bytes, 65536, 0, 0, NULL), 0);
	assert_int_equal(upper_log_trim(u, 0, 32768, UPPER_FUA, NULL), 0);
	before = allocated();
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_int_equal(allocated(), before);
	full = true;
	assert_int_equal(upper_log_pwrite(u, bytes, 512, 65536, 0, NULL), -ENOSPC);
	assert_int_equal(upper_log_trim(u, 32768, 16384, 0, NULL), 0);
	full = false;
	assert_int_equal(upper_log_pwrite(u, bytes, 512, 65536, 0, NULL), 0);
	assert_int_equal(upper_log_tidy(u, NULL), 0);
	assert_true(allocated() <= before - 49152 + 8192);
	upper_close(u);
}

static void ignore_line(enum log_level level, const char *line)
{
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_running_log_takes_little),
		cmocka_unit_test(what_is_left_is_found),
		cmocka_unit_test(a_hole_that_fails_is_tried_again),
		cmocka_unit_test(a_write_without_space_makes_some),
		cmocka_unit_test(trims_and_flushes_work_on_a_full_disk),
	};

	loops_seed();
	log_set_sink(ignore_line);
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
