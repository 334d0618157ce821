/* SPDX-License-Identifier: Apache-2.0 */
/* memdisk_node.c - files and folders of memdisk, see memdisk_internal.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "tests/unit/memdisk_internal.h"

#define ARENA ((uint64_t)8 << 30) /* bytes of address space */

int memdisk_arena = -1;
static uint8_t *arena;

void memdisk_bug(const char *what, const char *which)
{
	fprintf(stderr, "memdisk: %s: %s\n", which, what);
	abort();
}

/* More room in an array, when it is full. */
void *memdisk_grow(void *list, size_t count, size_t *room, size_t each)
{
	if (count < *room)
		return list;
	*room = 2 * *room + 8;
	list = realloc(list, *room * each);
	if (!list)
		memdisk_bug("out of memory", "test");
	return list;
}

void *memdisk_alloc(size_t n)
{
	void *p = calloc(1, n);

	if (!p)
		memdisk_bug("out of memory", "test");
	return p;
}

/* ---- the arena ---- */

static void close_arena(void)
{
	close(memdisk_arena);
}

void memdisk_make_arena(void)
{
	void *at;

	if (arena)
		return;
	memdisk_arena = memfd_create("memdisk", MFD_CLOEXEC);
	if (memdisk_arena < 0 || ftruncate(memdisk_arena, (off_t)ARENA) < 0)
		memdisk_bug(strerror(errno), "memfd");
	at = mmap(NULL, ARENA, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memdisk_arena,
		  0);
	if (at == MAP_FAILED)
		memdisk_bug(strerror(errno), "mmap");
	arena = at;
	atexit(close_arena);
}

/* A range of n bytes, all zero. */
static uint64_t arena_take(uint64_t n)
{
	uint64_t off = 0;
	size_t i = 0;

	while (i < disk.range_count && disk.ranges[i].off - off < n) {
		off = disk.ranges[i].off + disk.ranges[i].n;
		i++;
	}
	if (off + n > ARENA)
		memdisk_bug("full", "arena");
	disk.ranges =
		memdisk_grow(disk.ranges, disk.range_count, &disk.range_room, sizeof *disk.ranges);
	memmove(disk.ranges + i + 1, disk.ranges + i, (disk.range_count - i) * sizeof *disk.ranges);
	disk.ranges[i] = (struct range){ off, n };
	disk.range_count++;
	return off;
}

static void arena_give(uint64_t off, uint64_t n)
{
	size_t i = 0;

	while (disk.ranges[i].off != off)
		i++;
	memmove(disk.ranges + i, disk.ranges + i + 1,
		(--disk.range_count - i) * sizeof *disk.ranges);
	if (n <= 16 * MEMDISK_BLOCK)
		memset(arena + off, 0, n);
	else if (madvise(arena + off, n, MADV_REMOVE) < 0)
		memdisk_bug(strerror(errno), "madvise");
}

/* ---- blocks ---- */

