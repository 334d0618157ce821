/* SPDX-License-Identifier: Apache-2.0 */
/* cmd-seal.c - `overlaybd seal`: a writable layer becomes a read-only one, in place. */
#include <inttypes.h>

#include "core/upper_seal.h"
#include "tools/pair.h"
#include "tools/show.h"
#include "tools/tool.h"

static int run(const struct tool_args *args, struct err *e)
{
	struct pair pair;
	uint64_t size;
	int r = pair_find(args->operands[0], &pair, e);

	if (r < 0)
		return r;
	r = upper_seal_files(NULL, pair.data, pair.index, &size, e);
	if (r == 0)
		show_line(stdout, "%s: %" PRIu64 " bytes, sealed", pair.data, size);
	pair_release(&pair);
	return r;
}

const struct tool_command cmd_seal = {
	.name = "seal",
	.operand = "UPPER|CONFIG",
	.min_operands = 1,
	.max_operands = 1,
	.summary = "Make a read-only layer of a writable one, in place",
	.changes_first = true,
	.run = run,
};
