/* SPDX-License-Identifier: Apache-2.0 */
/* pairs.c - the paired measurement, see pairs.h. */
#include "bench/pairs.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TRIES = 3 };

struct times {
	double wall[PAIRS]; /* seconds */
	double cpu[PAIRS];
};

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void time_once(void (*work)(void *arg), void *arg, struct times *t, unsigned round)
{
	double wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);

	work(arg);
	t->wall[round] = now(CLOCK_MONOTONIC) - wall;
	t->cpu[round] = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *values)
{
	double sorted[PAIRS];
	unsigned i;

	for (i = 0; i < PAIRS; i++)
		sorted[i] = values[i];
	qsort(sorted, PAIRS, sizeof sorted[0], compare);
	return sorted[PAIRS / 2];
}

/* Median over the rounds of b's time by a's: how many times faster a is. */
static double median_ratio(const double *a, const double *b)
{
	double ratio[PAIRS];
	unsigned i;

	for (i = 0; i < PAIRS; i++)
		ratio[i] = b[i] / a[i];
	return median(ratio);
}

static void measure(const struct pairs *p, struct times *ours, struct times *peer,
		    struct times *control)
{
	unsigned round;

	p->ours(p->arg);
	p->peer(p->arg);
	for (round = 0; round < PAIRS; round++) {
		if (round % 2 == 0) {
			time_once(p->ours, p->arg, ours, round);
			time_once(p->peer, p->arg, peer, round);
			time_once(p->peer, p->arg, control, round);
		} else {
			time_once(p->peer, p->arg, control, round);
			time_once(p->peer, p->arg, peer, round);
			time_once(p->ours, p->arg, ours, round);
		}
	}
}

enum pairs_verdict pairs_run(const struct pairs *p)
{
	struct times ours, peer, control;
	double ratio, control_ratio;
	unsigned try;

	for (try = 0; try < TRIES; try++) {
		measure(p, &ours, &peer, &control);
		control_ratio = median_ratio(control.wall, peer.wall);
		ratio = median_ratio(ours.wall, peer.wall) / control_ratio;
		printf("%-28s %5.2fx (bar %.2f)  control %.2f  %.4g against %.4g %s/s  cpu %.2fx",
		       p->name, ratio, p->bar, control_ratio, p->work / median(ours.wall),
		       p->work / median(peer.wall), p->unit, median_ratio(ours.cpu, peer.cpu));
		if (control_ratio >= 0.95 && control_ratio <= 1.05) {
			printf("  %s\n", ratio >= p->bar ? "ok" : "MISSED");
			fflush(stdout);
			return ratio >= p->bar ? PAIRS_PASSED : PAIRS_MISSED;
		}
		printf("  VOID\n");
		fflush(stdout);
	}
	return PAIRS_VOID;
}

uint64_t pairs_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

int pairs_status(enum pairs_verdict verdict, int status)
{
	return (int)verdict > status ? (int)verdict : status;
}
