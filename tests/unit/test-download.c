/* SPDX-License-Identifier: Apache-2.0 */
/* test-download.c - filling a blob, stopping in the midst of it, and the reference's folder layout;
 * in the background: test-download_background.c. */
#include <sys/wait.h>

#include "tests/unit/allocs.h"
#include "tests/unit/downloadlib.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

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
	assert_int_equal(b.total, SIZE);
	assert_int_equal(b.told_times, 3);
	assert_int_equal(b.told[0], STEP);
	assert_int_equal(b.told[1], 2 * STEP);
	assert_int_equal(b.told[2], SIZE);
	assert_string_equal(list_rests(), "");
}

/* At least a MiB is asked for at once; more, where the settings say so.  No limit holds here. */
static void steps(void **state)
{
	static const struct {
		uint64_t block_size, step;
		unsigned fills;
	} rows[] = {
		{ 0, STEP, 3 },
		{ STEP - 1, STEP, 3 },
		{ 2 * STEP, 2 * STEP, 2 },
		{ SIZE - 1, SIZE - 1, 2 },
		{ SIZE, SIZE, 1 },
		{ 9 * STEP, 9 * STEP, 1 },
	};
	const struct download_blob x = what(NULL);
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		struct fetch_download how = { .block_size = rows[i].block_size, .max_mbps = 1 };

		b.step = rows[i].step;
		b.fills = 0;
		memset(b.present, 0, sizeof b.present);
		assert_int_equal(download_now(&x, &how, NULL, NULL, &e), 0);
		assert_int_equal(b.fills, rows[i].fills);
	}
	assert_string_equal(list_rests(), "");
}

static unsigned heard_times, heard_most;
static uint64_t heard[TIMES];

static bool hear(void *arg, uint64_t present)
{
	assert_ptr_equal(arg, &heard_times);
	heard[heard_times++] = present;
	return heard_times < heard_most;
}

/* Who watches is told what is there, and may end it, whatever it is about. */
static void watched(void **state)
{
	const struct fetch_download how = { .tries = 3, .block_size = STEP };
	const struct download_blob x = what(NULL);
	struct err e;

	heard_times = 0;
	heard_most = TIMES;
	b.present[1] = true;
	assert_int_equal(download_now(&x, &how, hear, &heard_times, &e), 0);
	assert_int_equal(heard_times, 3);
	assert_int_equal(heard[0], STEP);
	assert_int_equal(heard[1], 2 * STEP);
	assert_int_equal(heard[2], SIZE);
	b.whole = true;
	assert_int_equal(download_now(&x, &how, hear, &heard_times, &e), 0);
	assert_int_equal(heard_times, 4);
	assert_int_equal(heard[3], SIZE);

	b.whole = false;
	memset(b.present, 0, sizeof b.present);
	b.fills = heard_times = 0;
	heard_most = 2;
	assert_int_equal(download_now(&x, &how, hear, &heard_times, &e), -ECANCELED);
	assert_string_equal(e.msg, "stopped");
	assert_int_equal(b.fills, 2);
	assert_string_equal(list_rests(), ""); /* and it is not tried again */
	b.taken = true;
	heard_times = 0;
	assert_int_equal(download_now(&x, &how, hear, &heard_times, &e), -ECANCELED);
	assert_int_equal(heard_times, 2);
	assert_int_equal(heard[0], 2 * STEP);
	assert_string_equal(list_rests(), "2000"); /* between two looks */
	assert_int_equal(b.claims, b.unclaims);
}

