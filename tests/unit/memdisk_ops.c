/* SPDX-License-Identifier: Apache-2.0 */
/* memdisk_ops.c - the operations of memdisk, see memdisk_internal.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/memdisk_internal.h"

/* ---- the operations ---- */

static int mem_open(int at, const char *name, int flags, mode_t mode)
{
	bool can_write = (flags & O_ACCMODE) != O_RDONLY;
	struct node *from, *folder = NULL, *node = NULL;
	const char *last = "";
	struct open_file *file;
	int r = memdisk_begin_at(MEMDISK_OPEN, at, name, &from);

	if (r == 0)
		r = memdisk_find_parent(from, name, &folder, &last);
	if (r == 0)
		r = memdisk_find_node(from, name, &node);
	if (r == -ENOENT && folder && (flags & O_CREAT)) {
		if (folder->names == 0)
			return -ENOENT;
		node = memdisk_new_node(false);
		memdisk_add_entry(folder, last, node);
	} else if (r < 0) {
		return r;
	} else if ((flags & O_CREAT) && (flags & O_EXCL)) {
		return -EEXIST;
	}
	if (node->is_folder && can_write)
		return -EISDIR;
	if (!node->is_folder && (flags & O_DIRECTORY))
		return -ENOTDIR;
	if (flags & O_TRUNC) {
		memdisk_free_blocks_from(node, 0);
		node->size = 0;
	}
	file = memdisk_alloc(sizeof *file);
	*file = (struct open_file){ .node = node, .can_write = can_write };
	node->opens++;
	return memdisk_new_descriptor(file, memdisk_process(at));
}

static void mem_close(int fd)
{
	struct descriptor *d = memdisk_descriptor(fd);
	struct open_file *file;

	if (!d || (!d->file && !d->killed))
		memdisk_bug("closed twice, or never opened", "a descriptor");
	file = d->file;
	d->file = NULL;
	if (file)
		memdisk_release_file(file);
}

static int mem_replace(int fd, int with)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_REPLACE, with, &file);
	struct open_file *old = memdisk_file(fd);

	if (r < 0 || !old)
		return r < 0 ? r : -EBADF;
	file->refs++;
	memdisk_descriptor(fd)->file = file;
	memdisk_release_file(old);
	return 0;
}

void memdisk_fill_stat(const struct node *node, struct stat *st)
{
	size_t i;

	*st = (struct stat){ .st_dev = DEVICE,
			     .st_ino = node->ino,
			     .st_mode = node->is_folder ? S_IFDIR | 0700 : S_IFREG | 0600,
			     .st_nlink = node->names,
			     .st_uid = node->user,
			     .st_gid = node->group,
			     .st_size = (off_t)node->size,
			     .st_mtim = node->changed };
	for (i = 0; i < node->count; i++)
		st->st_blocks += node->blocks[i].charged ? MEMDISK_BLOCK / 512 : 0;
}

static int mem_stat(int fd, struct stat *st)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_STAT, fd, &file);

	if (r == 0)
		memdisk_fill_stat(file->node, st);
	return r;
}

static int mem_stat_at(int at, const char *name, struct stat *st)
{
	struct node *from, *node;
	int r = memdisk_begin_at(MEMDISK_STAT_AT, at, name, &from);

	if (r == 0)
		r = memdisk_find_node(from, name, &node);
	if (r == 0)
		memdisk_fill_stat(node, st);
	return r;
}

static int mem_exists(int at, const char *name)
{
	struct node *from, *node;
	int r = memdisk_begin_at(MEMDISK_EXISTS, at, name, &from);

	return r < 0 ? r : memdisk_find_node(from, name, &node);
}

static int mem_room(int fd, struct cache_disk_room *room)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_ROOM, fd, &file);

	if (r < 0)
		return r;
	room->type = disk.type;
	room->free = disk.room == 0	     ? (uint64_t)1 << 50
		     : disk.room > disk.used ? disk.room - disk.used
					     : 0;
	return 0;
}

/* By copies of the names, for `each` may delete. */
static int mem_list(int at, const char *path, int (*each)(void *arg, const char *name), void *arg)
{
	struct node *from, *node;
	char **names;
	size_t count, i;
	int r = memdisk_begin_at(MEMDISK_LIST, at, path, &from);

	if (r == 0)
		r = memdisk_find_node(from, path, &node);
	if (r < 0 || !node->is_folder)
		return r < 0 ? r : -ENOTDIR;
	count = node->entry_count;
	names = memdisk_alloc(count * sizeof *names + 1);
	for (i = 0; i < count; i++)
		names[i] = strdup(node->entries[i].name);
	for (i = 0; i < count; i++) {
		if (r == 0)
			r = each(arg, names[i]);
		free(names[i]);
	}
	free(names);
	return r;
}

