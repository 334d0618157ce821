/* SPDX-License-Identifier: Apache-2.0 */
/* cache_map.c - how the processes of a machine share a blob's chunks, see cache_map.h.
 *
 * (1) A chunk's word is its only state.  It is stored after the chunk's data was written, so
 * whoever sees `present` finds the data in the page cache.  The map is fully allocated, never
 * truncated, only replaced: no load or store of ours raises SIGBUS.  (Nothing protects from
 * somebody else who truncates it while it is mapped; the mode of the folder keeps others out.) (2)
 * A reader loads the word, reads the data, loads the word again.  If it changed, the bytes do not
 *     count.  The referenced bit does not matter here, and changes by atomic or/and alone.
 * (3) Publishing a chunk (write, store) and discarding it (clear, punch) exclude each other by the
 *     chunk's lock: an OFD lock on its word's bytes in the map between openings, a mutex between
 * the threads of one opening.  The evictor only tries it.  Each fill raises the generation, so that
 * a word never returns to an earlier value.  Nobody waits long for the lock: a process that was
 *     frozen with it in hand costs others that chunk, not their lives.
 * (4) A chunk's CRC is checked when this opening first uses this word; `verified` remembers the
 * word. A mismatch means a crash or a bad disk: the chunk is dropped.  Hence no fsync is needed.
 * (5) A sealed map takes no fills but checked ones.  The seal is set before the whole is read, and
 * a publisher looks at it under the chunk's lock: so what is found present and hashed after sealing
 *     was there before, and nothing else can come in, not even from a process that still takes the
 *     folder for its origin's after it moved to v1/sha256.
 * (6) CACHE_MAP_WHOLE is cleared after a word is, and set before all words are looked at: it never
 *     stays set over a missing chunk. */
#include "fetch/cache_map.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	VERSION = 1,
	AT_VERSION = 8, /* offsets in the header */
	AT_CHUNK = 12,
	AT_SIZE = 16,
	AT_DIGEST = 24,
	AT_CRC = AT_DIGEST + DIGEST_TEXT,
	MUTEXES = 16,
	RUN = 64, /* chunks that are read at once */
	RETRIES = 8, /* of a read whose chunk keeps changing */
	PATIENCE = 20, /* ms that a chunk's lock is waited for */
	IN_USE = 0, /* offset in `lock` */
};

#define CLAIMS ((uint64_t)1 << 32) /* offset of rank 0; each rank has as many */

static const char magic[8] = "obdcache";

struct cache_map {
	struct cache_file data, map, lock;
	uint64_t size, chunks;
	uint64_t mapped_size;
	_Atomic uint64_t *mapped; /* the map file */
	_Atomic uint64_t *words; /* within it */
	_Atomic uint64_t *verified; /* (4): words without the referenced bit, 0: none */
	struct cache_map_counters counters;
	pthread_mutex_t mutexes[MUTEXES]; /* (3): of chunk i, [i % MUTEXES] */
	void (*cleared)(void *arg);
	void *cleared_arg;
};

/* ---- opening ---- */

static uint64_t chunks_of(uint64_t size)
{
	return size / CACHE_CHUNK + (size % CACHE_CHUNK != 0);
}

static uint64_t map_bytes(uint64_t size)
{
	return CACHE_MAP_HEADER + 8 * chunks_of(size);
}

static int make_map(struct cache_file folder, const char *digest, uint64_t size,
		    const struct cache_map_counters *counters, struct err *e)
{
	uint8_t raw[CACHE_MAP_HEADER] = { 0 };
	int r;

	memcpy(raw, magic, sizeof magic);
	le32_put(raw + AT_VERSION, VERSION);
	le32_put(raw + AT_CHUNK, CACHE_CHUNK);
	le64_put(raw + AT_SIZE, size);
	memcpy(raw + AT_DIGEST, digest, DIGEST_TEXT);
	le32_put(raw + AT_CRC, crc32c_raw(CACHE_MAP_SEED, raw, AT_CRC));
	r = cache_folder_make_file(folder, "map", raw, sizeof raw, map_bytes(size), e);
	if (r == 0)
		atomic_fetch_add(counters->usage, map_bytes(size));
	return r;
}

