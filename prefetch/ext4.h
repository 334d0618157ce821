/* SPDX-License-Identifier: Apache-2.0 */
/* ext4.h - finds files in an ext2, ext3 or ext4 file system on an image, and the sectors that they
 * lie in.  Notes every range that it reads on the way.
 *
 * The file system is hostile input: reads stay on the disk, and their number is limited, so that no
 * damage, loops included, can keep a call busy for long.
 *
 * Errors: ENOENT, ENOTDIR: as for files; EBADMSG: the file system is damaged there; ENOMEM.  After
 * a read that failed, or one too many, ext4_failed is true, and all calls give that error.
 * Threads: one at a time for one file system. */
#ifndef OVERLAYBD_PREFETCH_EXT4_H
#define OVERLAYBD_PREFETCH_EXT4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/image.h"
#include "prefetch/trace_edit.h"

enum {
	EXT4_ROOT = 2, /* number of the root folder's inode */
	EXT4_LINK_MAX = 4096, /* bytes of a symbolic link's target, with a NUL */
};

enum ext4_kind {
	EXT4_UNKNOWN, /* the folder's entry does not tell */
	EXT4_FILE,
	EXT4_FOLDER,
	EXT4_LINK,
	EXT4_OTHER, /* devices, sockets */
};

struct ext4;

/* EINVAL: the disk does not begin with such a file system; the text says what is there instead.
 * EBADMSG: it is damaged.  The image must outlive *out. */
int ext4_open(struct image *image, struct ext4 **out, struct err *e);

/* NULL is allowed. */
void ext4_close(struct ext4 *fs);

bool ext4_failed(const struct ext4 *fs);

/* The inode that a folder has under this name of n bytes. */
int ext4_lookup(struct ext4 *fs, uint32_t folder, const char *name, size_t n, uint32_t *out,
		struct err *e);

int ext4_kind_of(struct ext4 *fs, uint32_t inode, enum ext4_kind *out, struct err *e);

/* The target of a symbolic link. */
int ext4_read_link(struct ext4 *fs, uint32_t inode, char out[EXT4_LINK_MAX], struct err *e);

/* Calls `each` for the entries of a folder but . and .., until it returns anything but 0. */
int ext4_list(struct ext4 *fs, uint32_t folder,
	      int (*each)(void *arg, uint32_t inode, enum ext4_kind kind), void *arg,
	      struct err *e);

/* Calls `each` for the sectors that hold a file's data, in its order, until it returns anything but
 * 0.  Every range lies on the disk. */
int ext4_data(struct ext4 *fs, uint32_t inode,
	      int (*each)(void *arg, uint64_t lba, uint64_t sectors), void *arg, struct err *e);

/* What was read so far, in order; valid until the next call. */
const struct trace_range *ext4_reads(const struct ext4 *fs, size_t *count);

#endif
