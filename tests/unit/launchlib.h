/* SPDX-License-Identifier: Apache-2.0 */
/* launchlib.h - an image whose bottom layer passes for a registry's, and a launch of it: the clock,
 * the launch's thread and what a registry would say are the test's.
 *
 * For tests that meson.build links with wrap_allocs, wrap_remote_image and wrap_sequences. */
#ifndef OVERLAYBD_TESTS_LAUNCHLIB_H
#define OVERLAYBD_TESTS_LAUNCHLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/log.h"
#include "core/identity.h"
#include "prefetch/launch.h"
#include "prefetch/replay.h"
#include "prefetch/store.h"
#include "prefetch/trace_edit.h"
#include "prefetch/trace_layers.h"
#include "prefetch/trace_paths.h"
#include "tests/unit/leftovers.h"
#include "tests/unit/allocs.h"
#include "tests/unit/sequences.h"
#include "tests/unit/stack.h"

/* The bottom layer is remote, the other one is not; half of their data is 2 MiB. */
enum {
	MIB = 1048576 / SECTOR, /* sectors of 1 MiB */
	REMOTE = 3 * MIB,
	LOCAL_AT = 4 * MIB, /* and 1 MiB of it */
	DISK = 6 * MIB,
	READ = 128, /* sectors of a read */
	SECOND = 1000000, /* us */
};

static struct stack stack;
static struct image *image;
static struct launch *launch;
static struct fetch_settings *settings;
static char identity[DIGEST_TEXT], cache[64], *store, asked[256];
static char warnings[4096], debug[4096];

static struct {
	uint64_t us;
	void *(*body)(void *arg); /* of the thread that was begun and has not run yet */
	void *arg;
	int refuse; /* a thread, with this code */
	void (*while_waiting)(void);
	void (*while_finding)(void); /* what the files of prefetch= need */
	unsigned joined, woken;
} world;

/* What a registry has; code 0 and no bytes: not asked for. */
struct answer {
	int code;
	void *bytes;
	size_t n;
	unsigned asked;
};

static struct answer pushed, acceleration;
static atomic_uint looked_up; /* how often reads were looked up in a replay */
static bool is_remote;
static const char *manifest_digest;
static struct trace *of_paths; /* what the files that prefetch= names need; NULL: EBADMSG */

/* ---- what is wrapped ---- */

bool __wrap_image_is_remote(const struct image *x);
const char *__wrap_image_digest(const struct image *x);
int __wrap_image_find_artifact(struct image *x, const char *type, size_t limit, char **bytes,
			       size_t *n, struct err *e);
int __wrap_image_read_acceleration(struct image *x, size_t limit, char **bytes, size_t *n,
				   struct err *e);
int __wrap_trace_from_paths(struct image *x, const char *const *paths, size_t count,
			    struct trace_notes *notes, struct trace *out, struct err *e);

/* What is durable is tested elsewhere; here it would take most of the time. */
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	return 0;
}

bool __wrap_image_is_remote(const struct image *x)
{
	return is_remote;
}

const char *__wrap_image_digest(const struct image *x)
{
	return manifest_digest;
}

static inline int give(struct answer *a, char **bytes, size_t *n, struct err *e)
{
	a->asked++;
	if (a->code < 0)
		return err_set(e, -a->code, "the registry is on fire");
	*bytes = malloc(a->n);
	memcpy(*bytes, a->bytes, a->n);
	*n = a->n;
	return 0;
}

int __wrap_image_find_artifact(struct image *x, const char *type, size_t limit, char **bytes,
			       size_t *n, struct err *e)
{
	if (strcmp(type, "application/vnd.nbdkit-overlaybd.trace.v1") != 0 ||
	    limit != (64 + (16 << 20)))
		abort();
	return give(&pushed, bytes, n, e);
}

int __wrap_image_read_acceleration(struct image *x, size_t limit, char **bytes, size_t *n,
				   struct err *e)
{
	return give(&acceleration, bytes, n, e);
}

