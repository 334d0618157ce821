/* SPDX-License-Identifier: Apache-2.0 */
/* cache_folder.c - the file system under the cache, see cache_folder.h. */
#include "fetch/cache_folder.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/scope.h"

/* Temporary names, each followed by chance. */
#define GONE "gone." /* a folder that is being deleted */
#define PROBE "probe."
#define NEW "new." /* a file that is being made */

enum { DEPTH = 4, TRIES = 8, NAME = 32, UNFINISHED = 3600 /* s that making something may take */ };

/* A pid would not do: those of two containers that share the folder are often the same. */
static void make_name(char out[NAME], const char *kind)
{
	snprintf(out, NAME, "%s%08" PRIx32 "%08" PRIx32, kind, clock_chance(), clock_chance());
}

/* ---- which file systems ---- */

/* Left out although they punch holes: bcachefs copies on every write, so that a store to a mapping
 * raises SIGBUS on a full disk; zfs, fuse and network file systems keep mapping and pread apart, or
 * locks, on terms of their own. */
static bool is_known(int64_t magic)
{
	switch (magic) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case TMPFS_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
		return true;
	default:
		return false;
	}
}

static bool is_all(const char *bytes, size_t n, char value)
{
	return bytes[0] == value && memcmp(bytes, bytes + 1, n - 1) == 0;
}

static int try_punch(struct cache_file f, struct err *e)
{
	enum { SIZE = 65536, HOLE = 16384 };
	AUTO_FREE char *bytes = malloc(SIZE);
	int r;

	if (!bytes)
		return err_set(e, ENOMEM, "out of memory");
	memset(bytes, 0xff, SIZE);
	r = cache_disk_write(f, bytes, SIZE, 0, e);
	if (r < 0)
		return r;
	r = f.ops->punch(f.fd, 0, HOLE);
	if (r < 0)
		return err_set(e, -r, "the file system cannot punch holes: %s", strerror(-r));
	r = cache_disk_read(f, bytes, SIZE, 0, e);
	if (r < 0)
		return r;
	if (!is_all(bytes, HOLE, 0) || !is_all(bytes + HOLE, SIZE - HOLE, (char)0xff))
		return err_set(e, EOPNOTSUPP, "the file system punches no holes");
	return 0;
}

int cache_folder_check(struct cache_file folder, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file f = CACHE_FILE_NONE;
	struct cache_disk_room room;
	char name[NAME];
	int r = folder.ops->room(folder.fd, &room);

	if (r < 0)
		return err_set(e, -r, "statfs: %s", strerror(-r));
	if (!is_known(room.type))
		return err_set(e, EOPNOTSUPP,
			       "a file system of type 0x%" PRIx64 " is not known to be safe for a "
			       "cache: ext4, xfs, btrfs, f2fs, tmpfs or overlayfs",
			       (uint64_t)room.type);
	make_name(name, PROBE);
	r = cache_disk_open(folder, name, O_RDWR | O_CREAT | O_EXCL, 0600, &f);
	r = r < 0 ? err_set(e, -r, "creating a file: %s", strerror(-r)) : try_punch(f, e);
	folder.ops->unlink(folder.fd, name);
	return r == -ENOSPC || r == -EDQUOT ? 0 : r; /* a full disk can still be read */
}

/* ---- files ---- */

/* Before the file has any block, as btrfs wants it.  Other file systems have no such flag, and need
 * none; overlayfs hands it to the one below. */
static int no_copy_on_write(struct cache_file f, struct err *e)
{
	struct cache_disk_room room;

	if (f.ops->no_cow(f.fd) < 0 && f.ops->room(f.fd, &room) == 0 &&
	    room.type == BTRFS_SUPER_MAGIC)
		return err_set(e, EOPNOTSUPP, "btrfs does not allow the flag NOCOW");
	return 0;
}

int cache_folder_allocate(struct cache_file f, uint64_t size, struct err *e)
{
	int r = f.ops->allocate(f.fd, size);

	return r < 0 ? err_set(e, -r, "allocating %" PRIu64 " bytes: %s", size, strerror(-r)) : 0;
}

static int fill_file(struct cache_file f, const void *head, size_t n, uint64_t size, struct err *e)
{
	int r = no_copy_on_write(f, e);

	if (r == 0)
		r = cache_folder_allocate(f, size, e);
	return r < 0 ? r : cache_disk_write(f, head, n, 0, e);
}

