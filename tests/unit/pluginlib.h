/* SPDX-License-Identifier: Apache-2.0 */
/* pluginlib.h - a folder of images, and the plugin over it: its callbacks are called as nbdkit
 * calls them, with nbdkit's functions made here (nbdkitlib.h).
 *
 * Linked with the calls below wrapped (wrap_plugin): each is noted, in order, and goes on to the
 * real one unless a test makes it fail.  A test program includes it once. */
#ifndef OVERLAYBD_TESTS_PLUGINLIB_H
#define OVERLAYBD_TESTS_PLUGINLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <inttypes.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "core/layer_writer.h"
#include "core/upper_log.h"
#include "nbdkit-plugin/disk.h"
#include "nbdkit-plugin/exports.h"
#include "tests/unit/nbdkitlib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

struct nbdkit_plugin *plugin_init(void);

static char folder[] = "/tmp/test-plugin.XXXXXX";
static struct nbdkit_plugin *plugin;

/* ---- wrapped calls ---- */

static struct nbdkit_text calls;
static const char *failing = ""; /* the call of this name fails with, */
static int failure;
static const char *cause = "the cause"; /* and this text */
static bool starts_disk; /* what the disk does itself is none of the plugin's */

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	nbdkit_keep(&calls, format, list);
	va_end(list);
}

static bool refused(const char *name)
{
	return strcmp(name, failing) == 0;
}

#define RANGE "%" PRIu64 "+%zu"

int __real_image_pread(struct image *image, void *buf, size_t n, uint64_t off, struct err *e);
int __wrap_image_pread(struct image *image, void *buf, size_t n, uint64_t off, struct err *e);
int __wrap_image_pread(struct image *image, void *buf, size_t n, uint64_t off, struct err *e)
{
	note("pread " RANGE, off, n);
	return refused("pread") ? err_set(e, failure, "%s", cause)
				: __real_image_pread(image, buf, n, off, e);
}

int __real_image_pwrite(struct image *image, const void *buf, size_t n, uint64_t off,
			unsigned flags, struct err *e);
int __wrap_image_pwrite(struct image *image, const void *buf, size_t n, uint64_t off,
			unsigned flags, struct err *e);
int __wrap_image_pwrite(struct image *image, const void *buf, size_t n, uint64_t off,
			unsigned flags, struct err *e)
{
	note("pwrite " RANGE " %u", off, n, flags);
	return refused("pwrite") ? err_set(e, failure, "%s", cause)
				 : __real_image_pwrite(image, buf, n, off, flags, e);
}

int __real_image_zero(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e);
int __wrap_image_zero(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e);
int __wrap_image_zero(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e)
{
	note("zero " RANGE " %u", off, (size_t)n, flags);
	return refused("zero") ? err_set(e, failure, "%s", cause)
			       : __real_image_zero(image, off, n, flags, e);
}

int __real_image_trim(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e);
int __wrap_image_trim(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e);
int __wrap_image_trim(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e)
{
	note("trim " RANGE " %u", off, (size_t)n, flags);
	return refused("trim") ? err_set(e, failure, "%s", cause)
			       : __real_image_trim(image, off, n, flags, e);
}

int __real_image_flush(struct image *image, struct err *e);
int __wrap_image_flush(struct image *image, struct err *e);
int __wrap_image_flush(struct image *image, struct err *e)
{
	note("flush");
	return refused("flush") ? err_set(e, failure, "%s", cause) : __real_image_flush(image, e);
}

static size_t many_extents; /* that many pieces of one sector, in place of the image's */

int __real_image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
			 int (*each)(void *arg, const struct image_extent *x), void *arg);
int __wrap_image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
			 int (*each)(void *arg, const struct image_extent *x), void *arg);
int __wrap_image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
			 int (*each)(void *arg, const struct image_extent *x), void *arg)
{
	size_t i;
	int r = 0;

	note("extents " RANGE " %d", off, (size_t)n, merged);
	if (many_extents == 0)
		return __real_image_extents(image, off, n, merged, each, arg);
	for (i = 0; i < many_extents && r == 0; i++)
		r = each(arg, &(struct image_extent){ .off = i * 512,
						      .n = 512,
						      .kind = i % 2 ? EXTENT_DATA : EXTENT_HOLE });
	return r < 0 ? r : 0;
}

