/* SPDX-License-Identifier: Apache-2.0 */
/* record_path.c - see record_path.h. */
#include "prefetch/record_path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "prefetch/trace_layers.h"

static char *beside(const char *path, const char *suffix)
{
	char *name;

	return asprintf(&name, "%s.%s", path, suffix) < 0 ? NULL : name;
}

/* An empty file PATH.SUFFIX. */
static int make_mark(const char *path, const char *suffix, struct err *e)
{
	AUTO_FREE char *name = beside(path, suffix);
	AUTO_CLOSE int fd = -1;

	if (!name)
		return err_set(e, ENOMEM, "out of memory");
	fd = open(name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? err_set(e, errno, "%s: %s", name, strerror(errno)) : 0;
}

int record_path_begin(const char *path, struct err *e)
{
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? RECORD_PATH_NONE
				       : err_set(e, errno, "%s: %s", path, strerror(errno));
	if (st.st_size > 0)
		return RECORD_PATH_REPLAY;
	r = make_mark(path, "lock", e);
	return r < 0 ? r : RECORD_PATH_RECORD;
}

bool record_path_is_over(const char *path)
{
	AUTO_FREE char *lock = beside(path, "lock");

	return lock && access(lock, F_OK) < 0 && errno == ENOENT;
}

int record_path_save(const char *path, struct image *image, const struct trace *t, struct err *e)
{
	struct trace_layers_notes notes;
	AUTO_FREE void *bytes = NULL;
	struct trace_layers layers;
	size_t n;
	int r = trace_layers_from_disk(t, image, &layers, &notes, e);

	if (r < 0)
		return r;
	r = trace_layers_format(&layers, &bytes, &n, e);
	trace_layers_release(&layers);
	if (r == 0)
		r = io_replace_file(path, bytes, n, e);
	if (r == 0)
		r = make_mark(path, "ok", e);
	return r;
}
