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
#include "fetch/cache_disk.h"

#define CACHE_DOCUMENTS "documents" /* the folder of a place's small files */
/* The place of blobs that were checked as a whole, by whichever digest names them. */
#define CACHE_SHARED "sha256"

enum {
	CACHE_PLACE = 64 + 1, /* "sha256", or 64 hex digits */
	CACHE_PATH = CACHE_PLACE + DIGEST_ANY_TEXT,
};

/* Whether the file system is one that is known to do what cache_map.h needs, and punches holes.
 * `folder` must be writable.  -EOPNOTSUPP, or what trying it gave. */
int cache_folder_check(struct cache_file folder, struct err *e);

/* Makes a folder, mode 0700; 0 also when there is something of that name.  What is made by root
 * goes to the owner of `at`, here and below: a process that root has started and that goes on as
 * the folder's owner (nbdkit -u) can use it. */
int cache_folder_make(struct cache_file at, const char *name, struct err *e);

/* Opens a folder of `root`, part by part, following no links; `create` makes the last part.
 * -ENOTDIR: a part is no folder; -EUCLEAN: the last one is none. */
int cache_folder_enter(struct cache_file root, const char *path, bool create,
		       struct cache_file *out, struct err *e);

/* Opens a file for reading and writing; `create` makes it when it is missing.  -EUCLEAN: it is no
 * file, or one that has another name too. */
int cache_folder_open_file(struct cache_file folder, const char *name, bool create,
			   struct cache_file *out, struct err *e);

/* The whole of a small file, with a NUL after it that *n does not count; the caller frees *out.
 * *f stays open.  More than `limit` bytes is -EFBIG. */
int cache_folder_read_file(struct cache_file folder, const char *name, size_t limit,
			   struct cache_file *f, char **out, size_t *n, struct err *e);

/* Replaces a small file as a whole.  Without `sync` it may be empty after a power loss. */
int cache_folder_replace_file(struct cache_file folder, const char *name, const void *bytes,
			      size_t n, bool sync, struct err *e);

/* Allocates all of a file.  One that was copied may have holes. */
int cache_folder_allocate(struct cache_file f, uint64_t size, struct err *e);

/* Whether `name` leads to what f has open. */
bool cache_folder_is_at(struct cache_file folder, const char *name, struct cache_file f);

/* Makes a file of `size` bytes that begins with head[0..n), all of it allocated and never
 * copied on write, so that a store to its mapping cannot fail.  It appears under its name when it
 * is complete.  Returns 0 also when another process was first. */
int cache_folder_make_file(struct cache_file folder, const char *name, const void *head, size_t n,
			   uint64_t size, struct err *e);

/* Sets, changes or (F_UNLCK) ends an OFD lock without waiting.  -EAGAIN: another holds it. */
int cache_folder_lock(struct cache_file f, short type, uint64_t off, uint64_t n);

/* Renames a folder, or whatever has its name, away, then deletes it and what is in it.  -ENOENT: it
 * is not there. */
int cache_folder_remove(struct cache_file root, const char *path, struct err *e);

/* Deletes what processes left that died while they made or removed something. */
void cache_folder_sweep(struct cache_file root);

struct cache_names {
	char **names;
	size_t count;
};

/* All blobs' paths, in the order of strcmp. */
int cache_folder_list(struct cache_file root, struct cache_names *out, struct err *e);

/* All documents' paths, and what the dead left beside them. */
int cache_folder_list_documents(struct cache_file root, struct cache_names *out, struct err *e);

/* The names of all places but "sha256". */
int cache_folder_list_origins(struct cache_file root, struct cache_names *out, struct err *e);
void cache_names_release(struct cache_names *names);

#endif