size_t memdisk_find_block(const struct node *f, uint64_t index)
{
	size_t low = 0, high = f->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (f->blocks[middle].index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct block *memdisk_block(const struct node *f, uint64_t index)
{
	size_t i = memdisk_find_block(f, index);

	return i < f->count && f->blocks[i].index == index ? &f->blocks[i] : NULL;
}

bool memdisk_has_room(uint64_t blocks)
{
	return disk.room == 0 || blocks * MEMDISK_BLOCK + disk.used <= disk.room;
}

/* Lets all who map the block store to it, or not. */
void memdisk_protect(const struct node *f, uint64_t index, bool open)
{
	struct mapping *m;
	uint64_t off = index * MEMDISK_BLOCK;

	for (m = disk.mappings; m; m = m->next) {
		if (m->node != f || m->killed || off >= m->n)
			continue;
		if (mprotect(m->at + off, MEMDISK_BLOCK,
			     open ? PROT_READ | PROT_WRITE : PROT_READ) < 0)
			memdisk_bug(strerror(errno), "mprotect");
		m->is_changed = true;
	}
}

bool memdisk_is_own(const struct block *b)
{
	return b && b->charged && !b->shared;
}

/* Makes the block one that can be changed. */
int memdisk_own_block(struct node *f, uint64_t index, struct block **out)
{
	struct block *b = memdisk_block(f, index);
	size_t i;

	if (!memdisk_is_own(b)) {
		if (!memdisk_has_room(1))
			return -ENOSPC;
		disk.used += MEMDISK_BLOCK;
	}
	if (!b) {
		i = memdisk_find_block(f, index);
		f->blocks = memdisk_grow(f->blocks, f->count, &f->room, sizeof *f->blocks);
		memmove(f->blocks + i + 1, f->blocks + i, (f->count - i) * sizeof *f->blocks);
		f->count++;
		b = &f->blocks[i];
		*b = (struct block){ .index = index };
	}
	if (!memdisk_is_own(b)) {
		b->charged = true;
		b->shared = false;
		if (f->in_arena)
			memdisk_protect(f, index, true);
	}
	*out = b;
	return 0;
}

static bool is_in_arena(const struct node *f, uint64_t index)
{
	return f->in_arena && index * MEMDISK_BLOCK < f->arena_size;
}

/* What is shared was counted once more by memdisk_share's peer, whom nobody ever frees. */
void memdisk_free_block(struct node *f, size_t i)
{
	struct block *b = &f->blocks[i];

	if (memdisk_is_own(b))
		disk.used -= MEMDISK_BLOCK;
	if (is_in_arena(f, b->index)) {
		memset(b->bytes, 0, MEMDISK_BLOCK);
		b->charged = b->shared = false;
		memdisk_protect(f, b->index, false);
		return;
	}
	free(b->bytes);
	memmove(f->blocks + i, f->blocks + i + 1, (--f->count - i) * sizeof *f->blocks);
}

void memdisk_free_blocks_from(struct node *f, uint64_t index)
{
	size_t i = f->count;

	while (i > 0 && f->blocks[i - 1].index >= index)
		memdisk_free_block(f, --i);
}

void memdisk_move_to_arena(struct node *f)
{
	uint64_t pages = (f->size + MEMDISK_BLOCK - 1) / MEMDISK_BLOCK, i;
	struct block *blocks = memdisk_alloc(pages * sizeof *blocks + 1);

	f->arena_size = pages * MEMDISK_BLOCK;
	f->arena_off = arena_take(f->arena_size);
	for (i = 0; i < pages; i++) {
		const struct block *old = memdisk_block(f, i);

		blocks[i] = (struct block){ .index = i,
					    .bytes = arena + f->arena_off + i * MEMDISK_BLOCK };
		if (!old)
			continue;
		blocks[i].charged = old->charged;
		blocks[i].shared = old->shared;
		if (old->bytes)
			memcpy(blocks[i].bytes, old->bytes, MEMDISK_BLOCK);
		free(old->bytes);
	}
	free(f->blocks);
	f->blocks = blocks;
	f->count = f->room = pages;
	f->in_arena = true;
}

ssize_t memdisk_read_node(const struct node *f, void *buf, size_t n, uint64_t off)
{
	size_t done = 0;

	if (off >= f->size)
		return 0;
	if (n > f->size - off)
		n = (size_t)(f->size - off);
	while (done < n) {
		uint64_t at = off + done;
		size_t within = (size_t)(at % MEMDISK_BLOCK), piece = MEMDISK_BLOCK - within;
		const struct block *b = memdisk_block(f, at / MEMDISK_BLOCK);

		if (piece > n - done)
			piece = n - done;
		if (b && b->bytes)
			memcpy((char *)buf + done, b->bytes + within, piece);
		else
			memset((char *)buf + done, 0, piece);
		done += piece;
	}
	return (ssize_t)n;
}

void memdisk_note_change(struct node *f)
{
	f->changed = (struct timespec){ clock_date(), disk.ticks++ % 1000000000 };
}

ssize_t memdisk_write_node(struct node *f, const void *buf, size_t n, uint64_t off)
{
	size_t done = 0;

	while (done < n) {
		uint64_t at = off + done;
		size_t within = (size_t)(at % MEMDISK_BLOCK), piece = MEMDISK_BLOCK - within;
		struct block *b;
		int r = memdisk_own_block(f, at / MEMDISK_BLOCK, &b);

		if (r < 0 && done == 0)
			return r;
		if (r < 0)
			break;
		if (piece > n - done)
			piece = n - done;
		if (!b->bytes)
			b->bytes = memdisk_alloc(MEMDISK_BLOCK);
		memcpy(b->bytes + within, (const char *)buf + done, piece);
		done += piece;
	}
	if (off + done > f->size)
		f->size = off + done;
	memdisk_note_change(f);
	return (ssize_t)done;
}

/* ---- nodes and names ---- */

struct node *memdisk_new_node(bool is_folder)
{
	struct node *node = memdisk_alloc(sizeof *node);

	node->ino = ++disk.last_ino;
	node->is_folder = is_folder;
	memdisk_note_change(node);
	return node;
}

void memdisk_free_if_unused(struct node *node)
{
	if (node->names > 0 || node->opens > 0)
		return;
	if (node->in_arena) {
		size_t i;

		for (i = 0; i < node->count; i++) {
			if (memdisk_is_own(&node->blocks[i]))
				disk.used -= MEMDISK_BLOCK;
			if (!is_in_arena(node, node->blocks[i].index))
				free(node->blocks[i].bytes);
		}
		arena_give(node->arena_off, node->arena_size);
	} else {
		memdisk_free_blocks_from(node, 0);
	}
	free(node->blocks);
	free(node->entries);
	free(node);
}

struct entry *memdisk_find_entry(const struct node *folder, const char *name, size_t n)
{
	size_t i;

	for (i = 0; i < folder->entry_count; i++)
		if (strncmp(folder->entries[i].name, name, n) == 0 &&
		    folder->entries[i].name[n] == '\0')
			return &folder->entries[i];
	return NULL;
}

void memdisk_add_entry(struct node *folder, const char *name, struct node *node)
{
	folder->entries = memdisk_grow(folder->entries, folder->entry_count, &folder->entry_room,
				       sizeof *folder->entries);
	folder->entries[folder->entry_count].name = strdup(name);
	folder->entries[folder->entry_count++].node = node;
	node->names++;
	memdisk_note_change(folder);
}

void memdisk_remove_entry(struct node *folder, struct entry *entry)
{
	struct node *node = entry->node;

	free(entry->name);
	*entry = folder->entries[--folder->entry_count];
	node->names--;
	memdisk_note_change(folder);
	memdisk_free_if_unused(node);
}

/* The folder that holds the last part of a path, and that part; "" for the path's beginning. */
int memdisk_find_parent(struct node *from, const char *path, struct node **folder,
			const char **last)
{
	const char *slash;

	if (path[0] == '/') {
		from = disk.top;
		path++;
	}
	while ((slash = strchr(path, '/'))) {
		const struct entry *entry = memdisk_find_entry(from, path, (size_t)(slash - path));

		if (!entry)
			return -ENOENT;
		if (!entry->node->is_folder)
			return -ENOTDIR;
		from = entry->node;
		path = slash + 1;
	}
	*folder = from;
	*last = strcmp(path, ".") == 0 ? "" : path;
	return 0;
}

int memdisk_find_node(struct node *from, const char *path, struct node **out)
{
	const struct entry *entry;
	struct node *folder;
	const char *last;
	int r = memdisk_find_parent(from, path, &folder, &last);

	if (r < 0)
		return r;
	*out = folder;
	if (last[0] == '\0')
		return 0;
	entry = memdisk_find_entry(folder, last, strlen(last));
	if (!entry)
		return -ENOENT;
	*out = entry->node;
	return 0;
}
