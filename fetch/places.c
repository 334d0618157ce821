/* SPDX-License-Identifier: Apache-2.0 */
/* places.c - see places.h. */
#include "fetch/places.h"

#include "core/base/clock.h"
#include "core/base/le.h"
#include "fetch/queue.h"

enum { AVOID_MAX = 10 * 1000 }; /* ms that other endpoints are waited for */

static uint64_t deadline_of(const struct request *q)
{
	return atomic_load_explicit(&q->deadline, memory_order_relaxed);
}

/* Until when an endpoint is to be left alone because it said so.  One that asks for more time than
 * the request has is tried all the same: waiting would be no better than an error. */
static uint64_t asked_until(const struct request *q, const struct endpoint *p)
{
	return p->asked_until < min_u64(q->retry_until, deadline_of(q)) ? p->asked_until : 0;
}

/* The same for a login that was refused or failed a moment ago. */
static uint64_t login_until(const struct request *q, const struct endpoint *p)
{
	uint64_t until = p->auth ? auth_rests_until(p->auth) : 0;

	return until < min_u64(q->retry_until, deadline_of(q)) ? until : 0;
}

/* Whether some endpoint is neither final nor one to avoid. */
static bool has_better(const struct request *q)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!((q->final | q->avoid) & 1u << i) && !list->items[i].unused)
			return true;
	return false;
}

/* Until when another endpoint than those to avoid is waited for: half of the time that there is. */
static uint64_t avoid_until(struct request *q, uint64_t now)
{
	uint64_t end = min_u64(deadline_of(q), q->retry_until);

	if (q->avoid_until == 0)
		q->avoid_until = end > now ? now + min_u64((end - now) / 2, AVOID_MAX) : now;
	return q->avoid_until;
}

uint64_t places_first_worth_asking(struct request *q, uint64_t now)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	bool better = has_better(q);
	uint64_t first = CLOCK_NEVER, from;
	size_t i;

	for (i = 0; i < list->count; i++) {
		if (q->final & 1u << i || list->items[i].unused)
			continue;
		from = max_u64(asked_until(q, &list->items[i]), login_until(q, &list->items[i]));
		if (better && q->avoid & 1u << i)
			from = max_u64(from, avoid_until(q, now));
		first = min_u64(first, from);
	}
	return first;
}

bool places_has_others(const struct request *q)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	size_t i;

	for (i = 0; i < list->count; i++)
		if (i != q->place && !(q->final & 1u << i) && !list->items[i].unused)
			return true;
	return false;
}

static int first_usable(const struct request *q, uint32_t without)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	uint64_t now = clock_ms();
	size_t i;

	for (i = 0; i < list->count; i++) {
		const struct endpoint *p = &list->items[i];

		if ((q->failed | q->final | without) & 1u << i || p->unused)
			continue;
		if (asked_until(q, p) <= now && (q->desperate || p->bad_until <= now))
			return (int)i;
	}
	return -1;
}

int places_choose(struct request *q)
{
	int place = first_usable(q, q->avoid);

	if (place >= 0 || !q->avoid || (has_better(q) && clock_ms() < avoid_until(q, clock_ms())))
		return place;
	if (q->rather < ENDPOINTS_MAX)
		place = first_usable(q, ~(1u << q->rather));
	if (place < 0)
		place = first_usable(q, q->worst);
	return place >= 0 ? place : first_usable(q, 0);
}

bool places_all_are_final(const struct request *q)
{
	const struct endpoint_list *list = queue_endpoints(q->queue);
	size_t i;

	for (i = 0; i < list->count; i++)
		if (!(q->final & 1u << i) && !list->items[i].unused)
			return false;
	return true;
}

unsigned places_silence(const struct request *q)
{
	uint64_t now = clock_ms(), end = min_u64(deadline_of(q), q->retry_until);
	uint64_t most = q->silence ? q->silence : HTTP_SILENCE, half;

	if (end == CLOCK_NEVER || end <= now || q->body || !places_has_others(q))
		return (unsigned)most;
	half = (end - now) / 2000;
	return (unsigned)max_u64(min_u64(half, most), 1);
}
