/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c - see settings.h. */
#include "tools/settings.h"

#include <string.h>

/* getopt gives out pointers into argv, which may be written to. */
static char *value_of(const struct tool_option *option, const char *value)
{
	static char yes[] = "true";

	return option->value ? strchr(value, value[0]) : yes;
}

void settings_take(const struct tool_command *command, const struct tool_args *args,
		   struct settings *out)
{
	size_t i, n = 0;

	*out = (struct settings){ 0 };
	for (i = 0; i < command->option_count; i++) {
		const struct tool_option *option = &command->options[i];

		if (!args->values[i])
			continue;
		if (strcmp(option->name, "service") == 0)
			out->options.service = args->values[i];
		else if (config_setting_find(option->name) >= 0)
			out->items[n++] = (struct config_setting){
				.name = option->name, .value = value_of(option, args->values[i])
			};
	}
	out->options.settings = out->items;
	out->options.setting_count = n;
}
