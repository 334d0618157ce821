/* SPDX-License-Identifier: Apache-2.0 */
/* trace_paths.c - see trace_paths.h. */
#include "prefetch/trace_paths.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/array.h"
#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/identity.h"
#include "prefetch/ext4.h"
#include "prefetch/trace_edit.h"

/* ---- lists ---- */

int trace_path_check(const char *path, struct err *e)
{
	if (path[0] != '/')
		return err_set(e, EINVAL, "'%.200s' is not an absolute path", path);
	if (strlen(path) >= TRACE_PATH_LENGTH)
		return err_set(e, EINVAL, "a path of %zu bytes, more than %d", strlen(path),
			       TRACE_PATH_LENGTH - 1);
	return 0;
}

/* Cuts the next line off *rest, which is NULL after the last one. */
static char *next_line(char **rest)
{
	char *line = strsep(rest, "\n"), *cr = strrchr(line, '\r');

	if (cr && cr[1] == '\0')
		*cr = '\0';
	return line;
}

static int add_line(struct trace_path_list *list, const char *line, size_t number, struct err *e)
{
	const char **paths;
	int r;

	if (line[0] == '#' || line[strspn(line, " \t")] == '\0')
		return 0;
	r = trace_path_check(line, e);
	if (r < 0)
		return err_wrap(e, r, "line %zu", number);
	if (list->count == TRACE_PATHS_MAX)
		return err_set(e, EINVAL, "line %zu: more than %d paths", number, TRACE_PATHS_MAX);
	paths = array_grow(list->paths, list->count, &list->room, sizeof *paths);
	if (!paths)
		return err_set(e, ENOMEM, "out of memory");
	list->paths = paths;
	list->paths[list->count++] = line;
	return 0;
}

int trace_path_list_parse(const char *text, size_t n, struct trace_path_list *out, struct err *e)
{
	struct trace_path_list list = { .text = malloc(n + 1) };
	size_t number = 0;
	char *rest = list.text;
	int r = 0;

	if (!list.text)
		return err_set(e, ENOMEM, "out of memory");
	if (n > 0)
		memcpy(list.text, text, n);
	list.text[n] = '\0';
	if (strlen(list.text) < n)
		r = err_set(e, EINVAL, "a list of paths with a NUL byte at %zu", strlen(list.text));
	while (r == 0 && rest)
		r = add_line(&list, next_line(&rest), ++number, e);
	if (r < 0) {
		trace_path_list_release(&list);
		return r;
	}
	*out = list;
	return 0;
}

void trace_path_list_release(struct trace_path_list *list)
{
	free(list->text);
	free(list->paths);
	*list = (struct trace_path_list){ 0 };
}

/* ---- growing arrays ---- */

struct numbers {
	uint32_t *list;
	size_t count, room;
};

static int numbers_add(struct numbers *n, uint32_t number)
{
	uint32_t *list = array_grow(n->list, n->count, &n->room, sizeof *list);

	if (!list)
		return -ENOMEM;
	n->list = list;
	n->list[n->count++] = number;
	return 0;
}

/* A set of inode numbers, 0 being always in it: open addressing, at most half full. */
struct number_set {
	uint32_t *slots; /* 0: free */
	size_t count, room;
};

static size_t slot_of(const struct number_set *s, uint32_t number)
{
	size_t i = number * UINT32_C(2654435761) % s->room;

	while (s->slots[i] != 0 && s->slots[i] != number)
		i = (i + 1) % s->room;
	return i;
}

static int set_grow(struct number_set *s)
{
	struct number_set t = { .count = s->count, .room = s->room ? 2 * s->room : 256 };
	size_t i;

	t.slots = calloc(t.room, sizeof *t.slots);
	if (!t.slots)
		return -ENOMEM;
	for (i = 0; i < s->room; i++)
		if (s->slots[i] != 0)
			t.slots[slot_of(&t, s->slots[i])] = s->slots[i];
	free(s->slots);
	*s = t;
	return 0;
}

