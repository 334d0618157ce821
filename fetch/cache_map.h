/* SPDX-License-Identifier: Apache-2.0 */
/* cache_map.h - the chunks of one blob in one folder: {data,map,lock}, one level of a cache_blob.
 *
 * data: the blob's bytes at their own offsets, sparse.
 * map:  a header of 4 KiB: at 0 magic, version, chunk size, blob size, digest, all little-endian,
 *       and the CRC-32C of these; at 2048 a word of flags.  Then a 64-bit word a chunk, native:
 *         0-31   CRC-32C of its bytes (crc32c_raw from CACHE_MAP_SEED)
 *         32     present
 *         33     referenced since the clock's hand last passed
 *         34-63  generation: how often it was filled
 * lock: no bytes, only OFD locks: byte 0 shared by all who have the folder open, 1 who checks the
 *       whole, 2 who downloads, 3 shared by all who fill it as a whole, and from 2^32 on a byte a
 * chunk and rank for who fetches it.
 *
 * Invariants: see cache_map.c.  Units: chunks, unless `off` or `n`.
 * Threads: all but open and close may run concurrently, in any number of processes. */
#ifndef OVERLAYBD_FETCH_CACHE_MAP_H
#define OVERLAYBD_FETCH_CACHE_MAP_H

#include <stdatomic.h>

#include "fetch/cache.h"
#include "fetch/cache_folder.h"

enum {
	CACHE_MAP_HEADER = 4096, /* bytes */
	CACHE_MAP_FLAGS = 2048, /* offset of the flags */
};
#define CACHE_MAP_SEED UINT32_MAX
#define CACHE_MAP_ANY_SIZE UINT64_MAX
#define CACHE_MAP_SIZE_MAX ((uint64_t)1 << 40) /* bytes of a blob: a map of 512 MiB */

#define CACHE_WORD_PRESENT ((uint64_t)1 << 32)
#define CACHE_WORD_REFERENCED ((uint64_t)1 << 33)
#define CACHE_WORD_GENERATION ((uint64_t)1 << 34)

enum cache_map_flag {
	CACHE_MAP_WHOLE = 1, /* every chunk is there, and the digest was right */
	CACHE_MAP_WRONG = 2, /* every chunk was there, and the digest was wrong; nothing is now */
	CACHE_MAP_SEALED = 4, /* takes no more fills: it is checked as a whole, or was */
};

enum cache_map_right { CACHE_MAP_CHECKER = 1, CACHE_MAP_DOWNLOADER = 2 };

/* What a map keeps up to date for its owner. */
struct cache_map_counters {
	_Atomic uint64_t *usage; /* bytes in the cache folder */
	_Atomic uint64_t *bad; /* chunks that were found wrong */
	/* s after which a chunk that is read is checked once more; 0: each time; NULL or
	 * CACHE_RECHECK_NEVER: never. */
	const _Atomic uint32_t *recheck;
};

/* Of `usage`, in a mapping of its own.  It never goes below zero, and misses what a full disk does
 * not let us note: it is only nearly right until it is counted anew. */
void cache_map_add(const struct cache_disk_ops *ops, _Atomic uint64_t *counter, uint64_t n);
void cache_map_subtract(const struct cache_disk_ops *ops, _Atomic uint64_t *counter, uint64_t n);

struct cache_map;

/* Bytes that the map of a blob of `size` bytes takes. */
uint64_t cache_map_cost(uint64_t size);

/* Opens the folder `path`, making it when `create` is set; the map itself is made when the first
 * chunk is published.  size may be CACHE_MAP_ANY_SIZE when not.  -ENOENT: there is none (or with
 * `create`: the place is not there). -ESTALE: it was removed meanwhile, try again. -EUCLEAN: the
 * map is damaged, or holds nothing and is of another size: to be removed. -EBADMSG: of another
 * size. */
int cache_map_open(struct cache_file root, const char *path, const char *digest, uint64_t size,
		   bool create, const struct cache_map_counters *counters, struct cache_map **out,
		   struct err *e);
void cache_map_close(struct cache_map *m); /* NULL is allowed */

/* Whether there is a map: this process's, or one that another has made by now. */
bool cache_map_is_made(const struct cache_map *m);

/* Makes it, if there is none; cache_map_publish does that too. */
int cache_map_make(struct cache_map *m, struct err *e);

uint64_t cache_map_size(const struct cache_map *m); /* bytes of the blob */
uint64_t cache_map_chunks(const struct cache_map *m);
uint64_t cache_map_chunk_bytes(const struct cache_map *m, uint64_t i);
uint64_t cache_map_present(const struct cache_map *m); /* bytes of the chunks that are there */
uint64_t cache_map_file_size(const struct cache_map *m); /* bytes of the map itself; 0: none yet */

/* Whether `path` leads to this map: false once it was removed, replaced or moved. */
bool cache_map_is_at(const struct cache_map *m, struct cache_file root, const char *path);

unsigned cache_map_flags(const struct cache_map *m);

/* -ENOSPC: they could not be changed; -ENOENT: there is no map. */
int cache_map_change_flags(struct cache_map *m, unsigned set, unsigned clear);

/* Says that the whole is right, unless a chunk has gone meanwhile: then false. */
bool cache_map_set_whole(struct cache_map *m);

bool cache_map_has(const struct cache_map *m, uint64_t i);

enum {
	CACHE_MAP_TOUCH = 1, /* let the clock know */
	CACHE_MAP_CHECK = 2, /* every chunk's CRC, whenever it was checked last */
};

/* As cache_blob_read. */
size_t cache_map_read(struct cache_map *m, void *buf, size_t n, uint64_t off, unsigned how);

/* Stores a chunk, unless it is there.  `checked`: these bytes belong to a right whole, so a sealed
 * map takes them too.  -ESTALE: it is sealed.  -EBUSY: somebody holds on to the chunk. */
int cache_map_publish(struct cache_map *m, uint64_t i, const void *bytes, bool checked);

/* Discards a chunk.  One whose word cannot be cleared is not there for this opening any more. */
void cache_map_drop(struct cache_map *m, uint64_t i);

/* One step of the clock: discards a chunk that was not referenced since the last, and returns its
 * bytes; else 0. */
uint64_t cache_map_evict(struct cache_map *m, uint64_t i);

/* As cache_blob_claim. */
uint64_t cache_map_claim(struct cache_map *m, uint64_t first, uint64_t count, unsigned rank);
void cache_map_unclaim(struct cache_map *m, uint64_t first, uint64_t count, unsigned rank);

/* Rights that one opening of the folder may have at a time.  False: another has it. */
bool cache_map_take(struct cache_map *m, enum cache_map_right right);
void cache_map_yield(struct cache_map *m, enum cache_map_right right);

/* Lets evictors know that this opening wants it spared; whether another one wants that. */
void cache_map_hold(struct cache_map *m);
bool cache_map_is_held(const struct cache_map *m);

/* Discards all chunks. */
void cache_map_empty(struct cache_map *m);

/* Whether somebody else has the folder open; alone: from now on nobody can open it. */
bool cache_map_in_use(struct cache_map *m);
bool cache_map_take_alone(struct cache_map *m);

/* Removes a folder that has no map, unless somebody is about to make one there. */
void cache_map_remove_unmade(struct cache_file root, const char *path);

/* Brings data and map to the disk. */
int cache_map_sync(struct cache_map *m, struct err *e);

/* For tests: `cleared` is called between the two halves of each eviction and drop. */
void cache_map_set_hook(struct cache_map *m, void (*cleared)(void *arg), void *arg);

#endif
