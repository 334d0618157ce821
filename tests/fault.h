/* SPDX-License-Identifier: Apache-2.0 */
/* fault.h - sources and sinks that fail, lie and keep count, for tests.
 *
 * Every read fails once: loop k = 0, 1, ... with fail_at = k until `fired` stays false; each round
 * checks code, message and (ASan) leaks, and that the next try works.
 *
 *	for (k = 0;; k++) {
 *		struct fault f = { .fail_at = k };
 *		...
 *		if (!f.fired)
 *			break;
 *	}
 *
 * Threads: calls are counted atomically; the other fields belong to single-threaded tests. */
#ifndef OVERLAYBD_TESTS_FAULT_H
#define OVERLAYBD_TESTS_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/sink.h"
#include "core/base/source.h"

#define FAULT_NEVER UINT64_MAX

/* What goes wrong, and what happened.  Set by the test, kept alive until the source or sink is
 * closed; several may share one, which then counts the calls of all. */
struct fault {
	/* Set by the test. */
	uint64_t
		fail_at; /* the call with this number (from 0) is EIO, "injected fault at call N" */
	uint64_t flip_off; /* the byte that reads with its bits inverted while flips > 0 */
	unsigned flips;

	/* What happened. */
	_Atomic uint64_t calls; /* source: preads; sink: writes, patches and finishes */
	bool fired; /* the EIO was returned */
	unsigned drops, prefetches, closes;
	uint64_t last_off, last_n; /* of the last drop or prefetch */
};

/* Passes all on to `below`, but for the fault.  A drop that covers flip_off takes one off flips, as
 * if better bytes had been fetched. */
void fault_open_source(struct source *below, struct fault *f, struct source **out);

/* The same for a sink. */
void fault_open_sink(struct sink *below, struct fault *f, struct sink **out);

#endif
