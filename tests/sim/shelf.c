/* SPDX-License-Identifier: Apache-2.0 */
/* shelf.c - see shelf.h. */
#include "tests/sim/shelf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "tests/sim/fibers.h"
#include "tests/sim/rival.h"

struct shelf shelf;

static unsigned chunks_of(const struct shelf_blob *b)
{
	return (unsigned)((b->truth->size + CACHE_CHUNK - 1) / CACHE_CHUNK);
}

static size_t size_of(const struct shelf_blob *b, uint64_t chunk)
{
	return (size_t)min_u64(CACHE_CHUNK, b->truth->size - chunk * CACHE_CHUNK);
}

static bool is_right(const struct shelf_blob *b, uint64_t chunk)
{
	return memcmp(b->bytes + chunk * CACHE_CHUNK, b->truth->bytes + chunk * CACHE_CHUNK,
		      size_of(b, chunk)) == 0;
}

bool shelf_is_whole(const struct shelf_blob *b)
{
	unsigned i;

	for (i = 0; i < chunks_of(b); i++)
		if (!b->present[i])
			return false;
	return true;
}

void shelf_reset(void)
{
	unsigned i;

	for (i = 0; i < NET_BLOBS; i++) {
		uint8_t *bytes = shelf.blobs[i].bytes;

		if (!bytes)
			bytes = malloc(SHELF_CHUNKS * CACHE_CHUNK);
		shelf.blobs[i] = (struct shelf_blob){ .bytes = bytes, .truth = &net.blobs[i] };
	}
	shelf.full = shelf.others = false;
}

struct cache *shelf_cache(void)
{
	return (struct cache *)&shelf;
}

void shelf_check_closed(void)
{
	unsigned i, c, r;

	for (i = 0; i < net.blob_count; i++) {
		if (shelf.blobs[i].open > 0)
			fibers_fail("(6) a blob of the cache was left open");
		for (c = 0; c < SHELF_CHUNKS; c++)
			for (r = 0; r < SHELF_RANKS; r++)
				if (shelf.blobs[i].ours[c][r])
					fibers_fail("(6) a claim was left behind");
	}
}

/* ---- other processes, and the keeper ---- */

static void put(struct shelf_blob *b, uint64_t chunk)
{
	memcpy(b->bytes + chunk * CACHE_CHUNK, b->truth->bytes + chunk * CACHE_CHUNK,
	       size_of(b, chunk));
	b->present[chunk] = true;
	b->rotten[chunk] = false;
}

/* What comes in its place has yet to be judged, see cache_map.c, (6). */
static void take_out(struct shelf_blob *b, uint64_t chunk)
{
	b->present[chunk] = b->rotten[chunk] = false;
	if (b->state == CACHE_WHOLE)
		b->state = CACHE_PARTIAL;
}

static void end_their_claims(struct shelf_blob *b)
{
	unsigned c;

	for (c = 0; c < SHELF_CHUNKS; c++)
		b->theirs[c][0] = b->theirs[c][1] = false;
}

static void claim_theirs(struct shelf_blob *b)
{
	unsigned first = fibers_below(chunks_of(b)), rank = fibers_below(SHELF_RANKS);
	unsigned end = first + 1 + fibers_below(chunks_of(b) - first), c;

	fibers_trace("another process claims chunks %u-%u, rank %u", first, end - 1, rank);
	for (c = first; c < end && !b->ours[c][rank]; c++)
		b->theirs[c][rank] = true;
}

/* They fetch some of what they have claimed, and give the claims back, or die. */
static void settle_theirs(struct shelf_blob *b, bool publish)
{
	unsigned from = publish ? fibers_below(chunks_of(b)) : 0, c, r;

	fibers_trace("another process %s from chunk %u on", publish ? "publishes" : "dies", from);
	for (c = from; c < chunks_of(b); c++)
		for (r = 0; r < SHELF_RANKS; r++) {
			if (publish && b->theirs[c][r] && !fibers_one_in(3) && !b->sealed)
				put(b, c);
			b->theirs[c][r] = false;
		}
}

void shelf_disturb(void)
{
	struct shelf_blob *b = &shelf.blobs[fibers_below(net.blob_count)];
	unsigned c = fibers_below(chunks_of(b));

	switch (fibers_below(8)) {
	case 0:
	case 1:
		claim_theirs(b);
		break;
	case 2:
	case 3:
		settle_theirs(b, true);
		break;
	case 4:
		settle_theirs(b, fibers_one_in(2));
		break;
	case 5:
		fibers_trace("chunk %u is evicted", c);
		take_out(b, c);
		break;
	case 6:
		if (b->present[c] && fibers_one_in(4))
			b->rotten[c] = true;
		break;
	default:
		shelf.full = !shelf.full;
		break;
	}
}

