/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_hostile.c - a cache folder in which others have been at work: names that the dead or
 * their namesakes left, files that are none, data that are cut, a folder that is removed, an origin
 * that wants its bytes served for another's.  Linked with pread wrapped, so that something can
 * happen just after it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "tests/unit/cache-users.h"

/* Runs a command of the shell in which $P is this path. */
static void run(const char *command, const char *path)
{
	assert_int_equal(setenv("P", path, 1), 0);
	assert_int_equal(system(command), 0);
}

static unsigned descriptors_in_use(void)
{
	unsigned count = 0;
	int fd;

	for (fd = 0; fd < 1000; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static unsigned in_use_before;

static int begin(void **state)
{
	in_use_before = descriptors_in_use();
	return set_up(state);
}

/* No descriptor is left over. */
static int end(void **state)
{
	unsigned left = descriptors_in_use() - in_use_before;

	tear_down(state);
	if (left > 0)
		print_error("%u descriptors are left over\n", left);
	return left > 0 ? -1 : 0;
}

static void verify_whole(struct cache_blob *b)
{
	struct err e = { "" };
	int r = cache_blob_verify(b, &e);

	if (r != 0)
		fail_msg("%d: %s", r, e.msg);
}

/* ---- namesakes ---- */

/* Processes of two containers may have the same pid and share the folder, and one that was killed
 * leaves names that its next life would choose again. */
static void namesakes(void **state)
{
	static const char *const kinds[] = { "probe", "new", "gone" };
	struct user u = use(GOOD);
	char path[128], *text;
	uint64_t dropped;
	unsigned i, k;
	struct err e;
	size_t n;
	int fd;

	assert_int_equal(cachelib_publish(u.b, &blob, 0), 0);
	leave(&u);
	assert_int_equal(unlink(cachelib_path(GOOD, &blob, "map")), 0);
	for (i = 0; i < 300; i++) {
		for (k = 0; k < 3; k++) {
			snprintf(path, sizeof path, "%s/v1/%s.%d.%u", folder, kinds[k],
				 (int)getpid(), i);
			assert_int_equal(mkdir(path, 0700), 0);
			snprintf(path, sizeof path, "%s/v1/%s.%d.%u/x", folder, kinds[k],
				 (int)getpid(), i);
			assert_int_equal(mkdir(path, 0700), 0);
		}
		snprintf(path, sizeof path, "new.%d.%u", (int)getpid(), i);
		fd = open(cachelib_path(GOOD, &blob, path), O_WRONLY | O_CREAT, 0600);
		assert_int_equal(write(fd, "mine", 4), 4);
		close(fd);
	}
	u = use(GOOD);
	assert_int_equal(cachelib_publish(u.b, &blob, 0), 0);
	for (i = 0; i < 300; i++) {
		snprintf(path, sizeof path, "new.%d.%u", (int)getpid(), i);
		assert_int_equal(io_read_file(cachelib_path(GOOD, &blob, path), 10, &text, &n, &e),
				 0);
		assert_string_equal(text, "mine");
		free(text);
	}
	assert_int_equal(cache_drop(u.c, blob.digest, NULL, &dropped, &e), 0);
	assert_int_equal(dropped, 1);
	leave(&u);
}

/* What was being made by who died is swept up, but not what may still be in the making. */
static void unfinished(void **state)
{
	struct cache *c = cachelib_open(0);
	char old[128], young[128];
	uint64_t freed;
	struct err e;

	snprintf(old, sizeof old, "%s/v1/probe.1.0", folder);
	snprintf(young, sizeof young, "%s/v1/new.1.0", folder);
	run("echo >\"$P\" && touch -d '2 hours ago' \"$P\"", old);
	run("echo >\"$P\"", young);
	assert_int_equal(cache_prune(c, 0, &freed, &e), 0);
	assert_false(cachelib_exists(old));
	assert_true(cachelib_exists(young));
	cache_close(c);
}

/* Something for the clock to do. */
static void fill_another(struct cache *c)
{
	struct test_blob another = cachelib_blob(7, SIZE);
	struct cache_blob *b = cachelib_open_blob(c, EVIL, &another);

	assert_int_equal(cachelib_publish(b, &another, 0), 0);
	cache_blob_close(b);
}

/* A blob's folder of who died before it had a map goes when the hand comes by; not while it is
 * being made. */
static void without_map(void **state)
{
	struct test_blob other = cachelib_blob(6, SIZE);
	struct user u = use_made(GOOD);
	uint64_t freed;
	struct err e;
	struct cache_file making = { &cache_disk_system, -1 };

	leave(&u);
	run("rm \"$P/map\" && echo >\"$P/new.1\"", cachelib_path(GOOD, &blob, NULL));
	run("mkdir \"$P\"", cachelib_path(GOOD, &other, NULL));
	u.c = cachelib_open(0);
	making.fd = open(cachelib_path(GOOD, &blob, "lock"), O_RDWR);
	assert_int_equal(cache_folder_lock(making, F_RDLCK, 0, 1), 0);
	assert_int_equal(cache_usage(u.c), 0);
	fill_another(u.c);
	assert_int_equal(cache_prune(u.c, 0, &freed, &e), 0);
	assert_true(cachelib_exists(cachelib_path(GOOD, &blob, NULL)));
	assert_false(cachelib_exists(cachelib_path(GOOD, &other, NULL)));
	cache_disk_close(&making);
	fill_another(u.c);
	assert_int_equal(cache_prune(u.c, 0, &freed, &e), 0);
	assert_false(cachelib_exists(cachelib_path(GOOD, &blob, NULL)));
	cache_close(u.c);
	assert_int_equal(warnings, 0);
}

/* ---- what is no file, or no folder ---- */

/* Opens, keeps, counts, evicts and drops as if nothing were there. */
static void is_replaced(const char *what)
{
	struct user u;
	struct cache *c;
	struct err e = { "" };
	uint64_t freed;

	u.c = cachelib_open(0);
	if (cache_blob_open(u.c, GOOD, blob.digest, SIZE, &u.b, &e) < 0)
		fail_msg("%s: %s", what, e.msg);
	cachelib_publish_all(u.b, &blob);
	assert_int_equal(cachelib_count(u.b, &blob), CHUNKS);
	if (warnings != 1)
		fail_msg("%s: %u warnings", what, warnings);
	assert_int_equal(cache_usage(u.c), SIZE + MAP_BYTES);
	leave(&u);
	c = cachelib_open(0);
	assert_int_equal(cache_prune(c, 0, &freed, &e), 0);
	assert_int_equal(freed, SIZE);
	cache_close(c);
}

static void not_files(void **state)
{
	static const char *const names[] = { "data", "map", "lock" };
	static const char *const commands[] = {
		"rm \"$P\" && mkdir -p \"$P/x/y\"",
		"rm \"$P\" && ln -s /dev/null \"$P\"",
		"rm \"$P\" && ln -s nowhere \"$P\"",
	};
	uint64_t dropped;
	struct err e;
	size_t i, k;

	for (i = 0; i < 9; i++) {
		struct user u = use(GOOD);
		struct cache *c;

		assert_int_equal(cachelib_publish(u.b, &blob, 0), 0);
		leave(&u);
		for (k = 0; k < 2; k++) {
			warnings = 0;
			run(commands[i / 3], cachelib_path(GOOD, &blob, names[i % 3]));
			if (k == 0)
				is_replaced(commands[i / 3]);
			u = use_made(GOOD);
			leave(&u);
		}
		run(commands[i / 3], cachelib_path(GOOD, &blob, names[i % 3]));
		c = cachelib_open(0);
		assert_int_equal(cache_drop(c, NULL, NULL, &dropped, &e), 0);
		assert_int_equal(dropped, 1);
		cache_close(c);
	}
}

static void not_folders(void **state)
{
	static const char *const commands[] = {
		"rm -rf \"$P\" && echo >\"$P\"",
		"rm -rf \"$P\" && ln -s / \"$P\"",
		"rm -rf \"$P\" && mkfifo \"$P\"",
	};
	size_t i;

	for (i = 0; i < 3; i++) {
		struct user u = use(GOOD);

		leave(&u);
		warnings = 0;
		run(commands[i], cachelib_path(GOOD, &blob, NULL));
		is_replaced(commands[i]);
	}
}

/* The folder's own files are not followed elsewhere. */
static void links_of_the_folder(void **state)
{
	static const char *const names[] = { "usage", "lock" };
	struct cache *c;
	char path[256], other[128], *text;
	struct stat st;
	struct err e;
	size_t i, n;

	snprintf(other, sizeof other, "%s/other", folder);
	for (i = 0; i < 4; i++) {
		c = cachelib_open(0);
		cache_close(c);
		run("echo -n text >\"$P\"", other);
		snprintf(path, sizeof path, "%s/v1/%s", folder, names[i / 2]);
		assert_int_equal(unlink(path), 0);
		assert_int_equal(i % 2 ? mkfifo(path, 0600) : symlink(other, path), 0);
		c = cachelib_open(0);
		cache_close(c);
		assert_int_equal(lstat(path, &st), 0);
		assert_true(S_ISREG(st.st_mode));
		assert_int_equal(io_read_file(other, 100, &text, &n, &e), 0);
		assert_int_equal(n, 4);
		free(text);
	}
}

/* ---- what is cut ---- */

/* Cut and made long again, the file has zeros where bytes were that a reader has checked. */
static void cut_data(void **state)
{
	struct user a = use(GOOD), b;
	uint64_t i;

	cachelib_publish_all(a.b, &blob);
	assert_int_equal(cachelib_count(a.b, &blob), CHUNKS);
	assert_int_equal(truncate(cachelib_path(GOOD, &blob, "data"), 3 * CACHE_CHUNK + 7), 0);
	assert_int_equal(cache_usage(a.c), SIZE + MAP_BYTES); /* who counts leaves it alone */
	b = use(GOOD);
	assert_int_equal(cache_blob_bad_chunks(b.b), CHUNKS - 3);
	for (i = 0; i < CHUNKS; i++)
		assert_int_equal(cachelib_look(a.b, &blob, i), i < 3);
	leave(&b);
	cachelib_publish_all(a.b, &blob);
	assert_int_equal(cachelib_count(a.b, &blob), CHUNKS);
	/* By a fill behind the cut. */
	cache_blob_drop(a.b, 15 * CACHE_CHUNK, 1);
	assert_int_equal(truncate(cachelib_path(GOOD, &blob, "data"), 0), 0);
	assert_int_equal(cachelib_publish(a.b, &blob, 15), 0);
	for (i = 0; i < CHUNKS; i++)
		assert_int_equal(cachelib_look(a.b, &blob, i), i == 15);
	leave(&a);
}

/* A copy of a folder has holes where the map was allocated and empty: a store to one raises SIGBUS
 * when the disk is full. */
static void sparse_map(void **state)
{
	struct test_blob big = cachelib_blob(4, 2000 * CACHE_CHUNK);
	struct cache *c = cachelib_open(0);
	struct cache_blob *b = cachelib_open_blob(c, GOOD, &big);
	const char *path = cachelib_path(GOOD, &big, "map");
	struct stat st;

	assert_int_equal(cachelib_publish(b, &big, 0), 0);
	cache_blob_close(b);
	run("cd \"${P%/*}\" && cp --sparse=always map x && mv x map", path);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 < st.st_size);
	b = cachelib_open_blob(c, GOOD, &big);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_blocks * 512 >= st.st_size);
	assert_int_equal(cachelib_look(b, &big, 0), 1);
	cache_blob_close(b);
	cache_close(c);
}

