/* SPDX-License-Identifier: Apache-2.0 */
/* range.c - see range.h. */
#include "fetch/range.h"

#include <errno.h>
#include <inttypes.h>

#include "core/base/le.h"

enum { MOST_MIN = 16 * 1024 }; /* bytes to ask for at once after answers that were cut */

static int wrong_size(const struct request *q, uint64_t size, struct err *e)
{
	return err_set(e, EBADMSG, "the blob has %" PRIu64 " bytes, the manifest says %" PRIu64,
		       size, q->total);
}

/* RFC 9110, 15.3.7: a server may send less than was asked for. */
static int check_part(struct request *q, struct err *e)
{
	const struct http_answer *a = &q->x.answer;

	if (!a->has_range)
		return err_set(e, EPROTO, "HTTP 206 without Content-Range");
	if (q->total && a->total != UINT64_MAX && a->total != q->total)
		return wrong_size(q, a->total, e);
	if (a->first != q->first || a->last > q->x.last)
		return err_set(e, EPROTO,
			       "asked for bytes %" PRIu64 "-%" PRIu64 " of %" PRIu64
			       ", the answer is %" PRIu64 "-%" PRIu64,
			       q->first, q->x.last, q->total, a->first, a->last);
	if (a->has_length && a->length != a->last - a->first + 1)
		return err_set(e, EPROTO, "%" PRIu64 " bytes in an answer of %" PRIu64, a->length,
			       a->last - a->first + 1);
	q->position = q->first;
	q->end = a->last + 1;
	return 0;
}

/* A login page or an error page comes as 200, too; so does part of a blob, from proxies that know
 * no better. */
static int check_whole(struct request *q, struct err *e)
{
	const struct http_answer *a = &q->x.answer;

	if (a->has_range)
		return err_set(e, EPROTO, "HTTP 200 with a Content-Range");
	if (q->total && a->has_length && a->length != q->total)
		return wrong_size(q, a->length, e);
	if (!a->has_length) {
		if (!q->total || !q->may_hold || !q->may_hold(q))
			return err_set(e, EPROTO,
				       "HTTP 200 without a Content-Length to a range request");
		q->held = true;
	}
	q->whole = true;
	q->end = a->has_length ? a->length : q->total;
	return 0;
}

int range_check(struct request *q, struct err *e)
{
	const struct http_answer *a = &q->x.answer;

	if (a->encoded)
		return err_set(e, EPROTO,
			       "the answer has a Content-Encoding, which was not asked for");
	if (a->status == 206)
		return check_part(q, e);
	if (a->status != 200)
		return err_set(e, EPROTO, "HTTP %u to a range request", a->status);
	return check_whole(q, e);
}

bool range_confirms_size(const struct request *q)
{
	const struct http_answer *a = &q->x.answer;

	return q->whole || a->total == q->total || a->last + 1 == q->total;
}

uint64_t range_last(const struct request *q)
{
	return q->most ? min_u64(q->last, q->first + (q->most - 1)) : q->last;
}

/* After an answer that was cut, less is asked for at once: what a failed one gave is taken back,
 * and on a way that breaks off every so many bytes nothing would ever be there. */
void range_ask_less(struct request *q)
{
	uint64_t got = q->whole ? 0 : q->x.received;

	if (got > 0)
		q->most = max_u64(got / 2 / MOST_MIN * MOST_MIN, MOST_MIN);
}

void range_ask_more(struct request *q)
{
	if (q->most > 0)
		q->most = q->most > UINT64_MAX / 2 ? 0 : 2 * q->most;
}
