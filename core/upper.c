/* SPDX-License-Identifier: Apache-2.0 */
/* upper.c - a writable layer opened for reading, see upper.h.
 *
 * A log's entries are in write order and later ones win, so the log is a stack of small layers:
 * each ascending stretch of it is one run, and the runs are merged as layers are. */
#include "core/upper.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/le.h"
#include "core/base/scope.h"
#include "core/upper_file.h"
#include "core/upper_intent.h"
#include "core/upper_records.h"
#include "core/upper_replay.h"

/* What an append log is read from. */
struct log_files {
	const char *data_path;
	const char *uuid; /* of both headers */
	struct source *data, *index;
	const struct upper_intent *intent; /* that was not carried out yet */
};

/* Runs of a log under construction. */
struct log {
	struct mapping_run *runs;
	size_t count;
	size_t room;
	size_t maps_room; /* of the newest run */
};

static void log_release(struct log *log)
{
	size_t i;

	for (i = 0; i < log->count; i++)
		free(log->runs[i].maps);
	free(log->runs);
}

/* False: no memory. */
static bool log_new_run(struct log *log)
{
	if (log->count == log->room) {
		size_t room = log->room ? 2 * log->room : 16;
		struct mapping_run *runs = realloc(log->runs, room * sizeof *runs);

		if (!runs)
			return false;
		log->runs = runs;
		log->room = room;
	}
	log->runs[log->count++] = (struct mapping_run){ 0 };
	log->maps_room = 0;
	return true;
}

static int run_append(struct log *log, struct mapping m)
{
	struct mapping_run *run = &log->runs[log->count - 1];

	if (run->count == log->maps_room) {
		size_t room = log->maps_room ? 2 * log->maps_room : 2;
		struct mapping *maps = realloc(run->maps, room * sizeof *maps);

		if (!maps)
			return -ENOMEM;
		run->maps = maps;
		log->maps_room = room;
	}
	run->maps[run->count++] = m;
	return 0;
}

/* Whether b goes on where a ends, on the disk and in the file; a is made longer then. */
static bool join(struct mapping *a, const struct format_entry *b)
{
	uint64_t sectors = mapping_sectors(*a) + b->sectors;

	if (mapping_end(*a) != b->start || mapping_zeroed(*a) != b->zeroed ||
	    sectors > FORMAT_MAX_SECTORS)
		return false;
	if (!b->zeroed && mapping_moffset(*a) + mapping_sectors(*a) != b->moffset)
		return false;
	*a = mapping_make(mapping_start(*a), sectors, mapping_layer(*a), mapping_moffset(*a),
			  b->zeroed);
	return true;
}

static int log_append(struct log *log, const struct format_entry *entry, size_t number)
{
	struct mapping_run *run = log->count > 0 ? &log->runs[log->count - 1] : NULL;
	struct mapping *last = run ? &run->maps[run->count - 1] : NULL;

	if (last && join(last, entry))
		return 0;
	if ((!last || entry->start < mapping_end(*last)) && !log_new_run(log))
		return -ENOMEM;
	return run_append(log, mapping_make(entry->start, entry->sectors, number, entry->moffset,
					    entry->zeroed));
}

/* A log that is read. */
struct log_reader {
	struct log log;
	size_t number; /* of the layer */
};

static int take_record(void *arg, const struct format_entry *entry)
{
	struct log_reader *l = arg;

	return log_append(&l->log, entry, l->number);
}

static int take_pending(struct log_reader *l, const struct upper_replay *replay, struct err *e)
{
	size_t i;

	for (i = 0; i < replay->count; i++) {
		struct mapping m = replay->content.records[replay->from + i].map;
		struct format_entry entry = { .start = mapping_start(m),
					      .sectors = (uint32_t)mapping_sectors(m),
					      .moffset = mapping_moffset(m),
					      .zeroed = mapping_zeroed(m) };

		if (log_append(&l->log, &entry, l->number) < 0)
			return err_set(e, ENOMEM, "out of memory");
	}
	return 0;
}

/* What the death of a process left in the pending file goes on top. */
static int read_pending(struct log_reader *l, const struct log_files *f,
			const struct upper_records *found, struct upper_findings *findings,
			struct err *e)
{
	struct upper_replay_log log = { .ops = &file_ops_system,
					.data_path = f->data_path,
					.uuid = f->uuid,
					.data = f->data,
					.index = f->index,
					.found = found };
	struct upper_replay replay;
	int r = upper_replay_read(&log, &replay, e);

	if (r < 0)
		return r;
	r = take_pending(l, &replay, e);
	findings->pending_records = replay.count;
	findings->stale_records = replay.stale;
	findings->lost_records = replay.lost;
	upper_replay_release(&replay);
	return r;
}

static int open_log(const struct log_files *f, size_t number, struct layer *out,
		    struct upper_findings *findings, struct err *e)
{
	struct log_reader l = { .number = number };
	struct upper_records found = { 0 };
	struct format_header index_header;
	int r = upper_intent_header(f->intent, f->index, FORMAT_PART_LOG_INDEX, &index_header, e);

