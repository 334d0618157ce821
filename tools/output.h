/* SPDX-License-Identifier: Apache-2.0 */
/* output.h - the file that commit, compress and extract write: plain, as a ZFile, in tar. */
#ifndef OVERLAYBD_TOOLS_OUTPUT_H
#define OVERLAYBD_TOOLS_OUTPUT_H

#include <stdbool.h>

#include "core/base/sink.h"
#include "core/base/workers.h"
#include "zfile/zwriter.h"

struct output_form {
	bool tar;
	bool compress;
	struct zwriter_options zfile; /* when compress */
};

struct output {
	struct workers *pool; /* on all processors, for compressing and for the caller's jobs */
	struct sink *file; /* the lowest stage; its `written` is the file's size */
	struct sink *top; /* owns the others; NULL once somebody else owns it */
};

/* Reads the values of --compress or --algorithm (`algorithm`: "lz4", "zstd" or "none"),
 * --block-size and --level, NULL where absent.  -EINVAL. */
int output_parse(const char *algorithm, const char *block_size, const char *level,
		 struct output_form *out, struct err *e);

/* EINVAL when the output would replace this input. */
int output_refuse_input(const char *output, const char *input, struct err *e);

/* Opens the stages of a new file.  The text names the file.  Returns 0, TOOL_USAGE for a level that
 * the algorithm does not have, or -errno. */
int output_open(const char *path, const struct output_form *form, struct output *out,
		struct err *e);

/* Closes `top`, then the pool.  A file that was not finished leaves nothing behind. */
void output_close(struct output *out);

#endif
