/* SPDX-License-Identifier: Apache-2.0 */
/* ext4.c - see ext4.h: libext2fs over an image.
 *
 * libext2fs checks much of what it reads, but not everything.  So the superblock's sizes are
 * checked before it sees them, as it allocates by them; every block that it asks for must lie on
 * the disk; and as each of its loops reads, an allowance of reads ends them all. */
#include "prefetch/ext4.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <ext2fs/ext2fs.h>

#include "core/base/array.h"
#include "core/base/le.h"
#include "core/base/scope.h"

enum {
	READS_MAX = 1 << 20, /* of metadata */
	SUPER_AT = 1024, /* bytes */
	SUPER_SIZE = 1024,
	NAME_ROOM = 32, /* of a pointer, in hex */
	GROUP_BLOCKS_MIN = 256, /* mke2fs makes no smaller groups */
	GROUPS_MAX = 1 << 20, /* 128 TiB in blocks of 4 KiB */
};

/* Of all files together: 256 GiB in blocks of 4 KiB. */
#define BLOCKS_MAX (UINT64_C(1) << 26)

struct ext4 {
	struct image *image;
	ext2_filsys fs;
	struct trace_range *reads;
	size_t count, room;
	uint64_t blocks; /* of files, that were handed out */
	int failure; /* -errno of a read that failed, or of one too many; 0: none */
	struct err failure_text;
};

/* ---- reading ---- */

static errcode_t fail(struct ext4 *x, int r)
{
	x->failure = r;
	return -r;
}

static errcode_t note_read(struct ext4 *x, uint64_t off, uint64_t n)
{
	struct trace_range *reads;

	if (x->count == READS_MAX)
		return fail(x, err_set(&x->failure_text, EFBIG,
				       "finding the files takes more than %d reads", READS_MAX));
	reads = array_grow(x->reads, x->count, &x->room, sizeof *reads);
	if (!reads)
		return fail(x, err_set(&x->failure_text, ENOMEM, "out of memory"));
	x->reads = reads;
	x->reads[x->count++] =
		(struct trace_range){ .lba = off / SECTOR,
				      .sectors = (off % SECTOR + n + SECTOR - 1) / SECTOR };
	return 0;
}

/* A negative count is one of bytes. */
static errcode_t channel_read64(io_channel channel, unsigned long long block, int count, void *data)
{
	struct ext4 *x = channel->private_data;
	uint64_t size = (uint64_t)channel->block_size;
	uint64_t n = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * size;
	uint64_t off;
	errcode_t code;
	int r;

	if (x->failure < 0)
		return -x->failure;
	if (__builtin_mul_overflow(block, size, &off) || !range_fits(off, n, image_size(x->image)))
		return EXT2_ET_BAD_BLOCK_NUM;
	code = note_read(x, off, n);
	if (code)
		return code;
	r = image_pread(x->image, data, (size_t)n, off, &x->failure_text);
	return r < 0 ? fail(x, r) : 0;
}

static errcode_t channel_read(io_channel channel, unsigned long block, int count, void *data)
{
	return channel_read64(channel, block, count, data);
}

static errcode_t channel_write(io_channel channel, unsigned long block, int count, const void *data)
{
	return EROFS;
}

static errcode_t channel_flush(io_channel channel)
{
	return 0;
}

static errcode_t channel_set_size(io_channel channel, int size)
{
	channel->block_size = size;
	return 0;
}

static errcode_t channel_close(io_channel channel)
{
	free(channel);
	return 0;
}

static errcode_t channel_open(const char *name, int flags, io_channel *out);

static struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "overlaybd image",
	.open = channel_open,
	.close = channel_close,
	.set_blksize = channel_set_size,
	.read_blk = channel_read,
	.read_blk64 = channel_read64,
	.write_blk = channel_write,
	.flush = channel_flush,
};

/* The library passes nothing on but a name: it is the address of our struct, in hex. */
static errcode_t channel_open(const char *name, int flags, io_channel *out)
{
	static char channel_name[] = "image";
	io_channel channel = malloc(sizeof *channel);

	if (!channel)
		return ENOMEM;
	*channel = (struct struct_io_channel){ .magic = EXT2_ET_MAGIC_IO_CHANNEL,
					       .manager = &manager,
					       .name = channel_name,
					       .block_size = SUPER_SIZE,
					       .private_data = (void *)(uintptr_t)strtoull(
						       name, NULL, 16) };
	*out = channel;
	return 0;
}

