/* SPDX-License-Identifier: Apache-2.0 */
/* places.h - which of a queue's endpoints a request asks next, and when.  Between request.c and
 * this file only.  Threads: the engine's. */
#ifndef OVERLAYBD_FETCH_PLACES_H
#define OVERLAYBD_FETCH_PLACES_H

#include "fetch/request.h"

/* The first endpoint that is worth a try now, -1: none.  One whose bytes were wrong is asked again
 * only when there is no other, or the others have not come back for long. */
int places_choose(struct request *q);

/* When the first endpoint may be asked that is not to be left alone then: ms. */
uint64_t places_first_worth_asking(struct request *q, uint64_t now);

/* Whether no endpoint will do any more. */
bool places_all_are_final(const struct request *q);

/* Whether another endpoint can be asked in place of the one in use. */
bool places_has_others(const struct request *q);

/* How long to bear with a silent server, in s: where another endpoint is left, not so long that
 * there would be no time for that one. */
unsigned places_silence(const struct request *q);

#endif
