/* SPDX-License-Identifier: Apache-2.0 */
/* memfs.h - files in memory that know what was synced: a struct file_ops for crash tests.
 *
 * Each file is what programs see now, what the disk is known to hold, and the operations between
 * the two.  Power loss keeps any part of those, sector by sector and in any order; of the names of
 * a folder, any beginning of what happened to them.  There are two folders: names with a slash are
 * in the second, of which the first knows nothing.  Killing a process loses nothing.
 *
 * One thread; `memfs` is the file system in use, and can be exchanged at any moment. */
#ifndef OVERLAYBD_TESTS_MEMFS_H
#define OVERLAYBD_TESTS_MEMFS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/upper_file.h"
#include "tests/testlib.h"

enum {
	MEMFS_FILES = 32,
	MEMFS_NAMES = 16,
	MEMFS_MOMENTS = 12,
	MEMFS_FDS = 16,
	MEMFS_SECTOR = 512,
	MEMFS_NAME = 40,
};

enum memfs_kind {
	MEMFS_OPEN,
	MEMFS_WRITE,
	MEMFS_TRUNCATE,
	MEMFS_PUNCH,
	MEMFS_SYNC,
	MEMFS_RENAME,
	MEMFS_UNLINK,
	MEMFS_SYNC_FOLDER,
};

struct memfs_bytes {
	uint8_t *p;
	size_t n, room;
};

/* What happened to a file since it was synced. */
struct memfs_change {
	enum memfs_kind kind;
	uint64_t off, n;
	uint8_t *bytes; /* of a write */
};

struct memfs_file {
	struct memfs_bytes now, durable;
	struct memfs_change *changes;
	size_t count, room;
};

/* A name and its file; file < 0: none. */
struct memfs_name {
	char name[MEMFS_NAME];
	int file;
};

/* What happened to the names since the folder was synced: a snapshot after each change. */
struct memfs_names {
	struct memfs_name list[MEMFS_NAMES];
};

struct memfs {
	struct memfs_file files[MEMFS_FILES];
	int file_count;
	struct memfs_names names;
	struct memfs_names history[MEMFS_MOMENTS]; /* [0]: durable; the newest equals names */
	size_t history_count;
	int fds[MEMFS_FDS]; /* the file; -1: closed */
	bool locked[MEMFS_FDS]; /* the descriptor holds its file's lock */
	bool dead; /* every operation fails: the process is gone */
	uint64_t boot;
	/* Called before each operation that changes something; 0, or the -errno that it fails with.
	 * `done` of a write: bytes that are written before it fails. */
	int (*hook)(enum memfs_kind kind, int file, uint64_t off, const void *bytes, size_t n,
		    size_t *done);
};

static struct memfs *memfs;

/* The file with this name, also while it is a temporary one, gets descriptor 0: as in a process
 * that has no standard input.  NULL: the one that is opened first. */
static const char *memfs_zero;

static inline void *memfs_copy(const void *p, size_t n)
{
	void *copy = malloc(n + 1);

	if (!copy)
		abort();
	if (n > 0)
		memcpy(copy, p, n);
	return copy;
}

static inline struct memfs *memfs_new(uint64_t boot)
{
	struct memfs *fs = calloc(1, sizeof *fs);
	size_t i;

	if (!fs)
		abort();
	for (i = 0; i < MEMFS_FDS; i++)
		fs->fds[i] = -1;
	for (i = 0; i < MEMFS_NAMES; i++)
		fs->names.list[i].file = -1;
	fs->history[0] = fs->names;
	fs->history_count = 1;
	fs->boot = boot;
	return fs;
}

static inline void memfs_forget_changes(struct memfs_file *f)
{
	size_t i;

	for (i = 0; i < f->count; i++)
		free(f->changes[i].bytes);
	f->count = 0;
}

static inline void memfs_free(struct memfs *fs)
{
	int i;

	for (i = 0; i < fs->file_count; i++) {
		memfs_forget_changes(&fs->files[i]);
		free(fs->files[i].changes);
		free(fs->files[i].now.p);
		free(fs->files[i].durable.p);
	}
	free(fs);
}

