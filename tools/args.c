/* SPDX-License-Identifier: Apache-2.0 */
/* args.c - parsing by the tables of tool.h, see args.h. */
#include "tools/args.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "core/base/nearest.h"
#include "zfile/zformat.h"

enum {
	FIRST_OPTION = 256, /* getopt's value of option 0; above every letter */
	HELP = FIRST_OPTION + TOOL_MAX_OPTIONS,
};

/* The two forms of a command's table that getopt_long wants. */
struct getopt_tables {
	struct option longs[TOOL_MAX_OPTIONS + 2];
	char shorts[2 * TOOL_MAX_OPTIONS + 3];
};

static void fill_tables(const struct tool_command *command, struct getopt_tables *t)
{
	char *p = t->shorts;
	size_t i;

	*p++ = ':'; /* tell a missing value from an unknown option */
	*p++ = 'h';
	for (i = 0; i < command->option_count; i++) {
		const struct tool_option *option = &command->options[i];

		t->longs[i] = (struct option){
			.name = option->name,
			.has_arg = option->value ? required_argument : no_argument,
			.val = FIRST_OPTION + (int)i,
		};
		if (option->letter) {
			*p++ = option->letter;
			if (option->value)
				*p++ = ':';
		}
	}
	*p = '\0';
	t->longs[i++] = (struct option){ .name = "help", .has_arg = no_argument, .val = HELP };
	t->longs[i] = (struct option){ 0 };
}

/* Place in the table of what getopt_long returned, a letter or FIRST_OPTION + place. */
static size_t find_option(const struct tool_command *command, int value)
{
	size_t i;

	if (value >= FIRST_OPTION)
		return (size_t)(value - FIRST_OPTION);
	for (i = 0; i < command->option_count; i++)
		if (command->options[i].letter == value)
			break;
	return i;
}

static bool is_prefix_of_many(const struct tool_command *command, const char *name)
{
	size_t length = strlen(name), i, found = 0;

	for (i = 0; i < command->option_count; i++)
		found += strncmp(command->options[i].name, name, length) == 0;
	return found > 1;
}

static int unknown_option(const struct tool_command *command, const char *word, struct err *e)
{
	const char *names[TOOL_MAX_OPTIONS + 1] = { "help" };
	char name[64];
	const char *nearest;
	size_t i;

	snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
	if (is_prefix_of_many(command, name))
		return err_set(e, EINVAL, "%s: option '--%s' is ambiguous", command->name, name);
	for (i = 0; i < command->option_count; i++)
		names[i + 1] = command->options[i].name;
	nearest = nearest_word(name, names, command->option_count + 1);
	if (!nearest)
		return err_set(e, EINVAL, "%s: unknown option '--%s'; see overlaybd %s --help",
			       command->name, name, command->name);
	return err_set(e, EINVAL, "%s: unknown option '--%s' (did you mean '--%s'?)", command->name,
		       name, nearest);
}

/* What getopt_long stumbled over.  It leaves optopt 0 for an unknown long option, and for a known
 * one that was given a value it does not take, that option's value. */
static int bad_option(const struct tool_command *command, int result, const char *word,
		      struct err *e)
{
	bool is_long = strncmp(word, "--", 2) == 0;

	if (result == ':')
		return err_set(e, EINVAL, "%s: option '%s' needs a value", command->name, word);
	if (optopt >= FIRST_OPTION)
		return err_set(e, EINVAL, "%s: option '%.*s' takes no value", command->name,
			       (int)strcspn(word, "="), word);
	if (is_long && optopt == 0)
		return unknown_option(command, word, e);
	return err_set(e, EINVAL, "%s: unknown option '-%c'; see overlaybd %s --help",
		       command->name, optopt, command->name);
}

static int take_operands(const struct tool_command *command, int argc, char **argv,
			 struct tool_args *out, struct err *e)
{
	size_t count = (size_t)(argc - optind);

	if (count < command->min_operands)
		return err_set(e, EINVAL, "%s: %s is missing; see overlaybd %s --help",
			       command->name, command->operand, command->name);
	if (count > command->max_operands)
		return err_set(e, EINVAL, "%s: unexpected argument '%s'", command->name,
			       argv[(size_t)optind + command->max_operands]);
	out->operands = argv + optind;
	out->operand_count = count;
	return 0;
}

