/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h - the options of subcommands that talk to a registry or use the cache: a settings'
 * name with "--" before it, as core/config_setting.h knows them.
 *
 * Threads: none. */
#ifndef OVERLAYBD_TOOLS_SETTINGS_H
#define OVERLAYBD_TOOLS_SETTINGS_H

#include "core/config.h"
#include "tools/tool.h"

/* For a command's table of options: how to reach a registry.  SETTINGS_REACH options. */
#define SETTINGS_REACH                                                                             \
	{ "credentials", 0, "FILE", "a docker-style file, or the address of a helper" },           \
		{ "cainfo", 0, "FILE", "certificates of CAs to trust (PEM)" },                     \
		{ "client-cert", 0, "FILE", "our certificate (PEM)" },                             \
		{ "client-key", 0, "FILE", "its key (PEM)" },                                      \
		{ "insecure", 0, NULL,                                                             \
		  "allow plain HTTP and certificates that nobody vouches for" },                   \
		{ "proxy", 0, "URL", "go through this proxy" },                                    \
		{ "connections", 0, "N", "use so many at a time (default: 16)" },                  \
	{                                                                                          \
		"service", 0, "FILE",                                                              \
			"defaults from this file (default: /etc/overlaybd/overlaybd.json)"         \
	}

struct settings {
	struct config_setting items[TOOL_MAX_OPTIONS];
	struct config_options options; /* refers to items */
};

/* Takes those of the options given that are settings. */
void settings_take(const struct tool_command *command, const struct tool_args *args,
		   struct settings *out);

#endif
