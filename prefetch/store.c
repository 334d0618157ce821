/* SPDX-License-Identifier: Apache-2.0 */
/* store.c - see store.h. */
#include "prefetch/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/scope.h"

#define FOLDER "traces"

char *store_path(const char *cache_dir, const char *identity)
{
	const char *hex = strchr(identity, ':') + 1;
	char *path;

	return asprintf(&path, "%s/" FOLDER "/%s.trace", cache_dir, hex) < 0 ? NULL : path;
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
