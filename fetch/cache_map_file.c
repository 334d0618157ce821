/* SPDX-License-Identifier: Apache-2.0 */
/* cache_map_file.c - the files of a blob's folder: opened, made, looked at; see cache_map.h.
 *
 * (13) The map is made when the first chunk is published: then an answer of the registry has
 *      confirmed the blob's size, on which the map's depends.  Until then an opening has the lock
 *      alone, for claims, and looks from time to time whether another has made a map.  A folder
 *      without a map takes no space, and goes with its last user. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/cache_map_internal.h"

enum {
	VERSION = 1,
	AT_VERSION = 8, /* offsets in the header */
	AT_CHUNK = 12,
	AT_SIZE = 16,
	AT_DIGEST = 24,
};

static const char magic[8] = "obdcache";

/* The CRC comes behind the digest, whose length is its kind's, and its NUL. */
static size_t crc_offset(const char *digest)
{
	return AT_DIGEST + strlen(digest) + 1;
}

static uint64_t chunks_of(uint64_t size)
{
	return size / CACHE_CHUNK + (size % CACHE_CHUNK != 0);
}

static uint64_t map_bytes(uint64_t size)
{
	return CACHE_MAP_HEADER + 8 * chunks_of(size);
}

uint64_t cache_map_cost(uint64_t size)
{
	return map_bytes(size);
}

static uint64_t load_word(const struct cache_map *m, uint64_t i)
{
	return atomic_load_explicit(&m->words[i], memory_order_acquire);
}

static int make_map(const struct cache_map *m, struct err *e)
{
	uint8_t raw[CACHE_MAP_HEADER] = { 0 };
	size_t at = crc_offset(m->digest);
	int r;

	memcpy(raw, magic, sizeof magic);
	le32_put(raw + AT_VERSION, VERSION);
	le32_put(raw + AT_CHUNK, CACHE_CHUNK);
	le64_put(raw + AT_SIZE, m->size);
	memcpy(raw + AT_DIGEST, m->digest, at - AT_DIGEST);
	le32_put(raw + at, crc32c_raw(CACHE_MAP_SEED, raw, at));
	r = cache_folder_make_file(m->folder, "map", raw, sizeof raw, map_bytes(m->size), e);
	if (r == 0)
		cache_map_add(m->lock.ops, m->counters.usage, map_bytes(m->size));
	return r;
}

/* The size that the header tells, *size, when all of it is right. */
static int parse_header(const uint8_t raw[CACHE_MAP_HEADER], const char *digest, uint64_t file_size,
			uint64_t *size, struct err *e)
{
	uint64_t told = le64_get(raw + AT_SIZE);
	size_t at = crc_offset(digest);

	if (memcmp(raw, magic, sizeof magic) != 0)
		return err_set(e, EUCLEAN, "not a map (bad magic)");
	if (le32_get(raw + at) != crc32c_raw(CACHE_MAP_SEED, raw, at))
		return err_set(e, EUCLEAN, "wrong CRC of the map's header");
	if (le32_get(raw + AT_VERSION) != VERSION || le32_get(raw + AT_CHUNK) != CACHE_CHUNK)
		return err_set(e, EUCLEAN, "map of version %u with chunks of %u bytes",
			       le32_get(raw + AT_VERSION), le32_get(raw + AT_CHUNK));
	if (memcmp(raw + AT_DIGEST, digest, at - AT_DIGEST) != 0)
		return err_set(e, EUCLEAN, "map of another blob");
	if (told > CACHE_MAP_SIZE_MAX || map_bytes(told) != file_size)
		return err_set(e, EUCLEAN, "map of %" PRIu64 " bytes for a blob of %" PRIu64,
			       file_size, told);
	*size = told;
	return 0;
}

