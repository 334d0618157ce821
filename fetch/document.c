/* SPDX-License-Identifier: Apache-2.0 */
/* document.c - see document.h. */
#include "fetch/document.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/base/scope.h"

struct errand {
	struct request request; /* first member */
	struct document *document;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool done; /* guarded by lock */
	int r;
	struct err *e;
};

static int take_bytes(struct request *q, uint64_t off, const void *buf, size_t n, struct err *e)
{
	struct document *d = ((struct errand *)q)->document;
	char *more;

	if (d->peek) {
		q->first += n;
		return 1; /* the headers were all that is wanted */
	}
	if (off == 0)
		d->n = 0; /* a new try */
	if (n > d->limit - d->n)
		return err_set(e, EFBIG, "an answer of more than %zu bytes", d->limit);
	more = realloc(d->text, d->n + n + 1);
	if (!more)
		return err_set(e, ENOMEM, "out of memory");
	memcpy(more + d->n, buf, n);
	d->text = more;
	d->n += n;
	d->text[d->n] = '\0';
	return 0;
}

/* An answer without a byte has no text, whatever a try before it brought. */
static void forget_earlier(struct request *q)
{
	if (q->x.received == 0)
		((struct errand *)q)->document->n = 0;
}

static int check(struct request *q, struct err *e)
{
	const struct document *d = ((struct errand *)q)->document;

	forget_earlier(q);
	return d->check(d, &q->x.answer, e);
}

static void on_done(struct request *q, int r, const struct err *e)
{
	struct errand *x = (struct errand *)q;
	char *from = r == 0 ? strdup(q->x.url) : NULL;
	struct err copy = *e;

	forget_earlier(q);
	if (r == 0 && !from)
		r = err_set(&copy, ENOMEM, "out of memory");
	WITH_LOCK(&x->lock);
	x->document->from = from;
	x->r = r;
	if (r < 0 && x->e)
		*x->e = copy;
	x->done = true;
	clock_wake(&x->ended);
}

static void await(struct errand *x)
{
	WITH_LOCK(&x->lock);
	while (!x->done)
		clock_wait(&x->ended, &x->lock, CLOCK_NEVER);
}

int document_fetch(struct document *d, struct err *e)
{
	struct errand x = { .document = d, .e = e };

	x.request = (struct request){
		.queue = d->queue,
		.priority = REQUEST_DEMAND,
		.method = d->method,
		.path = d->path,
		.accept = d->accept,
		.if_none_match = d->if_none_match,
		.content_type = d->content_type,
		.body = d->body,
		.silence = d->silence,
		.companions = d->companions,
		.stats = d->stats,
		.retry_until = d->retry_until,
		.ranged = d->peek,
		.bytes = take_bytes,
		.check = d->check ? check : NULL,
		.done = on_done,
	};
	atomic_init(&x.request.deadline, d->deadline);
	pthread_mutex_init(&x.lock, NULL);
	clock_init_cond(&x.ended);
	request_submit(&x.request);
	await(&x);
	pthread_cond_destroy(&x.ended);
	pthread_mutex_destroy(&x.lock);
	d->answer = x.request.x.answer;
	return x.r;
}

int document_check_digest(const struct document *d, const struct http_answer *answer, struct err *e)
{
	char got[DIGEST_ANY_TEXT];
	int r = digest_bytes_like(d->digest, d->text ? d->text : "", d->n, got, e);

	if (r == 0 && strcmp(got, d->digest) != 0)
		return err_set(e, EBADMSG, "what came for %s has the digest %s", d->digest, got);
	return r;
}

void document_release(struct document *d)
{
	http_answer_release(&d->answer);
	free(d->text);
	free(d->from);
	d->text = d->from = NULL;
	d->n = 0;
}
