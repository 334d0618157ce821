/* SPDX-License-Identifier: Apache-2.0 */
/* index.c - the merged index: look-ups against a plain binary search, merging against qsort,
 * memory.
 *
 * Usage: bench-index.  Takes about a minute. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/pairs.h"
#include "core/base/le.h"
#include "core/base/workers.h"
#include "core/format.h"
#include "core/image.h"
#include "core/index.h"
#include "core/layer_writer.h"

enum { LOOKUPS = 1 << 19, LAYERS = 30, MERGED = 1000000 };

struct lookups {
	struct index *index;
	struct mapping *maps; /* the peer's array, one sentinel behind it */
	size_t count;
	uint64_t *lbas;
	uint64_t sum; /* of all answers, so that none is optimised away */
};

static uint64_t random_state = 1;

/* The plain loop that any implementation begins with. */
__attribute__((noinline)) static struct segment plain_lookup(const struct mapping *m, size_t count,
							     uint64_t lba, uint64_t sectors)
{
	size_t lo = 0, hi = count, mid;

	while (lo < hi) {
		mid = (lo + hi) / 2;
		if (mapping_end(m[mid]) <= lba)
			lo = mid + 1;
		else
			hi = mid;
	}
	return segment_at(m[lo], lba, sectors);
}

/* What a look-up said, without a branch that would cost both loops the same. */
static inline uint64_t answer(const struct segment *s)
{
	return s->sectors + (s->moffset & -(uint64_t)s->mapped);
}

static void ours_lookups(void *arg)
{
	struct lookups *l = arg;
	size_t i;

	for (i = 0; i < LOOKUPS; i++) {
		struct segment s = segment_at(
			index_maps(l->index)[index_find(l->index, l->lbas[i])], l->lbas[i], 8);

		l->sum += answer(&s);
	}
}

static void peer_lookups(void *arg)
{
	struct lookups *l = arg;
	size_t i;

	for (i = 0; i < LOOKUPS; i++) {
		struct segment s = plain_lookup(l->maps, l->count, l->lbas[i], 8);

		l->sum += answer(&s);
	}
}

/* Mappings of 8 to 63 sectors with gaps of up to 63 between them. */
static struct mapping_run make_run(size_t count, uint64_t *end)
{
	struct mapping_run run = { .maps = malloc(count * sizeof *run.maps), .count = count };
	size_t i;

	for (*end = 0, i = 0; i < count; i++) {
		uint64_t start = *end + pairs_random(&random_state) % 64,
			 sectors = 8 + pairs_random(&random_state) % 56;

		run.maps[i] = mapping_make(start, sectors, 0, 8 + 64 * i, false);
		*end = start + sectors;
	}
	return run;
}

/* The two must agree before they are timed. */
static void check_lookups(struct lookups *l)
{
	uint64_t ours, peer;

	l->sum = 0;
	ours_lookups(l);
	ours = l->sum;
	l->sum = 0;
	peer_lookups(l);
	peer = l->sum;
	if (ours != peer) {
		fprintf(stderr, "bench-index: look-ups disagree\n");
		exit(1);
	}
}

static int bench_lookups(size_t count, double bar)
{
	struct lookups l = { .count = count, .lbas = malloc(LOOKUPS * sizeof *l.lbas) };
	uint64_t end;
	struct mapping_run run = make_run(count, &end);
	enum pairs_verdict verdict;
	char name[64];
	size_t i;

	if (index_merge(&run, 1, NULL, &l.index, NULL) < 0)
		exit(1);
	l.maps = malloc((count + 1) * sizeof *l.maps);
	memcpy(l.maps, index_maps(l.index), (count + 1) * sizeof *l.maps);
	for (i = 0; i < LOOKUPS; i++)
		l.lbas[i] = pairs_random(&random_state) % end;
	check_lookups(&l);
	snprintf(name, sizeof name, "lookup, %zu mappings", count);
	verdict = pairs_run(&(struct pairs){ .name = name,
					     .ours = ours_lookups,
					     .peer = peer_lookups,
					     .arg = &l,
					     .work = LOOKUPS,
					     .unit = "lookups",
					     .bar = bar });
	printf("%-28s %5.1f bytes a mapping (bar 24)\n", "",
	       (double)index_memory(l.index) / (double)count);
	index_close(l.index);
	free(l.maps);
	free(l.lbas);
	return pairs_status(verdict, 0);
}