/* 1: it is new; 0: it was there; -ENOMEM. */
static int set_add(struct number_set *s, uint32_t number)
{
	size_t i;

	if (2 * s->count >= s->room && set_grow(s) < 0)
		return -ENOMEM;
	i = slot_of(s, number);
	if (s->slots[i] == number)
		return 0;
	s->slots[i] = number;
	s->count++;
	return 1;
}

/* ---- walking ---- */

struct walk {
	struct ext4 *fs;
	struct trace_notes *notes;
	struct number_set taken; /* files and whole folders */
	struct trace_range *data; /* in the paths' order */
	size_t data_count, data_room;
	size_t path_begin; /* ranges of earlier paths */
	size_t entries; /* seen in whole folders */
	struct numbers folders, files; /* of the folder in hand, and those that wait */
	bool full; /* there is no room for more ranges */
	bool out_of_memory;
};

/* Adds sectors of a file; 1 to stop, since `full` or `out_of_memory` is true. */
static int add_data(void *arg, uint64_t lba, uint64_t sectors)
{
	struct walk *w = arg;
	struct trace_range *data = w->data, *last;

	last = w->data_count > w->path_begin ? &data[w->data_count - 1] : NULL;
	if (last && last->lba + last->sectors == lba && last->sectors + sectors <= UINT32_MAX) {
		last->sectors += sectors;
		return 0;
	}
	w->full = w->data_count == TRACE_READS_MAX;
	if (w->full)
		return 1;
	data = array_grow(data, w->data_count, &w->data_room, sizeof *data);
	w->out_of_memory = !data;
	if (!data)
		return 1;
	w->data = data;
	w->data[w->data_count++] = (struct trace_range){ .lba = lba, .sectors = sectors };
	return 0;
}

/* -ENOMEM when there was none for what a callback wanted to keep. */
static int after_callback(const struct walk *w, int r, struct err *e)
{
	return w->out_of_memory ? err_set(e, ENOMEM, "out of memory") : r;
}

static int take_file(struct walk *w, uint32_t inode, struct err *e)
{
	int r = set_add(&w->taken, inode);

	if (r < 0)
		return err_set(e, ENOMEM, "out of memory");
	if (r == 0)
		return 0;
	return after_callback(w, ext4_data(w->fs, inode, add_data, w, e), e);
}

static int add_entry(void *arg, uint32_t inode, enum ext4_kind kind)
{
	struct walk *w = arg;
	struct numbers *to = kind == EXT4_FOLDER ? &w->folders : &w->files;

	if (++w->entries > TRACE_ENTRIES_MAX)
		return 1;
	w->out_of_memory = kind != EXT4_OTHER && numbers_add(to, inode) < 0;
	return w->out_of_memory;
}

/* A file, a link, or an entry that does not tell what it is. */
static int take_entry(struct walk *w, uint32_t inode, struct err *e)
{
	char target[EXT4_LINK_MAX];
	enum ext4_kind kind;
	int r = ext4_kind_of(w->fs, inode, &kind, e);

	if (r < 0)
		return r;
	if (kind == EXT4_FILE)
		return take_file(w, inode, e);
	if (kind == EXT4_LINK)
		return ext4_read_link(w->fs, inode, target, e);
	if (kind == EXT4_FOLDER && numbers_add(&w->folders, inode) < 0)
		return err_set(e, ENOMEM, "out of memory");
	return 0;
}

/* Whether it is no use to go on after this error; else it has become a note: `what` was skipped. */
static bool ends_walk(struct walk *w, int r, const char *path, const char *what,
		      const struct err *e)
{
	if (r == -ENOMEM || ext4_failed(w->fs))
		return true;
	if (r < 0)
		trace_note(w->notes, "%s%s is skipped: %s", path, what, e->msg);
	return false;
}

