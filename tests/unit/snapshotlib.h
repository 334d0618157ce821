/* SPDX-License-Identifier: Apache-2.0 */
/* snapshotlib.h - for tests of writable images that meson.build links with wrap_steps: a small
 * disk, and each step of a snapshot under the test's control.
 *
 * Time is the test's: nothing sleeps.  A test program includes it once.  One thread. */
#ifndef OVERLAYBD_TESTS_SNAPSHOTLIB_H
#define OVERLAYBD_TESTS_SNAPSHOTLIB_H

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/image_private.h"
#include "core/layer_writer.h"
#include "core/upper_seal.h"
#include "tests/unit/loglib.h"

enum { SECTORS = 64, DISK = SECTORS * SECTOR };

static const struct config_options no_service = { .service = "none" };
static char folder[64];
static uint8_t model[DISK];

/* ---- the system ---- */

static uint64_t now_us = 5000000; /* of the monotonic clock */
static struct timespec date; /* of the other one */
static unsigned sleeps, slept_ms;
static unsigned gate_refusals; /* tries to close the gate that find a writer there */
static unsigned gate_tries;
static struct timespec gate_until; /* how long the last one would have waited */
static unsigned flushes, flushes_at_gate, flush_ms;
static unsigned fail_flush, fail_folder_sync; /* the call with this number, from 1; 0: none */
static unsigned folder_syncs;
static bool fail_unlink, fail_close, fail_undo, fail_fork;
static void (*at_rename)(const char *from, const char *to); /* instead of it; then it fails */
static void (*at_seal)(void);
static unsigned taken_names; /* pairs that are there */

#define WRAP(type, name, parameters)                                                               \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters

static inline uint64_t fake_now(void)
{
	return now_us;
}

static inline void fake_sleep(uint64_t ms)
{
	sleeps++;
	slept_ms += (unsigned)ms;
}

WRAP(int, clock_gettime, (clockid_t which, struct timespec *out))
{
	if (which != CLOCK_REALTIME || date.tv_sec == 0)
		return __real_clock_gettime(which, out);
	*out = date;
	return 0;
}

WRAP(int, pthread_rwlock_timedwrlock, (pthread_rwlock_t * lock, const struct timespec *until))
{
	flushes_at_gate = gate_tries == 0 ? flushes : flushes_at_gate;
	gate_tries++;
	gate_until = *until;
	if (gate_refusals == 0)
		return __real_pthread_rwlock_timedwrlock(lock, until);
	gate_refusals--;
	return ETIMEDOUT;
}

static inline int io_error(struct err *e, const char *what)
{
	return err_set(e, EIO, "no %s", what);
}

WRAP(int, upper_log_flush, (struct upper_log * u, struct err *e))
{
	now_us += flush_ms * 1000;
	flushes++;
	return flushes == fail_flush ? io_error(e, "flush") : __real_upper_log_flush(u, e);
}

WRAP(int, upper_log_close, (struct upper_log * u, struct err *e))
{
	int r = __real_upper_log_close(u, e);

	return fail_close ? io_error(e, "close") : r;
}

WRAP(int, upper_log_after_fork, (struct upper_log * u, struct err *e))
{
	return fail_fork ? io_error(e, "fork") : __real_upper_log_after_fork(u, e);
}

WRAP(int, upper_seal_log, (struct upper_log * u, struct err *e))
{
	int r = __real_upper_seal_log(u, e);

	if (at_seal)
		at_seal();
	return r;
}

WRAP(int, upper_seal_undo, (struct upper_log * u, struct err *e))
{
	int r = __real_upper_seal_undo(u, e);

	return fail_undo ? io_error(e, "undo") : r;
}

WRAP(int, upper_log_create,
     (const struct file_ops *ops, const char *data, const char *index, uint64_t size,
      const char *uuid, const char *parent_uuid, struct err *e))
{
	if (taken_names == 0)
		return __real_upper_log_create(ops, data, index, size, uuid, parent_uuid, e);
	taken_names--;
	return err_set(e, EEXIST, "taken");
}

