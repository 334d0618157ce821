/* SPDX-License-Identifier: Apache-2.0 */
/* inquiry.c - see inquiry.h. */
#include "fetch/inquiry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "fetch/address.h"
#include "fetch/secret.h"

enum { REDIRECTS_MAX = 5 };

static void clear_secret(char **text)
{
	secret_free(*text);
	*text = NULL;
}

static void clear_answer(struct inquiry *q)
{
	http_answer_release(&q->x.answer);
	if (q->text)
		explicit_bzero(q->text, q->n);
	free(q->text);
	q->text = NULL;
	q->n = 0;
}

static void clear_question(struct inquiry *q)
{
	source_close(q->form_source);
	q->form_source = NULL;
	clear_secret(&q->form);
	clear_secret(&q->authorization);
	free(q->url);
	q->url = NULL;
}

static void finish(struct inquiry *q, int r, const struct err *e)
{
	q->running = false;
	http_timer_clear(q->http, &q->patience);
	clear_question(q);
	q->done(q, r, e);
}

static int take_bytes(struct http_exchange *x, const void *buf, size_t n, struct err *e)
{
	struct inquiry *q = (struct inquiry *)((char *)x - offsetof(struct inquiry, x));
	char *more;

	if (n > INQUIRY_MAX - q->n)
		return err_set(e, EPROTO, "an answer of more than %d bytes", INQUIRY_MAX);
	/* A new piece of memory: realloc would leave a copy of the old one behind. */
	more = malloc(q->n + n + 1);
	if (!more)
		return err_set(e, ENOMEM, "out of memory");
	if (q->n > 0) {
		memcpy(more, q->text, q->n);
		explicit_bzero(q->text, q->n);
	}
	memcpy(more + q->n, buf, n);
	free(q->text);
	q->text = more;
	q->n += n;
	q->text[q->n] = '\0';
	return 0;
}

static void begin(struct inquiry *q);

static bool is_redirect(unsigned status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Goes on to where the answer sends us.  A password goes along to the same origin, or to the same
 * host over TLS. */
static int follow(struct inquiry *q, struct err *e)
{
	const char *location = q->x.answer.location;
	char *url = location ? address_resolve(q->url, location, q->x.route->unchecked) : NULL;
	struct address from, to;
	bool known;

	if (!url)
		return err_set(e, EPROTO,
			       "redirect refused: the Location is missing, malformed, not http(s), "
			       "or leaves TLS");
	if (++q->redirects > REDIRECTS_MAX) {
		free(url);
		return err_set(e, ELOOP, "too many redirects");
	}
	known = address_parse(q->url, &from) && address_parse(url, &to);
	if (!known || !address_same_origin(&from, &to))
		q->x.route = &q->away;
	if (!known ||
	    (!address_same_origin(&from, &to) && !(to.tls && address_same_host(&from, &to)))) {
		clear_secret(&q->authorization);
		if (q->form) {
			free(url);
			return err_set(e, EPROTO,
				       "it redirects a form with a token to another "
				       "host, to which none is sent");
		}
	}
	free(q->url);
	q->url = url;
	clear_answer(q);
	begin(q);
	return 0;
}

static void on_done(struct http_exchange *x, int r, const struct err *e)
{
	struct inquiry *q = (struct inquiry *)((char *)x - offsetof(struct inquiry, x));
	struct err why;

	if (r == 0 && is_redirect(x->answer.status)) {
		r = follow(q, &why);
		if (r == 0)
			return;
		e = &why;
	}
	finish(q, r, e);
}

static void begin(struct inquiry *q)
{
	const struct http_route *route = q->x.route;

	q->x = (struct http_exchange){
		.route = route,
		.method = q->form_source ? "POST" : "GET",
		.url = q->url,
		.authorization = q->authorization,
		.accept = "application/json",
		.content_type = q->form_source ? "application/x-www-form-urlencoded" : NULL,
		.body = q->form_source,
		.bytes = take_bytes,
		.done = on_done,
	};
	http_begin(q->http, &q->x);
}

static void on_patience(struct http_call *c)
{
	struct inquiry *q = (struct inquiry *)((char *)c - offsetof(struct inquiry, patience));
	struct err e;

	if (http_now_stopping(q->http))
		return; /* the engine ends the exchange */
	http_cancel(&q->x);
	err_set(&e, ETIMEDOUT, "no whole answer in %d s", INQUIRY_SECONDS);
	finish(q, -ETIMEDOUT, &e);
}

int inquiry_begin(struct inquiry *q, char *url, char *authorization, char *form, bool own,
		  struct err *e)
{
	int r = 0;

	inquiry_cancel(q);
	q->url = url;
	q->authorization = authorization;
	q->form = form;
	if (form)
		r = source_open_memory(form, strlen(form), &q->form_source, e);
	if (r < 0) {
		clear_question(q);
		return r;
	}
	q->away = *q->route;
	q->away.cert = q->away.key = q->away.unix_socket = NULL;
	q->x.route = own ? q->route : &q->away;
	q->redirects = 0;
	q->running = true;
	q->patience.run = on_patience;
	http_timer_set(q->http, &q->patience, clock_ms() + INQUIRY_SECONDS * (uint64_t)1000);
	begin(q);
	return 0;
}

void inquiry_cancel(struct inquiry *q)
{
	if (q->running) {
		http_cancel(&q->x);
		http_timer_clear(q->http, &q->patience);
	}
	q->running = false;
	clear_question(q);
	clear_answer(q);
}
