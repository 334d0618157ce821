/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-commit.c - `overlaybd commit`: a raw disk, or its difference to a base image, as a layer.
 *
 * The disk is cut into blocks of 4 KiB (the last one may be shorter):
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
#include "tools/args.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "tools/spans.h"
#include "tools/show.h"
#include "tools/tool.h"

enum {
	OPT_RAW,
	OPT_BASE,
	OPT_OUTPUT,
	OPT_COMPRESS,
	OPT_BLOCK_SIZE,
	OPT_LEVEL,
	OPT_TAR,
	OPT_UUID,
	OPT_PARENT_UUID,
	OPT_MESSAGE,
};

static const struct tool_option options[] = {
	[OPT_RAW] = { "raw", 0, "DISK", "the disk: a file or a block device" },
	[OPT_BASE] = { "base", 0, "CONFIG", "store only what differs from this image" },
	[OPT_OUTPUT] = { "output", 'o', "LAYER", "the layer file to write" },
	[OPT_COMPRESS] = { "compress", 0, "NAME", "lz4 (the default), zstd or none" },
	[OPT_BLOCK_SIZE] = { "block-size", 0, "N",
			     "bytes compressed at once: 4K (the default), 8K, 16K,\n32K or 64K" },
	[OPT_LEVEL] = { "level", 0, "N",
			"0 (the default of the algorithm) to 12 (lz4) or\n19 (zstd)" },
	[OPT_TAR] = { "tar", 0, NULL, "wrap the layer in a tar archive" },
	[OPT_UUID] = { "uuid", 0, "UUID", "of the layer (default: zeroes)" },
	[OPT_PARENT_UUID] = { "parent-uuid", 0, "UUID",
			      "of the layer below (default: that of the base's\ntopmost layer)" },
	[OPT_MESSAGE] = { "message", 0, "TEXT", "commit message, at most 256 bytes" },
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

static int write_layer(struct commit *c, struct workers *pool, struct err *e)
{
	static const struct spans_ops ops = {
		.room = ROOM, .next = next_span, .work = work_span, .each = each_span
	};
	struct err change;
	int r;

	progress_init(&c->progress, "committing", c->size);
	r = spans_run(&ops, c, pool, e);
	progress_clear(&c->progress);
	/* A change explains whatever else went wrong. */
	if (check_unchanged(c, &change) < 0)
		return err_set(e, EBUSY, "%s", change.msg);
	return r < 0 ? r : layer_writer_finish(c->writer, e);
}

/* Sets header values, and writes the layer to `path`. */
static int commit_to(struct commit *c, const char *path, const struct output_form *form,
		     const struct layer_writer_options *header, struct err *e)
{
	struct output out;
	int r = output_open(path, form, &out, e);

	if (r != 0)
		return r;
	r = layer_writer_open(out.top, header, &c->writer, e);
	if (r == 0) {
		out.top = NULL; /* the writer's now */
		r = write_layer(c, out.pool, e);
		if (r == 0)
			show_line(stdout,
				  "%s: %" PRIu64 " bytes; read %" PRIu64 " of %" PRIu64
				  ", mapped %" PRIu64 " data and %" PRIu64 " zeroed",
				  path, out.file->written, c->read, c->size, c->data, c->zeroed);
		layer_writer_close(c->writer);
	}
	output_close(&out);
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

	return r < 0 ? r : image_open(c->base_config, &as_disk, &c->base, e);
}

static int refuse_inputs(const struct commit *c, const struct tool_args *args, struct err *e)
{
	const char *output = args->values[OPT_OUTPUT];
	int r = output_refuse_input(output, c->raw_path, e);

	if (!c->base || r < 0)
		return r;
	r = config_refuse_own_file(c->base_config, output, e);
	return r < 0 ? err_wrap(e, r, "the output") : 0;
}

static void set_header(const struct commit *c, const struct tool_args *args,
		       struct layer_writer_options *header)
{
	*header = (struct layer_writer_options){
		.virtual_size = c->size,
		.uuid = args->values[OPT_UUID],
		.parent_uuid = args->values[OPT_PARENT_UUID],
		.message = args->values[OPT_MESSAGE],
	};
	if (!header->parent_uuid && c->base) {
		const struct image_layer *top =
			image_layer(c->base, image_layer_count(c->base) - 1);

		/* Readers take any text for a uuid, writers should not pass it on. */
		if (format_is_uuid(top->layer.header.uuid))
			header->parent_uuid = top->layer.header.uuid;
	}
}

/* What can be said without looking at any file. */
static int check_args(const struct tool_args *args, struct output_form *form, struct err *e)
{
	static const int needed[] = { OPT_RAW, OPT_OUTPUT };
	static const int uuids[] = { OPT_UUID, OPT_PARENT_UUID };
	const char *message = args->values[OPT_MESSAGE];
	size_t i;

	for (i = 0; i < 2; i++)
		if (args_need(args->values[needed[i]], options[needed[i]].name, e) < 0)
			return -EINVAL;
	for (i = 0; i < 2; i++)
		if (args->values[uuids[i]] && !format_is_uuid(args->values[uuids[i]]))
			return err_set(e, EINVAL, "--%s: '%s' is not a uuid",
				       options[uuids[i]].name, args->values[uuids[i]]);
	if (message && strlen(message) > FORMAT_TAG)
		return err_set(e, EINVAL, "the message has %zu bytes, more than %d",
			       strlen(message), FORMAT_TAG);
	if (output_parse(args->values[OPT_COMPRESS], args->values[OPT_BLOCK_SIZE],
			 args->values[OPT_LEVEL], form, e) < 0)
		return -EINVAL;
	form->tar = args->values[OPT_TAR] != NULL;
	return 0;
}

static int run(const struct tool_args *args, struct err *e)
{
	struct commit c = { .raw_path = args->values[OPT_RAW], .raw = -1 };
	struct layer_writer_options header;
	struct output_form form;
	int r;

	if (check_args(args, &form, e) < 0)
		return TOOL_USAGE;
	r = open_raw(&c, e);
	if (r == 0 && args->values[OPT_BASE])
		r = open_base(&c, args->values[OPT_BASE], e);
	if (r == 0)
		r = refuse_inputs(&c, args, e);
	if (r == 0) {
		set_header(&c, args, &header);
		r = commit_to(&c, args->values[OPT_OUTPUT], &form, &header, e);
	}
	image_close(c.base);
	config_free(c.base_config);
	if (c.raw >= 0)
		close(c.raw);
	return r;
}

const struct tool_command cmd_commit = {
	.name = "commit",
	.summary = "Make a layer of a raw disk, or of its difference to an image",
	.options = options,
	.option_count = sizeof options / sizeof options[0],
	.run = run,
};