int __wrap_trace_from_paths(struct image *x, const char *const *paths, size_t count,
			    struct trace_notes *notes, struct trace *out, struct err *e)
{
	if (world.while_finding)
		world.while_finding();
	if (!of_paths)
		return err_set(e, EBADMSG, "no such files");
	*out = *of_paths;
	out->reads = malloc(out->count * sizeof *out->reads);
	memcpy(out->reads, of_paths->reads, out->count * sizeof *out->reads);
	return 0;
}

enum plan_has __real_replay_look_up(const struct replay *r, const struct trace_read *read);
enum plan_has __wrap_replay_look_up(const struct replay *r, const struct trace_read *read);
enum plan_has __wrap_replay_look_up(const struct replay *r, const struct trace_read *read)
{
	atomic_fetch_add_explicit(&looked_up, 1, memory_order_relaxed);
	return __real_replay_look_up(r, read);
}

/* ---- the clock ---- */

static inline uint64_t tell_us(void)
{
	return world.us;
}

static inline void wait_for(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_ms)
{
	assert_true(until_ms == CLOCK_NEVER);
	pthread_mutex_unlock(lock);
	assert_non_null(world.while_waiting);
	world.while_waiting();
	pthread_mutex_lock(lock);
}

static inline void wake(pthread_cond_t *c)
{
	world.woken++;
}

static inline int begin_thread(pthread_t *out, bool detached, void *(*body)(void *arg), void *arg)
{
	assert_false(detached);
	if (world.refuse == 0) {
		world.body = body;
		world.arg = arg;
	}
	return world.refuse;
}

static inline void join(pthread_t thread)
{
	assert_null(world.body);
	world.joined++;
}

static inline void take_line(enum log_level level, const char *line)
{
	char *lines = level == LOG_WARNING ? warnings : debug;
	size_t n = strlen(lines);

	snprintf(lines + n, sizeof warnings - n, "%s\n", line);
}

/* ---- the launch ---- */

static inline void open_launch(void)
{
	assert_int_equal(launch_open(&stack.config, image, &launch, NULL), 0);
}

/* Its thread does all that it has to. */
static inline void run_thread(void)
{
	assert_non_null(world.body);
	(void)world.body(world.arg);
	world.body = NULL;
}

static inline void start(void)
{
	launch_start(launch);
	run_thread();
}

static inline void close_launch(void)
{
	launch_close(launch);
	launch = NULL;
}

static inline void open_and_start(void)
{
	open_launch();
	start();
}

static inline void client_comes(void)
{
	launch_client_came(launch);
}

static inline void server_ends(void)
{
	launch_end(launch);
}

static inline void read_disk(uint64_t lba, uint64_t sectors)
{
	uint64_t n;

	for (; sectors > 0; lba += n, sectors -= n) {
		n = sectors < READ ? sectors : READ;
		world.us += 10;
		launch_note(launch, lba * SECTOR, n * SECTOR);
	}
}

/* Reads, and then nothing new for as long as that ends a recording. */
static inline void record(uint64_t lba, uint64_t sectors)
{
	read_disk(lba, sectors);
	launch_look(launch);
	world.us += settings->trace.idle * (uint64_t)SECOND;
	launch_look(launch);
}

/* A trace that reads [lba, lba + sectors). */
static inline struct trace make_trace(uint64_t lba, uint64_t sectors)
{
	struct trace t = { .disk_size = (uint64_t)DISK * SECTOR };
	uint64_t end = lba + sectors;

	memcpy(t.identity, identity, sizeof t.identity);
	t.reads = calloc(sectors / READ + 1, sizeof *t.reads);
	for (; lba < end; lba += READ)
		t.reads[t.count++] = (struct trace_read){
			.lba = lba, .sectors = (uint32_t)(end - lba < READ ? end - lba : READ)
		};
	return t;
}

static inline void keep_trace(const char *path, uint64_t lba, uint64_t sectors)
{
	struct trace t = make_trace(lba, sectors);

	assert_int_equal(store_make_folder(cache, NULL), 0);
	assert_int_equal(trace_save(&t, path, NULL), 0);
	trace_release(&t);
}

