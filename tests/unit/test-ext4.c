/* SPDX-License-Identifier: Apache-2.0 */
/* test-ext4.c - files, folders and links of small file systems that libext2fs makes here, and that
 * are wrong in one place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "core/base/io.h"
#include "tests/unit/alloc.h"
#include "tests/unit/ext4lib.h"
#include "tests/unit/heap.h"

/* What the tests look at. */
static ext2_ino_t folder, file, mapped, fast_link, long_link, fifo;

static void make_file_system(void)
{
	char target[200];

	begin_file_system(&folder);
	file = add_file(folder, "file", true, 5);
	mapped = add_file(folder, "mapped", false,
			  20); /* without extents, and with an indirect block */
	fifo = add_inode(folder, "fifo", LINUX_S_IFIFO | 0644, EXT2_FT_FIFO, false);
	OK(ext2fs_symlink(fs, folder, 0, "fast", "target"));
	memset(target, 't', sizeof target);
	target[199] = '\0';
	OK(ext2fs_symlink(fs, folder, 0, "long", target));
	OK(ext2fs_lookup(fs, folder, "fast", 4, NULL, &fast_link));
	OK(ext2fs_lookup(fs, folder, "long", 4, NULL, &long_link));
	OK(ext2fs_close(fs));
}

/* ---- files ---- */

static uint64_t pieces[64];
static size_t piece_count, piece_limit;

static int note_piece(void *arg, uint64_t lba, uint64_t sectors)
{
	assert_int_equal(sectors, PER_BLOCK);
	assert_int_equal(lba % PER_BLOCK, 0);
	pieces[piece_count++] = lba / PER_BLOCK;
	return piece_count == piece_limit;
}

static int data_of(struct ext4 *x, ext2_ino_t inode, struct err *e)
{
	piece_count = 0;
	return ext4_data(x, inode, note_piece, NULL, e);
}

static void data_comes_in_the_files_order(void **state)
{
	const ext2_ino_t files[] = { file, mapped };
	blk64_t want[64];
	size_t i, k, n;

	for (i = 0; i < 2; i++) {
		struct ext4 *x = open_ext4();

		n = blocks_of(files[i], want);
		assert_int_equal(n, i == 0 ? 5 : 20);
		piece_limit = 0;
		assert_int_equal(data_of(x, files[i], NULL), 0);
		assert_int_equal(piece_count, n);
		for (k = 0; k < n; k++)
			assert_int_equal(pieces[k], want[k]);
		piece_limit = 3; /* enough */
		assert_int_equal(data_of(x, files[i], NULL), 0);
		assert_int_equal(piece_count, 3);
		piece_limit = 0;
		close_ext4(x);
	}
}

/* Space that was reserved for a file to grow into is not read. */
static void what_lies_behind_the_end_is_left_out(void **state)
{
	static const struct {
		unsigned size;
		size_t blocks;
	} rows[] = { { 5 * BLOCK, 5 }, { 4 * BLOCK + 1, 5 }, { 4 * BLOCK, 4 }, { 1, 1 },
		     { 0, 0 },	       { 9 * BLOCK, 5 } };
	struct ext2_inode was = node_of(file), node = was;
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct ext4 *x;

		node.i_size = rows[i].size;
		set_node(file, node);
		x = open_ext4();
		assert_int_equal(data_of(x, file, NULL), 0);
		assert_int_equal(piece_count, rows[i].blocks);
		close_ext4(x);
	}
	set_node(file, was);
}

static void only_files_have_data(void **state)
{
	struct ext2_inode was = node_of(file), node = was;
	struct ext4 *x = open_ext4();

	assert_int_equal(data_of(x, folder, NULL), 0);
	assert_int_equal(piece_count, 0);
	assert_int_equal(data_of(x, fifo, NULL), 0);
	assert_int_equal(piece_count, 0);
	assert_int_equal(data_of(x, long_link, NULL), 0);
	assert_int_equal(piece_count, 0);
	close_ext4(x);
	node.i_flags |= EXT4_INLINE_DATA_FL; /* it lies in the inode */
	set_node(file, node);
	x = open_ext4();
	assert_int_equal(data_of(x, file, NULL), 0);
	assert_int_equal(piece_count, 0);
	close_ext4(x);
	set_node(file, was);
}