/* Finds where a new name would stand: -EEXIST when it does. */
static int find_place(struct node *from, const char *path, struct node **folder, const char **last)
{
	int r = memdisk_find_parent(from, path, folder, last);

	if (r < 0)
		return r;
	if ((*last)[0] == '\0' || memdisk_find_entry(*folder, *last, strlen(*last)))
		return -EEXIST;
	return (*folder)->names == 0 ? -ENOENT : 0; /* it was removed */
}

static int mem_make_folder(int at, const char *name, mode_t mode)
{
	struct node *from, *folder;
	const char *last;
	int r = memdisk_begin_at(MEMDISK_MAKE_FOLDER, at, name, &from);

	if (r == 0)
		r = find_place(from, name, &folder, &last);
	if (r == 0)
		memdisk_add_entry(folder, last, memdisk_new_node(true));
	return r;
}

static int mem_name(int at, const char *name, const char *to)
{
	struct node *from, *node, *folder, *old_folder;
	const char *last, *old_last;
	int r = memdisk_begin_at(MEMDISK_NAME, at, name, &from);

	if (r == 0)
		r = memdisk_find_node(from, name, &node);
	if (r == 0)
		r = memdisk_find_parent(from, name, &old_folder, &old_last);
	if (r == 0)
		r = find_place(from, to, &folder, &last);
	if (r < 0)
		return r;
	memdisk_add_entry(folder, last, node);
	memdisk_remove_entry(old_folder,
			     memdisk_find_entry(old_folder, old_last, strlen(old_last)));
	return 0;
}

/* Whether what is called `last` may give way to a node. */
static int make_way(struct node *folder, const char *last, const struct node *node)
{
	struct entry *there = memdisk_find_entry(folder, last, strlen(last));

	if (!there)
		return 0;
	if (there->node == node)
		return 1;
	if (there->node->is_folder != node->is_folder)
		return node->is_folder ? -ENOTDIR : -EISDIR;
	if (there->node->entry_count > 0)
		return -ENOTEMPTY;
	memdisk_remove_entry(folder, there);
	return 0;
}

static int mem_rename(int at, const char *name, const char *to)
{
	struct node *from, *node, *old_folder, *folder;
	const char *old_last, *last;
	int r = memdisk_begin_at(MEMDISK_RENAME, at, name, &from);

	if (r == 0)
		r = memdisk_find_parent(from, name, &old_folder, &old_last);
	if (r == 0)
		r = memdisk_find_node(from, name, &node);
	if (r == 0)
		r = memdisk_find_parent(from, to, &folder, &last);
	if (r == 0 && folder->names == 0)
		r = -ENOENT;
	if (r == 0)
		r = make_way(folder, last, node);
	if (r != 0)
		return r < 0 ? r : 0; /* 1: both are the same file, and both names stay */
	memdisk_add_entry(folder, last, node);
	memdisk_remove_entry(old_folder,
			     memdisk_find_entry(old_folder, old_last, strlen(old_last)));
	return 0;
}

static int remove_name(enum memdisk_op op, int at, const char *name, bool is_folder)
{
	struct node *from, *folder;
	struct entry *entry;
	const char *last;
	int r = memdisk_begin_at(op, at, name, &from);

	if (r == 0)
		r = memdisk_find_parent(from, name, &folder, &last);
	if (r < 0)
		return r;
	entry = memdisk_find_entry(folder, last, strlen(last));
	if (!entry)
		return -ENOENT;
	if (entry->node->is_folder != is_folder)
		return is_folder ? -ENOTDIR : -EISDIR;
	if (entry->node->entry_count > 0)
		return -ENOTEMPTY;
	memdisk_remove_entry(folder, entry);
	return 0;
}

static int mem_unlink(int at, const char *name)
{
	return remove_name(MEMDISK_UNLINK, at, name, false);
}

static int mem_remove_folder(int at, const char *name)
{
	return remove_name(MEMDISK_REMOVE_FOLDER, at, name, true);
}

/* At most how many bytes this call may move. */
static size_t cut(enum memdisk_op op, size_t n)
{
	if (!disk.fault.is_cut || memdisk_take_fault(op) == 0 || n <= disk.fault.most)
		return n;
	return disk.fault.most;
}

