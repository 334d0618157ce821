/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c - from a config file to an image that can be served, see disk.h. */
#include "nbdkit-plugin/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/log.h"
#include "core/base/scope.h"
#include "core/base/text.h"

enum { DESCRIPTION_MAX = 4096 }; /* bytes of a string in the NBD protocol */

static char *make_description(const struct disk *d)
{
	size_t layers = image_layer_count(d->image);
	char escaped[DESCRIPTION_MAX + 1], *text;

	if (d->config->description)
		return strdup(text_escape(d->config->description, escaped, sizeof escaped));
	if (asprintf(&text, "overlaybd image, %zu layer%s", layers, layers == 1 ? "" : "s") < 0)
		return NULL;
	return text;
}

static int open_image(struct disk *d, struct fetcher *fetcher, struct err *e)
{
	struct image_options options = { .fetcher = fetcher, .writable = true };
	int r = image_open(d->config, &options, &d->image, e);

	if (r < 0)
		return r;
	d->description = make_description(d);
	if (!d->description)
		return err_set(e, ENOMEM, "%s: out of memory", d->config->path);
	r = launch_open(d->config, d->image, &d->launch, e);
	if (r < 0 || !d->config->control)
		return r;
	r = control_open(d->config->control, d, &d->control, e);
	return r < 0 ? err_wrap(e, r, "%s", d->config->path) : 0;
}

/* Writes how opening ended (r, *opened), and returns how it ends with that: a failure to open stays
 * the error whatever becomes of the result file. */
static int report_result(const struct image_config *config, int r, struct err *opened)
{
	char reason[4 * sizeof opened->msg], text[sizeof reason + sizeof "failed:"];
	struct err e;
	int n, w;

	if (r < 0)
		n = snprintf(text, sizeof text, "failed:%s",
			     text_escape(opened->msg, reason, sizeof reason));
	else
		n = snprintf(text, sizeof text, "success");
	w = io_replace_file(config->result_file, text, (size_t)n, &e);
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

static int open_and_report(struct disk *d, struct fetcher *fetcher, struct err *e)
{
	const char *result_file = d->config->result_file;
	int r;

	if (!result_file)
		return open_image(d, fetcher, e);
	r = config_refuse_own_file(d->config, result_file, e);
	if (r < 0)
		return err_wrap(e, r, "%s: result file", d->config->path);
	r = open_image(d, fetcher, e);
	return report_result(d->config, r, e);
}

/* `load` is how the config is had. */
static int open_disk(int (*load)(const char *name, const struct config_options *options,
				 struct image_config **out, struct err *e),
		     const char *name, const struct config_options *options,
		     struct fetcher *fetcher, struct disk **out, struct err *e)
{
	struct disk *d = calloc(1, sizeof *d);
	struct err own;
	int r;

	if (!d)
		return err_set(e, ENOMEM, "%s: out of memory", name);
	r = load(name, options, &d->config, &own);
	if (r == 0)
		r = open_and_report(d, fetcher, &own);
	if (r < 0) {
		disk_close(d);
		return err_set(e, -r, "%s", own.msg);
	}
	*out = d;
	return 0;
}

int disk_open(const char *path, const struct config_options *options, struct fetcher *fetcher,
	      struct disk **out, struct err *e)
{
	return open_disk(config_load, path, options, fetcher, out, e);
}

int disk_open_image(const char *reference, const struct config_options *options,
		    struct fetcher *fetcher, struct disk **out, struct err *e)
{
	return open_disk(config_from_image, reference, options, fetcher, out, e);
}

void disk_start(struct disk *d)
{
	struct err e;

	if (image_after_fork(d->image, &e) < 0)
		log_warn("%s", e.msg);
	launch_start(d->launch);
	if (d->control && control_start(d->control, &e) < 0)
		log_warn("%s: %s", d->config->path, e.msg);
	if (image_start_download(d->image, &e) < 0)
		log_warn("%s: no background download: %s", d->config->path, e.msg);
}

void disk_close(struct disk *d)
{
	if (!d)
		return;
	control_close(d->control);
	if (d->image)
		image_shut(d->image);
	launch_close(d->launch);
	image_close(d->image);
	config_free(d->config);
	free(d->description);
	free(d);
}