/* ---- flags, and what stands in the way ---- */

/* After a power loss a blob may pass for whole that is not: what is missing is kept all the same.
 */
static void not_so_whole(void **state)
{
	struct user u;

	whole_in_shared(GOOD);
	u = use(EVIL);
	cache_blob_drop(u.b, 5 * CACHE_CHUNK, 1);
	cache_map_change_flags(u.b->shared, CACHE_MAP_WHOLE, 0);
	assert_int_equal(cachelib_publish(u.b, &blob, 5), 0);
	assert_int_equal(cachelib_look(u.b, &blob, 5), 1);
	verify_whole(u.b);
	assert_int_equal(cache_blob_state(u.b), CACHE_WHOLE);
	leave(&u);
}

/* Where a whole blob is to move lies what is none. */
static void place_is_taken(void **state)
{
	static const char *const commands[] = {
		"mkdir \"$P\" && echo >\"$P/data\"",
		"mkdir \"$P\" && echo >\"$P/map\"",
		"echo >\"$P\"",
		"ln -s nowhere \"$P\"",
	};
	uint64_t dropped;
	struct err e;
	size_t i;

	for (i = 0; i < 4; i++) {
		struct user u = use(GOOD);

		run(commands[i], cachelib_path(NULL, &blob, NULL));
		cachelib_publish_all(u.b, &blob);
		verify_whole(u.b);
		assert_int_equal(cache_blob_state(u.b), CACHE_WHOLE);
		assert_int_equal(cachelib_count(u.b, &blob), CHUNKS);
		assert_int_equal(cache_drop(u.c, NULL, NULL, &dropped, &e), 0);
		leave(&u);
	}
}

