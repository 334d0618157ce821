/* SPDX-License-Identifier: Apache-2.0 */
/* test-download.c - filling a blob, stopping in the midst of it, and the reference's folder layout.
 * The blob and its cache are the test's own, chunks of STEP bytes that it lets come or not; fsync,
 * fcntl and rename are the real ones, counted. */
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

enum { STEP = 1024 * 1024, STEPS = 3, SIZE = (STEPS - 1) * STEP + 1000 };

/* ---- a blob ---- */

static struct {
	uint8_t bytes[SIZE];
	char digest[DIGEST_TEXT];
	struct source source;
	bool has_cache, held;
	bool paused; /* the cache keeps nothing */
	bool present[STEPS];
	unsigned fills, verified, claims, unclaims, busy; /* calls */
	int fail; /* what blob_fill answers */
	unsigned fail_times;
	int hold; /* what cache_blob_hold answers */
	int verdicts[4]; /* of cache_blob_verify, in order */
	bool taken; /* another downloads it */
	bool whole;
	bool closing;
	void (*filled)(void); /* called at each fill */
} b;

static size_t piece(size_t i)
{
	return i + 1 < STEPS ? STEP : SIZE - (STEPS - 1) * STEP;
}

struct blob *blob_of(struct source *s)
{
	return (struct blob *)s;
}

uint64_t blob_size(const struct blob *blob)
{
	return SIZE;
}

const char *blob_digest(const struct blob *blob)
{
	return b.digest;
}

struct cache_blob *blob_cache(struct blob *blob)
{
	return b.has_cache ? (struct cache_blob *)blob : NULL;
}

struct stats *blob_stats(struct blob *blob)
{
	return NULL;
}

bool blob_is_closing(const struct blob *blob)
{
	return b.closing;
}

void stats_set(struct stats *s, enum stats_count which, uint64_t n)
{
}

uint64_t blob_present(const struct blob *blob, uint64_t off, uint64_t n)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < STEPS; i++)
		if (b.present[i] && i * STEP >= off && i * STEP < off + n)
			sum += piece(i);
	return sum;
}

int blob_fill(struct blob *blob, uint64_t off, uint64_t n, struct err *e)
{
	b.fills++;
	if (b.filled)
		b.filled();
	if (b.fail_times > 0) {
		b.fail_times--;
		return b.fail < 0 ? err_set(e, -b.fail, "as the test wants") : b.fail;
	}
	b.present[off / STEP] = true;
	return 0;
}

int cache_blob_hold(struct cache_blob *blob, struct err *e)
{
	b.held = true;
	return b.hold < 0 ? err_set(e, -b.hold, "it does not fit") : 0;
}

bool cache_blob_is_filling(const struct cache_blob *blob)
{
	return !b.paused;
}

bool cache_blob_claim_download(struct cache_blob *blob)
{
	b.claims += !b.taken;
	return !b.taken;
}

void cache_blob_unclaim_download(struct cache_blob *blob)
{
	b.unclaims++;
}

enum cache_state cache_blob_state(const struct cache_blob *blob)
{
	return b.whole ? CACHE_WHOLE : CACHE_PARTIAL;
}

static void (*judged)(void); /* called at each verdict */

int cache_blob_verify(struct cache_blob *blob, struct err *e)
{
	if (judged)
		judged();
	int r = b.verdicts[b.verified++ % 4];

	return r < 0 ? err_set(e, -r, "as the test wants") : r;
}

static int blob_pread(struct source *s, void *buf, size_t n, uint64_t off, struct err *e)
{
	memcpy(buf, b.bytes + off, n);
	return 0;
}

/* ---- what the test counts ---- */

static unsigned syncs;
static bool synced_before_rename;
static int sync_error;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);

int __wrap_fsync(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, SIZE);
	syncs++;
	if (sync_error) {
		errno = sync_error;
		return -1;
	}
	return __real_fsync(fd);
}

