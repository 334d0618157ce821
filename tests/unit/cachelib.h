/* SPDX-License-Identifier: Apache-2.0 */
/* cachelib.h - what the tests of the cache share: a folder that goes, blobs of known content,
 * warnings counted, files damaged. */
#ifndef OVERLAYBD_TESTS_CACHELIB_H
#define OVERLAYBD_TESTS_CACHELIB_H

#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/log.h"
#include "fetch/cache_admin.h"
#include "fetch/cache_internal.h"
#include "tests/unit/loops.h"

#define GOOD "https://good.example:443/app"
#define EVIL "https://evil.example:443/app"

/* A blob whose chunk i holds random bytes that follow from the seed and i. */
struct test_blob {
	uint64_t seed, size;
	char digest[DIGEST_ANY_TEXT];
};

static char folder[] = "/tmp/test-cache.XXXXXX";
static unsigned warnings;
static char last_warning[2048];

static inline void die(const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	abort();
}

static inline void count_warning(enum log_level level, const char *line)
{
	if (level != LOG_WARNING)
		return;
	warnings++;
	snprintf(last_warning, sizeof last_warning, "%s", line);
}

/* Made once and kept: some tests compare them a million times. */
static inline void cachelib_chunk(const struct test_blob *t, uint64_t i, uint8_t out[CACHE_CHUNK])
{
	static _Thread_local struct {
		uint64_t state;
		uint8_t bytes[CACHE_CHUNK];
	} kept[32];
	uint64_t state = t->seed * UINT64_C(1000003) + i, at = state % 32;

	if (kept[at].state != state + 1) {
		kept[at].state = state + 1;
		testlib_fill(kept[at].bytes, CACHE_CHUNK, 0, &state);
	}
	memcpy(out, kept[at].bytes, CACHE_CHUNK);
}

static inline size_t cachelib_bytes(const struct test_blob *t, uint64_t i)
{
	uint64_t left = t->size - i * CACHE_CHUNK;

	return left < CACHE_CHUNK ? (size_t)left : CACHE_CHUNK;
}

static inline uint64_t cachelib_chunks(const struct test_blob *t)
{
	return (t->size + CACHE_CHUNK - 1) / CACHE_CHUNK;
}

/* All of it; the caller frees. */
static inline uint8_t *cachelib_all(const struct test_blob *t)
{
	uint8_t *all = calloc(1, (size_t)t->size + CACHE_CHUNK);
	uint64_t i;

	if (!all)
		die("content", "out of memory");
	for (i = 0; i < cachelib_chunks(t); i++)
		cachelib_chunk(t, i, all + i * CACHE_CHUNK);
	return all;
}

/* With a digest of the kind that `like` is. */
static inline struct test_blob cachelib_blob_like(const char *like, uint64_t seed, uint64_t size)
{
	struct test_blob t = { .seed = seed, .size = size };
	uint8_t *all = cachelib_all(&t);
	struct source *s;
	struct err e;

	if (source_open_memory(all, (size_t)size, &s, &e) < 0 ||
	    digest_source_like(like, s, t.digest, &e) < 0)
		die("digest", e.msg);
	source_close(s);
	free(all);
	return t;
}

static inline struct test_blob cachelib_blob(uint64_t seed, uint64_t size)
{
	return cachelib_blob_like("sha256:", seed, size);
}

/* The same name with other bytes. */
static inline struct test_blob cachelib_forge(const struct test_blob *t)
{
	struct test_blob forged = *t;

	forged.seed += 77777;
	return forged;
}

static inline void cachelib_make_folder(void)
{
	strcpy(folder + strlen(folder) - 6, "XXXXXX");
	if (!mkdtemp(folder))
		die(folder, strerror(errno));
	log_set_sink(count_warning);
	warnings = 0;
}

static inline void cachelib_remove_folder(void)
{
	char command[64];

	snprintf(command, sizeof command, "rm -rf '%s'", folder);
	if (system(command) != 0)
		die(command, "failed");
}

static inline struct cache *cachelib_open(uint64_t limit)
{
	struct cache *c;
	struct err e;

	if (cache_open(folder, limit, &c, &e) < 0)
		die("cache_open", e.msg);
	return c;
}

static inline struct cache_blob *cachelib_open_blob(struct cache *c, const char *origin,
						    const struct test_blob *t)
{
	struct cache_blob *b;
	struct err e;

	if (cache_blob_open(c, origin, t->digest, t->size, &b, &e) < 0)
		die("cache_blob_open", e.msg);
	return b;
}

static inline int cachelib_publish(struct cache_blob *b, const struct test_blob *t, uint64_t i)
{
	uint8_t chunk[CACHE_CHUNK];

	cachelib_chunk(t, i, chunk);
	return cache_blob_publish(b, i, chunk);
}

static inline void cachelib_publish_all(struct cache_blob *b, const struct test_blob *t)
{
	uint64_t i;
	int r;

	for (i = 0; i < cachelib_chunks(t); i++) {
		r = cachelib_publish(b, t, i);
		if (r < 0)
			die("publish", strerror(-r));
	}
}

/* 1: the chunk is there and right; 0: it is not there; -1: it is wrong. */
static inline int cachelib_look(struct cache_blob *b, const struct test_blob *t, uint64_t i)
{
	uint8_t want[CACHE_CHUNK], got[CACHE_CHUNK];
	size_t n = cachelib_bytes(t, i), r = cache_blob_read(b, got, n, i * CACHE_CHUNK);

	cachelib_chunk(t, i, want);
	if (r < n)
		return 0;
	return memcmp(want, got, n) == 0 ? 1 : -1;
}

/* How many chunks are there; all that are must be right. */
static inline uint64_t cachelib_count(struct cache_blob *b, const struct test_blob *t)
{
	uint64_t i, count = 0;

	for (i = 0; i < cachelib_chunks(t); i++) {
		int r = cachelib_look(b, t, i);

		if (r < 0)
			die("read", "wrong bytes");
		count += r == 1;
	}
	return count;
}

/* FOLDER/v1/PLACE/DIGEST/NAME; origin NULL: v1/sha256. */
static inline const char *cachelib_path(const char *origin, const struct test_blob *t,
					const char *name)
{
	static char path[512];
	char place[CACHE_PLACE] = CACHE_SHARED;

	if (origin && cache_hash(origin, strlen(origin), place, NULL) < 0)
		die("hash", "failed");
	snprintf(path, sizeof path, "%s/v1/%s/%s%s%s", folder, place, t->digest, name ? "/" : "",
		 name ? name : "");
	return path;
}

static inline bool cachelib_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

/* Inverts a byte of a file. */
static inline void cachelib_flip(const char *path, uint64_t off)
{
	int fd = open(path, O_RDWR);
	uint8_t byte = 0;

	if (fd < 0 || pread(fd, &byte, 1, (off_t)off) != 1)
		die(path, "cannot be read");
	byte = (uint8_t)~byte;
	if (pwrite(fd, &byte, 1, (off_t)off) != 1)
		die(path, "cannot be written");
	close(fd);
}

/* Whether `test` becomes true within so many seconds. */
static inline bool cachelib_await(unsigned seconds, bool (*test)(void *arg), void *arg)
{
	unsigned i;

	for (i = 0; i < seconds * 50; i++) {
		if (test(arg))
			return true;
		usleep(20000);
	}
	return test(arg);
}

/* Runs `body` in another process; true when it returned 0. */
static inline bool cachelib_in_child(int (*body)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(body(arg));
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

#endif