/* The file is mapped only when its size is what the header says. */
static int map_file(struct cache_map *m, uint64_t *size, struct err *e)
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
		r = parse_header(raw, m->digest, (uint64_t)st.st_size, size, e);
	if (r < 0)
		return r;
	/* A copy may have holes, or share its blocks; each store would need a new one, (1). */
	if (st.st_blocks * 512 < st.st_size &&
	    cache_folder_allocate(m->map, (uint64_t)st.st_size, e) < 0)
		return -EUCLEAN;
	(void)m->map.ops->unshare(m->map.fd, (uint64_t)st.st_size);
	r = m->map.ops->map(m->map.fd, (size_t)st.st_size, NULL, &at);
	if (r < 0)
		return err_set(e, -r, "mapping the map: %s", strerror(-r));
	m->mapped_size = (uint64_t)st.st_size;
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

int cache_map_mend_data(struct cache_map *m, struct err *e)
{
	struct stat st;
	uint64_t i;
	int r = m->data.ops->stat(m->data.fd, &st);

	if (r < 0)
		return err_set(e, -r, "data: %s", strerror(-r));
	if ((uint64_t)st.st_size >= m->size)
		return 0;
	for (i = (uint64_t)st.st_size / CACHE_CHUNK; i < m->chunks; i++)
		if (load_word(m, i) && is_cut(m, i)) {
			atomic_fetch_add_explicit(m->counters.bad, 1, memory_order_relaxed);
			cache_map_drop(m, i);
		}
	r = m->data.ops->truncate(m->data.fd, m->size);
	return r < 0 ? err_set(e, -r, "data: %s", strerror(-r)) : 0;
}

static int check_size(const struct cache_map *m, uint64_t there, struct err *e)
{
	uint64_t i;

	if (m->size == there)
		return 0;
	for (i = 0; i < chunks_of(there); i++)
		if (load_word(m, i) & CACHE_WORD_PRESENT)
			return err_set(e, EBADMSG,
				       "a blob of %" PRIu64 " bytes, which the cache knows with "
				       "%" PRIu64,
				       m->size, there);
	return err_set(e, EUCLEAN, "it is empty, for a blob of %" PRIu64 " bytes", there);
}

static int make_memory(struct cache_map *m, struct err *e)
{
	m->verified = calloc((size_t)m->chunks + 1, sizeof *m->verified);
	m->checked = calloc((size_t)m->chunks + 1, sizeof *m->checked);
	return m->verified && m->checked ? 0 : err_set(e, ENOMEM, "out of memory");
}

/* Forgets what a failed attach_locked opened. */
static void detach(struct cache_map *m)
{
	if (m->mapped)
		m->map.ops->unmap(m->mapped, (size_t)m->mapped_size);
	m->mapped = m->words = NULL;
	m->mapped_size = 0;
	cache_disk_close(&m->data);
	cache_disk_close(&m->map);
	free(m->verified);
	free(m->checked);
	m->verified = NULL;
	m->checked = NULL;
}

/* Opens the map that is there.  Who only looks around (of any size) mends nothing: a user of the
 * blob is to notice, and to tell. */
static int attach_locked(struct cache_map *m, struct err *e)
{
	bool any_size = m->size == CACHE_MAP_ANY_SIZE;
	uint64_t size = 0;
	int r = cache_folder_open_file(m->folder, "map", false, &m->map, e);

	if (r == 0)
		r = map_file(m, &size, e);
	if (r == 0 && !any_size)
		r = check_size(m, size, e);
	if (r == 0) {
		m->size = size;
		m->chunks = chunks_of(size);
		r = make_memory(m, e);
	}
	if (r == 0)
		r = cache_folder_open_file(m->folder, "data", true, &m->data, e);
	if (r < 0) {
		detach(m);
		return r;
	}
	atomic_store_explicit(&m->made, true, memory_order_release);
	if (!any_size)
		(void)cache_map_mend_data(m, NULL); /* who publishes tries it again, and tells */
	return 0;
}

static int attach(struct cache_map *m, struct err *e)
{
	WITH_LOCK(&m->making);
	return atomic_load(&m->made) ? 0 : attach_locked(m, e);
}