/* The entries of one folder, its folders being left in w->folders for later. */
static int take_folder(struct walk *w, uint32_t folder, const char *path, struct err *e)
{
	size_t i;
	int r = set_add(&w->taken, folder);

	if (r <= 0)
		return r < 0 ? err_set(e, ENOMEM, "out of memory") : 0;
	w->files.count = 0;
	r = after_callback(w, ext4_list(w->fs, folder, add_entry, w, e), e);
	if (r < 0)
		return r;
	for (i = 0; i < w->files.count && !w->full; i++) {
		r = take_entry(w, w->files.list[i], e);
		if (ends_walk(w, r, path, ": an entry", e))
			return r;
	}
	return 0;
}

/* No folder is taken twice, so that even one that is in itself has an end. */
static int take_tree(struct walk *w, uint32_t root, const char *path, struct err *e)
{
	int r = 0;

	if (numbers_add(&w->folders, root) < 0)
		return err_set(e, ENOMEM, "out of memory");
	while (w->folders.count > 0 && w->entries <= TRACE_ENTRIES_MAX && !w->full) {
		r = take_folder(w, w->folders.list[--w->folders.count], path, e);
		if (ends_walk(w, r, path, ": a folder", e))
			return r;
	}
	if (w->entries > TRACE_ENTRIES_MAX)
		trace_note(w->notes, "%s: more than %d entries in folders: the rest is left out",
			   path, TRACE_ENTRIES_MAX);
	return 0;
}

/* ---- finding ---- */

/* A path that is being followed. */
struct route {
	char text[2 * TRACE_PATH_LENGTH];
	const char *rest; /* into text: what has not been walked */
	uint32_t at; /* inode that was reached */
	unsigned links;
};

/* Goes where a link in the folder `from` leads; what was left of the path comes after. */
static int follow_link(struct walk *w, struct route *route, uint32_t from, uint32_t link,
		       struct err *e)
{
	char target[EXT4_LINK_MAX + 1];
	size_t n, rest = strlen(route->rest);
	int r = ext4_read_link(w->fs, link, target, e);

	if (r < 0)
		return r;
	if (++route->links > TRACE_LINKS_MAX)
		return err_set(e, ELOOP, "%s", strerror(ELOOP));
	n = strlen(target);
	if (n + 1 + rest >= sizeof route->text)
		return err_set(e, ENAMETOOLONG, "%s", strerror(ENAMETOOLONG));
	memmove(route->text + n + 1, route->rest, rest + 1);
	memcpy(route->text, target, n);
	route->text[n] = '/'; /* a link that ends a path stands before nothing: "target/" */
	if (rest == 0)
		route->text[n] = '\0';
	route->rest = route->text;
	route->at = target[0] == '/' ? EXT4_ROOT : from;
	return 0;
}

static int walk_one(struct walk *w, struct route *route, const char *name, size_t n, struct err *e)
{
	uint32_t from = route->at, inode;
	enum ext4_kind kind;
	int r = ext4_lookup(w->fs, from, name, n, &inode, e);

	if (r == 0)
		r = ext4_kind_of(w->fs, inode, &kind, e);
	if (r < 0)
		return r;
	if (kind == EXT4_LINK)
		return follow_link(w, route, from, inode, e);
	if (kind != EXT4_FOLDER && *route->rest != '\0')
		return err_set(e, ENOTDIR, "%s", strerror(ENOTDIR));
	route->at = inode;
	return 0;
}

/* The inode that a path, of at most TRACE_PATH_LENGTH, leads to. */
static int find(struct walk *w, const char *path, size_t n, uint32_t *out, struct err *e)
{
	struct route route = { .at = EXT4_ROOT };
	int r = 0;

	memcpy(route.text, path, n);
	route.text[n] = '\0';
	route.rest = route.text;
	while (r == 0) {
		const char *name = route.rest + strspn(route.rest, "/");
		size_t length = strcspn(name, "/");

		if (length == 0)
			break;
		route.rest = name + length;
		if (length == 1 && name[0] == '.')
			continue;
		r = walk_one(w, &route, name, length, e);
	}
	*out = route.at;
	return r;
}

