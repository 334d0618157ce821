/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h - what an image and its layers did: counters, and their two written forms.
 *
 * Counting is lock-free (relaxed atomics) and may run concurrently with everything; a printed set
 * is not one instant's, but no count is lost.  Units: bytes, microseconds where said. Ownership: a
 * group owns its layers' counters; all of them live until the group is released. */
#ifndef OVERLAYBD_FETCH_STATS_H
#define OVERLAYBD_FETCH_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* Of an image the first two are the clients' reads; of a layer its source's.  The others are
 * counted at the layer; an image's are the sums of its layers', plus what it counted itself
 * (manifests). */
enum stats_count {
	STATS_READS, /* reads asked of it */
	STATS_READ_BYTES, /* bytes they asked for */
	STATS_CACHE_HITS, /* reads that needed no waiting for the network */
	STATS_CACHE_MISSES,
	STATS_FETCHED_BYTES, /* body bytes that arrived, whatever became of them */
	STATS_RETRIES, /* tries beyond the first of a request */
	STATS_CRC_DROPS, /* ranges that a checksum above found wrong */
	STATS_CACHE_DROPS, /* chunks that the cache's own CRC found wrong */
	STATS_CACHE_ENABLED, /* 1: what is fetched is kept, as of the last read; 0: there is no
			      * cache, or it is paused (a full disk) */
	STATS_DOWNLOAD_BYTES, /* bytes present in the cache or folder, as background download knows
			       */
	STATS_DOWNLOAD_TOTAL, /* bytes it wants; 0: it does not run */
	STATS_COUNTS
};

struct stats; /* of one layer, or of the image itself */
struct stats_group; /* of one image: itself and its layers */

/* `name` of the image (config path or reference) and of each layer (digest or file path) are
 * copied. -ENOMEM. */
int stats_group_open(const char *name, struct stats_group **out, struct err *e);
int stats_group_add_layer(struct stats_group *g, const char *name, struct stats **out,
			  struct err *e); /* before any thread counts; in order from the bottom */
struct stats *stats_group_image(struct stats_group *g);
void stats_group_close(struct stats_group *g); /* NULL is allowed */

/* `s` may be NULL in all of these. */
void stats_add(struct stats *s, enum stats_count which, uint64_t n);
void stats_set(struct stats *s, enum stats_count which, uint64_t n);
void stats_request(struct stats *s, unsigned status); /* a finished request; 0: no answer came */
void stats_demand(struct stats *s, uint64_t microseconds); /* a read that waited for the network */
uint64_t stats_get(const struct stats *s, enum stats_count which); /* without those of layers */

/* Several images' statistics as text: JSON on one line, or Prometheus' text format.  There an
 * image has counters overlaybd_*_total, gauges overlaybd_download_{,total_}bytes and a histogram
 * overlaybd_demand_read_seconds, with the label image; a layer has the same as overlaybd_layer_*,
 * so that a sum over one metric counts nothing twice, with the labels image, layer (its number from
 * the bottom) and digest (its name).  The caller frees *out, of *n bytes.  -ENOMEM. */
int stats_format(struct stats_group *const *groups, size_t count, bool prometheus, char **out,
		 size_t *n, struct err *e);

/* Writes them to `path`: Prometheus text when it ends in .prom, else JSON; replaced as a whole
 * (io_replace_file).  "-" is standard output.  Errors name the path. */
int stats_write(struct stats_group *const *groups, size_t count, const char *path, struct err *e);

#endif