/* What others had claimed comes later, even if it is a byte; as long as that goes on. */
static void later(void **state)
{
	struct err e;

	b.fail = 1;
	b.fail_times = 1;
	b.fail_from = STEPS - 1;
	assert_int_equal(now(NULL, &e), 0);
	assert_int_equal(b.fills, STEPS + 1);
	assert_string_equal(list_rests(), "1000");
	assert_int_equal(b.verified, 1);

	memset(b.present, 0, sizeof b.present);
	rest_times = b.fills = 0;
	b.fail_times = 100;
	b.fail_from = 0;
	assert_int_equal(now(NULL, &e), -ENOSPC);
	assert_string_equal(e.msg, "2097153 bytes of it do not stay in the cache");
	assert_int_equal(b.fills, 2 * STEPS);
	assert_string_equal(list_rests(), "1000");
	assert_int_equal(b.verified, 1);
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
	assert_string_equal(list_rests(), "1000 1000");
	memset(b.present, 0, sizeof b.present);
	b.fail_times = 3;
	assert_int_equal(now(NULL, &e), -EIO);
	assert_string_equal(e.msg, "as the test wants");
	assert_int_equal(b.unclaims, 2);
	assert_string_equal(list_rests(), "1000 1000 1000 1000");
	b.fail = -ESHUTDOWN;
	b.fail_times = 3;
	assert_int_equal(now(NULL, &e), -ESHUTDOWN); /* no use to try that again */
	assert_int_equal(b.fail_times, 2);
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
	assert_string_equal(list_rests(), "1000 1000");
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
	b.has_cache = false;
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(syncs, 1);
}

/* It needs no cache; but where there is one, what goes wrong there is told, unless it is room. */
static void placed_without_a_cache(void **state)
{
	static const struct {
		int fail, r;
	} rows[] = { { -EIO, -EIO }, { -EBADMSG, -EBADMSG }, { -ENOSPC, 0 } };
	struct err e;
	size_t i;

	for (i = 0; i < COUNT_OF(rows); i++) {
		b.fail = rows[i].fail;
		b.fail_times = 100;
		assert_int_equal(now(folder, &e), rows[i].r);
		assert_int_equal(size_of("overlaybd.commit"), rows[i].r < 0 ? UINT64_MAX : SIZE);
	}
	assert_int_equal(unlink(in_folder("overlaybd.commit")), 0);
	b.has_cache = false;
	b.fills = 0;
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(b.fills, 0);
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
}

/* What ends a copy leaves nothing. */
static void not_placed(void **state)
{
	struct err e;

	b.has_cache = false;
	for (read_fails_at = 1; read_fails_at <= STEPS; read_fails_at++) {
		reads = 0;
		assert_int_equal(now(folder, &e), -EIO);
		assert_string_equal(e.msg, "it cannot be read");
		assert_int_equal(reads, read_fails_at);
		assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
		assert_int_equal(size_of(".download"), UINT64_MAX);
	}
	read_fails_at = 0;
	rename_error = EXDEV;
	assert_int_equal(now(folder, &e), -EXDEV);
	assert_non_null(strstr(e.msg, "/overlaybd.commit: Invalid cross-device link"));
	assert_int_equal(size_of(".download"), UINT64_MAX);
}

/* Another process was at it, and is done between our opening and our lock. */
static void takes_its_place(const char *path)
{
	assert_int_equal(__real_rename(path, in_folder("overlaybd.commit")), 0);
}

static void takes_its_place_and_more(const char *path)
{
	int fd;

	takes_its_place(path);
	opened = NULL;
	fd = open(path, O_RDWR | O_CREAT, 0644);
	assert_int_equal(ftruncate(fd, 3), 0);
	close(fd);
}

static void done_by_another(void **state)
{
	void (*const acts[])(const char *path) = { takes_its_place, takes_its_place_and_more };
	struct err e;
	size_t i;
	int fd;

	b.has_cache = false;
	for (i = 0; i < COUNT_OF(acts); i++) {
		fd = open(in_folder(".download"), O_RDWR | O_CREAT, 0644);
		assert_int_equal(ftruncate(fd, 7), 0);
		close(fd);
		opened = acts[i];
		assert_int_equal(now(folder, &e), 0);
		opened = NULL;
		assert_int_equal(size_of("overlaybd.commit"), 7);
		assert_int_equal(size_of(".download"), i == 0 ? UINT64_MAX : 3);
		assert_int_equal(unlink(in_folder("overlaybd.commit")), 0);
	}
}

static void no_memory(void **state)
{
	struct err e;
	long k;
	int r;

	b.has_cache = false;
	for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
		allocs_left = k;
		r = now(folder, &e);
		allocs_left = -1;
		if (r < 0)
			assert_string_equal(e.msg, "out of memory");
	}
	assert_int_equal(r, 0);
	assert_int_equal(k, 4); /* two names, a piece */
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
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

static void interrupted_sync(void **state)
{
	struct err e;

	sync_error = EINTR;
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(syncs, 2);
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
}