/* What is noted is what was read, and no more: the inode, and the block of attributes. */
static void reads_are_noted_as_they_are(void **state)
{
	struct ext2_inode was = node_of(file), node = was;
	const struct trace_range *reads;
	size_t n, before, with;

	for (with = 0; with < 2; with++) {
		struct ext4 *x;

		node.i_file_acl = with ? 3000 : 0;
		set_node(file, node);
		x = open_ext4();
		reads = ext4_reads(x, &before);
		assert_true(before >= 2);
		assert_int_equal(reads[0].lba, SUPER / SECTOR);
		assert_int_equal(reads[0].sectors, 1024 / SECTOR);
		assert_int_equal(reads[1].lba, 2 * PER_BLOCK); /* descriptors of groups */
		assert_int_equal(data_of(x, file, NULL), 0);
		reads = ext4_reads(x, &n);
		assert_int_equal(n, before + 1 + with);
		assert_int_equal(reads[before].sectors, PER_BLOCK);
		assert_int_equal(reads[before].lba % PER_BLOCK, 0);
		assert_int_equal(reads[before + with].lba == 3000 * PER_BLOCK, with);
		close_ext4(x);
	}
	set_node(file, was);
}

/* Opening a file reads its attributes, such as capabilities: they are fetched too. */
static void attributes_are_read(void **state)
{
	struct ext2_inode was = node_of(file), node = was;
	const struct trace_range *reads;
	struct err e = { "" };
	struct ext4 *x;
	size_t n;

	node.i_file_acl = 3000;
	set_node(file, node);
	x = open_ext4();
	assert_int_equal(data_of(x, file, NULL), 0);
	reads = ext4_reads(x, &n);
	while (n > 0 && reads[n - 1].lba != 3000 * PER_BLOCK)
		n--;
	assert_true(n > 0 && reads[n - 1].sectors == PER_BLOCK);
	close_ext4(x);
	node.i_file_acl = BLOCKS; /* behind the end of the disk */
	set_node(file, node);
	x = open_ext4();
	assert_int_equal(data_of(x, file, &e), -EBADMSG);
	assert_memory_equal(e.msg, "damaged file system: ", 21);
	assert_false(ext4_failed(x)); /* others may be well */
	alloc_left = 0;
	assert_int_equal(data_of(x, file, &e), -ENOMEM);
	alloc_left = -1;
	close_ext4(x);
	set_node(file, was);
}

static void blocks_lie_on_the_disk(void **state)
{
	static const uint32_t places[] = { BLOCKS - 1, BLOCKS, 0xffffffff };
	struct ext2_inode was = node_of(mapped), node = was;
	size_t i;

	for (i = 0; i < 3; i++) {
		struct err e = { "" };
		struct ext4 *x;

		node.i_block[2] = places[i];
		set_node(mapped, node);
		x = open_ext4();
		if (i == 0) {
			assert_int_equal(data_of(x, mapped, &e), 0);
			assert_int_equal(pieces[2], BLOCKS - 1);
		} else {
			assert_int_equal(data_of(x, mapped, &e), -EBADMSG);
			assert_memory_equal(e.msg, "damaged file system: ", 21);
			assert_int_equal(piece_count, 2); /* and nothing of what follows */
		}
		close_ext4(x);
	}
	set_node(mapped, was);
}

/* ---- names ---- */

