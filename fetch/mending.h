/* SPDX-License-Identifier: Apache-2.0 */
/* mending.h - a blob whose bytes came out wrong as a whole: all of it is fetched once more.
 *
 * Reads of such a blob wait for that, up to their deadlines; they get EIO when it ends, and the
 * blob is wrong still.  A mending that has brought all of it, and it was wrong again, is
 * followed a second later by one that asks another endpoint; when all that have it gave it wrong,
 * by another round only after a pause, which doubles.  One that has not brought all of it (a
 * failure; another process had claimed some of it; it began with what others had left) is
 * followed by another a second later, which goes on with what is there: several processes mend
 * one cache folder together, so none of them discards anything.  What is left in the end goes
 * when the folder is next opened and nobody else has it open (cache.c), as no verdict on it was
 * reached.  One of which the cache did not keep all, as on a full disk, is followed by another
 * after a pause that does not grow.
 *
 * Part of struct blob, whose lock protects it.  Any thread may call these; who calls
 * mending_await does not have the lock. */
#ifndef OVERLAYBD_FETCH_MENDING_H
#define OVERLAYBD_FETCH_MENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct blob;
struct hint;

struct mending {
	struct hint *hint; /* the last fetch of all of it; NULL: none */
	uint64_t not_before; /* ms: the next one */
	unsigned beside_others; /* in a row that left some of it to other processes */
	unsigned wrong; /* rounds in which every endpoint that gave it gave it wrong */
	/* Endpoints, as bits: in this round, of one that was wrong, who gave all of it, or at least
	 * was the first to give some; and all that may have given what was wrong. */
	uint32_t blamed, guessed;
	bool others_left; /* the last one was wrong, and there are others to ask at once */
	bool ended; /* that the last one has ended was seen */
	bool joined; /* the last one began with what was there: it does not count as wrong */
	bool forgiven; /* one that joined was wrong: the next counts, whatever is there */
	struct err failure; /* why the last that has ended did not bring all, "" */
};

/* Whether the blob was wrong as a whole.  Nothing but what mends it is asked for then: the cache
 * would keep what comes. */
bool mending_is_needed(const struct blob *b);

/* Waits until the blob is mended, 0, or until that has failed or the deadline (ms) is over: EIO,
 * with the registry's failure if there was one. */
int mending_await(struct blob *b, uint64_t deadline, struct err *e);

/* Endpoints, as bits, that fetches should avoid while the blob is wrong; *blamed gets those of them
 * that surely gave it wrong.  None when it is right again, and that is noted here too. */
uint32_t mending_suspects_locked(struct blob *b, uint32_t *blamed);

/* When the blob goes, and nothing is under way any more. */
void mending_release(struct mending *m);

#endif