void __wrap_image_prefetch(struct image *image, uint64_t off, uint64_t n);
void __wrap_image_prefetch(struct image *image, uint64_t off, uint64_t n)
{
	note("prefetch " RANGE, off, (size_t)n);
}

int __wrap_image_tidy(struct image *image, struct err *e);
int __wrap_image_tidy(struct image *image, struct err *e)
{
	note("tidy");
	return 0;
}

int __wrap_image_start_download(struct image *image, struct err *e);
int __wrap_image_start_download(struct image *image, struct err *e)
{
	if (!starts_disk)
		note("download");
	return refused("download") ? err_set(e, failure, "%s", cause) : 0;
}

static const struct image_layer *given_layer; /* in place of each of the image's */
static int is_writable = -1; /* in place of what the image says */

const struct image_layer *__real_image_layer(const struct image *image, size_t number);
const struct image_layer *__wrap_image_layer(const struct image *image, size_t number);
const struct image_layer *__wrap_image_layer(const struct image *image, size_t number)
{
	return given_layer ? given_layer : __real_image_layer(image, number);
}

bool __real_image_is_writable(const struct image *image);
bool __wrap_image_is_writable(const struct image *image);
bool __wrap_image_is_writable(const struct image *image)
{
	return is_writable >= 0 ? is_writable : __real_image_is_writable(image);
}

bool __real_image_has_upper(const struct image *image);
bool __wrap_image_has_upper(const struct image *image);
bool __wrap_image_has_upper(const struct image *image)
{
	return is_writable >= 0 ? is_writable : __real_image_has_upper(image);
}

void __real_launch_note(struct launch *l, uint64_t off, uint64_t n);
void __wrap_launch_note(struct launch *l, uint64_t off, uint64_t n);
void __wrap_launch_note(struct launch *l, uint64_t off, uint64_t n)
{
	note("note " RANGE, off, (size_t)n);
	__real_launch_note(l, off, n);
}