/* ---- poison ---- */

static struct cache_map *evict_from; /* after the read of the last chunk; NULL: no */

ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
	ssize_t r = __real_pread64(fd, buf, n, off);
	struct cache_map *m = evict_from;

	if (m && (uint64_t)off + n == SIZE) {
		evict_from = NULL;
		cache_map_drop(m, 4);
	}
	return r;
}

/* Chunk 4 is right in v1/sha256, and forged in the evil origin's folder, which has what else is
 * missing.  When v1/sha256 loses it after the whole was hashed, the forged one must not take its
 * place: it was not part of what was hashed. */
static void unhashed_chunk(void **state)
{
	struct user evil, good;

	whole_in_shared(GOOD);
	evil = use(EVIL);
	cache_blob_drop(evil.b, 4 * CACHE_CHUNK, 1);
	cache_blob_drop(evil.b, 9 * CACHE_CHUNK, 1);
	assert_int_equal(cachelib_publish(evil.b, &forged, 4), 0);
	assert_int_equal(cachelib_publish(evil.b, &blob, 9), 0);
	{
		uint8_t chunk[CACHE_CHUNK];

		cachelib_chunk(&blob, 4, chunk); /* by another origin's whole */
		assert_int_equal(cache_map_publish(evil.b->shared, 4, chunk, true), 0);
	}
	evict_from = evil.b->shared;
	(void)cache_blob_verify(evil.b, NULL);
	evict_from = NULL;
	good = use(GOOD);
	assert_int_not_equal(cachelib_look(good.b, &blob, 4), -1);
	leave(&good);
	leave(&evil);
}

