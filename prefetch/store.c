/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - see store.h. */
#include "prefetch/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/io.h"
#include "core/base/scope.h"

#define FOLDER "traces"

enum { ASK_EVERY = 3600 }; /* s */

static char *path_of(const char *cache_dir, const char *identity, const char *kind)
{
	const char *hex = strchr(identity, ':') + 1;
	char *path;

	return asprintf(&path, "%s/" FOLDER "/%s.%s", cache_dir, hex, kind) < 0 ? NULL : path;
}

char *store_path(const char *cache_dir, const char *identity)
{
	return path_of(cache_dir, identity, "trace");
}

bool store_was_asked(const char *cache_dir, const char *identity)
{
	AUTO_FREE char *path = path_of(cache_dir, identity, "asked");
	int64_t now = clock_date();
	struct stat st;

	return path && stat(path, &st) == 0 && st.st_mtime <= now && now - st.st_mtime < ASK_EVERY;
}

/* If it cannot be noted, the next start asks again. */
void store_note_asked(const char *cache_dir, const char *identity)
{
	AUTO_FREE char *path = path_of(cache_dir, identity, "asked");

	if (path && store_make_folder(cache_dir, NULL) == 0)
		(void)io_replace_file(path, "", 0, NULL);
}

bool store_is_foreign(const char *path)
{
	AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char magic[8] = "";

	return fd >= 0 && read(fd, magic, sizeof magic) > 0 &&
	       memcmp(magic, TRACE_MAGIC, sizeof magic) != 0;
}

int store_make_folder(const char *cache_dir, struct err *e)
{
	AUTO_FREE char *path = NULL;

	if (asprintf(&path, "%s/" FOLDER, cache_dir) < 0) {
		path = NULL; /* left undefined by the failed call */
		return err_set(e, ENOMEM, "out of memory");
	}
	(void)mkdir(cache_dir, 0700); /* if it fails, the next one tells */
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(e, errno, "creating %s: %s", path, strerror(errno));
	return 0;
}
