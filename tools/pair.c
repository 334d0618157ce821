/* SPDX-License-Identifier: Apache-2.0 */
/* pair.c - finding a writable layer, see pair.h. */
#include "tools/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/upper_lock.h"

int pair_of_name(const char *name, struct pair *out, struct err *e)
{
	size_t n = strlen(name);

	*out = (struct pair){ 0 };
	if (n == 0 || name[n - 1] == '/')
		return err_set(e, EINVAL, "'%s' is no name of a writable layer", name);
	if (asprintf(&out->data, "%s.data", name) < 0)
		out->data = NULL;
	if (asprintf(&out->index, "%s.index", name) < 0)
		out->index = NULL;
	if (out->data && out->index)
		return 0;
	pair_release(out);
	return err_set(e, ENOMEM, "out of memory");
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static int take_config(const char *path, struct pair *out, struct err *e)
{
	int r = config_load(path, NULL, &out->config, e);

	if (r < 0)
		return r;
	if (!out->config->upper_data)
		return err_set(e, EINVAL, "%s: the config names no upper", path);
	out->data = strdup(out->config->upper_data);
	out->index = strdup(out->config->upper_index);
	return out->data && out->index ? 0 : err_set(e, ENOMEM, "out of memory");
}

/* "vm.data" and "vm.index" are the files of "vm". */
static int refuse_part(const char *operand, struct err *e)
{
	size_t n = strlen(operand), part;

	part = n > 5 && strcmp(operand + n - 5, ".data") == 0	 ? 5
	       : n > 6 && strcmp(operand + n - 6, ".index") == 0 ? 6
								 : 0;
	if (part == 0)
		return 0;
	return err_set(e, EINVAL, "'%s' is a part of a writable layer: name it '%.*s'", operand,
		       (int)(n - part), operand);
}

int pair_find(const char *operand, struct pair *out, struct err *e)
{
	int r = pair_of_name(operand, out, e);

	if (r < 0 || exists(out->data) || exists(out->index))
		return r;
	if (!exists(operand)) {
		r = err_set(e, ENOENT, "%s: there is no %s, and no config of that name", operand,
			    out->data);
		pair_release(out);
		return r;
	}
	pair_release(out);
	r = refuse_part(operand, e);
	if (r == 0)
		r = take_config(operand, out, e);
	if (r < 0)
		pair_release(out);
	return r;
}

int pair_lock(const char *data, struct err *e)
{
	struct err cause;
	int fd = upper_lock_open(NULL, data, O_RDONLY, &cause);

	if (fd >= 0)
		return fd;
	return err_set(e, -fd, "%s%s", cause.msg,
		       fd == -EBUSY ? "; 'overlaybd snapshot' makes a layer of an export that runs"
				    : "");
}

void pair_drop_upper(struct image_config *config)
{
	free(config->upper_data);
	free(config->upper_index);
	config->upper_data = config->upper_index = NULL;
}

void pair_release(struct pair *p)
{
	free(p->data);
	free(p->index);
	config_free(p->config);
	*p = (struct pair){ 0 };
}