WRAP(int, unlink, (const char *path))
{
	if (!fail_unlink)
		return __real_unlink(path);
	errno = EPERM;
	return -1;
}

WRAP(int, unlinkat, (int in, const char *name, int flags))
{
	if (!fail_unlink)
		return __real_unlinkat(in, name, flags);
	errno = EPERM;
	return -1;
}

WRAP(int, rename, (const char *from, const char *to))
{
	if (!at_rename || !strstr(to, "/c"))
		return __real_rename(from, to);
	at_rename(from, to);
	__real_unlink(from);
	errno = EIO;
	return -1;
}

WRAP(int, fsync, (int fd))
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode) || ++folder_syncs != fail_folder_sync)
		return __real_fsync(fd);
	errno = EIO;
	return -1;
}

/* Who goes on with what was freed comes to grief at once. */
WRAP(void, free, (void *p))
{
	if (p)
		memset(p, 0xa5, malloc_usable_size(p));
	__real_free(p);
}

static unsigned gates, attributes, locks; /* that are there */

WRAP(int, pthread_rwlock_init, (pthread_rwlock_t * lock, const pthread_rwlockattr_t *how))
{
	int kind = -1;

	gates++;
	assert_int_equal(pthread_rwlockattr_getkind_np(how, &kind), 0);
	/* Else writers who come one after the other would keep it open for ever. */
	assert_int_equal(kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	return __real_pthread_rwlock_init(lock, how);
}

WRAP(int, pthread_rwlock_destroy, (pthread_rwlock_t * lock))
{
	gates--;
	return __real_pthread_rwlock_destroy(lock);
}

WRAP(int, pthread_rwlockattr_init, (pthread_rwlockattr_t * a))
{
	attributes++;
	return __real_pthread_rwlockattr_init(a);
}

WRAP(int, pthread_rwlockattr_destroy, (pthread_rwlockattr_t * a))
{
	attributes--;
	return __real_pthread_rwlockattr_destroy(a);
}

WRAP(int, pthread_mutex_init, (pthread_mutex_t * lock, const pthread_mutexattr_t *how))
{
	locks++;
	return __real_pthread_mutex_init(lock, how);
}

WRAP(int, pthread_mutex_destroy, (pthread_mutex_t * lock))
{
	locks--;
	return __real_pthread_mutex_destroy(lock);
}

/* ---- the disk ---- */

static inline char *in_folder(const char *name)
{
	static char paths[8][128];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof paths[0], "%s/%s", folder, name);
	return path;
}

