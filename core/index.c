/* SPDX-License-Identifier: Apache-2.0 */
/* index.c - merging layers' mappings, and finding one by its sector.
 *
 * Merge: neighbours in the stack are overlaid pairwise, level by level, so each mapping is touched
 * log2(layers) times; the pairs of a level run side by side on the pool.
 *
 * Find: every fourth mapping (a group: one cache line) gives its start as a key to a tree of nodes
 * with 16 keys of 32 bits, one cache line each, stored level by level without pointers: child c of
 * node g is node 16 g + c.  A node is searched by comparing all its keys at once (GCC and clang
 * turn the vector expressions into SSE2 or NEON, which every x86-64 and arm64 has), so a lookup has
 * no branch that could be mispredicted, and the processor overlaps several lookups. Disks over 2
 * TiB need more than 32 bits: the LBA space is cut into regions of 2^32 sectors; each that holds a
 * mapping's start has a tree over the low halves.
 *
 * Four sentinels that begin at LBA 2^50 - 1 follow the last mapping, so that a group can be read
 * whole; nothing can be mapped there (FORMAT_PADDING). */
#include "core/index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/le.h"

enum {
	GROUP = 4, /* mappings below one key of the lowest level */
	NODE = 16, /* keys */
	SENTINELS = GROUP,
	MAX_LEVELS = 8, /* 16^8 keys: all of a region */
};

#define SENTINEL_START ((UINT64_C(1) << 50) - 1)

struct region {
	uint64_t number; /* start >> 32 of its mappings */
	size_t first; /* position of its first mapping */
	size_t count;
	unsigned levels;
	const int32_t *level[MAX_LEVELS]; /* [0]: one key a group */
};

struct index {
	struct mapping *maps; /* count mappings, then the sentinels; on a cache line */
	size_t count;
	struct region *regions; /* by number; at least one */
	size_t region_count;
	int32_t *keys; /* of all regions */
	size_t key_count;
};

typedef int32_t keys4 __attribute__((vector_size(16), may_alias));

/* Starts as signed numbers in the same order: SSE2 compares signed ones only. */
static inline int32_t key_of(uint64_t lba)
{
	return (int32_t)((uint32_t)lba ^ UINT32_C(0x80000000));
}

/* Number of keys in a node that are not greater than x. */
static inline size_t node_rank(const int32_t *node, keys4 x)
{
	const keys4 *k = (const keys4 *)(const void *)node;
	keys4 greater = ((k[0] > x) + (k[1] > x)) + ((k[2] > x) + (k[3] > x));

	greater += __builtin_shufflevector(greater, greater, 2, 3, 0, 1);
	greater += __builtin_shufflevector(greater, greater, 1, 0, 3, 2);
	return (size_t)(NODE + greater[0]);
}

/* Position of the last mapping of a region that starts at or before lba (its first when none does).
 * Keys that fill up a node are INT32_MAX, which only the last sector of a region reaches. */
static inline size_t region_find(const struct index *ix, const struct region *r, uint64_t lba)
{
	int32_t key = key_of(lba);
	keys4 x = { key, key, key, key };
	size_t group = 0;
	const struct mapping *m;
	unsigned level;

	if (lba >> 32 != r->number || key == INT32_MAX)
		return r->first + r->count - 1;
	for (level = r->levels; level > 0; level--)
		group = group * NODE + node_rank(r->level[level - 1] + group * NODE, x) - 1;
	m = ix->maps + r->first + group * GROUP;
	lba <<= 14; /* drops the lengths from the comparison */
	return r->first + group * GROUP + (m[1].range << 14 <= lba) + (m[2].range << 14 <= lba) +
	       (m[3].range << 14 <= lba);
}

/* The last region that begins at or before lba, the first when none does. */
static const struct region *region_of(const struct index *ix, uint64_t lba)
{
	size_t low = 0, high = ix->region_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (ix->regions[middle].number <= lba >> 32)
			low = middle;
		else
			high = middle;
	}
	return &ix->regions[low];
}

size_t index_find(const struct index *ix, uint64_t lba)
{
	const struct region *r = region_of(ix, lba);
	size_t i;

	if (lba >> 32 < r->number)
		return 0;
	i = region_find(ix, r, lba);
	/* A mapping may begin in the region before and reach into this one. */
	if (ix->region_count > 1 && i > 0 && mapping_start(ix->maps[i]) > lba)
		i--;
	return i + (mapping_end(ix->maps[i]) <= lba);
}