/* ---- bytes ---- */

static inline void memfs_reserve(struct memfs_bytes *b, size_t n)
{
	if (n <= b->room)
		return;
	b->room = n > 2 * b->room ? n : 2 * b->room;
	b->p = realloc(b->p, b->room);
	if (!b->p)
		abort();
}

static inline void memfs_resize(struct memfs_bytes *b, size_t n)
{
	memfs_reserve(b, n);
	if (n > b->n)
		memset(b->p + b->n, 0, n - b->n);
	b->n = n;
}

/* A copy with room for `room` bytes. */
static inline struct memfs_bytes memfs_copy_bytes(const struct memfs_bytes *from, size_t room)
{
	struct memfs_bytes b = { 0 };

	memfs_reserve(&b, (room > from->n ? room : from->n) + 1);
	if (from->n > 0)
		memcpy(b.p, from->p, from->n);
	b.n = from->n;
	return b;
}

static inline void memfs_put(struct memfs_bytes *b, uint64_t off, const uint8_t *bytes, size_t n)
{
	if (n == 0)
		return;
	if (off + n > b->n)
		memfs_resize(b, (size_t)off + n);
	if (bytes)
		memcpy(b->p + off, bytes, n);
	else
		memset(b->p + off, 0, n);
}

static inline void memfs_note(struct memfs_file *f, enum memfs_kind kind, uint64_t off,
			      const void *bytes, uint64_t n)
{
	if (f->count == f->room) {
		f->room = f->room ? 2 * f->room : 16;
		f->changes = realloc(f->changes, f->room * sizeof *f->changes);
		if (!f->changes)
			abort();
	}
	f->changes[f->count++] = (struct memfs_change){
		.kind = kind,
		.off = off,
		.n = n,
		.bytes = bytes ? memfs_copy(bytes, (size_t)n) : NULL,
	};
}

/* Whole sectors go to the disk, with all that is in them now. */
static inline void memfs_note_write(struct memfs_file *f, uint64_t from, uint64_t to)
{
	from = from / MEMFS_SECTOR * MEMFS_SECTOR;
	to = (to + MEMFS_SECTOR - 1) / MEMFS_SECTOR * MEMFS_SECTOR;
	to = to < f->now.n ? to : f->now.n;
	memfs_note(f, MEMFS_WRITE, from, f->now.p + from, to - from);
}

/* ---- power loss ---- */

enum memfs_loss {
	MEMFS_LOSE_ALL,
	MEMFS_LOSE_NOTHING,
	MEMFS_LOSE_SECTORS, /* each sector of each change by itself */
	MEMFS_LOSE_FEW_SECTORS,
	MEMFS_LOSE_CHANGES, /* each change by itself */
	MEMFS_LOSE_LAST,
	MEMFS_LOSE_FIRST,
	MEMFS_LOSSES,
};

/* Applies the sectors of a write or punch that survive. */
static inline void memfs_apply_sectors(struct memfs_bytes *b, const struct memfs_change *c,
				       unsigned keep, uint64_t *random)
{
	uint64_t off, end = c->off + c->n, next;

	for (off = c->off; off < end; off = next) {
		next = (off / MEMFS_SECTOR + 1) * MEMFS_SECTOR;
		next = next < end ? next : end;
		if (testlib_random(random) % 16 >= keep)
			continue;
		if (c->kind == MEMFS_WRITE)
			memfs_put(b, off, c->bytes + (off - c->off), (size_t)(next - off));
		else if (off < b->n)
			memfs_put(b, off, NULL, (size_t)((next < b->n ? next : b->n) - off));
	}
}

static inline bool memfs_survives(enum memfs_loss loss, size_t i, size_t cut, uint64_t *random)
{
	switch (loss) {
	case MEMFS_LOSE_ALL:
		return false;
	case MEMFS_LOSE_CHANGES:
		return testlib_random(random) % 2;
	case MEMFS_LOSE_LAST:
		return i < cut;
	case MEMFS_LOSE_FIRST:
		return i >= cut;
	default:
		return true;
	}
}

