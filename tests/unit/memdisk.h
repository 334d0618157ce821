/* SPDX-License-Identifier: Apache-2.0 */
/* memdisk.h - a disk in memory under the cache folder: all of struct cache_disk_ops, for one
 * thread.
 *
 * It has folders, files with holes, hard links, renames, mappings that all see the same bytes, OFD
 * locks of each open file, and a size.  There are no symbolic links and no rights.  It is one for
 * the whole program: memdisk_make begins with an empty one.
 *
 *   memdisk_make(0);
 *   memdisk_as(1);                                       the first process ..
 *   cache_open_on(&memdisk_ops, "/cache", limit, &a, &e);
 *   memdisk_as(2);                                       .. and a second one
 *   cache_open_on(&memdisk_ops, "/cache", limit, &b, &e);
 *   ..                                                   (memdisk_as, whenever the other one acts)
 *   memdisk_kill(1); cache_close(a);                     kill -9: the close frees memory alone
 *
 * Processes: a descriptor and a mapping belong to the process, a small number, that memdisk_as
 * named last.  What is opened in a folder belongs to the folder's process.  When a process is
 * killed its descriptors end, and with them its locks; what it does with them later is EBADF, and
 * what it stores to a mapping later is seen by nobody.  Its structs must still be closed.
 *
 * A store to a mapped page that has no block of its own (a hole, or what memdisk_share shared) is a
 * SIGSEGV unless ops->prepare came first.  A descriptor's number is never used again, so that what
 * is used after it was closed is found; closing one twice aborts. */
#ifndef OVERLAYBD_TESTS_MEMDISK_H
#define OVERLAYBD_TESTS_MEMDISK_H

#include <stdbool.h>
#include <stdint.h>

#include "fetch/cache_disk.h"

enum { MEMDISK_BLOCK = 4096 }; /* bytes; what space is counted in, but for folders and names */

/* The operations, as the fields of struct cache_disk_ops.  close and unmap cannot fail and are not
 * counted. */
enum memdisk_op {
	MEMDISK_ANY,
	MEMDISK_OPEN,
	MEMDISK_REPLACE,
	MEMDISK_STAT,
	MEMDISK_STAT_AT,
	MEMDISK_EXISTS,
	MEMDISK_ROOM,
	MEMDISK_LIST,
	MEMDISK_MAKE_FOLDER,
	MEMDISK_NAME,
	MEMDISK_RENAME,
	MEMDISK_UNLINK,
	MEMDISK_REMOVE_FOLDER,
	MEMDISK_PREAD,
	MEMDISK_PWRITE,
	MEMDISK_TRUNCATE,
	MEMDISK_ALLOCATE,
	MEMDISK_PUNCH,
	MEMDISK_UNSHARE,
	MEMDISK_NO_COW,
	MEMDISK_GIVE,
	MEMDISK_TOUCH,
	MEMDISK_DATASYNC,
	MEMDISK_LOCK,
	MEMDISK_LOOK,
	MEMDISK_MAP,
	MEMDISK_PREPARE,
	MEMDISK_OPS,
};

extern const struct cache_disk_ops memdisk_ops;

/* An empty disk of `room` bytes (0: no limit), without faults, hook and calls; process 0 acts.
 * What was there before is gone; nothing of it may be open. */
void memdisk_make(uint64_t room);

/* Frees the disk.  Aborts when a process that was not killed has left something open or mapped. */
void memdisk_free(void);

/* Closes and unmaps all that is still open, and returns whether that was anything: for the end of a
 * test that failed. */
bool memdisk_abandon(void);

void memdisk_set_room(uint64_t room);
uint64_t memdisk_used(void); /* bytes of all blocks */

/* f_type of the file system (tmpfs), and whether punching makes holes (true). */
void memdisk_set_type(int64_t type);
void memdisk_set_punches(bool punches);

/* ---- processes ---- */

enum { MEMDISK_PROCESSES = 64 };

void memdisk_as(unsigned process);
void memdisk_kill(unsigned process);

/* ---- faults ---- */

/* The nth call of `op` from now on (1: the next) is -error and does nothing; with `lasting` all
 * after it too.  A new fault takes the place of the last. */
void memdisk_fail(enum memdisk_op op, uint64_t nth, int error, bool lasting);

/* The nth MEMDISK_PREAD or MEMDISK_PWRITE from now on moves at most `most` bytes. */
void memdisk_cut(enum memdisk_op op, uint64_t nth, size_t most);

void memdisk_heal(void); /* no fault any more */
bool memdisk_failed(void); /* the fault has struck */

/* Calls of an operation since memdisk_make. */
uint64_t memdisk_calls(enum memdisk_op op);

/* Called before each operation, with its process and its name ("" for one on a descriptor); what it
 * returns, if not 0, is the operation's result.  It may use the disk itself and kill processes. */
void memdisk_set_hook(int (*before)(void *arg, enum memdisk_op op, unsigned process,
				    const char *name),
		      void *arg);

/* ---- looking and damaging from outside, by absolute paths ---- */

bool memdisk_exists(const char *path);
uint64_t memdisk_size(const char *path); /* bytes of a file; UINT64_MAX: there is none */
uint64_t memdisk_allocated(const char *path); /* bytes of its blocks */
unsigned memdisk_syncs(const char *path); /* how often it was synced, under whatever name */
void memdisk_peek(const char *path, uint64_t off, void *buf, size_t n);
void memdisk_poke(const char *path, uint64_t off, const void *buf, size_t n);

/* A second name of a file. */
void memdisk_link(const char *path, const char *to);

/* All blocks of a file are shared from now on, as by a snapshot: a store needs a new one. */
void memdisk_share(const char *path);

/* Calls `each` with the path of every file. */
void memdisk_walk(void (*each)(void *arg, const char *path), void *arg);

#endif