static void names_are_found(void **state)
{
	char name[300];
	struct err e = { "" };
	struct ext4 *x = open_ext4();
	uint32_t found = 0;

	memset(name, 'n', sizeof name);
	assert_int_equal(ext4_lookup(x, EXT4_ROOT, "folder", 6, &found, &e), 0);
	assert_int_equal(found, folder);
	assert_int_equal(ext4_lookup(x, folder, "filename", 4, &found, &e), 0); /* n bytes of it */
	assert_int_equal(found, file);
	assert_int_equal(ext4_lookup(x, folder, "files", 5, &found, &e), -ENOENT);
	assert_string_equal(e.msg, "No such file or directory");
	assert_int_equal(ext4_lookup(x, folder, name, 256, &found, &e), -ENOENT);
	assert_int_equal(ext4_lookup(x, folder, name, 300, &found, &e), -ENOENT);
	assert_int_equal(ext4_lookup(x, file, "x", 1, &found, &e), -ENOTDIR);
	assert_string_equal(e.msg, "Not a directory");
	assert_int_equal(found, file);
	assert_int_equal(ext4_lookup(x, 100000, "x", 1, &found, &e), -EBADMSG);
	close_ext4(x);
	begin_change();
	name[255] = '\0';
	OK(ext2fs_link(fs, folder, name, file, EXT2_FT_REG_FILE));
	end_change();
	x = open_ext4();
	assert_int_equal(ext4_lookup(x, folder, name, 255, &found, &e), 0);
	close_ext4(x);
	begin_change();
	OK(ext2fs_unlink(fs, folder, name, file, 0));
	end_change();
}

static void kinds(void **state)
{
	const struct {
		ext2_ino_t inode;
		enum ext4_kind kind;
	} rows[] = { { folder, EXT4_FOLDER },
		     { file, EXT4_FILE },
		     { fast_link, EXT4_LINK },
		     { long_link, EXT4_LINK },
		     { fifo, EXT4_OTHER } };
	struct ext4 *x = open_ext4();
	enum ext4_kind kind;
	struct err e = { "" };
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(ext4_kind_of(x, rows[i].inode, &kind, &e), 0);
		assert_int_equal(kind, rows[i].kind);
	}
	assert_int_equal(ext4_kind_of(x, 100000, &kind, &e), -EBADMSG);
	close_ext4(x);
}

static struct {
	ext2_ino_t inode;
	enum ext4_kind kind;
} listed[16];
static size_t listed_count, listed_limit;

static int note_entry(void *arg, uint32_t inode, enum ext4_kind kind)
{
	assert_ptr_equal(arg, &listed_count);
	listed[listed_count].inode = inode;
	listed[listed_count++].kind = kind;
	return listed_count == listed_limit;
}

static void folders_are_listed(void **state)
{
	const ext2_ino_t inodes[] = { file, mapped, fifo, fast_link, long_link };
	static const enum ext4_kind expected[] = { EXT4_FILE, EXT4_FILE, EXT4_OTHER, EXT4_LINK,
						   EXT4_LINK };
	struct err e = { "" };
	struct ext4 *x;
	unsigned types;
	size_t i;

	for (types = 1; types < 3; types++) {
		x = open_ext4();
		listed_count = listed_limit = 0;
		assert_int_equal(ext4_list(x, folder, note_entry, &listed_count, &e), 0);
		assert_int_equal(listed_count, 5); /* without . and .. */
		for (i = 0; i < 5; i++) {
			assert_int_equal(listed[i].inode, inodes[i]);
			assert_int_equal(listed[i].kind, types == 1 ? expected[i] : EXT4_UNKNOWN);
		}
		listed_count = 0;
		listed_limit = 2;
		assert_int_equal(ext4_list(x, folder, note_entry, &listed_count, &e), 0);
		assert_int_equal(listed_count, 2);
		assert_int_equal(ext4_list(x, file, note_entry, &listed_count, &e), -ENOTDIR);
		close_ext4(x);
		/* Then with types that nobody knows. */
		begin_change();
		for (i = 0; i < 5 && types == 1; i++) {
			static const char *const names[] = { "file", "mapped", "fifo", "fast",
							     "long" };

			OK(ext2fs_unlink(fs, folder, names[i], inodes[i], 0));
		}
		for (i = 0; i < 5 && types == 1; i++) {
			static const char *const names[] = { "file", "mapped", "fifo", "fast",
							     "long" };

			OK(ext2fs_link(fs, folder, names[i], inodes[i],
				       i % 2 ? 0 : 8 /* one too many */));
		}
		end_change();
	}
	/* Names that begin like those that are left out. */
	begin_change();
	OK(ext2fs_link(fs, folder, ".a", file, EXT2_FT_REG_FILE));
	OK(ext2fs_link(fs, folder, "a.", file, EXT2_FT_REG_FILE));
	OK(ext2fs_link(fs, folder, "...", file, EXT2_FT_REG_FILE));
	OK(ext2fs_link(fs, folder, "a", file, EXT2_FT_REG_FILE));
	end_change();
	x = open_ext4();
	listed_count = listed_limit = 0;
	assert_int_equal(ext4_list(x, folder, note_entry, &listed_count, &e), 0);
	assert_int_equal(listed_count, 9);
	close_ext4(x);
}