int __wrap_rename(const char *from, const char *to)
{
	synced_before_rename = syncs > 0;
	return __real_rename(from, to);
}

/* A clock that moves when somebody sleeps; the conditions are the real ones. */
static uint64_t now_us;
static unsigned sleeps;

static uint64_t test_now(void)
{
	return now_us;
}

static void test_sleep(uint64_t ms)
{
	sleeps++;
	now_us += ms * 1000;
	b.present[1] = b.present[1] || b.busy > 0;
}

static int set_up(void **state)
{
	static const struct source_ops ops = { .name = "blob", .pread = blob_pread };
	static struct clock_ops clock;
	struct source *whole;
	struct err e;
	uint64_t seed = 7;

	cachelib_make_folder();
	memset(&b, 0, sizeof b);
	testlib_fill(b.bytes, SIZE, 0, &seed);
	b.source = (struct source){ .ops = &ops, .size = SIZE };
	b.has_cache = true;
	if (source_open_memory(b.bytes, SIZE, &whole, &e) < 0 ||
	    digest_source(whole, b.digest, &e) < 0)
		return -1;
	source_close(whole);
	syncs = sleeps = 0;
	sync_error = 0;
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

static int now(const char *dir, struct err *e)
{
	const struct fetch_download how = { .tries = 3, .block_size = STEP };
	const struct download_blob x = what(dir);

	return download_now(&x, &how, NULL, NULL, e);
}

static char *in_folder(const char *name)
{
	static char path[128];

	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static uint64_t size_of(const char *name)
{
	struct stat st;

	return stat(in_folder(name), &st) < 0 ? UINT64_MAX : (uint64_t)st.st_size;
}

/* ---- filling ---- */

static void all_of_it(void **state)
{
	struct err e;

	assert_int_equal(now(NULL, &e), 0);
	assert_int_equal(b.fills, STEPS);
	assert_true(b.held);
	assert_int_equal(b.verified, 1);
	assert_int_equal(b.claims, 1);
	assert_int_equal(b.unclaims, 1);
}

/* What is there is not fetched again; what is whole is not looked at. */
static void some_of_it(void **state)
{
	struct err e;

	b.present[0] = true;
	assert_int_equal(now(NULL, &e), 0);
	assert_int_equal(b.fills, STEPS - 1);
	b.whole = true;
	assert_int_equal(now(NULL, &e), 0);
	assert_int_equal(b.fills, STEPS - 1);
	assert_int_equal(b.claims, 1);
}

/* Tries as often as the settings say, then tells the last cause. */
static void tries(void **state)
{
	struct err e;

	b.fail = -EIO;
	b.fail_times = 2;
	assert_int_equal(now(NULL, &e), 0);
	assert_int_equal(b.fills, STEPS + 2);
	assert_int_equal(sleeps, 2);
	memset(b.present, 0, sizeof b.present);
	b.fail_times = 3;
	assert_int_equal(now(NULL, &e), -EIO);
	assert_string_equal(e.msg, "as the test wants");
	assert_int_equal(b.unclaims, 2);
}

/* What does not fit is not tried for. */
static void no_room(void **state)
{
	struct err e;

	b.hold = -ENOSPC;
	assert_int_equal(now(NULL, &e), -ENOSPC);
	assert_int_equal(b.fills, 0);
	b.hold = 0;
	b.fail = 1; /* another fetches it, and it never stays */
	b.fail_times = 100;
	assert_int_equal(now(NULL, &e), -ENOSPC);
	assert_non_null(strstr(e.msg, "bytes of it do not stay in the cache"));
	b.has_cache = false;
	assert_int_equal(now(NULL, &e), -ENOSPC);
	assert_string_equal(e.msg, "there is no cache to download it to");
}

/* While the cache keeps nothing, nothing is fetched for it: a folder of the user's is filled all
 * the same. */
static void cache_keeps_nothing(void **state)
{
	struct err e;

	b.paused = true;
	assert_int_equal(now(NULL, &e), -ENOSPC);
	assert_string_equal(e.msg, "the cache keeps nothing at the moment");
	assert_int_equal(b.fills, 0);
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(b.fills, 0);
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
	memset(b.present, true, sizeof b.present); /* it needs no room any more */
	assert_int_equal(now(NULL, &e), 0);
	assert_int_equal(b.verified, 1);
}

/* Another process checks it: waits for the verdict. */
static void another_checks(void **state)
{
	struct err e;

	b.verdicts[0] = b.verdicts[1] = -EAGAIN;
	assert_int_equal(now(NULL, &e), 0);
	assert_int_equal(b.verified, 3);
	assert_int_equal(sleeps, 2);
}

/* A chunk went before the check: it is not whole, and that is said. */
static void evicted_at_once(void **state)
{
	struct err e;

	b.verdicts[0] = 1;
	assert_int_equal(now(NULL, &e), -ENOSPC);
	assert_string_equal(e.msg, "it does not stay whole in the cache");
}

/* ---- the reference's layout ---- */

static void placed(void **state)
{
	struct err e;

	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
	assert_int_equal(size_of(".download"), UINT64_MAX);
	assert_int_equal(syncs, 1);
	assert_true(synced_before_rename);
	/* It is there: nothing is done. */
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(syncs, 1);
}

/* What could not be synced gets no name. */
static void not_synced(void **state)
{
	struct err e;

	sync_error = EIO;
	assert_int_equal(now(folder, &e), -EIO);
	assert_non_null(strstr(e.msg, "overlaybd.commit: Input/output error"));
	assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
	assert_int_equal(size_of(".download"), UINT64_MAX);
}

static void wrong_bytes(void **state)
{
	struct err e;

	b.bytes[SIZE - 1] ^= 1;
	assert_int_equal(now(folder, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "what came has the digest sha256:"));
	assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
}

/* The rest of a download that was killed, longer than this one, is ours to write over. */
static void a_rest(void **state)
{
	struct err e;
	int fd = open(in_folder(".download"), O_RDWR | O_CREAT, 0644);

	assert_int_equal(ftruncate(fd, SIZE + 5000), 0);
	close(fd);
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
}

/* Another process is at it. */
static void locked(void **state)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(in_folder(".download"), O_RDWR | O_CREAT, 0644);
	struct err e;

	assert_int_equal(write(fd, "theirs", 6), 6);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
	assert_int_equal(size_of(".download"), 6);
	close(fd);
}

/* DIR/.download leads to a file of somebody else's, or is nothing to write to. */
static void others_files(void **state)
{
	static const struct {
		const char *command, *message;
	} rows[] = {
		{ "ln -s mine .download", "a symbolic link, which is not followed" },
		{ "ln mine .download", "not a regular file of our own with one name" },
		{ "mkfifo .download", "not a regular file of our own" },
		{ "mkdir .download", "Is a directory" },
	};
	char command[256];
	struct err e;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(command, sizeof command,
			 "cd %s && rm -rf .download && echo text >mine && %s", folder,
			 rows[i].command);
		assert_int_equal(system(command), 0);
		assert_true(now(folder, &e) < 0);
		if (!strstr(e.msg, rows[i].message) || !strstr(e.msg, ".download: "))
			fail_msg("%s: %s", rows[i].command, e.msg);
		assert_int_equal(size_of("mine"), 5);
		assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
	}
}

