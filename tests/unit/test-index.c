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

/* Keys of all levels over so many mappings. */
static size_t keys_over(size_t mappings)
{
	size_t n = mappings / 4 + (mappings % 4 != 0), total = 0, full;

	do {
		full = (n + 15) / 16 * 16;
		total += full;
		n = full / 16;
	} while (full > 16);
	return total;
}

/* The index in what of its memory is one line a group and node: the mappings with four sentinels,
 * the keys. */
static void check_lines(size_t mappings, size_t keys)
{
	assert_int_equal(alloc_count, 2);
	assert_true(alloc_block_is(0, 64, (16 * (mappings + 4) + 63) / 64 * 64));
	assert_true(alloc_block_is(1, 64, 4 * keys));
}

/* One that maps nothing gives holes everywhere. */
static void an_empty_index(void **state)
{
	static const uint64_t at[] = { 0,
				       1,
				       UINT64_C(0xffffffff),
				       UINT64_C(1) << 32,
				       ((UINT64_C(1) << 18) - 1) << 32,
				       (UINT64_C(1) << 50) - 2 };
	struct mapping_run one = { .maps = malloc(sizeof *one.maps), .count = 1 };
	struct index *ix;
	size_t i, empty;

	alloc_count = 0;
	assert_int_equal(index_merge(NULL, 0, NULL, &ix, NULL), 0);
	check_lines(0, 16);
	for (i = 0; i < sizeof at / sizeof *at; i++) {
		struct segment s = lookup(ix, at[i], 1);

		assert_int_equal(index_find(ix, at[i]), 0);
		assert_true(!s.mapped && s.sectors == 1);
	}
	empty = index_memory(ix);
	/* The keys, the sentinels, and two small structs. */
	assert_true(empty > 4 * 16 + 4 * 16 + 100 && empty < 4 * 16 + 4 * 16 + 300);
	index_close(ix);
	one.maps[0] = mapping_make(7, 2, 0, 8, false);
	assert_int_equal(index_merge(&one, 1, NULL, &ix, NULL), 0);
	assert_int_equal(index_memory(ix), empty + 16);
	index_close(ix);
}

/* One mapping in each region: their trees stand one behind the other. */
static void memory_of_regions(void **state)
{
	size_t regions, i, before = 0, step = 0;

	for (regions = 1; regions < 12; regions++) {
		struct mapping_run run = { .maps = malloc(regions * sizeof *run.maps),
					   .count = regions };
		struct index *ix;
		size_t memory;

		for (i = 0; i < regions; i++)
			run.maps[i] = mapping_make((i + 3) << 32, 1, 0, 8, false);
		alloc_count = 0;
		assert_int_equal(index_merge(&run, 1, NULL, &ix, NULL), 0);
		check_lines(regions, 16 * regions);
		memory = index_memory(ix);
		/* A mapping, a node, and what says where the tree is. */
		if (regions > 1)
			assert_true(memory > before + 16 + 64 + 32);
		if (regions > 2)
			assert_int_equal(memory - before, step);
		step = memory - before;
		before = memory;
		index_close(ix);
	}
}

/* The first mapping that ends after lba, one after the other. */
static size_t find_slowly(const struct mapping *maps, size_t count, uint64_t lba)
{
	size_t i = 0;

	while (i < count && mapping_end(maps[i]) <= lba)
		i++;
	return i;
}