int args_parse(const struct tool_command *command, int argc, char **argv, struct tool_args *out,
	       struct err *e)
{
	struct getopt_tables tables;
	int result;

	*out = (struct tool_args){ 0 };
	fill_tables(command, &tables);
	opterr = 0;
	optind = 0; /* GNU: start anew */
	for (;;) {
		result = getopt_long(argc, argv, tables.shorts, tables.longs, NULL);
		if (result == -1)
			break;
		if (result == '?' || result == ':')
			return bad_option(command, result, argv[optind - 1], e);
		if (result == 'h' || result == HELP)
			return 1;
		out->values[find_option(command, result)] = optarg ? optarg : "";
	}
	return take_operands(command, argc, argv, out, e);
}

static void print_option(const struct tool_option *option)
{
	char left[64];
	const char *line = option->help;
	int length = snprintf(left, sizeof left, "  %c%c%s--%s%s%s", option->letter ? '-' : ' ',
			      option->letter ? option->letter : ' ', option->letter ? ", " : "  ",
			      option->name, option->value ? " " : "",
			      option->value ? option->value : "");

	printf("%s%*s", left, length < 29 ? 29 - length : 1, "");
	while (*line != '\0') {
		size_t n = strcspn(line, "\n");

		printf("%.*s\n", (int)n, line);
		line += n;
		if (*line == '\n') {
			line++;
			printf("%29s", "");
		}
	}
}

void args_print_help(const struct tool_command *command)
{
	static const struct tool_option help = { "help", 'h', NULL, "print this and exit" };
	size_t i;

	printf("Usage: overlaybd %s%s%s [OPTION...]\n\n%s.\n\n", command->name,
	       command->operand ? " " : "", command->operand ? command->operand : "",
	       command->summary);
	for (i = 0; i < command->option_count; i++)
		print_option(&command->options[i]);
	print_option(&help);
}

int args_need(const char *value, const char *option, struct err *e)
{
	if (value && value[0] != '\0')
		return 0;
	return err_set(e, EINVAL, "--%s is missing", option);
}

/* The number at *text, which is moved on; at least one digit.  False when it exceeds max. */
static bool parse_digits(const char **text, uint64_t max, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;

	for (; *p >= '0' && *p <= '9'; p++) {
		uint64_t digit = (uint64_t)(*p - '0');

		if (value > max / 10 || digit > max - value * 10)
			return false;
		value = value * 10 + digit;
	}
	if (p == *text)
		return false;
	*text = p;
	*out = value;
	return true;
}

int args_number(const char *text, uint64_t max, const char *what, uint64_t *out, struct err *e)
{
	const char *p = text;
	uint64_t value;

	if (!parse_digits(&p, max, &value) || *p != '\0')
		return err_set(e, EINVAL, "%s '%s' is not a number from 0 to %" PRIu64, what, text,
			       max);
	*out = value;
	return 0;
}

int args_size(const char *text, const char *what, uint64_t *out, struct err *e)
{
	static const char units[] = "KMGT";
	const char *p = text, *unit;
	uint64_t value = 0;
	unsigned shift = 0;
	bool good = parse_digits(&p, UINT64_MAX, &value);

	if (good && *p != '\0') {
		unit = strchr(units, *p >= 'a' ? *p - 'a' + 'A' : *p);
		good = unit && p[1] == '\0';
		shift = good ? 10 * (unsigned)(unit - units + 1) : 0;
	}
	if (!good || value > UINT64_MAX >> shift)
		return err_set(e, EINVAL, "%s '%s' is not a size such as 1073741824, 1024M or 1G",
			       what, text);
	*out = value << shift;
	return 0;
}

int args_block_size(const char *text, uint32_t *out, struct err *e)
{
	const char *p = text;
	uint64_t value = 0;
	bool good = parse_digits(&p, ZFORMAT_MAX_BLOCK, &value);

	if (good && (*p == 'k' || *p == 'K')) {
		value *= 1024;
		p++;
	}
	if (!good || *p != '\0' || value < ZFORMAT_MIN_BLOCK || value > ZFORMAT_MAX_BLOCK ||
	    (value & (value - 1)) != 0)
		return err_set(e, EINVAL,
			       "block size '%s' is not 4096, 8192, 16384, 32768 or 65536 "
			       "(4K to 64K)",
			       text);
	*out = (uint32_t)value;
	return 0;
}
