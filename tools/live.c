/* SPDX-License-Identifier: Apache-2.0 */
/* live.c - see live.h. */
#include "tools/live.h"

void live_look(const char *path, struct live_file *out)
{
	out->known = stat(path, &out->status) == 0;
}

bool live_was_replaced(const char *path, const struct live_file *before)
{
	struct live_file now;

	live_look(path, &now);
	return now.known && (!before->known || now.status.st_ino != before->status.st_ino ||
			     now.status.st_dev != before->status.st_dev ||
			     now.status.st_mtim.tv_sec != before->status.st_mtim.tv_sec ||
			     now.status.st_mtim.tv_nsec != before->status.st_mtim.tv_nsec);
}

static int open_once(const char *path, struct image_config **config, struct image **image,
		     struct err *e)
{
	int r = config_load(path, NULL, config, e);

	if (r < 0)
		return r;
	r = image_open(*config, NULL, image, e);
	if (r < 0)
		config_free(*config);
	return r;
}

int live_open(const char *path, struct image_config **config, struct image **image, struct err *e)
{
	struct live_file before;
	unsigned try;
	int r;

	for (try = 0; try < LIVE_TRIES; try++) {
		live_look(path, &before);
		r = open_once(path, config, image, e);
		if (r == 0 || !live_was_replaced(path, &before))
			break;
	}
	return r;
}
