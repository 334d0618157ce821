/* SPDX-License-Identifier: Apache-2.0 */
/* test-upper_map.c - the map of a writable layer against an array with one element a sector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <malloc.h>
#include <string.h>

#include <cmocka.h>

#include "core/upper_map.h"
#include "tests/unit/allocs.h"
#include "tests/unit/loops.h"

enum {
	SECTORS = 3 * UPPER_REGION + 77,
	HOLE = 0,
	ZERO = 1, /* above: the moffset */
	STEPS = 200000,
	ROOM = 37,
};

static uint64_t model[SECTORS];
static struct upper_map m;

static struct segment expected_piece(uint64_t lba, uint64_t end)
{
	struct segment s = { .mapped = model[lba] != HOLE,
			     .zeroed = model[lba] == ZERO,
			     .moffset = model[lba] };
	uint64_t at = lba + 1;

	while (at < end && (model[lba] <= ZERO ? model[at] == model[lba]
					       : model[at] == model[lba] + (at - lba)))
		at++;
	s.sectors = at - lba;
	return s;
}

static void check_range(uint64_t lba, uint64_t sectors)
{
	struct segment pieces[ROOM];
	uint64_t end = lba + sectors;
	size_t i, n;

	while (lba < end) {
		n = upper_map_pieces(&m, lba, end - lba, pieces, ROOM);
		assert_true(n > 0 && n <= ROOM);
		for (i = 0; i < n; i++) {
			struct segment want = expected_piece(lba, end);

			assert_int_equal(pieces[i].sectors, want.sectors);
			assert_int_equal(pieces[i].mapped, want.mapped);
			if (want.mapped)
				assert_int_equal(pieces[i].zeroed, want.zeroed);
			if (want.mapped && !want.zeroed)
				assert_int_equal(pieces[i].moffset, want.moffset);
			lba += want.sectors;
		}
		assert_true(lba == end || n == ROOM);
	}
	assert_int_equal(lba, end);
}

/* The counts, and that the mappings of each region are as few as can be. */
static void check_counts(void)
{
	uint64_t data = 0, maps = 0, i;

	for (i = 0; i < SECTORS; i++) {
		bool starts =
			i % UPPER_REGION == 0 || (model[i] <= ZERO ? model[i] != model[i - 1]
								   : model[i] != model[i - 1] + 1);

		data += model[i] > ZERO;
		maps += model[i] != HOLE && starts;
	}
	assert_int_equal(m.data, data);
	assert_int_equal(m.count, maps);
}

/* Sets a range in both, and compares what died. */
static void set(uint64_t lba, uint64_t sectors, uint64_t moffset, bool zeroed)
{
	struct upper_ranges dead = { 0 };
	uint64_t i, k = 0, died = 0;

	assert_int_equal(upper_map_reserve(&m, lba, sectors), 0);
	upper_map_set(&m, lba, sectors, moffset, zeroed, &dead);
	for (i = lba; i < lba + sectors; i++) {
		if (model[i] > ZERO) {
			while (k < dead.count && died == dead.list[k].sectors) {
				k++;
				died = 0;
			}
			assert_true(k < dead.count);
			assert_int_equal(dead.list[k].moffset + died, model[i]);
			died++;
		}
		model[i] = zeroed ? ZERO : moffset + (i - lba);
	}
	assert_true(dead.count == 0 || (k == dead.count - 1 && died == dead.list[k].sectors));
	upper_ranges_release(&dead);
}

static void a_map_is_an_array_of_sectors(void **state)
{
	unsigned i, steps = loops_count(STEPS);
	uint64_t moffset = 8;

	assert_int_equal(upper_map_init(&m, SECTORS), 0);
	for (i = 0; i < steps; i++) {
		uint64_t most = loops_random() % 50 ? 64 : SECTORS;
		uint64_t lba = loops_random() % SECTORS;
		uint64_t sectors = loops_random() % most + 1;

		/* Often where the last one ended, on the disk too. */
		sectors = sectors < SECTORS - lba ? sectors : SECTORS - lba;
		set(lba, sectors, moffset, loops_random() % 4 == 0);
		if (loops_random() % 3 == 0 && lba + sectors < SECTORS)
			set(lba + sectors, 1, moffset + sectors, false);
		moffset += sectors + 1;
		lba = loops_random() % SECTORS;
		sectors = loops_random() % 300 + 1;
		check_range(lba, sectors < SECTORS - lba ? sectors : SECTORS - lba);
		if (i % 1000 == 0)
			check_range(0, SECTORS);
		if (i % 100 == 0)
			check_counts();
	}
	check_range(0, SECTORS);
	check_counts();
	upper_map_release(&m);
}