/* Few mappings, far apart or not, many of them from one region into the next. */
static void many_regions(void **state)
{
	unsigned round, rounds = loops_count(2000);

	for (round = 0; round < rounds; round++) {
		size_t count = 1 + loops_random() % 40, i, k;
		struct mapping_run run = { .maps = malloc(count * sizeof *run.maps),
					   .count = count };
		uint64_t start = loops_random() % 3 << 32;
		struct mapping *maps = malloc(count * sizeof *maps);
		struct index *ix;

		for (i = 0; i < count; i++) {
			uint64_t n = 1 + loops_random() % 16383;

			switch (loops_random() % 4) {
			case 0: /* over the next border, or up to it */
				start = ((start >> 32) + 1) << 32;
				start -= 1 + loops_random() % (n + 1);
				break;
			case 1:
				start += loops_random() % 3 << 32;
				break;
			case 2:
				start += loops_random() % 100;
			}
			maps[i] = run.maps[i] = mapping_make(start, n, 0, 8, false);
			start += n;
			if (start % (UINT64_C(1) << 32) > (UINT64_C(1) << 32) - 20000)
				start += 20000;
		}
		assert_int_equal(index_merge(&run, 1, NULL, &ix, NULL), 0);
		for (i = 0; i < count; i++) {
			const uint64_t at[] = { mapping_start(maps[i]) -
							(mapping_start(maps[i]) > 0),
						mapping_start(maps[i]),
						mapping_end(maps[i]) - 1,
						mapping_end(maps[i]),
						mapping_end(maps[i]) >> 32 << 32,
						((mapping_end(maps[i]) >> 32) + 1) << 32,
						(((mapping_end(maps[i]) >> 32) + 1) << 32) - 1 };

			for (k = 0; k < sizeof at / sizeof *at; k++)
				assert_int_equal(index_find(ix, at[k]),
						 find_slowly(maps, count, at[k]));
		}
		index_close(ix);
		free(maps);
	}
}

/* Merging takes one job a pair, and room for what an upper mapping can make of a lower one: three.
 */
static size_t bytes_to_merge(size_t count, size_t lower, size_t upper)
{
	struct mapping_run *runs = calloc(count + 2, sizeof *runs), out;
	size_t i;

	runs[0] = (struct mapping_run){ calloc(lower + 1, sizeof *runs->maps), lower };
	runs[1] = (struct mapping_run){ calloc(upper + 1, sizeof *runs->maps), upper };
	for (i = 0; i < lower; i++)
		runs[0].maps[i] = mapping_make(100 * i, 90, 0, 8, false);
	for (i = 0; i < upper; i++)
		runs[1].maps[i] = mapping_make(100 * i + 10, 10, 1, 8, false);
	alloc_total = 0;
	assert_int_equal(index_merge_runs(runs, count, NULL, &out, NULL), 0);
	for (i = count; i < 2; i++)
		free(runs[i].maps); /* they stay ours */
	assert_int_equal(out.count, lower + (lower < upper ? lower : upper) + upper);
	free(out.maps);
	free(runs);
	return alloc_total;
}

static void memory_of_a_merge(void **state)
{
	size_t job, i;

	alloc_empty_is_null = true;
	job = bytes_to_merge(0, 0, 0); /* room for one */
	assert_true(job > 0 && job < 100);
	for (i = 0; i < 20; i++) {
		assert_int_equal(bytes_to_merge(i, 0, 0), (i / 2 + 1) * job);
		assert_int_equal(bytes_to_merge(2, i, 0), 2 * job);
		assert_int_equal(bytes_to_merge(2, i, 1), 2 * job + (i + 2) * 16);
		assert_int_equal(bytes_to_merge(2, 1, i + 1), 2 * job + (1 + 2 * (i + 1)) * 16);
	}
	alloc_empty_is_null = false;
}

/* Sizes around whole nodes of the tree: 4 mappings a key, 16 keys a node. */
static void tree_shapes(void **state)
{
	static const size_t counts[] = { 1,  3,	 4,    5,    63,   64,	 65,	67,
					 68, 69, 1023, 1024, 1025, 1029, 16385, 20000 };
	size_t i, j, one = 0;

	for (i = 0; i < sizeof counts / sizeof counts[0]; i++) {
		struct mapping_run run = { .maps = malloc(counts[i] * sizeof *run.maps),
					   .count = counts[i] };
		struct index *ix;

		for (j = 0; j < counts[i]; j++)
			run.maps[j] = mapping_make(5 + 3 * j, 2, 7, 100 + j, false);
		alloc_count = 0;
		assert_int_equal(index_merge(&run, 1, NULL, &ix, NULL), 0);
		check_lines(counts[i], keys_over(counts[i]));
		one = i == 0 ? index_memory(ix) : one;
		assert_int_equal(index_memory(ix) - one,
				 16 * (counts[i] - 1) + 4 * (keys_over(counts[i]) - 16));
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
		cmocka_unit_test(an_empty_index),
		cmocka_unit_test(memory_of_regions),
		cmocka_unit_test(many_regions),
		cmocka_unit_test(memory_of_a_merge),
		cmocka_unit_test(tree_shapes),
		cmocka_unit_test(each_allocation_fails_once),
		cmocka_unit_test(nothing_is_left_behind),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
