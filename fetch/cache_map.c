/* SPDX-License-Identifier: Apache-2.0 */
/* cache_map.c - how the processes of a machine share a blob's chunks, see cache_map.h.
 *
 * (1) A chunk's word is its only state.  It is stored after the chunk's data was written, so
 *     whoever sees `present` finds the data in the page cache.  The map is fully allocated, never
 *     truncated, only replaced: a load never raises SIGBUS.  (Nothing protects from somebody else
 *     who truncates it while it is mapped; the mode of the folder keeps others out.)  A store can
 *     need a new block even so, where a snapshot or a copy shares the old one: cache_disk_change
 *     does them all, and where there is no block the store is left out as on any full disk.
 * (2) A reader loads the word, reads the data, loads the word again.  If it changed, the bytes do
 *     not count.  The referenced bit does not matter here, and changes by atomic or/and alone.
 * (3) Publishing a chunk (write, store) and discarding it (clear, punch) exclude each other by the
 *     chunk's lock: an OFD lock on its word's bytes in the map between openings, a mutex between
 *     the threads of one opening.  The evictor only tries it.  Each fill raises the generation, so
 *     that a word never returns to an earlier value.  Nobody waits long for the lock: a process
 *     that was frozen with it in hand costs others that chunk, not their lives.
 * (4) A chunk's CRC is checked when this opening first uses this word, and again when that was some
 *     time ago (cache_map_counters.recheck); `verified` remembers the word, `checked` when.  A
 *     mismatch means a crash or a bad disk: the chunk is dropped.  Hence no fsync is needed.
 * (5) A sealed map takes no fills but checked ones.  The seal is set before the whole is read, and
 *     a publisher looks at it under the chunk's lock: so what is found present and hashed after
 *     sealing was there before, and nothing else can come in, not even from a process that still
 *     takes the folder for its origin's after it moved to v1/sha256.
 * (6) CACHE_MAP_WHOLE is cleared after a word is, and set before all words are looked at: it never
 *     stays set over a missing chunk.
 * (7) A drop is always done.  When the chunk's lock is not to be had it is done without: the holder
 *     found the chunk there, so it does not write it.  The data are not punched then, for the chunk
 *     may have been filled anew by that time.  When the word cannot be cleared (1), this opening
 *     refuses it from then on; whoever fetches the chunk again clears it first, since others trust
 *     it still. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/crc32c.h"
#include "core/base/le.h"
#include "fetch/cache_map_internal.h"

enum {
	RUN = 64, /* chunks that are read at once */
	RETRIES = 8, /* of a read whose chunk keeps changing */
	PATIENCE = 20, /* ms that a chunk's lock is waited for */
	HOLD = 3, /* offset in `lock` */
};

#define CLAIMS ((uint64_t)1 << 32) /* offset of rank 0; each rank has as many */

/* ---- what it holds ---- */

static uint64_t unmarked(uint64_t word)
{
	return word & ~CACHE_WORD_REFERENCED;
}

/* As it stands in the map. */
static uint64_t load_raw(const struct cache_map *m, uint64_t i)
{
	/* Looked at for every chunk of every read, so without a call where it can be. */
	bool made = atomic_load_explicit(&m->made, memory_order_acquire) || cache_map_is_made(m);

	return made ? atomic_load_explicit(&m->words[i], memory_order_acquire) : 0;
}

/* What `verified` holds instead of a word that this opening refuses, (7). */
static uint64_t refusal_of(uint64_t word)
{
	return unmarked(word) & ~CACHE_WORD_PRESENT;
}

/* As this opening takes it: a chunk that it refuses is not there. */
static uint64_t load_word(const struct cache_map *m, uint64_t i)
{
	uint64_t word = load_raw(m, i);

	if ((word & CACHE_WORD_PRESENT) &&
	    atomic_load_explicit(&m->verified[i], memory_order_relaxed) == refusal_of(word))
		word &= ~CACHE_WORD_PRESENT;
	return word;
}

