/* SPDX-License-Identifier: Apache-2.0 */
/* trace_paths.h - from a list of files on the disk to the reads that they need.
 *
 * A path is absolute.  One that ends with a slash, or with a slash and a star, names a folder and
 * all that is in it, however deep; without that, of a folder only its own entries are meant.
 * Symbolic links that lead to what a path names are followed, within the disk; those that lie in a
 * folder that is taken as a whole stand for themselves.
 *
 * The disk holds an ext2, ext3 or ext4 file system from its first byte on: no partitions, no erofs.
 * Threads: no state. */
#ifndef OVERLAYBD_PREFETCH_TRACE_PATHS_H
#define OVERLAYBD_PREFETCH_TRACE_PATHS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/image.h"
#include "prefetch/trace.h"
#include "prefetch/trace_notes.h"

enum {
	TRACE_PATHS_MAX = 1 << 16, /* of a list */
	TRACE_PATH_LENGTH = 4096, /* bytes, with a NUL */
	TRACE_ENTRIES_MAX = 1 << 18, /* in folders that are taken as a whole */
	TRACE_LINKS_MAX = 40, /* symbolic links on the way to one file */
};

/* EINVAL unless the text can be such a path; the text is for putting a name in front. */
int trace_path_check(const char *path, struct err *e);

struct trace_path_list {
	char *text; /* owned, as is paths */
	const char **paths; /* into text */
	size_t count, room;
};

/* The paths of a text, one a line.  Blank lines and those that begin with # are no paths.  EINVAL
 * names the line that is wrong. */
int trace_path_list_parse(const char *text, size_t n, struct trace_path_list *out, struct err *e);

void trace_path_list_release(struct trace_path_list *list);

/* The reads, all at time 0: first what finding the files reads, as starting them has to find them
 * too; then their data, in the order of the paths; within one path, in the disk's order.  No sector
 * comes twice.  What is not there or is damaged is skipped with a note.
 *
 * Errors: EINVAL: no such file system, or a path that trace_path_check refuses; EBADMSG: the file
 * system cannot be opened; EFBIG: finding the files reads too much; ENOMEM; what reading the image
 * gives. */
int trace_from_paths(struct image *image, const char *const *paths, size_t count,
		     struct trace_notes *notes, struct trace *out, struct err *e);

#endif
