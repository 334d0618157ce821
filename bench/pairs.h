/* SPDX-License-Identifier: Apache-2.0 */
/* pairs.h - speed as a ratio against a peer, on machines whose own speed drifts.
 *
 * Ours and the peer do the same work in turn, 21 times, the order alternating, and a second run of
 * the peer in each round is the control.  The median of ours against the peer is divided by the
 * median of the control against the peer.  A control outside 0.95 to 1.05 voids the measurement: it
 * is then made again, twice at most. */
#ifndef OVERLAYBD_BENCH_PAIRS_H
#define OVERLAYBD_BENCH_PAIRS_H

#include <stdint.h>

enum { PAIRS = 21 };

struct pairs {
	const char *name;
	void (*ours)(void *arg); /* does the work once */
	void (*peer)(void *arg); /* the same work, the plain way */
	void *arg;
	double work; /* units of work that a call does, to print a rate */
	const char *unit; /* "lookups", "reads", "MB" */
	double bar; /* lowest acceptable ratio of the speeds */
};

enum pairs_verdict { PAIRS_PASSED, PAIRS_MISSED, PAIRS_VOID };

/* Measures and prints one line: ratio, control, both rates, CPU time of ours against the peer's. */
enum pairs_verdict pairs_run(const struct pairs *p);

/* The next of a sequence of random numbers (splitmix64); the seed is the first state. */
uint64_t pairs_random(uint64_t *state);

/* Exit status of a benchmark: 0 passed, 1 a bar was missed, 2 void. */
int pairs_status(enum pairs_verdict verdict, int status);

#endif
