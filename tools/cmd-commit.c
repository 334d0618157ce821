/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-commit.c - `overlaybd commit`: a writable layer (commit-upper.c), a raw disk, or its
 * difference to a base image, as a layer.
 *
 * A raw disk is cut into blocks of 4 KiB (the last one may be shorter):
 *
 *                      | base reads as zeroes | base holds something else
 *   raw block is zero  | left out             | marked zeroed
 *   raw equals base    | left out             | left out
 *   otherwise          | data                 | data
 *
 * Without a base all of it counts as zeroes.  Where the disk has a hole and the base no data,
 * nothing is read at all.  Reading and comparing run in the pool, writing keeps the disk's order.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/io.h"
#include "core/base/le.h"
#include "core/config.h"
#include "core/image.h"
#include "core/layer_writer.h"
#include "tools/commit-upper.h"
#include "tools/layer-output.h"
#include "tools/pair.h"
#include "tools/progress.h"
#include "tools/spans.h"
#include "tools/show.h"
#include "tools/tool.h"

enum { OPT_RAW = LAYER_OPTIONS, OPT_BASE };

static const struct tool_option options[] = {
	LAYER_OPTION_ROWS,
	[OPT_RAW] = { "raw", 0, "DISK", "the disk: a file or a block device" },
	[OPT_BASE] = { "base", 0, "CONFIG", "store only what differs from this image" },
};

enum {
	BLOCK = 4096,
	PIECE_BLOCKS = SPANS_PIECE / BLOCK,
	/* A span's buffer: the disk's bytes, the base's, what becomes of each block. */
	BASE_AT = SPANS_PIECE,
	KINDS_AT = 2 * SPANS_PIECE,
	ROOM = KINDS_AT + PIECE_BLOCKS,
};

enum block_kind { KIND_SAME, KIND_ZEROED, KIND_DATA };

struct commit {
	const char *raw_path;
	int raw;
	uint64_t size; /* of the disk */
	struct stat before; /* the disk's, when it was opened */
	struct image_config *base_config;
	struct image *base; /* NULL: none */
	int base_lock; /* of its upper, -1: none */
	struct layer_writer *writer;
	uint64_t position; /* where the next span begins, or later */
	uint64_t reported; /* up to where the progress line knows */
	uint64_t read, data, zeroed; /* bytes, for the summary */
	struct progress progress;
};

/* Whether n bytes are all zero; n is at least 16. */
static bool is_zero(const uint8_t *bytes, size_t n)
{
	static const uint8_t zeroes[16];

	return memcmp(bytes, zeroes, sizeof zeroes) == 0 &&
	       memcmp(bytes, bytes + sizeof zeroes, n - sizeof zeroes) == 0;
}

static enum block_kind classify(const uint8_t *raw, const uint8_t *base, size_t n)
{
	if (base && memcmp(raw, base, n) == 0)
		return KIND_SAME;
	if (!is_zero(raw, n))
		return KIND_DATA;
	return base ? KIND_ZEROED : KIND_SAME;
}

static int work_span(void *arg, struct span *span, struct err *e)
{
	const struct commit *c = arg;
	const uint8_t *base = c->base ? span->buffer + BASE_AT : NULL;
	size_t at;
	int r;

	r = io_pread(c->raw, span->buffer, span->n, span->off, e);
	if (r < 0)
		return err_wrap(e, r, "%s", c->raw_path);
	if (c->base) {
		r = image_pread(c->base, span->buffer + BASE_AT, span->n, span->off, e);
		if (r < 0)
			return r;
	}
	for (at = 0; at < span->n; at += BLOCK)
		span->buffer[KINDS_AT + at / BLOCK] =
			(uint8_t)classify(span->buffer + at, base ? base + at : NULL,
					  (size_t)min_u64(BLOCK, span->n - at));
	return 0;
}

/* Where the disk has data at or after off.  Where the system cannot tell, everywhere. */
static uint64_t raw_data(const struct commit *c, uint64_t off)
{
	off_t data = lseek(c->raw, (off_t)off, SEEK_DATA);

	if (data >= 0)
		return (uint64_t)data;
	return errno == ENXIO ? c->size : off;
}

static int find_data(void *arg, const struct image_extent *extent)
{
	if (extent->kind != EXTENT_DATA)
		return 0;
	*(uint64_t *)arg = extent->off;
	return 1;
}

