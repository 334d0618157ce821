/* SPDX-License-Identifier: Apache-2.0 */
/* memdisk_internal.h - what the files of memdisk share: files and folders (memdisk_node.c), the
 * operations (memdisk_ops.c), processes, faults and the disk as a whole (memdisk.c).
 *
 * A file is a sorted list of its blocks.  Those of one that was mapped lie one after the other in
 * the arena, a memfd, so that each mapping is a real one of it, and a page that may not be stored
 * to is protected there.  Locks hang on the file, as in the kernel, and name the open file. */
#ifndef OVERLAYBD_TESTS_MEMDISK_INTERNAL_H
#define OVERLAYBD_TESTS_MEMDISK_INTERNAL_H

#include <time.h>

#include "tests/unit/memdisk.h"

enum {
	FIRST_FD = 1 << 20, /* far from the real ones */
	DEVICE = 77,
};

struct block {
	uint64_t index;
	uint8_t *bytes; /* NULL: zeros */
	bool charged; /* false: a hole of a file in the arena */
	bool shared; /* charged to another: a change needs a block of our own */
};

struct lock {
	struct lock *next;
	const void *holder; /* struct open_file */
	short type;
	uint64_t first, last; /* bytes */
};

struct node;

struct entry {
	char *name;
	struct node *node;
};

struct node {
	ino_t ino;
	bool is_folder;
	unsigned names; /* that lead to it */
	unsigned opens; /* open files and mappings */
	unsigned syncs;
	uid_t user;
	gid_t group;
	struct timespec changed;
	/* a file's */
	uint64_t size;
	struct block *blocks; /* by index */
	size_t count, room;
	bool in_arena;
	uint64_t arena_off, arena_size;
	struct lock *locks;
	/* a folder's */
	struct entry *entries;
	size_t entry_count, entry_room;
};

struct open_file {
	struct node *node;
	unsigned refs;
	bool can_write;
};

struct descriptor {
	struct open_file *file; /* NULL: closed */
	unsigned process;
	bool killed;
};

struct mapping {
	struct mapping *next;
	uint8_t *at;
	size_t n;
	struct node *node;
	unsigned process;
	uint64_t arena_off;
	bool killed;
	bool is_changed; /* not a plain mapping of the arena any more */
};

struct range {
	uint64_t off, n;
};

/* The disk. */
struct memdisk {
	struct node *top;
	ino_t last_ino;
	uint64_t room, used;
	int64_t type;
	bool punches;
	unsigned process;
	struct descriptor *fds;
	size_t fd_count, fd_room;
	struct mapping *mappings;
	struct range *ranges; /* of the arena that are taken, in order */
	size_t range_count, range_room;
	uint64_t calls[MEMDISK_OPS];
	long ticks; /* so that each change has a time of its own */
	struct {
		enum memdisk_op op;
		uint64_t left; /* calls until it strikes; 0: none */
		int error;
		bool lasting, is_cut, failed;
		size_t most;
	} fault;
	int (*hook)(void *arg, enum memdisk_op op, unsigned process, const char *name);
	void *hook_arg;
	bool hooked; /* the hook's own operations are not reported to it */
};

extern struct memdisk disk;

extern int memdisk_arena;

/* ---- a test's own faults, and memory ---- */

void memdisk_bug(const char *what, const char *which);
void *memdisk_grow(void *list, size_t count, size_t *room, size_t each);
void *memdisk_alloc(size_t n);

/* ---- blocks: find, charge to the disk, read and write ---- */

void memdisk_make_arena(void);
struct block *memdisk_block(const struct node *f, uint64_t index);
bool memdisk_is_own(const struct block *b);
bool memdisk_has_room(uint64_t blocks);
int memdisk_own_block(struct node *f, uint64_t index, struct block **out);
size_t memdisk_find_block(const struct node *f, uint64_t index);
void memdisk_free_block(struct node *f, size_t i);
void memdisk_free_blocks_from(struct node *f, uint64_t index);
void memdisk_move_to_arena(struct node *f);
ssize_t memdisk_read_node(const struct node *f, void *buf, size_t n, uint64_t off);
ssize_t memdisk_write_node(struct node *f, const void *buf, size_t n, uint64_t off);
void memdisk_note_change(struct node *f);
void memdisk_protect(const struct node *f, uint64_t index, bool open);

/* ---- nodes and names ---- */

struct node *memdisk_new_node(bool is_folder);
void memdisk_free_if_unused(struct node *node);
struct entry *memdisk_find_entry(const struct node *folder, const char *name, size_t n);
void memdisk_add_entry(struct node *folder, const char *name, struct node *node);
void memdisk_remove_entry(struct node *folder, struct entry *entry);
int memdisk_find_parent(struct node *from, const char *path, struct node **folder,
			const char **last);
int memdisk_find_node(struct node *from, const char *path, struct node **out);
void memdisk_fill_stat(const struct node *node, struct stat *st);

/* ---- processes, descriptors, faults ---- */

/* 0, or the fault, if it strikes now.  begin: what comes before every operation; it counts it, asks
 * the hook and fails it. */
int memdisk_take_fault(enum memdisk_op op);
int memdisk_begin_as(enum memdisk_op op, unsigned process, const char *name);
void memdisk_release_file(struct open_file *file);
struct descriptor *memdisk_descriptor(int fd);
struct open_file *memdisk_file(int fd);
unsigned memdisk_process(int fd);
int memdisk_begin(enum memdisk_op op, int fd, const char *name);
int memdisk_begin_on(enum memdisk_op op, int fd, struct open_file **out);
int memdisk_begin_at(enum memdisk_op op, int at, const char *name, struct node **from);
int memdisk_new_descriptor(struct open_file *file, unsigned process);

#endif
