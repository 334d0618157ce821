/* SPDX-License-Identifier: Apache-2.0 */
/* memdisk.c - processes, faults and the disk as a whole, see memdisk.h. */
#include "tests/unit/memdisk.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/memdisk_internal.h"

struct memdisk disk;

/* ---- processes, descriptors, faults ---- */

struct descriptor *memdisk_descriptor(int fd)
{
	size_t i = (size_t)fd - FIRST_FD;

	return fd >= FIRST_FD && i < disk.fd_count ? &disk.fds[i] : NULL;
}

struct open_file *memdisk_file(int fd)
{
	const struct descriptor *d = memdisk_descriptor(fd);

	return d ? d->file : NULL;
}

unsigned memdisk_process(int fd)
{
	const struct descriptor *d = memdisk_descriptor(fd);

	return d ? d->process : disk.process;
}

/* The fault, if it strikes now. */
int memdisk_take_fault(enum memdisk_op op)
{
	if (disk.fault.left == 0 || (disk.fault.op != MEMDISK_ANY && disk.fault.op != op))
		return 0;
	if (disk.fault.left > 1) {
		disk.fault.left--;
		return 0;
	}
	disk.fault.failed = true;
	if (!disk.fault.lasting)
		disk.fault.left = 0;
	return -disk.fault.error;
}

/* Before every operation: counts it, asks the hook, and fails it. */
int memdisk_begin_as(enum memdisk_op op, unsigned process, const char *name)
{
	int r = 0;

	disk.calls[op]++;
	disk.calls[MEMDISK_ANY]++;
	if (disk.hook && !disk.hooked) {
		disk.hooked = true;
		r = disk.hook(disk.hook_arg, op, process, name);
		disk.hooked = false;
	}
	return r != 0 || disk.fault.is_cut ? r : memdisk_take_fault(op);
}

int memdisk_begin(enum memdisk_op op, int fd, const char *name)
{
	return memdisk_begin_as(op, memdisk_process(fd), name);
}

/* As begin, for an operation on a descriptor. */
int memdisk_begin_on(enum memdisk_op op, int fd, struct open_file **out)
{
	int r = memdisk_begin(op, fd, "");

	*out = memdisk_file(fd);
	return r == 0 && !*out ? -EBADF : r;
}

/* As begin, for an operation on a name in a folder. */
int memdisk_begin_at(enum memdisk_op op, int at, const char *name, struct node **from)
{
	int r = memdisk_begin(op, at, name);
	const struct open_file *folder = memdisk_file(at);

	if (r != 0)
		return r;
	if (at == AT_FDCWD && name[0] != '/')
		memdisk_bug("a relative path", name);
	if (at != AT_FDCWD && !folder)
		return -EBADF;
	*from = at == AT_FDCWD ? disk.top : folder->node;
	return (*from)->is_folder ? 0 : -ENOTDIR;
}

int memdisk_new_descriptor(struct open_file *file, unsigned process)
{
	disk.fds = memdisk_grow(disk.fds, disk.fd_count, &disk.fd_room, sizeof *disk.fds);
	disk.fds[disk.fd_count] = (struct descriptor){ .file = file, .process = process };
	file->refs++;
	return FIRST_FD + (int)disk.fd_count++;
}

static void drop_locks(struct node *node, const struct open_file *holder)
{
	struct lock **at = &node->locks, *gone;

	while (*at) {
		if ((*at)->holder != holder) {
			at = &(*at)->next;
			continue;
		}
		gone = *at;
		*at = gone->next;
		free(gone);
	}
}

void memdisk_release_file(struct open_file *file)
{
	if (--file->refs > 0)
		return;
	drop_locks(file->node, file);
	file->node->opens--;
	memdisk_free_if_unused(file->node);
	free(file);
}

/* ---- the disk as a whole ---- */

static void empty_folder(struct node *folder)
{
	while (folder->entry_count > 0) {
		struct entry *entry = &folder->entries[folder->entry_count - 1];

		if (entry->node->is_folder)
			empty_folder(entry->node);
		memdisk_remove_entry(folder, entry);
	}
}

void memdisk_free(void)
{
	size_t i;

	if (!disk.top)
		return;
	for (i = 0; i < disk.fd_count; i++)
		if (disk.fds[i].file)
			memdisk_bug("never closed", "a descriptor");
	if (disk.mappings)
		memdisk_bug("never unmapped", "a mapping");
	empty_folder(disk.top);
	disk.top->names = 0;
	memdisk_free_if_unused(disk.top);
	if (disk.used != 0 || disk.range_count != 0)
		memdisk_bug("not all of it was freed", "space");
	free(disk.fds);
	free(disk.ranges);
	memset(&disk, 0, sizeof disk);
}

bool memdisk_abandon(void)
{
	bool any = disk.mappings != NULL;
	size_t i;

	while (disk.mappings)
		memdisk_ops.unmap(disk.mappings->at, disk.mappings->n);
	for (i = 0; i < disk.fd_count; i++)
		if (disk.fds[i].file) {
			any = true;
			memdisk_ops.close(FIRST_FD + (int)i);
		}
	return any;
}

