/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c - from a config file to an image that can be served, see disk.h. */
#include "nbdkit-plugin/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/scope.h"

static char *make_description(const struct disk *d)
{
	size_t layers = image_layer_count(d->image);
	char *text;

	if (d->config->description)
		return strdup(d->config->description);
	if (asprintf(&text, "overlaybd image, %zu layer%s", layers, layers == 1 ? "" : "s") < 0)
		return NULL;
	return text;
}

static int open_image(struct disk *d, struct err *e)
{
	int r = image_open(d->config, NULL, &d->image, e);

	if (r < 0)
		return r;
	d->description = make_description(d);
	if (!d->description)
		return err_set(e, ENOMEM, "%s: out of memory", d->config->path);
	return 0;
}

/* Writes how opening ended (r, *opened), and returns how it ends with that: a failure to open stays
 * the error whatever becomes of the result file. */
static int report_result(const struct image_config *config, int r, struct err *opened)
{
	AUTO_FREE char *text = NULL;
	struct err e;
	int n, w;

	n = r < 0 ? asprintf(&text, "failed:%s", opened->msg) : asprintf(&text, "success");
	if (n < 0) {
		text = NULL; /* left undefined by the failed call */
		w = err_set(&e, ENOMEM, "out of memory");
	} else {
		w = io_replace_file(config->result_file, text, (size_t)n, &e);
	}
	if (w == 0)
		return r;
	(void)err_wrap(&e, w, "result file %s", config->result_file);
	if (r < 0) {
		struct err both = *opened;

		/* The cause comes first, so that it is what is left when both are too long. */
		return err_set(opened, -r, "%s; %s", both.msg, e.msg);
	}
	return err_set(opened, -w, "%s: %s", config->path, e.msg);
}

int disk_open(const char *path, struct disk **out, struct err *e)
{
	struct disk *d = calloc(1, sizeof *d);
	struct err own;
	int r;

	if (!d)
		return err_set(e, ENOMEM, "%s: out of memory", path);
	r = config_load(path, &d->config, &own);
	if (r == 0) {
		r = open_image(d, &own);
		if (d->config->result_file)
			r = report_result(d->config, r, &own);
	}
	if (r < 0) {
		disk_close(d);
		return err_set(e, -r, "%s", own.msg);
	}
	*out = d;
	return 0;
}

void disk_close(struct disk *d)
{
	if (!d)
		return;
	image_close(d->image);
	config_free(d->config);
	free(d->description);
	free(d);
}
