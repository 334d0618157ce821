/* SPDX-License-Identifier: Apache-2.0 */
/* upper_names.c - see upper_names.h. */
#include "core/upper_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/format.h"
#include "core/upper_intent.h"

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The last part of an absolute path. */
static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* 1: two absolute paths lie in one folder; 0: they do not; -ENOMEM. */
static int is_same_folder(const char *x, const char *y)
{
	AUTO_FREE char *x_folder = io_parent(x);
	AUTO_FREE char *y_folder = io_parent(y);

	if (!x_folder || !y_folder)
		return -ENOMEM;
	return is_same_file(x_folder, y_folder);
}

/* 1: the same file, or the same name in the same folder where there is no file yet; 0; -ENOMEM. */
static int is_same_name(const char *a, const char *b)
{
	AUTO_FREE char *x = io_absolute_path(NULL, a);
	AUTO_FREE char *y = io_absolute_path(NULL, b);

	if (is_same_file(a, b))
		return 1;
	if (!x || !y)
		return -ENOMEM;
	return strcmp(base_of(x), base_of(y)) == 0 ? is_same_folder(x, y) : 0;
}

/* ---- what nobody else may have ---- */

size_t upper_names_stem(const char *data, unsigned *number)
{
	size_t n = strlen(data), at;

	if (n > 5 && strcmp(data + n - 5, ".data") == 0)
		n -= 5;
	for (at = n; at > 0 && data[at - 1] >= '0' && data[at - 1] <= '9'; at--)
		;
	*number = 0;
	if (at == n || n - at > 6 || at < 2 || data[at - 1] != '-' || data[at - 2] == '/')
		return n;
	*number = (unsigned)strtoul(data + at, NULL, 10);
	return at - 1;
}

/* What follows on the stem in the names that such a layer needs. */
static bool is_reserved(const char *rest)
{
	static const char *const endings[] = {
		".pending",  ".intent",	   ".upper-pending", ".upper-intent",
		".data.new", ".index.new", ".data.part",     ".index.part",
	};
	size_t i;

	if (*rest == '-' && rest[1] >= '0' && rest[1] <= '9')
		rest += 1 + strspn(rest + 1, "0123456789");
	for (i = 0; i < sizeof endings / sizeof endings[0]; i++)
		if (strcmp(rest, endings[i]) == 0)
			return true;
	return *rest == '.' && upper_file_is_temporary(rest);
}

/* 1: `path` is in the folder of the data file and has a name that one of its kind may need.
 * -ENOMEM. */
static int takes_a_name(const char *data, const char *path)
{
	AUTO_FREE char *x = io_absolute_path(NULL, data);
	AUTO_FREE char *y = io_absolute_path(NULL, path);
	unsigned number;
	size_t stem;
	int r = x && y ? is_same_folder(x, y) : -ENOMEM;

	if (r <= 0)
		return r;
	stem = upper_names_stem(x, &number) - (size_t)(base_of(x) - x);
	return strncmp(base_of(x), base_of(y), stem) == 0 && is_reserved(base_of(y) + stem);
}

int upper_names_refuse_kept(const char *data_path, const char *path, struct err *e)
{
	AUTO_FREE char *data = file_ops_system.true_name(data_path);
	int r = data ? takes_a_name(data, path) : -ENOMEM;

	if (r < 0)
		return err_set(e, -r, "out of memory");
	if (r == 0)
		return 0;
	return err_set(e, EINVAL,
		       "'%s' is a name under which the writable layer, or the next one, keeps "
		       "files: choose another",
		       path);
}

int upper_names_refuse(const char *data_path, const char *index_path, const char *path,
		       struct err *e)
{
	const struct file_ops *ops = &file_ops_system;
	char *own[] = { ops->true_name(data_path),
			ops->true_name(index_path),
			upper_intent_new_name(ops, data_path),
			upper_intent_new_name(ops, index_path),
			upper_intent_name(ops, data_path, "pending"),
			upper_intent_name(ops, data_path, "intent") };
	size_t i;
	int r = 0;

	for (i = 0; r == 0 && i < sizeof own / sizeof own[0]; i++) {
		r = own[i] ? is_same_name(path, own[i]) : -ENOMEM;
		if (r > 0)
			r = err_set(e, EINVAL, "'%s' is a file of the image: %s", path, own[i]);
		else if (r < 0)
			r = err_set(e, -r, "out of memory");
	}
	for (i = 0; i < sizeof own / sizeof own[0]; i++)
		free(own[i]);
	return r < 0 ? r : upper_names_refuse_kept(data_path, path, e);
}

/* ---- what was left ---- */

enum {
	BEGINNING = 128, /* bytes of a file that tell whose it is */
	TEMPORARY_ENDING = 21, /* of upper_file_temporary: ".tmp." and 16 digits */
};

struct leftovers {
	const struct file_ops *ops;
	const char *uuid;
	const char *name; /* that they were made for */
};

/* A header of a layer, a pending file or an intent of this log; or zeroes, where power loss took
 * what was written. */
static bool begins_as_ours(const struct leftovers *l, const uint8_t raw[BEGINNING])
{
	static const struct {
		char magic[8];
		size_t uuid;
	} kinds[] = {
		{ { 'L', 'S', 'M', 'T', 0, 1, 2, 0 }, 56 },
		{ { 'O', 'B', 'D', 'P', 'E', 'N', 'D', '2' }, 52 },
		{ { 'O', 'B', 'D', 'I', 'N', 'T', 'N', '1' }, 24 },
	};
	static const uint8_t zeroes[BEGINNING];
	size_t i;

	for (i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (memcmp(raw, kinds[i].magic, sizeof kinds[i].magic) == 0)
			return strncasecmp((const char *)raw + kinds[i].uuid, l->uuid,
					   FORMAT_UUID - 1) == 0;
	return memcmp(raw, zeroes, BEGINNING) == 0;
}

static bool is_ours(const struct leftovers *l, const char *path)
{
	uint8_t raw[BEGINNING] = { 0 };
	int fd = l->ops->open(path, O_RDONLY, 0);
	uint64_t size;
	bool ours;

	if (fd < 0)
		return false;
	ours = l->ops->size(fd, &size) == 0 &&
	       upper_file_read(l->ops, fd, raw, size < BEGINNING ? (size_t)size : BEGINNING, 0,
			       NULL) == 0 &&
	       begins_as_ours(l, raw);
	l->ops->close(fd);
	return ours;
}

static void remove_leftover(void *arg, const char *path)
{
	const struct leftovers *l = arg;

	if (strlen(base_of(path)) != strlen(base_of(l->name)) + TEMPORARY_ENDING ||
	    !upper_file_is_temporary(path) || !is_ours(l, path))
		return;
	if (l->ops->unlink(path) == 0)
		log_warn("%s: is removed: a process that was killed left it", path);
}

void upper_names_tidy(const struct file_ops *ops, const char *data_path, const char *index_path,
		      const char *uuid)
{
	AUTO_FREE char *index = ops->true_name(index_path);
	AUTO_FREE char *data_new = upper_intent_new_name(ops, data_path);
	AUTO_FREE char *index_new = upper_intent_new_name(ops, index_path);
	AUTO_FREE char *pending = upper_intent_name(ops, data_path, "pending");
	AUTO_FREE char *intent = upper_intent_name(ops, data_path, "intent");
	const char *names[] = { index, data_new, index_new, pending, intent };
	size_t i;

	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct leftovers l = { .ops = ops, .uuid = uuid, .name = names[i] };

		if (names[i])
			(void)ops->list(names[i], remove_leftover, &l);
	}
}
