/* SPDX-License-Identifier: Apache-2.0 */
/* request_url.c - see request_url.h. */
#include "fetch/request_url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "fetch/address.h"

void request_targets_release(struct request_targets *t)
{
	size_t i;

	for (i = 0; i < ENDPOINTS_MAX; i++)
		free(t->url[i]);
	*t = (struct request_targets){ 0 };
}

void request_url_forget(struct request *q)
{
	if (q->targets) {
		free(q->targets->url[q->place]);
		q->targets->url[q->place] = NULL;
	}
}

void request_url_keep(struct request *q)
{
	if (!q->to_target || !q->targets || q->targets->url[q->place])
		return;
	q->targets->url[q->place] = strdup(q->url); /* without it we ask again */
}

/* What is asked of the endpoint itself: an address of an upload, or its own of a path. */
static char *make_url(const struct request *q, const struct endpoint *p)
{
	char *url;

	if (q->path[0] != '/')
		return strdup(q->path);
	if (asprintf(&url, "%s%s%s%s", p->base, q->path, p->query ? "?" : "",
		     p->query ? p->query : "") < 0)
		return NULL;
	return url;
}

/* Some stores serve those alone who come from the registry.  It is the plain address of what is
 * asked for, and not told from TLS to one without. */
static int set_referer(struct request *q, const struct endpoint *p)
{
	struct address from, to;

	free(TAKE_PTR(q->referer));
	if (q->path[0] != '/' || !address_parse(p->base, &from) || !address_parse(q->url, &to) ||
	    (from.tls && !to.tls))
		return 0;
	if (asprintf(&q->referer, "%s%s", p->base, q->path) < 0) {
		q->referer = NULL;
		return -ENOMEM;
	}
	return 0;
}

int request_url_set(struct request *q, const struct endpoint *p)
{
	const char *known;

	/* Wrong bytes came from there, or from what its redirect led to: it is asked where now. */
	if (!q->following && q->avoid & 1u << q->place)
		request_url_forget(q);
	known = q->targets ? q->targets->url[q->place] : NULL;
	if (q->following) {
		q->following = q->remembered = false;
	} else {
		free(q->url);
		q->to_target = q->remembered = known != NULL;
		q->url = known ? strdup(known) : make_url(q, p);
	}
	if (!q->url)
		return -ENOMEM;
	return q->to_target ? set_referer(q, p) : 0;
}
