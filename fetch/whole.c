/* SPDX-License-Identifier: Apache-2.0 */
/* whole.c - see whole.h. */
#include "fetch/whole.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "fetch/flight.h"

enum { SOON = 4 * 1024 * 1024 }; /* bytes; or what the link gives in a second */

bool whole_may_hold(const struct blob *b)
{
	return !b->whole.of && b->source.size <= HELD_MAX;
}

/* ---- the cache's part ---- */

/* Notes that the exchange gave this chunk.  False: no memory, so it is not given. */
static bool note_run(struct whole *w, uint64_t chunk)
{
	struct whole_run *more;

	if (w->run_count > 0 &&
	    w->runs[w->run_count - 1].first + w->runs[w->run_count - 1].count == chunk) {
		w->runs[w->run_count - 1].count++;
		return true;
	}
	more = realloc(w->runs, (w->run_count + 1) * sizeof *more);
	if (!more)
		return false;
	w->runs = more;
	w->runs[w->run_count++] = (struct whole_run){ .first = chunk, .count = 1 };
	return true;
}

/* False: the cache does not take it. */
static bool publish(struct flight *f, uint64_t chunk, const uint8_t *bytes)
{
	struct blob *b = f->blob;

	if (flight_is_cached(b, chunk))
		return true;
	if (!note_run(&b->whole, chunk) || !flight_publish(f, chunk, bytes))
		return false;
	flight_wake_all(b);
	return true;
}

static void take_back(struct blob *b)
{
	size_t i;

	for (i = 0; i < b->whole.run_count; i++)
		cache_blob_drop(b->cache, b->whole.runs[i].first * CACHE_CHUNK,
				b->whole.runs[i].count * CACHE_CHUNK);
}

/* ---- passing by ---- */

static uint8_t *chunk_buffer(const struct whole *w, uint64_t chunk)
{
	return w->bytes + chunk % 2 * CACHE_CHUNK;
}

/* A chunk is given to the cache when the one behind it is there. */
static bool take_passing(struct flight *f, const uint8_t *buf, size_t n)
{
	struct whole *w = &f->blob->whole;

	while (n > 0) {
		uint64_t chunk = w->at / CACHE_CHUNK, skip = w->at % CACHE_CHUNK;
		size_t m = (size_t)min_u64(n, CACHE_CHUNK - skip);

		memcpy(chunk_buffer(w, chunk) + skip, buf, m);
		w->at += m;
		buf += m;
		n -= m;
		if (skip + m == CACHE_CHUNK && chunk > 0 &&
		    !publish(f, chunk - 1, chunk_buffer(w, chunk - 1)))
			return false;
	}
	return true;
}

/* The last chunk, and the one before it if that still waits. */
static void publish_last(struct flight *f)
{
	const struct whole *w = &f->blob->whole;
	uint64_t chunks = blob_chunks(f->blob), chunk;

	for (chunk = chunks > 2 ? chunks - 2 : 0; chunk < chunks; chunk++)
		if (!publish(f, chunk, chunk_buffer(w, chunk)))
			break;
}

/* ---- both ---- */

/* Without `of` when it cannot be taken. */
static void begin(struct flight *f)
{
	struct blob *b = f->blob;
	struct request *q = &f->request;
	struct whole *w = &b->whole;
	size_t size = q->held ? (size_t)b->source.size : (size_t)2 * CACHE_CHUNK;

	if (w->of || (!q->held && !b->cache))
		return;
	*w = (struct whole){ .held = q->held };
	if (q->held && digest_open_like(b->digest, &w->sum, NULL) < 0)
		return;
	w->bytes = malloc(size);
	w->of = q;
	if (!w->bytes)
		whole_end(f);
}

bool whole_take(struct flight *f, uint64_t off, const uint8_t *buf, size_t n)
{
	struct whole *w = &f->blob->whole;

	if (off == 0)
		begin(f);
	if (w->of != &f->request || w->refused)
		return false;
	if (!w->held) {
		w->refused = !take_passing(f, buf, n);
		return !w->refused;
	}
	memcpy(w->bytes + w->at, buf, n); /* request.c has cut it to the blob's size */
	w->at += n;
	return digest_update(&w->sum, buf, n, NULL) == 0;
}

static int judge_held(struct flight *f, struct err *e)
{
	struct blob *b = f->blob;
	struct whole *w = &b->whole;
	char digest[DIGEST_ANY_TEXT];
	uint64_t chunk;
	int r = digest_finish_any(&w->sum, digest, e);

	if (r < 0)
		return r;
	if (strcmp(digest, b->digest) != 0)
		return err_set(e, EPROTO,
			       "HTTP 200, and what came is not the blob: it has the digest "
			       "%s",
			       digest);
	for (chunk = 0; b->cache && chunk < blob_chunks(b); chunk++)
		if (!publish(f, chunk, w->bytes + chunk * CACHE_CHUNK))
			break;
	return 0;
}

int whole_judge(struct flight *f, int r, struct err *e)
{
	struct blob *b = f->blob;
	struct whole *w = &b->whole;

	if (w->of != &f->request)
		return 0;
	if (r < 0)
		take_back(b);
	else if (w->held)
		return judge_held(f, e);
	else if (w->at == b->source.size && !w->refused)
		publish_last(f);
	return 0;
}

const uint8_t *whole_held(const struct blob *b)
{
	return b->whole.bytes;
}

void whole_end(struct flight *f)
{
	struct whole *w = &f->blob->whole;

	if (w->of != &f->request)
		return;
	if (w->held)
		digest_close(&w->sum);
	free(w->bytes);
	free(w->runs);
	*w = (struct whole){ 0 };
}

bool whole_passes_soon(const struct blob *b, uint64_t off)
{
	const struct whole *w = &b->whole;
	struct link_facts link;

	if (!w->of || w->refused || off < w->at)
		return false;
	queue_link(b->queue, &link);
	return off - w->at <= max_u64(SOON, link.bandwidth);
}
