/* SPDX-License-Identifier: Apache-2.0 */
/* cache_folder.h - what the cache asks of its file system: is it one that keeps the promises, files
 * made whole, byte locks, folders listed and removed.
 *
 * Paths are relative to `root`, an open DIR/v1: "PLACE/DIGEST" is a blob's folder, where PLACE is
 * "sha256" or the sha256 of an origin.
 * Threads: no state; all may run concurrently, in any number of processes. */
#ifndef OVERLAYBD_FETCH_CACHE_FOLDER_H
#define OVERLAYBD_FETCH_CACHE_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/digest.h"
#include "core/base/err.h"

#define CACHE_SHARED "sha256" /* the place of blobs that were checked as a whole */

enum {
	CACHE_PLACE = 64 + 1, /* "sha256", or 64 hex digits */
	CACHE_PATH = CACHE_PLACE + DIGEST_TEXT,
};

/* Whether the file system is one that is known to do what cache_map.h needs, and punches holes.
 * `folder` must be writable.  -EOPNOTSUPP, or what trying it gave. */
int cache_folder_check(int folder, struct err *e);

/* Makes a file of `size` bytes that begins with head[0..n), all of it allocated and never
 * copied on write, so that a store to its mapping cannot fail.  It appears under its name when it
 * is complete.  Returns 0 also when another process was first. */
int cache_folder_make_file(int folder, const char *name, const void *head, size_t n, uint64_t size,
			   struct err *e);

/* Sets, changes or (F_UNLCK) ends an OFD lock without waiting.  -EAGAIN: another holds it. */
int cache_folder_lock(int fd, short type, uint64_t off, uint64_t n);

/* Renames a folder away, then deletes it and what is in it.  -ENOENT: it is not there. */
int cache_folder_remove(int root, const char *path, struct err *e);

/* Deletes what processes that died in cache_folder_remove left. */
void cache_folder_sweep(int root);

struct cache_names {
	char **names;
	size_t count;
};

/* All blobs' paths, in the order of strcmp. */
int cache_folder_list(int root, struct cache_names *out, struct err *e);

/* The names of all places but "sha256". */
int cache_folder_list_origins(int root, struct cache_names *out, struct err *e);
void cache_names_release(struct cache_names *names);

#endif
