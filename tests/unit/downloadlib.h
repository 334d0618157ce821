/* SPDX-License-Identifier: Apache-2.0 */
/* downloadlib.h - for the tests of download.c: a blob and its cache that are the test's own, chunks
 * of STEP bytes that it lets come or not; fsync, rename and open are the real ones, watched.
 * Included once a program.
 *
 * The clock moves when somebody sleeps or waits, and notes for how long. */
#ifndef OVERLAYBD_TESTS_DOWNLOADLIB_H
#define OVERLAYBD_TESTS_DOWNLOADLIB_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "fetch/blob.h"
#include "fetch/download.h"
#include "fetch/stats.h"
#include "tests/unit/cachelib.h"

/* The last piece is one byte. */
enum { STEP = 1024 * 1024, STEPS = 3, SIZE = (STEPS - 1) * STEP + 1, TIMES = 32 };

/* ---- a blob ---- */

static struct {
	uint8_t bytes[SIZE];
	char digest[DIGEST_TEXT];
	struct source source;
	bool has_cache, held;
	bool paused; /* the cache keeps nothing */
	bool present[STEPS];
	unsigned fills, verified, claims, unclaims; /* calls */
	uint64_t told[TIMES], total; /* what the counters were told */
	unsigned told_times;
	int fail; /* what blob_fill answers */
	unsigned fail_times;
	size_t fail_from; /* pieces before it do not fail */
	uint64_t step; /* bytes that it is to be asked for at once */
	int hold; /* what cache_blob_hold answers */
	int verdicts[4]; /* of cache_blob_verify, in order */
	bool taken; /* another downloads it */
	bool whole;
	bool closing;
	void (*filled)(void); /* called at each fill */
	void (*looked)(void); /* called at each look whether it is whole */
} b;

static size_t piece(size_t i)
{
	return i + 1 < STEPS ? STEP : SIZE - (STEPS - 1) * STEP;
}

struct blob *blob_of(struct source *s)
{
	return (struct blob *)s;
}

static void check_blob(const void *blob)
{
	assert_ptr_equal(blob, &b.source);
}

uint64_t blob_size(const struct blob *blob)
{
	check_blob(blob);
	return SIZE;
}

const char *blob_digest(const struct blob *blob)
{
	check_blob(blob);
	return b.digest;
}

struct cache_blob *blob_cache(struct blob *blob)
{
	check_blob(blob);
	return b.has_cache ? (struct cache_blob *)blob : NULL;
}

struct stats *blob_stats(struct blob *blob)
{
	check_blob(blob);
	return (struct stats *)(void *)&b.told;
}

bool blob_is_closing(const struct blob *blob)
{
	check_blob(blob);
	return b.closing;
}

void stats_set(struct stats *s, enum stats_count which, uint64_t n)
{
	assert_ptr_equal(s, (void *)&b.told);
	if (which == STATS_DOWNLOAD_TOTAL) {
		b.total = n;
		return;
	}
	assert_int_equal(which, STATS_DOWNLOAD_BYTES);
	if (b.told_times < TIMES)
		b.told[b.told_times++] = n;
}

uint64_t blob_present(const struct blob *blob, uint64_t off, uint64_t n)
{
	uint64_t sum = 0;
	size_t i;

	check_blob(blob);
	assert_true(off + n <= SIZE);
	for (i = 0; i < STEPS; i++)
		if (b.present[i] && i * STEP >= off && i * STEP < off + n)
			sum += piece(i);
	return sum;
}

int blob_fill(struct blob *blob, uint64_t off, uint64_t n, struct err *e)
{
	uint64_t at;

	check_blob(blob);
	assert_int_equal(off % b.step, 0);
	assert_int_equal(n, b.step < SIZE - off ? b.step : SIZE - off);
	b.fills++;
	if (b.filled)
		b.filled();
	if (b.fail_times > 0 && off / STEP >= b.fail_from) {
		b.fail_times--;
		return b.fail < 0 ? err_set(e, -b.fail, "as the test wants") : b.fail;
	}
	for (at = off; at < off + n; at += STEP)
		b.present[at / STEP] = true;
	return 0;
}

int cache_blob_hold(struct cache_blob *blob, struct err *e)
{
	check_blob(blob);
	b.held = true;
	return b.hold < 0 ? err_set(e, -b.hold, "it does not fit") : 0;
}

bool cache_blob_is_filling(const struct cache_blob *blob)
{
	check_blob(blob);
	return !b.paused;
}

bool cache_blob_claim_download(struct cache_blob *blob)
{
	check_blob(blob);
	b.claims += !b.taken;
	return !b.taken;
}

void cache_blob_unclaim_download(struct cache_blob *blob)
{
	check_blob(blob);
	b.unclaims++;
}