	if (r == 0)
		r = upper_records_check_pair(&out->header, &index_header, e);
	if (r == 0)
		r = upper_records_read(f->index, f->data->size, take_record, &l, &found, e);
	if (r == 0)
		r = read_pending(&l, f, &found, findings, e);
	if (r == 0)
		r = index_merge_runs(l.log.runs, l.log.count, NULL, &out->run, e);
	log_release(&l.log);
	findings->records = out->entries = found.records;
	findings->ignored_records = found.ignored;
	findings->fragment_bytes = found.fragment;
	return r;
}

/* The next stretch of the data file that is not a hole, from `off`.  Returns 0 when there is none.
 */
static int next_data(int fd, uint64_t off, uint64_t size, uint64_t *from, uint64_t *to,
		     struct err *e)
{
	off_t start = lseek(fd, (off_t)off, SEEK_DATA), end;

	if (start < 0 && errno == ENXIO)
		return 0;
	end = start < 0 ? start : lseek(fd, start, SEEK_HOLE);
	if (end < 0)
		return err_set(e, errno == EINVAL ? EOPNOTSUPP : errno,
			       "its holes cannot be found here (SEEK_DATA): %s", strerror(errno));
	*from = (uint64_t)start;
	*to = min_u64((uint64_t)end, size);
	return *from < *to;
}

/* A file system that does not know its holes says that all is data.  Then a file which takes less
 * space than it is long must not be believed. */
static int check_holes(int fd, uint64_t size, struct err *e)
{
	struct stat st;
	off_t hole = lseek(fd, 0, SEEK_HOLE);

	if (hole < 0)
		return err_set(e, errno == EINVAL ? EOPNOTSUPP : errno,
			       "its holes cannot be found here (SEEK_HOLE): %s", strerror(errno));
	if ((uint64_t)hole < size)
		return 0;
	if (fstat(fd, &st) < 0)
		return err_set(e, errno, "fstat: %s", strerror(errno));
	if ((uint64_t)st.st_blocks * 512 < size)
		return err_set(
			e, EOPNOTSUPP,
			"%" PRIu64 " bytes take %" PRIu64
			" bytes of space, but this file system shows no holes: copy it to one that "
			"does",
			size, (uint64_t)st.st_blocks * 512);
	return 0;
}

/* Maps logical sectors [from, to), stored one after the other.  False: no memory. */
static bool map_sparse(struct log *log, uint64_t from, uint64_t to, size_t number)
{
	while (from < to) {
		struct format_entry entry = {
			.start = from,
			.sectors = (uint32_t)min_u64(to - from, FORMAT_MAX_SECTORS),
			.moffset = FORMAT_SPACE / SECTOR + from,
		};

		if (log_append(log, &entry, number) < 0)
			return false;
		from += entry.sectors;
	}
	return true;
}

/* The sparse form: logical byte x is stored at 4096 + x, and is there unless that is a hole. */
static int open_sparse(int fd, struct source *data, size_t number, struct layer *out, struct err *e)
{
	uint64_t from = 0, to = 0, off = FORMAT_SPACE;
	struct log log = { 0 };
	int r;

	if (data->size != FORMAT_SPACE + out->header.virtual_size)
		return err_set(e, EBADMSG,
			       "a sparse layer of virtual size %" PRIu64 " is %" PRIu64
			       " bytes long, not %" PRIu64,
			       out->header.virtual_size, data->size,
			       FORMAT_SPACE + out->header.virtual_size);
	r = check_holes(fd, data->size, e);
	if (r < 0)
		return r;
	if (out->header.virtual_size / SECTOR > INDEX_MAX_MOFFSET - FORMAT_SPACE / SECTOR)
		return err_set(e, EFBIG, "a sparse layer over the limit of 64 PiB");
	while ((r = next_data(fd, off, data->size, &from, &to, e)) > 0) {
		/* Holes have the granularity of the file system's blocks, never below a sector. */
		from -= FORMAT_SPACE;
		off = to;
		to = (to - FORMAT_SPACE + SECTOR - 1) / SECTOR;
		if (!map_sparse(&log, from / SECTOR, to, number)) {
			r = err_set(e, ENOMEM, "out of memory");
			break;
		}
	}
	if (r == 0)
		r = index_merge_runs(log.runs, log.count, NULL, &out->run, e);
	log_release(&log);
	out->entries = out->run.count;
	return r;
}

static int open_pair(int fd, const struct log_files *f, size_t number, struct layer *out,
		     struct upper_findings *findings, struct err *e)
{
	int r = upper_intent_header(f->intent, f->data, FORMAT_PART_LOG_DATA, &out->header, e);

	if (r < 0)
		return r;
	findings->sparse = out->header.flags & FORMAT_SPARSE;
	if (!findings->sparse)
		return open_log(f, number, out, findings, e);
	if (f->index->size != 0)
		return err_set(e, EBADMSG,
			       "a sparse layer's index file has %" PRIu64 " bytes, not 0",
			       f->index->size);
	return open_sparse(fd, f->data, number, out, e);
}

/* Opens a file of a layer.  The data file is opened once: its holes and its bytes must be those of
 * one file. */
