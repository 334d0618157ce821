/* SPDX-License-Identifier: Apache-2.0 */
/* sequence_window.h - how much of a sequence comes at once, and in which order.
 *
 * What the link carries in about a tenth of a second makes a window, in which order does not
 * matter: there neighbours become one range, also across a gap that is cheaper to fetch than
 * another request; the smallest gaps first, and of all windows together at most an eighth of what
 * is needed.  Units: chunks. */
#ifndef OVERLAYBD_FETCH_SEQUENCE_WINDOW_H
#define OVERLAYBD_FETCH_SEQUENCE_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "fetch/link.h"
#include "fetch/sequence.h"

struct sequence_window {
	size_t taken; /* ranges of the input */
	size_t count; /* ranges that they became, at the same place */
};

/* Takes the first window of `ranges`, count > 0, which do not overlap.  `*gaps` is what may still
 * be spent on gaps: it grows by an eighth of the window, and shrinks by what was spent. */
struct sequence_window sequence_window_take(struct sequence_range *ranges, size_t count,
					    const struct link_facts *link, uint64_t *gaps);

#endif