/* The size that the header tells, *size, when all of it is right. */
static int parse_header(const uint8_t raw[CACHE_MAP_HEADER], const char *digest, uint64_t file_size,
			uint64_t *size, struct err *e)
{
	uint64_t told = le64_get(raw + AT_SIZE);

	if (memcmp(raw, magic, sizeof magic) != 0)
		return err_set(e, EUCLEAN, "not a map (bad magic)");
	if (le32_get(raw + AT_CRC) != crc32c_raw(CACHE_MAP_SEED, raw, AT_CRC))
		return err_set(e, EUCLEAN, "wrong CRC of the map's header");
	if (le32_get(raw + AT_VERSION) != VERSION || le32_get(raw + AT_CHUNK) != CACHE_CHUNK)
		return err_set(e, EUCLEAN, "map of version %u with chunks of %u bytes",
			       le32_get(raw + AT_VERSION), le32_get(raw + AT_CHUNK));
	if (memcmp(raw + AT_DIGEST, digest, DIGEST_TEXT) != 0)
		return err_set(e, EUCLEAN, "map of another blob");
	if (told > CACHE_MAP_SIZE_MAX || map_bytes(told) != file_size)
		return err_set(e, EUCLEAN, "map of %" PRIu64 " bytes for a blob of %" PRIu64,
			       file_size, told);
	*size = told;
	return 0;
}

/* The file is mapped only when its size is what the header says. */
static int map_file(struct cache_map *m, const char *digest, struct err *e)
{
	uint8_t raw[CACHE_MAP_HEADER];
	struct stat st;
	void *at;
	int r = m->map.ops->stat(m->map.fd, &st);

	if (r < 0)
		return err_set(e, -r, "map: %s", strerror(-r));
	if (st.st_nlink == 0)
		return err_set(e, ESTALE, "it was removed");
	if (st.st_size < CACHE_MAP_HEADER)
		return err_set(e, EUCLEAN, "map of %" PRId64 " bytes", (int64_t)st.st_size);
	r = cache_disk_read(m->map, raw, sizeof raw, 0, e);
	if (r == 0)
		r = parse_header(raw, digest, (uint64_t)st.st_size, &m->size, e);
	if (r < 0)
		return r;
	/* A copy may have holes, and a store to one can raise SIGBUS. */
	if (st.st_blocks * 512 < st.st_size &&
	    cache_folder_allocate(m->map, (uint64_t)st.st_size, e) < 0)
		return -EUCLEAN;
	m->chunks = chunks_of(m->size);
	m->mapped_size = (uint64_t)st.st_size;
	r = m->map.ops->map(m->map.fd, (size_t)m->mapped_size, NULL, &at);
	if (r < 0)
		return err_set(e, -r, "mapping the map: %s", strerror(-r));
	m->mapped = at;
	m->words = m->mapped + CACHE_MAP_HEADER / 8;
	return 0;
}

/* Whether the data of a chunk that is there are not: they were written before it was said to be. */
static bool is_cut(const struct cache_map *m, uint64_t i)
{
	struct stat st;

	return m->data.ops->stat(m->data.fd, &st) == 0 &&
	       (uint64_t)st.st_size < i * CACHE_CHUNK + cache_map_chunk_bytes(m, i);
}

/* Extends the data to their size.  Where the file was cut, what lay behind is gone, also for those
 * who have checked it: a file that is long again would give them zeros for it. */
static int mend_data(struct cache_map *m, struct err *e)
{
	struct stat st;
	uint64_t i;
	int r = m->data.ops->stat(m->data.fd, &st);

	if (r < 0)
		return err_set(e, -r, "data: %s", strerror(-r));
	if ((uint64_t)st.st_size >= m->size)
		return 0;
	for (i = (uint64_t)st.st_size / CACHE_CHUNK; i < m->chunks; i++)
		if (cache_map_has(m, i) && is_cut(m, i)) {
			atomic_fetch_add_explicit(m->counters.bad, 1, memory_order_relaxed);
			cache_map_drop(m, i);
		}
	r = m->data.ops->truncate(m->data.fd, m->size);
	return r < 0 ? err_set(e, -r, "data: %s", strerror(-r)) : 0;
}

/* Who only looks around mends nothing: a user of the blob is to notice, and to tell. */
static int open_data(struct cache_map *m, struct cache_file folder, bool mend, struct err *e)
{
	int r = cache_folder_open_file(folder, "data", true, &m->data, e);

	return r < 0 || !mend ? r : mend_data(m, e);
}

