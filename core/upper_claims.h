/* SPDX-License-Identifier: Apache-2.0 */
/* upper_claims.h - ranges of the disk that requests are changing: those that overlap go one after
 * the other, in the order of their arrival.
 *
 * Threads: any.  A claim is held over I/O, by design; reading takes none. */
#ifndef OVERLAYBD_CORE_UPPER_CLAIMS_H
#define OVERLAYBD_CORE_UPPER_CLAIMS_H

#include <pthread.h>
#include <stdint.h>

/* Lives on the stack of whoever holds it. */
struct upper_claim {
	uint64_t start, end; /* sectors */
	struct upper_claim *older, *newer;
};

struct upper_claims {
	pthread_mutex_t lock;
	pthread_cond_t released;
	struct upper_claim *newest; /* of those held and those that wait, by arrival */
	unsigned waiting;
};

void upper_claims_init(struct upper_claims *c);
void upper_claims_release(struct upper_claims *c);

/* Returns when no earlier claim overlaps [start, end). */
void upper_claims_take(struct upper_claims *c, struct upper_claim *claim, uint64_t start,
		       uint64_t end);
void upper_claims_give(struct upper_claims *c, struct upper_claim *claim);

#endif
