/* SPDX-License-Identifier: Apache-2.0 */
/* args.h - the command line of one subcommand: parsing, help, strict numbers.
 *
 * Threads: one at a time (getopt_long keeps state). */
#ifndef OVERLAYBD_TOOLS_ARGS_H
#define OVERLAYBD_TOOLS_ARGS_H

#include <stdint.h>

#include "tools/tool.h"

/* Parses argv, whose [0] is the subcommand.  Returns 0, 1 when help was asked for (*out is not
 * complete then), or -EINVAL: the text says what is wrong. */
int args_parse(const struct tool_command *command, int argc, char **argv, struct tool_args *out,
	       struct err *e);

/* Prints a subcommand's help to standard output. */
void args_print_help(const struct tool_command *command);

/* -EINVAL unless the option has a value, which an empty one is not. */
int args_need(const char *value, const char *option, struct err *e);

/* A whole decimal number of at most `max`.  `what` names it in the message.  -EINVAL. */
int args_number(const char *text, uint64_t max, const char *what, uint64_t *out, struct err *e);

/* A number of bytes, also with K, M, G or T for powers of 1024.  `what` names it in the message.
 * -EINVAL. */
int args_size(const char *text, const char *what, uint64_t *out, struct err *e);

/* A ZFile's block size: 4096 to 65536, also written as 4K to 64K, a power of two.  -EINVAL. */
int args_block_size(const char *text, uint32_t *out, struct err *e);

#endif
