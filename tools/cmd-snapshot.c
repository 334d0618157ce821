/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-snapshot.c - `overlaybd snapshot` and `overlaybd status`: what is said to a running server
 * through its control socket. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/io.h"
#include "core/base/scope.h"
#include "tools/args.h"
#include "tools/control-client.h"
#include "tools/show.h"
#include "tools/tool.h"

enum { SNAPSHOT_SOCKET, SNAPSHOT_OUTPUT };

static const struct tool_option snapshot_options[] = {
	[SNAPSHOT_SOCKET] = { "socket", 's', "PATH", "the server's control socket" },
	[SNAPSHOT_OUTPUT] = { "output", 'o', "LAYER", "the layer, a new file" },
};

enum { STATUS_SOCKET, STATUS_STATS, STATUS_JSON };

static const struct tool_option status_options[] = {
	[STATUS_SOCKET] = { "socket", 's', "PATH", "the server's control socket" },
	[STATUS_STATS] = { "stats", 0, NULL, "print the server's statistics, as JSON" },
	[STATUS_JSON] = { "json", 0, NULL, "print the answer as JSON" },
};

static const char *text_at(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "?";
}

static int need_socket(const char *value, struct err *e)
{
	return args_need(value, "socket", e) < 0 ? TOOL_USAGE : 0;
}

static int run_snapshot(const struct tool_args *args, struct err *e)
{
	const char *socket = args->values[SNAPSHOT_SOCKET], *output = args->values[SNAPSHOT_OUTPUT];
	AUTO_FREE char *layer = NULL;
	json_t *reply, *name;
	int r = need_socket(socket, e);

	if (r == 0)
		r = args_need(output, "output", e) < 0 ? TOOL_USAGE : 0;
	if (r != 0)
		return r;
	layer = io_absolute_path(NULL, output);
	if (!layer)
		return err_set(e, errno, "%s: its absolute path: %s", output, strerror(errno));
	name = json_string(layer);
	if (!name)
		return err_set(
			e, EINVAL,
			"%s: no name for a layer: it is not UTF-8, as the config is in which "
			"the name is written",
			output);
	r = control_ask(socket, json_pack("{s:s, s:o}", "command", "snapshot", "layer", name),
			&reply, e);
	if (r < 0)
		return r;
	show_line(stdout,
		  "%s: made; writers waited %" JSON_INTEGER_FORMAT " ms; now written to: %s",
		  output, json_integer_value(json_object_get(reply, "blocked-ms")),
		  text_at(json_object_get(reply, "upper"), "data"));
	json_decref(reply);
	return 0;
}

static void show_status(const json_t *status)
{
	const json_t *layers = json_object_get(status, "layers");
	const json_t *upper = json_object_get(status, "upper");
	char size[SHOW_SIZE];
	size_t i;

	show_line(stdout, "%s", text_at(status, "config"));
	show_line(stdout, "  server    process %" JSON_INTEGER_FORMAT ", version %s",
		  json_integer_value(json_object_get(status, "pid")), text_at(status, "version"));
	show_line(stdout, "  size      %s",
		  show_size((uint64_t)json_integer_value(json_object_get(status, "size")), size));
	for (i = 0; i < json_array_size(layers); i++) {
		const char *path = json_string_value(json_array_get(layers, i));

		show_line(stdout, "  layer %-3zu %s", i, path ? path : "?");
	}
	if (json_is_object(upper))
		show_line(stdout, "  upper     %s, %s", text_at(upper, "data"),
			  text_at(upper, "index"));
	else
		show_line(stdout, "  upper     none: read-only");
}

static int run_status(const struct tool_args *args, struct err *e)
{
	bool stats = args->values[STATUS_STATS];
	json_t *reply;
	int r = need_socket(args->values[STATUS_SOCKET], e);

	if (r == 0)
		r = control_ask(args->values[STATUS_SOCKET],
				json_pack("{s:s}", "command", stats ? "stats" : "status"), &reply,
				e);
	if (r != 0)
		return r;
	if (stats)
		show_json(json_object_get(reply, "stats"));
	else if (args->values[STATUS_JSON])
		show_json(reply);
	else
		show_status(reply);
	json_decref(reply);
	return 0;
}

const struct tool_command cmd_snapshot = {
	.name = "snapshot",
	.summary = "Make a layer of what a running server has written",
	.options = snapshot_options,
	.option_count = sizeof snapshot_options / sizeof *snapshot_options,
	.run = run_snapshot,
};

const struct tool_command cmd_status = {
	.name = "status",
	.summary = "Ask a running server what it serves",
	.options = status_options,
	.option_count = sizeof status_options / sizeof *status_options,
	.run = run_status,
};