/* Gives what root has made to the owner of the folder in which it is.  Should that fail, its owner
 * lacks rights that are told of when they are missed. */
static void give(struct cache_file folder, struct cache_file f)
{
	struct stat st;

	if (folder.ops->stat(folder.fd, &st) == 0 && (st.st_uid != 0 || st.st_gid != 0) &&
	    geteuid() == 0)
		(void)f.ops->give(f.fd, st.st_uid, st.st_gid);
}

/* A new file, under a temporary name. */
static int make_temporary(struct cache_file folder, char name[NAME], struct cache_file *out)
{
	int r;

	make_name(name, NEW);
	r = cache_disk_open(folder, name, O_RDWR | O_CREAT | O_EXCL, 0600, out);
	if (r == 0)
		give(folder, *out);
	return r;
}

int cache_folder_make_file(struct cache_file folder, const char *name, const void *head, size_t n,
			   uint64_t size, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file f = CACHE_FILE_NONE;
	char temporary[NAME];
	int r = make_temporary(folder, temporary, &f);

	if (r < 0)
		return err_set(e, -r, "creating '%s': %s", name, strerror(-r));
	r = fill_file(f, head, n, size, e);
	if (r == 0) {
		r = folder.ops->name(folder.fd, temporary, name);
		if (r == 0)
			return 0;
		r = r == -EEXIST ? 0 : err_set(e, -r, "renaming: %s", strerror(-r));
	}
	folder.ops->unlink(folder.fd, temporary);
	return r < 0 ? err_wrap(e, r, "creating '%s'", name) : 0;
}

int cache_folder_replace_file(struct cache_file folder, const char *name, const void *bytes,
			      size_t n, bool sync, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file f = CACHE_FILE_NONE;
	char temporary[NAME];
	int r = make_temporary(folder, temporary, &f);

	if (r < 0)
		return err_set(e, -r, "creating '%s': %s", name, strerror(-r));
	r = cache_disk_write(f, bytes, n, 0, e);
	if (r == 0 && sync) {
		r = f.ops->datasync(f.fd);
		if (r < 0)
			err_set(e, -r, "fdatasync: %s", strerror(-r));
	}
	if (r == 0) {
		r = folder.ops->rename(folder.fd, temporary, name);
		if (r < 0)
			err_set(e, -r, "renaming: %s", strerror(-r));
	}
	if (r < 0)
		folder.ops->unlink(folder.fd, temporary);
	return r < 0 ? err_wrap(e, r, "creating '%s'", name) : 0;
}

/* Opens a file, or makes and opens it, whoever else makes or removes it meanwhile. */
static int open_or_make(struct cache_file folder, const char *name, bool create,
			struct cache_file *out)
{
	const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK;
	int tries, r = cache_disk_open(folder, name, flags, 0, out);

	for (tries = 0; r == -ENOENT && create && tries < TRIES; tries++) {
		r = cache_disk_open(folder, name, flags | O_CREAT | O_EXCL, 0600, out);
		if (r == 0)
			give(folder, *out);
		else if (r == -EEXIST)
			r = cache_disk_open(folder, name, flags, 0, out);
	}
	return r;
}

/* What has a name elsewhere too is another's, who did not want it written to. */
int cache_folder_open_file(struct cache_file folder, const char *name, bool create,
			   struct cache_file *out, struct err *e)
{
	int r = open_or_make(folder, name, create, out);
	struct stat st = { 0 };

	if (r < 0)
		return err_set(e, r == -ELOOP || r == -EISDIR || r == -ENXIO ? EUCLEAN : -r,
			       "%s: %s", name, strerror(-r));
	if (out->ops->stat(out->fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink <= 1)
		return 0;
	cache_disk_close(out);
	return err_set(e, EUCLEAN, "%s: %s", name,
		       S_ISREG(st.st_mode) ? "a file that has another name too (a hard link)"
					   : "not a file");
}

int cache_folder_read_file(struct cache_file folder, const char *name, size_t limit,
			   struct cache_file *f, char **out, size_t *n, struct err *e)
{
	AUTO_FREE char *text = NULL;
	struct stat st;
	int r = cache_disk_open(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, f);