static void wrong_bytes(void **state)
{
	struct err e;

	b.bytes[SIZE - 1] ^= 1;
	assert_int_equal(now(folder, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "what came has the digest sha256:"));
	assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
	assert_int_equal(size_of(".download"), UINT64_MAX);
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

enum { SOMEBODY = 12345 };

/* Does `that` as another user, in the folder, which is his. */
static void as_somebody(int (*that)(void))
{
	pid_t child;
	int status;

	assert_int_equal(chown(folder, SOMEBODY, SOMEBODY), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(chdir(folder) == 0 && setresgid(SOMEBODY, SOMEBODY, SOMEBODY) == 0 &&
				      setresuid(SOMEBODY, SOMEBODY, SOMEBODY) == 0 && that() == 0
			      ? 0
			      : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static char roots[] = "/tmp/test-download-roots.XXXXXX", victim[64], missing[64];

static int links_to_the_victim(void)
{
	return symlink(victim, ".download");
}

static int links_to_what_is_missing(void)
{
	return symlink(missing, ".download");
}

static int makes_a_pipe(void)
{
	return mkfifo(".download", 0666);
}

static int makes_a_file(void)
{
	int fd = open(".download", O_RDWR | O_CREAT, 0666);

	return fd < 0 ? -1 : close(fd);
}

static int makes_nothing(void)
{
	return 0;
}

/* Root downloads into the folder of somebody who prepared it.  Whatever lies there, no file of
 * root's is written to or made, and root is not kept waiting. */
static void traps_of_another_user(void **state)
{
	static const struct {
		const char *what;
		int (*set)(void);
		int code;
	} rows[] = {
		{ "a link to a file of root's", links_to_the_victim, -ELOOP },
		{ "a link into a folder of root's", links_to_what_is_missing, -ELOOP },
		{ "a pipe that nobody reads", makes_a_pipe, -EPERM },
		{ "a file of his own", makes_a_file, -EPERM },
	};
	struct stat st;
	struct err e;
	size_t i;
	int fd, r;

	if (geteuid() != 0) {
		print_message("SKIP: only root can be two users\n");
		skip();
	}
	assert_non_null(mkdtemp(roots)); /* with nobody's rights but root's */
	snprintf(victim, sizeof victim, "%s/victim", roots);
	snprintf(missing, sizeof missing, "%s/missing", roots);
	fd = open(victim, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "root's", 6), 6);
	close(fd);
	for (i = 0; i < COUNT_OF(rows); i++) {
		as_somebody(rows[i].set);
		r = now(folder, &e);
		if (r != rows[i].code || !strstr(e.msg, ".download: "))
			fail_msg("%s: %d, %s", rows[i].what, r, r < 0 ? e.msg : "");
		assert_int_equal(size_of("overlaybd.commit"), UINT64_MAX);
		assert_int_equal(unlink(in_folder(".download")), 0);
	}
	/* A name more for a file of root's.  Most kernels forbid him to make one: root does it. */
	assert_int_equal(link(victim, in_folder(".download")), 0);
	assert_int_equal(now(folder, &e), -EPERM);
	assert_int_equal(unlink(in_folder(".download")), 0);
	assert_int_equal(stat(victim, &st), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(stat(missing, &st), -1);
	/* A folder of his without a trap is served. */
	as_somebody(makes_nothing);
	assert_int_equal(now(folder, &e), 0);
	assert_int_equal(size_of("overlaybd.commit"), SIZE);
	assert_int_equal(unlink(victim), 0);
	assert_int_equal(rmdir(roots), 0);
	assert_int_equal(chown(folder, 0, 0), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(all_of_it),
		TEST(steps),
		TEST(watched),
		TEST(later),
		TEST(some_of_it),
		TEST(tries),
		TEST(no_room),
		TEST(another_checks),
		TEST(evicted_at_once),
		TEST(placed),
		TEST(placed_without_a_cache),
		TEST(not_placed),
		TEST(done_by_another),
		TEST(no_memory),
		TEST(not_synced),
		TEST(interrupted_sync),
		TEST(wrong_bytes),
		TEST(a_rest),
		TEST(locked),
		TEST(others_files),
		TEST(another_users),
		TEST(traps_of_another_user),
		TEST(cache_keeps_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