/* ---- errors ---- */

static void load_messages(void)
{
	initialize_ext2_error_table();
}

static const char *message_of(errcode_t code)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, load_messages);
	return error_message(code);
}

/* Sets the text for a code of the library, which is not 0, and returns -errno. */
static int explain(struct ext4 *x, errcode_t code, struct err *e)
{
	if (x->failure < 0)
		return err_set(e, -x->failure, "%s", x->failure_text.msg);
	switch (code) {
	case EXT2_ET_FILE_NOT_FOUND:
		return err_set(e, ENOENT, "%s", strerror(ENOENT));
	case EXT2_ET_NO_DIRECTORY:
		return err_set(e, ENOTDIR, "%s", strerror(ENOTDIR));
	case EXT2_ET_NO_MEMORY:
	case ENOMEM:
		return err_set(e, ENOMEM, "out of memory");
	default:
		return err_set(e, EBADMSG, "damaged file system: %s", message_of(code));
	}
}

bool ext4_failed(const struct ext4 *x)
{
	return x->failure < 0;
}

/* ---- opening ---- */

/* Offsets in the superblock. */
enum {
	AT_BLOCKS = 0x04,
	AT_FIRST_BLOCK = 0x14,
	AT_LOG_BLOCK_SIZE = 0x18,
	AT_GROUP_BLOCKS = 0x20,
	AT_GROUP_INODES = 0x28,
	AT_MAGIC = 0x38,
	AT_INCOMPATIBLE = 0x60,
	AT_BLOCKS_HIGH = 0x150,
	MAGIC_LOW = 0x53,
	MAGIC_HIGH = 0xef,
	INCOMPATIBLE_64BIT = 0x80,
	LOG_BLOCK_SIZE_MAX = 6,
};

static bool is_ext4(const uint8_t *super)
{
	return super[AT_MAGIC] == MAGIC_LOW && super[AT_MAGIC + 1] == MAGIC_HIGH;
}

/* `head` is the disk's first bytes, superblock included. */
static int say_what_it_is(const uint8_t *head, struct err *e)
{
	static const uint8_t erofs[] = { 0xe2, 0xe1, 0xf5, 0xe0 }, mbr[] = { 0x55, 0xaa };
	static const char *const only = "paths can be found in ext4 file systems only";

	if (memcmp(head + SUPER_AT, erofs, sizeof erofs) == 0)
		return err_set(e, EINVAL, "the disk holds an erofs file system: %s", only);
	if (memcmp(head + 510, mbr, sizeof mbr) == 0 || memcmp(head + 512, "EFI PART", 8) == 0)
		return err_set(e, EINVAL, "the disk holds a partition table: %s, on the whole disk",
			       only);
	return err_set(e, EINVAL, "the disk holds no ext4 file system: %s", only);
}

static int check_super(const uint8_t *super, uint64_t disk, struct err *e)
{
	uint64_t blocks = le32_get(super + AT_BLOCKS);
	uint32_t log_size = le32_get(super + AT_LOG_BLOCK_SIZE);
	uint32_t group_blocks = le32_get(super + AT_GROUP_BLOCKS);

	if (le32_get(super + AT_INCOMPATIBLE) & INCOMPATIBLE_64BIT)
		blocks |= (uint64_t)le32_get(super + AT_BLOCKS_HIGH) << 32;
	if (log_size > LOG_BLOCK_SIZE_MAX || blocks == 0 || blocks > disk >> (10 + log_size))
		return err_set(e, EBADMSG,
			       "damaged file system: %" PRIu64 " blocks of 2^%" PRIu32
			       " bytes on a disk of %" PRIu64,
			       blocks, log_size < 99 ? log_size + 10 : log_size, disk);
	if (group_blocks < GROUP_BLOCKS_MIN || blocks / group_blocks >= GROUPS_MAX ||
	    le32_get(super + AT_GROUP_INODES) == 0 || le32_get(super + AT_FIRST_BLOCK) > 1)
		return err_set(e, EBADMSG,
			       "damaged file system: %" PRIu64 " blocks in groups of %" PRIu32,
			       blocks, group_blocks);
	return 0;
}