static ssize_t mem_pread(int fd, void *buf, size_t n, uint64_t off)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_PREAD, fd, &file);

	if (r < 0)
		return r;
	return file->node->is_folder
		       ? -EISDIR
		       : memdisk_read_node(file->node, buf, cut(MEMDISK_PREAD, n), off);
}

static ssize_t mem_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_PWRITE, fd, &file);

	if (r < 0)
		return r;
	return file->can_write ? memdisk_write_node(file->node, buf, cut(MEMDISK_PWRITE, n), off)
			       : -EBADF;
}

/* As begin_on, for what changes a file. */
static int begin_change(enum memdisk_op op, int fd, struct node **out)
{
	struct open_file *file;
	int r = memdisk_begin_on(op, fd, &file);

	if (r == 0 && !file->can_write)
		r = -EBADF;
	if (r == 0)
		*out = file->node;
	return r;
}

static void zero_range(struct node *f, uint64_t off, uint64_t n)
{
	while (n > 0) {
		const struct block *b = memdisk_block(f, off / MEMDISK_BLOCK);
		uint64_t within = off % MEMDISK_BLOCK,
			 piece = MEMDISK_BLOCK - within < n ? MEMDISK_BLOCK - within : n;

		if (b && b->bytes)
			memset(b->bytes + within, 0, piece);
		off += piece;
		n -= piece;
	}
}

static int mem_truncate(int fd, uint64_t size)
{
	struct node *f = NULL;
	int r = begin_change(MEMDISK_TRUNCATE, fd, &f);

	if (r < 0)
		return r;
	if (size < f->size) {
		memdisk_free_blocks_from(f, (size + MEMDISK_BLOCK - 1) / MEMDISK_BLOCK);
		zero_range(f, size, (MEMDISK_BLOCK - size % MEMDISK_BLOCK) % MEMDISK_BLOCK);
	}
	f->size = size;
	memdisk_note_change(f);
	return 0;
}

static int mem_allocate(int fd, uint64_t size)
{
	struct node *f = NULL;
	uint64_t pages = (size + MEMDISK_BLOCK - 1) / MEMDISK_BLOCK, i, missing = 0;
	struct block *b;
	int r = begin_change(MEMDISK_ALLOCATE, fd, &f);

	for (i = 0; r == 0 && i < pages; i++) {
		b = memdisk_block(f, i);
		missing += !b || !b->charged;
	}
	if (r == 0 && !memdisk_has_room(missing))
		r = -ENOSPC;
	for (i = 0; r == 0 && i < pages; i++) {
		b = memdisk_block(f, i);
		if (!b || !b->charged)
			r = memdisk_own_block(f, i, &b);
	}
	if (r == 0 && size > f->size)
		f->size = size;
	return r;
}

static int mem_punch(int fd, uint64_t off, uint64_t n)
{
	struct node *f = NULL;
	int r = begin_change(MEMDISK_PUNCH, fd, &f);
	uint64_t first = (off + MEMDISK_BLOCK - 1) / MEMDISK_BLOCK, end = (off + n) / MEMDISK_BLOCK;
	size_t i;

	if (r < 0 || !disk.punches)
		return r;
	if (first >= end) {
		zero_range(f, off, n);
		return 0;
	}
	zero_range(f, off, first * MEMDISK_BLOCK - off);
	zero_range(f, end * MEMDISK_BLOCK, off + n - end * MEMDISK_BLOCK);
	i = memdisk_find_block(f, end);
	while (i > 0 && f->blocks[i - 1].index >= first)
		memdisk_free_block(f, --i);
	return 0;
}

static int mem_unshare(int fd, uint64_t size)
{
	struct node *f = NULL;
	struct block *b;
	size_t i;
	int r = begin_change(MEMDISK_UNSHARE, fd, &f);

	for (i = 0; r == 0 && i < f->count && f->blocks[i].index * MEMDISK_BLOCK < size; i++)
		if (f->blocks[i].shared)
			r = memdisk_own_block(f, f->blocks[i].index, &b);
	return r;
}

static int mem_no_cow(int fd)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_NO_COW, fd, &file);

	return r < 0 ? r : -EOPNOTSUPP;
}

static int mem_give(int fd, uid_t user, gid_t group)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_GIVE, fd, &file);

	if (r == 0) {
		file->node->user = user;
		file->node->group = group;
	}
	return r;
}

