/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-compress.c - `overlaybd compress` and `overlaybd extract`: any file to a ZFile and back.
 *
 * Reading and (de)compressing use all cores; the bytes written do not depend on how many there are.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "core/chain.h"
#include "tools/args.h"
#include "tools/output.h"
#include "tools/progress.h"
#include "tools/spans.h"
#include "tools/show.h"
#include "tools/tool.h"

/* A source on its way into a sink. */
struct copy {
	const char *name; /* of the input */
	struct sink *to;
	struct progress progress;
};

static int copy_span(void *arg, const struct span *span, struct err *e)
{
	struct copy *copy = arg;
	int r;

	if (span->r < 0)
		return err_set(e, -span->r, "%s: %s", copy->name, span->err.msg);
	r = sink_write(copy->to, span->buffer, span->n, e);
	progress_add(&copy->progress, span->n);
	return r;
}

static int copy_all(struct copy *copy, struct source *from, struct workers *pool, struct err *e)
{
	int r = spans_read(from, pool, copy_span, copy, e);

	progress_clear(&copy->progress);
	return r < 0 ? r : sink_finish(copy->to, e);
}

/* The whole of a job once the input is open: writes `from` to `path` in that form. */
static int write_output(const char *name, struct source *from, const char *path,
			const struct output_form *form, struct err *e)
{
	struct copy copy = { .name = name };
	struct output out;
	int r = output_open(path, form, &out, e);

	if (r != 0)
		return r;
	copy.to = out.top;
	progress_init(&copy.progress, form->compress ? "compressing" : "extracting", from->size);
	r = copy_all(&copy, from, out.pool, e);
	if (r == 0)
		show_line(stdout, "%s: %" PRIu64 " bytes from %" PRIu64, path, out.file->written,
			  from->size);
	output_close(&out);
	return r;
}

static int need_output(const char *output, const char *input, struct err *e)
{
	if (args_need(output, "output", e) < 0)
		return TOOL_USAGE;
	return output_refuse_input(output, input, e);
}

enum { COMPRESS_OUTPUT, COMPRESS_ALGORITHM, COMPRESS_BLOCK_SIZE, COMPRESS_LEVEL };

static const struct tool_option compress_options[] = {
	[COMPRESS_OUTPUT] = { "output", 'o', "OUT", "the ZFile to write" },
	[COMPRESS_ALGORITHM] = { "algorithm", 0, "NAME", "lz4 (the default) or zstd" },
	[COMPRESS_BLOCK_SIZE] = { "block-size", 0, "N", "4K (the default), 8K, 16K, 32K or 64K" },
	[COMPRESS_LEVEL] = { "level", 0, "N",
			     "0 (the default of the algorithm) to 12 (lz4) or\n19 (zstd)" },
};

static int run_compress(const struct tool_args *args, struct err *e)
{
	const char *algorithm = args->values[COMPRESS_ALGORITHM];
	const char *path = args->values[COMPRESS_OUTPUT];
	struct output_form form;
	struct source *from;
	int r;

	r = output_parse(algorithm, args->values[COMPRESS_BLOCK_SIZE], args->values[COMPRESS_LEVEL],
			 &form, e);
	if (r < 0)
		return TOOL_USAGE;
	if (!form.compress) {
		err_set(e, EINVAL, "unknown compression 'none': lz4 or zstd");
		return TOOL_USAGE;
	}
	r = need_output(path, args->operands[0], e);
	if (r != 0)
		return r;
	r = source_open_file(args->operands[0], &from, e);
	if (r < 0)
		return err_wrap(e, r, "%s", args->operands[0]);
	r = write_output(args->operands[0], from, path, &form, e);
	source_close(from);
	return r;
}

const struct tool_command cmd_compress = {
	.name = "compress",
	.operand = "FILE",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Compress any file into a ZFile",
	.options = compress_options,
	.option_count = sizeof compress_options / sizeof compress_options[0],
	.run = run_compress,
};

enum { EXTRACT_OUTPUT };

static const struct tool_option extract_options[] = {
	[EXTRACT_OUTPUT] = { "output", 'o', "OUT", "the file to write" },
};

static int run_extract(const struct tool_args *args, struct err *e)
{
	static const struct output_form plain = { 0 };
	const char *path = args->values[EXTRACT_OUTPUT];
	struct chain c;
	int r = need_output(path, args->operands[0], e);

	if (r != 0)
		return r;
	r = chain_open_all(args->operands[0], &c, e);
	if (r == 0 && !c.in_tar && !c.in_zfile) {
		chain_close(&c);
		r = err_set(e, EINVAL, "neither a ZFile nor in a tar archive");
	}
	if (r < 0)
		return err_wrap(e, r, "%s", args->operands[0]);
	r = write_output(args->operands[0], c.top, path, &plain, e);
	chain_close(&c);
	return r;
}

const struct tool_command cmd_extract = {
	.name = "extract",
	.operand = "FILE",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Write what a ZFile or a tar wrapper holds",
	.options = extract_options,
	.option_count = sizeof extract_options / sizeof extract_options[0],
	.run = run_extract,
};