struct merge {
	const struct image_config *config;
	struct mapping *unsorted;
	struct mapping *sorted;
	size_t memory; /* of the index, after the last merge */
	size_t mappings;
};

static void ours_merge(void *arg)
{
	struct merge *m = arg;
	struct image *image;
	struct err e;

	if (image_open(m->config, NULL, &image, &e) < 0) {
		fprintf(stderr, "bench-index: %s\n", e.msg);
		exit(1);
	}
	m->memory = index_memory(image_index(image));
	m->mappings = index_count(image_index(image));
	image_close(image);
}

static int by_start(const void *a, const void *b)
{
	uint64_t x = mapping_start(*(const struct mapping *)a);
	uint64_t y = mapping_start(*(const struct mapping *)b);

	return (x > y) - (x < y);
}

static void peer_merge(void *arg)
{
	struct merge *m = arg;

	memcpy(m->sorted, m->unsorted, MERGED * sizeof *m->sorted);
	qsort(m->sorted, MERGED, sizeof *m->sorted, by_start);
}

/* A layer of MERGED / LAYERS mappings of 8 sectors at random places. */
static void write_layer(const char *path, uint64_t sectors)
{
	struct layer_writer_options options = { .virtual_size = sectors * SECTOR };
	static const uint8_t data[8 * SECTOR];
	uint64_t stride = sectors / (MERGED / LAYERS), i;
	struct layer_writer *w;
	struct sink *s;
	struct err e;
	int r = sink_open_file(path, &s, &e);

	if (r == 0)
		r = layer_writer_open(s, &options, &w, &e);
	for (i = 0; r == 0 && i < MERGED / LAYERS; i++)
		r = layer_writer_data(w, i * stride + pairs_random(&random_state) % (stride - 8),
				      data, 8, &e);
	if (r == 0)
		r = layer_writer_finish(w, &e);
	if (r < 0) {
		fprintf(stderr, "bench-index: %s\n", e.msg);
		exit(1);
	}
	layer_writer_close(w);
}

static int bench_merge(void)
{
	char folder[] = "/var/tmp/bench-index.XXXXXX";
	struct lower_config lowers[LAYERS] = { 0 };
	struct image_config config = { .path = folder, .lowers = lowers, .lower_count = LAYERS };
	struct merge m = { .config = &config,
			   .unsorted = malloc(MERGED * sizeof *m.unsorted),
			   .sorted = malloc(MERGED * sizeof *m.sorted) };
	enum pairs_verdict verdict;
	size_t i;

	if (!mkdtemp(folder))
		exit(1);
	for (i = 0; i < LAYERS; i++) {
		if (asprintf(&lowers[i].file, "%s/%zu.obd", folder, i) < 0)
			exit(1);
		write_layer(lowers[i].file, UINT64_C(200) << 21);
	}
	for (i = 0; i < MERGED; i++)
		m.unsorted[i] = mapping_make(pairs_random(&random_state) >> 20, 8, 0, 8, false);
	verdict = pairs_run(&(struct pairs){ .name = "open and merge 30 layers",
					     .ours = ours_merge,
					     .peer = peer_merge,
					     .arg = &m,
					     .work = MERGED,
					     .unit = "mappings",
					     .bar = 1 / 1.5 });
	printf("%-28s %5.1f bytes a mapping (bar 24), %zu mappings of %d\n", "",
	       (double)m.memory / (double)m.mappings, m.mappings, MERGED);
	for (i = 0; i < LAYERS; i++) {
		remove(lowers[i].file);
		free(lowers[i].file);
	}
	remove(folder);
	free(m.unsorted);
	free(m.sorted);
	return pairs_status(verdict, 0);
}

int main(void)
{
	static const struct {
		size_t count;
		double bar;
	} sizes[] = { { 1000, 3 }, { 10000, 3 }, { 100000, 3 }, { 1000000, 2 } };
	int status = 0, r;
	size_t i;

	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		r = bench_lookups(sizes[i].count, sizes[i].bar);
		status = r > status ? r : status;
	}
	r = bench_merge();
	return r > status ? r : status;
}