void shelf_calm(void)
{
	unsigned i;

	for (i = 0; i < net.blob_count; i++)
		end_their_claims(&shelf.blobs[i]);
	shelf.others = shelf.full = false;
}

/* In two steps, so that reads come in between. */
void shelf_judge(void)
{
	struct shelf_blob *b = &shelf.blobs[fibers_below(net.blob_count)];
	unsigned c;

	if (!shelf_is_whole(b))
		b->sealed = false; /* a chunk has gone meanwhile */
	if (!shelf_is_whole(b) || (b->state == CACHE_WHOLE && !b->sealed))
		return;
	if (!b->sealed) {
		b->sealed = true;
		return;
	}
	b->sealed = false;
	b->verdicts++;
	b->state = CACHE_WHOLE;
	for (c = 0; c < chunks_of(b); c++)
		if (!is_right(b, c))
			b->state = CACHE_WRONG;
	fibers_trace("the whole is judged: %s", b->state == CACHE_WRONG ? "wrong" : "right");
	if (b->state == CACHE_WRONG)
		memset(b->present, 0, sizeof b->present);
}

/* ---- fetch/cache.h ---- */

int __wrap_cache_blob_open(struct cache *c, const char *origin, const char *digest, uint64_t size,
			   struct cache_blob **out, struct err *e);
void __wrap_cache_blob_close(struct cache_blob *b);
size_t __wrap_cache_blob_read(struct cache_blob *b, void *buf, size_t n, uint64_t off);
bool __wrap_cache_blob_has(const struct cache_blob *b, uint64_t chunk);
int __wrap_cache_blob_publish(struct cache_blob *b, uint64_t chunk, const void *bytes);
void __wrap_cache_blob_drop(struct cache_blob *b, uint64_t off, uint64_t n);
uint64_t __wrap_cache_blob_claim(struct cache_blob *b, uint64_t first, uint64_t count,
				 unsigned rank);
void __wrap_cache_blob_unclaim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank);
enum cache_state __wrap_cache_blob_state(const struct cache_blob *b);
bool __wrap_cache_blob_is_sealed(const struct cache_blob *b);
bool __wrap_cache_blob_is_filling(const struct cache_blob *b);
bool __wrap_cache_blob_has_map(const struct cache_blob *b);
uint64_t __wrap_cache_blob_bad_chunks(const struct cache_blob *b);

int __real_cache_blob_open(struct cache *c, const char *origin, const char *digest, uint64_t size,
			   struct cache_blob **out, struct err *e);
void __real_cache_blob_close(struct cache_blob *b);
size_t __real_cache_blob_read(struct cache_blob *b, void *buf, size_t n, uint64_t off);
bool __real_cache_blob_has(const struct cache_blob *b, uint64_t chunk);
int __real_cache_blob_publish(struct cache_blob *b, uint64_t chunk, const void *bytes);
void __real_cache_blob_drop(struct cache_blob *b, uint64_t off, uint64_t n);
uint64_t __real_cache_blob_claim(struct cache_blob *b, uint64_t first, uint64_t count,
				 unsigned rank);
void __real_cache_blob_unclaim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank);
enum cache_state __real_cache_blob_state(const struct cache_blob *b);
bool __real_cache_blob_is_sealed(const struct cache_blob *b);
bool __real_cache_blob_is_filling(const struct cache_blob *b);
bool __real_cache_blob_has_map(const struct cache_blob *b);
uint64_t __real_cache_blob_bad_chunks(const struct cache_blob *b);

/* A blob of the real cache goes there. */
static bool is_ours(const struct cache_blob *b)
{
	const struct shelf_blob *s = (const struct shelf_blob *)b;

	return s >= shelf.blobs && s < shelf.blobs + NET_BLOBS;
}

static struct shelf_blob *blob(struct cache_blob *b)
{
	return (struct shelf_blob *)b;
}

static const struct shelf_blob *seen(const struct cache_blob *b)
{
	return (const struct shelf_blob *)b;
}

int __wrap_cache_blob_open(struct cache *c, const char *origin, const char *digest, uint64_t size,
			   struct cache_blob **out, struct err *e)
{
	unsigned i = 0;
	int r;

