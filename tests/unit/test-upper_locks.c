/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_locks.c - threads that meet in an append log where a lock is all that keeps them
 * apart.  Mostly it is TSan that notices; so the threads wait for one another without anything that
 * would order what they do. */
#include "tests/unit/leftovers.h"
#include "tests/unit/upperlib.h"

#include <sched.h>

#include "core/format.h"
#include "core/layer.h"

enum {
	BYTES = 1 << 20,
	THREADS = 4,
	STEPS = 4000, /* of each thread */
};

static struct upper_log *u;
static struct file_ops ops;

/* Where a thread is: the other one waits for it. */
static _Atomic bool first_is_there, second_is_there, do_meet;

static void tell(_Atomic bool *there)
{
	atomic_store_explicit(there, true, memory_order_relaxed);
}

static bool is_there(_Atomic bool *there)
{
	return atomic_load_explicit(there, memory_order_relaxed);
}

/* The first thread says that it is here, and goes on once the second is where it wants it. */
static void meet(void)
{
	if (!is_there(&do_meet) || is_there(&first_is_there))
		return;
	tell(&first_is_there);
	while (!is_there(&second_is_there))
		sched_yield();
}

static _Atomic int index_fd, pending_fd;
static bool is_full, pending_fails;
enum place { AT_SYNC, AT_STATUS, AT_CONFIRM, AT_FAILURE };
static enum place place; /* of the first */

static int note_open(const char *path, int flags, mode_t mode)
{
	bool pending = strstr(path, ".pending.tmp.") != NULL;
	int fd;

	if (pending && is_full)
		return -ENOSPC;
	/* The second: with publish_lock. */
	if (pending && is_there(&first_is_there))
		tell(&second_is_there);
	fd = file_ops_system.open(path, flags, mode);
	if (pending)
		pending_fd = fd;
	if (strcmp(path, upper_index) == 0)
		index_fd = fd;
	return fd;
}

static int sync_and_meet(int fd)
{
	int r = file_ops_system.datasync(fd);

	if (place == AT_FAILURE && is_there(&do_meet) && fd != index_fd) {
		meet();
		return -EIO;
	}
	if (place == AT_SYNC && fd == index_fd)
		meet();
	return r;
}

static int status_and_meet(int fd, struct file_status *out)
{
	if (place == AT_STATUS)
		meet();
	return file_ops_system.status(fd, out);
}

/* The CONFIRM is written when the flush is over. */
static ssize_t write_and_meet(int fd, const void *buf, size_t n, uint64_t off)
{
	if (pending_fails && fd == pending_fd)
		return -EIO;
	/* The second, with publish_lock too. */
	if (place == AT_FAILURE && fd == pending_fd && is_there(&first_is_there))
		tell(&second_is_there);
	if (place == AT_CONFIRM && fd == index_fd && n == 2 * FORMAT_ENTRY)
		meet();
	return file_ops_system.pwrite(fd, buf, n, off);
}

static int truncate_or_fail(int fd, uint64_t size)
{
	return pending_fails && fd == pending_fd ? -EIO : file_ops_system.truncate(fd, size);
}

/* The second writes when the first is at its place. */
static void *write_then(void *arg)
{
	while (!is_there(&first_is_there))
		sched_yield();
	if (upper_log_pwrite(u, "second", 6, 4096, 0, NULL) < 0)
		abort();
	return NULL;
}

static void set_ops(void)
{
	ops = file_ops_system;
	ops.open = note_open;
	ops.datasync = sync_and_meet;
	ops.status = status_and_meet;
	ops.pwrite = write_and_meet;
	ops.truncate = truncate_or_fail;
	first_is_there = second_is_there = do_meet = is_full = pending_fails = false;
}

static void check_second(void)
{
	char found[7] = "";

	assert_int_equal(upper_log_pread(u, found, 6, 4096, NULL), 0);
	assert_string_equal(found, "second");
}

/* Records of another program get a CHECK first, while a write begins the pending file anew: it says
 * what the index is. */
