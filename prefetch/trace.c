/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - our trace file, see trace.h. */
#include "prefetch/trace.h"

#include <stdlib.h>

void trace_release(struct trace *t)
{
	free(t->reads);
	*t = (struct trace){ 0 };
}