/* What a file holds after power loss. */
static inline struct memfs_bytes memfs_after_loss(const struct memfs_file *f, uint64_t *random)
{
	enum memfs_loss loss = testlib_random(random) % MEMFS_LOSSES;
	size_t cut = testlib_random(random) % (f->count + 1), i;
	unsigned keep = loss == MEMFS_LOSE_SECTORS ? 8 : loss == MEMFS_LOSE_FEW_SECTORS ? 14 : 16;
	struct memfs_bytes b;

	if (loss == MEMFS_LOSE_NOTHING)
		return memfs_copy_bytes(&f->now, 0);
	b = memfs_copy_bytes(&f->durable, f->now.n);
	/* The size may be durable before the bytes that it is for. */
	if (f->now.n > b.n && testlib_random(random) % 4 == 0)
		memfs_resize(&b, f->now.n - (size_t)(testlib_random(random) % (f->now.n - b.n)));
	for (i = 0; i < f->count; i++) {
		const struct memfs_change *c = &f->changes[i];

		if (!memfs_survives(loss, i, cut, random))
			continue;
		if (c->kind == MEMFS_TRUNCATE)
			memfs_resize(&b, (size_t)c->off);
		else
			memfs_apply_sectors(&b, c, keep, random);
	}
	return b;
}

/* Which of the two folders a name is in. */
static inline bool memfs_folder(const char *name)
{
	return strchr(name, '/') != NULL;
}

/* The names of one folder as in `from`, of the other as in `other`. */
static inline struct memfs_names memfs_mix(const struct memfs_names *from,
					   const struct memfs_names *other, bool folder)
{
	struct memfs_names mixed;
	size_t i, n = 0, k;

	for (k = 0; k < 2; k++)
		for (i = 0; i < MEMFS_NAMES; i++) {
			const struct memfs_name *name = &(k ? other : from)->list[i];

			if (name->file < 0 || (memfs_folder(name->name) == folder) == (k > 0))
				continue;
			if (n == MEMFS_NAMES)
				abort();
			mixed.list[n++] = *name;
		}
	for (; n < MEMFS_NAMES; n++)
		mixed.list[n].file = -1;
	return mixed;
}

/* A copy in which everything is durable.  `lost`: what was not synced is lost in part, and the
 * machine has started again. */
static inline struct memfs *memfs_image(const struct memfs *fs, bool lost, uint64_t *random)
{
	struct memfs *image = memfs_new(lost ? fs->boot + 1 : fs->boot);
	size_t at = 0, other = 0, i;

	if (lost) {
		at = testlib_random(random) % fs->history_count;
		other = testlib_random(random) % fs->history_count;
	}
	image->names = lost ? memfs_mix(&fs->history[at], &fs->history[other], false) : fs->names;
	for (i = 0; i < MEMFS_NAMES; i++) {
		struct memfs_name *name = &image->names.list[i];
		const struct memfs_file *from;
		struct memfs_file *to;

		if (name->file < 0)
			continue;
		from = &fs->files[name->file];
		to = &image->files[image->file_count];
		if (lost)
			to->now = memfs_after_loss(from, random);
		else
			to->now = memfs_copy_bytes(&from->now, 0);
		name->file = image->file_count++;
	}
	image->history[0] = image->names;
	return image;
}

/* A copy of a file system whose processes are gone: what was not synced is as it was. */
static inline struct memfs *memfs_clone(const struct memfs *fs)
{
	struct memfs *clone = memfs_copy(fs, sizeof *fs);
	size_t k;
	int i;

	for (i = 0; i < fs->file_count; i++) {
		const struct memfs_file *from = &fs->files[i];
		struct memfs_file *to = &clone->files[i];

		*to = (struct memfs_file){ .now = memfs_copy_bytes(&from->now, 0),
					   .durable = memfs_copy_bytes(&from->durable, 0) };
		for (k = 0; k < from->count; k++)
			memfs_note(to, from->changes[k].kind, from->changes[k].off,
				   from->changes[k].bytes, from->changes[k].n);
	}
	for (k = 0; k < MEMFS_FDS; k++)
		clone->fds[k] = -1;
	memset(clone->locked, 0, sizeof clone->locked);
	clone->hook = NULL;
	return clone;
}

