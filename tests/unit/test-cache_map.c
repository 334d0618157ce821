/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_map.c - one folder's chunks: invariants 1 to 6 of cache_map.c, each named in its
 * test, damaged maps, locks and claims between openings, threads and processes.  Linked with
 * pread wrapped, so that something can happen just before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <time.h>

#include <cmocka.h>

#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "fetch/cache_map.h"
#include "tests/unit/cachelib.h"

enum { CHUNKS = 9, SIZE = 8 * CACHE_CHUNK + 5000 };

static _Atomic uint64_t usage, bad;
static const struct cache_map_counters counters = { &usage, &bad, NULL };
static struct test_blob blob;
static struct cache_file root = { &cache_disk_system, -1 };

static int set_up(void **state)
{
	cachelib_make_folder();
	root.fd = open(folder, O_RDONLY | O_DIRECTORY);
	usage = bad = 0;
	blob = cachelib_blob(1, SIZE);
	return root.fd < 0;
}

static int tear_down(void **state)
{
	cache_disk_close(&root);
	cachelib_remove_folder();
	return 0;
}

static struct cache_map *open_map(void)
{
	struct cache_map *m = NULL;
	struct err e = { "" };

	if (cache_map_open(root, "blob", blob.digest, SIZE, true, &counters, &m, &e) < 0 ||
	    cache_map_make(m, &e) < 0)
		die("cache_map_open", e.msg);
	return m;
}

static int publish(struct cache_map *m, uint64_t i)
{
	uint8_t chunk[CACHE_CHUNK];

	cachelib_chunk(&blob, i, chunk);
	return cache_map_publish(m, i, chunk, false);
}

/* 1, 0 and -1 as cachelib_look. */
static int look(struct cache_map *m, uint64_t i)
{
	uint8_t want[CACHE_CHUNK], got[CACHE_CHUNK];
	size_t n = cachelib_bytes(&blob, i);

	if (cache_map_read(m, got, n, i * CACHE_CHUNK, true) < n)
		return 0;
	cachelib_chunk(&blob, i, want);
	return memcmp(want, got, n) == 0 ? 1 : -1;
}

static const char *path_of(const char *name)
{
	static char path[64];

	snprintf(path, sizeof path, "%s/blob/%s", folder, name);
	return path;
}

/* The word as it is in the file: what another process maps. */
static uint64_t word_of(uint64_t i)
{
	uint64_t word = 0;
	int fd = open(path_of("map"), O_RDONLY);

	assert_int_equal(pread(fd, &word, 8, (off_t)(CACHE_MAP_HEADER + 8 * i)), 8);
	close(fd);
	return word;
}

/* (1): the word tells all; its file is allocated and as long as it should be.  (3): generations. */
static void words(void **state)
{
	struct cache_map *m = open_map();
	uint8_t chunk[CACHE_CHUNK];
	struct stat st;

	assert_int_equal(stat(path_of("map"), &st), 0);
	assert_int_equal(st.st_size, CACHE_MAP_HEADER + 8 * CHUNKS);
	assert_true(st.st_blocks * 512 >= st.st_size);
	assert_int_equal(usage, st.st_size);
	assert_true(word_of(8) == 0);
	assert_int_equal(look(m, 8), 0);
	assert_int_equal(publish(m, 8), 0);
	cachelib_chunk(&blob, 8, chunk);
	assert_true(word_of(8) == (CACHE_WORD_GENERATION | CACHE_WORD_PRESENT |
				   crc32c_raw(CACHE_MAP_SEED, chunk, 5000)));
	assert_int_equal(usage, st.st_size + 5000);
	assert_int_equal(cache_map_present(m), 5000);
	assert_int_equal(look(m, 8), 1);
	assert_true(word_of(8) & CACHE_WORD_REFERENCED);
	cache_map_drop(m, 8);
	assert_true(word_of(8) == CACHE_WORD_GENERATION);
	assert_int_equal(look(m, 8), 0);
	assert_int_equal(usage, st.st_size);
	assert_int_equal(publish(m, 8), 0);
	assert_true(word_of(8) / CACHE_WORD_GENERATION == 2);
	/* Who is second writes nothing. */
	memset(chunk, 'x', sizeof chunk);
	assert_int_equal(cache_map_publish(m, 8, chunk, false), 0);
	assert_true(word_of(8) / CACHE_WORD_GENERATION == 2);
	assert_int_equal(look(m, 8), 1);
	cache_map_close(m);
}

