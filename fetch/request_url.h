/* SPDX-License-Identifier: Apache-2.0 */
/* request_url.h - where a try of a request goes: the endpoint, or where that is known to redirect.
 * Between request.c and this file only.  Threads: the engine's. */
#ifndef OVERLAYBD_FETCH_REQUEST_URL_H
#define OVERLAYBD_FETCH_REQUEST_URL_H

#include "fetch/request.h"

/* Sets q->url (unless q->following says that it is set), to_target, remembered and referer for a
 * try at this endpoint.  -ENOMEM. */
int request_url_set(struct request *q, const struct endpoint *p);

/* The address that it was redirected to was good, and serves others; or it was not. */
void request_url_keep(struct request *q);
void request_url_forget(struct request *q);

#endif
