/* SPDX-License-Identifier: Apache-2.0 */
/* cache.h - a folder of blobs' bytes, shared by processes that do not know each other, without a
 * daemon, safe after a crash.
 *
 *   DIR/v1/usage                                   the folder's size, the clock's hand
 *   DIR/v1/limits                                  how large it may be, see cache_limit.h
 *   DIR/v1/lock                                    held by the process that evicts
 *   DIR/v1/<sha256 of origin>/<digest>/{data,map,lock}
 *                   as fetched: trusted as far as that origin is
 *   DIR/v1/<sha256 of origin>/{origin,documents/}
 *                   the origin's text, for people; small files
 *   DIR/v1/sha256/<digest>/{data,map,lock}
 *                   whole and checked against its digest, a sha256 or sha512: shared by all
 *                   origins
 *
 * data: the blob's raw bytes at their own offsets, sparse.  map: see cache_map.h.  lock: claims of
 * fetchers (OFD byte locks), no bytes.
 *
 * Units: bytes, or chunks of CACHE_CHUNK bytes where said (the last one of a blob may be shorter).
 * Threads: all calls on one cache or blob may run concurrently but for open, start, stop and close.
 * Fork: a cache may be opened before a fork as long as it is stopped then; OFD locks are only held
 *   while a claim or a publish lasts.
 * Errors: what the cache cannot do costs a fetch, never a read: only opening can fail.  Trouble
 * (a full disk, no rights) pauses filling, with one log_warn, see cache_limit.h. */
#ifndef OVERLAYBD_FETCH_CACHE_H
#define OVERLAYBD_FETCH_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum { CACHE_CHUNK = 16 * 1024 };

/* s after which a chunk that is read is checked once more: so that a disk that rots under a server
 * is found, at the cost of one CRC a chunk and minute. */
enum { CACHE_RECHECK = 60 };
#define CACHE_RECHECK_NEVER UINT32_MAX

struct cache;
struct cache_blob;

/* How much the folder may hold, and how much of its file system is to stay free: bytes, 0: none.
 * Both are the folder's, for all programs that use it. */
struct cache_limits {
	uint64_t limit, keep_free;
};

#define CACHE_LIMIT_FOLDER UINT64_MAX /* whatever the folder says */
#define CACHE_LIMIT_DEFAULT ((uint64_t)10 << 30) /* of a folder that says nothing */

/* Opens the folder, making what is missing of it (mode 0700).  `limit`: as of struct cache_limits,
 * or CACHE_LIMIT_FOLDER.  Returns 0, or -errno
 * when the folder cannot be used; a file system that does not keep the promises of cache_map.h is
 * -EOPNOTSUPP.  The text then says why; the caller goes on without a cache. */
int cache_open(const char *dir, uint64_t limit, struct cache **out, struct err *e);

/* As cache_open, but 1 where the folder cannot be used now, with the text that says why: *out then
 * holds and keeps nothing, until the keeper, which tries each minute, can open it.  That is
 * said with a log_warn. */
int cache_open_late(const char *dir, uint64_t limit, struct cache **out, struct err *e);

/* The same on another disk than the system's: for tests.  The table must outlive the cache. */
struct cache_disk_ops;
int cache_open_on(const struct cache_disk_ops *ops, const char *dir, uint64_t limit,
		  struct cache **out, struct err *e);
int cache_open_late_on(const struct cache_disk_ops *ops, const char *dir, uint64_t limit,
		       struct cache **out, struct err *e);

/* Sets the folder's limits, as far as they are not CACHE_LIMIT_FOLDER, with a log_warn when others
 * were set before. */
void cache_set_limits(struct cache *c, const struct cache_limits *l);
void cache_get_limits(const struct cache *c, struct cache_limits *out);

/* After how many seconds a chunk that is read is checked once more: 0: at each read,
 * CACHE_RECHECK_NEVER, default CACHE_RECHECK. */
void cache_set_recheck(struct cache *c, uint32_t seconds);

/* Starts and ends the keeper: the thread that evicts when the folder is over its limit, checks
 * whole blobs against their digest, and notices each second when a blob was dropped under us.
 * Without it all else works.  start: -EAGAIN. */
int cache_start(struct cache *c, struct err *e);
void cache_stop(struct cache *c);

/* All its blobs must be closed.  NULL is allowed. */
void cache_close(struct cache *c);