/* ---- links ---- */

static void set_size(ext2_ino_t inode, unsigned size)
{
	struct ext2_inode node = node_of(inode);

	node.i_size = size;
	set_node(inode, node);
}

/* Short ones lie in the inode, others in a block. */
static void links_of_all_lengths_are_read(void **state)
{
	static const size_t lengths[] = { 1, 2, 58, 59, 60, 61, 62, 500, 1023 };
	char text[1024], target[EXT4_LINK_MAX], name[16];
	uint32_t inode;
	struct ext4 *x;
	size_t i, k;

	begin_change();
	for (i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		for (k = 0; k < lengths[i]; k++)
			text[k] = (char)('a' + k % 26);
		text[k] = '\0';
		snprintf(name, sizeof name, "%zu", lengths[i]);
		OK(ext2fs_symlink(fs, EXT2_ROOT_INO, 0, name, text));
	}
	end_change();
	x = open_ext4();
	for (i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		int n = snprintf(name, sizeof name, "%zu", lengths[i]);

		assert_int_equal(ext4_lookup(x, EXT4_ROOT, name, (size_t)n, &inode, NULL), 0);
		memset(target, 'x', sizeof target);
		assert_int_equal(ext4_read_link(x, inode, target, NULL), 0);
		assert_int_equal(strlen(target), lengths[i]);
		for (k = 0; k < lengths[i]; k++)
			assert_int_equal(target[k], 'a' + k % 26);
	}
	close_ext4(x);
}

static void links_are_read(void **state)
{
	static const unsigned wrong[] = { 0, EXT4_LINK_MAX, EXT4_LINK_MAX + 1 };
	char target[EXT4_LINK_MAX];
	struct ext4 *x = open_ext4();
	struct err e = { "" };
	size_t i;

	assert_int_equal(ext4_read_link(x, fast_link, target, &e), 0);
	assert_string_equal(target, "target");
	assert_int_equal(ext4_read_link(x, long_link, target, &e), 0);
	assert_int_equal(strlen(target), 199);
	assert_int_equal(strspn(target, "t"), 199);
	assert_int_equal(ext4_read_link(x, file, target, &e), -EBADMSG);
	assert_string_equal(e.msg, "damaged file system: symbolic link of 5120 bytes");
	assert_int_equal(ext4_read_link(x, 100000, target, &e), -EBADMSG);
	close_ext4(x);
	for (i = 0; i < 3; i++) {
		set_size(long_link, wrong[i]);
		x = open_ext4();
		assert_int_equal(ext4_read_link(x, long_link, target, &e), -EBADMSG);
		close_ext4(x);
	}
	set_size(long_link, EXT4_LINK_MAX - 1); /* what has no block reads as zeroes */
	x = open_ext4();
	assert_int_equal(ext4_read_link(x, long_link, target, &e), 0);
	assert_int_equal(target[EXT4_LINK_MAX - 1], '\0');
	close_ext4(x);
	set_size(long_link, 199);
}

/* ---- the superblock ---- */

static void change_super(int at, uint32_t value, uint8_t was[4])
{
	uint8_t bytes[4];
	int fd = open(raw, O_RDWR | O_CLOEXEC);

	OK(io_pread(fd, was, 4, (uint64_t)(SUPER + at), NULL));
	le32_put(bytes, value);
	OK(io_pwrite(fd, bytes, 4, (uint64_t)(SUPER + at), NULL));
	close(fd);
}