/* The lock comes first: who has it keeps the folder from being removed as unused. */
static int open_files(struct cache_map *m, struct cache_file folder, const char *digest,
		      uint64_t size, bool create, struct err *e)
{
	int r = cache_folder_open_file(folder, "lock", create, &m->lock, e);

	if (r < 0)
		return r == -ENOENT && create ? -ESTALE : r;
	if (cache_folder_lock(m->lock, F_RDLCK, IN_USE, 1) < 0)
		return err_set(e, ESTALE, "it is being removed");
	r = cache_folder_open_file(folder, "map", false, &m->map, e);
	if (r == -ENOENT && create) {
		r = make_map(folder, digest, size, &m->counters, e);
		if (r == 0)
			r = cache_folder_open_file(folder, "map", false, &m->map, e);
		if (r == -ENOENT)
			r = -ESTALE;
	}
	if (r == 0)
		r = map_file(m, digest, e);
	return r < 0 ? r : open_data(m, folder, size != CACHE_MAP_ANY_SIZE, e);
}

static int check_size(const struct cache_map *m, uint64_t size, struct err *e)
{
	if (size == CACHE_MAP_ANY_SIZE || size == m->size)
		return 0;
	return err_set(e, cache_map_present(m) == 0 ? EUCLEAN : EBADMSG,
		       "a blob of %" PRIu64 " bytes, which the cache knows with %" PRIu64, size,
		       m->size);
}

static struct cache_map *new_map(const struct cache_map_counters *counters)
{
	struct cache_map *m = calloc(1, sizeof *m);
	size_t i;

	if (!m)
		return NULL;
	m->data = m->map = m->lock = CACHE_FILE_NONE;
	m->counters = *counters;
	for (i = 0; i < MUTEXES; i++)
		pthread_mutex_init(&m->mutexes[i], NULL); /* a plain one cannot fail */
	return m;
}

int cache_map_open(struct cache_file root, const char *path, const char *digest, uint64_t size,
		   bool create, const struct cache_map_counters *counters, struct cache_map **out,
		   struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file folder = CACHE_FILE_NONE;
	struct cache_map *m;
	int r;

	if (size != CACHE_MAP_ANY_SIZE && size > CACHE_MAP_SIZE_MAX)
		return err_set(e, EFBIG, "a blob of %" PRIu64 " bytes is too large for the cache",
			       size);
	r = cache_folder_enter(root, path, create, &folder, e);
	if (r < 0)
		return r;
	m = new_map(counters);
	if (!m)
		return err_set(e, ENOMEM, "out of memory");
	r = open_files(m, folder, digest, size, create, e);
	if (r == 0)
		r = check_size(m, size, e);
	if (r == 0) {
		m->verified = calloc((size_t)m->chunks + 1, sizeof *m->verified);
		if (!m->verified)
			r = err_set(e, ENOMEM, "out of memory");
	}
	if (r < 0)
		cache_map_close(m);
	else
		*out = m;
	return r;
}

void cache_map_close(struct cache_map *m)
{
	size_t i;

	if (!m)
		return;
	if (m->mapped)
		m->map.ops->unmap(m->mapped, (size_t)m->mapped_size);
	cache_disk_close(&m->data);
	cache_disk_close(&m->map);
	cache_disk_close(&m->lock);
	for (i = 0; i < MUTEXES; i++)
		pthread_mutex_destroy(&m->mutexes[i]);
	free(m->verified);
	free(m);
}

bool cache_map_is_at(const struct cache_map *m, struct cache_file root, const char *path)
{
	char file[CACHE_PATH + 4];

	snprintf(file, sizeof file, "%s/map", path);
	return cache_folder_is_at(root, file, m->map);
}

/* ---- what it holds ---- */

uint64_t cache_map_size(const struct cache_map *m)
{
	return m->size;
}

uint64_t cache_map_chunks(const struct cache_map *m)
{
	return m->chunks;
}

uint64_t cache_map_chunk_bytes(const struct cache_map *m, uint64_t i)
{
	return min_u64(CACHE_CHUNK, m->size - i * CACHE_CHUNK);
}

uint64_t cache_map_file_size(const struct cache_map *m)
{
	return m->mapped_size;
}

static uint64_t unmarked(uint64_t word)
{
	return word & ~CACHE_WORD_REFERENCED;
}

static uint64_t load_word(const struct cache_map *m, uint64_t i)
{
	return atomic_load_explicit(&m->words[i], memory_order_acquire);
}

bool cache_map_has(const struct cache_map *m, uint64_t i)
{
	return load_word(m, i) & CACHE_WORD_PRESENT;
}

uint64_t cache_map_present(const struct cache_map *m)
{
	uint64_t i, sum = 0;

	for (i = 0; i < m->chunks; i++)
		if (cache_map_has(m, i))
			sum += cache_map_chunk_bytes(m, i);
	return sum;
}

