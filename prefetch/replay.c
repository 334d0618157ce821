/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - see replay.h. */
#include "prefetch/replay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"

struct replay {
	struct image *image;
	struct plan plan;
	struct sequence *running; /* NULL: paused, or there is nothing to fetch */
};

int replay_open(struct image *image, const struct trace *t, struct replay **out, struct err *e)
{
	struct replay *r = malloc(sizeof *r);
	int code;

	if (!r)
		return err_set(e, ENOMEM, "out of memory");
	*r = (struct replay){ .image = image };
	code = plan_make(image, t, &r->plan, e);
	if (code < 0) {
		free(r);
		return code;
	}
	log_debug("replay: %zu reads, %llu chunks in %zu ranges", t->count,
		  (unsigned long long)r->plan.chunks, r->plan.count);
	*out = r;
	return 0;
}

/* A copy, since a sequence takes over its ranges. */
int replay_run(struct replay *r, struct err *e)
{
	struct sequence_range *left;
	size_t i, n = 0;

	if (r->running || r->plan.count == 0)
		return 0;
	left = malloc(r->plan.count * sizeof *left);
	if (!left)
		return err_set(e, ENOMEM, "out of memory");
	for (i = 0; i < r->plan.count; i++)
		if (!sequence_is_present(&r->plan.ranges[i]))
			left[n++] = r->plan.ranges[i];
	if (n == 0) {
		free(left);
		return 0;
	}
	return sequence_start(left, n, &r->running, e);
}

void replay_pause(struct replay *r)
{
	sequence_close(r->running);
	r->running = NULL;
}

enum plan_has replay_look_up(const struct replay *r, const struct trace_read *read)
{
	return plan_look_up(&r->plan, r->image, read);
}

void replay_close(struct replay *r)
{
	if (!r)
		return;
	replay_pause(r);
	plan_release(&r->plan);
	free(r);
}
