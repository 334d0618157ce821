/* SPDX-License-Identifier: Apache-2.0 */
/* flight.h - the inside of a blob, for blob.c, flight.c and mending.c: its fetches under way.
 *
 * A flight is a run of chunks that is being fetched by one request.  Invariants:
 *
 * (1) `lock` guards the list, and of each flight what is marked (L).  No I/O happens under it, but
 *     for claims, which are locks themselves, and for a drop.
 * (2) Flights in the list do not overlap.  A chunk that is in one is not asked for again.
 * (3) The bytes of a `flight_bytes` below the flight's `arrived` never change; who holds a
 *     reference may read them without the lock.  Only the engine's thread writes.
 * (4) A flight that is done stays in the list as long as its bytes are nowhere else (`kept`), the
 *     oldest leaving when there are more than KEPT_BYTES of them.
 * (5) What an exchange gave stands once it is judged (`proven`).  While it runs, readers see its
 *     bytes HELD_BACK bytes after they came: a server that breaks off writes what it has to say
 *     about that behind them.  When it fails, `arrived` goes back to `proven`, in other bytes if
 *     readers hold these (3), and what the cache was given of it is dropped there.
 * (6) Before readers or the cache get bytes of an exchange, `given` says which endpoint they are
 *     of; the newest entry counts.  Whoever finds bytes wrong blames the one that they came from.
 */
#ifndef OVERLAYBD_FETCH_FLIGHT_H
#define OVERLAYBD_FETCH_FLIGHT_H

#include <pthread.h>

#include "core/base/clock.h"
#include "core/base/source.h"
#include "fetch/blob.h"
#include "fetch/mending.h"
#include "fetch/readahead.h"
#include "fetch/readaround.h"
#include "fetch/whole.h"

enum {
	FLIGHT_CHUNKS = 256, /* at most; 4 MiB */
	KEPT_BYTES = 8 * 1024 * 1024, /* a blob */
	HELD_BACK = CACHE_CHUNK, /* bytes, of an answer that has not ended */
	GIVEN = 256, /* parts whose endpoints are remembered; a blob */
	SUSPECTS = 64, /* chunks that were wrong; a blob */
	DROPPED = 64, /* drops that are remembered; a blob */
	HINTS_MAX = 65536, /* a blob; more are ignored, for clients may send any number */
};

struct flight_bytes {
	unsigned refs; /* (L) the flight, each reader that copies */
	uint8_t data[];
};

struct flight {
	struct request request;
	struct blob *blob;
	struct flight *next; /* (L) in the list */
	uint64_t first, count; /* chunks (L until `started`, then fixed) */
	unsigned rank; /* of its claim, CLAIM_NONE: it has none */
	unsigned refs; /* (L) the list, the request, each reader */
	bool listed; /* (L) */
	bool unasked; /* it was made for a hint, not for a reader */
	bool low; /* (L) nobody waits for it */
	bool started; /* (L) the range is fixed */
	bool done; /* (L) */
	bool kept; /* (L) it is done, and bytes of it are nowhere else */
	int r; /* (L) how it ended */
	struct err why; /* (L) */
	struct flight_bytes *bytes; /* (L) allocated when it starts; the engine's thread sets it */
	uint64_t arrived; /* (L) bytes from its beginning that readers may take */
	uint64_t received; /* bytes that came, in this exchange or before; the engine's */
	uint64_t proven; /* bytes of exchanges that ended well; the engine's */
	unsigned taken_back; /* (L) how often `arrived` went back */
	uint32_t places; /* (L) endpoints that gave some of it, as bits */
	uint32_t proven_places; /* (L) those of `proven` bytes alone */
	bool noted; /* (L) who gives the bytes of this exchange stands in `given` */
	bool dropped; /* (L) bytes of it were found wrong: none goes to the cache any more */
	unsigned drops; /* (L) the blob's count of drops when the exchange gave its first byte */
	uint64_t awaited; /* (L) when so many have, some reader goes on; UINT64_MAX: none waits */
	pthread_cond_t moved; /* `awaited` is reached, or it ended, or lost its place in the list */
	uint64_t published; /* bytes that were offered to the cache; the engine's */
	bool refused; /* the cache did not take all of them; the engine's */
	struct hint *hint; /* that it was made for, NULL: none */
	struct http_call promote;
};

enum { CLAIM_NONE = 2 };

/* A range that is to be fetched at low priority. */
struct hint {
	struct feeder feeder; /* first member */
	struct blob *blob;
	uint64_t next, end; /* chunks; the engine's */
	unsigned flights; /* (L) under way */
	bool exhausted; /* (L) it makes no more */
	bool awaited; /* blob_fill waits for it and frees it */
	unsigned rank; /* as which fetcher its flights claim; CLAIM_NONE: without */
	bool skipped; /* (L) some was not asked for: another process had claimed it, no memory */
	bool unkept; /* (L) the cache did not take all that came */
	int r; /* (L) the first failure */
	struct err why;
};

struct chunk_range {
	uint64_t first, end;
};

/* Chunks [first, end) that endpoints gave, or gave wrong. */
struct origin {
	uint64_t first, end;
	uint32_t places; /* as bits */
	bool sure; /* a wrong one: it was this endpoint, not one of these or a guess */
};