/* Opens a blob of an origin ("https://host:port/repo").  Where v1/sha256 has it, its chunks are
 * served from there, and what is missing there is filled in the origin's folder.  EBADMSG: the
 * cache knows the blob with another size.  Other errors: as cache_open. */
int cache_blob_open(struct cache *c, const char *origin, const char *digest, uint64_t size,
		    struct cache_blob **out, struct err *e);
void cache_blob_close(struct cache_blob *b);

/* Copies bytes from off on until n are copied or a chunk is not there; returns how many.  Checks a
 * chunk's CRC the first time this process uses that generation; a wrong one is dropped, and counted
 * in cache_blob_bad_chunks; the first one of a process with a log_warn. */
size_t cache_blob_read(struct cache_blob *b, void *buf, size_t n, uint64_t off);

/* Whether a chunk is there (it may be gone the next moment). */
bool cache_blob_has(const struct cache_blob *b, uint64_t chunk);

/* Stores a chunk; `bytes` holds all of it.  Returns 0 when it is there now (also when another
 * process was first), or -errno when it could not be kept: nothing for a reader to worry about. */
int cache_blob_publish(struct cache_blob *b, uint64_t chunk, const void *bytes);

/* These bytes were found wrong: discards the chunks that hold them. */
void cache_blob_drop(struct cache_blob *b, uint64_t off, uint64_t n);

/* Claims the right to fetch chunks [first, first + returned), at most `count`; 0 when another
 * process has claimed the first.  Claims exclude other processes only: inside this one the caller
 * keeps order.  `rank` 0 is the first fetcher, 1 the second, for who has waited for the first in
 * vain.  A claim ends with cache_blob_unclaim or with the process. */
uint64_t cache_blob_claim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank);
void cache_blob_unclaim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank);

/* The right to download the blob in the background, one holder a blob and host. */
bool cache_blob_claim_download(struct cache_blob *b);
void cache_blob_unclaim_download(struct cache_blob *b);

enum cache_state {
	CACHE_PARTIAL, /* chunks are missing, or all are there and nobody has checked them yet */
	CACHE_WHOLE, /* every chunk is there, and the whole has the digest */
	CACHE_WRONG, /* every chunk was there, and the whole had another digest: reads must fail.
		      * Ends when the blob has been fetched anew and is right, or when no process
		      * has it open any more. */
};
enum cache_state cache_blob_state(const struct cache_blob *b);

/* Whether it takes no chunks at the moment: the whole is being checked, and emptied if it is wrong.
 */
bool cache_blob_is_sealed(const struct cache_blob *b);

/* When every chunk is there: checks the whole against the digest now, in this thread.  0: it is
 * right and was moved to v1/sha256.  1: chunks are missing.  -EBADMSG: it was wrong and has been
 * dropped, the state is CACHE_WRONG.  -EAGAIN: another process is checking it.  -ECANCELED:
 * cache_stop or cache_blob_close came in between.  Others: it could not be read or moved. */
int cache_blob_verify(struct cache_blob *b, struct err *e);

/* Chunks that the cache's own CRC found wrong, so far, in this process. */
uint64_t cache_blob_bad_chunks(const struct cache_blob *b);

/* For who fills a blob as a whole: evicts what others have, least recently used first, until there
 * is room for what is missing of it.  From now on until it is closed it is evicted only when there
 * is nothing else.  -ENOSPC: it does not fit beside what is held. */
int cache_blob_hold(struct cache_blob *b, struct err *e);

/* Whether this process may fill now: not for a minute after a full disk or missing rights, and not
 * before the folder could be opened. */
bool cache_is_filling(const struct cache *c);

bool cache_blob_is_filling(const struct cache_blob *b); /* the same of its cache */

/* Whether the folder has a map of the blob: who made it knew its size. */
bool cache_blob_has_map(const struct cache_blob *b);

/* Small files beside the blobs: manifests by digest (`name` "sha256:..", checked when read) and
 * what a tag meant last.  `origin` NULL: shared by all origins.  Replaced as a whole.  get: -ENOENT
 * when there is none; the caller frees *out. */
int cache_put_document(struct cache *c, const char *origin, const char *name, const void *bytes,
		       size_t n, struct err *e);
int cache_get_document(struct cache *c, const char *origin, const char *name, char **out, size_t *n,
		       struct err *e);

#endif