static inline void write_lower(void)
{
	struct layer_writer_options options = { .virtual_size = DISK };
	struct layer_writer *w;
	struct sink *s;
	size_t i;

	memset(model, 0, sizeof model);
	assert_int_equal(sink_open_file(in_folder("lower"), &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	for (i = 0; i < SECTORS; i += 3) {
		memset(model + i * SECTOR, (int)(i + 1), SECTOR);
		assert_int_equal(layer_writer_data(w, i, model + i * SECTOR, 1, NULL), 0);
	}
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
}

static inline void write_text(const char *name, const char *text)
{
	assert_int_equal(io_replace_file(in_folder(name), text, strlen(text), NULL), 0);
}

#define UPPER_OF(data, index) "upper: {data: " data ", index: " index "}\n"
#define UPPER UPPER_OF("u.data", "u.index")
#define CONFIG_OF(data, index) "lowers: [{file: lower}]\n" UPPER_OF(data, index)
#define CONFIG CONFIG_OF("u.data", "u.index")

struct opened {
	struct image_config *config;
	struct image *image;
};

static inline struct opened open_image(bool writable)
{
	struct image_options options = { .writable = writable };
	struct opened o;
	struct err e = { "" };

	if (config_load(in_folder("c"), &no_service, &o.config, &e) < 0 ||
	    image_open(o.config, &options, &o.image, &e) < 0)
		fail_msg("%s", e.msg);
	assert_null(strstr(e.msg, "/c: ")); /* nobody has put a name before it */
	return o;
}

static inline void close_image(struct opened *o)
{
	image_close(o->image);
	config_free(o->config);
}

static inline void write_sector(struct image *image, uint64_t at, int byte)
{
	struct err e = { "" };

	memset(model + at * SECTOR, byte, SECTOR);
	if (image_pwrite(image, model + at * SECTOR, SECTOR, at * SECTOR, 0, &e) < 0)
		fail_msg("%s", e.msg);
	assert_string_equal(e.msg, "");
}

static inline void compare(struct image *image)
{
	uint8_t bytes[DISK];
	struct err e = { "" };

	if (image_pread(image, bytes, DISK, 0, &e) < 0)
		fail_msg("%s", e.msg);
	assert_memory_equal(bytes, model, DISK);
	assert_string_equal(e.msg, "");
}

static struct opened disk; /* of the test that runs: writable, one sector was written */

static inline int set_up(void **state)
{
	static struct clock_ops ops;

	ops = clock_system;
	ops.now_us = fake_now;
	ops.sleep_ms = fake_sleep;
	clock_use(&ops);
	snprintf(folder, sizeof folder, "/tmp/test-image_snapshot.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	write_lower();
	write_text("c", CONFIG);
	assert_int_equal(upper_log_create(NULL, in_folder("u.data"), in_folder("u.index"), DISK,
					  NULL, NULL, NULL),
			 0);
	loglib_listen();
	disk = open_image(true);
	write_sector(disk.image, 7, 'w');
	date = (struct timespec){ 0 };
	sleeps = slept_ms = gate_tries = flushes = flushes_at_gate = flush_ms = folder_syncs = 0;
	return 0;
}

/* The disk is as it should be, also after a restart; everything was given back. */
static inline int tear_down(void **state)
{
	char command[128];

	compare(disk.image);
	close_image(&disk);
	assert_int_equal(gates, 0);
	assert_int_equal(attributes, 0);
	loglib_expect_none();
	disk = open_image(true);
	compare(disk.image);
	close_image(&disk);
	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

static uint64_t blocked;

static inline void expect_made(const char *layer)
{
	struct err e = { "" };

	if (image_snapshot(disk.image, in_folder(layer), &blocked, &e) < 0)
		fail_msg("%s", e.msg);
	assert_null(strstr(e.msg, ": snapshot: "));
	compare(disk.image);
	/* Nobody looks at what was replaced. */
	assert_null(disk.image->retired);
}

/* What the config says the upper is now. */
static inline void expect_upper(const char *stem)
{
	char *data, *index, want[160];
	struct image_config *c;
	struct err e = { "" };

	assert_int_equal(image_upper_files(disk.image, &data, &index, &e), 0);
	assert_string_equal(e.msg, "");
	snprintf(want, sizeof want, "%s/%s.data", folder, stem);
	assert_string_equal(data, want);
	assert_int_equal(config_load(in_folder("c"), &no_service, &c, NULL), 0);
	assert_string_equal(c->upper_data, data);
	assert_string_equal(c->upper_index, index);
	assert_int_equal(strlen(index), strlen(data) + 1);
	config_free(c);
	free(data);
	free(index);
}

/* All is as it was: the names, the disk, and that it can be written to. */
static inline void expect_refused(const char *layer, int code, const char *text)
{
	static int byte;
	char start[128];
	struct err e = { "" };

	blocked = 77;
	assert_int_equal(image_snapshot(disk.image, layer, &blocked, &e), -code);
	snprintf(start, sizeof start, "%s: snapshot: ", in_folder("c"));
	assert_memory_equal(e.msg, start, strlen(start));
	if (!strstr(e.msg, text))
		fail_msg("%s", e.msg);
	compare(disk.image);
	assert_int_equal(access(in_folder("u.data"), F_OK), 0);
	assert_int_equal(access(in_folder("u.index"), F_OK), 0);
	write_sector(disk.image, 5, ++byte);
	assert_int_equal(image_flush(disk.image, NULL), 0);
	compare(disk.image);
	assert_null(disk.image->retired);
	assert_null(image_stack(disk.image)->frozen);
}

static inline void expect_no_file(const char *name)
{
	assert_int_equal(access(in_folder(name), F_OK), -1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