/* One that another user has put there. */
static void another_users(void **state)
{
	struct err e;
	int fd;

	if (geteuid() != 0) {
		print_message("SKIP: only root can give files away\n");
		skip();
	}
	fd = open(in_folder(".download"), O_RDWR | O_CREAT, 0666);
	assert_int_equal(fchown(fd, 65534, 65534), 0);
	close(fd);
	assert_int_equal(now(folder, &e), -EPERM);
	assert_int_equal(size_of(".download"), 0);
}

/* ---- in the background ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
static bool is_filling, may_go_on;

/* The download is in the midst of a piece until the test lets it go on. */
static void stand_still(void)
{
	pthread_mutex_lock(&lock);
	is_filling = true;
	pthread_cond_broadcast(&moved);
	while (!may_go_on)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
}

/* download_close has said that it is to stop: only then it goes on. */
static void wake_and_let_go(pthread_cond_t *c)
{
	clock_system.wake(c);
	pthread_mutex_lock(&lock);
	may_go_on = true;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
}

/* A server that ends does not wait for the rest of the download. */
static void stopped(void **state)
{
	const struct fetch_download how = { .tries = 3, .block_size = STEP };
	const struct download_blob x = what("");
	struct clock_ops clock = clock_system;
	struct download *d;
	struct err e;

	clock.wake = wake_and_let_go;
	clock_use(&clock);
	is_filling = may_go_on = false;
	b.filled = stand_still;
	assert_int_equal(download_open(&how, &x, 1, &d, &e), 0);
	pthread_mutex_lock(&lock);
	while (!is_filling)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
	download_close(d);
	assert_int_equal(b.fills, 1);
	assert_int_equal(b.verified, 0);
	assert_int_equal(b.unclaims, 1);
	assert_false(b.held); /* it was not asked for by name */
	assert_int_equal(warnings, 0);
}