	if (r == 0)
		r = f->ops->stat(f->fd, &st);
	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	if (!S_ISREG(st.st_mode))
		return err_set(e, EINVAL, "not a regular file");
	if ((uint64_t)st.st_size > limit)
		return err_set(e, EFBIG, "it has %" PRId64 " bytes", (int64_t)st.st_size);
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_set(e, ENOMEM, "out of memory");
	r = cache_disk_read(*f, text, (size_t)st.st_size, 0, e);
	if (r < 0)
		return r;
	text[st.st_size] = '\0';
	*n = (size_t)st.st_size;
	*out = TAKE_PTR(text);
	return 0;
}

bool cache_folder_is_at(struct cache_file folder, const char *name, struct cache_file f)
{
	struct stat ours, there;
	int r;

	if (f.ops->stat(f.fd, &ours) < 0 || ours.st_nlink == 0)
		return false;
	r = folder.ops->stat_at(folder.fd, name, &there);
	if (r < 0)
		return r != -ENOENT; /* with less rights than when it was opened: who knows */
	return ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* ---- folders ---- */

static int open_folder(struct cache_file at, const char *name, struct cache_file *out)
{
	return cache_disk_open(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, out);
}

int cache_folder_make(struct cache_file at, const char *name, struct err *e)
{
	AUTO_CLOSE_FILE struct cache_file f = CACHE_FILE_NONE;
	int r = at.ops->make_folder(at.fd, name, 0700);

	if (r == -EEXIST)
		return 0;
	if (r < 0)
		return err_set(e, -r, "creating the folder %s: %s", name, strerror(-r));
	if (open_folder(at, name, &f) == 0)
		give(at, f);
	return 0;
}

int cache_folder_enter(struct cache_file root, const char *path, bool create,
		       struct cache_file *out, struct err *e)
{
	AUTO_FREE char *parent = strdup(path);
	AUTO_CLOSE_FILE struct cache_file above = CACHE_FILE_NONE;
	char *name = parent ? strrchr(parent, '/') : NULL;
	struct cache_file at = root;
	int r = 0;

	*out = CACHE_FILE_NONE;
	if (!parent)
		return err_set(e, ENOMEM, "out of memory");
	if (name) {
		*name++ = '\0';
		r = open_folder(root, parent, &above);
		at = above;
	} else {
		name = parent;
	}
	if (r < 0)
		return err_set(e, r == -ELOOP ? ENOTDIR : -r, "%s", strerror(-r));
	if (create)
		r = cache_folder_make(at, name, e);
	if (r < 0)
		return r;
	r = open_folder(at, name, out);
	if (r == -ENOTDIR || r == -ELOOP)
		return err_set(e, EUCLEAN, "not a folder");
	return r < 0 ? err_set(e, -r, "%s", strerror(-r)) : 0;
}

int cache_folder_lock(struct cache_file f, short type, uint64_t off, uint64_t n)
{
	return f.ops->lock(f.fd, type, off, n);
}

/* ---- removing ---- */

struct deletion {
	struct cache_file parent;
	int depth; /* of folders below, that may still be gone into */
};

static int delete_entry(void *arg, const char *name);

/* Who opened the folder before it was renamed may still be making files in it: hence the tries. */
static int delete_folder(const struct deletion *d, const char *name)
{
	AUTO_CLOSE_FILE struct cache_file folder = CACHE_FILE_NONE;
	int tries, r;

	for (tries = 0; tries < TRIES; tries++) {
		struct deletion within = { .depth = d->depth - 1 };

		cache_disk_close(&folder);
		r = open_folder(d->parent, name, &folder);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
		within.parent = folder;
		r = folder.ops->list(folder.fd, ".", delete_entry, &within);
		if (r == 0)
			r = d->parent.ops->remove_folder(d->parent.fd, name);
		if (r == 0 || r == -ENOENT)
			return 0;
		if (r != -ENOTEMPTY && r != -EEXIST)
			return r;
	}
	return -ENOTEMPTY;
}

static int delete_entry(void *arg, const char *name)
{
	const struct deletion *d = arg;
	int r = d->parent.ops->unlink(d->parent.fd, name);

	if (r == 0 || r == -ENOENT)
		return 0;
	if (r != -EISDIR && r != -EPERM)
		return r;
	return d->depth > 0 ? delete_folder(d, name) : -ELOOP;
}

int cache_folder_remove(struct cache_file root, const char *path, struct err *e)
{
	struct deletion d = { .parent = root, .depth = DEPTH };
	char gone[NAME];
	int r;

	make_name(gone, GONE);
	r = root.ops->rename(root.fd, path, gone);
	if (r < 0)
		return err_set(e, -r, "%s: renaming it away: %s", path, strerror(-r));
	r = delete_entry(&d, gone);
	return r < 0 ? err_set(e, -r, "%s: deleting %s: %s", path, gone, strerror(-r)) : 0;
}

/* ---- listing ---- */

static bool begins(const char *name, const char *with)
{
	return strncmp(name, with, strlen(with)) == 0;
}

static bool is_temporary(const char *name)
{
	return begins(name, GONE) || begins(name, PROBE) || begins(name, NEW);
}

static bool is_document(const char *name)
{
	return name[0] != '.';
}

static bool is_origin(const char *name)
{
	return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct listing {
	const char *prefix;
	bool (*wanted)(const char *name);
	struct cache_names *names;
	size_t room;
};

static int add_name(void *arg, const char *name)
{
	struct listing *l = arg;
	struct cache_names *n = l->names;

	if (!l->wanted(name))
		return 0;
	if (n->count == l->room) {
		size_t room = 2 * l->room + 16;
		char **more = realloc(n->names, room * sizeof *more);

		if (!more)
			return -ENOMEM;
		n->names = more;
		l->room = room;
	}
	if (asprintf(&n->names[n->count], "%s%s", l->prefix, name) < 0)
		return -ENOMEM;
	n->count++;
	return 0;
}

/* Adds "prefix" "name" for each entry that `wanted` takes.  A folder that is not there has none. */
static int add_entries(struct cache_file root, const char *folder, const char *prefix,
		       bool (*wanted)(const char *name), struct cache_names *names, struct err *e)
{
	size_t before = names->count;
	struct listing l = { .prefix = prefix, .wanted = wanted, .names = names, .room = before };
	int r = root.ops->list(root.fd, folder, add_name, &l);

	if (names->count > before)
		qsort(names->names + before, names->count - before, sizeof *names->names, by_bytes);
	if (r == -ENOENT || r == -ENOTDIR || r == -ELOOP)
		return 0;
	return r < 0 ? err_set(e, -r, "listing %s: %s", folder, strerror(-r)) : 0;
}

void cache_names_release(struct cache_names *names)
{
	size_t i;

	for (i = 0; i < names->count; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct cache_names){ 0 };
}

int cache_folder_list_origins(struct cache_file root, struct cache_names *out, struct err *e)
{
	int r;

	*out = (struct cache_names){ 0 };
	r = add_entries(root, ".", "", is_origin, out, e);
	if (r < 0)
		cache_names_release(out);
	return r;
}

/* Adds what each place has in its folder `inside` ("": itself). */
static int list_places(struct cache_file root, const char *inside, bool (*wanted)(const char *name),
		       struct cache_names *out, struct err *e)
{
	struct cache_names places;
	size_t i;
	int r = cache_folder_list_origins(root, &places, e);

	*out = (struct cache_names){ 0 };
	if (r < 0)
		return r;
	for (i = 0; r == 0 && i <= places.count; i++) { /* "sha256" is after every hex digit */
		char folder[CACHE_PLACE + sizeof CACHE_DOCUMENTS + 1], prefix[sizeof folder + 1];

		snprintf(folder, sizeof folder, "%s%s",
			 i < places.count ? places.names[i] : CACHE_SHARED, inside);
		snprintf(prefix, sizeof prefix, "%s/", folder);
		r = add_entries(root, folder, prefix, wanted, out, e);
	}
	cache_names_release(&places);
	if (r < 0)
		cache_names_release(out);
	return r;
}

int cache_folder_list(struct cache_file root, struct cache_names *out, struct err *e)
{
	return list_places(root, "", digest_is_any, out, e);
}

int cache_folder_list_documents(struct cache_file root, struct cache_names *out, struct err *e)
{
	return list_places(root, "/" CACHE_DOCUMENTS, is_document, out, e);
}

/* Whether nobody can be at work on it any more.  What is gone is of use to nobody. */
static bool is_left(struct cache_file root, const char *name)
{
	struct stat st;

	if (begins(name, GONE))
		return true;
	return root.ops->stat_at(root.fd, name, &st) == 0 &&
	       clock_date() - st.st_mtime > UNFINISHED;
}

void cache_folder_sweep(struct cache_file root)
{
	struct deletion d = { .parent = root, .depth = DEPTH };
	struct cache_names left = { 0 };
	size_t i;

	if (add_entries(root, ".", "", is_temporary, &left, NULL) == 0)
		for (i = 0; i < left.count; i++)
			if (is_left(root, left.names[i]))
				(void)delete_entry(&d, left.names[i]);
	cache_names_release(&left);
}
