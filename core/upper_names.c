/* SPDX-License-Identifier: Apache-2.0 */
/* upper_names.c - see upper_names.h. */
#include "core/upper_names.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/upper_intent.h"

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* The same, or the same name in the same folder where there is no file yet. */
static bool is_same_name(const char *a, const char *b)
{
	AUTO_FREE char *x = io_absolute_path(NULL, a);
	AUTO_FREE char *y = io_absolute_path(NULL, b);
	AUTO_FREE char *x_folder = x ? io_parent(x) : NULL;
	AUTO_FREE char *y_folder = y ? io_parent(y) : NULL;

	return is_same_file(a, b) ||
	       (x_folder && y_folder && strcmp(strrchr(x, '/'), strrchr(y, '/')) == 0 &&
		is_same_file(x_folder, y_folder));
}

int upper_names_refuse(const char *data_path, const char *index_path, const char *path,
		       struct err *e)
{
	const struct file_ops *ops = &file_ops_system;
	char *own[] = { ops->true_name(data_path),
			ops->true_name(index_path),
			upper_intent_new_name(ops, data_path),
			upper_intent_new_name(ops, index_path),
			upper_intent_name(ops, data_path, ".pending"),
			upper_intent_name(ops, data_path, ".intent") };
	size_t i;
	int r = 0;

	for (i = 0; i < sizeof own / sizeof own[0]; i++) {
		if (r == 0 && !own[i])
			r = err_set(e, ENOMEM, "out of memory");
		else if (r == 0 && is_same_name(path, own[i]))
			r = err_set(e, EINVAL, "'%s' is a file of the image: %s", path, own[i]);
		free(own[i]);
	}
	return r;
}