bool cache_map_has(const struct cache_map *m, uint64_t i)
{
	return load_word(m, i) & CACHE_WORD_PRESENT;
}

uint64_t cache_map_present(const struct cache_map *m)
{
	uint64_t i, sum = 0;

	for (i = 0; cache_map_is_made(m) && i < m->chunks; i++)
		if (cache_map_has(m, i))
			sum += cache_map_chunk_bytes(m, i);
	return sum;
}

/* Every store to the map, (1). */
static int change(const struct cache_map *m, _Atomic uint64_t *at, enum cache_disk_change how,
		  uint64_t value)
{
	return cache_disk_change(m->map.ops, at, how, value);
}

static _Atomic uint64_t *flags_of(const struct cache_map *m)
{
	return m->mapped + CACHE_MAP_FLAGS / 8;
}

unsigned cache_map_flags(const struct cache_map *m)
{
	return cache_map_is_made(m) ? (unsigned)atomic_load(flags_of(m)) : 0;
}

int cache_map_change_flags(struct cache_map *m, unsigned set, unsigned clear)
{
	int r = cache_map_is_made(m) ? change(m, flags_of(m), CACHE_DISK_OR, set) : -ENOENT;

	return r < 0 ? r : change(m, flags_of(m), CACHE_DISK_AND, ~(uint64_t)clear);
}

bool cache_map_set_whole(struct cache_map *m)
{
	uint64_t i = 0;

	if (cache_map_change_flags(m, CACHE_MAP_WHOLE, CACHE_MAP_WRONG) < 0)
		return false;
	while (i < m->chunks && cache_map_has(m, i)) /* (6) */
		i++;
	if (i < m->chunks)
		(void)cache_map_change_flags(m, 0, CACHE_MAP_WHOLE);
	return i == m->chunks;
}

/* ---- a chunk's lock, (3) ---- */

