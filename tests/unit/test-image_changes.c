/* SPDX-License-Identifier: Apache-2.0 */
/* test-image_changes.c - what a writable image hands on to its upper: changes with their flags, the
 * deadline of who asks, errors; its locks; forks. */
#include "tests/unit/snapshotlib.h"

enum { PWRITE = 1, ZERO, TRIM, TIDY };

/* The last change of an upper, as it was asked for. */
static struct change {
	int what;
	uint64_t off, n;
	unsigned flags;
	bool gate_is_open, deadline;
} last;
static const struct image *watched; /* whose changes are kept; NULL: none */
static bool fail_change;

static int keep_change(int what, uint64_t off, uint64_t n, unsigned flags, struct err *e)
{
	pthread_rwlock_t *gate = (pthread_rwlock_t *)(uintptr_t)&watched->gate;

	last = (struct change){ .off = off,
				.n = n,
				.flags = flags,
				.gate_is_open = pthread_rwlock_trywrlock(gate) == 0,
				.deadline = caller()->deadline != 0 };
	last.what = what;
	if (last.gate_is_open)
		pthread_rwlock_unlock(gate);
	return fail_change ? err_set(e, ENOSPC, "no room") : 0;
}

#define CHANGE_WRAP(name, what, parameters, arguments, off, n, flags)                              \
	int __real_upper_log_##name parameters;                                                    \
	int __wrap_upper_log_##name parameters;                                                    \
	int __wrap_upper_log_##name parameters                                                     \
	{                                                                                          \
		int r = watched ? keep_change(what, off, n, flags, e) : 0;                         \
		return r < 0 ? r : __real_upper_log_##name arguments;                              \
	}

CHANGE_WRAP(pwrite, PWRITE,
	    (struct upper_log * u, const void *buf, size_t n, uint64_t off, unsigned flags,
	     struct err *e),
	    (u, buf, n, off, flags, e), off, n, flags)
CHANGE_WRAP(zero, ZERO,
	    (struct upper_log * u, uint64_t off, uint64_t n, unsigned flags, struct err *e),
	    (u, off, n, flags, e), off, n, flags)
CHANGE_WRAP(trim, TRIM,
	    (struct upper_log * u, uint64_t off, uint64_t n, unsigned flags, struct err *e),
	    (u, off, n, flags, e), off, n, flags)
CHANGE_WRAP(tidy, TIDY, (struct upper_log * u, struct err *e), (u, e), 0, 0, 0)

static int change_so(struct image *image, int what, unsigned flags, struct err *e)
{
	static const uint8_t bytes[3 * SECTOR];

	switch (what) {
	case PWRITE:
		return image_pwrite(image, bytes, sizeof bytes, 5 * SECTOR, flags, e);
	case ZERO:
		return image_zero(image, 5 * SECTOR, 3 * SECTOR, flags, e);
	case TRIM:
		return image_trim(image, 5 * SECTOR, 3 * SECTOR, flags, e);
	}
	return image_tidy(image, e);
}

/* Each goes through the gate to the upper, with all its flags but one: what has to be durable is
 * synced when others may go on. */
static void changes_are_handed_on(void **state)
{
	static char marker;
	const struct opened o = disk;
	struct opened reading;
	struct err e;
	unsigned flags, remote;
	char text[160];
	int what;

	memset(model + 5 * SECTOR, 0, 3 * SECTOR);
	watched = o.image;
	o.config->fetch.timeout = 30;
	for (remote = 0; remote < 2; remote++) {
		o.image->lowers.remote = remote ? (struct remote *)&marker : NULL;
		for (what = PWRITE; what <= TIDY; what++)
			for (flags = 0; flags < (what == TIDY ? 1 : 8); flags++) {
				e.msg[0] = '\0';
				last.what = 0;
				flushes = 0;
				assert_int_equal(change_so(o.image, what, flags, &e), 0);
				assert_string_equal(e.msg, "");
				assert_int_equal(last.what, what);
				assert_int_equal(last.flags, flags & ~1U);
				assert_int_equal(last.off, what == TIDY ? 0 : 5 * SECTOR);
				assert_int_equal(last.n, what == TIDY ? 0 : 3 * SECTOR);
				assert_int_equal(last.gate_is_open, what == TIDY);
				assert_int_equal(last.deadline, remote && what != TIDY);
				assert_int_equal(flushes, flags & 1);
				assert_int_equal(caller()->deadline, 0);
				fail_change = true;
				assert_int_equal(change_so(o.image, what, flags, &e), -ENOSPC);
				fail_change = false;
				snprintf(text, sizeof text, "%s: upper: no room", in_folder("c"));
				assert_string_equal(e.msg, text);
				assert_int_equal(caller()->deadline, 0);
			}
	}
	watched = NULL;
	o.image->lowers.remote = NULL;
	compare(o.image);
	flushes = 0;
	fail_flush = 1;
	assert_int_equal(image_flush(o.image, &e), -EIO);
	snprintf(text, sizeof text, "%s: upper: no flush", in_folder("c"));
	assert_string_equal(e.msg, text);
	flushes = 0;
	assert_int_equal(change_so(o.image, PWRITE, UPPER_FUA, &e), -EIO);
	assert_string_equal(e.msg, text);
	fail_flush = 0;
	reading = open_image(false);
	for (what = PWRITE; what <= TRIM; what++) {
		assert_int_equal(change_so(reading.image, what, 0, &e), -EROFS);
		snprintf(text, sizeof text, "%s: the image is read-only", in_folder("c"));
		assert_string_equal(e.msg, text);
		assert_int_equal(change_so(o.image, what, 0, &e), 0);
	}
	close_image(&reading);
}