#define WRAP_LAUNCH(name)                                                                          \
	void __real_launch_##name(struct launch *l);                                               \
	void __wrap_launch_##name(struct launch *l);                                               \
	void __wrap_launch_##name(struct launch *l)                                                \
	{                                                                                          \
		note(#name);                                                                       \
		__real_launch_##name(l);                                                           \
	}
WRAP_LAUNCH(client_came)
WRAP_LAUNCH(client_went)
WRAP_LAUNCH(look)
WRAP_LAUNCH(end)

static bool is_recording, is_fetching; /* in place of what they say */
static _Atomic unsigned looks_of_fetcher; /* calls */

bool __wrap_launch_is_recording(struct launch *l);
bool __wrap_launch_is_recording(struct launch *l)
{
	return is_recording;
}

void __wrap_fetcher_look(struct fetcher *f);
void __wrap_fetcher_look(struct fetcher *f)
{
	looks_of_fetcher++;
}

bool __wrap_fetcher_is_used(struct fetcher *f);
bool __wrap_fetcher_is_used(struct fetcher *f)
{
	return is_fetching;
}

int __real_fetcher_open(struct fetcher **out, struct err *e);
int __wrap_fetcher_open(struct fetcher **out, struct err *e);
int __wrap_fetcher_open(struct fetcher **out, struct err *e)
{
	return refused("fetcher_open") ? err_set(e, failure, "%s", cause)
				       : __real_fetcher_open(out, e);
}

int __real_fetcher_resume(struct fetcher *f, struct err *e);
int __wrap_fetcher_resume(struct fetcher *f, struct err *e);
int __wrap_fetcher_resume(struct fetcher *f, struct err *e)
{
	note("resume");
	return refused("resume") ? err_set(e, failure, "%s", cause) : __real_fetcher_resume(f, e);
}

#define WRAP_FETCHER(name)                                                                         \
	void __real_fetcher_##name(struct fetcher *f);                                             \
	void __wrap_fetcher_##name(struct fetcher *f);                                             \
	void __wrap_fetcher_##name(struct fetcher *f)                                              \
	{                                                                                          \
		note(f ? #name : #name " nothing");                                                \
		__real_fetcher_##name(f);                                                          \
	}
WRAP_FETCHER(stop)
WRAP_FETCHER(interrupt)
WRAP_FETCHER(close)

static sem_t reported; /* is posted at each */

static atomic_uint reporting; /* that write at this moment */
static bool report_waits; /* the first that writes waits for, */
static sem_t report_may_end;
static sem_t next_has_come; /* until the next one has come as far as it can */
static _Thread_local bool is_next;

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock)
{
	int r = pthread_mutex_trylock(lock);

	if (r == 0)
		return 0;
	if (is_next)
		sem_post(&next_has_come);
	return __real_pthread_mutex_lock(lock);
}

void __real_report_write(struct disk *const *disks, size_t count, bool last);
void __wrap_report_write(struct disk *const *disks, size_t count, bool last);
void __wrap_report_write(struct disk *const *disks, size_t count, bool last)
{
	assert_int_equal(atomic_fetch_add(&reporting, 1), 0); /* one at a time */
	if (report_waits && !is_next) {
		sem_post(&reported);
		sem_wait(&report_may_end);
	}
	if (is_next)
		sem_post(&next_has_come);
	note("report %zu%s", count, last ? " last" : "");
	__real_report_write(disks, count, last);
	atomic_fetch_sub(&reporting, 1);
	sem_post(&reported);
}

void __wrap_disk_start(struct disk *d);
void __real_disk_start(struct disk *d);
void __wrap_disk_start(struct disk *d)
{
	note("start");
	starts_disk = true;
	__real_disk_start(d);
	starts_disk = false;
}

static size_t many_exports; /* that many names, in place of the folder's */

int __real_exports_list(const struct exports *x, struct export_names *out, struct err *e);
int __wrap_exports_list(const struct exports *x, struct export_names *out, struct err *e);
int __wrap_exports_list(const struct exports *x, struct export_names *out, struct err *e)
{
	size_t i;

	if (refused("list"))
		return err_set(e, failure, "%s", cause);
	if (many_exports == 0)
		return __real_exports_list(x, out, e);
	out->names = calloc(many_exports, sizeof *out->names);
	for (i = 0; i < many_exports; i++)
		out->names[i] = strdup("x");
	out->count = many_exports;
	return 0;
}

int __real_exports_acquire_all(struct exports *x, struct disk ***out, size_t *count);
int __wrap_exports_acquire_all(struct exports *x, struct disk ***out, size_t *count);
int __wrap_exports_acquire_all(struct exports *x, struct disk ***out, size_t *count)
{
	return refused("acquire_all") ? -failure : __real_exports_acquire_all(x, out, count);
}

/* The watcher waits for the test's word, not for time: a tick is a second. */
static bool has_ticks; /* false: it waits for time */
static sem_t ticks, waiting;
static int ticks_left;

int __real_quit_watch(struct err *e);
int __wrap_quit_watch(struct err *e);
int __wrap_quit_watch(struct err *e)
{
	return refused("watch") ? err_set(e, failure, "%s", cause) : __real_quit_watch(e);
}

bool __real_quit_wait(unsigned ms);
bool __wrap_quit_wait(unsigned ms);
bool __wrap_quit_wait(unsigned ms)
{
	if (!has_ticks)
		return __real_quit_wait(ms);
	note("wait %u", ms);
	sem_post(&waiting);
	sem_wait(&ticks);
	return ticks_left-- == 0;
}

static int thread_code; /* what starting one gives */
static size_t threads;
static unsigned watchers; /* that run */

int __real_clock_thread(pthread_t *out, void *(*body)(void *arg), void *arg);
int __wrap_clock_thread(pthread_t *out, void *(*body)(void *arg), void *arg);
int __wrap_clock_thread(pthread_t *out, void *(*body)(void *arg), void *arg)
{
	if (starts_disk)
		return __real_clock_thread(out, body, arg);
	threads++;
	watchers += thread_code == 0;
	return thread_code ? thread_code : __real_clock_thread(out, body, arg);
}

static bool is_old; /* this nbdkit */

void *__real_dlsym(void *handle, const char *name);
void *__wrap_dlsym(void *handle, const char *name);
void *__wrap_dlsym(void *handle, const char *name)
{
	/* A leak checker that is linked in asks too, before main. */
	if (strcmp(name, "nbdkit_disconnect"))
		return __real_dlsym(handle, name);
	return is_old ? NULL : &is_old;
}

/* ---- images ---- */

enum { DISK = 64 * 1024 };

static inline void write_text(const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	assert_int_equal(io_replace_file(path, text, strlen(text), NULL), 0);
}

/* Sectors 0 to 7 are 'a', 8 to 15 are zeroed; the rest is a hole, up to the last, an 'a'. */
static inline void write_layer(const char *name)
{
	struct layer_writer_options options = { .virtual_size = DISK };
	struct layer_writer *w;
	char path[128], data[8 * 512];
	struct sink *s;

	snprintf(path, sizeof path, "%s/%s", folder, name);
	memset(data, 'a', sizeof data);
	assert_int_equal(sink_open_file(path, &s, NULL), 0);
	assert_int_equal(layer_writer_open(s, &options, &w, NULL), 0);
	assert_int_equal(layer_writer_data(w, 0, data, 8, NULL), 0);
	assert_int_equal(layer_writer_zeroes(w, 8, 8, NULL), 0);
	assert_int_equal(layer_writer_data(w, DISK / 512 - 1, data, 1, NULL), 0);
	assert_int_equal(layer_writer_finish(w, NULL), 0);
	layer_writer_close(w);
}

static inline int set_up(void **state)
{
	char data[128], index[128];

	snprintf(folder, sizeof folder, "/tmp/test-plugin.XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	write_layer("layer.obd");
	write_text("plain.yaml",
		   "service: none\ndescription: a disk\nlowers: [{file: layer.obd}]\n");
	snprintf(data, sizeof data, "%s/u.data", folder);
	snprintf(index, sizeof index, "%s/u.index", folder);
	assert_int_equal(upper_log_create(NULL, data, index, DISK, NULL, NULL, NULL), 0);
	write_text("written.yaml", "service: none\nlowers: [{file: layer.obd}]\n"
				   "upper: {data: u.data, index: u.index}\n");
	nbdkit_forget();
	calls = (struct nbdkit_text){ .n = 0 };
	failing = "";
	cause = "the cause";
	nbdkit_stdio = 1;
	nbdkit_name = "";
	is_recording = is_fetching = is_old = false;
	has_ticks = true;
	watchers = 0;
	is_writable = -1;
	given_layer = NULL;
	many_extents = many_exports = threads = 0;
	thread_code = ticks_left = 0;
	sem_init(&reported, 0, 0);
	sem_init(&ticks, 0, 0);
	sem_init(&waiting, 0, 0);
	sem_init(&report_may_end, 0, 0);
	sem_init(&next_has_come, 0, 0);
	report_waits = false;
	return 0;
}

static inline int tear_down(void **state)
{
	char command[128];

	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	return system(command);
}

/* ---- as nbdkit does it ---- */

static inline void config(const char *key, const char *value)
{
	char path[256];

	if (strcmp(key, "config") == 0 || strcmp(key, "dir") == 0) {
		snprintf(path, sizeof path, "%s/%s", folder, value);
		value = path;
	}
	if (plugin->config(key, value) != 0)
		fail_msg("%s=%s: %s", key, value, nbdkit_errors.text);
}

static inline void begin(void)
{
	assert_int_equal(plugin->config_complete(), 0);
	if (plugin->get_ready() != 0)
		fail_msg("%s", nbdkit_errors.text);
}

static inline void serve(const char *key, const char *value)
{
	config(key, value);
	begin();
	assert_int_equal(plugin->after_fork(), 0);
	if (watchers > 0 && has_ticks)
		sem_wait(&waiting); /* for the first tick */
}

static inline void end(void)
{
	if (watchers > 0 && has_ticks) {
		ticks_left = 0;
		sem_post(&ticks); /* the last */
	}
	watchers = 0;
	plugin->cleanup();
	plugin->unload();
}

static inline void forget_calls(void)
{
	pthread_mutex_lock(&nbdkit_lock);
	calls = (struct nbdkit_text){ .n = 0 };
	pthread_mutex_unlock(&nbdkit_lock);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