void memdisk_make(uint64_t room)
{
	memdisk_free();
	memdisk_make_arena();
	disk.room = room;
	disk.type = TMPFS_MAGIC;
	disk.punches = true;
	disk.top = memdisk_new_node(true);
	disk.top->names = 1;
}

void memdisk_set_room(uint64_t room)
{
	disk.room = room;
}

uint64_t memdisk_used(void)
{
	return disk.used;
}

void memdisk_set_type(int64_t type)
{
	disk.type = type;
}

void memdisk_set_punches(bool punches)
{
	disk.punches = punches;
}

void memdisk_as(unsigned process)
{
	disk.process = process;
}

void memdisk_kill(unsigned process)
{
	struct mapping *m;
	size_t i;

	for (i = 0; i < disk.fd_count; i++) {
		struct descriptor *d = &disk.fds[i];

		if (d->process != process || !d->file)
			continue;
		memdisk_release_file(d->file);
		d->file = NULL;
		d->killed = true;
	}
	for (m = disk.mappings; m; m = m->next) {
		if (m->process != process || m->killed)
			continue;
		m->killed = true;
		/* What it stores from now on is its own. */
		if (mmap(m->at, m->n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
			 memdisk_arena, (off_t)m->node->arena_off) == MAP_FAILED)
			memdisk_bug(strerror(errno), "mmap");
	}
}

/* ---- faults ---- */

void memdisk_fail(enum memdisk_op op, uint64_t nth, int error, bool lasting)
{
	memset(&disk.fault, 0, sizeof disk.fault);
	disk.fault.op = op;
	disk.fault.left = nth;
	disk.fault.error = error;
	disk.fault.lasting = lasting;
}

void memdisk_cut(enum memdisk_op op, uint64_t nth, size_t most)
{
	memdisk_fail(op, nth, 1, false);
	disk.fault.is_cut = true;
	disk.fault.most = most;
}

void memdisk_heal(void)
{
	memset(&disk.fault, 0, sizeof disk.fault);
}

bool memdisk_failed(void)
{
	return disk.fault.failed;
}

uint64_t memdisk_calls(enum memdisk_op op)
{
	return disk.calls[op];
}

void memdisk_set_hook(int (*before)(void *arg, enum memdisk_op op, unsigned process,
				    const char *name),
		      void *arg)
{
	disk.hook = before;
	disk.hook_arg = arg;
}

/* ---- from outside ---- */

static struct node *look_up(const char *path)
{
	struct node *node;

	return memdisk_find_node(disk.top, path, &node) < 0 ? NULL : node;
}

static struct node *look_up_file(const char *path)
{
	struct node *node = look_up(path);

	if (!node || node->is_folder)
		memdisk_bug("no such file", path);
	return node;
}

bool memdisk_exists(const char *path)
{
	return look_up(path) != NULL;
}

uint64_t memdisk_size(const char *path)
{
	const struct node *node = look_up(path);

	return node && !node->is_folder ? node->size : UINT64_MAX;
}

uint64_t memdisk_allocated(const char *path)
{
	struct stat st;

	memdisk_fill_stat(look_up_file(path), &st);
	return (uint64_t)st.st_blocks * 512;
}

unsigned memdisk_syncs(const char *path)
{
	return look_up_file(path)->syncs;
}

void memdisk_peek(const char *path, uint64_t off, void *buf, size_t n)
{
	if (memdisk_read_node(look_up_file(path), buf, n, off) != (ssize_t)n)
		memdisk_bug("it is shorter", path);
}

void memdisk_poke(const char *path, uint64_t off, const void *buf, size_t n)
{
	if (memdisk_write_node(look_up_file(path), buf, n, off) != (ssize_t)n)
		memdisk_bug("there is no room", path);
}

void memdisk_link(const char *path, const char *to)
{
	struct node *folder;
	const char *last;

	if (memdisk_find_parent(disk.top, to, &folder, &last) < 0)
		memdisk_bug("no such folder", to);
	memdisk_add_entry(folder, last, look_up_file(path));
}

void memdisk_share(const char *path)
{
	struct node *f = look_up_file(path);
	size_t i;

	for (i = 0; i < f->count; i++) {
		struct block *b = &f->blocks[i];

		if (!memdisk_is_own(b))
			continue;
		b->shared = true;
		disk.used -= MEMDISK_BLOCK;
		disk.room -= disk.room > 0 ? MEMDISK_BLOCK : 0; /* the snapshot has it for good */
		if (f->in_arena)
			memdisk_protect(f, b->index, false);
	}
}

static void walk(const struct node *folder, const char *path,
		 void (*each)(void *arg, const char *path), void *arg)
{
	size_t i;

	for (i = 0; i < folder->entry_count; i++) {
		char *name;

		if (asprintf(&name, "%s/%s", path, folder->entries[i].name) < 0)
			memdisk_bug("out of memory", "test");
		if (folder->entries[i].node->is_folder)
			walk(folder->entries[i].node, name, each, arg);
		else
			each(arg, name);
		free(name);
	}
}

void memdisk_walk(void (*each)(void *arg, const char *path), void *arg)
{
	walk(disk.top, "", each, arg);
}
