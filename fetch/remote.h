/* SPDX-License-Identifier: Apache-2.0 */
/* remote.h - a repository of a registry, as the image sees it: what a name means, and its blobs as
 * sources.
 *
 * Threads: all calls may run concurrently but for open and close; calls that ask the registry
 * block. Ownership: blobs that were opened must be closed first. Time: while the image is being
 * opened (until remote_opened) no request is tried anew after REMOTE_OPEN_SECONDS. */
#ifndef OVERLAYBD_FETCH_REMOTE_H
#define OVERLAYBD_FETCH_REMOTE_H

#include "core/base/source.h"
#include "fetch/fetcher.h"
#include "fetch/manifest.h"
#include "fetch/reference.h"
#include "fetch/settings.h"
#include "fetch/stats.h"

enum {
	REMOTE_OPEN_SECONDS = 15,
	REMOTE_KNOWN_SECONDS = 3, /* the same for a tag whose last meaning is known */
	REMOTE_HEAD_SECONDS = 3, /* and for HEAD, before GET is tried in its place */
};

struct remote;

/* `ref` is copied, settings and fetcher must outlive the remote.  `stats` counts what is no blob's;
 * may be NULL.  `push`: to write, with no mirrors and no cache.  EINVAL for settings that make no
 * sense for it. */
int remote_open(struct fetcher *f, const struct fetch_settings *settings,
		const struct reference *ref, struct stats *stats, bool push, struct remote **out,
		struct err *e);

/* Ends what is under way with ESHUTDOWN, and whatever may come, so that threads that wait go on. */
void remote_shut(struct remote *r);

/* NULL is allowed. */
void remote_close(struct remote *r);

/* The blobs of the image that the reference names, and the digest of its manifest.  A digest that
 * is in the cache asks nobody; a tag asks once, and when the registry is away means what it meant
 * last, with a warning.  Errors say what to do. */
int remote_resolve(struct remote *r, struct manifest *out, char digest[DIGEST_ANY_TEXT],
		   struct err *e);

/* The size of a blob, from the registry.  ENOENT: it is not there. */
int remote_blob_size(struct remote *r, const char *digest, uint64_t *size, struct err *e);

/* A blob as a source; what opening a layer needs of it is asked for at once, without waiting. */
int remote_open_blob(struct remote *r, const char *digest, uint64_t size, struct stats *stats,
		     struct source **out, struct err *e);

/* Opening is over, and no other thread opens anything: from now on reads are retried up to their
 * own deadline. */
void remote_opened(struct remote *r);

/* For push.c and referrers.c: its queue and counters (NULL: none), the endpoint in use. */
struct queue;
struct endpoint;
struct queue *remote_queue(struct remote *r);
struct stats *remote_stats(const struct remote *r);
const struct endpoint *remote_endpoint(const struct remote *r);

#endif
