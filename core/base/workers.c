/* SPDX-License-Identifier: Apache-2.0 */
/* workers.c - the thread pool, see workers.h.
 *
 * One lock guards the queue and every job's `done`.  No lock is held while a job runs. */
#include "core/base/workers.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/scope.h"

struct workers {
	pthread_mutex_t lock;
	pthread_cond_t queued; /* a job was queued, or the pool stops */
	pthread_cond_t finished; /* a job is done */
	struct job *first; /* guarded by lock */
	struct job **last; /* guarded by lock */
	bool stopping; /* guarded by lock */
	unsigned threads;
	pthread_t thread[];
};

/* The next job, or NULL when the pool stops and nothing is left.  Caller holds the lock. */
static struct job *take_locked(struct workers *w)
{
	struct job *j;

	while (!w->first && !w->stopping)
		pthread_cond_wait(&w->queued, &w->lock);
	j = w->first;
	if (j) {
		w->first = j->next;
		if (!w->first)
			w->last = &w->first;
	}
	return j;
}

static void *work(void *arg)
{
	struct workers *w = arg;
	struct job *j;

	pthread_mutex_lock(&w->lock);
	while ((j = take_locked(w)) != NULL) {
		pthread_mutex_unlock(&w->lock);
		j->run(j);
		pthread_mutex_lock(&w->lock);
		j->done = true;
		pthread_cond_broadcast(&w->finished);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int workers_open(unsigned threads, struct workers **out, struct err *e)
{
	struct workers *w = calloc(1, sizeof *w + threads * sizeof w->thread[0]);

	if (!w)
		return err_set(e, ENOMEM, "out of memory");
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->queued, NULL);
	pthread_cond_init(&w->finished, NULL);
	w->last = &w->first;
	for (; w->threads < threads; w->threads++) {
		int code = pthread_create(&w->thread[w->threads], NULL, work, w);

		if (code != 0) {
			workers_close(w);
			return err_set(e, code, "starting a thread: %s", strerror(code));
		}
	}
	*out = w;
	return 0;
}

void workers_submit(struct workers *w, struct job *j)
{
	j->next = NULL;
	j->done = false;
	if (w->threads == 0) {
		j->run(j);
		j->done = true;
		return;
	}
	WITH_LOCK(&w->lock);
	*w->last = j;
	w->last = &j->next;
	pthread_cond_signal(&w->queued);
}

void workers_wait(struct workers *w, struct job *j)
{
	WITH_LOCK(&w->lock);
	while (!j->done)
		pthread_cond_wait(&w->finished, &w->lock);
}

void workers_close(struct workers *w)
{
	unsigned i;

	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->queued);
	pthread_mutex_unlock(&w->lock);
	for (i = 0; i < w->threads; i++)
		pthread_join(w->thread[i], NULL);
	pthread_cond_destroy(&w->finished);
	pthread_cond_destroy(&w->queued);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

unsigned workers_cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof set, &set) < 0)
		return 1;
	return (unsigned)CPU_COUNT(&set);
}
