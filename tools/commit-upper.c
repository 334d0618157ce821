/* SPDX-License-Identifier: Apache-2.0 */
/* commit-upper.c - committing a writable layer, see commit-upper.h. */
#include "tools/commit-upper.h"

#include <errno.h>
#include <inttypes.h>

#include "core/upper.h"
#include "core/upper_file.h"
#include "core/upper_names.h"
#include "tools/flatten.h"
#include "tools/pair.h"
#include "tools/show.h"

struct upper {
	struct pair pair;
	struct layer layer;
	struct flatten flatten;
};

static struct source *source_of(void *arg, size_t layer)
{
	return ((struct upper *)arg)->layer.data;
}

static int fail(void *arg, size_t layer, int r, struct err *e)
{
	return err_wrap(e, r, "%s", ((struct upper *)arg)->pair.data);
}

static int write_layer(void *arg, struct layer_writer *writer, struct workers *pool, struct err *e)
{
	struct upper *u = arg;
	uint64_t size = u->layer.header.virtual_size;

	u->flatten = (struct flatten){ .what = "committing",
				       .maps = u->layer.run.maps,
				       .count = u->layer.run.count,
				       .end = size ? size / SECTOR : FORMAT_LBA_LIMIT,
				       .source = source_of,
				       .fail = fail,
				       .arg = u };
	return flatten_write(&u->flatten, writer, pool, e);
}

static int refuse_inputs(const struct pair *pair, const char *output, struct err *e)
{
	int r = upper_names_refuse(pair->data, pair->index, output, e);

	if (r == 0 && pair->config)
		r = config_refuse_own_file(pair->config, output, e);
	return r < 0 ? err_wrap(e, r, "the output") : 0;
}

static int commit_opened(struct upper *u, const struct tool_args *args,
			 const struct output_form *form, struct err *e)
{
	struct layer_job job = { .write = write_layer,
				 .arg = u,
				 .virtual_size = u->layer.header.virtual_size,
				 .parent_uuid = u->layer.header.parent_uuid };
	const char *path = args->values[LAYER_OUTPUT];
	uint64_t file_size;
	int r = refuse_inputs(&u->pair, path, e);

	if (r == 0)
		r = layer_output_write(args, form, &job, &file_size, e);
	if (r == 0)
		show_line(stdout,
			  "%s: %" PRIu64 " bytes; mapped %" PRIu64 " data and %" PRIu64 " zeroed",
			  path, file_size, u->flatten.data, u->flatten.zeroed);
	return r;
}

int commit_upper(const struct tool_args *args, const struct output_form *form, struct err *e)
{
	struct upper u = { 0 };
	int fd, r = pair_find(args->operands[0], &u.pair, e);

	if (r < 0)
		return r;
	fd = pair_lock(u.pair.data, e);
	r = fd < 0 ? fd : upper_open_read_only(u.pair.data, u.pair.index, 0, &u.layer, NULL, e);
	if (r == 0) {
		r = commit_opened(&u, args, form, e);
		layer_close(&u.layer);
	}
	if (fd >= 0)
		file_ops_system.close(fd);
	pair_release(&u.pair);
	return r;
}
