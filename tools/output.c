/* SPDX-License-Identifier: Apache-2.0 */
/* output.c - the stages of writing, see output.h. */
#include "tools/output.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tools/args.h"
#include "zfile/tar.h"

enum { HIGHEST_LEVEL = 99 }; /* of any algorithm; which it has, zwriter knows */

static int parse_algorithm(const char *name, uint8_t *out, struct err *e)
{
	if (!name || strcmp(name, "lz4") == 0)
		*out = ZALGORITHM_LZ4;
	else if (strcmp(name, "zstd") == 0)
		*out = ZALGORITHM_ZSTD;
	else
		return err_set(e, EINVAL, "unknown compression '%s': lz4 or zstd", name);
	return 0;
}

int output_parse(const char *algorithm, const char *block_size, const char *level,
		 struct output_form *out, struct err *e)
{
	struct output_form t = { .compress = true, .zfile = { .block_size = ZFORMAT_MIN_BLOCK } };
	uint64_t number = 0;
	int r;

	if (algorithm && strcmp(algorithm, "none") == 0) {
		if (block_size || level)
			return err_set(e, EINVAL, "--%s needs a compression, not 'none'",
				       block_size ? "block-size" : "level");
		*out = (struct output_form){ 0 };
		return 0;
	}
	r = parse_algorithm(algorithm, &t.zfile.algorithm, e);
	if (r == 0 && block_size)
		r = args_block_size(block_size, &t.zfile.block_size, e);
	if (r == 0 && level)
		r = args_number(level, HIGHEST_LEVEL, "level", &number, e);
	if (r < 0)
		return r;
	t.zfile.level = (int)number;
	*out = t;
	return 0;
}

int output_refuse_input(const char *output, const char *input, struct err *e)
{
	struct stat a, b;

	if (stat(output, &a) < 0 || stat(input, &b) < 0)
		return 0; /* opening it says what is wrong, or it is new */
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return err_set(e, EINVAL, "the output '%s' is the input '%s'", output, input);
	return 0;
}

/* Puts a stage that was opened over *top in its place. */
static int add_stages(const char *path, const struct output_form *form, struct workers *pool,
		      struct sink **top, struct err *e)
{
	struct sink *stage;
	int r;

	if (form->tar) {
		r = tar_open_sink(*top, &stage, e);
		if (r < 0)
			return r;
		*top = stage;
	}
	if (form->compress) {
		r = zwriter_open_sink(*top, &form->zfile, pool, &stage, e);
		if (r < 0)
			return r == -EINVAL ? TOOL_USAGE : r;
		zwriter_set_name(stage, path);
		*top = stage;
	}
	return 0;
}

static int open_stages(const char *path, const struct output_form *form, struct output *out,
		       struct err *e)
{
	int r = sink_open_file(path, &out->file, e);

	if (r < 0)
		return r;
	out->top = out->file;
	r = add_stages(path, form, out->pool, &out->top, e);
	return r < 0 ? err_wrap(e, r, "%s", path) : r;
}

int output_open(const char *path, const struct output_form *form, struct output *out, struct err *e)
{
	struct output t = { 0 };
	int r = workers_open(workers_cpus(), &t.pool, e);

	if (r < 0)
		return r;
	r = open_stages(path, form, &t, e);
	if (r != 0) {
		output_close(&t);
		return r;
	}
	*out = t;
	return 0;
}

void output_close(struct output *out)
{
	sink_close(out->top);
	workers_close(out->pool);
}