/* Makes all that an image holds durable, so that it can be lived in. */
static inline void memfs_settle(struct memfs *image)
{
	int i;

	for (i = 0; i < image->file_count; i++) {
		struct memfs_file *f = &image->files[i];

		free(f->durable.p);
		f->durable = memfs_copy_bytes(&f->now, 0);
	}
}

/* The process is gone: its descriptors are closed, its lock is free. */
static inline void memfs_kill(struct memfs *fs)
{
	size_t i;

	for (i = 0; i < MEMFS_FDS; i++)
		fs->fds[i] = -1;
	memset(fs->locked, 0, sizeof fs->locked);
	fs->dead = false;
}

/* ---- the operations ---- */

static inline int memfs_hook(enum memfs_kind kind, int file, uint64_t off, const void *bytes,
			     size_t n, size_t *done)
{
	if (memfs->dead)
		return -EIO;
	return memfs->hook ? memfs->hook(kind, file, off, bytes, n, done) : 0;
}

static inline struct memfs_name *memfs_find(const char *name)
{
	size_t i;

	for (i = 0; i < MEMFS_NAMES; i++)
		if (memfs->names.list[i].file >= 0 && strcmp(memfs->names.list[i].name, name) == 0)
			return &memfs->names.list[i];
	return NULL;
}

static inline void memfs_names_changed(void)
{
	if (memfs->history_count == MEMFS_MOMENTS) {
		/* An old moment is forgotten. */
		memmove(memfs->history + 1, memfs->history + 2,
			(memfs->history_count - 2) * sizeof memfs->history[0]);
		memfs->history_count--;
	}
	memfs->history[memfs->history_count++] = memfs->names;
}

static inline bool memfs_is_used(int file)
{
	size_t i, k;

	for (i = 0; i < MEMFS_FDS; i++)
		if (memfs->fds[i] == file)
			return true;
	for (i = 0; i < memfs->history_count; i++)
		for (k = 0; k < MEMFS_NAMES; k++)
			if (memfs->history[i].list[k].file == file)
				return true;
	return false;
}

static inline int memfs_new_file(void)
{
	struct memfs_file *f;
	int file = 0;

	while (file < memfs->file_count && memfs_is_used(file))
		file++;
	if (file == MEMFS_FILES)
		abort();
	if (file == memfs->file_count)
		return memfs->file_count++;
	f = &memfs->files[file];
	memfs_forget_changes(f);
	free(f->changes);
	free(f->now.p);
	free(f->durable.p);
	*f = (struct memfs_file){ .count = 0 };
	return file;
}

static inline int memfs_add(const char *path)
{
	size_t i = 0;

	while (i < MEMFS_NAMES && memfs->names.list[i].file >= 0)
		i++;
	if (i == MEMFS_NAMES || strlen(path) >= MEMFS_NAME)
		abort();
	strcpy(memfs->names.list[i].name, path);
	return memfs->names.list[i].file = memfs_new_file();
}

/* The lowest descriptor that this file may have. */
static inline int memfs_lowest(const char *path)
{
	size_t n = memfs_zero ? strlen(memfs_zero) : 0;

	if (!memfs_zero)
		return 0;
	return strncmp(path, memfs_zero, n) == 0 &&
			       (path[n] == '\0' || strncmp(path + n, ".tmp.", 5) == 0)
		       ? 0
		       : 1;
}

