/* SPDX-License-Identifier: Apache-2.0 */
/* test-index.c - the merged index against a plain model: an array that says, for each sector, which
 * layer holds it and where. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/index.h"
#include "tests/unit/alloc.h"
#include "tests/unit/heap.h"
#include "tests/unit/loops.h"

struct sector {
	uint32_t layer; /* 0: not mapped, else number + 1 */
	bool zeroed;
	uint64_t moffset;
};

/* A layer with about `density` percent of [base, base + sectors) mapped, written to the model too.
 */
static struct mapping_run random_run(struct sector *model, uint64_t base, uint64_t sectors,
				     size_t layer, unsigned longest, unsigned density)
{
	struct mapping_run run = { .maps = malloc((sectors + 1) * sizeof *run.maps) };
	uint64_t lba = 0, i;

	while (lba < sectors) {
		uint64_t n = 1 + loops_random() % longest;
		uint64_t moffset = 8 + loops_random() % (UINT64_C(1) << 40);
		bool zeroed = loops_random() % 8 == 0;

		n = n < sectors - lba ? n : sectors - lba;
		if (loops_random() % 100 < density) {
			run.maps[run.count++] = mapping_make(base + lba, n, layer, moffset, zeroed);
			for (i = 0; i < n; i++)
				model[lba + i] = (struct sector){ .layer = (uint32_t)layer + 1,
								  .zeroed = zeroed,
								  .moffset = moffset + i };
		}
		lba += n;
	}
	return run;
}

static struct segment lookup(const struct index *ix, uint64_t lba, uint64_t sectors)
{
	return segment_at(index_maps(ix)[index_find(ix, lba)], lba, sectors);
}

static void check_segment(const struct sector *model, uint64_t at, uint64_t want, struct segment s)
{
	uint64_t i;

	assert_true(s.sectors >= 1 && s.sectors <= want);
	for (i = 0; i < s.sectors; i++) {
		const struct sector *m = &model[at + i];

		assert_int_equal(s.mapped, m->layer != 0);
		if (!s.mapped)
			continue;
		assert_int_equal(s.layer + 1, m->layer);
		assert_int_equal(s.zeroed, m->zeroed);
		if (!s.zeroed)
			assert_int_equal(s.moffset + i, m->moffset);
	}
}

/* Every sector is asked for, and the array is what the header promises. */
static void check_index(const struct index *ix, const struct sector *model, uint64_t base,
			uint64_t sectors)
{
	const struct mapping *maps = index_maps(ix);
	uint64_t lba, end = 0;
	size_t i;

	for (i = 0; i < index_count(ix); i++) {
		assert_true(mapping_start(maps[i]) >= end);
		assert_true(mapping_sectors(maps[i]) > 0);
		end = mapping_end(maps[i]);
	}
	for (lba = 0; lba < sectors; lba++) {
		uint64_t want = 1 + loops_random() % (sectors - lba);

		check_segment(model, lba, want, lookup(ix, base + lba, want));
		i = index_find(ix, base + lba);
		assert_true(i == index_count(ix) || mapping_end(maps[i]) > base + lba);
		assert_true(i == 0 || mapping_end(maps[i - 1]) <= base + lba);
	}
	assert_true(index_memory(ix) <= 24 * index_count(ix) + 512);
}

static void merge_and_check(size_t layers, uint64_t base, uint64_t sectors, unsigned longest,
			    unsigned density, struct workers *pool)
{
	struct sector *model = calloc(sectors, sizeof *model);
	struct mapping_run *runs = calloc(layers + 1, sizeof *runs);
	struct index *ix;
	size_t i;

	for (i = 0; i < layers; i++)
		runs[i] = random_run(model, base, sectors, i, longest, density);
	assert_int_equal(index_merge(runs, layers, pool, &ix, NULL), 0);
	check_index(ix, model, base, sectors);
	index_close(ix);
	free(runs);
	free(model);
}

