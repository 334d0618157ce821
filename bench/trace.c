/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c - what recording costs a read, and loading and planning a trace of 1 Mi reads against
 * qsort over as many.
 *
 * Usage: bench-trace CONFIG, of an image whose layers are in a registry or in the cache:
 * bench/launch makes one and runs this. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bench/pairs.h"
#include "core/base/clock.h"
#include "core/identity.h"
#include "core/image.h"
#include "prefetch/plan.h"
#include "prefetch/recorder.h"
#include "prefetch/trace.h"

enum {
	READS = TRACE_READS_MAX,
	THREADS = 2, /* the machines that this is measured on have so many processors */
	ROUNDS = 21,
};

#define NOTE_BAR 100.0 /* ns */

struct bench {
	struct image_config *config;
	struct image *image;
	char path[64]; /* of the trace */
	struct trace_read *reads;
};

static uint64_t random_state = 1;

static void must(int r, const struct err *e)
{
	if (r < 0) {
		fprintf(stderr, "bench-trace: %s\n", e->msg);
		exit(1);
	}
}

/* Reads of 4 to 128 KiB all over the data of the image. */
static void make_reads(struct bench *b)
{
	const struct mapping *maps = index_maps(image_index(b->image));
	size_t count = index_count(image_index(b->image)), i;
	uint64_t disk = image_size(b->image) / SECTOR;

	b->reads = malloc(READS * sizeof *b->reads);
	for (i = 0; i < READS; i++) {
		struct mapping m = maps[pairs_random(&random_state) % count];
		uint64_t lba = mapping_start(m) + pairs_random(&random_state) % mapping_sectors(m);
		uint64_t n = UINT64_C(8) << pairs_random(&random_state) % 6;

		b->reads[i] =
			(struct trace_read){ .lba = lba,
					     .sectors = (uint32_t)(n < disk - lba ? n : disk - lba),
					     .us = (uint32_t)i };
	}
}

static void open_bench(struct bench *b, const char *config)
{
	struct trace t = { .count = READS };
	struct err e;
	int fd;

	must(config_load(config, NULL, &b->config, &e), &e);
	must(image_open(b->config, NULL, &b->image, &e), &e);
	make_reads(b);
	t.reads = b->reads;
	t.disk_size = image_size(b->image);
	must(image_identity(b->image, t.identity, &e), &e);
	snprintf(b->path, sizeof b->path, "/var/tmp/bench-trace.XXXXXX");
	fd = mkstemp(b->path);
	if (fd < 0) {
		perror(b->path);
		exit(1);
	}
	close(fd);
	must(trace_save(&t, b->path, &e), &e);
}

/* ---- load and plan ---- */

static void load_and_plan(void *arg)
{
	struct bench *b = arg;
	struct trace t;
	struct plan p;
	struct err e;

	must(trace_load(b->path, &t, &e), &e);
	must(plan_make(b->image, &t, &p, &e), &e);
	if (p.chunks == 0) {
		fprintf(stderr, "bench-trace: no layer of the image is remote\n");
		exit(1);
	}
	plan_release(&p);
	trace_release(&t);
}

static int by_lba(const void *a, const void *b)
{
	const struct trace_read *x = a, *y = b;

	return x->lba < y->lba ? -1 : x->lba > y->lba;
}

static void sort(void *arg)
{
	const struct bench *b = arg;
	struct trace_read *copy = malloc(READS * sizeof *copy);

	memcpy(copy, b->reads, READS * sizeof *copy);
	qsort(copy, READS, sizeof *copy, by_lba);
	free(copy);
}

/* ---- recording ---- */

struct noter {
	struct recorder *recorder;
	double ns; /* of processor time, a read */
};

static double thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *note_all(void *arg)
{
	struct noter *n = arg;
	double begin = thread_ns();
	size_t i;

	for (i = 0; i < READS / THREADS; i++)
		recorder_note(n->recorder, i << 12, 4096);
	n->ns = (thread_ns() - begin) / (READS / THREADS);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Threads that note reads as fast as they can, which is the worst case: the median of ns a read. */
static double note_time(unsigned threads)
{
	struct noter noters[THREADS];
	double times[ROUNDS];
	pthread_t t[THREADS];
	struct recorder *r;
	struct err e;
	unsigned i, k;

	must(recorder_open(UINT32_MAX, UINT32_MAX, &r, &e), &e);
	for (i = 0; i < ROUNDS; i++) {
		for (k = 0; k < threads; k++) {
			noters[k].recorder = r;
			pthread_create(&t[k], NULL, note_all, &noters[k]);
		}
		for (k = 0; k < threads; k++)
			pthread_join(t[k], NULL);
		times[i] = noters[0].ns;
		recorder_reset(r);
	}
	recorder_close(r);
	qsort(times, ROUNDS, sizeof *times, by_value);
	return times[ROUNDS / 2];
}

static int measure_note(unsigned threads)
{
	double ns = note_time(threads);
	bool ok = ns <= NOTE_BAR;

	printf("noting a read, %u thread%s: %.0f ns <= %.0f %s\n", threads, threads > 1 ? "s" : "",
	       ns, NOTE_BAR, ok ? "ok" : "MISSED");
	return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct bench b = { 0 };
	struct pairs planning = { .name = "loading and planning 1 Mi reads : qsort",
				  .ours = load_and_plan,
				  .peer = sort,
				  .arg = &b,
				  .work = READS,
				  .unit = "reads",
				  .bar = 0.5 };
	int status;

	if (argc != 2) {
		fprintf(stderr, "usage: bench-trace CONFIG\n");
		return 2;
	}
	open_bench(&b, argv[1]);
	status = pairs_status(pairs_run(&planning), measure_note(1) | measure_note(THREADS));
	unlink(b.path);
	image_close(b.image);
	config_free(b.config);
	free(b.reads);
	return status;
}