/* Numbers that the library allocates by are checked before it sees them. */
static void sizes_are_checked_first(void **state)
{
	static const struct {
		int at;
		uint32_t value;
		const char *message; /* NULL: whatever the library says of it, if anything */
	} rows[] = {
		{ 0x04, BLOCKS, NULL },
		{ 0x04, BLOCKS + 1, "4097 blocks of 2^10 bytes on a disk of 4194304" },
		{ 0x04, 0, "0 blocks of 2^10 bytes" },
		{ 0x18, 6, "4096 blocks of 2^16 bytes on a disk" },
		{ 0x18, 7, "4096 blocks of 2^17 bytes on a disk" },
		{ 0x18, 98, "blocks of 2^108 bytes" },
		{ 0x18, 99, "blocks of 2^99 bytes" },
		{ 0x18, UINT32_MAX, "blocks of 2^4294967295 bytes" },
		{ 0x20, 255, "4096 blocks in groups of 255" },
		{ 0x20, 256, NULL },
		{ 0x20, 0, "4096 blocks in groups of 0" },
		{ 0x28, 0, "4096 blocks in groups of 8192" },
		{ 0x28, 1, NULL }, /* each byte of it counts */
		{ 0x28, 0x01000000, NULL },
		{ 0x14, 2, "4096 blocks in groups of 8192" },
		{ 0x14, 1, NULL },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint8_t was[4], now[4];
		struct err e = { "" };
		struct ext4 *x;
		int r;

		change_super(rows[i].at, rows[i].value, was);
		open_image();
		r = ext4_open(image, &x, &e);
		if (rows[i].message) {
			assert_int_equal(r, -EBADMSG);
			if (!strstr(e.msg, rows[i].message))
				fail_msg("%s", e.msg);
		} else {
			assert_null(strstr(e.msg, " in groups of "));
			assert_null(strstr(e.msg, " on a disk of "));
		}
		if (r == 0)
			ext4_close(x);
		close_image();
		change_super(rows[i].at, le32_get(was), now);
	}
}

/* Whether our superblock, with these numbers in it, is one of a disk of this size. */
static bool sizes_fit(uint64_t disk, uint32_t log_size, uint32_t blocks, uint32_t group_blocks)
{
	uint8_t head[SUPER + 1024];
	struct layer_writer *w;
	struct err e = { "" };
	struct ext4 *x;
	int r, fd = open(raw, O_RDONLY | O_CLOEXEC);

	OK(io_pread(fd, head, sizeof head, 0, NULL));
	close(fd);
	le32_put(head + SUPER + 0x04, blocks);
	le32_put(head + SUPER + 0x18, log_size);
	le32_put(head + SUPER + 0x20, group_blocks);
	stack_init(&stack);
	w = stack_add(&stack, disk / SECTOR);
	OK(layer_writer_data(w, 0, head, sizeof head / SECTOR, NULL));
	stack_finish(w);
	image = stack_open(&stack);
	r = ext4_open(image, &x, &e);
	if (r == 0)
		ext4_close(x);
	else
		assert_memory_equal(e.msg, "damaged file system: ", 21);
	close_image();
	return !strstr(e.msg, " on a disk of ") && !strstr(e.msg, " in groups of ");
}

static void sizes_have_limits(void **state)
{
	static const struct {
		uint64_t disk;
		uint32_t log_size, blocks, group_blocks;
		bool fit;
	} rows[] = {
		{ UINT64_C(1) << 28, 6, 4096, 8192, true }, /* 64 KiB are the largest blocks */
		{ UINT64_C(1) << 29, 7, 4096, 8192, false },
		{ UINT64_C(1) << 28, 6, 4097, 8192, false },
		{ UINT64_C(1) << 38, 0, (1 << 28) - 1, 256, true },
		{ UINT64_C(1) << 38, 0, 1 << 28, 256, false }, /* a million groups */
		{ UINT64_C(1) << 38, 0, 1 << 28, 257, true },
	};
	size_t i;

	for (i = 0; i < sizeof rows / sizeof *rows; i++)
		assert_int_equal(sizes_fit(rows[i].disk, rows[i].log_size, rows[i].blocks,
					   rows[i].group_blocks),
				 rows[i].fit);
}

