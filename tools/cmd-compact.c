/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-compact.c - `overlaybd compact`: a writable layer without what was overwritten. */
#include <inttypes.h>

#include "core/upper_compact.h"
#include "tools/pair.h"
#include "tools/progress.h"
#include "tools/show.h"
#include "tools/tool.h"

static void step(void *arg, uint64_t n, uint64_t total)
{
	struct progress *p = arg;

	if (p->total == 0)
		progress_init(p, "compacting", total);
	progress_add(p, n);
}

static int run(const struct tool_args *args, struct err *e)
{
	struct progress progress = { .total = 0 };
	struct upper_compact how = { .step = step, .arg = &progress };
	struct pair pair;
	int r = pair_find(args->operands[0], &pair, e);

	if (r < 0)
		return r;
	r = upper_compact_files(&how, pair.data, pair.index, e);
	progress_clear(&progress);
	if (r == 0)
		show_line(stdout, "%s, %s: %" PRIu64 " bytes, before %" PRIu64, pair.data,
			  pair.index, how.after, how.before);
	pair_release(&pair);
	return r;
}

const struct tool_command cmd_compact = {
	.name = "compact",
	.operand = "UPPER|CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Rewrite a writable layer without what was overwritten",
	.changes_first = true,
	.run = run,
};
