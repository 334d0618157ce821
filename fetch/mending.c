/* SPDX-License-Identifier: Apache-2.0 */
/* mending.c - see mending.h. */
#include "fetch/mending.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/clock.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "fetch/flight.h"

enum {
	VERDICT_EVERY = 50, /* ms between two looks for the cache's verdict on the whole */
	PAUSE = 10 *
		1000, /* ms after one that the cache did not keep, or the first that was wrong; for
			    * these doubled each time... */
	DOUBLINGS = 9, /* ...up to 85 minutes */
	AGAIN = 1000, /* ms after one that did not bring all of it */
};

bool mending_is_needed(const struct blob *b)
{
	return b->cache && cache_blob_state(b->cache) == CACHE_WRONG;
}

/* Whether the cache still empties it, or all is being fetched once more, or is there and waits for
 * the cache's verdict. */
static bool is_under_way_locked(const struct blob *b)
{
	const struct hint *h = b->mending.hint;

	return cache_blob_is_sealed(b->cache) ||
	       (h && (!h->exhausted || h->flights > 0 ||
		      blob_present(b, 0, b->source.size) == b->source.size));
}

/* Whether the last one has ended without having fetched all of it itself: what is wrong then may
 * not be what the registry gives now. */
static bool is_unfinished_locked(const struct blob *b)
{
	const struct mending *m = &b->mending;

	return m->hint && !is_under_way_locked(b) &&
	       (m->hint->r < 0 || m->hint->skipped || m->joined);
}

/* Whether every endpoint has said that it will not give it: waiting is no use. */
static bool is_refused_locked(const struct blob *b)
{
	return b->mending.hint->r < 0 && b->mending.hint->r != -ETIMEDOUT;
}

/* It is right again: what is known of endpoints is about what was wrong. */
static void settle_locked(struct blob *b)
{
	struct mending *m = &b->mending;

	*m = (struct mending){ .hint = m->hint, .ended = true };
}

uint32_t mending_suspects_locked(struct blob *b, uint32_t *blamed)
{
	const struct mending *m = &b->mending;

	if (!mending_is_needed(b))
		settle_locked(b);
	*blamed = m->blamed;
	return m->blamed | m->guessed;
}

/* Blames who gave what was wrong, or where several did the one that was asked first.  Whether to
 * ask others at once: one try for each that is blamed, and who does not have it never is.  Else the
 * round is over, and the next begins with the others. */
static bool has_others_locked(struct blob *b)
{
	struct mending *m = &b->mending;
	uint32_t mirrors = queue_mirrors(b->queue), first;
	bool is_new;

	m->guessed |= flight_forget_givers_locked(b, &first);
	is_new = (first & ~m->blamed) != 0;
	m->blamed |= first;
	/* Both of the registry's addresses are the registry. */
	if (is_new && ((mirrors & ~m->blamed) != 0 || (m->blamed & ~mirrors) == 0))
		return true;
	m->blamed = first;
	return false;
}

/* The last one has ended, and the blob is wrong still. */
static void end_locked(struct blob *b)
{
	struct mending *m = &b->mending;

	if (!m->hint || m->ended || is_under_way_locked(b))
		return;
	m->ended = true;
	m->failure = m->hint->why;
	if (is_unfinished_locked(b)) {
		m->not_before = clock_ms() + AGAIN;
		m->beside_others += m->hint->skipped;
		m->forgiven = m->hint->r == 0 && !m->hint->skipped;
		m->others_left = m->others_left && !is_refused_locked(b);
		return;
	}
	m->beside_others = 0;
	m->forgiven = false;
	if (m->hint->unkept) {
		/* Nobody could judge it: that says nothing of the registry. */
		m->not_before = clock_ms() + PAUSE;
		m->others_left = false;
		err_set(&m->failure, ENOSPC, "the cache did not keep all of them");
		return;
	}
	m->others_left = has_others_locked(b);
	if (m->others_left)
		m->not_before = clock_ms() + AGAIN;
	else
		m->wrong++;
}

/* Who may have given what is wrong: who gave some of it, or else a mirror most likely. */
static void guess_locked(struct blob *b)
{
	struct mending *m = &b->mending;
	uint32_t first;

	m->guessed |= flight_forget_givers_locked(b, &first);
	if (!m->guessed)
		m->guessed = queue_mirrors(b->queue);
}

/* Begins the next one when that is due.  The caller gives it to the queue. */
static struct hint *begin_locked(struct blob *b)
{
	struct mending *m = &b->mending;
	uint64_t now = clock_ms();

	if (is_under_way_locked(b) || now < m->not_before)
		return NULL;
	flight_forget_kept_locked(b); /* it would take what they hold for fetched */
	guess_locked(b);
	free(m->hint);
	m->ended = false;
	m->hint = hint_make_locked(b, 0, b->source.size, REQUEST_BACKGROUND);
	m->others_left = m->others_left && m->hint;
	if (!m->hint)
		return NULL;
	m->hint->awaited = true;
	/* Not twice in a row: processes that join each other's would fetch without a pause what the
	 * registry has wrong. */
	m->joined = !m->forgiven && blob_present(b, 0, b->source.size) > 0;
	/* Who has claimed what is missing may be frozen. */
	m->hint->rank = (unsigned)min_u64(m->beside_others, CLAIM_NONE);
	m->not_before = now + ((uint64_t)PAUSE << min_u64(m->wrong, DOUBLINGS));
	return m->hint;
}

/* Why the blob cannot be read. */
static int say_wrong(struct blob *b, struct err *e)
{
	WITH_LOCK(&b->lock);
	if (b->mending.failure.msg[0] != '\0')
		return err_set(e, EIO,
			       "the bytes that came did not have the digest %s, and fetching them "
			       "again failed: %.700s",
			       b->digest, b->mending.failure.msg);
	return err_set(e, EIO, "the registry's bytes do not have the digest %s", b->digest);
}

int mending_await(struct blob *b, uint64_t deadline, struct err *e)
{
	struct hint *begun;
	uint64_t now;

	pthread_mutex_lock(&b->lock);
	while (mending_is_needed(b) && !queue_is_closing(b->queue) &&
	       (now = clock_ms()) < deadline) {
		end_locked(b);
		begun = begin_locked(b);
		if (begun) {
			pthread_mutex_unlock(&b->lock);
			queue_feed(b->queue, &begun->feeder);
			pthread_mutex_lock(&b->lock);
		}
		if (!is_under_way_locked(b) && !b->mending.others_left &&
		    (!is_unfinished_locked(b) || is_refused_locked(b)))
			break;
		clock_wait(&b->changed, &b->lock, min_u64(deadline, now + VERDICT_EVERY));
	}
	if (mending_is_needed(b))
		end_locked(b);
	else
		settle_locked(b);
	pthread_mutex_unlock(&b->lock);
	return mending_is_needed(b) ? say_wrong(b, e) : 0;
}

void mending_release(struct mending *m)
{
	free(m->hint);
}