static inline int memfs_open(const char *path, int flags, mode_t mode)
{
	struct memfs_name *name = memfs_find(path);
	int file = name ? name->file : -1, fd = memfs_lowest(path), r;

	/* A file of ours, one that nobody else may see before it is whole, or none is made. */
	if (mode != 0644 && mode != 0600 && mode != 0)
		abort();
	if (memfs->dead)
		return -EIO;
	if (file < 0 && !(flags & O_CREAT))
		return -ENOENT;
	if (file >= 0 && flags & O_EXCL)
		return -EEXIST;
	if (flags & (O_CREAT | O_TRUNC)) {
		r = memfs_hook(MEMFS_OPEN, file, 0, NULL, 0, NULL);
		if (r < 0)
			return r;
	}
	if (file < 0) {
		file = memfs_add(path);
		memfs_names_changed();
	} else if (flags & O_TRUNC) {
		memfs_resize(&memfs->files[file].now, 0);
		memfs_note(&memfs->files[file], MEMFS_TRUNCATE, 0, NULL, 0);
	}
	while (memfs->fds[fd] >= 0)
		if (++fd == MEMFS_FDS)
			abort();
	memfs->fds[fd] = file;
	return fd;
}

static inline void memfs_close(int fd)
{
	memfs->fds[fd] = -1;
	memfs->locked[fd] = false;
}

static inline struct memfs_file *memfs_file(int fd)
{
	if (memfs->fds[fd] < 0)
		abort();
	return &memfs->files[memfs->fds[fd]];
}

static inline ssize_t memfs_pread(int fd, void *buf, size_t n, uint64_t off)
{
	const struct memfs_file *f = memfs_file(fd);

	if (memfs->dead)
		return -EIO;
	if (off >= f->now.n)
		return 0;
	n = n < f->now.n - off ? n : f->now.n - (size_t)off;
	memcpy(buf, f->now.p + off, n);
	return (ssize_t)n;
}

static inline ssize_t memfs_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
	struct memfs_file *f = memfs_file(fd);
	size_t done = 0;
	int r = memfs_hook(MEMFS_WRITE, memfs->fds[fd], off, buf, n, &done);

	done = r < 0 ? done : n;
	if (done > 0) {
		memfs_put(&f->now, off, buf, done);
		memfs_note_write(f, off, off + done);
	}
	return r < 0 ? r : (ssize_t)n;
}

static inline int memfs_size(int fd, uint64_t *size)
{
	*size = memfs_file(fd)->now.n;
	return memfs->dead ? -EIO : 0;
}

static inline int memfs_truncate(int fd, uint64_t size)
{
	struct memfs_file *f = memfs_file(fd);
	int r = memfs_hook(MEMFS_TRUNCATE, memfs->fds[fd], size, NULL, 0, NULL);

	if (r < 0)
		return r;
	memfs_resize(&f->now, (size_t)size);
	memfs_note(f, MEMFS_TRUNCATE, size, NULL, 0);
	return 0;
}

/* What was written while it ran is not covered. */
static inline int memfs_datasync(int fd)
{
	struct memfs_file *f = memfs_file(fd);
	size_t covered = f->count, i;
	int r = memfs_hook(MEMFS_SYNC, memfs->fds[fd], 0, NULL, 0, NULL);

	if (r < 0)
		return r;
	for (i = 0; i < covered; i++) {
		struct memfs_change *c = &f->changes[i];

		if (c->kind == MEMFS_TRUNCATE)
			memfs_resize(&f->durable, (size_t)c->off);
		else
			memfs_apply_sectors(&f->durable, c, 16, &(uint64_t){ 0 });
		free(c->bytes);
	}
	f->count -= covered;
	if (f->count > 0)
		memmove(f->changes, f->changes + covered, f->count * sizeof *f->changes);
	return 0;
}

static inline int memfs_punch(int fd, uint64_t off, uint64_t n)
{
	struct memfs_file *f = memfs_file(fd);
	int r = memfs_hook(MEMFS_PUNCH, memfs->fds[fd], off, NULL, (size_t)n, NULL);

	if (r < 0)
		return r;
	if (off < f->now.n)
		memfs_put(&f->now, off, NULL, (size_t)(n < f->now.n - off ? n : f->now.n - off));
	memfs_note(f, MEMFS_PUNCH, off, NULL, n);
	return 0;
}

