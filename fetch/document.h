/* SPDX-License-Identifier: Apache-2.0 */
/* document.h - a small answer as a whole, waited for: manifests, sizes, uploads.
 *
 * Threads: any but the engine's; calls block.  Units: bytes; ms of clock_ms. */
#ifndef OVERLAYBD_FETCH_DOCUMENT_H
#define OVERLAYBD_FETCH_DOCUMENT_H

#include "fetch/request.h"

struct document {
	/* Set by the caller. */
	struct queue *queue;
	const char *method, *path, *accept, *if_none_match, *content_type;
	struct source *body; /* what is sent, NULL: nothing */
	unsigned silence, companions; /* as in http.h */
	size_t limit; /* of the answer's body; EFBIG beyond it */
	bool peek; /* its first byte alone is asked for: what counts is answer, not text */
	/* Whether text and n, which came with this answer, are right; NULL: they are.  A place that
	 * sends others counts as one that does not have it. */
	int (*check)(const struct document *d, const struct http_answer *answer, struct err *e);
	const char *digest; /* for document_check_digest */
	uint64_t deadline, retry_until;
	struct stats *stats;

	/* The answer; document_release frees it. */
	char *text; /* with a NUL behind it; NULL: empty */
	size_t n;
	struct http_answer answer;
	char *from; /* the address that answered, after redirects */
};

/* Does the request.  Errors: as `done` of request.h. */
int document_fetch(struct document *d, struct err *e);

/* A `check`: the text has the digest `digest`. */
int document_check_digest(const struct document *d, const struct http_answer *answer,
			  struct err *e);

void document_release(struct document *d);

#endif