static _Atomic uint64_t *flags_of(const struct cache_map *m)
{
	return m->mapped + CACHE_MAP_FLAGS / 8;
}

unsigned cache_map_flags(const struct cache_map *m)
{
	return (unsigned)atomic_load(flags_of(m));
}

void cache_map_change_flags(struct cache_map *m, unsigned set, unsigned clear)
{
	atomic_fetch_or(flags_of(m), set);
	atomic_fetch_and(flags_of(m), ~(uint64_t)clear);
}

bool cache_map_set_whole(struct cache_map *m)
{
	uint64_t i = 0;

	cache_map_change_flags(m, CACHE_MAP_WHOLE, CACHE_MAP_WRONG);
	while (i < m->chunks && (atomic_load(&m->words[i]) & CACHE_WORD_PRESENT)) /* (6) */
		i++;
	if (i < m->chunks)
		cache_map_change_flags(m, 0, CACHE_MAP_WHOLE);
	return i == m->chunks;
}

/* ---- a chunk's lock, (3) ---- */

static pthread_mutex_t *mutex_of(struct cache_map *m, uint64_t i)
{
	return &m->mutexes[i % MUTEXES];
}

/* Tries for `patience` milliseconds.  -EBUSY: another has it. */
static int lock_chunk(struct cache_map *m, uint64_t i, int patience)
{
	int r;

	if (patience > 0)
		pthread_mutex_lock(mutex_of(m, i));
	else if (pthread_mutex_trylock(mutex_of(m, i)) != 0)
		return -EBUSY;
	for (;;) {
		r = cache_folder_lock(m->map, F_WRLCK, CACHE_MAP_HEADER + 8 * i, 8);
		if (r != -EAGAIN || patience-- <= 0)
			break;
		clock_sleep(1);
	}
	if (r < 0)
		pthread_mutex_unlock(mutex_of(m, i));
	return r == -EAGAIN ? -EBUSY : r;
}

static void unlock_chunk(struct cache_map *m, uint64_t i)
{
	cache_folder_lock(m->map, F_UNLCK, CACHE_MAP_HEADER + 8 * i, 8);
	pthread_mutex_unlock(mutex_of(m, i));
}

/* ---- publishing and discarding ---- */

void cache_map_subtract(_Atomic uint64_t *counter, uint64_t n)
{
	uint64_t old = atomic_load(counter);

	while (!atomic_compare_exchange_weak(counter, &old, old - min_u64(n, old)))
		;
}

/* Past the end of the file too, so that its last block goes as a whole. */
static void punch(const struct cache_map *m, uint64_t i)
{
	(void)m->data.ops->punch(m->data.fd, i * CACHE_CHUNK, CACHE_CHUNK);
}

static void discard_locked(struct cache_map *m, uint64_t i)
{
	atomic_fetch_and(&m->words[i], ~(CACHE_WORD_GENERATION - 1));
	if (cache_map_flags(m) & CACHE_MAP_WHOLE)
		cache_map_change_flags(m, 0, CACHE_MAP_WHOLE);
	if (m->cleared)
		m->cleared(m->cleared_arg);
	punch(m, i);
	cache_map_subtract(m->counters.usage, cache_map_chunk_bytes(m, i));
}

static int publish_locked(struct cache_map *m, uint64_t i, const void *bytes, bool checked)
{
	uint64_t word = load_word(m, i);
	size_t n = (size_t)cache_map_chunk_bytes(m, i);
	int r;

	if (word & CACHE_WORD_PRESENT)
		return 0;
	if (!checked && (cache_map_flags(m) & CACHE_MAP_SEALED)) /* (5) */
		return -ESTALE;
	r = cache_disk_write(m->data, bytes, n, i * CACHE_CHUNK, NULL);
	if (r < 0) {
		punch(m, i);
		return r;
	}
	word = (word & ~(CACHE_WORD_GENERATION - 1)) + CACHE_WORD_GENERATION;
	word |= CACHE_WORD_PRESENT | crc32c_raw(CACHE_MAP_SEED, bytes, n);
	atomic_store(&m->words[i], word);
	atomic_fetch_add(m->counters.usage, n);
	return 0;
}

int cache_map_publish(struct cache_map *m, uint64_t i, const void *bytes, bool checked)
{
	int r;

	if (cache_map_has(m, i))
		return 0;
	r = mend_data(m, NULL);
	if (r == 0)
		r = lock_chunk(m, i, PATIENCE);
	if (r < 0)
		return r;
	r = publish_locked(m, i, bytes, checked);
	unlock_chunk(m, i);
	return r;
}