/* A block has as many regions as the disk, up to 4096. */
static void a_disk_is_cut_into_blocks(void **state)
{
	enum { BLOCK = 4096 };
	static const struct {
		uint64_t sectors, regions, blocks;
	} disks[] = {
		{ 1, 1, 1 },
		{ UPPER_REGION, 1, 1 },
		{ UPPER_REGION + 1, 2, 1 },
		{ UINT64_C(1) * BLOCK * UPPER_REGION - 1, BLOCK, 1 },
		{ UINT64_C(1) * BLOCK * UPPER_REGION, BLOCK, 1 },
		{ UINT64_C(1) * BLOCK * UPPER_REGION + 1, BLOCK, 2 },
		{ UINT64_C(2) * BLOCK * UPPER_REGION, BLOCK, 2 },
		{ UINT64_C(2) * BLOCK * UPPER_REGION + 1, BLOCK, 3 },
	};
	struct segment pieces[3];
	size_t i;

	for (i = 0; i < sizeof disks / sizeof disks[0]; i++) {
		uint64_t last = disks[i].sectors - 1;

		assert_int_equal(upper_map_init(&m, disks[i].sectors), 0);
		assert_int_equal(m.sectors, disks[i].sectors);
		assert_int_equal(m.block_regions, disks[i].regions);
		assert_int_equal(m.block_count, disks[i].blocks);
		assert_int_equal(upper_map_pieces(&m, 0, last + 1, pieces, 3), 1);
		assert_false(pieces[0].mapped);
		assert_int_equal(pieces[0].sectors, last + 1);
		assert_int_equal(upper_map_reserve(&m, last, 1), 0);
		upper_map_set(&m, last, 1, 8, false, NULL);
		assert_int_equal(upper_map_pieces(&m, last, 1, pieces, 3), 1);
		assert_true(pieces[0].mapped);
		/* Only the last block has memory, and all of it is given back. */
		assert_non_null(m.blocks[disks[i].blocks - 1]);
		assert_true(disks[i].blocks == 1 || !m.blocks[0]);
		upper_map_release(&m);
		assert_null(m.blocks);
	}
}

/* A region has room for what one change can add, and grows to twice its room. */
static void regions_grow_as_they_must(void **state)
{
	static const uint32_t rooms[] = { 4, 4, 4, 8, 8, 8, 8, 16 }; /* of so many mappings */
	const struct upper_region *r;
	uint32_t i;

	assert_int_equal(upper_map_init(&m, SECTORS), 0);
	for (i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
		assert_int_equal(upper_map_reserve(&m, 10 * i, 1), 0);
		r = m.blocks[0];
		assert_int_equal(r->count, i);
		assert_int_equal(r->room, rooms[i]);
		assert_true(malloc_usable_size(r->maps) >= r->room * sizeof *r->maps);
		upper_map_set(&m, 10 * i, 1, 8 + 10 * i, false, NULL);
	}
	/* A range makes room in each region that it touches. */
	assert_int_equal(upper_map_reserve(&m, UPPER_REGION - 1, UPPER_REGION + 2), 0);
	r = m.blocks[0];
	assert_int_equal(r[1].room, 4);
	assert_int_equal(r[2].room, 4);
	assert_int_equal(r[3].room, 0);
	assert_int_equal(upper_map_reserve(&m, 3 * UPPER_REGION - 1, 1), 0);
	assert_int_equal(r[3].room, 0);
	upper_map_release(&m);
}