static int open_file(const char *path, int *fd, struct source **data, struct err *e)
{
	int r;

	*fd = upper_file_open(&file_ops_system, path, O_RDONLY, e);
	if (*fd < 0)
		return *fd;
	r = source_open_fd(*fd, data, e);
	if (r < 0) {
		close(*fd);
		return err_wrap(e, r, "%s", path);
	}
	return 0;
}

int upper_look(const char *data_path, enum upper_form *form, struct err *e)
{
	struct err why;
	AUTO_CLOSE int writable = upper_file_open(&file_ops_system, data_path, O_RDWR, &why);
	int r = writable < 0 && writable != -EROFS ? writable : 0, fd;
	struct format_header header;
	struct source *data;

	*form = writable < 0 ? UPPER_ON_READ_ONLY : UPPER_LOG;
	if (r < 0)
		return err_set(e, -r, "%s", why.msg);
	r = open_file(data_path, &fd, &data, e);
	if (r < 0)
		return r;
	r = format_read_header(&header, data, 0, FORMAT_PART_LOG_DATA, e);
	source_close(data);
	if (r == 0 && header.flags & FORMAT_SPARSE)
		*form = UPPER_SPARSE;
	return r < 0 ? err_wrap(e, r, "%s", data_path) : 0;
}

/* What a crash left to be done, when it is this log that it was to be done to. */
static int read_intent(const char *data_path, struct upper_intent *intent, struct err *e)
{
	struct format_header header;
	struct source *data;
	int fd, r = upper_intent_read(&file_ops_system, data_path, intent, e);

	if (r < 0 || intent->kind == UPPER_INTENT_NONE)
		return r;
	r = open_file(data_path, &fd, &data, e);
	if (r < 0)
		return r;
	r = upper_intent_header(intent, data, FORMAT_PART_LOG_DATA, &header, e);
	source_close(data);
	if (r == 0 && strcasecmp(header.uuid, intent->uuid) != 0)
		intent->kind = UPPER_INTENT_NONE;
	return r < 0 ? err_wrap(e, r, "%s", data_path) : 0;
}

/* The file that is to take this one's place, while it has not yet.  The caller frees it; NULL: no
 * memory. */
static char *place_of(const char *path, const struct upper_intent *intent)
{
	char *new_name = upper_intent_new_name(&file_ops_system, path);

	if (!new_name || (intent->kind == UPPER_INTENT_COMPACT && access(new_name, F_OK) == 0))
		return new_name;
	free(new_name);
	return strdup(path);
}

/* Opens both files and what they hold. */
static int open_at(const char *data_place, const char *index_place, struct log_files *f,
		   size_t number, struct layer *out, struct upper_findings *findings, struct err *e)
{
	struct layer t = { 0 };
	int index_fd, fd, r = open_file(data_place, &fd, &f->data, e);

	if (r < 0)
		return r;
	r = open_file(index_place, &index_fd, &f->index, e);
	if (r < 0) {
		source_close(f->data);
		return r;
	}
	f->uuid = t.header.uuid;
	r = open_pair(fd, f, number, &t, findings, e);
	source_close(f->index);
	if (r < 0) {
		source_close(f->data);
		return err_wrap(e, r, "%s, %s", data_place, index_place);
	}
	t.data = f->data;
	*out = t;
	return 0;
}

/* As the files are now.  A server that writes meanwhile may be seen half way. */
static int open_once(const char *data_path, const char *index_path, size_t number,
		     struct layer *out, struct upper_findings *findings, struct err *e)
{
	AUTO_FREE char *data_place = NULL;
	AUTO_FREE char *index_place = NULL;
	struct upper_intent intent;
	struct log_files f = { .data_path = data_path, .intent = &intent };
	int r = read_intent(data_path, &intent, e);

	*findings = (struct upper_findings){ 0 };
	if (r < 0)
		return r;
	data_place = place_of(data_path, &intent);
	index_place = place_of(index_path, &intent);
	if (!data_place || !index_place)
		return err_set(e, ENOMEM, "out of memory");
	return open_at(data_place, index_place, &f, number, out, findings, e);
}

enum { TRIES = 20 };

/* What is wrong in the same way twice is wrong; else a server was half way through something. */
int upper_open_read_only(const char *data_path, const char *index_path, size_t number,
			 struct layer *out, struct upper_findings *findings, struct err *e)
{
	struct upper_findings now = { 0 }, before;
	struct err error = { "" }, last;
	unsigned try;
	int r = 0;

	for (try = 0; try < TRIES; try++) {
		before = now;
		last = error;
		error.msg[0] = '\0';
		r = open_once(data_path, index_path, number, out, &now, &error);
		if (r == 0 && now.stale_records + now.lost_records == 0)
			break;
		if (r < 0 && (r != -EBADMSG || strcmp(error.msg, last.msg) == 0))
			break;
		if (r == 0 && before.stale_records == now.stale_records &&
		    before.lost_records == now.lost_records)
			break;
		if (r == 0 && try + 1 < TRIES)
			layer_close(out);
	}
	if (findings)
		*findings = now;
	return r < 0 ? err_set(e, -r, "%s", error.msg) : 0;
}
