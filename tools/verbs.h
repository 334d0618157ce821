/* SPDX-License-Identifier: Apache-2.0 */
/* verbs.h - subcommands whose first operand says what to do, such as `overlaybd cache ls`.
 *
 * Threads: no state. */
#ifndef OVERLAYBD_TOOLS_VERBS_H
#define OVERLAYBD_TOOLS_VERBS_H

#include "tools/tool.h"

struct verb {
	const char *name;
	unsigned allowed; /* options, a bit for each by its place in the command's table */
	size_t min_operands, max_operands; /* the verb included */
	const char *missing; /* what the next operand would be, for messages */
	int (*check)(const struct tool_args *args, struct err *e); /* of the command line; NULL */
	int (*run)(const struct tool_args *args, struct err *e);
};

/* Finds the verb, checks that the other arguments go with it, and runs it.  Returns what it does,
 * or TOOL_USAGE. */
int verbs_run(const struct tool_command *command, const struct verb *verbs, size_t count,
	      const struct tool_args *args, struct err *e);

#endif