/* Discards the chunk if its word is still this one. */
static void drop_word(struct cache_map *m, uint64_t i, uint64_t word)
{
	if (lock_chunk(m, i, PATIENCE) < 0)
		return;
	if (unmarked(load_word(m, i)) == unmarked(word))
		discard_locked(m, i);
	unlock_chunk(m, i);
}

void cache_map_drop(struct cache_map *m, uint64_t i)
{
	uint64_t word = load_word(m, i);

	if (word & CACHE_WORD_PRESENT)
		drop_word(m, i, word);
}

uint64_t cache_map_evict(struct cache_map *m, uint64_t i)
{
	uint64_t word = load_word(m, i), freed = 0;

	if (word & CACHE_WORD_REFERENCED)
		atomic_fetch_and(&m->words[i], ~CACHE_WORD_REFERENCED);
	else if ((word & CACHE_WORD_PRESENT) && lock_chunk(m, i, 0) == 0) {
		word = load_word(m, i);
		if ((word & CACHE_WORD_PRESENT) && !(word & CACHE_WORD_REFERENCED)) {
			discard_locked(m, i);
			freed = cache_map_chunk_bytes(m, i);
		}
		unlock_chunk(m, i);
	}
	return freed;
}

/* ---- reading ---- */

/* Keeps the second load of a word behind the read before it.  ThreadSanitizer knows no fences, and
 * watches nothing that this one orders. */
static void read_barrier(void)
{
#ifndef __SANITIZE_THREAD__
	atomic_thread_fence(memory_order_acquire);
#endif
}

static bool is_same(const struct cache_map *m, uint64_t i, uint64_t word)
{
	uint64_t now = atomic_load_explicit(&m->words[i], memory_order_relaxed);

	return unmarked(now) == unmarked(word);
}

static void touch_word(struct cache_map *m, uint64_t i, uint64_t word)
{
	if (!(word & CACHE_WORD_REFERENCED))
		atomic_fetch_or_explicit(&m->words[i], CACHE_WORD_REFERENCED, memory_order_relaxed);
}

/* How many chunks from `first` to before `end` are there with words that were verified. */
static size_t find_run(const struct cache_map *m, uint64_t first, uint64_t end, uint64_t words[RUN])
{
	size_t n;

	for (n = 0; n < RUN && first + n < end; n++) {
		words[n] = load_word(m, first + n);
		if (!(words[n] & CACHE_WORD_PRESENT) ||
		    unmarked(words[n]) !=
			    atomic_load_explicit(&m->verified[first + n], memory_order_relaxed))
			break;
	}
	return n;
}

/* Reads from a run of verified chunks, the first of which holds off, at most n bytes.  Returns how
 * many count; 0 when the first chunk changed meanwhile or its data cannot be read. */
static size_t read_run(struct cache_map *m, void *buf, size_t n, uint64_t off,
		       const uint64_t *words, size_t count, bool touch)
{
	uint64_t first = off / CACHE_CHUNK;
	size_t same, i;

	n = (size_t)min_u64(n, (first + count) * CACHE_CHUNK - off);
	if (cache_disk_read(m->data, buf, n, off, NULL) < 0) {
		for (i = 0; i < count; i++)
			atomic_store_explicit(&m->verified[first + i], 0, memory_order_relaxed);
		return 0;
	}
	read_barrier();
	for (same = 0; same < count && is_same(m, first + same, words[same]); same++)
		if (touch)
			touch_word(m, first + same, words[same]);
	if (same == 0)
		return 0;
	return (size_t)min_u64(n, (first + same) * CACHE_CHUNK - off);
}

/* Reads from one chunk whose word was not verified yet, and verifies it.  Returns how many bytes
 * count; 0: the chunk changed, or is not there (any more). */
static size_t read_checking(struct cache_map *m, void *buf, size_t n, uint64_t off, uint64_t word,
			    bool touch)
{
	uint64_t i = off / CACHE_CHUNK, start = i * CACHE_CHUNK;
	size_t all = (size_t)cache_map_chunk_bytes(m, i);
	uint8_t chunk[CACHE_CHUNK];
	uint8_t *to = off == start && n >= all ? buf : chunk;
	int r = cache_disk_read(m->data, to, all, start, NULL);

	read_barrier();
	if (!is_same(m, i, word) || (r < 0 && r != -EIO))
		return 0;
	if (r < 0 || crc32c_raw(CACHE_MAP_SEED, to, all) != (uint32_t)word) {
		atomic_fetch_add_explicit(m->counters.bad, 1, memory_order_relaxed);
		drop_word(m, i, word);
		return 0;
	}
	atomic_store_explicit(&m->verified[i], unmarked(word), memory_order_relaxed);
	if (touch)
		touch_word(m, i, word);
	n = (size_t)min_u64(n, start + all - off);
	if (to == chunk)
		memcpy(buf, chunk + (off - start), n);
	return n;
}