bool cache_map_is_made(const struct cache_map *m)
{
	struct cache_map *self = (struct cache_map *)(uintptr_t)m; /* it changes once only */
	uint64_t now;

	if (atomic_load_explicit(&m->made, memory_order_acquire))
		return true;
	now = clock_ms();
	if (atomic_exchange(&self->looked, now) == now)
		return false;
	return attach(self, NULL) == 0;
}

int cache_map_make(struct cache_map *m, struct err *e)
{
	int r;

	WITH_LOCK(&m->making);
	if (atomic_load(&m->made))
		return 0;
	r = make_map(m, e);
	return r < 0 ? r : attach_locked(m, e);
}

/* The lock comes first: who has it keeps the folder from being removed as unused. */
static int open_files(struct cache_map *m, bool create, struct err *e)
{
	int r = cache_folder_open_file(m->folder, "lock", create, &m->lock, e);

	if (r < 0)
		return r == -ENOENT && create ? -ESTALE : r;
	if (cache_folder_lock(m->lock, F_RDLCK, CACHE_MAP_IN_USE, 1) < 0)
		return err_set(e, ESTALE, "it is being removed");
	r = attach(m, e);
	return r == -ENOENT && create ? 0 : r; /* (13) */
}

static struct cache_map *new_map(const char *digest, uint64_t size,
				 const struct cache_map_counters *counters)
{
	struct cache_map *m = calloc(1, sizeof *m);
	size_t i;

	if (!m)
		return NULL;
	m->data = m->map = m->lock = m->folder = CACHE_FILE_NONE;
	m->size = size;
	m->chunks = size == CACHE_MAP_ANY_SIZE ? 0 : chunks_of(size);
	m->counters = *counters;
	digest_copy(m->digest, digest);
	pthread_mutex_init(&m->making, NULL); /* a plain one cannot fail */
	for (i = 0; i < CACHE_MAP_MUTEXES; i++)
		pthread_mutex_init(&m->mutexes[i], NULL);
	return m;
}

int cache_map_open(struct cache_file root, const char *path, const char *digest, uint64_t size,
		   bool create, const struct cache_map_counters *counters, struct cache_map **out,
		   struct err *e)
{
	struct cache_map *m;
	int r;

	if (size != CACHE_MAP_ANY_SIZE && size > CACHE_MAP_SIZE_MAX)
		return err_set(e, EFBIG, "a blob of %" PRIu64 " bytes is too large for the cache",
			       size);
	m = new_map(digest, size, counters);
	if (!m)
		return err_set(e, ENOMEM, "out of memory");
	r = cache_folder_enter(root, path, create, &m->folder, e);
	if (r == 0)
		r = open_files(m, create, e);
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
	detach(m);
	cache_disk_close(&m->lock);
	cache_disk_close(&m->folder);
	for (i = 0; i < CACHE_MAP_MUTEXES; i++)
		pthread_mutex_destroy(&m->mutexes[i]);
	pthread_mutex_destroy(&m->making);
	free(m);
}

/* One without a map is where its lock is, unless what appeared there is no map of this blob. */
bool cache_map_is_at(const struct cache_map *m, struct cache_file root, const char *path)
{
	bool made = atomic_load_explicit(&m->made, memory_order_acquire);
	char file[CACHE_PATH + 5];
	int r;

	if (!made) {
		r = attach((struct cache_map *)(uintptr_t)m, NULL);
		if (r < 0 && r != -ENOENT)
			return false;
		made = r == 0;
	}
	snprintf(file, sizeof file, "%s/%s", path, made ? "map" : "lock");
	return cache_folder_is_at(root, file, made ? m->map : m->lock);
}

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
	return cache_map_is_made(m) ? m->mapped_size : 0;
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
	else if (cache_folder_lock(lock, F_WRLCK, CACHE_MAP_IN_USE, 1) == 0 &&
		 folder.ops->stat_at(folder.fd, "map", &st) == -ENOENT)
		(void)cache_folder_remove(root, path, NULL);
}
