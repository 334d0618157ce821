/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program `overlaybd`: finds the subcommand, runs it, says how it ended.
 *
 * Exit status: 0 done; 1 failed, or `check` found errors; 2 the command line is wrong. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/limits.h"
#include "core/base/nearest.h"
#include "tools/args.h"
#include "tools/show.h"
#include "tools/tool.h"

static const struct tool_command *const commands[] = {
	&cmd_attach,   &cmd_cache,    &cmd_check,  &cmd_commit,	 &cmd_compact,
	&cmd_compress, &cmd_create,   &cmd_detach, &cmd_extract, &cmd_info,
	&cmd_map,      &cmd_merge,    &cmd_push,   &cmd_repair,	 &cmd_resize,
	&cmd_seal,     &cmd_snapshot, &cmd_status, &cmd_trace,
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int complain(int status, const struct err *e)
{
	show_line(stderr, "overlaybd: %s", e->msg);
	return status;
}

static void print_help(void)
{
	size_t i;

	puts("Usage: overlaybd SUBCOMMAND [OPTION...]\n\n"
	     "Looks at, checks, makes and attaches layers and images of the overlaybd format.\n");
	for (i = 0; i < COMMANDS; i++)
		printf("  %-10s %s\n", commands[i]->name, commands[i]->summary);
	puts("\n  -h, --help     print this and exit; after a subcommand, its options\n"
	     "  -V, --version  print the version and exit");
}

static const struct tool_command *find_command(const char *name, struct err *e)
{
	const char *names[COMMANDS], *nearest;
	size_t i;

	for (i = 0; i < COMMANDS; i++) {
		if (strcmp(name, commands[i]->name) == 0)
			return commands[i];
		names[i] = commands[i]->name;
	}
	nearest = nearest_word(name, names, COMMANDS);
	if (nearest)
		err_set(e, EINVAL, "unknown subcommand '%s' (did you mean '%s'?)", name, nearest);
	else
		err_set(e, EINVAL, "unknown subcommand '%s'; see overlaybd --help", name);
	return NULL;
}

/* What a command that has succeeded has made or changed; NULL: nothing that has a name. */
static const char *made_by(const struct tool_command *command, const struct tool_args *args)
{
	size_t i;

	for (i = 0; i < command->option_count; i++)
		if (strcmp(command->options[i].name, "output") == 0 && args->values[i])
			return args->values[i];
	if (command->changes_first)
		return args->operands[0];
	return command->changes_last ? args->operands[args->operand_count - 1] : NULL;
}

/* What was printed may have met a full disk only now.  `made` stays as it is: whoever reads the
 * status alone would make it once more. */
static int flush_output(int status, const char *made)
{
	struct err e;

	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	if (made)
		err_set(&e, errno, "writing to standard output: %s (%s is complete)",
			strerror(errno), made);
	else
		err_set(&e, errno, "writing to standard output: %s", strerror(errno));
	return complain(EXIT_FAILURE, &e);
}

static int run(const struct tool_command *command, int argc, char **argv)
{
	struct err e = { .msg = "" };
	struct tool_args args;
	int r;

	r = args_parse(command, argc, argv, &args, &e);
	if (r < 0)
		return complain(TOOL_USAGE, &e);
	if (r > 0) {
		args_print_help(command);
		return flush_output(EXIT_SUCCESS, NULL);
	}
	r = command->run(&args, &e);
	if (r == TOOL_USAGE) {
		err_wrap(&e, 0, "%s", command->name);
		return complain(TOOL_USAGE, &e);
	}
	if (r < 0) {
		fflush(stdout);
		return complain(EXIT_FAILURE, &e);
	}
	return flush_output(r, r == 0 ? made_by(command, &args) : NULL);
}

/* A file that we open must not become standard output or error, where a message would be written
 * into it.  What is closed stays as good as closed: reading or writing there fails. */
static void fill_standard(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			exit(EXIT_FAILURE);
}

int main(int argc, char **argv)
{
	const struct tool_command *command;
	struct err e;

	fill_standard();
	limits_raise_files();
	if (argc < 2) {
		err_set(&e, EINVAL, "a subcommand is missing; see overlaybd --help");
		return complain(TOOL_USAGE, &e);
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help();
		return flush_output(EXIT_SUCCESS, NULL);
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("overlaybd " PROJECT_VERSION);
		return flush_output(EXIT_SUCCESS, NULL);
	}
	if (argv[1][0] == '-') {
		err_set(&e, EINVAL, "unknown option '%s'; see overlaybd --help", argv[1]);
		return complain(TOOL_USAGE, &e);
	}
	command = find_command(argv[1], &e);
	return command ? run(command, argc - 1, argv + 1) : complain(TOOL_USAGE, &e);
}