static void records_of_others_are_checked_while_somebody_writes(void **state)
{
	const struct upper_log_options options = { .ops = &ops };
	struct format_entry entry = { .start = 1, .sectors = 1, .moffset = 8, .zeroed = true };
	uint8_t raw[FORMAT_ENTRY];
	pthread_t second;
	int fd;

	set_ops();
	upper_close(upper_new(BYTES, NULL));
	format_encode_entry(&entry, raw);
	fd = open(upper_index, O_WRONLY);
	assert_int_equal(pwrite(fd, raw, sizeof raw, FORMAT_SPACE), sizeof raw);
	close(fd);
	u = upper_open_with(&options);
	assert_int_equal(upper_log_pwrite(u, "a", 1, 0, 0, NULL), 0);
	pending_fails = true;
	assert_int_equal(upper_log_pwrite(u, "b", 1, 512, 0, NULL), -EIO);
	pending_fails = false;
	place = AT_SYNC;
	tell(&do_meet);
	assert_int_equal(pthread_create(&second, NULL, write_then, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), 0);
	pthread_join(second, NULL);
	assert_true(second_is_there);
	check_second();
	upper_close(u);
}

/* A log whose index is due to be made anew, and whose pending file waits for space. */
static void open_full(void)
{
	static const struct upper_log_options options = {
		.ops = &ops, .garbage = 50, .garbage_records = 10, .garbage_bytes = BYTES
	};
	unsigned i;

	set_ops();
	u = upper_new(BYTES, NULL);
	for (i = 0; i < 60; i++)
		assert_int_equal(upper_log_pwrite(u, "x", 1, i % 3 * 1024, 0, NULL), 0);
	upper_close(u);
	write_and_die(NULL);
	is_full = true;
	u = upper_open_with(&options);
	is_full = false;
}

static void an_index_is_made_anew_while_somebody_writes(void **state)
{
	static const enum place places[] = { AT_STATUS, AT_CONFIRM };
	pthread_t second;
	size_t i;

	for (i = 0; i < 2; i++) {
		open_full();
		/* What waits is flushed, so that a write begins the file at once. */
		if (places[i] == AT_STATUS)
			assert_int_equal(upper_log_flush(u, NULL), 0);
		place = places[i];
		tell(&do_meet);
		assert_int_equal(pthread_create(&second, NULL, write_then, NULL), 0);
		assert_int_equal(upper_log_tidy(u, NULL), 0);
		pthread_join(second, NULL);
		assert_true(second_is_there);
		check_second();
		upper_close(u);
	}
}

/* What is being acknowledged as a sync fails goes to the pending file before that is removed. */
static void a_sync_fails_while_somebody_writes(void **state)
{
	const struct upper_log_options options = { .ops = &ops };
	pthread_t second;

	set_ops();
	u = upper_new(BYTES, &options);
	assert_int_equal(upper_log_pwrite(u, "a", 1, 0, 0, NULL), 0);
	place = AT_FAILURE;
	tell(&do_meet);
	assert_int_equal(pthread_create(&second, NULL, write_then, NULL), 0);
	assert_int_equal(upper_log_flush(u, NULL), -EIO);
	pthread_join(second, NULL);
	check_second();
	assert_int_equal(access(upper_pending, F_OK), -1);
	assert_int_equal(upper_log_close(u, NULL), -EIO);
}

/* ---- crowds ---- */

static void start(pthread_t threads[THREADS], void *(*run)(void *arg))
{
	static unsigned numbers[THREADS];
	unsigned i;

	for (i = 0; i < THREADS; i++) {
		numbers[i] = i;
		assert_int_equal(pthread_create(&threads[i], NULL, run, &numbers[i]), 0);
	}
}

