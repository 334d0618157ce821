/* SPDX-License-Identifier: Apache-2.0 */
/* verbs.c - see verbs.h. */
#include "tools/verbs.h"

#include <errno.h>
#include <string.h>

#include "core/base/nearest.h"

enum { VERBS_MAX = 16 };

static int refuse_verb(const struct tool_command *command, const struct verb *verbs, size_t count,
		       const char *name, struct err *e)
{
	const char *names[VERBS_MAX], *nearest;
	size_t i;

	for (i = 0; i < count; i++)
		names[i] = verbs[i].name;
	nearest = nearest_word(name, names, count);
	if (nearest)
		return err_set(e, EINVAL, "unknown verb '%s' (did you mean '%s'?)", name, nearest);
	return err_set(e, EINVAL, "unknown verb '%s'; see overlaybd %s --help", name,
		       command->name);
}

static int check_arguments(const struct tool_command *command, const struct verb *verb,
			   const struct tool_args *args, struct err *e)
{
	size_t i;

	for (i = 0; i < command->option_count; i++)
		if (args->values[i] && !(verb->allowed & 1u << i))
			return err_set(e, EINVAL, "%s takes no option '--%s'", verb->name,
				       command->options[i].name);
	if (args->operand_count > verb->max_operands)
		return err_set(e, EINVAL, "%s: unexpected argument '%s'", verb->name,
			       args->operands[verb->max_operands]);
	if (args->operand_count < verb->min_operands)
		return err_set(e, EINVAL, "%s needs %s", verb->name, verb->missing);
	return verb->check ? verb->check(args, e) : 0;
}

int verbs_run(const struct tool_command *command, const struct verb *verbs, size_t count,
	      const struct tool_args *args, struct err *e)
{
	size_t i;

	for (i = 0; i < count; i++)
		if (strcmp(args->operands[0], verbs[i].name) == 0)
			break;
	if (i == count) {
		(void)refuse_verb(command, verbs, count, args->operands[0], e);
		return TOOL_USAGE;
	}
	return check_arguments(command, &verbs[i], args, e) < 0 ? TOOL_USAGE
								: verbs[i].run(args, e);
}
