/* SPDX-License-Identifier: Apache-2.0 */
/* upper_compact.c - rewriting a log, see upper_compact.h.
 *
 * The new files are durable under their own names before the intent says that they are the log. The
 * pending file speaks of places in the old data file, so it goes before that. */
#include "core/upper_compact.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/upper_dense.h"
#include "core/upper_intent.h"
#include "core/upper_private.h"
#include "core/upper_resize.h"

/* A compaction on its way. */
struct compact {
	struct upper_compact *how;
	struct upper_log *u;
	char *data_new, *index_new;
	struct mapping_run maps;
	uint64_t bytes; /* of data that counts */
};

static void copied(void *arg, uint64_t n)
{
	const struct compact *c = arg;

	if (c->how->step)
		c->how->step(c->how->arg, n, c->bytes);
}

static int add_size(const struct file_ops *ops, int fd, const char *path, uint64_t *sum,
		    struct err *e)
{
	uint64_t size;
	int r = ops->size(fd, &size);

	if (r < 0)
		return err_set(e, -r, "%s: %s", path, strerror(-r));
	*sum += size;
	return 0;
}

static int collect(struct compact *c, struct err *e)
{
	size_t i;
	int r = upper_log_mappings(c->u, &c->maps, e);

	for (i = 0; r == 0 && i < c->maps.count; i++)
		if (!mapping_zeroed(c->maps.maps[i]))
			c->bytes += mapping_sectors(c->maps.maps[i]) * SECTOR;
	return r;
}

static int write_new(struct compact *c, struct err *e)
{
	struct upper_dense dense = { .ops = c->u->ops,
				     .header = &c->u->header,
				     .maps = &c->maps,
				     .like = (int[]){ c->u->data_fd, c->u->index_fd },
				     .step = copied,
				     .arg = c };
	int r = upper_file_source(c->u->ops, c->u->data_fd, &dense.from, e);

	if (r < 0)
		return err_wrap(e, r, "%s", c->u->data_path);
	r = upper_dense_write(&dense, c->data_new, c->index_new, e);
	source_close(dense.from);
	if (r < 0)
		return r;
	r = upper_file_sync_folder(c->u->ops, c->data_new, e);
	return r < 0 ? r : upper_file_sync_folder(c->u->ops, c->index_new, e);
}

/* From the intent on it is the new files that count. */
static int switch_over(struct compact *c, struct err *e)
{
	struct upper_intent intent = { .kind = UPPER_INTENT_COMPACT };
	struct upper_log *u = c->u;
	int r;

	memcpy(intent.uuid, u->header.uuid, sizeof intent.uuid);
	r = upper_log_end_pending(u, e);
	if (r == 0)
		r = upper_intent_write(u->ops, u->data_path, u->data_fd, &intent, e);
	if (r == 0)
		r = upper_intent_finish(u->ops, u->data_path, u->index_path, &u->data_fd, e);
	return r;
}

static int compact(struct compact *c, struct err *e)
{
	struct upper_log *u = c->u;
	int r = upper_log_flush(u, e);

	c->how->before = c->how->after = 0;
	if (r == 0)
		r = add_size(u->ops, u->data_fd, u->data_path, &c->how->before, e);
	if (r == 0)
		r = add_size(u->ops, u->index_fd, u->index_path, &c->how->before, e);
	if (r == 0)
		r = collect(c, e);
	if (r == 0)
		r = write_new(c, e);
	if (r == 0)
		r = switch_over(c, e);
	c->how->after = 2 * FORMAT_SPACE + c->bytes + (c->maps.count + 2) * FORMAT_ENTRY;
	return r;
}

int upper_compact_files(struct upper_compact *how, const char *data_path, const char *index_path,
			struct err *e)
{
	const struct file_ops *ops = how->ops ? how->ops : &file_ops_system;
	struct upper_log_options options = { .ops = ops };
	struct compact c = { .how = how };
	AUTO_FREE char *data_new = upper_intent_new_name(ops, data_path);
	AUTO_FREE char *index_new = upper_intent_new_name(ops, index_path);
	uint64_t size, end;
	int closed, r;

	if (!data_new || !index_new)
		return err_set(e, ENOMEM, "out of memory");
	c.data_new = data_new;
	c.index_new = index_new;
	r = upper_resize_look(ops, data_path, index_path, &size, &end, e);
	if (r < 0)
		return r;
	/* What lies beyond the virtual size is kept too, and the layers below may say what that is.
	 */
	options.size = max_u64(size, end * SECTOR);
	r = upper_log_open(data_path, index_path, &options, &c.u, NULL, e);
	if (r < 0)
		return r;
	r = compact(&c, e);
	free(c.maps.maps);
	closed = upper_log_close(c.u, r == 0 ? e : NULL);
	return r < 0 ? r : closed;
}
