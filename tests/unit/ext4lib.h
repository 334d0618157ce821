/* SPDX-License-Identifier: Apache-2.0 */
/* ext4lib.h - small file systems that libext2fs makes, as the disk of an image. */
#ifndef OVERLAYBD_TESTS_EXT4LIB_H
#define OVERLAYBD_TESTS_EXT4LIB_H

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ext2fs/ext2fs.h>

#include "core/base/io.h"
#include "core/base/le.h"
#include "prefetch/ext4.h"
#include "tests/unit/stack.h"

enum {
	BLOCK = 1024,
	BLOCKS = 4096,
	PER_BLOCK = BLOCK / SECTOR,
	SUPER = 1024, /* where the superblock is */
};

static char raw[64]; /* the file system's file */
static ext2_filsys fs;

#define OK(call) assert_int_equal((call), 0)

static struct stack stack;
static struct image *image;

/* ---- making ---- */

static inline ext2_ino_t add_inode(ext2_ino_t folder, const char *name, unsigned mode, int type,
				   bool extents)
{
	struct ext2_inode node = { 0 };
	ext2_ino_t inode;

	OK(ext2fs_new_inode(fs, folder, (int)mode, NULL, &inode));
	node.i_mode = (uint16_t)mode;
	node.i_links_count = 1;
	if (extents)
		node.i_flags |= EXT4_EXTENTS_FL;
	OK(ext2fs_write_new_inode(fs, inode, &node));
	ext2fs_inode_alloc_stats2(fs, inode, 1, 0);
	OK(ext2fs_link(fs, folder, name, inode, type));
	return inode;
}

static inline ext2_ino_t add_file(ext2_ino_t folder, const char *name, bool extents, size_t blocks)
{
	ext2_ino_t inode = add_inode(folder, name, LINUX_S_IFREG | 0644, EXT2_FT_REG_FILE, extents);
	char bytes[BLOCK] = "x";
	ext2_file_t out;
	unsigned n;
	size_t i;

	OK(ext2fs_file_open(fs, inode, EXT2_FILE_WRITE, &out));
	for (i = 0; i < blocks; i++)
		OK(ext2fs_file_write(out, bytes, BLOCK, &n));
	OK(ext2fs_file_close(out));
	return inode;
}

/* An empty file system that is open for writing, with a folder in its root. */
static inline void begin_file_system(ext2_ino_t *in_root)
{
	struct ext2_super_block how = { 0 };
	ext2_ino_t i;

	how.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS;
	ext2fs_blocks_count_set(&how, BLOCKS);
	OK(ext2fs_initialize(raw, EXT2_FLAG_64BITS, &how, unix_io_manager, &fs));
	assert_int_equal(fs->blocksize, BLOCK);
	OK(ext2fs_allocate_tables(fs));
	OK(ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL));
	for (i = EXT2_ROOT_INO + 1; i < EXT2_FIRST_INODE(fs->super); i++)
		ext2fs_inode_alloc_stats2(fs, i, 1, 0);
	OK(ext2fs_mkdir(fs, EXT2_ROOT_INO, 0, "folder"));
	OK(ext2fs_lookup(fs, EXT2_ROOT_INO, "folder", 6, NULL, in_root));
}

/* ---- changing ---- */

static inline void begin_change(void)
{
	OK(ext2fs_open(raw, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs));
	OK(ext2fs_read_bitmaps(fs));
}

static inline void end_change(void)
{
	OK(ext2fs_close(fs));
}

static inline struct ext2_inode node_of(ext2_ino_t inode)
{
	struct ext2_inode node;

	begin_change();
	OK(ext2fs_read_inode(fs, inode, &node));
	end_change();
	return node;
}

static inline void set_node(ext2_ino_t inode, struct ext2_inode node)
{
	begin_change();
	OK(ext2fs_write_inode(fs, inode, &node));
	end_change();
}

/* Where the blocks of a file are. */
static inline size_t blocks_of(ext2_ino_t inode, blk64_t *out)
{
	size_t n = 0;

	begin_change();
	for (;; n++) {
		OK(ext2fs_bmap2(fs, inode, NULL, NULL, 0, n, NULL, &out[n]));
		if (out[n] == 0)
			break;
	}
	end_change();
	return n;
}

/* ---- opening ---- */

/* The file system, as it is now, as the disk of an image. */
static inline void open_image(void)
{
	struct layer_writer *w;
	char *bytes;
	size_t n;

	OK(io_read_file(raw, 1 << 30, &bytes, &n, NULL));
	assert_int_equal(n, BLOCKS * BLOCK);
	stack_init(&stack);
	w = stack_add(&stack, n / SECTOR);
	OK(layer_writer_data(w, 0, bytes, n / SECTOR, NULL));
	stack_finish(w);
	free(bytes);
	image = stack_open(&stack);
}

static inline void close_image(void)
{
	image_close(image);
	stack_release(&stack);
}

static inline struct ext4 *open_ext4(void)
{
	struct ext4 *x;
	struct err e = { "" };

	open_image();
	if (ext4_open(image, &x, &e) < 0)
		fail_msg("%s", e.msg);
	assert_false(ext4_failed(x));
	return x;
}

static inline void close_ext4(struct ext4 *x)
{
	ext4_close(x);
	close_image();
}

/* The file of the file systems. */
static inline int make_raw_file(void)
{
	int fd;

	initialize_ext2_error_table();
	memcpy(raw, "/tmp/test-ext4.XXXXXX", 22);
	fd = mkstemp(raw);
	if (fd < 0 || ftruncate(fd, BLOCKS * BLOCK) < 0)
		return -1;
	close(fd);
	return 0;
}

#endif