size_t index_count(const struct index *ix)
{
	return ix->count;
}

const struct mapping *index_maps(const struct index *ix)
{
	return ix->maps;
}

size_t index_memory(const struct index *ix)
{
	return sizeof *ix + (ix->count + SENTINELS) * sizeof *ix->maps +
	       ix->region_count * sizeof *ix->regions + ix->key_count * sizeof *ix->keys;
}

void index_close(struct index *ix)
{
	if (!ix)
		return;
	free(ix->keys);
	free(ix->regions);
	free(ix->maps);
	free(ix);
}

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

/* malloc on a cache line. */
static void *lines_alloc(size_t count, size_t size)
{
	return aligned_alloc(64, round_up(count * size, 64));
}

/* Keys of all levels of a tree over `count` mappings, filling keys included. */
static size_t tree_keys(size_t count)
{
	size_t n = round_up((count + GROUP - 1) / GROUP, NODE);
	size_t total = n;

	while (n > NODE) {
		n = round_up(n / NODE, NODE);
		total += n;
	}
	return total;
}

/* Fills up a level of n keys and makes its first smaller than any LBA, so that every search goes
 * somewhere.  Returns the keys it has then. */
static size_t finish_level(int32_t *keys, size_t n)
{
	size_t full = round_up(n, NODE);

	while (n < full)
		keys[n++] = INT32_MAX;
	keys[0] = INT32_MIN;
	return full;
}

static int32_t *build_tree(const struct mapping *maps, struct region *r, int32_t *keys)
{
	size_t groups = (r->count + GROUP - 1) / GROUP;
	size_t i, n;

	for (i = 0; i < groups; i++)
		keys[i] = key_of(mapping_start(maps[r->first + i * GROUP]));
	n = finish_level(keys, groups);
	r->level[r->levels++] = keys;
	while (n > NODE) {
		int32_t *upper = keys + n;

		for (i = 0; i < n / NODE; i++)
			upper[i] = keys[i * NODE];
		n = finish_level(upper, n / NODE);
		r->level[r->levels++] = keys = upper;
	}
	return keys + n;
}

static size_t count_regions(const struct mapping *maps, size_t count)
{
	size_t i, regions = 1;

	for (i = 0; i + 1 < count; i++)
		regions += mapping_start(maps[i]) >> 32 != mapping_start(maps[i + 1]) >> 32;
	return regions;
}

static void cut_regions(struct index *ix)
{
	struct region *r = ix->regions;
	size_t i;

	r->number = mapping_start(ix->maps[0]) >> 32;
	for (i = 0; i < ix->count; i++) {
		uint64_t number = mapping_start(ix->maps[i]) >> 32;

		if (number != r->number)
			*++r = (struct region){ .number = number, .first = i };
		r->count++;
	}
}

/* Regions and trees over ix->maps.  An empty index has the region of the sentinels, whose only key
 * leads to them. */
static int build_regions(struct index *ix)
{
	int32_t *keys;
	size_t i;

	ix->region_count = count_regions(ix->maps, ix->count);
	ix->regions = calloc(ix->region_count, sizeof *ix->regions);
	if (!ix->regions)
		return -ENOMEM;
	cut_regions(ix);
	if (ix->count == 0)
		ix->regions->count = 1;
	for (i = 0; i < ix->region_count; i++)
		ix->key_count += tree_keys(ix->regions[i].count);
	keys = ix->keys = lines_alloc(ix->key_count, sizeof *ix->keys);
	if (!keys)
		return -ENOMEM;
	for (i = 0; i < ix->region_count; i++)
		keys = build_tree(ix->maps, &ix->regions[i], keys);
	return 0;
}

/* The part [from, to) of a mapping. */
static struct mapping mapping_cut(struct mapping m, uint64_t from, uint64_t to)
{
	uint64_t skipped = mapping_zeroed(m) ? 0 : from - mapping_start(m);

	return (struct mapping){ .range = from | (to - from) << 50, .target = m.target + skipped };
}

/* Lays `upper` over `lower` into out, which has room for lower.count + 2 upper.count mappings: each
 * upper mapping cuts at most one lower one in two.  Returns the number written. */
static size_t overlay(const struct mapping_run *lower, const struct mapping_run *upper,
		      struct mapping *out)
{
	const struct mapping *u = upper->maps, *u_end = upper->maps + upper->count;
	struct mapping *o = out;
	size_t i;

