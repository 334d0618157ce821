/* SPDX-License-Identifier: Apache-2.0 */
/* upper_claims.c - see upper_claims.h.  There are as many claims as requests in flight: a list is
 * searched. */
#include "core/upper_claims.h"

#include <stdbool.h>
#include <stddef.h>

#include "core/base/scope.h"

void upper_claims_init(struct upper_claims *c)
{
	*c = (struct upper_claims){ 0 };
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->released, NULL);
}

void upper_claims_release(struct upper_claims *c)
{
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->released);
}

static bool must_wait(const struct upper_claim *claim)
{
	const struct upper_claim *other;

	for (other = claim->older; other; other = other->older)
		if (other->start < claim->end && claim->start < other->end)
			return true;
	return false;
}

void upper_claims_take(struct upper_claims *c, struct upper_claim *claim, uint64_t start,
		       uint64_t end)
{
	WITH_LOCK(&c->lock);

	*claim = (struct upper_claim){ .start = start, .end = end, .older = c->newest };
	if (c->newest)
		c->newest->newer = claim;
	c->newest = claim;
	while (must_wait(claim)) {
		c->waiting++;
		pthread_cond_wait(&c->released, &c->lock);
		c->waiting--;
	}
}

void upper_claims_give(struct upper_claims *c, struct upper_claim *claim)
{
	WITH_LOCK(&c->lock);

	if (claim->older)
		claim->older->newer = claim->newer;
	if (claim->newer)
		claim->newer->older = claim->older;
	else
		c->newest = claim->older;
	if (c->waiting > 0)
		pthread_cond_broadcast(&c->released);
}