static void any_number_of_layers(void **state)
{
	static const size_t layers[] = { 0, 1, 2, 3, 30, 255, 256, 257, 1000 };
	struct workers *pool;
	size_t i;

	assert_int_equal(workers_open(2, &pool, NULL), 0);
	for (i = 0; i < sizeof layers / sizeof layers[0]; i++) {
		merge_and_check(layers[i], 0, 3000, 40, 30, NULL);
		merge_and_check(layers[i], 0, 3000, 40, 3, pool);
	}
	workers_close(pool);
}

static void random_shapes(void **state)
{
	unsigned i, rounds = loops_count(2000);

	for (i = 0; i < rounds; i++)
		merge_and_check(1 + loops_random() % 6, loops_random() % 5000,
				1 + loops_random() % 700, 1 + (unsigned)(loops_random() % 30),
				(unsigned)(loops_random() % 101), NULL);
}

/* Mappings around every multiple of 2^32 sectors (2 TiB), where the trees change. */
static void beyond_two_tebibytes(void **state)
{
	static const uint64_t at[] = { (UINT64_C(1) << 32) - 400, (UINT64_C(5) << 32) - 400,
				       (UINT64_C(1) << 50) - 801, (UINT64_C(1) << 32) };
	size_t i;

	for (i = 0; i < sizeof at / sizeof at[0]; i++) {
		merge_and_check(4, at[i], 800, 10, 60, NULL);
		merge_and_check(2, at[i], 800, 300, 50, NULL);
	}
}

static void zero_and_far_beyond(void **state)
{
	static const uint64_t far[] = { UINT64_C(3) << 32, (UINT64_C(1) << 49) + 7 };
	size_t i;

	for (i = 0; i < 2; i++) {
		struct mapping_run run = { .maps = malloc(3 * sizeof *run.maps), .count = 3 };
		struct segment s;
		struct index *ix;

		run.maps[0] = mapping_make(0, 8, 0, 8, false);
		run.maps[1] = mapping_make((UINT64_C(1) << 32) - 1, 16383, 0, 16, false);
		run.maps[2] = mapping_make(far[i], 1, 0, 20000, false);
		assert_int_equal(index_merge(&run, 1, NULL, &ix, NULL), 0);
		s = lookup(ix, 0, 100);
		assert_true(s.mapped && s.sectors == 8 && s.moffset == 8);
		s = lookup(ix, 8, UINT64_C(1) << 40);
		assert_true(!s.mapped && s.sectors == (UINT64_C(1) << 32) - 9);
		s = lookup(ix, (UINT64_C(1) << 32) - 1, 1);
		assert_true(s.mapped && s.moffset == 16);
		s = lookup(ix, UINT64_C(1) << 32, 100000);
		assert_true(s.mapped && s.moffset == 17 && s.sectors == 16382);
		s = lookup(ix, UINT64_C(2) << 32, UINT64_C(1) << 50);
		assert_true(!s.mapped && s.sectors == far[i] - (UINT64_C(2) << 32));
		s = lookup(ix, far[i], 5);
		assert_true(s.mapped && s.sectors == 1 && s.moffset == 20000);
		s = lookup(ix, far[i] + 1, 5);
		assert_true(!s.mapped && s.sectors == 5);
		assert_int_equal(index_find(ix, far[i] + 1), 3);
		index_close(ix);
	}
}