/* A change must lie within the disk, as a read must. */
static void changes_beyond_the_end(void **state)
{
	struct err e;
	char want[160];

	assert_int_equal(image_pwrite(disk.image, model, 2, DISK - 1, 0, &e), -EINVAL);
	snprintf(want, sizeof want, "%s: 2 bytes at 32767 lie beyond the disk's end at 32768",
		 in_folder("c"));
	assert_string_equal(e.msg, want);
	assert_int_equal(image_zero(disk.image, DISK - 1, 2, 0, &e), -EINVAL);
	assert_string_equal(e.msg, want);
	assert_int_equal(image_trim(disk.image, DISK - 1, 2, 0, &e), -EINVAL);
	assert_string_equal(e.msg, want);
	assert_int_equal(image_pwrite(disk.image, model, 0, DISK, 0, &e), 0);
	assert_int_equal(image_zero(disk.image, DISK, 0, 0, &e), 0);
	assert_int_equal(image_trim(disk.image, DISK, 0, 0, &e), 0);
}

/* The caller's word counts, then the upper's, then that of the layers below. */
static void the_size_of_a_disk(void **state)
{
	static const struct {
		uint64_t header, option, want;
	} rows[] = {
		{ 0, 0, DISK },
		{ DISK / 2, 0, DISK / 2 },
		{ 2 * DISK, 0, 2 * DISK },
		{ 0, 3 * DISK, 3 * DISK },
		{ 2 * DISK, 3 * DISK, 3 * DISK },
	};
	size_t i;

	close_image(&disk);
	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct image_options options = { .writable = true, .virtual_size = rows[i].option };
		struct opened o;
		unsigned written;

		write_text("sized",
			   "lowers: [{file: lower}]\nupper: {data: s.data, index: s.index}\n");
		assert_int_equal(upper_log_create(NULL, in_folder("s.data"), in_folder("s.index"),
						  rows[i].header, NULL, NULL, NULL),
				 0);
		assert_int_equal(config_load(in_folder("sized"), &no_service, &o.config, NULL), 0);
		for (written = 0; written < 2; written++) {
			options.writable = written;
			assert_int_equal(image_open(o.config, &options, &o.image, NULL), 0);
			assert_int_equal(image_size(o.image), rows[i].want);
			image_close(o.image);
		}
		config_free(o.config);
		assert_int_equal(__real_unlink(in_folder("s.data")), 0);
		assert_int_equal(__real_unlink(in_folder("s.index")), 0);
	}
	disk = open_image(true);
}

static void forks(void **state)
{
	struct opened o = open_image(false);
	struct image_options writable = { .writable = true };
	struct err e = { "" };
	char text[64];
	int status;
	pid_t child;

	assert_int_equal(image_after_fork(o.image, &e), 0);
	close_image(&o);
	child = fork();
	if (child == 0)
		_exit(image_after_fork(disk.image, NULL) == 0 ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(image_open(disk.config, &writable, &o.image, &e), -EBUSY);
	snprintf(text, sizeof text, "is in use by process %d", (int)child);
	assert_non_null(strstr(e.msg, text));
	fail_fork = true;
	assert_int_equal(image_after_fork(disk.image, &e), -EIO);
	fail_fork = false;
	snprintf(text, sizeof text, "%s: upper: no fork", in_folder("c"));
	assert_string_equal(e.msg, text);
	e.msg[0] = '\0';
	assert_int_equal(image_after_fork(disk.image, &e), 0);
	assert_string_equal(e.msg, "");
}

static void closing_that_fails_is_told(void **state)
{
	char want[128];

	fail_close = true;
	close_image(&disk);
	fail_close = false;
	snprintf(want, sizeof want, "%s: upper: closing: no close\n", in_folder("c"));
	loglib_expect(want);
	disk = open_image(true);
}

/* The locks are made and given back, also when opening fails. */
static void locks_are_given_back(void **state)
{
	struct image_options odd = { .writable = true, .virtual_size = DISK };
	struct opened o;
	unsigned before = locks;
	struct err e;

	assert_int_equal(gates, 1);
	o = open_image(false);
	assert_true(locks > before);
	assert_int_equal(gates, 2);
	close_image(&o);
	assert_int_equal(locks, before);
	assert_int_equal(image_open(disk.config, &odd, &o.image, &e), -EBUSY);
	assert_int_equal(locks, before);
	assert_int_equal(gates, 1);
}

static void read_only_images(void **state)
{
	struct opened o = open_image(false);
	char *data = NULL, *index = NULL, want[128];
	struct err e;

	assert_int_equal(image_upper_files(o.image, &data, &index, &e), -EROFS);
	snprintf(want, sizeof want, "%s: no upper is written to", in_folder("c"));
	assert_string_equal(e.msg, want);
	assert_int_equal(image_flush(o.image, NULL), 0);
	assert_int_equal(image_tidy(o.image, NULL), 0);
	blocked = 77;
	assert_int_equal(image_snapshot(o.image, in_folder("l"), &blocked, &e), -EROFS);
	assert_int_equal(blocked, 0);
	close_image(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(changes_are_handed_on),	  TEST(changes_beyond_the_end),
		TEST(the_size_of_a_disk),	  TEST(forks),
		TEST(closing_that_fails_is_told), TEST(locks_are_given_back),
		TEST(read_only_images),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