static unsigned waits;

/* The third time that it looks, the cache can be used. */
static void wait_three_times(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until)
{
	now_us = until * 1000;
	if (++waits == 3)
		b.paused = false;
}

static void note_verdict(void)
{
	pthread_mutex_lock(&lock);
	is_filling = true;
	pthread_cond_broadcast(&moved);
	pthread_mutex_unlock(&lock);
}

/* In the background it waits until the cache keeps what comes. */
static void waits_for_the_cache(void **state)
{
	const struct fetch_download how = { .tries = 3, .block_size = STEP };
	const struct download_blob x = what(NULL);
	struct clock_ops clock = clock_system;
	struct download *d;
	struct err e;

	clock.now_us = test_now;
	clock.wait = wait_three_times;
	clock_use(&clock);
	waits = 0;
	is_filling = false;
	b.paused = true;
	judged = note_verdict;
	assert_int_equal(download_open(&how, &x, 1, &d, &e), 0);
	pthread_mutex_lock(&lock);
	while (!is_filling)
		pthread_cond_wait(&moved, &lock);
	pthread_mutex_unlock(&lock);
	download_close(d);
	judged = NULL;
	assert_int_equal(waits, 3);
	assert_int_equal(b.fills, STEPS);
	assert_int_equal(b.claims, b.unclaims);
	assert_int_equal(warnings, 0);
}

/* Before it began, and while another process has it. */
static void stopped_while_waiting(void **state)
{
	const struct fetch_download later = { .delay = 3600, .delay_extra = 10, .tries = 3 };
	const struct fetch_download soon = { .tries = 3 };
	const struct download_blob x = what(NULL);
	struct download *d;
	struct err e;

	clock_use(NULL);
	assert_int_equal(download_open(&later, &x, 1, &d, &e), 0);
	download_close(d);
	assert_int_equal(b.claims, 0);
	b.taken = true;
	assert_int_equal(download_open(&soon, &x, 1, &d, &e), 0);
	download_close(d);
	assert_int_equal(b.fills, 0);
	download_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_of_it),
		TEST(some_of_it),
		TEST(tries),
		TEST(no_room),
		TEST(another_checks),
		TEST(evicted_at_once),
		TEST(placed),
		TEST(not_synced),
		TEST(wrong_bytes),
		TEST(a_rest),
		TEST(locked),
		TEST(others_files),
		TEST(another_users),
		TEST(stopped),
		TEST(stopped_while_waiting),
		TEST(cache_keeps_nothing),
		TEST(waits_for_the_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