/* Where the base has data in [off, end), or end. */
static int base_data(const struct commit *c, uint64_t off, uint64_t end, uint64_t *out)
{
	*out = end;
	if (!c->base || off >= end)
		return 0;
	return image_extents(c->base, off, end - off, false, find_data, out);
}

static int next_span(void *arg, uint64_t *off, size_t *n, struct err *e)
{
	struct commit *c = arg;
	uint64_t at;
	int r;

	if (c->position >= c->size)
		return 0;
	r = base_data(c, c->position, min_u64(raw_data(c, c->position), c->size), &at);
	if (r < 0)
		return err_set(e, -r, "base: finding its data failed");
	at -= at % BLOCK;
	c->position = max_u64(c->position, at);
	if (c->position >= c->size)
		return 0;
	*off = c->position;
	*n = (size_t)min_u64(SPANS_PIECE, c->size - c->position);
	c->position += *n;
	return 1;
}

static int emit(struct commit *c, const struct span *span, size_t begin, size_t end, struct err *e)
{
	uint64_t lba = (span->off + begin) / SECTOR, sectors = (end - begin) / SECTOR;

	switch ((enum block_kind)span->buffer[KINDS_AT + begin / BLOCK]) {
	case KIND_ZEROED:
		c->zeroed += end - begin;
		return layer_writer_zeroes(c->writer, lba, sectors, e);
	case KIND_DATA:
		c->data += end - begin;
		return layer_writer_data(c->writer, lba, span->buffer + begin, sectors, e);
	case KIND_SAME:
		break;
	}
	return 0;
}

static int each_span(void *arg, const struct span *span, struct err *e)
{
	struct commit *c = arg;
	const uint8_t *kinds = span->buffer + KINDS_AT;
	size_t begin, end;
	int r = 0;

	if (span->r < 0)
		return err_set(e, -span->r, "%s", span->err.msg);
	for (begin = 0; begin < span->n && r == 0; begin = end) {
		for (end = begin; end < span->n && kinds[end / BLOCK] == kinds[begin / BLOCK];)
			end = (size_t)min_u64(end + BLOCK, span->n);
		r = emit(c, span, begin, end, e);
	}
	c->read += span->n;
	progress_add(&c->progress, span->off + span->n - c->reported);
	c->reported = span->off + span->n;
	return r;
}

/* A disk that is written to meanwhile would become a mixture of old and new.  A block device does
 * not tell. */
static int check_unchanged(const struct commit *c, struct err *e)
{
	struct stat now;

	if (fstat(c->raw, &now) < 0)
		return err_set(e, errno, "%s: fstat: %s", c->raw_path, strerror(errno));
	if (now.st_size != c->before.st_size)
		return err_set(e, EBUSY,
			       "%s: its size changed from %" PRIu64 " to %" PRIu64
			       " while it was read",
			       c->raw_path, (uint64_t)c->before.st_size, (uint64_t)now.st_size);
	if (S_ISREG(now.st_mode) && (now.st_mtim.tv_sec != c->before.st_mtim.tv_sec ||
				     now.st_mtim.tv_nsec != c->before.st_mtim.tv_nsec))
		return err_set(e, EBUSY, "%s: it was written to while it was read", c->raw_path);
	return 0;
}

static int write_layer(void *arg, struct layer_writer *writer, struct workers *pool, struct err *e)
{
	static const struct spans_ops ops = {
		.room = ROOM, .next = next_span, .work = work_span, .each = each_span
	};
	struct commit *c = arg;
	struct err change;
	int r;

	c->writer = writer;
	progress_init(&c->progress, "committing", c->size);
	r = spans_run(&ops, c, pool, e);
	progress_clear(&c->progress);
	/* A change explains whatever else went wrong. */
	if (check_unchanged(c, &change) < 0)
		return err_set(e, EBUSY, "%s", change.msg);
	return r;
}