static void join(pthread_t threads[THREADS])
{
	unsigned i;

	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static _Atomic unsigned inside;

/* Two at once, and the shorter one may come last, over what others wrote. */
static int truncate_alone(int fd, uint64_t size)
{
	unsigned i;
	int r;

	if (atomic_fetch_add(&inside, 1) > 0)
		abort();
	for (i = 0; i < 4; i++)
		sched_yield();
	r = file_ops_system.truncate(fd, size);
	atomic_fetch_sub(&inside, 1);
	return r;
}

static void *write_own(void *arg)
{
	unsigned number = *(unsigned *)arg, i, steps = loops_count(STEPS);
	uint8_t bytes[512];

	for (i = 0; i < steps; i++) {
		memset(bytes, (int)(i + number), sizeof bytes);
		if (upper_log_pwrite(u, bytes, sizeof bytes, number * sizeof bytes, 0, NULL) < 0 ||
		    (i % 64 == 0 && upper_log_after_fork(u, NULL) < 0))
			abort();
	}
	return NULL;
}

static void one_makes_room_at_a_time(void **state)
{
	struct upper_log_options options = { .ops = &ops, .room_bytes = 512 };
	pthread_t threads[THREADS];
	uint8_t bytes[512], found[512];
	unsigned i;

	ops = file_ops_system;
	u = upper_new(BYTES, &options);
	ops.truncate = truncate_alone;
	start(threads, write_own);
	join(threads);
	ops.truncate = file_ops_system.truncate;
	for (i = 0; i < THREADS; i++) {
		memset(bytes, (int)(loops_count(STEPS) - 1 + i), sizeof bytes);
		assert_int_equal(upper_log_pread(u, found, 512, i * 512, NULL), 0);
		assert_memory_equal(found, bytes, 512);
	}
	upper_close(u);
}

static _Atomic unsigned syncs_left;

static int sync_until_it_fails(int fd)
{
	return atomic_fetch_sub(&syncs_left, 1) <= 1 ? -EIO : file_ops_system.datasync(fd);
}

static void *write_until_it_fails(void *arg)
{
	unsigned number = *(unsigned *)arg, i;

	for (i = 0;; i++) {
		int r = upper_log_pwrite(u, "x", 1, number * 512, 0, NULL);

		if (r == 0 && i % 16 == number)
			r = upper_log_flush(u, NULL);
		if (r == -EIO)
			return NULL;
		if (r < 0 || (i % 32 == 0 && upper_log_after_fork(u, NULL) < 0))
			abort();
	}
}

static void a_sync_fails_under_writers(void **state)
{
	struct upper_log_options options = { .ops = &ops, .pending_bytes = 512 };
	pthread_t threads[THREADS];

	ops = file_ops_system;
	u = upper_new(BYTES, &options);
	syncs_left = 40;
	ops.datasync = sync_until_it_fails;
	start(threads, write_until_it_fails);
	join(threads);
	assert_true(upper_log_has_failed(u));
	ops.datasync = file_ops_system.datasync;
	assert_int_equal(upper_log_close(u, NULL), -EIO);
}

static _Atomic bool stop;

static void *look_after(void *arg)
{
	unsigned number = *(unsigned *)arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed))
		if (number % 2 ? upper_log_tidy(u, NULL) < 0 : upper_log_after_fork(u, NULL) < 0)
			abort();
	return NULL;
}

/* A log that became a layer is still looked after when it loses its other files. */
static void a_log_retires_under_those_who_tidy(void **state)
{
	pthread_t threads[THREADS];

	u = upper_new(BYTES, &upper_plain);
	assert_int_equal(upper_log_pwrite(u, "x", 1, 0, UPPER_FUA, NULL), 0);
	stop = false;
	start(threads, look_after);
	upper_log_retire(u);
	stop = true;
	join(threads);
	assert_int_equal(access(upper_pending, F_OK), -1);
	assert_int_equal(access(upper_data, F_OK), -1);
	(void)upper_log_close(u, NULL);
}

static const char *const warnings[] = { "no space left: it can be read", NULL };

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(records_of_others_are_checked_while_somebody_writes),
		cmocka_unit_test(an_index_is_made_anew_while_somebody_writes),
		cmocka_unit_test(a_sync_fails_while_somebody_writes),
		cmocka_unit_test(one_makes_room_at_a_time),
		cmocka_unit_test(a_sync_fails_under_writers),
		cmocka_unit_test(a_log_retires_under_those_who_tidy),
	};

	loops_seed();
	alarm(240);
	leftovers_warnings = warnings;
	return cmocka_run_group_tests(tests, upper_make_folder, upper_remove_folder);
}