/* The upper half of a number is there only in file systems that have 64-bit numbers. */
static void upper_halves_count_where_they_are(void **state)
{
	enum { INCOMPATIBLE = 0x60, BLOCKS_HIGH = 0x150, WITH_64BIT = 0x80, WITH_MMP = 0x100 };
	uint8_t was[4], features[4], now[4];
	struct err e = { "" };
	struct ext4 *x;
	unsigned bit;

	change_super(BLOCKS_HIGH, 1, was);
	close_ext4(open_ext4());
	change_super(INCOMPATIBLE, 0, features);
	change_super(INCOMPATIBLE, le32_get(features) | WITH_64BIT, now);
	open_image();
	assert_int_equal(ext4_open(image, &x, &e), -EBADMSG);
	assert_non_null(strstr(e.msg, "4294971392 blocks of 2^10 bytes on a disk of 4194304"));
	close_image();
	for (bit = 0; bit < 32; bit++) { /* no other feature says so */
		uint32_t other = UINT32_C(1) << bit;
		int r;

		if (other == WITH_64BIT)
			continue;
		change_super(INCOMPATIBLE, (le32_get(features) | other) & ~(uint32_t)WITH_64BIT,
			     now);
		open_image();
		e.msg[0] = '\0';
		r = ext4_open(image, &x, &e);
		assert_null(strstr(e.msg, " on a disk of "));
		if (other == WITH_MMP) /* which guards against two that write */
			assert_int_equal(r, 0);
		if (r == 0)
			ext4_close(x);
		close_image();
	}
	change_super(INCOMPATIBLE, le32_get(features), now);
	change_super(BLOCKS_HIGH, le32_get(was), now);
}

/* ---- failures ---- */

static void a_disk_that_fails_fails_for_good(void **state)
{
	char *bytes, target[EXT4_LINK_MAX];
	struct ext4 *x = open_ext4();
	struct err e = { "" };
	enum ext4_kind kind;
	uint32_t found;
	size_t n;

	OK(io_read_file(stack.lowers[0].file, 1 << 30, &bytes, &n, NULL));
	OK(truncate(stack.lowers[0].file, 4096));
	assert_int_equal(data_of(x, file, &e), -EIO);
	assert_non_null(strstr(e.msg, "the file ends at 4096"));
	assert_true(ext4_failed(x));
	OK(io_replace_file(stack.lowers[0].file, bytes, n, NULL));
	free(bytes);
	assert_int_equal(data_of(x, mapped, &e), -EIO);
	assert_int_equal(ext4_lookup(x, folder, "x", 1, &found, &e), -EIO);
	assert_int_equal(ext4_read_link(x, long_link, target, &e), -EIO);
	assert_int_equal(ext4_kind_of(x, fifo, &kind, &e), -EIO);
	listed_limit = 0;
	assert_int_equal(ext4_list(x, folder, note_entry, &listed_count, &e), -EIO);
	assert_non_null(strstr(e.msg, "the file ends at 4096")); /* and the cause stays */
	close_ext4(x);
}

static int count_entry(void *arg, uint32_t inode, enum ext4_kind kind)
{
	return 0;
}

/* One of the calls that read, whatever it finds. */
static int call(struct ext4 *x, unsigned which, struct err *e)
{
	char target[EXT4_LINK_MAX];
	enum ext4_kind kind;
	uint32_t found;

	switch (which) {
	case 0:
		return ext4_lookup(x, folder, "file", 4, &found, e);
	case 1:
		return ext4_kind_of(x, file, &kind, e);
	case 2:
		return ext4_read_link(x, long_link, target, e);
	case 3:
		return ext4_list(x, folder, count_entry, NULL, e);
	default:
		return data_of(x, mapped, e);
	}
}

enum { CALLS = 5 };

/* Whichever call reads it first, and however much of the disk is there. */
static void each_call_tells_of_a_failed_read(void **state)
{
	unsigned i, kept, failed[CALLS] = { 0 };

	for (i = 0; i < CALLS; i++)
		for (kept = 2; kept < BLOCKS; kept *= 2) {
			struct err e = { "" };
			struct ext4 *x;
			int r;

			open_image();
			OK(truncate(stack.lowers[0].file, FORMAT_SPACE + (off_t)kept * BLOCK));
			r = ext4_open(image, &x, &e);
			if (r == 0) {
				r = call(x, i, &e);
				assert_int_equal(ext4_failed(x), r < 0);
				failed[i] += r < 0;
				ext4_close(x);
			}
			if (r < 0) {
				assert_int_equal(r, -EIO);
				assert_non_null(strstr(e.msg, "the file ends at "));
			}
			close_image();
		}
	for (i = 0; i < CALLS; i++)
		assert_true(failed[i] > 0);
}