static pthread_mutex_t *mutex_of(struct cache_map *m, uint64_t i)
{
	return &m->mutexes[i % CACHE_MAP_MUTEXES];
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

void cache_map_add(const struct cache_disk_ops *ops, _Atomic uint64_t *counter, uint64_t n)
{
	(void)cache_disk_change(ops, counter, CACHE_DISK_ADD, n);
}

void cache_map_subtract(const struct cache_disk_ops *ops, _Atomic uint64_t *counter, uint64_t n)
{
	(void)cache_disk_change(ops, counter, CACHE_DISK_SUBTRACT, n);
}

/* Past the end of the file too, so that its last block goes as a whole. */
static void punch(const struct cache_map *m, uint64_t i)
{
	(void)m->data.ops->punch(m->data.fd, i * CACHE_CHUNK, CACHE_CHUNK);
}

/* Returns the bytes that are free now; 0: it has to stay, for want of a block for its word. */
static uint64_t discard(struct cache_map *m, uint64_t i, bool locked)
{
	if (change(m, &m->words[i], CACHE_DISK_AND, ~(CACHE_WORD_GENERATION - 1)) < 0)
		return 0;
	if (cache_map_flags(m) & CACHE_MAP_WHOLE)
		(void)cache_map_change_flags(m, 0, CACHE_MAP_WHOLE);
	if (m->cleared)
		m->cleared(m->cleared_arg);
	if (locked) /* else another may have filled it by now, and be trusted */
		punch(m, i);
	cache_map_subtract(m->map.ops, m->counters.usage, cache_map_chunk_bytes(m, i));
	return cache_map_chunk_bytes(m, i);
}

static int publish_locked(struct cache_map *m, uint64_t i, const void *bytes, bool checked)
{
	uint64_t word = load_word(m, i);
	bool counted = load_raw(m, i) & CACHE_WORD_PRESENT; /* it is refused, (7) */
	size_t n = (size_t)cache_map_chunk_bytes(m, i);
	int r;

	if (word & CACHE_WORD_PRESENT)
		return 0;
	if (!checked && (cache_map_flags(m) & CACHE_MAP_SEALED)) /* (5) */
		return -ESTALE;
	/* Others still take what this opening refuses: its data change under no word. */
	if (counted && discard(m, i, true) == 0)
		return -ENOSPC;
	r = cache_disk_write(m->data, bytes, n, i * CACHE_CHUNK, NULL);
	if (r < 0) {
		punch(m, i);
		return r;
	}
	word = (word & ~(CACHE_WORD_GENERATION - 1)) + CACHE_WORD_GENERATION;
	word |= CACHE_WORD_PRESENT | crc32c_raw(CACHE_MAP_SEED, bytes, n);
	r = change(m, &m->words[i], CACHE_DISK_SET, word);
	if (r < 0) {
		punch(m, i);
		return r;
	}
	cache_map_add(m->map.ops, m->counters.usage, n);
	return 0;
}

int cache_map_publish(struct cache_map *m, uint64_t i, const void *bytes, bool checked)
{
	int r;

	if (cache_map_has(m, i))
		return 0;
	r = cache_map_make(m, NULL); /* (13) */
	if (r == 0)
		r = cache_map_mend_data(m, NULL);
	if (r == 0)
		r = lock_chunk(m, i, PATIENCE);
	if (r < 0)
		return r;
	r = publish_locked(m, i, bytes, checked);
	unlock_chunk(m, i);
	return r;
}

/* Discards the chunk if its word is still this one, (7). */
static void drop_word(struct cache_map *m, uint64_t i, uint64_t word)
{
	bool locked = lock_chunk(m, i, PATIENCE) == 0;

	if (unmarked(load_raw(m, i)) == unmarked(word) && discard(m, i, locked) == 0)
		atomic_store_explicit(&m->verified[i], refusal_of(word), memory_order_relaxed);
	if (locked)
		unlock_chunk(m, i);
}

void cache_map_drop(struct cache_map *m, uint64_t i)
{
	uint64_t word = load_word(m, i);

	if (word & CACHE_WORD_PRESENT)
		drop_word(m, i, word);
}

void cache_map_empty(struct cache_map *m)
{
	uint64_t i;

	for (i = 0; i < m->chunks; i++)
		cache_map_drop(m, i);
}

uint64_t cache_map_evict(struct cache_map *m, uint64_t i)
{
	uint64_t word = load_raw(m, i), freed = 0;

	if (word & CACHE_WORD_REFERENCED) {
		(void)change(m, &m->words[i], CACHE_DISK_AND, ~CACHE_WORD_REFERENCED);
	} else if ((word & CACHE_WORD_PRESENT) && lock_chunk(m, i, 0) == 0) {
		word = load_raw(m, i);
		if ((word & CACHE_WORD_PRESENT) && !(word & CACHE_WORD_REFERENCED))
			freed = discard(m, i, true);
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
		(void)change(m, &m->words[i], CACHE_DISK_OR, CACHE_WORD_REFERENCED);
}

/* How a read is done, for all of its chunks. */
struct reading {
	bool touch;
	bool check; /* all, whenever they were checked last */
	uint32_t now; /* s */
};

static uint32_t seconds(void)
{
	return (uint32_t)(clock_coarse_ms() / 1000);
}

/* Whether a chunk with this word need not be checked now, (4). */
static bool is_verified(const struct cache_map *m, const struct reading *rd, uint64_t i,
			uint64_t word)
{
	uint32_t every = m->counters.recheck
				 ? atomic_load_explicit(m->counters.recheck, memory_order_relaxed)
				 : CACHE_RECHECK_NEVER;

	if (rd->check ||
	    unmarked(word) != atomic_load_explicit(&m->verified[i], memory_order_relaxed))
		return false;
	return every == CACHE_RECHECK_NEVER ||
	       rd->now - atomic_load_explicit(&m->checked[i], memory_order_relaxed) < every;
}

/* How many chunks from `first` to before `end` are there with words that were verified. */
static size_t find_run(const struct cache_map *m, const struct reading *rd, uint64_t first,
		       uint64_t end, uint64_t words[RUN])
{
	size_t n;

	for (n = 0; n < RUN && first + n < end; n++) {
		words[n] = load_word(m, first + n);
		if (!(words[n] & CACHE_WORD_PRESENT) || !is_verified(m, rd, first + n, words[n]))
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
		for (i = 0; i < count; i++) {
			uint64_t verified = unmarked(words[i]);

			/* Not what another thread refuses meanwhile, (7). */
			atomic_compare_exchange_strong(&m->verified[first + i], &verified, 0);
		}
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
	uint64_t before = atomic_load_explicit(&m->verified[i], memory_order_relaxed);
	int r = cache_disk_read(m->data, to, all, start, NULL);

	read_barrier();
	if (!is_same(m, i, word) || (r < 0 && r != -EIO))
		return 0;
	if (r < 0 || crc32c_raw(CACHE_MAP_SEED, to, all) != (uint32_t)word) {
		atomic_fetch_add_explicit(m->counters.bad, 1, memory_order_relaxed);
		drop_word(m, i, word);
		return 0;
	}
	atomic_store_explicit(&m->checked[i], seconds(), memory_order_relaxed);
	/* Not if another thread refuses it meanwhile, (7). */
	atomic_compare_exchange_strong(&m->verified[i], &before, unmarked(word));
	if (touch)
		touch_word(m, i, word);
	n = (size_t)min_u64(n, start + all - off);
	if (to == chunk)
		memcpy(buf, chunk + (off - start), n);
	return n;
}

size_t cache_map_read(struct cache_map *m, void *buf, size_t n, uint64_t off, unsigned how)
{
	const struct reading rd = { how & CACHE_MAP_TOUCH, how & CACHE_MAP_CHECK, seconds() };
	size_t done = 0;
	int retries = 0;

	if (!cache_map_is_made(m))
		return 0;
	while (done < n && off + done < m->size && retries < RETRIES) {
		uint64_t at = off + done, i = at / CACHE_CHUNK, words[RUN];
		size_t left = (size_t)min_u64(n - done, m->size - at);
		size_t run = find_run(m, &rd, i, (at + left - 1) / CACHE_CHUNK + 1, words), got;

		if (run > 0)
			got = read_run(m, (char *)buf + done, left, at, words, run, rd.touch);
		else if (words[0] & CACHE_WORD_PRESENT)
			got = read_checking(m, (char *)buf + done, left, at, words[0], rd.touch);
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
		/* Less in any case, whatever a file system says. */
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

/* Whether another opening has any lock on this byte. */
static bool is_locked(const struct cache_map *m, uint64_t byte)
{
	struct flock other = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)byte, .l_len = 1
	};

	return m->lock.ops->look(m->lock.fd, &other) == 0 && other.l_type != F_UNLCK;
}

void cache_map_hold(struct cache_map *m)
{
	cache_folder_lock(m->lock, F_RDLCK, HOLD, 1);
}

bool cache_map_is_held(const struct cache_map *m)
{
	return is_locked(m, HOLD);
}

bool cache_map_in_use(struct cache_map *m)
{
	return is_locked(m, CACHE_MAP_IN_USE);
}

bool cache_map_take_alone(struct cache_map *m)
{
	return cache_folder_lock(m->lock, F_WRLCK, CACHE_MAP_IN_USE, 1) == 0;
}

int cache_map_sync(struct cache_map *m, struct err *e)
{
	int r = cache_map_is_made(m) ? m->data.ops->datasync(m->data.fd) : 0;

	if (r == 0 && cache_map_is_made(m))
		r = m->map.ops->datasync(m->map.fd);
	return r < 0 ? err_set(e, -r, "fdatasync: %s", strerror(-r)) : 0;
}

void cache_map_set_hook(struct cache_map *m, void (*cleared)(void *arg), void *arg)
{
	m->cleared = cleared;
	m->cleared_arg = arg;
}
