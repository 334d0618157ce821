/* SPDX-License-Identifier: Apache-2.0 */
/* progress.c - the progress line, see progress.h. */
#include "tools/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "core/base/le.h"
#include "tools/show.h"

enum {
	BAR = 30, /* characters */
	REDRAW = 100, /* milliseconds */
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void progress_init(struct progress *p, const char *what, uint64_t total)
{
	*p = (struct progress){
		.what = what, .total = total, .started = now(), .shown = isatty(STDERR_FILENO)
	};
}

static void draw(const struct progress *p, uint64_t time)
{
	static const char full[BAR + 1] = "##############################";
	double share = p->total ? (double)min_u64(p->done, p->total) / (double)p->total : 1;
	int filled = (int)(share * BAR);
	uint64_t elapsed = max_u64(time - p->started, 1);
	char rate[SHOW_SIZE];

	fprintf(stderr, "\r%s [%.*s%*s] %3d%% %s/s\033[K", p->what, filled, full, BAR - filled, "",
		(int)(share * 100), show_size(p->done / elapsed * 1000, rate));
	fflush(stderr);
}

void progress_add(struct progress *p, uint64_t n)
{
	uint64_t time;

	p->done += n;
	if (!p->shown)
		return;
	time = now();
	if (p->drawn != 0 && time - p->drawn < REDRAW)
		return;
	draw(p, time);
	p->drawn = time;
}

void progress_clear(struct progress *p)
{
	if (p->drawn == 0)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	p->drawn = 0;
}
