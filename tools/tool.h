/* SPDX-License-Identifier: Apache-2.0 */
/* tool.h - what a subcommand of `overlaybd` is, and the list of them.
 *
 * A subcommand is described by data: its options are parsed, and its help is printed, from the
 * table that it names, so that the two cannot differ. */
#ifndef OVERLAYBD_TOOLS_TOOL_H
#define OVERLAYBD_TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"

enum { TOOL_MAX_OPTIONS = 20 };

/* What tool_command.run returns, besides 0 and -errno. */
enum tool_outcome {
	TOOL_FOUND = 1, /* it ran and printed what is wrong with its input */
	TOOL_USAGE = 2, /* the command line is wrong, the error text says how */
};

struct tool_option {
	const char *name; /* without the hyphens */
	char letter; /* short form, 0: none */
	const char *value; /* what the help calls its value, NULL: takes none */
	const char *help; /* lines parted by \n */
};

struct tool_args {
	char **operands;
	size_t operand_count;
	const char
		*values[TOOL_MAX_OPTIONS]; /* by place in the table; "" for one without a value */
};

struct tool_command {
	const char *name;
	const char *operand; /* what the help calls them, NULL: takes none */
	size_t min_operands, max_operands;
	const char *summary; /* one line */
	const struct tool_option *options;
	size_t option_count; /* at most TOOL_MAX_OPTIONS */
	bool changes_first, changes_last; /* what that operand names is made or changed */
	int (*run)(const struct tool_args *args, struct err *e);
};

extern const struct tool_command cmd_attach;
extern const struct tool_command cmd_cache;
extern const struct tool_command cmd_check;
extern const struct tool_command cmd_commit;
extern const struct tool_command cmd_compact;
extern const struct tool_command cmd_compress;
extern const struct tool_command cmd_create;
extern const struct tool_command cmd_detach;
extern const struct tool_command cmd_extract;
extern const struct tool_command cmd_info;
extern const struct tool_command cmd_map;
extern const struct tool_command cmd_merge;
extern const struct tool_command cmd_push;
extern const struct tool_command cmd_repair;
extern const struct tool_command cmd_resize;
extern const struct tool_command cmd_seal;
extern const struct tool_command cmd_snapshot;
extern const struct tool_command cmd_status;
extern const struct tool_command cmd_trace;

#endif