static int ignore_entry(void *arg, uint32_t inode, enum ext4_kind kind)
{
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const struct trace_range *x = a, *y = b;

	return order_u64(x->lba, y->lba);
}

static int take_path(struct walk *w, const char *path, struct err *e)
{
	size_t n = strlen(path);
	enum ext4_kind kind;
	uint32_t inode;
	bool whole;
	int r;

	if (n >= 2 && strcmp(path + n - 2, "/*") == 0)
		n--;
	whole = path[n - 1] == '/';
	r = find(w, path, n, &inode, e);
	if (r == 0)
		r = ext4_kind_of(w->fs, inode, &kind, e);
	if (r < 0)
		return r;
	w->path_begin = w->data_count;
	if (kind == EXT4_FOLDER && whole)
		r = take_tree(w, inode, path, e);
	else if (kind == EXT4_FOLDER)
		r = ext4_list(w->fs, inode, ignore_entry, NULL, e);
	else if (whole)
		r = err_set(e, ENOTDIR, "%s", strerror(ENOTDIR));
	else if (kind == EXT4_FILE)
		r = take_file(w, inode, e);
	if (w->data)
		qsort(w->data + w->path_begin, w->data_count - w->path_begin, sizeof *w->data,
		      compare_ranges);
	return r;
}

static int take_paths(struct walk *w, const char *const *paths, size_t count, struct err *e)
{
	size_t i;
	int r;

	for (i = 0; i < count && !w->full; i++) {
		r = trace_path_check(paths[i], e);
		if (r < 0)
			return r;
		r = take_path(w, paths[i], e);
		if (ends_walk(w, r, paths[i], "", e))
			return r;
	}
	return 0;
}

/* ---- the trace ---- */

static void append(struct trace *t, const struct trace_range *ranges, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		t->reads[t->count++] =
			(struct trace_read){ .lba = ranges[i].lba,
					     .sectors = (uint32_t)ranges[i].sectors };
}

static int make_trace(const struct walk *w, struct image *image, struct trace *out, struct err *e)
{
	struct trace t = { .disk_size = image_size(image) };
	size_t metadata, left_out = 0;
	const struct trace_range *reads = ext4_reads(w->fs, &metadata);
	int r = image_identity(image, t.identity, e);

	if (r < 0)
		return r;
	t.reads = malloc((metadata + w->data_count) * sizeof *t.reads);
	if (!t.reads)
		return err_set(e, ENOMEM, "out of memory");
	append(&t, reads, metadata);
	append(&t, w->data, w->data_count);
	r = trace_keep_first(&t, &left_out, e);
	if (r < 0) {
		trace_release(&t);
		return r;
	}
	if (left_out > 0 || w->full)
		trace_note(w->notes, "the files need more than %d reads: the rest is left out",
			   TRACE_READS_MAX);
	*out = t;
	return 0;
}

int trace_from_paths(struct image *image, const char *const *paths, size_t count,
		     struct trace_notes *notes, struct trace *out, struct err *e)
{
	struct trace_notes log = { 0 };
	struct walk w = { .notes = notes ? notes : &log };
	struct err why; /* notes need it, whether the caller does or not */
	int r;

	if (!e)
		e = &why;
	r = ext4_open(image, &w.fs, e);
	if (r < 0)
		return r;
	r = take_paths(&w, paths, count, e);
	if (r == 0)
		r = make_trace(&w, image, out, e);
	trace_notes_end(w.notes);
	ext4_close(w.fs);
	free(w.taken.slots);
	free(w.data);
	free(w.folders.list);
	free(w.files.list);
	return r;
}