/* The trace there reads just these sectors; 0: there is none. */
static inline void assert_kept(const char *path, uint64_t lba, uint64_t sectors)
{
	struct trace_ranges ranges;
	struct trace t;

	if (sectors == 0) {
		assert_int_equal(access(path, F_OK), -1);
		return;
	}
	assert_int_equal(trace_load(path, &t, NULL), 0);
	assert_string_equal(t.identity, identity);
	assert_int_equal(t.disk_size, (uint64_t)DISK * SECTOR);
	assert_int_equal(trace_ranges_of(&t, &ranges, NULL), 0);
	assert_int_equal(ranges.count, 1);
	assert_int_equal(ranges.list[0].lba, lba);
	assert_int_equal(ranges.list[0].sectors, sectors);
	trace_ranges_release(&ranges);
	trace_release(&t);
}

/* Traces that are made now are of another image. */
static inline void confuse_identity(void)
{
	identity[10] = identity[10] == '0' ? '1' : '0';
}

static inline void assert_warned(const char *text)
{
	if (!text[0])
		assert_string_equal(warnings, "");
	else if (!strstr(warnings, text))
		fail_msg("not %s but %s", text, warnings);
	warnings[0] = '\0';
}

/* The last replay asked for the chunks of just these sectors of the remote layer. */
static inline void assert_replayed(size_t number, uint64_t lba, uint64_t sectors)
{
	uint64_t first = (8 + lba) * SECTOR / SEQUENCE_CHUNK;
	uint64_t last = (8 + lba + sectors - 1) * SECTOR / SEQUENCE_CHUNK;

	assert_int_equal(sequences.count, number);
	assert_int_equal(sequences.started[number - 1]->count, 1);
	assert_int_equal(sequences.started[number - 1]->ranges[0].first, first);
	assert_int_equal(sequences.started[number - 1]->ranges[0].count, last - first + 1);
}

/* ---- the image ---- */

static inline int open_image(void **state)
{
	static const struct clock_ops clock = {
		.now_us = tell_us,
		.wait = wait_for,
		.wake = wake,
		.thread = begin_thread,
		.join = join,
	};
	static struct clock_ops ops;
	uint8_t *bytes = calloc(REMOTE, SECTOR);
	struct layer_writer *w;

	ops = clock;
	ops.date = clock_system.date;
	clock_use(&ops);
	memset(&world, 0, sizeof world);
	world.us = SECOND;
	stack_init(&stack);
	w = stack_add(&stack, DISK);
	assert_int_equal(layer_writer_data(w, 0, bytes, REMOTE, NULL), 0);
	stack_finish(w);
	w = stack_add(&stack, DISK);
	assert_int_equal(layer_writer_data(w, LOCAL_AT, bytes, MIB, NULL), 0);
	stack_finish(w);
	free(bytes);
	settings = &stack.config.fetch;
	settings->trace.seconds = 120;
	settings->trace.idle = 15;
	snprintf(cache, sizeof cache, "%s/cache", stack.folder);
	settings->cache_dir = cache;
	image = stack_open(&stack);
	sequences_add_remote(image, 0);
	assert_int_equal(image_identity(image, identity, NULL), 0);
	store = store_path(cache, identity);
	snprintf(asked, sizeof asked, "%.*s.asked", (int)(strrchr(store, '.') - store), store);
	is_remote = true;
	manifest_digest = "";
	pushed = acceleration = (struct answer){ .code = -ENOENT };
	of_paths = NULL;
	warnings[0] = debug[0] = '\0';
	log_set_sink(take_line);
	return 0;
}

static inline int close_image(void **state)
{
	char folder[96];

	log_set_sink(leftovers_sink);
	clock_use(NULL);
	allocs_left = -1;
	launch_close(launch);
	launch = NULL;
	image_close(image);
	sequences_forget();
	unlink(store);
	unlink(asked);
	free(store);
	snprintf(folder, sizeof folder, "%s/traces", cache);
	rmdir(folder);
	rmdir(cache);
	free(pushed.bytes);
	free(acceleration.bytes);
	stack.config.record_trace_path = NULL;
	stack_release(&stack);
	return 0;
}
#define LAUNCH_TEST(f) cmocka_unit_test_setup_teardown(f, open_image, close_image)

#endif
