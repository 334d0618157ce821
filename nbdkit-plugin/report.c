/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - see report.h. */
#include "nbdkit-plugin/report.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/base/scope.h"
#include "fetch/stats.h"

static const char *path_of(const struct disk *d)
{
	return d->config->fetch.stats;
}

static bool shares_path(const struct disk *d, const char *path)
{
	return path_of(d) && strcmp(path_of(d), path) == 0;
}

/* Whether a disk before this one has the same file. */
static bool is_written(struct disk *const *disks, size_t i)
{
	size_t j;

	for (j = 0; j < i; j++)
		if (shares_path(disks[j], path_of(disks[i])))
			return true;
	return false;
}

static void write_one(struct disk *const *disks, size_t count, const char *path)
{
	AUTO_FREE struct stats_group **groups = calloc(count, sizeof(struct stats_group *));
	size_t i, n = 0;
	struct err e;

	if (!groups)
		return;
	for (i = 0; i < count; i++)
		if (shares_path(disks[i], path))
			groups[n++] = image_stats(disks[i]->image);
	if (stats_write(groups, n, path, &e) < 0)
		log_warn("statistics: %s", e.msg);
}

void report_write(struct disk *const *disks, size_t count, bool last)
{
	size_t i;

	for (i = 0; i < count; i++) {
		const char *path = path_of(disks[i]);

		if (path && (last || strcmp(path, "-") != 0) && !is_written(disks, i))
			write_one(disks, count, path);
	}
}
