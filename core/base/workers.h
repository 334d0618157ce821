/* SPDX-License-Identifier: Apache-2.0 */
/* workers.h - a pool of threads that run jobs in the order they were submitted.
 *
 * Threads: submit and wait may be called from any thread that is not a worker of the same pool.
 * Ownership: a job belongs to the caller (usually embedded in a larger struct) and must stay alive
 *   until workers_wait returned for it. */
#ifndef OVERLAYBD_BASE_WORKERS_H
#define OVERLAYBD_BASE_WORKERS_H

#include <stdbool.h>

#include "core/base/err.h"

struct workers;

struct job {
	void (*run)(struct job *j); /* set by the caller */
	/* The rest is the pool's, guarded by its lock. */
	struct job *next;
	bool done;
};

/* Starts `threads` threads; 0 is the serial mode: submit runs the job itself.  EAGAIN when the
 * system refuses a thread. */
int workers_open(unsigned threads, struct workers **out, struct err *e);

/* Queues a job, which must not be queued already.  Never fails. */
void workers_submit(struct workers *w, struct job *j);

/* Returns when the job has run.  What it wrote is visible to the caller. */
void workers_wait(struct workers *w, struct job *j);

/* Runs what is queued, joins the threads, frees w.  NULL is allowed. */
void workers_close(struct workers *w);

/* Processors this process may run on, at least 1. */
unsigned workers_cpus(void);

#endif
