/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-repair.c - `overlaybd repair`: a damaged writable layer, as far as it can be trusted. */
#include <inttypes.h>

#include "core/upper_repair.h"
#include "tools/pair.h"
#include "tools/show.h"
#include "tools/tool.h"

static void print(const struct pair *pair, const struct upper_repair *done)
{
	if (done->damage.msg[0])
		show_line(stdout, "%s: was damaged: %s", pair->index, done->damage.msg);
	if (done->dropped > 0)
		show_line(stdout,
			  "%s: %" PRIu64 " records stay, %" PRIu64 " entries behind them go",
			  pair->index, done->kept, done->dropped);
	if (done->dropped_pending)
		show_line(stdout,
			  "%s: what a process acknowledged and did not flush was damaged, and is "
			  "removed",
			  pair->data);
	if (done->dropped == 0 && !done->dropped_pending)
		show_line(stdout, "%s, %s: nothing to repair", pair->data, pair->index);
}

static int run(const struct tool_args *args, struct err *e)
{
	struct upper_repair done;
	struct pair pair;
	int r = pair_find(args->operands[0], &pair, e);

	if (r < 0)
		return r;
	r = upper_repair_files(NULL, pair.data, pair.index, &done, e);
	if (r == 0)
		print(&pair, &done);
	pair_release(&pair);
	return r;
}

const struct tool_command cmd_repair = {
	.name = "repair",
	.operand = "UPPER|CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Cut a damaged writable layer back to what can be trusted",
	.run = run,
};