size_t cache_map_read(struct cache_map *m, void *buf, size_t n, uint64_t off, bool touch)
{
	size_t done = 0;
	int retries = 0;

	while (done < n && off + done < m->size && retries < RETRIES) {
		uint64_t at = off + done, i = at / CACHE_CHUNK, words[RUN];
		size_t left = (size_t)min_u64(n - done, m->size - at);
		size_t run = find_run(m, i, (at + left - 1) / CACHE_CHUNK + 1, words), got;

		if (run > 0)
			got = read_run(m, (char *)buf + done, left, at, words, run, touch);
		else if (words[0] & CACHE_WORD_PRESENT)
			got = read_checking(m, (char *)buf + done, left, at, words[0], touch);
		else
			break;
		retries = got > 0 ? 0 : retries + 1;
		done += got;
	}
	return done;
}

/* ---- who fetches, who checks, who has it open ---- */

uint64_t cache_map_claim(struct cache_map *m, uint64_t first, uint64_t count, unsigned rank)
{
	uint64_t start = CLAIMS * (rank + 1) + first;

	while (count > 0 && cache_folder_lock(m->lock, F_WRLCK, start, count) == -EAGAIN) {
		struct flock other = { .l_type = F_WRLCK,
				       .l_whence = SEEK_SET,
				       .l_start = (off_t)start,
				       .l_len = (off_t)count };

		if (m->lock.ops->look(m->lock.fd, &other) < 0 || other.l_type == F_UNLCK)
			continue; /* gone by now */
		if ((uint64_t)other.l_start <= start)
			return 0;
		count = min_u64(count - 1, (uint64_t)other.l_start - start);
	}
	return count;
}

void cache_map_unclaim(struct cache_map *m, uint64_t first, uint64_t count, unsigned rank)
{
	if (count > 0) /* a length of 0 would mean all that follows */
		cache_folder_lock(m->lock, F_UNLCK, CLAIMS * (rank + 1) + first, count);
}

bool cache_map_take(struct cache_map *m, enum cache_map_right right)
{
	return cache_folder_lock(m->lock, F_WRLCK, right, 1) == 0;
}

void cache_map_yield(struct cache_map *m, enum cache_map_right right)
{
	cache_folder_lock(m->lock, F_UNLCK, right, 1);
}

bool cache_map_in_use(struct cache_map *m)
{
	struct flock other = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = IN_USE, .l_len = 1
	};

	return m->lock.ops->look(m->lock.fd, &other) == 0 && other.l_type != F_UNLCK;
}

bool cache_map_take_alone(struct cache_map *m)
{
	return cache_folder_lock(m->lock, F_WRLCK, IN_USE, 1) == 0;
}

void cache_map_remove_unmade(struct cache_file root, const char *path)
{
	AUTO_CLOSE_FILE struct cache_file folder = CACHE_FILE_NONE;
	AUTO_CLOSE_FILE struct cache_file lock = CACHE_FILE_NONE;
	struct stat st;

	if (cache_folder_enter(root, path, false, &folder, NULL) < 0)
		return;
	if (cache_folder_open_file(folder, "lock", false, &lock, NULL) < 0)
		/* Whoever makes a map makes the lock first. */
		(void)root.ops->remove_folder(root.fd, path);
	else if (cache_folder_lock(lock, F_WRLCK, IN_USE, 1) == 0 &&
		 folder.ops->stat_at(folder.fd, "map", &st) == -ENOENT)
		(void)cache_folder_remove(root, path, NULL);
}

int cache_map_sync(struct cache_map *m, struct err *e)
{
	int r = m->data.ops->datasync(m->data.fd);

	if (r == 0)
		r = m->map.ops->datasync(m->map.fd);
	return r < 0 ? err_set(e, -r, "fdatasync: %s", strerror(-r)) : 0;
}

void cache_map_set_hook(struct cache_map *m, void (*cleared)(void *arg), void *arg)
{
	m->cleared = cleared;
	m->cleared_arg = arg;
}