	if (c != shelf_cache()) {
		r = __real_cache_blob_open(c, origin, digest, size, out, e);
		if (r == 0)
			rival_note_open(*out, digest);
		return r;
	}
	while (strcmp(net.blobs[i].digest, digest) != 0)
		i++;
	shelf.blobs[i].open++;
	*out = (struct cache_blob *)&shelf.blobs[i];
	return 0;
}

void __wrap_cache_blob_close(struct cache_blob *b)
{
	if (b && is_ours(b))
		blob(b)->open--;
	else
		__real_cache_blob_close(b);
}

size_t __wrap_cache_blob_read(struct cache_blob *b, void *buf, size_t n, uint64_t off)
{
	struct shelf_blob *s = blob(b);
	size_t done = 0;

	if (!is_ours(b))
		return __real_cache_blob_read(b, buf, n, off);
	while (done < n) {
		uint64_t at = off + done, chunk = at / CACHE_CHUNK;
		size_t m = (size_t)min_u64(n - done, (chunk + 1) * CACHE_CHUNK - at);

		if (!s->present[chunk] || s->rotten[chunk])
			break;
		memcpy((uint8_t *)buf + done, s->bytes + at, m);
		done += m;
	}
	return done;
}

bool __wrap_cache_blob_has(const struct cache_blob *b, uint64_t chunk)
{
	return is_ours(b) ? seen(b)->present[chunk] : __real_cache_blob_has(b, chunk);
}

/* (3) What is published is right, unless somebody has lied. */
int __wrap_cache_blob_publish(struct cache_blob *b, uint64_t chunk, const void *bytes)
{
	struct shelf_blob *s = blob(b);
	size_t n;

	if (!is_ours(b)) {
		rival_judge(b, chunk, bytes);
		return __real_cache_blob_publish(b, chunk, bytes);
	}
	n = size_of(s, chunk);
	if (!net.lied && memcmp(bytes, s->truth->bytes + chunk * CACHE_CHUNK, n) != 0)
		fibers_fail("(3) wrong bytes are published to the cache");
	if (shelf.full)
		return -ENOSPC;
	if (s->sealed)
		return -EBUSY;
	if (!s->present[chunk])
		memcpy(s->bytes + chunk * CACHE_CHUNK, bytes, n);
	s->present[chunk] = true;
	return 0;
}

void __wrap_cache_blob_drop(struct cache_blob *b, uint64_t off, uint64_t n)
{
	struct shelf_blob *s = blob(b);
	uint64_t chunk;

	if (!is_ours(b)) {
		__real_cache_blob_drop(b, off, n);
		return;
	}
	for (chunk = off / CACHE_CHUNK; chunk * CACHE_CHUNK < off + n; chunk++)
		take_out(s, chunk);
}

uint64_t __wrap_cache_blob_claim(struct cache_blob *b, uint64_t first, uint64_t count,
				 unsigned rank)
{
	struct shelf_blob *s = blob(b);
	uint64_t n = 0;

	if (!is_ours(b))
		return __real_cache_blob_claim(b, first, count, rank);
	while (n < count && !s->theirs[first + n][rank])
		s->ours[first + n++][rank] = true;
	return n;
}

void __wrap_cache_blob_unclaim(struct cache_blob *b, uint64_t first, uint64_t count, unsigned rank)
{
	uint64_t i;

	if (!is_ours(b)) {
		__real_cache_blob_unclaim(b, first, count, rank);
		return;
	}
	for (i = first; i < first + count; i++)
		blob(b)->ours[i][rank] = false;
}

enum cache_state __wrap_cache_blob_state(const struct cache_blob *b)
{
	return is_ours(b) ? seen(b)->state : __real_cache_blob_state(b);
}

bool __wrap_cache_blob_is_sealed(const struct cache_blob *b)
{
	return is_ours(b) ? seen(b)->sealed : __real_cache_blob_is_sealed(b);
}

uint64_t __wrap_cache_blob_bad_chunks(const struct cache_blob *b)
{
	return is_ours(b) ? 0 : __real_cache_blob_bad_chunks(b);
}

bool __wrap_cache_blob_is_filling(const struct cache_blob *b)
{
	return is_ours(b) ? !shelf.full : __real_cache_blob_is_filling(b);
}

/* As one whose size nobody has told yet. */
bool __wrap_cache_blob_has_map(const struct cache_blob *b)
{
	return is_ours(b) ? false : __real_cache_blob_has_map(b);
}