/* Sizes around whole nodes of the tree: 4 mappings a key, 16 keys a node. */
static void tree_shapes(void **state)
{
	static const size_t counts[] = { 1,  3,	 4,    5,    63,   64,	 65,	67,
					 68, 69, 1023, 1024, 1025, 1029, 16385, 20000 };
	size_t i, j;

	for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		struct mapping_run run = { .maps = malloc(counts[i] * sizeof *run.maps),
					   .count = counts[i] };
		struct index *ix;

		for (j = 0; j < counts[i]; j++)
			run.maps[j] = mapping_make(5 + 3 * j, 2, 7, 100 + j, false);
		assert_int_equal(index_merge(&run, 1, NULL, &ix, NULL), 0);
		assert_int_equal(index_count(ix), counts[i]);
		assert_int_equal(index_find(ix, 0), 0);
		for (j = 0; j < counts[i]; j++) {
			assert_int_equal(index_find(ix, 5 + 3 * j), j);
			assert_int_equal(index_find(ix, 6 + 3 * j), j);
			assert_int_equal(index_find(ix, 7 + 3 * j), j + 1);
			assert_int_equal(lookup(ix, 6 + 3 * j, 9).moffset, 101 + j);
			assert_int_equal(lookup(ix, 6 + 3 * j, 9).layer, 7);
		}
		index_close(ix);
	}
}

/* Three overlapping runs and an empty one, of several regions. */
static void make_runs(struct mapping_run *runs)
{
	size_t i, k;

	for (i = 0; i < 4; i++) {
		size_t count = i == 2 ? 0 : 20;

		runs[i] = (struct mapping_run){ .maps = calloc(count + 1, sizeof *runs[i].maps),
						.count = count };
		for (k = 0; k < count; k++)
			runs[i].maps[k] = mapping_make((k << 31) + i, 5, i, 100 * k, false);
	}
}

static int merge_runs(struct mapping_run *runs, struct workers *pool, struct err *e)
{
	struct index *ix;
	int r = index_merge(runs, 4, pool, &ix, e);

	if (r == 0) {
		struct segment s = lookup(ix, UINT64_C(3) << 31, 9);

		assert_true(s.mapped && s.layer == 0 && s.sectors == 1 && s.moffset == 300);
		s = lookup(ix, (UINT64_C(3) << 31) + 1, 9);
		assert_true(s.mapped && s.layer == 1 && s.sectors == 2 && s.moffset == 300);
		s = lookup(ix, (UINT64_C(3) << 31) + 3, 9);
		assert_true(s.mapped && s.layer == 3 && s.sectors == 5 && s.moffset == 300);
		assert_int_equal(index_count(ix), 60);
		index_close(ix);
	}
	return r;
}

/* Whatever fails, the runs are used up, and nothing is lost (ASan, and the heap). */
static void each_allocation_fails_once(void **state)
{
	struct mapping_run runs[4];
	struct workers *pool;
	unsigned threads, i;
	long k;
	int r;

	for (threads = 0; threads < 2; threads++) {
		assert_int_equal(workers_open(0, &pool, NULL), 0);
		for (k = 0, r = -ENOMEM; r == -ENOMEM; k++) {
			struct err e = { "" };

			make_runs(runs);
			alloc_left = k;
			r = merge_runs(runs, threads ? pool : NULL, &e);
			alloc_left = -1;
			for (i = 0; i < 4; i++)
				assert_true(!runs[i].maps && runs[i].count == 0);
			if (r == -ENOMEM)
				assert_non_null(strstr(e.msg, "out of memory"));
		}
		assert_int_equal(r, 0);
		assert_int_equal(k, 9); /* jobs, three merges, index, mappings, regions, keys */
		workers_close(pool);
	}
}

static void merge_once(long allocations, int want)
{
	struct mapping_run runs[4];

	make_runs(runs);
	alloc_left = allocations;
	assert_int_equal(merge_runs(runs, NULL, NULL), want);
	alloc_left = -1;
}

static void nothing_is_left_behind(void **state)
{
	long k;

	for (k = 0; k < 8; k++)
		HEAP_STEADY(merge_once(k, -ENOMEM));
	HEAP_STEADY(merge_once(-1, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_number_of_layers),
		cmocka_unit_test(random_shapes),
		cmocka_unit_test(beyond_two_tebibytes),
		cmocka_unit_test(zero_and_far_beyond),
		cmocka_unit_test(tree_shapes),
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(nothing_is_left_behind),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