static int open_raw(struct commit *c, struct err *e)
{
	int r;

	c->raw = open(c->raw_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (c->raw < 0)
		return err_set(e, errno, "%s: %s", c->raw_path, strerror(errno));
	r = io_size(c->raw, &c->size, e);
	if (r < 0)
		return err_wrap(e, r, "%s", c->raw_path);
	if (fstat(c->raw, &c->before) < 0)
		return err_set(e, errno, "%s: fstat: %s", c->raw_path, strerror(errno));
	if (c->size == 0)
		return err_set(e, EINVAL, "%s: an empty disk", c->raw_path);
	if (c->size % SECTOR != 0)
		return err_set(e, EINVAL, "%s: its size, %" PRIu64 ", is not a multiple of %d",
			       c->raw_path, c->size, SECTOR);
	if (c->size / SECTOR >= FORMAT_LBA_LIMIT)
		return err_set(e, EFBIG, "%s: its size, %" PRIu64 ", is over 2^50 sectors",
			       c->raw_path, c->size);
	return 0;
}

/* Opens the base as large as the disk: what it maps beyond its own size would show again in a
 * larger disk, and must be compared like the rest. */
static int open_base(struct commit *c, const char *path, struct err *e)
{
	struct image_options as_disk = { .virtual_size = c->size };
	int r = config_load(path, NULL, &c->base_config, e);

	/* A server punches holes where its own map no longer looks: they would be read as zeroes.
	 */
	if (r == 0 && c->base_config->upper_data)
		r = c->base_lock = pair_lock(c->base_config->upper_data, e);
	return r < 0 ? r : image_open(c->base_config, &as_disk, &c->base, e);
}

static int refuse_inputs(const struct commit *c, const char *output, struct err *e)
{
	int r = output_refuse_input(output, c->raw_path, e);

	if (!c->base || r < 0)
		return r;
	r = config_refuse_own_file(c->base_config, output, e);
	return r < 0 ? err_wrap(e, r, "the output") : 0;
}

static const char *top_uuid(const struct image *base)
{
	size_t n = base ? image_layer_count(base) : 0;

	return n > 0 ? image_layer(base, n - 1)->layer.header.uuid : NULL;
}

static int commit_raw(struct commit *c, const struct tool_args *args,
		      const struct output_form *form, struct err *e)
{
	struct layer_job job = { .write = write_layer,
				 .arg = c,
				 .virtual_size = c->size,
				 .parent_uuid = top_uuid(c->base) };
	const char *path = args->values[LAYER_OUTPUT];
	uint64_t file_size;
	int r = refuse_inputs(c, path, e);

	if (r == 0)
		r = layer_output_write(args, form, &job, &file_size, e);
	if (r == 0)
		show_line(stdout,
			  "%s: %" PRIu64 " bytes; read %" PRIu64 " of %" PRIu64 ", mapped %" PRIu64
			  " data and %" PRIu64 " zeroed",
			  path, file_size, c->read, c->size, c->data, c->zeroed);
	return r;
}

static int run_raw(const struct tool_args *args, const struct output_form *form, struct err *e)
{
	struct commit c = { .raw_path = args->values[OPT_RAW], .raw = -1, .base_lock = -1 };
	int r = open_raw(&c, e);

	if (r == 0 && args->values[OPT_BASE])
		r = open_base(&c, args->values[OPT_BASE], e);
	if (r == 0)
		r = commit_raw(&c, args, form, e);
	image_close(c.base);
	config_free(c.base_config);
	if (c.base_lock >= 0)
		close(c.base_lock);
	if (c.raw >= 0)
		close(c.raw);
	return r;
}

static int check_args(const struct tool_args *args, struct err *e)
{
	const char *raw = args->values[OPT_RAW];

	if (args->operand_count > 0 && (raw || args->values[OPT_BASE]))
		return err_set(e, EINVAL, "--%s is for a raw disk, not for '%s'",
			       raw ? "raw" : "base", args->operands[0]);
	if (args->operand_count == 0 && (!raw || raw[0] == '\0'))
		return err_set(e, EINVAL, "UPPER or --raw is missing");
	return 0;
}

static int run(const struct tool_args *args, struct err *e)
{
	struct output_form form;
	int r;

	if (check_args(args, e) < 0)
		return TOOL_USAGE;
	r = layer_output_parse(args, &form, e);
	if (r != 0)
		return r;
	if (args->operand_count > 0)
		return commit_upper(args, &form, e);
	return run_raw(args, &form, e);
}

const struct tool_command cmd_commit = {
	.name = "commit",
	.operand = "[UPPER|CONFIG]",
	.max_operands = 1,
	.summary =
		"Make a layer of a writable one, of a raw disk, or of its difference to an image",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