/* Any range, across chunks that are there, with and without their CRC checked before. */
static void ranges(void **state)
{
	uint8_t *all = cachelib_all(&blob), *got = malloc(SIZE + CACHE_CHUNK);
	struct cache_map *m = open_map();
	unsigned loops = loops_count(20000), k;
	uint64_t i;

	assert_non_null(got);
	for (i = 0; i < CHUNKS; i++)
		if (i != 5)
			assert_int_equal(publish(m, i), 0);
	for (k = 0; k < loops; k++) {
		uint64_t off = loops_random() % SIZE, n = loops_random() % (SIZE / 2) + 1, end;

		if (k % 100 == 0) {
			cache_map_close(m);
			m = open_map();
		}
		end = min_u64(off + n, off / CACHE_CHUNK <= 5 ? 5 * CACHE_CHUNK : SIZE);
		end = off / CACHE_CHUNK == 5 ? off : end;
		memset(got, 0xee, SIZE);
		assert_int_equal(cache_map_read(m, got, n, off, true), end - off);
		assert_memory_equal(got, all + off, end - off);
	}
	assert_int_equal(cache_map_read(m, got, SIZE, SIZE, true), 0);
	assert_int_equal(cache_map_read(m, got, SIZE, UINT64_MAX, true), 0);
	cache_map_close(m);
	free(got);
	free(all);
}

/* (4): bytes that changed on the disk, and a data file that is too short, are found at first use,
 * dropped, counted; the next opening finds the chunk missing. */
static void damaged_data(void **state)
{
	struct cache_map *m = open_map();
	uint64_t i;

	for (i = 0; i < CHUNKS; i++)
		assert_int_equal(publish(m, i), 0);
	cachelib_flip(path_of("data"), 3 * CACHE_CHUNK + 100);
	assert_int_equal(look(m, 3), 0);
	assert_int_equal(bad, 1);
	assert_false(cache_map_has(m, 3));
	assert_int_equal(look(m, 2), 1);
	assert_int_equal(truncate(path_of("data"), 7 * CACHE_CHUNK), 0);
	assert_int_equal(look(m, 7), 0);
	assert_int_equal(bad, 2);
	/* A chunk that was checked is lost with the file all the same. */
	assert_int_equal(look(m, 6), 1);
	assert_int_equal(truncate(path_of("data"), 6 * CACHE_CHUNK), 0);
	assert_int_equal(look(m, 6), 0);
	assert_int_equal(bad, 3);
	assert_false(cache_map_has(m, 6));
	cache_map_close(m);
	m = open_map();
	assert_int_equal(look(m, 8), 0);
	assert_int_equal(look(m, 2), 1);
	assert_int_equal(publish(m, 8), 0);
	assert_int_equal(look(m, 8), 1);
	cache_map_close(m);
}

static void damaged_map(void **state)
{
	static const struct {
		const char *what;
		int at; /* byte to invert; negative: cut to this size */
		const char *message;
	} rows[] = {
		{ "magic", 0, "bad magic" },
		{ "version", 8, "wrong CRC" },
		{ "chunk size", 13, "wrong CRC" },
		{ "size", 16, "wrong CRC" },
		{ "digest", 40, "wrong CRC" },
		{ "CRC", 24 + DIGEST_TEXT, "wrong CRC" },
		{ "half a header", -2048, "map of 2048 bytes" },
		{ "without words", -4096, "map of 4096 bytes for a blob of" },
		{ "a word short", -(4096 + 8 * CHUNKS - 8), "for a blob of" },
		{ "long", -8192, "map of 8192 bytes for a blob of" },
		{ "nothing", -1, "map of 0 bytes" },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct cache_map *m = open_map();
		struct err e = { "" };
		char remove[64];

		assert_int_equal(publish(m, 0), 0);
		cache_map_close(m);
		if (rows[i].at >= 0)
			cachelib_flip(path_of("map"), (uint64_t)rows[i].at);
		else
			assert_int_equal(
				truncate(path_of("map"), rows[i].at == -1 ? 0 : -rows[i].at), 0);
		assert_int_equal(
			cache_map_open(root, "blob", blob.digest, SIZE, true, &counters, &m, &e),
			-EUCLEAN);
		if (!strstr(e.msg, rows[i].message))
			fail_msg("%s: %s", rows[i].what, e.msg);
		snprintf(remove, sizeof remove, "rm -r %s/blob", folder);
		assert_int_equal(system(remove), 0);
	}
}