static int look_at_disk(struct image *image, struct err *e)
{
	uint8_t head[SUPER_AT + SUPER_SIZE] = { 0 };
	uint64_t disk = image_size(image);
	int r = image_pread(image, head, (size_t)min_u64(sizeof head, disk), 0, e);

	if (r < 0)
		return r;
	if (!is_ext4(head + SUPER_AT))
		return say_what_it_is(head, e);
	return check_super(head + SUPER_AT, disk, e);
}

int ext4_open(struct image *image, struct ext4 **out, struct err *e)
{
	struct ext4 *x;
	char name[NAME_ROOM];
	errcode_t code;
	int r = look_at_disk(image, e);

	if (r < 0)
		return r;
	x = malloc(sizeof *x);
	if (!x)
		return err_set(e, ENOMEM, "out of memory");
	*x = (struct ext4){ .image = image };
	snprintf(name, sizeof name, "%" PRIxPTR, (uintptr_t)x);
	code = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS, 0, 0, &manager, &x->fs);
	if (code) {
		r = explain(x, code, e);
		ext4_close(x);
		return r;
	}
	*out = x;
	return 0;
}

void ext4_close(struct ext4 *x)
{
	if (!x)
		return;
	if (x->fs)
		ext2fs_free(x->fs);
	free(x->reads);
	free(x);
}

const struct trace_range *ext4_reads(const struct ext4 *x, size_t *count)
{
	*count = x->count;
	return x->reads;
}

/* ---- files ---- */

int ext4_lookup(struct ext4 *x, uint32_t folder, const char *name, size_t n, uint32_t *out,
		struct err *e)
{
	ext2_ino_t inode;
	errcode_t code = n > EXT2_NAME_LEN
				 ? EXT2_ET_FILE_NOT_FOUND
				 : ext2fs_lookup(x->fs, folder, name, (int)n, NULL, &inode);

	if (code)
		return explain(x, code, e);
	*out = inode;
	return 0;
}

static enum ext4_kind kind_of_mode(unsigned mode)
{
	return LINUX_S_ISREG(mode)   ? EXT4_FILE
	       : LINUX_S_ISDIR(mode) ? EXT4_FOLDER
	       : LINUX_S_ISLNK(mode) ? EXT4_LINK
				     : EXT4_OTHER;
}

int ext4_kind_of(struct ext4 *x, uint32_t inode, enum ext4_kind *out, struct err *e)
{
	struct ext2_inode node;
	errcode_t code = ext2fs_read_inode(x->fs, inode, &node);

	if (code)
		return explain(x, code, e);
	*out = kind_of_mode(node.i_mode);
	return 0;
}

/* One that has a block, or lies in the inode's extended attributes. */
static errcode_t read_long_link(struct ext4 *x, uint32_t inode, char *out, unsigned size)
{
	ext2_file_t file;
	unsigned got = 0;
	errcode_t code = ext2fs_file_open(x->fs, inode, 0, &file);

	if (code == 0) {
		code = ext2fs_file_read(file, out, size, &got);
		ext2fs_file_close(file);
	}
	return code || got == size ? code : EXT2_ET_SHORT_READ;
}

int ext4_read_link(struct ext4 *x, uint32_t inode, char out[EXT4_LINK_MAX], struct err *e)
{
	struct ext2_inode node;
	errcode_t code = ext2fs_read_inode(x->fs, inode, &node);
	uint64_t size;

	if (code)
		return explain(x, code, e);
	size = EXT2_I_SIZE(&node);
	if (!LINUX_S_ISLNK(node.i_mode) || size == 0 || size >= EXT4_LINK_MAX)
		return err_set(e, EBADMSG,
			       "damaged file system: symbolic link of %" PRIu64 " bytes", size);
	if (size < sizeof node.i_block) /* a "fast" one, which lies in the inode */
		memcpy(out, node.i_block, (size_t)size);
	else
		code = read_long_link(x, inode, out, (unsigned)size);
	if (code)
		return explain(x, code, e);
	out[size] = '\0';
	return 0;
}

struct listing {
	int (*each)(void *arg, uint32_t inode, enum ext4_kind kind);
	void *arg;
};

/* By name: the library counts entries, and miscounts in folders that lie in their inode. */
static bool is_dot_or_dots(const struct ext2_dir_entry *dirent)
{
	int n = ext2fs_dirent_name_len(dirent);

	return (n == 1 || n == 2) && dirent->name[0] == '.' && dirent->name[n - 1] == '.';
}

