/* SPDX-License-Identifier: Apache-2.0 */
/* image.h - a stack of layers as one disk: the API of this project.  The plugin, the tools and the
 * benchmarks stand on it.
 *
 *   a read:  image -> merged index -> layer -> zfile -> tar payload -> file
 *                                                                   -> blob -> cache, registry
 *
 * A write goes to the upper, an append log that lies on top of it all (upper_log.h).  Tools open
 * images read-only, the upper like the other layers.
 *
 * Units: bytes unless said.  Threads: all calls but open and close may run concurrently on one
 * image.  Errors: 0 or -errno; the text names layer, file and cause. */
#ifndef OVERLAYBD_CORE_IMAGE_H
#define OVERLAYBD_CORE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/config.h"
#include "core/index.h"
#include "core/layer.h"
#include "core/lowers.h"
#include "core/upper.h"
#include "core/upper_log.h"
#include "zfile/tar.h"
#include "zfile/zformat.h"

/* One layer file and the chain of formats in it. */
struct image_layer {
	const char *path; /* of the file that was found; of a remote layer, its digest */
	const char *digest; /* the config's or manifest's, NULL: not known */
	struct stats *stats; /* NULL: kept below, or not at all */
	uint64_t file_size; /* bytes of the blob */
	bool in_tar;
	struct tar_layout tar; /* when in_tar */
	bool in_zfile;
	struct zheader zfile; /* when in_zfile */
	bool is_upper;
	struct upper_findings upper; /* when is_upper */
	struct layer layer;
	char *own_path; /* `path`, when it is not of the config */
};

struct image_options {
	uint64_t virtual_size; /* 0: as the layers say; else the disk's size, a multiple of 512 */
	struct fetcher *fetcher; /* for remote layers, must outlive the image; NULL: its own */
	bool writable; /* opens the upper for writing, if that can be: see image_is_writable */
	/* Only the layers [merge_from, merge_to) are seen, the others are opened and hidden.
	 * merge_to 0: all. */
	size_t merge_from, merge_to;
};

struct image;

/* Resolves what the config names in a registry, finds and opens all layers in parallel and merges
 * them.  The error is that of the lowest layer that fails.  The config must outlive the image.
 * `options` may be NULL. */
int image_open(const struct image_config *config, const struct image_options *options,
	       struct image **out, struct err *e);

/* NULL is allowed. */
void image_close(struct image *image);

/* Lets reads that wait for the network fail with ESHUTDOWN, now and later, so that threads that
 * read can end.  Only image_close may follow. */
void image_shut(struct image *image);

uint64_t image_size(const struct image *image);

/* Whether some layer is fetched from a registry. */
bool image_is_remote(const struct image *image);

/* Fills buf with [off, off + n), of any alignment, which must lie within the image (EINVAL). */
int image_pread(struct image *image, void *buf, size_t n, uint64_t off, struct err *e);

/* Whether the topmost layer is an upper that was opened for writing. */
bool image_has_upper(const struct image *image);

/* Whether there is an upper that can be written to: not after a sync of it failed.  An upper in the
 * reference's sparse form, or on a read-only file system, is served read-only, with a line in the
 * log. */
bool image_is_writable(const struct image *image);

/* In a child that goes on with a writable image.  Does nothing for others. */
int image_after_fork(struct image *image, struct err *e);

/* Changes, as upper_log.h says, with its flags and errors.  EROFS: the image is not writable. */
int image_pwrite(struct image *image, const void *buf, size_t n, uint64_t off, unsigned flags,
		 struct err *e);
int image_zero(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e);
int image_trim(struct image *image, uint64_t off, uint64_t n, unsigned flags, struct err *e);

/* All that was acknowledged before the call is durable when it returns 0. */
int image_flush(struct image *image, struct err *e);

/* Gives back the upper's space, see upper_log_tidy. */
int image_tidy(struct image *image, struct err *e);

/* Makes a layer of the upper of a writable image, while clients read and write: seals it under the
 * name `layer` (absolute), stacks a fresh upper on it, and rewrites the config file to say so. What
 * was acknowledged before the call is in the layer.  Writers wait for `*blocked` milliseconds;
 * others for nobody.  One at a time: others wait.
 *
 * Whenever the process dies, the config names files that hold all that they should; a later
 * snapshot removes what it left behind.  On failure all is as it was.
 * Errors: EINVAL: the config cannot be rewritten, or the upper came from the command line; EEXIST;
 * EXDEV: `layer` is on another file system; EROFS; those of reading and writing. */
int image_snapshot(struct image *image, const char *layer, uint64_t *blocked, struct err *e);

/* The files of the upper that is written to; the caller frees both.  EROFS; ENOMEM. */
int image_upper_files(struct image *image, char **data, char **index, struct err *e);

/* A run of bytes of one kind. */
enum extent_kind {
	EXTENT_DATA,
	EXTENT_ZERO, /* a layer says that it is zero */
	EXTENT_HOLE, /* no layer maps it; reads as zeroes */
};

struct image_extent {
	uint64_t off;
	uint64_t n;
	enum extent_kind kind;
	size_t layer; /* unless EXTENT_HOLE */
	uint64_t layer_off; /* EXTENT_DATA: byte in the layer's LSMT file */
};

/* Calls `each` for the pieces of [off, off + n), in order, without gaps.  With `merged`, neighbours
 * of one kind come as one piece, its layer that of the first.  `each` returns 0 to go on, 1 to stop
 * (the call returns 0), or -errno, which is returned.  What is written meanwhile may be seen in
 * parts. */
int image_extents(struct image *image, uint64_t off, uint64_t n, bool merged,
		  int (*each)(void *arg, const struct image_extent *extent), void *arg);

/* Says that the range will be read soon.  Returns at once. */
void image_prefetch(struct image *image, uint64_t off, uint64_t n);

/* Starts the background download that the config asks for, if it does and it is not running.  One
 * call at a time; errors: no thread, and the next call tries again. */
int image_start_download(struct image *image, struct err *e);

/* As lowers_read_acceleration and lowers_find_artifact, see there. */
int image_read_acceleration(struct image *image, size_t limit, char **bytes, size_t *n,
			    struct err *e);
int image_find_artifact(struct image *image, const char *type, size_t limit, char **bytes,
			size_t *n, struct err *e);

/* Its statistics: reads of clients are counted by whoever has clients. */
struct stats_group *image_stats(const struct image *image);

/* The digest of the manifest that the image came from, "" when it came from none. */
const char *image_digest(const struct image *image);

/* The layers from the bottom up, the upper (when there is one) last.  Of a writable upper there are
 * path, header and findings alone: its `data` is empty, and its mappings are not in the index.  A
 * snapshot adds layers; pointers and numbers keep their meaning. */
size_t image_layer_count(const struct image *image);
const struct image_layer *image_layer(const struct image *image, size_t number);

/* Mappings in the index, and bytes of memory that it takes. */
size_t image_mapping_count(const struct image *image);
size_t image_index_memory(const struct image *image);

/* The index.  Not while a snapshot may put another in its place. */
const struct index *image_index(const struct image *image);

#endif