/* A file system that leads round in circles is left in the end. */
static void reads_have_a_limit(void **state)
{
	struct ext4 *x = open_ext4();
	struct err e = { "" };
	enum ext4_kind kind;
	size_t n;
	uint32_t i;
	int r = 0;

	for (i = 0; r == 0; i++) /* more inodes, in more blocks, than the library keeps */
		r = ext4_kind_of(x, 1 + i % 8 * 16, &kind, &e);
	assert_int_equal(r, -EFBIG);
	assert_string_equal(e.msg, "finding the files takes more than 1048576 reads");
	assert_true(ext4_failed(x));
	(void)ext4_reads(x, &n);
	assert_int_equal(n, 1 << 20);
	assert_int_equal(ext4_kind_of(x, folder, &kind, &e), -EFBIG);
	close_ext4(x);
}

/* Nor can a file have blocks without end: 256 times 256 times 256 here, which are one and the same.
 */
static void blocks_have_a_limit(void **state)
{
	struct ext2_inode was = node_of(mapped), node = was;
	uint8_t circle[BLOCK];
	struct err e = { "" };
	struct ext4 *x;
	unsigned i;
	int fd = open(raw, O_RDWR | O_CLOEXEC);

	for (i = 0; i < BLOCK; i += 4)
		le32_put(circle + i, 3500);
	OK(io_pwrite(fd, circle, BLOCK, 3500 * BLOCK, NULL));
	close(fd);
	memset(node.i_block, 0, sizeof node.i_block);
	node.i_block[EXT2_TIND_BLOCK] = 3500;
	node.i_size = 0; /* what is not read counts too */
	set_node(mapped, node);
	x = open_ext4();
	for (i = 0; i < 4; i++)
		assert_int_equal(data_of(x, mapped, &e), 0);
	assert_int_equal(piece_count, 0);
	assert_int_equal(data_of(x, mapped, &e), -EFBIG);
	assert_string_equal(e.msg, "the files have more than 67108864 blocks");
	assert_true(ext4_failed(x));
	close_ext4(x);
	set_node(mapped, was);
}

static void open_read_close(void)
{
	char target[EXT4_LINK_MAX];
	struct ext4 *x;
	uint32_t found;

	OK(ext4_open(image, &x, NULL));
	OK(data_of(x, file, NULL));
	OK(ext4_read_link(x, long_link, target, NULL));
	OK(ext4_lookup(x, folder, "file", 4, &found, NULL));
	ext4_close(x);
}

static void nothing_is_left_behind(void **state)
{
	open_image();
	HEAP_STEADY(open_read_close());
	close_image();
	ext4_close(NULL);
}

static int set_up(void **state)
{
	if (make_raw_file() < 0)
		return -1;
	make_file_system();
	return 0;
}

static int tear_down(void **state)
{
	return unlink(raw);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_comes_in_the_files_order),
		cmocka_unit_test(what_lies_behind_the_end_is_left_out),
		cmocka_unit_test(only_files_have_data),
		cmocka_unit_test(reads_are_noted_as_they_are),
		cmocka_unit_test(attributes_are_read),
		cmocka_unit_test(blocks_lie_on_the_disk),
		cmocka_unit_test(names_are_found),
		cmocka_unit_test(kinds),
		cmocka_unit_test(links_are_read),
		cmocka_unit_test(links_of_all_lengths_are_read),
		cmocka_unit_test(sizes_are_checked_first),
		cmocka_unit_test(sizes_have_limits),
		cmocka_unit_test(upper_halves_count_where_they_are),
		cmocka_unit_test(a_disk_that_fails_fails_for_good),
		cmocka_unit_test(each_call_tells_of_a_failed_read),
		cmocka_unit_test(reads_have_a_limit),
		cmocka_unit_test(blocks_have_a_limit),
		cmocka_unit_test(nothing_is_left_behind),
		cmocka_unit_test(folders_are_listed), /* changes them */
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