/* A header that is whole but says something else. */
static void other_maps(void **state)
{
	struct test_blob other = cachelib_blob(2, SIZE);
	struct cache_map *m = open_map();
	struct err e;

	assert_int_equal(cache_map_open(root, "blob", other.digest, SIZE, true, &counters, &m, &e),
			 -EUCLEAN);
	assert_string_equal(e.msg, "map of another blob");
	assert_int_equal(
		cache_map_open(root, "blob", blob.digest, SIZE - 1, true, &counters, &m, &e),
		-EUCLEAN); /* nothing is lost */
	assert_int_equal(publish(m, 0), 0);
	assert_int_equal(
		cache_map_open(root, "blob", blob.digest, SIZE - 1, true, &counters, &m, &e),
		-EBADMSG);
	assert_int_equal(
		cache_map_open(root, "b", blob.digest, UINT64_MAX - 1, true, &counters, &m, &e),
		-EFBIG);
	assert_int_equal(cache_map_open(root, "none", blob.digest, SIZE, false, &counters, &m, &e),
			 -ENOENT);
	assert_int_equal(
		cache_map_open(root, "no/blob", blob.digest, SIZE, true, &counters, &m, &e),
		-ENOENT);
	cache_map_close(m);
}

/* ---- (3) ---- */

/* What happens between the two halves of an eviction. */
struct intruder {
	struct cache_map *m; /* that publishes */
	int publish, look; /* what came of it */
};

static void intrude(void *arg)
{
	struct intruder *in = arg;

	in->publish = publish(in->m, 4);
	in->look = look(in->m, 4); /* checks the CRC: from now on the word is trusted */
}

static void *intrude_thread(void *arg)
{
	intrude(arg);
	return NULL;
}

/* The schedule: clear, somebody else fills, publishes and reads, punch.  The reader must not be
 * served zeros.  With the lock the fill is refused, and succeeds later. */
static void schedule(struct cache_map *evictor, void (*cleared)(void *arg), struct intruder *in)
{
	assert_int_equal(publish(evictor, 4), 0);
	cache_map_set_hook(evictor, cleared, in);
	assert_int_equal(cache_map_evict(evictor, 4), CACHE_CHUNK);
	cache_map_set_hook(evictor, NULL, NULL);
	assert_int_not_equal(look(in->m, 4), -1); /* zeros, without the lock */
	assert_int_equal(in->publish, -EBUSY);
	assert_int_equal(in->look, 0);
	assert_int_equal(look(in->m, 4), 0);
	assert_int_equal(publish(in->m, 4), 0);
	assert_int_equal(look(in->m, 4), 1);
}

static void schedule_between_openings(void **state)
{
	struct cache_map *evictor = open_map(), *other = open_map();
	struct intruder in = { .m = other };

	schedule(evictor, intrude, &in);
	cache_map_close(evictor);
	cache_map_close(other);
}

/* Threads that share a descriptor share its OFD locks: the mutex keeps them apart.  The thread
 * waits for it in vain, so it is only asked for once the evictor is done. */
static pthread_t late;

static void start_thread(void *arg)
{
	assert_int_equal(pthread_create(&late, NULL, intrude_thread, arg), 0);
	usleep(50000);
}