/* ---- who removes ---- */

static void *hold_alone(void *arg)
{
	usleep(60000);
	cache_map_close(arg);
	return NULL;
}

/* Who removes an idle folder may be slow: who opens it waits. */
static void slow_removal(void **state)
{
	static _Atomic uint64_t ignored;
	const struct cache_map_counters counters = { &ignored, &ignored, NULL };
	struct user u = use_made(GOOD);
	char path[CACHE_PATH];
	struct cache_map *m;
	pthread_t thread;
	struct err e;

	memcpy(path, u.b->own_path, sizeof path);
	leave(&u);
	u.c = cachelib_open(0);
	assert_int_equal(
		cache_map_open(u.c->root, path, blob.digest, SIZE, false, &counters, &m, &e), 0);
	assert_true(cache_map_take_alone(m));
	assert_int_equal(pthread_create(&thread, NULL, hold_alone, m), 0);
	assert_int_equal(cache_blob_open(u.c, GOOD, blob.digest, SIZE, &u.b, &e), 0);
	pthread_join(thread, NULL);
	assert_int_equal(cachelib_publish(u.b, &blob, 0), 0);
	leave(&u);
}

/* What is published is seen by who comes later. */
static bool is_shared(void *arg)
{
	struct user later = use(GOOD);
	bool seen = cachelib_publish(arg, &blob, 3) == 0 && cachelib_look(later.b, &blob, 3) == 1;

	leave(&later);
	return seen;
}

static bool shares_usage(void *arg)
{
	struct cache *other = cachelib_open(0);
	const struct user *u = arg;
	bool same = atomic_load(other->usage) == atomic_load(u->c->usage);

	atomic_fetch_add(other->usage, 1000);
	same = same && atomic_load(other->usage) == atomic_load(u->c->usage);
	atomic_fetch_add(other->usage, (uint64_t)-1000);
	cache_close(other);
	return same;
}

