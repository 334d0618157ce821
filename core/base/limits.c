/* SPDX-License-Identifier: Apache-2.0 */
/* limits.c - see limits.h. */
#include "core/base/limits.h"

#include <sys/resource.h>

void limits_raise_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}