static void without_memory_nothing_changes(void **state)
{
	const uint64_t sectors = UINT64_C(5000) * UPPER_REGION;
	struct segment piece;
	long k, failed = 0;
	int r = -ENOMEM;

	allocs_left = 0;
	assert_int_equal(upper_map_init(&m, sectors), -ENOMEM);
	allocs_left = -1;
	upper_map_release(&m);
	for (k = 0; r != 0; k++) {
		assert_int_equal(upper_map_init(&m, sectors), 0);
		allocs_left = k;
		/* Two regions of the first block, and one of the second. */
		r = upper_map_reserve(&m, UPPER_REGION - 1, 2);
		if (r == 0)
			r = upper_map_reserve(&m, sectors - 1, 1);
		allocs_left = -1;
		assert_true(r == 0 || r == -ENOMEM);
		failed += r < 0;
		assert_int_equal(upper_map_pieces(&m, 0, sectors, &piece, 1), 1);
		assert_int_equal(piece.sectors, sectors);
		assert_false(piece.mapped);
		upper_map_release(&m);
	}
	assert_int_equal(failed, 5); /* a block, two regions, a block, a region */
}

static void a_sequential_write_is_one_mapping(void **state)
{
	unsigned i;

	assert_int_equal(upper_map_init(&m, SECTORS), 0);
	for (i = 0; i < UPPER_REGION; i++) {
		assert_int_equal(upper_map_reserve(&m, i, 1), 0);
		upper_map_set(&m, i, 1, 8 + i, false, NULL);
	}
	assert_int_equal(m.count, 1);
	upper_map_release(&m);
}

/* A disk of 512 PiB takes memory where it is mapped. */
static void a_disk_may_be_large(void **state)
{
	uint64_t sectors = UINT64_C(1) << 45, far = sectors - 3;
	struct segment pieces[4];

	assert_int_equal(upper_map_init(&m, sectors), 0);
	assert_int_equal(upper_map_reserve(&m, far, 3), 0);
	upper_map_set(&m, far, 3, 8, false, NULL);
	assert_int_equal(upper_map_pieces(&m, 0, sectors, pieces, 4), 2);
	assert_int_equal(pieces[0].sectors, far);
	assert_false(pieces[0].mapped);
	assert_int_equal(pieces[1].sectors, 3);
	assert_int_equal(pieces[1].moffset, 8);
	upper_map_release(&m);
}

static _Atomic bool stop;

static void *look_all_over(void *arg)
{
	struct segment pieces[64];
	uint64_t lba = 0;
	size_t i, n;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		n = upper_map_pieces(&m, lba, 2048 - lba, pieces, 64);
		for (i = 0; i < n; i++)
			lba += pieces[i].sectors;
		lba %= 2048;
	}
	return NULL;
}

/* One region's array grows and shrinks under a reader (TSan notices). */
static void a_reader_looks_while_it_changes(void **state)
{
	unsigned i, k;
	pthread_t reader;

	assert_int_equal(upper_map_init(&m, SECTORS), 0);
	stop = false;
	assert_int_equal(pthread_create(&reader, NULL, look_all_over, NULL), 0);
	for (k = 0; k < 20; k++) {
		for (i = 0; i < 1024; i++) {
			assert_int_equal(upper_map_reserve(&m, 2 * i, 1), 0);
			upper_map_set(&m, 2 * i, 1, 8 + i * 4, false, NULL);
		}
		assert_int_equal(upper_map_reserve(&m, 0, 2048), 0);
		upper_map_set(&m, 0, 2048, 0, true, NULL);
	}
	stop = true;
	pthread_join(reader, NULL);
	assert_int_equal(m.count, 1);
	upper_map_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_is_an_array_of_sectors),
		cmocka_unit_test(a_disk_is_cut_into_blocks),
		cmocka_unit_test(regions_grow_as_they_must),
		cmocka_unit_test(without_memory_nothing_changes),
		cmocka_unit_test(a_sequential_write_is_one_mapping),
		cmocka_unit_test(a_disk_may_be_large),
		cmocka_unit_test(a_reader_looks_while_it_changes),
	};

	loops_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
