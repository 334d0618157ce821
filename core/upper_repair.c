/* SPDX-License-Identifier: Apache-2.0 */
/* upper_repair.c - see upper_repair.h. */
#include "core/upper_repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"
#include "core/upper_intent.h"
#include "core/upper_lock.h"
#include "core/upper_log.h"
#include "core/upper_replay.h"
#include "core/upper_resize.h"

/* A log that is being repaired. */
struct repair {
	const struct file_ops *ops;
	const char *data_path;
	const char *index_path;
	int data_fd, index_fd;
	struct format_header header;
	struct upper_records found; /* what stays in the index */
	enum upper_acknowledged acknowledged;
	struct upper_repair *out;
};

/* What stands behind the good entries goes, also what says that a process has the log open. */
static int cut(struct repair *p, struct err *e)
{
	const struct upper_records *found = &p->found;
	int r;

	p->out->kept = found->records;
	p->out->dropped = found->ignored;
	if (found->damage.msg[0])
		(void)err_set(&p->out->damage, EBADMSG, "%s", found->damage.msg);
	if (found->ignored + found->fragment == 0 && found->open_as == 0)
		return 0;
	r = p->ops->truncate(p->index_fd, FORMAT_SPACE + found->good * FORMAT_ENTRY);
	if (r == 0)
		r = p->ops->datasync(p->index_fd);
	return r < 0 ? err_set(e, -r, "cutting it: %s", strerror(-r)) : 0;
}

static int scan_index(struct repair *p, struct err *e)
{
	struct format_header header;
	struct source *index;
	uint64_t data_size;
	int r = p->ops->size(p->data_fd, &data_size);

	if (r < 0)
		return err_set(e, -r, "%s", strerror(-r));
	r = upper_file_source(p->ops, p->index_fd, &index, e);
	if (r < 0)
		return r;
	r = format_read_header(&header, index, 0, FORMAT_PART_LOG_INDEX, e);
	if (r == 0)
		r = upper_records_check_pair(&p->header, &header, e);
	if (r == 0)
		r = upper_records_scan(index, data_size, &p->found, e);
	source_close(index);
	return r;
}

/* What opening will find of the pending file. */
static int look_at_pending(struct repair *p, struct err *e)
{
	struct upper_replay_log log = { .ops = p->ops,
					.data_path = p->data_path,
					.uuid = p->header.uuid,
					.found = &p->found,
					.apply_older =
						p->acknowledged == UPPER_ACKNOWLEDGED_APPLY };
	struct upper_replay replay;
	int r = upper_file_source(p->ops, p->data_fd, &log.data, e);

	if (r < 0)
		return r;
	r = upper_file_source(p->ops, p->index_fd, &log.index, e);
	if (r == 0) {
		r = upper_replay_read(&log, &replay, e);
		source_close(log.index);
	}
	source_close(log.data);
	if (r < 0)
		return r;
	p->out->stale = replay.stale;
	if (replay.content.older && log.apply_older)
		p->out->applied = replay.count;
	upper_replay_release(&replay);
	return 0;
}

/* What is whole may be what a process acknowledged: opening the log takes it up.  `r`: what
 * look_at_pending gave. */
static int repair_pending(struct repair *p, int r, struct err *e)
{
	bool removed;
	struct err why;
	int discarded;

	if (r == 0 && p->out->stale == 0 && p->acknowledged != UPPER_ACKNOWLEDGED_DROP)
		return 0;
	discarded = upper_pending_discard(p->ops, p->data_path, p->header.uuid, &removed, &why);
	if (discarded < 0)
		return err_set(e, -discarded, "%s", why.msg);
	if (r < 0 && !removed)
		return r; /* something else has its name */
	p->out->dropped_pending = removed && p->out->stale == 0;
	return 0;
}

/* Where the user has to decide nothing is changed before. */
static int repair_files(struct repair *p, struct err *e)
{
	bool drop = p->acknowledged == UPPER_ACKNOWLEDGED_DROP;
	int r = scan_index(p, e), looked;
	struct err why;

	if (r < 0)
		return err_wrap(e, r, "%s", p->index_path);
	looked = drop ? 0 : look_at_pending(p, e);
	if (looked < 0 && looked != -EBADMSG)
		return err_wrap(e, looked, "%s, %s", p->data_path, p->index_path);
	r = cut(p, &why);
	if (r < 0)
		return err_set(e, -r, "%s: %s", p->index_path, why.msg);
	return repair_pending(p, looked, e);
}

static int read_header(struct repair *p, struct err *e)
{
	struct source *data;
	int r = upper_file_source(p->ops, p->data_fd, &data, e);

	if (r == 0) {
		r = format_read_header(&p->header, data, 0, FORMAT_PART_LOG_DATA, e);
		source_close(data);
	}
	if (r == 0 && p->header.flags & FORMAT_SPARSE)
		r = err_set(e, EINVAL, "a sparse layer has nothing that could be repaired");
	return r < 0 ? err_wrap(e, r, "%s", p->data_path) : 0;
}

static int repair(struct repair *p, struct err *e)
{
	int r = upper_intent_finish(p->ops, p->data_path, p->index_path, &p->data_fd, e);

	if (r == 0)
		r = read_header(p, e);
	if (r < 0)
		return r;
	p->index_fd = upper_file_open(p->ops, p->index_path, O_RDWR, e);
	if (p->index_fd < 0)
		return p->index_fd;
	r = repair_files(p, e);
	p->ops->close(p->index_fd);
	return r;
}

/* Writes what opening takes up to the index.  What lies beyond the virtual size is kept too. */
static int apply(struct repair *p, struct err *e)
{
	struct upper_log_options options = { .ops = p->ops, .apply_older = true };
	struct upper_log *u;
	uint64_t size, end;
	int r = upper_resize_look(p->ops, p->data_path, p->index_path, &size, &end, e);

	if (r < 0)
		return r;
	options.size = max_u64(size, end * SECTOR);
	r = upper_log_open(p->data_path, p->index_path, &options, &u, NULL, e);
	return r < 0 ? r : upper_log_close(u, e);
}

int upper_repair_files(const struct file_ops *ops, const char *data_path, const char *index_path,
		       enum upper_acknowledged acknowledged, struct upper_repair *out,
		       struct err *e)
{
	struct repair p = { .ops = ops ? ops : &file_ops_system,
			    .data_path = data_path,
			    .index_path = index_path,
			    .acknowledged = acknowledged,
			    .out = out };
	int r;

	*out = (struct upper_repair){ 0 };
	p.data_fd = upper_lock_open(p.ops, data_path, O_RDWR, e);
	if (p.data_fd < 0)
		return p.data_fd;
	r = repair(&p, e);
	p.ops->close(p.data_fd);
	return r == 0 && out->applied > 0 ? apply(&p, e) : r;
}