enum cache_state cache_blob_state(const struct cache_blob *blob)
{
	check_blob(blob);
	if (b.looked)
		b.looked();
	return b.whole ? CACHE_WHOLE : CACHE_PARTIAL;
}

static void (*judged)(void); /* called at each verdict */

int cache_blob_verify(struct cache_blob *blob, struct err *e)
{
	int r = b.verdicts[b.verified++ % 4];

	check_blob(blob);
	if (judged)
		judged();
	return r < 0 ? err_set(e, -r, "as the test wants") : r;
}

static unsigned reads, read_fails_at; /* the read, counted from 1, that fails */

static int blob_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	reads++;
	if (reads == read_fails_at)
		return err_set(e, EIO, "it cannot be read");
	memcpy(buf, b.bytes + off, n);
	return 0;
}

/* ---- what the test counts ---- */

static unsigned syncs;
static bool synced_before_rename;
static int sync_error, rename_error;
static void (*opened)(const char *path); /* called when DIR/.download was opened */

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

int __wrap_open64(const char *path, int flags, ...)
{
	va_list ap;
	int fd;

	va_start(ap, flags);
	fd = __real_open64(path, flags, va_arg(ap, int));
	va_end(ap);
	if (fd >= 0 && opened && strstr(path, "/.download"))
		opened(path);
	return fd;
}

/* Of all that was written, in a file that no child gets and no FIFO keeps waiting. */
int __wrap_fsync(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	syncs++;
	if (sync_error) {
		errno = sync_error;
		if (sync_error == EINTR)
			sync_error = 0; /* a signal comes once */
		return -1;
	}
	return __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
	synced_before_rename = syncs > 0;
	if (rename_error) {
		errno = rename_error;
		return -1;
	}
	return __real_rename(from, to);
}

/* ---- the clock ---- */

static uint64_t now_us;
static uint64_t rests[TIMES]; /* ms that were slept or waited for */
static unsigned rest_times;

static uint64_t test_now(void)
{
	return now_us;
}

static void test_sleep(uint64_t ms)
{
	if (rest_times == TIMES)
		fail_msg("rests without an end");
	rests[rest_times++] = ms;
	now_us += ms * 1000;
}

static const void *made_cond;

void __real_clock_init_cond(pthread_cond_t *c);
void __wrap_clock_init_cond(pthread_cond_t *c);

void __wrap_clock_init_cond(pthread_cond_t *c)
{
	made_cond = c;
	__real_clock_init_cond(c);
}

/* All rests, as "1000 2000". */
static inline const char *list_rests(void)
{
	static char text[256];
	size_t at = 0;
	unsigned i;

	text[0] = '\0';
	for (i = 0; i < rest_times; i++)
		at += (size_t)snprintf(text + at, sizeof text - at, "%s%" PRIu64, i > 0 ? " " : "",
				       rests[i]);
	return text;
}

static char first_warning[2048];

static void keep_first(enum log_level level, const char *line)
{
	count_warning(level, line);
	if (warnings == 1)
		snprintf(first_warning, sizeof first_warning, "%s", line);
}

static int set_up(void **state)
{
	static const struct source_ops ops = { .name = "blob", .pread = blob_pread };
	static struct clock_ops clock;
	struct source *whole;
	struct err e;
	uint64_t seed = 7;

	cachelib_make_folder();
	log_set_sink(keep_first);
	memset(&b, 0, sizeof b);
	testlib_fill(b.bytes, SIZE, 0, &seed);
	b.source = (struct source){ .ops = &ops, .size = SIZE };
	b.has_cache = true;
	b.step = STEP;
	if (source_open_memory(b.bytes, SIZE, &whole, &e) < 0 ||
	    digest_source(whole, b.digest, &e) < 0)
		return -1;
	source_close(whole);
	syncs = rest_times = reads = read_fails_at = 0;
	sync_error = rename_error = 0;
	opened = NULL;
	judged = NULL;
	now_us = 5000 * 1000;
	umask(0);
	synced_before_rename = false;
	clock = clock_system;
	clock.now_us = test_now;
	clock.sleep_ms = test_sleep;
	clock_use(&clock);
	return 0;
}

static int tear_down(void **state)
{
	clock_use(NULL);
	cachelib_remove_folder();
	return 0;
}

static struct download_blob what(const char *dir)
{
	return (struct download_blob){ .blob = &b.source, .dir = dir, .name = "layer" };
}

static inline int now(const char *dir, struct err *e)
{
	const struct fetch_download how = { .tries = 3, .block_size = STEP };
	const struct download_blob x = what(dir);

	return download_now(&x, &how, NULL, NULL, e);
}

static inline char *in_folder(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static inline uint64_t size_of(const char *name)
{
	struct stat st;

	return stat(in_folder(name), &st) < 0 ? UINT64_MAX : (uint64_t)st.st_size;
}

#endif
