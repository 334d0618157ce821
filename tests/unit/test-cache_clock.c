/* SPDX-License-Identifier: Apache-2.0 */
/* test-cache_clock.c - which chunks are evicted: the clock's hand against a model of it.  On a disk
 * in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>

#include <cmocka.h>

#include "tests/unit/memcache.h"

enum { CHUNK = CACHE_CHUNK };

/* ---- the clock's hand ---- */

enum { BLOBS = 3, EACH = 5, OPS = 600 };

/* What is there, which of it has the mark, and where the hand stands. */
static struct {
	bool there[BLOBS][EACH], marked[BLOBS][EACH], held[BLOBS];
	unsigned blob, chunk;
	unsigned count; /* chunks that are there */
} model;

static void model_sweep(unsigned target, bool spare)
{
	unsigned step;

	for (step = 0; step <= 2 * BLOBS && model.count > target; step++) {
		if (spare && model.held[model.blob])
			model.chunk = EACH;
		for (; model.chunk < EACH && model.count > target; model.chunk++) {
			bool *mark = &model.marked[model.blob][model.chunk];
			bool *there = &model.there[model.blob][model.chunk];

			model.count -= *there && !*mark;
			*there = *there && *mark;
			*mark = false;
		}
		if (model.chunk == EACH) {
			model.blob = (model.blob + 1) % BLOBS;
			model.chunk = 0;
		}
	}
}

static struct process by_path[BLOBS];

static int compare_paths(const void *a, const void *b)
{
	const struct process *x = a, *y = b;

	return strcmp(x->b->own_path, y->b->own_path);
}

static void check_model(unsigned op)
{
	unsigned i, k;

	for (i = 0; i < BLOBS; i++)
		for (k = 0; k < EACH; k++)
			if (cache_blob_has(by_path[i].b, k) != model.there[i][k])
				fail_msg("operation %u: chunk %u of blob %u", op, k, i);
}

static void evict_some(unsigned wanted)
{
	struct process *p = &by_path[loops_random() % BLOBS];
	uint64_t all = memcache_used(p), freed;
	unsigned before = model.count, target = before - wanted % (before + 1);
	struct err e;

	memdisk_as(p->number);
	assert_int_equal(cache_prune(p->c, all - (before - target) * CHUNK, &freed, &e), 0);
	model_sweep(target, true);
	model_sweep(target, false);
	assert_int_equal(freed, (before - model.count) * CHUNK);
	assert_int_equal(memcache_used(p), all - freed);
}

/* Chunks come and are read at random, and whichever process evicts: the same chunks go as in the
 * model, for the hand is the folder's. */
static void hand(void **state)
{
	unsigned i, op;

	memset(&model, 0, sizeof model);
	for (i = 0; i < BLOBS; i++)
		by_path[i] = memcache_use_zeros(i + 1, EACH, 0);
	qsort(by_path, BLOBS, sizeof *by_path, compare_paths);
	for (i = 0; i < BLOBS; i++)
		assert_int_equal(cache_map_make(by_path[i].b->own, NULL), 0);
	for (op = 0; op < OPS; op++) {
		unsigned blob = (unsigned)(loops_random() % BLOBS);
		unsigned chunk = (unsigned)(loops_random() % EACH);
		struct process *p = &by_path[blob];
		uint8_t byte;

		memdisk_as(p->number);
		if (op == OPS / 2) {
			assert_int_equal(cache_blob_hold(p->b, NULL), 0);
			model.held[blob] = true;
		}
		switch (loops_random() % 4) {
		case 0:
			evict_some((unsigned)(loops_random() % 6));
			break;
		case 1:
			if (cache_blob_read(p->b, &byte, 1, chunk * CHUNK) > 0)
				model.marked[blob][chunk] = true;
			break;
		default:
			assert_int_equal(cache_blob_publish(p->b, chunk, memcache_zeros), 0);
			model.count += !model.there[blob][chunk];
			model.there[blob][chunk] = true;
		}
		check_model(op);
	}
	for (i = 0; i < BLOBS; i++)
		memcache_leave(&by_path[i]);
}

/* The hand's blob has gone, or what it says is garbage: it goes on with the next one in the circle,
 * from its beginning. */
static void hand_without_a_blob(void **state)
{
	static const struct {
		const char *path; /* NULL: bytes without an end */
		uint64_t chunk;
		unsigned gone; /* chunks 0 to this of which blob */
		unsigned of;
	} rows[] = { { "", 3, 2, 0 }, { "0", 1, 2, 0 }, { "zzz", 2, 2, 0 }, { NULL, 1, 2, 0 } };
	size_t i, k;

	for (i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct process p;
		uint64_t freed;
		struct err e;

		memdisk_make(0);
		p = memcache_use_zeros(1, EACH, EACH);
		memset(p.c->page->hand_path, 'z', CACHE_PATH);
		if (rows[i].path)
			strcpy(p.c->page->hand_path, rows[i].path);
		atomic_store(&p.c->page->hand_chunk, rows[i].chunk);
		assert_int_equal(cache_prune(p.c, memcache_used(&p) - 2 * CHUNK, &freed, &e), 0);
		for (k = 0; k < EACH; k++)
			assert_int_equal(cache_blob_has(p.b, k), k >= rows[i].gone);
		assert_string_equal(p.c->page->hand_path, p.b->own_path);
		assert_int_equal(atomic_load(&p.c->page->hand_chunk), 2);
		memcache_leave(&p);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, memcache_set_up, memcache_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hand),
		TEST(hand_without_a_blob),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