/* The whole folder is removed under a server: it is made anew, and shared with who comes later. */
static void folder_removed(void **state)
{
	struct user u = use(GOOD);
	struct err e;

	assert_int_equal(cache_start(u.c, &e), 0);
	assert_int_equal(cachelib_publish(u.b, &blob, 3), 0);
	cachelib_remove_folder();
	assert_true(cachelib_await(5, is_shared, u.b));
	assert_true(cachelib_await(5, shares_usage, &u));
	leave(&u);
	assert_int_equal(warnings, 0);
}

/* So is the counter. */
static void usage_removed(void **state)
{
	struct user u = use(GOOD);
	char path[64];
	struct err e;

	assert_int_equal(cache_start(u.c, &e), 0);
	snprintf(path, sizeof path, "%s/v1/usage", folder);
	assert_int_equal(unlink(path), 0);
	assert_true(cachelib_await(5, shares_usage, &u));
	leave(&u);
	assert_int_equal(warnings, 0);
}

/* ---- rights and limits of a process ---- */

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

/* As nbdkit -u nobody does over a folder of nobody's, after root has opened the cache. */
static int as_its_owner(void *arg)
{
	struct test_blob other = cachelib_blob(5, SIZE);
	struct cache_blob *later;
	uint64_t freed;
	struct user u;
	struct err e = { "" };

	CHECK(chown(folder, 65534, 65534) == 0);
	u = use(GOOD);
	CHECK(cachelib_publish(u.b, &blob, 0) == 0);
	CHECK(cache_put_document(u.c, NULL, "x", "x", 1, &e) == 0);
	CHECK(cache_put_document(u.c, GOOD, "x", "x", 1, &e) == 0);
	CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	CHECK(cache_start(u.c, &e) == 0);
	cachelib_publish_all(u.b, &blob);
	CHECK(cache_blob_verify(u.b, &e) == 0);
	CHECK(cache_blob_state(u.b) == CACHE_WHOLE);
	later = cachelib_open_blob(u.c, EVIL, &other);
	CHECK(cachelib_publish(later, &other, 0) == 0);
	CHECK(cache_put_document(u.c, NULL, "x", "y", 1, &e) == 0);
	CHECK(cache_put_document(u.c, GOOD, "y", "y", 1, &e) == 0);
	CHECK(cache_prune(u.c, 0, &freed, &e) == 0);
	CHECK(cachelib_count(later, &other) == 0);
	cache_blob_close(later);
	leave(&u);
	/* And a later process of theirs. */
	u = use(EVIL);
	CHECK(cachelib_publish(u.b, &blob, 1) == 0);
	leave(&u);
	CHECK(warnings == 0);
	return 0;
}

static void owner(void **state)
{
	if (geteuid() != 0) {
		print_message("SKIP: only root can become another user\n");
		skip();
	}
	assert_true(cachelib_in_child(as_its_owner, NULL));
}

static int without_descriptors(void *arg)
{
	struct user u = use(GOOD);
	struct test_blob other = cachelib_blob(5, SIZE);
	struct rlimit few = { .rlim_cur = 3, .rlim_max = 3 };
	struct cache_blob *b;

	CHECK(cachelib_publish(u.b, &blob, 0) == 0);
	CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
	b = cachelib_open_blob(u.c, GOOD, &other);
	CHECK(warnings == 1);
	CHECK(strstr(last_warning, "Too many open files"));
	CHECK(cachelib_count(b, &other) == 0);
	CHECK(cachelib_count(u.b, &blob) == 1);
	cache_blob_close(b);
	leave(&u);
	CHECK(warnings == 1);
	return 0;
}

static void descriptors(void **state)
{
	assert_true(cachelib_in_child(without_descriptors, NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
	const struct CMUnitTest tests[] = {
		TEST(namesakes),      TEST(unfinished),	    TEST(without_map),
		TEST(not_files),      TEST(not_folders),    TEST(links_of_the_folder),
		TEST(cut_data),	      TEST(sparse_map),	    TEST(not_so_whole),
		TEST(place_is_taken), TEST(unhashed_chunk), TEST(slow_removal),
		TEST(folder_removed), TEST(usage_removed),  TEST(owner),
		TEST(descriptors),
	};

	make_blobs();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
