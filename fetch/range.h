/* SPDX-License-Identifier: Apache-2.0 */
/* range.h - range requests: how much to ask for, and whether an answer is what was asked for.
 * Between request.c and this file only.  Threads: the engine's. */
#ifndef OVERLAYBD_FETCH_RANGE_H
#define OVERLAYBD_FETCH_RANGE_H

#include "fetch/request.h"

/* Whether the headers of a good answer (2xx, 304) to a range request say that it is the range, or
 * its beginning, or the whole blob; sets q->position, end, whole and held by it.  -EPROTO;
 * -EBADMSG: the blob has another size. */
int range_check(struct request *q, struct err *e);

/* Whether a good answer, checked by range_check, says that the blob has q->total bytes: by its
 * length or digest, or by giving the last of them.  One that ends with "slash star" may know no
 * total. */
bool range_confirms_size(const struct request *q);

/* The last byte to ask for now. */
uint64_t range_last(const struct request *q);

/* How much is asked for at once from now on: less after an exchange that failed, more after one
 * that did not. */
void range_ask_less(struct request *q);
void range_ask_more(struct request *q);

#endif