static int list_entry(ext2_ino_t folder, int entry, struct ext2_dir_entry *dirent, int offset,
		      int block_size, char *buf, void *arg)
{
	static const enum ext4_kind kinds[] = {
		[EXT2_FT_REG_FILE] = EXT4_FILE, [EXT2_FT_DIR] = EXT4_FOLDER,
		[EXT2_FT_CHRDEV] = EXT4_OTHER,	[EXT2_FT_BLKDEV] = EXT4_OTHER,
		[EXT2_FT_FIFO] = EXT4_OTHER,	[EXT2_FT_SOCK] = EXT4_OTHER,
		[EXT2_FT_SYMLINK] = EXT4_LINK,
	};
	const struct listing *listing = arg;
	size_t type = (size_t)ext2fs_dirent_file_type(dirent);

	if (is_dot_or_dots(dirent))
		return 0;
	return listing->each(listing->arg, dirent->inode,
			     type < sizeof kinds / sizeof *kinds ? kinds[type] : EXT4_UNKNOWN)
		       ? DIRENT_ABORT
		       : 0;
}

int ext4_list(struct ext4 *x, uint32_t folder,
	      int (*each)(void *arg, uint32_t inode, enum ext4_kind kind), void *arg, struct err *e)
{
	struct listing listing = { .each = each, .arg = arg };
	errcode_t code = ext2fs_dir_iterate2(x->fs, folder, 0, NULL, list_entry, &listing);

	return code ? explain(x, code, e) : 0;
}

struct mapping_out {
	struct ext4 *fs;
	int (*each)(void *arg, uint64_t lba, uint64_t sectors);
	void *arg;
	int64_t blocks; /* of the file: what lies behind is not read */
	bool outside; /* a block is not on the disk */
};

static int map_block(ext2_filsys fs, blk64_t *block, e2_blkcnt_t number, blk64_t ref_block,
		     int ref_offset, void *arg)
{
	struct mapping_out *out = arg;
	uint64_t size = fs->blocksize;

	if (++out->fs->blocks > BLOCKS_MAX) {
		fail(out->fs, err_set(&out->fs->failure_text, EFBIG,
				      "the files have more than %" PRIu64 " blocks", BLOCKS_MAX));
		return BLOCK_ABORT;
	}
	if (number < 0 || number >= out->blocks)
		return 0;
	if (*block >= image_size(out->fs->image) / size) {
		out->outside = true;
		return BLOCK_ABORT;
	}
	return out->each(out->arg, *block * (size / SECTOR), size / SECTOR) ? BLOCK_ABORT : 0;
}

/* The block of a file's extended attributes, such as its capabilities. */
static errcode_t read_attributes(struct ext4 *x, const struct ext2_inode *node)
{
	uint64_t block = ext2fs_file_acl_block(x->fs, node);
	AUTO_FREE void *buf = NULL;

	if (block == 0)
		return 0;
	buf = malloc(x->fs->blocksize);
	return buf ? io_channel_read_blk64(x->fs->io, block, 1, buf) : ENOMEM;
}

int ext4_data(struct ext4 *x, uint32_t inode,
	      int (*each)(void *arg, uint64_t lba, uint64_t sectors), void *arg, struct err *e)
{
	struct mapping_out out = { .fs = x, .each = each, .arg = arg };
	struct ext2_inode node;
	errcode_t code = ext2fs_read_inode(x->fs, inode, &node);
	uint64_t size;

	if (code == 0)
		code = read_attributes(x, &node);
	if (code)
		return explain(x, code, e);
	size = EXT2_I_SIZE(&node);
	out.blocks = (int64_t)(size / x->fs->blocksize + (size % x->fs->blocksize > 0));
	if (!LINUX_S_ISREG(node.i_mode) || node.i_flags & EXT4_INLINE_DATA_FL)
		return 0; /* what there is lies in the inode */
	code = ext2fs_block_iterate3(x->fs, inode, BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY,
				     NULL, map_block, &out);
	if (out.outside && !ext4_failed(x))
		code = EXT2_ET_BAD_BLOCK_NUM;
	return code || ext4_failed(x) ? explain(x, code, e) : 0;
}