static inline int memfs_lock(int fd)
{
	size_t i;

	if (memfs->dead)
		return -EIO;
	for (i = 0; i < MEMFS_FDS; i++)
		if (memfs->locked[i] && memfs->fds[i] == memfs->fds[fd])
			return -EWOULDBLOCK;
	memfs->locked[fd] = true;
	return 0;
}

static inline int memfs_is_named(int fd, const char *path)
{
	const struct memfs_name *name = memfs_find(path);

	if (memfs->dead)
		return -EIO;
	return name && name->file == memfs->fds[fd];
}

static inline char *memfs_true_name(const char *path)
{
	return memfs_copy(path, strlen(path) + 1);
}

static inline int memfs_status(int fd, struct file_status *out)
{
	*out = (struct file_status){ .allocated = memfs_file(fd)->now.n,
				     .inode = (uint64_t)memfs->fds[fd],
				     .links = 1 };
	return memfs->dead ? -EIO : 0;
}

static inline int memfs_list(const char *path, void (*take)(void *arg, const char *name), void *arg)
{
	char name[MEMFS_NAME];
	size_t i;

	for (i = 0; !memfs->dead && i < MEMFS_NAMES; i++) {
		if (memfs->names.list[i].file < 0 ||
		    strncmp(memfs->names.list[i].name, path, strlen(path)) != 0)
			continue;
		memcpy(name, memfs->names.list[i].name, sizeof name);
		take(arg, name);
	}
	return memfs->dead ? -EIO : 0;
}

static inline int memfs_make_like(int fd, int model)
{
	return memfs->dead ? -EIO : 0;
}

static inline int memfs_rename(const char *from, const char *to)
{
	struct memfs_name *source = memfs_find(from), *target = memfs_find(to);
	int r = source ? memfs_hook(MEMFS_RENAME, source->file, 0, NULL, 0, NULL) : -ENOENT;

	if (r < 0)
		return r;
	if (target)
		target->file = -1;
	strcpy(source->name, to);
	memfs_names_changed();
	return 0;
}

static inline int memfs_unlink(const char *path)
{
	struct memfs_name *name = memfs_find(path);
	int r = name ? memfs_hook(MEMFS_UNLINK, name->file, 0, NULL, 0, NULL) : -ENOENT;

	if (r < 0)
		return r;
	name->file = -1;
	memfs_names_changed();
	return 0;
}

static inline int memfs_sync_folder(const char *path)
{
	int r = memfs_hook(MEMFS_SYNC_FOLDER, -1, 0, NULL, 0, NULL);
	size_t i;

	if (r < 0)
		return r;
	/* What happened in the other folder may still be undone. */
	for (i = 0; i < memfs->history_count; i++)
		memfs->history[i] =
			memfs_mix(&memfs->names, &memfs->history[i], memfs_folder(path));
	return 0;
}

static inline int memfs_boot_id(char out[FILE_BOOT_ID])
{
	snprintf(out, FILE_BOOT_ID, "%08x-0000-4000-8000-000000000000", (unsigned)memfs->boot);
	return 0;
}

static const struct file_ops memfs_ops = {
	.open = memfs_open,
	.close = memfs_close,
	.pread = memfs_pread,
	.pwrite = memfs_pwrite,
	.size = memfs_size,
	.truncate = memfs_truncate,
	.datasync = memfs_datasync,
	.punch = memfs_punch,
	.lock = memfs_lock,
	.is_named = memfs_is_named,
	.true_name = memfs_true_name,
	.status = memfs_status,
	.list = memfs_list,
	.make_like = memfs_make_like,
	.rename = memfs_rename,
	.unlink = memfs_unlink,
	.sync_folder = memfs_sync_folder,
	.boot_id = memfs_boot_id,
};

#endif
