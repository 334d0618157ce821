/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-repair.c - `overlaybd repair`: a damaged writable layer, as far as it can be trusted. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/upper_repair.h"
#include "tools/pair.h"
#include "tools/show.h"
#include "tools/tool.h"

enum { ACKNOWLEDGED, OPTIONS };

static const struct tool_option options[OPTIONS] = {
	[ACKNOWLEDGED] = { "acknowledged", 0, "WHAT",
			   "what becomes of writes that a process acknowledged and did not flush,\n"
			   "where it cannot be told whether they count: apply or drop" },
};

/* What was done to the index, also where something else then failed. */
static void print_index(const struct pair *pair, const struct upper_repair *done)
{
	if (done->damage.msg[0])
		show_line(stdout, "%s: was damaged: %s", pair->index, done->damage.msg);
	if (done->dropped > 0)
		show_line(stdout,
			  "%s: %" PRIu64 " records stay, %" PRIu64 " entries behind them go",
			  pair->index, done->kept, done->dropped);
}

static void print_pending(const struct pair *pair, const struct upper_repair *done, bool drop)
{
	if (done->dropped_pending)
		show_line(stdout,
			  "%s: what a process acknowledged and did not flush %s, and is removed",
			  pair->data, drop ? "is given up as you asked" : "was damaged");
	if (done->stale > 0)
		show_line(stdout,
			  "%s: %" PRIu64 " writes that a process acknowledged and did not flush do "
			  "not follow on what is left, and are removed",
			  pair->data, done->stale);
	if (done->applied > 0)
		show_line(stdout,
			  "%s: %" PRIu64 " writes that a process acknowledged and did not flush "
			  "are a part of the layer now",
			  pair->data, done->applied);
	if (done->dropped == 0 && !done->dropped_pending && done->stale + done->applied == 0)
		show_line(stdout, "%s, %s: nothing to repair", pair->data, pair->index);
}

static int parse_acknowledged(const char *value, enum upper_acknowledged *out, struct err *e)
{
	*out = UPPER_ACKNOWLEDGED_JUDGE;
	if (!value)
		return 0;
	if (strcmp(value, "apply") != 0 && strcmp(value, "drop") != 0) {
		(void)err_set(e, EINVAL, "--acknowledged is 'apply' or 'drop', not '%s'", value);
		return TOOL_USAGE;
	}
	*out = value[0] == 'a' ? UPPER_ACKNOWLEDGED_APPLY : UPPER_ACKNOWLEDGED_DROP;
	return 0;
}

static int run(const struct tool_args *args, struct err *e)
{
	enum upper_acknowledged acknowledged;
	struct upper_repair done;
	struct pair pair;
	int r = parse_acknowledged(args->values[ACKNOWLEDGED], &acknowledged, e);

	if (r == 0)
		r = pair_find(args->operands[0], &pair, e);
	if (r != 0)
		return r;
	r = upper_repair_files(NULL, pair.data, pair.index, acknowledged, &done, e);
	print_index(&pair, &done);
	if (r == 0)
		print_pending(&pair, &done, acknowledged == UPPER_ACKNOWLEDGED_DROP);
	pair_release(&pair);
	return r;
}

const struct tool_command cmd_repair = {
	.name = "repair",
	.operand = "UPPER|CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Cut a damaged writable layer back to what can be trusted",
	.options = options,
	.option_count = OPTIONS,
	.run = run,
};