	for (i = 0; i < lower->count; i++) {
		struct mapping l = lower->maps[i];
		uint64_t from = mapping_start(l), end = mapping_end(l);

		while (u < u_end && mapping_end(*u) <= from)
			*o++ = *u++;
		/* Now *u ends after `from`: it covers `from`, begins within l, or lies behind it.
		 */
		while (u < u_end && mapping_start(*u) < end) {
			if (mapping_start(*u) > from)
				*o++ = mapping_cut(l, from, mapping_start(*u));
			from = mapping_end(*u);
			if (from > end)
				break; /* it may cover the next one too */
			*o++ = *u++;
		}
		if (from < end)
			*o++ = mapping_cut(l, from, end);
	}
	while (u < u_end)
		*o++ = *u++;
	return (size_t)(o - out);
}

struct overlay_job {
	struct job job;
	struct mapping_run *lower; /* takes the result */
	struct mapping_run *upper; /* empty afterwards */
	int r;
};

static void run_overlay(struct job *job)
{
	struct overlay_job *j = (struct overlay_job *)job;
	struct mapping *out;
	size_t n;

	if (j->upper->count == 0) {
		free(j->upper->maps);
		*j->upper = (struct mapping_run){ 0 };
		return;
	}
	out = malloc((j->lower->count + 2 * j->upper->count) * sizeof *out);
	if (!out) {
		j->r = -ENOMEM;
		return;
	}
	n = overlay(j->lower, j->upper, out);
	free(j->lower->maps);
	free(j->upper->maps);
	*j->upper = (struct mapping_run){ 0 };
	*j->lower = (struct mapping_run){ .maps = out, .count = n };
}

/* Merges runs[0], runs[stride], ... in pairs; the results stand at every second stride. */
static int merge_level(struct mapping_run *runs, size_t count, size_t stride, struct workers *pool,
		       struct overlay_job *jobs)
{
	size_t i, n = 0;
	int r = 0;

	for (i = 0; i + stride < count; i += 2 * stride, n++) {
		jobs[n] = (struct overlay_job){ .job.run = run_overlay,
						.lower = &runs[i],
						.upper = &runs[i + stride] };
		if (pool)
			workers_submit(pool, &jobs[n].job);
		else
			run_overlay(&jobs[n].job);
	}
	for (i = 0; i < n; i++) {
		if (pool)
			workers_wait(pool, &jobs[i].job);
		if (jobs[i].r < 0)
			r = jobs[i].r;
	}
	return r;
}

int index_merge_runs(struct mapping_run *runs, size_t count, struct workers *pool,
		     struct mapping_run *out, struct err *e)
{
	struct overlay_job *jobs = calloc(count / 2 + 1, sizeof *jobs);
	size_t stride, i;
	int r = jobs ? 0 : -ENOMEM;

	for (stride = 1; stride < count && r == 0; stride *= 2)
		r = merge_level(runs, count, stride, pool, jobs);
	free(jobs);
	*out = (struct mapping_run){ 0 };
	if (r == 0 && count > 0) {
		*out = runs[0];
		runs[0] = (struct mapping_run){ 0 };
	}
	for (i = 0; i < count; i++) {
		free(runs[i].maps);
		runs[i] = (struct mapping_run){ 0 };
	}
	return r < 0 ? err_set(e, ENOMEM, "out of memory merging %zu runs of mappings", count) : 0;
}

/* Copies the mappings to a cache line, sentinels behind them. */
static int index_fill(struct index *ix, const struct mapping_run *run)
{
	size_t i;

	ix->count = run->count;
	ix->maps = lines_alloc(run->count + SENTINELS, sizeof *ix->maps);
	if (!ix->maps)
		return -ENOMEM;
	if (run->count > 0)
		memcpy(ix->maps, run->maps, run->count * sizeof *ix->maps);
	for (i = 0; i < SENTINELS; i++)
		ix->maps[run->count + i] = (struct mapping){ .range = SENTINEL_START };
	return build_regions(ix);
}

int index_merge(struct mapping_run *runs, size_t count, struct workers *pool, struct index **out,
		struct err *e)
{
	struct mapping_run merged;
	struct index *ix;
	int r = index_merge_runs(runs, count, pool, &merged, e);

	if (r < 0)
		return r;
	ix = calloc(1, sizeof *ix);
	if (!ix || index_fill(ix, &merged) < 0) {
		index_close(ix);
		free(merged.maps);
		return err_set(e, ENOMEM, "out of memory for an index of %zu mappings",
			       merged.count);
	}
	free(merged.maps);
	*out = ix;
	return 0;
}