static void schedule_between_threads(void **state)
{
	struct cache_map *m = open_map();
	struct intruder in = { .m = m };

	assert_int_equal(publish(m, 4), 0);
	cache_map_set_hook(m, start_thread, &in);
	assert_int_equal(cache_map_evict(m, 4), CACHE_CHUNK);
	cache_map_set_hook(m, NULL, NULL);
	pthread_join(late, NULL);
	assert_int_equal(in.publish, 0);
	assert_int_equal(in.look, 1);
	assert_int_equal(look(m, 4), 1); /* zeros, without the mutex */
	cache_map_close(m);
}

/* Two processes that step through the schedule by a pipe each. */
struct processes {
	int to_child[2], to_parent[2];
};

static void tell(int fd, char what)
{
	if (write(fd, &what, 1) != 1)
		die("pipe", strerror(errno));
}

static char hear(int fd)
{
	char what = 0;

	if (read(fd, &what, 1) != 1)
		die("pipe", strerror(errno));
	return what;
}

static int filling_child(void *arg)
{
	struct processes *p = arg;
	struct cache_map *m = open_map();
	char r;

	close(p->to_child[1]); /* so that the parent's end ends us */
	close(p->to_parent[0]);
	hear(p->to_child[0]);
	r = publish(m, 4) == 0 ? 'p' : '-';
	look(m, 4);
	tell(p->to_parent[1], r);
	hear(p->to_child[0]);
	r = look(m, 4) == -1 ? 'z' : '-';
	tell(p->to_parent[1], r);
	hear(p->to_child[0]);
	tell(p->to_parent[1], publish(m, 4) == 0 && look(m, 4) == 1 ? 'p' : '-');
	cache_map_close(m);
	return 0;
}

static void between_processes(void *arg)
{
	struct processes *p = arg;

	tell(p->to_child[1], '1');
	assert_int_equal(hear(p->to_parent[0]), '-');
}

