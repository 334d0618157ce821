/* SPDX-License-Identifier: Apache-2.0 */
/* layer-output.h - the options of subcommands that write a layer, and its file. */
#ifndef OVERLAYBD_TOOLS_LAYER_OUTPUT_H
#define OVERLAYBD_TOOLS_LAYER_OUTPUT_H

#include "core/layer_writer.h"
#include "tools/output.h"
#include "tools/tool.h"

/* They come first in a command's table. */
enum {
	LAYER_OUTPUT,
	LAYER_COMPRESS,
	LAYER_BLOCK_SIZE,
	LAYER_LEVEL,
	LAYER_TAR,
	LAYER_UUID,
	LAYER_PARENT_UUID,
	LAYER_MESSAGE,
	LAYER_OPTIONS,
};

#define LAYER_OPTION_ROWS                                                                          \
	[LAYER_OUTPUT] = { "output", 'o', "LAYER", "the layer file to write" },                    \
	[LAYER_COMPRESS] = { "compress", 0, "NAME", "lz4 (the default), zstd or none" },           \
	[LAYER_BLOCK_SIZE] = { "block-size", 0, "N",                                               \
			       "bytes compressed at once: 4K (the default), 8K, 16K,\n32K or "     \
			       "64K" },                                                            \
	[LAYER_LEVEL] = { "level", 0, "N",                                                         \
			  "0 (the default of the algorithm) to 12 (lz4) or\n19 (zstd)" },          \
	[LAYER_TAR] = { "tar", 0, NULL, "wrap the layer in a tar archive" },                       \
	[LAYER_UUID] = { "uuid", 0, "UUID", "of the layer (default: zeroes)" },                    \
	[LAYER_PARENT_UUID] = { "parent-uuid", 0, "UUID",                                          \
				"of the layer below (default: what is known of it)" },             \
	[LAYER_MESSAGE] = { "message", 0, "TEXT", "commit message, at most 256 bytes" }

/* What can be said of them without looking at any file: 0 or TOOL_USAGE. */
int layer_output_parse(const struct tool_args *args, struct output_form *form, struct err *e);

/* What is written into a layer that is open. */
struct layer_job {
	int (*write)(void *arg, struct layer_writer *writer, struct workers *pool, struct err *e);
	void *arg;
	/* Of the layer; overridden by options.  A parent_uuid that is no uuid counts as none. */
	uint64_t virtual_size;
	const char *parent_uuid;
};

/* Makes the layer file: opens the stages, lets `write` fill it, and finishes it.  *file_size is
 * what it came to.  0, TOOL_USAGE or -errno. */
int layer_output_write(const struct tool_args *args, const struct output_form *form,
		       const struct layer_job *job, uint64_t *file_size, struct err *e);

#endif
