/* SPDX-License-Identifier: Apache-2.0 */
/* lowers.h - where an image's lower layers come from: local files, or blobs of a registry.
 *
 * Threads: lowers_open_layer may run concurrently for different layers; all else one at a time.
 * Ownership: everything but the config and a fetcher that was given belongs to struct lowers, and
 * lives until lowers_close; sources that were handed out must be closed first. */
#ifndef OVERLAYBD_CORE_LOWERS_H
#define OVERLAYBD_CORE_LOWERS_H

#include "core/base/digest.h"
#include "core/base/source.h"
#include "core/config.h"
#include "fetch/fetcher.h"
#include "fetch/stats.h"

struct lowers {
	const struct image_config *config;
	const struct lower_config *list; /* the config's, or what its `image` was resolved to */
	size_t count;
	char digest[DIGEST_ANY_TEXT]; /* of the manifest, "" when there was none */
	struct lower_config acceleration; /* the acceleration layer; no digest and dir: none */
	struct stats_group *stats; /* of the image; layers in order */

	/* lowers.c's. */
	struct fetcher *fetcher;
	bool owns_fetcher;
	struct remote *remote; /* NULL: all layers are local */
	struct lower_config *resolved;
	struct lower *opened;
	struct download *download;
};

/* Resolves names, finds local files, and begins to fetch what opening the layers needs, of all at
 * once. `fetcher` NULL: makes one when there is something to fetch.  `out` must stay where it is.
 */
int lowers_open(const struct image_config *config, struct fetcher *fetcher, struct lowers *out,
		struct err *e);

/* The bytes of a layer, once each.  *name is its file or digest, and *stats its counters (NULL:
 * they are not kept); both live as long as `l`. */
int lowers_open_layer(struct lowers *l, size_t number, struct source **out, const char **name,
		      struct stats **stats, struct err *e);

/* All layers are open: see remote_opened. */
void lowers_opened(struct lowers *l);

/* Starts the background download that the config asks for; nothing when there is none, or it has
 * been started.  After a failure it may be called again. */
int lowers_start_download(struct lowers *l, struct err *e);

/* The trace in the image's acceleration layer (FORMAT.md 7), in the cache or from the registry; the
 * caller frees it.  -ENOENT: there is none.  EFBIG: more than `limit` bytes. */
int lowers_read_acceleration(struct lowers *l, size_t limit, char **bytes, size_t *n,
			     struct err *e);

/* What referrers_find gives for the image's manifest; -ENOENT for an image that has none. */
int lowers_find_artifact(struct lowers *l, const char *type, size_t limit, char **bytes, size_t *n,
			 struct err *e);

/* Ends downloads, and reads that wait for the network.  Before the sources are closed. */
void lowers_shut(struct lowers *l);
void lowers_close(struct lowers *l);

#endif