struct blob {
	struct source source; /* first member */
	struct queue *queue;
	struct cache_blob *cache; /* NULL: none */
	_Atomic uint64_t passed_until; /* ms: the cache is passed over, for it gives errors; 0 */
	struct stats *stats;
	char *digest, *path;
	unsigned timeout;
	_Atomic uint64_t retry_until;
	struct request_targets targets; /* the engine's */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a hint ended, a chunk was given to the cache */
	struct flight *flights; /* (L) */
	uint64_t kept_bytes; /* (L) */
	unsigned refs; /* (L) the source, each flight, each hint */
	unsigned hints; /* (L) that may make more flights */
	struct readahead ahead; /* (L) */
	struct readaround around; /* (L) */
	struct origin given[GIVEN], suspects[SUSPECTS]; /* (L) rings */
	unsigned given_next, suspects_next; /* (L) */
	struct chunk_range dropped[DROPPED]; /* (L) a ring: the last that were found wrong */
	atomic_uint drops; /* how many were; changes under the lock */
	bool publishing; /* (L) the engine gives a chunk to the cache */
	bool confirmed; /* (L) somebody else than the manifest says how large the blob is */

	struct mending mending; /* (L) */
	struct whole whole; /* the engine's */
};

static inline uint64_t blob_chunks(const struct blob *b)
{
	return (b->source.size + CACHE_CHUNK - 1) / CACHE_CHUNK;
}

static inline uint64_t flight_start(const struct flight *f)
{
	return f->first * CACHE_CHUNK;
}

/* Whether there is a cache that can be used now. */
static inline bool flight_has_cache(const struct blob *b)
{
	uint64_t until = atomic_load_explicit(&b->passed_until, memory_order_relaxed);

	return b->cache && (until == 0 || clock_ms() >= until);
}

/* Whether what is fetched now is kept.  If not, no more should be fetched than is sure to be read
 * before it is forgotten. */
static inline bool flight_is_kept(const struct blob *b)
{
	return b->cache && cache_blob_is_filling(b->cache);
}

/* Whether the chunk can be had from the cache (it may be gone the next moment). */
static inline bool flight_is_cached(const struct blob *b, uint64_t chunk)
{
	return flight_has_cache(b) && cache_blob_has(b->cache, chunk);
}

/* Bytes of it. */
uint64_t flight_size(const struct flight *f);

/* The listed flight that has the chunk, or NULL. */
struct flight *flight_find_locked(const struct blob *b, uint64_t chunk);

/* Whether some chunk of [first, end) is neither in the cache nor in a flight. */
bool flight_is_missing_locked(const struct blob *b, uint64_t first, uint64_t end);

/* Makes flights, or lengthens one that has not started, for what neither the cache nor a flight has
 * of [first, end), as far as other processes have not claimed it, and appends them to `*made`
 * (linked by request.next) for the caller to submit without the lock.  `rank` as in
 * cache_blob_claim, or CLAIM_NONE.  Returns 0; 1 when the chunk `first` itself is claimed by
 * another process; -ENOMEM. */
int flight_make_locked(struct blob *b, uint64_t first, uint64_t end, unsigned rank,
		       enum request_priority priority, struct request **made);

/* Submits what flight_make_locked has made. */
void flight_submit(struct request *made);

/* Somebody waits for it now: one at low priority becomes a demand. */
void flight_promote_locked(struct flight *f);

/* Takes it out of the list: nobody finds it any more. */
void flight_unlist_locked(struct flight *f);

/* Nobody finds those again whose bytes are nowhere else. */
void flight_forget_kept_locked(struct blob *b);

/* A reader's hold on the bytes, see (3). */
struct flight_bytes *flight_hold_locked(struct flight *f);
void flight_let_go_locked(struct flight_bytes *bytes);

/* The endpoint that gave a chunk last, as a bit; 0: not known. */
uint32_t flight_giver_locked(const struct blob *b, uint64_t chunk);

/* A chunk of these endpoints was found wrong: avoids them when it is asked for again.  `sure`: it
 * is one, and it gave the chunk. */
void flight_blame_locked(struct blob *b, uint64_t chunk, uint32_t places, bool sure);

/* Those who gave some of it since the last call, as bits, and who was the first of them; none is
 * known any more. */
uint32_t flight_forget_givers_locked(struct blob *b, uint32_t *first);

/* Whether all chunks of [first, end) were found wrong together since the count of drops was
 * `since`. */
bool flight_was_dropped_locked(const struct blob *b, uint64_t first, uint64_t end, unsigned since);

/* Gives a chunk that came with the flight's exchange to the cache.  False: it does not take it, or
 * the chunk was found wrong meanwhile.  The engine's. */
bool flight_publish(struct flight *f, uint64_t chunk, const uint8_t *bytes);

/* What all flights wait for may be in the cache now. */
void flight_wake_all(struct blob *b);

/* Waits, up to a time of clock_ms, until `bytes` have arrived, or something else happened to it. */
void flight_await_locked(struct flight *f, uint64_t bytes, uint64_t until);

void flight_ref_locked(struct flight *f);
void flight_unref_locked(struct flight *f);

/* Discards what flights hold of [off, off + n): nobody reads it again. */
void flight_drop_locked(struct blob *b, uint64_t off, uint64_t n);

/* A hint over [off, off + n) for queue_feed, without the lock; it frees itself in the end, unless
 * `awaited` was set.  NULL: no memory, or HINTS_MAX. */
struct hint *hint_make_locked(struct blob *b, uint64_t off, uint64_t n,
			      enum request_priority priority);

/* Gives a reference back; frees the blob with the last. */
void blob_unref(struct blob *b);

#endif
