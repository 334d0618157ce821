/* SPDX-License-Identifier: Apache-2.0 */
/* visitor.h - a second thread that acts between two steps of the test's own, for TSan.
 *
 * The test's thread waits while the visitor acts, and the other way round, but only relaxed atomics
 * say whose turn it is, which order nothing else: what orders the two for TSan is the locks of the
 * code under test alone.  So a step of the test that leaves out its lock, and touches what the
 * visitor has touched just before, is a race in every run. */
#ifndef OVERLAYBD_TESTS_VISITOR_H
#define OVERLAYBD_TESTS_VISITOR_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

struct visitor {
	void (*act)(void);
	pthread_t thread;
	atomic_uint asked, done; /* visits */
	atomic_bool leaves;
};

static _Thread_local bool is_visitor; /* this thread */

static void *visitor_run(void *arg)
{
	struct visitor *v = arg;
	unsigned done = 0;

	is_visitor = true;
	while (!atomic_load_explicit(&v->leaves, memory_order_relaxed)) {
		if (atomic_load_explicit(&v->asked, memory_order_relaxed) == done) {
			sched_yield();
			continue;
		}
		v->act();
		atomic_store_explicit(&v->done, ++done, memory_order_relaxed);
	}
	return NULL;
}

static inline void visitor_begin(struct visitor *v, void (*act)(void))
{
	v->act = act;
	atomic_init(&v->asked, 0);
	atomic_init(&v->done, 0);
	atomic_init(&v->leaves, false);
	if (pthread_create(&v->thread, NULL, visitor_run, v) != 0)
		abort();
}

/* Has it act, once. */
static inline void visitor_visit(struct visitor *v)
{
	unsigned asked = atomic_load_explicit(&v->asked, memory_order_relaxed) + 1;

	atomic_store_explicit(&v->asked, asked, memory_order_relaxed);
	while (atomic_load_explicit(&v->done, memory_order_relaxed) != asked)
		sched_yield();
}

static inline void visitor_end(struct visitor *v)
{
	atomic_store_explicit(&v->leaves, true, memory_order_relaxed);
	pthread_join(v->thread, NULL);
}

#endif
