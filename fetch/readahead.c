/* SPDX-License-Identifier: Apache-2.0 */
/* readahead.c - see readahead.h. */
#include "fetch/readahead.h"

#include "core/base/le.h"

enum {
	STREAM_MISSES = 3,
	USED_DIVISOR = 4, /* of a window, which must be read before there is more */
	STRIKES = 8, /* chances to have read that; then it is no reader */
};

static bool follows(const struct readahead_stream *s, uint64_t first)
{
	return first + 1 >= s->next && first <= s->next; /* it may begin in the last one's end */
}

/* A reader may come out of order, or leave out what upper layers hide; and as reads that need
 * nothing are not seen, it may be anywhere up to `ahead` by now. */
static bool goes_on(const struct readahead_stream *s, uint64_t first)
{
	uint64_t slack = s->established ? s->window : 2 * s->window;

	return s->window > 0 && first + slack >= s->next &&
	       first <= max_u64(s->next, s->ahead) + slack;
}

/* An established one, if there is one: reads that began it out of order have left others there. */
static struct readahead_stream *find(struct readahead *ra, uint64_t first)
{
	struct readahead_stream *found = NULL;
	size_t i;

	for (i = 0; i < READAHEAD_STREAMS; i++)
		if (goes_on(&ra->streams[i], first) && (!found || ra->streams[i].established))
			found = &ra->streams[i];
	return found;
}

/* An established one is seen only now and then, and outlives many that may never be. */
static uint64_t keep_until(const struct readahead_stream *s)
{
	return s->used + (s->established ? 8 * READAHEAD_STREAMS : 0);
}

static struct readahead_stream *replace_oldest(struct readahead *ra)
{
	struct readahead_stream *oldest = &ra->streams[0];
	size_t i;

	for (i = 1; i < READAHEAD_STREAMS; i++)
		if (keep_until(&ra->streams[i]) < keep_until(oldest))
			oldest = &ra->streams[i];
	return oldest;
}

static void set_zone(struct readahead *ra, const struct readahead_stream *s, uint64_t from)
{
	size_t i = (size_t)(s - ra->streams);
	struct readahead_zone *z = &ra->zones[i];
	uint32_t zoned = atomic_load_explicit(&ra->zoned, memory_order_relaxed);

	zoned = s->established ? zoned | 1u << i : zoned & ~(1u << i);
	atomic_store_explicit(&z->from, from, memory_order_relaxed);
	atomic_store_explicit(&z->to, s->established ? s->ahead : 0, memory_order_relaxed);
	atomic_store_explicit(&z->due, s->ahead - s->window / 2, memory_order_relaxed);
	atomic_store_explicit(&z->used, 0, memory_order_relaxed);
	atomic_store_explicit(&ra->zoned, zoned, memory_order_relaxed);
}

bool readahead_note_zones(struct readahead *ra, uint32_t zoned, uint64_t first, uint64_t end)
{
	bool due = false;
	size_t i;

	for (i = 0; zoned != 0; i++, zoned >>= 1) {
		struct readahead_zone *z = &ra->zones[i];
		uint64_t from = atomic_load_explicit(&z->from, memory_order_relaxed);
		uint64_t to = atomic_load_explicit(&z->to, memory_order_relaxed);
		uint64_t at = atomic_load_explicit(&z->due, memory_order_relaxed);

		if ((zoned & 1) == 0 || to == 0)
			continue;
		if (first < to && end > from)
			atomic_fetch_add_explicit(&z->used, min_u64(end, to) - max_u64(first, from),
						  memory_order_relaxed);
		due = due || (end > at && first <= at + READAHEAD_MAX);
	}
	return due;
}

/* Whether a reader has read some of what was fetched ahead for it; counts that.  One that has not
 * may be about to, out of order, but not for ever. */
static bool is_proven(struct readahead *ra, struct readahead_stream *s)
{
	struct readahead_zone *z = &ra->zones[s - ra->streams];
	uint64_t used = atomic_load_explicit(&z->used, memory_order_relaxed);

	if (used < s->window / USED_DIVISOR) {
		s->strikes++;
		return false;
	}
	s->seen += used;
	s->strikes = 0;
	return true;
}

/* No window is longer than twice what its reader was seen to read: else reads that are a stream's
 * by chance would soon make it catch all others. */
static void grow(struct readahead_stream *s, uint64_t factor)
{
	s->window = min_u64(min_u64(factor * s->window, 2 * s->seen), READAHEAD_MAX);
}

/* Two that follow each other may do so by chance, which must not cost much; three that are close
 * hardly do. */
static void join(struct readahead_stream *s, uint64_t first, uint64_t end, uint64_t least,
		 bool proven)
{
	s->misses++;
	s->established = s->established || s->misses >= STREAM_MISSES || follows(s, first);
	s->seen += end - first;
	s->next = max_u64(s->next, end);
	if (s->misses >= STREAM_MISSES && proven)
		grow(s, 4);
	s->ahead = max_u64(max_u64(s->ahead, least), s->established ? end + s->window : end);
}

static void begin(struct readahead_stream *s, uint64_t first, uint64_t end, uint64_t ahead)
{
	*s = (struct readahead_stream){
		.next = end,
		.ahead = ahead,
		.window = min_u64(end - first, READAHEAD_MAX),
		.misses = 1,
		.seen = end - first,
	};
}

uint64_t readahead_miss(struct readahead *ra, uint64_t first, uint64_t end, uint64_t least)
{
	struct readahead_stream *s = find(ra, first);
	bool proven = !s || !s->established || is_proven(ra, s);

	if (s && s->strikes < STRIKES) {
		join(s, first, end, least, proven);
	} else {
		s = s ? s : replace_oldest(ra);
		begin(s, first, end, least);
	}
	s->used = ++ra->clock;
	set_zone(ra, s, end);
	return max_u64(least, s->established ? end + s->window : end);
}

uint64_t readahead_hit(struct readahead *ra, uint64_t first, uint64_t end, uint64_t *from)
{
	struct readahead_stream *s = find(ra, first);

	if (!s || !s->established)
		return 0;
	s->used = ++ra->clock;
	s->next = max_u64(s->next, end);
	if (s->next + s->window / 2 < s->ahead)
		return 0;
	if (!is_proven(ra, s)) {
		if (s->strikes >= STRIKES) {
			begin(s, first, end, end);
			set_zone(ra, s, end);
		}
		return 0;
	}
	*from = max_u64(s->ahead, s->next);
	grow(s, 2);
	s->ahead = *from + s->window;
	set_zone(ra, s, *from - s->window / 2);
	return s->ahead;
}
