/* SPDX-License-Identifier: Apache-2.0 */
/* config_files.c - the files of an image on this machine: config_find_lower and
 * config_refuse_own_file of config.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "core/config.h"
#include "core/upper_names.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Where one lower may lie, the first that exists counts; the rest, one at least, is NULL. */
enum { PLACES = 5 };

static int list_places(const struct lower_config *lower, char *places[PLACES], struct err *e)
{
	static const char *const names[] = { "overlaybd.commit", ".commit", "overlaybd.sealed" };
	size_t i, n = 0;

	if (lower->file) {
		places[n] = strdup(lower->file);
		if (!places[n++])
			return err_set(e, ENOMEM, "out of memory");
	}
	for (i = 0; lower->dir && i < COUNT_OF(names); i++, n++) {
		places[n] = io_absolute_path(lower->dir, names[i]);
		if (!places[n])
			return err_set(e, ENOMEM, "out of memory");
	}
	return 0;
}

/* No place holds the file.  1 when it can be fetched; else says what keeps it from that. */
static int no_local_file(const struct lower_config *lower, char *const places[PLACES],
			 struct err *e)
{
	const char *url = lower->repo_blob_url;
	char tried[640] = "";
	size_t i, n;

	if (lower->digest && url)
		return 1;
	if (!lower->dir && !lower->digest && !url)
		return err_set(e, ENOENT, "%s: %s", places[0], strerror(ENOENT));
	for (i = 0; places[i]; i++) {
		n = strlen(tried);
		snprintf(tried + n, sizeof tried - n, "%s%s", i == 0 ? " (tried " : ", ",
			 places[i]);
	}
	return err_set(e, ENOENT, "no local file%s%s%s", tried, i > 0 ? ")" : "",
		       lower->digest ? ", and no 'repoBlobUrl' to fetch it from"
		       : url	     ? ", and no 'digest' to fetch it by"
				     : "");
}

/* Moves the first place that exists to *out. */
static int find_place(char *places[PLACES], char **out, struct err *e)
{
	struct stat st;
	size_t i;

	for (i = 0; places[i]; i++) {
		if (stat(places[i], &st) == 0) {
			*out = TAKE_PTR(places[i]);
			return 0;
		}
		if (errno != ENOENT && errno != ENOTDIR)
			return err_set(e, errno, "%s: %s", places[i], strerror(errno));
	}
	return 0;
}

int config_find_lower(const struct lower_config *lower, char **out, struct err *e)
{
	char *places[PLACES] = { NULL }, *found = NULL;
	size_t i;
	int r;

	r = list_places(lower, places, e);
	if (r == 0)
		r = find_place(places, &found, e);
	if (r == 0 && !found)
		r = no_local_file(lower, places, e);
	for (i = 0; i < PLACES; i++) /* one that was taken is NULL */
		free(places[i]);
	if (r == 0)
		*out = found;
	return r;
}

static int refuse_same(const struct stat *st, const char *path, const char *own, struct err *e)
{
	struct stat other;

	if (stat(own, &other) < 0 || other.st_dev != st->st_dev || other.st_ino != st->st_ino)
		return 0;
	return err_set(e, EINVAL, "'%s' is a file of the image: %s", path, own);
}

int config_refuse_own_file(const struct image_config *c, const char *path, struct err *e)
{
	struct stat st;
	size_t i;
	int r = 0;

	if (c->upper_data) /* and with it upper_index */
		r = upper_names_refuse(c->upper_data, c->upper_index, path, e);
	if (r < 0 || stat(path, &st) < 0)
		return r; /* new, or whoever writes it says what is wrong */
	if (c->path[0] == '/')
		r = refuse_same(&st, path, c->path, e);
	for (i = 0; r == 0 && i < c->lower_count; i++) {
		AUTO_FREE char *file = NULL;

		if (config_find_lower(&c->lowers[i], &file, NULL) == 0)
			r = refuse_same(&st, path, file, e);
	}
	return r;
}
