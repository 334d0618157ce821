/* SPDX-License-Identifier: Apache-2.0 */
/* upper_repair.c - see upper_repair.h. */
#include "core/upper_repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"
#include "core/upper_intent.h"
#include "core/upper_lock.h"
#include "core/upper_pending.h"
#include "core/upper_records.h"

/* A log that is being repaired. */
struct repair {
	const struct file_ops *ops;
	const char *data_path;
	const char *index_path;
	int data_fd, index_fd;
	struct format_header header;
	struct upper_repair *out;
};

/* What stands behind the good entries goes, also what says that a process has the log open. */
static int cut(struct repair *p, const struct upper_records *found, struct err *e)
{
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

static int repair_index(struct repair *p, struct err *e)
{
	struct upper_records found;
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
		r = upper_records_scan(index, data_size, &found, e);
	source_close(index);
	return r < 0 ? r : cut(p, &found, e);
}

/* What is whole may be what a process acknowledged: opening the log takes it up. */
static int repair_pending(struct repair *p, struct err *e)
{
	AUTO_FREE char *path = upper_intent_name(p->ops, p->data_path, "pending");
	struct upper_pending_content content;
	int r = path ? upper_pending_read(p->ops, p->data_path, p->header.uuid, &content, e)
		     : err_set(e, ENOMEM, "out of memory");

	if (r == 0)
		free(content.records);
	if (r != -EBADMSG)
		return r;
	if (!upper_pending_is_of(p->ops, path, p->header.uuid))
		return r; /* something else */
	r = p->ops->unlink(path);
	p->out->dropped_pending = r == 0;
	return r < 0 ? err_set(e, -r, "%s: %s", path, strerror(-r)) : 0;
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
	r = repair_index(p, e);
	p->ops->close(p->index_fd);
	return r < 0 ? err_wrap(e, r, "%s", p->index_path) : repair_pending(p, e);
}

int upper_repair_files(const struct file_ops *ops, const char *data_path, const char *index_path,
		       struct upper_repair *out, struct err *e)
{
	struct repair p = { .ops = ops ? ops : &file_ops_system,
			    .data_path = data_path,
			    .index_path = index_path,
			    .out = out };
	int r;

	*out = (struct upper_repair){ 0 };
	p.data_fd = upper_lock_open(p.ops, data_path, O_RDWR, e);
	if (p.data_fd < 0)
		return p.data_fd;
	r = repair(&p, e);
	p.ops->close(p.data_fd);
	return r;
}
