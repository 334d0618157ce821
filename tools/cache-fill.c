/* SPDX-License-Identifier: Apache-2.0 */
/* cache-fill.c - see cache-fill.h. */
#include "tools/cache-fill.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/lowers.h"
#include "fetch/download.h"
#include "tools/progress.h"
#include "tools/show.h"

struct fill {
	struct lowers lowers;
	struct progress progress;
	uint64_t counted; /* bytes of the layer in hand that the progress line has */
	uint64_t layers, bytes; /* that are whole now */
	struct source **open; /* one a layer: what is held stays, until all are there */
};

static bool report(void *arg, uint64_t present)
{
	struct fill *x = arg;

	if (present > x->counted) {
		progress_add(&x->progress, present - x->counted);
		x->counted = present;
	}
	return true;
}

static int fill_layer(struct fill *x, size_t i, struct err *e)
{
	const struct image_config *config = x->lowers.config;
	const char *digest = x->lowers.list[i].digest, *name;
	struct download_blob blob = { .name = digest };
	struct stats *stats;
	uint64_t size;
	int r = lowers_open_layer(&x->lowers, i, &blob.blob, &name, &stats, e);

	if (r < 0)
		return name ? err_wrap(e, r, "%s: layer %zu (%s)", config->path, i, name) : r;
	x->counted = 0;
	size = blob.blob->size;
	if (name == digest)
		r = download_now(&blob, &config->fetch.download, report, x, e);
	x->open[i] = blob.blob;
	if (r < 0)
		return err_wrap(e, r, "%s: layer %zu (%s)", config->path, i, name);
	(void)report(x, size);
	x->layers += name == digest;
	x->bytes += name == digest ? size : 0;
	return 0;
}

static int fill_all(struct fill *x, struct err *e)
{
	uint64_t total = 0;
	char size[SHOW_SIZE];
	size_t i;
	int r = 0;

	lowers_opened(&x->lowers);
	for (i = 0; i < x->lowers.count; i++)
		total += x->lowers.list[i].size;
	x->open = calloc(x->lowers.count + 1, sizeof(struct source *));
	if (!x->open)
		return err_set(e, ENOMEM, "out of memory");
	progress_init(&x->progress, "filling", total);
	for (i = 0; r == 0 && i < x->lowers.count; i++)
		r = fill_layer(x, i, e);
	progress_clear(&x->progress);
	for (i = 0; i < x->lowers.count; i++)
		source_close(x->open[i]);
	free(x->open);
	if (r == 0)
		show_line(stdout, "%s: %" PRIu64 " layers, %s, are in the cache",
			  x->lowers.config->path, x->layers, show_size(x->bytes, size));
	return r;
}

int cache_fill(const char *what, const struct settings *settings, struct err *e)
{
	struct image_config *config;
	struct fill x = { 0 };
	int r;

	/* A file wins: a reference that is also the name of one can be given with its host. */
	if (access(what, F_OK) == 0)
		r = config_load(what, &settings->options, &config, e);
	else
		r = config_from_image(what, &settings->options, &config, e);
	if (r < 0)
		return r;
	r = lowers_open(config, NULL, &x.lowers, e);
	if (r == 0) {
		r = fill_all(&x, e);
		lowers_shut(&x.lowers);
		lowers_close(&x.lowers);
	}
	config_free(config);
	return r;
}