static int mem_touch(int fd)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_TOUCH, fd, &file);

	if (r == 0)
		memdisk_note_change(file->node);
	return r;
}

static int mem_datasync(int fd)
{
	struct open_file *file;
	int r = memdisk_begin_on(MEMDISK_DATASYNC, fd, &file);

	if (r == 0)
		file->node->syncs++;
	return r;
}

/* ---- locks ---- */

/* What keeps `holder` from such a lock. */
static const struct lock *find_obstacle(const struct node *node, const void *holder, short type,
					uint64_t first, uint64_t last)
{
	const struct lock *lock, *found = NULL;

	for (lock = node->locks; lock; lock = lock->next)
		if (lock->holder != holder && lock->first <= last && lock->last >= first &&
		    (type == F_WRLCK || lock->type == F_WRLCK) &&
		    (!found || lock->first < found->first))
			found = lock;
	return found;
}

static void add_lock(struct node *node, const void *holder, short type, uint64_t first,
		     uint64_t last)
{
	struct lock *lock = memdisk_alloc(sizeof *lock);

	*lock = (struct lock){ node->locks, holder, type, first, last };
	node->locks = lock;
}

/* Takes [first, last] out of all that the holder has. */
static void carve(struct node *node, const void *holder, uint64_t first, uint64_t last)
{
	struct lock **at = &node->locks, *old;

	while (*at) {
		old = *at;
		if (old->holder != holder || old->first > last || old->last < first) {
			at = &old->next;
			continue;
		}
		*at = old->next;
		if (old->first < first)
			add_lock(node, holder, old->type, old->first, first - 1);
		if (old->last > last)
			add_lock(node, holder, old->type, last + 1, old->last);
		free(old);
		at = &node->locks; /* from the front again: the pieces cannot overlap any more */
	}
}

/* Takes [first, last]; with locks of the same kind that touch it one lock is made. */
static void take_lock(struct node *node, const void *holder, short type, uint64_t first,
		      uint64_t last)
{
	struct lock **at = &node->locks, *old;

	while (*at) {
		old = *at;
		if (old->holder != holder || old->type != type ||
		    (last < UINT64_MAX && old->first > last + 1) ||
		    (old->last < UINT64_MAX && old->last + 1 < first)) {
			at = &old->next;
			continue;
		}
		first = old->first < first ? old->first : first;
		last = old->last > last ? old->last : last;
		*at = old->next;
		free(old);
	}
	add_lock(node, holder, type, first, last);
}

static uint64_t last_byte(uint64_t off, uint64_t n)
{
	return n == 0 ? UINT64_MAX : off + n - 1;
}

static int mem_lock(int fd, short type, uint64_t off, uint64_t n)
{
	struct open_file *file;
	uint64_t last = last_byte(off, n);
	int r = memdisk_begin_on(MEMDISK_LOCK, fd, &file);

	if (r < 0)
		return r;
	if (type == F_WRLCK && !file->can_write)
		return -EBADF;
	if (type != F_UNLCK && find_obstacle(file->node, file, type, off, last))
		return -EAGAIN;
	carve(file->node, file, off, last);
	if (type != F_UNLCK)
		take_lock(file->node, file, type, off, last);
	return 0;
}

static int mem_look(int fd, struct flock *lock)
{
	struct open_file *file;
	const struct lock *found;
	int r = memdisk_begin_on(MEMDISK_LOOK, fd, &file);

	if (r < 0)
		return r;
	found = find_obstacle(file->node, file, lock->l_type, (uint64_t)lock->l_start,
			      last_byte((uint64_t)lock->l_start, (uint64_t)lock->l_len));
	if (!found) {
		lock->l_type = F_UNLCK;
		return 0;
	}
	lock->l_type = found->type;
	lock->l_start = (off_t)found->first;
	lock->l_len = found->last == UINT64_MAX ? 0 : (off_t)(found->last - found->first + 1);
	return 0;
}

/* ---- mappings ---- */

static struct mapping **find_mapping(const void *at)
{
	struct mapping **m = &disk.mappings;

	while (*m && ((const uint8_t *)at < (*m)->at || (const uint8_t *)at >= (*m)->at + (*m)->n))
		m = &(*m)->next;
	return m;
}

static void forget_mapping(struct mapping **at)
{
	struct mapping *m = *at;

	*at = m->next;
	m->node->opens--;
	memdisk_free_if_unused(m->node);
	free(m);
}