static void schedule_between_processes(void **state)
{
	struct processes p;
	struct cache_map *m;
	int status;
	pid_t pid;

	assert_int_equal(pipe(p.to_child) | pipe(p.to_parent), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(filling_child(&p));
	close(p.to_child[0]);
	close(p.to_parent[1]);
	m = open_map();
	assert_int_equal(publish(m, 4), 0);
	cache_map_set_hook(m, between_processes, &p);
	assert_int_equal(cache_map_evict(m, 4), CACHE_CHUNK);
	tell(p.to_child[1], '2');
	assert_int_equal(hear(p.to_parent[0]), '-'); /* 'z': zeros were read */
	tell(p.to_child[1], '3');
	assert_int_equal(hear(p.to_parent[0]), 'p');
	assert_int_equal(look(m, 4), 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	cache_map_close(m);
	close(p.to_child[1]);
	close(p.to_parent[0]);
}

/* (7) The schedule of schedule() for a drop that is done without the lock: its holder goes on,
 * the chunk is fetched again, and only then the drop punches. */
struct thaw {
	struct cache_file holder;
	struct intruder in;
};

static void thaw_and_intrude(void *arg)
{
	struct thaw *t = arg;

	cache_disk_close(&t->holder); /* the frozen process goes on, and is done with the chunk */
	intrude(&t->in);
}

static void dropped_without_the_lock(void **state)
{
	struct cache_map *m = open_map(), *other = open_map();
	struct thaw t = { { &cache_disk_system, open(path_of("map"), O_RDWR) }, { .m = other } };

	assert_int_equal(publish(m, 4), 0);
	assert_int_equal(cache_folder_lock(t.holder, F_WRLCK, CACHE_MAP_HEADER + 8 * 4, 8), 0);
	cache_map_set_hook(m, thaw_and_intrude, &t);
	cache_map_drop(m, 4);
	cache_map_set_hook(m, NULL, NULL);
	assert_int_equal(t.in.publish, 0);
	assert_int_equal(t.in.look, 1);
	assert_int_not_equal(look(other, 4), -1); /* zeros */
	cache_map_close(m);
	cache_map_close(other);
}

/* A chunk that a frozen process holds: the evictor passes it by, fills give it up soon, and who
 * found it wrong discards it all the same, for everybody. */
static void held_chunk(void **state)
{
	struct cache_map *m = open_map(), *other = open_map();
	struct timespec begin, end;
	struct cache_file holder = { &cache_disk_system, open(path_of("map"), O_RDWR) };

	assert_int_equal(publish(m, 1), 0);
	assert_int_equal(cache_folder_lock(holder, F_WRLCK, CACHE_MAP_HEADER + 8, 8), 0);
	assert_int_equal(cache_map_evict(m, 1), 0);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	cache_map_drop(m, 1);
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_true(end.tv_sec - begin.tv_sec < 5);
	assert_int_equal(look(m, 1), 0);
	assert_int_equal(look(other, 1), 0);
	assert_int_equal(publish(m, 1), -EBUSY);
	assert_int_equal(cache_map_evict(m, 0), 0);
	cache_disk_close(&holder);
	assert_int_equal(publish(m, 1), 0);
	assert_int_equal(look(other, 1), 1);
	assert_int_equal(cache_map_evict(m, 1), 0); /* takes the mark that look made */
	assert_int_equal(cache_map_evict(m, 1), CACHE_CHUNK);
	assert_int_equal(look(m, 1), 0);
	cache_map_close(other);
	cache_map_close(m);
}

/* ---- (2) ---- */

static struct cache_map *dropper; /* discards chunk 4 before the next read of data; NULL: no */
static bool refill; /* and fills it anew */

ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
	struct cache_map *m = dropper;

	dropper = NULL;
	if (m) {
		cache_map_drop(m, 4);
		if (refill)
			publish(m, 4);
	}
	return __real_pread64(fd, buf, n, off);
}

/* (2): between the look at the word and the read of the data the chunk is discarded, for a reader
 * who has checked its CRC and for one who has not. */
static void change_before_read(void **state)
{
	struct cache_map *m = open_map(), *other = open_map();
	int checked;

	for (checked = 0; checked < 2; checked++) {
		assert_int_equal(publish(other, 4), 0);
		if (checked)
			assert_int_equal(look(m, 4), 1);
		dropper = other;
		refill = false;
		assert_int_equal(look(m, 4), 0); /* -1: zeros were served */
		assert_int_equal(publish(other, 4), 0);
		dropper = other;
		refill = true;
		assert_int_equal(look(m, 4), 1);
		cache_map_drop(other, 4);
	}
	assert_int_equal(bad, 0);
	cache_map_close(m);
	cache_map_close(other);
}

/* (2): somebody discards and fills without end; no read is ever wrong.  Reads are long, so that
 * much changes between the first look at a word and the end of the read. */
enum { MANY = 64 };

static struct cache_map *open_big(const struct test_blob *big)
{
	struct cache_map *m = NULL;
	struct err e = { "" };

	if (cache_map_open(root, "big", big->digest, big->size, true, &counters, &m, &e) < 0)
		die("cache_map_open", e.msg);
	return m;
}

static void churn(const struct test_blob *big, const uint8_t *all, unsigned loops)
{
	struct cache_map *m = open_big(big);

	while (loops-- > 0) {
		uint64_t i = loops_random() % MANY;

		cache_map_drop(m, i);
		if (cache_map_publish(m, i, all + i * CACHE_CHUNK, false) < 0)
			die("publish", "failed");
	}
	cache_map_close(m);
}

static void reads_beside_changes(void **state)
{
	struct test_blob big = cachelib_blob(3, MANY * CACHE_CHUNK);
	uint8_t *all = cachelib_all(&big), *got = malloc(big.size);
	struct cache_map *m = open_big(&big);
	uint64_t right = 0, i;
	int status;
	pid_t pid;

	assert_non_null(got);
	for (i = 0; i < MANY; i++)
		assert_int_equal(cache_map_publish(m, i, all + i * CACHE_CHUNK, false), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		churn(&big, all, loops_count(100000));
		_exit(0);
	}
	while (waitpid(pid, &status, WNOHANG) == 0) {
		size_t n = cache_map_read(m, got, big.size, 0, true);

		assert_memory_equal(got, all, n);
		right += n;
	}
	assert_int_equal(status, 0);
	assert_true(right > 0);
	assert_int_equal(bad, 0);
	cache_map_close(m);
	free(got);
	free(all);
}

/* (5) and (6) */
static void seals(void **state)
{
	struct cache_map *m = open_map(), *other = open_map();
	uint8_t chunk[CACHE_CHUNK];
	uint64_t i;

	for (i = 0; i < CHUNKS - 1; i++)
		assert_int_equal(publish(m, i), 0);
	cache_map_change_flags(m, CACHE_MAP_SEALED, 0);
	assert_int_equal(publish(other, 8), -ESTALE);
	assert_int_equal(publish(other, 0), 0); /* it is there */
	assert_false(cache_map_set_whole(m));
	assert_int_equal(cache_map_flags(m), CACHE_MAP_SEALED);
	cachelib_chunk(&blob, 8, chunk);
	assert_int_equal(cache_map_publish(other, 8, chunk, true), 0);
	assert_true(cache_map_set_whole(m));
	assert_int_equal(cache_map_flags(other), CACHE_MAP_SEALED | CACHE_MAP_WHOLE);
	assert_int_equal(cache_map_evict(other, 3), CACHE_CHUNK);
	assert_int_equal(cache_map_flags(m), CACHE_MAP_SEALED);
	cache_map_close(m);
	cache_map_close(other);
}

static void claims(void **state)
{
	struct cache_map *a = open_map(), *b = open_map(), *third;

	assert_int_equal(cache_map_claim(a, 3, 2, 0), 2);
	assert_int_equal(cache_map_claim(b, 0, CHUNKS, 0), 3);
	assert_int_equal(cache_map_claim(b, 3, 1, 0), 0);
	assert_int_equal(cache_map_claim(b, 4, 1, 0), 0);
	assert_int_equal(cache_map_claim(b, 5, 4, 0), 4);
	assert_int_equal(cache_map_claim(b, 3, 2, 1), 2); /* the second fetcher */
	assert_int_equal(cache_map_claim(a, 3, 2, 1), 0);
	cache_map_unclaim(a, 3, 2, 0);
	assert_int_equal(cache_map_claim(b, 3, 2, 0), 2);
	assert_true(cache_map_take(a, CACHE_MAP_DOWNLOADER));
	assert_false(cache_map_take(b, CACHE_MAP_DOWNLOADER));
	assert_true(cache_map_take(b, CACHE_MAP_CHECKER));
	cache_map_yield(a, CACHE_MAP_DOWNLOADER);
	assert_true(cache_map_take(b, CACHE_MAP_DOWNLOADER));
	assert_true(cache_map_in_use(a));
	assert_false(cache_map_take_alone(a));
	cache_map_close(b); /* as if it died */
	assert_int_equal(cache_map_claim(a, 0, CHUNKS, 0), CHUNKS);
	assert_false(cache_map_in_use(a));
	assert_true(cache_map_take_alone(a));
	assert_int_equal(
		cache_map_open(root, "blob", blob.digest, SIZE, true, &counters, &third, NULL),
		-ESTALE);
	cache_map_close(a);
}

/* Removed while it is open: readers go on, and the path tells. */
static void removed(void **state)
{
	struct cache_map *m = open_map();

	assert_int_equal(publish(m, 0), 0);
	assert_true(cache_map_is_at(m, root, "blob"));
	assert_int_equal(cache_folder_remove(root, "blob", NULL), 0);
	assert_int_equal(cache_folder_remove(root, "blob", NULL), -ENOENT);
	assert_false(cache_map_is_at(m, root, "blob"));
	assert_int_equal(look(m, 0), 1);
	cache_map_close(m);
	m = open_map();
	assert_int_equal(look(m, 0), 0);
	cache_map_close(m);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(words),
		TEST(ranges),
		TEST(damaged_data),
		TEST(damaged_map),
		TEST(other_maps),
		TEST(schedule_between_openings),
		TEST(schedule_between_threads),
		TEST(schedule_between_processes),
		TEST(held_chunk),
		TEST(dropped_without_the_lock),
		TEST(change_before_read),
		TEST(reads_beside_changes),
		TEST(seals),
		TEST(claims),
		TEST(removed),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