/* Mappings that nobody uses are kept for the next file at that place of the arena: in a virtual
 * machine mmap and munmap cost more than all the rest. */
enum { POOL = 32 };
static struct {
	uint64_t off;
	size_t n;
	uint8_t *at;
} pool[POOL];

static void *take_from_pool(uint64_t off, size_t n)
{
	uint8_t *at;
	size_t i;

	for (i = 0; i < POOL; i++)
		if (pool[i].at && pool[i].off == off && pool[i].n == n) {
			at = pool[i].at;
			pool[i].at = NULL;
			return at;
		}
	return NULL;
}

static bool give_to_pool(const struct mapping *m)
{
	size_t i;

	for (i = 0; i < POOL; i++)
		if (!pool[i].at) {
			pool[i].at = m->at;
			pool[i].n = m->n;
			pool[i].off = m->arena_off;
			return true;
		}
	return false;
}

static void *map_arena(uint64_t off, size_t n, void *where)
{
	void *at = where ? NULL : take_from_pool(off, n);

	if (!at)
		at = mmap(where, n, PROT_READ | PROT_WRITE, MAP_SHARED | (where ? MAP_FIXED : 0),
			  memdisk_arena, (off_t)off);
	if (at == MAP_FAILED)
		memdisk_bug(strerror(errno), "mmap");
	return at;
}

static int mem_map(int fd, size_t n, void *where, void **out)
{
	struct open_file *file;
	struct node *f;
	struct mapping *m;
	size_t i;
	int r = memdisk_begin_on(MEMDISK_MAP, fd, &file);

	if (r < 0)
		return r;
	f = file->node;
	if (!file->can_write || n == 0)
		return -EINVAL;
	if (!f->in_arena)
		memdisk_move_to_arena(f);
	if (n > f->arena_size)
		memdisk_bug("mapped beyond its end", "a file");
	m = memdisk_alloc(sizeof *m);
	*m = (struct mapping){ .at = map_arena(f->arena_off, n, where),
			       .n = n,
			       .node = f,
			       .process = memdisk_process(fd),
			       .arena_off = f->arena_off };
	if (where)
		forget_mapping(find_mapping(where));
	m->next = disk.mappings;
	disk.mappings = m;
	f->opens++;
	for (i = 0; i < f->count && f->blocks[i].index * MEMDISK_BLOCK < n; i++)
		if (!memdisk_is_own(&f->blocks[i]))
			memdisk_protect(f, f->blocks[i].index, false);
	*out = m->at;
	return 0;
}

static void mem_unmap(void *at, size_t n)
{
	struct mapping **m = find_mapping(at);

	if (!*m || (*m)->at != at || (*m)->n != n)
		memdisk_bug("unmapped, but not mapped like that", "a range");
	if ((*m)->killed || (*m)->is_changed || !give_to_pool(*m))
		(void)munmap(at, n);
	forget_mapping(m);
}

static int mem_prepare(void *at, size_t n)
{
	struct mapping *m = *find_mapping(at);
	uint64_t first, last, i;
	struct block *b;
	int r;

	if (!m)
		memdisk_bug("not mapped", "a range");
	r = memdisk_begin_as(MEMDISK_PREPARE, m->process, "");
	first = (uint64_t)((uint8_t *)at - m->at) / MEMDISK_BLOCK;
	last = ((uint64_t)((uint8_t *)at - m->at) + n - 1) / MEMDISK_BLOCK;
	for (i = first; r == 0 && !m->killed && i <= last; i++)
		r = memdisk_own_block(m->node, i, &b);
	return r;
}

const struct cache_disk_ops memdisk_ops = {
	.open = mem_open,
	.close = mem_close,
	.replace = mem_replace,
	.stat = mem_stat,
	.stat_at = mem_stat_at,
	.exists = mem_exists,
	.room = mem_room,
	.list = mem_list,
	.make_folder = mem_make_folder,
	.name = mem_name,
	.rename = mem_rename,
	.unlink = mem_unlink,
	.remove_folder = mem_remove_folder,
	.pread = mem_pread,
	.pwrite = mem_pwrite,
	.truncate = mem_truncate,
	.allocate = mem_allocate,
	.punch = mem_punch,
	.unshare = mem_unshare,
	.no_cow = mem_no_cow,
	.give = mem_give,
	.touch = mem_touch,
	.datasync = mem_datasync,
	.lock = mem_lock,
	.look = mem_look,
	.map = mem_map,
	.unmap = mem_unmap,
	.prepare = mem_prepare,
};
